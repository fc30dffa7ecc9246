"""§2: a bias that is normalized away changes no loss, however far it drifted."""

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bnrepro import config as c
from bnrepro.data import Dataset, unseen_batches
from bnrepro.nn.build import biased
from bnrepro.nn.inference import batch_statistics


@torch.no_grad()
def bias_drift(model: nn.Module, dataset: Dataset, config: c.Config) -> dict[str, Any]:
    """The loss of a batch with the hidden biases that training led to, and with those before it.

    They begin at 0, and a norm that takes the batch's mean away stands behind each of them. `drift`
    is the norm of all of them together, `change` the relative change of the loss.
    """
    split = dataset.train
    [rows] = unseen_batches(config.seed, len(split), config.train.batch_size, 1)
    before = copy.deepcopy(model)
    biases = dict(biased(before))
    del biases["output"]
    drift = torch.cat([bias.detach().clone() for bias in biases.values()]).norm().item()
    for bias in biases.values():
        bias.zero_()

    def loss(network: nn.Module) -> float:
        with batch_statistics(network):
            outputs = network(split.images[rows].double())
        return cross_entropy(outputs, split.labels[rows]).item()

    after, first = loss(model), loss(before)
    return {"drift": drift, "loss": after, "loss_before": first, "change": abs(after / first - 1)}
