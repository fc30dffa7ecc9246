"""Which configurations are the same run."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from bnrepro.config.convert import flat, plain
from bnrepro.config.options import options_of
from bnrepro.config.schema import FINGERPRINT, MISSING, OPTIONS, Config

RESULTS_NUMBER = 3
"""The results number: raised when a change is meant to change the numbers of runs.

With its configuration and the data it read it says what a run is, wherever the code stands and
however it is worded.
"""

IGNORED = ("run", "sweep", "tags", "tensorboard", "dataset.root", "dataset.mirror")
"""Settings that say where things lie and what is shown, not what is computed."""


def identifying_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, by dotted names, that make this run another run.

    A setting at its schema's default is left out, so that one which is added to the schema leaves
    earlier runs what they are.
    """
    ignored, defaults = tuple(f"{name}." for name in IGNORED), _defaults()
    return {
        name: value
        for name, value in flat(values).items()
        if not f"{name}.".startswith(ignored)
        and not (
            name in defaults and type(value) is type(defaults[name]) and value == defaults[name]
        )
    }


@cache
def _defaults() -> dict[str, Any]:
    """Every setting, by its dotted name, that has a default in the schema."""
    defaults = {}
    groups = {group: [o.settings for o in options_of(group).values()] for group in OPTIONS}
    for field in dataclasses.fields(Config):
        for of in groups.get(field.name, (_default(field),)):
            if dataclasses.is_dataclass(of):
                inner = {f"{field.name}.{f.name}": _default(f) for f in dataclasses.fields(of)}
                defaults.update(inner)
            else:
                defaults[field.name] = of
    return {name: plain(value) for name, value in defaults.items() if value != MISSING}


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def run_id(values: Mapping[str, Any]) -> str:
    """Ten characters that tell one run from another."""
    text = json.dumps(identifying_settings(values), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Settings in which two configurations are not the same run, as `name: theirs -> ours`.

    A configuration without the fingerprint of its data takes whatever data there is: that is no
    difference. What a run has read stands in its manifest.
    """
    a, b = identifying_settings(theirs), identifying_settings(ours)
    names = sorted({*a, *b} - ({FINGERPRINT} if FINGERPRINT not in a.keys() & b.keys() else set()))
    return [f"{n}: {_show(a, n)} -> {_show(b, n)}" for n in names if a.get(n) != b.get(n)]


def _show(values: Mapping[str, Any], name: str) -> str:
    return json.dumps(values[name]) if name in values else "not set"


def other_results(manifest: Mapping[str, Any]) -> list[str]:
    """How the results numbers that a run was made and resumed with differ from today's.

    Args:
        manifest: of a stored run; of none, which tells nothing, no difference is found.

    Returns:
        A line for each, as those of `differences`.
    """
    manifests = [manifest, *manifest.get("resumes", ())] if manifest else []
    numbers = dict.fromkeys(each.get("results") for each in manifests)
    return [f"results: {n} -> {RESULTS_NUMBER}" for n in numbers if n != RESULTS_NUMBER]
