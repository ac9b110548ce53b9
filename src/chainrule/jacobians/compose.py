"""Products of terms: the positions along the axes in the middle are set equal, and solved.

second ∘ first = Σ over both boxes where second.inn(s) = first.out(t), axis by axis. Each of these
equations says what one symbol is:

- one side is a symbol: it is the other side, which must lie in the symbol's range;
- both sides count in digits of mixed radices (after reshapes): the last digits are equal, and so
  on, digits being split where one radix divides the other;
- a symbol stands in it with a factor 1 or -1: it is the rest;
- constants: the product is zero, or nothing is said;
- a table with all the symbols in it: where it is equal to the other side is a factor 0 or 1.

What can be solved in none of these ways has no closed form here (StructureError).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import gcd
from typing import Any

import numpy as np

from ..errors import StructureError
from .arrays import as_float, mask, scaled, times
from .arrays import contracted as contract
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
    span,
    symbols_of,
    values_of,
)
from .term import Term

Equation = tuple[Position, Position]
SMALL = 4096
"""Entries up to which a factor is multiplied into any other."""


def compose(second: Term, first: Term, dtype: Any) -> Term | None:
    """second ∘ first; None where that is zero for whatever values."""
    first = first.renamed()
    joined = Term(
        {**second.sizes, **first.sizes}, second.out, first.inn,
        second.factors + first.factors, second.guards + first.guards, second.scale * first.scale,
        second.notes | first.notes,
    )  # fmt: skip
    solved = solve(joined, list(zip(second.inn, first.out, strict=True)))
    return None if solved is None else simplified(solved, dtype)


def solve(term: Term, equations: Sequence[Equation], loose: bool = False) -> Term | None:
    """The term where these positions are equal; None where they never are.

    With `loose` what cannot be solved is left out: the result covers the true entries.
    """
    left = list(equations)
    while left:
        found = _solved(term, left, loose)
        if found is None:
            if not loose:
                raise StructureError(f"positions {_said(left[0])} that no symbol can be solved for")
            left.pop()
            continue
        if found is ZERO:
            return None
        term, left = found
    return _guarded(term)


def _solved(term: Term, equations: Sequence[Equation], loose: bool) -> Any:
    """The term and the equations that are left after one is solved; None if none can be."""
    for way in (_by_constant, _by_symbol, _by_digits, _by_unit, _by_divisor, _by_table):
        for k, (x, y) in enumerate(equations):
            found = way(term, x, y)
            if found is None or found is ZERO:
                if found is ZERO:
                    return ZERO
                continue
            values, sizes, guards, more, *factors = found
            rest = [*equations[:k], *equations[k + 1 :], *more]
            try:
                new = term.substituted(values, sizes)
                guards = [Guard(moved(g.position, values, new.sizes), g.size) for g in guards]
                rest = [(moved(x, values, new.sizes), moved(y, values, new.sizes)) for x, y in rest]
            except StructureError:
                if loose:
                    continue
                raise
            new = replace(new, guards=(*new.guards, *guards), factors=(*new.factors, *factors))
            return new, rest
    return None


def _said(pair: Equation) -> str:
    return " = ".join("table[…]" if isinstance(p, Entry) else str(len(p.terms)) + " symbols"
                      for p in pair)  # fmt: skip


Found = tuple[dict[Symbol, Position], dict[Symbol, int], list[Guard], list[Equation]]
ZERO: Any = object()
NOTHING: Found = ({}, {}, [], [])


def _by_constant(term: Term, x: Position, y: Position) -> Any:
    if isinstance(x, Entry) or isinstance(y, Entry):
        return NOTHING if type(x) is type(y) and x == y else None
    difference = x.plus(y, -1)
    if not difference.terms:
        return ZERO if difference.offset else NOTHING
    low, high = span(difference, term.sizes)
    return ZERO if low > 0 or high < 0 else None


def _by_symbol(term: Term, x: Position, y: Position) -> Any:
    """One side is a symbol that the other does not have."""
    for one, other in ((x, y), (y, x)):
        symbol = plain(one)
        if symbol is None or symbol in symbols_of(other):
            continue
        n = term.sizes[symbol]
        guards = [Guard(other, n)] if leaves(other, n, term.sizes) else []
        return {symbol: other}, {}, guards, []
    return None


def _by_digits(term: Term, x: Position, y: Position) -> Any:
    """Both sides are numbers in mixed radices: their last digits are equal."""
    if isinstance(x, Entry) or isinstance(y, Entry) or x.offset or y.offset:
        return None
    one, other = _last_digit(x, term.sizes), _last_digit(y, term.sizes)
    if one is None or other is None or set(symbols_of(x)) & set(symbols_of(y)):
        return None
    (s, m), p, (t, n), q = one, x, other, y
    if m > n:
        (s, m), p, (t, n), q = other, y, one, x
    if n % m:
        return None
    if m == n:
        rest = (_divided(p, s, m), _divided(q, t, m))
        return {t: at(s)}, {}, [], [rest]
    high = next_symbol()  # the longer digit t is made of high · m + s
    value = affine({high: m, s: 1})
    rest = (_divided(p, s, m), _divided(q, t, m).plus(at(high)))
    return {t: value}, {high: n // m}, [], [rest]


def _last_digit(p: Affine, sizes: Mapping[Symbol, int]) -> tuple[Symbol, int] | None:
    """The symbol of stride 1 and its size, where all other strides are multiples of that."""
    units = [s for s, a in p.terms if a == 1]
    if len(units) != 1:
        return None
    (s,) = units
    n = sizes[s]
    if n == 0 or any(a < 0 or (a % n and t != s) for t, a in p.terms):
        return None
    return s, n


def _divided(p: Affine, digit: Symbol, n: int) -> Affine:
    """(p - digit) / n."""
    return affine({s: a // n for s, a in p.terms if s != digit})


def _by_unit(term: Term, x: Position, y: Position) -> Any:
    """A symbol with a factor 1 or -1 is the rest; guarded by its range."""
    if isinstance(x, Entry) or isinstance(y, Entry):
        return None
    difference = x.plus(y, -1)
    units = [s for s, a in difference.terms if abs(a) == 1]
    if not units:
        return None
    inside = {s for f in term.factors for s in f.symbols}
    symbol = min(units, key=lambda s: (s in inside, -term.sizes[s]))  # factors are read again
    sign = -difference.stride(symbol)
    rest = affine({s: a * sign for s, a in difference.terms if s != symbol},
                  difference.offset * sign)  # fmt: skip
    n = term.sizes[symbol]
    guards = [Guard(rest, n)] if leaves(rest, n, term.sizes) else []
    return {symbol: rest}, {}, guards, []


def _by_divisor(term: Term, x: Position, y: Position) -> Any:
    """All strides have a common divisor: the offset has it, too, or nothing is equal."""
    if isinstance(x, Entry) or isinstance(y, Entry):
        return None
    difference = x.plus(y, -1)
    divisor = gcd(*(a for _, a in difference.terms))
    if divisor <= 1:
        return None
    if difference.offset % divisor:
        return ZERO
    terms = {s: a // divisor for s, a in difference.terms}
    positive = affine({s: a for s, a in terms.items() if a > 0}, difference.offset // divisor)
    negative = affine({s: -a for s, a in terms.items() if a < 0})
    return {}, {}, [], [(positive, negative)]


def _by_table(term: Term, x: Position, y: Position) -> Any:
    """A table over all symbols in question: it says where both are equal, as a factor 0 or 1."""
    symbols = tuple(sorted({*symbols_of(x), *symbols_of(y)}))
    if not any(isinstance(p, Entry) and set(symbols_of(p)) == set(symbols) for p in (x, y)):
        return None
    equal = values_of(x, term.sizes, symbols) == values_of(y, term.sizes, symbols)
    return (*NOTHING, Factor(np.asarray(equal), symbols))


def _guarded(term: Term) -> Term | None:
    """Without the guards that always hold; None if one never does."""
    kept: dict[Any, Guard] = {}
    for g in term.guards:
        if isinstance(g.position, Affine):
            if any(term.sizes[s] == 0 for s, _ in g.position.terms):
                continue
            low, high = span(g.position, term.sizes)
            if high < 0 or low >= g.size:
                return None
        if leaves(g.position, g.size, term.sizes):
            kept[g] = g
    return replace(term, guards=tuple(kept))


# -- fewer factors -----------------------------------------------------------------------------


def simplified(term: Term, dtype: Any) -> Term:
    """Factors multiplied and symbols summed where the result is no larger than what goes in."""
    ends = term.ends | {s for g in term.guards for s in symbols_of(g.position)}
    scale, factors = term.scale, list(term.factors)
    having = {s for f in factors for s in f.symbols}
    for s in [s for s in term.sizes if s not in ends and s not in having]:
        scale *= term.sizes[s]  # a sum of equal entries
    factors = _multiplied(factors, dtype)
    while True:
        free = sorted({s for f in factors for s in f.symbols} - ends)
        for s in free:
            inside = [f for f in factors if s in f.symbols]
            result = sorted({t for f in inside for t in f.symbols} - {s})
            if term.size(result) <= max(term.size(f.symbols) for f in inside):
                made = Factor(contract(inside, result, dtype), tuple(result))
                factors = [f for f in factors if not any(f is i for i in inside)] + [made]
                factors = _multiplied(factors, dtype)
                break
        else:
            break
    numbers = [f for f in factors if not f.symbols]
    having = {s for f in factors for s in f.symbols}
    sizes = {s: n for s, n in term.sizes.items() if s in ends or s in having}
    if numbers and len(factors) > len(numbers):  # a number goes into the smallest factor
        rest = [f for f in factors if f.symbols]
        smallest = min(range(len(rest)), key=lambda k: term.size(rest[k].symbols))
        for f in numbers:
            rest[smallest] = times(rest[smallest], f, dtype)
        factors = rest
    return replace(term, sizes=sizes, factors=tuple(factors), scale=scale)


def _multiplied(factors: Sequence[Factor], dtype: Any) -> list[Factor]:
    """Factors over the same symbols, or some of another's, made one."""
    left: list[Factor] = []
    for f in sorted(factors, key=lambda f: -len(f.symbols)):
        for k, g in enumerate(left):
            inside = set(f.symbols) <= set(g.symbols) and (f.symbols or not g.symbols)
            near = g.array.size <= max(SMALL, 4 * f.array.size)  # else the larger stays as it is
            if inside and near:
                left[k] = times(g, f, dtype)
                break
        else:
            left.append(f)
    return left


def collapsed(term: Term, dtype: Any) -> Factor:
    """All factors, guards and the scale of a term as one factor over its box."""
    factors = [*term.factors, *(mask(g, term.sizes) for g in term.guards)]
    if not factors:
        return Factor(np.asarray(term.scale, dtype), ())
    total = factors[0]
    for f in factors[1:]:
        total = times(total, f, dtype)
    return scaled(Factor(as_float(total.array, dtype), total.symbols), term.scale, dtype)
