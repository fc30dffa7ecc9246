"""Dynamic tanh: a squashing function where a normalization would stand."""

import torch
from torch import Tensor, nn

from bnrepro import config as c
from bnrepro.nn.batchnorm import _per_feature


class DynamicTanh(nn.Module):
    """y = γ·tanh(α·x) + β, for x of shape (N, C) or (N, C, H, W) (Zhu et al. 2025, 2503.10622).

    α, a number of the layer, is learned and starts at `alpha`; γ and β, of shape (C,), are learned
    and start at 1 and 0. No statistics are taken, so training and evaluation are the same.
    """

    def __init__(self, channels: int, alpha: float) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((1,), alpha))
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Squashed x, in its shape."""
        squashed = torch.tanh(self.alpha * x)
        return squashed * _per_feature(self.weight, x) + _per_feature(self.bias, x)


def make(norm: c.DynamicTanh, channels: int, dimensions: int) -> nn.Module:
    """The layer of a configuration."""
    return DynamicTanh(channels, norm.alpha)
