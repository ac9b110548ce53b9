"""Every layer: agreement with PyTorch, gradient checks, odd shapes, vmap, state."""

import copy

import numpy as np
import optree
import pytest

import chainrule as cr
from chainrule import nn
from tests.nn.layer_cases import CASES

OURS = {
    f"chainrule.nn.{file}"
    for file in ("layers", "convolution", "pooling", "normalization", "regularization",
                 "attention", "recurrent")
}  # fmt: skip
RECURRENT = (nn.RNN, nn.LSTM, nn.GRU)
BATCHED = [case for case in CASES if case.batched]


def over(cases):
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


def inputs_of(case, dtype):
    return [x.astype(dtype) if x.dtype.kind == "f" else x for x in case.inputs]


def arrays(result):
    return optree.tree_leaves(result, namespace="chainrule")


def module_of(layer):
    return layer if isinstance(layer, nn.Module) else nn.Sequential(layer)


def test_the_table_is_complete():
    exported = {n for n in nn.__all__ if getattr(getattr(nn, n), "__module__", "") in OURS}
    assert len(exported) > 35
    assert {case.name.split()[0] for case in CASES} == exported
    assert len({case.name for case in CASES}) == len(CASES)


@over(CASES)
def test_values_and_gradients_are_pytorchs(case):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    if isinstance(case.torch, str):
        pytest.skip(case.torch)
    layer = case.make("float32")
    own = dict(module_of(layer).named_parameters())
    for k, p in enumerate(own.values()):  # biases of 0 and weights of 1 would hide mistakes
        p.assign(p + 0.1 * np.cos(np.arange(p.size) + k).reshape(p.shape))
    given = [cr.tensor(x) if x.dtype.kind == "f" else x for x in inputs_of(case, "float32")]
    results = arrays(layer(*given, **case.options))
    twins = {n: torch.tensor(np.array(p), requires_grad=True) for n, p in own.items()}
    others = [torch.tensor(np.array(x), requires_grad=isinstance(x, cr.Tensor)) for x in given]
    expected = case.torch(torch, twins, *others)
    expected = expected if isinstance(expected, tuple) else (expected,)
    ups = [np.cos(np.arange(y.size)).reshape(y.shape).astype("f") for y in results]
    sum((y * u).sum() for y, u in zip(results, ups, strict=True)).backward()
    sum((y * torch.tensor(u)).sum() for y, u in zip(expected, ups, strict=True)).backward()

    pairs = list(zip(results, expected, strict=True))
    pairs += [(p.grad, twins[n].grad) for n, p in own.items()]
    pairs += [(x.grad, t.grad) for x, t in zip(given, others, strict=True) if t.requires_grad]
    for ours, theirs in pairs:
        value = theirs.detach().numpy()
        assert ours.shape == value.shape
        assert ours.dtype == value.dtype
        scale = max(1.0, np.abs(value).max())
        assert np.abs(ours.numpy() - value).max() < 3e-6 * scale


@over(CASES)
def test_gradients_in_float64(case):
    layer, given = case.make("float64"), inputs_of(case, "float64")
    places = [k for k, x in enumerate(given) if x.dtype.kind == "f"]

    def run(parameters, *floats):
        full = list(given)
        for k, x in zip(places, floats, strict=True):
            full[k] = x
        return arrays((parameters if isinstance(layer, nn.Module) else layer)(
            *full, **case.options))  # fmt: skip

    model = layer if isinstance(layer, nn.Module) else ()
    assert cr.check_gradients(run, model, *(given[k] for k in places), directions=2)
    assert all(y.dtype == np.float64 for y in run(layer, *(given[k] for k in places)))


@over(CASES)
def test_strides_and_repetition_do_not_matter(case):
    """Inputs that lie otherwise in memory, and a second call, give the same numbers."""
    layer, given = case.make("float64"), inputs_of(case, "float64")
    before = [np.array(y) for y in arrays(layer(*given, **case.options))]
    spread = [np.repeat(x.T, 2, axis=0)[::2].T for x in given]
    assert not all(x.flags.c_contiguous for x in spread if x.ndim > 1)
    for again in (given, spread):
        for a, b in zip(before, arrays(layer(*again, **case.options)), strict=True):
            assert np.allclose(a, b, rtol=1e-12, atol=1e-14)


@over(BATCHED)
def test_no_examples_and_one(case):
    """Without examples the result has none either; one alone is what it was among others."""
    layer, given = case.make("float64"), inputs_of(case, "float64")
    axis = 1 if isinstance(layer, RECURRENT) else 0
    every = arrays(layer(*given, **case.options))
    for some in (slice(0, 0), slice(1, 2)):
        part = arrays(layer(*(x[some] for x in given), **case.options))
        for k, (a, b) in enumerate(zip(every, part, strict=True)):
            along = (slice(None),) * (axis if k else 0)  # states have the layers in front
            assert np.allclose(a.numpy()[(*along, some)], b, rtol=1e-12, atol=1e-14)


@over(BATCHED)
def test_vmap_is_a_loop(case):
    layer, given = case.make("float64"), inputs_of(case, "float64")
    each = cr.vmap(lambda *xs: layer(*(x[None] for x in xs), **case.options))(*given)
    for k in range(len(given[0])):
        alone = layer(*(x[k : k + 1] for x in given), **case.options)
        for a, b in zip(arrays(each), arrays(alone), strict=True):
            assert np.allclose(a[k], b, rtol=1e-12, atol=1e-14)


@over([case for case in CASES if isinstance(case.make("float32"), nn.Module)])
def test_state_goes_from_one_to_another(case):
    layer, other = case.make("float32"), case.make("float32")
    state = {
        n: v + 1 if v.dtype.kind == "u" else np.cos(v).astype(v.dtype)
        for n, v in layer.state().items()
    }
    other.load_state(state)
    for twin in (other, copy.deepcopy(other)):
        assert list(twin.state()) == list(state)
        assert all(np.array_equal(v, state[n]) for n, v in twin.state().items())


def test_per_example_gradients():
    """vmap(grad) over a model of many layers is a loop over the examples."""

    class Model(nn.Module):
        def __init__(self):
            self.conv = nn.Conv2d(1, 4, 3, padding=1, dtype="float64")
            self.norm = nn.LayerNorm(4, dtype="float64")
            self.attention = nn.MultiHeadAttention(4, 2, dtype="float64")
            self.lstm = nn.LSTM(4, 3, dtype="float64")
            self.out = nn.Linear(3, 2, dtype="float64")

        def forward(self, x):
            y = nn.max_pool2d(nn.relu(self.norm(self.conv(x))), 2)
            y = self.attention(y.reshape((y.shape[0], -1, 4)), causal=True)
            outputs, _ = self.lstm(y)
            return self.out(outputs[..., -1, :])

    model = Model()
    r = np.random.default_rng(0)
    x, y = r.normal(size=(3, 6, 6, 1)), np.array([0, 1, 1])

    def loss(model, x, y):
        return nn.softmax_cross_entropy(model(x[None]), y[None])

    every = cr.vmap(cr.grad(loss), in_axes=(None, 0, 0))(model, x, y)
    for k in range(3):
        alone = cr.grad(loss)(model, x[k], y[k])
        for name, g in alone.named_parameters():
            found = dict(every.named_parameters())[name][k]
            assert np.abs(g.numpy()).max() > 0, name
            assert np.allclose(found, g, rtol=1e-10, atol=1e-13), name
