"""Arithmetic, powers, rounding, extremes of pairs: gates that work entry by entry.

Each class states its forward rule and its partial derivatives; the function users call stands
below it. Operands broadcast and promote as in NumPy; the result is a Tensor of the common shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.bare import scale_gradient as _scale
from ..core.local import IDENTITY, NEGATE, Local, Mask
from ..core.primitive import Elementwise, Floating, Params, Stepping
from ..core.types import BOOLS, FLOATS, INTEGERS, float64
from .dispatch import elementwise, itself, operand
from .tensor import ArrayLike, Tensor

__all__ = [
    "abs", "add", "ceil", "conj", "divide", "floor", "floor_divide", "imag", "maximum", "minimum",
    "multiply", "negative", "positive", "pow", "real", "reciprocal", "relu", "remainder", "round",
    "scale_gradient", "sign", "square", "subtract", "trunc",
]  # fmt: skip

NUMBERS = INTEGERS + FLOATS


class Add(Elementwise):
    name = "add"
    analytic = True
    forward = np.add

    def local(self, i: int, xp: Any, out: Any, inputs: Sequence[Any], params: Params) -> Local:
        return IDENTITY


def add(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 + x2. The gate distributes: ∂/∂x1 = ∂/∂x2 = 1.

    >>> import chainrule as cr
    >>> cr.add(cr.asarray([1, 2]), 10)
    asarray([11, 12], dtype=int64)
    """
    return elementwise(_add, x1, x2)


class Subtract(Elementwise):
    name = "sub"
    analytic = True
    forward = np.subtract
    takes = NUMBERS

    def local(self, i: int, xp: Any, out: Any, inputs: Sequence[Any], params: Params) -> Local:
        return NEGATE if i else IDENTITY


def subtract(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 - x2; ∂/∂x1 = 1, ∂/∂x2 = -1."""
    return elementwise(_subtract, x1, x2)


class Multiply(Elementwise):
    name = "mul"
    analytic = True
    forward = np.multiply

    def partial(self, xp: Any, i: int, out: Any, *inputs: Any) -> Any:
        return inputs[1 - i]


def multiply(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 · x2. The gate switches: ∂/∂x1 = x2, ∂/∂x2 = x1."""
    return elementwise(_multiply, x1, x2)


class Divide(Floating):
    name = "div"
    analytic = True
    forward = np.divide

    def computes(self, dtype: Any) -> Any:
        return dtype if dtype.char in FLOATS else float64

    def partial(self, xp: Any, i: int, out: Any, *inputs: Any) -> Any:
        return -out / inputs[1] if i else 1 / inputs[1]


def divide(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 / x2; ∂/∂x1 = 1/x2, ∂/∂x2 = -x1/x2². Integers give float64."""
    return elementwise(_divide, x1, x2)


class Negative(Elementwise):
    name = "neg"
    analytic = True
    forward = np.negative
    takes = NUMBERS

    def local(self, i: int, xp: Any, out: Any, inputs: Sequence[Any], params: Params) -> Local:
        return NEGATE


def negative(x: ArrayLike, /) -> Tensor:
    """-x."""
    return elementwise(_negative, x)


def positive(x: ArrayLike, /) -> Tensor:
    """+x: the same value."""
    return itself(x) if isinstance(x, Tensor) else add(x, 0)


class Pow(Elementwise):
    name = "pow"
    analytic = True
    forward = np.power
    takes = NUMBERS

    def partial(self, xp: Any, i: int, out: Any, *inputs: Any) -> Any:
        x, y = inputs
        if i:  # 0^y has derivative 0 by y for y > 0, though log 0 = -∞
            return xp.scale_gradient(out, xp.log(x))
        return xp.scale_gradient(y, x ** (y - 1))


def pow(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 ** x2; ∂/∂x1 = x2·x1^(x2-1), ∂/∂x2 = x1^x2·log x1. A square is a product."""
    kinds = {int: NUMBERS, float: FLOATS}.get(x2.__class__, "")
    if kinds and x2 == 2 and hasattr(x1, "dtype") and x1.dtype.char in kinds:
        return elementwise(_multiply, x1, x1)
    return elementwise(_pow, x1, x2)


def square(x: ArrayLike, /) -> Tensor:
    """x·x."""
    x = operand(x)
    return elementwise(_multiply, x, x)


def real(x: ArrayLike, /) -> Tensor:
    """The real part of x: x itself, as there are no complex numbers."""
    return positive(x)


def conj(x: ArrayLike, /) -> Tensor:
    """The complex conjugate of x: x itself."""
    return positive(x)


def imag(x: ArrayLike, /) -> Tensor:
    """The imaginary part of x: 0 everywhere."""
    return elementwise(_multiply, x, 0)


def reciprocal(x: ArrayLike, /) -> Tensor:
    """1/x."""
    return elementwise(_divide, 1.0, x)


class FloorDivide(Stepping):
    name = "floor_divide"
    forward = np.floor_divide
    takes = NUMBERS


def floor_divide(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """⌊x1 / x2⌋, with derivative 0."""
    return elementwise(_floor_divide, x1, x2)


class Remainder(Elementwise):
    name = "remainder"
    forward = np.remainder
    takes = NUMBERS

    def partial(self, xp: Any, i: int, out: Any, *inputs: Any) -> Any:
        return -xp.floor_divide(*inputs) if i else xp.ones_like(out)


def remainder(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 - ⌊x1/x2⌋·x2, with the sign of x2; ∂/∂x1 = 1, ∂/∂x2 = -⌊x1/x2⌋."""
    return elementwise(_remainder, x1, x2)


class ScaleGradient(Elementwise):
    name = "scale_gradient"
    takes = FLOATS

    def forward(self, upstream: Any, partial: Any) -> Any:
        with np.errstate(all="ignore"):  # 0·∞ is what it is for
            return _scale(upstream, partial)

    def partial(self, xp: Any, i: int, out: Any, *inputs: Any) -> Any:
        return inputs[1 - i]


def scale_gradient(upstream: ArrayLike, partial: ArrayLike, /) -> Tensor:
    """upstream · partial with a strong zero: 0·∞ = 0·NaN = 0, whichever factor is the 0.

    The product in which gradients of elementwise gates are formed.

    >>> import chainrule as cr
    >>> float(cr.scale_gradient(0.0, cr.inf))
    0.0
    """
    return elementwise(_scale_gradient, upstream, partial)


class Abs(Elementwise):
    name = "abs"
    forward = np.abs
    takes = NUMBERS

    def partial(self, xp: Any, i: int, out: Any, *inputs: Any) -> Any:
        return xp.sign(inputs[0])


def abs(x: ArrayLike, /) -> Tensor:
    """|x|; derivative sign(x), 0 at 0."""
    return elementwise(_abs, x)


class Sign(Stepping):
    name = "sign"
    forward = np.sign
    takes = NUMBERS


def sign(x: ArrayLike, /) -> Tensor:
    """-1, 0 or 1 (NaN stays NaN), with derivative 0."""
    return elementwise(_sign, x)


class Floor(Stepping):
    name = "floor"
    forward = np.floor
    takes = NUMBERS


class Ceil(Stepping):
    name = "ceil"
    forward = np.ceil
    takes = NUMBERS


class Round(Stepping):
    name = "round"
    forward = np.rint
    takes = NUMBERS


def floor(x: ArrayLike, /) -> Tensor:
    """The largest whole number not above x, with derivative 0."""
    return _whole(_floor, x)


def ceil(x: ArrayLike, /) -> Tensor:
    """The smallest whole number not below x, with derivative 0."""
    return _whole(_ceil, x)


def round(x: ArrayLike, /) -> Tensor:
    """The nearest whole number, halves to even, with derivative 0."""
    return _whole(_round, x)


def trunc(x: ArrayLike, /) -> Tensor:
    """The whole number next to x towards 0, with derivative 0."""
    from .logic import where

    x = operand(x)
    return where(x < 0, ceil(x), floor(x))


def _whole(primitive: Elementwise, x: ArrayLike) -> Tensor:
    """Whole numbers stay as they are."""
    from .creation import asarray

    x = asarray(x)
    return x if x.dtype.char in BOOLS + INTEGERS else elementwise(primitive, x)


class Extremum(Elementwise):
    """Routes the gradient to the larger (or smaller) operand; ties share it, NaN takes it."""

    def partial(self, xp: Any, i: int, out: Any, *inputs: Any) -> Any:
        chosen = [xp.logical_or(xp.equal(x, out), xp.isnan(x)) for x in inputs]
        return xp.where(chosen[i], xp.where(chosen[1 - i], 0.5, 1.0), 0.0).astype(out.dtype)


class Maximum(Extremum):
    name = "maximum"
    forward = np.maximum


class Minimum(Extremum):
    name = "minimum"
    forward = np.minimum


def maximum(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """The larger of each pair; NaN if one is. The larger gets the gradient, half each at ties."""
    return elementwise(_maximum, x1, x2)


def minimum(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """The smaller of each pair; NaN if one is. The gradient goes to the smaller, half at ties."""
    return elementwise(_minimum, x1, x2)


def _rectify(x: Any) -> Any:
    return np.maximum(x, 0)


class Relu(Elementwise):
    name = "relu"
    forward = staticmethod(_rectify)
    takes = NUMBERS

    def local(self, i: int, xp: Any, out: Any, inputs: Sequence[Any], params: Params) -> Local:
        return Mask(xp.not_equal(out, 0))  # true for NaN, too


def relu(x: ArrayLike, /) -> Tensor:
    """max(0, x); derivative 1 for x > 0, else 0 (also at 0). NaN stays NaN.

    >>> import chainrule as cr
    >>> cr.relu(cr.asarray([-1.0, 2.0]))
    asarray([0., 2.])
    """
    return elementwise(_relu, x)


_add, _subtract, _multiply, _divide, _negative = Add(), Subtract(), Multiply(), Divide(), Negative()
_pow, _floor_divide, _remainder = Pow(), FloorDivide(), Remainder()
_scale_gradient, _abs, _sign, _relu = ScaleGradient(), Abs(), Sign(), Relu()
_floor, _ceil, _round, _maximum, _minimum = Floor(), Ceil(), Round(), Maximum(), Minimum()
