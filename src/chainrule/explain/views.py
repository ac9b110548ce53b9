"""What is drawn together: a graph as boxes that open, each a view of its own.

A box is one call of a module, or, where there are too many gates for one picture, a run of gates
one after the other. Both are intervals of the order in which the gates ran, so what is outside of a
box never depends on a part of it and feeds another part: boxes can be drawn as gates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np

from ..core.node import Node
from .gates import Explanation, GateRecord, InputRecord, VariableRecord

FLAT = 40
"""Graphs of at most so many gates are drawn whole."""
MOST = 24
"""A view has at most about so many gates and boxes; beyond that, runs of them become boxes."""
RUN = (8, 16)
"""How many parts a run has, at least and at most."""


@dataclass(eq=False)
class Box:
    """Gates `start` to `stop` of an explanation, drawn as one.

    `key` names it in a page, "0.2" the third box of the first; "" is the whole graph. `module` is
    the path of modules that it is a call of, empty for a run of gates.
    """

    name: str
    start: int
    stop: int
    depth: int
    module: tuple[str, ...] = ()
    key: str = ""
    parent: Box | None = None
    parts: list[Box | int] = field(default_factory=list)
    """Boxes, and gates by their position, in the order in which they ran."""

    @property
    def gates(self) -> int:
        return self.stop - self.start

    @property
    def boxes(self) -> Iterator[Box]:
        """This box and all inside, outer ones first."""
        stack = [self]
        while stack:
            box = stack.pop()
            yield box
            stack += [b for b in reversed(box.parts) if isinstance(b, Box)]

    @property
    def way(self) -> list[Box]:
        """The boxes around it and itself, from the whole graph on."""
        found: list[Box] = []
        box: Box | None = self
        while box is not None:
            found.append(box)
            box = box.parent
        return found[::-1]


def boxes_of(explanation: Explanation, flat: int = FLAT) -> Box:
    """The whole graph as a box, with all boxes inside; of few gates, without any."""
    gates = explanation.gates
    root = Box(explanation.name, 0, len(gates), 0)
    if len(gates) <= flat:
        root.parts = list(range(len(gates)))
        return root
    scopes = [g.node.scope for g in gates]
    cuts = _wires_across([g.node for g in gates])
    stack = [root]
    while stack:
        box = stack.pop()
        box.parts = _calls(box, scopes)
        stack += [b for b in box.parts if isinstance(b, Box)]
        while len(box.parts) > MOST:
            box.parts = _runs(box, cuts)
    for box in root.boxes:
        _name(box)
    return root


def _calls(box: Box, scopes: Sequence[tuple[str, ...]]) -> list[Box | int]:
    """The gates of a box, with a box for every call of a module inside."""
    gates = range(box.start, box.stop)
    while all(scopes[k][box.depth : box.depth + 1] == scopes[box.start][box.depth : box.depth + 1]
              and len(scopes[k]) > box.depth for k in gates):  # fmt: skip
        box.depth += 1  # it is all of the box: what is inside stands here
    parts: list[Box | int] = []
    for scope, group in groupby(gates, lambda k: scopes[k][: box.depth + 1]):
        members = list(group)
        if len(scope) <= box.depth or len(members) == 1:
            parts += members
        else:
            parts.append(Box(scope[-1], members[0], members[-1] + 1, box.depth + 1, scope))
    return parts


def _runs(box: Box, cuts: Sequence[int]) -> list[Box | int]:
    """The parts with neighbours put into boxes, cut where few wires pass."""
    parts, found = box.parts, list[Box | int]()
    starts = [p.start if isinstance(p, Box) else p for p in parts] + [box.stop]
    first = 0
    while first < len(parts):
        last = min(first + RUN[1], len(parts))
        ends = range(min(first + RUN[0], last), last + 1)
        end = min(ends, key=lambda e: (cuts[starts[e]], -e))
        if end - first == 1:
            found.append(parts[first])
        else:
            start, stop = starts[first], starts[end]
            run = Box(f"gates {start + 1}–{stop}", start, stop, box.depth)
            run.parts = parts[first:end]
            found.append(run)
        first = end
    return found


def _wires_across(nodes: Sequence[Node]) -> list[int]:
    """For every place between two gates, how many values pass from before it to behind it."""
    place = {n: k for k, n in enumerate(nodes)}
    change = np.zeros(len(nodes) + 2, int)
    last = list(range(len(nodes)))
    for k, node in enumerate(nodes):
        for x in node.inputs:
            if x.__class__ is Node and x in place:
                last[place[x]] = k
    for k, end in enumerate(last):
        change[k + 1] += 1
        change[end + 1] -= 1
    return [int(n) for n in np.cumsum(change)]


def _name(box: Box) -> None:
    """Keys and parents; several calls of one module are told apart: conv, conv (2)."""
    seen: dict[str, int] = {}
    inside = [part for part in box.parts if isinstance(part, Box)]
    for number, part in enumerate(inside):
        part.parent = box
        part.key = f"{box.key}.{number}" if box.key else str(number)
        seen[part.name] = count = seen.get(part.name, 0) + 1
        if count > 1:
            part.name += f" ({count})"


# -- what a picture of a box shows ----------------------------------------------------------------


@dataclass(eq=False)
class Wire:
    """A value that enters an item: from which item, of which node, and what flows back along it."""

    source: int
    node: Node | None
    downstream: Any = None


@dataclass(eq=False)
class Item:
    """One thing in a view.

    `kind` is "variable", "constant", "gate", "box", "outlet" (one of several values that leave a
    box) or "outside" (a value from outside of the view). `node` is what its wire carries, None for
    a constant; `record` the record of a variable or gate.
    """

    kind: str
    name: str
    node: Node | None = None
    record: GateRecord | VariableRecord | None = None
    box: Box | None = None
    value: Any = None
    gradient: Any = None
    wires: list[Wire] = field(default_factory=list)
    leaves: bool = False
    """Whether its value leaves the view, or is the result."""
    uses: int = 0
    """How many items it feeds."""


class Views:
    """The boxes of an explanation, and the items that a picture of each shows."""

    def __init__(self, explanation: Explanation, flat: int = FLAT) -> None:
        self.explanation = explanation
        self.root = boxes_of(explanation, flat)
        self.records: dict[Node, VariableRecord | GateRecord] = {
            **{v.node: v for v in explanation.variables}, **{g.node: g for g in explanation.gates}
        }  # fmt: skip
        self.uses: dict[Node, tuple[int, int]] = {}
        """The first and the last gate that uses a value, by position."""
        for k, gate in enumerate(explanation.gates):
            for x in gate.node.inputs:
                if x.__class__ is Node:
                    self.uses[x] = (self.uses.get(x, (k, k))[0], k)

    def items(self, box: Box) -> list[Item]:
        """The items of a box, what feeds an item before it."""
        return _View(self, box).items

    def leaving(self, box: Box) -> list[Node]:
        """The values made in a box that are used behind it, or are the result."""
        gates = self.explanation.gates[box.start : box.stop]
        last = len(self.explanation.gates)
        return [g.node for g in gates if self.uses.get(g.node, (last, last))[1] >= box.stop
                or (box.stop == last and g.node is gates[-1].node)]  # fmt: skip

    def hidden(self, node: Node, box: Box) -> bool:
        """Whether a variable is drawn inside a box only: nothing else uses it, or calls it by name
        (a model's Parameters and state are so)."""
        if node.primitive is not None or node in self.explanation.naming.given:
            return False
        first, last = self.uses[node]
        return box.start <= first and last < box.stop


class _View:
    """The items of one box, as they are found."""

    def __init__(self, views: Views, box: Box) -> None:
        self.views, self.box = views, box
        self.items: list[Item] = []
        self.made: dict[Any, int] = {}
        """Nodes, and constants by their id, and by which item they are made."""
        self.leaves = set(views.leaving(box))
        for part in box.parts:
            if isinstance(part, Box):
                self._add_box(part)
            else:
                self._add_gate(views.explanation.gates[part])
        if not box.parts:  # a variable alone
            for v in views.explanation.variables:
                self.items[self._source(v.node)].leaves = True
        for item in self.items:
            for source in {w.source for w in item.wires}:
                self.items[source].uses += 1

    def _put(self, key: Any, item: Item) -> int:
        self.items.append(item)
        self.made[key] = len(self.items) - 1
        return self.made[key]

    def _source(self, node: Node) -> int:
        """The item that makes a value: a variable is put in where it is first used."""
        if node in self.made:
            return self.made[node]
        record = self.views.records[node]
        gradient = record.gradient if isinstance(record, VariableRecord) else record.upstream
        kind = "variable" if isinstance(record, VariableRecord) else "outside"
        return self._put(node, Item(kind, record.name, node, record, None, record.value, gradient))

    def _constant(self, x: InputRecord) -> int:
        if id(x.source) not in self.made:
            return self._put(id(x.source), Item("constant", x.name, value=x.value))
        return self.made[id(x.source)]

    def _add_gate(self, gate: GateRecord) -> None:
        wires = []
        for x in gate.inputs:
            if x.node is not None:
                wires.append(Wire(self._source(x.node), x.node, x.downstream))
            elif np.size(x.value) > 1:  # numbers are part of the gate, arrays have their own wire
                wires.append(Wire(self._constant(x), None))
        item = Item("gate", gate.name, gate.node, gate, None, gate.value, gate.upstream, wires,
                    gate.node in self.leaves)  # fmt: skip
        self._put(gate.node, item)

    def _add_box(self, box: Box) -> None:
        """A closed box: values that enter with the sum of what flows back, and those that leave."""
        gates = self.views.explanation.gates[box.start : box.stop]
        own = {g.node for g in gates}
        entering: dict[Node, Any] = {}
        constants: list[InputRecord] = []
        for gate in gates:
            for x in gate.inputs:
                if x.node is None:
                    if np.size(x.value) > 1:
                        constants.append(x)
                elif x.node not in own and not self.views.hidden(x.node, box):
                    before = entering.get(x.node)
                    entering[x.node] = (
                        x.downstream if before is None else _sum(before, x.downstream)
                    )
        wires = [Wire(self._source(n), n, g) for n, g in entering.items()]
        if not wires:  # what it computes from: data
            wires = [Wire(self._constant(x), None) for x in constants[:1]]
        out = self.views.leaving(box)
        item = Item("box", box.name, None, None, box, None, None, wires)
        place = self._put(box, item)
        if len(out) == 1:
            self._out(item, out[0])
            self.made[out[0]] = place
            return
        for node in out:
            outlet = Item("outlet", self.views.records[node].name, wires=[Wire(place, None)])
            self._out(outlet, node)
            self._put(node, outlet)

    def _out(self, item: Item, node: Node) -> None:
        """Let an item carry a value that leaves a closed box."""
        record = self.views.records[node]
        assert isinstance(record, GateRecord)
        item.node, item.value, item.gradient = node, record.value, record.upstream
        item.leaves = node in self.leaves


def _sum(a: Any, b: Any) -> Any:
    """The sum of two gradients, which may be tuples (of a gate with several outputs)."""
    if isinstance(a, tuple):
        return tuple(map(_sum, a, b))
    with np.errstate(all="ignore"):
        return np.add(a, b)
