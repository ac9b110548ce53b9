"""Jacobians as operators: their sizes, products, containers, mistakes, and what they store."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import GradientError, ShapeError, StructureError
from chainrule.jacobians.jacobian import Gate
from tests.jacobians.writer import Power, Rotate, Round, rounded

X = np.arange(6.0).reshape(2, 3) - 2.5
W = np.array([[1.0, -2.0], [0.5, 3.0], [-1.0, 4.0]])


def product(x: Any) -> Any:
    return cr.tanh(x) @ W


J = cr.jacobian(product)(X)
DENSE = np.einsum("ik,ij,jl->ilkj", np.eye(2), 1 - np.tanh(X) ** 2, W)
"""∂y_il/∂x_kj = δ_ik (1 - tanh² x_ij) W_jl."""


# -- what it is --------------------------------------------------------------------------------


def test_sizes():
    assert J.shape == (4, 6)
    assert J.out_shape == (2, 2)
    assert J.in_shape == (2, 3)
    assert J.ndim == 2
    assert J.dtype == np.float64
    assert J.dense_nbytes == 4 * 6 * 8
    assert "4×6" in repr(J)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_is_that_of_the_output(dtype):
    K = cr.jacobian(cr.tanh)(X.astype(dtype))
    assert K.dtype == dtype
    assert K.todense().dtype == dtype
    assert K.form is not None
    assert K.form.dtype == dtype


def test_a_cast_inside_gives_the_dtype_of_the_output():
    K = cr.jacobian(lambda x: cr.astype(cr.sin(x), cr.float32) * 2)(X)
    assert K.dtype == K.todense().dtype == np.float32
    np.testing.assert_allclose(K.diagonal(), 2 * np.cos(X), rtol=1e-6)


def test_entries():
    np.testing.assert_allclose(J.todense(), DENSE, rtol=1e-14)
    np.testing.assert_allclose(J.jacobian_form(), DENSE.reshape(4, 6), rtol=1e-14)
    np.testing.assert_allclose(np.asarray(J), DENSE.reshape(4, 6), rtol=1e-14)
    assert np.asarray(J, np.float32).dtype == np.float32
    np.testing.assert_allclose(J.T.todense(), DENSE.transpose(2, 3, 0, 1), rtol=1e-14)
    assert J.T.T is J


def test_conventions_of_a_scalar():
    K = cr.jacobian(lambda x: (x * x).sum())(X)
    assert K.jacobian_form().shape == (1, 6)
    np.testing.assert_allclose(K.shape_convention(), 2 * X)
    with pytest.raises(ShapeError, match="scalar functions, this has 4 outputs"):
        J.shape_convention()


# -- products ----------------------------------------------------------------------------------


def test_products_with_vectors_and_matrices_of_flat_ones():
    matrix, rng = DENSE.reshape(4, 6), np.random.default_rng(0)
    v, u = rng.normal(size=6), rng.normal(size=4)
    V, U = rng.normal(size=(6, 5)), rng.normal(size=(5, 4))
    for received, expected in (
        (J @ v.reshape(2, 3), (matrix @ v).reshape(2, 2)), (J @ v, matrix @ v), (J @ V, matrix @ V),
        (u.reshape(2, 2) @ J, (u @ matrix).reshape(2, 3)), (u @ J, u @ matrix), (U @ J, U @ matrix),
        (J @ cr.asarray(v), matrix @ v), (cr.asarray(U) @ J, U @ matrix), (J @ V[:, :0], V[:4, :0]),
        (J.T @ u, u @ matrix), (v @ J.T, matrix @ v), (J @ v.astype("f4"), matrix @ v),
    ):  # fmt: skip
        assert isinstance(received, cr.Tensor)
        assert received.shape == expected.shape
        np.testing.assert_allclose(received, expected, rtol=1e-6, atol=1e-7)


def test_algebra():
    K = cr.jacobian(lambda x: cr.sin(x) @ W)(X)
    first, second = (np.asarray(M) for M in (J, K))
    for received, expected in (
        (J + K, first + second), (J - K, first - second), (-J, -first), (3 * J, 3 * first),
        (J * 0.5, first / 2), (J.T @ K, first.T @ second), ((2 * J) @ K.T, 2 * first @ second.T),
        ((J + K).T, (first + second).T),
    ):  # fmt: skip
        assert received.form is not None
        np.testing.assert_allclose(received, expected, rtol=1e-13, atol=1e-14)
        v = np.arange(received.shape[1]) - 1.0
        np.testing.assert_allclose(received @ v, expected @ v, rtol=1e-12, atol=1e-13)
        u = np.arange(received.shape[0]) - 1.0
        np.testing.assert_allclose(u @ received, u @ expected, rtol=1e-12, atol=1e-13)


def test_chain_rule_by_composition():
    inner = cr.jacobian(lambda x: cr.tanh(x) @ W)(X)
    outer = cr.jacobian(lambda y: cr.sum(cr.exp(y), axis=0))(np.tanh(X) @ W)
    whole = cr.jacobian(lambda x: cr.sum(cr.exp(cr.tanh(x) @ W), axis=0))(X)
    np.testing.assert_allclose((outer @ inner).todense(), whole.todense(), rtol=1e-13)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda: J @ np.ones(5), r"v of shape \(2, 3\), or flat \(6,\) or .*; received \(5,\)"),
        (lambda: J @ np.ones((3, 2)), r"received \(3, 2\)"),
        (lambda: J @ np.ones(()), r"received \(\)"),
        (lambda: np.ones(6) @ J, r"u of shape \(2, 2\), or flat \(4,\) or .*; received \(6,\)"),
        (lambda: J + J.T, r"J \+ K takes Jacobians of the same shapes, received \(2, 2\) by"),
        (lambda: J @ J, r"J @ K takes a K whose output has the shape of J's input, \(2, 3\)"),
    ],
)  # fmt: skip
def test_wrong_shapes(mistake, message):
    with pytest.raises(ShapeError, match=message):
        mistake()


@pytest.mark.parametrize("operation", [lambda: J + 1, lambda: J * np.ones(2), lambda: J * J,
                                       lambda: J - 2.0])  # fmt: skip
def test_what_has_no_meaning(operation):
    with pytest.raises(TypeError):
        operation()


def test_mistakes_of_functions():
    with pytest.raises(GradientError, match="mode is one of .*received 'both'"):
        cr.jacobian(cr.sin, mode="both")
    with pytest.raises(GradientError, match="result of dtype int64"):
        cr.jacobian(lambda x: cr.argmax(x))(X)
    with pytest.raises(TypeError, match="int64"):
        cr.jacobian(cr.sin)(np.arange(3))


# -- arguments and outputs ---------------------------------------------------------------------


def test_containers():
    def function(parts: Any, scale: Any) -> Any:
        y = parts["x"] * scale
        return {"sum": cr.sum(y), "pair": (y, parts["b"] + 0)}

    parts = {"x": X, "b": np.ones(2)}
    found = cr.jacobian(function, wrt=(0, "scale"))(parts, scale=2.0)
    by_parts, by_scale = found["sum"]
    np.testing.assert_array_equal(by_parts["x"].todense(), np.full((2, 3), 2.0))
    assert by_parts["b"].form.terms == ()
    np.testing.assert_allclose(by_scale.todense(), X.sum())
    by_parts, by_scale = found["pair"][0]
    np.testing.assert_array_equal(by_parts["x"].jacobian_form(), 2 * np.eye(6))
    np.testing.assert_array_equal(by_scale.todense(), X)
    np.testing.assert_array_equal(found["pair"][1][0]["b"].todense(), np.eye(2))
    assert not np.any(found["pair"][1][1].todense())


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3)])
def test_no_entries(shape):
    x = np.ones(shape)
    K = cr.jacobian(lambda x: cr.sin(x) * 2)(x)
    assert K.shape == (0, 0)
    assert K.nbytes == 0
    assert K.todense().shape == shape + shape
    assert (K @ x).shape == (x @ K).shape == K.diagonal().shape == shape
    assert float(K.trace()) == 0
    S = cr.jacobian(cr.sum)(x)
    assert S.shape == (1, 0)
    assert float(S @ x) == 0
    assert (np.ones(()) @ S).shape == shape
    assert S.todense().shape == shape


def test_scalars():
    K = cr.jacobian(lambda x: x**3)(2.0)
    assert K.shape == (1, 1)
    assert K.out_shape == K.in_shape == ()
    assert float(K.todense()) == float(K.trace()) == float(K.diagonal()) == 12.0
    assert float(K @ 0.5) == 6.0
    assert float(0.5 @ K) == 6.0


def test_a_constant_has_a_jacobian_of_zeros():
    for function in (lambda x: cr.ones((2,)), lambda x: cr.stop_gradient(x)[0], lambda x: 0 * x[0],
                     lambda x: cr.sign(x)[0], lambda x: cr.zeros_like(x)[:, 0]):  # fmt: skip
        K = cr.jacobian(function)(X)
        assert not np.any(K.todense())
        assert not np.any(K @ X)
        assert not np.any(np.ones(K.out_shape) @ K)
        assert float(K.trace()) == 0


def test_the_identity_stores_nothing():
    for function in (lambda x: x, lambda x: +x, lambda x: cr.negative(-x), lambda x: x.T.T,
                     lambda x: x + 1):  # fmt: skip
        K = cr.jacobian(function)(X)
        np.testing.assert_array_equal(K.jacobian_form(), np.eye(6))
        assert K.nbytes == 0
        np.testing.assert_array_equal(K @ X, X)
        assert float(K.trace()) == 6


def test_a_variable_is_an_argument_like_others():
    x, w = cr.tensor(X), cr.tensor(W)
    K = cr.jacobian(lambda w: cr.tanh(x) @ w)(w)
    np.testing.assert_allclose(K.todense(), np.einsum("ij,kl->ikjl", np.tanh(X), np.eye(2)))


# -- local Jacobians of gates ------------------------------------------------------------------


def test_a_gate_of_a_recorded_graph():
    x, w = cr.tensor(X), cr.tensor(W)
    y = cr.tanh(x) @ w
    K = Gate(y._node, 1)
    assert (K.out_shape, K.in_shape) == ((2, 2), (3, 2))
    expected = np.einsum("ij,kl->ikjl", np.tanh(X), np.eye(2))
    np.testing.assert_allclose(K.todense(), expected)
    u = np.array([[1.0, 2.0], [-1.0, 0.5]])
    np.testing.assert_allclose(u @ K, np.tanh(X).T @ u)  # upstream @ local is the downstream
    np.testing.assert_allclose(K @ W, np.tanh(X) @ W)
    with pytest.raises(ShapeError, match="has operands 0 to 1, received 2"):
        Gate(y._node, 2)
    with pytest.raises(StructureError, match="only a gate that was run"):
        Gate(x._node, 0)


def test_a_gate_with_several_outputs_and_one_of_users():
    x, y = cr.tensor(X), cr.tensor(X + 3)
    first, _ = Rotate()(x, y)
    np.testing.assert_allclose(Gate(first._node, 1).todense().reshape(6, 6).diagonal(),
                               (-X * np.sin(X + 3)).ravel())  # fmt: skip
    by_y = Gate(Power()(x, y)._node, 1)
    np.testing.assert_allclose(np.diagonal(np.asarray(by_y)), (X * X).ravel())
    np.testing.assert_allclose(by_y @ X, X**3)


# -- SciPy, recording, compiling ---------------------------------------------------------------


def test_scipy_solves_with_it():
    linalg = pytest.importorskip("scipy.sparse.linalg", reason="scipy is an extra")
    x = np.linspace(-1, 1, 5)
    K = cr.jacobian(lambda x: 3 * x + cr.sin(x) * cr.sum(x))(x)
    operator = linalg.aslinearoperator(K)
    assert operator.shape == (5, 5)
    assert operator.dtype == np.float64
    dense, b = np.asarray(K), np.arange(5.0)
    found, failed = linalg.gmres(operator, b, rtol=1e-12)
    assert not failed
    np.testing.assert_allclose(dense @ found, b, atol=1e-9)
    operator = linalg.aslinearoperator(J)
    np.testing.assert_allclose(operator.T @ np.ones(4), np.asarray(J).T @ np.ones(4))
    np.testing.assert_allclose(operator @ np.ones((6, 2)), np.asarray(J) @ np.ones((6, 2)))
    found = linalg.lsqr(operator, np.arange(4.0), atol=1e-14, btol=1e-14)[0]
    np.testing.assert_allclose(np.asarray(J) @ found, np.arange(4.0), atol=1e-8)


def test_derivatives_of_entries():
    """∂/∂x of Σ_ij c_ij ∂y_i/∂x_j is a weighted sum of second derivatives."""
    c = np.random.default_rng(0).normal(size=(2, 2, 2, 3))
    found = cr.grad(lambda x: (cr.jacobian(product)(x).todense() * c).sum())(X)
    weights = np.einsum("iljk,kl,ij->jk", c.transpose(0, 1, 2, 3), W, np.eye(2))
    tanh = np.tanh(X)
    np.testing.assert_allclose(found, -2 * tanh * (1 - tanh**2) * weights, rtol=1e-12)
    through = cr.grad(lambda x: cr.sum(cr.jacobian(cr.sin)(x) @ np.ones(X.shape)))(X)
    np.testing.assert_allclose(through, -np.sin(X), rtol=1e-14)


def test_compiled_and_batched():
    def dense(x: Any) -> Any:
        return cr.jacobian(product)(x).todense()

    np.testing.assert_allclose(cr.compile(dense)(X), DENSE, rtol=1e-12)
    batch = np.stack([X, 2 * X, X + 1])
    expected = np.stack([np.asarray(dense(x)) for x in batch])
    np.testing.assert_allclose(cr.vmap(dense)(batch), expected, rtol=1e-12)
    moved = cr.vmap(lambda x, v: cr.jacobian(product)(x) @ v)(batch, batch)
    np.testing.assert_allclose(moved, np.einsum("bilkj,bkj->bil", expected, batch), rtol=1e-12)


# -- what is stored ----------------------------------------------------------------------------


def test_relu_of_a_minibatch_is_a_diagonal():
    """The course's question: 100 vectors of 4,096 give a Jacobian of 409,600 × 409,600."""
    x = np.random.default_rng(0).normal(size=(100, 4096)).astype(np.float32)
    tracemalloc.start()
    try:
        K = cr.jacobian(cr.relu)(x)
        assert K.shape == (409_600, 409_600)
        assert K.nbytes <= 1_700_000
        np.testing.assert_array_equal(K.diagonal(), x > 0)
        np.testing.assert_array_equal(K @ x, np.maximum(x, 0))
        assert float(K.trace()) == (x > 0).sum()
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()
    with pytest.raises(ShapeError, match="takes 671 GB; use J @ v and u @ J"):
        K.todense()


def test_a_linear_layer_stores_nothing_new():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(100, 784)), rng.normal(size=(784, 100))
    by_x, by_w = cr.jacobian(lambda x, w: x @ w + 1, wrt=(0, 1))(x, w)
    assert by_w.shape == (10_000, 78_400)
    assert by_w.nbytes <= x.nbytes
    assert by_x.nbytes <= w.nbytes
    v = rng.normal(size=w.shape)
    np.testing.assert_allclose(by_w @ v, x @ v, rtol=1e-10, atol=1e-10)


# -- soundness ---------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", [Round(), rounded, lambda x: cr.sum(Round()(x)),
                                       lambda x: Round()(cr.sin(x) * 3) * x])  # fmt: skip
def test_a_straight_through_estimator_is_never_silently_zero(estimator):
    """Its values do not move with x; its Jacobian is what its backward says."""
    x = np.array([0.3, -1.2, 2.6])
    K = cr.jacobian(estimator)(x)
    rows = [np.asarray(u @ K) for u in np.eye(K.shape[0])]
    assert np.all(np.any(np.asarray(rows) != 0, axis=1))
    np.testing.assert_allclose(np.asarray(K), rows, rtol=1e-14)
    assert K.form is not None
    np.testing.assert_allclose(np.asarray(K @ x).ravel(), np.asarray(K) @ x, rtol=1e-14)


def test_a_large_gate_of_users_says_that_it_does_not_tell():
    x = np.linspace(-2, 2, 300)
    K = cr.jacobian(lambda x: Round()(x) * 2)(x)
    assert K.form is None
    assert "does not tell the structure" in K.reason
    assert K.structure.startswith("dense (")
    np.testing.assert_array_equal(np.asarray(K), 2 * np.eye(300))
    np.testing.assert_array_equal(K @ x, 2 * x)
    for what in (K.diagonal, K.trace):
        with pytest.raises(StructureError, match=r"needs a closed form.*J @ v, u @ J and todense"):
            what()


def test_structure_never_rests_on_values():
    """Zeros among the values leave the pattern as it is."""
    K = cr.jacobian(lambda w: np.zeros((2, 3)) @ w)(W)
    assert len(K.form.terms) == 1
    assert not np.any(K.todense())
