"""Normalization that the gradient does not flow through: what §2 warns against.

`StopGradientNorm` computes what batch normalization computes, but mean and deviation are
constants to the derivative, as where a network is normalized between its gradient steps. A bias
before it grows without end while output and loss stay what they are: the gradient does not know
that the mean takes it away again.
"""

import torch
from torch import Tensor

from bnrepro.nn.batchnorm import _BatchNorm


class StopGradientNorm(_BatchNorm):
    """x̂ = x - μ, or with `scaling` (x - μ)/√(σ² + ε), for x of shape (N, C); ∂x̂/∂μ = ∂x̂/∂σ² = 0.

    In training μ and σ² are the batch's mean and biased variance, taken as constants: ∂x̂/∂x is 1,
    or 1/√(σ² + ε). In evaluation they are moving averages. There are no γ and β.

    Buffers, their names and `momentum` are those of `BatchNorm1d`, so that `batch_statistics` and
    `population_statistics` hold for this layer, too. `SyncBatchNorm.convert_sync_batchnorm` would
    make batch normalization of it, which it is not.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        scaling: bool = False,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine=False)
        self.scaling = scaling

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() != 2:
            raise ValueError(f"expected 2D input (got {input.dim()}D input)")

    def forward(self, input: Tensor) -> Tensor:
        """Normalized `input` (N, C); a ValueError for a single example in training."""
        self._check_input_dim(input)
        mean, var = self._statistics(input.detach())
        centred = input - mean
        y = centred * torch.rsqrt(var + self.eps) if self.scaling else centred
        return y.to(input.dtype)

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance to normalize by, both (C,); in training the averages follow them."""
        assert self.running_mean is not None
        assert self.running_var is not None
        if not self.training or len(x) == 0:  # an empty batch has no statistics
            return self.running_mean, self.running_var
        m = len(x)
        if m == 1:
            raise ValueError(f"expected more than 1 example when training (got {tuple(x.shape)})")
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        mean, var = x.mean(0), x.var(0, correction=0)
        self._follow(mean, var * (m / (m - 1)))
        return mean, var
