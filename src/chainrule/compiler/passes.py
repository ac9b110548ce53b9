"""Passes: a graph becomes a smaller graph of the same values.

`simplify` goes through a graph until nothing changes. Each sweep drops what nobody reads and makes
every other gate again from its simplified inputs: gates of small constants become constants, equal
gates one gate, and the rules of algebra.py are tried. Graphs inside gates are simplified, too, and
then list what is read and nothing else. Transposed windows are rewritten last (convolution.py).

A graph that comes in is never changed: nodes that stay as they are are shared, others are new, with
the line and scope of what they stand for. What comes out is there to be run: its loops cannot be
differentiated again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from copy import copy
from operator import is_
from typing import Any

import numpy as np

from ..core.graph import Graph, type_of
from ..core.indexmap import broadcast_map
from ..core.node import Node
from ..core.primitive import ITEM, Elementwise, Params, Primitive
from ..core.types import size_of
from ..ops.control import COND, REMAT
from ..ops.custom import Custom, Derived
from ..ops.dispatch import BROADCAST
from ..ops.loop import SCAN, Loop
from . import algebra
from .algebra import COMMUTATIVE, READS, RULES, SMALL, Facts, Gate, learn, splat, spread
from .convolution import transposed_windows
from .lookups import FASTER

OPAQUE = (Custom, Derived)
"""Gates of users: what they do beside giving a value is not known, so each is run as it stands."""


Standing = dict[Node, Any]
"""What stands for each node of a graph in a simpler one: a node, or a constant array."""


def simplify(graph: Graph, standing: Standing | None = None) -> Graph:
    """A graph with the same inputs, captured leaves, outputs and assignments, and fewer gates.

    Outputs and assigned values may be leaves or constants afterwards. Values are the same to the
    last bit, up to the order of sums (of contractions, too) and the sign of zeros in them.
    `standing` is filled with what became of every gate.
    """
    if standing is not None:
        standing.update((n, n) for n in graph.nodes)
    return _simplified(graph, standing).verify()


def _simplified(graph: Graph, standing: Standing | None = None) -> Graph:
    graph = settled(graph, standing, faster=True)
    found = transposed_windows(graph)
    return settled(_swept(graph, standing, found), standing, faster=True) if found else graph


def settled(graph: Graph, standing: Standing | None = None, faster: bool = False) -> Graph:
    """A graph after sweeps until nothing changes; gates stay of the kinds they are.

    With `faster` some become others that have less to do (lookups.py).
    """
    graph = drop_dead(graph)
    while True:
        again = _swept(graph, standing, faster=faster)
        if again is graph:
            return graph
        graph = drop_dead(again)


def _swept(graph: Graph, standing: Standing | None, rewrites: Any = None, faster: bool = False
           ) -> Graph:  # fmt: skip
    """The graph after one sweep; what stands for nodes is followed through it."""
    sweep = Sweep(graph, rewrites=rewrites, faster=faster)
    result = sweep.run()
    if standing is not None and result is not graph:
        for n, now in standing.items():
            if isinstance(now, Node):
                standing[n] = sweep.values.get(now, now)
    return result


def drop_dead(graph: Graph) -> Graph:
    """Without the gates that no output and no assignment depends on."""
    roots = [*graph.outputs, *(value for _, value in graph.assignments)]
    live = _ancestors(graph, roots)
    nodes = [n for n in graph.nodes if n in live]
    if len(nodes) == len(graph.nodes):
        return graph
    return Graph(graph.inputs, nodes, graph.outputs, graph.captured, graph.assignments)


class Sweep:
    """One way through a graph, first node to last: `make` is what rules make gates with.

    `uses` counts how often the nodes made so far are read, `facts` has what is known of them.
    `values` has what stands for a node of the graph, or for a leaf that is known; `rewrites` says
    how to make some nodes otherwise. With `faster` gates may become others that have less to do.
    """

    def __init__(self, graph: Graph, known: dict[Node, Any] | None = None,
                 rewrites: dict[Node, Callable[[Sweep], Any]] | None = None,
                 faster: bool = False) -> None:  # fmt: skip
        self.graph, self.faster = graph, faster
        self.rewrites = rewrites or {}
        self.values: dict[Node, Any] = dict(known or {})
        self.nodes: list[Node] = []
        self.facts: dict[Node, Facts] = {}
        self.uses: Counter[Node] = Counter()
        self._numbers: dict[Any, Node] = {}
        self._parts: dict[Node, dict[int, Any]] = {}
        results = [*graph.outputs, *(v for _, v in graph.assignments)]
        read = [x for node in graph.nodes for x in node.inputs] + results
        self._reads = Counter(x for x in read if isinstance(x, Node))

    def run(self) -> Graph:
        """The graph made again; the same object if nothing changed."""
        graph = self.graph
        self._through(graph.nodes)
        outputs = [self.value(x) for x in graph.outputs]
        assigned = [(variable, self.value(x)) for variable, x in graph.assignments]
        new = Graph(graph.inputs, self.nodes, outputs, graph.captured, assigned)
        return graph if _same(graph, new) else new

    def _through(self, nodes: Sequence[Node]) -> None:
        used: dict[Node, set[int]] = {}
        for node in nodes:
            if node.primitive is ITEM:
                used.setdefault(node.inputs[0], set()).add(node.params["index"])  # type: ignore[index]
        for node in nodes:
            self._like = node
            inputs = [self.value(x, node) for x in node.inputs]
            params: Params = node.params or {}
            again = AGAIN.get(node.primitive)  # type: ignore[arg-type]
            if node in self.rewrites:
                value = self.rewrites[node](self)
            elif node.primitive is ITEM and node.inputs[0] in self._parts:
                value = self._parts[node.inputs[0]][params["index"]]
                if isinstance(value, int):
                    value = self.make(ITEM, inputs, {"index": value})
            elif again is not None and node in used:
                value, self._parts[node] = again(self, inputs, params, sorted(used[node]))
            else:
                value = self.make(node.primitive, inputs, params)  # type: ignore[arg-type]
            self.values[node] = value
            if isinstance(value, Node):
                self.uses[value] += self._reads[node]

    def value(self, x: Any, node: Node | None = None) -> Any:
        """What stands for an operand; a Python number is an array of its neighbours' dtype."""
        if isinstance(x, Node):
            return self.values.get(x, x)
        if isinstance(x, np.ndarray) or node is None:
            if node is not None and x.nbytes > SMALL and _is_uniform(x):
                return spread(self, x.reshape(-1)[:1].reshape(()), x.shape)  # no memory for it
            return x
        return np.asarray(x, type_of(x, node).dtype)

    def make(self, primitive: Primitive, inputs: Sequence[Any], params: Params) -> Any:
        """A gate, or what stands for it: a constant, an equal gate, something simpler."""
        inputs = tuple(inputs)
        if isinstance(primitive, OPAQUE):
            return self._node(primitive, inputs, params)
        found = _folded(self, primitive, inputs, params)
        if found is not None:
            return found
        rules = RULES.get(primitive, [])
        if self.faster:
            rules = rules + FASTER.get(primitive, [])
        for rule in rules:
            found = rule(self, Gate(primitive, inputs, params))
            if found is not None:
                return found
        key = number(primitive, inputs, params)
        if key not in self._numbers:
            self._numbers[key] = self._node(primitive, inputs, params)
        return self._numbers[key]

    def _node(self, primitive: Primitive, inputs: tuple[Any, ...], params: Params) -> Node:
        """A node at the line of the one being made again; that one itself if it is the same."""
        like = self._like
        same = primitive is like.primitive and params == like.params
        if same and len(inputs) == len(like.inputs) and all(map(is_, inputs, like.inputs)):
            node = like
        else:
            kind: Any = like.type  # known without asking a user's gate again
            if not same:
                kind = primitive.type(*map(algebra.type_of, inputs), **params)
            node = Node(primitive, inputs, params, None, kind, like.where, like.scope)
        self.nodes.append(node)
        self.facts[node] = learn(node, self.facts)
        return node

    def inline(self, graph: Graph, operands: Sequence[Any]) -> list[Any]:
        """The outputs of a closed graph, its gates made here."""
        self.values.update(zip(graph.inputs, operands, strict=True))
        self._through(graph.nodes)
        return [self.value(x) for x in graph.outputs]


def _is_uniform(x: np.ndarray[Any, Any]) -> bool:
    """Whether all entries are the same bits."""
    flat = x.reshape(-1).view(np.uint8).reshape(x.size, x.itemsize)
    return bool((flat[-1] == flat[0]).all() and (flat == flat[0]).all())


def _same(first: Graph, second: Graph) -> bool:
    """Whether two graphs are of the same nodes."""

    def parts(graph: Graph) -> list[Any]:
        return [*graph.inputs, *graph.nodes, *graph.outputs, *(v for _, v in graph.assignments)]

    one, other = parts(first), parts(second)
    return len(one) == len(other) and all(map(is_, one, other))


# -- constants ---------------------------------------------------------------------------------


def _folded(sweep: Sweep, primitive: Primitive, inputs: tuple[Any, ...], params: Params) -> Any:
    """The value of a gate of small constants, or None.

    Copies of one number stay copies: the gate is applied to the number.
    """
    if primitive is BROADCAST or primitive.joint or not inputs:
        return None
    numbers = [splat(x) for x in inputs]
    copies = None not in numbers
    if copies and isinstance(primitive, Elementwise):
        shape = np.broadcast_shapes(*(x.shape for x in inputs))
        value = _evaluated(primitive, numbers, params)
        return None if value is None else spread(sweep, value, shape)
    if copies and primitive in READS:
        return None  # a rule keeps them copies
    arrays = [_known(x) for x in inputs]
    if any(x is None for x in arrays):
        return None
    kind: Any = primitive.type(*map(algebra.type_of, inputs), **params)
    if size_of(kind.shape) * kind.dtype.itemsize > SMALL:
        return None
    return _evaluated(primitive, arrays, params)


def _known(x: Any) -> Any:
    """The array of a small constant, or of copies of one that are small together."""
    if isinstance(x, Node):
        if x.primitive is not BROADCAST or x.type.size * x.type.dtype.itemsize > SMALL:
            return None
        (source,) = x.inputs
        return None if isinstance(source, Node) else BROADCAST.forward(source, **x.params)  # type: ignore[arg-type]
    return x if x.nbytes <= SMALL else None


def _evaluated(primitive: Primitive, arrays: Sequence[Any], params: Params) -> Any:
    try:
        with np.errstate(all="ignore"):
            return np.array(primitive.forward(*arrays, **params))
    except (ValueError, IndexError):
        return None  # operands that the gate refuses: it says so when it runs


# -- common parts ------------------------------------------------------------------------------


def number(primitive: Primitive, inputs: Sequence[Any], params: Params) -> Any:
    """Equal for gates that compute the same: gate, operands (small constants by value), params."""
    operands: Any = tuple(map(_operand, inputs))
    if primitive in COMMUTATIVE:
        operands = frozenset(operands)
    return primitive, operands, _frozen(params)


def _operand(x: Any) -> Any:
    if isinstance(x, Node):
        return x
    return (x.dtype, x.shape, x.tobytes()) if x.nbytes <= SMALL else id(x)


def _frozen(x: Any) -> Any:
    """A hashable that is equal for equal parameters; graphs are equal to themselves alone."""
    if isinstance(x, dict):
        return tuple((k, _frozen(v)) for k, v in sorted(x.items()))
    if isinstance(x, (tuple, list)):
        return tuple(map(_frozen, x))
    return id(x) if isinstance(x, Graph) else (type(x), x)


# -- graphs inside gates -----------------------------------------------------------------------


Again = tuple[Any, dict[int, Any]]
"""The gate made again, and for each output that is used its new place, or what stands for it."""


def _closed(graph: Graph, operands: Sequence[Any]) -> tuple[Graph, list[Any]]:
    """A closed graph simplified, with the operands that it still reads."""
    graph = _simplified(Sweep(graph, _inside(graph.inputs, operands)).run())
    read = _ancestors(graph, graph.outputs)
    pairs = [(leaf, x) for leaf, x in zip(graph.inputs, operands, strict=True) if leaf in read]
    leaves = [leaf for leaf, _ in pairs]
    if leaves != graph.inputs:
        graph = Graph(leaves, graph.nodes, graph.outputs)
    return graph, [x for _, x in pairs]


def _inside(leaves: Sequence[Node], operands: Sequence[Any]) -> dict[Node, Any]:
    """The leaves that stand for small constants, or for what another leaf stands for."""
    known: dict[Node, Any] = {}
    first: dict[int, Node] = {}
    for leaf, x in zip(leaves, operands, strict=True):
        if not isinstance(x, Node) and x.nbytes <= SMALL:
            known[leaf] = x
        elif id(x) in first:
            known[leaf] = first[id(x)]
        first.setdefault(id(x), leaf)
    return known


def _ancestors(graph: Graph, roots: Sequence[Any]) -> set[Node]:
    """All that the roots depend on, and they themselves."""
    live = {x for x in roots if isinstance(x, Node)}
    for node in reversed(graph.nodes):
        if node in live:
            live.update(x for x in node.inputs if isinstance(x, Node))
    return live


def _only(graph: Graph, used: Sequence[int]) -> Graph:
    """The graph with the outputs that are used."""
    if len(used) == len(graph.outputs):
        return graph
    return drop_dead(Graph(graph.inputs, graph.nodes, [graph.outputs[k] for k in used]))


def _remat(sweep: Sweep, inputs: Sequence[Any], params: Params, used: Sequence[int]) -> Again:
    """The body simplified; outputs that are inputs or constants are these."""
    body, operands = _closed(_only(params["body"], used), inputs)
    outside = dict(zip(body.inputs, operands, strict=True))
    node = sweep.make(REMAT, operands, {"body": body})
    parts: dict[int, Any] = {}
    for k, (place, x) in enumerate(zip(used, body.outputs, strict=True)):
        parts[place] = outside.get(x, k) if isinstance(x, Node) else x
    return node, parts


def _cond(sweep: Sweep, inputs: Sequence[Any], params: Params, used: Sequence[int]) -> Again:
    """Both branches simplified, each with operands of its own; a known one is laid open."""
    condition, *given = inputs
    count = params["operands"]
    cut = len(params["bodies"][0].inputs)
    operands = (given[:cut], given[:count] + given[cut:])
    bodies = [_only(body, used) for body in params["bodies"]]
    chosen = splat(condition)
    if chosen is not None:
        k = int(not chosen)
        values = sweep.inline(bodies[k], operands[k])
        return values[0], dict(zip(used, values, strict=True))
    (true, own), (false, other) = map(_closed, bodies, operands)
    params = {"bodies": (true, false), "operands": 0}
    node = sweep.make(COND, (condition, *own, *other), params)
    return node, {place: k for k, place in enumerate(used)}


def _scan(sweep: Sweep, inputs: Sequence[Any], params: Params, used: Sequence[int]) -> Again:
    """The loop with its body simplified; its outputs are the last carries and what is used.

    A carry that is not used goes, one that never changes is read from outside. Results that are
    the same in every step are copies, those that are an entry of xs are these xs.
    """
    loop: Loop = params["loop"]
    captured, carry, xs = loop.split(inputs)
    body = _laid_open(loop, [place for place in used if place >= loop.carries])
    known = _inside(loop.captured, captured) | {
        leaf: other for leaf, other in _inside(loop.scanned, xs).items() if isinstance(other, Node)
    }
    body = _simplified(Sweep(body, known).run())
    last, results = body.outputs[: loop.carries], body.outputs[loop.carries :]
    live = {place for place in used if place < loop.carries}
    while True:  # a carry is read where another that is read depends on it
        read = _ancestors(body, [*results, *(last[k] for k in live)])
        more = {k for k, leaf in enumerate(loop.state) if leaf in read} - live
        if not more:
            break
        live |= more
    fixed = [k for k in sorted(live) if last[k] is loop.state[k]]
    moving = [k for k in sorted(live) if k not in fixed]

    outside = dict(zip(loop.captured, captured, strict=True))
    outside.update((loop.state[k], carry[k]) for k in fixed)
    outside = {leaf: x for leaf, x in outside.items() if leaf in read}
    along = {leaf: x for leaf, x in zip(loop.scanned, xs, strict=True) if leaf in read}
    stacked = list(dict.fromkeys(
        x for x in results if isinstance(x, Node) and x not in outside and x not in along
    ))  # fmt: skip
    leaves = [*outside, *(loop.state[k] for k in moving), *along]
    outputs = [*(last[k] for k in moving), *stacked]
    hidden = sum(k >= loop.carries - loop.hidden for k in moving)
    inside = drop_dead(Graph(leaves, body.nodes, outputs))
    again = _rebuilt(loop, inside, len(outside), len(moving), hidden)
    places = {k for k, old in enumerate(moving) if old in used}
    places.update(range(len(moving), len(outputs)))
    operands = (*outside.values(), *(carry[k] for k in moving), *along.values())
    node = sweep.make(SCAN, operands, {"loop": again, "used": frozenset(places)})

    def result(x: Any) -> Any:
        """All steps of one result."""
        if isinstance(x, Node):
            if x in stacked:
                return len(moving) + stacked.index(x)
            if x in along:
                return along[x]
            x = outside[x]
        map = broadcast_map(x.shape, (loop.length, *x.shape))
        return sweep.make(BROADCAST, (x,), {"map": map})

    parts: dict[int, Any] = {k: carry[k] for k in fixed}
    parts.update((old, k) for k, old in enumerate(moving) if old in used)
    wanted = [place for place in used if place >= loop.carries]
    parts.update((place, result(x)) for place, x in zip(wanted, results, strict=True))
    return node, parts


def _laid_open(loop: Loop, places: Sequence[int]) -> Graph:
    """The body with these results, of those kept for derivatives, too, as its outputs."""
    graph = loop.graph
    parts = {(n.inputs[0], n.params["index"]): n for n in graph.nodes if n.primitive is ITEM}  # type: ignore[index]
    extra: list[Node] = []
    results: list[Any] = []
    for place in places:
        if place < len(graph.outputs):
            results.append(graph.outputs[place])
            continue
        node, index = loop.kept[place - len(graph.outputs)]
        if index is not None and (node, index) not in parts:
            kind: Any = node.type
            parts[node, index] = part = Node(
                ITEM, (node,), {"index": index}, None, kind.items[index], node.where, node.scope
            )
            extra.append(part)
        results.append(node if index is None else parts[node, index])
    outputs = [*graph.outputs[: loop.carries], *results]
    return Graph(graph.inputs, [*graph.nodes, *extra], outputs)


def _rebuilt(loop: Loop, graph: Graph, captured: int, carries: int, hidden: int) -> Loop:
    """The loop around another body, none of whose values are kept; itself if it is that already."""
    if _same(graph, loop.graph) and not loop.kept:
        return loop
    new = copy(loop)  # not made anew: that would take the handles of nodes that both share
    new.graph, new.carries, new.hidden = graph, carries, hidden
    new.cuts = (captured, captured + carries)
    new.captured, new.state, new.scanned = new.split(graph.inputs)
    new.kept, new.places, new.handles = [], {}, []
    return new


AGAIN = {SCAN: _scan, COND: _cond, REMAT: _remat}
