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
        raise _unwritable(path, error) from error


def write_bytes(path: Path, content: bytes) -> None:
    """`write`, of bytes that are at hand."""
    write(path, lambda file: file.write(content))


def require_writable(folder: Path) -> None:
    """Make a folder and see that a file can be created in it; DataError if not.

    To be asked before the download or the decoding, which take long.
    """
    probe = folder / f"probe.{secrets.token_hex(4)}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(path: Path, error: OSError) -> DataError:
    return DataError(
        f"cannot write: {error.strerror or error} ({path}): make room and allow writing there, "
        f"or choose another folder with dataset.root or BNREPRO_DATA"
    )
