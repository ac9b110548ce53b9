"""Passes keep values: of every gate, of random graphs, of training steps, inside loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn
from chainrule.compiler.passes import drop_dead, simplify
from chainrule.core.graph import Graph
from chainrule.core.node import Node
from chainrule.core.primitive import LINK
from chainrule.core.types import ArrayType
from chainrule.ops.control import COND
from chainrule.ops.loop import SCAN
from chainrule.ops.tracing import trace
from tests.compiler.graphs import (
    BOX,
    FINITE,
    GRID,
    ROW,
    SPECIAL,
    WHOLE,
    checked,
    link,
    names,
    total,
    traced,
    twice,
)
from tests.ops.support import ROWS, examples


def test_constants_are_folded_up_to_a_kilobyte() -> None:
    small, large = np.arange(128.0), np.arange(129.0)
    assert names(checked(traced(lambda x: x + cr.exp(small)[:8], SPECIAL), SPECIAL)) == ["add"]
    new = checked(traced(lambda x: x + cr.exp(large)[:8], SPECIAL), SPECIAL)
    assert names(new) == ["exp", "slice", "add"]
    assert new.nodes[0].inputs[0] is large


def test_copies_of_a_number_stay_copies() -> None:
    graph = traced(lambda x: x * cr.exp(cr.broadcast_to(np.float64(2), (5000,))), np.ones(5000))
    new = checked(graph, np.ones(5000))
    assert names(new) == ["broadcast", "mul"]
    assert new.nodes[0].inputs[0] == np.exp(2)


def test_a_gate_that_refuses_its_constants_does_so_when_it_runs() -> None:
    new = simplify(traced(lambda n: n + cr.pow(np.array([2]), np.array([-1])), WHOLE[:1]))
    assert names(new) == ["pow", "add"]
    with pytest.raises(ValueError, match="negative"):
        new.evaluate(WHOLE[:1])


def test_equal_gates_are_one() -> None:
    def function(x: Any, y: Any) -> Any:
        return cr.exp(x * y) + cr.exp(y * x) - x.sum(axis=0) * x.sum(axis=0), x.sum(axis=-1)

    graph = traced(function, GRID, GRID)
    new = checked(graph, GRID, GRID)
    assert names(new) == ["mul", "exp", "add", "sum", "mul", "broadcast", "sub", "sum"]


def test_random_bits_of_one_key_are_one() -> None:
    def function(key: Any) -> Any:
        return cr.random.uniform(key, (3,)) - cr.random.uniform(key, (3,)) + cr.random.uniform(
            cr.random.split(key)[0], (3,))  # fmt: skip

    key = np.array([1, 2], np.uint32)
    assert names(checked(traced(function, key), key)).count("random_bits") == 3


def test_constants_differ_by_dtype_and_sign_of_zero() -> None:
    def function(x: Any) -> Any:
        copies = [cr.broadcast_to(kind(0), (8,)) for kind in (np.int64, np.float64, np.uint64)]
        return (x + 0.0, x * 0.0, x + -0.0, x * -0.0, x + 1.0, x + 1.0, *copies)

    new = checked(traced(function, SPECIAL), SPECIAL)
    assert sorted(names(new)) == ["add"] * 3 + ["broadcast"] * 5 + ["mul"] * 2


class Printing(cr.Gate):
    """A gate of a user that does something beside."""

    def forward(self, x: Any) -> Any:
        print(x)
        return x * 2

    def backward(self, upstream: Any) -> Any:
        return upstream * 2


def test_gates_of_users_are_neither_shared_nor_folded() -> None:
    gate = Printing()
    graph = traced(lambda x: gate(x) + gate(x) + gate(np.ones(8)), SPECIAL)
    new = simplify(graph)
    assert names(new).count("Printing") == 3
    assert names(simplify(traced(lambda x: (gate(x), x)[1], SPECIAL))) == []


def test_lines_and_scopes_survive() -> None:
    layer = nn.Linear(3, 2)
    graph = traced(lambda x: layer(twice(x)).T, GRID.astype("f"))
    new = simplify(graph)
    (product,) = [n for n in new if n.name == "contract"]
    assert product.line.rpartition(":")[0] == __file__
    assert all(n.where is not None for n in new)
    assert {n.scope for n in graph} >= {n.scope for n in new}


def test_outputs_and_assignments_may_be_leaves_or_constants() -> None:
    a, b = cr.tensor([1.0, 2.0]), cr.tensor([3.0, 4.0])

    def function(x: Any) -> Any:
        first = a * 1.0
        a.assign(b)
        b.assign(first)
        return twice(x), cr.exp(np.zeros(2)) * np.array([3.0, 4.0])

    graph = trace(function, [ArrayType((2,), np.dtype("f8"))])[0]
    new = checked(graph, np.ones(2))
    assert len(new) == 0
    leaf = {id(handle): leaf for handle, leaf in new.captured}
    assert [value for _, value in new.assignments] == [leaf[id(b)], leaf[id(a)]]
    assert new.outputs[0] is new.inputs[0]
    np.testing.assert_array_equal(new.outputs[1], [3, 4])


def test_what_nobody_reads_is_dropped() -> None:
    graph = traced(lambda x: (x + 1, cr.exp(x))[0], SPECIAL)
    wide = Graph(graph.inputs, [*graph.nodes, Node(LINK, graph.outputs[:1], {}, None,
                 graph.outputs[0].type)], graph.outputs)  # fmt: skip
    assert len(drop_dead(wide)) == len(graph)
    assert drop_dead(graph) is graph


# -- every gate, random graphs, training steps -------------------------------------------------


@examples(ROWS)
def test_every_gate(case: Any, shapes: Any) -> None:
    """On the inputs of its row in the table of gates."""
    inputs = case.draw(shapes)
    checked(traced(case.function, *inputs), *inputs, signs=False, tolerance=1e-12, grows=True)


@examples(ROWS, smooth=True)
def test_gradient_of_every_gate(case: Any, shapes: Any) -> None:
    inputs = case.draw(shapes)
    wanted = tuple(case.floats)

    def function(*xs: Any) -> Any:
        return cr.grad(lambda *xs: case.function(*xs).sum(), wrt=wanted)(*xs)

    checked(traced(function, *inputs), *inputs, signs=False, tolerance=1e-12, grows=True)


UNARY: list[Callable[[Any], Any]] = [
    cr.negative, cr.abs, cr.relu, cr.floor, cr.sign, cr.tanh, cr.stop_gradient, link,
    lambda x: x * 1.0, lambda x: x - 0.0, lambda x: x + 0.0, lambda x: 2.0 * x, lambda x: x / 1.0,
    lambda x: x + np.array([1.0, -2.0]),
    lambda x: cr.where(np.array([True, False]), x, -x), lambda x: cr.where(x > 0, x, x),
    lambda x: (x > 0).astype("float64"), lambda x: x.astype("float32").astype("float64"),
    cr.matrix_transpose, lambda x: cr.flip(x, axis=0), lambda x: cr.flip(x, axis=1),
    lambda x: x.reshape(4).reshape(2, 2), lambda x: cr.pad(x, 1)[1:3, 1:3],
    lambda x: cr.pad(x, 1)[:2, 1:3], lambda x: cr.pad(x, ((0, 2), (1, 1)))[::2, :2],
    lambda x: cr.broadcast_to(x[0], (2, 2)), lambda x: cr.broadcast_to(x[:, :1], (2, 2)),
    lambda x: cr.broadcast_to(cr.max(x), (2, 2)), lambda x: cr.concat([x[1:], x[:1]]),
    lambda x: cr.broadcast_to(x.reshape(2, 1, 2), (2, 2, 2))[0], lambda x: cr.sort(x),
    lambda x: cr.windows(cr.concat([x, x], axis=1), (1, 3))[:, :, 0, 1],
    lambda x: cr.full_like(x, -0.0),
    lambda x: cr.remat(lambda x: twice(x) * 1.0)(x), lambda x: cr.zeros_like(x) - x,
    lambda x: cr.scan(lambda c, r: (c - r, c * 1.0), x[0], x)[1],
    lambda x: cr.cond(x.max() > 0, lambda x: -x, lambda x: x * 1.0, x),
]  # fmt: skip
BINARY: list[Callable[[Any, Any], Any]] = [
    cr.add, cr.subtract, cr.multiply, cr.maximum, cr.minimum, cr.divide,
    lambda x, y: cr.where(x > y, x, y), lambda x, y: cr.where(cr.logical_not(x > y), x, y),
    lambda x, y: cr.scan(lambda c, r: ((c[0] - c[1], c[1]), c[0]), (x[0], y[0]), y)[1],
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_random_graphs(data: Any) -> None:
    """To the last bit, sign and NaN, of gates on 2·2 arrays drawn at random."""
    entries = st.sampled_from([*SPECIAL, 2.0, -1.0, 0.5, 1e308])
    arrays = [np.array(data.draw(st.lists(entries, min_size=4, max_size=4))).reshape(2, 2)
              for _ in range(2)]  # fmt: skip
    steps = data.draw(st.lists(
        st.tuples(st.integers(0, len(UNARY) + len(BINARY) - 1), st.integers(0, 99),
                  st.integers(0, 99)), min_size=1, max_size=12))  # fmt: skip

    def function(*xs: Any) -> Any:
        pool = list(xs)
        for which, first, second in steps:
            x, y = pool[first % len(pool)], pool[second % len(pool)]
            unary = which < len(UNARY)
            pool.append(UNARY[which](x) if unary else BINARY[which - len(UNARY)](x, y))
        return pool[-1], pool[len(pool) // 2]

    graph = traced(function, *arrays)
    checked(graph, *arrays, grows=True)


def test_the_larger_zero_is_the_first() -> None:
    """max(0, -0) and max(-0, 0) differ in sign, so they are not one gate."""
    zeros = np.array([0.0, -0.0]), np.array([-0.0, 0.0])
    for f in (cr.maximum, cr.minimum):
        graph = traced(lambda x, y, f=f: (f(x, y), f(y, x)), *zeros)
        checked(graph, *zeros)


def classifier(model: Any, kind: Any, *shape: int, **options: Any) -> tuple[Any, tuple[Any, ...]]:
    optimizer = kind(model, lr=0.01)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = nn.softmax_cross_entropy(model(x, **options), y)
        loss.backward()
        optimizer.step()
        return loss

    r = np.random.default_rng(0)
    return step, (r.normal(size=shape).astype("f"), r.integers(0, 3, shape[0]))


def mlp(kind: Any) -> Any:
    model = nn.Sequential(nn.Linear(8, 6), nn.relu, nn.Dropout(0.5), nn.Linear(6, 3))
    return classifier(model, kind, 5, 8, training=True)


def convnet(kind: Any) -> Any:
    first = nn.Conv2d(2, 4, 3, padding="same", bias=False)
    layers: list[Any] = [first, nn.BatchNorm(4), nn.relu]
    layers += [lambda x: nn.max_pool2d(x, 2), nn.Conv2d(4, 4, 3, stride=2, groups=2), nn.relu]
    return classifier(nn.Sequential(*layers, nn.flatten, nn.Linear(4, 3)), kind, 3, 6, 6, 2,
                      training=True)  # fmt: skip


def lstm(kind: Any) -> Any:
    embedding, layer, last = nn.Embedding(7, 5), nn.LSTM(5, 4), nn.Linear(4, 7)
    model = nn.Sequential(embedding, layer, last)
    optimizer = kind(model, lr=0.01)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = nn.softmax_cross_entropy(last(layer(embedding(x))[0]), y)
        loss.backward()
        optimizer.step()
        return loss

    r = np.random.default_rng(0)
    return step, (r.integers(0, 7, (3, 6)), r.integers(0, 7, (3, 6)))


@pytest.mark.parametrize("kind", [cr.optim.SGD, cr.optim.Adam])
@pytest.mark.parametrize("make", [mlp, convnet, lstm])
def test_training_steps(make: Any, kind: Any) -> None:
    """Loss, new weights and states agree; a fifth of the gates goes."""
    step, arrays = make(kind)
    graph = traced(step, *arrays)
    new = checked(graph, *arrays, signs=False, tolerance=2e-6, grows=make is convnet)
    assert len(graph.assignments) > 3
    if make is not convnet:
        assert total(new) < 0.85 * total(graph)
    assert not {"identity", "stop_gradient", "fold"} & set(names(new))


def test_a_compiled_epoch_is_a_loop() -> None:
    """A scan over steps: weights are carried, what does not change is read from outside."""
    model = nn.Linear(8, 3)
    arrays = mlp(cr.optim.SGD)[1]

    def epoch(xs: Any, ys: Any) -> Any:
        return cr.scan(lambda total, row: (total + step_of(*row), None), np.float32(0), (xs, ys))[0]

    def step_of(x: Any, y: Any) -> Any:
        def loss(w: Any) -> Any:
            return nn.softmax_cross_entropy(x @ w, y)

        model.weight.assign(model.weight - 0.1 * cr.grad(loss)(model.weight))
        return loss(model.weight)

    xs, ys = (np.stack([a, a]) for a in arrays)
    graph = traced(epoch, xs, ys)
    new = checked(graph, xs, ys, signs=False, tolerance=2e-6)
    (loop,) = [n.params["loop"] for n in new if n.primitive is SCAN]  # type: ignore[index]
    assert (loop.carries, loop.hidden, loop.kept) == (2, 1, [])


# -- graphs inside gates -----------------------------------------------------------------------


def loop_of(graph: Graph) -> Any:
    (node,) = [n for n in graph if n.primitive is SCAN]
    return node.params["loop"]  # type: ignore[index]


def test_a_loop_lists_what_is_read() -> None:
    def function(x: Any, w: Any) -> Any:
        return cr.grad(lambda w: cr.scan(lambda c, r: (cr.tanh(c * w + r), None), x[0], x)[0].sum()
                       )(w)  # fmt: skip

    graph = traced(function, BOX[0], BOX[0, 0])
    new = checked(graph, BOX[0], BOX[0, 0], signs=False, tolerance=1e-12)
    for node in new:
        if node.primitive is SCAN:
            assert not node.params["loop"].kept  # type: ignore[index]
    assert sum(len(n.type.items) for n in graph if n.primitive is SCAN) > 2 * sum(  # type: ignore[attr-defined]
        len(n.type.items)
        for n in new
        if n.primitive is SCAN  # type: ignore[attr-defined]
    )


def test_carries_that_nobody_reads_and_that_do_not_change() -> None:
    def step(carry: Any, x: Any) -> Any:
        a, b, c, d = carry
        return (a + b * x, b, c * x, d + c), (a * 1.0, x, b, cr.exp(c))

    def function(x: Any, a: Any, b: Any) -> Any:
        (last, same, _, _), (ys, xs, copies, _) = cr.scan(step, (a, b, a, a), x)
        return last, same, ys, xs, copies

    graph = traced(function, BOX[0], ROW[0] * np.ones(4), FINITE[:4])
    new = checked(graph, BOX[0], ROW[0] * np.ones(4), FINITE[:4])
    loop = loop_of(new)
    assert loop.carries == 1
    assert names(loop.graph) == ["mul", "add"]
    assert new.outputs[1] is new.inputs[2]
    assert new.outputs[3] is new.inputs[0]
    assert new.outputs[4].name == "broadcast"


@pytest.mark.parametrize("length", [0, 1, 3])
def test_results_that_are_the_same_in_each_step(length: int) -> None:
    def function(x: Any, a: Any) -> Any:
        return cr.scan(lambda c, r: (c + r, (a * 1.0, np.arange(3.0), r)), a, x)

    checked(traced(function, BOX[0, :length], FINITE[:4]), BOX[0, :length], FINITE[:4])


def test_constants_and_repeated_operands_go_into_bodies() -> None:
    factor = np.array([2.0, 0.0, 1.0, 3.0])

    def function(x: Any, w: Any) -> Any:
        v = w * 1.0
        return cr.scan(lambda c, r: (c * (w - v) + r * cr.exp(factor), None), x[0], x)[0]

    graph = traced(function, BOX[0], FINITE[:4])
    new = checked(graph, BOX[0], FINITE[:4])
    loop = loop_of(new)
    assert loop.cuts[0] == 1
    assert "exp" not in names(loop.graph)


def test_operands_that_turn_out_equal_are_read_once() -> None:
    def function(x: Any) -> Any:
        same = x * 1.0
        inside = cr.remat(lambda a, b: cr.exp(a) - b)(x, same)
        return inside, cr.scan(lambda c, r: (c * r[0] + r[1], None), x[0], (x, same))[0]

    new = checked(traced(function, GRID), GRID)
    assert [len(n.inputs) for n in new if n.name in ("remat", "scan")] == [1, 2]


def test_a_known_branch_is_laid_open() -> None:
    def function(x: Any) -> Any:
        return cr.cond(True, lambda x: twice(x) * 2.0, lambda x: cr.log(x), x)

    assert names(checked(traced(function, SPECIAL), SPECIAL)) == ["broadcast", "mul"]


def test_branches_have_their_own_operands() -> None:
    def function(x: Any, y: Any, z: Any) -> Any:
        def true(x: Any, y: Any) -> Any:
            return x * 1.0 + y * 2.0, cr.exp(x), z

        return cr.cond(x.max() > 1, true, lambda x, y: (twice(x), x, y), x, y)[::2]

    arrays = (FINITE, FINITE + 1, FINITE - 1)
    graph = traced(function, *arrays)
    new = checked(graph, *arrays)
    (node,) = [n for n in new if n.primitive is COND]
    true, false = node.params["bodies"]  # type: ignore[index]
    assert [len(b.inputs) for b in (true, false)] == [3, 2]
    assert names(true) == ["broadcast", "mul", "add"]
    assert names(false) == []
    checked(graph, *(x - 9 for x in arrays))


def test_recomputation_stays() -> None:
    def function(x: Any) -> Any:
        def inside(x: Any) -> Any:
            h = twice(cr.exp(x))
            return cr.sin(h) * 1.0, x, h

        return cr.grad(lambda x: cr.remat(inside)(x)[0].sum())(x), cr.remat(inside)(x)[1]

    new = checked(traced(function, FINITE), FINITE, signs=False)
    assert new.outputs[1] is new.inputs[0]
    kept = traced(lambda x: cr.grad(lambda x: cr.exp(cr.remat(inside_of)(x)).sum())(x), FINITE)
    (node,) = [n for n in checked(kept, FINITE, signs=False) if n.name == "remat"]
    assert names(node.params["body"]) == ["sin", "exp"]  # type: ignore[index]


def inside_of(x: Any) -> Any:
    return cr.exp(twice(cr.sin(x)) * 1.0)


def test_loops_of_the_graph_that_came_in_can_still_be_differentiated() -> None:
    def function(x: Any) -> Any:
        return cr.scan(lambda c, r: (cr.sin(c) * r, c * 1.0), x[0], x)[0].sum()

    graph = traced(lambda x: cr.grad(function)(x), BOX[0])
    expected = graph.evaluate(BOX[0])[0]
    simplify(graph)
    again = traced(lambda x: cr.grad(function)(x), BOX[0]).evaluate(BOX[0])[0]
    np.testing.assert_array_equal(again, expected)
