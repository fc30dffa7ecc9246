"""Parts of networks: nonlinearities, pointwise convolutions, local response normalization."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear

from bnrepro import config as c

ACTIVATIONS: dict[c.Activation, Callable[[], nn.Module]] = {
    c.Activation.sigmoid: nn.Sigmoid,
    c.Activation.relu: nn.ReLU,
    c.Activation.tanh: nn.Tanh,
}


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
