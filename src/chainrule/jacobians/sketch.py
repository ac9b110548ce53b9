"""Terms without their arrays, as the words for a structure and its pictures read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, NamedTuple

from ..core.types import Shape
from .form import Form
from .positions import Affine, Entry, Position, Symbol, affine, at, plain, span, symbols_of
from .term import Term

Pair = tuple[int, int]


class Axis(NamedTuple):
    """A position along an axis of n entries; `number` is the axis of the form."""

    position: Position
    n: int
    number: int


@dataclass(frozen=True)
class Sketch:
    """A term, or a part of one, without its arrays."""

    sizes: Mapping[Symbol, int]
    out: tuple[Axis, ...]
    inn: tuple[Axis, ...]
    factors: tuple[frozenset[Symbol], ...]
    unit: bool
    """Whether no number stands in front of it."""
    guarded: bool
    """Whether some positions lie outside their axis."""

    @property
    def shape(self) -> Shape:
        return prod(a.n for a in self.out), prod(a.n for a in self.inn)

    @property
    def T(self) -> Sketch:
        return replace(self, out=self.inn, inn=self.out)

    @property
    def above(self) -> set[Symbol]:
        """The symbols of the output."""
        return {s for a in self.out for s in symbols_of(a.position)}

    @property
    def below(self) -> set[Symbol]:
        """The symbols of the input."""
        return {s for a in self.inn for s in symbols_of(a.position)}


def sketch_of(term: Term, form: Form) -> Sketch:
    """The term without symbols of one value."""
    single = {s for s, n in term.sizes.items() if n == 1}

    def without(p: Position) -> Position:
        if isinstance(p, Entry):
            axes = tuple(s for s in p.axes if s not in single)
            table = p.table.reshape(tuple(n for n, s in zip(p.table.shape, p.axes, strict=True)
                                          if s not in single))  # fmt: skip
            rest = p.rest.replaced(dict.fromkeys(single, Affine()))
            return Entry(table, axes, rest) if axes else rest.plus(Affine((), int(table)))
        return affine({s: a for s, a in p.terms if s not in single}, p.offset)

    def axes(positions: Sequence[Position], shape: Shape) -> tuple[Axis, ...]:
        found = zip(positions, shape, range(len(shape)), strict=True)
        return tuple(Axis(without(p), n, k) for p, n, k in found if n != 1)

    out, inn = axes(term.out, form.out_shape), axes(term.inn, form.in_shape)
    known = {(a.position, a.n) for a in (*out, *inn)}
    known |= {(_mirrored(p, n), n) for p, n in known}
    guards = [(without(g.position), g.size) for g in term.guards]
    masks = [frozenset(symbols_of(p)) for p, n in guards if (p, n) not in known]
    sizes = {s: n for s, n in term.sizes.items() if s not in single}
    return Sketch(
        sizes, out, inn,
        (*(frozenset(f.symbols) - single for f in term.factors if f.array.size > 1), *masks),
        term.scale == 1 and all(f.array.size > 1 for f in term.factors),
        len(masks) < len(guards),
    )  # fmt: skip


def _mirrored(position: Position, n: int) -> Position:
    """The position counted from the end: it lies inside the axis where the other does."""
    if isinstance(position, Entry):
        return position
    return affine({s: -a for s, a in position.terms}, n - 1 - position.offset)


def refined(form: Form) -> Form:
    """The same with axes that count in digits, in all terms the same, as an axis for each digit."""

    def split(shape: Shape, sides: Sequence[Sequence[Position]]) -> tuple[Shape, list[Any]]:
        sizes: list[int] = []
        places: list[list[Position]] = [[] for _ in sides]
        for axis, n in enumerate(shape):
            found = [_digits(side[axis], n, t) for side, t in zip(sides, form.terms, strict=True)]
            radices = {tuple(t.sizes[s] for s in d) for d, t in zip(found, form.terms, strict=True)}
            if len(radices) == 1 and len(found[0]) > 1:
                sizes += radices.pop()
                for place, digits in zip(places, found, strict=True):
                    place += [at(s) for s in digits]
            else:
                sizes.append(n)
                for place, side in zip(places, sides, strict=True):
                    place.append(side[axis])
        return tuple(sizes), places

    out_shape, outs = split(form.out_shape, [t.out for t in form.terms])
    in_shape, inns = split(form.in_shape, [t.inn for t in form.terms])
    terms = tuple(replace(t, out=tuple(o), inn=tuple(i))
                  for t, o, i in zip(form.terms, outs, inns, strict=True))  # fmt: skip
    return Form(out_shape, in_shape, form.dtype, terms)


def _digits(position: Position, n: int, term: Term) -> list[Symbol]:
    """The symbols of a position that counts to n in them, the highest first; else none."""
    if isinstance(position, Entry) or not covers([Axis(position, n, 0)], term.sizes):
        return []
    order = sorted(position.terms, key=lambda pair: -pair[1])
    steps = [a for _, a in order]
    return [s for s, _ in order] if position.offset == 0 and all(a > 0 for a in steps) else []


# -- deltas ------------------------------------------------------------------------------------


def delta(t: Sketch, pair: Pair) -> Symbol | None:
    """The symbol that runs along an axis of the output and one of the input, and nothing else."""
    out = next(a for a in t.out if a.number == pair[0])
    inn = next(a for a in t.inn if a.number == pair[1])
    s = plain(out.position)
    if s is None or s != plain(inn.position) or not t.sizes[s] == out.n == inn.n:
        return None
    rest = [*t.out, *t.inn]
    alone = sum(s in symbols_of(a.position) for a in rest) == 2
    return s if alone else None


def shared(terms: Sequence[Sketch]) -> list[Pair]:
    """The pairs of axes that are a delta in all terms."""
    first = terms[0]
    return [
        (o.number, i.number)
        for o in first.out
        for i in first.inn
        if all(delta(t, (o.number, i.number)) is not None for t in terms)
    ]


def stripped(t: Sketch, pairs: Sequence[Pair]) -> Sketch:
    """The term without these axes, and without what factors know of them."""
    gone = {delta(t, p) for p in pairs}
    return replace(
        t,
        sizes={s: n for s, n in t.sizes.items() if s not in gone},
        out=tuple(a for a in t.out if a.number not in {o for o, _ in pairs}),
        inn=tuple(a for a in t.inn if a.number not in {i for _, i in pairs}),
        factors=tuple(f - gone for f in t.factors if f - gone),
    )


def parts_of(t: Sketch) -> list[Sketch]:
    """The parts of a term that share no symbol."""
    groups: list[set[Symbol]] = []
    for new in [*(set(symbols_of(a.position)) for a in (*t.out, *t.inn)), *map(set, t.factors)]:
        if new:
            together = [g for g in groups if g & new]
            groups = [g for g in groups if not g & new] + [new.union(*together)]
    found = []
    fixed = [a for a in (*t.out, *t.inn) if not symbols_of(a.position)]
    if fixed:
        found.append(replace(
            t, sizes={}, out=tuple(a for a in t.out if not symbols_of(a.position)),
            inn=tuple(a for a in t.inn if not symbols_of(a.position)), factors=(),
        ))  # fmt: skip
    for g in groups:
        out = tuple(a for a in t.out if g & set(symbols_of(a.position)))
        inn = tuple(a for a in t.inn if g & set(symbols_of(a.position)))
        factors = tuple(f for f in t.factors if f & g)
        if out or inn:
            sizes = {s: n for s, n in t.sizes.items() if s in g}
            found.append(replace(t, sizes=sizes, out=out, inn=inn, factors=factors))
    return sorted(found, key=lambda p: [a.number for a in p.out or p.inn])


# -- flat places -------------------------------------------------------------------------------


def offset_of(t: Sketch) -> int | None:
    """Input place - output place, flat, where that is the same for all entries."""
    if t.above != t.below:
        return None
    out, inn = flat_of(t.out), flat_of(t.inn)
    if out is None or inn is None:
        return None
    difference = inn.plus(out, -1)
    return None if difference.terms else difference.offset


def flat_of(axes: Sequence[Axis]) -> Affine | None:
    """The flat place; None through tables."""
    total = Affine()
    for a in axes:
        if isinstance(a.position, Entry):
            return None
        total = Affine().plus(total, a.n).plus(a.position)
    return total


def covers(axes: Sequence[Axis], sizes: Mapping[Symbol, int]) -> bool:
    """Whether each place of these axes is there once: digits of mixed radices, any way round."""
    place = flat_of(axes)
    if place is None:
        return False
    total = prod(a.n for a in axes)
    radix = 1
    for s, a in sorted(place.terms, key=lambda pair: abs(pair[1])):
        if abs(a) != radix:
            return False
        radix *= sizes[s]
    return radix == total and span(place, sizes) == (0, total - 1)


def rank_of(t: Sketch) -> int | None:
    """A bound of the rank where no symbol is on both sides; None where there is none."""
    if t.above & t.below:
        return None
    summed = {s for f in t.factors for s in f} - t.above - t.below
    linked = [f for f in t.factors if f & t.above and f & t.below]
    if linked:
        return None
    groups: list[set[Symbol]] = []  # what hangs together through sums
    for new in map(set, t.factors):
        together = [g for g in groups if g & new & summed]
        groups = [g for g in groups if not g & new & summed] + [new.union(*together)]
    between = {s for g in groups if g & t.above and g & t.below for s in g & summed}
    rank = prod(t.sizes[s] for s in between)
    return rank if rank < min(t.shape) or rank == 1 else None
