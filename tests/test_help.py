"""The help: whole words, examples that work, and what can be chosen."""

import shlex
from pathlib import Path

import pytest

from bnrepro import cli
from bnrepro.bench import BENCHMARKS
from bnrepro.claims import ids
from bnrepro.cli import main
from bnrepro.config import OPTIONS, choices
from bnrepro.config.compose import compose
from bnrepro.sweeps.grid import grid

COMMANDS = ("train", "sweep", "claims", "reproduce", "runs", "tensorboard", "report", "bench",
            "data list", "data fetch", "data import", "data verify")  # fmt: skip


def shown(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main([*line.split(), "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", ["40", "60", "80", "200"])
def test_no_word_of_the_help_is_cut(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for command in ("", *COMMANDS):
        help_ = shown(command, capsys)
        assert help_.startswith(f"Usage: bnrepro {command}".rstrip())
        for word in help_.replace("…)", "").split():
            assert not word.endswith("…") or word == "…", (command, word)
    assert "]...]..." not in shown("train", capsys)
    words = shown("reproduce", capsys).split()
    assert {"smoke|short|paper>", "hydra/launcher=submitit_slurm"} & set(words)
    assert "hydra.launcher.partition=gpu" in words


def test_no_line_of_the_list_of_commands_is_cut(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for line in shown("", capsys).partition("Commands:")[2].splitlines():
        assert not line or (line.endswith(".") and not line.endswith("...")), line


def test_examples_work(capsys: pytest.CaptureFixture[str]) -> None:
    for command, examples in cli.EXAMPLES.items():
        for example in examples:
            assert example == f"bnrepro {command}" or example.startswith(f"bnrepro {command} ")
            words = shlex.split(example.removeprefix(f"bnrepro {command}"))
            settings = [word for word in words if "=" in word]
            names = [word for word in words if "=" not in word]
            if command == "train":
                compose(settings)
            elif command == "sweep":
                assert len(grid(settings)) > 1
            elif command == "bench":
                assert set(names) <= set(BENCHMARKS)
            elif command != "reproduce":
                options = [word for word in words if word.startswith("-") and word[1] != "t"]
                described = shown(command, capsys)
                assert all(option in described for option in options)
            else:
                known = {"--scale", *(scale.value for scale in cli.ScaleName), *ids()}
                assert set(names) <= known


def test_the_help_lists_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("train", "sweep"):
        listed = shown(command, capsys).replace("\n", " ")
        for group in (*OPTIONS, "experiment"):
            assert all(option in listed for option in choices()[group])
    assert set(cli.BENCHMARKS) == set(BENCHMARKS)


@pytest.mark.parametrize(
    ("claim", "told"),
    [
        ("fig1", "Fig. 1 is in faster-training, stable-distributions"),
        ("Figure 1", "faster-training"),
        ("fig99", "unknown claim 'fig99' ('bnrepro claims' lists all)"),
        ("faster_training", "did you mean 'faster-training'? ('bnrepro claims' lists all)"),
    ],
)
def test_a_claim_can_be_named_by_its_figure(
    claim: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reproduce", claim]) == 2
    assert told in capsys.readouterr().err


def test_a_tilde_is_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BNREPRO_DATA", "~/d")
    for line in ("runs ~/x", "report ~/x", "tensorboard ~/x", "train --config-dir=~/x",
                 "data list --root=~/x", "data list"):  # fmt: skip
        assert main(line.split()) in (2, 3)
        assert f"({tmp_path / 'home'}/" in capsys.readouterr().err, line
