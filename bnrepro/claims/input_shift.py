"""§5: statistics computed again from shifted images undo what frozen ones do not."""

from collections.abc import Mapping

import numpy as np

from bnrepro.evidence import controls
from bnrepro.evidence.arms import CIFAR_SEEDS
from bnrepro.evidence.claim import Check, Claim, Criterion, Expected, Finding, Group, Margin, plans
from bnrepro.evidence.exhibits import Figure
from bnrepro.evidence.fig2_arms import BN_BASELINE, BN_X5, INCEPTION, NETWORKS
from bnrepro.evidence.grid import Array, Grid, bars, grid, table
from bnrepro.evidence.runs import CHANCE, TOLD_APART, Evidence

NORMALIZED = (BN_BASELINE, BN_X5)

NONE, DIMMED, INVERTED = "none", "dimmed to 0.3", "inverted"

KINDS: Mapping[str, tuple[str, ...]] = {
    "less light": ("dimmed to 0.5", DIMMED, "dimmed to 0.15"),
    "noise": ("noise of 0.05", "noise of 0.1", "noise of 0.2"),
    "blur": ("blurred 1×", "blurred 2×", "blurred 4×"),
    "larger pixels": ("pixels of 2", "pixels of 4", "pixels of 8"),
    "negatives": (INVERTED,),
    "other colors": ("recolored",),
}
"""What the study calls the shifts, by their kinds."""

SHIFTS = tuple(shift for of_kind in KINDS.values() for shift in of_kind)

FROZEN, AGAIN = "frozen", "again"
"""By which statistics: those of training images as they are, or shifted like the test images."""

LOST = 0.05
"""As much as lies between the best and the worst of the paper's networks: 74.8 and 69.8 %."""

APART = Margin(0.01, "accuracy")


def networks(scale: str) -> Grid:
    """Inception, and both networks with batch normalization."""
    return grid(network={name: NETWORKS[name](scale) for name in (INCEPTION, *NORMALIZED)})


def accuracies(evidence: Evidence) -> Array:
    """Test accuracy by network, shift and statistics (`by`); guessing where a run diverged.

    NaN with statistics computed again of a network that has none.
    """

    def read(arm: str) -> np.ndarray:
        return np.array([
            [
                [CHANCE if study is None else study[shift][by] for by in (FROZEN, AGAIN)]
                for shift in (NONE, *SHIFTS)
            ]
            for study in evidence.studies(arm, "input-shift")
        ], dtype=float)  # fmt: skip

    of = networks(evidence.scale)
    return of.array(evidence, read, shift=(NONE, *SHIFTS), by=(FROZEN, AGAIN))


def over_kinds(values: Array) -> Array:
    """The mean over kinds of shifts, each that of its strengths."""
    kinds = [values.sel(shift=list(of_kind)).mean("shift") for of_kind in KINDS.values()]
    mean: Array = sum(kinds[1:], kinds[0]) / len(kinds)
    return mean


def lost(accuracy: Array) -> Array:
    """What a shift costs in accuracy, by the same kind of statistics with it and without."""
    return accuracy.sel(shift=NONE) - accuracy


def undone(accuracy: Array) -> Array:
    """The share of what a shift costs that it does not with statistics computed again.

    If it costs nothing, nothing is undone, whatever they do: −inf.
    """
    before, after = (lost(accuracy).sel(by=by) for by in (FROZEN, AGAIN))
    costs = before > 0
    share: Array = (1 - after / before.where(costs, 1)).where(costs, -np.inf)
    return share


def regained(accuracy: Array) -> Array:
    """What statistics computed again add to the accuracy of shifted images."""
    return accuracy.sel(by=AGAIN) - accuracy.sel(by=FROZEN)


def effects(accuracy: Array, inception: Array) -> dict[str, Array]:
    """Every criterion's effects, of a network with batch normalization and of Inception."""
    again, as_it_is = accuracy.sel(by=AGAIN), accuracy.sel(by=FROZEN, shift=NONE)
    costs = lost(inception.sel(by=FROZEN)) - (as_it_is - again)
    return {
        "regained": over_kinds(regained(accuracy)),
        "compared": over_kinds(costs),
        "undone": undone(accuracy).sel(shift=DIMMED),
        "inversion": again.sel(shift=DIMMED) - again.sel(shift=INVERTED),
    }


def measure(evidence: Evidence) -> Finding:
    """BN-Baseline; compared with Inception; then BN-x5, and each kind of shift."""
    every = accuracies(evidence)
    inception, baseline, x5 = (every.sel(network=name) for name in (INCEPTION, *NORMALIZED))
    frozen, costs = every.sel(by=FROZEN), lost(every).sel(by=FROZEN)
    choices = {f"{BN_X5}, which sees less distortion of light in training": effects(x5, inception)}
    choices |= {
        kind: {"regained": regained(baseline).sel(shift=list(of_kind)).mean("shift")}
        for kind, of_kind in KINDS.items()
    }
    values = {
        f"{INCEPTION}, without BN": inception.sel(by=FROZEN),
        f"{BN_BASELINE}, frozen": baseline.sel(by=FROZEN),
        f"{BN_BASELINE}, computed again": baseline.sel(by=AGAIN),
    }
    columns = {"frozen statistics": frozen, "lost with them": costs.where(costs["shift"] != NONE),
               "computed again": every.sel(by=AGAIN)}  # fmt: skip
    panels = [
        bars(kind, "test accuracy", {
            name: of.sel(shift=[NONE, *of_kind]) for name, of in values.items()
        }, "shift", (0.0, 1.0))
        for kind, of_kind in KINDS.items()
    ]  # fmt: skip
    return Finding(
        effects(baseline, inception),
        exhibits=(
            Figure(
                "accuracy",
                "Test accuracy of shifted images, with the statistics of the training images and "
                "with those of training images shifted in the same way. Inception has none. Median "
                "over seeds, line from least to greatest.",
                panels,
            ),
            table("Test accuracy, means over seeds.", ("network", "shift"), columns, {NONE: NONE}),
        ),
        unspecified=Check(
            "The network, and the shift: of negatives and other colors the idea does not say that "
            "statistics undo what was done.",
            choices,
        ),
        controls={
            "training": frozen.sel(shift=NONE),
            "shift": over_kinds(costs.sel(network=BN_BASELINE)),
        },
    )


CLAIM = Claim(
    statement="A batch-normalized network is more accurate on images from another distribution "
    "once its statistics are computed again from such images, without labels.",
    section="§5",
    paper_says="A conjecture, left for the future: whether batch normalization helps with domain "
    "adaptation, and lets a network generalize to new data distributions “perhaps with just a "
    "recomputation of the population means and variances (Alg. 2)”. No experiment, and no number.",
    unspecified="The data and the shift. Here 14 shifts of six kinds of CIFAR-10's test images, "
    "none of which a network was trained for, and which were fixed before the networks were "
    "trained: less light, noise, blur and larger pixels, each of three strengths; negatives, and "
    "channels in each other's place. Each kind counts the same. Less light scales and moves every "
    "input alike, as statistics can undo; an inversion also turns its sign, as no mean or variance "
    "does. Frozen statistics are the moving averages of training, whose images are varied, their "
    "light by a little. Others are computed again by Algorithm 2, from 100 batches of training "
    "images as they are, but for the shift. Judged on BN-Baseline (docs/cifar10.md).",
    criteria={
        "regained": Criterion(
            "test accuracy of shifted images, mean over the six kinds, with statistics computed "
            "again − with frozen ones, of the same network",
            APART,
            "More than chance: on 10,000 images the difference of two accuracies near .75 has a "
            "standard error of .006. The paper gives no number.",
        ),
        "compared": Criterion(
            "what the shifts cost in test accuracy, mean over the six kinds, Inception − "
            "BN-Baseline with statistics computed again, of the same seed",
            Margin(0.0, "accuracy"),
            "“More easily generalize”: less is lost than without batch normalization, at all.",
            indifference=TOLD_APART,
        ),
        "undone": Criterion(
            "the share of what dimming to 0.3 costs in test accuracy with frozen statistics that "
            "it does not with those computed again, of the same network",
            Margin(0.5, "of the loss"),
            "Dimming gives the first normalization the same values, moved and scaled, but for the "
            "zeros around the images. So the idea says all of the loss, or nearly; were it wrong, "
            "nothing. Half lies in the middle.",
        ),
        "inversion": Criterion(
            "test accuracy with statistics computed again, dimmed to 0.3 − inverted, of the same "
            "network",
            APART,
            "Only means and variances: what an inversion does besides stays, by more than chance.",
        ),
    },
    scales=plans(lambda scale: networks(scale).arms(), CIFAR_SEEDS),
    measure=measure,
    controls={
        "training": controls.trains("each network on images as they are"),
        "shift": controls.exists(
            "what shifts cost BN-Baseline with frozen statistics, mean over kinds,", LOST
        ),
    },
    group=Group.ARGUMENT,
    expected=Expected("REPRODUCED"),
    why="Noise, blur and larger pixels change more than means and variances.",
    to_settle="Images from another source, in place of CIFAR-10's own made worse.",
    later={
        "Li et al. 2016": "Statistics taken again from images of another domain, without labels "
        "or training, adapt a network to it (AdaBN): what a layer knows of the domain lies in "
        "them.",
        "Schneider et al. 2020": "On corrupted ImageNet the statistics of the corrupted images "
        "lower the mean corruption error of a ResNet-50 from 76.7 to 62.2 %; 32 images are enough "
        "to gain.",
        "Nado et al. 2020": "The statistics of the test batch itself make networks more accurate "
        "and better calibrated under such shifts, less so under natural ones.",
    },
)
