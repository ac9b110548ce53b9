"""scan, cond, remat: what the rows of the case table (tests/ops/loops.py) do not say."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule.core.types import ArrayType
from chainrule.errors import DTypeError, GradientError, ShapeError, TraceError
from chainrule.ops.tracing import trace

RNG = np.random.default_rng(0)


def traced(function, *arrays):
    """The function through its traced graph, and the graph."""
    arrays = [np.asarray(x) for x in arrays]
    graph, structure = trace(function, [ArrayType(x.shape, x.dtype) for x in arrays])
    graph.verify()
    str(graph)
    return cr.ops.control.unflatten(structure, graph.evaluate(*arrays)), graph


def both(function, *arrays):
    """The result in eager, which the traced one equals."""
    eager = function(*arrays)
    result, _ = traced(function, *arrays)
    for a, b in zip(*(cr.ops.control.flatten(r)[0] for r in (eager, result)), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-12, atol=1e-12)
    return eager


# -- scan ----------------------------------------------------------------------------------------


def test_scan_is_the_loop_of_its_definition():
    xs = np.arange(5.0)
    carry, ys = both(lambda xs: cr.scan(lambda c, x: (c + x, c * x), 1.0 * xs[0], xs), xs)
    assert float(carry) == 10
    assert ys.tolist() == [0, 0, 2, 9, 24]


def test_scan_over_containers():
    xs = {"a": np.arange(6.0).reshape(3, 2), "b": (np.arange(3), None)}

    def step(carry, x):
        total, (count,) = carry
        return (total + x["a"], (count + x["b"][0],)), {"y": [x["a"], total.sum()], "none": None}

    init = (np.zeros(2), (np.int64(0),))
    (total, (count,)), ys = cr.scan(step, init, xs)
    assert total.tolist() == [6, 9]
    assert int(count) == 3
    assert ys["y"][0].shape == (3, 2)
    assert ys["y"][1].tolist() == [0, 1, 6]
    assert ys["none"] is None


@settings(max_examples=25, deadline=None)
@given(length=st.integers(0, 6), reverse=st.booleans(), size=st.integers(0, 3))
def test_lengths_and_directions(length, reverse, size):
    xs, w = RNG.normal(size=(length, size)), RNG.normal(size=(size, size))

    def function(xs, w):
        last, ys = cr.scan(
            lambda c, x: (cr.tanh(c @ w + x), c * x), cr.zeros(size, dtype=cr.float64), xs,
            reverse=reverse,
        )  # fmt: skip
        return (last**3).sum() + (ys * ys).sum()

    both(function, xs, w)
    both(cr.grad(function, wrt=(0, 1)), xs, w)
    both(cr.grad(lambda xs: cr.grad(function, wrt=1)(xs, w).sum()), xs)


def test_a_loop_of_no_steps_has_results_of_the_right_type():
    carry, ys = both(
        lambda xs: cr.scan(lambda c, x: (c, (x * 2, x.astype(cr.int32))), xs.sum(), xs),
        np.zeros((0, 3)),
    )
    assert float(carry) == 0
    assert (ys[0].shape, ys[1].dtype) == ((0, 3), np.int32)


def test_a_hundred_thousand_gates_in_a_traced_loop_are_one_node():
    _, graph = traced(lambda x: cr.scan(lambda c, _: (cr.sin(c), None), x, length=100_000)[0], 1.0)
    assert [n.name for n in graph.nodes] == ["scan", "item"]


def test_the_gradient_of_captured_weights_is_one_contraction_after_the_loop():
    w, b = cr.Parameter(RNG.normal(size=(3, 3))), cr.Parameter(RNG.normal(size=3))

    def loss(xs):
        h, _ = cr.scan(lambda h, x: (cr.tanh(h @ w + b + x), None), cr.zeros_like(xs[0]), xs)
        return (h * h).sum()

    def gradients(xs):
        def by(w2, b2):
            h, _ = cr.scan(lambda h, x: (cr.tanh(h @ w2 + b2 + x), None), cr.zeros_like(xs[0]), xs)
            return (h * h).sum()

        return cr.grad(by, wrt=(0, 1))(w, b)

    xs = RNG.normal(size=(7, 2, 3))
    (by_w, by_b), graph = traced(gradients, xs)
    outside = [n for n in graph.nodes if n.name == "contract"]
    assert len(outside) == 1
    assert [len(t.shape) for t in (outside[0].inputs[0].type, outside[0].type)] == [3, 2]
    loops = [n for n in graph.nodes if n.name == "scan"]
    backward = loops[1].primitive.bodies(loops[1].params)[0]
    assert sum(n.name == "contract" for n in backward.nodes) == 1  # the carry's; not the weights'
    loss(xs).backward()
    np.testing.assert_allclose(by_w, w.grad, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(by_b, b.grad, rtol=1e-12, atol=1e-12)


def test_what_is_the_same_in_every_step_leaves_the_loop():
    def function(xs, w):
        return cr.scan(lambda c, x: (c @ cr.exp(w.T) + x, None), cr.zeros_like(xs[0]), xs)[0]

    _, graph = traced(function, RNG.normal(size=(4, 2)), RNG.normal(size=(2, 2)))
    names = [n.name for n in graph.nodes]
    assert {"permute", "exp"} <= set(names)
    body = next(n for n in graph.nodes if n.name == "scan")
    assert {n.name for n in body.primitive.bodies(body.params)[0].nodes} == {"contract", "add"}


def test_only_what_is_used_is_stacked():
    def function(xs):
        return cr.scan(lambda c, x: (cr.sin(c + x), cr.exp(c)), xs[0], xs)[0]

    _, graph = traced(function, RNG.normal(size=(4, 2)))
    node = next(n for n in graph.nodes if n.name == "scan")
    out = node.primitive.forward(np.ones(2), np.ones((4, 2)), **node.params)
    assert [o is None for o in out] == [False] + [True] * (len(out) - 1)


def test_a_variable_that_the_body_assigns_is_carried():
    def run(xs):
        count = cr.tensor(np.float64(10.0))

        def step(c, x):
            c = c + x * count
            count.assign(count + 1)
            return c, count * 1

        carry, ys = cr.scan(step, 0.0 * xs[0], xs)
        return carry, ys, count * 1

    carry, ys, count = both(run, np.ones(3))
    assert float(carry) == 10 + 11 + 12
    assert ys.tolist() == [11, 12, 13]
    assert float(count) == 13


def test_an_assigned_variable_outlives_the_trace_as_an_assignment():
    count = cr.tensor(0.0)

    def function(xs):
        def step(c, x):
            count.assign(count + 1)
            return c + x, None

        return cr.scan(step, xs.sum() * 0, xs)[0]

    _, graph = traced(function, np.ones(4))
    (variable, value), = graph.assignments  # fmt: skip
    assert variable is count
    assert value.type == ((), cr.float32)
    assert float(count) == 0


def test_running_statistics_in_a_loop_can_be_differentiated_past():
    mean = cr.tensor(np.zeros(2))

    def loss(x):
        def step(c, row):
            mean.assign(0.9 * mean + 0.1 * cr.stop_gradient(row))
            return c + (row * row).sum(), None

        return cr.scan(step, 0.0 * x.sum(), x)[0]

    x = RNG.normal(size=(3, 2))
    np.testing.assert_allclose(cr.grad(loss)(x), 2 * x)
    result, _ = traced(cr.grad(loss), x)
    np.testing.assert_allclose(result, 2 * x)


def test_a_gradient_to_a_variable_before_its_assignment_is_refused_in_a_traced_loop():
    w = cr.tensor(np.float64(2.0))

    def loss(v, xs):
        def step(c, x):
            c = c + x * w * v
            w.assign(w + 1)
            return c, None

        return cr.scan(step, 0.0 * xs[0], xs)[0]

    # by v alone there is nothing to refuse
    result, _ = traced(lambda xs: cr.grad(loss)(1.0, xs), np.ones(2))
    assert float(result) == 5

    def by_backward(xs):
        loss(1.0, xs).backward()

    with pytest.raises(GradientError, match="read and then assigned"):
        trace(by_backward, [ArrayType((2,), np.dtype("float64"))])


def test_a_variable_that_the_body_returns_is_its_value_in_that_step():
    for body, expected in (
        (lambda v: lambda c, _: (v.assign(v + 1) or c, v), [1, 2, 3]),
        (lambda v: lambda c, _: (v.assign(v + 1) or v, c), [0, 1, 2]),
    ):
        v = cr.tensor(0.0)
        assert cr.scan(body(v), 0.0, length=3)[1].tolist() == expected

        def run(x, body=body):
            v = cr.tensor(0.0)
            return cr.scan(body(v), 0.0 * x, length=3)[1]

        assert traced(run, np.float32(1))[0].tolist() == expected


def test_constant_carries_and_results():
    def f(w):
        last, ys = cr.scan(lambda c, x: (np.zeros(2), (c * w, np.ones(3))), w, length=3)
        return ys[0].sum() + last.sum() + ys[1].sum()

    w = np.ones(2)
    np.testing.assert_allclose(both(cr.grad(f), w), [2, 2])
    np.testing.assert_allclose(cr.vmap(cr.grad(f))(np.ones((2, 2))), [[2, 2], [2, 2]])


def test_jacobians_of_loops_inside_vmap_and_traces():
    def f(w):
        return cr.scan(lambda c, _: (c * w, None), w, length=2)[0]

    w = RNG.normal(size=(3, 2))
    for kind in (cr.jacobian, lambda f: cr.hessian(lambda w: f(w).sum())):
        rows = cr.vmap(lambda w, kind=kind: kind(f)(w).todense())(w)
        for row, one in zip(rows, w, strict=True):
            np.testing.assert_allclose(row, kind(f)(one).todense(), rtol=1e-12)
    both(lambda w: cr.jacobian(f)(w).todense(), w[0])


@pytest.mark.parametrize("gate", ["remat", "cond", "scan"])
def test_integer_results_have_no_tangent(gate):
    def inside(x):
        return cr.floor(x).astype(cr.int64), x * 2

    def f(x):
        if gate == "remat":
            i, y = cr.remat(inside)(x)
        elif gate == "cond":
            i, y = cr.cond(x.sum() > -99, inside, inside, x)
        else:
            _, (i, y) = cr.scan(lambda c, row: (c, inside(row)), 0.0, x)
        return (y * (i * 2)).sum()

    x = np.ones((2, 2)) * 1.5
    moved = cr.vmap(lambda x: cr.jvp(f, (x,), (np.ones(2),))[1])(x)
    np.testing.assert_allclose(moved, [8, 8])
    np.testing.assert_allclose(cr.vmap(cr.grad(f))(x), np.full((2, 2), 4.0))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: cr.scan(lambda c, x: c, 0.0, np.ones(3)), ShapeError, "pair .carry, y."),
        (lambda: cr.scan(lambda c, x: (c, x), 0.0), ShapeError, "how many steps"),
        (lambda: cr.scan(lambda c, x: (c, x), 0.0, np.ones(3), length=4), ShapeError, "[3, 4]"),
        (lambda: cr.scan(lambda c, x: (c, x), 0.0, (np.ones(3), np.ones(2))), ShapeError, "[2, 3]"),
        (lambda: cr.scan(lambda c, x: (c, x), 0.0, np.float64(1)), ShapeError, "0-d"),
        (lambda: cr.scan(lambda c, x: (c + x, x), 0.0, np.ones((3, 2))), ShapeError,
         "is () at first and (2,)"),
        (lambda: cr.scan(lambda c, x: (c + x, x), 0.0, np.ones(3)), DTypeError,
         "is float32 at first and float64"),
        (lambda: cr.scan(lambda c, x: ((c, c), x), 0.0, np.ones(3)), ShapeError, "container like"),
        (lambda: cr.scan(lambda c, x: (c + 1, x if float(c) else (x, x)), np.float64(0),
                         np.ones(3)), ShapeError, "alike in every step"),
    ],
)  # fmt: skip
def test_a_wrong_scan_is_refused(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message.replace("pair .carry, y.", "pair (carry, y)") in str(caught.value)


def test_backward_inside_a_traced_body_adds_to_no_gradient_from_outside():
    w = cr.Parameter(2.0)

    def step(c, x):
        if reset:
            w.zero_grad()
        (w * w * x).backward()
        w.assign(w - w.grad)
        return c, w.grad

    reset = False
    with pytest.raises(TraceError, match="call zero_grad"):
        trace(lambda xs: cr.scan(step, 0.0, xs), [ArrayType((2,), cr.float32)])
    reset = True
    xs = np.array([0.1, 0.2], np.float32)
    graph, _ = trace(lambda xs: cr.scan(step, 0.0, xs)[1], [ArrayType((2,), cr.float32)])
    assert w.grad is None
    traced = graph.evaluate(xs)[0]
    np.testing.assert_allclose(traced, cr.scan(step, 0.0, xs)[1])


def test_gradients_inside_a_traced_body():
    def function(xs):
        return cr.scan(lambda c, x: (c + cr.grad(lambda v: (v * v * c).sum())(x), c), xs[0], xs)

    both(function, RNG.normal(size=(3, 2)))
    both(cr.grad(lambda xs: (function(xs)[0] ** 2).sum()), RNG.normal(size=(3, 2)))


def test_per_example_gradients_through_a_loop():
    w, xs = RNG.normal(size=(2, 2)), RNG.normal(size=(5, 3, 2))

    def loss(w, xs):
        h, ys = cr.scan(lambda h, x: (cr.tanh(h @ w + x), h.sum()), cr.zeros_like(xs[0]), xs)
        return (h * h).sum() + ys.sum()

    rows = cr.vmap(cr.grad(loss), in_axes=(None, 0))(w, xs)
    for row, x in zip(rows, xs, strict=True):
        np.testing.assert_allclose(row, cr.grad(loss)(w, x), rtol=1e-12)


# -- cond ----------------------------------------------------------------------------------------


def test_in_eager_only_the_chosen_side_runs():
    ran = []
    cr.cond(True, lambda: ran.append("true"), lambda: ran.append("false"))
    cr.cond(np.float32(0), lambda: ran.append("true"), lambda: ran.append("false"))
    assert ran == ["true", "false"]


def test_cond_of_containers_and_what_is_outside():
    z = cr.tensor(np.float64(3.0))

    def function(x, flag):
        return cr.cond(flag, lambda d: {"y": d["a"] * z}, lambda d: {"y": d["a"] - 1}, {"a": x})

    for flag in (np.True_, np.False_):
        both(function, np.ones(2), flag)
        both(lambda x, f: cr.grad(lambda x: function(x, f)["y"].sum())(x), np.ones(2), flag)


def test_a_variable_assigned_on_one_side_keeps_its_value_on_the_other():
    def run(flag):
        count = cr.tensor(np.float64(5.0))

        def true():
            count.assign(count * 2)
            return count + 1

        result = cr.cond(flag, true, lambda: cr.asarray(np.float64(0.0)))
        return result, count * 1

    assert [float(r) for r in both(run, np.True_)] == [11, 10]
    assert [float(r) for r in both(run, np.False_)] == [0, 5]


def test_a_predicate_that_differs_between_examples_selects():
    def function(x):
        return cr.cond(x.sum() > 0, lambda x: cr.sqrt(x.sum()) * x, lambda x: x * 2, x)

    x = RNG.normal(size=(6, 2))
    with np.errstate(invalid="ignore"):
        rows = cr.vmap(function)(x)
        slopes = cr.vmap(cr.grad(lambda x: function(x).sum()))(x)
    for row, slope, one in zip(rows, slopes, x, strict=True):
        np.testing.assert_allclose(row, function(one))
        np.testing.assert_allclose(slope, cr.grad(lambda x: function(x).sum())(one))


@pytest.mark.parametrize(
    ("true", "false", "message"),
    [
        (lambda x: x, lambda x: (x, x), "like containers"),
        (lambda x: x, lambda x: x.sum(), "result 0 is float64[2] and float64[]"),
        (lambda x: x, lambda x: x.astype(cr.float32), "float64[2] and float32[2]"),
    ],
)
def test_sides_that_do_not_fit_are_refused_when_traced(true, false, message):
    with pytest.raises(ShapeError) as caught:
        traced(lambda x: cr.cond(x.sum() > 0, true, false, x), np.ones(2))
    assert message in str(caught.value)


def test_more_than_one_predicate_is_refused():
    with pytest.raises(ShapeError, match="cr.where selects"):
        cr.cond(np.ones(2, bool), lambda: 1.0, lambda: 2.0)


# -- remat ---------------------------------------------------------------------------------------


def test_remat_differentiates_what_is_read_from_outside():
    w = cr.Parameter(RNG.normal(size=(3, 3)))
    x = RNG.normal(size=(2, 3))

    def loss(call):
        w.grad = None
        (call(lambda x: cr.tanh(x @ w))(x) ** 2).sum().backward()
        return np.asarray(w.grad)

    np.testing.assert_array_equal(loss(cr.remat), loss(lambda f: f))


def test_remat_uses_the_values_of_its_call():
    w = cr.tensor(np.float64(2.0))
    y = cr.remat(lambda x: cr.sin(x * w))(np.float64(3.0))
    w.assign(100.0)
    before = cr.tensor(np.float64(2.0))
    cr.sin(3.0 * before).backward()
    x = cr.tensor(np.float64(3.0))
    z = cr.remat(lambda x: cr.sin(x * before))(x)
    before.assign(7.0)
    z.backward()
    np.testing.assert_allclose(float(x.grad), 2 * np.cos(6.0))
    assert float(y) == np.sin(6.0)


def test_random_numbers_are_the_same_both_times_and_counters_move_once():
    count = cr.tensor(np.float64(0.0))

    def noisy(x):
        key = cr.random.fold_in(cr.random.key(0), count.astype(cr.int64))
        count.assign(count + 1)
        return x * cr.random.uniform(key, x.shape, dtype=x.dtype)

    x = cr.tensor(np.ones(4))
    y = cr.remat(noisy)(x)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, y)
    assert float(count) == 1


def test_remat_keeps_only_its_inputs():
    def chain(x):
        for _ in range(50):
            x = cr.sin(x)
        return x

    def held(function):
        x = cr.tensor(np.ones(10_000))
        tracemalloc.start()
        y = function(x)
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        y.sum().backward()
        return size, np.asarray(x.grad)

    (small, gradient), (large, expected) = held(cr.remat(chain)), held(chain)
    assert small < large / 10
    np.testing.assert_array_equal(gradient, expected)


def test_gates_with_several_outputs_are_computed_again_too():
    xs = RNG.normal(size=(3, 2))

    def f(w):
        last, ys = cr.scan(lambda c, x: (c * w + x, c * x), np.zeros(2), xs)
        first, second, _ = cr.unstack(ys)
        return (last * first * second + cr.cond(w.sum() > 0, cr.sin, cr.cos, w)).sum()

    w = RNG.normal(size=2)
    np.testing.assert_allclose(both(cr.grad(cr.remat(f)), w), cr.grad(f)(w), rtol=1e-12)
    rows = cr.vmap(cr.remat(f))(np.stack([w, -w, 2 * w]))
    np.testing.assert_allclose(rows, [f(w), f(-w), f(2 * w)], rtol=1e-12)


def test_remat_under_no_grad_is_the_function():
    with cr.no_grad():
        assert cr.remat(lambda x: float(x) + 1)(cr.asarray(1.0)) == 2


def test_the_gates_inside_are_computed_again_in_the_traced_backward_pass():
    def loss(x):
        return cr.remat(lambda x: cr.exp(cr.sin(x)))(x).sum()

    result, graph = traced(cr.grad(loss), np.ones(3))
    np.testing.assert_allclose(result, np.cos(1) * np.exp(np.sin(1)) * np.ones(3))
    assert [n.name for n in graph.nodes].count("sin") == 1


def test_remat_to_any_order_in_both_modes():
    f = cr.remat(lambda x: (cr.sin(x) ** 3).sum())
    g = lambda x: (cr.sin(x) ** 3).sum()  # noqa: E731
    x, v = RNG.normal(size=3), RNG.normal(size=3)
    for order in (cr.grad, lambda f: cr.grad(lambda x: (cr.grad(f)(x) ** 2).sum())):
        np.testing.assert_allclose(both(order(f), x), order(g)(x), rtol=1e-12)
    np.testing.assert_allclose(
        both(lambda x: cr.jvp(cr.grad(f), (x,), (v,))[1], x), cr.hvp(g)(x, v), rtol=1e-12
    )
