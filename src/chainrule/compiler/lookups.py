"""Products of rows that are looked up in a table: computed once for each row of the table.

An embedding E that is read n times at indices t and multiplied by U costs n products of a row with
U, but only v different ones, v rows being in E. Where v is much smaller than n (characters, the
days of a week), with x = E[t] and the upstream u of the product, sums Σ going over all places n:

    (E[t]·U)[n]       = (E·U)[t[n]]         the product, before rows are taken
    Σ_n x[n]ᵀ·u[n]    = Σ_w E[w]ᵀ·s[w]      by U, where s[w] = Σ of u[n] over all n with t[n] = w
    Σ of u[n]·Uᵀ at w = s[w]·Uᵀ             by E, with the same s

The first keeps every entry to the last bit, the others are sums in another order. Rows that t does
not name appear in s as zeros, which an ∞ or NaN would make NaN: they are left out by `where`. So
the same entries are finite; one that is not may be ±∞ where ∞ - ∞ would be NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..core.indexmap import IndexMap, Position, broadcast_map, permute_map, symbol
from ..core.types import FLOATS, ArrayType
from ..ops.contraction import CONTRACT, LETTERS, parse
from ..ops.dispatch import BROADCAST
from ..ops.indexing import GATHER, SCATTER_ADD
from ..ops.shaping import PERMUTE
from .algebra import NOT_EQUAL, WHERE, Gate, Rules, by, facts, rule, spread, type_of, zeros

OFTEN = 2
"""How many times as many rows are looked up as the table has, at least."""
WIDE = 8
"""Multiplications that a looked-up number takes part in, at least: fewer are as fast as a sum."""
FASTER: Rules = {}
"""Rules that make gates of other kinds, which have less to do."""


class Lookup(NamedTuple):
    """Rows of a table in some axes of an array: x[…] = table[…, t, …], the other axes in order."""

    axis: int
    """Of the table: the one that is looked up."""
    over: tuple[int, ...]
    """The axes of the array along which the indices lie."""
    rows: int
    """Rows of the table."""
    index: Any

    def letters(self, own: str) -> str:
        """Those of `own`, an array's letters, that the indices run over."""
        return "".join(own[k] for k in self.over)


def _lookup(map: IndexMap, index: Any) -> Lookup | None:
    """What a gather with one table does, if each other axis is read in its place and whole."""
    tables = [k for k, p in enumerate(map.reads) if p.table is not None]
    if len(tables) != 1 or 0 in map.sizes or 0 in map.in_shape:
        return None
    (axis,) = tables
    over = tuple(s for s, _ in map.reads[axis].terms)
    rest = [s for s in range(len(map.sizes)) if s not in over]
    others = [p for k, p in enumerate(map.reads) if k != axis]
    order = tuple(symbol(s) for s in range(len(map.sizes)))
    if map.writes != order or others != [symbol(s) for s in rest] or over != tuple(sorted(over)):
        return None
    found = Lookup(axis, over, map.in_shape[axis], index)
    return found if found.rows * OFTEN <= prod(map.sizes[s] for s in over) else None


def _map(shape: Sequence[int], over: Sequence[int], count: int) -> IndexMap:
    """The gather of rows, which are the first axis of a table, into an array of this shape."""
    rest = [k for k in range(len(shape)) if k not in over]
    reads = (Position(tuple((k, 1) for k in over), 0, 0), *map(symbol, rest))
    source, sizes = (count, *(shape[k] for k in rest)), tuple(shape)
    writes = tuple(map(symbol, range(len(sizes))))
    return IndexMap(sizes, reads, writes, source, sizes, source, sizes)


def _indices(sweep: Any, index: Any, given: str, wanted: str) -> Any:
    """The indices with the axes of these letters in another order."""
    if given == wanted:
        return index
    order = tuple(given.index(c) for c in wanted)
    return sweep.make(PERMUTE, (index,), {"map": permute_map(type_of(index).shape, order)})


def _added(sweep: Any, u: Any, own: str, lookup: Lookup, given: str) -> Any:
    """s: for each row of the table the sum of u over the places where it was looked up.

    `own` names the axes of u, `given` those of the indices. The rows are the first axis of s.
    """
    over = tuple(k for k, c in enumerate(own) if c in given)
    index = _indices(sweep, lookup.index, given, "".join(own[k] for k in over))
    map = _map(type_of(u).shape, over, lookup.rows)
    return sweep.make(SCATTER_ADD, (u, index), {"map": map.T})


def _looked_up(sweep: Any, x: Any, axis: int, lookup: Lookup) -> Any:
    """x, with zeros along the axis of rows where no row was looked up."""
    one, none = (np.full((), k, np.float32) for k in (1, 0))
    shape, (full, dtype) = type_of(lookup.index).shape, type_of(x)
    letters = LETTERS[: len(shape)]
    counts = _added(sweep, spread(sweep, one, shape), letters, lookup, letters)
    there = sweep.make(NOT_EQUAL, (counts, spread(sweep, none, (lookup.rows,))), {})
    there = sweep.make(BROADCAST, (there,), {"map": broadcast_map((lookup.rows,), full, (axis,))})
    return sweep.make(WHERE, (there, x, zeros(sweep, ArrayType(full, dtype))), {})


def _contract(sweep: Any, k: int, operands: tuple[Any, Any], names: tuple[str, str], out: str
              ) -> Any:  # fmt: skip
    """A contraction of two operands that are the k-th one and the other."""
    (a, b), (x, y) = (names, operands) if k == 0 else (names[::-1], operands[::-1])
    return sweep.make(CONTRACT, (x, y), {"spec": f"{a},{b}->{out}"})


@rule(CONTRACT, among=FASTER)
def _product_of_rows(sweep: Any, gate: Gate) -> Any:
    """x·U and xᵀ·u of looked-up rows x, the first and the second equation above."""
    a, b, out = parse(gate.params["spec"])
    for k, (own, other) in enumerate(((a, b), (b, a))):
        x, factor = gate.inputs[k], gate.inputs[1 - k]
        if not by(x, GATHER) or len(x.inputs) != 2 or x.type.dtype.char not in FLOATS:
            continue
        table, index = x.inputs
        lookup = _lookup(x.params["map"], index)
        if lookup is None:
            continue
        letters = lookup.letters(own)
        sizes = dict(zip(own + other, x.shape + type_of(factor).shape, strict=True))
        row = next(c for c in LETTERS if c not in own + other)
        rest = [c for c in own if c not in letters]
        named = "".join((*rest[: lookup.axis], row, *rest[lookup.axis :]))
        inside = [c for c in letters if c in other]
        if not inside and all(c in out for c in letters):
            if prod(sizes[c] for c in rest if c not in out) < WIDE:
                continue
            columns = "".join(c for c in out if c not in letters)
            rows = _contract(sweep, k, (table, factor), (named, other), row + columns)
            shape = [sizes[c] for c in out]
            over = tuple(s for s, c in enumerate(out) if c in letters)
            wanted = "".join(out[s] for s in over)
            index = _indices(sweep, index, letters, wanted)
            return sweep.make(GATHER, (rows, index), {"map": _map(shape, over, lookup.rows)})
        if len(inside) == len(letters) and not any(c in out for c in letters):
            if prod(sizes[c] for c in rest) < WIDE:
                continue
            added = _added(sweep, factor, other, lookup, letters)
            if not facts(table, sweep.facts).finite:
                table = _looked_up(sweep, table, lookup.axis, lookup)
            columns = row + "".join(c for c in other if c not in letters)
            return _contract(sweep, k, (table, added), (named, columns), out)
    return None


@rule(SCATTER_ADD, among=FASTER)
def _sum_of_products(sweep: Any, gate: Gate) -> Any:
    """u·Uᵀ added to the rows of a table, the third equation."""
    x = gate.inputs[0]
    if len(gate.inputs) != 2 or not by(x, CONTRACT) or sweep.uses[x] > 1:
        return None
    lookup = _lookup(gate.params["map"].T, gate.inputs[1])
    if lookup is None or x.type.dtype.char not in FLOATS:
        return None
    a, b, out = parse(x.params["spec"])
    letters = lookup.letters(out)
    for k, (own, other) in enumerate(((a, b), (b, a))):
        u, factor = x.inputs[k], x.inputs[1 - k]
        sizes = dict(zip(other, type_of(factor).shape, strict=True))
        wide = prod(sizes[c] for c in other if c not in own) >= WIDE
        if not wide or not all(c in own and c not in other for c in letters):
            continue
        added = _added(sweep, u, own, lookup, letters)
        row = next(c for c in LETTERS if c not in own + other)
        rest = [c for c in out if c not in letters]
        named = "".join((*rest[: lookup.axis], row, *rest[lookup.axis :]))
        columns = row + "".join(c for c in own if c not in letters)
        y = _contract(sweep, k, (added, factor), (columns, other), named)
        finite = facts(factor, sweep.facts).finite
        return y if finite else _looked_up(sweep, y, lookup.axis, lookup)
    return None
