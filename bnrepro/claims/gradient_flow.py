"""With batch normalization gradients vanish less on their way back through a deep network."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import xarray as xr

from bnrepro.evidence.arms import BATCH, NAMES, NORMS, SEEDS, SMOKE, per_scale
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Margin, plans
from bnrepro.evidence.deep_arms import DEPTHS, deep, hidden, tuned
from bnrepro.evidence.deep_arms import WORDS as DEEP
from bnrepro.evidence.exhibits import Curves, Exhibit, Figure, Line, Table, over_seeds
from bnrepro.evidence.grid import Array, Grid, curves, grid, table
from bnrepro.evidence.runs import Evidence

ONE_STEP = (
    "train.steps=1", "train.eval_every=1", "probe.every=1", "probe.size=100", "tensorboard=false",
)  # fmt: skip
"""The gradient that a first step leaves is that of the initial weights."""

WORDS = per_scale(("experiment=fig1", *SMOKE, *ONE_STEP), ("experiment=fig1", *ONE_STEP))

FITTING = 0.07
STDS = per_scale((FITTING, 0.7), (0.02, FITTING, 0.7))
"""Initial standard deviations, Fig. 1's in the middle."""

RELU, TANH = "ReLU, He", "tanh, Xavier"
OTHERS = {
    RELU: ("model.activation=relu", "init=he", "init.scale=1"),
    TANH: ("model.activation=tanh", "init=xavier", "init.scale=1"),
}
"""Other nonlinearities, each with the initial weights that were made for it."""

RELU_LAYERS = per_scale(6, 24)
"""So deep that a growth by the layer can be told from what becomes of it at the ends."""

EXPLOSION = math.pi / (math.pi - 1)
"""By which a squared gradient grows a layer, in deep networks of ReLUs with batch normalization at
initialization (Yang et al. 2019)."""

FIRST = 2
"""The first hidden layer of 100 × 100 weights, as all later ones are: the one before has 784
inputs, and its gradient's norm is another matter."""


def initial(scale: str) -> Grid:
    """One step from the initial weights, at every depth and initial deviation."""
    depths = DEPTHS[scale][-1:] if scale == "smoke" else DEPTHS[scale]
    return grid("initial", norm=NORMS, depth={d: (hidden(d),) for d in depths}, std=STDS[scale])


def deepest_relu(scale: str) -> str:
    """What the deepest networks of ReLUs are called."""
    return f"{RELU}, {RELU_LAYERS[scale]} hidden layers" if scale != "smoke" else RELU


def others(scale: str) -> Grid:
    """The same of other nonlinearities, as deep as the sigmoids at the most; and far deeper."""
    deepest = hidden(DEPTHS[scale][-1])
    network: dict[str, tuple[str, ...]] = {}
    if scale != "smoke":
        network = {name: (deepest, *words) for name, words in OTHERS.items()}
    network[deepest_relu(scale)] = (hidden(RELU_LAYERS[scale]), *OTHERS[RELU])
    return grid("initial", norm=NORMS, network=network)


def _arms(scale: str) -> Mapping[str, tuple[str, ...]]:
    first = initial(scale).arms(*WORDS[scale]) | others(scale).arms(*WORDS[scale])
    return deep(scale).arms(*DEEP[scale]) | first


def by_layer(evidence: Evidence, arm: str) -> np.ndarray:
    """The gradient's norm of every hidden layer from `FIRST` on, of the initial weights: (S, L)."""
    depth = len(evidence.runs[arm][0].config()["model"]["hidden"])
    names = [f"linear{layer}/gradient_norm" for layer in range(FIRST, depth + 1)]
    of_layers = evidence.probed_each(arm, names)
    return np.array([[values[0] for _, values in of_seeds] for of_seeds in of_layers], np.float64).T


def ends(evidence: Evidence, of: Grid) -> Array:
    """The gradients of the first and the last layer, of the initial weights, with axis `end`."""
    return of.array(
        evidence, lambda arm: by_layer(evidence, arm)[:, [0, -1]], end=("first", "last")
    )


@np.errstate(divide="ignore", invalid="ignore")
def ratio(gradients: Array) -> Array:
    """The first layer's gradient ÷ the last one's."""
    return gradients.sel(end="first") / gradients.sel(end="last")


@np.errstate(divide="ignore", invalid="ignore")
def uneven(ratios: Array) -> Array:
    """How far ratios are from 1, in decades.

    Two gradients of nothing have no ratio: that is infinitely far.
    """
    far: Array = abs(xr.apply_ufunc(np.log10, ratios)).fillna(np.inf)
    return far


@np.errstate(divide="ignore", invalid="ignore")
def span(gradients: Array) -> Array:
    """From the least to the greatest over all deviations, in decades."""
    decades: Array = xr.apply_ufunc(np.log10, gradients)
    widest = decades.max("std", skipna=False) - decades.min("std", skipna=False)
    return widest.fillna(np.inf)


@np.errstate(invalid="ignore")
def less(values: Array) -> Array:
    """By how much it is less with batch normalization; two infinities do not differ."""
    none, batch = (values.sel(norm=norm, drop=True) for norm in NORMS)
    return (none - batch).where(none != batch, 0.0)


def in_training(evidence: Evidence, arm: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of every seed, the steps (P,) and the first layer's gradient ÷ the last one's (P,)."""
    depth = len(evidence.runs[arm][0].config()["model"]["hidden"])
    first, last = evidence.probed_each(arm, [f"linear{k}/gradient_norm" for k in (FIRST, depth)])
    with np.errstate(divide="ignore", invalid="ignore"):
        return [
            (steps, over.astype(np.float64) / under)
            for (steps, over), (_, under) in zip(first, last, strict=True)
        ]


def measure(evidence: Evidence) -> Finding:
    """The gradients of the initial weights, and those of training."""
    scale = evidence.scale
    deepest, found = DEPTHS[scale][-1], ends(evidence, initial(scale))
    at_first, other = uneven(ratio(found)), uneven(ratio(ends(evidence, others(scale))))

    def typical(arm: str) -> np.ndarray:
        """A run that diverged before its first probe has no gradient to tell of."""
        ratios = (ratios for _, ratios in in_training(evidence, arm))
        return np.array([np.median(uneven(Array(r))) if len(r) else np.inf for r in ratios])

    trained = tuned(evidence).array(evidence, typical)

    def effects(depth: int) -> dict[str, Array]:
        return {
            "depth": less(at_first.sel(depth=depth, std=FITTING)),
            "training": less(trained.sel(depth=depth)),
        }

    most_even = at_first.sel(depth=deepest).mean("seed").idxmin("std")
    chosen = ", ".join(f"{NAMES[norm]} {most_even.sel(norm=norm).item():g}" for norm in NORMS)
    choices = {f"{depth} hidden layers": effects(depth) for depth in at_first.depth.to_numpy()[:-1]}
    choices["the ratio of two layers in place of the gradient itself"] = {
        "scale": less(span(ratio(found).sel(depth=deepest)))
    }
    choices |= {
        network: {"depth": less(other.sel(network=network))}
        for network in others(scale).axes["network"]
    }
    return Finding(
        effects(deepest) | {"scale": less(span(found.sel(depth=deepest, end="first")))},
        exhibits=_exhibits(evidence, found),
        tuned=Check(
            "Over training both arms are at their own best learning rate. Here each is, before the "
            "first step, at the initial deviation that makes its own gradients the most even: what "
            "a well-chosen scale does for them without batch normalization.",
            {chosen: {"depth": less(at_first.sel(depth=deepest).sel(std=most_even))}},
        ),
        unspecified=Check(
            "The number of layers, what of the gradients is looked at, and other nonlinearities "
            "with the initial weights made for them. Of deep networks of ReLUs it is known that "
            "batch normalization makes their gradients explode at initialization: by π/(π − 1) a "
            "layer, squared.",
            choices,
            _explosion(evidence),
        ),
    )


def _explosion(evidence: Evidence) -> tuple[Exhibit, ...]:
    depth, of = RELU_LAYERS[evidence.scale], others(evidence.scale)
    layers, rows, drawn = np.arange(FIRST, depth + 1), [], []
    for norm, expected in zip(NORMS, (1.0, EXPLOSION), strict=True):
        squares = by_layer(evidence, of.arm(norm, deepest_relu(evidence.scale))) ** 2
        drawn.append(over_seeds(NAMES[norm], layers, squares / squares[:, -1:]))
        growth = np.exp(-np.polyfit(layers, np.log(squares).T, 1)[0])
        summary = float(np.median(growth)), float(growth.min()), float(growth.max())
        rows.append((NAMES[norm], expected, *summary))
    theory = EXPLOSION ** (depth - layers)
    drawn.append(Line("with BN, π/(π − 1) a layer", layers, theory, points=True, like=NAMES[BATCH]))
    panel = Curves(f"{depth} layers of ReLUs", "hidden layer", "squared gradient ÷ the last one",
                   drawn, log_y=True)  # fmt: skip
    caption = "Gradients of the initial weights by layer, ReLU and He's initial weights."
    return (
        Figure("explosion", caption, (panel,)),
        Table(
            f"{depth} layers of ReLUs: growth of the squared gradient a layer toward the input, by "
            "a straight line through the logarithms of all layers.",
            ("arm", "expected of wide networks", "median over seeds", "least", "greatest"),
            rows,
        ),
    )


def _on_one_scale(figure: Figure) -> Figure:
    """The panels with the same logarithmic axis, which holds all of them."""
    panels = [panel for panel in figure.panels if isinstance(panel, Curves)]
    drawn = [line for panel in panels for line in panel.lines]
    ends = [end for line in drawn for end in (line.low, line.high) if end is not None]
    with np.errstate(divide="ignore"):
        found = np.log10(np.concatenate([*ends, [1.0]]))
    there = found[np.isfinite(found)]
    limits = (10 ** (there.min() - 0.5), 10 ** (there.max() + 0.5))
    return replace(figure, panels=[replace(panel, log_y=True, limits=limits) for panel in panels])


def _exhibits(evidence: Evidence, found: Array) -> tuple[Exhibit, ...]:
    scale = evidence.scale
    deepest, of, at_best = DEPTHS[scale][-1], initial(scale), tuned(evidence)
    layers = of.at(depth=deepest).array(
        evidence, lambda arm: by_layer(evidence, arm), layer=range(FIRST, deepest + 1)
    )
    medians = found.sel(depth=deepest).median("seed", skipna=False)
    training = at_best.over_training(evidence, lambda arm: in_training(evidence, arm))
    stds = {std: f"initial deviation {std:g}" for std in STDS[scale]}
    depths = DEPTHS[scale][0], deepest
    figures = (
        curves(
            "layers",
            f"Gradients of the initial weights of {deepest} layers of sigmoids, from the second "
            "layer on",
            {name: layers.sel(std=std) for std, name in stds.items()},
            "layer", "norm of the gradient",
        ),
        curves(
            "depths",
            "The gradient of the second hidden layer ÷ that of the last, of the initial weights, "
            "over the number of layers",
            {NAMES[norm]: ratio(found).sel(norm=norm) for norm in NORMS},
            "depth", "first gradient ÷ last", "std", names=stds, levels=(1.0,),
        ),
    )  # fmt: skip
    return (
        *map(_on_one_scale, figures),
        table(
            f"Gradients of the initial weights of {deepest} layers: medians over seeds.",
            ("norm", "std"),
            {
                "second hidden layer": medians.sel(end="first"),
                "last hidden layer": medians.sel(end="last"),
            },
        ),
        _on_one_scale(
            curves(
                "training",
                "The same ratio over training, from Fig. 1's initial weights, each arm at its own "
                "best learning rate",
                {f"{depth} hidden layers": training.sel(depth=depth) for depth in depths},
                "step", "first gradient ÷ last", levels=(1.0,),
            )
        ),
    )  # fmt: skip


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
    criteria={
        "depth": Criterion(
            "how far the first layer's gradient is from as large as the last one's, in the deepest "
            "network from Fig. 1's initial weights, before the first step: without BN − with BN, "
            "of the same seed",
            Margin(1.0, "decades"),
            "A factor of 10. Without it a gradient comes out of a layer 10 · 0.07 · ¼ = 0.175 "
            "times as large at most, for sigmoids' slopes are ¼ and less: 7.6 decades over the ten "
            "layers from the last of 12 to the second. And ten times is more than batch "
            "normalization itself makes gradients grow over so many layers even of ReLUs: "
            "(π/(π − 1))^(10/2) = 6.8.",
        ),
        "scale": Criterion(
            "from the least to the greatest norm of the first layer's gradient over all initial "
            "deviations, in the deepest network, before the first step: without BN − with BN, of "
            "the same seed",
            Margin(1.0, "decades"),
            "A factor of 10. All weights are scaled together: a normalized layer's gradient is 1/a "
            "of what it was by §3.3, the output layer's weights are a times as large and bring it "
            "back. Without it every layer on the way multiplies the gradient by a, until "
            "sigmoids saturate.",
        ),
        "training": Criterion(
            "the same as in the first criterion, the median over training, each at its own best "
            "learning rate: without BN − with BN, of the same seed",
            Margin(1.0, "decades"),
            "The same factor: what the paper says is not only of initial values.",
        ),
    },
    scales=plans(_arms, SEEDS),
    measure=measure,
    later={
        "Yang et al. 2019": "In deep networks without skip connections batch normalization itself "
        "makes gradients explode at initialization, whatever the scale of the initial weights: "
        "with ReLUs the squared gradient grows by π/(π − 1) = 1.467 a layer toward the input. It "
        "is measured here beside the claim.",
        "Schoenholz et al. 2017": "Without normalization there is a scale of the initial weights "
        "at which gradients neither vanish nor explode, and there very deep networks train.",
    },
)
