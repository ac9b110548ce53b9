"""Explanations: for any result, the whole way of its gradient, in numbers and pictures.

>>> from chainrule.explain import explain
>>> explain("(x + y) * z", x=-2, y=5, z=-4)
"""

from __future__ import annotations

from dataclasses import replace

from .expression import ExpressionError, evaluate
from .gates import (
    Explanation, GateRecord, InputRecord, VariableRecord, examine, gates, table, text,
)  # fmt: skip


def explain(expression: str, /, **values: float) -> Explanation:
    result, variables = evaluate(expression, values)
    return replace(examine(result, variables), expression=" ".join(expression.split()))
