"""State variables: what a module saves beside its Parameters, and who may change it."""

import copy
import pickle

import numpy as np
import optree
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import DataError, DTypeError, MutationError, ShapeError, TraceError
from chainrule.ops.tensor import variable


class Mixed(nn.Module):
    """Parameters and state, in containers and tied."""

    def __init__(self):
        self.norm = nn.BatchNorm(2)
        self.drop = [nn.Dropout(0.5), nn.Dropout(0.5)]
        self.again = self.drop[0]
        self.steps = {"count": variable(np.zeros((), np.int64))}
        self.out = nn.Linear(2, 1)
        self.twin, self.known = self.out.weight, self.norm.running_mean

    def forward(self, x, training=False):
        x = self.norm(x, training=training)
        for layer in self.drop:
            x = layer(x, training=training)
        return self.out(x)


NAMES = [
    "norm.weight", "norm.bias", "norm.running_mean", "norm.running_variance", "drop.0.key",
    "drop.0.counter", "drop.1.key", "drop.1.counter", "steps.count", "out.weight", "out.bias",
]  # fmt: skip
X = np.array([[1.0, -2.0], [3.0, 0.5], [-1.0, 0.0], [0.5, 2.5]], "f")


def test_state_is_all_variables_in_order_each_once():
    model = Mixed()
    state = model.state()
    assert list(state) == NAMES
    assert [n for n, _ in model.named_parameters()] == [
        "norm.weight", "norm.bias", "out.weight", "out.bias",
    ]  # fmt: skip
    state["norm.weight"][:] = 7  # copies
    assert model.norm.weight.tolist() == [1, 1]
    assert all(type(v) is np.ndarray for v in state.values())
    assert state["drop.0.key"].dtype == np.uint32


def test_load_state_assigns_to_the_variables_that_are_there():
    source, model = Mixed(), nn.Sequential(Mixed())[0]
    for _ in range(3):
        source(X, training=True)
    source.norm.weight.assign([3, 4])
    weight, counter = model.norm.weight, model.drop[0].counter
    model.load_state(source.state())
    assert model.norm.weight is weight
    assert model.drop[0].counter is counter
    assert all(np.array_equal(v, source.state()[n]) for n, v in model.state().items())
    for _ in range(2):  # the streams of random numbers go on alike
        assert np.array_equal(source(X, training=True), model(X, training=True))
    assert int(model.drop[0].counter) == 5


def test_floats_are_cast_and_tensors_taken():
    model = Mixed()
    state = {n: v.astype("float64") if v.dtype == "f" else v for n, v in model.state().items()}
    state["norm.bias"] = cr.asarray([0.1, 0.2], dtype="float64")
    model.load_state(state)
    assert model.norm.bias.dtype == np.float32
    assert np.array_equal(model.norm.bias, np.array([0.1, 0.2], "f"))


def change(**changes):
    """The state of a model with entries changed; None takes one out."""
    state = {**Mixed().state(), **{n.replace("__", "."): v for n, v in changes.items()}}
    return {n: v for n, v in state.items() if v is not None}


BAD = [
    (change(out__bias=None), DataError, "this state does not fit Mixed: missing 'out.bias'$"),
    (change(extra=np.ones(1)), DataError, "unknown 'extra'$"),
    (change(out__bias=None, out__bais=np.ones(1)), DataError,
     r"missing 'out.bias' \(received 'out.bais'\), unknown 'out.bais' \(expected 'out.bias'\)"),
    ({}, DataError, "missing 'norm.weight', missing .*, …$"),
    (change(out__bias=np.ones(2, "f")), ShapeError,
     r"out.bias has shape \(1,\), received \(2,\)"),
    (change(steps__count=np.zeros(1, np.int64)), ShapeError, r"has shape \(\), received \(1,\)"),
    (change(drop__0__key=np.ones(2, np.int64)), DTypeError,
     "drop.0.key holds uint32, received int64"),
    (change(steps__count=np.float32(2)), DTypeError, "steps.count holds int64, received float32"),
    (change(out__bias=np.ones(1, int)), DTypeError, "out.bias holds float32, received int64"),
    (change(out__bias=np.array(["x"])), DTypeError, "<U1"),
]  # fmt: skip


@pytest.mark.parametrize(("state", "error", "message"), BAD)
def test_nothing_changes_unless_all_fits(state, error, message):
    model = Mixed()
    before = model.state()
    state = {n: v + 1 if n.startswith("norm") else v for n, v in state.items()}
    with pytest.raises(error, match=message):
        model.load_state(state)
    assert all(np.array_equal(v, before[n]) for n, v in model.state().items())


def test_a_copy_that_holds_arrays_is_no_place_to_load_into():
    model = Mixed()
    doubled = optree.tree_map(lambda p: 2 * p.numpy(), model, namespace="chainrule")
    assert np.array_equal(doubled.state()["norm.weight"], [2, 2])
    with pytest.raises(MutationError, match="norm.weight is no variable, but an array in a copy"):
        doubled.load_state(model.state())


def test_state_is_no_leaf_and_is_shared_by_copies():
    model = Mixed()
    leaves, structure = optree.tree_flatten(model, namespace="chainrule")
    assert len(leaves) == 4
    rebuilt = optree.tree_unflatten(structure, leaves)
    assert rebuilt.norm.running_mean is model.norm.running_mean
    assert rebuilt.drop[1].counter is model.drop[1].counter
    assert list(rebuilt.state()) == NAMES


def test_functional_gradients_update_the_state():
    model, other = Mixed(), Mixed()

    def loss(model, x):
        return (model(x, training=True) ** 2).sum()

    gradient = cr.grad(loss)(model, X)
    loss(other, X).backward()
    for (name, g), p in zip(gradient.named_parameters(), other.parameters(), strict=True):
        assert np.array_equal(g, p.grad), name
    assert int(model.drop[0].counter) == 1
    assert np.allclose(model.norm.running_mean, 0.1 * X.mean(0))
    assert all(np.array_equal(v, other.state()[n]) for n, v in model.state().items())


def test_state_has_no_gradient():
    model = Mixed()
    y = model(X).sum() + model(X, training=True).sum()
    y.backward()
    for variable_ in (model.norm.running_mean, model.norm.running_variance, model.drop[0].counter):
        assert variable_.grad is None
        assert variable_.is_variable
        assert variable_.node not in y.graph.nodes


@pytest.mark.parametrize("layer", [nn.BatchNorm(2), nn.Dropout(0.5)], ids=["norm", "dropout"])
def test_vmap_refuses_to_change_state(layer):
    before = layer.state()
    with pytest.raises(TraceError, match="assigned inside vmap"):
        cr.vmap(lambda x: layer(x, training=True))(np.ones((3, 4, 2), "f"))
    assert all(np.array_equal(v, before[n]) for n, v in layer.state().items())


def test_recomputed_layers_see_the_same_numbers_and_count_once():
    model, other = Mixed(), Mixed()
    cr.remat(lambda x: model(x, training=True))(X).sum().backward()
    other(X, training=True).sum().backward()
    assert all(np.array_equal(v, other.state()[n]) for n, v in model.state().items())
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert np.allclose(p.grad, q.grad, rtol=1e-6), p.name


def test_copies_and_pickles_have_state_of_their_own():
    model = Mixed()
    model(X, training=True)
    expected = copy.deepcopy(model)(X, training=True).numpy()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert list(twin.state()) == NAMES
        assert twin.again is twin.drop[0]
        assert np.array_equal(twin(X, training=True), expected)
    assert int(model.drop[0].counter) == 1


def test_a_state_variable_is_not_replaced_by_an_array():
    model = Mixed()
    with pytest.raises(
        MutationError, match=r"BatchNorm.running_mean is a state variable: .*assign"
    ):
        model.norm.running_mean = model.norm.running_mean * 2
    model.norm.running_mean = cr.tensor([5.0, 5.0])
    assert model.state()["norm.running_mean"].tolist() == [5, 5]
    with pytest.raises(MutationError, match=r"BatchNorm.weight is a Parameter"):
        model.norm.weight = cr.tensor([5.0, 5.0])


def test_random_layers_draw_from_their_place_and_the_seed():
    def keys(**options):
        model = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.5)), **options)
        return [tuple(v.tolist()) for n, v in model.state().items() if n.endswith("key")]

    assert len({*keys(), *keys(seed=1), *keys(seed=2)}) == 6
    assert keys() == keys()
    assert keys(seed=1) == keys(seed=1)
    used, seeded = nn.Dropout(0.5), nn.Dropout(0.5, seed=4)
    used(X, training=True)
    before = [layer.state() for layer in (used, seeded)]
    model = nn.Sequential(used, seeded, seed=5)
    for layer, state in zip(model, before, strict=True):
        assert all(np.array_equal(v, state[n]) for n, v in layer.state().items())


def test_initialize_starts_again():
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 2))
    fresh = model.state()
    model[0].counter.assign(3)
    model[0].initialize()
    assert all(np.array_equal(v, fresh[n]) for n, v in model.state().items())


def test_state_is_not_printed_among_the_parameters():
    assert repr(nn.BatchNorm(3)) == "BatchNorm  weight (3,), bias (3,)  6\n6 parameters"
    assert repr(nn.Sequential(nn.Dropout(0.5))) == "Sequential\n  0 Dropout\n0 parameters"
