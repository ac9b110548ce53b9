"""The expressions of a group: what is computed at one index, from what lies in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.node import Node
from ..core.primitive import LINK
from ..ops.contraction import CONTRACT, parse
from . import reading
from .kernels import (
    Accumulated,
    Affine,
    Apply,
    Const,
    Expression,
    Guard,
    Load,
    Product,
    Random,
    Reduce,
    Store,
    Where,
    at,
    contiguous,
)
from .reading import Kind

Index = tuple[Affine, ...]


class _Missing(Exception):
    """An operand that has to be made first."""

    def __init__(self, key: Any) -> None:
        self.key = key


class Expressions:
    """Expressions of nodes at indices, each made once."""

    def __init__(self, block: Any, group: Any) -> None:
        self.block, self.group = block, group
        self.known: dict[Any, Expression] = {}
        self.loops: dict[Any, Any] = {}
        """The loops of reductions, made once."""
        self.constants: dict[Any, Const] = {}

    def __call__(self, node: Any, index: Index, guards: tuple[Guard, ...] = ()) -> Expression:
        """The value of a node of the group at an index. A chain may be as long as it likes."""
        wanted = (node, index, guards)
        stack = [wanted]
        while stack:
            key = stack[-1]
            try:
                if key not in self.known:
                    self.known[key] = self._make(*key)
                stack.pop()
            except _Missing as missing:
                stack.append(missing.key)
        return self.known[wanted]

    def of(self, x: Any, index: Index, guards: tuple[Guard, ...]) -> Expression:
        """The value of an operand at an index: computed here, or loaded."""
        block = self.block
        x = block.resolve(x)
        if not isinstance(x, Node):
            return self._constant(np.asarray(x), index, guards)
        group = block.group_of.get(x)
        here = group is self.group
        lazy = group is None and x not in block.views
        if here or lazy:
            if (x, index, guards) not in self.known:
                raise _Missing((x, index, guards))
            return self.known[x, index, guards]
        return self._load(block.require(x), index, guards)

    def _load(self, view: Any, index: Index, guards: tuple[Guard, ...]) -> Expression:
        key = (view.buffer, view.address(index), guards)
        if key not in self.known:
            self.known[key] = Load(view.buffer.dtype, *key)
        return self.known[key]

    def _constant(self, array: Any, index: Index, guards: tuple[Guard, ...]) -> Expression:
        if array.size == 1:
            value = array.reshape(())[()]
            key = (array.dtype, value.tobytes())
            if key not in self.constants:
                self.constants[key] = Const(array.dtype, value)
            return self.constants[key]
        return self._load(self.block.constant(array), index, guards)

    def _make(self, node: Node, index: Index, guards: tuple[Guard, ...]) -> Expression:
        inputs, dtype = self.block.inputs(node), node.type.dtype
        if node is self.group.anchor:
            return Accumulated(dtype)
        if node.primitive is LINK:
            return self.of(inputs[0], index, guards)
        kind = reading.kind(node)
        if kind is Kind.MAP:
            return Apply(dtype, node, tuple(self.of(x, index, guards) for x in inputs))
        if kind is Kind.READ:
            return self.of(inputs[0], reading.read_index(node, index), guards)
        if kind is Kind.PAD:
            inner, more = reading.pad_index(node, index)
            x = self.of(inputs[0], inner, guards + more)
            return x if isinstance(x, Load) or not more else Where(dtype, more, x)
        if kind is Kind.GATHER:
            return self._gather(node, index, guards)
        if kind is Kind.RANDOM:
            return self._random(node, index, guards)
        assert kind is Kind.REDUCE, node
        if node.primitive is CONTRACT:
            return self._sum_of_products(node, index, guards)
        key = (node, index, guards)
        if key not in self.loops:
            self.loops[key] = reading.summed_index(node, index, self.block.symbols)
        inner, loops = self.loops[key]
        if not loops:  # a sum over nothing
            return self.of(inputs[0], inner, guards)
        return Reduce(dtype, node, node.name, tuple(loops), self.of(inputs[0], inner, guards))

    def _gather(self, node: Node, index: Index, guards: tuple[Guard, ...]) -> Expression:
        map = node.params["map"]  # type: ignore[index]
        x, *tables = self.block.inputs(node)
        values = {p.terms[0][0]: i for p, i in zip(map.writes, index, strict=True)}
        loaders = [lambda at_, t=t: self.of(t, at_, guards) for t in tables]
        view = self.block.require(x)
        address, dynamic = reading.gather_index(map.reads, values, map.in_shape, view, loaders)
        return Load(node.type.dtype, view.buffer, address, guards, dynamic)

    def _random(self, node: Node, index: Index, guards: tuple[Guard, ...]) -> Expression:
        shape = node.params["shape"]  # type: ignore[index]
        lead = index[: len(index) - len(shape)]
        words = [self.of(node.inputs[0], (*lead, Affine((), k)), guards) for k in (0, 1)]
        position = Affine()
        for i, stride in zip(index[len(lead) :], contiguous(shape), strict=True):
            position = position.plus(i, stride)
        return Random(node.type.dtype, (words[0], words[1]), position)

    def _sum_of_products(self, node: Node, index: Index, guards: tuple[Guard, ...]) -> Expression:
        """A contraction of integers: a sum like any other."""
        first, second, out = parse(node.params["spec"])  # type: ignore[index]
        x, y = self.block.inputs(node)
        key = (node, index, guards)
        if key not in self.loops:
            place, loops = dict(zip(out, index, strict=True)), []
            for letter, n in zip(first + second, _shape(x) + _shape(y), strict=True):
                if letter not in place:
                    symbol = next(self.block.symbols)
                    loops.append((symbol, n))
                    place[letter] = at(symbol)
            self.loops[key] = place, loops
        place, loops = self.loops[key]
        left = self.of(x, tuple(place[c] for c in first), guards)
        right = self.of(y, tuple(place[c] for c in second), guards)
        product = Apply(node.type.dtype, TIMES, (left, right))
        return Reduce(node.type.dtype, node, "sum", tuple(loops), product)

    def product(
        self, node: Node, loops: list[tuple[int, int]], stores: list[Store], nodes: Sequence[Node]
    ) -> Product:
        """The kernel of a contraction with these stores as its epilogue."""
        first, second, out = parse(node.params["spec"])  # type: ignore[index]
        x, y = self.block.inputs(node)
        left, right = self.block.require(x), self.block.require(y)
        of_left = dict(zip(first, left.strides, strict=True))
        of_right = dict(zip(second, right.strides, strict=True))
        sizes = dict(zip(first + second, _shape(x) + _shape(y), strict=True))
        strides = [(of_left.get(c, 0), of_right.get(c, 0)) for c in out]
        inner = [(sizes[c], of_left[c], of_right.get(c, 0)) for c in first if c not in out]
        return Product(
            list(nodes), first=left, second=right, loops=loops, strides=strides, inner=inner,
            stores=stores, dtype=node.type.dtype,
        )  # fmt: skip


def _shape(x: Any) -> tuple[int, ...]:
    return x.type.shape if isinstance(x, Node) else np.shape(x)


def _times() -> Node:
    from ..core.types import ArrayType, int64
    from ..ops.arithmetic import multiply
    from ..ops.tracing import trace

    graph, _ = trace(multiply, [ArrayType((), int64)] * 2)
    return graph.nodes[0]


TIMES = _times()
"""The gate of a product of integers."""

__all__ = ["Expressions"]
