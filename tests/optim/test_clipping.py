"""Gradients clipped by value and by norm, and summed over small batches."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import DataError, DTypeError, GradientError
from chainrule.ops.tracing import trace

SHAPES = [(3, 4), (4,), (), (0, 2)]
BOTH = [optim.clip_by_norm, optim.clip_by_value]


def parameters(scale=1.0, dtype="float64"):
    rng = np.random.default_rng(0)
    found = [cr.Parameter(np.zeros(s, dtype), f"p{k}") for k, s in enumerate(SHAPES)]
    for p in found:
        p.grad = (scale * rng.normal(size=p.shape)).astype(dtype)
    return found


def gradients(found):
    return [p.grad.numpy() for p in found]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("limit", [0.5, 1e-3, 1e3])
@pytest.mark.parametrize("function", BOTH)
def test_against_pytorch(function, limit, dtype):
    torch = pytest.importorskip("torch", reason="PyTorch is an optional peer")
    ours = parameters(dtype=dtype)
    theirs = [torch.zeros(p.shape, dtype=getattr(torch, dtype)) for p in ours]
    for p, q in zip(ours, theirs, strict=True):
        q.grad = torch.tensor(p.grad.numpy().copy())
    name = "clip_grad_norm_" if function is optim.clip_by_norm else "clip_grad_value_"
    expected = getattr(torch.nn.utils, name)(theirs, limit)
    norm = function(ours, limit)
    if function is optim.clip_by_norm:
        assert float(norm) == pytest.approx(float(expected), rel=1e-6)
    for p, q in zip(ours, theirs, strict=True):  # PyTorch adds 1e-6 to the norm it divides by
        assert p.grad.dtype == dtype
        assert np.allclose(p.grad, q.grad, rtol=1e-5, atol=1e-12)


def test_below_the_limit_nothing_changes():
    found = parameters()
    before = gradients(found)
    norm = float(optim.clip_by_norm(found, 100.0))
    optim.clip_by_value(found, 100.0)
    assert norm == pytest.approx(np.sqrt(sum((g**2).sum() for g in before)), rel=1e-14)
    for a, b in zip(gradients(found), before, strict=True):
        assert np.array_equal(a, b)
    optim.clip_by_norm(found, norm / 2)
    assert float(optim.clip_by_norm(found, 1e9)) == pytest.approx(norm / 2, rel=1e-14)
    zero = cr.Parameter([1.0])
    zero.grad = [0.0]
    assert float(optim.clip_by_norm([zero], 1.0)) == 0 == zero.grad.item()


def test_huge_and_tiny_float32_gradients():
    """Squares of 1e30 and 1e-30 are no float32."""
    for size in (1e30, 1e-30):
        w = cr.Parameter(np.zeros(2, "f"))
        w.grad = np.float32([3 * size, 4 * size])
        assert float(optim.clip_by_norm([w], size)) == pytest.approx(5 * size, rel=1e-6)
        assert np.allclose(w.grad.numpy() / np.float32(size), [0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_norm_that_is_not_finite(bad):
    a, b = cr.Parameter([1.0, 2.0]), cr.Parameter([1.0])
    a.grad, b.grad = [3.0, bad], [40.0]
    assert not np.isfinite(float(optim.clip_by_norm([a, b], 1.0)))
    assert np.array_equal(a.grad.numpy(), [3.0, bad], equal_nan=True)
    assert b.grad.item() == 40
    optim.clip_by_value([a, b], 1.0)
    assert np.array_equal(a.grad.numpy(), [1.0, 1.0 if bad == np.inf else bad], equal_nan=True)
    assert b.grad.item() == 1


@pytest.mark.parametrize("function", BOTH)
def test_whose_gradients(function):
    """A Module, an Optimizer, one Parameter, any iterable; tied ones and those without."""
    model = nn.Sequential(nn.Linear(2, 3, seed=1), nn.Linear(3, 1, seed=2))
    x = np.ones((4, 2), "f")
    found = []
    for given in (
        model, optim.SGD(model), model.parameters(), iter(model.parameters() * 2),
        [*model.parameters(), cr.Parameter([1.0])],
    ):  # fmt: skip
        model.zero_grad()
        (model(x) ** 2).sum().backward()
        function(given, 0.25)
        found.append(gradients(model.parameters()))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert np.array_equal(a, b)
    w = cr.Parameter([1.0])
    w.grad = [3.0]
    function(w, 1.0)
    assert w.grad.item() == 1
    assert w.grad.is_constant


@pytest.mark.parametrize("function", BOTH)
@pytest.mark.parametrize("scale", [1e-3, 1.0, np.nan])
def test_in_a_trace_as_in_eager(function, scale):
    def train(model, x):
        model.zero_grad()
        nn.mean_squared_error(model(x), x[:, :1]).backward()
        function(model, 0.1)
        optim.SGD(model, lr=0.5).step()

    x = scale * np.random.default_rng(0).normal(size=(6, 2))
    eager, traced = (nn.Linear(2, 1, seed=1, dtype=cr.float64) for _ in range(2))
    train(eager, x)
    graph, _ = trace(lambda: train(traced, x), [])
    graph.verify()
    values = {leaf: handle.numpy() for handle, leaf in graph.captured}
    _, assigned = graph.run(values, lambda n, xs: n.primitive.forward(*xs, **(n.params or {})))
    for (variable, _), value in zip(graph.assignments, assigned, strict=True):
        variable.assign(value)
    for a, b in zip(eager.parameters(), traced.parameters(), strict=True):
        assert np.allclose(a, b, rtol=1e-14, atol=0, equal_nan=True)


@pytest.mark.parametrize("function", BOTH)
def test_bad_input(function):
    found = parameters()
    for limit in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(DataError, match=r"limit must be above 0 and finite, received"):
            function(found, limit)
    with pytest.raises(GradientError, match=r"no parameter has a gradient to clip; call loss.back"):
        function([cr.Parameter([1.0])], 1.0)
    with pytest.raises(GradientError, match=r"no parameter has"):
        function([], 1.0)
    with pytest.raises(DTypeError, match=r"a Module, an Optimizer or a list .* found ndarray"):
        function([np.ones(2)], 1.0)


@pytest.mark.parametrize("parts", [1, 2, 4, 8])
def test_gradients_of_small_batches_add_up(parts):
    """backward on k parts of a batch, each loss over k: the gradient of the whole batch."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 3)), rng.integers(0, 2, 8)
    model = nn.Linear(3, 2, seed=1, dtype=cr.float64)
    nn.softmax_cross_entropy(model(x), y).backward()
    expected = gradients(model.parameters())
    model.zero_grad()
    for part in np.split(np.arange(8), parts):
        (nn.softmax_cross_entropy(model(x[part]), y[part]) / parts).backward()
    for a, b in zip(gradients(model.parameters()), expected, strict=True):
        assert np.allclose(a, b, rtol=1e-14, atol=1e-16)
