"""§3: set to γ = √Var[x] and β = E[x], batch normalization is the identity."""

from collections.abc import Callable
from typing import Any

import numpy as np

from bnrepro.evidence.arms import GRID, SEEDS
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Margin, plans
from bnrepro.evidence.exhibits import Curves, Figure, Line, Table
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

DIGITS = 9.0
HALF_AN_IMAGE = 0.5e-4

RECOVERED = "max_error"
WITHOUT_EPS = "max_error_without_eps"


def by_layer(evidence: Evidence, what: str) -> Array:
    """A number of every layer, with axis `layer`; infinite where it is none or the run diverged."""

    def number(study: dict[str, Any]) -> list[float | None]:
        return [layer[what] for layer in study["layers"].values()]

    return _numbers(evidence, number, layer=LAYERS)


def changed(evidence: Evidence, what: str) -> Array:
    """What the transforms change of the outputs, by the statistics of which `mode`."""
    modes = ("inference", "training")
    return _numbers(evidence, lambda study: [study[mode][what] for mode in modes], mode=modes)


def _numbers(
    evidence: Evidence,
    read: Callable[[dict[str, Any]], list[float | None]],
    **axis: tuple[str, ...],
) -> Array:
    [keys] = axis.values()

    def rows(arm: str) -> np.ndarray:
        studies = evidence.studies(arm, STUDY)
        found = [read(study) if study else [None] * len(keys) for study in studies]
        values = np.array(found, dtype=np.float64)
        return np.where(np.isnan(values), np.inf, values)

    return ARMS.array(evidence, rows, **axis)


def recovered(evidence: Evidence, error: str = RECOVERED) -> Array:
    """Digits to which the inputs of all nonlinearities come back."""
    return digits(by_layer(evidence, error).max("layer"))


def preserved(evidence: Evidence, mode: str) -> dict[str, Array]:
    """Digits to which the outputs stay what they are, and the share of classes that do not."""
    return {
        "outputs": digits(changed(evidence, "max_logit_change").sel(mode=mode)),
        "classes": 0.0 - changed(evidence, "predictions_changed").sel(mode=mode),
    }


def measure(evidence: Evidence) -> Finding:
    """The trained network with transforms set to the identity; others as checks."""
    found = {"input": recovered(evidence), **preserved(evidence, "inference")}

    def of(network: str, effects: dict[str, Array]) -> dict[str, Array]:
        return {name: values.sel(network=network) for name, values in effects.items()}

    without_eps = {"input": recovered(evidence, WITHOUT_EPS)}
    choices = {
        "γ = √Var beside ε = 10⁻⁵": of(TRAINED, without_eps),
        "statistics of mini-batches": of(TRAINED, preserved(evidence, "training")),
        **{name: of(name, found) for name in NETWORKS if name != TRAINED},
    }
    return Finding(
        of(TRAINED, found),
        exhibits=(_layers(evidence), _eps(evidence), _outputs(evidence), _table(evidence)),
        unspecified=Check(
            "γ as the paper writes it, ε or not, which leaves the transform short of the identity "
            "by ε ÷ 2 Var; means and variances of mini-batches, as in training, in the place of "
            "the population's, which make it none at all; and other networks.",
            choices,
        ),
    )


def _layers(evidence: Evidence) -> Figure:
    values = {
        label: digits(by_layer(evidence, what).sel(network=TRAINED)).clip(max=17.0)
        for label, what in (("γ = √(Var + ε)", RECOVERED), ("γ = √Var", WITHOUT_EPS))
    }
    panel = bars("the input of a nonlinearity, recovered", "digits", values, "layer", (-1.0, 20.0))
    caption = (
        "Digits of x that BN(x) recovers with β = E, the worst value of all images and units of a "
        "layer, in units of its unit's deviation: median over seeds, line from least to greatest. "
        "float64 has 16."
    )
    return Figure("layers", caption, (panel,))


def _eps(evidence: Evidence) -> Figure:
    drawn: list[Line] = []
    every = [by_layer(evidence, what) for what in ("min_variance", WITHOUT_EPS)]
    for network in NETWORKS:
        smallest, error = (values.sel(network=network).to_numpy().ravel() for values in every)
        shown = (smallest > 0) & np.isfinite(smallest)
        drawn.append(Line(network, smallest[shown], error[shown], points=True))
    variances = np.concatenate([np.asarray(line.x) for line in drawn])
    studies = evidence.studies(ARMS.arm(TRAINED), STUDY)
    eps = next((study["eps"] for study in studies if study), 0.0)
    span = np.geomspace(variances.min(), variances.max(), 50) if len(variances) else variances
    theory = 1 - np.sqrt(span / (span + eps))
    panel = Curves(
        "γ = √Var, without ε", "smallest variance of a unit", "error in deviations",
        [Line("of a value one deviation off", span, theory), *drawn], log_x=True, log_y=True,
    )  # fmt: skip
    caption = (
        f"What ε = {eps:g} costs where γ leaves it out, 1 - √(Var ÷ (Var + ε)) for every deviation "
        "that a value is off its mean: the worst value of each layer of each seed, over the "
        "smallest variance of the layer's units."
    )
    return Figure("eps", caption, (panel,))


def _outputs(evidence: Evidence) -> Figure:
    trained = [name for name, words in NETWORKS.items() if UNTRAINED not in words]
    changes = changed(evidence, "predictions_changed").sel(network=trained)
    modes = {"statistics of the population": "inference", "of mini-batches": "training"}
    panel = bars(
        "with transforms set to the identity", "share of test images whose class changes",
        {label: changes.sel(mode=mode) for label, mode in modes.items()}, "network",
    )  # fmt: skip
    caption = (
        "What becomes of trained networks without BN where a transform set to the identity is put "
        "before every nonlinearity: median over seeds, line from least to greatest. With the "
        "statistics of mini-batches, as in training, it is no identity."
    )
    return Figure("outputs", caption, (panel,))


def _table(evidence: Evidence) -> Table:
    logit, classes = (changed(evidence, f) for f in ("max_logit_change", "predictions_changed"))
    columns = {
        "x, γ = √(Var + ε)": by_layer(evidence, RECOVERED).max("layer"),
        "x, γ = √Var": by_layer(evidence, WITHOUT_EPS).max("layer"),
        "logit": logit.sel(mode="inference"),
        "classes": classes.sel(mode="inference"),
        "logit, mini-batches": logit.sel(mode="training"),
        "classes, mini-batches": classes.sel(mode="training"),
    }
    return table(
        "The largest error of a value of x, in deviations of its unit; the largest change of a "
        "logit, and the share of test images whose class changes, with population statistics and "
        "with those of mini-batches. Medians over seeds.",
        ("network",),
        {name: values.median("seed") for name, values in columns.items()},
    )


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
    criteria={
        "input": Criterion(
            "digits to which the input x of every nonlinearity, all test images as one batch, is "
            "recovered with γ = √(Var + ε), β = E: -log₁₀ of the largest error of a value, in "
            "deviations of its unit",
            Margin(DIGITS, "digits"),
            "Nine digits. float64 rounds at 10⁻¹⁶ of the value, and a unit's mean may be a hundred "
            "thousand times its deviation, in a saturated network; ten roundings. What ε does "
            "where it is not allowed for is ε ÷ 2 Var, a millionth for a variance of 5.",
        ),
        "outputs": Criterion(
            "digits to which the outputs stay the same at inference, E and Var by Algorithm 2: "
            "-log₁₀ of the largest change of a logit of all test images",
            Margin(DIGITS, "digits"),
            "The same rounding, for logits of the order of 10, through three layers.",
        ),
        "classes": Criterion(
            "share of test images whose class changes, its negative",
            Margin(-HALF_AN_IMAGE, "share"),
            "Loses nothing: not one image of 10,000, so less than half a one.",
        ),
    },
    scales=plans(lambda scale: ARMS.arms(), SEEDS, GRID),
    measure=measure,
    later={
        "Ioffe 2017": "In training the transform depends on the other images of the batch, which "
        "no γ and β undo; Batch Renormalization corrects each batch's mean and variance to moving "
        "averages, so that training and inference compute the same.",
        "Bjorck et al. 2018": "What training finds is the matter: with batch normalization it is "
        "larger steps that make the difference, not what the network can represent.",
    },
)
