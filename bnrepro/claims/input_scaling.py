"""§2: networks train faster on normalized inputs; with BN bad scaling costs less."""

from collections.abc import Sequence
from typing import Any

import xarray as xr

from bnrepro.evidence import controls
from bnrepro.evidence.arms import BATCH, NAMES, NONE, NORMS, SEEDS, SMOKE, per_scale
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Group, Margin, plans
from bnrepro.evidence.grid import Array, Grid, best, curves, grid, steps_to, table, times_fewer
from bnrepro.evidence.runs import TOLD_APART, Evidence
from bnrepro.evidence.stats import lower_median
from bnrepro.evidence.tuning import both_tuned

TRAINED = 0.9
"""A linear classifier of MNIST has more: a network that never gets there has not trained."""

GOOD, *BAD = INPUTS = {
    "standardized": "standardized",
    "raw": "raw, as stored",
    "shifted": "shifted by 3 deviations",
    "uneven": "each of its own scale",
}
"""Kinds of inputs, and what they are called."""

_GREY = ("experiment=fig1", "dataset.binary=false", "probe.every=0")
RUN = {
    "smoke": ("experiment=fig1", *SMOKE),
    "short": (*_GREY, "train.steps=1000", "train.eval_every=50"),
    "paper": (*_GREY, "train.steps=2500", "train.eval_every=100"),
}
"""Fig. 1's network on grey images at the beginning of training, often looked at."""

LEAST = 0.03
LRS = per_scale((1.0,), (LEAST, 0.3, 3.0), (LEAST, 0.1, 0.3, 1.0, 3.0))
"""The least without batch normalization only, where what is badly scaled needs small steps."""

XAVIER, XAVIER_LR = ("init=xavier", "init.scale=1.0"), 1.0
"""Without batch normalization, from weights made for standardized inputs."""

KINDS = {kind: (f"dataset.inputs={kind}",) for kind in INPUTS}
XAVIERS = grid("none xavier", inputs=KINDS, lr=(XAVIER_LR,))


def cells(scale: str) -> Grid:
    """Both arms on every kind of inputs at several learning rates."""
    return grid(norm=NORMS, inputs=KINDS, lr=LRS[scale])


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    unneeded = {f"norm={BATCH}", f"optimizer.lr={LEAST}"}
    arms = {arm: words for arm, words in cells(scale).arms().items() if not unneeded <= {*words}}
    return arms | (XAVIERS.arms(f"norm={NONE}", *XAVIER) if scale == "paper" else {})


def steps(runs: xr.Dataset) -> tuple[Array, Array]:
    """Steps to the best that each bad kind comes to, on it and on standardized inputs."""
    target = runs.curve.max("step").clip(TRAINED).sel(inputs=BAD)
    of: list[Any] = [runs.sel(inputs=BAD), runs.sel(inputs=GOOD, drop=True)]
    slow, quick = (steps_to(kind.curve, target, kind.diverged) for kind in of)
    return slow, quick


def speed(runs: xr.Dataset, bad: Sequence[str] = BAD) -> dict[str, Array]:
    """The primary effect (seed, bound), from runs without BN (inputs, seed); the least of `bad`."""
    faster = times_fewer(*steps(runs), runs.step[-1].item() + 1)
    return {"speed": faster.sel(inputs=list(bad)).min("inputs")}


def spared(test: Array, bad: Sequence[str] = BAD) -> dict[str, Array]:
    """What bad scaling costs without BN less what it costs with it; the least of `bad`."""
    cost = (test.sel(inputs=GOOD) - test).sel(inputs=list(bad))
    return {"loss spared by BN": (cost.sel(norm="none") - cost.sel(norm="batch")).min("inputs")}


def effects(runs: xr.Dataset, bad: Sequence[str] = BAD) -> dict[str, Array]:
    """Both criteria's effects (seed), from runs (norm, inputs, seed)."""
    return speed(runs.sel(norm=NONE, drop=True), bad) | spared(runs.test, bad)


def measure(evidence: Evidence) -> Finding:
    """Each kind of inputs at its own best learning rate."""
    of = cells(evidence.scale)
    runs, of_batch = of.runs(evidence), of.select(norm=(BATCH,))
    lr = best(runs.validation)
    tuned = runs.sel(lr=lr)
    choices = {f"{INPUTS[kind]}, alone": effects(tuned, (kind,)) for kind in BAD}
    for rate in LRS[evidence.scale]:
        if rate != LEAST:
            choices[f"everything at the learning rate {rate:g}"] = effects(runs.sel(lr=rate))
    if evidence.scale == "paper":
        xavier = speed(XAVIERS.runs(evidence).isel(lr=0))
        choices[f"Xavier's initial weights, learning rate {XAVIER_LR:g}"] = xavier
    first = steps_to(tuned.curve, TRAINED, tuned.diverged).reduce(lower_median, "seed")
    algorithm_2 = of_batch.final(evidence, "population_test_accuracy").sel(lr=lr.sel(norm=[BATCH]))
    over_training = of.curves(evidence).sel(lr=lr)
    return Finding(
        effects(tuned),
        exhibits=(
            curves(
                "accuracy", "Each kind of inputs at its best learning rate",
                {NAMES[norm]: over_training.sel(norm=norm) for norm in NORMS}, "step",
                "test accuracy", "inputs", names=INPUTS, limits=(0.0, 1.0), levels=(TRAINED,),
            ),
            table(
                "The same: steps are the median over seeds, accuracies means. With BN a common "
                "scale and shift of all inputs cancel in training (but for ε). At inference moving "
                "averages may lag behind a shift, which moves as weights do; Algorithm 2's do not.",
                ("norm", "inputs"),
                {
                    "learning rate": lr,
                    f"steps to {TRAINED} (validation)": first,
                    "test accuracy": tuned.test,
                    "less than standardized": tuned.test.sel(inputs=GOOD) - tuned.test,
                    "by Algorithm 2": algorithm_2.reindex(norm=list(NORMS)),
                },
                INPUTS,
            ),
        ),
        tuned=both_tuned(runs, lambda lr: effects(runs.sel(lr=lr))),
        unspecified=Check("Which bad scaling, one learning rate, the initial weights.", choices),
        controls={
            "training": tuned.test,
            "target": steps(tuned.sel(norm=NONE, drop=True))[1],
            "rates": runs.validation.sel(norm=NONE),
        },
        redrawn=of.at(lr=lr).over_images(evidence, spared),
    )  # fmt: skip


CLAIM = Claim(
    statement="Networks train faster on normalized inputs than on badly scaled ones; with batch "
    "normalization bad scaling costs less.",
    section="§2, §3.3",
    paper_says="“It has been long known (LeCun et al., 1998b; Wiesler & Ney, 2011) that the "
    "network training converges faster if its inputs are whitened, i.e., linearly transformed to "
    "have zero means and unit variances, and decorrelated” (§2). That their scale matters "
    "less with BN follows from §3.3, BN((aW)u) = BN(Wu): a scale of u is one of W.",
    unspecified="The experiment: the paper cites, and makes none. Here Fig. 1's network on grey "
    "images: standardized by the mean and deviation of all training pixels (not whitened: neither "
    "pixel by pixel nor decorrelated), as stored from 0 to 255, shifted by 3 deviations, and each "
    "pixel times a factor of its own between 0.03 and 30; each at its best learning rate after "
    "2,500 steps, from the same weights.",
    criteria={
        "speed": Criterion(
            "without BN: steps to the highest validation accuracy that badly scaled inputs come to "
            f"(at least {TRAINED}), bad ÷ standardized; the least of raw, shifted and uneven",
            Margin(0.0, "doublings"),
            "Faster at all, and than each of the three.",
            indifference=0.2,
        ),
        "loss spared by BN": Criterion(
            "what bad scaling costs in test accuracy, without BN − with BN; the least of the three",
            Margin(0.0, "accuracy"),
            "Less at all. In training raw and shifted inputs cost nothing with BN by §3.3; uneven "
            "ones may, for BN(W diag(s) u) is another network.",
            indifference=TOLD_APART,
        ),
    },
    scales=plans(_arms, SEEDS, RUN),
    measure=measure,
    controls={
        "training": controls.trains("each arm on each kind of inputs"),
        "target": controls.reached("the network on standardized inputs"),
        "rates": controls.interior("the network without BN on each kind of inputs"),
    },
    group=Group.ARGUMENT,
    why="2,500 steps at each kind's best learning rate tell how training begins, not how it ends.",
    to_settle="Longer runs, and inputs that are whitened, as the paper has it.",
    later={
        "Huang et al. 2018": "Decorrelating the activations of every layer as well, the whole of "
        "what §2 asks for, trains faster than batch normalization.",
        "Wadia et al. 2020": "Faster is not better: fully whitened inputs lose what a network "
        "with a dense first layer generalizes from.",
        "Wu and Johnson 2021": "Moving averages lag behind statistics that move; those of many "
        "batches under the final weights, as in Algorithm 2, do not.",
    },
)
