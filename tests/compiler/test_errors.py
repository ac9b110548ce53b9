"""What cannot be compiled is an error that names the line, and what to write instead."""

import dataclasses
import functools
import re
import types
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule.core.types import DTYPES
from chainrule.errors import (
    DTypeError,
    GradientError,
    MutationError,
    ShapeError,
    TraceError,
    UnsupportedError,
)  # fmt: skip
from tests.ops.cases import EXCLUDED

pytestmark = pytest.mark.usefixtures("reference")
X = np.arange(6, dtype=np.float32).reshape(2, 3)
FILE = Path(__file__).name
W = cr.Parameter([1.0, 2.0, 3.0], name="W")
RATE = cr.tensor(0.5)
DEPENDENT = W * 2
SWAPPED = np.ones(3, ">f4" if np.little_endian else "<f4")


def branch(x):
    return x if x.sum() > 0 else -x


def loop(x):
    while x.sum() < 10:
        x = x * 2
    return x


def loop_in_scan(x):
    return cr.scan(lambda c, v: (c + v if v.sum() > 0 else c, None), x[0], x)[0]


REFUSED = {
    "branch": (branch, TraceError, "bool() needs the value", "use where(condition, a, b)"),
    "loop": (loop, TraceError, "bool() needs the value", "use where(condition, a, b)"),
    "in a body": (loop_in_scan, TraceError, "bool() needs the value", "where"),
    "float": (lambda x: float(x.sum()), TraceError, "float() needs the value", "outside"),
    "int": (lambda x: int(x[0, 0]), TraceError, "int() needs the value", "outside"),
    "item": (lambda x: x.sum().item(), TraceError, "item() needs the value", "outside"),
    "tolist": (lambda x: x.tolist(), TraceError, "tolist() needs the value", "outside"),
    "numpy": (lambda x: x.numpy(), TraceError, "numpy() needs the value", "outside"),
    "asarray": (lambda x: np.asarray(x), TraceError, "np.asarray() needs the value", "outside"),
    "an index": (lambda x: [1, 2][x[0, 1].astype(int)], TraceError, "an index needs the value", ""),
    "a range": (lambda x: list(range(x[0, 1].astype(int))), TraceError, "an index needs", ""),
    "mask": (lambda x: x[x > 0], TraceError, "shape that depends on values", "use where(mask,"),
    "nonzero": (lambda x: cr.nonzero(x), TraceError, "nonzero has a result that depends on values",
                "use where"),
    "argwhere": (lambda x: x.nonzero(), TraceError, "depends on values", "use where"),
    "unique": (lambda x: cr.unique_values(x), TraceError, "unique_values has a result", "where"),
    "NumPy": (lambda x: np.partition(x, 1), TraceError, "np.partition", "cr.Gate"),
    "a NumPy method": (lambda x: np.add.at(x, 0, 1), TraceError, "np.add", "cr.Gate"),
    "in place": (lambda x: x.__setitem__(0, 1), MutationError, "immutable", ".set("),
    "a variable's value": (lambda x: x * float(RATE), TraceError, "float() reads the value of a "
                           "variable", "compute with the variable itself"),
    "a variable as array": (lambda x: x * np.asarray(W), TraceError, "np.asarray() reads", ""),
    "a variable's item": (lambda x: x * RATE.item(), TraceError, "item() reads the value", ""),
    "dependent": (lambda x: x * DEPENDENT, TraceError, "computed outside of it", ".detach()"),
    "assigned argument": (lambda x: x.assign(x * 2), MutationError, "traced", "closes over"),
    "shapes": (lambda x: W.assign(x), ShapeError, "cannot change the shape", ""),
    "byte order": (lambda x: x * SWAPPED, TraceError, "byte order of other machines", "outside"),
}  # fmt: skip
NO_LINE = {"in place", "assigned argument", "shapes"}


@pytest.mark.parametrize("name", REFUSED)
def test_what_depends_on_values_is_refused(name):
    f, error, message, advice = REFUSED[name]
    compiled = cr.compile(f)
    with pytest.raises(error) as caught:
        compiled(X)
    text = str(caught.value)
    assert message in text and advice in text
    if name not in NO_LINE:
        first = f.__code__.co_firstlineno
        line = re.search(rf"{FILE}:(\d+)", text)
        assert line and first <= int(line[1]) <= first + 3, text
    assert not compiled._kept and W.grad is None


NUMBERS = {
    "a shape": (lambda n: cr.zeros((n, 2)), "a shape, index or range needs the value of n"),
    "reshape": (lambda n: cr.asarray(X).reshape(n, -1), "a shape, index or range"),
    "a range": (lambda n: sum(range(n)), "a shape, index or range"),
    "an index": (lambda n: X[n - 1], "needs the value of n"),
    "an axis": (lambda n: cr.asarray(X).sum(axis=n), "an axis or a key needs"),
    "a branch": (lambda n: 1 if n > 0 else 2, "a branch (bool()) needs the value of n"),
    "truth": (lambda n: 1 if n else 2, "a branch (bool()) needs the value of n"),
    "float": (lambda n: np.sqrt(float(n)), "float() needs the value of n"),
    "int": (lambda n: int(n), "int() needs the value of n"),
    "NumPy": (lambda n: np.sqrt(np.asarray(n)), "NumPy needs the value of n"),
    "round": (lambda n: X * round(n), "round() (cr.round gives a Tensor) needs the value of n"),
    "a format": (lambda n: f"{n:.2f}", "the format '.2f' needs the value of n"),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_not_known(name):
    f, message = NUMBERS[name]
    with pytest.raises(TraceError) as caught:
        cr.compile(f)(2)
    text = str(caught.value)
    assert message in text and f"{FILE}:{f.__code__.co_firstlineno}" in text
    assert 'static=("n",)' in text
    f(0 if name == "an axis" else 2)
    cr.compile(f, static=("n",))(1)


def test_a_number_in_a_container_is_named_by_the_argument():
    with pytest.raises(TraceError, match=r"the value of sizes\[0\].*static=\(\"sizes\",\)"):
        cr.compile(lambda sizes: cr.zeros((sizes[0],)))([3])


# -- what Python read while tracing ---------------------------------------------------------------

scale = 2.0
model = cr.nn.Linear(3, 2)


def helper(x):
    return x * scale


def test_a_global_that_was_replaced_is_named(monkeypatch):
    f = cr.compile(lambda x: helper(x))
    f(X)
    monkeypatch.setitem(globals(), "scale", float("2.0"))
    assert f(X).tolist() == (X * 2).tolist()  # an equal number is as good
    monkeypatch.setitem(globals(), "scale", 3.0)
    with pytest.raises(TraceError, match="'scale', which helper reads, was replaced after"):
        f(X)
    f.clear()
    assert f(X).tolist() == (X * 3).tolist()


def test_a_name_of_the_function_around_that_was_replaced_is_named():
    m = cr.nn.Linear(3, 2)

    @cr.compile
    def f(x):
        return m(x)

    f(X)
    m = cr.nn.Linear(3, 2, seed=7)
    with pytest.raises(TraceError, match="'m', which .*f reads, was replaced after f was compiled"):
        f(X)
    g = cr.compile(cr.grad(lambda x: (x * m.weight.sum()).sum()))
    g(X)
    m = cr.nn.Linear(3, 2)
    with pytest.raises(TraceError, match="'m', which .*lambda"):
        g(X)


class Net(cr.nn.Module):
    def __init__(self):
        self.rate, self.layer = 0.5, cr.nn.Linear(3, 3)
        self.layers = [cr.nn.Linear(3, 3), cr.nn.Linear(3, 3)]
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        for layer in [self.layer, *self.layers]:
            x = layer(x)
        return x * self.rate


REPLACED = {
    "layer": lambda net: setattr(net, "layer", cr.nn.Linear(3, 3)),
    "rate": lambda net: setattr(net, "rate", 0.25),
    "layers": lambda net: net.layers.__setitem__(1, cr.nn.Linear(3, 3)),
    "layer.weight": lambda net: setattr(net.layer, "weight", cr.Parameter(np.zeros((3, 3)))),
    "layer.bias": lambda net: setattr(net.layer, "bias", None),
}


@pytest.mark.parametrize("name", REPLACED)
def test_an_attribute_of_a_module_that_was_replaced_is_named(name):
    net = Net()
    f = cr.compile(lambda x: net(x))
    f(X)
    net.calls = 7  # forward sets it itself
    net.unknown = 3
    f(X)
    REPLACED[name](net)
    with pytest.raises(TraceError, match=rf"the attribute {name} of a \w+ was replaced"):
        f(X)
    f.clear()
    assert np.array_equal(f(X), net(X))


def test_modules_that_are_passed_are_watched_too():
    net = Net()
    f = cr.compile(lambda net, x: net(x))
    f(net, X)
    f(net, X)
    net.rate = 3.0
    with pytest.raises(TraceError, match="the attribute rate of a Net was replaced"):
        f(net, X)


# -- where Python reads from -----------------------------------------------------------------------

SOURCE = """
K, TABLE = 2.0, [2.0]

def scaled(x):
    return x * K

def default(x, k=2.0):
    return x * k

def keyword(x, *, k=2.0):
    return x * k

class Scale:
    power = 2.0

    def __init__(self):
        self.own = 2.0

    def __call__(self, x):
        return x * K

    def method(self, x):
        return x * self.own

    @property
    def value(self):
        return self.power

class Net(cr.nn.Module):
    power = 2.0

    def __init__(self, inner=None):
        self.own, self.table, self.inner = 2.0, {"a": cr.nn.Linear(3, 3)}, inner

    def forward(self, x):
        return self.table["a"](x) * K * self.power

instance, net = Scale(), Net()
"""
ONE = np.ones((1, 3), np.float32)
"""What is read: the function of a new module of SOURCE, what is replaced in it, the title."""
READ = {
    "a partial": (lambda m: functools.partial(m.scaled), "K", "'K', which scaled reads"),
    "a callable": (lambda m: m.instance, "K", "'K', which Scale.__call__ reads"),
    "a list": (lambda m: lambda x, fs=[m.scaled]: fs[0](x), "K", "'K', which scaled"),
    "a default": (lambda m: lambda x, f=m.scaled: f(x), "K", "'K', which scaled"),
    "a class": (lambda m: lambda x: m.Scale()(x), "K", "'K', which Scale.__call__"),
    "a decorator": (lambda m: functools.lru_cache(m.scaled), "K", "'K', which scaled"),
    "a derivative": (lambda m: cr.grad(lambda x: m.scaled(x).sum()), "K", "'K', which scaled"),
    "a module": (lambda m: lambda x: x * m.K, "K", "the attribute K of mine"),
    "a method": (lambda m: lambda x: m.instance.method(x), "instance.own",
                 "the attribute own of a Scale"),
    "a property": (lambda m: lambda x: x * m.instance.value, "Scale.power",
                   "the attribute power of the class Scale"),
    "a bound method": (lambda m: m.instance.method, "instance.own", "the attribute own of a Scale"),
    "a layer's forward": (lambda m: lambda x: m.net(x), "K", "'K', which Net.forward"),
    "a layer's class": (lambda m: m.net, "Net.power", "the attribute power of the class Net"),
    "a layer in a dict": (lambda m: m.net, "net.table.a", "the attribute table of a Net"),
    "a new layer in a dict": (lambda m: m.net, "net.table.b", "the attribute table of a Net"),
    "a layer not called": (lambda m: lambda x: x * m.net.own, "net.own", "the attribute own of a "),
    "a function in a layer": (lambda m: cr.nn.Sequential(cr.nn.Linear(3, 3), m.scaled), "K",
                              "'K', which scaled"),
    "a default that was replaced": (lambda m: m.default, "default.__defaults__", "__defaults__ of"),
    "a keyword's default": (lambda m: m.keyword, "keyword.__kwdefaults__.k", "__kwdefaults__ of"),
    "code": (lambda m: m.default, "default.__code__", "__code__ of default"),
    "an entry": (lambda m: lambda x: x * m.TABLE[0], "TABLE.0", "the attribute TABLE of mine"),
}  # fmt: skip


def replace(m, path):
    """Put something else in the place that a path in a module leads to."""
    *path, last = path.split(".")
    for name in path:
        m = m[name] if isinstance(m, dict) else getattr(m, name)
    new = {
        "__defaults__": (3.0,), "__code__": (lambda x, k: x).__code__,
        "a": cr.nn.Linear(3, 3, seed=5), "b": 3.0,
    }.get(last, 3.0)  # fmt: skip
    if isinstance(m, (dict, list)):
        m[int(last) if last.isdigit() else last] = new
    else:
        setattr(m, last, new)


@pytest.mark.parametrize("name", READ)
def test_what_was_read_while_tracing_is_watched(name):
    make, path, title = READ[name]
    m = types.ModuleType("mine")
    m.cr = cr
    exec(SOURCE, vars(m))
    f = make(m)
    compiled = cr.compile(f)
    for _ in range(2):
        assert np.array_equal(compiled(ONE), f(cr.asarray(ONE)))
    replace(m, path)
    with pytest.raises(TraceError, match=f"{re.escape(title)}.* was replaced after"):
        compiled(ONE)
    compiled.clear()
    assert np.array_equal(compiled(ONE), f(cr.asarray(ONE)))


class Rated(cr.nn.Module):
    def __init__(self):
        self.layer, self.rate = cr.nn.Linear(3, 3), 1.0

    @cr.compile
    def predict(self, x):
        return self.layer(x) * self.rate


@pytest.mark.parametrize("attribute", ["layer", "rate"])
def test_a_compiled_method_watches_its_own_module(attribute):
    net = Rated()
    net.predict(X)
    setattr(net, attribute, cr.nn.Linear(3, 3, seed=7) if attribute == "layer" else 3.0)
    with pytest.raises(TraceError, match=f"the attribute {attribute} of a Rated was replaced"):
        net.predict(X)
    f = cr.compile(lambda net, x: x @ net.layer.weight)
    f(net, X)
    net.layer.weight = cr.Parameter(np.ones((3, 3), np.float32))
    with pytest.raises(TraceError, match="the attribute layer.weight of a Linear was replaced"):
        f(net, X)


def test_what_the_function_itself_replaces_is_not_watched():
    count, shapes, settings = 0, [], {}

    def f(x):
        nonlocal count
        count += 1
        shapes.append(x.shape)
        settings[x.shape] = count
        return x * 2

    compiled = cr.compile(f)
    for n in (2, 3, 2, 3):
        compiled(np.ones(n))
    shapes.append(None)
    compiled(np.ones(2))
    assert count == 2 and len(shapes) == 3


ANEW = {
    "int and float": (2, 2.0), "bool and int": (True, 1), "signs of zero": (0.0, -0.0),
    "in a tuple": ((2,), (2.0,)), "deep in a tuple": ((2, (0.0,)), (2, (-0.0,))),
}  # fmt: skip


@pytest.mark.parametrize("name", ANEW)
def test_equal_values_of_other_kinds_are_others(name):
    first, second = ANEW[name]

    def flat(s):
        return flat(s[-1]) if isinstance(s, tuple) else s

    def f(x, s):
        return x / flat(s) if flat(s) == 0 else x * flat(s)

    x = np.ones(2, np.int32)
    compiled = cr.compile(f, static=("s",))
    scope = {"s": first, "f": f}
    exec("def g(x): return f(x, s)", scope)
    outside = cr.compile(scope["g"])
    with np.errstate(all="ignore"):
        for s in (first, second, first):
            found, expected = compiled(x, s), f(cr.asarray(x), s)
            assert found.dtype == expected.dtype and np.array_equal(found, expected)
        outside(x)
        scope["s"] = second
        with pytest.raises(TraceError, match="'s', which g reads, was replaced"):
            outside(x)
    assert len(compiled._kept) == 2


def test_values_that_are_made_anew_at_each_call_are_the_same():
    Setting = dataclasses.make_dataclass("Setting", ["rate"], frozen=True)
    f = cr.compile(lambda x, s, g: g(x) * s.rate)
    for _ in range(3):
        assert f(X, Setting(2.0), W.__add__).shape == (2, 3)  # a bound method is a new object
    assert len(f._kept) == 1
    assert f(X.astype(np.int32), Setting(2), abs).dtype == np.int32


def test_arrays_in_a_global_tuple_that_was_replaced():
    scope = {"pair": (np.ones(3), 1)}
    exec("def f(x): return x * pair[0]", scope)
    f = cr.compile(scope["f"])
    f(X)
    scope["pair"] = (np.ones(3), 1)
    with pytest.raises(TraceError, match="'pair', which f reads, was replaced"):
        f(X)


def test_a_name_that_was_deleted():
    factor = 2.0
    f = cr.compile(lambda x: x * factor)  # noqa: F821 - until it is deleted
    f(X)
    del factor
    with pytest.raises(TraceError, match="'factor', which .* reads, was replaced"):
        f(X)


# -- arguments, numbers, results ------------------------------------------------------------------

ARGUMENTS = {
    "complex": (np.ones(2, complex), UnsupportedError, "complex numbers are not supported"),
    "text": (np.array(["a"]), UnsupportedError, "dtype <U1 is not supported"),
    "dates": (np.array(["2020"], "M8[s]"), UnsupportedError, "datetime64"),
    "half": (np.ones(2, np.float16), UnsupportedError, "float16 is not supported"),
    "a structure": (np.ones(2, [("a", int)]), UnsupportedError, "is not supported"),
    "objects": (np.array([1, None]), DTypeError, "cannot make an array"),
    "a complex scalar": (np.complex64(1), UnsupportedError, "complex"),
    "memory": (memoryview(bytearray(3)), DTypeError, "x is a memoryview"),
}  # fmt: skip


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_that_are_refused(name):
    value, error, message = ARGUMENTS[name]
    f = cr.compile(lambda x: x)
    with pytest.raises(error, match=message):
        f(value)
    assert not f._kept  # and nothing was compiled


U8, I64 = np.arange(3, dtype=np.uint8), np.arange(3)
LARGE = {
    "too large": lambda: (lambda x: x + 300, (U8,)),
    "too small": lambda: (lambda x: x * -1, (U8,)),
    "times": lambda: (lambda x: x * 2**70, (I64,)),
    "beside a float": lambda: (lambda x: x * 2**70, (X,)),
    "beyond floats": lambda: (lambda x: x * 10**400, (X,)),
    "less": lambda: (lambda x: (x < 2**70, x > 2**70, x == 2**70, x >= -(2**70)), (I64,)),
    "in 64 bits without sign": lambda: (lambda x: (x < 2**63, x == 2**64 - 1), (I64,)),
    "as an argument": lambda: (lambda x, n: x * n, (X, 2**70)),
    "negative": lambda: (lambda x, n: x * n, (X, -(2**63) - 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
def test_numbers_that_do_not_fit_are_as_in_eager(name):
    f, args = LARGE[name]()

    def outcome(f):
        try:
            return repr(f(*(cr.asarray(x) if isinstance(x, np.ndarray) else x for x in args)))
        except DTypeError as error:
            return str(error)

    compiled = cr.compile(f)
    assert outcome(f) == outcome(compiled)
    for special in compiled._kept:
        inputs = (x for node in special.captured.graph.nodes for x in node.inputs)
        assert all(x.dtype in DTYPES for x in inputs if isinstance(x, np.ndarray))


def test_large_and_small_whole_numbers_in_turn():
    f = cr.compile(lambda x, n: x * n)
    for n in (2, 2**70, 3, 2**70, -(2**63), 2**71, 2**63 - 1):
        assert f(X, n).tolist() == (cr.asarray(X) * n).tolist()
    assert len(f._kept) == 3
    assert cr.compile(lambda n: divmod(n, 3) + divmod(17, n))(7) == (2, 1, 2, 3)


RETURNED = {
    "a Jacobian": lambda x: cr.jacobian(cr.sin)(x),
    "an object": lambda x: types.SimpleNamespace(a=[x * 2]),
    "a function": lambda x: cr.vjp(cr.sin, x)[1],
    "a partial": lambda x: functools.partial(cr.add, x),
    "a generator": lambda x: (v for v in [x]),
    "a map": lambda x: {"a": map(cr.sin, x)},
    "a set": lambda x: {x * 2},
    "a bound method": lambda x: (x * 2).sum,
}


@pytest.mark.parametrize("name", RETURNED)
def test_results_that_hold_traced_tensors_are_refused(name):
    with pytest.raises(TraceError, match=r"the function returns a \w+, which holds Tensors"):
        cr.compile(RETURNED[name])(X)


def test_results_that_hold_other_things_are_returned():
    thing = types.SimpleNamespace(a=X, f=test_a_name_that_was_deleted, w=W)
    assert cr.compile(lambda x: (thing, x))(X)[0] is thing


# -- gradients ------------------------------------------------------------------------------------


def test_backward_to_an_argument_is_refused():
    v = cr.tensor([1.0, 2.0, 3.0])
    f = cr.compile(lambda v: (v * W).sum().backward())
    with pytest.raises(TraceError, match="backward reaches v, a variable that was passed"):
        f(v)
    f(v.detach())
    assert v.grad is None and W.grad is None
    g = cr.compile(lambda w: ((w * w).sum().backward(), w.assign(w - w.grad)))
    w = cr.Parameter([1.0])
    g(w)  # a Parameter is state
    assert w.tolist() == [-1.0]


def test_gradients_of_a_body_stay_inside():
    w = cr.Parameter(1.0)

    def epoch(xs, reset, after):
        def step(c, x):
            if reset:
                w.zero_grad()
            (w * x).backward()
            w.assign(w - w.grad)
            return c, None

        cr.scan(step, 0.0, xs)
        return w.grad if after else w

    f = cr.compile(epoch)
    xs = np.ones(3, np.float32)
    with pytest.raises(TraceError, match=r"call zero_grad\(\) there first .*test_errors.py"):
        f(xs, False, False)
    with pytest.raises(TraceError, match="stay inside"):
        f(xs, True, True)
    assert w.item() == 1.0
    assert f(xs, True, False).item() == -2.0 and w.item() == -2.0 and w.grad is None


def test_a_result_has_no_derivative():
    assert "Severed" in EXCLUDED
    f = cr.compile(lambda x: W * x)
    with pytest.raises(GradientError, match=r"compiled function, .* f.__wrapped__"):
        f(X).sum().backward()
    f.__wrapped__(X).sum().backward()
    assert W.grad.tolist() == X.sum(0).tolist()
    W.zero_grad()


def test_unsupported_functions_in_eager_say_what_they_said():
    with pytest.raises(UnsupportedError, match="np.partition has no counterpart"):
        np.partition(W, 1)
