"""The text of formulas, read as a person reads it, gives the numbers: signs and parentheses."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn
from chainrule.explain.derive import Derivation, derive

POWERS = {c: str(k) for k, c in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")} | {"⁻": "-"}
NAMES = {f: getattr(math, f) for f in ("exp", "sin", "cos", "tanh", "log", "sqrt")}


def value(formula: str, known: dict[str, float]) -> float:
    """The right side of a formula of numbers; what stands side by side is multiplied."""
    text = formula.split(" = ")[-1]
    text = re.sub("([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)", lambda m: "**" + "".join(POWERS[c] for c in m[1]), text)
    text = text.replace(" − ", "-").replace(" + ", "+").replace("·", " ")
    # side by side binds tighter than a fraction's bar before it: 1/q x is refused, not guessed
    assert not re.search(r"/[\w.]+ ", text), formula
    return float(eval(text.replace(" ", "*"), {"__builtins__": {}}, {**NAMES, **known}))


def check(d: Derivation) -> None:
    known = {k: float(v) for k, v in d.arrays.items()}
    for line in d.lines:
        for form in (line.matrix, line.index):
            if form:
                found, wanted = value(form, known), float(line.value)
                assert found == pytest.approx(wanted, rel=1e-9, abs=1e-9), (form, str(d))


BINARY: list[Any] = [
    lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: a / (b * b + 1),
    lambda a, b: (a - b) ** 2, lambda a, b: -a - b, lambda a, b: 0.3 * a - b * 2,
]  # fmt: skip
UNARY: list[Any] = [
    lambda a: -a, lambda a: cr.tanh(a), lambda a: cr.sin(a), lambda a: a * -2.5, lambda a: 1 - a,
    lambda a: 1 / (a * a + 2), lambda a: cr.exp(-a * a), lambda a: a * a * a, lambda a: a / 3,
]  # fmt: skip
STEP = st.tuples(st.integers(0, len(BINARY) + len(UNARY) - 1), st.integers(0, 7), st.integers(0, 7))


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, min_size=1, max_size=9))
def test_numbers(steps: list[tuple[int, int, int]]) -> None:
    x, y = cr.tensor(np.array(0.7)), cr.tensor(np.array(-1.3))
    made = [x, y]
    for kind, i, j in steps:
        a, b = made[i % len(made)], made[j % len(made)]
        made.append(BINARY[kind](a, b) if kind < len(BINARY) else UNARY[kind - len(BINARY)](a))
    result = made[-1]
    if result.node is not None and result.node.primitive is not None:
        check(derive(result, names={"x": x, "y": y}))


@pytest.mark.parametrize("f", [
    lambda x, y: x - (-y - x * 2),
    lambda x, y: x * (-y) * (-x),
    lambda x, y: 2 * -(x / y) * y,
    lambda x, y: (-y) ** 2 / y / (-y * y),
    lambda x, y: 0.2 / y * x - 1 / x * y,
    lambda x, y: x * x + y * x,
])  # fmt: skip
def test_signs_and_fractions(f: Any) -> None:
    x, y = cr.tensor(np.array(0.7)), cr.tensor(np.array(-1.3))
    check(derive(f(x, y), names={"x": x, "y": y}))


def test_equal_terms_are_one() -> None:
    x, y = cr.tensor(np.array(0.7)), cr.tensor(np.array(-1.3))
    lines = derive(x * x + y * x, names={"x": x, "y": y}).of("gradient")
    assert [g.matrix for g in lines] == ["∂f/∂x = y + 2 x", "∂f/∂y = x"]


def test_no_name_is_given_twice() -> None:
    q1 = np.array([5.0, 6.0])
    x = cr.tensor(np.array([1.0, 2.0]))
    d = derive((cr.exp(x) * q1).sum() + (x * np.array([7.0, 8.0])).sum(), names={"x": x, "q1": q1})
    assert d.verify() < 1e-12 and "q1²" not in str(d)
    A = np.array([1.0, 2.0])
    d = derive((x * A).sum() * 2 + (x * np.array([7.0, 8.0])).sum(), names={"x": x, "A": A})
    assert d.verify() < 1e-12 and "B is a constant: 2, from 7 to 8" in str(d)


def test_sums_of_parts_say_from_where_to_where() -> None:
    x = cr.tensor(np.arange(4.0))
    d = derive((cr.cumulative_sum(x) ** 2).sum(), names={"x": x})
    assert (
        "Σ_j=0..3 x_[i-j] [0 ≤ i-j < 4]" in str(d) and r"\leq" in d.latex() and "≤" not in d.latex()
    )


def test_deep_formulas_are_cut() -> None:
    x = cr.tensor(np.array(1.0))
    y = x
    for _ in range(1500):
        y = cr.sin(y)
    d = derive(y, names={"x": x})
    assert max(len(line.matrix or "") for line in d.lines) < 300 and d.verify() < 1e-11
    wide: Any = sum(cr.sin(x * float(k)) for k in range(1, 301))
    text = str(derive(wide, names={"x": x}))
    assert len(text) < 60_000


def test_values_are_named_as_values() -> None:
    z, y = cr.tensor(np.array(1.5)), cr.tensor(np.array(0.7))
    d = derive((z * 2 * y) ** 2, names={"z": z, "y": y})
    assert "δ" not in "".join(line.name for line in d.of("value"))
    defined: set[str] = {"z", "y"}
    for line in d.of("value"):
        assert set(re.findall(r"[a-z]\d*", (line.matrix or "").split(" = ")[-1])) <= defined
        defined.add(line.name)


def test_what_is_no_number_is_told() -> None:
    x = cr.tensor(np.array([1.0, 2.0, 3.0]))
    legend = derive(x * x, names={"x": x}).legend
    assert legend == ("the gradients are of the sum of the 3 entries of f",)
    z = cr.tensor(np.array([0.0, 4.0]))
    with np.errstate(all="ignore"):
        d = derive(cr.where(z > 0, cr.log(z), 0).sum(), names={"z": z})
    assert d.verify() < 1e-12 and "where" in str(d.lines[0].matrix)


def test_names_of_arguments() -> None:
    f = lambda x, w: (x * w).sum()  # noqa: E731
    d = derive(f, "w")(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    assert [g.matrix for g in d.of("gradient")] == ["∂f/∂w = x"]
    with pytest.raises(cr.errors.GradientError, match="'v' is no argument; there are x, w"):
        derive(f, "v")(1.0, 2.0)
    x = cr.tensor(np.array([1.0, 2.0]))
    with pytest.raises(cr.errors.GradientError, match="nothing is called 'v' here"):
        derive((x * x).sum(), "v", names={"x": x})
    with pytest.raises(cr.errors.GradientError, match="does not depend on 1.0"):
        derive((x * x).sum(), 1.0, names={"x": x})


def data(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


KEPT: list[Any] = []
"""Models, so that their Parameters live: names are theirs."""


def network(*layers: Any) -> Any:
    KEPT.append(nn.Sequential(*layers, seed=0))
    return KEPT[-1]


def attention() -> Any:
    return (network(nn.MultiHeadAttention(4, 2))(cr.tensor(data(2, 3, 4))) ** 2).sum()


MODELS: dict[str, Any] = {
    "attention": attention,
    "convolutions": lambda: nn.softmax_cross_entropy(
        network(
            nn.Conv2d(1, 3, 3, padding="same"), nn.relu, nn.MaxPool2d(2), nn.flatten,
            nn.Linear(27, 4),
        )(data(2, 6, 6, 1)), np.array([0, 1]),
    ),
    "layer norm": lambda: nn.softmax_cross_entropy(
        network(nn.Linear(4, 5), nn.LayerNorm(5), nn.gelu, nn.Linear(5, 3))(data(3, 4)),
        np.array([0, 1, 2]),
    ),
    "batch norm": lambda: (
        network(nn.Linear(4, 5), nn.BatchNorm(5), nn.tanh)(data(6, 4), training=True) ** 2
    ).mean(),
    "embedding": lambda: (
        network(nn.Embedding(7, 4), nn.Linear(4, 2))(np.array([[0, 3, 3], [6, 1, 0]])) ** 2
    ).sum(),
}  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
def test_whole_networks(model: str) -> None:
    d = derive(MODELS[model](), names={})
    assert d.verify() < 1e-2  # some gradients are 0 but for rounding
    defined: set[str] = set(d.arrays)
    for line in d.lines:
        formed = line.matrix or line.index
        assert formed or line.call, line.reason
        for form in filter(None, (line.matrix, line.index, line.call)):
            right = form.split(" = ")[-1]
            used = set(re.findall(r"(?<![\w.])(?:q|t|δ)\d+", right))
            assert used <= defined, (form, used - defined)
        defined.add(line.name)
    assert not any("has no" in line.text for line in d.lines)
    assert "W1 = " in d.legend[0]


def test_layers_are_numbered_as_they_are_used() -> None:
    d = derive(MODELS["layer norm"](), names={})
    assert d.legend[0].startswith("W1 = 0.weight, b1 = 0.bias, W2 = 1.weight, b2 = 1.bias")


PROGRAMS: dict[str, Any] = {
    "a slice with a step": (lambda x: (x[:2][::-2] ** 2).sum(), "_0 = x_1"),
    "a total in a product": (lambda x: ((x @ x - x) ** 2).sum(), "∂f/∂x = 2 (2 Σ "),
    "three axes of length 1": (lambda x: (x[:1].reshape(1, 1, 1).mean(axis=1) ** 2).mean(), ""),
    "softmax down a column": (lambda x: (cr.softmax(x.reshape(3, 1), axis=0) ** 2).sum(), ""),
    "a maximum of itself": (lambda x: cr.maximum(cr.maximum(x, 0.5), cr.maximum(x, 0.5)).sum(), ""),
    "a total over a vector": (
        lambda x: cr.sin(x / (x * x + 1) - (x / (x * x + 1)).max()).sum(), "(-Σ ",
    ),
    "a constant that is reshaped": (
        lambda x: ((x.reshape(1, 3) - x.reshape(1, 3)) ** 2).mean() + x.sum(), "",
    ),
    "parts of two": (lambda x: (cr.concat([x, x]) ** 2 * np.arange(6.0)).sum(), ""),
    "a Gaussian": (lambda x: -cr.exp(-x * x).sum(), ""),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_that_were_wrong_once(name: str) -> None:
    f, part = PROGRAMS[name]
    x = cr.tensor(np.array([0.7, -1.2, 0.4]))
    result = f(x)
    d = derive(result, names={"x": x})
    assert d.verify() < 1e-11 and part in str(d), str(d)
    assert "--" not in str(d) and "− -" not in str(d) and "-0+" not in str(d)
    result.backward()
    np.testing.assert_allclose(d.of("gradient")[0].value, x.grad.numpy(), atol=1e-12)


def test_a_name_of_the_program_may_be_delta() -> None:
    x, w = cr.tensor(data(3, 2).astype(float)), cr.tensor(data(2, 3).astype(float))
    z = cr.exp(cr.tanh(x @ w))
    d = derive((z / z.sum(axis=1, keepdims=True) * np.arange(3.0)).sum(), names={"δ": x, "w": w})
    assert d.verify() < 1e-11 and len({line.name for line in d.lines}) == len(d.lines)


def test_values_that_are_used_again_are_written_once() -> None:
    a, b = x, y = cr.tensor(np.array(1.0)), cr.tensor(np.array(2.0))
    for _ in range(40):
        a, b = b, a + b
    d = derive(b, names={"x": x, "y": y})
    assert [float(g.value) for g in d.of("gradient")] == [102334155, 165580141]
    assert len(str(d)) < 5000 and d.verify() < 1e-12


def test_where_the_engine_takes_zero_times_infinity_as_zero() -> None:
    a = cr.tensor(np.zeros(4))
    d = derive(cr.std(a) * 1.0, names={"a": a})
    assert d.verify() == np.inf and "the engine gives 0" in d.legend[-1]
    assert not np.any(d.of("gradient")[0].value)


def test_latex_has_no_commands_in_names() -> None:
    x = cr.tensor(np.array([1e-9, 2.0]))
    text = derive((x * 1e-9).sum(), names={r"a%\b&{c}": x}).latex()
    assert r"a\%\backslash{}b\&\{c\}" in text and r"10^{-9}" in text
