"""Claims on how soon a network is as accurate as without BN: verdicts, from labelled curves."""

import numpy as np
import pytest
import xarray as xr

from bnrepro import claims
from bnrepro.claims import faster_training, optimizers
from bnrepro.evidence import fig1_arms
from bnrepro.evidence.gradients import less
from bnrepro.evidence.grid import Array
from bnrepro.evidence.judge import Verdict, judged

SEEDS = 10
NOISE = np.linspace(-0.1, 0.1, SEEDS)
STEPS = np.arange(0, 8001)


def runs(times: np.ndarray, best: float = 0.95, *, diverged: bool = False) -> xr.Dataset:
    """Runs (norm, seed): without BN `best` is reached at step 4,000, with BN `times` as soon."""
    slow = np.where(STEPS >= 4000, best, 0.5)
    quick = [np.where(each * STEPS >= 4000, best + 0.01, 0.5) for each in times]
    coords = {"norm": ["none", "batch"], "seed": range(10, 10 + SEEDS)}
    curve = Array([[slow] * SEEDS, quick], {**coords, "step": STEPS}, ["norm", "seed", "step"])
    ended = xr.zeros_like(curve.isel(step=-1, drop=True), bool)
    ended.loc["batch"] = diverged
    return xr.Dataset({"curve": curve, "test": curve.isel(step=-1, drop=True), "diverged": ended})


def verdict(claim: str, criterion: str, effect: Array) -> Verdict:
    return judged(claims.load(claim).criteria[criterion], effect).verdict


@pytest.mark.parametrize(
    ("doubled", "fig1", "optimizer"),
    [
        (2 + NOISE, Verdict.REPRODUCED, Verdict.REPRODUCED),
        (1 + NOISE, Verdict.SAME_DIRECTION, Verdict.REPRODUCED),  # margins of 1 and 0
        (0.5 + 2 * NOISE, Verdict.SAME_DIRECTION, Verdict.REPRODUCED),
        (NOISE, Verdict.NO_EFFECT, Verdict.NO_EFFECT),
        (-0.6 + NOISE, Verdict.OPPOSITE, Verdict.OPPOSITE),
        (8 * NOISE, Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE),
    ],
)
def test_speed_has_every_verdict(doubled: np.ndarray, fig1: Verdict, optimizer: Verdict) -> None:
    found = runs(2**doubled)
    assert verdict("faster-training", "speed", faster_training.effects(found)["speed"]) == fig1
    for name in optimizers.OPTIMIZERS:
        assert verdict("optimizers", name, optimizers.speed(found)) == optimizer


@pytest.mark.parametrize(
    ("dearer", "expected"),
    [(0.5, Verdict.REPRODUCED), (1.0, Verdict.NO_EFFECT), (1.5, Verdict.OPPOSITE)],
)
def test_what_a_step_costs_is_taken_off(dearer: float, expected: Verdict) -> None:
    twice = fig1_arms.speed(runs(2 ** (1 + NOISE)))
    assert verdict("seconds", "seconds", twice - dearer) == expected
    assert verdict("seconds", "seconds", twice - 1 + 8 * NOISE) == Verdict.INCONCLUSIVE


def test_a_diverged_run_is_never_as_accurate() -> None:
    lost = runs(np.full(SEEDS, 4.0), diverged=True)
    assert verdict("faster-training", "speed", fig1_arms.speed(lost)) == Verdict.OPPOSITE
    assert verdict("optimizers", "Adam", optimizers.speed(lost)) == Verdict.OPPOSITE


def test_a_baseline_that_never_trains_makes_speed_no_test() -> None:
    """Of Fig. 1 the target is at least .9: the control asks that the baseline come to it."""
    low = fig1_arms.steps(runs(np.full(SEEDS, 4.0), best=0.8))
    for claim in ("faster-training", "seconds"):
        target = claims.load(claim).controls["target"]
        assert not target.check(low.sel(norm="none"))[0]
        assert target.check(fig1_arms.steps(runs(np.ones(SEEDS))).sel(norm="none"))[0]
    alone = claims.load("seconds").controls["alone"]
    assert not alone.check(Array(np.full(SEEDS, 0.5)))[0]
    assert alone.check(Array(np.full(SEEDS, 0.99)))[0]


@pytest.mark.parametrize(
    ("gained", "expected"),
    [
        (0.2 + NOISE / 2, Verdict.REPRODUCED),
        (0.1 + NOISE / 2, Verdict.SAME_DIRECTION),
        (NOISE / 4, Verdict.NO_EFFECT),
        (-0.8 + NOISE, Verdict.OPPOSITE),
        (2 * NOISE, Verdict.INCONCLUSIVE),
    ],
)
def test_gradients_through_rectified_layers_have_every_verdict(
    gained: np.ndarray, expected: Verdict
) -> None:
    coords = {"norm": ["none", "batch"], "seed": range(10, 10 + SEEDS)}
    off = Array([1 + gained, np.ones(SEEDS)], coords, ["norm", "seed"])
    for name in claims.load("gradient-flow-depth-relu").criteria:
        assert verdict("gradient-flow-depth-relu", name, less(off)) == expected
