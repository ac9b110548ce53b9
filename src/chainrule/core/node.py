"""Nodes: the record of one application of a gate. Data, never a closure.

A node's inputs are nodes, or constants (arrays by reference, Python numbers). A node without a
primitive is a leaf: a variable, or an input of a traced graph.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterable
from operator import attrgetter
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np

from .primitive import Params, Primitive
from .types import ArrayType, Shape, TupleType

next_serial = itertools.count().__next__
"""Numbers nodes as they are made: inputs before what uses them, so sorting by it orders a graph."""
PACKAGE = str(Path(__file__).resolve().parent.parent) + os.sep
INSIDE = len(PACKAGE)
Where = tuple[CodeType, int]


class Node:
    """primitive(inputs, params) with its type; in eager also its value.

    `data` is the value, or, for a broadcast that nobody asked the value of, an array that
    broadcasts to it; None in traced graphs. `where` is the code object and instruction of the
    caller; `scope` the path of modules; `handle` a weak reference to the Tensor.
    """

    __slots__ = (
        "_type", "data", "handle", "inputs", "params", "primitive", "scope", "serial", "where",
    )  # fmt: skip

    def __init__(
        self,
        primitive: Primitive | None,
        inputs: tuple[Any, ...],
        params: Params | None,
        data: Any,
        type: ArrayType | TupleType | None = None,
        where: Where | None = None,
        scope: tuple[str, ...] = (),
    ) -> None:
        self.primitive = primitive
        self.inputs = inputs
        self.params = params
        self.data = data
        self._type = type
        self.where = where
        self.scope = scope
        self.handle: Any = None
        self.serial = next_serial()

    @property
    def type(self) -> ArrayType:
        """Shape and dtype of the value (a TupleType for a gate with several outputs)."""
        if self._type is None:
            if isinstance(self.data, tuple):
                return TupleType(tuple(ArrayType(d.shape, d.dtype) for d in self.data))  # type: ignore[return-value]
            return ArrayType(self.data.shape, self.data.dtype)
        return self._type  # type: ignore[return-value]

    @property
    def shape(self) -> Shape:
        return self.data.shape if self._type is None else self._type.shape  # type: ignore[union-attr]

    @property
    def value(self) -> Any:
        """The value, in full shape; None in a traced graph."""
        if self._type is None or self.data is None or isinstance(self.data, tuple):
            return self.data
        if self.data.shape != self.shape:
            return np.broadcast_to(self.data, self.shape)
        return self.data

    @property
    def name(self) -> str:
        return self.primitive.name if self.primitive is not None else "input"

    def local(self, operand: int = 0) -> Any:
        """∂node/∂(operand) as a `Jacobian`, of a gate that was run: `upstream @ local` is the
        downstream gradient.

        >>> import chainrule as cr
        >>> x = cr.tensor([1.0, -2.0])
        >>> cr.relu(x).node.local(0).structure
        'diagonal'
        """
        from ..jacobians.jacobian import Gate

        return Gate(self, operand)

    @property
    def line(self) -> str:
        """The line of the user's program that made this node, as `file.py:12`; "" if unknown."""
        if self.where is None:
            return ""
        code, instruction = self.where
        return f"{code.co_filename}:{line_number(code, instruction)}"

    def __repr__(self) -> str:
        return f"Node({self.name}: {self.type})"


def caller() -> Where:
    """The code object and instruction offset of the first frame outside chainrule."""
    frame = sys._getframe(2)
    while frame.f_code.co_filename[:INSIDE] == PACKAGE:
        if frame.f_back is None:
            break
        frame = frame.f_back
    return frame.f_code, frame.f_lasti


def line_number(code: CodeType, instruction: int) -> int:
    """The source line of an instruction of a code object."""
    for start, end, line in code.co_lines():
        if start <= instruction < end and line is not None:
            return line
    return code.co_firstlineno


def topological(roots: Iterable[Node], stops: Iterable[Node] = (), since: int = 0) -> list[Node]:
    """Every node that the roots depend on, inputs first. Nothing above a stop is visited.

    Nor is anything above a node made before the serial number `since`: it cannot depend on a node
    made later.
    """
    stack = list(roots)
    seen: set[Node] = set(stack)
    stops = set(stops)
    pop, push, add = stack.pop, stack.append, seen.add
    while stack:
        node = pop()
        if node in stops or node.serial < since:
            continue
        for x in node.inputs:
            if x.__class__ is Node and x not in seen:
                add(x)
                push(x)
    return sorted(seen, key=BY_SERIAL)


BY_SERIAL = attrgetter("serial")
