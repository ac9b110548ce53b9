"""Eager training steps: chainrule, hand-written NumPy, PyTorch eager, JAX jit (for orientation)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import chainrule as cr
from benchmarks.measure import THREADS, microseconds

Call = Callable[[], object]
RATE = 0.01


def small() -> dict[str, Call]:
    """The 2-16-16-1 network on 100 points: relu, hinge loss on signs, SGD, float32."""
    r = np.random.default_rng(0)
    x = r.normal(size=(100, 2)).astype("f")
    signs = r.choice([-1.0, 1.0], size=(100, 1)).astype("f")
    weights = [
        r.normal(size=s).astype("f") * 0.3 for s in [(2, 16), (16,), (16, 16), (16,), (16, 1), (1,)]
    ]
    contenders: dict[str, Call] = {"chainrule": _chainrule_small(x, signs, weights)}
    contenders["numpy by hand"] = _numpy_small(x, signs, weights)
    _add(contenders, "torch", lambda: _torch_small(x, signs, weights))
    _add(contenders, "jax jit", lambda: _jax_small(x, signs, weights))
    return contenders


def _add(contenders: dict[str, Call], name: str, make: Callable[[], Call]) -> None:
    """A peer takes part where it is installed."""
    try:
        contenders[name] = make()
    except ModuleNotFoundError:
        print(f"  ({name} is not installed and left out: pip install 'chainrule[peers]')")


def _chainrule_small(x: np.ndarray, signs: np.ndarray, weights: list[np.ndarray]) -> Call:
    nn = cr.nn
    model = nn.Sequential(nn.Linear(2, 16), nn.relu, nn.Linear(16, 16), nn.relu, nn.Linear(16, 1))
    for p, w in zip(model.parameters(), weights, strict=True):
        p.assign(w)
    optimizer = cr.optim.SGD(model, lr=RATE)
    inputs, targets = cr.asarray(x), cr.asarray(signs)

    def step() -> object:
        loss = nn.relu(1.0 - targets * model(inputs)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def _numpy_small(x: np.ndarray, signs: np.ndarray, weights: list[np.ndarray]) -> Call:
    w1, b1, w2, b2, w3, b3 = (w.copy() for w in weights)
    rate = np.float32(RATE)

    def step() -> object:
        a = x @ w1 + b1
        h = np.maximum(a, 0)
        c = h @ w2 + b2
        k = np.maximum(c, 0)
        margin = 1 - signs * (k @ w3 + b3)
        loss = np.maximum(margin, 0).mean()
        ds = -signs * (margin > 0) / np.float32(len(x))
        dk = (ds @ w3.T) * (c > 0)
        dh = (dk @ w2.T) * (a > 0)
        for w, g in (
            (w3, k.T @ ds), (b3, ds.sum(0)), (w2, h.T @ dk), (b2, dk.sum(0)),
            (w1, x.T @ dh), (b1, dh.sum(0)),
        ):  # fmt: skip
            w -= rate * g
        return loss

    return step


def _torch_small(x: np.ndarray, signs: np.ndarray, weights: list[np.ndarray]) -> Call:
    import torch

    torch.set_num_threads(THREADS)
    model = torch.nn.Sequential(
        torch.nn.Linear(2, 16), torch.nn.ReLU(), torch.nn.Linear(16, 16), torch.nn.ReLU(),
        torch.nn.Linear(16, 1),
    )  # fmt: skip
    with torch.no_grad():
        for p, w in zip(model.parameters(), weights, strict=True):
            p.copy_(torch.tensor(w.T))
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    inputs, targets = torch.tensor(x), torch.tensor(signs)

    def step() -> object:
        loss = torch.relu(1.0 - targets * model(inputs)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def _jax_small(x: np.ndarray, signs: np.ndarray, weights: list[np.ndarray]) -> Call:
    import jax
    import jax.numpy as jnp

    def loss(params: list, x: object, y: object) -> object:
        w1, b1, w2, b2, w3, b3 = params
        h = jnp.maximum(x @ w1 + b1, 0)
        k = jnp.maximum(h @ w2 + b2, 0)
        return jnp.maximum(1 - y * (k @ w3 + b3), 0).mean()

    @jax.jit
    def update(params: list, x: object, y: object) -> tuple:
        value, grads = jax.value_and_grad(loss)(params, x, y)
        return value, [p - RATE * g for p, g in zip(params, grads, strict=True)]

    state = [[jnp.asarray(w) for w in weights]]
    inputs, targets = jnp.asarray(x), jnp.asarray(signs)

    def step() -> object:
        value, state[0] = update(state[0], inputs, targets)
        return value.block_until_ready()

    return step


def notes() -> dict[str, Call]:
    """The notes' 1000-100-10 network: batch 64, sigmoid, summed squares, float64."""
    r = np.random.default_rng(0)
    x, y = r.normal(size=(64, 1000)), r.normal(size=(64, 10))
    w1, w2 = r.normal(size=(1000, 100)), r.normal(size=(100, 10))
    contenders: dict[str, Call] = {"chainrule": _chainrule_notes(x, y, w1, w2)}
    contenders["numpy by hand"] = _numpy_notes(x, y, w1.copy(), w2.copy())
    _add(contenders, "torch", lambda: _torch_notes(x, y, w1, w2))
    _add(contenders, "jax jit", lambda: _jax_notes(x, y, w1, w2))
    return contenders


def _chainrule_notes(x: np.ndarray, y: np.ndarray, a: np.ndarray, b: np.ndarray) -> Call:
    w1, w2 = cr.tensor(a), cr.tensor(b)

    def step() -> object:
        loss = ((cr.sigmoid(x @ w1) @ w2 - y) ** 2).sum()
        loss.backward()
        w1.assign(w1 - 1e-4 * w1.grad)
        w2.assign(w2 - 1e-4 * w2.grad)
        return loss

    return step


def _numpy_notes(x: np.ndarray, y: np.ndarray, w1: np.ndarray, w2: np.ndarray) -> Call:
    def step() -> object:
        h = 1 / (1 + np.exp(-x.dot(w1)))
        y_pred = h.dot(w2)
        loss = np.square(y_pred - y).sum()
        grad_y_pred = 2.0 * (y_pred - y)
        grad_w2 = h.T.dot(grad_y_pred)
        grad_h = grad_y_pred.dot(w2.T)
        grad_w1 = x.T.dot(grad_h * h * (1 - h))
        np.subtract(w1, 1e-4 * grad_w1, out=w1)
        np.subtract(w2, 1e-4 * grad_w2, out=w2)
        return loss

    return step


def _torch_notes(x: np.ndarray, y: np.ndarray, a: np.ndarray, b: np.ndarray) -> Call:
    import torch

    torch.set_num_threads(THREADS)
    inputs, targets = torch.tensor(x), torch.tensor(y)
    w1, w2 = (torch.tensor(w, requires_grad=True) for w in (a, b))

    def step() -> object:
        loss = ((torch.sigmoid(inputs @ w1) @ w2 - targets) ** 2).sum()
        loss.backward()
        with torch.no_grad():
            for w in (w1, w2):
                w -= 1e-4 * w.grad
                w.grad = None
        return loss

    return step


def _jax_notes(x: np.ndarray, y: np.ndarray, a: np.ndarray, b: np.ndarray) -> Call:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)

    def loss(params: tuple, x: object, y: object) -> object:
        return ((jax.nn.sigmoid(x @ params[0]) @ params[1] - y) ** 2).sum()

    @jax.jit
    def update(params: tuple, x: object, y: object) -> tuple:
        value, grads = jax.value_and_grad(loss)(params, x, y)
        return value, tuple(p - 1e-4 * g for p, g in zip(params, grads, strict=True))

    state = [(jnp.asarray(a), jnp.asarray(b))]
    inputs, targets = jnp.asarray(x), jnp.asarray(y)

    def step() -> object:
        value, state[0] = update(state[0], inputs, targets)
        return value.block_until_ready()

    return step


CASES = {
    "2-16-16-1, 100 points, hinge, SGD, float32": small,
    "1000-100-10, batch 64, sigmoid, squared loss, float64": notes,
}


def run() -> list[str]:
    """The table of eager steps, as Markdown lines."""
    names = ["chainrule", "numpy by hand", "torch", "jax jit"]
    lines = ["| eager step, median µs | " + " | ".join(names) + " | chainrule / numpy | / torch |"]
    lines.append("|---|" + "---:|" * (len(names) + 2))
    for title, make in CASES.items():
        found = microseconds(make())
        cells = [f"{found[n]:.0f}" if n in found else "–" for n in names]
        ratios = [
            f"{found['chainrule'] / found[n]:.2f}" if n in found else "–"
            for n in ("numpy by hand", "torch")
        ]
        lines.append("| " + " | ".join([title, *cells, *ratios]) + " |")
    return lines
