"""Arrays, axes, indices and dtypes that do not fit, and what is said of them.

One table for each part: (call, class, words). The class is chainrule's, the message holds all the
words (what was received, what was expected, what to do), and the exception is also the built-in
that a caller would expect. What is done with Tensors is in test_bad_use.py.
"""

import inspect
import warnings

import numpy as np
import pytest

import chainrule as cr
from chainrule import data, nn
from chainrule.errors import AxisError, DataError, DTypeError, ShapeError, UnsupportedError
from tests.bad_input import BOTH, I3, OUT, S, V, X, Y, check, ones, rows, whole

# -- shapes -------------------------------------------------------------------------------------

BROADCASTING = [
    "add", "atan2", "copysign", "divide", "equal", "floor_divide", "greater", "greater_equal",
    "hypot", "less", "less_equal", "logaddexp", "logical_and", "logical_or", "logical_xor",
    "maximum", "minimum", "multiply", "nextafter", "not_equal", "pow", "remainder",
    "scale_gradient", "subtract",
]  # fmt: skip
BITWISE = [
    "bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift",
]  # fmt: skip


@pytest.mark.parametrize("name", BROADCASTING + BITWISE)
def test_operands_that_do_not_broadcast(name):
    x, y = (whole(2, 3), whole(4, 5)) if name in BITWISE else (X, Y)
    function, words = getattr(cr, name), (*BOTH, "do not broadcast together", "equal or 1")
    check(lambda: function(x, y), ShapeError, words)
    check(lambda: function(x, np.asarray(y)), ShapeError, words)
    if name != "nextafter":  # which is not traced
        check(lambda: cr.vmap(function)(x[None], y[None]), ShapeError, words)


def test_every_function_of_two_arrays_is_in_the_table():
    """A new one without a row here is found by calling all public functions with X and Y."""
    others = {"arange", "broadcast_arrays", "clip", "full_like", "take_along_axis"}  # rows below
    found = set()
    for name in cr.ops.__all__:
        function = getattr(cr, name)
        if not callable(function) or isinstance(function, type):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                function(X, Y)
        except ShapeError as error:
            if "do not broadcast" in str(error):
                found.add(name)
        except Exception:
            continue
    assert found - others == set(BROADCASTING)


SHAPES = rows(
    (lambda: X + Y, ShapeError, BOTH),
    (lambda: X * np.ones((4, 5)), ShapeError, BOTH),
    (lambda: np.ones((4, 5)) - X, ShapeError, BOTH),
    (lambda: cr.where(X > 0, X, Y), ShapeError, BOTH),
    (lambda: cr.where(Y > 0, X, X), ShapeError, BOTH),
    (lambda: cr.clip(X, Y, None), ShapeError, BOTH),
    (lambda: cr.broadcast_arrays(X, Y), ShapeError, BOTH),
    (lambda: cr.full_like(X, Y), ShapeError, BOTH),
    (lambda: X @ Y, ShapeError, ("matmul of shapes", *BOTH, "(3)", "(4)")),
    (lambda: np.ones((4, 5)) @ X, ShapeError, ("matmul", *BOTH)),
    (lambda: cr.matmul(X, ones(4)), ShapeError, ("(2, 3)", "(4,)", "only axis")),
    (lambda: cr.matmul(X, S), ShapeError, ("at least 1 axis", "(2, 3)", "()")),
    (lambda: cr.matmul(ones(2, 3, 4), ones(5, 4, 6)), ShapeError, ("(2, 3, 4)", "(5, 4, 6)")),
    (lambda: cr.vecdot(X, Y), ShapeError, ("vecdot", *BOTH, "axis -1")),
    (lambda: cr.vecdot(X, ones(4, 3)), ShapeError, ("(2, 3)", "(4, 3)")),
    (lambda: cr.vecdot(S, V), ShapeError, ("at least 1 axis", "()", "(3,)")),
    (lambda: cr.tensordot(X, Y, axes=1), ShapeError, ("tensordot", *BOTH, "axis 1", "axis 0")),
    (lambda: cr.tensordot(X, Y, axes=3), ShapeError, ("axes=3", "from 0 to 2", *BOTH)),
    (lambda: cr.tensordot(X, Y, axes=-1), ShapeError, ("axes=-1", "from 0 to 2")),
    (lambda: cr.tensordot(X, Y, axes=((0,), (0, 1))), ShapeError, ("as many axes",)),
    (lambda: np.dot(X, Y), ShapeError, BOTH),
    (lambda: cr.einsum("ij,jk->ik", X, Y), ShapeError, ("'ij,jk->ik'", "'j'", "3", "4", *BOTH)),
    (lambda: cr.einsum("...i,...i->...", X, ones(4, 3)), ShapeError, ("(2, 3)", "(4, 3)")),
    (lambda: cr.ops.contraction.contract(X, Y, "ij,jk->ik"), ShapeError, ("'j'", *BOTH)),
    (lambda: cr.concat([X, Y]), ShapeError, (*BOTH, "all axes but 0 must agree")),
    (lambda: cr.concat([X, V]), ShapeError, ("(2, 3)", "(3,)")),
    (lambda: cr.concat([S, S]), ShapeError, ("(), ()", "an axis to join along", "stack")),
    (lambda: cr.concat([]), ShapeError, ("at least one array, received none",)),
    (lambda: cr.stack([X, Y]), ShapeError, (*BOTH, "differ")),
    (lambda: cr.stack([]), ShapeError, ("at least one array, received none",)),
    (lambda: cr.take_along_axis(X, I3), ShapeError, ("(2, 3)", "(3,)")),
    (lambda: cr.take_along_axis(X, whole(4, 5), axis=0), ShapeError, ("(3,)", "(5,)")),
    (lambda: cr.broadcast_to(X, (4, 5)), ShapeError, BOTH),
    (lambda: cr.broadcast_to(X, (3,)), ShapeError, ("cannot broadcast shape (2, 3) to (3,)",)),
    (lambda: cr.broadcast_to(X, (-1, 3)), ShapeError, ("no negative sizes", "(-1, 3)")),
    (lambda: cr.broadcast_to(X, (2.5, 3)), DTypeError, ("whole numbers", "(2.5, 3)")),
    (lambda: cr.reshape(X, (4, 2)), ShapeError, ("(2, 3) (6 entries)", "(4, 2)")),
    (lambda: X.reshape(4, -1), ShapeError, ("(2, 3) (6 entries)", "(4, -1)")),
    (lambda: cr.reshape(X, (-1, -1)), ShapeError, ("(2, 3)", "(-1, -1)")),
    (lambda: cr.reshape(X, (0, -1)), ShapeError, ("(2, 3)", "(0, -1)")),
    (lambda: cr.reshape(X, (1.5, 4)), DTypeError, ("a shape takes whole numbers", "(1.5, 4)")),
    (lambda: cr.reshape(X, "six"), DTypeError, ("whole numbers", "'six'")),
    (lambda: cr.diff(X, prepend=Y), ShapeError, BOTH),
    (lambda: X.at[0].set(ones(4)), ShapeError, ("(4,)", "(3,)")),
    (lambda: X.at[:, 1:].add(Y), ShapeError, ("(4, 5)", "(2, 2)")),
    (lambda: X.assign(Y), ShapeError, ("cannot change the shape", *BOTH)),
    (lambda: setattr(X, "grad", Y), ShapeError, ("has the shape of its tensor", *BOTH)),
    (lambda: cr.split(X, 4), ShapeError, ("axis of 2 into 4 equal parts",)),
    (lambda: cr.repeat(X, I3, axis=0), ShapeError, ("3 entries for an axis of 2",)),
    (lambda: cr.repeat(X, -1), ShapeError, ("whole numbers from 0", "-1")),
    (lambda: cr.pad(X, ((1, 1),) * 3), ShapeError, ("2 such pairs", "((1, 1), (1, 1), (1, 1))")),
    (lambda: cr.windows(X, 5), ShapeError, ("window of 5", "axis 1 of shape (2, 3)")),
    (lambda: cr.windows(X, 0), ShapeError, ("positive number",)),
    (lambda: cr.squeeze(X, 0), ShapeError, ("axis 0 of shape (2, 3)", "not 1")),
    (lambda: cr.diag(ones(2, 3, 4)), ShapeError, ("a vector or a matrix", "(2, 3, 4)")),
    (lambda: V.mT, ShapeError, ("at least 2 axes", "(3,)")),
    (lambda: cr.searchsorted(X, V), ShapeError, ("takes a vector first", "(2, 3)")),
    (lambda: cr.searchsorted(V, V, sorter=cr.asarray([0])), ShapeError, ("(3,)", "(1,)")),
    (lambda: cr.zeros(-1), ShapeError, ("no negative sizes", "-1")),
    (lambda: cr.ones((2.5,)), DTypeError, ("whole numbers", "(2.5,)")),
    (lambda: cr.eye(-1), ShapeError, ("no negative sizes",)),
    (lambda: cr.linspace(0, 1, -1), ShapeError, ("no negative sizes", "-1")),
    (lambda: cr.arange(0, 5, 0), ShapeError, ("step of arange cannot be 0",)),
    (lambda: cr.sort(S), ShapeError, ("sort takes an array with at least one axis",)),
    (lambda: cr.max(ones(0, 3), axis=0), ShapeError, ("max of no entries", "(0, 3)")),
    (lambda: cr.argmin(ones(0)), ShapeError, ("argmin of no entries", "(0,)")),
    (lambda: cr.asarray([[1], [1, 2]]), ShapeError, ("this is not an array", "inhomogeneous")),
    (lambda: nn.Linear(3, 2)(Y), ShapeError, ("Linear(3, 2)", "last axis of 3", "(4, 5)")),
    (lambda: nn.Linear(0, 2), ShapeError, ("positive sizes", "(0, 2)")),
    (lambda: nn.softmax_cross_entropy(X, I3), ShapeError, ("scores (2, 3)", "labels (3,)")),
    (lambda: nn.softmax_cross_entropy(X, Y), ShapeError, BOTH),
    (lambda: nn.hinge(X, I3), ShapeError, ("(2, 3)", "(3,)")),
    (lambda: nn.binary_hinge(X, Y), ShapeError, BOTH),
    (lambda: nn.mean_squared_error(X, Y), ShapeError, BOTH),
    (lambda: nn.summed_squared_error(X, Y), ShapeError, BOTH),
    (lambda: nn.accuracy(X, I3), ShapeError, ("(2, 3)", "(3,)")),
)


@pytest.mark.parametrize(("call", "error", "words"), SHAPES)
def test_shapes_that_do_not_fit(call, error, words):
    check(call, error, words)


# -- axes and indices ---------------------------------------------------------------------------

ONE_AXIS = [
    "argmax", "argmin", "argsort", "cumulative_prod", "cumulative_sum", "diff", "sort", "unstack",
]  # fmt: skip
AXES = [
    "all", "any", "count_nonzero", "flip", "log_softmax", "logsumexp", "max", "mean", "min", "prod",
    "softmax", "squeeze", "std", "sum", "var",
]  # fmt: skip


@pytest.mark.parametrize("name", ONE_AXIS + AXES)
def test_an_axis_that_is_not_there(name):
    function = getattr(cr, name)
    for axis in (2, -3):
        words = (f"axis {axis} is out of range", "2 dimensions", "use -2 to 1")
        check(lambda axis=axis: function(X, axis=axis), AxisError, words)
    check(lambda: function(X, axis=0.5), DTypeError, ("axis must be an integer, received 0.5",))
    check(lambda: cr.vmap(lambda x: function(x, axis=2))(X[None]), AxisError, ("out of range",))


@pytest.mark.parametrize("name", AXES)
def test_an_axis_named_twice(name):
    function = getattr(cr, name)
    for axes in ((0, 0), (1, -1)):
        words = (f"axis {axes} names an axis twice",)
        check(lambda axes=axes: function(X, axis=axes), AxisError, words)


def test_every_function_with_an_axis_is_in_a_table():
    others = {
        "concat", "expand_dims", "repeat", "roll", "split", "stack", "take", "take_along_axis",
        "vecdot", "vector_norm", "windows",
    }  # fmt: skip
    found = set()
    for name in cr.ops.__all__:
        function = getattr(cr, name)
        if callable(function) and not isinstance(function, type):
            try:
                parameters = inspect.signature(function).parameters
            except (TypeError, ValueError):
                continue
            if "axis" in parameters:
                found.add(name)
    assert found - others == set(ONE_AXIS) | set(AXES)
    assert others <= found


PLACES = rows(
    (lambda: cr.concat([X, X], axis=2), AxisError, ("axis 2", OUT)),
    (lambda: cr.stack([X, X], axis=4), AxisError, ("axis 4", OUT, "3 dimensions")),
    (lambda: cr.expand_dims(X, axis=4), AxisError, ("axis 4", OUT)),
    (lambda: cr.expand_dims(X, axis=(0, 0)), AxisError, ("names an axis twice",)),
    (lambda: cr.moveaxis(X, 3, 0), AxisError, ("axis 3", OUT)),
    (lambda: cr.moveaxis(X, (0, 0), (0, 1)), AxisError, ("names an axis twice",)),
    (lambda: cr.moveaxis(X, (0, 1), 0), AxisError, ("(0, 1)", "differ in length")),
    (lambda: cr.permute_dims(X, (0, 5)), AxisError, ("axes entry 5", OUT)),
    (lambda: cr.permute_dims(X, (0, 0)), AxisError, ("(0, 0)", "each of the 2 axes", "(2, 3)")),
    (lambda: cr.permute_dims(X, (0,)), AxisError, ("(0,)", "each of the 2 axes")),
    (lambda: cr.permute_dims(X, 1), DTypeError, ("a tuple of axes, received 1",)),
    (lambda: np.swapaxes(X, 0, 4), AxisError, ("axis 4", OUT)),
    (lambda: cr.take(X, I3, axis=2), AxisError, ("axis 2", OUT)),
    (lambda: cr.take(X, I3), AxisError, ("name the axis to take from", "(2, 3)")),
    (lambda: cr.take_along_axis(X, whole(1, 3), axis=2), AxisError, ("axis 2", OUT)),
    (lambda: cr.repeat(X, 2, axis=2), AxisError, ("axis 2", OUT)),
    (lambda: cr.roll(X, 1, axis=2), AxisError, ("axis 2", OUT)),
    (lambda: cr.roll(X, (1, 2), axis=(0,)), AxisError, ("(1, 2)", "(0,)", "differ in length")),
    (lambda: cr.split(X, 1, axis=2), AxisError, ("axis 2", OUT)),
    (lambda: cr.vecdot(X, X, axis=2), AxisError, ("axis 2", OUT)),
    (lambda: cr.tensordot(X, X, axes=((5,), (0,))), AxisError, ("axis 5", OUT)),
    (
        lambda: cr.tensordot(ones(3, 3), ones(3, 3), axes=((0, 0), (0, 1))),
        AxisError,
        ("names an axis twice",),
    ),
    (lambda: cr.tensordot(X, X, axes=1.5), DTypeError, ("a number or a pair", "1.5")),
    (lambda: cr.windows(X, 2, axis=2), AxisError, ("axis 2", OUT)),
    (lambda: cr.windows(X, (1, 1), axis=(0, 0)), AxisError, ("names an axis twice",)),
    (lambda: cr.linalg.diagonal(X, axis1=0, axis2=5), AxisError, ("axis 5", OUT)),
    (lambda: cr.linalg.diagonal(X, axis1=0, axis2=0), AxisError, ("two different axes",)),
    (lambda: cr.linalg.trace(V), AxisError, (OUT,)),
    (lambda: cr.linalg.vector_norm(X, axis=3), AxisError, ("axis 3", OUT)),
    (lambda: cr.cumulative_sum(X), ShapeError, ("name the axis to accumulate", "(2, 3)")),
    (lambda: np.sum(X, axis=2), AxisError, ("axis 2", OUT)),
    # einsum patterns
    (lambda: cr.einsum("i?->i", X), ShapeError, ("'i?->i'", "'?' is not a letter")),
    (lambda: cr.einsum("ij->iz", X), ShapeError, ("output letter 'z' stands in no operand",)),
    (lambda: cr.einsum("ij->ii", X), ShapeError, ("twice in the output 'ii'",)),
    (lambda: cr.einsum("ijk->i", X), ShapeError, ("3 letters ('ijk')", "(2, 3)")),
    (lambda: cr.einsum("ij,jk->ik", X), ShapeError, ("names 2 operands, received 1",)),
    (lambda: cr.einsum("ii->i", X), ShapeError, ("'i'", "(2, 3)")),
    (lambda: cr.einsum("i->j->k", V), ShapeError, ("'i->j->k'", "not a letter")),
    (lambda: cr.einsum(X, Y), DTypeError, ("a pattern like 'ij,jk->ik' first",)),
    (lambda: cr.einsum("->"), ShapeError, ("at least one operand, received none",)),
    (
        lambda: cr.ops.contraction.contract(ones(2, 2), X, "ii,ij->j"),
        ShapeError,
        ("letter 'i'", "use einsum"),
    ),
    (lambda: cr.ops.contraction.contract(X, X, 3), DTypeError, ("'ij,jk->ik'", "3")),
    (lambda: cr.ops.contraction.contract(X, X, "ij,jk"), DTypeError, ("'ij,jk->ik'", "'ij,jk'")),
    # indices
    (lambda: X[5], AxisError, ("index 5", OUT, "axis 0", "(2, 3)", "size 2")),
    (lambda: X[-3], AxisError, ("index -3", OUT, "axis 0")),
    (lambda: X[0, 3], AxisError, ("index 3", OUT, "axis 1", "size 3")),
    (lambda: X[[0, 9]], AxisError, ("index 9", OUT, "axis 0")),
    (lambda: X.at[9].set(0.0), AxisError, ("index 9", OUT)),
    (lambda: cr.take(X, cr.asarray([7]), axis=1), AxisError, ("index 7", OUT, "axis 1")),
    (lambda: X.item(9), AxisError, ("item(9,)", "(2, 3)", "out of bounds")),
    (lambda: X[0, 0, 0], AxisError, ("too many indices: 3", "(2, 3)")),
    (lambda: S[0], AxisError, ("too many indices: 1", "()")),
    (lambda: X[..., ...], AxisError, ("only one ellipsis",)),
    (lambda: X[[0, 1], [0, 1, 2]], AxisError, ("(2,), (3,)", "do not broadcast")),
    (lambda: X[cr.asarray([True] * 5)], AxisError, ("mask of size 5", "axis 0", "(2, 3)")),
    (lambda: X[Y > 0], AxisError, ("mask of size 4", "(2, 3)")),
    (lambda: X[1.0], DTypeError, ("integers, slices and arrays", "1.0")),
    (lambda: X[np.float32(1)], DTypeError, ("integers or bools", "float32")),
    (lambda: X[cr.asarray(1.0)], DTypeError, ("integers", "float32[]")),
    (lambda: X[cr.asarray([0.0, 1.0])], DTypeError, ("integers or bools", "float32")),
    (lambda: X["a"], DTypeError, ("integers, slices and arrays", "'a'")),
    (lambda: X[0.5:], DTypeError, ("a slice takes integers, received 0.5",)),
    (lambda: X[::0], ShapeError, ("step of a slice cannot be 0",)),
    (lambda: X.at[0.5].set(1.0), DTypeError, ("0.5",)),
    (lambda: cr.take(X, cr.asarray([0.5]), axis=1), DTypeError, ("integers", "float32")),
    (lambda: cr.take_along_axis(X, X), DTypeError, ("integers", "float32")),
)


@pytest.mark.parametrize(("call", "error", "words"), PLACES)
def test_axes_patterns_and_indices(call, error, words):
    check(call, error, words)


# -- dtypes and single values -------------------------------------------------------------------

KNOWN = "use one of bool, int8"
VALUES = rows(
    (
        lambda: cr.tensor(np.array([1, 2])),
        DTypeError,
        ("float32 or float64", "int64", "cr.asarray"),
    ),
    (lambda: cr.tensor(np.array([True])), DTypeError, ("float32 or float64", "bool")),
    (lambda: cr.tensor([1.0], dtype=cr.int32), DTypeError, ("received int32", "dtype=cr.float32")),
    (lambda: cr.Parameter(np.arange(3)), DTypeError, ("received int64",)),
    (lambda: cr.asarray(1j), UnsupportedError, ("complex128", "complex numbers", KNOWN)),
    (lambda: cr.tensor(np.ones(2, complex)), UnsupportedError, ("complex128", KNOWN)),
    (lambda: X + np.ones(3, complex), UnsupportedError, ("complex numbers",)),
    (lambda: cr.asarray(np.float16(1)), UnsupportedError, ("float16", KNOWN)),
    (lambda: cr.zeros(2, dtype="float16"), UnsupportedError, ("float16", KNOWN)),
    (lambda: X.astype("float16"), UnsupportedError, ("float16", KNOWN)),
    (lambda: cr.asarray(np.ones(1, np.longdouble)), UnsupportedError, (KNOWN,)),
    (lambda: cr.asarray(np.array(["2020"], "M8[D]")), UnsupportedError, ("datetime64", KNOWN)),
    (lambda: cr.asarray("abc"), UnsupportedError, ("<U3", KNOWN)),
    (lambda: cr.exp("a"), UnsupportedError, ("<U1", KNOWN)),
    (lambda: cr.asarray([object()]), DTypeError, ("cannot make an array of list", "object")),
    (lambda: cr.asarray(None), DTypeError, ("cannot make an array of NoneType",)),
    (lambda: cr.zeros(2, dtype="real"), DTypeError, ("'real' is not a dtype", "float64")),
    (lambda: cr.complex64, UnsupportedError, ("complex64", "complex numbers are not supported")),
    (lambda: cr.float16, UnsupportedError, ("float16 is not supported",)),
    (lambda: cr.fft, UnsupportedError, ("Fourier transforms are not supported",)),
    (lambda: cr.bitwise_and(X, X), DTypeError, ("does not take float32", "bool and integers")),
    (lambda: ~X, DTypeError, ("bitwise_invert", "float32")),
    (lambda: -cr.asarray([True]), DTypeError, ("does not take bool", "integers and floats")),
    (lambda: type(X)(3.0), DTypeError, ("cr.tensor(value)", "cr.asarray(value)")),
    (lambda: X.to_device("gpu"), DTypeError, ('the only device is "cpu"', "'gpu'")),
    # one value of several
    (lambda: bool(X), ShapeError, ("truth", "(2, 3)", "ambiguous", "cr.any or cr.all")),
    (lambda: 0 < X < 1, ShapeError, ("ambiguous", "cr.any or cr.all")),
    (lambda: bool(ones(0)), ShapeError, ("(0,)", "ambiguous")),
    (lambda: float(X), ShapeError, ("float() takes a Tensor of one entry", "(2, 3)", "tolist")),
    (lambda: int(V), ShapeError, ("int() takes a Tensor of one entry", "(3,)")),
    (lambda: X.item(), ShapeError, ("item() takes a Tensor of one entry", "(2, 3)")),
    (lambda: f"{X:.2f}", ShapeError, ("'.2f'", "one entry", "(2, 3)")),
    (lambda: len(S), DTypeError, ("len() of a 0-d Tensor", ".item()")),
    (lambda: list(S), DTypeError, ("iteration over a 0-d Tensor", ".item()")),
    (lambda: [1, 2][cr.asarray(1.0)], DTypeError, ("0-d integer Tensor", "float32[]")),
    (lambda: range(V), DTypeError, ("0-d integer Tensor", "float32[3]")),
    # seeds and keys
    (lambda: cr.random.key(-1), DataError, ("whole number from 0 to 2**64 - 1", "-1")),
    (lambda: cr.random.key(2**64), DataError, ("from 0 to 2**64 - 1", "18446744073709551616")),
    (lambda: cr.random.key(1.5), DTypeError, ("a seed is a whole number, received 1.5",)),
    (lambda: nn.Linear(2, 2, seed=-1), DataError, ("from 0 to 2**64 - 1", "-1")),
    (lambda: cr.train.mlp(2, [2], 2, seed=-1), DataError, ("from 0 to 2**64 - 1", "-1")),
    (lambda: data.permutation(-1, 0, 4), DataError, ("seed", "≥ 0", "-1")),
    (lambda: cr.random.bits(cr.asarray([1.0]), 3), DTypeError, ("cr.random.key(seed)",)),
    (lambda: cr.random.normal(cr.random.key(0), (-1,)), ShapeError, ("no negative sizes",)),
)


@pytest.mark.parametrize(("call", "error", "words"), VALUES)
def test_dtypes_and_single_values(call, error, words):
    check(call, error, words)
