"""Which parameters are trained, and which decay, where a configuration says so."""

import torch
from torch import Tensor, nn

from bnrepro import config as c
from bnrepro.nn.build import weighted

PER_UNIT = 2
"""Weights that are trained of each unit in the place of its γ and β."""


def trained(model: nn.Module, which: c.Trained, seed: int) -> list[Tensor]:
    """Of every parameter, 1 where it is trained and 0 where it stays; nothing where all are.

    `norms` are all that belong to no layer with weights: γ and β (Frankle et al. 2021, arXiv
    2003.00152). `random` are as many: of each unit with a norm, two of the weights that come in,
    drawn from `seed`.
    """
    if which is c.Trained.all:
        return []
    layers = dict(weighted(model))
    if which is c.Trained.norms:
        return [
            torch.full_like(p, name.rpartition(".")[0] not in layers)
            for name, p in model.named_parameters()
        ]
    *hidden, _ = layers
    generator = torch.Generator().manual_seed(seed)
    masks = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for name in hidden:
        rows = masks[f"{name}.weight"].flatten(1)  # (U, incoming)
        order = torch.rand(rows.shape, generator=generator).argsort(1)
        rows.scatter_(1, order[:, :PER_UNIT].to(rows.device), 1.0)
    return list(masks.values())


def decayed(model: nn.Module, which: c.Decayed) -> list[Tensor]:
    """Of every parameter, 1 where weight decay holds; nothing where it does for all.

    `normalized` are the weights before a norm, all but the last layer's: only the length of these
    makes no difference to the network.
    """
    if which is c.Decayed.all:
        return []
    *hidden, _ = (f"{name}.weight" for name, _ in weighted(model))
    return [torch.full_like(p, name in hidden) for name, p in model.named_parameters()]
