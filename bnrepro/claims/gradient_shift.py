"""Whether batch normalization makes each layer's gradient depend less on the layers before it.

Santurkar et al. find the shift of gradients as large with batch normalization as without, or
larger, in a VGG network and in a deep linear one. Here it is less than half as large at the same
loss, in three layers of sigmoids and in eight of rectified units, and the directions agree better;
at the same step it is two thirds in the sigmoids. ‖G − G′‖ itself, their first measure, is smaller
as well, perhaps by little. So in small networks batch normalization does reduce internal covariate
shift by the definition of its critics.
"""

import numpy as np
import xarray as xr

from bnrepro.evidence.arms import SEEDS
from bnrepro.evidence.claim import Check, Claim, Criterion, Expected, Finding, Margin, plans
from bnrepro.evidence.grid import Array, Grid, best, curves, stack, table, whatever
from bnrepro.evidence.later_arms import FIRST_OF_LATER
from bnrepro.evidence.runs import Evidence
from bnrepro.evidence.smooth_arms import (
    CONTROLS,
    LAYERS,
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


def shifts(evidence: Evidence, network: str, of: Grid) -> xr.Dataset:
    """`shift` and `distance` in doublings, and `cosine`, of every layer behind the first; `loss`.

    Of a run that diverged there are those before it did.
    """
    layers = [*(f"linear{n}" for n in range(2, LAYERS[network] + 1)), "output"]
    kinds = ("shift", "distance", "cosine")
    names = [f"{layer}/gradient_{what}" for layer in layers for what in kinds]
    found = watched(evidence, of, [LOSS, *names])
    shift, distance, cosine = (
        stack({layer: found[f"{layer}/gradient_{what}"] for layer in layers}, "layer")
        for what in kinds
    )
    with np.errstate(divide="ignore"):
        doubled = {"shift": np.log2(shift), "distance": np.log2(distance)}
    return xr.Dataset({**doubled, "cosine": cosine, "loss": found[LOSS]})


def effects(runs: xr.Dataset) -> dict[str, Array]:
    """All effects of one network's runs (norm, seed, layer, step)."""
    shift, distance, cosine = (
        at_equal_loss(runs[what], runs.loss) for what in ("shift", "distance", "cosine")
    )
    at_step = runs["shift"].isel(step=slice(1, None))

    def more(values: Array, *over: str) -> Array:
        """With batch normalization less without, the mean; any number where there is none."""
        gain = values.sel(norm="batch", drop=True) - values.sel(norm="none", drop=True)
        return whatever(gain.where(np.isfinite(gain)).mean(over))

    return {
        "shift": more(shift, "layer", "loss"),
        "angle": more(-cosine, "layer", "loss"),
        "distance": more(distance, "layer", "loss"),
        "equal step": more(at_step, "layer", "step"),
    }


def measure(evidence: Evidence) -> Finding:
    """Both arms at one learning rate; each at its own best; at others."""
    of = {network: cells(evidence.scale, network) for network in NETWORKS}
    runs = {network: each.runs(evidence) for network, each in of.items()}
    watching = {network: shifts(evidence, network, each) for network, each in of.items()}
    same = {network: each.sel(lr=LR[network]) for network, each in watching.items()}
    equal = {
        network: 2 ** at_equal_loss(each["shift"], each.loss).mean("layer")
        for network, each in same.items()
    }
    sigmoids = watching[SIGMOIDS]
    lrs = {network: best(each.validation) for network, each in runs.items()}
    return Finding(
        {**effects(same[SIGMOIDS]), RECTIFIED: effects(same[RECTIFIED])["shift"]},
        exhibits=(
            curves(
                "shift", "How far a step of the layers before moves a layer's gradient, relative "
                "to that gradient, both arms at one learning rate; the geometric mean over layers",
                equal, "loss", "‖G − G′‖ ÷ ‖G‖", log_x=True, log_y=True,
            ),
            curves(
                "training", "The loss of the probed images, both arms at one learning rate",
                {network: each.loss for network, each in same.items()}, "step", "loss", log_y=True,
            ),
            table(
                "Both arms at one learning rate, means over seeds and losses.",
                ("network", "norm"),
                {
                    "shift": stack({n: each.mean("loss") for n, each in equal.items()}, "network"),
                    "cosine": stack(
                        {
                            network: at_equal_loss(each["cosine"], each.loss).mean(
                                ("layer", "loss")
                            )
                            for network, each in same.items()
                        },
                        "network",
                    ),
                    "last loss": stack(
                        {n: each.loss.isel(step=-1) for n, each in same.items()}, "network"
                    ),
                },
            ),
        ),
        tuned=both_tuned(runs[SIGMOIDS], lambda lr: effects(sigmoids.sel(lr=lr))),
        unspecified=Check(
            "The learning rate, and the deeper network with each arm at its best one.",
            throughout(sigmoids, effects)
            | {
                f"{RECTIFIED}, each at its best rate": {
                    RECTIFIED: effects(watching[RECTIFIED].sel(lr=lrs[RECTIFIED]))["shift"]
                }
            },
        ),
        controls=controlled(runs, same),
    )  # fmt: skip


_LAYERS = "mean over the layers behind the first and over six losses of the same images"

CLAIM = Claim(
    statement="With batch normalization a step of the layers before changes a layer's gradient no "
    "less than without: by this measure it does not reduce internal covariate shift.",
    section="§1, §2; Santurkar et al. 2018, §2.2",
    paper_says="“We refer to the change in the distributions of internal nodes of a deep network, "
    "in the course of training, as Internal Covariate Shift”, and batch normalization “takes a "
    "step towards reducing” it. Santurkar et al. 2018 look at what it should do to learning: how "
    "much the gradient of a layer changes when the layers before it are updated. In their networks "
    "it changes as much with batch normalization as without, or more.",
    unspecified="What is compared where. Their distance ‖G − G′‖ shrinks as weights grow, which "
    "batch normalization leaves free; so here it is relative to ‖G‖. Networks are compared at the "
    "same loss of the same 500 training images, for a network that has learned has other "
    "gradients; at the same step as well. G′ is the gradient of a layer's weights with all layers "
    "before it, their biases, γ and β too, moved by a plain step on these images. Both arms have "
    "one learning rate, 1 for the network of Fig. 1 and 0.1 for eight layers of rectified units, "
    "for 2,000 steps (600 at the scale short), probed every 50. In a pilot (seed 100) of 600 steps "
    "the shift was a third with batch normalization, at the same loss.",
    criteria={
        "shift": Criterion(
            f"‖G − G′‖ ÷ ‖G‖, with BN ÷ without BN, {_LAYERS}",
            Margin(-TENTH, "doublings"),
            "“Similar or more”: no less than nine tenths of it.",
        ),
        "angle": Criterion(
            f"cosine of G and G′, without BN − with BN, {_LAYERS}",
            Margin(-0.05, "cosine"),
            "The same of the direction: their second measure.",
        ),
        "distance": Criterion(
            f"‖G − G′‖, with BN ÷ without BN, {_LAYERS}",
            Margin(-TENTH, "doublings"),
            "Their first measure as it stands, which depends on the length of weights.",
        ),
        "equal step": Criterion(
            "the primary criterion's, mean over layers and the same steps",
            Margin(-TENTH, "doublings"),
            "As they show it, over the steps of training.",
        ),
        RECTIFIED: Criterion(
            "the primary criterion's, of eight layers of rectified units",
            Margin(-TENTH, "doublings"),
            "Theirs are deeper than three layers, and rectified.",
        ),
    },
    scales=plans(arms, SEEDS, WORDS),
    measure=measure,
    controls=CONTROLS,
    expected=Expected("OPPOSITE", -1.5),
    first_seed=FIRST_OF_LATER,
    why="A layer behind batch normalization gets inputs of the same mean and deviation after the "
    "step, so that only their shape and direction can shift.",
    to_settle="Other learning rates: what a step shifts is, as long as it is small, in proportion.",
    later={"Santurkar et al. 2018": "The claim's own source."},
)
