"""§3.2: batch normalization before the nonlinearity, or after it: the shapes of what it gets."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from bnrepro.evidence import controls
from bnrepro.evidence.arms import PROBED, PROBED_LRS, SEEDS, per_scale
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Group, Margin, plans
from bnrepro.evidence.exhibits import Figure
from bnrepro.evidence.grid import Array, Grid, best, curves, doublings, grid, table, whatever
from bnrepro.evidence.movement import drifts, tracks
from bnrepro.evidence.runs import TOLD_APART, Evidence
from bnrepro.evidence.stats import lower_median
from bnrepro.evidence.tuning import both_tuned

SIGMOID, RELU = "sigmoid", "ReLU"

NETWORKS = {
    SIGMOID: (),
    RELU: ("model.activation=relu", "init=he", "init.scale=1.0"),  # Fig. 1's scale is no gain
}

PRE, POST = "before", "after"

PLACES = {PRE: ("norm=batch",), POST: ("norm=batch", "norm.placement=post")}

LRS: Mapping[tuple[str, str], Mapping[str, tuple[float, ...]]] = {
    (SIGMOID, PRE): PROBED_LRS,
    (SIGMOID, POST): per_scale((0.1, 1.0), (0.03, 0.1, 0.3, 1.0)),
    **dict.fromkeys([(RELU, place) for place in PLACES], per_scale((0.05, 0.8), (0.05, 0.2, 0.8))),
}
"""Learning rates by network, place and scale: as many at both places. What sigmoids put out has a
quarter of the deviation of what they take in, or less; normalized after them it is one, so the next
layer's gradients are four times as large and more, and the grid lies lower."""

LAYERS = (1, 2, 3)

SKEWED = 0.05

WORST = (1.0, 2.0, np.inf)
"""Size and range of the skewness, and drift, of a run that diverged: the most there can be."""


def cells(scale: str) -> Grid:
    """Both networks, normalized at either place, at every learning rate that some of them has."""
    lrs = sorted({lr for of in LRS.values() for lr in of[scale]})
    return grid(network=NETWORKS, place=PLACES, lr=lrs)


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    of = cells(scale)
    own = {of.arm(*place, lr) for place, lrs in LRS.items() for lr in lrs[scale]}
    return {arm: words for arm, words in of.arms().items() if arm in own}


def skewness(percentiles: np.ndarray) -> np.ndarray:
    """How asymmetric 15th, 50th and 85th percentiles (…, 3) lie: (…), from −1 to 1.

    The upper distance less the lower one, over both; the same after any affine map, as a
    normalization is one. What has no spread, such as a ReLU silent for most images, counts as 1.
    """
    low, middle, high = np.moveaxis(np.asarray(percentiles, np.float64), -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (high + low - 2 * middle) / (high - low)
    return np.where(np.isfinite(ratio), ratio, 1.0)


def skews(evidence: Evidence, arm: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of every seed, the steps (P,) and the skewness of what is normalized, of every unit: (P, U).

    Before the nonlinearity that is its input, whose percentiles are probed. After it, it is the
    output: a nonlinearity that never falls maps percentiles to percentiles.
    """
    config = evidence.runs[arm][0].config()
    activation, post = config["model"]["activation"], config["norm"]["placement"] == "post"
    names = [f"{activation}{layer}/percentiles" for layer in LAYERS]
    of_seeds = []
    for of_layers in zip(*evidence.probed_each(arm, names), strict=True):
        inputs = np.concatenate([values for _, values in of_layers], axis=1).astype(np.float64)
        if post:  # the skewness of tanh(x / 2) is that of the sigmoid
            inputs = np.maximum(inputs, 0) if activation == "relu" else np.tanh(inputs / 2)
        of_seeds.append((of_layers[0][0], skewness(inputs)))
    return of_seeds


def shapes(evidence: Evidence, of: Grid) -> xr.Dataset:
    """Of the median unit: the `skewness` of what is normalized, its `range` and a `drift`.

    They are the mean size of the skewness over training, its range, and how far the inputs of the
    last nonlinearity drift, as in stable-distributions.
    """

    def read(arm: str) -> np.ndarray:
        last = evidence.runs[arm][0].config()["model"]["activation"] + str(LAYERS[-1])
        drift = lower_median(drifts(tracks(evidence, arm, last)))
        each = [values for _, values in skews(evidence, arm)]
        sizes = [lower_median(np.abs(values).mean(0)) for values in each]
        ranges = [lower_median(np.ptp(values, axis=0)) for values in each]
        rows = np.stack([sizes, ranges, drift], -1)
        return np.where(evidence.diverged(arm)[:, None], WORST, rows)

    names = ("skewness", "range", "drift")
    return of.array(evidence, read, statistic=names).to_dataset("statistic")


def accuracy(test: Array) -> dict[str, Array]:
    """What normalizing before gains in accuracy."""
    return {"accuracy": test.sel(place=PRE) - test.sel(place=POST)}


def effects(runs: xr.Dataset) -> dict[str, Array]:
    """All criteria's effects, of one network's runs at both places."""
    pre, post = (runs.sel(place=place) for place in PLACES)
    return {
        "symmetry": post.skewness - pre.skewness,
        "steady shape": post.range - pre.range,
        "stable activations": whatever(doublings(post.drift, pre.drift)),
        **accuracy(runs.test),
    }


def measure(evidence: Evidence) -> Finding:
    """The sigmoid network at each place, at its own best learning rate; the one with ReLU."""
    of = cells(evidence.scale)
    runs = xr.merge([of.runs(evidence), shapes(evidence, of)])
    lr = best(runs.validation)
    tuned, at_best = of.at(lr=lr), runs.sel(lr=lr)
    sigmoid = runs.sel(network=SIGMOID).dropna("lr", how="all", subset=["validation"])
    relu = effects(at_best.sel(network=RELU))
    del relu["steady shape"]  # a unit that is silent for most images stays at a skewness of 1
    for_both = {
        f"learning rate {rate:g} for both": effects(sigmoid.sel(lr=rate))
        for rate in sigmoid.validation.dropna("lr").lr.to_numpy()
    }
    medians = at_best.reduce(lower_median, "seed")
    columns = {
        "learning rate": lr,
        "test accuracy": at_best.test,
        "skewness": medians.skewness,
        "its range over training": medians.range,
        "drift": medians.drift,
    }
    return Finding(
        effects(at_best.sel(network=SIGMOID)),
        exhibits=(
            table(
                "Each network at its best learning rate. Accuracies are means over seeds, the rest "
                "medians over units and seeds: the mean size and the range of the skewness of what "
                "is normalized, the drift of the inputs of the last nonlinearity.",
                ("network", "place"),
                columns,
            ),
            _skewness(evidence, tuned),
        ),
        tuned=both_tuned(sigmoid, lambda own: effects(sigmoid.sel(lr=own)), by="place"),
        unspecified=Check(
            "The nonlinearity, and one learning rate for both places. Of what is symmetric about 0 "
            "a ReLU puts out zeros for half, which is not.",
            {"ReLU": relu, **for_both},
        ),
        controls={"training": at_best.test, "learning rates": sigmoid.validation},
        redrawn=tuned.at(network=SIGMOID).over_images(evidence, accuracy),
    )


def _skewness(evidence: Evidence, tuned: Grid) -> Figure:
    def sizes(arm: str) -> list[tuple[np.ndarray, np.ndarray]]:
        found = skews(evidence, arm)
        return [(steps, np.median(np.abs(values), axis=1)) for steps, values in found]

    skewed = tuned.over_training(evidence, sizes)
    return curves(
        "skewness",
        "How asymmetric the distribution is that is normalized, Wu before and f(Wu + b) after the "
        "nonlinearity f (0 symmetric, 1 most of it at its lower end), of the median unit of all "
        "hidden layers",
        {f"{network} network": skewed.sel(network=network) for network in NETWORKS},
        "step", "skewness of what is normalized", "place", limits=(-0.02, 1.02),
    )  # fmt: skip


CLAIM = Claim(
    statement="Batch normalization belongs before the nonlinearity: what is normalized there is "
    "more symmetric and keeps its shape, and activations are steadier.",
    section="§3.2",
    paper_says="z = g(BN(Wu)). “We could have also normalized the layer inputs u, but since u is "
    "likely the output of another nonlinearity, the shape of its distribution is likely to change "
    "during training, and constraining its first and second moments would not eliminate the "
    "covariate shift. In contrast, Wu + b is more likely to have a symmetric, non-sparse "
    "distribution, that is ‘more Gaussian’; normalizing it is likely to produce activations with a "
    "stable distribution.”",
    unspecified="The evidence: the paper compares nothing, and of accuracy it says nothing. Here "
    "Fig. 1's network normalized at either place for 10,000 steps (2,000 at the scale short), "
    "each at the best of a few learning rates; and the same with ReLU and He's weights. After the "
    "nonlinearity the linear layers keep their biases, the inputs of the first nonlinearity are "
    "not normalized, and those of the output layer are. Skewness is that of the 15th, 50th and "
    "85th percentile, which the probes keep.",
    criteria={
        "symmetry": Criterion(
            "size of the skewness of what is normalized, from 0 to 1, mean over training, of the "
            "median unit, after − before",
            Margin(0.0, "skewness"),
            "“More likely to have a symmetric distribution”: more at all. Not a matter of course: "
            "a sigmoid of what is symmetric about 0 is as symmetric.",
            indifference=SKEWED,
        ),
        "steady shape": Criterion(
            "range of that skewness over training, of the median unit, after − before",
            Margin(0.0, "skewness"),
            "“The shape of its distribution is likely to change”: more at all than that of Wu. "
            "Skewness is the same after any affine map, so nothing in it is due to the "
            "normalization itself.",
            indifference=SKEWED,
        ),
        "stable activations": Criterion(
            "drift of the inputs of the last nonlinearity over training, of the median unit, after "
            "÷ before",
            Margin(0.0, "doublings"),
            "“Likely to produce activations with a stable distribution”: steadier at all. Before, "
            "batch normalization fixes their mean and deviation up to γ and β.",
            indifference=0.14,  # 10 %
        ),
        "accuracy": Criterion(
            "test accuracy at the last step, before − after, of the same seed",
            Margin(-TOLD_APART, "accuracy"),
            "No worse. The paper claims no gain; .003 is the least difference that it takes for "
            "one.",
        ),
    },
    scales=plans(_arms, SEEDS, PROBED),
    measure=measure,
    controls={
        "training": controls.trains("each network with BN at each place"),
        "learning rates": controls.interior("the sigmoid network with BN at each place"),
    },
    group=Group.ARGUMENT,
    why="The median unit's skewness, of three percentiles, is a coarse mark of a shape.",
    to_settle="Standardized third and fourth moments of what is normalized; for the accuracy, "
    "harder data.",
    later={
        "Mishkin et al. 2016": "On ImageNet, a convolutional network with ReLU ended higher with "
        "batch normalization after the nonlinearity than before it.",
        "Chen et al. 2019": "Batch normalization should not stand before ReLU; directly before "
        "the next weights, together with Dropout, residual networks train more stably and end "
        "higher.",
        "He et al. 2016": "In residual networks the order normalization, ReLU, weights trained "
        "best of those tried: normalization directly before the nonlinearity, as in the paper.",
    },
)
