"""Twenty wrong backwards made from right ones, by changing their source."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np

import chainrule as cr
from tests.explain.backwards import right
from tests.explain.backwards.right import RIGHT
from tests.explain.backwards.wrong import Case


def _returned(tree: ast.Module) -> ast.Return:
    return next(n for n in ast.walk(tree) if isinstance(n, ast.Return))


def _change(tree: ast.Module, place: int, make: Callable[[str], str]) -> None:
    """Replace the gradient of one input by another expression of it."""
    node = _returned(tree)
    many = isinstance(node.value, ast.List)
    old = node.value.elts[place] if many else node.value
    new = ast.parse(make(ast.unparse(old)), mode="eval").body
    if many:
        node.value.elts[place] = new
    else:
        node.value = new


def negate(tree: ast.Module, place: int) -> None:
    _change(tree, place, lambda e: f"-({e})")


def double(tree: ast.Module, place: int) -> None:
    _change(tree, place, lambda e: f"2 * ({e})")


def halve(tree: ast.Module, place: int) -> None:
    _change(tree, place, lambda e: f"({e}) / 2")


def nothing(tree: ast.Module, place: int) -> None:
    _change(tree, place, lambda e: f"0 * ({e})")


def forget_upstream(tree: ast.Module, place: int) -> None:
    _change(tree, place, lambda e: e.replace("upstream", "np.ones_like(upstream)"))


def upstream_alone(tree: ast.Module, place: int) -> None:
    _change(tree, place, lambda e: "upstream")


def swap(tree: ast.Module, place: int) -> None:
    elements = _returned(tree).value.elts
    elements[place], elements[place + 1] = elements[place + 1], elements[place]


def copy_next(tree: ast.Module, place: int) -> None:
    elements = _returned(tree).value.elts
    elements[place] = elements[place + 1]


def transpose(tree: ast.Module, place: int) -> None:
    _change(tree, place, lambda e: f"({e}).T")


def drop_sum(tree: ast.Module, place: int) -> None:
    _change(tree, place, lambda e: e.rsplit(".sum(", 1)[0])


def damage(tree: ast.Module, place: int) -> None:
    body = next(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)).body
    body.insert(0, ast.parse("upstream += 1").body[0])


MUTATIONS: list[tuple[str, Any, int, str]] = [
    ("Linear", negate, 0, "sign"), ("Linear", forget_upstream, 1, "upstream forgotten"),
    ("Linear", drop_sum, 2, "not summed"), ("MatMul", transpose, 1, "transposed"),
    ("MatMul", double, 0, "factor"), ("Sigmoid", negate, 0, "sign"),
    ("Tanh", forget_upstream, 0, "upstream forgotten"),
    ("Tanh", upstream_alone, 0, "local forgotten"),
    ("Softmax", halve, 0, "factor"), ("Multiply", swap, 0, "swapped"),
    ("Multiply", copy_next, 0, "wrong input"), ("Divide", negate, 1, "sign"),
    ("Divide", forget_upstream, 0, "upstream forgotten"), ("Subtract", negate, 1, "sign"),
    ("MeanSquare", halve, 0, "factor"), ("AddBias", drop_sum, 1, "not summed"),
    ("Scale", nothing, 1, "missing gradient"), ("Maximum", swap, 0, "swapped"),
    ("Log", upstream_alone, 0, "local forgotten"), ("Square", damage, 0, "in-place damage"),
]  # fmt: skip


def mutated(name: str, change: Any, place: int) -> Any:
    """The gate of that name with a backward that is changed."""
    kind = getattr(right, name)
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind.backward)))
    change(tree, place)
    scope: dict[str, Any] = {"np": np}
    exec(compile(ast.fix_missing_locations(tree), f"<{name} mutated>", "exec"), scope)
    return type(f"{name}_{change.__name__}", (kind, cr.Gate), {"backward": scope["backward"]})


def cases() -> list[Case]:
    inputs = {gate.__name__: given for gate, given in reversed(RIGHT)}
    inputs["MatMul"] = next(g for k, g in RIGHT if k.__name__ == "MatMul")
    return [(mutated(n, c, p), inputs[n], cause) for n, c, p, cause in MUTATIONS]
