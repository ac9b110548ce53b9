"""Penalties on weights, to be added to a loss: loss + strength·R(W)."""

from __future__ import annotations

from typing import Any

from ..errors import DataError
from ..ops import abs, sum
from ..ops.dispatch import to_tensor
from ..ops.tensor import Tensor
from .module import Module


def _weights(parameters: Any) -> list[Tensor]:
    if isinstance(parameters, Module):
        found = [to_tensor(p) for p in parameters.parameters()]
        weights = [p for p in found if p.ndim >= 2]
    elif isinstance(parameters, (list, tuple)):
        weights = [to_tensor(p) for p in parameters]
    else:
        weights = [to_tensor(parameters)]
    if not weights:
        raise DataError("a penalty needs at least one parameter (of a Module: one with 2 axes)")
    return weights


def _total(parts: list[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def l2_penalty(parameters: Any) -> Tensor:
    """R = Σ W²: of a Parameter, of all in a list, or of the weights of a Module.

    A Module's weights are its Parameters with two axes or more, so biases do not count.

    >>> import chainrule as cr
    >>> float(cr.nn.l2_penalty([cr.tensor([1.0, 2.0]), cr.tensor(3.0)]))
    14.0
    """
    return _total([sum(w * w) for w in _weights(parameters)])


def l1_penalty(parameters: Any) -> Tensor:
    """R = Σ |W|: of a Parameter, of all in a list, or of the weights of a Module (no biases).

    >>> import chainrule as cr
    >>> float(cr.nn.l1_penalty(cr.tensor([1.0, -2.0])))
    3.0
    """
    return _total([sum(abs(w)) for w in _weights(parameters)])


__all__ = ["l1_penalty", "l2_penalty"]
