"""Internal covariate shift as Santurkar et al. 2018 (arXiv 1805.11604, def. 2.1) measure it.

How much the gradient of a layer changes by a step of the layers before it alone. A plain step of
gradient descent on the probed images is taken, at the run's learning rate, in a copy: so the
measurement needs nothing of the run's optimizer and leaves nothing in the network.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from bnrepro.nn.build import weighted
from bnrepro.nn.inference import batch_statistics

Parameters = dict[str, Tensor]

LOSS = "network/loss"
"""The name of the mean loss of the probed images, normalized by their own statistics."""


def gradient_shifts(
    model: nn.Module, images: Tensor, labels: Tensor, lr: float
) -> dict[str, np.ndarray]:
    """The shift at every layer with weights but the first, whose gradient nothing shifts.

    It takes a pass forward and back for every layer. Normalization is by the statistics of the
    images, as in training; there is no dropout.

    Args:
        model: one whose layers stand in a row.
        images: (N, C, H, W).
        labels: int64 (N,).
        lr: the learning rate of the step.

    Returns:
        By layer, float32 (), of the gradients G and G′ of its weights: `gradient_shift`,
        ‖G - G′‖/‖G‖; `gradient_cosine`, that of the angle between them; `gradient_distance`,
        ‖G - G′‖. And `LOSS`.
    """
    names = [name for name, _ in weighted(model)]
    layers: list[list[str]] = []
    for name, _ in model.named_parameters():
        if name.rpartition(".")[0] == next(iter(names[len(layers) :]), None):
            layers.append([])
        layers[-1].append(name)  # what stands behind a layer's weights is the layer's

    def loss(parameters: Parameters) -> Tensor:
        return cross_entropy(functional_call(model, parameters, (images,)), labels)

    with batch_statistics(model), torch.enable_grad():
        own = {name: p.detach() for name, p in model.named_parameters()}
        value, shifts = shifts_of(loss, own, layers, lr)
    found = {LOSS: np.array(value, np.float32)}
    for name, shift in zip(names[1:], shifts, strict=True):
        for what, number in zip(("shift", "cosine", "distance"), shift, strict=True):
            found[f"{name}/gradient_{what}"] = np.array(number, np.float32)
    return found


def shifts_of(
    loss: Callable[[Parameters], Tensor],
    parameters: Mapping[str, Tensor],
    layers: Sequence[Sequence[str]],
    lr: float,
) -> tuple[float, list[tuple[float, float, float]]]:
    """The loss; shift, cosine and distance at every layer but the first, by its first parameter.

    Args:
        loss: a function of the parameters.
        parameters: by name.
        layers: the names of each layer's parameters, from the input on.
        lr: the learning rate of the step.
    """
    leaves = {name: p.detach().requires_grad_() for name, p in parameters.items()}
    value = loss(leaves)
    gradients = dict(zip(leaves, torch.autograd.grad(value, list(leaves.values())), strict=True))
    shifts, mixed = [], dict(leaves)
    for before, layer in pairwise(layers):
        for name in before:
            mixed[name] = (leaves[name] - lr * gradients[name]).detach()
        (shifted,) = torch.autograd.grad(loss(mixed), mixed[layer[0]])
        old, new = gradients[layer[0]].double(), shifted.double()
        distance, cosine = (new - old).norm(), (old * new).sum() / (old.norm() * new.norm())
        shifts.append(((distance / old.norm()).item(), cosine.item(), distance.item()))
    return value.item(), shifts
