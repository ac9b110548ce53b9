"""What each gate is to the compiler, and how index maps become addresses.

A linear gate's index map says where an entry comes from; here it becomes affine positions (to
write the gate into the expressions of its users) or strides (to see its value in memory already
there).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import Any

import numpy as np

from ..core.indexmap import IndexMap, Position
from ..core.node import Node
from ..core.primitive import ITEM, LINK, Elementwise, LinearGate
from ..core.types import FLOATS, ArrayType, Shape, size_of
from ..ops.contraction import CONTRACT
from ..ops.dispatch import BROADCAST, CAST, STOP_GRADIENT, SUM
from ..ops.indexing import GATHER, SCATTER_ADD
from ..ops.loop import SCAN
from ..ops.random import BITS
from ..ops.reducing import CUMSUM, ArgExtreme, Extreme
from ..ops.shaping import (
    CONCAT,
    DIAGONAL,
    EMBED_DIAGONAL,
    FLIP,
    FOLD,
    PAD,
    PERMUTE,
    RESHAPE,
    SLICE,
    UNSTACK,
    WINDOWS,
)  # fmt: skip
from .elementwise import emits
from .kernels import ZERO, Affine, Const, Guard, Kernel, Load, Loops, Store, View, at


class Kind(Enum):
    """What a gate is to the compiler."""

    NONE = auto()  # nothing to do: a join (its parts are stored), an unstack (its parts are read)
    MAP = auto()  # entry by entry
    READ = auto()  # index arithmetic
    PAD = auto()  # index arithmetic with a guard
    GATHER = auto()  # reads through tables
    RANDOM = auto()  # bits from a key
    REDUCE = auto()
    CONTRACT = auto()
    SCATTER = auto()  # adds entries to zeros
    REPEAT = auto()
    CALL = auto()  # in Python


READS = (RESHAPE, PERMUTE, BROADCAST, SLICE, FLIP, DIAGONAL, WINDOWS)
LIGHT = frozenset((
    "neg", "abs", "cast", "equal", "not_equal", "less", "less_equal", "greater", "greater_equal",
    "logical_not", "logical_or", "logical_and", "add", "sub", "mul", "maximum", "minimum", "relu",
    "where",
))  # fmt: skip
"""Gates that are quicker to compute again than to store and load."""


def kind(node: Node) -> Kind:
    primitive = node.primitive
    if primitive is CONCAT or primitive is UNSTACK or primitive is None:
        return Kind.NONE
    if primitive is ITEM:
        return Kind.READ if node.inputs[0].primitive is UNSTACK else Kind.NONE
    if primitive is SCAN:
        return Kind.REPEAT
    if primitive in READS:
        return Kind.READ
    if primitive is PAD:
        return Kind.PAD if all(p.terms[0][1] == 1 for p in _map(node).writes) else Kind.SCATTER
    if primitive is SUM or isinstance(primitive, (Extreme, ArgExtreme)):
        return Kind.REDUCE
    if primitive is GATHER:
        return Kind.GATHER
    if primitive is BITS:
        return Kind.RANDOM
    if primitive in (FOLD, SCATTER_ADD, EMBED_DIAGONAL, CUMSUM):
        return Kind.SCATTER
    if primitive is CONTRACT:
        return Kind.CONTRACT if node.type.dtype.char in FLOATS else Kind.REDUCE
    if isinstance(primitive, Elementwise) and emits(node):
        return Kind.MAP
    return Kind.CALL


def _map(node: Node) -> IndexMap:
    return node.params["map"]  # type: ignore[index,no-any-return]


def constant_type(x: Any) -> ArrayType:
    array = np.asarray(x)
    return ArrayType(array.shape, array.dtype)


def is_identity(node: Node) -> bool:
    """Whether the value is that of the operand, under another name."""
    if node.primitive is LINK or node.primitive is STOP_GRADIENT:
        return True
    same = isinstance(node.inputs[0], Node) and node.inputs[0].type == node.type
    return same and (node.primitive is CAST or node.primitive in (RESHAPE, BROADCAST))


def source(node: Node) -> Any:
    """What a READ gate reads."""
    x = node.inputs[0]
    return x.inputs[0] if node.primitive is ITEM else x


def edge(node: Node, x: Any) -> tuple[bool, bool]:
    """Whether a gate uses x at its own index, and each entry of x at most once."""
    found = kind(node)
    if node.primitive is LINK or found is Kind.MAP:
        return True, True
    if found is Kind.READ and node.primitive in (BROADCAST, WINDOWS):
        return False, size_of(node.type.shape) <= size_of(shape_of(x))
    return False, found is not Kind.REDUCE or node.primitive is not CONTRACT


def shape_of(x: Any) -> Shape:
    return x.type.shape if isinstance(x, Node) else np.shape(x)


def is_lazy(node: Node, found: Kind, inputs: Sequence[Any]) -> bool:
    """Whether a gate is written into its users and nothing is stored for it."""
    if found is Kind.READ:
        return not merges(node)
    if found is Kind.PAD:
        return True
    if found is not Kind.MAP or not is_light(node):
        return False
    full = [x for x in inputs if isinstance(x, Node) and not _is_small(x, node)]
    return len(full) <= 1 and not any(map(_ends_product, full))


def _ends_product(x: Node) -> bool:
    """Whether x is a product, or a light map of one: that goes into its epilogue."""
    while kind(x) is Kind.MAP and is_light(x):
        full = [y for y in x.inputs if isinstance(y, Node) and not _is_small(y, x)]
        if len(full) != 1:
            return False
        x = full[0]
    return kind(x) is Kind.CONTRACT


def is_light(node: Node) -> bool:
    """Whether an elementwise gate is quicker to compute again than to store and load."""
    return node.name in LIGHT and node.primitive is not LINK


def _is_small(x: Node, node: Node) -> bool:
    """Whether an operand has fewer entries than the result: copies of something smaller."""
    if x.primitive is BROADCAST and isinstance(x.inputs[0], Node):
        return 16 * size_of(x.inputs[0].type.shape) <= node.type.size
    return x.primitive is BROADCAST


# -- reshape -----------------------------------------------------------------------------------


def digits(shape: Shape, view: Shape) -> list[list[int]] | None:
    """The entries of the view that each axis is made of; None if one spans several axes."""
    found: list[list[int]] = []
    k = 0
    for n in shape:
        own: list[int] = []
        size = 1
        while size != n:
            if k == len(view) or size > n:
                return None
            own.append(k)
            size *= view[k]
            k += 1
        found.append(own)
    return found


def merges(node: Node) -> bool:
    """Whether a reshape joins axes, so that positions are no affine expressions any more."""
    if node.primitive is not RESHAPE or 0 in node.type.shape:
        return False
    map = _map(node)
    out, into = digits(map.out_shape, map.out_view), digits(map.in_shape, map.in_view)
    return out is None or into is None or any(len(own) > 1 for own in out)


def joined(node: Node) -> dict[int, Shape] | None:
    """The sizes of the axes that a reshape joins, for each axis of its value that has several."""
    map = _map(node)
    out, into = digits(map.out_shape, map.out_view), digits(map.in_shape, map.in_view)
    if out is None or into is None:
        return None
    return {
        axis: tuple(map.out_view[d] for d in own) for axis, own in enumerate(out) if len(own) > 1
    }


def reshaped(shape: Shape, strides: Shape, new: Shape) -> Shape | None:
    """Strides of the same entries in another shape; None if they cannot be had by strides."""
    if 0 in new:  # there are none
        return (0,) * len(new)
    merged: list[list[int]] = []  # runs of axes that lie one in the other: [entries, last stride]
    for n, stride in zip(shape, strides, strict=True):
        if n == 1:
            continue
        if merged and merged[-1][1] == n * stride:
            merged[-1] = [merged[-1][0] * n, stride]
        else:
            merged.append([n, stride])
    found: list[int] = []
    left, step = 1, 1
    for n in reversed(new):
        if n == 1:
            found.append(step)
            continue
        if left == 1:
            if not merged:
                return None
            left, step = merged.pop()
        if left % n:
            return None
        found.append(step)
        left, step = left // n, step * n
    return tuple(reversed(found)) if left == 1 and not merged else None


# -- addresses ---------------------------------------------------------------------------------


def through(node: Node, base: View) -> View | None:
    """Where the value of a READ gate lies in the memory of its operand; None if it does not."""
    if node.primitive is ITEM:
        parent, k = node.inputs[0], node.params["index"]  # type: ignore[index]
        axis = parent.params["axis"]
        strides = base.strides[:axis] + base.strides[axis + 1 :]
        return View(base.buffer, base.base.plus(Affine((), k * base.strides[axis])), strides)
    map = _map(node)
    if node.primitive is RESHAPE:
        found = reshaped(map.in_shape, base.strides, map.out_shape)
        return None if found is None else View(base.buffer, base.base, found)
    offset = sum(p.offset * s for p, s in zip(map.reads, base.strides, strict=True))
    along = map.strides(base.strides)  # of the symbols; a permutation may write them in any order
    strides = tuple(along[p.terms[0][0]] if p.terms else 0 for p in map.writes)
    return View(base.buffer, base.base.plus(Affine((), offset)), strides)


def _values(positions: Sequence[Position], index: Sequence[Affine]) -> dict[int, Affine]:
    """The value of each symbol that stands alone along an axis."""
    return {p.terms[0][0]: i for p, i in zip(positions, index, strict=True) if p.terms}


def _position(p: Position, values: dict[int, Affine]) -> Affine:
    total = Affine((), p.offset)
    for s, stride in p.terms:
        total = total.plus(values[s], stride)
    return total


def read_index(node: Node, index: Sequence[Affine]) -> tuple[Affine, ...]:
    """The index in the operand of a READ gate, for an index in its value."""
    if node.primitive is ITEM:
        axis = node.inputs[0].params["axis"]
        place = Affine((), node.params["index"])  # type: ignore[index]
        return (*index[:axis], place, *index[axis:])
    map = _map(node)
    if node.primitive is not RESHAPE:
        values = _values(map.writes, index)
        return tuple(_position(p, values) for p in map.reads)
    if 0 in map.out_shape:
        return (ZERO,) * len(map.in_shape)
    out, into = digits(map.out_shape, map.out_view), digits(map.in_shape, map.in_view)
    assert out is not None and into is not None
    at_digit: dict[int, Affine] = {}
    for own, i in zip(out, index, strict=True):
        if len(own) == 1:
            at_digit[own[0]] = i
            continue
        step = size_of(tuple(map.out_view[d] for d in own))
        for d in own:  # the loops of a group that is split for it: one symbol a digit
            step //= map.out_view[d]
            at_digit[d] = at(next(s for s, stride in i.terms if stride == step))
    found = []
    for own in into:
        total, step = ZERO, 1
        for d in reversed(own):
            total = total.plus(at_digit[d], step)
            step *= map.in_view[d]
        found.append(total)
    return tuple(found)


def pad_index(node: Node, index: Sequence[Affine]) -> tuple[tuple[Affine, ...], tuple[Guard, ...]]:
    """The index in the operand of a pad, and when there is one."""
    map = _map(node)
    found, guards = [], []
    for p, i, n, m in zip(map.writes, index, map.in_shape, map.out_shape, strict=True):
        position = i.plus(Affine((), -p.offset))
        found.append(position)
        if n != m:
            guards.append(Guard(position, n))
    return tuple(found), tuple(guards)


def inside_frame(pad: Node, view: View) -> View | None:
    """The view of what is padded in that of the result; None where a pad cuts entries off."""
    map = _map(pad)
    starts = [p.offset for p in map.writes]
    ends = [a + n for a, n in zip(starts, map.in_shape, strict=True)]
    if any(a < 0 for a in starts) or any(e > m for e, m in zip(ends, map.out_shape, strict=True)):
        return None
    return View(view.buffer, view.address([Affine((), a) for a in starts]), view.strides)


def summed_index(
    node: Node, index: Sequence[Affine], symbols: Any
) -> tuple[tuple[Affine, ...], list[tuple[int, int]]]:
    """The index in the operand of a reduction, and the loops it goes over."""
    if isinstance(node.primitive, LinearGate):
        map = _map(node)
        values = _values(map.writes, index)
        loops = []
        for s in map.summed:
            symbol = next(symbols)
            values[s] = at(symbol)
            loops.append((symbol, map.sizes[s]))
        return tuple(_position(p, values) for p in map.reads), loops
    shape, axes = shape_of(node.inputs[0]), node.params["axes"]  # type: ignore[index]
    rest = iter(index)
    found, loops = [], []
    for axis, n in enumerate(shape):
        if axis in axes:
            symbol = next(symbols)
            loops.append((symbol, n))
            found.append(at(symbol))
        else:
            found.append(next(rest))
    return tuple(found), loops


def gather_index(
    positions: Sequence[Position], values: dict[int, Affine], shape: Shape, view: View,
    tables: Sequence[Any],
) -> tuple[Affine, tuple[tuple[int, Any, int], ...]]:  # fmt: skip
    """The address of positions some of which go through tables (given as loaders of an index)."""
    address, dynamic = view.base, []
    for p, n, stride in zip(positions, shape, view.strides, strict=True):
        if p.table is None:
            address = address.plus(_position(p, values), stride)
        else:
            index = tuple(values[s] for s, _ in p.terms)
            dynamic.append((stride, tables[p.table](index), n))
    return address, tuple(dynamic)


def before_reshape(block: Any, x: Any, view: View) -> tuple[Any, View]:
    """What is reshaped to x, and the view in its shape: storing it there stores x."""
    x = block.resolve(x)
    while isinstance(x, Node) and x.primitive is RESHAPE and x.type.size:
        y = block.resolve(x.inputs[0])
        strides = reshaped(x.type.shape, view.strides, shape_of(y))
        if not isinstance(y, Node) or strides is None:
            break
        x, view = y, View(view.buffer, view.base, strides)
    return x, view


# -- gates with kernels of their own -----------------------------------------------------------


def regroup(block: Any, node: Node, view: View) -> Kernel:
    """A copy in row-major order, which is then seen in the new shape."""
    x = block.resolve(node.inputs[0])
    shape, dtype = shape_of(x), node.type.dtype
    symbols = [next(block.symbols) for _ in shape]
    index = tuple(at(s) for s in symbols)
    there = block.require(x)
    strides = reshaped(node.type.shape, view.strides, shape)
    assert strides is not None, "a value of its own lies in one piece"
    target = View(view.buffer, view.base, strides).address(index)
    store = Store(view.buffer, target, Load(dtype, there.buffer, there.address(index)))
    return Loops([node], loops=list(zip(symbols, shape, strict=True)), stores=[store])


def frame(block: Any, node: Node, view: View) -> list[Kernel]:
    """Zeros around what is padded: for each axis before and after it, within those before."""
    map = _map(node)
    dtype = node.type.dtype
    inside = [(p.offset, n) for p, n in zip(map.writes, map.in_shape, strict=True)]
    found: list[Kernel] = []
    for axis, m in enumerate(map.out_shape):
        start, n = inside[axis]
        for first, count in ((0, start), (start + n, m - start - n)):
            if not count:
                continue
            ranges = [*inside[:axis], (first, count), *((0, k) for k in map.out_shape[axis + 1 :])]
            symbols = [next(block.symbols) for _ in ranges]
            index = [at(s).plus(Affine((), a)) for s, (a, _) in zip(symbols, ranges, strict=True)]
            zero = Store(view.buffer, view.address(index), Const(dtype, dtype.type(0)))
            loops = [(s, k) for s, (_, k) in zip(symbols, ranges, strict=True)]
            found.append(Loops([node], loops=loops, stores=[zero]))
    return found


def scatter(block: Any, node: Node, view: View) -> list[Kernel]:
    """output[writes(s)] += input[reads(s)], after zeros everywhere."""
    if node.primitive is CUMSUM:
        return running_sum(block, node, view)
    map = _map(node)
    shape, dtype = node.type
    outer = [next(block.symbols) for _ in shape]
    zero = Store(view.buffer, view.address([at(s) for s in outer]), Const(dtype, dtype.type(0)))
    fill = Loops([node], loops=list(zip(outer, shape, strict=True)), stores=[zero])
    x, *tables = block.inputs(node)
    source_view = block.require(x)
    symbols = [next(block.symbols) for _ in map.sizes]
    values = {s: at(symbol) for s, symbol in enumerate(symbols)}

    def loader(table: Any) -> Any:
        where = block.require(table)
        return lambda index: Load(where.buffer.dtype, where.buffer, where.address(index))

    loaders = [loader(t) for t in tables]
    if node.primitive is FOLD or node.primitive is EMBED_DIAGONAL or node.primitive is PAD:
        assert map.in_view == map.in_shape and map.out_view == map.out_shape
    read, _ = gather_index(map.reads, values, map.in_shape, source_view, loaders)
    address, dynamic = gather_index(map.writes, values, map.out_shape, view, loaders)
    guards = tuple(
        Guard(_position(p, values), n)
        for p, n in zip(map.writes, map.out_shape, strict=True)
        if p.table is None and _leaves(p, map.sizes, n)
    )
    through_tables = {s for p in map.writes if p.table is not None for s, _ in p.terms}
    alone = {p.terms[0][0] for p in map.writes if p.table is None and len(p.terms) == 1}
    ordered = frozenset(
        symbols[s] for s in range(len(symbols)) if s not in alone or s in through_tables
    )
    value = Load(dtype, source_view.buffer, read)
    store = Store(view.buffer, address, value, node.primitive is not PAD, guards, dynamic)
    loops = list(zip(symbols, map.sizes, strict=True))
    return [fill, Loops([node], loops=loops, stores=[store], ordered=ordered)]


def running_sum(block: Any, node: Node, view: View) -> list[Kernel]:
    """A copy, to each entry of which the one before it is added, in order."""
    map = _map(node)
    shape, dtype = node.type
    # the axis is the one that two symbols read: y[o] = Σ x[o - k], or x[o + k] in reverse
    axis = next(a for a, p in enumerate(map.reads) if len(p.terms) == 2)
    reverse = map.reads[axis].terms[1][1] > 0
    there = block.require(block.inputs(node)[0])
    symbols = [next(block.symbols) for _ in shape]
    index = [at(s) for s in symbols]
    copy = Store(view.buffer, view.address(index), Load(dtype, there.buffer, there.address(index)))
    loops = list(zip(symbols, shape, strict=True))
    first = Loops([node], loops=loops, stores=[copy])
    again = [next(block.symbols) for _ in shape]
    place, n = at(again[axis]), shape[axis]
    if reverse:
        place = Affine((), n - 1).plus(place, -1)
    before = [place if a == axis else at(s) for a, s in enumerate(again)]
    after = [p.plus(Affine((), -1 if reverse else 1)) if a == axis else p
             for a, p in enumerate(before)]  # fmt: skip
    add = Store(
        view.buffer, view.address(after), Load(dtype, view.buffer, view.address(before)), add=True
    )
    sizes = [max(0, n - 1) if a == axis else m for a, m in enumerate(shape)]
    second = Loops(
        [node], loops=list(zip(again, sizes, strict=True)), stores=[add],
        ordered=frozenset({again[axis]}),
    )  # fmt: skip
    return [first, second]


def _leaves(p: Position, sizes: Shape, n: int) -> bool:
    """Whether a position can be out of bounds."""
    ends = [p.offset, p.offset]
    for s, stride in p.terms:
        ends[stride > 0] += stride * (sizes[s] - 1)
    return min(ends) < 0 or max(ends) >= n
