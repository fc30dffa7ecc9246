"""§3.3: at high learning rates batch normalization stabilizes the growth of the parameters.

The verdict rests on the runs that diverged, six of ten of the rectified network without batch
normalization at five times its best rate: the others grow by as much as those with it. Of sigmoids
nothing diverges. There weights grow less with batch normalization up to a rate of 2.5, and more at
12.5, at which the network without it has stopped to learn.
"""

import numpy as np

from bnrepro.evidence import controls
from bnrepro.evidence.arms import BATCH, NONE, NORMS, SEEDS, SMOKE, per_scale
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Group, Margin, plans
from bnrepro.evidence.deep_arms import hidden
from bnrepro.evidence.grid import Array, Grid, best, curves, doublings, grid, stack, table, whatever
from bnrepro.evidence.runs import Evidence

SIGMOID, RELU = "sigmoid", "ReLU"
NETWORKS = {
    RELU: (
        hidden(8), "model.activation=relu", "init=he", "init.scale=1.0",
    ),
    SIGMOID: (),
}  # fmt: skip
"""Eight layers of rectified units with He's weights, and Fig. 1's three of sigmoids."""

DEPTHS = {RELU: 8, SIGMOID: 3}

TIMES = 5.0
LRS = per_scale((0.1, 0.5), (0.02, 0.1, 0.5, 2.5, 12.5))
"""Learning rates, each `TIMES` the one before, as the paper's is of Inception's own."""

RUN = {
    "smoke": ("experiment=fig1", *SMOKE, "probe.every=100"),
    "short": (
        "experiment=fig1", "train.steps=1000", "train.eval_every=1000", "probe.every=500",
        "probe.size=100",
    ),
    "paper": (
        "experiment=fig1", "train.steps=5000", "train.eval_every=5000", "probe.every=2500",
        "probe.size=100", "train.compile=true",
    ),
}  # fmt: skip
"""Probes at the beginning, half-way, and at the end."""


def cells(scale: str) -> Grid:
    """Both arms of both networks at every learning rate."""
    return grid(network=NETWORKS, norm=NORMS, lr=LRS[scale])


def lengths(evidence: Evidence, of: Grid) -> Array:
    """The norm of all hidden weights together at every probe; infinite once a run diverged."""

    def squares(network: str, layer: int) -> Array:
        name = f"linear{layer}/weight_norm"
        only = of.select(network=[network])
        found = only.over_training(evidence, lambda arm: evidence.probed(arm, name))
        return found.sel(network=network, drop=True) ** 2

    def total(network: str) -> Array:
        layers = {layer: squares(network, layer) for layer in range(1, DEPTHS[network] + 1)}
        return stack(layers, "layer").sum("layer", skipna=False) ** 0.5

    return stack({network: total(network) for network in NETWORKS}, "network").fillna(np.inf)


def growth(norms: Array, *, since: int = 0) -> Array:
    """Doublings by which weights grow more without BN than with it, from probe `since` on."""
    grown = doublings(norms.isel(step=-1), norms.isel(step=since)).where(
        np.isfinite(norms.isel(step=-1)), np.inf
    )
    return whatever(grown.sel(norm=NONE) - grown.sel(norm=BATCH))


def effects(norms: Array) -> dict[str, Array]:
    """All criteria's effects, from norms (network, norm, step, seed)."""
    of = {network: norms.sel(network=network, drop=True) for network in NETWORKS}
    return {
        "growth": growth(of[RELU]),
        "growth in the second half": growth(of[RELU], since=1),
        "growth with sigmoids": growth(of[SIGMOID]),
    }


def measure(evidence: Evidence) -> Finding:
    """Both arms at five times the learning rate at which the network without BN is best."""
    of = cells(evidence.scale)
    runs, norms = of.runs(evidence), lengths(evidence, of)
    own = best(runs.validation.sel(norm=NONE, drop=True).isel(lr=slice(-1)))
    high = own * TIMES
    middle = norms.sizes["step"] // 2
    norms = norms.isel(step=[0, middle, -1])
    at_high = norms.sel(lr=high)
    grown = norms.isel(step=-1) / norms.isel(step=0)
    without = grown.sel(norm=NONE)
    choices = {f"learning rate {lr:g}": effects(norms.sel(lr=lr)) for lr in LRS[evidence.scale]}
    choices["the rate that is best without BN"] = effects(norms.sel(lr=own))
    return Finding(
        effects(at_high),
        exhibits=(
            curves(
                "growth", "How many times as long the hidden weights are after training as before",
                {f"{network} network": grown.sel(network=network) for network in NETWORKS},
                "lr", "‖W‖ after ÷ before", log_y=True,
                more=" Where a run diverged there is a gap.",
            ),
            table(
                "Means over seeds: the hidden weights' norm after ÷ before training (∞: diverged), "
                "the share of runs that diverged, and the last test accuracy.",
                ("network", "lr", "norm"),
                {
                    "growth": grown, "diverged": runs.diverged.astype(float),
                    "test accuracy": runs.test,
                },
            ),
        ),
        unspecified=Check("The learning rate.", choices),
        controls={
            "training without BN": runs.test.sel(norm=NONE).sel(lr=own),
            "training with BN": runs.test.sel(norm=BATCH).sel(lr=high),
            "best rates": runs.validation.sel(norm=NONE),
            "growth without BN": doublings(without.sel(lr=high), without.sel(lr=own)).sel(
                network=RELU
            ),
        },
    )  # fmt: skip


_EVEN = 0.14  # 10 %

CLAIM = Claim(
    statement="At high learning rates the parameters of a network grow less with batch "
    "normalization than without it.",
    section="§3.3",
    paper_says="“Normally, large learning rates may increase the scale of layer parameters, which "
    "then amplify the gradient during backpropagation and lead to the model explosion. However, "
    "with Batch Normalization, backpropagation through a layer is unaffected by the scale of its "
    "parameters. […] Moreover, larger weights lead to smaller gradients, and Batch Normalization "
    "will stabilize the parameter growth.” No experiment; on ImageNet five times its own learning "
    "rate takes Inception's parameters to machine infinity.",
    unspecified="Which networks, and how high a rate. Here eight layers of 100 rectified units "
    "with He's initial weights, 5,000 steps (1,000 at the scale short) of plain SGD without weight "
    "decay; the rate is five times the one at which the network without BN is best on validation "
    "images. That it need not hold: with BN a step of plain SGD never shortens a layer's weights, "
    "for the gradient stands at a right angle to them (the claim scale-invariance).",
    criteria={
        "growth": Criterion(
            "doublings of the norm of all hidden weights over training, without BN − with BN, at "
            "five times the learning rate that is best without BN; a run that diverged has grown "
            "without end",
            Margin(0.0, "doublings"),
            "Less growth at all; a tenth is none.",
            indifference=_EVEN,
        ),
        "growth in the second half": Criterion(
            "the same over the second half of training",
            Margin(0.0, "doublings"),
            "“Stabilize”: what grows at first may settle.",
            indifference=_EVEN,
        ),
        "growth with sigmoids": Criterion(
            "the same over all of training for the network of Fig. 1, three layers of sigmoids",
            Margin(0.0, "doublings"),
            "Bounded units keep gradients from being amplified, so that there may be less to "
            "stabilize.",
            indifference=_EVEN,
        ),
    },
    scales=plans(lambda scale: cells(scale).arms(), SEEDS, RUN),
    measure=measure,
    controls={
        "training without BN": controls.trains("each network without BN at its best rate"),
        "training with BN": controls.trains("each network with BN at five times that rate"),
        "best rates": controls.interior("each network without BN"),
        "growth without BN": controls.exists(
            "what five times the rate adds to the growth without BN, in doublings,", _EVEN
        ),
    },
    group=Group.ARGUMENT,
    why="With BN the weights never shrink, and each step's share of the growth is as large as its "
    "gradient, which is larger while the weights are small.",
    to_settle="Rates and depths between those at which the network without BN is best and those at "
    "which it diverges.",
    later={
        "Arora et al. 2018": "A normalized layer's gradient shrinks as its weights grow, so that "
        "gradient descent converges at any fixed learning rate: the growth is what stabilizes.",
        "van Laarhoven 2017": "Without weight decay the weights of normalized layers grow, and "
        "their effective learning rate falls.",
    },
)
