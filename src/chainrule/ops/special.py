"""Functions made of the elementwise gates that need more than a line."""

from __future__ import annotations

import math

import numpy as np

from .arithmetic import abs, maximum
from .dispatch import floats, itself, stop_gradient, to_tensor
from .logic import equal, isinf, isnan, less, logical_and, logical_or, where
from .tensor import ArrayLike, Tensor
from .transcendental import exp, log, log1p, sqrt

__all__ = [
    "acosh", "asinh", "atanh", "clip", "hypot", "logaddexp", "softplus",
]  # fmt: skip


def asinh(x: ArrayLike, /) -> Tensor:
    """The inverse of sinh; derivative 1/√(x² + 1). Exact in small and in large numbers."""
    (x,) = floats(x)
    # odd: one smooth formula for either sign, so that derivatives of every order hold at 0 too
    size = where(x < 0, -x, x)
    large = size > 1e8
    safe = where(large, 1.0, size)
    near = log1p(safe * (1.0 + safe / (1.0 + sqrt(safe * safe + 1.0))))
    far = log(where(large, size, 1.0)) + math.log(2)
    result = where(large, far, near)
    return where(x < 0, -result, result)


def acosh(x: ArrayLike, /) -> Tensor:
    """The inverse of cosh from 1 on; derivative 1/√(x² - 1). NaN below 1."""
    (x,) = floats(x)
    large = x > 1e8
    t = where(large, 1.0, x) - 1.0
    near = log1p(t + sqrt(t) * sqrt(t + 2.0))
    return where(large, log(where(large, x, 1.0)) + math.log(2), near)


def atanh(x: ArrayLike, /) -> Tensor:
    """The inverse of tanh on (-1, 1); derivative 1/(1 - x²). ±∞ at ±1, NaN beyond."""
    (x,) = floats(x)
    return 0.5 * (log1p(x) - log1p(-x))


def hypot(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """√(x1² + x2²) without overflow; ∞ if either is infinite."""
    x, y = floats(x1, x2)
    top = stop_gradient(maximum(abs(x), abs(y)))
    scale = where(logical_or(equal(top, 0), isinf(top)), 1.0, top)
    x, y = where(isinf(x), np.inf, x / scale), where(isinf(y), np.inf, y / scale)
    length = sqrt(x * x + y * y) * scale
    return where(logical_or(isinf(x), isinf(y)), np.inf, length)


def logaddexp(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """log(e^x1 + e^x2) without overflow; ∂/∂x1 = σ(x1 - x2)."""
    x, y = floats(x1, x2)
    first = x >= y
    high, low = where(first, x, y), where(first, y, x)
    both = logical_and(equal(x, y), isinf(x))  # ∞ - ∞ has no gap
    return high + log1p(exp(where(both, 0.0, low) - where(both, 0.0, high)))


def clip(x: ArrayLike, /, min: ArrayLike | None = None, max: ArrayLike | None = None) -> Tensor:
    """x held between two bounds. The gradient passes on the closed interval, bounds included.

    NaN where x or a bound is NaN, as in NumPy.
    """
    y = to_tensor(x)
    if min is not None:
        y = where(_or_nan(less(y, min), min), min, y)
    if max is not None:
        y = where(_or_nan(less(max, y), max), max, y)
    return itself(y)


def _or_nan(beyond: Tensor, bound: ArrayLike) -> Tensor:
    """Where a bound takes the place of x: beyond it, and where it is NaN."""
    known = isinstance(bound, (int, float)) and not math.isnan(bound)
    return beyond if known else logical_or(beyond, isnan(bound))


def softplus(x: ArrayLike, /) -> Tensor:
    """log(1 + e^x) without overflow; derivative σ(x)."""
    return logaddexp(x, 0.0)
