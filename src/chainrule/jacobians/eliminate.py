"""From the graph of a function to one form: gates are eliminated, each with products of Jacobians.

Eliminating a gate v joins each gate s that uses it to each operand p of v:
J(s, p) += J(s, v) · J(v, p). Eliminating in the order of the program is forward mode, against it
reverse mode; a mixed order takes next what costs least (Markowitz 1957; Griewank and Walther 2008,
chapter 9). Which one is taken is decided by an estimate, in multiplications, before anything is
multiplied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ..core.node import Node
from ..errors import StructureError
from .form import Form
from .positions import symbols_of
from .term import Term

GATES = 4000
"""Gates above which the structure of a program is not looked for."""
Edges = dict[Node, dict[Node, Form]]
"""For each gate, the Jacobians by its operands."""


class Plan(NamedTuple):
    """An order of elimination: its name, the gates, and the estimated multiplications of each."""

    mode: str
    order: list[Node]
    costs: dict[str, float]

    def __str__(self) -> str:
        rest = ", ".join(f"{m} {c:.3g}" for m, c in self.costs.items() if m != self.mode)
        return f"{self.mode}, about {self.costs[self.mode]:.3g} multiplications ({rest})"


def eliminate(
    order: Sequence[Node], output: Node, input: Node, leaf: Callable[[Node], Mapping[Node, Form]],
    mode: str | None = None, algebra: Callable[[Form], Any] = lambda form: form,
) -> tuple[Any, Plan]:  # fmt: skip
    """∂output/∂input (None: zero) through these gates (operands first), and how it was found.

    leaf(gate) gives the Jacobians of a gate by its operands among them; `algebra` makes of each
    what is multiplied and added (the form itself). StructureError says at which gate there is no
    closed form.
    """
    if len(order) > GATES:
        raise StructureError(f"a program of {len(order)} gates (looked through up to {GATES})")
    edges: Edges = {}
    for node in order:
        if node is not input:
            with _at(node):
                edges[node] = {x: algebra(f) for x, f in leaf(node).items()}
    edges = _between(edges, output, input)
    if output is input:
        raise StructureError("the output is the input")
    inner = [n for n in order if n in edges and n is not output]
    plan = _plan(edges, inner, output, input, mode)
    users: dict[Node, dict[Node, None]] = {}
    for node, operands in edges.items():
        for x in operands:
            users.setdefault(x, {})[node] = None
    for v in plan.order:
        operands = edges.pop(v)
        for s in users.pop(v, {}):
            with _at(s):
                through = edges[s].pop(v)
                for p, local in operands.items():
                    product = through @ local
                    before = edges[s].get(p)
                    edges[s][p] = product if before is None else before + product
                    users[p][s] = None
        for p in operands:
            users[p].pop(v, None)
    return edges.get(output, {}).get(input), plan


class _at:
    """StructureErrors inside name the gate and its line."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, StructureError) and not hasattr(error, "node"):
            where = f" ({self.node.line})" if self.node.line else ""
            new = StructureError(f"{error}, at {self.node.name}{where}")
            new.node = self.node  # type: ignore[attr-defined]
            raise new from error


def _between(edges: Edges, output: Node, input: Node) -> Edges:
    """The edges on ways from the output to the input."""
    needed, stack = {output}, [output]
    while stack:
        for x in edges.get(stack.pop(), {}):
            if x not in needed:
                needed.add(x)
                stack.append(x)
    reaching = {input}
    left: Edges = {}
    for node, operands in edges.items():
        kept = {x: f for x, f in operands.items() if x in reaching}
        if kept and node in needed:
            reaching.add(node)
            left[node] = kept
    return left


# -- the order ---------------------------------------------------------------------------------


def entries(form: Any) -> float:
    """An estimate of the numbers in a form: the boxes of what hangs together in its terms."""
    m, n = form.shape
    return float(min(m * n, sum(_parts(t) for t in form.terms)))


def _parts(term: Term) -> int:
    """Entries of the boxes of the symbols that share a position or a factor."""
    parts: list[set[int]] = []
    shared = [set(symbols_of(p)) for p in term.positions]
    for new in [*shared, *(set(f.symbols) for f in term.factors)]:
        together = [p for p in parts if p & new]
        parts = [p for p in parts if not p & new] + [new.union(*together)]
    return sum(term.size(p) for p in parts)


def _plan(edges: Edges, inner: list[Node], output: Node, input: Node, mode: str | None) -> Plan:
    sizes = {n: float(f.shape[1]) for ops in edges.values() for n, f in ops.items()}
    sizes[output] = float(next((f.shape[0] for f in edges.get(output, {}).values()), 1))
    known = {(n, x): entries(f) for n, ops in edges.items() for x, f in ops.items()}
    orders = {"forward": inner, "reverse": inner[::-1]}
    costs = {m: _cost(known, sizes, o) for m, o in orders.items()}
    if len(inner) <= 400:
        costs["mixed"], orders["mixed"] = _greedy(known, sizes, inner)
    if mode is None:
        mode = min(orders, key=lambda m: (costs[m], list(orders).index(m)))
    return Plan(mode, orders[mode], costs)


class _Counts:
    """Estimated nonzeros on the edges while gates are eliminated."""

    def __init__(self, known: dict[tuple[Node, Node], float], sizes: dict[Node, float]) -> None:
        self.sizes = sizes
        self.below: dict[Node, dict[Node, float]] = {}
        self.above: dict[Node, dict[Node, float]] = {}
        for (s, p), n in known.items():
            self.below.setdefault(s, {})[p] = n
            self.above.setdefault(p, {})[s] = n

    def cost(self, v: Node) -> float:
        """Multiplications of eliminating v: entries meet in each entry of v."""
        below, above = self.below.get(v, {}), self.above.get(v, {})
        return sum(below.values()) * sum(above.values()) / max(1.0, self.sizes[v])

    def eliminate(self, v: Node) -> float:
        cost = self.cost(v)
        below, above = self.below.pop(v, {}), self.above.pop(v, {})
        for s, a in above.items():
            self.below[s].pop(v)
            for p, b in below.items():
                n = self.below[s].get(p, 0.0) + a * b / max(1.0, self.sizes[v])
                n = min(n, self.sizes[s] * self.sizes[p])
                self.below[s][p] = self.above[p][s] = n
        for p in below:
            self.above[p].pop(v, None)
        return cost


def _cost(known: Any, sizes: dict[Node, float], order: Sequence[Node]) -> float:
    counts = _Counts(known, sizes)
    return sum(counts.eliminate(v) for v in order)


def _greedy(known: Any, sizes: dict[Node, float], inner: Sequence[Node]
            ) -> tuple[float, list[Node]]:  # fmt: skip
    """Always what costs least next; of equals the first."""
    counts, left = _Counts(known, sizes), dict.fromkeys(inner)
    order, total = [], 0.0
    while left:
        v = min(left, key=counts.cost)
        del left[v]
        order.append(v)
        total += counts.eliminate(v)
    return total, order
