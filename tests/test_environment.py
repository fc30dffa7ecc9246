"""What is told of the code that made a run."""

import shutil
from pathlib import Path

import pytest
import torch
from test_floors import IMPORTS, MODULES, own

import bnrepro
from bnrepro.config import RESULTS_NUMBER
from bnrepro.training import environment

PACKAGE = Path(bnrepro.__file__).parent
ONLY_KEEP_AND_SHOW = {
    "bnrepro",
    *(f"bnrepro.{name}" for name in ("config", "errors", "plots", "reading", "store", "terminal")),
    *(f"bnrepro.config.{name}" for name in (
        "check", "convert", "identity", "mirrors", "options")),
    *(f"bnrepro.store.{name}" for name in (
        "atomic", "git", "lock", "run", "source_digest", "writer")),
    *(f"bnrepro.training.{name}" for name in (
        "progress", "signals", "tensorboard")),
}  # fmt: skip
"""What a run needs and no number depends on."""


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package, installed somewhere else."""
    package = tmp_path / "elsewhere" / "bnrepro"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, package, ignore=ignored)
    monkeypatch.setattr(bnrepro, "__file__", str(package / "__init__.py"))
    return package


def sources(package: Path, place: str) -> list[Path]:
    return sorted((package / place).rglob("*.py")) or [package / place]


def test_the_digest_is_the_same_wherever_and_however_it_is_written(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = environment.code_digest()
    assert len(there) == 64
    for path in copy.rglob("*.py"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n") + b"# changed\r\n")
    (copy / "data" / "arrays.py").rename(copy / "data" / "raw.py")
    (copy / "data" / "__pycache__").mkdir()
    (copy / "data" / "__pycache__" / "raw.pyc").write_bytes(b"compiled")
    assert environment.code_digest() == there
    monkeypatch.undo()
    assert environment.code_digest() == there


def test_a_change_in_any_file_that_makes_runs_changes_the_digest(copy: Path) -> None:
    seen = {environment.code_digest()}
    files = [path for module in environment.RUN_MAKING for path in sources(copy, module)]
    assert len(files) > len(environment.RUN_MAKING)
    for count, path in enumerate(files, start=2):
        path.write_text(path.read_text(encoding="utf-8") + "changed = 1\n", encoding="utf-8")
        seen.add(environment.code_digest())
        assert len(seen) == count, path
    (copy / "cli.py").write_text("changed = 1\n")
    assert environment.code_digest() in seen


def test_every_module_that_a_run_imports_is_digested_or_listed_as_exempt() -> None:
    reached = pending = {"bnrepro.training.run", "bnrepro.training.stacked"}
    while pending:
        pending = {i.of for i in IMPORTS if own(i) and i.by in pending} - reached
        reached = reached | pending
    files = {path for place in environment.RUN_MAKING for path in sources(PACKAGE, place)}
    digested = {name for name, path in MODULES.items() if path in files}
    assert reached - digested == ONLY_KEEP_AND_SHOW
    assert not digested & ONLY_KEEP_AND_SHOW


def test_the_facts_include_the_digest_and_the_results_number() -> None:
    facts = environment.facts(torch.device("cpu"))
    assert (facts["code"], facts["results"]) == (environment.code_digest(), RESULTS_NUMBER)
