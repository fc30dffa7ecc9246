"""§4.2.2: with batch normalization Inception trains with sigmoids, without it does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from bnrepro.evidence.arms import CIFAR_SEEDS
from bnrepro.evidence.claim import (
    PAPER,
    SCALES,
    SMOKE,
    Check,
    Claim,
    Criterion,
    Finding,
    FollowUp,
    PaperNumber,
    Plan,
    Variation,
)
from bnrepro.evidence.exhibits import Curves, Figure, Table, over_seeds
from bnrepro.evidence.fig2_arms import BN_X5, CHANGES, NETWORKS, arm, lr
from bnrepro.evidence.runs import CHANCE, TEST, VALIDATION, Evidence

TRAINED = 0.4
"""What logistic regression makes of the pixels: a network that does not get there has not trained.
"""

STUCK = 0.13
"""Half of the way from guessing to .156, which logistic regression makes of an image's mean
brightness alone."""

SIGMOID = "model.activation=sigmoid"
INCEPTION_SIGMOID, BN_X5_SIGMOID = "Inception-Sigmoid", "BN-x5-Sigmoid"

TIMES = {"smoke": (1, 5), "short": (1, 5), "paper": (1, 5, 30)}
"""The learning rates of Inception with sigmoids: those of the paper's networks."""

XAVIER = ("init=xavier", "init.scale=4")
"""The initial weights made for sigmoids, whose slope at 0 is ¼ of the identity's; He's are made for
ReLUs."""

WITHOUT = f"{BN_X5_SIGMOID} without BN"
"""All of BN-x5-Sigmoid but for batch normalization."""


def at_times(times: int, init: str = "") -> str:
    """The name of Inception with sigmoids at so many times the learning rate of Inception."""
    return f"{INCEPTION_SIGMOID} ×{times}{init}"


def inceptions(scale: str) -> dict[str, tuple[str, ...]]:
    """Inception with sigmoids, at several learning rates and from other initial weights."""
    words = ("norm=none", SIGMOID)
    found: dict[str, tuple[str, ...]] = {
        at_times(times): (*words, lr(times)) for times in TIMES[scale]
    }
    if scale == PAPER:
        found[at_times(5, ", Xavier")] = (*words, lr(5), *XAVIER)
    return found


def without(scale: str) -> dict[str, tuple[str, ...]]:
    """Every network with sigmoids and without batch normalization."""
    other = {WITHOUT: ("norm=none", *CHANGES.values(), SIGMOID)} if scale == PAPER else {}
    return inceptions(scale) | other


def _scale(scale: str) -> Plan:
    arms = {BN_X5: NETWORKS[BN_X5], BN_X5_SIGMOID: (*NETWORKS[BN_X5], SIGMOID)} | without(scale)
    return Plan(CIFAR_SEEDS[scale], {name: arm(scale, *words) for name, words in arms.items()})


def highest(evidence: Evidence, arm: str) -> np.ndarray:
    """The highest validation accuracy after the first step, that of guessing at least: (S,)."""
    _, values = evidence.curves(arm, VALIDATION)
    found: np.ndarray = values[:, 1:].max(1, initial=CHANCE)
    return found


def best(evidence: Evidence, arms: Iterable[str]) -> str:
    """The arm that comes highest, in the mean over seeds; of equals the first."""
    return max(arms, key=lambda arm: float(highest(evidence, arm).mean()))


def stuck(evidence: Evidence, arm: str, bound: float = STUCK) -> np.ndarray:
    """How far below a bound a network stays all the time: (S,)."""
    result: np.ndarray = bound - highest(evidence, arm)
    return result


def measure(evidence: Evidence) -> Finding:
    """BN-x5-Sigmoid beside the best that comes of Inception with sigmoids."""
    none = best(evidence, inceptions(evidence.scale))
    return Finding(
        {"with BN": evidence.final(BN_X5_SIGMOID), "without BN": stuck(evidence, none)},
        _comparisons(evidence, none) if evidence.scale != SMOKE else (),
        (_figure(evidence, none), _table(evidence)),
        _fair(evidence),
        _unspecified(evidence, none),
    )


def _comparisons(evidence: Evidence, none: str) -> tuple[PaperNumber, ...]:
    return (
        PaperNumber(
            "last test accuracy, BN-x5 − BN-x5-Sigmoid (paper: on ImageNet, of their maxima)",
            "accuracy",
            0.730 - 0.698,
            evidence.final(BN_X5) - evidence.final(BN_X5_SIGMOID),
        ),
        PaperNumber(
            "last test accuracy of Inception with sigmoids − chance (paper: on ImageNet, “never” "
            "better)",
            "accuracy",
            0.0,
            evidence.final(none) - CHANCE,
        ),
    )


def _figure(evidence: Evidence, none: str) -> Figure:
    lines = [over_seeds(name, *evidence.curves(name)) for name in (BN_X5, BN_X5_SIGMOID, none)]
    panel = Curves("Inception with sigmoids", "step", "test accuracy", lines,
                   limits=(0.0, 1.0), levels=(CHANCE, TRAINED))  # fmt: skip
    caption = (
        "Test accuracy over training, of Inception with sigmoids where it comes highest on "
        "validation images: median over seeds, band from the least to the greatest; dotted, "
        "guessing and what counts as trained."
    )
    return Figure("accuracy", caption, (panel,))


def _table(evidence: Evidence) -> Table:
    rows = []
    for name in evidence.runs:
        lr = evidence.runs[name][0].config()["optimizer"]["lr"]
        values = highest(evidence, name), evidence.final(name, VALIDATION), evidence.final(name)
        means = [float(value.mean()) for value in values]
        rows.append((name, lr, *means, int(evidence.diverged(name).sum())))
    return Table(
        "Every network: means over seeds.",
        ("network", "learning rate", "highest validation accuracy", "last validation accuracy",
         "last test accuracy", "runs that diverged"),
        rows,
    )  # fmt: skip


def _fair(evidence: Evidence) -> Check:
    arms = without(evidence.scale)
    lines = [over_seeds(name, *evidence.curves(name, VALIDATION)) for name in arms]
    panel = Curves("without batch normalization", "step", "validation accuracy", lines,
                   levels=(CHANCE, STUCK))  # fmt: skip
    more = (
        " Initial weights made for sigmoids, Xavier's times 4; and all that BN-x5-Sigmoid has but "
        "batch normalization."
        if evidence.scale == PAPER
        else ""
    )
    return Check(
        "What is judged is Inception with sigmoids where it comes highest on validation images. "
        "Here is every network without batch normalization by itself, at the learning rates "
        f"of Inception times {', '.join(str(times) for times in TIMES[evidence.scale])}.{more}",
        tuple(Variation(name, {"without BN": stuck(evidence, name)}) for name in arms),
        (Figure("chance", "Dotted, guessing and what is taken for better than it.", (panel,)),),
    )


def _unspecified(evidence: Evidence, none: str) -> Check:
    bounds = {
        f"chance means below {bound}": stuck(evidence, none, bound) for bound in (0.11, 0.156)
    }
    found: Mapping[str, np.ndarray] = bounds | {
        "by the test accuracy at the last step alone": STUCK - evidence.final(none, TEST)
    }
    return Check(
        "What counts as chance.",
        tuple(Variation(choice, {"without BN": values}) for choice, values in found.items()),
    )


CLAIM = Claim(
    statement="With batch normalization Inception trains with sigmoids in place of ReLUs; without "
    "it, it stays at chance.",
    section="§4.2.2, Fig. 3",
    paper_says="BN-x5 with sigmoids (BN-x5-Sigmoid) reaches 69.8 % on ImageNet, with ReLUs 73.0 %. "
    "The original Inception with sigmoids “remained at the accuracy equivalent to chance”: "
    "“without Batch Normalization, Inception with sigmoid never achieves better than 1/1000 "
    "accuracy”.",
    unspecified="How Inception with sigmoids was trained. Here at the learning rates of the "
    "paper's networks, 1, 5 and 30 times that of Inception with ReLUs; from He's initial weights "
    "as all the others, and from Xavier's times 4, which suit sigmoids; it counts where it comes "
    "highest on validation images. Scaled down: CIFAR-10, where chance is .1, a network of 106,000 "
    "parameters, 6,000 steps of 32 images. What chance is: a validation accuracy that never comes "
    f"to {STUCK}. What it is to train: a last test accuracy of {TRAINED}.",
    criteria=(
        Criterion(
            "with BN",
            "test accuracy of BN-x5-Sigmoid at the last step",
            "accuracy",
            TRAINED,
            "What logistic regression makes of the pixels: below it nothing speaks for ten "
            "modules. The paper's network is 700 times as often right as chance, and comes within "
            ".032 of that with ReLUs.",
        ),
        Criterion(
            "without BN",
            f"{STUCK} − the highest validation accuracy of Inception with sigmoids on the way, at "
            "the learning rate and from the initial weights that are best for it",
            "accuracy",
            0.0,
            "The paper's network is never better than chance. The same answer to all is right for "
            ".105 of the 5,000 validation images at most; logistic regression of an image's mean "
            "brightness makes .156 of the test images, of its mean colour .239. Half of the way "
            "to the former: a network below that has not found out whether an image is dark.",
        ),
    ),
    scales={scale: _scale(scale) for scale in SCALES},
    measure=measure,
    later=(
        FollowUp(
            "Xu et al. 2016",
            "1602.05980",
            "That deep sigmoid networks do not train lies as much in the slope and the offset at "
            "the origin: rescaled to be like tanh there, the sigmoid trains about as well as tanh "
            "does.",
        ),
        FollowUp(
            "Xiao et al. 2018",
            "1806.05393",
            "Convolutional networks of tanh train with 10,000 layers, without normalization or "
            "shortcuts, from orthogonal weights of the right scale: that a nonlinearity saturates "
            "is no obstacle by itself.",
        ),
    ),
)
