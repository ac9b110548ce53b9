"""Groups of gates that are computed in one loop nest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..core.node import Node
from ..core.types import ArrayType, Shape, TupleType
from . import reading
from .kernels import View
from .reading import Kind


def has_parts(node: Node) -> bool:
    """Whether a gate has several outputs."""
    kind: Any = node.type
    return isinstance(kind, TupleType)


def types_of(node: Node) -> Sequence[ArrayType]:
    """The types of the outputs of a gate."""
    kind: Any = node.type
    return kind.items if isinstance(kind, TupleType) else (kind,)


@dataclass(eq=False)
class Group:
    """Gates computed in one loop nest over `space`; `anchor` is the contraction in front."""

    space: Shape
    members: dict[Node, None] = field(default_factory=dict)
    anchor: Node | None = None
    special: bool = False
    plain: bool = True
    """Whether it may be an epilogue: no reduction, no table, no guard."""
    splits: dict[int, Shape] = field(default_factory=dict)
    """Axes that are several loops, so that a reshape that joins axes can be read."""


@dataclass
class Use:
    """How a group uses a value: at its own index, and each entry at most once."""

    aligned: bool
    once: bool


class Grouping:
    """Which groups can be one: those that no path leads between through a third."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.views: dict[Node, View] = {}
        self.group_of: dict[Node, Group] = {}
        self.uses: dict[Node, dict[Group, Use]] = {}
        self.scalars: list[Group] = []
        """Groups of numbers, in which others can be computed, too."""
        self.readers: dict[Node, set[Group]] = {}
        """The groups that read a value from memory."""

    def inputs(self, node: Node) -> list[Any]:
        """The operands of a node."""
        raise NotImplementedError(f"{type(self).__name__} must define inputs()")

    def _reaches(self, starts: Sequence[Any], targets: set[Group]) -> bool:
        """Whether what the starts depend on includes a member of these groups."""
        stack = [x for x in starts if isinstance(x, Node)]
        seen: set[Any] = set()
        while stack:
            x = stack.pop()
            group = self.group_of.get(x)
            if group in targets:
                return True
            key: Any = x if group is None else group
            if key in seen:
                continue
            seen.add(key)
            for member in (x,) if group is None else group.members:
                stack.extend(y for y in self.inputs(member) if isinstance(y, Node))
        return False

    def _outside(self, group: Group, also: Sequence[Group] = ()) -> list[Any]:
        """The operands of a group that are no members of it."""
        inside = {m for g in (group, *also) for m in g.members}
        return [x for g in (group, *also) for m in g.members for x in self.inputs(m)
                if isinstance(x, Node) and x not in inside]  # fmt: skip

    def _apart(self, groups: set[Group]) -> list[Any]:
        """The operands of groups that are made outside, also of what is written into them."""
        found, stack = [], [x for g in groups for x in self._outside(g)]
        while stack:
            x = stack.pop()
            if self.group_of.get(x) in groups:
                continue
            uses = self.uses.get(x, {})
            inside = x not in self.group_of and x not in self.views
            inside = inside and reading.kind(x) is Kind.MAP
            if inside and all(uses[g].aligned for g in groups if g in uses):
                stack += [y for y in self.inputs(x) if isinstance(y, Node)]
            else:
                found.append(x)
        return found

    def _independent(self, node: Node, group: Group) -> bool:
        """Whether node may be computed in this group, and others read it from there."""
        if group in self.readers.get(node, ()):
            return False  # it reads the value from memory, so that has to be there before
        # a group that uses the value runs later: nothing in this one may depend on it
        users = {*self.uses.get(node, {}), *self.readers.get(node, ())} - {group}
        before = [x for x in self._outside(group) if x is not node]
        return not users or not self._reaches(before, users)

    def _merge(self, node: Node, groups: list[Group]) -> list[Group]:
        """As few groups as can be made of these; the node can be computed in the first."""
        groups = [g for g in groups if not g.special]
        groups = [g for g in groups if self._independent(node, g)]
        if not groups:
            return []
        groups.sort(key=lambda g: (g.anchor is not None, len(g.members)))
        first, *rest = groups
        left = [first]
        for group in rest:
            if first.anchor is not None and group.anchor is not None:
                left.append(group)
                continue
            blocked = (first.anchor or group.anchor) and not (first.plain and group.plain)
            common = first.splits.keys() & group.splits.keys()
            blocked = blocked or any(first.splits[a] != group.splits[a] for a in common)
            both = {first, group}
            if blocked or self._reaches(self._apart(both), both):
                left.append(group)
                continue
            first = self._unite(first, group)
            left[0] = first
        return left

    def _unite(self, first: Group, second: Group) -> Group:
        if second in self.scalars:
            self.scalars.remove(second)
        first.members.update(second.members)
        first.anchor = first.anchor or second.anchor
        first.plain = first.plain and second.plain
        first.splits.update(second.splits)
        for member in second.members:
            self.group_of[member] = first
        for readers in self.readers.values():
            if second in readers:
                readers.discard(second)
                readers.add(first)
        for known in self.uses.values():
            if second in known:
                use = known.pop(second)
                if first in known:
                    same = known[first].aligned and use.aligned
                    use = Use(same, same)
                known[first] = use
        return first

    def _ordered(self) -> list[Group]:
        """The groups, each after those it depends on, otherwise as the program has them."""
        order: list[Group] = []
        state: dict[Group, int] = {}

        def visit(group: Group) -> None:
            stack: list[tuple[Group, Any]] = [(group, iter(self._before(group)))]
            state[group] = 1
            while stack:
                top, more = stack[-1]
                for other in more:
                    if state.get(other, 0) == 1:
                        raise AssertionError("kernels depend on each other in a circle")
                    if other not in state:
                        state[other] = 1
                        stack.append((other, iter(self._before(other))))
                        break
                else:
                    state[top] = 2
                    order.append(top)
                    stack.pop()

        for node in self.nodes:
            found = self.group_of.get(node)
            if found is not None and found not in state:
                visit(found)
        return order

    def _before(self, group: Group) -> list[Group]:
        """The groups whose results this one reads."""
        found: dict[Group, None] = {}
        stack = self._outside(group)
        seen = set(stack)
        while stack:
            x = stack.pop()
            other = self.group_of.get(x)
            if other is not None and other is not group:
                found[other] = None
                continue
            for y in self.inputs(x):
                if isinstance(y, Node) and y not in seen:
                    seen.add(y)
                    stack.append(y)
        return list(found)
