"""What git says of sources: commits, their order, and the first since which files say the same."""

import re
import subprocess
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any


def revision(root: Path) -> dict[str, Any] | None:
    """The commit of a checkout and whether it is `dirty`; None if `root` is not one's top."""
    if not (root / ".git").exists():
        return None
    try:
        sha, dirty = _git(root, "rev-parse", "HEAD"), bool(_git(root, "status", "--porcelain"))
        return {"sha": sha.strip(), "dirty": dirty}
    except (OSError, subprocess.CalledProcessError):
        return None


def top(folder: Path) -> Path | None:
    """The top of the checkout that a folder is in; None outside of one, or of a shallow one.

    A shallow checkout lacks commits, and takes its oldest for the first of every file.
    """
    try:
        words = ("rev-parse", "--is-shallow-repository", "--show-toplevel")
        shallow, root = _git(folder, *words).splitlines()
    except (OSError, ValueError, subprocess.CalledProcessError):
        return None
    return Path(root).resolve() if shallow == "false" else None


def first_commit(
    root: Path, files: Sequence[Path], still: Callable[[Sequence[str]], bool]
) -> tuple[str, str] | None:
    """SHA and date (ISO) of the first commit since which files have said the same.

    Args:
        root: the top of a checkout; files outside of it count as they are.
        files: the first one is in it.
        still: whether their texts, in this order, say the same.

    Returns:
        None if they say it in no commit yet.
    """
    try:
        within = [file.resolve() for file in files if file.resolve().is_relative_to(root)]
        names = [file.relative_to(root).as_posix() for file in within]
        others = [file.read_text("utf-8") for file in files if file.resolve() not in within]
        first = None
        for line in _git(root, "log", "--format=%H %cs", "--", *names).splitlines():
            sha, _, date = line.partition(" ")
            blobs = _blobs(root, sha)
            if not all(name in blobs for name in names):
                break
            if not still([*(_blob(root, blobs[name]) for name in names), *others]):
                break
            first = sha, date
    except (OSError, UnicodeDecodeError, subprocess.CalledProcessError):
        return None
    return first


def ancestors(root: Path, shas: Iterable[str]) -> dict[str, set[str]]:
    """Of each commit that a checkout knows, itself and all commits that it descends from.

    Others, and what is no SHA, are left out.
    """
    asked = sorted({sha for sha in shas if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", sha)})
    if not asked:
        return {}
    try:
        listed = _git(root, "rev-list", "--parents", "--ignore-missing", *asked)
    except (OSError, subprocess.CalledProcessError):
        return {}
    parents = {sha: before for sha, *before in map(str.split, listed.splitlines())}
    found = {}
    for sha in parents.keys() & asked:
        left, found[sha] = [sha], set[str]()
        while left:
            if (commit := left.pop()) not in found[sha]:
                found[sha].add(commit)
                left += parents.get(commit, ())
    return found


@cache
def _blobs(root: Path, sha: str) -> dict[str, str]:
    """The blob of every file of a commit."""
    listed = _git(root, "ls-tree", "-r", "-z", sha).split("\0")[:-1]
    return {name: facts.split()[2] for facts, _, name in (row.partition("\t") for row in listed)}


@cache
def _blob(root: Path, sha: str) -> str:
    return _git(root, "cat-file", "blob", sha)


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8")
    return done.stdout
