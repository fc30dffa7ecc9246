"""§3.1: batch-normalized networks train with any optimizer, and faster with each.

Adagrad and momentum gain. With plain SGD and with Adam, each arm at its best learning rate, ten
seeds do not tell; with Adam the network without batch normalization is ahead for the first half.
"""

import math

import xarray as xr

from bnrepro.evidence import controls
from bnrepro.evidence.arms import NORMS, SEEDS, SMOKE, per_scale
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Group, Margin, plans
from bnrepro.evidence.grid import (
    Array,
    Grid,
    best,
    curves,
    grid,
    stack,
    steps_to,
    table,
    times_fewer,
)  # fmt: skip
from bnrepro.evidence.runs import Evidence
from bnrepro.evidence.tuning import for_each_seed

OPTIMIZERS = {
    "Adagrad": ("optimizer=adagrad",),
    "SGD": ("optimizer=sgd",),
    "momentum": ("optimizer=sgd", "optimizer.momentum=0.9"),
    "Adam": ("optimizer=adam",),
}

LRS = {
    "Adagrad": per_scale((0.01, 0.1), (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)),
    "SGD": per_scale((0.1, 3.0), (0.3, 1.0, 3.0, 10.0)),
    "momentum": per_scale((0.03, 0.3), (0.03, 0.1, 0.3, 1.0)),
    "Adam": per_scale((0.001, 0.01), (0.001, 0.003, 0.01, 0.03)),
}
"""Half an order of magnitude apart; of the optimizer's own scale."""

WORDS = {
    "smoke": ("experiment=fig1", *SMOKE),
    "short": ("experiment=fig1", "train.steps=2000", "train.eval_every=100", "probe.every=0"),
    "paper": ("experiment=fig1", "train.steps=5000", "train.eval_every=200", "probe.every=0",
              "train.compile=true"),
}  # fmt: skip
"""The network of Fig. 1, in a tenth of its steps."""

QUARTER = math.log2(1.25)
"""A quarter more steps, in doublings."""


def cells(scale: str) -> dict[str, Grid]:
    """Of each optimizer both arms at every learning rate."""
    return {name: grid(name, norm=NORMS, lr=LRS[name][scale]) for name in OPTIMIZERS}


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    return {
        arm: words
        for name, of in cells(scale).items()
        for arm, words in of.arms(*OPTIMIZERS[name]).items()
    }


def steps(runs: xr.Dataset) -> Array:
    """Steps (norm, seed) to the highest validation accuracy without BN."""
    return steps_to(runs.curve, runs.curve.sel(norm="none").max("step"), runs.diverged)


def speed(runs: xr.Dataset) -> Array:
    """How many times fewer steps are taken with BN, in doublings, of runs (norm, seed)."""
    slow, quick = (steps(runs).sel(norm=norm) for norm in NORMS)
    return times_fewer(slow, quick, runs.step[-1].item() + 1)


def measure(evidence: Evidence) -> Finding:
    """Each arm of each optimizer at its best learning rate; at that of each seed; at one rate."""
    runs = {name: of.runs(evidence) for name, of in cells(evidence.scale).items()}
    lrs = {name: best(of.validation) for name, of in runs.items()}
    tuned = {name: of.sel(lr=lrs[name]) for name, of in runs.items()}
    own = {name: speed(of.sel(lr=of.validation.idxmax("lr"))) for name, of in runs.items()}
    same = {
        name: speed(of.sel(lr=lrs[name].sel(norm="none", drop=True))) for name, of in runs.items()
    }
    test = stack({name: of.test for name, of in tuned.items()}, "optimizer")
    return Finding(
        {name: speed(of) for name, of in tuned.items()},
        exhibits=(
            curves(
                "training", "Each arm at its best learning rate",
                {name: of.curve for name, of in tuned.items()}, "step", "validation accuracy",
                limits=(0.9, 1.0), more=" Accuracies below 0.9 are not shown.",
            ),
            curves(
                "rates", "Accuracy over the learning rate",
                {name: of.validation for name, of in runs.items()}, "lr",
                "validation accuracy at the last step", limits=(0.0, 1.0),
            ),
            table(
                "Each arm at its best learning rate, means over seeds: steps to the highest "
                "validation accuracy without BN (∞: never reached), and the last test accuracy.",
                ("optimizer", "norm"),
                {
                    "learning rate": stack(lrs, "optimizer"),
                    "steps": stack({name: steps(of) for name, of in tuned.items()}, "optimizer"),
                    "test accuracy": test,
                },
            ),
        ),
        tuned=for_each_seed(own),
        unspecified=Check(
            "The learning rate at which the network without BN is best, for both.",
            {"one learning rate": same},
        ),
        controls={
            "training": test,
            **{f"rates of {name}": of.validation for name, of in runs.items()},
        },
    )  # fmt: skip


def _criterion(name: str) -> Criterion:
    return Criterion(
        f"with {name}, steps to the highest validation accuracy that the network without BN comes "
        "to, without BN ÷ with BN, of the same seed, each at its best learning rate",
        Margin(0.0, "doublings"),
        "Faster at all, as with the optimizer of §4; a quarter more or fewer steps are no "
        "difference.",
        indifference=QUARTER,
    )


CLAIM = Claim(
    statement="Batch normalization makes training faster with Adagrad too, and with plain SGD, "
    "momentum and Adam.",
    section="§3.1",
    paper_says="“A model employing Batch Normalization can be trained using batch gradient "
    "descent, or Stochastic Gradient Descent with a mini-batch size m > 1, or with any of its "
    "variants such as Adagrad (Duchi et al., 2011).” Its own experiments have SGD with momentum "
    "(§4.2) or do not say (§4.1).",
    unspecified="Whether it trains faster with each. Here the network of Fig. 1 for 5,000 steps "
    "with four optimizers, both arms of each at the best of four to six learning rates, half an "
    "order of magnitude apart. Speed is counted to what the same optimizer comes to without BN.",
    criteria={name: _criterion(name) for name in OPTIMIZERS},
    scales=plans(_arms, SEEDS, WORDS),
    measure=measure,
    controls={
        "training": controls.trains("each arm"),
        **{f"rates of {name}": controls.interior(f"each arm with {name}") for name in OPTIMIZERS},
    },
    group=Group.ARGUMENT,
    why="Adagrad and Adam give each weight a step of its own size, whatever the scale of its "
    "gradient: part of what normalization does.",
    to_settle="Runs as long as the paper's, and deeper networks.",
    later={
        "Santurkar et al. 2018": "A smoother loss is why it is faster, which is to help whatever "
        "the optimizer."
    },
)
