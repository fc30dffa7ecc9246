"""Normalization layers from their settings."""

import math

from torch import Tensor, nn

from bnrepro import config as c
from bnrepro.nn.batchnorm import BatchNorm1d, BatchNorm2d
from bnrepro.nn.stop_gradient import StopGradientNorm


def normalization(norm: c.Norm, channels: int, dimensions: int = 0) -> nn.Module:
    """The normalization layer a configuration names.

    Args:
        norm: its settings; not those of a norm that does not stand anywhere.
        channels: C of its inputs.
        dimensions: 0 for inputs (N, C), 2 for maps (N, C, H, W) with one γ, β a map (§3.2).
    """
    layer: nn.Module = c.maker(norm)(norm, channels, dimensions)
    return layer


def batch(norm: c.BatchNorm, channels: int, dimensions: int) -> nn.Module:
    """Our batch normalization."""
    kind = BatchNorm2d if dimensions else BatchNorm1d
    layer = kind(channels, eps=norm.eps, momentum=norm.momentum, affine=norm.affine)
    layer.ghost_size = norm.ghost_size
    return layer


def torch(norm: c.TorchNorm, channels: int, dimensions: int) -> nn.Module:
    """Torch's batch normalization."""
    layer = nn.BatchNorm2d if dimensions else nn.BatchNorm1d
    return layer(channels, eps=norm.eps, momentum=norm.momentum, affine=norm.affine)


def detached(norm: c.DetachedNorm, channels: int, dimensions: int) -> nn.Module:
    """Normalization outside the gradient step."""
    assert dimensions == 0
    return StopGradientNorm(channels, norm.eps, norm.momentum, norm.scaling)


def has_bias(norm: c.Norm) -> bool:
    """Whether the layer before the nonlinearity has a bias.

    Where the norm stands directly behind it, it has none: the normalization subtracts it and β
    takes its place (§3.2). With `keep_bias`, or a norm outside the gradient step, it has one
    anyway.
    """
    return norm.placement is not c.Placement.pre or norm.keep_bias


class PerActivation(nn.Module):
    """A normalization of feature maps in which every place of every map is a unit of its own.

    x (N, C, H, W) -> the same shape, with C·H·W means, deviations, γ and β, as between fully
    connected layers; so the network at that layer is convolutional no more (§4.2.3).
    """

    def __init__(self, norm: c.Norm, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.norm = normalization(norm, math.prod(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Normalized x (N, C, H, W)."""
        y: Tensor = self.norm(x.flatten(1))
        return y.view(x.shape)
