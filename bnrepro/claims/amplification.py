"""§1, §3.3: batch normalization keeps small changes of parameters from amplifying with depth.

At the start it is the other way round: over twelve layers of rectified units a small change grows
eightfold with batch normalization, and hardly at all without it from He's initial weights.
"""

from typing import Any

import numpy as np
import xarray as xr

from bnrepro.evidence import controls
from bnrepro.evidence.arms import NORMS, SEEDS
from bnrepro.evidence.claim import Check, Claim, Criterion, Expected, Finding, Group, Margin, plans
from bnrepro.evidence.deep_arms import hidden
from bnrepro.evidence.exhibits import Figure
from bnrepro.evidence.grid import Array, Grid, best, curves, doublings, grid, table, whatever
from bnrepro.evidence.rectified_arms import DEPTH, LRS, WORDS, rectified
from bnrepro.evidence.runs import Evidence
from bnrepro.evidence.tuning import both_tuned

TRAINED = 0.9
"""A linear classifier of MNIST has more: a network that does not get there has not trained."""

BEST_LR = {"none": 0.03, "batch": 0.3}
"""Learning rates of the pilot's highest validation accuracies, for the other depths."""

OTHERS = {"smoke": (2,), "short": (2, 24), "paper": (2, 6, 24)}
WHEN = ("start", "end")
LAYERWISE = ("into", "spread", "out")
"""What the study measures of every layer, the first of which is judged."""


def shallower(scale: str) -> Grid:
    """Both arms at other depths, each at its registered learning rate."""
    norms = {norm: (f"norm={norm}", f"optimizer.lr={lr:g}") for norm, lr in BEST_LR.items()}
    return grid("ReLU, He", norm=norms, depth={depth: (hidden(depth),) for depth in OTHERS[scale]})


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    return rectified(scale).arms(*WORDS[scale]) | shallower(scale).arms(*WORDS[scale])


def studied(evidence: Evidence, of: Grid) -> xr.Dataset:
    """The study's relative changes, with axis `when`; infinite where a run diverged.

    Of each of `LAYERWISE` the `last` layer's and `first`'s, and the `gradient`'s.
    """
    names = [f"{which} {what}" for what in LAYERWISE for which in ("first", "last")]

    def of_seed(study: dict[str, Any] | None) -> list[list[float]]:
        if study is None:
            return [[np.inf] * (len(names) + 1)] * len(WHEN)
        ends = [[study[when][what][at] for what in LAYERWISE for at in (0, -1)] for when in WHEN]
        return [[*row, study[when]["gradient"]] for row, when in zip(ends, WHEN, strict=True)]

    def read(arm: str) -> np.ndarray:
        return np.array([of_seed(study) for study in evidence.studies(arm, "amplification")])

    changes = of.array(evidence, read, when=WHEN, change=[*names, "gradient"])
    return changes.to_dataset("change")


def less(change: Array) -> Array:
    """Doublings by which a change is less with batch normalization."""
    none, batch = (change.sel(norm=norm, drop=True) for norm in NORMS)
    return whatever(doublings(none, batch))


def effects(changes: xr.Dataset) -> dict[str, Array]:
    """All criteria's effects, of relative changes (norm, when, seed)."""
    end = changes.sel(when="end", drop=True)
    return {
        "end": less(end["last into"]),
        "growth": less(end["last into"] / end["first into"]),
        "gradient": less(end["gradient"]),
        "start": less(changes["last into"].sel(when="start", drop=True)),
    }


def measure(evidence: Evidence) -> Finding:
    """The last layer's change at the end and at the start, at every learning rate and depth."""
    of, depth = rectified(evidence.scale), DEPTH[evidence.scale]
    runs = of.runs(evidence).sel(depth=depth, drop=True)
    changes = studied(evidence, of).sel(depth=depth, drop=True)
    lr = best(runs.validation)
    chosen, other = changes.sel(lr=lr), studied(evidence, shallower(evidence.scale))
    choices = {
        f"learning rate {of_both:g} in both arms": effects(changes.sel(lr=of_both))
        for of_both in LRS[evidence.scale]
    }
    choices |= {
        f"{of_both} layers": effects(other.sel(depth=of_both)) for of_both in OTHERS[evidence.scale]
    }
    for text, what in (
        ("in units of how far inputs differ between images", "spread"),
        ("of what comes out of the nonlinearity", "out"),
    ):
        choices[text] = {"end": less(chosen[f"last {what}"].sel(when="end", drop=True))}
    return Finding(
        effects(chosen),
        exhibits=(
            _by_layer(evidence, of.at(lr=lr), depth),
            table(
                "The last layer's relative change ÷ a thousandth, at every learning rate: means "
                "over seeds.", ("norm", "lr"),
                {"at the start": changes["last into"].sel(when="start") * 1000,
                 "at the end": changes["last into"].sel(when="end") * 1000,
                 "test accuracy": runs.test},
            ),
        ),
        tuned=both_tuned(runs, lambda lr: effects(changes.sel(lr=lr))),
        unspecified=Check(
            "The learning rate, the number of layers (each arm at "
            f"{' and '.join(f'{lr:g}' for lr in BEST_LR.values())}), and what a change is measured "
            "by.", choices,
        ),
        controls={"training": runs.test.sel(lr=lr), "rates": runs.validation},
    )  # fmt: skip


def _by_layer(evidence: Evidence, of: Grid, depth: int) -> Figure:
    def read(arm: str) -> np.ndarray:
        absent = {when: {"into": [np.nan] * depth} for when in WHEN}
        studies = evidence.studies(arm, "amplification")
        return np.array([[(study or absent)[when]["into"] for when in WHEN] for study in studies])

    layers = range(1, depth + 1)
    into = of.array(evidence, read, when=WHEN, layer=layers).sel(depth=depth, drop=True)
    panels = {f"at the {when} of training": into.sel(when=when) for when in WHEN}
    return curves(
        "layers", "Relative change of what comes into each layer's nonlinearity, when the first "
        "layer's weights change by a thousandth of their norm; each arm at its best learning rate",
        panels, "layer", "relative change", levels=(1e-3,), log_y=True,
    )  # fmt: skip


CLAIM = Claim(
    statement="With batch normalization a small change of the first layer's weights changes the "
    "layers far behind it less.",
    section="§1, §3.3",
    paper_says="“Small changes to the network parameters amplify as the network becomes deeper” "
    "(§1). “By normalizing activations throughout the network, it prevents small changes to the "
    "parameters from amplifying into larger and suboptimal changes in activations in gradients” "
    "(§3.3). No measurement.",
    unspecified="All of it. Here the weights of the first layer change by a thousandth of their "
    "norm, in five random directions one after the other; the change is that of the inputs of the "
    "nonlinearities (the activations that the paper normalizes), ‖δx‖/‖x‖ over 500 training images "
    "and all units, with the batch's own statistics. 12 hidden layers of 100 rectified units from "
    "He's initial weights, otherwise the network of Fig. 1, 2,000 steps, each arm at its best "
    "learning rate. By a pilot that is near 0.03 without batch normalization and 0.3 with it.",
    criteria={
        "end": Criterion(
            "relative change of what comes into the last hidden layer's nonlinearity, at the end "
            "of training, each arm at its best learning rate, without BN ÷ with BN",
            Margin(0.0, "doublings"),
            "Less at all; the paper gives no number.",
            indifference=0.25,
        ),
        "growth": Criterion(
            "the same ÷ the first hidden layer's, so by how much a change grows on its way",
            Margin(0.0, "doublings"),
            "To amplify is to grow from layer to layer, wherever it begins.",
            indifference=0.25,
        ),
        "gradient": Criterion(
            "relative change of the gradient by all weights, at the end of training, without BN ÷ "
            "with BN",
            Margin(0.0, "doublings"),
            "Less at all: §3.3 names gradients as well.",
            indifference=0.25,
        ),
        "start": Criterion(
            "the primary criterion's, of the initial weights",
            Margin(0.0, "doublings"),
            "Less at all. By the pilot it is more: .0084 with BN and .0013 without.",
            indifference=0.25,
        ),
    },
    scales=plans(_arms, SEEDS),
    measure=measure,
    controls={
        "training": controls.trains("each arm at its best learning rate", TRAINED),
        "rates": controls.interior(),
    },
    group=Group.ARGUMENT,
    expected=Expected(),
    why="Normalization makes the last layers as sensitive to relative changes as the first; only "
    "its larger weights at higher learning rates make up for that.",
    to_settle="Deeper networks, whose gradients explode at the start; other nonlinearities.",
    later={
        "Yang et al. 2019": "At initialization batch normalization does the reverse: gradients "
        "explode with depth.",
        "Santurkar et al. 2018": "Gradients change less along a step with batch normalization, by "
        "measurements in VGG networks.",
    },
)
