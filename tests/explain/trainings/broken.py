"""Twenty-one broken trainings, each with the name of what is wrong; fixed before the diagnosis.

Each makes (model, loss, batch, optimizer or None). `WANTED` has, for each, the findings of which
one at least has to be named.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

import chainrule as cr
from chainrule import nn, optim

NAMES = (
    "dead units", "saturated units", "identical units", "vanishing gradients",
    "exploding gradients", "activations shrink", "activations grow", "no gradient", "not finite",
    "rate too high", "rate too low", "inputs not scaled", "targets not scaled",
    "predictions and targets broadcast", "softmax applied twice", "sigmoid applied twice",
    "not in the optimizer",
)  # fmt: skip
"""Everything that can be found."""

Made = tuple[Any, Any, tuple[Any, Any], Any]


def data(n: int = 64, inputs: int = 20, classes: int = 5, seed: int = 0) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, inputs)).astype(np.float32)
    return x, (x @ random.normal(size=(inputs, classes))).argmax(1)


def mlp(*sizes: int, act: Any = nn.relu, seed: int = 0) -> Any:
    layers: list[Any] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), act]
    return nn.Sequential(*layers[:-1], seed=seed)


def scaled(model: Any, factor: float) -> Any:
    for p in model.parameters():
        if p.ndim > 1:
            p.assign(p.numpy() * np.float32(factor))
    return model


def dead_by_bias() -> Made:
    model = mlp(20, 30, 5)
    model.parameters()[1].assign(np.full(30, -60, np.float32))
    return model, nn.softmax_cross_entropy, data(), None


def killed_by_rate() -> Made:
    model, (x, y) = mlp(20, 40, 40, 5), data()
    optimizer = optim.SGD(model, lr=10.0)
    for _ in range(12):
        optimizer.zero_grad()
        nn.softmax_cross_entropy(model(x), y).backward()
        optimizer.step()
    return model, nn.softmax_cross_entropy, (x, y), None


def all_weights_zero() -> Made:
    return scaled(mlp(20, 16, 5, act=nn.tanh), 0.0), nn.softmax_cross_entropy, data(), None


def all_weights_equal() -> Made:
    model = mlp(20, 16, 5)
    for p in model.parameters():
        p.assign(np.full(p.shape, 0.1, np.float32))
    return model, nn.softmax_cross_entropy, data(), None


def initial_scale_small() -> Made:
    return scaled(mlp(20, *[32] * 8, 5, act=nn.tanh), 0.02), nn.softmax_cross_entropy, data(), None


def initial_scale_large() -> Made:
    return scaled(mlp(20, *[32] * 4, 5, act=nn.tanh), 30.0), nn.softmax_cross_entropy, data(), None


def deep_relu_large() -> Made:
    return scaled(mlp(20, *[32] * 12, 5), 6.0), nn.softmax_cross_entropy, data(), None


def sigmoid_stack() -> Made:
    model = mlp(20, *[24] * 12, 5, act=nn.sigmoid)
    return model, nn.softmax_cross_entropy, data(), None


def raw_pixels() -> Made:
    x, y = data()
    return mlp(20, 30, 5, act=nn.tanh), nn.softmax_cross_entropy, (127 + 60 * x, y), None


class Recurrent(nn.Module):
    """A hand-written recurrent network with a transition matrix of the given size."""

    def __init__(self, scale: float, steps: int) -> None:
        random = np.random.default_rng(1)
        self.W = cr.Parameter((random.normal(size=(16, 16)) * scale / 4).astype(np.float32))
        self.inner = nn.Linear(20, 16)
        self.out = nn.Linear(16, 5)
        self.steps = steps

    def forward(self, x: Any, training: bool = False) -> Any:
        h = self.inner(x)
        for _ in range(self.steps):
            h = nn.leaky_relu(h @ self.W)
        return self.out(h)


def exploding_recurrence() -> Made:
    return Recurrent(4.0, 40), nn.softmax_cross_entropy, data(), None


def log_of_zero() -> Made:
    def loss(scores: Any, y: Any) -> Any:
        p = nn.relu(scores)
        return -cr.log(p[np.arange(len(y)), y]).mean()

    return mlp(20, 16, 5), loss, data(), None


def softmax_by_hand() -> Made:
    def loss(scores: Any, y: Any) -> Any:
        e = cr.exp(scores * 400)
        p = e / e.sum(axis=1, keepdims=True)
        return -p[np.arange(len(y)), y].mean()

    return mlp(20, 16, 5), loss, data(), None


class Unused(nn.Module):
    def __init__(self, cut: bool) -> None:
        self.first, self.second, self.out = nn.Linear(20, 16), nn.Linear(16, 16), nn.Linear(16, 5)
        self.cut = cut

    def forward(self, x: Any, training: bool = False) -> Any:
        h = nn.relu(self.first(x))
        if self.cut:  # everything before gets no gradient
            return self.out(cr.stop_gradient(nn.relu(self.second(h))))
        return self.out(h)  # and `second` is forgotten


def forgotten_layer() -> Made:
    return Unused(False), nn.softmax_cross_entropy, data(), None


def behind_stop_gradient() -> Made:
    return Unused(True), nn.softmax_cross_entropy, data(), None


def rate_too_high() -> Made:
    model = mlp(20, 30, 5)
    return model, nn.softmax_cross_entropy, data(), optim.Adam(model, lr=1.0)


def rate_too_low() -> Made:
    model = mlp(20, 30, 5)
    return model, nn.softmax_cross_entropy, data(), optim.SGD(model, lr=1e-9)


def targets_in_millions() -> Made:
    x, _ = data()
    y = (1e6 + 3e5 * x[:, :1]).astype(np.float32)
    return mlp(20, 30, 1), nn.mean_squared_error, (x, y), None


def every_prediction_with_every_target() -> Made:
    x, _ = data()
    return mlp(20, 30, 1), lambda p, y: ((p - y) ** 2).mean(), (x, x[:, 0]), None


def softmax_twice() -> Made:
    layers = (nn.Linear(20, 16), nn.relu, nn.Linear(16, 5), nn.softmax)
    return nn.Sequential(*layers, seed=0), nn.softmax_cross_entropy, data(), None


def sigmoid_twice() -> Made:
    def loss(scores: Any, y: Any) -> Any:
        return (nn.softplus(scores) - y * scores).mean()

    x, _ = data()
    layers = (nn.Linear(20, 16), nn.relu, nn.Linear(16, 1), nn.sigmoid)
    return nn.Sequential(*layers, seed=0), loss, (x, (x[:, :1] > 0) * 1.0), None


def head_not_in_the_optimizer() -> Made:
    model = mlp(20, 30, 5)
    return model, nn.softmax_cross_entropy, data(), optim.Adam(model[0], lr=1e-3)


WANTED: dict[Callable[[], Made], set[str]] = {
    dead_by_bias: {"dead units"}, killed_by_rate: {"dead units"},
    all_weights_zero: {"identical units"}, all_weights_equal: {"identical units"},
    initial_scale_small: {"vanishing gradients", "activations shrink"},
    initial_scale_large: {"saturated units"},
    deep_relu_large: {"exploding gradients", "activations grow"},
    sigmoid_stack: {"vanishing gradients"}, raw_pixels: {"inputs not scaled"},
    exploding_recurrence: {"exploding gradients"}, log_of_zero: {"not finite"},
    softmax_by_hand: {"not finite"}, forgotten_layer: {"no gradient"},
    behind_stop_gradient: {"no gradient"}, rate_too_high: {"rate too high"},
    rate_too_low: {"rate too low"}, targets_in_millions: {"targets not scaled"},
    every_prediction_with_every_target: {"predictions and targets broadcast"},
    softmax_twice: {"softmax applied twice"}, sigmoid_twice: {"sigmoid applied twice"},
    head_not_in_the_optimizer: {"not in the optimizer"},
}  # fmt: skip
