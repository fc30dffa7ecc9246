"""The networks of Fig. 2 as overrides: Inception, BN-Baseline, BN-x5, BN-x30, and what is between.

`experiment=cifar10-inception` is Inception with `norm=none`, and BN-Baseline with `norm=batch`: the
same with batch normalization and nothing else changed. BN-x5 has the seven changes of §4.2.1 as
well, BN-x30 the same with the learning rate times `HIGHEST`. Each network has the steps that its
schedule leaves it, as in Fig. 2: BN-x5 ends after a third of Inception's.
"""

from collections.abc import Iterable, Mapping

from bnrepro.evidence.arms import per_scale

LR = 0.02
"""The learning rate ×1: Inception's best, by pilots."""

HIGHEST = 20
"""What the fastest network's learning rate is times ×1: the paper's 30, or if a pilot with it ends
more than .02 below the best of other multiples, the greatest that does not."""

EPOCHS = 200
"""Of Inception and BN-Baseline at `paper`."""

STEPS = per_scale(24, 800, 32000)
"""The same in steps, over which their learning rate decays."""

X5_END, X30_END = 67 / EPOCHS, 0.5
"""When BN-x5 and BN-x30 end, in Inception's steps. In the paper BN-x5 ends after 72 of 774 epochs,
where a decay six times as fast leaves it a ninth of its rate. A third of the steps leave it a
2,600th: then it has learned what it can."""

COMMON: Mapping[str, tuple[str, ...]] = {
    "smoke": (
        "experiment=cifar10-inception", "dataset=digits", "dataset.limit=null",
        "train.compile=false", "probe.every=0", "probe.size=100", "tensorboard=false",
    ),
    "short": (
        "experiment=cifar10-inception", "dataset.limit=2560", "train.compile=false",
        "probe.every=0", "tensorboard=false",
    ),
    "paper": (
        "experiment=cifar10-inception", "train.compile=true", "probe.every=0", "tensorboard=false",
    ),
}  # fmt: skip
"""What every network of Fig. 2 has in common; digits of 8×8 pixels at `smoke`, ten epochs of fewer
images at `short`."""

SELDOM, LONG, BRIEF = "seldom", "long", "brief"

EVERY: Mapping[str, Mapping[str, int]] = {
    SELDOM: per_scale(8, 400, 1600),
    LONG: per_scale(8, 100, 800),
    BRIEF: per_scale(4, 50, 400),
}
"""Steps between evaluations, of validation images alone but for the first and the last. One takes
as long as 40 steps: 5 % of the time of a long run whose steps to a target are counted, and 10 % of
that of BN-x5, which may be there after 2,000 steps."""

NORMALIZED: Mapping[str, tuple[str, ...]] = {
    "smoke": ("norm.population_batches=4",),
    "short": ("norm.population_batches=20",),
    "paper": (),
}
"""What those with batch normalization have in common: Algorithm 2 from fewer batches than usual."""

STUDIED, UNSTUDIED = "studies=[input-shift]", "studies=[]"
"""At their ends networks that are as the paper has them, but BN-x30, are studied for the claim
input-shift, which takes as long as 2,500 steps; variations of them are not."""

HIGHER_LR, NO_DROPOUT, DECAY = "higher learning rate", "no dropout", "faster decay"
SHUFFLING = "thorough shuffling"

CHANGES: Mapping[str, str] = {
    HIGHER_LR: f"optimizer.lr={5 * LR:g}",
    NO_DROPOUT: "model.dropout=0",
    "less L2": "optimizer.weight_decay=0.0001",
    DECAY: "schedule.speed=6",
    "no local response normalization": "model.lrn=false",
    SHUFFLING: "train.shuffling=examples",
    "less distortion": "augment.distortion=0.1",
}
"""The seven changes of §4.2.1 in the paper's order, each as the override that makes it."""

INCEPTION, BN_BASELINE, BN_X5 = "Inception", "BN-Baseline", "BN-x5"
BN_X30 = f"BN-x{HIGHEST}"
"""What the paper calls them (§4.2.2); the last one by its own learning rate."""

PAPER_X30 = "BN-x30"

LRS_OF_INCEPTION: Mapping[str, Mapping[str, float]] = per_scale(
    {INCEPTION: 1, f"{INCEPTION} ×2": 2},
    {f"{INCEPTION} ×0.5": 0.5, INCEPTION: 1, f"{INCEPTION} ×2": 2},
)
"""The learning rates, times ×1, at which Inception is looked at, by its names there."""


def lr(times: float) -> str:
    """The override for `times` the learning rate of Inception."""
    return f"optimizer.lr={times * LR:g}"


def changed(changes: Iterable[str] = CHANGES) -> tuple[str, ...]:
    """BN-Baseline with some of the changes; with all of them it is BN-x5."""
    return ("norm=batch", *(CHANGES[name] for name in changes))


def ends(scale: str, share: float) -> tuple[str, ...]:
    """After a share of Inception's steps, the schedule laid out over all of them."""
    return f"train.steps={round(share * STEPS[scale])}", f"schedule.horizon={STEPS[scale]}"


def arm(scale: str, *words: str, every: str = LONG) -> tuple[str, ...]:
    """All overrides of a network of Fig. 2, or of a variation of one, which `words` are."""
    normalized = NORMALIZED[scale] if "norm=batch" in words else ()
    rhythm = (
        f"train.steps={STEPS[scale]}", f"train.eval_every={EVERY[every][scale]}",
        f"train.test_every={STEPS[scale]}",
    )  # fmt: skip
    return (*COMMON[scale], *rhythm, *words, *normalized)


def inception(scale: str, *words: str) -> tuple[str, ...]:
    """Inception, or a variation of it."""
    return arm(scale, "norm=none", *(words or (STUDIED,)))


def bn_baseline(scale: str, *words: str) -> tuple[str, ...]:
    """BN-Baseline, or a variation of it."""
    return arm(scale, "norm=batch", *(words or (STUDIED,)))


def bn_x5(scale: str, *words: str, but: str = "", every: str = "") -> tuple[str, ...]:
    """BN-x5, or a variation of it; `but` one of the changes, which it is without.

    Without the faster decay it has all of Inception's steps, over which it then decays.
    """
    changes = changed(name for name in CHANGES if name != but)
    if but == DECAY:
        return arm(scale, *changes, *words, every=every or LONG)
    own = words if words or but else (STUDIED,)
    return arm(scale, *changes, *ends(scale, X5_END), *own, every=every or BRIEF)


def bn_x30(scale: str, *words: str, every: str = BRIEF) -> tuple[str, ...]:
    """BN-x30, or a variation of it."""
    return arm(scale, *changed(), lr(HIGHEST), *ends(scale, X30_END), *words, every=every)


def inceptions(scale: str) -> dict[str, tuple[str, ...]]:
    """Inception at every learning rate that it is looked at, by its names."""
    names = LRS_OF_INCEPTION[scale]
    return {
        name: inception(scale, *((lr(times),) if times != 1 else ()))
        for name, times in names.items()
    }


NETWORKS = {INCEPTION: inception, BN_BASELINE: bn_baseline, BN_X5: bn_x5, BN_X30: bn_x30}
"""What makes the overrides of each network at a scale."""
