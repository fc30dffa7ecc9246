"""Sweeps: what runs, and what is left when members fail."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import forked
import pytest
import yaml
from alike import rows
from conftest import TINY, Command, wait_for
from rich.console import Console

from bnrepro.cli import main
from bnrepro.errors import StorageError
from bnrepro.store import StoredRun
from bnrepro.store import sweep as sweepfolder
from bnrepro.sweeps import launchers
from bnrepro.sweeps import sweep as sweeps
from bnrepro.sweeps import worker as members
from bnrepro.sweeps.grid import Grid, grid
from bnrepro.sweeps.launchers import LauncherChoice
from bnrepro.training.signals import StopSignals

FAULTY = Path(__file__).with_name("faulty")
LAUNCHERS = ("basic", "joblib", "submitit_local")


def test_members_supervised_side_by_side_each_have_their_own_exit_code() -> None:
    def ended(code: int) -> int | None:
        with members._processes:
            process = members._start(partial(sys.exit, code), f"exits {code}")
        while (found := members._exit_code(process, 0.01)) is None:
            pass
        return found

    codes = list(range(24))  # starting one asks all that were started how they ended
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ended, codes)) == codes


def test_what_breaks_one_supervisor_ends_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []

    def supervise(
        sweep: Path, digest: str, indices: Sequence[int], stop: Callable[[], bool]
    ) -> None:
        begun.append(indices)
        if indices == [0]:
            raise ZeroDivisionError
        wait_for(stop)

    monkeypatch.setattr(members, "supervise", supervise)
    with pytest.raises(ZeroDivisionError):
        launchers.run(LauncherChoice(jobs=2), tmp_path, "", [[0], [1], [2]], StopSignals())
    assert [2] not in begun


def test_a_long_temporary_folder_leaves_room_for_the_name_of_a_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert members.SOCKET_FOLDER_BYTES + len("/pymp-12345678/listener-12345678") <= 107
    for folder, used in (("/t" * 50, "/tmp"), ("/short", "/short")):
        monkeypatch.setattr(tempfile, "tempdir", folder)
        with members._short_temporary_folder():
            assert tempfile.gettempdir() == used
        assert tempfile.gettempdir() == folder


@pytest.mark.slow
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
    elsewhere = tmp_path / "two at a time"
    words_ = [*words, "--jobs", "2", f"sweep.dir='{elsewhere}'"]
    other = command("sweep", *words_)
    assert other.returncode == 0, other.stderr
    assert rows(elsewhere) == rows(folder)
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/summary.json")}
    assert command("sweep", *words).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*/summary.json")} == before
    more = command("sweep", *words[:-1], "optimizer.lr=0.1,1,3", f"sweep.dir={folder}")
    assert "12 done before" in more.stdout
    assert len(rows(folder)) == 18
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_variable_of_the_environment_that_changes_makes_other_members(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnrepro.sweeps.launchers.run", lambda *arguments: None)

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
    monkeypatch.setattr("bnrepro.sweeps.launchers.run", lambda *arguments: None)
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
        exitcode, sentinel = 0, os.open(os.devnull, os.O_RDONLY)

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

    assert "not in this grid" not in typed("0,1")[1]
    table = (tmp_path / "results.csv").read_text()
    kept = tmp_path / f"results-{digest_of(tmp_path)[:10]}.csv"
    seeds, said = typed("1,2")
    assert seeds == ["1", "2"]
    assert "1 finished run in this folder not in this grid" in said
    assert kept.name in said
    assert kept.read_text() == table
    seeds, said = typed("0,1,2")
    assert seeds == ["0", "1", "2"]
    assert "not in this grid" not in said
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
    assert "3 done before" in again.stdout
    assert {row["state"] for row in rows(folder)} == {"done"}


@pytest.mark.reliability
@pytest.mark.parametrize(
    "way", [("--jobs", "2"), *((f"hydra/launcher={name}",) for name in LAUNCHERS)]
)
def test_a_signal_keeps_the_state_of_every_member_and_the_sweep_resumes(
    tmp_path: Path, way: tuple[str, ...]
) -> None:
    words = ["dataset=digits", "seed=0,1", "train.steps=3000", "train.eval_every=1500",
             "model.hidden=[10]", "tensorboard=false",
             f"sweep.dir={tmp_path / 'sweep'}", *way]  # fmt: skip
    process = forked.Command("sweep", *words)
    wait_for(lambda: any((tmp_path / "sweep").glob("*/metrics.jsonl")))
    os.killpg(process.pid, signal.SIGTERM)
    _, said = process.communicate()
    assert process.returncode == 143, said
    assert f"sweep.dir={tmp_path / 'sweep'} to resume" in said
    wait_for(lambda: not any(s["state"] == "running" for s in states(tmp_path / "sweep")))
    if "hydra/launcher=joblib" not in way:  # which may kill all below it at once
        assert any(status["state"] == "interrupted" for status in states(tmp_path / "sweep"))
    assert forked.run("sweep", *words).returncode == 0
    assert {row["state"] for row in rows(tmp_path / "sweep")} == {"done"}


@pytest.mark.reliability
@pytest.mark.parametrize(
    "way", [("--jobs", "2"), *((f"hydra/launcher={name}",) for name in LAUNCHERS[1:])]
)
def test_nothing_outlives_a_sweep_that_is_killed(tmp_path: Path, way: tuple[str, ...]) -> None:
    words = ["dataset=digits", "seed=range(0,4)", "train.steps=1000000", "model.hidden=[10]",
             "tensorboard=false", f"sweep.dir={tmp_path / 'sweep'}", *way]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "bnrepro", "sweep", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "MARK": str(tmp_path)},
    )
    wait_for(lambda: any((tmp_path / "sweep").glob("*/metrics.jsonl")))
    assert len(marked(tmp_path)) > 3  # the sweep, its launcher's processes, fork servers, members
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


def test_the_fork_server_loads_what_exists() -> None:
    import importlib.util

    found: Iterable[str] = [name for name in members.PRELOADED if importlib.util.find_spec(name)]
    assert tuple(found) == members.PRELOADED
