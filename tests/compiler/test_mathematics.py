"""Elementary functions in machine code, of every kind: errors in ulp, special values, lanes.

float32 is held against NumPy in float64 (where NumPy has the function, else against the eager
rules, whose own tests are in tests/core), float64 against mpmath. An error is counted in spacings
of the result's dtype at the true value; the bound is what `ULP` says.
"""

from __future__ import annotations

import ctypes
import itertools
import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule.compiler.ir import Module, scalar_type, vector
from chainrule.compiler.machine import KINDS, Machine, named
from chainrule.compiler.mathematics import FUNCTIONS, ULP, emit
from chainrule.compiler.native import Library, object_code
from chainrule.errors import CompileError

PAIRS = ("pow", "atan2")
SINGLES = sorted(set(FUNCTIONS) - set(PAIRS))
OTHER_NAMES = {"arcsin": "asin", "arccos": "acos", "arctan": "atan"}
EAGER = {name: getattr(cr, OTHER_NAMES.get(name, name)) for name in FUNCTIONS}
DTYPES = ("float32", "float64")
SPECIAL = (
    0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 0.875, 2.0, -2.0, 2.5, -2.5, 3.0, -3.0, 4.0, 1e-8, 1e-30, 60.0,
    -60.0, 88.7228, 88.723, -87.5, -103.9, -104.1, 89.4, 709.78, 709.79, 710.4, -708.5, -745.1,
    -745.2, 2.0**23 - 0.5, 2.0**24 + 2, 2.0**52 - 0.5, -(2.0**53) + 1, 1e10, -1e15, 1e22, 3e38,
    -3e38, 1e-45, -1e-45, 1e-40, 1.2e-38, 5e-324, -5e-324, 1e-310, 2.3e-308, 1.7e308, -1.7e308,
    1 - 2.0**-24, 1 - 2.0**-53, 1 + 2.0**-52, -1 + 2.0**-24, math.pi, math.pi / 2, -math.pi / 4,
    math.inf, -math.inf, math.nan,
)  # fmt: skip
"""Ends of ranges of some function in some dtype."""


def machine(kind: str) -> Machine:
    try:
        return named(kind)
    except CompileError as error:
        pytest.skip(str(error))


@cache
def compiled(name: str, dtype: str, kind: str, lanes: int = 0) -> Callable[..., Any]:
    """The function on arrays; with as many lanes as a register has, unless told otherwise."""
    target = machine(kind)
    lanes = lanes or target.lanes(np.dtype(dtype))
    module, scalar = Module(), scalar_type(dtype)
    pointers = [("ptr", "x"), ("ptr", "y"), ("ptr", "out")]
    f = module.function("apply", [*pointers, ("i64", "n")], internal=False)
    *operands, out, n = f.parameters
    with f.loop(0, n, lanes) as i:
        given = [f.load(f.at(p, i, scalar), vector(scalar, lanes)) for p in operands]
        result = emit(name, f, *(given if name in PAIRS else given[:1]))
        f.store(result, f.at(out, i, scalar))
    library = Library(object_code(str(module), target), target)
    pointer = ctypes.c_void_p
    native = ctypes.CFUNCTYPE(None, pointer, pointer, pointer, ctypes.c_int64)(
        library.address("apply")
    )

    def apply(x: Any, y: Any = None) -> Any:
        size = len(x)
        fill = -size % lanes
        x, y = (
            np.concatenate([np.asarray(v, dtype), np.ones(fill, dtype)])
            for v in (x, x if y is None else y)
        )
        result = np.empty_like(x)
        native(x.ctypes.data, y.ctypes.data, result.ctypes.data, len(x))
        return result[:size]

    apply.library = library  # type: ignore[attr-defined]  # it holds the code
    return apply


def errors(received: Any, expected: Any, rest: Any = 0.0) -> Any:
    """|received - expected| in ulp; infinite where one is NaN, infinite or another zero alone.

    The true value is `expected + rest`, in float64.
    """
    dtype = received.dtype
    with np.errstate(all="ignore"):
        rounded = expected.astype(dtype)
        spacing = np.abs(np.spacing(rounded)).astype(np.float64)
        largest = np.finfo(dtype).max
        spacing = np.where(np.isfinite(rounded), spacing, np.spacing(largest).astype(np.float64))
        error = np.abs((received.astype(np.float64) - expected) - rest) / spacing
    both = np.isnan(received) & np.isnan(expected)
    same = (received == rounded) & (np.signbit(received) == np.signbit(rounded))
    error = np.where(both | (same & ~(error < 1)), 0.0, error)
    wrong_zero = (received == rounded) & ~same
    return np.where(wrong_zero | np.isnan(error), np.inf, error)


def assert_within(bound: float, name: str, x: Any, received: Any, expected: Any, rest: Any) -> None:
    error = errors(received, expected, rest)
    worst = int(np.argmax(error))
    assert error[worst] <= bound, (
        f"{name}({x[worst]!r}) is off by {error[worst]:.3f} ulp: received {received[worst]!r}, "
        f"expected {expected[worst]!r}"
    )


# -- float32: patterns of bits ------------------------------------------------------------------


def in_double(name: str, x: Any) -> Any:
    """The function in float64 of a float32."""
    function = getattr(np, {"round": "rint"}.get(name, name), None)
    with np.errstate(all="ignore"):  # also NaNs that signal
        x = x.astype(np.float64)
        return function(x) if function else np.asarray(EAGER[name](x))


@lru_cache(maxsize=1)
def sampled(name: str) -> tuple[Any, Any]:
    patterns = np.arange(0, 2**32, 997, dtype=np.uint64).astype(np.uint32)
    with np.errstate(all="ignore"):
        x = np.concatenate([patterns.view(np.float32), np.asarray(SPECIAL).astype(np.float32)])
    return x, in_double(name, x)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SINGLES)
def test_float32_sample(name: str, kind: str) -> None:
    apply = compiled(name, "float32", kind)
    x, expected = sampled(name)
    assert_within(ULP[name][0], name, x, apply(x), expected, 0.0)


@pytest.mark.long
@pytest.mark.parametrize("name", SINGLES)
def test_float32_all_patterns(name: str) -> None:
    block = 1 << 16  # all of it stays in a cache near by
    bits = np.arange(block, dtype=np.uint32)
    for start in range(0, 2**32, block):
        x = (bits + np.uint32(start)).view(np.float32)
        expected = in_double(name, x)
        with np.errstate(all="ignore"):
            rounded = expected.astype(np.float32).view(np.uint32)
        for kind in KINDS:
            received = compiled(name, "float32", kind)(x)
            off = np.flatnonzero(received.view(np.uint32) != rounded)  # others: half an ulp
            if len(off):
                given = x[off], received[off], expected[off]
                assert_within(ULP[name][0], f"{kind} {name}", *given, 0.0)


# -- float64: mpmath ----------------------------------------------------------------------------


def inverse_erf(y: Any) -> Any:
    """erfinv of -1 < y < 1 by Newton's method from the eager result."""
    x = mpmath.mpf(float(np.asarray(cr.erfinv(np.array(float(y))))))
    for _ in range(2 if x else 0):
        off = (1 - abs(y)) - mpmath.erfc(abs(x))
        x -= mpmath.sign(y) * off * mpmath.sqrt(mpmath.pi) / 2 * mpmath.exp(x * x)
    return x


EXACT: dict[str, Callable[..., Any]] = {
    "exp": mpmath.exp, "expm1": mpmath.expm1, "log": mpmath.log, "log1p": mpmath.log1p,
    "sqrt": mpmath.sqrt, "tanh": mpmath.tanh, "sinh": mpmath.sinh, "cosh": mpmath.cosh,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)), "erf": mpmath.erf, "erfinv": inverse_erf,
    "sin": mpmath.sin, "cos": mpmath.cos, "tan": mpmath.tan, "arcsin": mpmath.asin,
    "arccos": mpmath.acos, "arctan": mpmath.atan, "pow": mpmath.power, "atan2": mpmath.atan2,
    "floor": mpmath.floor, "ceil": mpmath.ceil, "round": mpmath.nint,
    "trunc": lambda x: mpmath.sign(x) * mpmath.floor(abs(x)),
}  # fmt: skip
DOMAIN = {"log": (0, np.inf), "log1p": (-1, np.inf), "sqrt": (0, np.inf), "pow": (0, np.inf),
          "arcsin": (-1, 1), "arccos": (-1, 1), "erfinv": (-1, 1)}  # fmt: skip


def exact(name: str, *operands: Any) -> tuple[Any, Any]:
    """The true values as float64 and what is missing."""
    values = np.empty(len(operands[0])), np.empty(len(operands[0]))
    with mpmath.workprec(140):
        for i, x in enumerate(zip(*operands, strict=True)):
            true = EXACT[name](*(mpmath.mpf(float(v)) for v in x))
            near = float(true)
            if near == 0:
                near = math.copysign(0.0, true or x[0])
            values[0][i] = near
            values[1][i] = float(true - near) if math.isfinite(near) else 0.0
    return values


@lru_cache(maxsize=1)
def doubles(name: str) -> tuple[Any, Any, Any]:
    """Doubles of the domain: by bits, of usual sizes, and near ends and multiples of π/2."""
    rng = np.random.default_rng(5)
    size = 250
    low, high = DOMAIN.get(name, (-np.inf, np.inf))
    parts = [
        rng.integers(0, 2**64, 2 * size, dtype=np.uint64).view(np.float64),
        *(scale * rng.standard_normal(size) for scale in (0.01, 0.3, 1, 5, 30)),
        rng.uniform(-750, 715, size),
        rng.uniform(-1, 1, size),
        1 + rng.standard_normal(size) * 1e-3,
        1 - 10 ** rng.uniform(-16, 0, size),
        rng.integers(-200, 200, size) * (math.pi / 2),
        rng.integers(-(10**6), 10**6, size) * (math.pi / 2),
        rng.integers(-20, 20, size) + 0.5,
        [6381956970095103 * 2.0**797],  # nearest of all to a multiple of π/2
    ]
    x = np.concatenate(parts)
    x = x[np.isfinite(x) & (x > low) & (x < high)]
    return x, *exact(name, x)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SINGLES)
def test_float64_against_mpmath(name: str, kind: str) -> None:
    apply = compiled(name, "float64", kind)
    x, expected, rest = doubles(name)
    assert_within(ULP[name][1], name, x, apply(x), expected, rest)


# -- functions of two ---------------------------------------------------------------------------


@lru_cache(maxsize=2)
def pairs(name: str, dtype: str) -> tuple[Any, Any, Any, Any]:
    """Operands whose powers fill the range of the dtype; angles of points near and far."""
    rng = np.random.default_rng(6)
    size = 500
    if name == "pow":
        x = np.concatenate([np.exp(scale * rng.standard_normal(size)) for scale in (0.01, 1, 15)])
        x = np.concatenate([x, -rng.integers(1, 40, size).astype(float)]).astype(dtype)
        range_of_log = 740 if dtype == "float64" else 100
        logs = np.log(np.abs(x.astype(np.float64)))
        y = rng.uniform(-range_of_log, range_of_log, len(x)) / np.where(logs, logs, 1)
        y = np.where(x < 0, np.round(np.clip(y, -30, 30)), y)
        y = np.where(np.isfinite(y), y, 1).astype(dtype)
    else:
        x, y = (rng.standard_normal(2 * size) * 10 ** rng.uniform(-20, 18, 2 * size) for _ in "xy")
        x[:size] = y[:size] * rng.uniform(-3, 3, size)
        x, y = x.astype(dtype), y.astype(dtype)
    return x, y, *exact(name, x, y)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PAIRS)
def test_pairs_against_mpmath(name: str, dtype: str, kind: str) -> None:
    apply = compiled(name, dtype, kind)
    x, y, expected, rest = pairs(name, dtype)
    bound = ULP[name][DTYPES.index(dtype)]
    assert_within(bound, name, list(zip(x, y, strict=True)), apply(x, y), expected, rest)


# -- special values, as eager has them ------------------------------------------------------------


def agree(received: Any, eager: Any, ulp: float) -> Any:
    """Where both are the same special value, or near each other."""
    with np.errstate(all="ignore"):
        near = np.abs(received - eager) <= ulp * np.abs(np.spacing(eager))
    zero = (received == 0) & (eager == 0)
    same = np.where(zero, np.signbit(received) == np.signbit(eager), received == eager)
    return same | (near & ~zero) | (np.isnan(received) & np.isnan(eager))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_values(name: str, dtype: str, kind: str) -> None:
    apply = compiled(name, dtype, kind)
    with np.errstate(all="ignore"):
        values = np.asarray(SPECIAL).astype(dtype)
        table = itertools.product(values, values) if name in PAIRS else ((v,) for v in values)
        operands = [np.array(column, dtype) for column in zip(*table, strict=True)]
        eager = np.asarray(EAGER[name](*operands))
    received = apply(*operands)
    # NumPy's own errors: up to 4 ulp in float32
    wrong = np.flatnonzero(~agree(received, eager, 6))
    assert not len(wrong), [
        (*(column[i] for column in operands), received[i], eager[i]) for i in wrong[:5]
    ]


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(sorted(FUNCTIONS)), st.lists(st.floats(), min_size=2, max_size=9))
def test_agrees_with_eager(name: str, numbers: list[float]) -> None:
    x = np.array(numbers)
    operands = (x, x[::-1].copy()) if name in PAIRS else (x,)
    with np.errstate(all="ignore"):
        eager = np.asarray(EAGER[name](*operands))
    assert np.all(agree(compiled(name, "float64", "portable")(*operands), eager, 6))


# -- lanes and names ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_any_number_of_lanes(name: str, dtype: str) -> None:
    x = np.concatenate([np.linspace(-3, 3, 24), [1e30, -0.0, np.inf, 1e-40]]).astype(dtype)
    y = x[::-1].copy()
    expected = compiled(name, dtype, "portable")(x, y)
    for lanes in (1, 3, 16):
        np.testing.assert_array_equal(compiled(name, dtype, "portable", lanes)(x, y), expected)


def test_unknown_name() -> None:
    f = Module().function("f", [("float", "x")])
    with pytest.raises(CompileError, match="received the function 'cbrt', expected one of exp, "):
        emit("cbrt", f, *f.parameters)


def test_every_function_has_its_error() -> None:
    assert FUNCTIONS.keys() == ULP.keys()
    bounds = {name: 4 if name == "pow" else 2 for name in FUNCTIONS}
    assert all(max(ULP[name]) <= bounds[name] for name in FUNCTIONS)
