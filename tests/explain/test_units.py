"""A network as layers of units: the numbers of the notes (row N11)."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import GraphError, ShapeError
from chainrule.explain import units

nn = cr.nn


def mlp(*sizes, activation=nn.relu):
    layers = []
    for n, m in pairwise(sizes):
        layers += [nn.Linear(n, m), activation]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize(
    ("sizes", "neurons", "weights", "biases"),
    [((3, 4, 2), 6, 20, 6), ((3, 4, 4, 1), 9, 32, 9), ((5, 1), 1, 5, 1)],
)
def test_the_networks_of_the_notes(sizes, neurons, weights, biases):
    found = units(mlp(*sizes), np.ones((2, sizes[0])))
    assert [layer.units for layer in found.layers] == list(sizes)
    assert found.depth == len(sizes) - 1
    assert found.neurons == neurons
    assert sum(layer.weights for layer in found.layers) == weights
    assert sum(layer.biases for layer in found.layers) == biases
    assert found.parameters == weights + biases
    assert [layer.connections for layer in found.layers[1:]] == [
        layer.weights for layer in found.layers[1:]
    ]


def test_a_three_layer_net_has_two_hidden_layers():
    text = str(units(mlp(3, 4, 4, 1, activation=cr.sigmoid), np.ones((1, 3))))
    assert text == (
        "3-layer net (2 hidden layers): 3 → 4 → 4 → 1\n"
        "9 neurons, 32 weights + 9 biases = 41 parameters"
    )


def test_activations_and_names_are_those_of_the_program():
    model = mlp(3, 4, 2, activation=cr.tanh)
    first, hidden, out = units(model, np.ones((1, 3))).layers
    assert (first.name, hidden.name, out.name) == ("input", "0.weight", "2.weight")
    assert (first.activation, hidden.activation, out.activation) == ("", "tanh", "")
    assert hidden.weight is model[0].weight


def test_shared_weights_of_a_convolution_count_once_their_connections_each_time():
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.relu, partial(nn.max_pool2d, size=2), nn.flatten, nn.Linear(27, 2)
    )
    found = units(model, np.ones((1, 8, 8, 1), np.float32))
    assert [layer.shape for layer in found.layers] == [(8, 8, 1), (6, 6, 3), (2,)]
    assert (found.layers[1].weights, found.layers[1].biases) == (27, 3)
    assert found.layers[1].connections == 6 * 6 * 3 * 9


def test_weights_that_are_used_again_are_one_layer():
    shared = nn.Linear(3, 3)
    found = units(lambda x: shared(cr.tanh(shared(x))), np.ones((1, 3)))
    assert found.depth == 1
    assert found.layers[1].connections == 18


def test_what_has_no_layers_is_refused():
    with pytest.raises(ShapeError, match="batch axis"):
        units(mlp(3, 1), 1.0)
    with pytest.raises(ShapeError, match="batch axis"):
        units(mlp(3, 1), np.ones((0, 3)))
    with pytest.raises(GraphError, match="no Parameter"):
        units(lambda x: x * 2, np.ones((1, 3)))
    with pytest.raises(GraphError, match="no layers"):
        w = cr.Parameter([1.0])
        units(lambda x: x * w, np.ones((1, 1), np.float32))


def test_a_linear_layer_behind_a_lookup_is_a_layer():
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 2), seed=0)
    assert [layer.name for layer in units(model, np.array([1, 2])).layers][-1] == "1.weight"
