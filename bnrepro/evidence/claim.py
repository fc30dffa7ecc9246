"""What a claim is.

A claim says what the paper says, which runs are to show it, and by which criterion, before a run is
made; its `measure`, a pure function of stored runs, turns them into one effect a seed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import xarray as xr

from bnrepro.evidence import stats
from bnrepro.evidence.exhibits import Exhibit
from bnrepro.evidence.runs import FIRST_SEED, Evidence

Effect = Sequence[float] | np.ndarray | xr.DataArray
"""One number a seed; positive supports the claim; never NaN. Two along an axis `bound`, the least
and the greatest that it may be, where a run's end cuts it off."""

Effects = Mapping[str, Effect]
"""The effect of each criterion by its name."""

SMOKE, SHORT, PAPER = SCALES = ("smoke", "short", "paper")
"""smoke: does it run at all, on digits, never judged; short: tens of minutes; paper: its steps."""


@dataclass(frozen=True)
class Plan:
    """The runs of a claim at one scale: `seeds` of every arm.

    Args:
        seeds: how many, from the claim's `first_seed` on, by which all arms are paired.
        arms: Hydra overrides by the arm's name. Arms of two claims that come to the same
            configuration are one run.
        overrides: what is the same for every arm; an arm's own come after.
        drawn: of an arm's name and a seed, numeric settings by dotted names that are drawn again
            for each seed, as a random search does; they replace those of the overrides.
    """

    seeds: int
    arms: Mapping[str, tuple[str, ...]]
    overrides: tuple[str, ...] = ()
    drawn: Callable[[str, int], Mapping[str, float]] | None = None

    def words(self, arm: str) -> tuple[str, ...]:
        """All overrides of an arm."""
        return (*self.overrides, *self.arms[arm])

    def own_words(self, arm: str, seed: int) -> tuple[str, ...]:
        """The overrides of the run of one seed, after those of its arm."""
        drawn = self.drawn(arm, seed) if self.drawn else {}
        return (*(f"{name}={value!r}" for name, value in drawn.items()), f"seed={seed}")

    def config(self, arm: str, config: Mapping[str, Any], seed: int) -> dict[str, Any]:
        """The configuration of that run, from the arm's."""
        own = {**config, "seed": seed}
        for name, value in (self.drawn(arm, seed) if self.drawn else {}).items():
            group, setting = name.split(".")
            own[group] = {**own[group], setting: value}
        return own


def plans(
    arms: Callable[[str], Mapping[str, tuple[str, ...]]],
    seeds: Mapping[str, int],
    overrides: Mapping[str, tuple[str, ...]] | None = None,
    drawn: Callable[[str, int], Mapping[str, float]] | None = None,
) -> dict[str, Plan]:
    """The plan of every scale, from what makes its arms, its number of seeds, its overrides."""
    given = overrides or {}
    return {scale: Plan(seeds[scale], arms(scale), given.get(scale, ()), drawn) for scale in SCALES}


@dataclass(frozen=True)
class Margin:
    """A bound of an effect, with the unit of both, such as `doublings` or `accuracy`."""

    value: float
    unit: str


@dataclass(frozen=True)
class Criterion:
    """What has to be seen: the interval of an effect beyond a margin.

    Args:
        compared: what the effect is, in words that tell its sign: positive supports the claim.
        margin: the claim holds where the effect is greater. One below 0 asks for no less than it:
            non-inferiority.
        reason: where the margin comes from.
        indifference: effects nearer to 0 than this are none; half the margin unless given, which
            it has to be where the margin is 0.
        paper: what the paper has, in the same unit, where it has a number.
        equivalence: the claim is that there is no effect: it holds within the margin to both sides.
        spread: the standard deviation of the effect over seeds that was expected, where one was.
    """

    compared: str
    margin: Margin
    reason: str
    indifference: float | None = None
    paper: float | None = None
    equivalence: bool = False
    spread: float | None = None

    @property
    def width(self) -> float:
        """The half-width of the range of effects that are none."""
        return self.margin.value / 2 if self.indifference is None else self.indifference


@dataclass(frozen=True)
class Expected:
    """What was predicted before the runs: of the primary criterion's verdict and effect.

    Args:
        verdict: `REPRODUCED` or another, None where it was open.
        effect: in the criterion's unit, where a number was expected.
        known: the outcome was all but known, from theory or from earlier runs; it proves little.
    """

    verdict: str | None = None
    effect: float | None = None
    known: bool = False


class Group(StrEnum):
    """What kind of thing a claim is; reports show them apart, in this order."""

    EXPERIMENT = "the paper's experiments"
    ARGUMENT = "what the paper argues"
    IDENTITY = "identities"
    LATER = "beyond the paper"


@dataclass(frozen=True)
class PaperNumber:
    """The paper's number and ours, one of each seed.

    `distance` is that of our median to the paper's number, unless another one is given; for a curve
    `paper` and `ours` are left out and `distance` says which one it is in `what`.
    """

    what: str
    unit: str
    paper: float | None = None
    ours: Sequence[float] | np.ndarray = ()
    distance: float | None = None

    @property
    def off(self) -> float | None:
        """The distance, ours less the paper's."""
        if self.distance is not None or self.paper is None or not len(self.ours):
            return self.distance
        return float(stats.lower_median(np.asarray(self.ours, float))) - self.paper


@dataclass(frozen=True)
class Check:
    """The same question asked otherwise.

    Args:
        text: what is asked.
        choices: the effects of each, by criterion, which are judged by the same margins.
        exhibits: what there is to see.
    """

    text: str
    choices: Mapping[str, Effects] = field(default_factory=dict)
    exhibits: tuple[Exhibit, ...] = ()


@dataclass(frozen=True)
class Control:
    """What has to be so for the runs to show the claim, either way.

    Args:
        text: what it is, in words.
        check: of the array that a `Finding` has for it, whether it is so, and what was seen in a
            few words or a number.
    """

    text: str
    check: Callable[[xr.DataArray], tuple[bool, str]]


@dataclass(frozen=True)
class Finding:
    """What a claim's measure makes of its runs.

    Args:
        effects: of every criterion, by its name.
        comparisons: the paper's numbers and ours.
        exhibits: tables and figures, in the order they are shown.
        tuned: both arms at their own best settings, chosen on validation images; one choice.
        unspecified: what the paper leaves open, gone over: how much the verdict depends on it.
        controls: what each control of the claim is about, by its name.
        redrawn: the effects (seed, draw) of draws of the test images, of criteria that compare
            accuracies on them.
    """

    effects: Effects
    _: KW_ONLY
    comparisons: tuple[PaperNumber, ...] = ()
    exhibits: tuple[Exhibit, ...] = ()
    tuned: Check | None = None
    unspecified: Check | None = None
    controls: Mapping[str, xr.DataArray] = field(default_factory=dict)
    redrawn: Mapping[str, xr.DataArray] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """One claim of the paper. Its id is its file's name.

    Args:
        statement: the claim, in one sentence.
        section: where the paper makes it.
        paper_says: what the paper states of the experiment.
        unspecified: what it does not, and what is chosen here.
        criteria: by the names of their effects. The first is primary, and its verdict the claim's;
            of the secondary ones each has its own.
        scales: the runs at `smoke`, `short` and `paper`.
        measure: what the runs show. It reads runs and nothing else.
        controls: by name; where one does not hold, the runs cannot test the claim.
        group: what kind of thing it is.
        expected: what was predicted before the runs.
        first_seed: another one where seeds from 10 on were looked at before the claim was written.
        why: where it did not hold, the likeliest reason.
        to_settle: and what would settle it.
        later: what papers since hold against the claim, or add to it, by what
            `literature.ARXIV` calls them.
    """

    statement: str
    section: str
    paper_says: str
    unspecified: str
    criteria: Mapping[str, Criterion]
    scales: Mapping[str, Plan]
    measure: Callable[[Evidence], Finding]
    controls: Mapping[str, Control] = field(default_factory=dict)
    group: Group = Group.LATER
    expected: Expected = Expected()
    first_seed: int = FIRST_SEED
    why: str = ""
    to_settle: str = ""
    later: Mapping[str, str] = field(default_factory=dict)

    @property
    def primary(self) -> str:
        """The name of the primary criterion."""
        return next(iter(self.criteria))
