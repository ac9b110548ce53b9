"""What the wires of a graph are called: the user's names where there are any, else q, f, v1 ….

A graph does not know how its variables were called in the program. The names come from the caller
(`names={"x": x}`), from Parameters, and from the local variables of the calling function.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, count
from typing import Any

import numpy as np

from ..core.node import INSIDE, PACKAGE, Node
from ..errors import DTypeError
from ..ops.tensor import Tensor
from .numbers import FEW, array

Names = Mapping[str, Any]
NESTED = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>", "<lambda>")
"""Functions without a name: the one around them has the names."""


class Naming:
    """A name for every node of a graph, and for the constant arrays it uses."""

    def __init__(self, order: Sequence[Node], result: Node, names: Names | None) -> None:
        self.nodes: dict[Node, str] = {}
        self.given: set[Node] = set()
        """Those that the caller has a name for."""
        self.arrays: dict[int, str] = {}
        self._taken: set[str] = set()
        self._give(order, from_caller() if names is None else _checked(names))
        for node in order:
            handle = node.handle() if node.handle is not None else None
            own = getattr(handle, "name", "")
            if own and node not in self.nodes:
                self.nodes[node] = self._free(chain([own], (f"{own}#{k}" for k in count(2))))
        self._taken.update(self.arrays.values())
        self._number(order, result)

    def _give(self, order: Sequence[Node], names: Names) -> None:
        """The names of Tensors in this graph, and of the arrays among its constants."""
        known = set(order)
        held = {id(n.handle()): n for n in order if n.handle is not None and n.handle() is not None}
        for name, value in names.items():
            if isinstance(value, Tensor):
                node = value.node if value.node in known else held.get(id(value))
                if node is not None and node not in self.nodes:
                    self.nodes[node] = name
                    self.given.add(node)
                    self._taken.add(name)
                if value.is_constant:
                    self.arrays.setdefault(id(value._value), name)
            elif isinstance(value, np.ndarray):
                self.arrays.setdefault(id(value), name)

    def _number(self, order: Sequence[Node], result: Node) -> None:
        """v1, v2 … for the variables without a name, f for the result, q1, q2 … in between."""
        if result not in self.nodes and result.primitive is not None:
            self.nodes[result] = self._free(chain(["f", "out"], (f"out{k}" for k in count(2))))
        rest = [n for n in order if n not in self.nodes]
        alone = sum(n.primitive is not None for n in rest) == 1
        variables = (f"v{k}" for k in count(1))
        between = chain(["q"] if alone else [], (f"q{k}" for k in count(1)))
        for node in rest:
            self.nodes[node] = self._free(variables if node.primitive is None else between)

    def _free(self, candidates: Iterator[str]) -> str:
        """The first of the candidates that nothing else is called."""
        name = next(c for c in candidates if c not in self._taken)
        self._taken.add(name)
        return name

    def __getitem__(self, x: Any) -> str:
        """The name of a node; of a constant its name if it has one, else its value."""
        if isinstance(x, Node):
            return self.nodes[x]
        if id(x) in self.arrays:
            return self.arrays[id(x)]
        return array(x) if np.size(x) <= FEW else f"const{np.shape(x)}"


def _checked(names: Names) -> Names:
    for name, value in names.items():
        if not isinstance(name, str) or not isinstance(value, (Tensor, np.ndarray)):
            raise DTypeError(
                f"names maps names to Tensors, as {{'x': x}}; received {name!r}: {value!r:.60}"
            )
    return names


def from_caller() -> Names:
    """The variables of the first function outside chainrule, without those that begin with _."""
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename[:INSIDE] == PACKAGE:
        frame = frame.f_back
    found: dict[str, Any] = {}
    while frame is not None:
        found = {**frame.f_locals, **found}
        if frame.f_code.co_name not in NESTED:
            break
        frame = frame.f_back  # a comprehension has a frame of its own, and few names
    return {k: v for k, v in found.items() if k.isidentifier() and not k.startswith("_")}
