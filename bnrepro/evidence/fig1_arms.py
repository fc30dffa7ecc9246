"""The network of Fig. 1 at several learning rates, as arms that two claims share."""

import xarray as xr

from bnrepro.evidence.arms import FIG1, NORMS, per_scale
from bnrepro.evidence.grid import Array, grid, steps_to, times_fewer

TRAINED = 0.9
"""A linear classifier of MNIST has more: a network that never gets there has not trained."""

ARMS = grid("as in Fig. 1", norm=NORMS)

LRS = per_scale((0.07, 1.0), (0.07, 0.3, 1.0, 3.0))
AT_LRS = {
    scale: grid(
        norm=NORMS,
        lr={lr: (f"optimizer.lr={lr}", "probe.every=0") if lr > lrs[0] else () for lr in lrs},
    )
    for scale, lrs in LRS.items()
}
"""For as many steps: at the least of the rates, the experiment's own, they are the runs
of Fig. 1."""


def arms(scale: str) -> dict[str, tuple[str, ...]]:
    """The overrides of both grids."""
    return ARMS.arms(*FIG1[scale]) | AT_LRS[scale].arms(*FIG1[scale])


def steps(runs: xr.Dataset) -> Array:
    """Steps (norm, seed) to the highest validation accuracy without BN, `TRAINED` at least."""
    target = runs.curve.sel(norm="none").max("step").clip(TRAINED)
    return steps_to(runs.curve, target, runs.diverged)


def speed(runs: xr.Dataset) -> Array:
    """Doublings that BN takes off these steps: (seed, bound), from runs (norm, seed)."""
    slow, quick = (steps(runs).sel(norm=norm) for norm in NORMS)
    return times_fewer(slow, quick, runs.step[-1].item() + 1)
