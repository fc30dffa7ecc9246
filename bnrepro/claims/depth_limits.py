"""Gradients under batch normalization explode with depth; without it what layers put out collapses.

Both are of networks without shortcuts past their layers.
"""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from bnrepro.evidence import controls
from bnrepro.evidence.arms import NORMS, SEEDS, SMOKE, per_scale
from bnrepro.evidence.claim import Check, Claim, Criterion, Expected, Finding, Margin, plans
from bnrepro.evidence.deep_arms import TRAINED
from bnrepro.evidence.grid import (
    Array,
    Grid,
    curves,
    doublings,
    grid,
    stack,
    table,
    times_fewer,
    whatever,
)  # fmt: skip
from bnrepro.evidence.later_arms import FIRST_OF_LATER
from bnrepro.evidence.runs import TEST, VALIDATION, Evidence

PREDICTED = np.pi / (np.pi - 1)
"""By how much the squared gradient grows a layer, in the limit of wide layers and large batches."""

DEPTH, SKIPPED = 24, 6
"""Hidden layers at whose start gradients are measured; the first of them, in which the images are
not yet as unlike as the theory has them, and the last one are left out of the growth."""

WIDTHS = per_scale((100,), (100, 300), (100, 300, 1000))
DEPTHS = per_scale((4, 8), (8, 24), (8, 16, 32, 48))
LRS: Mapping[str, tuple[float, ...]] = per_scale((0.03, 0.1), (0.01, 0.1), (0.01, 0.03, 0.1, 0.3))

LEARNS = 0.5
"""The accuracy above which a network counts as trained at all: five times that of guessing."""

_RELU = ("model.activation=relu", "init=he", "init.scale=1")
_PLAIN = ("experiment=fig1", *_RELU, "probe.every=0", "tensorboard=false")
AT_START = {
    "smoke": ("experiment=fig1", *SMOKE, *_RELU, "train.steps=1", "studies=[depth]"),
    "short": (*_PLAIN, "train.steps=1", "train.compile=false", "studies=[depth]"),
}
AT_START["paper"] = AT_START["short"]
TRAINING = {
    "smoke": ("experiment=fig1", *SMOKE, *_RELU, "train.steps=50"),
    "short": (*_PLAIN, "train.steps=300", "train.eval_every=300"),
    "paper": (*_PLAIN, "train.steps=1000", "train.eval_every=1000", "train.compile=true"),
}


def layers(depth: int, width: int = 100) -> str:
    """The override to `depth` layers of `width` units."""
    return f"model.hidden=[{','.join([str(width)] * depth)}]"


def started(scale: str) -> Grid:
    """Both arms, of each width, whose start is studied."""
    widths = {width: (layers(DEPTH, width),) for width in WIDTHS[scale]}
    return grid("at the start", norm=NORMS, width=widths)


def trained(scale: str) -> Grid:
    """Both arms of each depth at every learning rate."""
    depths = {depth: (layers(depth),) for depth in DEPTHS[scale]}
    return grid("trained", norm=NORMS, depth=depths, lr=LRS[scale])


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    return started(scale).arms(*AT_START[scale]) | trained(scale).arms(*TRAINING[scale])


def studied(evidence: Evidence, of: Grid) -> xr.Dataset:
    """`gradient` and `rank` at the start, (norm, width, seed, layer); NaN where a run diverged."""
    numbers = range(1, DEPTH + 1)

    def read(arm: str, what: str) -> np.ndarray:
        absent = {"start": {what: [np.nan] * (DEPTH + 1)}}
        studies = evidence.studies(arm, "depth")
        return np.array([(study or absent)["start"][what][:DEPTH] for study in studies], float)

    return xr.Dataset(
        {
            what: of.array(evidence, lambda arm, what=what: read(arm, what), layer=numbers)  # type: ignore[misc]
            for what in ("gradient", "rank")
        }
    )


def growth(gradient: Array, skipped: int = SKIPPED) -> Array:
    """By how much squared gradients (…, layer) grow a layer towards the input.

    It is that of the straight line through their logarithms, without the first `skipped` and the
    last layer.
    """
    middle: Array = np.log(gradient.isel(layer=slice(skipped, -1)))  # type: ignore[assignment]
    numbers = middle.layer - middle.layer.mean()
    slope = (middle * numbers).sum("layer", skipna=False) / (numbers**2).sum()
    found: Array = np.exp(-slope)
    return found


def deepest(validation: Array) -> Array:
    """Depths (norm, seed) up to which a network trains at some rate; 1 if none does."""
    trains = validation.max("lr") >= LEARNS
    depths: Array = validation.depth.where(trains).max("depth").fillna(1)
    return depths


def effects(start: xr.Dataset, validation: Array) -> dict[str, Array]:
    """All effects, of the start (norm, width, seed, layer), and of networks that were trained."""
    width = start.width[-1].item()
    widest = start.sel(width=width, drop=True)
    last = validation.depth[-1].item()
    depths = deepest(validation)
    beyond = depths.where(depths < last, np.inf)
    none, batch = (beyond.sel(norm=norm, drop=True) for norm in NORMS)
    return {
        "growth": whatever(growth(widest.gradient.sel(norm="batch", drop=True)) - PREDICTED),
        "rank": whatever(doublings(*(
            widest["rank"].isel(layer=-1, drop=True).sel(norm=norm, drop=True)
            for norm in ("batch", "none")
        ))),
        "deepest": times_fewer(none, batch, last),
    }  # fmt: skip


def measure(evidence: Evidence) -> Finding:
    """Growth and rank at the start, at every width; how deep networks still train."""
    of = trained(evidence.scale)
    start = studied(evidence, started(evidence.scale))
    validation, test = (of.final(evidence, name) for name in (VALIDATION, TEST))
    found = effects(start, validation)
    width = start.width[-1].item()
    widest = start.sel(width=width, drop=True)
    batch = start.gradient.sel(norm="batch", drop=True)
    choices = {
        f"{of_width} units a layer": {
            "growth": whatever(growth(batch.sel(width=of_width, drop=True)) - PREDICTED),
            "rank": effects(start.sel(width=[of_width]), validation)["rank"],
        }
        for of_width in WIDTHS[evidence.scale]
    }
    for skipped in (1, 12):
        choices[f"without the first {skipped}"] = {
            "growth": whatever(growth(batch.sel(width=width, drop=True), skipped) - PREDICTED)
        }
    shallow = validation.isel(depth=0, drop=True).max("lr")
    return Finding(
        found,
        exhibits=(
            curves(
                "layers", f"At the start, {width} units a layer, on 1,000 images as one batch",
                {
                    "squared gradient": widest.gradient / widest.gradient.isel(layer=-1),
                    "rank of what is put out": widest["rank"],
                },
                "layer", ("in units of the last layer's", "(tr M)² ÷ tr M²"), log_y=True,
            ),
            curves(
                "deep", "The best of all learning rates, of networks of 100 units a layer",
                {"accuracy": validation.max("lr")}, "depth", "validation accuracy at the end",
                limits=(0.0, 1.0), levels=(LEARNS,), log_x=True,
            ),
            table(
                "At the start, means over seeds: by how much squared gradients grow a layer "
                f"(predicted with BN: {PREDICTED:.3f}), and the rank of what the last puts out.",
                ("width", "norm"),
                {"growth": growth(start.gradient), "rank": start["rank"].isel(layer=-1)},
                called={"width": "units a layer", "norm": "arm"},
            ),
            table(
                "Test accuracy at the last step: means over seeds.", ("depth", "norm"),
                {f"{lr:g}": test.sel(lr=lr) for lr in test.lr.to_numpy()},
            ),
        ),
        unspecified=Check("The width, and the layers that growth is measured over.", choices),
        controls={
            "training": stack({norm: shallow.sel(norm=norm) for norm in NORMS}),
            "measured": start.gradient.notnull().all(("norm", "width", "layer")).astype(float),
        },
    )  # fmt: skip


CLAIM = Claim(
    statement="In a deep network with batch normalization squared gradients grow by 1.467 a layer "
    "towards the input at the start.",
    section="§3.3; Yang et al. 2019",
    paper_says="“Batch Normalization helps address these issues”, gradients that explode or vanish "
    "among them (§3.3); but no network of a depth at which that shows. Yang et al. 2019: with ReLU "
    "and no shortcuts squared gradients grow by at least π ÷ (π − 1) = 1.467 a layer, in the limit "
    "of wide layers and large batches, from whatever initial weights; so networks deeper than some "
    "tens of layers do not train. Daneshmand et al. 2020: without batch normalization what deep "
    "layers put out becomes of rank one.",
    unspecified="How near a network of finite width comes. Here 24 layers of 100 to 1,000 "
    "rectified units from He's initial weights, at the start, on 1,000 images as one batch, in "
    "float64. The growth is that of the straight line through the logarithms of the squared "
    "gradients of layers 7 to 23; in a pilot (seed 100) it was 1.440 at 1,000 units. Networks of "
    "100 units and 8 to 48 layers are trained for 1,000 steps in batches of 60, at four learning "
    "rates: one trains that comes above .5, five times guessing, at some.",
    criteria={
        "growth": Criterion(
            "by how much the squared gradient of the weights grows a layer with BN, at the start, "
            "in the widest network − 1.467",
            Margin(0.05, "times a layer"),
            "The prediction, which finite widths shift: to a tenth of what it is above 1.",
            equivalence=True,
        ),
        "rank": Criterion(
            "(tr M)² ÷ tr M² of what the last layer puts out at the start, with BN ÷ without BN",
            Margin(1.0, "doublings"),
            "Collapse is no small matter: twice at least.",
        ),
        "deepest": Criterion(
            "depth up to which networks train, without BN ÷ with BN",
            Margin(0.0, "doublings"),
            "Gradients that explode bound the depth: less deep at all.",
            indifference=0.25,
        ),
    },
    scales=plans(_arms, SEEDS),
    measure=measure,
    controls={
        "training": controls.trains("the shallowest network of each arm", TRAINED),
        "measured": controls.exists("the share of the networks whose start was measured", 1.0),
    },
    expected=Expected("REPRODUCED", -0.03, known=True),
    first_seed=FIRST_OF_LATER,
    why="The theory is of infinitely wide layers; in narrower ones gradients grow somewhat faster.",
    to_settle="Layers of some thousand units, and batches as large.",
    later={
        "Yang et al. 2019": "The claim's own source.",
        "Daneshmand et al. 2020": "The source of the second criterion.",
        "He et al. 2016": "Shortcuts past the layers take the bound on depth away.",
    },
)
