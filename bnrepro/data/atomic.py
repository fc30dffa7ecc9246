"""Write a file so that it is there whole or not at all, whatever happens meanwhile."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from bnrepro.errors import DataError


def write(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Create or replace `path` with what `fill` writes into the file object it is given.

    Written to a `.part` file beside it, flushed to the disk, then renamed: a reader, a crash
    or a power loss sees the old file or the new one. Part of that file's name is random, so
    that several processes may bring the same file at once. DataError if it cannot be written.
    """
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(part, "xb") as file:
                fill(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise _unwritable(path, error.strerror or error) from error


def write_bytes(path: Path, content: bytes) -> None:
    """`write`, of bytes that are at hand."""
    write(path, lambda file: file.write(content))


def require_writable(folder: Path) -> None:
    """DataError unless files can be created in a folder that is there or is to be made.

    To be asked before a download or a decoding that takes long; leaves no trace.
    """
    folder = folder.absolute()
    try:
        there = next(path for path in (folder, *folder.parents) if path.exists())
    except OSError as error:
        raise _unwritable(folder, error.strerror or error) from error
    if not there.is_dir():
        raise _unwritable(folder, f"{there} is no folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise _unwritable(folder, f"{there} is read-only")


def _unwritable(path: Path, reason: object) -> DataError:
    return DataError(
        f"cannot write: {reason} ({path}): make room and allow writing there, "
        f"or choose another folder with dataset.root or BNREPRO_DATA"
    )
