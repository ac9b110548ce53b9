"""The gates of a compiled function, with the kernel that computes each.

The function's graph as it was traced is run once more gate by gate, by the rules of eager mode, for
the arguments given: nothing outside changes. So all that explains an eager graph explains it, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import ref

import numpy as np

from ..compiler.describe import si
from ..compiler.executable import every
from ..core.node import Node
from ..core.types import FLOATS
from ..errors import GradientError
from ..ops.tensor import Array, Tensor, constant
from .gates import Explanation, examine


def explain(special: Any, arrays: Sequence[Array], result: int = 0) -> Explanation:
    """The Explanation of one result of a specialisation, for the arrays of its arguments.

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
    origins: dict[Node, Node] = {}
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            values[node] = found = _run(node, [_value(x, values) for x in node.inputs])
            if isinstance(found, Node):
                origins[found] = node
    outputs = [_value(x, values) for x in graph.outputs[: special.results]]
    if result >= len(outputs) or not isinstance(outputs[result], Node):
        raise GradientError(
            f"result {result} of this compiled function depends on no variable through gates that "
            f"have gradients; it has {len(outputs)} result{'s' * (len(outputs) != 1)}"
        )
    root = outputs[result]
    tensor = constant(root.data)
    tensor._node = root
    root.handle = ref(tensor)
    return examine(tensor, kernels=_kernels(special.executable, origins))


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
    out = primitive.forward(*given, **(node.params or {}))
    if not isinstance(out, tuple):
        out = np.asarray(out)
    recorded = any(isinstance(x, Node) for x in inputs) and primitive.differentiable
    if not recorded or (not isinstance(out, tuple) and out.dtype.char not in FLOATS):
        return out
    return Node(primitive, tuple(inputs), node.params, out, None, node.where, node.scope)


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
