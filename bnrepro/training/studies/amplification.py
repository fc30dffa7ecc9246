"""§1, §3.3: how far a small change of the first layer's weights changes the layers after it."""

import copy
import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bnrepro import config as c
from bnrepro.data import Dataset
from bnrepro.nn.build import build, nonlinearities, weighted
from bnrepro.nn.inference import batch_statistics

CHANGE = 1e-3
"""The norm of the change, as a share of the norm of the weights."""

DIRECTIONS = 5
"""Changes that are made one after the other, each in a random direction."""

IMAGES = 500
"""The number of training images, the first, that pass through the network as one batch."""


def amplification(model: nn.Module, dataset: Dataset, config: c.Config) -> dict[str, Any]:
    """Relative changes of every layer, of the network at its `start` and at its `end`.

    Batch normalization takes the statistics of the batch, as in training; there is no dropout. Of
    every nonlinearity, from the first to the last: `into` ‖δx‖/‖x‖ of its inputs x over all images
    and units; `spread` the same with the images' mean taken away from x, so in units of how far x
    differs between images; `out` ‖δg(x)‖/‖g(x)‖. `gradient` is that of all weights' gradients
    together. Each is the root mean square over directions.
    """
    with torch.random.fork_rng(devices=()):  # torch's own initial weights, which are replaced
        start = build(config, dataset.image_shape, len(dataset.classes)).eval()
    weight = next(model.parameters())
    networks = {"start": start.to(weight.device, weight.dtype), "end": copy.deepcopy(model)}
    images = dataset.train.images[:IMAGES].to(weight.dtype)
    labels = dataset.train.labels[:IMAGES]
    generator = torch.Generator().manual_seed(config.seed)
    _, first = next(weighted(model))
    directions = torch.randn(
        DIRECTIONS, *first.shape, generator=generator, dtype=torch.float64
    ).to(first)  # fmt: skip
    return {
        "change": CHANGE,
        "directions": DIRECTIONS,
        "images": len(images),
        **{
            when: _changes(network, images, labels, directions)
            for when, network in networks.items()
        },
    }


def _changes(
    model: nn.Module, images: Tensor, labels: Tensor, directions: Tensor
) -> dict[str, Any]:
    """Root mean square changes under changes of the first weights in some directions (D, …)."""
    _, weight = next(weighted(model))
    original = weight.detach().clone()
    layers, gradient = _passed(model, images, labels)
    changes = []
    for direction in directions:
        weight.data = original + direction * (CHANGE * original.norm() / direction.norm())
        changed, changed_gradient = _passed(model, images, labels)
        of_layers = [
            (_ratio(into - x, x), _ratio(into - x, x - x.mean(0)), _ratio(out - y, y))
            for (x, y), (into, out) in zip(layers, changed, strict=True)
        ]
        changes.append((of_layers, _ratio(changed_gradient - gradient, gradient)))
    weight.data = original
    by_layer = torch.tensor([of_layers for of_layers, _ in changes], dtype=torch.float64)  # (D,L,3)
    of_gradient = torch.tensor([of for _, of in changes], dtype=torch.float64)  # (D,)
    rows = by_layer.square().mean(0).sqrt().T.tolist()
    return {
        **dict(zip(("into", "spread", "out"), rows, strict=True)),
        "gradient": of_gradient.square().mean().sqrt().item(),
    }


def _ratio(change: Tensor, of: Tensor) -> float:
    """‖change‖ ÷ ‖of‖; 0 if nothing changes, however small the rest is."""
    return float(change.norm()) / max(float(of.norm()), sys.float_info.min)


def _passed(
    model: nn.Module, images: Tensor, labels: Tensor
) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """Inputs and outputs (N, …) of every nonlinearity; the gradient of the loss by all weights."""
    caught: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def catch(module: nn.Module, arguments: tuple[Tensor], output: Tensor) -> None:
        caught[module] = arguments[0].detach(), output.detach()

    every = [module for _, module in nonlinearities(model)]
    hooks = [module.register_forward_hook(catch) for module in every]
    try:
        with batch_statistics(model), torch.enable_grad():
            loss = cross_entropy(model(images), labels)
            weights = [weight for _, weight in weighted(model)]
            gradients = torch.autograd.grad(loss, weights)
    finally:
        for hook in hooks:
            hook.remove()
    return [caught[module] for module in every], torch.cat([g.flatten() for g in gradients])
