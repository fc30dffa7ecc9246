"""Deep networks of sigmoids, as arms that two claims share."""

import numpy as np

from bnrepro.evidence.arms import NORMS, SMOKE
from bnrepro.evidence.grid import Array, Grid, best, grid, times_fewer
from bnrepro.evidence.runs import VALIDATION, Evidence

_PROBED = ("experiment=fig1", "probe.every=200", "probe.size=100")
WORDS = {
    "smoke": ("experiment=fig1", *SMOKE, "probe.every=50"),
    "short": (*_PROBED, "train.steps=600", "train.eval_every=200"),
    "paper": (*_PROBED, "train.steps=2000", "train.eval_every=400"),
}
DEPTHS = {"smoke": (3, 6), "short": (3, 6, 12), "paper": (3, 6, 9, 12)}
"""Hidden layers, of 100 sigmoids each."""

TRAINED = 0.9
"""A linear classifier of MNIST has more: a network that does not get there has not trained."""

LRS = {"smoke": (3.0,), "short": (0.3, 3.0), "paper": (0.3, 3.0)}


def deep(scale: str) -> Grid:
    """Both arms at every depth and learning rate; `WORDS` come before."""
    depths = {depth: (hidden(depth),) for depth in DEPTHS[scale]}
    return grid(norm=NORMS, depth=depths, lr=LRS[scale])


def hidden(depth: int) -> str:
    """The override to `depth` layers of 100 units."""
    return f"model.hidden=[{','.join(['100'] * depth)}]"


def tuned(evidence: Evidence) -> Grid:
    """Those at the learning rate of their highest mean validation accuracy."""
    of = deep(evidence.scale)
    return of.at(lr=best(of.final(evidence, VALIDATION)))


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
