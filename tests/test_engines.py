"""Engines: one grid is the same wherever its members run, and a job that is ended goes on."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
import slurm
from alike import assert_same_run, rows
from conftest import TINY, Command, wait_for

from bnrepro.cli import main
from bnrepro.config import hydra
from bnrepro.config.compose import compose
from bnrepro.errors import LauncherError
from bnrepro.store import StoredRun
from bnrepro.sweeps import launchers, worker
from bnrepro.sweeps.launchers import LauncherChoice
from bnrepro.training.signals import StopSignals

PROBED = (*TINY, "probe.every=100")
GRID = (*PROBED, "train.steps=300", "train.eval_every=100", "seed=range(0,3)", "norm=batch,none",
        "optimizer.lr=0.03,0.1,0.3,1")  # fmt: skip
LONG = (*PROBED, "seed=0,1", "train.steps=3000", "train.log_every=10", "train.eval_every=1000",
        "train.checkpoint_every=1000", "model.dropout=0.2")  # fmt: skip
MINUTES = 60


def swept(command: Command, folder: Path, *words: str) -> list[dict[str, str]]:
    done = command("sweep", *words, f"sweep.dir={folder}", timeout=30 * MINUTES)
    assert done.returncode == 0, done.stderr
    return rows(folder)


# In every test run


@pytest.mark.slow
@pytest.mark.reliability
def test_submitit_local_gives_the_same_sweep(tmp_path: Path, command: Command) -> None:
    words = (*TINY, "probe.every=100", "train.steps=20", "seed=0,1")
    expected = swept(command, tmp_path / "here", *words)
    folder = tmp_path / "jobs"
    assert swept(command, folder, *words, "hydra/launcher=submitit_local") == expected
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/summary.json")}
    assert len(before) == 2
    swept(command, folder, *words, "hydra/launcher=submitit_local")
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*/summary.json")} == before


@pytest.mark.parametrize("launcher", ["submitit_local", "submitit_slurm", "ray"])
def test_every_launcher_has_our_defaults(launcher: str) -> None:
    _, plugin = hydra.LAUNCHERS[launcher]
    if importlib.util.find_spec(f"hydra_plugins.{plugin}") is None:
        pytest.skip(hydra._not_installed(launcher))
    chosen = compose([f"hydra/launcher={launcher}", "threads=3"]).composed.hydra.launcher
    assert chosen._target_.startswith(f"hydra_plugins.{plugin}.")
    assert (chosen.ray.remote.num_cpus if launcher == "ray" else chosen.cpus_per_task) == 3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["hydra/launcher=nope"], "unknown option of hydra/launcher 'nope'"),
        (["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=x"], "timeout_min"),
        (["hydra/launcher=submitit_local", "hydra.launcher.partitions=x"], "partitions"),
        (["optimizer.lr=3"], "a claim fixes what is run (optimizer.lr=3)"),
        (["hydra/launcher=joblib", "--jobs", "2"], "two ways to run"),
    ],
)
def test_launchers_that_reproduce_cannot_use_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    assert main(["reproduce", *words, "--out", str(tmp_path / "out")]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_sweep_takes_one_way_to_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["seed=0,1", "hydra/launcher=joblib", "--jobs", "2", f"sweep.dir={tmp_path / 'sweep'}"]
    assert main(["sweep", *words]) == 2
    assert "two ways to run (--jobs 2, hydra/launcher=joblib)" in capsys.readouterr().err
    words[1] = "hydra.launcher.n_jobs=3"
    assert main(["sweep", *words]) == 2
    assert "two ways to run (--jobs 2, hydra.launcher.n_jobs=3)" in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    "jobs",
    [
        ("--jobs=2",),
        ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
        ("hydra/launcher=joblib", "hydra.launcher.n_jobs=-2"),
    ],
)
def test_more_threads_than_cores_are_refused_before_anything_is_written(
    jobs: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(launchers, "cores", lambda: 3)
    words = ["seed=0,1", "threads=2", *jobs, f"sweep.dir={tmp_path / 'sweep'}"]
    assert main(["sweep", *words]) == 2
    assert "would slow each other down (threads)" in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()


def test_a_missing_launcher_is_reported_before_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    words = ["seed=0,1", "hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu"]
    assert main(["sweep", *words, f"sweep.dir={tmp_path / 'sweep'}"]) == 2
    assert "pip install '.[slurm]'" in capsys.readouterr().err


@pytest.mark.reliability
def test_slurm_missing_on_this_machine_is_one_line(tmp_path: Path, command: Command) -> None:
    words = (
        *TINY,
        "probe.every=100",
        "seed=0,1",
        "hydra/launcher=submitit_slurm",
        "sweep.dir=sweep",
    )
    done = command("sweep", *words, env={**os.environ, "PATH": str(tmp_path)})
    assert done.returncode == 3
    assert "submitit_slurm ended without the result of every member" in done.stderr
    assert "srun" in done.stderr
    assert len([line for line in done.stderr.splitlines() if "bnrepro: error" in line]) == 1


# The same grid everywhere


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    folder = tmp_path_factory.mktemp("expected") / "sweep"
    assert main(["sweep", *GRID, f"sweep.dir={folder}"]) == 0
    assert len(rows(folder)) == 24
    return rows(folder)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_a_grid_is_the_same_in_processes_of_this_machine(
    tmp_path: Path, command: Command, expected: list[dict[str, str]], launcher: str
) -> None:
    assert swept(command, tmp_path / "sweep", *GRID, f"hydra/launcher={launcher}") == expected


@pytest.mark.ray
def test_a_grid_is_the_same_with_ray(
    tmp_path: Path, command: Command, expected: list[dict[str, str]]
) -> None:
    if importlib.util.find_spec("hydra_plugins.hydra_ray_launcher") is None:
        pytest.skip(hydra._not_installed("ray"))
    assert swept(command, tmp_path / "sweep", *GRID, "hydra/launcher=ray") == expected


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Slurm of one node, for as long as tests of this file run."""
    if lacking := slurm.missing():
        pytest.skip(f"{', '.join(lacking)} not installed: {slurm.INSTALL}")
    folder = tmp_path_factory.mktemp("slurm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(slurm.start(folder)))
        yield
        slurm.stop(folder)


@pytest.mark.slurm
@pytest.mark.usefixtures("cluster")
def test_a_grid_is_the_same_with_slurm(
    tmp_path: Path, command: Command, expected: list[dict[str, str]]
) -> None:
    assert swept(command, tmp_path / "sweep", *GRID, "hydra/launcher=submitit_slurm") == expected


@pytest.mark.slurm
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    "end",
    [
        ["scontrol", "requeue", "{job}"],
        ["scancel", "--signal=USR2", "{job}"],  # as Slurm does before a job's time is up
        ["sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=true"],
    ],
    ids=["requeued", "time nearly up", "preempted"],
)
def test_a_requeued_slurm_job_ends_like_an_undisturbed_one(tmp_path: Path, end: list[str]) -> None:
    assert main(["sweep", *LONG, f"sweep.dir={tmp_path / 'alone'}"]) == 0
    folder = tmp_path / "sweep"
    line = [sys.executable, "-m", "bnrepro", "sweep", *LONG, "hydra/launcher=submitit_slurm"]
    process = subprocess.Popen([*line, f"sweep.dir={folder}"], stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: list(folder.glob("*/metrics.jsonl")), 180)
        [member, *_] = (path.parent for path in folder.glob("*/metrics.jsonl"))
        wait_for(lambda: len(StoredRun(member).metrics()) > 10, 180)
        index = [row["member"] for row in rows(tmp_path / "alone")].index(member.name)
        [script] = folder.glob(".sweep/submitit/*/*_submission.sh")
        job = f"{script.name.partition('_')[0]}_{index}"
        subprocess.run([word.format(job=job) for word in end], check=True)
        wait_for(lambda: StoredRun(member).status()["state"] == "interrupted", 180)
        assert process.wait(timeout=20 * MINUTES) == 0
    finally:
        process.terminate()
    assert len(StoredRun(member).manifest()["resumes"]) == 1
    assert rows(folder) == rows(tmp_path / "alone")
    for row in rows(folder):
        assert_same_run(
            StoredRun(folder / row["member"]), StoredRun(tmp_path / "alone" / row["member"])
        )


@pytest.mark.reliability
def test_a_killed_fork_server_is_restarted_and_ignores_terminal_signals() -> None:
    def end_of_one() -> int | None:
        process = worker._start(partial(time.sleep, 0), "one")
        process.join(60)
        return process.exitcode

    assert end_of_one() == 0
    server = forkserver._forkserver._forkserver_pid
    lines = Path(f"/proc/{server}/status").read_text().splitlines()
    blocked = next(int(line.split()[1], 16) for line in lines if line.startswith("SigBlk"))
    for number in (signal.SIGINT, signal.SIGTERM):
        assert blocked & (1 << (number - 1)), number
    os.kill(server, signal.SIGKILL)
    assert end_of_one() == 0


def test_members_of_a_lost_worker_are_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[list[Sequence[int]]] = []

    def launch(engine: Any, sweep: Path, digest: str, pending: list[Sequence[int]]) -> None:
        given.append(pending)
        with launchers._one_line_errors(engine, sweep):
            raise BrokenProcessPool("a worker was killed")

    monkeypatch.setattr(launchers, "_launch", launch)
    monkeypatch.setattr(launchers, "_not_done", lambda sweep, digest, pending: pending[1:])
    with pytest.raises(LauncherError, match="a worker was killed"):
        launchers.run(LauncherChoice("joblib"), tmp_path, "", [[0], [1], [2]], StopSignals())
    assert given == [[[0], [1], [2]], [[1], [2]], [[2]]]
