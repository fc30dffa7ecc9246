"""Runs that train as one computation against the same runs one after another."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from bnrepro import config as c
from bnrepro.bench.comparison import Comparison, compare
from bnrepro.bench.loop import as_compiled, prepared, run
from bnrepro.data import Dataset
from bnrepro.store import RunWriter
from bnrepro.training import stacked
from bnrepro.training.signals import StopSignals

MEMBERS = 16
STEPS = 2000
"""Of each run at most: a round is 32 of them."""


def stack(config: c.Config, rounds: int) -> Iterator[Comparison]:
    """`MEMBERS` whole runs of a seed each: together on every core against one after another.

    Those together are not compiled; the latter are, as long runs are, and have as many threads each
    as the configuration says.
    """
    steps = min(STEPS, config.train.steps)
    config = replace(config, train=replace(config.train, steps=steps))
    configs = [replace(config, seed=seed) for seed in range(MEMBERS)]
    cores = os.cpu_count() or 1
    with prepared(config) as dataset:

        def all_at_once() -> None:
            torch.set_num_threads(cores)
            _together(configs, dataset)

        def one_by_one() -> None:
            torch.set_num_threads(config.threads)
            for each in configs:
                run(as_compiled(each), dataset)

        yield compare(
            "stack",
            (f"{MEMBERS} runs together, threads={cores}", all_at_once),
            (f"one after another, threads={config.threads}", one_by_one),
            MEMBERS * steps,
            rounds,
        )


def _together(configs: list[c.Config], dataset: Dataset) -> None:
    def failed(error: BaseException) -> None:
        raise error

    with tempfile.TemporaryDirectory() as folder:
        runs = []
        for config in configs:
            writer = RunWriter.acquire(Path(folder) / str(config.seed), c.to_dict(config), [])
            assert writer is not None
            runs.append(stacked.StackedRun(config, writer, Console(quiet=True), failed))
        stacked.train(runs, dataset, {}, StopSignals())
