"""What a gate does to gradients, read from its local Jacobians: distributes, routes, switches ….

Nothing here knows a gate by its name. The form of the local Jacobian of each input (core/local.py)
decides, and where a form does not say it all, what that Jacobian is at other values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import bare
from ..core.indexmap import IndexMap
from ..core.local import (
    Contraction,
    Diagonal,
    Identity,
    Linear,
    Local,
    Mask,
    Product,
    Scale,
    Zero,
)  # fmt: skip
from ..core.node import Node
from ..core.primitive import ITEM, Elementwise, LinearGate
from ..core.types import FLOATS, size_of
from ..ops.custom import Custom, Opaque
from ..ops.dispatch import CastBack

WORDS = {
    "passes": "the gradient goes on unchanged",
    "distributes": "every input gets the gradient (subtracted ones with a minus)",
    "negates": "the gradient changes its sign",
    "scales": "the gradient is multiplied by the slope of the gate",
    "switches": "each input gets the gradient times the other input",
    "routes": "the gradient goes to the chosen entries, 0 to the others",
    "copies": "every entry that was summed gets the gradient",
    "adds": "an entry used several times gets the sum of its gradients",
    "moves": "the gradient goes back to where the entries came from",
    "stops": "nothing flows back",
    "custom": "as the backward of the user's gate says",
    "transforms": "the gradient is multiplied by the local Jacobian",
}
"""The words, and what they say."""
PASSING = (Identity, CastBack)
PROBES = (0.37, 0.61, 0.83, 0.29, 0.71)
"""Values at which a local Jacobian is looked at: different ones, inside every gate's domain."""


def operands_of(node: Node) -> list[Any]:
    """The inputs of a node as bare arrays, which is what rules want."""
    return [x.data if isinstance(x, Node) else x for x in node.inputs]


def local_of(node: Node, i: int, operands: Sequence[Any]) -> Local:
    """The local Jacobian of input i, as the engine has it."""
    assert node.primitive is not None
    if node.primitive is ITEM:
        return Identity()
    return node.primitive.local(i, bare.xp, node.data, operands, node.params or {})


def is_float(x: Any) -> bool:
    """Whether gradients are taken by such an operand (conditions and tables have none)."""
    return isinstance(x, tuple) or np.asarray(x).dtype.char in FLOATS


def word(node: Node) -> str:
    """What the gate does to gradients, in one of `WORDS`.

    >>> import chainrule as cr
    >>> x, y = cr.tensor(2.0), cr.tensor(3.0)
    >>> [word(f(x, y).node) for f in (cr.add, cr.multiply, cr.maximum)]
    ['distributes', 'switches', 'routes']
    """
    primitive = node.primitive
    assert primitive is not None
    if primitive.joint:
        return "custom" if isinstance(primitive, Custom) else "transforms"
    operands = operands_of(node)
    places = [i for i, x in enumerate(operands) if is_float(x)]
    with np.errstate(all="ignore"):
        forms = [local_of(node, i, operands) for i in places]
    pairs = [(i, f) for i, f in zip(places, forms, strict=True) if not isinstance(f, Zero)]
    forms = [f for _, f in pairs]
    if not forms:
        return "stops"
    if all(isinstance(f, PASSING) for f in forms):
        return "distributes" if len(operands) > 1 else "passes"
    if all(isinstance(f, (*PASSING, Scale)) for f in forms):
        return _scaled(forms)
    if any(isinstance(f, Opaque) for f in forms):
        return "custom"
    if all(isinstance(f, Mask) for f in forms):
        return "routes"
    if all(isinstance(f, Linear) for f in forms):
        return _moved([f.map for f in forms if isinstance(f, Linear)])
    if all(_is_other(f, i, operands) for i, f in pairs):
        return "switches"
    if selects(node, forms, operands):
        return "routes"
    if all(isinstance(f, (*PASSING, Scale, Diagonal, Mask)) for f in forms):
        return "scales"
    return "transforms"


def _scaled(forms: Sequence[Local]) -> str:
    if len(forms) > 1:
        return "distributes"
    return "negates" if isinstance(forms[0], Scale) and forms[0].factor == -1 else "scales"


def _moved(maps: Sequence[IndexMap]) -> str:
    """A linear gate without numbers: which way does it have more entries to fill?"""
    if any(p.table is not None for m in maps for p in (*m.reads, *m.writes)):
        return "routes"
    if any(m.T.additions or m.T.summed for m in maps):
        return "adds"
    if any(m.additions or m.summed for m in maps):
        return "copies"
    sizes = [(size_of(m.sizes), size_of(m.in_shape), size_of(m.out_shape)) for m in maps]
    return "moves" if all(len(set(s)) == 1 for s in sizes) else "routes"


def _is_other(form: Local, i: int, operands: Sequence[Any]) -> bool:
    """Whether the local Jacobian is the other operand itself (not merely equal to it)."""
    if len(operands) != 2:
        return False
    if isinstance(form, Contraction):
        return form.other is operands[1 - i]
    return isinstance(form, Diagonal) and form.partial is operands[1 - i]


def selects(node: Node, forms: Sequence[Local], operands: Sequence[Any]) -> bool:
    """Whether each output entry is one chosen entry of the inputs, whatever the values are.

    Looked for at values that are all different, in two orders: there the partials of a selection
    are a single 1 and else 0.
    """
    if isinstance(node.primitive, Elementwise) and len(operands) > 1:
        if not all(isinstance(f, Diagonal) for f in forms):
            return False
        first, second = (_partials(node, len(operands), step) for step in (1, -1))
        one_hot = [0.0] * (len(operands) - 1) + [1.0]
        return sorted(first) == sorted(second) == one_hot
    return len(operands) == 1 and isinstance(forms[0], Product) and _picks(node, operands[0])


def _partials(node: Node, n: int, step: int) -> list[float]:
    """The partials of an elementwise gate at n different numbers; NaN for another form."""
    primitive, params = node.primitive, node.params or {}
    assert primitive is not None
    values = [np.array(p) for p in PROBES[:n][::step]]
    if len(values) < n:
        return []
    with np.errstate(all="ignore"):
        out = np.asarray(primitive.forward(*values, **params))
        forms = [primitive.local(i, bare.xp, out, values, params) for i in range(n)]
    return [float(f.partial) if isinstance(f, Diagonal) else np.nan for f in forms]


def _picks(node: Node, x: Any) -> bool:
    """Whether a gate with the local Jacobian linear × diagonal is a selection of entries."""
    primitive, params = node.primitive, node.params or {}
    assert primitive is not None
    probe = np.random.default_rng(0).permutation(x.size).reshape(x.shape).astype(x.dtype)
    out = np.asarray(primitive.forward(probe, **params))
    partial = weights(primitive.local(0, bare.xp, out, [probe], params))
    return partial is not None and bool(np.isin(partial, (0, 1)).all())


def weights(form: Local) -> Any:
    """The numbers in a local Jacobian that is diagonal, or linear × one diagonal; else None."""
    if isinstance(form, Diagonal):
        return form.partial
    if isinstance(form, Product):
        diagonals = [f for f in form.factors if isinstance(f, Diagonal)]
        others = [f for f in form.factors if not isinstance(f, (Diagonal, Linear))]
        return diagonals[0].partial if len(diagonals) == 1 and not others else None
    return None


def numbers_of(form: Local, node: Node, i: int, other: str) -> Any:
    """A local Jacobian as a number or array where it is one, else in words.

    Scalar gates have a number. Of tensors, diagonal ones have the array of their partials; linear
    ones have their index formula; contractions the name of the other operand.
    """
    shape = node.shape if not isinstance(node.data, tuple) else ()
    match form:
        case Identity() | CastBack():
            return 1.0
        case Zero():
            return 0.0
        case Scale():
            return float(form.factor)
        case Diagonal():
            return np.broadcast_to(form.partial, shape)
        case Mask():
            return np.broadcast_to(np.asarray(form.mask) == form.passes, shape).astype(float)
        case Linear():
            return str(form.map)
        case Contraction():
            return f"{other} ({form.spec})"
        case Product():
            found = weights(form)
            return found if found is not None else "product"
    return f"backward of {node.name}" if isinstance(form, Opaque) else type(form).__name__.lower()


def only_moves(node: Node) -> bool:
    """Whether a gate moves entries to places that are the same for all data (no lookup)."""
    map = (node.params or {}).get("map")
    looked_up = map is not None and any(p.table is not None for p in (*map.reads, *map.writes))
    return isinstance(node.primitive, LinearGate) and not looked_up
