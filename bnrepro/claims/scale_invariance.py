"""§3.3: what a normalized layer computes does not depend on the length of its weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bnrepro.evidence.arms import BATCH, GRID, NAMES, NONE, SEEDS
from bnrepro.evidence.claim import (
    SCALES,
    Check,
    Claim,
    Criterion,
    Finding,
    FollowUp,
    Plan,
    Variation,
)
from bnrepro.evidence.exhibits import Bars, Curves, Figure, Line, Table, over_seeds
from bnrepro.evidence.runs import Evidence, digits

STUDY = "scale-invariance"

# The claim identity-transform has the same arms without BN: together they are one run.
STUDIED = {
    BATCH: ("norm=batch", f"studies=[{STUDY}]"),
    NONE: ("norm=none", f"studies=[identity-transform,{STUDY}]"),
}
UNTRAINED, RELU = ("train.steps=1",), ("model.activation=relu",)

TINY, OWN = "tiny", "own"
"""The two ε of the study: next to none, and the one the network was trained with."""

QUANTITIES = {
    "output": "BN((aW)u) = BN(Wu)",
    "input_gradient": "∂BN((aW)u)/∂u = ∂BN(Wu)/∂u",
    "weight_gradient": "∂BN((aW)u)/∂(aW) = 1/a · ∂BN(Wu)/∂W",
}

HIDDEN = 3  # layers

DIGITS = 9.0
GROWTH_DIGITS = 4.0
WITHOUT = 0.1

DRAWN_ZERO = 1e-17

ARMS = {
    BATCH: STUDIED[BATCH],
    NONE: STUDIED[NONE],
    f"{BATCH} untrained": (*STUDIED[BATCH], *UNTRAINED),
    f"{NONE} untrained": (*STUDIED[NONE], *UNTRAINED),
    f"{BATCH} relu": (*STUDIED[BATCH], *RELU),
    f"{NONE} relu": (*STUDIED[NONE], *RELU),
    "torch": ("norm=torch", f"studies=[{STUDY}]"),
}


def _numbers(
    evidence: Evidence, arm: str, read: Callable[[dict[str, Any]], object]
) -> list[np.ndarray]:
    """What `read` takes from the study of each seed; what is no number there is infinite.

    A run that diverged has no study: infinite as well.
    """
    found = []
    for study in evidence.studies(arm, STUDY):
        value = np.array(read(study) if study else np.inf, dtype=np.float64)
        found.append(np.where(np.isnan(value), np.inf, value))
    return found


def scales(evidence: Evidence, arm: str) -> np.ndarray:
    """The values of a (A,); one of each sign where every run diverged."""
    found = _numbers(evidence, arm, lambda study: study["a"])
    return next((a for a in found if a.ndim), np.array([1.0, -1.0]))


def deviations(
    evidence: Evidence, arm: str, eps: str, quantity: str, *, flipped: bool = False
) -> np.ndarray:
    """Relative deviation from an identity, the largest of all hidden layers: (S, A).

    With `flipped`, from the identity with its sign turned.
    """

    def read(study: dict[str, Any]) -> object:
        layers = study["identities"][eps].values()
        return [(layer["flipped"] if flipped else layer)[quantity] for layer in layers]

    count = len(scales(evidence, arm))
    found = _numbers(evidence, arm, read)
    return np.stack([np.full(count, np.inf) if not v.ndim else v.max(0) for v in found])


def growth(evidence: Evidence, arm: str, eps: str, what: str) -> np.ndarray:
    """A number on the growth of each hidden layer's weights: (S, HIDDEN)."""
    layers = _numbers(
        evidence, arm, lambda study: [layer[what] for layer in study["growth"][eps].values()]
    )
    return np.stack([np.broadcast_to(each, HIDDEN) for each in layers])


def with_bn(
    evidence: Evidence, arm: str, eps: str = TINY, within: float = np.inf
) -> dict[str, np.ndarray]:
    """The effects that tell of the network with BN alone, for a and 1/a up to `within`."""
    a = scales(evidence, arm)
    positive = (a > 0) & (np.maximum(a, 1 / np.abs(a)) <= within)
    found = {
        name.replace("_", " "): digits(deviations(evidence, arm, eps, name)[:, positive].max(1))
        for name in QUANTITIES
    }
    turned = [deviations(evidence, arm, eps, name, flipped=True)[:, a < 0] for name in QUANTITIES]
    found["sign"] = digits(np.concatenate(turned, axis=1).max(1))
    found["growth"] = digits(growth(evidence, arm, eps, "growth_deviation").max(1))
    return found


def without(evidence: Evidence, arm: str) -> dict[str, np.ndarray]:
    """The effect that tells of the network without BN; nothing is told by one that diverged."""
    found = np.median(growth(evidence, arm, NONE, "growth_deviation"), axis=1)
    return {"growth without BN": np.where(evidence.diverged(arm), 0.0, found)}


def measure(evidence: Evidence) -> Finding:
    """The identities and the growth, of the trained networks; of others as checks."""
    return Finding(
        with_bn(evidence, BATCH) | without(evidence, NONE),
        exhibits=(_identities(evidence), _signs(evidence), _growing(evidence), _growths(evidence)),
        unspecified=Check(
            "ε as it was in training in the place of next to none, the network as it was "
            "initialized (after one step), ReLU in the place of the sigmoid, and PyTorch's own "
            "layer in the place of ours.",
            (
                Variation("ε of training", with_bn(evidence, BATCH, OWN)),
                Variation("ε of training, a from ½ to 2", with_bn(evidence, BATCH, OWN, 2.0)),
                *(
                    Variation(
                        choice,
                        with_bn(evidence, f"{BATCH} {name}") | without(evidence, f"{NONE} {name}"),
                    )
                    for name, choice in (("untrained", "not trained"), ("relu", "ReLU"))
                ),
                Variation("PyTorch's layer", with_bn(evidence, "torch")),
            ),
        ),
    )


def _eps(evidence: Evidence) -> float:
    """ε as it was in training."""
    return float(evidence.runs[BATCH][0].config()["norm"]["eps"])


def _identities(evidence: Evidence) -> Figure:
    a = scales(evidence, BATCH)
    order = np.argsort(a)[(a < 0).sum() :]
    labels = {TINY: "ε next to 0", OWN: f"ε = {_eps(evidence):g}"}
    panels = []
    for name, identity in QUANTITIES.items():
        lines: list[Line] = []
        for eps, label in labels.items():
            found = np.maximum(deviations(evidence, BATCH, eps, name), DRAWN_ZERO)
            lines.append(over_seeds(label, a[order], found[:, order]))
        panels.append(
            Curves(identity, "a", "relative deviation", lines, log_x=True, log_y=True,
                   levels=(10**-DIGITS,))
        )  # fmt: skip
    caption = (
        "How far each identity is missed, the worst of the hidden layers of the trained network: "
        f"median over seeds, band from least to greatest; what is exact is drawn at {DRAWN_ZERO:g}."
        " Dotted: what the criterion allows. The smaller the weights, "
        "the more weighs ε."
    )
    return Figure("identities", caption, panels)


def _signs(evidence: Evidence) -> Table:
    a = scales(evidence, BATCH)
    rows: list[list[str | float]] = []
    for name, identity in QUANTITIES.items():
        same, turned = (
            deviations(evidence, BATCH, TINY, name, flipped=flipped) for flipped in (False, True)
        )
        rows += [
            [identity, float(a[i]), *(float(np.median(each[:, i])) for each in (same, turned))]
            for i in np.flatnonzero(a < 0)
        ]
    return Table(
        "a < 0, ε next to 0: relative deviation from the identity as the paper writes it, and from "
        "the one with the sign of its right side turned (β apart). Medians over seeds.",
        ("identity", "a", "as written", "sign turned"),
        rows,
    )


def _conditions(evidence: Evidence) -> dict[str, tuple[str, str]]:
    """Arm and ε by what they are called."""
    return {
        f"{NAMES[BATCH]}, ε next to 0": (BATCH, TINY),
        f"{NAMES[BATCH]}, ε = {_eps(evidence):g}": (BATCH, OWN),
        NAMES[NONE]: (NONE, NONE),
    }


def _growing(evidence: Evidence) -> Figure:
    heights, ranges = {}, {}
    for label, (arm, eps) in _conditions(evidence).items():
        off = np.maximum(growth(evidence, arm, eps, "growth_deviation"), DRAWN_ZERO)
        found = digits(off)
        heights[label] = np.median(found, axis=0).tolist()
        ranges[label] = list(zip(found.min(0).tolist(), found.max(0).tolist(), strict=True))
    layers = [f"hidden layer {i + 1}" for i in range(HIDDEN)]
    panel = Bars("growth of ‖W‖² in 200 steps of SGD", "digits predicted", layers, heights, ranges)
    caption = (
        "To how many digits the growth of ‖W‖² is Σ lr²·‖∂L/∂W‖²: median over seeds, line from "
        f"least to greatest. The criterion asks for {GROWTH_DIGITS:g} next to ε = 0. Below 0 the "
        "deviation is larger than all that was predicted."
    )
    return Figure("growth", caption, (panel,))


def _growths(evidence: Evidence) -> Table:
    rows: list[list[str | float]] = []
    for label, (arm, eps) in _conditions(evidence).items():
        before, after, predicted, off, cosine = (
            np.median(growth(evidence, arm, eps, what), axis=0)
            for what in ("before", "after", "predicted", "growth_deviation", "max_cosine")
        )
        for i in np.flatnonzero(np.isfinite(after)):
            values = (before[i], after[i] - before[i], predicted[i] - before[i], off[i], cosine[i])
            rows.append([label, f"{i + 1}", *map(float, values)])
    return Table(
        "200 further steps of plain SGD, in float64: medians over seeds. The cosine is the largest "
        "of all steps, of the angle between weights and gradient.",
        ("network", "hidden layer", "‖W‖² before", "growth", "Σ lr²·‖∂L/∂W‖²",
         "deviation ÷ predicted growth", "largest |cosine|"),
        rows,
    )  # fmt: skip


ROUNDING = (
    "Nine digits. A sum of up to 784 products, rounded at 10⁻¹⁶ each, is good to 10⁻¹³; the means "
    "that are taken away from it, of values and of gradients, may be a thousand times what is "
    "left. An ε of 10⁻⁵ beside variances of 10⁻² to 10 shows in the third to the sixth digit, and "
    "for small a in the first."
)

CLAIM = Claim(
    statement="With batch normalization a layer's output and its Jacobian do not depend on the "
    "scale of its weights, and larger weights get smaller gradients.",
    section="§3.3",
    paper_says="For a scalar a, BN(Wu) = BN((aW)u), ∂BN((aW)u)/∂u = ∂BN(Wu)/∂u and "
    "∂BN((aW)u)/∂(aW) = 1/a · ∂BN(Wu)/∂W; from which the paper expects that BN stabilizes the "
    "growth of parameters. No experiment.",
    unspecified="That ε is to be 0 and a above 0: with a < 0 the sign turns. Here: the layers of "
    "the network of Fig. 1 after 10,000 steps (2,000 at the scale short), one training batch, "
    "gradients of the network's own loss, a from 10⁻³ to 10³, in float64, with ε = 2·10⁻³⁰⁸ and "
    "with ε as in training. From the identities it follows that ∂L/∂W stands at a right angle to "
    "W, so that plain SGD makes ‖W‖² grow by lr²·‖∂L/∂W‖² a step, neither more nor less: measured "
    "over 200 more steps, with the network without BN for comparison.",
    criteria=(
        *(
            Criterion(
                name.replace("_", " "),
                f"digits to which {identity} holds: -log₁₀ of the relative deviation, the largest "
                "of all hidden layers and all a > 0",
                "digits",
                DIGITS,
                ROUNDING,
            )
            for name, identity in QUANTITIES.items()
        ),
        Criterion(
            "sign",
            "digits to which all three hold for a = -1 and a = -2 with the sign of the right side "
            "turned",
            "digits",
            DIGITS,
            "The same rounding. The paper says 'for a scalar a'; the deviation and what is divided "
            "by it keep no sign of a, so that x̂ turns with it.",
        ),
        Criterion(
            "growth",
            "digits to which the growth of ‖W‖² is Σ lr²·‖∂L/∂W‖², with BN and ε next to 0: -log₁₀ "
            "of the deviation in units of that sum, the largest of all hidden layers",
            "digits",
            GROWTH_DIGITS,
            "Four digits. The growth may be but 10⁻⁸ of ‖W‖²; of sixteen digits eight are left, "
            "and half of these are allowed to the rounding of 200 steps.",
        ),
        Criterion(
            "growth without BN",
            "deviation of the growth of ‖W‖² from Σ lr²·‖∂L/∂W‖², in units of that sum, without "
            "BN: the median of the hidden layers",
            "times the sum",
            WITHOUT,
            "A tenth: a thousand times what is allowed with BN. Else the growth is no mark of "
            "batch normalization. A single step adds -2·lr·⟨W, ∂L/∂W⟩, which where the cosine is "
            "0.01 is a hundred times lr²·‖∂L/∂W‖².",
        ),
    ),
    scales={scale: Plan(SEEDS[scale], ARMS, GRID[scale]) for scale in SCALES},
    measure=measure,
    later=(
        FollowUp(
            "van Laarhoven 2017",
            "1706.05350",
            "It follows that weight decay does not regularize a normalized layer: it only keeps "
            "‖W‖ small, and with it the effective learning rate lr/‖W‖² high. The paper decays "
            "the weights of its ImageNet networks.",
        ),
        FollowUp(
            "Arora et al. 2018",
            "1812.03981",
            "The gradient stands at a right angle to the weights and shrinks as they grow, so that "
            "gradient descent converges at any fixed learning rate of the normalized layers: the "
            "growth, which never turns back, is what stabilizes.",
        ),
        FollowUp(
            "Hoffer et al. 2018",
            "1803.01814",
            "The norm only sets the step size, the direction is what is learned; with the step "
            "size corrected for it, weight decay can be done without.",
        ),
    ),
)
