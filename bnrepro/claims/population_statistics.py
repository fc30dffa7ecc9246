"""§3.1, Algorithm 2: inference by the statistics of the population, one function of the input."""

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from bnrepro.evidence import controls
from bnrepro.evidence.arms import BATCH, GRID, MIDDLE, SEEDS, SIZES, at_size
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Group, Margin, plans
from bnrepro.evidence.grid import Array, Grid, curves, decades, grid, table
from bnrepro.evidence.runs import CHANCE, TOLD_APART, Evidence

EXACT, MOVING, OWN = "algorithm2", "moving_averages", "batch_statistics"
MODES = {EXACT: "Algorithm 2", MOVING: "moving averages", OWN: "batch statistics"}
"""What a network normalizes by in inference, and what figures and tables call it."""

SIZES_OF = {scale: [size for size in of if size <= 512] for scale, of in SIZES.items()}
"""The training batch sizes of a scale."""

PAPERS = {scale: [size for size in of if size in (32, 64)] for scale, of in SIZES.items()}
"""The paper's among them: 32 (§4.2), and the power of 2 next to 60 (§4.1)."""

CHOICES = {
    "moving averages at rate 0.01": "norm.momentum=0.01",
    "Algorithm 2 over 10 batches": "norm.population_batches=10",
}
"""What the paper leaves open, chosen otherwise."""

SAID = "as said"

FIG1 = "Fig. 1's network on all images"
FIG1_SIZE = 60


def cells(scale: str) -> Grid:
    """As said at every size, otherwise at the paper's; and Fig. 1's network at its own."""
    return grid(
        choice=dict.fromkeys((SAID, *CHOICES, FIG1), ()), size=[*SIZES_OF[scale], FIG1_SIZE]
    )


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    of, arms = cells(scale), {}
    for size in SIZES_OF[scale]:
        arms[of.arm(SAID, size)] = at_size(scale, BATCH, size, MIDDLE)
    if scale != "smoke":
        for choice, word in CHOICES.items():
            for size in PAPERS[scale]:
                arms[of.arm(choice, size)] = (*arms[of.arm(SAID, size)], word)
    fig1 = (*GRID[scale], f"norm={BATCH}", "studies=[inference]")
    return arms | {of.arm(FIG1, FIG1_SIZE): fig1}


def studied(evidence: Evidence) -> xr.Dataset:
    """By mode the test `accuracy`, and the `change` of a probability with the company in a batch.

    With axes choice, size and seed; NaN where a run diverged.
    """

    def read(number: Callable[[Any, str], float]) -> Array:
        def rows(arm: str) -> np.ndarray:
            studies = evidence.studies(arm, "inference")
            return np.array([[number(s, mode) if s else np.nan for mode in MODES] for s in studies])

        return cells(evidence.scale).array(evidence, rows, mode=MODES)

    accuracy = read(lambda study, mode: study["modes"][mode]["test_accuracy"])
    change = read(lambda study, mode: study["determinism"][mode])
    return xr.Dataset({"accuracy": accuracy, "change": change})


def effects(runs: xr.Dataset) -> dict[str, Array]:
    """Every criterion's effects: of several sizes the one that supports it least.

    A run that diverged has shown nothing.
    """
    exact, moving, own = (runs.sel(mode=mode) for mode in MODES)
    least = {
        "accuracy": exact.accuracy - own.accuracy,
        "determinism": decades(own.change, exact.change),
    }
    return {
        "tracking": abs(moving.accuracy - exact.accuracy).fillna(np.inf).max("size"),
        **{name: values.fillna(-np.inf).min("size") for name, values in least.items()},
    }


def measure(evidence: Evidence) -> Finding:
    """The paper's batch sizes; then each one, other choices, and Fig. 1's network."""
    scale, runs = evidence.scale, studied(evidence)
    said = runs.sel(choice=SAID)
    judged = said.sel(size=PAPERS[scale])
    choices = {f"batches of {size}": effects(said.sel(size=[size])) for size in SIZES_OF[scale]}
    if scale != "smoke":
        for choice in CHOICES:
            choices[choice] = effects(runs.sel(choice=choice, size=PAPERS[scale]))
    choices[FIG1] = effects(runs.sel(choice=FIG1, size=[FIG1_SIZE]))
    changes = runs.change.median("seed", skipna=False)
    columns = {f"accuracy: {name}": runs.accuracy.sel(mode=mode) for mode, name in MODES.items()}
    columns |= {f"change: {name}": changes.sel(mode=mode) for mode, name in MODES.items()}
    return Finding(
        effects(judged),
        exhibits=(
            curves(
                "accuracy",
                "Test accuracy of the same networks with three kinds of statistics, each taken "
                "over batches of the training batch size",
                {"Normalized by": said.accuracy.sel(size=SIZES_OF[scale])},
                "size", "test accuracy", "mode", names=MODES,
            ),
            table(
                "Test accuracy, means over seeds; and the most that a probability of one of 100 "
                "test images changes when the test images are shuffled, in float64, medians.",
                ("choice", "size"), columns, called={"choice": "arm", "size": "batch size"},
            ),
        ),
        unspecified=Check(
            "The size of the training batch, from which all three take their statistics; how fast "
            "the moving averages forget; over how many batches Algorithm 2 goes; the network.",
            choices,
        ),
        controls={"training": judged.accuracy.sel(mode=EXACT).fillna(CHANCE)},
    )  # fmt: skip


CLAIM = Claim(
    statement="Moving averages track the accuracy that a network has with population statistics "
    "(Algorithm 2), with which it is as accurate as with those of the batch and its answer depends "
    "on the input alone.",
    section="§3.1, Algorithm 2",
    paper_says="“The normalization of activations that depends on the mini-batch allows efficient "
    "training, but is neither necessary nor desirable during inference; we want the output to "
    "depend only on the input, deterministically.” So mean and variance are averaged over several "
    "training mini-batches, the variance times m ÷ (m − 1). “Using moving averages instead, we can "
    "track the accuracy of a model as it trains.” Batches of 32 and 60; no number.",
    unspecified="How many batches (100 here, of training images in an order that no epoch had), "
    "the rate of the moving averages (0.1), how near is near. Accuracies are compared after "
    "training, not during it. The network and the batch sizes are those of the claim batch-size, "
    "at one learning rate that goes with √(batch size): three hidden layers of 100 rectified units "
    "on 2,048 images of MNIST. Judged at batches of 32 and 64, each criterion at the one that "
    "supports it less.",
    criteria={
        "tracking": Criterion(
            "distance of the test accuracy with moving averages from that with Algorithm 2, of the "
            "same network",
            Margin(TOLD_APART, "accuracy"),
            ".003 is the smallest difference of accuracies that the paper takes for one (73.0 and "
            "72.7 %): what tracks an accuracy must not blur it.",
            equivalence=True,
        ),
        "accuracy": Criterion(
            "test accuracy with Algorithm 2 − with the statistics of test batches of the training "
            "batch size, of the same network",
            Margin(-0.001, "accuracy"),
            "“Neither necessary nor desirable”: without the batch nothing is lost. On 10,000 "
            "images a few may turn either way: ten, a tenth of what batch normalization is worth "
            "at the end of Fig. 1a.",
        ),
        "determinism": Criterion(
            "the most a probability changes as the test images are shuffled into other batches, "
            "with batch statistics ÷ with Algorithm 2",
            Margin(10.0, "decades"),
            "From a hundredth, which can turn an answer, to 10⁻¹², some thousand roundings of "
            "float64, which sums over hundreds of units may come to.",
        ),
    },
    scales=plans(_arms, SEEDS),
    measure=measure,
    controls={"training": controls.trains("the network at each batch size that is judged")},
    group=Group.ARGUMENT,
    why="The accuracies are those of one moment, the last step, at which a few images decide.",
    to_settle="The mean distance over many checkpoints of a run, and more seeds.",
    later={
        "Ioffe 2017": "That training and inference compute two functions is a drawback where "
        "batches are small or not drawn independently; batch renormalization makes them one.",
        "Singh and Shrivastava 2019": "With batches of 2 the loss of accuracy is for a good part "
        "one of inference: statistics corrected for an image's own share in its batch win back 6 "
        "% on ImageNet.",
        "Wu and Johnson 2021": "Statistics computed after training, as Algorithm 2 has it, "
        "are better and steadier than moving averages, above all with large batches; a thousand "
        "to ten thousand images are enough. With small ones batch statistics can be the better "
        "ones in inference.",
    },
)
