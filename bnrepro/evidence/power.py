"""How a criterion would be judged if its true effect were known: what its seeds can show.

Effects over seeds are taken as normal around their median. Then the number of them on either side
of a bound is multinomial, and so is whether the interval, whose ends are two of them, lies beyond
it: probabilities are exact. Test images are no part of it; they make an interval no narrower.
"""

import math
from statistics import NormalDist

from bnrepro.evidence.claim import Criterion
from bnrepro.evidence.judge import Verdict
from bnrepro.evidence.stats import order_statistic

SEEN = 0.9
"""How probable a verdict has to be for a design to be called able to show it."""


def probability(
    verdict: Verdict, criterion: Criterion, seeds: int, effect: float, spread: float
) -> float:
    """How probably a criterion comes to a verdict, `REPRODUCED` or `NO EFFECT`.

    Args:
        verdict: one of the two.
        criterion: what is judged.
        seeds: how many.
        effect: the true median.
        spread: the standard deviation of the effects over seeds, greater than 0.
    """
    margin, width = criterion.margin.value, criterion.width

    def between(low: float, high: float) -> float:
        return _inside(low, high, seeds, NormalDist(effect, spread))

    if criterion.equivalence:
        return between(-margin, margin) if verdict is Verdict.REPRODUCED else 0.0
    if verdict is Verdict.REPRODUCED:
        return between(margin, math.inf)
    if margin < 0:
        return 0.0
    both = between(margin, width) if margin < width else 0.0  # which is REPRODUCED
    return between(-width, width) - both


def widest(
    verdict: Verdict, criterion: Criterion, seeds: int, effect: float, at_least: float = SEEN
) -> float | None:
    """The largest spread over seeds at which a verdict is as probable as that; None if at none."""
    unit = abs(criterion.margin.value) or criterion.width or 1.0
    low, high = 1e-6 * unit, 1e6 * unit
    if probability(verdict, criterion, seeds, effect, low) < at_least:
        return None
    while high / low > 1 + 1e-9:
        middle = math.sqrt(low * high)
        if probability(verdict, criterion, seeds, effect, middle) < at_least:
            high = middle
        else:
            low = middle
    return low


def wrong(seeds: int) -> float:
    """How often `REPRODUCED` comes of a true median at the margin, at the most.

    Of any continuous distribution; of a median short of the margin it is less.
    """
    return (1 - order_statistic(seeds)[1]) / 2


def _inside(low: float, high: float, seeds: int, effects: NormalDist) -> float:
    """How probably the interval of the median lies between two bounds.

    It does where fewer than k effects are at or below the one and fewer than k at or above the
    other.
    """
    k, _ = order_statistic(seeds)
    below = effects.cdf(low)
    above = 1 - effects.cdf(high) if math.isfinite(high) else 0.0
    return sum(
        math.comb(seeds, i) * math.comb(seeds - i, j)
        * below**i * above**j * max(0.0, 1 - below - above) ** (seeds - i - j)
        for i in range(k) for j in range(k)
    )  # fmt: skip
