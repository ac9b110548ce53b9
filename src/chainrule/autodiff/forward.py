"""Forward mode: local × tangent, gate by gate from the inputs on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core.types import FLOATS
from ..errors import GradientError, ShapeError
from ..ops.dispatch import astype, to_tensor
from ..ops.tensor import Tensor, constant
from .containers import flatten, select, unflatten
from .reverse import Function, Linearized, _detached, grad


def jvp(function: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """function(*primals) and J × tangents: how the result moves along the tangents.

    >>> import chainrule as cr
    >>> value, moved = cr.jvp(lambda x: x * x, (3.0,), (1.0,))
    >>> float(value), float(moved)
    (9.0, 6.0)
    """
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list)):
        raise GradientError("jvp takes a tuple of arguments and a tuple of tangents, one for each")
    leaves, structure = flatten(tuple(primals), what="the arguments")
    directions, _ = flatten(tuple(tangents), what="the tangents")
    if len(leaves) != len(directions):
        raise ShapeError(
            f"tangents must be like the arguments: received {len(directions)} for {len(leaves)}"
        )
    line = Linearized(lambda xs: function(*unflatten(structure, xs)), leaves)
    moved = line.push([tangent_like(t, x) for t, x in zip(directions, line.inputs, strict=True)])
    return _detached(line), unflatten(line.structure, moved)


def tangent_like(tangent: Any, x: Tensor) -> Tensor:
    """A tangent in the shape and dtype of what it belongs to."""
    t = to_tensor(tangent)
    if t.shape != x.shape:
        raise ShapeError(f"a tangent has the shape of its argument: {x.shape}, received {t.shape}")
    if t.dtype.char not in FLOATS:
        return constant(np.asarray(t._concrete("a tangent"), x.dtype))
    return t if t.dtype == x.dtype else astype(t, x.dtype)


def hvp(function: Function, wrt: Any = 0) -> Callable[..., Any]:
    """H × v: a function (*args, v) of a scalar function, forward over reverse; nothing is stored.

    The vector comes last and is a container like the argument `wrt` names.

    >>> import chainrule as cr
    >>> cr.hvp(lambda x: (x**3).sum())(cr.asarray([1.0, 2.0]), cr.asarray([1.0, 1.0]))
    asarray([ 6., 12.])
    """

    def product(*args: Any, **kwargs: Any) -> Any:
        if len(args) < 2:
            raise GradientError("hvp(f)(*args, vector) takes the arguments of f, then the vector")
        *arguments, vector = args
        chosen, call = select(function, wrt, tuple(arguments), kwargs)
        return jvp(grad(call), (chosen,), (vector,))[1]

    return product
