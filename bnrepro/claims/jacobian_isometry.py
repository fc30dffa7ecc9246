"""§3.3, a conjecture: the layer Jacobians have singular values close to 1, so close together.

At Fig. 1's learning rate there is no difference. At each arm's best one the singular values without
batch normalization come to spread over 1.5 decades more: it keeps a large rate from driving them
apart, rather than drawing them together. The derivation's premise does not hold: units of a layer
correlate at 0.3 where it takes them for uncorrelated.
"""

from typing import Any

import xarray as xr

from bnrepro.evidence import controls
from bnrepro.evidence.arms import BATCH, NONE, SEEDS
from bnrepro.evidence.claim import Claim, Criterion, Finding, Group, Margin, plans
from bnrepro.evidence.grid import curves
from bnrepro.evidence.jacobians import (
    DECILES,
    FIG1_LR,
    PROBED,
    WHOLE,
    arms,
    checks,
    less,
    measured,
    spectra,
    spread,
)
from bnrepro.evidence.runs import Evidence

NARROWER = 0.2
"""Decades."""

UNCORRELATED = 0.1
"""A root mean square correlation; that of independent units over 500 images is .045."""


def effects(runs: xr.Dataset) -> dict[str, Any]:
    """Both criteria's effects, of what is measured with and without batch normalization."""
    after = runs.correlation.sel(norm=BATCH, drop=True).isel(step=slice(1, None))
    correlation = after.fillna(1.0).mean("step")  # none of a diverged network
    return {"spread": less(runs.spread), "premise": UNCORRELATED - correlation}


def measure(evidence: Evidence) -> Finding:
    """Both arms as in Fig. 1; at their own best learning rates; other networks."""
    runs = measured(evidence, WHOLE).sel(lr=FIG1_LR)
    tuned, unspecified = checks(evidence, effects)
    return Finding(
        effects(runs),
        exhibits=(
            spectra(evidence),
            curves(
                "training", "Over training, means over images and layers",
                {"Spread of the singular values": runs.spread,
                 "Correlation of a layer's units": runs.correlation},
                "step", ("decades", "root mean square"), levels=(0.0,),
                more=f" A Gaussian matrix spreads over {spread(DECILES):.2f} decades, an "
                "orthogonal one over none.",
            ),
        ),
        tuned=tuned,
        unspecified=unspecified,
        controls={
            "training": WHOLE.final(evidence),
            "spread": runs.spread.sel(norm=NONE).isel(step=slice(1, None)).mean("step"),
        },
    )  # fmt: skip


CLAIM = Claim(
    statement="With batch normalization the singular values of the layer Jacobians are closer to "
    "each other.",
    section="§3.3, a conjecture",
    paper_says="“We further conjecture that Batch Normalization may lead the layer Jacobians to "
    "have singular values close to 1, which is known to be beneficial for training (Saxe et al., "
    "2013).” The derivation: if normalized inputs x̂ and ẑ of two consecutive layers were Gaussian "
    "and uncorrelated, and ẑ = Jx̂ linear, then I = Cov[ẑ] = J Cov[x̂] Jᵀ = JJᵀ. “In reality, the "
    "transformation is not linear, and the normalized values are not guaranteed to be Gaussian nor "
    "independent.” No experiment.",
    unspecified="What is close. How much singular values differ among each other is judged here, "
    "and their size in jacobian-magnitude. The network of Fig. 1 over its first 10,000 steps (at "
    "the scale short 2,000); Jacobians of x̂ of one hidden layer to x̂ of the next, the batch's mean "
    "and deviation held fixed (without BN, from one nonlinearity's input to the next one's), of 16 "
    "training images; correlations over 500 training images.",
    criteria={
        "spread": Criterion(
            "decades from the tenth to the ninetieth percentile of a Jacobian's singular values, "
            "mean over layers, images and all probes after the start, without BN − with BN",
            Margin(NARROWER, "decades"),
            f"A fifth of the {spread(DECILES):.2f} decades of a Gaussian matrix (quarter-circle "
            "law), whatever its scale; an orthogonal one has none.",
        ),
        "premise": Criterion(
            f"{UNCORRELATED:g} − the root mean square correlation of two units of one layer's x̂ "
            "with BN, mean over the hidden layers and all probes after the start",
            Margin(0.0, "correlation"),
            "The derivation takes them for uncorrelated. A hundred units with correlations of 0.1 "
            "already have covariances as far from I as I is from nothing.",
            indifference=0.02,
        ),
    },
    scales=plans(arms, SEEDS, PROBED),
    measure=measure,
    controls={
        "training": controls.trains("each arm"),
        "spread": controls.exists("without BN, the spread in decades", NARROWER),
    },
    group=Group.ARGUMENT,
    why="Batch normalization sets the size of the Jacobians; their spread is that of the weights, "
    "and Gaussian ones have singular values from 0 to 2 at any scale.",
    to_settle="Normalization that decorrelates as well; orthogonal weights would be near 1 without "
    "batch normalization.",
    later={
        "Saxe et al. 2013": "What the paper refers to: in deep linear networks orthogonal weights "
        "keep learning times independent of depth; Gaussian ones scaled to keep the norm on "
        "average do not, for a few directions are amplified and most are lost.",
        "Pennington et al. 2017": "With Gaussian weights no network of any nonlinearity has all "
        "singular values near 1 at initialization; sigmoidal ones can with orthogonal weights, "
        "ReLU ones cannot.",
        "Huang et al. 2018": "Batch normalization that decorrelates as well conditions networks "
        "better, and trains them faster.",
    },
)
