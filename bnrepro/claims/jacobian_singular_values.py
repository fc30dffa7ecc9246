"""§3.3, a conjecture: batch normalization keeps the layers' Jacobians near orthogonal."""

from collections.abc import Callable

import numpy as np

from bnrepro.evidence.arms import BATCH, NAMES, NORMS, SEEDS, SMOKE
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Margin, PaperNumber, plans
from bnrepro.evidence.exhibits import Curves, Figure, Table, over_seeds
from bnrepro.evidence.grid import Array, Grid, grid, lines
from bnrepro.evidence.runs import Evidence
from bnrepro.evidence.tuning import both_tuned

PROBED = {
    "smoke": ("experiment=fig1", *SMOKE, "probe.every=50", "probe.jacobian=true"),
    "short": ("experiment=fig1", "train.steps=2000", "train.eval_every=200", "probe.every=200",
              "probe.jacobian=true"),
    "paper": ("experiment=fig1", "train.steps=10000", "probe.every=500", "probe.jacobian=true"),
}  # fmt: skip

LRS = {"smoke": (0.07, 3.0), "short": (0.07, 1.0, 3.0), "paper": (0.07, 1.0, 3.0)}

CHOICES = {"initial deviation 0.4": ("init.scale=0.4",), "ReLU": ("model.activation=relu",)}
"""What else the network could be."""

LAYERS = ("linear2", "linear3")
"""The Jacobians between the first and second, and second and third, hidden layer."""

FACTOR = 2.0
NEARLY_ALL = 0.9
NEARER = 0.5

FARTHEST = 10.0
"""In doublings, of a singular value below a thousandth, beyond a thousand or no number: the
direction is lost, and by how much more is a matter of rounding."""


WHOLE, CHOSEN = grid(norm=NORMS), grid(norm=NORMS, choice=CHOICES)


def over_lrs(scale: str) -> Grid:
    """Both arms at every learning rate."""
    return grid(norm=NORMS, lr=LRS[scale])


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    return WHOLE.arms() | over_lrs(scale).arms() | CHOSEN.arms()


def gaussian(share: np.ndarray) -> np.ndarray:
    """Quantiles of the singular values of a large square Gaussian matrix of variance 1/n.

    They follow the quarter-circle law, density √(4 - s²)/π on [0, 2]; `share` is in [0, 1].
    """
    s = np.linspace(0, 2, 2001)
    below = (s * np.sqrt(4 - s**2) / 2 + 2 * np.arcsin(s / 2)) / np.pi
    found: np.ndarray = np.interp(share, below, s)
    return found


QUANTILES = gaussian((np.arange(10_000, 0, -1) - 0.5) / 10_000)


def distance(values: np.ndarray) -> np.ndarray:
    """|log₂ σ|: how far singular values are from 1, in doublings."""
    with np.errstate(divide="ignore"):
        found = np.abs(np.log2(values))
    return np.where(found < FARTHEST, found, FARTHEST)


def larger_half(values: np.ndarray) -> np.ndarray:
    """The mean distance of the larger half of singular values, descending along the last axis.

    A random matrix has small ones whatever its scale, and ReLU passes but half of all directions.
    """
    count = values.shape[-1]
    found: np.ndarray = distance(values[..., : count - count // 2]).mean(-1)
    return found


def near(values: np.ndarray) -> np.ndarray:
    """The share of singular values within a factor of 2 of 1, of the last axis."""
    found: np.ndarray = (distance(values) <= np.log2(FACTOR)).mean(-1)
    return found


def root_mean_square(values: np.ndarray) -> np.ndarray:
    """Of the last axis: the factor by which the Jacobian scales a random vector."""
    found: np.ndarray = np.sqrt(np.square(values, dtype=np.float64).mean(-1))
    return found


Measure = Callable[[np.ndarray], np.ndarray]


def spectra(evidence: Evidence, arm: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps (P,) and singular values (S, P, L, n, k): layers, images, in descending order.

    Where a diverged run has no more probes they are not a number.
    """
    config = evidence.runs[arm][0].config()
    every = config["probe"]["every"]
    steps = np.arange(0, config["train"]["steps"] + 1, every)
    of_layers = evidence.probed_each(arm, [f"{layer}/jacobian" for layer in LAYERS])
    shape = of_layers[0][0][1].shape[1:]
    found = np.full((len(evidence.seeds), len(steps), len(LAYERS), *shape), np.nan)
    for number, of_seeds in enumerate(of_layers):
        for row, (at, values) in zip(found[:, :, number], of_seeds, strict=True):
            row[at // every] = values
    return steps, found


def over_training(evidence: Evidence, of: Grid, *measures: Measure) -> list[Array]:
    """Measures of spectra, the means over images and layers, with axis `step`."""
    found = {of.arm(norm): spectra(evidence, of.arm(norm)) for norm in of.axes["norm"]}
    steps = next(iter(found.values()))[0].tolist()

    def over(measure: Measure) -> Array:
        return of.array(evidence, lambda arm: measure(found[arm][1]).mean((2, 3)), step=steps)

    return [over(measure) for measure in measures]


def effects(evidence: Evidence, of: Grid) -> dict[str, Array]:
    """All criteria's effects, of an arm without and one with batch normalization."""
    far, share = over_training(evidence, of, larger_half, near)
    closer = far.sel(norm="none") - far.sel(norm="batch")
    return {
        "close to 1": share.sel(norm="batch").mean("step"),
        "closer at the start": closer.isel(step=0),
        "closer through training": closer.isel(step=slice(1, None)).mean("step"),
    }


def measure(evidence: Evidence) -> Finding:
    """Both arms as in Fig. 1; at their own best learning rates; other networks."""
    [middle] = over_training(evidence, WHOLE, lambda values: np.median(values, axis=-1))
    compared = PaperNumber(
        "singular value in the middle, mean over layers, images and training, with BN",
        "", 1.0, middle.sel(norm=BATCH).mean("step", skipna=False).to_numpy(),
    )  # fmt: skip
    lrs = over_lrs(evidence.scale)
    choices = {choice: effects(evidence, CHOSEN.at(choice=choice)) for choice in CHOICES}
    for lr in LRS[evidence.scale]:
        choices[f"learning rate {lr:g}"] = effects(evidence, lrs.at(lr=lr))
    return Finding(
        effects(evidence, WHOLE),
        (compared,) if evidence.scale == "paper" else (),
        (_spectra(evidence), _training(evidence), _table(evidence)),
        both_tuned(lrs.runs(evidence), lambda lr: effects(evidence, lrs.at(lr=lr))),
        Check(
            "The initial deviation, the nonlinearity and the learning rate. At the start no scale "
            "of the weights matters with BN; without it the singular values scale with it, and "
            "the right one brings their root mean square to 1 as well.",
            choices,
        ),
    )


def _spectra(evidence: Evidence) -> Figure:
    found = {norm: spectra(evidence, WHOLE.arm(norm)) for norm in NORMS}
    steps, panels = found[BATCH][0], []
    for index in (0, 1, len(steps) - 1):
        drawn = []
        for norm, (_, values) in found.items():
            of_rank = np.median(values[:, index], axis=(1, 2))
            share = (np.arange(of_rank.shape[1]) + 0.5) / of_rank.shape[1]
            drawn.append(over_seeds(NAMES[norm], share, of_rank))
        drawn.append(over_seeds("Gaussian, variance 1/n", share, gaussian(1 - share)[None]))
        panels.append(
            Curves(f"step {steps[index]:,}", "rank ÷ number of singular values", "singular value",
                   drawn, log_y=True, levels=(1 / FACTOR, 1.0, FACTOR))
        )  # fmt: skip
    caption = (
        "Singular values of the layer Jacobians by rank: median over images, layers and seeds, "
        "band from the least to the greatest of the seeds. Dotted: 1, and a factor of 2 either "
        "way. An orthogonal matrix has all of them on the middle line; a Gaussian one of variance "
        "1/n is what weights scaled well give without any normalization."
    )
    return Figure("spectra", caption, panels)


def _training(evidence: Evidence) -> Figure:
    shown: tuple[tuple[Measure, str, str, tuple[float, ...], bool], ...] = (
        (larger_half, "the larger half", "doublings from 1",
         (float(larger_half(QUANTILES)),), False),
        (near, "within a factor of 2 of 1", "share of singular values",
         (float(near(QUANTILES)), NEARLY_ALL), False),
        (root_mean_square, "how a random vector is scaled", "root mean square", (1.0,), True),
    )  # fmt: skip
    measured = over_training(evidence, WHOLE, *(statistic for statistic, *_ in shown))
    panels = [
        Curves(title, "step", y, lines(values, "step"), log_y=log_y, levels=levels)
        for (_, title, y, levels, log_y), values in zip(shown, measured, strict=True)
    ]
    caption = (
        "Singular values over training, mean over images and layers: median over seeds, band from "
        "least to greatest. Dotted: a Gaussian matrix of variance 1/n, and for the share also the "
        "criterion."
    )
    return Figure("training", caption, panels)


def _table(evidence: Evidence) -> Table:
    statistics: tuple[Measure, ...] = (
        lambda values: np.median(values, axis=-1), larger_half, near, root_mean_square,
        lambda values: values[..., 0], lambda values: values[..., -1],
    )  # fmt: skip
    rows: list[list[str | float]] = []
    for norm in NORMS:
        steps, values = spectra(evidence, WHOLE.arm(norm))
        for index in (0, 1, len(steps) - 1):
            for number, layer in enumerate(LAYERS):
                of_layer = values[:, index, number]
                found = [float(np.median(each(of_layer).mean(-1))) for each in statistics]
                rows.append([NAMES[norm], f"{steps[index]:,}", layer, *found])
    expected = [float(each(QUANTILES)) for each in statistics[:4]]
    rows.append(["Gaussian, variance 1/n", "", "", *expected, 2.0, 0.0])
    return Table(
        "Means over images, medians over seeds; `linear2` is from the first hidden layer to the "
        "second.",
        ("arm", "step", "layer", "middle", "larger half, doublings from 1", "within a factor of 2",
         "root mean square", "largest", "smallest"),
        rows,
    )  # fmt: skip


CLAIM = Claim(
    statement="With batch normalization the layer Jacobians have singular values close to 1, and "
    "closer than without it.",
    section="§3.3, a conjecture",
    paper_says="'We further conjecture that Batch Normalization may lead the layer Jacobians to "
    "have singular values close to 1, which is known to be beneficial for training (Saxe et al., "
    "2013).' If normalized inputs x̂ and ẑ of two consecutive layers were Gaussian and "
    "uncorrelated, and ẑ = Jx̂ linear, then I = JJᵀ. 'The precise effect of Batch Normalization on "
    "gradient propagation remains an area of further study.' No experiment.",
    unspecified="What is close. 100×100 matrices of independent Gaussian entries of variance 1/n, "
    "which is what weights of the right scale give without normalization, have singular values "
    "spread over (0, 2), 1 in the root mean square, and Saxe et al. hold that not to be enough: "
    "beneficial is an orthogonal matrix, where all are 1. So the conjecture would be refuted by "
    "singular values that are no nearer to 1 than without BN, and, taken at its word, by a spread "
    "no smaller than that of a random matrix. Here: the network of Fig. 1 over its first 10,000 "
    "steps (2,000 at the scale short); Jacobians of x̂ of one hidden layer to x̂ of the next, "
    "the batch's mean and deviation held fixed (without BN, from one nonlinearity's input to the "
    "next one's), of 16 training images.",
    criteria={
        "close to 1": Criterion(
            "share of singular values within a factor of 2 of 1, with BN: mean over both layers, "
            "images, and all probes from the start to the end",
            Margin(NEARLY_ALL, "share"),
            "Nine in ten, nearly all. An orthogonal matrix has all of them there, a Gaussian one "
            f"of variance 1/n {near(QUANTILES):.3f} (quarter-circle law), and that is to be told "
            "from what is beneficial by Saxe et al.",
        ),
        "closer at the start": Criterion(
            "mean of |log₂ σ| over the larger half of a Jacobian's singular values, mean over "
            "layers and images, before the first step, without BN - with BN",
            Margin(NEARER, "doublings"),
            "Half a doubling, a factor of 1.4: what an initial deviation of 0.1 (as Xavier's for "
            "these layers) in the place of 0.07 makes, which the paper leaves open. Of the larger "
            "half, since a random matrix has small ones whatever its scale; a Gaussian one of "
            f"variance 1/n is at {larger_half(QUANTILES):.2f}.",
        ),
        "closer through training": Criterion(
            "the same, mean over all probes after the start",
            Margin(NEARER, "doublings"),
            "The same: less would be a matter of the initial weights.",
        ),
    },
    scales=plans(_arms, SEEDS, PROBED),
    measure=measure,
    later={
        "Saxe et al. 2013": "What the paper refers to: in deep linear networks orthogonal weights "
        "keep learning times independent of depth; Gaussian ones scaled to keep the norm on "
        "average do not, for a few directions are amplified and most are lost.",
        "Pennington et al. 2017": "With Gaussian weights no network of any nonlinearity has all "
        "singular values near 1 at initialization; sigmoidal ones can with orthogonal weights, "
        "ReLU ones cannot.",
        "Yang et al. 2019": "Against the conjecture at initialization: gradients of deep networks "
        "with batch normalization explode with depth, squared by π ÷ (π - 1) = 1.47 a layer with "
        "ReLU, whatever the weights' scale.",
    },
)
