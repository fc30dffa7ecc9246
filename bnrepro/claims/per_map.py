"""§3.2: a mean, a variance, γ and β of each feature map, or of each of its activations."""

from bnrepro.evidence import controls
from bnrepro.evidence.arms import CIFAR_SEEDS
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Group, Margin, plans
from bnrepro.evidence.fig2_arms import BN_X30, SELDOM, bn_x30
from bnrepro.evidence.grid import Array, Grid, grid, table
from bnrepro.evidence.runs import TRAIN, VALIDATION, Evidence

MAP, ACTIVATION = BN_X30, "per activation"

AGREES = 0.02
"""An accuracy."""


def networks(scale: str) -> Grid:
    """BN-x30 as it is, and with its last module normalized per activation."""
    apart = bn_x30(scale, "model.per_activation=true", every=SELDOM)
    return grid(network={MAP: bn_x30(scale), ACTIVATION: apart})


def better(accuracy: Array) -> Array:
    """How much more accurate the network that is normalized per map is."""
    return accuracy.sel(network=MAP) - accuracy.sel(network=ACTIVATION)


def measure(evidence: Evidence) -> Finding:
    """Both networks: test accuracy, and how much they overfit."""
    of = networks(evidence.scale)
    test, training = of.final(evidence), of.final(evidence, TRAIN)
    validation = of.final(evidence, VALIDATION)
    return Finding(
        {"accuracy": better(test), "overfitting": -better(training - test)},
        exhibits=(
            table(
                "Accuracies at the last step: means over seeds.", ("network",),
                {"training": training, "validation": validation, "test": test},
                {MAP: "per map", ACTIVATION: "per activation"},
            ),
        ),
        unspecified=Check("Which images are counted.", {"validation images": {
            "accuracy": better(validation)
        }}),
        controls={"training": test},
        redrawn=of.over_images(evidence, lambda test: {"accuracy": better(test)}),
    )  # fmt: skip


CLAIM = Claim(
    statement="Of a convolutional layer one mean, variance, γ and β for each feature map do as "
    "well as one for each of its activations.",
    section="§3.2",
    paper_says="“For convolutional layers, we additionally want the normalization to obey the "
    "convolutional property – so that different elements of the same feature map, at different "
    "locations, are normalized in the same way.” So a map's statistics are of all its places in "
    "all images of the batch, and γ and β are learned “per feature map, rather than per "
    "activation”. It compares the two nowhere; networks of its ensemble are normalized per "
    "activation in the last hidden layers (§4.2.3).",
    unspecified=f"Everything, of a comparison. Here {BN_X30} (docs/cifar10.md), and the same with "
    "its last module normalized per activation, as in the ensemble: of that module's outputs, maps "
    "of 4×4, each activation has statistics of 32 values where a map has those of 512.",
    criteria={
        "accuracy": Criterion(
            "test accuracy at the last step, per map − per activation, of the same seed",
            Margin(AGREES, "accuracy"),
            "Within twice the only gain of a single change that the paper has a number for, about "
            "1 %.",
            equivalence=True,
        ),
        "overfitting": Criterion(
            "training − test accuracy at the last step, per activation − per map, of the same seed",
            Margin(-AGREES, "accuracy"),
            "No more overfitting per map, within the same: with fewer parameters, and less noise.",
        ),
    },
    scales=plans(lambda scale: networks(scale).arms(), CIFAR_SEEDS),
    measure=measure,
    controls={"training": controls.trains("each network")},
    group=Group.ARGUMENT,
    why="Statistics of 32 values are noisy, which may harm, or regularize.",
    to_settle="Normalization per activation in every layer.",
    later={
        "Wu and He 2018": "Statistics of fewer values are noisier, and cost accuracy: ResNet-50 "
        "with batches of 2 errs on 34.7 % of images, with 32 on 23.6 %."
    },
)
