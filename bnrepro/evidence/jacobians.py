"""The layer Jacobians of Fig. 1's network: arms and measurements that two claims share."""

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from bnrepro.evidence.arms import COMPILED, NONE, NORMS, SMOKE, per_scale
from bnrepro.evidence.claim import Check, Effects
from bnrepro.evidence.exhibits import Figure
from bnrepro.evidence.grid import Array, Grid, curves, grid
from bnrepro.evidence.runs import Evidence, aligned
from bnrepro.evidence.tuning import both_tuned

PROBED = {
    "smoke": ("experiment=fig1", *SMOKE, "probe.every=50", "probe.jacobian=true"),
    "short": ("experiment=fig1", "train.steps=2000", "train.eval_every=200", "probe.every=200",
              "probe.jacobian=true"),
    "paper": ("experiment=fig1", *COMPILED, "train.steps=10000", "probe.every=500",
              "probe.jacobian=true"),
}  # fmt: skip

FIG1_LR = 0.07
LRS = per_scale((FIG1_LR, 3.0), (FIG1_LR, 1.0, 3.0))

CHOICES = {"initial deviation 0.4": ("init.scale=0.4",), "ReLU": ("model.activation=relu",)}
"""What else the network could be."""

LAYERS = ("linear2", "linear3")
"""The Jacobians between the first and second, and second and third, hidden layer."""

FARTHEST = 10.0
"""In doublings, of a singular value below a thousandth, beyond a thousand or no number: the
direction is lost, and by how much more is a matter of rounding."""

WIDEST = 6.0
"""In decades, the spread of singular values that reach from one of these ends to the other."""


WHOLE, CHOSEN = grid(norm=NORMS, lr=(FIG1_LR,)), grid(norm=NORMS, choice=CHOICES)


def over_lrs(scale: str) -> Grid:
    """Both arms at every learning rate."""
    return grid(norm=NORMS, lr=LRS[scale])


def arms(scale: str) -> dict[str, tuple[str, ...]]:
    """The arms of both claims; `PROBED` comes before."""
    return over_lrs(scale).arms() | CHOSEN.arms()


def gaussian(share: np.ndarray) -> np.ndarray:
    """Quantiles of the singular values of a large square Gaussian matrix of variance 1/n.

    They follow the quarter-circle law, density √(4 - s²)/π on [0, 2]; `share` is in [0, 1].
    """
    s = np.linspace(0, 2, 2001)
    below = (s * np.sqrt(4 - s**2) / 2 + 2 * np.arcsin(s / 2)) / np.pi
    return np.asarray(np.interp(share, below, s))


DECILES = gaussian(np.array((0.9, 0.1)))
"""A tenth and nine tenths from the largest of its singular values."""


def distance(values: np.ndarray) -> np.ndarray:
    """|log₂ σ|: how far singular values are from 1, in doublings."""
    with np.errstate(divide="ignore"):
        found = np.abs(np.log2(values))
    return np.where(found < FARTHEST, found, FARTHEST)


def spread(deciles: np.ndarray) -> np.ndarray:
    """Decades from the tenth of singular values, first on the last axis, to the ninetieth."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.log10(deciles[..., 0].astype(np.float64) / deciles[..., 1])
    return np.where(found < WIDEST, found, WIDEST)


def probed(evidence: Evidence, arm: str, *parts: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """Steps (P,) and parts of the singular values, each (S, P, L, …) of L layers.

    Where a diverged run has no more probes they are not a number.
    """
    config = evidence.runs[arm][0].config()
    every = config["probe"]["every"]
    steps = np.arange(0, config["train"]["steps"] + 1, every)
    names = [f"{layer}/jacobian:{part}" for part in parts for layer in LAYERS]
    found = []
    for of_seeds in evidence.probed_each(arm, names):
        values = np.full((len(evidence.seeds), len(steps), *of_seeds[0][1].shape[1:]), np.nan)
        for row, (at, values_at) in zip(values, of_seeds, strict=True):
            row[at // every] = values_at
        found.append(values)
    layers = len(LAYERS)
    return steps, [np.stack(found[at : at + layers], 2) for at in range(0, len(found), layers)]


def measured(evidence: Evidence, of: Grid) -> xr.Dataset:
    """Statistics of spectra, means over images and layers, and correlations; with axis `step`."""
    found = {arm: probed(evidence, arm, "rms", "deciles") for arm in of.arms()}
    steps = next(iter(found.values()))[0].tolist()

    def read(arm: str) -> np.ndarray:
        rms, deciles = found[arm][1]
        spectra = [each.mean((2, 3)) for each in (rms, distance(rms), spread(deciles))]
        return np.stack([*spectra, correlation(evidence, arm, steps)], -1)

    names = ("rms", "off", "spread", "correlation")
    return of.array(evidence, read, step=steps, statistic=names).to_dataset("statistic")


def correlation(evidence: Evidence, arm: str, steps: Sequence[int]) -> np.ndarray:
    """The root mean square correlation of a layer's units, mean over layers, (S, P)."""
    names = [f"linear{depth}/correlation" for depth in (1, 2, 3)]
    layers = [aligned(of, np.nan, np.array(steps))[1] for of in evidence.probed_each(arm, names)]
    return np.asarray(np.mean(layers, axis=0))


def less(values: Array) -> Array:
    """By how much the mean over all probes after the start is less with batch normalization."""
    trained = values.isel(step=slice(1, None)).mean("step")
    return trained.sel(norm=NONE, drop=True) - trained.sel(norm="batch", drop=True)


def checks(evidence: Evidence, effects: Callable[[xr.Dataset], Effects]) -> tuple[Check, Check]:
    """Both arms at their own best learning rates; and each rate, and other networks."""
    lrs = over_lrs(evidence.scale)
    chosen, at_lr = (measured(evidence, of) for of in (CHOSEN, lrs))
    choices = {choice: effects(chosen.sel(choice=choice)) for choice in CHOICES}
    choices |= {f"learning rate {lr:g}": effects(at_lr.sel(lr=lr)) for lr in LRS[evidence.scale]}
    tuned = both_tuned(lrs.runs(evidence), lambda lr: effects(at_lr.sel(lr=lr)))
    return tuned, Check("The initial deviation, the nonlinearity and the learning rate.", choices)


def spectra(evidence: Evidence) -> Figure:
    """A figure of all singular values at the start, after the first probe and at the end."""
    found = {arm: probed(evidence, arm, "median") for arm in WHOLE.arms()}
    steps, (values,) = next(iter(found.values()))
    rank = (np.arange(values.shape[-1]) + 0.5) / values.shape[-1]

    def read(arm: str) -> np.ndarray:
        return np.asarray(found[arm][1][0].mean(2))

    ours = WHOLE.array(evidence, read, step=steps.tolist(), rank=rank.tolist()).isel(lr=0)
    law = xr.zeros_like(ours.isel(norm=[0])) + gaussian(1 - rank)
    every = xr.concat([ours, law.assign_coords(norm=["Gaussian, variance 1/n"])], "norm")
    panels = {f"step {steps[place]:,}": every.isel(step=place) for place in (0, 1, -1)}
    return curves(
        "spectra", "Singular values of the layer Jacobians by rank ÷ their number, medians over "
        "images and means over layers", panels, "rank", "singular value",
        more=" Dotted: 1, and a factor of 2 either way. An orthogonal matrix has all of them on "
        "the middle line; a Gaussian one of variance 1/n is what weights scaled well give without "
        "any normalization.", log_y=True, levels=(0.5, 1.0, 2.0),
    )  # fmt: skip
