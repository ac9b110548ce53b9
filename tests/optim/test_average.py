"""The exponential moving average of weights."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import ChainruleError, DataError, DTypeError
from chainrule.ops.tensor import Tensor
from chainrule.ops.tracing import trace


def model(seed=1, dtype=cr.float64):
    return nn.Sequential(nn.Linear(2, 3, seed=seed, dtype=dtype), nn.Linear(3, 1, seed=seed))


def values(module):
    return {name: p.numpy() for name, p in module.named_parameters()}


def walk(module, average, steps, seed=0):
    """Random weights, one set a step."""
    rng, seen = np.random.default_rng(seed), []
    for _ in range(steps):
        for p in module.parameters():
            p.assign(rng.normal(size=p.shape))
        average.update()
        seen.append(values(module))
    return seen


def averages(average, like):
    copy = model(dtype=like[0].weight.dtype)
    average.copy_to(copy)
    return values(copy)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("steps", [1, 2, 30])
def test_it_is_the_weighted_mean(decay, steps):
    module = model()
    average = optim.Average(module, decay)
    seen = walk(module, average, steps)
    factors = decay ** np.arange(steps - 1, -1, -1.0)
    for name, found in averages(average, module).items():
        expected = sum(f * w[name] for f, w in zip(factors, seen, strict=True)) / factors.sum()
        tolerance = 1e-5 if found.dtype == np.float32 else 1e-11
        assert np.allclose(found, expected, rtol=tolerance, atol=tolerance), name
        assert found.dtype == seen[0][name].dtype


def test_before_the_first_update_it_is_the_weights():
    module = model()
    average = optim.Average(module)
    first = values(module)
    module[0].bias.assign(np.ones(3))
    for name, found in averages(average, module).items():
        assert np.array_equal(found, first[name])


def test_the_model_has_the_averages_in_the_block_and_its_own_after_it():
    module = model()
    average = optim.Average(module, 0.5)
    walk(module, average, 5)
    own, mean = values(module), averages(average, module)
    parameter, gradient = module[0].weight, np.ones((2, 3))
    parameter.grad = gradient
    with average, average:
        assert all(np.array_equal(v, mean[n]) for n, v in values(module).items())
        assert module[0].weight is parameter
        module[0].bias.assign(np.full(3, 7.0))
    assert all(np.array_equal(v, own[n]) for n, v in values(module).items())
    with pytest.raises(ZeroDivisionError), average:
        raise ZeroDivisionError
    assert all(np.array_equal(v, own[n]) for n, v in values(module).items())
    assert np.array_equal(parameter.grad, gradient)


def test_it_goes_on_from_its_state():
    module = model()
    whole, first, second = (optim.Average(module, decay) for decay in (0.9, 0.9, 0.5))
    walk(module, whole, 10)
    walk(module, first, 4)
    second.load_state(first.state())
    rng = np.random.default_rng(0)
    for step in range(10):
        for p in module.parameters():
            p.assign(rng.normal(size=p.shape))
        if step >= 4:
            second.update()
    assert second.decay.item() == 0.9
    for name, value in second.state().items():
        assert np.array_equal(value, whole.state()[name]), name
    assert list(whole.state())[:3] == ["decay", "updates", "0.weight.average"]
    assert all(isinstance(v, Tensor) and v.is_variable for v in whole._variables().values())


def test_in_a_trace_as_in_eager():
    eager, traced = model(), model()
    a, b = optim.Average(eager, 0.7), optim.Average(traced, 0.7)
    walk(eager, a, 3)
    rng = np.random.default_rng(0)
    for _ in range(3):
        for p in traced.parameters():
            p.assign(rng.normal(size=p.shape))
        graph, _ = trace(b.update, [])
        graph.verify()
        found = {leaf: handle.numpy() for handle, leaf in graph.captured}
        _, assigned = graph.run(found, lambda n, xs: n.primitive.forward(*xs, **(n.params or {})))
        for (variable, _), value in zip(graph.assignments, assigned, strict=True):
            variable.assign(value)
    for name, value in a.state().items():
        assert np.allclose(b.state()[name], value, rtol=1e-6), name


def test_bad_input():
    for decay in (1.0, -0.1, np.nan):
        with pytest.raises(DataError, match=r"decay must be 0 or more and below 1, received"):
            optim.Average(model(), decay)
    with pytest.raises(DTypeError, match=r"Average takes a Module, received list"):
        optim.Average(model().parameters())
    with pytest.raises(DataError, match=r"Sequential has no parameters to average"):
        optim.Average(nn.Sequential(nn.relu))
    average = optim.Average(model())
    with pytest.raises(ChainruleError, match=r"missing .*unknown"):
        average.copy_to(nn.Linear(2, 3))
    state = average.state()
    state["0.weight.average"] = np.zeros((3, 2))
    with pytest.raises(ChainruleError, match=r"0.weight.average must have shape \(2, 3\)"):
        average.load_state(state)
