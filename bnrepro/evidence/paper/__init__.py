"""The paper's Figure 1 as numbers, read off its vector graphics; `fig2` has Figures 2 and 3.

Reading error: about ±0.003 in accuracy and ±300 steps.
"""

import csv
from collections import defaultdict
from functools import cache
from importlib.resources import files

import numpy as np

TARGET = 0.972
"""The accuracy that the paper's network without batch normalization ends with (Fig. 1a)."""

CURVES = {"none": ("without_bn", "b_without_bn"), "batch": ("with_bn", "c_with_bn")}
"""The names of the arms, `norm` here, in the paper's curves: of Fig. 1a, and of Fig. 1b or c."""


@cache
def accuracy(norm: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and test accuracies of one curve of Fig. 1a; `norm` is none or batch."""
    points = [row for row in rows("fig1a.csv") if row["curve"] == CURVES[norm][0]]
    steps = np.array([float(row["step"]) for row in points])
    return steps, np.array([float(row["test_acc"]) for row in points])


@cache
def percentiles(norm: str) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Steps and values of the 15th, 50th and 85th percentile of Fig. 1b (none) or c (batch).

    The paper's axis has no numbers here; that it is the one of Fig. 1a is an assumption.
    """
    curves: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for row in rows("fig1bc.csv"):
        if row["panel"] == CURVES[norm][1]:
            point = float(row["step_if_axis_is_0_50000"]), float(row["value"])
            curves[int(row["percentile"])].append(point)
    return {
        percentile: (np.array(points)[:, 0], np.array(points)[:, 1])
        for percentile, points in curves.items()
    }


def rows(name: str) -> list[dict[str, str]]:
    """The rows of one of this package's CSV files, by its name."""
    text = files(__name__).joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def distance(steps: np.ndarray, accuracies: np.ndarray, norm: str) -> float | None:
    """Root mean square distance of a curve to the points of Fig. 1a, at their steps.

    Points after the curve's last step are left out. None where these are more than half: early
    points say little, and runs of different lengths would be ranked by different ones.
    """
    at, expected = accuracy(norm)
    covered = at <= steps[-1]
    if 2 * np.count_nonzero(covered) < len(at):
        return None
    ours = np.interp(at[covered], steps, accuracies)
    return float(np.sqrt(np.mean((ours - expected[covered]) ** 2)))


def first_step(steps: np.ndarray, accuracies: np.ndarray, target: float = TARGET) -> int | None:
    """The first step at or above an accuracy; None where it is never reached."""
    reached = np.flatnonzero(accuracies >= target)
    return int(steps[reached[0]]) if len(reached) else None
