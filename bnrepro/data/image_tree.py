"""Images sorted into folders: a tree train/CLASS/NAME.png, test/CLASS/NAME.png, or zips of one.

Nothing is unpacked to the disk: members of an archive are read in memory, one at a time, with
a limit on their size. Files elsewhere than below train/ and test/, and files whose name begins
with a dot, are passed over; anything else below train/ and test/ that is no image of a class is
an error, because leaving it out silently would give another data set.
"""

import io
import os
import stat
import struct
import unicodedata
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnrepro.data.arrays import Images, Known, Progress, Raw
from bnrepro.errors import DataError

FILE_LIMIT = 64 * 2**20  # bytes of one file
PIXEL_LIMIT = 2**26  # height times width of one image: a large photograph

PARTS = ("train", "test")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
MODES = {1: "grey", 2: "grey with alpha", 3: "RGB", 4: "RGBA"}
"""What an image is called, by its number of channels."""

_PALETTES = ("P", "PA")
_PLAIN = ("1", "L", "LA", "RGB", "RGBA")  # of Pillow's modes: 8 bits a channel or fewer
_ORIENTATION = 0x0112  # EXIF's tag of how a camera was held
_VALIDATION = ("val", "valid", "validation", "dev")


@dataclass(frozen=True)
class Member:
    """One image file: its part ("train", "test"), class and name, where it is, and its bytes."""

    part: str
    label: str
    name: str
    where: str
    content: Callable[[], bytes]


def is_there(path: Path) -> bool:
    """Whether `path` looks like class folders, a folder of zips, or a zip."""
    if not path.is_dir():
        return path.is_file() and (path.suffix.lower() == ".zip" or zipfile.is_zipfile(path))
    return any(part == "train" for part, _ in _parts(path)) or any(path.glob("*.zip"))


def count(path: Path) -> tuple[int, int]:
    """The numbers of training and test images below `path`, from the names alone."""
    with ExitStack() as stack:
        members = _members(path, stack)
        train = sum(member.part == "train" for member in members)
        return train, len(members) - train


def read(
    path: Path, known: Known | None, progress: Progress | None = None, size: int | None = None
) -> Raw:
    """All images below `path`, in the order of their names.

    With `known`, classes, counts and shape must be those of that data set. Without, the classes
    are the names of the training folders: sorted as numbers if all are numbers, else as text.
    Images have the fewest channels that hold every one of them: grey ones among colors become
    RGB. All must be of one size, or are brought to `size` pixels in height and width. What was
    changed in any image is in the notes.

    Raises DataError naming the file at fault.
    """
    with ExitStack() as stack:
        members = _members(path, stack)
        _require_complete(path, members, known)
        if known:
            classes = known.classes
        else:
            classes = class_names({m.label for m in members if m.part == "train"})
            _require_classes(path, classes)
        for member in members:
            if member.label not in classes:
                raise DataError(
                    f"unknown class {member.label!r} ({member.where}): "
                    f"the classes are {', '.join(classes)}"
                )
        changed: Counter[str] = Counter()
        pixels = _pixels(members, known, size, changed, progress)
        labels = np.array([classes.index(member.label) for member in members], np.int64)
        train = sum(member.part == "test" for member in members)  # where it begins
        return Raw(
            Images(pixels[train:], labels[train:]),
            Images(pixels[:train], labels[:train]),
            classes,
            notes=() if known else tuple(_notes(path, changed)),
            decoder=None if known else decoder(),
        )


def class_names(labels: Iterable[str]) -> tuple[str, ...]:
    """The names of classes in order: by value if every name is a number, else as text."""
    names = sorted(labels)
    if all(name.isascii() and name.isdecimal() for name in names):
        names.sort(key=lambda name: (len(name.lstrip("0")), name.lstrip("0")))
    return tuple(names)


def decoder() -> dict[str, str | None]:
    """The versions of what turns files into pixels: JPEG's are those of its decoder."""
    import PIL
    from PIL import features

    libraries = {"jpeg": features.version_codec("jpg"), "webp": features.version_module("webp")}
    return {"pillow": PIL.__version__, **libraries}


def _require_complete(path: Path, members: list[Member], known: Known | None) -> None:
    counts = Counter(member.part for member in members)
    for part in PARTS:
        expected = getattr(known, part) if known else None
        if expected is not None and counts[part] != expected:
            raise DataError(
                f"{expected} images expected in {part}/CLASS/*.png, found {counts[part]} ({path}): "
                f"bring a complete copy"
            )
        if not counts[part]:
            tree = f"put them into {part}/CLASS/, a folder for each class"
            if part == "test" and (other := [n for n in _top(path) if n.lower() in _VALIDATION]):
                tree = f"rename {other[0]} to test if its images are to be tested on, or {tree}"
            raise DataError(f"no images in {part}/CLASS/ ({path}{_holding(path)}): {tree}")


def _require_classes(path: Path, classes: tuple[str, ...]) -> None:
    if len(classes) < 2:
        raise DataError(
            f"one class only, {classes[0]!r} ({path}): put the images of each class into a folder "
            f"of its own, train/CLASS/NAME.png and test/CLASS/NAME.png, for two classes or more"
        )


def _top(path: Path) -> list[str]:
    """The names directly below a folder, or directly in its zips; hidden ones left out."""
    names = {file.name for file in path.iterdir()} if path.is_dir() else set()
    if not _parts(path):
        for file in sorted(path.glob("*.zip")) if path.is_dir() else [path]:
            with zipfile.ZipFile(file) as archive:
                names |= {name.split("/")[0] for name in archive.namelist()}
    return sorted(name for name in names if not name.startswith("."))


def _holding(path: Path) -> str:
    names = _top(path)
    return f" holds {', '.join(names[:6])}{', …' if len(names) > 6 else ''}" if names else ""


def _notes(path: Path, changed: Counter[str]) -> Iterator[str]:
    """Sentences on what is not as a reader of the files would expect."""
    if changed:
        yield "images " + ", ".join(f"{what}: {n:,}" for what, n in sorted(changed.items()))
    for name in _top(path):
        if name.lower() in _VALIDATION:
            yield f"{name} is not read: dataset.validation says how many of train are held out"


def _pixels(
    members: list[Member],
    known: Known | None,
    size: int | None,
    changed: Counter[str],
    progress: Progress | None,
) -> NDArray[np.uint8]:
    """The images of all members, uint8 (N, C, H, W); what was changed in them is counted."""
    whole = np.empty((0, 0, 0, 0), np.uint8)
    channels: Counter[int] = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, on oddities in metadata
        for i, member in enumerate(members):
            image = decode(member.content(), member.where, size, changed)
            channels[len(image)] += 1
            if not i:
                whole = _room(len(members), image.shape)
            both = _both(whole.shape[1], len(image))
            shape, actual = (both, *whole.shape[2:]), (both, *image.shape[1:])
            expected = known.shape if known else shape
            if actual != expected:
                raise DataError(
                    f"(channels, height, width) expected {expected}, found {actual} "
                    f"({member.where}): bring all images to one size and mode"
                    + ("" if known else ", or choose a size with dataset.size=32 or another")
                )
            whole, whole[i] = _widened(whole, both), _widened(image[None], both)[0]
            if progress and (i % 100 == 99 or i + 1 == len(members)):
                progress("decoding", i + 1, len(members))
    if len(channels) > 1:
        taken = MODES[whole.shape[1]]
        changed.update({f"{MODES[n]} taken as {taken}": k for n, k in channels.items()
                        if MODES[n] != taken})  # fmt: skip
    return whole


def _room(count: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    try:
        return np.empty((count, *shape), np.uint8)
    except (MemoryError, ValueError) as error:
        what = f"{count:,} images of (channels, height, width) {shape}"
        raise DataError(
            f"{what} do not fit into memory: choose a smaller size with dataset.size=64 or another"
        ) from error


def _both(one: int, other: int) -> int:
    """The fewest channels that hold images of `one` and of `other` channels."""
    colors = 3 if max(one, other) > 2 else 1
    return colors + (one % 2 == 0 or other % 2 == 0)


def _widened(pixels: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """The same pictures (N, C, H, W) with more channels: grey repeated, alpha opaque."""
    given = pixels.shape[1]
    if given == channels:
        return pixels
    alpha = pixels[:, -1:] if given % 2 == 0 else np.full_like(pixels[:, :1], 255)
    colors = pixels[:, : 1 if given < 3 else 3]
    if channels > 2 and given < 3:
        colors = colors.repeat(3, axis=1)
    return np.concatenate([colors, alpha], axis=1) if channels % 2 == 0 else colors


def decode(
    content: bytes, where: str, size: int | None = None, changed: Counter[str] | None = None
) -> NDArray[np.uint8]:
    """The pixels of an image file, uint8 (C, H, W): as stored, upright, 8 bits a channel.

    size: height and width to bring it to: the middle square of the image, resampled
    changed: what was done that changes pixels is counted here

    Raises DataError if it is no image, damaged, or of a kind that would lose what it means.
    """
    from PIL import Image, UnidentifiedImageError

    changed = Counter() if changed is None else changed
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            # The head is looked at first: a few bytes can claim to be an image of gigabytes.
            if image.height * image.width > PIXEL_LIMIT:
                shape = f"{image.height} x {image.width}"
                raise DataError(f"image of {shape} pixels ({where}): bring a smaller one")
            if refused := _refusal(image):
                raise DataError(f"{refused} ({where}): convert it to 8-bit grey or RGB")
            if image.format == "PNG":  # Pillow compares no checksum of the pixels when it reads
                with Image.open(io.BytesIO(content), formats=["PNG"]) as again:
                    again.verify()
            return _upright(image, size, changed)
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(
            f"no image that can be read ({where}): bring PNG, JPEG, BMP, GIF or WebP"
        ) from error
    except Exception as error:  # of any kind, for Pillow parses what anybody may have written
        raise DataError(f"damaged image ({where}): replace it") from error


def _refusal(image: Any) -> str | None:
    """Why the values of an opened image cannot be taken as 8-bit grey or colors; None if so."""
    if image.format != "MPO" and getattr(image, "is_animated", False):  # MPO: a photo, a preview
        return "more than one picture in a file"
    if image.format == "PNG" and str(image.tile[0][3]).endswith("16B"):
        return "16 bits per value"
    if image.mode not in (*_PLAIN, *_PALETTES):
        return f"values of mode {image.mode}"
    return None


def _upright(image: Any, size: int | None, changed: Counter[str]) -> NDArray[np.uint8]:
    """The pixels (C, H, W) of an opened image that is not refused."""
    from PIL import Image, ImageOps

    indexed = image.mode in _PALETTES or image.format == "GIF"
    try:
        turned = image.getexif().get(_ORIENTATION, 1) in range(2, 9)
    except Exception:  # metadata may be broken where the picture is not
        turned = False
    if turned:
        changed["turned as EXIF says"] += 1
        image = ImageOps.exif_transpose(image)
    if image.mode == "1":
        changed["with one bit per pixel"] += 1
        image = image.convert("L")
    if indexed:
        changed["with a palette"] += 1
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if size is not None and image.size != (size, size):
        changed[f"brought to {size} x {size}"] += 1
        side = min(image.size)  # cut first: nothing from outside the square may come in
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.crop((left, top, left + side, top + side))
        image = square.resize((size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image).reshape(image.height, image.width, -1).transpose(2, 0, 1)
    return _narrowed(pixels) if indexed else pixels


def _narrowed(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The colors of a palette (C, H, W) without channels that say nothing: a palette has all."""
    colors, alpha = pixels[:3], pixels[3:]
    if (alpha == 255).all():
        alpha = alpha[:0]
    if (colors == colors[:1]).all():
        colors = colors[:1]
    return np.concatenate([colors, alpha])


def _parts(path: Path) -> list[tuple[str, Path]]:
    """The folders train and test below a folder, whatever their case."""
    if not path.is_dir():
        return []
    return sorted((f.name.lower(), f) for f in path.iterdir()
                  if f.name.lower() in PARTS and f.is_dir())  # fmt: skip


def _members(path: Path, stack: ExitStack) -> list[Member]:
    """The images below `path`, sorted by name; zips stay open until `stack` is closed."""
    empty: dict[tuple[str, str], str] = {}  # where the folder of a class was seen
    try:
        if parts := _parts(path):
            members = list(_in_tree(parts, empty))
        else:
            zips = sorted(path.glob("*.zip")) if path.is_dir() else [path]
            members = [member for file in zips for member in _in_zip(file, stack, empty)]
    except (OSError, EOFError, RuntimeError, ValueError, struct.error, zipfile.BadZipFile) as error:
        raise DataError(f"cannot read: {error} ({path}): bring another copy") from error
    for member in members:
        empty.pop((member.part, member.label), None)
    for where in empty.values():
        raise DataError(f"no image of a class ({where}): add its images, or remove the folder")
    members.sort(key=lambda member: (member.part, member.label, member.name))
    for one, next_one in pairwise(members):
        if (one.part, one.label, one.name) == (next_one.part, next_one.label, next_one.name):
            raise DataError(
                f"the same file twice ({one.where} and {next_one.where}): remove one of them"
            )
    return members


def _in_tree(
    parts: list[tuple[str, Path]], classes: dict[tuple[str, str], str]
) -> Iterator[Member]:
    for part, above in parts:
        for folder in sorted(above.iterdir()):
            if folder.is_dir() and not folder.name.startswith("."):
                classes[part, _composed(folder.name)] = str(folder)
            for file in sorted(folder.iterdir()) if folder.is_dir() else [folder]:
                if names := _image((part, *file.relative_to(above).parts), str(file)):
                    yield Member(*names, str(file), partial(_file_content, file))


def _in_zip(file: Path, stack: ExitStack, classes: dict[tuple[str, str], str]) -> Iterator[Member]:
    _require_file(file)
    archive = stack.enter_context(_zip(file))
    for info in archive.infolist():
        where = f"{file}: {info.filename!r}"  # quoted: an archive may hold any characters
        path = PurePosixPath(info.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in info.filename:
            raise DataError(f"path that leads out of the archive ({where}): do not trust this file")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise DataError(f"link in an archive ({where}): do not trust this file")
        parts = (path.parts[0].lower(), *path.parts[1:]) if path.parts else ()
        if parts[:1] not in (("train",), ("test",)):
            continue
        if info.is_dir():
            if len(parts) == 2 and not parts[1].startswith("."):
                classes[parts[0], _composed(parts[1])] = where
        elif names := _image(parts, where):
            yield Member(*names, where, partial(_zip_content, archive, info, where))


def _zip(file: Path) -> zipfile.ZipFile:
    """An open zip; names that do not say how they are encoded are UTF-8 if they can be."""
    try:
        return zipfile.ZipFile(file, metadata_encoding="utf-8")
    except UnicodeDecodeError:
        return zipfile.ZipFile(file)


def _image(parts: tuple[str, ...], where: str) -> tuple[str, str, str] | None:
    """Part, class and file name of a file below train/ or test/, or None if it is hidden.

    DataError for anything else that is no image of a class.
    """
    if any(part.startswith(".") for part in parts):
        return None
    if len(parts) != 3 or not parts[2].lower().endswith(SUFFIXES):
        raise DataError(
            f"only CLASS/NAME.png may be below train/ and test/, or .jpg, .bmp, .gif, .webp "
            f"({where}): remove or convert it"
        )
    return parts[0], _composed(parts[1]), parts[2]


def _composed(name: str) -> str:
    """A class name in one form of Unicode: systems differ in how they store the dot of an ä."""
    return unicodedata.normalize("NFC", name)


def _require_file(file: Path) -> None:
    """DataError unless opening the path gives a file: a pipe would be waited for for ever."""
    if not stat.S_ISREG(os.stat(file).st_mode):
        raise DataError(f"no regular file ({file}): remove it")


def _file_content(file: Path) -> bytes:
    try:
        _require_file(file)
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
