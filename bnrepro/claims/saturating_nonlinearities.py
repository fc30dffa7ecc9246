"""With batch normalization deep networks of sigmoids train."""

import numpy as np

from bnrepro.evidence import controls
from bnrepro.evidence.arms import NONE, SEEDS, per_scale
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Group, Margin, plans
from bnrepro.evidence.deep_arms import DEPTHS, LRS, WORDS, deep, hidden, tuned
from bnrepro.evidence.exhibits import Figure
from bnrepro.evidence.grid import Array, Grid, best, curves, grid, table, times_fewer
from bnrepro.evidence.runs import CHANCE, Evidence
from bnrepro.evidence.tuning import both_tuned

TRAINED = 0.9
"""A linear classifier of MNIST has more: a network that does not get there has not trained."""

INITS = {
    "as in Fig. 1": (),
    "Xavier × 4": ("init=xavier", "init.scale=4"),
    "deviation 1": ("init.scale=1",),
}
"""Initial weights of the deepest network without batch normalization. Four times Xavier's is the
rule for sigmoids, whose slope at 0 is ¼ of the identity's. At deviation 1 gradients neither vanish
nor explode: by mean field theory 100 · deviation² times the mean squared slope is 0.95."""

FURTHER = per_scale((), (30.0,))
"""One more learning rate for it: the higher, the sooner it would leave a plateau."""


def careful(scale: str) -> Grid:
    """The deepest network without batch normalization, from several initial weights."""
    return grid("deepest without BN", init=INITS, lr=(*LRS[scale], *FURTHER[scale]))


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    none = (f"norm={NONE}", hidden(DEPTHS[scale][-1]))
    return deep(scale).arms() | careful(scale).arms(*none)


def effects(
    validation: Array, care: Array | None = None, trained: float = TRAINED
) -> dict[str, Array]:
    """The effect (seed, bound), from accuracies (norm, depth, seed).

    A network that trains with all its layers might with more: its depth is cut off. `care` is the
    accuracy of the deepest network without batch normalization from other initial weights.
    """
    last = validation.depth[-1].item()
    trains = validation >= trained
    depths = validation.depth.where(trains).max("depth").fillna(1)
    depths = depths.where(depths < last, np.inf)
    none, batch = (depths.sel(norm=norm, drop=True) for norm in ("none", "batch"))
    if care is not None:
        none = none.where(care < trained, np.inf)
    return {"depth": times_fewer(batch, none, last)}


def measure(evidence: Evidence) -> Finding:
    """Both arms at their best rates at every depth; at the greatest, with more care for one."""
    runs, cared = deep(evidence.scale).runs(evidence), careful(evidence.scale).runs(evidence)
    validation, lr = runs.validation, best(runs.validation)
    test, at_best = runs.test.sel(lr=lr), validation.sel(lr=lr)
    cared = cared.sel(lr=best(cared.validation))
    choices = {
        f"the deepest without BN from: {init}": effects(at_best, cared.validation.sel(init=init))
        for init in INITS
    }
    choices |= {
        f"learning rate {rate:g} for all": effects(validation.sel(lr=rate))
        for rate in LRS[evidence.scale]
    }
    choices |= {
        f"trained means an accuracy of {trained}": effects(at_best, trained=trained)
        for trained in (0.5, 0.95)
    }
    depth = DEPTHS[evidence.scale][-1]
    return Finding(
        effects(at_best),
        exhibits=(
            curves(
                "depth", "Each arm at each depth at its own best learning rate",
                {"every depth": test}, "depth", "test accuracy at the last step",
                more=" Dotted, guessing and what counts as trained.",
                limits=(0.0, 1.0), levels=(CHANCE, TRAINED),
            ),
            _saturation(evidence),
        ),
        tuned=both_tuned(runs, lambda lr: effects(validation.sel(lr=lr))),
        unspecified=Check(
            "The initial weights, one learning rate, and another meaning of trained.",
            choices,
            (
                table(
                    f"{depth} hidden layers without BN: means over seeds.", ("init",),
                    {"best learning rate": cared.lr, "test accuracy": cared.test},
                ),
            ),
        ),
        controls={"training": test.isel(depth=0), "chance": test.sel(norm=NONE, depth=depth)},
    )  # fmt: skip


def _saturation(evidence: Evidence) -> Figure:
    depth = DEPTHS[evidence.scale][-1]
    names = [f"sigmoid{layer}/saturated" for layer in range(1, depth + 1)]

    def read(arm: str) -> np.ndarray:
        probed = evidence.probed_each(arm, names)  # (layers, seeds)
        return np.array([[values[-1].mean() for _, values in of_seeds] for of_seeds in probed]).T

    saturated = tuned(evidence).at(depth=depth).array(evidence, read, layer=range(1, depth + 1))
    return curves(
        "saturation",
        f"How much of {depth} layers is saturated, at less than 1/20 of the sigmoid's slope at 0",
        {"at the last step": saturated}, "layer", "share saturated", limits=(0.0, 1.0),
        more=" The paper takes what does not train to be caught in the saturated regime.",
    )  # fmt: skip


CLAIM = Claim(
    statement="With batch normalization deeper networks of saturating nonlinearities train than "
    "without it, from the initial weights of Fig. 1.",
    section="Abstract, §3, §4.2.2",
    paper_says="Inception with sigmoids in place of ReLUs comes to 69.8 % on ImageNet with batch "
    "normalization (at five times the initial learning rate); without it, it never gets better "
    "than chance, 1/1000 (§4.2.2). Batch normalization is to keep the network from getting stuck "
    "in the saturated modes (abstract).",
    unspecified="How deep: here the network of Fig. 1 with 3, 6, 9 and 12 hidden layers, for 2,000 "
    "steps, each at the better of two rates. The initial weights: Fig. 1's, and others for the "
    f"deepest without BN. To train is a last validation accuracy of {TRAINED} at least.",
    criteria={
        "depth": Criterion(
            "the greatest of the depths that trains (1 if none does), with BN ÷ without BN, each "
            "at its own best learning rate, of the same seed",
            Margin(0.5, "doublings"),
            "Of the depths 3, 6, 9 and 12, a step from 9 to 12 is not to count. Out of a layer a "
            "gradient comes 10 · 0.07 · ¼ times as large: three more make it 190 times as small.",
        )
    },
    scales=plans(_arms, SEEDS, WORDS),
    measure=measure,
    controls={
        "training": controls.trains("each arm with three layers"),
        "chance": controls.at_most(
            "the test accuracy of the deepest network without BN", controls.ABOVE_CHANCE
        ),
    },
    group=Group.ARGUMENT,
    why="From larger initial weights deep networks may learn without batch normalization too.",
    to_settle="A map of depth, initial weights and rates, and 10,000 steps in its best cells.",
    later={
        "Xu et al. 2016": "It lies as much in the sigmoid's slope and offset at the origin: "
        "rescaled to be like tanh there, it trains about as well as tanh does.",
        "Pennington et al. 2017": "With orthogonal weights of the right scale, very deep networks "
        "of tanh train well without normalization, and better than ReLU networks: that a "
        "nonlinearity saturates is no obstacle by itself.",
    },
)
