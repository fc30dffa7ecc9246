"""§3.1: what a network infers with Algorithm 2, with moving averages, and batch by batch."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bnrepro import config as c
from bnrepro.data import Dataset, permutation, unseen_batches
from bnrepro.nn.inference import population_statistics
from bnrepro.training.studies.evaluation import accuracy, batches, logits

BATCH_SIZES = (2, 8, 32, 128, 512)

WATCHED = 100
"""Number of test images, the first, that are watched while the rest of their batch changes."""


def inference(model: nn.Module, dataset: Dataset, config: c.Config) -> dict[str, Any]:
    """Test accuracy and loss in three modes, how far they agree, and whether each is one function.

    `algorithm2` and `moving_averages` normalize by fixed statistics; `batch_statistics` normalizes
    test batches of the training batch size by their own, what is left over in the last of them.
    `determinism` is the largest change of a probability of the watched images between two
    shuffles of the test images.
    """
    assert isinstance(config.norm, c.BatchNorm)
    test, size = dataset.test, config.train.batch_size
    order = torch.arange(len(test))
    exact = copy.deepcopy(model)
    images, count = dataset.train.images, config.norm.population_batches
    rows = unseen_batches(config.seed, len(images), size, count)
    population_statistics(exact, (images[batch].double() for batch in rows))
    modes = {
        "algorithm2": (exact, False),
        "moving_averages": (model, False),
        "batch_statistics": (model, True),
    }

    def infer(mode: str, order: Tensor, size: int) -> Tensor:
        network, own = modes[mode]
        return logits(network, test.images, batches(order, size), own_statistics=own)

    def change(mode: str) -> float:
        one, other = (
            infer(mode, permutation(config.seed, shuffle, len(test)), size)[:WATCHED].softmax(1)
            for shuffle in (0, 1)
        )
        return (one - other).abs().max().item()

    results = {mode: infer(mode, order, size) for mode in modes}
    change_of_mode = results["algorithm2"].softmax(1) - results["moving_averages"].softmax(1)
    return {
        "batch_size": size,
        "population_batches": count,
        "modes": {
            mode: {
                "test_accuracy": accuracy(each, test.labels),
                "test_loss": cross_entropy(each, test.labels).item(),
            }
            for mode, each in results.items()
        },
        "probability_change": {
            "mean": change_of_mode.abs().mean().item(),
            "max": change_of_mode.abs().max().item(),
        },
        "determinism": {mode: change(mode) for mode in modes},
        "by_batch_size": {
            "batch_sizes": list(BATCH_SIZES),
            "test_accuracy": [
                accuracy(infer("batch_statistics", order, size), test.labels)
                for size in BATCH_SIZES
            ],
        },
    }
