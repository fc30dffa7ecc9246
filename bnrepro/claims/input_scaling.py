"""§2: networks train faster on whitened inputs; with BN bad scaling costs less.

What helps is the common scale, not decorrelation: inputs that are whitened train three times
slower than inputs that are only standardized, and to a lower accuracy. Of MNIST's directions most
hardly vary, and whitening makes them as large as those that tell digits apart (Wadia et al. 2020).
"""

from collections.abc import Mapping

import xarray as xr

from bnrepro.evidence import controls
from bnrepro.evidence.arms import BATCH, NAMES, NONE, NORMS, SEEDS, SMOKE, per_scale
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Group, Margin, plans
from bnrepro.evidence.grid import Array, Grid, best, curves, grid, steps_to, table, times_fewer
from bnrepro.evidence.runs import TOLD_APART, Evidence
from bnrepro.evidence.stats import lower_median
from bnrepro.evidence.tuning import at_own_rates, both_tuned

RAW, SHIFTED, STANDARDIZED, WHITENED = INPUTS = {
    "raw": "raw, as stored",
    "shifted": "shifted by 3 deviations",
    "standardized": "standardized",
    "whitened": "whitened: standardized and decorrelated",
}
"""Kinds of inputs, and what they are called."""

_GREY = ("experiment=fig1", "dataset.binary=false", "probe.every=0")
RUN = {
    "smoke": ("experiment=fig1", *SMOKE),
    "short": (*_GREY, "train.steps=1000", "train.eval_every=50"),
    "paper": (*_GREY, "train.steps=2000", "train.eval_every=100", "train.compile=true"),
}
"""Fig. 1's network on grey images at the beginning of training, often looked at."""

LRS: Mapping[tuple[str, str], Mapping[str, tuple[float, ...]]] = {
    (NONE, RAW): per_scale((0.1, 1.0), (0.03, 0.1, 0.3, 1.0)),
    (NONE, SHIFTED): per_scale((0.1, 1.0), (0.03, 0.1, 0.3, 1.0)),
    (NONE, STANDARDIZED): per_scale((0.1, 1.0), (0.3, 1.0, 3.0, 10.0)),
    (NONE, WHITENED): per_scale((0.1, 1.0), (1.0, 3.0, 10.0)),
    **{(BATCH, kind): per_scale((0.1, 1.0), (0.3, 1.0, 3.0, 10.0)) for kind in INPUTS},
    (BATCH, SHIFTED): per_scale((0.1, 1.0), (1.0, 3.0, 10.0, 30.0)),
}
"""Learning rates by arm, inputs and scale, half an order of magnitude apart."""


def cells(scale: str) -> Grid:
    """Both arms on every kind of inputs, at every learning rate that some of them has."""
    lrs = sorted({lr for of in LRS.values() for lr in of[scale]})
    kinds = {kind: (f"dataset.inputs={kind}",) for kind in INPUTS}
    return grid(norm=NORMS, inputs=kinds, lr=lrs)


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    return at_own_rates(cells(scale), {place: lrs[scale] for place, lrs in LRS.items()})


def steps(runs: xr.Dataset) -> Array:
    """Steps to the best validation accuracy of the same seed without BN on raw inputs."""
    target = runs.curve.sel(norm=NONE, inputs=RAW, drop=True).max("step")
    return steps_to(runs.curve, target, runs.diverged)


def speeds(runs: xr.Dataset) -> dict[str, Array]:
    """The effects (seed, bound) that compare steps, from runs (norm, inputs, seed)."""
    first, beyond = steps(runs), runs.step[-1].item() + 1

    def fewer(norm: str, slow: str, quick: str) -> Array:
        of_norm = first.sel(norm=norm)
        return times_fewer(of_norm.sel(inputs=slow), of_norm.sel(inputs=quick), beyond)

    return {
        "speed": fewer(NONE, RAW, WHITENED),
        "decorrelation": fewer(NONE, STANDARDIZED, WHITENED),
        "speed with BN": fewer(BATCH, RAW, WHITENED),
    }


def spared(test: Array) -> dict[str, Array]:
    """What bad scaling costs without BN less what with it; the lesser of raw and shifted."""
    cost = (test.sel(inputs=STANDARDIZED) - test).sel(inputs=[RAW, SHIFTED])
    return {"loss spared by BN": (cost.sel(norm=NONE) - cost.sel(norm=BATCH)).min("inputs")}


def effects(runs: xr.Dataset) -> dict[str, Array]:
    """All criteria's effects, from runs (norm, inputs, seed)."""
    return speeds(runs) | spared(runs.test)


def measure(evidence: Evidence) -> Finding:
    """Each kind of inputs at its own best learning rate."""
    of = cells(evidence.scale)
    runs = of.runs(evidence)
    lr = best(runs.validation)
    tuned, own = runs.sel(lr=lr), of.at(lr=lr)
    with_bn = own.select(norm=[BATCH])
    exact = with_bn.final(evidence, "population_test_accuracy").reindex(norm=list(NORMS))
    first = steps(tuned).reduce(lower_median, "seed")
    over_training = own.curves(evidence)
    return Finding(
        effects(tuned),
        exhibits=(
            curves(
                "accuracy", "Each kind of inputs at its best learning rate",
                {NAMES[norm]: over_training.sel(norm=norm) for norm in NORMS}, "step",
                "test accuracy", "inputs", names=INPUTS, limits=(0.0, 1.0),
            ),
            table(
                "The same: steps to the best validation accuracy without BN on raw inputs (∞: "
                "never reached) are the median over seeds, accuracies means. With BN a common "
                "scale and shift of all inputs cancel in training (but for ε). At inference "
                "moving averages may lag behind a shift, which moves as weights do; Algorithm 2's "
                "do not.",
                ("norm", "inputs"),
                {
                    "learning rate": lr, "steps": first, "test accuracy": tuned.test,
                    "less than standardized": tuned.test.sel(inputs=STANDARDIZED) - tuned.test,
                    "by Algorithm 2": exact,
                },
                INPUTS,
            ),
        ),
        tuned=both_tuned(
            runs.sel(norm=NONE, inputs=[RAW, WHITENED]),
            lambda own: {"speed": _speed(runs.sel(norm=NONE, inputs=[RAW, WHITENED]).sel(lr=own))},
            by="inputs",
        ),
        unspecified=Check(
            "With BN, which statistics are used for inference.",
            {"Algorithm 2": spared(tuned.test.where(tuned.norm == NONE, exact))},
        ),
        controls={
            "training": tuned.test,
            "target": steps(tuned).sel(norm=NONE, inputs=RAW),
            "rates": runs.validation,
        },
        redrawn=own.over_images(evidence, spared),
    )  # fmt: skip


def _speed(runs: xr.Dataset) -> Array:
    """The primary effect from runs (inputs, seed)."""
    target = runs.curve.sel(inputs=RAW, drop=True).max("step")
    first = steps_to(runs.curve, target, runs.diverged)
    slow, quick = (first.sel(inputs=kind) for kind in (RAW, WHITENED))
    return times_fewer(slow, quick, runs.step[-1].item() + 1)


CLAIM = Claim(
    statement="Networks train faster on whitened inputs than on raw ones; with batch normalization "
    "bad scaling costs less.",
    section="§2, §3.3",
    paper_says="“It has been long known (LeCun et al., 1998b; Wiesler & Ney, 2011) that the "
    "network training converges faster if its inputs are whitened, i.e., linearly transformed to "
    "have zero means and unit variances, and decorrelated” (§2). That their scale matters "
    "less with BN follows from §3.3, BN((aW)u) = BN(Wu): a scale of u is one of W.",
    unspecified="The experiment: the paper cites, and makes none. Here Fig. 1's network on grey "
    "images: whitened by the covariance of the training images (ZCA; directions of less than a "
    "hundredth of the mean variance, of which MNIST has many, stay small), standardized by the "
    "mean and deviation of all training pixels, as stored from 0 to 255, and shifted by 3 "
    "deviations. Each is trained for 2,000 steps from the same weights, at the best of three or "
    "four learning rates, which a pilot placed.",
    criteria={
        "speed": Criterion(
            "without BN: steps to the highest validation accuracy that raw inputs come to, raw ÷ "
            "whitened, of the same seed",
            Margin(0.0, "doublings"),
            "Faster at all; a seventh is no difference.",
            indifference=0.2,
        ),
        "decorrelation": Criterion(
            "without BN: steps to the same accuracy, standardized ÷ whitened",
            Margin(0.0, "doublings"),
            "“And decorrelated”: that this adds to the speed, and not the scale alone.",
            indifference=0.2,
        ),
        "speed with BN": Criterion(
            "with BN: steps to the same accuracy, raw ÷ whitened",
            Margin(0.0, "doublings"),
            "Batch normalization whitens neither: what decorrelation adds may be left.",
            indifference=0.2,
        ),
        "loss spared by BN": Criterion(
            "what bad scaling costs in test accuracy, against standardized inputs, without BN − "
            "with BN; the lesser of raw and shifted",
            Margin(0.0, "accuracy"),
            "Less at all. In training raw and shifted inputs cost nothing with BN by §3.3.",
            indifference=TOLD_APART,
        ),
    },
    scales=plans(_arms, SEEDS, RUN),
    measure=measure,
    controls={
        "training": controls.trains("each arm on each kind of inputs"),
        "target": controls.reached("the network on raw inputs"),
        "rates": controls.interior("each arm on each kind of inputs"),
    },
    group=Group.ARGUMENT,
    why="2,000 steps at each kind's best learning rate tell how training begins, not how it ends.",
    to_settle="Longer runs, and data whose pixels do not all vary on one scale.",
    later={
        "Huang et al. 2018": "Decorrelating the activations of every layer as well, the whole of "
        "what §2 asks for, trains faster than batch normalization.",
        "Wadia et al. 2020": "Faster is not better: fully whitened inputs lose what a network "
        "with a dense first layer generalizes from.",
        "Wu and Johnson 2021": "Moving averages lag behind statistics that move; those of many "
        "batches under the final weights, as in Algorithm 2, do not.",
    },
)
