"""Users' own gates: in plain NumPy (Gate) and in chainrule's operations (TensorGate)."""

import pickle

import numpy as np
import pytest

import chainrule as cr
from chainrule.core.bare import xp
from chainrule.core.types import ArrayType
from chainrule.errors import CheckError, GateError, GradientError
from chainrule.ops.custom import Custom
from chainrule.ops.tracing import trace

X, Y = np.array([1.0, 2.0, 3.0]), np.array([0.5, -1.0, 2.0])


class Multiply(cr.Gate):
    """Remembers its inputs, as the course's gates do."""

    def forward(self, x, y):
        self.x, self.y = x, y
        return x * y

    def backward(self, upstream):
        return [upstream * self.y, upstream * self.x]


class Polar(cr.Gate):
    """Two outputs."""

    def forward(self, r, angle):
        self.r, self.angle = r, angle
        return r * np.cos(angle), r * np.sin(angle)

    def backward(self, dx, dy):
        c, s = np.cos(self.angle), np.sin(self.angle)
        return dx * c + dy * s, self.r * (dy * c - dx * s)


class Cube(cr.TensorGate):
    def forward(self, x):
        return x * x * x

    def backward(self, upstream, out, x):
        return [upstream * 3 * x * x]


class SinCos(cr.TensorGate):
    """Two outputs; its backward uses them."""

    def forward(self, x):
        return cr.sin(x), cr.cos(x)

    def backward(self, by_sin, by_cos, out, x):
        sin, cos = out
        return [by_sin * cos - by_cos * sin]


class Exponential(cr.TensorGate):
    """Its backward uses its output."""

    def forward(self, x):
        return cr.exp(x)

    def backward(self, upstream, out, x):
        return [upstream * out]


# -- Gate --------------------------------------------------------------------------------------


def test_a_gate_in_reverse_and_forward_mode():
    def f(x, y):
        return (Multiply()(x, y) * x).sum()

    by_x, by_y = cr.grad(f, wrt=(0, 1))(X, Y)
    np.testing.assert_allclose(np.asarray(by_x), 2 * X * Y)
    np.testing.assert_allclose(np.asarray(by_y), X**2)
    _, moved = cr.jvp(Multiply(), (X, Y), (Y, X))
    np.testing.assert_allclose(np.asarray(moved), Y**2 + X**2)
    x = cr.tensor(X)
    f(x, Y).backward()
    np.testing.assert_allclose(np.asarray(x.grad), 2 * X * Y)


def test_one_object_used_twice_keeps_its_uses_apart():
    gate = Multiply()
    x = cr.tensor(X)
    (gate(x, Y) + gate(x, x)).sum().backward()
    np.testing.assert_allclose(np.asarray(x.grad), Y + 2 * X)


def test_jacobians_and_vmap_of_a_gate():
    J = cr.jacobian(lambda x: Multiply()(x, Y))(X)
    np.testing.assert_allclose(np.asarray(J.todense()), np.diag(Y))
    np.testing.assert_allclose(np.asarray(J @ X), X * Y)
    np.testing.assert_allclose(np.asarray(X @ J), X * Y)
    rows = np.stack([X, Y])
    products = cr.vmap(Multiply(), in_axes=(0, None))(rows, Y)
    np.testing.assert_allclose(np.asarray(products), rows * Y)


def test_a_gate_with_several_outputs():
    def f(r, angle):
        x, y = Polar()(r, angle)
        return (x * x * y).sum()

    def reference(r, angle):
        return (r**3 * np.cos(angle) ** 2 * np.sin(angle)).sum()

    by_r, by_angle = cr.grad(f, wrt=(0, 1))(X, Y)
    h = 1e-6
    np.testing.assert_allclose(float(f(cr.asarray(X), Y)), reference(X, Y))
    np.testing.assert_allclose(
        np.asarray(by_r).sum(), (reference(X + h, Y) - reference(X - h, Y)) / 2 / h, rtol=1e-8
    )
    np.testing.assert_allclose(
        np.asarray(by_angle).sum(), (reference(X, Y + h) - reference(X, Y - h)) / 2 / h, rtol=1e-8
    )
    (mx, my) = cr.jvp(Polar(), (X, Y), (np.ones(3), np.zeros(3)))[1]
    np.testing.assert_allclose(np.asarray(mx), np.cos(Y))
    np.testing.assert_allclose(np.asarray(my), np.sin(Y))
    only = cr.grad(lambda r: Polar()(r, Y)[1].sum())(X)  # the other output gets 0
    np.testing.assert_allclose(np.asarray(only), np.sin(Y))
    both = cr.vmap(Polar())(np.stack([X, Y]), np.stack([Y, X]))
    np.testing.assert_allclose(np.asarray(both[0])[1], Y * np.cos(X))


def test_backward_is_called_once_with_the_whole_upstream():
    calls = []

    class Watched(cr.Gate):
        def forward(self, x, y):
            return x + y

        def backward(self, upstream):
            calls.append(upstream.copy())
            return [upstream, upstream]

    x = cr.tensor(X)
    y = Watched()(x, x)
    (y * 2 + y * y).sum().backward()
    assert len(calls) == 1
    np.testing.assert_allclose(calls[0], 2 + 4 * X)
    np.testing.assert_allclose(np.asarray(x.grad), 2 * (2 + 4 * X))


def test_none_is_no_gradient():
    class Left(cr.Gate):
        def forward(self, x, y):
            return x * 1.0

        def backward(self, upstream):
            return [upstream, None]

    x, y = cr.tensor(X), cr.tensor(Y)
    Left()(x, y).sum().backward()
    assert x.grad.tolist() == [1, 1, 1]
    assert y.grad.tolist() == [0, 0, 0]
    assert cr.grad(lambda v: Left()(X, v).sum())(Y).tolist() == [0, 0, 0]
    assert cr.jvp(lambda v: Left()(X, v), (Y,), (Y,))[1].tolist() == [0, 0, 0]


def test_gradients_are_cast_to_the_dtype_of_the_input():
    gradient = cr.grad(lambda x: Multiply()(x, np.float64(2.0) * X).sum())(X.astype(np.float32))
    assert gradient.dtype == np.float32


def test_a_gate_on_constants_is_a_constant():
    assert Multiply()(X, Y).is_constant
    with cr.no_grad():
        assert Multiply()(cr.tensor(X), Y).is_constant


def bad_gate(forward=lambda x: x * 1.0, backward=lambda u: [u]):
    class Bad(cr.Gate):
        pass

    Bad.forward = lambda self, *xs: forward(*xs)
    Bad.backward = lambda self, *us: backward(*us)
    return Bad()


@pytest.mark.parametrize(
    ("gate", "inputs", "message"),
    [
        (bad_gate(backward=lambda u: [u, u]), 1, "2 gradients for 1 inputs"),
        (bad_gate(lambda x, y: x + y), 2, "1 gradients for 2 inputs"),
        (bad_gate(backward=lambda u: [u.sum()]), 1, "shape () for input 0 of shape (3,)"),
        (bad_gate(backward=lambda u: [np.ones(4)]), 1, "shape (4,) for input 0 of shape (3,)"),
        (bad_gate(lambda x: "text"), 1, "must return an array (or a tuple of arrays)"),
        (bad_gate(lambda x: None), 1, "it returned NoneType"),
    ],
)
def test_a_broken_gate_is_told_what_is_wrong(gate, inputs, message):
    with pytest.raises(GateError) as caught:
        gate(*(cr.tensor(X) for _ in range(inputs))).sum().backward()
    assert message in str(caught.value)
    assert str(caught.value).startswith("Bad.")


def test_a_gate_without_its_methods_says_which():
    class Empty(cr.Gate):
        pass

    with pytest.raises(GateError, match="Empty must define forward"):
        Empty()(1.0)


def test_second_derivatives_of_a_numpy_gate_say_to_write_a_tensor_gate():
    message = "has only a first derivative; write it as a cr.TensorGate"

    def total(x):
        return (Multiply()(x, x) * x).sum()

    with pytest.raises(GradientError, match=message):
        cr.grad(lambda x: cr.grad(total)(x).sum())(X)
    with pytest.raises(GradientError, match=message):
        cr.hvp(total)(X, X)
    with pytest.raises(GradientError, match=message):
        cr.grad(lambda x: cr.jvp(total, (x,), (X,))[1])(X)


def test_a_numpy_gate_beside_an_outer_variable():
    """The gradient depends on w and is recorded; only a second one by the gate is refused."""
    w = cr.tensor(2.0)
    for derivative in (
        cr.grad(lambda x: (w * Multiply()(x, Y)).sum()),
        lambda x: cr.jvp(lambda v: w * Multiply()(v, Y), (x,), (np.ones(3),))[1],
    ):
        result = derivative(X)
        np.testing.assert_allclose(np.asarray(result), 2 * Y)
    with pytest.raises(GradientError, match="only a first derivative"):
        cr.grad(lambda x: (w * Multiply()(x, Y)).sum())(X).sum().backward()


def test_vmap_and_traces_of_the_gradient_of_a_numpy_gate():
    rows = np.stack([X, Y])
    gradient = cr.grad(lambda x: (Multiply()(x, x) * x).sum())
    np.testing.assert_allclose(np.asarray(cr.vmap(gradient)(rows)), 3 * rows**2)
    moved = cr.vmap(lambda x: cr.jvp(lambda v: Multiply()(v, v), (x,), (x,))[1])(rows)
    np.testing.assert_allclose(np.asarray(moved), 2 * rows**2)
    graph, _ = trace(gradient, [ArrayType((3,), np.dtype("float64"))])
    for x in (X, Y):
        np.testing.assert_allclose(graph.verify().evaluate(x)[0], 3 * x**2)


def test_upstreams_of_several_outputs_that_depend_on_a_variable():
    u = cr.tensor(Y)
    _, pull = cr.vjp(SinCos(), X)
    pull((u, u * 2))[0].sum().backward()
    np.testing.assert_allclose(np.asarray(u.grad), np.cos(X) - 2 * np.sin(X))


def test_check_gradients_finds_a_wrong_gate():
    cr.check_gradients(lambda x, y: Multiply()(x, y).sum(), X, Y)

    class Wrong(Multiply):
        def backward(self, upstream):
            return [upstream * self.y, upstream * self.y]

    with pytest.raises(CheckError):
        cr.check_gradients(lambda x, y: Wrong()(x, y).sum(), X, Y)


# -- TensorGate --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gate", "derivatives"),
    [
        (Cube(), [lambda x: 3 * x**2, lambda x: 6 * x, lambda x: 6 + 0 * x]),
        (Exponential(), [np.exp, np.exp, np.exp]),
        (lambda x: SinCos()(x)[0], [np.cos, lambda x: -np.sin(x), lambda x: -np.cos(x)]),
        (lambda x: SinCos()(x)[1], [lambda x: -np.sin(x), lambda x: -np.cos(x), np.sin]),
    ],
    ids=["cube", "exponential", "sin", "cos"],
)
def test_tensor_gates_to_third_order_in_both_modes(gate, derivatives):
    reverse = forward = gate
    for expected in derivatives:
        reverse, forward = _reverse(reverse), _forward(forward)
        np.testing.assert_allclose(np.asarray(reverse(X)), expected(X), rtol=1e-12)
        np.testing.assert_allclose(np.asarray(forward(X)), expected(X), rtol=1e-12)
    mixed = _forward(_reverse(_forward(gate)))
    np.testing.assert_allclose(np.asarray(mixed(X)), derivatives[2](X), rtol=1e-12)


def _reverse(function):
    return cr.grad(lambda x: cr.sum(function(x)))


def _forward(function):
    return lambda x: cr.jvp(function, (x,), (np.ones(3),))[1]


def test_tensor_gates_in_vmap_and_jacobian():
    rows = np.stack([X, Y])
    np.testing.assert_allclose(np.asarray(cr.vmap(Cube())(rows)), rows**3)
    np.testing.assert_allclose(np.asarray(cr.vmap(_reverse(Cube()))(rows)), 3 * rows**2)
    np.testing.assert_allclose(np.asarray(cr.jacobian(Cube())(X).todense()), np.diag(3 * X**2))
    hessian = cr.hessian(lambda x: Cube()(x).sum())(X).todense()
    np.testing.assert_allclose(np.asarray(hessian), np.diag(6 * X))
    sin, cos = cr.vmap(SinCos())(rows)
    np.testing.assert_allclose(np.asarray(sin), np.sin(rows))
    np.testing.assert_allclose(np.asarray(cos), np.cos(rows))


def test_a_tensor_gate_is_checked_too():
    class Short(Cube):
        def backward(self, upstream, out, x):
            return []

    with pytest.raises(GateError, match="Short.backward returned 0 gradients for 1 inputs"):
        cr.grad(lambda x: Short()(x).sum())(X)


def test_a_gate_can_be_pickled_with_its_class():
    gate = pickle.loads(pickle.dumps(Cube()))
    assert float(cr.grad(gate)(2.0)) == 12


def test_the_primitive_of_a_gate_keeps_the_object_as_it_was_given():
    x, y = np.array([3.0]), np.array([4.0])
    primitive = Custom(Multiply())
    out = primitive.forward(x, y)
    for copy in (primitive, pickle.loads(pickle.dumps(primitive))):
        assert [g.tolist() for g in copy.pull_all(xp, x, out, (x, y), {})] == [[12.0], [9.0]]
        assert not vars(copy.given)
