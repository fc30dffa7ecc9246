"""Batch normalization (Ioffe & Szegedy 2015, arXiv 1502.03167v3), written out from the paper.

`batch_norm` normalises a tensor, with the derivatives of §3 worked out by hand. `BatchNorm1d` and
`BatchNorm2d` are the layers on top of it and can replace torch's: same arguments, checks, buffers
and state dict. Nothing here calls torch's own batch-norm kernels.

Three functions serve networks that contain such layers, ours or torch's:

- `population_statistics`: Algorithm 2, statistics from several training mini-batches;
- `batch_statistics`: a frozen network that still normalises each batch by its own statistics;
- `fold`: the layer at inference, merged into the linear or convolutional layer before it.

`stacked_batch_norm` normalises in several networks at once, each by itself.

In shape comments M is networks, N examples, C features or feature maps, ... nothing, a length L, or
H, W.
A statistic of a feature is over all m values it takes in a batch: m = N, or N·L, or N·H·W, which is
the m′ = m·p·q of §3.2.
"""

import copy
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "batch_norm",
    "batch_statistics",
    "fold",
    "population_statistics",
    "stacked_batch_norm",
]


def _reduction(x: Tensor, stacked: bool = False) -> tuple[list[int], int]:
    """The dimensions a statistic is taken over, all but the features', and the count m."""
    if stacked:
        return [1], x.shape[1]
    # An empty batch divides its empty sums by one, so that its gradients are 0 and not NaN.
    return [0, *range(2, x.dim())], max(math.prod((x.shape[0], *x.shape[2:])), 1)


def _per_feature(v: Tensor, x: Tensor) -> Tensor:
    """`v`, of shape (C,), in the shape that broadcasts against `x`, of shape (N, C, ...)."""
    return v if _broadcasts(v, x) else v.view(-1, *[1] * (x.dim() - 2))


def _broadcasts(v: Tensor, x: Tensor) -> bool:
    """Whether numbers of each feature, (C,) or stacked (M, 1, C), fit `x` as they are."""
    return x.dim() == 2 or v.dim() == x.dim()


def _affine(x: Tensor, scale: Tensor, shift: Tensor | None, out: Tensor | None) -> Tensor:
    """x·scale + shift, a number of each for every feature, (C,) or stacked (M, 1, C)."""
    if shift is None:
        return torch.mul(x, _per_feature(scale, x), out=out)
    if _broadcasts(scale, x):
        return torch.addcmul(shift, x, scale, out=out)
    # Where a feature's values lie side by side torch vectorises these two, but not addcmul.
    return torch.mul(x, _per_feature(scale, x), out=out).add_(_per_feature(shift, x))


@cache
def _number(value: float, dtype: torch.dtype) -> Tensor:
    """A number as a tensor: as a number of Python's it costs a small operation twice the time."""
    return torch.tensor(value, dtype=dtype)


class _Normalise(torch.autograd.Function):
    """Algorithm 1 and its derivatives (§3).

    With c = x - μ and s = 1/√(σ² + ε):

        μ = Σx/m    σ² = Σc²/m    y = γ·s·c + β

        ∂ℓ/∂β = Σ ∂ℓ/∂y
        ∂ℓ/∂γ = s·Σ ∂ℓ/∂y·c
        ∂ℓ/∂x = γ·s·(∂ℓ/∂y - (∂ℓ/∂β)/m - c·s·(∂ℓ/∂γ)/m)

    The last line is the paper's ∂ℓ/∂x after inserting its ∂ℓ/∂σ² and ∂ℓ/∂μ, where Σc = 0 removes
    the second half of ∂ℓ/∂μ.

    c and s are outputs as well as saved for `backward`, although no caller uses them: autograd
    then knows how they depend on x, which makes `backward` itself differentiable. In a second
    derivative their own gradients arrive, and ∂ℓ/∂x gains

        ∂ℓ/∂c - Σ(∂ℓ/∂c)/m - c·s³·(∂ℓ/∂s)/m

    Where it is `stacked`, x is (M, N, C), and what is (C,) below is (M, 1, C).
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,  # (N, C, ...)
        weight: Tensor | None,  # (C,)
        bias: Tensor | None,  # (C,)
        running_mean: Tensor | None,  # (C,)
        running_var: Tensor | None,  # (C,)
        momentum: float | Tensor,
        eps: float,
        stacked: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        dims, m = _reduction(x, stacked)
        # x.mean() takes twice as long.
        mean = x.sum(dims, stacked).mul_(_number(1 / m, x.dtype))  # (C,)
        # Two passes: E[x²] - E[x]² would cancel when the mean is large beside the deviation.
        centred = x - _per_feature(mean, x)  # (N, C, ...)
        y = centred * centred
        squares = y.sum(dims, stacked)  # (C,)
        var = squares * _number(1 / m, x.dtype)  # (C,)
        inv_std = var.add_(_number(eps, x.dtype)).rsqrt_()  # (C,)
        scale = inv_std if weight is None else inv_std * weight
        # The squares are done with, and on large tensors fresh memory costs more than arithmetic.
        _affine(centred, scale, bias, y)

        if running_mean is not None and running_var is not None and m > 1:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            unbiased = squares.mul_(_number(1 / (m - 1), x.dtype))
            running_var.lerp_(unbiased.to(running_var.dtype), momentum)

        ctx.save_for_backward(centred, inv_std, weight)
        ctx.stacked = stacked
        ctx.set_materialize_grads(False)  # None, not zeros, for c and s in a first derivative
        return y, centred, inv_std

    @staticmethod
    def backward(
        ctx: Any, grad_y: Tensor | None, grad_centred: Tensor | None, grad_inv_std: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        centred, inv_std, weight = ctx.saved_tensors
        stacked = ctx.stacked
        needs_x, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        dims, m = _reduction(centred, stacked)
        if grad_y is None:
            grad_y = torch.zeros_like(centred)

        grad_bias = grad_y.sum(dims, stacked)  # (C,)
        if not (needs_x or needs_weight):
            return None, None, grad_bias, *(None,) * 5
        products = grad_y * centred  # (N, C, ...)
        grad_weight = products.sum(dims, stacked) * inv_std  # (C,)

        grad_x = None
        if needs_x:
            scale = inv_std if weight is None else inv_std * weight
            step = scale * _number(-1 / m, scale.dtype)
            offset = step * grad_bias  # (C,)
            slope = step * inv_std * grad_weight  # (C,)
            if grad_centred is not None:
                offset = offset - grad_centred.sum(dims, stacked) / m
            if grad_inv_std is not None:
                slope = slope - grad_inv_std * inv_std**3 / m
            # As in `forward`, reuse memory, unless autograd is to differentiate these lines.
            out = None if torch.is_grad_enabled() else products
            factor = _per_feature(scale, centred)
            grad_x = _affine(centred, slope, offset, out).addcmul_(grad_y, factor)
            if grad_centred is not None:
                grad_x = grad_x + grad_centred

        return (
            grad_x,
            grad_weight if needs_weight else None,
            grad_bias if needs_bias else None,
            *(None,) * 5,
        )


def _algorithm_1(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float | Tensor,
    eps: float,
) -> Tensor:
    """What `_Normalise` computes, line by line, for a compiler to make few passes over memory of.

    Uncompiled each line is a pass, and autograd adds more than the derivatives by hand need.
    """
    dims, m = _reduction(x)
    var, mean = torch.var_mean(x, dims, correction=0)  # (C,)
    scale = torch.rsqrt(var + eps)
    scale = scale if weight is None else scale * weight
    y = (x - _per_feature(mean, x)) * _per_feature(scale, x)
    if running_mean is not None and running_var is not None and m > 1:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((var * (m / (m - 1))).to(running_var.dtype), momentum)
    return y if bias is None else y + _per_feature(bias, x)


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each feature of `x`, of shape (N, C, ...): y = γ·(x - μ)/√(σ² + ε) + β.

    In training, μ and σ² are the mean and the biased variance of this batch, and the running
    statistics, where given, move towards them in place: new = (1 - momentum)·old + momentum·batch,
    the batch's variance taken as the unbiased m/(m - 1)·σ². Otherwise they are the running ones.

    `x` and the other tensors have one dtype, or `x` is float16 or bfloat16 and they are float32.
    Low precision is computed in float32; y has the dtype and the memory format of `x`.
    `momentum` may be a tensor of no dimensions, in the dtype of the running statistics.
    """
    if not x.is_floating_point():
        raise NotImplementedError(f'"batch_norm" not implemented for {x.dtype}')
    if training:
        if math.prod((x.shape[0], *x.shape[2:])) == 1:
            raise ValueError(
                f"Expected more than 1 value per channel when training, got input size {x.shape}"
            )
        if eps <= 0.0:
            raise ValueError(f"batch_norm eps must be positive during training, but got {eps}")
        if (running_mean is None) != (running_var is None):
            raise ValueError(
                "running_mean and running_var must either both be None or neither be None"
            )
    elif eps < 0.0:
        raise ValueError(f"batch_norm eps must be non-negative, but got {eps}")

    dtype = x.dtype
    compute_dtype = torch.promote_types(dtype, torch.float32)
    features = x.shape[1]
    for per_feature in (running_mean, running_var, weight, bias):
        if per_feature is not None and (
            per_feature.dtype not in (dtype, compute_dtype) or per_feature.numel() != features
        ):
            named = {"running_mean": running_mean, "running_var": running_var, "weight": weight}
            name = next((name for name, v in named.items() if v is per_feature), "bias")
            if per_feature.numel() != features:
                raise RuntimeError(
                    f"{name} should contain {features} elements not {per_feature.numel()}"
                )
            raise RuntimeError(f"mixed dtype: {name} is {per_feature.dtype}, the input {dtype}")

    if dtype != compute_dtype:
        x = x.to(compute_dtype)
        weight = None if weight is None else weight.to(compute_dtype)
        bias = None if bias is None else bias.to(compute_dtype)

    y: Tensor
    if training and torch.compiler.is_compiling():
        y = _algorithm_1(x, weight, bias, running_mean, running_var, momentum, eps)
    elif training:
        matrix = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
        rows = x.permute(0, 2, 3, 1).flatten(0, 2) if matrix else x  # (m, C): faster
        statistics = running_mean, running_var, momentum
        y, _, _ = _Normalise.apply(rows, weight, bias, *statistics, eps, False)
        if matrix:
            y = y.view(x.shape[0], *x.shape[2:], -1).permute(0, 3, 1, 2)
    elif running_mean is None or running_var is None:
        name = "running_mean" if running_mean is None else "running_var"
        raise RuntimeError(f"{name} must be defined in evaluation mode")
    else:
        # Algorithm 2, line 11: one affine map, so one pass over x.
        scale = torch.rsqrt(running_var.to(compute_dtype) + eps)  # (C,)
        if weight is not None:
            scale = scale * weight
        shift = -running_mean * scale  # (C,)
        if bias is not None:
            shift = shift + bias
        y = torch.addcmul(_per_feature(shift, x), x, _per_feature(scale, x))
    return y if dtype == compute_dtype else y.to(dtype)


def stacked_batch_norm(
    x: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor,
    bias: Tensor,
    momentum: float | Tensor,
    eps: float,
) -> Tensor:
    """`batch_norm` of M networks in training: x (M, N, C), the other tensors (M, 1, C).

    Each network's features are normalised by their own N values, 2 or more. All are of one dtype,
    float32 or float64. `momentum` may be a tensor that broadcasts against the running statistics.
    """
    statistics = running_mean, running_var, momentum
    y: Tensor
    y, _, _ = _Normalise.apply(x, weight, bias, *statistics, eps, True)
    return y


class _BatchNorm(nn.Module):
    """What `BatchNorm1d` and `BatchNorm2d` share: everything but the shape they accept."""

    # 2: the state dict has num_batches_tracked. The number and the names are torch's, so that each
    # implementation loads what the other saved.
    _version = 2

    num_features: int
    eps: float
    momentum: float | None
    affine: bool
    track_running_stats: bool
    weight: nn.Parameter | None
    bias: nn.Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats

        def per_feature() -> Tensor:
            return torch.empty(num_features, device=device, dtype=dtype)

        self.register_parameter("weight", nn.Parameter(per_feature()) if affine else None)
        self.register_parameter("bias", nn.Parameter(per_feature()) if affine and bias else None)
        tracked = track_running_stats
        self.register_buffer("running_mean", per_feature() if tracked else None)
        self.register_buffer("running_var", per_feature() if tracked else None)
        self.register_buffer(
            "num_batches_tracked",
            torch.zeros((), dtype=torch.long, device=device) if tracked else None,
        )
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        if self.track_running_stats:
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        self.reset_running_stats()
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def _check_input_dim(self, input: Tensor) -> None:
        raise NotImplementedError

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        mean, var = self.running_mean, self.running_var
        momentum: float | Tensor = 0.0 if self.momentum is None else self.momentum

        if self.training and not self.track_running_stats:
            mean = var = None  # the flag, turned off on a layer with buffers, leaves them alone
        elif self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None and mean is not None:
                # A cumulative average. Reading the count as a number would make a GPU wait.
                momentum = self.num_batches_tracked.to(mean.dtype).reciprocal()

        training = self.training or (mean is None and var is None)
        return batch_norm(input, mean, var, self.weight, self.bias, training, momentum, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, bias={self.bias is not None}, "
            f"track_running_stats={self.track_running_stats}"
        )

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        *args: Any,
    ) -> None:
        version = local_metadata.get("version")
        key = prefix + "num_batches_tracked"
        if (version is None or version < 2) and self.track_running_stats and key not in state_dict:
            own = self.num_batches_tracked
            on_meta = own is None or own.device.type == "meta"
            state_dict[key] = torch.tensor(0) if on_meta else own
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


class BatchNorm1d(_BatchNorm):
    """y = γ·(x - μ)/√(σ² + ε) + β, for x of shape (N, C) or (N, C, L); y has the shape of x.

    γ (`weight`) and β (`bias`), of shape (C,), are learned, and start at 1 and 0. In training μ
    and σ² are the batch's mean and biased variance, and gradients flow through both (Algorithm 1
    and the equations of §3). In evaluation they are `running_mean` and `running_var` (Algorithm 2,
    line 11): moving averages by default, as §3.1 allows for tracking a model while it trains, or
    after `population_statistics` those of Algorithm 2 itself.

    num_features: C. eps: ε, inside the root.
    momentum: the weight of the newest batch in the moving averages; None weighs all batches alike.
    affine, bias: False leaves out γ and β, or only β.
    track_running_stats: False keeps no averages; evaluation then uses the batch's statistics, too.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() not in (2, 3):
            raise ValueError(f"expected 2D or 3D input (got {input.dim()}D input)")


class BatchNorm2d(_BatchNorm):
    """y = γ·(x - μ)/√(σ² + ε) + β, for x of shape (N, C, H, W); y has the shape of x.

    One μ, σ², γ, β for each of the C feature maps, over examples and locations alike, so that a
    convolution stays one: different places are normalised in the same way (§3.2). All else, the
    arguments too, is as in `BatchNorm1d`.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() != 4:
            raise ValueError(f"expected 4D input (got {input.dim()}D input)")


_TORCH_LAYERS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
# Torch's layers have the attributes of ours; so typed, they need no casts below.
_Layer = Any


_Affine = TypeVar("_Affine", nn.Linear, nn.Conv2d)
_FOLDABLE = (
    (nn.Linear, (BatchNorm1d, nn.BatchNorm1d)),
    (nn.Conv2d, (BatchNorm2d, nn.BatchNorm2d)),
)


@contextmanager
def _only_normalisation_trains(model: nn.Module, *, track: bool) -> Iterator[list[_Layer]]:
    """All of `model` in eval mode but its batch-norm layers, which are yielded."""
    modules = list(model.modules())
    layers: list[_Layer] = [m for m in modules if isinstance(m, (_BatchNorm, *_TORCH_LAYERS))]
    training = [module.training for module in modules]
    tracking = [layer.track_running_stats for layer in layers]
    try:
        for module in modules:
            module.training = False
        for layer in layers:
            layer.training = True
            layer.track_running_stats = track and layer.running_mean is not None
        yield layers
    finally:
        for module, flag in zip(modules, training, strict=True):
            module.training = flag
        for layer, flag in zip(layers, tracking, strict=True):
            layer.track_running_stats = flag


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Within it, `model` is frozen, but normalises each batch by that batch's own statistics.

    Every module is in eval mode (no dropout), the batch-norm layers excepted: these act as in
    training and leave their buffers alone. The modes are restored at the end. Gradients are the
    caller's business.
    """
    with _only_normalisation_trains(model, track=False):
        yield


@torch.no_grad()
def population_statistics(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Algorithm 2, lines 7 to 10: E[x] = E[μ_B] and Var[x] = E[m/(m - 1)·σ²_B].

    `batches` are several training mini-batches, each what `model` takes as input. They pass through
    the frozen network, every layer normalising by the batch's own statistics; the averages over
    the batches, each counted once, become the `running_mean` and `running_var` of every batch-norm
    layer that has them. A layer that no batch reaches keeps what it had.

    Nothing else changes: not parameters, modes, momentum or the count of batches trained on, and
    not even the statistics when this raises, as it does a ValueError for no batches at all.
    """
    with _only_normalisation_trains(model, track=True) as layers:
        tracked = [layer for layer in layers if layer.running_mean is not None]
        momenta = [layer.momentum for layer in tracked]
        before = [
            (
                layer.running_mean.clone(),
                layer.running_var.clone(),
                layer.num_batches_tracked.clone(),
            )
            for layer in tracked
        ]
        done = False
        try:
            for layer in tracked:
                layer.reset_running_stats()
                layer.momentum = None  # the cumulative average, which weighs all batches alike
            seen = 0
            for batch in batches:
                model(batch)
                seen += 1
            if seen == 0:
                raise ValueError("population statistics need at least one batch, got none")
            done = True
        finally:
            for layer, momentum, (mean, var, count) in zip(tracked, momenta, before, strict=True):
                layer.momentum = momentum
                if not done or layer.num_batches_tracked == 0:
                    layer.running_mean.copy_(mean)
                    layer.running_var.copy_(var)
                layer.num_batches_tracked.copy_(count)


@torch.no_grad()
def fold(layer: _Affine, bn: nn.Module) -> _Affine:
    """A new layer that computes bn(layer(x)), `bn` at inference, in one step (§3.1).

    At inference BN is the affine map of Algorithm 2, line 11. With s = γ/√(Var + ε), one number per
    output feature, W' = s·W and b' = s·(b - E) + β. `layer` is a Linear, `bn` the BatchNorm1d after
    it, or a Conv2d and the BatchNorm2d after it. Neither is changed.
    """
    if not any(isinstance(layer, a) and isinstance(bn, b) for a, b in _FOLDABLE):
        raise ValueError(
            "can fold a BatchNorm1d into a Linear or a BatchNorm2d into a Conv2d, "
            f"not a {type(bn).__name__} into a {type(layer).__name__}"
        )
    norm: _Layer = bn
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("can fold only a batch norm that has running statistics, this has none")
    features = layer.weight.shape[0]
    if features != norm.num_features:
        raise ValueError(
            f"a batch norm of {norm.num_features} features cannot follow a "
            f"{type(layer).__name__} of {features} output features"
        )

    dtype = layer.weight.dtype
    compute_dtype = torch.promote_types(dtype, torch.float32)
    shift = -norm.running_mean.to(compute_dtype)  # (C,)
    if layer.bias is not None:
        shift = shift + layer.bias
    scale = torch.rsqrt(norm.running_var.to(compute_dtype) + norm.eps)  # (C,)
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = shift * scale
    if norm.bias is not None:
        shift = shift + norm.bias
    weight = layer.weight * scale.view(-1, *[1] * (layer.weight.dim() - 1))

    folded = copy.deepcopy(layer)
    folded.weight = nn.Parameter(weight.to(dtype))
    folded.bias = nn.Parameter(shift.to(dtype))
    return folded
