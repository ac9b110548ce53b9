"""Loops: the body of a scan as kernels that run once a step.

The number of the step is a symbol like that of any loop, so step t of a stack is an address. A
carry whose values are kept lies in its stack from the start: step t reads entry t and writes entry
t + 1. Other carries have two places, used in turn.
"""

from __future__ import annotations

from typing import Any

from ..core.node import Node
from ..core.primitive import ITEM
from ..core.types import size_of
from ..ops.contraction import CONTRACT, parse
from ..ops.loop import Loop
from .kernels import ZERO, Affine, Buffer, Repeat, View, at, contiguous

TURNED = 4
"""Steps from which it pays to turn a captured array before the loop."""


def outline(block: Any, node: Node) -> Repeat:
    """The loop as one kernel; copies of first carries go before it, its outputs become views."""
    loop: Loop = node.params["loop"]  # type: ignore[index]
    used = node.params.get("used")  # type: ignore[union-attr]
    step, parity = next(block.symbols), next(block.symbols)
    length, reverse = loop.length, loop.reverse
    captured, carries, xs = loop.split(block.inputs(node))
    body = type(block)(block.symbols, block.constants)
    body.constant_views = block.constant_views
    captured = [_turned(block, loop, leaf, x)
                for leaf, x in zip(loop.captured, captured, strict=True)]  # fmt: skip
    for leaf, x in zip(loop.captured, captured, strict=True):
        body.views[leaf] = block.require(x)
    for leaf, x in zip(loop.scanned, xs, strict=True):
        there = block.require(x)
        base = there.base.plus(at(step), there.strides[0])
        body.views[leaf] = View(there.buffer, base, there.strides[1:])

    def needed(k: int) -> bool:
        return used is None or k in used

    # what is stacked: results, then values inside that are kept
    outputs: list[tuple[int, Any]] = list(enumerate(loop.graph.outputs))[loop.carries :]
    first = len(loop.graph.outputs)
    stacked_carries = {x: k for k, x in reversed(outputs) if x in loop.state and needed(k)}
    for k, (kept, index) in enumerate(loop.kept):
        if index is None and kept in loop.state and needed(first + k):
            stacked_carries.setdefault(kept, first + k)
    stacks: dict[Any, View] = {}  # of the values of a node in all steps
    after: list[View] = []
    starts: list[Any] = []
    for k, (leaf, x) in enumerate(zip(loop.state, carries, strict=True)):
        shape, dtype = leaf.type
        size = size_of(shape)
        own = stacked_carries.get(leaf)
        if own is not None:
            buffer = Buffer(dtype, (length + 1) * size)
            before = Affine(((step, size),), size if reverse else 0)
            next_ = Affine(((step, size),), 0 if reverse else size)
            start, end = (length * size, 0) if reverse else (0, length * size)
            whole = (size, *contiguous(shape))
            stacks[leaf] = View(buffer, Affine((), before.offset), whole)
            block.item(node, own, stacks[leaf])
            stacks.setdefault(loop.graph.outputs[k], View(buffer, Affine((), next_.offset), whole))
        else:
            buffer = Buffer(dtype, 2 * size)
            before = Affine(((parity, size),))
            next_ = Affine(((parity, -size),), size)
            start, end = 0, length % 2 * size
        if not size:
            before = next_ = ZERO
        strides = contiguous(shape)
        body.views[leaf] = View(buffer, before, strides)
        after.append(View(buffer, next_, strides))
        starts.append(block.copy(x, View(buffer, Affine((), start), strides), node))
        if own is None:
            block.passing.add(starts[-1])
        block.item(node, k, View(buffer, Affine((), end), strides))
    block.operands[node] = [*captured, *starts, *xs]
    body.add(loop.graph.nodes)
    for new, view in zip(loop.graph.outputs, after, strict=False):
        body.sink(new, view)
    outputs += [(first + k, _value(body, *pair)) for k, pair in enumerate(loop.kept)]
    for k, value in outputs:
        if not needed(k) or (node, k) in block.items:
            continue
        known = stacks.get(value) if isinstance(value, Node) else None
        if known is None:
            shape = value.type.shape if isinstance(value, Node) else value.shape
            dtype = value.type.dtype if isinstance(value, Node) else value.dtype
            size = size_of(shape)
            buffer = Buffer(dtype, length * size)
            known = View(buffer, ZERO, (size, *contiguous(shape)))
            body.sink(
                value, View(buffer, Affine(((step, size),) if size else ()), known.strides[1:])
            )
            if isinstance(value, Node):
                stacks[value] = known
        block.item(node, k, known)
    kernels = body.lower()
    return Repeat(
        [node], step=step, parity=parity, length=length, reverse=reverse, body=kernels
    )  # fmt: skip


def _turned(block: Any, loop: Loop, leaf: Node, x: Any) -> Any:
    """A captured array, or a copy with the axes that its products sum over first, if they are last.

    The others are then side by side, as lanes are read; without it each step would turn it again.
    """
    orders = set()
    for node in loop.graph.nodes:
        for place, operand in enumerate(node.inputs):
            if operand is leaf:
                if node.primitive is not CONTRACT or not isinstance(x, Node):
                    return x
                *both, out = parse(node.params["spec"])  # type: ignore[index]
                kept = [c in out for c in both[place]]
                orders.add(tuple(sorted(range(len(kept)), key=kept.__getitem__)))
    if len(orders) != 1 or loop.length < TURNED:
        return x
    (order,) = orders
    if order[-1] == len(order) - 1:
        return x
    shape, dtype = leaf.type
    dense = contiguous(tuple(shape[axis] for axis in order))
    strides = tuple(dense[order.index(axis)] for axis in range(len(shape)))
    copied = block.copy(x, View(Buffer(dtype, size_of(shape)), ZERO, strides))
    block.passing.add(copied)
    return copied


def _value(body: Any, node: Node, index: int | None) -> Any:
    """The node whose value is kept: an output of a gate with several is a part of it."""
    if index is None:
        return node
    if (node, index) in body.items:
        return body.items[node, index]
    kind: Any = node.type
    part = Node(ITEM, (node,), {"index": index}, None, kind.items[index])
    body.items[node, index] = part
    body.nodes.append(part)
    return part
