"""The networks of Fig. 2 as overrides: Inception, BN-Baseline, BN-x5, BN-x30, and what is between.

`experiment=cifar10-inception` is Inception with `norm=none`, and BN-Baseline with `norm=batch`: the
same with batch normalization and nothing else changed. BN-x5 has the seven changes of §4.2.1 as
well, BN-x30 the same with the learning rate times 30.
"""

from collections.abc import Iterable, Mapping

LR = 0.04
"""The learning rate ×1, chosen for Inception on validation images with one seed."""

COMMON: Mapping[str, tuple[str, ...]] = {
    "smoke": (
        "experiment=cifar10-inception", "dataset=digits", "dataset.limit=null", "train.steps=24",
        "train.eval_every=8", "train.compile=false", "probe.every=0", "probe.size=100",
        "tensorboard=false",
    ),
    "short": (
        "experiment=cifar10-inception", "dataset.limit=25600", "train.steps=800",
        "train.eval_every=200", "probe.every=0",
    ),
    "paper": ("experiment=cifar10-inception", "probe.every=0"),
}  # fmt: skip
"""What every network of Fig. 2 has in common; digits of 8×8 pixels at `smoke`, and at `short` as
many images as its steps take, for at its end a run goes over all it could have seen."""

NORMALIZED: Mapping[str, tuple[str, ...]] = {
    "smoke": ("norm.population_batches=4",),
    "short": ("norm.population_batches=20",),
    "paper": (),
}
"""What those with batch normalization have in common: Algorithm 2 from fewer batches than usual."""

HIGHER_LR = "higher learning rate"

CHANGES: Mapping[str, str] = {
    HIGHER_LR: f"optimizer.lr={5 * LR:g}",
    "no dropout": "model.dropout=0",
    "less L2": "optimizer.weight_decay=0.0001",
    "faster decay": "schedule.speed=6",
    "no local response normalization": "model.lrn=false",
    "thorough shuffling": "train.shuffling=examples",
    "less distortion": "augment.distortion=0.1",
}
"""The seven changes of §4.2.1 in the paper's order, each as the override that makes it."""

NAMES = ("Inception", "BN-Baseline", "BN-x5", "BN-x30")
INCEPTION, BN_BASELINE, BN_X5, BN_X30 = NAMES
"""What the paper calls them (§4.2.2)."""


def lr(times: float) -> str:
    """The override for `times` the learning rate of Inception."""
    return f"optimizer.lr={times * LR:g}"


def changed(changes: Iterable[str] = CHANGES) -> tuple[str, ...]:
    """BN-Baseline with some of the changes; with all of them it is BN-x5."""
    return ("norm=batch", *(CHANGES[name] for name in changes))


def arm(scale: str, *words: str) -> tuple[str, ...]:
    """All overrides of a network of Fig. 2, or of a variation of one, which `words` are."""
    normalized = NORMALIZED[scale] if "norm=batch" in words else ()
    return (*COMMON[scale], *words, *normalized)


NETWORKS: Mapping[str, tuple[str, ...]] = {
    INCEPTION: ("norm=none",),
    BN_BASELINE: changed(()),
    BN_X5: changed(),
    BN_X30: (*changed(), lr(30)),
}
"""The four networks, as `arm` takes them."""
