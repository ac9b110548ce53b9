"""Modules: what they find, how it is named, and that they are containers of arrays."""

import copy
import pickle
from typing import NamedTuple

import numpy as np
import optree
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.core.context import CONTEXT
from chainrule.errors import (
    DataError,
    DTypeError,
    MutationError,
    ShapeError,
    UnsupportedError,
)


class Net(nn.Module):
    def __init__(self):
        self.hidden, self.out = nn.Linear(2, 3), nn.Linear(3, 1)

    def forward(self, x):
        return self.out(nn.tanh(self.hidden(x)))


class Pair(NamedTuple):
    left: object
    right: object


class Holder(nn.Module):
    """Parameters wherever they may stand."""

    def __init__(self):
        self.scale = cr.Parameter(2.0)
        self.layers = [nn.Linear(2, 2), nn.Linear(2, 2, bias=False)]
        self.heads = {"a": nn.Linear(2, 1), "b": (cr.Parameter([1.0, 2.0]), nn.relu)}
        self.pair = Pair(cr.Parameter(5.0), "text")
        self.note = "not a parameter"

    def forward(self, x):
        for layer in self.layers:
            x = nn.tanh(layer(x))
        return (self.heads["a"](x) * self.scale + self.heads["b"][0] * self.pair.left).sum()


class Tied(nn.Module):
    def __init__(self):
        self.first = nn.Linear(2, 2, bias=False)
        self.second = self.first
        self.third = nn.Linear(2, 2, bias=False)
        self.third.weight = self.first.weight

    def forward(self, x):
        return self.third(self.second(self.first(x))).sum()


HOLDER_NAMES = [
    "scale", "layers.0.weight", "layers.0.bias", "layers.1.weight", "heads.a.weight",
    "heads.a.bias", "heads.b.0", "pair.left",
]  # fmt: skip


def test_parameters_are_found_by_attribute_and_named_by_path():
    model = Holder()
    assert [n for n, _ in model.named_parameters()] == HOLDER_NAMES
    assert [p.name for p in model.parameters()] == HOLDER_NAMES
    assert all(
        p is q for p, (_, q) in zip(model.parameters(), model.named_parameters(), strict=True)
    )
    outer = nn.Sequential(nn.relu, model)
    assert [p.name for p in outer.parameters()] == ["1." + n for n in HOLDER_NAMES]
    assert repr(model.scale) == "Parameter(2., name='1.scale')"


def test_a_parameter_put_in_later_is_named_by_the_whole_path():
    model = nn.Sequential(Net())
    model[0].extra = cr.Parameter(1.0)
    assert model[0].extra.name == "0.extra"
    model[0].hidden.bias = cr.Parameter(np.zeros(3, "f"))
    assert model[0].hidden.bias.name == "0.hidden.bias"


def test_tied_parameters_count_once():
    model = Tied()
    assert [n for n, _ in model.named_parameters()] == ["first.weight"]
    x = np.array([[1.0, 2.0]])
    gradient = cr.grad(lambda m: m(x))(model)
    model(x).backward()
    assert np.allclose(gradient.first.weight, model.first.weight.grad)
    assert gradient.third.weight is gradient.first.weight
    assert gradient.second is gradient.first
    # equal leaves are not tied leaves
    ones = optree.tree_map(lambda p: 1.0, Holder(), namespace="chainrule")
    assert len(ones.parameters()) == len(HOLDER_NAMES)
    assert len(optree.tree_leaves(ones, namespace="chainrule")) == len(HOLDER_NAMES)


def test_zero_grad():
    model = Holder()
    model(np.ones((1, 2), "f")).backward()
    assert all(p.grad is not None for p in model.parameters())
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_a_parameter_is_not_replaced_by_an_array():
    model = Net()
    with pytest.raises(MutationError, match=r"Linear.weight is a Parameter.*weight.assign\(value"):
        model.hidden.weight = model.hidden.weight * 2
    model.hidden.bias = None
    assert [n for n, _ in model.named_parameters()][:2] == ["hidden.weight", "out.weight"]


# -- calling -----------------------------------------------------------------------------------


class Mode(nn.Module):
    def forward(self, x, training=False):
        return x + 10 if training else x


class Options(nn.Module):
    def forward(self, x, **options):
        return options


def test_training_is_handed_on_to_a_forward_that_takes_it():
    assert Mode()(1) == 1
    assert Mode()(1, training=True) == 11
    assert Options()(1, training=True, more=2) == {"training": True, "more": 2}
    assert float(nn.Linear(1, 1)(np.zeros((1, 1)), training=True)) == 0
    assert nn.Sequential(Mode(), abs, nn.Sequential(Mode()))(1, training=True) == 21


def test_forward_must_be_defined():
    class Nothing(nn.Module):
        pass

    with pytest.raises(NotImplementedError, match=r"Nothing must define forward\(self, x\)"):
        Nothing()(1)


def test_nodes_carry_the_path_of_the_module():
    model = nn.Sequential(Net(), nn.relu)
    y = model(np.ones((1, 2), "f"))
    scopes = {n.name: n.scope for n in y.graph.nodes}
    assert scopes["tanh"] == ("0",)
    assert [n.scope for n in y.graph.nodes if n.name == "contract"] == [
        ("0", "hidden"), ("0", "out"),
    ]  # fmt: skip
    assert scopes["relu"] == ()
    assert CONTEXT.get().scope == ()


def test_the_scope_is_left_after_an_error():
    model = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(ShapeError):
        model(np.ones((1, 3)))
    assert CONTEXT.get().scope == ()


# -- as containers -----------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Net, Holder, Tied, lambda: nn.Sequential(Net(), nn.relu, Net())])
def test_functional_gradients_are_modules_of_the_same_form(make):
    model, x = make(), np.array([[0.3, -0.7]], "f")
    if isinstance(model, nn.Sequential):
        x = np.array([[0.3, -0.7]], "f")
        model = nn.Sequential(nn.Linear(2, 2), model[0], nn.Linear(1, 2), Net())
    with cr.no_grad():
        gradient = cr.grad(lambda m, x: m(x).sum())(model, x)
    assert type(gradient) is type(model)
    assert [n for n, _ in gradient.named_parameters()] == [n for n, _ in model.named_parameters()]
    model(x).sum().backward()
    for p, g in zip(model.parameters(), gradient.parameters(), strict=True):
        assert g.is_constant
        assert np.array_equal(p.grad, g), p.name


def test_flatten_and_unflatten():
    model = Holder()
    leaves, structure = optree.tree_flatten(model, namespace="chainrule")
    assert all(a is b for a, b in zip(leaves, model.parameters(), strict=True))
    arrays = [np.full(p.shape, k) for k, p in enumerate(leaves)]
    rebuilt = optree.tree_unflatten(structure, arrays)
    assert rebuilt is not model
    assert rebuilt.layers is not model.layers
    assert isinstance(rebuilt.pair, Pair)
    assert rebuilt.note == "not a parameter"
    assert rebuilt.heads["b"][1] is nn.relu
    assert all(a is b for a, b in zip(rebuilt.parameters(), arrays, strict=True))
    # a copy that holds arrays is a container too, of the same structure
    again, same = optree.tree_flatten(rebuilt, namespace="chainrule")
    assert all(a is b for a, b in zip(again, arrays, strict=True))
    assert same == structure
    assert hash(same) == hash(structure)
    doubled = optree.tree_map(lambda a, b: a + b, rebuilt, rebuilt, namespace="chainrule")
    assert float(doubled.pair.left) == 14
    assert structure != optree.tree_structure(Net(), namespace="chainrule")
    assert model.scale.item() == 2


def test_second_order_through_a_module():
    model, x = nn.Sequential(nn.Linear(2, 3, dtype=cr.float64), nn.tanh), np.array([[0.5, -1.0]])

    def loss(m):
        return (m(x) ** 2).sum()

    def squared_gradient(m):
        return nn.l2_penalty(cr.grad(loss)(m))

    g = cr.grad(squared_gradient)(model)
    w, h = model[0].weight.numpy(), 1e-6
    step = np.zeros_like(w)
    step[1, 2] = h

    def at(v):
        model[0].weight.assign(v)
        return float(squared_gradient(model))

    slope = (at(w + step) - at(w - step)) / (2 * h)
    assert float(g[0].weight[1, 2]) == pytest.approx(slope, rel=1e-6)


def test_penalties_see_the_copy_inside_grad():
    model = Net()
    gradient = cr.grad(nn.l2_penalty)(model)
    assert np.array_equal(gradient.hidden.weight, 2 * model.hidden.weight.numpy())
    assert np.array_equal(gradient.hidden.bias, np.zeros(3))


def test_copies_and_pickles():
    model = Holder()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert [n for n, _ in twin.named_parameters()] == HOLDER_NAMES
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            assert p is not q
            assert p.name == q.name
            assert np.array_equal(p, q)
    tied = pickle.loads(pickle.dumps(Tied()))
    assert tied.third.weight is tied.first.weight


# -- printing ----------------------------------------------------------------------------------


def test_print():
    model = nn.Sequential(nn.Linear(64, 32), nn.relu, Net(), lambda x: x)
    assert repr(model) == (
        "Sequential\n"
        "  0 Linear         weight (64, 32), bias (32,)  2,080\n"
        "  1 relu\n"
        "  2 Net\n"
        "    hidden Linear  weight (2, 3), bias (3,)     9\n"
        "    out Linear     weight (3, 1), bias (1,)     4\n"
        "  3 <lambda>\n"
        "2,093 parameters"
    )
    assert repr(nn.Sequential()) == "Sequential\n0 parameters"
    assert "scale (), heads.b.0 (2,), pair.left ()" in repr(Holder())
    assert repr(Tied()).splitlines()[-1] == "4 parameters"


# -- first values ------------------------------------------------------------------------------


def weights(model):
    return [p.numpy() for p in model.parameters() if p.ndim == 2]


def test_layers_of_one_shape_differ_and_models_repeat():
    def make():
        return nn.Sequential(
            nn.Linear(4, 4), nn.relu, nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4))
        )

    first, second = weights(make()), weights(make())
    for k, w in enumerate(first):
        assert np.array_equal(w, second[k])
        for other in first[:k]:
            assert not np.any(w == other)


def test_attributes_differ_too():
    class Two(nn.Module):
        def __init__(self):
            self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
            self.more = [nn.Linear(3, 3), nn.Linear(3, 3)]

    found = weights(Two())
    assert len({w.tobytes() for w in found}) == 4
    assert [w.tobytes() for w in found] == [w.tobytes() for w in weights(Two())]


def test_seeds():
    def make(seed):
        return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), seed=seed)

    a, b, c = weights(make(1)), weights(make(1)), weights(make(2))
    assert np.array_equal(a, b)
    assert not np.any(np.equal(a, c))
    key = cr.random.split(cr.random.key(1))[0]
    assert not np.any(np.equal(weights(make(key)), a))
    assert np.array_equal(weights(nn.Linear(4, 4, seed=3)), weights(nn.Linear(4, 4, seed=3)))
    model = make(1)
    model.initialize(2)
    assert np.array_equal(weights(make(1)), weights(model)), "layers with a seed keep their numbers"


def test_numbers_of_a_given_seed_used_or_changed_are_kept():
    seeded, used, changed = nn.Linear(2, 2, seed=7), nn.Linear(2, 2), nn.Linear(2, 2)
    used(np.zeros((1, 2)))
    changed.weight.assign(np.ones((2, 2)))
    before = [w.copy() for layer in (seeded, used, changed) for w in weights(layer)]
    model = nn.Sequential(seeded, used, changed, seed=5)
    assert np.array_equal(weights(model), before)
    outer = nn.Sequential(nn.Sequential(nn.Linear(2, 2), seed=3))
    assert np.array_equal(weights(outer), weights(nn.Sequential(nn.Linear(2, 2), seed=3)))


@pytest.mark.parametrize("seed", [-1, 1.5, "a"])
def test_bad_seeds(seed):
    with pytest.raises(
        (DTypeError, DataError, UnsupportedError), match=r"seed is a whole|key is|dtype <U1"
    ):
        nn.Linear(2, 2, seed=seed)
