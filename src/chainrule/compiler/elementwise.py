"""Elementwise gates as LLVM IR, with NumPy's values: each is one function of values in registers.

In registers a bool is an i1; in memory it is a byte. Gates whose dtype is not here run in Python.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.node import Node
from . import mathematics
from .ir import BITS, Function, Value, const, scalar_type, vector

Emit = Callable[..., Value]
FLOAT, INTEGER, BOOL = "f", "i", "b"


def register(dtype: np.dtype[Any], lanes: int) -> str:
    """The type of entries of this dtype in registers."""
    return vector("i1" if dtype.kind == "b" else scalar_type(dtype), lanes)


def constant(value: Any, dtype: np.dtype[Any], lanes: int) -> Value:
    return const(value, register(dtype, lanes))


def emits(node: Node) -> bool:
    """Whether there is code for this gate on operands of these dtypes."""
    dtypes = [x.dtype if not isinstance(x, Node) else x.type.dtype for x in node.inputs]
    name = node.name
    if name == "cast" or name in LOGICAL or name == "where":
        return True
    first = dtypes[0]
    if name in COMPARE:
        return _common(dtypes) is not None
    if any(d != first for d in dtypes):
        return False
    if first.kind == "f":
        return name in FLOATING or name in mathematics.FUNCTIONS
    return first.kind in "iu" and name in INTEGERS


def emit(f: Function, node: Node, x: list[Value]) -> Value:
    """The gate on values."""
    dtypes = [i.dtype if not isinstance(i, Node) else i.type.dtype for i in node.inputs]
    name, first = node.name, dtypes[0]
    if name == "cast":
        return convert(f, x[0], first, node.type.dtype)
    if name == "where":
        return f.select(*x)
    if name in LOGICAL and first.kind == "b":
        return LOGICAL[name](f, *x)
    if name in COMPARE:
        common = _common(dtypes)
        assert common is not None
        values = [convert(f, v, d, common) for v, d in zip(x, dtypes, strict=True)]
        kind = {"f": 0, "i": 1, "u": 2, "b": 2}[common.kind]
        return f.cmp(COMPARE[name][kind], *values)
    if first.kind == "f":
        if name in FLOATING:
            return FLOATING[name](f, *x)
        return mathematics.emit(name, f, *x)
    return INTEGERS[name](f, first.kind == "i", *x)


def _common(dtypes: list[np.dtype[Any]]) -> np.dtype[Any] | None:
    """The dtype in which different ones are compared; None if NumPy has a rule of its own."""
    found = np.result_type(*dtypes)
    whole = found.kind != "f" and all(d.kind in "iub" for d in dtypes)
    return found if whole or all(d == found for d in dtypes) else None


# -- conversions -------------------------------------------------------------------------------


def convert(f: Function, x: Value, source: np.dtype[Any], target: np.dtype[Any]) -> Value:
    """x.astype(target)."""
    if source == target:
        return x
    to = "i1" if target.kind == "b" else scalar_type(target)
    if target.kind == "b":
        zero = const(0, x.type)
        return f.cmp("une" if source.kind == "f" else "ne", x, zero)
    if source.kind == "f":
        if target.kind == "f":
            return f.cast("fpext" if target.itemsize > source.itemsize else "fptrunc", x, to)
        return _to_integer(f, x, target)
    if target.kind == "f" and source.kind == "b":
        kind = vector(to, x.lanes)
        return f.select(x, const(1.0, kind), const(0.0, kind))
    if target.kind == "f":
        return f.cast("sitofp" if source.kind == "i" else "uitofp", x, to)
    wide, narrow = BITS[to], BITS[x.scalar]
    if wide == narrow:
        return x
    if wide < narrow:
        return f.cast("trunc", x, to)
    return f.cast("sext" if source.kind == "i" else "zext", x, to)


def _to_integer(f: Function, x: Value, target: np.dtype[Any]) -> Value:
    """Towards zero. Out of the range of int64 the result is any number, as in C."""
    short = {"float": "f32", "double": "f64"}[x.scalar]
    lanes = "" if x.lanes == 1 else f"v{x.lanes}"
    to = vector("i64", x.lanes)

    def saturated(sign: str, y: Value) -> Value:
        return f.call(f"llvm.fpto{sign}i.sat.{lanes}i64.{lanes}{short}", [y], to)

    whole = saturated("s", x)
    if target == np.uint64:
        large = f.cmp("oge", x, const(2.0**63, x.type))
        whole = f.select(large, saturated("u", x), whole)
    return whole if target.itemsize == 8 else f.cast("trunc", whole, scalar_type(target))


# -- floats ------------------------------------------------------------------------------------


def _op(opcode: str) -> Emit:
    return lambda f, x, y: f.op(opcode, x, y)


def _intrinsic(name: str) -> Emit:
    return lambda f, *x: f.intrinsic(name, *x)


def _extreme(predicate: str) -> Emit:
    """The larger (ogt) or smaller (olt) of two, NaN if one is NaN."""

    def emit(f: Function, x: Value, y: Value) -> Value:
        best = f.select(f.cmp(predicate, x, y), x, y)  # y, if one is NaN or both are equal
        return f.select(f.cmp("uno", x, x), x, best)

    return emit


def _relu(f: Function, x: Value) -> Value:
    zero = const(0.0, x.type)
    return f.select(f.cmp("ole", x, zero), zero, x)  # NaN stays


def _sign(f: Function, x: Value) -> Value:
    zero = const(0.0, x.type)
    one = f.select(f.cmp("ogt", x, zero), const(1.0, x.type), zero)
    both = f.select(f.cmp("olt", x, zero), const(-1.0, x.type), one)
    return f.select(f.cmp("uno", x, x), x, both)


def _strong(f: Function, upstream: Value, partial: Value) -> Value:
    """upstream · partial, 0 where one of them is 0."""
    zero = const(0.0, upstream.type)
    product = f.op("fmul", upstream, partial)
    none = f.op("or", f.cmp("oeq", upstream, zero), f.cmp("oeq", partial, zero))
    return f.select(f.op("and", none, f.cmp("uno", product, product)), zero, product)


def _divmod(f: Function, x: Value, y: Value) -> tuple[Value, Value]:
    """⌊x/y⌋ and x - ⌊x/y⌋·y, in the steps that NumPy takes."""
    zero, one = const(0.0, x.type), const(1.0, x.type)
    rest = f.op("frem", x, y)
    quotient = f.op("fdiv", f.op("fsub", x, rest), y)
    some = f.cmp("une", rest, zero)
    apart = f.op("xor", f.cmp("olt", y, zero), f.cmp("olt", rest, zero))
    apart = f.op("and", apart, some)
    moved = f.select(apart, f.op("fadd", rest, y), rest)
    quotient = f.select(apart, f.op("fsub", quotient, one), quotient)
    remainder = f.select(some, moved, f.intrinsic("llvm.copysign", zero, y))
    floor = f.intrinsic("llvm.floor", quotient)
    up = f.cmp("ogt", f.op("fsub", quotient, floor), const(0.5, x.type))
    floor = f.select(up, f.op("fadd", floor, one), floor)
    plain = f.op("fdiv", x, y)
    floor = f.select(f.cmp("une", quotient, zero), floor, f.intrinsic("llvm.copysign", zero, plain))
    nothing = f.cmp("oeq", y, zero)
    return f.select(nothing, plain, floor), f.select(nothing, rest, remainder)


FLOATING: dict[str, Emit] = {
    "add": _op("fadd"), "sub": _op("fsub"), "mul": _op("fmul"), "div": _op("fdiv"),
    "neg": lambda f, x: f.fneg(x), "abs": _intrinsic("llvm.fabs"),
    "sqrt": _intrinsic("llvm.sqrt"), "floor": _intrinsic("llvm.floor"),
    "ceil": _intrinsic("llvm.ceil"), "trunc": _intrinsic("llvm.trunc"),
    "round": _intrinsic("llvm.roundeven"), "maximum": _extreme("ogt"), "minimum": _extreme("olt"),
    "relu": _relu, "sign": _sign, "scale_gradient": _strong,
    "identity": lambda f, x: x, "stop_gradient": lambda f, x: x,
    "floor_divide": lambda f, x, y: _divmod(f, x, y)[0],
    "remainder": lambda f, x, y: _divmod(f, x, y)[1],
}  # fmt: skip

# -- comparisons and logic: predicates for floats, signed, unsigned ----------------------------

COMPARE = {
    "equal": ("oeq", "eq", "eq"), "not_equal": ("une", "ne", "ne"), "less": ("olt", "slt", "ult"),
    "less_equal": ("ole", "sle", "ule"), "greater": ("ogt", "sgt", "ugt"),
    "greater_equal": ("oge", "sge", "uge"),
}  # fmt: skip
LOGICAL: dict[str, Emit] = {
    "logical_and": _op("and"), "logical_or": _op("or"), "logical_xor": _op("xor"),
    "logical_not": lambda f, x: f.op("xor", x, const(1, x.type)),
    "identity": lambda f, x: x, "stop_gradient": lambda f, x: x,
}  # fmt: skip
"""Gates on bools."""

# -- integers: functions of (f, signed, operands) ----------------------------------------------


def _integer(opcode: str) -> Emit:
    return lambda f, signed, x, y: f.op(opcode, x, y)


def _compared(predicate: str) -> Emit:
    def emit(f: Function, signed: bool, x: Value, y: Value) -> Value:
        return f.select(f.cmp(("s" if signed else "u") + predicate, x, y), x, y)

    return emit


def _divide(f: Function, signed: bool, x: Value, y: Value) -> tuple[Value, Value]:
    """⌊x/y⌋ and the rest; by 0 both are 0, and the least number by -1 is itself."""
    zero, one = const(0, x.type), const(1, x.type)
    none = f.cmp("eq", y, zero)
    if not signed:
        by = f.select(none, one, y)
        return (f.select(none, zero, f.op("udiv", x, by)),
                f.select(none, zero, f.op("urem", x, by)))  # fmt: skip
    minus = f.cmp("eq", y, const(-1, x.type))  # the quotient of the least number overflows
    by = f.select(f.op("or", none, minus), one, y)
    quotient, rest = f.op("sdiv", x, by), f.op("srem", x, by)
    apart = f.op("xor", f.cmp("slt", rest, zero), f.cmp("slt", y, zero))
    apart = f.op("and", apart, f.cmp("ne", rest, zero))
    quotient = f.select(apart, f.op("sub", quotient, one), quotient)
    rest = f.select(apart, f.op("add", rest, y), rest)
    quotient = f.select(minus, f.op("sub", zero, x), quotient)
    return f.select(none, zero, quotient), f.select(f.op("or", none, minus), zero, rest)


def _shift(opcode: str) -> Emit:
    """A shift by all the bits or more leaves 0, or the sign."""

    def emit(f: Function, signed: bool, x: Value, y: Value) -> Value:
        bits = BITS[x.scalar]
        far = f.cmp("uge", y, const(bits, y.type))
        by = f.select(far, const(bits - 1, y.type), y)
        if opcode == "shr" and signed:
            return f.op("ashr", x, by)
        moved = f.op("shl" if opcode == "shl" else "lshr", x, by)
        return f.select(far, const(0, x.type), moved)

    return emit


def _integer_sign(f: Function, signed: bool, x: Value) -> Value:
    zero = const(0, x.type)
    one = f.select(f.cmp("ne", x, zero), const(1, x.type), zero)
    return f.select(f.cmp("slt", x, zero), const(-1, x.type), one) if signed else one


def _absolute(f: Function, signed: bool, x: Value) -> Value:
    zero = const(0, x.type)
    return f.select(f.cmp("slt", x, zero), f.op("sub", zero, x), x) if signed else x


INTEGERS: dict[str, Emit] = {
    "add": _integer("add"), "sub": _integer("sub"), "mul": _integer("mul"),
    "neg": lambda f, signed, x: f.op("sub", const(0, x.type), x), "abs": _absolute,
    "sign": _integer_sign, "maximum": _compared("gt"), "minimum": _compared("lt"),
    "relu": lambda f, signed, x: _compared("gt")(f, signed, x, const(0, x.type)),
    "floor_divide": lambda f, signed, x, y: _divide(f, signed, x, y)[0],
    "remainder": lambda f, signed, x, y: _divide(f, signed, x, y)[1],
    "bitwise_and": _integer("and"), "bitwise_or": _integer("or"), "bitwise_xor": _integer("xor"),
    "bitwise_invert": lambda f, signed, x: f.op("xor", x, const(-1, x.type)),
    "bitwise_left_shift": _shift("shl"), "bitwise_right_shift": _shift("shr"),
    **{name: (lambda f, signed, x: x)
       for name in ("floor", "ceil", "trunc", "round", "identity", "stop_gradient")},
}  # fmt: skip

for _bitwise, _logical in (
    ("bitwise_and", "logical_and"), ("bitwise_or", "logical_or"), ("bitwise_xor", "logical_xor"),
    ("bitwise_invert", "logical_not"), ("add", "logical_or"), ("mul", "logical_and"),
    ("maximum", "logical_or"), ("minimum", "logical_and"),
):  # fmt: skip
    LOGICAL[_bitwise] = LOGICAL[_logical]
