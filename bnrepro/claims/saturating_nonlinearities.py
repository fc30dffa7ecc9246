"""With batch normalization deep networks of sigmoids train."""

import numpy as np

from bnrepro.evidence import controls
from bnrepro.evidence.arms import NONE, SEEDS
from bnrepro.evidence.claim import Check, Claim, Control, Criterion, Finding, Group, Margin, plans
from bnrepro.evidence.deep_arms import DEPTHS, LRS, WORDS, deep, hidden, tuned
from bnrepro.evidence.exhibits import Figure
from bnrepro.evidence.grid import Array, Grid, best, curves, grid, table, times_fewer
from bnrepro.evidence.runs import CHANCE, TEST, VALIDATION, Evidence
from bnrepro.evidence.tuning import both_tuned

TRAINED = 0.9
"""A linear classifier of MNIST has more: a network that does not get there has not trained."""

STUCK = controls.ABOVE_CHANCE
"""The same answer to every image is right for .1135 of them at most; a network that tells one digit
from the others is right for about .2."""

INITS = {
    "as in Fig. 1": (),
    "Xavier × 4": ("init=xavier", "init.scale=4"),
    "deviation 1": ("init.scale=1",),
}
"""Initial weights of the deepest network without batch normalization. Fig. 1's are close to
Xavier's. Four times that is the rule for sigmoids, whose slope at 0 is ¼ of the identity's. At
deviation 1, in layers of 100 sigmoids, gradients neither vanish nor explode: by mean field theory
the product of 100 · deviation² and the mean squared slope is 0.95 there."""

FURTHER = {"smoke": (), "short": (30.0,), "paper": (30.0,)}
"""One more learning rate for the same network: the higher, the sooner it would leave a plateau."""


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
    runs, care = deep(evidence.scale).runs(evidence), careful(evidence.scale)
    test, validation, lr = runs.test, runs.validation, best(runs.validation)
    at_best = validation.sel(lr=lr)
    cared = {name: care.final(evidence, name) for name in (VALIDATION, TEST)}
    careful_lr = best(cared[VALIDATION])
    cared = {name: values.sel(lr=careful_lr) for name, values in cared.items()}
    choices = {
        f"the deepest without BN from: {init}": effects(at_best, cared[VALIDATION].sel(init=init))
        for init in INITS
    }
    choices |= {
        f"learning rate {rate:g} for all": effects(validation.sel(lr=rate))
        for rate in LRS[evidence.scale]
    }
    for trained in (0.5, 0.95):
        text = f"trained means a validation accuracy of {trained}"
        choices[text] = effects(at_best, trained=trained)
    depth, deepest = DEPTHS[evidence.scale][-1], test.sel(lr=lr).isel(depth=-1).sel(norm=NONE)
    return Finding(
        effects(at_best),
        exhibits=(
            curves(
                "depth", "Each arm at each depth at its own best learning rate",
                {"every depth": test.sel(lr=lr)}, "depth", "test accuracy at the last step",
                more=" Dotted, guessing and what counts as trained.",
                limits=(0.0, 1.0), levels=(CHANCE, TRAINED),
            ),
            _saturation(evidence),
        ),
        tuned=both_tuned(runs, lambda lr: effects(validation.sel(lr=lr))),
        unspecified=Check(
            "The initial weights, one learning rate for every depth, and another meaning of "
            "trained.",
            choices,
            (
                table(
                    f"{depth} hidden layers without BN: means over seeds.",
                    ("init",),
                    {
                        "best learning rate": careful_lr,
                        "validation accuracy": cared[VALIDATION],
                        "test accuracy": cared[TEST],
                    },
                ),
            ),
        ),
        controls={
            "training": controls.trains(test.sel(lr=lr).isel(depth=0)),
            "chance": Control(
                f"without BN {depth} layers end below {STUCK:g} in every seed, so that its depth "
                "is not cut off",
                deepest.max().item() < STUCK, f"{deepest.max().item():.4f}",
            ),
        },
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
        f"How much of {depth} layers is saturated, that is, where the sigmoid's slope is below a "
        "twentieth of its greatest (mean over units and images)",
        {"at the last step": saturated}, "layer", "share saturated", limits=(0.0, 1.0),
        more=" What does not train is caught in the saturated regime, as the paper has it, or "
        "never comes near it and fails because slopes of ¼ and less are multiplied.",
    )  # fmt: skip


CLAIM = Claim(
    statement="With batch normalization deeper networks of saturating nonlinearities train than "
    "without it, from the initial weights of Fig. 1.",
    section="Abstract, §3, §4.2.2",
    paper_says="Inception with sigmoids in place of ReLUs comes to 69.8 % on ImageNet with batch "
    "normalization (at five times the initial learning rate); without it, it never gets better "
    "than chance, 1/1000 (§4.2.2). Batch normalization is to keep the network from getting stuck "
    "in the saturated modes (abstract).",
    unspecified="How deep: here 3, 6, 9 and 12 hidden layers of 100 sigmoids, otherwise the "
    "network of Fig. 1, for 2,000 steps on MNIST, each depth of both arms at the better of two "
    "learning rates. The initial weights: those of Fig. 1, and others for the deepest network "
    f"without batch normalization. What it is to train: a last validation accuracy of {TRAINED} at "
    f"least. What chance is: a test accuracy below {STUCK}.",
    criteria={
        "depth": Criterion(
            "the greatest of the depths that trains (1 if none does), with BN ÷ without BN, each "
            "at its own best learning rate, of the same seed",
            Margin(0.5, "doublings"),
            "Of the depths 3, 6, 9 and 12, a step from 9 to 12 is not to count. A gradient comes out of a layer of 100 sigmoids, of deviation 0.07, "
            "10 · 0.07 · ¼ times as large: three more layers make it 190 times as small.",
        )
    },
    scales=plans(_arms, SEEDS, WORDS),
    measure=measure,
    group=Group.ARGUMENT,
    why="From larger initial weights, of deviation 1 or four times Xavier's, 12 layers learn "
    "without batch normalization too, if not to .9 in 2,000 steps.",
    to_settle="A map of depth, initial weights and rates, and 10,000 steps in its best cells.",
    later={
        "Xu et al. 2016": "That deep sigmoid networks do not train lies as much in the slope and "
        "the offset at the origin: rescaled to be like tanh there, the sigmoid trains about as "
        "well as tanh does.",
        "Pennington et al. 2017": "With orthogonal weights of the right scale, very deep networks "
        "of tanh train well without normalization, and better than ReLU networks: that a "
        "nonlinearity saturates is no obstacle by itself.",
    },
)
