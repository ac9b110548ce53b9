"""From a graph to kernels: which gates are computed together, and where their values lie.

Gates are visited from the last to the first. Each one then knows who uses its value:

- A gate that is pure index arithmetic (permute, slice, windows, broadcast, pad …) or a light map of
  one array is written into the expressions of its users; nothing is computed for it on its own.
- A gate whose users all lie in groups of its own shape joins them (the groups become one, if no
  path leads from one to the other through a third): one loop nest, values in registers.
- A contraction takes the group of its users as its epilogue. A reduction takes what it reduces as
  its prologue, if nobody else uses that.
- Everything else is stored, and read where it is needed.

What must lie in memory is said by `Lowering.require`; index maps on the way to it are strides.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np

from ..core.graph import Graph
from ..core.node import Node
from ..core.primitive import ITEM, LINK
from ..core.types import Shape, size_of
from ..ops.contraction import CONTRACT
from ..ops.loop import SCAN
from ..ops.shaping import CONCAT, UNSTACK
from . import reading
from .expressions import Expressions
from .groups import Group, Grouping, Use, has_parts, types_of
from .kernels import (
    ZERO,
    Affine,
    Buffer,
    Call,
    Kernel,
    Loops,
    Repeat,
    Store,
    Symbol,
    View,
    at,
    contiguous,
)  # fmt: skip
from .reading import Kind
from .repeat import outline

FEW = 9
"""Terms of a reduction that is computed again for each of its users, if they are light."""
SMALL = 1024
"""Bytes up to which a constant array is part of the code."""


class Lowering(Grouping):
    """Kernels of a block of nodes: a whole graph, or the body of a loop.

    `views` says where values lie: leaves at first, more as they are required.
    """

    def __init__(self, symbols: Any = None, constants: list[Any] | None = None) -> None:
        super().__init__()
        self.symbols = symbols or count()
        self.constants: list[Any] = [] if constants is None else constants
        self.alias: dict[Node, Any] = {}
        self.stored: dict[Node, None] = {}
        """The nodes that a kernel of this block has to write to their view."""
        self.constant_views: dict[int, View] = {}
        self.kernels: list[Kernel] = []
        self.repeats: dict[Node, Repeat] = {}
        self.items: dict[tuple[Node, int], Any] = {}
        """What stands for an output of a gate with several."""
        self.loose: set[Any] = set()
        """Concatenations in memory of their own."""
        self.passing: set[Node] = set()
        """Copies to memory that a loop overwrites: nothing else may rely on it."""
        self.position: dict[Node, int] = {}
        self.framed: set[Node] = set()
        """Pads whose operand is computed to its place inside."""
        self.again: set[Node] = set()
        """Light gates that are computed for each user, as what reduces them is."""
        self.slots: dict[tuple[str, int], Buffer] = {}
        """The buffers of what the program returns and assigns."""
        self.operands: dict[Node, list[Any]] = {}
        """The operands of a node, where they are others than it names."""

    # -- the block ------------------------------------------------------------------------------

    def resolve(self, x: Any) -> Any:
        """The node or constant that stands for an operand."""
        while isinstance(x, Node) and x in self.alias:
            x = self.alias[x]
        return x

    def inputs(self, node: Node) -> list[Any]:
        """The operands; a part of unstack reads the operand of it."""
        if node in self.operands:
            return self.operands[node]
        found = [self.resolve(x) for x in node.inputs]
        if node.primitive is ITEM and found[0].primitive is UNSTACK:
            return self.inputs(found[0])
        return found

    def add(self, nodes: Sequence[Node]) -> None:
        """Take nodes in order; recomputed bodies are laid open, joins become copies of parts."""
        for node in nodes:
            primitive = node.primitive
            if primitive is ITEM:
                parent = self.resolve(node.inputs[0])
                if (parent, node.params["index"]) in self.items:  # type: ignore[index]
                    self.alias[node] = self.items[parent, node.params["index"]]  # type: ignore[index]
                    continue
            elif primitive is not None and primitive.name == "remat":
                self._open(node)
                continue
            elif primitive is CONCAT:
                self._join(node)
                continue
            elif primitive is SCAN:
                self.repeats[node] = outline(self, node)
            elif primitive is not UNSTACK and has_parts(node):
                for k, t in enumerate(types_of(node)):
                    self.item(node, k, self.new_view(t.shape, t.dtype))
            elif primitive is not None and reading.is_identity(node):
                self.alias[node] = self.resolve(node.inputs[0])
                continue
            self.nodes.append(node)

    def item(self, node: Node, index: int, view: View) -> None:
        """Say where an output of a gate with several lies."""
        kind: Any = node.type
        part = Node(
            ITEM, (node,), {"index": index}, None, kind.items[index], node.where, node.scope
        )
        self.items[node, index] = part
        self.views[part] = view

    def _open(self, node: Node) -> None:
        (body,) = node.primitive.bodies(node.params or {})  # type: ignore[union-attr]
        for leaf, x in zip(body.inputs, node.inputs, strict=True):
            self.alias[leaf] = self.resolve(x)
        self.add(body.nodes)
        for k, out in enumerate(body.outputs):
            self.items[node, k] = out

    def _join(self, node: Node) -> None:
        """A concatenation: its parts are stored into their places."""
        axis, start = node.params["axis"], 0  # type: ignore[index]
        view = self.new_view(node.type.shape, node.type.dtype)
        view.buffer.joined = True
        parts = []
        for x in self.inputs(node):
            base = view.base.plus(Affine((), start * view.strides[axis]))
            parts.append(self.copy(x, View(view.buffer, base, view.strides), node))
            start += x.shape[axis]
        joined = Node(CONCAT, tuple(parts), node.params, None, node.type, node.where, node.scope)
        self.alias[node] = joined
        self.views[joined] = view
        self.loose.add(joined)
        self.nodes.append(joined)

    def copy(self, x: Any, view: View, like: Node | None = None) -> Node:
        """A node that stores x (a node or constant) to a view."""
        x, view = reading.before_reshape(self, x, view)
        type_ = x.type if isinstance(x, Node) else reading.constant_type(x)
        node = Node(LINK, (x,), {}, None, type_)
        if like is not None:
            node.where, node.scope = like.where, like.scope
        self.views[node] = view
        self.stored[node] = None
        self.nodes.append(node)
        return node

    def sink(self, x: Any, view: View) -> None:
        """Store x to a view. A concatenation that lies nowhere yet is made there at once."""
        joined, there = reading.before_reshape(self, x, view)
        if isinstance(joined, Node) and joined in self.loose:
            own, parts = self.views[joined], [joined, *self.inputs(joined)]
            here = [n for n, v in self.views.items() if v.buffer is own.buffer]
            if own.strides == there.strides and set(here) == set(parts):
                view.buffer.joined = True
                self.loose.discard(joined)
                for part in parts:
                    base = there.base.plus(self.views[part].base)
                    self.views[part] = View(view.buffer, base, self.views[part].strides)
                return
        self.copy(x, view)

    def new_view(self, shape: Shape, dtype: np.dtype[Any]) -> View:
        return View(Buffer(dtype, size_of(shape)), ZERO, contiguous(shape))

    # -- memory ---------------------------------------------------------------------------------

    def require(self, x: Any) -> View:
        """Where x lies in memory; from now on it has to."""
        x = self.resolve(x)
        if not isinstance(x, Node):
            return self.constant(np.asarray(x))
        if x in self.views:
            self.loose.discard(x)  # somebody knows where it lies
            return self.views[x]
        if reading.kind(x) is Kind.READ:
            view = reading.through(x, self.require(reading.source(x)))
            if view is not None:
                self.views[x] = view
                return view
        if x.primitive is ITEM:
            raise AssertionError(f"{x!r} has no place")
        view = self.new_view(x.type.shape, x.type.dtype)
        self.views[x] = view
        self.stored[x] = None
        if reading.kind(x) is Kind.PAD:
            self._frame(x, view)
        return view

    def _frame(self, pad: Node, view: View) -> None:
        """Let what is padded lie inside the frame from the start, if it lies nowhere yet."""
        (x,) = self.inputs(pad)
        inside = reading.inside_frame(pad, view)
        if self._lies_nowhere(x) and inside is not None:
            self.views[x] = inside
            self.stored[x] = None
            self.framed.add(pad)
            view.buffer.joined = True

    def constant(self, array: np.ndarray[Any, Any]) -> View:
        """A constant array: by reference, a small one as part of the code."""
        if id(array) not in self.constant_views:
            kind = "table" if array.nbytes <= SMALL else "constant"
            step = array.dtype.itemsize
            if kind == "table" or any(s % step for s in array.strides):
                array_ = np.asarray(array, order="C")
            else:
                array_ = array
            buffer = Buffer(array.dtype, array.size, (kind, len(self.constants)))
            self.constants.append(array_)
            strides = tuple(s // step for s in array_.strides)
            self.constant_views[id(array)] = View(buffer, ZERO, strides)
            self.keep = [*getattr(self, "keep", []), array]  # its id stays its own
        return self.constant_views[id(array)]

    # -- who is computed with whom --------------------------------------------------------------

    def lower(self) -> list[Kernel]:
        """The kernels of the nodes added, in an order in which they can run."""
        self.position = {node: k for k, node in enumerate(self.nodes)}
        for node in reversed(self.nodes):
            self._place(node)
        groups = self._ordered()
        for group in groups:
            self.kernels += self._kernels(group)
        return self.kernels

    def _place(self, node: Node) -> None:
        kind = reading.kind(node)
        uses = self.uses.get(node, {})
        stored = node in self.stored
        if kind is Kind.NONE:
            if node.primitive is CONCAT:  # who reads it reads its parts
                for part in self.inputs(node):
                    found = self.readers.setdefault(part, set())
                    found.update(uses, self.readers.get(node, ()))
            return
        if kind in (Kind.CALL, Kind.SCATTER, Kind.REPEAT) or node in self.framed:
            if uses or stored or kind is Kind.REPEAT or has_parts(node):
                self._alone(node, kind)
            return
        if not uses and not stored:
            return
        if kind is Kind.READ and node in self.views and not stored:  # seen in another's memory
            for group in uses:
                self._read(reading.source(node), group)
            return
        if node.primitive is LINK and self._adopt(node):
            return
        bare = kind is not Kind.PAD or all(g.anchor is None for g in uses)
        if kind is Kind.MAP and bare:  # what is small is computed once, not for every entry
            bare = all(size_of(g.space) < 16 * node.type.size for g in uses)
        again = node in self.again or self._computed_again(node, kind, uses)
        lazy = again or (bare and reading.is_lazy(node, kind, self.inputs(node)))
        if not stored and lazy:
            for group in uses:
                group.plain = group.plain and kind not in (Kind.PAD, Kind.REDUCE)
            for x in self.inputs(node):
                self._use(x, uses, *reading.edge(node, x))
            return
        if kind is Kind.READ and reading.merges(node):
            if stored or not self._split(node, uses):
                self._alone(node, kind)
            return
        aligned = [g for g, use in uses.items() if use.aligned and g.space == node.type.shape]
        others = [g for g in uses if g not in aligned]
        if kind is Kind.CONTRACT:
            self._place_contraction(node, aligned, others)
            return
        if (
            len(uses) == 1 and others and not stored and next(iter(uses.values())).once
            and kind in (Kind.MAP, Kind.READ, Kind.PAD, Kind.GATHER, Kind.RANDOM)
            and not others[0].anchor
        ):  # fmt: skip
            self._join_group(node, others[0], kind, aligned=False)
            return
        if kind not in (Kind.MAP, Kind.READ):  # an epilogue takes neither guards nor reductions
            others += [g for g in aligned if g.anchor is not None]
            aligned = [g for g in aligned if g.anchor is None]
        if not node.type.shape and not aligned:  # numbers are computed together
            aligned = self._merge(node, self.scalars)[:1]
        home = self._merge(node, aligned)
        group = home[0] if home else Group(node.type.shape)
        if others or any(g is not group for g in self.uses.get(node, {})):
            self.require(node)
        if not group.space and group.anchor is None and group not in self.scalars:
            self.scalars.append(group)
        self._join_group(node, group, kind)

    def _computed_again(self, node: Node, kind: Kind, uses: dict[Group, Use]) -> bool:
        """Whether a reduction is written into the one group that uses it, with what it reduces.

        It is if it has few terms and all that is computed for them is light: the gradient of a
        pooling then reads its input once, and nothing is stored for the number of equal entries.
        """
        if len(uses) != 1 or not node.type.size or node in self.stored:
            return False
        (group,) = uses
        if kind is Kind.MAP and not uses[group].aligned:  # of a number for each few entries
            below = [x for x in self.inputs(node) if isinstance(x, Node) and x not in self.uses]
            return any(
                self._computed_again(x, Kind.REDUCE, uses)
                for x in below
                if reading.kind(x) is Kind.REDUCE
            )
        if kind is not Kind.REDUCE:
            return False
        operand = self.inputs(node)[0]
        terms = size_of(reading.shape_of(operand)) / node.type.size
        if group.anchor or group.special or node.primitive is CONTRACT or terms > FEW:
            return False
        if size_of(group.space) > 2 * FEW * node.type.size:
            return False
        light: list[Node] = []
        stack = [operand]
        while stack:
            x = self.resolve(stack.pop())
            if isinstance(x, Node) and x not in self.views and reading.kind(x) is Kind.MAP:
                if not reading.is_light(x) or len(light) == FEW:
                    return False
                light.append(x)
                stack += self.inputs(x)
        self.again.update(light)
        return True

    def _split(self, node: Node, uses: dict[Group, Use]) -> bool:
        """Let the loops of the one group that uses a reshape be those that it joins."""
        ((group, use),) = uses.items() if len(uses) == 1 else ((None, None),)
        found = reading.joined(node)
        if group is None or use is None or found is None or not use.aligned:
            return False
        same = all(group.splits.get(axis, sizes) == sizes for axis, sizes in found.items())
        if not same or group.anchor is not None or group.space != node.type.shape:
            return False
        group.splits.update(found)
        group.plain = False
        self._join_group(node, group, Kind.READ)
        return True

    def _adopt(self, copy: Node) -> bool:
        """Let what is copied lie where the copy goes, if it lies nowhere yet."""
        (x,) = self.inputs(copy)
        if copy in self.passing or not self._lies_nowhere(x):
            return False
        self.views[x] = self.views[copy]
        self.readers.setdefault(x, set()).update(self.readers.get(copy, ()))
        self.stored[x] = None
        del self.stored[copy]
        return True

    def _lies_nowhere(self, x: Any) -> bool:
        """Whether a kernel of this block will compute x, and it may be stored anywhere."""
        if not isinstance(x, Node) or x in self.views or x not in self.position:
            return False
        kinds = (Kind.MAP, Kind.REDUCE, Kind.CONTRACT, Kind.GATHER, Kind.RANDOM)
        return reading.kind(x) in kinds

    def _join_group(self, node: Node, group: Group, kind: Kind, aligned: bool = True) -> None:
        group.members[node] = None
        self.group_of[node] = group
        if kind not in (Kind.MAP, Kind.READ):
            group.plain = False
        own = Use(aligned, True)
        for x in self.inputs(node):
            if kind in (Kind.GATHER, Kind.RANDOM):
                self._read(x, group)
                continue
            self._use(x, {group: own}, *reading.edge(node, x))

    def _use(self, x: Any, uses: dict[Group, Use], aligned: bool, once: bool) -> None:
        x = self.resolve(x)
        if not isinstance(x, Node):
            return
        known = self.uses.setdefault(x, {})
        for group, use in uses.items():
            new = Use(use.aligned and aligned, use.once and once)
            if group in known:
                new = Use(new.aligned and known[group].aligned, False)
                if known[group].aligned and new.aligned:
                    new = Use(True, True)
            known[group] = new

    def _read(self, x: Any, group: Group) -> None:
        """A group reads x from memory."""
        self.require(x)
        x = self.resolve(x)
        while isinstance(x, Node):
            self.readers.setdefault(x, set()).add(group)
            seen_through = x in self.views and x not in self.stored
            if not seen_through or reading.kind(x) is not Kind.READ:
                return
            x = self.resolve(reading.source(x))

    def _alone(self, node: Node, kind: Kind) -> None:
        """A kernel of its own; its operands lie in memory."""
        if not has_parts(node):
            self.require(node)
        group = Group((), {node: None}, special=True, plain=False)
        self.group_of[node] = group
        for x in self.inputs(node):
            self._read(x, group)

    def _place_contraction(self, node: Node, aligned: list[Group], others: list[Group]) -> None:
        home = None
        for group in aligned:
            free = group.plain and group.anchor is None and not group.special
            if free and self._independent(node, group):
                home = group
                break
        if home is None:
            home = Group(node.type.shape)
            if node not in self.stored:
                self.require(node)
        elif others or len(aligned) > 1:
            self.require(node)
        for x in self.inputs(node):
            self._read(x, home)
        home.anchor = node
        home.members[node] = None
        self.group_of[node] = home

    # -- kernels --------------------------------------------------------------------------------

    def _kernels(self, group: Group) -> list[Kernel]:
        first = next(iter(group.members))
        if group.special:
            return self._special(first)
        loops: list[tuple[Symbol, int]] = []
        places = []
        for axis, n in enumerate(group.space):
            place = ZERO
            for size in group.splits.get(axis, (n,)):
                symbol = next(self.symbols)
                loops.append((symbol, size))
                place = Affine().plus(place, size).plus(at(symbol))
            places.append(place)
        index = tuple(places)
        build = Expressions(self, group)
        stores = [
            Store(self.views[m].buffer, self.views[m].address(index), build(m, index))
            for m in sorted(group.members, key=self.position.__getitem__)
            if m in self.stored
        ]
        nodes = sorted(
            (m for m in group.members if m.primitive is not LINK), key=self.position.__getitem__
        ) or [first]
        if group.anchor is not None:
            return [build.product(group.anchor, loops, stores, nodes)]
        return [Loops(nodes, loops=loops, stores=stores)]

    def _special(self, node: Node) -> list[Kernel]:
        kind = reading.kind(node)
        if kind is Kind.REPEAT:
            return [self.repeats[node]]
        if has_parts(node):
            views = [self.views[self.items[node, k]] for k in range(len(types_of(node)))]
        else:
            views = [self.views[node]]
        if kind is Kind.SCATTER:
            return reading.scatter(self, node, views[0])
        if kind is Kind.READ:
            return [reading.regroup(self, node, views[0])]
        if kind is Kind.PAD:
            return reading.frame(self, node, views[0])
        inputs: list[Any] = []
        for x in self.inputs(node):
            inputs.append((self.require(x), x.type.shape) if isinstance(x, Node) else np.asarray(x))
        outputs = [(v, t.shape) for v, t in zip(views, types_of(node), strict=True)]
        return [Call([node], node=node, inputs=inputs, outputs=outputs)]


def lower(graph: Graph) -> tuple[list[Kernel], Lowering]:
    """The kernels of a graph. Arrays of the call are buffers with a slot."""
    block = Lowering()
    given = [("input", k, leaf, f"x{k}") for k, leaf in enumerate(graph.inputs)]
    given += [
        ("captured", k, leaf, getattr(tensor, "name", "") or f"v{k}")
        for k, (tensor, leaf) in enumerate(graph.captured)
    ]
    for kind, k, leaf, name in given:
        shape, dtype = leaf.type
        buffer = Buffer(dtype, size_of(shape), (kind, k), name)
        block.views[leaf] = View(buffer, ZERO, contiguous(shape))
    block.add(graph.nodes)
    sinks = [("output", k, x) for k, x in enumerate(graph.outputs)]
    sinks += [("assigned", k, x) for k, (_, x) in enumerate(graph.assignments)]
    for kind, k, x in sinks:
        shape = np.shape(x) if not isinstance(x, Node) else x.type.shape
        dtype = x.dtype if not isinstance(x, Node) else x.type.dtype
        name = f"y{k}"
        if kind == "assigned":
            variable = graph.assignments[k][0]
            names = {id(tensor): block.views[leaf].buffer.name for tensor, leaf in graph.captured}
            name = "new " + names.get(id(variable), f"variable {k}")
        buffer = Buffer(dtype, size_of(shape), (kind, k), name)
        block.slots[kind, k] = buffer
        block.sink(x, View(buffer, ZERO, contiguous(shape)))
    kernels = block.lower()
    for node, number in {node: k for k, node in enumerate(graph.nodes)}.items():
        view = block.views.get(block.resolve(node))
        if view is not None and not view.buffer.name:
            view.buffer.name = f"%{number}"
    return kernels, block


__all__ = ["Group", "Lowering", "lower"]
