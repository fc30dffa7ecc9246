"""§3: γ and β restore what normalization takes from a layer, above all from sigmoids.

Rectified units neither gain nor lose, and at a rate of 10 they train only without γ and β.
"""

from bnrepro.evidence import controls
from bnrepro.evidence.arms import GRID, SEEDS, per_scale
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Group, Margin, plans
from bnrepro.evidence.grid import Array, Grid, best, curves, grid, table
from bnrepro.evidence.runs import TOLD_APART, Evidence
from bnrepro.evidence.tuning import for_each_seed, throughout

LEARNED, FIXED = "γ, β learned", "γ = 1, β = 0"
PAIRS = {LEARNED: (), FIXED: ("norm.affine=false",)}

SIGMOID, RELU = "sigmoids", "rectified units"
NETWORKS = {SIGMOID: (), RELU: ("model.activation=relu", "init=he", "init.scale=1")}
"""The network of Fig. 1, and the same of the units of §4.2."""

LRS = per_scale((0.1, 3.0), (0.1, 0.3, 1.0, 3.0, 10.0))


def cells(scale: str) -> Grid:
    """Both networks with and without γ and β, at every learning rate."""
    return grid(network=NETWORKS, pair=PAIRS, lr=LRS[scale])


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    return cells(scale).arms("norm=batch")


def effects(test: Array) -> dict[str, Array]:
    """What learning γ and β adds, of each network (seed), from accuracies (network, pair, seed)."""
    gain = test.sel(pair=LEARNED) - test.sel(pair=FIXED)
    return {name: gain.sel(network=name) for name in NETWORKS}


def measure(evidence: Evidence) -> Finding:
    """Each arm at its best learning rate; at that of each seed; at the same one."""
    of = cells(evidence.scale)
    runs = of.runs(evidence)
    lr = best(runs.validation)
    tuned = runs.sel(lr=lr)
    return Finding(
        effects(tuned.test),
        exhibits=(
            curves(
                "rates", "Accuracy over the learning rate",
                {name: runs.test.sel(network=name) for name in NETWORKS}, "lr",
                "test accuracy at the last step", "pair", limits=(0.9, 1.0),
                more=" Accuracies below 0.9 are not shown.",
            ),
            curves(
                "training", "Each arm at its best learning rate",
                {name: tuned.curve.sel(network=name) for name in NETWORKS}, "step",
                "validation accuracy", "pair", limits=(0.9, 1.0),
                more=" Accuracies below 0.9 are not shown.",
            ),
            table(
                "Each arm at its best learning rate: mean accuracies over seeds.",
                ("network", "pair"),
                {
                    "learning rate": lr, "test accuracy": tuned.test,
                    "training accuracy": tuned.training,
                },
            ),
        ),
        tuned=for_each_seed(effects(runs.test.sel(lr=runs.validation.idxmax("lr")))),
        unspecified=Check("One learning rate for all.", throughout(runs.test, effects)),
        controls={"training": tuned.test, "rates": runs.validation},
        redrawn=of.at(lr=lr).over_images(evidence, effects),
    )  # fmt: skip


CLAIM = Claim(
    statement="With γ and β learned a batch-normalized network of sigmoids is more accurate than "
    "with γ = 1 and β = 0.",
    section="§3",
    paper_says="“Note that simply normalizing each input of a layer may change what the layer can "
    "represent. For instance, normalizing the inputs of a sigmoid would constrain them to the "
    "linear regime of the nonlinearity. To address this, we make sure that the transformation "
    "inserted in the network can represent the identity transform.” By γ and β, which are learned; "
    "no experiment is without them.",
    unspecified="What γ and β are worth. Here the network of Fig. 1, with and without them, each "
    "at its best learning rate, for 10,000 steps; and the same of rectified units, where β alone "
    "changes what a layer can represent, for the next weights can take over γ.",
    criteria={
        SIGMOID: Criterion(
            "test accuracy of the network of sigmoids, with γ and β learned − fixed, of the same "
            "seed",
            Margin(TOLD_APART, "accuracy"),
            "The smallest difference that the paper takes for one (73.0 and 72.7 % on ImageNet).",
        ),
        RELU: Criterion(
            "the same of the network of rectified units",
            Margin(TOLD_APART, "accuracy"),
            "As of sigmoids.",
        ),
    },
    scales=plans(_arms, SEEDS, GRID),
    measure=measure,
    controls={"training": controls.trains("each arm"), "rates": controls.interior()},
    group=Group.ARGUMENT,
    why="Inputs of variance 1 reach beyond the straight part of a sigmoid, and the weights of the "
    "next layer can scale what comes out.",
    to_settle="Deeper networks of sigmoids, in which every layer would have to be curved.",
)
