"""Programs as source text, written line by line.

Each line is tried as it is written: it fits if it is defined (poles are 1e-2 away), its result is
small, and, in a `smooth` program, what it is applied to is 1e-3 away from its kinks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

import chainrule as cr
from chainrule.core.indexmap import cumsum_map, gather_map, windows_map
from chainrule.errors import ChainruleError
from chainrule.ops.dispatch import bind
from chainrule.ops.indexing import SCATTER_ADD
from chainrule.ops.reducing import CUMSUM
from chainrule.ops.shaping import FOLD

SIZES = (1, 2, 2, 3, 3, 4, 6)
LARGEST = 36
"""Entries that a value may have."""


# -- what programs call ------------------------------------------------------------------------


class Power(cr.Gate):
    """x² · y in plain NumPy."""

    def forward(self, x: Any, y: Any) -> Any:
        self.x, self.y = x, y
        return x * x * y

    def backward(self, upstream: Any) -> Any:
        return [2 * upstream * self.x * self.y, upstream * self.x * self.x]


class Round(cr.Gate):
    """A straight-through estimator: steps forward, the identity backward."""

    def forward(self, x: Any) -> Any:
        return np.floor(x)

    def backward(self, upstream: Any) -> Any:
        return [upstream]


class Rotate(cr.TensorGate):
    """Two outputs, in chainrule's operations."""

    def forward(self, x: Any, y: Any) -> Any:
        return x * cr.cos(y), x * cr.sin(y)

    def backward(self, first: Any, second: Any, out: Any, x: Any, y: Any) -> Any:
        c, s = cr.cos(y), cr.sin(y)
        return [first * c + second * s, x * (second * c - first * s)]


def numbers(*shape: int) -> Any:
    """A constant array."""
    return np.round(np.random.default_rng(len(shape)).normal(size=shape), 2)


def fold(x: Any, stride: int) -> Any:
    """Windows of the last axis added where they lay."""
    shape = (*x.shape[:-2], stride * (x.shape[-2] - 1) + x.shape[-1])
    map = windows_map(shape, (x.ndim - 2,), (x.shape[-1],), (stride,), (1,)).T
    return bind(FOLD, (x,), {"map": map})


def scatter(x: Any, table: Any, size: int) -> Any:
    """Rows of x added at the places of a table."""
    map = gather_map((size, *x.shape[1:]), 0, 1, table.shape).T
    return bind(SCATTER_ADD, (x, table), {"map": map})


def backwards(x: Any, axis: int) -> Any:
    """Running sums from the end."""
    return bind(CUMSUM, (x,), {"map": cumsum_map(x.shape, axis, True)})


def rounded(x: Any) -> Any:
    """The straight-through estimator without a gate."""
    return x + cr.stop_gradient(cr.round(x) - x)


HELPERS = (Power, Round, Rotate, numbers, fold, scatter, backwards, rounded)
NAMES: dict[str, Any] = {"cr": cr, "np": np, **{f.__name__: f for f in HELPERS}}


# -- writing -----------------------------------------------------------------------------------


class UnfitError(Exception):
    """No line of this kind fits here."""


@dataclass(frozen=True)
class Program:
    """f of `inputs`: the text of its lines, each of a new value, and the values it returns."""

    inputs: dict[str, Any]
    lines: tuple[tuple[str, str], ...]
    outputs: tuple[str, ...]

    @property
    def source(self) -> str:
        body = [f"    {name} = {text}" for name, text in self.lines]
        end = f"    return ({''.join(f'{o}, ' for o in self.outputs)})"
        return "\n".join([f"def f({', '.join(self.inputs)}):", *body, end])

    @property
    def function(self) -> Callable[..., Any]:
        """f, which returns a tuple."""
        space: dict[str, Any] = {}
        exec(self.source, NAMES, space)  # our own text
        return space["f"]  # type: ignore[no-any-return]

    @property
    def arrays(self) -> list[Any]:
        return list(self.inputs.values())

    def __repr__(self) -> str:
        arrays = [
            f"{k} = np.array({x.tolist()}).reshape({x.shape})" for k, x in self.inputs.items()
        ]
        return "\n".join(["", *arrays, self.source])


class Writer:
    """Writes a program line by line, and knows the values of all lines so far."""

    def __init__(self, random: Random, smooth: bool, once: tuple[str, ...] = ()) -> None:
        self.random, self.smooth, self.once = random, smooth, once
        self.values: dict[str, Any] = {}
        self.inputs: dict[str, Any] = {}
        self.lines: list[tuple[str, str]] = []

    def one_of(self, options: Any) -> Any:
        options = list(options)
        if not options:
            raise UnfitError
        return options[self.random.randrange(len(options))]

    def flip(self) -> bool:
        return self.random.randrange(2) == 1

    def pick(self, accept: Callable[[Any], bool] = lambda x: True) -> tuple[str, Any]:
        """A value so far, late ones more often."""
        names = [n for n, x in self.values.items() if accept(x)]
        name = self.one_of([*names, *names[-2:]])
        return name, self.values[name]

    def axis(self, x: Any) -> int:
        return int(self.one_of(range(-x.ndim, x.ndim)))

    def operand(self, *shape: int) -> str:
        """The text of an array of this shape: made of a value so far, or a constant."""
        n = int(np.prod(shape))
        if n > LARGEST:
            raise UnfitError
        if self.flip():
            exact = [k for k, x in self.values.items() if x.shape == shape]
            if exact:
                return str(self.one_of(exact))
            enough = [k for k, x in self.values.items() if x.size >= n]
            if enough:
                return f"cr.reshape(cr.reshape({self.one_of(enough)}, -1)[:{n}], {shape})"
        return f"numbers({', '.join(map(str, shape))})"

    def far(self, x: Any, *places: float) -> None:
        """Of a smooth program: no entry is near one of these."""
        if self.smooth and any((np.abs(x - p) < 1e-3).any() for p in places):
            raise UnfitError

    def apart(self, x: Any, axis: Any = None) -> None:
        """Of a smooth program: no two entries along the axes are near each other."""
        if not self.smooth or not x.size:
            return
        given = range(x.ndim) if axis is None else np.atleast_1d(axis).tolist()
        axes = tuple(a % x.ndim for a in given)
        lines = np.moveaxis(x, axes, range(-len(axes), 0)).reshape(
            *(n for a, n in enumerate(x.shape) if a not in axes), -1
        )
        if (np.diff(np.sort(lines, axis=-1), axis=-1) < 1e-3).any():
            raise UnfitError

    def value(self, text: str) -> Any:
        """What a text gives, as a Tensor."""
        space = {k: cr.asarray(x) for k, x in self.values.items()}
        with np.errstate(all="ignore"):
            return eval(text, {**NAMES, **space})  # our own text

    def add(self, text: str) -> None:
        if any(name in text for name in self.once):
            raise UnfitError
        try:
            value = np.asarray(self.value(text))
        except (ChainruleError, UnfitError) as error:
            raise UnfitError from error
        if value.dtype.kind != "f" or value.size > LARGEST or not (np.abs(value) < 1e4).all():
            raise UnfitError
        name = f"v{len(self.lines)}"
        self.lines.append((name, text))
        self.values[name] = value

    def input(self) -> None:
        count = self.one_of((0, 1, 1, 2, 2, 2, 3, 3, 4))
        shape = [self.one_of(SIZES) for _ in range(count)]
        if count and self.random.randrange(16) == 5:
            shape[0] = 0
        while np.prod(shape) > 24:
            shape[int(np.argmax(shape))] = 1
        rng = np.random.default_rng(self.random.randrange(2**16))
        x = rng.normal(size=shape) if self.smooth else rng.integers(-2, 3, shape)
        name = "xyz"[len(self.values)]
        self.values[name] = self.inputs[name] = np.asarray(np.round(x, 3), float)
