"""The committed results: whole, of full scale, and what the README says of them."""

import json
import re
import subprocess
from datetime import datetime
from typing import Any

import pytest
from conftest import ROOT

from bnrepro import claims
from bnrepro.evidence.judge import Judged, Verdict
from bnrepro.evidence.stats import Summary
from bnrepro.report.format import effect, interval, signed

RESULTS = ROOT / "docs" / "results"
FOUND: dict[str, Any] = json.loads((RESULTS / "results.json").read_text(encoding="utf-8"))


SHARED = {"stable-distributions"}
"""Claims whose runs another claim shares and had begun before: see docs/claims.md."""


def number(value: float | str) -> float:
    return float(value)  # an infinite one is a string


def row(name: str, found: dict[str, Any]) -> str:
    """How the README's table begins the line of a claim."""
    numbers = next(iter(found["criteria"].values()))
    criterion = next(iter(claims.load(name).criteria.values()))
    low, high = map(number, numbers["interval"])
    summary = Summary((), number(numbers["effect"]), (low, high), None)
    first = Judged(criterion, summary, Verdict(numbers["verdict"]))
    margin = signed(number(numbers["margin"]), numbers["unit"])
    link = f"[{name}](docs/results/report.md#{name})"
    told = f"{effect(first)} | {interval(first)} | {margin}"
    return f"| {link} | **{found['verdict']}** | {told} |"


def test_the_readme_has_the_verdicts_and_numbers_of_the_results() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    told = [line for line in readme.splitlines() if "](docs/results/report.md#" in line]
    expected = [row(name, found) for name, found in FOUND["claims"].items()]
    assert len(told) == len(expected)
    for line, beginning in zip(told, expected, strict=True):
        assert line.startswith(beginning)


def test_the_results_are_of_the_papers_scale_and_whole() -> None:
    assert FOUND["scale"] == "paper"
    assert set(FOUND["claims"]) <= set(claims.ids())
    for name, found in FOUND["claims"].items():
        plan = claims.load(name).scales["paper"]
        different = {plan.words(arm) for arm in plan.arms}  # two arms may be one run
        assert found["runs"] == found["asked"] == plan.seeds * len(different), name
        assert found["seeds"] == plan.seeds
        assert found["verdict"] in ("REPRODUCED", "NOT REPRODUCED", "INCONCLUSIVE")
        assert found["statement"] == claims.load(name).statement
        margins = {c: each.margin.value for c, each in claims.load(name).criteria.items()}
        assert {c: each["margin"] for c, each in found["criteria"].items()} == margins


def test_the_report_has_its_figures_and_the_page_loads_nothing() -> None:
    report = (RESULTS / "report.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"\]\((figures/[^)]+)\)", report))
    there = {f"figures/{path.name}" for path in (RESULTS / "figures").iterdir()}
    assert shown == there
    page = (RESULTS / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href)=\"(?!data:|#|https://arxiv\.org)[^\"]*", page)
    for name, found in FOUND["claims"].items():
        assert f'id="{name}"' in page
        assert f"## {name}\n\n**{found['verdict']}**" in report


@pytest.mark.parametrize("name", FOUND["claims"])
def test_criteria_were_committed_before_the_first_run(name: str) -> None:
    found = FOUND["claims"][name]
    path = f"bnrepro/claims/{name.replace('-', '_')}.py"
    told = subprocess.run(
        ["git", "log", "-1", "--format=%cI", found["criterion_commit"], "--", path],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if told.returncode or not told.stdout.strip():
        pytest.skip("no history here")
    committed = datetime.fromisoformat(told.stdout.strip())
    before = committed <= datetime.fromisoformat(found["began"])
    assert before is (name not in SHARED)
