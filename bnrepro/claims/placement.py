"""§3.2: batch normalization before the nonlinearity, or after it.

The paper normalizes before, for what it says of shapes: u, what comes out of a nonlinearity, is
likely to change the shape of its distribution, and Wu + b is more likely to be symmetric. Both are
measured; so is what the paper only implies, that the network is the better for it.
"""

from collections.abc import Callable, Mapping

import numpy as np

from bnrepro.evidence.arms import PROBED, PROBED_LRS, SEEDS
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Margin, plans
from bnrepro.evidence.exhibits import Exhibit
from bnrepro.evidence.grid import Array, Grid, best, curves, grid, table
from bnrepro.evidence.movement import drifts, tracks
from bnrepro.evidence.runs import VALIDATION, Evidence
from bnrepro.evidence.stats import lower_median

SIGMOID, RELU = "sigmoid", "ReLU"

NETWORKS = {
    SIGMOID: (),
    RELU: ("model.activation=relu", "init=he", "init.scale=1.0"),  # Fig. 1's scale is no gain
}

PRE, POST = "before", "after"

PLACES = {PRE: ("norm=batch",), POST: ("norm=batch", "norm.placement=post")}

LABELS = {PRE: "before the nonlinearity", POST: "after it"}

_RELU_LRS = {"smoke": (0.05, 0.8), "short": (0.05, 0.2, 0.8), "paper": (0.05, 0.2, 0.8)}
_POST_LRS = (0.03, 0.1, 0.3, 1.0)

LRS: Mapping[tuple[str, str], Mapping[str, tuple[float, ...]]] = {
    (SIGMOID, PRE): PROBED_LRS,
    (SIGMOID, POST): {"smoke": (0.1, 1.0), "short": _POST_LRS, "paper": _POST_LRS},
    (RELU, PRE): _RELU_LRS,
    (RELU, POST): _RELU_LRS,
}
"""Learning rates by network, place and scale: as many at both places. Sigmoids put out a quarter of
the deviation of what they take in, or less; normalized after them it is one. So the next layer's
gradients are four times as large and more, and the grid lies half an order of magnitude lower. What
a ReLU puts out is nearly as large as what is normalized."""

ACTIVATE: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "sigmoid": lambda x: (1 + np.tanh(x / 2)) / 2,
    "relu": lambda x: np.maximum(x, 0.0),
}

LAYERS = (1, 2, 3)

WORST = (1.0, 2.0)
"""Size and range of the skewness of a run that diverged: the most there can be."""


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

    The upper distance less the lower one, over both; 0 for any symmetric distribution, and
    the same after any affine map, as a normalization is one. What has no spread between the outer
    two, such as a ReLU that is silent for most images, counts as 1: it is sparse.
    """
    low, middle, high = np.moveaxis(np.asarray(percentiles, np.float64), -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (high + low - 2 * middle) / (high - low)
    return np.where(np.isfinite(ratio), ratio, 1.0)


def skews(
    evidence: Evidence, arm: str, layers: tuple[int, ...] = LAYERS
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of every seed, the steps (P,) and the skewness of what is normalized, of every unit: (P, U).

    Before the nonlinearity that is its input, whose percentiles are probed. After it, it is the
    output: a nonlinearity that never falls maps percentiles to percentiles.
    """
    config = evidence.runs[arm][0].config()
    activation, post = config["model"]["activation"], config["norm"]["placement"] == "post"
    names = [f"{activation}{layer}/percentiles" for layer in layers]
    of_seeds = []
    for of_layers in zip(*evidence.probed_each(arm, names), strict=True):
        inputs = np.concatenate([values for _, values in of_layers], axis=1).astype(np.float64)
        normalized = ACTIVATE[activation](inputs) if post else inputs
        of_seeds.append((of_layers[0][0], skewness(normalized)))
    return of_seeds


def shape(
    evidence: Evidence, of: Grid, *, layers: tuple[int, ...] = LAYERS, begin: float = 0.0
) -> Array:
    """Of the median unit, the mean size of the skewness and its range over training.

    `begin` is the share of training that is left out at the start. With an axis `criterion`.
    """

    def read(arm: str) -> np.ndarray:
        rows = []
        for steps, values in skews(evidence, arm, layers):
            kept = values[steps >= begin * steps[-1]]
            sizes, ranges = np.abs(kept).mean(0), np.ptp(kept, axis=0)
            rows.append([lower_median(sizes), lower_median(ranges)])
        return np.where(evidence.diverged(arm)[:, None], WORST, rows)

    return of.array(evidence, read, criterion=("symmetry", "steady shape"))


def shapes(values: Array) -> dict[str, Array]:
    """By how much what is normalized is more symmetric and steadier before than after.

    The least of all networks, of what `shape` returns.
    """
    gained = (values.sel(place=POST) - values.sel(place=PRE)).min("network")
    return {
        criterion: gained.sel(criterion=criterion) for criterion in ("symmetry", "steady shape")
    }


def measure(evidence: Evidence) -> Finding:
    """Each network at each place, at its own best learning rate."""
    of = cells(evidence.scale)
    test, lr = of.final(evidence), best(of.final(evidence, VALIDATION))
    tuned = of.at(lr=lr)
    shaped = shape(evidence, tuned)

    def gains(lr: Array | float) -> dict[str, Array]:
        """Test accuracy at the last step, before less after, of each network."""
        chosen = test.sel(lr=lr)
        gained = chosen.sel(place=PRE) - chosen.sel(place=POST)
        return {network: gained.sel(network=network) for network in NETWORKS}

    choices = {
        f"the shapes in the {network} network alone": shapes(shaped.sel(network=[network]))
        for network in NETWORKS
    }
    choices |= {
        "the shapes in the last hidden layer alone": shapes(
            shape(evidence, tuned, layers=LAYERS[-1:])
        ),
        "the shapes after the first tenth of training": shapes(shape(evidence, tuned, begin=0.1)),
    }
    for network in NETWORKS:
        pre, post = (LRS[network, place][evidence.scale] for place in PLACES)
        for rate in sorted({*pre} & {*post}):
            choice = f"{network} network, learning rate {rate:g} for both"
            choices[choice] = {network: gains(rate)[network]}
    text = "Which network and layer, and both places at one learning rate."
    return Finding(
        gains(lr) | shapes(shaped),
        exhibits=_exhibits(evidence, lr, shaped),
        unspecified=Check(text, choices),
    )


def _exhibits(evidence: Evidence, lr: Array, shaped: Array) -> tuple[Exhibit, ...]:
    of = cells(evidence.scale)
    tuned = of.at(lr=lr)
    medians = shaped.reduce(lower_median, "seed")

    def drift(arm: str) -> np.ndarray:
        last = evidence.runs[arm][0].config()["model"]["activation"] + str(LAYERS[-1])
        return lower_median(drifts(tracks(evidence, arm, last)))

    def sizes(arm: str) -> list[tuple[np.ndarray, np.ndarray]]:
        found = skews(evidence, arm)
        return [(steps, np.median(np.abs(values), axis=1)) for steps, values in found]

    def panels(values: Array) -> dict[str, Array]:
        return {f"{network} network": values.sel(network=network) for network in NETWORKS}

    return (
        table(
            "Each network at its best learning rate, by validation images. Accuracies are means "
            "over seeds. Size and range of the skewness are those of what is normalized; the drift "
            "is that of stable-distributions, of the inputs of the last nonlinearity, which only "
            "“before” normalizes. Medians over units and seeds.",
            ("network", "place"),
            {
                "learning rate": lr,
                "validation accuracy": tuned.final(evidence, VALIDATION),
                "test accuracy": tuned.final(evidence),
                "skewness": medians.sel(criterion="symmetry"),
                "its range over training": medians.sel(criterion="steady shape"),
                "drift": tuned.array(evidence, drift).reduce(lower_median, "seed"),
            },
            LABELS,
            {"network": "network", "place": "normalized"},
        ),
        curves(
            "rates", "Test error over the learning rate", panels(1 - of.final(evidence)),
            "lr", "test error at the last step", "place", names=LABELS, log_y=True,
        ),
        curves(
            "error", "Test error over training, each at its best learning rate",
            panels(1 - tuned.curves(evidence)), "step", "test error", "place", names=LABELS,
            log_y=True,
        ),
        curves(
            "skewness",
            "How asymmetric the distribution is that is normalized, Wu before and f(Wu + b) after "
            "the nonlinearity f (0 symmetric, 1 most of it at its lower end), of the median unit "
            "of all hidden layers",
            panels(tuned.over_training(evidence, sizes)),
            "step", "skewness of what is normalized", "place", names=LABELS, limits=(-0.02, 1.02),
        ),
    )  # fmt: skip


CLAIM = Claim(
    statement="Batch normalization belongs before the nonlinearity: what is normalized there is "
    "more symmetric and keeps its shape, and the network ends at a higher test accuracy than with "
    "batch normalization after it.",
    section="§3.2",
    paper_says="z = g(BN(Wu)). “We could have also normalized the layer inputs u, but since u is "
    "likely the output of another nonlinearity, the shape of its distribution is likely to change "
    "during training, and constraining its first and second moments would not eliminate the "
    "covariate shift. In contrast, Wu + b is more likely to have a symmetric, non-sparse "
    "distribution, that is ‘more Gaussian’; normalizing it is likely to produce activations with a "
    "stable distribution.”",
    unspecified="The evidence: the paper argues, and compares nothing. That the network is the "
    "better for it is implied, not said. Here Fig. 1's network and the same one with ReLU and He's "
    "weights, normalized at either place, for 10,000 steps, each at the best of a few learning "
    "rates. After the nonlinearity the linear layers keep their biases, the inputs of the first "
    "nonlinearity are not normalized, and those of the output layer are.",
    criteria={
        SIGMOID: Criterion(
            "test accuracy at the last step of the sigmoid network, before − after, each at its "
            "best learning rate, of the same seed",
            Margin(0.0, "accuracy"),
            "Better at all: there is no number to hold it to.",
        ),
        RELU: Criterion(
            "the same of the network with ReLU",
            Margin(0.0, "accuracy"),
            "Better at all. The argument is one of nonlinearities in general, and the paper's "
            "ImageNet networks have this one.",
        ),
        "symmetry": Criterion(
            "size of the skewness of what is normalized (of its 15th, 50th and 85th percentile, "
            "from 0 to 1), mean over training, of the median unit, after − before; the smaller "
            "difference of the two networks",
            Margin(0.0, "skewness"),
            "“More likely symmetric”: more at all, in both networks. Not a matter of course: a "
            "sigmoid of what is symmetric about 0 is as symmetric.",
        ),
        "steady shape": Criterion(
            "range of that skewness over training, of the median unit, after − before; the smaller "
            "difference of the two networks",
            Margin(0.0, "skewness"),
            "“The shape of its distribution is likely to change”: more at all than that of Wu. "
            "Skewness is the same after any affine map, so nothing in it is due to the "
            "normalization itself.",
        ),
    },
    scales=plans(_arms, SEEDS, PROBED),
    measure=measure,
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
