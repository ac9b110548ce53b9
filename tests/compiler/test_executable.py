"""Every gate and every layer as native code, forward and backward, on every kind of machine."""

from __future__ import annotations

from typing import Any

import numpy as np
import optree
import pytest

import chainrule as cr
from chainrule.compiler.executable import every
from chainrule.compiler.kernels import Call
from chainrule.compiler.machine import Machine
from tests.compiler.comparing import KINDS, check, machine, with_little_room
from tests.nn.layer_cases import CASES as LAYERS
from tests.ops.cases import CASES


def pulled(function: Any, arrays: Any) -> Any:
    """What comes back from upstream gradients of 1.5 at every result of floats."""
    floating = [k for k, x in enumerate(arrays) if x.dtype.kind == "f"]

    def back(*inputs: Any) -> Any:
        def results(*some: Any) -> Any:
            full = list(inputs)
            for k, x in zip(floating, some, strict=True):
                full[k] = x
            leaves = optree.tree_leaves(function(*full), namespace="chainrule")
            return [y for y in leaves if y.dtype.kind == "f"]

        outputs, pull = cr.vjp(results, *(inputs[k] for k in floating))
        return pull([y * 0 + 1.5 for y in outputs])

    return back if floating else None


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gates(case, kind):
    m = machine(kind)
    widest = kind == KINDS[0]
    for shapes in case.shapes if widest else case.shapes[:2]:
        for dtype in ("f4", "f8") if widest else ("f4",):
            arrays = case.draw(shapes, np.dtype(dtype))
            check(case.function, arrays, m)
            back = pulled(case.function, arrays)
            if back is not None:
                check(back, arrays, m)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gates_as_if_large(as_if_large, case, threads):
    m = with_little_room(KINDS[0], threads)
    for shapes in case.shapes:
        arrays = case.draw(shapes, np.dtype("f4"))
        check(case.function, arrays, m)
        back = pulled(case.function, arrays)
        if back is not None:
            check(back, arrays, m)


@pytest.mark.parametrize("dtype", ["?", *"bhilBHIL"])
@pytest.mark.parametrize("kind", KINDS)
def test_integers(dtype, kind):
    """All operators on all integers, with the values at the ends of their range."""
    m = machine(kind)
    if dtype == "?":
        x = np.array([False, True] * 11)
        y = np.array([False, False, True, True] * 6)[:22]
    else:
        info = np.iinfo(dtype)
        ends = [info.min, info.min + 1, info.max, info.max - 1, 0, 1, 2, 3, 7, 5]
        x = np.array(ends + ends[::-1] + [9, 4], dtype)
        y = np.array([3, 1, 2, 0, 5, 7, 2, 1, 4, info.max] * 2 + [info.min, 6], dtype)

    def function(x: Any, y: Any) -> Any:
        results = [
            x == y,
            x < y,
            x >= y,
            cr.maximum(x, y),
            cr.minimum(x, y),
            x & y,
            x | y,
            x ^ y,
            ~x,
            cr.sum(x),
            cr.max(x),
            cr.min(x),
            cr.argmax(x),
            cr.where(x > y, x, y),
            x.astype("f4"),
            x.astype("f8"),
            x.astype("i4"),
            x.astype("u1"),
            x.astype("?"),
        ]
        if dtype != "?":
            results += [x + y, x - y, x * y, x // y, x % y, -x, abs(x), cr.sign(x), x << (y & 7),
                        x >> (y & 7), x << y, x >> y]  # fmt: skip
        return results

    with np.errstate(all="ignore"):
        check(function, (x, y), m)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.name)
def test_layers(case, kind):
    compare_layer(case, machine(kind))


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.name)
def test_layers_as_if_large(as_if_large, case, threads):
    compare_layer(case, with_little_room(KINDS[0], threads))


def compare_layer(case: Any, m: Machine) -> None:
    """The output of a layer, and the gradients by its inputs and Parameters."""
    layer = case.make(np.float64)
    inputs = [np.asarray(x) for x in case.inputs]
    parameters = layer.parameters() if isinstance(layer, cr.nn.Module) else []
    if isinstance(layer, cr.nn.Module):
        layer.initialize(0)

    def outputs(*arrays: Any) -> Any:
        return layer(*arrays, **case.options)

    check(outputs, inputs, m)

    def gradients(*arrays: Any) -> Any:
        for p in parameters:
            p.zero_grad()
        leaves = optree.tree_leaves(outputs(*arrays), namespace="chainrule")
        floats = [y for y in leaves if y.dtype.kind == "f"]
        total = sum((cr.sin(y) * 0.7).sum() for y in floats)
        if not parameters:
            return total
        total.backward()
        return total, [p.grad for p in parameters]

    if parameters:
        check(gradients, inputs, m)
    back = pulled(outputs, inputs)
    if back is not None:
        check(back, inputs, m)


def test_what_runs_in_python_is_known():
    """Gates without code of their own; this table shrinks, and a new name in it is a surprise."""
    m = machine(KINDS[0])
    found = set()
    for case in CASES:
        arrays = case.draw(case.shapes[0], np.dtype("f4"))
        with np.errstate(all="ignore"):
            executable = check(case.function, arrays, m)
        found |= {k.node.name for k in every(executable.program.kernels) if isinstance(k, Call)}
    assert found == {"argsort", "cond", "sort", "SumAndProduct"}


@pytest.mark.parametrize("threads", [2, 3, 7])
@pytest.mark.parametrize("width", [3, 10, 16, 20])
def test_fewer_vectors_than_threads(width, threads):
    """The last, ragged vector is computed once: what is added to rows would be added twice."""
    rows = np.random.default_rng(0).integers(0, 5, 400_000)

    def function(table: Any, rows: Any) -> Any:
        return cr.grad(lambda t: (cr.take(t, rows, axis=0) ** 2).sum())(table)

    table = np.random.default_rng(1).normal(size=(5, width)).astype("f4")
    made = check(function, [table, rows], machine(KINDS[0], threads), scale=50)
    assert any(
        not p.serial and p.kernel.nodes[0].name == "scatter_add" for p in made.program.pieces
    )


def test_equal_kernels_share_their_code():
    """Layers of the same shape are written, and optimised by LLVM, once."""

    def function(x: Any, *weights: Any) -> Any:
        for w in weights:
            x = cr.tanh(x @ w) + cr.sum(x, axis=1, keepdims=True)
        return x

    def code(count: int, m: Machine) -> tuple[list[str], list[str]]:
        rng = np.random.default_rng(0)
        arrays = [rng.normal(size=(40, 40)).astype("f4") / 6 for _ in range(count + 1)]
        made = check(function, arrays, m, scale=10)
        own = [k.code for k in made.program.kernels if not isinstance(k, Call)]
        kept = [n for n in made.program.module.functions if n.startswith("kernel")]
        assert {n.split("_")[0] for n in kept} == set(own)
        return own, kept

    for kind in KINDS:
        short, few = code(3, machine(kind))
        long, many = code(8, machine(kind))
        assert len(long) > len(short) and len(many) == len(few)


def test_kernels_of_other_numbers_share_nothing():
    def function(x: Any, w: Any) -> Any:
        return (x @ w) * 2.0 + 1.0, (w @ x) * 3.0 + 1.0

    x, w = np.random.default_rng(0).normal(size=(2, 30, 30)).astype("f4")
    made = check(function, [x, w], machine(KINDS[0]))
    assert len({k.code for k in made.program.kernels}) == 2


EMPTY = {
    "convolutions": (lambda: cr.nn.Sequential(cr.nn.Conv2d(1, 2, 3), cr.nn.relu, cr.nn.flatten,
                                              cr.nn.Linear(32, 3)), (0, 6, 6, 1)),
    "groups": (lambda: cr.nn.Conv1d(4, 4, 3, groups=2), (0, 5, 4)),
    "attention": (lambda: cr.nn.MultiHeadAttention(4, 2), (0, 3, 4)),
    "lstm": (lambda: cr.nn.Sequential(cr.nn.LSTM(3, 4), lambda x: x[0]), (0, 5, 3)),
    "gru": (lambda: cr.nn.Sequential(cr.nn.GRU(3, 4), lambda x: x[0]), (0, 5, 3)),
    "normalised": (lambda: cr.nn.Sequential(cr.nn.Linear(3, 4), cr.nn.LayerNorm(4)), (0, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", EMPTY)
def test_a_batch_of_nothing(name):
    make, shape = EMPTY[name]
    model, x = make(), np.zeros(shape, "f4")
    m = machine(KINDS[0])

    def gradients(x: Any) -> Any:
        for p in model.parameters():
            p.zero_grad()
        (model(x) * 0.5).sum().backward()
        return [p.grad for p in model.parameters()]

    check(lambda x: model(x), [x], m)
    check(gradients, [x], m)
    check(pulled(lambda x: model(x), [x]), [x], m)
