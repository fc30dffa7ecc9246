"""How far distributions within a network move over training, from the probes' percentiles."""

from collections.abc import Callable, Sequence

import numpy as np

from bnrepro.evidence.runs import Evidence

Track = tuple[np.ndarray, np.ndarray]
"""A layer over training: times (P,) as shares of it, and percentiles (P, U, 3) of every unit."""

Drift = Callable[[np.ndarray], np.ndarray]
"""How far the percentiles (P, U, 3) of every unit went, in units of the unit's spread: (U,)."""


def tracks(evidence: Evidence, arm: str, layer: str) -> list[Track]:
    """A layer's percentiles over training, of every seed.

    Where a run diverged there is one more probe, after the end, and in it no number: the
    distribution went nowhere, infinitely far.
    """
    tracks_of = []
    probed = zip(evidence.runs[arm], evidence.probed(arm, f"{layer}/percentiles"), strict=True)
    for (run, (steps, values)), diverged in zip(probed, evidence.diverged(arm), strict=True):
        times = steps / run.config()["train"]["steps"]
        if diverged:
            times = np.append(times, np.inf)
            values = np.append(values, np.full_like(values[:1], np.nan), axis=0)
        tracks_of.append((times, values))
    return tracks_of


def spread(values: np.ndarray) -> np.ndarray:
    """The 85th less the 15th percentile, the mean over (P, U, 3): (U,)."""
    result: np.ndarray = (values[..., 2] - values[..., 0]).mean(0)
    return result


def wandering(values: np.ndarray) -> np.ndarray:
    """The range of each percentile, the mean of the three, in units of the spread: a `Drift`."""
    return _relative(np.ptp(values, axis=0).mean(-1), spread(values))


def path(values: np.ndarray) -> np.ndarray:
    """All that each percentile goes from probe to probe, to and fro: a `Drift`."""
    return _relative(np.abs(np.diff(values, axis=0)).sum(0).mean(-1), spread(values))


def widening(values: np.ndarray) -> np.ndarray:
    """The range of the spread, in units of its mean: a `Drift` that minds no change of place."""
    return _relative(np.ptp(values[..., 2] - values[..., 0], axis=0), spread(values))


def _relative(distance: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """What stands still has not moved, be its spread 0 or not; what is no number is lost."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(distance == 0, 0.0, distance / unit)
    return np.where(np.isfinite(ratio), ratio, np.inf)


def drifts(
    tracks: Sequence[Track], begin: float = 0.0, end: float = 1.0, how: Drift = wandering
) -> np.ndarray:
    """The drift of every unit between two times of training, of every seed: (S, U)."""
    rows = []
    for times, values in tracks:
        within = (times >= begin) & ((times <= end) | np.isinf(times))
        rows.append(how(values[within].astype(np.float64)))
    return np.stack(rows)
