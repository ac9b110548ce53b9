"""What the tests of the tables share: examples, finite differences, comparison of containers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from tests.ops.cases import CASES
from tests.ops.compositions import COMPOSITIONS
from tests.ops.samples import OpCase

ROWS = CASES + COMPOSITIONS


def examples(rows: Sequence[OpCase], smooth: bool = False) -> Any:
    """A parametrization: every row with each of its shapes."""
    return pytest.mark.parametrize(
        ("case", "shapes"),
        [
            pytest.param(case, shapes, id=f"{case.name} {' '.join(map(str, shapes))}")
            for case in rows
            if case.smooth or not smooth
            for shapes in case.shapes
        ],
    )


def by_floats(case: OpCase, inputs: Sequence[Any]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The row's function of its float inputs alone, and these."""

    def function(*floats: Any) -> Any:
        full = list(inputs)
        for k, x in zip(case.floats, floats, strict=True):
            full[k] = x
        return case.function(*full)

    return function, tuple(inputs[k] for k in case.floats)


def scalar(function: Callable[..., Any], weights: Any) -> Callable[..., Any]:
    """Σ weights · function: something to take gradients of."""
    return lambda *xs: (function(*xs) * weights).sum()


def gradients(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    """The gradient by every argument, in a tuple."""
    return cr.grad(function, wrt=tuple(range(count)))


def direction(like: Any, seed: int) -> Any:
    """A random array in the shape of another."""
    shape = np.shape(like)
    return np.random.default_rng(seed).normal(size=shape)


def directions(arrays: Sequence[Any], seed: int = 7) -> tuple[Any, ...]:
    return tuple(direction(x, seed + k) for k, x in enumerate(arrays))


def dot(first: Any, second: Any) -> float:
    """⟨u, v⟩ of arrays or of tuples of them."""
    if isinstance(first, tuple):
        return sum(map(dot, first, second))
    return float((np.asarray(first) * np.asarray(second)).sum())


def difference(function: Callable[..., Any], xs: Sequence[Any], vs: Sequence[Any],
               h: float = 1e-5) -> Any:  # fmt: skip
    """(f(x + h v) - f(x - h v)) / 2h with one step of Richardson: an error of h⁴."""

    def central(h: float) -> Any:
        ahead = function(*(x + h * v for x, v in zip(xs, vs, strict=True)))
        back = function(*(x - h * v for x, v in zip(xs, vs, strict=True)))
        if isinstance(ahead, tuple):
            return tuple(
                (np.asarray(a) - np.asarray(b)) / (2 * h) for a, b in zip(ahead, back, strict=True)
            )
        return (np.asarray(ahead) - np.asarray(back)) / (2 * h)

    fine, wide = central(h), central(2 * h)
    if isinstance(fine, tuple):
        return tuple((4 * f - w) / 3 for f, w in zip(fine, wide, strict=True))
    return (4 * fine - wide) / 3


def assert_close(received: Any, expected: Any, tolerance: float = 1e-12) -> None:
    """Entries agree within tolerance·(1 + size); shapes and structures agree exactly."""
    if isinstance(expected, tuple):
        assert isinstance(received, tuple)
        assert len(received) == len(expected)
        for r, e in zip(received, expected, strict=True):
            assert_close(r, e, tolerance)
        return
    received, expected = np.asarray(received), np.asarray(expected)
    assert received.shape == expected.shape
    scale = 1 + np.abs(expected).max(initial=0, where=np.isfinite(expected))
    np.testing.assert_allclose(received, expected, rtol=0, atol=tolerance * scale)


def assert_same(received: Any, expected: Any) -> None:
    """The same shape, dtype and entries; NaN equals NaN."""
    received, expected = np.asarray(received), np.asarray(expected)
    assert received.shape == expected.shape
    assert received.dtype == expected.dtype
    np.testing.assert_array_equal(received, expected)
