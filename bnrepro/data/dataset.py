"""A data set as the network sees it, and the order in which training walks through it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bnrepro.data import copies
from bnrepro.data.inputs import require_inputs, rescaling
from bnrepro.data.known import KNOWN, require_name
from bnrepro.data.raw import Progress
from bnrepro.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels.

    images: float32 (N, C, H, W), scaled as the network sees them
    labels: int64 (N,), indices into the data set's class names
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> "Split":
        """The same split on another device."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three splits that are never mixed, and the SHA-256 (hex) of the data they were made from.

    The fingerprint is of the stored images, before scaling: it does not depend on `binary`
    or on the size of the validation split. A label is the number of its class in `classes`.

    notes: sentences on what is not as a reader of the files would expect
    decoder: versions of what decoded the images, None if nothing but bytes was read
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    fingerprint: str
    notes: tuple[str, ...] = ()
    decoder: dict[str, str | None] | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def facts(self) -> dict[str, Any]:
        """What a run's manifest keeps of its data: `dataset` names it, the others explain it."""
        return {
            "dataset": {"name": self.name, "fingerprint": self.fingerprint},
            "classes": list(self.classes),
            **({"decoder": self.decoder} if self.decoder else {}),
        }

    def to(self, device: torch.device | str) -> "Dataset":
        """The same data set with all its tensors on another device."""
        return replace(
            self,
            train=self.train.to(device),
            validation=self.validation.to(device),
            test=self.test.to(device),
        )


def load(
    name: str,
    root: Path | str,
    *,
    binary: bool = True,
    inputs: str = "default",
    validation: int | None = None,
    limit: int | None = None,
    size: int | None = None,
    mirror: str | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Read a data set from below `root`, downloading it only when no copy is there.

    name: one of `NAMES`
    binary: MNIST only: pixels above 127 become 1, all others 0 (the paper's input is binary);
        otherwise grey values from 0 to 1
    inputs: one of `INPUTS`: another scaling than the data set's own (binary pixels are 0 and 255
        before it)
    validation: how many of the training images to hold out, 0 for none; by default 5,000
        (mnist, cifar10), 200 (digits), a tenth (folder)
    limit: how many of the others to train on, from the first; by default all
    size: folder only: the height and width to bring every image to, in pixels: the middle square
        of each, resampled; by default all must be of one size
    mirror: a URL that replaces the published one if there is something to download

    What is read is checked against SHA-256 digests, put into the canonical order, and split:
    the first `validation` training images are the validation split, the rest, or of it the first
    `limit`, is trained on, and the test split is the whole test set. But for a limit no image is
    dropped: where the same picture is in the data set twice, both stay, and they may fall into
    different splits. (MNIST and digits have none; made binary, eight of MNIST's test images equal
    one of its training images.)

    Raises ConfigError for a name, a `validation` or a `limit` that cannot be, and DataError when
    the data is missing and not to be had, damaged, or not the data set it should be.
    """
    require_name(name)
    require_inputs(inputs)
    raw = copies.read(name, Path(root), mirror=mirror, size=size, progress=progress)
    known = KNOWN.get(name)
    if validation is None:
        validation = known.validation if known else len(raw.train) // 10
        if not validation:
            raise ConfigError(
                f"a tenth of {len(raw.train)} training images leaves none to hold out "
                f"(dataset.validation): say how many, or bring ten images or more"
            )
    if not 0 <= validation < len(raw.train):
        raise ConfigError(
            f"cannot hold out {validation} of {len(raw.train)} training images "
            f"(dataset.validation): choose 1 to {len(raw.train) - 1}"
        )
    rest = len(raw.train) - validation
    if limit is not None and not 1 <= limit <= rest:
        raise ConfigError(
            f"cannot train on {limit} of {rest} training images (dataset.limit): "
            f"choose 1 to {rest}, or null for all"
        )
    trained = slice(validation, None if limit is None else validation + limit)
    # Only the images trained on may set a scale: the others are there to be predicted.
    scale = _scaling(name, binary, inputs, raw.train.pixels[trained])
    train, test = (
        Split(scale(torch.from_numpy(images.pixels)), torch.from_numpy(images.labels))
        for images in (raw.train, raw.test)
    )
    # Each is a stretch of an order by content hash: as good as a random draw, see `raw`.
    return Dataset(
        name=name,
        classes=raw.classes,
        train=Split(train.images[trained], train.labels[trained]),
        validation=Split(train.images[:validation], train.labels[:validation]),
        test=test,
        fingerprint=raw.fingerprint,
        notes=raw.notes,
        decoder=raw.decoder,
    )


def _scaling(
    name: str, binary: bool, inputs: str, trained: NDArray[np.uint8]
) -> Callable[[Tensor], Tensor]:
    """How pixels, uint8 (N, C, H, W), become float32 of the same shape.

    trained: the pixels of the training split, from which a scale is taken
    """
    if inputs != "default":
        two = name == "mnist" and binary
        seen = np.where(trained > 127, np.uint8(255), np.uint8(0)) if two else trained
        (mean,), (std,) = _moments(seen.reshape(len(seen), 1, -1))
        scale = rescaling(inputs, mean, std, trained.shape[1:])
        return (lambda pixels: scale((pixels > 127) * 255)) if two else scale
    if name == "mnist" and binary:
        return lambda pixels: torch.gt(
            pixels, 127, out=torch.empty_like(pixels, dtype=torch.float32)
        )
    if name == "cifar10":
        mean, std = (torch.from_numpy(m).float().view(-1, 1, 1) for m in _moments(trained))
        return lambda pixels: pixels.float().sub_(mean).div_(std)
    top = 16.0 if name == "digits" else 255.0
    return lambda pixels: pixels.float().div_(top)


def _moments(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation, both (C,), of each channel of pixels (N, C, H, W).

    From the counts of the 256 values, whose sums are exact integers: nothing is lost in the
    difference below, and the result is the same with any number of threads.
    """
    counts = np.zeros((pixels.shape[1], 256), np.int64)
    for start in range(0, len(pixels), 500):  # counting widens: few enough to stay in the cache
        for channel, count in enumerate(counts):
            few = pixels[start : start + 500, channel]
            count += np.bincount(few.ravel(), minlength=256)
    values = np.arange(256)
    n = counts.sum(axis=1)
    mean = (counts @ values) / n
    return mean, np.sqrt((counts @ values**2) / n - mean**2)


def permutation(seed: int, epoch: int, n: int) -> Tensor:
    """The order in which epoch number `epoch` of a run with this seed visits n images.

    int64 (n,). A pure function of its arguments, both non-negative: no global generator is read
    or moved. Different seeds and epochs give independent orders.
    """
    # NumPy promises the raw bits of PCG64 for all its versions, and makes no such promise for
    # `Generator.permutation`; hence random keys, sorted. The epoch is the spawn key: mixed into
    # the entropy instead, a seed of more than 32 bits could collide with another (seed, epoch).
    bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(epoch,)))
    return torch.from_numpy(np.argsort(bits.random_raw(n), kind="stable"))


def batches(seed: int, epoch: int, n: int, size: int, *, together: bool) -> tuple[Tensor, ...]:
    """The mini-batches of an epoch, in the order they are trained on; rows int64 (size,) each.

    No image is dropped: where `size` does not divide n, one batch is smaller.

    together: whether the same images make a batch in every epoch, and only the batches' order
        changes; else all images are shuffled in each, and the smaller batch is the last
    """
    if not together:
        return tuple(permutation(seed, epoch, n).split(size))
    always = permutation(seed, 0, n).split(size)
    return tuple(always[number] for number in permutation(seed, epoch, len(always)))


def unseen_batches(seed: int, n: int, size: int, count: int) -> list[Tensor]:
    """`count` whole batches of `size` of n images, in orders that no epoch of training has.

    int64 (size,) each; `size` is at most n.
    """
    batches: list[Tensor] = []
    epoch = np.iinfo(np.int64).max
    while len(batches) < count:
        rows = permutation(seed, epoch, n).split(size)
        batches += [row for row in rows if len(row) == size]
        epoch -= 1
    return batches[:count]
