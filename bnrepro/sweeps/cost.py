"""What runs cost on this machine: a few steps of each kind of network, timed, and sized on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from bnrepro import config as c
from bnrepro.store import StoredRun, sweep
from bnrepro.store.sweep import Member
from bnrepro.sweeps import launchers
from bnrepro.sweeps.launchers import LauncherChoice
from bnrepro.sweeps.progress import SweepProgress, kind
from bnrepro.training.signals import StopSignals

STEPS, EVALUATED = 30, 15
"""Steps of a timed run, and the one after which it evaluates."""


@dataclass(frozen=True)
class Cost:
    """Seconds of a step, of an evaluation and of beginning and end; bytes a run and a probe."""

    step: float
    evaluation: float
    ends: float
    folder: int
    probe: int

    def seconds(self, config: Mapping[str, Any]) -> float:
        """What a run of this kind takes."""
        steps = int(config["train"]["steps"])
        evaluations = steps / (config["train"].get("eval_every") or steps)
        return steps * self.step + evaluations * self.evaluation + self.ends

    def bytes(self, config: Mapping[str, Any]) -> int:
        """What its folder takes."""
        every = config["probe"].get("every") or 0
        probes = config["train"]["steps"] // every + 1 if every else 0
        return int(self.folder + probes * self.probe)


def measure(members: Sequence[Member], console: Console) -> dict[str, Cost]:
    """The cost of each kind among members, from a short run of each.

    What will be compiled is compiled for it, once: the runs then find the program.

    Raises:
        Interrupted: a signal came.
    """
    first = {kind(member.config): member for member in reversed(members)}
    timed = {of: _timed(member, number) for number, (of, member) in enumerate(first.items())}
    with tempfile.TemporaryDirectory() as place:
        folder, short = Path(place), list(timed.values())
        digest = sweep.write_members(folder, short)
        every = list(range(len(short)))
        with StopSignals() as stop, SweepProgress("measuring", folder, short, every, console):
            launchers.run(LauncherChoice(), folder, digest, [[index] for index in every], stop)
        costs = {of: _cost(StoredRun(folder / member.name)) for of, member in timed.items()}
    return {of: cost for of, cost in costs.items() if cost is not None}


def _timed(member: Member, number: int) -> Member:
    config = member.config
    compiled = c.from_dict(config).compiled
    train = {
        **config["train"], "steps": STEPS, "eval_every": EVALUATED, "log_every": 1,
        "test_every": config["train"].get("test_every") and STEPS, "checkpoint_every": STEPS,
        "compile": compiled,
    }  # fmt: skip
    probe = {**config["probe"], "every": STEPS if config["probe"].get("every") else 0}
    config = {**config, "train": train, "probe": probe, "tensorboard": False}
    return replace(member, name=f"kind-{number}", config=config)


def _cost(run: StoredRun) -> Cost | None:
    """What a timed run tells; None if it failed or diverged."""
    summary = run.summary()
    at = {row["step"]: row["seconds"] for row in run.metrics() if "seconds" in row}
    before, after, last = EVALUATED - 1, EVALUATED + 1, STEPS - 1
    if summary is None or summary["status"] != "done" or not {before, after, last} <= set(at):
        return None
    step = (at[last] - at[after]) / (last - after)
    evaluation = max(0.0, at[after] - at[before] - (after - before) * step)
    ends = max(0.0, float(summary["wall_seconds"]) - at[last] + at.get(0, 0.0))
    sizes = {path: path.stat().st_size for path in run.folder.rglob("*") if path.is_file()}
    probes = [size for path, size in sizes.items() if path.parent.name == "probes"]
    probe = max(probes, default=0)
    return Cost(step, evaluation, ends, sum(sizes.values()) - sum(probes), probe)


def total(members: Sequence[Member], costs: Mapping[str, Cost]) -> tuple[float, int]:
    """Seconds one after another, and bytes; what could not be measured counts as the dearest."""
    dearest = max(costs.values(), key=lambda cost: cost.step, default=Cost(0, 0, 0, 0, 0))
    of = [(costs.get(kind(member.config), dearest), member.config) for member in members]
    seconds = sum(cost.seconds(config) for cost, config in of)
    return seconds, sum(cost.bytes(config) for cost, config in of)
