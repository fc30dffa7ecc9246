"""With batch normalization deeper networks of sigmoids train, from weights that suit them."""

from bnrepro.evidence import controls
from bnrepro.evidence.arms import NAMES, NORMS, SEEDS, SMOKE, per_scale
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Group, Margin, plans
from bnrepro.evidence.deep_arms import TRAINED, deeper, hidden
from bnrepro.evidence.exhibits import Table
from bnrepro.evidence.grid import Grid, curves, grid
from bnrepro.evidence.runs import CHANCE, VALIDATION, Evidence

DEPTHS = per_scale((3, 6), (3, 6, 12), (3, 6, 12, 24))

CELLS: dict[str, dict[int, tuple[float, float]]] = {
    "none": {3: (0.3, 3.0), 6: (0.3, 1.0), 12: (0.6, 0.3), 24: (1.0, 0.1)},
    "batch": {3: (0.3, 3.0), 6: (0.6, 3.0), 12: (0.6, 3.0), 24: (0.3, 0.3)},
}
"""Initial deviation and learning rate of each arm at each depth: the best cells of the map,
`saturating-nonlinearities-map`, whose runs have seeds 20 to 24 and a fifth of these steps."""

WORDS = {
    "smoke": ("experiment=fig1", *SMOKE),
    "short": ("experiment=fig1", "train.steps=1500", "train.eval_every=500", "probe.every=0"),
    "paper": (
        "experiment=fig1", "train.steps=10000", "train.eval_every=5000", "train.compile=true",
        "probe.every=0", "tensorboard=false",
    ),
}  # fmt: skip


def cells(scale: str) -> Grid:
    """Both arms at every depth; `_arms` puts each in its cell."""
    return grid(norm=NORMS, depth={depth: (hidden(depth),) for depth in DEPTHS[scale]})


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    arms: dict[str, tuple[str, ...]] = {}
    for norm in NORMS:
        for depth in DEPTHS[scale]:
            std, lr = CELLS[norm][depth]
            words = f"norm={norm}", hidden(depth), f"init.scale={std}", f"optimizer.lr={lr}"
            arms[cells(scale).arm(norm, depth)] = words
    return arms


def measure(evidence: Evidence) -> Finding:
    """Both arms at every depth, each in its cell."""
    of = cells(evidence.scale)
    validation, test = of.final(evidence, VALIDATION), of.final(evidence)
    effects = {"depth": deeper(validation)}
    rows = [
        [NAMES[norm], depth, *CELLS[norm][depth],
         *(of_arm.sel(norm=norm, depth=depth).mean().item() for of_arm in (validation, test))]
        for norm in NORMS for depth in DEPTHS[evidence.scale]
    ]  # fmt: skip
    columns = [
        "arm", "hidden layers", "deviation", "learning rate", "validation accuracy",
        "test accuracy",
    ]  # fmt: skip
    return Finding(
        effects,
        exhibits=(
            curves(
                "depth", "Each arm at each depth in its own cell", {"every depth": test}, "depth",
                "test accuracy at the last step", limits=(0.0, 1.0), levels=(CHANCE, TRAINED),
                more=" Dotted, guessing and what counts as trained.",
            ),
            Table("Each arm at each depth in its cell: means over seeds.", columns, rows),
        ),
        tuned=Check(
            "Each arm is at its own best initial weights and learning rate already, of the same "
            "budget, chosen on other seeds.",
            {"each in its cell": effects},
        ),
        unspecified=Check(
            "Another meaning of trained.",
            {f"an accuracy of {least}": {"depth": deeper(validation, least)}
             for least in (0.2, 0.5, 0.95)},
        ),
        controls={"training": test.isel(depth=0)},
    )  # fmt: skip


CLAIM = Claim(
    statement="With batch normalization deeper networks of saturating nonlinearities train than "
    "without it, each from the initial weights and at the learning rate that suit it.",
    section="Abstract, §3, §4.2.2",
    paper_says="Inception with sigmoids in place of ReLUs comes to 69.8 % on ImageNet with batch "
    "normalization (at five times the initial learning rate); without it, it never gets better "
    "than chance, 1/1000 (§4.2.2). Batch normalization is to keep the network from getting stuck "
    "in the saturated modes (abstract).",
    unspecified="How deep, from which weights, at which rate: here the network of Fig. 1 with 3, "
    "6, 12 and 24 hidden layers, for 10,000 steps. Weights and rate are chosen for each arm and "
    "depth on seeds 20 to 24 (saturating-nonlinearities-map), and these runs have others.",
    criteria={
        "depth": Criterion(
            f"the greatest of the depths that comes to a last validation accuracy of {TRAINED} (1 "
            "if none does), with BN ÷ without BN, each in its own cell, of the same seed",
            Margin(0.5, "doublings"),
            "Each depth is twice the last, and one such step is to count, as a whole number.",
        )
    },
    scales=plans(_arms, SEEDS, WORDS),
    measure=measure,
    controls={"training": controls.trains("each arm with three layers")},
    group=Group.ARGUMENT,
    why="From weights that neither saturate units nor shrink gradients, networks without batch "
    "normalization are as deep.",
    to_settle="Deeper networks, and initial weights that are chosen layer by layer.",
    later={
        "Xu et al. 2016": "It lies as much in the sigmoid's slope and offset at the origin: "
        "rescaled to be like tanh there, it trains about as well as tanh does.",
        "Pennington et al. 2017": "With orthogonal weights of the right scale, very deep networks "
        "of tanh train well without normalization, and better than ReLU networks: that a "
        "nonlinearity saturates is no obstacle by itself.",
    },
)
