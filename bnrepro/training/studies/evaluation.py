"""A network's outputs over a data set, cut into batches in one way or another."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from bnrepro.nn.inference import batch_statistics

CHUNK = 1000
"""Images at once where a batch is of no consequence."""


def batches(order: Tensor, size: int) -> list[Tensor]:
    """`order` (N,) cut into batches of `size`; what is left over joins the last, none is dropped.

    So no batch is smaller, unless all N are fewer than `size`: then they are one batch.
    """
    count = max(1, len(order) // size)
    whole = list(order[: (count - 1) * size].split(size)) if count > 1 else []
    return [*whole, order[(count - 1) * size :]]


@torch.no_grad()
def logits(
    model: nn.Module, images: Tensor, rows: Sequence[Tensor], *, own_statistics: bool = False
) -> Tensor:
    """Logits (N, classes) of images (N, C, H, W), in their order, computed batch by batch.

    Args:
        model: in evaluation mode; its logits are of its parameters' type.
        images: of any type.
        rows: of each batch; in all batches together every row once.
        own_statistics: whether each batch is normalized by its own mean and variance.
    """
    dtype = next(model.parameters()).dtype
    with batch_statistics(model) if own_statistics else nullcontext():
        outputs = torch.cat([model(images[batch].to(dtype)) for batch in rows])
    result = torch.empty_like(outputs)
    result[torch.cat(list(rows))] = outputs
    return result


def accuracy(outputs: Tensor, labels: Tensor) -> float:
    """Share of logits (N, classes) whose largest is that of the label."""
    return (outputs.argmax(1) == labels).double().mean().item()
