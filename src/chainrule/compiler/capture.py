"""What a function does for arguments of certain shapes: its graph, and what it takes from outside.

The function is run once on traced Tensors. What it reads and assigns outside of its arguments is
captured: variables, gradients that were there, constant arrays. What Python itself reads (globals,
attributes of modules) is a part of the program, so it is watched (surroundings.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import (
    CellType,
    CoroutineType,
    FunctionType,
    GeneratorType,
    MethodType,
    ModuleType,
)  # fmt: skip
from typing import Any

import numpy as np
import optree

from ..core.context import context
from ..core.graph import Graph
from ..core.node import Node, next_serial, topological
from ..core.types import FLOATS, ArrayType, TupleType, float64, int64
from ..errors import TraceError
from ..ops.dispatch import to_tensor
from ..ops.number import TracedNumber
from ..ops.tensor import Array, Tensor
from ..ops.tracing import LOST, Trace, by_reference
from .surroundings import Surroundings, alike

NUMBERS = {float: ArrayType((), float64), int: ArrayType((), int64)}


class Given:
    """A leaf of the arguments: an array (or Tensor), a number, or a value that is part of the key.

    Two are equal if the same compiled code serves both.
    """

    __slots__ = ("depends", "type", "value")

    def __init__(self, type: Any, value: Any = None, depends: bool = False) -> None:
        self.type, self.value, self.depends = type, value, depends

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Given) or (self.type, self.depends) != (other.type, other.depends):
            return False
        return alike(self.value, other.value)

    def __hash__(self) -> int:
        return hash((self.type, self.depends, self.value))

    def differs(self, other: Given) -> str:
        """In what it differs from another, in words."""
        if isinstance(self.type, ArrayType) and isinstance(other.type, ArrayType):
            if self.type.shape != other.type.shape:
                return "shape"
            return "dtype" if self.type.dtype != other.type.dtype else "dependence on variables"
        return "kind" if self.type != other.type else "value"

    def __repr__(self) -> str:
        if self.type is None:
            return f"{self.value!r:.40}"
        return str(self.type) if isinstance(self.type, ArrayType) else self.type.__name__


@dataclass
class Result:
    """What a function returned: `plan` says for each leaf what stands there.

    "array" and "number" take the next output of the graph; others are the value itself, in a tuple.
    """

    structure: Any
    plan: list[Any]

    def build(self, outputs: list[Any]) -> Any:
        """The container, around the outputs as Tensors."""
        if self.structure is None:
            return outputs[0]
        rest = iter(outputs)
        leaves = [
            next(rest) if x == "array" else next(rest).item() if x == "number" else x[0]
            for x in self.plan
        ]
        return optree.tree_unflatten(self.structure, leaves)


@dataclass
class Captured:
    """A traced function.

    `graph.captured` lists `variables`, then those that stand for the gradients of `entered`, then
    constants. `graph.outputs` lists what the result needs, then new gradients of `added`.
    """

    graph: Graph
    result: Result
    variables: list[Tensor]
    entered: list[Tensor]
    constants: list[Array]
    gradients: list[tuple[Tensor, bool]]
    """Tensors whose gradient was read before it was set, and whether there was one."""
    added: list[Tensor]
    cleared: list[Tensor]
    """Those that have no gradient afterwards, and may have had one before."""
    differentiable: bool
    """Whether gradients of the result could be wanted: it is recorded, and makes none itself."""
    surroundings: Surroundings

    def dependent(self, given: Sequence[Given]) -> list[bool]:
        """Of each output whether it depends, in eager, on a variable outside of the function."""
        graph = self.graph
        if not self.differentiable:
            return [False for _ in graph.outputs]
        kinds = [g for g in given if g.type is not None]
        live: set[Any] = {n for n, g in zip(graph.inputs, kinds, strict=True) if g.depends}
        live.update(leaf for _, leaf in graph.captured[: len(self.variables)])
        for node in graph.nodes:
            kind: Any = node.type
            floating = isinstance(kind, TupleType) or kind.dtype.char in FLOATS
            through = floating and node.primitive.differentiable  # type: ignore[union-attr]
            if through and any(isinstance(x, Node) and x in live for x in node.inputs):
                live.add(node)
        return [isinstance(x, Node) and x in live for x in graph.outputs]


def capture(function: Callable[..., Any], leaves: Sequence[Any], given: Sequence[Given],
            structure: Any, names: Sequence[str], recording: bool) -> Captured:  # fmt: skip
    """Trace a function; nothing outside has changed afterwards, also if it raises."""
    start = next_serial()
    result, places = _record(function, leaves, given, structure, names, recording, start)
    _sort(result, places, start)  # all else that held arrays is gone by now
    return result


def _record(function: Callable[..., Any], leaves: Sequence[Any], given: Sequence[Given],
            structure: Any, names: Sequence[str], recording: bool, start: int
            ) -> tuple[Captured, dict[int, Tensor]]:  # fmt: skip
    """The trace, and of which Tensor a captured one is the gradient."""
    trace = Trace(compiled=True)
    fixed = [
        (x.value if isinstance(x, Given) else x, name)
        for x, kind, name in zip(leaves, given, names, strict=True)
        if kind.type is None
    ]
    surroundings = Surroundings(function, fixed)
    with context(trace=trace, recording=recording, scope=()):
        handles: list[Any] = []
        inputs: list[Node] = []
        for leaf, kind, name in zip(leaves, given, names, strict=True):
            if kind.type is None:
                handles.append(leaf.value if isinstance(leaf, Given) else leaf)
                continue
            number = NUMBERS.get(kind.type)
            x = trace.input(number or kind.type)
            inputs.append(x._node)  # type: ignore[arg-type]
            if kind.depends:
                trace.arguments[x] = name
            handles.append(TracedNumber(x, name) if number else x)
        args, kwargs = optree.tree_unflatten(structure, handles)
        returned = function(*args, **kwargs)
        found, shape = optree.tree_flatten(returned, namespace="chainrule")
        plan: list[Any] = []
        outputs: list[Any] = []
        for leaf in found:
            if isinstance(leaf, TracedNumber):
                plan.append("number")
                outputs.append(trace.lift(leaf.exact))
            elif isinstance(leaf, (Tensor, np.ndarray, np.generic)):
                plan.append("array")
                outputs.append(trace.lift(to_tensor(leaf)))
            elif _holds_traced(leaf):
                raise TraceError(
                    f"the function returns a {type(leaf).__name__}, which holds Tensors that exist "
                    "only while it is traced: return arrays in tuples, lists, dicts or Modules (of "
                    "a Jacobian todense(), of a generator the list)"
                )
            else:
                plan.append((leaf,))
        single = plan == ["array"] and isinstance(returned, (Tensor, np.ndarray, np.generic))
        gradients = [(x, held is not None) for x, held in trace.entered.items() if outer(x)]
        added, cleared = [], []
        for x, g in trace.gradients.items():
            if outer(x):
                held = trace.entered.get(x)
                if held is None and x in trace.entered:
                    continue  # there is none when the code is called, and so it stays
                if held is None or g is None or g is LOST:
                    cleared.append(x)
                elif not _is_entered(g, held, trace):
                    added.append(x)
                    outputs.append(trace.lift(g))
    assigned = [(v, node) for v, node in trace.assigned.items() if _before(v, start)]
    surroundings.settle(trace.modules)
    graph = Graph.of(outputs, inputs, list(trace.captured.values()), assigned)
    result = Captured(
        graph, Result(None if single else shape, plan), [], [], [], gradients, added, cleared,
        recording and not trace.reached, surroundings,
    )  # fmt: skip
    return result, {id(held): x for x, held in trace.entered.items() if held is not None}


def _holds_traced(value: Any) -> bool:
    """Whether a value of the program holds a traced Tensor, or makes some when it is used."""
    stack, seen = [value], dict[int, Any]()
    while stack:
        x = stack.pop()
        if id(x) in seen or isinstance(x, (type, ModuleType)):
            continue
        seen[id(x)] = x
        if isinstance(x, (TracedNumber, GeneratorType, CoroutineType, map, filter, zip)):
            return True
        if isinstance(x, Tensor):
            if x._value is None:
                return True
        elif isinstance(x, (list, tuple, set, frozenset, deque)):
            stack += x
        elif isinstance(x, Mapping):
            stack += x.values()
        elif isinstance(x, FunctionType):
            stack += (c.cell_contents for c in x.__closure__ or () if c != CellType())
        elif isinstance(x, MethodType):
            stack.append(x.__self__)
        elif isinstance(x, partial):
            stack += (x.func, x.args, x.keywords)
        else:
            stack += getattr(x, "__dict__", {}).values()
            stack += (getattr(x, name, None) for name in getattr(type(x), "__slots__", ()))
    return False


def outer(x: Tensor) -> bool:
    """Whether a Tensor is of the program around the trace."""
    return x._value is not None


def _before(x: Tensor, start: int) -> bool:
    """Whether a variable was there before the trace began."""
    return x._node is not None and x._node.serial < start


def _is_entered(gradient: Tensor, held: Tensor, trace: Trace) -> bool:
    """Whether a gradient is the one that was there, unchanged."""
    node = gradient._node
    return (
        node is not None
        and node.name == "stop_gradient"
        and (node.inputs[0] is trace.captured[held][1])
    )


def _sort(result: Captured, places: dict[int, Tensor], start: int) -> None:
    """Bring what was captured, as far as it is used, in the order that `Captured` names."""
    graph = result.graph
    roots = [x for x in (*graph.outputs, *(v for _, v in graph.assignments)) if isinstance(x, Node)]
    used = set(topological(roots))
    pairs = [(x, leaf) for x, leaf in graph.captured if leaf in used]
    gradients = [(x, leaf) for x, leaf in pairs if id(x) in places]
    others = [(x, leaf) for x, leaf in pairs if id(x) not in places]
    variables = [(x, leaf) for x, leaf in others if _before(x, start)]
    made = [(x, leaf) for x, leaf in others if not _before(x, start)]  # by the function itself
    constants = made + by_reference(graph)
    graph.captured[:] = variables + gradients + constants
    result.variables = [x for x, _ in variables]
    result.entered = [places[id(x)] for x, _ in gradients]
    result.constants = [x._value for x, _ in constants]
