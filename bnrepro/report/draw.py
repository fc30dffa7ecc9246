"""Draws what claims show: the data of `exhibits` as matplotlib figures.

An arm has the same color and the same kind of line in every panel of a figure, and those of most
claims have them in every figure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bnrepro.evidence.arms import BATCH, NAMES, NONE
from bnrepro.evidence.exhibits import Bars, Curves, Figure, HeatMap, Panel, Table
from bnrepro.evidence.grid import AXES
from bnrepro.plots import GREY, INK, PALETTE, STYLES, empty, heat_map, tip
from bnrepro.report.format import powered

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure as Drawing

WIDTH, HEIGHT = 5.2, 3.6
FEW = 12  # points that can be told apart
TICKS = 18  # values on a logarithmic axis that are named one by one, where there is room
HATCHES = ("", "//", "..", "xx", "\\\\", "++")
MARKS = ("o", "^", "s", "D", "v", "P", "X", "p")
COUNTED = (AXES["layer"], AXES["depth"], "number")  # axes with nothing between whole numbers


class Look(NamedTuple):
    """How a curve or bars are drawn."""

    color: str
    style: str
    mark: str
    hatch: str


PARTS: Sequence[Sequence[str]] = (PALETTE, STYLES, MARKS, HATCHES)
"""What there is to choose from for each part of a look."""

OWN = {NAMES[arm]: Look(*(of[n] for of in PARTS)) for n, arm in enumerate((BATCH, NONE))}
"""The looks of the two arms of most claims."""

INKED: Any = {
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK
    ),
    "axes.facecolor": "none",
    "legend.framealpha": 0.0,
    "legend.edgecolor": "none",
}
"""Nothing behind a figure, so that it can stand on a dark page as well."""


def draw(*panels: Panel) -> list[Drawing]:
    """The panels of a figure, each as a drawing of its own, whose text can be read on a phone.

    What has the same label in two of them looks the same, if there are colors for all of them.
    """
    import matplotlib

    labels = [label for panel in panels for label in dict.fromkeys(_labels(panel))]
    together = looks(labels)
    alike = len(together) < len(labels) and len(together) <= len(PALETTE)
    drawings = []
    for panel in panels:
        looked = together if alike else looks(_labels(panel))
        drawing = empty(_size(panel), layout="constrained", dpi=150)
        with matplotlib.rc_context(INKED):
            drawings.append(_drawn(drawing, panel, looked))
    return drawings


def _labels(panel: Panel) -> list[str]:
    """What looks of its own are given to."""
    if isinstance(panel, Curves):
        return [line.like or line.label for line in panel.lines]
    return list(panel.heights) if isinstance(panel, Bars) else []


def _drawn(drawing: Drawing, panel: Panel, looked: Mapping[str, Look]) -> Drawing:
    axes = drawing.subplots()
    if isinstance(panel, Curves):
        _curves(axes, panel, looked)
    elif isinstance(panel, HeatMap):
        _heat_map(drawing, axes, panel)
    else:
        _bars(drawing, axes, panel, looked)
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


def looks(labels: Sequence[str]) -> dict[str, Look]:
    """The look of each label; the arms' own where they are among them."""
    names = list(dict.fromkeys(labels))
    taken = [OWN[label] for label in names if label in OWN]
    free = [
        [part for part in of if all(part != look[n] for look in taken)]
        for n, of in enumerate(PARTS)
    ]
    others = [label for label in names if label not in OWN]
    chosen = {
        label: Look(*(of[number % len(of)] for of in free)) for number, label in enumerate(others)
    }
    return {label: OWN.get(label) or chosen[label] for label in names}


def _finite(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Gaps for what is not finite."""
    array = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(array), array, np.nan)


def _curves(axes: Axes, panel: Curves, looked: Mapping[str, Look]) -> None:
    few = all(len(line.x) <= FEW for line in panel.lines)
    for line in panel.lines:
        color, style, mark, _ = looked[line.like or line.label]
        x, y = _finite(line.x), _finite(line.y)
        if line.points:
            axes.plot(x, y, mark, color=color, markersize=3.5, markerfacecolor="none",
                      markeredgewidth=0.8, label=line.label, gid=tip(line.label))  # fmt: skip
            continue
        if line.low is not None and line.high is not None:
            low, high = _finite(line.low), _finite(line.high)
            axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
        at_end = f"{line.label}: {y[-1]:.4g} at {x[-1]:g}" if len(x) else line.label
        above = 2 if style == STYLES[0] else 2.1  # a line with gaps does not hide one without
        axes.plot(x, y, style, color=color, linewidth=1.4, label=line.label + _outside(y, panel),
                  gid=tip(at_end), zorder=above)  # fmt: skip
        if few:
            for at, value in zip(x, y, strict=True):
                said = f"{line.label}: {value:.4g} at {at:g}"
                axes.plot([at], [value], mark, color=color, markersize=4, gid=tip(said),
                          zorder=above)  # fmt: skip
    for level in panel.levels:
        axes.axhline(level, color=GREY, linewidth=1.0, linestyle=":")
    if panel.log_x:
        axes.set_xscale("log")
        _say_plainly(axes.xaxis)
        places = sorted({float(x) for line in panel.lines for x in line.x})
        if len(places) <= TICKS:  # the values themselves, and no powers of ten
            axes.set_xticks(places, _apart(places))
            axes.set_xticks([], minor=True)
    elif panel.x in COUNTED:
        axes.locator_params("x", integer=True)
    if panel.log_y:
        axes.set_yscale("log")
        _say_plainly(axes.yaxis)
    if panel.limits:
        axes.set_ylim(*panel.limits)
    axes.set(xlabel=panel.x, ylabel=panel.y)
    if len(panel.lines) > 1:
        axes.legend(fontsize=8)


def _outside(y: np.ndarray, panel: Curves) -> str:
    """What the legend says of a line that cannot be seen."""
    if not panel.limits or np.isnan(y).all():
        return ""
    low, high = panel.limits
    return " (below)" if np.nanmax(y) < low else " (above)" if np.nanmin(y) > high else ""


def _apart(places: Sequence[float]) -> list[str]:
    """Labels of places on a logarithmic axis, the greatest first; none where they would overlap."""
    least = (places[-1] / places[0]) ** 0.07
    labels: list[str] = []
    before = math.inf
    for place in reversed(places):
        shown = before / place >= least
        labels.insert(0, log_label(place) if shown else "")
        before = place if shown else before
    return labels


def _say_plainly(axis: Axis) -> None:
    """Label a logarithmic axis with text: formulas, as by default, take a third of all drawing.

    Which ticks have labels is matplotlib's choice.
    """
    from matplotlib.ticker import LogFormatter

    class Plain(LogFormatter):
        def __call__(self, x: float, pos: int | None = None) -> str:
            return log_label(x) if super().__call__(x, pos) else ""

    every_digit = (1.0, 0.7)  # all minor ticks on a shorter axis than 0.7 decades
    axis.set_major_formatter(Plain(minor_thresholds=every_digit))
    axis.set_minor_formatter(Plain(minor_thresholds=every_digit))


def log_label(value: float) -> str:
    """A number on a logarithmic axis, such as `0.02`, `1,000` or `2·10⁻⁵`."""
    if 1e-4 <= value < 1e5:
        return f"{value:,.10g}"
    return powered(f"{value:.0e}")


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


def _bars(drawing: Drawing, axes: Axes, panel: Bars, looked: Mapping[str, Look]) -> None:
    width = 0.8 / max(1, len(panel.heights))
    places = np.arange(len(panel.groups))
    for number, (name, heights) in enumerate(panel.heights.items()):
        at = places + (number - (len(panel.heights) - 1) / 2) * width
        values = _finite(heights)
        drawn = axes.bar(at, values, width, color=looked[name].color, label=name, edgecolor=INK,
                         linewidth=0.5, hatch=looked[name].hatch, alpha=0.85)  # fmt: skip
        for bar, group, height in zip(drawn, panel.groups, values, strict=True):
            bar.set_gid(tip(f"{name}, {group}: {height:.4g}"))
        if panel.ranges is not None:
            low, high = _finite(np.array(panel.ranges[name], dtype=np.float64)).T
            axes.vlines(at, low, high, color=INK, linewidth=1.2)
    axes.set_xticks(places, panel.groups)
    axes.set_ylabel(panel.y)
    if panel.limits:
        axes.set_ylim(*panel.limits)
    if len(names := list(panel.heights)) > 1:
        columns = max(1, 64 // (6 + max(map(len, names))))  # among bars there is seldom room
        drawing.legend(loc="outside lower center", fontsize=8, ncols=min(columns, len(names)))


def numbers(figure: Figure) -> list[Table]:
    """What a figure's curves and bars show, as a table for each panel; a heat map says it itself.

    Of a curve with many points, `FEW` and one more at the same distance from each other.
    """
    return [
        _curve_numbers(panel) if isinstance(panel, Curves) else _bar_numbers(panel)
        for panel in figure.panels
        if not isinstance(panel, HeatMap)
    ]


def _curve_numbers(panel: Curves) -> Table:
    every = sorted({float(x) for line in panel.lines if not line.points for x in line.x})
    places = np.linspace(0, len(every) - 1, min(len(every), FEW + 1)).round().astype(int)
    values = [
        dict(zip(map(float, line.x), map(float, line.y), strict=True)) for line in panel.lines
    ]
    drawn = [
        (line.label, of) for line, of in zip(panel.lines, values, strict=True) if not line.points
    ]
    rows = [
        (f"{x:g}", *(_cell(of.get(x, np.nan)) for _, of in drawn))
        for x in (every[i] for i in places)
    ]
    return Table(panel.title, (panel.x, *(label for label, _ in drawn)), rows)


def _bar_numbers(panel: Bars) -> Table:
    columns = [list(map(_cell, map(float, heights))) for heights in panel.heights.values()]
    rows = [(str(group), *cells) for group, *cells in zip(panel.groups, *columns, strict=True)]
    return Table(panel.title, ("", *panel.heights), rows)


def _cell(value: float) -> float | None:
    return value if np.isfinite(value) else None
