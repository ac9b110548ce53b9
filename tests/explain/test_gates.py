"""Gates with their numbers: the course's examples, and every shape of tensor."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.explain import examine, explain, gates, table, text
from chainrule.explain.forms import WORDS, word

SIGMOID = {"w0": 2, "x0": -1, "w1": -3, "x1": -2, "w2": -3}


def test_course_g1_three_numbers() -> None:
    e = explain("(x + y) * z", x=-2, y=5, z=-4)
    assert {v.name: (float(v.value), float(v.gradient)) for v in e.variables} == {
        "x": (-2, -4), "y": (5, -4), "z": (-4, 3),
    }  # fmt: skip
    q, f = e.gates
    assert (q.name, q.expression, float(q.value), float(q.upstream)) == ("q", "x + y", 3, -4)
    assert (f.name, f.expression, float(f.value), float(f.upstream)) == ("f", "q * z", -12, 1)
    assert [(x.name, x.local, float(x.downstream)) for x in f.inputs] == [
        ("q", -4, -4),
        ("z", 3, 3),
    ]
    assert [(x.name, x.local, float(x.downstream)) for x in q.inputs] == [
        ("x", 1, -4),
        ("y", 1, -4),
    ]


@pytest.mark.parametrize(
    "expression",
    ["1/(1+exp(-(w0*x0+w1*x1+w2)))", "1/(1+exp(-1*(w0*x0+w1*x1+w2)))", "sigmoid(w0*x0+w1*x1+w2)"],
)
def test_course_g2_fine_and_coarse_gates_agree(expression: str) -> None:
    e = explain(expression, **SIGMOID)
    assert f"{float(e.value):.2f}" == "0.73"
    assert {v.name: f"{float(v.gradient):.2f}" for v in e.variables} == {
        "w0": "-0.20", "x0": "0.39", "w1": "-0.39", "x1": "-0.59", "w2": "0.20",
    }  # fmt: skip


def test_course_g2_every_number_of_the_drawn_circuit() -> None:
    e = explain("1/(1+exp(-(w0*x0+w1*x1+w2)))", **SIGMOID)
    drawn = [(f"{float(g.value):.2f}", f"{float(g.upstream):.2f}") for g in e.gates]
    assert drawn == [
        ("-2.00", "0.20"), ("6.00", "0.20"), ("4.00", "0.20"), ("1.00", "0.20"), ("-1.00", "-0.20"),
        ("0.37", "-0.53"), ("1.37", "-0.53"), ("0.73", "1.00"),
    ]  # fmt: skip
    coarse = explain("sigmoid(w0*x0+w1*x1+w2)", **SIGMOID).gates[-1]
    assert coarse.inputs[0].local == pytest.approx(float(e.value) * (1 - float(e.value)))


class Times(cr.Gate):
    def forward(self, x: Any, y: Any) -> Any:
        self.x, self.y = x, y
        return x * y

    def backward(self, upstream: Any) -> Any:
        return [upstream * self.y, upstream * self.x]


class Both(cr.Gate):
    """A gate with two outputs."""

    def forward(self, x: Any) -> Any:
        return 2 * x, 3 * x

    def backward(self, first: Any, second: Any) -> Any:
        return [2 * first + 3 * second]


def matrix(*shape: int) -> Any:
    return cr.tensor(np.linspace(0.1, 0.9, int(np.prod(shape))).reshape(shape))


MASK = np.array([True, False, True])
WORD_TABLE = {
    "x + y": (lambda x, y: x + y, "distributes"),
    "x + 1": (lambda x, y: x + 1, "distributes"),
    "x - y": (lambda x, y: x - y, "distributes"),
    "-x": (lambda x, y: -x, "negates"),
    "x·y": (lambda x, y: x * y, "switches"),
    "x·x": (lambda x, y: x * x, "switches"),
    "2·x": (lambda x, y: 2 * x, "switches"),
    "maximum": (cr.maximum, "routes"),
    "minimum": (cr.minimum, "routes"),
    "max of ties": (lambda x, y: cr.maximum(x, x), "routes"),
    "relu": (lambda x, y: cr.relu(x), "routes"),
    "where": (lambda x, y: cr.where(MASK, x, y), "routes"),
    "x / y": (lambda x, y: x / y, "scales"),
    "x ** y": (lambda x, y: x**y, "scales"),
    "atan2": (cr.atan2, "scales"),
    "remainder": (cr.remainder, "scales"),
    "exp": (lambda x, y: cr.exp(x), "scales"),
    "abs": (lambda x, y: cr.abs(x), "scales"),
    "sign": (lambda x, y: cr.sign(x), "stops"),
    "sum": (lambda x, y: cr.sum(x), "copies"),
    "broadcast": (lambda x, y: cr.broadcast_to(x, (2, 3)), "adds"),
    "reshape": (lambda x, y: cr.reshape(x, (3, 1)), "moves"),
    "flip": (lambda x, y: cr.flip(x), "moves"),
    "slice": (lambda x, y: x[1:], "routes"),
    "pad": (lambda x, y: cr.pad(x, (1, 0)), "routes"),
    "take": (lambda x, y: cr.take(x, np.array([0, 2, 2, 1])), "routes"),
    "windows": (lambda x, y: cr.windows(x, 2), "adds"),
    "cumsum": (lambda x, y: cr.cumulative_sum(x), "adds"),
    "concat": (lambda x, y: cr.concat([x, y]), "routes"),
    "sort": (lambda x, y: cr.sort(x), "routes"),
    "max": (lambda x, y: cr.max(x), "routes"),
    "dot": (lambda x, y: cr.vecdot(x, y), "switches"),
    "cast": (lambda x, y: x.astype(np.float32), "passes"),
    "custom": (lambda x, y: Times()(x, y), "custom"),
}


@pytest.mark.parametrize("name", WORD_TABLE)
@pytest.mark.parametrize("values", [([0.2, 0.5, 0.3], [0.6, 0.1, 0.4]), ([0, 0, 1], [1, 1, 1])])
def test_course_g3_what_a_gate_does_is_read_from_its_jacobian(name: str, values: Any) -> None:
    function, expected = WORD_TABLE[name]
    x, y = (cr.tensor(np.array(v, float)) for v in values)
    with np.errstate(all="ignore"):
        result = function(x, y)
    assert word(result.node) == expected
    assert expected in WORDS


def test_every_word_is_tested() -> None:
    assert {w for _, w in WORD_TABLE.values()} == set(WORDS) - {"transforms"}


def test_matmul_switches_and_names_the_other_operand() -> None:
    x, w = matrix(5, 3), matrix(3, 4)
    (gate,) = gates(x @ w)
    assert (gate.word, gate.expression) == ("switches", "x @ w")
    assert [i.local.split()[0] for i in gate.inputs] == ["w", "x"]


def test_course_g4_branches_add_up() -> None:
    e = explain("x*x + x", x=3)
    (x,) = e.variables
    assert float(x.gradient) == 7
    assert sorted((name, float(g)) for name, g in x.branches) == [("f", 1), ("q", 3), ("q", 3)]
    assert "3 + 3 + 1 = 7" in e.text()
    inner = explain("exp(x) * exp(x)", x=0).text()
    assert "adds 2 branches" in inner
    x = cr.tensor(2.0)
    q = x + 1
    shared = q * q + q
    (record,) = [g for g in gates(shared) if g.name == "q"]
    assert float(record.upstream) == 7 and len(record.branches) == 3


def random_graph() -> Any:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 3))
    w1, b1 = cr.tensor(rng.normal(size=(3, 4))), cr.tensor(rng.normal(size=4))
    w2 = cr.tensor(rng.normal(size=(4, 2)))
    h = cr.relu(x @ w1 + b1)
    s = cr.log_softmax(h @ w2)
    loss = -cr.mean(s[:, 0]) + cr.sum(cr.max(w1, axis=0)) + Times()(w2, w2).sum()
    return loss, {"x": x, "w1": w1, "b1": b1, "w2": w2, "h": h, "s": s}


def test_numbers_are_those_of_backward_and_branches_add_up() -> None:
    loss, named = random_graph()
    e = examine(loss, named)
    assert all(named[n].grad is None for n in ("w1", "b1", "w2", "h", "s"))  # nothing is disturbed
    loss.backward()
    found = {v.name: v.gradient for v in e.variables} | {g.name: g.upstream for g in e.gates}
    for name in ("w1", "b1", "w2", "h", "s"):
        np.testing.assert_allclose(found[name], named[name].grad, rtol=1e-14)
    for record in (*e.variables, *e.gates[:-1]):
        total = sum(g for _, g in record.branches)
        np.testing.assert_allclose(total, found[record.name], rtol=1e-12)
    assert e.gates[0].expression == "x @ w1"  # the constant array has its name too


def test_the_users_gradients_stay_as_they_are() -> None:
    x = cr.tensor(3.0)
    f = x * x
    f.backward()
    before = x.grad
    text(f)
    f.show()
    assert x.grad is before and f.grad is not None


def test_names() -> None:
    a = cr.tensor(1.0)
    p = cr.Parameter(2.0, name="layer.weight")
    between = a * p
    assert [g.name for g in gates(between + 1)] == ["between", "f"]
    assert [x.name for x in gates(between)[0].inputs] == ["a", "p"]  # the local names come first

    def made() -> Any:
        return cr.tensor(1.0) * cr.tensor(2.0) * p

    assert [v.name for v in examine(made(), {}).variables] == ["layer.weight", "v1", "v2"]
    f = cr.tensor(1.0)
    e = examine(cr.exp(f) + f, {"f": f})
    assert [g.name for g in e.gates] == ["q", "out"]
    q1, q2 = cr.tensor(1.0), cr.tensor(2.0)
    e = examine(cr.exp(q1 * q2 * 2), {"q1": q1, "q2": q2})
    assert [g.name for g in e.gates] == ["q3", "q4", "f"]
    with pytest.raises(cr.errors.DTypeError, match="names maps names to Tensors"):
        gates(f * f, names={"f": 3.0})  # type: ignore[dict-item]


def test_two_parameters_of_one_name() -> None:
    first, second = cr.Parameter(1.0, name="w"), cr.Parameter(2.0, name="w")
    pair = [first, second]
    del first, second
    assert [v.name for v in examine(pair[0] * pair[1]).variables] == ["w", "w#2"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: cr.exp(cr.tensor(np.zeros((0, 3)))) * 2,
        lambda: cr.sum(cr.tensor(np.zeros((0, 3))), axis=0),
        lambda: cr.tensor(2.0) * cr.tensor(np.zeros((0,))),
        lambda: cr.tensor(np.ones((2, 3, 4, 1))) + cr.tensor(np.ones((4, 5))),
        lambda: cr.sum(cr.tensor(np.full(100_000, 1e200))) * 2,
        lambda: cr.tensor(np.array([np.nan, np.inf, -np.inf, 0.0])) * 2,
        lambda: cr.log(cr.tensor([0.0, 1.0])) * 0,
        lambda: cr.tensor(1.0),
        lambda: cr.reshape(cr.tensor([1.0]), ()),
        lambda: cr.where(MASK, cr.tensor(1.0), cr.tensor([1.0, 2.0, 3.0])),
        lambda: cr.sort(cr.tensor(np.zeros((2, 0)))),
        lambda: cr.add(*Both()(cr.tensor([1.0, 2.0]))),
        lambda: Both()(cr.tensor(1.0))[1] * 2,
        lambda: cr.softplus(cr.tensor(3.0)) + cr.hypot(cr.tensor(3.0), 4.0),
        lambda: cr.sign(cr.tensor(3.0)) * cr.tensor(2.0),
        lambda: cr.tensor(np.float32(1)).astype(np.float64) * 2,
        lambda: cr.std(cr.tensor([1.0, 2.0, 3.0])),
    ],
)
def test_any_tensor_can_be_explained(make: Any) -> None:
    with np.errstate(all="ignore"):
        f = make()
        e = examine(f, {})
    shown = e.text()
    assert len(shown.splitlines()) >= 3
    assert f.show().svg
    for gate in e.gates:
        for x in gate.inputs:
            if x.node is not None and not isinstance(x.value, tuple):
                assert np.shape(x.downstream) == x.node.shape
        if not isinstance(gate.value, tuple):
            assert np.shape(gate.upstream) == np.shape(gate.value)
            assert not gate.value.flags.writeable


def test_a_gate_with_two_outputs() -> None:
    x = cr.tensor(1.0)
    a, b = Both()(x)
    e = examine(a * 5 + b, {"x": x, "a": a, "b": b})
    assert float(e.variables[0].gradient) == 13
    assert e.gates[0].word == "custom" and e.gates[0].upstream == (5, 1)


def test_a_result_with_many_entries_says_of_what_the_gradients_are() -> None:
    x = cr.tensor([1.0, 2.0, 3.0])
    assert "gradients are of the sum of the 3 entries of f" in text(x * x)
    np.testing.assert_array_equal(examine(x * x).variables[0].gradient, [2, 4, 6])


def test_a_long_chain_is_walked_without_recursion() -> None:
    x = cr.tensor(0.5)
    y = x
    for _ in range(3000):
        y = cr.sin(y)
    records = gates(y)
    assert [r.name for r in records[:2]] == ["q1", "q2"] and records[-1].name == "y"
    y.backward()
    np.testing.assert_allclose(records[0].inputs[0].downstream, x.grad, rtol=1e-12)


def test_what_cannot_be_explained() -> None:
    with pytest.raises(cr.errors.GradientError, match="a constant has no gates"):
        gates(cr.asarray([1.0]))
    with pytest.raises(cr.errors.DTypeError, match="only Tensors are explained, received float"):
        gates(3.0)  # type: ignore[arg-type]

    def traced(x: Any) -> Any:
        with pytest.raises(cr.errors.TraceError, match="an explanation needs the value"):
            gates(x * 2)
        return x

    cr.vmap(traced)(cr.asarray([1.0, 2.0]))


def test_the_rich_table_has_the_same_cells() -> None:
    from rich.console import Console

    x = cr.tensor(3.0)
    f = x * x + x
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table(f))
    printed = console.export_text()
    for row in examine(f).rows():
        assert all(cell in printed for cell in row)


def test_markup_in_names_is_only_text() -> None:
    x = cr.tensor(3.0)
    assert table(x * x, names={"[red]x": x}).row_count == 3


def test_names_are_found_around_comprehensions() -> None:
    weight = cr.tensor(2.0)
    found = [examine(weight * k) for k in (2.0, 3.0)]
    assert [e.variables[0].name for e in found] == ["weight", "weight"]
