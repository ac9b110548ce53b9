"""The training steps in PyTorch: eager or compiled, pictures channels-first or channels-last.

Compiled, forward, backward and update are one function: faster here than compiling the forward
part or the loss alone, and so is "max-autotune" than the default mode. Eager ones have the fused
optimizers, which are faster than the foreach ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.measure import THREADS
from benchmarks.peers_cases import EMBEDDED, HIDDEN, Case, Data

Tensor = torch.Tensor
Forward = Callable[[Tensor, Tensor], Tensor]


def make(case: Case, compiled: bool, channels_last: bool) -> tuple[Any, Callable[[Any], float]]:
    """(call, value): a call does `case.steps` steps; value() of what it returns is the loss."""
    torch.set_num_threads(THREADS)
    data = case.data()
    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
    if case.network == "conv":
        x = x.permute(0, 3, 1, 2)
        x = x if channels_last else x.contiguous()
        weights, forward = _conv(data, channels_last)
    else:
        weights, forward = NETWORKS[case.network](data)
    step = (_compiled if compiled else _eager)(case, weights, forward, x, y)

    def epoch() -> Tensor:
        total = torch.zeros(())
        for _ in range(case.steps):
            total += step()
        return total / case.steps

    return (step if case.steps == 1 else epoch), float


def _eager(
    case: Case, weights: list[Tensor], forward: Forward, x: Tensor, y: Tensor
) -> Callable[[], Tensor]:
    kinds: dict[str, Any] = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}
    optimizer = kinds[case.optimizer](weights, lr=case.rate, fused=True)

    def step() -> Tensor:
        loss = forward(x, y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def _compiled(
    case: Case, weights: list[Tensor], forward: Forward, x: Tensor, y: Tensor
) -> Callable[[], Tensor]:
    adam = case.optimizer == "adam"
    means, squares = ([torch.zeros_like(w) for w in weights] for _ in range(2))
    t = torch.zeros(())

    def step() -> Tensor:
        loss = forward(x, y)
        gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            if not adam:
                for p, g in zip(weights, gradients, strict=True):
                    p.sub_(g, alpha=case.rate)
                return loss.detach()
            t.add_(1)
            root = torch.sqrt(1 - 0.999**t)
            size, eps = case.rate * root / (1 - 0.9**t), 1e-8 * root
            for p, g, m, s in zip(weights, gradients, means, squares, strict=True):
                m.lerp_(g, 0.1)
                s.mul_(0.999).addcmul_(g, g, value=0.001)
                p.sub_(size * m / (s.sqrt() + eps))
        return loss.detach()

    found: Callable[[], Tensor] = torch.compile(step, mode="max-autotune")
    return found


def _leaves(arrays: Any) -> list[Tensor]:
    """Variables; matrices as PyTorch's layers hold them, (outputs, inputs)."""
    return [torch.tensor(np.ascontiguousarray(a.T), requires_grad=True) for a in arrays]


def _dense(weights: list[Tensor], x: Tensor) -> Tensor:
    for k in range(0, len(weights) - 2, 2):
        x = F.relu(F.linear(x, weights[k], weights[k + 1]))
    return F.linear(x, weights[-2], weights[-1])


def _hinge(data: Data) -> tuple[list[Tensor], Forward]:
    weights = _leaves(data.weights)
    return weights, lambda x, y: F.relu(1 - y * _dense(weights, x)).mean()


def _mlp(data: Data) -> tuple[list[Tensor], Forward]:
    weights = _leaves(data.weights)
    return weights, lambda x, y: F.cross_entropy(_dense(weights, x), y)


def _notes(data: Data) -> tuple[list[Tensor], Forward]:
    weights = [torch.tensor(w, requires_grad=True) for w in data.weights]
    a, b = weights
    return weights, lambda x, y: F.mse_loss(torch.sigmoid(x @ a) @ b, y, reduction="sum")


def _conv(data: Data, channels_last: bool) -> tuple[list[Tensor], Forward]:
    memory = torch.channels_last if channels_last else torch.contiguous_format
    kernels = [
        torch.tensor(w).permute(3, 2, 0, 1).contiguous(memory_format=memory).requires_grad_()
        if w.ndim == 4
        else torch.tensor(w, requires_grad=True)
        for w in data.weights[:4]
    ]
    first, *rest = data.weights[4:]
    if not channels_last:  # rows in the order of (channel, height, width)
        side = 7
        first = first.reshape(side, side, -1, first.shape[1]).transpose(2, 0, 1, 3)
        first = first.reshape(-1, first.shape[-1])
    dense = _leaves([first, *rest])
    w1, b1, w2, b2 = kernels

    def forward(x: Tensor, y: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(F.conv2d(x, w1, b1, padding=1)), 2)
        x = F.max_pool2d(F.relu(F.conv2d(x, w2, b2, padding=1)), 2)
        x = x.permute(0, 2, 3, 1) if channels_last else x  # there, a view
        return F.cross_entropy(_dense(dense, x.flatten(1)), y)

    return [*kernels, *dense], forward


def _lstm(data: Data) -> tuple[list[Tensor], Forward]:
    embedding = torch.tensor(data.weights[0], requires_grad=True)
    layer = torch.nn.LSTM(EMBEDDED, HIDDEN, batch_first=True)
    with torch.no_grad():
        for p, w in zip(layer.parameters(), data.weights[1:5], strict=True):
            p.copy_(torch.tensor(w.T))
    last = _leaves(data.weights[5:])

    def forward(x: Tensor, y: Tensor) -> Tensor:
        h, _ = layer(F.embedding(x, embedding))
        return F.cross_entropy(F.linear(h, *last).flatten(0, 1), y.flatten())

    return [embedding, *layer.parameters(), *last], forward


NETWORKS = {"hinge": _hinge, "notes": _notes, "mlp": _mlp, "lstm": _lstm}
