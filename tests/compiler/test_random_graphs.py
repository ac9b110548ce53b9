"""Random programs as native code beside the reference interpreter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule.compiler.machine import Machine
from tests.compiler.comparing import KINDS, check, machine, with_little_room

SIZES = (1, 2, 3, 4, 17, 40)

UNARY: list[Any] = [
    lambda x: cr.exp(-cr.abs(x)), cr.tanh, cr.sigmoid, cr.relu, cr.sin, cr.abs, cr.sign, cr.floor,
    lambda x: -x, lambda x: x * 2, lambda x: 1 - x, lambda x: cr.log(x * x + 1),
    lambda x: cr.sqrt(cr.abs(x)),
    lambda x: x.astype("i4").astype(x.dtype), cr.stop_gradient,
]  # fmt: skip
BINARY: list[Any] = [
    lambda x, y: x + y, lambda x, y: x - y, lambda x, y: x * y, lambda x, y: x / (cr.abs(y) + 1),
    cr.maximum, cr.minimum, lambda x, y: cr.where(x > y, x, y * 0.5),
]  # fmt: skip


@st.composite
def programs(draw: Any) -> Any:
    """A list of steps; each makes a value from values before it, whatever their shapes are."""
    steps = draw(st.lists(st.tuples(
        st.sampled_from(("unary", "binary", "binary", "reduce", "move", "matmul", "shape", "join",
                         "window", "gather", "softmax", "assign", "loop", "cell")),
        st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6),
    ), min_size=2, max_size=14))  # fmt: skip
    shapes = draw(st.lists(
        st.lists(st.sampled_from(SIZES), min_size=0, max_size=3).map(tuple), min_size=1, max_size=3
    ))  # fmt: skip
    return steps, shapes, draw(st.sampled_from(("f4", "f8"))), draw(st.booleans())


def step(kind: str, a: int, b: int, c: int, values: list[Any], state: Any) -> Any:
    """One value more, or None where the step does not fit."""
    x = values[a % len(values)]
    if kind == "unary":
        return UNARY[b % len(UNARY)](x)
    if kind == "binary":
        fitting = [v for v in values if v.shape == x.shape or 0 in (v.ndim, x.ndim)
                   or (v.ndim < x.ndim and v.shape == x.shape[x.ndim - v.ndim :])]  # fmt: skip
        return BINARY[b % len(BINARY)](x, fitting[c % len(fitting)])
    if kind == "reduce" and x.ndim:
        reduce = (cr.sum, cr.max, cr.mean, cr.min)[b % 4]
        return reduce(x, axis=c % x.ndim, keepdims=bool(c & 8))
    if kind == "move" and x.ndim:
        moves = [
            lambda: cr.flip(x, axis=c % x.ndim), lambda: x[::2], lambda: x[..., ::-1],
            lambda: cr.pad(x, 1 + c % 2), lambda: x[x.shape[0] // 2 :],
            lambda: cr.roll(x, 1, axis=0), lambda: cr.cumulative_sum(x, axis=0),
            lambda: cr.permute_dims(x, tuple(range(x.ndim))[::-1]),
        ]  # fmt: skip
        return moves[b % len(moves)]()
    if kind == "matmul":
        pairs = [v for v in values if v.ndim == 2 and x.ndim and v.shape[0] == x.shape[-1]]
        if pairs:
            return x @ pairs[b % len(pairs)] / x.shape[-1]
        return x @ x.T / x.shape[-1] if x.ndim == 2 else None
    if kind == "shape":
        forms = [lambda: x.reshape(-1), lambda: cr.expand_dims(x, axis=b % (x.ndim + 1)),
                 lambda: x.reshape(x.shape[::-1]), lambda: cr.squeeze(x)]  # fmt: skip
        return forms[b % len(forms)]()
    if kind == "join" and x.ndim:
        same = [v for v in values if v.shape == x.shape]
        return (cr.concat if b & 1 else cr.stack)([x, same[c % len(same)]], axis=b % x.ndim)
    if kind == "window" and x.ndim and x.shape[-1] > 2:
        return cr.windows(x, 2, stride=1 + b % 2)
    if kind == "gather" and x.ndim:
        return cr.take(x, np.array([0, x.shape[0] - 1, 0]), axis=0)
    if kind == "softmax" and x.ndim:
        return cr.softmax(x, axis=b % x.ndim)
    if kind == "assign":
        state.assign(state * 0.5 + cr.mean(x))
        return state * 2
    if kind == "loop" and x.ndim:
        return cr.scan(lambda s, row: (cr.tanh(s + row), s * row), cr.zeros_like(x[0]), x)[b % 2]
    if kind == "cell" and x.ndim in (2, 3):
        rows = x if x.ndim == 3 else cr.expand_dims(x, axis=1)
        weight = cr.tanh(rows[0].T @ rows[0]) / rows.shape[-1]
        weight = weight.T if c & 1 else weight

        def cell(state: Any, row: Any) -> Any:
            hidden, total = state
            new = cr.tanh(hidden @ weight + row)
            return (new, total + cr.sum(new * row)), cr.concat([new, hidden], axis=-1)

        start = (cr.zeros_like(rows[0]), cr.sum(rows) * 0)
        (hidden, total), stacked = cr.scan(cell, start, rows, reverse=bool(c & 2))
        return (hidden, total, stacked, stacked[-1] * total)[b % 4]
    return None


def build(program: Any) -> tuple[Any, list[Any]]:
    steps, shapes, dtype, gradient = program
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=s).astype(dtype) for s in shapes]
    state = cr.tensor(np.asarray(0.25, dtype))

    def function(*inputs: Any) -> Any:
        values = list(inputs)
        for kind, a, b, c in steps:
            new = step(kind, a, b, c, values, state)
            if new is not None and new.size <= 20_000:
                values.append(new)
        return values[len(inputs) :][-3:] or values

    def back(*inputs: Any) -> Any:
        return cr.grad(lambda *xs: sum((v / (1 + cr.abs(v))).sum() for v in function(*xs)),
                       wrt=tuple(range(len(inputs))))(*inputs)  # fmt: skip

    return (back if gradient else function), arrays


def agree(program: Any, m: Machine) -> None:
    function, arrays = build(program)
    with np.errstate(all="ignore"):
        # chains of tanh, sums and differences lose some digits of float32
        check(function, arrays, m, scale=50)


FEW = settings(max_examples=70, deadline=None, derandomize=True,
               suppress_health_check=list(HealthCheck))  # fmt: skip
MANY = settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", KINDS)
@FEW
@given(programs())
# a loop reads a join, which is returned as well; a reshape that a loop reads and others use;
# a product in a nest that runs through its entries the other way
@example(([("unary", 2, 0, 0), ("join", 0, 0, 0), ("loop", 2, 0, 0)], [(40,)], "f4", False))
@example(
    ([("unary", 0, 0, 0), ("shape", 2, 0, 0), ("loop", 4, 0, 0)], [(), (), (2, 2)], "f4", True)
)
@example(([("move", 0, 0, 1), ("matmul", 1, 0, 0)], [(1, 2)], "f4", True))
def test_random_programs(kind, program):
    agree(program, machine(kind))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", KINDS)
@FEW
@given(programs(), st.sampled_from([2, 2, 3]))
def test_random_programs_as_if_large(as_if_large, kind, program, threads):
    agree(program, with_little_room(kind, threads))


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", KINDS)
@MANY
@given(programs(), st.sampled_from([2, 2, 3]))
def test_many_random_programs_as_if_large(as_if_large, kind, program, threads):
    agree(program, with_little_room(kind, threads))


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", KINDS)
@MANY
@given(programs())
def test_many_random_programs(kind, program):
    agree(program, machine(kind))
