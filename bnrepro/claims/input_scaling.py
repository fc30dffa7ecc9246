"""§2: networks train better on normalized inputs; with BN their scale matters less."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bnrepro.evidence.arms import BATCH, NAMES, NONE, NORMS, SEEDS, SMOKE
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Margin, plans
from bnrepro.evidence.exhibits import Exhibit
from bnrepro.evidence.grid import Array, Grid, best, curves, doublings, grid, stack, steps_to, table
from bnrepro.evidence.runs import VALIDATION, Evidence
from bnrepro.evidence.stats import lower_median

TRAINED = 0.9
"""Less than a linear classifier of MNIST has: a network that never gets there has not trained."""

GOOD, *BAD = INPUTS = {
    "standardized": "standardized",
    "raw": "raw, as stored",
    "shifted": "shifted by 3 deviations",
    "uneven": "each of its own scale",
}
"""Kinds of inputs, and what they are called."""

_GREY = ("experiment=fig1", "dataset.binary=false", "probe.every=0")
RUN = {
    "smoke": ("experiment=fig1", *SMOKE),
    "short": (*_GREY, "train.steps=1000", "train.eval_every=50"),
    "paper": (*_GREY, "train.steps=2500", "train.eval_every=100"),
}
"""Fig. 1's network on grey images for the beginning of training, where speed shows; looked at
often, for speed is counted in these steps."""

LRS: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    NONE: {"smoke": (1.0,), "short": (0.03, 0.3, 3.0), "paper": (0.03, 0.1, 0.3, 1.0, 3.0)},
    BATCH: {"smoke": (1.0,), "short": (0.3, 3.0), "paper": (0.1, 0.3, 1.0, 3.0)},
}
"""Inputs of one arm are compared with inputs of the same arm, at the same rates. Without batch
normalization they reach further down, for what is badly scaled needs small steps: as far as the
layers above, whose inputs are bounded, can learn anything in so few. With it the scale of the
inputs and the size of a step have nothing to do with each other (§3.3)."""

XAVIER, XAVIER_LR = ("init=xavier", "init.scale=1.0"), 1.0
"""At this rate, without batch normalization, from weights made for standardized inputs: smaller in
the first layer than Fig. 1's, larger in the others, which do not keep it on a plateau as long."""


def kinds(label: str, lrs: Sequence[float]) -> Grid:
    """Every kind of inputs at several learning rates."""
    return grid(label, inputs={kind: (f"dataset.inputs={kind}",) for kind in INPUTS}, lr=lrs)


def networks(scale: str) -> dict[str, Grid]:
    """The arms without and with BN."""
    return {norm: kinds(norm, LRS[norm][scale]) for norm in NORMS}


XAVIERS = kinds("none xavier", (XAVIER_LR,))


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    arms = XAVIERS.arms(f"norm={NONE}", *XAVIER) if scale == "paper" else {}
    for norm, cells in networks(scale).items():
        arms |= cells.arms(f"norm={norm}")
    return arms


def gains(curves: Array, diverged: Array, test: Array) -> dict[str, Array]:
    """What standardized inputs gain over each kind, (inputs, seed): in doublings, in accuracy."""
    target = curves.max("step").clip(TRAINED)  # the best each kind of inputs comes to
    good: Any = {"inputs": GOOD, "drop": True}
    speed = doublings(
        steps_to(curves, target, diverged),
        steps_to(curves.sel(**good), target, diverged.sel(**good)),
    )
    return {"speed": speed.sel(inputs=BAD), "accuracy": (test.sel(**good) - test).sel(inputs=BAD)}


def effects(runs: Mapping[str, Array], bad: Sequence[str] = BAD) -> dict[str, Array]:
    """All criteria's effects (seed), from arrays with the axes norm and inputs; the least of `bad`.

    What is standardized next to what is badly scaled, without batch normalization; and what bad
    scaling costs without it next to what it costs with it.
    """
    none, batch = ({name: of.sel(norm=norm) for name, of in runs.items()} for norm in NORMS)
    without, with_it = gains(**none), gains(**batch)["accuracy"]
    spared = {"loss spared by BN": without["accuracy"] - with_it}
    return {k: v.sel(inputs=list(bad)).min("inputs") for k, v in (without | spared).items()}


def measure(evidence: Evidence) -> Finding:
    """Each kind of inputs at its own best learning rate."""
    cells = networks(evidence.scale)
    lr = {norm: best(of.final(evidence, VALIDATION)) for norm, of in cells.items()}

    def at(lrs: Mapping[str, Array | float]) -> dict[str, Array]:
        read: dict[str, Callable[[Grid], Array]] = {
            "curves": lambda of: of.curves(evidence, VALIDATION),
            "diverged": lambda of: of.diverged(evidence),
            "test": lambda of: of.final(evidence),
        }
        return {
            name: stack({norm: array(of).sel(lr=lrs[norm]) for norm, of in cells.items()})
            for name, array in read.items()
        }

    tuned = at(lr)
    choices: dict[str, Mapping[str, Array]] = {
        f"{INPUTS[kind]}, alone": effects(tuned, (kind,)) for kind in BAD
    }
    common = sorted({*LRS[NONE][evidence.scale]} & {*LRS[BATCH][evidence.scale]})
    for rate in common if evidence.scale != "smoke" else ():  # which has one
        one = dict.fromkeys(NORMS, rate)
        choices[f"everything at the learning rate {rate:g}"] = effects(at(one))
    if evidence.scale == "paper":
        of = XAVIERS
        small = gains(of.curves(evidence, VALIDATION), of.diverged(evidence), of.final(evidence))
        choices[f"Xavier's initial weights, everything at the learning rate {XAVIER_LR:g}"] = {
            name: values.isel(lr=0).min("inputs") for name, values in small.items()
        }
    return Finding(
        effects(tuned),
        exhibits=_exhibits(evidence, lr, tuned),
        unspecified=Check(
            "Which bad scaling it is, one learning rate for all, and the initial weights.", choices
        ),
    )


def _exhibits(
    evidence: Evidence, lr: Mapping[str, Array], tuned: Mapping[str, Array]
) -> tuple[Exhibit, ...]:
    cells = {NAMES[norm]: of for norm, of in networks(evidence.scale).items()}
    best_of = dict(zip(cells, lr.values(), strict=True))
    validation = [
        of.final(evidence, VALIDATION).sel(lr=best_of[name]) for name, of in cells.items()
    ]
    steps = steps_to(tuned["curves"], TRAINED, tuned["diverged"]).reduce(lower_median, "seed")
    return (
        curves(
            "accuracy",
            "Test accuracy over training, each kind of inputs at its best learning rate",
            {name: of.curves(evidence).sel(lr=best_of[name]) for name, of in cells.items()},
            "step", "test accuracy", "inputs",
            names=INPUTS, limits=(0.0, 1.0), levels=(TRAINED,),
        ),
        table(
            "Each kind of inputs at its best learning rate. Steps are the median over seeds, "
            "accuracies means. With BN, one common scale and shift of all inputs cancel (but for "
            "ε): those rows differ by rounding, which training amplifies; uneven scales alone are "
            "a test.",
            ("norm", "inputs"),
            {
                "learning rate": stack(lr),
                f"steps to {TRAINED} (validation)": steps,
                "validation accuracy": stack(dict(zip(lr, validation, strict=True))),
                "test accuracy": tuned["test"],
                "less than standardized": tuned["test"].sel(inputs=GOOD) - tuned["test"],
            },
            INPUTS,
        ),
        curves(
            "rates",
            "Accuracy over the learning rate",
            {name: of.final(evidence) for name, of in cells.items()},
            "lr", "test accuracy at the last step", "inputs",
            names=INPUTS, limits=(0.0, 1.0),
        ),
    )  # fmt: skip


CLAIM = Claim(
    statement="Networks train faster, and come to a higher accuracy, on normalized inputs than on "
    "badly scaled ones; with batch normalization bad scaling costs less.",
    section="§2, §3.3",
    paper_says="“It has been long known (LeCun et al., 1998b; Wiesler & Ney, 2011) that the "
    "network training converges faster if its inputs are whitened, i.e., linearly transformed to "
    "have zero means and unit variances, and decorrelated” (§2). That batch normalization makes "
    "the scale of the inputs matter less follows from §3.3, BN((aW)u) = BN(Wu): a scale of u is "
    "one of W.",
    unspecified="The experiment: the paper cites, and makes none. Here Fig. 1's network on grey "
    "images: standardized by the mean and deviation of all training pixels (not whitened: neither "
    "pixel by pixel nor decorrelated), as stored from 0 to 255, shifted by 3 deviations, and each "
    "pixel times a factor of its own between 0.03 and 30; each at its best learning rate after "
    "2,500 steps, from the same weights. Smaller weights in the first layer would undo part of "
    "what raw inputs do.",
    criteria={
        "speed": Criterion(
            "without BN: steps to the highest validation accuracy that badly scaled inputs come to "
            f"(at least {TRAINED}), bad ÷ standardized, each at its best learning rate, of the "
            "same seed; the least of raw, shifted and uneven",
            Margin(0.0, "doublings"),
            "Faster at all, and than every one of the three: no number is given.",
        ),
        "accuracy": Criterion(
            "without BN: test accuracy at the last step, standardized − badly scaled; the least of "
            "the three",
            Margin(0.0, "accuracy"),
            "Higher at all, for the same reason.",
        ),
        "loss spared by BN": Criterion(
            "what bad scaling costs in test accuracy, without BN − with BN, of the same seed; the "
            "least of the three",
            Margin(0.0, "accuracy"),
            "Less at all. Raw and shifted inputs cost nothing with BN by §3.3, but for rounding; "
            "uneven ones may cost as much as without it, for BN(W diag(s) u) is another network.",
        ),
    },
    scales=plans(_arms, SEEDS, RUN),
    measure=measure,
    later={
        "Huang et al. 2018": "Decorrelating the activations of every layer as well, the whole of "
        "what §2 asks for, trains faster than batch normalization.",
        "Wadia et al. 2020": "Faster is not better: fully whitened inputs lose what a network "
        "with a dense first layer generalizes from, and with few images nothing of it is left.",
    },
)
