"""§3: a batch-norm transform with γ = √Var[x] and β = E[x] recovers its input."""

from typing import Any

import torch
from torch import Tensor, nn

from bnrepro import config as c
from bnrepro.data import Dataset, unseen_batches
from bnrepro.nn.batchnorm import BatchNorm1d
from bnrepro.nn.build import nonlinearities
from bnrepro.nn.mlp import Mlp
from bnrepro.training.studies.evaluation import CHUNK, accuracy, batches, logits

EPS = 1e-5
"""ε of a transform that is put into a network without one: `norm.eps` as it is by default."""

BATCHES = 100
"""Training batches that tell E and Var of the population: `norm.population_batches` by default."""


def identity_transform(model: nn.Module, dataset: Dataset, config: c.Config) -> dict[str, Any]:
    """How well transforms set to the identity recover the inputs of a network's nonlinearities.

    `layers`: with all test images as one batch in training mode, the largest error of a value in
    units of its unit's deviation, for γ = √(Var + ε) and for the paper's √Var, without ε.
    `inference`: what becomes of the network's outputs with such a transform before each
    nonlinearity, E and Var being the population's as in Algorithm 2. `training`: the same network
    when it normalizes test batches of the training batch size by their own statistics.
    """
    assert isinstance(model, Mlp)
    test, size = dataset.test, config.train.batch_size
    order = torch.arange(len(test))
    plain = logits(model, test.images, order.split(CHUNK))
    transformed = _transformed(model, _population(model, dataset, config))
    inferred = logits(transformed, test.images, order.split(CHUNK))
    trained = logits(transformed, test.images, batches(order, size), own_statistics=True)
    return {
        "eps": EPS,
        "test_accuracy": accuracy(plain, test.labels),
        "layers": {name: _recovered(x) for name, x in _inputs(model, test.images).items()},
        "inference": _changed(plain, inferred, test.labels),
        "training": {"batch_size": size, **_changed(plain, trained, test.labels)},
    }


@torch.no_grad()
def _recovered(x: Tensor) -> dict[str, float]:
    """Errors of a transform's outputs for x (N, U), in training mode."""
    mean, var = x.mean(0), x.var(0, correction=0)

    def error(gamma: Tensor) -> float:
        recovered = _transform(mean, var, gamma).train()(x)
        varies = ~(var.sqrt() <= 1e-12 * mean.abs())  # a constant has no deviation to measure by
        errors = ((recovered - x).abs().amax(0) / var.sqrt())[varies]
        return errors.max().item() if len(errors) else 0.0

    return {
        "max_error": error(torch.sqrt(var + EPS)),
        "max_error_without_eps": error(var.sqrt()),
        "min_variance": var.min().item(),
    }


def _transform(mean: Tensor, var: Tensor, gamma: Tensor) -> BatchNorm1d:
    """A layer with γ and, as β, the mean; at inference it normalizes by this mean and variance."""
    layer = BatchNorm1d(len(mean), EPS, device=mean.device, dtype=mean.dtype)
    state = {"weight": gamma, "bias": mean, "running_mean": mean, "running_var": var}
    layer.load_state_dict(state, strict=False)
    return layer


def _transformed(model: Mlp, population: dict[str, tuple[Tensor, Tensor]]) -> nn.Sequential:
    """The network with a transform set to the identity before every nonlinearity."""
    result = nn.Sequential()
    for name, layer in model.named_children():
        if name in population:
            mean, var = population[name]
            result.add_module(f"norm_{name}", _transform(mean, var, torch.sqrt(var + EPS)))
        result.add_module(name, layer)
    return result.eval()


def _population(model: Mlp, dataset: Dataset, config: c.Config) -> dict[str, tuple[Tensor, Tensor]]:
    """E and Var of each nonlinearity's input: E[μ_B] and m/(m-1)·E[σ²_B] over training batches."""
    images = dataset.train.images
    averages: dict[str, BatchNorm1d] = {}
    for rows in unseen_batches(config.seed, len(images), config.train.batch_size, BATCHES):
        for name, x in _inputs(model, images[rows]).items():
            if name not in averages:
                averages[name] = BatchNorm1d(
                    x.shape[1], momentum=None, affine=False, device=x.device, dtype=x.dtype
                )
            averages[name](x)
    return {
        name: (layer.get_buffer("running_mean"), layer.get_buffer("running_var"))
        for name, layer in averages.items()
    }


@torch.no_grad()
def _inputs(model: Mlp, images: Tensor) -> dict[str, Tensor]:
    """The input of every nonlinearity, float64 (N, U), by its name; the model is in eval mode."""
    inputs: dict[str, list[Tensor]] = {name: [] for name, _ in nonlinearities(model)}
    for chunk in images.split(CHUNK):
        h = chunk.double()
        for name, layer in model.named_children():
            if name in inputs:
                inputs[name].append(h)
            h = layer(h)
    return {name: torch.cat(parts) for name, parts in inputs.items()}


def _changed(plain: Tensor, changed: Tensor, labels: Tensor) -> dict[str, float]:
    return {
        "test_accuracy": accuracy(changed, labels),
        "max_logit_change": (changed - plain).abs().max().item(),
        "predictions_changed": (changed.argmax(1) != plain.argmax(1)).double().mean().item(),
    }
