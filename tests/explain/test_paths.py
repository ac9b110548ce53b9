"""Paths add up to the gradient, of any entry in any graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn
from chainrule.explain import paths
from chainrule.explain.paths import ALL


def total(found: Any) -> float:
    return sum(p.contribution for p in found.paths) + found.rest


def test_every_path_with_what_it_adds() -> None:
    x, y = cr.tensor(3.0), cr.tensor(2.0)
    q = x * y
    f = q + x * 5 + x
    found = f.paths(x)
    assert (found.gradient, found.count, found.rest) == (8, 3, 0)
    assert [p.contribution for p in found.paths] == [5, 2, 1]
    assert "∂f/∂x = 8, from 3 paths:" in str(found) and "x → q → q2 → f   2" in str(found)
    assert found.json()["rows"][0][1] == "5"


STEPS: list[Any] = [
    lambda x, y: x + y, lambda x, y: x * y, lambda x, y: cr.sin(x) - y, lambda x, y: cr.tanh(x),
    lambda x, y: cr.maximum(x, y), lambda x, y: x @ y, lambda x, y: x.T,
    lambda x, y: cr.concat([x, y], axis=0)[:3], lambda x, y: x + y[0], lambda x, y: cr.flip(x),
    lambda x, y: cr.where(x > 0.5, x, y), lambda x, y: cr.cumulative_sum(x, axis=0),
]  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 9), st.integers(0, 9)),
                min_size=1, max_size=9), st.integers(0, 2), st.integers(0, 2))  # fmt: skip
def test_they_add_up_in_random_graphs(steps: Any, i: int, j: int) -> None:
    x = cr.tensor(np.random.default_rng(0).normal(size=(3, 3)))
    pool: list[Any] = [x, x * 0.5]
    for which, a, b in steps:
        pool.append(STEPS[which](pool[a % len(pool)], pool[b % len(pool)]))
    f = pool[-1].sum() + pool[len(pool) // 2].sum()
    found = paths(f, x, (i, j), limit=5, names={"x": x})
    f.backward()
    assert x.grad is not None
    gradient = float(x.grad.numpy()[i, j])
    assert found.gradient == pytest.approx(gradient, rel=1e-12, abs=1e-12)
    assert total(found) == pytest.approx(gradient, rel=1e-12, abs=1e-12)
    if found.count <= ALL:
        whole = paths(f, x, (i, j), limit=ALL, names={"x": x})
        assert len(whole.paths) == whole.count and whole.rest == 0
        size = sum(abs(p.contribution) for p in whole.paths)
        assert sum(p.contribution for p in whole.paths) == pytest.approx(
            gradient, rel=1e-12, abs=1e-12 * size
        )


def test_more_paths_than_atoms() -> None:
    x = y = cr.tensor(1.0)
    for _ in range(300):
        y = y + y * 0.001
    found = y.paths(x, limit=3)
    assert found.count == 2**300 and len(found.paths) == 3
    assert found.gradient == pytest.approx(1.001**300)
    assert found.paths[0].contribution == 1  # the one that is never scaled
    assert total(found) == pytest.approx(found.gradient)


def test_the_entry_with_the_largest_gradient_is_chosen() -> None:
    x = cr.tensor(np.ones((2, 2)))
    f = (x * cr.asarray(np.array([[1.0, 2.0], [-9.0, 4.0]]))).sum()
    found = f.paths(x)
    assert found.index == (1, 0) and found.gradient == -9 and found.entry == "x[1, 0]"
    assert f.paths(x, (-1, -1)).gradient == 4
    assert np.array_equal(found.paths[0].array, [[1, 2], [-9, 4]])


def test_modules_stand_for_the_gates_on_long_ways() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.tanh, nn.Linear(2, 2), nn.tanh, nn.Linear(2, 1))
    x = cr.tensor(np.ones((1, 2), np.float32))
    text = str(nn.mean_squared_error(model(x), np.ones((1, 1), np.float32)).paths(x).paths[0])
    assert text == "x → 0 → 2 → 4 → f"


def test_gates_with_several_outputs_and_users_gates() -> None:
    class Twice(cr.Gate):
        def forward(self, x: Any) -> Any:
            return 2 * x

        def backward(self, upstream: Any) -> Any:
            return 2 * upstream

    x = cr.tensor(np.arange(6.0))
    parts = cr.remat(lambda x: (x * 2, x + 1))(x)
    f = (Twice()(parts[0]) * parts[1]).sum()
    f.backward()
    assert x.grad is not None
    for k in range(6):
        found = f.paths(x, k)
        assert total(found) == pytest.approx(float(x.grad.numpy()[k]))


def test_bad_input() -> None:
    x = cr.tensor(np.ones(3))
    f = (x * 2).sum()
    with pytest.raises(cr.errors.GradientError, match="received a constant"):
        f.paths(cr.asarray([1.0]))
    with pytest.raises(cr.errors.ShapeError, match="no entry of a variable of shape"):
        f.paths(x, 3)
    with pytest.raises(cr.errors.ShapeError, match="no entry of a variable of shape"):
        f.paths(x, (0, 0))
    with pytest.raises(cr.errors.ShapeError, match="no entry to explain"):
        empty = cr.tensor(np.ones(0))
        empty.sum().paths(empty)


def test_no_path_is_no_path() -> None:
    x, y = cr.tensor(1.0), cr.tensor(2.0)
    found = (y * 2).paths(x)
    assert (found.count, found.gradient, found.paths) == (0, 0, ())
    assert "there is no path" in str(found)
