"""Covariate shift itself (§1, §2): test images from another distribution than the training images'.

A network with batch normalization has the statistics of its training images frozen into it. Taken
again from shifted images, without any label or any step of training, they undo a shift as far as
it is one of means and variances.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bnrepro import config as c
from bnrepro.data import Dataset, unseen_batches
from bnrepro.nn.inference import population_statistics
from bnrepro.training.studies.evaluation import CHUNK, accuracy, logits

DIM = 0.3
"""What is left of the light in dimmed images."""

Shift = Callable[[Tensor], Tensor]
"""Shifted images, float32 (N, C, H, W), from such images in [0, 1]."""

SHIFTS: dict[str, Shift] = {
    "none": lambda light: light,
    "inverted": lambda light: 1 - light,
    "dimmed": lambda light: DIM * light,
    "recoloured": lambda light: light.roll(1, dims=1),
}
"""The shifts by name; recolored images have their channels in each other's place."""


def input_shift(model: nn.Module, dataset: Dataset, config: c.Config) -> dict[str, Any]:
    """Test accuracy under each of `SHIFTS`.

    `frozen`: the network as it is. `again`, with batch normalization: with the statistics of
    Algorithm 2 from batches of training images that are shifted in the same way; else None.
    """
    train, test, norm = dataset.train.images, dataset.test, config.norm
    black, white = (f(train, (0, 2, 3)) for f in (torch.amin, torch.amax))  # (C,): 0 and 255 once
    order = torch.arange(len(test)).split(CHUNK)

    def shifted(images: Tensor, shift: Shift) -> Tensor:
        low, high = (limit.view(-1, 1, 1) for limit in (black, white))
        return shift((images - low) / (high - low)) * (high - low) + low

    def again(shift: Shift) -> float | None:
        if not isinstance(norm, c.BatchNorm):
            return None
        network = copy.deepcopy(model)
        size, count = config.train.batch_size, norm.population_batches
        rows = unseen_batches(config.seed, len(train), size, count)
        population_statistics(network, (shifted(train[batch], shift) for batch in rows))
        return accuracy(logits(network, shifted(test.images, shift), order), test.labels)

    return {
        name: {
            "frozen": accuracy(logits(model, shifted(test.images, shift), order), test.labels),
            "again": again(shift),
        }
        for name, shift in SHIFTS.items()
    }
