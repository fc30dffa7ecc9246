"""Faults of a disk, caused on purpose: at each call in turn, and with what was not flushed lost.

`Disk` stands between Python and the files below one folder. It numbers every call that changes
something there, keeps a record of them, and lets one of them fail. `after_power_loss` turns such a
record into all that a disk may hold when the power goes at any moment of it.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

CRASH = 87  # the exit code of a process that a fault has killed
FAULTS = ("crash", "ENOSPC", "EIO", "full from here on")
NEEDS_SPACE = ("create", "write", "mkdir", "link")

NAMES = ("open", "fsync", "replace", "rename", "link", "unlink", "remove", "mkdir", "rmdir")
REAL = {name: getattr(os, name) for name in NAMES}
REAL_OPEN = builtins.open


@dataclass
class Op:
    """One call: what it did, to which path (relative), and with what."""

    name: str
    path: str
    other: str = ""
    offset: int = 0
    data: bytes = b""


class _File(io.FileIO):
    """An unbuffered file whose writes, cuts and closing go through a `Disk`."""

    def __init__(self, disk: Disk, path: str, mode: str) -> None:
        self._disk, self._path = disk, path
        super().__init__(os.path.join(disk.root, path), mode)

    def write(self, data: Any) -> int:
        content, disk = bytes(data), self._disk
        at = os.fstat(self.fileno()).st_size if "a" in self.mode else self.tell()
        half = len(content) // 2

        def partly() -> None:
            if half:
                self._put(at, content[:half])

        disk.call(Op("write", self._path, "", at, content), lambda: self._put(at, content), partly)
        return len(content)

    def _put(self, at: int, content: bytes) -> None:
        super().write(content)

    def truncate(self, size: int | None = None) -> int:
        length = self.tell() if size is None else size
        super_ = super()
        self._disk.call(Op("truncate", self._path, "", length), lambda: super_.truncate(length))
        return length


@dataclass
class Disk:
    """While entered, every change below `root` is numbered, recorded and can be made to fail.

    Args:
        root: the folder; what happens elsewhere is left alone.
        fail: the number of the call to fail, from 1; 0 for none.
        fault: one of `FAULTS`.
    """

    root: str
    fail: int = 0
    fault: str = ""
    ops: list[Op] = field(default_factory=list)
    notes: list[tuple[int, str]] = field(default_factory=list)
    failed: str = ""

    def note(self, what: str) -> None:
        """Something was promised to be on the disk now."""
        self.notes.append((len(self.ops), what))

    def call(self, op: Op, act: Callable[[], Any], partly: Callable[[], None] | None = None) -> Any:
        self.ops.append(op)
        here = len(self.ops) == self.fail
        if not here and not (self.failed and self.fault == "full from here on"):
            return act()
        if not here and op.name not in NEEDS_SPACE:
            return act()
        if here:
            self.failed = op.name
        if partly is not None:  # a write that fails may have written a part
            partly()
        if self.fault == "crash":
            os._exit(CRASH)
        number = errno.EIO if self.fault == "EIO" else errno.ENOSPC
        raise OSError(number, os.strerror(number), os.path.join(self.root, op.path))

    def _inside(self, path: Any, dir_fd: int | None = None) -> str | None:
        """The path relative to the root, or None where it lies elsewhere."""
        if isinstance(path, int):
            full = os.readlink(f"/proc/self/fd/{path}")
        else:
            base = os.getcwd() if dir_fd is None else os.readlink(f"/proc/self/fd/{dir_fd}")
            full = os.path.normpath(os.path.join(base, os.fspath(path)))
        return (
            os.path.relpath(full, self.root) if (full + "/").startswith(self.root + "/") else None
        )

    def _open(
        self, file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **text: Any
    ) -> Any:
        path = None if isinstance(file, int) else self._inside(file)
        if path is None or not set(mode) & set("wax+"):
            return REAL_OPEN(file, mode, buffering, *rest, **text)
        raw_mode = mode.replace("b", "").replace("t", "")
        there = os.path.exists(os.path.join(self.root, path))
        if not there:
            raw = self.call(Op("create", path), lambda: _File(self, path, raw_mode))
        elif "w" in mode:
            raw = self.call(Op("truncate", path), lambda: _File(self, path, raw_mode))
        else:
            raw = _File(self, path, raw_mode)
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffered
        text.pop("closefd", None)
        return io.TextIOWrapper(buffered, *rest, **text)

    def _os_open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: Any = None) -> int:
        inside = self._inside(path, dir_fd)
        if inside is None or dir_fd is not None:
            return REAL["open"](path, flags, mode, dir_fd=dir_fd)
        return self.call(Op("open", inside), lambda: REAL["open"](path, flags, mode))

    def _fsync(self, fd: Any) -> None:
        number = fd if isinstance(fd, int) else fd.fileno()
        inside = self._inside(number)
        # Not flushed really: what a crash of the process needs is in the system's cache, and a
        # power loss is worked out from the record.
        if inside is not None:
            self.call(Op("fsync", inside), lambda: None)

    def _two(self, name: str) -> Callable[..., None]:
        def move(a: Any, b: Any, **options: Any) -> None:
            source, target = self._inside(a), self._inside(b)
            if source is None or target is None:
                return REAL[name](a, b, **options)
            if name == "link" and os.path.exists(b):
                raise FileExistsError(errno.EEXIST, "File exists", os.fspath(b))
            kind = "link" if name == "link" else "rename"
            return self.call(Op(kind, source, target), lambda: REAL[name](a, b))

        return move

    def _one(self, name: str) -> Callable[..., None]:
        def change(path: Any, *rest: Any, dir_fd: Any = None) -> None:
            inside = self._inside(path, dir_fd)
            real = lambda: REAL[name](path, *rest, dir_fd=dir_fd)  # noqa: E731
            full = os.path.join(self.root, inside or "")
            there, above = os.path.lexists(full), os.path.isdir(os.path.dirname(full))
            if inside is None or there == (name == "mkdir") or not above:
                return real()  # it fails by itself, and changes nothing
            kind = "unlink" if name == "remove" else name
            return self.call(Op(kind, inside), real)

        return change

    def __enter__(self) -> Self:
        builtins.open = io.open = self._open  # type: ignore[assignment]
        os.open, os.fsync = self._os_open, self._fsync  # type: ignore[assignment]
        for name in ("replace", "rename", "link"):
            setattr(os, name, self._two(name))
        for name in ("unlink", "remove", "mkdir", "rmdir"):
            setattr(os, name, self._one(name))
        return self

    def __exit__(self, *error: object) -> None:
        builtins.open = io.open = REAL_OPEN
        for name, real in REAL.items():
            setattr(os, name, real)


@dataclass
class _Inode:
    """A file's content as written, and as last flushed."""

    data: bytearray = field(default_factory=bytearray)
    flushed: bytes = b""


Tree = dict[str, bytes | None]
"""Paths with their content; None for a folder."""


def tree(root: Path) -> Tree:
    """What lies below a folder."""
    return {
        str(path.relative_to(root)): None if path.is_dir() else path.read_bytes()
        for path in sorted(root.rglob("*"))
    }


def plant(found: Tree, root: Path) -> None:
    """Put a tree on the disk, in the place of what is there."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for path, content in sorted(found.items()):
        if content is None:
            (root / path).mkdir()
        else:
            (root / path).write_bytes(content)


def after_power_loss(before: Tree, ops: list[Op], done: int) -> Iterator[Tree]:
    """Every tree that a disk may hold when the power goes after the first `done` calls.

    A name (made, moved, removed) is sure to be there once its folder was flushed; of names not
    flushed, any first part of them may be. A file's content is sure once the file was flushed;
    what was written since may be there whole, half, or not at all.
    """
    ops = ops[:done]
    unsure = [i for i, op in enumerate(ops) if _named(op) and not _flushed(ops, i)]
    for lost in range(len(unsure) + 1):
        skipped = set(unsure[len(unsure) - lost :])
        names = _replay(before, ops, skipped)
        for content in ("kept", "lost", "torn"):
            yield _picture(names, content)


def _named(op: Op) -> bool:
    return op.name in ("create", "rename", "link", "unlink", "mkdir", "rmdir")


def _flushed(ops: list[Op], index: int) -> bool:
    """Whether the folder of the name was flushed after the call."""
    folder = os.path.dirname(ops[index].other or ops[index].path) or "."
    return any(op.name == "fsync" and op.path == folder for op in ops[index + 1 :])


def _replay(before: Tree, ops: list[Op], skipped: set[int]) -> dict[str, _Inode | None]:
    """The names on the disk; content is what the program wrote, whatever became of the name."""
    start = {
        path: None if content is None else _Inode(bytearray(content), content)
        for path, content in before.items()
    }
    seen, kept = dict(start), dict(start)  # as the program sees it; as the disk has it
    for index, op in enumerate(ops):
        if op.name == "write":
            inode = seen[op.path]
            assert inode is not None
            inode.data[op.offset : op.offset + len(op.data)] = op.data
        elif op.name == "truncate":
            inode = seen[op.path]
            assert inode is not None
            del inode.data[op.offset :]
        elif op.name == "fsync" and (inode := seen.get(op.path)) is not None:
            inode.flushed = bytes(inode.data)
        elif _named(op):
            made = _Inode() if op.name == "create" else seen.get(op.path)
            for names in (seen, kept) if index not in skipped else (seen,):
                _apply(names, op, made)
    return kept


def _apply(names: dict[str, _Inode | None], op: Op, inode: _Inode | None) -> None:
    if op.name in ("create", "mkdir"):
        names[op.path] = inode if op.name == "create" else None
    elif op.name in ("unlink", "rmdir"):
        names.pop(op.path, None)
    else:
        names[op.other] = inode
        if op.name == "rename":
            names.pop(op.path, None)


def _picture(names: dict[str, _Inode | None], content: str) -> Tree:
    found: Tree = {}
    for path in sorted(names):
        parent = os.path.dirname(path)
        if parent and found.get(parent, b"") is not None:
            continue  # the folder it would lie in is not there
        inode = names[path]
        if inode is None:
            found[path] = None
        elif content == "kept":
            found[path] = bytes(inode.data)
        elif content == "lost":
            found[path] = inode.flushed
        else:
            found[path] = bytes(inode.data[: (len(inode.flushed) + len(inode.data)) // 2])
    return found
