"""With batch normalization networks train at learning rates at which others do not."""

import math

from bnrepro.evidence import controls
from bnrepro.evidence.arms import GRID, LRS, NONE, NORMS, SEEDS
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Group, Margin, plans
from bnrepro.evidence.grid import Array, Grid, best, decades, grid, table
from bnrepro.evidence.runs import TOLD_APART, VALIDATION, Evidence
from bnrepro.evidence.tuning import both_tuned, over_lrs

TRAINED = 0.9
"""A linear classifier of MNIST has more: a network that does not get there has not trained."""

FURTHER = {"smoke": (), "short": (100.0,), "paper": (100.0, 300.0)}
"""Learning rates beyond the usual grid, so that its end is not the answer."""

SMALLER = 0.02
SMALL = grid("from smaller weights", norm=NORMS, lr=(1.0, 3.0, 10.0, 30.0, 100.0, 300.0))
"""From a smaller initial deviation."""


def cells(scale: str) -> Grid:
    """Both arms at every learning rate."""
    return grid(norm=NORMS, lr=(*LRS[scale], *FURTHER[scale]))


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    small = SMALL.arms(f"init.scale={SMALLER}") if scale == "paper" else {}
    return cells(scale).arms() | small


def largest(evidence: Evidence, of: Grid, trained: float = TRAINED) -> Array:
    """The largest learning rate at which each arm trains: (norm, seed); 0 if it does at none.

    It trains if the loss stays finite and the last validation accuracy is `trained` at least.
    """
    validation = of.final(evidence, VALIDATION)
    trains = (validation >= trained) & ~of.diverged(evidence)
    return validation["lr"].where(trains).max("lr").fillna(0)


def gain(rates: Array) -> dict[str, Array]:
    """The primary effect, from the largest rates (norm, seed) that train."""
    return {"largest rate": decades(rates.sel(norm="batch"), rates.sel(norm="none"))}


def measure(evidence: Evidence) -> Finding:
    """Where each arm still trains, and what it is worth there."""
    of = cells(evidence.scale)
    runs, rates = of.runs(evidence), largest(evidence, of)
    bound = best(runs.validation.sel(norm=NONE, drop=True))

    def more(test: Array) -> Array:
        return test.sel(norm="batch") - test.sel(norm="none")

    def worth(test: Array) -> dict[str, Array]:
        return {"accuracy": more(test).where(test.lr >= bound, drop=True).mean("lr")}

    choices = {
        f"trained means {what}": gain(largest(evidence, of, trained))
        for trained, what in ((0.5, "an accuracy of .5"), (0.95, ".95"), (0.0, "a finite loss"))
    }
    if evidence.scale == "paper":
        choices[f"initial deviation {SMALLER}"] = gain(largest(evidence, SMALL))
    return Finding(
        {**gain(rates), **worth(runs.test)},
        exhibits=(
            over_lrs(runs.test),
            table(
                "Means over seeds.", ("norm",),
                {"largest rate that trains": rates, "rates that diverge": runs.diverged.sum("lr")},
            ),
        ),
        tuned=both_tuned(runs, lambda lr: {"accuracy": more(runs.test.sel(lr=lr))}),
        unspecified=Check("What counts as training, and the initial weights.", choices),
        controls={
            "training": runs.test.sel(lr=runs.validation.idxmax("lr")),
            "best rates": runs.validation,
            "last rate": (rates == max(of.axes["lr"])).mean(),
        },
        redrawn=of.over_images(evidence, worth),
    )  # fmt: skip


CLAIM = Claim(
    statement="Batch normalization allows much higher learning rates: networks train, and train "
    "well, at rates at which they do not without it.",
    section="Abstract, §3.3, §4.2.1",
    paper_says="On ImageNet, Inception trains at a learning rate of 0.0015; at five times that its "
    "parameters reach machine infinity. With batch normalization it trains at five times (73.0 %) "
    "and at thirty times that rate (74.8 %, the highest of all).",
    unspecified="Everything, for MNIST. Here both arms go over the same rates, half an order of "
    "magnitude apart, on the network of Fig. 1, for 10,000 steps. To train: the loss stays finite, "
    f"and the last validation accuracy is {TRAINED} at least.",
    criteria={
        "largest rate": Criterion(
            "the largest learning rate that trains, with BN ÷ without BN, of the same seed",
            Margin(math.log10(5), "decades"),
            "A factor of 5: the paper's network does not survive five times its rate without batch "
            "normalization, and with it is best at thirty times.",
        ),
        "accuracy": Criterion(
            "test accuracy at the last step, with BN − without BN, mean over all rates from the "
            "one at which the network without BN is best",
            Margin(0.0, "accuracy"),
            "Better at all: what trains at a higher rate is to be worth something.",
            indifference=TOLD_APART,
        ),
    },
    scales=plans(_arms, SEEDS, GRID),
    measure=measure,
    controls={
        "training": controls.trains("each arm at its best learning rate"),
        "best rates": controls.interior(),
        "last rate": controls.at_most(
            "the share of networks that train at the grid's last rate", controls.FEW
        ),
    },
    group=Group.ARGUMENT,
    why="Sigmoids are bounded: three layers of them may train at high rates without BN too.",
    to_settle="Eight layers of rectified units, and a finer grid of rates.",
    later={
        "De and Smith 2020": "Larger learning rates pay only in large batches; in small ones the "
        "best rates with and without batch normalization agree.",
        "Bjorck et al. 2018": "Confirmed, and taken for the reason of all the rest: without batch "
        "normalization large steps diverge, for activations grow with depth; larger steps are "
        "what generalizes better.",
        "Arora et al. 2018": "A normalized layer's gradient shrinks as its weights grow, so that "
        "a learning rate that is too large lowers itself.",
    },
)
