"""With batch normalization the scale of the initial weights matters less."""

import numpy as np

from bnrepro.evidence import controls
from bnrepro.evidence.arms import NORMS, SEEDS, SMOKE, per_scale, spaced
from bnrepro.evidence.claim import Check, Claim, Criterion, Expected, Finding, Group, Margin, plans
from bnrepro.evidence.deep_arms import hidden
from bnrepro.evidence.grid import Array, Grid, curves, grid, stack
from bnrepro.evidence.runs import CHANCE, VALIDATION, Evidence
from bnrepro.evidence.tuning import both_tuned

NEAR = 0.02
"""How far below an arm's own best validation accuracy a deviation from which it trains may be."""

RECTIFIED, SIGMOIDS = "eight ReLU layers", "three sigmoid layers"
NETWORKS = {RECTIFIED: ("model.activation=relu", hidden(8)), SIGMOIDS: ()}

LR = {RECTIFIED: {"none": 0.1, "batch": 0.3}, SIGMOIDS: {"none": 1.0, "batch": 1.0}}
"""Each arm's registered learning rate."""

LRS = per_scale((0.1, 0.3), (0.03, 0.1, 0.3, 1.0))
"""Those that the rectified network is tuned over, from deviations half a decade apart."""

TUNED_STDS = per_scale((0.01, 0.1, 1.0), spaced(2, 0.01, 1), spaced(2, 0.01, 1))


STDS = {
    RECTIFIED: per_scale((0.01, 0.1, 1.0), spaced(2, 0.01, 1), spaced(4, 0.001, 10)),
    SIGMOIDS: per_scale((0.01, 0.1, 1.0), spaced(2, 0.01, 10), spaced(2, 0.001, 10)),
}

WORDS = {
    "smoke": ("experiment=fig1", *SMOKE),
    "short": ("experiment=fig1", "train.steps=1000", "train.eval_every=500", "probe.every=0"),
    "paper": (
        "experiment=fig1", "train.steps=2000", "train.eval_every=2000", "train.compile=true",
        "probe.every=0", "tensorboard=false",
    ),
}  # fmt: skip


def cells(scale: str, network: str = RECTIFIED) -> Grid:
    """Both arms of a network from every initial deviation, each at its registered rate."""
    norms = {norm: (f"norm={norm}", f"optimizer.lr={LR[network][norm]}") for norm in NORMS}
    return grid(network, norm=norms, std=STDS[network][scale])


def at_lrs(scale: str) -> Grid:
    """The rectified network from a few deviations, at every learning rate."""
    return grid("at each rate", norm=NORMS, std=TUNED_STDS[scale], lr=LRS[scale])


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    arms = at_lrs(scale).arms(*NETWORKS[RECTIFIED])
    for network, words in NETWORKS.items():
        arms |= cells(scale, network).arms(*words)
    return arms


def widths(validation: Array, near: float = NEAR) -> Array:
    """Decades of deviations from which each arm trains: (norm, seed, bound).

    Every deviation counts for the distance to the next. They may be more where the least or the
    greatest deviation is one of them.
    """
    trains = validation >= validation.max("std") - near
    decades = np.log10(validation["std"][-1] / validation["std"][0]) / (trains.sizes["std"] - 1)
    width = trains.sum("std") * decades
    within = ~(trains.isel(std=0) | trains.isel(std=-1))
    return stack({"least": width, "greatest": width.where(within, np.inf)}, "bound")


def wider(validation: Array, near: float = NEAR) -> Array:
    """Decades more with BN: (seed, bound), from accuracies (norm, std, seed)."""
    width = widths(validation, near)

    def more(batch: str, none: str) -> Array:
        of_batch = width.sel(norm="batch", bound=batch, drop=True)
        return of_batch - width.sel(norm="none", bound=none, drop=True)

    return stack(
        {"least": more("least", "greatest"), "greatest": more("greatest", "least")}, "bound"
    )


def measure(evidence: Evidence) -> Finding:
    """Each arm at its registered rate; at its best rate from every deviation."""
    runs, at_lr = (of(evidence.scale).runs(evidence) for of in (cells, at_lrs))
    others = cells(evidence.scale, SIGMOIDS)
    none = at_lr.validation.sel(norm="none", drop=True)
    std = none.mean("seed").max("lr").idxmax("std").item()
    fails = (runs.validation < runs.validation.max("std") - NEAR).sel(norm="none").sum("std")
    return Finding(
        {RECTIFIED: wider(runs.validation), SIGMOIDS: wider(others.final(evidence, VALIDATION))},
        exhibits=(
            curves(
                "deviations", "Accuracy over the scale of the initial weights",
                {RECTIFIED: runs.test, SIGMOIDS: others.final(evidence)},
                "std", "test accuracy at the last step",
                more=" Each arm at its registered rate. Dotted: guessing.",
                limits=(0.0, 1.0), levels=(CHANCE,),
            ),
        ),
        tuned=both_tuned(
            at_lr, lambda lr: {RECTIFIED: wider(at_lr.validation.sel(lr=lr))}
        ),
        unspecified=Check(
            "Another meaning of training; and one rate for both arms, from fewer deviations.",
            {
                f"it trains within {near} of its best": {RECTIFIED: wider(runs.validation, near)}
                for near in (0.01, 0.05, 0.5)
            } | {
                f"learning rate {lr:g}": {RECTIFIED: wider(at_lr.validation.sel(lr=lr))}
                for lr in LRS[evidence.scale]
            },
        ),
        controls={
            "training": runs.test.sel(std=runs.validation.idxmax("std")),
            "rate": none.sel(std=std), "failing": fails,
        },
    )  # fmt: skip


_DECADES = (
    "the width of the range of initial standard deviations from which the network trains, each arm "
    f"at its registered rate, with BN − without BN, of the same seed: its last validation accuracy "
    f"is within {NEAR} of the best that the arm comes to from any deviation"
)
_HALF = (
    "Half a decade, a factor of 3: two of the deviations of the one network, and one of the "
    "other's, are not to decide."
)

CLAIM = Claim(
    statement="With batch normalization one can be less careful about initialization: networks "
    "train from initial weights of scales from which they do not train without it.",
    section="Abstract, §3.3",
    paper_says="That it allows to be less careful about initialization (abstract), for "
    "BN(Wu) = BN((aW)u): what a normalized layer computes does not depend on the scale of its "
    "weights, and larger weights get smaller gradients, which steadies their growth (§3.3).",
    unspecified="The whole experiment. Here eight layers of 100 rectified units, and the three "
    "layers of sigmoids of Fig. 1, from Gaussian weights of standard deviation 0.001 to 10, for "
    "2,000 steps. The rectified arms have the rates at which they were best in the pilot (seed "
    "100; without BN only deviations of about 0.1 trained, and those from 0.3 on diverged), those "
    "of sigmoids 1, which was best for both of them after 10,000 steps (seeds below 10).",
    criteria={
        RECTIFIED: Criterion(f"{RECTIFIED}: {_DECADES}", Margin(0.5, "decades"), _HALF),
        SIGMOIDS: Criterion(f"{SIGMOIDS}: {_DECADES}", Margin(0.5, "decades"), _HALF),
    },
    scales=plans(_arms, SEEDS, WORDS),
    measure=measure,
    controls={
        "training": controls.trains("each arm, from its best weights,"),
        "rate": controls.interior("the network without BN from its best weights"),
        "failing": controls.exists("the number of deviations that fail without BN", 1),
    },
    group=Group.ARGUMENT,
    expected=Expected("REPRODUCED", 1.5),
    why="From very large weights a normalized network turns slowly, so that it does not train in "
    "so few steps either.",
    to_settle="More steps, and for each scale of the weights a rate of its own.",
    later={
        "Zhang et al. 2019": "With an initialization made for them (Fixup), residual networks of "
        "up to 10,000 layers train as stably without any normalization: care about initialization "
        "can stand in for it.",
        "Arora et al. 2018": "The scale of a normalized layer's weights is a learning rate in "
        "disguise, rate ÷ ‖w‖²: from very large weights it is too low for as long as they stay so.",
    },
)
