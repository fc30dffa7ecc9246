"""The claims, a file each: its name is the claim's id, with `-` for `_`.

A file whose name begins with `_` is none. Nothing lists them: they are found in this folder, in
folders that a user names (`add_folder`), and by the entry points `bnrepro.claims` of installed
packages, each of which is a module with a `CLAIM`, or a `Claim`.
"""

import ast
import importlib
import importlib.util
import pkgutil
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from bnrepro.config import unknown
from bnrepro.errors import ConfigError
from bnrepro.evidence.claim import Claim

ENTRY_POINTS = "bnrepro.claims"

_folders: dict[Path, None] = {}


@dataclass(frozen=True)
class Source:
    """Where a claim comes from: who brings it, its file if it is known, and how it is loaded."""

    brought_by: str
    path: Path | None
    load: Callable[[], object]


def add_folder(folder: Path) -> None:
    """Find claims in a folder as well; its files are run.

    Raises:
        ConfigError: there is no such folder, or a claim of it has the name of another.
    """
    if not folder.is_dir():
        raise ConfigError(f"no such folder ({folder}): --claims-dir takes a folder of claims")
    _folders[folder.resolve()] = None
    _sources()


def ids() -> list[str]:
    """The ids of all claims, sorted."""
    return sorted(_sources())


def source(claim: str) -> Source:
    """Where a claim comes from, by its id.

    Raises:
        ConfigError: there is none of that name.
    """
    sources = _sources()
    if claim not in sources:
        raise ConfigError(_unknown(claim))
    return sources[claim]


def notes(claim: str) -> list[str]:
    """What a claim's file notes of its runs: the paragraphs of its docstring after the first.

    They are no part of the claim, and may be written when the runs are known.
    """
    path = source(claim).path
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) if path else None
    return [" ".join(paragraph.split()) for paragraph in (text or "").split("\n\n")[1:]]


def load(claim: str) -> Claim:
    """A claim by its id.

    Raises:
        ConfigError: there is none of that name, or it cannot be loaded.
    """
    of = source(claim)
    try:
        loaded = of.load()
    except Exception as error:
        if of.brought_by == "bnrepro":
            raise
        reason = f"{type(error).__name__}: {error} ({of.brought_by})"
        raise ConfigError(f"claim '{claim}' cannot be loaded: {reason}: mend it") from error
    found = getattr(loaded, "CLAIM", loaded)
    if not isinstance(found, Claim):
        raise ConfigError(f"claim '{claim}' has no CLAIM ({of.brought_by}): write one")
    return found


def _sources() -> dict[str, Source]:
    """Every claim's source, by its id."""
    found: dict[str, Source] = {}

    def add(name: str, source: Source) -> None:
        claim = name.replace("_", "-")
        if claim in found:
            others = f"{found[claim].brought_by}, {source.brought_by}"
            raise ConfigError(f"two claims '{claim}' ({others}): give one another name")
        found[claim] = source

    folder = Path(__path__[0])
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            full = f"{__name__}.{module.name}"
            path = folder / f"{module.name}.py"
            add(module.name, Source("bnrepro", path, _importer(full)))
    for point in entry_points(group=ENTRY_POINTS):
        package = f"{point.dist.name} {point.dist.version}" if point.dist else point.module
        add(point.name, Source(package, _path(point), point.load))
    for folder in _folders:
        for path in sorted(folder.glob("*.py")):
            if not path.name.startswith("_"):
                add(path.stem, Source(str(path), path, _runner(path)))
    return found


def _importer(module: str) -> Callable[[], object]:
    return lambda: importlib.import_module(module)


def _runner(path: Path) -> Callable[[], object]:
    """What runs a file of a user's, once."""
    name = f"bnrepro_claims.{path.parent}.{path.stem}"

    def run() -> object:
        if name not in sys.modules:
            spec = importlib.util.spec_from_file_location(name, path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            sys.modules[name] = module
        return sys.modules[name]

    return run


def _path(point: EntryPoint) -> Path | None:
    try:
        spec = importlib.util.find_spec(point.module)
    except ImportError:
        return None
    return Path(spec.origin) if spec and spec.origin else None


def _unknown(claim: str) -> str:
    figure = re.fullmatch(r"fig(?:ure)?[-_. ]*(\d)\w?", claim.lower())
    about = []
    if figure:
        about = [name for name in ids() if f"Fig. {figure[1]}" in load(name).section]
    if figure and about:
        return f"unknown claim '{claim}': Fig. {figure[1]} is in {', '.join(about)}"
    return f"{unknown('claim', claim, ids())} ('bnrepro claims' lists all)"
