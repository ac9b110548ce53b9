"""Clipping of gradients, between `backward` and the optimizer's `step`."""

from __future__ import annotations

import math
from typing import Any

from ..core.context import no_grad
from ..core.types import float64
from ..errors import DataError, DTypeError, GradientError
from ..nn.arguments import as_number
from ..nn.module import Module
from ..ops import astype, clip, isfinite, maximum, sqrt, sum, where
from ..ops.tensor import Tensor
from .optimizer import Optimizer


def clip_by_value(parameters: Any, limit: float) -> None:
    """g ← min(max(g, -limit), limit), entry by entry.

    `parameters` is a Module, an Optimizer, a Parameter or a list of them; those without a gradient
    are left out, and if none has one it is a GradientError. NaN stays NaN. In eager and in traces.

    >>> import chainrule as cr
    >>> w = cr.Parameter([1.0, 2.0, -3.0])
    >>> (w * w).sum().backward()
    >>> cr.optim.clip_by_value([w], 3.0)
    >>> w.grad
    asarray([ 2.,  3., -3.])
    """
    bound = _limit(limit)
    with no_grad():
        for p in _with_gradient(parameters):
            p.grad = clip(p.grad, -bound, bound)


def clip_by_norm(parameters: Any, limit: float) -> Tensor:
    """g ← g·min(1, limit/‖g‖), ‖g‖ = √(Σ g²) over all gradients together; returns ‖g‖ before.

    The direction stays. The norm is taken in float64, so float32 gradients do not overflow it. If
    it is not finite the gradients stay as they are (PyTorch makes them NaN or 0): the returned
    norm tells. `parameters` as in `clip_by_value`. Pascanu, Mikolov & Bengio 2013.

    >>> import chainrule as cr
    >>> w = cr.Parameter([3.0, 4.0])
    >>> (w * w).sum().backward()
    >>> float(cr.optim.clip_by_norm([w], 1.0))
    10.0
    >>> w.grad
    asarray([0.6, 0.8])
    """
    bound, found = _limit(limit), _with_gradient(parameters)
    with no_grad():
        squares: Any = 0.0
        for p in found:
            g = astype(p.grad, float64, copy=False)
            squares = squares + sum(g * g)
        norm: Tensor = sqrt(squares)
        factor = where(isfinite(norm), bound / maximum(norm, bound), 1.0)
        for p in found:
            p.grad = p.grad * astype(factor, p.dtype, copy=False)
    return norm


def _limit(limit: float) -> float:
    number = as_number("the limit", limit)
    if not 0 < number < math.inf:
        raise DataError(f"the limit must be above 0 and finite, received {limit}")
    return number


def _with_gradient(parameters: Any) -> list[Any]:
    """The parameters meant, each once, that have a gradient."""
    if isinstance(parameters, Module):
        parameters = parameters.parameters()
    elif isinstance(parameters, Optimizer):
        parameters = parameters.parameters
    several = hasattr(parameters, "__iter__") and not isinstance(parameters, Tensor)
    found = list(parameters) if several else [parameters]
    for p in found:
        if not isinstance(p, Tensor):
            raise DTypeError(
                "clipping takes a Module, an Optimizer or a list of Parameters, found "
                f"{type(p).__name__}"
            )
    found = [p for p in {id(p): p for p in found}.values() if p.grad is not None]
    if not found:
        raise GradientError("no parameter has a gradient to clip; call loss.backward() first")
    return found


__all__ = ["clip_by_norm", "clip_by_value"]
