"""Gates that close: relu, sigmoid, tanh and all whose slope goes to 0 far from the middle.

Nothing is known by name. A gate of one operand closes if its local Jacobian is 0, or nearly, at
inputs far below, or far below and far above, and not in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import bare
from ..core.local import Diagonal, Mask
from ..core.node import Node
from ..core.primitive import Elementwise
from .forms import local_of, operands_of

FAR = 40.0
SMALL = 0.01
"""A slope below this share of the steepest one is flat."""


@dataclass(frozen=True, eq=False)
class Closing:
    """A gate that can close, as it is in one run.

    `dead` is the share of units (entries of the last axis) that are closed for all examples, of
    gates that are 0 on one side; `saturated` the share of entries where the slope is flat, of
    gates that are flat on both sides. NaN where it does not apply.
    """

    node: Node
    dead: float
    saturated: float


def closings(node: Node) -> Closing | None:
    """How far a gate is closed; None for a gate that does not close."""
    if not isinstance(node.primitive, Elementwise) or len(node.inputs) != 1 or not node.shape:
        return None
    probes = np.array([-FAR, 0.5, FAR])
    at = slopes(node, probes)
    if at is None or not abs(at[1]) > 0 or not np.isfinite(at).all():
        return None
    low, high = (abs(at[k]) < SMALL * abs(at[1]) for k in (0, 2))
    if not low and not high:
        return None
    if max(abs(at[0]), abs(at[2])) > 100 * abs(at[1]):
        return None  # it grows without bound: an exponential
    slope = slopes(node, operands_of(node)[0])
    if slope is None or not slope.size:
        return None
    if low and high:
        steepest = np.abs(at[1])
        return Closing(node, np.nan, float((np.abs(slope) < SMALL * steepest).mean()))
    closed = (slope == 0).reshape(-1, slope.shape[-1] if slope.ndim > 1 else slope.size)
    return Closing(node, float(closed.all(0).mean()), np.nan)


def slopes(node: Node, values: Any) -> Any:
    """The local derivative of an elementwise gate of one operand, entry by entry."""
    primitive, params = node.primitive, node.params or {}
    assert primitive is not None
    at_own = values is operands_of(node)[0]
    values = np.asarray(values, node.type.dtype)
    with np.errstate(all="ignore"):
        if at_own:
            form = local_of(node, 0, operands_of(node))
        else:
            out = np.asarray(primitive.forward(values, **params))
            form = primitive.local(0, bare.xp, out, [values], params)
    if isinstance(form, Diagonal):
        return np.broadcast_to(form.partial, values.shape)
    if isinstance(form, Mask):
        return np.broadcast_to(np.asarray(form.mask) == form.passes, values.shape).astype(float)
    return None
