"""CIFAR-10 (Krizhevsky 2009): its published files, the copies that are taken, how it is scaled."""

import hashlib
import tarfile
import tempfile
import warnings
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
from bnrepro.data.arrays import Images, Known, Raw, canonical
from bnrepro.data.scaling import moments
from bnrepro.data.source import Copy, Published, damaged, digest, md5, unreadable
from bnrepro.errors import DataError

URL = "https://www.cs.toronto.edu/~kriz/"
ARCHIVE = "cifar-10-python.tar.gz"
ARCHIVE_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
FILES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")


class Cifar10(Published):
    """CIFAR-10, every channel standardized."""

    known = Known(
        name="cifar10",
        # In alphabetical order, which is also that of the original labels.
        classes=(
            "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship",
            "truck",
        ),
        shape=(3, 32, 32),
        train=50_000,
        test=10_000,
        validation=5_000,
        fingerprint="4fb0babe441a5c308293c63c7c5ab79019e6722e61f6862d993ae11cdbb4965e",
    )  # fmt: skip
    FOLDER = "cifar-10-batches-py"
    COPIES = f"{FOLDER}, {ARCHIVE}"
    settings: c.Cifar10

    def unpacked(self, *folders: Path) -> Copy | None:
        """The first of some folders that holds the seven pickles."""
        for folder in folders:
            if folder.name == self.FOLDER and all((folder / file).is_file() for file in FILES):
                return Copy("raw", folder, partial(self._read, folder))
        return None

    def packed(self, path: Path) -> Copy | None:
        """The published archive, or a folder with it."""
        file = path / ARCHIVE if path.is_dir() else path
        if file.name.endswith((".tar.gz", ".tgz")) and file.is_file():
            return Copy("packed", file, partial(self._read_archive, file))
        return None

    def fetch(self) -> None:
        """Download the archive and unpack it, unless an undamaged copy is there.

        The published archive, where it lies below `root`, is unpacked in place of a download.
        """
        folder, expected = self.root / self.FOLDER, published_md5()
        if all(digest(folder / name, md5) == expected[name] for name in expected):
            return
        disk.require_writable(folder)
        path = self.root / ARCHIVE  # where torchvision leaves it
        url = str(path)
        if digest(path, hashlib.sha256) == ARCHIVE_SHA256:
            archive = path.read_bytes()
        else:
            url = download.url(
                URL if self.settings.mirror is None else self.settings.mirror, ARCHIVE
            )
            archive = download.get(url, "cifar10", self.progress)
            download.require_sha256(archive, ARCHIVE_SHA256, "cifar10", url)
        try:
            files = archives.known_members(archive, self.FOLDER, FILES)
        except (OSError, EOFError, tarfile.TarError, zlib.error, ValueError) as error:
            raise download.failed("cifar10", url, error) from error
        for name, content in files.items():
            disk.write_bytes(folder / name, content)

    def scaling(self, train: NDArray[np.uint8]) -> Callable[[Tensor], Tensor]:
        """Every channel less its mean, over its standard deviation."""
        mean, std = (torch.from_numpy(m).float().view(-1, 1, 1) for m in moments(train))
        return lambda pixels: pixels.float().sub_(mean).div_(std)

    def _read_archive(self, path: Path) -> Raw:
        """Read the archive, unpacked into a folder for a while."""
        try:
            files = archives.known_members(path.read_bytes(), self.FOLDER, FILES)
        except (OSError, EOFError, tarfile.TarError, zlib.error, ValueError) as error:
            raise unreadable(path, error, "cifar10") from error
        with tempfile.TemporaryDirectory() as folder:
            batches = Path(folder, self.FOLDER)
            batches.mkdir()
            for name, content in files.items():
                (batches / name).write_bytes(content)
            try:
                return self._read(batches)
            except DataError as error:
                raise DataError(str(error).replace(folder, str(path))) from error

    def _read(self, folder: Path) -> Raw:
        """Read the seven pickles.

        Only through torchvision: it unpickles no file before it has compared its MD5, so no pickle
        but the published ones is ever run.
        """
        from torchvision.datasets import CIFAR10  # takes a second, and only this copy needs it

        with warnings.catch_warnings():
            # The published pickles were written by a NumPy so old that today's one remarks on it.
            warnings.filterwarnings("ignore", r"dtype\(\): align", Warning)
            try:
                train, test = (
                    CIFAR10(folder.parent, train=t, download=False) for t in (True, False)
                )
            except (OSError, RuntimeError) as error:
                # Torchvision does not say which file it was.
                for name, expected in published_md5().items():
                    if (actual := digest(folder / name, md5)) != expected:
                        raise damaged(folder / name, "MD5", expected, actual, "cifar10") from error
                raise unreadable(folder, error, "cifar10") from error

        def images(part: CIFAR10) -> Images:  # its pixels are (N, H, W, C)
            return Images(part.data.transpose(0, 3, 1, 2), np.array(part.targets, np.int64))

        raw = Raw(images(train), images(test), tuple(train.classes))
        return self.known.check(canonical(raw), folder)


def published_md5() -> dict[str, str]:
    """The published MD5 of each of CIFAR-10's files, by name."""
    from torchvision.datasets import CIFAR10

    meta = (CIFAR10.meta["filename"], CIFAR10.meta["md5"])
    return dict((*CIFAR10.train_list, *CIFAR10.test_list, meta))
