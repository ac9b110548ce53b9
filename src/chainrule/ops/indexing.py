"""Reading and writing by index: x[…], gather and scatter, take, x.at[…].

Basic indices (numbers, slices) become one slice and a reshape; integer and boolean arrays a gather,
whose transpose adds entries to where they came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..core.context import context
from ..core.indexmap import IndexMap, Position, along_map, gather_map, slice_map
from ..core.primitive import Array, LinearGate, Params
from ..core.types import Shape, broadcast_shapes, normalize_axis
from ..errors import AxisError, DTypeError, ShapeError, TraceError
from .dispatch import astype, bind, broadcast_to, to_tensor
from .logic import where
from .shaping import SLICE, permute_dims, reshape
from .tensor import ArrayLike, Tensor, constant, program_line

__all__ = [
    "repeat", "take", "take_along_axis",
]  # fmt: skip


class Indexing(LinearGate):
    """What gather and its transpose share: batching, where tables may have the new axis or not."""

    def batch(self, xp: Any, n: int, inputs: Sequence[Any], batched: Sequence[bool],
              params: Params) -> Any:  # fmt: skip
        map = params["map"].batched(n, tuple(batched[1:]), batched[0])
        return xp.apply(self, tuple(inputs), {"map": map})


class Gather(Indexing):
    """y = x[…, t0, t1, …]: integer tables index axes of x."""

    name = "gather"

    def forward(self, x: Array, *tables: Array, map: IndexMap) -> Array:
        places, symbols = _plan(map.reads, map.sizes)
        out: Array = x[_fill(places, tables)]
        return out.transpose(_inverse(symbols))


class ScatterAdd(Indexing):
    """Entries added to zeros at the places tables name: the transpose of gather."""

    name = "scatter_add"

    def forward(self, x: Array, *tables: Array, map: IndexMap) -> Array:
        places, symbols = _plan(map.writes, map.sizes)
        out = np.zeros(map.out_shape, x.dtype)
        full = np.broadcast_to(x.reshape(map.alignment), map.sizes)
        np.add.at(out, _fill(places, tables), full.transpose(symbols))
        return out


GATHER, SCATTER_ADD = Gather(), ScatterAdd()
GATHER.dual, SCATTER_ADD.dual = SCATTER_ADD, GATHER


@lru_cache(maxsize=4096)
def _plan(positions: tuple[Position, ...], sizes: Shape) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    """A NumPy index for these positions, and the symbols of the axes that NumPy gives for it.

    An entry is a slice, an array that counts, or (table, shape to bring it into). Symbols that
    tables run over are indexed by arrays wherever they stand.
    """
    over = sorted({s for p in positions if p.table is not None for s, _ in p.terms})
    places: list[Any] = []
    symbols: list[int] = []
    arrays = []
    for axis, p in enumerate(positions):
        if p.table is None and p.terms[0][0] not in over:
            places.append(slice(None))
            symbols.append(p.terms[0][0])
            continue
        arrays.append(axis)
        own = [s for s, _ in p.terms]
        shape = tuple(sizes[s] if s in own else 1 for s in over)
        places.append(
            np.arange(sizes[own[0]]).reshape(shape) if p.table is None else (p.table, shape)
        )
    # NumPy puts the axes of index arrays where the arrays stand, or in front if they stand apart
    together = arrays == list(range(arrays[0], arrays[0] + len(arrays)))
    first = arrays[0] if together else 0
    return tuple(places), (*symbols[:first], *over, *symbols[first:])


def _fill(places: Sequence[Any], tables: Sequence[Array]) -> tuple[Any, ...]:
    return tuple(tables[p[0]].reshape(p[1]) if isinstance(p, tuple) else p for p in places)


def _inverse(symbols: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(range(len(symbols)), key=symbols.__getitem__))


def gather(x: ArrayLike, tables: Sequence[ArrayLike], axis: int = 0) -> Tensor:
    """y[a.., b.., c..] = x[a.., t0[b..], t1[b..], …, c..]: tables for the axes from `axis` on.

    Negative indices count from the end; one out of range is an error.
    """
    x = to_tensor(x)
    indices = [_table(t, x.shape[axis + k], axis + k, x.shape) for k, t in enumerate(tables)]
    try:
        shape = broadcast_shapes(*(t.shape for t in indices))
    except ShapeError:
        raise AxisError(
            f"index arrays of shapes {', '.join(str(t.shape) for t in indices)} "
            "do not broadcast together"
        ) from None
    full = tuple(broadcast_to(t, shape) for t in indices)
    map = gather_map(x.shape, axis, len(full), shape)
    return bind(GATHER, (x, *full), {"map": map})


def _table(index: ArrayLike, n: int, axis: int, shape: Shape) -> Tensor:
    """An index array with negative entries counted from the front, checked where it has values."""
    table = to_tensor(np.asarray(index, np.int64) if isinstance(index, (list, int)) else index)
    if table.dtype.kind not in "iu":
        raise DTypeError(f"indices must be integers or bools, received {table.dtype}")
    if table._value is None:
        table = astype(table, np.int64, copy=False)
        return where(table < 0, table + n, table)
    values = table._value.astype(np.int64, copy=False)
    if values.size:
        low, high = int(values.min()), int(values.max())
        if low < -n or high >= n:
            raise AxisError(
                f"index {low if low < -n else high} is out of range for axis {axis} "
                f"of shape {shape} (size {n})"
            )
        if low < 0:
            values = np.where(values < 0, values + n, values)
    return constant(values)


class Table(NamedTuple):
    """An index array for one axis; a mask also brings the size its axis must have."""

    values: Any
    mask_size: int | None = None
    fresh: bool = False
    """Whether the axis is a new one (the index was a single bool)."""


def getitem(x: Tensor, index: Any) -> Tensor:
    """x[index] as NumPy has it: numbers, slices, None, …, integer and boolean arrays."""
    parts = _expand(x, index)
    indexed = any(isinstance(p, Table) for p in parts)
    ranges: list[range] = []  # for each axis of x: the entries that are taken
    shape: list[int] = []
    tables: list[Any] = []  # for each axis of this shape: an index array or None
    for part in parts:
        if part is None or (isinstance(part, Table) and part.fresh):
            shape.append(1)
            tables.append(part and part.values)
            continue
        axis = len(ranges)
        n = x.shape[axis]
        taken, table = range(n), None
        if isinstance(part, slice):
            taken = _range(part, n)
        elif isinstance(part, Table):
            if part.mask_size not in (None, 0, n):  # an empty mask fits any axis, as in NumPy
                raise AxisError(
                    f"a mask of size {part.mask_size} does not fit axis {axis} of shape {x.shape}"
                )
            table = part.values
        elif indexed:  # beside arrays, numbers count as arrays, as in NumPy
            table = np.asarray(_number(part, n, axis, x.shape))
        else:
            start = _number(part, n, axis, x.shape)
            taken = range(start, start + 1)
        ranges.append(taken)
        if indexed or isinstance(part, slice):
            shape.append(len(taken))
            tables.append(table)
    result = x
    if ranges != [range(n) for n in x.shape]:
        starts = tuple(r.start if r else 0 for r in ranges)
        sizes, steps = tuple(map(len, ranges)), tuple(r.step for r in ranges)
        result = bind(SLICE, (x,), {"map": slice_map(x.shape, starts, sizes, steps)})
    result = reshape(result, tuple(shape))
    return _gather_axes(result, tables) if indexed else result


def _gather_axes(x: Tensor, tables: Sequence[Any]) -> Tensor:
    """Index the axes that have a table; the new axes stand where NumPy puts them."""
    axes = [k for k, t in enumerate(tables) if t is not None]
    first = axes[0]
    if axes != list(range(first, first + len(axes))):  # apart: the new axes come first
        rest = [k for k in range(x.ndim) if k not in axes]
        x, first = permute_dims(x, [*axes, *rest]), 0
    return gather(x, [tables[k] for k in axes], first)


def _number(index: int, n: int, axis: int, shape: Shape) -> int:
    if not -n <= index < n:
        raise AxisError(
            f"index {index} is out of range for axis {axis} of shape {shape} (size {n})"
        )
    return index % n


def _expand(x: Tensor, index: Any) -> list[Any]:
    """The index as a number, slice or Table for each axis, and None for new axes."""
    flat: list[Any] = []
    for part in index if isinstance(index, tuple) else (index,):
        if part is None or part is Ellipsis or isinstance(part, slice):
            flat.append(part)
        elif isinstance(part, (bool, np.bool_)):
            flat.append(Table(np.zeros(int(part), np.int64), fresh=True))
        elif hasattr(part, "__index__") and not getattr(part, "shape", ()):
            flat.append(_scalar_index(part))
        else:
            flat += _arrays(part)
    used = sum(p is not None and p is not Ellipsis and not getattr(p, "fresh", False) for p in flat)
    if used > x.ndim:
        raise AxisError(f"too many indices: {used} for an array of shape {x.shape}")
    dots = [k for k, p in enumerate(flat) if p is Ellipsis]
    if len(dots) > 1:
        raise AxisError("an index can have only one ellipsis ('...')")
    fill = [slice(None)] * (x.ndim - used)
    return flat + fill if not dots else flat[: dots[0]] + fill + flat[dots[0] + 1 :]


def _scalar_index(part: Any) -> Any:
    """A number; 0-d arrays: a bool makes an axis, a traced integer is gathered."""
    if isinstance(part, Tensor) and part._value is None:
        return Table(part)
    if getattr(part, "dtype", None) == np.bool_:
        return Table(np.zeros(int(bool(part)), np.int64), fresh=True)
    try:
        return part.__index__()
    except TypeError as error:
        raise DTypeError(f"an index takes integers, slices and arrays of them: {error}") from None


def _range(part: slice, n: int) -> range:
    """The entries of an axis of n that a slice takes."""
    for bound in (part.start, part.stop, part.step):
        if bound is not None and not hasattr(bound, "__index__"):
            raise DTypeError(f"a slice takes integers, received {bound!r}")
    try:
        return range(n)[part]
    except ValueError:
        raise ShapeError("the step of a slice cannot be 0") from None


def _arrays(part: Any) -> list[Table]:
    """An array in an index: integers as they are, a mask as the positions where it holds."""
    if isinstance(part, (str, float)):
        raise DTypeError(f"an index takes integers, slices and arrays of them, received {part!r}")
    if isinstance(part, (list, tuple)) and not len(part):
        return [Table(np.zeros(0, np.int64))]
    table = to_tensor(part)
    if table.dtype.kind in "iu":
        return [Table(table)]
    if table.dtype.char != "?":
        raise DTypeError(f"an index array must hold integers or bools, received {table.dtype}")
    if table._value is None:
        raise TraceError(
            "indexing with a mask gives a shape that depends on values, which cannot be traced "
            f"({program_line()}): use where(mask, x, other)"
        )
    found = np.nonzero(table._value)
    return [Table(constant(p), n) for p, n in zip(found, table.shape, strict=True)]


def take(x: ArrayLike, indices: ArrayLike, /, *, axis: int | None = None) -> Tensor:
    """The entries at `indices` along an axis."""
    x = to_tensor(x)
    if axis is None and x.ndim != 1:
        raise AxisError(f"name the axis to take from: the array has shape {x.shape}")
    return gather(x, [indices], normalize_axis(axis or 0, x.ndim))


def take_along_axis(x: ArrayLike, indices: ArrayLike, /, *, axis: int = -1) -> Tensor:
    """y[i, j] = x[indices[i, j], j] for axis 0, and so on: one index array for every line."""
    x, indices = to_tensor(x), to_tensor(indices)
    axis = normalize_axis(axis, x.ndim)
    if indices.ndim != x.ndim:
        raise ShapeError(
            f"take_along_axis takes indices with the axes of x: {x.shape} and {indices.shape}"
        )
    shape = broadcast_shapes(
        *(tuple(n for k, n in enumerate(t.shape) if k != axis) for t in (x, indices))
    )
    lines = (*shape[:axis], x.shape[axis], *shape[axis:])
    x = broadcast_to(x, lines)
    indices = broadcast_to(indices, (*shape[:axis], indices.shape[axis], *shape[axis:]))
    table = _table(indices, x.shape[axis], axis, x.shape)
    return bind(GATHER, (x, table), {"map": along_map(x.shape, axis, table.shape)})


def repeat(x: ArrayLike, repeats: ArrayLike, /, *, axis: int | None = None) -> Tensor:
    """Each entry so many times along an axis."""
    x = to_tensor(x)
    if axis is None:
        x, axis = reshape(x, (x.size,)), 0
    axis = normalize_axis(axis, x.ndim)
    counts = np.asarray(to_tensor(repeats)._concrete("repeat"))
    if counts.dtype.kind not in "iu" or (counts < 0).any():
        raise ShapeError(f"repeats must be whole numbers from 0, received {counts}")
    n = x.shape[axis]
    if counts.size not in (1, n):
        raise ShapeError(f"repeats has {counts.size} entries for an axis of {n}")
    return gather(x, [np.repeat(np.arange(n), np.broadcast_to(counts.reshape(-1), (n,)))], axis)


class At:
    """x.at: functional writes. `x.at[i].set(v)` and `x.at[i].add(v)` give new Tensors."""

    __slots__ = ("x",)

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __getitem__(self, index: Any) -> Write:
        return Write(self.x, index)


class Write:
    """x.at[index]: what to do at these places."""

    __slots__ = ("index", "x")

    def __init__(self, x: Tensor, index: Any) -> None:
        self.x, self.index = x, index

    def _places(self) -> Array:
        """The flat position in x of every entry that the index names."""
        parts = self.index if isinstance(self.index, tuple) else (self.index,)
        if any(isinstance(p, Tensor) and p._value is None for p in parts):
            raise TraceError(
                "x.at[…] takes indices that are known while tracing; the ones here are computed"
            )
        count = constant(np.arange(self.x.size).reshape(self.x.shape))
        with context(trace=None, recording=False):
            result: Array = getitem(count, self.index)._value
        return result

    def _entries(self, value: ArrayLike) -> tuple[Array, Tensor]:
        """The places and the entry of `value` for each, both flat."""
        places = self._places()
        entries = broadcast_to(astype(value, self.x.dtype, copy=False), places.shape)
        return places.reshape(-1), reshape(entries, (places.size,))

    def add(self, value: ArrayLike) -> Tensor:
        """x with `value` added at the places; a place named twice gets both."""
        places, added = self._entries(value)
        flat = gather_map((self.x.size,), 0, 1, places.shape)
        total = bind(SCATTER_ADD, (added, places), {"map": flat.T})
        return self.x + reshape(total, self.x.shape)

    def set(self, value: ArrayLike) -> Tensor:
        """x with `value` at the places; of a place named twice the last one counts."""
        places, new = self._entries(value)
        if not places.size:
            return self.x
        last = np.full(self.x.size, -1)
        last[places] = np.arange(places.size)
        last = last.reshape(self.x.shape)
        return where(last >= 0, gather(new, [np.maximum(last, 0)]), self.x)

    def multiply(self, value: ArrayLike) -> Tensor:
        """x with the entries at the places multiplied by `value`."""
        return self.set(getitem(self.x, self.index) * value)
