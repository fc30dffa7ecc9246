"""Behind batch normalization learning rate and weight decay act by their product."""

import numpy as np

from bnrepro.evidence import controls
from bnrepro.evidence.arms import SEEDS, SMOKE, per_scale, spaced
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Margin, plans
from bnrepro.evidence.grid import Array, Grid, curves, doublings, grid, heat_maps, table, whatever
from bnrepro.evidence.later_arms import FIRST_OF_LATER
from bnrepro.evidence.runs import TEST, Evidence

PRODUCTS = per_scale((0.001, 0.01), spaced(2, 0.001, 0.01), spaced(2, 0.0001, 0.01))
"""Learning rate × weight decay: two decades. An equilibrium takes half of its inverse, in steps."""

BALANCED = 0.001
"""The least product that comes to its equilibrium, in 500 steps, well before the run ends."""

LRS = per_scale((0.1, 1.0), (0.03, 0.3, 3.0), spaced(2, 0.03, 3))
"""Learning rates, along which the product stays: two decades as well."""

_RELU = ("model.activation=relu", "init=he", "init.scale=1", "norm=batch",
         "train.decayed=normalized")  # fmt: skip
WORDS = {
    "smoke": ("experiment=fig1", *SMOKE, *_RELU, "probe.every=200"),
    "short": ("experiment=fig1", *_RELU, "train.steps=1500", "train.eval_every=1500",
              "probe.every=1500", "tensorboard=false"),
    "paper": ("experiment=fig1", *_RELU, "train.steps=5000", "train.eval_every=5000",
              "probe.every=5000", "tensorboard=false", "train.compile=true"),
}  # fmt: skip
"""Three hidden layers of 100 rectified units, whose weights alone decay."""

HIDDEN = (1, 2, 3)


def cells(scale: str) -> Grid:
    """Every product at every learning rate."""
    products = dict.fromkeys(PRODUCTS[scale], ())
    return grid(product=products, lr=dict.fromkeys(LRS[scale], ()))


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    of = cells(scale)
    return {
        of.arm(product, lr): (
            *WORDS[scale], f"optimizer.lr={lr}", f"optimizer.weight_decay={product / lr:.4g}",
        )
        for product in PRODUCTS[scale]
        for lr in LRS[scale]
    }  # fmt: skip


def lengths(evidence: Evidence, of: Grid) -> Array:
    """The length of each hidden layer's weights at the end, with axis `layer`; NaN if diverged."""
    names = [f"linear{n}/weight_norm" for n in HIDDEN]

    def read(arm: str) -> np.ndarray:
        rows = [[values[-1] for _, values in each] for each in evidence.probed_each(arm, names)]
        return np.where(evidence.diverged(arm)[:, None], np.nan, np.transpose(rows))

    return of.array(evidence, read, layer=HIDDEN)


def slope(values: Array, over: str = "lr") -> Array:
    """The power of an axis by which values grow: that of the straight line through logarithms."""
    x, y = np.log(values[over]), np.log(values)
    x = x - x.mean()
    found: Array = (x * y).sum(over, skipna=False) / (x**2).sum()
    return found


def ranges(accuracy: Array) -> tuple[Array, Array]:
    """How far accuracies (product, lr, seed) range across products, and along them over rates.

    Across it is the range of means over rates; along, the mean over products.
    """
    means = accuracy.mean("lr")
    across = means.max("product") - means.min("product")
    along = (accuracy.max("lr") - accuracy.min("lr")).mean("product")
    return across, along


def effects(accuracy: Array, length: Array) -> dict[str, Array]:
    """All effects (seed), of accuracies (product, lr, seed) and lengths (…, layer)."""
    across, along = ranges(accuracy)
    balanced = length.isel(product=length["product"] >= BALANCED)
    power = slope(balanced).mean(("product", "layer"), skipna=False)
    return {"product": whatever(doublings(across, along)), "length": whatever(power - 0.5)}


def measure(evidence: Evidence) -> Finding:
    """How accuracy goes with the product and with the rate at the same product; the weights."""
    of = cells(evidence.scale)
    test, length = of.final(evidence, TEST), lengths(evidence, of)
    across, along = ranges(test)
    best = test.mean(("lr", "seed")).idxmax("product")
    choices = {
        f"layer {layer}": {"length": effects(test, length.sel(layer=[layer]))["length"]}
        for layer in HIDDEN
    }
    inner = test.isel(lr=slice(1, -1)) if test.sizes["lr"] > 3 else test
    choices["without the least and the greatest rate"] = {
        "product": whatever(doublings(*ranges(inner)))
    }
    return Finding(
        effects(test, length),
        exhibits=(
            heat_maps(
                "map", "Test accuracy at the last step; medians over seeds. Learning rate × weight "
                "decay is the same along each row",
                {"test accuracy": test}, "lr", "product",
            ),
            curves(
                "length", "The length of the first hidden layer's weights at the end",
                {"at each product": length.sel(layer=1)}, "lr", "‖W‖", "product", log_y=True,
            ),
            table(
                "Means over seeds.", ("product", "lr"),
                {
                    "test accuracy": test,
                    **{f"‖W‖ of layer {layer}": length.sel(layer=layer) for layer in HIDDEN},
                },
                called={"product": "rate × decay", "lr": "learning rate"},
            ),
        ),
        unspecified=Check("The layer, and the range of the rates.", choices),
        controls={
            "training": test.sel(product=best, drop=True),
            "a range": across.where(across > along, along),
        },
    )  # fmt: skip


CLAIM = Claim(
    statement="Behind batch normalization learning rate and weight decay act by their product: "
    "accuracy varies at least twice as much with it as with the rate at the same product.",
    section="§3.3; van Laarhoven 2017",
    paper_says="“The scale does not affect the layer Jacobian nor, consequently, the gradient "
    "propagation. Moreover, larger weights lead to smaller gradients, and Batch Normalization will "
    "stabilize the parameter growth” (§3.3). Van Laarhoven 2017: the rate that counts is the "
    "learning rate ÷ ‖w‖², and weight decay sets ‖w‖, so that it no longer regularizes but sets "
    "the rate. Li and Arora 2019: the two can be traded for each other at a constant product.",
    unspecified="Everything. Here three hidden layers of 100 rectified units on MNIST for 5,000 "
    "steps (1,500 at the scale short), at learning rates over two decades and, at each, weight "
    "decays for which the product goes over two decades: from one whose equilibrium takes 5,000 "
    "steps to one at which every step turns the weights by some 8 degrees; in a pilot (seed 100) "
    "networks at ten times that did not train. Weights before batch "
    "normalization alone decay; γ, β and the last layer, to which the argument does not apply, do "
    "not, and yet train at the learning rate.",
    criteria={
        "product": Criterion(
            "range of the mean test accuracy over products ÷ mean range over learning rates at the "
            "same product",
            Margin(1.0, "doublings"),
            "Twice at least: the product is to be what counts.",
        ),
        "length": Criterion(
            "power of the learning rate with which ‖W‖ grows at the same product − ½, mean over "
            "layers and products of .001 and more",
            Margin(0.1, "power"),
            "In equilibrium decay takes as much of ‖W‖² as steps add: ‖W‖⁴ is in proportion to "
            "rate ÷ decay, so at the same product to the rate squared.",
            equivalence=True,
        ),
    },
    scales=plans(_arms, SEEDS),
    measure=measure,
    controls={
        "training": controls.trains("the network at the best product and each learning rate"),
        "a range": controls.exists(
            "how far the accuracy ranges, over products or over rates, whichever is more", 0.005
        ),
    },
    first_seed=FIRST_OF_LATER,
    why="The last layer, γ and β have a learning rate of their own, which no product holds.",
    to_settle="Those trained at one rate in all arms; CIFAR-10, where decay is worth more.",
    later={
        "van Laarhoven 2017": "The claim's own source.",
        "Arora et al. 2018": "Without decay ‖W‖ grows until the rate suits.",
        "Li and Arora 2019": "With decay, a rate that grows exponentially does what a constant one "
        "does.",
        "Hoffer et al. 2018": "What decay does to a normalized network can be had by a schedule of "
        "the learning rate.",
    },
)
