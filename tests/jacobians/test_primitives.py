"""Every primitive that has a derivative: its local form is its local Jacobian, entry by entry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.autodiff.reverse import Linearized
from chainrule.core import bare
from chainrule.core.node import Node
from chainrule.core.types import FLOATS
from chainrule.errors import StructureError
from chainrule.jacobians import apply
from chainrule.jacobians.graph import gate_of, local_form, local_of
from tests.jacobians.writer import Power, Rotate, Round
from tests.ops.cases import CASES
from tests.ops.samples import OpCase, nonzero, normal
from tests.ops.support import by_floats

GATES = [
    OpCase("Power", "NumPy", lambda x, y: Power()(x, y), None, (normal, normal),
           (((3,), (3,)), ((), ()), ((0,), (0,)))),
    OpCase("Round", "straight through", lambda x: Round()(x), None, (normal,),
           (((2, 3),), ((),), ((0,),))),
    OpCase("Rotate", "two outputs", lambda x, y: Rotate()(x, y)[1], None, (nonzero, normal),
           (((2, 3), (2, 3)), ((), ()), ((0,), (0,)))),
]  # fmt: skip
"""Users' gates, which have no rows."""
ROWS = [case for case in CASES + GATES if case.floats]
ONLY_TRACED = {"scan", "cond"}
"""Gates that a program has only while it is traced: run, they are the gates of their bodies."""
SEVERAL = {"unstack", "remat", "Rotate"}
"""Gates with several outputs: the local Jacobians are those of the items taken from them."""


def gates(case: OpCase, shapes: Any, dtype: Any) -> list[Node]:
    """The gates with derivatives that the row's function records."""
    function, arrays = by_floats(case, case.draw(shapes, dtype))
    with np.errstate(all="ignore"):
        line = Linearized(lambda xs: function(*xs), arrays)
    return [n for n in line.order if gate_of(n).primitive is not None and hasattr(n.type, "shape")
            and n not in line.wanted and gate_of(n).primitive.differentiable]  # fmt: skip


def floating(node: Node) -> list[int]:
    """The operands of a gate that derivatives are taken by."""
    inputs = gate_of(node).inputs
    return [i for i, x in enumerate(inputs) if isinstance(x, Node) and x.type.dtype.char in FLOATS]


def pulled(node: Node, i: int) -> Any:
    """∂node/∂(operand i): the gate's own pull of each unit array, a row each."""
    local, x = local_of(node, i), gate_of(node).inputs[i]
    rows = np.zeros((node.type.size, x.type.size), node.type.dtype)
    units = np.eye(node.type.size, dtype=node.type.dtype)
    for row, u in zip(rows, units, strict=True):
        found = local.pull(bare.xp, u.reshape(node.type.shape))
        row[:] = 0 if found is None else np.asarray(found).reshape(-1)
    return rows.reshape(node.type.shape + x.type.shape)


EXAMPLES = pytest.mark.parametrize(
    ("case", "shapes"),
    [pytest.param(c, s, id=f"{c.name} {' '.join(map(str, s))}") for c in ROWS for s in c.shapes],
)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@EXAMPLES
def test_the_form_is_the_local_jacobian(case, shapes, dtype):
    for node in gates(case, shapes, dtype):
        for i in floating(node):
            expected = pulled(node, i)
            try:
                form = local_form(node, i)
            except StructureError as error:
                pytest.fail(f"{node.name} by operand {i} has no form: {error}")
            x = gate_of(node).inputs[i]
            assert (form.out_shape, form.in_shape) == (node.type.shape, x.type.shape)
            assert form.dtype == node.type.dtype
            found = apply.dense(form)
            assert found.dtype == expected.dtype
            # a product of partials is rounded in another order
            tolerance = 8 * np.finfo(node.type.dtype).eps
            np.testing.assert_allclose(found, expected, rtol=tolerance, atol=0, err_msg=node.name)


def test_every_differentiable_primitive_was_compared():
    compared = {
        gate_of(node).primitive.name
        for case in ROWS
        for shapes in case.shapes
        for node in gates(case, shapes, np.float64)
        if floating(node)
    }
    differentiable = {
        case.primitive for case in ROWS if case.primitive not in ONLY_TRACED and case.smooth
    }
    # steps have a derivative, too: 0
    assert differentiable - compared <= {"sign", "floor", "ceil", "round", "trunc"} | {"item"}
    assert compared >= SEVERAL


def test_wide_forms_are_not_written_out():
    """The form of an elementwise gate holds what its partial takes, not the square of it."""
    x = cr.tensor(np.linspace(-1, 1, 4096, dtype=np.float32))
    for function in (cr.relu, cr.sin, lambda x: x * 2, lambda x: x[::-1], cr.cumulative_sum):
        form = local_form(function(x)._node, 0)
        assert form.nbytes <= 4 * 4096
