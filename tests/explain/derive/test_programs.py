"""Formulas of random programs over vectors and matrices: their numbers, and the engine's."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.explain.derive import Derivation, derive
from tests.explain.derive.reading import read

SHAPES = ((3,), (2, 3), (4, 1), (1, 3), (2, 2))
STEPS: list[Callable[[Any, Any, random.Random], Any]] = [
    lambda a, b, r: a + b,
    lambda a, b, r: a - b,
    lambda a, b, r: a * b,
    lambda a, b, r: -a,
    lambda a, b, r: a**2,
    lambda a, b, r: a * 2.5 - 1,
    lambda a, b, r: a / (b * b + 1),
    lambda a, b, r: cr.tanh(a),
    lambda a, b, r: cr.exp(-a * a),
    lambda a, b, r: cr.relu(a) * b,
    lambda a, b, r: cr.maximum(a, r.choice([0, 0.3, b])),
    lambda a, b, r: cr.where(a.numpy() > 0, a, b * 0.5),
    lambda a, b, r: cr.clip(a, -0.5, 0.5),
    lambda a, b, r: cr.softmax(a, axis=-1),
    lambda a, b, r: a.sum(axis=r.choice([0, -1]), keepdims=r.random() < 0.5),
    lambda a, b, r: a.mean(),
    lambda a, b, r: a.T,
    lambda a, b, r: a @ b.T,
    lambda a, b, r: a[::-1],
    lambda a, b, r: a.reshape(-1),
    lambda a, b, r: cr.concat([a, b], axis=0),
    lambda a, b, r: a[np.array([0, -1])],
]


def program(seed: int) -> tuple[Any, Any, Any]:
    """Two variables, and one number computed from them."""
    r, values = random.Random(seed), np.random.default_rng(seed)
    shape = r.choice(SHAPES)
    x, w = (cr.tensor(values.normal(size=shape)) for _ in range(2))
    made = [x, w]
    for _ in range(r.randint(2, 7)):
        step, a, b = r.choice(STEPS), r.choice(made), r.choice(made)
        try:
            made.append(step(a, b, r))
        except (cr.errors.ChainruleError, ValueError, TypeError, IndexError):
            continue  # shapes that do not go together
    f = made[-1]
    return x, w, (f * r.choice([1.0, 0.5, -2.0])).sum() if r.random() < 0.7 else (f * f).mean()


def columns(value: Any) -> Any:
    """A value as a matrix: vectors are columns."""
    array = np.asarray(value, np.float64)
    return array.reshape(-1, 1) if array.ndim < 2 else array


def as_read(d: Derivation) -> int:
    """How many lines were read; each is its value. (The length of 𝟏 is not in the text.)"""
    count = 0
    for line in d.lines:
        text = line.matrix or "𝟏"
        if any(t in text for t in ("𝟏", "reshape(", "concat(")):
            continue
        names = {k: columns(v) for k, v in {**d.arrays, **line.constants}.items()}
        right = text.split(" = ", 1)[1]
        right = right.split(" = ", 1)[1] if right.startswith("∂") else right
        value, wanted = read(right, names), columns(line.value)
        found = np.broadcast_to(value, wanted.shape)
        np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-9, err_msg=text)
        count += 1
    return count


def check(seeds: range) -> int:
    """How many programs were derived; every one is right."""
    count = lines = 0
    for seed in seeds:
        x, w, f = program(seed)
        if f.node is None or f.node.primitive is None:
            continue
        d = derive(f, names={"x": x, "w": w})
        text = str(d)
        assert d.latex() and d.mathml()
        infinite = any("infinite" in t for t in d.legend)
        assert infinite or d.verify() < 1e-9, (seed, d.verify(), text)
        assert not any(t in text for t in ("--", "− -", "- -")), (seed, text)
        if not infinite:
            lines += as_read(d)
        f.backward()
        for line in d.of("gradient"):
            v = {"x": x, "w": w}[line.name[-1]]
            wanted = np.zeros(v.shape) if v.grad is None else v.grad.numpy()
            np.testing.assert_allclose(line.value, wanted, atol=1e-9, err_msg=str(seed))
        count += 1
    assert lines > count
    return count


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("start", range(0, 600, 100))
def test_programs(start: int) -> None:
    assert check(range(start, start + 100)) > 80


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("start", range(1_000, 21_000, 1_000))
def test_many_programs(start: int) -> None:
    assert check(range(start, start + 1_000)) > 800
