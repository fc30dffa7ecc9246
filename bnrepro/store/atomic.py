"""Write a file so that it is there whole or not at all, whatever happens meanwhile."""

import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

PART = re.compile(r"(?P<name>.+)\.[0-9a-f]{8}\.part")
"""The name of a temporary file; `name` is the one it would have got."""


def write(
    path: Path,
    fill: Callable[[BinaryIO], object],
    *,
    durable: bool = True,
    check: Callable[[], object] = lambda: None,
) -> None:
    """Create or replace `path` with what `fill` writes into the file object it is given.

    Written to a temporary file next to it, then renamed: a reader or a crash of the process sees
    the old file or the new one; with `durable`, flushed to the disk, so does a power loss. The
    temporary name is drawn at random, so that several processes may write the same file at once.

    Args:
        path: the file.
        fill: called with a file object open for writing bytes.
        durable: flush the file and its folder.
        check: called before anything is written and before the file gets its name; an error that
            it raises leaves the old file.

    Raises:
        OSError: the file could not be written: the old one is untouched, or, where only the last
            flush of the folder failed, the new one is there; nothing is left behind.
    """
    check()
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with open(part, "xb") as file:
            fill(file)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        check()
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    if durable:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to the disk, so that a rename in it outlives a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it where they are missing, each to outlive a power loss."""
    missing = [path for path in (folder, *folder.parents) if not path.is_dir()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_folder(path.parent)
