"""Batch normalization followed by noise, which makes distributions shift again.

The noise is of Santurkar et al. 2018 (arXiv 1805.11604, 2.1): its mean and scale are others for
every unit in every step, so that what batch normalization made steady is steady no more.
"""

import torch
from torch import Tensor, nn

from bnrepro import config as c
from bnrepro.nn.batchnorm import _BatchNorm, _per_feature

UNIT_SHIFT, UNIT_SCALE = 0.5, 1.25
"""Bounds of what is drawn for a unit in a step: a shift up to ±0.5, a scale from 1 up to 1.25."""

VALUE_SHIFT, VALUE_SCALE = 0.1, 0.1
"""How far each value's own shift and scale are from its unit's: up to ±0.1; deviation 0.1."""

MEAN_SCALE = (1 + UNIT_SCALE) / 2


class NoisyBatchNorm(_BatchNorm):
    """y = s·BN(x) + t, for x of shape (N, C) or (N, C, H, W), with noise s and t in training.

    In every step each unit (feature map) draws a shift u, uniform in [-½, ½], and a scale v,
    uniform in [1, 1.25]; then each value a t, uniform in [u - 0.1, u + 0.1], and an s, normal with
    mean v and deviation 0.1. In evaluation s and t are their means, 1.125 and 0: the paper does not
    say.

    The numbers come from torch's global generator, as dropout's do. Where the running statistics
    are left alone, the network is looked at and not trained: the generator is put back after it.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2D input (got {input.dim()}D input)")

    def forward(self, input: Tensor) -> Tensor:
        """Normalized `input` with its noise, in the shape of `input`."""
        y: Tensor = super().forward(input)
        if not self.training:
            return MEAN_SCALE * y
        devices = [y.get_device()] if y.is_cuda else []
        with torch.random.fork_rng(devices, enabled=not self.track_running_stats):
            of_unit = torch.rand(2, y.size(1), device=y.device, dtype=y.dtype)
            of_value = torch.rand_like(y)
            normal = torch.randn_like(y)
        shift, scale = UNIT_SHIFT * (2 * of_unit[0] - 1), 1 + (UNIT_SCALE - 1) * of_unit[1]
        shifts = _per_feature(shift, y) + VALUE_SHIFT * (2 * of_value - 1)
        return (_per_feature(scale, y) + VALUE_SCALE * normal) * y + shifts


def make(norm: c.NoisyNorm, channels: int, dimensions: int) -> nn.Module:
    """The layer of a configuration."""
    return NoisyBatchNorm(channels, norm.eps, norm.momentum)
