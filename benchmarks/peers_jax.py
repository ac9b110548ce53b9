"""The training steps in JAX: one jitted function, weights and optimizer state donated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.peers_cases import Case

Params = list[Any]


def make(case: Case, wait: bool) -> tuple[Any, Callable[[Any], float]]:
    """(call, value): a call does `case.steps` steps; value() of what it returns is the loss.

    With `wait` a call returns when its loss is there, as in the other libraries; without it calls
    are queued.
    """
    data = case.data()
    loss, update = LOSSES[case.network], UPDATES[case.optimizer]
    x, y = jax.device_put(data.x), jax.device_put(data.y)

    def step(state: Any, x: Any, y: Any) -> tuple[Any, Any]:
        value, gradients = jax.value_and_grad(loss)(state[0], x, y)
        return update(state, gradients, case.rate), value

    def epoch(state: Any, x: Any, y: Any) -> tuple[Any, Any]:
        state, losses = lax.scan(lambda s, _: step(s, x, y), state, length=case.steps)
        return state, losses.mean()

    run = jax.jit(step if case.steps == 1 else epoch, donate_argnums=0)
    weights = [jnp.array(w) for w in data.weights]
    zeros = [[jnp.zeros_like(w) for w in weights] for _ in range(2)]
    state = (weights, *zeros, jnp.zeros(())) if case.optimizer == "adam" else (weights,)

    def call() -> Any:
        nonlocal state
        state, value = run(state, x, y)
        return value

    return (lambda: call().block_until_ready()) if wait else call, float


def _sgd(state: Any, gradients: Params, rate: float) -> Any:
    return ([p - rate * g for p, g in zip(state[0], gradients, strict=True)],)


def _adam(state: Any, gradients: Params, rate: float) -> Any:
    weights, means, squares, t = state
    t = t + 1
    means = [0.9 * m + 0.1 * g for m, g in zip(means, gradients, strict=True)]
    squares = [0.999 * s + 0.001 * g * g for s, g in zip(squares, gradients, strict=True)]
    root = jnp.sqrt(1 - 0.999**t)
    size, eps = rate * root / (1 - 0.9**t), 1e-8 * root
    moved = zip(weights, means, squares, strict=True)
    return [p - size * m / (jnp.sqrt(s) + eps) for p, m, s in moved], means, squares, t


UPDATES = {"sgd": _sgd, "adam": _adam}


def _dense(weights: Params, x: Any) -> Any:
    for k in range(0, len(weights) - 2, 2):
        x = jax.nn.relu(x @ weights[k] + weights[k + 1])
    return x @ weights[-2] + weights[-1]


def _cross_entropy(scores: Any, labels: Any) -> Any:
    logs = jax.nn.log_softmax(scores)
    return -jnp.take_along_axis(logs, labels[..., None], axis=-1).mean()


def _hinge(weights: Params, x: Any, y: Any) -> Any:
    return jax.nn.relu(1 - y * _dense(weights, x)).mean()


def _mlp(weights: Params, x: Any, y: Any) -> Any:
    return _cross_entropy(_dense(weights, x), y)


def _notes(weights: Params, x: Any, y: Any) -> Any:
    return ((jax.nn.sigmoid(x @ weights[0]) @ weights[1] - y) ** 2).sum()


def _conv(weights: Params, x: Any, y: Any) -> Any:
    for w, b in (weights[:2], weights[2:4]):
        x = lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        n, height, width, channels = x.shape  # windows do not overlap: a reshape and a maximum
        x = jax.nn.relu(x + b).reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))
    return _cross_entropy(_dense(weights[4:], x.reshape(len(x), -1)), y)


def _lstm(weights: Params, x: Any, y: Any) -> Any:
    embedding, by_input, by_state, b1, b2, *last = weights
    projected = embedding[x.T] @ by_input + (b1 + b2)  # all steps in one product, time in front

    def step(state: Any, p: Any) -> Any:
        h, c = state
        i, f, g, o = jnp.split(p + h @ by_state, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    start = jnp.zeros((x.shape[0], by_state.shape[0]))
    _, hidden = lax.scan(step, (start, start), projected)
    return _cross_entropy(_dense(last, hidden), y.T)


LOSSES = {"hinge": _hinge, "notes": _notes, "mlp": _mlp, "conv": _conv, "lstm": _lstm}
