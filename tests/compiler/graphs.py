"""What the tests of passes share: arrays, and graphs checked against what they were made of."""

from __future__ import annotations

from typing import Any

import numpy as np

import chainrule as cr
from chainrule.compiler.passes import simplify
from chainrule.core.graph import Graph
from chainrule.core.node import Node
from chainrule.core.primitive import LINK
from chainrule.core.types import ArrayType
from chainrule.ops.dispatch import bind
from chainrule.ops.tracing import trace

SPECIAL = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1.0, -2.5, 1e-310])
GRID = np.array([[np.nan, -0.0, 2.0], [np.inf, 1.0, -3.0]])
ROW = np.array([1.0, -2.0, 4.0])
BOX = np.arange(24.0).reshape(2, 3, 4) - 7
TRUTH = np.array([True, False] * 4)
WHOLE = np.arange(-4, 4)
FINITE = np.array([3.0, -1.0, 0.0, 2.0, 5.0, -2.0, 1.0, -7.0])


def traced(function: Any, *arrays: Any) -> Graph:
    return trace(function, [ArrayType(np.shape(x), np.asarray(x).dtype) for x in arrays])[0]


def values(graph: Graph, arrays: Any) -> list[Any]:
    """The outputs of a graph, then what it assigns."""
    leaves: dict[Node, Any] = dict(zip(graph.inputs, map(np.asarray, arrays), strict=True))
    leaves.update((leaf, np.asarray(handle)) for handle, leaf in graph.captured)
    with np.errstate(all="ignore"):
        outputs, assigned = graph.run(
            leaves,
            lambda node, operands: node.primitive.forward(*operands, **(node.params or {})),  # type: ignore[union-attr]
        )
    return [np.asarray(x) for x in (*outputs, *assigned)]


def total(graph: Graph) -> int:
    """The gates of a graph and of the graphs in it."""
    inner = (b for n in graph for b in n.primitive.bodies(n.params or {}))  # type: ignore[union-attr]
    return len(graph) + sum(map(total, inner))


def checked(graph: Graph, *arrays: Any, signs: bool = True, tolerance: float = 0.0,
            grows: bool = False) -> Graph:  # fmt: skip
    """The simplified graph: the same values to the bit (or a tolerance), the other unchanged."""
    before, expected = str(graph), values(graph, arrays)
    new = simplify(graph).verify()
    assert str(graph) == before
    assert simplify(new) is new
    assert new.inputs == graph.inputs
    assert new.captured == graph.captured
    assert [h for h, _ in new.assignments] == [h for h, _ in graph.assignments]
    assert grows or total(new) <= total(graph)
    for x, y in zip(expected, values(new, arrays), strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        if tolerance:
            np.testing.assert_allclose(y, x, rtol=tolerance, atol=tolerance)
            continue
        np.testing.assert_array_equal(y, x)
        if signs and x.dtype.kind == "f":
            number = ~np.isnan(x)
            np.testing.assert_array_equal(np.signbit(y)[number], np.signbit(x)[number])
    return new


def names(graph: Graph) -> list[str]:
    return [node.name for node in graph]


def link(x: Any) -> Any:
    return bind(LINK, (x,), {})


def twice(x: Any) -> Any:
    """x: two gates that go."""
    return cr.negative(cr.negative(x))
