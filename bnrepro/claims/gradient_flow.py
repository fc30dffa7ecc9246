"""With batch normalization gradients depend less on the scale of the initial weights."""

import numpy as np

from bnrepro.evidence import controls
from bnrepro.evidence.arms import NAMES, NONE, NORMS, SEEDS, SMOKE, per_scale
from bnrepro.evidence.claim import Check, Claim, Criterion, Expected, Finding, Group, Margin, plans
from bnrepro.evidence.deep_arms import DEPTHS, deep, hidden, tuned
from bnrepro.evidence.deep_arms import WORDS as DEEP
from bnrepro.evidence.grid import Array, Grid, curves, grid, whatever
from bnrepro.evidence.runs import Evidence

_ONE = ("train.steps=1", "train.eval_every=1", "probe.every=1", "probe.size=100")
ONE_STEP = (*_ONE, "tensorboard=false")
WORDS = per_scale(("experiment=fig1", *SMOKE, *ONE_STEP), ("experiment=fig1", *ONE_STEP))
"""The gradient that a first step leaves is that of the initial weights."""

FITTING = 0.07
STDS = per_scale((FITTING, 0.7), (0.02, FITTING, 0.7))
"""Initial standard deviations, Fig. 1's in the middle."""

RELU = ("model.activation=relu", "init=he", "init.scale=1")
TANH = ("model.activation=tanh", "init=xavier", "init.scale=1")
"""Other nonlinearities, each with the initial weights that were made for it."""

FIRST = 2
"""The first hidden layer of 100 × 100 weights: the one before has 784 inputs."""


def initial(scale: str) -> Grid:
    """One step from the initial weights, at every depth and initial deviation."""
    depths = DEPTHS[scale][-1:] if scale == "smoke" else DEPTHS[scale]
    return grid("initial", norm=NORMS, depth={d: (hidden(d),) for d in depths}, std=STDS[scale])


def others(scale: str) -> Grid:
    """The same of other nonlinearities, as deep as the sigmoids at the most; and far deeper."""
    if scale == "smoke":
        return grid("initial", norm=NORMS, network={"ReLU, He": (hidden(6), *RELU)})
    deepest = hidden(DEPTHS[scale][-1])
    networks = {
        "ReLU, He": (deepest, *RELU),
        "tanh, Xavier": (deepest, *TANH),
        "ReLU, He, 24 hidden layers": (hidden(24), *RELU),
    }
    return grid("initial", norm=NORMS, network=networks)


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    arms = deep(scale).arms(*DEEP[scale]) | initial(scale).arms(*WORDS[scale])
    return arms | others(scale).arms(*WORDS[scale])


def gradients(evidence: Evidence, arm: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Steps (P,) of every seed, and log10 of the norm of each layer's gradient (P, L)."""
    depth = len(evidence.runs[arm][0].config()["model"]["hidden"])
    names = [f"linear{layer}/gradient_norm" for layer in range(FIRST, depth + 1)]
    of_layers = evidence.probed_each(arm, names)
    with np.errstate(divide="ignore"):
        return [
            (of_seed[0][0], np.log10([np.float64(norms) for _, norms in of_seed]).T)
            for of_seed in zip(*of_layers, strict=True)
        ]


def layers(evidence: Evidence, of: Grid, *chosen: int) -> Array:
    """The gradients of the initial weights, in decades, by layer; the last is −1, the first 0."""
    return of.array(
        evidence,
        lambda arm: np.stack([values[0][list(chosen)] for _, values in gradients(evidence, arm)]),
        layer=chosen,
    )


def uneven(ends: Array) -> Array:
    """How far the first layer's gradient is from the last one's; two of nothing, infinitely."""
    return abs(ends.sel(layer=0) - ends.sel(layer=-1)).fillna(np.inf)


def span(values: Array) -> Array:
    """From the least to the greatest over all deviations."""
    return (values.max("std", skipna=False) - values.min("std", skipna=False)).fillna(np.inf)


def less(values: Array) -> Array:
    """By how much it is less with batch normalization."""
    return whatever(values.sel(norm="none", drop=True) - values.sel(norm="batch", drop=True))


@np.errstate(invalid="ignore")  # of two gradients of nothing
def measure(evidence: Evidence) -> Finding:
    """The gradients of the initial weights, and those of training."""
    scale, deepest, of = evidence.scale, DEPTHS[evidence.scale][-1], initial(evidence.scale)
    ends = layers(evidence, of, 0, -1)
    first, at_first = span(ends.sel(layer=0)), uneven(ends)
    other = less(uneven(layers(evidence, others(scale), 0, -1)))
    even = at_first.sel(depth=deepest).mean("seed").idxmin("std")
    chosen = ", ".join(f"{NAMES[norm]} {even.sel(norm=norm).item():g}" for norm in NORMS)
    choices = {
        f"{depth} hidden layers": {
            "scale": less(first.sel(depth=depth)),
            "depth": less(at_first.sel(depth=depth, std=FITTING)),
        }
        for depth in at_first.depth.to_numpy()[:-1]
    }
    choices |= {name: {"depth": other.sel(network=name)} for name in others(scale).axes["network"]}
    by_layer = layers(evidence, of.at(depth=deepest), *range(deepest - FIRST + 1))
    by_layer = 10 ** by_layer.assign_coords(layer=by_layer.layer + FIRST)
    training = tuned(evidence).over_training(
        evidence,
        lambda arm: [(t, 10 ** (of[:, 0] - of[:, -1])) for t, of in gradients(evidence, arm)],
    )
    return Finding(
        {
            "scale": less(first.sel(depth=deepest)),
            "depth": less(at_first.sel(depth=deepest, std=FITTING)),
            "depth, ReLU": other.sel(network="ReLU, He"),
        },
        exhibits=(
            curves(
                "layers", f"Gradients of the initial weights of {deepest} hidden layers",
                {f"initial deviation {std:g}": by_layer.sel(std=std) for std in STDS[scale]},
                "layer", "norm of the gradient", log_y=True,
            ),
            curves(
                "training",
                "The second layer's gradient ÷ the last one's, each arm at its best learning rate",
                {f"{depth} hidden layers": training.sel(depth=depth) for depth in DEPTHS[scale]},
                "step", "first gradient ÷ last", levels=(1.0,), log_y=True,
                more=" What vanishes does not train: the deep ones without BN stay at chance.",
            ),
        ),
        tuned=Check(
            "Each arm, before the first step, at the initial deviation that makes its own "
            "gradients the most even: what a well-chosen scale does without batch normalization.",
            {chosen: {"depth": less(at_first.sel(depth=deepest, std=even))}},
        ),
        unspecified=Check(
            "The number of layers; other nonlinearities, from weights made for them.", choices
        ),
        controls={"vanishing": first.sel(depth=deepest, norm=NONE)},
    )  # fmt: skip


CLAIM = Claim(
    statement="With batch normalization gradients depend less on the scale of the initial weights, "
    "and less on the depth of the network.",
    section="§1, §3.3",
    paper_says="Batch normalization has a beneficial effect on the gradient flow through the "
    "network, by reducing the dependence of gradients on the scale of the parameters or of their "
    "initial values (§1). Of a normalized layer the scale of the weights does not affect the "
    "Jacobian nor the propagation of gradients, and larger weights get smaller gradients (§3.3). "
    "Of depth: saturation slows down training, the more the deeper the network (§2).",
    unspecified="All of the measurement. Here gradients are those of the weights, by layer, of one "
    "mini-batch of 60; the first of the hidden layers of 100 × 100 weights, which is the second, "
    "is set beside the last. Networks of 3 to 12 hidden layers of 100 sigmoids, otherwise that of "
    "Fig. 1; initial deviations of 0.02, 0.07 (Fig. 1's) and 0.7.",
    criteria={
        "scale": Criterion(
            "from the least to the greatest norm of the first layer's gradient over all initial "
            "deviations, in the deepest network, before the first step, without BN − with BN",
            Margin(1.0, "decades"),
            "A factor of 10. With weights a times as large a normalized layer's gradient is 1/a of "
            "what it was by §3.3, and the output layer brings it back. Without, each layer on the "
            "way multiplies it by a, until sigmoids saturate.",
        ),
        "depth": Criterion(
            "how far the first layer's gradient is from as large as the last one's, in the deepest "
            "network from Fig. 1's initial weights, before the first step, without BN − with BN",
            Margin(1.0, "decades"),
            "A factor of 10. Without it a gradient comes out of a layer 10 · 0.07 · ¼ times as "
            "large at most, for sigmoids' slopes are ¼ and less: 7.6 decades over ten layers.",
        ),
        "depth, ReLU": Criterion(
            "the same in a network of ReLUs from He's initial weights, which were made for them",
            Margin(0.1, "decades"),
            "A factor of 1.26. With BN they are known to grow, over ten layers 6.8 times.",
        ),
    },
    scales=plans(_arms, SEEDS),
    measure=measure,
    controls={
        "vanishing": controls.exists(
            "the span of the first layer's gradient without BN, in decades,", 1.0
        )
    },
    group=Group.ARGUMENT,
    expected=Expected("REPRODUCED", known=True),
    why="From proper initial weights gradients of ReLUs or tanh hardly vanish without batch "
    "normalization, which itself makes those of ReLUs explode at the start.",
    to_settle="Training deep networks of ReLUs, to see whether it matters to them.",
    later={
        "Yang et al. 2019": "Without skip connections batch normalization itself makes gradients "
        "explode at initialization, whatever the scale of the weights: with ReLUs the squared "
        "gradient grows by π/(π − 1) = 1.467 a layer toward the input.",
        "Schoenholz et al. 2017": "Without normalization there is a scale of the initial weights "
        "at which gradients neither vanish nor explode, and there very deep networks train.",
    },
)
