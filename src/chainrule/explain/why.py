"""Why is this gradient zero, or missing? The place where the way to the result ends, and why.

A small change of the entry is followed forward through the gates, by their own local Jacobians. A
gradient is zero exactly if that change never arrives: it dies at gates whose local Jacobian is 0
where it comes in, or changes of several paths cancel where they meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import bare
from ..core.local import Contraction, Diagonal, Linear, Mask, Product, Zero
from ..core.node import Node, topological
from ..core.primitive import ITEM
from ..errors import ChainruleError
from ..ops.custom import Custom
from ..ops.tensor import Parameter, Tensor
from .forms import is_float, local_of, operands_of, selects
from .gates import checked, expression_of, gradients
from .names import Names, Naming, from_caller
from .numbers import array, number, place, source
from .paths import between, entry_of


@dataclass(frozen=True, eq=False)
class End:
    """Where a change of the entry ends: the gate, what it does there, its place in the program."""

    cause: str
    """"flat", "closed", "routed elsewhere", "times zero", "stopped", "cancels", "not read" or
    "custom"."""
    gate: str
    text: str
    module: str = ""
    line: str = ""
    code: str = ""

    def __str__(self) -> str:
        where = f"in module {self.module}, " if self.module else ""
        where += f"at {self.line}" if self.line else ""
        parts = [f"{self.gate}: {self.text}", where.removesuffix(", "), self.code]
        return "\n    ".join(p for p in parts if p)


@dataclass(frozen=True, eq=False)
class Why:
    """The answer: `cause`, what it means in `text`, and the places, `ends`.

    `cause` is "no path", "constant", "zero", "cancels" or "not zero".
    """

    entry: str
    result: str
    gradient: float | None
    cause: str
    text: str
    ends: tuple[End, ...] = ()

    def __str__(self) -> str:
        value = "None" if self.gradient is None else number(self.gradient)
        lines = [f"∂{self.result}/∂{self.entry} = {value}: {self.text}"]
        lines += [f"  {end}" for end in self.ends[:8]]
        if len(self.ends) > 8:
            lines.append(f"  … and {len(self.ends) - 8} more places")
        return "\n".join(lines)

    __repr__ = __str__


def why(
    result: Tensor, variable: Tensor, index: int | tuple[int, ...] | None = None,
    names: Names | None = None,
) -> Why:  # fmt: skip
    """Why the gradient of a result by an entry of a variable is what it is.

    `index` is an entry, by default that with the largest gradient. Of a gradient that is zero or
    missing, the places where the way ends; of another, its largest paths.

    >>> import chainrule as cr
    >>> x = cr.tensor([1.0, -2.0])
    >>> f = cr.relu(x).sum()
    >>> answer = why(f, x, 1, names={"x": x, "f": f})
    >>> answer.cause, answer.ends[0].cause, answer.ends[0].gate
    ('zero', 'closed', 'q = relu(x)')
    """
    root = checked(result)
    order = topological([root])
    naming = Naming(order, root, names)
    name = _name(variable, naming, from_caller() if names is None else names)
    leaf = variable.node if isinstance(variable, Tensor) else None
    if leaf is None:
        return Why(
            name, naming[root], None, "constant",
            f"{name} is a constant, and gradients are taken by variables only. Make it with "
            "cr.tensor or cr.Parameter; what is computed under cr.no_grad, by detach() or "
            "stop_gradient(), in integers, or by NumPy is a constant, too.",
            _where_it_enters(order, variable, naming),
        )  # fmt: skip
    if leaf not in naming.nodes:
        return Why(
            name, naming[root], None, "no path",
            f"no path leads from {name} to {naming[root]}: it was not used for it, or only "
            "through values that are constants (detach, stop_gradient, no_grad, float(), "
            "comparisons and casts to integers, NumPy), or it was assigned anew afterwards.",
            _where_it_enters(order, variable, naming),
        )  # fmt: skip
    gradient = gradients(order, root)[leaf]
    at = entry_of(variable, index, gradient)
    return reason(order, naming, leaf, gradient, at)


def reason(
    order: Sequence[Node], naming: Naming, leaf: Node, gradient: Any, at: tuple[int, ...]
) -> Why:
    """The same of nodes: `order` ends with the result, `gradient` is that of the leaf."""
    root, name, value = order[-1], naming[leaf], float(gradient[at])
    entry = name + (f"[{', '.join(map(str, at))}]" if at else "")
    if value:
        found = between(order, naming, leaf, gradient, at, 3)
        many = f"the sum over {found.count:,} paths, the largest" if found.count > 1 else "one path"
        rows = "; ".join(f"{p}: {number(p.contribution)}" for p in found.paths)
        return Why(entry, naming[root], value, "not zero", f"{many} {rows}")
    ends = _follow(order, leaf, at, naming)
    if ends and all(e.cause == "cancels" for e in ends):
        text = "changes of it arrive, and those of several paths cancel."
        return Why(entry, naming[root], value, "cancels", text, ends)
    text = f"a change of it never arrives at {naming[root]}; it ends here:"
    return Why(entry, naming[root], value, "zero", text, ends)


def _name(variable: Any, naming: Naming, names: Names) -> str:
    if isinstance(variable, Tensor) and variable.node in naming.nodes:
        return naming[variable.node]
    found = [k for k, v in names.items() if v is variable]
    own = variable.name if isinstance(variable, Parameter) else ""
    return (found or [own or "x"])[0]


def _where_it_enters(order: Sequence[Node], variable: Any, naming: Naming) -> tuple[End, ...]:
    """The gates that read the very memory of a variable as a constant."""
    value = variable._value if isinstance(variable, Tensor) else variable
    ends = []
    for node in order:
        for x in node.inputs:
            arrays = isinstance(x, np.ndarray) and isinstance(value, np.ndarray) and value.size
            if arrays and np.shares_memory(x, value):
                ends.append(_end(node, "stopped", "reads its value as a constant", naming))
    return tuple(ends)


def _follow(
    order: Sequence[Node], leaf: Node, at: tuple[int, ...], naming: Naming
) -> tuple[End, ...]:
    """Push a change of one entry through the graph: where it ends."""
    start = np.zeros(leaf.shape, leaf.type.dtype)
    start[at] = 1
    moving: dict[Node, Any] = {leaf: start}
    ends: list[End] = []
    with np.errstate(all="ignore"):
        for node in order:
            arriving = [i for i, x in enumerate(node.inputs) if x.__class__ is Node and x in moving]
            if node.primitive is None or not arriving:
                continue
            pushed = [(i, p) for i in arriving if (p := _pushed(node, i, moving)) is not None]
            alive = [(i, p) for i, p in pushed if _any(p)]
            if not alive:
                ends.append(_died(node, arriving, moving, naming))
                continue
            total = alive[0][1]
            for _, p in alive[1:]:
                total = _plus(total, p)
            if _any(total):
                moving[node] = total
            else:
                text = "the changes that arrive here cancel: " + " and ".join(
                    array(p) for _, p in alive
                )
                ends.append(_end(node, "cancels", text, naming))
    return tuple(ends)


def _any(x: Any) -> bool:
    return any(map(_any, x)) if isinstance(x, tuple) else bool(np.any(x))


def _plus(a: Any, b: Any) -> Any:
    return tuple(map(_plus, a, b)) if isinstance(a, tuple) else a + b


def _pushed(node: Node, i: int, moving: dict[Node, Any]) -> Any:
    """local × the change of one operand."""
    change = moving[node.inputs[i]]
    primitive = node.primitive
    assert primitive is not None
    if not primitive.differentiable:
        return None
    if primitive is ITEM:
        return change[node.params["index"]]  # type: ignore[index]
    operands = operands_of(node)
    if primitive.joint:
        tangents = [change if k == i else None for k in range(len(node.inputs))]
        try:
            return primitive.push_all(bare.xp, tangents, node.data, operands, node.params or {})
        except ChainruleError:  # a user's gate that has a backward only: nothing is known of it
            return np.ones(node.shape, node.type.dtype)
    return local_of(node, i, operands).push(bare.xp, change)


def _died(node: Node, arriving: Sequence[int], moving: dict[Node, Any], naming: Naming) -> End:
    """Why a gate lets nothing through."""
    i = arriving[0]
    primitive = node.primitive
    assert primitive is not None
    operands = operands_of(node)
    if not primitive.differentiable:
        return _end(node, "stopped", "no gradient goes through this gate", naming)
    if isinstance(primitive, Custom):
        return _end(node, "custom", "the backward of this gate gives 0 here", naming)
    form = None if primitive.joint else local_of(node, i, operands)
    others = [k for k, x in enumerate(operands) if k != i and is_float(x)]
    name = naming[node.inputs[i]]
    if isinstance(form, Zero):
        return _end(node, "flat", "its slope is 0 everywhere", naming)
    if isinstance(form, (Linear, Contraction)):
        sizes = form.push(bare.xp, np.abs(moving[node.inputs[i]]))
        if _any(sizes):
            text = f"the changes of several entries of {name} cancel in the sum"
            return _end(node, "cancels", text, naming)
    if isinstance(form, Linear):
        return _end(node, "not read", f"it does not read this entry of {name}", naming)
    if isinstance(form, Contraction) or (
        others and isinstance(form, Diagonal) and form.partial is operands[others[0]]
    ):
        other = naming[node.inputs[others[0]]]
        return _end(
            node, "times zero", f"{name} is multiplied by {other}, which is 0 there", naming
        )
    reached = np.asarray(moving[node.inputs[i]]) != 0
    values = np.asarray(operands[i])[reached]
    shown = f"{name} is {_range(values)} there"
    forms = [local_of(node, k, operands) for k in [i, *others]] if form is not None else []
    chosen = isinstance(form, Mask) or selects(node, forms, operands)
    if isinstance(form, Mask) and not others:
        return _end(node, "closed", f"it lets no gradient through; {shown}", naming)
    if chosen or (isinstance(form, Product) and primitive.name in ("max", "min")):
        return _end(
            node, "routed elsewhere", f"the gradient goes to other entries; {shown}", naming
        )
    return _end(node, "flat", f"its slope is 0 at these values; {shown}", naming)


def _range(values: Any) -> str:
    low, high = number(float(values.min())), number(float(values.max()))
    return low if low == high else f"{low} to {high}"


def _end(node: Node, cause: str, text: str, naming: Naming) -> End:
    expression = expression_of(node, [naming[x] for x in node.inputs])
    return End(
        cause, f"{naming[node]} = {expression}", text, ".".join(node.scope), place(node.line),
        source(node.line),
    )  # fmt: skip
