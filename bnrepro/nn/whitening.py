"""Full whitening of a layer over the batch, as §2 considers and finds too expensive.

The gradient flows through the covariance and its inverse square root, which §2 asks for.
"""

from typing import Any

import torch
from torch import Tensor, nn

from bnrepro import config as c
from bnrepro.nn.batchnorm import _BatchNorm


class _InverseRoot(torch.autograd.Function):
    """A -> (A + εI)^(-½), for a symmetric A (C, C).

    With A + εI = V·diag(λ)·Vᵀ, s = √λ and the symmetric part G of the gradient that comes in,

        ∂ℓ/∂A = V·(K ∘ (Vᵀ·G·V))·Vᵀ
        K_ij = (1/s_i - 1/s_j)/(λ_i - λ_j) = -1/(s_i·s_j·(s_i + s_j))

    which is finite also where eigenvalues are equal, as the derivatives of eigenvectors are not.
    What is not finite comes to NaN, since LAPACK refuses it.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, eps: float) -> Tensor:
        finite = torch.isfinite(a).all()
        values, vectors = torch.linalg.eigh(a.where(finite, 0.0))
        roots = (values.clamp(min=0) + eps).sqrt()  # rounding makes of 0 less than that
        ctx.save_for_backward(roots, vectors)
        root: Tensor = (vectors / roots) @ vectors.mT
        return root.where(finite, torch.nan)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        if torch.is_grad_enabled():  # `once_differentiable` would leave this path out in silence
            raise RuntimeError("whitening can be differentiated once only")
        s, v = ctx.saved_tensors
        symmetric = (gradient + gradient.mT) / 2
        k = -1 / (s[:, None] * s * (s[:, None] + s))
        return v @ (k * (v.mT @ symmetric @ v)) @ v.mT, None


def inverse_root(a: Tensor, eps: float) -> Tensor:
    """(A + εI)^(-½) of a symmetric A without negative eigenvalues, (C, C); differentiable once."""
    root: Tensor = _InverseRoot.apply(a, eps)
    return root


class Whitening(_BatchNorm):
    """y = γ·(Cov[x] + εI)^(-½)·(x - E[x]) + β, for x of shape (N, C) or (N, C, H, W) (§2).

    In training E[x] and Cov[x], (C,) and (C, C), are those of the m values that each feature, or
    map, takes in a batch, divided by m; what comes out has a covariance of the identity, but for ε
    and where m - 1 < C, for then some directions have no variance. ε shrinks them towards 0, and
    Cov[x] towards the identity. γ and β are a number of each feature, as in batch normalization.

    In evaluation they are moving averages, `running_mean` and `running_var`, which here is (C, C),
    of the covariance divided by m - 1. `batch_statistics` and `population_statistics` hold for it.
    """

    def __init__(self, channels: int, eps: float, momentum: float | None) -> None:
        super().__init__(channels, eps, momentum)
        self.running_var = torch.eye(channels)

    def forward(self, input: Tensor) -> Tensor:
        """Whitened `input`; a ValueError for a single value of a feature in training."""
        rows = input.movedim(1, -1)
        x = rows.flatten(0, -2)  # (m, C)
        assert self.running_mean is not None
        assert self.running_var is not None
        mean, covariance = self.running_mean, self.running_var
        if self.training:
            m = len(x)
            if m == 1:
                raise ValueError(f"expected more than 1 value a feature (got {tuple(input.shape)})")
            mean = x.mean(0)
            centred = x - mean
            covariance = centred.mT @ centred / m
            self._follow(mean, covariance * (m / (m - 1)))
        else:
            centred = x - mean
        y = centred @ inverse_root(covariance, self.eps) * self.weight + self.bias
        return y.view(rows.shape).movedim(-1, 1)


def make(norm: c.WhiteningNorm, channels: int, dimensions: int) -> nn.Module:
    """The layer of a configuration."""
    return Whitening(channels, norm.eps, norm.momentum)
