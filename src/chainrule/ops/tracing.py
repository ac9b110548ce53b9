"""Tracing: running a program on types instead of values, which records a Graph.

While a trace is active every operation becomes a node of it, also those on constants. A Tensor
from outside (a variable, a constant's array, a Tensor of an outer trace) is captured by reference.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from sys import getrefcount
from typing import Any
from weakref import ref

import numpy as np

from ..core.context import CONTEXT, context
from ..core.graph import Graph
from ..core.indexmap import broadcast_map
from ..core.node import Node, caller
from ..core.primitive import ITEM, Elementwise, Params, Primitive
from ..core.types import ArrayType, TupleType, broadcast_shapes
from ..errors import DTypeError, GradientError, ShapeError, TraceError
from .dispatch import BROADCAST, CAST, STOP_GRADIENT, stop_gradient, to_tensor
from .number import TracedNumber
from .tensor import Array, ArrayLike, Tensor, constant, program_line, variable

LOST = object()


class Severed(Primitive):
    """The result of a compiled function that depends on variables: no derivative goes through."""

    joint = True

    def pull_all(self, xp: Any, upstream: Any, out: Any, inputs: Sequence[Any], params: Params,
                 wanted: Sequence[bool]) -> Sequence[Any]:  # fmt: skip
        raise GradientError(
            "a gradient reaches the result of a compiled function, which has no derivative: take "
            "the gradient inside (compile the function that calls backward or cr.grad), or use "
            "the function as it was, f.__wrapped__"
        )


SEVERED = Severed()


class Trace:
    """The nodes being recorded, the Tensors captured from outside, the assignments made.

    In a `pure` trace nothing outside may change: no `assign`, no `backward`. A `nested` trace is
    that of the body of a gate: assignments are taken along, gradients are forgotten at its end.
    A `compiled` one, or one inside of it, stands for later calls, too: it reads no values.

    Gradients are kept here and never on the Tensors, so nothing traced is left behind.
    """

    def __init__(self, pure: bool = False, nested: bool = False, compiled: bool = False) -> None:
        outer = CONTEXT.get().trace
        self.pure, self.nested = pure, nested
        self.compiled = compiled or (outer is not None and outer.compiled)
        self.outer = outer
        self.gradients: dict[Tensor, Any] = {}
        """What backward has left on Tensors so far; LOST for what it left in the body of a gate."""
        self.entered: dict[Tensor, Tensor | None] = {}
        """Of Tensors whose gradient was read before it was set: a variable in its place."""
        self.reached = False
        """Whether backward was called."""
        self.arguments: dict[Tensor, str] = {} if outer is None else outer.arguments
        """Inputs that stand for variables (or what depends on some), by name."""
        self.modules: dict[Any, dict[str, Any]] = {} if outer is None else outer.modules
        """The modules called, with the attributes they had."""
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
        if self.compiled and self.outer is None and x._value is not None and not x.is_variable:
            raise TraceError(
                "a compiled function uses a Tensor that was computed outside of it from a variable "
                f"({program_line()}): compute it inside, pass it as an argument, or cut the path "
                "with .detach()"
            )
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
        dtype = dtypes[-1] if takes else None
        try:
            nodes = [self.lift(x if hasattr(x, "dtype") else _number(x, dtype)) for x in operands]
        except OverflowError as error:
            raise DTypeError(f"{primitive.name}: {error}; cast the array first") from None
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

    def gradient(self, x: Tensor) -> Tensor | None:
        """The gradient of a Tensor: made in the trace, or there before it."""
        if x not in self.gradients:
            before = getattr(x, "_grad", None) if self.outer is None else self.outer.gradient(x)
            self.entered[x] = None
            if before is not None and self.compiled and self.outer is None:
                # an input of the graph: the array that is there when the function is called
                self.entered[x] = variable(before._value)
                before = stop_gradient(self.entered[x])
            if self.nested:
                return before
            self.gradients[x] = before
        if self.gradients[x] is LOST:
            raise TraceError(
                "gradients set inside the function of scan, cond or remat stay inside when it is "
                f"compiled ({program_line()}): use them there, or return them"
            )
        return self.gradients[x]  # type: ignore[no-any-return]

    def set_gradient(self, x: Tensor, gradient: Tensor | None) -> None:
        """Set the gradient of a Tensor, for as long as the trace lasts."""
        if self.nested and x in self.entered:
            raise TraceError(
                "a gradient from outside would be added to in each step of scan (or inside cond "
                f"or remat): call zero_grad() there first ({program_line()})"
            )
        if gradient is not None and x in self.arguments:
            raise TraceError(
                f"backward reaches {self.arguments[x]}, a variable that was passed as an argument: "
                f"its .grad could not be set ({program_line()}). Close over it, or use cr.grad"
            )
        self.gradients[x] = gradient

    def start_backward(self) -> None:
        """Refuse `backward` where gradients would be left outside."""
        if self.pure or (self.nested and self.outer is None):
            place = "vmap" if self.pure else "the function of remat"
            raise TraceError(
                f"backward inside {place} would leave gradients outside: use cr.grad there"
            )
        self.reached = True

    def called(self, module: Any) -> None:
        """Note a module that is called, and what it holds at that time."""
        if self.compiled and module not in self.modules:
            self.modules[module] = dict(vars(module))

    def close(self) -> None:
        """The end of the body of a gate: what backward left in it is lost."""
        if self.outer is None:
            return
        self.outer.reached |= self.reached
        for x in self.gradients:
            if x.is_variable:
                self.outer.gradients[x] = LOST

    def assign(self, variable: Tensor, value: ArrayLike) -> None:
        """Record that a variable has a new value from here on."""
        if self.pure:
            raise TraceError("a variable is assigned inside vmap: do it outside")
        new = to_tensor(_number(value, variable.dtype))
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


def _number(x: Any, dtype: Any) -> Any:
    """A number as an array or Tensor of a dtype (None: that of Python); others as they are.

    A whole number beyond 64 bits is compared as an infinite one: no integer reaches it.
    """
    if isinstance(x, TracedNumber):
        return x.astype(x.exact.dtype if dtype is None else dtype)
    if not isinstance(x, (bool, int, float)):
        return x
    if dtype is None and isinstance(x, int) and not -(2**63) <= x < 2**64:
        x = math.copysign(math.inf, x)
    return np.asarray(x, dtype)


def by_reference(graph: Graph) -> list[tuple[Tensor, Node]]:
    """Take constants out of a graph that the user's program still holds, and may write to.

    Each gets a leaf in place of the array; returned are the arrays, as Tensors, with their leaves.
    An array is held if there are more references to it, or to the array it is a view of, than the
    graph has. What the trace made itself stays a constant, which can be computed with beforehand.
    """
    known: Counter[int] = Counter()  # the references that the graph has
    arrays: dict[int, Array] = {}
    for x in (*(x for node in graph.nodes for x in node.inputs), *graph.outputs):
        if isinstance(x, np.ndarray):
            known[id(x)] += 1
            arrays[id(x)] = x
    roots = {key: _owner(y) for key, y in arrays.items()}
    known.update(id(y) for key, y in roots.items() if key != id(y))
    every = {**arrays, **{id(y): y for y in roots.values()}, 0: np.empty(0)}
    known.update(arrays.keys())  # those of these tables
    known.update(map(id, roots.values()))
    x = None
    found = {key: getrefcount(y) - known[key] for key, y in every.items()}
    leaves = {
        key: (constant(y), Node(None, (), None, None, ArrayType(y.shape, y.dtype)))
        for key, y in arrays.items()
        if found[key] > found[0] or found[id(roots[key])] > found[0] or roots[key].base is not None
    }

    def place(x: Any) -> Any:
        return leaves[id(x)][1] if id(x) in leaves else x

    for node in graph.nodes:
        node.inputs = tuple(map(place, node.inputs))
    graph.outputs[:] = map(place, graph.outputs)
    return list(leaves.values())


def _owner(x: Array) -> Array:
    """The array whose memory this one is a view of."""
    while isinstance(x.base, np.ndarray):
        x = x.base
    return x


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
