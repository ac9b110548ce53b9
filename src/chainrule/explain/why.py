"""Why is this gradient zero, or missing, or what it is?

Everything is read from the graph and the local Jacobians of its gates: where a change of the entry
ends (`ends`), which paths it takes (`paths`), where a value came in as a constant (`cuts`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.node import Node, topological
from ..core.primitive import Elementwise
from ..errors import DTypeError
from ..ops.tensor import Parameter, Tensor
from .cuts import cuts, origin
from .ends import End, end, follow, stopping
from .flow import size
from .gates import Explanation, gradients, opened
from .names import Names, Naming, from_caller
from .nonfinite import finite, first_bad
from .numbers import array, number
from .paths import Paths, between, called, entry_of, named, node_of

TINY = 1e-8
"""A gradient below this is called tiny."""
SHRINKS = 1e-2
"""A gate that makes what comes back smaller than this share of it is named for that."""
TRIED = 8
"""So many entries are tried where no gradient says which one is meant."""
CONSTANT = (
    "{0} is a constant, and gradients are taken by variables only. Make it with cr.tensor or "
    "cr.Parameter; what is computed under cr.no_grad, by detach() or stop_gradient(), in integers, "
    "or by NumPy is a constant, too."
)
NO_PATH = (
    "no path leads from {0} to {1}: it was not used for it, or only through values that are "
    "constants (detach, stop_gradient, no_grad, float(), comparisons and casts to integers, NumPy)."
)
NO_GRAPH = (
    "the result is a constant: nothing was recorded of how it was computed. It is computed from no "
    "variable, under cr.no_grad, in integers or bools, or by NumPy."
)


@dataclass(frozen=True, eq=False)
class Why:
    """The answer: `cause`, what it means in `text`, and the places, `ends`.

    `cause` is "no graph" (the result is a constant), "constant" (the variable is one), "no path",
    "zero", "cancels", "tiny", "not finite" or "not zero". `paths` are the largest paths where
    they were followed.
    """

    entry: str
    result: str
    gradient: float | None
    cause: str
    text: str
    ends: tuple[End, ...] = ()
    paths: Paths | None = None

    @property
    def advice(self) -> tuple[str, ...]:
        """What to try, for each cause among the ends."""
        return tuple(dict.fromkeys(e.advice for e in self.ends))

    def json(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "entry": self.entry, "result": self.result, "cause": self.cause, "text": self.text,
            "gradient": None if self.gradient is None else number(self.gradient),
            "ends": [e.json() for e in self.ends], "advice": list(self.advice),
            "paths": None if self.paths is None else self.paths.json(),
        }  # fmt: skip

    def __str__(self) -> str:
        value = "None" if self.gradient is None else number(self.gradient)
        lines = [f"∂{self.result}/∂{self.entry} = {value}: {self.text}"]
        lines += [f"  {place}" for place in self.ends[:8]]
        if len(self.ends) > 8:
            lines.append(f"  … and {len(self.ends) - 8} more places")
        lines += [f"  try: {text}" for text in self.advice[:2]]
        return "\n".join(lines)

    __repr__ = __str__


def why(
    result: Tensor | Explanation, variable: Tensor | str,
    index: int | tuple[int, ...] | None = None, names: Names | None = None,
) -> Why:  # fmt: skip
    """Why the gradient of a result by an entry of a variable is what it is.

    The result is a Tensor or an Explanation, the variable a Tensor or the name that it has there.
    `index` is an entry, by default that with the largest gradient; where all are 0, of some that
    whose changes get furthest. Of a gradient that is zero or
    missing, the places where the way ends, each with its cause, and what to try; of one that is
    tiny the gates that make it so; of another, its largest paths.

    A constant keeps no record of where it came from. What was cut off by detach, stop_gradient or
    numpy() is found by its memory while the Tensor it came from is still held; what was taken out
    by float(), and what went through integers or comparisons, is guessed from its value and from
    the lines of the program.

    >>> import chainrule as cr
    >>> x = cr.tensor([1.0, -2.0])
    >>> f = cr.relu(x).sum()
    >>> answer = why(f, x, 1, names={"x": x, "f": f})
    >>> answer.cause, answer.ends[0].cause, answer.ends[0].gate
    ('zero', 'closed', 'q = relu(x)')
    >>> answer.ends[0].text
    'it lets no gradient through where x[1] is -2'
    """
    if not isinstance(variable, (Tensor, np.ndarray, str)):
        raise DTypeError(f"why asks about a Tensor, received {type(variable).__name__}")
    held = names
    if held is None:
        held = {k: v for k, v in from_caller().items() if isinstance(v, (Tensor, np.ndarray))}
    constant = isinstance(result, Tensor) and result.node is None and result._value is not None
    if constant and not isinstance(variable, str):
        name, own = _held(variable, held, "x"), _held(result, held, "f")
        return Why(name, own, None, "no graph", NO_GRAPH)
    order, naming = opened(result, held)
    root = order[-1]
    if isinstance(variable, str):
        start = named(variable, naming)
        gradient = gradients(order, root)[start]
        at = asked(order, naming, start, gradient, index)
        return reason(order, naming, start, gradient, at)
    if not isinstance(variable, Tensor) or variable.node is None:
        name = _held(variable, held, "x")
        came = origin(variable, held) if isinstance(variable, Tensor) else ""
        text = CONSTANT.format(name) + (f" It is {came}." if came else "")
        ends = cuts(order, variable, held, naming, name)
        return Why(name, naming[root], None, "constant", text, ends)
    leaf = node_of(variable, order)
    if leaf is None:
        return _no_path(order, variable, held, naming)
    gradient = gradients(order, root)[leaf]
    answer = reason(order, naming, leaf, gradient, asked(order, naming, leaf, gradient, index))
    if leaf is variable.node or leaf.data is variable._value:
        return answer
    text = f"(by the value it had: it was assigned anew since) {answer.text}"
    return Why(
        answer.entry, answer.result, answer.gradient, answer.cause, text, answer.ends, answer.paths
    )


def asked(
    order: Sequence[Node], naming: Naming, leaf: Node, gradient: Any, index: Any = None
) -> tuple[int, ...]:
    """The entry asked for; else that with the largest gradient, or whose changes get furthest."""
    at = entry_of(leaf, index, gradient)
    if index is not None or not leaf.shape or np.any(gradient):
        return at
    tried = np.unique(np.linspace(0, np.size(gradient) - 1, TRIED).astype(int))
    places = [tuple(int(i) for i in np.unravel_index(k, leaf.shape)) for k in tried]
    last = [
        max((e.serial for e in follow(order, leaf, place, naming)), default=0) for place in places
    ]
    return places[int(np.argmax(last))]


def reason(
    order: Sequence[Node], naming: Naming, leaf: Node, gradient: Any, at: tuple[int, ...]
) -> Why:
    """The same of nodes: `order` ends with the result, `gradient` is that of the leaf."""
    root, name, value = order[-1], naming[leaf], float(gradient[at])
    entry = name + (f"[{', '.join(map(str, at))}]" if at else "")
    of = called(root, naming)
    if not finite(root.value):
        bad = first_bad(root)
        if bad.primitive is None:
            text = f"{of} is not finite, and {naming[bad]} came in like that."
            place = end(bad, "data", f"{array(bad.value)}", naming)
        else:
            text = f"{of} is not finite; this is the first gate whose value is not:"
            outside = any(np.isnan(v).any() for v in _parts(bad.value))
            cause = "outside" if outside else "overflows"
            place = end(bad, cause, _values_of(bad, naming), naming)
        return Why(entry, of, value, "not finite", text, (place,))
    if not np.isfinite(value):
        ends = stopping(order, leaf, gradients(order, root), naming)
        text = "a slope on the way is not finite; the first gates where it is not any more:"
        return Why(entry, of, value, "not finite", text, ends)
    if value:
        return _not_zero(order, naming, leaf, gradient, at, entry)
    ends = follow(order, leaf, at, naming)
    if ends and all(e.cause == "cancels" for e in ends):
        text = "changes of it arrive, and they cancel."
        return Why(entry, of, value, "cancels", text, ends)
    if not ends:
        ends = stopping(order, leaf, gradients(order, root), naming)
    if not ends:
        text = "changes of it arrive, and they cancel, if only up to rounding."
        return Why(entry, of, value, "cancels", text)
    text = f"a change of it never arrives at {of}; it ends here:"
    return Why(entry, of, value, "zero", text, ends)


def _not_zero(
    order: Sequence[Node], naming: Naming, leaf: Node, gradient: Any, at: tuple[int, ...],
    entry: str,
) -> Why:  # fmt: skip
    root, value = order[-1], float(gradient[at])
    of = called(root, naming)
    found = between(order, naming, leaf, gradient, at, 20)
    if found.count > 1:
        one = f"the sum over {found.count:,} paths" if found.count < 10**9 else "the sum over paths"
        first = f"{one}, the largest "
    else:
        first = "one path "
    rows = "; ".join(f"{p}: {number(p.contribution)}" for p in found.paths[:3])
    adds = sum(abs(p.contribution) for p in found.paths)
    rounding = 16 * float(np.finfo(leaf.type.dtype).eps) * adds
    if found.count > 1 and abs(value) <= rounding:
        text = f"the contributions of {found.count:,} paths cancel up to rounding: {rows}"
        return Why(entry, of, value, "cancels", text, (), found)
    if abs(value) >= TINY:
        return Why(entry, of, value, "not zero", first + rows, (), found)
    shrinking: list[End] = []
    ratios: dict[str, list[tuple[float, Node]]] = {}
    path = found.paths[0] if found.paths else None
    for step, node in zip(path.steps, path.nodes[:0:-1], strict=True) if path else ():
        before, after = size(step.upstream), size(step.downstream)
        if after < SHRINKS * before:
            by = f"what goes back to {step.to} is {number(after / before)} times as large"
            shrinking.append(end(node, "shrinks", by, naming))
        elif after < before:
            ratios.setdefault(node.name, []).append((after / before, node))
    text = f"{first}{rows}; it shrinks on the way:" if shrinking else first + rows
    for gate, each in ratios.items() if not shrinking else ():
        together = float(np.prod([r for r, _ in each]))
        if together < SHRINKS:
            by = (
                f"{len(each)} gates {gate} on the way, each of which makes it smaller; together "
                f"{number(together)} times as large"
            )
            shrinking.append(end(each[0][1], "shrinks", by, naming))
    return Why(entry, of, value, "tiny", text, tuple(shrinking), found)


def _parts(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _values_of(node: Node, naming: Naming) -> str:
    """The first entry of a gate that is not finite, and what it was computed from."""
    found = node.value
    if isinstance(found, tuple):
        found = next(v for v in found if not finite(v))
    where = np.argwhere(~np.isfinite(found))
    at = tuple(int(i) for i in where[0]) if len(where) else ()
    name = naming[node] + (f"[{', '.join(map(str, at))}]" if at else "")
    text = f"{name} is {number(float(np.asarray(found)[at]))}"
    given = [x.value if isinstance(x, Node) else x for x in node.inputs]
    if isinstance(node.primitive, Elementwise) and len(given) <= 3:
        values = [np.broadcast_to(np.asarray(x), found.shape)[at] for x in given]
        text += ", from " + ", ".join(number(float(v)) for v in values)
    return text


def _no_path(order: Sequence[Node], variable: Tensor, held: Names, naming: Naming) -> Why:
    """Why a variable is not in the graph at all."""
    root, leaf = order[-1], variable.node
    assert leaf is not None
    name = _held(variable, held, "x")
    text = NO_PATH.format(name, naming[root])
    ends: tuple[End, ...] = ()
    if any(n is root for n in topological([leaf])):
        text = f"{name} is computed from {naming[root]}, not {naming[root]} from {name}."
    elif (twin := _twin(order, leaf)) is not None:
        text = (
            f"no path leads from {name} to {naming[root]}: it is computed from {naming[twin]}, "
            f"which has the same value and was computed apart from {name}."
        )
    else:
        ends = cuts(order, variable, held, naming, name)
    return Why(name, naming[root], None, "no path", text, ends)


def _twin(order: Sequence[Node], leaf: Node) -> Node | None:
    """A gate in the graph that does the same with the same inputs as the one asked about."""
    if leaf.primitive is None:
        return None
    for n in order:
        same = n.primitive is leaf.primitive and len(n.inputs) == len(leaf.inputs)
        if same and n.params == leaf.params:
            pairs = zip(n.inputs, leaf.inputs, strict=True)
            if all(x is y or _equal(x, y) for x, y in pairs):
                return n
    return None


def _equal(x: Any, y: Any) -> bool:
    arrays = not isinstance(x, Node) and not isinstance(y, Node)
    return arrays and np.array_equal(x, y)


def _held(value: Any, names: Names, else_: str) -> str:
    """What the caller calls a value."""
    found = [k for k, v in names.items() if v is value]
    own = value.name if isinstance(value, Parameter) else ""
    return (found or [own or else_])[0]
