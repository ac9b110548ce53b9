"""Comparisons, logic, bits, and where: gates whose operands or results are conditions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.local import ZERO, Local, Mask
from ..core.primitive import Comparing, Elementwise, Params
from ..core.types import BOOLS, INTEGERS, ArrayType, bool_
from .dispatch import elementwise, floats, operand
from .tensor import ArrayLike, Tensor
from .transcendental import atan2

__all__ = [
    "bitwise_and", "bitwise_invert", "bitwise_left_shift", "bitwise_or", "bitwise_right_shift",
    "bitwise_xor", "copysign", "equal", "greater", "greater_equal", "isfinite", "isinf", "isnan",
    "less", "less_equal", "logical_and", "logical_not", "logical_or", "logical_xor", "not_equal",
    "signbit", "where",
]  # fmt: skip


class Equal(Comparing):
    name = "equal"
    forward = np.equal


class NotEqual(Comparing):
    name = "not_equal"
    forward = np.not_equal


class Less(Comparing):
    name = "less"
    forward = np.less


class LessEqual(Comparing):
    name = "less_equal"
    forward = np.less_equal


class Greater(Comparing):
    name = "greater"
    forward = np.greater


class GreaterEqual(Comparing):
    name = "greater_equal"
    forward = np.greater_equal


def equal(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 == x2, entry by entry, in bool; NaN equals nothing."""
    return elementwise(_equal, x1, x2)


def not_equal(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 != x2, entry by entry, in bool."""
    return elementwise(_not_equal, x1, x2)


def less(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 < x2, entry by entry, in bool."""
    return elementwise(_less, x1, x2)


def less_equal(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 <= x2, entry by entry, in bool."""
    return elementwise(_less_equal, x1, x2)


def greater(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 > x2, entry by entry, in bool."""
    return elementwise(_greater, x1, x2)


def greater_equal(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 >= x2, entry by entry, in bool."""
    return elementwise(_greater_equal, x1, x2)


class Logical(Elementwise):
    """In bool; numbers count as true where they are not 0."""

    takes = BOOLS
    differentiable = False

    def computes(self, dtype: Any) -> Any:
        return bool_


class LogicalAnd(Logical):
    name = "logical_and"
    forward = np.logical_and


class LogicalOr(Logical):
    name = "logical_or"
    forward = np.logical_or


class LogicalXor(Logical):
    name = "logical_xor"
    forward = np.logical_xor


class LogicalNot(Logical):
    name = "logical_not"
    forward = np.logical_not


def logical_and(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 and x2, entry by entry."""
    return elementwise(_logical_and, x1, x2)


def logical_or(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 or x2, entry by entry."""
    return elementwise(_logical_or, x1, x2)


def logical_xor(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """Either x1 or x2, entry by entry."""
    return elementwise(_logical_xor, x1, x2)


def logical_not(x: ArrayLike, /) -> Tensor:
    """not x, entry by entry."""
    return elementwise(_logical_not, x)


class Bitwise(Elementwise):
    takes = BOOLS + INTEGERS
    differentiable = False


class BitwiseAnd(Bitwise):
    name = "bitwise_and"
    forward = np.bitwise_and


class BitwiseOr(Bitwise):
    name = "bitwise_or"
    forward = np.bitwise_or


class BitwiseXor(Bitwise):
    name = "bitwise_xor"
    forward = np.bitwise_xor


class BitwiseInvert(Bitwise):
    name = "bitwise_invert"
    forward = np.invert


class LeftShift(Bitwise):
    name = "bitwise_left_shift"
    forward = np.left_shift
    takes = INTEGERS


class RightShift(Bitwise):
    name = "bitwise_right_shift"
    forward = np.right_shift
    takes = INTEGERS


def bitwise_and(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 & x2 on integers and bools."""
    return elementwise(_bitwise_and, x1, x2)


def bitwise_or(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 | x2 on integers and bools."""
    return elementwise(_bitwise_or, x1, x2)


def bitwise_xor(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 ^ x2 on integers and bools."""
    return elementwise(_bitwise_xor, x1, x2)


def bitwise_invert(x: ArrayLike, /) -> Tensor:
    """~x on integers and bools."""
    return elementwise(_bitwise_invert, x)


def bitwise_left_shift(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 << x2 on integers."""
    return elementwise(_left_shift, x1, x2)


def bitwise_right_shift(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 >> x2 on integers; the sign is kept."""
    return elementwise(_right_shift, x1, x2)


class Where(Elementwise):
    """out = x1 where the condition holds, else x2: selects, and never multiplies by a mask."""

    name = "where"
    analytic = True
    forward = staticmethod(np.where)
    selectors = 1

    def type(self, *types: ArrayType, **params: Any) -> ArrayType:
        return types[1]

    def local(self, i: int, xp: Any, out: Any, inputs: Sequence[Any], params: Params) -> Local:
        return ZERO if i == 0 else Mask(inputs[0], passes=i == 1)


def where(condition: ArrayLike, x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 where the condition holds, else x2. Gradients go to the branch that was taken.

    The other branch gets exactly 0, also where its own derivative is infinite or NaN.

    >>> import chainrule as cr
    >>> cr.where(cr.asarray([True, False]), 1.0, cr.asarray([5.0, 6.0]))
    asarray([1., 6.])
    """
    return elementwise(_where, condition, x1, x2)


def select_gradient(upstream: ArrayLike, mask: ArrayLike, /) -> Tensor:
    """upstream where the mask holds, else 0: how gates that route pass gradients on."""
    return elementwise(_where, mask, upstream, 0)


def isnan(x: ArrayLike, /) -> Tensor:
    """Where x is NaN."""
    x = operand(x)
    return not_equal(x, x)


def isinf(x: ArrayLike, /) -> Tensor:
    """Where x is ∞ or -∞."""
    x = operand(x)
    return logical_or(equal(x, np.inf), equal(x, -np.inf))


def isfinite(x: ArrayLike, /) -> Tensor:
    """Where x is neither NaN nor infinite."""
    x = operand(x)
    return logical_and(less(x, np.inf), greater(x, -np.inf))


def signbit(x: ArrayLike, /) -> Tensor:
    """Where x is negative or -0.0 (a NaN counts as positive)."""
    return less(atan2(x, -1.0), 0)  # the angle tells -0.0 from 0.0 without dividing by it


def copysign(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """|x1| with the sign of x2."""
    x1, x2 = floats(x1, x2)
    return where(equal(signbit(x1), signbit(x2)), x1, -x1)


_equal, _not_equal, _less, _less_equal = Equal(), NotEqual(), Less(), LessEqual()
_greater, _greater_equal = Greater(), GreaterEqual()
_logical_and, _logical_or, _logical_xor = LogicalAnd(), LogicalOr(), LogicalXor()
_logical_not, _where = LogicalNot(), Where()
_bitwise_and, _bitwise_or, _bitwise_xor = BitwiseAnd(), BitwiseOr(), BitwiseXor()
_bitwise_invert, _left_shift, _right_shift = BitwiseInvert(), LeftShift(), RightShift()
