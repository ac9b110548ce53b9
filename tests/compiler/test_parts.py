"""Long reductions with few results are made in parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.compiler.executable import Executable
from chainrule.compiler.kernels import Loops, Repeat
from tests.compiler.comparing import KINDS, check, machine, traced

RNG = np.random.default_rng(0)


def softmax(x: Any) -> Any:
    e = cr.exp(x - x.max())
    return e / e.sum()


def steps(x: Any) -> Any:
    """A long sum in every step of a loop."""
    return cr.scan(lambda c, row: (c + cr.sum(row * c, axis=0), c.sum()), x[0, 0] * 0 + 1e-3, x)


FUNCTIONS = {
    "columns": (lambda x: x.sum(0), (4096, 30)),
    "picture": (lambda x: x.sum((0, 1, 2)), (16, 40, 30, 5)),
    "all": (lambda x: x.sum(), (300, 400)),
    "largest": (lambda x: (x.max(), x.min(), x.max(0)), (1000, 100)),
    "two of one": (lambda x: ((x - x.mean(0)) ** 2).mean(0), (3000, 64)),
    "of a product": (lambda x: (x[:, :40] * x[:, 40:]).sum(0) * 2 + 1, (3000, 80)),
    "the last axis": (lambda x: x.sum(1), (60, 4000)),
    "turned": (lambda x: cr.flip(x, axis=0)[::2].T.sum(1), (5000, 33)),
    "padded": (lambda x: cr.pad(x, ((3, 5), (1, 2))).max(0), (3000, 33)),
    "of numbers": (lambda x: (x > 0.5).sum((0, 1)), (300, 400, 3)),
    "softmax": (softmax, (500, 300)),
    "in a loop": (steps, (3, 4000, 20)),
    "a prime": (lambda x: x.sum(), (65537,)),
}


def kernels(kernels_: Any) -> list[Any]:
    return [k for k in kernels_ for k in ([k, *k.body] if isinstance(k, Repeat) else [k])]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values(name: str, kind: str, threads: int) -> None:
    function, shape = FUNCTIONS[name]
    x = RNG.normal(size=shape).astype("f4")
    check(function, [x], machine(kind, threads))
    made = Executable(traced(function, [x]), machine(kind, threads))
    parts = [b.name for k in kernels(made.program.kernels) for b in k.writes()].count("parts")
    assert (parts > 0) == (name not in ("a prime",))
    for k in kernels(made.program.kernels):
        assert not isinstance(k, Loops) or k.nodes


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_no_number_is_lost(bad: float, threads: int) -> None:
    x = RNG.normal(size=(4096, 30)).astype("f4")
    x[4000, 3] = bad
    check(lambda x: (x.max(0), x.min(0), x.sum(0), x.max()), [x], machine(KINDS[0], threads))


def test_a_variable_that_is_summed_and_overwritten() -> None:
    v = cr.Parameter(RNG.normal(size=(4096, 32)).astype("f4"))
    before = np.array(v._value)

    @cr.compile
    def step() -> Any:
        total = v.sum(0)
        v.assign(v - total / 4096)
        return total

    for _ in range(3):
        expected = before.sum(0, dtype="f8")
        np.testing.assert_allclose(np.asarray(step()), expected, rtol=1e-3, atol=1e-3)
        before = before - (expected / 4096).astype("f4")
        np.testing.assert_allclose(np.asarray(v.detach()), before, atol=1e-5)


def test_short_sums_and_many_results_stay_whole() -> None:
    for function, shape in ((lambda x: x.sum(0), (100, 30)), (lambda x: x.sum(0), (4096, 512))):
        x = RNG.normal(size=shape).astype("f4")
        made = Executable(traced(function, [x]), machine(KINDS[0], 2))
        assert len(made.program.kernels) == 1


def test_each_reduction_is_counted_once() -> None:
    """The parts of a sum have the gate of that sum, and its work."""
    x = RNG.normal(size=(4096, 30)).astype("f4")

    def function(x: Any) -> Any:
        return x.sum(0) * 2 + (x * x).sum(0)

    made = check(function, [x], machine(KINDS[0], 2))
    parts = [k for k in made.program.kernels if any(b.name == "parts" for b in k.writes())]
    assert [[n.name for n in k.nodes] for k in parts] == [["sum"], ["sum"]]
    assert len({k.nodes[0] for k in parts}) == 2
    nodes = [n for k in made.program.kernels for n in k.nodes]
    assert len(nodes) == len(set(nodes))
