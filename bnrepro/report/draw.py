"""Draws what claims show: the data of `exhibits` as matplotlib figures, the same bytes each time.

An arm has the same color and the same kind of line in every figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bnrepro.evidence.arms import BATCH, NAMES, NONE
from bnrepro.evidence.exhibits import Bars, Curves, HeatMap, Panel
from bnrepro.plots import BLACK, BLUE, GREY, ORANGE, PALETTE, STYLES, empty, heat_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

WIDTH, HEIGHT = 5.2, 3.6
FEW = 12  # points that can be told apart
HATCHES = ("", "//", "..", "xx", "\\\\", "++")
MARKS = ("o", "^", "s", "D", "v", "P")

OWN = {NAMES[BATCH]: (BLUE, STYLES[0]), NAMES[NONE]: (ORANGE, STYLES[1])}
"""Color and line of the two arms of most claims."""


def draw(panel: Panel) -> Drawing:
    """A panel as a figure of its own, whose text can be read on a phone."""
    drawing = empty(_size(panel), layout="constrained", dpi=150)
    axes = drawing.subplots()
    if isinstance(panel, Curves):
        _curves(axes, panel)
    elif isinstance(panel, HeatMap):
        _heat_map(drawing, axes, panel)
    else:
        _bars(axes, panel)
    axes.set_title(panel.title, fontsize=10)
    axes.xaxis.label.set_fontsize(9)
    axes.yaxis.label.set_fontsize(9)
    axes.tick_params(which="both", labelsize=8)
    return drawing


def _size(panel: Panel) -> tuple[float, float]:
    """Width and height in inches: room for a heat map's numbers."""
    if isinstance(panel, HeatMap):
        return max(WIDTH, 1.5 + 0.5 * len(panel.xs)), max(2.4, 1.2 + 0.36 * len(panel.ys))
    if isinstance(panel, Bars):
        return max(WIDTH, 1.0 + 0.2 * len(panel.groups) * len(panel.heights)), HEIGHT
    return WIDTH, HEIGHT


def looks(labels: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Color and line style of each label; the arms' own where they are among them."""
    taken = [OWN[label] for label in labels if label in OWN]
    colors = [color for color in PALETTE if not any(color == fixed for fixed, _ in taken)]
    chosen, number = {}, 0
    for label in dict.fromkeys(labels):
        if label in OWN:
            chosen[label] = OWN[label]
            continue
        style = STYLES[(number + len(taken)) % len(STYLES)]
        chosen[label] = colors[number % len(colors)], style
        number += 1
    return chosen


def _finite(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Gaps for what is not finite."""
    array = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(array), array, np.nan)


def _curves(axes: Axes, panel: Curves) -> None:
    looked = looks([line.like or line.label for line in panel.lines])
    marks = {label: MARKS[number % len(MARKS)] for number, label in enumerate(looked)}
    few = all(len(line.x) <= FEW for line in panel.lines)
    for line in panel.lines:
        like = line.like or line.label
        color, style = looked[like]
        x, y = _finite(line.x), _finite(line.y)
        if line.points:
            axes.plot(x, y, marks[like], color=color, markersize=3.5, markerfacecolor="none",
                      markeredgewidth=0.8, label=line.label)  # fmt: skip
            continue
        if line.low is not None and line.high is not None:
            low, high = _finite(line.low), _finite(line.high)
            axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
        axes.plot(x, y, style, color=color, linewidth=1.4, label=line.label,
                  marker=marks[like] if few else "", markersize=4)  # fmt: skip
    for level in panel.levels:
        axes.axhline(level, color=GREY, linewidth=0.6, linestyle=":")
    if panel.log_x:
        axes.set_xscale("log")
        if few:  # the values themselves, and no powers of ten
            places = sorted({float(x) for line in panel.lines for x in line.x})
            axes.set_xticks(places, [f"{place:g}" for place in places])
            axes.set_xticks([], minor=True)
    if panel.log_y:
        axes.set_yscale("log")
    if panel.limits:
        axes.set_ylim(*panel.limits)
    axes.set(xlabel=panel.x, ylabel=panel.y)
    if len(panel.lines) > 1:
        axes.legend(fontsize=8)


def _heat_map(drawing: Drawing, axes: Axes, panel: HeatMap) -> None:
    values = _finite(np.asarray(panel.values, dtype=np.float64))
    finite = values[np.isfinite(values)]
    limits = panel.limits or ((finite.min(), finite.max()) if len(finite) else (0.0, 1.0))
    cells = [[f"{value:.3g}" if np.isfinite(value) else "" for value in row] for row in values]
    xs, ys = (
        [v if isinstance(v, str) else f"{v:g}" for v in names] for names in (panel.xs, panel.ys)
    )
    image = heat_map(axes, values, cells, xs, ys, limits)
    axes.set(xlabel=panel.x, ylabel=panel.y)
    bar = drawing.colorbar(image, ax=axes, shrink=0.9)
    bar.ax.tick_params(labelsize=8)


def _bars(axes: Axes, panel: Bars) -> None:
    looked = looks(list(panel.heights))
    width = 0.8 / max(1, len(panel.heights))
    places = np.arange(len(panel.groups))
    for number, (name, heights) in enumerate(panel.heights.items()):
        at = places + (number - (len(panel.heights) - 1) / 2) * width
        values = _finite(heights)
        axes.bar(at, values, width, color=looked[name][0], label=name, edgecolor=BLACK,
                 linewidth=0.5, hatch=HATCHES[number % len(HATCHES)], alpha=0.85)  # fmt: skip
        if panel.ranges is not None:
            low, high = _finite(np.array(panel.ranges[name], dtype=np.float64)).T
            axes.vlines(at, low, high, color=BLACK, linewidth=1.2)
    axes.set_xticks(places, panel.groups)
    axes.set_ylabel(panel.y)
    if panel.limits:
        axes.set_ylim(*panel.limits)
    if len(panel.heights) > 1:
        axes.legend(fontsize=8)
