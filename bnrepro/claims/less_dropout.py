"""§3.4: batch normalization regularizes, so that less dropout is needed, or none.

The network with batch normalization and no dropout (0.952) is better than the one without at its
best dropout (0.950). But there dropout adds less than was asked for, so that how much of it batch
normalization takes away cannot be told.
"""

import xarray as xr

from bnrepro.evidence import controls
from bnrepro.evidence.arms import NONE, NORMS, SEEDS, SMOKE, per_scale
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Group, Margin, plans
from bnrepro.evidence.grid import Array, Grid, best, curves, grid, needed, table
from bnrepro.evidence.runs import TOLD_APART, Evidence
from bnrepro.evidence.tuning import both_tuned

DROPOUTS = per_scale((0.0, 0.5), (0.0, 0.1, 0.2, 0.4))
LRS = per_scale((0.05, 0.2), (0.05, 0.1, 0.2), (0.05, 0.1, 0.2, 0.4, 0.8))

PAYS, STANDARD_ERROR = 0.005, 0.003
"""Accuracies: what dropout has to add without BN, and the error of .95 on 5,000 images."""

_NETWORK = ("model.activation=relu", "init=he", "model.hidden=[256,256,256]",
            "train.batch_size=128", "optimizer.momentum=0.9", "schedule=exponential",
            "schedule.final=0.02")  # fmt: skip
_FEW = ("dataset.limit=5120", "probe.every=0")
WORDS = {
    "smoke": (*SMOKE, *_NETWORK),
    "short": (*_NETWORK, *_FEW, "train.steps=1000", "train.eval_every=500"),
    "paper": (*_NETWORK, *_FEW, "train.steps=2000", "train.eval_every=1000",
              "train.compile=true"),
}  # fmt: skip
"""Units enough that some are left where dropout is strong; of 5,120 images 2,000 steps are 50
epochs, over which the learning rate decays, as networks with dropout need."""


def cells(scale: str) -> Grid:
    """Every dropout with and without BN, at several learning rates."""
    return grid(norm=NORMS, dropout=DROPOUTS[scale], lr=LRS[scale])


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    return cells(scale).arms()


def worth(test: Array, dropout: Array) -> dict[str, Array]:
    """Effects from test accuracies (norm, dropout, …), by the best dropout of each arm."""
    without, tuned = test.sel(dropout=0), test.sel(dropout=dropout)
    gain = tuned - without
    return {
        "gain": gain.sel(norm="none") - gain.sel(norm="batch"),
        "replaced": without.sel(norm="batch") - tuned.sel(norm="none"),
    }


def strength(validation: Array, error: float = STANDARD_ERROR) -> dict[str, Array]:
    """The effect (seed) on the dropout that is needed, from accuracies (norm, dropout, seed)."""
    least = needed(validation, "dropout", error)
    return {"strength": least.sel(norm="none") - least.sel(norm="batch")}


def effects(runs: xr.Dataset) -> dict[str, Array]:
    """Every criterion's effects (seed), from runs (norm, dropout, seed)."""
    return worth(runs.test, best(runs.validation, "dropout")) | strength(runs.validation)


def measure(evidence: Evidence) -> Finding:
    """Every cell at its own best learning rate; the same at each rate."""
    of = cells(evidence.scale)
    runs = of.runs(evidence)
    lr = best(runs.validation)
    tuned = runs.sel(lr=lr)
    dropout, gap = best(tuned.validation, "dropout"), tuned.training - tuned.test
    added = (tuned.test.sel(dropout=dropout) - tuned.test.sel(dropout=0)).sel(norm=NONE)
    choices = {
        f"learning rate {rate:g} in every cell": effects(runs.sel(lr=rate))
        for rate in LRS[evidence.scale]
    }
    for text, error in (("the best one on validation", 0.0), ("within .006 of it", 0.006)):
        choices[f"the dropout needed is {text}"] = strength(tuned.validation, error)
    return Finding(
        effects(tuned),
        exhibits=(
            curves(
                "dropout", "Each cell at its best learning rate",
                {"What dropout is worth": tuned.test, "Overfitting": gap}, "dropout",
                ("test accuracy", "training − test accuracy"),
                more=" Both are of inference: without dropout, and with moving averages.",
            ),
            table(
                "Accuracies of every cell at its best learning rate: means over seeds.",
                ("norm", "dropout"),
                {"learning rate": lr, "test": tuned.test, "training": tuned.training, "gap": gap},
            ),
        ),
        tuned=both_tuned(runs, lambda lr: effects(runs.sel(lr=lr))),
        unspecified=Check(
            "One learning rate for all cells, and which dropout is needed.", choices
        ),
        controls={
            "training": tuned.test,
            "dropout pays": added,
            "rates": runs.validation,
            "dropouts": tuned.validation,
        },
        redrawn=of.at(lr=lr).over_images(evidence, lambda test: worth(test, dropout)),
    )  # fmt: skip


CLAIM = Claim(
    statement="Batch normalization regularizes: with it dropout is worth less, can be weaker, and "
    "can be left out without being worse than the best dropout without it.",
    section="§3.4, §4.2.1",
    paper_says="“Whereas Dropout is typically used to reduce over-fitting, in a batch-normalized "
    "network we found that it can be either removed or reduced in strength.” On ImageNet Inception "
    "has dropout of 40 % and reaches 72.2 %; the batch-normalized networks without it 73.0 and "
    "74.8 %. Removing it is said not to increase overfitting.",
    unspecified="Everything but the 40 %, and the paper removes dropout together with six other "
    "changes. Here 5,120 images of MNIST, which every network without dropout learns by heart; "
    "three hidden layers of 256 rectified units with He's initial weights, dropout behind each; 50 "
    "epochs in batches of 128 with momentum .9, the learning rate decaying to a fiftieth; every "
    "cell at its best learning rate by validation. In a pilot (seed 100, without batch "
    "normalization) at rate 0.1 no dropout came to .944 and dropout of .2 to .950; at rate 0.05 to "
    ".938 and .944, and dropout of .5 to .934. With it no dropout came to .953.",
    criteria={
        "gain": Criterion(
            "what the best dropout by validation adds to test accuracy, without BN − with BN",
            Margin(PAYS / 2, "accuracy"),
            "Half of what dropout has to add without BN, .005, to be worth replacing.",
        ),
        "strength": Criterion(
            "the dropout needed, without BN − with BN, of the same seed: the least whose "
            "validation accuracy is within .003 of the best",
            Margin(0.0, "dropout"),
            "“Removed or reduced in strength”: weaker at all; .003 is one standard error.",
            indifference=0.05,
        ),
        "replaced": Criterion(
            "test accuracy with BN and no dropout − without BN and with the best dropout",
            Margin(-TOLD_APART, "accuracy"),
            "Not worse: on ImageNet the batch-normalized networks without dropout are better than "
            "the one with it, by .008 at least.",
            paper=0.008,
        ),
    },
    scales=plans(_arms, SEEDS, WORDS),
    measure=measure,
    controls={
        "training": controls.trains("each arm at each dropout"),
        "dropout pays": controls.exists("what dropout adds without BN", PAYS),
        "rates": controls.interior("each arm at each dropout"),
        "dropouts": controls.interior(axis="dropout", natural=(0.0,)),
    },
    group=Group.ARGUMENT,
    why="Dropout may add nothing without batch normalization either: on parts of MNIST it pays in "
    "wider layers, and not on the fewest images (Srivastava et al. 2014, JMLR 15).",
    to_settle="Layers of 1,024 units and images of more kinds than MNIST's.",
    later={
        "Li et al. 2018": "Dropout before batch normalization changes a unit's variance between "
        "training and inference, which the stored variance does not follow. So some of what "
        "dropout loses with it is their quarrel, and no sign that it is not needed.",
        "Luo et al. 2018": "Confirmed for small networks in theory: the noise of the mini-batch "
        "acts as a decay of γ, the weaker the larger the batch.",
        "Zhang et al. 2016": "As a regularizer it does little: without it Inception is 3 to 4 % "
        "worse on CIFAR-10, and with it it still learns random labels by heart.",
    },
)
