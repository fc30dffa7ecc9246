"""§3.4, §4.2.1: dropout in Inception, with and without batch normalization."""

import xarray as xr

from bnrepro.evidence import fig2_arms
from bnrepro.evidence.arms import CIFAR_SEEDS
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Margin, PaperNumber, plans
from bnrepro.evidence.exhibits import Exhibit, Table
from bnrepro.evidence.fig2_arms import BN_BASELINE, BN_X5, CHANGES, INCEPTION
from bnrepro.evidence.grid import Grid, best, curves, doublings, grid, needed, steps_to, table
from bnrepro.evidence.runs import TOLD_APART, Evidence

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


def cells(scale: str) -> Grid:
    """Every network at every dropout; BN-x5 only without, and at paper scale at the usual one."""
    named: dict[str, tuple[str, ...]] = dict.fromkeys((*PAIR, BN_X5), ())
    return grid(network=named, dropout=DROPOUTS[scale])


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    of, arms = cells(scale), {}
    for network in PAIR:
        for dropout in DROPOUTS[scale]:
            other = () if dropout == USUAL else (f"model.dropout={dropout:g}",)
            arms[of.arm(network, dropout)] = fig2_arms.arm(
                scale, *fig2_arms.NETWORKS[network], *other
            )
    if scale != "smoke":
        arms[of.arm(BN_X5, 0.0)] = fig2_arms.arm(scale, *fig2_arms.NETWORKS[BN_X5])
    if scale == "paper":
        kept = fig2_arms.changed(name for name in CHANGES if name != WITHOUT_DROPOUT)
        arms[of.arm(BN_X5, USUAL)] = fig2_arms.arm(scale, *kept)
    return arms


def gain(runs: xr.Dataset) -> xr.DataArray:
    """What the best dropout by mean validation accuracy, which may be none, adds: (seed,)."""
    test = runs["test"]
    return test.sel(dropout=best(runs.validation, "dropout")) - test.sel(dropout=0)


def removal(runs: xr.Dataset, dropout: float) -> dict[str, xr.DataArray]:
    """Effects of leaving a dropout out of a network."""
    kept, removed = runs.sel(dropout=dropout), runs.sel(dropout=0)
    target = kept.curve.max("step")
    return {
        "removed": removed.test - kept.test,
        "speed": doublings(
            steps_to(kept.curve, target, kept.diverged),
            steps_to(removed.curve, target, removed.diverged),
        ),
        "overfitting": (kept.training - kept.test) - (removed.training - removed.test),
    }


def effects(none: xr.Dataset, batch: xr.Dataset) -> dict[str, xr.DataArray]:
    """Every criterion's effects, from a network's runs without and one's with normalization."""
    return {"gain": gain(none) - gain(batch), **removal(batch, USUAL)}


def measure(evidence: Evidence) -> Finding:
    """Inception and BN-Baseline at every dropout; then BN-x5, and other dropouts left out."""
    runs = cells(evidence.scale).runs(evidence)
    none, batch = (runs.sel(network=network) for network in PAIR)
    others = [dropout for dropout in DROPOUTS[evidence.scale] if dropout not in (0.0, USUAL)]
    return Finding(
        effects(none, batch),
        _comparisons(runs.test) if evidence.scale != "smoke" else (),
        _exhibits(evidence, runs),
        _fair(evidence.scale, runs.sel(dropout=[0.0, USUAL])),
        Check(
            "The dropout that is left out of BN-Baseline; the paper's is 0.4. How long the "
            "networks train and how many parameters they have is not gone over, though it says "
            "how much there is to regularize: the claim less-dropout asks the same of networks "
            "that learn their images by heart.",
            {f"dropout of {dropout:g}": removal(batch, dropout) for dropout in others},
        ),
    )


def _comparisons(test: xr.DataArray) -> tuple[PaperNumber, ...]:
    ours = test.sel(network=BN_X5, dropout=0) - test.sel(network=INCEPTION, dropout=USUAL)
    what = (
        "accuracy of BN-x5, without dropout, − that of Inception, with it (paper: highest, on "
        "ImageNet; ours: last, on CIFAR-10; BN-x5 has the six other changes as well)"
    )
    return (PaperNumber(what, "accuracy", 0.730 - 0.722, ours.to_numpy()),)


def _exhibits(evidence: Evidence, runs: xr.Dataset) -> tuple[Exhibit, ...]:
    pair, gap = runs.sel(network=list(PAIR)), runs.training - runs.test
    over = cells(evidence.scale).curves(evidence)
    named = {0.0: "no dropout", USUAL: f"dropout {USUAL:g}"}
    least = needed(pair.validation, "dropout", STANDARD_ERROR)
    return (
        curves(
            "dropout", "At the last step",
            {"What dropout is worth": pair.test, "Overfitting": gap.sel(network=list(PAIR))},
            "dropout", ("test accuracy", "training − test accuracy"), "network",
            more=" Both accuracies are of inference: without dropout, of images as they are, and "
            "with moving averages.",
        ),
        curves(
            "training", "Test accuracy over training",
            {network: over.sel(network=network, dropout=list(named)) for network in PAIR},
            "step", "test accuracy", "dropout", names=named,
        ),
        table(
            "Accuracies at the last step: means over seeds.",
            ("network", "dropout"),
            {**{name: runs[name] for name in ("validation", "test", "training")}, "gap": gap},
        ),
        Table(
            f"The dropout needed, by seed: the least whose validation accuracy is within "
            f"{STANDARD_ERROR} of the best one's, a standard error of an accuracy near .75 on "
            "5,000 images.",
            ("network", "dropout needed"),
            [
                (network, ", ".join(f"{d:g}" for d in least.sel(network=network).to_numpy()))
                for network in PAIR
            ],
        ),
    )  # fmt: skip


def _fair(scale: str, runs: xr.Dataset) -> Check:
    text = (
        "×1, the learning rate of both networks, is Inception's own best by validation accuracy, "
        "with its dropout of 0.4. That of BN-Baseline was not looked for."
    )
    if scale != "paper":
        return Check(text, {})
    choice = "BN-x5 at five times that rate, in place of BN-Baseline; dropouts of 0 and 0.4"
    return Check(
        f"{text} BN-x5 is the network that the paper speaks of; it has the other changes of §4.2.1 "
        "whether dropout is left out or not.",
        {choice: effects(runs.sel(network=INCEPTION), runs.sel(network=BN_X5))},
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
    criteria={
        "gain": Criterion(
            "what the best dropout adds to test accuracy, Inception − BN-Baseline (no dropout is "
            "among the choices, which are made on validation images for each network)",
            Margin(TOLD_APART, "accuracy"),
            "What batch normalization replaces must have been worth something. The paper gives no "
            "number; .003 is the smallest difference of accuracies that it takes for one (73.0 and "
            "72.7 %, BN-x5 and BN-Baseline).",
        ),
        "removed": Criterion(
            "test accuracy of BN-Baseline without dropout − with dropout of 0.4, of the same seed",
            Margin(-TOLD_APART, "accuracy"),
            "Can be removed: nothing is lost, within the difference of .003.",
        ),
        "speed": Criterion(
            "steps to the highest validation accuracy that BN-Baseline comes to with dropout of "
            "0.4, with ÷ without it, of the same seed",
            Margin(0.0, "doublings"),
            "Faster at all: the paper says so and gives no number.",
        ),
        "overfitting": Criterion(
            "training − test accuracy of BN-Baseline, with dropout of 0.4 − without, of the same "
            "seed",
            Margin(-OVERFITTING, "accuracy"),
            "No more overfitting, within a hundredth. On 10,000 images the difference of two "
            f"networks' accuracies near .75 has a standard error of {STANDARD_ERROR}.",
        ),
    },
    scales=plans(_arms, CIFAR_SEEDS),
    measure=measure,
    later={
        "Li et al. 2018": "Dropout before batch normalization changes a unit's variance between "
        "training and inference, and often harms. Here, as in Inception, it stands behind the "
        "last normalization, where it does not.",
        "Zhang et al. 2016": "On CIFAR-10 Inception without batch normalization is 3 to 4 % "
        "worse, and with it it still learns random labels by heart: it regularizes, but little.",
    },
)
