"""A data set as the network sees it, and the order in which training walks through it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bnrepro import config as c
from bnrepro.data import manage
from bnrepro.data.arrays import Progress
from bnrepro.data.scaling import moments, rescaling, whitening
from bnrepro.data.source import Source, make_source
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


def load(settings: c.Dataset, progress: Progress | None = None, seed: int = 0) -> Dataset:
    """Read a data set, downloading it only when no copy is there.

    What is read is checked against SHA-256 digests where they are known, put into the canonical
    order, and split. Of the training images the seed draws the `validation` split; the rest, or
    `limit` of it that the seed draws, is trained on; the test split is the whole test set. But for
    a limit no image is dropped: where the same picture is in the data set twice, both stay, and
    they may fall into different splits. (MNIST and digits have none; made binary, eight of MNIST's
    test images equal one of its training images.)

    Args:
        settings: which data set, and how it is split and scaled.
        progress: called while something takes long.
        seed: of the run; with it all that is left to chance varies.

    Raises:
        ConfigError: a `validation` or a `limit` cannot be.
        DataError: the data is missing and not to be had, damaged, or not what it should be.
    """
    source = make_source(settings, progress)
    raw = manage.read(source)
    validation, limit = settings.validation, settings.limit
    if validation is None:
        validation = len(raw.train) // 10
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
    order = _draw(seed, len(raw.train))
    held_out, trained = order[:validation], order[validation:][:limit]
    parts = [raw.train[np.sort(rows)] for rows in (trained, held_out)]
    # Only the images trained on may set a scale: the others are there to be predicted.
    scale = _scaling(source, parts[0].pixels)
    train, held, test = (
        Split(scale(torch.from_numpy(images.pixels)), torch.from_numpy(images.labels))
        for images in (*parts, raw.test)
    )
    return Dataset(
        name=settings.name,
        classes=raw.classes,
        train=train,
        validation=held,
        test=test,
        fingerprint=raw.fingerprint,
        notes=raw.notes,
        decoder=raw.decoder,
    )


def _scaling(source: Source, train: NDArray[np.uint8]) -> Callable[[Tensor], Tensor]:
    """How pixels, uint8 (N, C, H, W), become float32 of the same shape.

    Args:
        source: of the pixels.
        train: the pixels that are trained on, from which a scale is taken.
    """
    inputs = source.settings.inputs
    if inputs is c.Inputs.default:
        return source.scaling(train)
    if source.binary:
        train = np.where(train > 127, np.uint8(255), np.uint8(0))
    (mean,), (std,) = moments(train.reshape(len(train), 1, -1))
    white = inputs is c.Inputs.whitened and std > 0
    scale = whitening(train) if white else rescaling(inputs, mean, std, train.shape[1:])
    return (lambda pixels: scale((pixels > 127) * 255)) if source.binary else scale


def _draw(seed: int, n: int) -> NDArray[np.int64]:
    """The order in which a seed draws from n training images: int64 (n,).

    It is none of those in which they are trained on: those have spawn keys of one number.
    """
    return _shuffled(np.random.SeedSequence(seed, spawn_key=(0, 0)), n)


def permutation(seed: int, epoch: int, n: int) -> Tensor:
    """The order in which epoch number `epoch` of a run with this seed visits n images.

    int64 (n,). A pure function of its arguments, both non-negative: no global generator is read
    or moved. Different seeds and epochs give independent orders.
    """
    # The epoch is the spawn key: mixed into the entropy instead, a seed of more than 32 bits could
    # collide with another (seed, epoch).
    return torch.from_numpy(_shuffled(np.random.SeedSequence(seed, spawn_key=(epoch,)), n))


def _shuffled(entropy: np.random.SeedSequence, n: int) -> NDArray[np.int64]:
    # NumPy promises the raw bits of PCG64 for all its versions, and makes no such promise for
    # `Generator.permutation`; hence random keys, sorted.
    return np.argsort(np.random.PCG64(entropy).random_raw(n), kind="stable")


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
