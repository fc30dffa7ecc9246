"""A claim's registration: a digest of its criterion, and the first commit that yields it.

The digest is of what the claim's file and the judge's own modules mean, as `source_digest` has it,
without the prose: the claim may be reworded, and its file renamed, but a margin, an arm, a seed or
a sign cannot change without it.
"""

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bnrepro.store.git import first_commit
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
    "runs",
    "stats",
    "tuning",
)
"""Modules of `bnrepro.evidence` that have a part in every claim's effects and verdict."""


@dataclass(frozen=True)
class Registration:
    """The digest of a claim's criterion; SHA and date of the commit, None if there is none."""

    digest: str
    sha: str | None = None
    date: str | None = None


def registration(path: Path) -> Registration:
    """The registration of the claim in a file."""
    files = [path, *(Path(__file__).with_name(f"{name}.py") for name in HELPERS)]
    digest = criterion_digest([file.read_text("utf-8") for file in files])
    commit = first_commit(files, lambda texts: criterion_digest(texts) == digest)
    return Registration(digest, *(commit or ()))


def criterion_digest(sources: Sequence[str]) -> str:
    """SHA-256 (hex) of what sources mean without their prose: texts with a space in them.

    Arms, metrics and settings are written without spaces.
    """
    return source_digest(ast.unparse(_WithoutProse().visit(ast.parse(s))) for s in sources)


class _WithoutProse(ast.NodeTransformer):
    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        prose = isinstance(node.value, str) and " " in node.value
        return ast.Constant("") if prose else node
