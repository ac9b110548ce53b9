"""Dropout: how much is left out, that the mean stays, and that a stream continues."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn


@pytest.mark.parametrize("rate", [0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_share_and_scale(rate, dtype):
    x = np.ones((200, 100), dtype)
    y = nn.dropout(x, rate, cr.random.key(3)).numpy()
    assert y.dtype == dtype
    assert set(np.unique(y)) <= {0, np.array(1 / (1 - rate), dtype)[()]}
    assert (y == 0).mean() == pytest.approx(rate, abs=4 * np.sqrt(0.25 / x.size))
    assert np.array_equal(y, nn.dropout(x, rate, cr.random.key(3)))


def test_what_is_left_out_has_no_gradient_even_at_infinity():
    x = cr.tensor(np.full(50, np.inf))
    y = nn.dropout(x, 0.5, cr.random.key(0))
    y.sum().backward()
    assert set(y.tolist()) == {0, np.inf}
    assert np.array_equal(x.grad, np.where(y.numpy() == 0, 0, 2))


def test_each_call_in_training_leaves_out_others():
    layer = nn.Dropout(0.5, seed=1)
    x = np.ones(64, "f")
    first, second = layer(x, training=True).numpy(), layer(x, training=True).numpy()
    assert (first != second).any()
    assert np.array_equal(layer(x), x)
    assert int(layer.counter) == 2
    layer.counter.assign(0)
    assert np.array_equal(layer(x, training=True), first)


def test_two_layers_of_one_model_leave_out_others():
    model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5))
    x = np.ones(64, "f")
    assert (model[0](x, training=True).numpy() != model[1](x, training=True).numpy()).any()


def test_the_identity_keeps_the_value_a_variable_had():
    x = cr.tensor([1.0, 2.0])
    y = nn.Dropout(0.5)(x)
    x.assign([3.0, 4.0])
    assert y.tolist() == [1, 2]


def test_training_is_handed_on_to_where_it_counts():
    model = nn.Sequential(nn.Residual(nn.Sequential(nn.Dropout(0.5), nn.relu)), nn.BatchNorm(64))
    x = np.random.default_rng(0).normal(size=(4, 64)).astype("f")
    model(x)
    assert int(model[0].module[0].counter) == 0
    model(x, training=True)
    assert int(model[0].module[0].counter) == 1
    assert model[1].running_mean.numpy().any()
