"""vmap: a function of one example, applied to a batch at once.

The function is traced once on the types of one example; each gate is then applied with one more
leading axis, by its kind's batching rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import optree

from .. import ops
from ..core.graph import Graph
from ..core.node import Node
from ..core.types import ArrayType, normalize_axis
from ..errors import AxisError, ShapeError
from ..ops.dispatch import broadcast_to, itself, to_tensor
from ..ops.shaping import moveaxis
from ..ops.tensor import Tensor
from ..ops.tracing import trace
from .containers import LEAVES


class Batch(NamedTuple):
    """A value, and whether it has the batch axis (in front)."""

    value: Any
    batched: bool


def vmap(
    function: Callable[..., Any], in_axes: Any = 0, out_axes: int | None = 0
) -> Callable[..., Any]:
    """The function over a batch: along axis `in_axes` of each argument, stacked along `out_axes`.

    `in_axes` is an axis for all arguments, or a tuple with one for each (None: the argument is
    the same for all examples). The function may not branch on values.

    >>> import chainrule as cr
    >>> cr.vmap(lambda x: x.sum())(cr.asarray([[1.0, 2.0], [3.0, 4.0]]))
    asarray([3., 7.])
    """

    def batched(*args: Any, **kwargs: Any) -> Any:
        axes = _spread_axes(in_axes, args)
        everything: Any = args
        leaves, structure = optree.tree_flatten(everything, namespace="chainrule")
        n, types, batches = None, [], []
        for leaf, axis in zip(leaves, axes, strict=True):
            if axis is None:
                continue
            if not isinstance(leaf, LEAVES):
                raise ShapeError(f"vmap cannot batch over {type(leaf).__name__}: give it axis None")
            x = to_tensor(leaf)
            if not x.ndim:
                raise ShapeError(
                    "vmap over a 0-d argument: it has no axis to go along (axis None?)"
                )
            x = moveaxis(x, normalize_axis(axis, x.ndim, "in_axes"), 0)
            if n is not None and x.shape[0] != n:
                raise ShapeError(
                    f"vmap: batch sizes differ, {n} and {x.shape[0]} (in_axes={in_axes})"
                )
            n = x.shape[0]
            types.append(ArrayType(x.shape[1:], x.dtype))
            batches.append(x)
        if n is None:
            raise AxisError(f"vmap needs an argument to batch over, in_axes={in_axes} has none")

        def run(*inputs: Tensor) -> Any:
            rest = iter(inputs)
            full = [
                leaf if axis is None else next(rest)
                for leaf, axis in zip(leaves, axes, strict=True)
            ]
            return function(*optree.tree_unflatten(structure, full), **kwargs)

        graph, result = trace(run, types, pure=True)
        values: dict[Node, Any] = {
            node: Batch(x, True) for node, x in zip(graph.inputs, batches, strict=True)
        }
        for handle, node in graph.captured:
            values[node] = Batch(handle, False)
        outputs, _ = graph.run(values, lambda node, operands: apply_batch(node, operands, n))
        return optree.tree_unflatten(result, [_place(o, n, out_axes) for o in outputs])

    return batched


def apply_batch(node: Node, operands: list[Any], n: int) -> Batch:
    """A gate on operands some of which are batched."""
    pairs = [o if isinstance(o, Batch) else Batch(o, False) for o in operands]
    values = [p.value for p in pairs]
    params = node.params or {}
    assert node.primitive is not None
    if node.name == "item":
        return Batch(values[0][params["index"]], pairs[0].batched)
    if not any(p.batched for p in pairs):
        return Batch(node.primitive.replay(ops, values, params), False)
    return Batch(node.primitive.batch(ops, n, values, [p.batched for p in pairs], params), True)


def _place(output: Any, n: int, out_axes: int | None) -> Tensor:
    pair = output if isinstance(output, Batch) else Batch(output, False)
    x = to_tensor(pair.value)
    if out_axes is None:
        if pair.batched:
            raise AxisError("out_axes=None for a result that differs between the examples")
        return itself(x)
    x = full(pair, n)
    return moveaxis(x, 0, normalize_axis(out_axes, x.ndim, "out_axes"))


def full(x: Any, n: int) -> Tensor:
    """A value with the batch axis: repeated if it has none."""
    pair = x if isinstance(x, Batch) else Batch(x, False)
    value = to_tensor(pair.value)
    return value if pair.batched else broadcast_to(value, (n, *value.shape))


def replay_batch(graph: Graph, inputs: Sequence[Any], batched: Sequence[bool], n: int
                 ) -> list[Tensor]:  # fmt: skip
    """The outputs of a closed graph on inputs some of which are batched; all outputs are."""
    leaves = {node: Batch(x, b) for node, x, b in zip(graph.inputs, inputs, batched, strict=True)}
    outputs, _ = graph.run(leaves, lambda node, operands: apply_batch(node, operands, n))
    return [full(o, n) for o in outputs]


def _spread_axes(in_axes: Any, args: tuple[Any, ...]) -> list[Any]:
    """One axis (or None) for each leaf of the arguments."""
    if in_axes is None or isinstance(in_axes, int):
        per_argument: Any = (in_axes,) * len(args)
    else:
        per_argument = tuple(in_axes)
        if len(per_argument) != len(args):
            raise AxisError(
                f"in_axes={in_axes} names {len(per_argument)} arguments, the call has {len(args)}"
            )
    axes: list[Any] = []
    for axis, arg in zip(per_argument, args, strict=True):
        count = len(optree.tree_leaves(arg, namespace="chainrule"))
        if axis is None or isinstance(axis, int):
            axes += [axis] * count
        else:  # a container like the argument, of axes
            inner = optree.tree_leaves(axis, none_is_leaf=True, namespace="chainrule")
            if len(inner) != count:
                raise AxisError(f"in_axes {axis} does not fit an argument of {count} arrays")
            axes += inner
    return axes
