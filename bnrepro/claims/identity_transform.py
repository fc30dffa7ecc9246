"""§3: set to γ = √Var[x] and β = E[x], batch normalization is the identity."""

from collections.abc import Callable
from typing import Any

import numpy as np

from bnrepro.evidence.arms import GRID, SEEDS
from bnrepro.evidence.claim import Check, Claim, Criterion, Expected, Finding, Group, Margin, plans
from bnrepro.evidence.exhibits import Figure, Table
from bnrepro.evidence.grid import Array, bars, digits, grid, table
from bnrepro.evidence.runs import Evidence

STUDY = "identity-transform"

# The claim scale-invariance has the same arms: together they are one run.
STUDIED = ("norm=none", f"studies=[{STUDY},scale-invariance]")
UNTRAINED = "train.steps=1"

TRAINED = "trained as in Fig. 1"
NETWORKS: dict[str, tuple[str, ...]] = {
    TRAINED: (),
    "not trained": (UNTRAINED,),
    "not trained, initial deviation 0.01": (UNTRAINED, "init.scale=0.01"),
    "ReLU": ("model.activation=relu",),
    "learning rate 3": ("optimizer.lr=3.0",),
}
"""The network that is left as it is, and others, with the overrides of each."""

ARMS = grid(network={name: (*STUDIED, *words) for name, words in NETWORKS.items()})

LAYERS = ("hidden layer 1", "hidden layer 2", "hidden layer 3")

GAMMAS = {"γ = √(Var + ε)": "max_error", "γ = √Var": "max_error_without_eps"}
WITH_EPS, WITHOUT_EPS = GAMMAS

POPULATION, BATCHES = "inference", "training"
"""Whose mean and variance a transform takes, by the mode of the layer."""

DIGITS = 9.0


def errors(evidence: Evidence, gamma: str) -> Array:
    """The largest error of x in every layer, in deviations of its unit."""
    what = GAMMAS[gamma]
    return _numbers(
        evidence, lambda study: [layer[what] for layer in study["layers"].values()], layer=LAYERS
    )


def changes(evidence: Evidence, what: str) -> Array:
    """What the transforms change of the outputs, by mode."""
    modes = (POPULATION, BATCHES)
    return _numbers(evidence, lambda study: [study[mode][what] for mode in modes], mode=modes)


def _numbers(
    evidence: Evidence,
    read: Callable[[dict[str, Any]], list[float | None]],
    **axis: tuple[str, ...],
) -> Array:
    """Numbers of every study; infinite where there is none or the run diverged."""
    [keys] = axis.values()

    def rows(arm: str) -> np.ndarray:
        studies = evidence.studies(arm, STUDY)
        found = [read(study) if study else [None] * len(keys) for study in studies]
        values = np.array(found, dtype=np.float64)
        return np.where(np.isnan(values), np.inf, values)

    return ARMS.array(evidence, rows, **axis)


def measure(evidence: Evidence) -> Finding:
    """The trained network with transforms set to the identity; others as checks."""
    x = {gamma: digits(errors(evidence, gamma).max("layer")) for gamma in GAMMAS}
    logits = digits(changes(evidence, "max_logit_change"))
    outputs = logits.sel(mode=POPULATION)
    of_networks = {
        name: {"input": x[WITH_EPS].sel(network=name), "outputs": outputs.sel(network=name)}
        for name in NETWORKS
    }
    choices = {
        "γ = √Var, with ε = 10⁻⁵": {"input": x[WITHOUT_EPS].sel(network=TRAINED)},
        "statistics of mini-batches": {"outputs": logits.sel(network=TRAINED, mode=BATCHES)},
    }
    return Finding(
        of_networks.pop(TRAINED),
        exhibits=(_layers(evidence), _table(evidence)),
        unspecified=Check(
            "γ as the paper writes it, which with ε falls short of the identity by ε ÷ 2 Var; "
            "means and variances of mini-batches, as in training, instead of the population's, "
            "with which the transform is no identity at all; and other networks.",
            choices | of_networks,
        ),
    )


def _layers(evidence: Evidence) -> Figure:
    values = {
        gamma: digits(errors(evidence, gamma).sel(network=TRAINED)).clip(max=17.0)
        for gamma in GAMMAS
    }
    panel = bars("the input of a nonlinearity, recovered", "digits", values, "layer", (-1.0, 20.0))
    caption = (
        "Digits of x that BN(x) recovers with β = E, the worst value of all images and units of a "
        "layer, in units of its unit's deviation: median over seeds, line from least to greatest. "
        "float64 has 16."
    )
    return Figure("layers", caption, (panel,))


def _table(evidence: Evidence) -> Table:
    logit, classes = (changes(evidence, f) for f in ("max_logit_change", "predictions_changed"))
    columns = {f"x, {gamma}": errors(evidence, gamma).max("layer") for gamma in GAMMAS} | {
        "logit": logit.sel(mode=POPULATION),
        "classes": classes.sel(mode=POPULATION),
        "logit, mini-batches": logit.sel(mode=BATCHES),
        "classes, mini-batches": classes.sel(mode=BATCHES),
    }
    return table(
        "The largest error of a value of x, in deviations of its unit; the largest change of a "
        "logit, and the share of test images whose class changes, with population statistics and "
        "with those of mini-batches. Medians over seeds.",
        ("network",),
        {name: values.median("seed") for name, values in columns.items()},
    )


CLAIM = Claim(
    statement="Batch normalization can represent the identity: γ = √Var[x] and β = E[x] recover "
    "the original activations, so a network loses no capacity by it.",
    section="§3",
    paper_says="“By setting γ = √Var[x] and β = E[x], we could recover the original activations, "
    "if that were the optimal thing to do.” No experiment.",
    unspecified="That γ has to be √(Var[x] + ε), with the ε of Algorithm 1, and which mean and "
    "variance are meant: with those of mini-batches, which the paper brings in later, the "
    "transform is no identity. Here a layer's input is normalized by the batch itself, and the "
    "outputs by the population's statistics at inference. The network is the one of Fig. 1 without "
    "BN after 10,000 steps (2,000 at the scale short), with a transform of ε = 10⁻⁵ before each of "
    "its nonlinearities, in float64. That capacity is not lost does not mean that training finds "
    "what could be represented.",
    criteria={
        "input": Criterion(
            "digits to which the input x of every nonlinearity, all test images as one batch, is "
            "recovered with γ = √(Var + ε), β = E: −log₁₀ of the largest error of a value, in "
            "deviations of its unit",
            Margin(DIGITS, "digits"),
            "Nine digits: float64 rounds at 10⁻¹⁶ of the value, and a saturated unit's mean may be "
            "a hundred thousand times its deviation. An ε that γ leaves out would show as ε ÷ 2 "
            "Var, a millionth for a variance of 5.",
        ),
        "outputs": Criterion(
            "digits to which the outputs stay the same at inference, E and Var by Algorithm 2: "
            "−log₁₀ of the largest change of a logit of all test images",
            Margin(DIGITS, "digits"),
            "The same rounding, for logits of the order of 10, through three layers.",
        ),
    },
    scales=plans(lambda scale: ARMS.arms(), SEEDS, GRID),
    measure=measure,
    group=Group.IDENTITY,
    expected=Expected("REPRODUCED", known=True),
    later={
        "Ioffe 2017": "In training the transform depends on the other images of the batch, which "
        "no γ and β undo; Batch Renormalization corrects each batch's mean and variance to moving "
        "averages, so that training and inference compute the same.",
        "Bjorck et al. 2018": "With batch normalization larger steps make the difference, not what "
        "the network can represent.",
    },
)
