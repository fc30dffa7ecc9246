"""§3.2: batch normalization before the nonlinearity, or after it: the shapes of what it gets.

The parts of the statement fare differently. Of sigmoids what comes out is the more symmetric until
step 1,000, while weights are small; its tails are lighter, for it is bounded; and the network that
is normalized after the nonlinearity has the steadier activations, by a factor of 2, and perhaps
0.25 points of accuracy more. Of rectified units all is as the paper has it.
"""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from bnrepro.evidence import controls
from bnrepro.evidence.arms import NONE, SEEDS, SMOKE, per_scale
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Group, Margin, plans
from bnrepro.evidence.exhibits import Figure
from bnrepro.evidence.grid import Array, Grid, best, curves, doublings, grid, table, whatever
from bnrepro.evidence.movement import drifts, tracks
from bnrepro.evidence.runs import TOLD_APART, Evidence
from bnrepro.evidence.stats import lower_median
from bnrepro.evidence.tuning import at_own_rates, both_tuned

SIGMOID, RELU = "sigmoid", "ReLU"

NETWORKS = {
    SIGMOID: (),
    RELU: ("model.activation=relu", "init=he", "init.scale=1.0"),  # Fig. 1's scale is no gain
}

PRE, POST = "before", "after"

PLACES = {
    PRE: ("norm=batch",), POST: ("norm=batch", "norm.placement=post"), NONE: ("norm=none",)
}  # fmt: skip

LRS: Mapping[tuple[str, str], Mapping[str, tuple[float, ...]]] = {
    (SIGMOID, PRE): per_scale((0.3, 3.0), (0.3, 1.0, 3.0, 10.0)),
    (SIGMOID, POST): per_scale((0.3, 1.0), (0.1, 0.3, 1.0, 3.0)),
    (SIGMOID, NONE): per_scale((0.3, 1.0), (0.3, 1.0, 3.0)),
    (RELU, PRE): per_scale((0.1, 0.3), (0.1, 0.3, 1.0, 3.0)),
    (RELU, POST): per_scale((0.1, 0.3), (0.03, 0.1, 0.3, 1.0)),
    (RELU, NONE): per_scale((0.1, 0.3), (0.03, 0.1, 0.3, 1.0)),
}
"""Learning rates by network, place and scale, half an order of magnitude apart."""

_PROBED = ("experiment=fig1", "probe.moments=true")
RUN = {
    "smoke": ("experiment=fig1", *SMOKE, "probe.every=50", "probe.moments=true"),
    "short": (*_PROBED, "train.steps=2000", "train.eval_every=500", "probe.every=200"),
    "paper": (*_PROBED, "train.steps=5000", "train.eval_every=1000", "train.compile=true"),
}
"""Fig. 1's network with eleven probes, and the smoke's five."""

SHAPES = {
    "u": ("output_skewness:size", (1, 2)),
    "Wu + b": ("skewness:size", (2, 3)),
    "tails of u": ("output_kurtosis:middle", (1, 2)),
    "tails of Wu + b": ("kurtosis:middle", (2, 3)),
    "zeros in u": ("output_zeros:middle", (1, 2)),
}
"""What the second and the third layer take, u, is what the nonlinearities before them put out;
Wu + b, normalized or not, is what their own nonlinearities take."""

NORMAL_SKEWNESS, NORMAL_KURTOSIS, LAPLACE_KURTOSIS = 0.1, 0.2, 3.0


def cells(scale: str) -> Grid:
    """Both networks, normalized at either place or nowhere, at every rate that some of them has."""
    lrs = sorted({lr for of in LRS.values() for lr in of[scale]})
    return grid(network=NETWORKS, place=PLACES, lr=lrs)


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    return at_own_rates(cells(scale), {place: lrs[scale] for place, lrs in LRS.items()})


def shapes(evidence: Evidence, of: Grid) -> xr.Dataset:
    """`SHAPES` at every probe, of the median unit, the mean of both layers."""

    def shape(what: str, layers: tuple[int, ...]) -> Array:
        def read(arm: str) -> list[tuple[np.ndarray, np.ndarray]]:
            activation = evidence.runs[arm][0].config()["model"]["activation"]
            names = [f"{activation}{layer}/{what}" for layer in layers]
            of_layers = zip(*evidence.probed_each(arm, names), strict=True)
            return [(both[0][0], np.mean([values for _, values in both], 0)) for both in of_layers]

        return of.over_training(evidence, read).rename(step="probe")

    return xr.Dataset({name: shape(*where) for name, where in SHAPES.items()})


def drift(evidence: Evidence, of: Grid) -> Array:
    """How far the inputs of the last nonlinearity drift, of the median unit."""

    def read(arm: str) -> np.ndarray:
        last = f"{evidence.runs[arm][0].config()['model']['activation']}3"
        return np.where(
            evidence.diverged(arm), np.inf, lower_median(drifts(tracks(evidence, arm, last)))
        )

    return of.array(evidence, read)


def accuracy(test: Array) -> dict[str, Array]:
    """What normalizing before gains in accuracy."""
    return {"accuracy": test.sel(place=PRE) - test.sel(place=POST)}


def effects(runs: xr.Dataset) -> dict[str, Array]:
    """All effects of one network's runs but the drift's; a run that diverged has shown nothing."""
    pre, post, none = (runs.sel(place=place) for place in PLACES)
    mean = {place: runs.sel(place=place).mean("probe") for place in PLACES}

    tails = runs["tails of Wu + b"].sel(place=[PRE, NONE]).mean("probe")
    heaviest = tails.max("place", skipna=False)

    def ranged(shape: Array) -> Array:
        return shape.max("probe") - shape.min("probe")

    found = {
        "symmetry": mean[PRE]["u"] - mean[PRE]["Wu + b"],
        "what is normalized": mean[POST]["u"] - mean[PRE]["Wu + b"],
        "steady shape": ranged(post["u"]) - ranged(pre["Wu + b"]),
        "tails": mean[PRE]["tails of u"] - mean[PRE]["tails of Wu + b"],
        "not sparse": LAPLACE_KURTOSIS - heaviest,
    }
    lost = pre.diverged | post.diverged | none.diverged
    return {
        **{name: effect.where(~lost & effect.notnull(), -np.inf) for name, effect in found.items()},
        **accuracy(runs.test),
    }


def measure(evidence: Evidence) -> Finding:
    """The sigmoid network, each place at its own best learning rate; the one with ReLU."""
    of = cells(evidence.scale)
    runs = xr.merge([of.runs(evidence), shapes(evidence, of)])
    lr = best(runs.validation)
    tuned, at_best = of.at(lr=lr), runs.sel(lr=lr)
    drifted = drift(evidence, tuned)
    stable = whatever(doublings(drifted.sel(place=POST), drifted.sel(place=PRE)))

    def whole(network: str) -> dict[str, Array]:
        steady = {"stable activations": stable.sel(network=network)}
        return effects(at_best.sel(network=network)) | steady

    sigmoid = runs.sel(network=SIGMOID, place=[PRE, POST])
    sigmoid = sigmoid.dropna("lr", how="all", subset=["validation"])
    medians = at_best[list(SHAPES)].mean("probe").reduce(lower_median, "seed")
    columns = {"learning rate": lr, "test accuracy": at_best.test}
    columns |= {name: medians[name] for name in SHAPES}
    return Finding(
        whole(SIGMOID),
        exhibits=(
            table(
                "Each network at its best learning rate. Accuracies are means over seeds, the rest "
                "medians over units and seeds, means over training and over layers 2 and 3: the "
                "size of the standardized third moment of what a layer takes, u, and of Wu + b; "
                "the excess kurtosis of both, the heavier the tails the higher; the share of u "
                "that is exactly 0; and the drift of the inputs of the last nonlinearity.",
                ("network", "place"),
                {**columns, "drift": drifted.reduce(lower_median, "seed")},
            ),
            _figure(at_best),
        ),
        tuned=both_tuned(sigmoid, lambda own: accuracy(sigmoid.test.sel(lr=own)), by="place"),
        unspecified=Check(
            "The nonlinearity. A ReLU puts out zeros for half of what is symmetric about 0, so "
            "that what comes out is neither symmetric nor dense: that is known beforehand.",
            {"ReLU": whole(RELU)},
        ),
        controls={"training": at_best.test, "learning rates": runs.validation},
        redrawn=tuned.at(network=SIGMOID).over_images(evidence, accuracy),
    )


def _figure(at_best: xr.Dataset) -> Figure:
    pre = at_best.sel(place=PRE)[["u", "Wu + b"]].to_dataarray("of").rename(probe="step")
    return curves(
        "skewness",
        "Normalized before the nonlinearity: how asymmetric the distributions are of what the "
        "second and the third layer take, u, and of Wu + b, which is normalized; the median unit",
        {f"{network} network": pre.sel(network=network) for network in NETWORKS},
        "step", "|standardized third moment|", "of",
    )  # fmt: skip


CLAIM = Claim(
    statement="Batch normalization belongs before the nonlinearity: what is normalized there is "
    "more symmetric and less sparse than what a layer takes, keeps its shape, and makes for "
    "steadier activations.",
    section="§3.2, §5",
    paper_says="z = g(BN(Wu)). “We could have also normalized the layer inputs u, but since u is "
    "likely the output of another nonlinearity, the shape of its distribution is likely to change "
    "during training, and constraining its first and second moments would not eliminate the "
    "covariate shift. In contrast, Wu + b is more likely to have a symmetric, non-sparse "
    "distribution, that is ‘more Gaussian’; normalizing it is likely to produce activations with a "
    "stable distribution.” And: “we have not observed the nonlinearity inputs to be sparse, "
    "neither with nor without Batch Normalization.”",
    unspecified="The evidence: the paper compares nothing, and of accuracy it says nothing. Here "
    "Fig. 1's network normalized at either place or nowhere for 5,000 steps (2,000 at the scale "
    "short), each at the best of three or four learning rates, half an order of magnitude apart; "
    "and the same with ReLU and He's weights. After the nonlinearity the linear layers keep their "
    "biases, the inputs of the first nonlinearity are not normalized, and those of the output "
    "layer are. Shapes are of layers 2 and 3, whose inputs are outputs of a nonlinearity: "
    "standardized third and fourth moments over 500 training images, which are the same after any "
    "affine map, so that no normalization makes them what they are. What is sparse has the tails "
    "of a Laplace distribution, the usual one of sparse codes, or heavier ones.",
    criteria={
        "symmetry": Criterion(
            "size of the standardized third moment, mean over training, of the median unit, in the "
            "network that is normalized before the nonlinearity: of what a layer takes, u, − of "
            "Wu + b",
            Margin(0.0, "skewness"),
            "“More likely to have a symmetric distribution”: more at all. Not a matter of course: "
            "a sigmoid of what is symmetric about 0 is as symmetric. 500 numbers of a normal "
            "distribution have 0.09 by chance: less than 0.1 is no difference.",
            indifference=NORMAL_SKEWNESS,
        ),
        "what is normalized": Criterion(
            "the same of what is normalized, u in the network that is normalized after the "
            "nonlinearity − Wu + b in the one that is before",
            Margin(0.0, "skewness"),
            "The same, with each network as it would be trained.",
            indifference=NORMAL_SKEWNESS,
        ),
        "steady shape": Criterion(
            "range of that over training, after − before",
            Margin(0.0, "skewness"),
            "“The shape of its distribution is likely to change”: more at all than that of Wu + b.",
            indifference=NORMAL_SKEWNESS,
        ),
        "tails": Criterion(
            "excess kurtosis, mean over training, of the median unit, in the network that is "
            "normalized before: of u − of Wu + b",
            Margin(0.0, "kurtosis"),
            "“Non-sparse”: what is sparse has heavy tails. 500 numbers of a normal distribution "
            "have a deviation of 0.2.",
            indifference=NORMAL_KURTOSIS,
        ),
        "not sparse": Criterion(
            "excess kurtosis of a Laplace distribution, 3, − that of the nonlinearities' inputs, "
            "the larger of normalized before and not normalized",
            Margin(0.0, "kurtosis"),
            "“Neither with nor without”: lighter tails than those of a sparse code.",
            indifference=NORMAL_KURTOSIS,
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
            Margin(TOLD_APART, "accuracy"),
            "The paper claims no difference; .003 is the least that it takes for one.",
            equivalence=True,
        ),
    },
    scales=plans(_arms, SEEDS, RUN),
    measure=measure,
    controls={
        "training": controls.trains("each network at its best learning rate"),
        "learning rates": controls.interior("each network at each place"),
    },
    group=Group.ARGUMENT,
    why="Inputs of a sigmoid that stay in its middle come out as symmetric as they went in.",
    to_settle="Deeper networks, whose sigmoids saturate; for the accuracy, harder data.",
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
