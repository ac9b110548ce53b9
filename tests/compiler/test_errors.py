"""What cannot be compiled is an error that names the line, and what to write instead."""

import re
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import GradientError, MutationError, ShapeError, TraceError, UnsupportedError
from tests.ops.cases import EXCLUDED

pytestmark = pytest.mark.usefixtures("reference")
X = np.arange(6, dtype=np.float32).reshape(2, 3)
FILE = Path(__file__).name
W = cr.Parameter([1.0, 2.0, 3.0], name="W")
RATE = cr.tensor(0.5)
DEPENDENT = W * 2


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
