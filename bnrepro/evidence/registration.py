"""A claim's registration: a digest of its criterion, and the first commit that yields it.

The digest is of all that `CLAIM` and the judge are made of: every definition of `bnrepro.claims`
and `bnrepro.evidence` that one comes to from them by name, as `source_digest` has it, without the
prose and without what is only shown. A file may be reworded, renamed and moved, a figure drawn
otherwise, and a definition that the claim does not use may come, change and go; but a margin, an
arm, a seed or a sign cannot change without it.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from bnrepro.store import git
from bnrepro.store.source_digest import source_digest

PACKAGE = Path(__file__).parents[1]
JUDGE = PACKAGE / "evidence" / "judge.py"
CLAIM = "CLAIM"

ROOMS = ("bnrepro.claims.", "bnrepro.evidence.")
"""Where a claim's effects and their verdict are computed."""

SHOWN = ("exhibits.py", "literature.py", "paper/__init__.py", "power.py")
"""Of `bnrepro.evidence`, what computes no effect and no verdict."""

NOT_JUDGED = ("comparisons", "exhibits")
"""Arguments that no verdict depends on."""


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
    meanings = {file: partial(_meaning, names) for file, names in reached(path).items()}
    sha, date = git.first_commit(root, meanings) or (None, None)
    return Registration(digest, sha, date, root)


def digest_of(path: Path) -> str:
    """The digest of the criterion of the claim in a file."""
    texts = (_texts(file.read_text("utf-8"), names) for file, names in reached(path).items())
    return criterion_digest(*(text for of_file in texts for text in of_file))


def criterion_digest(*texts: str) -> str:
    """SHA-256 (hex) of what sources mean without their prose: texts with a space in them.

    Arms, metrics and settings are written without spaces.
    """
    return source_digest(texts, prose=False, left_out=NOT_JUDGED)


def reached(path: Path) -> Mapping[Path, frozenset[str]]:
    """The definitions that the claim in a file and the judge are made of, by their files."""
    found: dict[Path, set[str]] = {path: set()}
    modules: dict[Path, _Module] = {}
    left = {(path, CLAIM), *_every(JUDGE)}
    while left:
        file, name = left.pop()
        known = found.setdefault(file, set())
        if file not in modules:
            modules[file] = _read(file.read_text("utf-8"))
        module = modules[file]
        if name in known or all(name not in part.names for part in module.parts):
            continue
        known.add(name)
        uses = {use for part in module.parts if _kept(part, {name}) for use in part.uses}
        left |= {it for use in uses for it in _definitions(file, use, module.places)}
    return {file: frozenset(names) for file, names in found.items()}


def _every(file: Path) -> set[tuple[Path, str]]:
    module = _read(file.read_text("utf-8"))
    return {(file, name) for part in module.parts for name in part.names}


def _definitions(
    file: Path, use: tuple[str, str | None], places: Mapping[str, tuple[str, str | None]]
) -> set[tuple[Path, str]]:
    """The definitions that a use of a name in a file may be of."""
    name, attribute = use
    if name not in places:
        return {(file, name)}
    module, imported = places[name]
    if imported and (whole := _file(f"{module}.{imported}")):
        return {(whole, attribute)} if attribute else _every(whole)
    if at := _file(module):
        return {(at, imported)} if imported else _every(at)
    return set()


@dataclass(frozen=True)
class _Part:
    """A statement at a module's top.

    Args:
        names: that it defines; none if it is run for what it does.
        uses: names in it, with the attribute that is asked of them, if one is.
        text: its source.
    """

    names: frozenset[str]
    uses: frozenset[tuple[str, str | None]]
    text: str


@dataclass(frozen=True)
class _Module:
    """A source.

    Args:
        parts: its statements, but for imports and docstrings.
        places: of each name that it imports, the module and the name there, if it is not all of it.
    """

    parts: Sequence[_Part]
    places: Mapping[str, tuple[str, str | None]]


def _meaning(names: frozenset[str], text: str) -> str:
    """What the definitions of these names in a source mean."""
    return criterion_digest(*_texts(text, names))


def _kept(part: _Part, names: Set[str]) -> bool:
    return not part.names or not part.names.isdisjoint(names)


def _texts(text: str, names: frozenset[str]) -> list[str]:
    return [part.text for part in _read(text).parts if _kept(part, names)]


@lru_cache(maxsize=1000)
def _read(text: str) -> _Module:
    """A module's source, read."""
    tree, lines = ast.parse(text), text.splitlines(keepends=True)
    places: dict[str, tuple[str, str | None]] = {}
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=names):
                places |= {alias.asname or alias.name: (module, alias.name) for alias in names}
            case ast.Import(names=names):
                places |= {
                    alias.asname or alias.name.partition(".")[0]: (alias.name, None)
                    for alias in names
                }
    parts = []
    for node in tree.body:
        match node:
            case ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Constant()):
                continue  # a docstring, or the text below a constant
        first = min(it.lineno for it in (node, *getattr(node, "decorator_list", ())))
        source = "".join(lines[first - 1 : node.end_lineno])
        parts.append(_Part(frozenset(_defined(node)), frozenset(_used(node)), source))
    return _Module(parts, places)


def _defined(node: ast.stmt) -> Iterator[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Assign(targets=targets):
            yield from (it.id for to in targets for it in ast.walk(to) if isinstance(it, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name


def _used(node: ast.AST) -> Iterator[tuple[str, str | None]]:
    match node:
        case ast.keyword(arg=str(name)) if name in NOT_JUDGED:
            pass
        case ast.Attribute(value=ast.Name(id=name), attr=attribute):
            yield name, attribute
        case ast.Name(id=name):
            yield name, None
        case _:
            for child in ast.iter_child_nodes(node):
                yield from _used(child)


def _file(module: str) -> Path | None:
    """The file of a module of `ROOMS` by its dotted name."""
    at = PACKAGE.joinpath(*module.split(".")[1:])
    if module.startswith(ROOMS):
        for file in (at.with_suffix(".py"), at / "__init__.py"):
            if file.is_file() and file not in {PACKAGE / "evidence" / name for name in SHOWN}:
                return file
    return None
