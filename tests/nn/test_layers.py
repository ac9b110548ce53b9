"""Linear and Sequential, and first values."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import AxisError, DataError, DTypeError, ShapeError


def test_linear_is_a_product_and_a_sum():
    layer = nn.Linear(3, 2, dtype=cr.float64)
    layer.bias.assign([10.0, 20.0])
    w = layer.weight.numpy()
    x = np.arange(12.0).reshape(2, 2, 3)
    assert np.allclose(layer(x), x @ w + [10, 20])
    assert np.allclose(layer(x[0, 0]), x[0, 0] @ w + [10, 20])
    assert layer(x).dtype == np.float64
    assert nn.Linear(3, 2)(x.astype("f")).dtype == np.float32
    bare = nn.Linear(3, 2, bias=False)
    assert bare.bias is None
    assert len(bare.parameters()) == 1


def test_initializer_and_dtype():
    layer = nn.Linear(3, 2, initializer=nn.init.ones, dtype="float64")
    assert layer.weight.dtype == np.float64
    assert np.array_equal(layer.weight, np.ones((3, 2)))


BAD = [
    (lambda: nn.Linear(0, 2), ShapeError, r"positive sizes \(inputs, outputs\), received \(0, 2\)"),
    (
        lambda: nn.Sequential(nn.LSTM(3, 4), nn.Linear(4, 2))(np.ones((2, 5, 3), "f")),
        DTypeError,
        r"Linear\(4, 2\) takes one array, received a tuple of 2: .* take the first",
    ),
    (lambda: nn.Linear(2.5, 2), ShapeError, r"received \(2.5, 2\)"),
    (lambda: nn.Linear(3, 2, dtype=int), DTypeError, r"must be float32 or float64"),
    (
        lambda: nn.Linear(3, 2)(np.ones((4, 5))),
        ShapeError,
        r"^Linear\(3, 2\) takes arrays with a last axis of 3, received shape \(4, 5\)",
    ),
    (
        lambda: nn.Sequential(nn.relu, nn.Linear(3, 2))(np.ones((4, 5))),
        ShapeError,
        r"layer 1, Linear\(3, 2\) takes arrays with a last axis of 3, received shape \(4, 5\)",
    ),
    (lambda: nn.Sequential(nn.Linear(2, 2), "relu"), DTypeError, r"entry 1 is 'relu'"),
    (lambda: nn.Sequential(nn.Linear), DTypeError, r"entry 0 .*; write Linear\(…\)"),
    (lambda: nn.Sequential(nn.relu)[1], AxisError, r"layer 1 is out of range: there are 1"),
    (lambda: nn.init.he_normal(0, (3,)), ShapeError, r"no evident fans: give fans="),
    (lambda: nn.init.he_normal(0, (3, 0)), ShapeError, r"fans are two .*received \(3, 0\)"),
    (lambda: nn.he_normal(0, (3, 2), fans=3), ShapeError, r"fans are two whole .*received 3 "),
    (lambda: nn.he_normal(0, (3, 2), fans=(3,)), ShapeError, r"received \(3,\)"),
    (lambda: nn.init.normal(0, (3,), std=None), DTypeError, r"std must be a number"),
    (lambda: nn.Linear(True, 2), ShapeError, r"Linear takes positive sizes"),
    (lambda: nn.Linear(2, 2, initializer=None), DTypeError, r"an initializer is a function"),
    (lambda: nn.Conv1d(1, 1, 1, initializer=3), DTypeError, r"an initializer is .*received 3"),
    (lambda: nn.maxout(np.ones((2, 4)), None), ShapeError, r"multiple of pieces=None"),
    (lambda: nn.leaky_relu(np.ones(2), None), DTypeError, r"slope must be a number"),
    (lambda: nn.layer_norm(np.ones((2, 3)), eps=None), DTypeError, r"eps must be a number"),
    (lambda: nn.group_norm(np.ones((2, 3)), 1, eps=-1), DataError, r"eps must be 0 or more"),
    (lambda: nn.layer_norm(np.ones((5, 3)), [1.0, 1.0]), ShapeError, r"a weight of shape \(2,\)"),
    (
        lambda: nn.conv1d(np.ones((5, 3)), np.ones((2, 3, 2)), [0.5]),
        ShapeError,
        r"bias must have shape \(2,\)",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_sequential_as_a_sequence():
    model = nn.Sequential(nn.Linear(2, 3), nn.relu, nn.Linear(3, 1))
    assert len(model) == 3
    assert model[1] is nn.relu
    assert model[-1] is model[2]
    assert [type(layer).__name__ for layer in model][::2] == ["Linear", "Linear"]
    before = model[2].weight.numpy()
    part = model[1:]
    assert isinstance(part, nn.Sequential)
    assert part[1] is model[2]
    assert model[2].weight.name == "2.weight"
    assert np.array_equal(model[2].weight, before)
    x = np.ones((4, 2), "f")
    assert np.array_equal(part(model[:1](x)), model(x))
    model.note = "an attribute is no layer"
    assert len(model) == 3
    assert np.array_equal(nn.Sequential()(x), x)


DRAWS = {
    nn.init.xavier_uniform: (2 / 700, "uniform"),
    nn.init.xavier_normal: (2 / 700, "normal"),
    nn.init.he_uniform: (2 / 400, "uniform"),
    nn.init.he_normal: (2 / 400, "normal"),
}


@pytest.mark.parametrize("draw", DRAWS, ids=lambda d: d.__name__)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_initializers_have_their_variance(draw, dtype):
    variance, kind = DRAWS[draw]
    w = draw(cr.random.key(3), (400, 300), dtype).numpy()
    assert w.dtype == dtype
    assert abs(w.mean()) < 4 * np.sqrt(variance / w.size)
    assert w.var() == pytest.approx(variance, rel=0.02)
    largest = np.abs(w).max() / np.sqrt(variance)
    assert largest <= np.sqrt(3) + 1e-6 if kind == "uniform" else largest > 3.5
    assert np.array_equal(w, draw(3, (400, 300), dtype)), "a seed is as good as its key"
    assert not np.any(w == draw(4, (400, 300), dtype).numpy())


def test_fans_and_the_plain_ones():
    w = nn.init.he_normal(0, (8, 4, 3, 3), fans=(400, 1)).numpy()
    assert w.std() == pytest.approx(np.sqrt(2 / 400), rel=0.15)
    assert nn.init.normal(0, (10000,), std=0.5).numpy().std() == pytest.approx(0.5, rel=0.03)
    assert nn.init.zeros(0, (2, 3)).numpy().sum() == 0
    assert nn.init.ones(0, (2, 3), "float64").dtype == np.float64


def test_lists_are_arrays():
    x = np.random.default_rng(0).normal(size=(5, 3)).astype("f4")
    ones, zeros = [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]
    calls = {
        nn.layer_norm: (x, ones, zeros), nn.rms_norm: (x, ones), nn.group_norm: (x, 1, ones, zeros),
        nn.batch_norm: (x, ones, zeros, zeros, ones),
        nn.conv1d: (x, np.ones((2, 3, 2), "f4"), [0.5, 0.5]),
        nn.conv_transpose1d: (x, np.ones((2, 2, 3), "f4"), [0.5, 0.5]),
    }  # fmt: skip
    for function, given in calls.items():
        arrays = [np.array(v, "f4") if isinstance(v, list) else v for v in given]
        assert (function(*given).numpy() == function(*arrays).numpy()).all()
