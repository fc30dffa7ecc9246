"""Effects over seeds: median, interval, size, infinite ones included."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnrepro.evidence.runs import log_ratio, median_range
from bnrepro.evidence.stats import lower_median, summary

EFFECTS = st.lists(
    st.floats(allow_nan=False, min_value=-1e6, max_value=1e6) | st.sampled_from([-np.inf, np.inf]),
    min_size=2, max_size=12,
)  # fmt: skip


@pytest.mark.parametrize(
    ("effects", "median", "interval"),
    [
        ([3.0, 1.0, 2.0], 2.0, (1.0, 3.0)),
        ([5.0, 1.0, 4.0, 2.0, 3.0], 3.0, (1.0, 5.0)),
        ([1.0, 2.0], 1.0, (1.0, 2.0)),  # of two in the middle the lower
        ([4.0, 1.0, 3.0, 2.0], 2.0, (1.0, 4.0)),
        ([0.5] * 5, 0.5, (0.5, 0.5)),
        ([1.0, 2.0, math.inf], 2.0, (1.0, math.inf)),
        ([-math.inf, math.inf], -math.inf, (-math.inf, math.inf)),
        ([math.inf] * 5, math.inf, (math.inf, math.inf)),
    ],
)
def test_median_and_interval(
    effects: list[float], median: float, interval: tuple[float, float]
) -> None:
    found = summary(effects)
    assert (found.median, found.interval, found.effects) == (median, interval, tuple(effects))


def test_the_interval_of_many_seeds_is_that_of_the_order_statistics() -> None:
    # The median of n lies between the order statistics that 95 % of Binomial(n, ½) lie within.
    found = summary(range(101))
    assert found.median == 50
    low, high = found.interval
    assert abs(low - 40) <= 1
    assert abs(high - 60) <= 1


def test_a_single_seed_has_no_interval_and_no_size() -> None:
    found = summary([0.3])
    assert (found.median, found.interval, found.size) == (0.3, None, None)


@pytest.mark.parametrize("effects", [[], [1.0, math.nan], [[1.0, 2.0]]])
def test_effects_that_are_not_one_number_a_seed_are_refused(effects: list[float]) -> None:
    with pytest.raises(ValueError, match="not one number per seed"):
        summary(effects)


def test_the_effect_size_is_the_mean_in_standard_deviations() -> None:
    assert summary([1.0, 2.0, 3.0]).size == pytest.approx(2.0)
    assert summary([-1.0, -2.0, -3.0]).size == pytest.approx(-2.0)
    values = np.array([0.011, 0.013, 0.008, 0.012, 0.010])
    assert summary(values).size == pytest.approx(values.mean() / values.std(ddof=1))
    assert summary([1.0, 2.0, math.inf]).size is None
    assert summary([0.1] * 5).size is None
    assert summary([0.97 - 0.96, 0.969 - 0.959]).size is None  # equal but for rounding


@settings(max_examples=60, deadline=None)
@given(EFFECTS)
def test_the_summary_of_the_same_effects_is_the_same(effects: list[float]) -> None:
    found = summary(effects)
    low, high = found.interval
    assert {low, found.median, high} <= set(effects)
    assert min(effects) <= low <= found.median <= high <= max(effects)
    assert summary(effects) == found
    assert summary(sorted(effects)).interval == found.interval  # no seed counts more than another


def test_lower_median_along_an_axis() -> None:
    values = np.array([[3.0, 1.0, 2.0, 9.0], [0.0, 0.0, 5.0, 5.0]])
    assert lower_median(values).tolist() == [2.0, 0.0]
    assert lower_median(values, axis=0).tolist() == [0.0, 0.0, 2.0, 5.0]


def test_a_ratio_of_steps_that_may_be_infinite() -> None:
    a = np.array([8.0, np.inf, 2.0, np.inf, 0.0, 0.0, 3.0])
    b = np.array([2.0, 4.0, np.inf, np.inf, 0.0, 5.0, 0.0])
    inf = np.inf
    assert log_ratio(a, b).tolist() == [2.0, inf, -inf, 0.0, 0.0, -inf, inf]
    assert log_ratio(np.array([100.0]), np.array([1.0]), 10).tolist() == pytest.approx([2.0])


def test_median_and_range_of_steps_of_which_some_are_infinite() -> None:
    assert median_range([np.inf, 100.0, 50.0]) == (100.0, 50.0, np.inf)
