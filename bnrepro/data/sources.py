"""Where copies of the data sets lie, and how each is read and checked.

Every reader returns the data set in its canonical order, checked against what is known of it,
or raises DataError naming the file, what was expected and what was found.
"""

import hashlib
import tarfile
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bnrepro.data import archives, folders, prepared
from bnrepro.data.known import CIFAR10_ARCHIVE, FILES, FOLDERS, KNOWN, MNIST_SHA256, Known
from bnrepro.data.raw import Images, Progress, Raw, canonical, in_order
from bnrepro.errors import DataError

KERAS = ("x_train", "y_train", "x_test", "y_test")
"""The arrays of Keras' copy of MNIST, `mnist.npz`."""


@dataclass(frozen=True)
class Copy:
    """One copy of a data set: of what kind, where, and how to read it (checked, canonical)."""

    kind: str
    where: Path
    read: Callable[[], Raw]


def find(
    name: str, root: Path, progress: Progress | None = None, size: int | None = None
) -> list[Copy]:
    """The copies of a data set below `root`, the one to prefer first; reads none of them.

    size: "folder" only: the height and width that all images are to be brought to

    DataError if `root` cannot be looked into.
    """
    if name == "digits":
        return [Copy("bundled", Path("scikit-learn"), read_digits)]
    with looking_into(root):
        if name == "folder":
            there = folders.is_there(root)
            return (
                [Copy("folder", root, lambda: read_folder(root, progress, size))] if there else []
            )
        copies = [find_raw(name, root / FOLDERS[name])]
        if (path := prepared.path(name, root)).is_file():
            copies.insert(0, Copy("prepared", path, lambda: read_prepared(path, KNOWN[name])))
        return [copy for copy in copies if copy is not None]


@contextmanager
def looking_into(folder: Path) -> Iterator[None]:
    """DataError, naming the folder, if asking what is in it fails (no permission, a bad name)."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"cannot look into the folder: {reason} ({folder}): make it readable, or choose "
            f"another with dataset.root or BNREPRO_DATA"
        ) from error


def find_raw(name: str, *where: Path) -> Copy | None:
    """The first of some folders that holds all the published files of a data set, unpacked."""
    for folder in where:
        if name == "mnist":
            if all(_mnist_path(folder, file) for file in FILES[name]):
                return Copy("raw", folder, partial(read_mnist, folder))
        elif folder.name == FOLDERS[name] and all((folder / f).is_file() for f in FILES[name]):
            return Copy("raw", folder, partial(read_cifar10, folder))
    return None


def find_packed(name: str, path: Path) -> Copy | None:
    """A data set in one file: Keras' `mnist.npz`, CIFAR-10's archive; or in a folder with it."""
    if name == "mnist":
        file = path / "mnist.npz" if path.is_dir() else path
        if file.suffix == ".npz" and file.is_file():
            return Copy("packed", file, partial(read_keras, file))
    else:
        file = path / CIFAR10_ARCHIVE if path.is_dir() else path
        if file.name.endswith((".tar.gz", ".tgz")) and file.is_file():
            return Copy("packed", file, partial(read_cifar10_archive, file))
    return None


def check(raw: Raw, known: Known, where: Path) -> Raw:
    """The same data set, if it has the fingerprint that it should have."""
    if raw.fingerprint != known.fingerprint:
        raise DataError(
            f"this is not {known.name}: fingerprint expected {known.fingerprint}, "
            f"found {raw.fingerprint} ({where}): bring a complete, unaltered copy"
        )
    return raw


def read_prepared(path: Path, known: Known) -> Raw:
    """The data set that an import has written."""
    return check(prepared.read(path), known, path)


def read_folder(path: Path, progress: Progress | None = None, size: int | None = None) -> Raw:
    """A user's own class folders; nothing is known about them beforehand."""
    return canonical(folders.read(path, None, progress, size))


def read_mnist(folder: Path) -> Raw:
    """MNIST from its four idx files, plain or .gz; no file is looked into before it is checked."""
    # Parsed here and not by torchvision, whose import would add one to two seconds to the start
    # of every run. The format is a head of 16 bytes (images) or 8 (labels), then a byte a value.
    known = KNOWN["mnist"]
    content = {name: _mnist_content(folder, name) for name in MNIST_SHA256}

    def images(part: str) -> Images:
        pixels = np.frombuffer(content[f"{part}-images-idx3-ubyte"], np.uint8, offset=16)
        labels = np.frombuffer(content[f"{part}-labels-idx1-ubyte"], np.uint8, offset=8)
        return Images(pixels.reshape(-1, *known.shape), labels.astype(np.int64))

    return check(canonical(Raw(images("train"), images("t10k"), known.classes)), known, folder)


def has_mnist(folder: Path, name: str) -> bool:
    """Whether one of the four files is there and sound."""
    try:
        _mnist_content(folder, name)
    except DataError:
        return False
    return True


def _mnist_path(folder: Path, name: str) -> Path | None:
    """One of the four files, plain or .gz, under the published name or another copy's."""
    names = (name, name.replace("-idx", ".idx"))
    files = [folder / f"{n}{suffix}" for n in names for suffix in ("", ".gz")]
    files += [folder / n / n for n in names]  # Kaggle's archive, unpacked
    return next((file for file in files if file.is_file()), None)


def _mnist_content(folder: Path, name: str) -> bytes:
    path = _mnist_path(folder, name) or folder / name
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = archives.gunzip(content)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise _unreadable(path, error, "mnist") from error
    expected = MNIST_SHA256[name]
    if (found := hashlib.sha256(content).hexdigest()) != expected:
        raise _damaged(path, "SHA-256", expected, found, "mnist")
    return content


def read_keras(path: Path) -> Raw:
    """MNIST from Keras' `mnist.npz`."""
    known = KNOWN["mnist"]
    try:
        found = archives.arrays(path, KERAS)
        train, test = (
            Images(
                found[f"x_{part}"].reshape(-1, *known.shape), found[f"y_{part}"].astype(np.int64)
            )
            for part in ("train", "test")
        )
    except Exception as error:  # of a dozen kinds, for NumPy parses the heads of the arrays
        raise _unreadable(path, error, "mnist") from error
    return check(canonical(Raw(train, test, known.classes)), known, path)


def read_cifar10_archive(path: Path) -> Raw:
    """CIFAR-10 from the published `cifar-10-python.tar.gz`, unpacked into a folder for a while."""
    try:
        files = archives.known_members(path.read_bytes(), FOLDERS["cifar10"], FILES["cifar10"])
    except (OSError, EOFError, tarfile.TarError, zlib.error, ValueError) as error:
        raise _unreadable(path, error, "cifar10") from error
    with tempfile.TemporaryDirectory() as folder:
        batches = Path(folder, FOLDERS["cifar10"])
        batches.mkdir()
        for name, content in files.items():
            (batches / name).write_bytes(content)
        try:
            return read_cifar10(batches)
        except DataError as error:
            raise DataError(str(error).replace(folder, str(path))) from error


def read_cifar10(folder: Path) -> Raw:
    """CIFAR-10 from its seven pickles.

    Only through torchvision: it unpickles no file before it has compared its MD5, so no pickle
    but the published ones is ever run.
    """
    from torchvision.datasets import CIFAR10  # takes a second, and only this copy needs it

    with warnings.catch_warnings():
        # The published pickles were written by a NumPy so old that today's one remarks on it.
        warnings.filterwarnings("ignore", r"dtype\(\): align", Warning)
        try:
            train, test = (CIFAR10(folder.parent, train=t, download=False) for t in (True, False))
        except (OSError, RuntimeError) as error:
            # Torchvision does not say which file it was.
            for name, expected in cifar10_md5().items():
                if (found := digest(folder / name, md5)) != expected:
                    raise _damaged(folder / name, "MD5", expected, found, "cifar10") from error
            raise _unreadable(folder, error, "cifar10") from error

    def images(part: CIFAR10) -> Images:  # its pixels are (N, H, W, C)
        return Images(part.data.transpose(0, 3, 1, 2), np.array(part.targets, np.int64))

    raw = Raw(images(train), images(test), tuple(train.classes))
    return check(canonical(raw), KNOWN["cifar10"], folder)


def cifar10_md5() -> dict[str, str]:
    """The published MD5 of each of CIFAR-10's files, by name."""
    from torchvision.datasets import CIFAR10

    meta = (CIFAR10.meta["filename"], CIFAR10.meta["md5"])
    return dict((*CIFAR10.train_list, *CIFAR10.test_list, meta))


def read_digits() -> Raw:
    """The 8x8 digits bundled with scikit-learn, of values 0 to 16.

    They come without a test split: the last of the canonical order are the test images.
    """
    import sklearn
    from sklearn.datasets import load_digits

    known = KNOWN["digits"]
    bundle = load_digits()
    pixels = bundle.images.astype(np.uint8).reshape(-1, *known.shape)
    whole = in_order(Images(pixels, bundle.target.astype(np.int64)))
    raw = Raw(whole[: -known.test], whole[-known.test :], known.classes)
    return check(raw, known, Path(sklearn.__file__).parent)


md5: Callable[..., Any] = partial(hashlib.md5, usedforsecurity=False)


def digest(path: Path, algorithm: Callable[[], Any]) -> str:
    """The digest (hex) of a file, or why there is none."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest()
    except OSError as error:
        return f"{error.strerror}"


def _damaged(path: Path, kind: str, expected: str, found: str, name: str) -> DataError:
    return DataError(
        f"damaged file: {kind} expected {expected}, found {found} ({path}): "
        f"run `bnrepro data fetch {name}` to replace it"
    )


def _unreadable(path: Path, error: Exception, name: str) -> DataError:
    return DataError(
        f"cannot read: {' '.join(str(error).split())} ({path}): make it readable, or run "
        f"`bnrepro data fetch {name}` to replace it"
    )
