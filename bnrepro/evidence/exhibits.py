"""What a claim shows, as data: tables and figures whose drawing is the report's business.

A number that is not finite is drawn as a gap; in a table it is `∞`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Cell = str | float | int | None


@dataclass(frozen=True)
class Table:
    """Rows under columns; a float is shown with four digits, None as nothing."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Line:
    """One curve (P,), with a band from `low` to `high` where they are given.

    `points` draws marks in place of a line, in the color of the line it is `like`: the paper's
    curve over ours.
    """

    label: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    low: Sequence[float] | np.ndarray | None = None
    high: Sequence[float] | np.ndarray | None = None
    points: bool = False
    like: str | None = None


@dataclass(frozen=True)
class Curves:
    """Lines over one axis. `levels` are values of y marked by a thin horizontal line."""

    title: str
    x: str
    y: str
    lines: Sequence[Line]
    log_x: bool = False
    log_y: bool = False
    limits: tuple[float, float] | None = None
    levels: Sequence[float] = ()


@dataclass(frozen=True)
class HeatMap:
    """A value in every cell, `values[row][column]` over `ys` and `xs`; `limits` of the colors."""

    title: str
    x: str
    y: str
    xs: Sequence[float | str]
    ys: Sequence[float | str]
    values: Sequence[Sequence[float]] | np.ndarray
    limits: tuple[float, float] | None = None


@dataclass(frozen=True)
class Bars:
    """Groups of bars side by side: `heights[name][i]` stands over `groups[i]`.

    `ranges[name][i]` are the lowest and the highest of the seeds.
    """

    title: str
    y: str
    groups: Sequence[str]
    heights: Mapping[str, Sequence[float]]
    ranges: Mapping[str, Sequence[tuple[float, float]]] | None = None
    limits: tuple[float, float] | None = None


Panel = Curves | HeatMap | Bars


@dataclass(frozen=True)
class Figure:
    """Panels under one caption, side by side where there is room.

    `name` is that of its files, unique within the claim.
    """

    name: str
    caption: str
    panels: Sequence[Panel]


Exhibit = Table | Figure


def over_seeds(
    label: str, x: Sequence[float] | np.ndarray, values: np.ndarray, *, points: bool = False
) -> Line:
    """The median of values (S, P) over seeds, with a band from the least to the greatest."""
    return Line(label, x, np.median(values, 0), values.min(0), values.max(0), points)
