"""`jacobian`, `hessian`: the functions users call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..autodiff.containers import flatten, select, unflatten
from ..autodiff.reverse import Function, Linearized, grad
from ..errors import GradientError
from .jacobian import Recorded

MODES = ("forward", "reverse", "mixed", "sparse")


def jacobian(function: Function, wrt: Any = 0, *, mode: str | None = None) -> Callable[..., Any]:
    """The Jacobian of a function by one argument, as a function that returns a `Jacobian`.

    Containers of outputs or arguments give containers of Jacobians: outputs outside, arguments
    inside. `wrt` names the argument: its position, its name, or a tuple of them.

    `mode` is the order in which the gates are eliminated for its structure: "forward", "reverse"
    or "mixed"; without it the one that costs least by an estimate. With "sparse" the function (of
    one array) is prepared at the first call: which entries can be nonzero is found from the
    structure of its gates for all values, and coloured; each call then runs few compiled passes.

    >>> import chainrule as cr
    >>> A = cr.asarray([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> cr.jacobian(lambda x: A @ x)(cr.asarray([1.0, 1.0])).todense()
    asarray([[1., 2.],
             [3., 4.],
             [5., 6.]])
    """

    if mode not in (None, *MODES):
        raise GradientError(f"mode is one of {', '.join(MODES)} or None, received {mode!r}")
    if mode == "sparse":
        if wrt != 0:
            raise GradientError('mode="sparse" is for functions of one array: bind the others')
        from .sparse import SparseFunction

        return SparseFunction(function)

    def at(*args: Any, **kwargs: Any) -> Any:
        chosen, call = select(function, wrt, args, kwargs)
        leaves, structure = flatten(chosen, what="the argument to differentiate by")
        line = Linearized(lambda xs: call(unflatten(structure, xs)), leaves)
        for o in line.outputs:
            if o.dtype.kind != "f":
                raise GradientError(f"the Jacobian of a result of dtype {o.dtype} is not defined")
        rows = [
            unflatten(structure, [Recorded(line, i, j, mode) for j in range(len(line.inputs))])
            for i in range(len(line.outputs))
        ]
        return unflatten(line.structure, rows)

    return at


def hessian(function: Function, wrt: Any = 0, *, mode: str | None = None) -> Callable[..., Any]:
    """The Hessian of a scalar function: the Jacobian of its gradient, as a `Jacobian`.

    `mode` is that of `jacobian`: with "sparse" it is prepared once and evaluated in few passes.

    >>> import chainrule as cr
    >>> cr.hessian(lambda x: x[0] ** 2 * x[1])(cr.asarray([1.0, 2.0])).todense()
    asarray([[4., 2.],
             [2., 0.]])
    """
    return jacobian(grad(function, wrt), wrt, mode=mode)


__all__ = ["hessian", "jacobian"]
