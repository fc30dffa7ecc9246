"""A run on disk: the one place where runs are written and read.

A run's folder is the interface between the wing that makes runs and the wing that reads them:

    config.yaml    the resolved configuration        metrics.jsonl  one JSON object a line
    manifest.json  what it ran on, and when          probes/        one .npz a probe
    status.json    state, last step, owner           checkpoints/   the last two
    summary.json   written last                      events.out.tfevents.*, .hydra/, train.log

`RunWriter` makes such a folder, or goes on with one; `StoredRun` reads one. Nothing here imports
torch or Hydra. Order is told by step, never by a file's time.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from bnrepro import atomic, reading
from bnrepro.errors import (
    BnreproError,
    CheckpointError,
    ConfigError,
    RunInUseError,
    StorageError,
    UnreadableError,
)

CONFIG = "config.yaml"
MANIFEST = "manifest.json"
METRICS = "metrics.jsonl"
STATUS = "status.json"
SUMMARY = "summary.json"
PREDICTIONS = "predictions.npz"
PROBES = "probes"
CHECKPOINTS = "checkpoints"
LOCKS = ".lock"
EVENTS = "events.out.tfevents."
OWN_NAMES = (
    CONFIG, MANIFEST, METRICS, STATUS, SUMMARY, PREDICTIONS, PROBES, CHECKPOINTS, ".hydra",
    "train.log",
)  # fmt: skip

FINISHED = ("done", "diverged")
"""States of a run that is a result; any other is worth starting again."""
STATES = ("running", *FINISHED, "failed", "interrupted")
"""All states that are written."""

Types = Mapping[str, tuple[type, ...]]
NUMBER, ABSENT = (int, float), type(None)

STATUS_TYPES = {"state": (str,), "step": (int, ABSENT), "error": (str, ABSENT)}
SUMMARY_TYPES = {
    "status": (str,),
    "steps": (int, ABSENT),
    "diverged_at": (int, ABSENT),
    **dict.fromkeys(
        ("test_accuracy", "best_test_accuracy", "validation_accuracy", "train_loss",
         "population_test_accuracy", "train_accuracy", "train_loss_inference", "wall_seconds"),
        (*NUMBER, ABSENT),
    ),
    "studies": (dict, ABSENT),
}  # fmt: skip
MANIFEST_TYPES = {
    "resumes": (list,), "versions": (dict,), "dataset": (dict,), "code": (str,), "cpu": (str,),
}  # fmt: skip
CONFIG_TYPES = {
    **dict.fromkeys(
        ("dataset", "model", "norm", "init", "optimizer", "schedule", "train", "probe", "run"),
        (dict,),
    ),
    **dict.fromkeys(
        ("dataset.name", "model.name", "norm.name", "init.name", "optimizer.name"), (str,)
    ),
    **dict.fromkeys(("seed", "train.steps", "train.batch_size", "probe.every"), (int,)),
    **dict.fromkeys(("optimizer.lr", "model.dropout", "norm.eps"), NUMBER),
    "tags": (list,),
}
"""The types of what is read by name; everything else in these files is only compared or shown."""

CHANCE = 0.1
"""The accuracy of guessing: MNIST, CIFAR-10 and the digits have ten classes."""

HEARTBEAT_SECONDS = 15.0
SILENT_SECONDS = 20 * HEARTBEAT_SECONDS
"""A run on another machine that has not shown a sign of life for so long is taken for dead."""
WATCHED_SECONDS = 2 * HEARTBEAT_SECONDS
"""Before its folder is taken it is watched for so long: clocks of two machines may disagree."""


@contextmanager
def _arrays(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    """The arrays of a .npz by name, each read when it is asked for."""
    with _storage(path), np.load(path, allow_pickle=False) as arrays:
        yield arrays


@contextmanager
def _storage(path: Path) -> Iterator[None]:
    """Turn an OSError into one line that names the path."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write or read: {error.strerror or error} ({error.filename or path}): "
            "free space or choose another folder with run.dir"
        ) from error


def _json(value: Any) -> Any:
    """Numbers that JSON lacks become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _json(item) for key, item in value.items()}
    return [_json(item) for item in value] if isinstance(value, list | tuple) else value


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    text = json.dumps(_json(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    atomic.write(path, lambda file: file.write(text.encode()))


def _boot_id() -> str | None:
    """What tells one boot of this machine from another; None where the system has no such thing."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _process_start(pid: int) -> str | None:
    """When a process started, in ticks since boot: with it a pid used again is told apart."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _owner() -> dict[str, Any]:
    pid = os.getpid()
    start = _process_start(pid)
    return {"pid": pid, "pid_start": start, "host": socket.gethostname(), "boot_id": _boot_id()}


def _elsewhere(status: Mapping[str, Any]) -> bool:
    return bool(status.get("host") != socket.gethostname())


def _alive(status: Mapping[str, Any]) -> bool:
    """Whether the process that wrote this status is still there to write more."""
    if _elsewhere(status):
        try:
            beat = datetime.fromisoformat(str(status.get("heartbeat")))
        except ValueError:
            return False
        return abs((datetime.now(UTC) - beat).total_seconds()) < SILENT_SECONDS
    if status.get("boot_id") != _boot_id():
        return False
    try:
        os.kill(int(status["pid"]), 0)
    except (ProcessLookupError, KeyError, ValueError, TypeError):
        return False
    except PermissionError:  # it is there, and somebody else's
        pass
    return _process_start(int(status["pid"])) == status.get("pid_start")


def _in_use(folder: Path, owner: Mapping[str, Any]) -> RunInUseError:
    return RunInUseError(
        f"in use by process {owner.get('pid')} on {owner.get('host')} ({folder}):"
        " wait for it, or choose another run.dir"
    )


def _lock(folder: Path, owner: Mapping[str, Any]) -> Path:
    """Become the only writer of a folder: the lock's file, or RunInUseError.

    The owner is who made the lock of the highest number. A lock appears under its name whole and
    only if there is none of that name, by a hard link, which network file systems hold as well.
    Of all who find the highest lock free or its process gone, one makes the next.
    """
    locks = folder / LOCKS
    locks.mkdir(exist_ok=True)
    mine = locks / f"{secrets.token_hex(8)}.new"
    beat = datetime.now(UTC).isoformat(timespec="seconds")
    text = json.dumps({**owner, "heartbeat": beat})
    try:
        mine.write_text(text, encoding="utf-8")
        while True:
            held, free = _numbered(locks, "json"), _numbered(locks, "free")
            number = max([*held, *free], default=0)
            if number in held:
                try:
                    holder = json.loads(held[number].read_text(encoding="utf-8"))
                except FileNotFoundError:  # released since, or cleaned up by who has the next one
                    continue
                except ValueError:  # a power loss took its content, and its owner with it
                    holder = {"host": socket.gethostname()}
                if _alive(holder):
                    raise _in_use(folder, holder)
            lock = locks / _number(number + 1, "json")
            try:
                os.link(mine, lock)
            except FileExistsError:
                continue
            except FileNotFoundError:  # who has the folder now has cleaned up, ours with the rest
                mine.write_text(text, encoding="utf-8")
                continue
            if max([*_numbered(locks, "json"), *_numbered(locks, "free")]) > number + 1:
                lock.unlink()  # we were looking at the past
                continue
            for old in (*held.values(), *free.values(), *locks.glob("*.new")):
                old.unlink(missing_ok=True)
            return lock
    finally:
        mine.unlink(missing_ok=True)


def _typed(value: Any, types: Types, path: Path) -> dict[str, Any]:
    """Return the object that was read from `path`, its values at dotted names of these types."""
    if not isinstance(value, dict):
        raise UnreadableError(path, "not an object")
    for name, wanted in types.items():
        group, _, key = name.rpartition(".")
        values = value.get(group, {}) if group else value
        if key in values and type(values[key]) not in wanted:
            raise UnreadableError(path, f"{name} is of type {type(values[key]).__name__}")
    return value


@dataclass(frozen=True)
class StoredRun:
    """A run as it lies on disk. Every method reads afresh.

    Raises:
        UnreadableError: a file is not what `RunWriter` could have written.
    """

    folder: Path

    def _load(self, name: str, types: Types) -> dict[str, Any] | None:
        path = self.folder / name
        try:
            read = reading.read_yaml if name == CONFIG else reading.read_json
            return _typed(read(path), types, path)
        except FileNotFoundError:
            return None

    def exists(self) -> bool:
        """Whether the folder holds a run, finished or not."""
        return (self.folder / STATUS).is_file() or (self.folder / SUMMARY).is_file()

    def status(self) -> dict[str, Any]:
        """The run's status; its `state` is `stale` where a running run's process is gone."""
        status = self._load(STATUS, STATUS_TYPES) or {"state": "failed", "step": 0}
        if status.get("state") not in STATES:
            raise UnreadableError(self.folder / STATUS, "no state of a run")
        if status["state"] == "running" and not _alive(status):
            return {**status, "state": "stale"}
        return status

    def summary(self) -> dict[str, Any] | None:
        """The run's summary, or None where it did not come to its end."""
        summary = self._load(SUMMARY, SUMMARY_TYPES)
        if summary is not None and summary.get("status") not in FINISHED:
            raise UnreadableError(self.folder / SUMMARY, "no status of a finished run")
        return summary

    def manifest(self) -> dict[str, Any]:
        """What the run ran on."""
        manifest = self._load(MANIFEST, MANIFEST_TYPES) or {}
        if not all(isinstance(resumed, dict) for resumed in manifest.get("resumes", ())):
            raise UnreadableError(self.folder / MANIFEST, "resumes is not a list of objects")
        return manifest

    def drift(self) -> list[str]:
        """What differed from when the run began, of those it was resumed with; empty as a rule.

        A run that drifted is of no single configuration. To have been trained in a stack and alone
        is no drift: that differs in rounding only.
        """
        resumes = self.manifest().get("resumes", ())
        found = [str(line) for resumed in resumes for line in resumed.get("drift") or ()]
        return [line for line in dict.fromkeys(found) if not line.startswith("stacked: ")]

    def chance(self) -> float:
        """The accuracy of guessing: one over the number of classes, as the manifest names them."""
        dataset = self.manifest().get("dataset")
        classes = dataset.get("classes") if isinstance(dataset, dict) else None
        return 1 / len(classes) if isinstance(classes, list) and classes else CHANCE

    def config(self) -> dict[str, Any]:
        """The run's configuration as plain containers."""
        return self._load(CONFIG, CONFIG_TYPES) or {}

    def metrics(self) -> list[dict[str, Any]]:
        """Every whole line of `metrics.jsonl`, in the order of steps."""
        path = self.folder / METRICS
        with _storage(path):
            text = path.read_bytes() if path.is_file() else b""
        lines = text.split(b"\n")[:-1]  # what follows the last newline was never finished
        return [json.loads(line) for line in lines]

    def curve(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values of one metric, wherever it was recorded."""
        points = [(row["step"], row[name]) for row in self.metrics() if row.get(name) is not None]
        steps, values = zip(*points, strict=True) if points else ((), ())
        return np.array(steps, dtype=np.int64), np.array(values, dtype=np.float64)

    def probe_steps(self) -> list[int]:
        """The steps of which there is a probe."""
        return sorted(_numbered(self.folder / PROBES, "npz"))

    def probe(self, step: int) -> dict[str, np.ndarray]:
        """One probe's arrays by name."""
        with _arrays(_numbered(self.folder / PROBES, "npz")[step]) as arrays:
            return dict(arrays)

    def probed(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps (P,) and one measurement over all probes, (P, …)."""
        found = {}
        for step, path in sorted(_numbered(self.folder / PROBES, "npz").items()):
            with _arrays(path) as arrays:
                if name in arrays:
                    found[step] = arrays[name]
        return np.array([*found]), np.array([*found.values()])

    def predictions(self) -> dict[str, np.ndarray]:
        """What was kept with `predictions=true`.

        Of the splits `validation` and `test`: SPLIT/probabilities, float32 (N, classes), by the
        network the run ended with, and SPLIT/labels, int64 (N,).
        """
        with _arrays(self.folder / PREDICTIONS) as arrays:
            return dict(arrays)

    def checkpoint_steps(self) -> list[int]:
        """The steps of which there is a checkpoint, whole or not."""
        return sorted(_numbered(self.folder / CHECKPOINTS, "pt"))

    def newest_checkpoint(
        self, warn: Callable[[str], None], limit: int | None = None
    ) -> bytes | None:
        """The newest checkpoint that is whole, or None where none was ever made.

        Where there are some at `limit` or before, the newest of those.

        Raises:
            CheckpointError: there are checkpoints, and each is damaged. `warn` was told of each.
        """
        every = self.checkpoint_steps()
        steps = [step for step in every if limit is None or step <= limit] or every
        for step in reversed(steps):
            try:
                return self.checkpoint(step)
            except CheckpointError as error:
                warn(f"warning: {error}")
        if steps:
            raise CheckpointError(
                f"no checkpoint is whole ({self.folder}): run.overwrite=true begins anew"
            )
        return None

    def checkpoint(self, step: int) -> bytes:
        """A checkpoint's bytes, checked against its SHA-256.

        Raises:
            CheckpointError: it is missing or was changed since it was written.
        """
        path = self.folder / CHECKPOINTS / _number(step, "pt")
        try:
            content = path.read_bytes()
            expected = path.with_suffix(".sha256").read_text().split()[0]
        except (OSError, IndexError, ValueError) as error:
            raise CheckpointError(f"not readable: {error} ({path}): use another") from error
        found = hashlib.sha256(content).hexdigest()
        if found != expected:
            raise CheckpointError(
                f"damaged: SHA-256 is {found}, should be {expected} ({path}): use another"
            )
        return content


def _number(step: int, suffix: str) -> str:
    return f"{step:09d}.{suffix}"


def _numbered(folder: Path, suffix: str) -> dict[int, Path]:
    """Files named by a step."""
    found = folder.glob(f"*.{suffix}") if folder.is_dir() else ()
    return {int(path.stem): path for path in found if path.stem.isdigit()}


def find_runs(folder: Path) -> list[StoredRun]:
    """Every run in `folder` or below it, in the order of their paths.

    Raises:
        StorageError: there is no such folder.
    """
    if not folder.is_dir():
        raise StorageError(
            f"no such folder ({folder}): name a folder of runs; 'bnrepro train' makes one"
        )
    found = []
    for root, folders, names in os.walk(folder):
        folders.sort()
        if STATUS in names or SUMMARY in names:
            found.append(StoredRun(Path(root)))
            folders.clear()
    return found


def note_failure(folder: Path, config: Mapping[str, Any], error: str) -> None:
    """Write into a run's status what ended its process, where that could not do so itself."""
    with suppress(BnreproError):  # somebody else has the folder, or it holds another run
        writer = RunWriter.claim(folder, config, [])
        if writer is not None:
            writer._step = int(StoredRun(folder).status().get("step") or 0)
            writer.abandon("failed", error)


def new_folder(parent: Path) -> Path:
    """A name for a new run's folder that no other run has: date, time and microsecond."""
    return parent / datetime.now().strftime("%Y-%m-%d/%H%M%S-%f")


class RunWriter:
    """Writes one run's folder; made by `claim`, closed by `finish`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._owner = _owner()
        self._began = time.monotonic()
        self._beat = -math.inf
        self._state = "running"
        self._earlier = 0.0
        self._step = 0  # of the last line
        self._metrics: io.FileIO | None = None
        self._unflushed: list[Path] = []
        self._lock: Path | None = None
        self.resuming = False

    @property
    def seconds(self) -> float:
        """Seconds spent on what is kept of this run, by a clock that does not jump."""
        return self._earlier + time.monotonic() - self._began

    @classmethod
    def claim(
        cls,
        folder: Path,
        config: Mapping[str, Any],
        differences: list[str],
        *,
        overwrite: bool = False,
        allow_drift: bool = False,
    ) -> RunWriter | None:
        """Take a folder for a run, or None where this very run is finished there already.

        A run that did not come to its end is gone on with: what it left stays until `rewind`.
        `differences` are those between `config` and the configuration of the run that lies there;
        an unfinished run may be gone on with in spite of them with `allow_drift`.

        Raises:
            RunInUseError: another process is writing this run.
            ConfigError: the folder holds another run, or something that is no run.
            StorageError: the folder cannot be written.
        """
        stored = StoredRun(folder)
        with _storage(folder):
            if stored.exists():
                status = stored.status()
                if status["state"] == "running" or _signs_of_life(stored, status):
                    raise _in_use(folder, status)
                finished = stored.summary() is not None
                if differences and not overwrite and (finished or not allow_drift):
                    raise ConfigError(
                        f"another configuration ran here ({folder}; {'; '.join(differences)}): "
                        "choose another run.dir, or run.overwrite=true to replace it"
                    )
                if finished and not overwrite:
                    return None
            elif _foreign(folder) and not stored.exists():  # it may have come while we looked
                raise ConfigError(f"not empty and not a run ({folder}): choose another run.dir")
            atomic.make_folder(folder)
            run = cls(folder)
            run._lock = _lock(folder, run._owner)
            if stored.summary() is not None and not overwrite:  # somebody was quicker, and is done
                run._release()
                return None
            try:
                run._begin(config, anew=overwrite or not (folder / CONFIG).is_file())
            except BaseException:
                run._release()
                raise
        return run

    def _begin(self, config: Mapping[str, Any], *, anew: bool) -> None:
        """Make the folder ready to be written to, and say that it is."""
        if anew:
            _clear(self.folder)
        for left in (*self.folder.glob("*.part"), *self.folder.glob("*/*.part")):
            left.unlink()  # by a crash, before it had its name
        self._write_status(0)
        (self.folder / PROBES).mkdir(exist_ok=True)
        (self.folder / CHECKPOINTS).mkdir(exist_ok=True)
        if anew:
            text = _yaml(config)
            atomic.write(self.folder / CONFIG, lambda file: file.write(text.encode()))
        self.resuming = not anew
        # Unbuffered: after a write that failed, nothing is left to be written later.
        self._metrics = open(self.folder / METRICS, "ab", buffering=0)  # noqa: SIM115

    def _release(self) -> None:
        """Let others have the folder. The lock's file stays: its number must not come again."""
        if self._lock is not None:
            with suppress(OSError):
                self._lock.rename(self._lock.with_suffix(".free"))

    def rewind(self, step: int, metrics_bytes: int, seconds: float) -> None:
        """Cut off what was recorded after a checkpoint: it is going to be computed again.

        Args:
            step: of the checkpoint; 0 to begin anew.
            metrics_bytes: how long the metrics were when it was made.
            seconds: what the run had taken then.

        Raises:
            CheckpointError: the metrics are shorter than that; a part of the run is lost.
        """
        assert self._metrics is not None
        path = self.folder / METRICS
        with _storage(path):
            if path.stat().st_size < metrics_bytes:
                raise CheckpointError(
                    f"lines are missing before step {step} ({path}): run.overwrite=true begins anew"
                )
            self._metrics.truncate(metrics_bytes)
            for name, suffixes in ((PROBES, ["npz"]), (CHECKPOINTS, ["pt", "sha256"])):
                for suffix in suffixes:
                    for at, file in _numbered(self.folder / name, suffix).items():
                        if at > step or step == 0:
                            file.unlink()
            self._keep_two()
        self._step, self._earlier, self._began = step, seconds, time.monotonic()

    def flushed(self) -> int:
        """Bring all that was recorded to the disk; how many bytes the metrics have.

        To be called before a checkpoint, which must never be newer than what it builds on.
        """
        assert self._metrics is not None
        with _storage(self.folder):
            os.fsync(self._metrics.fileno())
            for path in self._unflushed:
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
            if self._unflushed:
                atomic.sync_folder(self.folder / PROBES)
            self._unflushed.clear()
            return os.fstat(self._metrics.fileno()).st_size

    def _write_status(self, step: int, error: str | None = None) -> None:
        self._beat = time.monotonic()
        status = {
            "state": self._state,
            "step": step,
            **self._owner,
            "heartbeat": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        if error is not None:
            status["error"] = error
        _write_json(self.folder / STATUS, status)

    def manifest(self, facts: Mapping[str, Any]) -> None:
        """Write what the run runs on."""
        with _storage(self.folder):
            _write_json(self.folder / MANIFEST, facts)

    def record(self, step: int, values: Mapping[str, Any]) -> None:
        """Append one line to the metrics, and give a sign of life."""
        assert self._metrics is not None
        with _storage(self.folder):
            line = json.dumps(_json({"step": step, **values}), allow_nan=False)
            left = f"{line}\n".encode()
            while left:  # a disk that is nearly full takes a part
                left = left[self._metrics.write(left) :]
            self._step = step
        self.alive()

    def alive(self) -> None:
        """Give a sign of life to the status, where one is due."""
        if time.monotonic() - self._beat > HEARTBEAT_SECONDS:
            with _storage(self.folder):
                self._write_status(self._step)

    def probe(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Write one probe; it is flushed to the disk with the next checkpoint."""
        named: dict[str, Any] = dict(arrays)
        path = self.folder / PROBES / _number(step, "npz")
        with _storage(path):
            atomic.write(path, lambda file: np.savez(file, **named), durable=False)
            self._unflushed.append(path)

    def predictions(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep what `StoredRun.predictions` returns."""
        named: dict[str, Any] = dict(arrays)
        path = self.folder / PREDICTIONS
        with _storage(path):
            atomic.write(path, lambda file: np.savez(file, **named))

    def checkpoint(self, step: int, content: bytes) -> None:
        """Write a checkpoint with its SHA-256; the last two are kept."""
        folder = self.folder / CHECKPOINTS
        path = folder / _number(step, "pt")
        digest = hashlib.sha256(content).hexdigest()
        with _storage(path):
            # The digest first: a checkpoint without one would count as damaged.
            line = f"{digest}  {path.name}\n".encode()
            atomic.write(path.with_suffix(".sha256"), lambda file: file.write(line))
            atomic.write(path, lambda file: file.write(content))
            self._keep_two()

    def _keep_two(self) -> None:
        for suffix in ("pt", "sha256"):
            files = _numbered(self.folder / CHECKPOINTS, suffix)
            for step in sorted(files)[:-2]:
                files[step].unlink()

    def finish(self, state: str, step: int, summary: Mapping[str, Any]) -> None:
        """Close a run that is a result: its status, then its summary, which is written last."""
        self._state = state
        with _storage(self.folder):
            if self._metrics is not None:
                self._metrics.close()
            self._write_status(step)
            _write_json(self.folder / SUMMARY, {"status": state, **summary})
        self._release()

    def abandon(self, state: str, error: str | None = None) -> None:
        """Close a run that did not come to its end (`interrupted` or `failed`)."""
        self._state = state
        with suppress(OSError):  # a full disk may be the very reason: the status is tried still
            if self._metrics is not None:
                self._metrics.close()
        try:
            with _storage(self.folder):
                # A summary that is there is a result, even if its last flush has failed.
                if not (self.folder / SUMMARY).is_file():
                    self._write_status(self._step, error)
        finally:
            self._release()


def _yaml(config: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)


def _foreign(folder: Path) -> bool:
    """Whether a folder holds more than a run does that was killed before it had a status."""
    if not folder.is_dir():
        return False
    return not all(name == LOCKS or name.startswith(f"{STATUS}.") for name in os.listdir(folder))


def _signs_of_life(stored: StoredRun, status: Mapping[str, Any]) -> bool:
    """Whether a run on another machine, silent by our clock, beats all the same while watched."""
    if status["state"] != "stale" or not _elsewhere(status):
        return False
    until = time.monotonic() + WATCHED_SECONDS
    while time.monotonic() < until:
        time.sleep(WATCHED_SECONDS / 10)
        if stored.status().get("heartbeat") != status.get("heartbeat"):
            return True
    return False


def _clear(folder: Path) -> None:
    """Remove what a run left in its folder, and nothing else that may lie there.

    First what makes it a result, then what makes it a run that could be gone on with: a crash on
    the way must not leave half of it taken for either. Its status is left to be replaced, so that
    the folder stays one of ours.
    """
    for name in (SUMMARY, CONFIG):
        (folder / name).unlink(missing_ok=True)
        atomic.sync_folder(folder)
    for name in sorted(os.listdir(folder)):
        if (name in OWN_NAMES or name.startswith(EVENTS)) and name != STATUS:
            path = folder / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def to_bytes(save: Any) -> bytes:
    """What `save` writes into a file object, as bytes."""
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()
