"""§1: with batch normalization gradients of rectified units are more even over the layers."""

import numpy as np

from bnrepro.evidence import controls
from bnrepro.evidence.arms import SEEDS
from bnrepro.evidence.claim import Check, Claim, Criterion, Expected, Finding, Group, Margin, plans
from bnrepro.evidence.gradients import (
    TIMES,
    WORDS,
    by_layer,
    ends,
    less,
    of_layers,
    rectified,
    uneven,
)
from bnrepro.evidence.grid import Array, best, curves
from bnrepro.evidence.rectified_arms import DEPTH
from bnrepro.evidence.rectified_arms import WORDS as TRAINED
from bnrepro.evidence.rectified_arms import rectified as trained
from bnrepro.evidence.runs import Evidence
from bnrepro.evidence.tuning import both_tuned

HE = 1.0
FARTHER = {"smoke": (), "short": (24,), "paper": (6, 24)}
"""Other numbers of layers, at He's initial weights."""


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    words, deepest = WORDS[scale], DEPTH[scale]
    start = rectified((deepest,)).arms(*words) | rectified(FARTHER[scale], (HE,)).arms(*words)
    return start | trained(scale).arms(*TRAINED[scale])


def measure(evidence: Evidence) -> Finding:
    """The gradients of the initial weights, and those of training at every learning rate."""
    scale, deepest, of = evidence.scale, DEPTH[evidence.scale], trained(evidence.scale)
    start = uneven(ends(evidence, rectified((deepest,)))).sel(depth=deepest)
    runs = of.runs(evidence).sel(depth=deepest, drop=True)
    signed = of.over_training(
        evidence, lambda arm: [(t, v[:, 0] - v[:, -1]) for t, v in of_layers(evidence, arm)]
    ).sel(depth=deepest, drop=True)

    def during(lr: Array) -> dict[str, Array]:
        with np.errstate(invalid="ignore"):  # of no probe at all
            chosen = abs(signed.sel(lr=lr)).mean("step", skipna=False)
        return {"trained": less(chosen.fillna(np.inf))}

    lr = best(runs.validation)
    choices = {
        f"{of_he:g} times He's": {"start": less(start.sel(times=of_he))}
        for of_he in TIMES
        if of_he != HE
    }
    for depth in FARTHER[scale]:
        other = uneven(ends(evidence, rectified((depth,), (HE,)))).isel(depth=0, times=0)
        choices[f"{depth} layers"] = {"start": less(other)}
    return Finding(
        {"start": less(start.sel(times=HE)), **during(lr)},
        exhibits=(
            by_layer(
                evidence, {f"{deepest} ReLU layers, He's weights": rectified((deepest,), (HE,))}
            ),
            curves(
                "training",
                "The second layer's gradient ÷ the last one's, each arm at its best learning rate",
                {f"{deepest} layers": 10 ** signed.sel(lr=lr)}, "step", "first gradient ÷ last",
                levels=(1.0,), log_y=True,
            ),
        ),
        tuned=both_tuned(runs, during),
        unspecified=Check("The scale of the initial weights, and the number of layers.", choices),
        controls={"training": runs.test.sel(lr=lr), "rates": runs.validation},
    )  # fmt: skip


CLAIM = Claim(
    statement="With batch normalization the gradients of a deep network of rectified units depend "
    "less on how many layers they come through.",
    section="§1",
    paper_says="Batch normalization has a beneficial effect on the gradient flow through the "
    "network, by reducing the dependence of gradients on the scale of the parameters or of their "
    "initial values. The networks of §4.2 have rectified units. No measurement.",
    unspecified="All of it. Here gradients are those of the weights, by layer, of one mini-batch "
    "of 60; the first of the hidden layers of 100 × 100 weights, which is the second, is set "
    "beside the last. 12 hidden layers of 100 rectified units from He's initial weights, otherwise "
    "the network of Fig. 1; for the second criterion after 500 to 2,000 steps of training. By a "
    "pilot the best learning rates are near 0.03 without batch normalization.",
    criteria={
        "start": Criterion(
            "how far the first layer's gradient is from as large as the last one's, before the "
            "first step, without BN − with BN",
            Margin(0.1, "decades"),
            "A factor of 1.26. With BN gradients of rectified units are known to grow, over ten "
            "layers 6.8 times; without, He's initial weights keep them.",
        ),
        "trained": Criterion(
            "the same while training, mean over all probes, each arm at its best learning rate",
            Margin(0.1, "decades"),
            "The same factor. At the start the theory decides; what training makes of it is open.",
        ),
    },
    scales=plans(_arms, SEEDS),
    measure=measure,
    controls={
        "training": controls.trains("each arm at its best learning rate"),
        "rates": controls.interior(),
    },
    group=Group.ARGUMENT,
    expected=Expected("OPPOSITE", -0.8, known=True),
    why="From proper initial weights gradients of rectified units hardly change from layer to "
    "layer, and batch normalization itself makes them explode at the start.",
    to_settle="How deep networks can be with and without batch normalization before they no longer "
    "train.",
    later={
        "Yang et al. 2019": "Without skip connections batch normalization itself makes gradients "
        "explode at initialization, whatever the scale of the weights: with ReLUs the squared "
        "gradient grows by π/(π − 1) = 1.467 a layer toward the input."
    },
)
