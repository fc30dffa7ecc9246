"""Both tuned: each arm at its own best setting of the same budget, chosen on validation images."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import xarray as xr

from bnrepro.evidence import controls
from bnrepro.evidence.arms import NAMES
from bnrepro.evidence.claim import Check, Effects
from bnrepro.evidence.exhibits import Figure
from bnrepro.evidence.grid import Array, Grid, Labelled, curves, table


def both_tuned(
    runs: xr.Dataset, effects: Callable[[Array], Effects], *, by: str = "norm", drawn: bool = False
) -> Check:
    """The effects with each arm at the learning rate of its highest validation accuracy.

    It is chosen for every seed, so that it varies as all else does.

    Args:
        runs: as `Grid.runs` makes them, of both arms at several learning rates.
        effects: from the learning rate of each, (`by`, seed).
        by: the axis of the two arms.
        drawn: whether accuracy over the rates is drawn as well.
    """
    lr = runs.validation.idxmax("lr")
    choice = ", ".join(
        f"{NAMES.get(arm, arm)} at {_range(lr.sel({by: arm}))}"
        for arm in lr[by].to_numpy().tolist()
    )
    edges = ", ".join(controls.at_edges(runs.validation))
    beyond = f" At an edge of the grid, so that the best may lie beyond: {edges}." if edges else ""
    columns = {
        "learning rate (median)": lr.median("seed"),
        "validation accuracy": runs.validation.sel(lr=lr),
        "test accuracy": runs.test.sel(lr=lr),
    }
    return Check(
        "Each arm at the learning rate of its highest validation accuracy, of each seed its own, "
        f"among {', '.join(f'{rate:g}' for rate in runs.lr.to_numpy())}, after "
        f"{runs.step[-1].item():,} steps.{beyond}",
        {choice: effects(lr)},
        exhibits=(
            table("Each arm at its best learning rate: means over seeds.", (by,), columns),
            *([over_lrs(runs.test)] if drawn else []),
        ),
    )


def _range(values: Array) -> str:
    low, high = values.min().item(), values.max().item()
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def at_own_rates(
    of: Grid, lrs: Mapping[tuple[Any, Any], Sequence[float]], *words: str
) -> dict[str, tuple[str, ...]]:
    """The arms of a grid of two axes and `lr`, those of each pair at its own learning rates.

    `words` come before the axes' own overrides.
    """
    own = {of.arm(*pair, lr) for pair, rates in lrs.items() for lr in rates}
    return {arm: overrides for arm, overrides in of.arms(*words).items() if arm in own}


def for_each_seed(effects: Effects) -> Check:
    """The effects where each seed has a best learning rate of its own, which else is the mean's."""
    return Check(
        "Each arm at the learning rate of its highest validation accuracy, of each seed its "
        "own, in place of the highest mean.",
        {"chosen for each seed": effects},
    )


def throughout(
    measured: Labelled, effects: Callable[[Labelled], Mapping[str, Array]]
) -> dict[str, Mapping[str, Array]]:
    """The effects at each learning rate, the same for all arms, of what has the axis `lr`."""
    return {
        f"learning rate {lr:g} throughout": effects(measured.sel(lr=lr))
        for lr in measured.lr.to_numpy()
    }


def over_lrs(test: Array) -> Figure:
    """Test accuracy at the last step over the learning rate, a line for each arm."""
    panels, y = {"each learning rate": test}, "test accuracy at the last step"
    return curves("rates", "Accuracy over the learning rate", panels, "lr", y, limits=(0.0, 1.0))
