"""Read small files whose content cannot be trusted: JSON and YAML, without hanging or running out.

Anyone may have put anything in the place of a file: a pipe, a device, gigabytes, a damaged text or
one that is made to expand. Every reader of a small file goes through here. What is returned is a
tree of None, bool, int of 64 bits, finite float, str, list, and dict with str keys.
"""

import json
import math
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from bnrepro.errors import UnreadableError

MEBIBYTE = 2**20
JSON_BYTES = 8 * MEBIBYTE
"""The largest JSON file that is read, in bytes: twenty times more than the largest ever written."""
YAML_BYTES = MEBIBYTE
DEPTH = 64
"""How deep lists and dicts may be nested; a configuration has 3 levels."""

_NUMBER = re.compile(r"[0-9]{9,18}")
_SLOW_NUMBER = re.compile(r"[-+.:_0-9]{1000,}")
"""A number in base 60 is read in quadratic time."""


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """Open a regular file for reading bytes.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableError: it is something else, or cannot be opened.
    """
    try:
        # Without O_NONBLOCK, opening a pipe waits for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnreadableError(path, error.strerror or str(error)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnreadableError(path, "not a regular file")
    with open(descriptor, "rb") as file:
        yield file


def read_bytes(path: Path, limit: int = JSON_BYTES) -> bytes:
    """Read a regular file of at most `limit` bytes.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableError: it is something else, larger, or cannot be read.
    """
    with opened(path) as file:
        try:
            size = os.fstat(file.fileno()).st_size
            if size <= limit:
                content = file.read(size + 1)  # asked for more, it would first take the memory
                if len(content) <= size:
                    return content
                raise UnreadableError(path, "it grew while it was read")
        except OSError as error:
            raise UnreadableError(path, error.strerror or str(error)) from error
        except MemoryError as error:
            raise UnreadableError(path, "too large for the memory") from error
    raise UnreadableError(path, f"larger than {limit:,} bytes")


def read_text(path: Path, limit: int = JSON_BYTES) -> str:
    """Read a regular file of at most `limit` bytes as UTF-8; raises what `read_bytes` does."""
    try:
        return read_bytes(path, limit).decode()
    except UnicodeDecodeError as error:
        raise UnreadableError(path, f"not UTF-8 at byte {error.start}") from error


def read_tail(path: Path, limit: int) -> bytes:
    """Read the last `limit` bytes of a regular file, or all of it; raises what `opened` does."""
    with opened(path) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - limit))
        return file.read(limit)


def read_json(path: Path, limit: int = JSON_BYTES) -> Any:
    """Read a JSON file; raises what `read_bytes` does."""
    return parse_json(read_text(path, limit), path)


def read_json_lines(path: Path, limit: int = JSON_BYTES) -> list[Any]:
    """Read a file of one JSON value a line; raises what `read_bytes` does."""
    return [parse_json(line, path) for line in read_text(path, limit).splitlines()]


def read_yaml(path: Path, limit: int = YAML_BYTES) -> Any:
    """Read a YAML file without aliases, which could expand; raises what `read_bytes` does."""
    return parse_yaml(read_text(path, limit), path)


def parse_yaml(text: str, path: Path) -> Any:
    """Parse YAML without aliases that was read from `path`, which errors name.

    Raises:
        UnreadableError: it is not YAML, or holds what this module does not return.
    """
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster, if it is there
    try:
        parsed = loader(text)
        try:
            node = parsed.get_single_node()
            _require_plain(node, path)  # before anything is built
            value = None if node is None else parsed.construct_document(node)
        finally:
            parsed.dispose()
    # A date of month 13 is a ValueError, an unhashable key a TypeError in some versions.
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise UnreadableError(path, " ".join(str(error).split())) from error
    except RecursionError as error:
        raise UnreadableError(path, f"nested deeper than {DEPTH} levels") from error
    return _checked(value, path)


def _require_plain(node: Any, path: Path) -> None:
    """Refuse a tree of YAML's nodes that would expand, that is too deep, or slow to build."""
    seen: set[int] = set()
    level = [node] if node is not None else []
    for _ in range(DEPTH + 1):
        below: list[Any] = []
        for one in level:
            if id(one) in seen:  # what an alias stands for is the same node
                raise UnreadableError(path, "an alias")
            seen.add(id(one))
            if one.id == "scalar":
                if _SLOW_NUMBER.fullmatch(one.value):
                    raise UnreadableError(path, "a number of more than 1,000 digits")
            elif one.id == "mapping":
                below.extend(part for pair in one.value for part in pair)
            else:
                below.extend(one.value)
        level = below
        if not level:
            return
    raise UnreadableError(path, f"nested deeper than {DEPTH} levels")


def parse_json(text: str, path: Path) -> Any:
    """Parse JSON that was read from `path`, which errors name.

    Raises:
        UnreadableError: it is not JSON, or holds what this module does not return.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UnreadableError(path, str(error)) from error
    except RecursionError as error:
        raise UnreadableError(path, f"nested deeper than {DEPTH} levels") from error
    return _checked(value, path)


def number_name(number: int, suffix: str) -> str:
    """The name of a file that has a number, such as a step's checkpoint."""
    return f"{number:09d}.{suffix}"


def numbered(folder: Path, suffix: str) -> dict[int, Path]:
    """The files of a folder by their number; others, whatever their names, are left out."""
    paths = {}
    for path in folder.glob(f"*.{suffix}") if folder.is_dir() else ():
        if _NUMBER.fullmatch(path.stem) and number_name(int(path.stem), suffix) == path.name:
            paths[int(path.stem)] = path
    return paths


def _checked(tree: Any, path: Path) -> Any:
    """Return a tree that is what this module promises, level by level: it may be deep."""
    level = [tree]
    for _ in range(DEPTH + 1):
        below: list[Any] = []
        for value in level:
            if why := _unwanted(value):
                raise UnreadableError(path, why)
            below.extend(_children(value))
        level = below
        if not level:
            return tree
    raise UnreadableError(path, f"nested deeper than {DEPTH} levels")


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        yield from value
    elif isinstance(value, dict):
        yield from value.values()


def _unwanted(value: Any) -> str | None:
    """Why a value cannot be used; None if it can."""
    if value is None or isinstance(value, bool | list):
        return None
    if isinstance(value, int):
        return None if value.bit_length() <= 64 else "a number of more than 64 bits"
    if isinstance(value, float):
        return None if math.isfinite(value) else f"a number that is not finite, {value}"
    if isinstance(value, str):
        return None if is_unicode(value) else "text that is not Unicode"
    if isinstance(value, dict):
        good = all(isinstance(key, str) and is_unicode(key) for key in value)
        return None if good else "a key that is not text"
    return f"neither text nor a number: {type(value).__name__}"


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True
