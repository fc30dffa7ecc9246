"""MNIST (LeCun et al. 1998): its published files, the copies that are taken, how it is scaled."""

import hashlib
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bnrepro import config as c
from bnrepro.data import archives, disk, download
from bnrepro.data.arrays import Images, Known, Progress, Raw, canonical
from bnrepro.data.source import Copy, Published, damaged, divided_by, unreadable
from bnrepro.errors import DataError

URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
SHA256 = {  # of the files as unpacked; they are published as NAME.gz
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
KERAS = ("x_train", "y_train", "x_test", "y_test")
"""The arrays of Keras' copy, `mnist.npz`."""


class Mnist(Published):
    """MNIST; with `binary`, pixels above 127 become 1, all others 0 (the paper's input is)."""

    known = Known(
        name="mnist",
        classes=tuple("0123456789"),
        shape=(1, 28, 28),
        train=60_000,
        test=10_000,
        validation=5_000,
        fingerprint="9a6d1a739854e055813f5c45b627baf0ce88dedf6be70d04cfc5f84950eaa850",
    )
    FOLDER = "MNIST/raw"
    COPIES = "the folder of the four .gz files, Keras' mnist.npz"
    settings: c.Mnist

    def __init__(self, settings: c.Mnist, progress: Progress | None = None) -> None:
        super().__init__(settings, progress)
        self.binary = settings.binary

    def unpacked(self, *folders: Path) -> Copy | None:
        """The first of some folders that holds the four idx files, plain or .gz."""
        for folder in folders:
            if all(_path(folder, file) for file in SHA256):
                return Copy("raw", folder, partial(self._read, folder))
        return None

    def packed(self, path: Path) -> Copy | None:
        """Keras' `mnist.npz`, or a folder with it."""
        file = path / "mnist.npz" if path.is_dir() else path
        if file.suffix == ".npz" and file.is_file():
            return Copy("packed", file, partial(self._read_keras, file))
        return None

    def fetch(self) -> None:
        """Download those of the four files that are missing or damaged."""
        folder = self.root / self.FOLDER
        for name, expected in SHA256.items():
            if _is_sound(folder, name):
                continue
            disk.require_writable(folder)
            url = download.url(
                URL if self.settings.mirror is None else self.settings.mirror, f"{name}.gz"
            )
            packed = download.get(url, "mnist", self.progress)
            try:
                content = archives.gunzip(packed)
            except (OSError, EOFError, zlib.error, ValueError) as error:
                raise download.failed("mnist", url, error) from error
            download.require_sha256(content, expected, "mnist", url)
            disk.write_bytes(folder / name, content)

    def scaling(self, train: NDArray[np.uint8]) -> Callable[[Tensor], Tensor]:
        """0 or 1 if it is binary, otherwise grey values from 0 to 1."""
        if not self.binary:
            return divided_by(255.0)
        return lambda pixels: torch.gt(
            pixels, 127, out=torch.empty_like(pixels, dtype=torch.float32)
        )

    def _read(self, folder: Path) -> Raw:
        """Read the four idx files; none is looked into before it is checked."""
        # Parsed here and not by torchvision, whose import would add one to two seconds to the
        # start of every run. The format is a head of 16 bytes (images) or 8 (labels), then a byte a
        # value.
        content = {name: _content(folder, name) for name in SHA256}

        def images(part: str) -> Images:
            pixels = np.frombuffer(content[f"{part}-images-idx3-ubyte"], np.uint8, offset=16)
            labels = np.frombuffer(content[f"{part}-labels-idx1-ubyte"], np.uint8, offset=8)
            return Images(pixels.reshape(-1, *self.known.shape), labels.astype(np.int64))

        return self.known.check(
            canonical(Raw(images("train"), images("t10k"), self.known.classes)), folder
        )

    def _read_keras(self, path: Path) -> Raw:
        try:
            arrays = archives.arrays(path, KERAS)
            train, test = (
                Images(
                    arrays[f"x_{part}"].reshape(-1, *self.known.shape),
                    arrays[f"y_{part}"].astype(np.int64),
                )
                for part in ("train", "test")
            )
        except Exception as error:  # of a dozen kinds, for NumPy parses the heads of the arrays
            raise unreadable(path, error, "mnist") from error
        return self.known.check(canonical(Raw(train, test, self.known.classes)), path)


def _path(folder: Path, name: str) -> Path | None:
    """One of the four files, plain or .gz, under the published name or another copy's."""
    names = (name, name.replace("-idx", ".idx"))
    files = [folder / f"{n}{suffix}" for n in names for suffix in ("", ".gz")]
    files += [folder / n / n for n in names]  # Kaggle's archive, unpacked
    return next((file for file in files if file.is_file()), None)


def _is_sound(folder: Path, name: str) -> bool:
    """Whether one of the four files is there and sound."""
    try:
        _content(folder, name)
    except DataError:
        return False
    return True


def _content(folder: Path, name: str) -> bytes:
    path = _path(folder, name) or folder / name
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = archives.gunzip(content)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise unreadable(path, error, "mnist") from error
    if (actual := hashlib.sha256(content).hexdigest()) != SHA256[name]:
        raise damaged(path, "SHA-256", SHA256[name], actual, "mnist")
    return content
