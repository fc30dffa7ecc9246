"""A claim's registration: a digest of its criterion, and the first commit that yields it.

The digest is of what the claim's file and the judge's own modules mean, as `source_digest` has it,
without the prose: the claim may be reworded, and its file renamed, but a margin, an arm, a seed or
a sign cannot change without it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bnrepro.store import git
from bnrepro.store.source_digest import source_digest

HELPERS = (
    "arms",
    "claim",
    "controls",
    "deep_arms",
    "fig2_arms",
    "grid",
    "judge",
    "movement",
    "paper/fig2",  # margins are shares of the paper's numbers
    "runs",
    "stats",
    "tuning",
)
"""Modules of `bnrepro.evidence` that have a part in every claim's effects and verdict."""


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
    commit = git.first_commit(root, _files(path), lambda texts: criterion_digest(texts) == digest)
    sha, date = commit or (None, None)
    return Registration(digest, sha, date, root)


def digest_of(path: Path) -> str:
    """The digest of the criterion of the claim in a file."""
    return criterion_digest([file.read_text("utf-8") for file in _files(path)])


def _files(path: Path) -> list[Path]:
    return [path, *(Path(__file__).parent / f"{name}.py" for name in HELPERS)]


def criterion_digest(sources: Sequence[str]) -> str:
    """SHA-256 (hex) of what sources mean without their prose: texts with a space in them.

    Arms, metrics and settings are written without spaces.
    """
    return source_digest(sources, prose=False)
