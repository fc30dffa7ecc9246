"""The fair comparison: both arms at their own best learning rate, chosen on validation images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bnrepro.arms import at_rate
from bnrepro.claim import Check, Variation
from bnrepro.evidence import TEST, VALIDATION, Evidence
from bnrepro.exhibits import Curves, Figure, Table, over_seeds

Effects = Callable[[Evidence, str, str], Mapping[str, Sequence[float] | np.ndarray]]
"""The effects of a claim's criteria, from the names of two arms: the baseline's comes first."""


def at_best_rates(
    evidence: Evidence, arms: Mapping[str, str], rates: Sequence[float], effects: Effects
) -> Check:
    """The effects with each arm at the learning rate of its highest mean validation accuracy.

    Args:
        evidence: has every arm at every rate, named by `arms.at_rate`.
        arms: two, the baseline first, with the name that is shown of each.
        rates: the learning rates.
        effects: of two arms by name.
    """
    best = {arm: evidence.best(at_rate(arm, rate) for rate in rates) for arm in arms}
    baseline, other = best.values()
    lines = [
        over_seeds(
            shown,
            rates,
            np.stack([evidence.final(at_rate(arm, rate)) for rate in rates], axis=1),
        )
        for arm, shown in arms.items()
    ]
    panel = Curves(
        "each learning rate", "learning rate", "test accuracy at the last step", lines,
        log_x=True, limits=(0.0, 1.0),
    )  # fmt: skip
    means = [[float(evidence.final(a, name).mean()) for name in (VALIDATION, TEST)]
             for a in best.values()]  # fmt: skip
    table = Table(
        "Each arm at its best learning rate: means over seeds.",
        ("arm", "its best", "validation accuracy", "test accuracy"),
        [[shown, best[arm], *row] for (arm, shown), row in zip(arms.items(), means, strict=True)],
    )
    return Check(
        "Each arm at the learning rate of its highest mean validation accuracy, among "
        f"{', '.join(f'{rate:g}' for rate in rates)}.",
        (Variation(f"{baseline} against {other}", effects(evidence, baseline, other)),),
        (table, Figure("rates", "Accuracy over the learning rate, both arms.", (panel,))),
    )
