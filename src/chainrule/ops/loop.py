"""The gate of a traced `scan`, and its derivatives: loops over the body's passes.

The backward loop goes through the steps the other way round. It reads what the body's gates had
as values, which the forward loop stacks, and carries the gradients of the carries. What a
contraction or a linear gate sends back to an array from outside is not added up step by step: its
upstream gradients are stacked, and one contraction (or sum) after the loop does it all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import getitem
from typing import Any
from weakref import ref

import numpy as np

from ..core.graph import Graph
from ..core.local import Contraction, Linear
from ..core.node import Node
from ..core.primitive import ITEM, Array, LinearGate, Params, Primitive
from ..core.types import FLOATS, ArrayType, TupleType
from ..errors import GradientError
from .contraction import CONTRACT, LETTERS, parse, transposed
from .dispatch import to_tensor
from .reducing import sum as sum_
from .shaping import moveaxis
from .tensor import Tensor


def handle(node: Node) -> Tensor:
    """A Tensor on a node of a traced graph, for as long as it is held."""
    result = object.__new__(Tensor)
    result._value, result._node = None, node
    node.handle = ref(result)
    return result


class Loop:
    """The body of a loop: (captured…, carry…, x…) → (carry…, y…), and how often it runs.

    The last `hidden` carries are variables that the body assigns. `kept` are the values inside that
    derivatives may read: (node, place) each, the place in a gate with several outputs or None.
    """

    def __init__(self, graph: Graph, captured: int, carries: int, hidden: int, length: int,
                 reverse: bool) -> None:  # fmt: skip
        self.graph, self.length, self.reverse = graph, length, reverse
        self.carries, self.hidden = carries, hidden
        self.cuts = (captured, captured + carries)
        self.captured, self.state, self.scanned = self.split(graph.inputs)
        self.kept: list[tuple[Node, int | None]] = [(n, None) for n in self.state]
        for node in graph.nodes:
            kind: Any = node.type
            if isinstance(kind, TupleType):
                places = range(len(kind.items))
                node.params = node.primitive.needed(node.params or {}, frozenset(places))  # type: ignore[union-attr]
                self.kept += [(node, k) for k in places]
            elif node.primitive is not ITEM:
                self.kept.append((node, None))
        self.places = {pair: k for k, pair in enumerate(self.kept)}
        # while these live, the reverse pass says what gradient each node has
        self.handles = [handle(node) for node in graph.nodes]

    def split(self, inputs: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """What belongs to the captured arrays, to the carries, to the xs."""
        a, b = self.cuts
        return list(inputs[:a]), list(inputs[a:b]), list(inputs[b:])

    def parts(self, outputs: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """What belongs to the last carries, to the results, to the kept values."""
        a, b = self.carries, len(self.graph.outputs)
        return list(outputs[:a]), list(outputs[a:b]), list(outputs[b:])

    @property
    def steps(self) -> Sequence[int]:
        """The steps in their order."""
        steps = range(self.length)
        return steps[::-1] if self.reverse else steps

    def place(self, node: Node) -> int | None:
        """Where the value of a node is among the kept ones; None for captured arrays and xs."""
        if node.primitive is ITEM:
            return self.places[node.inputs[0], node.params["index"]]  # type: ignore[index]
        return self.places.get((node, None))

    def reader(self, captured: Sequence[Any], xs: Sequence[Any], kept: Sequence[Any]
               ) -> Callable[[Node], tuple[list[Any], Any]]:  # fmt: skip
        """The values that rules see in one step: those of a node's inputs, and its own."""
        given = dict(zip([*self.captured, *self.scanned], [*captured, *xs], strict=True))

        def value(node: Any) -> Any:
            if not isinstance(node, Node):
                return node
            kind: Any = node.type
            if isinstance(kind, TupleType):
                return tuple(kept[self.places[node, k]] for k in range(len(kind.items)))
            place = self.place(node)
            return given[node] if place is None else kept[place]

        return lambda node: ([value(x) for x in node.inputs], value(node))

    def active(self, inputs: Sequence[Node]) -> tuple[set[Node], list[int]]:
        """The nodes that depend on these inputs in some step, and the carries that do."""
        active, moving = set(inputs), [-1]
        while True:
            for node in self.graph.nodes:
                if any(isinstance(x, Node) and x in active for x in node.inputs):
                    active.add(node)
            found = [
                k for k, (leaf, new) in enumerate(zip(self.state, self.graph.outputs, strict=False))
                if leaf.type.dtype.char in FLOATS
                and (leaf in active or (isinstance(new, Node) and new in active))
            ]  # fmt: skip
            if found == moving:
                return active, moving
            moving = found
            active.update(self.state[k] for k in moving)


class Scan(Primitive):
    """Inputs: captured arrays, first carries, xs. Outputs: last carries, results, kept values.

    `used` (None: all) are the outputs that are needed; in place of others forward gives None.
    """

    name = "scan"
    joint = True

    def forward(self, *arrays: Array, loop: Loop, used: Any = None) -> tuple[Any, ...]:
        captured, carry, xs = loop.split(arrays)
        nodes, outputs = loop.graph.nodes, loop.graph.outputs
        types = self.type(loop=loop).items[loop.carries :]
        stacks = [
            np.empty(t.shape, t.dtype) if used is None or k + loop.carries in used else None
            for k, t in enumerate(types)
        ]
        for t in loop.steps:
            values: dict[Any, Any] = dict(
                zip(loop.graph.inputs, [*captured, *carry, *(x[t] for x in xs)], strict=True)
            )
            for node in nodes:
                operands = [values[x] if isinstance(x, Node) else x for x in node.inputs]
                values[node] = node.primitive.forward(*operands, **(node.params or {}))  # type: ignore[union-attr]
            new = [values[o] if isinstance(o, Node) else o for o in outputs]
            new += [values[n] if k is None else values[n][k] for n, k in loop.kept]
            carry = new[: loop.carries]
            for stacked, value in zip(stacks, new[loop.carries :], strict=True):
                if stacked is not None:
                    stacked[t] = value
        return (*map(np.asarray, carry), *stacks)

    def type(self, *types: ArrayType, **params: Any) -> TupleType:
        loop: Loop = params["loop"]
        items = [ArrayType(np.shape(o), o.dtype) if not isinstance(o, Node) else o.type
                 for o in loop.graph.outputs]  # fmt: skip
        items += [n.type if k is None else n.type.items[k] for n, k in loop.kept]  # type: ignore[attr-defined]
        last, stacked = items[: loop.carries], items[loop.carries :]
        return TupleType((*last, *(ArrayType((loop.length, *t.shape), t.dtype) for t in stacked)))

    def bodies(self, params: Params) -> Sequence[Graph]:
        return (params["loop"].graph,)

    def describe(self, params: Params) -> str:
        loop: Loop = params["loop"]
        return f"{loop.length} steps{', last first' if loop.reverse else ''}"

    def needed(self, params: Params, used: frozenset[int]) -> Params:
        return {**params, "used": used}

    # -- derivatives ----------------------------------------------------------------------------

    def pull_all(self, xp: Any, upstream: Any, out: Any, inputs: Sequence[Any], params: Params,
                 wanted: Sequence[bool]) -> Sequence[Any]:  # fmt: skip
        from ..autodiff.reverse import pull_back
        from .control import scan

        loop: Loop = params["loop"]
        captured, _, xs = loop.split(inputs)
        last, results, kept = loop.parts(upstream)
        stacks = loop.parts(out)[2]
        roots = [n for n, w in zip(loop.graph.inputs, wanted, strict=True)
                 if w and n.type.dtype.char in FLOATS]  # fmt: skip
        active, moving = loop.active(roots)
        later, now = after_loop(loop, roots)
        active -= set(later)
        tapped = list(dict.fromkeys(node for uses in later.values() for node, _ in uses))

        def back(state: Any, step: Any) -> Any:
            """The backward pass of one step."""
            gradients, totals = state
            xs_t, stacks_t, results_t, kept_t = step
            table: dict[Node, Any] = {}
            add(table, [loop.graph.outputs[k] for k in moving], gradients)
            add(table, loop.graph.outputs[loop.carries :], results_t)
            for (node, k), g in zip(loop.kept, kept_t, strict=True):
                if k is None:
                    add(table, [node], [g])
                elif g is not None:
                    table.setdefault(node, [None] * len(node.type.items))[k] = g  # type: ignore[attr-defined]
            upstreams: dict[Node, Any] = {}
            pull_back(
                loop.graph.nodes, table, xp, lambda n, _, u: upstreams.__setitem__(n, u), active,
                loop.reader(captured, xs_t, stacks_t),
            )  # fmt: skip
            for leaf in loop.state[loop.carries - loop.hidden :]:
                if table.get(leaf) is not None:
                    raise GradientError(
                        "a variable is read and then assigned in the function of scan, and a "
                        "gradient goes to what was read: carry it in init, or use "
                        "cr.stop_gradient"
                    )
            new = [zeros_like(loop.state[k], table.get(loop.state[k])) for k in moving]
            sums = [s if table.get(n) is None else s + table[n]
                    for s, n in zip(totals, now, strict=True)]  # fmt: skip
            return (new, sums), (
                [table.get(n) for n in loop.scanned], [upstreams.get(n) for n in tapped]
            )  # fmt: skip

        first = [zeros_like(loop.state[k], last[k]) for k in moving]
        totals = [np.zeros(n.shape, n.type.dtype) for n in now]
        (first, totals), (by_xs, upstreams) = scan(
            back, (first, totals), (xs, stacks, results, kept), length=loop.length,
            reverse=not loop.reverse,
        )  # fmt: skip
        found = dict(zip((loop.state[k] for k in moving), first, strict=True))
        found.update(zip(now, totals, strict=True))
        found.update((n, g) for n, g in zip(loop.scanned, by_xs, strict=True) if g is not None)
        values = dict(zip(tapped, upstreams, strict=True))
        value = loop.reader(captured, xs, stacks)
        for leaf, uses in later.items():
            for node, i in uses:
                if values[node] is not None:
                    g = pull_stacked(loop, xp, node, i, values[node], value(node)[0])
                    found[leaf] = found[leaf] + g if leaf in found else g
        return [found.get(n) for n in loop.graph.inputs]

    def push_all(self, xp: Any, tangents: Sequence[Any], out: Any, inputs: Sequence[Any],
                 params: Params) -> Any:  # fmt: skip
        from ..autodiff.reverse import push_forward
        from .control import scan

        loop: Loop = params["loop"]
        captured, _, xs = loop.split(inputs)
        by_captured, by_carry, by_xs = loop.split(tangents)
        stacks = loop.parts(out)[2]
        _, moving = loop.active(
            [n for n, t in zip(loop.graph.inputs, tangents, strict=True) if t is not None]
        )

        def ahead(state: Any, step: Any) -> Any:
            """The forward pass of the tangents of one step."""
            xs_t, stacks_t, by_xs_t = step
            table: dict[Node, Any] = {}
            add(table, loop.captured, by_captured)
            add(table, loop.scanned, by_xs_t)
            add(table, [loop.state[k] for k in moving], state)
            push_forward(loop.graph.nodes, table, xp, loop.reader(captured, xs_t, stacks_t))
            moved = [table.get(o) if isinstance(o, Node) else None for o in loop.graph.outputs]
            inside = [table.get(n) if k is None or n not in table else table[n][k]
                      for n, k in loop.kept]  # fmt: skip
            new = [zeros_like(loop.state[k], moved[k]) for k in moving]
            return new, (moved[loop.carries :], inside)

        first = [zeros_like(loop.state[k], by_carry[k]) for k in moving]
        last, (results, inside) = scan(
            ahead, first, (xs, stacks, by_xs), length=loop.length, reverse=loop.reverse
        )
        carries: list[Any] = [None] * loop.carries
        for k, t in zip(moving, last, strict=True):
            carries[k] = t
        return (*carries, *results, *inside)

    # -- in another context ---------------------------------------------------------------------

    def replay(self, xp: Any, inputs: Sequence[Any], params: Params) -> Any:
        def apply(node: Node, operands: list[Any]) -> Any:
            return node.primitive.replay(xp, operands, node.params or {})  # type: ignore[union-attr]

        return self._again(inputs, params, apply)

    def batch(self, xp: Any, n: int, inputs: Sequence[Any], batched: Sequence[bool],
              params: Params) -> Any:  # fmt: skip
        from ..autodiff.batching import Batch, apply_batch, full

        loop: Loop = params["loop"]
        captured, carry, xs = loop.split(
            [Batch(*pair) for pair in zip(inputs, batched, strict=True)]
        )
        given = [
            *(x.value for x in captured), *(full(x, n) for x in carry),
            *(moveaxis(x.value, 0, 1) if x.batched else x.value for x in xs),
        ]  # fmt: skip
        flags = [*(x.batched for x in captured), *(True for _ in carry), *(x.batched for x in xs)]
        out = self._again(
            given, params, lambda node, operands: apply_batch(node, operands, n),
            lift=lambda leaves: map(Batch, leaves, flags),
            item=lambda x, k: Batch(x.value[k], x.batched),
            lower=lambda x: full(x, n),
        )  # fmt: skip
        last, stacked = out[: loop.carries], out[loop.carries :]
        return (*last, *(x if x is None else moveaxis(x, 1, 0) for x in stacked))

    def _again(self, inputs: Sequence[Any], params: Params, apply: Callable[..., Any],
               lift: Callable[..., Any] = iter, item: Callable[..., Any] = getitem,
               lower: Callable[..., Any] = to_tensor) -> tuple[Any, ...]:  # fmt: skip
        """A scan with apply(node, operands) for each gate: every output that is used."""
        from .control import scan

        loop, used = params["loop"], params.get("used")
        captured, carry, xs = loop.split(inputs)

        def step(state: Any, row: Any) -> Any:
            leaves = lift([*captured, *state, *row])
            values = dict(zip(loop.graph.inputs, leaves, strict=True))
            for node in loop.graph.nodes:
                operands = [values[x] if isinstance(x, Node) else x for x in node.inputs]
                values[node] = apply(node, operands)
            new = [values[o] if isinstance(o, Node) else o for o in loop.graph.outputs]
            wanted = [
                lower(x) if used is None or k in used else None
                for k, x in enumerate(new[loop.carries :], loop.carries)
            ]
            wanted += [
                lower(values[n] if k is None else item(values[n], k))
                if used is None or at in used else None
                for at, (n, k) in enumerate(loop.kept, len(new))
            ]  # fmt: skip
            return [lower(c) for c in new[: loop.carries]], wanted

        last, stacked = scan(step, carry, xs, length=loop.length, reverse=loop.reverse)
        return (*last, *stacked)


SCAN = Scan()


def after_loop(loop: Loop, roots: Sequence[Node]) -> tuple[dict[Node, Any], list[Node]]:
    """Captured arrays whose gradient is made after the loop, with their uses; and the others."""
    later: dict[Node, list[tuple[Node, int]]] = {
        n: [] for n in loop.captured if n in roots and not any(n is o for o in loop.graph.outputs)
    }
    for node in loop.graph.nodes:
        for i, x in enumerate(node.inputs):
            if isinstance(x, Node) and x in later:
                linear = isinstance(node.primitive, LinearGate) and len(node.inputs) == 1
                if linear or node.primitive is CONTRACT:
                    later[x].append((node, i))
                else:
                    del later[x]
    return later, [n for n in loop.captured if n in roots and n not in later]


def pull_stacked(loop: Loop, xp: Any, node: Node, i: int, upstream: Any,
                 operands: Sequence[Any]) -> Any:  # fmt: skip
    """Σ_t upstream_t × local_t for a captured operand, all steps at once."""
    params: Params = node.params  # type: ignore[assignment]
    if node.primitive is not CONTRACT:
        return Linear(node.primitive, params["map"]).pull(xp, sum_(upstream, axis=0))  # type: ignore[arg-type]
    spec, other = params["spec"], node.inputs[1 - i]
    turned = transposed(spec, i)
    if not isinstance(other, Node) or other in loop.captured:  # the same in every step
        form = Contraction(CONTRACT, spec, turned, i, operands[1 - i])
        return form.pull(xp, sum_(upstream, axis=0))
    first, second, target = parse(turned)
    time = next(c for c in LETTERS if c not in spec)
    pair = (upstream, operands[1]) if i == 0 else (operands[0], upstream)
    return xp.apply(CONTRACT, pair, {"spec": f"{time}{first},{time}{second}->{target}"})


def add(table: dict[Node, Any], nodes: Sequence[Any], gradients: Sequence[Any]) -> None:
    """Add gradients (or tangents) to those that nodes have; None adds nothing, nor do constants."""
    for node, g in zip(nodes, gradients, strict=True):
        if g is not None and isinstance(node, Node):
            table[node] = table[node] + g if node in table else g


def zeros_like(node: Node, value: Any) -> Any:
    """The value, or 0 in the type of a node."""
    return np.zeros(node.type.shape, node.type.dtype) if value is None else value
