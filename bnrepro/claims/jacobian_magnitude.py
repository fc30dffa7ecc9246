"""§3.3, a conjecture: the layer Jacobians have singular values close to 1, first in their size."""

from typing import Any

import xarray as xr

from bnrepro.evidence import claim, controls
from bnrepro.evidence.arms import BATCH, NONE, SEEDS
from bnrepro.evidence.claim import Claim, Criterion, Finding, Group, Margin, plans
from bnrepro.evidence.grid import curves
from bnrepro.evidence.jacobians import FIG1_LR, PROBED, WHOLE, arms, checks, less, measured
from bnrepro.evidence.runs import Evidence

CLOSER = 1.0
"""Doublings."""


def effects(runs: xr.Dataset) -> dict[str, Any]:
    """The criterion's effect, of what is measured with and without batch normalization."""
    return {"size": less(runs.off)}


def measure(evidence: Evidence) -> Finding:
    """Both arms as in Fig. 1; at their own best learning rates; other networks."""
    runs = measured(evidence, WHOLE).sel(lr=FIG1_LR)
    compared = claim.PaperNumber(
        "root mean square singular value, mean over layers, images and training, with BN",
        "", 1.0, runs.rms.sel(norm=BATCH).mean("step", skipna=False).to_numpy(),
    )  # fmt: skip
    tuned, unspecified = checks(evidence, effects)
    return Finding(
        effects(runs),
        comparisons=(compared,) if evidence.scale == "paper" else (),
        exhibits=(
            curves(
                "size", "Root mean square singular value over training, means over images and "
                "layers", {"as in Fig. 1": runs.rms}, "step", "root mean square",
                levels=(0.5, 1.0, 2.0), log_y=True, more=" Dotted: 1, and a factor of 2.",
            ),
        ),
        tuned=tuned,
        unspecified=unspecified,
        controls={"training": WHOLE.final(evidence), "size": runs.off.sel(norm=NONE).isel(
            step=slice(1, None)).mean("step")},
    )  # fmt: skip


CLAIM = Claim(
    statement="With batch normalization the layer Jacobians are closer to 1 in size: in the root "
    "mean square of their singular values.",
    section="§3.3, a conjecture",
    paper_says="“We further conjecture that Batch Normalization may lead the layer Jacobians to "
    "have singular values close to 1, which is known to be beneficial for training (Saxe et al., "
    "2013).” If normalized inputs x̂ and ẑ of two consecutive layers were Gaussian and "
    "uncorrelated, and ẑ = Jx̂ linear, then I = JJᵀ. “The precise effect of Batch Normalization on "
    "gradient propagation remains an area of further study.” No experiment.",
    unspecified="What is close. Size is judged here, and how much singular values differ among "
    "each other in jacobian-isometry: a Gaussian 100×100 matrix of variance 1/n has the size 1 and "
    "values from 0 to 2. The network of Fig. 1 over its first 10,000 steps (2,000 at the scale "
    "short); Jacobians of x̂ of one hidden layer to x̂ of the next, the batch's mean and deviation "
    "held fixed (without BN, from one nonlinearity's input to the next one's), of 16 training "
    "images. Through the mean and the deviation of m images a row of J would be 1 − (1 + ẑ²)/m of "
    "itself: on average .033 less for 60 images. At the start the size with BN is known "
    "beforehand, so probes count from the first after it.",
    criteria={
        "size": Criterion(
            "|log₂| of the root mean square of a Jacobian's singular values, mean over layers, "
            "images and all probes after the start, without BN − with BN",
            Margin(CLOSER, "doublings"),
            "A factor of 2: twice what an initial deviation of 0.1 (Xavier's for these layers) "
            "makes instead of 0.07, which the paper leaves open.",
        )
    },
    scales=plans(arms, SEEDS, PROBED),
    measure=measure,
    controls={
        "training": controls.trains("each arm"),
        "size": controls.exists(
            "without BN, the distance of the root mean square from 1, in doublings,", CLOSER
        ),
    },
    group=Group.ARGUMENT,
    why="Without batch normalization the right scale of the weights brings the size to 1 as well, "
    "and training changes it in both arms.",
    to_settle="Deeper networks, in which sizes multiply.",
    later={
        "Saxe et al. 2013": "What the paper refers to: in deep linear networks orthogonal weights "
        "keep learning times independent of depth; Gaussian ones scaled to keep the norm on "
        "average do not, for a few directions are amplified and most are lost.",
        "Yang et al. 2019": "Against the conjecture at initialization: gradients of deep networks "
        "with batch normalization explode with depth, squared by π ÷ (π − 1) = 1.47 a layer with "
        "ReLU, whatever the weights' scale.",
    },
)
