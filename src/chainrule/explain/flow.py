"""Local Jacobians at work on nodes: what one gate sends back, and what it sends on.

`pulled` is the backward direction, upstream × local; `pushed` the forward one, local × change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops
from ..core import bare
from ..core.context import context
from ..core.node import Node
from ..core.primitive import ITEM
from ..errors import ChainruleError
from ..ops.custom import Custom
from .forms import local_of, operands_of

MOST = 4096
"""Gates in plain NumPy with more entries are not followed forward."""


def flows(node: Node) -> bool:
    """Whether gradients go through a gate at all."""
    return node.primitive is not None and node.primitive.differentiable


def pulled(node: Node, i: int, upstream: Any) -> Any:
    """upstream × local of operand i; None where nothing comes back."""
    x, primitive = node.inputs[i], node.primitive
    assert primitive is not None
    if primitive is ITEM:
        index = node.params["index"]  # type: ignore[index]
        return tuple(
            upstream if k == index else np.zeros(d.shape, d.dtype) for k, d in enumerate(x.data)
        )
    operands = operands_of(node)
    if primitive.joint:
        wanted = [k == i for k in range(len(node.inputs))]
        return primitive.pull_all(
            bare.xp, upstream, node.data, operands, node.params or {}, wanted
        )[i]
    return local_of(node, i, operands).pull(bare.xp, upstream)


def pushed(node: Node, i: int, change: Any) -> Any:
    """local × the change of operand i; None where nothing goes on.

    Of a user's gate in plain NumPy this takes a backward for every entry of its output; where they
    are too many, the change is `UNKNOWN`.
    """
    primitive = node.primitive
    assert primitive is not None
    if not primitive.differentiable or change is None:
        return None
    if change is UNKNOWN:
        return UNKNOWN
    if primitive is ITEM:
        return change[node.params["index"]]  # type: ignore[index]
    operands = operands_of(node)
    if not primitive.joint:
        return local_of(node, i, operands).push(bare.xp, change)
    if type(primitive) is Custom and _entries(node) > MOST:
        return UNKNOWN
    tangents = [change if k == i else None for k in range(len(node.inputs))]
    given = (tangents, node.data, operands, node.params or {})
    try:
        if isinstance(primitive, Custom):
            return primitive.push_all(bare.xp, *given)
        with context(recording=False):  # loops and branches of compiled functions
            return _bare(primitive.push_all(ops, *given), node)
    except ChainruleError:  # a gate in plain NumPy inside a loop
        return UNKNOWN


class _Unknown:
    """A change of which only its existence is known."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = _Unknown()


def _entries(node: Node) -> int:
    return sum(np.size(d) for d in (node.data if isinstance(node.data, tuple) else (node.data,)))


def guessed(node: Node, i: int, change: Any) -> Any:
    """Some change of a gate's output, where one of operand i has any effect on it; else None."""
    parts = node.data if isinstance(node.data, tuple) else (node.data,)
    random = np.random.default_rng(0)
    some = [random.uniform(1, 2, np.shape(d)).astype(d.dtype) for d in parts]
    whole = tuple(some) if isinstance(node.data, tuple) else some[0]
    back = pulled(node, i, whole)
    if back is None or (not isinstance(back, tuple) and not np.any(back * change)):
        return None
    return whole


def _bare(found: Any, node: Node) -> Any:
    if not isinstance(found, tuple):
        return None if found is None else np.asarray(found)
    return tuple(
        np.zeros(d.shape, d.dtype) if g is None else np.asarray(g)
        for g, d in zip(found, node.data, strict=True)
    )


def moves(change: Any) -> bool:
    """Whether there is any change at all."""
    if change is None or change is UNKNOWN:
        return change is UNKNOWN
    return any(map(moves, change)) if isinstance(change, tuple) else bool(np.any(change))


def plus(a: Any, b: Any) -> Any:
    """The sum of two changes."""
    if a is None or b is None:
        return a if b is None else b
    if a is UNKNOWN or b is UNKNOWN:
        return UNKNOWN
    return tuple(map(plus, a, b)) if isinstance(a, tuple) else a + b


def size(g: Any) -> float:
    """How large a gradient is: its largest entry."""
    parts = g if isinstance(g, (tuple, list)) else (g,)
    return max((float(np.max(np.abs(p))) for p in parts if p is not None and np.size(p)), default=0)


def one_entry(node: Node, at: tuple[int, ...]) -> Any:
    """A change of 1 in one entry."""
    change = np.zeros(node.shape, node.type.dtype)
    change[at] = 1
    return change


def changes(order: Sequence[Node], leaf: Node, at: tuple[int, ...]) -> dict[Node, Any]:
    """How every node behind a leaf changes with one of its entries: ∂node/∂leaf[at]."""
    found: dict[Node, Any] = {leaf: one_entry(leaf, at)}
    with np.errstate(all="ignore"):
        for node in order:
            for i, x in enumerate(node.inputs):
                if x.__class__ is Node and x in found and node is not leaf and flows(node):
                    moved = pushed(node, i, found[x])
                    if moved is not None:
                        found[node] = plus(found.get(node), moved)
    return found
