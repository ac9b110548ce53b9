"""Attention: means of values, weighted by how well queries and keys agree."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from ..core.types import float32
from ..errors import DTypeError, ShapeError
from ..ops import (
    einsum,
    exp,
    expand_dims,
    logical_and,
    reshape,
    softmax,
    stop_gradient,
    swapaxes,
    where,
)
from ..ops import max as _max
from ..ops import sum as _sum
from ..ops.dispatch import floats, to_tensor
from ..ops.tensor import ArrayLike, Tensor
from .arguments import check_sizes
from .init import xavier_uniform
from .layers import Linear
from .module import Module


def scaled_dot_product_attention(
    q: ArrayLike, k: ArrayLike, v: ArrayLike, mask: ArrayLike | None = None, causal: bool = False
) -> Tensor:
    """softmax(q·kᵀ/√d)·v: for each query a mean of the values, weighted by how well keys agree.

    q (…, queries, d), k (…, times, d), v (…, times, size); the result is (…, queries, size).
    `mask`, of bools that broadcast to (…, queries, times), is true where a query may look;
    `causal` lets query i look at times 0 to i only. A query that may look nowhere gives 0, and
    gradients of 0. Vaswani et al. 2017, eq. 1.

    >>> import chainrule as cr
    >>> q, k = cr.asarray([[0.0], [0.0]]), cr.asarray([[1.0], [2.0]])
    >>> v = cr.asarray([[4.0], [8.0]])
    >>> cr.nn.scaled_dot_product_attention(q, k, v, causal=True).tolist()
    [[4.0], [6.0]]
    """
    q, k, v = floats(q, k, v)
    if (
        min(q.ndim, k.ndim, v.ndim) < 2
        or q.shape[-1] != k.shape[-1]
        or k.shape[-2] != v.shape[-2]
        or not k.shape[-2]
    ):
        raise ShapeError(
            "attention takes q (…, queries, d), k (…, times, d) and v (…, times, size), times ≥ 1; "
            f"received shapes {q.shape}, {k.shape}, {v.shape}"
        )
    scores = einsum("...qd,...kd->...qk", q * (1 / sqrt(max(1, q.shape[-1]))), k)
    allowed = _allowed(mask, causal, q.shape[-2], k.shape[-2])
    weights = softmax(scores) if allowed is None else _masked_softmax(scores, allowed)
    return einsum("...qk,...ks->...qs", weights, v)


def _allowed(mask: ArrayLike | None, causal: bool, queries: int, times: int) -> Tensor | None:
    """Where queries may look; None for everywhere."""
    seen = to_tensor(np.tri(queries, times, dtype=bool)) if causal else None
    if mask is None:
        return seen
    given = to_tensor(mask)
    if given.dtype != np.bool_:
        raise DTypeError(f"a mask holds bools, true where a query may look; received {given.dtype}")
    return given if seen is None else logical_and(given, seen)


def _masked_softmax(scores: Tensor, allowed: Tensor) -> Tensor:
    """softmax over the last axis of the entries allowed; 0 where none is."""
    kept = where(allowed, scores, -np.inf)
    top = stop_gradient(_max(kept, axis=-1, keepdims=True))
    powers = exp(kept - where(top == -np.inf, 0.0, top))
    total = _sum(powers, axis=-1, keepdims=True)
    return powers / where(total == 0, 1.0, total)


class MultiHeadAttention(Module):
    """[head_1, …, head_h]·W_o, head_i = attention(x·W_q, c·W_k, c·W_v) on its part of the features.

    x (…, times, features) looks at itself, or at a `context` (…, other times, features). `mask`
    (…, times, other times), true where x may look, and `causal` are those of
    `scaled_dot_product_attention`. `query`, `key`, `value` and `output` are Linear layers of
    features by features, Xavier uniform; `heads` must divide `features`. Vaswani et al. 2017.

    >>> import chainrule as cr
    >>> layer = cr.nn.MultiHeadAttention(8, heads=2)
    >>> layer(cr.ones((5, 7, 8)), causal=True).shape
    (5, 7, 8)
    >>> layer(cr.ones((5, 7, 8)), cr.ones((5, 3, 8))).shape
    (5, 7, 8)
    """

    def __init__(
        self, features: int, heads: int, bias: bool = True, *, seed: Any = None,
        dtype: Any = float32,
    ) -> None:  # fmt: skip
        check_sizes("MultiHeadAttention", features=features, heads=heads)
        if features % heads:
            raise ShapeError(
                f"MultiHeadAttention takes features that are a multiple of heads, received "
                f"features={features}, heads={heads}"
            )
        self.features, self.heads = features, heads
        self.query, self.key, self.value, self.output = (
            Linear(features, features, bias, initializer=xavier_uniform, dtype=dtype)
            for _ in range(4)
        )
        if seed is not None:
            self.initialize(seed)

    def forward(
        self, x: ArrayLike, context: ArrayLike | None = None, mask: ArrayLike | None = None,
        causal: bool = False,
    ) -> Tensor:  # fmt: skip
        """What x finds in the context, or in itself."""
        context = x if context is None else context
        q, k, v = (
            self._checked(self._split, f(t))
            for f, t in ((self.query, x), (self.key, context), (self.value, context))
        )
        if mask is not None and np.ndim(mask) > 2:  # the same for all heads
            mask = expand_dims(mask, -3)
        found = self._checked(scaled_dot_product_attention, q, k, v, mask, causal)
        joined = swapaxes(found, -2, -3)
        return self.output(reshape(joined, (*joined.shape[:-2], self.features)))  # type: ignore[no-any-return]

    def _split(self, t: Tensor) -> Tensor:
        """(…, times, features) to (…, heads, times, features / heads)."""
        if t.ndim < 2:
            raise ShapeError(f"attention takes arrays (…, times, features), received {t.shape}")
        parts = (self.heads, self.features // self.heads)
        return swapaxes(reshape(t, (*t.shape[:-1], *parts)), -2, -3)


__all__ = ["MultiHeadAttention", "scaled_dot_product_attention"]
