"""What is drawn together: boxes that hold every gate once, and views whose wires are right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn
from chainrule.explain.gates import Explanation, examine
from chainrule.explain.picture import show
from chainrule.explain.views import FLAT, MOST, Box, Views


class Block(nn.Module):
    def __init__(self, n: int) -> None:
        self.first, self.second = nn.Linear(n, n), nn.Linear(n, n)

    def forward(self, x: Any, training: bool = False) -> Any:
        return nn.relu(x + self.second(nn.relu(self.first(x))))


def network(depth: int) -> Explanation:
    model = nn.Sequential(*[Block(3) for _ in range(depth)], nn.Linear(3, 1), seed=0)
    x = cr.tensor(np.ones((2, 3), np.float32))
    loss = model(x).sum()
    return examine(loss, {"x": x, "loss": loss})


def chain(n: int) -> Explanation:
    x = y = cr.tensor(np.ones(3))
    for k in range(n):
        y = cr.sin(y) + (x if k % 5 == 0 else 0.1)
    return examine(y.sum(), {"x": x})


def leaves(box: Box) -> list[int]:
    return [k for b in box.boxes for k in b.parts if isinstance(k, int)]


@pytest.mark.parametrize("explanation", [network(2), network(30), chain(40), chain(700)])
def test_every_gate_stands_in_one_box(explanation: Explanation) -> None:
    root = Views(explanation).root
    assert sorted(leaves(root)) == list(range(len(explanation.gates)))
    keys = [b.key for b in root.boxes]
    assert len(keys) == len(set(keys)) and keys[0] == ""
    for box in root.boxes:
        inside = [p for b in [box] for p in b.parts]
        assert len(inside) <= MOST + MOST // 2
        covered = sum(p.gates if isinstance(p, Box) else 1 for p in inside)
        assert covered == box.gates and box.way[-1] is box and box.way[0] is root


def test_few_gates_have_no_boxes() -> None:
    explanation = chain(FLAT // 2 - 1)
    root = Views(explanation).root
    assert list(root.boxes) == [root]


def test_calls_of_modules_are_boxes() -> None:
    root = Views(network(5)).root
    assert [p.name for p in root.parts if isinstance(p, Box)] == [*"012345"]
    first = next(p for p in root.parts if isinstance(p, Box))
    assert [p.name for p in first.parts if isinstance(p, Box)] == ["first", "second"]
    assert first.module == ("0",)


def test_a_module_called_twice_is_two_boxes() -> None:
    layer = nn.Linear(3, 3, seed=0)
    model = nn.Sequential(layer, seed=0)
    x = y = cr.tensor(np.ones((2, 3), np.float32))
    for _ in range(15):
        y = nn.tanh(model(y))
    root = Views(examine(y.sum(), {})).root
    names = [b.name for b in root.boxes]
    assert "0" in names and "0 (2)" in names
    assert sorted(leaves(root)) == list(range(root.gates))
    assert x.size == 6


@pytest.mark.parametrize("explanation", [network(3), network(12), chain(90)])
def test_wires_carry_what_backward_gives(explanation: Explanation) -> None:
    """What flows back along the wires of a value adds up to its gradient, in every view."""
    views = Views(explanation)
    for box in views.root.boxes:
        items = views.items(box)
        arrived: dict[Any, Any] = {}
        for k, item in enumerate(items):
            for wire in item.wires:
                assert wire.source < k, "what feeds an item stands before it"
                if wire.node is not None:
                    assert items[wire.source].node is wire.node
                    arrived[wire.node] = arrived.get(wire.node, 0) + np.asarray(wire.downstream)
        for item in items:
            whole = item.node in arrived and not item.leaves and item.kind != "outside"
            if whole and not (box.key and item.kind == "variable"):
                assert np.allclose(arrived[item.node], item.gradient, rtol=1e-5, atol=1e-7)


def test_what_leaves_a_view_says_so() -> None:
    explanation = network(5)
    views = Views(explanation)
    for box in views.root.boxes:
        leaving = [i.node for i in views.items(box) if i.leaves]
        own = {g.node for g in explanation.gates[box.start : box.stop]}
        behind = explanation.gates[box.stop :]
        used = {x for g in behind for x in g.node.inputs if x in own}
        expected = used or {explanation.gates[-1].node}
        assert set(leaving) == expected


def test_parameters_hide_in_their_modules_and_inputs_do_not() -> None:
    views = Views(network(5))
    names = [i.name for i in views.items(views.root) if i.kind == "variable"]
    assert names == ["x"]
    inner = next(b for b in views.root.boxes if b.module == ("0", "first"))
    kinds = {i.name: i.kind for i in views.items(inner)}
    assert kinds["0.first.weight"] == kinds["0.first.bias"] == "variable"
    assert kinds["x"] == "variable"  # it enters from outside, and is one


def test_several_values_that_leave_a_box_have_outlets() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.Linear(3, 3)

        def forward(self, x: Any, training: bool = False) -> Any:
            y = self.layer(x)
            return y, nn.tanh(y)

    class Net(nn.Module):
        def __init__(self) -> None:
            self.two = Two()

        def forward(self, x: Any, training: bool = False) -> Any:
            for _ in range(12):
                a, b = self.two(x)
                x = a * b
            return x

    model = Net()
    x = cr.tensor(np.ones((2, 3), np.float32))
    y = model(x)
    explanation = examine(y.sum(), {"x": x})
    views = Views(explanation)
    assert sorted(leaves(views.root)) == list(range(len(explanation.gates)))
    outlets = [i for b in views.root.boxes for i in views.items(b) if i.kind == "outlet"]
    assert len(outlets) >= 24
    assert all(i.node is not None and i.wires[0].node is None for i in outlets)


@given(st.lists(st.integers(0, 5), min_size=41, max_size=120))
def test_any_order_of_scopes_is_covered(scopes: list[int]) -> None:
    """Boxes are made of the scopes alone; whatever they are, each gate stands in one."""
    x = y = cr.tensor(1.0)
    for _ in scopes:
        y = cr.tanh(y)
    explanation = examine(y, {"x": x})
    for gate, k in zip(explanation.gates, scopes, strict=True):
        gate.node.scope = ("a", "b", "c")[: k % 3] + ("d",) * (k > 3)
    root = Views(explanation).root
    assert sorted(leaves(root)) == list(range(len(scopes)))
    assert all(b.stop - b.start == len(leaves(b)) for b in root.boxes)


def test_a_constant_that_two_gates_use_is_drawn_once() -> None:
    x, y = cr.tensor(np.arange(5.0)), np.arange(5.0) + 1
    picture = show((x * y + y).sum(), names={"x": x, "y": y}, flat=True).svg
    assert picture.count(">y</text>") == 1
