"""With batch normalization networks train at learning rates at which others do not."""

import math

from bnrepro.evidence.arms import GRID, LRS, NAMES, NORMS, SEEDS
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Margin, plans
from bnrepro.evidence.exhibits import Table
from bnrepro.evidence.grid import Array, Grid, best, decades, grid
from bnrepro.evidence.runs import VALIDATION, Evidence
from bnrepro.evidence.tuning import both_tuned, over_lrs

TRAINED = 0.9
"""Less than a linear classifier of MNIST has: a network that does not get there has not trained."""

FURTHER = {"smoke": (), "short": (100.0,), "paper": (100.0, 300.0)}
"""Learning rates beyond the usual grid, so that its end is not the answer."""

SMALLER, HIGH = 0.02, (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""Smaller initial weights, and the rates at which both arms are run from them as well."""


def cells(scale: str) -> Grid:
    """Both arms at every learning rate."""
    return grid(norm=NORMS, lr=(*LRS[scale], *FURTHER[scale]))


SMALL = grid("from smaller weights", norm=NORMS, lr=HIGH)


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    small = SMALL.arms(f"init.scale={SMALLER}") if scale == "paper" else {}
    return cells(scale).arms() | small


def largest(evidence: Evidence, of: Grid, trained: float = TRAINED) -> Array:
    """The largest learning rate at which each arm trains: (norm, seed); 0 where it does at none.

    It trains where the loss stays finite and the last validation accuracy is `trained` at least.
    """
    validation = of.final(evidence, VALIDATION)
    trains = (validation >= trained) & ~of.diverged(evidence)
    return validation["lr"].where(trains).max("lr").fillna(0)


def gain(evidence: Evidence, of: Grid, trained: float = TRAINED) -> dict[str, Array]:
    """Decades by which the largest rate is larger that trains: (seed,)."""
    rates = largest(evidence, of, trained)
    return {"largest rate": decades(rates.sel(norm="batch"), rates.sel(norm="none"))}


def measure(evidence: Evidence) -> Finding:
    """Where each arm still trains, and what it is worth there."""
    of = cells(evidence.scale)
    test = of.final(evidence)
    bound = best(of.final(evidence, VALIDATION).sel(norm="none"))
    difference = test.sel(norm="batch") - test.sel(norm="none")
    accuracy = difference.where(difference.lr >= bound, drop=True).mean("lr")

    def tuned(lr: Array) -> dict[str, Array]:
        at_best = test.sel(lr=lr)
        return {"accuracy": at_best.sel(norm="batch") - at_best.sel(norm="none")}

    choices = {
        f"trained means a validation accuracy of {trained}": gain(evidence, of, trained)
        for trained in (0.5, 0.95)
    }
    choices["trained means that the loss stays finite"] = gain(evidence, of, 0.0)
    if evidence.scale == "paper":
        choices[f"initial deviation {SMALLER}"] = gain(evidence, SMALL)
    return Finding(
        {**gain(evidence, of), "accuracy": accuracy},
        exhibits=(
            over_lrs(test),
            _largest(evidence, of),
        ),
        tuned=both_tuned(of.runs(evidence), tuned),
        unspecified=Check("What counts as training, and the initial weights.", choices),
    )  # fmt: skip


def _largest(evidence: Evidence, of: Grid) -> Table:
    rates, diverged = largest(evidence, of), of.diverged(evidence).sum(("lr", "seed"))
    rows = [
        (
            NAMES[norm],
            ", ".join(f"{lr:g}" if lr else "none" for lr in rates.sel(norm=norm).to_numpy()),
            int(diverged.sel(norm=norm)),
        )
        for norm in NORMS
    ]
    caption = (
        f"The largest learning rate that trains, by seed. The grid ends at {max(of.axes['lr']):g}: "
        "a network that trains there might at more."
    )
    return Table(caption, ("arm", "largest rate that trains", "runs that diverged"), rows)


CLAIM = Claim(
    statement="Batch normalization allows much higher learning rates: networks train, and train "
    "well, at rates at which they do not without it.",
    section="Abstract, §3.3, §4.2.1",
    paper_says="On ImageNet, Inception trains at a learning rate of 0.0015; at five times that its "
    "parameters reach machine infinity. With batch normalization it trains at five times (73.0 %) "
    "and at thirty times that rate (74.8 %, the highest of all).",
    unspecified="Everything, for MNIST: the paper tries one learning rate and does not name it. "
    "Here both arms go over the same rates, half an order of magnitude apart, on the network of "
    "Fig. 1, for 10,000 steps. What it is to train: the loss stays finite, and the last validation "
    f"accuracy is {TRAINED} at least.",
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
        ),
    },
    scales=plans(_arms, SEEDS, GRID),
    measure=measure,
    later={
        "Bjorck et al. 2018": "Confirmed, and taken for the reason of all the rest: without batch "
        "normalization large steps diverge, for activations grow with depth; larger steps are "
        "what generalizes better. Divergence there is a mini-batch loss above 1,000.",
        "Arora et al. 2018": "A normalized layer's gradient shrinks as its weights grow, so that "
        "a learning rate that is too large lowers itself.",
    },
)
