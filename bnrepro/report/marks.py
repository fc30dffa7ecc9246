"""Where an effect, its interval, its seeds and its margin stand on a line: the report's plots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bnrepro.evidence.judge import Judged
from bnrepro.report.format import FACTORS, plain, plain_number

EDGE = 4.0
"""Percent of a strip's width that is left at both ends, for what is infinitely far away."""


@dataclass(frozen=True)
class Row:
    """One row of the forest plot: places in percent of its width."""

    low: float
    high: float
    at: float | None
    zero: float
    margins: Sequence[float]
    paper: float | None


@dataclass(frozen=True)
class Mark:
    """Something on a line: its place in percent of the width, and what it is."""

    at: float
    text: str
    kind: str = ""


@dataclass(frozen=True)
class Strip:
    """Every seed of one effect on a line, with what it is compared to."""

    seeds: Sequence[Mark]
    levels: Sequence[Mark]
    ticks: Sequence[Mark]
    low: float
    high: float


def row(judged: Judged) -> Row | None:
    """An effect and its interval in units of the margin, or of the indifference where that is 0.

    Compressed towards both ends, so that what is infinite has a place: 0 in the middle, the unit
    at a quarter from there to the end.
    """
    if judged.summary.interval is None:
        return None
    margin = judged.criterion.margin.value
    unit = abs(margin) or judged.criterion.width or 1.0

    def place(value: float) -> float:
        scaled = value / unit
        share = math.copysign(1.0, scaled) if math.isinf(scaled) else scaled / (1 + abs(scaled))
        return round(50 + share * (50 - EDGE), 2)

    low, high = judged.summary.interval
    shown, cut_off = judged.summary.shown, judged.summary.cut_off
    at = None if cut_off and math.isinf(shown) else place(shown)
    paper = judged.criterion.paper
    return Row(
        place(low),
        place(high),
        at,
        place(0.0),
        [place(margin), *([place(-margin)] if judged.criterion.equivalence else [])],
        None if paper is None else place(paper),
    )


def strip(judged: Judged) -> Strip | None:
    """Every seed, the interval, zero, the margin and the paper's number on one axis."""
    criterion, summary = judged.criterion, judged.summary
    unit, margin = criterion.margin.unit, criterion.margin.value
    levels = [(margin, "margin", "margin"), *([(0.0, "", "zero")] if margin else [])]
    if criterion.equivalence:
        levels.append((-margin, "margin", "margin"))
    if criterion.paper is not None:
        levels.append((criterion.paper, "the paper", "paper"))
    ends = [
        *(value for value, _, _ in levels),
        *(bound for bounds in summary.bounds for bound in bounds),
    ]
    finite = [value for value in ends if math.isfinite(value)]
    least, most = min(finite), max(finite)
    room = 0.06 * (most - least) or 1.0
    least, most = least - room, most + room

    def place(value: float) -> float:
        share = (min(max(value, least), most) - least) / (most - least)
        at = EDGE + (100 - 2 * EDGE) * share
        return 2.0 if value == -math.inf else 98.0 if value == math.inf else round(at, 2)

    seeds = [
        Mark(place(bounds[kind == "most"]), _told(*bounds, unit), kind)
        if (kind := _cut_off(*bounds)) != "neither" else Mark(50.0, _told(*bounds, unit), kind)
        for bounds in summary.bounds
    ]  # fmt: skip
    interval = summary.interval or (summary.median, summary.median)
    return Strip(
        seeds,
        [Mark(place(value), name, kind) for value, name, kind in levels],
        [Mark(place(tick), plain_number(tick, unit)) for tick in _ticks(least, most, unit)],
        place(interval[0]),
        place(interval[1]),
    )


def _ticks(least: float, most: float, unit: str) -> list[float]:
    """Round values between two ends; of a logarithm, those whose ratio is round."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    if base := FACTORS.get(unit):
        decades = (most - least) * math.log10(base)
        subs = [1, 1.5, 2, 3, 5, 7] if decades < 1 else [1, 2, 5] if decades < 2 else [1]
        found = LogLocator(10, subs, numticks=6).tick_values(base**least, base**most)
        ticks = [math.log(value, base) for value in found]
    else:
        ticks = list(map(float, MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(least, most)))
    return [tick for tick in ticks if least <= tick <= most]


def _cut_off(low: float, high: float) -> str:
    """What of a seed's effect is known only: the `least` or `most` that it is, or `neither`."""
    if low == high:
        return ""
    if math.isfinite(low):
        return "least"
    return "most" if math.isfinite(high) else "neither"


def _told(low: float, high: float, unit: str) -> str:
    texts = {"": plain(low, unit), "least": f"at least {plain(low, unit)}",
             "most": f"at most {plain(high, unit)}", "neither": "neither arrives"}  # fmt: skip
    return texts[_cut_off(low, high)]
