"""What seeds can show: probabilities of verdicts, against the judge itself over drawn effects."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bnrepro.evidence.claim import Claim, Criterion, Expected, Finding, Group, Margin
from bnrepro.evidence.judge import Verdict, judged
from bnrepro.evidence.power import SEEN, probability, widest, wrong
from bnrepro.report.format import power

YES, NONE = Verdict.REPRODUCED, Verdict.NO_EFFECT
DRAWS = 2000


def criterion(margin: float, width: float | None = None, *, equivalence: bool = False) -> Criterion:
    return Criterion("a − b", Margin(margin, "unit"), "why", width, equivalence=equivalence)


CRITERIA = {
    "a difference": criterion(1.0),
    "any": criterion(0.0, 0.6),
    "indifferent beyond its margin": criterion(0.3, 0.8),
    "no worse": criterion(-0.5),
    "equal": criterion(0.7, equivalence=True),
}


@pytest.mark.parametrize("name", CRITERIA)
@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize(("effect", "spread"), [(0.0, 0.4), (0.0, 1.5), (0.9, 0.5), (2.0, 0.6)])
def test_a_verdict_comes_as_often_as_is_computed(
    name: str, seeds: int, effect: float, spread: float
) -> None:
    of = CRITERIA[name]
    drawn = np.random.default_rng(seeds).normal(effect, spread, (DRAWS, seeds))
    found = [judged(of, effects).verdict for effects in drawn]
    for verdict in (YES, NONE):
        computed = probability(verdict, of, seeds, effect, spread)
        error = math.sqrt(computed * (1 - computed) / DRAWS) + 1 / DRAWS
        assert abs(found.count(verdict) / DRAWS - computed) < 4 * error


@pytest.mark.parametrize(
    ("of", "verdict", "effect"),
    [(criterion(1.0), YES, 1.5), (criterion(1.0), NONE, 0.0), (criterion(0.0, 0.2), NONE, 0.0),
     (criterion(-0.5), YES, 0.0), (criterion(0.5, equivalence=True), YES, 0.0)],
)  # fmt: skip
def test_the_widest_spread_is_where_a_verdict_begins_to_be_missed(
    of: Criterion, verdict: Verdict, effect: float
) -> None:
    spread = widest(verdict, of, 10, effect)
    assert spread is not None
    assert probability(verdict, of, 10, effect, spread) == pytest.approx(SEEN, abs=1e-6)
    assert probability(verdict, of, 10, effect, 0.9 * spread) > SEEN
    assert probability(verdict, of, 10, effect, 1.1 * spread) < SEEN
    more = widest(verdict, of, 20, effect)
    assert more is not None
    assert more > spread  # more seeds see through more noise


def test_an_effect_short_of_the_margin_is_seen_at_no_spread() -> None:
    assert widest(YES, criterion(1.0), 10, 0.9) is None
    assert widest(YES, criterion(1.0), 10, 1.0) is None
    assert widest(NONE, criterion(0.0, 0.1), 3, 0.0) is None  # one in eight lies beyond 0


@pytest.mark.parametrize(("seeds", "most"), [(3, 0.125), (5, 0.03125), (10, 11 / 1024)])
def test_a_median_at_the_margin_is_beyond_it_in_so_few_cases(seeds: int, most: float) -> None:
    assert wrong(seeds) == pytest.approx(most)
    for spread in (0.01, 100.0):
        assert probability(YES, criterion(1.0), seeds, 1.0, spread) == pytest.approx(most)
        assert probability(YES, criterion(1.0), seeds, 0.5, spread) < most


def claim(unit: str, margin: float, expected: float | None = None, **more: Any) -> Claim:
    of = Criterion("a − b", Margin(margin, unit), "why", **more)
    return Claim("It holds.", "§0", "This.", "That.", {"a": of}, {}, lambda _: Finding({}),
                 expected=Expected(effect=expected))  # fmt: skip


def test_power_in_words() -> None:
    chance = "10 seeds: a true median at the margin comes out as REPRODUCED in at most 1.07 % of "
    assert power(claim("doublings", 1.0, paper=1.5), 10) == (
        f"{chance}cases. If the true effect is the paper’s (×2.83), the verdict is REPRODUCED in "
        "90 % of cases or more while the standard deviation over seeds is at most 0.31 doublings. "
        "If there is no effect, the verdict is NO EFFECT in 90 % of cases or more while the "
        "standard deviation over seeds is at most 0.28 doublings. "
        "(Effects that are normal over seeds.)"
    )
    known = power(claim("accuracy", 0.01, 0.02, spread=0.005), 10)
    seen = probability(YES, criterion(0.01), 10, 0.02, 0.005)
    assert known == (
        f"{chance}cases. If the true effect is the one expected (+2.00 points), the verdict is "
        f"REPRODUCED in {100 * seen:.3g} % of cases. If there is no effect, the verdict is "
        f"NO EFFECT in {100 * probability(NONE, criterion(0.01), 10, 0.0, 0.005):.3g} % of cases. "
        "(Effects that are normal over seeds with a standard deviation of 0.5 points.)"
    )
    assert 0.9 < seen < 1
    short = power(claim("of the errors", 0.04, paper=0.03), 5)
    assert "(+3 % of the errors), the verdict is REPRODUCED in less than 90 % of cases." in short
    assert "If there is no effect, the verdict is REPRODUCED in" in power(claim("x", -1.0), 5)


def test_of_one_seed_and_of_an_identity_there_is_none() -> None:
    assert power(claim("x", 1.0), 1) == ""
    assert power(replace(claim("digits", 3.0), group=Group.IDENTITY), 10) == ""
