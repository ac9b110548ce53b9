"""Positions along an axis, in symbols; factors and guards over symbols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..compiler.kernels import Affine, affine, at
from ..errors import StructureError

Symbol = int
next_symbol = count().__next__


class Entry(NamedTuple):
    """The position table[axes] + rest: `axes` has a symbol for each axis of the table."""

    table: np.ndarray[Any, Any]
    axes: tuple[Symbol, ...]
    rest: Affine = Affine()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Entry) or (self.axes, self.rest) != (other.axes, other.rest):
            return False
        return self.table is other.table or np.array_equal(self.table, other.table)

    def __hash__(self) -> int:
        return hash((self.axes, self.rest, self.table.shape))


Position = Affine | Entry


def symbols_of(position: Position) -> tuple[Symbol, ...]:
    """The symbols of a position."""
    if isinstance(position, Entry):
        return tuple(dict.fromkeys((*position.axes, *symbols_of(position.rest))))
    return tuple(s for s, _ in position.terms)


def plain(position: Position) -> Symbol | None:
    """The symbol that a position is, if it is nothing else."""
    if isinstance(position, Entry) or position.offset or len(position.terms) != 1:
        return None
    ((symbol, stride),) = position.terms
    return symbol if stride == 1 else None


class Factor(NamedTuple):
    """An array with one axis for each of some symbols; bools count as 0 and 1."""

    array: Any
    symbols: tuple[Symbol, ...]


class Guard(NamedTuple):
    """0 ≤ position < size."""

    position: Position
    size: int


def moved(position: Position, values: Mapping[Symbol, Position], sizes: Mapping[Symbol, int]
          ) -> Position:  # fmt: skip
    """A position with positions in place of symbols; `sizes` are those of all symbols then."""
    if not any(s in values for s in symbols_of(position)):
        return position
    if isinstance(position, Entry):
        own = _table_moved(position, values, sizes)
        return _sum([(own, 1), (moved(position.rest, values, sizes), 1)])
    given = [(values.get(s, at(s)), a) for s, a in position.terms]
    return _sum([*given, (Affine((), position.offset), 1)])


def _sum(parts: Sequence[tuple[Position, int]]) -> Position:
    """Σ factor · position, of which one may go through a table."""
    rest, tables = Affine(), []
    for p, factor in parts:
        if isinstance(p, Entry):
            tables.append((p, factor))
            p = p.rest
        rest = rest.plus(p, factor)
    if not tables:
        return rest
    if len(tables) > 1:
        raise StructureError("a sum of positions that go through tables")
    ((entry, factor),) = tables
    return Entry(entry.table if factor == 1 else entry.table * factor, entry.axes, rest)


def _table_moved(position: Entry, values: Mapping[Symbol, Position], sizes: Mapping[Symbol, int]
                 ) -> Entry:  # fmt: skip
    """table[axes] with other positions along its axes: a table over their symbols.

    Where they leave the table (a guard elsewhere says so) there is any entry of it.
    """
    places = [values.get(s, at(s)) for s in position.axes]
    found = [plain(p) for p in places]
    apart = None not in found and len(set(found)) == len(found)
    if apart and tuple(sizes[s] for s in found) == position.table.shape:  # type: ignore[index]
        return Entry(position.table, tuple(found))  # type: ignore[arg-type]
    symbols = tuple(sorted({s for p in places for s in symbols_of(p)}))
    size = prod(sizes[s] for s in symbols)
    if size > 4 * max(
        position.table.size, *(p.table.size for p in places if isinstance(p, Entry)), 64
    ):
        raise StructureError("a table that would become larger")
    index = tuple(
        np.clip(values_of(p, sizes, symbols), 0, max(0, n - 1))
        for p, n in zip(places, position.table.shape, strict=True)
    )
    table = np.broadcast_to(position.table[index], tuple(sizes[s] for s in symbols))
    return Entry(table, symbols)


def values_of(position: Position, sizes: Mapping[Symbol, int], symbols: Sequence[Symbol]
              ) -> np.ndarray[Any, Any]:  # fmt: skip
    """A position over the box of these symbols (1 along those it does not have)."""
    if isinstance(position, Entry):
        own = [s for s in symbols if s in position.axes]
        table = position.table.transpose([position.axes.index(s) for s in own])
        table = table[tuple(slice(None) if s in own else None for s in symbols)]
        return np.asarray(table + values_of(position.rest, sizes, symbols))
    total: Any = np.full((1,) * len(symbols), position.offset)
    for s, a in position.terms:
        shape = [1] * len(symbols)
        shape[symbols.index(s)] = sizes[s]
        total = total + a * np.arange(sizes[s]).reshape(shape)
    return np.asarray(total)


def span(position: Affine, sizes: Mapping[Symbol, int]) -> tuple[int, int]:
    """The least and the largest value."""
    low = high = position.offset
    for s, a in position.terms:
        if a > 0:
            high += a * (sizes[s] - 1)
        else:
            low += a * (sizes[s] - 1)
    return low, high


def leaves(position: Position, n: int, sizes: Mapping[Symbol, int]) -> bool:
    """Whether a position can be outside an axis of n."""
    if isinstance(position, Entry):
        table = position.table
        if not table.size or any(sizes[s] == 0 for s, _ in position.rest.terms):
            return False
        low, high = span(position.rest, sizes)
        return int(table.min()) + low < 0 or int(table.max()) + high >= n
    if any(sizes[s] == 0 for s, _ in position.terms):
        return False
    low, high = span(position, sizes)
    return low < 0 or high >= n


__all__ = [
    "Affine", "Entry", "Factor", "Guard", "Position", "Symbol", "affine", "at", "leaves", "moved",
    "next_symbol", "plain", "span", "symbols_of", "values_of",
]  # fmt: skip
