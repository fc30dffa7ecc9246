"""How smooth the loss is along the gradient (Santurkar et al. 2018, arXiv 1805.11604, 3.1).

They measure how loss and gradient vary at absolute step sizes. With batch normalization that says
nothing: weights of twice the length have half the gradient and the same loss, so any smoothness can
be had. Here every weight matrix W moves by the same share of its own length ‖W‖, against its
gradient, and gradients and curvature are those by such shares: of ‖W‖·∂L/∂W.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from bnrepro.nn.build import weighted
from bnrepro.nn.inference import batch_statistics

STEPS = (0.003, 0.01, 0.03, 0.1, 0.3)
"""Lengths of the steps, as shares of ‖W‖."""

ITERATIONS = 20
"""Of the power method, which comes to the curvature that is largest in size."""


def landscape(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, np.ndarray]:
    """Loss, gradient and curvature along the gradient, on these images.

    It takes a pass forward and back for each of `STEPS`, and one more through the derivatives for
    each of `ITERATIONS`: some 150 ms of Fig. 1's network and 500 images. Normalization is by the
    statistics of the images, as in training; there is no dropout.

    Args:
        model: the network.
        images: (N, C, H, W).
        labels: int64 (N,).

    Returns:
        Of `landscape/`, float32: `gradient_change` (S,), ‖G(s) - G‖/‖G‖ at each step s;
        `loss_change` (S,), L(s) - L; `curvature` (), the second derivative along the direction of
        unit length in which it is largest in size.
    """
    names = [f"{name}.weight" for name, _ in weighted(model)]
    weights = [weight.detach() for _, weight in weighted(model)]

    def loss(weights: Sequence[Tensor]) -> Tensor:
        own = dict(zip(names, weights, strict=True))
        return cross_entropy(functional_call(model, own, (images,)), labels)

    with batch_statistics(model), torch.enable_grad():
        changes, losses = along_gradient(loss, weights)
        largest = curvature(loss, weights)
    return {
        "landscape/gradient_change": np.array(changes, np.float32),
        "landscape/loss_change": np.array(losses, np.float32),
        "landscape/curvature": np.array(largest, np.float32),
    }


Loss = Callable[[Sequence[Tensor]], Tensor]


def _gradients(loss: Loss, weights: Sequence[Tensor]) -> tuple[float, list[Tensor]]:
    leaves = [weight.detach().requires_grad_() for weight in weights]
    value = loss(leaves)
    return value.item(), list(torch.autograd.grad(value, leaves))


def along_gradient(
    loss: Loss, weights: Sequence[Tensor], steps: Sequence[float] = STEPS
) -> tuple[list[float], list[float]]:
    """How much the gradient changes at each step, relatively, and the loss.

    Args:
        loss: a function of the weights.
        weights: of each layer.
        steps: lengths of the steps, as shares of the weights' own.
    """
    lengths = [weight.norm() for weight in weights]
    value, gradients = _gradients(loss, weights)
    tiny = torch.finfo(weights[0].dtype).tiny
    directions = [length * g / g.norm().clamp(min=tiny)
                  for length, g in zip(lengths, gradients, strict=True)]  # fmt: skip
    here = _flat(lengths, gradients)
    changes, losses = [], []
    for step in steps:
        moved = [w - step * d for w, d in zip(weights, directions, strict=True)]
        there, after = _gradients(loss, moved)
        changes.append(((_flat(lengths, after) - here).norm() / here.norm()).item())
        losses.append(there - value)
    return changes, losses


def _flat(lengths: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """The gradients by shares of the weights' lengths, as one vector in float64."""
    return torch.cat([(n * g).double().flatten() for n, g in zip(lengths, gradients, strict=True)])


def curvature(loss: Loss, weights: Sequence[Tensor], iterations: int = ITERATIONS) -> float:
    """The eigenvalue largest in size of ∂²L by shares of the weights' lengths: ‖w‖²·λ of one w.

    Args:
        loss: a twice differentiable function of the weights.
        weights: of each layer.
        iterations: of the power method, from directions that are the same every time.
    """
    lengths = [weight.norm() for weight in weights]
    leaves = [weight.detach().requires_grad_() for weight in weights]
    gradients = torch.autograd.grad(loss(leaves), leaves, create_graph=True)
    generator = torch.Generator().manual_seed(0)
    vectors = [torch.randn(w.shape, generator=generator, dtype=w.dtype).to(w) for w in weights]
    value = 0.0
    for _ in range(iterations):
        size = torch.stack([v.norm() for v in vectors]).norm()
        vectors = [v / size for v in vectors]
        along = [n * v for n, v in zip(lengths, vectors, strict=True)]
        product = torch.autograd.grad(gradients, leaves, along, retain_graph=True)
        found = [n * p for n, p in zip(lengths, product, strict=True)]
        value = sum(((v * f).sum().item() for v, f in zip(vectors, found, strict=True)), 0.0)
        vectors = found
    return value
