"""The fair comparison: both arms at their own best learning rate, chosen on validation images."""

from collections.abc import Callable

import xarray as xr

from bnrepro.evidence.arms import NAMES
from bnrepro.evidence.claim import Check, Effects
from bnrepro.evidence.exhibits import Figure
from bnrepro.evidence.grid import Array, best, curves, table


def both_tuned(
    runs: xr.Dataset, effects: Callable[[Array], Effects], *, by: str = "norm", drawn: bool = False
) -> Check:
    """The effects with each arm at the learning rate of its highest mean validation accuracy.

    Args:
        runs: as `Grid.runs` makes them, of both arms at several learning rates.
        effects: from the learning rate of each, along `by`.
        by: the axis of the two arms.
        drawn: whether accuracy over the rates is drawn as well.
    """
    lr = best(runs.validation)
    choice = ", ".join(
        f"{NAMES.get(arm.item(), arm.item())} at {lr.sel({by: arm}).item():g}" for arm in lr[by]
    )
    columns = {
        "learning rate": lr,
        "validation accuracy": runs.validation.sel(lr=lr),
        "test accuracy": runs.test.sel(lr=lr),
    }
    return Check(
        "Each arm at the learning rate of its highest mean validation accuracy, among "
        f"{', '.join(f'{rate:g}' for rate in runs.lr.to_numpy())}, after "
        f"{runs.step[-1].item():,} steps.",
        {choice: effects(lr)},
        (
            table("Each arm at its best learning rate: means over seeds.", (by,), columns),
            *([over_lrs(runs.test)] if drawn else []),
        ),
    )


def over_lrs(test: Array) -> Figure:
    """Test accuracy at the last step over the learning rate, a line for each arm."""
    panels, y = {"each learning rate": test}, "test accuracy at the last step"
    return curves("rates", "Accuracy over the learning rate", panels, "lr", y, limits=(0.0, 1.0))
