"""Twenty wrong backwards, written by hand as they come in homework, with what is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

import chainrule as cr
from tests.explain.backwards.right import (
    Linear,
    MatMul,
    Multiply,
    Relu,
    Sigmoid,
    Softmax,
    Tanh,
    normal,
)


class SigmoidOfInput(Sigmoid):
    """The local derivative taken at the input instead of the output."""

    def forward(self, x):
        self.x = x
        return 1 / (1 + np.exp(-x))

    def backward(self, upstream):
        return upstream * self.x * (1 - self.x)


class SigmoidWithoutUpstream(Sigmoid):
    def backward(self, upstream):
        return self.out * (1 - self.out)


class TanhWithoutSquare(Tanh):
    def backward(self, upstream):
        return upstream * (1 - self.out)


class ReluMaskedByUpstream(Relu):
    def backward(self, upstream):
        return upstream * (upstream > 0)


class ReluLetsAllThrough(Relu):
    def backward(self, upstream):
        return upstream


class LinearBiasNotSummed(Linear):
    def backward(self, upstream):
        return [upstream @ self.W.T, self.x.T @ upstream, upstream]


class LinearBiasMean(Linear):
    def backward(self, upstream):
        return [upstream @ self.W.T, self.x.T @ upstream, upstream.mean(0)]


class LinearWeightsTransposed(Linear):
    def backward(self, upstream):
        return [upstream @ self.W.T, upstream.T @ self.x, upstream.sum(0)]


class LinearInputTransposed(Linear):
    """W where Wᵀ belongs; it fits, because W is square."""

    def backward(self, upstream):
        return [upstream @ self.W, self.x.T @ upstream, upstream.sum(0)]


class LinearSwapped(Linear):
    def backward(self, upstream):
        return [self.x.T @ upstream, upstream @ self.W.T, upstream.sum(0)]


class LinearForgetsBias(Linear):
    def backward(self, upstream):
        return [upstream @ self.W.T, self.x.T @ upstream]


class LinearNoBiasGradient(Linear):
    def backward(self, upstream):
        return [upstream @ self.W.T, self.x.T @ upstream, np.zeros(upstream.shape[1])]


class SoftmaxDiagonalOnly(Softmax):
    """The diagonal of its Jacobian, without the rank-1 part."""

    def backward(self, upstream):
        return upstream * self.s * (1 - self.s)


class MultiplyOwnInputs(Multiply):
    """Each gets its own value instead of the other's."""

    def backward(self, upstream):
        return [upstream * self.x, upstream * self.y]


class MultiplySameTwice(Multiply):
    def backward(self, upstream):
        return [upstream * self.y, upstream * self.y]


class DamagesUpstream(Tanh):
    def backward(self, upstream):
        upstream *= 1 - self.out**2
        return upstream


class DamagesSaved(Sigmoid):
    """Right at the first call; the array that it saved is changed for the second."""

    def forward(self, x):
        self.out = 1 / (1 + np.exp(-x))
        return self.out.copy()

    def backward(self, upstream):
        rest = 1 - self.out
        self.out *= rest
        return upstream * self.out


class CrossEntropyNotDivided(cr.Gate):
    """The mean over the batch in forward, its 1/n not in backward."""

    def forward(self, x, t):
        e = np.exp(x - x.max(1, keepdims=True))
        self.p, self.t = e / e.sum(1, keepdims=True), t
        return -(t * np.log(self.p)).sum(1).mean()

    def backward(self, upstream):
        return [upstream * (self.p - self.t), -upstream * np.log(self.p) / len(self.p)]


class LayerNormOnlyStd(cr.Gate):
    """As if mean and deviation did not depend on x."""

    def forward(self, x):
        self.std = x.std(1, keepdims=True)
        return (x - x.mean(1, keepdims=True)) / self.std

    def backward(self, upstream):
        return upstream / self.std


class MatMulRaises(MatMul):
    """The transposes forgotten: shapes that do not fit."""

    def backward(self, upstream):
        return [upstream @ self.B, self.A @ upstream]


Case = tuple[Any, tuple[Any, ...], str]
x34, one_hot = normal(3, 4), np.eye(4)[[1, 3, 0]]
linear = (normal(4, 3), normal(3, 2), normal(2))

WRONG: list[Case] = [
    (SigmoidOfInput, (normal(3, 4),), "wrong local"),
    (SigmoidWithoutUpstream, (normal(3, 4),), "upstream forgotten"),
    (TanhWithoutSquare, (normal(5),), "wrong local"),
    (ReluMaskedByUpstream, (normal(3, 4),), "wrong local"),
    (ReluLetsAllThrough, (normal(3, 4),), "local forgotten"),
    (LinearBiasNotSummed, linear, "not summed"),
    (LinearBiasMean, linear, "factor"),
    (LinearWeightsTransposed, linear, "transposed"),
    (LinearInputTransposed, (normal(4, 3), normal(3, 3), normal(3)), "transposed"),
    (LinearSwapped, (normal(3, 3), normal(3, 3), normal(3)), "swapped"),
    (LinearForgetsBias, linear, "count"),
    (LinearNoBiasGradient, linear, "missing gradient"),
    (SoftmaxDiagonalOnly, (x34,), "wrong local"),
    (MultiplyOwnInputs, (normal(3, 4), normal(3, 4)), "swapped"),
    (MultiplySameTwice, (normal(3, 4), normal(3, 4)), "wrong input"),
    (DamagesUpstream, (normal(5),), "in-place damage"),
    (DamagesSaved, (normal(5),), "in-place damage"),
    (CrossEntropyNotDivided, (x34, one_hot), "factor"),
    (LayerNormOnlyStd, (normal(3, 5),), "wrong local"),
    (MatMulRaises, (normal(2, 3), normal(3, 4)), "raises"),
]
