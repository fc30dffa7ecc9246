"""§3.4, §4.2.1: dropout in Inception, with and without batch normalization."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from bnrepro.evidence.arms import CIFAR_SEEDS
from bnrepro.evidence.claim import (
    PAPER,
    SCALES,
    SMOKE,
    Check,
    Claim,
    Comparison,
    Criterion,
    Finding,
    FollowUp,
    Plan,
    Variation,
)
from bnrepro.evidence.exhibits import Curves, Figure, Table, over_seeds
from bnrepro.evidence.fig2_arms import (
    BN_BASELINE,
    BN_X5,
    CHANGES,
    INCEPTION,
    NETWORKS,
    arm,
    changed,
)
from bnrepro.evidence.runs import TEST, TOLD_APART, VALIDATION, Evidence, gap, log_ratio, needed

USUAL = 0.4
"""Inception's dropout (§4.2)."""

DROPOUTS = {"smoke": (0.0, USUAL), "short": (0.0, USUAL), "paper": (0.0, 0.2, USUAL, 0.5)}

PAIR = (INCEPTION, BN_BASELINE)
"""The networks at every dropout: one learning rate, and nothing between them but the norm."""

WITHOUT_DROPOUT = "no dropout"
"""The change of §4.2.1 that is in question."""

STANDARD_ERROR = 0.006
"""Of an accuracy near 0.75 on 5,000 validation images; also of the difference of two of them on
10,000 test images."""

OVERFITTING = 0.01
"""By less a gap does not grow: a little more than its standard error."""


def cell(network: str, dropout: float) -> str:
    """The name of a network at a dropout."""
    return f"{network} dropout={dropout:g}"


def cells(evidence: Evidence, network: str) -> dict[float, str]:
    """The arms of a network of the pair by their dropout, rising."""
    return {dropout: cell(network, dropout) for dropout in DROPOUTS[evidence.scale]}


def _scale(scale: str) -> Plan:
    arms = {}
    for network in PAIR:
        for dropout in DROPOUTS[scale]:
            other = () if dropout == USUAL else (f"model.dropout={dropout:g}",)
            arms[cell(network, dropout)] = arm(scale, *NETWORKS[network], *other)
    if scale != SMOKE:
        arms[cell(BN_X5, 0.0)] = arm(scale, *NETWORKS[BN_X5])
    if scale == PAPER:
        kept = changed(name for name in CHANGES if name != WITHOUT_DROPOUT)
        arms[cell(BN_X5, USUAL)] = arm(scale, *kept)
    return Plan(CIFAR_SEEDS[scale], arms)


def gain(evidence: Evidence, arms: Mapping[float, str]) -> np.ndarray:
    """What the best dropout by mean validation accuracy, which may be none, adds: (S,)."""
    found: np.ndarray = evidence.final(evidence.best(arms.values())) - evidence.final(arms[0.0])
    return found


def removal(evidence: Evidence, kept: str, removed: str) -> dict[str, np.ndarray]:
    """Effects of leaving dropout out, from an arm that has it and one that does not."""
    _, curves = evidence.curves(kept, VALIDATION)
    slow, quick = (evidence.steps_to(name, curves.max(1)) for name in (kept, removed))
    return {
        "removed": evidence.final(removed) - evidence.final(kept),
        "speed": log_ratio(slow, quick),
        "overfitting": gap(evidence, kept) - gap(evidence, removed),
    }


def effects(
    evidence: Evidence, none: Mapping[float, str], batch: Mapping[float, str]
) -> dict[str, np.ndarray]:
    """Every criterion's effects, from a network's arms without and one's with normalization."""
    return {
        "gain": gain(evidence, none) - gain(evidence, batch),
        **removal(evidence, batch[USUAL], batch[0.0]),
    }


def measure(evidence: Evidence) -> Finding:
    """Inception and BN-Baseline at every dropout; then BN-x5, and other dropouts left out."""
    none, batch = (cells(evidence, network) for network in PAIR)
    return Finding(
        effects(evidence, none, batch),
        _comparisons(evidence) if evidence.scale != SMOKE else (),
        (_dropouts(evidence), _training(evidence), _table(evidence), _needed(evidence)),
        _fair(evidence),
        _unspecified(evidence, batch),
    )


def _comparisons(evidence: Evidence) -> tuple[Comparison, ...]:
    ours = evidence.final(cell(BN_X5, 0.0)) - evidence.final(cell(INCEPTION, USUAL))
    what = (
        "accuracy of BN-x5, without dropout, − that of Inception, with it (paper: highest, on "
        "ImageNet; ours: last, on CIFAR-10; BN-x5 has the six other changes as well)"
    )
    return (Comparison(what, "accuracy", 0.730 - 0.722, ours),)


def _dropouts(evidence: Evidence) -> Figure:
    dropouts = DROPOUTS[evidence.scale]

    def panel(title: str, y: str, value: Callable[[str], np.ndarray]) -> Curves:
        lines = []
        for network in PAIR:
            arms = cells(evidence, network).values()
            values = np.stack([value(name) for name in arms], axis=1)
            lines.append(over_seeds(network, dropouts, values))
        return Curves(title, "dropout", y, lines)

    panels = (
        panel("What dropout is worth", "test accuracy", evidence.final),
        panel("Overfitting", "training − test accuracy", lambda name: gap(evidence, name)),
    )
    caption = (
        "At the last step: median over seeds, band from least to greatest. Both accuracies are of "
        "inference: without dropout, of images as they are, and with moving averages."
    )
    return Figure("dropout", caption, panels)


def _training(evidence: Evidence) -> Figure:
    panels = []
    for network in PAIR:
        lines = []
        for dropout in (0.0, USUAL):
            label = f"dropout {dropout:g}" if dropout else "no dropout"
            lines.append(over_seeds(label, *evidence.curves(cell(network, dropout))))
        panels.append(Curves(network, "step", "test accuracy", lines))
    caption = "Test accuracy over training: median over seeds, band from least to greatest."
    return Figure("training", caption, panels)


def _table(evidence: Evidence) -> Table:
    rows = []
    for name, runs in evidence.runs.items():
        config = runs[0].config()
        finals = (evidence.final(name, m) for m in (VALIDATION, TEST, "train_accuracy"))
        means = (float(values.mean()) for values in finals)
        network = name.partition(" dropout=")[0]
        rows.append(
            (network, config["model"]["dropout"], *means, float(gap(evidence, name).mean()))
        )
    columns = ("network", "dropout", "validation", "test", "training", "gap")
    return Table("Accuracies at the last step: means over seeds.", columns, rows)


def _needed(evidence: Evidence) -> Table:
    rows = []
    for network in PAIR:
        least = needed(evidence, cells(evidence, network), STANDARD_ERROR)
        rows.append((network, ", ".join(f"{dropout:g}" for dropout in least)))
    caption = (
        f"The dropout needed, by seed: the least whose validation accuracy is within "
        f"{STANDARD_ERROR} of the best one's, a standard error of an accuracy near .75 on 5,000 "
        "images."
    )
    return Table(caption, ("network", "dropout needed"), rows)


def _fair(evidence: Evidence) -> Check:
    text = (
        "×1, the learning rate of both networks, is Inception's own best by validation accuracy, "
        "with its dropout of 0.4. That of BN-Baseline was not looked for."
    )
    if evidence.scale != PAPER:
        return Check(text)
    none, batch = (
        {dropout: cell(network, dropout) for dropout in (0.0, USUAL)}
        for network in (INCEPTION, BN_X5)
    )
    choice = "BN-x5 at five times that rate, in place of BN-Baseline; dropouts of 0 and 0.4"
    return Check(
        f"{text} BN-x5 is the network that the paper speaks of; it has the other changes of §4.2.1 "
        "whether dropout is left out or not.",
        (Variation(choice, effects(evidence, none, batch)),),
    )


def _unspecified(evidence: Evidence, batch: Mapping[float, str]) -> Check:
    found = {
        dropout: removal(evidence, name, batch[0.0])
        for dropout, name in batch.items()
        if dropout not in (0.0, USUAL)
    }
    return Check(
        "The dropout that is left out of BN-Baseline; the paper's is 0.4. How long the networks "
        "train and how many parameters they have is not gone over, though it says how much there "
        "is to regularize: the claim less-dropout asks the same of networks that learn their "
        "images by heart.",
        tuple(Variation(f"dropout of {dropout:g}", values) for dropout, values in found.items()),
    )


CLAIM = Claim(
    statement="In the batch-normalized Inception dropout can be left out: it trains faster and "
    "overfits no more, and dropout is worth less than without batch normalization.",
    section="§3.4, §4.2.1",
    paper_says="“Whereas Dropout is typically used to reduce over-fitting, in a batch-normalized "
    "network we found that it can be either removed or reduced in strength” (§3.4). Removing it is "
    "said to speed up training without increasing overfitting (§4.2.1), of a network that has the "
    "other changes of BN-x5 too. Inception has dropout of 40 %, and reaches 72.2 % on ImageNet; "
    "BN-x5, without, 73.0 %. No number for dropout alone.",
    unspecified="All but the 40 %. Here CIFAR-10 and an Inception of 106,000 parameters, which at "
    "scale paper sees each image four times, varied: there is far less overfitting to reduce than "
    "on ImageNet. Dropout stands before the softmax's layer. What is left out is the only "
    "difference; the learning rate is Inception's own best. Overfitting is taken for the gap "
    "between training and test accuracy, speed for steps to the validation accuracy that dropout "
    "reaches.",
    criteria=(
        Criterion(
            "gain",
            "what the best dropout adds to test accuracy, Inception − BN-Baseline (no dropout is "
            "among the choices, which are made on validation images for each network)",
            "accuracy",
            TOLD_APART,
            "What batch normalization replaces must have been worth something. The paper gives no "
            "number; .003 is the smallest difference of accuracies that it takes for one (73.0 and "
            "72.7 %, BN-x5 and BN-Baseline).",
        ),
        Criterion(
            "removed",
            "test accuracy of BN-Baseline without dropout − with dropout of 0.4, of the same seed",
            "accuracy",
            -TOLD_APART,
            "Can be removed: nothing is lost, within the difference of .003.",
        ),
        Criterion(
            "speed",
            "steps to the highest validation accuracy that BN-Baseline comes to with dropout of "
            "0.4, with ÷ without it, of the same seed",
            "doublings",
            0.0,
            "Faster at all: the paper says so and gives no number.",
        ),
        Criterion(
            "overfitting",
            "training − test accuracy of BN-Baseline, with dropout of 0.4 − without, of the same "
            "seed",
            "accuracy",
            -OVERFITTING,
            "No more overfitting, within a hundredth. On 10,000 images the difference of two "
            f"networks' accuracies near .75 has a standard error of {STANDARD_ERROR}.",
        ),
    ),
    scales={scale: _scale(scale) for scale in SCALES},
    measure=measure,
    later=(
        FollowUp(
            "Li et al. 2018",
            "1801.05134",
            "Dropout before batch normalization changes a unit's variance between training and "
            "inference, and often harms. Here, as in Inception, it stands behind the last "
            "normalization, where it does not.",
        ),
        FollowUp(
            "Zhang et al. 2016",
            "1611.03530",
            "On CIFAR-10 Inception without batch normalization is 3 to 4 % worse, and with it it "
            "still learns random labels by heart: it regularizes, but little.",
        ),
    ),
)
