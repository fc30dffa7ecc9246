"""§2: normalized outside the gradient step, a bias grows without end, and to no use."""

from __future__ import annotations

import numpy as np

from bnrepro.evidence.arms import BATCH, SEEDS, SMOKE
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
from bnrepro.evidence.exhibits import Curves, Figure, Table, over_seeds
from bnrepro.evidence.runs import CHANCE, Evidence, log_ratio

CENTRED, SCALED = "detached", "detached scaled"

NORMS = {
    CENTRED: ("norm=detached", "norm.scaling=false"),
    SCALED: ("norm=detached", "norm.scaling=true"),
    BATCH: ("norm=batch", "norm.keep_bias=true"),
}
CALLED = {
    CENTRED: "outside, centring",
    SCALED: "outside, centring and scaling",
    BATCH: "inside: batch normalization",
}

LENGTH = {
    "smoke": ("experiment=fig1", *SMOKE, "probe.every=50"),
    "short": ("experiment=fig1", "train.steps=4000", "train.eval_every=200", "probe.every=500"),
    "paper": ("experiment=fig1", "train.steps=20000", "probe.every=500"),
}
SHORTER = {
    "short": ("train.steps=800", "probe.every=200"),
    "paper": ("train.steps=4000", "probe.every=250"),
}
"""For what is gone over, after the others; at smoke nothing is."""

CHOICES = {
    "shorter": ("fewer steps", ()),
    "fast": ("learning rate 1", ("optimizer.lr=1.0",)),
    "relu": ("ReLU", ("model.activation=relu",)),
}

LOSS = "train_loss"

LAYERS = ("linear1", "linear2", "linear3")

EXPONENT = 0.25
APART = 2.0
WORSE = 1.0


def _scale(scale: str) -> Plan:
    arms: dict[str, tuple[str, ...]] = dict(NORMS)
    if scale in SHORTER:
        for name, (_, words) in CHOICES.items():
            arms |= {f"{norm} {name}": (*own, *SHORTER[scale], *words)
                     for norm, own in NORMS.items()}  # fmt: skip
    return Plan(SEEDS[scale], arms, LENGTH[scale])


def norms_of(evidence: Evidence, arm: str, what: str = "bias") -> tuple[np.ndarray, np.ndarray]:
    """Steps (P,), and the norms of the hidden layers' biases or weights: (S, P, L).

    Those of a run that diverged are infinite from there on.
    """
    config = evidence.runs[arm][0].config()
    every = config["probe"]["every"]
    steps = np.arange(0, config["train"]["steps"] + 1, every)
    found = np.full((len(evidence.seeds), len(steps), len(LAYERS)), np.inf)
    of_layers = evidence.probed_each(arm, [f"{layer}/{what}_norm" for layer in LAYERS])
    for number, of_seeds in enumerate(of_layers):
        for row, (at, values) in zip(found[:, :, number], of_seeds, strict=True):
            row[at // every] = np.where(np.isnan(values), np.inf, values)
    return steps, found


def last(evidence: Evidence, arm: str) -> np.ndarray:
    """The norm of each hidden layer's bias at the last step: (S, L)."""
    return norms_of(evidence, arm)[1][:, -1]


def total(values: np.ndarray) -> np.ndarray:
    """The norm of all layers' together, of norms (…, L)."""
    found: np.ndarray = np.sqrt(np.square(values).sum(-1))
    return found


def exponent(evidence: Evidence, arm: str) -> np.ndarray:
    """log₂ of the bias's norm at the end ÷ half-way, the least of the hidden layers: (S,).

    It is p where the norm grows as the p-th power of the steps. A run that diverged has grown.
    """
    steps, values = norms_of(evidence, arm)
    half = int(np.searchsorted(steps, steps[-1] / 2))
    found: np.ndarray = log_ratio(values[:, -1], values[:, half]).min(1)
    return np.where(evidence.diverged(arm), np.inf, found)


def effects(evidence: Evidence, suffix: str = "") -> dict[str, np.ndarray]:
    """All criteria's effects, of the three arms whose names end alike."""
    centred, scaled, batch = (f"{norm}{suffix}" for norm in (CENTRED, SCALED, BATCH))
    return {
        "growth": exponent(evidence, centred),
        "growth, scaling": exponent(evidence, scaled),
        "against BN": log_ratio(last(evidence, centred), last(evidence, batch), 10).min(1),
        "worse with scaling": log_ratio(
            total(last(evidence, scaled)), total(last(evidence, centred))
        ),
    }


def measure(evidence: Evidence) -> Finding:
    """The three networks side by side; for fewer steps, and then otherwise."""
    found = {
        called: effects(evidence, f" {name}")
        for name, (called, _) in CHOICES.items()
        if f"{BATCH} {name}" in evidence.runs
    }
    check = Check(
        "The learning rate and the nonlinearity, after fewer steps.",
        tuple(Variation(called, values) for called, values in found.items()),
        (_table(evidence, "How those ended."),),
    )
    return Finding(
        effects(evidence),
        exhibits=(_over_training(evidence), _by_layer(evidence), _halves(evidence)),
        unspecified=check if found else None,
    )


def loss_at(evidence: Evidence, arm: str, step: int) -> np.ndarray:
    """The training loss of the line at or after a step: (S,), infinite where there is none."""
    at, losses = evidence.curves(arm, LOSS, diverged=np.inf)
    index = int(np.searchsorted(at, step))
    none = np.full(len(losses), np.inf)
    return losses[:, index] if index < len(at) else none


def _over_training(evidence: Evidence) -> Figure:
    biases, losses, weights = [], [], []
    for arm, called in CALLED.items():
        steps, values = norms_of(evidence, arm)
        biases.append(over_seeds(called, steps[1:], total(values)[:, 1:]))  # 0 at step 0
        losses.append(over_seeds(called, *evidence.curves(arm, LOSS, diverged=np.inf)))
        steps, values = norms_of(evidence, arm, "weight")
        weights.append(over_seeds(called, steps, total(values)))
    caption = (
        "The norm of all hidden layers' biases, the training loss, and the norm of the hidden "
        "layers' weights: median over seeds, band from least to greatest. Outside and inside: "
        "whether the gradient step takes the normalization to be fixed. A steady drift is a line "
        "that rises tenfold where the steps do."
    )
    return Figure(
        "training",
        caption,
        (
            Curves("biases", "step", "norm", biases, log_x=True, log_y=True),
            Curves("training loss", "step", "cross-entropy", losses, log_y=True),
            Curves("weights", "step", "norm", weights),
        ),
    )


def _by_layer(evidence: Evidence) -> Figure:
    panels = []
    for arm, called in CALLED.items():
        steps, values = norms_of(evidence, arm)
        lines = [
            over_seeds(f"hidden layer {i + 1}", steps, values[:, :, i]) for i in range(len(LAYERS))
        ]
        panels.append(Curves(called, "step", "norm of the bias", lines))
    caption = (
        "The norm of each hidden layer's bias: median over seeds, band from least to greatest. The "
        "axes differ."
    )
    return Figure("layers", caption, panels)


def _halves(evidence: Evidence) -> Table:
    rows: list[list[str | float]] = []
    for arm, called in CALLED.items():
        steps, values = norms_of(evidence, arm)
        half = int(np.searchsorted(steps, steps[-1] / 2))
        ends = evidence.final(arm, LOSS, diverged=np.inf)
        loss = [float(np.median(found)) for found in (loss_at(evidence, arm, steps[half]), ends)]
        for number in range(len(LAYERS)):
            norms = [float(np.median(values[:, index, number])) for index in (half, -1)]
            rows.append([called, f"{number + 1}", *norms, *loss])
    return Table(
        f"Half-way (step {steps[half]:,}) and at the end: medians over seeds. The loss is the mean "
        "of the steps since the line before.",
        ("normalized", "hidden layer", "bias, half-way", "bias, end", "loss, half-way",
         "loss, end"),
        rows,
    )  # fmt: skip


def _table(evidence: Evidence, caption: str) -> Table:
    rows: list[list[str | float]] = []
    for name, (choice, _) in CHOICES.items():
        for norm, called in CALLED.items():
            arm = f"{norm} {name}"
            if arm not in evidence.runs:
                continue
            rows.append([
                choice, called, float(np.median(total(last(evidence, arm)))),
                float(np.median(evidence.final(arm, LOSS, diverged=np.inf))),
                float(np.median(evidence.final(arm, diverged=CHANCE))),
                f"{evidence.diverged(arm).sum()} of {len(evidence.seeds)}",
            ])  # fmt: skip
    return Table(
        f"{caption} Medians over seeds.",
        ("choice", "normalized", "norm of all biases", "training loss", "test accuracy",
         "diverged"),
        rows,
    )  # fmt: skip


CLAIM = Claim(
    statement="Where a gradient step ignores that the normalization depends on the parameters, a "
    "bias before it grows indefinitely, and more so with scaling; with batch normalization it "
    "stays where it is.",
    section="§2",
    paper_says="x̂ = x - E[x] with x = u + b: a step that takes E[x] to be fixed moves b by Δb ∝ "
    "-∂ℓ/∂x̂, and the output does not change, for u + (b + Δb) - E[u + (b + Δb)] = u + b - E[u + "
    "b]. 'As the training continues, b will grow indefinitely while the loss remains fixed. This "
    "problem can get worse if the normalization not only centers but also scales the activations. "
    "We have observed this empirically in initial experiments, where the model blows up when the "
    "normalization parameters are computed outside the gradient descent step.'",
    unspecified="The initial experiments: their networks, data and learning rates, and what it is "
    "to blow up. Here: the network of Fig. 1 with the mean, or mean and deviation, of each batch "
    "taken for constants by the gradient, no γ and β, for 20,000 steps (4,000 at the scale short); "
    "and with batch normalization and the bias it does not need. In a whole network the loss does "
    "not stand still, since the other parameters learn: what stays the same is what b adds to it, "
    "nothing. Whether the loss diverges is told in the tables and not asked for: the outputs of "
    "sigmoids are bounded, and the argument does not need it.",
    criteria=(
        Criterion(
            "growth",
            "log₂ of the norm of the bias at the last step ÷ half-way, centring outside the "
            "gradient step, the least of the three hidden layers",
            "doublings",
            EXPONENT,
            "Growing at least as the fourth root of the steps, a quarter. A steady drift has 1, a "
            "random walk 0.5, a bias that settles 0. It need not be 1: the drift is as large as "
            "the gradient, and that falls as the other parameters learn.",
        ),
        Criterion(
            "growth, scaling",
            "the same with centring and scaling outside the gradient step",
            "doublings",
            EXPONENT,
            "The same; a run whose loss is not finite has grown without end.",
        ),
        Criterion(
            "against BN",
            "norm of the bias at the last step, centring outside the gradient step ÷ batch "
            "normalization, the least of the three hidden layers",
            "decades",
            APART,
            "A factor of 100. With batch normalization the gradient of b is 0 but for rounding, "
            "10⁻⁷ of its terms in float32; the hundredth leaves room for its adding up.",
        ),
        Criterion(
            "worse with scaling",
            "norm of all hidden biases at the last step, centring and scaling ÷ centring alone, "
            "outside the gradient step",
            "doublings",
            WORSE,
            "Twice as large. The gradient of b is divided by the deviation, which with these "
            "initial weights is below 1 in all layers; the paper says 'worse', without a number.",
        ),
    ),
    scales={scale: _scale(scale) for scale in SCALES},
    measure=measure,
    later=(
        FollowUp(
            "Desjardins et al. 2015",
            "1507.00210",
            "It can be done outside the gradient step where the parameters are corrected so that "
            "the network computes the same before and after: layers whitened now and then by a "
            "change of coordinates train well.",
        ),
        FollowUp(
            "Ioffe 2017",
            "1702.03275",
            "Repeated for moving averages: normalizing by them in training lets parameters grow "
            "without bound and without improving the loss. Batch Renormalization keeps the "
            "batch's own statistics inside the gradient and only their correction outside.",
        ),
    ),
)
