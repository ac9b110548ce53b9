"""Gradients, gates, networks and data used wrongly, and what is said; as in test_bad_input.py."""

import math
import warnings
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule import data, nn, optim
from chainrule.errors import (
    AxisError,
    DataError,
    DTypeError,
    GateError,
    GradientError,
    MutationError,
    RunError,
    ShapeError,
    TraceError,
    UnsupportedError,
)
from tests.bad_input import BOTH, I3, OUT, S, V, X, Y, check, ones, rows, whole

# -- NumPy's functions --------------------------------------------------------------------------

NO = "has no counterpart in chainrule"
HOW = "np.asarray(x)"
NUMPY = rows(
    (lambda: np.linalg.inv(ones(2, 2)), UnsupportedError, ("np.linalg.inv", NO, HOW)),
    (lambda: np.fft.fft(V), UnsupportedError, ("np.fft.fft", NO, HOW)),
    (lambda: np.linalg.det(V), UnsupportedError, ("np.linalg.det", NO)),
    (lambda: np.interp(V, V, V), UnsupportedError, ("np.interp", NO, HOW)),
    (lambda: np.median(V), UnsupportedError, ("np.median", NO)),
    (lambda: np.gcd(I3, I3), UnsupportedError, ("np.gcd", NO)),
    (lambda: np.frexp(V), UnsupportedError, ("np.frexp", NO)),
    (lambda: np.add.outer(V, V), UnsupportedError, ("np.add.outer", NO)),
    (lambda: np.add.accumulate(V), UnsupportedError, ("np.add.accumulate", NO)),
    (lambda: np.exp(V, where=np.ones(3, bool)), UnsupportedError, ("np.exp", "where=")),
    (lambda: np.sum(V, where=np.ones(3, bool)), UnsupportedError, ("np.sum", "where")),
    (lambda: cr.linalg.inv, UnsupportedError, ("linalg.inv", "matmul", "np.linalg.inv(np.as")),
    (lambda: cr.linalg.svd(X), UnsupportedError, ("linalg.svd", "np.linalg.svd(np.asarray(x))")),
)


@pytest.mark.parametrize(("call", "error", "words"), NUMPY)
def test_numpy_functions_without_a_counterpart(call, error, words):
    check(call, error, words)


def test_what_is_not_there_is_not_there():
    """The protocol of attributes: hasattr and import find nothing, as for other missing names."""
    assert not hasattr(cr, "complex64") and not hasattr(cr.linalg, "inv")
    assert getattr(cr, "fft", None) is None
    with pytest.raises(ImportError):
        from chainrule import float16  # noqa: F401


# -- in-place writes ----------------------------------------------------------------------------


def in_place(symbol, start=None):
    def call():
        space = {"x": ones(2, 2) if start is None else start}
        exec(f"x {symbol}= 2", space)

    return call


def numpy_in_place():
    a = np.ones((2, 3), np.float32)
    a += X


IMMUTABLE = "Tensors are immutable"
WRITES = rows(
    (lambda: X.__setitem__(0, 1.0), MutationError, (IMMUTABLE, "x = x.at[i].set(v)")),
    (lambda: cr.asarray(V).__setitem__(slice(0), 1), MutationError, (IMMUTABLE, "x.at[i].add(v)")),
    (lambda: X.__delitem__(0), MutationError, (IMMUTABLE, "indexing and concat")),
    *(
        (in_place(s), MutationError, (f"w {s}= …", f"w.assign(w {s} …)", "w - lr * w.grad"))
        for s in ("+", "-", "*", "/", "//", "%", "**", "@", "&", "|", "^", "<<", ">>")
    ),
    (
        in_place("-", cr.Parameter([1.0], name="w")), MutationError, ("w.assign(w - lr * w.grad)",)
    ),
    (lambda: np.add(np.ones((2, 3)), 1, out=X), MutationError, ("np.add", "out=", "immutable")),
    (lambda: np.add(X, 1, out=np.ones((2, 3))), MutationError, ("out=", "the returned value")),
    (lambda: np.sum(X, out=np.ones(())), MutationError, ("np.sum", "out=", "immutable")),
    (numpy_in_place, MutationError, ("np.add", "out=")),
    (lambda: np.add.at(X, [0], 1.0), UnsupportedError, ("np.add.at",)),
    (lambda: np.copyto(X, 1.0), UnsupportedError, ("np.copyto",)),
    (lambda: V.sort(), MutationError, (IMMUTABLE, "x = cr.sort(x)")),
    (lambda: cr.asarray(1.0).assign(2.0), MutationError, ("assign is for variables", "constant")),
    (lambda: (X * 2).assign(X), MutationError, ("assign is for variables", "computed")),
    (
        lambda: setattr(nn.Linear(2, 2), "weight", np.ones((2, 2))),
        MutationError,
        ("Linear.weight is a Parameter", "weight.assign(value)"),
    ),
)  # fmt: skip


@pytest.mark.parametrize(("call", "error", "words"), WRITES)
def test_in_place_writes(call, error, words):
    before = X.numpy().copy()
    check(call, error, words)
    assert np.array_equal(X, before)


def test_views_are_read_only():
    for view in (X.numpy(), np.asarray(X), np.asarray(X * 2)):
        with pytest.raises(ValueError, match="read-only"):
            view[0] = 1


# -- gradients ----------------------------------------------------------------------------------


def square(x):
    return (x * x).sum()


def without_recording():
    with cr.no_grad():
        y = X.sum()
    y.backward()


C = cr.ones(3)
ONE = "one scalar result"
GRADIENTS = rows(
    (lambda: (X * 2).backward(), GradientError, ("(2, 3)", "y.backward(gradient)", "y.sum()")),
    (lambda: (X * 2).backward(Y), ShapeError, ("the upstream gradient", *BOTH)),
    (lambda: cr.asarray(1.0).backward(), GradientError, ("backward of a constant", "cr.tensor")),
    (without_recording, GradientError, ("backward of a constant", "cr.no_grad")),
    (lambda: (X > 0).sum().backward(), GradientError, ("backward of a constant",)),
    (lambda: cr.asarray(1.0).graph, GradientError, ("a constant has no graph",)),
    (lambda: cr.grad(lambda x: x * 2)(C), GradientError, (ONE, "float32[3]", "cr.jacobian")),
    (lambda: cr.grad(lambda x: (x, x))(1.0), GradientError, (ONE, "float32[], float32[]")),
    (lambda: cr.grad(lambda x: None)(C), GradientError, (ONE, "received none")),
    (lambda: cr.grad(lambda x: "a")(C), DTypeError, ("the result must hold arrays", "'a'")),
    (lambda: cr.grad(lambda x: (x > 0).sum())(C), GradientError, ("dtype int64",)),
    (lambda: cr.grad(square)(I3), DTypeError, ("float32 or float64", "int64")),
    (lambda: cr.grad(square)("abc"), DTypeError, ("arrays and numbers", "'abc'")),
    (lambda: cr.grad(square)(), GradientError, ("wrt=0", "0 by position")),
    (lambda: cr.grad(square, wrt=3)(C), GradientError, ("wrt=3", "1 by position")),
    (lambda: cr.grad(square, wrt="y")(C), GradientError, ("wrt='y'", "['x']")),
    (lambda: cr.grad(square, wrt=1.5)(C), GradientError, ("a position or a name", "1.5")),
    (lambda: cr.grad(square, wrt=(0, 4))(C), GradientError, ("wrt=4",)),
    (lambda: cr.grad(square, wrt=(0, "x"))(C), GradientError, ("(0, 'x')", "twice")),
    (lambda: cr.grad(square, has_aux=True)(C), GradientError, ("has_aux=True", "a pair")),
    (lambda: cr.hvp(square)(C, cr.ones(2)), ShapeError, ("tangent", "(3,)", "(2,)")),
    (lambda: cr.hvp(square)(C), GradientError, ("hvp(f)(*args, vector)", "then the vector")),
    (lambda: cr.jvp(square, (C,), (cr.ones(2),)), ShapeError, ("tangent", "(3,)", "(2,)")),
    (lambda: cr.jvp(square, (C,), (C, C)), ShapeError, ("like the arguments", "2 for 1")),
    (lambda: cr.jvp(square, C, C), GradientError, ("a tuple of arguments", "tuple of tangents")),
    (lambda: cr.vjp(cr.sin, C)[1](cr.ones(2)), ShapeError, ("upstream", "(3,)", "(2,)")),
    (lambda: cr.vjp(cr.sin, C)[1]((C, C)), ShapeError, ("1 arrays, received 2",)),
    (lambda: cr.vjp(cr.sin, I3), DTypeError, ("float32 or float64", "int64")),
    (lambda: cr.hessian(cr.sin)(C), GradientError, (ONE, "float32[3]")),
    (lambda: cr.jacobian(lambda x: x > 0)(C), GradientError, ("dtype bool",)),
    (lambda: cr.jacobian(cr.sin)(C) @ cr.ones(2), ShapeError, ("J @ v", "(3,)", "(2,)")),
    (lambda: cr.ones(2) @ cr.jacobian(cr.sin)(C), ShapeError, ("u @ J", "(3,)", "(2,)")),
)


@pytest.mark.parametrize(("call", "error", "words"), GRADIENTS)
def test_gradients_that_cannot_be_taken(call, error, words):
    check(call, error, words)


def test_an_array_made_inside_a_derivative_warns_with_the_line():
    def lost(x):
        return (np.asarray(x) * x).sum()  # the line that is named

    line = lost.__code__.co_firstlineno + 1
    with pytest.warns(
        UserWarning, match=rf"the path ends there \(.*{Path(__file__).name}:{line}\)"
    ):
        gradient = cr.grad(lost)(cr.asarray([3.0]))
    assert gradient.tolist() == [3.0]


def test_a_number_made_inside_a_derivative_warns_with_the_line():
    def lost(x):
        return x * math.sin(x)  # the line that is named

    line = lost.__code__.co_firstlineno + 1
    with pytest.warns(UserWarning, match=rf"Python float.*{Path(__file__).name}:{line}\).*item"):
        gradient = cr.grad(lost)(cr.asarray(3.0, dtype=cr.float64))
    assert float(gradient) == math.sin(3.0)


def test_numbers_that_are_meant_or_have_no_derivative_do_not_warn():
    def f(x):
        text = f"{x:.1f} {int(x)} {cr.nn.accuracy([[x, 0.0]], [0])}"
        return x * x.item() if x > 0 else len(text) * x

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert float(cr.grad(f)(3.0)) == 3.0


# -- vmap ---------------------------------------------------------------------------------------

HERE = "test_bad_use.py:"
VALUE = "needs the value of a Tensor that is being traced"
STORED = []


def leaked():
    """A Tensor that got out of the function vmap traced."""
    cr.vmap(lambda x: STORED.append(x * 2) or x)(ones(2, 3))
    return STORED.pop()


OVER = ("inside a traced function", "return the Tensor from the function")
TRACES = rows(
    (lambda: cr.vmap(cr.add)(X, Y), ShapeError, ("batch sizes differ, 2 and 4", "in_axes=0")),
    (lambda: cr.vmap(cr.sin)(S), ShapeError, ("0-d argument",)),
    (lambda: cr.vmap(cr.sin, in_axes=5)(X), AxisError, ("in_axes 5", OUT)),
    (lambda: cr.vmap(cr.sin, in_axes=(0, 0))(X), AxisError, ("2 arguments, the call has 1",)),
    (lambda: cr.vmap(cr.sin, in_axes=None)(X), AxisError, ("an argument to batch over",)),
    (lambda: cr.vmap(cr.sin, out_axes=3)(X), AxisError, ("out_axes 3", OUT)),
    (lambda: cr.vmap(cr.sin, out_axes=None)(X), AxisError, ("differs between the examples",)),
    (lambda: cr.vmap(cr.sin)("abc"), ShapeError, ("cannot batch over str", "axis None")),
    (lambda: cr.vmap(lambda x: x if x > 0 else -x)(V), TraceError, ("bool()", VALUE, HERE, "wher")),
    (lambda: cr.vmap(lambda x: x[x > 0])(X), TraceError, ("mask", HERE, "where(mask, x, other)")),
    (lambda: cr.vmap(float)(V), TraceError, ("float()", VALUE)),
    (lambda: cr.vmap(lambda x: x.item())(V), TraceError, ("item()", VALUE, HERE)),
    (lambda: cr.vmap(lambda x: np.asarray(x))(V), TraceError, ("np.asarray()", VALUE, HERE)),
    (lambda: cr.vmap(lambda n: list(range(n)))(I3), TraceError, ("an index", VALUE, HERE)),
    (lambda: cr.vmap(cr.nonzero)(X), TraceError, ("nonzero", "depends on values", "where")),
    (lambda: cr.vmap(lambda n: cr.repeat(C, n))(I3), TraceError, ("repeat", VALUE)),
    (lambda: cr.vmap(lambda n: C.reshape(n))(I3), TraceError, ("an index", VALUE)),
    (lambda: cr.vmap(lambda x: V.assign(C * x))(V), TraceError, ("assigned inside vmap",)),
    (lambda: leaked() + 1, TraceError, OVER),
    (lambda: leaked() @ V, TraceError, OVER),
    (lambda: leaked().sum(), TraceError, OVER),
    (lambda: leaked()[0], TraceError, OVER),
    (lambda: np.asarray(leaked()), TraceError, ("np.asarray()", *OVER)),
    (lambda: leaked().tolist(), TraceError, ("tolist()", *OVER)),
    (lambda: leaked().numpy(), TraceError, ("numpy()", *OVER)),
    (lambda: leaked().detach(), TraceError, ("detach()", *OVER)),
    (lambda: leaked().backward(C), TraceError, ("backward()", *OVER)),
    (lambda: ones(3).assign(leaked()), TraceError, ("assign", *OVER)),
    (lambda: setattr(ones(3), "grad", leaked()), TraceError, OVER),
    (lambda: cr.stack([leaked(), leaked()]), TraceError, OVER),
    (lambda: cr.grad(lambda x: (x * leaked()).sum())(V), TraceError, OVER),
)


@pytest.mark.parametrize(("call", "error", "words"), TRACES)
def test_vmap_and_traced_values(call, error, words):
    check(call, error, words)
    assert float(V.sum()) == 3.0  # no trace is left behind, nothing was changed


# -- gates of one's own -------------------------------------------------------------------------


def gate(forward=lambda self, x: x, backward=None, base=cr.Gate):
    """A gate of these two functions."""
    parts = {"forward": forward, "backward": backward}
    made = {k: v for k, v in parts.items() if v is not None}
    return type("Mine", (base,), made)()


def pulled(*results, base=cr.Gate):
    """The reverse pass through a gate whose backward returns this."""

    def call():
        value = results[0] if len(results) == 1 else results
        gate(backward=lambda self, *upstream: value, base=base)(V).sum().backward()

    return call


squared = gate(lambda self, x: x * x, lambda self, upstream: [upstream * 2])
GATES = rows(
    (lambda: gate(None)(V), GateError, ("Mine must define forward(self, *inputs)",)),
    (lambda: gate()(V).sum().backward(), GateError, ("Mine must define backward(self, upst",)),
    (lambda: gate(lambda s, x: "abc")(V), GateError, ("Mine.forward must return an array", "str")),
    (lambda: gate(lambda s, x: None)(V), GateError, ("must return an array", "NoneType")),
    (lambda: gate(lambda s, x: x * 1j)(V), GateError, ("real numbers", "complex64")),
    (lambda: gate(lambda s, x: x.astype(np.float16))(V), GateError, ("Mine.forward", "float16")),
    (lambda: gate(lambda s, x: np.array(["a"]))(V), GateError, ("real numbers", "<U1")),
    (lambda: gate(lambda s, x: "a", base=cr.TensorGate)(V), GateError, ("an array", "str")),
    (pulled(C, C), GateError, ("returned 2 gradients for 1 inputs", "one for each input")),
    (pulled([]), GateError, ("returned 0 gradients for 1 inputs",)),
    (pulled(None), GateError, ("Mine.backward returned None", "is the return missing?")),
    (pulled([np.ones((4, 5))]), GateError, ("(4, 5)", "input 0 of shape (3,)")),
    (pulled([2.0]), GateError, ("shape ()", "input 0 of shape (3,)")),
    (pulled("abc"), GateError, ("returned 'abc' for input 0", "array of real numbers")),
    (pulled([np.ones(3) * 1j]), GateError, ("for input 0", "real numbers")),
    (pulled([[[1], [1, 2], [3]]]), GateError, ("for input 0", "array of real numbers")),
    (pulled([C, C], base=cr.TensorGate), GateError, ("returned 2 gradients for 1 inputs",)),
    (pulled([X], base=cr.TensorGate), GateError, ("(2, 3)", "input 0 of shape (3,)")),
    (
        lambda: cr.grad(cr.grad(squared))(2.0),
        GradientError,
        ("Mine is a gate in plain NumPy", "only a first derivative", "cr.TensorGate"),
    ),
    (lambda: cr.hvp(lambda x: squared(x).sum())(C, C), GradientError, ("cr.TensorGate",)),
    (
        lambda: cr.hessian(lambda x: squared(x).sum())(C).todense(),
        GradientError,
        ("only a first derivative",),
    ),
)


@pytest.mark.parametrize(("call", "error", "words"), GATES)
def test_gates_of_ones_own(call, error, words):
    check(call, error, words)


# -- networks, optimizers, data -----------------------------------------------------------------

EMPTY = (np.ones((0, 2)), np.zeros(0, int))
NETWORKS = rows(
    (lambda: optim.SGD([], lr=0.1), DataError, ("SGD received no parameters",)),
    (lambda: optim.Adam(nn.Sequential(nn.relu)), DataError, ("Adam received no parameters",)),
    (lambda: optim.SGD([V], lr=0.1), DTypeError, ("takes Parameters", "cr.Parameter")),
    (lambda: optim.SGD(None, lr=0.1), DTypeError, ("a Module, a list of Param", "NoneType")),
    (lambda: optim.SGD(nn.Linear(2, 2), lr=-1), DataError, ("lr must be 0 or more", "-1")),
    (lambda: optim.SGD(nn.Linear(2, 2), lr="fast"), DTypeError, ("must be a number", "'fast'")),
    (lambda: optim.Adam(nn.Linear(2, 2), beta1=1.0), DataError, ("beta1", "below 1")),
    (
        lambda: optim.SGD(nn.Linear(2, 2), lr=0.1).step(),
        GradientError,
        ("no parameter has a gradient", "loss.backward()"),
    ),
    (lambda: nn.Sequential(nn.Linear), DTypeError, ("entry 0", "write Linear(…)")),
    (
        lambda: nn.softmax_cross_entropy(X, cr.asarray([0, 3])),
        DataError,
        ("label 3 in row 1 is out of range", "3 classes, 0 to 2"),
    ),
    (lambda: nn.hinge(X, cr.asarray([-1, 0])), DataError, ("label -1 in row 0", "0 to 2")),
    (lambda: nn.accuracy(X, cr.asarray([0, 9])), DataError, ("label 9 in row 1",)),
    (lambda: nn.hinge(X, cr.ones(2)), DTypeError, ("labels must be integers", "astype(int)")),
    (lambda: nn.hinge(whole(2, 3), I3[:2]), DTypeError, ("scores must be floats", "int64")),
    (lambda: nn.hinge(X, I3[:2], reduction="avg"), UnsupportedError, ('"mean"', "'avg'")),
    (lambda: nn.l2_penalty(nn.Sequential()), DataError, ("at least one parameter",)),
    (lambda: data.arrays(*EMPTY), DataError, ("(0, 2)", "(0,)", "hold no values")),
    (lambda: cr.train.fit(nn.Linear(2, 2), EMPTY), DataError, ("train: ", "hold no values")),
    (lambda: data.batches(EMPTY, 2, seed=0), DataError, ("at least 1", "(0, 2)", "(0,)")),
    (lambda: data.digits().take([]), DataError, ("no example was taken",)),
    (lambda: data.digits().take([9999]), DataError, ("digits, 1797 examples", "9999")),
    (lambda: data.arrays(np.ones((3, 2)), [0, 1]), DataError, ("(3, 2)", "(2,)", "same length")),
    (lambda: data.arrays([[1], [1, 2]], [0, 1]), DataError, ("inputs are not an array",)),
    (lambda: data.arrays([[np.nan]], [0]), DataError, ("inputs[0, 0] is nan", "finite")),
    (lambda: data.arrays([[1j]], [0]), DataError, ("real numbers", "complex128")),
    (lambda: data.arrays([[1.0]] * 3, [0, 1, -1]), DataError, ("targets[2] is -1", "0 to 1")),
    (lambda: data.arrays([[1.0]] * 3, list("abc")), DataError, ("<U1", "return_inverse=True")),
    (lambda: data.split([0, 1], (1, 1, 1), seed=0), DataError, ("three fractions", "(1, 1, 1)")),
    (lambda: data.read_csv("no.csv", "y"), DataError, ("no.csv: cannot be read", "No such file")),
    (lambda: cr.train.load_run("no-run"), RunError, ("no run folder at no-run",)),
)


@pytest.mark.parametrize(("call", "error", "words"), NETWORKS)
def test_networks_optimizers_and_data(call, error, words):
    check(call, error, words)
