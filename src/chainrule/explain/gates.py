"""Every gate of a graph with its numbers: value, upstream gradient, local, downstream.

    downstream = upstream × local

All of it is read from the recorded graph and computed by the engine's own rules, so it is what
`backward` does; no `.grad` is touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ..autodiff.reverse import pull_back
from ..core import bare
from ..core.node import Node, topological
from ..core.primitive import ITEM, LinearGate
from ..errors import DTypeError, GradientError
from ..ops.tensor import Tensor
from .forms import is_float, local_of, numbers_of, operands_of, word
from .names import Names, Naming
from .numbers import array, number

if TYPE_CHECKING:
    from rich.table import Table

HEADER = ("gate", "value", "gradient", "does", "input", "local", "downstream")
INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**"}
"""How gates are written (what they do is never read from their names)."""


@dataclass(frozen=True, eq=False)
class InputRecord:
    """One input of a gate: its value, the local partial derivative, and what flows down to it.

    A constant has `node`, `local` and `downstream` None. `local` is a number or an array where the
    local Jacobian is one, else words.
    """

    name: str
    value: Any
    node: Node | None = None
    local: Any = None
    downstream: Any = None
    source: Any = None
    """The array itself, of a constant."""


@dataclass(frozen=True, eq=False)
class GateRecord:
    """One gate: `name = expression`, its value, the gradient of the result by it, its inputs.

    `word` says what the gate does to gradients. `branches` are the contributions that add up to
    the upstream gradient, each with the name of the gate it came from. What is not a field is
    worked out when it is first asked for.
    """

    name: str
    gate: str
    value: Any
    upstream: Any
    node: Node
    _found: _Found

    @cached_property
    def expression(self) -> str:
        naming = self._found.naming
        return expression_of(self.node, [naming[x] for x in self.node.inputs])

    @cached_property
    def word(self) -> str:
        return word(self.node)

    @cached_property
    def where(self) -> str:
        """The line of the user's program, as `file.py:12`."""
        return self.node.line

    @property
    def inputs(self) -> tuple[InputRecord, ...]:
        return self._found.inputs(self.node)

    @cached_property
    def branches(self) -> tuple[tuple[str, Any], ...]:
        return self._found.branches(self.node)


@dataclass(frozen=True, eq=False)
class VariableRecord:
    """One variable: its value, the gradient of the result by it, and the branches that add up."""

    name: str
    value: Any
    gradient: Any
    node: Node
    _found: _Found

    @cached_property
    def branches(self) -> tuple[tuple[str, Any], ...]:
        return self._found.branches(self.node)


class _Found:
    """What was found of a graph: all gradients; inputs of gates as they are asked for."""

    def __init__(self, order: Sequence[Node], upstream: dict[Node, Any], naming: Naming) -> None:
        self.order, self.upstream, self.naming = order, upstream, naming
        self._inputs: dict[Node, tuple[InputRecord, ...]] = {}

    def inputs(self, node: Node) -> tuple[InputRecord, ...]:
        """The inputs of a gate, with local and downstream."""
        if node not in self._inputs:
            with np.errstate(all="ignore"):
                self._inputs[node] = _inputs(node, self.upstream[node], self.naming)
        return self._inputs[node]

    @cached_property
    def users(self) -> dict[Node, list[Node]]:
        """The gates that use a value, each once, in the order in which they ran."""
        found: dict[Node, list[Node]] = {n: [] for n in self.order}
        for node in self.order:
            for x in dict.fromkeys(x for x in node.inputs if x.__class__ is Node):
                found[x].append(node)
        return found

    def branches(self, node: Node) -> tuple[tuple[str, Any], ...]:
        """What flows back to a value, from each place where it is used."""
        back = [
            [(self.naming[user], x.downstream) for x in self.inputs(user) if x.node is node]
            for user in self.users[node]
        ]
        return tuple(pair for pairs in back for pair in reversed(pairs))


@dataclass(frozen=True, eq=False)
class Explanation:
    """The variables and gates of a result, in forward order, with all their numbers."""

    name: str
    value: Any
    variables: tuple[VariableRecord, ...]
    gates: tuple[GateRecord, ...]
    naming: Naming
    expression: str | None = None
    kernels: Mapping[Node, str] | None = None
    """Of a compiled function: which kernel computes each gate, in words."""

    @property
    def node(self) -> Node:
        """The node of the result."""
        return (self.gates or self.variables)[-1].node

    def place(self, node: Node) -> str:
        """Where a node stands, as text that is short: "g3" is `gates[3]`, "v0" `variables[0]`."""
        return self._places[node]

    def record(self, node: Node) -> VariableRecord | GateRecord:
        """The record of a node."""
        place = self.place(node)
        return (self.variables if place[0] == "v" else self.gates)[int(place[1:])]

    @cached_property
    def _places(self) -> dict[Node, str]:
        return {
            **{v.node: f"v{k}" for k, v in enumerate(self.variables)},
            **{g.node: f"g{k}" for k, g in enumerate(self.gates)},
        }

    def rows(self, digits: int = 4) -> list[tuple[str, ...]]:
        """The cells of the table, under `HEADER`; a gate takes a row for each of its inputs."""

        def write(x: float) -> str:
            return number(x, digits)

        result: list[tuple[str, ...]] = []
        for v in self.variables:
            does = f"adds {len(v.branches)} branches" if len(v.branches) > 1 else ""
            gradient = total(v.gradient, v.branches, write)
            result.append((v.name, array(v.value, write), gradient, does, "", "", ""))
        for gate in self.gates:
            first = (
                f"{gate.name} = {gate.expression}", array(gate.value, write),
                total(gate.upstream, gate.branches, write), gate.word,
            )  # fmt: skip
            for x in gate.inputs:
                constant = x.node is None
                local = "constant" if constant else array(x.local, write)
                downstream = "" if constant else array(x.downstream, write)
                result.append((*first, x.name, local, downstream))
                first = ("", "", "", "")
        return result

    def text(self, digits: int = 4) -> str:
        """The whole as an aligned table in plain text."""
        rows = [HEADER, *self.rows(digits)]
        widths = [max(len(row[k]) for row in rows) for k in range(len(HEADER))]
        left = (0, 3, 4)
        lines = [
            "  ".join(
                cell.ljust(w) if k in left else cell.rjust(w)
                for k, (cell, w) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        lines.insert(1, "  ".join("─" * w for w in widths))
        return "\n".join([*self.heading(), *lines])

    def heading(self) -> list[str]:
        """The expression, and of what the gradients are where the result is not one number."""
        lines = [f"{self.name} = {self.expression}", ""] if self.expression else []
        return [*lines, *([self.note, ""] if self.note else [])]

    @property
    def note(self) -> str:
        """Of what the gradients are, where the result is not one number."""
        size = np.size(self.value)
        if size == 1:
            return ""
        return f"The gradients are of the sum of the {size} entries of {self.name}."

    def table(self, digits: int = 4) -> Table:
        """The whole as a table of rich, for terminals."""
        from rich.table import Table
        from rich.text import Text

        styles = ("bold", "green", "red", "cyan", "", "", "red")
        result = Table(title=" ".join(self.heading()).strip() or None, title_justify="left")
        for k, (name, style) in enumerate(zip(HEADER, styles, strict=True)):
            result.add_column(name, style=style, justify="left" if k in (0, 3, 4) else "right")
        for row in self.rows(digits):
            result.add_row(*map(Text, row))
        return result

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__


def total(gradient: Any, branches: Sequence[tuple[str, Any]], write: Any) -> str:
    """A gradient, as the sum of its branches where that is a short sum of numbers: 3 + 4 = 7."""
    parts = [g for _, g in branches]
    if 1 < len(parts) <= 4 and np.ndim(gradient) == 0 and not isinstance(gradient, tuple):
        summed = " + ".join(write(float(g)) for g in parts).replace("+ -", "- ")
        return f"{summed} = {array(gradient, write)}"
    return array(gradient, write)


def examine(result: Tensor | Explanation, names: Names | None = None) -> Explanation:
    """Walk the graph of a result: gradients from the output back, records from the inputs on.

    `names` maps names to Tensors; without it, the local variables of the calling function serve.
    The result of a shape has the gradient of the sum of its entries. An Explanation is returned as
    it is.
    """
    if isinstance(result, Explanation):
        return result
    order, naming = opened(result, names)
    node = order[-1]
    upstream = gradients(order, node)
    found = _Found(order, upstream, naming)
    gates = tuple(
        GateRecord(naming[n], n.name, _view(n.value), _view(upstream[n]), n, found)
        for n in order
        if n.primitive is not None
    )
    variables = tuple(
        VariableRecord(naming[n], _view(n.value), _view(upstream[n]), n, found)
        for n in order
        if n.primitive is None
    )
    return Explanation(naming[node], _view(node.value), variables, gates, naming)


def opened(result: Any, names: Names | None) -> tuple[list[Node], Naming]:
    """The nodes of a result (a Tensor or an Explanation) in forward order, and their names."""
    if isinstance(result, Explanation):
        return topological([result.node]), result.naming
    node = checked(result)
    order = topological([node])
    return order, Naming(order, node, names)


def checked(result: Any) -> Node:
    """The node of a result that can be explained; others are refused with the reason."""
    if not isinstance(result, Tensor):
        raise DTypeError(f"only Tensors are explained, received {type(result).__name__}")
    result._concrete("an explanation")
    if result.node is None:
        raise GradientError(
            "a constant has no gates to explain: it was computed from no variable. Make variables "
            "with cr.tensor or cr.Parameter (and not inside cr.no_grad)"
        )
    return result.node


def gradients(order: Sequence[Node], result: Node) -> dict[Node, Any]:
    """The gradient of the (sum of the) result by every node, as `backward` computes it."""
    found: dict[Node, Any] = {}
    table: dict[Node, Any] = {result: np.ones(result.shape, result.type.dtype)}
    with np.errstate(all="ignore"):
        for node in reversed(order):  # one gate at a time, to keep what the engine forgets
            if node in table:
                found[node] = table[node]
                pull_back([node], table, bare.xp, lambda *visited: None)
    for node in order:  # in the graph, but nothing came back: the gradient is 0
        if node not in found:
            found[node] = _zeros(node)
        elif isinstance(found[node], list):
            zeros = _zeros(node)
            found[node] = tuple(
                z if g is None else g for g, z in zip(found[node], zeros, strict=True)
            )
    return found


def _zeros(node: Node) -> Any:
    if isinstance(node.data, tuple):
        return tuple(np.zeros(d.shape, d.dtype) for d in node.data)
    return np.zeros(node.shape, node.type.dtype)


def _inputs(node: Node, upstream: Any, naming: Naming) -> tuple[InputRecord, ...]:
    """The inputs of a gate, with local and downstream for those that have a gradient."""
    assert node.primitive is not None
    operands = operands_of(node)
    joint = _pull(node, operands, upstream) if node.primitive.joint else None
    result = []
    for i, x in enumerate(node.inputs):
        if not isinstance(x, Node):
            if is_float(x) or not isinstance(node.primitive, LinearGate):
                result.append(InputRecord(naming[x], _view(np.asarray(x)), source=x))
            continue  # the index tables of a gather are part of the gate
        other = naming[node.inputs[1 - i]] if len(node.inputs) == 2 else ""
        if node.primitive is ITEM:
            index = node.params["index"]  # type: ignore[index]
            down = tuple(upstream if k == index else z for k, z in enumerate(_zeros(x)))
            result.append(InputRecord(naming[x], x.value, x, 1.0, down))
            continue
        form = None if joint is not None else local_of(node, i, operands)
        down = joint[i] if form is None else form.pull(bare.xp, upstream)  # type: ignore[index]
        down = _zeros(x) if down is None else down
        local = _local(node, i, form, operands, other)
        result.append(InputRecord(naming[x], _view(x.value), x, local, _view(down)))
    return tuple(result)


def _local(node: Node, i: int, form: Any, operands: Sequence[Any], other: str) -> Any:
    """The local partial: a number if one entry goes in and one comes out, else the form's own."""
    if not isinstance(node.data, tuple) and prod(node.shape) == 1 == np.size(operands[i]):
        one = np.ones(node.shape, node.type.dtype)
        pulled = _pull(node, operands, one)[i] if form is None else form.pull(bare.xp, one)
        return 0.0 if pulled is None else float(np.reshape(pulled, ()))
    return f"backward of {node.name}" if form is None else numbers_of(form, node, i, other)


def _pull(node: Node, operands: Sequence[Any], upstream: Any) -> Sequence[Any]:
    """upstream × local for all inputs at once, of the gates that answer so."""
    assert node.primitive is not None
    wanted = [isinstance(x, Node) for x in node.inputs]
    return node.primitive.pull_all(
        bare.xp, upstream, node.data, operands, node.params or {}, wanted
    )


def _view(value: Any) -> Any:
    """A value that cannot be written to: it may be the graph's own."""
    if isinstance(value, (tuple, list)):
        return tuple(_view(v) for v in value)
    view = np.asarray(value).view()
    view.flags.writeable = False
    return view


def expression_of(node: Node, names: Sequence[str]) -> str:
    """A gate as written in a program: `x + y`, `exp(q)`.

    >>> import chainrule as cr
    >>> expression_of((cr.tensor(1.0) - 2.0).node, ["x", "2"])
    'x - 2'
    """
    params = node.params or {}
    shown = [f"({n})" if n.startswith("-") else n for n in names]
    if node.name in INFIX and len(names) == 2:
        return f"{shown[0]} {INFIX[node.name]} {shown[1]}"
    if node.name == "neg":
        return f"-{shown[0]}"
    if isinstance(node.primitive, LinearGate):
        return f"{node.name}({names[0]})"
    if node.name == "contract" and is_matmul(params["spec"]):
        return f"{names[0]} @ {names[1]}"
    assert node.primitive is not None
    details = node.primitive.describe(params)
    return f"{node.name}({', '.join([*names, details] if details else names)})"


def is_matmul(spec: str) -> bool:
    """Whether a contraction is a product of matrices or vectors: the last letter by the first.

    >>> is_matmul("ij,jk->ik"), is_matmul("ij,ik->jk")
    (True, False)
    """
    operands, out = spec.split("->")
    a, b = operands.split(",")
    return 0 < len(a) < 3 and 0 < len(b) < 3 and a[-1] == b[0] and out == a[:-1] + b[1:]


def gates(result: Tensor, names: Names | None = None) -> list[GateRecord]:
    """Every gate of the graph in forward order, with its value and its gradients.

    >>> import chainrule as cr
    >>> x, y, z = cr.tensor(-2.0), cr.tensor(5.0), cr.tensor(-4.0)
    >>> for gate in gates((x + y) * z):
    ...     print(gate.name, "=", gate.expression, float(gate.value), float(gate.upstream))
    q = x + y 3.0 -4.0
    f = q * z -12.0 1.0
    """
    return list(examine(result, names).gates)


def text(result: Tensor, names: Names | None = None, digits: int = 4) -> str:
    """Every variable and gate as an aligned table: downstream = upstream × local.

    >>> import chainrule as cr
    >>> x = cr.tensor(3.0)
    >>> print(text(x * x + x))
    gate       value       gradient  does             input  local  downstream
    ─────────  ─────  ─────────────  ───────────────  ─────  ─────  ──────────
    x              3  3 + 3 + 1 = 7  adds 3 branches
    q = x * x      9              1  switches         x          3           3
                                                      x          3           3
    f = q + x     12              1  distributes      q          1           1
                                                      x          1           1
    """
    return examine(result, names).text(digits)


def table(result: Tensor, names: Names | None = None, digits: int = 4) -> Table:
    """The same as a table of rich: `rich.print(table(f))`."""
    return examine(result, names).table(digits)
