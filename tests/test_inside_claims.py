"""Claims on what happens inside a network: their effects and verdicts, from labelled arrays."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import xarray as xr

from bnrepro import claims
from bnrepro.claims import amplification, jacobian_isometry, jacobian_magnitude
from bnrepro.claims.gradient_flow_scale import span
from bnrepro.claims.stable_distributions import equal_accuracy
from bnrepro.evidence.gradients import less, uneven
from bnrepro.evidence.judge import Verdict, judged

SEEDS = 10
NOISE = np.linspace(-0.1, 0.1, SEEDS)
INF = math.inf


def by_norm(none: object, batch: object, **more: Sequence[object]) -> xr.DataArray:
    """Values of both arms (norm, *more, seed), the same of every seed but for an array's own."""
    shape = (*(len(values) for values in more.values()), SEEDS)
    rows = [np.broadcast_to(np.asarray(of, float), shape) for of in (none, batch)]
    coords = {"norm": ["none", "batch"], **{k: list(v) for k, v in more.items()}}
    return xr.DataArray(rows, {**coords, "seed": range(10, 20)}, ["norm", *more, "seed"])


def verdict(claim: str, criterion: str, effect: xr.DataArray) -> Verdict:
    return judged(claims.load(claim).criteria[criterion], effect).verdict


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (2.0 ** (2 + NOISE), Verdict.REPRODUCED),  # of a margin of 0
        (2.0**NOISE, Verdict.NO_EFFECT),
        (2.0 ** (-2 + NOISE), Verdict.OPPOSITE),
        (2.0 ** (5 * NOISE), Verdict.INCONCLUSIVE),
    ],
)
def test_amplification_has_every_verdict(times: np.ndarray, expected: Verdict) -> None:
    when, names = ("start", "end"), ("into", "spread", "out")
    last = by_norm(0.001 * times, 0.001, when=when)
    first = xr.full_like(last, 0.001)
    changes = xr.Dataset(
        {f"last {name}": last for name in names}
        | {f"first {name}": first for name in names}
        | {"gradient": last}
    )
    for name, effect in amplification.effects(changes).items():
        assert verdict("amplification", name, effect) == expected, name


def test_a_network_that_diverges_amplifies_infinitely_and_two_of_them_decide_nothing() -> None:
    more = amplification.less(by_norm(0.001, INF))
    assert verdict("amplification", "end", more) == Verdict.OPPOSITE
    both = amplification.less(by_norm(INF, INF))
    assert verdict("amplification", "end", both) == Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("gained", "expected"),
    [
        (2 + NOISE, Verdict.REPRODUCED),
        (0.7 + NOISE, Verdict.SAME_DIRECTION),
        (NOISE, Verdict.NO_EFFECT),
        (-1 + NOISE, Verdict.OPPOSITE),
        (10 * NOISE, Verdict.INCONCLUSIVE),
    ],
)
def test_sizes_of_jacobians_and_gradients_have_every_verdict(
    gained: np.ndarray, expected: Verdict
) -> None:
    start = np.full((1, SEEDS), 100.0)  # the probe at the start does not count
    values = by_norm(np.concatenate([start, [3 + gained]]), np.full((2, SEEDS), 3.0), step=(0, 1))
    effects = jacobian_magnitude.effects(xr.Dataset({"off": values}))
    assert verdict("jacobian-magnitude", "size", effects["size"]) == expected
    first = np.stack([-3 - gained, np.zeros(SEEDS)])
    layers = by_norm(first, [[-3.0], [0.0]], layer=(0, -1))
    depth = less(uneven(layers))
    assert verdict("gradient-flow-depth-sigmoid", "depth", depth) == expected
    spans = by_norm(np.stack([np.zeros(SEEDS), 3 + gained]), [[0.0], [3.0]], std=(0.1, 1.0))
    assert verdict("gradient-flow-scale", "sigmoids", less(span(spans, "std"))) == expected


@pytest.mark.parametrize(
    ("spread", "correlation", "verdicts"),
    [
        (1.5, 0.02, (Verdict.REPRODUCED, Verdict.REPRODUCED)),
        (1.15, 0.1, (Verdict.SAME_DIRECTION, Verdict.NO_EFFECT)),
        (1.0, 0.3, (Verdict.NO_EFFECT, Verdict.OPPOSITE)),
        (0.8, math.nan, (Verdict.OPPOSITE, Verdict.OPPOSITE)),
    ],
)
def test_isometry_has_every_verdict_and_so_has_its_premise(
    spread: float, correlation: float, verdicts: tuple[Verdict, Verdict]
) -> None:
    steps = (0, 100, 200)
    spreads = by_norm(spread + NOISE / 100, 1.0, step=steps)
    correlations = by_norm(0.0, correlation, step=steps)
    runs = xr.Dataset({"spread": spreads, "correlation": correlations})
    effects = jacobian_isometry.effects(runs)
    found = tuple(
        verdict("jacobian-isometry", name, effects[name]) for name in ("spread", "premise")
    )
    assert found == verdicts


@pytest.mark.filterwarnings("error")
def test_gradients_of_nothing_are_infinitely_uneven() -> None:
    layers = by_norm(-INF, 0.0, layer=(0, -1))
    assert uneven(layers).sel(norm="none").to_numpy().tolist() == [INF] * SEEDS
    lost = less(uneven(layers))
    assert verdict("gradient-flow-depth-sigmoid", "depth", lost) == Verdict.REPRODUCED
    nothing = less(uneven(by_norm(-INF, -INF, layer=(0, -1))))
    assert verdict("gradient-flow-depth-sigmoid", "depth", nothing) == Verdict.INCONCLUSIVE


def test_equal_accuracy_is_from_the_slow_ones_start_to_what_it_comes_to() -> None:
    steps = range(0, 1001, 50)
    slow = np.linspace(0.1, 0.9, 21)
    quick = np.minimum(0.99, np.linspace(0.1, 1.9, 21))
    curve = by_norm(slow[:, None], quick[:, None], step=steps)
    diverged = by_norm(0, 0) == 1
    begin, end = equal_accuracy(xr.Dataset({"curve": curve, "diverged": diverged}))
    assert begin.sel(norm="none").to_numpy().tolist() == [0.1] * SEEDS
    assert end.sel(norm="none").to_numpy().tolist() == [1.0] * SEEDS
    assert begin.sel(norm="batch").to_numpy().tolist() == [0.05] * SEEDS  # .18 of the slow one
    assert end.sel(norm="batch").to_numpy().tolist() == [0.45] * SEEDS
    never = xr.Dataset({"curve": by_norm(slow[:, None], 0.1, step=steps), "diverged": diverged})
    begin, end = equal_accuracy(never)
    assert begin.sel(norm="batch").to_numpy().tolist() == [0.0] * SEEDS  # all of training
    assert end.sel(norm="batch").to_numpy().tolist() == [INF] * SEEDS
