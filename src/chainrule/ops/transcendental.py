"""Exponential, logarithmic, trigonometric and error functions: gates that work entry by entry."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core.primitive import Floating
from ..core.special import erf as _erf
from ..core.special import erfinv as _erfinv
from ..core.special import sigmoid as _sigmoid
from .dispatch import elementwise
from .tensor import ArrayLike, Tensor

__all__ = [
    "acos",
    "asin",
    "atan",
    "atan2",
    "cos",
    "cosh",
    "erf",
    "erfinv",
    "exp",
    "expm1",
    "log",
    "log1p",
    "log2",
    "log10",
    "sigmoid",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
]  # fmt: skip


class Exp(Floating):
    name = "exp"
    analytic = True
    forward = np.exp

    def partial(self, xp: Any, i: int, out: Any, *inputs: Any) -> Any:
        return out


def exp(x: ArrayLike, /) -> Tensor:
    """e^x; derivative e^x."""
    return elementwise(_exp, x)


class Expm1(Floating):
    name = "expm1"
    analytic = True
    forward = np.expm1

    def partial(self, xp: Any, i: int, out: Any, *inputs: Any) -> Any:
        return out + 1


def expm1(x: ArrayLike, /) -> Tensor:
    """e^x - 1, accurate near 0; derivative e^x."""
    return elementwise(_expm1, x)


class Log(Floating):
    name = "log"
    analytic = True
    forward = np.log

    def partial(self, xp: Any, i: int, out: Any, *inputs: Any) -> Any:
        return 1 / inputs[0]


def log(x: ArrayLike, /) -> Tensor:
    """The natural logarithm; derivative 1/x. log 0 = -∞, NaN below 0."""
    return elementwise(_log, x)


class Log1p(Floating):
    name = "log1p"
    analytic = True
    forward = np.log1p

    def partial(self, xp: Any, i: int, out: Any, *inputs: Any) -> Any:
        return 1 / (inputs[0] + 1)


def log1p(x: ArrayLike, /) -> Tensor:
    """log(1 + x), accurate near 0; derivative 1/(1 + x)."""
    return elementwise(_log1p, x)


def log2(x: ArrayLike, /) -> Tensor:
    """log x / log 2."""
    return log(x) / math.log(2)


def log10(x: ArrayLike, /) -> Tensor:
    """log x / log 10."""
    return log(x) / math.log(10)


class Sqrt(Floating):
    name = "sqrt"
    analytic = True
    forward = np.sqrt

    def partial(self, xp: Any, i: int, out: Any, *inputs: Any) -> Any:
        return 0.5 / out


def sqrt(x: ArrayLike, /) -> Tensor:
    """√x; derivative 1/(2√x). NaN below 0."""
    return elementwise(_sqrt, x)


class Sin(Floating):
    name = "sin"
    analytic = True
    forward = np.sin

    def partial(self, xp: Any, i: int, out: Any, *inputs: Any) -> Any:
        return xp.cos(inputs[0])


class Cos(Floating):
    name = "cos"
    analytic = True
    forward = np.cos

    def partial(self, xp: Any, i: int, out: Any, *inputs: Any) -> Any:
        return -xp.sin(inputs[0])


class Tan(Floating):
    name = "tan"
    analytic = True
    forward = np.tan

    def partial(self, xp: Any, i: int, out: Any, *inputs: Any) -> Any:
        return out * out + 1


def sin(x: ArrayLike, /) -> Tensor:
    """sin x, x in radians; derivative cos x."""
    return elementwise(_sin, x)


def cos(x: ArrayLike, /) -> Tensor:
    """cos x, x in radians; derivative -sin x."""
    return elementwise(_cos, x)


def tan(x: ArrayLike, /) -> Tensor:
    """tan x, x in radians; derivative 1 + tan² x."""
    return elementwise(_tan, x)


class Arcsin(Floating):
    name = "arcsin"
    forward = np.arcsin

    def partial(self, xp: Any, i: int, out: Any, *inputs: Any) -> Any:
        return 1 / xp.sqrt((1 - inputs[0]) * (1 + inputs[0]))


class Arccos(Floating):
    name = "arccos"
    forward = np.arccos

    def partial(self, xp: Any, i: int, out: Any, *inputs: Any) -> Any:
        return -1 / xp.sqrt((1 - inputs[0]) * (1 + inputs[0]))


class Arctan(Floating):
    name = "arctan"
    forward = np.arctan

    def partial(self, xp: Any, i: int, out: Any, *inputs: Any) -> Any:
        return 1 / (inputs[0] * inputs[0] + 1)


class Atan2(Floating):
    name = "atan2"
    forward = np.arctan2

    def partial(self, xp: Any, i: int, out: Any, *inputs: Any) -> Any:
        y, x = inputs
        squares = x * x + y * y
        return -y / squares if i else x / squares


def asin(x: ArrayLike, /) -> Tensor:
    """arcsin x in radians; derivative 1/√(1 - x²). NaN beyond ±1."""
    return elementwise(_asin, x)


def acos(x: ArrayLike, /) -> Tensor:
    """arccos x in radians; derivative -1/√(1 - x²). NaN beyond ±1."""
    return elementwise(_acos, x)


def atan(x: ArrayLike, /) -> Tensor:
    """arctan x in radians; derivative 1/(1 + x²)."""
    return elementwise(_atan, x)


def atan2(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """The angle of the point (x2, x1) in radians; ∂/∂x1 = x2/(x1²+x2²), ∂/∂x2 = -x1/(x1²+x2²)."""
    return elementwise(_atan2, x1, x2)


class Sinh(Floating):
    name = "sinh"
    analytic = True
    forward = np.sinh

    def partial(self, xp: Any, i: int, out: Any, *inputs: Any) -> Any:
        return xp.cosh(inputs[0])


class Cosh(Floating):
    name = "cosh"
    analytic = True
    forward = np.cosh

    def partial(self, xp: Any, i: int, out: Any, *inputs: Any) -> Any:
        return xp.sinh(inputs[0])


class Tanh(Floating):
    name = "tanh"
    analytic = True
    forward = np.tanh

    def partial(self, xp: Any, i: int, out: Any, *inputs: Any) -> Any:
        return 1 - out * out


def sinh(x: ArrayLike, /) -> Tensor:
    """sinh x; derivative cosh x."""
    return elementwise(_sinh, x)


def cosh(x: ArrayLike, /) -> Tensor:
    """cosh x; derivative sinh x."""
    return elementwise(_cosh, x)


def tanh(x: ArrayLike, /) -> Tensor:
    """tanh x; derivative 1 - tanh² x."""
    return elementwise(_tanh, x)


class Sigmoid(Floating):
    name = "sigmoid"
    forward = staticmethod(_sigmoid)

    def partial(self, xp: Any, i: int, out: Any, *inputs: Any) -> Any:
        return out * (1 - out)


def sigmoid(x: ArrayLike, /) -> Tensor:
    """σ(x) = 1/(1 + e^-x), without overflow; derivative σ(x)·(1 - σ(x)).

    >>> import chainrule as cr
    >>> round(float(cr.sigmoid(1.0)), 2)
    0.73
    """
    return elementwise(_sigmoid_gate, x)


class Erf(Floating):
    name = "erf"
    forward = staticmethod(_erf)

    def partial(self, xp: Any, i: int, out: Any, *inputs: Any) -> Any:
        return xp.exp(-inputs[0] * inputs[0]) * (2 / math.sqrt(math.pi))


class Erfinv(Floating):
    name = "erfinv"
    forward = staticmethod(_erfinv)

    def partial(self, xp: Any, i: int, out: Any, *inputs: Any) -> Any:
        return xp.exp(out * out) * (math.sqrt(math.pi) / 2)


def erf(x: ArrayLike, /) -> Tensor:
    """2/√π ∫₀ˣ e^(-t²) dt; derivative 2/√π·e^(-x²)."""
    return elementwise(_erf_gate, x)


def erfinv(x: ArrayLike, /) -> Tensor:
    """The inverse of erf on (-1, 1), ±∞ at ±1; derivative √π/2·e^(erfinv(x)²)."""
    return elementwise(_erfinv_gate, x)


_exp, _expm1, _log, _log1p, _sqrt = Exp(), Expm1(), Log(), Log1p(), Sqrt()
_sin, _cos, _tan, _asin, _acos, _atan = Sin(), Cos(), Tan(), Arcsin(), Arccos(), Arctan()
_atan2, _sinh, _cosh, _tanh = Atan2(), Sinh(), Cosh(), Tanh()
_sigmoid_gate, _erf_gate, _erfinv_gate = Sigmoid(), Erf(), Erfinv()
