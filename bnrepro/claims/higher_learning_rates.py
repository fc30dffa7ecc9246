"""With batch normalization networks train at learning rates at which others do not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from bnrepro.evidence.arms import GRID, LRS, NAMES, NONE, NORMS, SEEDS, at_lr, norms, over_lrs
from bnrepro.evidence.claim import (
    PAPER,
    SCALES,
    Check,
    Claim,
    Criterion,
    Finding,
    FollowUp,
    Plan,
    Variation,
)
from bnrepro.evidence.exhibits import Table
from bnrepro.evidence.runs import VALIDATION, Evidence, log_ratio
from bnrepro.evidence.tuning import accuracy_over_lrs, best_lr, tuned_comparison

TRAINED = 0.9
"""Less than a linear classifier of MNIST has: a network that does not get there has not trained."""

FURTHER = {"smoke": (), "short": (100.0,), "paper": (100.0, 300.0)}
"""Learning rates beyond the usual grid, so that its end is not the answer."""

HIGH = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
SMALLER = 0.02
"""At these rates, both arms again from smaller initial weights."""


def lrs(scale: str) -> tuple[float, ...]:
    """All learning rates of a scale, rising."""
    return (*LRS[scale], *FURTHER[scale])


def _scale(scale: str) -> Plan:
    arms = over_lrs(norms(), lrs(scale))
    if scale == PAPER:
        smaller = {
            f"{arm} small": words for arm, words in norms((f"init.scale={SMALLER}",)).items()
        }
        arms |= over_lrs(smaller, HIGH)
    return Plan(SEEDS[scale], arms, GRID[scale])


def largest(
    evidence: Evidence, arm: str, among: Sequence[float], trained: float = TRAINED
) -> np.ndarray:
    """The largest learning rate at which an arm trains: (S,); 0 where it does at none.

    It trains where the loss stays finite and the last validation accuracy is `trained` at least.
    """
    found = np.zeros(len(evidence.seeds))
    for lr in among:
        name = at_lr(arm, lr)
        trains = (evidence.final(name, VALIDATION) >= trained) & ~evidence.diverged(name)
        found = np.where(trains, np.maximum(found, lr), found)
    return found


def gain(
    evidence: Evidence, arms: Sequence[str], among: Sequence[float], trained: float = TRAINED
) -> np.ndarray:
    """Decades by which the largest rate is larger that trains, the baseline named first: (S,)."""
    none, batch = (largest(evidence, arm, among, trained) for arm in arms)
    return log_ratio(batch, none, 10)


def accuracy(evidence: Evidence, none: str, batch: str) -> Mapping[str, np.ndarray]:
    """The difference in test accuracy of two arms at one rate each: (S,)."""
    return {"accuracy": evidence.final(batch) - evidence.final(none)}


def measure(evidence: Evidence) -> Finding:
    """Where each arm still trains, and what it is worth there."""
    among = lrs(evidence.scale)
    bound = best_lr(evidence, NONE, among)
    pairs = [[at_lr(norm, lr) for norm in NORMS] for lr in among if lr >= bound]
    differences = [accuracy(evidence, *pair)["accuracy"] for pair in pairs]
    return Finding(
        {"largest rate": gain(evidence, NORMS, among), "accuracy": np.mean(differences, axis=0)},
        exhibits=(accuracy_over_lrs(evidence, NAMES, among), _largest(evidence, among)),
        fair=tuned_comparison(evidence, NAMES, among, accuracy, drawn=False),
        unspecified=_unspecified(evidence, among),
    )


def _largest(evidence: Evidence, among: Sequence[float]) -> Table:
    rows = []
    for norm in NORMS:
        found = largest(evidence, norm, among)
        diverged = sum(int(evidence.diverged(at_lr(norm, lr)).sum()) for lr in among)
        seeds = ", ".join(f"{lr:g}" if lr else "none" for lr in found)
        rows.append((NAMES[norm], seeds, diverged))
    caption = (
        f"The largest learning rate that trains, by seed. The grid ends at {among[-1]:g}: a "
        "network that trains there might at more."
    )
    return Table(caption, ("arm", "largest rate that trains", "runs that diverged"), rows)


def _unspecified(evidence: Evidence, among: Sequence[float]) -> Check:
    found = {
        f"trained means a validation accuracy of {trained}": gain(evidence, NORMS, among, trained)
        for trained in (0.5, 0.95)
    }
    found["trained means that the loss stays finite"] = gain(evidence, NORMS, among, 0.0)
    if evidence.scale == PAPER:
        small = [f"{norm} small" for norm in NORMS]
        found[f"initial deviation {SMALLER}"] = gain(evidence, small, HIGH)
    return Check(
        "What counts as training, and the initial weights.",
        tuple(Variation(choice, {"largest rate": effects}) for choice, effects in found.items()),
    )


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
    criteria=(
        Criterion(
            "largest rate",
            "the largest learning rate that trains, with BN ÷ without BN, of the same seed",
            "decades",
            math.log10(5),
            "A factor of 5: the paper's network does not survive five times its rate without batch "
            "normalization, and with it is best at thirty times.",
        ),
        Criterion(
            "accuracy",
            "test accuracy at the last step, with BN − without BN, mean over all rates from the "
            "one at which the network without BN is best",
            "accuracy",
            0.0,
            "Better at all: what trains at a higher rate is to be worth something.",
        ),
    ),
    scales={scale: _scale(scale) for scale in SCALES},
    measure=measure,
    later=(
        FollowUp(
            "Bjorck et al. 2018",
            "1806.02375",
            "Confirmed, and taken for the reason of all the rest: without batch normalization "
            "large steps diverge, for activations grow with depth; larger steps are what "
            "generalizes better. Divergence there is a mini-batch loss above 1,000.",
        ),
        FollowUp(
            "Arora et al. 2018",
            "1812.03981",
            "A normalized layer's gradient shrinks as its weights grow, so that a learning rate "
            "that is too large lowers itself.",
        ),
    ),
)
