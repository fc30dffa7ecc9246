"""A claim's registration: a digest of its criterion, and the first commit that yields it.

The digest is of what the claim's file means, with the judge and all modules of `bnrepro.evidence`
and `bnrepro.claims` that either imports, as `source_digest` has it, without the prose: a file may
be reworded, renamed and moved, but a margin, an arm, a seed or a sign cannot change without it.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from bnrepro.store import git
from bnrepro.store.source_digest import source_digest

PACKAGE = Path(__file__).parents[1]
JUDGE = PACKAGE / "evidence" / "judge.py"

ROOMS = ("bnrepro.claims.", "bnrepro.evidence.")
"""Where a claim's effects and their verdict are computed."""

SHOWN = ("exhibits.py", "literature.py", "paper/__init__.py", "power.py")
"""Of `bnrepro.evidence`, what computes no effect and no verdict."""


@dataclass(frozen=True)
class Registration:
    """When a claim's criterion was committed.

    Args:
        digest: of the criterion; empty if the claim has no file.
        sha: of the first commit that yields it, None if there is none.
        date: of that commit.
        root: the top of the checkout that has the file's history, None if there is none.
    """

    digest: str
    sha: str | None = None
    date: str | None = None
    root: Path | None = None


def registration(path: Path | None) -> Registration:
    """The registration of the claim in a file."""
    if path is None:
        return Registration("")
    digest, root = digest_of(path), git.top(path.parent)
    if root is None:
        return Registration(digest)
    sha, date = git.first_commit(root, sources(path), criterion_digest) or (None, None)
    return Registration(digest, sha, date, root)


def digest_of(path: Path) -> str:
    """The digest of the criterion of the claim in a file."""
    return criterion_digest(*(file.read_text("utf-8") for file in sources(path)))


def criterion_digest(*texts: str) -> str:
    """SHA-256 (hex) of what sources mean without their prose: texts with a space in them.

    Arms, metrics and settings are written without spaces.
    """
    return source_digest(texts, prose=False)


def sources(path: Path) -> list[Path]:
    """The claim's file, and all that has a part in its effects and verdict."""
    found, left = [path], [path, JUDGE]
    while left:
        file = left.pop()
        found += [] if file in found else [file]
        left += [module for module in _imported(file.read_text("utf-8")) if module not in found]
    return found


@lru_cache(maxsize=1000)
def _imported(text: str) -> list[Path]:
    """The files of `ROOMS` that a source imports, wherever in it."""
    places = (PACKAGE.joinpath(*name.split(".")[1:]) for name in set(_names(text)))
    files = [file for at in places for file in (at.with_suffix(".py"), at / "__init__.py")]
    shown = {PACKAGE / "evidence" / name for name in SHOWN}
    return sorted(file for file in files if file.is_file() and file not in shown)


def _names(text: str) -> Iterator[str]:
    """Every dotted name of `ROOMS` that may be that of an imported module."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.ImportFrom(module=str(module), names=names):
                every = [module, *(f"{module}.{alias.name}" for alias in names)]
            case ast.Import(names=names):
                every = [alias.name for alias in names]
            case _:
                continue
        yield from (name for name in every if name.startswith(ROOMS))
