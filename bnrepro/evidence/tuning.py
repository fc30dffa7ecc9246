"""The fair comparison: both arms at their own best learning rate, chosen on validation images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import xarray as xr

from bnrepro.evidence.arms import NAMES, at_lr
from bnrepro.evidence.claim import Check, Variation, check
from bnrepro.evidence.claim import Effects as Found
from bnrepro.evidence.exhibits import Figure, Table
from bnrepro.evidence.grid import Array, best, curves, table
from bnrepro.evidence.runs import TEST, VALIDATION, Evidence

Effects = Callable[[Evidence, str, str], Mapping[str, Sequence[float] | np.ndarray]]
"""The effects of a claim's criteria, from the names of two arms: the baseline's comes first."""


def tuned_comparison(
    evidence: Evidence, arms: Mapping[str, str], lrs: Sequence[float], effects: Effects
) -> Check:
    """The effects with each arm at the learning rate of its highest mean validation accuracy.

    Args:
        evidence: has every arm at every rate, named by `arms.at_lr`.
        arms: two, the baseline first, with the name that is shown of each.
        lrs: the learning rates.
        effects: of two arms by name.
    """
    best = {arm: best_lr(evidence, arm, lrs) for arm in arms}
    names = [at_lr(arm, lr) for arm, lr in best.items()]
    table = Table(
        "Each arm at its best learning rate: means over seeds.",
        ("arm", "learning rate", "validation accuracy", "test accuracy"),
        [
            [arms[arm], lr, *(_mean(evidence, name, metric) for metric in (VALIDATION, TEST))]
            for name, (arm, lr) in zip(names, best.items(), strict=True)
        ],
    )
    steps = evidence.runs[names[0]][0].config()["train"]["steps"]
    choice = ", ".join(f"{arms[arm]} at {lr:g}" for arm, lr in best.items())
    return Check(
        "Each arm at the learning rate of its highest mean validation accuracy, among "
        f"{', '.join(f'{lr:g}' for lr in lrs)}, after {steps:,} steps.",
        (Variation(choice, effects(evidence, *names)),),
        (table,),
    )


def best_lr(evidence: Evidence, arm: str, lrs: Sequence[float]) -> float:
    """The learning rate at which an arm's mean validation accuracy is highest."""
    named = {at_lr(arm, lr): lr for lr in lrs}
    return named[evidence.best(named)]


def _mean(evidence: Evidence, arm: str, name: str) -> float:
    return float(evidence.final(arm, name).mean())


def both_tuned(
    runs: xr.Dataset, effects: Callable[[Array], Found], *, by: str = "norm", drawn: bool = False
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
    return check(
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
