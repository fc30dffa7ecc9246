"""Where a data set's images come from, and how the network sees them."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bnrepro import config as c
from bnrepro.data import prepared
from bnrepro.data.arrays import Known, Progress, Raw, canonical
from bnrepro.errors import DataError


@dataclass(frozen=True)
class Copy:
    """One copy of a data set: of what kind, where, and how to read it (checked, canonical)."""

    kind: str
    where: Path
    read: Callable[[], Raw]


class Source:
    """A data set's images: what a data set of one's own derives from, and overrides `read` of.

    Args:
        settings: the data set's configuration; `root` must be given.
        progress: called while something takes long.
    """

    known: ClassVar[Known | None] = None
    """What it must be; None if nothing is known of it beforehand."""

    published: ClassVar[bool] = False
    """Whether it can be downloaded, and a copy of it be imported."""

    binary = False
    """Whether pixels are made 0 or 255 before anything else."""

    def __init__(self, settings: c.Dataset, progress: Progress | None = None) -> None:
        self.settings, self.root, self.progress = settings, Path(settings.root), progress

    def read(self) -> Raw:
        """The images as they are stored, in whatever order.

        Raises:
            DataError: they are missing, damaged or cannot be read.
        """
        raise NotImplementedError

    def copies(self) -> list[Copy]:
        """The copies below `root`, the one to prefer first; reads none of them.

        Raises:
            DataError: `root` cannot be looked into.
        """
        return [Copy("package", self.root, lambda: canonical(self.read()))]

    def count(self) -> tuple[int, int] | None:
        """The numbers of training and test images, by names alone; None if only reading tells."""
        return (self.known.train, self.known.test) if self.known else None

    def fetch(self) -> None:
        """Download what is missing or damaged below `root`; nothing where nothing can be missing.

        Raises:
            DataError: it is not to be had, altered, or cannot be written.
        """

    def scaling(self, train: NDArray[np.uint8]) -> Callable[[Tensor], Tensor]:
        """How pixels, uint8 (N, C, H, W), become float32 of the same shape: values from 0 to 1.

        Args:
            train: the pixels that are trained on, from which alone a scale may be taken.
        """
        return divided_by(255.0)


class Published(Source):
    """A data set that is known, and can be downloaded or imported from a copy."""

    published = True
    known: ClassVar[Known]
    FOLDER: ClassVar[str]
    """Torchvision's layout: where, below a root, the published files lie unpacked."""
    COPIES: ClassVar[str]
    """The forms in which a copy of it is taken, in words."""

    def copies(self) -> list[Copy]:
        """What an import has written, then the published files."""
        with readable(self.root):
            path = prepared.path(self.known.name, self.root)
            copies = [self.unpacked(self.root / self.FOLDER)]
            if path.is_file():
                read = partial(self._read_prepared, path)
                copies.insert(0, Copy("prepared", path, read))
            return [copy for copy in copies if copy is not None]

    def _read_prepared(self, path: Path) -> Raw:
        return self.known.check(prepared.read(path), path)

    def unpacked(self, *folders: Path) -> Copy | None:
        """The first of some folders that holds all the published files, unpacked."""
        raise NotImplementedError

    def packed(self, path: Path) -> Copy | None:
        """The data set in one file, or in a folder with that file."""
        raise NotImplementedError


def make_source(settings: c.Dataset, progress: Progress | None = None) -> Source:
    """The source of a data set's images."""
    source: Source = c.maker(settings)(settings, progress)
    return source


def divided_by(top: float) -> Callable[[Tensor], Tensor]:
    """A scaling of values up to `top`, to values up to 1."""
    return lambda pixels: pixels.float().div_(top)


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Within it, what asking about a folder raises (no permission, a bad name) is a DataError."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"cannot look into the folder: {reason} ({folder}): make it readable, or choose "
            f"another with dataset.root or BNREPRO_DATA"
        ) from error


md5: Callable[..., Any] = partial(hashlib.md5, usedforsecurity=False)


def digest(path: Path, algorithm: Callable[[], Any]) -> str:
    """The digest (hex) of a file, or why there is none."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest()
    except OSError as error:
        return f"{error.strerror}"


def damaged(path: Path, kind: str, expected: str, actual: str, name: str) -> DataError:
    """A file of a published data set that is not what was published."""
    return DataError(
        f"damaged file: {kind} expected {expected}, found {actual} ({path}): "
        f"run `bnrepro data fetch {name}` to replace it"
    )


def unreadable(path: Path, error: Exception, name: str) -> DataError:
    """A file of a published data set that cannot be read."""
    return DataError(
        f"cannot read: {' '.join(str(error).split())} ({path}): make it readable, or run "
        f"`bnrepro data fetch {name}` to replace it"
    )
