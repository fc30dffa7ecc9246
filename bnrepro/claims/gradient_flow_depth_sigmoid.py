"""§1, §2: with batch normalization gradients of sigmoids do not vanish on their way through."""

from bnrepro.evidence import controls
from bnrepro.evidence.arms import NAMES, NONE, NORMS, SEEDS
from bnrepro.evidence.claim import Check, Claim, Criterion, Expected, Finding, Group, Margin, plans
from bnrepro.evidence.deep_arms import hidden
from bnrepro.evidence.gradients import (
    DEPTHS,
    FITTING,
    STDS,
    WORDS,
    by_layer,
    ends,
    less,
    sigmoids,
    uneven,
)
from bnrepro.evidence.grid import Grid, curves, grid
from bnrepro.evidence.runs import Evidence


def tanh(scale: str) -> Grid:
    """The deepest network, of tanh from Xavier's initial weights, which were made for it."""
    words = ("model.activation=tanh", "init=xavier", "init.scale=1")
    return grid(norm=NORMS, network={"tanh, Xavier": (hidden(DEPTHS[scale][-1]), *words)})


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    depths, words = DEPTHS[scale], WORDS[scale]
    shallow = sigmoids(depths, (FITTING,)).arms(*words)
    return shallow | sigmoids(depths[-1:], STDS[scale]).arms(*words) | tanh(scale).arms(*words)


def measure(evidence: Evidence) -> Finding:
    """The first and the last layer's gradient, at every depth and from every initial deviation."""
    depths, deepest = DEPTHS[evidence.scale], DEPTHS[evidence.scale][-1]
    by_depth = uneven(ends(evidence, sigmoids(depths, (FITTING,)))).sel(std=FITTING)
    by_std = uneven(ends(evidence, sigmoids((deepest,), STDS[evidence.scale]))).sel(depth=deepest)
    other = uneven(ends(evidence, tanh(evidence.scale)).isel(network=0))
    even = by_std.mean("seed").idxmin("std")
    chosen = ", ".join(f"{NAMES[norm]} {even.sel(norm=norm).item():g}" for norm in NORMS)
    choices = {
        f"{depth} layers": {"depth": less(by_depth.sel(depth=depth))} for depth in depths[:-1]
    }
    choices |= {
        f"initial deviation {std:g}": {"depth": less(by_std.sel(std=std))}
        for std in STDS[evidence.scale]
        if std != FITTING
    }
    return Finding(
        {"depth": less(by_depth.sel(depth=deepest))},
        exhibits=(
            by_layer(
                evidence,
                {
                    f"initial deviation {std:g}": sigmoids((deepest,), (std,))
                    for std in (FITTING, STDS[evidence.scale][-1])
                },
            ),
            curves(
                "stds", "Decades between the first layer's gradient and the last one's",
                {f"{deepest} layers of sigmoids": by_std}, "std", "decades from first to last",
            ),
        ),
        tuned=Check(
            "Each arm at the initial deviation that makes its own gradients the most even: what a "
            "well-chosen scale does without batch normalization.",
            {chosen: {"depth": less(by_std.sel(std=even))}},
        ),
        unspecified=Check(
            "The number of layers, the initial deviation, and tanh from Xavier's initial weights.",
            choices | {"tanh, Xavier": {"depth": less(other)}},
        ),
        controls={"vanishing": by_depth.sel(depth=deepest, norm=NONE)},
    )  # fmt: skip


CLAIM = Claim(
    statement="With batch normalization the gradients of a deep network of sigmoids depend less on "
    "how many layers they come through.",
    section="§1, §2",
    paper_says="Saturation of sigmoids and the vanishing gradients that follow slow down training, "
    "the more the deeper the network (§2); batch normalization has a beneficial effect on the "
    "gradient flow through the network (§1).",
    unspecified="All of the measurement. Here gradients are those of the weights, by layer, of one "
    "mini-batch of 60, before the first step; the first of the hidden layers of 100 × 100 weights, "
    "which is the second, is set beside the last. 3 to 12 hidden layers of 100 sigmoids, otherwise "
    "the network of Fig. 1, whose initial deviation is 0.07; others from 0.02 to 2.8. By a pilot "
    "gradients are the most even at 1.4 without batch normalization.",
    criteria={
        "depth": Criterion(
            "how far the first layer's gradient is from as large as the last one's, in the deepest "
            "network from Fig. 1's initial weights, without BN − with BN",
            Margin(1.0, "decades"),
            "A factor of 10. Without it a gradient comes out of a layer 10 · 0.07 · ¼ times as "
            "large at most, for sigmoids' slopes are ¼ and less: 7.6 decades over ten layers.",
        )
    },
    scales=plans(_arms, SEEDS),
    measure=measure,
    controls={
        "vanishing": controls.exists(
            "the gap between first and last gradient without BN, in decades,", 1.0
        )
    },
    group=Group.ARGUMENT,
    expected=Expected("REPRODUCED", 7.6, known=True),
    why="Small weights make gradients of sigmoids vanish; larger ones hardly do.",
    to_settle="Training from each arm's own best initial weights: saturating-nonlinearities.",
    later={
        "Schoenholz et al. 2017": "Without normalization there is a scale of the initial weights "
        "at which gradients neither vanish nor explode, and there very deep networks train."
    },
)
