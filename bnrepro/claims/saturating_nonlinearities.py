"""With batch normalization deep networks of sigmoids train."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bnrepro.evidence.arms import NAMES, NONE, NORMS, SEEDS, at_lr, over_lrs
from bnrepro.evidence.claim import (
    SCALES,
    Check,
    Claim,
    Criterion,
    Finding,
    FollowUp,
    Plan,
    Variation,
)
from bnrepro.evidence.deep_arms import DEPTHS, FIG1, LRS, WORDS, at_depth, best, deep, hidden
from bnrepro.evidence.exhibits import Curves, Figure, Table, over_seeds
from bnrepro.evidence.runs import CHANCE, TEST, VALIDATION, Evidence, log_ratio
from bnrepro.evidence.tuning import best_lr

TRAINED = 0.9
"""Less than a linear classifier of MNIST has: a network that does not get there has not trained."""

STUCK = 0.15
"""The same answer to every image is right for .1135 of them at most; a network that tells one digit
from the others is right for about .2."""

INITS = {FIG1: (), "Xavier × 4": ("init=xavier", "init.scale=4"), "deviation 1": ("init.scale=1",)}
"""Initial weights of the deepest network without batch normalization. Fig. 1's are close to
Xavier's. Four times that is the rule for sigmoids, whose slope at 0 is ¼ of the identity's. At
deviation 1, in layers of 100 sigmoids, gradients neither vanish nor explode: by mean field theory
the product of 100 · deviation² and the mean squared slope is 0.95 there."""

FURTHER = {"smoke": (), "short": (30.0,), "paper": (30.0,)}
"""One more learning rate for the same network: the higher, the sooner it would leave a plateau."""


def careful(scale: str) -> tuple[float, ...]:
    """The learning rates of the deepest network without batch normalization."""
    return (*LRS[scale], *FURTHER[scale])


def _scale(scale: str) -> Plan:
    deepest = DEPTHS[scale][-1]
    none = (*WORDS[scale], hidden(deepest), f"norm={NONE}")
    care = {at_depth(NONE, deepest, init): (*none, *words) for init, words in INITS.items()}
    return Plan(SEEDS[scale], deep(scale) | over_lrs(care, careful(scale)))


def deepest(evidence: Evidence, arms: Mapping[int, str], trained: float) -> np.ndarray:
    """The greatest depth that trains, of arms by depth: (S,); 0 where none does."""
    found = np.zeros(len(evidence.seeds))
    for depth, arm in arms.items():
        trains = evidence.final(arm, VALIDATION) >= trained
        found = np.where(trains, np.maximum(found, depth), found)
    return found


Arms = Mapping[str, Mapping[int, str]]
"""By norm and depth, the arm that is looked at."""


def at_best(evidence: Evidence) -> Arms:
    """Every arm at its own best learning rate."""
    return {norm: {d: best(evidence, norm, d) for d in DEPTHS[evidence.scale]} for norm in NORMS}


def at_one(scale: str, lr: float) -> Arms:
    """Every arm at the same learning rate."""
    return {norm: {d: at_lr(at_depth(norm, d), lr) for d in DEPTHS[scale]} for norm in NORMS}


def gain(evidence: Evidence, arms: Arms, trained: float = TRAINED) -> np.ndarray:
    """How many times as deep a network trains with batch normalization, in doublings: (S,)."""
    none, batch = (deepest(evidence, arms[norm], trained) for norm in NORMS)
    return log_ratio(batch, none)


def effects(evidence: Evidence, arms: Arms) -> Mapping[str, np.ndarray]:
    """All criteria's effects."""
    none, batch = (arms[norm][DEPTHS[evidence.scale][-1]] for norm in NORMS)
    return {
        "depth": gain(evidence, arms),
        "with BN": evidence.final(batch),
        "without BN": stuck(evidence, none),
    }


def stuck(evidence: Evidence, arm: str) -> np.ndarray:
    """How far below `STUCK` a network's test accuracy stays: (S,)."""
    result: np.ndarray = STUCK - evidence.final(arm)
    return result


def measure(evidence: Evidence) -> Finding:
    """Both arms at their best rates at every depth; at the greatest, with more care for one."""
    arms = at_best(evidence)
    return Finding(
        effects(evidence, arms),
        exhibits=(_figure(evidence, arms), _table(evidence), _saturation(evidence, arms)),
        fair=_fair(evidence),
        unspecified=_unspecified(evidence, arms),
    )


def _fair(evidence: Evidence) -> Check:
    depth, among = DEPTHS[evidence.scale][-1], careful(evidence.scale)
    lrs, variations, rows = {}, [], []
    for init in INITS:
        name = at_depth(NONE, depth, init)
        lrs[init] = best_lr(evidence, name, among)
        arm = at_lr(name, lrs[init])
        validation, test = (
            float(evidence.final(arm, metric).mean()) for metric in (VALIDATION, TEST)
        )
        rows.append((init, lrs[init], validation, test))
        variations.append(
            Variation(f"initial weights: {init}", {"without BN": stuck(evidence, arm)})
        )
    table = Table(
        f"{depth} hidden layers without BN: means over seeds.",
        ("initial weights", "best learning rate", "validation accuracy", "test accuracy"),
        rows,
    )
    return Check(
        "Every depth of both arms is judged at its own best learning rate, of "
        f"{', '.join(f'{lr:g}' for lr in LRS[evidence.scale])}. Here the deepest network "
        "without batch normalization alone gets more care: other initial weights, and one more "
        "rate for each.",
        tuple(variations),
        (table,),
    )


def _unspecified(evidence: Evidence, arms: Arms) -> Check:
    found = {
        f"learning rate {lr:g} for all": effects(evidence, at_one(evidence.scale, lr))
        for lr in LRS[evidence.scale]
    }
    for trained in (0.5, 0.95):
        again = gain(evidence, arms, trained)
        found[f"trained means a validation accuracy of {trained}"] = {"depth": again}
    return Check(
        "One learning rate for every depth, and another meaning of trained.",
        tuple(Variation(choice, values) for choice, values in found.items()),
    )


def _figure(evidence: Evidence, arms: Arms) -> Figure:
    depths = DEPTHS[evidence.scale]
    ends = [
        over_seeds(
            NAMES[norm], depths, np.stack([evidence.final(arms[norm][d]) for d in depths], axis=1)
        )
        for norm in NORMS
    ]
    over = [over_seeds(NAMES[norm], *evidence.curves(arms[norm][depths[-1]])) for norm in NORMS]
    levels = (CHANCE, TRAINED)
    return Figure(
        "depth",
        "Each arm at each depth at its own best learning rate: median over seeds, band from least "
        "to greatest; dotted, guessing and what counts as trained.",
        (
            Curves("every depth", "hidden layers", "test accuracy at the last step", ends,
                   limits=(0.0, 1.0), levels=levels),
            Curves(f"{depths[-1]} hidden layers", "step", "test accuracy", over,
                   limits=(0.0, 1.0), levels=levels),
        ),
    )  # fmt: skip


def _table(evidence: Evidence) -> Table:
    rows = []
    for norm in NORMS:
        for depth in DEPTHS[evidence.scale]:
            lr = best_lr(evidence, at_depth(norm, depth), LRS[evidence.scale])
            arm = at_lr(at_depth(norm, depth), lr)
            validation = evidence.final(arm, VALIDATION)
            rows.append(
                (
                    NAMES[norm], depth, lr, float(validation.mean()),
                    float(evidence.final(arm).mean()),
                    f"{int((validation >= TRAINED).sum())} of {len(validation)}",
                )
            )  # fmt: skip
    columns = ("arm", "hidden layers", "best learning rate", "validation accuracy",
               "test accuracy", "seeds that train")  # fmt: skip
    return Table("Every depth at its best learning rate: means over seeds.", columns, rows)


def _saturation(evidence: Evidence, arms: Arms) -> Figure:
    depth = DEPTHS[evidence.scale][-1]
    layers = range(1, depth + 1)
    panels = []
    for title, when in (("before the first step", 0), ("at the last step", -1)):
        lines = []
        for norm in NORMS:
            names = [f"sigmoid{layer}/saturated" for layer in layers]
            found = [
                [values[when].mean() for _, values in of_seeds]
                for of_seeds in evidence.probed_each(arms[norm][depth], names)
            ]
            lines.append(over_seeds(NAMES[norm], list(layers), np.array(found).T))
        panels.append(Curves(title, "hidden layer", "share saturated", lines, limits=(0.0, 1.0)))
    return Figure(
        "saturation",
        f"How much of {depth} layers is saturated, that is, where the sigmoid's slope is below a "
        "twentieth of its greatest: mean over units and images. It tells whether what does not "
        "train is caught in the saturated regime, as the paper has it, or never comes near it and "
        "fails because slopes of ¼ and less are multiplied.",
        panels,
    )


CLAIM = Claim(
    statement="With batch normalization deep networks of saturating nonlinearities train; without "
    "it they stay at chance.",
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
    criteria=(
        Criterion(
            "depth",
            "the greatest of the depths that trains, with BN ÷ without BN, each at its own best "
            "learning rate, of the same seed",
            "doublings",
            0.5,
            "A factor of 2 at the least: of the depths 3, 6, 9 and 12, a step from 9 to 12 is not "
            "to count. A gradient comes out of a layer of 100 sigmoids, of deviation 0.07, "
            "10 · 0.07 · ¼ times as large: three more layers make it 190 times as small.",
        ),
        Criterion(
            "with BN",
            "test accuracy at the last step with BN, of the deepest network",
            "accuracy",
            TRAINED,
            "The paper's network comes within 5 hundredths of the best one of ReLUs (69.8 and "
            "74.8 %). Less is asked here: no more than a linear classifier has.",
        ),
        Criterion(
            "without BN",
            f"{STUCK} − test accuracy at the last step without BN, of the deepest network",
            "accuracy",
            0.0,
            "The paper's network is never better than chance. The same answer to every image is "
            "right for .1135 of the test images at most; to tell one digit from the rest makes "
            "about .2.",
        ),
    ),
    scales={scale: _scale(scale) for scale in SCALES},
    measure=measure,
    later=(
        FollowUp(
            "Xu et al. 2016",
            "1602.05980",
            "That deep sigmoid networks do not train lies as much in the slope and the offset at "
            "the origin: rescaled to be like tanh there, the sigmoid trains about as well as tanh "
            "does.",
        ),
        FollowUp(
            "Pennington et al. 2017",
            "1711.04735",
            "With orthogonal weights of the right scale, very deep networks of tanh train well "
            "without normalization, and better than ReLU networks: that a nonlinearity saturates "
            "is no obstacle by itself.",
        ),
    ),
)
