"""Values of every row: as NumPy's in shape, dtype and entries, however the inputs lie in memory."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.core.types import ArrayType
from chainrule.ops.tracing import trace
from tests.ops.support import ROWS, assert_close, assert_same, by_floats, examples


def apart(x):
    """The same entries, neither contiguous nor in order: every second one of a larger array."""
    if not x.ndim:
        return x
    wide = np.full(tuple(2 * n for n in x.shape), x.dtype.type(7), x.dtype)
    view = wide[tuple(slice(None, None, -2) for _ in x.shape)]
    view[...] = x
    return view


@examples(ROWS)
def test_numpy_agrees(case, shapes):
    inputs = case.draw(shapes)
    received, expected = case.function(*map(cr.asarray, inputs)), case.reference(*inputs)
    assert isinstance(received, cr.Tensor)
    assert received.shape == np.shape(expected)
    assert received.dtype == np.asarray(expected).dtype
    assert received.is_constant
    assert_close(received, expected, 1e-13)


@examples(ROWS)
def test_variables_give_the_values_that_constants_give(case, shapes):
    inputs = case.draw(shapes)
    function, floats = by_floats(case, inputs)
    assert_same(function(*map(cr.tensor, floats)), case.function(*map(cr.asarray, inputs)))


@examples(ROWS)
def test_float32_stays_float32_and_is_close(case, shapes):
    wide, narrow = case.draw(shapes), case.draw(shapes, np.float32)
    received = case.function(*map(cr.asarray, narrow))
    expected = case.function(*map(cr.asarray, wide))
    if any(x.dtype == np.float32 for x in narrow) and case.label != "of integers":
        assert received.dtype == (np.float32 if expected.dtype == np.float64 else expected.dtype)
    if expected.dtype.kind == "f":
        assert_close(received, expected, 3e-6)
    else:
        assert_same(received, expected)


@examples(ROWS)
def test_the_layout_in_memory_does_not_matter(case, shapes):
    inputs = case.draw(shapes)
    expected = case.function(*map(cr.asarray, inputs))
    received = case.function(*(cr.asarray(apart(x)) for x in inputs))
    assert_close(received, expected, 1e-13)


@examples(ROWS)
def test_inputs_are_not_written_to(case, shapes):
    inputs = case.draw(shapes)
    copies = [x.copy() for x in inputs]
    function, floats = by_floats(case, inputs)
    result = function(*map(cr.asarray, floats))
    assert result.is_constant
    if case.smooth:
        cr.grad(lambda *xs: function(*xs).sum(), wrt=tuple(range(len(floats))))(*floats)
    for x, copy in zip(inputs, copies, strict=True):
        np.testing.assert_array_equal(x, copy)


@examples(ROWS)
def test_the_traced_graph_verifies_and_evaluates_to_the_eager_value(case, shapes):
    inputs = case.draw(shapes)
    graph, _ = trace(case.function, [ArrayType(x.shape, x.dtype) for x in inputs])
    graph.verify()
    (received,) = graph.evaluate(*inputs)
    expected = case.function(*map(cr.asarray, inputs))
    assert graph.outputs[0].type == expected.type
    assert_same(received, expected)
    assert str(graph).startswith("graph(")


@examples(ROWS)
def test_the_eager_graph_verifies_and_evaluates_to_the_value(case, shapes):
    inputs = case.draw(shapes)
    function, floats = by_floats(case, inputs)
    variables = [cr.tensor(x) for x in floats]
    result = function(*variables)
    if result.is_constant:
        assert not case.smooth, "the result of smooth gates on variables must have a history"
        return
    if result.is_variable:  # nothing to do, as for a sum over no axes
        return
    graph = result.graph.verify()
    (received,) = graph.evaluate()
    assert_same(received, result)


@pytest.mark.parametrize("case", [c for c in ROWS if not c.smooth], ids=lambda case: case.name)
def test_what_has_no_derivative_is_a_constant(case):
    inputs = case.draw(case.shapes[-1])
    function, floats = by_floats(case, inputs)
    assert function(*map(cr.tensor, floats)).is_constant
