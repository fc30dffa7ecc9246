"""A digest of what sources mean: the same however they are worded, formatted, named or moved.

Of a source's syntax tree all is left out that computes nothing: comments, docstrings, imports, and
the annotations of functions and locals (those of a dataclass are its fields). Locals are numbered.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import lru_cache
from typing import cast


def source_digest(
    sources: Iterable[str], *, prose: bool = True, left_out: tuple[str, ...] = ()
) -> str:
    """SHA-256 (hex) of what Python sources mean, in whichever order they come.

    Args:
        sources: their texts.
        prose: whether texts with a space in them count.
        left_out: keyword arguments that do not count, in whichever call.

    Raises:
        SyntaxError: one of them is no Python.
    """
    digests = sorted(_digest(source, prose, left_out) for source in sources)
    return hashlib.sha256("".join(digests).encode()).hexdigest()


@lru_cache(maxsize=10_000)
def _digest(source: str, prose: bool, left_out: tuple[str, ...]) -> str:
    tree = ast.parse(source)
    if not prose:
        tree = _WithoutProse().visit(tree)
    text = _dumped(_Meaning(left_out).visit(tree))
    return hashlib.sha256(text.encode()).hexdigest()


def _dumped(node: object) -> str:
    """A syntax tree as text; `ast.dump` says more in some versions of Python than in others."""
    if isinstance(node, list):
        return f"[{','.join(map(_dumped, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = (
        f"{name}={_dumped(value)}"
        for name, value in ast.iter_fields(node)
        if value is not None and value != []
    )
    return f"{type(node).__name__}({','.join(fields)})"


class _WithoutProse(ast.NodeTransformer):
    """Empties texts with a space in them, and takes them out of formatted ones."""

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        return ast.Constant("") if _is_prose(node) else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        node.values = [value for value in node.values if not _is_prose(value)]
        return self.generic_visit(node)


class _Meaning(ast.NodeTransformer):
    """Takes out of a syntax tree what computes nothing."""

    def __init__(self, left_out: tuple[str, ...]) -> None:
        self._left_out = left_out
        self._locals: dict[str, str] | None = None  # none outside functions

    def visit_keyword(self, node: ast.keyword) -> ast.AST | None:
        """An argument by its name."""
        return None if node.arg in self._left_out else self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        """Where a thing comes from is not what it does."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """As above."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """A docstring, or a text after a constant or a field."""
        return None if _is_text(node.value) else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        """Of `if TYPE_CHECKING`, nothing is left but imports: that is nothing."""
        node = cast("ast.If", self.generic_visit(node))
        return node if node.body or node.orelse else None

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        if self._locals is not None:  # within another function its name is a local's
            node.name = self._locals.get(node.name, node.name)
            return self.generic_visit(node)
        self._locals = _numbered(node)
        try:
            return self.generic_visit(node)
        finally:
            self._locals = None

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        """Of a dataclass the annotations are its fields; within a function they say nothing."""
        if self._locals is None:
            return self.generic_visit(node)
        if node.value is None:
            return None
        return self.generic_visit(ast.Assign([node.target], node.value, lineno=node.lineno))

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        node.arg = (self._locals or {}).get(node.arg, node.arg)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = (self._locals or {}).get(node.id, node.id)
        return node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        if node.name is not None:
            node.name = (self._locals or {}).get(node.name, node.name)
        return self.generic_visit(node)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> ast.AST:
        node.names = [(self._locals or {}).get(name, name) for name in node.names]
        return node


def _is_prose(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _numbered(function: ast.FunctionDef) -> dict[str, str]:
    """The names that are bound within a function, arguments too, by the order they come in."""
    names: dict[str, None] = {}
    shared: set[str] = set()
    for node in ast.walk(function):
        match node:
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()):
                names[name] = None
            case ast.ExceptHandler(name=str(name)):
                names[name] = None
            case ast.FunctionDef(name=name) if node is not function:
                names[name] = None
            case ast.Global(names=others):
                shared.update(others)
    return {name: f"{number}" for number, name in enumerate(n for n in names if n not in shared)}
