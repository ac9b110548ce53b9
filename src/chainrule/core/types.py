"""Array types: shape and dtype, and how dtypes combine.

The dtypes are those of NumPy that chainrule computes with: bool, the integers, float32 and
float64. Promotion is NumPy's (which is the Array API standard's wherever that defines one).
"""

from __future__ import annotations

from functools import lru_cache
from operator import index
from typing import Any, NamedTuple

import numpy as np

from ..errors import AxisError, DTypeError, ShapeError, TraceError, UnsupportedError

Shape = tuple[int, ...]
Scalar = (bool, int, float)

bool_ = np.dtype("bool")
int8, int16, int32, int64 = (np.dtype(f"int{n}") for n in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (np.dtype(f"uint{n}") for n in (8, 16, 32, 64))
float32, float64 = np.dtype("float32"), np.dtype("float64")

DTYPES = (
    bool_, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float32, float64,
)  # fmt: skip
CHARS = frozenset(d.char for d in DTYPES) | {"q", "Q"}  # long long is int64 by another letter
FLOATS, INTEGERS, BOOLS = "fd", "bhilqBHILQ", "?"


class ArrayType(NamedTuple):
    """The static type of an array: its shape and dtype. Prints as `float32[3, 4]`."""

    shape: Shape
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"

    @property
    def size(self) -> int:
        return size_of(self.shape)


class TupleType(NamedTuple):
    """The type of a gate with several outputs."""

    items: tuple[ArrayType, ...]

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.items))})"


def size_of(shape: Shape) -> int:
    """The number of entries of an array of this shape."""
    size = 1
    for n in shape:
        size *= n
    return size


def as_tuple(value: Any) -> tuple[Any, ...]:
    """A tuple or list as a tuple; anything else as the one entry of a tuple."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def as_shape(shape: Any, *, signed: bool = False) -> Shape:
    """A number or a sequence of them as a shape; `signed` lets negative sizes through."""
    try:
        sizes = tuple(map(index, as_tuple(shape)))
    except TraceError:
        raise
    except TypeError:
        raise DTypeError(f"a shape takes whole numbers, received {shape!r:.60}") from None
    if not signed and min(sizes, default=0) < 0:
        raise ShapeError(f"a shape takes no negative sizes, received {shape!r:.60}")
    return sizes


def as_dtype(dtype: Any) -> np.dtype[Any]:
    """The NumPy dtype meant by `dtype`; one that chainrule does not have is refused by name."""
    try:
        result = np.dtype(dtype)
    except TypeError:
        raise DTypeError(
            f"{dtype!r} is not a dtype; use one of {', '.join(map(str, DTYPES))}"
        ) from None
    return check_dtype(result)


def check_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.char not in CHARS:
        why = " (complex numbers are not supported)" if dtype.kind == "c" else ""
        raise UnsupportedError(
            f"dtype {dtype} is not supported{why}; use one of {', '.join(map(str, DTYPES))}"
        )
    return dtype if dtype.isnative else dtype.newbyteorder("=")


@lru_cache(maxsize=1024)
def promote(first: np.dtype[Any], second: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which two arrays meet; NumPy's rule, for example int32 with float32: float64."""
    return check_dtype(np.promote_types(first, second))


@lru_cache(maxsize=64)
def to_float(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The floating dtype of exp(x) and the like: 8 and 16 bits to float32, the rest to float64."""
    if dtype.char in FLOATS:
        return dtype
    return float32 if dtype.itemsize <= 2 else float64


@lru_cache(maxsize=4096)
def broadcast_shapes(*shapes: Shape) -> Shape:
    """The common shape of arrays of these shapes; an error prints them all."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ShapeError(
            f"shapes {' and '.join(map(str, shapes))} do not broadcast together: "
            "aligned at the right, sizes must be equal or 1"
        ) from None


def normalize_axis(axis: int, ndim: int, name: str = "axis") -> int:
    """`axis` counted from the front; one out of range is refused."""
    try:
        number = axis.__index__()
    except AttributeError:
        raise DTypeError(f"{name} must be an integer, received {axis!r}") from None
    if not -ndim <= number < ndim:
        raise AxisError(
            f"{name} {number} is out of range for an array with {ndim} dimensions"
            + (f"; use {-ndim} to {ndim - 1}" if ndim else "")
        )
    return number % ndim if ndim else 0


def normalize_axes(axis: int | tuple[int, ...] | None, ndim: int) -> tuple[int, ...]:
    """The axes meant by None (all), a number or a tuple, counted from the front and sorted."""
    if axis is None:
        return tuple(range(ndim))
    return tuple(sorted(ordered_axes(axis, ndim)))


def ordered_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """The axes meant by a number or a tuple, counted from the front; each may stand once."""
    axes = tuple(normalize_axis(a, ndim) for a in as_tuple(axis))
    if len(set(axes)) != len(axes):
        raise AxisError(f"axis {as_tuple(axis)} names an axis twice")
    return axes
