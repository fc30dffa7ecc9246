"""The committed results: of full scale, registered before their runs, and the README's table."""

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT

from bnrepro.report import results
from bnrepro.store import git
from bnrepro.training.environment import facts

RESULTS = ROOT / "docs" / "results"
FOUND: dict[str, Any] = json.loads((RESULTS / "results.json").read_text(encoding="utf-8"))
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_has_the_table_of_the_results() -> None:
    assert results.table(FOUND, "docs/results/report.md") in README


@pytest.mark.parametrize("page", ["cifar10.md", "claims.md", "after-2015.md"])
def test_a_page_tells_what_the_results_are(page: str) -> None:
    """Runs made again, on another machine, are other runs: the text has to follow.

    Where a verdict is linked to a claim it is the claim's. A paragraph of prose with a link has
    the effect, rounded, and both ends of its interval, if it has any interval.
    """
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    linked = re.compile(r"\[([^]]+)\]\(results/report\.md#([\w-]+)\)")
    assert linked.search(text)
    for words, name in linked.findall(text):
        if words.isupper():
            assert words == FOUND["claims"][name]["verdict"], name
    for paragraph in re.split(r"\n\n|\n- ", text):
        if paragraph.startswith("|"):
            continue
        said = set(re.findall(r"[\d.]*\d", paragraph))
        has_interval = re.search(r"\(\S+ to ", paragraph)
        for _, name in linked.findall(paragraph):
            primary = FOUND["claims"][name]["primary"]
            for value in (primary["effect"], *(primary["interval"] if has_interval else ())):
                if value != "-inf":  # which is said in words
                    assert _rounded(value, primary["unit"]) & said, (name, value)


def _rounded(value: float | dict[str, float], unit: str) -> set[str]:
    """A value's size, or that of its bound, as a text may have it."""
    if isinstance(value, dict):
        (value,) = value.values()
    shown = {"accuracy": 100 * value, "of the errors": 100 * value, "doublings": 2**value}
    size = abs(shown.get(unit, value))
    return {f"{size:.{digits}f}" for digits in range(3)}


def test_the_results_are_of_the_papers_scale_and_whole() -> None:
    assert FOUND["scale"] == "paper"
    for name, found in FOUND["claims"].items():
        assert found["runs"] == found["asked"] > 0, name


@pytest.mark.parametrize("name", FOUND["claims"])
def test_a_claim_was_registered_before_its_first_run(name: str) -> None:
    found = FOUND["claims"][name]
    # Of the same day it is the commits that tell: the runs' descend from the registration's.
    assert found["registered"]["date"] <= found["began"][:10]
    for which in ("unlisted", "earlier", "unknown", "dirty"):
        assert not found["registered"][which], which


@pytest.mark.skipif(git.top(ROOT) is None, reason="needs the history of the claims' files")
@pytest.mark.timeout(600)
def test_the_report_comes_out_of_the_archive(tmp_path: Path) -> None:
    """To the byte; its pages and figures too, where all that made them is as it was.

    By the checkout's own code, for an installed package has no history.
    """
    archive = RESULTS / "archive"
    line = [sys.executable, "-m", "bnrepro", "report", str(archive), "--out", str(tmp_path)]
    subprocess.run(line, cwd=ROOT, check=True, capture_output=True)
    made = json.loads((archive / "archive.json").read_text(encoding="utf-8"))["made"]
    same = facts(torch.device("cpu"))["cpu"] == made["cpu"] and all(
        version(name) == was for name, was in made["versions"].items()
    )
    names = ("report.html", "report.md", "figures/*") if same else ()
    committed = [path for name in ("results.json", *names) for path in sorted(RESULTS.glob(name))]
    assert committed
    for path in committed:
        again = tmp_path / path.relative_to(RESULTS)
        assert again.read_bytes() == path.read_bytes(), path.name
