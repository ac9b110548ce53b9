"""Inputs for the tables of operations: how entries are drawn, and what a row of a table is."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Shapes = tuple[tuple[int, ...], ...]


class Sampler(NamedTuple):
    """Draws an array: draw(rng, shape), in float64 if `floating`, else in a dtype of its own."""

    draw: Callable[[np.random.Generator, tuple[int, ...]], Any]
    floating: bool = True


def between(low: float, high: float) -> Sampler:
    """Uniform between two numbers."""
    return Sampler(lambda rng, shape: rng.uniform(low, high, shape))


def whole(low: int, high: int, dtype: str = "int64") -> Sampler:
    """Integers from low to high - 1."""
    return Sampler(lambda rng, shape: rng.integers(low, high, shape, dtype=dtype), False)


def _distinct(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    size = int(np.prod(shape))
    return (rng.permutation(size) - size / 3 + rng.uniform(0.1, 0.4, size)).reshape(shape)


normal = Sampler(lambda rng, shape: rng.normal(size=shape))
positive = Sampler(lambda rng, shape: np.exp(0.6 * rng.normal(size=shape)) + 0.1)
nonzero = Sampler(lambda rng, shape: rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 2, shape))
distinct = Sampler(_distinct)
"""No two entries are closer than 0.7: far from the kinks of max and sort."""
off_steps = Sampler(
    lambda rng, shape: (
        rng.integers(-3, 4, shape) + rng.choice([-1.0, 1.0], shape) * rng.uniform(0.1, 0.4, shape)
    )
)
"""Away from whole and half numbers: far from the steps of floor and round."""
coarse = Sampler(lambda rng, shape: np.round(rng.normal(size=shape) * 2) / 2)
"""With ties."""
truth = Sampler(lambda rng, shape: rng.random(shape) < 0.5, False)


@dataclass(frozen=True)
class OpCase:
    """One row: a function on Tensors, what it is in NumPy, and how its inputs are drawn.

    `primitive` is the name of the gate that the row is there for ("" for compositions), `shapes`
    a tuple of the inputs' shapes for every example. `smooth` says that derivatives exist near the
    inputs drawn and are what finite differences show.
    """

    primitive: str
    label: str
    function: Callable[..., Any]
    reference: Callable[..., Any]
    samplers: Sequence[Sampler]
    shapes: tuple[Shapes, ...]
    smooth: bool = True

    @property
    def name(self) -> str:
        return f"{self.primitive or 'composed'}.{self.label}"

    def draw(self, shapes: Shapes, dtype: Any = np.float64, seed: int = 0) -> tuple[Any, ...]:
        """Input arrays of these shapes, the same ones for the same seed."""
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), seed])
        return tuple(
            np.asarray(s.draw(rng, shape)).astype(dtype)
            if s.floating
            else np.asarray(s.draw(rng, shape))
            for s, shape in zip(self.samplers, shapes, strict=True)
        )

    @property
    def floats(self) -> tuple[int, ...]:
        """The positions of the inputs that derivatives are taken by."""
        return tuple(k for k, s in enumerate(self.samplers) if s.floating)
