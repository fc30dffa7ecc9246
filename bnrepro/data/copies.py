"""Bring, take over, check and list the copies of the data sets below a root folder."""

from dataclasses import dataclass
from pathlib import Path

from bnrepro.data import atomic, download, folders, prepared, sources
from bnrepro.data.known import CIFAR10_ARCHIVE, FOLDERS, KNOWN, NAMES, require_name
from bnrepro.data.raw import Progress, Raw, canonical
from bnrepro.errors import ConfigError, DataError


@dataclass(frozen=True)
class Entry:
    """One copy of a data set, or one that is missing.

    state: "prepared" (written by an import), "raw" (as published), "bundled" (in a package),
        "folder" (class folders), "unreadable", or "missing"
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
    train: int | None
    test: int | None
    fingerprint: str | None
    classes: tuple[str, ...] = ()
    shape: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()


def read(
    name: str,
    root: Path,
    *,
    mirror: str | None = None,
    size: int | None = None,
    progress: Progress | None = None,
) -> Raw:
    """The checked, canonical data set from the preferred copy below `root`.

    Downloads it when there is none. With a copy there, no connection is opened and nothing is
    written.
    """
    if not (found := sources.find(name, root, progress, size)):
        fetch(name, root, mirror=mirror, progress=progress)
        found = sources.find(name, root, progress, size)
    return found[0].read()


def fetch(
    name: str, root: Path | str, *, mirror: str | None = None, progress: Progress | None = None
) -> None:
    """Download the published files of a data set below `root`: those missing or damaged.

    name: "mnist" or "cifar10"; "digits" is bundled and needs nothing
    mirror: a URL that takes the place of the published one; only here may it be plain http

    Raises DataError when they are not to be had, altered, or cannot be written, and leaves no
    half file; ConfigError for a mirror that is no web address.
    """
    root = Path(root)
    require_name(name)
    if name == "mnist":
        download.mnist(root, mirror, progress)
    elif name == "cifar10":
        download.cifar10(root, mirror, progress)
    elif name == "folder":
        raise DataError(
            f"no images, and none to download ({root}): put train/CLASS/*.png and "
            f"test/CLASS/*.png or zips of them there, or name another folder with dataset.root"
        )


def import_copy(
    name: str, source: Path | str, root: Path | str, progress: Progress | None = None
) -> Path:
    """Take over a copy of "mnist" or "cifar10", so that no download is needed.

    source: a folder with train/CLASS/*.png and test/CLASS/*.png, a folder of zips of it, one
        such zip, a folder of the published files, the published archive of CIFAR-10, or Keras'
        mnist.npz
    Returns the file written below `root`, which `load` then prefers.

    Raises DataError, and writes nothing, unless the copy is complete and unaltered.
    """
    if name not in FOLDERS:
        raise ConfigError(f"{name!r} cannot be imported (NAME): choose {' or '.join(FOLDERS)}")
    known, source, target = KNOWN[name], Path(source).absolute(), prepared.path(name, Path(root))
    with sources.looking_into(source):
        published = sources.find_raw(
            name, source, source / "raw", source / FOLDERS[name]
        ) or sources.find_packed(name, source)
        class_folders = published is None and folders.is_there(source)
    if published is not None:
        read_it = published.read
    elif class_folders:

        def read_it() -> Raw:
            return sources.check(canonical(folders.read(source, known, progress)), known, source)

    else:
        packed = "Keras' mnist.npz" if name == "mnist" else CIFAR10_ARCHIVE
        files = "the folder of the four .gz files" if name == "mnist" else FOLDERS[name]
        raise DataError(
            f"no copy of {name} ({source}): give {files}, {packed}, a folder with "
            "train/CLASS/*.png and test/CLASS/*.png, or zips of it; tables of pixels (.csv) are "
            "not taken"
        )
    atomic.require_writable(target.parent)
    prepared.write(target, read_it())
    return target


def verify(
    name: str, root: Path | str, progress: Progress | None = None, size: int | None = None
) -> list[Entry]:
    """Read every copy of a data set below `root` from the first byte to the last.

    size: "folder" only: the height and width to bring all images to, as `load` would

    Returns the copies, all of them sound. Raises DataError, naming file, expected and found,
    for the first that is not, and when there is none.
    """
    root = Path(root)
    require_name(name)
    entries = []
    for copy in sources.find(name, root, progress, size):
        raw = copy.read()
        entries.append(
            Entry(
                name,
                copy.kind,
                copy.where,
                len(raw.train),
                len(raw.test),
                raw.fingerprint,
                raw.classes,
                raw.train.pixels.shape[1:],
                raw.notes,
            )
        )
    if not entries:
        raise DataError(
            f"no complete copy of {name} ({root}): run `bnrepro data fetch {name}` or "
            f"`bnrepro data import {name} PATH`, or name another folder with BNREPRO_DATA"
        )
    return entries


def inventory(root: Path | str) -> list[Entry]:
    """What is below `root`, from names alone: nothing is read, checked or downloaded."""
    root = Path(root)
    entries = []
    for name in NAMES:
        try:
            found = [_listed(name, copy) for copy in sources.find(name, root)]
        except DataError:
            found = [Entry(name, "unreadable", root, None, None, None)]
        entries += found or [Entry(name, "missing", None, None, None, None)]
    return entries


def _listed(name: str, copy: sources.Copy) -> Entry:
    if known := KNOWN.get(name):
        return Entry(
            name,
            copy.kind,
            copy.where,
            known.train,
            known.test,
            known.fingerprint,
            known.classes,
            known.shape,
        )
    train, test = folders.count(copy.where)
    if train + test == 0:  # zips of something else may lie in the root of the data
        return Entry(name, "missing", None, None, None, None)
    return Entry(name, copy.kind, copy.where, train, test, None)
