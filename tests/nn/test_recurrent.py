"""Recurrent layers: steps by hand, continued sequences, both directions, long ones."""

import numpy as np
import optree
import pytest

import chainrule as cr
from chainrule import nn

KINDS = [nn.RNN, nn.LSTM, nn.GRU]
R = np.random.default_rng(0)
X = R.normal(size=(3, 7, 4))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def steps(layer, x):
    """The outputs of a layer of one direction, in NumPy."""
    p = {n.rsplit(".", 1)[1]: v.numpy() for n, v in layer.named_parameters()}
    h = c = np.zeros((len(x), layer.hidden))
    outputs = []
    for t in range(x.shape[1]):
        a, b = (
            x[:, t] @ p["input_weight"] + p["input_bias"],
            h @ p["hidden_weight"] + p["hidden_bias"],
        )
        if isinstance(layer, nn.LSTM):
            i, f, g, o = np.split(a + b, 4, axis=-1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        elif isinstance(layer, nn.GRU):
            (r, z, n), (r_h, z_h, n_h) = np.split(a, 3, axis=-1), np.split(b, 3, axis=-1)
            n = np.tanh(n + sigmoid(r + r_h) * n_h)
            h = (1 - sigmoid(z + z_h)) * n + sigmoid(z + z_h) * h
        else:
            h = np.tanh(a + b)
        outputs.append(h)
    return np.stack(outputs, axis=1), h, c


@pytest.mark.parametrize("kind", KINDS)
def test_steps_by_hand(kind):
    layer = kind(4, 3, seed=1, dtype="float64")
    outputs, state = layer(X)
    expected, h, c = steps(layer, X)
    assert np.allclose(outputs, expected, rtol=1e-12)
    state = state if isinstance(state, tuple) else (state,)
    for ours, value in zip(state, (h, c), strict=False):
        assert np.allclose(ours[0], value, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [1, 2])
def test_a_sequence_in_two_parts(kind, layers):
    layer = kind(4, 3, layers, dtype="float64")
    whole, last = layer(X)
    first, state = layer(X[:, :3])
    second, end = layer(X[:, 3:], state)
    assert np.allclose(np.concatenate([first, second], axis=1), whole, rtol=1e-12)
    for a, b in zip(optree.tree_leaves(last), optree.tree_leaves(end), strict=True):
        assert np.allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_backward_direction_is_the_forward_one_on_the_reversed_sequence(kind):
    layer = kind(4, 3, bidirectional=True, dtype="float64")
    there = kind(4, 3, dtype="float64")
    there.layers[0]["forward"].load_state(layer.layers[0]["backward"].state())
    outputs, state = layer(X)
    expected, end = there(X[:, ::-1])
    assert np.allclose(outputs[..., 3:], expected.numpy()[:, ::-1], rtol=1e-12)
    for a, b in zip(optree.tree_leaves(state), optree.tree_leaves(end), strict=True):
        assert a.shape == (2, 3, 3)
        assert np.allclose(a[1], b[0], rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_leading_axes(kind):
    layer = kind(4, 3, dtype="float64")
    whole, _ = layer(X)
    alone, state = layer(X[0])
    assert np.allclose(alone, whole[0], rtol=1e-12)
    assert optree.tree_leaves(state)[0].shape == (1, 3)
    more, state = layer(X.reshape(3, 1, 7, 4))
    assert np.allclose(more[:, 0], whole, rtol=1e-12)
    assert optree.tree_leaves(state)[0].shape == (1, 3, 1, 3)


def test_names_and_first_values():
    layer = nn.LSTM(4, 25, layers=2, bidirectional=True, seed=1)
    names = [n for n, _ in layer.named_parameters()]
    assert names[:4] == [
        f"layers.0.forward.{n}"
        for n in ("input_weight", "hidden_weight", "input_bias", "hidden_bias")
    ]
    assert len(names) == 16
    assert layer.layers[1]["backward"].input_weight.shape == (50, 100)
    every = np.concatenate([p.numpy().reshape(-1) for p in layer.parameters()])
    assert np.abs(every).max() <= 0.2
    assert every.std() == pytest.approx(0.2 / np.sqrt(3), rel=0.02)
    again = nn.LSTM(4, 25, layers=2, bidirectional=True, seed=1)
    assert all(np.array_equal(v, again.state()[n]) for n, v in layer.state().items())
    assert len({v.tobytes() for v in layer.state().values()}) == 16


def test_the_state_is_cast_and_is_differentiated():
    layer = nn.LSTM(4, 3, dtype="float64")
    h, c = cr.tensor(np.ones((1, 3, 3), "f")), cr.tensor(np.zeros((1, 3, 3), "f"))
    outputs, _ = layer(X, (h, c))
    assert outputs.dtype == np.float64
    outputs.sum().backward()
    assert h.grad.dtype == np.float32
    assert h.grad.numpy().any()
    assert c.grad.numpy().any()


def test_second_order():
    layer = nn.GRU(2, 2, dtype="float64")
    x = X[:1, :3, :2]

    def slope(m, x):
        return (cr.grad(lambda x: (m(x)[0] ** 2).sum())(x) ** 2).sum()

    assert cr.check_gradients(slope, layer, x, directions=1)


def test_a_long_sequence():
    layer = nn.RNN(1, 2)
    x = cr.tensor(np.ones((1, 1000, 1), "f"))
    outputs, _ = layer(x)
    outputs[0, -1].sum().backward()
    assert np.isfinite(x.grad.numpy()).all()
