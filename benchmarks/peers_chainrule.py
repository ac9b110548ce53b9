"""The training steps in chainrule, eager or compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chainrule as cr
from benchmarks.peers_cases import CHANNELS, EMBEDDED, HIDDEN, VOCABULARY, Case, Data
from chainrule import nn


def make(case: Case, compiled: bool) -> tuple[Any, Callable[[Any], float]]:
    """(call, value): a call does `case.steps` steps; value() of what it returns is the loss."""
    if compiled and not hasattr(cr, "compile"):
        raise NotImplementedError("this version has no cr.compile")
    data = case.data()
    model, loss = NETWORKS[case.network](data)
    for p, w in zip(model.parameters(), data.weights, strict=True):
        p.assign(w)
    kinds = {"sgd": cr.optim.SGD, "adam": cr.optim.Adam}
    optimizer = kinds[case.optimizer](model, lr=case.rate)
    x, y = cr.asarray(data.x), cr.asarray(data.y)

    def step() -> Any:
        optimizer.zero_grad()
        value = loss(x, y)
        value.backward()
        optimizer.step()
        return value

    def epoch() -> Any:
        total, _ = cr.scan(
            lambda total, _: (total + step().detach(), None), cr.asarray(0.0, dtype=cr.float32),
            length=case.steps,
        )  # fmt: skip
        return total / case.steps

    call = step if case.steps == 1 else epoch
    return (cr.compile(call) if compiled else call), float


Found = tuple[nn.Module, Callable[[Any, Any], Any]]


def _dense(data: Data, *before: Any, first: int = 0) -> nn.Sequential:
    layers = list(before)
    for w in data.weights[first::2]:
        layers += [nn.Linear(*w.shape), nn.relu]
    return nn.Sequential(*layers[:-1])


def _hinge(data: Data) -> Found:
    model = _dense(data)
    return model, lambda x, y: nn.relu(1.0 - y * model(x)).mean()


def _mlp(data: Data) -> Found:
    model = _dense(data)
    return model, lambda x, y: nn.softmax_cross_entropy(model(x), y)


def _notes(data: Data) -> Found:
    first, second = (nn.Linear(w.shape[0], w.shape[1], bias=False) for w in data.weights)
    model = nn.Sequential(first, nn.sigmoid, second)
    return model, lambda x, y: ((model(x) - y) ** 2).sum()


def _conv(data: Data) -> Found:
    layers: list[Any] = []
    for n, m in zip((1, *CHANNELS), CHANNELS, strict=False):
        layers += [nn.Conv2d(n, m, 3, padding="same"), nn.relu, lambda x: nn.max_pool2d(x, 2)]
    model = _dense(data, *layers, nn.flatten, first=4)
    return model, lambda x, y: nn.softmax_cross_entropy(model(x), y)


def _lstm(data: Data) -> Found:
    embedding = nn.Embedding(VOCABULARY, EMBEDDED)
    layer, last = nn.LSTM(EMBEDDED, HIDDEN), nn.Linear(HIDDEN, VOCABULARY)
    model = nn.Sequential(embedding, layer, last)

    def loss(x: Any, y: Any) -> Any:
        return nn.softmax_cross_entropy(last(layer(embedding(x))[0]), y)

    return model, loss


NETWORKS = {"hinge": _hinge, "notes": _notes, "mlp": _mlp, "conv": _conv, "lstm": _lstm}
