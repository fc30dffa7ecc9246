"""From which initial weights, and at which rates, deep networks of sigmoids train."""

from bnrepro.evidence import controls
from bnrepro.evidence.arms import CHOICE_SEEDS, FIRST_OF_CHOICE, NORMS, SMOKE, per_scale
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Margin, plans
from bnrepro.evidence.deep_arms import TRAINED, deeper, hidden
from bnrepro.evidence.exhibits import Table
from bnrepro.evidence.grid import Array, Grid, grid, heat_maps, table
from bnrepro.evidence.runs import Evidence
from bnrepro.evidence.tuning import both_tuned

DEPTHS = per_scale((3, 6), (3, 6, 12), (3, 6, 12, 24))
FIG1_STD = 0.07
STDS = per_scale((FIG1_STD, 1.0), (FIG1_STD, 1.0), (FIG1_STD, 0.3, 0.6, 1.0))
LRS = per_scale((1.0,), (0.3, 3.0), (0.1, 0.3, 1.0, 3.0))
"""In the pilot, after as many steps, 12 layers without BN came highest from 0.6 at 0.3 (.85), 24
from 1 at 0.1 (.52), with BN both from 1 at 3; 1.5, and rates of 0.03 and 10, were worse."""

WORDS = {
    "smoke": ("experiment=fig1", *SMOKE),
    "short": ("experiment=fig1", "train.steps=600", "train.eval_every=600", "probe.every=0"),
    "paper": (
        "experiment=fig1", "train.steps=2000", "train.eval_every=2000", "train.compile=true",
        "probe.every=0", "tensorboard=false",
    ),
}  # fmt: skip


def cells(scale: str) -> Grid:
    """Both arms at every depth, from every initial deviation, at every learning rate."""
    depths = {depth: (hidden(depth),) for depth in DEPTHS[scale]}
    return grid(norm=NORMS, depth=depths, std=STDS[scale], lr=LRS[scale])


def best_cells(validation: Array) -> Table:
    """The initial deviation and the rate of the highest mean, of each arm at each depth."""
    mean = validation.mean("seed").stack(cell=("std", "lr"))
    best = mean.cell[mean.argmax("cell")]
    chosen = {
        "deviation": best["std"], "learning rate": best["lr"],
        "validation accuracy": mean.max("cell"),
    }  # fmt: skip
    caption = "The best cells, for the claim saturating-nonlinearities: means over seeds."
    return table(caption, ("norm", "depth"), chosen)


def measure(evidence: Evidence) -> Finding:
    """From Fig. 1's initial weights, and from the best ones of each arm at each depth."""
    of = cells(evidence.scale)
    runs = of.runs(evidence)
    validation = runs.validation
    at_best = validation.max(("std", "lr"))
    fig1 = runs.sel(std=FIG1_STD)
    return Finding(
        {"from Fig. 1's weights": deeper(fig1.validation.max("lr")), "depth": deeper(at_best)},
        exhibits=(
            heat_maps(
                "map",
                "The highest validation accuracy at any learning rate, medians over seeds",
                {
                    name: validation.sel(norm=norm).max("lr")
                    for norm, name in zip(NORMS, ("without BN", "with BN"), strict=True)
                },
                "std", "depth", (0.0, 1.0),
            ),
            best_cells(validation),
        ),
        tuned=both_tuned(
            fig1, lambda lr: {"from Fig. 1's weights": deeper(fig1.validation.sel(lr=lr))}
        ),
        unspecified=Check(
            "The initial weights, the same for both arms.",
            {
                f"initial deviation {std:g}": {"depth": deeper(validation.sel(std=std).max("lr"))}
                for std in STDS[evidence.scale]
            },
        ),
        controls={"training": at_best.isel(depth=0)},
    )  # fmt: skip


_DEPTH = (
    f"the greatest of the depths that comes to a last validation accuracy of {TRAINED} (1 if none "
    "does), with BN ÷ without BN, each at its best learning rate of the same seed"
)
_HALF = "Of the depths, each twice the last, a step is not to count by rounding alone."

CLAIM = Claim(
    statement="From the initial weights of Fig. 1 deeper networks of sigmoids train with batch "
    "normalization than without it.",
    section="§3, §4.2.2",
    paper_says="Inception with sigmoids trains on ImageNet with batch normalization, and without "
    "it never gets better than chance (§4.2.2).",
    unspecified="Depth, initial weights and learning rate. Here they are all gone over, on the "
    "network of Fig. 1 with 3 to 24 hidden layers, for 2,000 steps. This is also the first of two "
    "stages: the best cells of each arm are those that saturating-nonlinearities is judged at, "
    "with other seeds.",
    criteria={
        "from Fig. 1's weights": Criterion(
            f"from a deviation of {FIG1_STD}: {_DEPTH}", Margin(0.5, "doublings"), _HALF
        ),
        "depth": Criterion(
            f"from the best deviation as well: {_DEPTH}. The best of so many is too good: other "
            "seeds are to tell",
            Margin(0.5, "doublings"),
            _HALF,
        ),
    },
    scales=plans(lambda scale: cells(scale).arms(), CHOICE_SEEDS, WORDS),
    measure=measure,
    controls={"training": controls.trains("each arm with three layers at its best")},
    first_seed=FIRST_OF_CHOICE,
    why="From larger initial weights deep networks learn without batch normalization too.",
    to_settle="The best cells again, with other seeds and more steps: saturating-nonlinearities.",
    later={
        "Schoenholz et al. 2017": "How deep a network trains follows from the variance of its "
        "initial weights: gradients reach as far as there is a memory of the input."
    },
)
