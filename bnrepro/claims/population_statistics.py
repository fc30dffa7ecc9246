"""§3.1, Algorithm 2: inference by the statistics of the population, one function of the input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bnrepro.evidence.arms import BATCH, GRID, MIDDLE, SEEDS, SIZES, at_size
from bnrepro.evidence.claim import (
    SCALES,
    SMOKE,
    Check,
    Claim,
    Criterion,
    Finding,
    FollowUp,
    Plan,
    Variation,
)
from bnrepro.evidence.exhibits import Curves, Figure, HeatMap, Table, over_seeds
from bnrepro.evidence.runs import CHANCE, Evidence, log_ratio

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

FIG1 = "Fig. 1's network on all images"

TOLD_APART = 0.003
"""The smallest difference between accuracies that the paper takes for one: 73.0 and 72.7 %."""


def sized(size: int) -> str:
    """The name of a training batch size."""
    return f"m={size}"


def sizes(scale: str) -> list[int]:
    """The training batch sizes of a scale."""
    return [size for size in SIZES[scale] if size <= LARGEST]


def papers(scale: str) -> list[int]:
    """The paper's among them."""
    return [size for size in sizes(scale) if size in PAPERS]


def _scale(scale: str) -> Plan:
    arms = {sized(size): at_size(scale, BATCH, size, MIDDLE) for size in sizes(scale)}
    if scale != SMOKE:
        for choice, word in CHOICES.items():
            for size in papers(scale):
                arms[f"{sized(size)}, {choice}"] = (*arms[sized(size)], word)
    arms[FIG1] = (*GRID[scale], f"norm={BATCH}", "studies=[inference]")
    return Plan(SEEDS[scale], arms)


def studied(evidence: Evidence, arm: str, *names: str) -> np.ndarray:
    """A number, or a list of them, of the study of inference: (S,) or (S, …).

    NaN where a run diverged.
    """
    found = []
    for study in evidence.studies(arm, "inference"):
        value: Any = study
        for name in names:
            value = None if value is None else value[name]
        found.append(value)
    there = next((value for value in found if value is not None), np.nan)
    nothing = np.full(np.shape(there), np.nan)
    return np.array([nothing if value is None else value for value in found], dtype=np.float64)


def accuracy(evidence: Evidence, arm: str, mode: str) -> np.ndarray:
    """Test accuracy in one of the modes: (S,)."""
    found = studied(evidence, arm, "modes", mode, "test_accuracy")
    return np.where(np.isnan(found), CHANCE, found)


def effects(evidence: Evidence, arms: Sequence[str]) -> dict[str, np.ndarray]:
    """Every criterion's effects: of several arms the one that supports it least."""

    def least(values: Sequence[np.ndarray]) -> np.ndarray:
        """A run that diverged has shown nothing."""
        found = np.min(values, axis=0)
        return np.where(np.isnan(found), -np.inf, found)

    exact, moving, own = (
        [accuracy(evidence, arm, mode) for arm in arms] for mode in (EXACT, MOVING, OWN)
    )
    changes = [
        [studied(evidence, arm, "determinism", mode) for arm in arms] for mode in (OWN, EXACT)
    ]
    return {
        "accuracy": least([a - b for a, b in zip(exact, own, strict=True)]),
        "determinism": least([log_ratio(a, b, 10) for a, b in zip(*changes, strict=True)]),
        "tracking": least([TOLD_APART - abs(a - b) for a, b in zip(moving, exact, strict=True)]),
    }


def measure(evidence: Evidence) -> Finding:
    """The paper's batch sizes; then each one, other choices, and Fig. 1's network."""
    scale = evidence.scale
    chosen = {f"batches of {size}": [sized(size)] for size in sizes(scale)}
    if scale != SMOKE:
        for choice in CHOICES:
            chosen[choice] = [f"{sized(size)}, {choice}" for size in papers(scale)]
    chosen[FIG1] = [FIG1]
    variations = [Variation(choice, effects(evidence, arms)) for choice, arms in chosen.items()]
    return Finding(
        effects(evidence, [sized(size) for size in papers(scale)]),
        exhibits=(_accuracies(evidence), _outputs(evidence), _table(evidence)),
        unspecified=Check(
            "The size of the training batch, from which Algorithm 2 and the moving averages take "
            "their statistics and in which batch statistics are taken; how fast the moving "
            "averages forget; how many batches Algorithm 2 goes through; the network.",
            tuple(variations),
        ),
    )


def _over_sizes(evidence: Evidence, *names: str) -> np.ndarray:
    """A number of the study over training batch sizes: (S, P)."""
    found = [studied(evidence, sized(size), *names) for size in sizes(evidence.scale)]
    return np.stack(found, axis=1)


def _accuracies(evidence: Evidence) -> Figure:
    among = sizes(evidence.scale)
    lines = [
        over_seeds(name, among, _over_sizes(evidence, "modes", mode, "test_accuracy"))
        for mode, name in MODES.items()
    ]
    panels = (
        Curves("Normalized by", "training batch size", "test accuracy", lines, log_x=True),
        _company(evidence),
    )
    caption = (
        "Test accuracy of the same networks with three kinds of statistics, each taken over "
        "batches of the training batch size: median over seeds, band from least to greatest. "
        "And with the statistics of test batches of other sizes, beside Algorithm 2: medians."
    )
    return Figure("accuracy", caption, panels)


def _company(evidence: Evidence) -> HeatMap:
    among = sizes(evidence.scale)
    values = []
    for size in among:
        found = studied(evidence, sized(size), "by_batch_size", "test_accuracy")
        medians = np.median(found.reshape(len(evidence.seeds), -1), axis=0)
        exact = np.median(accuracy(evidence, sized(size), EXACT))
        values.append([*np.broadcast_to(medians, len(TESTED)), exact])
    return HeatMap("Accuracy by the company in a test batch", "test batch size",
                   "training batch size", [*TESTED, "Alg. 2"], among, values)  # fmt: skip


def _outputs(evidence: Evidence) -> Figure:
    among = sizes(evidence.scale)
    changes = [
        over_seeds(name, among, _over_sizes(evidence, "determinism", mode))
        for mode, name in MODES.items()
    ]
    between = [
        over_seeds(name, among, _over_sizes(evidence, "probability_change", which))
        for which, name in (("mean", "mean"), ("max", "greatest"))
    ]
    panels = (
        Curves("Is the answer a function of the input?", "training batch size",
               "change of a probability", changes, log_x=True, log_y=True),
        Curves("Algorithm 2 and moving averages", "training batch size",
               "difference of a probability", between, log_x=True, log_y=True),
    )  # fmt: skip
    caption = (
        "The most that a probability of one of 100 test images changes when the test images are "
        "shuffled, in float64 (a change of exactly 0 is not drawn). And how far the probabilities "
        "of Algorithm 2 and moving averages lie apart, over all test images and classes."
    )
    return Figure("outputs", caption, panels)


def _table(evidence: Evidence) -> Table:
    rows: list[tuple[str | float, ...]] = []
    for arm, runs in evidence.runs.items():
        accuracies = (float(np.mean(accuracy(evidence, arm, mode))) for mode in MODES)
        changes = (float(np.median(studied(evidence, arm, "determinism", mode))) for mode in MODES)
        size = runs[0].config()["train"]["batch_size"]
        rows.append((arm, size, *accuracies, *changes))
    columns = (
        "arm", "batch size", *(f"accuracy: {name}" for name in MODES.values()),
        *(f"change: {name}" for name in MODES.values()),
    )  # fmt: skip
    caption = (
        "Test accuracy, means over seeds, and the change of a probability with a shuffle of the "
        "test images, medians."
    )
    return Table(caption, columns, rows)


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
    criteria=(
        Criterion(
            "accuracy",
            "test accuracy with Algorithm 2 − with the statistics of test batches of the training "
            "batch size, of the same network",
            "accuracy",
            -0.001,
            "“Neither necessary nor desirable”: without the batch nothing is lost. On 10,000 "
            "images a few may turn either way: ten, a tenth of what batch normalization is worth "
            "at the end of Fig. 1a.",
        ),
        Criterion(
            "determinism",
            "the most a probability changes as the test images are shuffled into other batches, "
            "with batch statistics ÷ with Algorithm 2",
            "decades",
            10.0,
            "From a hundredth, which can turn an answer, to 10⁻¹², some thousand roundings of "
            "float64, which sums over hundreds of units may come to. What still depended on the "
            "batch would show in the first few digits.",
        ),
        Criterion(
            "tracking",
            ".003 − the distance of the test accuracy with moving averages from that with "
            "Algorithm 2, of the same network",
            "accuracy",
            0.0,
            ".003 is the smallest difference of accuracies that the paper takes for one (73.0 and "
            "72.7 %): what tracks an accuracy must not blur it.",
        ),
    ),
    scales={scale: _scale(scale) for scale in SCALES},
    measure=measure,
    later=(
        FollowUp(
            "Ioffe 2017",
            "1702.03275",
            "That training and inference compute two functions is a drawback where batches are "
            "small or not drawn independently; batch renormalization makes them one.",
        ),
        FollowUp(
            "Singh and Shrivastava 2019",
            "1904.06031",
            "With batches of 2 the loss of accuracy is for a good part one of inference: "
            "statistics corrected for an image's own share in its batch win back 6 % on ImageNet.",
        ),
        FollowUp(
            "Wu and Johnson 2021",
            "2105.07576",
            "Statistics computed anew after training, as Algorithm 2 has it, are better and "
            "steadier than moving averages, above all with large batches; a thousand to ten "
            "thousand images are enough. With small ones batch statistics can be the better ones "
            "in inference.",
        ),
    ),
)
