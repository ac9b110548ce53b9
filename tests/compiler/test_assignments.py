"""Variables whose new values are moved, joined or summed ones of themselves and of each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule.compiler import executable
from chainrule.errors import CompileError

N = 5
B = np.random.default_rng(1).normal(size=(N, N))
MOVES: dict[str, Any] = {
    "transposed": lambda a: a.T * 2,
    "rolled": lambda a: cr.roll(a, 1, axis=0),
    "flipped": lambda a: cr.flip(a, axis=1),
    "joined": lambda a: cr.concat([a[1:], a[:1] + 1], axis=0),
    "crossed": lambda a: cr.concat([a[:, 2:], a[:, :2]], axis=1),
    "smeared": lambda a: cr.pad(a, ((0, 1), (0, 0)))[1:] + a,
    "padded": lambda a: cr.pad(a[1:, 1:], ((0, 1), (1, 0))),
    "sorted": lambda a: cr.sort(a, axis=0),
    "running": lambda a: cr.cumulative_sum(a, axis=1),
    "centred": lambda a: a - a.mean(axis=0, keepdims=True),
    "gathered": lambda a: cr.take(a, np.array([4, 0, 0, 2, 1]), axis=0),
    "looped": lambda a: cr.scan(lambda c, row: (c * 0.5 + row, c + row * a[0]), a[0], a)[1],
    "multiplied": lambda a: a @ B,
}


def agree(step: Any, count: int = 2) -> None:
    """Eager and compiled steps on variables of their own, three times."""
    rng = np.random.default_rng(0)
    first = [rng.normal(size=(N, N)) for _ in range(count)]
    own, theirs = ([cr.tensor(a) for a in first] for _ in range(2))
    compiled = cr.compile(lambda x: step(theirs, x))
    for _ in range(3):
        x = rng.normal(size=(N, N))
        wanted = [step(own, cr.asarray(x)), *own]
        found = [compiled(x), *theirs]
        for u, v in zip(wanted, found, strict=True):
            np.testing.assert_allclose(v.numpy(), u.numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("after", [False, True])
def test_a_moved_value_is_assigned(move, after):
    def step(variables: Any, x: Any) -> Any:
        (a, b), before = variables, variables[0] @ B
        new = MOVES[move](a)
        a.assign(new)
        b.assign(b + x)
        return (new if after else before) @ B + (variables[0] if after else b)

    agree(step)


STEPS = st.tuples(st.sampled_from([*MOVES, "add", "mul", "assign", "assign"]),
                  st.integers(0, 99), st.integers(0, 99))  # fmt: skip


@settings(max_examples=40, deadline=None, derandomize=True,
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(st.lists(STEPS, min_size=2, max_size=8))
def test_variables_are_assigned_in_any_order(steps):
    def step(variables: Any, x: Any) -> Any:
        values = [*variables, x]
        for kind, i, j in [*steps, ("assign", 0, 3), ("assign", 1, 5)]:
            p, q = values[i % len(values)], values[j % len(values)]
            if kind == "assign":
                variables[i % len(variables)].assign(q * 0.9)
            else:
                values.append({"add": p + q, "mul": p * q}.get(kind) if kind in ("add", "mul")
                              else MOVES[kind](p) * 0.5)  # fmt: skip
        return values[-1]

    agree(step, 3)


@pytest.mark.parametrize("gate", [cr.sin, lambda x: x * 2 + 1, lambda x: cr.maximum(x, 1 - x)])
def test_chains_may_be_long(gate):
    def chain(x: Any) -> Any:
        for _ in range(700):
            x = gate(x) * 0.5
        return x

    x = np.linspace(-1, 1, 4)
    np.testing.assert_allclose(cr.compile(chain)(x).numpy(), chain(cr.asarray(x)).numpy(), 1e-9)


def test_large_constants_may_be_used_by_any_gate():
    table = np.random.default_rng(0).normal(size=(20, 30))
    for f in (
        lambda x: x + cr.sort(cr.flip(cr.asarray(table), axis=0), axis=0),
        lambda x: x + cr.max(table, axis=0), lambda x: x * cr.argmax(table, axis=1)[:, None],
        lambda x: x + cr.softmax(table, axis=1), lambda x: x + cr.asarray(table)[::-1, ::-1],
        lambda x: (x.reshape(-1) * cr.asarray(table).reshape(-1)).sum(),
    ):  # fmt: skip
        x = np.ones((20, 30))
        np.testing.assert_allclose(cr.compile(f)(x).numpy(), f(cr.asarray(x)).numpy(), 1e-12)


def test_a_mistake_of_the_compiler_says_so(monkeypatch):
    def broken(graph: Any) -> Any:
        raise KeyError("something")

    monkeypatch.setattr(executable, "lower", broken)
    f = cr.compile(lambda x: cr.sin(x) * 7.25)
    with pytest.raises(CompileError, match=r"a mistake in chainrule \(KeyError: 'something'\)"):
        f(np.ones(3))
