"""Every broken training of the corpus is named; the healthy ones are left in peace."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.explain.diagnose import diagnose
from tests.explain.trainings.broken import NAMES, WANTED, data, mlp
from tests.explain.trainings.healthy import HEALTHY


@pytest.mark.parametrize("make", WANTED, ids=lambda f: f.__name__)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_broken_trainings_are_named(make: Any) -> None:
    model, loss, batch, optimizer = make()
    found = diagnose(model, loss, batch, optimizer=optimizer)
    names = {f.name for f in found.serious}
    assert names & WANTED[make], str(found)
    assert not found and names <= set(NAMES)
    assert all(f.text and f.advice and f.severity in ("error", "warning") for f in found.serious)


@pytest.mark.parametrize("make", HEALTHY, ids=lambda f: f.__name__)
def test_healthy_trainings_are_left_in_peace(make: Any) -> None:
    model, loss, batch, optimizer = make()
    found = diagnose(model, loss, batch, optimizer=optimizer)
    assert found and not found.serious, str(found)


def test_nothing_changes() -> None:
    model = nn.Sequential(
        nn.Linear(20, 8), nn.BatchNorm(8), nn.Dropout(0.5), nn.relu, nn.Linear(8, 5), seed=0
    )
    optimizer = optim.Adam(model, lr=0.01)
    x, y = data()
    nn.softmax_cross_entropy(model(x, training=True), y).backward()
    optimizer.step()
    grads = [p.grad for p in model.parameters()]
    before = {k: v.copy() for k, v in {**model.state(), **optimizer.state()}.items()}
    first = diagnose(model, nn.softmax_cross_entropy, (x, y), optimizer=optimizer)
    second = diagnose(model, nn.softmax_cross_entropy, (x, y), optimizer=optimizer)
    after = {**model.state(), **optimizer.state()}
    assert all(np.array_equal(before[k], after[k]) for k in before)
    assert all(p.grad is g for p, g in zip(model.parameters(), grads, strict=True))
    assert str(first) == str(second)


def test_layers_are_read_in_forward_order() -> None:
    model = mlp(20, 30, 12, 5)
    found = diagnose(model, nn.softmax_cross_entropy, data(), optimizer=optim.SGD(model, lr=0.1))
    assert [x.name for x in found.layers] == ["0.weight", "2.weight", "4.weight"]
    assert [x.shape for x in found.layers] == [(64, 30), (64, 12), (64, 5)]
    x, y = data()
    hidden = model[0](x)
    assert found.layers[0].activation == pytest.approx(np.sqrt((hidden.numpy() ** 2).mean()))
    loss = nn.softmax_cross_entropy(model(x), y)
    loss.backward()
    gradient = model[0].weight.grad.numpy()
    assert found.layers[0].gradient == pytest.approx(np.sqrt((gradient**2).mean()), rel=1e-5)
    weight = np.sqrt((model[0].weight.numpy() ** 2).mean())
    assert found.layers[0].update == pytest.approx(
        0.1 * found.layers[0].gradient / weight, rel=1e-4
    )
    text = str(found)
    assert "0.weight" in text and "64×30" in text and "nothing is wrong" in text
    json = found.json()
    assert json["layers"][0]["name"] == "0.weight" and json["findings"] == []
    assert json["layers"][-1]["dead"] is None


def test_a_dead_half_is_counted() -> None:
    model = mlp(20, 30, 5)
    bias = np.zeros(30, np.float32)
    bias[:15] = -100
    model.parameters()[1].assign(bias)
    found = diagnose(model, nn.softmax_cross_entropy, data())
    assert [f.name for f in found.serious] == ["dead units"]
    assert "50 % of the units of relu" in found.findings[0].text
    assert found.layers[0].dead == 0.5


def test_not_finite_names_gate_and_line() -> None:
    model = mlp(20, 5)

    def loss(scores: object, y: object) -> object:
        return cr.sqrt(scores * 0.0).mean()

    with np.errstate(all="ignore"):
        found = diagnose(model, loss, data())
    (finding,) = (f for f in found.findings if f.name == "not finite")
    assert "sqrt" in finding.text and "the loss is" in finding.text


def test_functions_losses_without_targets_and_several_outputs() -> None:
    w = cr.Parameter(np.ones((20, 3), np.float32) * np.arange(3, dtype=np.float32), name="w")
    x, _ = data()
    found = diagnose(lambda x: x @ w, lambda out: (out * out).mean(), (x,))
    assert [layer.name for layer in found.layers] == ["w"]
    model = mlp(20, 30, 5)
    pair = diagnose(lambda x: (model(x), None), lambda out, y: nn.softmax_cross_entropy(out[0], y),
                    data())  # fmt: skip
    assert len(pair.layers) == 2


def test_a_loss_an_example_is_averaged() -> None:
    model = mlp(20, 30, 5)
    found = diagnose(model, lambda s, y: ((s - 1.0) ** 2).sum(axis=1), data())
    assert found.loss > 0 and not found.serious


def test_bad_input() -> None:
    model = mlp(20, 30, 5)
    with pytest.raises(cr.errors.GradientError, match="the loss depends on no Parameter"):
        diagnose(model, lambda s, y: 3.0, data())
    with pytest.raises(cr.errors.GradientError, match="the loss depends on no Parameter"):
        diagnose(lambda x: cr.asarray(x), lambda s, y: s.mean(), data())


def test_activations_are_known_by_their_slopes() -> None:
    from chainrule.explain.slopes import closings

    x = cr.tensor(np.linspace(-30, 30, 12).reshape(3, 4))
    for f in (nn.relu, cr.relu):
        assert closings(f(x).node).dead >= 0
    for f in (cr.tanh, cr.sigmoid, cr.erf):
        assert closings(f(x).node).saturated > 0.5
    for f in (cr.exp, cr.sin, cr.abs, cr.square, lambda x: x * 2.0, cr.negative):
        assert closings(f(x).node) is None


def test_places_are_those_of_the_program() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.relu, nn.Linear(4, 2), seed=0)
    model[0].bias.assign(np.full(4, -50.0, np.float32))
    x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    found = diagnose(model, nn.softmax_cross_entropy, (x, np.arange(8) % 2))
    assert not any("contextlib" in f"{f.where} {f.text}" for f in found.findings)
    assert found.findings[0].where.startswith("test_diagnose.py:")
