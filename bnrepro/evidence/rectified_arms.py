"""Deep networks of rectified units, as arms that two claims share."""

from collections.abc import Mapping

from bnrepro.evidence.arms import NORMS, SMOKE, per_scale
from bnrepro.evidence.deep_arms import hidden
from bnrepro.evidence.grid import Grid, grid

RELU = ("model.activation=relu", "init=he", "init.scale=1")
"""Rectified units from He's initial weights, which were made for them."""

_STUDIED = ("experiment=fig1", *RELU, "probe.size=100", "tensorboard=false")
_STUDY = "studies=[amplification]"
WORDS: Mapping[str, tuple[str, ...]] = {
    "smoke": ("experiment=fig1", *SMOKE, *RELU, "probe.every=100", _STUDY),
    "short": (*_STUDIED, "train.steps=600", "train.eval_every=200", "probe.every=200", _STUDY),
    "paper": (*_STUDIED, "train.steps=2000", "train.eval_every=1000", "probe.every=500",
              "train.compile=true", _STUDY),
}  # fmt: skip
"""Otherwise the network of Fig. 1, probed, with its amplification studied at the end."""

DEPTH = per_scale(6, 12)
"""Hidden layers, of 100 units each."""

LRS: Mapping[str, tuple[float, ...]] = per_scale(
    (0.03, 0.1), (0.03, 0.1, 0.3), (0.01, 0.03, 0.1, 0.3, 1.0)
)
"""Learning rates, half an order of magnitude apart."""


def rectified(scale: str) -> Grid:
    """Both arms at every learning rate; `WORDS` come before."""
    depth = DEPTH[scale]
    return grid("ReLU, He", norm=NORMS, depth={depth: (hidden(depth),)}, lr=LRS[scale])
