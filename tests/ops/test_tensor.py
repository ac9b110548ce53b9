"""What a NumPy user expects of a Tensor, and what is refused with the line to write instead."""

import copy
import operator
import pickle
import weakref

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import DTypeError, MutationError, ShapeError, UnsupportedError
from tests.ops.support import assert_same

X = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


def same(received, expected):
    assert isinstance(received, cr.Tensor)
    assert_same(received, np.asarray(expected))


# -- making ------------------------------------------------------------------------------------


def test_variables_copy_and_constants_share():
    x = np.zeros(3)
    variable, constant = cr.tensor(x), cr.asarray(x)
    x[0] = 7
    assert variable.tolist() == [0, 0, 0]
    assert constant.tolist() == [7, 0, 0]
    assert cr.asarray(x, copy=True).numpy().base is not x
    assert (variable.is_variable, variable.is_constant) == (True, False)
    assert (constant.is_variable, constant.is_constant) == (False, True)
    dependent = variable * 2
    assert (dependent.is_variable, dependent.is_constant) == (False, False)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (1.5, "float32"), ([1, 2], "float32"), ([[1.0]], "float32"), (3, "float32"),
        (np.float64(1.0), "float64"), (np.ones(2, np.float32), "float32"), (np.ones(2), "float64"),
        ([np.float64(1.0)], "float64"), ((1.0, (2.0)), "float32"), (True, "float32"),
    ],
)  # fmt: skip
def test_the_dtype_of_variables(value, dtype):
    assert cr.tensor(value).dtype == dtype
    assert cr.tensor(value, dtype=np.float64).dtype == np.float64


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (1.5, "float32"), ([1, 2], "int64"), (3, "int64"), (True, "bool"), ([True], "bool"),
        ([1, 2.0], "float32"), (np.float64(1.0), "float64"), (np.int8(1), "int8"),
        (np.ones(2), "float64"), ([], "float32"), ([np.float32(1), np.float32(2)], "float32"),
    ],
)  # fmt: skip
def test_the_dtype_of_constants(value, dtype):
    assert cr.asarray(value).dtype == dtype


def test_what_cannot_be_an_array_is_refused():
    for value, error, message in (
        (np.arange(3), DTypeError, "pass dtype=cr.float32"),
        (1j, UnsupportedError, "complex numbers are not supported"),
        (np.float16(1), UnsupportedError, "dtype float16 is not supported"),
        ([[1.0], [1.0, 2.0]], ShapeError, "not an array"),
        (object(), DTypeError, "cannot make an array of object"),
        ("text", UnsupportedError, "not supported"),
        (None, DTypeError, "NoneType"),
    ):
        with pytest.raises(error, match=message):
            cr.tensor(value)
    with pytest.raises(DTypeError, match="cr.tensor"):
        cr.Tensor(1.0)


def test_arrays_of_the_other_byte_order_are_taken():
    same(cr.asarray(np.array([1.0, 2.0], ">f8")), np.array([1.0, 2.0]))


def test_a_list_of_dependent_tensors_keeps_their_history():
    x = cr.tensor(2.0)
    cr.asarray([x * x, x * 3]).sum().backward()
    assert float(x.grad) == 7


# -- operators ---------------------------------------------------------------------------------

BINARY = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
    "//": operator.floordiv, "%": operator.mod, "**": operator.pow, "==": operator.eq,
    "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
OTHERS = [2, 2.5, True, np.float32(2), np.float64(2), np.int64(3), np.array([1.0, 2.0, 4.0]),
          np.array([[1], [2]], np.int32), np.array(3.0)]  # fmt: skip


@pytest.mark.parametrize("symbol", BINARY)
@pytest.mark.parametrize("other", OTHERS, ids=lambda o: f"{type(o).__name__}{np.shape(o)}")
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int8", "bool"])
def test_operators_with_numbers_and_arrays_on_either_side(symbol, other, dtype):
    function, x = BINARY[symbol], X.astype(dtype)
    if dtype == "bool" and isinstance(other, bool) and symbol in ("-", "//", "%", "**"):
        with pytest.raises(DTypeError, match="does not take bool"):
            function(cr.asarray(x), other)
        return
    if dtype == "bool" and symbol == "-" and np.result_type(x, other) == np.bool_:
        return  # NumPy refuses it too
    for numpy_first, ours in (
        (lambda: function(x, other), lambda: function(cr.asarray(x), other)),
        (lambda: function(other, x), lambda: function(other, cr.asarray(x))),
    ):
        expected = numpy_first()
        received = ours()
        assert isinstance(received, cr.Tensor)
        assert received.dtype == expected.dtype or symbol in ("/", "**", "//", "%")
        np.testing.assert_allclose(np.asarray(received), expected, rtol=1e-6)


INTEGER = {
    "&": operator.and_, "|": operator.or_, "^": operator.xor, "<<": operator.lshift,
    ">>": operator.rshift,
}  # fmt: skip


@pytest.mark.parametrize("symbol", INTEGER)
def test_operators_on_integers(symbol):
    x = np.array([[1, 2, 3], [4, 5, 6]])
    for other in (1, np.int64(2), np.array([0, 1, 2]), cr.asarray([0, 1, 2])):
        same(INTEGER[symbol](cr.asarray(x), other), INTEGER[symbol](x, np.asarray(other)))
        same(INTEGER[symbol](other, cr.asarray(x)), INTEGER[symbol](np.asarray(other), x))


def test_unary_operators_and_matmul():
    x = cr.asarray(X)
    same(-x, -X)
    same(+x, X)
    same(abs(-x), X)
    same(~cr.asarray([True, False]), np.array([False, True]))
    same(x @ X.T, X @ X.T)
    same(X.T @ x, X.T @ X)
    same(divmod(x, 2.0)[0], X // 2)
    same(divmod(x, 2.0)[1], X % 2)
    same(round(x + 0.4), X)


def test_operators_record_whichever_side_the_variable_is_on():
    for function, expected in (
        (lambda x: 3.0 - x, -1), (lambda x: np.float64(2) * x, 2), (lambda x: 6 / x, -1.5),
        (lambda x: 2**x, 4 * np.log(2)), (lambda x: np.array([1.0, 2.0]) * x, 3),
        (lambda x: np.array([[4.0]]) @ cr.reshape(x, (1, 1)), 4),
    ):  # fmt: skip
        x = cr.tensor(np.float64(2.0))
        function(x).sum().backward()
        assert float(x.grad) == pytest.approx(expected)


def test_operators_with_what_is_no_number_are_type_errors():
    x = cr.asarray(X)
    for other in ("text", None, object()):
        with pytest.raises(TypeError):
            x + other
    assert (x == "text") is False
    assert (x != None) is True  # noqa: E711


def test_in_place_operators():
    x = cr.tensor(X)
    for change in (
        lambda t: operator.iadd(t, 1), lambda t: operator.isub(t, 1), lambda t: operator.imul(t, 2),
        lambda t: operator.itruediv(t, 2), lambda t: operator.ipow(t, 2),
    ):  # fmt: skip
        with pytest.raises(MutationError, match=r"w.assign\(w - lr \* w.grad\)"):
            change(x)
    total = held = cr.asarray(1.0)
    total += x.sum()  # not a variable: a new Tensor under the old name
    assert float(total) == 22
    assert float(held) == 1


def test_items_cannot_be_set_or_deleted():
    x = cr.asarray(X)
    with pytest.raises(MutationError, match=r"x = x.at\[i\].set\(v\)"):
        x[0] = 1
    with pytest.raises(MutationError, match="immutable"):
        del x[0]
    with pytest.raises(MutationError, match=r"x = cr.sort\(x\)"):
        x.sort()
    with pytest.raises(MutationError, match="out="):
        np.add(X, x, out=np.zeros((2, 3)))
    array = np.zeros((2, 3))
    with pytest.raises(MutationError):
        array += x


# -- promotion ---------------------------------------------------------------------------------

DTYPES = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
          "float32", "float64"]  # fmt: skip
PAIRS = [(a, b) for a in DTYPES for b in DTYPES]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_promotion_is_numpys(first, second):
    x, y = np.ones(2, first), np.ones(2, second)
    expected = np.result_type(x, y)
    assert cr.result_type(cr.asarray(x), cr.asarray(y)) == expected
    assert cr.result_type(np.dtype(first), y) == expected
    for received in (
        cr.asarray(x) + cr.asarray(y), cr.add(x, y), cr.asarray(x) * y, x * cr.asarray(y),
        cr.asarray(x) + y[0], cr.where(True, x, y), cr.concat([x, y]), cr.maximum(x, y),
    ):  # fmt: skip
        assert received.dtype == expected
    assert (cr.asarray(x) == y).dtype == np.bool_
    assert (cr.matmul(x, y)).dtype == expected


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("number", [True, 2, 2.5])
def test_a_python_number_takes_the_dtype_of_the_array(dtype, number):
    x = np.ones(2, dtype)
    assert (cr.asarray(x) + number).dtype == np.result_type(x, number)
    assert (number * cr.asarray(x)).dtype == np.result_type(x, number)
    assert cr.where(True, cr.asarray(x), number).dtype == np.result_type(x, number)
    assert cr.result_type(x, number) == np.result_type(x, number)


@pytest.mark.parametrize("dtype", DTYPES)
def test_functions_of_floats_take_integers(dtype):
    x = np.ones(2, dtype)
    expected = x.dtype if x.dtype.kind == "f" else np.dtype("float64")
    assert (cr.asarray(x) / 2).dtype == expected
    assert cr.mean(x).dtype == expected
    narrow = {"bool", "int8", "uint8", "int16", "uint16", "float32"}
    assert cr.exp(x).dtype == ("float32" if dtype in narrow else "float64")


def test_dtypes_that_an_operation_does_not_take_are_refused_in_words():
    with pytest.raises(DTypeError, match="sub does not take bool; it takes integers and floats"):
        cr.subtract(np.array([True]), np.array([True]))
    with pytest.raises(DTypeError, match="bitwise_and does not take float64"):
        cr.asarray(X) & 1
    with pytest.raises(TypeError):
        cr.asarray(X).astype("complex64")


def test_shapes_that_do_not_broadcast_are_named():
    with pytest.raises(ShapeError, match=r"\(2, 3\) and \(2,\) do not broadcast together"):
        cr.asarray(X) + np.ones(2)


# -- Python's protocols ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "unchanged",
    [
        cr.positive, cr.real, cr.conj, cr.clip,
        lambda v: cr.sum(v, axis=()), lambda v: cr.max(v, axis=()), lambda v: cr.min(v, axis=()),
        lambda v: cr.mean(v, axis=()), lambda v: cr.prod(v, axis=()),
        lambda v: cr.flip(v, axis=()), lambda v: cr.roll(v, 0), lambda v: cr.reshape(v, (2,)),
        lambda v: cr.squeeze(v, axis=()), lambda v: cr.permute_dims(v, (0,)),
        lambda v: cr.moveaxis(v, 0, 0), lambda v: cr.broadcast_to(v, (2,)),
        lambda v: cr.concat([v]), lambda v: cr.tile(v, (1,)), lambda v: cr.diff(v, n=0),
        lambda v: cr.astype(v, v.dtype), lambda v: cr.pad(v, 0), lambda v: v[...],
        lambda v: cr.cond(True, lambda: v, lambda: v), lambda v: cr.remat(lambda: v)(),
        lambda v: cr.vmap(lambda x: v, out_axes=None)(np.ones(3)),
        lambda v: cr.vjp(lambda x: v, np.ones(3))[0],
        lambda v: cr.jvp(lambda x: v, (1.0,), (1.0,))[0],
        lambda v: cr.scan(lambda c, x: (c, x), v, length=1)[0],
        lambda v: cr.scan(lambda c, x: (c, x), v, length=0)[0],
    ],
)  # fmt: skip
def test_what_changes_nothing_gives_the_value_of_now(unchanged):
    v = cr.tensor([1.0, 2.0])
    result = unchanged(v)
    v.assign([5.0, 6.0])
    assert result.tolist() == [1, 2]


@pytest.mark.parametrize("x", [np.array("a"), np.ones(2, complex), np.array([object()]),
                               np.array(["2020-01-01"], "datetime64[D]"),
                               np.ones(2, np.float16)], ids=lambda x: str(x.dtype))  # fmt: skip
@pytest.mark.parametrize("function", [cr.exp, lambda x: cr.add(x, 1), lambda x: cr.less(x, 1),
                                      lambda x: cr.equal(x, x)])  # fmt: skip
def test_arrays_of_other_dtypes_are_refused_in_words(function, x):
    with pytest.raises((DTypeError, UnsupportedError), match="dtype|cannot make an array"):
        function(x)


@pytest.mark.parametrize("call", [
    lambda: cr.asarray([300], dtype=cr.uint8), lambda: cr.asarray(-1, dtype=cr.uint16),
    lambda: cr.add(np.ones(2, np.uint8), -1),
])  # fmt: skip
def test_whole_numbers_that_do_not_fit_are_refused(call):
    with pytest.raises(DTypeError, match="do not fit|out of bounds"):
        call()


def test_imaginary_parts_are_zero():
    assert cr.imag(cr.asarray([np.inf, np.nan, -1.0])).tolist() == [0, 0, 0]


def test_numbers_of_one_entry():
    for x in (cr.asarray(2.5), cr.asarray([2.5]), cr.tensor([[2.5]])):
        assert float(x) == 2.5
        assert int(x) == 2
        assert complex(x) == 2.5
        assert x.item() == 2.5
        assert f"{x:.3f}" == "2.500"
        assert bool(x) is True
    assert isinstance(cr.asarray(2.5).item(), float)
    assert operator.index(cr.asarray(3)) == 3
    assert [10, 20][cr.asarray(1)] == 20
    for convert in (float, int, bool, complex):
        with pytest.raises(ShapeError, match=r"\(2, 3\)"):
            convert(cr.asarray(X))
    with pytest.raises(DTypeError, match="0-d integer"):
        operator.index(cr.asarray(1.0))


def test_the_truth_of_several_entries_is_ambiguous():
    with pytest.raises(ShapeError, match="use cr.any or cr.all"):
        bool(cr.asarray(X) > 2)
    with pytest.raises(ShapeError, match="ambiguous"):
        bool(cr.zeros(0))


def test_length_iteration_and_membership():
    x = cr.asarray(X)
    assert len(x) == 2
    for row, expected in zip(x, X, strict=True):
        same(row, expected)
    assert 5.0 in x
    assert 7.0 not in x
    for call in (len, iter):
        with pytest.raises(DTypeError, match="0-d"):
            call(cr.asarray(1.0))
    v = cr.tensor(X)
    sum(row.sum() for row in v).backward()
    np.testing.assert_array_equal(v.grad.numpy(), np.ones((2, 3)))


def test_tensors_hash_by_identity():
    x, y = cr.asarray([1.0]), cr.asarray([1.0])
    assert len({x, y, x}) == 2
    assert hash(x) == hash(x)
    assert weakref.ref(x)() is x


@pytest.mark.parametrize(
    "x",
    [
        cr.asarray([1.5, -2.0]), cr.asarray([[1, 2], [3, 4]]), cr.asarray([True]), cr.asarray(2.5),
        cr.asarray(np.array([0.1, 1e-300])), cr.tensor([1.0, 2.0]), cr.zeros((0,)),
        cr.asarray(np.array([1, 2], np.int8)), cr.Parameter([1.0], name="w"),
        cr.asarray([np.inf, np.nan]),
    ],
    ids=repr,
)  # fmt: skip
def test_repr_can_be_evaluated(x):
    names = {name: getattr(cr, name) for name in ("asarray", "tensor", "Parameter")}
    names |= {name: name for name in DTYPES} | {"inf": np.inf, "nan": np.nan}
    again = eval(repr(x), names)
    assert type(again) is type(x)
    assert (again.shape, again.is_variable) == (x.shape, x.is_variable)
    assert again.dtype == x.dtype
    np.testing.assert_allclose(np.asarray(again), np.asarray(x))
    assert str(x) == str(x.numpy())


def test_the_repr_of_large_and_dependent_tensors_is_short():
    assert len(repr(cr.zeros((100, 100)))) < 600
    assert repr(cr.tensor(2.0) * 3).startswith("dependent(6.")


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(protocol):
    for x in (cr.asarray(X), cr.tensor(X), cr.Parameter(X, name="w")):
        again = pickle.loads(pickle.dumps(x, protocol))
        assert type(again) is type(x)
        assert again.is_variable == x.is_variable
        assert_same(again, X)
        assert getattr(again, "name", None) == getattr(x, "name", None)
    dependent = pickle.loads(pickle.dumps(cr.tensor(X) * 2, protocol))
    assert dependent.is_constant  # the value travels, its history does not


def test_copy_and_deepcopy():
    x = cr.tensor(X)
    assert copy.copy(x) is x
    twin = copy.deepcopy(x)
    assert twin is not x
    assert twin.is_variable
    twin.assign(np.zeros((2, 3)))
    assert_same(x, X)
    constant = cr.asarray(X)
    assert copy.deepcopy(constant) is constant
    w = cr.Parameter([1.0], name="w")
    first, second = copy.deepcopy([w, w])
    assert first is second
    assert first is not w
    assert first.name == "w"


def test_attributes():
    x = cr.asarray(X)
    assert (x.shape, x.ndim, x.size, x.dtype) == ((2, 3), 2, 6, np.float64)
    assert (x.nbytes, x.itemsize, x.device) == (48, 8, "cpu")
    same(x.T, X.T)
    same(x.mT, X.T)
    assert x.to_device("cpu") is x
    with pytest.raises(DTypeError, match="only device"):
        x.to_device("cuda")
    with pytest.raises(AttributeError):
        x.nothing = 1


def test_methods_are_the_functions():
    x = cr.asarray(X)
    for name in ("sum", "mean", "max", "min", "prod", "std", "var"):
        for axis in (None, 0, -1, (0, 1)):
            expected = getattr(X, name)(axis)
            np.testing.assert_allclose(np.asarray(getattr(x, name)(axis)), expected)
        same(x.max(0, keepdims=True), X.max(0, keepdims=True))
    same(x.argmax(1), X.argmax(1))
    same(x.all(0), X.all(0))
    same(x.reshape(3, 2), X.reshape(3, 2))
    same(x.reshape((-1,)), X.reshape(-1))
    same(x.transpose(1, 0), X.T)
    same(x.flatten(), X.flatten())
    same(x.ravel(), X.ravel())
    same(x[None].squeeze(0), X)
    same(x.clip(2, 5), X.clip(2, 5))
    same(x.cumsum(), X.cumsum())
    same(x.cumsum(1), X.cumsum(1))
    same(x.astype(int), X.astype(int))
    same(x.repeat(2, 0), X.repeat(2, 0))
    same(x.take([0, 2], 1), X.take([0, 2], 1))
    same(x.dot(X.T), X.dot(X.T))
    same(x.swapaxes(0, 1), X.swapaxes(0, 1))
    same(x.diagonal(), X.diagonal())
    same(x.trace(), X.trace())
    assert x.tolist() == X.tolist()


# -- NumPy and others --------------------------------------------------------------------------


def test_a_numpy_view_is_read_only():
    x = cr.asarray(X.copy())
    for view in (np.asarray(x), x.numpy(), np.array(x, copy=None)):
        with pytest.raises(ValueError, match="read-only"):
            view[0, 0] = 9
    assert np.shares_memory(np.asarray(x), x.numpy())
    copied = np.array(x)
    copied[0, 0] = 9
    assert_same(x, X)
    assert np.asarray(x, dtype=np.float32).dtype == np.float32
    with pytest.raises(ValueError, match="copy"):
        np.asarray(x, dtype=np.float32, copy=False)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: np.exp(x), lambda x: np.sum(x, axis=0), lambda x: np.sum(x, 1, keepdims=True),
        lambda x: np.concatenate([x, x]), lambda x: np.concatenate([X, x], axis=1),
        lambda x: np.stack([x, x], axis=-1), lambda x: np.vstack([x, x]),
        lambda x: np.hstack([x, x]), lambda x: np.mean(x), lambda x: np.std(x, axis=0, ddof=1),
        lambda x: np.maximum(x, 3), lambda x: np.where(x > 2, x, 0.0), lambda x: np.dot(x, X.T),
        lambda x: np.matmul(X.T, x), lambda x: np.einsum("ij,ij->i", x, x), lambda x: np.sqrt(x),
        lambda x: np.transpose(x), lambda x: np.reshape(x, (3, 2)), lambda x: np.ravel(x),
        lambda x: np.tanh(x), lambda x: np.power(x, 2), lambda x: np.absolute(x),
        lambda x: np.argmax(x, axis=1), lambda x: np.cumsum(x, axis=1), lambda x: np.sort(x),
        lambda x: np.clip(x, 2, 4), lambda x: np.outer(x, x), lambda x: np.add(x, x),
        lambda x: np.add.reduce(x), lambda x: np.maximum.reduce(x, axis=1), lambda x: np.amax(x),
        lambda x: np.squeeze(x[None]), lambda x: np.expand_dims(x, 0), lambda x: np.roll(x, 1),
        lambda x: np.take_along_axis(x, np.array([[0], [1]]), axis=1), lambda x: np.tril(x),
        lambda x: np.diff(x), lambda x: np.isnan(x), lambda x: np.split(x, 2)[1],
        lambda x: np.tile(x, (1, 2)), lambda x: np.repeat(x, 2, axis=0), lambda x: np.flip(x),
        lambda x: np.tensordot(x, X, axes=2), lambda x: np.prod(x, axis=1), lambda x: np.log1p(x),
    ],
)  # fmt: skip
def test_numpy_functions_of_a_tensor_are_chainrules(call):
    expected = call(X)
    received = call(cr.tensor(X))
    assert isinstance(received, cr.Tensor)
    assert received.dtype == expected.dtype
    np.testing.assert_allclose(np.asarray(received), expected)
    assert received.is_constant == (expected.dtype.kind != "f")


def test_facts_about_a_tensor_from_numpy():
    x = cr.asarray(X)
    assert np.shape(x) == (2, 3)
    assert np.ndim(x) == 2
    assert np.size(x) == 6
    assert np.allclose(x, X)
    assert np.array_equal(x, X)
    assert np.result_type(x.dtype, np.float32) == np.float64
    np.testing.assert_array_equal(x, X)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda x: np.linalg.inv(x), "np.linalg.inv"),
        (lambda x: np.linalg.svd(x), "np.linalg.svd"),
        (lambda x: np.fft.fft(x), "np.fft.fft"),
        (lambda x: np.median(x), "np.median"),
        (lambda x: np.histogram(x), "np.histogram"),
        (lambda x: np.add.outer(x, x), "np.add.outer"),
        (lambda x: np.gcd(x, x), "np.gcd"),
    ],
)
def test_numpy_functions_without_a_counterpart_are_refused_with_what_to_do(call, name):
    with pytest.raises(UnsupportedError) as caught:
        call(cr.tensor(X))
    assert name in str(caught.value)
    assert "np.asarray(x)" in str(caught.value)


def test_options_numpy_has_and_chainrule_not_are_refused():
    with pytest.raises(UnsupportedError, match="where"):
        np.add(cr.asarray(X), X, where=X > 2)
    with pytest.raises(UnsupportedError, match="initial"):
        np.sum(cr.asarray(X), initial=3.0)


def test_dlpack_to_and_from_numpy():
    x = cr.asarray(X)
    array = np.from_dlpack(x)
    assert_same(array, X)
    assert not array.flags.writeable
    back = cr.from_dlpack(X)
    same(back, X)
    assert np.shares_memory(back.numpy(), X)
    copied = cr.from_dlpack(X, copy=True)
    assert not np.shares_memory(copied.numpy(), X)
    assert x.__dlpack_device__() == (1, 0)
    with pytest.raises(BufferError, match="read-only"):
        x.__dlpack__(copy=False)
    with pytest.raises(UnsupportedError, match="only device"):
        cr.from_dlpack(X, device="cuda")


def test_the_names_that_are_not_there_say_why():
    for name, why in (("complex64", "complex numbers"), ("fft", "Fourier"), ("float16", "float16")):
        with pytest.raises(AttributeError, match=why):
            getattr(cr, name)
    with pytest.raises(AttributeError, match="np.linalg.inv"):
        _ = cr.linalg.inv
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = cr.nothing


@pytest.mark.parametrize(
    "call",
    [
        lambda x: np.tensordot(x, x.T, 1),
        lambda x: np.triu(x, 1),
        lambda x: np.take_along_axis(x, np.array([[0], [1]]), 1),
        lambda x: np.take(x, [0, 2]),
        lambda x: np.cumprod(x),
        lambda x: np.linalg.norm(x),
        lambda x: np.linalg.norm(x, axis=1),
        lambda x: np.linalg.norm(x, 1, 0),
        lambda x: np.inner(x, x),
        lambda x: np.vdot(x, x),
        lambda x: np.exp2(x),
        lambda x: np.fabs(x),
        lambda x: np.flipud(x),
        lambda x: np.fliplr(x),
        lambda x: np.trace(x),
        lambda x: np.diff(x, 1, 0),
        lambda x: np.sum(x, 1),
        lambda x: np.var(x, 0, ddof=1),
    ],
)
def test_numpy_functions_take_their_arguments_as_numpy_does(call):
    x = np.array([[1.0, -2.0, 3.0], [0.5, 4.0, -1.5]])
    received = call(cr.tensor(x))
    assert isinstance(received, cr.Tensor)
    assert received.shape == np.shape(call(x))
    np.testing.assert_allclose(received, call(x), rtol=1e-14)
