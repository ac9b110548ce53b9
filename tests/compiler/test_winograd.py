"""3×3 convolutions by Winograd's algorithm: on whole numbers they are the same to the last bit."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn
from chainrule.compiler import winograd
from chainrule.compiler.contraction import Contraction, Emitted, Loop
from chainrule.compiler.executable import Executable
from chainrule.compiler.kernels import Product
from tests.compiler.comparing import KINDS, expected, machine, run, traced
from tests.compiler.nests import add_bias_into_both, check, compiled, dense


@pytest.fixture(autouse=True)
def always(monkeypatch):
    """However small a convolution is."""
    monkeypatch.setattr(winograd, "LEAST", 1)
    monkeypatch.setattr(winograd, "GAIN", 0)
    monkeypatch.setattr(winograd, "FEW", 0)


def emit(module: Any, name: str, problem: Contraction, kind: Any, *around: Any) -> Emitted:
    found = winograd.match(problem, kind)
    assert found is not None
    return winograd.emit(module, name, problem, found, kind, *around)


def convolution(batch: int, rows: int, columns: int, channels: int, outputs: int, *,
                by_weights: bool = False, swap: bool = False, gap: int = 0, order: int = 0,
                flipped: bool = False) -> Contraction:  # fmt: skip
    """y = x * w with x padded, or the gradient by w; loops in one of many orders."""
    names = "byxijck"
    sizes = dict(zip(names, (batch, rows, columns, 3, 3, channels, outputs), strict=True))
    step = channels + gap
    line = (columns + 2) * step
    picture = {"b": (rows + 2) * line, "y": line, "x": step, "i": line, "j": step, "c": 1}

    def beside(letters: str) -> dict[str, int]:
        return dict(zip(letters, dense([sizes[c] for c in letters], range(len(letters)), 1),
                        strict=True))  # fmt: skip

    pixels, kernel = beside("byxk"), beside("ijck")
    if flipped:
        kernel |= {"i": -kernel["i"], "j": -kernel["j"]}
    other, result, free = (pixels, kernel, "ijck") if by_weights else (kernel, pixels, "byxk")
    first, second = (other, picture) if swap else (picture, other)
    strides = [first, second, {"k": 1}, result, result]
    names = list(permutations(names))[order % 5040]
    loops = {c: Loop(sizes[c], tuple(s.get(c, 0) for s in strides)) for c in names}
    outer = tuple(x for c, x in loops.items() if c in free)
    inner = tuple(x for c, x in loops.items() if c not in free)
    return Contraction(outer, inner, np.dtype("f"), (np.dtype("f"),) * 3)


convolutions = st.builds(
    convolution,
    batch=st.integers(1, 5), rows=st.sampled_from([2, 4, 14]), columns=st.sampled_from([2, 6, 8]),
    channels=st.integers(2, 40), outputs=st.integers(2, 40), by_weights=st.booleans(),
    swap=st.booleans(), gap=st.sampled_from([0, 0, 3]), order=st.integers(0, 5039),
    flipped=st.booleans(),
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(problem=convolutions, threads=st.sampled_from([1, 2, 3]))
def test_random_convolutions(kind: str, problem: Contraction, threads: int) -> None:
    check(problem, machine(kind), threads, emit=emit)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(problem=convolutions, threads=st.sampled_from([1, 2]))
def test_with_little_room(as_if_large: None, kind: str, problem: Contraction, threads: int) -> None:
    """Rows of squares apart, operands packed, sums in blocks."""
    check(problem, replace(machine(kind), l2=2048), threads, emit=emit)


@pytest.mark.parametrize("by_weights", [False, True])
def test_many_squares_and_channels(by_weights):
    """Several pictures together, parts of uneven length, planes that are pages apart."""
    for sizes in [(37, 4, 4, 64, 64), (3, 30, 14, 100, 20), (2, 16, 16, 64, 16)]:
        check(convolution(*sizes, by_weights=by_weights), machine(KINDS[0]), 2, emit=emit)


@pytest.mark.parametrize("by_weights", [False, True])
@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan, 3e38, 1e20])
@pytest.mark.parametrize("operand", [0, 1])
def test_numbers_that_spoil_their_neighbours(operand, number, by_weights):
    """One such number: the results are those of the sums themselves, with any number of threads."""
    sizes = 4, 6, 8, 20, 18
    problem = convolution(*sizes, by_weights=by_weights)
    rng = np.random.default_rng(0)
    counts = [4 * 8 * 10 * 20, 9 * 20 * 18, 18, 4 * 6 * 8 * 18, 4 * 6 * 8 * 18]
    if by_weights:
        counts[1:] = [4 * 6 * 8 * 18, 18, 9 * 20 * 18, 9 * 20 * 18]
    arrays = [rng.standard_normal(n).astype("f") for n in counts]
    arrays[operand][1234] = number
    x = arrays[0].reshape(4, 8, 10, 20).astype(float)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))
    with np.errstate(all="ignore"):
        if by_weights:
            y = arrays[1].reshape(4, 6, 8, 18).astype(float)
            total = sum(
                windows[b, h, w].transpose(1, 2, 0)[..., None] * y[b, h, w]
                for b in range(4) for h in range(6) for w in range(8)
            )  # fmt: skip
        else:
            kernel = arrays[1].reshape(3, 3, 20, 18).astype(float)
            total = sum(
                windows[..., c, i, j, None] * kernel[i, j, c]
                for i in range(3) for j in range(3) for c in range(20)
            )  # fmt: skip
        total = np.asarray(total).astype("f").reshape(-1)
    for threads in (1, 2):
        _, call = compiled(problem, machine(KINDS[0]), add_bias_into_both, threads, emit)
        found = [a.copy() for a in arrays]
        found[3][:] = 0
        call(found)
        finite = np.isfinite(total)
        np.testing.assert_array_equal(np.isnan(found[3]), np.isnan(total))
        np.testing.assert_array_equal(np.isposinf(found[3]), np.isneginf(total))  # it is taken off
        scale = np.abs(total[finite]).max()
        np.testing.assert_allclose(found[3][finite], -total[finite], rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("batch", [1, 4, 9])
@pytest.mark.parametrize("by_weights", [False, True])
def test_bits_do_not_depend_on_threads(by_weights, batch):
    problem = convolution(batch, 14, 14, 20, 34, by_weights=by_weights)
    rng = np.random.default_rng(0)
    x, y, w = batch * 16 * 16 * 20, batch * 14 * 14 * 34, 9 * 20 * 34
    counts = [x, y, 34, w, w] if by_weights else [x, w, 34, y, y]
    arrays = [rng.standard_normal(n).astype("f") for n in counts]
    results = []
    for threads in (1, 2, 3, 16):
        _, call = compiled(problem, machine(KINDS[0]), add_bias_into_both, threads, emit)
        mine = [a.copy() for a in arrays]
        call(mine)
        results.append(mine[3])
    assert all((r == results[0]).all() for r in results)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_layer_and_its_gradients_are_as_exact_as_eager_ones(padding):
    """Beside float64, errors are about those of eager code: relative to the largest entry."""
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(6, 14, 18, 24)), rng.normal(size=(3, 3, 24, 40))
    bias = rng.normal(size=40)
    size = (6, 14, 18, 40) if padding == "same" else (6, 12, 16, 40)
    upstream = rng.normal(size=size)

    def layer(x: Any, weight: Any, bias: Any, upstream: Any) -> Any:
        y, pull = cr.vjp(
            lambda *a: nn.relu(nn.conv2d(*a, padding=padding)), x, weight, bias
        )  # fmt: skip
        return (y, *pull(upstream))

    exact = [x, weight, bias, upstream]
    arrays = [a.astype("f") for a in exact]
    wide = [a.astype(float) for a in arrays]
    graph = traced(layer, arrays)
    executable = Executable(graph, machine(KINDS[0], 2))
    products = [k for k in executable.program.kernels if isinstance(k, Product)]
    assert sum("Winograd" in k.summary for k in products) == 3
    found, eager = run(executable, graph, arrays), expected(graph, arrays)
    for a, b, c in zip(found, eager, expected(traced(layer, wide), wide), strict=True):
        scale = np.abs(c).max()
        mine, theirs = (float(np.abs(v - c).max() / scale) for v in (a, b))
        assert mine < 2e-6
        assert mine < 4 * theirs


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": np.float64}, {"stride": 2}, {"dilation": 2}, {"kernel": (5, 5)},
        {"kernel": (3, 1)}, {"size": (7, 8)}, {"groups": 2},
    ],
    ids=str,
)  # fmt: skip
def test_others_are_computed_directly(change):
    """Other kernels, steps and dtypes, and odd sizes: there is nothing to gain, or it is rarer."""
    dtype, kernel = change.pop("dtype", np.float32), change.pop("kernel", (3, 3))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *change.pop("size", (8, 8)), 16)).astype(dtype)
    weight = rng.normal(size=(*kernel, 16 // change.get("groups", 1), 16)).astype(dtype)
    graph = traced(lambda x, w: nn.conv2d(x, w, padding="same", **change), [x, weight])
    executable = Executable(graph, machine(KINDS[0]))
    products = [k for k in executable.program.kernels if isinstance(k, Product)]
    assert products
    assert not any("Winograd" in k.summary for k in products)
    (found,), (wanted,) = run(executable, graph, [x, weight]), expected(graph, [x, weight])
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "sizes", [(64, 14, 14, 32, 64), (61, 4, 4, 32, 32), (1, 64, 64, 16, 16), (3, 8, 8, 128, 128)]
)
def test_there_is_work_for_several_threads(sizes):
    """Those computed together fit into half of the second cache, and there are four such."""
    m = replace(machine(KINDS[0]), l2=1 << 20)
    found = winograd.match(convolution(*sizes), m)
    assert found is not None
    images, rows = winograd._together(found, m)
    batch, height, width, channels, outputs = sizes
    assert batch % images == 0
    assert (height // 2) % rows == 0
    assert images == 1 or rows == height // 2
    squares = images * rows * width // 2
    assert squares * 16 * 4 * (channels + outputs) <= 1 << 19
    assert batch * height // 2 >= 4 * images * rows


def test_as_many_squares_as_keep_products_busy():
    m = replace(machine(KINDS[0]), l2=1 << 20)
    for sizes, together in {
        (64, 14, 14, 32, 64): (1, 7), (128, 14, 14, 16, 32): (2, 7), (8, 28, 28, 16, 16): (1, 7),
        (64, 4, 4, 64, 64): (16, 2), (3, 8, 8, 128, 128): (1, 2), (1, 64, 64, 16, 16): (1, 2),
    }.items():  # fmt: skip
        found = winograd.match(convolution(*sizes), m)
        assert winograd._together(found, m) == together


def test_few_squares_at_a_time_are_not_worth_it(monkeypatch):
    """Pictures of 2×2 squares, a prime number of them: neither one nor all can be together.

    The gradient by weights adds the products of each few squares to what is there.
    """
    monkeypatch.setattr(winograd, "FEW", 20)
    m = replace(machine(KINDS[0], 2), l2=1 << 20)
    assert winograd.match(convolution(61, 4, 4, 64, 64, by_weights=True), m) is None
    assert winograd.match(convolution(64, 4, 4, 64, 64, by_weights=True), m) is not None
    assert winograd.match(convolution(61, 4, 4, 64, 64), m) is not None
