"""§3.3: what a normalized layer computes does not depend on the length of its weights."""

import numpy as np

from bnrepro.evidence import controls
from bnrepro.evidence.arms import BATCH, GRID, NAMES, NONE, SEEDS
from bnrepro.evidence.claim import Check, Claim, Criterion, Expected, Finding, Group, Margin, plans
from bnrepro.evidence.exhibits import Figure, Table
from bnrepro.evidence.grid import Array, curves, digits, grid, stack, table
from bnrepro.evidence.runs import Evidence

STUDY = "scale-invariance"

# The claim identity-transform has the same arms without BN: together they are one run.
STUDIED = {
    BATCH: ("norm=batch", f"studies=[{STUDY}]"),
    NONE: ("norm=none", f"studies=[identity-transform,{STUDY}]"),
}

TINY, OWN = "tiny", "own"
"""The two ε of the study: next to none, and the one the network was trained with."""

QUANTITIES = {
    "output": "BN((aW)u) = BN(Wu)",
    "input_gradient": "∂BN((aW)u)/∂u = ∂BN(Wu)/∂u",
    "weight_gradient": "∂BN((aW)u)/∂(aW) = 1/a · ∂BN(Wu)/∂W",
}

LAYERS = ("hidden layer 1", "hidden layer 2", "hidden layer 3")

DIGITS = 9.0
WITHOUT = 0.1

DRAWN_ZERO = 1e-17

TRAINED, TORCH = "trained", "PyTorch's layer"
CHOICES: dict[str, tuple[str, ...]] = {
    TRAINED: (), "not trained": ("train.steps=1",), "ReLU": ("model.activation=relu",),
}  # fmt: skip

WITH_BN = grid(
    network={choice: (*STUDIED[BATCH], *words) for choice, words in CHOICES.items()}
    | {TORCH: ("norm=torch", f"studies=[{STUDY}]")}
)
WITHOUT_BN = grid(
    NAMES[NONE], network={choice: (*STUDIED[NONE], *words) for choice, words in CHOICES.items()}
)


def deviations(evidence: Evidence, eps: str, *, flipped: bool = False) -> Array:
    """Relative deviation from each identity (`quantity`), at every `a`, the largest of all layers.

    With `flipped`, from the identity with its sign turned. Infinite where it is no number or the
    run diverged.
    """
    studies = [s for arm in WITH_BN.arms() for s in evidence.studies(arm, STUDY) if s]
    scales = studies[0]["a"] if studies else [1.0, -1.0]

    def read(arm: str) -> np.ndarray:
        found = np.full((len(evidence.seeds), len(QUANTITIES), len(scales)), np.inf)
        for row, study in zip(found, evidence.studies(arm, STUDY), strict=True):
            if study:
                layers = study["identities"][eps].values()
                signed = [layer["flipped"] if flipped else layer for layer in layers]
                values = [[layer[quantity] for quantity in QUANTITIES] for layer in signed]
                row[:] = np.array(values, dtype=np.float64).max(0)
        return np.where(np.isnan(found), np.inf, found)

    return WITH_BN.array(evidence, read, quantity=QUANTITIES, a=scales)


def growth(evidence: Evidence, eps: str, what: str) -> Array:
    """A number on the growth of each hidden layer's weights; infinite where it is none.

    Of the networks without batch normalization where `eps` is "none".
    """

    def read(arm: str) -> np.ndarray:
        found = [
            [layer[what] for layer in study["growth"][eps].values()] if study else [None] * 3
            for study in evidence.studies(arm, STUDY)
        ]
        values = np.array(found, dtype=np.float64)
        return np.where(np.isnan(values), np.inf, values)

    return (WITHOUT_BN if eps == NONE else WITH_BN).array(evidence, read, layer=LAYERS)


def effects(evidence: Evidence, eps: str) -> dict[str, Array]:
    """All criteria's effects, with one ε or the other."""
    same, turned = (deviations(evidence, eps, flipped=flipped) for flipped in (False, True))
    worst = digits(same.where(same.a > 0, drop=True).max("a"))
    return {
        **{name.replace("_", " "): worst.sel(quantity=name) for name in QUANTITIES},
        "sign": digits(turned.where(turned.a < 0, drop=True).max(("quantity", "a"))),
        "growth": digits(growth(evidence, eps, "growth_deviation").max("layer")),
    }


def measure(evidence: Evidence) -> Finding:
    """The identities and the growth, of the trained network; of others as checks."""

    def of(network: str, found: dict[str, Array]) -> dict[str, Array]:
        return {name: values.sel(network=network) for name, values in found.items()}

    tiny = effects(evidence, TINY)
    choices = {
        "ε of training": of(TRAINED, effects(evidence, OWN)),
        **{network: of(network, tiny) for network in (*CHOICES, TORCH) if network != TRAINED},
    }
    without = growth(evidence, NONE, "growth_deviation").sel(network=TRAINED).median("layer")
    return Finding(
        of(TRAINED, tiny),
        exhibits=(_identities(evidence), _growth(evidence)),
        unspecified=Check(
            "ε as in training instead of next to none, the network as it was initialized (after "
            "one step), ReLU instead of the sigmoid, and PyTorch's own layer instead of ours.",
            choices,
        ),
        # A run that diverged shows nothing.
        controls={"growth": without.where(np.isfinite(without), 0.0)},
    )


def _identities(evidence: Evidence) -> Figure:
    by_eps = {eps: deviations(evidence, eps).sel(network=TRAINED) for eps in (TINY, OWN)}
    found = stack(by_eps, "eps").clip(DRAWN_ZERO).sortby("a")
    shown = found.where(found.a > 0, drop=True)
    return curves(
        "identities",
        "How far each identity is missed, the worst of the hidden layers of the trained network",
        {identity: shown.sel(quantity=name) for name, identity in QUANTITIES.items()},
        "a", "relative deviation", "eps", names={TINY: "ε next to 0", OWN: "ε of training"},
        more=f" What is exact is drawn at {DRAWN_ZERO:g}. Dotted: what the criterion allows. The "
        "smaller the weights, the more ε weighs.",
        log_x=True, log_y=True, levels=(10**-DIGITS,),
    )  # fmt: skip


def _growth(evidence: Evidence) -> Table:
    named = {
        f"{NAMES[BATCH]}, ε next to 0": TINY,
        f"{NAMES[BATCH]}, ε of training": OWN,
        NAMES[NONE]: NONE,
    }

    def of(what: str) -> Array:
        trained = {k: growth(evidence, eps, what).sel(network=TRAINED) for k, eps in named.items()}
        return stack(trained, "network").median("seed")

    before, after, predicted = (of(what) for what in ("before", "after", "predicted"))
    columns = {
        "‖W‖² before": before,
        "growth": after - before,
        "Σ lr²·‖∂L/∂W‖²": predicted - before,
        "deviation ÷ predicted growth": of("growth_deviation"),
        "largest |cosine|": of("max_cosine"),
    }
    return table(
        "200 further steps of plain SGD, in float64: medians over seeds. The cosine is the largest "
        "of all steps, of the angle between weights and gradient.",
        ("network", "layer"),
        {name: values.where(np.isfinite(after)) for name, values in columns.items()},
        {layer: layer[-1] for layer in LAYERS},
    )


ROUNDING = (
    "Nine digits. A sum of up to 784 products, rounded at 10⁻¹⁶ each, is good to 10⁻¹³; the means "
    "that are subtracted, of values and of gradients, may be a thousand times what is left. An ε "
    "of 10⁻⁵ with variances of 10⁻² to 10 shows in the third to the sixth digit, and for small a "
    "in the first."
)


CLAIM = Claim(
    statement="With batch normalization a layer's output and its Jacobian do not depend on the "
    "scale of its weights, and larger weights get smaller gradients.",
    section="§3.3",
    paper_says="For a scalar a, BN(Wu) = BN((aW)u), ∂BN((aW)u)/∂u = ∂BN(Wu)/∂u and "
    "∂BN((aW)u)/∂(aW) = 1/a · ∂BN(Wu)/∂W; from which the paper expects that BN stabilizes the "
    "growth of parameters. No experiment.",
    unspecified="That ε is to be 0 and a above 0: with a < 0 the sign turns. Here: the layers of "
    "the network of Fig. 1 after 10,000 steps (2,000 at the scale short), one training batch, "
    "gradients of the network's own loss, a from 10⁻³ to 10³, in float64, with ε = 2·10⁻³⁰⁸ and "
    "with ε as in training. From the identities it follows that ∂L/∂W stands at a right angle to "
    "W, so that plain SGD makes ‖W‖² grow by lr²·‖∂L/∂W‖² a step, neither more nor less: measured "
    "over 200 more steps, with the network without BN for comparison.",
    criteria={
        **{
            name.replace("_", " "): Criterion(
                f"digits to which {identity} holds: −log₁₀ of the relative deviation, the largest "
                "of all hidden layers and all a > 0",
                Margin(DIGITS, "digits"),
                ROUNDING,
            )
            for name, identity in QUANTITIES.items()
        },
        "sign": Criterion(
            "digits to which all three hold for a = -1 and a = -2 with the sign of the right side "
            "turned",
            Margin(DIGITS, "digits"),
            "The same rounding. The paper says “for a scalar a”; the deviation and what is divided "
            "by it keep no sign of a, so that x̂ turns with it.",
        ),
        "growth": Criterion(
            "digits to which the growth of ‖W‖² is Σ lr²·‖∂L/∂W‖², with BN and ε next to 0: −log₁₀ "
            "of the deviation in units of that sum, the largest of all hidden layers",
            Margin(4.0, "digits"),
            "Four digits. The growth may be only 10⁻⁸ of ‖W‖²: of sixteen digits eight are left, "
            "and half of these are allowed to the rounding of 200 steps. Without BN the growth is "
            "another: a step adds -2·lr·⟨W, ∂L/∂W⟩, a hundred times lr²·‖∂L/∂W‖² where the cosine "
            "is 0.01.",
        ),
    },
    scales=plans(lambda scale: WITH_BN.arms() | WITHOUT_BN.arms(), SEEDS, GRID),
    measure=measure,
    controls={
        "growth": controls.exists(
            "without BN, the distance of the growth of ‖W‖² to Σ lr²·‖∂L/∂W‖², in units of this,",
            WITHOUT,
        )
    },
    group=Group.IDENTITY,
    expected=Expected("REPRODUCED", known=True),
    later={
        "van Laarhoven 2017": "It follows that weight decay does not regularize a normalized "
        "layer: it only keeps ‖W‖ small, and with it the effective learning rate lr/‖W‖² high. "
        "The paper decays the weights of its ImageNet networks.",
        "Arora et al. 2018": "The gradient stands at a right angle to the weights and shrinks as "
        "they grow, so that gradient descent converges at any fixed learning rate of the "
        "normalized layers: the growth, which never turns back, is what stabilizes.",
        "Hoffer et al. 2018": "The norm only sets the step size, the direction is what is "
        "learned; with the step size corrected for it, weight decay can be done without.",
    },
)
