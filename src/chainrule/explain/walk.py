"""Walking through a graph: the forward pass gate by gate, then the backward pass.

Backward, each step shows the rule at work: upstream × local = downstream, for every input; where a
value feeds several gates, how the gradients that come back add up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np

from ..core.node import Node
from ..core.primitive import LinearGate
from ..ops.tensor import Tensor
from .explorer import operands_of_record, structure
from .forms import WORDS
from .gates import Explanation, GateRecord, VariableRecord, examine
from .names import Names
from .numbers import array, place, source

MANY = 12
"""So many branches of a value are written one by one."""


@dataclass(frozen=True, eq=False)
class Step:
    """One step: `number` of `total`, "forward" or "backward", and the gate that it is about."""

    number: int
    total: int
    direction: str
    gate: GateRecord
    explanation: Explanation
    complete: tuple[Node, ...] = ()
    """Of a backward step: the inputs to which the last gradient comes back in it."""

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
            names = [n for n, _ in g.branches[:MANY]]
            more = len(g.branches) - len(names)
            names += [f"{more} more"] if more else []
            upstream += f" = {_sum(g.branches)}, from {', '.join(names)}"
        lines.append(upstream)
        for x, operand in zip(g.inputs, operands_of_record(g), strict=True):
            if x.node is None:
                continue
            local, down = array(x.local), array(x.downstream)
            known = list(structure(g, operand, x.name).values())
            if known and isinstance(x.local, str) and isinstance(g.node.primitive, LinearGate):
                lines.append(f"∂{g.name}/∂{x.name}: {known.pop(0)}")  # there are no numbers
            else:
                lines.append(f"∂{g.name}/∂{x.name} = {local}")
            lines += [f"  {text}" for text in known]
            if np.ndim(x.downstream) == 0 and isinstance(x.local, float):
                lines.append(f"  downstream = {array(g.upstream)} × {local} = {down}")
            else:
                lines.append(f"  downstream = upstream × local = {down}")
        lines += [f"{name} gets {parts} = {whole}" for name, parts, whole in self.sums]
        return lines

    @property
    def sums(self) -> list[tuple[str, str, str]]:
        """Of values with several uses that got their last gradient: name, branches, their sum."""
        found = []
        for node in self.complete:
            record = self.explanation.record(node)
            gradient = record.gradient if isinstance(record, VariableRecord) else record.upstream
            if len(record.branches) > 1:
                found.append((record.name, _sum(record.branches), array(gradient)))
        return found

    def json(self) -> dict[str, Any]:
        """The step as plain data."""
        g, back = self.gate, self.direction == "backward"
        inputs: list[dict[str, str]] = []
        for x, operand in zip(g.inputs, operands_of_record(g), strict=True):
            inputs.append({"name": x.name, "value": array(x.value)})
            if back and x.node is not None:
                inputs[-1] |= {"local": array(x.local), "downstream": array(x.downstream)}
                inputs[-1] |= structure(g, operand, x.name)
        found: dict[str, Any] = {
            "number": self.number, "total": self.total, "direction": self.direction,
            "name": g.name, "expression": g.expression, "value": array(g.value), "word": g.word,
            "says": WORDS[g.word], "module": ".".join(g.node.scope), "line": place(g.where),
            "source": source(g.where), "inputs": inputs,
        }  # fmt: skip
        if back:
            found["upstream"] = array(g.upstream)
            found["branches"] = [[n, array(x)] for n, x in g.branches]
            found["sums"] = [list(row) for row in self.sums]
        return found

    def __str__(self) -> str:
        return "\n".join(self.lines())

    __repr__ = __str__


def _sum(branches: Sequence[tuple[str, Any]]) -> str:
    parts = [array(g) for _, g in branches[:MANY]] + ["…"] * (len(branches) > MANY)
    return " + ".join(parts).replace("+ -", "- ")


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
        gate = gates[2 * n - 1 - k]
        last = tuple(self._last.get(gate.node, ()))
        return Step(k + 1, 2 * n, "backward", gate, self.explanation, last)

    @cached_property
    def _last(self) -> dict[Node, list[Node]]:
        """For each gate the inputs that no gate before it uses: backward it is their last one."""
        found: dict[Node, list[Node]] = {}
        seen: set[Node] = set()
        for gate in self.explanation.gates:
            new = [x.node for x in gate.inputs if x.node is not None and x.node not in seen]
            found[gate.node] = list(dict.fromkeys(new))
            seen.update(new)
        return found

    def lines(self) -> Iterator[str]:
        """The text, line by line, as it is made."""
        yield from self.explanation.heading()
        yield self.start
        for step in self:
            yield from step.lines()
        yield self.end

    @property
    def start(self) -> str:
        """The values of the variables, in words."""
        variables = (f"{v.name} = {array(v.value)}" for v in self.explanation.variables)
        return f"start: {', '.join(variables)}"

    @property
    def end(self) -> str:
        """The gradients of the variables, in words."""
        gradients = (
            f"∂{self.explanation.name}/∂{v.name} = {array(v.gradient)}"
            for v in self.explanation.variables
        )
        return f"end: {', '.join(gradients)}"

    def text(self) -> str:
        """All steps, one after the other."""
        return "\n".join(self.lines())

    def json(self, index: int | None = None) -> dict[str, Any]:
        """A step as plain data; without an index all of them, with start and end."""
        if index is not None:
            return self[index].json()
        return {
            "name": self.explanation.name, "start": self.start, "end": self.end,
            "steps": [step.json() for step in self],
        }  # fmt: skip

    def run(self) -> None:
        """Walk in a terminal with keys: → and ← (or n and p), Home, End, g and a number, q.

        Where the input or the output is no terminal, all steps are printed.
        """
        from .terminal import run

        run(self)

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
