"""Sparse Jacobians in compressed passes against dense ones, and the functions of the benchmark."""

import sys

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from benchmarks.jacobian_cases import (
    CASES,
    Bundle,
    brusselator,
    brusselator_places,
    brusselator_start,
    bundle,
    bundle_places,
    case,
    rosenbrock,
    rosenbrock_places,
    rosenbrock_start,
)
from chainrule.core.types import ArrayType
from chainrule.errors import (
    DTypeError,
    GradientError,
    ShapeError,
    TraceError,
    UnsupportedError,
)
from chainrule.jacobians import compressed
from chainrule.jacobians.coloring import Pattern
from chainrule.jacobians.compressed import Compressed

TOLERANCE = {"float32": 1e-5, "float64": 1e-13}


def type_of(x):
    return ArrayType(x.shape, x.dtype)


def of(dense):
    return Pattern.of(*np.nonzero(dense), dense.shape)


def dense_of(function, x):
    J = cr.jacobian(function)(cr.asarray(x))
    return np.asarray(J.todense()).reshape(J.shape)


def check(function, x, pattern, mode=None):
    """The values are those of the dense Jacobian, which has no others; what made them."""
    J = Compressed(function, type_of(x), pattern, mode)
    values, dense = J(x), dense_of(function, x)
    scale = TOLERANCE[x.dtype.name] * np.abs(dense).max(initial=1)
    assert values.dtype == x.dtype
    np.testing.assert_allclose(values, dense[pattern.rows, pattern.indices], rtol=0, atol=scale)
    inside = np.zeros(pattern.shape, bool)
    inside[pattern.rows, pattern.indices] = True
    assert not dense[~inside].any()
    return J


# -- the functions of the benchmark ------------------------------------------------------------


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("n", [5, 8])
def test_brusselator(n, dtype):
    x = brusselator_start(n, dtype) + np.linspace(0, 1, 2 * n * n).astype(dtype)
    check(brusselator, x, Pattern.of(*brusselator_places(n)))


def test_brusselator_by_hand():
    """The state in the middle of the start, and ∂(du)/∂u there."""
    n = 4
    x = brusselator_start(n, np.float64)
    u, v = x.reshape(2, n, n)
    assert u[2, 0] == 22 * 0.25**1.5
    assert v[0, 2] == 27 * 0.25**1.5
    J = Compressed(brusselator, type_of(x), Pattern.of(*brusselator_places(n))).csr(x)
    place = 2 * n + 1
    expected = 2 * u[2, 1] * v[2, 1] - 4.4 - 10 * 4 * n**2
    assert J[place, place] == pytest.approx(expected, rel=1e-14)
    assert J[place, n * n + place] == pytest.approx(u[2, 1] ** 2, rel=1e-14)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_rosenbrock_hessian(dtype):
    x = rosenbrock_start(30, dtype)
    J = check(cr.grad(rosenbrock), x, Pattern.of(*rosenbrock_places(30)))
    assert repr(J) == "Compressed(30×30, 88 nonzeros, passes: 3 push)"
    inner = x[1:-1].astype(np.float64)
    expected = 2 + 200 + 1200 * inner**2 - 400 * x[2:]
    np.testing.assert_allclose(J.csr(x).diagonal()[1:-1], expected, rtol=1e-5)


ONE = Bundle(
    np.array([[
        -0.758453, -1.109613, -0.845551, 34.556073, 39.676747, 53.881673, 419.194514, 5.864426,
        -8.518870, 0.087812, 0.002739,
    ]]),
    np.array([[7.203245, 0.001144, 3.023326]]),
    np.array([0.417022]), np.array([[0, 0]]), np.array([[271.760969, 834.209256]]),
)  # fmt: skip


def test_one_observation_of_the_published_problem():
    residuals = np.asarray(ONE.residuals(cr.asarray(ONE.parameters)))
    np.testing.assert_allclose(residuals, [0.10133584, -0.06896777, 0.826092651516], atol=1e-8)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_bundle_adjustment(dtype):
    problem = bundle(2, 4, 40, dtype=dtype)
    J = check(problem.residuals, problem.parameters, Pattern.of(*bundle_places(problem)))
    assert (J.coloring.mode, J.coloring.passes) == ("push", 15)


def test_bundle_adjustment_without_a_rotation():
    """At r = 0 the derivatives are those of the first order, y + r × y, and finite."""
    problem = bundle(1, 2, 3, dtype=np.float64)
    problem.cameras[:, :3] = 0
    pattern = Pattern.of(*bundle_places(problem))
    at_zero = check(problem.residuals, problem.parameters, pattern)(problem.parameters)
    assert np.isfinite(at_zero).all()
    problem.cameras[:, :3] = 1e-7
    near = Compressed(problem.residuals, type_of(problem.parameters), pattern)(problem.parameters)
    np.testing.assert_allclose(at_zero, near, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_cases_have_their_places(name):
    small = case(name, small=True)

    def function(x):
        return small.function(x, xp=cr)

    pattern = Pattern.of(*small.places())
    check(cr.grad(function) if small.hessian else function, small.start, pattern)
    assert case(name).start.size > 100 * small.start.size


# -- any pattern -------------------------------------------------------------------------------


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["push", "pull", None]), st.booleans())
def test_random_patterns(seed, mode, dense_lines):
    """y = tanh(A x) for a sparse A, with full rows and columns that are peeled."""
    random = np.random.default_rng(seed)
    m, n = random.integers(1, 10, 2)
    A = random.normal(size=(m, n)) * (random.random((m, n)) < 0.3)
    if dense_lines:
        A[random.integers(m)] = random.normal(size=n)
        A[:, random.integers(n)] = random.normal(size=m)
    check(lambda x: cr.tanh(A @ x), random.normal(size=n), of(A), mode)


def arrow(x):
    """Its Jacobian is an arrow: first row, first column, diagonal."""
    return cr.concat([(x * x).sum()[None], x[1:] ** 3 * x[0]])


@pytest.mark.parametrize("mode", ["push", "pull"])
def test_peeled_rows_and_columns(mode):
    dense = np.eye(9, dtype=bool)
    dense[0] = dense[:, 0] = True
    J = check(arrow, np.linspace(1, 2, 9), of(dense), mode)
    other = {"push": "pull", "pull": "push"}[mode]
    assert repr(J) == f"Compressed(9×9, 25 nonzeros, passes: 2 {mode}, 1 {other})"


@pytest.mark.parametrize("mode", ["push", "pull"])
@pytest.mark.parametrize("limit", [1, 150, 200])
def test_batches_of_passes(monkeypatch, limit, mode):
    monkeypatch.setattr(compressed, "LIMIT", limit)
    x = np.linspace(1, 2, 9)
    dense = np.tri(9, dtype=bool) & ~np.tri(9, k=-4, dtype=bool)
    dense[0] = dense[:, 0] = True

    def function(x):
        band = sum(cr.concat([cr.zeros(k, dtype=x.dtype), x[: 9 - k]]) * x for k in range(4))
        return cr.concat([(x * x).sum()[None], band[1:] + x[0]])

    J = check(function, x, of(dense), mode)
    assert len(J._batches) > 1
    np.testing.assert_array_equal(J(x), J(x))


def test_arrays_of_any_shape():
    def function(x):  # (2, 3) → (3, 2, 1)
        return cr.sin(x.T)[:, :, None]

    i = np.arange(6)
    pattern = Pattern.of(i, i.reshape(2, 3).T.ravel(), (6, 6))
    for mode in ("push", "pull"):
        check(function, np.linspace(0, 1, 6).reshape(2, 3), pattern, mode)


@pytest.mark.parametrize("limit", [1, 1000])
def test_another_dtype_of_the_result(monkeypatch, limit):
    monkeypatch.setattr(compressed, "LIMIT", limit)
    i = np.arange(3)
    pattern = Pattern.of(np.r_[i, 2], np.r_[i, 0], (3, 3))
    x = np.array([1, 2, 3], np.float32)

    def function(x):
        return cr.astype(x, cr.float64) ** 2

    for mode, dtype in (("push", np.float64), ("pull", np.float32)):
        values = Compressed(function, type_of(x), pattern, mode)(x)
        assert values.tolist() == [2, 4, 0, 6]
        assert values.dtype == dtype


@pytest.mark.parametrize("shape", [(3, 2), (0, 2), (3, 0)])
def test_nothing_to_find(shape):
    m, n = shape
    x = np.ones(n, np.float32)
    J = Compressed(lambda x: cr.zeros(m), type_of(x), Pattern.of([], [], shape))
    assert J(x).shape == (0,)
    assert J.csr(x).shape == shape


# -- what comes out ----------------------------------------------------------------------------


def test_the_sparse_array():
    x = rosenbrock_start(20, np.float64)
    J = Compressed(cr.grad(rosenbrock), type_of(x), Pattern.of(*rosenbrock_places(20)))
    found = J.csr(x)
    assert isinstance(found, scipy.sparse.csr_array)
    assert found.has_canonical_format
    np.testing.assert_allclose(found.toarray(), dense_of(cr.grad(rosenbrock), x), rtol=1e-13)
    found.indices[:] = 0  # the arrays are the caller's
    found.data[:] = 0
    np.testing.assert_allclose(J.csr(x).toarray(), dense_of(cr.grad(rosenbrock), x), rtol=1e-13)


def test_zeros_of_the_pattern_stay():
    i = np.arange(3)
    x = np.array([0.0, 1.0, 2.0])
    J = Compressed(lambda x: x * x, type_of(x), Pattern.of(np.r_[i, 0], np.r_[i, 2], (3, 3)))
    assert J(x).tolist() == [0, 0, 2, 4]
    assert J.csr(x).nnz == 4


def test_tensors_and_variables():
    """A Tensor is taken for its value; a Parameter that the function reads is read at each call."""
    i = np.arange(2)
    w = cr.Parameter(np.array([2.0, 3.0]))
    x = np.array([1.0, 1.0])
    J = Compressed(lambda x: w * x * x, type_of(x), Pattern.of(i, i, (2, 2)))
    assert J(cr.tensor(x)).tolist() == [4, 6]
    w.assign(np.array([5.0, 6.0]))
    assert J(cr.asarray(x)).tolist() == [10, 12]


# -- errors ------------------------------------------------------------------------------------

DIAGONAL = Pattern.of(np.arange(3), np.arange(3), (3, 3))
THREE = ArrayType((3,), np.dtype("float32"))


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.ones(3), DTypeError, r"prepared for float32\[3\], received float64"),
        (np.ones(4, np.float32), ShapeError, r"prepared for float32\[3\], received shape \(4,\)"),
        (np.ones((3, 1), np.float32), ShapeError, r"received shape \(3, 1\)"),
    ],
)
def test_another_input_than_prepared_for(x, error, message):
    J = Compressed(cr.sin, THREE, DIAGONAL)
    with pytest.raises(error, match=message):
        J(x)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda x: x[:2], ShapeError, r"one output of 3 entries, received float32\[2\]"),
        (lambda x: (x, x), ShapeError, r"received float32\[3\], float32\[3\]"),
        (lambda x: (), ShapeError, "received none"),
        (lambda x: cr.astype(x, cr.int32), GradientError, "result of dtype int32"),
    ],
)
def test_another_result_than_the_pattern_has(function, error, message):
    with pytest.raises(error, match=message):
        Compressed(function, THREE, DIAGONAL)(np.ones(3, np.float32))


def test_patterns_and_types_that_do_not_fit():
    with pytest.raises(ShapeError, match=r"shape \(3, 3\) does not fit an input float32\[4\]"):
        Compressed(cr.sin, ArrayType((4,), np.dtype("float32")), DIAGONAL)
    with pytest.raises(DTypeError, match="cannot differentiate by int64 values"):
        Compressed(cr.sin, ArrayType((3,), np.dtype("int64")), DIAGONAL)


def test_functions_that_cannot_be_traced_are_named_by_their_line():
    def branches(x):
        return x if x[0] > 0 else -x  # the line

    with pytest.raises(TraceError, match=r"test_compressed.py:\d+"):
        Compressed(branches, THREE, DIAGONAL)(np.ones(3, np.float32))


def test_without_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    J = Compressed(cr.sin, THREE, DIAGONAL)
    assert J(np.zeros(3, np.float32)).tolist() == [1, 1, 1]
    with pytest.raises(UnsupportedError, match="needs SciPy"):
        J.csr(np.zeros(3, np.float32))
