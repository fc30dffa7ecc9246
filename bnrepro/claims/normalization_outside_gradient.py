"""§2: normalized outside the gradient step, a bias grows without end, and to no use."""

import numpy as np

from bnrepro.evidence.arms import BATCH, SEEDS, SMOKE
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Margin, plans
from bnrepro.evidence.exhibits import Curves, Figure, Line, Table
from bnrepro.evidence.grid import Array, Grid, curves, decades, doublings, grid, lines, table
from bnrepro.evidence.runs import Evidence

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

CHOICES: dict[str, tuple[str, ...]] = {
    "fewer steps": (),
    "learning rate 1": ("optimizer.lr=1.0",),
    "ReLU": ("model.activation=relu",),
}

LOSS = "train_loss"

LAYERS = ("linear1", "linear2", "linear3")

EXPONENT = 0.25
APART = 2.0
WORSE = 1.0

WHOLE = grid(norm=NORMS)


def chosen(scale: str) -> Grid:
    """The same for fewer steps, and otherwise as each choice has it."""
    choices = {name: (*SHORTER[scale], *words) for name, words in CHOICES.items()}
    return grid(norm=NORMS, choice=choices)


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    return WHOLE.arms() | (chosen(scale).arms() if scale in SHORTER else {})


def norms_of(evidence: Evidence, of: Grid, what: str = "bias") -> Array:
    """The norms of the hidden layers' biases or weights, with axes `step` and `layer`.

    Those of a run that diverged are infinite from there on.
    """
    first = of.arm(*(next(iter(values)) for values in of.axes.values()))
    config = evidence.runs[first][0].config()
    every = config["probe"]["every"]
    steps = range(0, config["train"]["steps"] + 1, every)

    def read(arm: str) -> np.ndarray:
        found = np.full((len(evidence.seeds), len(steps), len(LAYERS)), np.inf)
        of_layers = evidence.probed_each(arm, [f"{layer}/{what}_norm" for layer in LAYERS])
        for number, of_seeds in enumerate(of_layers):
            for row, (at, values) in zip(found[:, :, number], of_seeds, strict=True):
                row[at // every] = np.where(np.isnan(values), np.inf, values)
        return found

    return of.array(evidence, read, step=steps, layer=LAYERS)


def total(norms: Array) -> Array:
    """The norm of all layers' together."""
    return (norms**2).sum("layer") ** 0.5


def half_way(values: Array) -> Array:
    """What there is at the first step after half of all."""
    return values.sel(step=values.step[-1] / 2, method="backfill")


def effects(biases: Array, diverged: Array) -> dict[str, Array]:
    """All criteria's effects, of the norms of the three networks' biases.

    Growth is log₂ of the norm at the end ÷ half-way, the least of the hidden layers: p where it
    grows as the p-th power of the steps. A run that diverged has grown.
    """
    last = biases.isel(step=-1)
    growth = doublings(last, half_way(biases)).min("layer").where(~diverged, np.inf)
    centred, scaled, batch = (last.sel(norm=norm) for norm in NORMS)
    return {
        "growth": growth.sel(norm=CENTRED),
        "growth, scaling": growth.sel(norm=SCALED),
        "against BN": decades(centred, batch).min("layer"),
        "worse with scaling": doublings(total(scaled), total(centred)),
    }


def measure(evidence: Evidence) -> Finding:
    """The three networks side by side; for fewer steps, and then otherwise."""
    biases, losses = norms_of(evidence, WHOLE), _losses(evidence)
    return Finding(
        effects(biases, WHOLE.diverged(evidence)),
        exhibits=(
            _over_training(evidence, biases, losses),
            curves(
                "layers", "The norm of each hidden layer's bias",
                {called: biases.sel(norm=norm) for norm, called in CALLED.items()},
                "step", "norm of the bias", "layer", more=" The axes differ.",
                names={layer: f"hidden layer {i + 1}" for i, layer in enumerate(LAYERS)},
            ),
            _halves(evidence, biases, losses),
        ),
        unspecified=_unspecified(evidence) if evidence.scale in SHORTER else None,
    )  # fmt: skip


def _unspecified(evidence: Evidence) -> Check:
    of = chosen(evidence.scale)
    biases, diverged = norms_of(evidence, of), of.diverged(evidence)
    medians = {
        "norm of all biases": total(biases).isel(step=-1),
        "training loss": of.final(evidence, LOSS, diverged=np.inf),
        "test accuracy": of.final(evidence),
    }
    return Check(
        "The learning rate and the nonlinearity, after fewer steps.",
        {name: effects(biases.sel(choice=name), diverged.sel(choice=name)) for name in CHOICES},
        (
            table(
                "How those ended. Medians over seeds.",
                ("choice", "norm"),
                {
                    **{name: values.median("seed") for name, values in medians.items()},
                    "share of seeds that diverged": diverged,
                },
                CALLED,
                {"norm": "normalized"},
            ),
        ),
    )


def _losses(evidence: Evidence) -> Array:
    """The training loss, the mean of the steps since the line before; infinite once it diverged."""
    return WHOLE.over_training(
        evidence, lambda arm: [run.curve(LOSS) for run in evidence.runs[arm]], np.inf
    )


def _over_training(evidence: Evidence, biases: Array, losses: Array) -> Figure:
    def drawn(values: Array) -> list[Line]:
        return lines(values, "step", names=CALLED)

    caption = (
        "The norm of all hidden layers' biases, the training loss, and the norm of the hidden "
        "layers' weights: median over seeds, band from least to greatest. Outside and inside: "
        "whether the gradient step takes the normalization to be fixed. A steady drift is a line "
        "that rises tenfold where the steps do."
    )
    drifted = total(biases).isel(step=slice(1, None))  # 0 at step 0
    weights = total(norms_of(evidence, WHOLE, "weight"))
    return Figure(
        "training",
        caption,
        (
            Curves("biases", "step", "norm", drawn(drifted), log_x=True, log_y=True),
            Curves("training loss", "step", "cross-entropy", drawn(losses), log_y=True),
            Curves("weights", "step", "norm", drawn(weights)),
        ),
    )


def _halves(evidence: Evidence, biases: Array, losses: Array) -> Table:
    half = half_way(biases)
    columns = {
        "bias, half-way": half,
        "bias, end": biases.isel(step=-1),
        "loss, half-way": losses.sel(step=half.step, method="backfill"),
        "loss, end": WHOLE.final(evidence, LOSS, diverged=np.inf),
    }
    return table(
        f"Half-way (step {half.step.item():,}) and at the end: medians over seeds. The loss is the "
        "mean of the steps since the line before.",
        ("norm", "layer"),
        {name: values.median("seed") for name, values in columns.items()},
        {**CALLED, **{layer: f"{i + 1}" for i, layer in enumerate(LAYERS)}},
        {"norm": "normalized", "layer": "hidden layer"},
    )


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
    criteria={
        "growth": Criterion(
            "log₂ of the norm of the bias at the last step ÷ half-way, centring outside the "
            "gradient step, the least of the three hidden layers",
            Margin(EXPONENT, "doublings"),
            "Growing at least as the fourth root of the steps, a quarter. A steady drift has 1, a "
            "random walk 0.5, a bias that settles 0. It need not be 1: the drift is as large as "
            "the gradient, and that falls as the other parameters learn.",
        ),
        "growth, scaling": Criterion(
            "the same with centring and scaling outside the gradient step",
            Margin(EXPONENT, "doublings"),
            "The same; a run whose loss is not finite has grown without end.",
        ),
        "against BN": Criterion(
            "norm of the bias at the last step, centring outside the gradient step ÷ batch "
            "normalization, the least of the three hidden layers",
            Margin(APART, "decades"),
            "A factor of 100. With batch normalization the gradient of b is 0 but for rounding, "
            "10⁻⁷ of its terms in float32; the hundredth leaves room for its adding up.",
        ),
        "worse with scaling": Criterion(
            "norm of all hidden biases at the last step, centring and scaling ÷ centring alone, "
            "outside the gradient step",
            Margin(WORSE, "doublings"),
            "Twice as large. The gradient of b is divided by the deviation, which with these "
            "initial weights is below 1 in all layers; the paper says 'worse', without a number.",
        ),
    },
    scales=plans(_arms, SEEDS, LENGTH),
    measure=measure,
    later={
        "Desjardins et al. 2015": "It can be done outside the gradient step where the parameters "
        "are corrected so that the network computes the same before and after: layers whitened "
        "now and then by a change of coordinates train well.",
        "Ioffe 2017": "Repeated for moving averages: normalizing by them in training lets "
        "parameters grow without bound and without improving the loss. Batch Renormalization "
        "keeps the batch's own statistics inside the gradient and only their correction outside.",
    },
)
