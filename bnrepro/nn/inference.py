"""Networks with batch normalization at inference: their statistics (Algorithm 2), and folding.

- `population_statistics`: Algorithm 2, statistics from several training mini-batches;
- `batch_statistics`: a frozen network that still normalizes each batch by its own statistics;
- `fold`: the layer at inference, merged into the linear or convolutional layer before it.

All of them take our layers and torch's.
"""

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import parametrize

from bnrepro.nn.batchnorm import _BatchNorm

__all__ = ["batch_statistics", "fold", "population_statistics"]

# Torch's layers have the attributes of ours; so typed, they need no casts below.
_Layer = Any


_Affine = TypeVar("_Affine", nn.Linear, nn.Conv2d, nn.Conv3d)
_FOLDABLE = ((nn.Linear, nn.BatchNorm1d), (nn.Conv2d, nn.BatchNorm2d), (nn.Conv3d, nn.BatchNorm3d))
_FORWARDS = (
    nn.Linear.forward,
    nn.Conv2d.forward,
    nn.Conv3d.forward,
    _BatchNorm.forward,
    nn.modules.batchnorm._BatchNorm.forward,
)


@contextmanager
def _only_normalization_trains(model: nn.Module, *, track: bool) -> Iterator[list[_Layer]]:
    """All of `model` in eval mode but its batch-norm layers, which are yielded."""
    modules = list(model.modules())
    layers: list[_Layer] = [m for m in modules if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for layer in layers:
        if isinstance(layer, LazyModuleMixin) and layer.has_uninitialized_params():  # type: ignore[misc]
            raise ValueError(
                f"a {type(layer).__name__} does not have its number of features yet: "
                "pass a batch through the model first"
            )
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
    """Within it, `model` is frozen, but normalizes each batch by that batch's own statistics.

    Every module is in eval mode (no dropout), the batch-norm layers excepted: these act as in
    training and leave their buffers alone. The modes are restored at the end. Gradients are the
    caller's business.
    """
    with _only_normalization_trains(model, track=False):
        yield


@torch.no_grad()
def population_statistics(
    model: nn.Module, batches: Iterable[Tensor | list[Any] | tuple[Any, ...]]
) -> None:
    """Algorithm 2, lines 7 to 10: E[x] = E[μ_B] and Var[x] = E[m/(m - 1)·σ²_B].

    `batches` are several training mini-batches, each what `model` takes as input, or a list or
    tuple that has it first, as a DataLoader of images with labels yields. They pass through the
    frozen network, every layer normalizing by the batch's own statistics; the averages over
    the batches, each counted once, become the `running_mean` and `running_var` of every batch-norm
    layer that has them, ours or torch's. A layer that no batch reaches keeps what it had.

    Nothing else changes: not parameters, modes, momentum or the count of batches trained on, and
    not even the statistics when this raises, as it does a ValueError for no batches at all or for
    a model without a batch-norm layer that has running statistics.
    """
    with _only_normalization_trains(model, track=True) as layers:
        tracked = [layer for layer in layers if layer.running_mean is not None]
        if not tracked:
            raise ValueError(
                "population statistics need a batch-norm layer with running statistics, "
                f"this {type(model).__name__} has none"
            )
        before = [
            (layer.momentum, layer.num_batches_tracked, layer.running_mean.clone(),
             layer.running_var.clone())
            for layer in tracked
        ]  # fmt: skip
        done = False
        try:
            for layer in tracked:
                layer.running_mean.zero_()
                layer.running_var.fill_(1)
                layer.num_batches_tracked = torch.zeros(
                    (), dtype=torch.long, device=layer.running_mean.device
                )
                layer.momentum = None  # the cumulative average, which weighs all batches alike
            seen = 0
            for batch in batches:
                model(batch[0] if isinstance(batch, list | tuple) else batch)
                seen += 1
            if seen == 0:
                raise ValueError("population statistics need at least one batch, got none")
            done = True
        finally:
            for layer, (momentum, count, mean, var) in zip(tracked, before, strict=True):
                layer.momentum = momentum
                if not done or layer.num_batches_tracked == 0:
                    layer.running_mean.copy_(mean)
                    layer.running_var.copy_(var)
                layer.num_batches_tracked = count


@torch.no_grad()
def fold(layer: _Affine, bn: nn.Module) -> _Affine:
    """A new layer that computes bn(layer(x)), `bn` at inference, in one step (§3.1).

    At inference BN is the affine map of Algorithm 2, line 11. With s = γ/√(Var + ε), one number per
    output feature, W' = s·W and b' = s·(b - E) + β. `layer` is a Linear, `bn` the BatchNorm1d after
    it, or a Conv2d and the BatchNorm2d after it, or a Conv3d and the BatchNorm3d after it. Neither
    is changed. A folded Linear takes x of shape (N, D) only: in (N, L, D) the features of a Linear
    are the last dimension, those of a BatchNorm1d the one of L.

    Raises a ValueError for other layers, for one that computes more than its class (by a hook, a
    parametrization or a `forward` of its own), and for a `bn` without running statistics or with
    another number of features.
    """
    if not any(isinstance(layer, a) and isinstance(bn, b) for a, b in _FOLDABLE):
        raise ValueError(
            "can fold a BatchNorm1d into a Linear, a BatchNorm2d into a Conv2d or a BatchNorm3d "
            f"into a Conv3d, not a {type(bn).__name__} into a {type(layer).__name__}"
        )
    for module in (layer, bn):
        _refuse_more_than_its_class(module)
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
    trains = layer.weight.requires_grad
    folded.weight = nn.Parameter(weight.to(dtype), trains)
    trains = trains if layer.bias is None else layer.bias.requires_grad
    folded.bias = nn.Parameter(shift.to(dtype), trains)
    if isinstance(folded, nn.Linear) and not folded._forward_pre_hooks:
        folded.register_forward_pre_hook(_takes_rows)
    return folded


def _takes_rows(self: nn.Module, input: tuple[Tensor]) -> None:
    """The hook of a folded Linear, which refuses what the BatchNorm1d would have refused."""
    for x in input:
        if x.dim() != 2:
            raise ValueError(f"a folded Linear takes 2D input (got {x.dim()}D input)")


def _refuse_more_than_its_class(module: nn.Module) -> None:
    name = type(module).__name__
    hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    if parametrize.is_parametrized(module):
        raise ValueError(
            f"cannot fold a {name} with parametrizations: remove them first "
            "(torch.nn.utils.parametrize.remove_parametrizations)"
        )
    if any(hook is not _takes_rows for hook in hooks):
        raise ValueError(f"cannot fold a {name} with forward hooks: remove them first")
    if getattr(module.forward, "__func__", None) not in _FORWARDS:
        raise ValueError(f"cannot fold a {name}, whose forward is its own")
