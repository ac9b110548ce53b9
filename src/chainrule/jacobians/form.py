"""Forms: sums of terms, the closed form of a Jacobian."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..core.types import Shape, size_of
from ..errors import StructureError
from .arrays import as_float, nbytes, plus, scaled
from .compose import collapsed, compose
from .positions import Affine, Entry, Factor, Position, Symbol, at, next_symbol, symbols_of
from .term import Term, full, identity

TERMS = 8
"""Terms with symbols of their own on each side that a form may have."""
CELLS = 512
"""Terms that a form may have in all."""
BLOCK = 16
"""Entries for each of the larger side that a term may have to count as cells or small blocks."""


@dataclass(frozen=True, eq=False)
class Form:
    """Σ of terms: a linear map from arrays of `in_shape` to arrays of `out_shape`."""

    out_shape: Shape
    in_shape: Shape
    dtype: np.dtype[Any]
    terms: tuple[Term, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n), both sides flat."""
        return size_of(self.out_shape), size_of(self.in_shape)

    @property
    def T(self) -> Form:
        terms = tuple(t.T for t in self.terms)
        return Form(self.in_shape, self.out_shape, self.dtype, terms)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays and tables it holds."""
        tables = [Factor(p.table, ()) for t in self.terms for p in t.positions
                  if isinstance(p, Entry)]  # fmt: skip
        return nbytes([*(f for t in self.terms for f in t.factors), *tables])

    def __matmul__(self, other: Form) -> Form:
        """self ∘ other."""
        dtype = np.result_type(self.dtype, other.dtype)
        count = len(self.terms) * len(other.terms)
        if count > CELLS:
            raise StructureError(f"a product of {len(self.terms)} and {len(other.terms)} terms")
        found = [compose(a, b, dtype) for a in self.terms for b in other.terms]
        terms = [t for t in found if t is not None]
        return made(self.out_shape, other.in_shape, dtype, terms)

    def __add__(self, other: Form) -> Form:
        dtype = np.result_type(self.dtype, other.dtype)
        return made(self.out_shape, self.in_shape, dtype, [*self.terms, *other.terms])

    def scaled(self, scale: float) -> Form:
        """scale · self."""
        return replace(self, terms=tuple(replace(t, scale=t.scale * scale) for t in self.terms))


def made(out_shape: Shape, in_shape: Shape, dtype: Any, terms: Iterable[Term]) -> Form:
    """The form of these terms, merged; StructureError if they are too many."""
    large = max(size_of(out_shape), size_of(in_shape))
    left = merged([t for t in terms if t.scale and 0 not in t.sizes.values()], large, dtype)
    wide = [t for t in left if t.size() > BLOCK * large]
    if len(wide) > TERMS or len(left) > CELLS:
        raise StructureError(f"a sum of {len(left)} different structures")
    return Form(out_shape, in_shape, np.dtype(dtype), tuple(left))


def unit(shape: Shape, dtype: Any) -> Form:
    """The identity."""
    return Form(shape, shape, np.dtype(dtype), (identity(shape),) if size_of(shape) else ())


def ones(out_shape: Shape, in_shape: Shape, dtype: Any) -> Form:
    """Every output with every input."""
    return Form(out_shape, in_shape, np.dtype(dtype), (full(out_shape, in_shape),))


# -- sums --------------------------------------------------------------------------------------


def merged(terms: Sequence[Term], large: int, dtype: Any) -> list[Term]:
    """Terms of the same positions added, where all factors but one are the same."""
    groups: dict[Any, list[Term]] = {}
    for term in terms:
        key, term = canonical(term)
        known = groups.setdefault(key, [])
        for k, other in enumerate(known):
            total = _added(other, term, large, dtype)
            if total is not None:
                known[k] = total
                break
        else:
            known.append(term)
    return [t for known in groups.values() for t in known]


def canonical(term: Term) -> tuple[Any, Term]:
    """What terms have in common that can be added, and the term in the symbols of that."""
    order: dict[Symbol, int] = {}
    for p in term.positions:
        for s in symbols_of(p):
            order.setdefault(s, -1 - len(order))
    for s in term.sizes:  # of what is summed over: a name that no other term has
        if s not in order and s < 0:
            order[s] = next_symbol()
    # names that are the same for all terms: negative, by first appearance
    sizes = {order.get(s, s): n for s, n in term.sizes.items()}
    new = replace(
        term,
        sizes=sizes,
        out=tuple(_named(p, order) for p in term.out),
        inn=tuple(_named(p, order) for p in term.inn),
        factors=tuple(
            Factor(f.array, tuple(order.get(s, s) for s in f.symbols)) for f in term.factors
        ),
        guards=tuple(g._replace(position=_named(g.position, order)) for g in term.guards),
    )
    shared = tuple((s, sizes[s]) for s in sorted(order.values()) if s < 0)
    return (new.out, new.inn, frozenset(new.guards), shared), new


def _named(p: Position, names: dict[Symbol, int]) -> Position:
    if isinstance(p, Entry):
        axes = tuple(names[s] for s in p.axes)
        return Entry(p.table, axes, _renamed(p.rest, names))
    return _renamed(p, names)


def _renamed(p: Affine, names: dict[Symbol, int]) -> Affine:
    return p.replaced({s: at(names[s]) for s, _ in p.terms})


def _added(first: Term, second: Term, large: int, dtype: Any) -> Term | None:
    """Both as one term, or None."""
    mine, yours = list(first.factors), list(second.factors)
    for f in list(mine):
        twin = next((g for g in yours if _same(f, g)), None)
        if twin is not None:
            mine = [x for x in mine if x is not f]
            yours = [x for x in yours if x is not twin]
    notes = first.notes | second.notes
    if not mine and not yours:
        return replace(first, scale=first.scale + second.scale, notes=notes)
    positions = {s for p in first.positions for s in symbols_of(p)}
    if len(mine) <= 1 and len(yours) <= 1:
        x, y = (f[0] if f else Factor(np.ones((), dtype), ()) for f in (mine, yours))
        union = {*x.symbols, *y.symbols}
        size = first.size([s for s in union if s in first.sizes])
        if union <= positions and size <= max(large, x.array.size, y.array.size):
            total = plus(scaled(x, first.scale, dtype), scaled(y, second.scale, dtype), dtype)
            same = [f for f in first.factors if f is not x]
            return replace(first, factors=(*same, total), scale=1.0, notes=notes)
    if first.size() <= large and second.size() <= large and set(first.sizes) == positions and (
        set(second.sizes) == positions
    ):  # fmt: skip
        bare = [replace(t, guards=()) for t in (first, second)]  # these stay on the sum
        total = plus(collapsed(bare[0], dtype), collapsed(bare[1], dtype), dtype)
        return replace(first, factors=(total,), scale=1.0, notes=notes)
    return None


def _same(f: Factor, g: Factor) -> bool:
    """Whether two factors are the same array over the same symbols (by identity, not values)."""
    if set(f.symbols) != set(g.symbols):
        return False
    x, y = f.array, g.array
    if f.symbols != g.symbols:
        if not isinstance(x, np.ndarray) or not isinstance(y, np.ndarray):
            return False
        y = y.transpose([g.symbols.index(s) for s in f.symbols])
    if x is y:
        return True
    if not isinstance(x, np.ndarray) or not isinstance(y, np.ndarray):
        return False
    one, other = x.__array_interface__, y.__array_interface__
    return x.dtype == y.dtype and x.shape == y.shape and x.strides == y.strides and (
        one["data"] == other["data"]
    )  # fmt: skip


__all__ = ["Affine", "Form", "as_float", "made", "merged", "ones", "unit"]
