"""What git says of sources: a checkout's commit, and the first one since which files say this."""

import subprocess
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any


def revision(root: Path) -> dict[str, Any] | None:
    """The commit of a checkout and whether it is `dirty`; None if `root` is not one's top."""
    if not (root / ".git").exists():
        return None
    try:
        sha, dirty = _git(root, "rev-parse", "HEAD"), bool(_git(root, "status", "--porcelain"))
        return {"sha": sha, "dirty": dirty}
    except (OSError, subprocess.CalledProcessError):
        return None


def first_commit(
    files: Sequence[Path], still: Callable[[Sequence[str]], bool]
) -> tuple[str, str] | None:
    """SHA and date (ISO) of the first commit since which files have said the same.

    Args:
        files: the first one's repository is asked; those outside of it count as they are.
        still: whether their texts, in this order, say the same.

    Returns:
        None outside of a repository, or if they say it in no commit yet.
    """
    try:
        root = Path(_git(files[0].parent, "rev-parse", "--show-toplevel"))
        within = [file.resolve() for file in files if file.resolve().is_relative_to(root.resolve())]
        names = [str(file.relative_to(root.resolve())) for file in within]
        others = [file.read_text("utf-8") for file in files if file.resolve() not in within]
        first = None
        for line in _git(root, "log", "--format=%H %cs", "--", *names).splitlines():
            sha, _, date = line.partition(" ")
            listed = _git(root, "ls-tree", sha, "--", *names).splitlines()
            blobs = {row.partition("\t")[2]: row.split()[2] for row in listed}
            if len(blobs) < len(names):
                break
            if not still([*(_blob(root, blobs[name]) for name in names), *others]):
                break
            first = sha, date
    except (OSError, UnicodeDecodeError, subprocess.CalledProcessError):
        return None
    return first


@cache
def _blob(root: Path, sha: str) -> str:
    return _git(root, "cat-file", "blob", sha)


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8")
    return done.stdout.strip()
