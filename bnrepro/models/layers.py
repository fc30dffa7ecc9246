"""What networks are built from besides weights: the nonlinearity, and what normalizes."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear

from bnrepro import config as c
from bnrepro.batchnorm import BatchNorm1d, BatchNorm2d
from bnrepro.detached import DetachedNorm

ACTIVATIONS: dict[c.Activation, Callable[[], nn.Module]] = {
    c.Activation.sigmoid: nn.Sigmoid,
    c.Activation.relu: nn.ReLU,
    c.Activation.tanh: nn.Tanh,
}


def placement(norm: c.Norm) -> c.Placement | None:
    """Where a normalization stands; None where there is none."""
    return norm.placement if isinstance(norm, c.BatchNorm | c.DetachedNorm) else None


def has_bias(norm: c.Norm) -> bool:
    """Whether the layer before the nonlinearity has a bias.

    Where the norm stands directly behind it, it has none: the normalization subtracts it and β
    takes its place (§3.2). With `keep_bias`, or a norm outside the gradient step, it has one
    anyway.
    """
    if not isinstance(norm, c.BatchNorm | c.DetachedNorm):
        return True
    return norm.keep_bias or norm.placement is not c.Placement.pre


def normalization(norm: c.Norm, features: int) -> nn.Module:
    """The normalization layer a configuration names, for (N, features) activations."""
    if isinstance(norm, c.DetachedNorm):
        return DetachedNorm(features, norm.eps, norm.momentum, norm.scaling)
    assert isinstance(norm, c.BatchNorm)
    layer = nn.BatchNorm1d if isinstance(norm, c.TorchNorm) else BatchNorm1d
    return layer(features, eps=norm.eps, momentum=norm.momentum)


def convolutional_normalization(norm: c.BatchNorm, channels: int) -> nn.Module:
    """The same for feature maps (N, channels, H, W): one γ, β for each map (§3.2)."""
    layer = nn.BatchNorm2d if isinstance(norm, c.TorchNorm) else BatchNorm2d
    return layer(channels, eps=norm.eps, momentum=norm.momentum)


class PerActivation(nn.Module):
    """A normalization of feature maps in which every place of every map is a unit of its own.

    x (N, C, H, W) -> the same shape, with C·H·W means, deviations, γ and β, as between fully
    connected layers; so the network at that layer is convolutional no more (§4.2.3).
    """

    def __init__(self, norm: c.BatchNorm, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.norm = normalization(norm, math.prod(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Normalized x (N, C, H, W)."""
        y: Tensor = self.norm(x.flatten(1))
        return y.view(x.shape)


class PointwiseConv2d(nn.Conv2d):
    """A convolution of 1×1: at every place the same linear map of the channels.

    x (N, C, H, W) -> (N, channels, H, W). As matrix products over all places of a channels_last
    tensor it takes half the time of the convolution kernels on a CPU.
    """

    def __init__(self, fan_in: int, channels: int, bias: bool) -> None:
        super().__init__(fan_in, channels, 1, bias=bias)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The maps of input (N, C, H, W), channels_last; what Conv2d's `forward` calls."""
        places = linear(input.permute(0, 2, 3, 1), weight.flatten(1), bias)
        return places.permute(0, 3, 1, 2)


class LocalResponseNorm(nn.Module):
    """y = x / (1 + α/n·Σx²)^¾, the sum over a map and its neighbours at the same place.

    x (N, C, H, W) -> the same shape (Krizhevsky et al. 2012, 3.3, with α = 10⁻⁴, β = ¾ and n = 5
    maps). torch's own has no deterministic derivative on CUDA, and takes three times as long: here
    the sum is a convolution.
    """

    MAPS, ALPHA = 5, 1e-4

    def __init__(self, channels: int) -> None:
        super().__init__()
        index = torch.arange(channels)
        near = (index[:, None] - index).abs() <= self.MAPS // 2
        weights = near.float()[:, :, None, None] * (self.ALPHA / self.MAPS)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalized x (N, C, H, W)."""
        assert isinstance(self.weights, Tensor)
        root = torch.rsqrt(1 + conv2d(x * x, self.weights))
        return x * root * root.sqrt()
