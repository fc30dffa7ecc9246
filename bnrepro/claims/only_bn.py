"""What γ and β alone can learn, with all weights as they were drawn."""

from collections.abc import Mapping

from bnrepro.evidence import controls
from bnrepro.evidence.arms import SEEDS, SMOKE, per_scale
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Margin, plans
from bnrepro.evidence.grid import Array, Grid, best, curves, grid, table
from bnrepro.evidence.later_arms import FIRST_OF_LATER
from bnrepro.evidence.runs import Evidence
from bnrepro.evidence.tuning import at_own_rates, for_each_seed, throughout

NORMS, RANDOM, ALL = "γ and β", "as many weights", "all parameters"
TRAINED = {
    NORMS: ("train.parameters=norms",), RANDOM: ("train.parameters=random",), ALL: (),
}  # fmt: skip

WIDTHS = per_scale((50, 100), (50, 200), (50, 100, 200))
LRS: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    NORMS: per_scale((1.0, 3.0), (1.0, 3.0, 10.0, 30.0)),
    RANDOM: per_scale((1.0, 3.0), (3.0, 10.0, 30.0, 100.0)),
    ALL: per_scale((0.3,), (0.1, 0.3, 1.0)),
}
"""Learning rates, half an order of magnitude apart, about where a pilot's were best: few parameters
take large steps."""

_RELU = ("model.activation=relu", "init=he", "init.scale=1")
WORDS = {
    "smoke": ("experiment=fig1", *SMOKE, *_RELU, "train.steps=100"),
    "short": ("experiment=fig1", *_RELU, "train.steps=500", "train.eval_every=250",
              "probe.every=0", "tensorboard=false"),
    "paper": ("experiment=fig1", *_RELU, "train.steps=2000", "train.eval_every=500",
              "probe.every=0", "tensorboard=false", "train.compile=true"),
}  # fmt: skip
"""Three hidden layers of rectified units with batch normalization."""


def cells(scale: str) -> Grid:
    """What is trained, at every width, at every learning rate that some of it has."""
    widths = {width: (f"model.hidden=[{width},{width},{width}]",) for width in WIDTHS[scale]}
    every = sorted({lr for lrs in LRS.values() for lr in lrs[scale]})
    return grid(trained=TRAINED, width=widths, lr=every)


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    own = {(name, width): LRS[name][scale] for name in TRAINED for width in WIDTHS[scale]}
    return at_own_rates(cells(scale), own, *WORDS[scale], "norm=batch")


def effects(test: Array) -> dict[str, Array]:
    """All effects, from accuracies (trained, width, seed)."""
    ahead = test.sel(trained=NORMS, drop=True) - test.sel(trained=RANDOM, drop=True)
    norms = test.sel(trained=NORMS, drop=True)
    return {
        "widest": ahead.isel(width=-1, drop=True),
        "narrowest": ahead.isel(width=0, drop=True),
        "width": norms.isel(width=-1, drop=True) - norms.isel(width=0, drop=True),
    }


def measure(evidence: Evidence) -> Finding:
    """Each at its best learning rate; at that of each seed; at the same one."""
    of = cells(evidence.scale)
    runs = of.runs(evidence)
    lr = best(runs.validation)
    tuned = runs.sel(lr=lr)
    both = runs.sel(trained=[NORMS, RANDOM])
    common = both.dropna("lr", how="any", subset=["validation"])
    widest = both.validation.isel(width=-1)
    return Finding(
        effects(tuned.test),
        exhibits=(
            curves(
                "widths", "Accuracy over the width of the hidden layers, each at its best rate",
                {"what is trained": tuned.test}, "width", "test accuracy at the last step",
                "trained", limits=(0.0, 1.0), log_x=True,
            ),
            curves(
                "training", f"{WIDTHS[evidence.scale][-1]} units a layer, each at its best rate",
                {"what is trained": tuned.curve.isel(width=-1)}, "step", "validation accuracy",
                "trained", limits=(0.0, 1.0),
            ),
            table(
                "Each at its best learning rate: means over seeds.", ("width", "trained"),
                {
                    "learning rate": lr, "test accuracy": tuned.test,
                    "training accuracy": tuned.training,
                },
                called={"width": "units a layer", "trained": "what is trained"},
            ),
        ),
        tuned=for_each_seed(effects(both.test.sel(lr=both.validation.idxmax("lr")))),
        unspecified=Check(
            "One learning rate for both.",
            throughout(common, lambda measured: effects(measured.test)),
        ),
        controls={
            "training": tuned.test.sel(trained=[NORMS, ALL]),
            "rates": widest.dropna("lr", how="all"),
        },
        redrawn=of.at(lr=lr).over_images(evidence, effects),
    )  # fmt: skip


CLAIM = Claim(
    statement="γ and β alone, with all weights as they were drawn, learn more than as many "
    "weights that are chosen at random.",
    section="§3; Frankle et al. 2021",
    paper_says="Of γ and β: “These parameters are learned along with the original model "
    "parameters, and restore the representation power of the network.” Frankle et al. 2021 train "
    "them alone: residual networks come to 82 % on CIFAR-10 with random convolutions, and to far "
    "less where two random weights of each channel are trained in their place.",
    unspecified="All else, for small networks. Here three hidden layers of 50 to 200 rectified "
    "units from He's initial weights, with batch normalization, on MNIST, for 2,000 steps (500 at "
    "the scale short). With γ and β alone the weights and the last layer stay as drawn; in the "
    "other arm two of the weights into each unit are trained, drawn by the seed, and γ and β stay "
    "1 and 0. Each arm is at the best of four learning rates, half an order of "
    "magnitude apart. In a pilot (seed 100) of 500 steps and 200 units γ and β came to .795 at the "
    "rate 10, as many weights to .768 at 30.",
    criteria={
        "widest": Criterion(
            "test accuracy at the last step, γ and β alone − as many weights, of the same seed, in "
            "the widest network",
            Margin(0.02, "accuracy"),
            "Two images in a hundred: no small matter. Theirs are some tens of hundredths apart.",
        ),
        "narrowest": Criterion(
            "the same in the narrowest network", Margin(0.02, "accuracy"), "As of the widest."
        ),
        "width": Criterion(
            "test accuracy of γ and β alone, in the widest network − in the narrowest",
            Margin(0.02, "accuracy"),
            "The more random features there are, the better ones can be picked: theirs grow with "
            "depth and width.",
        ),
    },
    scales=plans(_arms, SEEDS),
    measure=measure,
    controls={
        "training": controls.trains("the network of which γ and β, or all, are trained"),
        "rates": controls.interior("each of both in the widest network"),
    },
    first_seed=FIRST_OF_LATER,
    why="Most of a digit's pixels are always black: many of the weights drawn at random have "
    "nothing to multiply.",
    to_settle="Deep convolutional networks on CIFAR-10, as theirs.",
    later={"Frankle et al. 2021": "The claim's own source."},
)
