"""Sweeps: what is asked, what runs, what is left when members fail, and what is drawn of it."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest
import yaml
from alike import rows
from conftest import TINY, Command, wait_for
from rich.console import Console

from bnrepro import launch, members, sweepfolder
from bnrepro import sweep as sweeps
from bnrepro.cli import main
from bnrepro.errors import ConfigError, StorageError
from bnrepro.grid import Grid, grid
from bnrepro.report import sweep as report
from bnrepro.store import StoredRun
from bnrepro.sweepfolder import COLUMNS, Results

FAULTY = Path(__file__).with_name("faulty")


def names(asked: Grid) -> list[str]:
    return [member.name for member in asked.members()]


# What is asked


@pytest.mark.parametrize(
    ("words", "axes"),
    [
        (["seed=0,1", "norm=batch,none"], {"seed": ["0", "1"], "norm": ["batch", "none"]}),
        (["seed=range(0,3)"], {"seed": ["0", "1", "2"]}),
        (["seed=choice(4,5)", "optimizer.lr=1"], {"seed": ["4", "5"]}),
        (["norm=glob(*,exclude=[t*,d*])"], {"norm": ["batch", "none"]}),
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
        typed = launch.compose(["dataset=digits", *member.overrides]).config
        assert member.config == launch.to_dict(typed)


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

    monkeypatch.setattr("bnrepro.grid._values", listed)
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
    long = names(grid(["model.hidden=[" + ",".join(["7"] * 500) + "],[1]"]))
    assert all(len(name) < 100 for name in long)


def test_tags_make_no_member(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(grid(["tags=[a],[b]", "seed=1"]).members()) == 1
    monkeypatch.setattr("bnrepro.engines.run", lambda *arguments: None)
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
    with pytest.raises(ConfigError, match=r"cannot go over 'hydra\.verbose'"):
        grid(["experiment=mine"], tmp_path)
    for params, told in {
        "experiment: fig1,digits": "goes over 'experiment'",
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
        (["seed=1"], "nothing to go over"),
        (["optimizer.lr=interval(0,1)"], "no grid"),
        (["optimizer.lr=0.1,-1"], "optimizer.lr=-1: bad value"),
        (["optimzer.lr=1,2"], "did you mean 'optimizer'"),
        (["seed=0,1", "sweep.dir=a,b"], "cannot go over 'sweep.dir'"),
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


# What runs


def test_a_long_temporary_folder_leaves_room_for_the_name_of_a_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert members.SOCKET_FOLDER_BYTES + len("/pymp-12345678/listener-12345678") <= 107
    for folder, used in (("/t" * 50, "/tmp"), ("/short", "/short")):
        monkeypatch.setattr(tempfile, "tempdir", folder)
        with members._short_temporary_folder():
            assert tempfile.gettempdir() == used
        assert tempfile.gettempdir() == folder


@pytest.mark.reliability
def test_a_grid_is_the_same_with_either_launcher_and_a_finished_one_runs_nothing(
    tmp_path: Path, command: Command
) -> None:
    words = [*TINY, "seed=range(0,3)", "norm=batch,none", "optimizer.lr=0.1,1"]
    done = command("sweep", *words)
    assert done.returncode == 0, done.stderr
    [folder] = (tmp_path / "outputs").iterdir()  # named after the sweep, to be found again
    assert "12/12 done" in done.stdout
    asked = yaml.safe_load((folder / "sweep.yaml").read_text())
    assert asked["command"] == ["sweep", *words]
    assert asked["axes"]["optimizer.lr"] == ["0.1", "1"]
    assert asked["members"] == len(rows(folder)) == 12
    for row in rows(folder):
        run = StoredRun(folder / row["member"])
        assert row["state"] == run.summary()["status"] == "done"
        assert float(row["test_accuracy"]) == run.summary()["test_accuracy"]
        assert run.config()["optimizer"]["lr"] == float(row["optimizer.lr"])
        assert run.config()["threads"] == run.manifest()["threads"] == 1
        assert (run.folder / ".hydra" / "overrides.yaml").is_file()
    elsewhere = tmp_path / "by joblib"
    words_ = [*words, "hydra/launcher=joblib", f"sweep.dir='{elsewhere}'"]
    other = command("sweep", *words_)
    assert other.returncode == 0, other.stderr
    assert rows(elsewhere) == rows(folder)
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/summary.json")}
    assert command("sweep", *words).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*/summary.json")} == before
    more = command("sweep", *words[:-1], "optimizer.lr=0.1,1,3", f"sweep.dir={folder}")
    assert "12 of them before" in more.stdout
    assert len(rows(folder)) == 18
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_variable_of_the_environment_that_changes_makes_other_members(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnrepro.engines.run", lambda *arguments: None)

    def members_with(seed: int, rate: float) -> list[tuple[int, float]]:
        monkeypatch.setenv("SEED", str(seed))
        monkeypatch.setenv("RATE", str(rate))
        words = ["optimizer.lr=${oc.env:RATE}", "seed=${oc.env:SEED},5",
                 f"sweep.dir={tmp_path / 'sweep'}"]  # fmt: skip
        sweeps.run(words, None, tmp_path, Console(quiet=True))
        digest = yaml.safe_load((tmp_path / "sweep" / "sweep.yaml").read_text())["digest"]
        found = sweepfolder.read_members(tmp_path / "sweep", digest)
        return [(m.config["seed"], m.config["optimizer"]["lr"]) for m in found]

    assert members_with(1, 0.1) == [(1, 0.1), (5, 0.1)]
    assert members_with(2, 0.1) == [(2, 0.1), (5, 0.1)]
    assert members_with(2, 0.3) == [(2, 0.3), (5, 0.3)]


def test_members_are_composed_once_while_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnrepro.engines.run", lambda *arguments: None)
    composed = []
    compose = Grid.members
    monkeypatch.setattr(Grid, "members", lambda *a: composed.append(1) or compose(*a))
    words = [*TINY, "seed=0,1", f"sweep.dir={tmp_path / 'sweep'}"]
    for more in ([], [], ["train.steps=30"], ["train.steps=30"]):
        sweeps.run([*words, *more], None, tmp_path, Console(quiet=True))
    assert len(composed) == 2
    [path] = (tmp_path / "sweep" / ".sweep").glob(f"members-{digest_of(tmp_path / 'sweep')[:10]}*")
    path.write_bytes(path.read_bytes().replace(b"30", b"31"))  # damaged
    sweeps.run([*words, "train.steps=30"], None, tmp_path, Console(quiet=True))
    assert len(composed) == 3


def digest_of(folder: Path) -> str:
    return str(yaml.safe_load((folder / "sweep.yaml").read_text())["digest"])


def test_a_member_is_read_without_the_others(tmp_path: Path) -> None:
    def member(number: int) -> sweepfolder.Member:
        return sweepfolder.Member(f"é{number}", (f"seed={number}",), {"seed": number}, {"x": "y"})

    for count in (1, 100, 2000):
        members = [member(number) for number in range(count)]
        digest = sweepfolder.write_members(tmp_path, members)
        assert sweepfolder.read_members(tmp_path, digest) == members
        asked = sorted({0, count // 2, count - 1})
        found = sweepfolder.read_some(tmp_path, digest, asked)
        assert found == [members[index] for index in asked]
        with pytest.raises(StorageError, match="not a whole sweep"):
            sweepfolder.read_some(tmp_path, digest, [count])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="only Linux counts bytes read")
def test_the_cost_of_a_member_does_not_grow_with_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Process:
        exitcode = 0

        def __init__(self, **of: Any) -> None:
            pass

        def start(self) -> None:
            pass

        close = start

    class Server:
        pass

    Server.Process = Process  # type: ignore[attr-defined]
    monkeypatch.setattr(members, "_server", Server)
    monkeypatch.setattr(members, "_note", lambda *arguments: None)

    def bytes_read() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    def cost(count: int) -> int:
        [one] = grid([*TINY, "seed=0"]).members()
        sweep = tmp_path / str(count)
        every = [replace(one, name=f"{number:05}") for number in range(count)]
        digest = sweepfolder.write_members(sweep, every)
        before = bytes_read()
        for index in range(0, count, count // 100):
            members.supervise(sweep, digest, [index], lambda: False)
        return (bytes_read() - before) // 100

    assert cost(2000) == pytest.approx(cost(100), rel=0.1)


def test_finished_runs_of_another_grid_are_reported_and_their_table_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def typed(seeds: str) -> tuple[list[str], str]:
        assert main(["sweep", *TINY, f"seed={seeds}", f"sweep.dir={tmp_path}"]) == 0
        return [row["seed"] for row in rows(tmp_path)], capsys.readouterr().out

    assert "not of this grid" not in typed("0,1")[1]
    table = (tmp_path / "results.csv").read_text()
    kept = tmp_path / f"results-{digest_of(tmp_path)[:10]}.csv"
    seeds, said = typed("1,2")
    assert seeds == ["1", "2"]
    assert "1 finished run in this folder not of this grid" in said
    assert kept.name in said
    assert kept.read_text() == table
    seeds, said = typed("0,1,2")
    assert seeds == ["0", "1", "2"]
    assert "not of this grid" not in said
    seeds, _ = typed("0,1")
    assert seeds == ["0", "1"]
    assert not kept.exists()


def test_overwriting_a_finished_sweep_runs_it_again(tmp_path: Path) -> None:
    words = [*TINY, "seed=0,1", f"sweep.dir={tmp_path}"]

    def sweep(*more: str) -> dict[Path, int]:
        assert main(["sweep", *words, *more]) == 0
        return {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/summary.json")}

    first = sweep()
    again = sweep("run.overwrite=true")
    assert first.keys() == again.keys()
    assert all(again[path] > first[path] for path in first)
    assert sweep() == again


@pytest.mark.reliability
def test_failed_members_leave_the_others_alone_and_are_rerun(
    tmp_path: Path, command: Command
) -> None:
    ways = {"1": "raise", "2": "exit", "3": "exit at once", "4": "kill", "5": "memory"}
    path = os.pathsep.join(filter(None, [str(FAULTY), os.environ.get("PYTHONPATH")]))
    faulty = {**os.environ, "PYTHONPATH": path, "FAULTY_SEEDS": json.dumps(ways)}
    words = [*TINY, "seed=range(0,8)", "sweep.dir=sweep"]
    done = command("sweep", *words, env=faulty)
    assert done.returncode == 1, done.stderr
    folder = tmp_path / "sweep"
    states = {row["seed"]: row["state"] for row in rows(folder)}
    assert [seed for seed, state in states.items() if state == "failed"] == list(ways)
    assert [seed for seed, state in states.items() if state == "done"] == ["0", "6", "7"]
    *listed, last = done.stderr.strip().splitlines()
    assert last.startswith("bnrepro: error: 5 of 8 members failed")
    reasons = ["made to fail", "exit code 9", "exit code 9", "killed by SIGKILL", "MemoryError"]
    for line, seed, reason in zip(listed, ways, reasons, strict=True):
        assert f"seed={seed}" in line
        assert reason in line
    [raised] = folder.glob("seed=1_*/train.log")
    assert "RuntimeError: made to fail" in raised.read_text()
    assert "Traceback" in raised.read_text()
    drawn = command("report", "sweep")
    assert "INCOMPLETE (3 of 8)" in drawn.stdout
    again = command("sweep", *words)
    assert again.returncode == 0, again.stderr
    assert "3 of them before" in again.stdout
    assert {row["state"] for row in rows(folder)} == {"done"}


@pytest.mark.reliability
@pytest.mark.parametrize("launcher", ["basic", "joblib", "submitit_local"])
def test_a_signal_keeps_the_state_of_every_member_and_the_sweep_resumes(
    tmp_path: Path, launcher: str
) -> None:
    words = ["dataset=digits", "seed=0,1", "train.steps=3000", "train.eval_every=1500",
             "model.hidden=[10]", "tensorboard=false", f"sweep.dir={tmp_path / 'sweep'}",
             f"hydra/launcher={launcher}"]  # fmt: skip
    process = forked.Command("sweep", *words)
    wait_for(lambda: any((tmp_path / "sweep").glob("*/metrics.jsonl")))
    os.killpg(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143, said
    assert f"sweep.dir={tmp_path / 'sweep'} goes on" in said
    wait_for(lambda: not any(s["state"] == "running" for s in states(tmp_path / "sweep")))
    assert any(status["state"] == "interrupted" for status in states(tmp_path / "sweep"))
    assert forked.run("sweep", *words).returncode == 0
    assert {row["state"] for row in rows(tmp_path / "sweep")} == {"done"}


@pytest.mark.reliability
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_nothing_outlives_a_sweep_that_is_killed(tmp_path: Path, launcher: str) -> None:
    words = ["dataset=digits", "seed=range(0,4)", "train.steps=1000000", "model.hidden=[10]",
             "tensorboard=false", f"hydra/launcher={launcher}",
             f"sweep.dir={tmp_path / 'sweep'}"]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "bnrepro", "sweep", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "MARK": str(tmp_path)},
    )
    wait_for(lambda: any((tmp_path / "sweep").glob("*/metrics.jsonl")))
    assert len(marked(tmp_path)) > 3  # the sweep, launcher's processes, fork servers, members
    process.kill()
    process.wait()
    wait_for(lambda: not marked(tmp_path))
    assert {status["state"] for status in states(tmp_path / "sweep")} == {"interrupted"}


def marked(mark: Path) -> list[str]:
    """Processes that were started with this mark in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"MARK={mark}".encode() in path.read_bytes().split(b"\0"):
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def states(folder: Path) -> list[dict[str, Any]]:
    return [StoredRun(path.parent).status() for path in folder.glob("*/status.json")]


@pytest.mark.reliability
def test_a_file_edited_during_a_sweep_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    mine = tmp_path / "own" / "experiment" / "mine.yaml"
    mine.write_text("# @package _global_\nmodel:\n  hidden: [10]\n")
    folder = tmp_path / "sweep"
    words = [*(w for w in TINY if "hidden" not in w), "experiment=mine", "seed=range(0,4)"]
    own = ("--config-dir", tmp_path / "own")
    process = forked.Command("sweep", *words, f"sweep.dir={folder}", *own)
    wait_for(lambda: (folder / "sweep.yaml").exists())
    mine.write_text("# @package _global_\nmodel:\n  hidden: [3, 3]\n")
    assert process.wait() == 0
    for row in rows(folder):
        assert StoredRun(folder / row["member"]).config()["model"]["hidden"] == [10]


@pytest.mark.reliability
def test_a_member_waits_for_another_process_that_runs_it(tmp_path: Path) -> None:
    words = [*TINY, "seed=0,1", f"sweep.dir={tmp_path / 'sweep'}"]
    both = [forked.Command("sweep", *words) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    for row in rows(tmp_path / "sweep"):
        steps = [line["step"] for line in StoredRun(tmp_path / "sweep" / row["member"]).metrics()]
        assert steps == sorted(set(steps))


def test_runs_lists_members(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", *TINY, "seed=0,1", f"sweep.dir={tmp_path / 's'}"]) == 0
    capsys.readouterr()
    assert main(["runs", str(tmp_path / "s"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["state"] for row in found] == ["done", "done"]
    assert [row["seed"] for row in found] == [0, 1]


# What is drawn


def results(folder: Path, axes: dict[str, list[Any]], state: str = "done") -> Results:
    import itertools

    found = []
    for number, values in enumerate(itertools.product(*axes.values())):
        row: dict[str, Any] = dict.fromkeys(COLUMNS)
        row |= {"state": state, "test_accuracy": 0.5 + number / 1000, "steps": 100, "chance": 0.1}
        found.append({"member": str(number), **dict(zip(axes, values, strict=True)), **row})
    return Results(folder, axes, found)


LR = {"optimizer.lr": [0.1, 1.0, 10.0]}
SCALE = {"init.scale": [0.01, 1.0]}
NORM = {"norm": ["batch", "none"]}
SEED = {"seed": [0, 1, 2]}


@pytest.mark.parametrize(
    ("axes", "panels", "lines"),
    [
        ({**LR, **SCALE}, 2, 0),  # one map and its scale of colours
        ({**SEED, **NORM, **LR, **SCALE}, 3, 0),
        ({**LR, **SCALE, "train.batch_size": [10, 60]}, 3, 0),
        ({**LR, **SEED}, 1, 1),
        ({**NORM, **LR, **SEED}, 1, 2),
        ({"norm": ["batch", "none"], "init": ["he", "xavier"]}, None, None),
        ({"experiment": list("abcdef"), **LR}, None, None),
    ],
)
def test_the_figure_fits_the_axes(
    tmp_path: Path, axes: dict[str, list[Any]], panels: int | None, lines: int | None
) -> None:
    figure = report.draw(results(tmp_path, axes))
    if panels is None:
        assert figure is None
        return
    assert figure is not None
    assert len(figure.axes) == panels
    assert len(figure.axes[0].lines) == lines


def test_a_heat_map_shows_means_and_diverged_runs(tmp_path: Path) -> None:
    table = results(tmp_path, {**LR, **SCALE, **SEED})
    for row in table.rows:
        row["test_accuracy"] = 0.25 if row["seed"] else 0.75
        if row["optimizer.lr"] == 10.0 and row["seed"] != 1:
            row |= {"state": "diverged", "test_accuracy": None}
    figure = report.draw(table)
    assert figure is not None
    said = [text.get_text() for text in figure.axes[0].texts]
    assert said.count("0.417") == 4
    assert said.count("0.150\n2/3 div.") == 2  # (.1 + .1 + .25) / 3: a diverged run guesses


def diverged_at_the_largest_rate(row: dict[str, Any]) -> None:
    if row["optimizer.lr"] == 10.0 and row["seed"] != 1:
        row |= {"state": "diverged", "test_accuracy": None}


@pytest.mark.parametrize("side", [{}, NORM])
def test_a_curve_counts_a_diverged_run_as_guessing_and_says_how_many_diverged(
    tmp_path: Path, side: dict[str, list[Any]]
) -> None:
    table = results(tmp_path, {**side, **LR, **SEED})
    for row in table.rows:
        row["test_accuracy"] = 0.7
        diverged_at_the_largest_rate(row)
    figure = report.draw(table)
    assert figure is not None
    [axes] = figure.axes
    for line in axes.lines:
        np.testing.assert_allclose(line.get_ydata(), [0.7, 0.7, 0.3])  # (.1 + .7 + .1) / 3
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(0.1)
    assert [text.get_text() for text in axes.texts] == ["2/3\ndiverged"] * len(axes.lines)
    legend = axes.get_legend()
    assert legend is not None
    assert all("2/9 diverged" in text.get_text() for text in legend.get_texts())
    assert "a diverged run counts as guessing" in axes.get_title()


def test_a_curve_over_training_counts_a_diverged_run_as_guessing(tmp_path: Path) -> None:
    table = results(tmp_path, {**NORM, "seed": [0, 1]})
    for row in table.rows:
        lines = [{"step": step, "test_accuracy": 0.5 + step / 100} for step in (0, 10, 20)]
        if row["norm"] == "none" and row["seed"] == 1:
            row |= {"state": "diverged", "test_accuracy": None}
            del lines[1:]
        folder = tmp_path / row["member"]
        folder.mkdir()
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "metrics.jsonl").write_text(text)
    figure = report.draw(table)
    assert figure is not None
    [axes] = figure.axes
    batch, none = (line.get_ydata() for line in axes.lines)
    np.testing.assert_allclose(batch, [0.5, 0.6, 0.7])
    np.testing.assert_allclose(none, [0.5, 0.35, 0.4])
    legend = axes.get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["norm = batch", "norm = none; 1/2 diverged"]
    assert [text.get_text() for text in axes.texts] == ["1/2\ndiverged"]
    (tmp_path / "2" / "metrics.jsonl").write_text('{"step": 0, "test_accuracy": 0.2}\n')
    table.rows[2] |= {"state": "diverged", "test_accuracy": None}
    figure = report.draw(table)
    assert figure is not None
    none = figure.axes[0].lines[1].get_ydata()  # both diverged: it guesses up to the end
    np.testing.assert_allclose(none, [0.35, 0.1, 0.1])


def test_the_table_marks_members_at_chance(tmp_path: Path) -> None:
    table = results(tmp_path, {"optimizer.lr": [0.1, 1.0, 10.0]})
    for row, final in zip(table.rows, (0.9, 0.1135, 0.098), strict=True):
        row["test_accuracy"] = final
    report.render(table, tmp_path / "out")
    text = (tmp_path / "out" / "sweep.md").read_text()
    assert [line.split("|")[3].strip() for line in text.splitlines() if "| done |" in line] == [
        "0.9000", "0.1135 (chance)", "0.0980 (chance)",
    ]  # fmt: skip
    _, lines = sweeps.cells(table, 3)
    assert [line[2] for line in lines] == ["0.9000", "0.1135 (chance)", "0.0980 (chance)"]


def test_a_report_is_the_same_every_time(tmp_path: Path) -> None:
    assert main(["sweep", *TINY, "seed=0,1", "norm=batch,none", f"sweep.dir={tmp_path}"]) == 0
    found = sweepfolder.read(tmp_path)
    for name in "ab":
        paths = report.render(found, tmp_path / name)
        assert [path.name for path in paths] == ["sweep.md", "sweep.png", "results.csv"]
    assert "4 members: 4 done" in (tmp_path / "a" / "sweep.md").read_text()
    for path in paths:
        assert (tmp_path / "a" / path.name).read_bytes() == path.read_bytes()


def test_a_report_elsewhere_is_whole_and_leaves_the_sweep_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, out = tmp_path / "sweep", tmp_path / "out"
    assert main(["sweep", *TINY, "norm=batch,none", f"sweep.dir={sweep}"]) == 0
    before = {path: path.stat().st_mtime_ns for path in sweep.rglob("*")}
    capsys.readouterr()
    assert main(["report", str(sweep), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert f"written: {out}/sweep.md {out}/sweep.png {out}/results.csv" in told
    assert "test accuracy" in told
    assert (out / "results.csv").read_bytes() == (sweep / "results.csv").read_bytes()
    assert {path: path.stat().st_mtime_ns for path in sweep.rglob("*")} == before


def test_no_value_of_an_axis_is_markup(tmp_path: Path) -> None:
    table = results(tmp_path, {"tags": ["<script>alert(1)</script>", "a|b"]})
    report.render(table, tmp_path)
    text = (tmp_path / "sweep.md").read_text()
    assert r"| \<script\>alert(1)\</script\> |" in text
    assert r"| a\|b |" in text


def test_a_text_that_a_spreadsheet_would_run_is_quoted(tmp_path: Path) -> None:
    texts = ["=1+1", "-x", "-2+3", "+1", "@a", "-.5e3", "-1"]
    table = results(tmp_path, {"tags": texts, "optimizer.lr": [-1.0]})
    sweepfolder.write(table)
    told = ["'=1+1", "'-x", "'-2+3", "+1", "'@a", "-.5e3", "-1"]
    assert [row["tags"] for row in rows(tmp_path)] == told
    assert {row["optimizer.lr"] for row in rows(tmp_path)} == {"-1.0"}


def test_damaged_members_hide_no_other_and_a_rerun_mends_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage = {"summary.json": "", "config.yaml": "a: [\n", "metrics.jsonl": "", "status.json": ""}
    line = ["sweep", *TINY, "seed=0,1,2,3,4", f"sweep.dir={tmp_path}"]
    assert main(line) == 0
    whole = rows(tmp_path)
    for row, (file, content) in zip(whole, damage.items(), strict=False):
        (tmp_path / row["member"] / file).write_text(content)
    assert main(["report", str(tmp_path)]) == 0
    found = rows(tmp_path)
    empty = dict.fromkeys(whole[0], "")
    for before, after in zip(whole[:3], found, strict=False):
        told = {"member": before["member"], "seed": before["seed"], "state": "unreadable"}
        assert after == {**empty, **told}
    assert found[3:] == whole[3:]  # of a damaged status the summary tells
    capsys.readouterr()
    assert main(["runs", str(tmp_path), "--json"]) == 0
    listed = {row["run"]: row for row in json.loads(capsys.readouterr().out)}
    for row, file in zip(whole[:3], damage, strict=False):
        assert listed[row["member"]]["state"] == "unreadable"
        assert file in listed[row["member"]]["error"]
    assert [listed[row["member"]]["state"] for row in whole[3:]] == ["done", "done"]
    assert main(line) == 0
    assert rows(tmp_path) == whole


def test_a_damaged_sweep_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sweep.yaml").write_text("digest: x\n")
    assert main(["report", str(tmp_path)]) == 3
    assert "type the sweep again" in capsys.readouterr().err


def test_the_fork_server_loads_what_exists() -> None:
    import importlib.util

    found: Iterable[str] = [name for name in members.PRELOADED if importlib.util.find_spec(name)]
    assert tuple(found) == members.PRELOADED
