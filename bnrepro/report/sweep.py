"""A sweep as a picture: what fits its axes, drawn from the members' folders.

Seeds are repetitions and no axis. Two numeric axes make a heat map, side by side for a third axis
of few values; one numeric axis makes a curve with a band over seeds, one for each value of a second
axis of few values; one axis of few values that are no numbers makes curves over training; anything
else is a table.

One rule holds for every mean and band: a diverged run counts as guessing. How many runs diverged,
and how many are missing, is written at the point and in the legend.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnrepro.evidence.runs import aligned, unlike
from bnrepro.plots import PALETTE, STYLES, empty, heat_map, png
from bnrepro.report.format import markdown
from bnrepro.store import FINISHED, StoredRun, atomic
from bnrepro.store.sweep import RESULTS, Results, accuracy, at_chance, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SEED = "seed"
FEW = 4  # values of an axis that still fit side by side
MANY = 100  # rows of the table; all of them are in results.csv

Row = dict[str, Any]


def render(results: Results, out: Path) -> list[Path]:
    """Write `sweep.md`, its picture and `results.csv` into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    written = [out / "sweep.md"]
    lines = [f"# {markdown(' × '.join(results.axes)) or 'One run'}", ""]
    if results.complete:
        lines += [f"**{results.complete}**", ""]
    if (figure := draw(results)) is not None:
        picture = png(figure)
        written.append(out / "sweep.png")
        atomic.write(written[-1], lambda file: file.write(picture), durable=False)
        lines += ["![test accuracy at the last step](sweep.png)", ""]
    lines += _summary(results) + _table(results)
    text = "\n".join(lines) + "\n"
    atomic.write(written[0], lambda file: file.write(text.encode()), durable=False)
    return [*written, write(results, out)]


def draw(results: Results) -> Figure | None:
    """The picture that fits the axes; None where only a table does."""
    axes = {name: values for name, values in results.axes.items() if name != SEED and values[1:]}
    numeric = [name for name, values in axes.items() if all(map(_is_number, values))]
    others = [name for name in axes if name not in numeric]
    if len(numeric) == 3 and not others:  # the one of fewest values goes side by side
        others = [min(numeric, key=lambda name: len(axes[name]))]
        numeric = [name for name in numeric if name not in others]
    few = all(len(axes[name]) <= FEW for name in others)
    if not few or len(others) > 1:
        return None
    side = others[0] if others else None
    if len(numeric) == 2:
        return _heat_maps(results, numeric[0], numeric[1], side)
    if len(numeric) == 1:
        return _curves(results, numeric[0], side)
    return _over_training(results, side) if not numeric else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _at(rows: Iterable[Row], **values: Any) -> list[Row]:
    return [row for row in rows if all(row[name] == value for name, value in values.items())]


def _accuracies(rows: Iterable[Row]) -> list[float]:
    """Final test accuracies of the runs that ended; a diverged run guesses."""
    values = [accuracy(row) for row in rows]
    return [value for value in values if value is not None]


def _heat_maps(results: Results, x: str, y: str, side: str | None) -> Figure:
    """Mean accuracy over seeds; a cell says how many of its runs diverged or are missing."""
    xs, ys = sorted(results.axes[x]), sorted(results.axes[y])
    panels = results.axes[side] if side else [None]
    width = 1.6 + max(2.4, 0.62 * len(xs)) * len(panels)
    figure = empty((width, 1.5 + 0.5 * len(ys)), layout="constrained", dpi=130)
    every_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    greatest = max(_accuracies(results.rows), default=1.0)
    limits = (0.0, max(0.1, math.ceil(greatest * 10) / 10))  # of CIFAR-10 all would be grey up to 1
    for axes, panel in zip(every_axes, panels, strict=True):
        rows = _at(results.rows, **{side: panel}) if side else results.rows
        cells = [[_at(rows, **{x: a, y: b}) for a in xs] for b in ys]
        means = np.array([[_mean(_accuracies(cell)) for cell in line] for line in cells])
        labels = [
            [_said(cell, mean) for cell, mean in zip(line, row, strict=True)]
            for line, row in zip(cells, means, strict=True)
        ]
        image = heat_map(
            axes, means, labels, [f"{v:g}" for v in xs], [f"{v:g}" for v in ys], limits
        )
        axes.set_xlabel(x, fontsize=9)
        if side:
            axes.set_title(f"{side} = {panel}", fontsize=10)
    every_axes[0].set_ylabel(y, fontsize=9)
    bar = figure.colorbar(image, ax=list(every_axes), shrink=0.9)
    bar.set_label("test accuracy at the last step", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    figure.suptitle(_heading(results), fontsize=9)
    return figure


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def _said(cell: list[Row], mean: float) -> str:
    parts = [] if math.isnan(mean) else [f"{mean:.3f}"]
    return "\n".join([*parts, *_not_done(cell, "div.")])


def _not_done(rows: Sequence[Row], diverged: str = "diverged") -> list[str]:
    """How many of these runs diverged, and how many failed or are unfinished."""
    counts = {
        diverged: sum(row["state"] == "diverged" for row in rows),
        "missing": sum(row["state"] not in FINISHED for row in rows),
    }
    return [f"{count}/{len(rows)} {what}" for what, count in counts.items() if count]


def _heading(results: Results) -> str:
    seeds = len(results.axes.get(SEED, [0]))
    steps = sorted({row["steps"] for row in results.rows if row["state"] == "done"})
    length = f"{steps[0]:,} steps" if len(steps) == 1 else ""
    mean = f"mean over {seeds} seeds" if seeds > 1 else "one seed"
    diverged = any(row["state"] == "diverged" for row in results.rows)
    rule = "a diverged run counts as guessing" if diverged else ""
    return ", ".join(part for part in (mean, length, rule, results.complete) if part)


@dataclass(frozen=True)
class _Group:
    """The runs of one line of a figure: those at one value of the axis `side`."""

    number: int
    rows: list[Row]
    label: str
    color: str
    style: str


def _groups(results: Results, side: str | None) -> list[_Group]:
    groups = []
    for number, value in enumerate(results.axes[side] if side else [None]):
        rows = _at(results.rows, **{side: value}) if side else results.rows
        label = "; ".join([*([f"{side} = {value}"] if side else []), *_not_done(rows)])
        color, style = PALETTE[number % len(PALETTE)], STYLES[number % len(STYLES)]
        groups.append(_Group(number, rows, label, color, style))
    return groups


def _legend(axes: Axes, groups: Sequence[_Group]) -> None:
    if any(group.label for group in groups):
        axes.legend(fontsize=8)


def _note(axes: Axes, x: float, y: float, rows: Sequence[Row], group: _Group) -> None:
    """Write at a point of a curve how many of its runs diverged or are missing."""
    if note := "\n".join(_not_done(rows)).replace(" ", "\n"):
        # Curves lie on one another where all diverge: their words go above and below by turns.
        apart, below = divmod(group.number, 2)
        offset = (5 + 20 * apart) * (-1 if below else 1)
        axes.annotate(note, (x, y), (0, offset), textcoords="offset points", ha="center",
                      va="top" if below else "bottom", fontsize=7, color=group.color)  # fmt: skip


def _curves(results: Results, x: str, side: str | None) -> Figure:
    """Accuracy over one numeric axis, with a band from the worst to the best seed."""
    figure = empty((6.4, 3.8), layout="constrained", dpi=130)
    axes = figure.subplots()
    xs, groups = sorted(results.axes[x]), _groups(results, side)
    for group in groups:
        cells = [_at(group.rows, **{x: at}) for at in xs]
        accuracies = [_accuracies(cell) for cell in cells]
        middle = [_mean(values) for values in accuracies]
        low = np.array([min(values, default=math.nan) for values in accuracies])
        high = np.array([max(values, default=math.nan) for values in accuracies])
        axes.fill_between(xs, low, high, color=group.color, alpha=0.2, linewidth=0)
        axes.plot(xs, middle, group.style, color=group.color, marker="o", markersize=3,
                  label=group.label or None)  # fmt: skip
        for at, mean, cell in zip(xs, middle, cells, strict=True):
            if not math.isnan(mean):
                _note(axes, at, mean, cell, group)
    if xs[0] > 0 and xs[-1] / xs[0] >= 20:
        axes.set_xscale("log")
    axes.set(xlabel=x, ylabel="test accuracy at the last step")
    axes.margins(y=0.12)  # room for the words at the points
    _legend(axes, groups)
    gaps = "; gaps: every run is missing" if results.complete else ""
    axes.set_title(f"{_heading(results)}{gaps}", fontsize=9)
    return figure


def _over_training(results: Results, side: str | None) -> Figure | None:
    """Test accuracy over training, a band over seeds for each value.

    A run that diverged guesses from there on.
    """
    figure = empty((6.4, 3.8), layout="constrained", dpi=130)
    axes, drawn = figure.subplots(), False
    groups = _groups(results, side)
    curves = {
        row["member"]: StoredRun(results.folder / row["member"]).curve("test_accuracy")
        for row in results.rows if row["state"] in FINISHED
    }  # fmt: skip
    longest = max((steps for steps, _ in curves.values()), key=len, default=np.array([]))
    for group in groups:
        ended = [row for row in group.rows if row["state"] in FINISHED]
        if not ended:
            continue
        whole = any(row["state"] == "done" for row in ended)
        of_group = [curves[row["member"]] for row in ended]
        steps, values = aligned(of_group, ended[0]["chance"], None if whole else longest)
        low, middle, high = values.min(0), values.mean(0), values.max(0)
        axes.fill_between(steps, low, high, color=group.color, alpha=0.2, linewidth=0)
        axes.plot(steps, middle, group.style, color=group.color, linewidth=1.3,
                  label=group.label or None)  # fmt: skip
        if len(steps):
            _note(axes, steps[-1], middle[-1], group.rows, group)
        drawn = True
    axes.set(xlabel="step", ylabel="test accuracy")
    _legend(axes, groups)
    axes.set_title(_heading(results), fontsize=9)
    return figure if drawn else None


def unlike_members(results: Results) -> list[str]:
    """What made the finished members of a sweep that they do not have in common, a line each."""
    ended = [row["member"] for row in results.rows if row["state"] in FINISHED]
    return unlike(StoredRun(results.folder / member) for member in ended)


def _summary(results: Results) -> list[str]:
    states = [row["state"] for row in results.rows]
    counts = {state: states.count(state) for state in dict.fromkeys(sorted(states))}
    listed_states = ", ".join(f"{count} {state}" for state, count in counts.items())
    notes = [markdown(f"Compared despite {line}.") for line in unlike_members(results)]
    lines = [
        f"{len(states)} members: {listed_states}. All of them: [{RESULTS}]({RESULTS}).",
        *notes,
    ]
    return [line for each in lines for line in (each, "")]


def _table(results: Results) -> list[str]:
    """The best members first."""
    columns = [*results.axes, "state", "test accuracy", "best", "steps to .97"]
    lines = [f"| {' | '.join(map(markdown, columns))} |", f"|{' --- |' * len(columns)}"]
    for row in results.best_first()[:MANY]:
        values = [markdown(str(row[axis])) for axis in results.axes]
        final = _number(row["test_accuracy"]) + (" (chance)" if at_chance(row) else "")
        values += [row["state"], final, _number(row["best_test_accuracy"])]
        values.append(str(row["steps_to_0.97"] or ""))
        lines.append(f"| {' | '.join(values)} |")
    if len(results.rows) > MANY:
        lines.append(f"\nand {len(results.rows) - MANY} more in {RESULTS}")
    return lines


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
