"""The house: each module imports only from floors below it, and the two wings never meet.

Every import counts, at the top of a file or inside a function: putting off an import makes a
command start faster, it does not turn a dependency round. What stands under `TYPE_CHECKING` does
not count: it never runs, and it is how a module names a type of a floor above it without needing
that floor. The rules on what a module may load are about what runs.
"""

import ast
import subprocess
import sys
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import bnrepro

PACKAGE = Path(bnrepro.__file__).parent

FLOORS = {
    "": 0,  # bnrepro/__init__.py: the names of the library, each loaded when it is used
    "errors": 0,
    "terminal": 0,  # text on its way there
    "reading": 1,  # small files that may hold anything
    "plots": 1,  # arrays in, a figure out: knows nothing of a run
    "config": 2,
    "store": 3,  # where the wings meet
    "data": 4,
    "nn": 4,
    "training": 5,
    "sweeps": 6,
    "bench": 7,
    "evidence": 4,
    "claims": 5,
    "report": 6,
    "reproduce": 8,  # puts the wings together: makes the runs that claims need, and judges them
    "cli": 9,
    "__main__": 10,  # `python -m bnrepro`
}
"""The floor of every room, and of every module directly below `bnrepro`."""

MAKES = {"data", "nn", "training", "sweeps", "bench"}
READS = {"evidence", "claims", "report"}
LIGHT = {"store", "reading", *READS}
"""Loaded without torch and without Hydra."""


@dataclass(frozen=True)
class Import:
    """One import: by which module, of what, on which line, and whether when the file is loaded."""

    by: str
    of: str
    line: int
    at_top: bool

    def __str__(self) -> str:
        return f"{self.by}, line {self.line}: {self.of}"


def modules(package: Path) -> dict[str, Path]:
    """Every module below a package by its dotted name, the package itself as its own name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = [package.name, *path.relative_to(package).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def is_for_types(node: ast.stmt) -> bool:
    if not isinstance(node, ast.If):
        return False
    name = node.test.attr if isinstance(node.test, ast.Attribute) else node.test
    return (name.id if isinstance(name, ast.Name) else name) == "TYPE_CHECKING"


def imports(name: str, source: str, known: set[str], is_package: bool = False) -> list[Import]:
    """Everything that a module's source imports when it runs."""
    found: list[Import] = []

    def visit(node: ast.AST, at_top: bool) -> None:
        if isinstance(node, ast.stmt) and is_for_types(node):
            assert isinstance(node, ast.If)
            for child in node.orelse:
                visit(child, at_top)
            return
        if isinstance(node, ast.Import):
            found.extend(Import(name, alias.name, node.lineno, at_top) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            package = name.split(".") if is_package else name.split(".")[:-1]
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                found.append(Import(name, full if full in known else base, node.lineno, at_top))
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, at_top and not inside)

    visit(ast.parse(source), True)
    return found


MODULES = modules(PACKAGE)
IMPORTS = [
    found
    for name, path in MODULES.items()
    for found in imports(
        name, path.read_text(encoding="utf-8"), set(MODULES), path.name == "__init__.py"
    )
]


def part(module: str) -> str:
    """The entry of `FLOORS` that a module of bnrepro belongs to."""
    return [*module.split("."), ""][1]


def own(found: Import) -> bool:
    return found.of.partition(".")[0] == PACKAGE.name


def broken_floors(found: list[Import]) -> list[str]:
    """Imports that do not go to a floor below; within one sub-package there are no floors."""
    return [
        f"{i} (floor {FLOORS[part(i.by)]} imports floor {FLOORS[part(i.of)]})"
        for i in found
        if own(i) and part(i.by) != part(i.of) and FLOORS[part(i.by)] <= FLOORS[part(i.of)]
    ]


def test_every_module_has_a_floor() -> None:
    assert {part(name) for name in MODULES} == set(FLOORS)


def test_the_walk_sees_the_imports_that_are_there() -> None:
    seen = {(i.by, i.of, i.at_top) for i in IMPORTS}
    assert ("bnrepro.nn.mlp", "bnrepro.nn.norms", True) in seen
    assert ("bnrepro.cli", "bnrepro.training.launch", False) in seen
    assert ("bnrepro.data.manage", "bnrepro.data.image_tree", True) in seen
    assert not any(i.by == "bnrepro.cli" and i.of == "bnrepro.evidence.claim" for i in IMPORTS)


def test_imports_go_to_floors_below() -> None:
    assert broken_floors(IMPORTS) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("bnrepro.store.run", "from bnrepro.report import fig1"),
        ("bnrepro.store.run", "def later():\n    import bnrepro.training.run"),
        ("bnrepro.nn.build", "from bnrepro import data, training"),
        ("bnrepro.nn.build", "from .. import data"),
        ("bnrepro.nn.build", "class A:\n    def f(self):\n        from ..training.run import run"),
        ("bnrepro.reading", "import bnrepro.store.lock"),
        ("bnrepro.data.arrays", "from ..training.run import load"),
    ],
)
def test_an_import_upwards_or_sideways_is_found(module: str, source: str) -> None:
    assert broken_floors(imports(module, source, set(MODULES)))


def test_imports_under_type_checking_are_exempt_and_those_in_its_else_are_not() -> None:
    guarded = "if TYPE_CHECKING:\n    from bnrepro import cli\nelse:\n    from bnrepro import nn"
    for source in (guarded, guarded.replace("if TYPE", "if typing.TYPE")):
        assert [i.of for i in imports("bnrepro.store.run", source, set(MODULES))] == ["bnrepro.nn"]


def test_no_import_is_circular() -> None:
    graph: dict[str, set[str]] = {name: set() for name in MODULES}
    for i in IMPORTS:
        # A sub-package's face imports its members; that they lie in it is no import of the face.
        if own(i) and i.of != PACKAGE.name:
            graph[i.by].add(i.of)
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)


def test_the_two_wings_never_import_each_other() -> None:
    assert set(FLOORS) >= MAKES
    across = [
        str(i)
        for i in IMPORTS
        if own(i)
        and ((part(i.by) in READS and part(i.of) in MAKES)
             or (part(i.by) in MAKES and part(i.of) in READS))
    ]  # fmt: skip
    assert across == []


def test_the_wings_do_not_reach_each_other_through_a_third_module() -> None:
    reached = {name: {part(i.of) for i in IMPORTS if own(i) and part(i.by) == name}
               for name in FLOORS}  # fmt: skip

    def everything(name: str) -> set[str]:
        return reached[name].union(*(everything(below) for below in reached[name] - {name}))

    for name in MAKES & set(FLOORS):
        assert not everything(name) & READS, name
    for name in READS & set(FLOORS):
        assert not everything(name) & MAKES, name


def test_reading_runs_needs_neither_torch_nor_hydra() -> None:
    heavy = [
        str(i)
        for i in IMPORTS
        if part(i.by) in LIGHT and i.of.partition(".")[0] in ("torch", "torchvision", "hydra")
    ]
    assert heavy == []


def test_reading_runs_reaches_neither_torch_nor_hydra_through_other_modules() -> None:
    light = ", ".join(name for name in MODULES if part(name) in LIGHT)
    code = f"import sys, {light}; print(*{{'torch', 'hydra', 'omegaconf'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_command_line_loads_little_but_typer() -> None:
    top = {i.of for i in IMPORTS if i.by == "bnrepro.cli" and i.at_top}
    assert {name for name in top if name.startswith("bnrepro.")} == {
        "bnrepro.errors",
        "bnrepro.terminal",
    }
    outside = {name.partition(".")[0] for name in top} - set(sys.stdlib_module_names)
    assert outside == {"bnrepro", "typer"}


def test_what_is_internal_to_hydra_and_inductor_is_behind_one_door_each() -> None:
    doors = {"hydra": "bnrepro.config.hydra", "torch._inductor": "bnrepro.training.program"}
    for of, door in doors.items():
        assert {i.by for i in IMPORTS if f"{i.of}.".startswith(f"{of}.")} == {door}


def test_no_configuration_names_code() -> None:
    for path in [*MODULES.values(), *(PACKAGE.parent / "conf").rglob("*.yaml")]:
        text = path.read_text(encoding="utf-8")
        assert "hydra.utils" not in text, path
        if path.suffix == ".yaml":
            assert "_target_" not in text, path
    assert not any(i.of.startswith("hydra.utils") for i in IMPORTS)
    names = {
        node.value
        for path in MODULES.values()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert "_target_" not in names
