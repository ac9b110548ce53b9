"""What all optimizers share: groups of parameters, numbers as variables, state, errors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..core.context import CONTEXT
from ..core.types import float64
from ..errors import DataError, DTypeError, GradientError
from ..nn.arguments import as_number
from ..nn.module import Module
from ..ops.number import TracedNumber
from ..ops.tensor import Parameter, Tensor, variable
from .state import restore, snapshot
from .update import Rule, update


class Number:
    """A number of an optimizer, such as `lr`: reads as its variable, is set by assignment."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, optimizer: Any, owner: type | None = None) -> Any:
        return self if optimizer is None else optimizer._numbers[self.name]

    def __set__(self, optimizer: Any, value: Any) -> None:
        optimizer._numbers[self.name].assign(checked_number(self.name, value))


@dataclass
class Group:
    """Parameters that are updated with the same numbers."""

    parameters: list[Parameter]
    numbers: dict[str, Tensor]
    """The optimizer's own variables, but for those that the group was given."""
    slots: list[list[Tensor]] = field(default_factory=list)
    counts: list[Tensor] | None = None


class Optimizer:
    """p ← rule(p, ∂L/∂p): the base of all optimizers.

    `parameters` is a Module, a list of Parameters, or a list of groups: dicts with "parameters"
    and with numbers of their own, such as {"parameters": […], "lr": 0.1, "weight_decay": 0.0}.
    All that lasts is a variable: the numbers, the slots (one array for each parameter and name in
    `slots`, at first 0) and, if it is `counted`, each parameter's number of steps.

    An optimizer is a subclass with a pure function rule(xp, p, g, *slots, *coefficients) that
    returns the new p and slots, computed with operators and functions of xp. The coefficients are
    its numbers, unless it defines coefficients(t, *numbers), t the number of the step if counted.
    """

    slots: ClassVar[tuple[str, ...]] = ()
    counted: ClassVar[bool] = False
    rule: Rule
    lr = Number()
    weight_decay = Number()

    @staticmethod
    def coefficients(t: Any, *numbers: Any) -> tuple[Any, ...]:
        """The scalars that the rule takes; here the numbers themselves."""
        return numbers

    def __init__(self, parameters: Any, **numbers: Any) -> None:
        self._numbers = {name: _number(name, value) for name, value in numbers.items()}
        self.groups = [self._group(g) for g in _groups(parameters)]
        every = [p for group in self.groups for p in group.parameters]
        if not every:
            raise DataError(f"{type(self).__name__} received no parameters")
        if len(set(map(id, every))) != len(every):
            twice = next(p for k, p in enumerate(every) if any(p is q for q in every[:k]))
            raise DataError(
                f"{type(self).__name__} received parameter {twice.name!r} of shape {twice.shape} "
                "twice"
            )
        names = dict(parameters.named_parameters()) if isinstance(parameters, Module) else None
        given = list(names) if names is not None else [p.name for p in every]
        usable = all(given) and len(set(given)) == len(given)
        self._names = given if usable else [str(k) for k in range(len(every))]

    def _group(self, given: dict[str, Any]) -> Group:
        name = type(self).__name__
        unknown = given.keys() - self._numbers.keys() - {"parameters"}
        if unknown or "parameters" not in given:
            raise DataError(
                f'a group of {name} is a dict with "parameters" and any of '
                f"{', '.join(self._numbers)}; received the keys {', '.join(map(str, given))}"
            )
        found = given["parameters"]
        found = found.parameters() if isinstance(found, Module) else found
        found = [found] if isinstance(found, Tensor) else found
        if not hasattr(found, "__iter__"):
            raise DTypeError(f"{name} takes a list of Parameters, received {found!r:.60}")
        found = list(found)
        for k, p in enumerate(found):
            if not isinstance(p, Parameter):
                raise DTypeError(
                    f"{name} takes Parameters; entry {k} is {p!r:.60}: make it with cr.Parameter"
                )
        own = {k: _number(k, v) for k, v in given.items() if k != "parameters"}
        return Group(
            found,
            {**self._numbers, **own},
            [[variable(np.zeros(p.shape, p.dtype)) for _ in self.slots] for p in found],
            [variable(np.zeros((), float64)) for _ in found] if self.counted else None,
        )

    @property
    def parameters(self) -> list[Parameter]:
        """The parameters of all groups."""
        return [p for group in self.groups for p in group.parameters]

    def step(self) -> None:
        """Update every parameter that has a gradient; a GradientError if none has."""
        moved = 0
        for group in self.groups:
            moved += update(
                group.parameters, group.slots, group.counts, list(group.numbers.values()),
                self.rule, self.coefficients,
            )  # fmt: skip
        if not moved:
            raise GradientError(
                f"{type(self).__name__}.step: no parameter has a gradient; call loss.backward() "
                "first"
            )

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for group in self.groups:
            for parameter in group.parameters:
                parameter.grad = None

    # -- checkpoints --------------------------------------------------------------------------

    def _variables(self) -> Iterator[tuple[str, Tensor]]:
        """Every variable but the parameters, by name."""
        yield from self._numbers.items()
        names = iter(self._names)
        for k, group in enumerate(self.groups):
            for name, number in group.numbers.items():
                if number is not self._numbers[name]:
                    yield f"group {k}.{name}", number
            for i, slots in enumerate(group.slots):
                parameter = next(names)
                for name, slot in zip(self.slots, slots, strict=True):
                    yield f"{parameter}.{name}", slot
                if group.counts is not None:
                    yield f"{parameter}.steps", group.counts[i]

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """All that the optimizer remembers, as copies by name: "lr", "0.weight.velocity", … .

        >>> import chainrule as cr
        >>> w = cr.Parameter([1.0], name="w")
        >>> list(cr.optim.Momentum([w], lr=0.1).state())
        ['lr', 'momentum', 'weight_decay', 'w.velocity']
        """
        return snapshot(dict(self._variables()))

    def load_state(self, state: Any) -> None:
        """Go on from what `state()` gave; nothing changes unless names, shapes and numbers fit."""
        variables = dict(self._variables())
        every = [self._numbers, *(group.numbers for group in self.groups)]
        numbers = {id(v): name for found in every for name, v in found.items()}

        def check(title: str, value: Any) -> None:
            name = numbers.get(id(variables[title]))
            if name is not None:
                checked_number(name, value)

        restore(variables, state, type(self).__name__, check)

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name}={v.item():g}" for name, v in self._numbers.items())
        return f"{type(self).__name__}({len(self.parameters)} parameters, {numbers})"


def _groups(parameters: Any) -> list[dict[str, Any]]:
    """The groups meant by a Module, a list of Parameters, or a list of dicts."""
    if isinstance(parameters, (Module, Tensor)):
        return [{"parameters": parameters}]
    if isinstance(parameters, dict) or not hasattr(parameters, "__iter__"):
        raise DTypeError(
            "an optimizer takes a Module, a list of Parameters or a list of groups, received "
            f"{type(parameters).__name__}"
        )
    found = list(parameters)
    dicts = [isinstance(p, dict) for p in found]
    if any(dicts):
        if not all(dicts):
            raise DTypeError("an optimizer takes Parameters or groups (dicts), not both in a list")
        return found
    return [{"parameters": found}]


LIMITS = {"momentum": 1.0, "beta1": 1.0, "beta2": 1.0, "decay": 1.0}
"""Averages that forget: these stay below 1."""


def checked_number(name: str, value: Any) -> Any:
    """A number of an optimizer: 0 or more and finite. Unknown while tracing, so not checked."""
    if isinstance(value, (Tensor, TracedNumber)) and CONTEXT.get().trace is not None:
        return value
    limit, number = LIMITS.get(name, math.inf), as_number(name, value)
    if not 0 <= number < limit:
        until = "and finite" if limit == math.inf else f"and below {limit:g}"
        raise DataError(f"{name} must be 0 or more {until}, received {number:g}")
    return number


def _number(name: str, value: Any) -> Tensor:
    """The variable of a number: a new one in float64, or the variable that was given."""
    number = checked_number(name, value)
    if isinstance(value, Tensor) and value.is_variable and not value.shape:
        return value
    return variable(np.array(number, float64))


def groups(module: Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: Parameters with two axes or more decay, the others (biases, scales) do not.

    >>> import chainrule as cr
    >>> model = cr.nn.Linear(3, 2)
    >>> optimizer = cr.optim.AdamW(cr.optim.groups(model, weight_decay=0.1))
    >>> [(len(g.parameters), g.numbers["weight_decay"].item()) for g in optimizer.groups]
    [(1, 0.1), (1, 0.0)]
    """
    if not isinstance(module, Module):
        raise DTypeError(f"groups takes a Module, received {type(module).__name__}")
    weight_decay = checked_number("weight_decay", weight_decay)
    every = module.parameters()
    parts = {
        weight_decay: [p for p in every if p.ndim >= 2],
        0.0: [p for p in every if p.ndim < 2],
    }
    if not weight_decay:
        parts = {0.0: every}
    return [{"parameters": ps, "weight_decay": d} for d, ps in parts.items() if ps]
