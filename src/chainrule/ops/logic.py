"""Comparisons, logic, bits, and where: gates whose operands or results are conditions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.local import ZERO, Local, Mask
from ..core.primitive import Elementwise, Params
from ..core.types import BOOLS, INTEGERS, bool_
from .dispatch import floats, gate, operand
from .tensor import ArrayLike, Tensor
from .transcendental import atan2

__all__ = [
    "bitwise_and", "bitwise_invert", "bitwise_left_shift", "bitwise_or", "bitwise_right_shift",
    "bitwise_xor", "copysign", "equal", "greater", "greater_equal", "isfinite", "isinf", "isnan",
    "less", "less_equal", "logical_and", "logical_not", "logical_or", "logical_xor", "not_equal",
    "signbit", "where",
]  # fmt: skip


class Comparing(Elementwise):
    """A result in bool: nothing flows back."""

    result = bool_
    differentiable = False
    casts = False  # NumPy compares integers of all sizes exactly


class Logical(Elementwise):
    """In bool; numbers count as true where they are not 0."""

    takes = BOOLS
    differentiable = False

    def computes(self, dtype: Any) -> Any:
        return bool_


class Bitwise(Elementwise):
    """On the bits of integers; bools are one bit."""

    takes = BOOLS + INTEGERS
    differentiable = False


class Choice(Elementwise):
    """Selects by a condition, and never multiplies by a mask."""

    selectors = 1
    analytic = True

    def local(self, i: int, xp: Any, out: Any, inputs: Sequence[Any], params: Params) -> Local:
        return ZERO if i == 0 else Mask(inputs[0], passes=i == 1)


@gate(np.equal, kind=Comparing)
def equal(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 == x2, entry by entry, in bool; NaN equals nothing."""


@gate(np.not_equal, kind=Comparing)
def not_equal(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 != x2, entry by entry, in bool."""


@gate(np.less, kind=Comparing)
def less(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 < x2, entry by entry, in bool."""


@gate(np.less_equal, kind=Comparing)
def less_equal(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 <= x2, entry by entry, in bool."""


@gate(np.greater, kind=Comparing)
def greater(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 > x2, entry by entry, in bool."""


@gate(np.greater_equal, kind=Comparing)
def greater_equal(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 >= x2, entry by entry, in bool."""


@gate(np.logical_and, kind=Logical)
def logical_and(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 and x2, entry by entry."""


@gate(np.logical_or, kind=Logical)
def logical_or(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 or x2, entry by entry."""


@gate(np.logical_xor, kind=Logical)
def logical_xor(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """Either x1 or x2, entry by entry."""


@gate(np.logical_not, kind=Logical)
def logical_not(x: ArrayLike, /) -> Tensor:
    """not x, entry by entry."""


@gate(np.bitwise_and, kind=Bitwise)
def bitwise_and(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 & x2 on integers and bools."""


@gate(np.bitwise_or, kind=Bitwise)
def bitwise_or(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 | x2 on integers and bools."""


@gate(np.bitwise_xor, kind=Bitwise)
def bitwise_xor(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 ^ x2 on integers and bools."""


@gate(np.invert, kind=Bitwise)
def bitwise_invert(x: ArrayLike, /) -> Tensor:
    """~x on integers and bools."""


@gate(np.left_shift, kind=Bitwise, takes=INTEGERS)
def bitwise_left_shift(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 << x2 on integers."""


@gate(np.right_shift, kind=Bitwise, takes=INTEGERS)
def bitwise_right_shift(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 >> x2 on integers; the sign is kept."""


@gate(np.where, kind=Choice)
def where(condition: ArrayLike, x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1 where the condition holds, else x2. Gradients go to the branch that was taken.

    The other branch gets exactly 0, also where its own derivative is infinite or NaN.

    >>> import chainrule as cr
    >>> cr.where(cr.asarray([True, False]), 1.0, cr.asarray([5.0, 6.0]))
    asarray([1., 6.])
    """


def select_gradient(upstream: ArrayLike, mask: ArrayLike, /) -> Tensor:
    """upstream where the mask holds, else 0: how gates that route pass gradients on."""
    return where(mask, upstream, 0)


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
