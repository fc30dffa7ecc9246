"""With batch normalization the scale of the initial weights matters less."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from bnrepro.evidence.arms import NAMES, NONE, NORMS, SEEDS, SMOKE, at_lr, norms, over_lrs
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
from bnrepro.evidence.exhibits import Curves, Figure, HeatMap, Table, over_seeds
from bnrepro.evidence.runs import CHANCE, TEST, VALIDATION, Evidence
from bnrepro.evidence.tuning import best_lr

TRAINED = 0.9
"""Less than a linear classifier of MNIST has: a network that does not get there has not trained."""

WORDS = {
    "smoke": ("experiment=fig1", *SMOKE),
    "short": ("experiment=fig1", "train.steps=1000", "probe.every=0"),
    "paper": ("experiment=fig1", "train.steps=3000", "probe.every=0"),
}
"""Fewer steps than in other grids: this one goes over rates and initial deviations together."""

DEVIATIONS = {
    "smoke": (0.01, 1.0),
    "short": (0.001, 0.01, 0.1, 1.0, 10.0),
    "paper": (0.001, 0.01, 0.1, 1.0, 10.0),
}
"""Initial standard deviations, a decade apart: four decades."""

LRS = {"smoke": (1.0, 10.0), "short": (1.0, 10.0), "paper": (1.0, 3.0, 10.0)}
"""High ones: from small weights a network without batch normalization sets out late, the sooner the
higher its rate; with batch normalization large weights turn slowly, the sooner the higher too."""


def at_deviation(norm: str, deviation: float) -> str:
    """The name of an arm from one initial deviation."""
    return f"{norm} init={deviation:g}"


def _scale(scale: str) -> Plan:
    arms: dict[str, tuple[str, ...]] = {}
    for deviation in DEVIATIONS[scale]:
        for norm, words in norms((f"init.scale={deviation}",)).items():
            arms[at_deviation(norm, deviation)] = words
    return Plan(SEEDS[scale], over_lrs(arms, LRS[scale]), WORDS[scale])


Rate = Callable[[str, float], float]
"""The learning rate of an arm, by its norm, from an initial deviation."""


def finals(evidence: Evidence, norm: str, lr: Rate, name: str = TEST) -> np.ndarray:
    """The last accuracy from every initial deviation: (S, D)."""
    found = [
        evidence.final(at_lr(at_deviation(norm, deviation), lr(norm, deviation)), name)
        for deviation in DEVIATIONS[evidence.scale]
    ]
    return np.stack(found, axis=1)


def decades(evidence: Evidence, lr: Rate, trained: float = TRAINED) -> np.ndarray:
    """How many more of the deviations a network with batch normalization trains from: (S,)."""
    none, batch = ((finals(evidence, norm, lr, VALIDATION) >= trained).sum(1) for norm in NORMS)
    return np.asarray(batch - none, float)


def worst(evidence: Evidence, lr: Rate) -> np.ndarray:
    """By how much the lowest accuracy over all deviations is higher: (S,)."""
    none, batch = (finals(evidence, norm, lr).min(1) for norm in NORMS)
    result: np.ndarray = batch - none
    return result


def effects(evidence: Evidence, lr: Rate) -> Mapping[str, np.ndarray]:
    """Both criteria's effects."""
    return {"decades": decades(evidence, lr), "worst": worst(evidence, lr)}


def fixed(lr: float) -> Rate:
    """The same rate for both arms and from every deviation."""
    return lambda norm, deviation: lr


def tuned(evidence: Evidence) -> Rate:
    """Each arm's own best rate from each deviation, by the validation images."""
    lrs = LRS[evidence.scale]
    return lambda norm, deviation: best_lr(evidence, at_deviation(norm, deviation), lrs)


def suited(evidence: Evidence) -> float:
    """The rate at which the network without batch normalization does best, from any deviation."""
    lrs = {
        at_lr(at_deviation(NONE, deviation), lr): lr
        for deviation in DEVIATIONS[evidence.scale]
        for lr in LRS[evidence.scale]
    }
    return lrs[evidence.best(lrs)]


def measure(evidence: Evidence) -> Finding:
    """At one rate; at every arm's best; over the whole grid."""
    one, own = suited(evidence), tuned(evidence)
    return Finding(
        {"decades": decades(evidence, fixed(one)), "worst": worst(evidence, own)},
        exhibits=(_figure(evidence, one), _grid(evidence), _table(evidence)),
        fair=Check(
            "Each arm from each initial deviation at the learning rate of its highest mean "
            "validation accuracy: whoever is careful about the initial weights could as well be "
            "careful about the rate.",
            (Variation("every arm at its best rate from every deviation", effects(evidence, own)),),
        ),
        unspecified=_unspecified(evidence),
    )


def _unspecified(evidence: Evidence) -> Check:
    found: dict[str, Mapping[str, np.ndarray]] = {
        f"learning rate {lr:g} for all": effects(evidence, fixed(lr)) for lr in LRS[evidence.scale]
    }
    one = suited(evidence)
    for trained in (0.5, 0.95):
        among = decades(evidence, fixed(one), trained)
        found[f"trained means a validation accuracy of {trained}"] = {"decades": among}
    return Check(
        "Another fixed learning rate, and another meaning of trained.",
        tuple(Variation(choice, values) for choice, values in found.items()),
    )


def _figure(evidence: Evidence, one: float) -> Figure:
    panels = [
        Curves(
            title, "initial standard deviation", "test accuracy at the last step",
            [
                over_seeds(NAMES[norm], DEVIATIONS[evidence.scale], finals(evidence, norm, lr))
                for norm in NORMS
            ],
            log_x=True, limits=(0.0, 1.0), levels=(CHANCE, TRAINED),
        )
        for title, lr in (
            (f"all at learning rate {one:g}", fixed(one)),
            ("each at its own best learning rate", tuned(evidence)),
        )
    ]  # fmt: skip
    return Figure(
        "deviations",
        "Accuracy over the scale of the initial weights: median over seeds, band from least to "
        "greatest; dotted, guessing and what counts as trained.",
        panels,
    )


def _grid(evidence: Evidence) -> Figure:
    deviations, lrs = DEVIATIONS[evidence.scale], LRS[evidence.scale]
    panels = [
        HeatMap(
            NAMES[norm], "initial standard deviation", "learning rate", deviations, lrs,
            [np.median(finals(evidence, norm, fixed(lr)), axis=0) for lr in lrs],
            (0.0, 1.0),
        )
        for norm in NORMS
    ]  # fmt: skip
    return Figure("grid", "Test accuracy at the last step, median over seeds.", panels)


def _table(evidence: Evidence) -> Table:
    own, rows = tuned(evidence), []
    for norm in NORMS:
        accuracies = [finals(evidence, norm, own, name).mean(0) for name in (VALIDATION, TEST)]
        for number, deviation in enumerate(DEVIATIONS[evidence.scale]):
            validation, test = (float(values[number]) for values in accuracies)
            rows.append((NAMES[norm], deviation, own(norm, deviation), validation, test))
    columns = (
        "arm", "initial deviation", "best learning rate", "validation accuracy", "test accuracy",
    )  # fmt: skip
    return Table("Each arm at its best rate from each deviation: means over seeds.", columns, rows)


CLAIM = Claim(
    statement="With batch normalization one can be less careful about initialization: networks "
    "train from initial weights of scales from which they do not train without it.",
    section="Abstract, §3.3",
    paper_says="That it allows to be less careful about initialization (abstract), for "
    "BN(Wu) = BN((aW)u): what a normalized layer computes does not depend on the scale of its "
    "weights, and larger weights get smaller gradients, which steadies their growth (§3.3). There "
    "is no experiment of it.",
    unspecified="The whole experiment. Here it is the network of Fig. 1 with Gaussian weights of "
    "standard deviation 0.001 to 10, at high learning rates, for 3,000 steps. To train is to have "
    f"a last validation accuracy of {TRAINED} at least. The fixed learning rate is the one that "
    "suits the network without batch normalization: the one of its highest validation accuracy "
    "anywhere in the grid.",
    criteria=(
        Criterion(
            "decades",
            "the initial deviations, a decade apart, from which the network trains, all at one "
            "learning rate: how many with BN − how many without, of the same seed",
            "decades",
            0.0,
            "One more at the least: the deviations are a factor of 10 apart, and their number is "
            "whole. The rate is the baseline's best, so that it fails for its initial weights "
            "alone.",
        ),
        Criterion(
            "worst",
            "the lowest test accuracy over all initial deviations, each arm at its own best "
            "learning rate for each, with BN − without BN, of the same seed",
            "accuracy",
            0.01,
            "A hundredth is what batch normalization is ahead by in any case, from weights that "
            "suit both (.982 and .972 at the end of Fig. 1a). Where weights suit badly it has to "
            "be more.",
        ),
    ),
    scales={scale: _scale(scale) for scale in SCALES},
    measure=measure,
    later=(
        FollowUp(
            "Zhang et al. 2019",
            "1901.09321",
            "With an initialization made for them (Fixup), residual networks of up to 10,000 "
            "layers train as stably without any normalization: care about initialization can "
            "stand in for it.",
        ),
        FollowUp(
            "Arora et al. 2018",
            "1812.03981",
            "The scale of a normalized layer's weights is a learning rate in disguise: its "
            "effective rate is the rate ÷ ‖w‖², which lowers itself when it is too high. From "
            "very large weights it is too low for as long as they stay large.",
        ),
    ),
)
