"""Singular values of the layer Jacobians that §3.3 conjectures are near 1.

The paper looks at two consecutive layers and the map ẑ = F(x̂) between their normalized inputs. In a
fully connected network, with x̂ normalized before the nonlinearity g and the batch's μ and σ held
fixed, F takes x̂ to y = γ·x̂ + β, g(y), W·g(y) and its normalized value, so that

    J = diag(1/√(σ² + ε)) · W · diag(g′(y)) · diag(γ)

Without normalization F goes from one layer's input of g to the next one's: J = W · diag(g′(x)).
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bnrepro.nn.batchnorm import BatchNorm1d
from bnrepro.nn.build import nonlinearities
from bnrepro.nn.inference import batch_statistics
from bnrepro.nn.mlp import Mlp
from bnrepro.nn.stop_gradient import StopGradientNorm

IMAGES = 16
"""Jacobians are computed for the first 16 images; batch statistics use all of them."""


def singular_values(model: nn.Module, images: Tensor) -> dict[str, np.ndarray]:
    """Singular values, as `LAYER/jacobian`, of the Jacobians between consecutive hidden layers.

    Args:
        model: a multi-layer perceptron whose normalization, if any, is before the nonlinearity.
        images: (N, C, H, W), which pass through the network as in training but without dropout.

    Returns:
        By the linear layer at whose output, normalized or not, a Jacobian ends: (n, k) float32 in
        descending order, for n = min(N, 16) images and k = min(U_in, U_out). A row is NaN where the
        Jacobian is not finite.
    """
    values_of = {}
    for name, jacobians in layer_jacobians(model, images).items():
        finite = torch.isfinite(jacobians).all(dim=(1, 2))  # LAPACK refuses what is not
        values = torch.linalg.svdvals(jacobians.where(finite.view(-1, 1, 1), 0.0))
        values = values.where(finite.view(-1, 1), torch.nan)
        values_of[f"{name}/jacobian"] = values.float().cpu().numpy()
    return values_of


@torch.no_grad()
def layer_jacobians(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """The Jacobians themselves: float64 (n, U_out, U_in), by names as in `singular_values`."""
    assert isinstance(model, Mlp)
    kinds = tuple({type(module) for _, module in nonlinearities(model)})
    jacobians: dict[str, Tensor] = {}
    name, jacobian = "", None  # of the layer that is being passed
    slope: Tensor | None = None  # (n, U): of the last nonlinearity's output to its normalized input
    gain: Tensor | float = 1.0  # γ, (U,)
    h = images
    with batch_statistics(model):
        for child, layer in model.named_children():
            x, h = h, layer(h)
            if isinstance(layer, nn.Linear):
                name, gain = child, 1.0
                jacobian = None if slope is None else layer.weight.double() * slope.unsqueeze(1)
            elif isinstance(layer, BatchNorm1d | nn.BatchNorm1d | StopGradientNorm):
                gain = 1.0 if layer.weight is None else layer.weight.double()
                if jacobian is not None and getattr(layer, "scaling", True):
                    var = x.double().var(0, correction=0)
                    jacobian = jacobian * torch.rsqrt(var + layer.eps).unsqueeze(1)
            elif isinstance(layer, kinds):
                if jacobian is not None:
                    jacobians[name] = jacobian
                slope = gain * _derivative(layer, x[:IMAGES])
    return jacobians


@torch.no_grad()
def correlations(model: nn.Module, images: Tensor) -> dict[str, np.ndarray]:
    """How correlated a layer's units are, as `LAYER/correlation`: the derivation has them at 0.

    Args:
        model: as in `singular_values`.
        images: (N, C, H, W), which pass through the network in the same way.

    Returns:
        By the linear layer, () float32: the root mean square, over all pairs of its units, of the
        correlation of their outputs over the images. A unit that is constant has none with any.
        NaN where an output is not finite.
    """
    assert isinstance(model, Mlp)
    found, h = {}, images
    with batch_statistics(model):
        for child, layer in model.named_children():
            h = layer(h)
            if isinstance(layer, nn.Linear) and child != "output":
                x = h.double()
                x = x - x.mean(0)
                x = x / x.norm(dim=0).clamp(min=torch.finfo(x.dtype).tiny)
                units = x.shape[1]
                pairs = (x.T @ x).fill_diagonal_(0.0).square().sum() / max(1, units * (units - 1))
                found[f"{child}/correlation"] = np.array(pairs.sqrt().item(), np.float32)
    return found


def _derivative(g: Any, x: Tensor) -> Tensor:
    """g′(x) of a nonlinearity that acts on each value alone, in float64."""
    with torch.enable_grad():
        x = x.double().detach().requires_grad_()
        (slope,) = torch.autograd.grad(g(x).sum(), x)
    return slope
