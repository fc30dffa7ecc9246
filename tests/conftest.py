"""What the tests share: the real command line, small runs, and the real data where it is there."""

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import forked
import pytest
from datasets import load

from bnrepro import claims
from bnrepro.data import Dataset
from bnrepro.evidence.claim import Claim
from bnrepro.store import StoredRun

# Before torch is loaded, here or in a process that a test starts: tests run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("BNREPRO_DATA", None)  # configurations are the same on every machine
if "BNREPRO_CACHE" not in os.environ:  # nothing is left in the user's; all workers share one
    os.environ["BNREPRO_CACHE"] = tempfile.mkdtemp(prefix="bnrepro-programs-")
    atexit.register(shutil.rmtree, os.environ["BNREPRO_CACHE"], ignore_errors=True)

ROOT = Path(__file__).resolve().parent.parent
REAL_DATA = Path(os.environ.get("BNREPRO_TEST_DATA") or ROOT.parent / "shared" / "data")

TINY = ("dataset=digits", "train.steps=20", "train.eval_every=10", "model.hidden=[10]",
        "probe.every=0", "tensorboard=false")  # fmt: skip
"""A run that takes no time."""

EVENTFUL = ("dataset=digits", "train.steps=1000", "train.log_every=10", "train.eval_every=100",
            "train.checkpoint_every=70", "probe.every=50", "probe.size=50", "model.hidden=[30,20]",
            "model.dropout=0.1", "optimizer.momentum=0.5")  # fmt: skip
"""A run to interrupt: something is written at steps of every kind, and a second passes."""


@pytest.fixture(scope="session")
def real_data() -> Path:
    """A folder with all of MNIST in torchvision's layout (and CIFAR-10 as PNG)."""
    if not (REAL_DATA / "MNIST" / "raw" / "train-images-idx3-ubyte").is_file():
        pytest.skip(f"no real MNIST in {REAL_DATA}: set BNREPRO_TEST_DATA to a folder that has it")
    return REAL_DATA


def hear_signals() -> None:
    """A `preexec_fn`: tests in a script's background are deaf to some, and so what they start."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def wait_for(what: Callable[[], Any], seconds: float = 300) -> None:
    """Wait until something is true.

    Raises:
        AssertionError: it did not become true.
    """
    limit = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.02)


def wait_for_step(folder: Path, step: int, seconds: float = 300) -> None:
    """Wait until a run has recorded a step, this one or a later."""
    run = StoredRun(folder)
    wait_for(lambda: run.exists() and run.last_line().get("step", -1) >= step, seconds)


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """`bnrepro ARGUMENTS` in a forked process, in an empty folder."""

    def run(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
        return forked.run(*words, **({"cwd": tmp_path} | options))

    return run


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """The images that come with scikit-learn."""
    return load("digits", "unused")


LONG = ("reliability", "slow", "slurm", "ray")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test of a step that takes long a limit of its own; the others have pyproject's."""
    for item in items:
        long = any(item.get_closest_marker(name) for name in LONG)
        if long and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(3600))


def set_claims(patch: pytest.MonkeyPatch, **found: Claim) -> None:
    """Make these the claims there are."""
    patch.setattr(claims, "ids", lambda: sorted(found))
    patch.setattr(claims, "load", lambda name: found[name])
    nobody = claims.Source("bnrepro", None, lambda: None)
    patch.setattr(claims, "source", lambda name: nobody)


@pytest.fixture
def have(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes these the claims there are."""
    return partial(set_claims, monkeypatch)
