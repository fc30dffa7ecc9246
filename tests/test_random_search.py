"""A random search as a claim: settings drawn for each seed, and the expected best of some tries."""

import itertools

import numpy as np
import pytest

from bnrepro.claims import load
from bnrepro.claims.tuned_baseline import LARGEST, REST, cells, draw, expected
from bnrepro.evidence.claim import Plan
from bnrepro.evidence.grid import Array
from bnrepro.sweeps.grid import configurations


@pytest.mark.parametrize("tries", [1, 2, 4, 5])
def test_the_expected_best_is_the_mean_over_all_choices_of_tries(tries: int) -> None:
    rng = np.random.default_rng(tries)
    test, validation = rng.random((2, 3, 5, 4))
    dims = ("norm", "number", "seed")
    found = expected(Array(test, dims=dims), Array(validation, dims=dims), tries)
    for norm, seed in itertools.product(range(3), range(4)):
        choices = [list(choice) for choice in itertools.combinations(range(5), tries)]
        bests = [choice[np.argmax(validation[norm, choice, seed])] for choice in choices]
        mean = test[norm, bests, seed].mean()
        assert found.isel(norm=norm, seed=seed).item() == pytest.approx(mean, rel=1e-12)


def test_every_arm_and_seed_has_tries_of_its_own_and_their_words_say_so() -> None:
    plan = load("tuned-baseline").scales["short"]
    runs = [(cells("short").arm(norm, 7), seed) for norm in ("none", "batch") for seed in (10, 11)]
    words = [(*plan.words(arm), *plan.own_words(arm, seed)) for arm, seed in runs]
    first, *composed = configurations([plan.words(runs[0][0]), *words])
    assert plan.config(runs[0][0], first, runs[0][1]) == composed[0]
    drawn = {(run["optimizer"]["lr"], run["init"]["scale"]) for run in composed}
    assert len(drawn) == len(runs)


def test_tries_fill_their_ranges_evenly_in_the_logarithm() -> None:
    arm = cells("paper").arm("batch", 31)
    tries = [draw(arm, seed) for seed in range(1000)]
    bounds = LARGEST | {"optimizer.momentum": REST}
    for name, (low, high) in bounds.items():
        values = np.array([each[name] for each in tries])
        values = 1 - values if name == "optimizer.momentum" else values
        shares = np.log(values / low) / np.log(high / low)
        assert -1e-3 <= shares.min() < 0.01 < 0.99 < shares.max() <= 1 + 1e-3
        assert shares.mean() == pytest.approx(0.5, abs=4 / np.sqrt(12 * 1000))


def test_a_plan_that_draws_nothing_differs_between_seeds_in_the_seed_alone() -> None:
    plan = Plan(2, {"it": ("norm=none",)})
    assert plan.own_words("it", 3) == ("seed=3",)
    assert plan.config("it", {"seed": 0, "norm": {"name": "none"}}, 3) == {
        "seed": 3, "norm": {"name": "none"}
    }  # fmt: skip
