"""Claims of every verdict, over planted runs, for a look at their report."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
from planting import learning, write

from bnrepro.config import RESULTS_NUMBER
from bnrepro.evidence import controls
from bnrepro.evidence.claim import (
    Check,
    Claim,
    Criterion,
    Expected,
    Finding,
    Group,
    Margin,
    PaperNumber,
    Plan,
)
from bnrepro.evidence.exhibits import Bars, Curves, Figure, HeatMap, Line, Table
from bnrepro.evidence.grid import Array
from bnrepro.evidence.runs import seeds
from bnrepro.store import reproduction
from bnrepro.store.reproduction import AskedArm, Reproduction

SEEDS = 10
CONFIG = {"train": {"steps": 100, "eval_every": 10}, "dataset": {"name": "mnist"}}
SPREAD = np.linspace(-1, 1, SEEDS)
INF = math.inf


def censored(least: float, greatest: float) -> Array:
    """Ten effects that a run's end cuts off."""
    bounds = [[least] * SEEDS, [greatest] * SEEDS]
    return Array(
        bounds, {"bound": ["least", "greatest"], "seed": [*seeds(SEEDS)]}, ["bound", "seed"]
    )


def figures() -> tuple[Figure | Table, ...]:
    x = np.linspace(0, 100, 21)
    lines = [
        Line(
            "with BN",
            x,
            0.9 - 0.5 * np.exp(-x / 10),
            0.85 - 0.5 * np.exp(-x / 10),
            0.95 - 0.5 * np.exp(-x / 10),
        ),
        Line("without BN", x, 0.8 - 0.5 * np.exp(-x / 30)),
    ]
    bars = Bars("Steps", "steps", ["wide", "deep"], {"here": [1.0, 2.0], "the paper": [2.0, 3.0]})
    cells = HeatMap(
        "Accuracy",
        "learning rate",
        "depth",
        [0.1, 1.0, 10.0],
        [3, 6],
        [[0.9, 0.95, 0.1], [0.8, 0.9, math.nan]],
        (0, 1),
    )
    wide = Table(
        "Numbers of many columns.",
        [f"column {n}" for n in range(14)],
        [["with BN", *(0.123456 * n for n in range(13))]] * 3,
    )
    return (
        Figure("curves", "Test accuracy over training.",
               [Curves("Fig. 1a", "step", "accuracy", lines)]),
        Figure("others", "Bars, and cells.", [bars, cells]),
        wide,
    )  # fmt: skip


def claim(effect: object, verdict: str, **more: object) -> Claim:
    """A claim whose effect is what it is said to be."""
    criterion = {
        "unit": "doublings", "margin": 1.0, "indifference": None, "paper": None,
        "equivalence": False,
    } | {key: more.pop(key) for key in list(more) if key in Criterion.__dataclass_fields__
         or key == "unit"}  # fmt: skip
    margin = Margin(criterion.pop("margin"), criterion.pop("unit"))  # type: ignore[arg-type]
    first = Criterion(
        "steps without BN ÷ with BN, of the same seed", margin, "A factor of two.",
        **criterion,  # type: ignore[arg-type]
    )  # fmt: skip
    second = Criterion(
        "test accuracy, with BN − without", Margin(0.0, "accuracy"), "At all.", 0.003
    )
    effects = {"speed": effect, "accuracy": 0.01 + 0.002 * SPREAD}
    tuned = Check("Each at its best rate.", {"both at 1": {"speed": 0.4 + 0.1 * SPREAD}})
    choices = {f"choice {n}": {"speed": n - 1 + 0.1 * SPREAD} for n in range(5)}
    finding = Finding(
        effects,  # type: ignore[arg-type]
        comparisons=(PaperNumber("times fewer steps", "times", 2.8, 2.0 ** (1 + SPREAD)),),
        exhibits=figures(),
        tuned=tuned,
        unspecified=Check("What the paper leaves open.", choices),
        controls={"training": Array(0.9), "pays": Array([0.0])},
    )
    return Claim(
        statement=f"With batch normalization the network trains faster ({verdict.lower()}).",
        section="§4.1", paper_says="Three layers of sigmoids.", unspecified="The learning rate.",
        criteria={"speed": first, "accuracy": second},
        scales={scale: Plan(SEEDS, {"none": ("norm=none",), "batch": ()}) for scale in
                ("smoke", "short", "paper")},
        measure=lambda evidence: finding,
        controls={
            "training": controls.trains("each arm"),
            "pays": controls.exists("what dropout adds", more.pop("pays", 0.0)),  # type: ignore[arg-type]
        },
        why="The network is too small for it.", to_settle="A deeper one.",
        later={"Santurkar et al. 2018": "The loss is smoother."},
        **more,  # type: ignore[arg-type]
    )  # fmt: skip


CLAIMS = {
    "faster": claim(1.5 + 0.3 * SPREAD, "REPRODUCED", paper=1.47, group=Group.EXPERIMENT,
                    expected=Expected("REPRODUCED", 1.5)),
    "much-faster": claim(censored(2.0, INF), "REPRODUCED", group=Group.EXPERIMENT),
    "a-little-faster": claim(0.6 + 0.3 * SPREAD, "SAME DIRECTION", paper=1.2,
                             group=Group.EXPERIMENT),
    "steadier": claim(0.1 + 0.3 * SPREAD, "NO EFFECT", group=Group.ARGUMENT),
    "slower": claim(censored(-INF, -1.0), "OPPOSITE", group=Group.ARGUMENT),
    "undecided": claim(0.5 + 2.0 * SPREAD, "INCONCLUSIVE", group=Group.ARGUMENT),
    "neither": claim(censored(-INF, INF), "INCONCLUSIVE", group=Group.ARGUMENT),
    "dropout": claim(0.006 + 0.002 * SPREAD, "NOT TESTABLE", group=Group.ARGUMENT, unit="accuracy",
                     margin=0.003, pays=0.005),
    "identity": claim(13.8 + 0.1 * SPREAD, "REPRODUCED", margin=9.0, unit="digits",
                      group=Group.IDENTITY, expected=Expected("REPRODUCED", known=True)),
    "as-good": claim(0.0002 * SPREAD, "REPRODUCED", margin=0.003, unit="accuracy",
                     equivalence=True),
    "unfinished": claim(0.0 * SPREAD, "INCOMPLETE", group=Group.LATER),
}  # fmt: skip


def plant(folder: Path) -> None:
    """A folder as `bnrepro reproduce` leaves it, but for the report."""
    asked: dict[str, dict[str, AskedArm]] = {}
    for name, of in CLAIMS.items():
        asked[name] = {}
        for arm, words in of.scales["paper"].arms.items():
            names = tuple(f"{name}-{arm}-{seed}" for seed in seeds(SEEDS))
            for seed, run in zip(seeds(SEEDS), names, strict=True):
                stored = write(folder / "runs" / run, {**CONFIG, "seed": seed},
                               learning(CONFIG, 0.9, 10))  # fmt: skip
                manifest = {
                    "results": RESULTS_NUMBER, "bnrepro": "0.2.0", "python": "3.11.7",
                    "began": f"2026-01-0{seed % 9 + 1}T12:00:00+00:00", "cpu": "a processor",
                    "versions": {"torch": "2.9"}, "git": {"sha": "f" * 40, "dirty": False},
                    "dataset": {"name": "mnist", "fingerprint": "5" * 64},
                }  # fmt: skip
                (stored.folder / "manifest.json").write_text(json.dumps(manifest))
            asked[name][arm] = AskedArm(words, names)
    (folder / "runs" / "unfinished-batch-13" / "summary.json").unlink()
    results = dict.fromkeys(asked, RESULTS_NUMBER)
    reproduction.write(folder, Reproduction("paper", results, asked))
