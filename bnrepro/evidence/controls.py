"""Controls: what has to be so for the runs of a claim to show it, either way.

A claim names them before its runs, each with its bound; `Claim.measure` gives the array that each
is about. Where one does not hold the claim is NOT TESTABLE, whatever its effects are.
"""

import numpy as np

from bnrepro.evidence.arms import NAMES
from bnrepro.evidence.claim import Control
from bnrepro.evidence.grid import AXES, Array
from bnrepro.evidence.stats import lower_median

ABOVE_CHANCE = 0.15
"""An accuracy among ten classes that guessing never comes to."""

FEW = 0.2
"""The share of seeds that may fail to reach a target."""

ERRORS = 2.0
"""Standard errors by which a grid's edge has to be better to count as such."""


def trains(who: str, least: float = ABOVE_CHANCE) -> Control:
    """Of test accuracies: what is predicted to train is above one in every seed."""

    def check(accuracy: Array) -> tuple[bool, str]:
        low = accuracy.min().item()
        return low > least, f"{low:.4f}"

    return Control(f"{who} ends above {least:g} in every seed", check)


def reached(who: str) -> Control:
    """Of steps, infinite where a seed does not arrive: almost every one reaches the target."""

    def check(steps: Array) -> tuple[bool, str]:
        arrived = np.isfinite(steps.to_numpy())
        return bool(arrived.mean() >= 1 - FEW), f"{arrived.sum()} of {arrived.size}"

    return Control(f"{who} reaches the target in at least {1 - FEW:.0%} of the seeds", check)


def exists(what: str, least: float) -> Control:
    """Of an effect (seed,): what the claim would take away is there, in the median."""

    def check(effect: Array) -> tuple[bool, str]:
        median = float(lower_median(np.asarray(effect)))
        return median >= least, f"{median:.4g}"

    return Control(f"{what} is at least {least:.3g} in the median", check)


def flat(who: str, most: float = 0.002) -> Control:
    """Of what a curve gains over its last tenth (seed,): no more than that, in the median."""

    def check(gained: Array) -> tuple[bool, str]:
        median = float(lower_median(np.asarray(gained)))
        return median <= most, f"{median:.4f}"

    return Control(f"{who} gains at most {most:g} over the last tenth of its steps, in the median",
                   check)  # fmt: skip


def at_most(what: str, most: float) -> Control:
    """Of numbers: none is above a bound."""

    def check(values: Array) -> tuple[bool, str]:
        greatest = values.max().item()
        return greatest <= most, f"{greatest:.4g}"

    return Control(f"{what} is at most {most:.3g}", check)


def interior(who: str = "each arm", axis: str = "lr", natural: tuple[float, ...] = ()) -> Control:
    """Of validation accuracies: the best value of an axis is at no edge of its grid (`at_edges`).

    Args:
        who: whose.
        axis: that of the grid.
        natural: edges beyond which there is nothing, such as a dropout of 0.
    """

    def check(validation: Array) -> tuple[bool, str]:
        found = at_edges(validation, axis, natural)
        return not found, ", ".join(found)

    return Control(f"the best {AXES.get(axis, axis)} of {who} lies inside its grid", check)


def at_edges(validation: Array, axis: str = "lr", natural: tuple[float, ...] = ()) -> list[str]:
    """The arms whose best value lies at an edge of their grid, and where.

    An edge counts where its validation accuracy, averaged over seeds, is better than the best
    interior one by more than two standard errors of that difference.

    Args:
        validation: accuracies (seed, axis, …), of every arm one for each of the other coordinates.
        axis: that of the grid.
        natural: edges that do not count.
    """
    others = [str(dim) for dim in validation.dims if dim not in ("seed", axis)]
    arms = validation.stack(arm=others) if others else validation.expand_dims(arm=["it"])
    return [
        f"{_name(arm)} at {edge:g}" if others else f"{edge:g}"
        for arm in arms.arm.to_numpy().tolist()
        for edge in _edges(arms.sel(arm=arm), axis)
        if edge not in natural
    ]


def _edges(values: Array, axis: str) -> list[float]:
    """The edges of one arm's grid that are better than all that lies between: (seed, axis)."""
    values = values.dropna(axis, how="all").sortby(axis)
    between = values.isel({axis: slice(1, -1)})
    if not between.sizes[axis]:
        return []
    best = between.sel({axis: between.mean("seed").idxmax(axis)})
    better = []
    for place in (0, -1):
        edge = values.isel({axis: place})
        gain = (edge - best).to_numpy()
        error = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else 0.0
        if gain.mean() > ERRORS * error:
            better.append(edge[axis].item())
    return better


def _name(arm: object) -> str:
    parts = arm if isinstance(arm, tuple) else (arm,)
    return " ".join(str(NAMES.get(part, part)) for part in parts)
