"""Local Jacobians as forms: what each kind of local form (core/local.py) is in terms."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.indexmap import IndexMap
from ..core.local import (
    Contraction,
    Diagonal,
    Identity,
    Linear,
    Local,
    Mask,
    Product,
    Scale,
    Zero,
)  # fmt: skip
from ..core.types import Shape
from ..errors import StructureError
from ..ops.contraction import parse
from ..ops.dispatch import CastBack
from ..ops.tensor import Tensor
from .form import Form, made, unit
from .positions import Factor, at, next_symbol
from .term import Term, box_of, identity, of_map


def form_of(
    local: Local, out_shape: Shape, in_shape: Shape, dtype: Any, loose: bool = False
) -> Form:
    """The form of a local Jacobian. StructureError for one that says nothing of its structure.

    With `loose` a selection by values that are not known is one of any entry.
    """
    match local:
        case Identity() | CastBack():
            return unit(in_shape, dtype)
        case Zero():
            return Form(out_shape, in_shape, np.dtype(dtype), ())
        case Scale():
            return made(out_shape, in_shape, dtype, [identity(in_shape, float(local.factor))])
        case Diagonal():
            return made(out_shape, in_shape, dtype, [_diagonal(local.partial, out_shape)])
        case Mask():
            mask = value_of(local.mask)
            if not local.passes:
                mask = np.logical_not(mask) if isinstance(mask, np.ndarray) else ~mask
            return made(out_shape, in_shape, dtype, [_diagonal(mask, out_shape)])
        case Linear():
            tables = tuple(value_of(t) for t in local.tables)
            unknown = [k for k, t in enumerate(tables) if isinstance(t, Tensor)]
            if unknown and loose:
                return made(out_shape, in_shape, dtype, [_any_entry(local.map, tables)])
            if unknown:
                raise StructureError("a selection that depends on values not known yet")
            return made(out_shape, in_shape, dtype, [of_map(local.map, tables)])
        case Contraction():
            return made(out_shape, in_shape, dtype, [_contraction(local, out_shape, in_shape)])
        case Product():
            return _product(local, out_shape, in_shape, dtype, loose)
    raise StructureError(f"a Jacobian of the form {type(local).__name__}")


def value_of(x: Any) -> Any:
    """The bare array of a constant; of what is being traced the Tensor."""
    if isinstance(x, Tensor):
        return x._value if x._value is not None and x._node is None else x
    return np.asarray(x)


def _diagonal(partial: Any, shape: Shape) -> Term:
    """diag(partial); along axes where the partial is the same for all it has no symbol."""
    sizes, index = box_of(shape)
    partial = value_of(partial)
    symbols = list(sizes)[len(shape) - partial.ndim :]
    if isinstance(partial, np.ndarray):
        steady = [n == 1 or step == 0
                  for n, step in zip(partial.shape, partial.strides, strict=True)]  # fmt: skip
    else:
        steady = [n == 1 for n in partial.shape]
    if 0 not in partial.shape and any(steady):
        partial = partial[tuple(0 if flat else slice(None) for flat in steady)]
        symbols = [s for s, flat in zip(symbols, steady, strict=True) if not flat]
        partial = np.asarray(partial) if not isinstance(partial, Tensor) else partial
    return Term(sizes, index, index, (Factor(partial, tuple(symbols)),))


def _contraction(local: Contraction, out_shape: Shape, in_shape: Shape) -> Term:
    """∂out/∂operand of a contraction: the other operand, where shared letters are deltas."""
    first, second, out = parse(local.spec)
    own, others = (first, second) if local.position == 0 else (second, first)
    letters: dict[str, int] = {}
    sizes: dict[int, int] = {}
    for names, shape in ((out, out_shape), (own, in_shape)):
        for name, n in zip(names, shape, strict=True):
            sizes[letters.setdefault(name, next_symbol())] = n
    other = value_of(local.other)
    for name, n in zip(others, other.shape, strict=True):
        sizes[letters.setdefault(name, next_symbol())] = n
    return Term(
        sizes, tuple(at(letters[c]) for c in out), tuple(at(letters[c]) for c in own),
        (Factor(other, tuple(letters[c] for c in others)),),
    )  # fmt: skip


def _any_entry(map: IndexMap, tables: tuple[Any, ...]) -> Term:
    """The map with any position where a table is not known."""
    known = [np.zeros((1,), np.int64) if isinstance(t, Tensor) else t for t in tables]
    term = of_map(map, known)
    sizes = dict(term.sizes)
    sides: list[tuple[Any, ...]] = []
    for places, positions, shape in (
        (map.writes, term.out, map.out_shape), (map.reads, term.inn, map.in_shape),
    ):  # fmt: skip
        side = []
        for place, position, n in zip(places, positions, shape, strict=True):
            if place.table is not None and isinstance(tables[place.table], Tensor):
                free = next_symbol()
                sizes[free] = n
                position = at(free)
            side.append(position)
        sides.append(tuple(side))
    guards = tuple(g for g in term.guards if g.position in (*sides[0], *sides[1]))
    out, inn = sides
    return Term(sizes, out, inn, guards=guards)


def _product(local: Product, out_shape: Shape, in_shape: Shape, dtype: Any, loose: bool) -> Form:
    """first × second × …: each factor's shapes follow from its map, or do not change."""
    total: Form | None = None
    shape = out_shape
    for factor in local.factors:
        below = factor.map.in_shape if isinstance(factor, Linear) else shape
        form = form_of(factor, shape, below, dtype, loose)
        total = form if total is None else total @ form
        shape = below
    assert total is not None and shape == in_shape
    return total
