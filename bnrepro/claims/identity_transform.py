"""§3: set to γ = √Var[x] and β = E[x], batch normalization is the identity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bnrepro.evidence.arms import GRID, NONE, SEEDS
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
from bnrepro.evidence.exhibits import Bars, Curves, Figure, Line, Table
from bnrepro.evidence.runs import Evidence, digits

STUDY = "identity-transform"

# The claim scale-invariance has the same arms: together they are one run.
STUDIED = ("norm=none", f"studies=[{STUDY},scale-invariance]")
UNTRAINED = "train.steps=1"

CHOICES = {
    "untrained": ("not trained", (UNTRAINED,)),
    "small": ("not trained, initial deviation 0.01", (UNTRAINED, "init.scale=0.01")),
    "relu": ("ReLU", ("model.activation=relu",)),
    "fast": ("learning rate 3", ("optimizer.lr=3.0",)),
}
"""Other networks to be left as they are: name of the arm, what it is called, its overrides."""

ARMS = {NONE: STUDIED} | {
    f"{NONE} {name}": (*STUDIED, *words) for name, (_, words) in CHOICES.items()
}
CALLED = {NONE: "trained as in Fig. 1"} | {
    f"{NONE} {name}": called for name, (called, _) in CHOICES.items()
}

HIDDEN = 3  # layers

DIGITS = 9.0
HALF_AN_IMAGE = 0.5e-4

RECOVERED = "max_error"
WITHOUT_EPS = "max_error_without_eps"


Read = Callable[[dict[str, Any]], list[float | None]]
"""Some numbers of a study."""


def _of_layers(what: str) -> Read:
    return lambda study: [layer[what] for layer in study["layers"].values()]


def _changed(mode: str, what: str) -> Read:
    return lambda study: [study[mode][what]]


def _worst(evidence: Evidence, arm: str, read: Read) -> np.ndarray:
    """The largest of what `read` takes from each study: (S,); infinite where one is no number."""
    found = [
        max(np.inf if value is None else value for value in read(study)) if study else np.inf
        for study in evidence.studies(arm, STUDY)
    ]
    return np.array(found, dtype=np.float64)


def recovered(evidence: Evidence, arm: str, error: str = RECOVERED) -> np.ndarray:
    """Digits to which the inputs of all nonlinearities come back: (S,)."""
    return digits(_worst(evidence, arm, _of_layers(error)))


def preserved(evidence: Evidence, arm: str, mode: str = "inference") -> dict[str, np.ndarray]:
    """Digits to which the outputs stay what they are, and the share of classes that do not."""
    return {
        "outputs": digits(_worst(evidence, arm, _changed(mode, "max_logit_change"))),
        "classes": 0.0 - _worst(evidence, arm, _changed(mode, "predictions_changed")),
    }


def effects(evidence: Evidence, arm: str) -> dict[str, np.ndarray]:
    """All criteria's effects, of one network."""
    return {"input": recovered(evidence, arm)} | preserved(evidence, arm)


def measure(evidence: Evidence) -> Finding:
    """The trained network with transforms set to the identity; others as checks."""
    return Finding(
        effects(evidence, NONE),
        exhibits=(_layers(evidence), _eps(evidence), _outputs(evidence), _table(evidence)),
        unspecified=Check(
            "γ as the paper writes it, ε or not, which leaves the transform short of the identity "
            "by ε ÷ 2 Var; means and variances of mini-batches, as in training, in the place of "
            "the population's, which make it none at all; and other networks.",
            (
                Variation(
                    "γ = √Var beside ε = 10⁻⁵", {"input": recovered(evidence, NONE, WITHOUT_EPS)}
                ),
                Variation("statistics of mini-batches", preserved(evidence, NONE, "training")),
                *(
                    Variation(called, effects(evidence, f"{NONE} {name}"))
                    for name, (called, _) in CHOICES.items()
                ),
            ),
        ),
    )


def _by_layer(evidence: Evidence, arm: str, what: str) -> np.ndarray:
    """A number of every layer: (S, HIDDEN); infinite where the run diverged."""
    read = _of_layers(what)
    studies = evidence.studies(arm, STUDY)
    found = [read(study) if study else [np.inf] * HIDDEN for study in studies]
    return np.array(found, dtype=np.float64)


def _layers(evidence: Evidence) -> Figure:
    heights: dict[str, list[float]] = {}
    ranges: dict[str, list[tuple[float, float]]] = {}
    for label, what in (("γ = √(Var + ε)", RECOVERED), ("γ = √Var", WITHOUT_EPS)):
        found = np.minimum(digits(_by_layer(evidence, NONE, what)), 17.0)
        heights[label] = np.median(found, axis=0).tolist()
        ranges[label] = list(zip(found.min(0).tolist(), found.max(0).tolist(), strict=True))
    groups = [f"hidden layer {i + 1}" for i in range(HIDDEN)]
    panel = Bars("the input of a nonlinearity, recovered", "digits", groups, heights, ranges,
                 (-1.0, 20.0))  # fmt: skip
    caption = (
        "Digits of x that BN(x) recovers with β = E, the worst value of all images and units of a "
        "layer, in units of its unit's deviation: median over seeds, line from least to greatest. "
        "float64 has 16."
    )
    return Figure("layers", caption, (panel,))


def _eps(evidence: Evidence) -> Figure:
    lines: list[Line] = []
    for arm, called in CALLED.items():
        smallest, error = (
            _by_layer(evidence, arm, what).ravel() for what in ("min_variance", WITHOUT_EPS)
        )
        drawn = (smallest > 0) & np.isfinite(smallest)
        lines.append(Line(called, smallest[drawn], error[drawn], points=True))
    variances = np.concatenate([np.asarray(line.x) for line in lines])
    eps = next((study["eps"] for study in evidence.studies(NONE, STUDY) if study), 0.0)
    span = np.geomspace(variances.min(), variances.max(), 50) if len(variances) else variances
    theory = 1 - np.sqrt(span / (span + eps))
    panel = Curves(
        "γ = √Var, without ε", "smallest variance of a unit", "error in deviations",
        [Line("of a value one deviation off", span, theory), *lines], log_x=True, log_y=True,
    )  # fmt: skip
    caption = (
        f"What ε = {eps:g} costs where γ leaves it out, 1 - √(Var ÷ (Var + ε)) for every deviation "
        "that a value is off its mean: the worst value of each layer of each seed, over the "
        "smallest variance of the layer's units."
    )
    return Figure("eps", caption, (panel,))


def _outputs(evidence: Evidence) -> Figure:
    modes = {"statistics of the population": "inference", "of mini-batches": "training"}
    groups = [arm for arm in ARMS if UNTRAINED not in ARMS[arm]]
    heights: dict[str, list[float]] = {}
    ranges: dict[str, list[tuple[float, float]]] = {}
    for label, mode in modes.items():
        found = [_worst(evidence, arm, _changed(mode, "predictions_changed")) for arm in groups]
        heights[label] = [float(np.median(each)) for each in found]
        ranges[label] = [(float(each.min()), float(each.max())) for each in found]
    panel = Bars(
        "with transforms set to the identity", "share of test images whose class changes",
        [CALLED[arm] for arm in groups], heights, ranges,
    )  # fmt: skip
    caption = (
        "What becomes of trained networks without BN where a transform set to the identity is put "
        "before every nonlinearity: median over seeds, line from least to greatest. With the "
        "statistics of mini-batches, as in training, it is no identity."
    )
    return Figure("outputs", caption, (panel,))


def _table(evidence: Evidence) -> Table:
    reads = [
        *(_of_layers(what) for what in (RECOVERED, WITHOUT_EPS)),
        *(
            _changed(mode, what)
            for mode in ("inference", "training")
            for what in ("max_logit_change", "predictions_changed")
        ),
    ]
    rows: list[list[str | float]] = [
        [called, *(float(np.median(_worst(evidence, arm, read))) for read in reads)]
        for arm, called in CALLED.items()
    ]
    return Table(
        "The largest error of a value of x, in deviations of its unit; the largest change of a "
        "logit, and the share of test images whose class changes, with population statistics and "
        "with those of mini-batches. Medians over seeds.",
        ("network", "x, γ = √(Var + ε)", "x, γ = √Var", "logit", "classes", "logit, mini-batches",
         "classes, mini-batches"),
        rows,
    )  # fmt: skip


CLAIM = Claim(
    statement="Batch normalization can represent the identity, γ = √Var[x] and β = E[x] recover "
    "the original activations, so that a network loses no capacity by it.",
    section="§3",
    paper_says="'By setting γ = √Var[x] and β = E[x], we could recover the original activations, "
    "if that were the optimal thing to do.' No experiment.",
    unspecified="That γ has to be √(Var[x] + ε), with ε in Algorithm 1, and which mean and "
    "variance are meant: the sentence stands before mini-batches come in, with whose statistics it "
    "is no identity. Here those of the batch itself for a layer's input, those of the population "
    "for the outputs at inference, and for comparison those of mini-batches. The network is the "
    "one of Fig. 1 without BN after 10,000 steps (2,000 at the scale short), and a transform "
    "with ε = 10⁻⁵ put before each of its nonlinearities, in float64. That capacity is not lost "
    "does not say that training finds what could be represented.",
    criteria=(
        Criterion(
            "input",
            "digits to which the input x of every nonlinearity, all test images as one batch, is "
            "recovered with γ = √(Var + ε), β = E: -log₁₀ of the largest error of a value, in "
            "deviations of its unit",
            "digits",
            DIGITS,
            "Nine digits. float64 rounds at 10⁻¹⁶ of the value, and a unit's mean may be a hundred "
            "thousand times its deviation, in a saturated network; ten roundings. What ε does "
            "where it is not allowed for is ε ÷ 2 Var, a millionth for a variance of 5.",
        ),
        Criterion(
            "outputs",
            "digits to which the outputs stay the same at inference, E and Var by Algorithm 2: "
            "-log₁₀ of the largest change of a logit of all test images",
            "digits",
            DIGITS,
            "The same rounding, for logits of the order of 10, through three layers.",
        ),
        Criterion(
            "classes",
            "share of test images whose class changes, its negative",
            "share",
            -HALF_AN_IMAGE,
            "Loses nothing: not one image of 10,000, so less than half a one.",
        ),
    ),
    scales={scale: Plan(SEEDS[scale], ARMS, GRID[scale]) for scale in SCALES},
    measure=measure,
    later=(
        FollowUp(
            "Ioffe 2017",
            "1702.03275",
            "In training the transform depends on the other images of the batch, which no γ and β "
            "undo; Batch Renormalization corrects each batch's mean and variance to moving "
            "averages, so that training and inference compute the same.",
        ),
        FollowUp(
            "Bjorck et al. 2018",
            "1806.02375",
            "What training finds is the matter: with batch normalization it is larger steps that "
            "make the difference, not what the network can represent.",
        ),
    ),
)
