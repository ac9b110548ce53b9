"""The gradient of each example in a batch, at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import optree

from ..errors import AxisError
from ..ops.shaping import expand_dims
from ..ops.tensor import Tensor
from .batching import vmap
from .containers import _place
from .reverse import grad


def per_example_grad(function: Callable[..., Any], wrt: Any = 0) -> Callable[..., Any]:
    """g_i = ∂L(w, x_i, y_i)/∂w for each example i of a batch; like w, with an axis for i in front.

    `function` is a loss of a batch, as for training: it is given one example at a time, as a batch
    of one. `wrt` names the argument w as in `cr.grad` (a Module, an array, a container; a tuple for
    several). All arrays in the other arguments have the batch along axis 0; numbers and arrays
    without axes are the same for all, and so is what the function reads from outside. Through
    `vmap`: the function may not branch on values or change a variable, batches of two sizes are a
    ShapeError, and no batch at all is an AxisError.

    >>> import chainrule as cr
    >>> w, x = cr.asarray([1.0, 2.0]), cr.asarray([[1.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
    >>> per_example_grad(lambda w, x: ((x @ w) ** 2).mean())(w, x)
    asarray([[ 2.,  0.],
             [ 0., 36.],
             [ 6.,  6.]])
    """
    gradient = grad(function, wrt)
    named = wrt if isinstance(wrt, (tuple, list)) else (wrt,)

    def gradients(*args: Any, **kwargs: Any) -> Any:
        fixed = {_place(function, w, args, kwargs) for w in named}
        parts: dict[int | str, Any] = dict(enumerate(args))
        parts.update(kwargs)
        values: Any = list(parts.values())
        leaves, structure = optree.tree_flatten(values, namespace="chainrule")
        axes = [
            0 if place not in fixed and isinstance(leaf, (Tensor, np.ndarray)) and leaf.ndim
            else None
            for place, part in parts.items()
            for leaf in optree.tree_leaves(part, namespace="chainrule")
        ]  # fmt: skip
        if 0 not in axes:
            raise AxisError(
                f"per_example_grad found no batch: besides the argument {wrt!r} the call has no "
                "array with axes"
            )

        def example(*inputs: Any) -> Any:
            pairs = zip(inputs, axes, strict=True)
            full = [x if axis is None else expand_dims(x, axis=0) for x, axis in pairs]
            one = optree.tree_unflatten(structure, full)
            return gradient(*one[: len(args)], **dict(zip(kwargs, one[len(args) :], strict=True)))

        return vmap(example, in_axes=tuple(axes))(*leaves)

    return gradients
