"""§2: full whitening of each layer, which the paper finds too expensive, against batch norm.

§2 hopes for fewer steps. Here whitening takes 1.5 times as many.
"""

import numpy as np
import xarray as xr

from bnrepro.evidence import controls
from bnrepro.evidence.arms import SEEDS, SMOKE, per_scale
from bnrepro.evidence.claim import Check, Claim, Criterion, Expected, Finding, Margin, plans
from bnrepro.evidence.exhibits import Figure
from bnrepro.evidence.grid import (
    Array,
    Grid,
    best,
    curves,
    doublings,
    grid,
    stack,
    steps_to,
    table,
    times_fewer,
    whatever,
)  # fmt: skip
from bnrepro.evidence.later_arms import FIRST_OF_LATER, NORM_NAMES
from bnrepro.evidence.runs import Evidence
from bnrepro.evidence.tuning import for_each_seed, throughout

NONE, BATCH, WHITEN = "none", "batch", "whiten"
BOTH = (BATCH, WHITEN)
ARMS = {
    NONE: ("norm=none",), BATCH: ("norm=batch",), WHITEN: ("norm=whiten", "norm.eps=0.1"),
}  # fmt: skip
"""What is added to every variance was chosen, of .001, .01, .1 and 1, by a pilot's accuracy."""

WIDTH, IMAGES = 128, 256
"""Units of each hidden layer, and images of a batch: twice as many, for a covariance of full rank
and some more."""

LRS = per_scale((0.3, 3.0), (0.3, 1.0, 3.0), (0.3, 1.0, 3.0, 10.0))

NEAR = 0.01
"""How far below the highest accuracy that both come to the target is: where curves are nearly flat,
noise decides when one is crossed."""

_WIDE = (f"model.hidden=[{WIDTH},{WIDTH},{WIDTH}]", f"train.batch_size={IMAGES}", "probe.every=0")
WORDS = {
    "smoke": ("experiment=fig1", *SMOKE, *_WIDE, "train.steps=100", "train.eval_every=50"),
    "short": ("experiment=fig1", *_WIDE, "train.steps=300", "train.eval_every=20"),
    "paper": ("experiment=fig1", *_WIDE, "train.steps=1500", "train.eval_every=50",
              "train.compile=true", "tensorboard=false"),
}  # fmt: skip
"""The network of Fig. 1, somewhat wider, in large batches."""

TIMED = {BATCH: "batch, timed", WHITEN: "whiten, timed"}
"""Runs of a few steps at whose end steps are timed, in turns with those without any norm."""

WIDER = "all widths, timed"
STEP, WIDTHS = "step-seconds", "whitening-seconds"


def cells(scale: str) -> Grid:
    """All arms at every learning rate."""
    return grid(norm=ARMS, lr=LRS[scale])


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    few = (*WORDS[scale], "train.steps=20", "train.eval_every=20")
    timed = {name: (*few, *ARMS[norm], f"studies=[{STEP}]") for norm, name in TIMED.items()}
    wider = {WIDER: (*few, *ARMS[WHITEN], f"studies=[{WIDTHS}]")}
    return cells(scale).arms(*WORDS[scale]) | timed | wider


def dearer(evidence: Evidence) -> tuple[Array, Array]:
    """Doublings of a step's seconds from batch normalization to whitening (seed); shares at work.

    Each norm's are in units of those without any, timed in the same turns. A run that diverged was
    not timed: NaN, and no share.
    """
    times, shares = {}, []
    for norm, arm in TIMED.items():
        studies = evidence.studies(arm, STEP)
        times[norm] = [
            np.median(study["seconds"][norm]) / np.median(study["seconds"][NONE])
            if study else np.nan
            for study in studies
        ]  # fmt: skip
        shares.append([study["share"] if study else 0.0 for study in studies])
    seed = {"seed": list(evidence.seeds)}
    batch, whiten = (Array(times[norm], seed, ["seed"]) for norm in BOTH)
    return doublings(whiten, batch), Array(np.min(shares, 0), seed, ["seed"])


def over_widths(evidence: Evidence) -> Array:
    """Seconds of a step (norm, width, seed), uncompiled; NaN where a run diverged."""
    studies = evidence.studies(WIDER, WIDTHS)
    widths = next((study["widths"] for study in studies if study), [WIDTH])
    absent = [[np.nan]] * len(widths)

    def of(norm: str) -> Array:
        turns = [study["seconds"][norm] if study else absent for study in studies]
        values = [[np.median(of_width) for of_width in of_seed] for of_seed in turns]
        coords = {"seed": list(evidence.seeds), "width": widths}
        return Array(np.array(values), coords, ["seed", "width"])

    return stack({norm: of(norm) for norm in BOTH})


def steps(runs: xr.Dataset, *to: str) -> Array:
    """Steps (norm, seed) to within `NEAR` of the highest validation accuracy all of `to` come to.

    `to` are both norms, if none is named.
    """
    target = runs.curve.sel(norm=list(to or BOTH)).max("step").min("norm")
    return steps_to(runs.curve, target - NEAR, runs.diverged)


def effects(runs: xr.Dataset, dearer: Array, *to: str) -> dict[str, Array]:
    """What whitening costs in seconds and saves in steps, of runs (norm, seed); `to` as `steps`."""
    batch, whiten = (steps(runs, *to).sel(norm=norm, drop=True) for norm in BOTH)
    beyond = runs.step[-1].item() + 1
    seconds = times_fewer(whiten, batch, beyond) + dearer
    return {"seconds": _any(seconds), "steps": _any(times_fewer(batch, whiten, beyond))}


def _any(effect: Array) -> Array:
    """Where neither arrives, or nothing was timed, the effect may be any number."""
    return stack(
        {
            "least": effect.sel(bound="least", drop=True).fillna(-np.inf),
            "greatest": effect.sel(bound="greatest", drop=True).fillna(np.inf),
        },
        "bound",
    )


def measure(evidence: Evidence) -> Finding:
    """Each arm at its best learning rate; at that of each seed; at the same one."""
    runs = cells(evidence.scale).runs(evidence)
    lr = best(runs.validation)
    tuned = runs.sel(lr=lr)
    more, share = dearer(evidence)
    wide = over_widths(evidence)
    ratio = doublings(wide.sel(norm=WHITEN, drop=True), wide.sel(norm=BATCH, drop=True))
    grows = ratio.isel(width=-1, drop=True) - ratio.isel(width=0, drop=True)

    def of(runs: xr.Dataset) -> dict[str, Array]:
        return effects(runs, more)

    return Finding(
        {**of(tuned), "width": whatever(grows)},
        exhibits=(
            _figure(tuned, wide),
            table(
                "Each arm at its best learning rate, means over seeds: steps to one hundredth "
                "below the highest validation accuracy that both norms come to (∞: never reached); "
                "test accuracy.",
                ("norm",),
                {"learning rate": lr, "steps": steps(tuned), "test accuracy": tuned.test},
                NORM_NAMES,
            ),
            table(
                "Milliseconds of a training step of three hidden layers, uncompiled, in batches of "
                "twice as many images as units: medians of turns, means over seeds.",
                ("width",),
                {NORM_NAMES[norm]: 1000 * wide.sel(norm=norm) for norm in BOTH}
                | {"times": 2**ratio},
                called={"width": "units a layer"},
            ),
        ),
        tuned=for_each_seed(of(runs.sel(lr=runs.validation.idxmax("lr")))),
        unspecified=Check(
            "One learning rate for all; and the accuracy to come to, that of the network without "
            "any norm.",
            throughout(runs, of) | {"to that without any norm": effects(tuned, more, NONE)},
        ),
        controls={"training": tuned.test, "rates": runs.validation, "alone": share},
    )


def _figure(tuned: xr.Dataset, wide: Array) -> Figure:
    both = curves(
        "whitening", "Left, each arm at its best learning rate; right, what a step takes",
        {"over the steps": tuned.curve}, "step", "validation accuracy", names=NORM_NAMES,
        limits=(0.8, 1.0), more=" Accuracies below 0.8 are not shown.",
    )  # fmt: skip
    over = curves(
        "", "", {"seconds of a step": wide}, "width", "seconds", names=NORM_NAMES,
        log_x=True, log_y=True,
    )  # fmt: skip
    return Figure(both.name, both.caption, [*both.panels, *over.panels])


_TO = (
    "to a validation accuracy one hundredth below the highest that both come to, of the same seed, "
    "each at its best learning rate"
)

CLAIM = Claim(
    statement="Full whitening of each layer takes more time than batch normalization to the same "
    "accuracy.",
    section="§2, §3",
    paper_says="Its “full whitening” is “costly and not everywhere differentiable” (§3); it takes "
    "the covariance matrix and its inverse square root, and the derivatives of both (§2). “It has "
    "been long known … that the network training converges faster if its inputs are whitened” "
    "(§2). No experiment has it.",
    unspecified="Everything. Here each of three hidden layers of 128 sigmoids is whitened before "
    "its nonlinearity over batches of 256 images, Cov[x]^(-½)·(x − E[x]), with the gradient "
    "through both, and γ and β as in batch normalization; .1 is added to every variance, which in "
    "a pilot (seed 100) was better than .001, .01 and 1: without, directions of hardly any "
    "variance are blown up, and those of one batch are not those of the next. Each arm has 1,500 "
    "steps, at the best of four learning rates. The inverse square root is of an "
    "eigendecomposition, whose derivative is finite also where eigenvalues are equal. What a step "
    "takes is of one core of the machine that made the runs. Batches are twice as large as layers "
    "are wide, for smaller ones leave the covariance without full rank. A first pilot (seed 100) "
    "counted steps to the accuracy that the network without any norm comes to, .958: whitening "
    "never came to it.",
    criteria={
        "seconds": Criterion(
            f"seconds of training with whitening ÷ with BN, {_TO}: steps, times the seconds of a "
            "step",
            Margin(0.0, "doublings"),
            "More time at all; a tenth more or less is none, for machines differ by as much.",
            indifference=0.15,
        ),
        "steps": Criterion(
            f"steps with BN ÷ with whitening, {_TO}",
            Margin(0.0, "doublings"),
            "“Converges faster”: in fewer steps at all; a tenth fewer or more are no difference.",
            indifference=0.15,
        ),
        "width": Criterion(
            "seconds of a step with whitening ÷ with BN, of layers of 1,024 units ÷ of 64",
            Margin(0.0, "doublings"),
            "“Costly”: the inverse root grows with the width to the third power, all else with the "
            "second, so that the price grows at all; 10 % are none.",
            indifference=0.15,
        ),
    },
    scales=plans(_arms, SEEDS),
    measure=measure,
    controls={
        "training": controls.trains("each arm at its best learning rate"),
        "rates": controls.interior(),
        "alone": controls.exists("the share of the timing in which the process was running", 0.9),
    },
    expected=Expected("REPRODUCED", known=True),
    first_seed=FIRST_OF_LATER,
    why="Whitening by an approximation of the inverse root, or in groups of units, is cheaper.",
    to_settle="A GPU, and networks in which the layers' own products take most of the time.",
    later={
        "Huang et al. 2018": "Whitening over the batch by the symmetric root, with its derivative, "
        "in groups of units, trains faster than batch normalization in their networks, and "
        "generalizes better.",
        "Desjardins et al. 2015": "Whitening whose matrices are computed only once in many steps, "
        "outside the gradient, is cheap enough to train faster in time as well.",
        "Wadia et al. 2020": "Of inputs: whitened ones can leave less to generalize from.",
    },
)
