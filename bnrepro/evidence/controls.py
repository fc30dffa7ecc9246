"""Controls: whether the runs of a claim could have shown it, either way.

Where one does not hold the claim is NOT TESTABLE, whatever its effects are.
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


def trains(accuracy: Array, least: float = ABOVE_CHANCE) -> Control:
    """Every arm is above an accuracy in every seed, at the cell it is judged at."""
    low = accuracy.min().item()
    return Control(f"every arm ends above {least:g} in every seed", low > least, f"{low:.4f}")


def reached(steps: Array, who: str) -> Control:
    """Almost every seed reaches the target: (seed, …) steps, infinite where one does not."""
    arrived = np.isfinite(steps.to_numpy())
    seen = f"{arrived.sum()} of {arrived.size}"
    text = f"{who} reaches the target in at least {1 - FEW:.0%} of the seeds"
    return Control(text, bool(arrived.mean() >= 1 - FEW), seen)


def exists(effect: Array, least: float, what: str) -> Control:
    """What the claim would take away is there: the median of (seed,) is at least so much."""
    median = float(lower_median(np.asarray(effect)))
    return Control(f"{what} is at least {least:g} in the median", median >= least, f"{median:.4g}")


def interior(validation: Array, axis: str = "lr", natural: tuple[float, ...] = ()) -> Control:
    """No arm's best value lies at an edge of its grid.

    An edge counts where its validation accuracy, averaged over seeds, is better than the best
    interior one by more than two standard errors of that difference.

    Args:
        validation: accuracies (seed, axis, …), of every arm one for each of the other coordinates.
        axis: that of the grid.
        natural: edges beyond which there is nothing, such as a dropout of 0.
    """
    others = [str(dim) for dim in validation.dims if dim not in ("seed", axis)]
    arms = validation.stack(arm=others) if others else validation.expand_dims(arm=["it"])
    at_edge = [
        f"{_name(arm)} at {edge:g}" if others else f"{edge:g}"
        for arm in arms.arm.to_numpy().tolist()
        for edge in _edges(arms.sel(arm=arm), axis)
        if edge not in natural
    ]
    what = AXES.get(axis, axis)
    text = f"no arm's best {what} is at an edge of the grid"
    return Control(text, not at_edge, ", ".join(at_edge))


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
