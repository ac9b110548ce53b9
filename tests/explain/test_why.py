"""Why a gradient is zero or missing: the cause and the gate, for each way in which it happens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.explain import why

x = cr.tensor([1.0, -2.0, 3.0])
w = cr.tensor([0.0, 2.0, 0.0])

ZEROS: list[tuple[str, Any, int, str, str]] = [
    ("closed relu", lambda: cr.relu(x).sum(), 1, "closed", "relu"),
    ("times zero", lambda: (x * w).sum(), 0, "times zero", "*"),
    ("zero in a product", lambda: x @ cr.asarray([0.0, 1.0, 1.0]), 0, "times zero", "@"),
    ("not the largest", lambda: cr.max(x), 0, "routed elsewhere", "max"),
    ("maximum of two", lambda: cr.maximum(x, 2.0).sum(), 0, "routed elsewhere", "maximum"),
    ("where", lambda: cr.where(x > 0, x, w).sum(), 1, "routed elsewhere", "where"),
    ("slice", lambda: x[1:].sum(), 0, "not read", "slice"),
    ("gather", lambda: x[np.array([0, 0])].sum(), 2, "not read", "gather"),
    ("sign", lambda: cr.sign(x).sum(), 0, "flat", "sign"),
    ("floor", lambda: cr.floor(x).sum(), 0, "flat", "floor"),
    ("saturated", lambda: cr.sigmoid(x * 1000).sum(), 0, "flat", "sigmoid"),
    ("underflow", lambda: cr.exp(x * 400 - 2000).sum(), 1, "flat", "exp"),
    ("square at zero", lambda: ((x - 1.0) ** 2).sum(), 0, "times zero", "*"),
    ("cube at zero", lambda: ((x - 1.0) ** 3).sum(), 0, "flat", "**"),
]


@pytest.mark.parametrize(("name", "f", "index", "cause", "gate"), ZEROS, ids=lambda x: str(x)[:20])
def test_zeros(name: str, f: Any, index: int, cause: str, gate: str) -> None:
    result = f()
    answer = why(result, x, index, names={"x": x, "w": w})
    result.backward()
    assert x.grad is not None and x.grad.numpy()[index] == 0
    assert (answer.cause, answer.gradient) == ("zero", 0)
    assert [e.cause for e in answer.ends] == [cause]
    assert gate in answer.ends[0].gate
    assert answer.ends[0].line.startswith("test_why.py:") and "lambda" in answer.ends[0].code
    assert answer.entry == f"x[{index}]" and str(answer).count("\n") >= 2


def test_changes_that_cancel() -> None:
    answer = (x - x * 1.0).sum().why(x, 0)
    assert answer.cause == "cancels" and answer.ends[0].cause == "cancels"
    assert "[1, 0, 0] and [-1, 0, 0]" in answer.ends[0].text


def test_entries_that_cancel_in_one_sum() -> None:
    b = cr.tensor(1.0)
    signs = cr.asarray([1.0, -1.0])
    for f in ((b * signs).sum(), (b * signs) @ cr.asarray([2.0, 2.0])):
        answer = f.why(b)
        assert answer.cause == "cancels" and [e.cause for e in answer.ends] == ["cancels"]
        assert "cancel in the sum" in answer.ends[0].text


def test_several_ways_each_with_its_end() -> None:
    answer = (cr.relu(x).sum() + (x * cr.asarray([1.0, 0.0, 1.0])).sum()).why(x, 1)
    assert {e.cause for e in answer.ends} == {"closed", "times zero"}


def test_a_dead_layer_names_the_module() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.relu, nn.Linear(4, 1), seed=0)
    weight, bias = model.parameters()[:2]
    bias.assign(np.full(4, -100, np.float32))
    answer = model(np.ones((2, 3), np.float32)).sum().why(weight)
    assert answer.entry.startswith("weight[") and answer.ends[0].cause == "closed"
    assert "relu" in answer.ends[0].gate and "-10" in answer.ends[0].text


def test_no_path() -> None:
    y = cr.tensor(2.0)
    answer = (y * 2).why(x)
    assert (answer.cause, answer.gradient) == ("no path", None)
    assert str(answer).startswith("∂f/∂x = None: no path leads from x to f")


def test_a_value_that_enters_as_a_constant_is_found() -> None:
    answer = (x.detach() * w).sum().why(x)
    assert answer.cause == "no path"
    assert [e.cause for e in answer.ends] == ["stopped"]
    assert answer.ends[0].gate.startswith("q = [1, -2, 3] * ")
    raw = (cr.asarray(x.numpy(), copy=False) * w).sum().why(x)
    assert raw.ends


def test_a_constant() -> None:
    c = cr.asarray([1.0])
    answer = (c * cr.tensor(2.0)).sum().why(c)
    assert (answer.cause, answer.gradient, answer.entry) == ("constant", None, "c")
    assert answer.ends


def test_what_is_not_zero_shows_its_paths() -> None:
    answer = (x * x).sum().why(x, 2)
    assert (answer.cause, answer.gradient) == ("not zero", 6)
    assert "the sum over 2 paths" in answer.text


def test_users_gates() -> None:
    class Blocked(cr.Gate):
        def forward(self, x: Any) -> Any:
            return x

        def backward(self, upstream: Any) -> Any:
            return np.zeros_like(upstream)

    answer = Blocked()(x).sum().why(x, 0)
    assert answer.gradient == 0 and answer.cause == "zero"
    assert [e.cause for e in answer.ends] == ["custom"]


def test_a_result_that_depends_on_nothing() -> None:
    with pytest.raises(cr.errors.GradientError, match="a constant has no gates"):
        why(cr.asarray(1.0), x)
