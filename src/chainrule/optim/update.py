"""One step of an optimizer: its rule run on every parameter, on bare arrays or on Tensors.

In eager the rule gets NumPy arrays and Python floats and the results take the place of the old
values, uncopied. While tracing it gets Tensors, and `assign` records the new values. Scalars such
as the bias corrections of Adam are computed in float64 in both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import ops
from ..core.context import CONTEXT
from ..ops.tensor import Parameter, Tensor, leaf

ndarray = np.ndarray
Rule = Callable[..., tuple[Any, ...]]
"""rule(xp, p, g, *slots, *coefficients) -> (new p, *new slots); computes on the namespace xp."""
Coefficients = Callable[..., tuple[Any, ...]]
"""coefficients(t, *numbers) -> the scalars that the rule takes, at step t = 1, 2, … (or None)."""


def update(
    parameters: Sequence[Parameter],
    slots: Sequence[Sequence[Tensor]],
    counts: Sequence[Tensor] | None,
    numbers: Sequence[Tensor],
    rule: Rule,
    coefficients: Coefficients,
) -> int:
    """Run a rule on each parameter that has a gradient; returns how many had one.

    `slots` holds the state of each parameter (variables of its shape), `counts` its number of
    steps, for rules that count them.
    """
    if CONTEXT.get().trace is not None:
        return _update_traced(parameters, slots, counts, numbers, rule, coefficients)
    values: Any = [n._value.item() for n in numbers]
    scalars = coefficients(None, *values) if counts is None else ()
    moved = 0
    for k, parameter in enumerate(parameters):
        gradient = parameter.grad
        if gradient is None:
            continue
        if counts is not None:
            t = counts[k]._value + 1.0
            rebind(counts[k], t)
            scalars = coefficients(float(t), *values)
        state = slots[k]
        new = rule(
            np, parameter._value, gradient._value, *[s._value for s in state], *scalars
        )  # fmt: skip
        rebind(parameter, new[0])
        for slot, value in zip(state, new[1:], strict=True):
            rebind(slot, value)
        moved += 1
    return moved


def _update_traced(
    parameters: Sequence[Parameter],
    slots: Sequence[Sequence[Tensor]],
    counts: Sequence[Tensor] | None,
    numbers: Sequence[Tensor],
    rule: Rule,
    coefficients: Coefficients,
) -> int:
    scalars = coefficients(None, *numbers) if counts is None else ()
    moved = 0
    for k, parameter in enumerate(parameters):
        gradient = parameter.grad
        if gradient is None:
            continue
        if counts is not None:
            t = counts[k] + 1.0
            counts[k].assign(t)
            scalars = coefficients(t, *numbers)
        cast = [ops.astype(s, parameter.dtype, copy=False) for s in scalars]
        state = slots[k]
        new = rule(ops, parameter, gradient, *state, *cast)
        for variable, value in zip((parameter, *state), new, strict=True):
            variable.assign(value)
        moved += 1
    return moved


def rebind(variable: Tensor, value: Any) -> None:
    """variable.assign(value) for an array of its shape that nobody else holds: not copied."""
    if value.__class__ is not ndarray:
        value = np.asarray(value)
    if value.dtype is not variable._value.dtype:
        value = value.astype(variable._value.dtype)
    variable._value = value
    variable._node = leaf(variable, value)


def decayed(gradient: Any, parameter: Any, decay: Any) -> Any:
    """g + λ·p: the gradient with that of the penalty λ/2·p²."""
    if decay.__class__ is float and not decay:  # in eager, nothing to add
        return gradient
    return gradient + decay * parameter
