"""The arrays in terms: values, or Tensors of a trace where a structure is found before its values.

Everything here works on either. Products are strong at zero (0 · ∞ = 0), as the rules of gates are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import ops
from ..core import bare
from ..core.indexmap import IndexMap, gather_map, slice_map
from ..core.indexmap import Position as Place
from ..core.types import size_of
from ..ops.dispatch import bind
from ..ops.indexing import GATHER
from ..ops.shaping import PAD, WINDOWS
from ..ops.tensor import Tensor
from .positions import (
    Affine,
    Entry,
    Factor,
    Guard,
    Position,
    Symbol,
    at,
    plain,
    span,
    symbols_of,
    values_of,
)

if TYPE_CHECKING:
    from .term import Term

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def space(*arrays: Any) -> Any:
    """The namespace to compute with: NumPy on bare arrays, else chainrule's own operations."""
    return ops if any(isinstance(a, Tensor) for a in arrays) else bare.xp


def padded(array: Any, before: Sequence[int], after: Sequence[int]) -> Any:
    """The array with zeros before and after along each axis."""
    shape = tuple(a + n + b for a, n, b in zip(before, array.shape, after, strict=True))
    map = slice_map(shape, tuple(before), tuple(array.shape), (1,) * len(shape)).T
    return space(array).apply(PAD, (array,), {"map": map})


def viewed(array: Any, map: IndexMap) -> Any:
    """The entries that a map reads, over its box; all are in bounds."""
    if isinstance(array, Tensor):
        return bind(WINDOWS, (array,), {"map": map})
    return map.view(array)


def taken(array: Any, table: np.ndarray[Any, Any], axis: int) -> Any:
    """array[…, table, …] along an axis, 0 where the table leaves it."""
    n = array.shape[axis]
    inside = (table >= 0) & (table < n)
    safe = np.where(inside, table, 0)
    if not n:
        shape = (*array.shape[:axis], *table.shape, *array.shape[axis + 1 :])
        return np.zeros(shape, array.dtype)
    map = gather_map(tuple(array.shape), axis, 1, tuple(table.shape))
    found = space(array).apply(GATHER, (array, safe), {"map": map})
    if inside.all():
        return found
    mask = inside.reshape(table.shape + (1,) * (found.ndim - axis - table.ndim))
    return space(found).where(mask, found, found.dtype.type(0))


def reread(factor: Factor, values: Mapping[Symbol, Position], sizes: Mapping[Symbol, int]
           ) -> Factor:  # fmt: skip
    """A factor over other symbols: array[values of its symbols], 0 outside the array."""
    if not any(s in values for s in factor.symbols):
        return factor
    positions = tuple(values.get(s, at(s)) for s in factor.symbols)
    found = tuple(plain(p) for p in positions)
    if None not in found and len(set(found)) == len(found):
        shape = tuple(sizes[s] for s in found)  # type: ignore[index]
        if shape == tuple(factor.array.shape):
            return Factor(factor.array, found)  # type: ignore[arg-type]
    return read(factor.array, positions, sizes)


def read(array: Any, positions: Sequence[Position], sizes: Mapping[Symbol, int]) -> Factor:
    """array[positions] over the symbols of the positions: a view where that can be."""
    symbols = tuple(sorted({s for p in positions for s in symbols_of(p)}))
    number = {s: k for k, s in enumerate(symbols)}
    box = tuple(sizes[s] for s in symbols)
    if any(isinstance(p, Entry) for p in positions):
        return _through_tables(array, positions, sizes)
    before, after, places = [], [], []
    for p, n in zip(positions, array.shape, strict=True):
        assert isinstance(p, Affine)
        low, high = span(p, sizes) if 0 not in box else (0, 0)
        before.append(max(0, -low))
        after.append(max(0, high + 1 - n))
        terms = tuple((number[s], a) for s, a in p.terms)
        places.append(Place(terms, p.offset + before[-1]))
    if any(before) or any(after):
        array = padded(array, before, after)
    shape = tuple(array.shape)
    same = tuple(Place(((k, 1),)) for k in range(len(box)))
    map = IndexMap(box, tuple(places), same, shape, box, shape, box)
    return Factor(viewed(array, map), symbols)


def _through_tables(array: Any, positions: Sequence[Position], sizes: Mapping[Symbol, int]
                    ) -> Factor:  # fmt: skip
    """array[…, table[s], …]: one axis after the other."""
    rest = list(positions)
    for axis in reversed(range(len(rest))):
        p = rest[axis]
        if isinstance(p, Entry):
            symbols = symbols_of(p)
            box = tuple(sizes[s] for s in symbols)
            array = taken(array, np.broadcast_to(values_of(p, sizes, symbols), box), axis)
            rest[axis : axis + 1] = [at(s) for s in symbols]
    found = [plain(p) for p in rest]
    apart = None not in found and len(set(found)) == len(found)
    if apart and tuple(array.shape) == tuple(sizes[s] for s in found):  # type: ignore[index]
        return Factor(array, tuple(found))  # type: ignore[arg-type]
    return read(array, rest, sizes)


def aligned(factor: Factor, symbols: Sequence[Symbol]) -> Any:
    """The array with the axes of these symbols in order, 1 for those it does not have."""
    own = [s for s in symbols if s in factor.symbols]
    order = [factor.symbols.index(s) for s in own]
    array = factor.array
    if order != sorted(order):
        array = ops.permute_dims(array, tuple(order)) if isinstance(array, Tensor) else (
            array.transpose(order))  # fmt: skip
    index = tuple(slice(None) if s in own else None for s in symbols)
    return array[index] if len(own) < len(symbols) else array


def times(first: Factor, second: Factor, dtype: Any) -> Factor:
    """Both multiplied, over the symbols of both."""
    symbols = tuple(sorted({*first.symbols, *second.symbols}))
    x, y = aligned(first, symbols), aligned(second, symbols)
    if x.dtype.kind == "b" and y.dtype.kind == "b":
        return Factor(x & y, symbols)
    return Factor(space(x, y).scale_gradient(as_float(x, dtype), as_float(y, dtype)), symbols)


def plus(first: Factor, second: Factor, dtype: Any) -> Factor:
    """Both added, over the symbols of both."""
    symbols = tuple(sorted({*first.symbols, *second.symbols}))
    x, y = aligned(first, symbols), aligned(second, symbols)
    return Factor(as_float(x, dtype) + as_float(y, dtype), symbols)


def scaled(factor: Factor, scale: float, dtype: Any) -> Factor:
    """scale · factor."""
    if scale == 1:
        return factor
    return Factor(as_float(factor.array, dtype) * np.asarray(scale, dtype)[()], factor.symbols)


def as_float(array: Any, dtype: Any) -> Any:
    """The array in the dtype of the Jacobian."""
    if array.dtype == dtype:
        return array
    return ops.astype(array, dtype) if isinstance(array, Tensor) else array.astype(dtype)


def contracted(factors: Sequence[Factor], symbols: Sequence[Symbol], dtype: Any) -> Any:
    """Σ of the product of factors over all symbols but these, each of which some factor has."""
    if not factors:
        assert not symbols
        return np.ones((), dtype)
    if len(factors) == 1 and sorted(factors[0].symbols) == sorted(symbols):
        return as_float(aligned(factors[0], symbols), dtype)
    known = sorted({s for f in factors for s in f.symbols})
    if len(factors) > 1 and sorted(symbols) == known:  # nothing to sum: strong products
        return aligned(reduce(lambda x, y: times(x, y, dtype), factors), symbols)
    letter = dict(zip(known, LETTERS, strict=False))
    left = ",".join("".join(letter[s] for s in f.symbols) for f in factors)
    spec = f"{left}->{''.join(letter[s] for s in symbols)}"
    arrays = [as_float(f.array, dtype) for f in factors]
    if space(*arrays) is ops:
        return ops.einsum(spec, *arrays)
    return np.einsum(spec, *arrays, optimize="greedy" if len(arrays) > 2 else True)


def mask(guard: Guard, sizes: Mapping[Symbol, int]) -> Factor:
    """A guard as a factor 0 or 1."""
    symbols = tuple(sorted(set(symbols_of(guard.position))))
    found = values_of(guard.position, sizes, symbols)
    return Factor((found >= 0) & (found < guard.size), symbols)


def over(term: Term, symbols: Sequence[Symbol], dtype: Any, *more: Factor) -> Any:
    """Σ of scale · factors over all symbols but these: an array over these."""
    factors = [*term.factors, *more, *(mask(g, term.sizes) for g in term.guards)]
    having = {s for f in factors for s in f.symbols}
    scale = term.scale * size_of(tuple(n for s, n in term.sizes.items()
                                       if s not in having and s not in symbols))  # fmt: skip
    if 0 in term.sizes.values():
        return np.zeros(tuple(term.sizes[s] for s in symbols), dtype)
    own = [s for s in symbols if s in having]
    found = contracted(factors, own, dtype)
    if scale != 1:
        found = found * np.asarray(scale, dtype)[()]
    if len(own) < len(symbols):
        shape = tuple(term.sizes[s] for s in symbols)
        found = aligned(Factor(found, tuple(own)), symbols)
        found = (ops.broadcast_to if isinstance(found, Tensor) else np.broadcast_to)(found, shape)
    return found


def nbytes(factors: Iterable[Factor]) -> int:
    """Bytes of the distinct memory under these arrays."""
    seen: dict[int, int] = {}
    for f in factors:
        base = f.array
        while isinstance(base, np.ndarray) and isinstance(base.base, np.ndarray):
            base = base.base
        size = base.nbytes if isinstance(base, np.ndarray) else base.size * base.dtype.itemsize
        own = _own_bytes(f.array)
        seen[id(base)] = max(seen.get(id(base), 0), min(size, own))
    return sum(seen.values())


def _own_bytes(array: Any) -> int:
    """Bytes of the distinct entries of a view."""
    strides = getattr(array, "strides", None)
    if strides is None:
        return int(array.size * array.dtype.itemsize)
    if not array.size:
        return 0
    reach = sum(abs(s) * (n - 1) for s, n in zip(strides, array.shape, strict=True))
    return int(min(array.nbytes, reach + array.itemsize))
