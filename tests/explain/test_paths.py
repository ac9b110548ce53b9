"""Paths add up to the gradient, of any entry in any graph."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn
from chainrule.explain import paths, routes
from chainrule.explain.paths import _many, between
from chainrule.explain.routes import ALL
from chainrule.explain.why import reason


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


def test_loops_of_compiled_functions() -> None:
    w = cr.tensor(np.array([0.5, 0.0]))

    @cr.compile
    def f(x: Any) -> Any:
        def step(c: Any, s: Any) -> Any:
            c = cr.tanh(c * w + s)
            return c, c

        return (cr.scan(step, cr.zeros(2, dtype=cr.float64), x)[1][1:, :1]).sum()

    found = f.explain(cr.asarray(np.ones((3, 2))))
    order = [*(v.node for v in found.variables), *(g.node for g in found.gates)]
    v = next(v for v in found.variables if v.value.shape == (2,))
    listed = between(order, found.naming, v.node, v.gradient, (0,))
    assert total(listed) == pytest.approx(v.gradient[0]) and v.gradient[0]
    assert "scan" in listed.paths[0].text() and "output 1: [[0, 0], [1, 0]" in listed.text()
    answer = reason(order, found.naming, v.node, v.gradient, (1,))
    assert [e.cause for e in answer.ends] == ["not read"]


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
    for index in ("a", 1.5, None.__class__, (0, "b")):
        with pytest.raises(cr.errors.ShapeError, match="one whole number for each axis"):
            f.paths(x, index)
    for limit in (0, -1, "3"):
        with pytest.raises(cr.errors.ShapeError, match="at least 1"):
            paths(f, x, limit=limit)


def test_no_path_is_no_path() -> None:
    x, y = cr.tensor(1.0), cr.tensor(2.0)
    found = (y * 2).paths(x)
    assert (found.count, found.gradient, found.paths) == (0, 0, ())
    assert "there is no path" in str(found)


def test_steps_go_back_gate_by_gate() -> None:
    x, w = cr.tensor(np.array([1.0, 2.0, -3.0])), cr.tensor(np.array([3.0, -1.0, 5.0]))
    h = cr.relu(x * w)
    f = h @ cr.asarray(np.array([2.0, 1.0, 1.0]))
    path = f.paths(w, 0).paths[0]
    last, first = path.steps[0], path.steps[-1]
    assert [s.word for s in path.steps] == ["switches", "routes", "switches"]
    assert last.gate.startswith("f = h @ ") and last.to == "h"
    assert last.upstream == 1 and np.array_equal(last.downstream, [2, 1, 1])
    assert first.gate == "q = x * w" and np.array_equal(first.downstream, path.array)
    assert first.downstream[0] == path.contribution == 2
    assert path.steps[1].through == (("h[0]", 1.0),)
    assert all(s.line.rpartition(":")[0] == __file__ for s in path.steps)
    assert "h = cr.relu(x * w)" in path.steps[1].code
    text = f.paths(w, 0).text()
    assert text.startswith(str(f.paths(w, 0))) and "h[0] (100 %)" in text


def test_numbers_are_local_factors_whose_product_is_the_contribution() -> None:
    x = cr.tensor(3.0)
    y = x * x
    f = cr.exp(y * 0.1) * x - y
    found = f.paths(x)
    assert found.count == 5
    for path in found.paths:
        factors = [s.local for s in path.steps]
        assert all(isinstance(v, float) for v in factors)
        assert np.prod(factors) == pytest.approx(path.contribution, rel=1e-5)
    inputs = {s.to for p in found.paths for s in p.steps if s.gate == "y = x * x"}
    assert inputs == {"x (1st)", "x (2nd)"}


def test_the_entries_a_path_goes_through_share_its_contribution() -> None:
    random = np.random.default_rng(1)
    x, w = cr.tensor(random.normal(size=(2, 3))), cr.tensor(random.normal(size=(3, 2)))
    h = cr.tanh(x @ w)
    step = (h * h).sum().paths(x, (1, 0)).paths[0].steps[-2]
    assert step.gate == "h = tanh(q1)"
    assert {name for name, _ in step.through} == {"h[1, 0]", "h[1, 1]"}
    assert sum(share for _, share in step.through) == pytest.approx(1)


def test_plain_data() -> None:
    x = cr.tensor(np.ones(3))
    data = (cr.sin(x) * x).sum().paths(x).json(steps=True)
    assert json.loads(json.dumps(data)) == data
    assert [len(p["steps"]) for p in data["paths"]] == [2, 3]
    x = y = cr.tensor(0.0)
    for _ in range(500):
        y = y + y
    many = y.paths(x, limit=1)
    assert many.count == 2**500 and "3.27·10^150 other paths" in str(many)
    assert json.loads(json.dumps(many.json()))["count"] == "3.27·10^150"


def test_counts_of_any_size_are_written() -> None:
    assert [_many(n) for n in (1, 1000, 10**9)] == ["1", "1,000", "1·10^9"]
    assert _many(2**20000) == "3.98·10^6020"  # more digits than Python prints


def test_the_search_keeps_what_matters_to_the_entry() -> None:
    """Ways that are large, but not for this entry, do not crowd out those that are for it."""
    x = cr.tensor(np.array([1.0, 1.0]))
    y = x
    for _ in range(12):
        y = y + y * cr.asarray(np.array([1e-3, 50.0]))
    found = y.sum().paths(x, 0, limit=2)
    assert found.count > ALL
    assert [p.contribution for p in found.paths] == pytest.approx([1, 1e-3])


def test_little_memory_keeps_fewer_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    x = cr.tensor(np.ones(10))
    y = x
    for k in range(6):
        y = y + y * float(10 + k)
    assert len(y.sum().paths(x, 0, limit=64).paths) == 64
    searched = []
    pull = routes.pulled
    monkeypatch.setattr(routes, "pulled", lambda *a: searched.append(1) or pull(*a))
    for room, most in ((2**28, 200), (1, 40)):
        monkeypatch.setattr(routes, "ROOM", room)
        searched.clear()
        found = y.sum().paths(x, 0, limit=2)
        assert [p.contribution for p in found.paths] == pytest.approx([3603600, 360360])
        assert found.rest == pytest.approx(found.gradient - 3963960)
        assert most / 2 < len(searched) <= most


def test_a_variable_that_was_assigned_since() -> None:
    w = cr.tensor(2.0)
    f = w * w
    w.assign(5.0)
    assert f.paths(w).gradient == 4


def test_the_result_itself_and_nan() -> None:
    x = cr.tensor(2.0)
    own = (x * 3).paths(x)
    assert own.count == 1
    f = x * 3
    assert (f.paths(f).count, f.paths(f).gradient, f.paths(f).paths[0].steps) == (1, 1, ())
    zero = cr.tensor(np.zeros(2))
    bad = ((cr.sqrt(zero) * cr.asarray([1.0, 0.0])) @ cr.asarray([1.0, 1.0])).paths(zero)
    assert bad.gradient == np.inf and bad.paths[0].contribution == np.inf


def test_a_number_that_is_broadcast_has_no_number_for_its_local() -> None:
    x, v = cr.tensor(np.array(2.0)), cr.tensor(np.array([1.0, 2.0, 3.0]))
    steps = (x * v).sum().paths(x).paths[0].steps
    assert [s.local for s in steps] == ["copies", "switches", "adds"]
    assert steps[-1].downstream == 6
