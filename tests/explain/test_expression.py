"""Expressions: what they compute, and that every error points at its place."""

from __future__ import annotations

import math

import numpy as np
import pytest

import chainrule as cr
from chainrule.explain import ExpressionError, evaluate
from chainrule.explain.expression import FUNCTIONS


def value(expression: str, **values: float) -> float:
    result, variables = evaluate(expression, values)
    assert result.dtype == np.float64 and result.node is not None
    assert list(variables) and all(v.is_variable for v in variables.values())
    return float(result)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("x", 3.0),
        ("(x + 1) * 2 - 6 / x", 6.0),
        ("-x ** 2", -9.0),
        ("2 ** x", 8.0),
        ("x - -1", 4.0),
        ("+x", 3.0),
        ("x + 2 * 3 / 4 ** 2", 3.375),
        ("max(x, 5) + min(x, 5) + maximum(x, 1)", 11.0),
        ("  ( x\n + 1_000 )\t", 1003.0),
        ("exp(1) * x", 3 * math.e),
        ("1e300 * x", 3e300),
        ("1 / (x - x)", math.inf),
    ],
)
def test_values(expression: str, expected: float) -> None:
    assert value(expression, x=3) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_function_is_chainrules_own(name: str) -> None:
    count, function = FUNCTIONS[name]
    numbers = [0.5, 0.25][:count] if name != "acosh" else [1.5]
    given = dict(zip("xy", numbers, strict=False))
    assert value(f"{name}({', '.join(given)})", **given) == float(
        function(*(np.float64(n) for n in numbers))
    )


def test_variables_come_in_the_order_of_appearance_and_have_gradients() -> None:
    f, variables = evaluate("b * (a + c) * b", {"a": 1, "c": 2, "b": np.float32(4)})
    assert list(variables) == ["b", "a", "c"]
    f.backward()
    assert float(variables["b"].grad) == 24.0


def test_it_records_also_where_nothing_else_is() -> None:
    with cr.no_grad():
        f, _ = evaluate("x * x", {"x": 2})
    assert f.node is not None


def test_names_of_any_alphabet() -> None:
    assert value("größe * σ1 * ℯ", **{"größe": 2, "σ1": 3, "ℯ": 5}) == 30


def test_many_terms_are_no_nesting() -> None:
    assert value("+".join(["x"] * 400), x=1) == 400


ERRORS = [
    # expression, values, what the message says, the column of the caret
    ("x + yy", {"x": 1, "y": 1}, "no value for 'yy' (did you mean 'y'?)", 4),
    ("x + y", {"x": 1}, "no value for 'y': give one, as y=1.5", 4),
    ("x", {"x": 1, "wide": 2}, "'wide', which the expression does not use; its names are x", None),
    ("sine(x)", {"x": 1}, "unknown function 'sine' (did you mean 'sin'?)", 0),
    ("2 * sinx(x)", {"x": 1}, "the functions are abs, acos,", 4),
    ("x + exp", {"x": 1}, "exp is a function: write exp(…)", 4),
    ("exp(x, 2)", {"x": 1}, "exp takes 1 argument, received 2", 0),
    ("max(x)", {"x": 1}, "max takes 2 arguments, received 1", 0),
    ("exp(x=1)", {"x": 1}, "exp takes 1 argument, received others", 0),
    ("exp(*x)", {"x": 1}, "exp takes 1 argument, received others", 0),
    ("x.real", {"x": 1}, "names have no parts", 0),
    ("1 + x.__class__.mro()", {"x": 1}, "only functions can be called", 4),
    ("exp(2)(x)", {"x": 1}, "only functions can be called", 0),
    ("__import__('os')", {}, "unknown function '__import__'", 0),
    ("(lambda: x)()", {"x": 1}, "only functions can be called", 1),
    ("lambda: x", {"x": 1}, "cannot hold this", 0),
    ("[y for y in x]", {"x": 1}, "cannot hold this", 0),
    ("x[0]", {"x": 1}, "names have no entries", 0),
    ("x < 1", {"x": 1}, "comparisons have no gradient", 0),
    ("x if x else 1", {"x": 1}, "a choice has no gate", 0),
    ("(y := x)", {"x": 1}, "nothing can be assigned", 1),
    ("x, 1", {"x": 1}, "without a comma", 0),
    ("x + 2 ^ 3", {"x": 1}, "write ** for a power", 0),
    ("x % 2", {"x": 1}, "no such operator", 0),
    ("~x", {"x": 1}, "cannot hold this", 0),
    ("x + 'a'", {"x": 1}, "'a' is not a real number", 4),
    ("x + True", {"x": 1}, "True is not a real number", 4),
    ("x + 2j", {"x": 1}, "2j is not a real number", 4),
    ("x + 1e999", {"x": 1}, "too large", 4),
    ("x + 1" + "0" * 400, {"x": 1}, "too large", 4),
    ("x + 1" + "0" * 5000, {"x": 1}, "cannot be read", None),
    ("x + * y", {"x": 1, "y": 1}, "cannot be read", 4),
    ("(x + y", {"x": 1, "y": 1}, "cannot be read", 0),
    ("2x", {"x": 1}, "write 2*x", 0),
    ("x = 1", {"x": 1}, "cannot be read", None),
    ("x # y", {"x": 1}, "no comments", 2),
    ("π÷x", {"x": 1}, "cannot be read", 1),
    ("größe + y.z", {"größe": 1, "y": 1}, "names have no parts", 8),
    ("", {}, "empty", None),
    ("1 + 2", {}, "has no names", None),
    ("(" * 300 + "x" + ")" * 300, {"x": 1}, "", None),
    ("-" * 600 + "x", {"x": 1}, "nested more than 500 deep", None),
    ("-" * 9000 + "x", {"x": 1}, "nested more than 500 deep", None),
    ("x" + "+x" * 6000, {"x": 1}, "12001 characters; at most 10000", None),
    ("x\0", {"x": 1}, "cannot be read", None),
    ("x + y", {"x": 1, "y": "2"}, "the value of y must be a number, received '2'", 4),
    ("x + y", {"x": 1, "y": None}, "the value of y must be a number", 4),
    ("x + y", {"x": True, "y": 1}, "the value of x must be a number", 0),
    ("x + y", {"x": 10**400, "y": 1}, "the value of x is too large", 0),
    (3, {}, "an expression is text", None),
]


@pytest.mark.parametrize(("expression", "values", "says", "column"), ERRORS)
def test_errors_say_what_and_where(expression, values, says, column) -> None:
    with pytest.raises(ExpressionError) as caught:
        evaluate(expression, values)
    error, message = caught.value, str(caught.value)
    assert says in error.problem
    assert len(message) < 700
    if column is not None:
        assert error.column == column
        _, text, caret = message.split("\n")
        assert text[caret.index("^")] == expression[column]
    assert isinstance(error, cr.errors.DataError)


def test_the_caret_stays_in_sight_in_long_expressions() -> None:
    with pytest.raises(ExpressionError) as caught:
        evaluate("+".join(["x"] * 200) + "+zz", {"x": 1})
    _, text, caret = str(caught.value).split("\n")
    assert text[caret.index("^") :].startswith("zz")
    assert len(text) < 82
