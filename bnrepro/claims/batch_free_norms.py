"""Norms that need no batch against batch normalization, from the smallest batches to large ones.

In a batch of two all that batch normalization leaves of a unit is which of the images had more: it
makes of any two numbers 1 and −1. So in batches of 2 these networks learn from signs, and infer
from something else. In batches of 8 batch normalization is as good as any here, in larger ones
better.
"""

from collections.abc import Mapping

import xarray as xr

from bnrepro.evidence import controls
from bnrepro.evidence.arms import SEEDS, SMOKE, per_scale
from bnrepro.evidence.claim import Check, Claim, Criterion, Expected, Finding, Margin, plans
from bnrepro.evidence.grid import Array, Grid, best, curves, grid, heat_maps, table
from bnrepro.evidence.later_arms import FIRST_OF_LATER, NORM_NAMES
from bnrepro.evidence.runs import TEST, TOLD_APART, TRAIN, VALIDATION, Evidence
from bnrepro.evidence.tuning import at_own_rates, both_tuned, throughout

BATCH, GROUP, LAYER, TANH, NONE = ARMS = ("batch", "group", "layer", "dyt", "none")

LEAST, USUAL, LARGEST = 2, 32, 512
"""The batch of the primary criterion; about that of §4.2; and one in which means say most."""

SIZES = per_scale((LEAST, USUAL, LARGEST), (LEAST, USUAL, LARGEST), (LEAST, 8, USUAL, LARGEST))

STEPS = {LEAST: 5000, 8: 3000, USUAL: 2000, LARGEST: 500}
"""At the scale paper. Arms are compared at the same batch, of which all have as many."""

LRS: Mapping[int, tuple[float, ...]] = {
    LEAST: (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1),
    8: (0.01, 0.03, 0.1, 0.3),
    USUAL: (0.03, 0.1, 0.3, 1.0),
    LARGEST: (0.1, 0.3, 1.0, 3.0, 10.0),
}
"""Learning rates of each batch, half an order of magnitude apart."""


def lrs(scale: str, size: int) -> tuple[float, ...]:
    """The learning rates of a batch; at the scale smoke two of them."""
    return LRS[size][1:3] if scale == "smoke" else LRS[size]


def _steps(scale: str, size: int) -> int:
    return {"smoke": 100, "short": STEPS[size] // 5, "paper": STEPS[size]}[scale]


def cells(scale: str) -> Grid:
    """Every norm at every batch, at every learning rate that some batch has."""
    every = sorted({lr for size in SIZES[scale] for lr in lrs(scale, size)})
    sizes = {
        size: (f"train.batch_size={size}", f"train.steps={_steps(scale, size)}",
               f"train.eval_every={_steps(scale, size)}")
        for size in SIZES[scale]
    }  # fmt: skip
    return grid(norm=ARMS, size=sizes, lr=every)


RECTIFIED = ("model.activation=relu", "init=he", "init.scale=1")
WORDS = {
    "smoke": ("experiment=fig1", *SMOKE, *RECTIFIED, "dataset.limit=1024"),
    "short": ("experiment=fig1", *RECTIFIED, "probe.every=0", "tensorboard=false"),
    "paper": ("experiment=fig1", *RECTIFIED, "probe.every=0", "tensorboard=false",
              "train.compile=true"),
}  # fmt: skip
"""Three hidden layers of 100 rectified units, and nothing measured before the end."""


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    own = {(norm, size): lrs(scale, size) for norm in ARMS for size in SIZES[scale]}
    return at_own_rates(cells(scale), own, *WORDS[scale])


def effects(test: Array) -> dict[str, Array]:
    """All effects, of accuracies (norm, size, seed)."""

    def ahead(norm: str, size: int = LEAST) -> Array:
        at = test.sel(size=size, drop=True)
        return at.sel(norm=norm) - at.sel(norm=BATCH)

    return {
        "smallest": ahead(GROUP),
        "fall": ahead(GROUP) - ahead(GROUP, USUAL),
        "layer norm": ahead(LAYER),
        "dynamic tanh": ahead(TANH),
        "largest": -ahead(GROUP, LARGEST),
    }


def measure(evidence: Evidence) -> Finding:
    """Each norm at each batch at its best learning rate."""
    of, both = cells(evidence.scale), [GROUP, BATCH]
    names = {"test": TEST, "validation": VALIDATION, "training": TRAIN}
    runs = xr.Dataset({name: of.final(evidence, metric) for name, metric in names.items()})
    lr = best(runs.validation)
    tuned = runs.sel(lr=lr)
    ahead = tuned.test - tuned.test.sel(norm=BATCH)
    smallest = of.select(norm=both, size=[LEAST]).runs(evidence).sel(size=LEAST, drop=True)
    smallest = smallest.dropna("lr", how="all", subset=["validation"])

    def at_smallest(runs: xr.Dataset) -> dict[str, Array]:
        return {"smallest": runs.test.sel(norm=GROUP) - runs.test.sel(norm=BATCH)}

    return Finding(
        effects(tuned.test),
        exhibits=(
            curves(
                "batches", "Accuracy over the batch size, each norm at its best learning rate",
                {"test": tuned.test}, "size", "test accuracy at the last step", names=NORM_NAMES,
            ),
            heat_maps(
                "ahead", "Test accuracy less that of batch normalization, each norm at each batch "
                "at its best learning rate; medians over seeds",
                {"ahead of batch normalization": _named(ahead)}, "size", "norm",
            ),
            table(
                "Each norm at each batch, at its best learning rate: means over seeds.",
                ("size", "norm"),
                {
                    "learning rate": lr, "test accuracy": tuned.test,
                    "training accuracy": tuned.training,
                },
                NORM_NAMES,
            ),
        ),
        tuned=both_tuned(smallest, lambda lr: at_smallest(smallest.sel(lr=lr))),
        unspecified=Check(
            "One learning rate for both in batches of 2.", throughout(smallest, at_smallest)
        ),
        controls={
            "training": tuned.test.sel(norm=both),
            "smallest rates": smallest.validation,
            "rates": runs.validation.sel(norm=both, size=[USUAL, LARGEST]),
        },
        redrawn=of.at(lr=lr).over_images(evidence, effects),
    )  # fmt: skip


def _named(values: Array) -> Array:
    return values.assign_coords(norm=[NORM_NAMES[norm] for norm in values.norm.to_numpy().tolist()])


def _ahead(norm: str, where: str) -> str:
    return (
        f"test accuracy at the last step in batches of {where}, {norm} − batch normalization, of "
        "the same seed, each at its best learning rate"
    )


CLAIM = Claim(
    statement="In batches of 2 group normalization, which takes its statistics from each image "
    "alone, is ahead of batch normalization.",
    section="§3.4, §5; Wu and He 2018",
    paper_says="Batches of 32 and 60. What an image is normalized by depends on those next to it, "
    "which is “advantageous to the generalization of the network” (§3.4). Wu and He 2018: on "
    "ImageNet ResNet-50's error is 23.6 % with batch normalization and 24.1 % with group "
    "normalization at 32 images on each GPU, and at 2 images 34.7 % and 24.1 %.",
    unspecified="Everything, for small networks. Here three hidden layers of 100 rectified units "
    "from He's initial weights, on MNIST, with four groups of 25 units a layer; in batches of 2 to "
    "512, each norm at each batch at the best of four to six learning rates. All norms have the "
    "same number of steps at the same batch, 5,000 at 2 and 500 at 512: batches are compared only "
    "by how far ahead a norm is in them. In a pilot (seed 100) of a fifth of the steps group "
    "normalization was ahead by .50 at 2.",
    criteria={
        "smallest": Criterion(
            _ahead("group", str(LEAST)),
            Margin(0.005, "accuracy"),
            "Five errors in a thousand images. Theirs differ by .106, of networks twenty times as "
            "deep.",
        ),
        "fall": Criterion(
            f"by how much that is more than in batches of {USUAL}",
            Margin(0.005, "accuracy"),
            "It is the small batch that costs batch normalization its lead.",
        ),
        "layer norm": Criterion(
            _ahead("layer", str(LEAST)),
            Margin(0.005, "accuracy"),
            "As of group normalization: it takes no statistics of a batch either.",
        ),
        "dynamic tanh": Criterion(
            _ahead("dynamic tanh", str(LEAST)),
            Margin(0.005, "accuracy"),
            "As of group normalization: it takes no statistics at all.",
        ),
        "largest": Criterion(
            f"test accuracy at the last step in batches of {LARGEST}, batch − group normalization",
            Margin(0.0, "accuracy"),
            "Theirs is ahead by .005 at 32 images already: where the batch is large, the noise "
            "that costs is gone.",
            indifference=TOLD_APART,
        ),
    },
    scales=plans(_arms, SEEDS),
    measure=measure,
    controls={
        "training": controls.trains("each of the two norms at each batch"),
        "smallest rates": controls.interior(f"each of the two norms in batches of {LEAST}"),
        "rates": controls.interior(f"each of the two norms in batches of {USUAL} and {LARGEST}"),
    },
    expected=Expected("REPRODUCED", known=True),
    first_seed=FIRST_OF_LATER,
    why="With a small enough learning rate the noise of two images averages out over the steps.",
    to_settle="Convolutional networks, whose maps give even two images many values.",
    later={
        "Wu and He 2018": "The claim's own source.",
        "Ba et al. 2016": "Layer normalization: the same for any batch, and made for recurrent "
        "networks.",
        "Zhu et al. 2025": "Transformers are as good with a tanh of learned width in place of "
        "layer normalization.",
        "Ioffe 2017": "The first author: in small batches what a unit puts out in training is not "
        "what it does in inference; batch renormalization takes the difference away.",
    },
)
