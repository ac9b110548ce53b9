"""Gates with a right backward, as students write them; the script `mutations.py` spoils some."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import chainrule as cr

random = np.random.default_rng(7)


def normal(*shape: int) -> Any:
    return random.normal(size=shape)


class Linear(cr.Gate):
    def forward(self, x, W, b):
        self.x, self.W = x, W
        return x @ W + b

    def backward(self, upstream):
        return [upstream @ self.W.T, self.x.T @ upstream, upstream.sum(0)]


class MatMul(cr.Gate):
    def forward(self, A, B):
        self.A, self.B = A, B
        return A @ B

    def backward(self, upstream):
        return [upstream @ self.B.T, self.A.T @ upstream]


class Sigmoid(cr.Gate):
    def forward(self, x):
        self.out = 1 / (1 + np.exp(-x))
        return self.out

    def backward(self, upstream):
        return upstream * self.out * (1 - self.out)


class Tanh(cr.Gate):
    def forward(self, x):
        self.out = np.tanh(x)
        return self.out

    def backward(self, upstream):
        return upstream * (1 - self.out**2)


class Relu(cr.Gate):
    def forward(self, x):
        self.x = x
        return np.maximum(x, 0)

    def backward(self, upstream):
        return upstream * (self.x > 0)


class Softmax(cr.Gate):
    def forward(self, x):
        e = np.exp(x - x.max(1, keepdims=True))
        self.s = e / e.sum(1, keepdims=True)
        return self.s

    def backward(self, upstream):
        return self.s * (upstream - (upstream * self.s).sum(1, keepdims=True))


class Multiply(cr.Gate):
    def forward(self, x, y):
        self.x, self.y = x, y
        return x * y

    def backward(self, upstream):
        return [upstream * self.y, upstream * self.x]


class Divide(cr.Gate):
    def forward(self, x, y):
        self.x, self.y = x, y
        return x / y

    def backward(self, upstream):
        return [upstream / self.y, -upstream * self.x / self.y**2]


class Subtract(cr.Gate):
    def forward(self, x, y):
        return x - y

    def backward(self, upstream):
        return [upstream, -upstream]


class MeanSquare(cr.Gate):
    def forward(self, p, t):
        self.d = p - t
        return (self.d**2).mean()

    def backward(self, upstream):
        return [upstream * 2 * self.d / self.d.size, -upstream * 2 * self.d / self.d.size]


class AddBias(cr.Gate):
    def forward(self, x, b):
        return x + b

    def backward(self, upstream):
        return [upstream, upstream.sum(0)]


class Scale(cr.Gate):
    def forward(self, x, a):
        self.x, self.a = x, a
        return x * a

    def backward(self, upstream):
        return [upstream * self.a, (upstream * self.x).sum()]


class Maximum(cr.Gate):
    def forward(self, x, y):
        self.first = x >= y
        return np.maximum(x, y)

    def backward(self, upstream):
        return [upstream * self.first, upstream * ~self.first]


class RowMax(cr.Gate):
    def forward(self, x):
        self.chosen = x == x.max(1, keepdims=True)
        return x.max(1)

    def backward(self, upstream):
        return upstream[:, None] * self.chosen


class LayerNorm(cr.Gate):
    def forward(self, x):
        self.std = x.std(1, keepdims=True)
        self.n = (x - x.mean(1, keepdims=True)) / self.std
        return self.n

    def backward(self, upstream):
        n = self.n
        centred = upstream - upstream.mean(1, keepdims=True)
        return (centred - n * (upstream * n).mean(1, keepdims=True)) / self.std


class Log(cr.Gate):
    def forward(self, x):
        self.x = x
        return np.log(x)

    def backward(self, upstream):
        return upstream / self.x


class Square(cr.Gate):
    def forward(self, x):
        self.x = x
        return x * x

    def backward(self, upstream):
        return 2 * self.x * upstream


class Mean(cr.Gate):
    def forward(self, x):
        self.shape = x.shape
        return x.mean(0)

    def backward(self, upstream):
        return np.broadcast_to(upstream, self.shape) / self.shape[0]


class Absolute(cr.Gate):
    def forward(self, x):
        self.x = x
        return np.abs(x)

    def backward(self, upstream):
        return upstream * np.sign(self.x)


RIGHT: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
    (Linear, (normal(4, 3), normal(3, 2), normal(2))),
    (Linear, (normal(1, 3), normal(3, 3), normal(3))),
    (MatMul, (normal(2, 3), normal(3, 4))), (MatMul, (normal(3, 3), normal(3, 3))),
    (Sigmoid, (normal(3, 4),)), (Sigmoid, (np.float64(0.3),)), (Tanh, (normal(5),)),
    (Relu, (normal(3, 4),)), (Relu, (np.array([[0.0, 1.0], [-1.0, 0.0]]),)),
    (Softmax, (normal(3, 4),)), (Multiply, (normal(3, 4), normal(3, 4))),
    (Multiply, (np.float64(3.0), np.float64(-4.0))),
    (Divide, (normal(4), 1 + normal(4) ** 2)), (Subtract, (normal(3, 2), normal(3, 2))),
    (MeanSquare, (normal(6, 2), normal(6, 2))), (AddBias, (normal(4, 3), normal(3))),
    (Scale, (normal(3, 4), np.float64(1.7))), (Maximum, (normal(4), normal(4))),
    (RowMax, (normal(3, 4),)), (LayerNorm, (normal(3, 5),)), (Log, (1 + normal(4) ** 2,)),
    (Square, (normal(2, 3),)), (Square, (np.ones((0, 3)),)), (Mean, (normal(4, 3),)),
    (Absolute, (np.array([-1.0, 0.0, 2.0]),)),
    (Linear, tuple(a.astype(np.float32) for a in (normal(4, 3), normal(3, 2), normal(2)))),
    (Softmax, (normal(3, 4).astype(np.float32),)), (LayerNorm, (normal(3, 5).astype(np.float32),)),
]  # fmt: skip
"""Gates with inputs at which they are right (at kinks any slope between both sides is)."""
