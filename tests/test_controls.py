"""Controls: what has to be so for runs to show a claim, either way."""

import numpy as np
import pytest

from bnrepro.evidence import controls
from bnrepro.evidence.grid import Array

SEEDS = {"seed": range(5)}


def over_lrs(*rows: list[float], noise: float = 0.001) -> Array:
    """Validation accuracies (norm, lr, seed) around one row of means for each norm."""
    spread = np.random.default_rng(0).normal(0, noise, (len(rows), len(rows[0]), 5))
    coords = {"norm": ["none", "batch"][: len(rows)], "lr": [0.1, 0.3, 1.0, 3.0], **SEEDS}
    return Array(np.array(rows)[..., None] + spread, coords, ["norm", "lr", "seed"])


def test_every_seed_of_every_arm_has_to_train() -> None:
    accuracy = Array([[0.9, 0.8], [0.7, 0.16]], dims=["norm", "seed"])
    trains = controls.trains("each arm")
    assert trains.text == "each arm ends above 0.15 in every seed"
    assert trains.check(accuracy) == (True, "0.1600")
    assert trains.check(accuracy.where(accuracy > 0.5, 0.1)) == (False, "0.1000")
    assert controls.trains("each arm", 0.5).check(accuracy) == (False, "0.1600")


@pytest.mark.parametrize(("never", "holds"), [(0, True), (1, True), (2, False)])
def test_a_fifth_of_the_seeds_may_miss_the_target(never: int, holds: bool) -> None:
    steps = Array([np.inf] * never + [100.0] * (5 - never), SEEDS, ["seed"])
    assert controls.reached("it").check(steps) == (holds, f"{5 - never} of 5")


def test_what_would_be_taken_away_has_to_exist() -> None:
    gain = Array([0.0, 0.0, 0.006, 0.007, 0.008], SEEDS, ["seed"])
    assert controls.exists("what dropout gains", 0.005).check(gain) == (True, "0.006")
    assert controls.exists("what dropout gains", 0.0061).check(gain) == (False, "0.006")


def test_nothing_is_above_a_bound() -> None:
    accuracy = Array([0.1, 0.15, 0.12], dims=["seed"])
    assert controls.at_most("its accuracy", 0.15).check(accuracy) == (True, "0.15")
    assert controls.at_most("its accuracy", 0.14).check(accuracy) == (False, "0.15")


def test_an_edge_that_is_plainly_better_than_all_between_fails() -> None:
    inside, outside = [0.5, 0.9, 0.8, 0.1], [0.5, 0.8, 0.9, 0.95]
    interior = controls.interior()
    assert interior.text == "the best learning rate of each arm lies inside its grid"
    assert interior.check(over_lrs(inside)) == (True, "")
    assert interior.check(over_lrs(inside, outside)) == (False, "with BN at 3")
    assert controls.interior(natural=(3.0,)).check(over_lrs(outside))[0]
    assert interior.check(over_lrs(outside).isel(lr=[0, 3]))[0]  # nothing lies between


def test_a_flat_optimum_whose_highest_value_is_at_an_edge_by_chance_does_not_fail() -> None:
    rng, failed = np.random.default_rng(1), 0
    for _ in range(400):
        flat = Array(rng.normal(0.9, 0.002, (4, 10)), {"lr": [0.1, 0.3, 1.0, 3.0]}, ["lr", "seed"])
        failed += not controls.interior().check(flat)[0]
    assert failed / 400 < 0.1


def test_a_grid_with_cells_that_were_not_run_has_the_edges_it_has() -> None:
    values = over_lrs([0.5, 0.8, 0.9, 0.95])
    assert controls.at_edges(values.where(values.lr < 3)) == ["without BN at 1"]


def test_a_curve_is_flat_where_the_median_seed_gains_little() -> None:
    gained = Array([-0.01, 0.001, 0.002, 0.004, 0.01], SEEDS, ["seed"])
    assert controls.flat("it").check(gained) == (True, "0.0020")
    assert controls.flat("it", 0.001).check(gained) == (False, "0.0020")
