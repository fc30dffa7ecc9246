"""What becomes of gradients and of what layers put out, layer by layer, in a deep network.

Yang et al. 2019 (arXiv 1902.08129): with batch normalization and ReLU, at random weights, squared
gradients grow by π/(π - 1) = 1.467 a layer towards the input. Daneshmand et al. 2020 (2003.01652):
without it what deep layers put out loses its rank.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bnrepro import config as c
from bnrepro.data import Dataset
from bnrepro.nn.build import build, nonlinearities, weighted
from bnrepro.nn.inference import batch_statistics

IMAGES = 1000
"""The number of training images, the first, that pass through as one batch: the theory is of
large ones."""


def depth(model: nn.Module, dataset: Dataset, config: c.Config) -> dict[str, Any]:
    """Squared gradients and ranks of the network at its `start` and at its `end`.

    Returns:
        `images`; of either network, from the input to the output: `gradient`, the squared norm of
        the gradient by each layer's weights, and `rank`, (tr M)² ÷ tr M² of M = HᵀH ÷ N, for what
        each nonlinearity puts out, H (N, U): at most its rank, and equal to it where all of M's
        eigenvalues but 0 are the same. Normalization is by the statistics of the batch, as in
        training; there is no dropout.
    """
    with torch.random.fork_rng(devices=()):  # torch's own initial weights, which are replaced
        start = build(config, dataset.image_shape, len(dataset.classes)).eval()
    weight = next(model.parameters())
    images, labels = dataset.train.images[:IMAGES], dataset.train.labels[:IMAGES]
    networks = {"start": start.to(weight.device, weight.dtype), "end": model}
    return {
        "images": len(images),
        **{when: _layers(of, images.to(weight.dtype), labels) for when, of in networks.items()},
    }


def _layers(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, list[float]]:
    ranks: list[float] = []

    def see(module: nn.Module, arguments: tuple[Tensor], output: Tensor) -> None:
        ranks.append(rank(output.detach().flatten(1)))

    hooks = [module.register_forward_hook(see) for _, module in nonlinearities(model)]
    try:
        with batch_statistics(model), torch.enable_grad():
            loss = cross_entropy(model(images), labels)
            gradients = torch.autograd.grad(loss, [weight for _, weight in weighted(model)])
    finally:
        for hook in hooks:
            hook.remove()
    return {"gradient": [g.square().sum().item() for g in gradients], "rank": ranks}


def rank(h: Tensor) -> float:
    """(tr M)² ÷ tr M², for M = hᵀh of h (N, U), whose smaller Gram matrix is taken; 0 of zeros."""
    gram = h @ h.T if len(h) < h.shape[1] else h.T @ h
    squares = gram.square().sum().item()
    return gram.trace().item() ** 2 / squares if squares else 0.0
