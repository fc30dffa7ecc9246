"""With batch normalization the scale of the initial weights matters less."""

from bnrepro.evidence import controls
from bnrepro.evidence.arms import NONE, NORMS, SEEDS, SMOKE, per_scale
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Group, Margin, plans
from bnrepro.evidence.grid import Array, Grid, best, curves, grid
from bnrepro.evidence.runs import CHANCE, Evidence
from bnrepro.evidence.tuning import both_tuned

TRAINED = 0.9
"""A linear classifier of MNIST has more: a network that does not get there has not trained."""

WORDS = {
    "smoke": ("experiment=fig1", *SMOKE),
    "short": ("experiment=fig1", "train.steps=1000", "probe.every=0"),
    "paper": ("experiment=fig1", "train.steps=3000", "probe.every=0"),
}
"""Fewer steps than in other grids: this one goes over rates and initial deviations together."""

STDS = per_scale((0.01, 1.0), (0.001, 0.01, 0.1, 1.0, 10.0))
"""Initial standard deviations, a decade apart: four decades."""

LRS = per_scale((1.0, 10.0), (1.0, 10.0), (1.0, 3.0, 10.0))
"""High ones: from small weights a network without batch normalization sets out late, the sooner the
higher its rate; with batch normalization large weights turn slowly, the sooner the higher too."""


def cells(scale: str) -> Grid:
    """Both arms from every initial deviation, at every learning rate."""
    return grid(norm=NORMS, std=STDS[scale], lr=LRS[scale])


def decades(validation: Array, trained: float = TRAINED) -> dict[str, Array]:
    """The primary effect (seed), from accuracies (norm, std, seed): deviations more with BN."""
    deviations = (validation >= trained).sum("std").astype(float)
    return {"decades": deviations.sel(norm="batch") - deviations.sel(norm="none")}


def worst(test: Array) -> dict[str, Array]:
    """How much higher the lowest accuracy over all deviations is with BN: (seed,)."""
    lowest = test.min("std")
    return {"worst": lowest.sel(norm="batch") - lowest.sel(norm="none")}


def measure(evidence: Evidence) -> Finding:
    """At one rate, and at every arm's best."""
    of = cells(evidence.scale)
    runs = of.runs(evidence)
    test, validation, lr = runs.test, runs.validation, best(runs.validation)
    none = validation.sel(norm=NONE, drop=True)
    at = none.mean("seed").argmax(...)  # where the network without batch normalization does best
    std, one = none["std"][at["std"]].item(), none["lr"][at["lr"]].item()
    fixed = validation.sel(lr=one)

    def both(test: Array, validation: Array) -> dict[str, Array]:
        return decades(validation) | worst(test)

    choices = {
        f"learning rate {rate:g} for all": both(test.sel(lr=rate), validation.sel(lr=rate))
        for rate in LRS[evidence.scale]
    }
    for trained in (0.5, 0.95):
        choices[f"trained means a validation accuracy of {trained}"] = decades(fixed, trained)
    fails = (fixed.sel(norm=NONE) < TRAINED).sum("std")
    return Finding(
        decades(fixed) | worst(test.sel(lr=lr)),
        exhibits=(
            curves(
                "deviations", "Accuracy over the scale of the initial weights",
                {
                    f"all at learning rate {one:g}": test.sel(lr=one),
                    "each at its own best learning rate": test.sel(lr=lr),
                },
                "std", "test accuracy at the last step",
                more=" Dotted, guessing and what counts as trained.",
                limits=(0.0, 1.0), levels=(CHANCE, TRAINED),
            ),
        ),
        tuned=both_tuned(runs, lambda lr: both(test.sel(lr=lr), validation.sel(lr=lr))),
        unspecified=Check("Another fixed rate, and another meaning of trained.", choices),
        controls={
            "training": test.sel(lr=one, std=std),
            "rate": none.sel(std=std),
            "failing": fails,
        },
        redrawn=of.at(lr=lr).over_images(evidence, worst),
    )  # fmt: skip


CLAIM = Claim(
    statement="With batch normalization one can be less careful about initialization: networks "
    "train from initial weights of scales from which they do not train without it.",
    section="Abstract, §3.3",
    paper_says="That it allows to be less careful about initialization (abstract), for "
    "BN(Wu) = BN((aW)u): what a normalized layer computes does not depend on the scale of its "
    "weights, and larger weights get smaller gradients, which steadies their growth (§3.3).",
    unspecified="The whole experiment. Here it is the network of Fig. 1 with Gaussian weights of "
    "standard deviation 0.001 to 10, at high learning rates, for 3,000 steps. To train is to have "
    f"a last validation accuracy of {TRAINED} at least. The fixed rate is that of the highest one "
    "without batch normalization, anywhere in the grid.",
    criteria={
        "decades": Criterion(
            "the initial deviations, a decade apart, from which the network trains, all at one "
            "learning rate: how many with BN − how many without, of the same seed",
            Margin(0.5, "decades"),
            "One more at the least, of a whole number. The rate is the baseline's best, so that "
            "it fails for its initial weights alone.",
        ),
        "worst": Criterion(
            "the lowest test accuracy over all initial deviations, each arm at its own best "
            "learning rate for each, with BN − without BN, of the same seed",
            Margin(0.01, "accuracy"),
            "From weights that suit both, batch normalization is ahead by a hundredth in any case "
            "(.982 and .972 at the end of Fig. 1a). Where weights suit badly it has to be more.",
        ),
    },
    scales=plans(lambda scale: cells(scale).arms(), SEEDS, WORDS),
    measure=measure,
    controls={
        "training": controls.trains("each arm, from the weights that are best without BN,"),
        "rate": controls.interior("the network without BN from these weights"),
        "failing": controls.exists("the number of deviations that fail without BN", 1),
    },
    group=Group.ARGUMENT,
    why="Three layers may train from most scales without batch normalization too; and with "
    "deviations a decade apart the effect is a whole number, which what counts as trained decides.",
    to_settle="Eight layers of rectified units, and four deviations a decade.",
    later={
        "Zhang et al. 2019": "With an initialization made for them (Fixup), residual networks of "
        "up to 10,000 layers train as stably without any normalization: care about initialization "
        "can stand in for it.",
        "Arora et al. 2018": "The scale of a normalized layer's weights is a learning rate in "
        "disguise, rate ÷ ‖w‖²: from very large weights it is too low for as long as they stay so.",
    },
)
