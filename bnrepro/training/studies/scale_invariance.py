"""§3.3: BN(Wu) = BN((aW)u), what follows for gradients, and for the weights' norm under SGD.

The loss does not depend on the length of W, so its gradient stands at a right angle to W
(van Laarhoven 2017, arXiv 1706.05350; Arora et al. 2018, arXiv 1812.03981), and a step of plain SGD
makes ‖W‖² grow by lr²·‖∂L/∂W‖². All of it is exact for ε = 0 and a > 0; a < 0 turns the sign.
"""

import copy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from bnrepro import config as c
from bnrepro.data import Dataset, Split, unseen_batches
from bnrepro.nn.batchnorm import BatchNorm1d
from bnrepro.nn.build import weighted
from bnrepro.nn.inference import batch_statistics

TINY = sys.float_info.min
"""In the place of ε = 0, which batch normalization in training refuses: added to the variance of
any unit that varies it is lost in the rounding of float64."""

SCALES = (1e-3, 1e-2, 0.1, 0.5, 2.0, 10.0, 100.0, 1e3, -1.0, -2.0)
"""The values of a."""

STEPS = 200

QUANTITIES = ("output", "input_gradient", "weight_gradient")

NORMS = (BatchNorm1d, nn.BatchNorm1d)


def scale_invariance(model: nn.Module, dataset: Dataset, config: c.Config) -> dict[str, Any]:
    """The identities at every hidden layer, and the growth of its weights over further steps.

    Both once with next to no ε (`tiny`) and once with the run's (`own`), on training batches of
    an order that no epoch had. A network without normalization has only `growth`, as `none`: there
    the gradient does not stand at a right angle.
    """
    split, lr, size = dataset.train, config.optimizer.lr, config.train.batch_size
    batches = unseen_batches(config.seed, len(split), size, STEPS)
    eps = {"tiny": TINY, "own": config.norm.eps} if isinstance(config.norm, c.BatchNorm) else {}
    identities, growth = {}, {}
    for which in eps or ("none",):
        network = copy.deepcopy(model)
        for layer in network.modules():
            if isinstance(layer, NORMS):
                layer.eps = eps[which]
        if eps:
            identities[which] = _identities(network, split, batches[0])
        growth[which] = _growth(network, split, batches, lr)
    return {
        "batch_size": size,
        "lr": lr,
        "steps": STEPS,
        "eps": eps,
        "a": list(SCALES),
        "identities": identities,
        "growth": growth,
    }


@dataclass(frozen=True)
class Layer:
    """A linear layer, the norm behind it, what reaches them, and what comes back."""

    name: str
    linear: nn.Linear
    norm: nn.Module
    u: Tensor  # (m, U_in)
    upstream: Tensor  # ∂L/∂y (m, U_out)


def _layers(model: nn.Module, images: Tensor, labels: Tensor) -> list[Layer]:
    """The hidden layers of a network as one batch passes through it and back."""
    layers, outputs, h = [], [], images
    for name, layer in model.named_children():
        if isinstance(layer, nn.Linear):
            behind = name, layer, h.detach()
        h = layer(h)
        if isinstance(layer, NORMS):
            layers.append((*behind, layer))
            outputs.append(h)
    gradients = torch.autograd.grad(cross_entropy(h, labels), outputs)
    return [
        Layer(name, linear, norm, u, upstream)
        for (name, linear, u, norm), upstream in zip(layers, gradients, strict=True)
    ]


def _identities(model: nn.Module, split: Split, rows: Tensor) -> dict[str, Any]:
    """By layer and quantity, for each a, the distance from what it is for a = 1, relative to that.

    Under `flipped`, the distance from minus that.
    """
    result = {}
    with batch_statistics(model):
        for layer in _layers(model, split.images[rows].double(), split.labels[rows]):
            reference = _scaled(layer, 1.0)
            scaled = [_scaled(layer, a) for a in SCALES]
            same, flipped = (
                {
                    what: [_distance(each[i], sign * reference[i]) for each in scaled]
                    for i, what in enumerate(QUANTITIES)
                }
                for sign in (1, -1)
            )
            result[layer.name] = {**same, "flipped": flipped}
    return result


def _scaled(layer: Layer, a: float) -> tuple[Tensor, Tensor, Tensor]:
    """BN((aW)u) - β, and for the same ∂L/∂y the gradient to u, and a times that to aW."""
    u = layer.u.clone().requires_grad_()
    weight = (a * layer.linear.weight).detach().requires_grad_()
    y = layer.norm(linear(u, weight, layer.linear.bias))
    to_u, to_weight = torch.autograd.grad(y, (u, weight), layer.upstream)
    beta = 0.0 if layer.norm.bias is None else layer.norm.bias
    return (y - beta).detach(), to_u, a * to_weight


def _distance(value: Tensor, reference: Tensor) -> float:
    return float((value - reference).norm() / reference.norm())


def _growth(
    model: nn.Module, split: Split, batches: Sequence[Tensor], lr: float
) -> dict[str, dict[str, float]]:
    """By layer, ‖W‖² after steps of plain SGD and as lr²·‖∂L/∂W‖² predicts it.

    `model` is trained. Without dropout: the same network in every step.
    """
    parameters = dict(model.named_parameters())
    hidden = [name for name, _ in weighted(model)][:-1]  # the last is the output's
    weights = {name: parameters[f"{name}.weight"] for name in hidden}
    before = {name: _square(weight) for name, weight in weights.items()}
    added: dict[str, list[float]] = {name: [] for name in hidden}
    cosines: dict[str, list[float]] = {name: [] for name in hidden}
    with batch_statistics(model):
        for rows in batches:
            loss = cross_entropy(model(split.images[rows].double()), split.labels[rows])
            found = torch.autograd.grad(loss, list(parameters.values()))
            gradients = dict(zip(parameters, found, strict=True))
            for name, weight in weights.items():
                gradient = gradients[f"{name}.weight"]
                added[name].append(lr**2 * _square(gradient))
                cosines[name].append(_cosine(weight, gradient))
            with torch.no_grad():
                for name, parameter in parameters.items():
                    parameter.sub_(gradients[name], alpha=lr)
    result = {}
    for name, weight in weights.items():
        after, total = _square(weight), sum(added[name])
        result[name] = {
            "before": before[name],
            "after": after,
            "predicted": before[name] + total,
            "relative_deviation": abs(after - before[name] - total) / (before[name] + total),
            "growth_deviation": abs(after - before[name] - total) / total if total else 0.0,
            "max_cosine": torch.tensor(cosines[name], dtype=torch.float64).abs().max().item(),
        }
    return result


@torch.no_grad()
def _square(tensor: Tensor) -> float:
    return tensor.square().sum().item()


@torch.no_grad()
def _cosine(a: Tensor, b: Tensor) -> float:
    """Of the angle between two tensors; 0 where one is 0."""
    lengths = a.norm() * b.norm()
    return ((a * b).sum() / lengths).item() if lengths != 0 else 0.0
