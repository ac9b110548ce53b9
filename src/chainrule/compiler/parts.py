"""Long reductions with few results, in parts: so that all threads have something to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from ..core.types import size_of
from .block import affines
from .kernels import (
    Affine,
    Apply,
    Buffer,
    Expression,
    Kernel,
    Load,
    Loops,
    Position,
    Random,
    Reduce,
    Repeat,
    Store,
    Symbol,
    Where,
    affine,
    contiguous,
    walk,
)

RESULTS = 128
"""More results than that keep the threads busy by themselves."""
LONG = 1 << 16
"""Entries from which on a reduction is worth a second kernel, which joins the parts."""
PARTS = 8
"""There are at least so many parts, whatever the number of threads."""
SHARE = 16
"""The entries of all parts are at most one of so many that are reduced."""


def in_parts(kernels: Sequence[Kernel], symbols: Iterator[Symbol]) -> list[Kernel]:
    """The kernels, before each the partial results of its long reductions.

    A part is a run of steps of one loop, of that which moves farthest in memory.
    """
    found: list[Kernel] = []
    for k in kernels:
        if isinstance(k, Repeat):
            k.body = in_parts(k.body, symbols)
        found += _split(k, symbols) if isinstance(k, Loops) else [k]
    return found


def _split(kernel: Loops, symbols: Iterator[Symbol]) -> list[Kernel]:
    known: dict[Expression, Expression] = {}
    before: list[Kernel] = []
    for x in walk([s.x for s in kernel.stores], inside=False):
        if not isinstance(x, Reduce):
            continue
        own = affines([x])
        around = [(s, n) for s, n in kernel.loops if any(a.stride(s) for a in own)]
        found = _parts(x, size_of(tuple(n for _, n in around)))
        if found is None:
            continue
        (symbol, n), count = found
        part = next(symbols)
        place = affine({part: n // count, symbol: 1})
        inner = [(s, n // count if s == symbol else m) for s, m in x.loops]
        loops = [(part, count), *around]
        sizes = tuple(n for _, n in loops)
        at = affine({s: a for (s, _), a in zip(loops, contiguous(sizes), strict=True)})
        partial = Buffer(x.dtype, size_of(sizes), name="parts")
        value = replace(x, loops=tuple(inner), x=_moved(x.x, symbol, place))
        before.append(Loops([x.node], loops=loops, stores=[Store(partial, at, value)]))
        known[x] = replace(x, loops=((part, count),), x=Load(x.dtype, partial, at))
    if not known:
        return [kernel]
    stores = [s._replace(x=_rebuilt(s.x, known.get)) for s in kernel.stores]
    apart = {n for k in before for n in k.nodes}
    rest = [n for n in kernel.nodes if n not in apart] or kernel.nodes[-1:]
    return [*before, replace(kernel, nodes=rest, stores=stores)]


def _parts(x: Reduce, results: int) -> tuple[tuple[Symbol, int], int] | None:
    """The loop whose runs of steps become parts, and their number, if the reduction is long."""
    terms = list(walk([x.x]))
    entries = size_of(tuple(n for _, n in x.loops)) * results
    if x.op not in ("sum", "max", "min") or entries < LONG or results > RESULTS:
        return None
    if any(isinstance(y, Reduce) for y in terms):
        return None
    addresses = [y.address for y in terms if isinstance(y, Load)]
    most = entries // (results * SHARE)
    fit = []
    for s, n in x.loops:
        count = next((k for k in range(PARTS, min(n, most) + 1) if n % k == 0), None)
        if count is not None:
            fit.append((sum(abs(a.stride(s)) for a in addresses), (s, n), count))
    return max(fit)[1:] if fit else None


def _moved(x: Expression, symbol: Symbol, to: Affine) -> Expression:
    """The expression with another position in place of a symbol."""
    values = {symbol: to}

    def move(_: Expression, y: Expression) -> Expression:
        if isinstance(y, (Load, Where)):
            guards = [g._replace(position=g.position.replaced(values)) for g in y.guards]
            y = replace(y, guards=tuple(guards))
        if isinstance(y, Load):
            tables = tuple((a, _moved(i, symbol, to), n) for a, i, n in y.tables)
            return replace(y, address=y.address.replaced(values), tables=tables)
        if isinstance(y, (Position, Random)):
            return replace(y, position=y.position.replaced(values))
        return y

    return _rebuilt(x, move)


def _rebuilt(x: Expression, change: Callable[[Expression, Expression], Expression]) -> Expression:
    """The expression with `change(old, new)` in place of each in it, whose operands are new."""
    made: dict[Expression, Expression] = {}
    for y in walk([x], inside=False):  # operands first
        new = y
        if isinstance(y, Apply):
            new = replace(y, args=tuple(made[a] for a in y.args))
        elif isinstance(y, Where):
            new = replace(y, x=made[y.x])
        elif isinstance(y, Random):
            new = replace(y, key=(made[y.key[0]], made[y.key[1]]))
        made[y] = change(y, new)
    return made[x]


__all__ = ["in_parts"]
