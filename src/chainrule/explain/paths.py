"""Why a gradient is what it is: the paths from a variable to the result, which add up to it.

Every path contributes the product of the local Jacobians along it, and the gradient is the sum over
all paths. There may be more paths than atoms (2ⁿ after n residual blocks): they are counted, the
largest are listed, and the rest is one number, so that the sum is always the gradient.
"""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np

from ..core.node import Node
from ..errors import GradientError, ShapeError
from ..ops.tensor import Tensor
from .flow import UNKNOWN, one_entry, pulled, pushed
from .forms import word
from .gates import Explanation, expression_of, gradients, opened
from .names import Names, Naming
from .numbers import array, number, place, source
from .routes import rank, search, unlinked

LONG = 7
"""Paths of more gates are shown with their middle left out."""
HEADER = ("gate", "to", "upstream", "local", "downstream", "mostly through", "line")


@dataclass(frozen=True, eq=False)
class PathStep:
    """One gate of a path: upstream × local = downstream, for what came along this path only.

    `gate` is "q = x * y", `to` the input that the path takes, `local` a number where one entry
    goes in and one comes out, else what the gate does. `through` are the entries of the gate's
    value that carry most of the contribution, each with its share of it.
    """

    gate: str
    to: str
    word: str
    upstream: Any
    local: float | str
    downstream: Any
    through: tuple[tuple[str, float], ...]
    module: str
    line: str
    code: str

    def cells(self, digits: int = 4) -> tuple[str, ...]:
        """Its row under `HEADER`."""
        local = self.local if isinstance(self.local, str) else number(self.local, digits)
        through = ", ".join(f"{name} ({number(100 * s, 3)} %)" for name, s in self.through)
        ways = (_written(self.upstream), local, _written(self.downstream))
        return (self.gate, self.to, *ways, through, place(self.line))


@dataclass(frozen=True, eq=False)
class Path:
    """One path: its values from the variable to the result, and what it adds to the gradient.

    `operands` says which input of each gate it comes in by.
    """

    nodes: tuple[Node, ...]
    names: tuple[str, ...]
    contribution: float
    array: Any
    """Its contribution to all entries of the variable's gradient."""
    operands: tuple[int, ...]
    index: tuple[int, ...]
    _naming: Naming = field(repr=False)

    def __str__(self) -> str:
        names = list(self.names)
        if len(names) > LONG:  # the modules on the way
            modules = [m for n in self.nodes[1:-1] if (m := ".".join(n.scope))]
            inner = [m for m, _ in groupby(modules)] or names[1:-1]
            names = [names[0], *inner, names[-1]]
        if len(names) > LONG:
            names = [*names[:3], f"… {len(names) - 6} more …", *names[-3:]]
        return " → ".join(names)

    @cached_property
    def steps(self) -> tuple[PathStep, ...]:
        """Gate by gate from the result back to the variable."""
        naming, change = self._naming, one_entry(self.nodes[0], self.index)
        found: list[PathStep] = []
        with np.errstate(all="ignore"):
            moved = [change]
            for node, i in zip(self.nodes[1:], self.operands, strict=True):
                moved.append(pushed(node, i, moved[-1]))
            upstream = np.ones(self.nodes[-1].shape, self.nodes[-1].type.dtype)
            gates = zip(self.nodes[:0:-1], self.operands[::-1], moved[:0:-1], strict=True)
            for node, i, t in gates:
                x = node.inputs[i]
                down = pulled(node, i, upstream)
                does = word(node)
                local: float | str = does
                parts = any(isinstance(y.data, tuple) for y in (x, node))
                if not parts and math.prod(x.shape) == math.prod(node.shape) == 1:
                    local = float(np.reshape(pulled(node, i, np.ones_like(upstream)), ()))
                names = [naming[y] for y in node.inputs]
                found.append(
                    PathStep(
                        f"{naming[node]} = {expression_of(node, names)}", _numbered(node, i, names),
                        does, upstream, local, down, _through(naming[node], upstream, t),
                        ".".join(node.scope), node.line, source(node.line),
                    )
                )  # fmt: skip
                upstream = down
        return tuple(found)

    def text(self, digits: int = 4) -> str:
        """Gate by gate from the result back, as an aligned table."""
        rows = [HEADER, *(s.cells(digits) for s in self.steps)]
        kept = [k for k in range(len(HEADER)) if any(row[k] for row in rows[1:])]
        widths = {k: max(len(row[k]) for row in rows) for k in kept}
        right = (2, 3, 4)
        lines = [
            "  ".join(
                row[k].rjust(widths[k]) if k in right else row[k].ljust(widths[k]) for k in kept
            ).rstrip()
            for row in rows
        ]
        return "\n".join([f"{self} adds {number(self.contribution, digits)}", *lines])

    def json(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "path": str(self), "names": list(self.names),
            "contribution": number(self.contribution),
            "steps": [
                {
                    **dict(zip(HEADER, s.cells(), strict=True)), "word": s.word,
                    "module": s.module, "code": s.code,
                }
                for s in self.steps
            ],
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Paths:
    """The paths from an entry of a variable to the result.

    `gradient` is the sum of the contributions of those listed and of `rest`, which `count` minus
    the listed ones add. `of` is the number of entries among which the one with the largest
    gradient was taken, 1 if it was asked for.
    """

    result: str
    variable: str
    index: tuple[int, ...]
    gradient: float
    paths: tuple[Path, ...]
    count: int
    rest: float
    of: int = 1

    @property
    def entry(self) -> str:
        """The name of the entry, as W[0, 3]."""
        return self.variable + (f"[{', '.join(map(str, self.index))}]" if self.index else "")

    def rows(self, digits: int = 4) -> list[tuple[str, str]]:
        """Path and contribution as texts; the last one the rest, if there is one."""
        rows = [
            (name, number(p.contribution, digits))
            for name, p in zip(_apart(self.paths), self.paths, strict=True)
        ]
        hidden = self.count - len(self.paths)
        if hidden:
            rows.append((f"{_many(hidden)} other path{_s(hidden)}", number(self.rest, digits)))
        return rows

    def json(self, steps: bool = False) -> dict[str, Any]:
        """All of it as plain data; with `steps` also the gates of every path listed."""
        found: dict[str, Any] = {
            "entry": self.entry, "total": number(self.gradient),
            "count": self.count if self.count < 2**53 else _many(self.count),
            "rows": [list(r) for r in self.rows()],
        }  # fmt: skip
        return found | ({"paths": [p.json() for p in self.paths]} if steps else {})

    def text(self, digits: int = 4, detailed: int = 3) -> str:
        """The table of paths, then the largest of them gate by gate."""
        return "\n\n".join([str(self), *(p.text(digits) for p in self.paths[:detailed])])

    def __str__(self) -> str:
        total = f"∂{self.result}/∂{self.entry} = {number(self.gradient)}"
        rows = self.rows()
        if not rows:
            return f"{total}: there is no path from {self.variable} to {self.result}"
        width = max(len(a) for a, _ in rows)
        right = max(len(b) for _, b in rows)
        lines = [f"  {a.ljust(width)}  {b.rjust(right)}" for a, b in rows]
        chosen = f", the largest of {self.of:,} entries" if self.of > 1 else ""
        head = f"{total}{chosen}, from {_many(self.count)} path{_s(self.count)}:"
        return "\n".join([head, *lines])

    __repr__ = __str__


def paths(
    result: Tensor | Explanation,
    variable: Tensor | str,
    index: int | tuple[int, ...] | None = None,
    limit: int = 20,
    names: Names | None = None,
) -> Paths:
    """The paths from an entry of a variable to the result, largest contributions first.

    The result is a Tensor, or an Explanation (`step.explain(x, y)` of a compiled function); the
    variable a Tensor or the name that the explanation has for it. `index` is an entry of the
    variable, by default the one with the largest gradient. A result that is no single number is
    summed. At most `limit` paths are listed. Up to 1,000 paths are all
    followed. Of more, a beam search goes from the result back and keeps, at every value, those 100
    parts of paths that would add most with all ways from the entry to that value. So what it lists
    are paths with their exact contributions, but a larger one may be missed where the ways below a
    value cancel. Of values so large that their gradients would take more than 256 MB it keeps
    fewer.

    Raises GradientError for a variable without a node (a constant), ShapeError for an index
    that it does not have.

    >>> import chainrule as cr
    >>> x = cr.tensor(3.0)
    >>> y = x * x
    >>> f = y + 5 * x
    >>> found = paths(f, x, names={"x": x, "y": y, "f": f})
    >>> found
    ∂f/∂x = 11, from 3 paths:
      x → q → f  5
      x → y → f  3
      x → y → f  3
    >>> print("\\n".join(row.rsplit("  ", 1)[0] for row in found.paths[1].text().splitlines()))
    x → y → f adds 3
    gate       to         upstream  local  downstream
    f = y + q  y                 1      1           1
    y = x * x  x (1st)           1      3           3
    """
    if not isinstance(limit, int) or limit < 1:
        raise ShapeError(f"limit is how many paths are listed, at least 1; received {limit!r}")
    order, naming = opened(result, names)
    root = order[-1]
    if isinstance(variable, str):
        start: Tensor | Node = named(variable, naming)
    elif not isinstance(variable, Tensor) or variable.node is None:
        kind = "a constant" if isinstance(variable, Tensor) else type(variable).__name__
        raise GradientError(
            f"paths start at a variable or at what was computed from one; received {kind}"
        )
    else:
        start = variable
    leaf = node_of(start, order)
    if leaf is None:
        name = getattr(start, "name", "") or "the variable"
        at = entry_of(start, index, np.zeros(start.shape))
        return Paths(naming[root], name, at, 0.0, (), 0, 0.0)
    gradient = gradients(order, root)[leaf]
    of = int(np.size(gradient)) if index is None else 1
    return between(order, naming, leaf, gradient, entry_of(leaf, index, gradient), limit, of)


def named(name: str, naming: Naming) -> Node:
    """The node that has a name; GradientError with those that there are."""
    for node, own in naming.nodes.items():
        if own == name:
            return node
    near = get_close_matches(name, naming.nodes.values(), 5, 0.4) or [*naming.nodes.values()][:5]
    raise GradientError(f"nothing is called {name!r} here; there are {', '.join(near)}")


def node_of(variable: Tensor | Node, order: Sequence[Node]) -> Node | None:
    """The node of a Tensor in a graph; of a variable that was assigned since, the one it had."""
    if isinstance(variable, Node):
        return variable
    if any(node is variable.node for node in order):
        return variable.node
    earlier = (n for n in reversed(order) if n.handle is not None and n.handle() is variable)
    return next(earlier, None)


def between(
    order: Sequence[Node], naming: Naming, leaf: Node, gradient: Any, place: tuple[int, ...],
    limit: int = 20, of: int = 1,
) -> Paths:  # fmt: skip
    """The same of nodes: `order` ends with the result, `gradient` is that of the leaf."""
    root = order[-1]
    found, count = search(order, leaf, root, place, limit)
    listed = sorted(found, key=lambda way: rank(way[1][place]))[:limit]
    shown = []
    for link, g in listed:
        nodes, operands = unlinked(link)
        names = tuple(naming[n] for n in nodes)
        shown.append(Path(nodes, names, float(g[place]), g, operands, place, naming))
    total = float(gradient[place])
    rest = total - sum(p.contribution for p in shown) if count > len(shown) else 0.0
    return Paths(called(root, naming), naming[leaf], place, total, tuple(shown), count, rest, of)


def called(root: Node, naming: Naming) -> str:
    """What gradients are of: the result, or the sum of its entries."""
    alone = isinstance(root.data, tuple) or int(np.prod(root.shape, dtype=np.int64)) == 1
    return naming[root] if alone else f"sum({naming[root]})"


def entry_of(variable: Tensor | Node, index: Any, gradient: Any) -> tuple[int, ...]:
    """The entry asked for, or that with the largest gradient."""
    shape = variable.shape
    if index is None:
        if 0 in shape:
            raise ShapeError(f"a variable of shape {shape} has no entry to explain")
        with np.errstate(all="ignore"):
            flat = np.nan_to_num(np.abs(gradient), nan=np.inf).argmax()
        return tuple(int(i) for i in np.unravel_index(flat, shape))
    try:
        place = tuple(map(operator.index, index if isinstance(index, tuple) else (index,)))
    except TypeError:
        place = ()
    given = len(place) == len(shape) and isinstance(index, tuple) | bool(place)
    whole = given and all(-n <= i < n for i, n in zip(place, shape, strict=True))
    if not whole:
        raise ShapeError(
            f"the index {index!r} is no entry of a variable of shape {shape}: give one whole "
            "number for each axis, as index=(0, 3)"
        )
    return tuple(i % n for i, n in zip(place, shape, strict=True))


def _through(name: str, upstream: Any, change: Any) -> tuple[tuple[str, float], ...]:
    """The entries of a value that carry most of a contribution, with their shares of it."""
    if change is UNKNOWN or change is None or isinstance(change, tuple) or np.size(change) < 2:
        return ()
    parts = np.asarray(upstream * change, np.float64)
    whole = float(parts.sum())
    if not whole or not np.isfinite(whole):
        return ()
    shares = parts / whole
    largest = np.argsort(-np.abs(shares), axis=None)[:2]
    found = []
    for k in largest:
        at = np.unravel_index(int(k), shares.shape)
        if abs(shares[at]) >= 0.1:
            found.append((f"{name}[{', '.join(str(int(i)) for i in at)}]", float(shares[at])))
    return tuple(found)


def _written(g: Any) -> str:
    """A gradient; of a gate with several outputs only those parts that are not 0."""
    if not isinstance(g, tuple):
        return array(g)
    return "; ".join(f"output {k}: {array(p)}" for k, p in enumerate(g) if np.any(p)) or "0"


def _numbered(node: Node, i: int, names: Sequence[str]) -> str:
    """The name of an input; if the gate has the same one twice, which of them."""
    if sum(x is node.inputs[i] for x in node.inputs) < 2:
        return names[i]
    before = sum(x is node.inputs[i] for x in node.inputs[:i]) + 1
    return f"{names[i]} ({'1st' if before == 1 else '2nd' if before == 2 else f'{before}th'})"


def _apart(paths: Sequence[Path]) -> list[str]:
    """Paths as texts; those that would read alike with the gate where they part."""
    texts = [str(p) for p in paths]
    count = Counter(texts)
    found = []
    for text, path in zip(texts, paths, strict=True):
        if count[text] > 1:
            alike = [p for t, p in zip(texts, paths, strict=True) if t == text]
            common = set.intersection(*(set(p.names) for p in alike))
            own = [n for n in path.names if n not in common][:2]
            if own:
                text += f" (by {', '.join(own)})"
        found.append(text)
    return found


def _many(n: int) -> str:
    """A count, as 1,024 or 2.04·10^90."""
    if n < 10**9:
        return f"{n:,}"
    exponent = math.log10(n)
    return f"{10 ** (exponent % 1):.3g}·10^{int(exponent)}"


def _s(n: int) -> str:
    return "" if n == 1 else "s"
