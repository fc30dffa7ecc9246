"""Overrides that several claims share, so that they share the runs as well.

Two arms are one run where every setting that is computed with is the same, intervals of evaluation
and probes among them. A claim takes its overrides from here wherever it can.
"""

import math
from collections.abc import Mapping
from typing import TypeVar

NONE, BATCH = "none", "batch"
NORMS = (NONE, BATCH)
"""The two arms of most claims, by the option of `norm`."""

NAMES = {NONE: "without BN", BATCH: "with BN"}
"""What figures and tables call them."""

T = TypeVar("T")


def per_scale(smoke: T, short: T, paper: T | None = None) -> dict[str, T]:
    """What there is at each scale; at `paper` the same as at `short` where nothing else is said."""
    return {"smoke": smoke, "short": short, "paper": short if paper is None else paper}


SEEDS = per_scale(1, 3, 10)
"""How many seeds every arm of a claim has on MNIST: the interval of ten covers 97.9 %."""

CHOICE_SEEDS, FIRST_OF_CHOICE = per_scale(1, 3, 5), 20
"""Seeds, from 20 on, of a claim that chooses the settings at which another is judged."""

CIFAR_SEEDS = per_scale(1, 3, 5)
"""The same on CIFAR-10, where a run takes a hundred times as long: 93.75 %."""


def spaced(a_decade: int, first: float, last: float) -> tuple[float, ...]:
    """Numbers at equal ratios, of two digits each."""
    low, high = (round(a_decade * math.log10(end)) for end in (first, last))
    return tuple(float(f"{10 ** (number / a_decade):.2g}") for number in range(low, high + 1))


SMOKE = (
    "dataset=digits", "train.steps=200", "train.eval_every=50", "probe.every=0", "probe.size=100",
    "tensorboard=false",
)  # fmt: skip
"""A run of a second on scikit-learn's digits; after the experiment, before what an arm sets."""

COMPILED = ("train.compile=true", "train.eval_every=1000", "tensorboard=false")
"""A long run of a small network: an evaluation takes as long as 100 compiled steps, so that they
take a tenth of it."""

FIG1: Mapping[str, tuple[str, ...]] = {
    "smoke": ("experiment=fig1", *SMOKE, "probe.every=50"),
    "short": ("experiment=fig1", "train.steps=10000"),
    "paper": ("experiment=fig1", *COMPILED),
}
"""The network of Fig. 1, probed, for the paper's 50,000 steps at `paper`: add `norm=…` only."""

GRID: Mapping[str, tuple[str, ...]] = {
    "smoke": ("experiment=fig1", *SMOKE),
    "short": ("experiment=fig1", "train.steps=2000", "train.eval_every=200", "probe.every=0"),
    "paper": ("experiment=fig1", *COMPILED, "train.steps=10000", "probe.every=0"),
}
"""The same network for fewer steps and without probes, for everything that is gone over: the paper
gives no number of steps for any of it."""

PROBED: Mapping[str, tuple[str, ...]] = {
    "smoke": (*GRID["smoke"], "probe.every=50"),
    "short": (*GRID["short"], "probe.every=100"),
    "paper": (*GRID["paper"], "probe.every=500"),
}
"""`GRID` with probes, 21 of them and the smoke's 5."""

PROBED_LRS: Mapping[str, tuple[float, ...]] = per_scale((0.1, 3.0), (0.1, 0.3, 1.0, 3.0))

_RECTIFIED = ("model.activation=relu", "init=he")
_FEW = ("dataset.limit=2048", "train.eval_every=1024", "probe.every=0")

SMALL: Mapping[str, tuple[str, ...]] = per_scale(
    (*_RECTIFIED, *SMOKE, "dataset.limit=1024"), (*_RECTIFIED, *_FEW)
)
"""Rectified units, as in §4.2, on so few images that the network learns them by heart: for what
is to regularize. Of 2,048 images every power of 2 makes whole batches."""
