"""Claims of later papers: their seeds, and the norms that they set next to batch normalization."""

from collections.abc import Mapping

from bnrepro.evidence.arms import NAMES as OF_THE_PAPER

FIRST_OF_LATER = 30
"""The first seed of a claim of a later paper."""

NORM_NAMES: Mapping[str, str] = {
    **OF_THE_PAPER, "noisy": "with noise after BN", "group": "group norm", "layer": "layer norm",
    "dyt": "dynamic tanh", "whiten": "whitened",
}  # fmt: skip
"""What figures and tables call the arms, by the option of `norm`."""
