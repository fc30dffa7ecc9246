"""The networks, with the normalization layers switched on and off.

A network is built from a typed configuration and an explicit generator: the same seed gives the
same weights whatever stands between the layers, since normalization draws no random numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from bnrepro import config as c
from bnrepro.batchnorm import BatchNorm1d
from bnrepro.detached import DetachedNorm

ACTIVATIONS: dict[c.Activation, Callable[[], nn.Module]] = {
    c.Activation.sigmoid: nn.Sigmoid,
    c.Activation.relu: nn.ReLU,
    c.Activation.tanh: nn.Tanh,
}


def build(config: c.Config, image_shape: tuple[int, ...], classes: int) -> nn.Module:
    """The network of a configuration, its weights drawn from `config.seed`.

    Args:
        config: a checked configuration.
        image_shape: (C, H, W) of one image.
        classes: the number of outputs.
    """
    assert isinstance(config.model, c.Mlp)
    model = Mlp(math.prod(image_shape), classes, config.model, config.norm)
    initialize(model, config.init, torch.Generator().manual_seed(config.seed))
    return model


class Mlp(nn.Sequential):
    """Fully connected layers, each followed by its nonlinearity (§4.1).

    x (N, C, H, W) -> logits (N, classes). One hidden layer is, in this order,

        linear -> [norm, if pre] -> nonlinearity -> [norm, if post] -> [dropout]

    Where the norm stands directly behind the linear layer, that layer has no bias: the
    normalization subtracts it and β takes its place (§3.2). With `keep_bias`, or a norm outside
    the gradient step, it has one all the same.
    """

    def __init__(self, inputs: int, classes: int, model: c.Mlp, norm: c.Norm) -> None:
        super().__init__()
        self.add_module("flatten", nn.Flatten())
        placement, bias = None, True
        if isinstance(norm, c.BatchNorm | c.DetachedNorm):
            placement = norm.placement
            bias = norm.keep_bias or placement is not c.Placement.pre
        for depth, (fan_in, width) in enumerate(pairwise([inputs, *model.hidden]), start=1):
            self.add_module(f"linear{depth}", nn.Linear(fan_in, width, bias=bias))
            if placement is c.Placement.pre:
                self.add_module(f"norm{depth}", normalization(norm, width))
            self.add_module(f"{model.activation.value}{depth}", ACTIVATIONS[model.activation]())
            if placement is c.Placement.post:
                self.add_module(f"norm{depth}", normalization(norm, width))
            if model.dropout > 0:
                self.add_module(f"dropout{depth}", nn.Dropout(model.dropout))
        self.add_module("output", nn.Linear(model.hidden[-1], classes))


def normalization(norm: c.Norm, features: int) -> nn.Module:
    """The normalization layer a configuration names, for (N, features) activations."""
    if isinstance(norm, c.DetachedNorm):
        return DetachedNorm(features, norm.eps, norm.momentum, norm.scaling)
    assert isinstance(norm, c.BatchNorm)
    layer = nn.BatchNorm1d if isinstance(norm, c.TorchNorm) else BatchNorm1d
    return layer(features, eps=norm.eps, momentum=norm.momentum)


def initialize(model: nn.Module, init: c.Init, generator: torch.Generator) -> None:
    """Draw every weight matrix from a Gaussian of mean 0, set every bias to 0.

    The standard deviation is `scale` (gaussian), scale·√(2/(fan_in + fan_out)) (xavier; Glorot &
    Bengio 2010, eq. 12 and 16) or scale·√(2/fan_in) (he; He et al. 2015, eq. 10).
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(module.weight)
            deviation = (
                init.scale
                * {
                    "gaussian": 1.0,
                    "xavier": math.sqrt(2 / (fan_in + fan_out)),
                    "he": math.sqrt(2 / fan_in),
                }[init.name]
            )
            nn.init.normal_(module.weight, std=deviation, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


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
