"""Gradients of initial weights by layer: arms and measurements that three claims share."""

from collections.abc import Collection, Mapping

import numpy as np

from bnrepro.evidence.arms import NORMS, SMOKE, per_scale
from bnrepro.evidence.deep_arms import hidden
from bnrepro.evidence.exhibits import Figure
from bnrepro.evidence.grid import Array, Grid, curves, grid, whatever
from bnrepro.evidence.rectified_arms import RELU
from bnrepro.evidence.runs import Evidence

_ONE_STEP = (
    "train.steps=1", "train.eval_every=1", "probe.every=1", "probe.size=100", "tensorboard=false",
)  # fmt: skip
WORDS = per_scale(("experiment=fig1", *SMOKE, *_ONE_STEP), ("experiment=fig1", *_ONE_STEP))
"""The gradient that a first step leaves is that of the initial weights."""

DEPTHS: Mapping[str, tuple[int, ...]] = per_scale((3, 6), (3, 12), (3, 6, 9, 12))
"""Hidden layers, of 100 units each."""

FITTING = 0.07
STDS: Mapping[str, tuple[float, ...]] = per_scale(
    (FITTING, 0.7), (0.02, FITTING, 0.7), (0.02, FITTING, 0.2, 0.7, 1.4, 2.8)
)
"""Initial standard deviations of sigmoids, Fig. 1's among them."""

TIMES = (0.3, 1.0, 3.0)
"""Multiples of He's initial standard deviation."""

FIRST = 2
"""The first hidden layer of 100 × 100 weights: the one before has 784 inputs."""


def sigmoids(depths: Collection[int], stds: Collection[float]) -> Grid:
    """Networks of sigmoids; `WORDS` come before."""
    return grid("sigmoids", norm=NORMS, depth=_deep(depths), std=list(stds))


def rectified(depths: Collection[int], times: Collection[float] = TIMES) -> Grid:
    """Networks of rectified units from multiples of He's initial weights; `WORDS` come before."""
    scaled = {of: (*RELU, f"init.scale={of:g}") for of in times}
    return grid("ReLUs", norm=NORMS, depth=_deep(depths), times=scaled)


def _deep(depths: Collection[int]) -> dict[int, tuple[str, ...]]:
    return {depth: (hidden(depth),) for depth in depths}


def of_layers(evidence: Evidence, arm: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Steps (P,) of every seed, and log10 of the norm of each layer's gradient (P, L)."""
    depth = len(evidence.runs[arm][0].config()["model"]["hidden"])
    names = [f"linear{layer}/gradient_norm" for layer in range(FIRST, depth + 1)]
    probed = evidence.probed_each(arm, names)
    with np.errstate(divide="ignore"):
        return [
            (of_seed[0][0], np.log10([np.float64(norms) for _, norms in of_seed]).T)
            for of_seed in zip(*probed, strict=True)
        ]


def initial(evidence: Evidence, arm: str) -> np.ndarray:
    """log10 of the norm of each layer's first gradient (S, L); infinite if the first loss is."""
    return np.stack(
        [
            values[0] if len(values) else np.full(values.shape[1], np.inf)
            for _, values in of_layers(evidence, arm)
        ]
    )


def ends(evidence: Evidence, of: Grid) -> Array:
    """Gradients of the initial weights, in decades, of the first `layer`, 0, and the last, −1."""
    return of.array(evidence, lambda arm: initial(evidence, arm)[:, [0, -1]], layer=(0, -1))


def uneven(ends: Array) -> Array:
    """How far the first layer's gradient is from the last one's; two of nothing, infinitely."""
    with np.errstate(invalid="ignore"):
        return abs(ends.sel(layer=0) - ends.sel(layer=-1)).fillna(np.inf)


def less(values: Array) -> Array:
    """By how much values are less with batch normalization."""
    with np.errstate(invalid="ignore"):
        return whatever(values.sel(norm="none", drop=True) - values.sel(norm="batch", drop=True))


def by_layer(evidence: Evidence, panels: Mapping[str, Grid]) -> Figure:
    """A figure of the gradients of initial weights over the layers, of grids of one arm a norm."""
    return curves(
        "layers", "Gradient of each layer's weights, before the first step",
        {title: _every_layer(evidence, of) for title, of in panels.items()},
        "layer", "norm of the gradient", log_y=True,
    )  # fmt: skip


def _every_layer(evidence: Evidence, of: Grid) -> Array:
    found = {arm: initial(evidence, arm) for arm in of.arms()}
    layers = range(FIRST, FIRST + next(iter(found.values())).shape[1])
    gradients = 10 ** of.array(evidence, found.__getitem__, layer=layers)
    others = [axis for axis in gradients.dims if axis not in ("norm", "seed", "layer")]
    return gradients.squeeze(others, drop=True)
