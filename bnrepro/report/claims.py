"""The claims as `bnrepro claims` shows them: a line each, or one whole."""

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bnrepro import claims
from bnrepro.evidence.claim import PAPER, Plan
from bnrepro.evidence.runs import PILOT_SEED, seeds
from bnrepro.report.format import asked_for, expected, numbered, plain, power
from bnrepro.report.results import criterion_facts

WIDTH = 80


Steps = Mapping[tuple[str, ...], int]
"""The training steps of runs, by their overrides."""


def row(name: str, steps: Steps) -> dict[str, Any]:
    """What a script may want of a claim."""
    claim = claims.load(name)
    return {
        "claim": name,
        "group": claim.group.value,
        "section": claim.section,
        "statement": claim.statement,
        "criteria": [
            {
                "name": criterion_name,
                "primary": criterion_name == claim.primary,
                **criterion_facts(of),
                "reason": of.reason,
            }
            for criterion_name, of in claim.criteria.items()
        ],
        "expected": asdict(claim.expected),
        "controls": {control: of.text for control, of in claim.controls.items()},
        "scales": {
            scale: {
                "arms": len(plan.arms),
                "seeds": seeds(plan.seeds, claim.first_seed),
                "runs": len(runs(plan)) * plan.seeds,
                "steps": sum(steps[run] for run in runs(plan)) * plan.seeds,
            }
            for scale, plan in claim.scales.items()
        },
    }


def runs(plan: Plan) -> list[tuple[str, ...]]:
    """The overrides of every run of a seed: arms that have the same share one, unless they draw."""
    every = list(map(plan.words, plan.arms))
    return every if plan.drawn else list(dict.fromkeys(every))


def words(names: Sequence[str]) -> list[tuple[str, ...]]:
    """The overrides of all runs of claims."""
    plans = (plan for name in names for plan in claims.load(name).scales.values())
    return [run for plan in plans for run in runs(plan)]


def lines(names: Sequence[str], width: int | None) -> Iterator[str]:
    """A line for each claim, cut where a terminal ends; None: as long as it is."""
    named = re.compile("batch normalization|batch-normalized", re.IGNORECASE)
    longest = max(map(len, names), default=0)
    for name in names:
        line = f"{name:{longest}}  {named.sub('BN', claims.load(name).statement)}"
        yield line if width is None or len(line) <= width else f"{line[: width - 1]}…"


def whole(name: str, steps: Steps, width: int = WIDTH) -> str:
    """All of a claim, in lines of at most `width` characters."""
    claim = claims.load(name)
    parts = [name, f"{claim.statement} ({claim.section}; {claim.group.value})"]
    for criterion_name, of in claim.criteria.items():
        which = "Primary criterion" if criterion_name == claim.primary else "Secondary criterion"
        unit = of.margin.unit
        paper = f" The paper has {plain(of.paper, unit)}." if of.paper is not None else ""
        parts.append(
            f"{which}, {criterion_name}: {of.compared}; {asked_for(of)}. {of.reason}{paper}"
        )
    parts += [f"Control, {control}: {of.text}." for control, of in claim.controls.items()]
    parts += [
        f"Expected: {expected(claim)}.",
        *([f"Power: {told}"] if (told := power(claim, claim.scales[PAPER].seeds)) else []),
        f"The paper states: {claim.paper_says}",
        f"It leaves open: {claim.unspecified}",
    ]
    for scale, plan in claim.scales.items():
        numbers = numbered(seeds(plan.seeds, claim.first_seed))
        parts.append(
            f"Scale {scale}: {len(plan.arms)} arms, {numbers}: {len(runs(plan)) * plan.seeds} runs "
            f"of {sum(steps[run] for run in runs(plan)) * plan.seeds:,} steps together."
        )
    parts.append(
        f"Pilots (--pilot) have seed {PILOT_SEED}, and judge nothing. 'bnrepro reproduce {name} "
        "--scale paper --dry-run' tells how long the runs take here."
    )
    return "\n\n".join(textwrap.fill(part, width, break_on_hyphens=False) for part in parts)
