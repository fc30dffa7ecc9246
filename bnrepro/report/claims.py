"""The claims as `bnrepro claims` shows them: a line each, or one whole."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from bnrepro import claims
from bnrepro.evidence.runs import PILOT_SEED, seeds
from bnrepro.report.format import bound, expected, numbered, plain

WIDTH = 80


def row(name: str) -> dict[str, Any]:
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
                "compared": of.compared,
                "unit": of.margin.unit,
                "margin": of.margin.value,
                "indifference": of.width,
                "equivalence": of.equivalence,
                "reason": of.reason,
            }
            for criterion_name, of in claim.criteria.items()
        ],
        "scales": {
            scale: {"arms": len(plan.arms), "seeds": seeds(plan.seeds, claim.first_seed)}
            for scale, plan in claim.scales.items()
        },
    }


def lines(rows: Sequence[dict[str, Any]], width: int | None) -> Iterator[str]:
    """A line for each claim, cut where a terminal ends; None: as long as it is."""
    named = re.compile("batch normalization|batch-normalized", re.IGNORECASE)
    names = max((len(row["claim"]) for row in rows), default=0)
    for row in rows:
        line = f"{row['claim']:{names}}  {named.sub('BN', row['statement'])}"
        yield line if width is None or len(line) <= width else f"{line[: width - 1]}…"


def whole(name: str) -> str:
    """All of a claim, in lines of at most `WIDTH` characters."""
    claim = claims.load(name)
    parts = [name, f"{claim.statement} ({claim.section}; {claim.group.value})"]
    for criterion_name, of in claim.criteria.items():
        which = "Primary criterion" if criterion_name == claim.primary else "Secondary criterion"
        unit = of.margin.unit
        margin = (
            f"within {bound(of)} {unit}"
            if of.equivalence
            else f"more than {plain(of.margin.value, unit)}"
        )
        parts.append(f"{which}, {criterion_name}: {of.compared}; {margin}. {of.reason}")
    parts += [
        f"Expected: {expected(claim)}.",
        f"The paper states: {claim.paper_says}",
        f"It leaves open: {claim.unspecified}",
    ]
    for scale, plan in claim.scales.items():
        runs = len({plan.words(arm) for arm in plan.arms}) * plan.seeds
        numbers = numbered(seeds(plan.seeds, claim.first_seed))
        parts.append(f"Scale {scale}: {len(plan.arms)} arms, {numbers}, runs: {runs}.")
    parts.append(
        f"Pilots have seed {PILOT_SEED}, and no claim is judged by them. Controls stand in the "
        f"report. 'bnrepro reproduce {name} --scale paper --dry-run' tells how long it takes here."
    )
    return "\n\n".join(textwrap.fill(part, WIDTH) for part in parts)
