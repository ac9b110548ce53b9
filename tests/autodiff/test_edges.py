"""Edges where modes meet: traces and assignment, lists and numbers, other people's arrays."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import chainrule as cr
from chainrule.core.types import ArrayType, float64
from chainrule.errors import DTypeError, TraceError
from chainrule.ops.tracing import trace


class Square(cr.Gate):
    def forward(self, x):
        self.x = x
        return x * x

    def backward(self, upstream):
        return 2 * self.x * upstream


def test_a_condition_of_numbers_selects_and_does_not_scale():
    def f(x):
        return cr.where(x, x * x, 0.0).sum()

    x = cr.asarray([3.0, 0.5, 0.0])
    assert cr.grad(f)(x).tolist() == [6.0, 1.0, 0.0]
    assert float(cr.jvp(f, (x,), (cr.ones(3),))[1]) == 7.0


def test_steps_with_assign_in_a_trace_are_those_of_eager():
    def steps(w):
        for _ in range(3):
            (w * w * w).sum().backward()
            w.assign(w - 0.1 * w.grad)

    eager, traced = cr.tensor([1.0, 2.0]), cr.tensor([1.0, 2.0])
    steps(eager)
    graph, _ = trace(lambda: steps(traced), [])
    traced.grad = None
    leaves = {leaf: np.asarray(handle) for handle, leaf in graph.verify().captured}
    _, (value,) = graph.run(leaves, lambda n, xs: n.primitive.forward(*xs, **n.params))
    np.testing.assert_array_equal(value, eager)


def test_no_grad_holds_in_traces():
    def f(x):
        with cr.no_grad():
            square = x * x
        return square * x

    assert cr.vmap(cr.grad(f))(cr.asarray([2.0, 3.0])).tolist() == [4.0, 9.0]


@pytest.mark.parametrize(
    ("call", "x", "expected"),
    [
        (lambda x: x < 0.5, [0, 1], [True, False]),
        (lambda x: x == 1.5, [1, 2], [False, False]),
        (lambda x: cr.clip(x, 0.5, 2.5), [0, 1, 3], [0.5, 1.0, 2.5]),
        (lambda x: x > -1, np.arange(2, dtype="u1"), [True, True]),
        (cr.isinf, [1, 2], [False, False]),
    ],
)
def test_numbers_beside_integers_mean_the_same_in_traces(call, x, expected):
    assert cr.vmap(call)(cr.asarray(x)).tolist() == expected
    assert call(cr.asarray(x)).tolist() == expected


def test_lists_keep_their_history_and_the_default_dtype():
    x = cr.tensor(2.0)
    cr.sum([x, x * x]).backward()
    assert float(x.grad) == 5.0
    cr.multiply(cr.asarray([1.0, 2.0]), [x, x * x]).sum().backward()  # x + 2·x²
    assert float(x.grad) == 9.0
    assert cr.add(x, [1.0, 2.0]).dtype == cr.float32
    assert cr.matmul(cr.asarray([1.0, 2.0]), [1.0, 2.0]).dtype == cr.float32


def test_users_gates_cannot_write_into_the_graph():
    class Greedy(cr.Gate):
        def forward(self, x):
            x += 1
            return x

        def backward(self, upstream):
            upstream *= 3
            return upstream

    class Scales(Greedy):
        def forward(self, x):
            return x * 2

    x = cr.tensor(1.0)
    with pytest.raises(ValueError, match="read-only"):
        Greedy()(x)
    with pytest.raises(ValueError, match="read-only"):
        (Scales()(x) + x).backward()
    assert float(x) == 1.0


def test_a_gate_may_reuse_the_array_it_returns():
    class Buffered(Square):
        def __init__(self):
            self.out = np.zeros(2)

        def forward(self, x):
            self.x = x
            np.multiply(x, x, out=self.out)
            return self.out

    gate = Buffered()
    first = gate(cr.tensor(np.array([1.0, 2.0])))
    gate(cr.tensor(np.array([5.0, 6.0])))
    assert first.tolist() == [1.0, 4.0]


def test_numpy_gates_in_traced_gradients():
    gradient = cr.grad(lambda x: Square()(x).sum())
    graph, _ = trace(gradient, [ArrayType((2,), float64)])
    assert graph.evaluate(np.array([3.0, 4.0]))[0].tolist() == [6.0, 8.0]
    twice = cr.vmap(cr.vmap(cr.grad(lambda x: Square()(x))))
    assert twice(np.arange(4.0).reshape(2, 2)).tolist() == [[0.0, 2.0], [4.0, 6.0]]


def test_gradients_do_not_share_the_callers_array():
    a, b, g = cr.tensor([1.0, 1.0]), cr.tensor([1.0, 1.0]), np.ones(2, "f4")
    (a + b).backward(g)
    a.grad, given = g, a.grad
    g[:] = 100
    assert given.tolist() == b.grad.tolist() == a.grad.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "same",
    [
        lambda w: w.copy(), lambda w: w[:], lambda w: +w, lambda w: w.reshape(1),
        lambda w: cr.broadcast_to(w, (1,)), lambda w: np.copy(w),
    ],
)  # fmt: skip
def test_functions_that_change_nothing_give_the_value_of_now(same):
    w = cr.tensor([1.0])
    kept = same(w)
    w.assign([5.0])
    assert kept.tolist() == [1.0]
    (kept * kept).sum().backward()
    assert w.grad.tolist() == [2.0]


def test_augmented_assignment_inside_derivatives_makes_a_new_tensor():
    def f(x):
        x += 1
        return x * x

    assert float(cr.grad(f)(2.0)) == 6.0
    assert cr.vmap(f)(cr.asarray([1.0, 2.0])).tolist() == [4.0, 9.0]


@pytest.mark.parametrize("make", [cr.tensor, cr.Parameter])
def test_a_variable_before_and_after_assign_gets_both_gradients(make):
    w = make(1.0)
    y = w * 2
    w.assign(3.0)
    (y * w).backward()
    assert float(w.grad) == 2 * 3 + 2


def test_aux_does_not_carry_the_fresh_variable():
    _, aux = cr.grad(lambda x: (x * x, {"y": x * 3}), has_aux=True)(2.0)
    assert aux["y"].is_constant and float(aux["y"]) == 6.0


def test_a_dense_jacobian_is_kept_only_where_it_is_good():
    w = cr.tensor([2.0, 3.0])
    J = cr.jacobian(lambda x: w * x)(np.ones(2, "f4"))
    with cr.no_grad():
        assert J.todense().is_constant
    assert not J.todense().is_constant


def test_vmap_changes_nothing_outside():
    w = cr.tensor(1.0)
    with pytest.raises(TraceError, match=r"cr\.grad"):
        cr.vmap(lambda x: (w * x).backward())(cr.ones(2))
    with pytest.raises(TraceError, match="assigned inside vmap"):
        cr.vmap(lambda x: w.assign(x))(cr.ones(2))
    assert w.grad is None


@pytest.mark.parametrize("x", [True, np.arange(3), cr.asarray([1, 2])])
def test_only_floats_are_differentiated_by(x):
    with pytest.raises(DTypeError, match="cannot differentiate by (bool|int64)"):
        cr.vjp(lambda x: x * 1.0, x)


def test_small_edges():
    assert (cr.asarray([1, 2]) ** 2.0).dtype == cr.float64
    draws = cr.random.uniform(cr.random.key(5), 100_000, low=1.0, high=2.0)
    assert float(draws.max()) < 2.0 and float(draws.min()) >= 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert float(cr.scale_gradient(np.float64(1e160), np.float64(1e160))) == np.inf
    assert cr.linspace(0.0, cr.tensor(1.0), 3).tolist() == [0.0, 0.5, 1.0]
