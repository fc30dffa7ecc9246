"""What git says of sources: commits, their order, and the first since which files say the same."""

import re
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
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


Meaning = Callable[[str], str]
"""What is compared of a file's text."""


def first_commit(root: Path, files: Mapping[Path, Meaning]) -> tuple[str, str] | None:
    """SHA and date (ISO) of the first commit since which files have meant the same.

    A file that was moved or renamed as it was is followed.

    Args:
        root: the top of a checkout; files outside of it are left out.
        files: with what counts of each; one of them is in it.

    Returns:
        None if they do so in no commit yet.
    """
    first = None
    try:
        within = {file.resolve(): of for file, of in files.items()}
        within = {file: of for file, of in within.items() if file.is_relative_to(root)}
        names = [file.relative_to(root).as_posix() for file in within]
        wanted = [(of, of(file.read_text("utf-8"))) for file, of in within.items()]
        tip = "HEAD"
        while since := _since(root, tip, names, wanted):
            first, tip = since, f"{since[0]}^"
            names = _names_before(root, since[0], names, wanted)
    except (OSError, UnicodeDecodeError, SyntaxError, subprocess.CalledProcessError):
        pass  # there is nothing before the first of all commits
    return first


def _since(
    root: Path, tip: str, names: Sequence[str], wanted: Sequence[tuple[Meaning, str]]
) -> tuple[str, str] | None:
    """The first commit before `tip` since which files of these names have meant what is wanted."""
    first = None
    for line in _git(root, "log", "--format=%H %cs", tip, "--", *names).splitlines():
        sha, _, date = line.partition(" ")
        blobs = _blobs(root, sha)
        if not all(
            name in blobs and meaning(_blob(root, blobs[name])) == what
            for name, (meaning, what) in zip(names, wanted, strict=True)
        ):
            break
        first = sha, date
    return first


def _names_before(
    root: Path, sha: str, names: Sequence[str], wanted: Sequence[tuple[Meaning, str]]
) -> list[str]:
    """What files were called before a commit, which may have moved them."""
    after, before = _blobs(root, sha), _blobs(root, f"{sha}^")
    endings = {Path(name).suffix for name in names}
    gone = {
        name: _blob(root, blob)
        for name, blob in before.items()
        if name not in after and Path(name).suffix in endings
    }

    def earlier(name: str, meaning: Meaning, what: str) -> str:
        if name in before:
            return name
        return next((old for old, text in gone.items() if meaning(text) == what), name)

    return [earlier(name, *of) for name, of in zip(names, wanted, strict=True)]


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
