"""per_example_grad: as a loop over batches of one, and its mean is the gradient of the mean."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.autodiff.per_example import per_example_grad
from chainrule.errors import AxisError, GradientError, ShapeError, TraceError

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(5, 3)), np.array([0, 2, 1, 1, 0])


def net():
    layers = nn.Linear(3, 4, seed=1, dtype=cr.float64), nn.Linear(4, 3, seed=2, dtype=cr.float64)
    return nn.Sequential(layers[0], nn.tanh, layers[1])


def loss(model, x, y):
    return nn.softmax_cross_entropy(model(x), y)


def test_of_a_model():
    model = net()
    found = per_example_grad(loss)(model, X, Y)
    assert isinstance(found, nn.Sequential)
    mean = cr.grad(loss)(model, X, Y)
    for (name, p), g, whole in zip(
        model.named_parameters(), found.parameters(), mean.parameters(), strict=True
    ):
        assert g.shape == (5, *p.shape), name
        assert np.allclose(g.mean(axis=0), whole, rtol=1e-13, atol=1e-15), name
    for i in range(5):
        one = cr.grad(loss)(model, X[i : i + 1], Y[i : i + 1])
        for g, single in zip(found.parameters(), one.parameters(), strict=True):
            assert np.allclose(g[i], single, rtol=1e-13, atol=1e-15)
    assert all(p.grad is None for p in model.parameters())


def test_arguments_of_every_kind():
    w, shift, data = RNG.normal(size=3), {"by": np.float64(0.5)}, {"x": [X], "none": None}

    def f(w, data, shift, *, scale, y, power=2):
        error = data["x"][0] @ w + shift["by"] - y
        return scale * (error**power).mean()

    y = RNG.normal(size=5)
    error = X @ w + 0.5 - y
    for wrt in (0, "w", -3):
        found = per_example_grad(f, wrt)(w, data, shift, scale=3.0, y=y)
        assert np.allclose(found, 6 * error[:, None] * X, rtol=1e-13)
    both = per_example_grad(f, ("w", "scale"))(w, data, shift, scale=3.0, y=y)
    assert np.allclose(both[0], 6 * error[:, None] * X, rtol=1e-13)
    assert np.allclose(both[1], error**2, rtol=1e-6)  # a Python number counts in float32
    # the argument to differentiate by is whole for each example
    assert per_example_grad(lambda y, x: (x @ w).sum() * (y**2).sum())(y, X).shape == (5, 5)


def test_the_function_sees_batches_of_one():
    seen = []
    layers = nn.Conv2d(1, 2, 3, seed=1), nn.relu, nn.flatten, nn.Linear(8, 3, seed=2)
    model = nn.Sequential(*layers)
    images = RNG.normal(size=(5, 4, 4, 1)).astype("f")

    def f(model, x, y, weights):
        seen.append((x.shape, y.shape, weights.shape))
        return (weights * nn.softmax_cross_entropy(model(x), y, reduction="none")).mean()

    weights = np.arange(5, dtype="f")
    found = per_example_grad(f)(model, images, Y, weights)
    assert set(seen) == {((1, 4, 4, 1), (1,), (1,))}
    for g, whole in zip(
        found.parameters(), cr.grad(f)(model, images, Y, weights).parameters(), strict=True
    ):
        assert np.allclose(g.mean(axis=0), whole, rtol=1e-4, atol=1e-6)
        assert not g.numpy()[0].any()  # its weight is 0


def test_one_example_and_none():
    w = np.ones(3)
    square = per_example_grad(lambda w, x: ((x @ w) ** 2).sum())
    assert np.allclose(square(w, X[:1]), 2 * X[:1].sum() * X[:1])
    assert square(w, X[:0]).shape == (0, 3)


def test_second_order_goes_through():
    """The norm of each example's gradient can be differentiated again."""

    def sharpness(w):
        g = per_example_grad(lambda w, x: ((x @ w) ** 2).mean())(w, X)
        return (g * g).sum()

    assert cr.check_gradients(sharpness, RNG.normal(size=3))


def test_bad_calls():
    f = per_example_grad(lambda w, x: (x @ w).mean())
    with pytest.raises(AxisError, match=r"found no batch: besides the argument 0 the call has no"):
        f(np.ones(3), 2.0)
    with pytest.raises(ShapeError, match=r"batch sizes differ, 5 and 4"):
        per_example_grad(loss)(net(), X, Y[:4])
    with pytest.raises(GradientError, match=r"wrt='z' names no argument"):
        per_example_grad(lambda w, x: (x @ w).mean(), "z")(np.ones(3), X)
    with pytest.raises(GradientError, match=r"one scalar result"):
        per_example_grad(lambda w, x: x * w)(np.ones(3), X)
    counter = cr.tensor(0.0)

    def counting(w, x):
        counter.assign(counter + 1)
        return (x @ w).mean()

    with pytest.raises(TraceError):
        per_example_grad(counting)(np.ones(3), X)
    assert counter.item() == 0
