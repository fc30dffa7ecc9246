"""With batch normalization deep networks of sigmoids train."""

from typing import Any

import numpy as np

from bnrepro.evidence.arms import NONE, SEEDS
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Margin, plans
from bnrepro.evidence.deep_arms import DEPTHS, LRS, WORDS, deep, hidden, tuned
from bnrepro.evidence.exhibits import Curves, Figure
from bnrepro.evidence.grid import Array, Grid, best, curves, doublings, grid, lines, table
from bnrepro.evidence.runs import CHANCE, TEST, VALIDATION, Evidence

TRAINED = 0.9
"""Less than a linear classifier of MNIST has: a network that does not get there has not trained."""

STUCK = 0.15
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


def effects(test: Array, validation: Array, trained: float = TRAINED) -> dict[str, Array]:
    """All criteria's effects (seed), from accuracies (norm, depth, seed)."""
    depths = validation.depth.where(validation >= trained).max("depth").fillna(0)
    deepest = test.isel(depth=-1)
    return {
        "depth": doublings(depths.sel(norm="batch"), depths.sel(norm="none")),
        "with BN": deepest.sel(norm="batch"),
        "without BN": STUCK - deepest.sel(norm="none"),
    }


def measure(evidence: Evidence) -> Finding:
    """Both arms at their best rates at every depth; at the greatest, with more care for one."""
    of, care = deep(evidence.scale), careful(evidence.scale)
    test, validation = of.final(evidence), of.final(evidence, VALIDATION)
    lr = best(validation)
    at_best = test.sel(lr=lr), validation.sel(lr=lr)
    choices = {
        f"learning rate {rate:g} for all": effects(test.sel(lr=rate), validation.sel(lr=rate))
        for rate in LRS[evidence.scale]
    }
    for trained in (0.5, 0.95):
        depths = effects(*at_best, trained)["depth"]
        choices[f"trained means a validation accuracy of {trained}"] = {"depth": depths}
    careful_lr = best(care.final(evidence, VALIDATION))
    accuracies = {
        name: care.final(evidence, metric).sel(lr=careful_lr)
        for name, metric in (("validation accuracy", VALIDATION), ("test accuracy", TEST))
    }
    stuck = STUCK - accuracies["test accuracy"]
    depth = DEPTHS[evidence.scale][-1]
    return Finding(
        effects(*at_best),
        exhibits=(
            _figure(evidence, at_best[0]),
            table(
                "Every depth at its best learning rate: means over seeds.",
                ("norm", "depth"),
                {
                    "best learning rate": lr,
                    "validation accuracy": at_best[1],
                    "test accuracy": at_best[0],
                    "share of seeds that train": (at_best[1] >= TRAINED).astype(float),
                },
            ),
            _saturation(evidence),
        ),
        tuned=Check(
            "Every depth of both arms is judged at its own best learning rate, of "
            f"{', '.join(f'{rate:g}' for rate in LRS[evidence.scale])}. Here the deepest network "
            "without batch normalization alone gets more care: other initial weights, and one more "
            "rate for each.",
            {f"initial weights: {init}": {"without BN": stuck.sel(init=init)} for init in INITS},
            (
                table(
                    f"{depth} hidden layers without BN: means over seeds.",
                    ("init",),
                    {"best learning rate": careful_lr, **accuracies},
                ),
            ),
        ),
        unspecified=Check(
            "One learning rate for every depth, and another meaning of trained.", choices
        ),
    )


def _figure(evidence: Evidence, test: Array) -> Figure:
    options: Any = {"limits": (0.0, 1.0), "levels": (CHANCE, TRAINED)}
    every = curves("depth", "Each arm at each depth at its own best learning rate",
                   {"every depth": test}, "depth", "test accuracy at the last step",
                   more=" Dotted, guessing and what counts as trained.", **options)  # fmt: skip
    over = tuned(evidence).curves(evidence).isel(depth=-1)
    deepest = Curves(f"{DEPTHS[evidence.scale][-1]} hidden layers", "step", "test accuracy",
                     lines(over, "step"), **options)  # fmt: skip
    return Figure(every.name, every.caption, (*every.panels, deepest))


def _saturation(evidence: Evidence) -> Figure:
    depth = DEPTHS[evidence.scale][-1]
    layers = range(1, depth + 1)
    names = [f"sigmoid{layer}/saturated" for layer in layers]
    times = {"before the first step": 0, "at the last step": -1}

    def read(arm: str) -> np.ndarray:
        probed = evidence.probed_each(arm, names)  # (layers, seeds)
        return np.array([
            [[values[when].mean() for when in times.values()] for _, values in of_layers]
            for of_layers in zip(*probed, strict=True)
        ])  # fmt: skip

    saturated = tuned(evidence).at(depth=depth).array(evidence, read, layer=layers, when=times)
    return curves(
        "saturation",
        f"How much of {depth} layers is saturated, that is, where the sigmoid's slope is below a "
        "twentieth of its greatest (mean over units and images)",
        {title: saturated.sel(when=title) for title in times},
        "layer", "share saturated", limits=(0.0, 1.0),
        more=" It tells whether what does not train is caught in the saturated regime, as the "
        "paper has it, or never comes near it and fails because slopes of ¼ and less are "
        "multiplied.",
    )  # fmt: skip


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
    criteria={
        "depth": Criterion(
            "the greatest of the depths that trains, with BN ÷ without BN, each at its own best "
            "learning rate, of the same seed",
            Margin(0.5, "doublings"),
            "A factor of 2 at the least: of the depths 3, 6, 9 and 12, a step from 9 to 12 is not "
            "to count. A gradient comes out of a layer of 100 sigmoids, of deviation 0.07, "
            "10 · 0.07 · ¼ times as large: three more layers make it 190 times as small.",
        ),
        "with BN": Criterion(
            "test accuracy at the last step with BN, of the deepest network",
            Margin(TRAINED, "accuracy"),
            "The paper's network comes within 5 hundredths of the best one of ReLUs (69.8 and "
            "74.8 %). Less is asked here: no more than a linear classifier has.",
        ),
        "without BN": Criterion(
            f"{STUCK} − test accuracy at the last step without BN, of the deepest network",
            Margin(0.0, "accuracy"),
            "The paper's network is never better than chance. The same answer to every image is "
            "right for .1135 of the test images at most; to tell one digit from the rest makes "
            "about .2.",
        ),
    },
    scales=plans(_arms, SEEDS, WORDS),
    measure=measure,
    later={
        "Xu et al. 2016": "That deep sigmoid networks do not train lies as much in the slope and "
        "the offset at the origin: rescaled to be like tanh there, the sigmoid trains about as "
        "well as tanh does.",
        "Pennington et al. 2017": "With orthogonal weights of the right scale, very deep networks "
        "of tanh train well without normalization, and better than ReLU networks: that a "
        "nonlinearity saturates is no obstacle by itself.",
    },
)
