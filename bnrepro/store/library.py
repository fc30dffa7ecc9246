"""Stored runs for a notebook or a script: settings, numbers, metrics as a table, probes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnrepro.config import flat
from bnrepro.errors import StorageError
from bnrepro.store.run import StoredRun, find_runs

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Run:
    """A stored run, finished or not. Each file is read when it is first asked for, and kept."""

    folder: Path

    @cached_property
    def _stored(self) -> StoredRun:
        return StoredRun.read_once(self.folder)

    @property
    def state(self) -> str:
        """`running`, `done`, `diverged`, `failed`, `interrupted`, or `stale` if it was killed."""
        return str(self._stored.status()["state"])

    @property
    def config(self) -> dict[str, Any]:
        """The configuration, nested as in `config.yaml`: `run.config["optimizer"]["lr"]`."""
        return self._stored.config()

    @property
    def summary(self) -> dict[str, Any]:
        """What the run ended with, as in `summary.json`; empty if it did not come to its end."""
        return self._stored.summary() or {}

    @property
    def manifest(self) -> dict[str, Any]:
        """What the run ran on: versions, processor, commit, data."""
        return self._stored.manifest()

    @cached_property
    def record(self) -> dict[str, Any]:
        """Settings by dotted names, then the summary's numbers: a row for a table of runs."""
        return {"run": str(self.folder), "state": self.state, **flat(self.config), **self.summary}

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """Every recorded metric, a column each, by the steps that were done.

        A metric that was not recorded at a step is NaN there.
        """
        import pandas as pd

        frame = pd.DataFrame(self._stored.metrics(), columns=None)
        return frame.set_index("step") if len(frame) else frame

    @cached_property
    def probe_steps(self) -> np.ndarray:
        """The steps (P,) at which the activations were measured."""
        return np.array(self._stored.probe_steps(), dtype=np.int64)

    @cached_property
    def probes(self) -> Mapping[str, np.ndarray]:
        """What the probes measured, by LAYER/WHAT: arrays (P, …) over `probe_steps`.

        With U units in a layer: `percentiles` (P, U, 3), `mean`, `std`, `saturated`, `shift` and
        `shift_total` (P, U). A measurement that not every probe has (the gradients before the first
        step) is NaN there.
        """
        steps = [int(step) for step in self.probe_steps]
        probes = [self._stored.probe(step) for step in steps]
        names = dict.fromkeys(name for probe in probes for name in probe)
        return {name: _stacked([probe.get(name) for probe in probes]) for name in names}

    @cached_property
    def predictions(self) -> Mapping[str, np.ndarray]:
        """What was kept with `predictions=true`, see `StoredRun.predictions`."""
        return self._stored.predictions()


def _stacked(values: list[np.ndarray | None]) -> np.ndarray:
    """One measurement of all probes; NaN where a probe does not have it."""
    like = next(value for value in values if value is not None)
    kind = like.dtype if all(value is not None for value in values) else np.float64
    missing = np.full(like.shape, np.nan)
    return np.stack([missing if value is None else value for value in values]).astype(kind)


def load_run(folder: str | PathLike[str]) -> Run:
    """A stored run by its folder.

    Raises:
        StorageError: there is no run. What is read later raises `UnreadableError` if it is damaged.
    """
    run = Run(Path(folder))
    if not StoredRun(run.folder).exists():
        raise StorageError(f"no run ({folder}): name the folder of one, or use load_runs")
    return run


def load_runs(folder: str | PathLike[str]) -> list[Run]:
    """Every run in a folder or below it, in the order of their paths.

    Raises:
        StorageError: there is no such folder.
    """
    return [Run(stored.folder) for stored in find_runs(Path(folder))]
