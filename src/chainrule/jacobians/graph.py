"""The local Jacobians of recorded gates as forms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .. import ops
from ..autodiff.reverse import handles_of
from ..core import bare
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
    primitive = node.primitive
    assert primitive is not None
    if primitive is ITEM:
        parent, index = node.inputs[0], node.params["index"]  # type: ignore[index]
        pairs = ((x, _joint(parent, index, i, x, loose)) for i, x in _wanted(parent, active))
    elif not primitive.differentiable:
        return {}
    elif primitive.joint:
        pairs = ((x, _joint(node, None, i, x, loose)) for i, x in _wanted(node, active))
    else:
        pairs = ((x, local_form(node, i, loose)) for i, x in _wanted(node, active))
    return _sums(pairs)


def local_form(node: Node, i: int, loose: bool = False) -> Form:
    """∂node/∂(operand i), at the values the gate was run on."""
    x, primitive = node.inputs[i], node.primitive
    into = x.type if isinstance(x, Node) else ArrayType(np.shape(x), np.asarray(x).dtype)
    traced = node.data is None
    if traced:
        operands, out = handles_of(node)
    else:
        operands, out = [y.data if isinstance(y, Node) else y for y in node.inputs], node.data
    xp = ops if traced else bare.xp
    with np.errstate(all="ignore"):
        local = primitive.local(i, xp, out, operands, node.params or {})  # type: ignore[union-attr]
        if isinstance(local, Opaque):
            if loose:
                return ones(node.type.shape, into.shape, node.type.dtype)
            return _written_out(lambda u: local.pull(bare.xp, u), node.type, into)
        return form_of(local, node.type.shape, into.shape, node.type.dtype, loose)


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


def _joint(node: Node, index: int | None, i: int, x: Node, loose: bool) -> Form:
    """∂(output `index` of a gate with rules for all operands at once)/∂(operand i)."""
    if node.primitive is UNSTACK:
        return _slice(node, index or 0, x)
    types = types_of(node)
    if loose:
        return ones(types[index or 0].shape, x.type.shape, types[index or 0].dtype)
    wanted = [k == i for k in range(len(node.inputs))]
    operands = [y.data if isinstance(y, Node) else y for y in node.inputs]

    def pull(u: Any) -> Any:
        upstream = u if index is None else [u if k == index else None for k in range(len(types))]
        found = node.primitive.pull_all(  # type: ignore[union-attr]
            bare.xp, upstream, node.data, operands, node.params or {}, wanted
        )
        return found[i]

    return _written_out(pull, types[index or 0], x.type)


def _slice(node: Node, index: int, x: Node) -> Form:
    """∂(slice `index` of x)/∂x, for the gate with an output for each slice."""
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
