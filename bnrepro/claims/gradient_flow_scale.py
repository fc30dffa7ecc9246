"""§1, §3.3: with batch normalization gradients depend less on the scale of the initial weights."""

import numpy as np

from bnrepro.evidence import controls
from bnrepro.evidence.arms import NONE, SEEDS
from bnrepro.evidence.claim import Check, Claim, Criterion, Expected, Finding, Group, Margin, plans
from bnrepro.evidence.gradients import DEPTHS, STDS, TIMES, WORDS, ends, less, rectified, sigmoids
from bnrepro.evidence.grid import Array, curves
from bnrepro.evidence.runs import Evidence


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    shallow, *_, deepest = DEPTHS[scale]
    sigmoid = sigmoids((shallow, deepest), STDS[scale])
    return sigmoid.arms(*WORDS[scale]) | rectified((deepest,)).arms(*WORDS[scale])


def span(gradients: Array, axis: str) -> Array:
    """Decades from the least to the greatest along an axis."""
    with np.errstate(invalid="ignore"):  # of two gradients of nothing
        decades = gradients.max(axis, skipna=False) - gradients.min(axis, skipna=False)
    return decades.fillna(np.inf)


def measure(evidence: Evidence) -> Finding:
    """The first and the last layer's gradient over all initial deviations."""
    shallow, *_, deepest = DEPTHS[evidence.scale]
    sigmoid = ends(evidence, sigmoids((shallow, deepest), STDS[evidence.scale]))
    relu = ends(evidence, rectified((deepest,))).sel(depth=deepest, drop=True)
    spans = span(sigmoid, "std")
    first = spans.sel(depth=deepest, layer=0)
    return Finding(
        {"sigmoids": less(first), "ReLUs": less(span(relu.sel(layer=0), "times"))},
        exhibits=(
            curves(
                "scale", "The first layer's gradient, before the first step",
                {f"{deepest} layers of sigmoids": 10 ** sigmoid.sel(depth=deepest, layer=0)},
                "std", "norm of the gradient", log_y=True,
            ),
            curves(
                "rectified", "The first layer's gradient, before the first step",
                {f"{deepest} layers of rectified units": 10 ** relu.sel(layer=0)},
                "times", "norm of the gradient", log_x=True, log_y=True,
                more=" Initial weights are as many times He's.",
            ),
        ),
        unspecified=Check(
            "The number of layers, and which layer's gradient.",
            {
                f"{shallow} hidden layers": {"sigmoids": less(spans.sel(depth=shallow, layer=0))},
                "the last hidden layer's gradient": {
                    "sigmoids": less(spans.sel(depth=deepest, layer=-1)),
                    "ReLUs": less(span(relu.sel(layer=-1), "times")),
                },
            },
        ),
        controls={"dependence": first.sel(norm=NONE)},
    )  # fmt: skip


CLAIM = Claim(
    statement="With batch normalization gradients depend less on the scale of the initial weights.",
    section="§1, §3.3",
    paper_says="Batch normalization has a beneficial effect on the gradient flow through the "
    "network, by reducing the dependence of gradients on the scale of the parameters or of their "
    "initial values (§1). Of a normalized layer the scale of the weights does not affect the "
    "Jacobian nor the propagation of gradients, and larger weights get smaller gradients (§3.3).",
    unspecified="All of the measurement. Here gradients are those of the weights, by layer, of one "
    "mini-batch of 60, before the first step; the first layer is the first of 100 × 100 weights, "
    "which is the second. Networks of 3 and 12 hidden layers of 100 sigmoids, otherwise that of "
    "Fig. 1, initial deviations from 0.02 to 2.8; 12 layers of rectified units from "
    f"{', '.join(f'{of:g}' for of in TIMES)} times He's initial weights.",
    criteria={
        "sigmoids": Criterion(
            "from the least to the greatest norm of the first layer's gradient over all initial "
            "deviations, in the deepest network of sigmoids, without BN − with BN",
            Margin(1.0, "decades"),
            "A factor of 10. With weights a times as large a normalized layer's gradient is 1/a of "
            "what it was by §3.3, and the output layer brings it back. Without, each layer on the "
            "way multiplies it by a, until sigmoids saturate.",
        ),
        "ReLUs": Criterion(
            "the same of rectified units, over multiples of He's initial weights",
            Margin(1.0, "decades"),
            "The same factor. Rectified units do not saturate: without BN the eleven matrices from "
            "there to the output multiply it by a each.",
        ),
    },
    scales=plans(_arms, SEEDS),
    measure=measure,
    controls={
        "dependence": controls.exists(
            "the span of the first layer's gradient without BN, in decades,", 1.0
        )
    },
    group=Group.ARGUMENT,
    expected=Expected("REPRODUCED", 15.0, known=True),
    why="It follows from §3.3's algebra, and would fail only by ε or by the output layer.",
    to_settle="Whether the dependence matters once a good scale is known: init-robustness.",
    later={
        "Schoenholz et al. 2017": "Without normalization there is a scale of the initial weights "
        "at which gradients neither vanish nor explode, and there very deep networks train."
    },
)
