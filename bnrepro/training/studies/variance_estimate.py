"""§3.1, Algorithm 2: Var[x] = m/(m - 1)·E[σ²], next to the mean E[σ²] itself."""

import copy
from typing import Any

import torch
from torch import nn

from bnrepro import config as c
from bnrepro.data import Dataset, unseen_batches
from bnrepro.nn.inference import population_statistics
from bnrepro.training.loop import score


@torch.no_grad()
def variance_estimate(model: nn.Module, dataset: Dataset, config: c.Config) -> dict[str, Any]:
    """Test accuracy and loss with `unbiased` variances, as in Algorithm 2, or `biased` ones."""
    assert isinstance(config.norm, c.BatchNorm)
    images, m = dataset.train.images, config.train.batch_size
    rows = unseen_batches(config.seed, len(images), m, config.norm.population_batches)
    network = copy.deepcopy(model)
    population_statistics(network, (images[batch] for batch in rows))

    def scored() -> dict[str, float]:
        accuracy, loss = score(network, dataset.test)
        return {"test_accuracy": accuracy, "test_loss": loss}

    unbiased = scored()
    for name, buffer in network.named_buffers():
        if name.endswith("running_var"):
            buffer.mul_((m - 1) / m)
    return {"batch_size": m, "unbiased": unbiased, "biased": scored()}
