"""Fig. 1b, c: with batch normalization the inputs of the sigmoids keep their distributions.

Steadier is one thing, faster another, and that the one is why the other is disputed: everything
here is read off the probes alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from bnrepro.evidence import paper
from bnrepro.evidence.arms import FIG1, NAMES, NORMS, PROBED, PROBED_LRS, SEEDS
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Margin, PaperNumber, plans
from bnrepro.evidence.exhibits import Cell, Curves, Figure, Line, Table, over_seeds
from bnrepro.evidence.grid import Grid, grid, table
from bnrepro.evidence.movement import Drift, Track, drifts, path, tracks, wandering, widening
from bnrepro.evidence.runs import Evidence, log_ratio
from bnrepro.evidence.stats import lower_median
from bnrepro.evidence.tuning import both_tuned
from bnrepro.plots import typical_unit

LAYERS = ("sigmoid1", "sigmoid2", "sigmoid3")
LAST = LAYERS[-1]

LARGER = 0.2
"""An initial deviation from which sigmoids see a spread of .4 to begin with, not of .03."""

START = 0.1
"""The share of training that the start takes up: of the paper's 50,000 steps the first 5,000, when
its network without batch normalization comes to an accuracy of .78 and the one with it to .96."""

WHOLE, WIDE = grid(norm=NORMS), grid("wide", norm=NORMS)
"""Fig. 1; and from larger initial weights, for fewer steps."""


def over(scale: str) -> Grid:
    """For fewer steps, at other learning rates."""
    return grid(norm=NORMS, lr=PROBED_LRS[scale])


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    wide = WIDE.arms(*PROBED[scale], f"init.scale={LARGER}")
    return WHOLE.arms(*FIG1[scale]) | over(scale).arms(*PROBED[scale]) | wide


Tracks = Mapping[str, Sequence[Track]]
"""The last hidden layer's, of every seed, by norm."""


def effects(
    found: Tracks,
    *,
    until: float = 1.0,
    how: Drift = wandering,
    typical: Callable[[np.ndarray], np.ndarray] = lower_median,
) -> dict[str, np.ndarray]:
    """Both criteria's effects.

    Args:
        found: without and with batch normalization.
        until: where training is taken to end, as a share of it.
        how: what drift is.
        typical: the unit that stands for the layer, from the drifts (S, U): (S,).
    """

    def ratio(begin: float) -> np.ndarray:
        without, with_it = (typical(drifts(found[norm], begin, until, how)) for norm in NORMS)
        return log_ratio(without, with_it)

    return {"drift": ratio(0.0), "after the start": ratio(START * until)}


def last(evidence: Evidence, of: Grid) -> Tracks:
    """The tracks of a grid's two arms."""
    return {norm: tracks(evidence, of.arm(norm), LAST) for norm in NORMS}


def measure(evidence: Evidence) -> Finding:
    """Every unit of the last hidden layer, in both arms."""
    found, lrs = last(evidence, WHOLE), over(evidence.scale)

    def unit(share: float) -> Callable[[np.ndarray], np.ndarray]:
        return partial(np.quantile, q=share, axis=1, method="inverted_cdf")

    choices = {
        "the unit that drifts more than a tenth of them": effects(found, typical=unit(0.1)),
        "the unit that drifts more than nine tenths": effects(found, typical=unit(0.9)),
        "the path from probe to probe, not the range": effects(found, how=path),
        "the range of the spread alone": effects(found, how=widening),
        f"a fifth of the steps, initial deviation {LARGER}": effects(last(evidence, WIDE)),
    }
    if evidence.scale != "smoke":  # which has one probe in it
        choices["a fifth of the steps, nothing else changed"] = effects(found, until=0.2)
    for lr in PROBED_LRS[evidence.scale]:
        at = effects(last(evidence, lrs.at(lr=lr)))
        choices[f"a fifth of the steps, learning rate {lr:g}"] = at
    runs = lrs.runs(evidence)
    tuned = both_tuned(runs, lambda lr: effects(last(evidence, lrs.at(lr=lr))))
    return Finding(
        effects(found),
        _comparisons(found) if evidence.scale == "paper" else (),
        (_bands(evidence, found), _every_unit(evidence, found), _by_layer(evidence)),
        replace(tuned, exhibits=(*tuned.exhibits, _over_lrs(evidence))),
        Check(
            "Which unit is typical, what drift is, and the weights and rate that the paper does "
            "not name. Of the spread alone the paper's own two curves show little: from step 5,000 "
            "on it changes 1.2 times less with BN.",
            choices,
        ),
    )


def of_paper(norm: str) -> Track:
    """The paper's one unit at our probes' steps, from the first its curves have: (P, 1, 3)."""
    curves = paper.percentiles(norm)
    steps = np.arange(500, 50_001, 500)
    values = np.stack([np.interp(steps, *curves[which]) for which in (15, 50, 85)], axis=-1)
    return steps / 50_000, values[:, None]


def _comparisons(found: Tracks) -> tuple[PaperNumber, ...]:
    """The paper's unit beside the typical one of ours, both from step 500 on."""
    compared = []
    for what, begin, how in (
        ("drift of the typical unit, from step 500 on", 0.01, wandering),
        ("drift of the typical unit, from step 5,000 on", START, wandering),
        ("range of its spread alone, from step 5,000 on", START, widening),
    ):
        theirs = [float(drifts([of_paper(norm)], begin, how=how)[0, 0]) for norm in NORMS]
        ours = [lower_median(drifts(found[norm], begin, how=how)) for norm in NORMS]
        for norm, number, numbers in zip(NORMS, theirs, ours, strict=True):
            compared.append(PaperNumber(f"{what}, {NAMES[norm]}", "spreads", number, numbers))
        times = 2 ** log_ratio(ours[0], ours[1])
        compared.append(
            PaperNumber(f"{what}, times less with BN", "times", theirs[0] / theirs[1], times)
        )
    return tuple(compared)


def _bands(evidence: Evidence, found: Tracks) -> Figure:
    """Fig. 1b and c: the paper's unit, and the typical one of our first seed."""
    panels = []
    for letter, norm in zip("bc", NORMS, strict=True):
        times, values = found[norm][0]
        unit = typical_unit(values)
        shown = {f"ours: {LAST}, unit {unit}, seed {evidence.seeds[0]}": (times, values[:, unit])}
        if evidence.scale != "smoke":
            theirs, curves = of_paper(norm)
            shown = {"the paper's": (theirs, curves[:, 0])} | shown
        panels += [
            (f"Fig. 1{letter}, {NAMES[norm]}, {whose}", norm, *t) for whose, t in shown.items()
        ]
    seen = np.concatenate([values.ravel() for *_, values in panels])
    largest = float(np.max(np.abs(seen), initial=1.0, where=np.isfinite(seen)))
    return Figure(
        "fig1bc",
        "The 15th, 50th and 85th percentile of the input of one sigmoid of the last hidden layer: "
        "a line for the median, a band between the others. Ours is the unit whose median wanders "
        "neither more nor less than most; the paper does not say which one it shows.",
        [
            Curves(title, "share of training", "input of the sigmoid",
                   [Line(NAMES[norm], times, values[:, 1], values[:, 0], values[:, 2])],
                   limits=(-1.05 * largest, 1.05 * largest), levels=(0.0,))
            for title, norm, times, values in panels
        ],
    )  # fmt: skip


def _every_unit(evidence: Evidence, found: Tracks) -> Figure:
    panels, compared = [], evidence.scale == "paper"
    for begin, title in ((0.0, "over all of training"), (START, "after its first tenth")):
        lines = []
        for norm in NORMS:
            ordered = np.sort(drifts(found[norm], begin), axis=1)
            ranks = 100 * (np.arange(ordered.shape[1]) + 0.5) / ordered.shape[1]
            lines.append(over_seeds(NAMES[norm], ranks, ordered))
        levels = [float(drifts([of_paper(norm)], begin)[0, 0]) for norm in NORMS if compared]
        panels.append(
            Curves(f"drift of every unit, {title}", "units that drift less (%)",
                   "drift (the unit's spreads)", lines, log_y=True, levels=levels)
        )  # fmt: skip
    caption = (
        "The drift of every unit of the last hidden layer, in ascending order: median over seeds, "
        "band from least to greatest."
    )
    if compared:
        caption += " Dotted: the paper's one unit, the lower line the one with BN."
    return Figure("every-unit", caption, panels)


def _by_layer(evidence: Evidence) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for layer in LAYERS:
        for norm in NORMS:
            found = tracks(evidence, WHOLE.arm(norm), layer)
            drifted = [
                float(lower_median(lower_median(drifts(found, begin, how=how))))
                for begin in (0.0, START)
                for how in (wandering, widening)
            ]
            rows.append((layer, NAMES[norm], *drifted))
    return Table(
        "The typical unit of every hidden layer, in units of its spread; medians over seeds. The "
        "spread alone is told apart: without BN it grows out of small initial weights, with BN it "
        "begins at two standard deviations.",
        ("layer", "arm", "drift", "range of the spread", "drift after the start",
         "range of the spread after the start"),
        rows,
    )  # fmt: skip


def _over_lrs(evidence: Evidence) -> Table:
    of = over(evidence.scale)
    drift = of.array(evidence, lambda arm: lower_median(drifts(tracks(evidence, arm, LAST))))
    return table(
        "Drift (median over seeds) and test accuracy (mean): whether what is steadier is better.",
        ("lr", "norm"),
        {"drift": drift.reduce(lower_median, "seed"), "test accuracy": of.final(evidence)},
    )


CLAIM = Claim(
    statement="With batch normalization the distributions of the inputs to the sigmoids are much "
    "more stable over training.",
    section="§4.1, Fig. 1b, c",
    paper_says="The 15th, 50th and 85th percentile of the input of one typical sigmoid of the last "
    "hidden layer over training: without batch normalization they change significantly over time, "
    "both in mean and variance; with it they are much more stable, “which aids the training”. "
    "That aid is not what is asked here.",
    unspecified="Which unit is typical (all of the layer's are measured here), on which images "
    "(500 training images here, the same ones at every probe, with their own statistics), a number "
    "for stable, the scale of the axis of steps (all 50,000 are assumed), learning rate and "
    "initial deviation (as in Fig. 1a).",
    criteria={
        "drift": Criterion(
            "range of a unit's 15th, 50th and 85th percentile over training, the mean of the "
            "three, in units of its mean spread between the outer two; of the median unit; "
            "without BN ÷ with BN, of the same seed",
            Margin(1.0, "doublings"),
            "A factor of 2, for “much more stable”. The paper's two curves, measured alike, give 4 "
            "(0.66 and 0.17 spreads).",
        ),
        "after the start": Criterion(
            "the same without the first tenth of training",
            Margin(1.0, "doublings"),
            "The same factor. At first the one network has to grow out of small initial weights, "
            "and the other is at unit variance by construction: that difference alone shall not "
            "decide. The paper's curves, from step 5,000 on, give 3.8 (0.38 and 0.10).",
        ),
    },
    scales=plans(_arms, SEEDS),
    measure=measure,
    later={
        "Santurkar et al. 2018": "Steadier is not why it is faster: with noise of changing mean "
        "and variance added after the normalization, inputs are less stable than without any, and "
        "the network still trains about as fast. Measured by how much a layer's gradient changes "
        "when the layers before it are updated, internal covariate shift with batch normalization "
        "is similar or larger.",
        "Bjorck et al. 2018": "What has to be kept in bounds is activations and gradients that "
        "grow with depth at large learning rates, where networks without batch normalization "
        "diverge; at small ones batch normalization gains little.",
    },
)
