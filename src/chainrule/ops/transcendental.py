"""Exponential, logarithmic, trigonometric and error functions: gates that work entry by entry.

Each is a statement of its forward rule in NumPy and of its derivative.
"""

from __future__ import annotations

import math

import numpy as np

from ..core import special
from ..core.primitive import Floating
from .dispatch import gate
from .tensor import ArrayLike, Tensor

__all__ = [
    "acos", "asin", "atan", "atan2", "cos", "cosh", "erf", "erfinv", "exp", "expm1", "log", "log1p",
    "log2", "log10", "sigmoid", "sin", "sinh", "sqrt", "tan", "tanh",
]  # fmt: skip


@gate(np.exp, lambda xp, out, x: out, kind=Floating, analytic=True)
def exp(x: ArrayLike, /) -> Tensor:
    """e^x; derivative e^x."""


@gate(np.expm1, lambda xp, out, x: out + 1, kind=Floating, analytic=True)
def expm1(x: ArrayLike, /) -> Tensor:
    """e^x - 1, accurate near 0; derivative e^x."""


@gate(np.log, lambda xp, out, x: 1 / x, kind=Floating, analytic=True)
def log(x: ArrayLike, /) -> Tensor:
    """The natural logarithm; derivative 1/x. log 0 = -∞, NaN below 0."""


@gate(np.log1p, lambda xp, out, x: 1 / (x + 1), kind=Floating, analytic=True)
def log1p(x: ArrayLike, /) -> Tensor:
    """log(1 + x), accurate near 0; derivative 1/(1 + x)."""


def log2(x: ArrayLike, /) -> Tensor:
    """log x / log 2."""
    return log(x) / math.log(2)


def log10(x: ArrayLike, /) -> Tensor:
    """log x / log 10."""
    return log(x) / math.log(10)


@gate(np.sqrt, lambda xp, out, x: 0.5 / out, kind=Floating, analytic=True)
def sqrt(x: ArrayLike, /) -> Tensor:
    """√x; derivative 1/(2√x). NaN below 0."""


@gate(np.sin, lambda xp, out, x: xp.cos(x), kind=Floating, analytic=True)
def sin(x: ArrayLike, /) -> Tensor:
    """sin x, x in radians; derivative cos x."""


@gate(np.cos, lambda xp, out, x: -xp.sin(x), kind=Floating, analytic=True)
def cos(x: ArrayLike, /) -> Tensor:
    """cos x, x in radians; derivative -sin x."""


@gate(np.tan, lambda xp, out, x: out * out + 1, kind=Floating, analytic=True)
def tan(x: ArrayLike, /) -> Tensor:
    """tan x, x in radians; derivative 1 + tan² x."""


@gate(np.arcsin, lambda xp, out, x: 1 / xp.sqrt((1 - x) * (1 + x)), kind=Floating, name="arcsin")
def asin(x: ArrayLike, /) -> Tensor:
    """arcsin x in radians; derivative 1/√(1 - x²). NaN beyond ±1."""


@gate(np.arccos, lambda xp, out, x: -1 / xp.sqrt((1 - x) * (1 + x)), kind=Floating, name="arccos")
def acos(x: ArrayLike, /) -> Tensor:
    """arccos x in radians; derivative -1/√(1 - x²). NaN beyond ±1."""


@gate(np.arctan, lambda xp, out, x: 1 / (x * x + 1), kind=Floating, name="arctan")
def atan(x: ArrayLike, /) -> Tensor:
    """arctan x in radians; derivative 1/(1 + x²)."""


@gate(
    np.arctan2,
    lambda xp, out, y, x: x / (x * x + y * y),
    lambda xp, out, y, x: -y / (x * x + y * y),
    kind=Floating,
)
def atan2(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """The angle of the point (x2, x1) in radians; ∂/∂x1 = x2/(x1²+x2²), ∂/∂x2 = -x1/(x1²+x2²)."""


@gate(np.sinh, lambda xp, out, x: xp.cosh(x), kind=Floating, analytic=True)
def sinh(x: ArrayLike, /) -> Tensor:
    """sinh x; derivative cosh x."""


@gate(np.cosh, lambda xp, out, x: xp.sinh(x), kind=Floating, analytic=True)
def cosh(x: ArrayLike, /) -> Tensor:
    """cosh x; derivative sinh x."""


@gate(np.tanh, lambda xp, out, x: 1 - out * out, kind=Floating, analytic=True)
def tanh(x: ArrayLike, /) -> Tensor:
    """tanh x; derivative 1 - tanh² x."""


@gate(special.sigmoid, lambda xp, out, x: out * (1 - out), kind=Floating)
def sigmoid(x: ArrayLike, /) -> Tensor:
    """σ(x) = 1/(1 + e^-x), without overflow; derivative σ(x)·(1 - σ(x)).

    >>> import chainrule as cr
    >>> round(float(cr.sigmoid(1.0)), 2)
    0.73
    """


@gate(special.erf, lambda xp, out, x: xp.exp(-x * x) * (2 / math.sqrt(math.pi)), kind=Floating)
def erf(x: ArrayLike, /) -> Tensor:
    """2/√π ∫₀ˣ e^(-t²) dt; derivative 2/√π·e^(-x²)."""


@gate(
    special.erfinv, lambda xp, out, x: xp.exp(out * out) * (math.sqrt(math.pi) / 2), kind=Floating
)
def erfinv(x: ArrayLike, /) -> Tensor:
    """The inverse of erf on (-1, 1), ±∞ at ±1; derivative √π/2·e^(erfinv(x)²)."""
