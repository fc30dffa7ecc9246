"""Images sorted into folders: a tree train/CLASS/NAME.png, test/CLASS/NAME.png, or zips of one.

Nothing is unpacked to the disk: members of an archive are read in memory, one at a time, with
a limit on their size. Files elsewhere than below train/ and test/, and files whose name begins
with a dot, are passed over; anything else below train/ and test/ that is no such PNG is an
error, because leaving it out silently would give another data set.
"""

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from bnrepro.data.known import Known
from bnrepro.data.raw import Images, Progress, Raw
from bnrepro.errors import DataError

FILE_LIMIT = 16 * 2**20  # bytes of one PNG
PIXEL_LIMIT = 2**24  # height times width of one image

_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # of PNG's colour types; 3, a palette, is not taken


@dataclass(frozen=True)
class Member:
    """One PNG: its part ("train", "test"), class and file name, where it is, and its bytes."""

    part: str
    label: str
    name: str
    where: str
    content: Callable[[], bytes]


def is_there(path: Path) -> bool:
    """Whether `path` looks like class folders, a folder of zips, or a zip; reads no file."""
    return path.is_file() or (path / "train").is_dir() or any(path.glob("*.zip"))


def count(path: Path) -> tuple[int, int]:
    """The numbers of training and test images below `path`, from the names alone."""
    with ExitStack() as stack:
        members = _members(path, stack)
        train = sum(member.part == "train" for member in members)
        return train, len(members) - train


def read(path: Path, known: Known | None, progress: Progress | None = None) -> Raw:
    """All images below `path`, in the order of their names.

    With `known`, classes, counts and shape must be those of that data set; without, the classes
    are the names of the training folders in alphabetical order, and every image must have the
    shape of the first. DataError names the file at fault.
    """
    with ExitStack() as stack:
        members = _members(path, stack)
        parts = {
            part: [member for member in members if member.part == part]
            for part in ("train", "test")
        }
        counts = {"train": known.train, "test": known.test} if known else {}
        for part, found in parts.items():
            if len(found) != counts.get(part, max(len(found), 1)):
                raise DataError(
                    f"{counts.get(part, 'some')} images expected in {part}/CLASS/*.png, "
                    f"found {len(found)} ({path}): bring a complete copy"
                )
        classes = known.classes if known else tuple(sorted({m.label for m in parts["train"]}))
        for member in members:
            if member.label not in classes:
                raise DataError(
                    f"unknown class {member.label!r} ({member.where}): "
                    f"the classes are {', '.join(classes)}"
                )
        shape = known.shape if known else png_shape(members[0].content(), members[0].where)

        def images(part: str) -> Images:
            pixels = np.empty((len(parts[part]), *shape), np.uint8)
            for i, member in enumerate(parts[part]):
                pixels[i] = decode(member.content(), shape, member.where)
                if progress and (i % 100 == 99 or i + 1 == len(pixels)):
                    progress(f"decoding {part}", i + 1, len(pixels))
            labels = [classes.index(member.label) for member in parts[part]]
            return Images(pixels, np.array(labels, np.int64))

        return Raw(images("train"), images("test"), classes)


def png_shape(content: bytes, where: str) -> tuple[int, int, int]:
    """(C, H, W) from the head of a PNG with 8 bits a value; DataError if it is no such file."""
    if content[:8] != b"\x89PNG\r\n\x1a\n" or content[12:16] != b"IHDR" or len(content) < 33:
        raise DataError(f"not a PNG ({where}): replace it")
    width, height, depth, colour = struct.unpack(">IIBB", content[16:26])
    if depth != 8 or colour not in _CHANNELS:
        raise DataError(
            f"PNG with a palette or other than 8 bits a value ({where}): "
            f"convert it to 8-bit grey or RGB"
        )
    if height * width > PIXEL_LIMIT:
        raise DataError(f"image of {height} x {width} pixels ({where}): bring a smaller one")
    return _CHANNELS[colour], height, width


def decode(content: bytes, shape: tuple[int, ...], where: str) -> NDArray[np.uint8]:
    """The pixels of a PNG, uint8 (C, H, W); DataError unless it is one of just that shape."""
    # Pillow is what torchvision reads PNGs with; its own decoders are on their way out (0.29).
    from PIL import Image

    # The head is compared first: a few bytes can claim to be an image of many gigabytes.
    if (found := png_shape(content, where)) != shape:
        raise DataError(
            f"(channels, height, width) expected {shape}, found {found} ({where}): "
            f"bring all images to one size and mode"
        )
    channels, height, width = shape
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            pixels = np.asarray(image)
    except (OSError, EOFError, SyntaxError, ValueError, struct.error, zlib.error) as error:
        raise DataError(f"damaged PNG ({where}): replace it") from error
    return pixels.reshape(height, width, channels).transpose(2, 0, 1)


def _members(path: Path, stack: ExitStack) -> list[Member]:
    """The PNGs below `path`, sorted by name; zips stay open until `stack` is closed."""
    try:
        if (path / "train").is_dir():
            found = list(_in_tree(path))
        else:
            zips = sorted(path.glob("*.zip")) if path.is_dir() else [path]
            found = [member for file in zips for member in _in_zip(file, stack)]
    except (OSError, EOFError, RuntimeError, ValueError, struct.error, zipfile.BadZipFile) as error:
        raise DataError(f"cannot read: {error} ({path}): bring another copy") from error
    found.sort(key=lambda member: (member.part, member.label, member.name))
    for one, next_one in pairwise(found):
        if (one.part, one.label, one.name) == (next_one.part, next_one.label, next_one.name):
            raise DataError(
                f"the same file twice ({one.where} and {next_one.where}): remove one of them"
            )
    return found


def _in_tree(path: Path) -> Iterator[Member]:
    for part in ("train", "test"):
        for folder in (path / part).iterdir():
            for file in folder.iterdir() if folder.is_dir() else [folder]:
                if names := _image(file.relative_to(path).parts, str(file)):
                    yield Member(*names, str(file), partial(_file_content, file))


def _in_zip(file: Path, stack: ExitStack) -> Iterator[Member]:
    archive = stack.enter_context(zipfile.ZipFile(file))
    for info in archive.infolist():
        where = f"{file}: {info.filename!r}"  # quoted: an archive may hold any characters
        path = PurePosixPath(info.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in info.filename:
            raise DataError(f"path that leads out of the archive ({where}): do not trust this file")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise DataError(f"link in an archive ({where}): do not trust this file")
        if path.parts[:1] not in (("train",), ("test",)) or info.is_dir():
            continue
        if names := _image(path.parts, where):
            yield Member(*names, where, partial(_zip_content, archive, info, where))


def _image(parts: tuple[str, ...], where: str) -> tuple[str, str, str] | None:
    """Part, class and file name of a file below train/ or test/, or None if it is hidden.

    DataError for anything else that is no image of a class.
    """
    if any(part.startswith(".") for part in parts):
        return None
    if len(parts) != 3 or not parts[2].lower().endswith(".png"):
        raise DataError(
            f"only CLASS/NAME.png may be below train/ and test/ ({where}): remove or convert it"
        )
    return parts


def _file_content(file: Path) -> bytes:
    try:
        with open(file, "rb") as stream:
            return _limited(stream.read(FILE_LIMIT + 1), str(file))
    except OSError as error:
        raise DataError(f"cannot read: {error.strerror} ({file}): make it readable") from error


def _zip_content(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> bytes:
    try:
        with archive.open(info) as stream:
            return _limited(stream.read(FILE_LIMIT + 1), where)
    # zipfile's RuntimeError is a password, its NotImplementedError an unknown compression
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"cannot read: {error} ({where}): bring another copy") from error


def _limited(content: bytes, where: str) -> bytes:
    if len(content) > FILE_LIMIT:
        raise DataError(f"more than {FILE_LIMIT:,} bytes ({where}): bring smaller images")
    return content
