"""What is printed: nothing of somebody else's commands the terminal, and any stream takes it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bnrepro import cli, store
from bnrepro.cli import main
from bnrepro.store import atomic
from bnrepro.terminal import printable

EVIL = "a\x1b[31m\x07\x9b2J\x7f\r\u202e\u2066\u2028\udcff"


def test_text_of_others_cannot_control_the_terminal() -> None:
    assert printable(EVIL) == "a\ufffd[31m\ufffd\ufffd2J" + "\ufffd" * 6
    good = "Größe 批 \t σ²\n"
    assert printable(good) == good


def test_all_output_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    cli._say(EVIL)
    cli._table((EVIL,), [[EVIL]])
    assert main(["runs", EVIL]) == 3
    assert main(["train", f"dataset.root={EVIL[:-1]}"]) == 2
    assert main(["train", f"--{EVIL}"]) == 2
    shown = capsys.readouterr()
    assert "\ufffd[31m" in shown.out
    for text in (shown.out, shown.err):
        assert not set(text) & {*EVIL[1:], "\x1b"} - {*"[31m2J"}


def test_a_run_of_an_odd_name_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "a\x1b[31m\u202e\udcff"
    folder.mkdir()
    config, status = folder / store.CONFIG, folder / store.STATUS
    atomic.write(config, lambda file: file.write(b"seed: 1\n"))
    atomic.write(status, lambda file: file.write(b'{"state": "done"}'))
    assert main(["runs", str(tmp_path)]) == 0
    assert "a\ufffd[31m\ufffd\ufffd" in capsys.readouterr().out


@pytest.mark.parametrize("how", ["{} >&-", "{} >&- 2>&-", "PYTHONIOENCODING=ascii {}"])
def test_a_closed_or_narrow_stream_ends_no_command(how: str) -> None:
    line = how.format(f"{sys.executable} -m bnrepro claims bn-baseline")
    done = subprocess.run(
        ["sh", "-c", line],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert ("Figs. 2 and 3" in done.stdout) == ("ascii" in how)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("train --seed 1", "write a setting without dashes, seed=VALUE"),
        ("bench -m seed=1,2", "'bnrepro sweep' takes several values"),
        ("train --config-name=fig1", "experiment=NAME"),
        ("train --resolve", "--cfg job"),
        ("sweep --cfg job", "bnrepro train --cfg job"),
        ("reproduce --scale full", "'full' is not one of 'smoke', 'short', 'paper'"),
    ],
)
def test_an_option_of_another_program_suggests_ours(
    line: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == 2
    [said] = capsys.readouterr().err.splitlines()
    assert told in said
    assert "Value error" not in said


@pytest.mark.parametrize("line", ["", "data"])
def test_without_a_command_there_is_help_and_no_error(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == 0
    shown = capsys.readouterr()
    assert "Usage:" in shown.out
    assert shown.err == ""


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to")],
)
def test_too_little_memory_is_no_bug(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    assert main(["train"]) == 3
    assert "not enough memory" in capsys.readouterr().err
