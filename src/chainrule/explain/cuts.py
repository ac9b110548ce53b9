"""Where a variable enters a graph as a constant, so that no path leads back to it.

A constant keeps no record of where it came from (it costs nothing, and keeps nothing alive). But
what was cut off with detach, stop_gradient or numpy() is the very memory of a value that may still
be recorded somewhere; what came through no memory (float(), NumPy, comparisons) is looked for by
its value and by the lines of the program.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..core.node import Node, topological
from ..ops.tensor import Tensor
from .ends import End, end
from .lines import Program
from .names import Names, Naming
from .numbers import place, source

COMMON = (0.0, 1.0, -1.0, 2.0, 0.5)
"""Numbers that say nothing about where they came from."""


def cuts(
    order: Sequence[Node], variable: Any, names: Names, naming: Naming, name: str
) -> tuple[End, ...]:
    """The gates by which a variable, or what was computed from it, enters as a constant.

    Those found by their memory; if there are none, those that may be meant.
    """
    given = [(n, x) for n in order for x in n.inputs if isinstance(x, np.ndarray) and x.size]
    sources = _Sources(variable, [x for _, x in given], names)
    found = [
        end(node, "stopped", f"{naming[x]} is {text}, read as a constant", naming)
        for node, x in given
        if (text := sources.of(x, name))
    ]
    if found:
        return tuple(found)
    alike = [
        end(node, "stopped", f"the constant {naming[x]} is the value of {text}: was it taken out "
            "by float(), item() or NumPy?", naming)
        for node, x in given
        if (text := sources.alike(x, name))
    ]  # fmt: skip
    return tuple(alike or _by_line(order, naming, sources.words(name)))


def origin(variable: Tensor, names: Names) -> str:
    """What a constant was computed from, in words; "" if nothing that is still recorded."""
    sources = _Sources(None, [variable._value], names)
    return sources.of(variable._value, "")


class _Sources:
    """The values that were computed from a variable, as far as they are still recorded."""

    def __init__(self, variable: Any, arrays: Sequence[Any], names: Names) -> None:
        self.variable = variable
        self.leaf = variable.node if isinstance(variable, Tensor) else None
        self.names = names
        self._from: dict[Node, bool] = {}
        owners = {id(o) for x in arrays for o in _owners(x)}
        nodes = (r for r in gc.get_objects() if type(r) is Node and id(r.data) in owners)
        self.recorded: dict[int, list[Node]] = {}
        for node in sorted(nodes, key=lambda n: n.serial):
            self.recorded.setdefault(id(node.data), []).append(node)

    def of(self, x: Any, name: str) -> str:
        """What an array is: "the value of x", or of something computed from x; "" if neither."""
        value = self.variable._value if isinstance(self.variable, Tensor) else self.variable
        if isinstance(value, np.ndarray) and _shares(x, value):
            return f"the value of {name}"
        for owner in _owners(x):
            for node in self.recorded.get(id(owner), ()):
                if node.primitive is not None and self._depends(node):
                    return f"the value of {self._named(node)}" + (
                        f", computed from {name}" if name else ""
                    )
        return ""

    def alike(self, x: Any, name: str) -> str:
        """The name of a Tensor computed from the variable that has this very value."""
        if x.size != 1 or float(x.flat[0]) in COMMON or self.leaf is None:
            return ""
        for held, tensor in {name: self.variable, **self.names}.items():
            if isinstance(tensor, Tensor) and tensor.size == 1 and tensor.node is not None:
                value = tensor._value
                same = value is not None and value.astype(x.dtype).reshape(()) == x.reshape(())
                if same and self._depends(tensor.node):
                    return held
        return ""

    def words(self, name: str) -> list[str]:
        """The names of the variable and of the Tensors computed from it."""
        held = [
            k for k, t in self.names.items()
            if isinstance(t, Tensor) and t.node is not None and self._depends(t.node)
        ]  # fmt: skip
        return list(dict.fromkeys([name, *held]))

    def _depends(self, node: Node) -> bool:
        """Whether a node was computed from the variable (if one was given)."""
        if node not in self._from:
            above = topological([node])
            self._from[node] = self.leaf is None or any(n is self.leaf for n in above)
        return self._from[node]

    def _named(self, node: Node) -> str:
        held = [k for k, t in self.names.items() if isinstance(t, Tensor) and t.node is node]
        where = f" at {place(node.line)}" if node.line else ""
        return held[0] if held else f"{node.name}(…){where}"


def _shares(x: Any, value: Any) -> bool:
    """Whether two arrays show the same memory; where that is hard to tell, whether they may."""
    try:
        return np.shares_memory(x, value, 100_000)  # type: ignore[arg-type]  # any bound is good
    except np.exceptions.TooHardError:
        return np.may_share_memory(x, value)


def _owners(x: Any) -> Iterable[Any]:
    """An array and those whose memory it shows."""
    while isinstance(x, np.ndarray):
        yield x
        x = x.base


def _by_line(order: Sequence[Node], naming: Naming, words: Sequence[str]) -> list[End]:
    """Gates on lines of the program into which the variable goes, by the names there."""
    programs: dict[str, Program] = {}
    ways: dict[str, tuple[str, str, int] | None] = {}
    found: dict[str, tuple[bool, End]] = {}
    for node in order:
        at_line = node.line
        file, _, line = at_line.rpartition(":")
        if node.primitive is None or not file:
            continue
        if at_line not in ways:
            ways[at_line] = programs.setdefault(file, Program(file)).came(int(line), words)
        came = ways[at_line]
        if came is None:
            continue
        word, name, at = came
        text = f"this line names {word}, which may go in here as a constant"
        if name:
            made = f"{file}:{at}"
            text = f"this line names {name}, made from {word} ({place(made)}: {source(made)})"
        constant = any(isinstance(x, np.ndarray) and not _plain(x) for x in node.inputs)
        if text not in found or (constant and not found[text][0]):
            found[text] = constant, end(node, "stopped", text, naming)
    return [e for _, e in found.values()][:5]


def _plain(x: Any) -> bool:
    """Whether a constant is likely a number that stands in the program."""
    return x.size == 0 or (x.ndim == 0 and float(x) in COMMON)
