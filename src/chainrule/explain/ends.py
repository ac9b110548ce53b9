"""Where the way of a gradient ends: a small change of one entry, followed forward.

The change goes through every gate by its own local Jacobian. A gradient is zero exactly if it never
arrives: it dies at gates whose local Jacobian is 0 where it comes in, or several changes cancel
where they meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import bare
from ..core.local import Contraction, Diagonal, Linear, Mask, Zero
from ..core.node import Node
from ..core.primitive import Elementwise
from ..ops.custom import Custom
from .flow import UNKNOWN, flows, guessed, moves, one_entry, plus, pulled, pushed, size
from .forms import is_float, local_of, operands_of, selects
from .gates import expression_of
from .names import Naming
from .nonfinite import finite
from .numbers import array, number, place, source
from .slopes import FAR, SMALL, slopes

ADVICE = {
    "closed": "the unit is off for this input: other weights or inputs, or a smaller learning "
    "rate, open it; an activation with a slope below 0 (leaky_relu, elu, gelu) never closes quite",
    "saturated": "bring the values back to where the gate has a slope: smaller weights, "
    "normalised inputs, or a loss that takes the values before this gate",
    "flat": "no gradient can come through here: use a gate that has a slope at these values",
    "times zero": "change the factor that is 0; if both are parameters that start at 0, neither "
    "moves: initialise one with other numbers",
    "routed elsewhere": "another entry was chosen; a soft choice (softmax, logsumexp, mean) gives "
    "every entry a share",
    "other branch": "the condition decides: change it, or the value that it tests; a smooth form "
    "(softplus, sigmoid as a weight) gives both branches a share",
    "stationary": "nothing is wrong with the gate: this is where it has a minimum, a maximum or a "
    "saddle; start elsewhere if the training should move from here",
    "empty": "nothing was computed: look at the length of the batch",
    "overflows": "the value itself is not finite, so no gradient through it can be: keep the "
    "numbers smaller (inputs scaled, a smaller rate), or use a stable form (softmax_cross_entropy, "
    "log_softmax, logsumexp, log1p)",
    "outside": "it has no value there: keep what goes in where it has one (above 0 for log and "
    "roots, no 0 divided by 0)",
    "data": "look at where this number comes from",
    "not read": "the entry is left out here: look at the index",
    "stopped": "compute with the Tensor itself, not with its value (no detach, stop_gradient, "
    "no_grad, float(), item(), numpy(), comparison, argmax or cast to integers on the way)",
    "cancels": "the result does not depend on this entry to first order (as on a bias before a "
    "normalisation): leave it out, or look for a sign that is wrong",
    "custom": "look at this gate's backward; chainrule.explain.check says what is wrong with one",
    "underflows": "compute in float64, or multiply the loss by a large number",
    "not finite": "keep the values away from where the slope is infinite: add a small number "
    "inside, clip, or use a stable form (log_softmax, log1p, logsumexp)",
    "shrinks": "keep activations where gates have a slope, add residual connections or a "
    "normalisation, or initialise with larger weights",
    "assigned": "compute the result again after assign, or take the gradient before it",
}
"""What to try, for each cause."""


@dataclass(frozen=True, eq=False)
class End:
    """Where the way ends: the gate, what it does there, its place in the program.

    `cause` is a key of `ADVICE`.
    """

    cause: str
    gate: str
    text: str
    module: str = ""
    line: str = ""
    code: str = ""
    serial: int = 0
    """Gates that ran later have a larger one."""

    @property
    def advice(self) -> str:
        """What to try."""
        return ADVICE[self.cause]

    def json(self) -> dict[str, str]:
        """All of it as plain data."""
        return {
            "cause": self.cause, "gate": self.gate, "text": self.text, "module": self.module,
            "line": self.line, "code": self.code, "advice": self.advice,
        }  # fmt: skip

    def __str__(self) -> str:
        where = f"in module {self.module}, " if self.module else ""
        where += f"at {self.line}" if self.line else ""
        parts = [f"{self.gate}: {self.text}", where.removesuffix(", "), self.code]
        return "\n    ".join(p for p in parts if p)


def end(node: Node, cause: str, text: str, naming: Naming) -> End:
    """An End at a gate, or at a variable that came in as it is."""
    gate = naming[node]
    if node.primitive is not None:
        gate += " = " + expression_of(node, [naming[x] for x in node.inputs])
    return End(
        cause, gate, text, ".".join(node.scope), place(node.line),
        source(node.line), node.serial,
    )  # fmt: skip


def follow(
    order: Sequence[Node], leaf: Node, at: tuple[int, ...], naming: Naming
) -> tuple[End, ...]:
    """Where a change of one entry ends, in the order of the forward pass."""
    moving = {leaf: one_entry(leaf, at)}
    ends: list[End] = []
    with np.errstate(all="ignore"):
        for node in order:
            arriving = [i for i, x in enumerate(node.inputs) if x.__class__ is Node and x in moving]
            if node.primitive is None or not arriving:
                continue
            found = [(i, _moved(node, i, moving[node.inputs[i]])) for i in arriving]
            dead = {node.inputs[i]: i for i, p in found[::-1] if not moves(p)}
            ends += [died(node, i, moving[x], naming) for x, i in list(dead.items())[::-1]]
            alive = [(i, p) for i, p in found if moves(p)]
            if not alive:
                continue
            total = alive[0][1]
            for _, p in alive[1:]:
                total = plus(total, p)
            if moves(total):
                moving[node] = total
                ends += [
                    died(node, i, part, naming)
                    for i, p in alive
                    if (part := _lost(node, i, moving[node.inputs[i]], p)) is not None
                ]
            else:
                text = "the changes that arrive here cancel: " + " and ".join(
                    array(p) for _, p in alive
                )
                ends.append(end(node, "cancels", text, naming))
    # what reads or chooses something else is no reason where the entry itself goes on
    beside = ("not read", "other branch")
    return tuple(e for e in ends if e.cause not in beside) or tuple(
        e for e in ends if e.cause != "not read"
    ) or tuple(ends)  # fmt: skip


def _moved(node: Node, i: int, change: Any) -> Any:
    """local × change; of gates that cannot be followed forward, some change if there is any."""
    moved = pushed(node, i, change)
    return guessed(node, i, change) if moved is UNKNOWN else moved


def _lost(node: Node, i: int, change: Any, moved: Any) -> Any:
    """The part of a change that an elementwise gate stops while another part goes on."""
    if isinstance(change, tuple) or isinstance(moved, tuple):
        return None
    assert node.primitive is not None
    form = None if node.primitive.joint else local_of(node, i, operands_of(node))
    if not isinstance(form, (Mask, Diagonal)) or change.shape != np.shape(moved):
        return None
    part = np.where(moved == 0, change, 0)
    return part if moves(part) else None


def died(node: Node, i: int, change: Any, naming: Naming) -> End:
    """Why a gate lets nothing of a change of operand i through."""
    primitive = node.primitive
    assert primitive is not None
    if not primitive.differentiable:
        return end(node, "stopped", "no gradient goes through this gate", naming)
    if isinstance(primitive, Custom):
        return end(node, "custom", "the backward of this gate gives 0 here", naming)
    if not isinstance(node.data, tuple) and 0 in node.shape:
        return end(node, "empty", f"its value of shape {node.shape} has no entries", naming)
    operands = operands_of(node)
    others = [k for k, x in enumerate(operands) if k != i and is_float(x)]
    name = naming[node.inputs[i]]
    form = None if primitive.joint else local_of(node, i, operands)
    if form is None or isinstance(operands[i], tuple) or isinstance(change, tuple):
        return end(node, "flat", f"its local Jacobian is 0 for this change of {name}", naming)
    if isinstance(form, Zero):
        return end(node, "flat", "its slope is 0 everywhere", naming)
    if isinstance(form, (Linear, Contraction)) and moves(form.push(bare.xp, np.abs(change))):
        text = f"the changes of several entries of {name} cancel in the sum"
        return end(node, "cancels", text, naming)
    if moves(form.push(bare.xp, np.sign(np.abs(change)))):
        text = f"the change of {name} is too small for {node.type.dtype}: {number(size(change))}"
        return end(node, "underflows", f"{text} × local", naming)
    if isinstance(form, Linear):
        return end(node, "not read", f"it does not read {_entries(name, change != 0)}", naming)
    if isinstance(form, Contraction) or (
        others and isinstance(form, Diagonal) and form.partial is operands[others[0]]
    ):
        other = node.inputs[others[0]]
        if other is node.inputs[i]:
            return end(node, "stationary", f"its slope is 0 where {name} is 0", naming)
        number_alone = not isinstance(other, Node) and np.size(other) == 1
        which = "0" if number_alone else f"{naming[other]}, which is 0 there"
        return end(node, "times zero", f"{name} is multiplied by {which}", naming)
    # the value of a broadcast is kept in its shape before
    values = np.broadcast_to(operands[i], np.shape(change))
    shown = _values(name, values, np.asarray(change) != 0)
    forms = [local_of(node, k, operands) for k in [i, *others]]
    chosen = isinstance(form, Mask) or selects(node, forms, operands)
    if isinstance(form, Mask) and not others:
        return end(node, "closed", f"it lets no gradient through where {shown}", naming)
    if chosen and isinstance(primitive, Elementwise) and primitive.selectors:
        return end(node, "other branch", f"the other branch is taken where {shown}", naming)
    if chosen and others and all(not isinstance(node.inputs[k], Node) for k in others):
        return end(node, "closed", f"it lets no gradient through where {shown}", naming)
    if chosen:
        text = f"the gradient goes to other entries, not where {shown}"
        return end(node, "routed elsewhere", text, naming)
    if len(others) == 1 and isinstance(node.inputs[others[0]], Node):
        other = np.broadcast_to(operands[others[0]], np.shape(change))
        if not other[np.asarray(change) != 0].any():
            text = f"its slope by {name} is 0, as {naming[node.inputs[others[0]]]} is 0 there"
            return end(node, "times zero", text, naming)
    cause = "saturated" if _saturates(node) else "flat"
    if _slopes_beside(node, i, np.asarray(change) != 0):
        cause = "stationary"
    return end(node, cause, f"its slope is 0 where {shown}", naming)


def _saturates(node: Node) -> bool:
    """Whether a gate of one operand has a slope in the middle and none far out."""
    if len(node.inputs) != 1 or not isinstance(node.primitive, Elementwise):
        return False
    at = slopes(node, np.array([-FAR, 0.5, FAR]))
    return at is not None and bool(at[1]) and min(abs(at[0]), abs(at[2])) < SMALL * abs(at[1])


def _slopes_beside(node: Node, i: int, reached: Any) -> bool:
    """Whether an elementwise gate has slopes by operand i a little beside where it is."""
    primitive, params = node.primitive, node.params or {}
    if not isinstance(primitive, Elementwise):
        return False
    operands = operands_of(node)
    for sign in (1e-3, -1e-3):
        given = list(operands)
        given[i] = operands[i] + np.asarray(sign * (1 + np.abs(operands[i])), operands[i].dtype)
        form = primitive.local(i, bare.xp, np.asarray(primitive.forward(*given, **params)), given,
                               params)  # fmt: skip
        if not isinstance(form, Diagonal):
            return False
        partial = np.broadcast_to(form.partial, np.shape(reached))[reached]
        if not (np.isfinite(partial) & (partial != 0)).all():
            return False
    return True


def _entries(name: str, reached: Any) -> str:
    """Some entries by name: q[1], or the first ones of many."""
    if not np.ndim(reached):
        return name
    where = np.argwhere(reached)
    shown = [f"{name}[{', '.join(map(str, w))}]" for w in where[:3].tolist()]
    return ", ".join(shown) + (f" and {len(where) - 3:,} more" if len(where) > 3 else "")


def _values(name: str, values: Any, reached: Any) -> str:
    """What entries are: "q[1] is -2"."""
    low, high = (number(float(f(values[reached]))) for f in (np.min, np.max))
    verb = "is" if int(reached.sum()) == 1 else "are"
    return f"{_entries(name, reached)} {verb} {low if low == high else f'{low} to {high}'}"


def stopping(
    order: Sequence[Node], leaf: Node, upstream: dict[Node, Any], naming: Naming
) -> tuple[End, ...]:
    """Gates where a gradient that comes back is lost in rounding, or is no number any more.

    `upstream` is the gradient at every node.
    """
    behind = {leaf}
    ends: list[End] = []
    for node in order:
        if any(x.__class__ is Node and x in behind for x in node.inputs) and flows(node):
            behind.add(node)
    with np.errstate(all="ignore"):
        for node in reversed(order):
            g = upstream[node]
            if node not in behind or node.primitive is None or not moves(g) or not finite(g):
                continue
            inputs = enumerate(node.inputs)
            for i in {x: k for k, x in inputs if x.__class__ is Node and x in behind}.values():
                down, name = pulled(node, i, g), naming[node.inputs[i]]
                if down is not None and not finite(down):
                    text = f"what goes back to {name} is not finite: {_about(node, i)}"
                    ends.append(end(node, "not finite", text, naming))
                elif not moves(down) and moves(pulled(node, i, _signs(g))):
                    small = number(size(g))
                    text = f"upstream × local is too small for {node.type.dtype}: {small} × local"
                    ends.append(end(node, "underflows", text, naming))
    return tuple(ends)


def _signs(g: Any) -> Any:
    return tuple(map(_signs, g)) if isinstance(g, tuple) else np.sign(g)


def _about(node: Node, i: int) -> str:
    """The values of a gate where its local Jacobian is not finite, in words."""
    ones = np.ones(node.shape, node.type.dtype) if not isinstance(node.data, tuple) else None
    back = None if ones is None else pulled(node, i, ones)
    if back is None or finite(back):
        return "the product of upstream and local is too large, or NaN"
    values = np.asarray(node.inputs[i].data)
    at = np.unravel_index(int(np.argmax(~np.isfinite(np.asarray(back)))), np.shape(back))
    value = number(float(np.broadcast_to(values, np.shape(back))[at]))
    return f"the slope is {number(float(np.asarray(back)[at]))} at the value {value}"
