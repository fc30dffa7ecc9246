"""One writer for a folder: who is alive, who has lost it, and what a loser leaves untouched."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnrepro.errors import CheckpointError, RunInUseError, StorageError
from bnrepro.store import RunWriter, StoredRun, atomic, lock


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="seconds")


def owner(**changes: Any) -> dict[str, Any]:
    return {**lock.me(), "heartbeat": ago(10**9), **changes}


CONTAINER = "pid:[1]"
SILENT = lock.SILENT_SECONDS
OWNERS: dict[str, tuple[dict[str, Any], bool | None]] = {
    "this process": (owner(), True),
    "another container, heard of": (owner(pid_namespace=CONTAINER), True),
    "another container, silent": (owner(pid_namespace=CONTAINER, heartbeat=ago(SILENT + 9)), None),
    "another container, no such pid here": (
        owner(pid_namespace=CONTAINER, pid=2**22 + 1), True,
    ),
    "another host, heard of": (owner(host="a"), True),
    "another host, silent": (owner(host="a"), None),
    "before this boot": (owner(boot_id="b"), False),
    "another machine of this name": (owner(boot_id="b"), True),
    "a pid used again": (owner(pid_start="1"), False),
    "a group of processes": (owner(pid=0, pid_start=None), False),
    "all processes": (owner(pid=-1, pid_start=None), False),
    "a yes": (owner(pid=True), False),
    "a number for no system": (owner(pid=2**70), False),
    "a number for no machine": (owner(pid=float("inf")), False),
    "a time without its zone": (owner(host="a", heartbeat="2026-01-01T00:00:00"), None),
    "the first time there is": (owner(host="a", heartbeat="0001-01-01T00:00:00+23:59"), None),
    "no time": (owner(host="a", heartbeat=[]), None),
    "nobody": ({}, None),
}  # fmt: skip


HEARD = {
    "another container, heard of": 9, "another container, no such pid here": 9,
    "another host, heard of": 9, "another machine of this name": -9,
}  # fmt: skip
"""Seconds since the last heartbeat of owners that are alive."""


@pytest.mark.parametrize("name", OWNERS)
def test_whether_an_owner_is_alive(name: str) -> None:
    described, expected = OWNERS[name]
    if name in HEARD:  # now, not when this file was imported
        described = {**described, "heartbeat": ago(HEARD[name])}
    assert lock.alive(described) is expected


def test_a_killed_process_that_nobody_waits_for_is_dead() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        described = owner(pid=child.pid, pid_start=lock._process(child.pid)[1])
        assert lock.alive(described) is True
        child.kill()
        limit = time.monotonic() + 60
        while lock._process(child.pid)[0] != "Z":
            assert time.monotonic() < limit
            time.sleep(0.01)
        assert lock.alive(described) is False


def test_a_process_that_the_system_hides_is_told_by_its_heartbeat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard, silent = owner(heartbeat=ago(9)), owner()
    monkeypatch.setattr(lock, "_process", lambda pid: (None, None))
    assert (lock.alive(heard), lock.alive(silent)) == (True, None)


def claim(folder: Path, **options: Any) -> RunWriter:
    run = RunWriter.acquire(folder, {"seed": 1}, [], **options)
    assert run is not None
    return run


def take_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> RunWriter:
    """Take a folder as another machine does that has not heard of its owner for too long."""
    with monkeypatch.context() as patch:
        patch.setattr(lock, "alive", lambda owner: False)
        return claim(folder)


def begun(folder: Path) -> RunWriter:
    run = claim(folder)
    run.record(1, {"a": 1})
    run.probe(1, {"a": np.zeros(1)})
    length = run.flush()
    run.checkpoint(1, json.dumps([length, run.metrics_sha256]).encode())
    return run


def snapshot(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


WRITES: dict[str, Callable[[RunWriter], object]] = {
    "record": lambda run: run.record(2, {}),
    "heartbeat": lambda run: run.heartbeat(),
    "probe": lambda run: run.probe(2, {}),
    "flushed": lambda run: run.flush(),
    "checkpoint": lambda run: run.checkpoint(2, b"2"),
    "manifest": lambda run: run.manifest({}),
    "predictions": lambda run: run.predictions({}),
    "rewind": lambda run: run.truncate_to(0, 0, 0.0),
    "finish": lambda run: run.finish("done", 2, {}),
}


@pytest.mark.parametrize("end", ["begins", "interrupted", "done"])
@pytest.mark.parametrize("write", WRITES)
def test_a_process_that_lost_its_folder_notices_and_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: str, end: str
) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", -1.0)
    loser = begun(tmp_path)
    winner = take_over(tmp_path, monkeypatch)
    if end == "interrupted":
        winner.close_unfinished("interrupted")
    elif end == "done":
        winner.finish("done", 1, {})
    before = snapshot(tmp_path)
    with pytest.raises(RunInUseError, match=f"taken over by process {os.getpid()} on ") as caught:
        WRITES[write](loser)
    assert caught.value.exit_code == 4
    assert not loser.owned()
    loser.close_unfinished("failed", "lost")
    assert snapshot(tmp_path) == before
    if end == "begins":
        winner.close_unfinished("interrupted")


def test_a_process_stopped_amid_a_write_leaves_the_new_owners_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loser, winners, fsync = begun(tmp_path), [], os.fsync

    def stopped(descriptor: int) -> None:
        fsync(descriptor)
        if not winners:
            winners.append(None)
            winners[0] = take_over(tmp_path, monkeypatch)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", stopped)
        with pytest.raises(RunInUseError):
            loser.manifest({"by": "loser"})
    assert not (tmp_path / "manifest.json").exists()
    assert not [*tmp_path.glob("*.part")]
    winners[0].close_unfinished("interrupted")
    loser.close_unfinished("failed")


def test_a_line_written_too_late_is_in_no_file_of_the_new_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loser = begun(tmp_path)
    winner = take_over(tmp_path, monkeypatch)
    length, digest = json.loads(StoredRun(tmp_path).checkpoint(1))
    winner.truncate_to(1, length, 0.0, digest)
    winner.record(2, {})
    assert loser._metrics is not None
    loser._metrics.write(b'{"step": 2}\n')  # stopped between looking and writing
    winner.record(3, {})
    assert [row["step"] for row in StoredRun(tmp_path).metrics()] == [1, 2, 3]
    winner.close_unfinished("interrupted")
    loser.close_unfinished("failed")


@pytest.mark.parametrize("replaced", [False, True])
def test_a_folder_that_was_moved_is_not_written_to_and_neither_is_one_in_its_place(
    tmp_path: Path, replaced: bool
) -> None:
    folder, moved = tmp_path / "run", tmp_path / "moved"
    run = begun(folder)
    folder.rename(moved)
    if replaced:
        shutil.copytree(moved, folder)
        next((folder / ".lock").iterdir()).write_text("{}")
    before = snapshot(tmp_path)
    for write in WRITES.values():
        if write is not WRITES["heartbeat"]:  # none is due
            with pytest.raises((StorageError, RunInUseError), match=r"moved|taken over"):
                write(run)
    run.close_unfinished("failed", "moved")
    assert snapshot(tmp_path) == before


def test_a_lock_for_which_there_is_no_name_left_is_no_endless_wait(tmp_path: Path) -> None:
    locks = tmp_path / ".lock"
    locks.mkdir()
    for name in ("9" * 18, "²00000005", "5", "x", "000000003"):
        (locks / f"{name}.json").write_text("[]")
    held = lock.Lock.take(tmp_path, lock.me())
    held.release()
    with pytest.raises((RunInUseError, StorageError)):
        held.check()
    assert {"²00000005.json", "5.json", "x.json"} < set(os.listdir(locks))


def test_a_pipe_in_the_place_of_a_lock_has_no_owner(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()
    os.mkfifo(tmp_path / ".lock" / "000000001.json")
    lock.Lock.take(tmp_path, lock.me()).check()


def test_a_file_system_without_hard_links_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(StorageError, match=r"without hard links.*another disk"):
        claim(tmp_path / "run")


# What is deleted


def test_only_files_that_belong_to_the_run_are_deleted(tmp_path: Path) -> None:
    folder, other = tmp_path / "run", tmp_path / "other"
    begun(folder).close_unfinished("interrupted")
    other.mkdir()
    part = "0123abcd.part"
    (other / f"000000007.npz.{part}").write_text("theirs")
    theirs = (
        "film.part", f"film.mkv.{part}", "my/film.mkv.part", "probes/mine.txt", "probes/7.npz",
        "checkpoints/best.pt", f"my/status.json.{part}", ".lock/my.new",
    )  # fmt: skip
    ours = (
        f"status.json.{part}",
        f"probes/000000009.npz.{part}",
        f"checkpoints/000000009.pt.{part}",
    )
    for name in (*theirs, *ours):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    (folder / "link").symlink_to(other)
    for overwrite in (False, True):
        run = claim(folder, overwrite=overwrite)
        run.close_unfinished("interrupted")
        found = snapshot(folder)
        assert {*theirs, "link"} <= set(found)
        assert not {*ours} & set(found)
    assert "probes/000000001.npz" not in found
    assert len(os.listdir(other)) == 1


@pytest.mark.parametrize("name", ["probes", "checkpoints", ".lock", ".hydra"])
def test_nothing_is_written_or_deleted_through_a_link(tmp_path: Path, name: str) -> None:
    folder, other = tmp_path / "run", tmp_path / "other"
    begun(folder).close_unfinished("interrupted")
    other.mkdir()
    for file in ("000000077.npz", "000000077.pt", "000000077.json", "config.yaml"):
        (other / file).write_text("theirs")
    if (folder / name).exists():
        shutil.rmtree(folder / name)
    (folder / name).symlink_to(other)
    before = snapshot(other)
    with pytest.raises(StorageError, match="move it away"):
        claim(folder)
    if name != ".lock":
        claim(folder, overwrite=True).close_unfinished(
            "interrupted"
        )  # the link is the run's to replace
    assert snapshot(other) == before


@pytest.mark.parametrize("name", ["train.log", ".hydra/config.yaml"])
def test_a_log_or_record_that_is_a_link_or_a_pipe_is_refused(tmp_path: Path, name: str) -> None:
    begun(tmp_path).close_unfinished("interrupted")
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/null")):
        make(path)
        with pytest.raises(StorageError, match="not a file of the run's own"):
            claim(tmp_path)
        path.unlink()


# Metrics that are not what was written


def lost(path: Path) -> None:
    path.unlink()


def copied(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


def longer(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"{}\n")


def changed(path: Path) -> None:
    with open(path, "r+b") as file:
        file.write(b'{"step": 1, "a": 2}')


def emptied(path: Path) -> None:
    with open(path, "r+b") as file:
        file.write(b"\0" * 20)


@pytest.mark.parametrize("damage", [lost, copied, longer])
def test_metrics_removed_or_replaced_are_noticed_at_the_next_checkpoint(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    run = begun(tmp_path)
    damage(tmp_path / "metrics.jsonl")
    run.record(2, {})
    with pytest.raises(StorageError, match="changed, removed or replaced"):
        run.flush()
    run.close_unfinished("failed")


@pytest.mark.parametrize("damage", [lost, copied, longer, changed, emptied])
def test_edited_metrics_make_a_run_unreadable(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    run = begun(tmp_path)
    damage(tmp_path / "metrics.jsonl")
    with pytest.raises(StorageError, match="changed, removed or replaced"):
        run.finish("done", 1, {})
    run.close_unfinished("failed")
    assert StoredRun(tmp_path).summary() is None


@pytest.mark.parametrize("damage", [lost, changed, emptied])
def test_a_checkpoint_is_not_resumed_with_other_metrics(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    begun(tmp_path).close_unfinished("interrupted")
    damage(tmp_path / "metrics.jsonl")
    before = snapshot(tmp_path)
    run = claim(tmp_path)
    length, digest = json.loads(StoredRun(tmp_path).checkpoint(1))
    with pytest.raises(CheckpointError, match=r"lines (are missing|were changed) before step 1"):
        run.truncate_to(1, length, 0.0, digest)
    assert snapshot(tmp_path).get("metrics.jsonl") == before.get("metrics.jsonl")
    run.close_unfinished("failed")


def test_the_name_of_a_temporary_file_is_known(tmp_path: Path) -> None:
    names = []

    def fill(file: Any) -> None:
        names.extend(os.listdir(tmp_path))

    atomic.write(tmp_path / "status.json", fill)
    [found] = [atomic.PART.fullmatch(name) for name in names]
    assert found is not None
    assert found["name"] == "status.json"
