# ruff: noqa: RUF005 (lists are added to arrays)
"""Python numbers and lists of them take the dtype of the arrays beside them, exactly."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import DTypeError, ShapeError, UnsupportedError

X = np.array([1.0, 2.0])
PROBABILITIES = np.array([0.2, 0.7])

EXACT = {
    "set": (lambda x: x.at[0].set(0.1), [0.1, 2.0]),
    "add at": (lambda x: (x * 0).at[0].add(0.1), [0.1, 0.0]),
    "pad": (lambda x: cr.pad(x, (1, 0), value=0.1), [0.1, 1.0, 2.0]),
    "np.pad": (lambda x: np.pad(x, (1, 0), constant_values=0.1), [0.1, 1.0, 2.0]),
    "dot": (lambda x: cr.dot(x, 0.1), X * 0.1),
    "np.dot": (lambda x: np.dot(x, 0.1), X * 0.1),
    "np.inner": (lambda x: np.inner(0.1, x), X * 0.1),
    "outer": (lambda x: cr.outer(x, 0.1), np.outer(X, 0.1)),
    "tensordot": (lambda x: cr.tensordot(x, 0.1, axes=0), X * 0.1),
    "vecdot": (lambda x: cr.vecdot(x, [0.1, 0.2]), np.float64(0.1 + 0.4)),
    "matmul": (lambda x: cr.matmul(x, [[0.1], [0.2]]), [0.1 + 0.4]),
    "einsum": (lambda x: cr.einsum("i,->i", x, 0.1), X * 0.1),
    "stack": (lambda x: cr.stack([x[0], 0.1]), [1.0, 0.1]),
    "append": (lambda x: np.append(x, 0.1), [1.0, 2.0, 0.1]),
    "divmod": (lambda x: divmod(0.7, x)[1], 0.7 % X),
    "maximum": (lambda x: cr.maximum(x, [0.1, 2.7]), [1.0, 2.7]),
    "where": (lambda x: cr.where(np.array([True, False]), x, [0.1, 0.7]), [1.0, 0.7]),
    "clip": (lambda x: cr.clip(x, [1.1, 0.0], [9.0, 1.7]), [1.1, 1.7]),
    "list on the right": (lambda x: x * [0.1, 0.2], X * [0.1, 0.2]),
    "tuple on the left": (lambda x: (0.1, 0.2) - x, [0.1, 0.2] - X),
    "lists of one": (lambda x: x / [0.3], X / 0.3),
    "asarray": (lambda x: cr.asarray([x[0], 0.1, [0.2][0]]), [1.0, 0.1, 0.2]),
    "hstack": (lambda x: np.hstack([x, 0.1]), [1.0, 2.0, 0.1]),
    "kron": (lambda x: np.kron([0.1], x), X * 0.1),
    "weights": (
        lambda x: nn.binary_cross_entropy(x, [1.0, 0.0], positive_weight=0.3, reduction="none"),
        [0.3 * np.log1p(np.exp(-1.0)), np.log1p(np.exp(2.0))],
    ),
}


@pytest.mark.parametrize("name", EXACT)
def test_numbers_are_exact_beside_float64(name):
    function, expected = EXACT[name]
    for received in (function(cr.tensor(X)), cr.compile(function)(X), function(cr.asarray(X))):
        assert received.dtype == np.float64
        np.testing.assert_allclose(received, expected, rtol=1e-15)
    assert function(cr.tensor(X.astype("f4"))).dtype == np.float32


def test_astype_is_exact():
    assert cr.astype([0.1, 0.3], "float64").tolist() == [0.1, 0.3]
    assert cr.astype(0.1, np.float64).item() == 0.1


def test_a_number_that_a_compiled_function_is_called_with():
    f = cr.compile(lambda x, c: (cr.stack([x[0], c]), x.at[1].set(c), cr.dot(x, c)))
    for received, expected in zip(f(X, 0.1), ([1, 0.1], [1, 0.1], [0.1, 0.2]), strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-15)


@pytest.mark.parametrize("compare", ["__eq__", "__lt__", "__ge__"])
def test_lists_are_compared(compare):
    received = getattr(cr.asarray(X), compare)([1.0, 2.5])
    assert received.tolist() == getattr(X, compare)([1.0, 2.5]).tolist()


def test_lists_of_whole_numbers_keep_the_dtype():
    assert (cr.asarray([1, 2], dtype="int8") + [3, 4]).dtype == np.int8
    assert (cr.asarray([1, 2], dtype="int8") + [3.0, 4.0]).dtype == np.float64
    assert (cr.asarray(X.astype("f4")) * [3, 4]).dtype == np.float32
    assert cr.maximum([1.0, 2.0], [1, 3]).dtype == np.float32
    assert (cr.asarray([1, 2]) + [True, False]).tolist() == [2, 2]


def test_lists_that_hold_tensors():
    x = cr.tensor(3.0)
    y = cr.asarray([1.0, 2.0]) * [x, 2.0]
    y.sum().backward()
    assert y.tolist() == [3, 4] and float(x.grad) == 1
    constant = cr.asarray(np.float32(0.5))
    assert cr.asarray([constant, 0.5]).dtype == np.float32
    assert cr.asarray([[constant, 1.0], [2, x]]).shape == (2, 2)


def test_round_to_decimals():
    x = cr.tensor(np.array([2.567, -1.25, 1234.0]))
    assert np.array_equal(round(x, 1), np.round([2.567, -1.25, 1234.0], 1))
    assert np.array_equal(x.round(2), np.round([2.567, -1.25, 1234.0], 2))
    assert np.array_equal(np.round(x, decimals=2), np.round([2.567, -1.25, 1234.0], 2))
    assert np.array_equal(round(x, -2), [0, 0, 1200])
    assert round(x).tolist() == [3, -1, 1234]
    assert round(cr.asarray([3, 4]), 1).tolist() == [3, 4]
    with pytest.raises(UnsupportedError, match=r"to -1 decimals takes floats, received int64"):
        round(cr.asarray([3, 4]), -1)


def test_linspace_between_tensors():
    start, stop = cr.tensor(np.float64(1.0)), cr.tensor(np.float64(2.0))
    for endpoint in (True, False):
        line = cr.linspace(start, stop, 5, endpoint=endpoint)
        assert line.dtype == np.float64
        np.testing.assert_allclose(line, np.linspace(1.0, 2.0, 5, endpoint), rtol=1e-15)
    assert float(cr.grad(lambda a: cr.linspace(a, 2.0, 3).sum())(1.0)) == 1.5
    compiled = cr.compile(lambda a, b: np.linspace(cr.asarray(a), b, 4))
    np.testing.assert_allclose(compiled(X, 3.0), np.linspace(X, 3.0, 4), rtol=1e-6)
    assert cr.linspace(start, 2, 1).tolist() == [1.0] and cr.linspace(start, 2, 0).shape == (0,)
    assert cr.linspace(start, 2, 3, dtype="float32").dtype == np.float32


def test_triangles_keep_the_dtype():
    for dtype in ("bool", "uint8", "int64", "float32"):
        ones = np.ones((3, 3), dtype)
        assert cr.tril(ones).dtype == cr.triu(ones, k=1).dtype == dtype
    mask = cr.tril(np.ones((4, 4), bool))
    q = cr.asarray(np.ones((4, 2), "f4"))
    assert nn.scaled_dot_product_attention(q, q, q, mask=mask).shape == (4, 2)


def test_nothing_is_the_sum_of_no_powers():
    assert cr.logsumexp(np.zeros((3, 0)), axis=1).tolist() == [-np.inf] * 3
    assert cr.logsumexp(np.zeros((0, 2), "f4"), keepdims=True).shape == (1, 1)
    assert cr.logsumexp(np.zeros((0, 2))).dtype == np.float64


def test_methods_with_numpys_names():
    x = cr.tensor(np.array([[1.0, 2.0, 4.0], [0.0, 1.0, 5.0]]))
    np.testing.assert_allclose(x.std(ddof=1), np.std(x.numpy(), ddof=1))
    np.testing.assert_allclose(x.var(0, correction=1), np.var(x.numpy(), 0, ddof=1))
    np.testing.assert_allclose(x.cumprod(1), np.cumprod(x.numpy(), 1))
    assert cr.imag(cr.asarray([1, 2])).tolist() == [0, 0]


BAD = [
    (lambda: cr.asarray([2]) ** -1, DTypeError, r"pow: .*negative integer powers.*Cast to a float"),
    (lambda: cr.asarray([1, 2], dtype="uint8").at[0].set(300), DTypeError, r"not fit into uint8"),
    (lambda: cr.pad(cr.asarray([1], dtype="uint8"), 1, value=300), DTypeError, r"do not fit"),
    (lambda: cr.asarray([1], dtype="int8") + [300], DTypeError, r"300 to 300 do not fit into int8"),
    (lambda: cr.asarray(X) + 1j, UnsupportedError, r"complex numbers are not supported"),
    (lambda: cr.asarray(X) * [1.0, 2.0, 3.0], ShapeError, r"\(2,\) .*\(3,\)"),
    (lambda: cr.asarray(X) * ["a"], UnsupportedError, r"dtype <U1 is not supported"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "uint32", "int64", "uint64"])
@pytest.mark.parametrize(
    "f", [cr.softmax, cr.log_softmax, cr.logsumexp, cr.vector_norm], ids=lambda f: f.__name__
)
def test_integers_do_not_wrap_on_the_way_to_a_float(f, dtype):
    high = min(np.iinfo(dtype).max, 30_000)
    x = np.array([[3, 1, 2, 0], [high, high - 1, 5, max(np.iinfo(dtype).min, -high)]], dtype)
    exact = np.asarray(f(x.astype("float64")))
    for found in (f(x), cr.compile(f)(x)):
        np.testing.assert_allclose(np.asarray(found), exact, rtol=1e-5, atol=1e-40)


def test_softmax_takes_bools():
    assert cr.softmax([[True, False]]).tolist() == cr.softmax([[1.0, 0.0]]).tolist()
