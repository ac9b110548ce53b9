"""Constants: arrays from values, ranges, fills; and functions whose shape depends on values."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np

from ..core.context import CONTEXT
from ..core.types import Shape, as_dtype, as_shape, broadcast_shapes, check_dtype, float32
from ..errors import ShapeError, TraceError
from .dispatch import (
    asarray,
    astype,
    broadcast_to,
    check_device,
    common_dtype,
    floats,
    in_dtype,
    operand,
    to_tensor,
)
from .logic import where
from .number import TracedNumber
from .tensor import ArrayLike, Tensor, as_array, constant, program_line

__all__ = [
    "arange", "asarray", "can_cast", "empty", "empty_like", "eye", "finfo", "from_dlpack", "full",
    "full_like", "iinfo", "isdtype", "linspace", "meshgrid", "nextafter", "nonzero", "ones",
    "ones_like", "result_type", "searchsorted", "tril", "triu", "unique_all", "unique_counts",
    "unique_inverse", "unique_values", "zeros", "zeros_like",
]  # fmt: skip


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A constant on the memory of another library's array (any with `__dlpack__`)."""
    check_device(device)
    array = np.from_dlpack(x) if copy is None else np.from_dlpack(x, copy=copy)
    check_dtype(array.dtype)
    return constant(array)


def full(shape: int | Shape, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """A constant of this shape with every entry `fill_value`."""
    check_device(device)
    target = common_dtype([operand(fill_value)]) if dtype is None else as_dtype(dtype)
    value = to_tensor(in_dtype(operand(fill_value), target))
    if value._value is None or value._node is not None:
        return broadcast_to(value, as_shape(shape))
    return constant(np.full(as_shape(shape), value._value, target))


def _float_dtype(dtype: Any, device: Any) -> np.dtype[Any]:
    """The dtype asked for, float32 by default; another device than "cpu" is refused."""
    check_device(device)
    return float32 if dtype is None else as_dtype(dtype)


def zeros(shape: int | Shape, *, dtype: Any = None, device: Any = None) -> Tensor:
    """A constant of zeros, float32 by default."""
    return constant(np.zeros(as_shape(shape), _float_dtype(dtype, device)))


def ones(shape: int | Shape, *, dtype: Any = None, device: Any = None) -> Tensor:
    """A constant of ones, float32 by default."""
    return constant(np.ones(as_shape(shape), _float_dtype(dtype, device)))


def empty(shape: int | Shape, *, dtype: Any = None, device: Any = None) -> Tensor:
    """A constant of this shape; its entries are 0 (nothing is left undefined)."""
    return zeros(shape, dtype=dtype, device=device)


def zeros_like(x: ArrayLike, /, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Zeros of the shape and dtype of x."""
    x = to_tensor(x)
    return zeros(x.shape, dtype=dtype or x.dtype, device=device)


def ones_like(x: ArrayLike, /, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Ones of the shape and dtype of x."""
    x = to_tensor(x)
    return ones(x.shape, dtype=dtype or x.dtype, device=device)


def empty_like(x: ArrayLike, /, *, dtype: Any = None, device: Any = None) -> Tensor:
    """As `zeros_like`."""
    return zeros_like(x, dtype=dtype, device=device)


def full_like(x: ArrayLike, /, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """`fill_value` in the shape and dtype of x."""
    x = to_tensor(x)
    return full(x.shape, fill_value, dtype=dtype or x.dtype, device=device)


def arange(
    start: float, /, stop: float | None = None, step: float = 1, *, dtype: Any = None,
    device: Any = None,
) -> Tensor:  # fmt: skip
    """start, start + step, … before stop; arange(n) counts 0 to n - 1."""
    check_device(device)
    if stop is None:
        start, stop = 0, start
    if dtype is None:
        whole = all(isinstance(v, (int, np.integer)) for v in (start, stop, step))
        dtype = np.dtype("int64") if whole else float32
    if not step:
        raise ShapeError(f"the step of arange cannot be 0: arange({start}, {stop}, {step})")
    return constant(np.arange(start, stop, step).astype(as_dtype(dtype)))


def linspace(
    start: ArrayLike, stop: ArrayLike, /, num: int, *, dtype: Any = None, device: Any = None,
    endpoint: bool = True,
) -> Tensor:  # fmt: skip
    """`num` evenly spaced numbers from start to stop; derivatives go through Tensors as ends."""
    (count,) = as_shape(num)
    if isinstance(start, (Tensor, TracedNumber)) or isinstance(stop, (Tensor, TracedNumber)):
        return _between(start, stop, count, dtype, endpoint)
    target = _float_dtype(dtype, device)
    return constant(np.linspace(float(start), float(stop), count, endpoint).astype(target))


def _between(start: ArrayLike, stop: ArrayLike, count: int, dtype: Any, endpoint: bool) -> Tensor:
    """Numbers between two that may be traced or depend on variables, along a new first axis."""
    first, last = floats(start, stop)
    steps = np.arange(count) / max(1, count - 1 if endpoint else count)
    shape = (count, *(1,) * max(first.ndim, last.ndim))
    share = constant(steps.astype(first.dtype).reshape(shape))
    found = first * (1.0 - share) + last * share
    return found if dtype is None else astype(found, dtype, copy=False)


def eye(
    n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None, device: Any = None
) -> Tensor:
    """Ones on the k-th diagonal, zeros elsewhere."""
    target = _float_dtype(dtype, device)
    rows, columns = as_shape((n_rows, n_rows if n_cols is None else n_cols))
    return constant(np.eye(rows, columns, k, target))


def _band(x: ArrayLike, k: int, lower: bool) -> Tensor:
    x = to_tensor(x)
    if x.ndim < 2:
        raise ShapeError(f"tril and triu take at least 2 axes, received shape {x.shape}")
    mask = np.tri(x.shape[-2], x.shape[-1], k if lower else k - 1, bool)
    none = np.zeros((), x.dtype)
    return where(mask, x, none) if lower else where(mask, none, x)


def tril(x: ArrayLike, /, *, k: int = 0) -> Tensor:
    """The lower triangle of the last two axes, up to the k-th diagonal."""
    return _band(x, k, True)


def triu(x: ArrayLike, /, *, k: int = 0) -> Tensor:
    """The upper triangle of the last two axes, from the k-th diagonal."""
    return _band(x, k, False)


def meshgrid(*arrays: ArrayLike, indexing: str = "xy") -> list[Tensor]:
    """Coordinate arrays of the grid that the vectors span."""
    from .shaping import broadcast_arrays, reshape

    if indexing not in ("xy", "ij"):
        raise ShapeError(f'indexing must be "xy" or "ij", received {indexing!r}')
    axes = list(range(len(arrays)))
    if indexing == "xy":
        axes[:2] = axes[1::-1]
    lines = [
        reshape(v, tuple(v.size if k == axis else 1 for k in range(len(axes))))
        for axis, v in zip(axes, map(to_tensor, arrays), strict=True)
    ]
    return broadcast_arrays(*lines)


# -- dtypes -----------------------------------------------------------------------------------


def result_type(*arrays_and_dtypes: Any) -> np.dtype[Any]:
    """The dtype in which these arrays, dtypes and Python numbers meet."""
    values = (Tensor, np.ndarray, np.generic, bool, int, float)
    return common_dtype(
        [x if isinstance(x, values) else np.empty(0, as_dtype(x)) for x in arrays_and_dtypes]
    )


def can_cast(from_: Any, to: Any, /) -> bool:
    """Whether a dtype promotes to another without loss."""
    source = from_.dtype if isinstance(from_, Tensor) else as_dtype(from_)
    return bool(np.can_cast(source, as_dtype(to)))


FloatInfo = namedtuple("FloatInfo", "bits eps max min smallest_normal dtype")


def finfo(type: Any, /) -> Any:
    """The limits of a floating dtype, as Python numbers."""
    limits = np.finfo(type.dtype if isinstance(type, Tensor) else as_dtype(type))
    names = ("eps", "max", "min", "smallest_normal")
    found = [float(getattr(limits, n)) for n in names]
    return FloatInfo._make([limits.bits, *found, limits.dtype])


def iinfo(type: Any, /) -> Any:
    """The limits of an integer dtype."""
    return np.iinfo(type.dtype if isinstance(type, Tensor) else as_dtype(type))


def isdtype(dtype: Any, kind: Any) -> bool:
    """Whether a dtype is of a kind: a dtype, or "bool", "integral", "real floating", …."""
    return bool(np.isdtype(as_dtype(dtype), kind))


# -- functions of values, in eager only ---------------------------------------------------------


def _values(x: ArrayLike, name: str) -> Any:
    if CONTEXT.get().trace is not None and isinstance(x, Tensor) and x._value is None:
        raise TraceError(
            f"{name} has a result that depends on values, which cannot be traced "
            f"({program_line()}): use where, or call it outside of the traced function"
        )
    return as_array(x)


def nonzero(x: ArrayLike, /) -> tuple[Tensor, ...]:
    """The indices of the entries that are not 0, one array an axis."""
    values = _values(x, "nonzero")
    if not values.ndim:
        raise ShapeError("nonzero takes an array with at least one axis, received a 0-d array")
    return tuple(constant(p) for p in np.nonzero(values))


UniqueAll = namedtuple("UniqueAll", "values indices inverse_indices counts")
UniqueCounts = namedtuple("UniqueCounts", "values counts")
UniqueInverse = namedtuple("UniqueInverse", "values inverse_indices")


def unique_all(x: ArrayLike, /) -> UniqueAll:
    """The different entries, where each stands first, which one each entry is, how often."""
    return UniqueAll(*(constant(np.asarray(p)) for p in np.unique_all(_values(x, "unique_all"))))


def unique_counts(x: ArrayLike, /) -> UniqueCounts:
    """The different entries and how often each stands."""
    return UniqueCounts(*(constant(p) for p in np.unique_counts(_values(x, "unique_counts"))))


def unique_inverse(x: ArrayLike, /) -> UniqueInverse:
    """The different entries and, for each entry, which one it is."""
    return UniqueInverse(*(constant(p) for p in np.unique_inverse(_values(x, "unique_inverse"))))


def unique_values(x: ArrayLike, /) -> Tensor:
    """The different entries."""
    return constant(np.unique_values(_values(x, "unique_values")))


def searchsorted(
    x1: ArrayLike, x2: ArrayLike, /, *, side: str = "left", sorter: ArrayLike | None = None
) -> Tensor:
    """Where the entries of x2 would stand in the sorted vector x1."""
    order = None if sorter is None else _values(sorter, "searchsorted")
    line = _values(x1, "searchsorted")
    if line.ndim != 1 or (order is not None and order.shape != line.shape):
        raise ShapeError(
            f"searchsorted takes a vector first (and a sorter like it), received shape {line.shape}"
            + ("" if order is None else f" and a sorter of shape {order.shape}")
        )
    entries = _values(x2, "searchsorted")
    return constant(np.asarray(np.searchsorted(line, entries, side, order)))  # type: ignore[call-overload]


def nextafter(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """The next floating-point number after x1 in the direction of x2."""
    first, second = (_values(x, "nextafter") for x in floats(x1, x2))
    broadcast_shapes(first.shape, second.shape)  # says it with both shapes, if they do not fit
    return constant(np.asarray(np.nextafter(first, second)))
