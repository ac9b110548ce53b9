"""The networks of the course's notes: N3, N5, N6 (N7 is in test_losses.py)."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn


def test_n3_without_an_activation_the_network_collapses():
    """W2·(W1·x) = (W2·W1)·x = W3·x, in value and in derivative by x."""
    rng = np.random.default_rng(3)
    model = nn.Sequential(
        nn.Linear(5, 7, bias=False, dtype=cr.float64), nn.Linear(7, 4, bias=False, dtype=cr.float64)
    )
    w3 = model[0].weight @ model[1].weight
    x = rng.normal(size=(6, 5))
    assert np.allclose(model(x), x @ w3.numpy(), rtol=1e-13, atol=1e-14)
    jacobian = np.asarray(cr.jacobian(model)(x[0]))
    assert np.allclose(jacobian, w3.numpy().T, rtol=1e-13, atol=1e-14)
    bent = nn.Sequential(model[0], nn.relu, model[1])
    assert not np.allclose(bent(x), x @ w3.numpy(), atol=0.1)


def test_n5_forward_pass_of_a_three_layer_network():
    rng = np.random.default_rng(5)
    W1, W2, W3 = (cr.tensor(rng.normal(size=s)) for s in ((4, 3), (4, 4), (1, 4)))
    b1, b2, b3 = (cr.tensor(rng.normal(size=s)) for s in ((4, 1), (4, 1), (1, 1)))

    f = nn.sigmoid
    x = rng.normal(size=(3, 1))
    h1 = f(W1 @ x + b1)
    h2 = f(W2 @ h1 + b2)
    out = W3 @ h2 + b3

    def g(t):
        return 1 / (1 + np.exp(-t))

    w, b = [t.numpy() for t in (W1, W2, W3)], [t.numpy() for t in (b1, b2, b3)]
    by_hand = w[2] @ g(w[1] @ g(w[0] @ x + b[0]) + b[1]) + b[2]
    assert out.shape == (1, 1)
    assert np.allclose(out, by_hand, rtol=1e-14)
    out.backward()
    assert [t.grad.shape for t in (h1, h2, W1, b3)] == [(4, 1), (4, 1), (4, 3), (1, 1)]


def by_hand(x, y, w1, w2, steps, rate=1e-4):
    """The notes' loop in NumPy with its gradients written out."""
    losses = []
    for _ in range(steps):
        h = 1 / (1 + np.exp(-x.dot(w1)))
        y_pred = h.dot(w2)
        losses.append(np.square(y_pred - y).sum())
        grad_y_pred = 2.0 * (y_pred - y)
        grad_w2 = h.T.dot(grad_y_pred)
        grad_h = grad_y_pred.dot(w2.T)
        grad_w1 = x.T.dot(grad_h * h * (1 - h))
        w1 = w1 - rate * grad_w1
        w2 = w2 - rate * grad_w2
    return losses, w1, w2


def n6(steps):
    """The same program, gradients by backward."""
    N, D_in, H, D_out = 64, 1000, 100, 10
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(N, D_in)), rng.normal(size=(N, D_out))
    start = rng.normal(size=(D_in, H)), rng.normal(size=(H, D_out))

    w1, w2 = cr.tensor(start[0]), cr.tensor(start[1])
    losses = []
    for _ in range(steps):
        y_pred = nn.sigmoid(x @ w1) @ w2
        loss = nn.summed_squared_error(y_pred, y)
        loss.backward()
        losses.append(float(loss))
        w1.assign(w1 - 1e-4 * w1.grad)
        w2.assign(w2 - 1e-4 * w2.grad)
    return (losses, w1, w2), by_hand(x, y, *start, steps)


def compare(steps):
    (losses, w1, w2), (expected, v1, v2) = n6(steps)
    assert losses == pytest.approx(expected, rel=1e-12)
    assert np.abs(w1.numpy() - v1).max() <= 1e-12 * np.abs(v1).max()
    assert np.abs(w2.numpy() - v2).max() <= 1e-12 * np.abs(v2).max()
    return losses


def test_n6_training_a_two_layer_network():
    losses = compare(2000)
    assert losses[-1] < 0.01 * losses[0]


def test_n6_as_modules():
    """The same numbers through Sequential and SGD."""
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(64, 1000)), rng.normal(size=(64, 10))
    start = rng.normal(size=(1000, 100)), rng.normal(size=(100, 10))
    layers = [nn.Linear(*w.shape, bias=False, dtype=cr.float64) for w in start]
    model = nn.Sequential(layers[0], nn.sigmoid, layers[1])
    for layer, w in zip(layers, start, strict=True):
        layer.weight.assign(w)
    optimizer = cr.optim.SGD(model, lr=1e-4)
    losses = []
    for _ in range(50):
        loss = nn.summed_squared_error(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses == pytest.approx(by_hand(x, y, *start, 50)[0], rel=1e-12)
