"""The structure of a form in words, read off the positions of its terms and never off values.

Axes that carry the same symbol on both sides in all terms are blocks (or an identity ⊗, where no
factor knows of them); what is left of each term falls into a Kronecker product of parts that share
a symbol, and each part has a name. Every name is a promise about which entries can be other than
0, so where nothing better is known it is "dense", with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..core.types import Shape
from .apply import flat
from .form import Form
from .positions import Affine, Entry, Position, Symbol, affine, at, plain, span, symbols_of
from .term import Term

Number = tuple[int, int]
Pair = tuple[Number, Number]


class Axis(NamedTuple):
    """A position along an axis of n entries; `number` is (axis of the form, its digit or 0)."""

    position: Position
    n: int
    number: Number


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


def words(form: Form) -> str:
    """What the structure of a form is called: "diagonal", "identity ⊗ dense 5×4", …"""
    if not form.terms:
        return "zero"
    sketches = [sketch_of(t, form) for t in form.terms]
    said = _permutation(form, sketches) or _said(sketches, form.shape)
    if said != _dense(form.shape):
        return said
    return f"{said}: {_reason(form)}" if said.startswith("dense") else said.split()[0]


def _reason(form: Form) -> str:
    if any("dense" in t.notes for t in form.terms):
        return "a gate that does not tell its structure"
    arrays = list(dict.fromkeys(_times(f.array.shape) for t in form.terms for f in t.factors
                                if f.array.ndim))  # fmt: skip
    if len(arrays) == 1:
        return f"all outputs depend on all inputs through a factor {arrays[0]}"
    return f"all outputs depend on all inputs through factors {', '.join(arrays)}"


def _dense(shape: Shape) -> str:
    """A part without structure; of one row or column by these names."""
    m, n = shape
    if m == 1 or n == 1:
        return f"row 1×{n}" if m == 1 else f"column {m}×1"
    return f"dense {m}×{n}"


def _times(numbers: Iterable[int]) -> str:
    return "×".join(str(n) for n in numbers)


def sketch_of(term: Term, form: Form) -> Sketch:
    """The term without symbols of one value."""
    single = {s for s, n in term.sizes.items() if n == 1}

    def without(p: Position) -> Position:
        if isinstance(p, Entry):
            axes = tuple(s for s in p.axes if s not in single)
            table = p.table.reshape(tuple(n for n, s in zip(p.table.shape, p.axes, strict=True)
                                          if s not in single))  # fmt: skip
            return Entry(table, axes, p.rest.replaced(dict.fromkeys(single, Affine())))
        return affine({s: a for s, a in p.terms if s not in single}, p.offset)

    def axes(positions: Sequence[Position], shape: Shape) -> tuple[Axis, ...]:
        found = zip(positions, shape, range(len(shape)), strict=True)
        return tuple(Axis(without(p), n, (k, 0)) for p, n, k in found if n != 1)

    out, inn = axes(term.out, form.out_shape), axes(term.inn, form.in_shape)
    known = {(a.position, a.n) for a in (*out, *inn)}
    known |= {(_mirrored(p, n), n) for p, n in known}
    guards = [(without(g.position), g.size) for g in term.guards]
    masks = [frozenset(symbols_of(p)) for p, n in guards if (p, n) not in known]
    sizes = {s: n for s, n in term.sizes.items() if s not in single}
    return Sketch(
        sizes, _digits(out, sizes), inn,
        (*(frozenset(f.symbols) - single for f in term.factors if f.array.size > 1), *masks),
        term.scale == 1 and all(f.array.size > 1 for f in term.factors),
        len(masks) < len(guards),
    )  # fmt: skip


def _mirrored(position: Position, n: int) -> Position:
    """The position counted from the end: it lies inside the axis where the other does."""
    if isinstance(position, Entry):
        return position
    return affine({s: -a for s, a in position.terms}, n - 1 - position.offset)


def _digits(axes: Sequence[Axis], sizes: Mapping[Symbol, int]) -> tuple[Axis, ...]:
    """Axes that count in digits of symbols, as an axis for each digit."""
    found: list[Axis] = []
    for a in axes:
        if isinstance(a.position, Affine) and len(a.position.terms) > 1 and _covers([a], sizes):
            order = sorted(a.position.terms, key=lambda pair: -pair[1])
            if order[-1][1] == 1:
                first = a.number[0]
                found += [Axis(at(s), sizes[s], (first, k)) for k, (s, _) in enumerate(order, 1)]
                continue
        found.append(a)
    return tuple(found)


# -- sums of terms -----------------------------------------------------------------------------


def _said(terms: Sequence[Sketch], shape: Shape) -> str:
    """The words for a sum of terms, m×n."""
    if len(terms) == 1:
        return _one(terms[0])
    pairs = shared(terms)
    if not pairs:
        return _sum(terms, shape)
    inner = [stripped(t, pairs) for t in terms]
    held = any(_delta(t, p) in f for t in terms for p in pairs for f in t.factors)
    return _around(terms[0], pairs, held, _sum(inner, inner[0].shape))


def _sum(terms: Sequence[Sketch], shape: Shape) -> str:
    """The words for a sum in which no axis is a block."""
    m, n = shape
    if m == 1 and n == 1:
        return "diagonal" if any(t.factors for t in terms) else "identity"
    if m == 1 or n == 1:
        return _dense(shape)
    offsets: set[int] = set()
    rank, others = 0, []
    for t in terms:
        offset, r = _offset(t), rank_of(t)
        if offset is not None:
            offsets.add(offset)
        elif r is not None:
            rank += r
        else:
            others.append(_one(t))
    if rank >= min(m, n) or _dense(shape) in others:
        return _dense(shape)
    parts = [_bands(offsets, shape)] if offsets else []
    parts += [w if others.count(w) == 1 else f"{others.count(w)} · ({w})"
              for w in dict.fromkeys(others)]  # fmt: skip
    if rank:
        parts.append(f"rank {rank}" if parts or rank == 1 else f"rank ≤ {rank}")
    return " + ".join(parts)


def _bands(offsets: set[int], shape: Shape) -> str:
    """Diagonals at these offsets (input place - output place)."""
    m, n = shape
    if offsets == {0} and m == n:
        return "diagonal"
    if len(offsets) == max(m, n) and m == n:
        if max(offsets) == 0:
            return "lower triangular"
        if min(offsets) == 0:
            return "upper triangular"
    around = {(o + n // 2) % n - n // 2 for o in offsets} if m == n else offsets
    name = "banded"
    if len(around) < len(offsets):
        name, offsets = "banded, periodic", around
    plural = "s" if len(offsets) > 1 else ""
    return f"{name} (offset{plural} {_numbers(offsets)})"


def _numbers(offsets: Iterable[int]) -> str:
    """-3, 0 … 2: runs of four or more are shortened."""
    runs: list[list[int]] = []
    for o in sorted(offsets):
        if runs and o == runs[-1][-1] + 1:
            runs[-1].append(o)
        else:
            runs.append([o])
    texts = chain.from_iterable(
        [f"{r[0]} … {r[-1]}"] if len(r) > 3 else map(str, r) for r in runs
    )  # fmt: skip
    return ", ".join(texts).replace("-", "−")


def _permutation(form: Form, sketches: Sequence[Sketch]) -> str | None:
    """Several terms that move each entry to one place: a roll, slices put together."""
    m, n = form.shape
    size = sum(prod(t.sizes.values()) for t in sketches)
    if len(sketches) < 2 or m != n or size != n:
        return None
    if any(t.factors or not t.unit or t.above != t.below for t in sketches):
        return None
    for shape, sides in ((form.out_shape, [t.out for t in form.terms]),
                         (form.in_shape, [t.inn for t in form.terms])):  # fmt: skip
        seen = np.zeros(n, bool)
        for side, t in zip(sides, form.terms, strict=True):
            places = flat(side, shape, t.sizes, list(t.sizes)).reshape(-1)
            seen[places[places >= 0]] = True
        if not seen.all():
            return None
    return "permutation (roll)" if all(_offset(t) is not None for t in sketches) else "permutation"


# -- blocks ------------------------------------------------------------------------------------


def _delta(t: Sketch, pair: Pair) -> Symbol | None:
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
        if all(_delta(t, (o.number, i.number)) is not None for t in terms)
    ]


def stripped(t: Sketch, pairs: Sequence[Pair]) -> Sketch:
    """The term without these axes, and without what factors know of them."""
    gone = {_delta(t, p) for p in pairs}
    return replace(
        t,
        sizes={s: n for s, n in t.sizes.items() if s not in gone},
        out=tuple(a for a in t.out if a.number not in {o for o, _ in pairs}),
        inn=tuple(a for a in t.inn if a.number not in {i for _, i in pairs}),
        factors=tuple(f - gone for f in t.factors if f - gone),
    )


def _around(t: Sketch, pairs: Sequence[Pair], held: bool, inner: str) -> str:
    """What is inside, with the axes of these pairs around it."""
    rest = stripped(t, pairs)
    before, after = _order(t, pairs)
    m, n = rest.shape
    if m == n == 1:
        return "diagonal" if held else inner
    if not held:
        if before is None:
            return f"identity ⊗ {_bracket(inner)}, axes permuted"
        inner = _bracket(inner)
        return ("identity ⊗ " if before else "") + inner + (" ⊗ identity" if after else "")
    count = prod(a.n for a in t.out if a.number in {o for o, _ in pairs})
    said = f"block-diagonal, {count} blocks {m}×{n}"
    if before is None or after:
        said += ", interleaved"
    return said if inner == _dense((m, n)) else f"{said}: {inner}"


def _order(t: Sketch, pairs: Sequence[Pair]) -> tuple[int | None, int]:
    """How many of the pairs stand before and after the other axes on both sides; None: neither."""
    mine = [a.number for a in t.out if a.number in {o for o, _ in pairs}]
    rest = stripped(t, pairs)
    partner = dict(pairs)
    for k in reversed(range(len(mine) + 1)):
        out = [*mine[:k], *(a.number for a in rest.out), *mine[k:]]
        inn = [*(partner[o] for o in mine[:k]), *(a.number for a in rest.inn),
               *(partner[o] for o in mine[k:])]  # fmt: skip
        if out == [a.number for a in t.out] and inn == [a.number for a in t.inn]:
            return k, len(mine) - k
    return None, 0


def _bracket(text: str) -> str:
    """In brackets where something stands around a sum, a product or a list."""
    return f"({text})" if any(c in text for c in ("+", ",", " · ", ":")) else text


# -- one term ----------------------------------------------------------------------------------


def _one(t: Sketch) -> str:
    """The words for one term."""
    if t.above == t.below or _reshaped(t):
        return _scaled(t, _matching(t))
    pairs = shared([t])
    deltas = {_delta(t, p) for p in pairs}
    held = any(f & deltas for f in t.factors)
    if held:
        left, core, right = _outside(t)
        tied = any(plain(a.position) is None for a in (*t.out, *t.inn))
        if (core or tied) and not any(f & deltas for f in core) and (left or right):
            bare = _one(replace(t, factors=tuple(core)))
            bare = f"({bare})" if " ⊗ " in bare else _bracket(bare)
            return ("diagonal · " if left else "") + bare + (" · diagonal" if right else "")
    inner = stripped(t, pairs) if pairs else t
    said = _inner(inner)
    if said in ("copies", "sums") and not held:
        return _scaled(t, said)
    return _around(t, pairs, held, said) if pairs else said


def _scaled(t: Sketch, said: str) -> str:
    """With the number in front, and the diagonal that factors make."""
    if t.factors:
        return "diagonal" if said.startswith(("identity", "diagonal")) else f"{said} · diagonal"
    return said if t.unit else f"c · {said}"


def _outside(t: Sketch) -> tuple[list[Any], list[Any], list[Any]]:
    """The factors that are diagonals on the left, those that are not, those on the right."""
    above = {s for a in t.out if (s := plain(a.position)) is not None}
    below = {s for a in t.inn if (s := plain(a.position)) is not None}
    left = [f for f in t.factors if f <= above]
    right = [f for f in t.factors if f <= below and not f <= above]
    core = [f for f in t.factors if not f <= above and not f <= below]
    return left, core, right


def _inner(t: Sketch) -> str:
    """A Kronecker product of the parts that hang together, in the order of their axes."""
    loose: list[Sketch] = []  # parts on one side only
    named: list[str] = []
    for part in parts_of(t):
        if part.out and part.inn:
            named.append(_part(part))
        elif part.above or part.below:
            loose.append(part)
        else:
            named.append(_matching(part))
    above, below = [p for p in loose if p.out], [p for p in loose if p.inn]
    m, n = (prod(p.shape[k] for p in loose) for k in (0, 1))
    if above and below:
        named.append("rank 1")
    elif loose:
        bare = not any(p.factors for p in loose)
        named.append(("copies" if above else "sums") if bare else _dense((m, n)))
    return " ⊗ ".join(_bracket(w) for w in named) if len(named) > 1 else named[0]


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
            t, sizes={}, out=tuple(a for a in t.out if a in fixed),
            inn=tuple(a for a in t.inn if a in fixed), factors=(),
        ))  # fmt: skip
    for g in groups:
        out = tuple(a for a in t.out if g & set(symbols_of(a.position)))
        inn = tuple(a for a in t.inn if g & set(symbols_of(a.position)))
        factors = tuple(f for f in t.factors if f & g)
        if out or inn:
            sizes = {s: n for s, n in t.sizes.items() if s in g}
            found.append(replace(t, sizes=sizes, out=out, inn=inn, factors=factors))
    return sorted(found, key=lambda p: [a.number for a in p.out or p.inn])


def _part(t: Sketch) -> str:
    """The name of one part that is on both sides."""
    if not t.above & t.below:
        rank = rank_of(t)
        small = rank is not None and rank < min(t.shape)
        return f"rank {rank}" if small else _dense(t.shape)
    if t.above == t.below:
        return _scaled(replace(t, unit=True), _matching(t))
    return triangle_of(t) or _windows(t) or _windows(t.T, "transposed ") or _blocks(t)


def _blocks(t: Sketch) -> str:
    """Deltas inside a part: blocks; else positions that are tied in no way that has a name."""
    pairs = shared([t])
    if pairs:
        return _around(t, pairs, True, _inner(stripped(t, pairs)))
    if t.below < t.above and not t.factors:
        return "copies"
    if t.above < t.below and not t.factors:
        return "sums"
    return "sparse (tied positions)"


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


def _offset(t: Sketch) -> int | None:
    """Input place - output place, flat, where that is the same for all entries."""
    if t.above != t.below:
        return None
    out, inn = _flat(t.out), _flat(t.inn)
    if out is None or inn is None:
        return None
    difference = inn.plus(out, -1)
    return None if difference.terms else difference.offset


def _flat(axes: Sequence[Axis]) -> Affine | None:
    """The flat place; None through tables."""
    total = Affine()
    for a in axes:
        if isinstance(a.position, Entry):
            return None
        total = Affine().plus(total, a.n).plus(a.position)
    return total


# -- names of parts ----------------------------------------------------------------------------


def _covers(axes: Sequence[Axis], sizes: Mapping[Symbol, int]) -> bool:
    """Whether each place of these axes is there once: digits of mixed radices, any way round."""
    place = _flat(axes)
    if place is None:
        return False
    total = prod(a.n for a in axes)
    radix = 1
    for s, a in sorted(place.terms, key=lambda pair: abs(pair[1])):
        if abs(a) != radix:
            return False
        radix *= sizes[s]
    return radix == total and span(place, sizes) == (0, total - 1)


def _matching(t: Sketch) -> str:
    """The name of a part in which each entry joins one output to one input."""
    if _reshaped(t):
        same = [a.n for a in t.out] == [a.n for a in t.inn]
        return "identity" if same else "identity (reshaped)"
    out, inn = _flat(t.out), _flat(t.inn)
    tables = out is None or inn is None
    whole = [_covers(side, t.sizes) and not t.guarded for side in (t.out, t.inn)]
    if out is not None and inn is not None and all(whole):
        strides = {s: abs(a) for s, a in out.terms}
        flipped = all(strides.get(s) == abs(a) for s, a in inn.terms)
        return f"permutation ({'flip' if flipped else 'transpose'})"
    offset = _offset(t)
    if offset == 0 and t.shape[0] == t.shape[1]:
        return "diagonal"
    if whole[0]:
        return f"selection ({_through(t.inn, tables)})"
    if whole[1]:
        return _into(t.out, tables)
    if offset is not None:
        return _bands({offset}, t.shape)
    return "selection (table), embedded" if tables else "partial permutation"


def _reshaped(t: Sketch) -> bool:
    """Whether both sides are at the same flat place, whatever that is."""
    out, inn = _flat(t.out), _flat(t.inn)
    whole = any(_covers(side, t.sizes) for side in (t.out, t.inn))
    return out is not None and out == inn and whole and t.shape[0] == t.shape[1]


def _through(axes: Sequence[Axis], tables: bool) -> str:
    """What a selection reads through."""
    if tables:
        return "table"
    if any(len(symbols_of(a.position)) > 1 for a in axes):
        return "windows"
    every = [s for a in axes for s in symbols_of(a.position)]
    return "diagonal" if len(every) > len(set(every)) else "slice"


def _into(axes: Sequence[Axis], tables: bool) -> str:
    """The transpose of a selection."""
    through = _through(axes, tables)
    if through == "windows":
        return "sums (overlapping windows)"
    if through == "table":
        return "sums (table)"
    return "embedding" if through == "slice" else "embedding (diagonal)"


def triangle_of(t: Sketch) -> str | None:
    """Triangular: the input stands at the place of the output, or all the way before (behind)."""
    if len(t.out) != 1 or len(t.inn) != 1:
        return None
    (out,), (inn,) = t.out, t.inn
    if isinstance(out.position, Entry) or isinstance(inn.position, Entry) or out.n != inn.n:
        return None
    difference = inn.position.plus(out.position, -1)
    if set(symbols_of(difference)) & t.above & t.below or len(difference.terms) != 1:
        return None
    low, high = span(difference, t.sizes)
    n, ((_, step),) = out.n, difference.terms
    side = "lower" if high <= 0 and low <= 1 - n else "upper" if low >= 0 and high >= n - 1 else ""
    if not side:
        return None
    strictly = "" if 0 in (low, high) else "strictly "
    return f"{strictly}{side} triangular" + (" (ones)" if not t.factors and abs(step) == 1 else "")


def _windows(t: Sketch, way: str = "") -> str | None:
    """Each output reads a window of the input, at stride · its place."""
    both = t.above & t.below
    if any(plain(a.position) is None for a in t.out):
        return None
    inside: list[Symbol] = []
    strides: set[int] = set()
    for a in t.inn:
        own = symbols_of(a.position)
        if isinstance(a.position, Entry):
            return None
        moving = [s for s in own if s in both]
        if moving:
            inside += [s for s in own if s not in both]
            if len(moving) > 1:
                return None
            strides.add(a.position.stride(moving[0]))
    if not inside:
        return None
    size = _times(t.sizes[s] for s in inside)
    if strides == {1}:  # of these the transpose is one, too
        way = ""
    steady = not any(f & both for f in t.factors)
    weights = any(f & set(inside) for f in t.factors) and steady
    kind = f"{way}{'convolution' if weights else 'windows'} {size}"
    return f"{'banded/Toeplitz' if steady else 'banded'} ({kind})"


__all__ = [
    "Sketch", "parts_of", "rank_of", "shared", "sketch_of", "stripped", "triangle_of", "words",
]  # fmt: skip
