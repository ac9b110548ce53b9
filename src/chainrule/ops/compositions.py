"""Functions that NumPy has and the Array API standard has not, in terms of those it has.

They serve `np.…` of a Tensor (numpy_functions.py), with NumPy's names, arguments and values.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core.types import FLOATS, normalize_axis
from ..errors import ShapeError, UnsupportedError
from .arithmetic import abs, maximum, minimum, multiply, pow, round
from .contraction import LETTERS, einsum, tensordot, vecdot, vector_norm
from .dispatch import as_tensors, asarray, astype, floats, to_tensor
from .logic import equal, isnan, where
from .operators import flatten
from .shaping import (
    broadcast_arrays,
    concat,
    expand_dims,
    flip,
    moveaxis,
    pad,
    reshape,
    split,
    stack,
    swapaxes,
)
from .special import clip, logaddexp
from .tensor import ArrayLike, Tensor
from .transcendental import sin


def degrees(x: ArrayLike) -> Tensor:
    """Radians as degrees."""
    return floats(x)[0] * (180 / math.pi)


def radians(x: ArrayLike) -> Tensor:
    """Degrees as radians."""
    return floats(x)[0] * (math.pi / 180)


def sinc(x: ArrayLike) -> Tensor:
    """sin(πx)/(πx), and 1 at 0."""
    y = floats(x)[0] * math.pi
    safe = where(y == 0, 1.0, y)
    return where(y == 0, 1.0 - y * y / 6.0, sin(safe) / safe)  # the second term: its curvature


def logaddexp2(x1: ArrayLike, x2: ArrayLike) -> Tensor:
    """log2(2^x1 + 2^x2) without overflow."""
    x, y = floats(x1, x2)
    two = math.log(2.0)
    return logaddexp(x * two, y * two) / two


def fmax(x1: ArrayLike, x2: ArrayLike) -> Tensor:
    """The larger of two; the one that is a number beside NaN."""
    return where(isnan(x1), x2, where(isnan(x2), x1, maximum(x1, x2)))


def fmin(x1: ArrayLike, x2: ArrayLike) -> Tensor:
    """The smaller of two; the one that is a number beside NaN."""
    return where(isnan(x1), x2, where(isnan(x2), x1, minimum(x1, x2)))


def nan_to_num(x: ArrayLike, copy: bool = True, nan: float = 0.0, posinf: float | None = None,
               neginf: float | None = None) -> Tensor:  # fmt: skip
    """Numbers in place of NaN, ∞ and -∞: 0 and the largest there are, unless told otherwise."""
    y = to_tensor(x)
    if y.dtype.char not in FLOATS:
        return y
    most = float(np.finfo(y.dtype).max)
    high, low = most if posinf is None else posinf, -most if neginf is None else neginf
    for number, place in ((nan, isnan(y)), (low, equal(y, -np.inf)), (high, equal(y, np.inf))):
        y = where(place, number, y)
    return y


def clip_as_numpy(a: ArrayLike, a_min: Any = None, a_max: Any = None, *, min: Any = None,
                  max: Any = None) -> Tensor:  # fmt: skip
    """`clip`, with NumPy's older names for the bounds, too."""
    return clip(a, a_min if min is None else min, a_max if max is None else max)


def pad_as_numpy(array: ArrayLike, pad_width: Any, mode: str = "constant",
                 constant_values: Any = 0) -> Tensor:  # fmt: skip
    """`pad` with one value."""
    if mode != "constant" or np.ndim(constant_values):
        raise UnsupportedError(
            f"np.pad of a Tensor puts one number around it: received mode={mode!r}, "
            f"constant_values={constant_values}"
        )
    if isinstance(pad_width, dict):
        axes = {normalize_axis(k, np.ndim(array)): v for k, v in pad_width.items()}
        pad_width = [np.broadcast_to(axes.get(k, 0), 2) for k in range(np.ndim(array))]
    return pad(array, pad_width, value=constant_values)


# -- other shapes ------------------------------------------------------------------------------


def at_least(n: int) -> Callable[..., Any]:
    """np.atleast_1d, np.atleast_2d, np.atleast_3d."""

    def at_least(*arrays: ArrayLike) -> Any:
        made = tuple(map(_wide, arrays))
        return made[0] if len(made) == 1 else made

    def _wide(x: ArrayLike) -> Tensor:
        y = to_tensor(x)
        if y.ndim >= n:
            return y
        shape = ((1, 1, 1), (1, *y.shape, 1), (*y.shape, 1))[y.ndim] if n == 3 else y.shape
        return reshape(y, (1,) * (n - len(shape)) + shape)

    return at_least


def joined(n: int, axis: int) -> Callable[..., Tensor]:
    """np.vstack, np.hstack, np.dstack: arrays of at least n axes, joined along one of them."""
    wide = at_least(n)

    def join(tup: Sequence[ArrayLike], *, dtype: Any = None, casting: str = "same_kind") -> Tensor:
        parts = [wide(x) for x in as_tensors(*tup)]
        found = concat(parts, axis=0 if parts and parts[0].ndim == 1 else axis)
        return found if dtype is None else astype(found, dtype)

    return join


def column_stack(tup: Sequence[ArrayLike]) -> Tensor:
    """Vectors and matrices beside each other, vectors as columns."""
    parts = [at_least(1)(x) for x in as_tensors(*tup)]
    return concat([expand_dims(x, axis=1) if x.ndim == 1 else x for x in parts], axis=1)


def append(arr: ArrayLike, values: ArrayLike, axis: int | None = None) -> Tensor:
    """The entries of both, flat or along an axis."""
    parts = as_tensors(arr, values)
    return concat([flatten(x) for x in parts] if axis is None else parts, axis=axis or 0)


def split_as_numpy(ary: ArrayLike, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """`split` as a list."""
    return list(split(ary, indices_or_sections, axis=axis))


def array_split(ary: ArrayLike, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """`split` in which the first parts may be longer by one."""
    if np.ndim(indices_or_sections):
        return split_as_numpy(ary, indices_or_sections, axis)
    n, parts = to_tensor(ary).shape[axis], int(indices_or_sections)
    if parts < 1:
        raise ShapeError(f"cannot split an axis of {n} into {parts} parts")
    sizes = [n // parts + (k < n % parts) for k in range(parts)]
    return split_as_numpy(ary, np.cumsum(sizes)[:-1].tolist(), axis)


def split_along(axis: int) -> Callable[..., list[Tensor]]:
    """np.vsplit, np.hsplit, np.dsplit."""

    def apart(ary: ArrayLike, indices_or_sections: Any) -> list[Tensor]:
        along = 0 if axis == 1 and np.ndim(ary) == 1 else axis
        return split_as_numpy(ary, indices_or_sections, along)

    return apart


def rot90(m: ArrayLike, k: int = 1, axes: Sequence[int] = (0, 1)) -> Tensor:
    """A quarter turn, k times, from the first of two axes to the second."""
    x = to_tensor(m)
    first, second = axes
    if k % 4 == 2:
        return flip(x, axis=(first, second))
    if k % 4 == 1:
        return swapaxes(flip(x, axis=second), first, second)
    return flip(swapaxes(x, first, second), axis=second) if k % 4 else x


def rollaxis(a: ArrayLike, axis: int, start: int = 0) -> Tensor:
    """An axis moved in front of another."""
    n = np.ndim(a)
    axis, start = normalize_axis(axis, n), start + n if start < 0 else start
    return moveaxis(a, axis, start - (axis < start))


# -- products ----------------------------------------------------------------------------------


def kron(a: ArrayLike, b: ArrayLike) -> Tensor:
    """Every product of an entry of a with b, in the places of that entry."""
    x, y = as_tensors(a, b)
    n = max(x.ndim, y.ndim)
    x, y = (reshape(t, (1,) * (n - t.ndim) + t.shape) for t in (x, y))
    apart = [reshape(t, tuple(m for k in t.shape for m in ((k, 1), (1, k))[j])) for j, t in
             enumerate((x, y))]  # fmt: skip
    shape = tuple(p * q for p, q in zip(x.shape, y.shape, strict=True))
    return reshape(multiply(*apart), shape)


def cross(a: ArrayLike, b: ArrayLike, axisa: int = -1, axisb: int = -1, axisc: int = -1,
          axis: int | None = None) -> Tensor:  # fmt: skip
    """a × b of vectors with three entries."""
    if axis is not None:
        axisa = axisb = axisc = axis
    x, y = as_tensors(a, b)
    x, y = moveaxis(x, axisa, -1), moveaxis(y, axisb, -1)
    if x.shape[-1] != 3 or y.shape[-1] != 3:
        raise ShapeError(f"cross takes vectors of 3 entries, received {x.shape} and {y.shape}")
    x, y = broadcast_arrays(x, y)
    (a0, a1, a2), (b0, b1, b2) = ([t[..., k] for k in range(3)] for t in (x, y))
    return moveaxis(
        stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], axis=-1), -1, axisc
    )


def einsum_as_numpy(*operands: Any, optimize: Any = False) -> Tensor:
    """`einsum`; patterns may be numbers behind each operand, the order is found here anyway."""
    if isinstance(operands[0], str):
        return einsum(*operands)
    pairs, out = operands[: len(operands) // 2 * 2], operands[len(operands) // 2 * 2 :]
    names = [_letters(axes) for axes in (*pairs[1::2], *out)]
    spec = ",".join(names[: len(pairs) // 2]) + "".join(
        f"->{name}" for name in names[len(pairs) // 2 :]
    )
    return einsum(spec, *pairs[::2])


def _letters(axes: Sequence[Any]) -> str:
    """Axes that are named by numbers, as letters."""
    return "".join("..." if k is Ellipsis else LETTERS[operator.index(k)] for k in axes)


def inner(a: ArrayLike, b: ArrayLike) -> Tensor:
    """Σ over the last axes; a product with a number."""
    x, y = as_tensors(a, b)
    return tensordot(x, y, axes=((-1,), (-1,))) if x.ndim and y.ndim else multiply(x, y)


def vdot(a: ArrayLike, b: ArrayLike) -> Tensor:
    """Σ of products of all entries."""
    x, y = as_tensors(a, b)
    return vecdot(flatten(x), flatten(y))


def norm(x: ArrayLike, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The norm of vectors, or of all entries."""
    if ord is not None and (isinstance(axis, tuple) or (axis is None and np.ndim(x) > 1)):
        raise UnsupportedError(f"np.linalg.norm of a Tensor with ord={ord} takes vectors: give "
                               "an axis")  # fmt: skip
    return vector_norm(x, axis=axis, keepdims=keepdims, ord=2 if ord is None else ord)


def flat_or_along(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """np.sort, np.argsort: without an axis of all entries."""

    def ordered(a: ArrayLike, axis: int | None = -1, kind: Any = None, *, stable: Any = None
                ) -> Tensor:  # fmt: skip
        return function(flatten(to_tensor(a)), axis=0) if axis is None else function(a, axis=axis)

    return ordered


def float_power(x1: ArrayLike, x2: ArrayLike) -> Tensor:
    """x1 ** x2 in float64."""
    return pow(astype(x1, np.float64), astype(x2, np.float64))


def fabs(x: ArrayLike) -> Tensor:
    """|x| as a float."""
    return abs(floats(x)[0])


def rint(x: ArrayLike) -> Tensor:
    """The nearest whole number as a float; an even one at ties."""
    return round(floats(x)[0])


def isclose(a: ArrayLike, b: ArrayLike, **tolerances: Any) -> Tensor:
    """Whether entries are equal within tolerances."""
    return asarray(np.isclose(np.asarray(a), np.asarray(b), **tolerances))
