"""Moving entries without arithmetic: reshape, permute, slice and pad, windows, concat.

Each linear gate is its index map (core/indexmap.py); its transpose is its `dual` on the swapped
map. So no class here states a derivative.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import indexmap
from ..core.indexmap import IndexMap, slice_map
from ..core.local import Linear, Local
from ..core.primitive import Array, LinearGate, Params, Primitive
from ..core.types import (
    ArrayType,
    Shape,
    TupleType,
    as_shape,
    as_tuple,
    broadcast_shapes,
    normalize_axes,
    normalize_axis,
    ordered_axes,
    size_of,
)  # fmt: skip
from ..errors import AxisError, DTypeError, ShapeError
from .dispatch import as_tensors, astype, bind, broadcast_to, itself, to_tensor, together
from .tensor import ArrayLike, Tensor

__all__ = [
    "broadcast_arrays", "concat", "diag", "diagonal", "expand_dims", "flip", "matrix_transpose",
    "moveaxis", "pad", "permute_dims", "reshape", "roll", "split", "squeeze", "stack", "swapaxes",
    "tile", "unstack", "windows",
]  # fmt: skip


class Reshape(LinearGate):
    name = "reshape"

    def forward(self, x: Array, *, map: IndexMap) -> Array:
        return x.reshape(map.out_shape)


class Permute(LinearGate):
    name = "permute"

    def forward(self, x: Array, *, map: IndexMap) -> Array:
        return x.transpose(map.permutation)


class Slice(LinearGate):
    name = "slice"

    def forward(self, x: Array, *, map: IndexMap) -> Array:
        return x[map.slices]


class Pad(LinearGate):
    """Entries with zeros between and around them: the transpose of slice."""

    name = "pad"

    def forward(self, x: Array, *, map: IndexMap) -> Array:
        out = np.zeros(map.out_shape, x.dtype)
        out[map.T.slices] = x
        return out


class Flip(Slice):
    name = "flip"


class Diagonal(LinearGate):
    name = "diagonal"

    def forward(self, x: Array, *, map: IndexMap) -> Array:
        return map.view(x)


class EmbedDiagonal(LinearGate):
    """Entries on a diagonal of zeros: the transpose of diagonal."""

    name = "embed_diagonal"

    def forward(self, x: Array, *, map: IndexMap) -> Array:
        out = np.zeros(map.out_shape, x.dtype)
        if x.size:
            map.T.view(out)[...] = x
        return out


class Windows(Diagonal):
    name = "windows"


class Fold(LinearGate):
    """Overlapping windows added up: the transpose of windows."""

    name = "fold"

    def forward(self, x: Array, *, map: IndexMap) -> Array:
        out = np.zeros(map.out_shape, x.dtype)
        if 0 in map.sizes:
            return out
        ndim = len(map.out_shape)
        # for each place in the window, one strided slice of the output takes a whole slab
        for place in itertools.product(*(range(n) for n in map.sizes[ndim:])):
            target = []
            for axis, p in enumerate(map.writes):
                stride = p.terms[0][1]
                start = sum(a * place[s - ndim] for s, a in p.terms[1:])
                target.append(slice(start, start + stride * (map.sizes[axis] - 1) + 1, stride))
            slab: Any = (..., *place)
            out[tuple(target)] += x[slab]
        return out


RESHAPE, PERMUTE, SLICE, PAD, FLIP = Reshape(), Permute(), Slice(), Pad(), Flip()
DIAGONAL, EMBED_DIAGONAL, WINDOWS, FOLD = Diagonal(), EmbedDiagonal(), Windows(), Fold()
for _one, _other in (
    (RESHAPE, RESHAPE), (PERMUTE, PERMUTE), (SLICE, PAD), (FLIP, FLIP),
    (DIAGONAL, EMBED_DIAGONAL), (WINDOWS, FOLD),
):  # fmt: skip
    _one.dual, _other.dual = _other, _one


class Concat(Primitive):
    """Inputs one after the other along an axis: each is padded to its place, and all are added."""

    name = "concat"
    analytic = True

    def forward(self, *inputs: Array, axis: int) -> Array:
        return np.concatenate(inputs, axis)

    def type(self, *types: ArrayType, **params: Any) -> ArrayType:
        axis, first = params["axis"], types[0]
        total = sum(t.shape[axis] for t in types)
        return ArrayType((*first.shape[:axis], total, *first.shape[axis + 1 :]), first.dtype)

    def local(self, i: int, xp: Any, out: Any, inputs: Sequence[Any], params: Params) -> Local:
        axis, shape = params["axis"], inputs[i].shape
        before = sum(x.shape[axis] for x in inputs[:i])
        starts = tuple(before if k == axis else 0 for k in range(len(shape)))
        return Linear(PAD, slice_map(out.shape, starts, shape, (1,) * len(shape)).T)

    def batch(self, xp: Any, n: int, inputs: Sequence[Any], batched: Sequence[bool],
              params: Params) -> Any:  # fmt: skip
        full = tuple(
            x if b else broadcast_to(x, (n, *to_tensor(x).shape))
            for x, b in zip(inputs, batched, strict=True)
        )
        return xp.apply(self, full, {"axis": params["axis"] + 1})


CONCAT = Concat()


def _linear(primitive: LinearGate, x: ArrayLike, map: IndexMap) -> Tensor:
    return bind(primitive, (x,), {"map": map})


def reshape(x: ArrayLike, /, shape: int | Shape, *, copy: bool | None = None) -> Tensor:
    """The same entries in the same (row-major) order in another shape; one size may be -1.

    >>> import chainrule as cr
    >>> cr.reshape(cr.arange(4), (2, -1)).shape
    (2, 2)
    """
    x = to_tensor(x)
    target = new = as_shape(shape, signed=True)
    if target.count(-1) == 1:
        known = -size_of(target)
        new = tuple((x.size // known if known else -1) if n == -1 else n for n in target)
    if min(new, default=0) < 0 or size_of(new) != x.size:
        raise ShapeError(f"cannot reshape {x.shape} ({x.size} entries) to {target}")
    return itself(x) if new == x.shape else _linear(RESHAPE, x, indexmap.reshape_map(x.shape, new))


def permute_dims(x: ArrayLike, /, axes: Sequence[int]) -> Tensor:
    """Axis axes[j] of x becomes axis j of the result."""
    x = to_tensor(x)
    if not isinstance(axes, (tuple, list, range)):
        raise DTypeError(f"permute_dims takes a tuple of axes, received {axes!r:.60}")
    order = tuple(normalize_axis(a, x.ndim, "axes entry") for a in axes)
    if sorted(order) != list(range(x.ndim)):
        raise AxisError(f"axes {tuple(axes)} must name each of the {x.ndim} axes of {x.shape} once")
    return _linear(PERMUTE, x, indexmap.permute_map(x.shape, order))


def matrix_transpose(x: ArrayLike, /) -> Tensor:
    """The last two axes swapped."""
    x = to_tensor(x)
    if x.ndim < 2:
        raise ShapeError(f"matrix_transpose takes at least 2 axes, received shape {x.shape}")
    return permute_dims(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def swapaxes(x: ArrayLike, axis1: int, axis2: int, /) -> Tensor:
    """Two axes exchanged."""
    x = to_tensor(x)
    order = list(range(x.ndim))
    first, second = normalize_axis(axis1, x.ndim), normalize_axis(axis2, x.ndim)
    order[first], order[second] = second, first
    return permute_dims(x, order)


def moveaxis(x: ArrayLike, source: Any, destination: Any, /) -> Tensor:
    """Axes moved from `source` to `destination`; the others keep their order."""
    x = to_tensor(x)
    sources, targets = ordered_axes(source, x.ndim), ordered_axes(destination, x.ndim)
    if len(sources) != len(targets):
        raise AxisError(f"source {source} and destination {destination} differ in length")
    order = [a for a in range(x.ndim) if a not in sources]
    for target, origin in sorted(zip(targets, sources, strict=True)):
        order.insert(target, origin)
    return permute_dims(x, order)


def expand_dims(x: ArrayLike, /, axis: int | tuple[int, ...] = 0) -> Tensor:
    """New axes of size 1 at the positions `axis` of the result."""
    x = to_tensor(x)
    ndim = x.ndim + len(as_tuple(axis))
    axes = normalize_axes(axis, ndim)
    sizes = iter(x.shape)
    return reshape(x, tuple(1 if k in axes else next(sizes) for k in range(ndim)))


def squeeze(x: ArrayLike, /, axis: int | tuple[int, ...] | None = None) -> Tensor:
    """Without the axes named (all those of size 1 if none is); each must have size 1."""
    x = to_tensor(x)
    axes = normalize_axes(axis, x.ndim)
    if axis is None:
        axes = tuple(a for a in axes if x.shape[a] == 1)
    for a in axes:
        if x.shape[a] != 1:
            raise ShapeError(f"cannot squeeze axis {a} of shape {x.shape}: its size is not 1")
    return reshape(x, tuple(n for k, n in enumerate(x.shape) if k not in axes))


def slice_along(x: Tensor, axis: int, start: int, stop: int | None) -> Tensor:
    """x[…, start:stop, …] with the slice at one axis, counted from the front."""
    return x[(*(slice(None),) * axis, slice(start, stop))]


def flip(x: ArrayLike, /, *, axis: int | tuple[int, ...] | None = None) -> Tensor:
    """The entries in reverse order along the axes (all by default)."""
    x = to_tensor(x)
    axes = normalize_axes(axis, x.ndim)
    if 0 in x.shape or not axes:
        return itself(x)
    return _linear(FLIP, x, indexmap.flip_map(x.shape, axes))


def pad(
    x: ArrayLike, /, pad_width: Any, *, value: ArrayLike = 0, interior: int | Sequence[int] = 0
) -> Tensor:
    """x with entries around it: `pad_width` is (before, after), or one such pair for each axis.

    Negative widths cut off. `interior` puts that many entries between neighbours.

    >>> import chainrule as cr
    >>> cr.pad(cr.asarray([1, 2]), (1, 0), interior=1)
    asarray([0, 1, 0, 2], dtype=int64)
    """
    from .logic import where

    x = to_tensor(x)
    try:
        widths = np.broadcast_to(np.asarray(pad_width, int), (x.ndim, 2)).tolist()
        gaps = np.broadcast_to(np.asarray(interior, int), (x.ndim,)).tolist()
    except ValueError:
        raise ShapeError(
            f"pad_width must be (before, after) or {x.ndim} such pairs, received {pad_width}"
        ) from None
    if min(gaps, default=0) < 0:
        raise ShapeError(f"interior must not be negative, received {interior}")
    starts, shape = [], []
    for n, (before, after), gap in zip(x.shape, widths, gaps, strict=True):
        inner = n + max(0, n - 1) * gap
        if before + inner + after < 0:
            raise ShapeError(f"pad_width {pad_width} cuts more than shape {x.shape} has")
        starts.append(max(0, before))
        shape.append(inner + max(0, before) + max(0, after))
    steps = tuple(gap + 1 for gap in gaps)
    cuts = any(width < 0 for pair in widths for width in pair)
    kept = tuple(slice(max(0, -before), min(0, after) or None) for before, after in widths)
    place = slice_map(tuple(shape), tuple(starts), x.shape, steps)

    def placed(y: ArrayLike) -> Tensor:
        whole = _linear(PAD, y, place.T)
        return whole[kept] if cuts else whole

    result = placed(x)
    if value.__class__ in (int, float) and value == 0:
        return result
    return where(placed(np.ones(x.shape, bool)), result, astype(value, x.dtype, copy=False))


def diagonal(x: ArrayLike, /, *, offset: int = 0, axis1: int = -2, axis2: int = -1) -> Tensor:
    """The diagonal of two axes as a new last axis: y[…, d] = x[…, d, …, d + offset, …]."""
    x = to_tensor(x)
    first, second = normalize_axis(axis1, x.ndim), normalize_axis(axis2, x.ndim)
    if x.ndim < 2 or first == second:
        raise AxisError(f"diagonal takes two different axes of at least 2, received {x.shape}")
    return _linear(DIAGONAL, x, indexmap.diagonal_map(x.shape, first, second, int(offset)))


def diag(x: ArrayLike, /, k: int = 0) -> Tensor:
    """A vector as a diagonal matrix, or the diagonal of a matrix."""
    x = to_tensor(x)
    if x.ndim == 2:
        return diagonal(x, offset=k)
    if x.ndim != 1:
        raise ShapeError(f"diag takes a vector or a matrix, received shape {x.shape}")
    n = x.shape[0] + (k if k > 0 else -k)
    return _linear(EMBED_DIAGONAL, x, indexmap.diagonal_map((n, n), 0, 1, int(k)).T)


def windows(
    x: ArrayLike, /, size: int | Sequence[int], *, axis: int | Sequence[int] | None = None,
    stride: int | Sequence[int] = 1, dilation: int | Sequence[int] = 1,
) -> Tensor:  # fmt: skip
    """Sliding windows: y[…, o, …, k] = x[…, stride·o + dilation·k, …]; the k are new last axes.

    A convolution is a contraction over windows. `axis` names the axes (the last ones by default).

    >>> import chainrule as cr
    >>> cr.windows(cr.arange(5), 3, stride=2)
    asarray([[0, 1, 2],
             [2, 3, 4]], dtype=int64)
    """
    x = to_tensor(x)
    sizes = as_tuple(size)
    named = tuple(range(x.ndim - len(sizes), x.ndim)) if axis is None else axis
    axes = ordered_axes(named, x.ndim)
    per_axis = []
    options: dict[str, Any] = {"size": sizes, "stride": stride, "dilation": dilation}
    for name, given in options.items():
        values = tuple(given) if isinstance(given, (tuple, list)) else (given,) * len(axes)
        if len(values) != len(axes) or min(values, default=1) < 1:
            raise ShapeError(f"{name} {given} must be one positive number for each axis of {axes}")
        per_axis.append(tuple(int(v) for v in values))
    for a, k, dilate in zip(axes, per_axis[0], per_axis[2], strict=True):
        if dilate * (k - 1) + 1 > x.shape[a]:
            raise ShapeError(
                f"a window of {k} (dilation {dilate}) is longer than axis {a} of shape {x.shape}"
            )
    return _linear(WINDOWS, x, indexmap.windows_map(x.shape, axes, *per_axis))


def concat(arrays: Sequence[ArrayLike], /, *, axis: int | None = 0) -> Tensor:
    """The arrays one after the other along an axis; None flattens them first."""
    tensors = together(*arrays)
    if not tensors:
        raise ShapeError("concat takes at least one array, received none")
    if axis is None:
        tensors, axis = [reshape(t, (t.size,)) for t in tensors], 0
    first = tensors[0]
    axis = normalize_axis(axis, first.ndim) if first.ndim else -1
    others = {(*t.shape[:axis], *t.shape[axis + 1 :], t.ndim) for t in tensors}
    if len(others) > 1 or axis < 0:
        shapes = ", ".join(str(t.shape) for t in tensors)
        need = f"all axes but {axis} must agree" if axis >= 0 else "an axis to join along"
        raise ShapeError(f"cannot join shapes {shapes}: {need} (stack makes a new axis)")
    return bind(CONCAT, tuple(tensors), {"axis": axis})


def stack(arrays: Sequence[ArrayLike], /, *, axis: int = 0) -> Tensor:
    """The arrays, of one shape, along a new axis."""
    parts = as_tensors(*arrays)
    if not parts:
        raise ShapeError("stack takes at least one array, received none")
    for t in parts:
        if t.shape != parts[0].shape:
            raise ShapeError(f"cannot stack shapes {parts[0].shape} and {t.shape}: they differ")
    return concat([expand_dims(t, axis) for t in parts],
                  axis=normalize_axis(axis, parts[0].ndim + 1))  # fmt: skip


class Unstack(Primitive):
    """The slices along an axis: a gate with several outputs, so that they share one gradient."""

    name = "unstack"
    joint = True
    analytic = True

    def forward(self, x: Array, *, axis: int) -> tuple[Array, ...]:
        moved = x if axis == 0 else np.moveaxis(x, axis, 0)
        return tuple(moved) if x.ndim > 1 else tuple(map(np.asarray, moved))

    def type(self, *types: ArrayType, **params: Any) -> TupleType:
        shape, axis = types[0].shape, params["axis"]
        item = ArrayType((*shape[:axis], *shape[axis + 1 :]), types[0].dtype)
        return TupleType((item,) * shape[axis])

    def pull_all(self, xp: Any, upstream: Any, out: Any, inputs: Sequence[Any], params: Params,
                 wanted: Sequence[bool]) -> Sequence[Any]:  # fmt: skip
        parts = [np.zeros(o.shape, o.dtype) if u is None else u
                 for u, o in zip(upstream, out, strict=True)]  # fmt: skip
        return (xp.stack(parts, axis=params["axis"]),)

    def push_all(self, xp: Any, tangents: Sequence[Any], out: Any, inputs: Sequence[Any],
                 params: Params) -> Any:  # fmt: skip
        return xp.apply(self, tuple(tangents), params)

    def batch(self, xp: Any, n: int, inputs: Sequence[Any], batched: Sequence[bool],
              params: Params) -> Any:  # fmt: skip
        return xp.apply(self, tuple(inputs), {"axis": params["axis"] + 1})


UNSTACK = Unstack()


def unstack(x: ArrayLike, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices along an axis, as a tuple."""
    x = to_tensor(x)
    axis = normalize_axis(axis, x.ndim)
    return tuple(bind(UNSTACK, (x,), {"axis": axis})) if x.shape[axis] else ()


def split(x: ArrayLike, parts: int | Sequence[int], /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """Consecutive parts along an axis: so many equal ones, or cut at these indices."""
    x = to_tensor(x)
    axis = normalize_axis(axis, x.ndim)
    n = x.shape[axis]
    if np.ndim(parts) == 0:
        try:
            count = operator.index(parts)  # type: ignore[arg-type]
        except TypeError:
            raise DTypeError(
                f"split takes a number of parts, or indices to cut at, received {parts!r:.60}"
            ) from None
        if count < 1 or n % count:
            raise ShapeError(f"cannot split an axis of {n} into {count} equal parts")
        cuts = [n // count * k for k in range(1, count)]
    else:
        cuts = list(parts)  # type: ignore[arg-type]
    return tuple(slice_along(x, axis, a, b) for a, b in itertools.pairwise([0, *cuts, n]))


def roll(x: ArrayLike, /, shift: Any, *, axis: Any = None) -> Tensor:
    """The entries moved by `shift` places along the axes, around the end to the front."""
    x = to_tensor(x)
    if axis is None:
        moved = sum(as_tuple(shift))
        return reshape(roll(reshape(x, (x.size,)), moved, axis=0), x.shape)
    shifts, axes = as_tuple(shift), as_tuple(axis)
    if len(shifts) == 1:
        shifts *= len(axes)
    if len(axes) != len(shifts):
        raise AxisError(f"shift {shift} and axis {axis} differ in length")
    for s, a in zip(shifts, axes, strict=True):
        a = normalize_axis(a, x.ndim)
        n = x.shape[a]
        if n and s % n:
            cut = n - s % n
            x = concat([slice_along(x, a, cut, n), slice_along(x, a, 0, cut)], axis=a)
    return to_tensor(x)


def tile(x: ArrayLike, repetitions: Shape, /) -> Tensor:
    """x repeated so many times along each axis."""
    x = to_tensor(x)
    counts = as_tuple(repetitions)
    ndim = max(x.ndim, len(counts))
    counts = (1,) * (ndim - len(counts)) + counts
    shape = (1,) * (ndim - x.ndim) + x.shape
    pairs = tuple(itertools.chain(*((1, n) for n in shape)))
    wide = tuple(itertools.chain(*zip(counts, shape, strict=True)))
    final = tuple(c * n for c, n in zip(counts, shape, strict=True))
    return reshape(broadcast_to(reshape(x, pairs), wide), final)


def broadcast_arrays(*arrays: ArrayLike) -> list[Tensor]:
    """The arrays broadcast against each other."""
    tensors = [to_tensor(a) for a in arrays]
    shape = broadcast_shapes(*(t.shape for t in tensors))
    return [broadcast_to(t, shape) for t in tensors]
