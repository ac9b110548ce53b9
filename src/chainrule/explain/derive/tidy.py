"""A graph made easier to read: a few rules of algebra that change rounding and nothing else.

The compiler's passes keep every bit, so they may not do these: a + a = 2a, numbers in front of
products gathered, signs pulled out, 1·a = a, a choice between a and 0 as a product with 0 or 1,
0·a = 0, a + 0 = a, (ab)ᵀ = bᵀaᵀ. Where the values are no NaN, tests for it go away; where there are
no ties, ∂max(a, b)/∂a is [a > b].
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ... import ops
from ...compiler.algebra import ADD, MUL, NEG, SUB, gate_of
from ...compiler.passes import number as same
from ...core.graph import Graph
from ...core.node import Node
from ...core.primitive import Primitive
from ...core.types import ArrayType
from ...ops.dispatch import BROADCAST, CAST

GREATER, LESS = map(gate_of, (ops.greater, ops.less))
NO_TIES = "no two entries are tied for the larger: at ties a gradient is shared"
MOVES = ("sum", "permute", "reshape", "gather", "scatter_add")
PRODUCTS = ("mul", "scale_gradient", "select_gradient")


def tidy(graph: Graph, arrays: dict[Node, Any], forward: int) -> tuple[Graph, list[str]]:
    """The graph by these rules. Outputs may be leaves or constants afterwards.

    `arrays` are the values of its inputs; the first outputs, `forward` of them, are values of the
    program, the others gradients. Also gives what was assumed of the values, in words.
    """
    work = _Tidying(graph, arrays, forward)
    return work.result(), sorted(work.notes)


def values_of(graph: Graph, arrays: dict[Node, Any]) -> dict[Node, Any]:
    """The value of every node for these values of the inputs."""
    values: dict[Node, Any] = dict(arrays)
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            given = [values[x] if isinstance(x, Node) else x for x in node.inputs]
            assert node.primitive is not None
            found = node.primitive.forward(*given, **(node.params or {}))
            plain = isinstance(node.type, ArrayType)  # a product may have become its condition
            values[node] = np.asarray(found, node.type.dtype) if plain else found
    return values


class _Tidying:
    def __init__(self, graph: Graph, arrays: dict[Node, Any], forward: int) -> None:
        self.graph, self.arrays, self.forward = graph, arrays, forward
        self.nodes: list[Node] = []
        self.new: dict[Node, Any] = {}
        self.known: dict[Any, Node] = {}
        self.notes: set[str] = set()
        self.shared: set[Node] = set()
        """Nodes for gradients that several gates use."""
        self.values_now: set[Node] = set()
        """Nodes for values of the program."""

    def result(self) -> Graph:
        users = Counter(
            x
            for n in self.graph.nodes
            for x in dict.fromkeys(x for x in n.inputs if isinstance(x, Node))
        )
        forward = {x for x in self.graph.outputs[: self.forward] if isinstance(x, Node)}
        for node in self.graph.nodes:
            inputs = [self.new.get(x, x) if isinstance(x, Node) else x for x in node.inputs]
            self.new[node] = new = self.ruled(node, inputs)
            if isinstance(new, Node):
                if node in forward:
                    self.values_now.add(new)
                elif users[node] > 1:
                    self.shared.add(new)
        outputs = [self.new.get(x, x) if isinstance(x, Node) else x for x in self.graph.outputs]
        return Graph.of(outputs, self.graph.inputs)

    @cached_property
    def values(self) -> dict[Node, Any]:
        return values_of(self.graph, self.arrays)

    def made(self, primitive: Primitive | None, inputs: Sequence[Any], like: Node,
             params: Any = None, kind: Any = None) -> Node:  # fmt: skip
        """A gate of the type of another; equal ones once."""
        assert primitive is not None
        inputs = [x if isinstance(x, Node) else np.asarray(x) for x in inputs]
        key = same(primitive, inputs, params or {})
        if key not in self.known:
            node = Node(
                primitive,
                tuple(inputs),
                params or {},
                None,
                kind or like.type,
                like.where,
                like.scope,
            )
            self.nodes.append(node)
            self.known[key] = node
        return self.known[key]

    def product(self, number: float, x: Any, like: Node) -> Any:
        """number · x, gathered with numbers that are in x."""
        if isinstance(x, Node):
            if x.name == "neg":
                return self.product(-number, x.inputs[0], like)
            inner = _number(x.inputs[0]) if x.name in PRODUCTS else None
            if inner is not None:
                return self.product(number * inner, x.inputs[1], like)
            if x.name == "div" and _number(x.inputs[0]) is not None and x.shape == like.shape:
                over = number * float(_number(x.inputs[0]) or 0)
                if over > 0:  # a · (b/x) = ab/x
                    return self.made(x.primitive, [np.asarray(over), x.inputs[1]], like)
        if number == 1 and isinstance(x, Node) and x.shape == like.shape:
            return self.numbers(x, like)
        if number == -1:
            return self.made(NEG, [self.numbers(x, like)], like)
        return self.made(MUL, [np.asarray(number), x], like)

    def numbers(self, x: Any, like: Node) -> Any:
        """A condition as zeros and ones; anything else as it is."""
        if not isinstance(x, Node) or x.type.dtype != bool or like.type.dtype == bool:
            return x
        kind = ArrayType(x.shape, like.type.dtype)
        return self.made(CAST, [x], x, {"dtype": kind.dtype}, kind)

    def ruled(self, node: Node, inputs: list[Any]) -> Any:
        """What stands for a gate."""
        name = node.name
        if name in ("equal", "not_equal", "logical_or", "where") or name in PRODUCTS:
            chosen = self.choice(node, inputs)
            if chosen is not None:
                return chosen
        if name in ("add", "sub"):
            for a, b in ((0, 1), (1, 0))[: 1 + (name == "add")]:
                if _number(inputs[b]) == 0 and np.shape(_like(inputs[a])) == node.shape:
                    return inputs[a]
        zero = name == "contract" or name in PRODUCTS
        if zero and any(_number(x) == 0 for x in inputs) and not np.any(self.values[node]):
            return self.zeros(node)  # NaN of 0 · ∞ is not 0
        if name == "permute" and isinstance(inputs[0], Node) and inputs[0].name == "contract":
            return self.transposed(node, inputs[0])
        if name == "div" and _number(inputs[0]) == 1 and self.counted(node.inputs[1]):
            return self.full(1.0, node)
        if name in ("add", "sub"):
            return self.gathered(node, inputs)
        if name == "contract" and any(not np.ndim(_like(x)) for x in inputs):
            spec = node.params["spec"].split("->")  # type: ignore[index]
            first, second = spec[0].split(",")
            if (first or second) == spec[1]:  # a number times an array
                ordered = inputs if not first else inputs[::-1]
                return self.times(node, ordered)
        if name == "contract":
            return self.contracted(node, inputs)
        if name in MOVES and isinstance(inputs[0], Node):
            return self.moved(node, inputs)
        if name in PRODUCTS:
            return self.times(node, inputs)
        if name == "neg":
            return self.product(-1.0, inputs[0], node)
        if name == "div":
            over, under = inputs
            if isinstance(over, Node) and over.name == "neg":
                plain = self.made(node.primitive, [over.inputs[0], under], node, node.params)
                return self.product(-1.0, plain, node)
        if name == "where" and (_number(inputs[1]), _number(inputs[2])) == (0, 1):
            return self.made(SUB, [self.full(1, node), self.numbers(inputs[0], node)], node)
        if name == "where" and _number(inputs[2]) == 0 and isinstance(inputs[0], Node):
            factors = [inputs[1], inputs[0]]
            if np.isfinite(self.value(node.inputs[1])).all():  # 0 · ∞ is no 0
                return self.larger(node, factors) or self.times(node, factors)
        return self.made(node.primitive, inputs, node, node.params)

    def gathered(self, node: Node, inputs: list[Any]) -> Any:
        """A sum in which equal terms are one, with a number in front."""
        signs = (1.0, -1.0 if node.name == "sub" else 1.0)
        terms: list[tuple[float, Any]] = []
        for sign, x in zip(signs, inputs, strict=True):
            terms += [(sign * a, t) for a, t in self.terms(x, node)]
        first: dict[int, int] = {}
        sums: list[tuple[float, Any]] = []
        for a, t in terms:
            k = first.setdefault(id(t), len(sums))
            if k == len(sums):
                sums.append((a, t))
            else:
                sums[k] = (sums[k][0] + a, t)
        if len(sums) == len(terms):
            return self.made(node.primitive, inputs, node, node.params)
        kept = [(a, t) for a, t in sums if a]
        if not kept:
            return self.full(0, node)
        result = self.product(*kept[0], node)
        for a, t in kept[1:]:
            plain = self.product(abs(a), t, node)
            result = self.made(ADD if a > 0 else SUB, [result, plain], node)
        return result

    def terms(self, x: Any, like: Node, depth: int = 8) -> list[tuple[float, Any]]:
        """What an operand of a sum is the sum of; values of the program stay whole."""
        if isinstance(x, Node) and x.shape == like.shape and x not in self.values_now and depth:
            if x.name in ("add", "sub") and all(
                isinstance(y, Node) and y.shape == like.shape for y in x.inputs
            ):
                sign = -1.0 if x.name == "sub" else 1.0
                second = self.terms(x.inputs[1], like, depth - 1)
                return [*self.terms(x.inputs[0], like, depth - 1),
                        *((sign * a, t) for a, t in second)]  # fmt: skip
            number, rest = self.split(x)
            if isinstance(rest, Node) and rest.shape == like.shape:
                return [(number, rest)]
        return [(1.0, x)]

    def moved(self, node: Node, inputs: list[Any]) -> Any:
        """Entries moved or summed, with numbers and signs in front of it."""
        number, part = self.split(inputs[0])
        plain = self.made(node.primitive, [part, *inputs[1:]], node, node.params)
        return self.product(number, plain, node) if number != 1 else plain

    def split(self, part: Any) -> tuple[float, Any]:
        """A number and what it is multiplied with; gradients that several gates use stay whole."""
        number, rest = 1.0, part
        if isinstance(part, Node) and part.name == "neg":
            number, rest = self.split(part.inputs[0])
            number = -number
        elif isinstance(part, Node) and part.name in PRODUCTS:
            inner = _number(part.inputs[0])
            if inner is not None and np.shape(_like(part.inputs[1])) == part.shape:
                number, rest = inner, part.inputs[1]
        if rest is not part:
            rest = self.numbers(rest, part)
        known = not isinstance(rest, Node) or rest.primitive is None or rest in self.values_now
        whole = isinstance(part, Node) and part in self.shared and not known
        return (1.0, part) if whole else (number, rest)

    # -- choices: max, relu ---------------------------------------------------------------------

    def choice(self, node: Node, inputs: list[Any]) -> Any:
        """What a test is where no value is NaN and no two are tied; None if it stays."""
        name, (x, *rest) = node.name, inputs
        if name == "not_equal" and x is rest[0] and not np.any(self.values[node]):
            return self.full(False, node)
        if name == "not_equal" and isinstance(x, Node) and (x.name, _number(rest[0])) == (
            "relu", 0,
        ):  # fmt: skip
            finite = not np.isnan(self.value(node.inputs[0])).any()
            return self.made(GREATER, inputs, node) if finite else None
        if name == "logical_or":
            for a, b in ((x, rest[0]), (rest[0], x)):
                if _number(b) == 0:
                    return a
        if name == "equal" and x is rest[0] and np.all(self.values[node]):
            return self.full(True, node)
        if name == "where" and _number(x) == 1:
            return rest[0] if np.shape(_like(rest[0])) == node.shape else None
        if name == "where" and _number(x) == 0:
            return rest[1] if np.shape(_like(rest[1])) == node.shape else None
        if name in PRODUCTS:
            return self.larger(node, inputs)
        return None

    def larger(self, node: Node, inputs: list[Any]) -> Any:
        """∂max(a, b)/∂a = where(b = max, ½, 1) · [a = max] as [a > b], where there are no ties."""
        for tied, taken in (inputs, inputs[::-1]):
            if not isinstance(tied, Node) or tied.name != "where":
                continue
            if not isinstance(taken, Node) or taken.name != "equal":
                continue
            test, half, one = tied.inputs
            if not isinstance(test, Node) or test.name != "equal":
                continue
            b, m = test.inputs
            a, other = taken.inputs
            known = isinstance(m, Node) and m is other and m.name in ("maximum", "minimum")
            both = known and not _alike(a, b)
            known = both and all(any(_alike(x, y) for y in m.inputs) for x in (a, b))
            if known and (_number(half), _number(one)) == (0.5, 1) and not self.ties(m):
                self.notes.add(NO_TIES)
                return self.made(GREATER if m.name == "maximum" else LESS, [a, b], node)
        return None

    def ties(self, m: Node) -> bool:
        """Whether the operands of max or min are equal somewhere."""
        for old, new in self.new.items():
            if new is m and old.name == m.name:
                a, b = (self.value(x) for x in old.inputs)
                if np.any(a == b):
                    return True
        return False

    def counted(self, x: Any) -> bool:
        """Whether a number of equal maxima is 1 everywhere."""
        if not isinstance(x, Node) or x.name != "sum" or not isinstance(x.inputs[0], Node):
            return False
        inner = x.inputs[0]
        test = inner.inputs[0] if inner.name == "cast" else None
        found = isinstance(test, Node) and test.name in ("equal", "logical_or")
        alone = found and bool(np.all(self.values[x] == 1))
        self.notes |= {NO_TIES} if alone else set()
        return alone

    def value(self, x: Any) -> Any:
        return self.values[x] if isinstance(x, Node) else np.asarray(x)

    def full(self, number: Any, like: Node) -> Any:
        """An array of one number."""
        return np.broadcast_to(np.asarray(number, like.type.dtype), like.shape)

    def zeros(self, like: Node) -> Any:
        return self.full(0, like)

    def transposed(self, node: Node, inner: Node) -> Any:
        """A permuted contraction, as one with its output in that order."""
        operands, out = inner.params["spec"].split("->")  # type: ignore[index]
        reads = [p.terms for p in node.params["map"].reads]  # type: ignore[index]
        writes = [p.terms for p in node.params["map"].writes]  # type: ignore[index]
        order = "".join(out[reads.index(t)] for t in writes)
        return self.made(inner.primitive, inner.inputs, node, {"spec": f"{operands}->{order}"})

    def contracted(self, node: Node, inputs: list[Any]) -> Any:
        """A contraction, with numbers and signs in front of it."""
        pairs = [self.split(part) for part in inputs]
        number, parts = pairs[0][0] * pairs[1][0], [part for _, part in pairs]
        plain = self.made(node.primitive, parts, node, node.params)
        return self.product(number, plain, node)

    def times(self, node: Node, inputs: list[Any]) -> Any:
        """A product: numbers go in front, signs out."""
        x, y = inputs
        for a, b in ((x, y), (y, x)):
            number = _number(a)
            if number is not None and np.shape(_like(b)) == node.shape:
                return self.product(number, b, node)
        pairs = [self.split(part) for part in (x, y)]
        number, parts = pairs[0][0] * pairs[1][0], [part for _, part in pairs]
        for k, part in enumerate(parts):  # a · (1/b) = a/b
            if isinstance(part, Node) and part.name == "div" and _number(part.inputs[0]) == 1:
                plain = self.made(part.primitive, [parts[1 - k], part.inputs[1]], node)
                return self.product(number, plain, node) if number != 1 else plain
        plain = self.made(MUL, parts, node)
        return self.product(number, plain, node) if number != 1 else plain


def _alike(x: Any, y: Any) -> bool:
    """Whether two operands are the same node, or the same numbers."""
    if isinstance(x, Node) or isinstance(y, Node):
        return x is y
    return np.array_equal(x, y)


def _like(x: Any) -> Any:
    return np.broadcast_to(0, x.shape) if isinstance(x, Node) else np.asarray(x)


def _number(x: Any) -> float | None:
    """The number that an operand is a copy of, if it is one."""
    while isinstance(x, Node):
        if x.primitive is not BROADCAST and x.name != "cast":
            return None
        x = x.inputs[0]
    array = np.asarray(x)
    if not array.size or array.dtype.kind not in "fiub":
        return None
    first = array.reshape(-1)[0]
    return float(first) if (array == first).all() else None
