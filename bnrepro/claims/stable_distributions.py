"""Fig. 1b, c: with batch normalization the inputs of the sigmoids keep their distributions.

Whether that is why training is faster is disputed, and not asked here: the probes alone are read.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import xarray as xr

from bnrepro.evidence import claim, controls, paper
from bnrepro.evidence.arms import FIG1, NAMES, NONE, NORMS, PROBED, PROBED_LRS, SEEDS
from bnrepro.evidence.claim import Check, Claim, Criterion, Expected, Finding, Group, Margin, plans
from bnrepro.evidence.exhibits import Curves, Figure, Line
from bnrepro.evidence.grid import Array, Grid, curves, doublings, grid, steps_to, whatever
from bnrepro.evidence.movement import Drift, Track, drifts, path, tracks, wandering, widening
from bnrepro.evidence.runs import Evidence
from bnrepro.evidence.tuning import both_tuned
from bnrepro.plots import typical_unit

LAST, LARGER = "sigmoid3", 0.2
"""From this initial deviation sigmoids see a spread of .4 to begin with, not of .03."""

START = 0.1
"""The share of training that the start takes up: of the paper's 50,000 steps the first 5,000, when
its network without batch normalization comes to an accuracy of .78 and the one with it to .96."""

MOVES = 0.19
"""Spreads: half of what the paper's unit drifts without batch normalization after the start."""

Found = dict[str, list[Track]]  # of every arm the last hidden layer, of every seed

WHOLE, WIDE = grid(norm=NORMS), grid("wide", norm=NORMS)
AT_LRS = {scale: grid(norm=NORMS, lr=lrs) for scale, lrs in PROBED_LRS.items()}
"""Fig. 1; and for fewer steps from larger initial weights, and at other learning rates."""


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    wide = WIDE.arms(*PROBED[scale], f"init.scale={LARGER}")
    return WHOLE.arms(*FIG1[scale]) | AT_LRS[scale].arms(*PROBED[scale]) | wide


def effects(drift: Callable[[float], Array]) -> dict[str, Array]:
    """Both criteria's effects, from drifts (norm, seed) that begin at a share of training."""
    drifted = {"after the start": drift(START), "drift": drift(0.0)}
    return {
        name: whatever(doublings(*(of.sel(norm=norm, drop=True) for norm in NORMS)))
        for name, of in drifted.items()
    }


def equal_accuracy(runs: xr.Dataset) -> tuple[Array, Array]:
    """Shares of training (norm, seed) between which both arms go from one accuracy to another.

    The accuracies are those that the network without batch normalization has after the start and
    comes to, of the same seed, on validation images.
    """
    last, slow = runs.step[-1].item(), runs.curve.sel(norm=NONE, drop=True)
    after = slow.isel(step=slow.step >= START * last)
    first = steps_to(runs.curve, after.isel(step=0, drop=True), runs.diverged)
    begin, end = (
        first.where(np.isfinite(first), 0),
        steps_to(runs.curve, after.max("step"), runs.diverged),
    )
    return begin / (last or 1), end / (last or 1)  # 0 if every run diverged before a second look


def measure(evidence: Evidence) -> Finding:
    """Every unit of the last hidden layer, in both arms."""
    found, lrs = {arm: tracks(evidence, arm, LAST) for arm in evidence.runs}, AT_LRS[evidence.scale]

    def drift(begin: float, of: Grid = WHOLE, how: Drift = wandering, share: float = 0.5) -> Array:
        """Of every arm the unit that drifts more than a share of them: the typical one."""
        typical = partial(np.quantile, q=share, axis=1, method="inverted_cdf")
        return of.array(evidence, lambda arm: typical(drifts(found[arm], begin, how=how)))

    def meanwhile(begin: Array, end: Array) -> dict[str, Array]:
        """The effect at equal accuracy, from shares of training of each arm and seed."""
        windows = {WHOLE.arm(norm): (begin.sel(norm=norm), end.sel(norm=norm)) for norm in NORMS}

        def typical(arm: str) -> np.ndarray:
            of_seeds = zip(found[arm], *(window.to_numpy() for window in windows[arm]), strict=True)
            units = [drifts([track], low, high)[0] for track, low, high in of_seeds]
            return np.asarray(np.quantile(units, 0.5, axis=1, method="inverted_cdf"))

        none, batch = (WHOLE.array(evidence, typical).sel(norm=norm, drop=True) for norm in NORMS)
        return {"at equal accuracy": whatever(doublings(none, batch))}

    choices = {
        "the unit that drifts more than a tenth of them": effects(partial(drift, share=0.1)),
        "the unit that drifts more than nine tenths": effects(partial(drift, share=0.9)),
        "the path from probe to probe, not the range": effects(partial(drift, how=path)),
        "the range of the spread alone": effects(partial(drift, how=widening)),
        f"a fifth of the steps, initial deviation {LARGER}": effects(partial(drift, of=WIDE)),
    }
    choices |= {
        f"a fifth of the steps, learning rate {lr:g}": effects(partial(drift, of=lrs.at(lr=lr)))
        for lr in PROBED_LRS[evidence.scale]
    }
    return Finding(
        effects(drift) | meanwhile(*equal_accuracy(WHOLE.runs(evidence))),
        comparisons=_comparisons(drift) if evidence.scale == "paper" else (),
        exhibits=(_bands(evidence, found), _every_unit(evidence, found)),
        tuned=both_tuned(
            lrs.runs(evidence), lambda lr: effects(lambda begin: drift(begin, lrs).sel(lr=lr))
        ),
        unspecified=Check(
            "Which unit is typical, what drift is, and the weights and rate. The spread alone of "
            "the paper's two curves changes 1.2 times less with BN, from step 5,000 on.",
            choices,
        ),
        controls={"training": WHOLE.final(evidence), "movement": drift(START).sel(norm=NONE)},
    )


def of_paper(norm: str) -> Track:
    """The paper's one unit at our probes' steps, from the first its curves have: (P, 1, 3)."""
    curves = paper.percentiles(norm)
    steps = np.arange(500, 50_001, 500)
    values = np.stack([np.interp(steps, *curves[which]) for which in (15, 50, 85)], axis=-1)
    return steps / 50_000, values[:, None]


def _comparisons(drift: Callable[[float], Array]) -> tuple[claim.PaperNumber, ...]:
    compared = []
    for begin in (START, 0.01):
        what = f"drift of the typical unit, from step {begin * 50_000:,.0f} on"
        theirs = [float(drifts([of_paper(norm)], begin)[0, 0]) for norm in NORMS]
        ours = drift(begin)
        for norm, number in zip(NORMS, theirs, strict=True):
            numbers = ours.sel(norm=norm).to_numpy()
            one = claim.PaperNumber(f"{what}, {NAMES[norm]}", "spreads", number, numbers)
            compared.append(one)
        times = 2 ** doublings(*(ours.sel(norm=norm) for norm in NORMS)).to_numpy()
        what, ratio = f"{what}, times less with BN", theirs[0] / theirs[1]
        compared.append(claim.PaperNumber(what, "times", ratio, times))
    return tuple(compared)


def _bands(evidence: Evidence, found: Found) -> Figure:
    """Fig. 1b and c: the paper's unit, and the typical one of our first seed."""
    panels = []
    for letter, norm in zip("bc", NORMS, strict=True):
        times, values = found[WHOLE.arm(norm)][0]
        unit = typical_unit(values)
        title = f"Fig. 1{letter}, {NAMES[norm]}"
        if evidence.scale != "smoke":
            theirs, of_theirs = of_paper(norm)
            panels.append((f"{title}, the paper's", norm, theirs, of_theirs[:, 0]))
        ours = f"ours: {LAST}, unit {unit}, seed {evidence.seeds[0]}"
        panels.append((f"{title}, {ours}", norm, times, values[:, unit]))
    largest = max(np.nanmax(np.abs(values)).item() for *_, values in panels)
    return Figure(
        "fig1bc",
        "The median of one sigmoid's input, band from the 15th to the 85th percentile. Ours is the "
        "unit whose median wanders neither more nor less than most; the paper does not name its.",
        [
            Curves(title, "share of training", "input of the sigmoid",
                   [Line(NAMES[norm], times, values[:, 1], values[:, 0], values[:, 2])],
                   limits=(-largest, largest), levels=(0.0,))
            for title, norm, times, values in panels
        ],
    )  # fmt: skip


def _every_unit(evidence: Evidence, found: Found) -> Figure:
    compared, ranks = evidence.scale == "paper", range(found[WHOLE.arm(NONE)][0][1].shape[1])
    of_units = WHOLE.array(evidence, lambda arm: np.sort(drifts(found[arm], START)), rank=ranks)
    return curves(
        "every-unit",
        "The drift of every unit of the last hidden layer, after the start, in ascending order",
        {"after the first tenth of training": of_units}, "rank", "drift (the unit's spreads)",
        more=" Dotted: the paper's one unit, the lower line the one with BN." if compared else "",
        log_y=True,
        levels=[float(drifts([of_paper(n)], START)[0, 0]) for n in NORMS if compared],
    )  # fmt: skip


CLAIM = Claim(
    statement="With batch normalization the distributions of the inputs to the sigmoids are much "
    "more stable over training.",
    section="§4.1, Fig. 1b, c",
    paper_says="The 15th, 50th and 85th percentile of the input of one typical sigmoid of the last "
    "hidden layer over training: without batch normalization they change significantly over time, "
    "both in mean and variance; with it they are much more stable, “which aids the training”.",
    unspecified="Which unit is typical (all are measured here), on which images (500 training "
    "images here, the same at every probe, with their own statistics), a number for stable, the "
    "axis of steps (50,000 are assumed), learning rate and initial deviation (as in Fig. 1a). With "
    "BN mean and variance are pinned by construction: only γ, β and the shape can drift, so that "
    "the question is by how much, not whether.",
    criteria={
        "after the start": Criterion(
            "range of a unit's 15th, 50th and 85th percentile over training without its first "
            "tenth, the mean of the three, in units of its mean spread between the outer two; of "
            "the median unit; without BN ÷ with BN",
            Margin(1.0, "doublings"),
            "A factor of 2, for “much more stable”; the paper's curves give 3.8 (0.38 and 0.10).",
            paper=math.log2(3.8),
        ),
        "drift": Criterion(
            "the same over all of training",
            Margin(1.0, "doublings"),
            "The same factor; the paper's curves give 4 (0.66 and 0.17). But at first one has to "
            "grow out of small weights, and the other is at unit variance by construction.",
            paper=2.0,
        ),
        "at equal accuracy": Criterion(
            "the same while either arm goes from the validation accuracy that the network without "
            "BN has after the first tenth to the highest that it comes to",
            Margin(1.0, "doublings"),
            "The same factor. With BN most of training is over when without it the first tenth is: "
            "what is fitted already has less reason to move.",
        ),
    },
    scales=plans(_arms, SEEDS),
    measure=measure,
    controls={
        "training": controls.trains("each arm"),
        "movement": controls.exists("drift after the start without BN, in spreads,", MOVES),
    },
    group=Group.EXPERIMENT,
    expected=Expected("SAME DIRECTION", 0.9),
    why="The paper shows one unit of a hundred, likely a telling one; the typical unit may drift "
    "less without batch normalization.",
    to_settle="The paper's unit, learning rate and initial weights, which it does not name.",
    later={
        "Santurkar et al. 2018": "Steadier is not why it is faster: with noise of changing mean "
        "and variance added after the normalization, inputs are less stable than without any, and "
        "the network still trains about as fast. Measured by how much a layer's gradient changes "
        "when the layers before it are updated, the shift is similar or larger with it."
    },
)
