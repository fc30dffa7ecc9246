"""A run on disk: the one place where runs are written and read.

A run's folder is the interface between the wing that makes runs and the wing that reads them:

    config.yaml    the resolved configuration        metrics.jsonl  one JSON object a line
    manifest.json  what it ran on, and when          probes/        one .npz a probe
    status.json    state, last step, owner           checkpoints/   the last two
    summary.json   written last                      events.out.tfevents.*, .hydra/, train.log

`RunWriter` makes such a folder, or resumes one; `StoredRun` reads one. Nothing here imports
torch or Hydra. Order follows from steps, never from a file's time.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import stat
import time
import zipfile
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from bnrepro import atomic, lock, reading
from bnrepro.errors import (
    BnreproError,
    CheckpointError,
    ConfigError,
    Interrupted,
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
LOCKS = lock.LOCKS
EVENTS = "events.out.tfevents."
FINISHED = ("done", "diverged")
"""States of a run that is a result; any other is worth starting again."""
STATES = ("running", *FINISHED, "failed", "interrupted")
"""All states that are written."""
UNREADABLE = "unreadable"
"""The state that lists tell of a run whose files are damaged, or finished and not all there."""

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

ADVICE = {
    STATUS: "rerun the run's command to mend it",
    CONFIG: "run.overwrite=true restarts it",
}
"""What to do if one of these files cannot be used; any other can be moved away."""

CHECKPOINT_BYTES = 2**33
"""The largest checkpoint that is read."""

ARRAYS_BYTES = 2**30
"""The largest file of arrays that is read."""

CHANCE = 0.1
"""The accuracy of guessing: MNIST, CIFAR-10 and the digits have ten classes."""

WATCHED_SECONDS = 2 * lock.HEARTBEAT_SECONDS
"""A folder whose owner is silent is watched for so long before it is taken: clocks may disagree."""
LINE_BYTES = 2**20
"""The longest line of metrics that is read, in bytes: a hundred times more than ever written."""


@contextmanager
def _arrays(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    """The arrays of a .npz by name, each read when it is asked for.

    Raises:
        UnreadableError: it is not what `np.savez` writes.
    """
    try:
        with reading.opened(path) as file:
            if os.fstat(file.fileno()).st_size > ARRAYS_BYTES:
                raise UnreadableError(path, f"larger than {ARRAYS_BYTES:,} bytes")
            entries = zipfile.ZipFile(file).infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise UnreadableError(path, "compressed")  # it could expand to any size
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                yield arrays
    except UnreadableError:
        raise
    except Exception as error:  # a damaged archive raises errors of many kinds
        why = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableError(path, why) from error


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


def _json_bytes(value: Mapping[str, Any]) -> bytes:
    text = json.dumps(_json(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode()


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
        except UnreadableError as error:
            if name in ADVICE:
                raise UnreadableError(path, error.why, ADVICE[name]) from error
            raise

    def exists(self) -> bool:
        """Whether the folder holds a run, finished or not."""
        return (self.folder / STATUS).is_file() or (self.folder / SUMMARY).is_file()

    def status(self) -> dict[str, Any]:
        """The run's status; its `state` is `stale` where a running run's process is gone.

        A finished run whose status is damaged has the state that its summary tells.
        """
        try:
            status = self._load(STATUS, STATUS_TYPES) or {"state": "failed", "step": 0}
            if status.get("state") not in STATES:
                raise UnreadableError(self.folder / STATUS, "no state of a run", ADVICE[STATUS])
        except UnreadableError:
            if (summary := self.summary()) is None:
                raise
            return {"state": summary["status"], "step": summary.get("steps")}
        if status["state"] == "running" and not lock.alive(status):
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

    def lacks(self, *, probes: bool = True, config: Mapping[str, Any] | None = None) -> str | None:
        """Name what a finished run should hold and does not; None if nothing is missing.

        Such a run must not be judged: without its metrics it looks like one that never learned.
        Reads the summary, the configuration, the last line of the metrics, and the names of the
        probes if `probes`; a `config` that has been read already is not read again.
        """
        summary, config = self.summary(), self.config() if config is None else config
        if summary is None:
            return SUMMARY
        if not config:
            return CONFIG
        done, steps = summary["status"] == "done", summary.get("steps") or 0
        recorded = steps if done else steps - 1  # nothing is recorded of the step that diverged
        evaluations = config.get("train", {}).get("eval_every") or 0
        due = recorded if done or not evaluations else recorded - recorded % evaluations
        last = self.last_line()
        if last.get("step", -1) < due:
            return f"{METRICS} up to step {due}"
        if done and last.get("test_accuracy") != summary.get("test_accuracy"):
            return f"{METRICS} of its own"
        if not probes:
            return None
        if every := config.get("probe", {}).get("every"):
            due_steps = {*range(0, recorded + 1, every), *([steps] if done else [])}
            if missing := due_steps.difference(self.probe_steps()):
                return f"{PROBES}/{_number(min(missing), 'npz')}"
        if done and config.get("predictions") and not (self.folder / PREDICTIONS).is_file():
            return PREDICTIONS
        return None

    def damaged(self, *, probes: bool = True) -> str | None:
        """Say why a run can be neither taken for a result nor resumed; None if it can.

        A file of it cannot be read, or it is finished and lacks something, as `lacks` tells.
        """
        if not self.exists():
            return None
        try:
            self.status()
            self.manifest()
            self.config()
            what = self.lacks(probes=probes) if self.summary() is not None else None
        except UnreadableError as error:
            return f"not readable: {error.why} ({error.path.name})"
        return None if what is None else f"no {what}"

    def last_line(self) -> dict[str, Any]:
        """The last whole line of the metrics; empty where there is none."""
        path = self.folder / METRICS
        try:
            lines = reading.read_tail(path, LINE_BYTES).split(b"\n")
        except FileNotFoundError:
            return {}
        return _line(lines[-2], path) if len(lines) > 1 else {}

    def lines(self, name: str | None = None) -> Iterator[dict[str, Any]]:
        """Every whole line of `metrics.jsonl`, in the order of steps, one after another.

        Args:
            name: leave out the lines that have no metric of this name.
        """
        path, wanted = self.folder / METRICS, json.dumps(name).encode() if name else b""
        try:
            with reading.opened(path) as file:
                while text := file.readline(LINE_BYTES):
                    if not text.endswith(b"\n"):
                        if len(text) == LINE_BYTES:
                            raise UnreadableError(path, f"a line of more than {LINE_BYTES:,} bytes")
                        return  # what follows the last newline was never finished
                    if wanted in text:
                        yield _line(text, path, name or "step")
        except FileNotFoundError:
            return

    def metrics(self) -> list[dict[str, Any]]:
        """Every whole line of `metrics.jsonl`, in the order of steps."""
        return list(self.lines())

    def curve(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values of one metric, wherever it was recorded."""
        steps, values = array("q"), array("d")
        for row in self.lines(name):
            if row.get(name) is not None:
                steps.append(row["step"])
                values.append(row[name])
        return np.array(steps, dtype=np.int64), np.array(values, dtype=np.float64)

    def probe_steps(self) -> list[int]:
        """The steps that have a probe."""
        return sorted(_numbered(self.folder / PROBES, "npz"))

    def probe(self, step: int) -> dict[str, np.ndarray]:
        """One probe's arrays by name."""
        with _arrays(self.folder / PROBES / _number(step, "npz")) as arrays:
            return dict(arrays)

    def probed(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps (P,) and one measurement over all probes, (P, …)."""
        return self.probed_each([name])[0]

    def probed_each(self, names: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """`probed` of several measurements, for which every probe is opened once."""
        values: list[dict[int, np.ndarray]] = [{} for _ in names]
        for step, path in sorted(_numbered(self.folder / PROBES, "npz").items()):
            with _arrays(path) as arrays:
                for name, of_name in zip(names, values, strict=True):
                    if name in arrays:
                        of_name[step] = arrays[name]
        return [(np.array([*of_name]), np.array([*of_name.values()])) for of_name in values]

    def predictions(self) -> dict[str, np.ndarray]:
        """What was kept with `predictions=true`.

        Of the splits `validation` and `test`: SPLIT/probabilities, float32 (N, classes), by the
        network the run ended with, and SPLIT/labels, int64 (N,). A label, or a column of
        probabilities, is the number of a class in `classes`, str (classes,).
        """
        with _arrays(self.folder / PREDICTIONS) as arrays:
            return dict(arrays)

    def checkpoint_steps(self) -> list[int]:
        """The steps that have a checkpoint, whole or not."""
        return sorted(_numbered(self.folder / CHECKPOINTS, "pt"))

    def whole_checkpoints(
        self, warn: Callable[[str], None], limit: int | None = None
    ) -> Iterator[tuple[int, bytes]]:
        """Steps and contents of the checkpoints that are whole, the newest first.

        If there are any at `limit` or before, only those. `warn` is called for each damaged one.
        """
        every = self.checkpoint_steps()
        steps = [step for step in every if limit is None or step <= limit] or every
        for step in reversed(steps):
            try:
                yield step, self.checkpoint(step)
            except CheckpointError as error:
                warn(f"warning: {error}")

    def checkpoint(self, step: int) -> bytes:
        """A checkpoint's bytes, checked against its SHA-256.

        Raises:
            CheckpointError: it is missing or was changed since it was written.
        """
        path = self.folder / CHECKPOINTS / _number(step, "pt")
        try:
            content = reading.read_bytes(path, CHECKPOINT_BYTES)
            expected = reading.read_text(path.with_suffix(".sha256")).split()[0]
        except (FileNotFoundError, UnreadableError, IndexError) as error:
            why = error.why if isinstance(error, UnreadableError) else str(error)
            raise CheckpointError(f"not readable: {why} ({path}): use another") from error
        found = hashlib.sha256(content).hexdigest()
        if found != expected:
            raise CheckpointError(
                f"damaged: SHA-256 is {found}, should be {expected} ({path}): use another"
            )
        return content


def _line(text: bytes, path: Path, name: str = "step") -> dict[str, Any]:
    """One line of metrics, an object with a step; the metric `name`, if there, is a number."""
    try:
        row = _typed(json.loads(text), {"step": (int,), name: (*NUMBER, ABSENT)}, path)
        if row["step"].bit_length() < 64:  # absent is a TypeError of None
            return row
        raise ValueError("a step of more than 63 bits")
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        why = f"{error or type(error).__name__} in a line that begins {text[:40]!r}"
        raise UnreadableError(path, why) from error


_number, _numbered = reading.number_name, reading.numbered


def find_runs(folder: Path) -> list[StoredRun]:
    """Every run in `folder` or below it, in the order of their paths.

    Links to folders are followed. A run that is there under several names is found once, under the
    one that needs no link.

    Raises:
        StorageError: there is no such folder.
    """
    if not folder.is_dir():
        raise StorageError(
            f"no such folder ({folder}): name a folder of runs; 'bnrepro train' makes one"
        )
    found, seen, waiting = [], set(), deque([folder])
    while waiting:  # first without the links that are met
        for root, folders, names in os.walk(waiting.popleft()):
            status = os.stat(root)
            if (place := (status.st_dev, status.st_ino)) in seen:
                folders.clear()
                continue
            seen.add(place)
            if STATUS in names or SUMMARY in names:
                found.append(StoredRun(Path(root)))
                folders[:] = set(folders) - OWN_FILES.keys()
            paths = (Path(root, name) for name in folders)
            waiting.extend(path for path in paths if path.is_symlink())
    return sorted(found, key=lambda run: run.folder)


def note_failure(folder: Path, config: Mapping[str, Any], error: str) -> None:
    """Write into a run's status what ended its process, where that could not do so itself."""
    with suppress(BnreproError):  # somebody else has the folder, or it holds another run
        writer = RunWriter.claim(folder, config, [])
        if writer is not None:
            writer.abandon("failed", error)


def new_folder(parent: Path) -> Path:
    """A name for a new run's folder that no other run has: date, time and microsecond."""
    return parent / datetime.now().strftime("%Y-%m-%d/%H%M%S-%f")


class RunWriter:
    """Writes one run's folder; made by `claim`, closed by `finish`.

    Before each thing that it writes it looks whether the folder is still this process's own: every
    method but `abandon` raises RunInUseError, or StorageError, if another process has taken it
    or if it was moved away, and leaves it as it is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._owner = lock.me()
        self._lock = lock.Lock.take(folder, self._owner)
        self._began = time.monotonic()
        self._beat = -math.inf
        self._state = "running"
        self._earlier = 0.0
        self._step = 0  # of the last line
        self._metrics: io.FileIO | None = None
        self._metrics_bytes, self._metrics_hash = 0, hashlib.sha256()
        self._unflushed: list[Path] = []
        self.resuming = False

    @property
    def seconds(self) -> float:
        """Seconds spent on what is kept of this run, by a clock that does not jump."""
        return self._earlier + time.monotonic() - self._began

    @property
    def metrics_sha256(self) -> str:
        """The SHA-256 of all lines of metrics, in hexadecimal."""
        return self._metrics_hash.hexdigest()

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

        An unfinished run is resumed; its files stay until `rewind`.
        `differences` are those between `config` and the configuration of the run that lies there;
        `allow_drift` resumes an unfinished run despite them.

        Raises:
            RunInUseError: another process is writing this run.
            ConfigError: the folder holds another run, or something that is no run.
            StorageError: the folder cannot be written, or holds links where a run has files.
        """
        stored = StoredRun(folder)
        with _storage(folder):
            if stored.exists():
                _wait_for_signs_of_life(stored)
                finished = not overwrite and stored.summary() is not None
                if differences and not overwrite and (finished or not allow_drift):
                    raise ConfigError(
                        f"another configuration ran here ({folder}; {'; '.join(differences)}): "
                        "choose another run.dir, or run.overwrite=true to replace it"
                    )
                if finished:
                    return None
            elif _foreign(folder) and not stored.exists():  # it may have come while we looked
                raise ConfigError(f"not empty and not a run ({folder}): choose another run.dir")
            atomic.make_folder(folder)
            run = cls(folder)
            try:
                if not overwrite and stored.summary() is not None:  # somebody was quicker
                    run._lock.release()
                    return None
                run._begin(config, restart=overwrite or not (folder / CONFIG).is_file())
            except Interrupted:  # the status may say already that it runs
                run.abandon("interrupted")
                raise
            except BaseException:
                run._lock.release()
                raise
        return run

    def _begin(self, config: Mapping[str, Any], *, restart: bool) -> None:
        """Make the folder ready to be written to, and say that it is."""
        if restart:
            _clear(self.folder)
        else:  # how far it was, until `rewind` says where it resumes
            self._step = int(StoredRun(self.folder).status().get("step") or 0)
        _refuse_links(self.folder)
        for path in _own_files(self.folder):
            if atomic.PART.fullmatch(path.name):
                path.unlink()  # left by a crash, before it had its name
        self._write_status(self._step)
        (self.folder / PROBES).mkdir(exist_ok=True)
        (self.folder / CHECKPOINTS).mkdir(exist_ok=True)
        if restart:
            text = _yaml(config)
            self._write(CONFIG, text.encode())
            self._open_metrics()
        self.resuming = not restart

    def _write(self, name: str, content: bytes) -> None:
        path = self.folder / name
        atomic.write(path, lambda file: file.write(content), check=self._lock.check)

    def _write_arrays(
        self, path: Path, arrays: Mapping[str, np.ndarray], *, durable: bool = True
    ) -> None:
        named: dict[str, Any] = dict(arrays)
        atomic.write(
            path, lambda file: np.savez(file, **named), durable=durable, check=self._lock.check
        )

    def _open_metrics(self) -> None:
        if self._metrics is not None:
            self._metrics.close()
        # Unbuffered: after a write that failed, nothing is left to be written later.
        self._metrics = open(self.folder / METRICS, "ab", buffering=0)  # noqa: SIM115

    def rewind(
        self, step: int, metrics_bytes: int, seconds: float, metrics_sha256: str | None = None
    ) -> None:
        """Cut off what was recorded after a checkpoint: it is going to be computed again.

        The metrics continue in a new file: a process that wrote the old one, was stopped for hours
        and does not know yet that it lost the folder, can only append to that.

        Args:
            step: of the checkpoint; 0 to restart.
            metrics_bytes: how long the metrics were when it was made.
            seconds: what the run had taken then.
            metrics_sha256: of the metrics then; None if it was not kept.

        Raises:
            CheckpointError: the metrics are not what they were; nothing has been changed.
        """
        path, folder = self.folder / METRICS, self.folder
        self._metrics_bytes, self._metrics_hash = metrics_bytes, hashlib.sha256()

        def copy(file: BinaryIO) -> None:
            left, chunk = metrics_bytes, b"\n"
            with reading.opened(path) if left else io.BytesIO() as old:
                while left and (chunk := old.read(min(left, reading.MEBIBYTE))):
                    self._metrics_hash.update(chunk)
                    file.write(chunk)
                    left -= len(chunk)
            what = "lines are missing" if left else "lines were changed"
            whole = chunk.endswith(b"\n") and metrics_sha256 in (None, self.metrics_sha256)
            if left or not whole:
                raise CheckpointError(
                    f"{what} before step {step} ({path}): run.overwrite=true restarts it"
                )

        with _storage(path):
            try:
                atomic.write(path, copy, check=self._lock.check)
            except FileNotFoundError as error:
                raise CheckpointError(
                    f"lines are missing before step {step} ({path}): run.overwrite=true restarts it"
                ) from error
            self._open_metrics()
            for name, suffixes in ((PROBES, ["npz"]), (CHECKPOINTS, ["pt", "sha256"])):
                for suffix in suffixes:
                    for at, file in _numbered(folder / name, suffix).items():
                        if at > step or step == 0:
                            file.unlink()
            self._keep_two()
        self._step, self._earlier, self._began = step, seconds, time.monotonic()

    def flushed(self) -> int:
        """Bring all that was recorded to the disk; how many bytes the metrics have.

        To be called before a checkpoint, which must never be newer than what it builds on.

        Raises:
            StorageError: the metrics were removed, replaced or added to by somebody else.
        """
        assert self._metrics is not None
        with _storage(self.folder):
            self._lock.check()
            os.fsync(self._metrics.fileno())
            for path in self._unflushed:
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
            if self._unflushed:
                atomic.sync_folder(self.folder / PROBES)
            self._unflushed.clear()
            self._same_metrics()
            return self._metrics_bytes

    def _same_metrics(self, *, whole: bool = False) -> None:
        """Raise StorageError unless the metrics are what we wrote, by size or read as a whole."""
        assert self._metrics is not None
        path, mine = self.folder / METRICS, os.fstat(self._metrics.fileno())
        try:
            with reading.opened(path) as file:
                same = os.path.samestat(os.fstat(file.fileno()), mine)
                if whole and same:
                    same = hashlib.file_digest(file, "sha256").hexdigest() == self.metrics_sha256
        except (FileNotFoundError, UnreadableError):
            same = False
        if not same or mine.st_size != self._metrics_bytes:
            raise StorageError(
                f"changed, removed or replaced while the run wrote to it ({path}): "
                "leave it alone, and restart with run.overwrite=true"
            )

    def _write_status(self, step: int, error: str | None = None) -> None:
        status = {
            "state": self._state,
            "step": step,
            **self._owner,
            "heartbeat": lock.now(),
        }
        if error is not None:
            status["error"] = error
        self._write(STATUS, _json_bytes(status))
        self._beat = time.monotonic()

    def manifest(self, facts: Mapping[str, Any]) -> None:
        """Write what the run runs on."""
        with _storage(self.folder):
            self._write(MANIFEST, _json_bytes(facts))

    def record(self, step: int, values: Mapping[str, Any]) -> None:
        """Append one line to the metrics, and give a sign of life."""
        assert self._metrics is not None
        with _storage(self.folder):
            line = f"{json.dumps(_json({'step': step, **values}), allow_nan=False)}\n".encode()
            left = line
            self._lock.check()
            while left:  # a disk that is nearly full takes a part
                left = left[self._metrics.write(left) :]
            self._metrics_bytes += len(line)
            self._metrics_hash.update(line)
            self._step = step
        self.alive()

    def alive(self) -> None:
        """Give a sign of life to the status, where one is due."""
        if time.monotonic() - self._beat > lock.HEARTBEAT_SECONDS:
            with _storage(self.folder):
                self._write_status(self._step)

    def owned(self) -> bool:
        """Whether the folder is still this process's own; others may write into it if it is not."""
        try:
            self._lock.check()
        except (BnreproError, OSError):
            return False
        return True

    def probe(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Write one probe; it is flushed to the disk with the next checkpoint."""
        path = self.folder / PROBES / _number(step, "npz")
        with _storage(path):
            self._write_arrays(path, arrays, durable=False)
            self._unflushed.append(path)

    def predictions(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep what `StoredRun.predictions` returns."""
        path = self.folder / PREDICTIONS
        with _storage(path):
            self._write_arrays(path, arrays)

    def checkpoint(self, step: int, content: bytes) -> None:
        """Write a checkpoint with its SHA-256; the last two are kept."""
        name = _number(step, "pt")
        digest = hashlib.sha256(content).hexdigest()
        with _storage(self.folder / CHECKPOINTS / name):
            # The digest first: a checkpoint without one would count as damaged.
            line = f"{digest}  {name}\n".encode()
            self._write(f"{CHECKPOINTS}/{_number(step, 'sha256')}", line)
            self._write(f"{CHECKPOINTS}/{name}", content)
            self._keep_two()

    def _keep_two(self) -> None:
        for suffix in ("pt", "sha256"):
            files = _numbered(self.folder / CHECKPOINTS, suffix)
            for step in sorted(files)[:-2]:
                self._lock.check()
                files[step].unlink()

    def finish(self, state: str, step: int, summary: Mapping[str, Any]) -> None:
        """Close a run that is a result, as `finishing` does."""
        with self.finishing(state, step, summary):
            pass

    @contextmanager
    def finishing(self, state: str, step: int, summary: Mapping[str, Any]) -> Iterator[None]:
        """Close a run that is a result: its status, then its summary, which is written last.

        In the `with` block the result is kept and the folder still this process's own, for views.

        Raises:
            StorageError: the metrics were changed since they were written.
        """
        self._state = state
        with _storage(self.folder):
            if self._metrics is not None:
                self._same_metrics(whole=True)
                self._metrics.close()
            self._write_status(step)
            self._write(SUMMARY, _json_bytes({"status": state, **summary}))
        try:
            yield
        finally:
            self._lock.release()

    def abandon(self, state: str, error: str | None = None) -> None:
        """Close a run that did not come to its end (`interrupted` or `failed`).

        If the folder is this process's own no more, it is left as it is.
        """
        self._state = state
        with suppress(OSError):  # a full disk may be the very reason: the status is tried still
            if self._metrics is not None:
                self._metrics.close()
        try:
            with suppress(RunInUseError), _storage(self.folder):
                # A summary that is there is a result, even if its last flush has failed.
                if self.owned() and not (self.folder / SUMMARY).is_file():
                    self._write_status(self._step, error)
        finally:
            self._lock.release()


def _yaml(config: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)


def _foreign(folder: Path) -> bool:
    """Whether a folder holds anything but the traces of a run killed before its first status."""
    if not folder.is_dir():
        return False
    return not all(
        name == LOCKS or ((part := atomic.PART.fullmatch(name)) and part["name"] == STATUS)
        for name in os.listdir(folder)
    )


def _wait_for_signs_of_life(stored: StoredRun) -> None:
    """Raise RunInUseError if the owner of a run is alive; one that is silent is watched first.

    It is silent by our clock, which may be wrong: a heartbeat that changes meanwhile tells.
    """
    try:
        status = stored.status()
    except UnreadableError:  # the lock still tells, and a status holds no number
        return
    if status["state"] == "stale" and lock.alive(status) is None:
        until = time.monotonic() + WATCHED_SECONDS
        while time.monotonic() < until:
            time.sleep(WATCHED_SECONDS / 10)
            if stored.status().get("heartbeat") != status.get("heartbeat"):
                raise lock.in_use(stored.folder, status)
    if status["state"] == "running":
        raise lock.in_use(stored.folder, status)


HYDRA = ".hydra"
LOG = "train.log"
NUMBERED = r"[0-9]{9,18}\."
OWN_FILES = {
    "": "|".join(map(re.escape, (CONFIG, MANIFEST, METRICS, STATUS, SUMMARY, PREDICTIONS, LOG))),
    PROBES: NUMBERED + "npz",
    CHECKPOINTS: NUMBERED + "(pt|sha256)",
    HYDRA: r"(config|hydra|overrides)\.yaml",
}
"""The names a run gives to files, by folder, as regular expressions."""


def _own_files(folder: Path) -> list[Path]:
    """Every file in a run's folder whose name is one that a run gives, or gave for a while.

    What lies behind a link is not the run's own.
    """
    found = []
    for below, pattern in OWN_FILES.items():
        own = folder / below
        if (below and own.is_symlink()) or not own.is_dir():
            continue
        for path in sorted(own.iterdir()):
            part = atomic.PART.fullmatch(path.name)
            if re.fullmatch(pattern, part["name"] if part else path.name):
                found.append(path)
    return found


def _refuse_links(folder: Path) -> None:
    """Raise StorageError if a run would write through a link, or into a pipe or a device.

    Files that are replaced whole are left out: with them, a link would be replaced, too.
    """
    folders = [folder / below for below in OWN_FILES if below]
    appended = [path for path in _own_files(folder) if path.parent.name == HYDRA]
    for path in [*folders, *appended, folder / LOG]:
        with suppress(FileNotFoundError):
            mode = os.lstat(path).st_mode
            if not (stat.S_ISDIR(mode) if path in folders else stat.S_ISREG(mode)):
                kind = "folder" if path in folders else "file"
                raise StorageError(f"not a {kind} of the run's own ({path}): move it away")


def _clear(folder: Path) -> None:
    """Remove what a run left in its folder, and nothing else that may lie there.

    First what makes it a result, then what makes it a run that could be resumed: a crash on
    the way must not leave half of it taken for either. Its status is left to be replaced, so that
    the folder stays one of ours.
    """
    for name in (SUMMARY, CONFIG):
        (folder / name).unlink(missing_ok=True)
        atomic.sync_folder(folder)
    events = [folder / name for name in sorted(os.listdir(folder)) if name.startswith(EVENTS)]
    for path in (*_own_files(folder), *events):
        if path != folder / STATUS:
            path.unlink()
    for path in (folder / below for below in OWN_FILES if below):
        if path.is_symlink() or path.is_file():
            path.unlink()
        with suppress(OSError):  # not there, or there is more in it
            path.rmdir()


def to_bytes(save: Any) -> bytes:
    """What `save` writes into a file object, as bytes."""
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()
