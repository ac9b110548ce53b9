"""Why a gradient is what it is: the paths from a variable to the result, which add up to it.

Every path contributes the product of the local Jacobians along it, and the gradient is the sum over
all paths. There may be more paths than atoms (2ⁿ after n residual blocks): they are counted, the
largest are listed, and the rest is one number, so that the sum is always the gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from ..core import bare
from ..core.node import Node, topological
from ..core.primitive import ITEM
from ..errors import GradientError, ShapeError
from ..ops.tensor import Tensor
from .forms import local_of, operands_of
from .gates import checked, gradients
from .names import Names, Naming
from .numbers import number

ALL = 1000
"""At most so many paths are all followed; of more, at every value those with the largest gradients
so far."""
LONG = 7
"""Paths of more gates are shown with their middle left out."""


@dataclass(frozen=True, eq=False)
class Path:
    """One path: its values from the variable to the result, and what it adds to the gradient."""

    nodes: tuple[Node, ...]
    names: tuple[str, ...]
    contribution: float
    array: Any
    """Its contribution to all entries of the variable's gradient."""

    def __str__(self) -> str:
        names = list(self.names)
        if len(names) > LONG:  # the modules on the way
            modules = [m for n in self.nodes[1:-1] if (m := ".".join(n.scope))]
            inner = [m for m, _ in groupby(modules)] or names[1:-1]
            names = [names[0], *inner, names[-1]]
        if len(names) > LONG:
            names = [*names[:3], f"… {len(names) - 6} more …", *names[-3:]]
        return " → ".join(names)


@dataclass(frozen=True, eq=False)
class Paths:
    """The paths from an entry of a variable to the result.

    `gradient` is the sum of the contributions of those listed and of `rest`, which `count` minus
    the listed ones add.
    """

    result: str
    variable: str
    index: tuple[int, ...]
    gradient: float
    paths: tuple[Path, ...]
    count: int
    rest: float

    @property
    def entry(self) -> str:
        """The name of the entry, as W[0, 3]."""
        return self.variable + (f"[{', '.join(map(str, self.index))}]" if self.index else "")

    def rows(self, digits: int = 4) -> list[tuple[str, str]]:
        """Path and contribution as texts; the last one the rest, if there is one."""
        rows = [(str(p), number(p.contribution, digits)) for p in self.paths]
        hidden = self.count - len(self.paths)
        if hidden:
            rows.append((f"{hidden:,} other path{'s' * (hidden != 1)}", number(self.rest, digits)))
        return rows

    def json(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "entry": self.entry, "total": number(self.gradient), "count": self.count,
            "rows": [list(r) for r in self.rows()],
        }  # fmt: skip

    def __str__(self) -> str:
        total = f"∂{self.result}/∂{self.entry} = {number(self.gradient)}"
        rows = self.rows()
        if not rows:
            return f"{total}: there is no path from {self.variable} to {self.result}"
        width = max(len(a) for a, _ in rows)
        right = max(len(b) for _, b in rows)
        lines = [f"  {a.ljust(width)}  {b.rjust(right)}" for a, b in rows]
        many = f"{self.count:,} paths" if self.count != 1 else "1 path"
        return "\n".join([f"{total}, from {many}:", *lines])

    __repr__ = __str__


def paths(
    result: Tensor,
    variable: Tensor,
    index: int | tuple[int, ...] | None = None,
    limit: int = 10,
    names: Names | None = None,
) -> Paths:
    """The paths from an entry of a variable to the result, largest contributions first.

    `index` is an entry of the variable, by default the one with the largest gradient. A result that
    is no single number is summed. At most `limit` paths are listed; of a graph with more than 1,000
    paths they are the largest that a search finds which keeps, at every value, the paths with the
    largest gradients so far.

    Raises GradientError for a variable without a node (a constant), ShapeError for an index
    that it does not have.

    >>> import chainrule as cr
    >>> x = cr.tensor(3.0)
    >>> y = x * x
    >>> f = y + 5 * x
    >>> paths(f, x, names={"x": x, "y": y, "f": f})
    ∂f/∂x = 11, from 3 paths:
      x → q → f  5
      x → y → f  3
      x → y → f  3
    """
    root = checked(result)
    leaf = variable.node if isinstance(variable, Tensor) else None
    if leaf is None:
        raise GradientError(
            "paths start at a variable or at what was computed from one; received "
            f"{'a constant' if isinstance(variable, Tensor) else type(variable).__name__}"
        )
    order = topological([root])
    naming = Naming(order, root, names)
    if leaf not in naming.nodes:
        name = getattr(variable, "name", "") or "the variable"
        place = entry_of(variable, index, np.zeros(variable.shape))
        return Paths(naming[root], name, place, 0.0, (), 0, 0.0)
    gradient = gradients(order, root)[leaf]
    return between(order, naming, leaf, gradient, entry_of(variable, index, gradient), limit)


def between(
    order: Sequence[Node], naming: Naming, leaf: Node, gradient: Any, place: tuple[int, ...],
    limit: int = 10,
) -> Paths:  # fmt: skip
    """The same of nodes: `order` ends with the result, `gradient` is that of the leaf."""
    root = order[-1]
    found, count = _search(order, leaf, root, place, limit)
    listed = sorted(found, key=lambda p: -abs(p[1][place]))[:limit]
    shown = tuple(
        Path(nodes, tuple(naming[n] for n in nodes), float(u[place]), u) for nodes, u in listed
    )
    total = float(gradient[place])
    rest = total - sum(p.contribution for p in shown) if count > len(shown) else 0.0
    return Paths(naming[root], naming[leaf], place, total, shown, count, rest)


def entry_of(variable: Tensor | Node, index: Any, gradient: Any) -> tuple[int, ...]:
    """The entry asked for, or that with the largest gradient."""
    shape = variable.shape
    if index is None:
        if 0 in shape:
            raise ShapeError(f"a variable of shape {shape} has no entry to explain")
        with np.errstate(all="ignore"):
            flat = np.nan_to_num(np.abs(gradient), nan=np.inf).argmax()
        return tuple(int(i) for i in np.unravel_index(flat, shape))
    place = index if isinstance(index, tuple) else (index,)
    whole = len(place) == len(shape) and all(-n <= i < n for i, n in zip(place, shape, strict=True))
    if not whole:
        raise ShapeError(f"the index {index} is no entry of a variable of shape {shape}")
    return tuple(i % n for i, n in zip(place, shape, strict=True))


Found = tuple[tuple[Node, ...], Any]
"""The nodes of a path from some node on, and what has come back along it to that node."""


def _search(
    order: Sequence[Node], leaf: Node, root: Node, place: tuple[int, ...], limit: int
) -> tuple[list[Found], int]:
    """Paths from the leaf to the root with what comes back along each, and how many there are."""
    behind = {leaf}
    uses: dict[Node, list[tuple[Node, int]]] = {leaf: []}
    for node in order:
        for i, x in enumerate(node.inputs):
            if x.__class__ is Node and x in behind and node is not leaf and _flows(node):
                behind.add(node)
                uses.setdefault(node, [])
                uses[x].append((node, i))
    if root not in behind:
        return [], 0
    counts: dict[Node, int] = {}
    for node in reversed(order):
        if node in behind:
            more = sum(counts.get(user, 0) for user, _ in uses[node])
            counts[node] = more + (node is root)
    if not counts[leaf]:
        return [], 0
    most = ALL if counts[leaf] <= ALL else max(limit, 10)
    ways: dict[Node, list[Found]] = {root: [((root,), np.ones(root.shape, root.type.dtype))]}
    with np.errstate(all="ignore"):
        for node in reversed(order):
            if node not in behind or not counts[node]:
                continue
            found = ways.setdefault(node, [])
            for user, i in uses[node]:
                for nodes, upstream in ways.get(user, ()):
                    g = _pulled(user, i, upstream)
                    if g is not None:
                        found.append(((node, *nodes), g))
            if len(found) > most:
                found.sort(key=lambda way: -_size(way[1]))
                del found[most:]
            for user, _ in uses[node]:  # arrays that nothing reads any more
                if all(x not in behind or x in ways for x in user.inputs if x.__class__ is Node):
                    ways[user] = ways[user] if user is root else []
    zero = np.zeros(leaf.shape, leaf.type.dtype)
    return [(nodes, g if g is not None else zero) for nodes, g in ways[leaf]], counts[leaf]


def _flows(node: Node) -> bool:
    return node.primitive is not None and node.primitive.differentiable


def _size(g: Any) -> float:
    parts = g if isinstance(g, tuple) else (g,)
    return float(sum(np.abs(np.nan_to_num(p)).sum() for p in parts))


def _pulled(node: Node, i: int, upstream: Any) -> Any:
    """upstream × local of one operand; None where nothing comes back."""
    x = node.inputs[i]
    if node.primitive is ITEM:
        index = node.params["index"]  # type: ignore[index]
        return tuple(
            upstream if k == index else np.zeros(d.shape, d.dtype) for k, d in enumerate(x.data)
        )
    operands = operands_of(node)
    primitive = node.primitive
    assert primitive is not None
    if primitive.joint:
        wanted = [k == i for k in range(len(node.inputs))]
        return primitive.pull_all(
            bare.xp, upstream, node.data, operands, node.params or {}, wanted
        )[i]
    return local_of(node, i, operands).pull(bare.xp, upstream)
