"""grad, value_and_grad, vjp, jvp, hvp, jacobian, hessian: containers, arguments, nesting."""

from collections import OrderedDict, namedtuple

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import AxisError, DTypeError, GradientError, ShapeError

X = np.array([1.0, 2.0, 3.0])
Point = namedtuple("Point", "x y")


def cube(x):
    return (x**3).sum()


# -- containers and arguments ------------------------------------------------------------------


def test_gradients_are_containers_like_the_argument():
    def loss(p):
        total = (p["layers"][0]["w"] * p["layers"][0]["b"]).sum()
        return total + (p["layers"][1]["w"] ** 2).sum() + p["scale"] * p["pair"][1]

    p = {
        "layers": [{"w": X, "b": X + 1}, {"w": np.ones((2, 2))}],
        "scale": 2.0,
        "pair": (3.0, np.float32(4.0)),
    }
    g = cr.grad(loss)(p)
    assert g.keys() == p.keys()
    assert g["layers"][0]["w"].tolist() == [2, 3, 4]
    assert g["layers"][0]["b"].tolist() == [1, 2, 3]
    assert g["layers"][1]["w"].tolist() == [[2, 2], [2, 2]]
    assert isinstance(g["pair"], tuple)
    assert (float(g["scale"]), float(g["pair"][0]), float(g["pair"][1])) == (4, 0, 2)


@pytest.mark.parametrize(
    "make",
    [
        lambda a, b: [a, b],
        lambda a, b: (a, (b,)),
        lambda a, b: {"b": b, "a": a},
        lambda a, b: OrderedDict(b=b, a=a),
        lambda a, b: Point(a, b),
        lambda a, b: {"all": Point([a], {"b": b}), "nothing": (), "none": None},
    ],
)
def test_every_container_goes_in_and_comes_out(make):
    import optree

    def loss(tree):
        return sum((leaf**2).sum() for leaf in optree.tree_leaves(tree))

    tree = make(X, np.float64(5.0))
    result = cr.grad(loss)(tree)
    assert optree.tree_structure(result) == optree.tree_structure(tree)
    for leaf, gradient in zip(optree.tree_leaves(tree), optree.tree_leaves(result), strict=True):
        np.testing.assert_array_equal(np.asarray(gradient), 2 * leaf)
    _, moved = cr.jvp(loss, (tree,), (tree,))
    assert float(moved) == 2 * (14 + 25)
    value, pull = cr.vjp(lambda t: t, tree)
    assert optree.tree_structure(value) == optree.tree_structure(tree)
    assert optree.tree_structure(pull(tree)[0]) == optree.tree_structure(tree)


@pytest.mark.parametrize(
    ("wrt", "expected"),
    [
        (0, 5.0), (1, 2.0), (-1, 2.0), ("a", 5.0), ("b", 2.0), ((0, 1), (5.0, 2.0)),
        (("b", 0), (2.0, 5.0)), ((1,), (2.0,)), (["a", "b"], (5.0, 2.0)),
    ],
)  # fmt: skip
def test_wrt_names_the_argument(wrt, expected):
    result = cr.grad(lambda a, b: a * b, wrt=wrt)(2.0, 5.0)
    if isinstance(expected, tuple):
        assert isinstance(result, tuple)
        assert tuple(map(float, result)) == expected
    else:
        assert float(result) == expected


def test_wrt_finds_keyword_arguments():
    def loss(a, *, b, c=3.0):
        return a * b * c

    assert float(cr.grad(loss, wrt="b")(2.0, b=5.0)) == 6
    assert [float(g) for g in cr.grad(loss, wrt=(0, "c"))(2.0, b=5.0, c=1.0)] == [5, 10]


@pytest.mark.parametrize(
    ("wrt", "message"),
    [
        (2, "wrt=2 names no argument: the call has 2 by position"),
        ("z", "wrt='z' names no argument of this call; it has ['a', 'b']"),
        (None, "a position or a name"),
        (True, "a position or a name"),
        (0.5, "a position or a name"),
    ],
)
def test_wrt_that_names_nothing_is_refused(wrt, message):
    with pytest.raises(GradientError) as caught:
        cr.grad(lambda a, b: a * b, wrt=wrt)(2.0, 5.0)
    assert message in str(caught.value)


def test_has_aux():
    def loss(x):
        return (x * x).sum(), {"twice": x * 2, "name": "loss"}

    gradient, aux = cr.grad(loss, has_aux=True)(X)
    assert gradient.tolist() == [2, 4, 6]
    assert aux["name"] == "loss"
    (value, aux), gradient = cr.value_and_grad(loss, has_aux=True)(X)
    assert float(value) == 14
    assert aux["twice"].tolist() == [2, 4, 6]
    assert gradient.tolist() == [2, 4, 6]


def test_value_and_grad_return_constants():
    value, gradient = cr.value_and_grad(cube)(X)
    assert value.is_constant
    assert gradient.is_constant
    assert (float(value), gradient.tolist()) == (36, [3, 12, 27])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_have_the_dtype_and_shape_of_what_they_are_by(dtype):
    x = np.ones((2, 3), dtype)
    gradient = cr.grad(lambda v: (v * np.float64(2)).sum())(x)
    assert (gradient.dtype, gradient.shape) == (dtype, (2, 3))


def test_an_argument_that_is_not_used_gets_zeros():
    first, second = cr.grad(lambda a, b: (a * a).sum(), wrt=(0, 1))(X, np.ones((2, 2)))
    assert first.tolist() == [2, 4, 6]
    assert second.tolist() == [[0, 0], [0, 0]]
    assert cr.grad(lambda a: cr.asarray(3.0))(X).tolist() == [0, 0, 0]


def test_the_caller_s_variables_are_left_alone():
    x = cr.tensor(X)
    cr.grad(cube)(x)
    assert x.grad is None
    x.sum().backward()
    assert x.grad.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: cr.grad(lambda x: x * 2)(X), GradientError, "one scalar result"),
        (lambda: cr.grad(lambda x: (x, x))(1.0), GradientError, "one scalar result"),
        (lambda: cr.grad(lambda x: x > 0)(1.0), GradientError, "dtype bool"),
        (lambda: cr.grad(cube)(np.arange(3)), DTypeError, "float32 or float64"),
        (lambda: cr.grad(cube)("text"), DTypeError, "arrays and numbers"),
        (lambda: cr.grad(cube)({"a": {1, 2}}), DTypeError, "found set"),
        (lambda: cr.vjp(cube, X)[1](X), ShapeError, "shape of the output: (), received (3,)"),
        (lambda: cr.vjp(lambda x: (x, x), X)[1](X), ShapeError, "must be like the result"),
        (lambda: cr.jvp(cube, (X,), (np.ones(2),)), ShapeError, "(3,), received (2,)"),
        (lambda: cr.jvp(cube, (X, X), (X,)), ShapeError, "must be like the arguments"),
        (lambda: cr.jvp(cube, X, X), GradientError, "a tuple of arguments"),
        (lambda: cr.hvp(cube)(X), GradientError, "then the vector"),
        (lambda: cr.jacobian(lambda x: x > 0)(X), GradientError, "dtype bool"),
    ],
)
def test_what_cannot_be_differentiated_is_refused(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)


# -- pull, push, products ----------------------------------------------------------------------


def test_vjp_of_several_outputs_and_inputs():
    value, pull = cr.vjp(lambda a, b: {"sum": a + b, "product": a * b}, X, X + 1)
    assert value["product"].tolist() == [2, 6, 12]
    by_a, by_b = pull({"sum": np.ones(3), "product": np.full(3, 10.0)})
    assert by_a.tolist() == [21, 31, 41]
    assert by_b.tolist() == [11, 21, 31]
    assert pull({"sum": np.ones(3), "product": np.full(3, 10.0)})[0].tolist() == [21, 31, 41]


def test_jvp_of_several_outputs():
    value, moved = cr.jvp(lambda a, b: (a * b, a), (2.0, 3.0), (1.0, 10.0))
    assert [float(v) for v in value] == [6, 2]
    assert [float(m) for m in moved] == [23, 1]


def test_an_output_that_is_an_input_or_a_constant():
    _, pull = cr.vjp(lambda x: (x, x, cr.asarray(1.0)), X)
    assert pull((X, X, 1.0))[0].tolist() == [2, 4, 6]
    _, moved = cr.jvp(lambda x: (x, cr.asarray([1.0])), (X,), (X,))
    assert [m.tolist() for m in moved] == [[1, 2, 3], [0]]


def test_hvp_is_the_hessian_times_the_vector():
    def loss(x, scale):
        return scale * (x[0] ** 2 * x[1] + cr.sin(x[2]))

    v = np.array([1.0, -1.0, 2.0])
    dense = np.asarray(cr.hessian(loss)(X, 2.0).todense())
    np.testing.assert_allclose(np.asarray(cr.hvp(loss)(X, 2.0, v)), dense @ v)
    np.testing.assert_allclose(dense, dense.T)
    tree = cr.hvp(lambda p: p["a"] ** 2 * p["b"])({"a": 2.0, "b": 3.0}, {"a": 1.0, "b": 10.0})
    assert {k: float(t) for k, t in tree.items()} == {"a": 6 + 40, "b": 4}


# -- nesting -----------------------------------------------------------------------------------


def test_perturbations_are_not_confused():
    assert float(cr.grad(lambda x: x * cr.grad(lambda y: x + y)(1.0))(1.0)) == 1
    assert float(cr.grad(lambda x: x * cr.grad(lambda y: x * y)(2.0))(3.0)) == 6
    assert float(cr.grad(lambda x: cr.grad(lambda y: x * y * y)(x))(3.0)) == 6 * 2

    def times_inner(x):
        return x * cr.jvp(lambda y: x + y, (1.0,), (1.0,))[1]

    assert float(cr.jvp(times_inner, (1.0,), (1.0,))[1]) == 1


MODES = {
    "reverse": lambda f: cr.grad(f),
    "forward": lambda f: lambda x: cr.jvp(f, (x,), (cr.ones_like(cr.asarray(x)),))[1],
}


@pytest.mark.parametrize("outer", MODES.values(), ids=MODES)
@pytest.mark.parametrize("inner", MODES.values(), ids=MODES)
def test_nested_derivatives_in_closures(outer, inner):
    x = np.float64(1.5)
    # d/dx [x · d/dy (x y² + sin y) at y = x] = d/dx [2x³ + x cos x]
    received = outer(lambda x: x * inner(lambda y: x * y * y + cr.sin(y))(x))(x)
    assert float(received) == pytest.approx(6 * x**2 + np.cos(x) - x * np.sin(x))
    # the inner function does not see x move: only its value
    received = outer(lambda x: inner(lambda y: y**3)(x))(x)
    assert float(received) == pytest.approx(6 * x)


@pytest.mark.parametrize("modes", [(a, b, c) for a in MODES for b in MODES for c in MODES])
def test_third_derivatives_in_every_nesting(modes):
    def function(x):
        return cr.sin(x) * x**4

    for mode in modes:
        function = MODES[mode](function)
    x = np.float64(0.7)
    expected = 24 * x * np.sin(x) + 36 * x**2 * np.cos(x) - 12 * x**3 * np.sin(x) - x**4 * np.cos(x)
    assert float(function(x)) == pytest.approx(expected)


def test_derivatives_inside_a_function_of_an_outer_variable():
    w = cr.tensor(2.0)
    gradient = cr.grad(lambda x: w * x**2)(3.0)  # depends on w
    assert not gradient.is_constant
    gradient.backward()
    assert float(w.grad) == 6
    w = cr.tensor(2.0)
    _, moved = cr.jvp(lambda x: w * x**2, (3.0,), (1.0,))
    moved.backward()
    assert float(w.grad) == 6
    w = cr.tensor(2.0)
    value, pull = cr.vjp(lambda x: w * x**2, 3.0)
    (value + pull(1.0)[0]).backward()
    assert float(w.grad) == 9 + 6


def test_a_gradient_by_an_outer_variable_itself():
    w = cr.tensor(3.0)
    value, gradient = cr.value_and_grad(lambda v: v**3)(w)
    (value + gradient).backward()  # w³ + 3w²
    assert float(w.grad) == 27 + 18


def test_an_upstream_and_a_tangent_that_depend_on_a_variable():
    u = cr.tensor(np.array([1.0, 2.0]))
    _, pull = cr.vjp(lambda x: x * x, np.array([3.0, 4.0]))
    pull(u)[0].sum().backward()
    assert u.grad.tolist() == [6, 8]
    u = cr.tensor(np.array([1.0, 2.0]))
    cr.jvp(lambda x: x * x, (np.array([3.0, 4.0]),), (u,))[1].sum().backward()
    assert u.grad.tolist() == [6, 8]


def test_the_derivative_of_a_training_step():
    def step(w, rate):
        return w - rate * cr.grad(lambda v: (v**2).sum())(w)

    def after(rate):
        w = cr.asarray(X)
        for _ in range(3):
            w = step(w, rate)
        return (w**2).sum()  # 14 (1 - 2 rate)^6

    rate = np.float64(0.1)
    expected = 14 * 6 * 0.8**5 * -2
    assert float(cr.grad(after)(rate)) == pytest.approx(expected)
    assert float(cr.jvp(after, (rate,), (1.0,))[1]) == pytest.approx(expected)


def test_vmap_grad_jvp_and_jacobian_compose():
    A = np.arange(6.0).reshape(2, 3)
    np.testing.assert_allclose(np.asarray(cr.vmap(cr.grad(cube))(A)), 3 * A**2)
    np.testing.assert_allclose(np.asarray(cr.grad(lambda a: cr.vmap(cube)(a).sum())(A)), 3 * A**2)
    hessians = cr.vmap(lambda x: cr.hessian(cube)(x).todense())(A)
    np.testing.assert_allclose(np.asarray(hessians), [np.diag(6 * row) for row in A])
    twice = cr.vmap(cr.vmap(lambda x: x**3))(A)
    np.testing.assert_allclose(np.asarray(twice), A**3)
    moved = cr.jvp(cr.vmap(cube), (A,), (np.ones_like(A),))[1]
    np.testing.assert_allclose(np.asarray(moved), (3 * A**2).sum(1))


def test_no_grad_around_a_derivative_makes_it_a_constant():
    w = cr.tensor(2.0)
    with cr.no_grad():
        gradient = cr.grad(lambda x: w * x * x)(3.0)
    assert gradient.is_constant
    assert float(gradient) == 12


def test_no_grad_and_stop_gradient_inside_a_function():
    def loss(x):
        with cr.no_grad():
            held = x * 10
        return x * held + cr.stop_gradient(x * x) * x

    assert float(cr.grad(loss)(np.float64(2.0))) == 20 + 4
    assert float(cr.jvp(loss, (np.float64(2.0),), (1.0,))[1]) == 20 + 4


def test_stop_gradient_at_second_order():
    def loss(x):
        return cr.stop_gradient(x) * x * x  # x · x², of which x³ counts as c x²

    assert float(cr.grad(loss)(np.float64(3.0))) == 18
    assert float(cr.grad(cr.grad(loss))(np.float64(3.0))) == 6


def test_numpy_in_the_middle_of_a_derivative_warns_that_the_path_ends():
    with pytest.warns(UserWarning, match="the path ends there"):
        cr.grad(lambda x: (x * np.asarray(x)).sum())(X)


# -- jacobians ---------------------------------------------------------------------------------

A = np.arange(12.0).reshape(4, 3)


@pytest.mark.parametrize("shape", [(2, 3), (), (3,), (1, 0, 2)])
def test_jacobians_have_the_shape_of_output_then_input(shape):
    x = np.random.default_rng(0).normal(size=shape)
    J = cr.jacobian(lambda v: cr.stack([v, v * v]))(x)
    assert J.shape == (2 * x.size, x.size)
    dense = np.asarray(J.todense())
    assert dense.shape == (2, *shape, *shape)
    expected = np.stack([np.eye(x.size), np.diag(2 * x.reshape(-1))]).reshape(dense.shape)
    np.testing.assert_allclose(dense, expected)


@pytest.mark.parametrize("rows", [2, 9])  # fewer rows than columns, and more
def test_jacobian_products(rows):
    B = np.random.default_rng(0).normal(size=(rows, 3))
    J = cr.jacobian(lambda x: cr.sin(B @ x))(X)
    dense = np.asarray(J.todense())
    np.testing.assert_allclose(dense, np.cos(B @ X)[:, None] * B)
    V = np.random.default_rng(1).normal(size=(3, 2))
    U = np.random.default_rng(2).normal(size=(4, rows))
    for received, expected in (
        (J @ V[:, 0], dense @ V[:, 0]), (J @ V, dense @ V), (U[0] @ J, U[0] @ dense),
        (U @ J, U @ dense), (np.asarray(J), dense),
    ):  # fmt: skip
        np.testing.assert_allclose(np.asarray(received), expected)
    assert repr(J).startswith(f"Jacobian({rows}×3")


def test_jacobian_products_in_the_shapes_of_input_and_output():
    J = cr.jacobian(lambda x: x[:, :2] * 3)(A)
    v, u = np.ones((4, 3)), np.arange(8.0).reshape(4, 2)
    np.testing.assert_array_equal(np.asarray(J @ v), np.full((4, 2), 3))
    np.testing.assert_array_equal(np.asarray(J @ v.reshape(-1)), np.full(8, 3))
    np.testing.assert_array_equal(np.asarray(u @ J)[:, :2], 3 * u)
    with pytest.raises(ShapeError, match=r"received \(2,\)"):
        J @ np.ones(2)
    with pytest.raises(ShapeError, match=r"received \(2,\)"):
        np.ones(2) @ J


def test_jacobians_of_containers():
    J = cr.jacobian(lambda p: {"y": p["a"] * p["b"], "z": p["a"].sum()})({"a": X, "b": X + 1})
    np.testing.assert_allclose(np.asarray(J["y"]["a"].todense()), np.diag(X + 1))
    np.testing.assert_allclose(np.asarray(J["y"]["b"].todense()), np.diag(X))
    np.testing.assert_allclose(np.asarray(J["z"]["a"].todense()), np.ones(3))
    np.testing.assert_allclose(np.asarray(J["z"]["b"].todense()), np.zeros(3))
    first, second = cr.jacobian(lambda a, b: a * b, wrt=("a", "b"))(X, X + 1)
    np.testing.assert_allclose(np.asarray(first.todense()), np.diag(X + 1))
    np.testing.assert_allclose(np.asarray(second.todense()), np.diag(X))


def test_a_dense_jacobian_can_be_differentiated():
    received = cr.grad(lambda x: (cr.jacobian(lambda v: v**3)(x).todense() ** 2).sum())(X)
    np.testing.assert_allclose(np.asarray(received), 36 * X**3)


def test_hessian_blocks():
    H = cr.hessian(lambda a, b: (a * b).sum(), wrt=(0, 1))(X, X + 1)
    np.testing.assert_allclose(np.asarray(H[0][1].todense()), np.eye(3))
    np.testing.assert_allclose(np.asarray(H[0][0].todense()), np.zeros((3, 3)))


# -- vmap --------------------------------------------------------------------------------------


def test_vmap_over_axes_and_containers():
    def scale(p, x, k):
        return {"y": p["w"] @ x * k, "k": k}

    W, xs = np.arange(24.0).reshape(2, 3, 4), np.arange(8.0).reshape(4, 2)
    out = cr.vmap(scale, in_axes=({"w": 0}, 1, None))({"w": W}, xs, 2.0)
    expected = np.stack([W[n] @ xs[:, n] * 2 for n in range(2)])
    np.testing.assert_allclose(np.asarray(out["y"]), expected)
    assert out["k"].tolist() == [2, 2]  # the same for every example
    out = cr.vmap(lambda x: cr.outer(x, x), in_axes=1, out_axes=2)(xs)
    assert out.shape == (4, 4, 2)
    np.testing.assert_allclose(np.asarray(out)[..., 1], np.outer(xs[:, 1], xs[:, 1]))
    shared = cr.vmap(lambda x, y: y * 2, in_axes=(0, None), out_axes=None)(X, 5.0)
    assert float(shared) == 10


def test_vmap_closes_over_variables():
    w = cr.tensor(X)
    cr.vmap(lambda x: (w * x).sum())(A).sum().backward()
    np.testing.assert_allclose(np.asarray(w.grad), A.sum(0))


def test_vmap_of_random_numbers_differs_by_example():
    keys = cr.random.split(cr.random.key(0), 3)
    rows = cr.vmap(lambda k: cr.random.normal(k, (4,)))(keys)
    expected = [cr.random.normal(k, (4,)).numpy() for k in keys]
    np.testing.assert_array_equal(np.asarray(rows), expected)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: cr.vmap(cr.sin)(1.0), ShapeError, "vmap over a 0-d argument"),
        (lambda: cr.vmap(cr.add)(X, A), ShapeError, "batch sizes differ, 3 and 4"),
        (lambda: cr.vmap(cr.sin, in_axes=None)(X), AxisError, "has none"),
        (lambda: cr.vmap(cr.sin, in_axes=1)(X), AxisError, "in_axes 1 is out of range"),
        (lambda: cr.vmap(cr.add, in_axes=(0,))(X, X), AxisError, "names 1 arguments"),
        (lambda: cr.vmap(cr.sin, out_axes=None)(X), AxisError, "differs between the examples"),
        (lambda: cr.vmap(lambda x: x if x > 0 else -x)(X), cr.errors.TraceError, "use where("),
        (lambda: cr.vmap(lambda x: float(x))(X), cr.errors.TraceError, "float()"),
        (lambda: cr.vmap(lambda x: cr.nonzero(cr.stack([x])))(X), cr.errors.TraceError, "nonzero"),
    ],
)
def test_vmap_refuses_what_it_cannot_batch(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)


def test_a_tensor_that_leaks_from_vmap_is_refused_where_it_is_used():
    kept = []
    cr.vmap(lambda x: kept.append(x) or x)(X)
    with pytest.raises(cr.errors.TraceError, match="inside a traced function"):
        kept[0] + 1


def test_the_context_is_restored_when_the_function_raises():
    for run in (lambda f: cr.vmap(f)(X), lambda f: cr.grad(f)(X), lambda f: cr.jvp(f, (X,), (X,))):
        with pytest.raises(ZeroDivisionError):
            run(lambda x: 1 / 0)
    assert cr.add(X, X).tolist() == [2, 4, 6]
    with pytest.raises(ZeroDivisionError), cr.no_grad():
        raise ZeroDivisionError
    assert not (cr.tensor(1.0) * 2).is_constant
