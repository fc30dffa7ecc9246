"""From what is typed to a checked configuration: Hydra composes, the schema checks, once.

Hydra composes the configuration from `conf/`, a user's own `--config-dir` and the overrides.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from bnrepro.config import hydra
from bnrepro.config.check import check, first_line, unknown_setting
from bnrepro.config.convert import flat, keys, to_dict, to_yaml
from bnrepro.config.identity import IGNORED, differences
from bnrepro.config.options import option, options_of
from bnrepro.config.overrides import prepare, refuse_odd_words
from bnrepro.config.schema import FOLDERS, OPTIONS, TEXT, Config, OwnImages
from bnrepro.errors import ConfigError
from bnrepro.reading import is_unicode


@dataclass(frozen=True)
class ComposedRun:
    """A composed configuration: Hydra's, with its own `hydra` node, and the checked one."""

    composed: DictConfig
    config: Config


def compose(
    overrides: Sequence[str], config_dir: Path | None = None, name: str = "train"
) -> ComposedRun:
    """Compose and check the configuration of one run; nothing is written.

    Raises:
        ConfigError: one line on what is wrong and what would be right.
    """
    overrides = prepare(overrides, config_dir)
    with hydra.context(name):
        composed = compose_config(overrides)
    return ComposedRun(composed, parse(composed))


def overrides_of(values: Mapping[str, Any]) -> list[str]:
    """The overrides that make the same run as a stored configuration, none that is not needed.

    Places (`run.dir`) and what only shows a run (`tensorboard`) are left out, but for the folder
    of images that have no place of their own.

    Args:
        values: the configuration as `to_dict` gives it.

    Raises:
        ConfigError: none do: the configuration is of another version, or of packages that are
            not installed.
    """
    wanted = flat(values)
    default = compose([]).config
    chosen = [
        f"{group}={wanted.get(f'{group}.name')}"
        for group in OPTIONS
        if wanted.get(f"{group}.name") != getattr(default, group).name
    ]
    base = compose(chosen).config
    ignored = tuple(
        f"{name}." for name in IGNORED
        if name != "dataset.root" or not isinstance(base.dataset, OwnImages)
    )  # fmt: skip
    there = flat(to_dict(base))
    words = [
        f"{name}={hydra.typed(value)}"
        for name, value in wanted.items()
        if not f"{name}.".startswith(ignored) and not (name in there and there[name] == value)
    ]
    if different := differences(to_dict(compose([*chosen, *words]).config), values):
        raise ConfigError(f"no overrides make this run ({'; '.join(different)})")
    return [*chosen, *words]


HYDRAS_OWN = {
    "run.dir": "run.dir=DIR",
    "sweep.dir": "sweep.dir=DIR with 'bnrepro sweep'",
    "sweep.subdir": "sweep.dir=DIR with 'bnrepro sweep', which names the folders below itself",
    "mode": "'bnrepro sweep' for several values",
    "job.chdir": "absolute paths: bnrepro stays in the folder where it was started",
}
"""Settings of Hydra's below `hydra.` that bnrepro sets itself, and what to give instead."""


def _refuse_hydras_own(composed: DictConfig) -> None:
    """Refuse what Hydra would take and bnrepro would drop."""
    settings, plain = _hydra_settings(composed), _hydra_settings(hydra.compose([]))
    for name, instead in HYDRAS_OWN.items():
        if settings.get(name) != plain.get(name):
            raise ConfigError(f"not taken (hydra.{name}={settings.get(name)}): use {instead}")


def _refuse_several(composed: DictConfig) -> None:
    """Hydra would take a list of a group's options, one merged over the other."""
    for group in OPTIONS:
        if group in composed and composed.hydra.runtime.choices.get(group) is None:
            names = ", ".join(options_of(group))
            raise ConfigError(f"not one option ({group}): choose one of {names}")


def _refuse_renamed(composed: DictConfig) -> None:
    """A group's option is chosen as a whole; its name alone would leave the other's settings."""
    for group in OPTIONS:
        chosen = composed.hydra.runtime.choices.get(group)
        name = str(composed.get(group, {}).get("name", chosen))
        if name != chosen and {chosen, name} <= options_of(group).keys():
            raise ConfigError(
                f"{group}.name={name}, but {group}={chosen} is chosen: write {group}={name}, or in "
                f"a file 'override /{group}: {name}' below 'defaults'"
            )


def _refuse_hydra_settings(composed: DictConfig, overrides: Sequence[str]) -> None:
    """Hydra's own settings can name code to run: they come from the command line only.

    All that a file may say of them is what a sweep goes over (`hydra.sweeper.params`).
    """
    typed = [word for word in overrides if word.lstrip("+~").startswith("hydra")]
    settings, plain = _hydra_settings(composed), _hydra_settings(hydra.compose(typed))
    if settings != plain:
        names = sorted(
            name for name in {*settings, *plain} if settings.get(name) != plain.get(name)
        )
        raise ConfigError(
            f"a configuration file sets {', '.join(names[:3])}: give it on the command line"
        )


def _hydra_settings(composed: DictConfig) -> dict[str, Any]:
    """Hydra's own settings, by dotted names, but for what it writes there itself."""
    node = OmegaConf.to_container(composed.hydra, resolve=False)
    assert isinstance(node, dict)
    written = ("overrides.", "runtime.", "job.override_dirname", "job.name", "sweeper.params")
    return {
        name: value
        for name, value in flat({str(key): value for key, value in node.items()}).items()
        if not name.startswith(written) and name != "overrides"
    }


def compose_config(overrides: Sequence[str]) -> DictConfig:
    """Compose within Hydra's `context`; what can be refused without the schema is refused."""
    refuse_odd_words(overrides)
    composed = hydra.compose(overrides)
    refuse_many_references(composed)
    if any("hydra.searchpath" in word for word in overrides):
        _refuse_hydra_settings(composed, overrides)
    if any("hydra" in word for word in overrides):
        _refuse_hydras_own(composed)
    _refuse_several(composed)
    _refuse_renamed(composed)
    return composed


def with_hydra_node(
    configs: Sequence[Config], overrides: Sequence[Sequence[str]]
) -> list[ComposedRun]:
    """Checked configurations as Hydra would have composed them, for its record of each run.

    Args:
        configs: as they were checked before.
        overrides: of each, as one would type them.
    """
    runs = []
    for config, words in zip(configs, overrides, strict=True):
        composed = plain().copy()
        with read_write(composed), open_dict(composed):
            for key, value in escaped(to_dict(config)).items():
                composed[key] = value
            composed.hydra.overrides.task = list(words)
        runs.append(ComposedRun(composed, config))
    return runs


@cache
def plain() -> DictConfig:
    """What Hydra composes without overrides, with its own `hydra` node."""
    with hydra.context("train"):
        return compose_config([])


def show(run: ComposedRun, what: str) -> str:
    """The composed configuration as YAML: the run's (`job`), Hydra's (`hydra`) or both (`all`)."""
    settings = to_yaml(run.config)
    of_hydra = OmegaConf.to_yaml(OmegaConf.create({"hydra": run.composed.hydra}))
    return {"job": settings, "hydra": of_hydra, "all": settings + of_hydra}[what]


def parse(composed: DictConfig) -> Config:
    """Turn Hydra's composed configuration into a checked `Config`.

    Raises:
        ConfigError: for an unknown or missing setting, a wrong type, a `_target_`, or a value
            out of range.
    """
    values = _plain(composed)
    _refuse_targets(values)
    top = {f.name for f in dataclasses.fields(Config)}
    for key in values:
        if key not in top:
            raise ConfigError(unknown_setting(key, top))
    kinds: list[Callable[[], Any]] = []
    for group in OPTIONS:
        names = ", ".join(options_of(group))
        if group not in values:
            raise ConfigError(f"group '{group}' is missing: choose one of {names}")
        if not isinstance(values[group], dict):
            raise ConfigError(f"bad value {values[group]!r} ({group}): choose one of {names}")
        kinds.append(option(group, str(values[group].get("name"))).settings)
    _require_text(values)
    schema = _schema(*kinds)
    try:
        typed = OmegaConf.merge(schema, escaped(values))
        config = OmegaConf.to_object(typed)
    except OmegaConfBaseException as error:
        raise ConfigError(_explain_value(error, schema)) from error
    assert isinstance(config, Config)
    check(config)
    return config


@lru_cache(maxsize=100)
def _schema(*kinds: Callable[[], Any]) -> DictConfig:
    """What a configuration may hold, by the settings of the options that it chooses."""
    groups = {group: kind() for group, kind in zip(OPTIONS, kinds, strict=True)}
    schema = OmegaConf.structured(Config(**groups))
    assert isinstance(schema, DictConfig)
    return schema


def sweep_settings(composed: DictConfig) -> Any:
    """What a sweep reads of a configuration before it has members: `run`, `sweep` and `threads`.

    Raises:
        ConfigError: for a wrong type.
    """
    names = ["run", "sweep", "threads"]
    schema = OmegaConf.masked_copy(OmegaConf.structured(Config), names)
    values = {key: value for key, value in _plain(composed).items() if key in names}
    _require_text(values)
    try:
        return OmegaConf.merge(schema, escaped(values))
    except OmegaConfBaseException as error:
        raise ConfigError(_explain_value(error, schema)) from error


def _require_text(values: dict[str, Any]) -> None:
    """Refuse a number where text is asked for, and put the home folder in for a leading ~."""
    for name in TEXT:
        group, _, key = name.rpartition(".")
        holder = values.get(group) if group else values
        value = holder.get(key) if isinstance(holder, dict) else None
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, bool | int | float):
                raise ConfigError(f"bad value {item} ({name}): it must be text, in quotes")
            if isinstance(item, str) and not is_unicode(item):
                raise ConfigError(f"not UTF-8 ({name}): give text")
        if name in FOLDERS and isinstance(holder, dict) and isinstance(value, str):
            if "\0" in value:
                raise ConfigError(f"a folder's name cannot hold NUL ({name}): give another")
            holder[key] = os.path.expanduser(value)


REFERENCES = 20
"""References (`${…}`) in one configuration: each may hold several others, and they multiply."""


def refuse_many_references(composed: DictConfig) -> None:
    """Count the references of a configuration before any is resolved.

    Raises:
        ConfigError: there are too many.
    """
    node: Any = OmegaConf.to_container(composed, resolve=False)
    settings = {key: value for key, value in node.items() if key != "hydra"}
    count = _references([settings, node.get("hydra", {}).get("sweeper", {}).get("params")])
    if count > REFERENCES:
        raise ConfigError(f"too many references ({count} of ${{…}}): use at most {REFERENCES}")


def _references(node: Any) -> int:
    if isinstance(node, dict):
        return sum(_references(value) for value in node.values())
    if isinstance(node, list):
        return sum(_references(value) for value in node)
    return node.count("${") if isinstance(node, str) else 0


def _plain(composed: DictConfig) -> dict[str, Any]:
    """The composed configuration as plain containers, interpolations resolved."""
    refuse_many_references(composed)
    settings = hydra.masked(composed, "hydra") if "hydra" in composed else composed
    try:
        container = OmegaConf.to_container(settings, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{first_line(error)}: mend the reference") from error
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def escaped(node: Any) -> Any:
    """The same with references taken for text.

    They are resolved already; a text with a dollar sign is not to be taken for one.
    """
    if isinstance(node, dict):
        return {key: escaped(value) for key, value in node.items()}
    if isinstance(node, list):
        return [escaped(value) for value in node]
    return node.replace("${", "\\${") if isinstance(node, str) else node


def _refuse_targets(node: Any, path: str = "") -> None:
    """No configuration names code to run, however it came in."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if str(key).startswith("_") and str(key).endswith("_"):
                raise ConfigError(f"'{path}{key}' is refused: a configuration cannot name code")
            _refuse_targets(value, f"{path}{key}.")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            _refuse_targets(value, f"{path}{index}.")


def _explain_value(error: Exception, schema: DictConfig) -> str:
    """One line on a value or key that OmegaConf refused."""
    key = str(getattr(error, "full_key", None) or "")
    reason = first_line(error)
    if "not in" in reason:
        return unknown_setting(key, keys(OmegaConf.to_container(schema)))
    if isinstance(error, MissingMandatoryValue):
        return f"'{key}' has no value: give one ({key}=…)"
    if key == "device" and "'cuda:" in reason:
        return f"{reason} ({key}): choose device=cuda, and the GPU by CUDA_VISIBLE_DEVICES"
    return f"{reason} ({key or 'a group of settings'}): give a value of the right type"
