"""Graphs: nodes in order, with inputs and outputs. Printed, verified, evaluated, differentiated.

`Graph.evaluate` is the reference interpreter: what it computes is what compiled code must compute.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import GraphError
from .node import Node, topological
from .primitive import ITEM, Elementwise, LinearGate
from .types import ArrayType, TupleType


@dataclass
class Graph:
    """inputs and captured variables → nodes → outputs, and the values assigned to variables.

    Constants are arrays (by reference) among the inputs of nodes. `captured` pairs each Tensor
    from outside with the leaf that stands for it; `assignments` pairs variables with the node or
    array that is their new value.
    """

    inputs: list[Node]
    nodes: list[Node]
    outputs: list[Any]
    captured: list[tuple[Any, Node]] = field(default_factory=list)
    assignments: list[tuple[Any, Any]] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        outputs: Sequence[Any],
        inputs: Sequence[Node] = (),
        captured: Sequence[tuple[Any, Node]] = (),
        assignments: Sequence[tuple[Any, Any]] = (),
    ) -> Graph:
        """The graph of all that the outputs and assignments depend on."""
        roots = [o for o in outputs if isinstance(o, Node)]
        roots += [o for _, o in assignments if isinstance(o, Node)]
        known = {*inputs, *(leaf for _, leaf in captured)}
        order = topological(roots, known)
        leaves = [n for n in order if n.primitive is None and n not in known]
        captured = [*captured, *((n.handle() if n.handle else None, n) for n in leaves)]
        nodes = [n for n in order if n.primitive is not None and n not in known]
        used: dict[Node, set[int]] = {}
        for n in nodes:
            if n.primitive is ITEM:
                used.setdefault(n.inputs[0], set()).add(n.params["index"])  # type: ignore[index]
        for n, places in used.items():
            n.params = n.primitive.needed(n.params or {}, frozenset(places))  # type: ignore[union-attr]
        return cls(list(inputs), nodes, list(outputs), captured, list(assignments))

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    @property
    def leaves(self) -> list[Node]:
        """The inputs, then the leaves of the captured variables."""
        return self.inputs + [leaf for _, leaf in self.captured]

    # -- evaluating ---------------------------------------------------------------------------

    def run(
        self, leaves: dict[Node, Any], apply: Callable[[Node, list[Any]], Any]
    ) -> tuple[list[Any], list[Any]]:
        """Outputs and assigned values, where apply(node, operands) gives each node's value."""
        values = dict(leaves)
        results = [*self.outputs, *(v for _, v in self.assignments)]
        uses = Counter(x for x in results if isinstance(x, Node))
        uses.update(x for node in self.nodes for x in node.inputs if isinstance(x, Node))
        for node in self.nodes:
            operands = [values[x] if isinstance(x, Node) else x for x in node.inputs]
            values[node] = apply(node, operands)
            for x in node.inputs:  # a value is let go after its last use
                if isinstance(x, Node):
                    uses[x] -= 1
                    if not uses[x]:
                        del values[x]

        def read(x: Any) -> Any:
            return values[x] if isinstance(x, Node) else x

        return [read(o) for o in self.outputs], [read(v) for _, v in self.assignments]

    def evaluate(self, *arrays: Any) -> list[Any]:
        """The outputs for these input arrays, in NumPy, gate by gate: the reference interpreter."""
        if len(arrays) != len(self.inputs):
            raise GraphError(f"the graph has {len(self.inputs)} inputs, received {len(arrays)}")
        leaves: dict[Node, Any] = dict(zip(self.inputs, map(np.asarray, arrays), strict=True))
        for k, (leaf, array) in enumerate(leaves.items()):
            if (array.shape, array.dtype) != leaf.type:
                raise GraphError(f"input {k} is {leaf.type}, received {array.dtype}{array.shape}")
        for handle, leaf in self.captured:
            leaves[leaf] = np.asarray(handle) if leaf.data is None else leaf.data

        def apply(node: Node, operands: list[Any]) -> Any:
            assert node.primitive is not None
            return node.primitive.forward(*operands, **(node.params or {}))

        return [np.asarray(out) for out in self.run(leaves, apply)[0]]

    # -- checking -----------------------------------------------------------------------------

    def verify(self) -> Graph:
        """Check every rule a graph keeps, and return it; the first break is a GraphError."""
        known: set[Node] = set(self.leaves)
        if len(known) != len(self.inputs) + len(self.captured):
            raise GraphError("a leaf stands twice among the inputs and captured variables")
        for node in self.nodes:
            if node.primitive is None:
                raise GraphError(f"{node!r} has no primitive and is no input")
            for x in node.inputs:
                if isinstance(x, Node) and x not in known:
                    raise GraphError(f"{node!r} uses {x!r} before it is computed")
            if node in known:
                raise GraphError(f"{node!r} stands twice")
            known.add(node)
            self._verify_types(node)
            for body in node.primitive.bodies(node.params or {}):
                body.verify()
        for out in (*self.outputs, *(v for _, v in self.assignments)):
            if isinstance(out, Node) and out not in known:
                raise GraphError(f"output {out!r} is not computed by the graph")
        return self

    def _verify_types(self, node: Node) -> None:
        assert node.primitive is not None
        types = [type_of(x, node) for x in node.inputs]
        if isinstance(node.primitive, Elementwise):
            for t in types:
                if t.shape != node.type.shape and t.shape != ():
                    # a constant operand of an eager node is broadcast by NumPy itself
                    if np.broadcast_shapes(t.shape, node.type.shape) == node.type.shape:
                        continue
                    raise GraphError(f"{node!r} has an operand of type {t}")
        params = node.params or {}
        if isinstance(node.primitive, LinearGate) and types[0].shape != params["map"].in_shape:
            raise GraphError(f"{node!r} has a map for {params['map'].in_shape}, not {types[0]}")
        if isinstance(node.primitive, Elementwise) and node.data is not None:
            types = [t._replace(shape=node.type.shape) for t in types]
        expected = node.primitive.type(*types, **params)
        if expected != node.type:
            raise GraphError(f"{node!r} should have type {expected}")

    # -- printing -----------------------------------------------------------------------------

    def names(self) -> dict[Node, str]:
        """A short name for every node, as used in the printed form."""
        result: dict[Node, str] = {}
        for k, node in enumerate(self.inputs):
            result[node] = f"x{k}"
        for k, (handle, leaf) in enumerate(self.captured):
            result[leaf] = getattr(handle, "name", "") or f"v{k}"
        for k, node in enumerate(self.nodes):
            result[node] = f"%{k}"
        return result

    def __str__(self) -> str:
        names = self.names()

        def operand(x: Any) -> str:
            if isinstance(x, Node):
                return names[x]
            array = np.asarray(x)
            return str(array[()]) if array.ndim == 0 else f"const {array.dtype}{list(array.shape)}"

        lines = ["graph(" + ", ".join(f"{names[n]}: {n.type}" for n in self.leaves) + ")"]
        for node in self.nodes:
            assert node.primitive is not None
            details = node.primitive.describe(node.params or {})
            call = f"{node.name}({', '.join(map(operand, node.inputs))})"
            where = Path(node.line).name
            kind: Any = node.type
            if isinstance(kind, TupleType) and len(kind.items) > 4:  # a loop lists all it has inside
                kind = f"{len(kind.items)} arrays"
            text = f"  {names[node]}: {kind} = {call}" + (f"  [{details}]" if details else "")
            lines.append(f"{text:<72}  # {where}" if where else text)
            for body in node.primitive.bodies(node.params or {}):
                lines += ["    " + line for line in str(body).splitlines()]
        for handle, value in self.assignments:
            lines.append(f"  {getattr(handle, 'name', '') or 'variable'} := {operand(value)}")
        lines.append("  return " + ", ".join(map(operand, self.outputs)))
        return "\n".join(lines)


def type_of(x: Any, node: Node) -> ArrayType:
    """The type of an input of a node; a Python number has the dtype of its neighbours."""
    if isinstance(x, Node):
        return x.type
    if isinstance(x, np.ndarray):
        return ArrayType(x.shape, x.dtype)
    for other in node.inputs:
        if isinstance(other, Node) and not isinstance(other.type, TupleType):
            return ArrayType((), other.type.dtype)
    return ArrayType((), np.asarray(x).dtype)
