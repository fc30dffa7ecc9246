"""Batch normalization with another measure of spread than the standard deviation.

Hoffer et al. 2018 (arXiv 1803.01814): the mean absolute deviation (L1) or the largest one (L∞),
each times their constant. With that, of normally distributed values, the first is the standard
deviation, and the second, whose constant comes of bounds, about 1.4 times it at 60 values.
"""

import math

import torch
from torch import Tensor, nn

from bnrepro import config as c
from bnrepro.nn.batchnorm import _BatchNorm


class DeviationNorm(_BatchNorm):
    """y = γ·(x - μ)/√(d² + ε) + β, for x of shape (N, C) or (N, C, H, W); y has the shape of x.

    d is a deviation of each feature, or map, over the batch (and all places), through which
    gradients flow as they do through μ. In evaluation μ and d² are moving averages, `running_mean`
    and `running_var`, whose newest value weighs `momentum`.
    """

    def deviation(self, distance: Tensor) -> Tensor:
        """d, (C,), of the distances |x - μ| of m values of each feature, (m, C)."""
        raise NotImplementedError

    def forward(self, input: Tensor) -> Tensor:
        """Normalized `input`; a ValueError for a single value of a feature in training."""
        rows = input.movedim(1, -1)
        x = rows.flatten(0, -2)  # (m, C)
        assert self.running_mean is not None
        assert self.running_var is not None
        mean, var = self.running_mean, self.running_var
        if self.training:
            if len(x) == 1:
                raise ValueError(f"expected more than 1 value a feature (got {tuple(input.shape)})")
            mean = x.mean(0)
            centred = x - mean
            var = self.deviation(centred.abs()).square()
            self._follow(mean, var)
        else:
            centred = x - mean
        y = centred * (torch.rsqrt(var + self.eps) * self.weight) + self.bias
        return y.view(rows.shape).movedim(-1, 1)


class L1Norm(DeviationNorm):
    """`DeviationNorm` with d = √(π/2)·Σ|x - μ|/m."""

    def deviation(self, distance: Tensor) -> Tensor:
        """The mean distance, times its constant."""
        return math.sqrt(math.pi / 2) * distance.mean(0)


class LinfNorm(DeviationNorm):
    """`DeviationNorm` with d = max|x - μ|·(1 + √(π·ln 4))/√(8·ln m)."""

    def deviation(self, distance: Tensor) -> Tensor:
        """The largest distance, times the constant of m values."""
        constant = (1 + math.sqrt(math.pi * math.log(4))) / math.sqrt(8 * math.log(len(distance)))
        return constant * distance.amax(0)


def l1(norm: c.L1Norm, channels: int, dimensions: int) -> nn.Module:
    """The layer of a configuration, by mean absolute deviations."""
    return L1Norm(channels, norm.eps, norm.momentum)


def linf(norm: c.LinfNorm, channels: int, dimensions: int) -> nn.Module:
    """The layer of a configuration, by largest deviations."""
    return LinfNorm(channels, norm.eps, norm.momentum)
