"""Arms by coordinates, and what was measured of them as arrays with the same axes and `seed`.

cells = grid(norm=NORMS, lr=(0.1, 1.0))
test = cells.final(evidence)                    # (norm, lr, seed)
lr = best(cells.final(evidence, VALIDATION))    # of each norm the lr of its highest mean
tuned = test.sel(lr=lr)                         # (norm, seed)
effect = tuned.sel(norm="batch") - tuned.sel(norm="none")
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import xarray as xr

from bnrepro.config import flat
from bnrepro.evidence import stats
from bnrepro.evidence.arms import NAMES
from bnrepro.evidence.exhibits import Bars, Curves, Figure, HeatMap, Line, Table, over_seeds
from bnrepro.evidence.runs import (
    CHANCE,
    TEST,
    TRAIN,
    VALIDATION,
    Evidence,
    aligned,
    log_ratio,
    median_range,
)

Array = xr.DataArray
Labelled = TypeVar("Labelled", xr.DataArray, xr.Dataset)

SETTINGS = {
    "norm": "norm", "lr": "optimizer.lr", "dropout": "model.dropout", "std": "init.scale",
    "size": "train.batch_size",
}  # fmt: skip
"""Axes whose values are those of a setting; of any other, each value has its overrides."""


AXES = {
    "norm": "arm", "lr": "learning rate", "size": "batch size", "depth": "hidden layers",
    "std": "initial standard deviation", "init": "initial weights", "layer": "hidden layer",
    "ghost": "images normalized together", "times": "multiple of He's initial weights",
}  # fmt: skip
"""What axes are called in figures and tables, where it is not their name."""

LOGARITHMIC = ("lr", "std", "size", "ghost")


@dataclass(frozen=True)
class Grid:
    """Every combination of the values of some axes.

    Args:
        axes: by name, the overrides of each value.
        label: what tells these arms from those of another grid with the same axes.
        chosen: of axes that are no longer gone over, the coordinate by those of the others.
    """

    axes: Mapping[str, Mapping[Any, tuple[str, ...]]]
    label: str = ""
    chosen: Mapping[str, Array] = field(default_factory=dict)

    def arms(self, *words: str) -> dict[str, tuple[str, ...]]:
        """The overrides of every arm, by its name; `words` come before the axes' own."""
        return {
            self.arm(*values): (*words, *itertools.chain.from_iterable(
                self.axes[axis][value] for axis, value in zip(self.axes, values, strict=True)
            ))
            for values in itertools.product(*self.axes.values())
        }  # fmt: skip

    def arm(self, *values: Any) -> str:
        """The name of the arm at a value of each axis, in their order."""
        at = dict(zip(self._coords(), values, strict=True))
        for axis, coordinate in sorted(self.chosen.items(), key=lambda item: item[1].ndim):
            at[axis] = coordinate.sel({str(name): at[str(name)] for name in coordinate.dims}).item()
        shown = {k: f"{value:g}" if isinstance(value, float) else value for k, value in at.items()}
        pairs = (f"{axis}={shown[axis]}" for axis in self.axes)
        return " ".join([*pairs, *([self.label] if self.label else [])])

    def at(self, **chosen: Array | float | str) -> Grid:
        """The arms at one coordinate of some axes, which may differ between those of the others."""
        given = {axis: Array(coordinate) for axis, coordinate in chosen.items()}
        return replace(self, chosen={**self.chosen, **given})

    def final(self, evidence: Evidence, name: str = TEST, *, diverged: float = CHANCE) -> Array:
        """A number of the summaries, at the last step; that of a diverged run as stated."""
        return self.array(evidence, lambda arm: evidence.final(arm, name, diverged=diverged))

    def over_images(
        self, evidence: Evidence, effects: Callable[[Array], Mapping[str, Array]]
    ) -> Mapping[str, Array]:
        """What effects come to on test images that are drawn again: along an axis `draw`.

        Args:
            evidence: of the runs.
            effects: from `final` test accuracies, with the axis `draw` besides.

        Returns:
            Nothing where a run does not tell which images its network gets right.
        """
        drawn = {arm: evidence.redrawn(arm) for arm in self._arms() if arm in evidence.runs}
        if any(of_arm is None for of_arm in drawn.values()):
            return {}
        draws = range(stats.DRAWS)
        return effects(self.array(evidence, lambda arm: np.asarray(drawn[arm]), draw=draws))

    def diverged(self, evidence: Evidence) -> Array:
        """Whether the loss was not finite at some step."""
        return self.array(evidence, evidence.diverged) == 1

    def setting(self, evidence: Evidence, name: str) -> Array:
        """A number of the configuration, by its dotted name."""

        def read(arm: str) -> np.ndarray:
            return np.array([flat(run.config())[name] for run in evidence.runs[arm]], float)

        return self.array(evidence, read)

    def curves(self, evidence: Evidence, name: str = TEST) -> Array:
        """A metric over training; a diverged run guesses from there on."""
        return self.over_training(
            evidence, lambda arm: [run.curve(name) for run in evidence.runs[arm]], CHANCE
        )

    def over_training(
        self,
        evidence: Evidence,
        read: Callable[[str], Sequence[tuple[np.ndarray, np.ndarray]]],
        diverged: float = np.nan,
    ) -> Array:
        """What `read` makes of every arm, steps and values (P,) of each seed, with axis `step`.

        Where a run that diverged has no more values, they are as stated.
        """
        found = {arm: read(arm) for arm in self._arms() if arm in evidence.runs}
        steps = max((steps for of_seeds in found.values() for steps, _ in of_seeds), key=len)
        return self.array(
            evidence, lambda arm: aligned(found[arm], diverged, steps)[1], step=steps.tolist()
        )

    def runs(self, evidence: Evidence) -> xr.Dataset:
        """What most claims ask for, by name.

        The last accuracies `test`, `validation` and `training`; `diverged`; over training the
        validation `curve`.
        """
        named = {"test": TEST, "validation": VALIDATION, "training": TRAIN}
        arrays = {name: self.final(evidence, metric) for name, metric in named.items()}
        curve = self.curves(evidence, VALIDATION)
        return xr.Dataset({**arrays, "diverged": self.diverged(evidence), "curve": curve})

    def select(self, **axes: Sequence[Any]) -> Grid:
        """A part of the grid: only these values of some axes."""
        kept = {
            axis: {value: values[value] for value in axes.get(axis, values)}
            for axis, values in self.axes.items()
        }
        return replace(self, axes=kept)

    def array(
        self, evidence: Evidence, read: Callable[[str], np.ndarray], **more: Collection[Any]
    ) -> Array:
        """What `read` makes of every arm, (seed, *more), with the grid's axes; NaN if not run."""
        coords = {**self._coords(), "seed": list(evidence.seeds)}
        coords |= {axis: list(values) for axis, values in more.items()}
        shape = [len(values) for values in coords.values()]
        absent = np.full(shape[-len(more) - 1 :], np.nan)
        rows = [read(arm) if arm in evidence.runs else absent for arm in self._arms()]
        return Array(np.reshape(rows, shape), coords, list(coords))

    def _coords(self) -> dict[str, list[Any]]:
        """The values of every axis that is gone over."""
        return {axis: list(of) for axis, of in self.axes.items() if axis not in self.chosen}

    def _arms(self) -> list[str]:
        return [self.arm(*values) for values in itertools.product(*self._coords().values())]


def grid(label: str = "", /, **axes: Sequence[Any] | Mapping[Any, tuple[str, ...]]) -> Grid:
    """Every combination of values: of a setting, or names with the overrides of each."""
    return Grid(
        {
            axis: values if isinstance(values, Mapping)
            else {value: (f"{SETTINGS[axis]}={value}",) for value in values}
            for axis, values in axes.items()
        },
        label,
    )  # fmt: skip


def stack(arrays: Mapping[Any, Labelled], axis: str = "norm") -> Labelled:
    """Arrays side by side along a new axis, whose coordinates are their keys."""
    result: Labelled = xr.concat(list(arrays.values()), pd.Index(list(arrays), name=axis))
    return result


def doublings(a: Array, b: Array) -> Array:
    """`log_ratio` of arrays, aligned by their axes."""
    result: Array = xr.apply_ufunc(log_ratio, a, b)
    return result


def times_fewer(slow: Array, quick: Array, beyond: float) -> Array:
    """`doublings` of slow ÷ quick; with an axis `bound`, for some are cut off.

    What is cut off is infinite, and `beyond` at the least: the step after the last one, of runs
    that end before they arrive. So the ratio is at least that of `beyond` where `slow` is cut off,
    and at most where `quick` is. Where both are, it may be any.
    """
    bounds = {
        "least": doublings(slow.where(np.isfinite(slow), beyond), quick),
        "greatest": doublings(slow, quick.where(np.isfinite(quick), beyond)),
    }
    return stack(bounds, "bound")


def decades(a: Array, b: Array) -> Array:
    """The same to the base 10."""
    result: Array = xr.apply_ufunc(log_ratio, a, b, 10)
    return result


def digits(deviation: Array) -> Array:
    """Decimal digits in which two things agree that are relatively so far apart."""
    return decades(xr.ones_like(deviation), deviation)


def after_start(curve: Array) -> Array:
    """A curve after step 0; where every run diverged before it was seen again, it guesses once."""
    later = curve.isel(step=slice(1, None))
    return later if later.sizes["step"] else later.reindex(step=[1], fill_value=CHANCE)


def steps_to(curve: Array, target: Array | float, diverged: Array) -> Array:
    """The first step at or above a target; infinite if it is never reached, or the run diverged."""
    first = curve["step"].where(curve >= target).min("step").fillna(np.inf)
    return first.where(~diverged, np.inf)


def best(validation: Array, axis: str = "lr") -> Array:
    """The coordinate of the highest mean over seeds; of equals, the first."""
    return validation.mean("seed").idxmax(axis)


def needed(validation: Array, axis: str, error: float) -> Array:
    """The least coordinate whose validation accuracy is within `error` of the best one's."""
    enough = validation >= validation.max(axis) - error
    return validation[axis].where(enough).min(axis)


def lines(values: Array, x: str, by: str = "norm", names: Mapping[Any, str] = NAMES) -> list[Line]:
    """A line over `x` for each coordinate of `by`, as `over_seeds` makes it, where it was run."""
    drawn = []
    for key in values[by].to_numpy().tolist():
        line = values.sel({by: key}).transpose("seed", x).dropna(x, how="all")
        drawn.append(over_seeds(names.get(key, str(key)), line[x].to_numpy(), line.to_numpy()))
    return drawn


def curves(
    name: str,
    caption: str,
    panels: Mapping[str, Array],
    x: str,
    y: str | Sequence[str],
    by: str = "norm",
    *,
    more: str = "",
    names: Mapping[Any, str] = NAMES,
    **options: Any,
) -> Figure:
    """A figure of curves over an axis, a line for each coordinate of another.

    Args:
        name: of the figure's files.
        caption: of the figure, to which is added what line and band are.
        panels: arrays by the titles of their panels.
        x: the axis along which curves go; a logarithmic one where its values are ratios.
        y: what the values are, of all panels or of each.
        by: the axis that has a line for each of its coordinates.
        more: further sentences of the caption.
        names: what those coordinates are called.
        options: of every `Curves`.
    """
    ys = [y] * len(panels) if isinstance(y, str) else y
    options = {"log_x": x in LOGARITHMIC, **options}
    drawn = [
        Curves(title, AXES.get(x, x), of, lines(values, x, by, names), **options)
        for (title, values), of in zip(panels.items(), ys, strict=True)
    ]
    return Figure(name, f"{caption}: median over seeds, band from least to greatest.{more}", drawn)


def bars(
    title: str, y: str, values: Mapping[str, Array], x: str,
    limits: tuple[float, float] | None = None,
) -> Bars:  # fmt: skip
    """A bar for each array over every coordinate of an axis: median, and range over the seeds."""
    found = {
        name: [median_range(row) for row in array.transpose(x, "seed").to_numpy()]
        for name, array in values.items()
    }
    heights = {name: [middle for middle, _, _ in of] for name, of in found.items()}
    ranges = {name: [(low, high) for _, low, high in of] for name, of in found.items()}
    names = NAMES if x == "norm" else {}
    groups = [names.get(key, key) for key in next(iter(values.values()))[x].to_numpy().tolist()]
    return Bars(title, y, groups, heights, ranges, limits)


def heat_maps(
    name: str, caption: str, panels: Mapping[str, Array], x: str, y: str,
    limits: tuple[float, float] | None = None,
) -> Figure:  # fmt: skip
    """A figure of heat maps over two axes: medians over seeds."""
    drawn = []
    for title, values in panels.items():
        medians = values.median("seed").transpose(y, x)
        xs, ys = (
            [NAMES.get(key, key) for key in medians[axis].to_numpy().tolist()] for axis in (x, y)
        )
        label = "" if y == "norm" else AXES.get(y, y)
        drawn.append(HeatMap(title, AXES.get(x, x), label, xs, ys, medians.to_numpy(), limits))
    return Figure(name, caption, drawn)


def table(
    caption: str, axes: Sequence[str], columns: Mapping[str, Array],
    names: Mapping[Any, str] = NAMES, called: Mapping[str, str] = AXES,
) -> Table:  # fmt: skip
    """A row for every combination of coordinates: they, then each column's mean over seeds.

    Args:
        caption: of the table.
        axes: what there is a row for.
        columns: arrays that have some of the axes.
        names: what coordinates are called, besides the norms.
        called: what the axes are called.
    """
    names = {**NAMES, **names}
    keys = [_values(columns.values(), axis) for axis in axes]
    rows = []
    for place in itertools.product(*keys):
        at = dict(zip(axes, place, strict=True))
        cells = [
            column.sel({axis: value for axis, value in at.items() if axis in column.dims})
            for column in columns.values()
        ]
        if all(bool(cell.isnull().all()) for cell in cells):
            continue  # not run
        shown = (names.get(value, value) for value in place)
        means = (cell.mean().item() for cell in cells)
        rows.append([*shown, *(None if np.isnan(mean) else mean for mean in means)])
    return Table(caption, [*(called.get(axis, axis) for axis in axes), *columns], rows)


def _values(columns: Iterable[Array], axis: str) -> list[Any]:
    return next(list(c[axis].to_numpy().tolist()) for c in columns if axis in c.dims)


def whatever(effect: Array) -> Array:
    """An effect with an axis `bound`: any number, if it compares two infinite ones."""
    return stack({"least": effect.fillna(-np.inf), "greatest": effect.fillna(np.inf)}, "bound")
