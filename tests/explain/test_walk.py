"""Walks and rails: every gate twice, in order; the sums of fan-out; large graphs step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn
from chainrule.explain import examine, explain, rails, walk
from chainrule.explain.walk import interactive


def test_forward_then_backward() -> None:
    steps = walk(explain("(x + y) * z", x=-2, y=5, z=-4))
    assert [(s.direction, s.gate.name) for s in steps] == [
        ("forward", "q"), ("forward", "f"), ("backward", "f"), ("backward", "q"),
    ]  # fmt: skip
    assert [s.number for s in steps] == [1, 2, 3, 4] and len(steps[1:3]) == 2
    assert steps[-1].gate.name == "q"
    with pytest.raises(IndexError):
        steps[4]
    text = str(steps)
    assert "q = 3, z = -4  →  f = -12" in text
    assert "downstream = -4 × 1 = -4" in text and text.endswith("∂f/∂z = 3")


def test_the_sum_of_branches_is_shown_when_the_last_has_come() -> None:
    lines = str(walk(explain("x*x + y*x", x=-2, y=5))).splitlines()
    assert [line.strip() for line in lines if " gets -" in line] == ["x gets -2 - 2 + 5 = 1"]
    inner = explain("q*q", q=3)
    assert "q gets 3 + 3 = 6" in str(walk(inner))


def test_tensors_have_structure_formula_and_line() -> None:
    W, x = cr.tensor(np.ones((2, 3))), cr.tensor(np.ones(3))
    f = cr.relu(W @ x).sum()
    text = str(f.walk())
    assert "identity ⊗ row 1×3" in text and "∂q1_k/∂W_ij = δ_ki A_j, with A: 3" in text
    assert "test_walk.py" in text and "f = cr.relu(W @ x).sum()" in text
    assert "diagonal" in text and "routes" in text


def test_a_step_of_a_large_graph_costs_a_step() -> None:
    x = y = cr.tensor(1.0)
    for _ in range(3000):
        y = y * 1.0001
    steps = walk(y, {"x": x})
    assert len(steps) == 6000
    assert steps[0].number == 1 and "backward" in str(steps[-1])


def test_modules_are_named() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.relu, seed=0)
    text = str(walk(model(np.ones((1, 2), np.float32)).sum(), {}))
    assert "module 0" in text


def test_without_a_terminal_all_is_printed(capsys: Any) -> None:
    interactive(walk(explain("x*y", x=1, y=2)))
    assert "end: ∂f/∂x = 2, ∂f/∂y = 1" in capsys.readouterr().out


def test_rails_of_fan_out() -> None:
    drawn = rails(explain("x*x + y*x + exp(x)*y", x=3, y=2)).splitlines()
    assert [line[:7].rstrip() for line in drawn] == [
        "●", "├─╮", "│ │ ●", "├─│─┼─╮", "│ ├─│─╯", "● │ │", "├─│─╯", "├─╯",
    ]  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=25))
def test_rails_hold_every_value_until_its_last_use(pairs: list[tuple[int, int]]) -> None:
    pool: list[Any] = [cr.tensor(1.5), cr.tensor(0.5)]
    for a, b in pairs:
        pool.append(pool[a % len(pool)] * 0.5 + pool[b % len(pool)])
    explanation = examine(pool[-1], {})
    drawn = rails(explanation, flat=True).splitlines()
    assert len(drawn) == len(explanation.gates) + len(explanation.variables)
    for gate in explanation.gates:
        line = next(x for x in drawn if f" {gate.name} = " in x)
        inputs = {x.node for x in gate.inputs if x.node is not None}
        joints = sum(line.count(c) for c in "├┤┼╯┴╰╮╭┬●")
        assert joints >= len(inputs)


def test_closed_boxes_are_lines() -> None:
    model = nn.Sequential(*[nn.Sequential(nn.Linear(4, 4), nn.relu) for _ in range(15)], seed=0)
    x = cr.tensor(np.ones((2, 4), np.float32))
    loss = model(x).sum()
    text = rails(loss)
    assert "▣ 0, 4 gates" in text and len(text.splitlines()) < 20
    assert "relu" in rails(loss, inside="3")
