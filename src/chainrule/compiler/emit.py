"""Kernels of loops as LLVM IR: order of loops, vectors, parts for threads.

One loop is the vector loop: its entries are computed a register at a time, the last ones under a
mask. In a kernel with reductions it may be a loop of the reductions instead; the lanes are added
up at the end of each.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.types import size_of
from .block import FEW, Block, affines, guarded, inner_symbol, merged
from .ir import Function, Index, Module, Value, const
from .kernels import (
    Buffer,
    Expression,
    Load,
    Loops,
    Reduce,
    Symbol,
    loads_of,
    walk,
)
from .machine import Machine


def _score(symbol: Symbol, size: int, kernel: Loops, machine: Machine) -> float:
    """How well the loop of a symbol goes in vectors; accesses in reductions count as often."""
    total = 0.0
    for s in kernel.stores:
        total += 1 if s.address.stride(symbol) == 1 else -4
        total -= 100 * any(a.stride(symbol) for a in [g.position for g in s.guards])
        total -= 100 * any(_reads(i, symbol) for _, i, _ in s.tables)
    for x in loads_of(kernel.stores):
        stride = x.address.stride(symbol)
        total += {0: 0.1, 1: 1, -1: 0.5}.get(stride, -3)
        total -= 2 * any(_reads(i, symbol) for _, i, _ in x.tables)
    lanes = machine.vector_bytes // 4
    used = size / (-(-size // lanes) * lanes)
    return total + 2 * used if total > 0 else total


def _shared(
    loops: list[tuple[Symbol, int]], along: Symbol, reductions: list[Reduce], kernel: Loops
) -> list[tuple[Symbol, int]]:
    """Short loops on which no reduction depends: written out inside, so that these serve all."""
    found = affines(list(reductions))
    if not reductions or any(x.tables for x in loads_of(kernel.stores)):
        return []
    free = [(s, n) for s, n in loops if s != along and not any(a.stride(s) for a in found)]
    free = [pair for pair in free if pair[0] not in kernel.ordered]
    return free if size_of(tuple(n for _, n in free)) <= FEW else []


def _reads(x: Expression, symbol: Symbol) -> bool:
    return any(isinstance(y, Load) and y.address.stride(symbol) for y in walk([x]))


class Emitted:
    """A function void name(ptr buffer…, i64 sequential symbol…, i64 thread)."""

    def __init__(self, name: str, buffers: list[Buffer], sequential: list[Symbol]) -> None:
        self.name, self.buffers, self.sequential = name, buffers, sequential


def emit_loops(
    module: Module, name: str, kernel: Loops, machine: Machine, threads: int, aliased: set[Buffer]
) -> Emitted:
    """The function of a kernel of loops; every thread calls it."""
    roots = [s.x for s in kernel.stores] + [i for s in kernel.stores for _, i, _ in s.tables]
    stores = kernel.stores
    found = affines(roots) + [s.address for s in stores]
    found += [g.position for s in stores for g in s.guards]
    fixed = guarded(roots) | {s for st in stores for g in st.guards for s, _ in g.position.terms}
    own = {s for s, _ in kernel.loops}
    for x in walk(roots):
        if isinstance(x, Reduce):
            own.update(s for s, _ in x.loops)
    sequential = sorted({s for a in found for s, _ in a.terms} - own)
    buffers = sorted(kernel.reads() | kernel.writes(), key=lambda b: b.serial)
    parameters = [
        ("ptr" if b in aliased else "ptr noalias", f"buffer{k}") for k, b in enumerate(buffers)
    ]
    parameters += [("i64", f"sequential{k}") for k in range(len(sequential))]
    f = module.function(name, [*parameters, ("i64", "thread")], attributes="noinline")
    *given, thread = f.parameters
    pointers = dict(zip(buffers, given, strict=False))
    indices: dict[Symbol, Index] = dict(zip(sequential, given[len(buffers) :], strict=True))
    indices.update((s, 0) for s, _ in kernel.loops)
    emitted = Emitted(name, buffers, sequential)
    if not size_of(tuple(n for _, n in kernel.loops)):
        return emitted

    # the order of the loops: as the first store has them, the vector loop last
    first = stores[0].address
    order = sorted(
        kernel.loops, key=lambda pair: (pair[0] in kernel.ordered, -abs(first.stride(pair[0])))
    )
    loops = merged(order, found, fixed | set(kernel.ordered))
    free = [pair for pair in loops if pair[0] not in kernel.ordered]
    scores = {s: _score(s, n, kernel, machine) for s, n in free}
    along = max(scores, key=scores.__getitem__, default=None)
    reductions = [x for x in walk(roots) if isinstance(x, Reduce)]
    inside = any(
        inner_symbol(x, machine, x.loops)[0] is not None
        and any(abs(y.address.stride(along)) > 1 for y in walk([x.x]) if isinstance(y, Load))
        for x in reductions
    ) if along is not None else False  # fmt: skip
    if along is not None and (scores[along] <= 0 or inside):
        along = None
    lanes = 1
    if along is not None:
        lanes = vector_lanes(kernel, machine)
        n = dict(loops)[along]
        while lanes > 2 and n <= lanes // 2:
            lanes //= 2
        if n == 1:
            along, lanes = None, 1
        elif reductions and n >= 4 * lanes:  # whole lines of memory of each row that is added up
            lanes *= 4
    if along is not None:
        loops = [p for p in loops if p[0] != along] + [p for p in loops if p[0] == along]

    inner = [] if along is None else _shared(loops, along, reductions, kernel)
    loops = [pair for pair in loops if pair not in inner]

    def body(indices: dict[Symbol, Index], active: int) -> None:
        block = Block(f, machine, pointers, indices, along, lanes, active)
        if not inner:
            block.store_all(stores)
            return
        for x in reductions:
            block.value(x)
        for place in np.ndindex(*(n for _, n in inner)):
            here = {**indices, **{s: i for (s, _), i in zip(inner, place, strict=True)}}
            Block(
                f, machine, pointers, here, along, lanes, active, block
            ).store_all(stores)  # fmt: skip

    def nest(k: int, indices: dict[Symbol, Index], bounds: tuple[Index, Index] | None) -> None:
        if k == len(loops):
            body(indices, lanes)
            return
        s, n = loops[k]
        start, stop = bounds or (0, n)
        if s != along:
            with f.loop(start, stop) as i:
                nest(k + 1, {**indices, s: i}, None)
            return
        rest = n % lanes
        if bounds is None:
            with f.loop(0, n - rest, lanes) as i:
                if n - rest:
                    body({**indices, s: i}, lanes)
            if rest:
                body({**indices, s: n - rest}, rest)
            return
        # bounds count vectors
        _vectors(f, n, lanes, start, stop, lambda i, active: body({**indices, s: i}, active))

    splits = [k for k, (s, n) in enumerate(loops) if s not in kernel.ordered]
    if kernel.serial or threads == 1 or not splits:
        if threads > 1:
            with f.when(f.cmp("eq", thread, const(0, "i64"))):
                nest(0, indices, None)
        else:
            nest(0, indices, None)
        return emitted

    def units(k: int) -> int:
        s, n = loops[k]
        return -(-n // lanes) if s == along else n

    k = next((k for k in splits if units(k) >= 4 * threads), max(splits, key=units))
    loops.insert(0, loops.pop(k))
    total = units(0)
    per = -(-total // threads)
    start = f.mul(thread, per)
    stop = f.index(f.add(start, per))
    stop = f.select(f.cmp("slt", stop, const(total, "i64")), stop, const(total, "i64"))
    if loops[0][0] == along and len(loops) > 1:  # each thread has vectors of its own
        _split_vectors(f, loops, lanes, (start, stop), indices, body, bool(kernel.ordered))
    else:
        nest(0, indices, (start, stop))
    return emitted


def _split_vectors(
    f: Function, loops: list[tuple[Symbol, int]], lanes: int, bounds: tuple[Index, Value],
    indices: dict[Symbol, Index], body: Any, inside: bool,
) -> None:  # fmt: skip
    """The first loop goes over vectors, from one bound to the other; the others over all.

    It is the outermost one, with the entries of a vector in a block; or, with `inside`, the
    innermost one, as additions that meet are best done: rows are read and written as they lie.
    """
    (along, n), *others = loops

    def nest(k: int, indices: dict[Symbol, Index], run: Any) -> None:
        if k == len(others):
            run(indices)
            return
        s, m = others[k]
        with f.loop(0, m) as i:
            nest(k + 1, {**indices, s: i}, run)

    def vectors(indices: dict[Symbol, Index], run: Any) -> None:
        _vectors(f, n, lanes, *bounds, lambda i, active: run({**indices, along: i}, active))

    if inside:
        nest(0, indices, lambda here: vectors(here, body))
    else:
        vectors(indices, lambda here, active: nest(0, here, lambda at: body(at, active)))


def _vectors(f: Function, n: int, lanes: int, start: Index, stop: Index, body: Any) -> None:
    """body(i, active) for the vectors from number `start` to `stop`; the last may be a ragged one.

    There may be none: where there are fewer vectors than threads, some of these start behind all.
    """
    whole, rest = divmod(n, lanes)
    last, end = f.index(stop), const(whole, "i64")
    inner = f.select(f.cmp("slt", last, end), last, end)
    with f.loop(f.mul(start, lanes), f.mul(inner, lanes), lanes) as i:
        body(i, lanes)
    if rest:
        mine = f.op("and", f.cmp("sle", f.index(start), end), f.cmp("sgt", last, end))
        with f.when(mine):
            body(n - rest, rest)


def vector_lanes(kernel: Loops, machine: Machine) -> int:
    """Lanes of the widest float that is computed; else of the widest type of a result."""
    dtypes = [s.buffer.dtype for s in kernel.stores]
    dtypes += [x.dtype for s in kernel.stores for x in walk([s.x])]
    floats = [d.itemsize for d in dtypes if d.kind == "f"]
    return machine.vector_bytes // max(floats or [max(d.itemsize for d in dtypes), 4])
