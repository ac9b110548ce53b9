"""Walking through a graph: the forward pass gate by gate, then the backward pass.

Backward, each step shows the rule at work: upstream × local = downstream, for every input; where a
value feeds several gates, how the gradients that come back add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from ..core.node import Node
from ..ops.tensor import Tensor
from .explorer import operands_of_record, structure
from .forms import WORDS
from .gates import Explanation, GateRecord, VariableRecord, examine
from .names import Names
from .numbers import array, place, source


@dataclass(frozen=True, eq=False)
class Step:
    """One step: `number` of `total`, "forward" or "backward", and the gate that it is about."""

    number: int
    total: int
    direction: str
    gate: GateRecord
    explanation: Explanation

    def lines(self) -> list[str]:
        """The step as text: the numbers, the rule, the line of the program."""
        g = self.gate
        head = f"{self.number}/{self.total} {self.direction}: {g.name} = {g.expression}"
        where = "  ".join(x for x in (place(g.where), source(g.where)) if x)
        body = self._forward() if self.direction == "forward" else self._backward()
        module = [f"module {'.'.join(g.node.scope)}"] if g.node.scope else []
        return [head, *(f"  {line}" for line in [*body, *module, *([where] if where else [])])]

    def _forward(self) -> list[str]:
        g = self.gate
        seen = dict.fromkeys(x.name for x in g.inputs if x.name != array(x.value))
        values = {x.name: array(x.value) for x in g.inputs}
        given = ", ".join(f"{name} = {values[name]}" for name in seen)
        result = f"{g.name} = {array(g.value)}"
        return [f"{given}  →  {result}" if given else result]

    def _backward(self) -> list[str]:
        g, f = self.gate, self.explanation.name
        lines = [f"{g.word}: {WORDS[g.word]}"]
        upstream = f"upstream ∂{f}/∂{g.name} = {array(g.upstream)}"
        if g.branches and len(g.branches) > 1:
            upstream += f" = {_sum(g.branches)}, from {', '.join(n for n, _ in g.branches)}"
        lines.append(upstream)
        for x, operand in zip(g.inputs, operands_of_record(g), strict=True):
            if x.node is None:
                continue
            local, down = array(x.local), array(x.downstream)
            lines.append(f"∂{g.name}/∂{x.name} = {local}")
            lines += [f"  {text}" for text in structure(g, operand, x.name).values()]
            if np.ndim(x.downstream) == 0 and isinstance(x.local, float):
                lines.append(f"  downstream = {array(g.upstream)} × {local} = {down}")
            else:
                lines.append(f"  downstream = upstream × local = {down}")
        for node in dict.fromkeys(x.node for x in g.inputs if x.node is not None):
            lines += self._arrived(node)
        return lines

    def _arrived(self, node: Node) -> list[str]:
        """Of a value with several uses, when the last gradient has come back: their sum."""
        record = self.explanation.record(node)
        last = min(
            k for k, g in enumerate(self.explanation.gates) if any(x is node for x in g.node.inputs)
        )
        if len(record.branches) < 2 or self.explanation.gates[last] is not self.gate:
            return []
        gradient = record.gradient if isinstance(record, VariableRecord) else record.upstream
        return [f"{record.name} gets {_sum(record.branches)} = {array(gradient)}"]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    __repr__ = __str__


def _sum(branches: Sequence[tuple[str, Any]]) -> str:
    return " + ".join(array(g) for _, g in branches).replace("+ -", "- ")


@dataclass(frozen=True, eq=False)
class Walk(Sequence[Step]):
    """The steps of a graph: forward through all gates, then backward through all of them.

    Steps are made when they are asked for. Prints as all steps.
    """

    explanation: Explanation

    def __len__(self) -> int:
        return 2 * len(self.explanation.gates)

    @overload
    def __getitem__(self, index: int) -> Step: ...
    @overload
    def __getitem__(self, index: slice) -> list[Step]: ...
    def __getitem__(self, index: int | slice) -> Step | list[Step]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        k = range(len(self))[index]
        gates = self.explanation.gates
        n = len(gates)
        if k < n:
            return Step(k + 1, 2 * n, "forward", gates[k], self.explanation)
        return Step(k + 1, 2 * n, "backward", gates[2 * n - 1 - k], self.explanation)

    def text(self) -> str:
        """All steps, one after the other."""
        head = self.explanation.heading()
        variables = [f"{v.name} = {array(v.value)}" for v in self.explanation.variables]
        start = ["start: " + ", ".join(variables)]
        end = ["end: " + ", ".join(
            f"∂{self.explanation.name}/∂{v.name} = {array(v.gradient)}"
            for v in self.explanation.variables
        )]  # fmt: skip
        return "\n".join([*head, *start, *(str(s) for s in self), *end])

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__


def walk(tensor: Tensor | Explanation, names: Names | None = None) -> Walk:
    """The walk through the graph of a Tensor (or an Explanation).

    >>> import chainrule as cr
    >>> x, y = cr.tensor(3.0), cr.tensor(-4.0)
    >>> steps = walk(x * y, names={"x": x, "y": y})
    >>> len(steps)
    2
    >>> print(*steps[1].lines()[:4], sep="\\n")
    2/2 backward: f = x * y
      switches: each input gets the gradient times the other input
      upstream ∂f/∂f = 1
      ∂f/∂x = -4
    """
    return Walk(examine(tensor, names))


def interactive(steps: Walk) -> None:
    """Walk in a terminal with keys: → and ← (or n and p), Home, End, q to leave.

    Where the output is no terminal, all steps are printed.
    """
    import sys

    import typer
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    if not (console.is_terminal and sys.stdin.isatty()) or not len(steps):
        console.print(Text(steps.text()))
        return
    position = 0
    moves = {"\x1b[C": 1, "n": 1, " ": 1, "\x1b[D": -1, "p": -1, "\x1b[H": -len(steps),
             "\x1b[F": len(steps), "\x1b[1~": -len(steps), "\x1b[4~": len(steps)}  # fmt: skip
    while True:
        console.clear()
        for line in _around(steps, position, max(console.height - 16, 8)):
            console.print(line)
        console.rule()
        head, *rest = steps[position].lines()
        console.print(Text(head, style="bold"))
        console.print(Text("\n".join(rest)))
        console.print(Text("→ on   ← back   Home   End   q leave", style="dim"))
        key = typer.getchar()
        if key in ("q", "\x03", "\x04", "\x1b"):
            return
        position = min(max(position + moves.get(key, 0), 0), len(steps) - 1)


def _around(steps: Walk, position: int, height: int) -> list[Any]:
    """The picture of the graph around a step, that line marked."""
    from rich.text import Text

    from .rails import lines
    from .views import Views

    views = Views(steps.explanation, len(steps.explanation.gates))
    items = views.items(views.root)
    shown = lines(items)
    here = next(k for k, i in enumerate(items) if i.record is steps[position].gate)
    first = max(0, min(here - height // 2, len(shown) - height))
    colour = "green" if steps[position].direction == "forward" else "red"
    return [
        Text(("▶ " if k == here else "  ") + shown[k], style=f"bold {colour}" if k == here else "",
             no_wrap=True, overflow="ellipsis")
        for k in range(first, min(first + height, len(shown)))
    ]  # fmt: skip
