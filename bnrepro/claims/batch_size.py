"""§3.4: the images that an image is seen with regularize, the more the fewer they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from bnrepro.evidence.arms import (
    BATCH,
    MIDDLE,
    NAMES,
    NONE,
    NORMS,
    SEEDS,
    SIZES,
    SMALL_LRS,
    at_lr,
    at_size,
)
from bnrepro.evidence.claim import (
    SCALES,
    Check,
    Claim,
    Criterion,
    Finding,
    FollowUp,
    Plan,
    Variation,
)
from bnrepro.evidence.exhibits import Curves, Figure, Table, over_seeds
from bnrepro.evidence.runs import TEST, VALIDATION, Evidence

LEAST = 8
"""Of smaller batches nothing is judged: what does not fit its training images has no gap."""

PAPERS, LARGE = (32, 64), (512, 1024)
"""The paper's batch sizes, 32 and (nearly) 60; and those that leave little of the noise."""

Arm = Callable[[str, int], str]
"""The arm that stands for a norm and a batch size."""


def sized(norm: str, size: int) -> str:
    """The name of a norm and a batch size, before its learning rate."""
    return f"{norm} m={size}"


def lrs(scale: str, size: int) -> tuple[float, ...]:
    """The learning rates of a batch size, as they are for 32 images; for the smallest, one."""
    return SMALL_LRS[scale] if size >= LEAST else (MIDDLE,)


def _scale(scale: str) -> Plan:
    arms = {
        at_lr(sized(norm, size), lr): at_size(scale, norm, size, lr)
        for norm in NORMS
        for size in SIZES[scale]
        for lr in lrs(scale, size)
    }
    return Plan(SEEDS[scale], arms)


def gap(evidence: Evidence, arm: str) -> np.ndarray:
    """Accuracy on the images trained on less that on the test images, both in inference: (S,)."""
    found: np.ndarray = evidence.final(arm, "train_accuracy") - evidence.final(arm)
    return found


def slope(sizes: Sequence[int], values: np.ndarray) -> np.ndarray:
    """What a doubling of the batch adds to values (S, P), by least squares: (S,)."""
    found: np.ndarray = np.polyfit(np.log2(sizes), values.T, 1)[0]
    return found


def effects(evidence: Evidence, arm: Arm, least: int = LEAST) -> dict[str, np.ndarray]:
    """Both criteria's effects, where `arm` names the run of a norm and a batch size."""
    sizes = [size for size in SIZES[evidence.scale] if size >= least]

    def growth(norm: str) -> np.ndarray:
        gaps = [gap(evidence, arm(norm, size)) for size in sizes]
        return slope(sizes, np.stack(gaps, axis=1))

    def advantage(norm: str) -> np.ndarray:
        papers, large = (
            np.mean([evidence.final(arm(norm, size)) for size in sizes if size in among], axis=0)
            for among in (PAPERS, LARGE)
        )
        found: np.ndarray = papers - large
        return found

    return {"gap": growth(BATCH) - growth(NONE), "accuracy": advantage(BATCH) - advantage(NONE)}


def _at(lr: float, norm: str, size: int) -> str:
    return at_lr(sized(norm, size), lr)


def measure(evidence: Evidence) -> Finding:
    """Each norm and batch size at its best learning rate; at the same one; all batch sizes."""

    def best(norm: str, size: int) -> str:
        among = lrs(evidence.scale, size)
        return evidence.best(at_lr(sized(norm, size), lr) for lr in among)

    variations = [
        Variation(
            f"learning rate {lr:g} · √(batch size ÷ 32) throughout",
            effects(evidence, partial(_at, lr)),
        )
        for lr in SMALL_LRS[evidence.scale]
    ]
    for least in (2, PAPERS[0]):
        counted = {"gap": effects(evidence, best, least)["gap"]}
        variations.append(Variation(f"batches of {least} and more", counted))
    return Finding(
        effects(evidence, best),
        exhibits=(_figure(evidence, best), _table(evidence, best)),
        unspecified=Check(
            "One learning rate for both arms and all batch sizes, in place of each one's best "
            "(a run that diverged guesses, and has no gap); and the smallest batch that counts: "
            "those of 2 and 4 may be too small to fit the training images at all.",
            tuple(variations),
        ),
    )


def _figure(evidence: Evidence, arm: Arm) -> Figure:
    sizes = SIZES[evidence.scale]

    def panel(title: str, y: str, value: Callable[[str], np.ndarray]) -> Curves:
        values = {
            norm: np.stack([value(arm(norm, size)) for size in sizes], axis=1) for norm in NORMS
        }
        lines = [over_seeds(NAMES[norm], sizes, values[norm]) for norm in NORMS]
        return Curves(title, "batch size", y, lines, log_x=True)

    panels = (
        panel("Generalization gap", "training − test accuracy", lambda name: gap(evidence, name)),
        panel("Test accuracy", "test accuracy at the last step", evidence.final),
        _noise(evidence),
    )
    caption = (
        "Each batch size at its best learning rate: median over seeds, band from least to "
        "greatest. Last, the noise itself, in the trained network with BN: the most that a "
        "probability of one of 100 test images changes as other images fill its batch."
    )
    return Figure("gap", caption, panels)


def _noise(evidence: Evidence) -> Curves:
    sizes = SIZES[evidence.scale]
    values = np.stack([noise(evidence, size) for size in sizes], axis=1)
    line = over_seeds(NAMES[BATCH], sizes, values)
    return Curves("What company does", "batch size", "change of a probability", (line,),
                  log_x=True, log_y=True)  # fmt: skip


def noise(evidence: Evidence, size: int) -> np.ndarray:
    """The most a probability changes with the company in a batch, at the middle rate: (S,)."""
    studies = evidence.studies(at_lr(sized(BATCH, size), MIDDLE), "inference")
    found = [study["determinism"]["batch_statistics"] if study else np.nan for study in studies]
    return np.array(found, dtype=np.float64)


def _table(evidence: Evidence, arm: Arm) -> Table:
    rows = []
    for norm in NORMS:
        for size in SIZES[evidence.scale]:
            name = arm(norm, size)
            config = evidence.runs[name][0].config()
            finals = (evidence.final(name, m) for m in (VALIDATION, TEST, "train_accuracy"))
            means = (float(values.mean()) for values in finals)
            steps, lr = config["train"]["steps"], config["optimizer"]["lr"]
            rows.append((NAMES[norm], size, steps, lr, *means, float(gap(evidence, name).mean())))
    caption = "Accuracies of every batch size at its best learning rate: means over seeds."
    columns = (
        "arm", "batch size", "steps", "learning rate", "validation", "test", "training", "gap",
    )  # fmt: skip
    return Table(caption, columns, rows)


CLAIM = Claim(
    statement="The images that share a mini-batch regularize a batch-normalized network: the "
    "larger its batches, the wider its generalization gap, and more so than without batch "
    "normalization.",
    section="§3.4",
    paper_says="“When training with Batch Normalization, a training example is seen in conjunction "
    "with other examples in the mini-batch, and the training network no longer producing "
    "deterministic values for a given training example. In our experiments, we found this effect "
    "to be advantageous to the generalization of the network.” Batches of 32 (§4.2) and 60 (§4.1).",
    unspecified="How advantageous, and by which experiment: the paper never varies the batch. "
    "Fewer images a batch mean more noise in their mean and variance, which is the claim, and in "
    "the gradient, which is not: so each batch size is compared with the same network without "
    "batch normalization. 2,048 images of MNIST, learned by heart; three hidden layers of 100 "
    "rectified units; plain SGD. What batch sizes have in common: steps × learning rate, the rate "
    "growing with √(batch size); it is chosen of three for each arm and size by validation images "
    "(of one for batches of 2 and 4).",
    criteria=(
        Criterion(
            "gap",
            "what a doubling of the batch, from 8 to the largest, adds to training − test "
            "accuracy (both of inference; least squares), with BN − without BN, of the same seed",
            "accuracy",
            0.0005,
            "Over the seven doublings from 8 to 1,024 .0035: a third of what batch normalization "
            "is worth at the end of Fig. 1a (.982 and .972), and more than one standard error of "
            "an accuracy near .94 on 10,000 images. The paper gives no number.",
        ),
        Criterion(
            "accuracy",
            "test accuracy in batches of 32 and 64 − in batches of 512 and 1,024, with BN − "
            "without BN, of the same seed",
            "accuracy",
            0.0,
            "“Advantageous to the generalization”: at batch sizes such as the paper's the network "
            "is better for the noise at all, and does not merely fit its training images worse.",
        ),
    ),
    scales={scale: _scale(scale) for scale in SCALES},
    measure=measure,
    later=(
        FollowUp(
            "Luo et al. 2018",
            "1809.00846",
            "In theory the noise of mean and variance acts as a decay of γ whose strength falls as "
            "1 ÷ batch size.",
        ),
        FollowUp(
            "Wu and He 2018",
            "1803.08494",
            "Too much of it harms: ResNet-50's error on ImageNet is 23.6 % with 32 images a batch, "
            "24.8 % with 8 and 34.7 % with 2, where a normalization without batches stays at 24.1.",
        ),
        FollowUp(
            "Ioffe 2017",
            "1702.03275",
            "The first author: small batches are a drawback, for what a unit puts out in training "
            "is not what it does in inference; batch renormalization takes the difference away.",
        ),
        FollowUp(
            "Hoffer et al. 2017",
            "1705.08741",
            "Large batches generalize worse mainly for their fewer steps; statistics of a part of "
            "a large batch (“ghost batches”) win back some of what the noise is worth.",
        ),
        FollowUp(
            "Summers and Dinneen 2019",
            "1906.03548",
            "Confirmed on six data sets: small and medium batches regularize strongly where they "
            "are normalized in parts.",
        ),
    ),
)
