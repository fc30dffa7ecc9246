"""What the tests share: the real command line, small runs, and the real data where it is there."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# Before torch is loaded, here or in a process that a test starts: tests run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent
REAL_DATA = Path(os.environ.get("BNREPRO_TEST_DATA") or ROOT.parent / "shared" / "data")


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


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """`bnrepro ARGUMENTS` as a process of its own, in an empty folder."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "bnrepro", *(str(argument) for argument in arguments)]
        settings = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 300}
        return subprocess.run(line, **(settings | options), check=False)

    return run
