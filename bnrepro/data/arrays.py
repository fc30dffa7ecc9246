"""A data set as bytes: pixels and labels, their one order, and their fingerprint.

Copies of one data set come in different orders (batches, folders, archives). Sorting by
content gives them one order, so that the same data gives the same run wherever it came from.
The SHA-256 over the sorted arrays names the data set.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bnrepro.errors import DataError

Progress = Callable[[str, int, int | None], None]
"""Called as (what is being done, units done, units in all or None when that is not known)."""


@dataclass(frozen=True, eq=False)
class Images:
    """Images as they are stored, each with its class.

    pixels: uint8 (N, C, H, W)
    labels: int64 (N,), indices into the class names
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, which: slice | NDArray[np.int64]) -> "Images":
        return Images(self.pixels[which], self.labels[which])


@dataclass(frozen=True, eq=False)
class Raw:
    """A whole data set as it is stored: training and test images and the names of the classes.

    notes: sentences on what is not as a reader of the files would expect
    decoder: versions of what decoded the images, None if nothing but bytes was read
    """

    train: Images
    test: Images
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    decoder: dict[str, str | None] | None = None

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over class names, shapes, pixels and labels, in the order they are in."""
        head = {
            "classes": self.classes,
            "train": self.train.pixels.shape,
            "test": self.test.pixels.shape,
        }
        digest = hashlib.sha256(json.dumps(head).encode())
        for images in (self.train, self.test):
            digest.update(np.ascontiguousarray(images.pixels).data)
            digest.update(np.ascontiguousarray(images.labels, dtype="<i8").data)
        return digest.hexdigest()


def in_order(images: Images) -> Images:
    """The same images sorted by (SHA-256 of the image's bytes, label).

    The order depends on nothing but the images. It is also as good as a random draw: a hash
    knows nothing of classes or writers, so the first n images are a fair sample. Equal images
    stay neighbours and none is removed.
    """
    pixels = np.ascontiguousarray(images.pixels)
    digests = b"".join(hashlib.sha256(image).digest() for image in pixels)
    # A digest read as four big-endian words sorts as its bytes do, and much faster.
    words = np.frombuffer(digests, ">u8").reshape(-1, 4).astype(np.uint64)
    order = np.lexsort((images.labels, *words.T[::-1]))  # the last key sorts first
    return Images(pixels.take(order, axis=0), images.labels.take(order))


def canonical(raw: Raw) -> Raw:
    """The same data set with its training and its test images each `in_order`."""
    return replace(raw, train=in_order(raw.train), test=in_order(raw.test))


@dataclass(frozen=True)
class Known:
    """What a data set must be, whatever copy of it is read.

    shape: (C, H, W) of every image
    train, test, validation: numbers of images; validation is the default share taken from train
    fingerprint: SHA-256 (hex) of the canonical arrays, see `Raw.fingerprint`
    """

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    train: int
    test: int
    validation: int
    fingerprint: str

    def check(self, raw: Raw, where: Path) -> Raw:
        """The canonical data set, if it has the fingerprint that it should have.

        Raises:
            DataError: it has another.
        """
        if raw.fingerprint != self.fingerprint:
            raise DataError(
                f"this is not {self.name}: fingerprint expected {self.fingerprint}, "
                f"found {raw.fingerprint} ({where}): bring a complete, unaltered copy"
            )
        return raw
