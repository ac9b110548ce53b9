"""Normalisation: what comes out is normalised, and BatchNorm's running statistics are PyTorch's."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn

R = np.random.default_rng(0)


@pytest.mark.parametrize("momentum", [0.1, 0.5, 1.0, 0])
def test_running_statistics_are_pytorchs(momentum):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    ours, theirs = nn.BatchNorm(3, momentum=momentum), torch.nn.BatchNorm2d(3, momentum=momentum)
    for step in range(4):
        x = R.normal(size=(4, 2, 5, 3)).astype("f") * (step + 1) + step
        y = ours(x, training=True).numpy()
        z = theirs(torch.tensor(x).movedim(-1, 1)).movedim(1, -1).detach().numpy()
        assert np.allclose(y, z, atol=3e-6)
        assert np.allclose(ours.running_mean, theirs.running_mean, rtol=1e-5, atol=1e-6)
        assert np.allclose(ours.running_variance, theirs.running_var, rtol=1e-5, atol=1e-6)
    theirs.eval()
    z = theirs(torch.tensor(x).movedim(-1, 1)).movedim(1, -1).detach().numpy()
    assert np.allclose(ours(x), z, atol=1e-5)


def test_evaluation_changes_nothing_and_an_example_does_not_see_the_others():
    layer = nn.BatchNorm(3)
    layer(R.normal(size=(8, 3)), training=True)
    before = layer.state()
    x = R.normal(size=(4, 3))
    assert np.allclose(layer(x)[:1], layer(x[:1]))
    assert all(np.array_equal(v, before[n]) for n, v in layer.state().items())


# what is normalised: the function and the axes over which mean and variance become 0 and 1
OVER = {
    "batch": (lambda x: nn.batch_norm(x, eps=0), (0, 1, 2)),
    "layer": (lambda x: nn.layer_norm(x, eps=0), (3,)),
    "instance": (lambda x: nn.group_norm(x, 4, eps=0), (1, 2)),
    "group of all": (lambda x: nn.group_norm(x, 1, eps=0), (1, 2, 3)),
}


@pytest.mark.parametrize("name", OVER)
def test_mean_0_and_variance_1(name):
    function, axes = OVER[name]
    y = function(R.normal(size=(3, 5, 4, 4)) * 7 + 100).numpy()
    assert np.allclose(y.mean(axes), 0, atol=1e-12)
    assert np.allclose(y.var(axes), 1, atol=1e-12)


def test_rms_norm_does_not_centre():
    y = nn.rms_norm(R.normal(size=(3, 4)) + 5, eps=0).numpy()
    assert np.allclose((y**2).mean(-1), 1)
    assert y.min() > 0


@pytest.mark.parametrize("function", [nn.batch_norm, nn.layer_norm, nn.rms_norm])
def test_constant_rows_are_safe(function):
    x = cr.tensor(np.zeros((2, 3)))
    y = function(x)
    y.sum().backward()
    assert not y.numpy().any()
    assert np.isfinite(x.grad.numpy()).all()


def test_large_offsets_do_not_drown_the_variance():
    x = (R.normal(size=(64, 3)) + 3000).astype("f")
    y = nn.BatchNorm(3)(x, training=True).numpy()
    wide = x.astype("float64")
    assert np.allclose(y, (wide - wide.mean(0)) / wide.std(0), atol=2e-3)


def test_a_model_without_gradients_still_learns_its_statistics():
    layer = nn.BatchNorm(2)
    with cr.no_grad():
        layer(np.ones((4, 2), "f"), training=True)
    assert np.allclose(layer.running_mean, 0.1)
