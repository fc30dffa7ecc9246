"""§2: networks train faster on normalized inputs; with batch normalization they need them less."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bnrepro.evidence.arms import BATCH, NAMES, NONE, NORMS, SEEDS, at_lr, over_lrs
from bnrepro.evidence.claim import (
    PAPER,
    SCALES,
    SMOKE,
    Check,
    Claim,
    Criterion,
    Finding,
    FollowUp,
    Plan,
    Variation,
)
from bnrepro.evidence.exhibits import Cell, Curves, Figure, Table, over_seeds
from bnrepro.evidence.runs import VALIDATION, Evidence, log_ratio
from bnrepro.evidence.stats import lower_median
from bnrepro.evidence.tuning import best_lr

TRAINED = 0.9
"""Less than a linear classifier of MNIST has: a network that never gets there has not trained."""

STANDARDIZED, RAW, SHIFTED, UNEVEN = INPUTS = ("standardized", "raw", "shifted", "uneven")
BAD = INPUTS[1:]

LABELS = {
    STANDARDIZED: "standardized",
    RAW: "raw, as stored",
    SHIFTED: "shifted by 3 deviations",
    UNEVEN: "each of its own scale",
}

RUN: Mapping[str, tuple[str, ...]] = {
    "smoke": (
        "experiment=fig1", "dataset=digits", "train.steps=200", "train.eval_every=50",
        "probe.every=0", "probe.size=100", "tensorboard=false",
    ),
    "short": (
        "experiment=fig1", "dataset.binary=false", "train.steps=1000", "train.eval_every=50",
        "probe.every=0",
    ),
    "paper": (
        "experiment=fig1", "dataset.binary=false", "train.steps=2500", "train.eval_every=100",
        "probe.every=0",
    ),
}  # fmt: skip
"""Fig. 1's network on grey images for the beginning of training, where speed shows; looked at
often, for speed is counted in these steps."""

LRS: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    NONE: {"smoke": (1.0,), "short": (0.03, 0.3, 3.0), "paper": (0.03, 0.1, 0.3, 1.0, 3.0)},
    BATCH: {"smoke": (1.0,), "short": (0.3, 3.0), "paper": (0.1, 0.3, 1.0, 3.0)},
}
"""Inputs of one arm are compared with inputs of the same arm, at the same rates. Without batch
normalization they reach further down, for what is badly scaled needs small steps: as far as the
layers above, whose inputs are bounded, can learn anything in so few. With it the scale of the
inputs and the size of a step have nothing to do with each other (§3.3)."""

XAVIER, XAVIER_LR = ("init=xavier", "init.scale=1.0"), 1.0
"""At this rate, without batch normalization, from weights made for standardized inputs: smaller in
the first layer than Fig. 1's, larger in the others, which do not keep it on a plateau as long."""


def name(norm: str, inputs: str) -> str:
    """The name of an arm, but for its learning rate."""
    return f"{norm} {inputs}"


def xavier(inputs: str) -> str:
    """The name of an arm that begins with Xavier's weights."""
    return f"{name(NONE, inputs)} xavier"


def _scale(scale: str) -> Plan:
    """Both networks on all kinds of inputs, at every learning rate."""
    arms: dict[str, tuple[str, ...]] = {}
    for norm in NORMS:
        kinds = {name(norm, kind): (f"norm={norm}", f"dataset.inputs={kind}") for kind in INPUTS}
        arms |= over_lrs(kinds, LRS[norm][scale])
    if scale == PAPER:
        for kind in INPUTS:
            words = (f"norm={NONE}", f"dataset.inputs={kind}", *XAVIER)
            arms |= over_lrs({xavier(kind): words}, (XAVIER_LR,))
    return Plan(SEEDS[scale], arms, RUN[scale])


Rates = Mapping[tuple[str, str], float]
"""A learning rate for each norm and kind of inputs."""


def gain(evidence: Evidence, standardized: str, bad: str) -> np.ndarray:
    """Steps to the best that bad inputs come to, bad ÷ standardized, in doublings: (S,)."""
    _, curves = evidence.curves(bad, VALIDATION)
    target = np.maximum(curves.max(1), TRAINED)
    return log_ratio(evidence.steps_to(bad, target), evidence.steps_to(standardized, target))


def effects(evidence: Evidence, lrs: Rates, bad: Sequence[str] = BAD) -> dict[str, np.ndarray]:
    """All criteria's effects with each kind of inputs at its rate: (S,) each; the least of `bad`.

    What is standardized beside what is badly scaled, without batch normalization; and what bad
    scaling costs without it beside what it costs with it.
    """
    arms = {(norm, kind): at_lr(name(norm, kind), lr) for (norm, kind), lr in lrs.items()}
    speeds, accuracies, spared = [], [], []
    for kind in bad:
        speeds.append(gain(evidence, arms[NONE, STANDARDIZED], arms[NONE, kind]))
        without, with_it = (
            evidence.final(arms[norm, STANDARDIZED]) - evidence.final(arms[norm, kind])
            for norm in NORMS
        )
        accuracies.append(without)
        spared.append(without - with_it)
    return {
        "speed": np.min(speeds, axis=0),
        "accuracy": np.min(accuracies, axis=0),
        "loss spared by BN": np.min(spared, axis=0),
    }


def measure(evidence: Evidence) -> Finding:
    """Each kind of inputs at its own best learning rate."""
    best = {
        (norm, kind): best_lr(evidence, name(norm, kind), LRS[norm][evidence.scale])
        for norm in NORMS
        for kind in INPUTS
    }
    return Finding(
        effects(evidence, best),
        exhibits=(_over_training(evidence, best), _table(evidence, best), _over_lrs(evidence)),
        unspecified=_unspecified(evidence, best),
    )


def _over_training(evidence: Evidence, best: Rates) -> Figure:
    panels = []
    for norm in NORMS:
        lines = []
        for kind in INPUTS:
            steps, curves = evidence.curves(at_lr(name(norm, kind), best[norm, kind]))
            lines.append(over_seeds(LABELS[kind], steps, curves))
        panels.append(
            Curves(
                NAMES[norm], "step", "test accuracy", lines, limits=(0.0, 1.0), levels=(TRAINED,)
            )
        )
    caption = (
        "Test accuracy over training, each kind of inputs at its best learning rate: median over "
        "seeds, band from least to greatest."
    )
    return Figure("accuracy", caption, panels)


def _over_lrs(evidence: Evidence) -> Figure:
    panels = []
    for norm in NORMS:
        lrs = LRS[norm][evidence.scale]
        lines = []
        for kind in INPUTS:
            finals = [evidence.final(at_lr(name(norm, kind), lr)) for lr in lrs]
            lines.append(over_seeds(LABELS[kind], lrs, np.stack(finals, axis=1)))
        panels.append(
            Curves(NAMES[norm], "learning rate", "test accuracy at the last step", lines,
                   log_x=True, limits=(0.0, 1.0))
        )  # fmt: skip
    caption = "Accuracy over the learning rate: median over seeds, band from least to greatest."
    return Figure("rates", caption, panels)


def _table(evidence: Evidence, best: Rates) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for norm in NORMS:
        standardized = at_lr(name(norm, STANDARDIZED), best[norm, STANDARDIZED])
        for kind in INPUTS:
            arm = at_lr(name(norm, kind), best[norm, kind])
            test = evidence.final(arm)
            rows.append(
                (
                    NAMES[norm],
                    LABELS[kind],
                    best[norm, kind],
                    float(lower_median(evidence.steps_to(arm, TRAINED))),
                    float(evidence.final(arm, VALIDATION).mean()),
                    float(test.mean()),
                    float((evidence.final(standardized) - test).mean()),
                )
            )
    return Table(
        "Each kind of inputs at its best learning rate. Steps are the median over seeds, "
        "accuracies means. With BN, one common scale and shift of all inputs cancel (but for ε): "
        "those rows differ by rounding, which training amplifies; uneven scales alone are a test.",
        ("arm", "inputs", "learning rate", f"steps to {TRAINED} (validation)",
         "validation accuracy", "test accuracy", "less than standardized"),
        rows,
    )  # fmt: skip


def _unspecified(evidence: Evidence, best: Rates) -> Check:
    found = {f"{LABELS[kind]}, alone": effects(evidence, best, (kind,)) for kind in BAD}
    common = sorted({*LRS[NONE][evidence.scale]} & {*LRS[BATCH][evidence.scale]})
    for lr in common if evidence.scale != SMOKE else ():  # which has one
        one = dict.fromkeys(best, lr)
        found[f"everything at the learning rate {lr:g}"] = effects(evidence, one)
    if evidence.scale == PAPER:
        at = {kind: at_lr(xavier(kind), XAVIER_LR) for kind in INPUTS}
        found[f"Xavier's initial weights, everything at the learning rate {XAVIER_LR:g}"] = {
            "speed": np.min([gain(evidence, at[STANDARDIZED], at[kind]) for kind in BAD], axis=0),
            "accuracy": np.min(
                [evidence.final(at[STANDARDIZED]) - evidence.final(at[kind]) for kind in BAD],
                axis=0,
            ),
        }
    return Check(
        "Which bad scaling it is, one learning rate for all, and the initial weights.",
        tuple(Variation(choice, values) for choice, values in found.items()),
    )


CLAIM = Claim(
    statement="Networks train faster, and come to a higher accuracy, on normalized inputs than on "
    "badly scaled ones; with batch normalization bad scaling costs less.",
    section="§2, §3.3",
    paper_says="“It has been long known (LeCun et al., 1998b; Wiesler & Ney, 2011) that the "
    "network training converges faster if its inputs are whitened, i.e., linearly transformed to "
    "have zero means and unit variances, and decorrelated” (§2). That batch normalization makes "
    "the scale of the inputs matter less follows from §3.3, BN((aW)u) = BN(Wu): a scale of u is "
    "one of W.",
    unspecified="The experiment: the paper cites, and makes none. Here Fig. 1's network on grey "
    "images: standardized by the mean and deviation of all training pixels (not whitened: neither "
    "pixel by pixel nor decorrelated), as stored from 0 to 255, shifted by 3 deviations, and each "
    "pixel times a factor of its own between 0.03 and 30; each at its best learning rate after "
    "2,500 steps, from the same weights. Smaller weights in the first layer would undo part of "
    "what raw inputs do.",
    criteria=(
        Criterion(
            "speed",
            "without BN: steps to the highest validation accuracy that badly scaled inputs come to "
            f"(at least {TRAINED}), bad ÷ standardized, each at its best learning rate, of the "
            "same seed; the least of raw, shifted and uneven",
            "doublings",
            0.0,
            "Faster at all, and than every one of the three: no number is given.",
        ),
        Criterion(
            "accuracy",
            "without BN: test accuracy at the last step, standardized − badly scaled; the least of "
            "the three",
            "accuracy",
            0.0,
            "Higher at all, for the same reason.",
        ),
        Criterion(
            "loss spared by BN",
            "what bad scaling costs in test accuracy, without BN − with BN, of the same seed; the "
            "least of the three",
            "accuracy",
            0.0,
            "Less at all. Raw and shifted inputs cost nothing with BN by §3.3, but for rounding; "
            "uneven ones may cost as much as without it, for BN(W diag(s) u) is another network.",
        ),
    ),
    scales={scale: _scale(scale) for scale in SCALES},
    measure=measure,
    later=(
        FollowUp(
            "Huang et al. 2018",
            "1804.08450",
            "Decorrelating the activations of every layer as well, the whole of what §2 asks for, "
            "trains faster than batch normalization.",
        ),
        FollowUp(
            "Wadia et al. 2020",
            "2008.07545",
            "Faster is not better: fully whitened inputs lose what a network with a dense first "
            "layer generalizes from, and with few images nothing of it is left.",
        ),
    ),
)
