"""Runs whose gradients and landscape are watched, as arms that two claims share; equal losses."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from bnrepro.evidence import controls
from bnrepro.evidence.arms import NORMS, SMOKE, per_scale
from bnrepro.evidence.claim import Control
from bnrepro.evidence.deep_arms import hidden
from bnrepro.evidence.grid import Array, Grid, grid, stack
from bnrepro.evidence.runs import Evidence, aligned

SIGMOIDS, RECTIFIED = "three sigmoid layers", "eight ReLU layers"
LAYERS = {SIGMOIDS: 3, RECTIFIED: 8}
NETWORKS = {
    SIGMOIDS: (),
    RECTIFIED: ("model.activation=relu", "init=he", "init.scale=1", hidden(LAYERS[RECTIFIED])),
}
"""The network of Fig. 1, and a deeper one from He's initial weights."""

LR = {SIGMOIDS: 1.0, RECTIFIED: 0.1}
"""The learning rate of both arms, at which either network trains with and without BN."""

LRS: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    SIGMOIDS: per_scale((1.0, 3.0), (0.3, 1.0, 3.0, 10.0)),
    RECTIFIED: per_scale((0.1, 0.3), (0.03, 0.1, 0.3, 1.0)),
}

_WATCHED = ("probe.gradient_shift=true", "probe.landscape=true", "tensorboard=false")
WORDS: Mapping[str, tuple[str, ...]] = {
    "smoke": ("experiment=fig1", *SMOKE, "probe.every=50", *_WATCHED),
    "short": ("experiment=fig1", "train.steps=600", "train.eval_every=600", "probe.every=50",
              *_WATCHED),
    "paper": ("experiment=fig1", "train.steps=2000", "train.eval_every=2000", "probe.every=50",
              "train.compile=true", *_WATCHED),
}  # fmt: skip

LOSSES = (1.5, 1.0, 0.7, 0.5, 0.35, 0.25)
"""Losses of the probed images at which arms are compared, about equally far apart in logarithms."""

LOSS = "network/loss"

TENTH = 0.14
"""A tenth more, in doublings."""

CONTROLS: Mapping[str, Control] = {
    "training": controls.trains("each arm at the learning rate of both"),
    "losses": controls.exists("the share of the losses that both arms come down to", 0.5),
}
"""What both claims rest on; `controlled` is what these are about."""


def cells(scale: str, network: str) -> Grid:
    """Both arms of a network at every learning rate."""
    return grid(network, norm=NORMS, lr=LRS[network][scale])


def arms(scale: str) -> dict[str, tuple[str, ...]]:
    """All arms of both networks; `WORDS` come before."""
    return {
        arm: words
        for network, own in NETWORKS.items()
        for arm, words in cells(scale, network).arms(*own).items()
    }


def watched(evidence: Evidence, of: Grid, names: Sequence[str]) -> xr.Dataset:
    """Measurements of the probes by name, with axis `step`; NaN where a run has no more.

    One of several numbers has them along the axis `at`.
    """
    found = {arm: evidence.probed_each(arm, names) for arm in of.arms()}
    steps = max((s for each in found.values() for s, _ in each[0]), key=len)
    arrays = {}
    for place, name in enumerate(names):

        def read(arm: str, place: int = place) -> np.ndarray:
            curves = [(s, np.reshape(values, (len(s), -1))) for s, values in found[arm][place]]
            width = curves[0][1].shape[1]
            columns = [[(s, values[:, at]) for s, values in curves] for at in range(width)]
            return np.stack([aligned(column, np.nan, steps)[1] for column in columns], 1)

        width = read(next(iter(found))).shape[1]
        array = of.array(evidence, read, at=range(width), step=steps.tolist())
        arrays[name] = array if width > 1 else array.isel(at=0, drop=True)
    return xr.Dataset(arrays)


def at_equal_loss(values: Array, loss: Array, losses: Sequence[float] = LOSSES) -> Array:
    """What values (…, step) are where the loss first comes down to each of some: axis `loss`.

    Between two probes both go in a straight line; NaN where the loss never comes down that far.
    """

    def first(of: np.ndarray, along: np.ndarray, level: float) -> float:
        below = np.flatnonzero(along <= level)
        if not len(below) or not below[0]:
            return float("nan")
        after, before = below[0], below[0] - 1
        share = (along[before] - level) / (along[before] - along[after])
        return float(of[before] + share * (of[after] - of[before]))

    found: Array = stack(
        {
            level: xr.apply_ufunc(
                first, values, loss, level, vectorize=True,
                input_core_dims=[["step"], ["step"], []],
            )
            for level in losses
        },
        "loss",
    )  # fmt: skip
    return found


def reached(loss: Array) -> Array:
    """The share of `LOSSES` that both arms come down to, of each seed."""
    levels = at_equal_loss(loss, loss)
    shares: Array = levels.notnull().all("norm").mean("loss")
    return shares


def controlled(runs: Mapping[str, xr.Dataset], same: Mapping[str, xr.Dataset]) -> dict[str, Array]:
    """What `CONTROLS` look at.

    Args:
        runs: of each network, as `Grid.runs` makes them.
        same: with the `loss` of the probed images, both arms at the learning rate of `LR`.
    """
    test = {network: each.test.sel(lr=LR[network]) for network, each in runs.items()}
    losses = {network: reached(each.loss) for network, each in same.items()}
    return {"training": stack(test, "network"), "losses": stack(losses, "network").min("network")}
