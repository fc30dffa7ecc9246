"""Fully connected layers, the network of the MNIST experiment (§4.1)."""

import math
from itertools import pairwise

from torch import nn

from bnrepro import config as c
from bnrepro.nn.blocks import ACTIVATIONS
from bnrepro.nn.norms import has_bias, normalization


class Mlp(nn.Sequential):
    """Fully connected layers, each followed by its nonlinearity (§4.1).

    x (N, C, H, W) -> logits (N, classes). One hidden layer is, in this order,

        linear -> [norm, if pre] -> nonlinearity -> [norm, if post] -> [dropout]
    """

    def __init__(
        self, model: c.Mlp, norm: c.Norm, image_shape: tuple[int, ...], classes: int
    ) -> None:
        super().__init__()
        self.add_module("flatten", nn.Flatten())
        bias, widths = has_bias(norm), [math.prod(image_shape), *model.hidden]
        for depth, (fan_in, width) in enumerate(pairwise(widths), start=1):
            self.add_module(f"linear{depth}", nn.Linear(fan_in, width, bias=bias))
            if norm.placement is c.Placement.pre:
                self.add_module(f"norm{depth}", normalization(norm, width))
            self.add_module(f"{model.activation.value}{depth}", ACTIVATIONS[model.activation]())
            if norm.placement is c.Placement.post:
                self.add_module(f"norm{depth}", normalization(norm, width))
            if model.dropout > 0:
                self.add_module(f"dropout{depth}", nn.Dropout(model.dropout))
        self.add_module("output", nn.Linear(model.hidden[-1], classes))
