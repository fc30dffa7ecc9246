"""Whether batch normalization needs steady distributions: noise after it takes them away again.

At the best learning rate the network without batch normalization is nearly as fast, so that the
seeds do not tell whether the noisy one is faster than that; at the rate 0.3 it is, by 1.7 times. Of
rectified units the noisy network may need up to 1.4 times the steps of the one without noise: there
the seeds do not decide.
"""

import math

import xarray as xr

from bnrepro.evidence import controls
from bnrepro.evidence.arms import SEEDS, SMOKE, per_scale
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Margin, plans
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
)  # fmt: skip
from bnrepro.evidence.later_arms import FIRST_OF_LATER, NORM_NAMES
from bnrepro.evidence.runs import TOLD_APART, Evidence
from bnrepro.evidence.tuning import for_each_seed, throughout

NONE, BATCH, NOISY = ARMS = ("none", "batch", "noisy")

SIGMOIDS, RECTIFIED = "sigmoids", "rectified units"
LAST = {SIGMOIDS: "sigmoid3", RECTIFIED: "relu3"}
"""The last nonlinearity of each network, whose inputs are watched."""

NETWORKS = {
    SIGMOIDS: (f"probe.layers=[{LAST[SIGMOIDS]}]",),
    RECTIFIED: ("model.activation=relu", "init=he", "init.scale=1",
                f"probe.layers=[{LAST[RECTIFIED]}]"),
}  # fmt: skip

LRS = {
    SIGMOIDS: per_scale((0.3, 3.0), (1.0, 3.0, 10.0, 30.0), (0.3, 1.0, 3.0, 10.0, 30.0)),
    RECTIFIED: per_scale((0.1, 0.3), (0.1, 0.3, 1.0), (0.03, 0.1, 0.3, 1.0, 3.0)),
}
"""Learning rates, half an order of magnitude apart."""

WORDS = {
    "smoke": ("experiment=fig1", *SMOKE, "probe.every=50"),
    "short": ("experiment=fig1", "train.steps=1000", "train.eval_every=100", "probe.every=50"),
    "paper": ("experiment=fig1", "train.steps=5000", "train.eval_every=200", "probe.every=50",
              "train.compile=true", "tensorboard=false"),
}  # fmt: skip
"""Otherwise the network of Fig. 1, probed, in a tenth of its steps."""

QUARTER = math.log2(1.25)
"""A quarter more steps, in doublings."""


def cells(scale: str, network: str) -> Grid:
    """All arms of a network at every learning rate."""
    return grid(network, norm=ARMS, lr=LRS[network][scale])


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    return {
        arm: words
        for network, own in NETWORKS.items()
        for arm, words in cells(scale, network).arms(*own).items()
    }


def shifts(evidence: Evidence, network: str, of: Grid) -> Array:
    """How far the median unit's distribution shifts from probe to probe, in units of its spread.

    Of the inputs of the last nonlinearity, with axis `step`; infinite where a run diverged.
    """
    found: Array = of.over_training(
        evidence, lambda arm: evidence.probed(arm, f"{LAST[network]}/shift:median"), math.inf
    )
    return found.isel(step=slice(1, None))


def steps(runs: xr.Dataset) -> Array:
    """Steps (norm, seed) to the highest validation accuracy without BN."""
    return steps_to(runs.curve, runs.curve.sel(norm=NONE).max("step"), runs.diverged)


def accuracy(test: Array) -> dict[str, Array]:
    """What the noise costs."""
    return {"accuracy": test.sel(norm=NOISY) - test.sel(norm=BATCH)}


def effects(runs: xr.Dataset) -> dict[str, Array]:
    """All effects of one network's runs (norm, seed)."""
    none, batch, noisy = (steps(runs).sel(norm=norm, drop=True) for norm in ARMS)
    beyond = runs.step[-1].item() + 1
    return {
        "speed": times_fewer(batch, noisy, beyond),
        "faster": times_fewer(none, noisy, beyond),
        **accuracy(runs.test),
    }


def measure(evidence: Evidence) -> Finding:
    """Each arm of each network at its best learning rate; at that of each seed; at the same one."""
    of = {network: cells(evidence.scale, network) for network in NETWORKS}
    runs = {network: each.runs(evidence) for network, each in of.items()}
    lrs = {network: best(each.validation) for network, each in runs.items()}
    tuned = {network: each.sel(lr=lrs[network]) for network, each in runs.items()}
    moved = {network: shifts(evidence, network, of[network].at(lr=lrs[network])) for network in of}
    typical = {network: shift.median("step") for network, shift in moved.items()}
    less_steady = doublings(
        *(typical[SIGMOIDS].sel(norm=norm, drop=True) for norm in (NOISY, NONE))
    )
    sigmoids = runs[SIGMOIDS]
    return Finding(
        {**effects(tuned[SIGMOIDS]), RECTIFIED: effects(tuned[RECTIFIED])["speed"]},
        exhibits=(
            curves(
                "training", "Each arm at its best learning rate",
                {network: each.curve for network, each in tuned.items()}, "step",
                "validation accuracy", names=NORM_NAMES, limits=(0.9, 1.0),
                more=" Accuracies below 0.9 are not shown.",
            ),
            curves(
                "shift", "How far the distribution of what goes into the last nonlinearity shifts "
                "from probe to probe, of the median unit, in units of its spread",
                moved, "step", "shift", names=NORM_NAMES, log_y=True,
            ),
            table(
                "Each arm at its best learning rate, means over seeds: the shift from probe to "
                "probe, the median over training; steps to the highest validation accuracy without "
                "BN (∞: never reached); the last test accuracy.",
                ("network", "norm"),
                {
                    "learning rate": stack(lrs, "network"),
                    "shift": stack(typical, "network"),
                    "steps": stack({name: steps(each) for name, each in tuned.items()}, "network"),
                    "test accuracy": stack({name: e.test for name, e in tuned.items()}, "network"),
                },
                NORM_NAMES,
            ),
        ),
        tuned=for_each_seed(effects(sigmoids.sel(lr=sigmoids.validation.idxmax("lr")))),
        unspecified=Check("One learning rate for all.", throughout(sigmoids, effects)),
        controls={
            "training": stack({name: each.test for name, each in tuned.items()}, "network"),
            "less steady": less_steady,
            "target": steps(tuned[SIGMOIDS]).sel(norm=BATCH),
            "rates": sigmoids.validation,
        },
        redrawn=of[SIGMOIDS].at(lr=lrs[SIGMOIDS]).over_images(evidence, accuracy),
    )  # fmt: skip


_STEPS = (
    "steps to the highest validation accuracy that the network without BN comes to, {} ÷ with "
    "noise after BN, of the same seed, each at its best learning rate"
)

CLAIM = Claim(
    statement="A network trains as fast with batch normalization when noise makes its "
    "distributions less steady than they are without: steady distributions are not why it is fast.",
    section="§1, §2; Santurkar et al. 2018, §2.1",
    paper_says="“We refer to the change in the distributions of internal nodes of a deep network, "
    "in the course of training, as Internal Covariate Shift. Eliminating it offers a promise of "
    "faster training.” Santurkar et al. 2018 put noise behind batch normalization, whose mean and "
    "scale are others in every step: the distributions of a VGG network on CIFAR-10 are then less "
    "steady than without batch normalization, and it trains nearly as fast as with it.",
    unspecified="How near is nearly. Their noise is taken as they state it: for every unit and "
    "step a shift of up to 0.5 and a scale of 1 to 1.25, and for every value another shift of up "
    "to 0.1 and a scale that deviates by 0.1. What the network infers by they do not say: here the "
    "noise is its mean then. Their networks are deeper and have rectified units; here Fig. 1's for "
    "5,000 steps, and the same with rectified units and He's initial weights. Each arm is at the "
    "best of five learning rates, half an order of magnitude apart. Whether it is steady "
    "is measured, not assumed: how far the distribution shifts within 50 steps, typically, on 500 "
    "training images.",
    criteria={
        "speed": Criterion(
            _STEPS.format("with BN"),
            Margin(-QUARTER, "doublings"),
            "“Nearly as fast”: no more than a quarter more steps.",
        ),
        "faster": Criterion(
            _STEPS.format("without BN"),
            Margin(0.0, "doublings"),
            "Faster at all than without batch normalization, though less steady; a quarter more or "
            "fewer steps are no difference.",
            indifference=QUARTER,
        ),
        "accuracy": Criterion(
            "test accuracy at the last step, with noise after BN − with BN, of the same seed",
            Margin(-TOLD_APART, "accuracy"),
            ".003 is the smallest difference of accuracies that the paper takes for one.",
        ),
        RECTIFIED: Criterion(
            "the primary criterion's, of rectified units",
            Margin(-QUARTER, "doublings"),
            "As of sigmoids; theirs are rectified.",
        ),
    },
    scales=plans(_arms, SEEDS, WORDS),
    measure=measure,
    controls={
        "training": controls.trains("each arm at its best learning rate"),
        "less steady": controls.exists(
            "by how many doublings the noisy network of sigmoids shifts further than the one "
            "without BN within 50 steps", 0.14,
        ),
        "target": controls.reached("the network with BN"),
        "rates": controls.interior(),
    },
    first_seed=FIRST_OF_LATER,
    why="Noise that changes in every step is noise in the gradient as well, which a smaller "
    "learning rate has to average out.",
    to_settle="Noise of several strengths, and networks as deep as theirs.",
    later={
        "Santurkar et al. 2018": "The claim's own source; batch normalization is fast, they hold, "
        "because it makes the loss smoother.",
    },
)  # fmt: skip
