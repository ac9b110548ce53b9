"""Rows for gates with graphs inside: loops, branches, recomputation; and for unstack."""

from __future__ import annotations

from typing import Any

import numpy as np

import chainrule as cr
from tests.ops.samples import OpCase, normal


def unstacked(axis: int) -> Any:
    def function(x: Any) -> Any:
        parts = cr.unstack(x, axis=axis)
        return cr.sin(parts[0]) * parts[-1] + parts[1 % len(parts)]

    return function


def unstacked_reference(axis: int) -> Any:
    def function(x: Any) -> Any:
        parts = np.unstack(x, axis=axis)
        return np.sin(parts[0]) * parts[-1] + parts[1 % len(parts)]

    return function


def numpy_scan(f: Any, init: Any, xs: Any, reverse: bool = False) -> tuple[Any, Any]:
    """The definition of scan for one carry and one array."""
    carry, ys = init, [None] * len(xs)
    for t in range(len(xs))[:: -1 if reverse else 1]:
        carry, ys[t] = f(carry, xs[t])
    return carry, np.stack(ys)


def recurrent(xp: Any, scan: Any) -> Any:
    """An RNN: captured weights and bias, the carry in a product, results beside it."""

    def function(h: Any, xs: Any, w: Any, b: Any) -> Any:
        def step(h: Any, x: Any) -> tuple[Any, Any]:
            h = xp.tanh(h @ w + x + b)
            return h, (h * x).sum(-1)

        last, ys = scan(step, h, xs)
        return last.sum(0) * ys.sum()

    return function


def geometric(xp: Any, scan: Any) -> Any:
    """A captured factor used entry by entry, backwards; y is the carry that came in."""

    def function(c: Any, xs: Any, k: Any) -> Any:
        last, ys = scan(lambda c, x: (c * k + xp.sin(x), c), c, xs, reverse=True)
        return last + ys[0] * ys[-1]

    return function


def powers(x: Any, a: Any) -> Any:
    """No xs, a number of steps, a carry of two, an integer among them; a.T·a is the same in all."""

    def step(carry: Any, _: Any) -> tuple[Any, None]:
        v, n = carry
        return (v @ (a.T @ a) / 3 + cr.astype(n, v.dtype), n + 1), None

    (v, n), _ = cr.scan(step, (x, np.int64(0)), length=3)
    return v * cr.astype(n, v.dtype)


def powers_reference(x: Any, a: Any) -> Any:
    for n in range(3):
        x = x @ (a.T @ a) / 3 + n
    return x * 3


def nested(x: Any, w: Any) -> Any:
    """A loop in a loop, both reading the captured w."""

    def outer(c: Any, row: Any) -> Any:
        c, ys = cr.scan(lambda d, e: (d * e + w, cr.sin(d)), c, row)
        return c, ys.sum()

    c, ys = cr.scan(outer, cr.zeros_like(w), x)
    return c * ys.sum()


def nested_reference(x: Any, w: Any) -> Any:
    c, total = np.zeros_like(w), 0.0
    for row in x:
        for e in row:
            total, c = total + np.sin(c).sum(), c * e + w
    return c * total


def branching(x: Any, y: Any) -> Any:
    """One side reads what is outside; the other does not use y."""
    z = cr.sin(x)
    return cr.cond((x * x).sum() < y.sum() ** 2, lambda a: a * z * y.sum(), lambda a: cr.exp(a), x)


def branching_reference(x: Any, y: Any) -> Any:
    return x * np.sin(x) * y.sum() if (x * x).sum() < y.sum() ** 2 else np.exp(x)


def recomputed(x: Any, w: Any) -> Any:
    def inside(x: Any) -> Any:
        h = cr.tanh(x * w)
        return h, cr.exp(h) * x

    first, second = cr.remat(inside)(x)
    return first * second


def recomputed_reference(x: Any, w: Any) -> Any:
    h = np.tanh(x * w)
    return h * (np.exp(h) * x)


LOOPS = [
    *(
        OpCase("unstack", f"axis {axis}", unstacked(axis), unstacked_reference(axis), (normal,),
               shapes)
        for axis, shapes in (
            (0, (((1,),), ((4,),), ((3, 2),), ((2, 0),))), (1, (((2, 3),), ((2, 3, 2),))),
            (-1, (((2, 3),), ((2, 1, 4),))),
        )
    ),
    OpCase("scan", "recurrent", recurrent(cr, cr.scan), recurrent(np, numpy_scan), (normal,) * 4,
           (((2, 3), (4, 2, 3), (3, 3), (3,)), ((1, 2), (1, 1, 2), (2, 2), (2,)),
            ((0, 2), (3, 0, 2), (2, 2), (2,)))),
    OpCase("scan", "reverse", geometric(cr, cr.scan), geometric(np, numpy_scan), (normal,) * 3,
           (((2,), (3, 2), (2,)), ((), (4,), ()))),
    OpCase("scan", "without xs", powers, powers_reference, (normal, normal), (((2,), (3, 2)),)),
    OpCase("scan", "nested", nested, nested_reference, (normal, normal),
           (((2, 3), ()), ((2, 2, 2), (2,)))),
    OpCase("cond", "two sides", branching, branching_reference, (normal, normal),
           (((3,), (2,)), ((), ()), ((2, 2), (5,)), ((4,), (1,)))),
    OpCase("remat", "two outputs", recomputed, recomputed_reference, (normal, normal),
           (((3,), (3,)), ((2, 3), (3,)), ((), ()), ((0,), (1,)))),
]  # fmt: skip
