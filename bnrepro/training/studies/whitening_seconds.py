"""§2: what a training step costs with full whitening and with batch normalization, over widths."""

from dataclasses import replace
from typing import Any

from torch import nn

from bnrepro import config as c
from bnrepro.data import Dataset
from bnrepro.training.studies.step_seconds import timed, whole_steps

WIDTHS = (64, 128, 256, 512, 1024)
"""Units of the network's hidden layers, in the place of its own."""

TURNS, STEPS = 5, 2
"""Turns of each network, after one that is not counted; steps a turn. One takes up to seconds."""


def whitening_seconds(model: nn.Module, dataset: Dataset, config: c.Config) -> dict[str, Any]:
    """Time steps of new networks of each of `WIDTHS`, in batches of twice as many images.

    A batch that is larger than the width gives a covariance of full rank, which §2 asks for.

    Returns:
        `widths`; `seconds`, by the norm (`batch`, `whiten`), of a step in each turn at each width;
        `share`, the least share of the time in which this process was running.
    """
    assert isinstance(config.model, c.Mlp)
    assert isinstance(config.norm, c.WhiteningNorm)
    own = config.norm
    batch = c.BatchNorm("batch", own.eps, own.momentum, own.placement, population_batches=1)
    seconds: dict[str, list[list[float]]] = {"batch": [], "whiten": []}
    shares = []
    for width in WIDTHS:
        hidden = [width] * config.model.hidden_layers
        size = min(2 * width, len(dataset.train))
        at_width = replace(
            config,
            model=replace(config.model, hidden=hidden),
            train=replace(config.train, batch_size=size, compile=False),
        )
        configs = {norm.name: replace(at_width, norm=norm) for norm in (batch, own)}
        steps = whole_steps(at_width, dataset, STEPS)
        found, share = timed(configs, dataset, steps, TURNS)
        shares.append(share)
        for name, of_width in found.items():
            seconds[name].append(of_width)
    return {"widths": list(WIDTHS), "seconds": seconds, "share": min(shares)}
