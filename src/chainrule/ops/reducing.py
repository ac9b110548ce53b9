"""Gates that work along axes: sums, extremes, running sums, sorting; and what is made of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from ..core.indexmap import IndexMap, along_map, broadcast_map, cumsum_map
from ..core.local import Diagonal, Linear, Local, Product
from ..core.primitive import Array, LinearGate, Params, Reducing
from ..core.types import (
    FLOATS,
    ArrayType,
    Shape,
    float64,
    int64,
    normalize_axes,
    normalize_axis,
    to_float,
)
from ..errors import ShapeError
from .dispatch import (
    SUM,
    as_tensors,
    astype,
    bind,
    broadcast_to,
    floats,
    itself,
    stop_gradient,
    to_tensor,
)
from .logic import equal, isinf, not_equal, where
from .shaping import concat, flip, moveaxis, pad, reshape, slice_along
from .tensor import ArrayLike, Tensor, constant
from .transcendental import exp, log, sqrt

__all__ = [
    "all", "any", "argmax", "argmin", "argsort", "count_nonzero", "cumulative_prod",
    "cumulative_sum", "diff", "log_softmax", "logsumexp", "max", "mean", "min", "prod", "softmax",
    "sort", "std", "sum", "var",
]  # fmt: skip

Axis = int | tuple[int, ...] | None


def _without(shape: Shape, axes: Sequence[int]) -> Shape:
    return tuple(n for k, n in enumerate(shape) if k not in axes)


def _ones(shape: Shape, axes: Sequence[int]) -> Shape:
    return tuple(1 if k in axes else n for k, n in enumerate(shape))


@lru_cache(maxsize=4096)
def _sum_map(shape: Shape, axis: Axis, keepdims: bool) -> IndexMap:
    """The map of a sum."""
    axes = normalize_axes(axis, len(shape))
    if keepdims:
        return broadcast_map(_ones(shape, axes), shape).T
    rest = tuple(k for k in range(len(shape)) if k not in axes)
    return broadcast_map(_without(shape, axes), shape, rest).T


def _summable(x: ArrayLike, dtype: Any = None) -> Tensor:
    """x in the dtype it is added up in: small integers and bools go to 64 bits."""
    terms = to_tensor(x)
    if dtype is None:
        if terms.dtype.char in FLOATS:
            return terms
        dtype = np.uint64 if terms.dtype.kind == "u" else np.int64
    return astype(terms, dtype, copy=False)


def sum(x: ArrayLike, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """Σ x along the axes (all by default). Small integers and bools add up in 64 bits.

    >>> import chainrule as cr
    >>> cr.sum(cr.asarray([[1, 2], [3, 4]]), axis=0)
    asarray([4, 6], dtype=int64)
    """
    terms = _summable(x, dtype)
    map = _sum_map(terms.shape, tuple(axis) if isinstance(axis, list) else axis, keepdims)
    return bind(SUM, (terms,), {"map": map}) if map.summed else itself(terms)


def mean(x: ArrayLike, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean along the axes; of integers in float64. NaN if there are no entries."""
    x = _real(x)
    return _over(sum(x, axis=axis, keepdims=keepdims), x, 0)


def _real(x: ArrayLike) -> Tensor:
    x = to_tensor(x)
    return x if x.dtype.char in FLOATS else astype(x, float64)


def _over(total: Tensor, x: Tensor, correction: float) -> Tensor:
    """A sum of entries of x over their number, less the correction."""
    count = x.size // total.size - correction if total.size else 0
    if count > 0:
        return total / float(count)
    with np.errstate(invalid="ignore", divide="ignore"):  # the mean of nothing is NaN, silently
        return total / 0.0


def var(x: ArrayLike, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False
        ) -> Tensor:  # fmt: skip
    """Σ (x - mean)² / (n - correction) along the axes."""
    x = _real(x)
    centred = x - mean(x, axis=axis, keepdims=True)
    return _over(sum(centred * centred, axis=axis, keepdims=keepdims), x, correction)


def std(x: ArrayLike, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False
        ) -> Tensor:  # fmt: skip
    """The square root of `var`."""
    return sqrt(var(x, axis=axis, correction=correction, keepdims=keepdims))


class Extreme(Reducing):
    """max or min along `axes`: the gradient goes to the chosen entries; ties share it equally."""

    reduce: ClassVar[Callable[..., Array]]

    def forward(self, x: Array, *, axes: tuple[int, ...]) -> Array:
        if not x.size:  # then there are no results either
            return np.empty(_without(x.shape, axes), x.dtype)
        return self.reduce(x, axis=axes)

    def type(self, *types: ArrayType, **params: Any) -> ArrayType:
        return types[0]._replace(shape=_without(types[0].shape, params["axes"]))

    def local(self, i: int, xp: Any, out: Any, inputs: Sequence[Any], params: Params) -> Local:
        x, axes = inputs[0], params["axes"]
        best = out.reshape(_ones(x.shape, axes))
        chosen = xp.logical_or(xp.equal(x, best), xp.isnan(x))
        ones = {"map": _sum_map(x.shape, axes, True)}
        share = 1.0 / xp.apply(SUM, (chosen.astype(out.dtype),), ones)
        total = _sum_map(x.shape, axes, False)
        return Product(Linear(SUM, total), Diagonal(xp.where(chosen, share, 0.0)))


class Max(Extreme):
    name = "max"
    reduce = np.maximum.reduce


class Min(Extreme):
    name = "min"
    reduce = np.minimum.reduce


class ArgExtreme(Reducing):
    """The index of the first largest or smallest entry along one axis."""

    differentiable = False
    find: ClassVar[Callable[..., Any]]

    def forward(self, x: Array, *, axes: tuple[int, ...]) -> Any:
        return self.find(x, axes[0])

    def type(self, *types: ArrayType, **params: Any) -> ArrayType:
        return ArrayType(_without(types[0].shape, params["axes"]), int64)


class Argmax(ArgExtreme):
    name = "argmax"
    find = staticmethod(np.argmax)


class Argmin(ArgExtreme):
    name = "argmin"
    find = staticmethod(np.argmin)


MAX, MIN, ARGMAX, ARGMIN = Max(), Min(), Argmax(), Argmin()


def _extreme(primitive: Extreme, x: ArrayLike, axis: Axis, keepdims: bool) -> Tensor:
    x = to_tensor(x)
    axes = normalize_axes(axis, x.ndim)
    if 0 in x.shape and 0 not in _without(x.shape, axes):
        raise ShapeError(f"{primitive.name} of no entries: shape {x.shape}, axis {axis}")
    result = bind(primitive, (x,), {"axes": axes}) if axes else itself(x)
    return reshape(result, _ones(x.shape, axes)) if keepdims else result


def max(x: ArrayLike, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest entry along the axes. The gradient goes there; ties share it; NaN takes it."""
    return _extreme(MAX, x, axis, keepdims)


def min(x: ArrayLike, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest entry along the axes. The gradient goes there; ties share it; NaN takes it."""
    return _extreme(MIN, x, axis, keepdims)


def _arg_extreme(primitive: ArgExtreme, x: ArrayLike, axis: int | None, keepdims: bool) -> Tensor:
    x = to_tensor(x)
    ones = _ones(x.shape, normalize_axes(axis, x.ndim))
    if axis is None:
        x, axis = reshape(x, (x.size,)), 0
    axis = normalize_axis(axis, x.ndim)
    if not x.shape[axis]:
        raise ShapeError(f"{primitive.name} of no entries: shape {x.shape}, axis {axis}")
    result = bind(primitive, (x,), {"axes": (axis,)})
    return reshape(result, ones) if keepdims else result


def argmax(x: ArrayLike, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The index of the largest entry along an axis (of x flattened by default), the first one."""
    return _arg_extreme(ARGMAX, x, axis, keepdims)


def argmin(x: ArrayLike, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The index of the smallest entry along an axis (of x flattened by default), the first one."""
    return _arg_extreme(ARGMIN, x, axis, keepdims)


def prod(
    x: ArrayLike, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False
) -> Tensor:
    """The product along the axes, as a tree of multiplications."""
    x = _summable(x, dtype)
    axes = normalize_axes(axis, x.ndim)
    rest = _without(x.shape, axes)
    y = moveaxis(x, axes, tuple(range(len(axes))))
    y = reshape(y, (math.prod(x.shape[a] for a in axes), *rest))
    while y.shape[0] > 1:
        half = y.shape[0] // 2
        product = y[:half] * y[half : 2 * half]
        y = concat([product, y[2 * half :]]) if y.shape[0] % 2 else product
    if not y.shape[0]:
        y = constant(np.ones((1, *rest), x.dtype))
    return reshape(y, _ones(x.shape, axes) if keepdims else rest)


def all(x: ArrayLike, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether every entry along the axes is true (not 0)."""
    return equal(sum(equal(x, 0), axis=axis, keepdims=keepdims), 0)


def any(x: ArrayLike, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether some entry along the axes is true (not 0)."""
    return not_equal(sum(not_equal(x, 0), axis=axis, keepdims=keepdims), 0)


def count_nonzero(x: ArrayLike, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """How many entries along the axes are not 0."""
    return sum(not_equal(x, 0), axis=axis, keepdims=keepdims)


class Cumsum(LinearGate):
    """Running sums along one axis, from the front or (its transpose) from the back."""

    name = "cumsum"

    def forward(self, x: Array, *, map: IndexMap) -> Array:
        terms = [p.terms for p in map.reads]
        axis, (_, sign) = next((k, t[1]) for k, t in enumerate(terms) if len(t) == 2)
        if sign < 0:
            return np.add.accumulate(x, axis, x.dtype)
        return np.flip(np.add.accumulate(np.flip(x, axis), axis, x.dtype), axis)

    def flops(self, out: ArrayType, types: Sequence[ArrayType], params: Params) -> int:
        return out.size


CUMSUM = Cumsum()
CUMSUM.dual = CUMSUM


def cumulative_sum(
    x: ArrayLike, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Tensor:
    """y[o] = x[0] + … + x[o] along an axis; with `include_initial` a 0 comes first."""
    x, axis = _line(x, axis, dtype)
    result = bind(CUMSUM, (x,), {"map": cumsum_map(x.shape, axis)})
    return pad(result, _before(1, axis, x.ndim)) if include_initial else result


def cumulative_prod(
    x: ArrayLike, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Tensor:
    """y[o] = x[0]·…·x[o] along an axis, in log2(n) steps of products; 1 first if asked for."""
    x, axis = _line(x, axis, dtype)
    step = 1
    while step < x.shape[axis]:  # after each step, entry o is the product of the last 2·step
        moved = slice_along(pad(x, _before(step, axis, x.ndim), value=1), axis, 0, x.shape[axis])
        x, step = x * moved, step * 2
    return pad(x, _before(1, axis, x.ndim), value=1) if include_initial else x


def _line(x: ArrayLike, axis: int | None, dtype: Any) -> tuple[Tensor, int]:
    """What to accumulate, and along which axis."""
    x = _summable(x, dtype)
    if axis is None and x.ndim > 1:
        raise ShapeError(f"name the axis to accumulate along: the array has shape {x.shape}")
    return x if x.ndim else reshape(x, (1,)), normalize_axis(axis or 0, x.ndim or 1)


def _before(count: int, axis: int, ndim: int) -> list[tuple[int, int]]:
    """The widths of padding with `count` entries in front along one axis."""
    return [(count if k == axis else 0, 0) for k in range(ndim)]


class Argsort(Reducing):
    """The order that sorts along one axis, stable."""

    name = "argsort"
    differentiable = False

    def forward(self, x: Array, *, axes: tuple[int, ...]) -> Array:
        return np.argsort(x, axis=axes[0], kind="stable").astype(np.int64, copy=False)

    def type(self, *types: ArrayType, **params: Any) -> ArrayType:
        return ArrayType(types[0].shape, int64)


class Sort(Reducing):
    """The entries in ascending order along one axis: a permutation that depends on the values."""

    name = "sort"

    def forward(self, x: Array, *, axes: tuple[int, ...]) -> Array:
        return np.sort(x, axis=axes[0], kind="stable")

    def type(self, *types: ArrayType, **params: Any) -> ArrayType:
        return types[0]

    def local(self, i: int, xp: Any, out: Any, inputs: Sequence[Any], params: Params) -> Local:
        from .indexing import GATHER

        order = xp.apply(ARGSORT, (inputs[0],), params)
        shape = inputs[0].shape
        return Linear(GATHER, along_map(shape, params["axes"][0], shape), (order,))


ARGSORT, SORT = Argsort(), Sort()


def sort(
    x: ArrayLike, /, *, axis: int = -1, descending: bool = False, stable: bool = True
) -> Tensor:
    """The entries in order along an axis, NaN last. The gradient follows each entry.

    >>> import chainrule as cr
    >>> cr.sort(cr.asarray([3.0, 1.0, 2.0]))
    asarray([1., 2., 3.])
    """
    x, axis = _sortable(x, axis, "sort")
    result = bind(SORT, (x,), {"axes": (axis,)})
    return flip(result, axis=axis) if descending else result


def argsort(
    x: ArrayLike, /, *, axis: int = -1, descending: bool = False, stable: bool = True
) -> Tensor:
    """The indices that sort x along an axis; equal entries keep their order."""
    x, axis = _sortable(x, axis, "argsort")
    # reversed twice, so that equal entries keep their order
    order = bind(ARGSORT, (flip(x, axis=axis) if descending else x,), {"axes": (axis,)})
    last: int = x.shape[axis] - 1
    return last - flip(order, axis=axis) if descending else order


def _sortable(x: ArrayLike, axis: int, name: str) -> tuple[Tensor, int]:
    x = to_tensor(x)
    if not x.ndim:
        raise ShapeError(f"{name} takes an array with at least one axis, received a 0-d array")
    return x, normalize_axis(axis, x.ndim)


def diff(x: ArrayLike, /, *, axis: int = -1, n: int = 1, prepend: ArrayLike | None = None,
         append: ArrayLike | None = None) -> Tensor:  # fmt: skip
    """x[1:] - x[:-1] along an axis, n times over."""
    x = to_tensor(x)
    axis = normalize_axis(axis, x.ndim)
    if prepend is not None or append is not None:
        line = tuple(1 if k == axis else size for k, size in enumerate(x.shape))
        parts = as_tensors(*(p for p in (prepend, x, append) if p is not None))
        x = concat([p if p.ndim else broadcast_to(p, line) for p in parts], axis=axis)
    for _ in range(n):
        x = slice_along(x, axis, 1, None) - slice_along(x, axis, 0, -1)
    return itself(to_tensor(x))


def logsumexp(x: ArrayLike, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """log Σ e^x along the axes, without overflow; derivative softmax(x)."""
    (x,) = floats(x)
    axes = normalize_axes(axis, x.ndim)
    if 0 in (x.shape[a] for a in axes):  # the sum of nothing
        shape = _ones(x.shape, axes) if keepdims else _without(x.shape, axes)
        return constant(np.full(shape, -np.inf, to_float(x.dtype)))
    top = stop_gradient(max(x, axis=axes, keepdims=True))
    top = where(isinf(top), 0, top)  # all entries -∞ (or one ∞): nothing to subtract
    with np.errstate(divide="ignore"):  # of entries that are all -∞ it is -∞, without a warning
        total = log(sum(exp(x - top), axis=axes, keepdims=True)) + top
    return total if keepdims else reshape(total, _without(x.shape, axes))


def softmax(x: ArrayLike, /, *, axis: int | tuple[int, ...] = -1) -> Tensor:
    """e^x / Σ e^x along the axes. Its Jacobian is diag(p) - p·pᵀ."""
    powers = exp(_below_0(x, axis))
    return powers / sum(powers, axis=axis, keepdims=True)


def log_softmax(x: ArrayLike, /, *, axis: int | tuple[int, ...] = -1) -> Tensor:
    """x - log Σ e^x along the axes."""
    scores = _below_0(x, axis)
    return scores - log(sum(exp(scores), axis=axis, keepdims=True))


def _below_0(x: ArrayLike, axis: Axis) -> Tensor:
    """x moved so that its largest entry is 0: e^x does not overflow."""
    (scores,) = floats(x)
    return scores - stop_gradient(max(scores, axis=axis, keepdims=True))
