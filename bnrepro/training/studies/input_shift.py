"""Covariate shift itself (§1, §2): test images from another distribution than the training images'.

A network with batch normalization has the statistics of its training images frozen into it. Taken
again from shifted images, without any label or any step of training, they undo a shift as far as
it is one of means and variances.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import avg_pool2d

from bnrepro import config as c
from bnrepro.data import Dataset, unseen_batches
from bnrepro.nn.inference import population_statistics
from bnrepro.training.studies.evaluation import CHUNK, accuracy, logits

Shift = Callable[[Tensor, float, Generator], Tensor]
"""Shifted images, float32 (N, C, H, W), from such images in [0, 1], a strength, and chance."""


def dimmed(light: Tensor, left: float, _: Generator) -> Tensor:
    """A part of the light."""
    return left * light


def noisy(light: Tensor, std: float, chance: Generator) -> Tensor:
    """Gaussian noise added, cut off at black and white."""
    noise = torch.randn(light.shape, generator=chance)  # a CPU's, the same on every device
    return (light + std * noise.to(light)).clamp(0, 1)


def blurred(light: Tensor, times: float, _: Generator) -> Tensor:
    """The mean of 3×3 pixels, as many times one after the other; of fewer at the border."""
    for _time in range(int(times)):
        light = avg_pool2d(light, 3, stride=1, padding=1, count_include_pad=False)
    return light


def pixelated(light: Tensor, side: float, _: Generator) -> Tensor:
    """Squares of pixels, each of their mean; cut off at the right and at the bottom."""
    (height, width), of = light.shape[2:], int(side)
    squares = avg_pool2d(light, of, ceil_mode=True, count_include_pad=False)
    return squares.repeat_interleave(of, 2).repeat_interleave(of, 3)[..., :height, :width]


def inverted(light: Tensor, share: float, _: Generator) -> Tensor:
    """A negative, if all of it is inverted."""
    return torch.lerp(light, 1 - light, share)


def recolored(light: Tensor, places: float, _: Generator) -> Tensor:
    """The channels in each other's place."""
    return light.roll(int(places), dims=1)


SHIFTS: Mapping[str, tuple[Shift, float]] = {
    "none": (dimmed, 1.0),
    **{f"dimmed to {left:g}": (dimmed, left) for left in (0.5, 0.3, 0.15)},
    **{f"noise of {std:g}": (noisy, std) for std in (0.05, 0.1, 0.2)},
    **{f"blurred {times}×": (blurred, times) for times in (1, 2, 4)},
    **{f"pixels of {side}": (pixelated, side) for side in (2, 4, 8)},
    "inverted": (inverted, 1.0),
    "recolored": (recolored, 1.0),
}
"""The shifts by name, each kind in the order of its strengths. Training has none of them; its
distortion changes light, too, but by less."""


def input_shift(model: nn.Module, dataset: Dataset, config: c.Config) -> dict[str, Any]:
    """Test accuracy under each of `SHIFTS`; of noise the same for every network.

    `frozen`: the network as it is. `again`, with batch normalization: with the statistics of
    Algorithm 2 from batches of training images that are shifted in the same way; else None.
    """
    train, test, norm = dataset.train.images, dataset.test, config.norm
    black, white = (f(train, (0, 2, 3)) for f in (torch.amin, torch.amax))  # (C,): 0 and 255 once
    order = torch.arange(len(test)).split(CHUNK)

    def shifted(images: Tensor, name: str, chance: Generator) -> Tensor:
        low, high = (limit.view(-1, 1, 1) for limit in (black, white))
        shift, strength = SHIFTS[name]
        return shift((images - low) / (high - low), strength, chance) * (high - low) + low

    def again(name: str, images: Tensor) -> float | None:
        if not isinstance(norm, c.BatchNorm):
            return None
        network, chance = copy.deepcopy(model), Generator().manual_seed(1)
        size, count = config.train.batch_size, norm.population_batches
        rows = unseen_batches(config.seed, len(train), size, count)
        population_statistics(network, (shifted(train[batch], name, chance) for batch in rows))
        return accuracy(logits(network, images, order), test.labels)

    def both(name: str) -> dict[str, float | None]:
        images = shifted(test.images, name, Generator().manual_seed(0))
        frozen = accuracy(logits(model, images, order), test.labels)
        return {"frozen": frozen, "again": again(name, images)}

    return {name: both(name) for name in SHIFTS}
