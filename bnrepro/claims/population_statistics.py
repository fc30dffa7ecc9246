"""§3.1, Algorithm 2: inference by the statistics of the population, one function of the input."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from bnrepro.evidence.arms import BATCH, GRID, MIDDLE, SEEDS, SIZES, at_size
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Margin, plans
from bnrepro.evidence.exhibits import Exhibit, HeatMap
from bnrepro.evidence.grid import Array, Grid, curves, decades, grid, table
from bnrepro.evidence.runs import CHANCE, TOLD_APART, Evidence

EXACT, MOVING, OWN = "algorithm2", "moving_averages", "batch_statistics"
MODES = {EXACT: "Algorithm 2", MOVING: "moving averages", OWN: "batch statistics"}
"""What a network normalizes by in inference, and what figures and tables call it."""

PAPERS = (32, 64)
"""The paper's batch sizes: 32 (§4.2), and the power of 2 next to 60 (§4.1)."""

LARGEST = 512

TESTED = (2, 8, 32, 128, 512)
"""The sizes of the test batches whose own statistics the study tries."""

CHOICES = {
    "moving averages at rate 0.01": "norm.momentum=0.01",
    "Algorithm 2 over 10 batches": "norm.population_batches=10",
}
"""What the paper leaves open, chosen otherwise."""

SAID = "as said"

FIG1 = "Fig. 1's network on all images"
FIG1_SIZE = 60


def sizes(scale: str) -> list[int]:
    """The training batch sizes of a scale."""
    return [size for size in SIZES[scale] if size <= LARGEST]


def papers(scale: str) -> list[int]:
    """The paper's among them."""
    return [size for size in sizes(scale) if size in PAPERS]


def cells(scale: str) -> Grid:
    """As said at every size, otherwise at the paper's; and Fig. 1's network at its own."""
    return grid(choice=dict.fromkeys((SAID, *CHOICES, FIG1), ()), size=[*sizes(scale), FIG1_SIZE])


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    of, arms = cells(scale), {}
    for size in sizes(scale):
        arms[of.arm(SAID, size)] = at_size(scale, BATCH, size, MIDDLE)
    if scale != "smoke":
        for choice, word in CHOICES.items():
            for size in papers(scale):
                arms[of.arm(choice, size)] = (*arms[of.arm(SAID, size)], word)
    fig1 = (*GRID[scale], f"norm={BATCH}", "studies=[inference]")
    return arms | {of.arm(FIG1, FIG1_SIZE): fig1}


def studied(evidence: Evidence) -> xr.Dataset:
    """The study of inference: with axes choice, size and seed, NaN where a run diverged.

    By mode the test `accuracy`, which then is guessing, and the `change` of a probability with the
    company in a batch; how far probabilities are `apart` with Algorithm 2 and moving averages, the
    mean and the most; the accuracy with the statistics of test batches of `tested` images.
    """
    of = cells(evidence.scale)

    def read(
        number: Callable[[Any, Any], float], nothing: float = np.nan, **axis: Sequence[Any]
    ) -> Array:
        [keys] = axis.values()

        def rows(arm: str) -> np.ndarray:
            studies = evidence.studies(arm, "inference")
            return np.array([[number(s, key) if s else nothing for key in keys] for s in studies])

        return of.array(evidence, rows, **axis)

    def by_size(study: Any, size: int) -> float:
        accuracies: list[float] = study["by_batch_size"]["test_accuracy"]
        return accuracies[TESTED.index(size)]

    modes = list(MODES)
    return xr.Dataset({
        "accuracy": read(lambda s, mode: s["modes"][mode]["test_accuracy"], CHANCE, mode=modes),
        "change": read(lambda s, mode: s["determinism"][mode], mode=modes),
        "apart": read(lambda s, which: s["probability_change"][which], which=("mean", "max")),
        "by_size": read(by_size, tested=TESTED),
    })  # fmt: skip


def effects(runs: xr.Dataset) -> dict[str, Array]:
    """Every criterion's effects: of several sizes the one that supports it least.

    A run that diverged has shown nothing.
    """
    exact, moving, own = (runs.sel(mode=mode) for mode in MODES)
    shown = {
        "accuracy": exact.accuracy - own.accuracy,
        "determinism": decades(own.change, exact.change),
        "tracking": TOLD_APART - abs(moving.accuracy - exact.accuracy),
    }
    return {name: values.fillna(-np.inf).min("size") for name, values in shown.items()}


def measure(evidence: Evidence) -> Finding:
    """The paper's batch sizes; then each one, other choices, and Fig. 1's network."""
    scale = evidence.scale
    runs = studied(evidence)
    said = runs.sel(choice=SAID)
    choices = {f"batches of {size}": effects(said.sel(size=[size])) for size in sizes(scale)}
    if scale != "smoke":
        for choice in CHOICES:
            choices[choice] = effects(runs.sel(choice=choice, size=papers(scale)))
    choices[FIG1] = effects(runs.sel(choice=FIG1, size=[FIG1_SIZE]))
    return Finding(
        effects(said.sel(size=papers(scale))),
        exhibits=_exhibits(runs, said.sel(size=sizes(scale))),
        unspecified=Check(
            "The size of the training batch, from which Algorithm 2 and the moving averages take "
            "their statistics and in which batch statistics are taken; how fast the moving "
            "averages forget; how many batches Algorithm 2 goes through; the network.",
            choices,
        ),
    )


def _exhibits(runs: xr.Dataset, said: xr.Dataset) -> tuple[Exhibit, ...]:
    accuracies = curves(
        "accuracy",
        "Test accuracy of the same networks with three kinds of statistics, each taken over "
        "batches of the training batch size",
        {"Normalized by": said.accuracy}, "size", "test accuracy", "mode", names=MODES,
        more=" And with the statistics of test batches of other sizes, beside Algorithm 2: "
        "medians.",
    )  # fmt: skip
    exact = said.accuracy.sel(mode=EXACT, drop=True).expand_dims(tested=["Alg. 2"])
    company = (
        xr.concat([said.by_size, exact], "tested")
        .median("seed", skipna=False)
        .transpose("size", "tested")
    )
    heat = HeatMap(
        "Accuracy by the company in a test batch", "test batch size", "training batch size",
        [*TESTED, "Alg. 2"], company["size"].to_numpy().tolist(), company.to_numpy(),
    )  # fmt: skip
    columns = {f"accuracy: {name}": runs.accuracy.sel(mode=mode) for mode, name in MODES.items()}
    changes = runs.change.median("seed", skipna=False)
    columns |= {f"change: {name}": changes.sel(mode=mode) for mode, name in MODES.items()}
    return (
        replace(accuracies, panels=[*accuracies.panels, heat]),
        curves(
            "outputs",
            "The most that a probability of one of 100 test images changes when the test images "
            "are shuffled, in float64 (a change of exactly 0 is not drawn). And how far the "
            "probabilities of Algorithm 2 and moving averages lie apart, over all test images and "
            "classes",
            {
                "Is the answer a function of the input?": said.change.rename(mode="of"),
                "Algorithm 2 and moving averages": said.apart.rename(which="of"),
            },
            "size", ("change of a probability", "difference of a probability"), "of",
            names={**MODES, "mean": "mean", "max": "greatest"}, log_y=True,
        ),
        table(
            "Test accuracy, means over seeds, and the change of a probability with a shuffle of "
            "the test images, medians.",
            ("choice", "size"), columns, called={"choice": "arm", "size": "batch size"},
        ),
    )  # fmt: skip


CLAIM = Claim(
    statement="After training, a network that normalizes by population statistics (Algorithm 2) "
    "is as accurate as with those of the batch, its answer depends on the input alone, and moving "
    "averages track its accuracy.",
    section="§3.1, Algorithm 2",
    paper_says="“The normalization of activations that depends on the mini-batch allows efficient "
    "training, but is neither necessary nor desirable during inference; we want the output to "
    "depend only on the input, deterministically.” So mean and variance are averaged over several "
    "training mini-batches, the variance times m ÷ (m − 1). “Using moving averages instead, we can "
    "track the accuracy of a model as it trains.” Batches of 32 and 60; no number.",
    unspecified="How many batches (100 here, of training images in an order that no epoch had), "
    "the rate of the moving averages (0.1), how near is near. Here the network and the batch sizes "
    "of the claim batch-size, at one learning rate that goes with √(batch size): three hidden "
    "layers of 100 rectified units on 2,048 images of MNIST. Judged at batches of 32 and 64, each "
    "criterion at the one that supports it less.",
    criteria={
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
            "float64, which sums over hundreds of units may come to. What still depended on the "
            "batch would show in the first few digits.",
        ),
        "tracking": Criterion(
            ".003 − the distance of the test accuracy with moving averages from that with "
            "Algorithm 2, of the same network",
            Margin(0.0, "accuracy"),
            ".003 is the smallest difference of accuracies that the paper takes for one (73.0 and "
            "72.7 %): what tracks an accuracy must not blur it.",
        ),
    },
    scales=plans(_arms, SEEDS),
    measure=measure,
    later={
        "Ioffe 2017": "That training and inference compute two functions is a drawback where "
        "batches are small or not drawn independently; batch renormalization makes them one.",
        "Singh and Shrivastava 2019": "With batches of 2 the loss of accuracy is for a good part "
        "one of inference: statistics corrected for an image's own share in its batch win back 6 "
        "% on ImageNet.",
        "Wu and Johnson 2021": "Statistics computed anew after training, as Algorithm 2 has it, "
        "are better and steadier than moving averages, above all with large batches; a thousand "
        "to ten thousand images are enough. With small ones batch statistics can be the better "
        "ones in inference.",
    },
)
