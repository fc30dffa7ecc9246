"""Grids: what a sweep is asked to go over, and the members it has."""

import os
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY

from bnrepro import config as c
from bnrepro.cli import main
from bnrepro.config.compose import compose
from bnrepro.errors import ConfigError
from bnrepro.sweeps.grid import NAME_LENGTH, Grid, folder_name, grid


def names(asked: Grid) -> list[str]:
    return [member.name for member in asked.members()]


@pytest.mark.parametrize(
    ("words", "axes"),
    [
        (["seed=0,1", "norm=batch,none"], {"seed": ["0", "1"], "norm": ["batch", "none"]}),
        (["seed=range(0,3)"], {"seed": ["0", "1", "2"]}),
        (["seed=choice(4,5)", "optimizer.lr=1"], {"seed": ["4", "5"]}),
        (["norm=glob([b*,no*],exclude=[noisy])"], {"norm": ["batch", "none"]}),
        (["model.hidden=[5],[5,6]"], {"model.hidden": ["[5]", "[5,6]"]}),
        (["experiment=fig1,digits"], {"experiment": ["fig1", "digits"]}),
        (["seed=1,1,2"], {"seed": ["1", "2"]}),
        (["tags=[a],['b c']"], {"tags": ["[a]", "['b c']"]}),
        # An override replaces those of its key before it, as in Hydra and in `train`.
        (["optimizer.lr=0.1", "optimizer.lr=0.2,0.3"], {"optimizer.lr": ["0.2", "0.3"]}),
        (["optimizer.lr=0.2,0.3", "optimizer.lr=0.1", "seed=0,1"], {"seed": ["0", "1"]}),
        (["optimizer.lr=0.2,0.3", "++optimizer.lr=0.1", "seed=0,1"], {"seed": ["0", "1"]}),
        (["seed=1,2", "seed=3,4"], {"seed": ["3", "4"]}),
        (["norm=none", "norm=batch,none"], {"norm": ["batch", "none"]}),
        (["norm=batch,none", "norm=none", "seed=0,1"], {"seed": ["0", "1"]}),
        (["experiment=fig1", "experiment=digits,fig1"], {"experiment": ["digits", "fig1"]}),
    ],
)
def test_the_whole_sweep_syntax(words: list[str], axes: dict[str, list[str]]) -> None:
    assert grid(words).axes == axes


def test_members_are_composed_as_if_each_was_typed() -> None:
    words = ["dataset=digits", "norm=batch,none", "optimizer=sgd,adam", "optimizer.lr=0.1,1",
             "model.hidden=[3],[4,5]", "experiment=digits,high-lr"]  # fmt: skip
    found = grid(words).members()
    assert len(found) == 32
    assert len({member.name for member in found}) == 32
    for member in found[::5]:
        typed = compose(["dataset=digits", *member.overrides]).config
        assert member.config == c.to_dict(typed)


def test_the_last_override_of_a_key_wins_in_every_member() -> None:
    words = ["optimizer.lr=1,2", "optimizer.momentum=0.5,0.9", "optimizer={lr: 3}", "seed=4"]
    [one, other] = grid(words).members()
    assert [m.config["optimizer"]["lr"] for m in (one, other)] == [3, 3]
    assert [m.config["optimizer"]["momentum"] for m in (one, other)] == [0.5, 0.9]
    settings = ["norm={eps: 0.5},{eps: 0.25}", "norm.eps=1"]
    assert [m.config["norm"]["eps"] for m in grid(settings).members()] == [1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["seed=range(0,1000000000)"], "1,000,000,000 members"),
        (["seed=range(0,inf)"], "endlessly many members"),
        (["seed=range(0,nan)"], "endlessly many members"),
        (["optimizer.lr=range(0,1,1e-9)"], "1,000,000,000 members"),
        (["seed=range(0,1000)", "optimizer.lr=range(1,1001)"], "1,000,000 members"),
        (["seed=choice(" + "7," * 100_000 + "7)"], "10,000"),
    ],
)
def test_members_are_counted_before_they_are_listed(
    monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    def listed(override: Any) -> list[str]:
        raise AssertionError("listed before counted")

    monkeypatch.setattr("bnrepro.sweeps.grid._values", listed)
    with pytest.raises(ConfigError, match=told):
        grid(words)


@pytest.mark.parametrize(
    "word",
    ["threads=1:30", "threads=[1,2]", "sweep.dir=[1]", "sweep.dir={a:1}", "run=3", "sweep=null",
     "run.overwrite=1e400", "hydra.sweeper.params=3"],
)  # fmt: skip
def test_settings_of_the_sweep_itself_are_checked(word: str) -> None:
    with pytest.raises(ConfigError, match=r"text|type|Cannot assign"):
        grid([*TINY, "seed=0,1", word]).members()


def test_names_tell_what_differs_and_are_the_same_in_every_sweep() -> None:
    a = names(grid([*TINY, "seed=0,1", "optimizer.lr=0.1,1"]))
    b = names(grid([*TINY, "seed=1,2", "optimizer.lr=0.1,1", "tags=[other]"]))
    assert a[0].startswith("seed=0_lr=0.1_")
    assert set(a) & set(b) == {name for name in a if name.startswith("seed=1")}
    odd = names(grid(["tags=['a/b'],['../..'],['\N{SNOWMAN} \\n']", "seed=3,4"]))
    assert all(Path(name).name == name and name.isascii() and name.isprintable() for name in odd)
    long = names(grid(["model.hidden=[" + ",".join(["7"] * 500) + "],[1,2]", "seed=5"]))
    assert all(len(name) <= NAME_LENGTH + 11 for name in long)
    assert long[1].startswith("hidden=1-2_")


def test_a_setting_that_has_no_room_is_left_out_of_a_name_whole() -> None:
    chosen = {"norm.name": "batch", "model.hidden": f"[{'100, ' * 20}]", "optimizer.lr": "0.1"}
    name, _, digest = folder_name(chosen, {}).rpartition("_")
    assert (name, len(digest)) == ("name=batch_lr=0.1", 10)


def test_tags_make_no_member(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(grid(["tags=[a],[b]", "seed=1"]).members()) == 1
    monkeypatch.setattr("bnrepro.sweeps.launchers.run", lambda *arguments: None)
    main(["sweep", *TINY, "tags=[a],[b]", "seed=0,0,0", f"sweep.dir={tmp_path}"])
    assert "6 members asked for, 1 different" in capsys.readouterr().out


def test_an_experiment_may_name_the_axes_of_its_sweep(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    path = tmp_path / "experiment" / "mine.yaml"
    path.write_text(
        "# @package _global_\nhydra:\n  sweeper:\n    params:\n"
        "      seed: range(0,3)\n      norm: batch,none\n"
    )
    assert len(grid(["experiment=mine"], tmp_path)) == 6
    asked = grid(["experiment=mine", "seed=7,8"], tmp_path)
    assert asked.axes == {"seed": ["7", "8"], "norm": ["batch", "none"]}
    assert grid(["experiment=mine", "seed=7"], tmp_path).axes == {"norm": ["batch", "none"]}
    asked = grid(["experiment=mine", "seed=7", "seed=8,9", "norm=none"], tmp_path)
    assert asked.axes == {"seed": ["8", "9"]}
    with pytest.raises(ConfigError, match="give that experiment alone"):
        grid(["experiment=mine,fig1"], tmp_path)
    path.write_text(path.read_text().replace("seed:", "hydra.verbose:"))
    with pytest.raises(ConfigError, match=r"cannot vary 'hydra\.verbose'"):
        grid(["experiment=mine"], tmp_path)
    for params, told in {
        "experiment: fig1,digits": "varies 'experiment'",
        "optimizer: {lr: '1,2'}": r"settings below 'optimizer'.*optimizer\.lr: 1,2",
        "+optimizer.lr: 1,2": r"optimizer\.lr=1 \(hydra\.sweeper\.params of the experiment\)",
        "seed: '[1'": r"^hydra\.sweeper\.params of the experiment: ",
    }.items():
        path.write_text(f"# @package _global_\nhydra:\n  sweeper:\n    params:\n      {params}\n")
        with pytest.raises(ConfigError, match=told):
            grid(["experiment=mine"], tmp_path).members()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["seed=1"], "nothing to sweep"),
        (["optimizer.lr=interval(0,1)"], "not a grid"),
        (["optimizer.lr=0.1,-1"], "optimizer.lr=-1: bad value"),
        (["optimzer.lr=1,2"], "did you mean 'optimizer'"),
        (["seed=0,1", "sweep.dir=a,b"], "cannot vary 'sweep.dir'"),
        (["norm=batch,nine"], "unknown option of norm 'nine'"),
        (["norm=batch,none", "norm.eps=1e-3,1"], "no setting 'norm.eps'"),
        (["seed=0,1", "hydra/launcher=nope"], "unknown option of hydra/launcher 'nope'"),
        (["seed=0,1", "threads=64", "hydra/launcher=joblib"], "threads"),
        (["norm=glob(zzz*)"], "nothing matches (norm=glob(zzz*))"),
        (["seed=range(3,0)"], "nothing matches (seed=range(3,0))"),
        (["seed=range(0,3,0)"], "a range needs a step"),
        (["norm={eps: 1},{eps: 2}", "norm=batch,torch"], "two lists for one key"),
    ],
)
def test_bad_overrides_are_refused_before_anything_runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", *words]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert len(said.splitlines()) == 1
    assert not list(tmp_path.rglob("metrics.jsonl"))


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    assert main(["sweep", "seed=0,1", f"sweep.dir={tmp_path}"]) == 2
    assert os.listdir(tmp_path) == ["thesis.txt"]
