"""x[…] and x.at[…]: as NumPy indexes, for values, gradients, in traces and over batches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import chainrule as cr
from chainrule.core.types import ArrayType
from chainrule.errors import AxisError, DTypeError, ShapeError, TraceError
from chainrule.ops.tracing import trace
from tests.ops.support import assert_same

SHAPE = (2, 3, 4)
X = np.arange(24.0).reshape(SHAPE)
MASK = X % 3 == 1
EXAMPLES = [
    1, -1, np.int64(1), np.array(1), (), None, ..., (0, 2, 3), (-2, -3, -4), (..., 1), (1, ...),
    (0, ..., 2), (None, 1, None), (..., None), slice(None), slice(1, None), slice(None, None, -1),
    slice(0, 0), slice(5, 1), slice(1, 50), slice(-1, -4, -1), np.s_[:, 1:3], np.s_[:, ::2, ::-2],
    np.s_[::-1, ..., 3:0:-2], np.s_[:, None, 0], np.s_[0, :, None, 2:],
    [0, 1], [0, 0, 1, -1], [], np.array([], np.int64), np.array([[0, 1], [1, 1]]), (0, [1, 2]),
    ([0, 1], 0), ([0, 1], [1, 2]), ([0, 1], [1, 2], [3, 0]), ([[0], [1]], [0, 2]),
    np.s_[:, [0, 2]], np.s_[:, :, [0, 2, -1]], np.s_[:, [0, 2], [1, 3]], np.s_[..., [1, 3]],
    np.s_[[0, 1], :, [1, 3]], np.s_[0, :, [1, 3]], np.s_[[0, 1], ..., 1], np.s_[[1], None, [2]],
    np.s_[:, None, [0, 2]], np.s_[1:, [0, 2], ::-1], np.s_[[0, 1], None], np.s_[None, [0, 1]],
    np.s_[[[0]], 1:, [[1, 2]]], np.s_[0, [0, 1], None, 2],
    True, False, np.True_, np.array(False), (True, 0), (0, True), (None, True), (True, True),
    (False, ...), (True, [0, 1]), (slice(None), True), np.s_[0, True, :, [1, 2]],
    MASK, X > 50, np.array([True, False]), [True, False], np.s_[:, [True, False, True]],
    np.s_[..., X[0, 0] > 1], np.s_[1, MASK[0]], np.s_[[0, 1], MASK[0, :, :2].any(1)[[0, 1, 2]][0]],
    np.s_[MASK[:, 0, 0], 1], np.s_[MASK[:, :, 0], None],
    np.s_[[1, 0], 0, [True, False, True, False]],
    np.zeros(0, bool), np.zeros((2, 0), bool), np.zeros((0, 3, 4), bool),
    np.array([1, 0], np.uint8), np.array([-1, 0], np.int8), np.s_[np.array([0, 1], np.int32), 1],
]  # fmt: skip


def check(x, index):
    """Values and gradients of cr's x[index] are NumPy's."""
    expected = x[index]
    received = cr.asarray(x)[index]
    assert_same(received, np.asarray(expected))
    weights = np.random.default_rng(0).normal(size=np.shape(expected))
    gradient = cr.grad(lambda v: (v[index] * weights).sum())(x)
    wanted = np.zeros_like(x)
    np.add.at(wanted, index, weights)
    np.testing.assert_allclose(np.asarray(gradient), wanted, rtol=0, atol=1e-14)
    tangent = np.random.default_rng(1).normal(size=x.shape)
    moved = cr.jvp(lambda v: v[index], (x,), (tangent,))[1]
    np.testing.assert_array_equal(np.asarray(moved), tangent[index])


@pytest.mark.parametrize("index", EXAMPLES, ids=lambda index: repr(index).replace("\n", ""))
def test_indices_mean_what_numpy_means(index):
    check(X, index)


@pytest.mark.parametrize("index", EXAMPLES, ids=lambda index: repr(index).replace("\n", ""))
def test_traced_indexing_evaluates_to_numpys(index):
    graph, _ = trace(lambda x: x[index], [ArrayType(SHAPE, np.dtype("float64"))])
    (received,) = graph.verify().evaluate(X)
    assert_same(received, np.asarray(X[index]))


@pytest.mark.parametrize("index", EXAMPLES, ids=lambda index: repr(index).replace("\n", ""))
def test_functional_writes_are_numpys_writes(index):
    values = np.random.default_rng(0).normal(size=np.shape(X[index]))
    written, added, scaled = X.copy(), X.copy(), X.copy()
    written[index] = values
    np.add.at(added, index, values)
    scaled[index] *= 2
    assert_same(cr.asarray(X).at[index].set(values), written)
    np.testing.assert_allclose(np.asarray(cr.asarray(X).at[index].add(values)), added, atol=1e-14)
    assert_same(cr.asarray(X).at[index].multiply(2.0), scaled)


INTS = st.integers(-3, 2)
PARTS = st.one_of(
    INTS, st.slices(3), st.none(), st.just(...), st.booleans(),
    hnp.arrays(np.int64, hnp.broadcastable_shapes((2,), max_dims=2, max_side=2), elements=INTS),
    hnp.arrays(bool, st.sampled_from([(3,), (3, 3)])),
)  # fmt: skip


def _empty_ellipsis_between(index, ndim):
    """Whether a "..." for no axes stands in the index.

    NumPy lets it part the index arrays beside it, which moves their axes to the front; here it is
    nothing.
    """
    axes = sum(
        np.ndim(part) if getattr(part, "dtype", None) == np.bool_ else not isinstance(part, bool)
        for part in index
        if part is not None and part is not ...
    )
    return any(part is ... for part in index) and axes == ndim


@settings(max_examples=300, deadline=None)
@given(
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=3, max_side=3),
    st.lists(PARTS, max_size=5).map(tuple),
)
def test_drawn_indices_mean_what_numpy_means(shape, index):
    x = np.arange(float(3 ** len(shape))).reshape(shape)
    if _empty_ellipsis_between(index, len(shape)):
        return
    try:
        x[index]
    except IndexError:
        with pytest.raises((AxisError, ShapeError, DTypeError)):
            cr.asarray(x)[index]
        return
    check(x, index)


@settings(max_examples=100, deadline=None)
@given(hnp.basic_indices(SHAPE, allow_newaxis=True))
def test_basic_indices_mean_what_numpy_means(index):
    check(X, index)


def test_tensors_index_too():
    x = cr.asarray(X)
    assert_same(x[cr.asarray([1, 0])], X[[1, 0]])
    assert_same(x[cr.asarray(1), cr.asarray([2])], X[1, [2]])
    assert_same(x[x > 5], X[X > 5])
    assert_same(x[cr.asarray(0) : cr.asarray(1)], X[0:1])


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        (2, AxisError, "index 2 is out of range for axis 0 of shape (2, 3, 4)"),
        ((0, -4), AxisError, "index -4 is out of range for axis 1"),
        ([0, 5], AxisError, "index 5 is out of range for axis 0"),
        ((0, 0, 0, 0), AxisError, "too many indices: 4 for an array of shape (2, 3, 4)"),
        ((..., ...), AxisError, "only one ellipsis"),
        (1.0, DTypeError, "takes integers"),
        ("a", DTypeError, "takes integers"),
        ([0.5], DTypeError, "integers or bools"),
        (slice(0.5, None), DTypeError, "a slice takes integers"),
        (slice(None, None, 0), ShapeError, "step of a slice cannot be 0"),
        ([True], AxisError, "a mask of size 1 does not fit axis 0"),
        (([0, 1], [0, 1, 2]), AxisError, "do not broadcast together"),
    ],
)
def test_a_wrong_index_is_refused_with_what_is_wrong(index, error, message):
    with pytest.raises(error) as caught:
        cr.asarray(X)[index]
    assert message in str(caught.value)


def test_a_mask_that_is_traced_is_refused():
    with pytest.raises(TraceError, match=r"use where\(mask, x, other\)"):
        cr.vmap(lambda x: x[x > 0])(X)


# -- writes ------------------------------------------------------------------------------------


def test_of_two_writes_to_a_place_the_last_counts_and_both_add():
    x, places = cr.asarray([1.0, 2.0, 3.0]), [0, 2, 0]
    values = np.array([10.0, 20.0, 30.0], np.float32)
    assert x.at[places].set(values).tolist() == [30, 2, 20]
    assert x.at[places].add(values).tolist() == [41, 2, 23]


def test_gradients_of_writes():
    x, v = np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 30.0])
    weights = np.array([1.0, 10.0, 100.0])

    def written(x, v):
        return (cr.asarray(x).at[[0, 2, 0]].set(v) * weights).sum()

    by_x, by_v = cr.grad(written, wrt=(0, 1))(x, v)
    assert (by_x.tolist(), by_v.tolist()) == ([0, 10, 0], [0, 100, 1])

    def added(x, v):
        return (cr.asarray(x).at[[0, 2, 0]].add(v) * weights).sum()

    by_x, by_v = cr.grad(added, wrt=(0, 1))(x, v)
    assert (by_x.tolist(), by_v.tolist()) == ([1, 10, 100], [1, 100, 1])


def test_a_write_broadcasts_and_casts_to_the_dtype_of_the_array():
    x = cr.asarray(np.zeros((2, 3), np.float32))
    result = x.at[:, 1:].set(np.array([1.5, 2.5]))
    assert_same(result, np.array([[0, 1.5, 2.5]] * 2, np.float32))
    assert_same(cr.asarray(np.zeros(2, int)).at[0].add(3), np.array([3, 0]))
    with pytest.raises(ShapeError, match=r"\(3,\).*\(2,\)"):
        x.at[0, :2].set(np.zeros(3))


def test_a_write_leaves_the_array_as_it_was():
    x = cr.asarray(X)
    x.at[0].set(5.0)
    assert_same(x, X)


def test_a_write_to_a_place_computed_in_a_trace_is_refused():
    with pytest.raises(TraceError, match="known while tracing"):
        cr.vmap(lambda i: cr.zeros(3).at[i].set(1.0))(np.array([0, 1]))


# -- take, repeat ------------------------------------------------------------------------------


def test_take_and_take_along_axis_refuse_what_they_cannot_mean():
    with pytest.raises(AxisError, match="name the axis"):
        cr.take(X, [0])
    with pytest.raises(ShapeError, match="axes of x"):
        cr.take_along_axis(X, np.array([0]), axis=0)
    with pytest.raises(AxisError, match="out of range"):
        cr.take(X, [2], axis=0)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_take_along_axis_with_argsort_sorts(axis):
    x = np.random.default_rng(0).normal(size=SHAPE)
    order = cr.argsort(x, axis=axis)
    assert_same(cr.take_along_axis(x, order, axis=axis), np.sort(x, axis))


def test_repeat_refuses_counts_that_do_not_fit():
    with pytest.raises(ShapeError, match="2 entries for an axis of 3"):
        cr.repeat(np.arange(3), np.array([1, 2]))
    with pytest.raises(ShapeError, match="whole numbers from 0"):
        cr.repeat(np.arange(3), -1)
