"""What starting costs, each in a process of its own, against the imports it cannot do without."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bnrepro import config as c
from bnrepro.bench.comparison import Comparison, Job, compare

FIRST_STEP = """
import os, sys
from bnrepro import cli
from bnrepro.training import loop
loop.LoopState.done = lambda self, loss: os._exit(0)
cli.main(sys.argv[1:])
"""
"""`bnrepro train`, ended at the end of its first step."""


def startup(config: c.Config, rounds: int) -> Iterator[Comparison]:
    """The help, a mistake and the first step of a run."""
    with tempfile.TemporaryDirectory() as folder:
        run = f"run.dir={Path(folder) / 'run'}"
        root = f"dataset.root={config.dataset.root}"
        train = ["train", f"dataset={config.dataset.name}", root, run, "run.overwrite=true"]
        pairs = (
            ("help", _command("-m", "bnrepro", "--help"), "typer, rich.console, rich.table"),
            ("a bad value", _command("-m", "bnrepro", "train", "optimizer.lr=-1"), "torch"),
            ("first step", _command("-c", FIRST_STEP, *train), "torch"),
        )
        for name, ours, modules in pairs:
            theirs = (f"importing {modules}", _command("-c", f"import {modules}"))
            yield compare(f"startup: {name}", (f"bnrepro: {name}", ours), theirs, 1, rounds)


def _command(*words: str) -> Job:
    def run() -> None:
        subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, env=dict(os.environ), check=False)  # fmt: skip

    return run
