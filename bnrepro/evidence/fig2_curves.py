"""What is read off the curves of Fig. 2's networks, which differ in length and in evaluations."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import xarray as xr

from bnrepro.evidence.claim import PaperNumber
from bnrepro.evidence.exhibits import Curves, Figure, Line, Table, over_seeds
from bnrepro.evidence.fig2_arms import BN_X30, HIGHEST, LR, PAPER_X30
from bnrepro.evidence.grid import Array, Grid, doublings, stack, table
from bnrepro.evidence.paper import fig2 as paper
from bnrepro.evidence.runs import CHANCE, TEST, TRAIN, VALIDATION, Evidence, aligned

LAST = 0.1
"""The part of a run whose curve is to be flat."""

NEARLY = 0.005
"""How much less than the highest accuracy is asked for, since which evaluation is the highest is a
matter of chance where a curve is flat."""


def highest(of: Grid, evidence: Evidence) -> Array:
    """The highest validation accuracy over training, that of guessing at least."""
    return _each(of, evidence, lambda steps, values: max([CHANCE, *values]))


def arrivals(of: Grid, evidence: Evidence, target: Array) -> Array:
    """The step at which validation accuracy comes to a target (seed,); infinite where never.

    Linear between evaluations. A curve that rises ever more slowly lies above the line, so that
    what is quick seems slower than it is. Of a run that diverged it is infinite.
    """
    aims = target.sel(seed=list(evidence.seeds)).to_numpy()

    def read(arm: str) -> np.ndarray:
        curves = (run.curve(VALIDATION) for run in evidence.runs[arm])
        steps = [arrival(*curve, aim) for curve, aim in zip(curves, aims, strict=True)]
        return np.where(evidence.diverged(arm), np.inf, steps)

    return of.array(evidence, read)


def arrival(steps: np.ndarray, values: np.ndarray, target: float) -> float:
    """The first step (P,) at which values (P,) come to a target, linear between them, or ∞."""
    there = np.flatnonzero(values >= target)
    if not len(there):
        return np.inf
    at = there[0]
    if at == 0:
        return float(steps[0])
    low, high = values[at - 1 : at + 1]
    before, after = steps[at - 1 : at + 1]
    return float(before + (target - low) / (high - low) * (after - before))


def fewer(
    of: Grid, evidence: Evidence, slow: str | Array, quick: str | Array, target: Array
) -> Array:
    """How many times fewer steps one network takes than another to a target, as doublings.

    With an axis `bound`, as `times_fewer`; but each network has an end of its own: what has not
    arrived by then takes at least one step more.

    Args:
        of: of the networks.
        evidence: of the runs.
        slow: a network's name; of each seed its own if it has that axis.
        quick: the same.
        target: a validation accuracy (seed,).
    """
    steps = arrivals(of, evidence, target)
    late = steps.where(np.isfinite(steps), of.setting(evidence, "train.steps") + 1)
    bounds = {
        "least": doublings(one(late, slow), one(steps, quick)),
        "greatest": doublings(one(steps, slow), one(late, quick)),
    }
    return stack(bounds, "bound")


def ended(of: Grid, evidence: Evidence) -> xr.Dataset:
    """The last accuracies `test`, `validation` and `training`, and whether a run `diverged`."""
    named = {"test": TEST, "validation": VALIDATION, "training": TRAIN}
    arrays = {name: of.final(evidence, metric) for name, metric in named.items()}
    return xr.Dataset({**arrays, "diverged": of.diverged(evidence)})


def one(values: Array, network: str | Array) -> Array:
    """A network's values, or of each seed those of its own network."""
    return values.sel(network=network).drop_vars("network")


def effects(
    of: Grid, evidence: Evidence, slow: str | Array, quick: str | Array
) -> dict[str, Array]:
    """How many times fewer steps to the best of the first network, and how much more accurate."""
    test, target = of.final(evidence), one(highest(of, evidence), slow)
    speed = fewer(of, evidence, slow, quick, target)
    return {"speed": speed, "accuracy": one(test, quick) - one(test, slow)}


def best_of(of: Grid, evidence: Evidence, names: Iterable[str]) -> Array:
    """The network of the highest last validation accuracy: (seed,)."""
    chosen: Array = of.final(evidence, VALIDATION).sel(network=list(names)).idxmax("network")
    return chosen


def counted_otherwise(
    of: Grid, evidence: Evidence, slow: str, quick: str
) -> dict[str, Mapping[str, Array]]:
    """The same effects, to other targets, and of another accuracy."""
    peak, last = highest(of, evidence), of.final(evidence, VALIDATION)
    targets = {
        f"steps to the accuracy that {slow} ends with": one(last, slow),
        f"steps to {NEARLY} less than its highest accuracy": one(peak, slow) - NEARLY,
    }
    choices: dict[str, Mapping[str, Array]] = {
        choice: {"speed": fewer(of, evidence, slow, quick, target)}
        for choice, target in targets.items()
    }
    choices["the highest validation accuracy, as in the paper"] = {
        "accuracy": one(peak, quick) - one(peak, slow)
    }
    return choices


def beside_paper(
    evidence: Evidence, network: str, speed: Array, where: str = ""
) -> tuple[PaperNumber, ...]:
    """How many times fewer steps than Inception a network takes, here and in the paper.

    Args:
        evidence: of the runs; those of the scale smoke are not compared.
        network: what the paper calls it.
        speed: doublings (bound, seed), as `fewer` gives them.
        where: what is to be said of the paper's number besides.
    """
    if evidence.scale == "smoke":
        return ()
    what = f"times fewer steps to Inception's highest accuracy (the paper: ImageNet{where})"
    times = 2.0 ** speed.sel(bound="least").to_numpy()
    return (PaperNumber(what, "times", paper.fewer(network), times),)


def by_lr(values: Array, times: Mapping[str, float]) -> Array:
    """A network's values by learning rate, from its names and multiples of ×1: (lr, …)."""
    lrs = [each * LR for each in times.values()]
    return values.sel(network=list(times)).rename(network="lr").assign_coords(lr=lrs)


def compared(of: Grid, evidence: Evidence, target: Array) -> Table:
    """Every network: steps to a target, and accuracies."""
    return table(
        "Every network: steps to the highest validation accuracy of Inception at ×1, and "
        "accuracies. Means over seeds; a run that diverged guesses.",
        ("network",),
        {
            "learning rate": of.setting(evidence, "optimizer.lr"),
            "diverged": of.diverged(evidence).sum("seed"),
            "steps": arrivals(of, evidence, target),
            "highest validation accuracy": highest(of, evidence),
            "test accuracy at the end": of.final(evidence),
        },
    )


def gained_at_the_end(of: Grid, evidence: Evidence) -> Array:
    """What validation accuracy gains over the last tenth of a run, by a line through it.

    The line is fitted to all evaluations of that tenth, three at the least.
    """

    def slope(steps: np.ndarray, values: np.ndarray) -> float:
        last = max(3, int((steps >= (1 - LAST) * steps[-1]).sum()))
        if len(steps) < 2:
            return 0.0
        return float(np.polyfit(steps[-last:], values[-last:], 1)[0] * LAST * steps[-1])

    return _each(of, evidence, slope)


def _each(of: Grid, evidence: Evidence, read: Callable[[np.ndarray, np.ndarray], float]) -> Array:
    """What `read` makes of each run's validation curve, steps (P,) and values (P,)."""
    return of.array(
        evidence, lambda arm: np.array([read(*r.curve(VALIDATION)) for r in evidence.runs[arm]])
    )


def figure(of: Grid, evidence: Evidence, networks: Sequence[str], target: Array) -> Figure:
    """Validation accuracy over training, here and in the paper."""
    ours = [_line(of, evidence, name) for name in networks]
    theirs = []
    for name in networks:
        steps, accuracy = paper.accuracy(PAPER_X30 if name == BN_X30 else name)
        theirs.append(Line(name, steps / 1e6, accuracy))
    panels: Sequence[Curves] = (
        Curves("Here", "step", "validation accuracy", ours, levels=(target.median().item(),)),
        Curves("The paper: ImageNet, Fig. 2", "step (millions)", "validation accuracy", theirs,
               levels=(paper.TARGET,)),
    )  # fmt: skip
    other = f" {BN_X30} stands where the paper has {PAPER_X30}." if HIGHEST != 30 else ""
    caption = (
        "Validation accuracy over training, here the median over seeds with a band from least to "
        "greatest, and in the paper; dotted: the highest that Inception comes to."
    )
    return Figure("curves", caption + other * (BN_X30 in networks), panels)


def _line(of: Grid, evidence: Evidence, name: str) -> Line:
    steps, values = aligned([r.curve(VALIDATION) for r in evidence.runs[of.arm(name)]], CHANCE)
    return over_seeds(name, steps, values)
