"""Arithmetic, powers, rounding, extremes of pairs: gates that work entry by entry.

Each is a statement of its forward rule in NumPy and of the derivative by each operand. Operands
broadcast and promote as in NumPy; the result is a Tensor of the common shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import bare
from ..core.local import IDENTITY, NEGATE, ZERO, Local, Mask
from ..core.primitive import Floating, Numeric, Params
from ..core.types import FLOATS, float64
from .dispatch import gate, itself, operand, to_tensor
from .tensor import ArrayLike, Tensor

__all__ = [
    "abs", "add", "ceil", "conj", "divide", "floor", "floor_divide", "imag", "maximum", "minimum",
    "multiply", "negative", "positive", "pow", "real", "reciprocal", "relu", "remainder", "round",
    "scale_gradient", "sign", "square", "subtract", "trunc",
]  # fmt: skip


@gate(np.add, IDENTITY, IDENTITY, analytic=True)
def add(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 + x2. The gate distributes: ∂/∂x1 = ∂/∂x2 = 1.

    >>> import chainrule as cr
    >>> cr.add(cr.asarray([1, 2]), 10)
    asarray([11, 12], dtype=int64)
    """


@gate(np.subtract, IDENTITY, NEGATE, kind=Numeric, name="sub", analytic=True)
def subtract(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 - x2; ∂/∂x1 = 1, ∂/∂x2 = -1."""


@gate(
    np.multiply, lambda xp, out, x, y: y, lambda xp, out, x, y: x, name="mul", analytic=True
)  # fmt: skip
def multiply(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 · x2. The gate switches: ∂/∂x1 = x2, ∂/∂x2 = x1."""


class Dividing(Floating):
    """Integers of every size are divided in float64."""

    def computes(self, dtype: Any) -> Any:
        return dtype if dtype.char in FLOATS else float64


@gate(
    np.divide, lambda xp, out, x, y: 1 / y, lambda xp, out, x, y: -out / y,
    kind=Dividing, name="div", analytic=True,
)  # fmt: skip
def divide(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 / x2; ∂/∂x1 = 1/x2, ∂/∂x2 = -x1/x2². Integers give float64."""


@gate(np.negative, NEGATE, kind=Numeric, name="neg", analytic=True)
def negative(x: ArrayLike, /) -> Tensor:
    """-x."""


def positive(x: ArrayLike, /) -> Tensor:
    """+x: the same value."""
    return itself(to_tensor(x))


@gate(
    np.power,
    lambda xp, out, x, y: xp.scale_gradient(y, x ** (y - 1)),
    # 0^y has derivative 0 by y for y > 0, though log 0 = -∞
    lambda xp, out, x, y: xp.scale_gradient(out, xp.log(x)),
    kind=Numeric, name="pow", analytic=True,
)  # fmt: skip
def _power(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 ** x2 for any x2."""


def pow(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 ** x2; ∂/∂x1 = x2·x1^(x2-1), ∂/∂x2 = x1^x2·log x1. A square is a product."""
    kinds = FLOATS if x2.__class__ is float else Numeric.takes if x2.__class__ is int else ""
    if kinds and x2 == 2 and hasattr(x1, "dtype") and x1.dtype.char in kinds:
        return multiply(x1, x1)
    return _power(x1, x2)


def square(x: ArrayLike, /) -> Tensor:
    """x·x."""
    x = operand(x)
    return multiply(x, x)


def real(x: ArrayLike, /) -> Tensor:
    """The real part of x: x itself, as there are no complex numbers."""
    return positive(x)


def conj(x: ArrayLike, /) -> Tensor:
    """The complex conjugate of x: x itself."""
    return positive(x)


def imag(x: ArrayLike, /) -> Tensor:
    """The imaginary part of x: 0 everywhere."""
    x = to_tensor(x)
    if x.dtype.char not in FLOATS:
        return multiply(x, np.zeros((), x.dtype))
    return scale_gradient(x, np.zeros((), x.dtype))  # 0 also where x is infinite or NaN


def reciprocal(x: ArrayLike, /) -> Tensor:
    """1/x."""
    return divide(1.0, x)


@gate(np.floor_divide, ZERO, ZERO, kind=Numeric)
def floor_divide(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """⌊x1 / x2⌋, with derivative 0."""


@gate(
    np.remainder, lambda xp, out, x, y: xp.ones_like(out),
    lambda xp, out, x, y: -xp.floor_divide(x, y), kind=Numeric,
)  # fmt: skip
def remainder(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 - ⌊x1/x2⌋·x2, with the sign of x2; ∂/∂x1 = 1, ∂/∂x2 = -⌊x1/x2⌋."""


def _strong_product(upstream: Any, partial: Any) -> Any:
    with np.errstate(all="ignore"):  # 0·∞ is what it is for
        return bare.scale_gradient(upstream, partial)


@gate(_strong_product, lambda xp, out, u, p: p, lambda xp, out, u, p: u, takes=FLOATS)
def scale_gradient(upstream: ArrayLike, partial: ArrayLike, /) -> Tensor:
    """upstream · partial with a strong zero: 0·∞ = 0·NaN = 0, whichever factor is the 0.

    The product in which gradients of elementwise gates are formed.

    >>> import chainrule as cr
    >>> float(cr.scale_gradient(0.0, cr.inf))
    0.0
    """


@gate(np.abs, lambda xp, out, x: xp.sign(x), kind=Numeric)
def abs(x: ArrayLike, /) -> Tensor:
    """|x|; derivative sign(x), 0 at 0."""


@gate(np.sign, ZERO, kind=Numeric)
def sign(x: ArrayLike, /) -> Tensor:
    """-1, 0 or 1 (NaN stays NaN), with derivative 0."""


@gate(np.floor, ZERO)
def floor(x: ArrayLike, /) -> Tensor:
    """The largest whole number not above x, with derivative 0."""


@gate(np.ceil, ZERO)
def ceil(x: ArrayLike, /) -> Tensor:
    """The smallest whole number not below x, with derivative 0."""


@gate(np.trunc, ZERO)
def trunc(x: ArrayLike, /) -> Tensor:
    """The whole number next to x towards 0, with derivative 0."""


@gate(lambda x: np.rint(x) if x.dtype.char in FLOATS else x, ZERO)
def round(x: ArrayLike, /) -> Tensor:
    """The nearest whole number, halves to even, with derivative 0."""


def _chosen(xp: Any, out: Any, x: Any, other: Any) -> Any:
    """1 where x is the result (or NaN), half of it where the other is so, too."""
    mine, others = (xp.logical_or(xp.equal(v, out), xp.isnan(v)) for v in (x, other))
    return xp.where(mine, xp.where(others, 0.5, 1.0), 0.0).astype(out.dtype)


@gate(np.maximum, _chosen, lambda xp, out, x, y: _chosen(xp, out, y, x))
def maximum(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """The larger of each pair; NaN if one is. The larger gets the gradient, half each at ties."""


@gate(np.minimum, _chosen, lambda xp, out, x, y: _chosen(xp, out, y, x))
def minimum(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """The smaller of each pair; NaN if one is. The gradient goes to the smaller, half at ties."""


class Rectifying(Numeric):
    """The gradient passes where the result is not 0 (NaN is not 0)."""

    def local(self, i: int, xp: Any, out: Any, inputs: Sequence[Any], params: Params) -> Local:
        return Mask(xp.not_equal(out, 0))


@gate(lambda x: np.maximum(x, 0), kind=Rectifying)
def relu(x: ArrayLike, /) -> Tensor:
    """max(0, x); derivative 1 for x > 0, else 0 (also at 0). NaN stays NaN.

    >>> import chainrule as cr
    >>> cr.relu(cr.asarray([-1.0, 2.0]))
    asarray([0., 2.])
    """
