"""Normalization of each image by itself: layer normalization and group normalization."""

from torch import nn

from bnrepro import config as c
from bnrepro.errors import ConfigError


class GroupNorm(nn.GroupNorm):
    """y = γ·(x - μ)/√(σ² + ε) + β, for x of shape (N, C) or (N, C, H, W).

    The channels are cut into `num_groups` groups of neighbors. μ and the biased variance σ² are
    those of all values of an image in a group: of C/num_groups units, or of as many maps at all
    places. γ and β, of shape (C,), are learned, and start at 1 and 0. Training and evaluation are
    the same. (Wu & He 2018, arXiv 1803.08494.) With one group it is layer normalization (Ba et al.
    2016, arXiv 1607.06450), but for γ and β: a feature map has one pair. The computation
    is torch's.
    """


def layer(norm: c.LayerNorm, channels: int, dimensions: int) -> nn.Module:
    """Layer normalization: the whole layer is one group."""
    return GroupNorm(1, channels, norm.eps)


def group(norm: c.GroupNorm, channels: int, dimensions: int) -> nn.Module:
    """Group normalization; a ConfigError where the groups do not divide the channels."""
    if channels % norm.groups:
        raise ConfigError(
            f"bad value {norm.groups} (norm.groups): it must divide the layer's {channels} channels"
        )
    return GroupNorm(norm.groups, channels, norm.eps)
