"""Whole training steps: networks of every kind, compiled beside eager; memory over many steps."""

from __future__ import annotations

import gc
import resource
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.compiler.describe import Memory

RNG = np.random.default_rng(0)


def dense(sizes: tuple[int, ...], dtype: Any, activation: Any = nn.relu) -> Any:
    layers: list[Any] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b, dtype=dtype), activation]
    return nn.Sequential(*layers[:-1], seed=0)


def image_net(dtype: Any) -> Any:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding="same", bias=False, dtype=dtype), nn.BatchNorm(4, dtype=dtype),
        nn.relu, nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, stride=2, padding=1, dtype=dtype), nn.relu,
        nn.AvgPool2d(2), nn.flatten, nn.Dropout(0.2), nn.Linear(6 * 2 * 2, 3, dtype=dtype), seed=0,
    )  # fmt: skip


class Characters(nn.Module):
    """A recurrent network that predicts the next of 7 characters."""

    def __init__(self, dtype: Any) -> None:
        self.embedding = nn.Embedding(7, 5, dtype=dtype)
        self.cell = nn.LSTM(5, 6, layers=2, dtype=dtype)
        self.head = nn.Linear(6, 7, dtype=dtype)
        self.initialize(0)

    def forward(self, x: Any) -> Any:
        return self.head(self.cell(self.embedding(x))[0])


def classes(model: Any, x: Any, y: Any) -> Any:
    logits = model(x, training=True)
    return nn.softmax_cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1))


def squares(model: Any, x: Any, y: Any) -> Any:
    return ((model(x) - y) ** 2).mean()


STEPS: dict[str, Any] = {
    "dense": (lambda d: dense((5, 8, 3), d), classes, (9, 5), (9,), 3),
    "sigmoid": (lambda d: dense((40, 10, 2), d, nn.sigmoid), squares, (8, 40), (8, 2), 0),
    "images": (image_net, classes, (4, 16, 16, 1), (4,), 3),
    "text": (Characters, classes, (3, 6), (3, 6), 7),
}
OPTIMIZERS = (cr.optim.SGD, cr.optim.Nesterov, cr.optim.AdamW)


def trained(name: str, optimizer: Any, compiled: bool, steps: int = 4) -> Any:
    make, loss, of_x, of_y, count = STEPS[name]
    rng = np.random.default_rng(1)
    model = make(cr.float64)
    update = optimizer(model, lr=0.05)
    x = rng.integers(0, 7, of_x) if name == "text" else rng.normal(size=of_x)
    y = rng.integers(0, count, of_y) if count else rng.normal(size=of_y)

    def step(x: Any, y: Any) -> Any:
        update.zero_grad()
        value = loss(model, x, y)
        value.backward()
        cr.optim.clip_by_norm(model, 1.0)
        update.step()
        return value

    run = cr.compile(step) if compiled else step
    losses = [float(run(x, y)) for _ in range(steps)]
    state = {**{n: p.numpy() for n, p in model.named_parameters()}, **model.state()}
    return losses, state


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: o.__name__)
@pytest.mark.parametrize("name", STEPS)
def test_steps_are_those_of_eager(name, optimizer):
    (losses, state), (wanted, eager) = (trained(name, optimizer, c) for c in (True, False))
    np.testing.assert_allclose(losses, wanted, rtol=1e-9)
    assert state.keys() == eager.keys()
    for key in state:
        np.testing.assert_allclose(state[key], eager[key], rtol=1e-8, atol=1e-10, err_msg=key)


def test_an_epoch_in_one_call():
    def make() -> Any:
        model = dense((3, 8, 1), cr.float64)
        return model, cr.optim.Adam(model, lr=0.05)

    xs, ys = RNG.normal(size=(6, 10, 3)), RNG.normal(size=(6, 10))

    def step_of(model: Any, update: Any) -> Any:
        def step(count: Any, pair: Any) -> Any:
            x, y = pair
            update.zero_grad()
            loss = ((model(x)[:, 0] - y) ** 2).mean()
            loss.backward()
            update.step()
            return count + 1, loss

        return step

    eager, compiled = make(), make()
    wanted = [step_of(*eager)(0, (x, y))[1].item() for x, y in zip(xs, ys, strict=True)]
    epoch = cr.compile(lambda xs, ys: cr.scan(step_of(*compiled), 0, (xs, ys)))
    count, losses = epoch(xs, ys)
    assert int(count) == 6
    np.testing.assert_allclose(losses, wanted, rtol=1e-10)
    for p, q in zip(compiled[0].parameters(), eager[0].parameters(), strict=True):
        np.testing.assert_allclose(p, q, rtol=1e-9)
        assert p.grad is None


def test_ten_thousand_steps_take_no_more_memory():
    model = dense((2, 16, 1), cr.float32)
    update = cr.optim.Adam(model, lr=1e-3)
    x, y = RNG.normal(size=(20, 2)).astype("f"), RNG.normal(size=20).astype("f")

    @cr.compile
    def step(x: Any, y: Any) -> Any:
        update.zero_grad()
        loss = ((model(x)[:, 0] - y) ** 2).mean()
        loss.backward()
        update.step()
        return loss

    def kilobytes() -> int:
        gc.collect()
        scale = 1024 if sys.platform == "darwin" else 1
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // scale

    for _ in range(2000):
        step(x, y)
    before = kilobytes()
    for _ in range(10_000):
        step(x, y)
    assert kilobytes() - before < 1024  # a Tensor left a step would be some 5,000


def ratio(memory: Memory, state: int) -> float:
    """Bytes that a step takes beside those that are alive together at the worst moment."""
    scratch = sum(b.nbytes for b in memory.buffers if b.name == "scratch")
    assert scratch >= 0
    return (memory.arena + state) / (memory.live + state)


@pytest.mark.parametrize("name", STEPS)
def test_memory_is_shared(name):
    make, loss, of_x, of_y, count = STEPS[name]
    model = make(cr.float32)
    update = cr.optim.SGD(model, lr=0.1)
    x = RNG.integers(0, 7, of_x) if name == "text" else RNG.normal(size=of_x).astype("f")
    y = RNG.integers(0, count, of_y) if count else RNG.normal(size=of_y).astype("f")

    @cr.compile
    def step(x: Any, y: Any) -> Any:
        update.zero_grad()
        value = loss(model, x, y)
        value.backward()
        update.step()
        return value

    step(x, y)
    state = sum(p.nbytes for p in model.parameters())
    assert ratio(step.memory, state) <= 1.3


def test_a_variable_is_read_before_it_is_overwritten():
    """The new value and what the old one is used for, in one kernel and a reduction inside it."""
    v = cr.tensor(np.float32(0.25))

    @cr.compile
    def step(x: Any, y: Any) -> Any:
        v.assign(v * 0.5 + y.mean())
        return cr.max(x + v * 2, axis=0)

    x, y = np.ones(1, np.float32), np.array([0.5, 1.5], np.float32)
    value = 0.25
    for _ in range(4):  # from the second call on in place
        value = value * 0.5 + 1
        assert float(step(x, y)) == pytest.approx(1 + 2 * value)
    assert v.item() == pytest.approx(value)


def test_a_detached_variable_is_read_at_each_call():
    v = cr.tensor(np.zeros(3, np.float32))
    f = cr.compile(lambda: v.detach() + 0)
    assert f().tolist() == [0, 0, 0]
    v.assign(np.ones(3, np.float32))
    assert f().tolist() == [1, 1, 1]


def test_a_gradient_that_is_one_number_everywhere():
    w, x = cr.Parameter(np.ones((4, 3), np.float32)), np.ones((8, 4), np.float32)

    @cr.compile
    def f(x: Any) -> Any:
        w.zero_grad()
        loss = ((x @ w) * 2.0).sum()
        loss.backward()
        return loss, w.grad

    loss, gradient = f(x)
    assert loss.item() == 192
    assert gradient.tolist() == [[16.0] * 3] * 4
