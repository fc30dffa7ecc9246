"""Tables on terminals of 60, 80 and 120 columns: what goes, and that no other word is torn."""

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import every_verdict
import pytest
from conftest import TINY, set_claims
from rich.console import Console

from bnrepro.cli import main
from bnrepro.report import sweep as report_sweep
from bnrepro.report import verdicts
from bnrepro.report.terminal import draw

VERDICTS = ("claim", "verdict", "effect", "interval", "margin", "runs")

Shown = Callable[..., list[str]]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shown:
    """The table that `bnrepro report` prints, line by line: into a pipe, or on a terminal."""

    def lines(folder: Path, width: int | None) -> list[str]:
        capsys.readouterr()
        with monkeypatch.context() as patch:
            if width is not None:
                patch.setenv("COLUMNS", str(width))
                patch.setattr(sys.stdout, "isatty", lambda: True)
            assert main(["report", str(folder)]) == 0
        plain = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
        return plain.partition("written:")[0].splitlines()

    return lines


def headings(lines: list[str], names: tuple[str, ...]) -> list[str]:
    """The headings there are, in a table that may need two lines for them."""
    return [name for name in names if set(name.split()) <= set(" ".join(lines[:2]).split())]


def test_verdicts_fit(shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every_verdict.plant(tmp_path)
    set_claims(monkeypatch, **every_verdict.CLAIMS)
    monkeypatch.setattr(verdicts, "svg", lambda figure, name: b"")  # pictures take a minute
    whole = shown(tmp_path, None)
    assert headings(whole, VERDICTS) == list(VERDICTS)
    for width, gone in {60: {"interval", "margin"}, 80: set(), 120: set()}.items():
        lines = shown(tmp_path, width)
        assert {*VERDICTS} - {*headings(lines, VERDICTS)} == gone
        assert max(map(len, lines)) <= width
        assert {*" ".join(lines).split()} <= {*" ".join(whole).split()}
        for name in every_verdict.CLAIMS:  # a claim, its verdict and its runs are on one line
            [row] = [line for line in lines if line.startswith(f" {name} ")]
            assert re.search(r"[A-Z]{5}.* \d+ of 20$", row.rstrip()), row


def test_a_sweep_fits(shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_sweep, "draw", lambda results: None)
    grid = ["norm=batch,none", "optimizer.lr=0.1,1000", "model.dropout=0,0.125"]
    assert main(["sweep", *TINY, *grid, f"sweep.dir={tmp_path}"]) == 0
    whole = shown(tmp_path, None)
    axes, short = ("norm", "optimizer.lr", "model.dropout"), ("norm", "lr", "dropout")
    numbers = ("state", "test accuracy", "best", "steps to .97", "seconds")
    for width, kept in {
        60: (*short, *numbers[:4]), 80: (*axes, *numbers), 120: (*axes, *numbers),
    }.items():  # fmt: skip
        lines = shown(tmp_path, width)
        assert headings(lines, (*axes, *short[1:], *numbers)) == [*kept]
        assert max(map(len, lines)) <= width
        assert {*" ".join(lines).split()} <= {*" ".join(whole).split(), *short}
        assert sum(line.startswith((" batch ", " none ")) for line in lines) == 8


def printed(width: int, *arguments: Any) -> str:
    text = io.StringIO()
    console = Console(file=text, width=width)
    console.print(draw(*arguments[:2], width, *arguments[2:]))
    return text.getvalue()


def test_the_longest_claim_and_verdict_fit_into_60_columns() -> None:
    row = ["normalization-outside-gradient", "SAME DIRECTION", "at least +0.5 correlation",
           "+0.3667 to +0.8333", "+0.1", "108 of 108"]  # fmt: skip
    text = printed(60, VERDICTS, [row], ("margin", "interval", "runs"))
    assert {*text.split()} == {*" ".join(["claim", "verdict", "effect", *row[:3]]).split()}


def test_settings_of_few_values_go_only_where_nothing_else_helps() -> None:
    names = ("optimizer.lr", "init.scale", "seed", "test accuracy", "seconds")
    row = ["0.1", "0.01", "0", "0.9 (chance)", "1.0"]
    spare = ("seconds", "seed", "init.scale")
    for width, kept in {
        52: names,
        40: ("lr", "scale", "seed", "test accuracy", "seconds"),
        28: ("lr", "scale", "seed", "test accuracy"),
        22: ("lr", "scale", "test accuracy"),
        16: ("lr", "test accuracy"),
    }.items():
        text = printed(width, names, [row], spare)
        assert headings(text.splitlines(), (*names, "lr", "scale")) == sorted(
            kept, key=(*names, "lr", "scale").index
        ), width


def test_settings_of_one_name_keep_their_groups() -> None:
    names = ("optimizer.momentum", "norm.momentum")
    assert "norm.momentum" in printed(36, names, [["0", "0.1"]])
    assert "\n momentum" not in printed(10, names, [["0", "0.1"]])


def test_rows_stay_whole_and_headings_are_not_cut_at_any_width() -> None:
    rows = [["a" * 30, "done", "0.9"], ["b" * 31, "failed", ""]]
    for width in range(24, 60):
        text = printed(width, ("run", "state", "test accuracy"), rows)
        assert "…" not in text
        lines = [line.split() for line in text.splitlines() if line[1:2] in ("a", "b")]
        states = {name[0]: state for name, state, *_ in filter(lambda line: line[1:], lines)}
        assert states == {"a": "done", "b": "failed"}
