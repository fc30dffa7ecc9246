"""§3.4: batch normalization regularizes, so that less dropout is needed, or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from bnrepro.evidence.arms import BATCH, MIDDLE, NAMES, NONE, NORMS, SIZE, SMALL, SMALL_LRS, at_lr
from bnrepro.evidence.claim import (
    PAPER,
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
from bnrepro.evidence.runs import (
    STANDARD_ERROR,
    TEST,
    TOLD_APART,
    VALIDATION,
    Evidence,
    gap,
    needed,
)

SEEDS = {"smoke": 1, "short": 3, "paper": 5}
STEPS = {"smoke": 200, "short": 1200, "paper": 2500}
DROPOUTS = {"smoke": (0.0, 0.5), "short": (0.0, 0.1, 0.3, 0.5), "paper": (0.0, 0.1, 0.3, 0.5, 0.7)}

WIDE = ("model.hidden=[200,200,200]", f"train.batch_size={SIZE}")
"""Twice the units of Fig. 1, so that some are left where dropout is strong; batches as in §4.2."""

FEWER = ("dataset.limit=512", "train.steps=1000")
"""Four times fewer images, each seen 1.6 times as often, at the middle learning rate."""

Cell = Callable[[str, float], str]
"""The arm that stands for a norm and a dropout."""


def cell(norm: str, dropout: float) -> str:
    """The name of a norm and a dropout, before its learning rate."""
    return f"{norm} dropout={dropout:g}"


def fewer(norm: str, dropout: float) -> str:
    """The same on fewer images."""
    return f"{cell(norm, dropout)}, fewer images"


def _scale(scale: str) -> Plan:
    arms: dict[str, tuple[str, ...]] = {}
    for norm in NORMS:
        for dropout in DROPOUTS[scale]:
            words = (f"norm={norm}", f"model.dropout={dropout:g}")
            for lr in SMALL_LRS[scale]:
                arms[at_lr(cell(norm, dropout), lr)] = (*words, f"optimizer.lr={lr}")
            if scale == PAPER:
                arms[fewer(norm, dropout)] = (*words, *FEWER, f"optimizer.lr={MIDDLE}")
    return Plan(SEEDS[scale], arms, (*SMALL[scale], *WIDE, f"train.steps={STEPS[scale]}"))


def effects(evidence: Evidence, arm: Cell, error: float = STANDARD_ERROR) -> dict[str, np.ndarray]:
    """Every criterion's effects, where `arm` names a cell of the grid."""
    dropouts = DROPOUTS[evidence.scale]
    arms = {norm: {dropout: arm(norm, dropout) for dropout in dropouts} for norm in NORMS}
    without = {norm: evidence.final(arms[norm][0.0]) for norm in NORMS}
    best = {norm: evidence.final(evidence.best(arms[norm].values())) for norm in NORMS}
    least = {norm: needed(evidence, arms[norm], error) for norm in NORMS}
    return {
        "gain": (best[NONE] - without[NONE]) - (best[BATCH] - without[BATCH]),
        "strength": least[NONE] - least[BATCH],
        "replaced": without[BATCH] - best[NONE],
    }


def measure(evidence: Evidence) -> Finding:
    """Every cell at its own best learning rate; the same at each rate, and on fewer images."""

    def best(norm: str, dropout: float) -> str:
        return evidence.best(at_lr(cell(norm, dropout), r) for r in SMALL_LRS[evidence.scale])

    return Finding(
        effects(evidence, best),
        exhibits=(_curves(evidence, best), _grid(evidence, best), _table(evidence, best)),
        unspecified=_unspecified(evidence, best),
    )


def _curves(evidence: Evidence, arm: Cell) -> Figure:
    dropouts = DROPOUTS[evidence.scale]

    def panel(title: str, y: str, value: Callable[[str], np.ndarray]) -> Curves:
        values = {
            norm: np.stack([value(arm(norm, dropout)) for dropout in dropouts], axis=1)
            for norm in NORMS
        }
        lines = [over_seeds(NAMES[norm], dropouts, values[norm]) for norm in NORMS]
        return Curves(title, "dropout", y, lines)

    panels = (
        panel("What dropout is worth", "test accuracy", evidence.final),
        panel("Overfitting", "training − test accuracy", lambda name: gap(evidence, name)),
    )
    caption = (
        "Each cell at its best learning rate: median over seeds, band from least to greatest. "
        "Both accuracies are of inference: without dropout, and with moving averages."
    )
    return Figure("dropout", caption, panels)


def _grid(evidence: Evidence, arm: Cell) -> Figure:
    dropouts = DROPOUTS[evidence.scale]

    def panel(title: str, name: str) -> HeatMap:
        values = [
            [float(np.median(evidence.final(arm(norm, dropout), name))) for dropout in dropouts]
            for norm in NORMS
        ]
        return HeatMap(title, "dropout", "", dropouts, [NAMES[norm] for norm in NORMS], values)

    panels = (panel("Test accuracy", TEST), panel("Training accuracy", "train_accuracy"))
    return Figure("grid", "The same as numbers: medians over seeds.", panels)


def _table(evidence: Evidence, arm: Cell) -> Table:
    rows = []
    for norm in NORMS:
        for dropout in DROPOUTS[evidence.scale]:
            name = arm(norm, dropout)
            lr = evidence.runs[name][0].config()["optimizer"]["lr"]
            finals = (evidence.final(name, m) for m in (VALIDATION, TEST, "train_accuracy"))
            means = (float(values.mean()) for values in finals)
            rows.append((NAMES[norm], dropout, lr, *means, float(gap(evidence, name).mean())))
    columns = ("arm", "dropout", "learning rate", "validation", "test", "training", "gap")
    caption = "Accuracies of every cell at its best learning rate: means over seeds."
    return Table(caption, columns, rows)


def _at(lr: float, norm: str, dropout: float) -> str:
    return at_lr(cell(norm, dropout), lr)


def _unspecified(evidence: Evidence, best: Cell) -> Check:
    found: dict[str, Mapping[str, np.ndarray]] = {}
    for lr in SMALL_LRS[evidence.scale]:
        found[f"learning rate {lr:g} in every cell"] = effects(evidence, partial(_at, lr))
    if evidence.scale == PAPER:
        found["512 training images"] = effects(evidence, fewer)
    for text, error in (("the best one on validation", 0.0), ("within .006 of it", 0.006)):
        found[f"the dropout needed is {text}"] = {
            "strength": effects(evidence, best, error)["strength"]
        }
    return Check(
        "One learning rate for all cells in place of each one's best, fewer images, and what "
        "counts as the dropout that is needed.",
        tuple(Variation(choice, values) for choice, values in found.items()),
    )


CLAIM = Claim(
    statement="Batch normalization regularizes: with it dropout is worth less, can be weaker, and "
    "can be left out without being worse than the best dropout without it.",
    section="§3.4, §4.2.1",
    paper_says="“Whereas Dropout is typically used to reduce over-fitting, in a batch-normalized "
    "network we found that it can be either removed or reduced in strength.” On ImageNet Inception "
    "has dropout of 40 % and reaches 72.2 %; the batch-normalized networks without it 73.0 and "
    "74.8 %. Removing it is said not to increase overfitting.",
    unspecified="Everything but the 40 %, and the paper removes dropout together with six other "
    "changes. Here 2,048 images of MNIST, which every network without dropout learns by heart; "
    "three hidden layers of 200 rectified units with He's initial weights; dropout behind each of "
    "them; 32 images a step as in §4.2, plain SGD; every cell of the grid at its own best learning "
    "rate by validation images.",
    criteria=(
        Criterion(
            "gain",
            "what the best dropout adds to test accuracy, without BN − with BN (no dropout is "
            "among the choices, which are made on validation images for each arm)",
            "accuracy",
            TOLD_APART,
            "The paper gives no number. .003 is the smallest difference of accuracies that it "
            "takes for one (73.0 and 72.7 %, BN-x5 and BN-Baseline).",
        ),
        Criterion(
            "strength",
            "the dropout needed, without BN − with BN, of the same seed: the least whose "
            "validation accuracy is within .003 of the best",
            "dropout",
            0.0,
            "“Removed or reduced in strength”: weaker at all. Within .003, one standard error of "
            "an accuracy near .95 on 5,000 images, a weaker dropout is taken for as good.",
        ),
        Criterion(
            "replaced",
            "test accuracy with BN and no dropout − without BN and with the best dropout, of the "
            "same seed",
            "accuracy",
            -TOLD_APART,
            "Not worse, within the difference of .003: on ImageNet the batch-normalized networks "
            "without dropout are better than the one with it, by .008 at least.",
        ),
    ),
    scales={scale: _scale(scale) for scale in SCALES},
    measure=measure,
    later=(
        FollowUp(
            "Li et al. 2018",
            "1801.05134",
            "Dropout before batch normalization changes a unit's variance between training and "
            "inference, which the stored variance does not follow: together they are often worse "
            "than either. So some of what dropout loses with batch normalization is their "
            "quarrel, and no sign that it is not needed.",
        ),
        FollowUp(
            "Luo et al. 2018",
            "1809.00846",
            "Confirmed for small networks in theory: the noise of the mini-batch acts as a decay "
            "of γ that adapts to the data, the weaker the larger the batch.",
        ),
        FollowUp(
            "Zhang et al. 2016",
            "1611.03530",
            "As a regularizer it does little: without batch normalization Inception is 3 to 4 % "
            "worse on CIFAR-10, and with it it still learns random labels by heart.",
        ),
    ),
)
