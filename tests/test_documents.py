"""README and docs: their links lead somewhere, and their commands are ones."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from conftest import ROOT
from documents import FILES, anchors, commands, links, words

from bnrepro import claims, cli
from bnrepro.bench import BENCHMARKS
from bnrepro.config.compose import compose
from bnrepro.errors import BnreproError
from bnrepro.sweeps import sweep
from bnrepro.sweeps.grid import grid

README = ROOT / "README.md"
NAMES = [str(path.relative_to(ROOT)) for path in FILES]

ELSEWHERE = ("--claims-dir", "--config-dir")
"""Options that bring what is not here: a claim or an experiment of the reader's own."""


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_what_is_there(name: str) -> None:
    path = ROOT / name
    for link in links(path):
        if re.match(r"[a-z]+:", link):
            assert link.startswith("https://"), link
            continue
        place, _, anchor = unquote(link).partition("#")
        target = (path.parent / place).resolve() if place else path
        assert target.exists(), f"{name}: {link}"
        assert target.is_relative_to(ROOT), f"{name}: {link}"
        if anchor:
            assert target.suffix == ".md", f"{name}: {link}"
            assert anchor in anchors(target), f"{name}: {link}"


def test_a_link_that_leads_nowhere_would_be_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One `two` — three!\n\n## A.b\n\n## A.b\n\n![x](a.png) [y](b.md#c) `[z](d)`\n"
    )
    assert links(page) == ["a.png", "b.md#c"]
    assert anchors(page) == {"one-two--three", "ab", "ab-1"}


def documented() -> list[tuple[str, str]]:
    """Every command, with its document.

    Those of a guest package have a test of their own, and the report names claims of its time.
    """
    others = ("docs/extending.md", "docs/results/report.md")
    names = [name for name in NAMES if name not in others]
    return [(name, line) for name in names for line in dict.fromkeys(commands(ROOT / name))]


def test_every_command_of_the_documents_is_one() -> None:
    """Its name, options and settings are; test_tutorial.py runs those that a reader begins with."""
    found = documented()
    assert len(found) > 40
    for name, line in found:
        try:
            check(words(line))
        except Exception as error:
            raise AssertionError(f"{name}: {line}: {error!r}") from error


def check(typed: list[str]) -> None:
    """Check a command's name, its options, its settings, and the names that it is given."""
    assert cli.main([*typed, "--help"]) == 0  # which knows of every option, and runs nothing
    command, *arguments = typed
    if any(option in arguments for option in ELSEWHERE):
        return
    settings = [word for word in arguments if re.match(r"[\w./+~]+=", word)]
    named = [word for word in arguments if re.fullmatch("[a-z][a-z-]+", word)]
    if command in ("train", "sweep", "bench"):
        assert {*named} <= {*BENCHMARKS, *cli.Shown}, named
        (grid if command == "sweep" else compose)(settings)
    if command in ("reproduce", "claims"):
        assert {*named} <= {*claims.ids(), *cli.ScaleName}, named


@pytest.mark.parametrize(
    "line",
    ["train optimiser.lr=1", "sweep norm=batch,nine", "runs --onyl x", "reproduce no-claim",
     "bench nothing", "nothing", "data fetsh mnist", "train --no-such"],
)  # fmt: skip
def test_a_command_that_is_none_would_be_found(line: str) -> None:
    with pytest.raises((AssertionError, BnreproError)):
        check(line.split())


def test_readme_is_a_page() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    text = " ".join(line for line in lines if not line.startswith("|"))
    assert len(text.split()) <= 700


def test_readme_shows_the_folder_that_its_command_makes() -> None:
    text = README.read_text(encoding="utf-8")
    (typed,) = (words(line) for line in commands(README) if line.startswith("bnrepro sweep"))
    shown = set(re.findall(r"…/outputs/(sweep-\S+)", text))
    assert shown == {sweep._name(grid(typed[1:]))}
