"""§3.1: how many training images Algorithm 2 takes (Wu & Johnson 2021, arXiv 2105.07576, 3)."""

import copy
from typing import Any

import torch
from torch import nn

from bnrepro import config as c
from bnrepro.data import Dataset, unseen_batches
from bnrepro.nn.inference import population_statistics
from bnrepro.training.loop import score

IMAGES = (120, 300, 1000, 3000, 10_000)
"""Numbers of training images, each brought to whole batches."""


@torch.no_grad()
def precise_statistics(model: nn.Module, dataset: Dataset, config: c.Config) -> dict[str, Any]:
    """Accuracy with moving averages, and by Algorithm 2 from each number of `IMAGES`.

    Returns:
        `images`, as many as were passed; `validation` and `test`, accuracies with the statistics of
        these; `moving_averages`, accuracies by the same names.
    """
    assert isinstance(config.norm, c.BatchNorm)
    train, size = dataset.train.images, config.train.batch_size
    splits = {"validation": dataset.validation, "test": dataset.test}
    result: dict[str, Any] = {
        "images": [],
        **{name: [] for name in splits},
        "moving_averages": {name: score(model, split)[0] for name, split in splits.items()},
    }
    network = copy.deepcopy(model)
    for images in IMAGES:
        count = -(-images // size)
        rows = unseen_batches(config.seed, len(train), size, count)
        population_statistics(network, (train[batch] for batch in rows))
        result["images"].append(count * size)
        for name, split in splits.items():
            result[name].append(score(network, split)[0])
    return result
