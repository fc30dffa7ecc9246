"""A run in a paragraph to paste: what was trained, how it ended, on what, and how to repeat it."""

import shlex
import textwrap
from collections.abc import Mapping
from typing import Any

from bnrepro.config import FINGERPRINT, flat, identifying_settings, shown
from bnrepro.errors import ConfigError
from bnrepro.store import StoredRun
from bnrepro.terminal import duration

GROUPS = {
    "model": "{} was trained",
    "norm": "with {}",
    "dataset": "on {},",
    "init": "from {},",
    "optimizer": "by {}",
    "schedule": "with {},",
}
"""What the paragraph says of each group's option, in this order."""

TOLD = ("train.steps", "train.batch_size", "seed")
"""Settings outside of groups that the paragraph always tells; others only if they are not the
schema's own."""

QUIET = ("train.log_every", "train.eval_every", "train.test_every", "train.checkpoint_every",
         "probe.every", "probe.size", "device", "threads")  # fmt: skip
"""Settings that are left to the command: how often a run is looked at, and where it was made."""


def card(run: StoredRun, width: int) -> str:
    """A run in a paragraph of lines of at most `width` characters, then the command to repeat it.

    Raises:
        UnreadableError: a file of the run is damaged.
    """
    manifest, config = run.manifest(), run.config()
    sentences = (_trained(config, manifest), _ended(run, config), _made_on(manifest))
    text = textwrap.fill(" ".join(sentences), width, break_long_words=False, break_on_hyphens=False)
    try:
        words = _words(run, config, manifest)
    except ConfigError as error:
        return f"{text}\n\nNo command repeats it here: {error}"
    finished = run.summary() is not None
    return f"{text}\n\n{'Repeat' if finished else 'Resume'} it:\n  {shlex.join(words)}"


def _trained(config: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """What was trained on what, with which settings."""
    settings, all_settings = identifying_settings(config), flat(config)
    parts = [text.format(_option(group, settings)) for group, text in GROUPS.items()]
    steps, size, seed = (all_settings.get(name, "unknown") for name in TOLD)
    many = f"{steps:,}" if isinstance(steps, int) else steps
    parts.append(f"for {many} steps of {size} images, with seed={seed}.")
    left = [
        f"{name}={shown(value)}"
        for name, value in settings.items()
        if name.partition(".")[0] not in GROUPS and name not in (*TOLD, *QUIET)
    ]
    if left:
        parts.append(f"Also set: {', '.join(left)}.")
    dataset = manifest.get("dataset") or {}
    if fingerprint := dataset.get("fingerprint"):
        parts.append(f"The data set's fingerprint is {str(fingerprint)[:12]}.")
    for group, package in (manifest.get("packages") or {}).items():
        parts.append(f"The {group} is of {package}.")
    return " ".join(parts)


def _option(group: str, settings: Mapping[str, Any]) -> str:
    """The option of a group with its settings, as they are typed."""
    prefix = f"{group}."
    of = {key.removeprefix(prefix): v for key, v in settings.items() if key.startswith(prefix)}
    name = of.pop("name", "?")
    of.pop(FINGERPRINT.removeprefix(prefix), None)  # said of every data set
    inside = ", ".join(f"{key}={shown(value)}" for key, value in of.items())
    return f"{group}={name}" + (f" ({inside})" if inside else "")


def _ended(run: StoredRun, config: Mapping[str, Any]) -> str:
    """How it ended, or how far it is."""
    status, summary = run.status(), run.summary()
    if summary is None:
        steps = flat(config).get("train.steps")
        reason = f" ({status['error']})" if status.get("error") else ""
        said = f"Its state is {status['state']}{reason}, at step {status.get('step')} of {steps}."
    else:
        time = summary.get("wall_seconds")
        after = "" if time is None else f" after {duration(time)}"
        if summary.get("diverged_at") is not None:
            said = f"It diverged{after}: the loss is not finite at step {summary['diverged_at']}."
        else:
            said = f"It ended{after}" + _accuracies(summary)
    if drift := run.drift():
        said += f" It was resumed although something differed ({'; '.join(drift)})."
    elif resumes := len(run.manifest().get("resumes", ())):
        said += f" It was interrupted and resumed {'once' if resumes == 1 else f'{resumes} times'}."
    return said


def _accuracies(summary: Mapping[str, Any]) -> str:
    """What a finished run came to, the rest of a sentence."""
    named = {
        "test_accuracy": "test accuracy",
        "population_test_accuracy": "by the statistics of Algorithm 2",
        "validation_accuracy": "validation accuracy",
        "train_loss": "training loss",
    }
    known = {key: text for key, text in named.items() if summary.get(key) is not None}
    numbers = [f"{text} {summary[key]:.4f}" for key, text in known.items()]
    return f" with {', '.join(numbers)}." if numbers else "."


def _made_on(manifest: Mapping[str, Any]) -> str:
    """When and on what it was made; as much of it as the manifest knows."""
    if not manifest:
        return "What it ran on was not recorded."
    git = manifest.get("git") or {}
    commit = f", commit {str(git.get('sha'))[:12]}" if git.get("sha") else ""
    changed = " with changes" if git.get("dirty") else ""
    torch = (manifest.get("versions") or {}).get("torch")
    threads = manifest.get("threads")
    machine = manifest.get("gpu") or manifest.get("cpu") or "a processor without a name"
    stacked = manifest.get("stacked")
    alike = f" together with {stacked - 1} others (--stack)" if isinstance(stacked, int) else ""
    return (
        f"Made{alike} on {str(manifest.get('began'))[:10]} by bnrepro {manifest.get('bnrepro')}"
        f"{commit}{changed} (results number {manifest.get('results')}), with torch {torch} and "
        f"Python {manifest.get('python')}, on {machine} ({manifest.get('platform')}), "
        f"{threads} thread{'' if threads == 1 else 's'}."
    )


def _words(run: StoredRun, config: Mapping[str, Any], manifest: Mapping[str, Any]) -> list[str]:
    """The command that makes the run again, or resumes it, as words.

    Raises:
        ConfigError: there is none here.
    """
    from bnrepro.config.compose import overrides_of  # which loads Hydra

    if not config:
        raise ConfigError("it has no configuration")
    dataset = dict(config.get("dataset") or {})
    if dataset.get("fingerprint", "") is None:  # of its own images it is those that it read
        dataset["fingerprint"] = (manifest.get("dataset") or {}).get("fingerprint")
    words = ["bnrepro", "train", *overrides_of({**config, "dataset": dataset})]
    return words if run.summary() is not None else [*words, f"run.dir={run.folder}"]
