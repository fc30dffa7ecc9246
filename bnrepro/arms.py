"""Overrides that several claims share, so that they share the runs as well.

Two arms are one run where every setting that is computed with is the same, intervals of evaluation
and probes among them. A claim takes its overrides from here wherever it can.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

NONE, BATCH = "none", "batch"
NORMS = (NONE, BATCH)
"""The two arms of most claims, by the option of `norm`."""

NAMES = {NONE: "without BN", BATCH: "with BN"}
"""What figures and tables call them."""

SMOKE = (
    "dataset=digits", "train.steps=200", "train.eval_every=50", "probe.every=0", "probe.size=100",
    "tensorboard=false",
)  # fmt: skip
"""A run of a second on scikit-learn's digits; after the experiment, before what an arm sets."""

FIG1: Mapping[str, tuple[str, ...]] = {
    "smoke": ("experiment=fig1", *SMOKE, "probe.every=50"),
    "short": ("experiment=fig1", "train.steps=10000"),
    "paper": ("experiment=fig1",),
}
"""The network of Fig. 1, probed, for the paper's 50,000 steps at `paper`: add `norm=…` only."""

GRID: Mapping[str, tuple[str, ...]] = {
    "smoke": ("experiment=fig1", *SMOKE),
    "short": ("experiment=fig1", "train.steps=2000", "train.eval_every=200", "probe.every=0"),
    "paper": ("experiment=fig1", "train.steps=10000", "probe.every=0"),
}
"""The same network for fewer steps and without probes, for everything that is gone over: the paper
gives no number of steps for any of it."""

RATES: Mapping[str, tuple[float, ...]] = {
    "smoke": (0.1, 3.0),
    "short": (0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
    "paper": (0.02, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
}
"""The learning rates of every grid of them: half an order of magnitude apart and less."""


def at_rate(arm: str, rate: float) -> str:
    """The name of an arm at one of several learning rates."""
    return f"{arm} lr={rate:g}"


def over_rates(
    arms: Mapping[str, tuple[str, ...]], rates: Iterable[float]
) -> dict[str, tuple[str, ...]]:
    """Each arm at every learning rate, named by `at_rate`."""
    return {
        at_rate(arm, rate): (*words, f"optimizer.lr={rate}")
        for arm, words in arms.items()
        for rate in rates
    }


def norms(words: tuple[str, ...] = ()) -> dict[str, tuple[str, ...]]:
    """The arms without and with batch normalization, by the names `none` and `batch`."""
    return {norm: (*words, f"norm={norm}") for norm in NORMS}
