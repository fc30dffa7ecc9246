"""Batch normalization (Ioffe & Szegedy 2015, arXiv 1502.03167v3), written out from the paper.

`batch_norm` normalizes a tensor, with the derivatives of §3 worked out by hand. `BatchNorm1d`,
`BatchNorm2d` and `BatchNorm3d` are the layers on top of it and can replace torch's, from which they
derive: same arguments, checks, buffers and state dict. Nothing here calls torch's own batch-norm
kernels.

`stacked_batch_norm` normalizes in several networks at once, each by itself; `ghost_batch_norm`
in several parts of a batch.

In shape comments M is networks, N examples, C features or feature maps, ... nothing, a length L,
or H, W, or D, H, W.
A statistic of a feature is over all m values it takes in a batch: m = N, or N·L, or N·H·W, which is
the m′ = m·p·q of §3.2.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._jit_internal import is_scripting
from torch.autograd import forward_ad
from torch.jit._trace import is_tracing

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "LazyBatchNorm1d",
    "LazyBatchNorm2d",
    "LazyBatchNorm3d",
    "batch_norm",
    "ghost_batch_norm",
    "stacked_batch_norm",
]


def _count(x: Tensor) -> int:
    """The number of values m that each feature of `x`, of shape (N, C, ...), has."""
    m = x.size(0)
    for dim in range(2, x.dim()):
        m *= x.size(dim)
    return m


def _reduction(x: Tensor, stacked: bool = False) -> tuple[list[int], int]:
    """The dimensions a statistic is taken over, all but the features', and the count m."""
    if stacked:
        return [1], x.size(1)
    dims = list(range(x.dim()))
    dims.pop(1)
    # An empty batch divides its empty sums by one, so that its gradients are 0 and not NaN.
    return dims, max(_count(x), 1)


def _per_feature(v: Tensor, x: Tensor) -> Tensor:
    """`v`, of shape (C,), in the shape that broadcasts against `x`, of shape (N, C, ...)."""
    return v if _broadcasts(v, x) else v.view([-1] + [1] * (x.dim() - 2))


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


def _number(value: float, like: Tensor) -> Tensor:
    """A number as a tensor: as a number of Python's it costs a small operation twice the time.

    It is made for one call, since a tensor belongs to the mode that it was made in. It is on the
    CPU, from where a GPU's operations take it without waiting.
    """
    return like.new_full((), value, device="cpu")


def _move(running: Tensor, batch: Tensor, momentum: float | Tensor) -> None:
    """Move a running statistic towards the batch's, in place; both (C,).

    The sum is taken in the batch's precision and rounded once, so that a statistic in float16 does
    not overflow where the batch's alone would.
    """
    new = running if running.dtype == batch.dtype else running.to(batch.dtype)
    if isinstance(momentum, Tensor):
        new.lerp_(batch, momentum.to(batch.dtype))
    else:
        new.lerp_(batch, momentum)
    if new is not running:
        running.copy_(new)


# Whether a transform of torch.func is at work; a torch that has no such function has it fail, in
# words of its own, on `_Normalize`.
_func_is_active: Callable[[], bool] = getattr(
    torch._C, "_are_functorch_transforms_active", lambda: False
)


# The same for `is_grads_batched`, which batches in another way.
_is_batch_of_gradients: Callable[[Tensor], bool] = getattr(
    torch._C._functorch, "is_legacy_batchedtensor", lambda gradient: False
)


def _needs_plain_operations() -> bool:
    """Whether someone composes operations of torch's own only, which `_Normalize` is not."""
    return (
        torch.compiler.is_compiling()
        or is_tracing()
        or _func_is_active()
        or getattr(forward_ad, "_current_level", -1) >= 0
    )


def _is_batched(gradient: Tensor) -> bool:
    """Whether `gradient` stands for many at once: those of `is_grads_batched` or of vmap."""
    return _func_is_active() or _is_batch_of_gradients(gradient)


class _Normalize(torch.autograd.Function):
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
        share = _number(1 / m, x)
        # x.mean() takes twice as long.
        mean = x.sum(dims, stacked).mul_(share)  # (C,)
        # Two passes: E[x²] - E[x]² would cancel when the mean is much larger than the deviation.
        centred = x - _per_feature(mean, x)  # (N, C, ...)
        y = centred * centred
        squares = y.sum(dims, stacked)  # (C,)
        var = squares * share  # (C,)
        inv_std = var.add_(_number(eps, x)).rsqrt_()  # (C,)
        scale = inv_std if weight is None else inv_std * weight
        # The squares are done with, and on large tensors fresh memory costs more than arithmetic.
        _affine(centred, scale, bias, y)

        if running_mean is not None and running_var is not None and m > 1:
            _move(running_mean, mean, momentum)
            _move(running_var, squares.mul_(_number(1 / (m - 1), x)), momentum)

        ctx.save_for_backward(centred, inv_std, weight, share)
        ctx.stacked = stacked
        ctx.set_materialize_grads(False)  # None, not zeros, for c and s in a first derivative
        return y, centred, inv_std

    @staticmethod
    def backward(
        ctx: Any, grad_y: Tensor | None, grad_centred: Tensor | None, grad_inv_std: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        centred, inv_std, weight, share = ctx.saved_tensors
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
            step = -(scale * share)
            offset = step * grad_bias  # (C,)
            slope = step * inv_std * grad_weight  # (C,)
            if grad_centred is not None:
                offset = offset - grad_centred.sum(dims, stacked) / m
            if grad_inv_std is not None:
                slope = slope - grad_inv_std * inv_std**3 / m
            # As in `forward`, reuse memory, unless these lines are to be differentiated or the
            # gradient is a batch of gradients.
            reuse = not (torch.is_grad_enabled() or _is_batched(grad_y))
            out = products if reuse else None
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
    """What `_Normalize` computes, line by line, of operations of torch's own.

    A compiler makes few passes over memory of it, and torch.func and TorchScript can read it. Run
    as it is each line is a pass, and autograd adds more than the derivatives by hand need.
    """
    dims, m = _reduction(x)
    if x.numel() == 0:  # the mean of nothing is NaN, and so would be the gradients
        var = mean = x.sum(dims)
    else:
        var, mean = torch.var_mean(x, dims, correction=0)  # (C,)
    scale = torch.rsqrt(var + eps)
    scale = scale if weight is None else scale * weight
    y = (x - _per_feature(mean, x)) * _per_feature(scale, x)
    if running_mean is not None and running_var is not None and m > 1:
        _move(running_mean, mean.detach(), momentum)
        _move(running_var, var.detach() * (m / (m - 1)), momentum)
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
    """Normalize each feature of `x`, of shape (N, C, ...): y = γ·(x - μ)/√(σ² + ε) + β.

    In training, μ and σ² are the mean and the biased variance of this batch, and the running
    statistics, where given, move towards them in place: new = (1 - momentum)·old + momentum·batch,
    the batch's variance taken as the unbiased m/(m - 1)·σ². Otherwise they are the running ones.

    `x` and the other tensors have one dtype, or `x` is float16 or bfloat16 and they are float32.
    Low precision is computed in float32; y has the dtype and the memory format of `x`.
    `momentum` may be a tensor of no dimensions.
    """
    if not x.is_floating_point():
        raise NotImplementedError(f'"batch_norm" not implemented for {x.dtype}')
    if training:
        if _count(x) == 1:
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
    features = x.size(1)
    for name, v in (
        ("running_mean", running_mean),
        ("running_var", running_var),
        ("weight", weight),
        ("bias", bias),
    ):
        if v is not None:
            if v.numel() != features:
                raise RuntimeError(f"{name} should contain {features} elements not {v.numel()}")
            if v.dtype != dtype and v.dtype != compute_dtype:
                raise RuntimeError(f"mixed dtype: {name} is {v.dtype}, the input {dtype}")

    if dtype != compute_dtype:
        x = x.to(compute_dtype)
        weight = None if weight is None else weight.to(compute_dtype)
        bias = None if bias is None else bias.to(compute_dtype)

    if not training:
        y = _line_11(x, running_mean, running_var, weight, bias, eps)
    elif is_scripting():
        y = _algorithm_1(x, weight, bias, running_mean, running_var, momentum, eps)
    else:
        # TorchScript does not read this branch.
        compute = _algorithm_1 if _needs_plain_operations() else _by_hand
        y = compute(x, weight, bias, running_mean, running_var, momentum, eps)
    return y if dtype == compute_dtype else y.to(dtype)


def _by_hand(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float | Tensor,
    eps: float,
) -> Tensor:
    """Algorithm 1 with the derivatives of §3; `x` in channels_last as a matrix, which is faster."""
    dim = x.dim()
    matrix = (dim == 4 and x.is_contiguous(memory_format=torch.channels_last)) or (
        dim == 5 and x.is_contiguous(memory_format=torch.channels_last_3d)
    )
    y: Tensor
    rows = x.movedim(1, -1).flatten(0, -2) if matrix else x  # (m, C)
    y, _, _ = _Normalize.apply(rows, weight, bias, running_mean, running_var, momentum, eps, False)
    return y.view(x.shape[0], *x.shape[2:], x.shape[1]).movedim(-1, 1) if matrix else y


def _line_11(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> Tensor:
    """Algorithm 2, line 11: one affine map, so one pass over `x`."""
    if running_mean is None:
        raise RuntimeError("running_mean must be defined in evaluation mode")
    if running_var is None:
        raise RuntimeError("running_var must be defined in evaluation mode")
    scale = torch.rsqrt(running_var.to(x.dtype) + eps)  # (C,)
    if weight is not None:
        scale = scale * weight
    shift = -running_mean * scale  # (C,)
    if bias is not None:
        shift = shift + bias
    return torch.addcmul(_per_feature(shift, x), x, _per_feature(scale, x))


def stacked_batch_norm(
    x: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float | Tensor,
    eps: float,
) -> Tensor:
    """`batch_norm` of M networks in training: x (M, N, C), the other tensors (M, 1, C).

    Each network's features are normalized by their own N values, 2 or more. All are of one dtype,
    float32 or float64. `momentum` may be a tensor that broadcasts against the running statistics.
    """
    statistics = running_mean, running_var, momentum
    y: Tensor
    y, _, _ = _Normalize.apply(x, weight, bias, *statistics, eps, True)
    return y


def ghost_batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float | Tensor,
    eps: float,
    size: int,
) -> Tensor:
    """`batch_norm` in training of x (N, C, ...), every `size` examples by themselves.

    These are the ghost batches of Hoffer et al. 2017 (arXiv 1705.08741). Of G = N/size, examples
    j, G + j, 2·G + j, … make the j-th: so x is, as it lies in memory, a batch of `size` examples
    with G·C features. The running statistics move once a batch, towards the mean of the groups'
    own, as Algorithm 2 averages over batches; Hoffer et al. move them once a group. y is
    contiguous.
    """
    groups, rest = divmod(x.size(0), size)
    if rest or not groups:
        raise ValueError(f"Expected groups of {size} examples, got input size {x.shape}")

    def of_groups(v: Tensor | None) -> Tensor | None:
        return None if v is None else v.repeat(groups)

    rows = x.reshape(size, groups * x.size(1), *x.shape[2:])
    mean, var = of_groups(running_mean), of_groups(running_var)
    y = batch_norm(rows, mean, var, of_groups(weight), of_groups(bias), True, momentum, eps)
    for running, moved in ((running_mean, mean), (running_var, var)):
        if running is not None and moved is not None:
            running.copy_(moved.view(groups, -1).mean(0))
    return y.reshape(x.shape)


def _newest_weight(
    momentum: float | None, count: Tensor | None, mean: Tensor | None
) -> float | Tensor:
    """The weight of the newest batch in the moving averages, the `count`-th batch.

    Without a momentum the averages are cumulative. Reading the count as a number would make a GPU
    wait.
    """
    if momentum is None and count is not None and mean is not None:
        return count.to(torch.promote_types(mean.dtype, torch.float32)).reciprocal()
    return 0.0 if momentum is None else momentum


class _BatchNorm(nn.modules.batchnorm._BatchNorm):
    """What the layers share: torch's arguments, buffers and state dict, and our computation.

    Tools that look for torch's class find it: `swa_utils.update_bn`, a filter for weight decay,
    `torch.func.replace_all_batch_norm_modules_`, and `SyncBatchNorm.convert_sync_batchnorm`, which
    makes it torch's own layer.
    """

    ghost_size: int | None = None
    """While it trains with running statistics, the number of examples that are normalized
    by themselves; None: all of a batch."""

    def _follow(self, mean: Tensor, var: Tensor) -> None:
        """Count a batch, and move the running statistics towards its own, unless they are off."""
        if not self.track_running_stats:
            return
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = _newest_weight(self.momentum, self.num_batches_tracked, mean)
        _move(self.running_mean, mean.detach(), momentum)
        _move(self.running_var, var.detach(), momentum)

    def forward(self, input: Tensor) -> Tensor:
        """Normalized `input`, in its shape, dtype and memory format."""
        if not is_scripting():  # noqa: SIM102, TorchScript reads on after an `and`
            if isinstance(input, fx.Proxy):
                # A step of its own in the graph, as torch's layers are: it still has two modes.
                path = input.tracer.path_of_module(self)
                return input.tracer.create_proxy("call_module", path, (input,), {})
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        # The flag, turned off on a layer with buffers, leaves them alone in training.
        uses_buffers = self.track_running_stats or not self.training
        mean = self.running_mean if uses_buffers else None
        var = self.running_var if uses_buffers else None
        count = self.num_batches_tracked
        if self.training and self.track_running_stats and count is not None:
            count.add_(1)
        momentum = _newest_weight(self.momentum, count if self.training else None, mean)
        if not is_scripting():  # noqa: SIM102
            if self.training and self.track_running_stats and self.ghost_size is not None:
                statistics = mean, var, self.weight, self.bias, momentum
                return ghost_batch_norm(input, *statistics, self.eps, self.ghost_size)
        training = self.training or (mean is None and var is None)
        return batch_norm(input, mean, var, self.weight, self.bias, training, momentum, self.eps)


class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    """y = γ·(x - μ)/√(σ² + ε) + β, for x of shape (N, C) or (N, C, L); y has the shape of x.

    γ (`weight`) and β (`bias`), of shape (C,), are learned, and start at 1 and 0. In training μ
    and σ² are the batch's mean and biased variance, and gradients flow through both (Algorithm 1
    and the equations of §3). In evaluation they are `running_mean` and `running_var` (Algorithm 2,
    line 11): moving averages by default, as §3.1 allows for tracking a model while it trains, or
    after `population_statistics` those of Algorithm 2 itself.

    num_features: C. eps: ε, inside the root.
    momentum: the weight of the newest batch in the moving averages; None weighs all batches alike.
    affine, bias: False leaves out γ and β, or only β (`bias` with torch 2.12 or newer).
    track_running_stats: False keeps no averages; evaluation then uses the batch's statistics, too.
    """


class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    """y = γ·(x - μ)/√(σ² + ε) + β, for x of shape (N, C, H, W); y has the shape of x.

    One μ, σ², γ, β for each of the C feature maps, over examples and locations alike, so that a
    convolution stays one: different places are normalized in the same way (§3.2). All else, the
    arguments too, is as in `BatchNorm1d`.
    """


class BatchNorm3d(_BatchNorm, nn.BatchNorm3d):
    """y = γ·(x - μ)/√(σ² + ε) + β, for x of shape (N, C, D, H, W); y has the shape of x.

    All else is as in `BatchNorm2d`.
    """


class LazyBatchNorm1d(_BatchNorm, nn.LazyBatchNorm1d):
    """A layer that becomes a `BatchNorm1d` of as many features as its first batch has."""

    cls_to_become = BatchNorm1d


class LazyBatchNorm2d(_BatchNorm, nn.LazyBatchNorm2d):
    """A layer that becomes a `BatchNorm2d` of as many features as its first batch has."""

    cls_to_become = BatchNorm2d


class LazyBatchNorm3d(_BatchNorm, nn.LazyBatchNorm3d):
    """A layer that becomes a `BatchNorm3d` of as many features as its first batch has."""

    cls_to_become = BatchNorm3d
