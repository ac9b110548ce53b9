"""The backward pass of a recorded graph as a graph of its own: traced, then made simpler.

Rules are run on traced Tensors, so the result is what the engine computes and nothing else; the
compiler's passes then share common parts and apply algebra.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

import numpy as np

from ... import ops
from ...autodiff.reverse import handles_of, pull_back
from ...compiler.passes import settled
from ...core.graph import Graph
from ...core.node import Node
from ...core.primitive import ITEM, Elementwise
from ...core.types import ArrayType
from ...errors import GraphError
from ...ops.dispatch import bind, elementwise
from ...ops.tensor import Tensor
from ...ops.tracing import trace
from ..names import Naming
from .tidy import tidy

LETTERS = "ABCDEFGHKLMN"


@dataclass(frozen=True, eq=False)
class Backward:
    """The graph; `names` of its leaves, `arrays` their values; what stands for each recorded node
    in it: its value, and its gradient."""

    graph: Graph
    names: dict[Node, str]
    arrays: dict[Node, Any]
    values: dict[Node, Any]
    gradients: dict[Node, Any]
    constants: frozenset[Node]
    """The leaves that are arrays of the program and no variables."""
    notes: tuple[str, ...]
    """What was assumed of the values, in words."""


def backward(order: Sequence[Node], naming: Naming) -> Backward:
    """The backward pass of the graph whose nodes these are, the result last.

    Raises GraphError for a gate with several outputs (a loop, a user's gate with more than one).
    """
    leaves: list[Any] = [n for n in order if n.primitive is None]
    constants: dict[int, Any] = {}
    for node in order:
        if node.primitive is ITEM or isinstance(node.data, tuple):
            raise GraphError(
                f"{node.name} at {node.line or 'an unknown line'} has several outputs: there is no "
                "formula for it; derive what is before and behind it"
            )
        for x in node.inputs:
            if isinstance(x, Node) or not np.ndim(x):
                continue
            if id(x) in naming.arrays or not uniform(np.asarray(x)):
                constants.setdefault(id(x), np.asarray(x))
    arrays = [*(n.value for n in leaves), *constants.values()]
    made: dict[Node, Tensor] = {}
    upstream: dict[Node, Any] = {}

    def program(*inputs: Tensor) -> Any:
        made.update(zip(leaves, inputs, strict=False))
        held = dict(zip(constants, inputs[len(leaves) :], strict=True))
        for node in order:
            if node.primitive is not None:
                given = [
                    made[x] if isinstance(x, Node) else held.get(id(x), x) for x in node.inputs
                ]
                if isinstance(node.primitive, Elementwise) and not node.params:
                    # operands in full shape
                    made[node] = elementwise(node.primitive, *given)
                else:
                    made[node] = bind(node.primitive, tuple(given), node.params or {})
        nodes = {made[n]._node: n for n in order}
        root = made[order[-1]]
        table: dict[Node, Any] = {
            root._node: ops.ones(root.shape, dtype=root.dtype)  # type: ignore[dict-item]
        }
        for node in reversed(order):
            mine = made[node]._node
            assert mine is not None
            if mine in table:
                upstream[nodes[mine]] = table[mine]
                pull_back([mine], table, ops, lambda *visited: None, None, handles_of)
        return [made[n] for n in order], [upstream[n] for n in upstream]

    types = [ArrayType(a.shape, a.dtype) for a in arrays]
    graph, _ = trace(program, types)
    graph = settled(graph)
    held = dict(zip(graph.inputs, arrays, strict=True))
    graph, notes = tidy(graph, held, len(order))
    values = dict(zip(order, graph.outputs, strict=False))
    gradients = dict(zip(upstream, graph.outputs[len(order) :], strict=True))
    named = [*(naming[n] for n in leaves), *_constant_names(constants, naming)]
    return Backward(
        graph,
        dict(zip(graph.inputs, named, strict=True)),
        held,
        values,
        gradients,
        frozenset(graph.inputs[len(leaves) :]),
        tuple(notes),
    )


def names() -> Iterator[str]:
    """A, B … A1, B1 …: names for constants."""
    return (c + n for n in chain([""], map(str, count(1))) for c in LETTERS)


def uniform(array: Any) -> bool:
    """Whether all entries are the same number: formulas show that instead of a name."""
    return bool(array.size) and bool((array == array.reshape(-1)[0]).all())


def _constant_names(constants: dict[int, Any], naming: Naming) -> list[str]:
    """A, B … for arrays that have no name in the program."""
    taken = {*naming.nodes.values(), *naming.arrays.values()}
    free = (c for c in names() if c not in taken)
    return [naming.arrays.get(key) or next(free) for key in constants]
