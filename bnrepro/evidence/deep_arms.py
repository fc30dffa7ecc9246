"""Deep networks, and how deep they still train."""

import numpy as np

from bnrepro.evidence.arms import NORMS
from bnrepro.evidence.grid import Array, times_fewer

TRAINED = 0.9
"""A linear classifier of MNIST has more: a network that does not get there has not trained."""


def hidden(depth: int) -> str:
    """The override to `depth` layers of 100 units."""
    return f"model.hidden=[{','.join(['100'] * depth)}]"


def deeper(validation: Array, trained: float = TRAINED) -> Array:
    """Doublings from the deepest network that trains without BN to that with it: (seed, bound).

    If none trains it is 1. A network that trains with all its layers might with more: its depth is
    cut off.

    Args:
        validation: accuracies (norm, depth, seed).
        trained: the least at which a network counts as trained.
    """
    last = validation.depth[-1].item()
    depths = validation.depth.where(validation >= trained).max("depth").fillna(1)
    depths = depths.where(depths < last, np.inf)
    none, batch = (depths.sel(norm=norm, drop=True) for norm in NORMS)
    return times_fewer(batch, none, last)
