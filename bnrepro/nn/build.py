"""The networks, with the normalization layers switched on and off.

A network is built from a typed configuration and an explicit generator: the same seed gives the
same weights whatever stands between the layers, since normalization draws no random numbers.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from bnrepro import config as c


def build(config: c.Config, image_shape: tuple[int, ...], classes: int) -> nn.Module:
    """The network of a configuration, its weights drawn from `config.seed`.

    Args:
        config: a checked configuration.
        image_shape: (C, H, W) of one image.
        classes: the number of outputs.
    """
    model: nn.Module = c.maker(config.model)(config.model, config.norm, image_shape, classes)
    initialize(model, config.init, torch.Generator().manual_seed(config.seed))
    return model


def initialize(model: nn.Module, init: c.Init, generator: torch.Generator) -> None:
    """Draw every weight matrix from a Gaussian of mean 0, set every bias to 0.

    The standard deviation is `scale` times what `gaussian`, `xavier`, `he` or `shifted` say. With
    an `init` for units of another mean than 0, biases take that of their inputs away.
    """
    std, mean = c.maker(init), 0.0  # the images', before the first layer
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(module.weight)
            nn.init.normal_(
                module.weight, std=init.scale * std(fan_in, fan_out), generator=generator
            )
            if module.bias is not None:
                nn.init.zeros_(module.bias)
                if mean:
                    module.bias.data -= mean * module.weight.data.flatten(1).sum(1)
            mean = init.mean


def gaussian(fan_in: int, fan_out: int) -> float:
    """1, whatever the layer."""
    return 1.0


def xavier(fan_in: int, fan_out: int) -> float:
    """√(2/(fan_in + fan_out)) (Glorot & Bengio 2010, eq. 12 and 16)."""
    return math.sqrt(2 / (fan_in + fan_out))


def he(fan_in: int, fan_out: int) -> float:
    """√(2/fan_in) (He et al. 2015, eq. 10)."""
    return math.sqrt(2 / fan_in)


def shifted(fan_in: int, fan_out: int) -> float:
    """4·√(2/(fan_in + fan_out)): Xavier's, by the slope ¼ that a sigmoid has at 0.

    With the mean ½ of sigmoids taken away (`ShiftedInit`) the network begins as one of the units
    4σ(x) − 2 with Xavier's weights and no biases (Xu et al. 2016).
    """
    return 4 * xavier(fan_in, fan_out)


def nonlinearities(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Name and module of every nonlinearity, from the input to the output."""
    kinds = (nn.Sigmoid, nn.ReLU, nn.Tanh)
    yield from (
        (name, module) for name, module in model.named_modules() if isinstance(module, kinds)
    )


def weighted(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Name and weight of every layer that multiplies, from the input to the output."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            yield name, module.weight


def biased(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Name and bias of every layer that multiplies and has one, from the input to the output."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
            yield name, module.bias
