"""One writer for a folder: the lock it holds, whether it still holds it, and whether it is alive.

The owner of a folder is the process that made the file of the highest number in `.lock`. A process
may be stopped for hours, be taken for dead, and come back: before each thing that it writes it
looks whether the folder is still its own.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import secrets
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from bnrepro import reading
from bnrepro.errors import RunInUseError, StorageError, UnreadableError

LOCKS = ".lock"

HEARTBEAT_SECONDS = 15.0
SILENT_SECONDS = 20 * HEARTBEAT_SECONDS
"""Seconds without a heartbeat after which a process that cannot be seen from here is silent."""

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL)
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)


def me() -> dict[str, Any]:
    """Describe this process: where it runs, and its number there."""
    pid = os.getpid()
    return {
        "pid": pid,
        "pid_start": _process(pid)[1],
        "pid_namespace": _namespace(),
        "host": socket.gethostname(),
        "boot_id": _boot_id(),
    }


def now() -> str:
    """The time as a heartbeat has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def alive(owner: Mapping[str, Any]) -> bool | None:
    """Whether an owner's process is alive; None if it cannot be seen from here and is silent.

    Args:
        owner: what `me` returned in that process, with its last `heartbeat`; it may hold anything.
    """
    same_host = owner.get("host") == socket.gethostname()
    same_boot = owner.get("boot_id") == _boot_id()
    if same_host and same_boot and owner.get("pid_namespace", _namespace()) == _namespace():
        seen = _runs(owner.get("pid"), owner.get("pid_start"))
        if seen is not None:
            return seen
    try:
        beat = datetime.fromisoformat(str(owner.get("heartbeat")))
        silence = (datetime.now(UTC) - beat).total_seconds()
    except (ValueError, TypeError, OverflowError):  # TypeError: a time without its zone
        return None
    # It ended with an earlier boot of this machine, unless another one has this machine's name.
    if same_host and not same_boot and silence > _seconds_since_boot():
        return False
    return True if abs(silence) < SILENT_SECONDS else None


def _runs(pid: Any, start: Any) -> bool | None:
    """Whether a process of this pid namespace runs; None if the system does not show it."""
    if type(pid) is not int or not 0 < pid < 2**31:  # 0 and -1 would be whole groups of processes
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is there, and somebody else's
        pass
    state, began = _process(pid)
    if began is None and start is not None:
        return None
    return state not in ("Z", "X") and began == start  # Z: ended, and nobody has waited for it


def _process(pid: int) -> tuple[str | None, str | None]:
    """A process's state, a letter, and its start in ticks since boot, which tells reused pids."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], fields[19]
    except (OSError, IndexError):
        return None, None


@cache
def _boot_id() -> str | None:
    """One boot of one machine; None where the system has no such thing."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _seconds_since_boot() -> float:
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return math.inf if clock is None else time.clock_gettime(clock)


def _namespace() -> str | None:
    """The space in which process numbers are given out; each container has its own."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def in_use(folder: Path, owner: Mapping[str, Any]) -> RunInUseError:
    """The error that a living owner has a folder."""
    return RunInUseError(
        f"in use by process {owner.get('pid')} on {owner.get('host')} ({folder}):"
        " wait for it, or choose another run.dir"
    )


class Lock:
    """The lock of a folder, held by this process from `take` to `release`."""

    def __init__(self, folder: Path, number: int, content: bytes) -> None:
        self._folder, self._number, self._content = folder, number, content
        self._path = folder / LOCKS / reading.number_name(number, "json")

    @classmethod
    def take(cls, folder: Path, owner: Mapping[str, Any]) -> Lock:
        """Become the only writer of a folder.

        A lock appears under its name whole, and only if there is none of that name, by a hard
        link, which network file systems hold as well. Of all processes that find the highest lock
        free or its owner gone, one makes the next.

        Raises:
            RunInUseError: the owner may be alive.
            StorageError: the file system has no hard links, or `.lock` is a link.
            OSError: the folder cannot be written.
        """
        locks = folder / LOCKS
        locks.mkdir(exist_ok=True)
        if locks.is_symlink():
            raise StorageError(f"a link in the place of a folder ({locks}): move it away")
        token = secrets.token_hex(8)
        content = json.dumps({**owner, "heartbeat": now(), "token": token}).encode()
        mine = locks / f"{token}.new"
        try:
            mine.write_bytes(content)
            while True:
                held, free = reading.numbered(locks, "json"), reading.numbered(locks, "free")
                number = max([*held, *free], default=0)
                if number in held:
                    try:
                        holder = _read(held[number])
                    except FileNotFoundError:  # released or removed meanwhile
                        continue
                    if alive(holder):
                        raise in_use(folder, holder)
                lock = cls(folder, number + 1, content)
                try:
                    os.link(mine, lock._path)
                except FileExistsError:
                    continue
                except FileNotFoundError:  # the new owner has cleaned up, ours with the rest
                    mine.write_bytes(content)
                    continue
                except OSError as error:
                    if error.errno in _NO_LINKS:
                        raise StorageError(
                            f"a file system without hard links, which locks need ({folder}): "
                            "choose a folder on another disk with run.dir"
                        ) from error
                    raise
                if lock._newest() > number + 1:
                    lock._path.unlink()  # we were looking at the past
                    continue
                for old in (*held.values(), *free.values(), *_unfinished(locks)):
                    old.unlink(missing_ok=True)
                return lock
        finally:
            mine.unlink(missing_ok=True)

    def check(self) -> None:
        """Make sure that the folder is still ours; to be called before each write.

        Raises:
            RunInUseError: another process has taken it.
            StorageError: it was moved, or removed.
            OSError: it cannot be read.
        """
        try:
            # Opened, not only looked at: a network file system asks its server then.
            mine = reading.read_bytes(self._path) == self._content
            newest = self._newest()
        except FileNotFoundError:
            mine, newest = False, 0
        except UnreadableError as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno not in _GONE:
                raise cause from None
            mine, newest = False, 0
        if not mine or newest != self._number:
            raise self._lost()

    def _newest(self) -> int:
        locks = self._folder / LOCKS
        return max([*reading.numbered(locks, "json"), *reading.numbered(locks, "free")], default=0)

    def _lost(self) -> StorageError | RunInUseError:
        locks = self._folder / LOCKS
        held, free = reading.numbered(locks, "json"), reading.numbered(locks, "free")
        number = max([*held, *free], default=0)
        if number not in {**held, **free}:
            return StorageError(
                f"moved or removed while it was written to ({self._folder}): "
                "rerun the command, with run.dir if it was moved"
            )
        holder: dict[str, Any] = {}
        with suppress(FileNotFoundError):
            holder = _read({**free, **held}[number])
        return RunInUseError(
            f"taken over by process {holder.get('pid')} on {holder.get('host')} after this one was "
            f"silent ({self._folder}): that one continues the run"
        )

    def release(self) -> None:
        """Let others have the folder. The lock's file stays: its number must not come again."""
        with suppress(OSError, StorageError, RunInUseError):
            self.check()
            self._path.rename(self._path.with_suffix(".free"))


def _read(path: Path) -> dict[str, Any]:
    """Who made a lock; nobody if a power loss took its content, and its owner with it."""
    try:
        holder = reading.read_json(path)
    except UnreadableError:
        return {}
    return holder if isinstance(holder, dict) else {}


def _unfinished(locks: Path) -> list[Path]:
    """Locks that were given up before they had their number."""
    return [path for path in locks.glob("*.new") if re.fullmatch(r"[0-9a-f]{16}", path.stem)]
