"""What is read off the curves of Fig. 2's networks, and how their overrides go together."""

import math
from pathlib import Path

import numpy as np
import pytest
from planting import Planted, arms_of, diverged, rising, write

from bnrepro import claims
from bnrepro.claims.bn_x5 import BN_BASELINE, BN_X5, INCEPTION, response
from bnrepro.evidence import fig2_arms
from bnrepro.evidence.fig2_curves import (
    arrival,
    arrivals,
    by_lr,
    effects,
    fewer,
    gained_at_the_end,
    highest,
)
from bnrepro.evidence.grid import Array, Grid, grid
from bnrepro.evidence.runs import Evidence

STEPS = np.array([0, 10, 20, 30])


@pytest.mark.parametrize(
    ("target", "step"),
    [(0.1, 0), (0.05, 0), (0.2, 5), (0.3, 10), (0.4, 20), (0.35, 15), (0.41, math.inf)],
)
def test_an_arrival_lies_on_the_line_between_evaluations(target: float, step: float) -> None:
    values = np.array([0.1, 0.3, 0.4, 0.2])
    assert arrival(STEPS, values, target) == pytest.approx(step)


def of(folder: Path, *ends: tuple[int, int, Planted]) -> tuple[Grid, Evidence]:
    """Networks a, b, … of one seed, by their steps, the steps between evaluations, and runs."""
    names = "abc"[: len(ends)]
    network = grid(network=dict.fromkeys(names, ()))
    runs = {}
    for name, (steps, every, planted) in zip(names, ends, strict=True):
        config = {"train": {"steps": steps, "eval_every": every}, "optimizer": {"lr": 1.0}}
        runs[network.arm(name)] = (write(folder / name, config, planted),)
    return network, Evidence("short", (10,), runs)


def run(steps: int, every: int, final: float, arrives: int) -> tuple[int, int, Planted]:
    config = {"train": {"steps": steps, "eval_every": every}}
    return steps, every, rising(config, final, arrives)


def bounds(found: Array) -> tuple[float, float]:
    return found.sel(bound="least").item(), found.sel(bound="greatest").item()


def test_networks_of_different_lengths_are_compared_each_by_its_own_end(tmp_path: Path) -> None:
    networks, runs = of(tmp_path, run(800, 100, 0.7, 400), run(250, 50, 0.7, 100))
    target = Array([0.7], {"seed": [10]}, ["seed"])
    assert arrivals(networks, runs, target).squeeze().to_numpy().tolist() == [400, 100]
    assert bounds(fewer(networks, runs, "a", "b", target)) == (2, 2)
    assert highest(networks, runs).squeeze().to_numpy().tolist() == [0.7, 0.7]
    found = effects(networks, runs, "a", "b")
    assert bounds(found["speed"]) == (2, 2)
    assert found["accuracy"].item() == 0


def test_what_a_runs_end_cuts_off_is_bounded_by_that_runs_end(tmp_path: Path) -> None:
    never = diverged({"train": {"steps": 250, "eval_every": 50}})
    networks, runs = of(tmp_path, run(800, 100, 0.7, 400), run(250, 50, 0.6, 100), (250, 50, never))
    high, low = (Array([value], {"seed": [10]}, ["seed"]) for value in (0.7, 0.6))
    assert bounds(fewer(networks, runs, "a", "b", high)) == (-math.inf, math.log2(400 / 251))
    assert bounds(fewer(networks, runs, "b", "a", high)) == (math.log2(251 / 400), math.inf)
    assert bounds(fewer(networks, runs, "b", "c", high)) == (-math.inf, math.inf)
    assert bounds(fewer(networks, runs, "a", "c", low))[0] == -math.inf
    assert math.isinf(arrivals(networks, runs, low).sel(network="c").item())


def test_what_a_curve_gains_at_its_end_is_that_of_a_line(tmp_path: Path) -> None:
    networks, runs = of(tmp_path, run(1000, 20, 0.6, 1000), run(1000, 20, 0.6, 800))
    gained = gained_at_the_end(networks, runs).squeeze().to_numpy()
    assert gained == pytest.approx([0.05, 0.0], abs=1e-9)  # a tenth of .5; flat


def test_values_by_learning_rate_are_those_of_the_names() -> None:
    values = Array([3.0, 1.0, 2.0], {"network": ["x", "y", "z"]}, ["network"])
    found = by_lr(values, {"z": 0.5, "y": 2})
    assert found.sel(lr=0.5 * fig2_arms.LR).item() == 2
    assert found.sel(lr=2 * fig2_arms.LR).item() == 1


def test_a_dose_is_compared_on_a_line_over_the_logarithm_of_steps() -> None:
    coords = {"network": [INCEPTION, BN_BASELINE, BN_X5], "steps": [64, 256, 1024], "seed": [10]}
    rows = [[0.3, 0.5, 0.6], [0.4, 0.6, 0.7], [0.2, 0.3, 0.5]]
    last = Array(np.array(rows)[..., None], coords, list(coords))
    found = response(last, 256)  # to .5
    assert bounds(found[BN_BASELINE].squeeze()) == pytest.approx((1, 1))  # half way from 64 to 256
    assert bounds(found[BN_X5].squeeze()) == (-2, -2)
    found = response(last, 1024)  # to .6
    assert bounds(found[BN_BASELINE].squeeze()) == pytest.approx((2, 2))
    assert bounds(found[BN_X5].squeeze()) == (-math.inf, 0)
    found = response(last.where(last.network != BN_X5, 0.9), 1024)
    assert bounds(found[BN_X5].squeeze()) == (4, math.inf)


CLAIMS = (
    "bn-baseline", "bn-x5", "bn-x30", "five-times-rate", "less-dropout-cifar", "sigmoid-inception",
    "ensemble", "input-shift", "per-map", "accelerations",
)  # fmt: skip


def test_every_network_is_one_run_for_all_claims_that_have_it() -> None:
    """One that two claims meant to share, and that is two runs, costs hours."""
    found: dict[str, list[dict[str, object]]] = {}
    for name in CLAIMS:
        for arm, config in arms_of(claims.load(name), "paper").items():
            network = arm.split(" dropout=")[0].split(" steps=")[0]
            found.setdefault(network if network == arm else "", []).append(config)
    for network in (INCEPTION, BN_BASELINE, BN_X5, fig2_arms.BN_X30):
        first, *others = found[f"network={network}"]
        assert others
        assert all(config == first for config in others), network


def test_the_networks_end_and_decay_as_they_are_said_to() -> None:
    configs = arms_of(claims.load("accelerations"), "paper")
    slow, quick = (configs[f"network={name}"] for name in (BN_BASELINE, BN_X5))
    assert slow["train"]["steps"] == 200 * 160 == fig2_arms.STEPS["paper"]
    assert quick["train"]["steps"] == 67 * 160
    assert quick["schedule"]["horizon"] == slow["train"]["steps"]
    assert (quick["schedule"]["speed"], slow["schedule"]["speed"]) == (6, 1)
    assert quick["optimizer"]["lr"] == pytest.approx(5 * slow["optimizer"]["lr"])
    without = configs[f"network={BN_X5} − faster decay"]
    assert without["train"]["steps"] == slow["train"]["steps"]
    assert without["schedule"] == slow["schedule"]


def test_a_claims_runs_at_short_take_no_longer_than_said() -> None:
    steps = 0
    seen = []
    for name in CLAIMS:
        claim = claims.load(name)
        for config in arms_of(claim, "short").values():
            if config not in seen:
                seen.append(config)
                steps += config["train"]["steps"] * claim.scales["short"].seeds
    assert steps < 45_000  # of 43 ms, uncompiled, on two cores: a quarter of an hour
