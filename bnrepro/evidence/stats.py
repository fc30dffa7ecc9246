"""An effect over seeds: its median, the interval of that, and its size.

The statistic is the lower median, an order statistic: it is one of the effects, it is defined where
effects are infinite, and with an even number of seeds it is the value less in favor of the claim.
Its interval lies between two order statistics, from the k-th least effect to the k-th greatest, and
holds the true median, whatever the effects' distribution, with the probability that k and the
number of seeds give: 97.9 % of ten (k = 2), 93.75 % of five and 75 % of three (k = 1: all seeds).

An effect that a run's end cuts off is an interval itself: `effects` has its lower ends, `upper` the
upper ones. Of accuracies there is a second source of chance, the test images that all seeds share:
`redrawn` adds it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

CONFIDENCE = 0.95
"""What the interval of enough seeds covers at least."""

DRAWS = 1000
"""Times that test images, and seeds among them, are drawn again."""

ROUNDING = 1e-9  # of effects, below which they are taken for equal


@dataclass(frozen=True)
class Summary:
    """What the effects (one a seed) come to.

    Args:
        effects: of each seed; of one that is cut off, the least it may be.
        median: the lower median of `effects`.
        interval: of the median; None of a single seed.
        coverage: how probably the interval holds the true median; None of a single seed.
        size: d_z, the mean in units of the standard deviation over seeds; None where that is not a
            number (one seed, an infinite effect, no spread).
        upper: of each seed, the greatest that the effect may be; None where none is cut off.
        images: the interval over seeds and test images, where those were drawn again; `interval`
            is the hull of both, and `coverage` nominal.
    """

    effects: tuple[float, ...]
    median: float
    interval: tuple[float, float] | None
    coverage: float | None
    size: float | None
    upper: tuple[float, ...] | None = None
    images: tuple[float, float] | None = None

    @property
    def bounds(self) -> list[tuple[float, float]]:
        """The least and the greatest that each seed's effect may be."""
        return list(zip(self.effects, self.upper or self.effects, strict=True))

    @property
    def cut_off(self) -> str | None:
        """`at_least` or `at_most` where the median itself is a bound only; else None."""
        if self.upper is None or self.median == lower_median(np.array(self.upper)):
            return None
        return "at_least" if self.median > -math.inf else "at_most"

    @property
    def shown(self) -> float:
        """The median, or the finite bound of one that is cut off."""
        if self.cut_off == "at_most" and self.upper is not None:
            return float(lower_median(np.array(self.upper)))
        return self.median


def summary(
    effects: Sequence[float] | np.ndarray,
    upper: Sequence[float] | np.ndarray | None = None,
    redrawn: np.ndarray | None = None,
) -> Summary:
    """Summarize the effects of all seeds; the same numbers give the same summary.

    Args:
        effects: (S,), of effects that are cut off the lower ends.
        upper: (S,) their upper ends, where some are.
        redrawn: (S, D) the effects of D draws of the test images.

    Raises:
        ValueError: there is no effect, or one is not a number.
    """
    low = np.asarray(effects, np.float64)
    high = low if upper is None else np.asarray(upper, np.float64)
    whole = low.ndim == 1 and len(low) > 0 and low.shape == high.shape
    if not whole or np.isnan([low, high]).any():
        raise ValueError(f"not one number per seed: {effects!r}")
    result = Summary(
        effects=tuple(low.tolist()),
        median=float(lower_median(low)),
        interval=None,
        coverage=None,
        size=_size(low),
        upper=tuple(high.tolist()) if (high > low).any() else None,
    )
    if len(low) < 2:
        return result
    k, coverage = order_statistic(len(low))
    interval = float(np.sort(low)[k - 1]), float(np.sort(high)[-k])
    result = replace(result, interval=interval, coverage=coverage)
    if redrawn is None:
        return result
    images = _redrawn(redrawn)
    hull = min(interval[0], images[0]), max(interval[1], images[1])
    return replace(result, interval=hull, coverage=max(coverage, CONFIDENCE), images=images)


def order_statistic(seeds: int) -> tuple[int, float]:
    """The k of the narrowest interval that covers `CONFIDENCE`, and what it covers.

    Of the k-th least and the k-th greatest of `seeds` effects; 1 where none covers that much.
    """
    total = 2.0**seeds
    tails = np.cumsum([math.comb(seeds, below) for below in range((seeds + 1) // 2)]) / total
    coverages = 1 - 2 * tails  # of k = 1, 2, …
    k = max(1, int((coverages >= CONFIDENCE).sum()))
    return k, float(coverages[k - 1])


def lower_median(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """The middle value, or the lower of the two in the middle."""
    middle: np.ndarray = np.sort(values, axis=axis).take((values.shape[axis] - 1) // 2, axis=axis)
    return middle


@cache
def image_counts(images: int, draws: int = DRAWS) -> np.ndarray:
    """How often each test image is in each of the draws: (images, draws) float32.

    They are the same for every effect, so that those of two arms are compared on the same images.
    """
    rng = np.random.default_rng(1502_03167)
    drawn = rng.integers(images, size=(draws, images))
    counts = [np.bincount(draw, minlength=images) for draw in drawn]
    return np.stack(counts, 1).astype(np.float32)


def _redrawn(effects: np.ndarray) -> tuple[float, float]:
    """The percentile interval of the median over draws of seeds within draws of images (S, D)."""
    chosen = np.random.default_rng(2015).integers(len(effects), size=effects.shape)
    medians = lower_median(np.take_along_axis(np.asarray(effects), chosen, 0), axis=0)
    tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    low, high = np.quantile(medians, tails, method="inverted_cdf")
    return float(low), float(high)


def _size(values: np.ndarray) -> float | None:
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    largest = np.abs(values).max()
    if np.ptp(values) <= ROUNDING * largest:
        return None
    values = values / largest  # the squares of the least numbers would vanish
    return float(values.mean() / values.std(ddof=1))
