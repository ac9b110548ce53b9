"""Where a NaN or an infinity came from: the first gate that made one from finite inputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.node import Node, topological
from ..core.primitive import Elementwise
from ..errors import GradientError
from ..ops.tensor import Tensor
from .numbers import array, number


@dataclass(frozen=True, eq=False)
class Nonfinite:
    """The gate (or the input) whose value was the first not to be finite.

    `gate` is its name, or "parameter", "variable" or "constant" for what came in so. `name` is
    that of a Parameter, `module` the path of modules, `line` the user's line, `file.py:12`.
    `inputs` are the values behind the entry `index` of an elementwise gate, the whole arrays of
    another.
    """

    gate: str
    value: float
    index: tuple[int, ...]
    count: int
    shape: tuple[int, ...]
    inputs: tuple[Any, ...] = ()
    name: str = ""
    module: str = ""
    line: str = ""

    def __str__(self) -> str:
        parts = [self.gate, f"{self.name!r}" if self.name else "", f"of shape {self.shape}"]
        parts += [f"in module {self.module!r}" if self.module else ""]
        parts += [f"at {self.line}" if self.line else ""]
        said = " ".join(filter(None, parts)) + f": {self.value:g}"
        if self.shape:
            size = int(np.prod(self.shape))
            said += f" at {list(self.index)} ({self.count:,} of {size:,} entries)"
        behind = ", ".join(array(x, lambda v: number(v, 6)) for x in self.inputs)
        return f"{said}, computed from {behind}" if behind else said


def first_nonfinite(result: Tensor) -> Nonfinite | None:
    """The first gate behind `result` whose output is NaN or infinite while its inputs are finite.

    First in the order in which the gates ran. Only what reaches the result counts: an infinity
    that a later gate turned into a finite number is not followed. A variable or a constant that
    came in as NaN or infinity is returned itself, before any gate. None if the result is finite.

    Raises GradientError for a Tensor of a traced graph, which has no values yet.

    >>> import chainrule as cr
    >>> x = cr.tensor([1.0, 0.0])
    >>> with np.errstate(divide="ignore"):
    ...     found = first_nonfinite(cr.log(x).sum())
    >>> found.gate, found.value, found.index
    ('log', -inf, (1,))
    """
    if result._value is None:
        raise GradientError("a Tensor of a traced graph has no values: look at it in eager")
    if finite(result._value):
        return None
    if result.node is None:
        return _record("constant", result._value)
    return _origin(first_bad(result.node))


def first_bad(root: Node) -> Node:
    """The node whose value was the first not to be finite, behind one that is not."""
    origin = root
    bad = {root}
    for node in reversed(topological([root])):  # outputs first: is it on a way that is bad?
        if node not in bad:
            continue
        behind = [x for x in node.inputs if not finite(_value(x))]
        bad.update(x for x in behind if isinstance(x, Node))
        if not behind or not all(isinstance(x, Node) for x in behind):
            origin = node  # the last one met is the first that ran
    return origin


def _origin(node: Node) -> Nonfinite:
    handle = node.handle() if node.handle is not None else None
    module = ".".join(node.scope)
    if node.primitive is None:
        name = getattr(handle, "name", "") or ""
        return _record("parameter" if name else "variable", node.value, name=name)
    given = [_value(x) for x in node.inputs]
    value = node.value
    if isinstance(value, tuple):
        value = next(v for v in value if not finite(v))
    came = [x for x in given if not finite(x)]
    if came:
        return _record(f"constant into {node.name}", came[0], module=module, line=_line(node))
    index = _first(value)
    if isinstance(node.primitive, Elementwise):
        given = [np.broadcast_to(np.asarray(x), np.shape(value))[index] for x in given]
    return _record(node.name, value, inputs=tuple(given), module=module, line=_line(node))


def _line(node: Node) -> str:
    """The line of the user's program; none where the program is a command, as `chainrule train`."""
    line = node.line
    installed = {"site-packages", "dist-packages"} & set(Path(line).parts)
    return "" if installed or line.startswith("<frozen ") else line


def _record(gate: str, value: Any, **more: Any) -> Nonfinite:
    values, index = np.asarray(value), _first(value)
    count = int((~np.isfinite(values)).sum())
    return Nonfinite(gate, float(values[index]), index, count, values.shape, **more)


def _first(value: Any) -> tuple[int, ...]:
    """The index of the first entry that is not finite."""
    return tuple(int(i) for i in np.argwhere(~np.isfinite(np.asarray(value)))[0])


def _value(x: Any) -> Any:
    return x.value if isinstance(x, Node) else x


def finite(value: Any) -> bool:
    """Whether all numbers of an array, or of the outputs of a gate, are finite."""
    if isinstance(value, tuple):
        return all(map(finite, value))
    values = np.asarray(value)
    return values.dtype.kind not in "fc" or bool(np.isfinite(values).all())
