"""The numbers of a report for scripts: `results.json`, and the README's table made from it."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnrepro import reading
from bnrepro.errors import StorageError, UnreadableError
from bnrepro.evidence.claim import Claim, Criterion, Group
from bnrepro.evidence.exhibits import Table
from bnrepro.evidence.judge import Judged
from bnrepro.report.format import plain, plain_between

FILE = "results.json"

if TYPE_CHECKING:
    from bnrepro.report.verdicts import ReportedClaim


def as_json(scale: str, facts: Mapping[str, str], shown: Sequence[ReportedClaim]) -> str:
    """What `results.json` holds; docs/judging.md has its form.

    Args:
        scale: of the runs.
        facts: what they were made on and with.
        shown: the claims.
    """
    claims = {one.id: _numbers(one) for one in shown}
    results = {"scale": scale, "facts": facts, "claims": claims}
    return json.dumps(_plain(results), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _numbers(one: ReportedClaim) -> dict[str, Any]:
    claim, judgement, finding = one.claim, one.judgement, one.judgement.finding
    numbers: dict[str, Any] = {
        "verdict": judgement.verdict.value,
        "statement": claim.statement,
        "section": claim.section,
        "group": claim.group.value,
        "reason": {"why": claim.why, "to_settle": claim.to_settle},
        "notes": one.notes,
        "runs": judgement.present,
        "asked": judgement.asked,
        "began": one.began,
        "registered": {
            "digest": one.registered.registration.digest,
            "commit": one.registered.registration.sha,
            "date": one.registered.registration.date,
            "history": one.registered.registration.root is not None,
            "runs": one.registered.runs,
            "unlisted": one.registered.unlisted,
            "earlier": one.registered.earlier,
            "unknown": one.registered.unknown,
            "dirty": one.registered.dirty,
            "mark": one.registered.mark,
        },
    }
    every = {
        name: _judged(claim, criterion, judgement.criteria.get(name))
        for name, criterion in claim.criteria.items()
    }
    first = {"name": claim.primary, "expected": dataclasses.asdict(claim.expected)}
    tuned = one.tuned
    numbers |= {
        "primary": {**first, **every.pop(claim.primary)},
        "tuned": tuned and _judged(claim, tuned.criterion, tuned),
        "secondary": every,
    }
    if finding is None:
        return numbers
    checks = [check for check in (finding, finding.tuned, finding.unspecified) if check]
    return numbers | {
        "controls": {name: dataclasses.asdict(of) for name, of in judgement.controls.items()},
        "paper": [
            {"what": c.what, "unit": c.unit, "paper": c.paper, "ours": c.ours, "distance": c.off}
            for c in finding.comparisons
        ],
        "choices": {
            choice: {name: _judged(claim, of.criterion, of) for name, of in criteria.items()}
            for choice, criteria in {**judgement.tuned, **judgement.unspecified}.items()
        },
        "tables": [
            {"caption": table.caption, "columns": table.columns, "rows": table.rows}
            for check in checks for table in check.exhibits if isinstance(table, Table)
        ],
    }  # fmt: skip


def criterion_facts(criterion: Criterion) -> dict[str, Any]:
    """What stands in a criterion before it is judged, but for its reason."""
    return {
        "compared": criterion.compared,
        "unit": criterion.margin.unit,
        "margin": criterion.margin.value,
        "indifference": criterion.width,
        "equivalence": criterion.equivalence,
        "the_papers": criterion.paper,
        "spread": criterion.spread,
    }


def _judged(claim: Claim, criterion: Criterion, judged: Judged | None) -> dict[str, Any]:
    numbers: dict[str, Any] = {
        "verdict": judged and judged.verdict.value,
        **criterion_facts(criterion),
        "identity": claim.group is Group.IDENTITY,
    }
    if judged is None:
        return numbers | dict.fromkeys(("effect", "interval", "coverage", "per_seed"))
    summary = judged.summary
    return numbers | {
        "effect": {summary.cut_off: summary.shown} if summary.cut_off else summary.shown,
        "interval": summary.interval,
        "coverage": summary.coverage,
        "nominal": summary.images is not None,
        "effect_size": summary.size,
        "seeds": len(summary.effects),
        "per_seed": [_bounded(*bounds) for bounds in summary.bounds],
    }


def read(folder: Path) -> dict[str, Any]:
    """What a folder's `results.json` holds.

    Raises:
        StorageError: there is none, or it is none of this version.
    """
    try:
        found: dict[str, Any] = reading.read_json(folder / FILE)
        if not all("primary" in claim for claim in found["claims"].values()):
            raise ValueError("claims without a primary criterion")
    except (OSError, StorageError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = error.why if isinstance(error, UnreadableError) else str(error)
        raise StorageError(
            f"not readable: {why} ({folder / FILE}): 'bnrepro report' makes it"
        ) from error
    return found


def table(results: Mapping[str, Any], page: str) -> str:
    """The paper's experiments in `results.json` as a table in Markdown, for a README.

    Below it stands how many claims of each other group came out how.

    Args:
        results: what the file holds.
        page: the address of `report.md`, to whose sections the claims are linked.
    """
    own, *others = (
        {name: of for name, of in results["claims"].items() if of["group"] == group.value}
        for group in Group
    )
    lines = [f"| {Group.EXPERIMENT} | here | verdict |", "|" + " --- |" * 3] if own else []
    in_order = sorted(own, key=lambda name: (_last_section(own[name]), name))
    lines += [_row(name, own[name], page) for name in in_order]
    for group, members in zip(list(Group)[1:], others, strict=True):
        if members:
            counted = Counter(_verdict(of) for of in members.values())
            tally = ", ".join(f"{count} {verdict}" for verdict, count in counted.most_common())
            lines += ["", f"{group.value[0].upper()}{group.value[1:]}: {tally}."]
    return "\n".join(lines).strip() + "\n"


def _last_section(of: Mapping[str, Any]) -> list[str]:
    return re.findall(r"§[\d.]+", of["section"])[-1:]


def _row(name: str, of: Mapping[str, Any], page: str) -> str:
    primary = of["primary"]
    here = f"{_words(primary['effect'], primary['unit'])} {_between(primary)}".strip()
    papers = _words(primary["the_papers"], primary["unit"])
    numbers = f"{here}; the paper {papers}" if papers else here
    return f"| [{of['statement']}]({page}#{name}) | {numbers} | {_verdict(of)} |"


def _verdict(of: Mapping[str, Any]) -> str:
    mark = of["registered"]["mark"]
    return f"{of['verdict']}, {mark}" if mark else str(of["verdict"])


def _words(effect: Any, unit: str) -> str:
    if effect is None:
        return ""
    if isinstance(effect, Mapping):
        (name, value), *_ = effect.items()
        if math.isinf(float(value)):
            return "neither arrives"
        return f"{name.replace('_', ' ')} {plain(float(value), unit)}"
    return plain(float(effect), unit)


def _between(judged: Mapping[str, Any]) -> str:
    if judged["interval"] is None:
        return ""
    low, high = map(float, judged["interval"])
    return f"({plain_between(low, high, judged['unit'])})" if low != high else ""


def _bounded(least: float, greatest: float) -> Any:
    """One number, or what a run's end leaves of it."""
    if least == greatest:
        return least
    bounds = {"at_least": least, "at_most": greatest}
    return {name: bound for name, bound in bounds.items() if math.isfinite(bound)} or None


def _plain(value: Any) -> Any:
    """Containers and numbers as JSON has them; what is not finite by its name, such as "inf".

    Nine digits: those after them differ between processors, and come from no measurement.
    """
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else str(value)
    return value
