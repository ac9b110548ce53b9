"""The training steps that are compared: shapes, starting weights, data, and what they cost.

Weights are (inputs, outputs), kernels (height, width, inputs, outputs), pictures channels-last;
a contestant that stores them otherwise converts them once, before it starts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
SIGNS = (100, 2)
VOCABULARY, EMBEDDED, HIDDEN, SEQUENCES, TIME = 96, 128, 128, 32, 64
CHANNELS, DENSE, SIDE, PICTURES = (32, 64), 128, 28, 64


@dataclass(frozen=True)
class Data:
    """What every contestant starts from: float32 weights in order, and one batch."""

    weights: tuple[Array, ...]
    x: Array
    y: Array


@dataclass(frozen=True)
class Case:
    """A row of the table."""

    title: str
    network: str
    """Which network and loss: "hinge", "notes", "mlp", "conv" or "lstm"."""
    optimizer: str
    rate: float
    wanted: float
    """How many times faster than the best peer chainrule wants to be."""
    flops: float
    """Of a step's products and convolutions: forward, by weights, by inputs after layer one."""
    data: Callable[[], Data]
    steps: int = 1
    """Steps in one call: more than one is a compiled epoch, where there is such a thing."""
    check: int = 10
    """Calls from the start after which losses are compared."""


def _dense(r: np.random.Generator, *sizes: int) -> tuple[Array, ...]:
    """w and b of each layer, He normal, biases small."""
    found: list[Array] = []
    for n, m in pairwise(sizes):
        found += [r.normal(size=(n, m)) * np.sqrt(2 / n), r.normal(size=m) * 0.1]
    return _floats(found)


def _floats(arrays: list[Array]) -> tuple[Array, ...]:
    return tuple(a.astype(np.float32) for a in arrays)


def _hinge() -> Data:
    r = np.random.default_rng(0)
    x = r.normal(size=SIGNS).astype(np.float32)
    return Data(_dense(r, 2, 16, 16, 1), x, np.sign(x[:, :1] * x[:, 1:]))


def _notes() -> Data:
    r = np.random.default_rng(0)
    x, y = _floats([r.normal(size=(64, 1000)), r.normal(size=(64, 10))])
    return Data(_floats([r.normal(size=(1000, 100)), r.normal(size=(100, 10))]), x, y)


def _mlp(batch: int, *sizes: int) -> Callable[[], Data]:
    def data() -> Data:
        r = np.random.default_rng(0)
        x = r.random((batch, sizes[0])).astype(np.float32)
        return Data(_dense(r, *sizes), x, r.integers(0, sizes[-1], batch))

    return data


def _conv() -> Data:
    r = np.random.default_rng(0)
    kernels: list[Array] = []
    for n, m in pairwise((1, *CHANNELS)):
        kernels += [r.normal(size=(3, 3, n, m)) * np.sqrt(2 / (9 * n)), r.normal(size=m) * 0.1]
    flat = (SIDE // 4) ** 2 * CHANNELS[-1]
    weights = (*_floats(kernels), *_dense(r, flat, DENSE, 10))
    x = r.random((PICTURES, SIDE, SIDE, 1)).astype(np.float32)
    return Data(weights, x, r.integers(0, 10, PICTURES))


def _lstm() -> Data:
    """Embedding; weights and biases by inputs and by state, gates i, f, g, o; the last layer."""
    r = np.random.default_rng(0)
    bound = HIDDEN**-0.5
    shapes = [(EMBEDDED, 4 * HIDDEN), (HIDDEN, 4 * HIDDEN), (4 * HIDDEN,), (4 * HIDDEN,)]
    cell = _floats([r.uniform(-bound, bound, shape) for shape in shapes])
    (embedding,) = _floats([r.normal(size=(VOCABULARY, EMBEDDED))])
    text = r.integers(0, VOCABULARY, (SEQUENCES, TIME + 1))
    last = _dense(r, HIDDEN, VOCABULARY)
    return Data((embedding, *cell, *last), text[:, :-1].copy(), text[:, 1:].copy())


def _mlp_flops(batch: int, *sizes: int) -> float:
    products = [2.0 * batch * n * m for n, m in pairwise(sizes)]
    return 3 * sum(products) - products[0]


def _conv_flops() -> float:
    first, second = (
        2.0 * PICTURES * (SIDE // by) ** 2 * 9 * n * m
        for by, n, m in ((1, 1, CHANNELS[0]), (2, *CHANNELS))
    )
    flat = (SIDE // 4) ** 2 * CHANNELS[-1]
    dense = 2.0 * PICTURES * (flat * DENSE + DENSE * 10)
    return 2 * first + 3 * (second + dense)


def _lstm_flops() -> float:
    places = SEQUENCES * TIME
    each = (EMBEDDED + HIDDEN) * 4 * HIDDEN + HIDDEN * VOCABULARY
    return 3 * 2.0 * places * each


_SMALL = (2, 16, 16, 1)
_MIDDLE, _LARGE = (784, 256, 128, 10), (1024, 1024, 1024, 10)
CASES = {
    "small": Case(
        "MLP 2-16-16-1, 100 points, hinge, SGD", "hinge", "sgd", 0.01, 5.0,
        _mlp_flops(100, *_SMALL), _hinge,
    ),
    "epoch": Case(
        "the same, 100 steps in a compiled epoch", "hinge", "sgd", 0.01, 10.0,
        _mlp_flops(100, *_SMALL), _hinge, steps=100, check=2,
    ),
    "notes": Case(
        "notes' 1000-100-10, batch 64, sigmoid, squares, SGD", "notes", "sgd", 1e-4, 2.5,
        _mlp_flops(64, 1000, 100, 10), _notes,
    ),
    "mlp": Case(
        "MLP 784-256-128-10, batch 128, Adam", "mlp", "adam", 1e-3, 1.7,
        _mlp_flops(128, *_MIDDLE), _mlp(128, *_MIDDLE),
    ),
    "large": Case(
        "MLP 1024-1024-1024-10, batch 256, Adam", "mlp", "adam", 1e-3, 1.3,
        _mlp_flops(256, *_LARGE), _mlp(256, *_LARGE),
    ),
    "conv": Case(
        "ConvNet 28×28, 32-64-128-10, batch 64, SGD", "conv", "sgd", 0.01, 3.0,
        _conv_flops(), _conv,
    ),
    "lstm": Case(
        "character LSTM 96-128-128-96, 32×64, Adam", "lstm", "adam", 1e-3, 1.8,
        _lstm_flops(), _lstm,
    ),
}  # fmt: skip
