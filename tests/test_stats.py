"""Effects over seeds: median, interval, size, infinite ones included."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnrepro.evidence.runs import log_ratio, median_range
from bnrepro.evidence.stats import image_counts, lower_median, order_statistic, summary

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
        ([*map(float, range(10))], 4.0, (1.0, 8.0)),  # the 2nd and the 9th of ten
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


@pytest.mark.parametrize(
    ("seeds", "k", "coverage"),
    [(2, 1, 0.5), (3, 1, 0.75), (5, 1, 0.9375), (6, 1, 0.96875), (8, 1, 0.9921875),
     (10, 2, 0.978515625), (20, 6, 0.9586)],
)  # fmt: skip
def test_the_interval_is_of_order_statistics_with_its_exact_coverage(
    seeds: int, k: int, coverage: float
) -> None:
    assert order_statistic(seeds) == (k, pytest.approx(coverage, abs=1e-4))


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("draw", ["standard_normal", "standard_cauchy", "standard_exponential"])
def test_the_median_is_covered_as_often_as_is_printed(seeds: int, draw: str) -> None:
    effects = getattr(np.random.default_rng(7), draw)((10_000, seeds))
    median = math.log(2) if draw == "standard_exponential" else 0.0
    k, coverage = order_statistic(seeds)
    ordered = np.sort(effects)
    covered = ((ordered[:, k - 1] <= median) & (median <= ordered[:, -k])).mean()
    assert abs(covered - coverage) < 3 * math.sqrt(coverage * (1 - coverage) / 10_000)


def test_an_effect_that_is_cut_off_is_an_interval_itself() -> None:
    found = summary([3.0, 1.0, -math.inf], [math.inf, 1.0, 2.0])
    assert (found.median, found.interval) == (1.0, (-math.inf, math.inf))
    assert found.bounds == [(3.0, math.inf), (1.0, 1.0), (-math.inf, 2.0)]
    assert (found.cut_off, found.shown) == ("at_least", 1.0)
    least = summary([3.0, 4.0, 5.0], [math.inf] * 3)
    assert (least.cut_off, least.shown, least.interval) == ("at_least", 4.0, (3.0, math.inf))
    most = summary([-math.inf] * 3, [0.0, 1.0, 2.0])
    assert (most.cut_off, most.shown, most.interval) == ("at_most", 1.0, (-math.inf, 2.0))
    assert summary([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]).upper is None


def test_test_images_widen_the_interval_and_never_narrow_it() -> None:
    rng = np.random.default_rng(3)
    effects = rng.normal(0.01, 0.001, 10)
    noisy = effects[:, None] + rng.normal(0, 0.01, (1, 1000))  # the same images of every seed
    alone, both = summary(effects), summary(effects, redrawn=noisy)
    assert alone.interval is not None
    assert both.interval is not None
    assert both.images is not None
    assert both.interval[0] < alone.interval[0]
    assert both.interval[1] > alone.interval[1]
    assert both.images[0] == pytest.approx(0.01 - 0.0196, abs=0.003)  # 1.96 errors of images
    still = summary(effects, redrawn=np.repeat(effects[:, None], 1000, 1))
    assert still.interval == alone.interval


def test_drawn_images_are_as_many_and_their_accuracy_spreads_as_it_should() -> None:
    counts = image_counts(10_000)
    assert (counts.sum(0) == 10_000).all()
    right = np.arange(10_000) < 9_000
    drawn = right.astype(np.float32) @ counts / 10_000
    assert drawn.mean() == pytest.approx(0.9, abs=3e-4)
    assert drawn.std() == pytest.approx(math.sqrt(0.9 * 0.1 / 10_000), rel=0.1)


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
    expected = [2.0, inf, -inf, math.nan, 0.0, -inf, inf]
    assert log_ratio(a, b).tolist() == pytest.approx(expected, nan_ok=True)
    assert log_ratio(np.array([100.0]), np.array([1.0]), 10).tolist() == pytest.approx([2.0])


def test_median_and_range_of_steps_of_which_some_are_infinite() -> None:
    assert median_range([np.inf, 100.0, 50.0]) == (100.0, 50.0, np.inf)
