"""Max pooling that a compiler leaves as it is.

What torch's compiler makes of max pooling's derivative for a CPU takes ten times as long as torch's
own kernel, a fifth of an Inception's step. An operation that it cannot look into it calls as it is.
"""

from typing import Any

import torch
from torch import Tensor, nn

_kernel = torch.ops.aten.max_pool2d_with_indices
_derivative = torch.ops.aten.max_pool2d_with_indices_backward


class MaxPool2d(nn.MaxPool2d):
    """torch's, for square kernels without dilation: (N, C, H, W) -> (N, C, H', W')."""

    def forward(self, input: Tensor) -> Tensor:
        """The largest values of `input`."""
        sides = map(_one, (self.kernel_size, self.stride, self.padding))
        pooled: Tensor = _opaque(input, *sides)[0]
        return pooled


def _one(length: int | tuple[int, ...]) -> int:
    assert isinstance(length, int), "square"
    return length


def _layout(like: Tensor) -> torch.memory_format:
    last = like.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


@torch.library.custom_op("bnrepro::max_pool2d", mutates_args=())
def _opaque(x: Tensor, size: int, stride: int, padding: int) -> tuple[Tensor, Tensor]:
    y, indices = _kernel(x, [size, size], [stride, stride], [padding, padding])
    return y, indices


@_opaque.register_fake
def _(x: Tensor, size: int, stride: int, padding: int) -> tuple[Tensor, Tensor]:
    sides = [(side + 2 * padding - size) // stride + 1 for side in x.shape[2:]]
    y = x.new_empty((*x.shape[:2], *sides)).contiguous(memory_format=_layout(x))
    return y, torch.empty_like(y, dtype=torch.int64)


@torch.library.custom_op("bnrepro::max_pool2d_backward", mutates_args=())
def _opaque_backward(
    grad: Tensor, x: Tensor, indices: Tensor, size: int, stride: int, padding: int
) -> Tensor:
    places = [size, size], [stride, stride], [padding, padding]
    result: Tensor = _derivative(grad, x, *places, [1, 1], False, indices)
    return result


@_opaque_backward.register_fake
def _(grad: Tensor, x: Tensor, indices: Tensor, size: int, stride: int, padding: int) -> Tensor:
    return torch.empty_like(x)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, *ctx.places = inputs
    ctx.save_for_backward(x, output[1])


def _differentiate(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    x, indices = ctx.saved_tensors
    return _opaque_backward(grad, x, indices, *ctx.places), None, None, None


_opaque.register_autograd(_differentiate, setup_context=_keep)
