"""Why a gradient is zero or missing: the cause and the gate, for each way in which it happens."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn
from chainrule.explain import why
from chainrule.explain.flow import MOST

x = cr.tensor([1.0, -2.0, 3.0])
w = cr.tensor([0.0, 2.0, 0.0])

ZEROS: list[tuple[str, Any, int, str, str]] = [
    ("closed relu", lambda: cr.relu(x).sum(), 1, "closed", "relu"),
    ("times zero", lambda: (x * w).sum(), 0, "times zero", "*"),
    ("zero in a product", lambda: x @ cr.asarray([0.0, 1.0, 1.0]), 0, "times zero", "@"),
    ("not the largest", lambda: cr.max(x), 0, "routed elsewhere", "max"),
    ("maximum of two", lambda: cr.maximum(x, 2.0).sum(), 0, "closed", "maximum"),
    ("the larger of two", lambda: cr.maximum(x, w + 9).sum(), 0, "routed elsewhere", "maximum"),
    ("divided", lambda: (w / (x + 5)).sum(), 0, "times zero", "/"),
    ("where", lambda: cr.where(x > 0, x, w).sum(), 1, "other branch", "where"),
    ("clip", lambda: cr.clip(x, -1, 1).sum(), 1, "other branch", "where"),
    ("by a number", lambda: (x * 0).sum(), 1, "times zero", "*"),
    ("no entries", lambda: (x * np.ones((0, 3))).sum(), 1, "empty", "broadcast"),
    ("cosine at 0", lambda: cr.cos(x - 1.0).sum(), 0, "stationary", "cos"),
    ("product with a zero", lambda: cr.prod(x * w), 1, "times zero", "*"),
    ("slice", lambda: x[1:].sum(), 0, "not read", "slice"),
    ("gather", lambda: x[np.array([0, 0])].sum(), 2, "not read", "gather"),
    ("sign", lambda: cr.sign(x).sum(), 0, "flat", "sign"),
    ("floor", lambda: cr.floor(x).sum(), 0, "flat", "floor"),
    ("saturated", lambda: cr.sigmoid(x * 1000).sum(), 0, "saturated", "sigmoid"),
    ("underflow", lambda: cr.exp(x * 400 - 2000).sum(), 1, "saturated", "exp"),
    ("square at zero", lambda: ((x - 1.0) ** 2).sum(), 0, "stationary", "*"),
    ("cube at zero", lambda: ((x - 1.0) ** 3).sum(), 0, "stationary", "**"),
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
    assert answer.ends[0].text.endswith("is the value of x, read as a constant")
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
    answer = why(cr.asarray(1.0), x, names={"x": x})
    assert (answer.cause, answer.gradient, answer.entry) == ("no graph", None, "x")
    assert "nothing was recorded" in answer.text and answer.ends == ()


def test_part_of_a_change_dies_earlier_than_the_rest() -> None:
    b = cr.tensor(np.array(1.0))
    h = cr.relu(b * cr.asarray(np.array([1.0, -1.0, 2.0, -2.0, -3.0, -4.0])))
    answer = (h @ cr.asarray(np.array([0.0, 1.0, 0.0, 1.0, 1.0, 1.0]))).why(b)
    assert [e.cause for e in answer.ends] == ["closed", "times zero"]
    assert "q2[1], q2[3], q2[4] and 1 more are -4 to -1" in answer.ends[0].text


def test_both_operands_of_a_gate_may_end_the_way() -> None:
    a = cr.tensor(np.array([1.0, 2.0]))
    f = cr.where(cr.asarray([True, False]), a * 0.0, cr.relu(-a)).sum()
    answer = f.why(a, 0)
    assert [e.cause for e in answer.ends] == ["times zero", "closed"]
    chosen = cr.maximum(cr.maximum(a, a * 2.0), 10.0).sum().why(a, 0)
    assert [e.cause for e in chosen.ends] == ["routed elsewhere", "closed"]


def test_a_gradient_that_is_tiny() -> None:
    a = cr.tensor(np.array(12.0))
    f = cr.tanh(a) * 3.0
    answer = f.why(a)
    assert answer.cause == "tiny" and 0 < answer.gradient < 1e-8
    assert [(e.cause, e.gate) for e in answer.ends] == [("shrinks", "q = tanh(a)")]
    assert "times as large" in answer.ends[0].text and answer.advice


def test_rounding_that_is_all_there_is() -> None:
    a = cr.tensor(np.array(1.0))
    answer = (a * 0.1 + a * 0.2 - a * 0.3).why(a)
    assert answer.gradient and abs(answer.gradient) < 1e-15
    assert answer.cause == "cancels" and "up to rounding" in answer.text
    assert answer.paths is not None and answer.paths.count == 3


def test_what_underflows() -> None:
    a = cr.tensor(np.array([1.0], np.float32))
    small, large = np.float32(1e-25), np.float32(1e25)
    both = (a * small * small).sum().why(a)
    back = (a * large * small * small).sum().why(a)  # a change would arrive
    for answer in (both, back):
        assert (answer.gradient, answer.cause) == (0, "zero")
        assert [e.cause for e in answer.ends] == ["underflows"]
        assert "too small for float32" in answer.ends[0].text
    assert (a * small * small * large).sum().why(a).cause == "tiny"  # its value is 0


def test_a_gradient_that_is_no_number() -> None:
    a = cr.tensor(np.array([0.0, 4.0]))
    answer = (cr.sqrt(a) @ cr.asarray(np.array([1.0, 1.0]))).why(a)
    assert (answer.cause, answer.gradient) == ("not finite", np.inf)
    assert [e.cause for e in answer.ends] == ["not finite"]
    assert "the slope is inf at the value 0" in answer.ends[0].text
    assert "sqrt" in answer.ends[0].gate


def test_a_gate_without_any_gradient() -> None:
    with cr.no_grad():
        h = x * 2
    answer = (h * w).sum().why(h)
    assert answer.cause == "constant" and answer.entry == "h"


# -- no path: where a value came in as a constant -----------------------------------------------


def test_what_was_detached_is_named_by_its_memory() -> None:
    a, v = cr.tensor(np.array([1.0, 2.0])), cr.tensor(np.array([3.0, 4.0]))
    h = cr.tanh(a)
    for cut in (h.detach(), cr.stop_gradient(h), cr.asarray(h.numpy(), copy=False), h.numpy()):
        answer = (cut * v).sum().why(a)
        assert answer.cause == "no path" and len(answer.ends) == 1
        assert "is the value of h, computed from a, read as a constant" in answer.ends[0].text
        assert answer.ends[0].code == "answer = (cut * v).sum().why(a)"


def test_intermediates_that_nobody_names_but_a_graph_holds() -> None:
    a, v = cr.tensor(np.array([1.0, 2.0])), cr.tensor(np.array([3.0, 4.0]))

    def halves() -> Any:
        h = cr.tanh(a)
        return h * 2.0, h.detach()

    kept, cut = halves()
    answer = (cut * v).sum().why(a)
    assert "the value of tanh(…) at test_why.py" in answer.ends[0].text
    assert kept.shape == (2,)


def test_nothing_is_claimed_of_other_constants() -> None:
    a, v = cr.tensor(np.array([1.0, 2.0])), cr.tensor(np.array([3.0, 4.0]))
    table = np.array([5.0, 6.0])
    unrelated = cr.tanh(v).detach()
    f = (unrelated * v * table).sum()
    assert f.why(a).ends == ()


def test_numbers_taken_out_are_found_by_their_value() -> None:
    a, v = cr.tensor(3.5), cr.tensor(2.0)
    h = a * a
    answer = (v * float(h)).why(a)
    assert "12.25 is the value of h: was it taken out by float()" in answer.ends[0].text


def test_lines_that_name_the_variable_are_pointed_at() -> None:
    a, v = cr.tensor(np.array([1.0, -2.0, 3.0])), cr.tensor(np.array([3.0, 4.0, 5.0]))
    f = cr.where(a > 0, v, -v).sum()
    answer = f.why(a)
    assert answer.cause == "no path" and "this line names a, which may" in answer.ends[0].text
    assert answer.ends[0].code == "f = cr.where(a > 0, v, -v).sum()"
    assert "where" in answer.ends[0].gate  # the gate of that line with a constant


def test_names_are_followed_back_to_the_variable() -> None:
    a, v = cr.tensor(np.array([1.0, -2.0])), cr.tensor(np.array([3.0, 4.0]))
    values = a.numpy()
    first = np.tanh(values)  # a and v in a comment
    second = first[::-1] * 2
    other = v * 2.0
    f = (other * second).sum()
    answer = f.why(a)
    assert len(answer.ends) == 1 and answer.ends[0].gate == "q = other * second"
    assert answer.ends[0].text.startswith("this line names second, made from a (test_why.py:")
    assert answer.ends[0].text.endswith(": values = a.numpy())")
    largest = int(cr.argmax(a))
    picked = v[largest] * 2.0
    assert [e.code for e in picked.why(a).ends] == ["picked = v[largest] * 2.0"]
    unused = (v * 3.0).sum()
    assert unused.why(a).ends == ()


def test_a_variable_that_was_assigned_since() -> None:
    a = cr.tensor(np.array([1.0, -1.0]))
    f = cr.relu(a).sum()
    a.assign([1.0, 1.0])
    answer = f.why(a, 1)
    assert answer.cause == "zero" and "assigned anew since" in answer.text
    assert "is -1" in answer.ends[0].text


def test_the_wrong_way_round_and_twins() -> None:
    a = cr.tensor(2.0)
    h = a * 3.0
    g = h * h
    assert "g is computed from h, not h from g" in h.why(g).text
    again = a * 3.0
    answer = (again * again).why(h)
    assert "it is computed from again, which has the same value" in answer.text


def test_what_a_constant_was_computed_from() -> None:
    a = cr.tensor(np.array([2.0]))
    h = a * 3.0
    c = h.detach()
    answer = (c * a).sum().why(c)
    assert answer.cause == "constant" and "It is the value of h." in answer.text


def test_bad_input() -> None:
    with pytest.raises(cr.errors.DTypeError, match="received float"):
        why(x.sum(), 1.0, names={})  # type: ignore[arg-type]
    with pytest.raises(
        cr.errors.GradientError, match="nothing is called 'y' here; there are f, v1"
    ):
        why(x.sum(), "y", names={})
    with pytest.raises(cr.errors.DTypeError, match="only Tensors"):
        why(3.0, x, names={})
    with pytest.raises(cr.errors.ShapeError, match="no entry of a variable"):
        x.sum().why(x, 3)
    empty = cr.tensor(np.ones((0, 2)))
    with pytest.raises(cr.errors.ShapeError, match="no entry to explain"):
        empty.sum().why(empty)


def test_plain_data() -> None:
    answer = cr.relu(x).sum().why(x, 1)
    data = answer.json()
    assert json.loads(json.dumps(data)) == data
    assert data["ends"][0]["advice"] == data["advice"][0] and "try: " in str(answer)


ENTRIES: list[Any] = [
    lambda x, y: x * y, lambda x, y: cr.relu(x) + y, lambda x, y: cr.maximum(x, y),
    lambda x, y: x @ y, lambda x, y: cr.where(x > 0, x, y), lambda x, y: x[::-1] * 1.0,
    lambda x, y: cr.concat([x[:1], y[1:]], axis=0), lambda x, y: cr.sign(x) * y,
    lambda x, y: cr.max(x, axis=0) + y,
]  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 9), st.integers(0, 9)),
                min_size=1, max_size=8), st.integers(0, 2), st.integers(0, 2))  # fmt: skip
def test_a_gradient_is_zero_exactly_if_all_ways_end(steps: Any, i: int, j: int) -> None:
    start = cr.tensor(np.array([[1.0, -1.0, 0.0], [2.0, 0.0, -3.0], [0.0, 4.0, -2.0]]))
    pool: list[Any] = [start, start * 2.0]
    for which, a, b in steps:
        pool.append(ENTRIES[which](pool[a % len(pool)], pool[b % len(pool)]))
    f = pool[-1].sum()
    answer = why(f, start, (i, j), names={"x": start})
    f.backward()
    gradient = 0.0 if start.grad is None else float(start.grad.numpy()[i, j])
    assert (answer.gradient or 0.0) == gradient
    if answer.gradient is not None:
        assert (answer.cause in ("zero", "cancels")) == (gradient == 0)
        assert bool(answer.ends) == (gradient == 0)


def test_gates_too_large_to_follow_forward_are_followed_back() -> None:
    class Half(cr.Gate):
        def __init__(self, factor: float) -> None:
            self.factor = factor

        def forward(self, x: Any) -> Any:
            return x * 0.5

        def backward(self, upstream: Any) -> Any:
            return upstream * self.factor

    a = cr.tensor(-np.ones(MOST + 1))
    closed = cr.relu(Half(0.5)(a)).sum().why(a, 3)
    assert [(e.cause, e.gate.startswith("q2 = relu")) for e in closed.ends] == [("closed", True)]
    assert [e.cause for e in Half(0.0)(a).sum().why(a, 3).ends] == ["custom"]


@pytest.mark.parametrize("shapes", [((), (3,)), ((2, 1), (1, 3)), ((1,), (2, 1, 2))])
def test_values_that_were_broadcast(shapes: Any) -> None:
    a, b = (cr.tensor(np.full(s, v)) for s, v in zip(shapes, (-1.0, 2.0), strict=True))
    chosen = cr.where(cr.asarray(False), a, b).sum()
    for f, cause in ((cr.maximum(a, b).sum(), "routed elsewhere"), (chosen, "other branch")):
        answer = f.why(a)
        assert [e.cause for e in answer.ends] == [cause]
        assert "-1" in answer.ends[0].text


def test_values_that_are_not_finite_come_first() -> None:
    z = cr.tensor(np.array([100.0, -800.0, 0.0]))
    with np.errstate(all="ignore"):
        answer = (-cr.log(cr.softmax(z))[1]).why(z, 0)
        data = cr.tensor([1.0, np.nan, 3.0])
        came = (data * data).sum().why(data)
        large, below = cr.tensor(1000.0), cr.tensor(-1.0)
        over, negative = cr.exp(large * 1.0).why(large), cr.log(below).why(below)
    assert answer.cause == "not finite" and answer.ends[0].cause == "overflows"
    assert "is -inf, from 0" in answer.ends[0].text and "log_softmax" in answer.advice[0]
    assert came.ends[0].cause == "data" and "came in like that" in came.text
    assert over.ends[0].cause == "overflows" and "is inf, from 1000" in over.ends[0].text
    assert negative.cause == "not finite" and "is nan, from -1" in negative.ends[0].text


def test_a_gradient_that_many_gates_make_small() -> None:
    z = cr.tensor(np.array(0.5))
    y = z
    for _ in range(30):
        y = cr.sigmoid(y * 0.5)
    answer = y.why(z)
    assert answer.cause == "tiny" and [e.cause for e in answer.ends] == ["shrinks", "shrinks"]
    assert any("30 gates sigmoid on the way" in e.text for e in answer.ends)


def test_what_is_no_number_is_summed_and_said_so() -> None:
    v = cr.tensor(np.array([1.0, 2.0, 3.0]))
    q = v * v
    assert str(q.paths(v)).startswith("∂sum(q)/∂v[2] = 6")
    assert q.why(v).result == "sum(q)"


class Two(cr.Gate):
    """A gate with two outputs, the second of which may be NaN."""

    def forward(self, x: Any) -> Any:
        with np.errstate(all="ignore"):
            return x * 1.0, np.log(x)

    def backward(self, first: Any, second: Any) -> Any:
        return first


def test_a_nan_in_the_second_output() -> None:
    v = cr.tensor(np.array([1.0, -1.0]))
    one, two = Two()(v)
    answer = (one.sum() + two.sum()).why(v)
    assert answer.cause == "not finite" and "is nan" in answer.ends[0].text


def test_changes_that_cancel_up_to_rounding() -> None:
    s = cr.tensor(np.array([1.0, 2.0, 3.0], np.float32))
    answer = cr.softmax(s).sum().why(s, 0)
    assert answer.cause in ("cancels", "tiny") and "it ends here" not in str(answer)
