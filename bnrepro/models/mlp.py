"""Fully connected layers, the network of the MNIST experiment (§4.1)."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from bnrepro import config as c
from bnrepro.models.layers import ACTIVATIONS, has_bias, normalization, placement


class Mlp(nn.Sequential):
    """Fully connected layers, each followed by its nonlinearity (§4.1).

    x (N, C, H, W) -> logits (N, classes). One hidden layer is, in this order,

        linear -> [norm, if pre] -> nonlinearity -> [norm, if post] -> [dropout]
    """

    def __init__(self, inputs: int, classes: int, model: c.Mlp, norm: c.Norm) -> None:
        super().__init__()
        self.add_module("flatten", nn.Flatten())
        place, bias = placement(norm), has_bias(norm)
        for depth, (fan_in, width) in enumerate(pairwise([inputs, *model.hidden]), start=1):
            self.add_module(f"linear{depth}", nn.Linear(fan_in, width, bias=bias))
            if place is c.Placement.pre:
                self.add_module(f"norm{depth}", normalization(norm, width))
            self.add_module(f"{model.activation.value}{depth}", ACTIVATIONS[model.activation]())
            if place is c.Placement.post:
                self.add_module(f"norm{depth}", normalization(norm, width))
            if model.dropout > 0:
                self.add_module(f"dropout{depth}", nn.Dropout(model.dropout))
        self.add_module("output", nn.Linear(model.hidden[-1], classes))
