"""A graph made easier to read: a few rules of algebra that change rounding and nothing else.

The compiler's passes keep every bit, so they may not do these: a + a = 2a, numbers in front of
products gathered, signs pulled out, 1·a = a, a choice between a and 0 as a product with 0 or 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...compiler.algebra import MUL, NEG
from ...compiler.passes import number as same
from ...core.graph import Graph
from ...core.node import Node
from ...core.primitive import Primitive
from ...ops.dispatch import BROADCAST

PRODUCTS = ("mul", "scale_gradient", "select_gradient")


def tidy(graph: Graph) -> Graph:
    """The graph by these rules. Outputs may be leaves or constants afterwards."""
    return _Tidying(graph).result()


class _Tidying:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[Node] = []
        self.new: dict[Node, Any] = {}
        self.known: dict[Any, Node] = {}

    def result(self) -> Graph:
        for node in self.graph.nodes:
            inputs = [self.new.get(x, x) if isinstance(x, Node) else x for x in node.inputs]
            self.new[node] = self.ruled(node, inputs)
        outputs = [self.new.get(x, x) if isinstance(x, Node) else x for x in self.graph.outputs]
        return Graph.of(outputs, self.graph.inputs)

    def made(self, primitive: Primitive | None, inputs: Sequence[Any], like: Node,
             params: Any = None) -> Node:  # fmt: skip
        """A gate of the shape of another; equal ones once."""
        assert primitive is not None
        inputs = [x if isinstance(x, Node) else np.asarray(x) for x in inputs]
        key = same(primitive, inputs, params or {})
        if key not in self.known:
            node = Node(
                primitive, tuple(inputs), params or {}, None, like.type, like.where, like.scope
            )
            self.nodes.append(node)
            self.known[key] = node
        return self.known[key]

    def product(self, number: float, x: Any, like: Node) -> Any:
        """number · x, gathered with numbers that are in x."""
        if isinstance(x, Node):
            if x.name == "neg":
                return self.product(-number, x.inputs[0], like)
            inner = _number(x.inputs[0]) if x.name in PRODUCTS else None
            if inner is not None:
                return self.product(number * inner, x.inputs[1], like)
        if number == 1 and isinstance(x, Node) and x.shape == like.shape:
            return x
        if number == -1:
            return self.made(NEG, [x], like)
        return self.made(MUL, [np.asarray(number), x], like)

    def ruled(self, node: Node, inputs: list[Any]) -> Any:
        """What stands for a gate."""
        name = node.name
        if name == "add" and inputs[0] is inputs[1] and isinstance(inputs[0], Node):
            return self.product(2.0, inputs[0], node)
        if name == "contract" and any(not np.ndim(_like(x)) for x in inputs):
            spec = node.params["spec"].split("->")  # type: ignore[index]
            first, second = spec[0].split(",")
            if (first or second) == spec[1]:  # a number times an array
                ordered = inputs if not first else inputs[::-1]
                return self.times(node, ordered)
        if name == "contract":
            return self.contracted(node, inputs)
        if name in PRODUCTS:
            return self.times(node, inputs)
        if name == "neg":
            return self.product(-1.0, inputs[0], node)
        if name == "div":
            over, under = inputs
            if isinstance(over, Node) and over.name == "neg":
                plain = self.made(node.primitive, [over.inputs[0], under], node, node.params)
                return self.product(-1.0, plain, node)
        if name == "where" and _number(inputs[2]) == 0 and isinstance(inputs[0], Node):
            return self.made(MUL, [inputs[1], inputs[0]], node)
        return self.made(node.primitive, inputs, node, node.params)

    def contracted(self, node: Node, inputs: list[Any]) -> Any:
        """A contraction, with numbers and signs in front of it."""
        number, parts = 1.0, []
        for part in inputs:
            if isinstance(part, Node) and part.name == "neg":
                number, part = -number, part.inputs[0]
            elif isinstance(part, Node) and part.name in PRODUCTS:
                inner = _number(part.inputs[0])
                if inner is not None and np.shape(_like(part.inputs[1])) == part.shape:
                    number, part = number * inner, part.inputs[1]
            parts.append(part)
        plain = self.made(node.primitive, parts, node, node.params)
        return self.product(number, plain, node)

    def times(self, node: Node, inputs: list[Any]) -> Any:
        """A product: numbers go in front, signs out."""
        x, y = inputs
        for a, b in ((x, y), (y, x)):
            number = _number(a)
            if number is not None and np.shape(_like(b)) == node.shape:
                return self.product(number, b, node)
        sign = 1.0
        parts = []
        for part in (x, y):
            if isinstance(part, Node) and part.name == "neg":
                sign, part = -sign, part.inputs[0]
            elif isinstance(part, Node) and part.name in PRODUCTS:
                inner = _number(part.inputs[0])
                if inner is not None and np.shape(_like(part.inputs[1])) == part.shape:
                    sign, part = sign * inner, part.inputs[1]
            parts.append(part)
        plain = self.made(MUL, parts, node)
        return self.product(sign, plain, node) if sign != 1 else plain


def _like(x: Any) -> Any:
    return np.broadcast_to(0, x.shape) if isinstance(x, Node) else np.asarray(x)


def _number(x: Any) -> float | None:
    """The number that an operand is a copy of, if it is one."""
    while isinstance(x, Node):
        if x.primitive is not BROADCAST and x.name != "cast":
            return None
        x = x.inputs[0]
    array = np.asarray(x)
    if not array.size or array.dtype.kind not in "fiu":
        return None
    first = array.reshape(-1)[0]
    return float(first) if (array == first).all() else None
