"""The judge: an effect's interval against a margin, whatever was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import xarray as xr

from bnrepro.evidence import stats
from bnrepro.evidence.claim import SMOKE, Check, Claim, Criterion, Effects, Finding
from bnrepro.evidence.runs import Evidence, seeds
from bnrepro.evidence.stats import Summary


class Verdict(StrEnum):
    """What the runs say of a claim."""

    REPRODUCED = "REPRODUCED"
    NOT_REPRODUCED = "NOT REPRODUCED"
    INCONCLUSIVE = "INCONCLUSIVE"
    INCOMPLETE = "INCOMPLETE"
    NOT_JUDGED = "NOT JUDGED"


@dataclass(frozen=True)
class Judged:
    """One criterion, or choice within a check, and what became of it."""

    criterion: Criterion
    summary: Summary
    verdict: Verdict


@dataclass(frozen=True)
class Judgement:
    """A claim judged at one scale.

    Where runs are missing, `finding` is None and nothing was measured. Of a `Check`'s choices, each
    is judged as the claim itself is.
    """

    verdict: Verdict
    present: int
    asked: int
    finding: Finding | None = None
    criteria: Mapping[str, Judged] = field(default_factory=dict)
    fair: Mapping[str, Mapping[str, Judged]] = field(default_factory=dict)
    unspecified: Mapping[str, Mapping[str, Judged]] = field(default_factory=dict)


def judge(claim: Claim, evidence: Evidence) -> Judgement:
    """Judge a claim by the runs there are.

    `INCOMPLETE` where one is missing, or where fewer seeds were asked for than the claim says.
    """
    wanted = claim.scales[evidence.scale]
    least = seeds(wanted.seeds)
    asked = evidence.asked
    if len(evidence.seeds) < wanted.seeds or set(evidence.runs) != set(wanted.arms):
        asked = len(wanted.arms) * max(wanted.seeds, len(evidence.seeds))
    if evidence.present < evidence.asked or set(evidence.runs) != set(wanted.arms):
        return Judgement(Verdict.INCOMPLETE, evidence.present, asked)
    finding = claim.measure(evidence)
    enough = set(evidence.seeds) >= set(least)

    def all_criteria(effects: Effects) -> dict[str, Judged]:
        return {
            name: _criterion(criterion, effects[name], evidence.scale, enough)
            for name, criterion in claim.criteria.items()
            if name in effects
        }

    def checked(check: Check | None) -> dict[str, dict[str, Judged]]:
        choices = check.choices if check else {}
        return {choice: all_criteria(effects) for choice, effects in choices.items()}

    criteria = all_criteria(finding.effects)
    assert len(criteria) == len(claim.criteria) == len(finding.effects), "an effect a criterion"
    return Judgement(
        together([judged.verdict for judged in criteria.values()]),
        evidence.present,
        asked,
        finding,
        criteria,
        checked(finding.fair),
        checked(finding.unspecified),
    )


def _criterion(
    criterion: Criterion,
    effects: Sequence[float] | np.ndarray | xr.DataArray,
    scale: str,
    enough: bool,
) -> Judged:
    summary = stats.summary(np.asarray(effects))
    if not enough:
        verdict = Verdict.INCOMPLETE
    elif scale == SMOKE:
        verdict = Verdict.NOT_JUDGED
    else:
        verdict = against(summary, criterion.margin.value)
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
