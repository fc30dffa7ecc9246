"""§3.2: batch normalization before the nonlinearity, or after it.

The paper normalizes before, for what it says of shapes: u, what comes out of a nonlinearity, is
likely to change the shape of its distribution, and Wu + b is more likely to be symmetric. Both are
measured; so is what the paper only implies, that the network is the better for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from bnrepro.evidence.arms import PROBED, PROBED_LRS, SEEDS, at_lr, over_lrs
from bnrepro.evidence.claim import (
    SCALES,
    Check,
    Claim,
    Criterion,
    Finding,
    FollowUp,
    Plan,
    Variation,
)
from bnrepro.evidence.exhibits import Cell, Curves, Figure, Table, over_seeds
from bnrepro.evidence.movement import drifts, tracks
from bnrepro.evidence.runs import VALIDATION, Evidence
from bnrepro.evidence.stats import lower_median
from bnrepro.evidence.tuning import best_lr

SIGMOID, RELU = NETWORKS = ("sigmoid", "ReLU")

WORDS = {
    SIGMOID: (),
    RELU: ("model.activation=relu", "init=he", "init.scale=1.0"),  # Fig. 1's scale is no gain
}

PRE, POST = PLACES = ("before", "after")

PLACED = {PRE: ("norm=batch",), POST: ("norm=batch", "norm.placement=post")}

_RELU_LRS = {"smoke": (0.05, 0.8), "short": (0.05, 0.2, 0.8), "paper": (0.05, 0.2, 0.8)}

LRS: Mapping[tuple[str, str], Mapping[str, tuple[float, ...]]] = {
    (SIGMOID, PRE): PROBED_LRS,
    (SIGMOID, POST): {
        "smoke": (0.1, 1.0),
        "short": (0.03, 0.1, 0.3, 1.0),
        "paper": (0.03, 0.1, 0.3, 1.0),
    },
    (RELU, PRE): _RELU_LRS,
    (RELU, POST): _RELU_LRS,
}
"""Learning rates by network, place and scale: as many at both places. Sigmoids put out a quarter of
the deviation of what they take in, or less; normalized after them it is one. So the next layer's
gradients are four times as large and more, and the grid lies half an order of magnitude lower. What
a ReLU puts out is nearly as large as what is normalized."""

LABELS = {PRE: "before the nonlinearity", POST: "after it"}

ACTIVATE: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    SIGMOID: lambda x: (1 + np.tanh(x / 2)) / 2,
    RELU: lambda x: np.maximum(x, 0.0),
}

LAYERS = (1, 2, 3)

WORST_SKEWNESS, WORST_CHANGE = 1.0, 2.0
"""What a run that diverged counts as: the most there can be."""


def name(network: str, place: str) -> str:
    """The name of an arm, but for its learning rate."""
    return f"{network} {place}"


def _scale(scale: str) -> Plan:
    """Both networks, normalized at either place, at every learning rate, probed."""
    arms: dict[str, tuple[str, ...]] = {}
    for (network, place), lrs in LRS.items():
        words = {name(network, place): (*WORDS[network], *PLACED[place])}
        arms |= over_lrs(words, lrs[scale])
    return Plan(SEEDS[scale], arms, PROBED[scale])


def skewness(percentiles: np.ndarray) -> np.ndarray:
    """How asymmetric 15th, 50th and 85th percentiles (…, 3) lie: (…), from −1 to 1.

    The upper distance less the lower one, over both; 0 for any symmetric distribution, and
    the same after any affine map, as a normalization is one. What has no spread between the outer
    two, such as a ReLU that is silent for most images, counts as 1: it is sparse.
    """
    low, middle, high = np.moveaxis(np.asarray(percentiles, np.float64), -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (high + low - 2 * middle) / (high - low)
    result: np.ndarray = np.where(np.isfinite(ratio), ratio, 1.0)
    return result


def skews(
    evidence: Evidence, network: str, place: str, lr: float, layers: tuple[int, ...] = LAYERS
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of every seed, the steps (P,) and the skewness of what is normalized, of every unit: (P, U).

    Before the nonlinearity that is its input, whose percentiles are probed. After it, it is the
    output: a nonlinearity that never falls maps percentiles to percentiles.
    """
    arm = at_lr(name(network, place), lr)
    names = [f"{network.lower()}{layer}/percentiles" for layer in layers]
    probed = evidence.probed_each(arm, names)  # layers of seeds
    found = []
    for of_layers in zip(*probed, strict=True):
        values = np.concatenate([values for _, values in of_layers], axis=1).astype(np.float64)
        found.append(
            (of_layers[0][0], skewness(ACTIVATE[network](values) if place == POST else values))
        )
    return found


def shape(
    evidence: Evidence,
    network: str,
    place: str,
    lr: float,
    *,
    layers: tuple[int, ...] = LAYERS,
    begin: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Of the median unit, the mean size of the skewness and its range over training: (S,) each.

    `begin` is the share of training that is left out at the start.
    """
    found = skews(evidence, network, place, lr, layers)
    diverged = evidence.diverged(at_lr(name(network, place), lr))
    sizes, changes = [], []
    for steps, values in found:
        kept = values[steps >= begin * steps[-1]]
        sizes.append(float(lower_median(np.abs(kept).mean(0))))
        changes.append(float(lower_median(np.ptp(kept, axis=0))))
    return (
        np.where(diverged, WORST_SKEWNESS, np.array(sizes)),
        np.where(diverged, WORST_CHANGE, np.array(changes)),
    )


Rates = Mapping[tuple[str, str], float]
"""A learning rate for each network and place."""


def accuracy(evidence: Evidence, network: str, lrs: Rates) -> np.ndarray:
    """Test accuracy at the last step, before less after: (S,)."""
    pre, post = (
        evidence.final(at_lr(name(network, place), lrs[network, place])) for place in PLACES
    )
    difference: np.ndarray = pre - post
    return difference


def shapes(
    evidence: Evidence,
    lrs: Rates,
    networks: tuple[str, ...] = NETWORKS,
    *,
    layers: tuple[int, ...] = LAYERS,
    begin: float = 0.0,
) -> dict[str, np.ndarray]:
    """By how much what is normalized is more symmetric and steadier before than after: (S,) each.

    The least of all networks.
    """
    differences = []
    for network in networks:
        pre, post = (
            shape(evidence, network, place, lrs[network, place], layers=layers, begin=begin)
            for place in PLACES
        )
        differences.append([after - before for before, after in zip(pre, post, strict=True)])
    symmetry, steadiness = np.min(differences, axis=0)
    return {"symmetry": symmetry, "steady shape": steadiness}


def measure(evidence: Evidence) -> Finding:
    """Each network at each place, at its own best learning rate."""
    best = {
        (network, place): best_lr(evidence, name(network, place), lrs[evidence.scale])
        for (network, place), lrs in LRS.items()
    }
    accuracies = {network: accuracy(evidence, network, best) for network in NETWORKS}
    return Finding(
        accuracies | shapes(evidence, best),
        exhibits=(
            _table(evidence, best),
            _over_lrs(evidence),
            _over_training(evidence, best),
            _skewness(evidence, best),
        ),
        unspecified=_unspecified(evidence, best),
    )


def _table(evidence: Evidence, best: Rates) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for (network, place), lr in best.items():
        arm = at_lr(name(network, place), lr)
        validation, test = (
            float(evidence.final(arm, *metric).mean()) for metric in ((VALIDATION,), ())
        )
        medians = [float(lower_median(values)) for values in shape(evidence, network, place, lr)]
        last = tracks(evidence, arm, f"{network.lower()}{LAYERS[-1]}")
        drift = float(lower_median(lower_median(drifts(last))))
        rows.append((network, LABELS[place], lr, validation, test, *medians, drift))
    return Table(
        "Each network at its best learning rate, by validation images. Accuracies are means over "
        "seeds. Size and range of the skewness are those of what is normalized; the drift is that "
        "of stable-distributions, of the inputs of the last nonlinearity, which only “before” "
        "normalizes. Medians over units and seeds.",
        ("network", "normalized", "learning rate", "validation accuracy", "test accuracy",
         "skewness", "its range over training", "drift"),
        rows,
    )  # fmt: skip


def _over_lrs(evidence: Evidence) -> Figure:
    panels = []
    for network in NETWORKS:
        lines = []
        for place in PLACES:
            lrs = LRS[network, place][evidence.scale]
            finals = [evidence.final(at_lr(name(network, place), lr)) for lr in lrs]
            lines.append(over_seeds(LABELS[place], lrs, 1 - np.stack(finals, axis=1)))
        panels.append(
            Curves(f"{network} network", "learning rate", "test error at the last step", lines,
                   log_x=True, log_y=True)
        )  # fmt: skip
    caption = "Test error over the learning rate: median over seeds, band from least to greatest."
    return Figure("rates", caption, panels)


def _over_training(evidence: Evidence, best: Rates) -> Figure:
    panels = []
    for network in NETWORKS:
        lines = []
        for place in PLACES:
            steps, curves = evidence.curves(at_lr(name(network, place), best[network, place]))
            lines.append(over_seeds(LABELS[place], steps, 1 - curves))
        panels.append(Curves(f"{network} network", "step", "test error", lines, log_y=True))
    caption = (
        "Test error over training, each at its best learning rate: median over seeds, band from "
        "least to greatest."
    )
    return Figure("error", caption, panels)


def _skewness(evidence: Evidence, best: Rates) -> Figure:
    panels = []
    for network in NETWORKS:
        lines = []
        for place in PLACES:
            found = skews(evidence, network, place, best[network, place])
            probes = min(len(steps) for steps, _ in found)  # of a diverged run there are fewer
            sizes = [np.median(np.abs(values[:probes]), axis=1) for _, values in found]
            lines.append(over_seeds(LABELS[place], found[0][0][:probes], np.stack(sizes)))
        panels.append(
            Curves(f"{network} network", "step", "skewness of what is normalized", lines,
                   limits=(-0.02, 1.02))
        )  # fmt: skip
    caption = (
        "How asymmetric the distribution is that is normalized, Wu before and f(Wu + b) after the "
        "nonlinearity f: 0 symmetric, 1 most of it at its lower end. Median over the units of all "
        "hidden layers; median and range over seeds."
    )
    return Figure("skewness", caption, panels)


def _unspecified(evidence: Evidence, best: Rates) -> Check:
    found: dict[str, Mapping[str, np.ndarray]] = {
        f"the shapes in the {network} network alone": shapes(evidence, best, (network,))
        for network in NETWORKS
    }
    found["the shapes in the last hidden layer alone"] = shapes(evidence, best, layers=LAYERS[-1:])
    found["the shapes after the first tenth of training"] = shapes(evidence, best, begin=0.1)
    for network in NETWORKS:
        pre, post = (LRS[network, place][evidence.scale] for place in PLACES)
        for lr in sorted({*pre} & {*post}):
            both = {(network, place): lr for place in PLACES}
            found[f"{network} network, learning rate {lr:g} for both"] = {
                network: accuracy(evidence, network, both)
            }
    return Check(
        "Which network and layer, and both places at one learning rate.",
        tuple(Variation(choice, values) for choice, values in found.items()),
    )


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
    criteria=(
        Criterion(
            SIGMOID,
            "test accuracy at the last step of the sigmoid network, before − after, each at its "
            "best learning rate, of the same seed",
            "accuracy",
            0.0,
            "Better at all: there is no number to hold it to.",
        ),
        Criterion(
            RELU,
            "the same of the network with ReLU",
            "accuracy",
            0.0,
            "Better at all. The argument is one of nonlinearities in general, and the paper's "
            "ImageNet networks have this one.",
        ),
        Criterion(
            "symmetry",
            "size of the skewness of what is normalized (of its 15th, 50th and 85th percentile, "
            "from 0 to 1), mean over training, of the median unit, after − before; the smaller "
            "difference of the two networks",
            "skewness",
            0.0,
            "“More likely symmetric”: more at all, in both networks. Not a matter of course: a "
            "sigmoid of what is symmetric about 0 is as symmetric.",
        ),
        Criterion(
            "steady shape",
            "range of that skewness over training, of the median unit, after − before; the smaller "
            "difference of the two networks",
            "skewness",
            0.0,
            "“The shape of its distribution is likely to change”: more at all than that of Wu. "
            "Skewness is the same after any affine map, so nothing in it is due to the "
            "normalization itself.",
        ),
    ),
    scales={scale: _scale(scale) for scale in SCALES},
    measure=measure,
    later=(
        FollowUp(
            "Mishkin et al. 2016",
            "1606.02228",
            "On ImageNet, a convolutional network with ReLU ended higher with batch normalization "
            "after the nonlinearity than before it.",
        ),
        FollowUp(
            "Chen et al. 2019",
            "1905.05928",
            "Batch normalization should not stand before ReLU; directly before the next weights, "
            "together with Dropout, residual networks train more stably and end higher.",
        ),
        FollowUp(
            "He et al. 2016",
            "1603.05027",
            "In residual networks the order normalization, ReLU, weights trained best of those "
            "tried: normalization directly before the nonlinearity, as in the paper.",
        ),
    ),
)
