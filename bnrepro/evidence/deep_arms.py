"""Deep networks of sigmoids, as overrides that two claims share."""

from __future__ import annotations

from bnrepro.evidence.arms import SMOKE, at_lr, norms, over_lrs
from bnrepro.evidence.runs import Evidence
from bnrepro.evidence.tuning import best_lr

WORDS = {
    "smoke": ("experiment=fig1", *SMOKE, "probe.every=50"),
    "short": (
        "experiment=fig1", "train.steps=600", "train.eval_every=200", "probe.every=200",
        "probe.size=100",
    ),
    "paper": (
        "experiment=fig1", "train.steps=2000", "train.eval_every=400", "probe.every=200",
        "probe.size=100",
    ),
}  # fmt: skip
DEPTHS = {"smoke": (3, 6), "short": (3, 6, 12), "paper": (3, 6, 9, 12)}
"""Hidden layers, of 100 sigmoids each."""

LRS = {"smoke": (3.0,), "short": (0.3, 3.0), "paper": (0.3, 3.0)}

FIG1 = "as in Fig. 1"
"""The initial weights that an arm's name does not tell."""


def at_depth(norm: str, depth: int, init: str = FIG1) -> str:
    """The name of an arm by its number of hidden layers."""
    return f"{norm} layers={depth}" + (f" {init}" if init != FIG1 else "")


def deep(scale: str) -> dict[str, tuple[str, ...]]:
    """Both arms at every depth and learning rate, all overrides of each."""
    arms: dict[str, tuple[str, ...]] = {}
    for depth in DEPTHS[scale]:
        for norm, words in norms((*WORDS[scale], hidden(depth))).items():
            arms[at_depth(norm, depth)] = words
    return over_lrs(arms, LRS[scale])


def hidden(depth: int) -> str:
    """The override to `depth` layers of 100 units."""
    return f"model.hidden=[{','.join(['100'] * depth)}]"


def best(evidence: Evidence, norm: str, depth: int) -> str:
    """The arm of that depth at the learning rate of its highest mean validation accuracy."""
    name = at_depth(norm, depth)
    return at_lr(name, best_lr(evidence, name, LRS[evidence.scale]))
