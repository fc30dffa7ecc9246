"""Runs that are killed, interrupted or damaged, and what typing the command again makes of them."""

import fcntl
import hashlib
import io
import json
import math
import os
import pickle
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
import time
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import forked
import pytest
import torch
from alike import assert_same_run
from conftest import EVENTFUL, wait_for_step

from bnrepro.cli import main
from bnrepro.config.compose import compose
from bnrepro.errors import CheckpointError
from bnrepro.store import RunWriter, StoredRun
from bnrepro.training import environment
from bnrepro.training import run as experiment
from bnrepro.training.progress import RunProgress
from bnrepro.training.signals import StopSignals


def start(folder: Path, *overrides: str) -> forked.Command:
    return forked.Command("train", *EVENTFUL, *overrides, f"run.dir={folder}")


def again(folder: Path, *overrides: str) -> int:
    return main(["train", *EVENTFUL, *overrides, f"run.dir={folder}"])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> StoredRun:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert again(folder) == 0
    return StoredRun(folder)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.reliability),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.reliability),
    ],
)
def test_a_signal_ends_a_run_with_a_checkpoint_and_it_resumes(
    tmp_path: Path, undisturbed: StoredRun, number: signal.Signals, code: int
) -> None:
    folder = tmp_path / "run"
    process = start(folder)
    wait_for_step(folder, 150)
    process.send_signal(number)
    began = time.monotonic()
    _, errors = process.communicate()
    assert time.monotonic() - began < 10
    assert process.returncode == code
    [line] = errors.strip().splitlines()
    assert f"rerun the same command with run.dir={folder} to resume" in line
    run = StoredRun(folder)
    assert run.status()["state"] == "interrupted"
    assert run.summary() is None
    kept = run.checkpoint_steps()[-1]
    assert kept >= run.metrics()[-1]["step"]
    assert again(folder) == 0
    assert_same_run(run, undisturbed)
    [resumed] = run.manifest()["resumes"]
    assert resumed["drift"] == []


@pytest.mark.reliability
def test_a_killed_compiled_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    """An epoch's last batch is smaller: what it is compiled to is of no matter to the others."""
    assert again(tmp_path / "undisturbed", "train.compile=true") == 0
    process = start(tmp_path / "killed", "train.compile=true")
    wait_for_step(tmp_path / "killed", 150, seconds=600)
    process.kill()
    process.wait()
    assert StoredRun(tmp_path / "killed").status()["state"] == "stale"
    assert again(tmp_path / "killed", "train.compile=true") == 0
    run = StoredRun(tmp_path / "killed")
    assert_same_run(run, StoredRun(tmp_path / "undisturbed"))
    assert run.manifest()["resumes"]


def own_terminal(*, deaf: bool) -> None:
    """A `preexec_fn`: standard input is the terminal of this session; `deaf` to its end or not."""
    fcntl.ioctl(0, termios.TIOCSCTTY)
    signal.signal(signal.SIGHUP, signal.SIG_IGN if deaf else signal.SIG_DFL)


@pytest.mark.reliability
@pytest.mark.parametrize(
    ("deaf", "code", "state"), [(False, 129, "interrupted"), (True, 0, "done")]
)
def test_a_terminal_that_is_closed_loses_no_step(
    tmp_path: Path, undisturbed: StoredRun, deaf: bool, code: int, state: str
) -> None:
    folder = tmp_path / "run"
    line = [sys.executable, "-m", "bnrepro", "train", *EVENTFUL, f"run.dir={folder}"]
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        line, stdin=end, stdout=end, stderr=end, start_new_session=True,
        preexec_fn=partial(own_terminal, deaf=deaf),
    )  # fmt: skip
    os.close(end)
    wait_for_step(folder, 150)
    os.close(terminal)
    assert process.wait(timeout=300) == code
    run = StoredRun(folder)
    assert run.status()["state"] == state
    assert run.checkpoint_steps()[-1] >= run.metrics()[-1]["step"]
    if deaf:
        assert_same_run(run, undisturbed)


def test_a_folder_in_use_is_code_4_naming_who_uses_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "train.steps=1000000"
    process = start(tmp_path / "run", long)
    wait_for_step(tmp_path / "run", 10)
    assert again(tmp_path / "run", long) == 4
    assert f"in use by process {process.pid} on " in capsys.readouterr().err
    assert again(tmp_path / "run", long, "run.overwrite=true") == 4
    process.kill()
    process.communicate()
    assert StoredRun(tmp_path / "run").status()["state"] == "stale"


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed after some checkpoints."""
    folder = tmp_path_factory.mktemp("killed") / "run"
    process = start(folder)
    wait_for_step(folder, 250)
    process.kill()
    process.wait()
    return folder


@pytest.fixture
def interrupted(killed: Path, tmp_path: Path) -> StoredRun:
    """A copy of it."""
    return StoredRun(shutil.copytree(killed, tmp_path / "run"))


def test_a_damaged_checkpoint_is_reported_and_the_one_before_is_used(
    interrupted: StoredRun, undisturbed: StoredRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run = interrupted
    newest = run.folder / "checkpoints" / f"{run.checkpoint_steps()[-1]:09d}.pt"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    assert again(run.folder) == 0
    shown = capsys.readouterr().out
    assert "warning: damaged: SHA-256" in shown
    assert f"resumed from step {int(newest.stem) - 70}" in shown
    assert_same_run(run, undisturbed)


def test_without_a_readable_checkpoint_it_is_code_5_and_nothing_is_lost(
    interrupted: StoredRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run = interrupted
    for path in (run.folder / "checkpoints").glob("*.pt"):
        path.write_bytes(path.read_bytes()[:-1])
    lines = run.metrics()
    assert again(run.folder) == 5
    assert "run.overwrite=true" in capsys.readouterr().err
    assert run.metrics() == lines


class Evil:
    def __reduce__(self) -> object:
        return (print, ("executed",))


def test_a_malicious_checkpoint_is_refused(
    interrupted: StoredRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run = interrupted
    step = run.checkpoint_steps()[-1]
    newest = run.folder / "checkpoints" / f"{step:09d}.pt"
    buffer = io.BytesIO()
    torch.save({"model": Evil()}, buffer)
    newest.write_bytes(buffer.getvalue())
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    newest.with_suffix(".sha256").write_text(f"{digest}  {newest.name}\n")
    assert again(run.folder) == 5
    shown = capsys.readouterr()
    assert "executed" not in shown.out + shown.err
    assert len(shown.err.splitlines()) == 1


def test_a_checkpoint_with_a_right_digest_and_wrong_content_is_code_5(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = StoredRun(tmp_path / "run")
    short = ("train.steps=20", "train.checkpoint_every=10", "tensorboard=false")
    assert again(run.folder, *short) == 0
    (run.folder / "summary.json").unlink()
    path = run.folder / "checkpoints" / "000000020.pt"
    state = torch.load(path, weights_only=True)
    wrong = [
        *({"step": step} for step in (10**9, -5, "x", 20.5, None, 10)),
        *({"metrics_bytes": length} for length in ("x", -1, 2.5, 2**70)),
        *({"seconds": seconds} for seconds in ("x", math.nan, -1.0, None)),
        *({"losses": losses} for losses in (None, 5, [1], [torch.zeros(3)])),
        {"metrics_bytes": 10}, {"metrics_sha256": 5}, {"metrics_sha256": "0" * 64},
        {"model": "x"}, {"model": {}}, {"optimizer": []}, {"probe": 5}, {"rng": torch.zeros(3)},
    ]  # fmt: skip
    contents = [b"", b"x" * 100, pickle.dumps({}), saved([]), saved({}), compressed(saved(state))]
    path.with_name("000000010.pt").unlink()
    config = compose([*EVENTFUL, *short, f"run.dir={run.folder}"]).config
    writer = RunWriter.acquire(run.folder, run.config(), [])
    assert writer is not None
    dataset = experiment.load(config)
    with RunProgress("", 20) as display, StopSignals() as stop:
        network = experiment.network(config, dataset)
        training = experiment.Training(config, writer, display, dataset, network, stop)
        for content in [*contents, *(saved(state | one) for one in wrong)]:
            path.write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            path.with_suffix(".sha256").write_text(f"{digest}  {path.name}\n")
            with pytest.raises(CheckpointError, match=re.escape(str(run.folder))) as caught:
                training.begin()
            assert caught.value.exit_code == 5
            assert len(str(caught.value).splitlines()) == 1
        writer.close_unfinished("interrupted")
    capsys.readouterr()
    assert again(run.folder, *short) == 5
    assert len(capsys.readouterr().err.splitlines()) == 1
    path.write_bytes(saved(state))
    digest = hashlib.sha256(saved(state)).hexdigest()
    path.with_suffix(".sha256").write_text(f"{digest}  {path.name}\n")
    assert again(run.folder, *short) == 0


def saved(state: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def compressed(content: bytes) -> bytes:
    """The same archive, compressed as one that expands a millionfold would be."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return buffer.getvalue()


def test_differences_are_reported_and_drift_is_recorded(
    interrupted: StoredRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run = interrupted
    path = run.folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["versions"]["torch"] = "1.0"
    manifest["code"] = "0" * 64  # told, but no drift: as with another commit
    path.write_text(json.dumps(manifest))
    assert again(run.folder, "threads=2") == 2
    assert "threads: 1 -> 2" in capsys.readouterr().err
    assert again(run.folder) == 2
    assert 'versions.torch: "1.0" -> ' in capsys.readouterr().err
    assert again(run.folder, "optimizer.lr=0.01", "run.allow_drift=true") == 0
    [resumed] = run.manifest()["resumes"]
    assert "optimizer.lr: 0.07 -> 0.01" in resumed["drift"]
    assert any(line.startswith("versions.torch") for line in resumed["drift"])
    assert not any("code" in line for line in resumed["drift"])
    assert (run.manifest()["code"], resumed["code"]) == ("0" * 64, environment.code_digest())
    assert run.status()["state"] == "done"


def test_a_run_killed_before_its_first_checkpoint_restarts(tmp_path: Path) -> None:
    overrides = ("train.steps=300", "train.checkpoint_every=300")
    process = start(tmp_path / "run", *overrides)
    wait_for_step(tmp_path / "run", 20)
    process.kill()
    process.communicate()
    assert again(tmp_path / "run", *overrides) == 0
    assert again(tmp_path / "other", *overrides) == 0
    assert_same_run(StoredRun(tmp_path / "run"), StoredRun(tmp_path / "other"))


def test_a_diverging_run_keeps_its_last_finite_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    overrides = ("norm=none", "model.activation=relu", "init=he", "init.scale=1",
                 "optimizer.lr=1e6", "train.checkpoint_every=1")  # fmt: skip
    assert again(folder, *overrides) == 0
    run = StoredRun(folder)
    diverged = run.summary()["diverged_at"]
    for step in run.checkpoint_steps():
        assert step < diverged
        state = torch.load(io.BytesIO(run.checkpoint(step)), weights_only=True)
        assert all(torch.isfinite(tensor).all() for tensor in state["model"].values())
    if run.checkpoint_steps()[-1] < diverged - 1:  # the update before had ruined the weights
        assert (
            f"not finite after step {diverged - 1}: no checkpoint made" in capsys.readouterr().out
        )


def test_overflown_running_statistics_are_not_checkpointed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The variance of huge inputs overflows; normalized by it, everything is finite again.
    overrides = ("init.scale=1e25", "train.steps=3", "train.checkpoint_every=1", "model.dropout=0")
    assert again(tmp_path / "run", *overrides) == 0
    assert "not finite after step 1: no checkpoint made" in capsys.readouterr().out
    assert StoredRun(tmp_path / "run").checkpoint_steps() == []


@pytest.mark.reliability
def test_a_second_signal_ends_a_run_at_once(tmp_path: Path, undisturbed: StoredRun) -> None:
    # Steps that take long: a batch of all images, wide layers.
    heavy = ("model.hidden=[1500,1500,1500]", "train.batch_size=1297", "probe.every=0")
    process = start(tmp_path / "run", *heavy)
    wait_for_step(tmp_path / "run", 0)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    process.communicate()
    assert time.monotonic() - began < 10
    assert process.returncode == 143
    run = StoredRun(tmp_path / "run")
    assert run.status()["state"] in ("stale", "interrupted")
    run.metrics()
