"""Ten healthy trainings, at their start and under way, in which nothing serious may be found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import chainrule as cr
from chainrule import nn, optim
from tests.explain.trainings.broken import Made, data, mlp


def trained(made: Made, steps: int = 60) -> Made:
    model, loss, (x, y), optimizer = made
    optimizer = optimizer or optim.Adam(model, lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model(x, training=True), y).backward()
        optimizer.step()
    return model, loss, (x, y), optimizer


def small_mlp() -> Made:
    model = mlp(20, 32, 5)
    return model, nn.softmax_cross_entropy, data(), optim.Adam(model, lr=1e-3)


def small_mlp_trained() -> Made:
    return trained(small_mlp())


def deep_mlp() -> Made:
    model = mlp(20, *[64] * 6, 5)
    return model, nn.softmax_cross_entropy, data(), optim.SGD(model, lr=0.05)


def tanh_mlp_trained() -> Made:
    return trained((mlp(20, 24, 24, 5, act=nn.tanh), nn.softmax_cross_entropy, data(), None))


def linear_regression() -> Made:
    x, _ = data()
    model = mlp(20, 1)
    return model, nn.mean_squared_error, (x, x[:, :1] * 2 + 1), optim.SGD(model, lr=0.05)


def images() -> tuple[Any, Any]:
    random = np.random.default_rng(2)
    x = random.normal(size=(16, 12, 12, 1)).astype(np.float32)
    return x, random.integers(0, 4, 16)


def convolutions() -> Made:
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm(8), nn.relu, nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.relu, nn.flatten, nn.Linear(576, 4), seed=3,
    )  # fmt: skip
    return model, nn.softmax_cross_entropy, images(), optim.Adam(model, lr=1e-3)


def convolutions_trained() -> Made:
    return trained(convolutions(), 10)


def autoencoder() -> Made:
    x, _ = data()
    return mlp(20, 12, 6, 12, 20, act=nn.gelu), nn.mean_squared_error, (x, x), None


class Text(nn.Module):
    def __init__(self) -> None:
        self.embedding, self.lstm = nn.Embedding(30, 12), nn.LSTM(12, 16)
        self.out = nn.Linear(16, 30)

    def forward(self, tokens: Any, training: bool = False) -> Any:
        h = self.lstm(self.embedding(tokens))
        h = h[0] if isinstance(h, tuple) else h
        return self.out(h)


def characters() -> Made:
    random = np.random.default_rng(4)
    tokens = random.integers(0, 30, (8, 21))

    def loss(scores: Any, y: Any) -> Any:
        return nn.softmax_cross_entropy(cr.reshape(scores, (-1, 30)), y.reshape(-1))

    return Text(), loss, (tokens[:, :-1], tokens[:, 1:]), None


class Stateful(Text):
    """Its state starts as zeros, so the first product with the hidden weights is 0."""

    def forward(self, tokens: Any, training: bool = False) -> Any:
        zeros = np.zeros((1, tokens.shape[0], 16), np.float32)
        h, _ = self.lstm(self.embedding(tokens), (zeros, zeros))
        return self.out(h)


def characters_with_a_state() -> Made:
    _, *rest = characters()
    return (Stateful(), *rest)  # type: ignore[return-value]


HEALTHY: list[Callable[[], Made]] = [
    small_mlp, small_mlp_trained, deep_mlp, tanh_mlp_trained, linear_regression, convolutions,
    convolutions_trained, autoencoder, characters, characters_with_a_state,
]  # fmt: skip
