"""Claims of later papers: their seeds, and the norms that they set next to batch normalization."""

from collections.abc import Mapping, Sequence
from typing import Any

from bnrepro.evidence.arms import NAMES as OF_THE_PAPER
from bnrepro.evidence.grid import Grid

FIRST_OF_LATER = 30
"""The first seed of a claim of a later paper."""

NORM_NAMES: Mapping[str, str] = {
    **OF_THE_PAPER, "noisy": "with noise after BN", "group": "group norm", "layer": "layer norm",
    "dyt": "dynamic tanh", "whiten": "whitened",
}  # fmt: skip
"""What figures and tables call the arms, by the option of `norm`."""


def at_own_rates(
    of: Grid, lrs: Mapping[tuple[Any, Any], Sequence[float]], *words: str
) -> dict[str, tuple[str, ...]]:
    """The arms of a grid of two axes and `lr`, those of each pair at its own learning rates.

    `words` come before the axes' own overrides.
    """
    own = {of.arm(*pair, lr) for pair, rates in lrs.items() for lr in rates}
    return {arm: overrides for arm, overrides in of.arms(*words).items() if arm in own}
