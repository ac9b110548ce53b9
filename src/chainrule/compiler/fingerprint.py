"""A graph as text that says all its code depends on: equal text, equal code."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..core.graph import Graph
from ..core.indexmap import IndexMap
from ..core.node import Node
from ..ops.loop import Loop
from .lower import SMALL

PACKAGE = __name__.partition(".")[0]
PLAIN = (int, float, str, bool, type(None))


class Unknown(Exception):
    """Something whose text would not say what it is: a user's gate, a large constant."""


def fingerprint(graph: Graph) -> str | None:
    """The text of a graph; None if there is something in it that text cannot stand for."""
    try:
        variables = {id(x): k for k, (x, _) in enumerate(graph.captured)}
        assigned = [variables.get(id(v), -1) for v, _ in graph.assignments]
        return _graph(graph) + repr(assigned)
    except Unknown:
        return None


def _graph(graph: Graph) -> str:
    number: dict[Node, int] = {}
    lines = []
    for leaf in graph.leaves:
        number[leaf] = len(number)
        lines.append(_value(leaf.type))
    for node in graph.nodes:
        primitive: Any = node.primitive
        if not type(primitive).__module__.startswith(PACKAGE + ".") or not primitive.name:
            raise Unknown
        inputs = ",".join(_operand(x, number) for x in node.inputs)
        number[node] = len(number)
        kind = type(primitive).__name__
        if kind.startswith(("Custom", "Derived")):
            raise Unknown
        params = _value(node.params or {})
        lines.append(f"{kind}.{primitive.name}({inputs}){params}{_value(node.type)}")
    values = [*graph.outputs, *(v for _, v in graph.assignments)]
    lines.append(",".join(_operand(x, number) for x in values))
    return "\n".join(lines)


def _operand(x: Any, number: dict[Node, int]) -> str:
    return f"%{number[x]}" if isinstance(x, Node) else _value(x)


def _value(x: Any) -> str:
    if x.__class__ in PLAIN:
        return repr(x)
    if isinstance(x, np.dtype):
        return x.str
    if isinstance(x, (tuple, list)):
        return f"({','.join(map(_value, x))})"
    if isinstance(x, dict):
        return ";".join(f"{k}={_value(v)}" for k, v in x.items())
    if isinstance(x, frozenset):
        return repr(sorted(x))
    if isinstance(x, (np.ndarray, np.generic)):
        if x.nbytes > SMALL:
            raise Unknown
        return f"{x.dtype.char}{x.shape}{np.ascontiguousarray(x).tobytes().hex()}"
    if isinstance(x, IndexMap):
        sides = (x.reads, x.writes)
        positions = [[(p.terms, p.offset, p.table) for p in side] for side in sides]
        return repr((x.sizes, positions, x.in_shape, x.out_shape, x.in_view, x.out_view))
    if isinstance(x, Graph):
        return f"{{{_graph(x)}}}"
    if isinstance(x, Loop):
        number = {n: k for k, n in enumerate([*x.graph.leaves, *x.graph.nodes])}
        kept = [(number[n], place) for n, place in x.kept]
        numbers = (x.cuts, x.carries, x.hidden, x.length, x.reverse, kept)
        return f"{{{_graph(x.graph)}}}{numbers!r}"
    raise Unknown


@lru_cache(maxsize=1)
def sources() -> str:
    """The compiler itself: another version of it makes other code."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
