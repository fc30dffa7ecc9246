"""§3.3, a conjecture: batch normalization keeps the layers' Jacobians near orthogonal."""

import numpy as np
import xarray as xr

from bnrepro.evidence import claim, controls
from bnrepro.evidence.arms import BATCH, NONE, NORMS, SEEDS, SMOKE, per_scale
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Group, Margin, plans
from bnrepro.evidence.exhibits import Figure
from bnrepro.evidence.grid import Array, Grid, curves, grid
from bnrepro.evidence.runs import Evidence
from bnrepro.evidence.tuning import both_tuned

PROBED = {
    "smoke": ("experiment=fig1", *SMOKE, "probe.every=50", "probe.jacobian=true"),
    "short": ("experiment=fig1", "train.steps=2000", "train.eval_every=200", "probe.every=200",
              "probe.jacobian=true"),
    "paper": ("experiment=fig1", "train.steps=10000", "probe.every=500", "probe.jacobian=true"),
}  # fmt: skip

FIG1_LR = 0.07
LRS = per_scale((FIG1_LR, 3.0), (FIG1_LR, 1.0, 3.0))

CHOICES = {"initial deviation 0.4": ("init.scale=0.4",), "ReLU": ("model.activation=relu",)}
"""What else the network could be."""

LAYERS = ("linear2", "linear3")
"""The Jacobians between the first and second, and second and third, hidden layer."""

CLOSER = 1.0
NARROWER = 0.2

FARTHEST = 10.0
"""In doublings, of a singular value below a thousandth, beyond a thousand or no number: the
direction is lost, and by how much more is a matter of rounding."""

WIDEST = 6.0
"""In decades, the spread of singular values that reach from one of these ends to the other."""


WHOLE, CHOSEN = grid(norm=NORMS, lr=(FIG1_LR,)), grid(norm=NORMS, choice=CHOICES)


def over_lrs(scale: str) -> Grid:
    """Both arms at every learning rate."""
    return grid(norm=NORMS, lr=LRS[scale])


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
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
    """All statistics of spectra, the means over images and layers, with axis `step`."""
    found = {arm: probed(evidence, arm, "rms", "deciles") for arm in of.arms()}
    steps = next(iter(found.values()))[0].tolist()

    def read(arm: str) -> np.ndarray:
        rms, deciles = found[arm][1]
        return np.stack([each.mean((2, 3)) for each in (rms, distance(rms), spread(deciles))], -1)

    names = ("rms", "off", "spread")
    return of.array(evidence, read, step=steps, statistic=names).to_dataset("statistic")


def effects(runs: xr.Dataset) -> dict[str, Array]:
    """All criteria's effects, of what is measured with and without batch normalization."""
    trained = runs.isel(step=slice(1, None)).mean("step")
    gained = trained.sel(norm=NONE) - trained.sel(norm=BATCH)
    return {"size": gained.off, "spread": gained.spread}


def measure(evidence: Evidence) -> Finding:
    """Both arms as in Fig. 1; at their own best learning rates; other networks."""
    lrs = over_lrs(evidence.scale)
    chosen, at_lr = (measured(evidence, of) for of in (CHOSEN, lrs))
    runs = at_lr.sel(lr=FIG1_LR)
    choices = {choice: effects(chosen.sel(choice=choice)) for choice in CHOICES}
    choices |= {f"learning rate {lr:g}": effects(at_lr.sel(lr=lr)) for lr in LRS[evidence.scale]}
    compared = claim.PaperNumber(
        "root mean square singular value, mean over layers, images and training, with BN",
        "", 1.0, runs.rms.sel(norm=BATCH).mean("step", skipna=False).to_numpy(),
    )  # fmt: skip
    return Finding(
        effects(runs),
        (compared,) if evidence.scale == "paper" else (),
        (
            _spectra(evidence),
            curves(
                "training",
                "Singular values over training, means over images and layers (a Gaussian matrix: "
                f"0 and {spread(DECILES):.2f})",
                {"size": runs.off, "spread": runs.spread},
                "step", ("|log₂| of the root mean square", "decades"),
            ),
        ),
        both_tuned(lrs.runs(evidence), lambda lr: effects(at_lr.sel(lr=lr))),
        Check(
            "The initial deviation, the nonlinearity and the learning rate. At the start the scale "
            "of the weights does not matter with BN; without it the singular values follow it, and "
            "the right one brings their root mean square to 1 as well.",
            choices,
        ),
        {
            "training": WHOLE.final(evidence),
            "size": runs.off.sel(norm=NONE).isel(step=slice(1, None)).mean("step"),
        },
    )  # fmt: skip


def _spectra(evidence: Evidence) -> Figure:
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


CLAIM = Claim(
    statement="With batch normalization the layer Jacobians have singular values closer to 1 than "
    "without it: nearer in size, and less spread.",
    section="§3.3, a conjecture",
    paper_says="“We further conjecture that Batch Normalization may lead the layer Jacobians to "
    "have singular values close to 1, which is known to be beneficial for training (Saxe et al., "
    "2013).” If normalized inputs x̂ and ẑ of two consecutive layers were Gaussian and "
    "uncorrelated, and ẑ = Jx̂ linear, then I = JJᵀ. “The precise effect of Batch Normalization on "
    "gradient propagation remains an area of further study.” No experiment.",
    unspecified="What is close. A 100×100 matrix of independent Gaussian entries of variance 1/n, "
    "which weights of the right scale give without normalization, has a root mean square singular "
    "value of 1, and they spread over (0, 2); of an orthogonal matrix, which Saxe et al. hold to "
    "be beneficial, all are 1. So size and spread are judged apart. Here: the network of Fig. 1 "
    "over its first 10,000 steps (2,000 at the scale short); Jacobians of x̂ of one hidden layer to "
    "x̂ of the next, the batch's mean and deviation held fixed (without BN, from one nonlinearity's "
    "input to the next one's), of 16 training images.",
    criteria={
        "size": Criterion(
            "|log₂| of the root mean square of a Jacobian's singular values, mean over layers, "
            "images and all probes after the start, without BN − with BN",
            Margin(CLOSER, "doublings"),
            "A factor of 2: twice what an initial deviation of 0.1 (Xavier's for these layers) "
            "makes instead of 0.07, which the paper leaves open.",
        ),
        "spread": Criterion(
            "decades from the tenth to the ninetieth percentile of a Jacobian's singular values, "
            "mean over layers, images and all probes after the start, without BN − with BN",
            Margin(NARROWER, "decades"),
            f"A fifth of the {spread(DECILES):.2f} decades of a Gaussian matrix (quarter-circle "
            "law), whatever its scale; an orthogonal one has none.",
        ),
    },
    scales=plans(_arms, SEEDS, PROBED),
    measure=measure,
    controls={
        "training": controls.trains("each arm"),
        "size": controls.exists(
            "without BN, the distance of the root mean square from 1, in doublings,", CLOSER
        ),
    },
    group=Group.ARGUMENT,
    why="Batch normalization sets the size of the Jacobians; their spread is that of the weights, "
    "and Gaussian ones have singular values from 0 to 2 at any scale.",
    to_settle="Whether x̂ is uncorrelated, on which the derivation rests; orthogonal weights would "
    "be near 1 without batch normalization as well.",
    later={
        "Saxe et al. 2013": "What the paper refers to: in deep linear networks orthogonal weights "
        "keep learning times independent of depth; Gaussian ones scaled to keep the norm on "
        "average do not, for a few directions are amplified and most are lost.",
        "Pennington et al. 2017": "With Gaussian weights no network of any nonlinearity has all "
        "singular values near 1 at initialization; sigmoidal ones can with orthogonal weights, "
        "ReLU ones cannot.",
        "Yang et al. 2019": "Against the conjecture at initialization: gradients of deep networks "
        "with batch normalization explode with depth, squared by π ÷ (π − 1) = 1.47 a layer with "
        "ReLU, whatever the weights' scale.",
    },
)
