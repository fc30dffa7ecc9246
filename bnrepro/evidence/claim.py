"""What a claim is.

A claim says what the paper says, which runs are to show it, and by which criterion, before a run is
made; its `measure`, a pure function of stored runs, turns them into one effect a seed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from bnrepro.evidence import stats
from bnrepro.evidence.exhibits import Exhibit
from bnrepro.evidence.runs import Evidence

Effects = Mapping[str, Sequence[float] | np.ndarray | xr.DataArray]
"""One number a seed, of each criterion by its name; positive supports the claim."""

SMOKE, SHORT, PAPER = SCALES = ("smoke", "short", "paper")
"""smoke: does it run at all, on digits, never judged; short: tens of minutes; paper: its steps."""


@dataclass(frozen=True)
class Plan:
    """The runs of a claim at one scale: `seeds` of every arm.

    Args:
        seeds: how many; the seeds are 0, 1, …, the same for all arms, which are paired by them.
        arms: Hydra overrides by the arm's name. Arms of two claims that come to the same
            configuration are one run.
        overrides: what is the same for every arm; an arm's own come after.
    """

    seeds: int
    arms: Mapping[str, tuple[str, ...]]
    overrides: tuple[str, ...] = ()

    def words(self, arm: str) -> tuple[str, ...]:
        """All overrides of an arm."""
        return (*self.overrides, *self.arms[arm])


def plans(
    arms: Callable[[str], Mapping[str, tuple[str, ...]]],
    seeds: Mapping[str, int],
    overrides: Mapping[str, tuple[str, ...]] | None = None,
) -> dict[str, Plan]:
    """The plan of every scale, from what makes its arms, its number of seeds, its overrides."""
    given = overrides or {}
    return {scale: Plan(seeds[scale], arms(scale), given.get(scale, ())) for scale in SCALES}


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
        margin: the claim holds where the effect is greater.
        reason: where the margin comes from.
    """

    compared: str
    margin: Margin
    reason: str


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
class Finding:
    """What a claim's measure makes of its runs.

    Args:
        effects: of every criterion, by its name, one number a seed; positive supports the claim;
            may be infinite, never NaN.
        comparisons: the paper's numbers and ours.
        exhibits: tables and figures, in the order they are shown.
        fair: the arms at their own best settings, chosen on validation images.
        unspecified: what the paper leaves open, gone over: how much the verdict depends on it.
    """

    effects: Effects
    comparisons: tuple[PaperNumber, ...] = ()
    exhibits: tuple[Exhibit, ...] = ()
    fair: Check | None = None
    unspecified: Check | None = None


@dataclass(frozen=True)
class Claim:
    """One claim of the paper. Its id is its file's name.

    Args:
        statement: the claim, in one sentence.
        section: where the paper makes it.
        paper_says: what the paper states of the experiment.
        unspecified: what it does not, and what is chosen here.
        criteria: by the names of their effects; all have to hold, the first is the one a table
            shows.
        scales: the runs at `smoke`, `short` and `paper`.
        measure: what the runs show. It reads runs and nothing else.
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
    later: Mapping[str, str] = field(default_factory=dict)
