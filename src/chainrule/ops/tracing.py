"""Tracing: running a program on types instead of values, which records a Graph.

While a trace is active every operation becomes a node of it, also those on constants. A Tensor
from outside (a variable, a constant's array, a Tensor of an outer trace) is captured by reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import ref

import numpy as np

from ..core.context import CONTEXT, context
from ..core.graph import Graph
from ..core.indexmap import broadcast_map
from ..core.node import Node, caller
from ..core.primitive import ITEM, Elementwise, Params, Primitive
from ..core.types import ArrayType, TupleType, broadcast_shapes
from ..errors import ShapeError, TraceError
from .dispatch import BROADCAST, CAST, STOP_GRADIENT, to_tensor
from .tensor import ArrayLike, Tensor


class Trace:
    """The nodes being recorded, the Tensors captured from outside, the assignments made.

    In a `pure` trace nothing outside may change: no `assign`, no `backward`. A `nested` trace is
    that of the body of a gate, which takes assignments along, but no `backward`.
    """

    def __init__(self, pure: bool = False, nested: bool = False) -> None:
        self.pure, self.nested = pure, nested
        self.own: set[Node] = set()
        self.captured: dict[Any, tuple[Tensor, Node]] = {}
        self.assigned: dict[Tensor, Any] = {}

    def input(self, type: ArrayType) -> Tensor:
        """A new input of the graph."""
        return self._handle(Node(None, (), None, None, type))

    def lift(self, x: ArrayLike) -> Any:
        """The node of this trace, or the constant array, that stands for an operand."""
        if not isinstance(x, Tensor):
            return np.asarray(x)
        if x in self.assigned:
            return self.assigned[x]
        node = x._node
        if node is None:
            return x._value
        if node in self.own or (node.primitive is ITEM and node.inputs[0] in self.own):
            return node
        key = x if x.is_variable and x._value is not None else node
        if key not in self.captured:
            leaf = Node(None, (), None, None, x.type)
            leaf.handle = ref(x)
            self.captured[key] = (x, leaf)
            self.own.add(leaf)
        return self.captured[key][1]

    def bind(self, primitive: Primitive, inputs: tuple[Any, ...], params: Params) -> Any:
        """Record a gate."""
        node = self._node(primitive, tuple(map(self.lift, inputs)), params)
        if isinstance(node._type, TupleType):
            return tuple(
                self._handle(self._node(ITEM, (node,), {"index": k}))
                for k in range(len(node._type.items))
            )
        return self._handle(node)

    def elementwise(self, primitive: Elementwise, operands: Sequence[Any]) -> Tensor:
        """Record an elementwise gate with its operands broadcast and cast, explicitly."""
        dtypes = [x.dtype for x in operands if hasattr(x, "dtype")]
        # a number takes the dtype of its neighbours, except beside integers it is compared with
        takes = bool(dtypes) and (primitive.casts or dtypes[-1].kind == "f")
        nodes = [
            self.lift(x if hasattr(x, "dtype") else np.asarray(x, dtypes[-1] if takes else None))
            for x in operands
        ]
        shape = broadcast_shapes(*(n.shape for n in nodes))
        full = tuple(
            n if n.shape == shape
            else self._node(BROADCAST, (n,), {"map": broadcast_map(n.shape, shape)})
            for n in nodes
        )  # fmt: skip
        return self._handle(self._node(primitive, full, {}))

    def _node(self, primitive: Primitive, inputs: tuple[Any, ...], params: Params) -> Node:
        types = [x.type if isinstance(x, Node) else ArrayType(x.shape, x.dtype) for x in inputs]
        node = Node(
            primitive, inputs, params, None, primitive.type(*types, **params),
            caller(), CONTEXT.get().scope,
        )  # fmt: skip
        self.own.add(node)
        return node

    def assign(self, variable: Tensor, value: ArrayLike) -> None:
        """Record that a variable has a new value from here on."""
        if self.pure:
            raise TraceError("a variable is assigned inside vmap: do it outside")
        new = to_tensor(value)
        if new.shape != variable.shape:
            raise ShapeError(
                f"assign cannot change the shape: the variable has {variable.shape}, "
                f"the new value {new.shape}"
            )
        if new.dtype != variable.dtype:
            new = self.bind(CAST, (new,), {"dtype": variable.dtype})
        # the new value is a leaf for what comes after, as it is in eager
        node = self._node(STOP_GRADIENT, (self.lift(new),), {})
        node.handle = ref(variable)
        self.assigned[variable] = node

    def _handle(self, node: Node) -> Tensor:
        if node.inputs and not CONTEXT.get().recording:  # no_grad holds in traces, too
            node = self._node(STOP_GRADIENT, (node,), {})
        result = object.__new__(Tensor)
        result._value = None
        result._node = node
        node.handle = ref(result)
        self.own.add(node)
        return result


def trace(function: Any, types: Sequence[ArrayType], *, pure: bool = False) -> tuple[Graph, Any]:
    """The Graph of function(*inputs of these types), and what it returned.

    The function's result may be any container of Tensors; the graph's outputs are its leaves in
    order, as `result` (the second value) holds them.
    """
    import optree

    recording = Trace(pure)
    with context(trace=recording, recording=True):
        inputs = [recording.input(t) for t in types]
        result = function(*inputs)
        leaves, structure = optree.tree_flatten(result, namespace="chainrule")
        outputs = [recording.lift(to_tensor(leaf)) for leaf in leaves]
    graph = Graph.of(
        outputs,
        [x._node for x in inputs if x._node is not None],
        list(recording.captured.values()),
        list(recording.assigned.items()),
    )
    return graph, structure
