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
    assert controls.trains(accuracy).holds
    failed = controls.trains(accuracy.where(accuracy > 0.5, 0.1))
    assert not failed.holds
    assert failed.seen == "0.1000"


@pytest.mark.parametrize(("never", "holds"), [(0, True), (1, True), (2, False)])
def test_a_fifth_of_the_seeds_may_miss_the_target(never: int, holds: bool) -> None:
    steps = Array([np.inf] * never + [100.0] * (5 - never), SEEDS, ["seed"])
    found = controls.reached(steps, "the network without BN")
    assert found.holds is holds
    assert found.seen == f"{5 - never} of 5"


def test_what_would_be_taken_away_has_to_exist() -> None:
    gain = Array([0.0, 0.0, 0.006, 0.007, 0.008], SEEDS, ["seed"])
    assert controls.exists(gain, 0.005, "what dropout gains").holds
    assert not controls.exists(gain, 0.0061, "what dropout gains").holds


def test_an_edge_that_is_plainly_better_than_all_between_fails() -> None:
    inside, outside = [0.5, 0.9, 0.8, 0.1], [0.5, 0.8, 0.9, 0.95]
    assert controls.interior(over_lrs(inside)).holds
    found = controls.interior(over_lrs(inside, outside))
    assert not found.holds
    assert found.seen == "with BN at 3"
    assert controls.interior(over_lrs(outside), natural=(3.0,)).holds
    assert controls.interior(over_lrs(outside).isel(lr=[0, 3])).holds  # nothing lies between


def test_a_flat_optimum_whose_highest_value_is_at_an_edge_by_chance_does_not_fail() -> None:
    rng, failed = np.random.default_rng(1), 0
    for _ in range(400):
        flat = Array(rng.normal(0.9, 0.002, (4, 10)), {"lr": [0.1, 0.3, 1.0, 3.0]}, ["lr", "seed"])
        failed += not controls.interior(flat).holds
    assert failed / 400 < 0.1


def test_a_grid_with_cells_that_were_not_run_has_the_edges_it_has() -> None:
    values = over_lrs([0.5, 0.8, 0.9, 0.95])
    assert controls.interior(values.where(values.lr < 3)).seen == "without BN at 1"
