"""Formulas on values of LLVM IR: Python's operators write the instructions.

`Term` wraps a `Value`, scalar or vector; numbers beside it become constants of its type. No
fast-math flag is ever set, so a sum or product is rounded once and in the order written; only
`fma` may round once or twice, as the machine can. What is here is straight-line code.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from .ir import Function, Value, const


@dataclass(frozen=True)
class Format:
    """A binary floating-point format of IEEE 754, as bit tricks need it."""

    scalar: str
    integer: str
    digits: int
    """Bits of the significand, with the one that is not stored."""
    bias: int

    @property
    def stored(self) -> int:
        """Bits of the significand as stored: below the exponent."""
        return self.digits - 1

    @property
    def sign(self) -> int:
        """The sign bit."""
        return 1 << (63 if self.scalar == "double" else 31)

    def bits(self, x: float) -> int:
        """A number as it is stored."""
        letters = "<dQ" if self.scalar == "double" else "<fI"
        return int(struct.unpack(letters[0] + letters[2], struct.pack(letters[:2], x))[0])


SINGLE = Format("float", "i32", 24, 127)
DOUBLE = Format("double", "i64", 53, 1023)


class Term:
    """A value in a formula. Floats and integers alike; comparisons give i1 in each lane."""

    __slots__ = ("f", "value")

    def __init__(self, f: Function, value: Value) -> None:
        self.f, self.value = f, value

    @property
    def format(self) -> Format:
        """The format of a float; of its bits for an integer."""
        return SINGLE if self.value.scalar in ("float", "i32") else DOUBLE

    def like(self, x: Number) -> Term:
        """A number as a constant of this type; a Term stays what it is."""
        return x if isinstance(x, Term) else Term(self.f, const(x, self.value.type))

    def _op(self, opcode: str, x: Number, y: Number) -> Term:
        if self.value.scalar in ("float", "double") and opcode in ("add", "sub", "mul"):
            opcode = "f" + opcode
        return Term(self.f, self.f.op(opcode, self.like(x).value, self.like(y).value))

    def __add__(self, other: Number) -> Term:
        return self._op("add", self, other)

    def __radd__(self, other: Number) -> Term:
        return self._op("add", other, self)

    def __sub__(self, other: Number) -> Term:
        return self._op("sub", self, other)

    def __rsub__(self, other: Number) -> Term:
        return self._op("sub", other, self)

    def __mul__(self, other: Number) -> Term:
        return self._op("mul", self, other)

    def __rmul__(self, other: Number) -> Term:
        return self._op("mul", other, self)

    def __truediv__(self, other: Number) -> Term:
        return self._op("fdiv", self, other)

    def __rtruediv__(self, other: Number) -> Term:
        return self._op("fdiv", other, self)

    def __and__(self, other: Number) -> Term:
        return self._op("and", self, other)

    def __or__(self, other: Number) -> Term:
        return self._op("or", self, other)

    def __xor__(self, other: Number) -> Term:
        return self._op("xor", self, other)

    def __lshift__(self, other: Number) -> Term:
        return self._op("shl", self, other)

    def __rshift__(self, other: Number) -> Term:
        """Zeros come in from above."""
        return self._op("lshr", self, other)

    def __neg__(self) -> Term:
        return Term(self.f, self.f.fneg(self.value))

    def compare(self, predicate: str, other: Number) -> Term:
        """icmp or fcmp by LLVM's name: "oeq", "une", "ne" …"""
        return Term(self.f, self.f.cmp(predicate, self.value, self.like(other).value))

    def __lt__(self, other: Number) -> Term:
        return self.compare("olt", other)

    def __le__(self, other: Number) -> Term:
        return self.compare("ole", other)

    def __gt__(self, other: Number) -> Term:
        return self.compare("ogt", other)

    def __ge__(self, other: Number) -> Term:
        return self.compare("oge", other)

    def equals(self, other: Number) -> Term:
        """Where two floats are equal; NaN equals nothing."""
        return self.compare("oeq", other)

    def cast(self, opcode: str, scalar: str) -> Term:
        return Term(self.f, self.f.cast(opcode, self.value, scalar))

    def bits(self) -> Term:
        """A float as an integer of its width."""
        return self.cast("bitcast", self.format.integer)

    def number(self) -> Term:
        """An integer as the float that is stored so."""
        return self.cast("bitcast", self.format.scalar)

    def sign(self) -> Term:
        """The sign bit alone, as an integer."""
        return self.bits() & self.format.sign

    def flip(self, sign: Term) -> Term:
        """The number with its sign changed where the sign bit is set."""
        return (self.bits() ^ sign).number()

    def head(self) -> Term:
        """The leading half of the significand: products of two heads are exact."""
        return (self.bits() & -(1 << ((self.format.digits + 1) // 2))).number()


Number = Term | float


def where(condition: Term, x: Number, y: Number) -> Term:
    """x where the condition holds, else y; one of them is a Term."""
    like = x if isinstance(x, Term) else y
    assert isinstance(like, Term)
    a, b = like.like(x).value, like.like(y).value
    return Term(condition.f, condition.f.select(condition.value, a, b))


def fma(x: Term, y: Number, z: Number) -> Term:
    """x·y + z, in one rounding where the machine can."""
    return Term(x.f, x.f.fma(x.value, x.like(y).value, x.like(z).value))


def absolute(x: Term) -> Term:
    """|x|."""
    return Term(x.f, x.f.intrinsic("llvm.fabs", x.value))


def sqrt(x: Term) -> Term:
    """√x, correctly rounded; NaN below 0, -0 stays."""
    return Term(x.f, x.f.intrinsic("llvm.sqrt", x.value))


def polynomial(x: Term, coefficients: Sequence[float]) -> Term:
    """c[0] x^n + … + c[n] by Horner's rule."""
    total = x.like(coefficients[0])
    for c in coefficients[1:]:
        total = fma(total, x, c)
    return total


def two_sum(x: Term, y: Term) -> tuple[Term, Term]:
    """x + y rounded, and the error of it, exactly (Knuth, TAOCP vol. 2, 4.2.2)."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


def shifted(x: Term, factor: float) -> tuple[Term, Term]:
    """n = x·factor rounded to a whole number, and an integer whose lowest bits are those of n.

    For |n| < 2^(digits - 3). Adding 1.5·2^(digits - 1) leaves no room for a fraction.
    """
    magic = 1.5 * 2.0**x.format.stored
    moved = fma(x, factor, magic)
    return moved - magic, moved.bits()


def power_of_two(n: Term, start: float = 1.0) -> Term:
    """start·2^n for an integer n of which only the lowest bits count; it must be normal."""
    return ((n << n.format.stored) + n.format.bits(start)).number()


def any_lane(condition: Term) -> Value:
    """Whether a condition holds in some lane, as one i1."""
    value = condition.value
    if value.lanes == 1:
        return value
    return condition.f.call(f"llvm.vector.reduce.or.v{value.lanes}i1", [value], "i1")
