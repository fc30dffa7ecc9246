"""Runs that nobody trained: folders in which a claim plainly holds, or plainly does not.

Of every claim `tests/planted/` has a file of its name with a function `plant`.
"""

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import yaml

from bnrepro.evidence.claim import Claim
from bnrepro.evidence.runs import CHANCE, Evidence, seeds
from bnrepro.store import StoredRun
from bnrepro.sweeps.grid import configurations

Config = dict[str, Any]
DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@dataclass(frozen=True)
class Planted:
    """A run's content: curves of metrics as (steps, values), probes by step, state, predictions.

    The summary has the last value of every curve unless `summary` says otherwise.
    """

    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]] = field(default_factory=dict)
    probes: Mapping[int, Mapping[str, np.ndarray]] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    diverged_at: int | None = None
    predictions: Mapping[str, np.ndarray] = field(default_factory=dict)


Plant = Callable[[str, Config, int, bool], Planted]
"""From an arm's name, its configuration, the seed, and whether the claim holds."""


def plant_of(claim: str) -> Plant:
    module: ModuleType = importlib.import_module(f"planted.{claim.replace('-', '_')}")
    return module.plant


def learning(config: Config, final: float, half: float, **more: float) -> Planted:
    """A run that ends at an accuracy, half of the way from guessing done at step `half`.

    Other numbers of the summary are `more`.
    """
    steps = np.arange(0, config["train"]["steps"] + 1, config["train"]["eval_every"])
    values = CHANCE + (final - CHANCE) * steps / (steps + half)
    values *= final / values[-1]
    curve = (steps.tolist(), values.tolist())
    return Planted({"test_accuracy": curve, "validation_accuracy": curve}, summary=more)


def rising(config: Config, final: float, arrives: int, **more: float) -> Planted:
    """A run that rises in a straight line to an accuracy, there at a step, and keeps it.

    Other numbers of the summary are `more`.
    """
    last, every = config["train"]["steps"], config["train"]["eval_every"]
    steps = [*range(0, last, every), last]
    values = [CHANCE + (final - CHANCE) * min(step / arrives, 1.0) for step in steps]
    return Planted(
        {"test_accuracy": (steps, values), "validation_accuracy": (steps, values)}, summary=more
    )


def diverged(config: Config, at: int = 10) -> Planted:
    """A run whose loss was not finite at a step."""
    steps = list(range(0, at, config["train"]["eval_every"]))
    start = (steps, [CHANCE] * len(steps))
    return Planted({"test_accuracy": start, "validation_accuracy": start}, diverged_at=at)


def at_once(planted: Planted) -> Planted:
    """The same run, had its first loss not been finite: what was measured before is there."""
    start = ([0], [CHANCE])
    before = {
        name: values
        for name, values in planted.probes.get(min(planted.probes, default=0), {}).items()
        if not name.endswith("/gradient_norm")
    }
    return Planted(
        {"test_accuracy": start, "validation_accuracy": start},
        {0: before} if before else {},
        diverged_at=1,
    )


def write(folder: Path, config: Config, planted: Planted) -> StoredRun:
    """Write a run's folder as `store` would, but for flushing it to the disk."""
    (folder / "probes").mkdir(parents=True)
    rows: dict[int, dict[str, Any]] = {}
    summary: dict[str, Any] = {
        "status": "done" if planted.diverged_at is None else "diverged",
        "steps": planted.diverged_at or config["train"]["steps"],
        "diverged_at": planted.diverged_at,
    }
    for name, (steps, values) in planted.curves.items():
        for step, value in zip(steps, values, strict=True):
            rows.setdefault(int(step), {"step": int(step)})[name] = float(value)
        summary[name] = float(values[-1]) if planted.diverged_at is None else None
    if planted.diverged_at is None:
        summary["steps"] = max(rows, default=summary["steps"])
        last = rows.setdefault(summary["steps"], {"step": summary["steps"]})
        summary["test_accuracy"] = last.setdefault("test_accuracy", CHANCE)  # always evaluated
        summary.setdefault("train_accuracy", CHANCE)
    text = "".join(json.dumps(rows[step]) + "\n" for step in sorted(rows))
    (folder / "metrics.jsonl").write_text(text)
    for step, arrays in planted.probes.items():
        np.savez(folder / "probes" / f"{step:09d}.npz", **arrays)  # type: ignore[arg-type]
    if planted.predictions or config.get("predictions"):
        np.savez(folder / "predictions.npz", **planted.predictions)  # type: ignore[arg-type]
    every = config.get("probe", {}).get("every")
    if every and not set(planted.probes).issuperset(range(0, summary["steps"] + 1, every)):
        config = {**config, "probe": {**config["probe"], "every": 0}}  # a few are enough here
    # Not as JSON, of which YAML reads 1e-05 as text.
    (folder / "config.yaml").write_text(yaml.dump(config, Dumper=DUMPER))
    (folder / "summary.json").write_text(json.dumps(summary | dict(planted.summary)))
    return StoredRun(folder)


_configs: dict[tuple[str, ...], Config] = {}


def arms_of(claim: Claim, scale: str) -> dict[str, Config]:
    """The configuration of every arm, but for its seed."""
    words = {arm: claim.scales[scale].words(arm) for arm in claim.scales[scale].arms}
    new = [w for w in dict.fromkeys(words.values()) if w not in _configs]
    _configs.update(zip(new, configurations(new), strict=True))
    return {arm: _configs[w] for arm, w in words.items()}


def evidence(
    claim: Claim, plant: Plant, scale: str, folder: Path, holds: Callable[[int], bool]
) -> Evidence:
    """Runs of a claim at a scale; `holds` says of each seed whether the claim does."""
    plan = claim.scales[scale]
    numbers = seeds(plan.seeds, claim.first_seed)
    runs = {}
    for index, (arm, config) in enumerate(arms_of(claim, scale).items()):
        of_seeds = [plan.config(arm, config, seed) for seed in numbers]
        runs[arm] = tuple(
            write(folder / f"{index}-{seed}", own, plant(arm, own, seed, holds(seed)))
            for seed, own in zip(numbers, of_seeds, strict=True)
        )
    return Evidence(scale, numbers, runs)
