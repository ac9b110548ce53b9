"""Walks and rails: every gate twice, in order; the sums of fan-out; large graphs step by step."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import chainrule as cr
from chainrule import nn
from chainrule.explain import examine, explain, rails, terminal, walk


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
    assert "identity ⊗ row 1×3" in text and "∂q1_k/∂W_ij = δ_ki x_j" in text
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
    steps = walk(explain("x*y", x=1, y=2))
    steps.run()
    assert capsys.readouterr().out == str(steps) + "\n"
    assert "end: ∂f/∂x = 2, ∂f/∂y = 1" in str(steps)


def screens(steps: Any, keys: list[str], height: int = 30) -> list[str]:
    """What is seen after every key, and before the first."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=90, height=height, no_color=True)
    seen, waiting = [], iter(keys)

    def read() -> str:
        seen.append(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue()))
        out.truncate(0)
        out.seek(0)
        return next(waiting)

    terminal.run(steps, console, read)
    assert next(waiting, None) is None
    return seen


def positions(keys: list[str], expression: str = "(x + y) * z + x") -> list[str]:
    steps = walk(explain(expression, x=-2, y=5, z=-4))
    return [re.findall(r"^(\d+)/6 ", s, re.M)[0] for s in screens(steps, keys)]


def test_keys_move() -> None:
    assert positions(["n", " ", "\x1b[C", "p", "\x1b[D", "q"]) == list("123432")
    assert positions(["p", "\x1b[F", "n", "\x1b[H", "?", "\x1b"]) == list("116611")
    assert positions(["g", "5", "\r", "g", "9", "9", "\r", "q"]) == list("11155556")
    assert positions(["g", "x", "n", "g", "4", "\x7f", "3", "\n", "q"]) == list("111222223")
    assert positions(["g", "\r", "\x03"]) == list("111")


def test_the_screen_shows_graph_and_step() -> None:
    first, *_, last = screens(walk(explain("(x + y) * z", x=-2, y=5, z=-4)), ["\x1b[F", "q"])
    assert "▶ ├─╯ + q = x + y" in first and "1/4 forward: q = x + y" in first
    assert "downstream = -4 × 1 = -4" in last and terminal.KEYS in last
    assert (
        "go to step (1 to 4), then Enter: 3"
        in screens(walk(explain("(x + y) * z", x=-2, y=5, z=-4)), ["g", "3", "\r", "q"])[2]
    )


def test_of_a_large_graph_the_part_around_is_shown() -> None:
    x = y = cr.tensor(1.0)
    for _ in range(200):
        y = y * 1.01
    seen = screens(walk(y, {"x": x}), ["g", "1", "0", "0", "\r", "q"], height=24)[-1]
    assert seen.count("\n") <= 24 and "▶ ● ×1.01 q100 = q99 * 1.01" in seen


def test_a_terminal_is_left_as_it_was() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=90, height=30)

    def stopped() -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        terminal.run(walk(explain("x*y", x=1, y=2)), console, stopped)
    assert out.getvalue().rindex("\x1b[?1049l") > out.getvalue().rindex("\x1b[?1049h")


def test_keys_that_come_at_once_are_told_apart() -> None:
    assert terminal.KEY.findall("g12\r\x1b[F\x1bOCn\x1b[1~\x1bq") == [
        "g", "1", "2", "\r", "\x1b[F", "\x1bOC", "n", "\x1b[1~", "\x1b", "q",
    ]  # fmt: skip


def test_plain_data() -> None:
    steps = walk(explain("x*x + y*x", x=-2, y=5))
    data = steps.json()
    assert json.loads(json.dumps(data)) == data
    assert len(data["steps"]) == 6 and data["steps"][3] == steps.json(3) == steps[3].json()
    assert "upstream" not in steps.json(0) and steps.json(5)["sums"] == [["x", "-2 - 2 + 5", "1"]]
    assert steps.json(-1)["inputs"][0] == {
        "name": "x", "value": "-2", "local": "-2", "downstream": "-2"
    }  # fmt: skip
    W, v = cr.tensor(np.ones((2, 3))), cr.tensor(np.ones(3))
    local = (W @ v).sum().walk().json(-1)["inputs"][0]
    assert local["structure"] == "identity ⊗ row 1×3" and "δ" in local["formula"]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_every_sum_of_several_uses_is_shown_once(pairs: list[tuple[int, int]]) -> None:
    pool: list[Any] = [cr.tensor(1.5), cr.tensor(0.5)]
    for a, b in pairs:
        pool.append(pool[a % len(pool)] * pool[b % len(pool)])
    steps = walk(pool[-1], {})
    explanation = steps.explanation
    records = [*explanation.variables, *explanation.gates]
    several = [r.name for r in records if len(r.branches) > 1]
    assert sorted(name for s in steps for name, *_ in s.sums) == sorted(several)


def test_a_constant_and_others_are_refused() -> None:
    with pytest.raises(cr.errors.GradientError, match="no gates to explain"):
        cr.asarray(1.0).walk()
    with pytest.raises(cr.errors.DTypeError, match="received float"):
        walk(3.0)
    assert str(walk(cr.tensor(2.0), {})).startswith("start: ")


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


def test_many_branches_are_not_all_written() -> None:
    y = cr.tensor(np.array(0.3))
    z = y * 1.5
    text = str(walk(sum((cr.sin(z * float(k)) for k in range(1, 301)), start=z), {}))  # type: ignore[arg-type]
    line = next(t for t in text.splitlines() if "289 more" in t)
    assert "+ … , from" in line.replace("…,", "… ,") and len(line) < 400
