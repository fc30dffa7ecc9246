"""§2: normalized outside the gradient step, a bias grows without end, and the model blows up."""

import numpy as np

from bnrepro.evidence import controls
from bnrepro.evidence.arms import BATCH, SEEDS, SMOKE
from bnrepro.evidence.claim import Check, Claim, Criterion, Expected, Finding, Group, Margin, plans
from bnrepro.evidence.grid import Array, Grid, curves, doublings, grid, stack, table, whatever
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
    "smoke": (),
    "short": ("train.steps=800", "probe.every=200"),
    "paper": ("train.steps=4000", "probe.every=250"),
}
"""For several settings, after the others."""

FEWER = "fewer steps"
SETTINGS: dict[str, tuple[str, ...]] = {
    FEWER: (),
    "learning rate 1": ("optimizer.lr=1.0",),
    "ReLU": ("model.activation=relu",),
}
"""The network of Fig. 1 for fewer steps, as it is and otherwise."""

LOSS = "train_loss"
GUESSING = np.log(10)
"""The loss of a network that takes all ten classes for equally likely."""

LAYERS = ("linear1", "linear2", "linear3")

WHOLE = grid(norm=NORMS)


def in_settings(scale: str) -> Grid:
    """All three networks in every setting, for fewer steps; at smoke nothing is changed."""
    settings = SETTINGS if scale != "smoke" else {FEWER: ()}
    words = {name: (*SHORTER[scale], *own) for name, own in settings.items()}
    return grid(norm=NORMS, choice=words)


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    return WHOLE.arms() | in_settings(scale).arms()


def bias_norms(evidence: Evidence, of: Grid) -> Array:
    """The norms of the hidden layers' biases, with axes `step` and `layer`.

    Those of a run that diverged are infinite from there on.
    """

    def norms(layer: str) -> Array:
        name = f"{layer}/bias_norm"
        return of.over_training(evidence, lambda arm: evidence.probed(arm, name), np.inf)

    return stack({layer: norms(layer) for layer in LAYERS}, "layer").fillna(np.inf)


def total(norms: Array) -> Array:
    """The norm of all layers' together."""
    return (norms**2).sum("layer") ** 0.5


def drift(biases: Array, diverged: Array) -> dict[str, Array]:
    """The effects that tell of the biases, from the norms of all three networks'.

    Growth is log₂ of the norm at the end ÷ half-way, the least of the hidden layers: p where it
    grows as the p-th power of the steps. A run that diverged has grown.
    """
    last, half = biases.isel(step=-1), biases.sel(step=biases.step[-1] / 2, method="backfill")
    growth = doublings(last, half).min("layer").where(~diverged, np.inf)
    scaled, centred = (total(last.sel(norm=norm)) for norm in (SCALED, CENTRED))
    return {
        "growth": growth.sel(norm=CENTRED),
        "worse with scaling": whatever(doublings(scaled, centred)),
    }


def measure(evidence: Evidence) -> Finding:
    """What blows up, in every setting; how far the biases drift, in Fig. 1's and the others."""
    of = in_settings(evidence.scale)
    biases, others = bias_norms(evidence, WHOLE), bias_norms(evidence, of)
    losses = of.final(evidence, LOSS, diverged=np.inf)
    blown = (losses > GUESSING).astype(float)
    more = blown.sel(norm=CENTRED) - blown.sel(norm=BATCH)
    by_setting = {
        str(name): {"blows up": more.sel(choice=name)}
        | drift(others.sel(choice=name), of.diverged(evidence).sel(choice=name))
        for name in of.axes["choice"]
    }
    over_training = WHOLE.over_training(
        evidence, lambda arm: [run.curve(LOSS) for run in evidence.runs[arm]], np.inf
    )
    return Finding(
        {"blows up": more.mean("choice")} | drift(biases, WHOLE.diverged(evidence)),
        exhibits=(
            curves(
                "training", "The norm of all hidden layers' biases and the training loss, the "
                "normalization inside the gradient step or outside, taken to be fixed",
                {"biases": total(biases).isel(step=slice(1, None)), "loss": over_training},
                "step", ("norm", "cross-entropy"), names=CALLED, log_x=True, log_y=True,
                more=" A steady drift is a line that rises tenfold where the steps do.",
            ),
            table(
                "How each setting ended, after fewer steps: means over seeds. Blown up is a "
                f"training loss that is not finite or above that of guessing, {GUESSING:.2f}.",
                ("choice", "norm"),
                {
                    "norm of all biases": total(others).isel(step=-1), "training loss": losses,
                    "test accuracy": of.final(evidence), "share that blew up": blown,
                },
                CALLED, {"choice": "setting", "norm": "normalized"},
            ),
        ),
        unspecified=Check("The learning rate and the nonlinearity, after fewer steps.", by_setting),
        controls={"training with BN": of.final(evidence).sel(norm=BATCH)},
    )  # fmt: skip


CLAIM = Claim(
    statement="If a gradient step ignores that the normalization depends on the parameters, a bias "
    "before it grows indefinitely and the model blows up, which with batch normalization it does "
    "not.",
    section="§2",
    paper_says="x̂ = x - E[x] with x = u + b: a step that takes E[x] to be fixed moves b by Δb ∝ "
    "-∂ℓ/∂x̂, and the output does not change, for u + (b + Δb) - E[u + (b + Δb)] = u + b - E[u + "
    "b]. “As the training continues, b will grow indefinitely while the loss remains fixed. This "
    "problem can get worse if the normalization not only centers but also scales the activations. "
    "We have observed this empirically in initial experiments, where the model blows up when the "
    "normalization parameters are computed outside the gradient descent step.”",
    unspecified="The initial experiments: their networks, data and learning rates, and what it is "
    "to blow up. Here: the network of Fig. 1 with the mean, or mean and deviation, of each batch "
    "taken for constants by the gradient, no γ and β, and with batch normalization and the bias it "
    "does not need. Biases are watched for 20,000 steps (4,000 at the scale short). Blown up is a "
    "training loss that is not finite or ends above that of guessing, after a fifth of these steps "
    "in three settings: as in Fig. 1, at a learning rate of 1, and with ReLU. The loss of a whole "
    "network does not stay fixed, since the other parameters learn; what b adds to it is nothing.",
    criteria={
        "blows up": Criterion(
            "share of the three settings in which the network blows up, centring outside the "
            "gradient step − batch normalization",
            Margin(0.0, "share"),
            "The paper saw its model blow up and gives no number: in one setting at least.",
            indifference=0.1,
        ),
        "growth": Criterion(
            "log₂ of the norm of the bias at the last step ÷ half-way, centring outside the "
            "gradient step, the least of the three hidden layers",
            Margin(0.25, "doublings"),
            "Growing at least as the fourth root of the steps, a quarter. A steady drift has 1, a "
            "random walk 0.5, a bias that settles 0. It need not be 1: the drift is as large as "
            "the gradient, and that falls as the other parameters learn.",
        ),
        "worse with scaling": Criterion(
            "norm of all hidden biases at the last step, centring and scaling ÷ centring alone, "
            "outside the gradient step",
            Margin(0.0, "doublings"),
            "The paper says that it can get worse: larger at all, in this setting; others are "
            "checked below. The gradient of b is divided by the deviation, which with these "
            "initial weights is below 1 in all layers.",
            indifference=0.1,  # 7 %
        ),
    },
    scales=plans(_arms, SEEDS, LENGTH),
    measure=measure,
    controls={"training with BN": controls.trains("the network with BN in each setting")},
    group=Group.ARGUMENT,
    expected=Expected("REPRODUCED"),
    why="At small learning rates biases may drift, and the network learn slowly, without blowing "
    "up; and scaling bounds what a layer puts out, so that it may prevent what centring leads to.",
    to_settle="More learning rates: the paper does not tell its networks or rates.",
    later={
        "Desjardins et al. 2015": "It can be done outside the gradient step where the parameters "
        "are corrected so that the network computes the same before and after: layers whitened "
        "now and then by a change of coordinates train well.",
        "Ioffe 2017": "Repeated for moving averages: normalizing by them in training lets "
        "parameters grow without bound and without improving the loss. Batch Renormalization "
        "keeps the batch's own statistics inside the gradient and only their correction outside.",
    },
)
