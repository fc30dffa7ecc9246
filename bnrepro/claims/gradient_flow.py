"""With batch normalization gradients vanish less on their way back through a deep network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bnrepro.evidence import arms as shared
from bnrepro.evidence.arms import BATCH, NAMES, NORMS, SEEDS, norms
from bnrepro.evidence.claim import (
    SCALES,
    SMOKE,
    Check,
    Claim,
    Criterion,
    Finding,
    FollowUp,
    Plan,
    Variation,
)
from bnrepro.evidence.deep_arms import DEPTHS, best_arm, deep, hidden
from bnrepro.evidence.deep_arms import WORDS as DEEP
from bnrepro.evidence.exhibits import Curves, Figure, Line, Table, over_seeds
from bnrepro.evidence.runs import Evidence

ONE_STEP = (
    "train.steps=1", "train.eval_every=1", "probe.every=1", "probe.size=100", "tensorboard=false",
)  # fmt: skip
"""The gradient that a first step leaves is that of the initial weights."""

WORDS = {
    "smoke": ("experiment=fig1", *shared.SMOKE, *ONE_STEP),
    "short": ("experiment=fig1", *ONE_STEP),
    "paper": ("experiment=fig1", *ONE_STEP),
}

SMALL, FITTING, LARGE = 0.02, 0.07, 0.7
DEVIATIONS = {
    "smoke": (FITTING, LARGE),
    "short": (SMALL, FITTING, LARGE),
    "paper": (SMALL, FITTING, LARGE),
}
"""Initial standard deviations, Fig. 1's in the middle."""

RELU, TANH = "ReLU, He", "tanh, Xavier"
OTHERS = {
    RELU: ("model.activation=relu", "init=he", "init.scale=1"),
    TANH: ("model.activation=tanh", "init=xavier", "init.scale=1"),
}
"""Other nonlinearities, each with the initial weights that were made for it."""

RELU_LAYERS = {"smoke": 6, "short": 24, "paper": 24}
"""So deep that a growth by the layer can be told from what becomes of it at the ends."""

EXPLOSION = math.pi / (math.pi - 1)
"""By which a squared gradient grows a layer, in deep networks of ReLUs with batch normalization at
initialization (Yang et al. 2019)."""

FIRST = 2
"""The first hidden layer of 100 × 100 weights, as all later ones are: the one before has 784
inputs, and its gradient's norm is another matter."""


def initial(norm: str, depth: int, deviation: float) -> str:
    """The name of an arm that takes one step from the initial weights."""
    return f"{norm} layers={depth} init={deviation:g}"


def other(norm: str, depth: int, what: str) -> str:
    """The name of such an arm of another nonlinearity."""
    return f"{norm} layers={depth} {what}"


def depths(scale: str) -> Sequence[int]:
    """The numbers of hidden layers of which there are gradients of the initial weights."""
    return DEPTHS[scale][-1:] if scale == SMOKE else DEPTHS[scale]


def others(scale: str) -> list[tuple[str, int]]:
    """Which other nonlinearities there are, at which depths."""
    deepest = [] if scale == SMOKE else [(what, DEPTHS[scale][-1]) for what in OTHERS]
    return [*deepest, (RELU, RELU_LAYERS[scale])]


def _scale(scale: str) -> Plan:
    arms = deep(scale).arms(*DEEP[scale])
    for depth in depths(scale):
        for deviation in DEVIATIONS[scale]:
            own = norms((*WORDS[scale], hidden(depth), f"init.scale={deviation}"))
            arms |= {initial(norm, depth, deviation): words for norm, words in own.items()}
    for what, depth in others(scale):
        own = norms((*WORDS[scale], hidden(depth), *OTHERS[what]))
        arms |= {other(norm, depth, what): words for norm, words in own.items()}
    return Plan(SEEDS[scale], arms)


def by_layer(evidence: Evidence, arm: str, depth: int) -> np.ndarray:
    """The gradient's norm of every hidden layer from `FIRST` on, of the initial weights: (S, L)."""
    names = [f"linear{layer}/gradient_norm" for layer in range(FIRST, depth + 1)]
    of_layers = evidence.probed_each(arm, names)
    return np.array([[values[0] for _, values in of_seeds] for of_seeds in of_layers], np.float64).T


def decades(values: np.ndarray) -> np.ndarray:
    """Logarithms to the base of 10, elementwise; a gradient of nothing has vanished without end."""
    with np.errstate(divide="ignore"):
        result: np.ndarray = np.log10(values)
    return result


def uneven(gradients: np.ndarray) -> np.ndarray:
    """How far the first layer's gradient (…, L) is from as large as the last one's, in decades."""
    return without_nan(np.abs(decades(gradients[..., 0]) - decades(gradients[..., -1])))


def without_nan(values: np.ndarray) -> np.ndarray:
    """What is no number, as infinite as any: two gradients of nothing have no ratio."""
    result: np.ndarray = np.where(np.isnan(values), np.inf, values)
    return result


def less(none: np.ndarray, batch: np.ndarray) -> np.ndarray:
    """By how much the second is less; two infinities do not differ."""
    with np.errstate(invalid="ignore"):
        result: np.ndarray = np.where(none == batch, 0.0, none - batch)
    return result


def at_first(evidence: Evidence, none: str, batch: str, depth: int) -> np.ndarray:
    """How much less uneven the gradients of the initial weights are with the second arm: (S,)."""
    return less(*(uneven(by_layer(evidence, arm, depth)) for arm in (none, batch)))


def over_deviations(evidence: Evidence, norm: str) -> np.ndarray:
    """The gradients' norms of the deepest network, from every initial deviation: (S, D, L)."""
    depth = DEPTHS[evidence.scale][-1]
    found = [
        by_layer(evidence, initial(norm, depth, deviation), depth)
        for deviation in DEVIATIONS[evidence.scale]
    ]
    return np.stack(found, axis=1)


def span(values: np.ndarray) -> np.ndarray:
    """From the least to the greatest over all deviations, (S, D) -> (S,)."""
    with np.errstate(invalid="ignore"):
        return without_nan(values.max(1) - values.min(1))


def training(evidence: Evidence, arm: str, depth: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of every seed, the steps (P,) and the first layer's gradient ÷ the last one's (P,)."""
    first, last = evidence.probed_each(arm, [f"linear{k}/gradient_norm" for k in (FIRST, depth)])
    with np.errstate(divide="ignore", invalid="ignore"):
        return [
            (steps, over.astype(np.float64) / under)
            for (steps, over), (_, under) in zip(first, last, strict=True)
        ]


def in_training(evidence: Evidence, depth: int) -> np.ndarray:
    """How much less uneven gradients are over training with batch normalization: (S,)."""
    found = []
    for norm in NORMS:
        ratios = [
            ratios for _, ratios in training(evidence, best_arm(evidence, norm, depth), depth)
        ]
        # A run that diverged before its first probe has no gradient to tell of.
        found.append(
            np.array([
                np.median(without_nan(np.abs(decades(own)))) if len(own) else np.inf
                for own in ratios
            ])
        )  # fmt: skip
    return less(*found)


def effects(evidence: Evidence, depth: int) -> dict[str, np.ndarray]:
    """The effects that there are at each depth."""
    arms = [initial(norm, depth, FITTING) for norm in NORMS]
    return {
        "depth": at_first(evidence, arms[0], arms[1], depth),
        "training": in_training(evidence, depth),
    }


def measure(evidence: Evidence) -> Finding:
    """The gradients of the initial weights, and those of training."""
    depth = DEPTHS[evidence.scale][-1]
    spans = [span(decades(over_deviations(evidence, norm)[..., 0])) for norm in NORMS]
    return Finding(
        effects(evidence, depth) | {"scale": less(*spans)},
        exhibits=(_layers(evidence), _depths(evidence), _table(evidence), _training(evidence)),
        fair=_fair(evidence),
        unspecified=_unspecified(evidence),
    )


def _fair(evidence: Evidence) -> Check:
    depth, chosen = DEPTHS[evidence.scale][-1], {}
    for norm in NORMS:
        means = uneven(over_deviations(evidence, norm)).mean(0)
        chosen[norm] = DEVIATIONS[evidence.scale][int(means.argmin())]
    arms = [initial(norm, depth, deviation) for norm, deviation in chosen.items()]
    said = ", ".join(f"{NAMES[norm]} {deviation:g}" for norm, deviation in chosen.items())
    return Check(
        "Over training both arms are at their own best learning rate. Here each is, before the "
        "first step, at the initial deviation that makes its own gradients the most even: what a "
        "well-chosen scale does for them without batch normalization.",
        (Variation(said, {"depth": at_first(evidence, arms[0], arms[1], depth)}),),
    )


def _unspecified(evidence: Evidence) -> Check:
    deepest, found = DEPTHS[evidence.scale][-1], {}
    for depth in depths(evidence.scale)[:-1]:
        found[f"{depth} hidden layers"] = effects(evidence, depth)
    spans = [
        span(decades(gradients[..., 0]) - decades(gradients[..., -1]))
        for gradients in (over_deviations(evidence, norm) for norm in NORMS)
    ]
    found["the ratio of two layers in place of the gradient itself"] = {"scale": less(*spans)}
    for what, depth in others(evidence.scale):
        arms = [other(norm, depth, what) for norm in NORMS]
        choice = what if depth == deepest else f"{what}, {depth} hidden layers"
        found[choice] = {"depth": at_first(evidence, arms[0], arms[1], depth)}
    return Check(
        "The number of layers, what of the gradients is looked at, and other nonlinearities with "
        "the initial weights made for them. Of deep networks of ReLUs it is known that batch "
        "normalization makes their gradients explode at initialization: by π/(π − 1) a layer, "
        "squared.",
        tuple(Variation(choice, values) for choice, values in found.items()),
        (_explosion(evidence), _growth(evidence)),
    )


def growth(evidence: Evidence, norm: str) -> np.ndarray:
    """By which the squared gradient grows a layer toward the input: a fit over all layers, (S,)."""
    depth = RELU_LAYERS[evidence.scale]
    squares = 2 * np.log(by_layer(evidence, other(norm, depth, RELU), depth))
    slopes = np.polyfit(np.arange(squares.shape[1]), squares.T, 1)[0]
    result: np.ndarray = np.exp(-slopes)
    return result


def _explosion(evidence: Evidence) -> Figure:
    depth = RELU_LAYERS[evidence.scale]
    layers = np.arange(FIRST, depth + 1)
    lines = []
    for norm in NORMS:
        squares = by_layer(evidence, other(norm, depth, RELU), depth) ** 2
        lines.append(over_seeds(NAMES[norm], layers, squares / squares[:, -1:]))
    expected = EXPLOSION ** (depth - layers)
    lines.append(
        Line("with BN, π/(π − 1) a layer", layers, expected, points=True, like=NAMES[BATCH])
    )
    panel = Curves(f"{depth} layers of ReLUs", "hidden layer", "squared gradient ÷ the last one",
                   lines, log_y=True)  # fmt: skip
    caption = "Gradients of the initial weights by layer, ReLU and He's initial weights."
    return Figure("explosion", caption, (panel,))


def _growth(evidence: Evidence) -> Table:
    rows = []
    for norm, expected in zip(NORMS, (1.0, EXPLOSION), strict=True):
        found = growth(evidence, norm)
        median, low, high = float(np.median(found)), float(found.min()), float(found.max())
        rows.append((NAMES[norm], expected, median, low, high))
    return Table(
        f"{RELU_LAYERS[evidence.scale]} layers of ReLUs: growth of the squared gradient a layer "
        "toward the input, by a straight line through the logarithms of all layers.",
        ("arm", "expected of wide networks", "median over seeds", "least", "greatest"),
        rows,
    )


def _on_one_scale(panels: Sequence[Curves]) -> list[Curves]:
    """The panels with the same logarithmic axis, which holds all of them."""
    drawn = [line for panel in panels for line in panel.lines]
    ends = [end for line in drawn for end in (line.low, line.high) if end is not None]
    found = decades(np.concatenate([*ends, [1.0]]))
    there = found[np.isfinite(found)]
    limits = (10 ** (there.min() - 0.5), 10 ** (there.max() + 0.5))
    return [replace(panel, log_y=True, limits=limits) for panel in panels]


def _layers(evidence: Evidence) -> Figure:
    depth = DEPTHS[evidence.scale][-1]
    layers = list(range(FIRST, depth + 1))
    panels = [
        Curves(
            f"initial deviation {deviation:g}", "hidden layer", "norm of the gradient",
            [
                over_seeds(
                    NAMES[norm], layers, by_layer(evidence, initial(norm, depth, deviation), depth)
                )
                for norm in NORMS
            ],
        )
        for deviation in DEVIATIONS[evidence.scale]
    ]  # fmt: skip
    return Figure(
        "layers",
        f"Gradients of the initial weights of {depth} layers of sigmoids, from the second layer "
        "on: median over seeds, band from least to greatest.",
        _on_one_scale(panels),
    )


def _depths(evidence: Evidence) -> Figure:
    among, panels = list(depths(evidence.scale)), []
    for norm in NORMS:
        lines = []
        for deviation in DEVIATIONS[evidence.scale]:
            found = [by_layer(evidence, initial(norm, d, deviation), d) for d in among]
            ratios = np.stack([gradients[:, 0] / gradients[:, -1] for gradients in found], axis=1)
            lines.append(over_seeds(f"initial deviation {deviation:g}", among, ratios))
        panels.append(
            Curves(NAMES[norm], "hidden layers", "first gradient ÷ last", lines, levels=(1.0,))
        )
    return Figure(
        "depths",
        "The gradient of the second hidden layer ÷ that of the last, of the initial weights, over "
        "the number of layers.",
        _on_one_scale(panels),
    )


def _table(evidence: Evidence) -> Table:
    rows = []
    for norm in NORMS:
        medians = np.median(over_deviations(evidence, norm), axis=0)
        for deviation, gradients in zip(DEVIATIONS[evidence.scale], medians, strict=True):
            first, last = float(gradients[0]), float(gradients[-1])
            rows.append((NAMES[norm], deviation, first, last))
    return Table(
        f"Gradients of the initial weights of {DEPTHS[evidence.scale][-1]} layers: medians over "
        "seeds.",
        ("arm", "initial deviation", "second hidden layer", "last hidden layer"),
        rows,
    )


def _training(evidence: Evidence) -> Figure:
    panels = []
    for depth in (DEPTHS[evidence.scale][0], DEPTHS[evidence.scale][-1]):
        lines = []
        for norm in NORMS:
            found = training(evidence, best_arm(evidence, norm, depth), depth)
            steps = max((steps for steps, _ in found), key=len)
            ratios = np.full((len(found), len(steps)), np.nan)  # a gap where a run had diverged
            for row, (_, own) in zip(ratios, found, strict=True):
                row[: len(own)] = own
            lines.append(over_seeds(NAMES[norm], steps, ratios))
        panels.append(
            Curves(f"{depth} hidden layers", "step", "first gradient ÷ last", lines, levels=(1.0,))
        )
    return Figure(
        "training",
        "The same ratio over training, from Fig. 1's initial weights, each arm at its own best "
        "learning rate.",
        _on_one_scale(panels),
    )


CLAIM = Claim(
    statement="Batch normalization makes gradients depend less on the depth of a network and on "
    "the scale of its initial weights: without it they vanish on their way back through a deep "
    "network of sigmoids, and with it they do not.",
    section="§1, §3.3",
    paper_says="Batch normalization has a beneficial effect on the gradient flow through the "
    "network, by reducing the dependence of gradients on the scale of the parameters or of their "
    "initial values (§1). Of a normalized layer the scale of the weights does not affect the "
    "Jacobian nor the propagation of gradients, and larger weights get smaller gradients (§3.3). "
    "Nothing of it is measured.",
    unspecified="All of the measurement. Here gradients are those of the weights, by layer, of one "
    "mini-batch of 60; the first of the hidden layers of 100 × 100 weights, which is the second, "
    "is set beside the last. Networks of 3 to 12 hidden layers of 100 sigmoids, otherwise that of "
    "Fig. 1; initial deviations of 0.02, 0.07 (Fig. 1's) and 0.7. Over training they are those of "
    "saturating-nonlinearities, measured every 200 steps.",
    criteria=(
        Criterion(
            "depth",
            "how far the first layer's gradient is from as large as the last one's, in the deepest "
            "network from Fig. 1's initial weights, before the first step: without BN − with BN, "
            "of the same seed",
            "decades",
            1.0,
            "A factor of 10. Without it a gradient comes out of a layer 10 · 0.07 · ¼ = 0.175 "
            "times as large at most, for sigmoids' slopes are ¼ and less: 7.6 decades over the ten "
            "layers from the last of 12 to the second. And ten times is more than batch "
            "normalization itself makes gradients grow over so many layers even of ReLUs: "
            "(π/(π − 1))^(10/2) = 6.8.",
        ),
        Criterion(
            "scale",
            "from the least to the greatest norm of the first layer's gradient over all initial "
            "deviations, in the deepest network, before the first step: without BN − with BN, of "
            "the same seed",
            "decades",
            1.0,
            "A factor of 10. All weights are scaled together: a normalized layer's gradient is 1/a "
            "of what it was by §3.3, the output layer's weights are a times as large and bring it "
            "back. Without it every layer on the way multiplies the gradient by a, until "
            "sigmoids saturate.",
        ),
        Criterion(
            "training",
            "the same as in the first criterion, the median over training, each at its own best "
            "learning rate: without BN − with BN, of the same seed",
            "decades",
            1.0,
            "The same factor: what the paper says is not only of initial values.",
        ),
    ),
    scales={scale: _scale(scale) for scale in SCALES},
    measure=measure,
    later=(
        FollowUp(
            "Yang et al. 2019",
            "1902.08129",
            "In deep networks without skip connections batch normalization itself makes gradients "
            "explode at initialization, whatever the scale of the initial weights: with ReLUs the "
            "squared gradient grows by π/(π − 1) = 1.467 a layer toward the input. It is measured "
            "here beside the claim.",
        ),
        FollowUp(
            "Schoenholz et al. 2017",
            "1611.01232",
            "Without normalization there is a scale of the initial weights at which gradients "
            "neither vanish nor explode, and there very deep networks train.",
        ),
    ),
)
