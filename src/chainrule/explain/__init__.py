"""Explanations: for any result, the whole way of its gradient, in numbers and in pictures.

- `explain("(x + y) * z", x=-2, y=5, z=-4)`: a formula, gate by gate.
- `gates(f)`, `text(f)`, `table(f)`: the gates of any Tensor, as records, text, a rich table.
- `show(f)`: the graph as a picture, `rails(f)` as text; `f.show()` is the first.
- `walk(f)`: the forward and the backward pass, step by step.
- `explore(f)`: a page to walk through it, forward and backward.
- `paths(f, x)`, `why(f, x)`: why a gradient is what it is, or zero, or missing.
- `derive(f)`: the gradients as formulas, in matrix form and in index form.
- `check(gate)`: what is wrong with a backward; `diagnose(model, loss, batch)`: with a training.
- `first_nonfinite(loss)`: the first gate that made a NaN or an infinity.
- `units(model, example)`: the layers of units of a network, and their connections.

>>> from chainrule.explain import explain
>>> explain("(x + y) * z", x=-2, y=5, z=-4)
f = (x + y) * z
<BLANKLINE>
gate       value  gradient  does         input  local  downstream
─────────  ─────  ────────  ───────────  ─────  ─────  ──────────
x             -2        -4
y              5        -4
z             -4         3
q = x + y      3        -4  distributes  x          1          -4
                                         y          1          -4
f = q * z    -12         1  switches     q         -4          -4
                                         z          3           3
"""

from __future__ import annotations

from dataclasses import replace

from .check import Cause, CheckReport, check
from .derive import Derivation, Line, derive
from .diagnose import Diagnosis, Finding, Layer, diagnose
from .ends import End
from .explorer import Explorer, explore, explorer
from .expression import ExpressionError, evaluate
from .gates import (
    Explanation,
    GateRecord,
    InputRecord,
    VariableRecord,
    examine,
    gates,
    table,
    text,
)  # fmt: skip
from .nonfinite import Nonfinite, first_nonfinite
from .paths import Path, Paths, PathStep, paths
from .picture import Picture, show
from .rails import rails
from .units import UnitLayer, Units, units
from .walk import Step, Walk, walk
from .why import Why, why


def explain(expression: str, /, **values: float) -> Explanation:
    """Every gate of a formula, with its value and gradients: downstream = upstream × local.

    Prints as a table; `.gates` and `.variables` are the records. An expression takes numbers,
    names, + - * / **, parentheses and calls of common functions (`expression.FUNCTIONS`).
    """
    result, variables = evaluate(expression, values)
    return replace(examine(result, variables), expression=" ".join(expression.split()))


__all__ = [
    "Cause", "CheckReport", "Derivation", "Diagnosis", "End", "Explanation", "Explorer",
    "ExpressionError", "Finding", "GateRecord", "InputRecord", "Layer", "Line", "Nonfinite",
    "Path", "PathStep", "Paths", "Picture", "Step", "UnitLayer", "Units", "VariableRecord",
    "Walk", "Why", "check", "derive", "diagnose", "evaluate", "examine", "explain", "explore",
    "explorer", "first_nonfinite", "gates", "paths", "rails", "show", "table", "text", "units",
    "walk", "why",
]  # fmt: skip
