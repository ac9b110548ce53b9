"""Transposed windows rewritten: the same gradients as the fold, and no fold left."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn
from chainrule.compiler.passes import simplify
from chainrule.core.graph import Graph
from chainrule.core.types import ArrayType
from chainrule.ops.tracing import trace


def traced(function: Any, *arrays: Any) -> Graph:
    return trace(function, [ArrayType(x.shape, x.dtype) for x in arrays])[0]


def both(function: Any, *arrays: Any) -> tuple[Graph, float]:
    """The simplified graph, and how far its outputs are from those of the graph as traced."""
    graph = traced(function, *arrays)
    new = simplify(graph)
    worst = 0.0
    for y, z in zip(graph.evaluate(*arrays), new.evaluate(*arrays), strict=True):
        assert y.shape == z.shape
        scale = 1 + np.abs(y).max(initial=0)
        worst = max(worst, float(np.abs(y - z).max(initial=0) / scale))
    return new, worst


def count(graph: Graph, name: str) -> int:
    return sum(node.name == name for node in graph)


@st.composite
def convolutions(draw: Any) -> dict[str, Any]:
    """Sizes and options of a convolution along one or two axes that gives at least one output."""
    n = draw(st.integers(1, 2))
    axes: dict[str, list[Any]] = {"kernel": [], "stride": [], "dilation": [], "padding": []}
    sizes = []
    for _ in range(n):
        k, s, d = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
        pair = (draw(st.integers(0, 3)), draw(st.integers(0, 3)))
        least = max(1, d * (k - 1) + 1 - sum(pair))
        sizes.append(draw(st.integers(least, least + 8)))
        for name, value in zip(axes, (k, s, d, pair), strict=True):
            axes[name].append(value)
    groups = draw(st.sampled_from((1, 1, 2, 3)))
    return {
        "n": n, "sizes": tuple(sizes), "kernel": tuple(axes["kernel"]), "groups": groups,
        "part": draw(st.integers(1, 3)), "outputs": groups * draw(st.integers(1, 3)),
        "lead": draw(st.sampled_from(((), (2,), (1,)))),
        "options": {
            "stride": tuple(axes["stride"]), "dilation": tuple(axes["dilation"]),
            "padding": tuple(axes["padding"]), "groups": groups,
        },
    }  # fmt: skip


def arrays(case: dict[str, Any], seed: int = 0) -> tuple[Any, Any]:
    r = np.random.default_rng(seed)
    x = r.normal(size=(*case["lead"], *case["sizes"], case["part"] * case["groups"]))
    return x, r.normal(size=(*case["kernel"], case["part"], case["outputs"]))


@settings(max_examples=120, deadline=None)
@given(convolutions())
def test_gradient_by_the_input(case: dict[str, Any]) -> None:
    convolve = (nn.conv1d, nn.conv2d)[case["n"] - 1]
    x, w = arrays(case)

    def loss(x: Any, w: Any) -> Any:
        y = convolve(x, w, **case["options"])
        return (y * cr.sin(y)).sum()

    _, error = both(lambda x, w: cr.grad(loss, wrt=(0, 1))(x, w), x, w)
    assert error < 1e-12


@settings(max_examples=80, deadline=None)
@given(convolutions(), st.integers(0, 3))
def test_transposed_convolution(case: dict[str, Any], extra: int) -> None:
    function = (nn.conv_transpose1d, nn.conv_transpose2d)[case["n"] - 1]
    r = np.random.default_rng(0)
    x = r.normal(size=(*case["lead"], *case["sizes"], case["outputs"]))
    w = r.normal(size=(*case["kernel"], case["part"], case["outputs"]))
    options = dict(case["options"])
    strides, kernel, gaps = options["stride"], case["kernel"], options["dilation"]
    options["output_padding"] = tuple(min(extra, s - 1) for s in strides)
    full = [(m - 1) * s + d * (k - 1) + 1 + e for m, s, d, k, e in zip(
        case["sizes"], strides, gaps, kernel, options["output_padding"], strict=True)]  # fmt: skip
    if any(n <= sum(pair) for n, pair in zip(full, options["padding"], strict=True)):
        options["padding"] = 0
    _, error = both(lambda x, w: function(x, w, **options), x, w)
    assert error < 1e-12


def conv_gradient(x: Any, w: Any, **options: Any) -> Any:
    return cr.grad(lambda x: (nn.conv2d(x, w, **options) ** 2).sum())(x)


@pytest.mark.parametrize(
    ("options", "contractions"),
    [
        ({}, 2), ({"padding": "same"}, 2), ({"dilation": 2, "padding": 2}, 2),
        ({"stride": 2}, 5), ({"stride": (1, 2), "padding": 1}, 3),
        ({"stride": 2, "dilation": 2}, 2), ({"stride": 4}, 2), ({"stride": 3}, 2),
    ],
)  # fmt: skip
def test_one_contraction_a_residue(options: dict[str, Any], contractions: int) -> None:
    """One for y, one for each pair of residues that some k has; windows apart need one."""
    r = np.random.default_rng(0)
    x, w = r.normal(size=(2, 12, 11, 3)), r.normal(size=(3, 3, 3, 4))
    new, error = both(lambda x: conv_gradient(x, w, **options), x)
    assert error < 1e-12
    assert count(new, "fold") == 0
    assert count(new, "contract") == contractions


def test_a_large_kernel_over_few_outputs_stays() -> None:
    """One output and a kernel of 7·7: windows of the padded upstream would be zeros mostly."""
    r = np.random.default_rng(0)
    x, w = r.normal(size=(1, 7, 7, 1)), r.normal(size=(7, 7, 1, 2))
    new, error = both(lambda x: conv_gradient(x, w), x)
    assert error < 1e-12
    assert count(new, "fold") == 1


def test_a_contraction_that_others_read_stays() -> None:
    r = np.random.default_rng(0)
    u, w = r.normal(size=(1, 5, 2)), r.normal(size=(3, 2, 2))
    map = cr.core.indexmap.windows_map((1, 7, 2), (1,), (3,), (1,), (1,)).T

    def function(u: Any, w: Any) -> Any:
        p = cr.einsum("nto,kco->ntck", u, w)
        return cr.ops.dispatch.bind(cr.ops.shaping.FOLD, (p,), {"map": map}), cr.exp(p)

    new, error = both(function, u, w)
    assert error < 1e-12
    assert count(new, "fold") == 1


def test_a_fold_that_others_read_is_made_whole() -> None:
    r = np.random.default_rng(0)
    x, w = r.normal(size=(1, 5, 2)), r.normal(size=(3, 2, 2))

    def function(x: Any, w: Any) -> Any:
        y = nn.conv_transpose1d(x, w)
        return y[:, 1:-1], cr.exp(y)

    new, error = both(function, x, w)
    assert error < 1e-12
    assert (count(new, "fold"), count(new, "contract")) == (0, 1)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 9), st.booleans())
def test_pooling_with_windows_apart_moves_entries(
    k: int, more: int, extra: int, largest: bool
) -> None:
    """A stride of at least the size: the gradient is index arithmetic, to the last bit."""
    size, stride = (k, k + 1), (k + more - 1, k + more)
    pool = nn.max_pool2d if largest else nn.avg_pool2d
    x = np.random.default_rng(extra).normal(size=(2, k + extra, k + 1 + extra, 3))
    new, error = both(lambda x: cr.grad(lambda x: cr.exp(pool(x, size, stride)).sum())(x), x)
    assert error == 0
    assert count(new, "fold") == 0


def test_pooling_with_overlapping_windows_stays() -> None:
    x = np.random.default_rng(0).normal(size=(2, 7, 7, 3))
    new, error = both(lambda x: cr.grad(lambda x: nn.max_pool2d(x, 3, 2).sum())(x), x)
    assert error == 0
    assert count(new, "fold") == 1


def test_a_padded_layer_needs_no_slice_of_the_whole() -> None:
    """What padding cut off is not computed."""
    r = np.random.default_rng(0)
    x, w = r.normal(size=(2, 8, 8, 3)), r.normal(size=(3, 3, 3, 4))
    new, _ = both(lambda x: conv_gradient(x, w, padding="same"), x)
    assert max(prod(node.type.shape) for node in new if node.name == "contract") == 2 * 8 * 8 * 4


def test_vmap_of_a_gradient() -> None:
    r = np.random.default_rng(0)
    x, w = r.normal(size=(3, 6, 6, 2)), r.normal(size=(3, 3, 2, 2))
    new, error = both(lambda x: cr.vmap(lambda x: conv_gradient(x, w, stride=2))(x), x)
    assert error < 1e-12
    assert count(new, "fold") == 0
