"""One row or more for every primitive: what it computes, in NumPy, and inputs to try it on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

import chainrule as cr
from chainrule.core.indexmap import cumsum_map, gather_map, windows_map
from chainrule.core.primitive import LINK
from chainrule.core.special import bits, erf, erfinv
from chainrule.ops.dispatch import bind
from chainrule.ops.indexing import SCATTER_ADD
from chainrule.ops.reducing import CUMSUM
from chainrule.ops.shaping import FOLD
from tests.ops.loops import LOOPS
from tests.ops.samples import (
    OpCase,
    Sampler,
    between,
    coarse,
    distinct,
    nonzero,
    normal,
    off_steps,
    positive,
    truth,
    whole,
)  # fmt: skip

EXCLUDED = {
    "Derived": "a derivative of a user's gate; tests/autodiff/test_custom.py",
    "Custom": "the wrapper around a user's gate; tests/autodiff/test_custom.py",
    "CustomTensor": "the wrapper around a user's TensorGate; tests/autodiff/test_custom.py",
    "Severed": "the end of a compiled function; tests/compiler/test_errors.py",
}
"""Primitives that have no row, and why."""

ONE = tuple((s,) for s in ((), (1,), (5,), (2, 3), (0,), (2, 0, 3)))
TWO = (
    ((), ()), ((4,), (4,)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((2, 3), ()), ((), (3,)),
    ((0,), (1,)), ((2, 0, 3), (3,)), ((1,), (2, 1, 2)),
)  # fmt: skip
THREE = (
    ((), (), ()), ((3,), (3,), (3,)), ((2, 1), (3,), (1, 3)), ((3,), (), (2, 3)), ((), (2,), ()),
    ((0,), (1,), ()),
)  # fmt: skip


def unary(name: str, function: Any, reference: Any, sampler: Sampler = normal,
          smooth: bool = True) -> OpCase:  # fmt: skip
    return OpCase(name, "unary", function, reference, (sampler,), ONE, smooth)


def binary(name: str, function: Any, reference: Any, first: Sampler = normal,
           second: Sampler = normal, smooth: bool = True, label: str = "binary"
           ) -> OpCase:  # fmt: skip
    return OpCase(name, label, function, reference, (first, second), TWO, smooth)


def moving(name: str, label: str, function: Any, reference: Any,
           *shapes: Any, sampler: Sampler = normal, smooth: bool = True) -> OpCase:  # fmt: skip
    """A row with one input."""
    return OpCase(name, label, function, reference, (sampler,), tuple((s,) for s in shapes), smooth)


ELEMENTWISE = [
    binary("add", cr.add, np.add),
    binary("sub", cr.subtract, np.subtract),
    binary("mul", cr.multiply, np.multiply),
    binary("div", cr.divide, np.divide, second=nonzero),
    unary("neg", cr.negative, np.negative),
    binary("pow", cr.pow, np.power, positive),
    OpCase("pow", "number", lambda x: x**3.0, lambda x: x**3.0, (normal,), ONE),
    OpCase("pow", "of a number", lambda y: 2.0**y, lambda y: 2.0**y, (normal,), ONE),
    OpCase("pow", "negative", lambda x: x**-2, lambda x: x**-2.0, (nonzero,), ONE),
    binary("floor_divide", cr.floor_divide, np.floor_divide, second=nonzero),
    binary("remainder", cr.remainder, np.remainder, second=nonzero),
    binary("scale_gradient", cr.scale_gradient, np.multiply),
    unary("abs", cr.abs, np.abs, nonzero),
    unary("sign", cr.sign, np.sign, nonzero),
    unary("floor", cr.floor, np.floor, off_steps),
    unary("ceil", cr.ceil, np.ceil, off_steps),
    unary("round", cr.round, np.round, off_steps),
    unary("trunc", cr.trunc, np.trunc, off_steps),
    binary("maximum", cr.maximum, np.maximum),
    binary("minimum", cr.minimum, np.minimum),
    unary("relu", cr.relu, lambda x: np.maximum(x, 0), nonzero),
    unary("exp", cr.exp, np.exp),
    unary("expm1", cr.expm1, np.expm1),
    unary("log", cr.log, np.log, positive),
    unary("log1p", cr.log1p, np.log1p, positive),
    unary("sqrt", cr.sqrt, np.sqrt, positive),
    unary("sin", cr.sin, np.sin),
    unary("cos", cr.cos, np.cos),
    unary("tan", cr.tan, np.tan, between(-1.2, 1.2)),
    unary("arcsin", cr.asin, np.arcsin, between(-0.9, 0.9)),
    unary("arccos", cr.acos, np.arccos, between(-0.9, 0.9)),
    unary("arctan", cr.atan, np.arctan),
    binary("atan2", cr.atan2, np.arctan2, nonzero, nonzero),
    unary("sinh", cr.sinh, np.sinh),
    unary("cosh", cr.cosh, np.cosh),
    unary("tanh", cr.tanh, np.tanh),
    unary("sigmoid", cr.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    unary("erf", cr.erf, erf),
    unary("erfinv", cr.erfinv, erfinv, between(-0.9, 0.9)),
    *(
        binary(name, getattr(cr, name), getattr(np, name), coarse, coarse, smooth=False)
        for name in (
            "equal", "not_equal", "less", "less_equal", "greater", "greater_equal",
            "logical_and", "logical_or", "logical_xor",
        )
    ),
    binary("less", cr.less, np.less, whole(0, 3), whole(0, 3), False, "integers"),
    binary("logical_and", cr.logical_and, np.logical_and, truth, truth, False, "bools"),
    unary("logical_not", cr.logical_not, np.logical_not, coarse, smooth=False),
    *(
        binary(name, getattr(cr, name), getattr(np, name), sampler, sampler, False, label)
        for name in ("bitwise_and", "bitwise_or", "bitwise_xor")
        for label, sampler in (("integers", whole(-9, 9)), ("bools", truth))
    ),
    OpCase("bitwise_invert", "integers", cr.bitwise_invert, np.invert, (whole(-9, 9),), ONE, False),
    OpCase("bitwise_invert", "bools", cr.bitwise_invert, np.invert, (truth,), ONE, False),
    binary("bitwise_left_shift", cr.bitwise_left_shift, np.left_shift, whole(-9, 9), whole(0, 8),
           smooth=False),
    binary("bitwise_right_shift", cr.bitwise_right_shift, np.right_shift, whole(-99, 99),
           whole(0, 8), smooth=False),
    OpCase("where", "select", cr.where, np.where, (truth, normal, normal), THREE),
    OpCase("where", "number", lambda c, x: cr.where(c, x, -1.5), lambda c, x: np.where(c, x, -1.5),
           (truth, normal), TWO),
]  # fmt: skip


def windowed(x: Any, size: int, stride: int, dilation: int) -> Any:
    """NumPy's windows along the last axis."""
    view = sliding_window_view(x, (size - 1) * dilation + 1, axis=-1)
    return view[..., ::stride, ::dilation]


def folded(x: Any, shape: tuple[int, ...], stride: int, dilation: int) -> Any:
    """Windows of the last axis added up where they lay."""
    out = np.zeros(shape, x.dtype)
    for o in range(x.shape[-2]):
        for k in range(x.shape[-1]):
            out[..., stride * o + dilation * k] += x[..., o, k]
    return out


def padded(x: Any, widths: Any, gaps: Any, value: float = 0) -> Any:
    """Entries with `gaps` between them, then `widths` around them; negative widths cut."""
    for axis, ((before, after), gap) in enumerate(zip(widths, gaps, strict=True)):
        lines = np.moveaxis(x, axis, 0)
        n = lines.shape[0]
        wide = np.full((n + max(0, n - 1) * gap, *lines.shape[1:]), value, x.dtype)
        wide[:: gap + 1] = lines
        ends = [np.full((max(0, w), *lines.shape[1:]), value, x.dtype) for w in (before, after)]
        wide = wide[max(0, -before) : wide.shape[0] - max(0, -after)]
        x = np.moveaxis(np.concatenate([ends[0], wide, ends[1]]), 0, axis)
    return x


def pad_row(label: str, widths: Any, gaps: Any, *shapes: Any, value: float = 0) -> OpCase:
    return moving(
        "pad", label, lambda x: cr.pad(x, widths, interior=gaps, value=value),
        lambda x: padded(x, widths, gaps, value), *shapes,
    )  # fmt: skip


def index_row(label: str, index: Any, *shapes: tuple[int, ...], name: str = "slice") -> OpCase:
    return moving(name, label, lambda x: x[index], lambda x: x[index], *shapes)


def window_row(size: int, stride: int, dilation: int, *shapes: tuple[int, ...]) -> OpCase:
    return moving(
        "windows", f"size {size} stride {stride} dilation {dilation}",
        lambda x: cr.windows(x, size, stride=stride, dilation=dilation),
        lambda x: windowed(x, size, stride, dilation), *shapes,
    )  # fmt: skip


def fold_row(shape: tuple[int, ...], size: int, stride: int, dilation: int) -> OpCase:
    last = len(shape) - 1
    map = windows_map(shape, (last,), (size,), (stride,), (dilation,)).T
    return moving(
        "fold", f"to {shape} size {size} stride {stride} dilation {dilation}",
        lambda x: bind(FOLD, (x,), {"map": map}), lambda x: folded(x, shape, stride, dilation),
        map.in_shape,
    )  # fmt: skip


def reduce_rows(name: str, function: Any, reference: Any, sampler: Sampler) -> list[OpCase]:
    """A reduction over all axes, one, several, with the axes kept, and over axes of size 1."""
    rows = []
    for axis, shapes in (
        (None, ((), (1,), (5,), (2, 3))),
        (0, ((1,), (5,), (2, 3), (2, 0))),
        (-1, ((2, 3), (2, 1, 3), (0, 3))),
        ((0, 2), ((2, 3, 4), (1, 2, 1))),
        ((1,), ((2, 3), (0, 2))),
    ):
        for keep in (False, True):
            rows.append(moving(
                name, f"axis {axis}{' kept' if keep else ''}",
                lambda x, axis=axis, keep=keep: function(x, axis=axis, keepdims=keep),
                lambda x, axis=axis, keep=keep: reference(x, axis=axis, keepdims=keep),
                *shapes, sampler=sampler,
            ))  # fmt: skip
    return rows


MOVING = [
    moving("reshape", "to two axes", lambda x: cr.reshape(x, (-1, 2)), lambda x: x.reshape(-1, 2),
           (4,), (2, 3), (1, 2, 1), (0, 4), (2, 3, 2)),
    moving("reshape", "across axes", lambda x: cr.reshape(x, (3, 4)), lambda x: x.reshape(3, 4),
           (2, 6), (12,), (1, 6, 2, 1), (4, 3)),
    moving("reshape", "to nothing", lambda x: cr.reshape(x, ()), lambda x: x.reshape(()), (1, 1)),
    moving("reshape", "of no entries", lambda x: cr.reshape(x, (3, 0, 2)),
           lambda x: x.reshape(3, 0, 2), (0,), (5, 0)),
    moving("permute", "reverse", lambda x: x.T, lambda x: x.T, (2, 3), (2, 1, 3), (0, 2)),
    moving("permute", "cycle", lambda x: cr.permute_dims(x, (1, 2, 0)),
           lambda x: x.transpose(1, 2, 0), (2, 3, 4), (1, 0, 2)),
    moving("permute", "swap", cr.matrix_transpose, lambda x: np.swapaxes(x, -1, -2), (2, 3, 4)),
    moving("broadcast", "new axis", lambda x: cr.broadcast_to(x, (4, 2, 3)),
           lambda x: np.broadcast_to(x, (4, 2, 3)), (), (3,), (1,), (2, 3), (2, 1), (1, 1, 3)),
    moving("broadcast", "to nothing", lambda x: cr.broadcast_to(x, (0, 3)),
           lambda x: np.broadcast_to(x, (0, 3)), (1, 3), (3,), ()),
    *reduce_rows("sum", cr.sum, np.sum, normal),
    moving("sum", "of no entries", cr.sum, np.sum, (0,), (2, 0)),
    index_row("middle", np.s_[1:4], (5,), (4, 2), (2, 3), (5, 0)),
    index_row("step", np.s_[::2, 1:], (5, 3), (4, 2), (2, 1)),
    index_row("reverse", np.s_[::-1], (5,), (1,), (3, 2), (0,)),
    index_row("backwards step", np.s_[..., -1:0:-2], (6,), (2, 5), (3, 1)),
    index_row("backwards to the front", np.s_[3::-3], (4,), (7, 2)),
    index_row("number", np.s_[-1], (5,), (2, 3)),
    index_row("numbers and axes", np.s_[None, 1, ..., 0, None], (2, 3), (3, 4, 2)),
    index_row("empty", np.s_[3:3], (5,), (4, 2)),
    pad_row("around", ((1, 2),), (0,), (4,), (1,), (0,)),
    pad_row("value", ((1, 0), (0, 2)), (0, 0), (2, 3), (1, 0), value=1.5),
    pad_row("interior", ((0, 0),), (2,), (4,), (1,), (0,)),
    pad_row("interior and around", ((2, 0), (1, 1)), (1, 3), (2, 3), (3, 1)),
    pad_row("cut", ((-1, 2), (1, -2)), (0, 0), (2, 3), (3, 2)),
    pad_row("cut interior", ((-1, -1),), (1,), (3,), (5,)),
    moving("flip", "all", cr.flip, np.flip, (5,), (2, 3), (1, 2, 2)),
    moving("flip", "axis", lambda x: cr.flip(x, axis=(-1, 0)), lambda x: np.flip(x, (-1, 0)),
           (2, 3), (3, 1, 2)),
    moving("diagonal", "last", cr.diagonal, lambda x: np.diagonal(x, 0, -2, -1),
           (3, 3), (2, 4), (4, 2), (2, 3, 3), (0, 3)),
    *(
        moving("diagonal", f"offset {k}", lambda x, k=k: cr.diagonal(x, offset=k),
               lambda x, k=k: np.diagonal(x, k, -2, -1), (3, 3), (2, 4), (4, 2))
        for k in (1, -1, 5, -5)
    ),
    moving("diagonal", "axes", lambda x: cr.diagonal(x, offset=1, axis1=2, axis2=0),
           lambda x: np.diagonal(x, 1, 2, 0), (3, 2, 4), (2, 1, 2)),
    *(
        moving("embed_diagonal", f"offset {k}", lambda x, k=k: cr.diag(x, k),
               lambda x, k=k: np.diag(x, k), (3,), (1,), (0,))
        for k in (0, 2, -1)
    ),
    window_row(3, 1, 1, (5,), (2, 4), (3,)),
    window_row(2, 2, 1, (5,), (2, 6)),
    window_row(2, 1, 3, (5,), (6,)),
    window_row(3, 2, 2, (9,), (0, 7)),
    window_row(1, 3, 1, (7,)),
    moving("windows", "two axes", lambda x: cr.windows(x, (2, 3), stride=(2, 1), axis=(1, 2)),
           lambda x: sliding_window_view(x, (2, 3), (1, 2))[:, ::2], (2, 4, 5), (1, 3, 3)),
    fold_row((5,), 3, 1, 1),
    fold_row((2, 7), 3, 2, 1),
    fold_row((6,), 2, 3, 2),
    fold_row((2, 8), 3, 2, 2),
    *(
        moving("cumsum", f"axis {axis}", lambda x, axis=axis: cr.cumulative_sum(x, axis=axis),
               lambda x, axis=axis: np.cumsum(x, axis), *shapes)
        for axis, shapes in ((0, ((5,), (1,), (3, 2), (0,))), (-1, ((2, 3), (2, 2, 3), (2, 0))))
    ),
    moving("cumsum", "backwards",
           lambda x: bind(CUMSUM, (x,), {"map": cumsum_map(x.shape, 0, True)}),
           lambda x: np.cumsum(x[::-1], 0)[::-1], (5,), (3, 2)),
]  # fmt: skip


def gather_row(label: str, function: Any, samplers: Any, *shapes: Any) -> OpCase:
    """An index whose tables are inputs too."""
    return OpCase("gather", label, function, function, samplers, shapes)


def scattered(v: Any, table: Any) -> Any:
    out = np.zeros((4, *v.shape[table.ndim :]), v.dtype)
    np.add.at(out, table, v)
    return out


def scatter(v: Any, table: Any) -> Any:
    shape = (4, *v.shape[len(table.shape) :])
    return bind(SCATTER_ADD, (v, table), {"map": gather_map(shape, 0, 1, table.shape).T})


def added_at(x: Any, v: Any) -> Any:
    out = x.copy()
    np.add.at(out, np.array([2, 0, 2]), v)
    return out


INDEXING = [
    gather_row("front", lambda x, t: x[t], (normal, whole(-3, 3)),
               ((3, 2), (4,)), ((3,), (2, 2)), ((3,), ()), ((3, 0), (2,)), ((4,), (0,))),
    gather_row("back", lambda x, t: x[..., t], (normal, whole(-2, 2)),
               ((3, 2), (4,)), ((2,), (3, 1))),
    gather_row("two tables", lambda x, s, t: x[s, t], (normal, whole(0, 2), whole(-3, 3)),
               ((2, 3), (4,), (4,)), ((2, 3, 2), (2, 1), (3,)), ((2, 3), (), (2,))),
    gather_row("tables apart", lambda x, s, t: x[s, :, t], (normal, whole(0, 2), whole(-3, 3)),
               ((2, 2, 3), (4,), (4,)), ((2, 1, 3), (2, 1), (2,))),
    gather_row("beside a slice", lambda x, t: x[1:, t], (normal, whole(0, 3)), ((3, 3), (2,))),
    moving("gather", "mask", lambda x: x[np.array([True, False, True])],
           lambda x: x[[True, False, True]], (3,), (3, 2)),
    OpCase("gather", "along an axis", lambda x, t: cr.take_along_axis(x, t, axis=0),
           lambda x, t: np.take_along_axis(x, t, 0), (normal, whole(0, 3)),
           (((3, 2), (2, 2)), ((3,), (4,)), ((3, 2), (3, 2)))),
    OpCase("gather", "repeat", lambda x: cr.repeat(x, 3, axis=0), lambda x: np.repeat(x, 3, 0),
           (normal,), (((2,),), ((2, 3),))),
    OpCase("scatter_add", "front", scatter, scattered, (normal, whole(0, 4)),
           (((5,), (5,)), ((3, 2), (3,)), ((2, 2), (2, 2)), ((0,), (0,)))),
    OpCase("scatter_add", "at", lambda x, v: cr.asarray(x).at[np.array([2, 0, 2])].add(v), added_at,
           (normal, normal), (((3,), (3,)), ((4, 2), (3, 2)))),
    OpCase("concat", "two", lambda x, y: cr.concat([x, y]), lambda x, y: np.concatenate([x, y]),
           (normal, normal), (((2,), (3,)), ((2, 3), (1, 3)), ((0, 2), (1, 2)), ((1,), (0,)))),
    OpCase("concat", "three, last axis", lambda *xs: cr.concat(xs, axis=-1),
           lambda *xs: np.concatenate(xs, -1), (normal,) * 3, (((2, 1), (2, 2), (2, 3)),)),
    OpCase("concat", "twice the same", lambda x: cr.concat([x, x, -x]),
           lambda x: np.concatenate([x, x, -x]), (normal,), (((2,),), ((1, 2),))),
]  # fmt: skip


def spec_row(spec: str, *shapes: Any) -> OpCase:
    return OpCase(
        "contract", spec, lambda x, y: cr.contract(x, y, spec), lambda x, y: np.einsum(spec, x, y),
        (normal, normal), shapes,
    )  # fmt: skip


def einsum_row(spec: str, *shapes: Any) -> OpCase:
    return OpCase(
        "contract", f"einsum {spec}", lambda *xs: cr.einsum(spec, *xs),
        lambda *xs: np.einsum(spec, *xs), (normal,) * len(shapes[0]), shapes,
    )  # fmt: skip


CONTRACTIONS = [
    spec_row("ij,jk->ik", ((2, 3), (3, 4)), ((1, 1), (1, 1)), ((2, 0), (0, 3)), ((0, 2), (2, 2))),
    spec_row("ij,jk->ki", ((2, 3), (3, 4))),
    spec_row("ij,kj->ik", ((2, 3), (4, 3))),
    spec_row("ji,jk->ik", ((3, 2), (3, 4))),
    spec_row("i,i->", ((3,), (3,)), ((0,), (0,)), ((1,), (1,))),
    spec_row("i,i->i", ((3,), (3,))),
    spec_row("i,j->ij", ((2,), (3,)), ((0,), (2,))),
    spec_row("i,j->ji", ((2,), (3,))),
    spec_row(",i->i", ((), (3,))),
    spec_row(",->", ((), ())),
    spec_row("ij,j->i", ((2, 3), (3,))),
    spec_row("i,ij->j", ((2,), (2, 3))),
    spec_row("ij,ij->", ((2, 3), (2, 3))),
    spec_row("ij,ij->j", ((2, 3), (2, 3))),
    spec_row("ij,ji->ij", ((2, 3), (3, 2))),
    spec_row("bij,bjk->bik", ((2, 2, 3), (2, 3, 2)), ((0, 2, 1), (0, 1, 2))),
    spec_row("bij,bj->ib", ((2, 2, 3), (2, 3))),
    spec_row("abc,cbd->ad", ((2, 2, 3), (3, 2, 2))),
    spec_row("abc,cbd->dba", ((2, 2, 3), (3, 2, 2))),
    spec_row("aibj,jcai->bac", ((2, 2, 2, 2), (2, 3, 2, 2))),
    einsum_row("ij,jk", ((2, 3), (3, 2))),
    einsum_row("i,ij,j->", ((2,), (2, 3), (3,))),
    einsum_row("ab,bc,cd->da", ((2, 3), (3, 2), (2, 2))),
    einsum_row("iij,jk->k", ((2, 2, 3), (3, 2))),
    einsum_row("ij,kl->jl", ((2, 3), (2, 2))),
    einsum_row("...ij,...jk->...ik", ((2, 2, 3), (3, 2)), ((2, 1, 2, 3), (3, 3, 1))),
    einsum_row("...i,i...->...", ((2, 3), (3, 2))),
    einsum_row("ij,ij,ij->i", ((2, 3), (2, 3), (2, 3))),
    *(
        OpCase("contract", name, getattr(cr, name), getattr(np, name), (normal, normal), shapes)
        for name, shapes in (
            ("matmul", (((2, 3), (3, 2)), ((3,), (3,)), ((3,), (2, 3, 2)), ((2, 2, 3), (3,)),
                        ((2, 1, 2, 3), (4, 3, 1)), ((2, 0), (0, 2)))),
            ("dot", (((3,), (3,)), ((2, 3), (3,)), ((2, 3), (2, 3, 2)))),
            ("vecdot", (((3,), (3,)), ((2, 3), (3,)), ((2, 1, 3), (4, 3)))),
            ("outer", (((2,), (3,)), ((2, 2), (3,)), ((1,), (1,)))),
        )
    ),
    OpCase("contract", "tensordot lists", lambda x, y: cr.tensordot(x, y, axes=((0, 2), (1, 0))),
           lambda x, y: np.tensordot(x, y, axes=((0, 2), (1, 0))), (normal, normal),
           (((2, 3, 4), (4, 2, 2)),)),
    OpCase("contract", "tensordot number", lambda x, y: cr.tensordot(x, y, axes=1),
           lambda x, y: np.tensordot(x, y, axes=1), (normal, normal), (((2, 3), (3, 2)),)),
]  # fmt: skip


class SumAndProduct(cr.TensorGate):
    """A gate with two outputs, so that there are items to take."""

    def forward(self, x: Any, y: Any) -> Any:
        return x + y, x * y

    def backward(self, upstream: Any, other: Any, out: Any, x: Any, y: Any) -> Any:
        return [upstream + other * y, upstream + other * x]


def items(x: Any, y: Any) -> Any:
    total, product = SumAndProduct()(x, y)
    return cr.sin(total) * product


SELECTING = [
    *reduce_rows("max", cr.max, np.max, distinct),
    *reduce_rows("min", cr.min, np.min, distinct),
    *(
        moving(name, f"axis {axis}", lambda x, f=name, axis=axis: getattr(cr, f)(x, axis=axis),
               lambda x, f=name, axis=axis: getattr(np, f)(x, axis=axis), *shapes,
               sampler=coarse, smooth=False)
        for name in ("argmax", "argmin")
        for axis, shapes in (
            (None, ((), (5,), (2, 3))), (0, ((5,), (2, 3), (2, 0))), (-1, ((2, 3),)),
        )
    ),
    *(
        moving("argsort", f"axis {axis}", lambda x, axis=axis: cr.argsort(x, axis=axis),
               lambda x, axis=axis: np.argsort(x, axis, kind="stable"), *shapes, sampler=coarse,
               smooth=False)
        for axis, shapes in ((0, ((5,), (3, 2), (0,))), (-1, ((2, 4), (2, 0))))
    ),
    *(
        moving("sort", f"axis {axis}", lambda x, axis=axis: cr.sort(x, axis=axis),
               lambda x, axis=axis: np.sort(x, axis), *shapes, sampler=distinct)
        for axis, shapes in ((0, ((5,), (3, 2), (0,), (1,))), (-1, ((2, 4), (2, 2, 3), (2, 0))))
    ),
]  # fmt: skip
OTHERS = [
    unary("identity", lambda x: bind(LINK, (x if isinstance(x, cr.Tensor) else cr.asarray(x),), {}),
          lambda x: x),
    OpCase("item", "of two", items, lambda x, y: np.sin(x + y) * (x * y), (normal, normal),
           (((), ()), ((3,), (3,)), ((2, 3), (2, 3)))),
    OpCase("cast", "copy", lambda x: cr.astype(x, x.dtype), lambda x: x, (normal,), ONE),
    OpCase("cast", "of integers", lambda x: cr.astype(x, cr.float64),
           lambda x: x.astype(np.float64), (whole(-5, 5),), ONE, False),
    OpCase("cast", "to integers", lambda x: cr.astype(x, cr.int32),
           lambda x: x.astype(np.int32), (off_steps,), ONE, False),
    unary("stop_gradient", cr.stop_gradient, lambda x: x, smooth=False),
    *(
        OpCase("random_bits", f"shape {shape}", lambda k, shape=shape: cr.random.bits(k, shape),
               lambda k, shape=shape: np.stack(
                   [bits(row, int(np.prod(shape))).reshape(shape) for row in k.reshape(-1, 2)]
               ).reshape(k.shape[:-1] + shape),
               (whole(0, 2**32, "uint32"),), (((2,),), ((3, 2),)), False)
        for shape in ((), (5,), (2, 3), (0,))
    ),
]  # fmt: skip

CASES: list[OpCase] = [
    *ELEMENTWISE, *MOVING, *INDEXING, *CONTRACTIONS, *SELECTING, *OTHERS, *LOOPS,
]  # fmt: skip
