"""More wrong and right backwards, written after the diagnosis; it was not made for them."""

from __future__ import annotations

from typing import Any

import numpy as np

import chainrule as cr
from tests.explain.backwards.right import Absolute, AddBias, Divide, LayerNorm, RowMax, Square
from tests.explain.backwards.wrong import Case

random = np.random.default_rng(11)


def normal(*shape: int) -> Any:
    return random.normal(size=shape)


# -- right ---------------------------------------------------------------------------------------


class Conv1d(cr.Gate):
    def forward(self, x, w):
        self.x, self.w = x, w
        n = len(x) - len(w) + 1
        return np.array([x[i : i + len(w)] @ w for i in range(n)])

    def backward(self, upstream):
        dx, dw = np.zeros_like(self.x), np.zeros_like(self.w)
        for i, u in enumerate(upstream):
            dx[i : i + len(self.w)] += u * self.w
            dw += u * self.x[i : i + len(self.w)]
        return [dx, dw]


class Embedding(cr.Gate):
    def forward(self, table, index):
        self.shape, self.index = table.shape, index
        return table[index]

    def backward(self, upstream):
        grad = np.zeros(self.shape)
        np.add.at(grad, self.index, upstream)
        return [grad, None]


class Elu(cr.Gate):
    def forward(self, x):
        self.x = x
        return np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1)

    def backward(self, upstream):
        return upstream * np.where(self.x > 0, 1, np.exp(np.minimum(self.x, 0)))


class Split(cr.Gate):
    """Two outputs."""

    def forward(self, x):
        self.x = x
        return x[:2] ** 2, x[2:] * 3

    def backward(self, first, second):
        return np.concatenate([2 * self.x[:2] * first, 3 * second])


class CumSum(cr.Gate):
    def forward(self, x):
        return np.cumsum(x)

    def backward(self, upstream):
        return np.cumsum(upstream[::-1])[::-1]


class LogSumExp(cr.Gate):
    def forward(self, x):
        m = x.max()
        self.e = np.exp(x - m)
        return m + np.log(self.e.sum())

    def backward(self, upstream):
        return upstream * self.e / self.e.sum()


class ScaleRows(cr.Gate):
    """Broadcasting along the second axis, which stays with length 1."""

    def forward(self, x, a):
        self.x, self.a = x, a
        return x * a

    def backward(self, upstream):
        return [upstream * self.a, (upstream * self.x).sum(1, keepdims=True)]


class NllLoss(cr.Gate):
    """Whole numbers as labels."""

    def forward(self, logp, labels):
        self.shape, self.labels = logp.shape, labels
        return -logp[np.arange(len(labels)), labels].mean()

    def backward(self, upstream):
        grad = np.zeros(self.shape)
        grad[np.arange(len(self.labels)), self.labels] = -1 / len(self.labels)
        return [upstream * grad, None]


class Normalize(cr.Gate):
    def forward(self, x):
        self.norm = np.sqrt((x * x).sum())
        self.out = x / self.norm
        return self.out

    def backward(self, upstream):
        return (upstream - self.out * (upstream * self.out).sum()) / self.norm


class Inside32(cr.Gate):
    """Computes in float32, whatever comes in."""

    def forward(self, x):
        self.x = np.float32(x)
        return np.tanh(self.x) * self.x

    def backward(self, upstream):
        t = np.tanh(self.x)
        return upstream * (t + self.x * (1 - t * t))


class Small(cr.Gate):
    """Slopes near 1e-9."""

    def forward(self, x):
        self.x = x
        return 1e-9 * x**3

    def backward(self, upstream):
        return 3e-9 * self.x**2 * upstream


class Sqrt(cr.Gate):
    def forward(self, x):
        self.out = np.sqrt(x)
        return self.out

    def backward(self, upstream):
        return upstream / (2 * self.out)


class Cubed(cr.TensorGate):
    """In chainrule's operations."""

    def forward(self, x):
        return x * x * x

    def backward(self, upstream, out, x):
        return [3 * upstream * x * x]


class Dropout(cr.Gate):
    """With a scale that has a default, and a mask from the seed of the gate."""

    def forward(self, x, keep=0.5):
        self.mask = (np.random.default_rng(0).random(x.shape) < keep) / keep
        return x * self.mask

    def backward(self, upstream):
        return upstream * self.mask


class Constant(cr.Gate):
    """Does not depend on its input; both None and zeros are right."""

    def forward(self, x):
        return np.ones(3)

    def backward(self, upstream):
        return None


class ReciprocalSquare(cr.Gate):
    def forward(self, x):
        self.x = x
        return x**-2.0

    def backward(self, upstream):
        return -2 * self.x**-3.0 * upstream


RIGHT = [
    (Conv1d, (normal(7), normal(3))),
    (Embedding, (normal(5, 2), np.array([1, 3, 1]))),
    (Elu, (normal(3, 4),)),
    (Split, (normal(5),)),
    (CumSum, (normal(4),)),
    (LogSumExp, (normal(6),)),
    (ScaleRows, (normal(4, 3), normal(4, 1))),
    (NllLoss, (normal(4, 3), np.array([0, 2, 1, 1]))),
    (Normalize, (normal(4),)),
    (Inside32, (normal(3, 4),)),
    (Small, (normal(5),)),
    (Sqrt, (np.array([1e-4, 1.0, 1e8]),)),
    (Cubed, (normal(3),)),
    (Dropout, (normal(6),)),
    (ReciprocalSquare, (np.array([0.01, 1.0, 1000.0]),)),
    (Absolute, (np.array([1e-3, -1e-4, 1e-6]),)),
    (Square, (np.array([1e-8, 1e8]),)),
    (RowMax, (normal(40, 50),)),
    (LayerNorm, (normal(30, 40),)),
    (Elu, (np.zeros((0, 3)),)),
]


# -- wrong ---------------------------------------------------------------------------------------


class ConvFlipped(Conv1d):
    """The kernel the wrong way round."""

    def backward(self, upstream):
        dw = super().backward(upstream)[1]
        return [np.convolve(upstream, self.w[::-1]), dw]


class ConvNoOverlap(Conv1d):
    """= where += belongs: windows overlap."""

    def backward(self, upstream):
        dx, dw = super().backward(upstream)
        for i, u in enumerate(upstream):
            dx[i : i + len(self.w)] = u * self.w
        return [dx, dw]


class EmbeddingOverwrites(Embedding):
    """Rows that are used twice get one of both."""

    def backward(self, upstream):
        grad = np.zeros(self.shape)
        grad[self.index] = upstream
        return [grad, None]


class RowMaxToAll(RowMax):
    def backward(self, upstream):
        return upstream[:, None] * np.ones_like(self.chosen, dtype=float)


class EluForgetsNegative(Elu):
    """Wrong only where x < 0."""

    def backward(self, upstream):
        return upstream * (self.x > 0)


class SplitForgetsSecond(Split):
    def backward(self, first, second):
        return np.concatenate([2 * self.x[:2] * first, 0 * second])


class CumSumForward(CumSum):
    def backward(self, upstream):
        return np.cumsum(upstream)


class ScaleRowsNotSummed(ScaleRows):
    def backward(self, upstream):
        return [upstream * self.a, upstream * self.x]


class ScaleRowsMean(ScaleRows):
    def backward(self, upstream):
        return [upstream * self.a, (upstream * self.x).mean(1, keepdims=True)]


class NllNotDivided(NllLoss):
    def backward(self, upstream):
        grad = super().backward(upstream)[0]
        return [grad * len(self.labels), None]


class NllSign(NllLoss):
    def backward(self, upstream):
        return [-super().backward(upstream)[0], None]


class NormalizeOnlyNorm(Normalize):
    def backward(self, upstream):
        return upstream / self.norm


class SmallDoubled(Small):
    def backward(self, upstream):
        return 6e-9 * self.x**2 * upstream


class Inside32Half(Inside32):
    def backward(self, upstream):
        return super().backward(upstream) / 2


class DivideSquareForgotten(Divide):
    def backward(self, upstream):
        return [upstream / self.y, -upstream * self.x / self.y]


class SquareReturnsInput(Square):
    def backward(self, upstream):
        return self.x


class NoReturn(Square):
    def backward(self, upstream):
        upstream * self.x


class AddBiasNone(AddBias):
    def backward(self, upstream):
        return [upstream, None]


class NotKept(cr.Gate):
    """forward forgets to keep x."""

    def forward(self, x):
        return x * x

    def backward(self, upstream):
        return 2 * self.x * upstream


class LogSumExpNan(LogSumExp):
    def backward(self, upstream):
        return upstream * self.e / 0


class CubedUpstreamForgotten(Cubed):
    def backward(self, upstream, out, x):
        return [3 * x * x]


class RowMaxOneRow(RowMax):
    """Wrong in one row of many."""

    def backward(self, upstream):
        grad = upstream[:, None] * self.chosen
        grad[37] *= -1
        return grad


class AddsConstant(Square):
    def backward(self, upstream):
        return 2 * self.x * upstream + 1


class Accumulates(Square):
    """Keeps adding to what it returned last time."""

    def forward(self, x):
        self.grad = np.zeros_like(x)
        return super().forward(x)

    def backward(self, upstream):
        self.grad += 2 * self.x * upstream
        return self.grad


class Reshaped(Square):
    def backward(self, upstream):
        return (2 * self.x * upstream).reshape(-1)


WRONG: list[Case] = [
    (ConvFlipped, (normal(7), normal(3)), "wrong local"),
    (ConvNoOverlap, (normal(7), normal(3)), "wrong local"),
    (EmbeddingOverwrites, (normal(5, 2), np.array([1, 3, 1])), "wrong local"),
    (RowMaxToAll, (normal(3, 4),), "wrong local"),
    (EluForgetsNegative, (normal(3, 4),), "wrong local"),
    (SplitForgetsSecond, (normal(5),), "wrong local"),
    (CumSumForward, (normal(4),), "transposed"),
    (ScaleRowsNotSummed, (normal(4, 3), normal(4, 1)), "not summed"),
    (ScaleRowsMean, (normal(4, 3), normal(4, 1)), "factor"),
    (NllNotDivided, (normal(4, 3), np.array([0, 2, 1, 1])), "factor"),
    (NllSign, (normal(4, 3), np.array([0, 2, 1, 1])), "sign"),
    (NormalizeOnlyNorm, (normal(4),), "wrong local"),
    (SmallDoubled, (normal(5),), "factor"),
    (Inside32Half, (normal(3, 4),), "factor"),
    (DivideSquareForgotten, (normal(4), 1 + normal(4) ** 2), "wrong local"),
    (SquareReturnsInput, (normal(2, 3),), "upstream forgotten"),
    (NoReturn, (normal(2, 3),), "missing gradient"),
    (AddBiasNone, (normal(4, 3), normal(3)), "missing gradient"),
    (NotKept, (normal(3),), "raises"),
    (LogSumExpNan, (normal(6),), "wrong local"),
    (CubedUpstreamForgotten, (normal(3),), "upstream forgotten"),
    (RowMaxOneRow, (normal(40, 50),), "wrong local"),
    (AddsConstant, (normal(2, 3),), "wrong local"),
    (Accumulates, (normal(2, 3),), "in-place damage"),
    (Reshaped, (normal(2, 3),), "shape"),
]
