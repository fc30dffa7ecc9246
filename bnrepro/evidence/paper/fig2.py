"""The paper's Figure 2 as numbers, read off its vector graphics, and the table of Figure 3.

Accuracies are of single crops of ImageNet's validation images. Reading error of Fig. 2: about
±0.003 in accuracy. Its points lie about 320,000 steps apart; what is below 0.4 the paper cut off.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from bnrepro.evidence.paper import rows

TARGET = 0.722
"""The highest accuracy that Inception comes to, to which Fig. 3 counts the steps."""


@dataclass(frozen=True)
class Network:
    """A row of Fig. 3.

    Args:
        lr: the initial learning rate (§4.2.2).
        steps: to `TARGET`; infinite where it is never reached.
        highest: the maximum accuracy.
    """

    lr: float
    steps: float
    highest: float


FIG3: Mapping[str, Network] = {
    "Inception": Network(0.0015, 31.0e6, 0.722),
    "BN-Baseline": Network(0.0015, 13.3e6, 0.727),
    "BN-x5": Network(0.0075, 2.1e6, 0.730),
    "BN-x30": Network(0.045, 2.7e6, 0.748),
    "BN-x5-Sigmoid": Network(0.0075, np.inf, 0.698),
}
"""Fig. 3, by the paper's names, which are those of the curves of Fig. 2 as well."""

BASELINE_STEPS, BN_X5_STEPS = 16.6e6, 2.56e6
"""Steps to the highest accuracy of BN-Baseline, 0.727: its own and those of BN-x5, read off
Fig. 2."""

BN_X30_HIGHEST = 6.0e6
"""Steps after which BN-x30 comes to its highest accuracy: 5 times fewer than Inception takes to
`TARGET` (§4.2.2)."""


@cache
def accuracy(network: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps (P,) and validation accuracies (P,) of one curve of Fig. 2."""
    points = [row for row in rows("fig2.csv") if row["curve"] == network]
    steps = np.array([float(row["step"]) for row in points])
    return steps, np.array([float(row["val_acc"]) for row in points])


def fewer(network: str) -> float:
    """How many times fewer steps than Inception a network takes to `TARGET`, by Fig. 3."""
    return FIG3["Inception"].steps / FIG3[network].steps
