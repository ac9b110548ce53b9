"""The gates of a compiled function, with the kernel that computes each.

The function's graph as it was traced is run once more gate by gate, by the rules of eager mode, for
the arguments given: nothing outside changes. So all that explains an eager graph explains it, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any
from weakref import ref

import numpy as np

from .. import ops
from ..compiler.describe import si
from ..compiler.executable import every
from ..core.context import context
from ..core.node import Node, topological
from ..core.primitive import Primitive
from ..core.types import FLOATS, TupleType
from ..errors import GradientError
from ..ops.control import COND
from ..ops.loop import SCAN
from ..ops.tensor import Array, Tensor, constant
from .gates import Explanation, examine
from .names import from_caller


def _on_tensors(primitive: Primitive) -> Primitive:
    """A loop or a branch as one gate, as traces have it: its rules run operations, not NumPy."""
    made = copy(primitive)
    rule = primitive.pull_all

    def pull_all(xp: Any, upstream: Any, out: Any, inputs: Sequence[Any], params: Any,
                 wanted: Sequence[bool]) -> Sequence[Any]:  # fmt: skip
        with context(recording=False):
            found = rule(ops, upstream, out, inputs, params, wanted)
        return [None if g is None else np.asarray(g) for g in found]

    made.pull_all = pull_all  # type: ignore[method-assign]
    return made


WHOLE: dict[Primitive, Primitive] = {p: _on_tensors(p) for p in (SCAN, COND)}


def explain(
    special: Any, arrays: Sequence[Array], given: Mapping[str, Any], result: int = 0
) -> Explanation:
    """The Explanation of one result of a specialisation, for the arrays of its arguments.

    `given` are the arguments by name: those that are arrays are called so.
    Its `kernels` say for every gate which kernel computes it, or what became of it.
    """
    captured = special.captured
    graph = captured.graph
    values: dict[Node, Any] = dict(zip(graph.inputs, arrays, strict=True))
    for tensor, leaf in graph.captured:
        values[leaf] = tensor._value
    for tensor in captured.variables:
        leaf = next(leaf for x, leaf in graph.captured if x is tensor)
        values[leaf] = _leaf(tensor)
    chosen = graph.outputs[: special.results][result : result + 1]
    needed = set(topological(x for x in chosen if isinstance(x, Node)))
    origins: dict[Node, Node] = {}
    with np.errstate(all="ignore"):
        for node in (n for n in graph.nodes if n in needed):
            values[node] = found = _run(node, [_value(x, values) for x in node.inputs])
            if isinstance(found, Node):
                origins[found] = node
    root = _value(chosen[0], values) if chosen else None
    if not isinstance(root, Node):
        raise GradientError(
            f"result {result} of this compiled function depends on no variable through gates that "
            "have gradients: its arguments count as data, variables are the Parameters and Tensors "
            f"that it uses besides; it has {special.results} result{'s' * (special.results != 1)}"
        )
    tensor = constant(root.data)
    tensor._node = root
    root.handle = ref(tensor)
    held = {**given, **{k: v for k, v in from_caller().items() if k not in given}}
    explained = examine(
        tensor, {k: v for k, v in held.items() if isinstance(v, (Tensor, np.ndarray))}
    )
    mine = {g.node: origins[g.node] for g in explained.gates}
    return replace(explained, kernels=_kernels(special.executable, mine))


def _leaf(variable: Tensor) -> Node:
    """A leaf that stands for a variable, and is named as it is."""
    node = Node(None, (), None, variable._value)
    node.handle = ref(variable)
    return node


def _value(x: Any, values: dict[Node, Any]) -> Any:
    return values[x] if isinstance(x, Node) else x


def _run(node: Node, inputs: Sequence[Any]) -> Any:
    """The gate as eager records it: a node if a variable is behind it and it has a gradient."""
    primitive = node.primitive
    assert primitive is not None
    given = [x.value if isinstance(x, Node) else x for x in inputs]
    params: Any = node.params or {}
    kind: Any = node.type
    if isinstance(kind, TupleType):  # derivatives may read what the traced graph left away
        params = primitive.needed(params, frozenset(range(len(kind.items))))
    out = primitive.forward(*given, **params)
    if not isinstance(out, tuple):
        out = np.asarray(out)
    recorded = any(isinstance(x, Node) for x in inputs) and primitive.differentiable
    if not recorded or (not isinstance(out, tuple) and out.dtype.char not in FLOATS):
        return out
    primitive = WHOLE.get(primitive, primitive)
    return Node(primitive, tuple(inputs), params, out, None, node.where, node.scope)


def _kernels(executable: Any, origins: dict[Node, Node]) -> dict[Node, str]:
    """What computes each gate, as "kernel 3: contract, relu (2.1 Mflop)", or what became of it."""
    kernels = every(executable.program.kernels)
    by: dict[Node, str] = {}
    for place, kernel in enumerate(kernels):
        gates = ", ".join(dict.fromkeys(n.name for n in kernel.nodes))
        for n in kernel.nodes:
            by.setdefault(n, f"kernel {place}: {gates} ({si(kernel.flops, 'flop')})")
    readers: dict[Node, str] = {}
    for n in reversed(executable.graph.nodes):  # what only moves entries is read through
        said = by.get(n) or readers.get(n)
        for x in n.inputs:
            if isinstance(x, Node) and said:
                readers[x] = said
    found: dict[Node, str] = {}
    for recorded, traced in origins.items():
        now = executable.standing.get(traced, traced)
        if not isinstance(now, Node):
            found[recorded] = "a constant, computed while compiling"
        elif now in by:
            found[recorded] = by[now]
        elif now.primitive is None:
            found[recorded] = "nothing to compute: its input as it stands"
        elif now in readers:
            found[recorded] = f"index arithmetic in {readers[now]}"
        else:
            found[recorded] = "nothing: no result needs it"
    return found
