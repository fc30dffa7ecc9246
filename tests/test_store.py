"""A run on disk: who may take a folder, what is written in which order, and what damage is seen."""

import contextlib
import errno
import hashlib
import io
import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnrepro import store
from bnrepro.errors import CheckpointError, ConfigError, Interrupted, RunInUseError, StorageError
from bnrepro.store import RunWriter, StoredRun, atomic, find_runs, lock, new_folder, writer

CONFIG: dict[str, Any] = {"seed": 3, "norm": {"name": "batch", "eps": 1e-5}, "tags": ["ä"]}


def claim(folder: Path, **options: Any) -> RunWriter:
    run = RunWriter.acquire(folder, CONFIG, [], **options)
    assert run is not None
    return run


@pytest.fixture
def run(tmp_path: Path):
    writer = claim(tmp_path / "run")
    yield writer
    writer.close_unfinished("interrupted")


def finished(folder: Path, state: str = "done") -> StoredRun:
    writer = claim(folder)
    writer.record(5, {"test_accuracy": 0.5})
    writer.probe(5, {"a": np.arange(3)})
    writer.checkpoint(5, b"state")
    writer.manifest({"python": "3"})
    writer.finish(state, 5, {"steps": 5})
    return StoredRun(folder)


def snapshot(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def rewrite_status(folder: Path, **changes: Any) -> None:
    path = folder / store.STATUS
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def left_running(folder: Path, **changes: Any) -> StoredRun:
    """A run that says it is running, with something else in its status."""
    claim(folder).close_unfinished("interrupted")
    rewrite_status(folder, state="running", **changes)
    return StoredRun(folder)


# Taking a folder


def test_a_new_folder_with_its_parents(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    run = claim(folder)
    assert sorted(os.listdir(folder)) == [
        ".lock", "checkpoints", "config.yaml", "metrics.jsonl", "probes", "status.json",
    ]  # fmt: skip
    stored = StoredRun(folder)
    assert stored.config() == CONFIG
    status = stored.status()
    assert (status["state"], status["step"], status["pid"]) == ("running", 0, os.getpid())
    assert status["host"] == socket.gethostname()
    assert abs(datetime.fromisoformat(status["heartbeat"]) - datetime.now(UTC)) < timedelta(
        seconds=30
    )
    run.close_unfinished("interrupted")


def test_a_waiting_run_has_a_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = claim(tmp_path)
    run.record(7, {"train_loss": 1.0})
    rewrite_status(tmp_path, heartbeat=None)
    run.heartbeat()  # none is due yet
    assert StoredRun(tmp_path).status()["heartbeat"] is None
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", -1.0)
    run.heartbeat()
    status = StoredRun(tmp_path).status()
    assert status["heartbeat"] is not None
    assert (status["state"], status["step"]) == ("running", 7)
    run.close_unfinished("interrupted")


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    claim(tmp_path).close_unfinished("interrupted")
    assert StoredRun(tmp_path).exists()


@pytest.mark.parametrize("state", store.FINISHED)
def test_a_finished_run_is_left_as_it_is(tmp_path: Path, state: str) -> None:
    finished(tmp_path, state)
    before = snapshot(tmp_path)
    assert RunWriter.acquire(tmp_path, CONFIG, []) is None
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("state", ["done", "failed", "interrupted"])
def test_another_configuration_is_refused_and_told_apart(tmp_path: Path, state: str) -> None:
    if state == "done":
        finished(tmp_path)
    else:
        claim(tmp_path).close_unfinished(state)
    before = snapshot(tmp_path)
    with pytest.raises(ConfigError) as caught:
        RunWriter.acquire(tmp_path, CONFIG, ["seed: 3 -> 4", "init.scale: 0.1 -> 0.2"])
    message = str(caught.value)
    assert "seed: 3 -> 4; init.scale: 0.1 -> 0.2" in message
    assert str(tmp_path) in message
    assert "run.overwrite=true" in message
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_run_in_this_process_is_in_use(run: RunWriter, overwrite: bool) -> None:
    before = snapshot(run.folder)
    with pytest.raises(RunInUseError) as caught:
        RunWriter.acquire(run.folder, CONFIG, [], overwrite=overwrite)
    assert f"process {os.getpid()} on {socket.gethostname()}" in str(caught.value)
    assert str(run.folder) in str(caught.value)
    assert caught.value.exit_code == 4
    assert snapshot(run.folder) == before


def test_a_run_in_another_process_is_in_use_until_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from bnrepro.store import RunWriter\n"
        "run = RunWriter.acquire(Path(sys.argv[1]), {}, []); run.record(7, {})\n"
        "run._write_status(7)\n"
        "print('taken', flush=True); sys.stdin.read()"
    )
    pipe = subprocess.PIPE
    line = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(line, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        assert StoredRun(tmp_path).status()["state"] == "running"
        with pytest.raises(RunInUseError, match=f"process {process.pid} on "):
            claim(tmp_path)
        process.kill()
    status = StoredRun(tmp_path).status()
    assert (status["state"], status["step"]) == ("stale", 7)
    claim(tmp_path).close_unfinished("interrupted")


def dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="seconds")


@pytest.mark.parametrize(
    "changes",
    [
        lambda: {"pid": dead_pid()},
        lambda: {"boot_id": "another boot", "heartbeat": ago(10**9)},
        lambda: {"pid_start": "1"},  # this pid belongs to somebody else now
        lambda: {"pid": None},
        lambda: {"pid": "?"},
        lambda: {"host": "elsewhere", "heartbeat": ago(lock.SILENT_SECONDS + 5)},
        # A clock that jumped by a day, ours or the other one's.
        lambda: {"host": "elsewhere", "heartbeat": ago(-86_400)},
        lambda: {"host": "elsewhere", "heartbeat": None},
        lambda: {"host": "elsewhere", "heartbeat": "soon"},
    ],
)
def test_a_run_whose_process_is_gone_is_stale_and_can_be_taken(
    tmp_path: Path, changes: Callable[[], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "WATCHED_SECONDS", 0.1)
    stored = left_running(tmp_path, **changes())
    assert stored.status()["state"] == "stale"
    run = claim(tmp_path)
    assert stored.status()["state"] == "running"
    assert stored.status()["pid"] == os.getpid()
    run.close_unfinished("interrupted")


@pytest.mark.parametrize(
    "changes",
    [
        dict,
        lambda: {"host": "elsewhere", "pid": 1, "heartbeat": ago(0)},
        lambda: {"host": "elsewhere", "boot_id": "?", "heartbeat": ago(lock.SILENT_SECONDS - 60)},
    ],
)
def test_a_run_whose_process_may_live_is_in_use(
    tmp_path: Path, changes: Callable[[], dict[str, Any]]
) -> None:
    stored = left_running(tmp_path, **changes())
    assert stored.status()["state"] == "running"
    with pytest.raises(RunInUseError):
        claim(tmp_path)


def test_a_run_on_another_host_whose_heartbeat_moves_is_in_use_whatever_the_clocks_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def beat(seconds: float) -> None:
        rewrite_status(tmp_path, heartbeat=ago(86_400 - 15))

    stored = left_running(tmp_path, host="elsewhere", heartbeat=ago(86_400))
    assert stored.status()["state"] == "stale"
    monkeypatch.setattr(time, "sleep", beat)
    with pytest.raises(RunInUseError, match="elsewhere"):
        claim(tmp_path)


def test_checkpoints_are_in_the_order_of_their_steps_whatever_the_clock_said(
    run: RunWriter,
) -> None:
    for step, day in ((1, 3), (2, 2)):
        run.checkpoint(step, b"%d" % step)
        os.utime(run.folder / "checkpoints" / f"{step:09d}.pt", (day * 86_400, day * 86_400))
    assert [*StoredRun(run.folder).whole_checkpoints(print)] == [(2, b"2"), (1, b"1")]


def test_a_process_of_another_user_is_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(pid: int, signal: int) -> None:
        raise PermissionError(errno.EPERM, "not yours")

    stored = left_running(tmp_path)
    monkeypatch.setattr(os, "kill", kill)
    assert stored.status()["state"] == "running"
    rewrite_status(tmp_path, pid_start="1")
    assert stored.status()["state"] == "stale"


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["thesis.txt", "config.yaml", "metrics.jsonl"])
def test_a_folder_that_is_no_run_is_refused_and_untouched(
    tmp_path: Path, overwrite: bool, name: str
) -> None:
    (tmp_path / name).write_text("years of work")
    (tmp_path / "checkpoints").mkdir()
    before = snapshot(tmp_path)
    with pytest.raises(ConfigError, match="not empty and not a run") as caught:
        RunWriter.acquire(tmp_path, CONFIG, [], overwrite=overwrite)
    assert str(tmp_path) in str(caught.value)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("below", ["", "run"])
def test_a_file_in_the_place_of_the_folder(tmp_path: Path, below: str) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(StorageError, match=r"choose another folder with run\.dir"):
        claim(path / below)
    assert path.read_text() == "mine"


def crowded(folder: Path) -> dict[str, bytes | None]:
    """Put things of somebody else's into a run's folder; returns them."""
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious.pt").write_bytes(b"!")
    theirs = {"notes.txt": b"mine", "my.events.out.tfevents.1": b"m", "probes-old": None}
    (folder / "probes-old").mkdir()
    for name, content in theirs.items():
        if content is not None:
            (folder / name).write_bytes(content)
    (folder / "events.out.tfevents.123.host").write_bytes(b"old")
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "config.yaml").write_text("old")
    (folder / "train.log").write_text("old")
    (folder / "checkpoints" / "000000005.pt").unlink()
    (folder / "checkpoints" / "000000005.sha256").unlink()
    (folder / "checkpoints").rmdir()
    (folder / "checkpoints").symlink_to(elsewhere, target_is_directory=True)
    return theirs


def test_overwriting_deletes_only_files_of_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    finished(folder)
    theirs = crowded(folder)
    run = RunWriter.acquire(folder, CONFIG, ["seed: 1 -> 3"], overwrite=True)
    assert run is not None
    found = snapshot(folder)
    assert {name: found.pop(name) for name in theirs} == theirs
    assert sorted(name for name in found if not name.startswith(".lock")) == [
        "checkpoints", "config.yaml", "metrics.jsonl", "probes", "status.json",
    ]  # fmt: skip
    assert found["metrics.jsonl"] == b""
    assert not (folder / "checkpoints").is_symlink()
    assert (tmp_path / "elsewhere" / "precious.pt").read_bytes() == b"!"
    run.close_unfinished("interrupted")


@pytest.mark.parametrize("state", ["failed", "interrupted"])
def test_an_unfinished_run_resumes_from_a_checkpoint(tmp_path: Path, state: str) -> None:
    run = claim(tmp_path)
    run.record(4, {"train_loss": 1.0})
    run.probe(4, {"x": np.zeros(3)})
    length = run.flush()
    run.checkpoint(4, b"x")
    run.record(6, {"train_loss": 0.5})
    run.probe(6, {"x": np.ones(3)})
    run.checkpoint(6, b"y")
    run.close_unfinished(state, error="boom")
    stored = StoredRun(tmp_path)
    status = stored.status()
    assert (status["state"], status["step"], status["error"]) == (state, 6, "boom")
    assert stored.summary() is None
    again = claim(tmp_path)
    assert again.resuming
    assert "error" not in stored.status()
    again.truncate_to(4, length, 100.0)
    assert [row["step"] for row in stored.metrics()] == [4]
    assert stored.probe_steps() == stored.checkpoint_steps() == [4]
    assert 100 <= again.seconds < 160
    again.record(5, {"train_loss": 0.7})
    assert [row["step"] for row in stored.metrics()] == [4, 5]
    with pytest.raises(CheckpointError, match="lines are missing before step 9"):
        again.truncate_to(9, 10_000, 0.0)
    again.truncate_to(0, 0, 0.0)
    assert stored.metrics() == stored.probe_steps() == stored.checkpoint_steps() == []
    again.close_unfinished("interrupted")


RACE = """
import sys
from pathlib import Path
from bnrepro.errors import RunInUseError
from bnrepro.store import RunWriter
print("ready", flush=True)
sys.stdin.readline()
try:
    run = RunWriter.acquire(Path(sys.argv[1]), {"seed": 1}, [])
except RunInUseError as error:
    assert "in use by process" in str(error)
    print("lost")
else:
    print("won", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("left", ["nothing", "a dead owner", "a released lock"])
def test_one_of_many_racing_for_a_folder_wins(tmp_path: Path, left: str) -> None:
    folder = tmp_path / "run"
    if left == "a released lock":
        claim(folder).close_unfinished("interrupted")
    elif left == "a dead owner":
        with racer(folder) as dead:
            assert raced([dead]) == ["won\n"]
            dead.kill()
    with contextlib.ExitStack() as stack:
        racers = [stack.enter_context(racer(folder)) for _ in range(8)]
        said = raced(racers)
        assert sorted(said) == ["lost\n"] * 7 + ["won\n"]
        for process in racers:
            process.kill()


def raced(racers: list["subprocess.Popen[str]"]) -> list[str]:
    """Let all of them begin at once; what each says."""
    for process in racers:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in racers:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return [process.stdout.readline() for process in racers if process.stdout is not None]


@contextlib.contextmanager
def racer(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    line = [sys.executable, "-c", RACE, str(folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(line, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


# Metrics


def test_non_finite_numbers_are_null_and_every_line_is_json(run: RunWriter) -> None:
    run.record(0, {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1.5, "e": [math.nan, 1]})
    run.record(1, {"a": np.float64("nan"), "b": {"x": math.inf}, "c": None, "d": 2})

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    lines = (run.folder / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line, parse_constant=refuse) for line in lines]
    assert rows == [
        {"step": 0, "a": None, "b": None, "c": None, "d": 1.5, "e": [None, 1]},
        {"step": 1, "a": None, "b": {"x": None}, "c": None, "d": 2},
    ]
    assert StoredRun(run.folder).metrics() == rows


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def without_what_json_lacks(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: without_what_json_lacks(item) for key, item in value.items()}
    return [without_what_json_lacks(v) for v in value] if isinstance(value, list) else value


@settings(deadline=None, max_examples=30, derandomize=True)
@given(
    rows=st.lists(
        st.dictionaries(st.text().filter(lambda name: name != "step"), json_values), max_size=5
    )
)
def test_what_was_recorded_is_read_again(tmp_path_factory: Any, rows: list[dict]) -> None:
    run = claim(tmp_path_factory.mktemp("runs"))
    for step, row in enumerate(rows):
        run.record(step, row)
    expected = [{"step": step, **without_what_json_lacks(row)} for step, row in enumerate(rows)]
    assert StoredRun(run.folder).metrics() == expected
    run.close_unfinished("interrupted")


def test_a_line_is_on_disk_as_soon_as_it_was_recorded(run: RunWriter) -> None:
    for step in range(3):
        run.record(step, {"x": step})
        assert [row["step"] for row in StoredRun(run.folder).metrics()] == [*range(step + 1)]


@pytest.mark.parametrize("torn", ["{", '{"step": 2, "x": 1', '{"step": 2, "x": 1}'])
def test_a_line_that_was_never_finished_does_not_count(run: RunWriter, torn: str) -> None:
    run.record(1, {"x": 1})
    with open(run.folder / "metrics.jsonl", "a") as file:
        file.write(torn)
    assert StoredRun(run.folder).metrics() == [{"step": 1, "x": 1}]


def test_without_metrics_there_are_no_rows(tmp_path: Path) -> None:
    stored = StoredRun(tmp_path)
    assert stored.metrics() == []
    steps, values = stored.curve("x")
    assert len(steps) == len(values) == 0


def test_a_curve_has_the_steps_where_its_metric_was_recorded(run: RunWriter) -> None:
    run.record(0, {"test_accuracy": 0.1})
    run.record(10, {"train_loss": 2.0})
    run.record(20, {"train_loss": math.nan, "test_accuracy": 0.0})
    run.record(30, {"train_loss": 1, "test_accuracy": 0.75})
    stored = StoredRun(run.folder)
    steps, values = stored.curve("test_accuracy")
    np.testing.assert_array_equal(steps, [0, 20, 30])
    np.testing.assert_array_equal(values, [0.1, 0.0, 0.75])
    steps, values = stored.curve("train_loss")
    np.testing.assert_array_equal(steps, [10, 30])
    np.testing.assert_array_equal(values, [2.0, 1.0])
    assert (steps.dtype, values.dtype) == (np.int64, np.float64)


def test_heartbeats_come_when_they_are_due(run: RunWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = StoredRun(run.folder)
    run.record(1, {})
    assert stored.status()["step"] == 0  # it was written a moment ago
    rewrite_status(run.folder, heartbeat=ago(1000))
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", -1.0)
    run.record(2, {})
    status = stored.status()
    assert (status["step"], status["state"]) == (2, "running")
    assert datetime.fromisoformat(status["heartbeat"]) > datetime.now(UTC) - timedelta(seconds=60)


# Probes and checkpoints


def test_probes_come_back_bit_for_bit(run: RunWriter) -> None:
    generator = np.random.default_rng(0)
    arrays = {
        "sigmoid1/percentiles": generator.normal(size=(4, 3)).astype(np.float32),
        "sigmoid1/counts": generator.integers(9, size=40),
        "output/weight_norm": np.array(2.5, np.float32),
        "odd": np.array([np.nan, np.inf, -0.0]),
    }
    run.probe(1000, {"sigmoid1/percentiles": np.zeros((4, 3), np.float32)})
    run.probe(20, arrays)
    stored = StoredRun(run.folder)
    assert stored.probe_steps() == [20, 1000]
    found = stored.probe(20)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()
    steps, values = stored.probed("sigmoid1/percentiles")
    np.testing.assert_array_equal(steps, [20, 1000])
    np.testing.assert_array_equal(values, [arrays["sigmoid1/percentiles"], np.zeros((4, 3))])
    steps, values = stored.probed("sigmoid1/counts")
    assert steps.tolist() == [20]
    assert values.shape == (1, 40)


def test_parts_of_probes(run: RunWriter) -> None:
    values = np.sort(np.random.default_rng(0).normal(size=(16, 100)).astype(np.float32))[:, ::-1]
    run.probe(20, {"linear2/jacobian": values})
    stored = StoredRun(run.folder)
    names = [f"linear2/jacobian:{part}" for part in ("rms", "deciles", "median")]
    rms, deciles, median = (values for _, (values,) in stored.probed_each(names))
    np.testing.assert_allclose(rms, np.linalg.norm(values.astype(np.float64), axis=1) / 10)
    assert (deciles == values[:, [10, 89]]).all()
    assert (median == np.quantile(values, 0.5, axis=0)).all()
    assert stored.probed("linear2/bias_norm:rms")[0].tolist() == []
    run.probe(40, {"sigmoid1/skewness": np.array([np.nan, -3.0, 1.0, 2.0, np.inf], np.float32)})
    run.probe(50, {"sigmoid1/skewness": np.full(5, np.nan, np.float32)})
    names = [f"sigmoid1/skewness:{part}" for part in ("middle", "size")]
    middle, size = (values for _, values in StoredRun(run.folder).probed_each(names))
    np.testing.assert_array_equal(middle, [1, np.nan])
    np.testing.assert_array_equal(size, [2, np.nan])


def test_the_last_two_checkpoints_are_kept_each_with_its_sha256(run: RunWriter) -> None:
    stored = StoredRun(run.folder)
    for step in (5, 100, 99_999, 1_000_000_000):
        run.checkpoint(step, b"state at %d" % step)
    assert stored.checkpoint_steps() == [99_999, 1_000_000_000]
    folder = run.folder / "checkpoints"
    assert sorted(os.listdir(folder)) == [
        "000099999.pt", "000099999.sha256", "1000000000.pt", "1000000000.sha256",
    ]  # fmt: skip
    for step in stored.checkpoint_steps():
        content = b"state at %d" % step
        assert stored.checkpoint(step) == content
        name = f"{step:09d}"
        expected = f"{hashlib.sha256(content).hexdigest()}  {name}.pt\n"  # as `sha256sum` writes it
        assert (folder / f"{name}.sha256").read_text() == expected


@pytest.mark.parametrize(
    "damage",
    [
        lambda pt, sha: pt.write_bytes(pt.read_bytes()[:-1]),
        lambda pt, sha: pt.write_bytes(pt.read_bytes() + b"\0"),
        lambda pt, sha: pt.write_bytes(bytes([pt.read_bytes()[0] ^ 1]) + pt.read_bytes()[1:]),
        lambda pt, sha: pt.write_bytes(b""),
        lambda pt, sha: pt.unlink(),
        lambda pt, sha: sha.unlink(),
        lambda pt, sha: sha.write_text(""),
        lambda pt, sha: sha.write_bytes(b"\xff\xfe"),
        lambda pt, sha: sha.write_text("0" * 64 + "  000000020.pt\n"),
    ],
)
def test_a_damaged_checkpoint_is_refused_and_the_other_is_not(
    run: RunWriter, damage: Callable[[Path, Path], object]
) -> None:
    for step in (10, 20):
        run.checkpoint(step, bytes(range(256)))
    path = run.folder / "checkpoints" / "000000020.pt"
    damage(path, path.with_suffix(".sha256"))
    stored = StoredRun(run.folder)
    with pytest.raises(CheckpointError, match=re.escape(str(path))) as caught:
        stored.checkpoint(20)
    assert caught.value.exit_code == 5
    assert stored.checkpoint(10) == bytes(range(256))


# The order of what is written


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files in the order in which they are written whole."""
    names: list[str] = []
    write = atomic.write

    def spy(path: Path, fill: Any, **options: Any) -> None:
        write(path, fill, **options)
        names.append(path.name)

    monkeypatch.setattr(atomic, "write", spy)
    return names


def test_the_summary_is_written_last(tmp_path: Path, written: list[str]) -> None:
    run = finished(tmp_path)
    assert written == [
        "status.json", "config.yaml", "000000005.npz", "000000005.sha256", "000000005.pt",
        "manifest.json", "status.json", "summary.json",
    ]  # fmt: skip
    assert run.summary() == {"status": "done", "steps": 5}
    assert (run.status()["state"], run.status()["step"]) == ("done", 5)


@pytest.mark.parametrize("name", [store.STATUS, store.CONFIG])
@pytest.mark.parametrize("begun", [False, True])
def test_a_signal_while_a_folder_is_taken_leaves_an_interrupted_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, begun: bool
) -> None:
    if begun:
        claim(tmp_path).close_unfinished("failed")
        rewrite_status(tmp_path, step=7)
    write, signals = atomic.write, [Interrupted(signal.SIGTERM)]

    def interrupted(path: Path, fill: Any, **options: Any) -> None:
        write(path, fill, **options)
        if path.name == name and signals:
            raise signals.pop()

    monkeypatch.setattr(atomic, "write", interrupted)
    with contextlib.suppress(Interrupted):
        claim(tmp_path).close_unfinished("interrupted")
    status = StoredRun(tmp_path).status()
    assert (status["state"], status["step"]) == ("interrupted", 7 if begun else 0)
    claim(tmp_path).close_unfinished("interrupted")  # it is free


def test_a_crash_before_the_summary_leaves_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = atomic.write

    def crash(path: Path, fill: Any, **options: Any) -> None:
        if path.name == store.SUMMARY:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, fill, **options)

    monkeypatch.setattr(atomic, "write", crash)
    with pytest.raises(StorageError, match=r"No space left on device \(.*summary\.json\)"):
        finished(tmp_path)
    assert StoredRun(tmp_path).summary() is None
    monkeypatch.undo()
    shutil.rmtree(tmp_path / lock.LOCKS)  # this process holds it still: a crashed one is gone
    claim(tmp_path).close_unfinished("interrupted")  # not taken for finished


def test_a_crash_within_a_checkpoint_leaves_the_earlier_ones(
    run: RunWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (10, 20):
        run.checkpoint(step, b"%d" % step)
    write = atomic.write

    def crash(path: Path, fill: Any, **options: Any) -> None:
        if path.suffix == ".pt":
            raise OSError(errno.EIO, "Input/output error", str(path))
        write(path, fill, **options)

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "write", crash)
        with pytest.raises(StorageError, match=r"000000030\.pt"):
            run.checkpoint(30, b"30")
    stored = StoredRun(run.folder)
    assert [stored.checkpoint(step) for step in stored.checkpoint_steps()] == [b"10", b"20"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_stops_the_metrics_and_the_run_says_so(tmp_path: Path) -> None:
    run = claim(tmp_path)
    run.record(1, {"x": 1})
    assert run._metrics is not None
    run._metrics.close()
    run._metrics = open("/dev/full", "ab", buffering=0)  # noqa: SIM115
    with pytest.raises(StorageError, match="No space left on device"):
        run.record(2, {"x": 2})
    run.close_unfinished("failed", error="disk full")
    status = StoredRun(tmp_path).status()
    assert (status["state"], status["step"], status["error"]) == ("failed", 1, "disk full")


# Writing a file whole or not at all


class FullDisk(io.FileIO):
    """A file on a disk with room for `room` bytes."""

    room = 0

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


@pytest.mark.parametrize("size", [10, 100_000])  # fails in flush, and within the filling
def test_a_full_disk_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(name: Path, mode: str) -> io.BufferedWriter:
        return io.BufferedWriter(FullDisk(name, mode.replace("b", "")))

    monkeypatch.setattr(atomic, "open", full, raising=False)
    with pytest.raises(OSError, match="No space left"):
        atomic.write(path, lambda file: file.write(b"x" * size))
    assert snapshot(tmp_path) == {"file": b"old"}


@pytest.mark.parametrize("durable", [True, False])
def test_a_fault_in_any_call_leaves_a_whole_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    path = tmp_path / "file"
    calls: list[str] = []
    faults: list[str] = []

    def faulty(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            calls.append(name)
            if len(calls) == broken:
                if name == "close":
                    real(*arguments)
                faults.append(name)
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*arguments, **options)

        return call

    found = []
    for broken in range(1, 20):
        calls.clear()
        path.write_bytes(b"old")
        with monkeypatch.context() as patch:
            patch.setattr(atomic, "open", faulty("create", open), raising=False)
            for name in ("fsync", "replace", "open", "close"):
                patch.setattr(os, name, faulty(name, getattr(os, name)))
            try:
                atomic.write(path, lambda file: file.write(b"new"), durable=durable)
            except OSError:
                replaced = "replace" in calls[: broken - 1]
                found.append((faults[-1], path.read_bytes()))
                assert path.read_bytes() == (b"new" if replaced else b"old")
            else:
                assert path.read_bytes() == b"new"
                assert len(calls) < broken
                break
        assert os.listdir(tmp_path) == ["file"]
    before = [("create", b"old"), ("fsync", b"old"), ("replace", b"old")]
    after = [("open", b"new"), ("fsync", b"new"), ("close", b"new")]
    assert found == (before + after if durable else [before[0], before[2]])


def test_an_error_while_filling_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fill(file: Any) -> None:
        file.write(b"half of the")
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        atomic.write(path, fill)
    assert snapshot(tmp_path) == {"file": b"old"}


def test_a_durable_file_is_flushed_before_it_is_renamed_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    replace = os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: calls.append(os.readlink(f"/proc/self/fd/{fd}")))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("rename"), replace(a, b)))
    atomic.write(tmp_path / "file", lambda file: file.write(b"x"))
    assert [re.sub(r"\.\w{8}\.part$", "", call) for call in calls] == [
        str(tmp_path / "file"),
        "rename",
        str(tmp_path),
    ]


# Reading what lies there


@pytest.mark.parametrize("content", [b'{"state": ', b"\xff\xfe\x00"])
def test_a_damaged_status_is_named_where_no_summary_tells_the_state(
    tmp_path: Path, content: bytes
) -> None:
    stored = finished(tmp_path)
    (tmp_path / "status.json").write_bytes(content)
    assert stored.status()["state"] == "done"
    (tmp_path / "summary.json").unlink()
    with pytest.raises(StorageError, match=re.escape(str(tmp_path / "status.json"))):
        stored.status()


@pytest.mark.parametrize("name", ["summary.json", "manifest.json", "config.yaml"])
@pytest.mark.parametrize("content", [b'{"state": ', b"\xff\xfe\x00"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    stored = finished(tmp_path)
    (tmp_path / name).write_bytes(content)
    read = {
        "summary.json": stored.summary,
        "manifest.json": stored.manifest,
        "config.yaml": stored.config,
    }[name]
    with pytest.raises(StorageError, match=re.escape(str(tmp_path / name))):
        read()


def test_runs_are_found_in_the_order_of_their_paths(tmp_path: Path) -> None:
    names = ["b", "a/2", "a/10", "a-b", "c/d/e", "A"]
    for name in names:
        finished(tmp_path / name)
    claim(tmp_path / "B").close_unfinished("failed")
    (tmp_path / "b" / "checkpoints" / "status.json").write_text("{}")  # no run within a run
    (tmp_path / "empty").mkdir()
    expected = sorted(tmp_path / name for name in [*names, "B"])
    assert [run.folder for run in find_runs(tmp_path)] == expected
    assert [run.folder for run in find_runs(tmp_path / "b")] == [tmp_path / "b"]
    assert find_runs(tmp_path / "empty") == []


def test_runs_behind_links_and_in_other_runs_are_found_once(tmp_path: Path) -> None:
    for name in ("here/z", "here/z/notes/inner", "elsewhere/x", "elsewhere/sweep/y"):
        finished(tmp_path / name)
    for link, target in {
        "here/a": "here/z",  # the run has a place of its own here
        "here/b": "elsewhere/x",
        "here/c": "elsewhere/x",
        "here/d": "elsewhere/sweep",
        "here/loop": "here",
        "elsewhere/sweep/back": "here",
        "here/broken": "nowhere",
    }.items():
        (tmp_path / link).symlink_to(tmp_path / target)
    found = [str(run.folder.relative_to(tmp_path)) for run in find_runs(tmp_path / "here")]
    assert found == ["here/b", "here/d/y", "here/z", "here/z/notes/inner"]


def test_runs_below_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such folder") as caught:
        find_runs(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in str(caught.value)


def test_new_folders_have_names_of_their_own(tmp_path: Path) -> None:
    names = [new_folder(tmp_path, "digits-mlp-batch-seed0") for _ in range(200)]
    assert len(set(names)) == 200
    assert names == sorted(names)
    for name in names:
        shape = r"\d{4}-\d\d-\d\d/\d{6}-digits-mlp-batch-seed0-\d{6}"
        assert re.fullmatch(shape, str(name.relative_to(tmp_path)))
    assert not any(tmp_path.iterdir())
