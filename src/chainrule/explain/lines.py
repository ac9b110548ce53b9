"""Lines of the user's program: which names a line uses, and from which lines those came.

For values that keep no record (comparisons, NumPy, integers): the program itself is read, as far as
names and assignments go. What it finds is where to look, not a proof.
"""

from __future__ import annotations

import ast
import linecache
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property

LARGE = 20_000
"""Programs of more lines are not read."""
STEPS = 50
"""At most so many assignments are followed back from a line."""


@dataclass(frozen=True)
class Made:
    """An assignment: the name that was made, the line, the names it was made from."""

    name: str
    line: int
    uses: frozenset[str]


@dataclass(eq=False)
class Program:
    """One file of the user's program."""

    file: str
    _scopes: dict[ast.AST, list[Made]] = field(default_factory=dict)

    @cached_property
    def tree(self) -> ast.Module | None:
        """The syntax tree; None if the file cannot be read."""
        lines = linecache.getlines(self.file)
        if not lines or len(lines) > LARGE:
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ast.parse("".join(lines))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None

    @cached_property
    def _places(self) -> dict[int, tuple[ast.AST, ast.AST]]:
        return {} if self.tree is None else _statements(self.tree)

    def came(self, line: int, words: Collection[str]) -> tuple[str, str, int] | None:
        """How one of the words gets into a line: the word, the name made from it, where.

        The name is "" where the line itself uses the word. None if no assignment in the same
        function leads to one.
        """
        if line not in self._places:
            return None
        scope, statement = self._places[line]
        if scope not in self._scopes:
            self._scopes[scope] = [*_assignments(scope)]
        made = self._scopes[scope]
        start = statement.lineno  # type: ignore[attr-defined]
        waiting: list[tuple[str, int, frozenset[str]]] = [("", start, _uses(statement))]
        seen: set[int] = set()
        for name, at, uses in waiting:
            word = next((w for w in words if w in uses), None)
            if word is not None:
                return word, name, at
            for used in sorted(uses):
                where = [k for k, m in enumerate(made) if m.name == used]
                before = [k for k in where if made[k].line < at] or where
                if before and before[-1] not in seen and len(seen) < STEPS:
                    seen.add(before[-1])
                    m = made[before[-1]]
                    waiting.append((name or m.name, m.line, m.uses))
        return None


def _statements(tree: ast.Module) -> dict[int, tuple[ast.AST, ast.AST]]:
    """For each line the innermost function around it (or the whole), and the statement there."""
    scopes: dict[int, ast.AST] = {}
    found: dict[int, tuple[ast.AST, ast.AST]] = {}
    for node in ast.walk(tree):  # outer ones first
        if not isinstance(node, ast.stmt):
            continue
        lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            scopes.update(dict.fromkeys(lines, node))
        # of a loop, an if, a with: its head
        parts = (getattr(node, k, None) for k in ("iter", "test"))
        seen = next((x for x in parts if x), None) if hasattr(node, "body") else node
        if seen is not None:
            found.update((k, (scopes.get(k, tree), seen)) for k in lines)
    return found


def _assignments(scope: ast.AST) -> Iterator[Made]:
    """What is assigned in a function, without functions inside it, by lines."""
    stack = [*ast.iter_child_nodes(scope)]
    found: list[tuple[ast.expr, ast.expr | ast.AugAssign]] = []
    while stack:
        node = stack.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            continue
        stack += ast.iter_child_nodes(node)
        match node:
            case ast.Assign(targets=targets, value=value):
                found += [(t, value) for t in targets]
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                found.append((target, value))
            case ast.AugAssign(target=target):
                found.append((target, node))
            case ast.NamedExpr(target=target, value=value):
                found.append((target, value))
            case ast.For(target=target, iter=value):
                found.append((target, value))
    pairs = [(name, value) for t, value in found for name in _targets(t)]
    made = [Made(name, value.lineno, _uses(value)) for name, value in pairs]
    yield from sorted(made, key=lambda m: m.line)


def _targets(target: ast.expr) -> list[str]:
    """The names that an assignment sets or changes."""
    match target:
        case ast.Name(id=name):
            return [name]
        case ast.Attribute(value=ast.Name(id=name), attr=attribute):
            return [f"{name}.{attribute}"]
        case ast.Subscript(value=value) | ast.Starred(value=value):
            return _targets(value)
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            return [name for part in parts for name in _targets(part)]
    return []


def _uses(node: ast.AST) -> frozenset[str]:
    """The names in a piece of program, `self.h` among them."""
    found: set[str] = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            found.add(part.id)
        elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
            found.add(f"{part.value.id}.{part.attr}")
    return frozenset(found)
