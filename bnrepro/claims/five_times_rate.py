"""Abstract, §4.2.1: at five times its learning rate Inception fails, with BN it trains.

After 4.3 epochs, the first registration, Inception at five times its rate was at chance with all
seeds. After 200 two of five are; the other three train, to some 5 points less than at its best.
"""

from bnrepro.evidence import controls
from bnrepro.evidence.arms import BATCH, CIFAR_SEEDS, NAMES, NONE, NORMS, per_scale
from bnrepro.evidence.claim import Check, Claim, Criterion, Expected, Finding, Group, Margin, plans
from bnrepro.evidence.fig2_arms import (
    EPOCHS,
    INCEPTION,
    LR,
    SELDOM,
    STEPS,
    UNSTUDIED,
    arm,
    bn_baseline,
    inception,
    lr,
)
from bnrepro.evidence.grid import Array, Grid, curves, doublings, grid, table
from bnrepro.evidence.runs import VALIDATION, Evidence
from bnrepro.evidence.tuning import over_lrs

ONE, FIVE = "×1", "×5"

RATES = per_scale(
    (0.2, 1.0, 5.0), (0.5, 1.0, 2.0, 5.0, 10.0), (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
)
"""Learning rates, times ×1, among which each arm's best is looked for."""

BRIEFLY = per_scale(1.0, 0.25, 8 / EPOCHS)
"""For a part of Inception's steps, with the whole decay in them: eight epochs."""


def cells(scale: str) -> Grid:
    """Inception and BN-Baseline, at ×1 and at ×5."""
    times: dict[str, tuple[str, ...]] = {ONE: (), FIVE: (lr(5), UNSTUDIED)}
    return grid(norm={NONE: inception(scale), BATCH: bn_baseline(scale)}, times=times)


def searched(scale: str) -> Grid:
    """The same at every rate, for fewer steps."""
    steps = (f"train.steps={round(STEPS[scale] * BRIEFLY[scale])}",)
    networks = {norm: arm(scale, f"norm={norm}", *steps, every=SELDOM) for norm in NORMS}
    rates = {float(f"{times * LR:.4g}"): (lr(times),) for times in RATES[scale]}
    return grid("briefly", norm=networks, lr=rates)


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    return cells(scale).arms() | searched(scale).arms()


def effects(test: Array) -> dict[str, Array]:
    """What BN is worth at ×5, and what ×5 is worth with BN, from (norm, times, …)."""
    five, one = test.sel(times=FIVE), test.sel(times=ONE)
    with_bn = five.sel(norm=BATCH)
    return {"fails": with_bn - five.sel(norm=NONE), "no worse": with_bn - one.sel(norm=BATCH)}


def measure(evidence: Evidence) -> Finding:
    """At five times the rate; at the best of nine, for fewer steps."""
    of, many = cells(evidence.scale), searched(evidence.scale)
    test = of.final(evidence)
    rated, validation = many.final(evidence), many.final(evidence, VALIDATION)
    best = validation.idxmax("lr")
    tuned = rated.sel(lr=best)
    ratio = doublings(best.sel(norm=BATCH), best.sel(norm=NONE))
    training = test.stack(cell=("norm", "times")).sel(
        cell=[(NONE, ONE), (BATCH, ONE), (BATCH, FIVE)]
    )
    return Finding(
        {**effects(test), "best rates": ratio},
        exhibits=(
            curves(
                "accuracy", "Validation accuracy over training, at five times the learning rate",
                {"×5": of.select(times=[FIVE]).curves(evidence, VALIDATION).sel(times=FIVE)},
                "step", "validation accuracy", limits=(0.0, 1.0),
            ),
            over_lrs(rated),
            table(
                "Test accuracies at the last step; means over seeds.", ("norm", "times"),
                {"test accuracy": test, "diverged": of.diverged(evidence).sum("seed")},
                called={"times": "learning rate"},
            ),
        ),
        tuned=Check(
            f"Each arm at the best of {len(RATES[evidence.scale])} learning rates, of each seed "
            "its own, by validation accuracy after fewer steps, with the whole decay in them.",
            {
                f"{NAMES[BATCH]} at {_span(best, BATCH)}, {NAMES[NONE]} at {_span(best, NONE)}": {
                    "fails": tuned.sel(norm=BATCH) - tuned.sel(norm=NONE)
                }
            },
        ),
        unspecified=Check(
            f"Inception's rate to compare with at: BN at ×5, {INCEPTION} at ×1.",
            {"Inception at ×1": {
                "fails": test.sel(norm=BATCH, times=FIVE) - test.sel(norm=NONE, times=ONE)
            }},
        ),
        controls={"training": training, "rates": validation},
        redrawn=of.over_images(evidence, effects),
    )  # fmt: skip


def _span(best: Array, norm: str) -> str:
    low, high = (f(best.sel(norm=norm)).item() for f in (Array.min, Array.max))
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


CLAIM = Claim(
    statement="At five times its best learning rate Inception fails; with batch normalization it "
    "trains at that rate, and loses nothing.",
    section="Abstract, §4.2.1, §4.2.2",
    paper_says="Batch normalization “allows us to use much higher learning rates”. “When we "
    "increased the original learning rate of Inception by a factor of 5, to 0.0075, the model "
    "parameters reached machine infinity.” BN-x5 trains at that rate, and BN-x30 at 0.045: “a "
    "training speedup from higher learning rates, with no ill side effects” (§4.2.1).",
    unspecified="Whether batch normalization alone is enough: BN-x5 has six more changes, "
    f"BN-Baseline at five times the rate, which is compared here, has none. ×1 is {LR:g}, "
    "Inception's best by pilots, from He's initial weights (docs/cifar10.md). How much higher the "
    "best rate with batch normalization is the paper does not say: here over nine rates a factor "
    "of two apart, each with its whole decay over eight epochs.",
    criteria={
        "fails": Criterion(
            "test accuracy at the last step at five times ×1, BN-Baseline − Inception, of the same "
            "seed; a run that diverges guesses",
            Margin(0.1, "accuracy"),
            "As much as guessing has. In the paper one network has infinite parameters.",
        ),
        "no worse": Criterion(
            "test accuracy at the last step, BN-Baseline at five times ×1 − at ×1, of the same "
            "seed",
            Margin(-0.01, "accuracy"),
            "“No ill side effects”: within the 1 % that is the only gain of a single change that "
            "§4.2.1 has a number for.",
        ),
        "best rates": Criterion(
            "the best of nine learning rates by validation accuracy, BN-Baseline ÷ Inception, of "
            "the same seed",
            Margin(0.0, "doublings"),
            "Higher at all; the rates are one doubling apart, and half of one is none.",
            indifference=0.5,
        ),
    },
    scales=plans(_arms, CIFAR_SEEDS),
    measure=measure,
    controls={
        "training": controls.trains("each of Inception at ×1 and BN-Baseline at ×1 and ×5"),
        "rates": controls.interior(),
    },
    group=Group.EXPERIMENT,
    expected=Expected("REPRODUCED"),
    why="Inception's best rate may be far from the one at which it fails.",
    to_settle="The largest rate at which each network trains.",
    later={
        "Bjorck et al. 2018": "Confirmed, and taken for the reason of all the rest: without batch "
        "normalization large steps diverge, for activations grow with depth.",
        "De and Smith 2020": "In small batches the best rates with and without batch "
        "normalization agree.",
    },
)
