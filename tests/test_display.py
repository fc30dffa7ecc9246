"""What is shown while work is done: it fits the terminal, and never ends the work."""

import io
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import cast

import pytest
from conftest import TINY, Command
from rich.console import Console

from bnrepro.store import StoredRun
from bnrepro.terminal import View
from bnrepro.training.progress import RunProgress, transfer_progress

TITLE = "mnist inception norm=detached seed=12"


def lines(width: int) -> list[str]:
    """The last bar of a run on a terminal of that width."""
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=width, color_system=None)
    with RunProgress(TITLE, 50_000, console) as display:
        display._began = time.monotonic() - 100, 0
        display.update(12_300, {"train_loss": 0.0461, "test_accuracy": 0.9767})
    return shown.getvalue().rpartition("\x1b[2K")[2].splitlines()


@pytest.mark.parametrize(
    ("width", "kept", "dropped"),
    [
        (140, (TITLE, "steps/s", "loss 0.0461", "0.9767", "0:00:00"), ()),
        (80, ("steps/s", "0.9767"), (TITLE[:5], "loss")),
        (60, ("0.9767",), (TITLE[:5], "loss")),
        (30, (), (TITLE[:5], "loss", "steps/s", "test")),
    ],
)
def test_the_bar_the_step_and_the_time_left_always_fit(
    width: int, kept: tuple[str, ...], dropped: tuple[str, ...]
) -> None:
    line = lines(width)[0]
    assert len(line) <= width
    bar, _, rest = line.removeprefix(TITLE).partition("12300/50000")
    assert len(bar) >= 10
    assert rest.rstrip().endswith(":--")  # the time left, not known after a moment
    assert "…" not in line
    assert all(part in line for part in kept)
    assert not any(part in line for part in dropped)


def broken() -> io.TextIOWrapper:
    """A pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return os.fdopen(writing, "w")


def test_a_progress_bar_that_cannot_be_written_stops_with_one_warning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with (
        broken() as pipe,
        RunProgress(TITLE, 100, Console(file=pipe, force_terminal=True)) as display,
    ):
        for step in range(100):
            display.update(step, {"train_loss": 1.0})
            display.say("a line")
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("bnrepro: warning: the output cannot be written (Broken pipe)")


def test_a_closed_reader_ends_output_and_a_full_disk_is_an_error() -> None:
    with broken() as pipe:
        print("a row", file=cast("io.TextIOWrapper", View(pipe, BrokenPipeError)), flush=True)
    with open("/dev/full", "w") as full, pytest.raises(OSError, match="No space left"):
        print("a row", file=cast("io.TextIOWrapper", View(full, BrokenPipeError)), flush=True)


@pytest.mark.parametrize(
    ("words", "code"), [(("train", *TINY, "run.dir=R"), 0), (("train", "--cfg", "job"), 3)]
)
def test_a_full_disk_behind_the_output_ends_no_training(
    tmp_path: Path, command: Command, words: tuple[str, ...], code: int
) -> None:
    with open("/dev/full", "w") as full:
        done = command(*words, stdout=full.fileno())
    assert done.returncode == code
    [line] = done.stderr.splitlines()
    assert "No space left on device" in line
    if words[-1] == "run.dir=R":
        assert StoredRun(tmp_path / "R").status()["state"] == "done"


def test_a_closed_reader_does_not_fail_a_command(tmp_path: Path) -> None:
    line = f"{sys.executable} -m bnrepro claims --json | head -1; exit ${{PIPESTATUS[0]}}"
    options = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run(["bash", "-c", line], **options)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[\n", "")


def test_reading_a_data_set_of_no_files_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with transfer_progress():
        pass
    with transfer_progress() as progress:
        progress("digits", 1, 2)
    assert capsys.readouterr().out == ""
