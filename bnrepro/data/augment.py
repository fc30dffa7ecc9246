"""Training images varied again in every epoch: flipped, shifted, brightness and color distorted.

How an image is varied is a function of (seed, epoch, the image's number) alone: neither the batch
it is in, nor a stop between, nor another number of images changes it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Augmentation:
    """What is done to each of n images in one epoch.

    flipped: bool (n,), left and right change places
    shifted: int64 (n, 2), pixels down and to the right, after the flip
    saturation, contrast: float32 (n,), factors
    brightness: float32 (n,), added
    shifts, jitters: whether any image is flipped or shifted, or distorted, at all
    """

    flipped: Tensor
    shifted: Tensor
    saturation: Tensor
    contrast: Tensor
    brightness: Tensor
    shifts: bool
    jitters: bool

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that differs between epochs."""
        return self.flipped, self.shifted, self.saturation, self.contrast, self.brightness

    def of(self, tensors: Iterable[Tensor]) -> "Augmentation":
        """The same with other tensors, in the order of `tensors`."""
        flipped, shifted, saturation, contrast, brightness = tensors
        return replace(
            self,
            flipped=flipped,
            shifted=shifted,
            saturation=saturation,
            contrast=contrast,
            brightness=brightness,
        )

    def to(self, device: torch.device | str) -> "Augmentation":
        """The same on another device."""
        return self.of(tensor.to(device) for tensor in self.tensors)

    def apply(self, images: Tensor, rows: Tensor) -> Tensor:
        """New images, float32 (B, C, H, W), from those that have the numbers `rows`, int64 (B,)."""
        if self.shifts:
            images = _shifted(images, self.flipped[rows], self.shifted[rows])
        if self.jitters:
            factors = (self.saturation[rows], self.contrast[rows], self.brightness[rows])
            images = _jittered(images, *factors)
        return images


def augmentation(
    seed: int, epoch: int, n: int, *, flip: bool, shift: int, distortion: float
) -> Augmentation | None:
    """How epoch number `epoch` of a run with this seed varies n images; None where it does not.

    flip: whether each image is flipped with probability ½
    shift: the most pixels an image is shifted in each direction, all equally likely; 0 comes in,
        the mean of a standardized channel
    distortion: in [0, 1]. Saturation is the factor of each pixel's distance from its mean over the
        channels, contrast that of its distance from the image's mean, both uniform in
        [1 - distortion, 1 + distortion]; brightness is added, uniform in ±distortion, in the
        images' unit: a channel's standard deviation
    """
    if not (flip or shift or distortion):
        return None
    # The spawn key of an epoch's order is (epoch,): this one gives numbers of its own.
    bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(epoch, 1)))
    uniform = (bits.random_raw(n * 6).reshape(n, 6) >> np.uint64(11)) * 2.0**-53
    shifted = np.floor(uniform[:, 1:3] * (2 * shift + 1)).astype(np.int64) - shift
    around = torch.from_numpy((distortion * (2 * uniform[:, 3:] - 1)).astype(np.float32))
    return Augmentation(
        flipped=torch.from_numpy(flip & (uniform[:, 0] < 0.5)),
        shifted=torch.from_numpy(shifted),
        saturation=1 + around[:, 0],
        contrast=1 + around[:, 1],
        brightness=around[:, 2],
        shifts=bool(flip or shift),
        jitters=distortion > 0,
    )


def _shifted(images: Tensor, flipped: Tensor, shifted: Tensor) -> Tensor:
    """Images (B, C, H, W), each flipped or not, then shifted by (down, right); 0 comes in."""
    height, width = images.shape[2:]
    device = images.device
    rows = torch.arange(height, device=device) - shifted[:, :1]  # (B, H), where each row comes from
    columns = torch.arange(width, device=device) - shifted[:, 1:]  # (B, W)
    inside = _within(rows, height)[:, :, None] & _within(columns, width)[:, None, :]
    columns = torch.where(flipped[:, None], width - 1 - columns, columns)
    place = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]
    place = place.flatten(1)[:, None].expand(-1, images.shape[1], -1)
    shifted_images = images.flatten(2).gather(2, place).view_as(images)
    return shifted_images.mul_(inside[:, None])


def _within(index: Tensor, length: int) -> Tensor:
    return (index >= 0) & (index < length)


def _jittered(images: Tensor, saturation: Tensor, contrast: Tensor, brightness: Tensor) -> Tensor:
    """Images (B, C, H, W) with a saturation, a contrast and a brightness of each, (B,)."""
    saturation, contrast, brightness = (
        each.view(-1, 1, 1, 1) for each in (saturation, contrast, brightness)
    )
    grey = images.mean(1, keepdim=True)
    images = torch.lerp(grey, images, saturation)
    mean = grey.mean((2, 3), keepdim=True)
    return torch.lerp(mean, images, contrast).add_(brightness)
