"""Optimizers and learning-rate schedules by their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from bnrepro import config as c


def build(config: c.Optimizer, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of a configuration, over these parameters."""
    # Fused: one call a step instead of one a parameter, which at Fig. 1's size is most of the cost.
    if isinstance(config, c.Sgd):
        return torch.optim.SGD(
            parameters,
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            fused=True,
        )
    assert isinstance(config, c.Adam)
    return torch.optim.Adam(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True)


def schedule(config: c.Config) -> Callable[[int], float]:
    """The learning rate as a function of the steps done; a pure function, so resuming is exact."""
    lr, decay = config.optimizer.lr, config.schedule
    if not isinstance(decay, c.DecaySchedule):
        return lambda step: lr
    final, last = decay.final, max(1, config.train.steps - 1)
    if decay.name == "linear":
        return lambda step: lr * (1 - (1 - final) * step / last)
    return lambda step: lr * final ** (step / last)
