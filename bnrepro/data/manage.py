"""Bring, take over, check and list the copies of the data sets below a root folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnrepro import config as c
from bnrepro.data import disk, image_tree, prepared
from bnrepro.data.arrays import Known, Progress, Raw, canonical
from bnrepro.data.source import Published, Source, make_source, readable
from bnrepro.errors import ConfigError, DataError


@dataclass(frozen=True)
class Inventory:
    """One copy of a data set, or one that is missing.

    state: "prepared" (written by an import), "raw" (as published), "bundled" or "package" (in a
        package), "folder" (class folders), "unreadable", or "missing"
    where: file or folder; None when missing
    train, test: numbers of images, validation counted with train; None when not known
    fingerprint: SHA-256 (hex) that the copy has or must have; None when only reading would tell
    classes: names; a label is the number of one; empty when only reading would tell
    shape: (C, H, W) of every image; None when only reading would tell
    notes: sentences on what is not as a reader of the files would expect
    """

    name: str
    state: str
    where: Path | None
    train: int | None = None
    test: int | None = None
    fingerprint: str | None = None
    classes: tuple[str, ...] = ()
    shape: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()


def find_source(
    name: str, root: Path | str, progress: Progress | None = None, **settings: Any
) -> Source:
    """The source of a data set by its name.

    Args:
        name: an option of the group `dataset`.
        root: where data sets lie.
        progress: called while something takes long.
        settings: others of the data set's settings, such as `mirror`.

    Raises:
        ConfigError: there is no such data set, or it has no such setting.
    """
    of: Any = c.option("dataset", name).settings
    try:
        chosen = of(name=name, root=str(root), **settings)
    except TypeError as error:
        raise ConfigError(f"{name} has no {' or '.join(settings)}: leave it out") from error
    return make_source(chosen, progress)


def known(name: str) -> Known | None:
    """What a data set must be, whatever copy of it is read; None if nothing is known of it."""
    return find_source(name, "").known


def published() -> list[str]:
    """The names of the data sets that can be downloaded."""
    return [name for name in c.options_of("dataset") if find_source(name, "").published]


def read(source: Source) -> Raw:
    """The checked, canonical data set from the preferred copy.

    Downloads it when there is none. With a copy there, no connection is opened and nothing is
    written.

    Raises:
        DataError: it is missing and not to be had, damaged, or not what it should be.
    """
    if not (copies := source.copies()):
        source.fetch()
        copies = source.copies()
    return copies[0].read()


def fingerprint(settings: c.Dataset) -> str:
    """The fingerprint of a data set's images: all of them are read.

    Raises:
        DataError: they are missing, or cannot be read.
    """
    return read(make_source(settings)).fingerprint


def fetch(
    name: str, root: Path | str, *, mirror: str | None = None, progress: Progress | None = None
) -> None:
    """Download the published files of a data set below `root`: those missing or damaged.

    Args:
        name: of a data set; what is bundled needs nothing.
        root: where data sets lie.
        mirror: a URL that takes the place of the published one; only here may it be plain http.
        progress: called while it is downloaded.

    Raises:
        DataError: they are not to be had, altered, or cannot be written; no half file is left.
        ConfigError: the mirror is no web address.
    """
    find_source(name, root, progress, **({} if mirror is None else {"mirror": mirror})).fetch()


def import_copy(
    name: str, source: Path | str, root: Path | str, progress: Progress | None = None
) -> Path:
    """Take over a copy of "mnist" or "cifar10", so that no download is needed.

    Args:
        name: of the data set.
        source: a folder with train/CLASS/*.png and test/CLASS/*.png, a folder of zips of it, one
            such zip, a folder of the published files, the published archive of CIFAR-10, or Keras'
            mnist.npz.
        root: where data sets lie.
        progress: called while images are decoded.

    Returns:
        The file written below `root`, which `load` then prefers.

    Raises:
        DataError: the copy is incomplete or altered; nothing is written.
    """
    names = published()
    if name not in names:
        raise ConfigError(f"{name!r} cannot be imported (NAME): choose {' or '.join(names)}")
    of, source, target = (
        find_source(name, root),
        Path(source).absolute(),
        prepared.path(name, Path(root)),
    )
    assert isinstance(of, Published)
    with readable(source):
        copy = of.unpacked(source, source / "raw", source / of.FOLDER) or of.packed(source)
        class_folders = copy is None and image_tree.is_there(source)
    if copy is None and not class_folders:
        raise DataError(
            f"no copy of {name} ({source}): give {of.COPIES}, a folder with "
            "train/CLASS/*.png and test/CLASS/*.png, or zips of it; tables of pixels (.csv) are "
            "not taken"
        )
    disk.require_writable(target.parent)
    if copy is not None:
        raw = copy.read()
    else:
        raw = of.known.check(canonical(image_tree.read(source, of.known, progress)), source)
    prepared.write(target, raw)
    return target


def verify(
    name: str, root: Path | str, progress: Progress | None = None, size: int | None = None
) -> list[Inventory]:
    """Read every copy of a data set below `root` from the first byte to the last.

    Args:
        name: of the data set.
        root: where data sets lie.
        progress: called while images are decoded.
        size: "folder" only: the height and width to bring all images to, as `load` would.

    Returns:
        The copies, all of them sound.

    Raises:
        DataError: naming file, expected and found, for the first that is not sound, and when there
            is none.
    """
    entries = []
    settings = {} if size is None or name != "folder" else {"size": size}
    for copy in find_source(name, root, progress, **settings).copies():
        raw = copy.read()
        shape = raw.train.pixels.shape[1:]
        entries.append(
            Inventory(
                name, copy.kind, copy.where, len(raw.train), len(raw.test), raw.fingerprint,
                raw.classes, shape, raw.notes,
            )
        )  # fmt: skip
    if not entries:
        raise DataError(
            f"no complete copy of {name} ({root}): run `bnrepro data fetch {name}` or "
            f"`bnrepro data import {name} PATH`, or name another folder with BNREPRO_DATA"
        )
    return entries


def inventory(root: Path | str) -> list[Inventory]:
    """What is below `root`, from names alone: nothing is read, checked or downloaded."""
    entries = []
    for name in c.options_of("dataset"):
        source = find_source(name, root)
        try:
            listed = [_listed(name, source, copy.kind, copy.where) for copy in source.copies()]
        except DataError:
            listed = [Inventory(name, "unreadable", Path(root))]
        entries += listed or [Inventory(name, "missing", None)]
    return entries


def _listed(name: str, source: Source, kind: str, where: Path) -> Inventory:
    train, test = source.count() or (None, None)
    if train == test == 0:  # zips of something else may lie in the root of the data
        return Inventory(name, "missing", None)
    if (of := source.known) is None:
        return Inventory(name, kind, where, train, test)
    return Inventory(name, kind, where, train, test, of.fingerprint, of.classes, of.shape)
