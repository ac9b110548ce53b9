"""Tensor.backward: what it sets, adds, repeats, forgets; long chains; memory."""

import gc
import threading
import tracemalloc
import weakref

import numpy as np
import pytest

import chainrule as cr
from chainrule.core.types import ArrayType
from chainrule.errors import GradientError, MutationError, ShapeError
from chainrule.ops.tracing import trace

X = np.array([1.0, 2.0, 3.0])


def test_gradients_of_variables_and_of_held_intermediates():
    x, y, z = cr.tensor(-2.0), cr.tensor(5.0), cr.tensor(-4.0)
    q = x + y
    f = q * z
    f.backward()
    assert [float(t.grad) for t in (x, y, z, q, f)] == [-4, -4, 3, -4, 1]
    assert all(t.grad.is_constant for t in (x, y, z, q, f))


def test_fan_out_adds():
    x = cr.tensor(3.0)
    y = x * x + x * 2 + x
    y.backward()
    assert float(x.grad) == 2 * 3 + 2 + 1
    a = cr.tensor(2.0)
    b = a * 3
    (b * b + b).backward()
    assert float(b.grad) == 2 * 6 + 1
    assert float(a.grad) == 3 * 13


def test_repeating_backward_gives_the_same():
    x = cr.tensor(X)
    h = cr.exp(x)
    y = (h * h).sum()
    for _ in range(3):
        y.backward()
        np.testing.assert_array_equal(x.grad.numpy(), 2 * np.exp(X) ** 2)
        np.testing.assert_array_equal(h.grad.numpy(), 2 * np.exp(X))


def test_another_backward_replaces_what_stands_in_a_variable():
    x = cr.tensor(2.0)
    (x * 3).backward()
    (x * 5).backward()
    assert float(x.grad) == 5


def test_parameters_add_until_zero_grad():
    w = cr.Parameter([1.0, 2.0], name="w")
    y = (w * w).sum()
    y.backward()
    y.backward()
    (w * 10).sum().backward()
    assert w.grad.tolist() == [14, 18]
    w.zero_grad()
    assert w.grad is None
    y.backward()
    assert w.grad.tolist() == [2, 4]


def test_two_graphs_that_share_a_part():
    x = cr.tensor(2.0)
    shared = x * x
    first, second = shared * 3, shared * 5
    first.backward()
    assert (float(shared.grad), float(x.grad)) == (3, 12)
    second.backward()
    assert (float(shared.grad), float(x.grad)) == (5, 20)


def test_a_variable_that_nothing_flows_back_to_gets_zeros():
    x, y = cr.tensor(X), cr.tensor(2.0)
    (cr.floor(x).sum() * y).backward()
    assert x.grad.tolist() == [0, 0, 0]
    assert float(y.grad) == 6


def test_a_variable_is_its_own_gradient_1():
    x = cr.tensor(2.0)
    x.backward()
    assert float(x.grad) == 1


def test_the_gradient_argument():
    x = cr.tensor(X)
    y = x * x
    y.backward(np.array([1.0, 10.0, 100.0]))
    assert x.grad.tolist() == [2, 40, 600]
    y.backward(cr.asarray(np.ones(3, np.float32)))
    assert (x.grad.tolist(), x.grad.dtype) == ([2, 4, 6], np.float64)
    with pytest.raises(ShapeError, match=r"\(3,\), received \(2,\)"):
        y.backward(np.ones(2))
    with pytest.raises(GradientError, match="needs the gradient at it"):
        y.backward()
    one = cr.tensor([[5.0]]) * 2
    one.backward()  # one entry is a scalar in all but shape
    assert one.grad.shape == (1, 1)


def test_backward_of_a_constant_says_what_to_do():
    for constant in (cr.asarray(1.0), cr.tensor(2.0).detach() * 3, cr.tensor(2.0) > 1):
        with pytest.raises(GradientError, match="cr.tensor or cr.Parameter"):
            constant.backward()
    with cr.no_grad():
        y = cr.tensor(2.0) * 3
    with pytest.raises(GradientError, match="not inside cr.no_grad"):
        y.backward()


def test_gradients_have_the_dtype_of_their_tensor():
    x, y = cr.tensor(np.float32(2.0)), cr.tensor(np.float64(3.0))
    z = x * y
    assert z.dtype == np.float64
    z.backward()
    assert (x.grad.dtype, y.grad.dtype) == (np.float32, np.float64)
    narrow = cr.tensor(np.float64(1.0))
    narrow.astype(cr.float32).backward()
    assert narrow.grad.dtype == np.float64


def test_casts_to_integers_end_the_path():
    x = cr.tensor(2.5)
    assert x.astype(cr.int32).is_constant
    assert (x > 1).is_constant
    assert cr.argmax(cr.tensor(X)).is_constant


# -- assign ------------------------------------------------------------------------------------


def test_assign_between_forward_and_backward_keeps_the_recorded_graph_right():
    w = cr.tensor(3.0)
    y = w * w
    w.assign(100.0)
    y.backward()  # the graph was recorded at 3
    (gradient,) = [leaf.data for _, leaf in y.graph.captured]
    assert float(gradient) == 3
    z = w * w
    z.backward()
    assert float(w.grad) == 200


def test_assign_casts_copies_and_refuses_another_shape():
    w = cr.tensor(np.zeros(2, np.float32))
    new = np.array([1.0, 2.0])
    w.assign(new)
    new[0] = 50
    assert (w.tolist(), w.dtype) == ([1, 2], np.float32)
    w.assign(cr.tensor([3.0, 4.0]))
    assert w.is_variable
    with pytest.raises(ShapeError, match=r"the variable has \(2,\), the new value \(3,\)"):
        w.assign(np.zeros(3))
    for other in (cr.asarray(1.0), w * 2):
        with pytest.raises(MutationError, match="assign is for variables"):
            other.assign(1.0)


def test_a_training_loop():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 3))
    true = np.array([1.0, -2.0, 0.5])
    w = cr.Parameter(np.zeros(3))
    for _ in range(200):
        w.zero_grad()
        loss = ((cr.asarray(x) @ w - x @ true) ** 2).mean()
        loss.backward()
        w.assign(w - 0.1 * w.grad)
    np.testing.assert_allclose(w.numpy(), true, atol=1e-6)


def test_grad_can_be_set_and_is_checked():
    x = cr.tensor(X)
    x.grad = np.ones(3)
    assert x.grad.tolist() == [1, 1, 1]
    with pytest.raises(ShapeError, match=r"\(3,\), received \(2,\)"):
        x.grad = np.ones(2)
    for given in (cr.asarray([1, 2, 3]), cr.asarray([1.0, 2.0, 3.0], dtype=cr.float64)):
        w = cr.Parameter(np.ones(3, np.float32))
        w.grad = given
        assert w.grad.dtype == cr.float32 and w.grad.is_constant
        (w * 2).sum().backward()
        assert w.grad.dtype == cr.float32 and w.grad.tolist() == [3, 4, 5]
    with pytest.raises(ShapeError, match=r"\(3,\), received \(1, 3\)"):
        w.grad = cr.asarray([[1.0, 2.0, 3.0]], dtype=cr.float64)
    x.grad = None
    assert x.grad is None


# -- no_grad and detach ------------------------------------------------------------------------


def test_no_grad_as_block_and_decorator():
    x = cr.tensor(2.0)

    @cr.no_grad()
    def double(v):
        return v * 2

    assert double(x).is_constant
    assert double(x).is_constant  # a decorator works more than once
    with cr.no_grad():
        assert (x * 2).is_constant
        with cr.no_grad():
            assert (x * 2).is_constant
        assert (x * 2).is_constant
    assert not (x * 2).is_constant


def test_no_grad_is_of_its_thread():
    seen = []
    with cr.no_grad():
        thread = threading.Thread(target=lambda: seen.append((cr.tensor(1.0) * 2).is_constant))
        thread.start()
        thread.join()
    assert seen == [False]


def test_detach_shares_the_value_and_ends_the_path():
    x = cr.tensor(3.0)
    y = (x * x).detach()
    assert y.is_constant
    (y * x).backward()
    assert float(x.grad) == 9


# -- size and memory ---------------------------------------------------------------------------


def test_a_chain_of_a_hundred_thousand_gates():
    x = cr.tensor(1.0)
    y = x
    for _ in range(50_000):
        y = (y + 1.0) - 1.0
    assert len(y.graph) == 100_000
    y.backward()
    assert float(x.grad) == 1
    assert float(cr.jvp(_long, (1.0,), (1.0,))[1]) == 1
    reference = weakref.ref(x)
    del x, y  # must not recurse either
    gc.collect()
    assert reference() is None


def _long(x):
    for _ in range(3000):  # beyond Python's recursion limit
        x = (x + 1.0) - 1.0
    return x


def test_dropping_the_result_frees_the_graph_without_the_garbage_collector():
    gc.collect()
    gc.disable()
    try:
        x = cr.tensor(np.zeros(100_000))
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        y = x
        for _ in range(20):
            y = cr.sin(y)
        total = y.sum()
        total.backward()
        held = tracemalloc.get_traced_memory()[0] - before
        assert held > 20 * 800_000
        del y, total
        x.grad = None
        after = tracemalloc.get_traced_memory()[0] - before
        assert after < 100_000
    finally:
        tracemalloc.stop()
        gc.enable()


def test_backward_forgets_the_gradients_that_nobody_holds():
    x = cr.tensor(np.zeros(100_000))
    y = x
    for _ in range(20):
        y = cr.sin(y)
    total = y.sum()
    del y
    tracemalloc.start()
    try:
        total.backward()
        held, peak = tracemalloc.get_traced_memory()
        assert held < 2 * 800_000  # the gradient of x and little else
        assert peak < 8 * 800_000
    finally:
        tracemalloc.stop()


def test_an_intermediate_that_is_not_held_is_freed_with_its_gradient():
    x = cr.tensor(X)
    middle = weakref.ref(y := x * 2)
    z = (y * y).sum()
    del y
    assert middle() is None
    z.backward()
    np.testing.assert_array_equal(x.grad.numpy(), 8 * X)


# -- graphs ------------------------------------------------------------------------------------


def test_nodes_know_the_line_that_made_them():
    x = cr.tensor(2.0)
    y = x * x  # the line
    line = y.node.line
    assert "test_backward.py:" in line
    number = int(line.rsplit(":", 1)[1])
    with open(__file__) as source:
        assert source.read().splitlines()[number - 1].endswith("# the line")


def test_a_graph_prints():
    w = cr.Parameter([1.0, 2.0], name="w")
    text = str((cr.exp(w) * w).sum().graph)
    assert "graph(w: float32[2])" in text
    assert "%0: float32[2] = exp(w)" in text
    assert "%1: float32[2] = mul(%0, w)" in text
    assert "return %2" in text


def test_a_broken_graph_is_refused():
    x = cr.tensor(2.0)
    graph = (cr.exp(x) * x).graph
    graph.nodes.reverse()
    with pytest.raises(cr.errors.GraphError, match="before it is computed"):
        graph.verify()
    graph = (cr.exp(x) * x).graph
    graph.nodes.pop()
    with pytest.raises(cr.errors.GraphError, match="not computed by the graph"):
        graph.verify()
    with pytest.raises(cr.errors.GraphError, match="0 inputs, received 1"):
        graph.evaluate(1.0)
    with pytest.raises(GradientError, match="a constant has no graph"):
        _ = cr.asarray(1.0).graph


# -- in a trace --------------------------------------------------------------------------------


def test_backward_inside_a_trace_records_the_gradient():
    w = cr.Parameter(np.array([1.0, 2.0, 3.0]), name="w")

    def step(x):
        w.zero_grad()
        for factor in (1.0, 10.0):  # a Parameter adds up in traces too
            (cr.sin(w * x) * factor).sum().backward()
        total = w.grad
        w.zero_grad()
        return total

    graph, _ = trace(step, [ArrayType((3,), np.dtype("float64"))])
    for x in (X, X + 1):
        (received,) = graph.verify().evaluate(x)
        np.testing.assert_allclose(received, 11 * x * np.cos(w.numpy() * x))
    assert [handle for handle, _ in graph.captured] == [w]


def test_assign_inside_a_trace_is_an_assignment_of_the_graph():
    w = cr.Parameter(np.array([1.0, 2.0, 3.0]), name="w")

    def step(x):
        w.assign(w + x)
        w.assign(w * 2)  # reads the value assigned before
        return w * 1.0

    graph, _ = trace(step, [ArrayType((3,), np.dtype("float64"))])
    ((variable, _),) = graph.verify().assignments
    assert variable is w
    assert w.tolist() == [1, 2, 3]
    np.testing.assert_allclose(graph.evaluate(X)[0], 2 * (w.numpy() + X))
    assert "w := " in str(graph)
