"""Write a data file whole or not at all, and say in one line why where it cannot be done."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from bnrepro.errors import DataError
from bnrepro.store import atomic


def write(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """`store.atomic.write`, into a folder that is made where missing; DataError if it fails."""
    try:
        atomic.make_folder(path.parent)
        atomic.write(path, fill)
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
        nearest = next(path for path in (folder, *folder.parents) if path.exists())
    except OSError as error:
        raise _unwritable(folder, error.strerror or error) from error
    if not nearest.is_dir():
        raise _unwritable(folder, f"{nearest} is no folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise _unwritable(folder, f"{nearest} is read-only")


def _unwritable(path: Path, reason: object) -> DataError:
    return DataError(
        f"cannot write: {reason} ({path}): make room and allow writing there, "
        f"or choose another folder with dataset.root or BNREPRO_DATA"
    )
