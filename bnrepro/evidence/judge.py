"""The judge: an effect's interval against a margin, whatever was measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import xarray as xr

from bnrepro.evidence import stats
from bnrepro.evidence.claim import SMOKE, Check, Claim, Criterion, Effect, Effects, Finding
from bnrepro.evidence.runs import Evidence, seeds
from bnrepro.evidence.stats import Summary


class Verdict(StrEnum):
    """What the runs say of a criterion, and of a claim by its primary one."""

    REPRODUCED = "REPRODUCED"
    SAME_DIRECTION = "SAME DIRECTION"
    NO_EFFECT = "NO EFFECT"
    OPPOSITE = "OPPOSITE"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_TESTABLE = "NOT TESTABLE"
    INCOMPLETE = "INCOMPLETE"
    NOT_JUDGED = "NOT JUDGED"

    @property
    def meaning(self) -> str:
        """The verdict in a sentence."""
        return MEANINGS[self]


MEANINGS: Mapping[Verdict, str] = {
    Verdict.REPRODUCED: "The effect is beyond the margin.",
    Verdict.SAME_DIRECTION: "The effect is there, but not shown to be beyond the margin.",
    Verdict.NO_EFFECT: "The effect is so near to none that it makes no difference.",
    Verdict.OPPOSITE: "The effect is the other way round.",
    Verdict.INCONCLUSIVE: "The seeds do not decide.",
    Verdict.NOT_TESTABLE: "A control failed: these runs could not show the claim, either way.",
    Verdict.INCOMPLETE: "Runs are missing.",
    Verdict.NOT_JUDGED: "Scale smoke and pilots tell whether it runs, and where to look; no more.",
}


@dataclass(frozen=True)
class Judged:
    """One criterion, or choice within a check, and what became of it."""

    criterion: Criterion
    summary: Summary
    verdict: Verdict


@dataclass(frozen=True)
class Controlled:
    """A control, whether it holds, and what was seen."""

    text: str
    holds: bool
    seen: str


@dataclass(frozen=True)
class Judgement:
    """A claim judged at one scale.

    Where runs are missing, `finding` is None and nothing was measured. Of a `Check`'s choices, each
    is judged as the claim itself is, and its verdict is that of its primary criterion.
    """

    verdict: Verdict
    present: int
    asked: int
    finding: Finding | None = None
    criteria: Mapping[str, Judged] = field(default_factory=dict)
    controls: Mapping[str, Controlled] = field(default_factory=dict)
    tuned: Mapping[str, Mapping[str, Judged]] = field(default_factory=dict)
    unspecified: Mapping[str, Mapping[str, Judged]] = field(default_factory=dict)


def judge(claim: Claim, evidence: Evidence) -> Judgement:
    """Judge a claim by the runs there are.

    `INCOMPLETE` where one is missing, or where fewer seeds were asked for than the claim says.
    """
    wanted = claim.scales[evidence.scale]
    least = seeds(wanted.seeds, claim.first_seed)
    asked = evidence.asked
    few = len(evidence.seeds) < wanted.seeds and not evidence.pilot
    if few or set(evidence.runs) != set(wanted.arms):
        asked = len(wanted.arms) * max(wanted.seeds, len(evidence.seeds))
    if evidence.present < evidence.asked or set(evidence.runs) != set(wanted.arms):
        return Judgement(Verdict.INCOMPLETE, evidence.present, asked)
    finding = claim.measure(evidence)
    given: Verdict | None = None  # whatever the effects are
    if evidence.pilot or evidence.scale == SMOKE:
        given = Verdict.NOT_JUDGED
    elif not set(evidence.seeds) >= set(least):
        given = Verdict.INCOMPLETE

    def all_criteria(
        effects: Effects, redrawn: Mapping[str, xr.DataArray] | None = None
    ) -> dict[str, Judged]:
        return {
            name: judged(criterion, effects[name], (redrawn or {}).get(name), given)
            for name, criterion in claim.criteria.items()
            if name in effects
        }

    def checked(check: Check | None) -> dict[str, dict[str, Judged]]:
        choices = check.choices if check else {}
        return {choice: all_criteria(effects) for choice, effects in choices.items()}

    criteria = all_criteria(finding.effects, finding.redrawn)
    assert len(criteria) == len(claim.criteria) == len(finding.effects), "an effect a criterion"
    assert claim.controls.keys() == finding.controls.keys(), "what every control is about"
    controls = {
        name: Controlled(control.text, *control.check(finding.controls[name]))
        for name, control in claim.controls.items()
    }
    verdict = criteria[claim.primary].verdict
    if given is None and not all(control.holds for control in controls.values()):
        verdict = Verdict.NOT_TESTABLE
    return Judgement(
        verdict,
        evidence.present,
        asked,
        finding,
        criteria,
        controls,
        checked(finding.tuned),
        checked(finding.unspecified),
    )


def judged(
    criterion: Criterion,
    effect: Effect,
    redrawn: xr.DataArray | None = None,
    verdict: Verdict | None = None,
) -> Judged:
    """What an effect's summary comes to by a criterion, unless the verdict is given."""
    low = high = effect
    if isinstance(effect, xr.DataArray) and "bound" in effect.dims:
        low, high = (effect.sel(bound=bound) for bound in ("least", "greatest"))
    draws = None if redrawn is None else redrawn.transpose("seed", "draw").to_numpy()
    summary = stats.summary(np.asarray(low), np.asarray(high), draws)
    return Judged(criterion, summary, verdict or against(summary, criterion))


def against(summary: Summary, criterion: Criterion) -> Verdict:
    """Where the interval lies: the first row that fits of the table in docs/judging.md."""
    if summary.interval is None:
        return Verdict.INCOMPLETE
    (low, high), margin = summary.interval, criterion.margin.value
    if criterion.equivalence:
        if -margin < low and high < margin:
            return Verdict.REPRODUCED
        return Verdict.OPPOSITE if low > margin or high < -margin else Verdict.INCONCLUSIVE
    if low > margin:
        return Verdict.REPRODUCED
    if margin < 0:
        return Verdict.OPPOSITE if high < margin else Verdict.INCONCLUSIVE
    if -criterion.width < low and high < criterion.width:
        return Verdict.NO_EFFECT
    if low > 0:
        return Verdict.SAME_DIRECTION
    return Verdict.OPPOSITE if high < 0 else Verdict.INCONCLUSIVE
