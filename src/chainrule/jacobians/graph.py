"""The local Jacobians of recorded gates as forms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .. import ops
from ..autodiff.reverse import handles_of
from ..core import bare
from ..core.local import Local
from ..core.node import Node
from ..core.primitive import ITEM
from ..core.types import FLOATS, ArrayType, TupleType
from ..errors import StructureError
from ..ops.custom import Opaque
from ..ops.shaping import UNSTACK
from .form import Form, made, ones
from .leaves import form_of
from .positions import Affine, Factor
from .term import Term, box_of

DENSE = 2**16
"""Entries up to which the Jacobian of a gate that says nothing of its structure is written out."""


def locals_of(node: Node, active: set[Node], loose: bool = False) -> dict[Node, Form]:
    """The Jacobians of a gate by its operands that are active.

    At the values it was run on; in a trace for all values. With `loose` what is not known is
    ones, so that the form covers all entries that can be nonzero.
    """
    gate = gate_of(node)
    if gate.primitive is None or not gate.primitive.differentiable:
        return {}
    kind: Any = node.type
    if isinstance(kind, TupleType):  # its outputs are gates of their own
        return {}
    pairs = ((x, local_form(node, i, loose)) for i, x in _wanted(gate, active))
    return _sums(pairs)


def local_of(node: Node, i: int) -> Local:
    """The local Jacobian of operand i as the gate states it, at the values it was run on."""
    traced = node.data is None
    if traced:
        operands, out = handles_of(node)
    else:
        operands, out = [y.data if isinstance(y, Node) else y for y in node.inputs], node.data
    primitive = node.primitive
    assert primitive is not None
    if primitive is ITEM or primitive.joint:
        return Joint(node, i)
    with np.errstate(all="ignore"):
        return primitive.local(i, ops if traced else bare.xp, out, operands, node.params or {})


class Joint(Local):
    """The local Jacobian of a gate whose rules answer for all operands at once."""

    def __init__(self, node: Node, operand: int, index: int | None = None) -> None:
        self.node, self.operand, self.index = node, operand, index
        if node.primitive is ITEM:
            self.node, self.index = node.inputs[0], node.params["index"]  # type: ignore[index]

    def _rules(self) -> tuple[Any, tuple[Any, list[Any], Any], int]:
        node = self.node
        operands = [y.data if isinstance(y, Node) else y for y in node.inputs]
        return node.primitive, (node.data, operands, node.params or {}), len(types_of(node))

    def pull(self, xp: Any, upstream: Any, /) -> Any:
        primitive, given, outputs = self._rules()
        if self.index is not None:
            upstream = [upstream if k == self.index else None for k in range(outputs)]
        wanted = [k == self.operand for k in range(len(given[1]))]
        return primitive.pull_all(xp, upstream, *given, wanted)[self.operand]

    def push(self, xp: Any, tangent: Any, /) -> Any:
        primitive, given, _ = self._rules()
        tangents = [tangent if k == self.operand else None for k in range(len(given[1]))]
        moved = primitive.push_all(xp, tangents, *given)
        return moved if self.index is None else moved[self.index]


def local_form(node: Node, i: int, loose: bool = False) -> Form:
    """∂node/∂(operand i), at the values the gate was run on (of a trace: for all values)."""
    return _form(local_of(node, i), node.type, operand_type(node, i), loose)


def gate_of(node: Node) -> Node:
    """The gate itself, for an output of a gate with several."""
    return node.inputs[0] if node.primitive is ITEM else node


def operand_type(node: Node, i: int) -> ArrayType:
    """The type of operand i of the gate."""
    x = gate_of(node).inputs[i]
    return x.type if isinstance(x, Node) else ArrayType(np.shape(x), np.asarray(x).dtype)


def _form(local: Local, out: ArrayType, into: ArrayType, loose: bool) -> Form:
    if isinstance(local, Joint) and local.node.primitive is UNSTACK:
        return _slice(local.node, local.index or 0)
    if not isinstance(local, (Joint, Opaque)):
        with np.errstate(all="ignore"):
            return form_of(local, out.shape, into.shape, out.dtype, loose)
    if loose:
        return ones(out.shape, into.shape, out.dtype)
    return _written_out(lambda u: local.pull(bare.xp, u), out, into)


def _wanted(node: Node, active: set[Node]) -> Iterator[tuple[int, Node]]:
    for i, x in enumerate(node.inputs):
        if isinstance(x, Node) and x in active and types_of(x)[0].dtype.char in FLOATS:
            yield i, x


def types_of(node: Node) -> Sequence[ArrayType]:
    """The types of the outputs of a gate."""
    kind: Any = node.type
    return kind.items if isinstance(kind, TupleType) else (kind,)


def _sums(pairs: Iterator[tuple[Node, Form]]) -> dict[Node, Form]:
    """The forms by operand, added where one stands twice; zero ones left out."""
    found: dict[Node, Form] = {}
    for x, form in pairs:
        if form.terms:
            found[x] = found[x] + form if x in found else form
    return found


def _slice(node: Node, index: int) -> Form:
    """∂(slice `index` of x)/∂x, for the gate with an output for each slice."""
    x = node.inputs[0]
    axis, shape = node.params["axis"], x.type.shape  # type: ignore[index]
    rest = (*shape[:axis], *shape[axis + 1 :])
    sizes, out = box_of(rest)
    inn = (*out[:axis], Affine((), index), *out[axis:])
    return made(rest, shape, x.type.dtype, [Term(sizes, out, inn)])


def _written_out(pull: Callable[[Any], Any], out: ArrayType, into: ArrayType) -> Form:
    """The form of a gate known by its backward alone, row by row."""
    m, n = out.size, into.size
    if m * n > DENSE:
        raise StructureError(f"a gate of {m}×{n} that does not tell the structure of its Jacobian")
    rows = np.zeros((m, n), out.dtype)
    for k in range(m):
        unit = np.zeros(m, out.dtype)
        unit[k] = 1
        with np.errstate(all="ignore"):
            found = pull(unit.reshape(out.shape))
        if found is not None:
            rows[k] = np.asarray(found).reshape(n)
    left, index = box_of(out.shape)
    right, places = box_of(into.shape)
    factor = Factor(rows.reshape(out.shape + into.shape), (*left, *right))
    term = Term({**left, **right}, index, places, (factor,), notes=frozenset({"dense"}))
    return made(out.shape, into.shape, out.dtype, [term])
