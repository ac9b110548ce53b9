"""The playground's engine: data in the plane, a network, training, and what can be seen of it.

A `Session` takes messages as plain data and answers with plain data; it knows nothing of servers.
Every message is checked: what is wrong with it is a PlayError, and nothing has changed then.
"""

from __future__ import annotations

import base64
import csv
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ... import nn, optim
from ...compiler.compile import compile
from ...core.context import no_grad
from ...errors import ChainruleError, DataError
from ...explain.diagnose import diagnose
from ...explain.explorer import explorer
from ...explain.gates import examine
from ...train.models import ACTIVATIONS

POINTS, LAYERS, UNITS, CLASSES = 5000, 6, 16, 3
CSV_BYTES = 2**20
STEPS = 500
"""Steps of one message, at most."""
GRID, SMALL = 64, 24
"""Sides of the pictures of the plane, and of those of units."""
REACH = 1.5
"""The plane goes from -REACH to REACH on both axes."""
OPTIMIZERS: dict[str, Callable[..., Any]] = {"adam": optim.Adam, "sgd": optim.SGD}
Array = np.ndarray[Any, Any]


class PlayError(DataError):
    """A message that the playground cannot follow; the text says why."""


@dataclass(frozen=True)
class Network:
    """What is built and how it is trained."""

    hidden: tuple[int, ...] = (4,)
    activation: str = "tanh"
    optimizer: str = "adam"
    rate: float = 0.03
    penalty: float = 0.0
    seed: int = 0


def _ring(r: np.random.Generator, n: int, noise: float) -> tuple[Array, Array]:
    y = np.arange(n) % 2
    radius = np.where(y == 0, 0.45, 1.05) + noise * r.normal(size=n)
    angle = r.uniform(0, 2 * math.pi, n)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1), y


def _xor(r: np.random.Generator, n: int, noise: float) -> tuple[Array, Array]:
    x = r.uniform(-1.2, 1.2, (n, 2))
    y = (x[:, 0] * x[:, 1] > 0).astype(int)
    return x + noise * r.normal(size=(n, 2)), y


def _moons(r: np.random.Generator, n: int, noise: float) -> tuple[Array, Array]:
    y = np.arange(n) % 2
    t = r.uniform(0, math.pi, n)
    x = np.where(y[:, None] == 0, np.stack([np.cos(t), np.sin(t)], 1),
                 np.stack([1 - np.cos(t), 0.5 - np.sin(t)], 1))  # fmt: skip
    return (x - (0.5, 0.25)) * 0.85 + noise * r.normal(size=(n, 2)), y


def _spirals(r: np.random.Generator, n: int, noise: float) -> tuple[Array, Array]:
    y = np.arange(n) % 2
    t = np.sqrt(r.uniform(0.02, 1, n)) * 2.2 * math.pi
    x = np.stack([t * np.cos(t + math.pi * y), t * np.sin(t + math.pi * y)], 1) / 5.6
    return x + 0.5 * noise * r.normal(size=(n, 2)), y


def _blobs(r: np.random.Generator, n: int, noise: float) -> tuple[Array, Array]:
    y = np.arange(n) % 3
    centres = np.array([(-0.8, -0.6), (0.8, -0.5), (0.0, 0.9)])
    return centres[y] + (0.15 + noise) * r.normal(size=(n, 2)), y


DATA: dict[str, Callable[[np.random.Generator, int, float], tuple[Array, Array]]] = {
    "ring": _ring, "xor": _xor, "moons": _moons, "spirals": _spirals, "blobs": _blobs,
}  # fmt: skip


class Session:
    """One playground: `message` takes what a page sends, and gives what it shows."""

    def __init__(self) -> None:
        self.network = Network()
        self.load("ring", 200, 0.08, 0)

    def message(self, given: Any) -> dict[str, Any]:
        """Follow one message: {"do": name, …}. Raises PlayError."""
        if not isinstance(given, dict) or not isinstance(given.get("do"), str):
            raise PlayError("a message is an object with a text 'do'")
        name = given["do"]
        handlers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "data": self._data, "points": self._points, "csv": self._csv,
            "network": self._network, "step": self._step, "reset": self._reset,
            "walk": self._walk, "view": lambda m: self.view(),
        }  # fmt: skip
        if name not in handlers:
            raise PlayError(f"unknown message {name!r:.40}; one of {', '.join(handlers)}")
        try:
            return handlers[name](given)
        except PlayError:
            raise
        except ChainruleError as error:
            raise PlayError(str(error)) from error

    # -- data ---------------------------------------------------------------------------------

    def load(self, kind: str, n: int, noise: float, seed: int) -> None:
        """Points of a kind in `DATA`."""
        x, y = DATA[kind](np.random.default_rng(seed), n, noise)
        self._take(x, y, tuple(str(k) for k in range(int(y.max()) + 1)), ("x", "y"))

    def _take(self, x: Any, y: Any, names: tuple[str, ...], axes: tuple[str, str]) -> None:
        self.x = np.clip(np.asarray(x, np.float32), -2 * REACH, 2 * REACH)
        self.y = np.asarray(y, np.int64)
        self.names, self.axes = names, axes
        self.build()

    def _data(self, m: dict[str, Any]) -> dict[str, Any]:
        kind = _one_of(m, "kind", DATA)
        n, noise = _whole(m, "n", 10, POINTS, 200), _number(m, "noise", 0, 1, 0.08)
        self.load(kind, n, noise, _whole(m, "seed", 0, 2**31, 0))
        return {"data": self.points(), **self.view()}

    def _points(self, m: dict[str, Any]) -> dict[str, Any]:
        """Points that were drawn: [[x, y, class], …]."""
        rows = m.get("points")
        if not isinstance(rows, list) or not 1 <= len(rows) <= POINTS:
            raise PlayError(f"points is a list of 1 to {POINTS} points")
        for row in rows:
            good = isinstance(row, list) and len(row) == 3 and all(map(_is_number, row))
            if not good or row[2] not in range(CLASSES):
                raise PlayError(f"a point is [x, y, class 0 to {CLASSES - 1}], not {row!r:.60}")
        array = np.array(rows, np.float64)
        count = max(2, int(array[:, 2].max()) + 1)
        self._take(array[:, :2], array[:, 2], tuple(map(str, range(count))), ("x", "y"))
        return {"data": self.points(), **self.view()}

    def _csv(self, m: dict[str, Any]) -> dict[str, Any]:
        """A table with two columns of numbers and one of classes."""
        text = m.get("text")
        if not isinstance(text, str) or len(text.encode(errors="replace")) > CSV_BYTES:
            raise PlayError(f"a table is text of at most {CSV_BYTES:,} bytes")
        self._take(*read_csv(text))
        return {"data": self.points(), **self.view()}

    def points(self) -> dict[str, Any]:
        """The points, for drawing."""
        return {
            "x": np.round(self.x, 4).tolist(), "y": self.y.tolist(), "names": list(self.names),
            "axes": list(self.axes), "reach": REACH,
        }  # fmt: skip

    # -- the network --------------------------------------------------------------------------

    def build(self) -> None:
        """A fresh network for the data."""
        spec = self.network
        layers: list[Any] = []
        for a, b in pairwise([2, *spec.hidden, len(self.names)]):
            layers += [nn.Linear(a, b), ACTIVATIONS.get(spec.activation, _identity)]
        self.model = nn.Sequential(*layers[:-1], seed=spec.seed)
        self.optimizer = OPTIMIZERS[spec.optimizer](self.model, lr=spec.rate)
        self.steps, self.losses = 0, list[float]()
        model, optimizer = self.model, self.optimizer

        @compile
        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = nn.softmax_cross_entropy(model(x), y)
            whole = loss + spec.penalty * nn.l2_penalty(model) if spec.penalty else loss
            whole.backward()
            optimizer.step()
            return loss

        self.step = step

    def _network(self, m: dict[str, Any]) -> dict[str, Any]:
        hidden = m.get("hidden")
        if not isinstance(hidden, list) or len(hidden) > LAYERS or not all(
            type(n) is int and 1 <= n <= UNITS for n in hidden
        ):  # fmt: skip
            raise PlayError(f"hidden is a list of at most {LAYERS} sizes of 1 to {UNITS}")
        self.network = Network(
            tuple(hidden), _one_of(m, "activation", {**ACTIVATIONS, "none": None}),
            _one_of(m, "optimizer", OPTIMIZERS), _number(m, "rate", 1e-6, 100, 0.03),
            _number(m, "penalty", 0, 10, 0.0), _whole(m, "seed", 0, 2**31, 0),
        )  # fmt: skip
        self.build()
        return self.view()

    def _reset(self, m: dict[str, Any]) -> dict[str, Any]:
        self.build()
        return self.view()

    def _step(self, m: dict[str, Any]) -> dict[str, Any]:
        for _ in range(_whole(m, "steps", 1, STEPS, 1)):
            with np.errstate(all="ignore"):
                loss = float(self.step(self.x, self.y))
            self.steps += 1
            if not math.isfinite(loss):
                raise PlayError(
                    f"the loss became {loss} in step {self.steps}: a smaller rate, then reset"
                )
            self.losses.append(loss)
        return self.view()

    # -- what can be seen ---------------------------------------------------------------------

    def view(self) -> dict[str, Any]:
        """All that the page shows of the network now."""
        side = np.linspace(-REACH, REACH, GRID, dtype=np.float32)
        plane = np.stack(np.meshgrid(side, side[::-1]), -1).reshape(-1, 2)
        with no_grad(), np.errstate(all="ignore"):
            values, activations = plane, list[Array]()
            for layer in self.model:
                values = np.asarray(layer(values))
                activations.append(values)
            here = np.asarray(self.model(self.x))
        spec = self.network
        units = activations[1:-1:2] if spec.hidden else []
        found = diagnose(self.model, nn.softmax_cross_entropy, (self.x, self.y))
        return {
            "steps": self.steps, "losses": _thinned(self.losses),
            "accuracy": float((here.argmax(1) == self.y).mean()),
            "plane": _bytes((255 * _softmax(values)).round().T.reshape(-1, GRID, GRID)),
            "units": [[_unit(a[:, k]) for k in range(a.shape[1])] for a in units],
            "weights": [
                np.round(np.nan_to_num(np.asarray(q)), 4).tolist()
                for q in self.model.parameters() if q.ndim == 2
            ],
            "gradients": [
                {"layer": x.name, "gradient": _finite(x.gradient), "dead": _finite(x.dead),
                 "saturated": _finite(x.saturated)} for x in found.layers
            ],
            "findings": [str(f).replace("\n    ", " ") for f in found.serious],
            "network": {
                "hidden": list(spec.hidden), "activation": spec.activation,
                "optimizer": spec.optimizer, "rate": spec.rate, "penalty": spec.penalty,
                "seed": spec.seed,
            },
        }  # fmt: skip

    def _walk(self, m: dict[str, Any]) -> dict[str, Any]:
        """The graph of the loss at one point, as `explorer.js` shows it."""
        k = _whole(m, "point", 0, len(self.x) - 1, 0)
        x = self.x[k : k + 1]
        loss = nn.softmax_cross_entropy(self.model(x), self.y[k : k + 1])
        return {"walk": explorer(examine(loss, {"loss": loss, "x": x})).data}


def read_csv(text: str) -> tuple[Array, Array, tuple[str, ...], tuple[str, str]]:
    """Points, classes, names and axes of a table: two columns of numbers, then the class.

    Numbers are brought into the plane: the middle of each column to 0, its reach to 1.2.
    """
    try:
        rows = [r for r in csv.reader(io.StringIO(text)) if any(c.strip() for c in r)]
    except csv.Error as error:
        raise PlayError(f"the table cannot be read: {error}") from error
    if len(rows) < 3 or any(len(r) != 3 for r in rows):
        raise PlayError("a table has a header and rows of three columns: two numbers, and a class")
    head, body = rows[0], rows[1:]
    if len(body) > POINTS:
        raise PlayError(f"the table has {len(body)} rows, at most {POINTS} are taken")
    try:
        x = np.array([[float(a), float(b)] for a, b, _ in body])
    except ValueError as error:
        raise PlayError(f"the first two columns are numbers: {error}") from error
    if not np.isfinite(x).all():
        raise PlayError("the table holds NaN or infinity")
    names = tuple(sorted({r[2].strip() for r in body}))
    if not 2 <= len(names) <= CLASSES:
        raise PlayError(f"the third column has {len(names)} classes, 2 or {CLASSES} are taken")
    low, high = x.min(0), x.max(0)
    x = (x - (low + high) / 2) / np.where(high > low, (high - low) / 2, 1) * 1.2
    y = np.array([names.index(r[2].strip()) for r in body])
    return x, y, names, (head[0][:40], head[1][:40])


def _identity(x: Any) -> Any:
    return x * 1.0


def _softmax(scores: Array) -> Array:
    shifted = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(np.nan_to_num(shifted / shifted.sum(1, keepdims=True)))


def _unit(values: Array) -> str:
    """What a unit gives over the plane, small: -1 to 1 as bytes around 128."""
    places = np.linspace(0, GRID - 1, SMALL).round().astype(int)
    small = np.nan_to_num(values.reshape(GRID, GRID)[np.ix_(places, places)])
    limit = float(np.abs(small).max()) or 1.0
    return _bytes((128 + 127 * small / limit).round())


def _bytes(values: Array) -> str:
    return base64.b64encode(np.clip(values, 0, 255).astype(np.uint8).tobytes()).decode()


def _thinned(values: list[float], most: int = 300) -> list[float]:
    """At most so many of the values, the last one among them."""
    step = max(1, -(-len(values) // most))
    return [round(v, 6) for v in values[::-step][::-1]]


def _finite(x: float) -> float | None:
    return round(x, 8) if math.isfinite(x) else None


def _is_number(x: Any) -> bool:
    if type(x) is int:
        return abs(x) <= 2**53
    return type(x) is float and math.isfinite(x)


def _number(m: dict[str, Any], name: str, low: float, high: float, default: float) -> float:
    value = m.get(name, default)
    if not _is_number(value) or not low <= value <= high:
        raise PlayError(f"{name} is a number from {low:g} to {high:g}, not {value!r:.40}")
    return float(value)


def _whole(m: dict[str, Any], name: str, low: int, high: int, default: int) -> int:
    value = m.get(name, default)
    if type(value) is not int or not low <= value <= high:
        raise PlayError(f"{name} is a whole number from {low} to {high}, not {value!r:.40}")
    return value


def _one_of(m: dict[str, Any], name: str, known: dict[str, Any]) -> str:
    value = m.get(name)
    if not isinstance(value, str) or value not in known:
        raise PlayError(f"{name} is one of {', '.join(known)}, not {value!r:.40}")
    return value
