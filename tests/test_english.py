"""Plain English, in all that a user or a reader of the code reads but the claims."""

import re
from pathlib import Path

import pytest
from conftest import ROOT

import bnrepro

AVOIDED = {
    "go(es|ing)? on|gone on": "resume, continue",
    "anew": "again, restart",
    "so many": "the number, or its name",
    "no result": "failed, unfinished",
    "(is|are) told": "report, say",
    "all the same": "anyway",
    "typed? again": "rerun",
    "beside": "next to, compared with",
    "of which": "a sentence of its own",
    r"\w*normalis\w*|colour\w*|behaviour\w*": "American spelling",
}
"""Phrases, and what to write instead."""

PACKAGE = Path(bnrepro.__file__).parent
FILES = [
    *(path for path in PACKAGE.rglob("*.py") if path.parent.name != "claims"),
    *PACKAGE.rglob("*.j2"), *(ROOT / "conf").rglob("*.yaml"), *(ROOT / "docs").glob("*.md"),
    ROOT / "README.md",
]  # fmt: skip


@pytest.mark.parametrize("phrase", AVOIDED)
def test_a_phrase_is_avoided(phrase: str) -> None:
    pattern = re.compile(rf"\b({phrase})\b", re.IGNORECASE)
    met = [
        f"{path}:{number}: {line.strip()}"
        for path in FILES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if pattern.search(line)
    ]
    assert not met, f"write {AVOIDED[phrase]}:\n" + "\n".join(met)
