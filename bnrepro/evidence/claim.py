"""What a claim is, and the judge.

A claim says what the paper says, which runs are to show it, and by which criterion, before a run is
made; its `measure`, a pure function of stored runs, turns them into one effect a seed. The judge
knows nothing of what was measured: it compares the interval of an effect with its margin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from bnrepro.evidence import stats
from bnrepro.evidence.exhibits import Exhibit
from bnrepro.evidence.runs import Evidence, seeds
from bnrepro.evidence.stats import Summary

SMOKE, SHORT, PAPER = SCALES = ("smoke", "short", "paper")
"""smoke: does it run at all, on digits, never judged; short: tens of minutes; paper: its steps."""


class Verdict(StrEnum):
    """What the runs say of a claim."""

    REPRODUCED = "REPRODUCED"
    NOT_REPRODUCED = "NOT REPRODUCED"
    INCONCLUSIVE = "INCONCLUSIVE"
    INCOMPLETE = "INCOMPLETE"
    NOT_JUDGED = "NOT JUDGED"


@dataclass(frozen=True)
class Scale:
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


@dataclass(frozen=True)
class Criterion:
    """What has to be seen: the interval of an effect beyond a margin.

    Args:
        name: of the effect in a `Finding`.
        compared: what the effect is, in words that tell its sign: positive supports the claim.
        unit: of effect and margin, such as `doublings` or `accuracy`.
        margin: the claim holds where the effect is greater.
        reason: where the margin comes from.
    """

    name: str
    compared: str
    unit: str
    margin: float
    reason: str


@dataclass(frozen=True)
class Comparison:
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
class Variation:
    """The effects, by criterion, had something been chosen otherwise; judged by the same margin."""

    choice: str
    effects: Mapping[str, Sequence[float] | np.ndarray]


@dataclass(frozen=True)
class Check:
    """The same question asked otherwise: what that was, what came out, and what there is to see."""

    text: str
    variations: tuple[Variation, ...] = ()
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
        left_open: what the paper leaves open, gone over: how much the verdict depends on it.
    """

    effects: Mapping[str, Sequence[float] | np.ndarray]
    comparisons: tuple[Comparison, ...] = ()
    exhibits: tuple[Exhibit, ...] = ()
    fair: Check | None = None
    left_open: Check | None = None


@dataclass(frozen=True)
class Later:
    """What a later paper holds against the claim, or adds to it."""

    paper: str
    arxiv: str
    finding: str


@dataclass(frozen=True)
class Claim:
    """One claim of the paper. Its id is its file's name.

    Args:
        statement: the claim, in one sentence.
        section: where the paper makes it.
        stated: what the paper states of the experiment.
        left_open: what it does not, and what is chosen here.
        criteria: all have to hold; the first is the one a table shows.
        scales: the runs at `smoke`, `short` and `paper`.
        measure: what the runs show. It reads runs and nothing else.
        later: findings since.
    """

    statement: str
    section: str
    stated: str
    left_open: str
    criteria: tuple[Criterion, ...]
    scales: Mapping[str, Scale]
    measure: Callable[[Evidence], Finding]
    later: tuple[Later, ...] = ()


@dataclass(frozen=True)
class Judged:
    """One criterion, or variation of it, and what became of it."""

    criterion: Criterion
    summary: Summary
    verdict: Verdict


@dataclass(frozen=True)
class Judgement:
    """A claim judged at one scale.

    Where runs are missing, `finding` is None and nothing was measured. Of a `Check`'s variations,
    each is judged as the claim itself is.
    """

    verdict: Verdict
    present: int
    asked: int
    finding: Finding | None = None
    criteria: tuple[Judged, ...] = ()
    fair: Mapping[str, tuple[Judged, ...]] = field(default_factory=dict)
    left_open: Mapping[str, tuple[Judged, ...]] = field(default_factory=dict)


def judge(claim: Claim, evidence: Evidence) -> Judgement:
    """Judge a claim by the runs there are.

    `INCOMPLETE` where one is missing, or where fewer seeds were asked for than the claim says.
    """
    wanted = claim.scales[evidence.scale]
    least = seeds(wanted.seeds)
    asked = len(wanted.arms) * max(wanted.seeds, len(evidence.seeds))
    if evidence.present < evidence.asked or set(evidence.runs) != set(wanted.arms):
        return Judgement(Verdict.INCOMPLETE, evidence.present, asked)
    finding = claim.measure(evidence)
    enough = set(evidence.seeds) >= set(least)

    def all_criteria(effects: Mapping[str, Sequence[float] | np.ndarray]) -> tuple[Judged, ...]:
        return tuple(
            _criterion(c, effects[c.name], evidence.scale, enough)
            for c in claim.criteria
            if c.name in effects
        )

    def checked(check: Check | None) -> dict[str, tuple[Judged, ...]]:
        variations = check.variations if check else ()
        return {variation.choice: all_criteria(variation.effects) for variation in variations}

    criteria = all_criteria(finding.effects)
    assert len(criteria) == len(claim.criteria) == len(finding.effects), "an effect a criterion"
    return Judgement(
        together([judged.verdict for judged in criteria]),
        evidence.present,
        asked,
        finding,
        criteria,
        checked(finding.fair),
        checked(finding.left_open),
    )


def _criterion(
    criterion: Criterion, effects: Sequence[float] | np.ndarray, scale: str, enough: bool
) -> Judged:
    summary = stats.summary(effects)
    if not enough:
        verdict = Verdict.INCOMPLETE
    elif scale == SMOKE:
        verdict = Verdict.NOT_JUDGED
    else:
        verdict = against(summary, criterion.margin)
    return Judged(criterion, summary, verdict)


def against(summary: Summary, margin: float) -> Verdict:
    """Where the interval lies: beyond the margin, wholly not, or on both sides of it."""
    if summary.interval is None:
        return Verdict.INCOMPLETE
    low, high = summary.interval
    if low > margin:
        return Verdict.REPRODUCED
    return Verdict.NOT_REPRODUCED if high <= margin else Verdict.INCONCLUSIVE


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict on a claim: it holds where every criterion does, and fails where one does."""
    for verdict in (
        Verdict.INCOMPLETE, Verdict.NOT_JUDGED, Verdict.NOT_REPRODUCED, Verdict.INCONCLUSIVE,
    ):  # fmt: skip
        if verdict in verdicts:
            return verdict
    return Verdict.REPRODUCED
