"""Whether batch normalization saves time, and not steps alone: each of its steps takes longer."""

from typing import Any

import numpy as np
import xarray as xr

from bnrepro.evidence import controls
from bnrepro.evidence.arms import BATCH, FIG1, NORMS, SEEDS
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Margin, plans
from bnrepro.evidence.exhibits import Figure
from bnrepro.evidence.fig1_arms import ARMS, AT_LRS, LRS, arms, speed, steps
from bnrepro.evidence.grid import Array, bars, doublings, stack, table
from bnrepro.evidence.runs import Evidence
from bnrepro.evidence.tuning import both_tuned

TIMED, STUDY = "timed in turns", "step-seconds"


def _arms(scale: str) -> dict[str, tuple[str, ...]]:
    """Those of `faster-training`, and a run of a few steps at whose end steps are timed."""
    few = f"norm={BATCH}", "train.steps=20", "train.eval_every=20", "probe.every=0"
    return arms(scale) | {TIMED: (*FIG1[scale], *few, f"studies=[{STUDY}]")}


def seconds(evidence: Evidence) -> tuple[Array, Array]:
    """Seconds of a step, the median of turns: (norm, seed); the share of time at work: (seed).

    A run that diverged was not timed: NaN, and no share.
    """
    untimed: dict[str, Any] = {"seconds": dict.fromkeys(NORMS, np.nan), "share": 0.0}
    studies = [study or untimed for study in evidence.studies(TIMED, STUDY)]
    coords = {"seed": list(evidence.seeds)}
    taken = stack(
        {
            norm: Array([np.median(study["seconds"][norm]) for study in studies], coords, ["seed"])
            for norm in NORMS
        }
    )
    return taken, Array([study["share"] for study in studies], coords, ["seed"])


def measure(evidence: Evidence) -> Finding:
    """Steps to the baseline's best accuracy, times what each takes."""
    runs, at_lr = ARMS.runs(evidence), AT_LRS[evidence.scale].runs(evidence)
    a_step, share = seconds(evidence)
    dearer = doublings(a_step.sel(norm=BATCH, drop=True), a_step.sel(norm="none", drop=True))
    total = steps(runs) * a_step

    def saved(of: xr.Dataset) -> dict[str, Array]:
        return {"seconds": (speed(of) - dearer).fillna(-np.inf)}

    return Finding(
        saved(runs),
        exhibits=(
            Figure(
                "seconds", "What a step takes, and training to the highest validation accuracy "
                "without BN: median over seeds, line from least to greatest. No bar: never.",
                (
                    bars("a step", "milliseconds", {"a step": 1000 * a_step}, "norm"),
                    bars("to the accuracy", "seconds", {"in all": total}, "norm"),
                ),
            ),
            table(
                "Means over seeds: a step, timed in turns with the other arm's; steps to the "
                "highest validation accuracy without BN (∞: never reached).",
                ("norm",),
                {"milliseconds a step": 1000 * a_step, "steps": steps(runs), "seconds": total},
            ),
        ),
        tuned=both_tuned(at_lr, lambda lr: saved(at_lr.sel(lr=lr))),
        unspecified=Check(
            "Another learning rate, the same for both.",
            {f"learning rate {lr:g}": saved(at_lr.sel(lr=lr)) for lr in LRS[evidence.scale]},
        ),
        controls={
            "training": runs.test,
            "target": steps(runs).sel(norm="none"),
            "alone": share,
        },
    )  # fmt: skip


CLAIM = Claim(
    statement="With batch normalization the network reaches the accuracy it comes to without it in "
    "less time, though each step takes longer.",
    section="§4.1",
    paper_says="Steps alone: with batch normalization .972 after 15,000, without after 41,600.",
    unspecified="What a step takes: here one program on one core of a CPU, without evaluation. "
    "Both arms' steps are timed in turns, 20 of 100 steps each, once a seed; a turn's time is of "
    "the machine that made the runs, and another may have another ratio.",
    criteria={
        "seconds": Criterion(
            "seconds of training to the highest validation accuracy that the network without BN "
            "comes to (at least .9), without BN ÷ with BN, of the same seed: steps, times the "
            "seconds of a step",
            Margin(0.0, "doublings"),
            "Any time saved; a tenth more or less is none, for machines differ by as much.",
            indifference=0.15,
        )
    },
    scales=plans(_arms, SEEDS),
    measure=measure,
    controls={
        "training": controls.trains("each arm"),
        "target": controls.reached("the network without BN"),
        "alone": controls.exists("the share of the timing in which the process was running", 0.9),
    },
    why="On small layers a step is mostly the starting of small operations, and batch "
    "normalization adds as many again.",
    to_settle="Larger layers, and other machines.",
    later={
        "Bjorck et al. 2018": "The steps saved are those of a larger learning rate: with the same, "
        "small one there are few to pay for the longer steps."
    },
)
