"""J x = b and log |det J| against NumPy's, and what is refused."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule.errors import ShapeError, StructureError
from chainrule.jacobians.solve import logdet, solve


def some(*shape, seed=3):
    return np.random.default_rng(seed).normal(size=shape)


X, V, SQUARE, TALL = some(3, 4), some(7), some(4, 4), some(2, 4, 3)
ORDER = np.array([2, 0, 1])
CASES = {
    "identity": (lambda x: x, X),
    "scaled identity": (lambda x: -3 * x, X),
    "diagonal": (cr.exp, X),
    "transpose": (lambda x: x.T, X),
    "transpose and diagonal": (lambda x: cr.sinh(x.T), X),
    "reshape": (lambda x: cr.exp(x.reshape(2, 6)), X),
    "flip": (lambda x: cr.flip(x, axis=1) * 2, X),
    "roll": (lambda x: cr.roll(x, 2), V),
    "roll and diagonal": (lambda x: cr.roll(cr.exp(x), 2), V),
    "sort": (lambda x: cr.sort(x, axis=1) ** 3, X),
    "gather": (lambda x: cr.take(x, ORDER, axis=0), X),
    "identity ⊗ W": (lambda x: x @ SQUARE, X),
    "W ⊗ identity": (lambda x: SQUARE @ x, X.T),
    "identity ⊗ W, axes permuted": (lambda x: cr.einsum("abc,bd->cad", x, SQUARE), TALL),
    "blocks": (lambda x: cr.tanh(0.2 * (x @ SQUARE)), X),
    "blocks from the right": (lambda x: cr.tanh(0.2 * (SQUARE @ x)), X.T),
    "cumsum": (lambda x: cr.cumulative_sum(x, axis=0), V),
    "cumsum of rows, twice": (lambda x: 2 * cr.cumulative_sum(x, axis=1), X),
    "cumsum from the end": (lambda x: cr.flip(cr.cumulative_sum(cr.flip(x), axis=0)), V),
    "cumsum of exp": (lambda x: cr.cumulative_sum(cr.exp(x), axis=0), V),
    "diagonal + rank 1": (lambda x: cr.sinh(x) + cr.exp(x) * x.sum(), V),
    "diagonal + rank 2": (lambda x: cr.sinh(x) + cr.tanh(x @ some(7, 2)) @ some(2, 7), V),
    "identity ⊗ (diagonal + rank 1)": (lambda x: x + x.mean(axis=1, keepdims=True), X),
    "blocks of diagonal + rank 1": (lambda x: 3 * x + cr.softmax(x, axis=-1), X),
    "blocks of columns": (lambda x: (3 * x + cr.softmax(x, axis=0)).T, X),
    "RMS norm": (lambda x: x / cr.sqrt(cr.mean(x * x, axis=-1, keepdims=True) + 0.5), X),
    "diagonal with a zero + rank 1": (lambda x: x * np.r_[0.0, some(6)] + x.sum(), V),
    "bands": (lambda x: cr.roll(x, 1) - 3 * x, V),
    "dense": (lambda x: cr.tanh(0.2 * (SQUARE @ x)), V[:4]),
    "a number": (lambda x: x * x, np.float64(2.0)),
    "nothing": (lambda x: x * 2, np.zeros((0, 3))),
}
cases = pytest.mark.parametrize(("function", "x"), CASES.values(), ids=CASES.keys())


@cases
@pytest.mark.parametrize(("dtype", "digits"), [(np.float64, 1e-11), (np.float32, 2e-4)])
def test_as_numpy_solves_the_dense_system(function, x, dtype, digits):
    J = cr.jacobian(lambda x: cr.astype(function(x), dtype))(np.asarray(x, dtype))
    b = some(*J.out_shape, seed=8).astype(dtype)
    dense = np.asarray(J.jacobian_form()).astype(np.float64)
    expected = np.linalg.solve(dense, b.reshape(-1).astype(np.float64))
    condition = np.linalg.cond(dense) if dense.size else 1.0
    found = np.asarray(J.solve(b))
    assert found.shape == J.in_shape
    assert found.dtype == dtype
    bound = digits * condition * max(np.abs(expected).max(initial=0), 1e-3)
    assert np.abs(found.reshape(-1) - expected).max(initial=0) <= bound
    assert np.allclose(np.asarray(J.solve(b.reshape(-1))), found.reshape(-1))
    size = np.linalg.slogdet(dense)[1]
    assert abs(float(J.logdet()) - size) <= digits * condition * max(1, abs(size))


SINGULAR = {
    "zero": (cr.sign, X),
    "relu": (cr.relu, X),
    "softmax": (cr.softmax, V),
    "softmax of a batch": (lambda x: cr.softmax(x, axis=-1), X),
    "log-softmax": (lambda x: cr.log_softmax(x, axis=-1), X),
    "x - mean(x)": (lambda x: x - x.mean(), V),
    "layer norm": (lambda x: cr.nn.layer_norm(x, np.ones(4), np.zeros(4)), X),
    "rank 1": (lambda x: x.sum() * V, V),
    "gather of one twice": (lambda x: cr.take(x, np.array([0, 0, 1]), axis=0), X),
    "W of rank 3": (lambda x: x @ (SQUARE[:, :3] @ SQUARE[:3]), X),
    "bands": (lambda x: cr.roll(x, 1) - 2 * x + cr.roll(x, -1), V),
    "softmax of 50,000, float32": (cr.softmax, some(50_000).astype(np.float32)),
    "softmax of 50,000": (cr.softmax, some(50_000)),
}


@pytest.mark.parametrize(("function", "x"), SINGULAR.values(), ids=SINGULAR.keys())
def test_a_singular_jacobian_is_refused(function, x):
    J = cr.jacobian(function)(x)
    with pytest.raises(StructureError, match=r"solve\(\) of a singular Jacobian \("):
        J.solve(np.ones(J.out_shape, J.dtype))
    with pytest.raises(StructureError, match=r"logdet\(\) of a singular Jacobian \("):
        J.logdet()


def test_large_systems_take_no_dense_array():
    n = 200_000
    for function in (
        lambda x: cr.tanh(x) + x.sum() * cr.exp(x),
        lambda x: cr.cumulative_sum(x, axis=0),
        lambda x: cr.flip(cr.cumulative_sum(cr.flip(x), axis=0)),
        lambda x: cr.sort(x),
        lambda x: (x.reshape(-1, 4) @ SQUARE).reshape(-1),
    ):
        J = cr.jacobian(function)(some(n))
        b = some(n, seed=1)
        assert np.abs(np.asarray(J @ J.solve(b)) - b).max() < 1e-6
        assert np.isfinite(float(J.logdet()))


def test_what_has_no_cheap_way_says_what_to_use():
    weights = some(2100, 2100)
    J = cr.jacobian(lambda x: cr.tanh(weights @ x))(some(2100))
    with pytest.raises(StructureError, match=r"no cheap way.* dense 2100×2100.*scipy.*gmres"):
        J.solve(np.ones(2100))


def test_not_square_and_not_of_the_shape():
    J = cr.jacobian(lambda x: x @ some(4, 5))(X)
    with pytest.raises(StructureError, match=r"needs a square Jacobian, this is 15×12"):
        J.solve(np.ones((3, 5)))
    with pytest.raises(ShapeError, match=r"takes b of shape \(3, 4\), or flat \(12,\)"):
        cr.jacobian(cr.exp)(X).solve(np.ones((4, 3)))


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(2, 6), st.integers(0, 2), st.integers(0, 10**6))
def test_blocks_of_diagonal_and_low_rank(count, k, rank, seed):
    random = np.random.default_rng(seed)
    u, v = random.normal(size=(2, max(rank, 1), k))
    d = 1 + random.random((count, k))

    def function(x):
        y = x * d
        for r in range(rank):
            y = y + cr.tanh((x * v[r]).sum(axis=1, keepdims=True)) * u[r]
        return y

    J = cr.jacobian(function)(np.zeros((count, k)))
    dense = np.asarray(J.jacobian_form())
    condition = np.linalg.cond(dense)
    assume(condition < 1e6)
    b = random.normal(size=(count, k))
    expected = np.linalg.solve(dense, b.reshape(-1)).reshape(b.shape)
    bound = 1e-12 * condition**2  # of the parts, which are added, it may be as large again
    assert np.abs(solve(J.form, b) - expected).max() <= bound * np.abs(expected).max()
    assert abs(logdet(J.form) - np.linalg.slogdet(dense)[1]) <= bound * k
