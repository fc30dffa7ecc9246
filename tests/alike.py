"""When two runs, or the tables of two sweeps, are the same to the last bit, but for times."""

import csv
import io
from pathlib import Path
from typing import Any

import torch

from bnrepro.store import StoredRun


def rows(folder: Path) -> list[dict[str, str]]:
    """The rows of a sweep's `results.csv`, but for times."""
    with open(folder / "results.csv", newline="") as file:
        return [
            {k: v for k, v in row.items() if k != "wall_seconds"} for row in csv.DictReader(file)
        ]


def untimed(run: StoredRun) -> list[dict[str, Any]]:
    """The lines of a run's metrics, but for times."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in run.metrics()]


def state(run: StoredRun) -> dict[str, Any]:
    content = run.checkpoint(run.checkpoint_steps()[-1])
    return torch.load(io.BytesIO(content), weights_only=True)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def assert_same_run(found: StoredRun, expected: StoredRun) -> None:
    assert untimed(found) == untimed(expected), found.folder
    ours, theirs = state(found), state(expected)
    for name in ("step", "losses", "model", "optimizer", "probe", "rng"):
        assert same(ours[name], theirs[name]), (found.folder, name)
    assert found.probe_steps() == expected.probe_steps()
    for step in expected.probe_steps():
        there = expected.probe(step)
        assert all((values == there[name]).all() for name, values in found.probe(step).items())
    ours, theirs = found.summary(), expected.summary()
    assert ours is not None
    assert theirs is not None
    assert {**ours, "wall_seconds": 0} == {**theirs, "wall_seconds": 0}
