"""An effect over seeds: its median, a bootstrap interval and its size.

The statistic is the lower median, an order statistic: it is one of the effects, it is defined where
effects are infinite (a network that never reached an accuracy took infinitely many steps), and with
an even number of seeds it is the value less in favour of the claim. The interval is the percentile
interval of a seeded bootstrap, which with five seeds reaches from the least effect to the greatest:
a verdict needs all five. Whatever the effects' distribution, so wide an interval of five holds its
median 15 times in 16.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 9999
SEED = 1502_03167
ROUNDING = 1e-9  # of effects, below which they are taken for equal


@dataclass(frozen=True)
class Summary:
    """What the effects (one a seed) come to.

    `interval` is None for a single seed; `size` is d_z, the mean in units of the standard deviation
    over seeds, and None where that is not a number (one seed, an infinite effect, no spread).
    """

    effects: tuple[float, ...]
    median: float
    interval: tuple[float, float] | None
    size: float | None


def summary(effects: Sequence[float] | np.ndarray) -> Summary:
    """Summarize the effects of all seeds; the same numbers give the same summary.

    Raises:
        ValueError: there is no effect, or one is not a number.
    """
    values = np.asarray(effects, dtype=np.float64)
    if values.ndim != 1 or not len(values) or np.isnan(values).any():
        raise ValueError(f"not one number per seed: {effects!r}")
    return Summary(
        tuple(values.tolist()), float(lower_median(values)), _interval(values), _size(values)
    )


def lower_median(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """The middle value, or the lower of the two in the middle."""
    middle: np.ndarray = np.sort(values, axis=axis).take((values.shape[axis] - 1) // 2, axis=axis)
    return middle


def _interval(values: np.ndarray) -> tuple[float, float] | None:
    from scipy.stats import bootstrap

    if len(values) < 2:
        return None
    # Of ranks, which an order statistic commutes with: no arithmetic with infinite effects.
    ordered = np.sort(values)
    result = bootstrap(
        (np.arange(len(values), dtype=np.float64),),
        lower_median,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(SEED),
    )
    tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    low, high = np.quantile(result.bootstrap_distribution, tails, method="inverted_cdf")
    return float(ordered[int(low)]), float(ordered[int(high)])


def _size(values: np.ndarray) -> float | None:
    from scipy.stats import ttest_1samp

    if len(values) < 2 or not np.isfinite(values).all():
        return None
    if np.ptp(values) <= ROUNDING * np.abs(values).max():
        return None
    size = float(ttest_1samp(values, 0.0).statistic) / math.sqrt(len(values))
    return size if math.isfinite(size) else None
