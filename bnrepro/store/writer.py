"""Write one run's folder: take it, resume or restart the run, record, close."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from bnrepro import errors, reading
from bnrepro.store import atomic, lock
from bnrepro.store.run import (
    CHECKPOINTS,
    CONFIG,
    EVENTS,
    HYDRA,
    LOG,
    MANIFEST,
    METRICS,
    OWN_FILES,
    PREDICTIONS,
    PROBES,
    STATUS,
    SUMMARY,
    StoredRun,
)

WATCHED_SECONDS = 2 * lock.HEARTBEAT_SECONDS
"""A folder whose owner is silent is watched for so long before it is taken: clocks may disagree."""


@contextmanager
def _storage(path: Path) -> Iterator[None]:
    """Turn an OSError into one line that names the path."""
    try:
        yield
    except OSError as error:
        raise errors.StorageError(
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


def note_failure(folder: Path, config: Mapping[str, Any], error: str) -> None:
    """Write into a run's status what ended its process, where that could not do so itself."""
    with suppress(errors.BnreproError):  # somebody else has the folder, or it holds another run
        writer = RunWriter.acquire(folder, config, [])
        if writer is not None:
            writer.close_unfinished("failed", error)


def new_folder(parent: Path, what: str) -> Path:
    """A name for a new run's folder: date, time, what it is, and a microsecond no other run has."""
    now = datetime.now()
    return parent / f"{now:%Y-%m-%d}" / f"{now:%H%M%S}-{what}-{now:%f}"


class RunWriter:
    """Writes one run's folder; made by `acquire`, closed by `finish`.

    Before each write it looks whether the folder is still this process's own: every method but
    `close_unfinished` raises RunInUseError, or StorageError, if another process has taken it or if
    it was moved away, and leaves it as it is.
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
    def acquire(
        cls,
        folder: Path,
        config: Mapping[str, Any],
        differences: list[str],
        *,
        overwrite: bool = False,
        allow_drift: bool = False,
    ) -> RunWriter | None:
        """Take a folder for a run, or None where this very run is finished there already.

        An unfinished run is resumed; its files stay until `truncate_to`.
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
                    raise errors.ConfigError(
                        f"another configuration ran here ({folder}; {'; '.join(differences)}): "
                        "choose another run.dir, or run.overwrite=true to replace it"
                    )
                if finished:
                    return None
            elif _foreign(folder) and not stored.exists():  # it may have come while we looked
                raise errors.ConfigError(
                    f"not empty and not a run ({folder}): choose another run.dir"
                )
            atomic.make_folder(folder)
            run = cls(folder)
            try:
                if not overwrite and stored.summary() is not None:  # somebody was quicker
                    run._lock.release()
                    return None
                run._begin(config, restart=overwrite or not (folder / CONFIG).is_file())
            except errors.Interrupted:  # the status may say already that it runs
                run.close_unfinished("interrupted")
                raise
            except BaseException:
                run._lock.release()
                raise
        return run

    def _begin(self, config: Mapping[str, Any], *, restart: bool) -> None:
        """Make the folder ready to be written to, and say that it is."""
        if restart:
            _clear(self.folder)
        else:  # how far it was, until `truncate_to` says where it resumes
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

    def truncate_to(
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
                raise errors.CheckpointError(
                    f"{what} before step {step} ({path}): run.overwrite=true restarts it"
                )

        with _storage(path):
            try:
                atomic.write(path, copy, check=self._lock.check)
            except FileNotFoundError as error:
                raise errors.CheckpointError(
                    f"lines are missing before step {step} ({path}): run.overwrite=true restarts it"
                ) from error
            self._open_metrics()
            for name, suffixes in ((PROBES, ["npz"]), (CHECKPOINTS, ["pt", "sha256"])):
                for suffix in suffixes:
                    for at, file in reading.numbered(folder / name, suffix).items():
                        if at > step or step == 0:
                            file.unlink()
            self._keep_two()
        self._step, self._earlier, self._began = step, seconds, time.monotonic()

    def flush(self) -> int:
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
        except (FileNotFoundError, errors.UnreadableError):
            same = False
        if not same or mine.st_size != self._metrics_bytes:
            raise errors.StorageError(
                f"changed, removed or replaced while the run wrote to it ({path}): "
                "leave it alone, and restart with run.overwrite=true"
            )

    def _write_status(self, step: int, error: str | None = None) -> None:
        status = {"state": self._state, "step": step, **self._owner, "heartbeat": lock.now()}
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
        self.heartbeat()

    def heartbeat(self) -> None:
        """Give a sign of life to the status, where one is due."""
        if time.monotonic() - self._beat > lock.HEARTBEAT_SECONDS:
            with _storage(self.folder):
                self._write_status(self._step)

    def owned(self) -> bool:
        """Whether the folder is still this process's own; others may write into it if it is not."""
        try:
            self._lock.check()
        except (errors.BnreproError, OSError):
            return False
        return True

    def probe(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Write one probe; it is flushed to the disk with the next checkpoint."""
        path = self.folder / PROBES / reading.number_name(step, "npz")
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
        name = reading.number_name(step, "pt")
        digest = hashlib.sha256(content).hexdigest()
        with _storage(self.folder / CHECKPOINTS / name):
            # The digest first: a checkpoint without one would count as damaged.
            line = f"{digest}  {name}\n".encode()
            self._write(f"{CHECKPOINTS}/{reading.number_name(step, 'sha256')}", line)
            self._write(f"{CHECKPOINTS}/{name}", content)
            self._keep_two()

    def _keep_two(self) -> None:
        for suffix in ("pt", "sha256"):
            files = reading.numbered(self.folder / CHECKPOINTS, suffix)
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

    def close_unfinished(self, state: str, error: str | None = None) -> None:
        """Close a run that did not come to its end (`interrupted` or `failed`).

        If the folder is this process's own no more, it is left as it is.
        """
        self._state = state
        with suppress(OSError):  # a full disk may be the very reason: the status is tried still
            if self._metrics is not None:
                self._metrics.close()
        try:
            with suppress(errors.RunInUseError), _storage(self.folder):
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
        name == lock.LOCKS or ((part := atomic.PART.fullmatch(name)) and part["name"] == STATUS)
        for name in os.listdir(folder)
    )


def _wait_for_signs_of_life(stored: StoredRun) -> None:
    """Raise RunInUseError if the owner of a run is alive; one that is silent is watched first.

    It is silent by our clock, which may be wrong: a heartbeat that changes meanwhile tells.
    """
    try:
        status = stored.status()
    except errors.UnreadableError:  # the lock still tells, and a status holds no number
        return
    if status["state"] == "stale" and lock.alive(status) is None:
        until = time.monotonic() + WATCHED_SECONDS
        while time.monotonic() < until:
            time.sleep(WATCHED_SECONDS / 10)
            if stored.status().get("heartbeat") != status.get("heartbeat"):
                raise lock.in_use(stored.folder, status)
    if status["state"] == "running":
        raise lock.in_use(stored.folder, status)


def _own_files(folder: Path) -> list[Path]:
    """Every file in a run's folder whose name is one that a run gives, or gave for a while.

    What lies behind a link is not the run's own.
    """
    paths = []
    for below, pattern in OWN_FILES.items():
        subfolder = folder / below
        if (below and subfolder.is_symlink()) or not subfolder.is_dir():
            continue
        for path in sorted(subfolder.iterdir()):
            part = atomic.PART.fullmatch(path.name)
            if re.fullmatch(pattern, part["name"] if part else path.name):
                paths.append(path)
    return paths


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
                raise errors.StorageError(f"not a {kind} of the run's own ({path}): move it away")


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
