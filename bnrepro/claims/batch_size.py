"""§3.4: the images that an image is seen with regularize, the more the fewer they are."""

import numpy as np

from bnrepro.evidence import controls
from bnrepro.evidence.arms import MIDDLE, NORMS, SEEDS, SIZES, SMALL_LRS, at_size
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Group, Margin, plans
from bnrepro.evidence.grid import Array, Grid, best, curves, grid, table
from bnrepro.evidence.runs import TEST, TOLD_APART, TRAIN, VALIDATION, Evidence

LEAST = 8
"""Of smaller batches nothing is judged: what does not fit its training images has no gap."""

PAPERS, LARGE = (32, 64), (512, 1024)
"""The paper's batch sizes, 32 and (nearly) 60; and those that leave little of the noise."""


def cells(scale: str) -> Grid:
    """Both arms in batches of every size, at every learning rate (as it is for 32 images)."""
    return grid(norm=NORMS, size=SIZES[scale], lr=SMALL_LRS[scale])


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    """The smallest batches have one learning rate."""
    of = cells(scale)
    return {
        of.arm(norm, size, lr): at_size(scale, norm, size, lr)
        for norm in NORMS for size in SIZES[scale] for lr in SMALL_LRS[scale]
        if size >= LEAST or lr == MIDDLE
    }  # fmt: skip


def judged(values: Array) -> Array:
    """Those in batches that count."""
    return values.where(values["size"] >= LEAST, drop=True)


def advantage(test: Array) -> dict[str, Array]:
    """What the paper's batch sizes gain over large ones, with BN − without."""
    papers, large = (
        test.sel(size=[size for size in among if size in test["size"]]).mean("size")
        for among in (PAPERS, LARGE)
    )
    gained = papers - large
    return {"accuracy": gained.sel(norm="batch") - gained.sel(norm="none")}


def growth(gap: Array) -> dict[str, Array]:
    """What a doubling of the batch adds to the gap, by least squares, with BN − without."""
    doublings = judged(gap).assign_coords(size=np.log2(judged(gap)["size"]))
    slope = doublings.polyfit("size", 1).polyfit_coefficients.sel(degree=1)
    return {"gap": slope.sel(norm="batch") - slope.sel(norm="none")}


def measure(evidence: Evidence) -> Finding:
    """Each norm and batch size at its best learning rate; at that of each seed; at the same one."""
    of = cells(evidence.scale)
    validation, test, training = (of.final(evidence, m) for m in (VALIDATION, TEST, TRAIN))
    gap = training - test

    def effects(lr: Array | float) -> dict[str, Array]:
        return advantage(test.sel(lr=lr)) | growth(gap.sel(lr=lr))

    lr, chosen = best(validation), of.at(lr=best(validation))
    choices = {
        f"learning rate {rate:g} · √(batch size ÷ 32) throughout": effects(rate)
        for rate in SMALL_LRS[evidence.scale]
    }
    figure = curves(
        "gap",
        "Each batch size at its best learning rate",
        {"Generalization gap": gap.sel(lr=lr), "Test accuracy": test.sel(lr=lr)},
        "size",
        ("training − test accuracy", "test accuracy at the last step"),
    )
    return Finding(
        effects(lr),
        exhibits=(
            figure,
            table(
                "Accuracies of every batch size at its best learning rate: means over seeds.",
                ("norm", "size"),
                {
                    "learning rate": chosen.setting(evidence, "optimizer.lr"),
                    "validation": validation.sel(lr=lr),
                    "test": test.sel(lr=lr),
                    "training": training.sel(lr=lr),
                },
            ),
        ),
        tuned=Check(
            "Each arm and batch size at the learning rate of its highest validation accuracy, of "
            "each seed its own, in place of the highest mean.",
            {"chosen for each seed": effects(validation.idxmax("lr"))},
        ),
        unspecified=Check(
            "One learning rate for both arms and all batch sizes, in place of each one's best (a "
            "run that diverged guesses, and has no gap).",
            choices,
        ),
        controls={"training": judged(test.sel(lr=lr)), "rates": judged(validation)},
        redrawn=chosen.over_images(evidence, advantage),
    )


CLAIM = Claim(
    statement="The images that share a mini-batch regularize a batch-normalized network: in small "
    "batches it is more accurate than in large ones by more than without batch normalization.",
    section="§3.4",
    paper_says="“When training with Batch Normalization, a training example is seen in conjunction "
    "with other examples in the mini-batch, and the training network no longer producing "
    "deterministic values for a given training example. In our experiments, we found this effect "
    "to be advantageous to the generalization of the network.” Batches of 32 (§4.2) and 60 (§4.1).",
    unspecified="How advantageous, and by which experiment: the paper never varies the batch, nor "
    "says that the gap grows with it. Fewer images a batch mean more noise in their mean and "
    "variance, which is the claim, and in the gradient, which is not: so each batch size is "
    "compared with the same network without batch normalization. 2,048 images of MNIST, learned by "
    "heart; three hidden layers of 100 rectified units; plain SGD. What batch sizes have in "
    "common: steps × learning rate, the rate growing with √(batch size); it is chosen of three for "
    "each arm and size by validation images (of one for batches of 2 and 4, which are shown and "
    "not judged).",
    criteria={
        "accuracy": Criterion(
            "test accuracy in batches of 32 and 64 − in batches of 512 and 1,024, with BN − "
            "without BN, of the same seed",
            Margin(0.0, "accuracy"),
            "“Advantageous to the generalization”: at batch sizes such as the paper's the network "
            "is better for the noise at all, and does not merely fit its training images worse.",
            indifference=TOLD_APART,
        ),
        "gap": Criterion(
            "what a doubling of the batch, from 8 to the largest, adds to training − test "
            "accuracy (both of inference; least squares), with BN − without BN, of the same seed",
            Margin(0.0005, "accuracy"),
            "Over the seven doublings from 8 to 1,024 .0035: a third of what batch normalization "
            "is worth at the end of Fig. 1a (.982 and .972). The paper gives no number.",
        ),
    },
    scales=plans(_arms, SEEDS),
    measure=measure,
    controls={
        "training": controls.trains("each arm at each batch size that is judged"),
        "rates": controls.interior("each arm at each batch size that is judged"),
    },
    group=Group.ARGUMENT,
    why="With the batch the noise of the gradient changes as well, and the best of three learning "
    "rates need not be the best there is.",
    to_settle="The same batches normalized in groups of several sizes, at rates past the best.",
    later={
        "Luo et al. 2018": "In theory the noise of mean and variance acts as a decay of γ whose "
        "strength falls as 1 ÷ batch size.",
        "Wu and He 2018": "Too much of it harms: ResNet-50's error on ImageNet is 23.6 % with 32 "
        "images on each GPU, 24.8 % with 8 and 34.7 % with 2, where a normalization without "
        "batches stays at 24.1.",
        "Ioffe 2017": "The first author: small batches are a drawback, for what a unit puts out "
        "in training is not what it does in inference; batch renormalization takes the difference "
        "away.",
        "Hoffer et al. 2017": "Large batches generalize worse mainly for their fewer steps; "
        "statistics of a part of a large batch (“ghost batches”) win back some of what the noise "
        "is worth.",
        "Summers and Dinneen 2019": "Confirmed on six data sets: small and medium batches "
        "regularize strongly where they are normalized in parts.",
    },
)
