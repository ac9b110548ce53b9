"""Terms: J[o, i] = scale · Σ over a box of symbols, where o = out(s) and i = inn(s), of factors(s).

A term has a position along each axis of the output and of the input: affine in symbols, or through
a table. A symbol that stands on both sides is a Kronecker delta; one that stands on neither is
summed over. The factors are arrays over some of the symbols and are kept apart: a product of a
column and a row is never written out. An index map (core/indexmap.py) is a term without factors.

Positions outside an axis are left out: `guards` say where that can be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..core.indexmap import IndexMap
from ..core.indexmap import Position as Place
from ..core.types import Shape, size_of
from .arrays import reread
from .positions import (
    Affine,
    Entry,
    Factor,
    Guard,
    Position,
    Symbol,
    affine,
    at,
    leaves,
    moved,
    next_symbol,
    plain,
    symbols_of,
)


@dataclass(frozen=True, eq=False)
class Term:
    """Σ over the box of `sizes`, where the guards hold, of scale · factors, at (out, inn)."""

    sizes: Mapping[Symbol, int]
    out: tuple[Position, ...]
    inn: tuple[Position, ...]
    factors: tuple[Factor, ...] = ()
    guards: tuple[Guard, ...] = ()
    scale: float = 1.0
    notes: frozenset[str] = field(default=frozenset())
    """Where a part of it comes from that has a name: "convolution 3×3"."""

    @property
    def positions(self) -> Iterator[Position]:
        yield from self.out
        yield from self.inn
        yield from (g.position for g in self.guards)

    @property
    def ends(self) -> set[Symbol]:
        """The symbols of both sides."""
        return {s for p in (*self.out, *self.inn) for s in symbols_of(p)}

    @property
    def T(self) -> Term:
        return replace(self, out=self.inn, inn=self.out)

    def size(self, symbols: Iterable[Symbol] | None = None) -> int:
        """Entries of the box of these symbols (all)."""
        return size_of(tuple(self.sizes[s] for s in (self.sizes if symbols is None else symbols)))

    def renamed(self) -> Term:
        """The same with new symbols."""
        return self.substituted({s: at(next_symbol()) for s in self.sizes}, {})

    def substituted(self, values: Mapping[Symbol, Position], sizes: Mapping[Symbol, int]) -> Term:
        """With positions in place of symbols; `sizes` are those of symbols that are new."""
        known = {**self.sizes, **sizes}
        for s, position in values.items():
            if s in self.sizes and isinstance(position, Affine) and plain(position) is not None:
                known.setdefault(plain(position), self.sizes[s])  # type: ignore[arg-type]
        left = {s: n for s, n in known.items() if s not in values}
        return replace(
            self,
            sizes=left,
            out=tuple(moved(p, values, left) for p in self.out),
            inn=tuple(moved(p, values, left) for p in self.inn),
            factors=tuple(reread(f, values, left) for f in self.factors),
            guards=tuple(Guard(moved(g.position, values, left), g.size) for g in self.guards),
        )


# -- what forms are made of --------------------------------------------------------------------


def box_of(shape: Shape) -> tuple[dict[Symbol, int], tuple[Affine, ...]]:
    """A new symbol for each axis."""
    sizes = {next_symbol(): n for n in shape}
    return sizes, tuple(at(s) for s in sizes)


def identity(shape: Shape, scale: float = 1.0) -> Term:
    """scale · I."""
    sizes, index = box_of(shape)
    return Term(sizes, index, index, scale=scale)


def full(out: Shape, inn: Shape) -> Term:
    """Ones everywhere: every output with every input."""
    rows, left = box_of(out)
    columns, right = box_of(inn)
    return Term({**rows, **columns}, left, right)


def of_map(map: IndexMap, tables: Sequence[Any] = ()) -> Term:
    """An index map as a term; reshapes count along their axes, not in the common refinement."""
    symbols = [next_symbol() for _ in map.sizes]
    sizes = dict(zip(symbols, map.sizes, strict=True))

    def position(p: Place) -> Position:
        if p.table is None:
            return affine({symbols[s]: a for s, a in _joined(p.terms)}, p.offset)
        return Entry(np.asarray(tables[p.table]), tuple(symbols[s] for s, _ in p.terms))

    if map.in_view != map.in_shape or map.out_view != map.out_shape:
        return _reshape(map.in_shape, map.out_shape)
    out = tuple(position(p) for p in map.writes)
    inn = tuple(position(p) for p in map.reads)
    guards = []
    for p, n in [*zip(out, map.out_shape, strict=True), *zip(inn, map.in_shape, strict=True)]:
        if leaves(p, n, sizes):
            guards.append(Guard(p, n))
    return Term(sizes, out, inn, guards=tuple(guards))


def _joined(terms: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    total: dict[int, int] = {}
    for s, a in terms:
        total[s] = total.get(s, 0) + a
    return list(total.items())


def _reshape(in_shape: Shape, out_shape: Shape) -> Term:
    """The same flat place on both sides."""
    from .compose import solve  # solving substitutes in terms

    (rows, out), (columns, inn) = box_of(out_shape), box_of(in_shape)
    places = []
    for index, shape in ((out, out_shape), (inn, in_shape)):
        total = Affine()
        for p, n in zip(index, shape, strict=True):
            total = Affine().plus(total, n).plus(p)
        places.append(total)
    both = Term({**rows, **columns}, out, inn)
    if 0 in out_shape:
        return both
    ones = {s: Affine() for s, n in both.sizes.items() if n == 1}
    both = both.substituted(ones, {})
    solved = solve(both, [(moved(places[0], ones, {}), moved(places[1], ones, {}))])
    assert solved is not None, "some place is the same"
    return solved
