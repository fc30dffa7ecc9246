"""Figures drawn from measurements alone: arrays in, a matplotlib figure out.

Colors are Okabe and Ito's, which the color-blind can tell apart. Line styles differ as well, so
that a figure can be read in gray.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

BLUE, ORANGE, BLACK, GREY = "#0072B2", "#D55E00", "#000000", "#777777"
DARK = "#111111"
"""The color of what is written on something pale, be the page dark or not."""

INK = "#1a1a1b"
"""The color of text and axes, in whose place an SVG has that of the page's text."""

PALETTE = (BLUE, ORANGE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8F6FD1")
STYLES = ("-", "--", "-.", ":")


@np.errstate(over="ignore", invalid="ignore")  # what diverges is drawn anyway
def typical_unit(percentiles: np.ndarray) -> int:
    """The unit that stands for its layer: its distribution wanders neither more nor less than most.

    Args:
        percentiles: (P, U, 3) over P probes.

    Returns:
        The unit whose wandering, the range of its median over the probes in units of its mean
        spread between the outer percentiles, is the layer's median (the lower of two).
    """
    wander = np.ptp(percentiles[:, :, 1], axis=0)
    spread = (percentiles[:, :, 2] - percentiles[:, :, 0]).mean(0)
    relative = wander / np.maximum(spread, np.finfo(np.float32).tiny)
    order = np.argsort(relative, kind="stable")
    return int(order[(len(order) - 1) // 2])


def quartiles(std: np.ndarray) -> np.ndarray:
    """The units that a quarter, a half and three quarters of all have less spread than: (3,)."""
    order = np.argsort(std, kind="stable")
    return order[[len(std) // 4, len(std) // 2, len(std) * 3 // 4]]


def band(axes: Axes, steps: np.ndarray, percentiles: np.ndarray, color: str, label: str) -> None:
    """The 15th, 50th and 85th percentile of one unit over training, as in Fig. 1b and c.

    Args:
        axes: where to draw.
        steps: (P,).
        percentiles: (P, 3).
        color: of lines and band.
        label: what the legend calls it.
    """
    low, middle, high = percentiles.T
    axes.fill_between(steps, low, high, color=color, alpha=0.18, linewidth=0)
    axes.plot(steps, middle, color=color, linewidth=1.5, label=label)
    axes.plot(steps, low, color=color, linewidth=0.8)
    axes.plot(steps, high, color=color, linewidth=0.8)


def heat_map(
    axes: Axes,
    values: np.ndarray,
    labels: Sequence[Sequence[str]],
    xs: Sequence[str],
    ys: Sequence[str],
    limits: tuple[float, float],
) -> QuadMesh:
    """A value in every cell, written into it; grey where it is no number.

    Args:
        axes: where to draw.
        values: (Y, X), the first row at the bottom.
        labels: what is written into each cell.
        xs: under the columns, X of them.
        ys: labels of the rows, Y of them.
        limits: of the colors.
    """
    low, high = limits
    edges = (np.arange(count + 1) - 0.5 for count in reversed(values.shape))
    image = axes.pcolormesh(*edges, values, cmap="cividis", vmin=low, vmax=high)
    for i, line in enumerate(labels):
        for j, text in enumerate(line):
            pale = not values[i, j] < low + 0.55 * (high - low)  # no number is drawn on pale grey
            axes.text(j, i, text, ha="center", va="center", fontsize=7,
                      color=DARK if pale else "white")  # fmt: skip
    axes.set_facecolor("#dddddd")
    axes.set_xticks(range(len(xs)), xs, fontsize=8)
    axes.set_yticks(range(len(ys)), ys, fontsize=8)
    return image


def empty(figsize: tuple[float, float], **settings: Any) -> Figure:
    """A figure without anything, drawn by matplotlib's own settings: a user's may not fit it.

    Args:
        figsize: width and height in inches.
        settings: what else `matplotlib.figure.Figure` takes.
    """
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcdefaults()
    return Figure(figsize=figsize, **settings)


def png(figure: Figure) -> bytes:
    """A figure as a PNG file, the same bytes each time."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def tip(text: str) -> str:
    """The `gid` of an artist that an SVG shows a text for, under the pointer."""
    return f"tip:{text}"


def svg(figure: Figure, name: str) -> bytes:
    """A figure as an SVG element, the same bytes each time.

    It has no background, its text is text, `INK` is the color of the text around it, and artists
    have their `tip`.

    Args:
        figure: what is drawn.
        name: another one for each figure of a page, whose ids come from it: a pattern of the same
            id in a figure that is folded away would leave bars empty.
    """
    import matplotlib

    settings = {"svg.fonttype": "none", "svg.hashsalt": name}
    buffer = io.BytesIO()
    with matplotlib.rc_context(settings):  # type: ignore[arg-type]
        if layout := figure.get_layout_engine():  # else all is drawn twice, once for this alone
            layout.execute(figure)
            figure.set_layout_engine("none")
        figure.savefig(
            buffer, format="svg", facecolor="none", edgecolor="none",
            metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")),
        )  # fmt: skip
    text = buffer.getvalue().decode()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r'<g id="tip:([^"]*)"', r"<g><title>\1</title", text)
    text = re.sub(r' (width|height)="[^"]*"', "", text, count=2)  # the page's width is its own
    return re.sub(r'<g id="[\w.]+_\d+"', "<g", text).encode()


def activation_bands(
    steps: np.ndarray, layers: dict[str, np.ndarray], title: str, color: str
) -> Figure:
    """Fig. 1b and c for every layer of one run: a unit of each, over training.

    All panels have one axis, of ±2 as in the paper or the first of ±5, ±10, ±20, … that holds all:
    so do most runs that are compared. It can be read at 300 pixels' width.

    Args:
        steps: (P,) of the probes.
        layers: (P, 3) percentiles of the unit by layer.
        title: above the whole figure.
        color: of lines and bands.
    """
    figure = empty((3.0, 1.25 * len(layers) + 0.5), layout="constrained", dpi=200)
    every_axes = figure.subplots(len(layers), 1, squeeze=False, sharex=True)[:, 0]
    values = np.abs(np.concatenate(list(layers.values())))
    largest = float(np.max(values, initial=0.0, where=np.isfinite(values)))
    most = next((m * 10**k for k in range(9) for m in (2, 5, 10) if m * 10**k >= largest), largest)
    for axes, (name, percentiles) in zip(every_axes, layers.items(), strict=True):
        band(axes, steps, percentiles, color, "")
        axes.set_title(f"input of {name}", fontsize=9)
        axes.set_ylim(-most, most)
        axes.tick_params(labelsize=8)
        axes.axhline(0, color=GREY, linewidth=0.5)
    every_axes[-1].set_xlabel("step", fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure
