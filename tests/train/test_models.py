"""Models by description: what each kind computes, its count of numbers, what is refused."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import RunError
from chainrule.train.models import (
    KINDS,
    build,
    check_description,
    count_weights,
    describe_mlp,
    example_shape,
)

CNN = {
    "kind": "cnn", "image": [9, 8, 2], "channels": [3, 4], "hidden": [5], "outputs": 6,
    "activation": "tanh",
}  # fmt: skip
LSTM = {"kind": "lstm", "outputs": 7, "embedding": 3, "hidden": 5, "layers": 2}
MLP = describe_mlp(4, [3, 2], 5, "relu")
DESCRIPTIONS = {
    "mlp": [MLP, describe_mlp(1, [], 1, "gelu")],
    "cnn": [CNN, CNN | {"channels": []}, CNN | {"hidden": []}, CNN | {"image": [4, 4, 1]}],
    "lstm": [LSTM, LSTM | {"layers": 1}],
}
EVERY = [(kind, d) for kind, ds in DESCRIPTIONS.items() for d in ds]


def test_each_kind_has_a_row():
    assert DESCRIPTIONS.keys() == KINDS.keys()


@pytest.mark.parametrize(("kind", "description"), EVERY)
def test_what_is_counted_is_what_is_built(kind, description):
    model = build(description, 3)
    assert count_weights(description) == sum(p.size for p in model.parameters())
    same, other = build(description, 3).state(), build(description, 4).state()
    assert all(np.array_equal(v, same[name]) for name, v in model.state().items())
    assert any(not np.array_equal(v, other[name]) for name, v in model.state().items())
    shape = example_shape(description)
    x = np.ones((2, *shape), np.float32) if shape else np.zeros((2, 4), np.int64)
    out = (2, description["outputs"]) if shape else (2, 4, description["outputs"])
    assert model(x).shape == out


def test_a_cnn_is_the_formula():
    """Against its layers written out."""
    model, nn = build(CNN, 1), cr.nn
    x = np.random.default_rng(0).normal(size=(3, 9, 8, 2)).astype(np.float32)
    p = model.state()
    names = list(p)
    h = x
    for k in (0, 2):
        h = nn.conv2d(h, p[names[k]], p[names[k + 1]], padding="same")
        h = nn.max_pool2d(nn.tanh(h), 2)
    h = nn.flatten(h)
    h = nn.tanh(h @ p[names[4]] + p[names[5]]) @ p[names[6]] + p[names[7]]
    np.testing.assert_allclose(model(x), h, rtol=1e-5, atol=1e-6)


def test_a_text_model_carries_its_state():
    model = build(LSTM, 1)
    x = np.random.default_rng(0).integers(0, 7, (2, 9))
    whole = np.asarray(model(x))
    first, state = model.carry(x[:, :4], None)
    second, _ = model.carry(x[:, 4:], state)
    np.testing.assert_allclose(np.concatenate([first, second], 1), whole, rtol=1e-5, atol=1e-6)


BAD = {
    "no object": ("mlp", "unknown kind of model: 'mlp'; this version knows mlp, cnn, lstm"),
    "no kind": ({}, "unknown kind of model"),
    "a list as kind": (MLP | {"kind": ["mlp"]}, "unknown kind of model"),
    "image of two": (CNN | {"image": [8, 8]}, r"takes images \(height, width, channels\), rec"),
    "image a number": (CNN | {"image": 8}, "sizes are not whole numbers"),
    "image of 0": (CNN | {"image": [0, 8, 1]}, "sizes are not whole numbers"),
    "channels true": (CNN | {"channels": [True]}, "sizes are not whole numbers"),
    "no channels": ({k: v for k, v in CNN.items() if k != "channels"}, "sizes are not whole"),
    "too many halvings": (CNN | {"channels": [1] * 4}, "of 9×8 cannot be halved 4 times"),
    "a million convolutions": (CNN | {"channels": [1] * 10**6}, "cannot be halved 1000000 times"),
    "a huge cnn": (
        CNN | {"channels": [10**6, 10**6]}, "the model would have 9,000,0.* numbers, more than",
    ),
    "activation": (CNN | {"activation": "eval"}, "activation 'eval' is not known"),
    "layers 0": (LSTM | {"layers": 0}, "sizes are not whole numbers"),
    "a million layers": (LSTM | {"layers": 10**6}, "1000000 layers of LSTM; at most 64"),
    "hidden a list": (LSTM | {"hidden": [5]}, "sizes are not whole numbers"),
    "all left out": (LSTM | {"dropout": 1.0}, "dropout must be from 0 to below 1, received 1.0"),
    "dropout in words": (LSTM | {"dropout": "half"}, "dropout must be from 0 to below 1"),
    "a huge lstm": (LSTM | {"hidden": 10**6}, "numbers, more than 4,294,967,296: make its lay"),
    "a huge mlp": (MLP | {"hidden": [10**6, 10**6]}, "numbers, more than"),
}  # fmt: skip


@pytest.mark.parametrize(("description", "words"), BAD.values(), ids=BAD)
def test_bad_descriptions(description, words):
    for function in (check_description, build):
        with pytest.raises(RunError, match=words) as caught:
            function(description)
        assert len(str(caught.value)) < 400
