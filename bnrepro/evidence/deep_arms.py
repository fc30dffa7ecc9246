"""Deep networks of sigmoids, as arms that two claims share."""

from bnrepro.evidence.arms import NORMS, SMOKE
from bnrepro.evidence.grid import Grid, best, grid
from bnrepro.evidence.runs import VALIDATION, Evidence

_PROBED = ("experiment=fig1", "probe.every=200", "probe.size=100")
WORDS = {
    "smoke": ("experiment=fig1", *SMOKE, "probe.every=50"),
    "short": (*_PROBED, "train.steps=600", "train.eval_every=200"),
    "paper": (*_PROBED, "train.steps=2000", "train.eval_every=400"),
}
DEPTHS = {"smoke": (3, 6), "short": (3, 6, 12), "paper": (3, 6, 9, 12)}
"""Hidden layers, of 100 sigmoids each."""

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
