"""Functions made of primitives: rows as those of cases.py, driven by the same tests."""

from __future__ import annotations

from typing import Any

import numpy as np

import chainrule as cr
from tests.ops.cases import ONE, THREE, TWO, reduce_rows
from tests.ops.samples import (
    OpCase,
    Sampler,
    between,
    coarse,
    distinct,
    nonzero,
    normal,
    positive,
    truth,
    whole,
)  # fmt: skip


def row(label: str, function: Any, reference: Any, *shapes: Any, sampler: Sampler = normal,
        smooth: bool = True) -> OpCase:  # fmt: skip
    return OpCase("", label, function, reference, (sampler,), tuple((s,) for s in shapes), smooth)


def pair(label: str, function: Any, reference: Any, first: Sampler = normal,
         second: Sampler = normal, shapes: Any = TWO, smooth: bool = True) -> OpCase:  # fmt: skip
    return OpCase("", label, function, reference, (first, second), shapes, smooth)


def softmax(x: Any, axis: Any = -1) -> Any:
    powers = np.exp(x - x.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return np.log(np.exp(x).sum(axis, keepdims=keepdims))


def renamed(name: str, rows: list[OpCase]) -> list[OpCase]:
    return [OpCase("", f"{name} {r.label}", *(getattr(r, f) for f in (
        "function", "reference", "samplers", "shapes", "smooth"))) for r in rows]  # fmt: skip


X = tuple(s for (s,) in ONE)
COMPOSITIONS: list[OpCase] = [
    row("positive", cr.positive, np.positive, *X),
    row("real", cr.real, np.real, *X),
    row("conj", cr.conj, np.conj, *X),
    row("imag", cr.imag, np.imag, *X),
    row("square", cr.square, np.square, *X),
    row("reciprocal", cr.reciprocal, np.reciprocal, *X, sampler=nonzero),
    row("log2", cr.log2, np.log2, *X, sampler=positive),
    row("log10", cr.log10, np.log10, *X, sampler=positive),
    row("asinh", cr.asinh, np.arcsinh, *X),
    row("acosh", lambda x: cr.acosh(x + 1), lambda x: np.arccosh(x + 1), *X, sampler=positive),
    row("atanh", cr.atanh, np.arctanh, *X, sampler=between(-0.9, 0.9)),
    row("softplus", cr.softplus, lambda x: np.log(1 + np.exp(x)), *X),
    row("isnan", cr.isnan, np.isnan, *X, smooth=False),
    row("isinf", cr.isinf, np.isinf, *X, smooth=False),
    row("isfinite", cr.isfinite, np.isfinite, *X, smooth=False),
    row("signbit", cr.signbit, np.signbit, *X, sampler=coarse, smooth=False),
    pair("hypot", cr.hypot, np.hypot, nonzero, nonzero),
    pair("logaddexp", cr.logaddexp, np.logaddexp),
    pair("copysign", cr.copysign, np.copysign, nonzero, nonzero),
    OpCase("", "clip", cr.clip, np.clip, (normal, between(-1, -0.5), between(0.5, 1)), THREE[:5]),
    row("clip below", lambda x: cr.clip(x, min=0.25), lambda x: np.clip(x, 0.25, None), *X),
    *renamed("mean", reduce_rows("", cr.mean, np.mean, normal)),
    *renamed("var", reduce_rows("", cr.var, np.var, normal)),
    *renamed("prod", reduce_rows("", cr.prod, np.prod, nonzero)),
    *renamed("logsumexp", reduce_rows("", cr.logsumexp, logsumexp, normal)[:6]),
    row("var corrected", lambda x: cr.var(x, axis=0, correction=1), lambda x: x.var(0, ddof=1),
        (3, 2), (5,)),
    row("std", cr.std, np.std, (5,), (2, 3), sampler=distinct),
    row("softmax", cr.softmax, softmax, (1,), (3,), (2, 3), (0, 3)),
    row("softmax of two axes", lambda x: cr.softmax(x, axis=(0, 2)), lambda x: softmax(x, (0, 2)),
        (2, 2, 3)),
    row("log_softmax", cr.log_softmax, lambda x: np.log(softmax(x)), (1,), (3,), (2, 3)),
    row("cumulative_prod", lambda x: cr.cumulative_prod(x, axis=0), lambda x: np.cumprod(x, 0),
        (1,), (5,), (3, 2), (0,), sampler=nonzero),
    row("cumulative_prod with 1", lambda x: cr.cumulative_prod(x, axis=-1, include_initial=True),
        lambda x: np.cumulative_prod(x, axis=-1, include_initial=True), (5,), (2, 3)),
    row("cumulative_sum with 0", lambda x: cr.cumulative_sum(x, axis=-1, include_initial=True),
        lambda x: np.cumulative_sum(x, axis=-1, include_initial=True), (5,), (2, 3)),
    row("all", lambda x: cr.all(x > 0, axis=0), lambda x: np.all(x > 0, 0), (3,), (2, 3), (0, 2),
        smooth=False),
    row("any", lambda x: cr.any(x > 1, axis=-1), lambda x: np.any(x > 1, -1), (3,), (2, 3), (2, 0),
        smooth=False),
    row("count_nonzero", cr.count_nonzero, lambda x: np.asarray(np.count_nonzero(x)), (9,), (2, 5),
        sampler=coarse, smooth=False),
    row("sort down", lambda x: cr.sort(x, axis=0, descending=True),
        lambda x: -np.sort(-x, 0), (4,), (3, 2), sampler=distinct),
    row("argsort down", lambda x: cr.argsort(x, descending=True),
        lambda x: np.argsort(-x, kind="stable"), (6,), (2, 6), sampler=coarse, smooth=False),
    row("diff", cr.diff, np.diff, (5,), (2, 3), (1,)),
    row("second diff", lambda x: cr.diff(x, n=2, axis=0), lambda x: np.diff(x, 2, 0), (5,), (4, 2)),
    row("expand_dims", lambda x: cr.expand_dims(x, (0, -1)), lambda x: np.expand_dims(x, (0, -1)),
        (), (3,), (2, 0)),
    row("squeeze", cr.squeeze, np.squeeze, (1, 3, 1), (1,), (2, 1)),
    row("squeeze axis", lambda x: cr.squeeze(x, -1), lambda x: np.squeeze(x, -1), (1, 1), (3, 1)),
    row("swapaxes", lambda x: cr.swapaxes(x, 0, -1), lambda x: np.swapaxes(x, 0, -1), (2, 3, 4)),
    row("moveaxis", lambda x: cr.moveaxis(x, (0, 1), (-1, 0)),
        lambda x: np.moveaxis(x, (0, 1), (-1, 0)), (2, 3, 4), (1, 2)),
    row("roll", lambda x: cr.roll(x, 2), lambda x: np.roll(x, 2), (5,), (2, 3), (0,), (1,)),
    row("roll axes", lambda x: cr.roll(x, (-1, 4), axis=(0, 1)),
        lambda x: np.roll(x, (-1, 4), (0, 1)), (2, 3), (3, 1)),
    row("tile", lambda x: cr.tile(x, (2, 3)), lambda x: np.tile(x, (2, 3)), (), (2,), (2, 2),
        (1, 2, 1)),
    row("repeat each", lambda x: cr.repeat(x, np.array([0, 2, 1]), axis=-1),
        lambda x: np.repeat(x, [0, 2, 1], -1), (3,), (2, 3)),
    row("repeat flat", lambda x: cr.repeat(x, 2), lambda x: np.repeat(x, 2), (3,), (2, 2), ()),
    row("split", lambda x: cr.split(x, [1, 3])[1] * 2, lambda x: np.split(x, [1, 3])[1] * 2,
        (5,), (4, 2), (2,)),
    row("unstack", lambda x: cr.unstack(x, axis=-1)[1], lambda x: x[..., 1], (2,), (2, 3)),
    row("tril", lambda x: cr.tril(x, k=-1), lambda x: np.tril(x, -1), (3, 3), (2, 2, 4), (0, 2)),
    row("triu", lambda x: cr.triu(x, k=1), lambda x: np.triu(x, 1), (3, 3), (2, 2, 4)),
    row("trace", lambda x: cr.trace(x, offset=1), lambda x: np.trace(x, 1, -2, -1),
        (3, 3), (2, 2, 4)),
    row("meshgrid", lambda x: cr.meshgrid(x, x)[1], lambda x: np.meshgrid(x, x)[1], (3,), (1,)),
    row("vector_norm", lambda x: cr.linalg.vector_norm(x, axis=0),
        lambda x: np.linalg.norm(x, axis=0), (4,), (3, 2)),
    *(
        row(f"vector_norm {ord}", lambda x, ord=ord: cr.linalg.vector_norm(x, ord=ord, axis=-1),
            lambda x, ord=ord: np.linalg.norm(x, ord, axis=-1), (4,), (2, 3), sampler=distinct)
        for ord in (1, 3, np.inf, -np.inf)
    ),
    row("einsum trace", lambda x: cr.einsum("ii->", x), lambda x: np.einsum("ii->", x), (3, 3)),
    row("einsum diagonal", lambda x: cr.einsum("iji->ji", x), lambda x: np.einsum("iji->ji", x),
        (2, 3, 2)),
    row("einsum sum", lambda x: cr.einsum("ijk->j", x), lambda x: np.einsum("ijk->j", x),
        (2, 3, 2), (0, 2, 1)),
    row("einsum permute", lambda x: cr.einsum("ba", x), lambda x: np.einsum("ba", x), (2, 3)),
    row("einsum squares", lambda x: cr.einsum("ij,ij->i", x, x), lambda x: (x * x).sum(1), (2, 3)),
    pair("stack", lambda x, y: cr.stack([x, y], axis=-1), lambda x, y: np.stack([x, y], -1),
         shapes=(((), ()), ((3,), (3,)), ((2, 0), (2, 0)))),
    pair("take", lambda x, t: cr.take(x, t, axis=1), lambda x, t: np.take(x, t, 1), normal,
         whole(0, 2), (((3, 2), (4,)), ((1, 3, 2), (1,)))),
    pair("set at a place", lambda x, v: cr.asarray(x).at[1:].set(v),
         lambda x, v: np.concatenate([x[:1], v]), shapes=(((3,), (2,)), ((2, 2), (1, 2)))),
    row("multiply at places", lambda x: cr.asarray(x).at[np.array([0, 2])].multiply(3.0),
        lambda x: x * np.array([3.0, 1, 3]), (3,)),
    pair("logic of comparisons", lambda x, y: cr.where((x > y) & ~(x > 1), x, y),
         lambda x, y: np.where((x > y) & ~(x > 1), x, y)),
    pair("masked", lambda c, x: cr.where(c, cr.sqrt(cr.where(c, x, 1.0)), 0.0),
         lambda c, x: np.where(c, np.sqrt(np.where(c, x, 1.0)), 0.0), truth, positive),
]  # fmt: skip
