"""`bnrepro runs` and `bnrepro compare`: what is listed, how far it is, and what differs."""

import csv
import fcntl
import io
import json
import os
import pty
import re
import signal
import struct
import termios
import time
from pathlib import Path

import forked
import pytest
from conftest import TINY

from bnrepro.cli import main
from bnrepro.report import runs as table
from bnrepro.store import StoredRun
from bnrepro.terminal import duration


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table")
    for name, words in {"b": ["norm=batch", "seed=1"], "n": ["norm=none"]}.items():
        assert main(["train", *TINY, *words, f"run.dir={folder / name}"]) == 0
    return folder


def listed(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> list[str]:
    assert main(["runs", str(folder), "--json", *words]) == 0
    return [row["run"] for row in json.loads(capsys.readouterr().out)]


def test_runs_are_chosen_by_a_setting_or_a_column(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert listed(capsys, folder) == ["b", "n"]
    assert listed(capsys, folder, "--only", "norm=none") == ["n"]
    assert listed(capsys, folder, "--only", "norm.name=batch", "--only", "state=done") == ["b"]
    assert listed(capsys, folder, "--only", "seed=1", "--only", "norm=none") == []


def test_a_choice_of_none_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(folder), "--only", "seed=7"]) == 0
    assert f"no runs ({folder}): none is seed=7" in capsys.readouterr().out
    for typed, said in {"norms=batch": "did you mean 'norm'?", "norm": "type KEY=VALUE"}.items():
        assert main(["runs", str(folder), "--only", typed]) == 2
        assert said in capsys.readouterr().err


def test_runs_are_sorted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys, folder, "--sort", "seed") == ["n", "b"]
    assert listed(capsys, folder, "--sort", "-seed") == ["b", "n"]
    assert main(["runs", str(folder), "--sort", "accuracy"]) == 2
    assert "did you mean 'test_accuracy'?" in capsys.readouterr().err


def test_runs_are_a_spreadsheet(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(folder), "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["run"], row["norm"], row["seed"]) for row in rows] == [
        ("b", "batch", "1"), ("n", "none", "0"),
    ]  # fmt: skip
    summary = StoredRun(folder / "b").summary()
    assert summary is not None
    assert float(rows[0]["test_accuracy"]) == summary["test_accuracy"]


def test_an_unfinished_run_is_as_far_as_its_metrics(folder: Path, tmp_path: Path) -> None:
    config = (folder / "n" / "config.yaml").read_text().replace("steps: 20", "steps: 1000")
    (tmp_path / "config.yaml").write_text(config)
    lines = [{"step": 0, "test_accuracy": 0.1, "seconds": 0.0},
             {"step": 100, "test_accuracy": 0.5, "seconds": 5.0},
             {"step": 200, "train_loss": 1.0, "seconds": 10.0}]  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 300, "te'
    (tmp_path / "metrics.jsonl").write_text(text)
    (tmp_path / "status.json").write_text(json.dumps({"state": "interrupted", "step": 0}))
    [row] = table.rows(tmp_path)
    assert (row["step"], row["test_accuracy"], row["seconds_left"]) == (200, 0.5, None)
    assert table._so_far(StoredRun(tmp_path), 1000)["left"] == 40


def test_a_narrow_table_has_the_columns_that_tell_runs_apart(folder: Path) -> None:
    rows = table.rows(folder)
    assert table.fitting(rows, None)[0] == table.COLUMNS
    names, shown = table.fitting(rows, 50)
    assert {"run", "state", "step", "norm", "seed"} <= set(names)
    assert not {"left", "dataset", "lr"} & set(names)  # nothing, and the same in both
    assert [row[0] for row in shown] == ["b", "n"]
    assert table.fitting(rows, 1)[0] == ("run", "state", "step", "accuracy")


def test_a_narrow_table_leaves_out_hashes_that_tell_nothing(folder: Path) -> None:
    [row, _] = table.rows(folder)
    names = [f"norm=batch_scale=0.01_seed={seed}_b3e9a7439e" for seed in (0, 1)]
    rows = [row | {"run": name, "seconds_left": 12} for name in names]
    columns, shown = table.fitting(rows, 70)
    assert [row[0] for row in shown] == [f"norm=batch_scale=0.01_seed={seed}_…" for seed in (0, 1)]
    assert {"accuracy", "left"} <= set(columns)
    assert [row[0] for row in table.fitting(rows, 200)[1]] == names
    same = ["lr=1_aaaaaaaaaa", "lr=1_bbbbbbbbbb"]
    assert table.without_hashes(same) == same


def test_a_single_runs_name_loses_its_digits_too() -> None:
    assert table.without_hashes(["112706-digits-mlp-batch-seed0-7292af"]) == [
        "112706-digits-mlp-batch-seed0-…"
    ]


def test_runs_are_watched_until_ctrl_c_in_terminals_of_any_width(folder: Path) -> None:
    for width in (60, 80, 120):
        terminal, end = pty.openpty()
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        env = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
        watching = forked.Command("runs", folder, "--watch", stdout=end, stderr=end, env=env)
        os.close(end)
        shown, until = "", time.monotonic() + 60
        while "none" not in shown and time.monotonic() < until:
            shown += os.read(terminal, 65536).decode()
        watching.send_signal(signal.SIGINT)
        assert watching.wait() == 0
        os.close(terminal)
        lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).splitlines()
        assert max(map(len, lines)) <= width
        assert any(line.split()[:1] == ["run"] and "norm" in line for line in lines), lines


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(5, "5 s"), (89, "89 s"), (150, "2 min"), (3600, "60 min"), (7500, "2 h 5 min")],
)
def test_durations_are_said_as_a_person_says_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_two_runs_are_compared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(folder / "b"), str(folder / "n")]) == 0
    out = capsys.readouterr().out
    words = [line.split() for line in out.splitlines()]
    assert ["norm.name", "batch", "none"] in words
    assert ["seed", "1", "0"] in words
    assert "train.steps" not in out  # the same in both
    assert not {"run.dir", "sweep.dir"} & {word for line in words for word in line}
    accuracies = [(StoredRun(folder / name).summary() or {})["test_accuracy"] for name in "bn"]
    assert ["test_accuracy", *(f"{a:.4f}" for a in accuracies)] in words
    assert out.count("0 to 1: ") == 2
    assert main(["compare", str(folder / "b"), str(folder / "nowhere")]) == 3
    assert main(["compare", str(folder / "b")]) == 2
    assert "give two" in capsys.readouterr().err


def test_more_than_two_runs_are_compared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *(str(folder / name) for name in "bnb")]) == 0
    words = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert words[0] == ["A", "B", "C"]
    assert ["norm.name", "batch", "none", "batch"] in words


def test_a_curve_is_drawn_in_one_line(tmp_path: Path) -> None:
    lines = [{"step": n, "test_accuracy": n / 100} for n in range(101)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    drawn = table.curve(StoredRun(tmp_path), 8)
    assert len(drawn) == 8
    assert drawn[0] == table.BARS[0]
    assert drawn[-1] == table.BARS[-1]
    assert list(drawn) == sorted(drawn)


@pytest.mark.parametrize("word", ["-m", "--multirun"])
def test_train_takes_several_values_as_hydras_users_type_them(tmp_path: Path, word: str) -> None:
    sweep = [f"sweep.dir={tmp_path / 'sweep'}", "seed=0,1"]
    assert main(["train", word, *TINY, *sweep]) == 0
    members = {StoredRun(path.parent).config()["seed"] for path in tmp_path.rglob("summary.json")}
    assert members == {0, 1}
