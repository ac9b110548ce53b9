"""Where a NaN came from: the gate, the module, the line, the entry, and what training says."""

import re
import sys

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import GradientError
from chainrule.explain import first_nonfinite
from chainrule.train import fit

HERE = re.escape(__file__.rsplit("/", 1)[-1])


@pytest.fixture(autouse=True)
def silent():
    with np.errstate(all="ignore"):
        yield


def line_of(function, text):
    """The number of the line of a function that holds a text."""
    first = function.__code__.co_firstlineno
    with open(__file__) as file:
        lines = file.read().splitlines()
    return next(k for k in range(first, len(lines)) if text in lines[k - 1])


X = np.array([[0.5, 2.0], [4.0, 0.0]])
GATES = {
    "log": (lambda x: cr.log(x).sum(), -np.inf, (1, 1), [0.0]),
    "div": (lambda x: (1.0 / x).sum(), np.inf, (1, 1), [1.0, 0.0]),
    "sqrt": (lambda x: cr.sqrt(x - 1.0).sum(), np.nan, (0, 0), [-0.5]),
    "exp": (lambda x: cr.exp(x * 300.0).mean(), np.inf, (1, 0), [1200.0]),
    "mul": (lambda x: (x * 1e300 * 1e300).sum(), np.inf, (0, 0), [5e299, 1e300]),
    "sub": (lambda x: ((x * 1e308) * 1.0 - (x * -1e308)).sum(), np.inf, (0, 1), None),
}


@pytest.mark.parametrize("name", GATES)
def test_the_first_gate_and_its_entry(name):
    function, value, index, inputs = GATES[name]
    found = first_nonfinite(function(cr.tensor(X)))
    if name != "sub":
        assert found.gate == name and found.index == index and found.shape == (2, 2)
        assert [float(x) for x in found.inputs] == inputs
        np.testing.assert_equal(found.value, value)
    else:  # the first in the order of running: x·1e308 at 2 and 4
        assert found.gate == "mul" and found.index == (0, 1)
    assert re.search(rf"{HERE}:\d+$", found.line)


def test_the_line_is_the_users():
    x = cr.tensor(X)
    y = x * 2.0
    z = cr.log(y)  # here it is
    found = first_nonfinite((z * y).sum())
    expected = line_of(test_the_line_is_the_users, "# here it is")
    assert found.line.endswith(f":{expected}") and found.gate == "log"


@pytest.mark.parametrize(
    ("file", "shown"),
    [
        ("/home/someone/work.py", True),
        ("<stdin>", True),
        ("/usr/lib/python3/dist-packages/typer/main.py", False),
        ("/env/lib/site-packages/typer/main.py", False),
        ("<frozen runpy>", False),
    ],
)
def test_the_line_of_an_installed_command_is_not_the_users(file, shown):
    space = {"cr": cr, "x": cr.tensor(X)}
    exec(compile("y = cr.log(x)", file, "exec"), space)
    found = first_nonfinite(space["y"])
    assert found.line == (f"{file}:1" if shown else "")
    assert (" at " + file in str(found)) == shown


def test_what_a_later_gate_made_finite_is_not_followed():
    x = cr.tensor(X)
    masked = cr.where(x > 1.0, x, -np.inf)
    fine = cr.exp(masked).sum()
    assert first_nonfinite(fine) is None
    found = first_nonfinite(fine + (1.0 / x).sum())
    assert found.gate == "div"


def test_of_two_the_first_that_ran_is_named():
    x = cr.tensor(X)
    a = cr.log(x)
    b = 1.0 / x
    assert first_nonfinite((b + a).sum()).gate == "log"


def test_what_came_in_so():
    x = X.copy()
    x[1, 0] = np.nan
    assert first_nonfinite((cr.tensor(x) * 2.0).sum()).gate == "variable"
    layer = cr.nn.Sequential(cr.nn.Linear(2, 3), cr.nn.relu, cr.nn.Linear(3, 1), seed=0)
    found = first_nonfinite(layer(x.astype(np.float32)).sum())
    assert found.gate.startswith("constant into ") and found.index == (1, 0)
    assert found.module == "0"
    layer[2].weight.assign([[1.0], [np.inf], [2.0]])
    found = first_nonfinite(layer(X.astype(np.float32)).sum())
    assert (found.gate, found.name, found.index) == ("parameter", "2.weight", (1, 0))
    assert str(found) == ("parameter '2.weight' of shape (3, 1): inf at [1, 0] (1 of 3 entries)")


def test_constants_integers_and_finite_results():
    assert first_nonfinite(cr.asarray([1, 2]).sum()) is None
    assert first_nonfinite(cr.asarray(1.0)) is None
    assert str(first_nonfinite(cr.asarray(np.inf))) == "constant of shape (): inf"


def test_gates_with_several_outputs():
    x = cr.tensor(X)
    low, high = cr.split(1.0 / x, 2) if hasattr(cr, "split") else (1.0 / x, x)
    assert first_nonfinite(low.sum() + high.sum()).gate == "div"


def test_a_deep_graph_is_no_recursion():
    x = y = cr.tensor(0.0)
    for _ in range(2 * sys.getrecursionlimit()):
        y = y + 0.0
    assert first_nonfinite(1.0 / y).gate == "div"
    y = cr.log(x)
    for _ in range(2 * sys.getrecursionlimit()):
        y = y + 1.0
    assert first_nonfinite(y).gate == "log"


def test_a_traced_tensor_has_no_values():
    def look(x):
        first_nonfinite(x)
        return x

    with pytest.raises(GradientError, match="a traced graph has no values: look at it in eager"):
        cr.vmap(look)(cr.asarray([1.0, 2.0]))


def test_fit_says_where_and_what_to_try():
    class Model(cr.nn.Module):
        def __init__(self):
            self.inner = cr.nn.Linear(1, 2)

        def forward(self, x):
            return cr.log(cr.relu(self.inner(x)))  # log of 0

    x = np.linspace(-1, 1, 8).reshape(8, 1)
    with pytest.raises(GradientError) as caught:
        fit(Model(), (x, np.zeros(8, int)), epochs=1, progress=False)
    message = str(caught.value)
    expected = line_of(test_fit_says_where_and_what_to_try, "# log of 0")
    assert "in epoch 1, step 1; the first such value: log of shape (8, 2)" in message
    assert f":{expected}: -inf at [" in message and "computed from 0" in message
    for advice in ("smaller rate (now 0.001)", "clip gradients", "scale the inputs", "out of log"):
        assert advice in message
    assert len(message) < 500


def test_fit_names_a_parameter_that_an_update_broke():
    model = cr.nn.Linear(1, 1)
    x = np.linspace(-1, 1, 16).reshape(16, 1)
    with pytest.raises(GradientError, match=r"parameter (weight|bias) became non-finite after st"):
        fit(model, (x, 3 * x[:, 0]), epochs=99, batch=16, progress=False,
            optimizer=cr.optim.SGD(model, lr=3e38))  # fmt: skip
