"""Activations: values, derivatives of two orders, kinks, huge inputs."""

import math

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn


def erf(x):
    return np.vectorize(math.erf)(x)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# name: the function, its formula in NumPy, its derivative at 0 (None: not entry by entry)
TABLE = {
    "relu": (nn.relu, lambda x: np.maximum(0, x), 0),
    "sigmoid": (nn.sigmoid, lambda x: 1 / (1 + np.exp(-x)), 0.25),
    "tanh": (nn.tanh, np.tanh, 1),
    "leaky_relu": (nn.leaky_relu, lambda x: np.where(x > 0, x, 0.01 * x), 0.01),
    "leaky_relu 0.3": (
        lambda x: nn.leaky_relu(x, slope=0.3), lambda x: np.where(x > 0, x, 0.3 * x), 0.3,
    ),
    "elu": (nn.elu, lambda x: np.where(x > 0, x, np.exp(x) - 1), 1),
    "elu 2": (lambda x: nn.elu(x, alpha=2), lambda x: np.where(x > 0, x, 2 * np.exp(x) - 2), 2),
    "softplus": (nn.softplus, lambda x: np.log(1 + np.exp(x)), 0.5),
    "gelu": (nn.gelu, lambda x: x * (1 + erf(x / np.sqrt(2))) / 2, 0.5),
    "gelu tanh": (
        lambda x: nn.gelu(x, approximate="tanh"),
        lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))), 0.5,
    ),
    "silu": (nn.silu, lambda x: x / (1 + np.exp(-x)), 0.5),
    "softmax": (nn.softmax, softmax, None),
    "log_softmax": (nn.log_softmax, lambda x: np.log(softmax(x)), None),
    "maxout": (lambda x: nn.maxout(x, 2), lambda x: x.reshape(2, 3, 2).max(-1), None),
}  # fmt: skip
NAMES = ["elu", "gelu", "leaky_relu", "log_softmax", "maxout", "relu", "sigmoid", "silu", "softmax",
         "softplus", "tanh"]  # fmt: skip
X = np.array([[-3.0, -1.1, -0.2, 0.4, 1.3, 2.9], [0.7, -0.6, 2.0, -2.2, 0.1, -4.0]])


def test_the_table_is_complete():
    assert sorted({name.split()[0] for name in TABLE}) == NAMES
    assert set(NAMES) <= set(nn.__all__)


@pytest.mark.parametrize("name", TABLE)
def test_values(name):
    function, formula, _ = TABLE[name]
    assert np.allclose(function(X), formula(X), rtol=1e-14, atol=1e-15)
    x = X.astype(np.float32)
    assert function(x).dtype == np.float32
    assert np.allclose(function(x), formula(X), rtol=1e-5, atol=1e-6)


def test_gelu_approximates():
    x = np.linspace(-6, 6, 1001)
    assert np.abs(nn.gelu(x).numpy() - nn.gelu(x, approximate="tanh").numpy()).max() < 5e-4


@pytest.mark.parametrize("name", TABLE)
def test_first_and_second_derivatives(name):
    function = TABLE[name][0]
    assert cr.check_gradients(function, X, every_entry=True)
    weights = np.linspace(-1, 1, function(X).size).reshape(function(X).shape)
    assert cr.check_gradients(cr.grad(lambda x: (function(x) * weights).sum()), X)
    assert cr.check_gradients(cr.grad(lambda x: (cr.grad(
        lambda y: (function(y) * weights).sum())(x) ** 2).sum()), X)  # fmt: skip


@pytest.mark.parametrize("name", [n for n, row in TABLE.items() if row[2] is not None])
def test_derivative_at_zero(name):
    function, _, slope = TABLE[name]
    assert float(cr.grad(function)(np.float64(0))) == pytest.approx(slope, rel=1e-15)


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_huge_inputs_stay_finite(name, dtype):
    function = TABLE[name][0]
    big = np.finfo(dtype).max / 8
    x = np.array([[-big, -1e4, -100, 100, 1e4, big], [-big, big, 0, -big, big, 0]], dtype)

    def gradient(x, f=function):
        y, pull = cr.vjp(f, x)
        return pull(np.ones(y.shape, dtype))[0]

    assert np.isfinite(function(x).numpy()).all()
    assert np.isfinite(gradient(x).numpy()).all()
    # a second derivative may be too large for the dtype, but none is NaN
    assert not np.isnan(gradient(x, gradient).numpy()).any()


@pytest.mark.parametrize("name", TABLE)
def test_nan_stays_nan(name):
    x = X.copy()
    x[0, 0] = np.nan
    y = TABLE[name][0](x).numpy()
    assert np.isnan(y[0, 0])
    assert not np.isnan(y[1]).any()


def test_maxout_shares_ties():
    x = cr.tensor([1.0, 1.0, 0.0, 2.0])
    nn.maxout(x, 2).sum().backward()
    assert x.grad.tolist() == [0.5, 0.5, 0, 1]


BAD = [
    (lambda: nn.maxout(np.ones((2, 5)), 2), cr.errors.ShapeError,
     r"multiple of pieces=2, received shape \(2, 5\)"),
    (lambda: nn.maxout(np.float32(1), 1), cr.errors.ShapeError, r"received shape \(\)"),
    (lambda: nn.maxout(np.ones(4), 0), cr.errors.ShapeError, r"pieces=0"),
    (lambda: nn.gelu(X, approximate="erf"), cr.errors.UnsupportedError, r'"none" or "tanh"'),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
