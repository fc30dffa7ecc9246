"""Whether batch normalization makes the loss smoother along the gradient, at relative steps."""

import numpy as np
import xarray as xr

from bnrepro.evidence.arms import SEEDS
from bnrepro.evidence.claim import Check, Claim, Criterion, Expected, Finding, Margin, plans
from bnrepro.evidence.grid import Array, Grid, best, curves, doublings, stack, table, whatever
from bnrepro.evidence.later_arms import FIRST_OF_LATER
from bnrepro.evidence.runs import Evidence
from bnrepro.evidence.smooth_arms import (
    CONTROLS,
    LOSS,
    LR,
    NETWORKS,
    RECTIFIED,
    SIGMOIDS,
    TENTH,
    WORDS,
    arms,
    at_equal_loss,
    cells,
    controlled,
    watched,
)  # fmt: skip
from bnrepro.evidence.tuning import both_tuned, throughout

STEPS = (0.003, 0.01, 0.03, 0.1, 0.3)
"""Lengths of the steps, as shares of the weights' own: those of `training.landscape`."""


def landscapes(evidence: Evidence, of: Grid) -> xr.Dataset:
    """`gradient`, `range` and `curvature` over training, and the `loss` of the same images.

    How much the gradient changes at each of `STEPS`, with axis `at`; how far the loss ranges over
    them; the largest curvature in size.
    """
    names = ["gradient_change", "loss_change", "curvature"]
    found = watched(evidence, of, [LOSS, *(f"landscape/{name}" for name in names)])
    gradient, loss, curvature = (found[f"landscape/{name}"] for name in names)
    ranging = loss.max("at").clip(min=0.0) - loss.min("at").clip(max=0.0)
    return xr.Dataset(
        {
            "gradient": gradient.assign_coords(at=list(STEPS)),
            "range": ranging.where(loss.notnull().all("at")),
            "curvature": abs(curvature),
            "loss": found[LOSS],
        }
    )


def effects(runs: xr.Dataset) -> dict[str, Array]:
    """All effects of one network's runs (norm, seed, step)."""

    def smoother(what: str, *over: str) -> Array:
        """Doublings from with to without BN, the mean; any number where there is none."""
        found = at_equal_loss(runs[what], runs.loss)
        ratio = doublings(found.sel(norm="none", drop=True), found.sel(norm="batch", drop=True))
        return whatever(ratio.where(np.isfinite(ratio)).mean(("loss", *over)))

    return {
        "gradient": smoother("gradient", "at"),
        "loss": smoother("range"),
        "curvature": smoother("curvature"),
    }


def measure(evidence: Evidence) -> Finding:
    """Both arms at one learning rate; each at its own best; at others."""
    of = {network: cells(evidence.scale, network) for network in NETWORKS}
    runs = {network: each.runs(evidence) for network, each in of.items()}
    watching = {network: landscapes(evidence, each) for network, each in of.items()}
    same = {network: each.sel(lr=LR[network]) for network, each in watching.items()}
    equal = {
        name: {
            network: at_equal_loss(each[name], each.loss).mean("loss")
            for network, each in same.items()
        }
        for name in ("gradient", "range", "curvature")
    }
    sigmoids = watching[SIGMOIDS]
    lrs = {network: best(each.validation) for network, each in runs.items()}
    return Finding(
        {**effects(same[SIGMOIDS]), RECTIFIED: effects(same[RECTIFIED])["gradient"]},
        exhibits=(
            curves(
                "gradient", "How much the gradient changes as every weight matrix moves against "
                "its own by a share of its length (at), the mean over six losses, both arms at one "
                "learning rate",
                equal["gradient"], "at", "‖G(s) − G‖ ÷ ‖G‖", log_x=True, log_y=True,
            ),
            curves(
                "curvature", "The largest curvature by shares of the weights' lengths, in size, "
                "over training",
                {network: each.curvature for network, each in same.items()}, "step", "curvature",
                log_y=True,
            ),
            table(
                "Both arms at one learning rate, means over seeds and six losses.",
                ("network", "norm"),
                {
                    "change of the gradient": stack(
                        {n: each.mean("at") for n, each in equal["gradient"].items()}, "network"
                    ),
                    "range of the loss": stack(equal["range"], "network"),
                    "curvature": stack(equal["curvature"], "network"),
                },
            ),
        ),
        tuned=both_tuned(runs[SIGMOIDS], lambda lr: effects(sigmoids.sel(lr=lr))),
        unspecified=Check(
            "The learning rate, the length of the step, and the deeper network with each arm at "
            "its best rate.",
            throughout(sigmoids, effects)
            | {
                f"steps of {step:g} of the weights": {
                    "gradient": effects(same[SIGMOIDS].sel(at=[step]))["gradient"]
                }
                for step in STEPS
            }
            | {
                f"{RECTIFIED}, each at its best rate": {
                    RECTIFIED: effects(watching[RECTIFIED].sel(lr=lrs[RECTIFIED]))["gradient"]
                }
            },
        ),
        controls=controlled(runs, same),
    )  # fmt: skip


CLAIM = Claim(
    statement="With batch normalization the gradient changes less along a step of the same "
    "relative length: the loss is smoother.",
    section="Santurkar et al. 2018, §3",
    paper_says="Of smoothness nothing; it is what Santurkar et al. 2018 put in the place of the "
    "paper's own explanation: along the gradient, at steps of ½ to 4 learning rates, loss and "
    "gradient range less with batch normalization, and the gradient's change over the distance is "
    "smaller.",
    unspecified="The measure of a step. With batch normalization weights of twice the length have "
    "half the gradient and a quarter of the curvature, and the network is the same: by absolute "
    "steps it is as smooth as its weights are long. Here every weight matrix W moves by a share of "
    "‖W‖, from .003 to .3, against its own gradient, and gradients and curvature are by such "
    "shares, so that lengths cancel; γ, β and biases stay. Networks are compared at the same loss "
    "of the same 500 training images; both arms have one learning rate, 1 for the network of Fig. "
    "1 and 0.1 for eight layers of rectified units, for 2,000 steps (600 at the scale short), "
    "probed every 50. In a pilot (seed 100) of 600 steps the gradient changed less than half as "
    "much with batch normalization.",
    criteria={
        "gradient": Criterion(
            "‖G(s) − G‖ ÷ ‖G‖, without BN ÷ with BN, mean over five lengths s and six losses",
            Margin(0.0, "doublings"),
            "“More predictive gradients”: less change at all; a tenth is none.",
            indifference=TENTH,
        ),
        "loss": Criterion(
            "range of the loss over the same steps, without BN ÷ with BN, mean over six losses",
            Margin(0.0, "doublings"),
            "Their first measure: less range at all; a tenth is none.",
            indifference=TENTH,
        ),
        "curvature": Criterion(
            "the largest curvature by shares of the weights' lengths, in size, without BN ÷ with "
            "BN, mean over six losses",
            Margin(0.0, "doublings"),
            "What smoothness is at steps of no length: smaller at all; a tenth is none.",
            indifference=TENTH,
        ),
        RECTIFIED: Criterion(
            "the primary criterion's, of eight layers of rectified units",
            Margin(0.0, "doublings"),
            "Theirs are deeper than three layers, and rectified.",
            indifference=TENTH,
        ),
    },
    scales=plans(arms, SEEDS, WORDS),
    measure=measure,
    controls=CONTROLS,
    expected=Expected("REPRODUCED", 1.2),
    first_seed=FIRST_OF_LATER,
    why="By relative steps the first layers of a deep network with batch normalization are the "
    "steepest: gradients explode towards them.",
    to_settle="Networks as deep as theirs, and steps along the gradient of all weights as one.",
    later={
        "Santurkar et al. 2018": "The claim's own source, by absolute steps.",
        "van Laarhoven 2017": "The length of weights before a normalization changes the effective "
        "learning rate and nothing else.",
        "Yang et al. 2019": "At the start gradients explode with depth under batch normalization: "
        "the loss is then steeper, not smoother.",
    },
)
