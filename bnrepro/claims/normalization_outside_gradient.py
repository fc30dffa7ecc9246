"""§2: normalized outside the gradient step, a bias grows without end, and the model blows up.

Of rectified units the network blows up at every learning rate from 0.1, and at 0.03 in six of ten
seeds; of sigmoids at 1 and 3. Scaling makes the sigmoids' biases grow faster at small rates, and
networks blow up less often: it bounds what a layer puts out.
"""

import numpy as np

from bnrepro.evidence import controls
from bnrepro.evidence.arms import BATCH, SEEDS, SMOKE, per_scale
from bnrepro.evidence.claim import Check, Claim, Criterion, Expected, Finding, Group, Margin, plans
from bnrepro.evidence.grid import (
    Array,
    Grid,
    curves,
    digits,
    doublings,
    grid,
    heat_maps,
    stack,
    table,
)
from bnrepro.evidence.runs import Evidence
from bnrepro.evidence.stats import lower_median

CENTRED, SCALED = "detached", "detached scaled"

NORMS = {
    CENTRED: ("norm=detached", "norm.scaling=false"),
    SCALED: ("norm=detached", "norm.scaling=true"),
    BATCH: ("norm=batch", "norm.keep_bias=true"),
}
CALLED = {
    CENTRED: "outside, centring",
    SCALED: "outside, centring and scaling",
    BATCH: "inside: batch normalization",
}

STUDY = "bias-drift"
NONLINEARITIES = {
    "sigmoid": ("model.activation=sigmoid",), "ReLU": ("model.activation=relu",)
}  # fmt: skip
LRS = per_scale((0.1, 1.0), (0.03, 0.1, 0.3, 1.0, 3.0))
DRAWN_LR = 0.1

_FIG1 = ("experiment=fig1", f"studies=[{STUDY}]", "probe.size=100")
RUN = {
    "smoke": ("experiment=fig1", *SMOKE, f"studies=[{STUDY}]", "probe.every=50"),
    "short": (*_FIG1, "train.steps=1000", "train.eval_every=500", "probe.every=100"),
    "paper": (
        *_FIG1, "train.steps=5000", "train.eval_every=2500", "probe.every=500",
        "train.compile=true",
    ),
}  # fmt: skip

LOSS = "train_loss"
BLOWN = 2 * np.log(10)
"""Twice the loss of a network that takes all ten classes for equally likely."""

LAYERS = ("linear1", "linear2", "linear3")


def cells(scale: str) -> Grid:
    """All three networks with either nonlinearity at every learning rate."""
    return grid(norm=NORMS, nonlinearity=NONLINEARITIES, lr=LRS[scale])


def bias_norms(evidence: Evidence, of: Grid) -> Array:
    """The norms of the hidden layers' biases, with axes `step` and `layer`.

    Those of a run that diverged are infinite from there on.
    """

    def norms(layer: str) -> Array:
        name = f"{layer}/bias_norm"
        return of.over_training(evidence, lambda arm: evidence.probed(arm, name), np.inf)

    return stack({layer: norms(layer) for layer in LAYERS}, "layer").fillna(np.inf)


def total(norms: Array) -> Array:
    """The norm of all layers' together."""
    return (norms**2).sum("layer") ** 0.5


def more_often(blown: Array, accuracy: Array, norm: str) -> Array:
    """The share of cells in which a network blows up and BN trains, less that of the reverse."""
    trains = accuracy > controls.ABOVE_CHANCE
    cases = [
        blown.sel(norm=one) & trains.sel(norm=other)
        for one, other in ((norm, BATCH), (BATCH, norm))
    ]
    alone, reverse = (case.mean(("nonlinearity", "lr")) for case in cases)
    return alone - reverse


def worse(biases: Array, blown: Array) -> Array:
    """log₂ of the biases' norm, scaling ÷ centring, in the cell where it is largest.

    Where one of the two alone blew up, that is worse; a cell where both did says nothing.
    """
    last = total(biases).isel(step=-1).where(~blown, np.inf)
    times = doublings(last.sel(norm=SCALED), last.sel(norm=CENTRED))
    return times.max(("nonlinearity", "lr")).fillna(-np.inf)


def growth(biases: Array, blown: Array) -> Array:
    """log₂ of a bias' norm at the end ÷ half-way, centring: the least layer, the median cell.

    It is p where the norm grows as the p-th power of the steps. One that blew up has grown.
    """
    last, half = biases.isel(step=-1), biases.sel(step=biases.step[-1] / 2, method="backfill")
    grown = doublings(last, half).min("layer").where(~blown, np.inf).sel(norm=CENTRED)
    return grown.stack(cell=("nonlinearity", "lr")).reduce(lower_median, "cell")


def unchanged(evidence: Evidence, of: Grid) -> Array:
    """Digits to which the loss is the same without the drift, centring; the cell of the fewest.

    Of cells in which no step's loss was infinite; if there is none, nothing was shown.
    """

    def read(arm: str) -> np.ndarray:
        studies = evidence.studies(arm, STUDY)
        return np.array([study["change"] if study else np.nan for study in studies])

    changes = of.array(evidence, read).sel(norm=CENTRED).max(("nonlinearity", "lr"))
    return digits(changes).fillna(-np.inf)


def measure(evidence: Evidence) -> Finding:
    """In which cells a network blows up, and how far its biases drift."""
    of = cells(evidence.scale)
    biases, accuracy = bias_norms(evidence, of), of.final(evidence)
    losses = of.final(evidence, LOSS, diverged=np.inf)
    blown = losses > BLOWN
    by_nonlinearity = {
        f"{name} alone": {
            "blows up": more_often(
                blown.sel(nonlinearity=[name]), accuracy.sel(nonlinearity=[name]), CENTRED
            )
        }
        for name in NONLINEARITIES
    }
    at = {"nonlinearity": "sigmoid", "lr": DRAWN_LR}
    over_training = of.over_training(
        evidence, lambda arm: [run.curve(LOSS) for run in evidence.runs[arm]], np.inf
    )
    named = blown.astype(float).assign_coords(norm=[CALLED[norm] for norm in NORMS])
    return Finding(
        {
            "blows up": more_often(blown, accuracy, CENTRED),
            "blows up with scaling": more_often(blown, accuracy, SCALED),
            "worse with scaling": worse(biases, blown),
            "growth": growth(biases, blown),
            "loss stays": unchanged(evidence, of),
        },
        exhibits=(
            heat_maps(
                "blown", "Where networks blow up (1), in the median of the seeds",
                {name: named.sel(nonlinearity=name) for name in NONLINEARITIES},
                "lr", "norm", (0.0, 1.0),
            ),
            curves(
                "training", "The norm of all hidden layers' biases and the training loss, the "
                "normalization inside the gradient step or outside, taken to be fixed; sigmoids, "
                f"learning rate {DRAWN_LR:g}",
                {"biases": total(biases).sel(at).isel(step=slice(1, None)),
                 "loss": over_training.sel(at)},
                "step", ("norm", "cross-entropy"), names=CALLED, log_x=True, log_y=True,
                more=" A steady drift is a line that rises tenfold where the steps do.",
            ),
            table(
                "How each network ended: means over seeds. Blown up is a training loss that is not "
                f"finite or above {BLOWN:.2f}, twice that of guessing.",
                ("nonlinearity", "lr", "norm"),
                {
                    "norm of all biases": total(biases).isel(step=-1), "training loss": losses,
                    "test accuracy": accuracy, "share that blew up": blown.astype(float),
                },
                CALLED, {"norm": "normalized", "lr": "learning rate"},
            ),
        ),
        unspecified=Check("Either nonlinearity by itself.", by_nonlinearity),
        controls={"training with BN": accuracy.sel(norm=BATCH).max("lr")},
    )  # fmt: skip


CLAIM = Claim(
    statement="If a gradient step ignores that the normalization depends on the parameters, a bias "
    "before it grows indefinitely and the model blows up, which with batch normalization it does "
    "not.",
    section="§2",
    paper_says="x̂ = x - E[x] with x = u + b: a step that takes E[x] to be fixed moves b by Δb ∝ "
    "-∂ℓ/∂x̂, and the output does not change, for u + (b + Δb) - E[u + (b + Δb)] = u + b - E[u + "
    "b]. “As the training continues, b will grow indefinitely while the loss remains fixed. This "
    "problem can get worse if the normalization not only centers but also scales the activations. "
    "We have observed this empirically in initial experiments, where the model blows up when the "
    "normalization parameters are computed outside the gradient descent step.”",
    unspecified="The initial experiments: their networks, data and learning rates, and what it is "
    "to blow up. Here: the network of Fig. 1, with sigmoids and with ReLU, for 5,000 steps (1,000 "
    "at the scale short) at each of five learning rates from 0.03 to 3; the mean, or mean and "
    "deviation, of each batch taken for constants by the gradient, no γ and β; and batch "
    "normalization with the bias it does not need. Blown up is a training loss that is not finite "
    "or ends above twice that of guessing. The loss of a whole network does not stay fixed, since "
    "the other parameters learn; what b adds to it is nothing: the loss of one batch, in float64, "
    "is compared with that of the same network without its hidden biases, which begin at 0.",
    criteria={
        "blows up": Criterion(
            "share of nonlinearities and learning rates at which the network blows up while BN "
            "trains, centring outside the gradient step, − share of the reverse",
            Margin(0.0, "share"),
            "The paper saw its model blow up and gives no number: at all. One cell in ten is no "
            "difference.",
            indifference=0.1,
        ),
        "blows up with scaling": Criterion(
            "the same, centring and scaling outside the gradient step",
            Margin(0.0, "share"),
            "The same; scaling bounds what a layer puts out, so that it may not.",
            indifference=0.1,
        ),
        "worse with scaling": Criterion(
            "norm of all hidden biases at the last step, centring and scaling ÷ centring alone, "
            "outside the gradient step, in the cell where that is largest",
            Margin(1.0, "doublings"),
            "“Can get worse”: somewhere, and twice as far, or blown up where centring is not, so "
            "that the largest of ten is no chance.",
        ),
        "growth": Criterion(
            "log₂ of the norm of the bias at the last step ÷ half-way, centring outside the "
            "gradient step, the least of the three hidden layers, in the median cell",
            Margin(0.25, "doublings"),
            "Growing at least as the fourth root of the steps, a quarter. A steady drift has 1, a "
            "random walk 0.5, a bias that settles 0. It need not be 1: the drift is as large as "
            "the gradient, and that falls as the other parameters learn.",
        ),
        "loss stays": Criterion(
            "digits to which the loss of a batch is the same with the hidden biases and without "
            "them, centring outside the gradient step, the fewest of all cells",
            Margin(6.0, "digits"),
            "An identity: float64 rounds at 10⁻¹⁶ of a bias, and a bias may have grown to millions "
            "of times what it is added to.",
        ),
    },
    scales=plans(lambda scale: cells(scale).arms(), SEEDS, RUN),
    measure=measure,
    controls={"training with BN": controls.trains("the network with BN at its best learning rate")},
    group=Group.ARGUMENT,
    expected=Expected("REPRODUCED"),
    why="At small learning rates biases may drift, and the network learn slowly, without blowing "
    "up; and scaling bounds what a layer puts out, so that it may prevent what centring leads to.",
    to_settle="Deeper networks: the paper does not tell which it was.",
    later={
        "Desjardins et al. 2015": "It can be done outside the gradient step where the parameters "
        "are corrected so that the network computes the same before and after: layers whitened "
        "now and then by a change of coordinates train well.",
        "Ioffe 2017": "Repeated for moving averages: normalizing by them in training lets "
        "parameters grow without bound and without improving the loss. Batch Renormalization "
        "keeps the batch's own statistics inside the gradient and only their correction outside.",
    },
)
