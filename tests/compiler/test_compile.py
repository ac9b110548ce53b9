"""What a compiled function gives, and what it leaves behind, is what the function itself does."""

import sys
import warnings

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import CompileError, DTypeError, GradientError, TraceError
from chainrule.ops.tensor import Parameter
from tests.compiler.steps import EXTRAS, F32, F64, MODELS, OPTIMIZERS, X, Y, batches, same, setup

pytestmark = pytest.mark.usefixtures("reference")

# -- training steps --------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_steps_leave_what_eager_steps_leave(model, optimizer):
    (eager, expected), (step, found) = setup(model, optimizer), setup(model, optimizer)
    compiled = cr.compile(step)
    for x, y in batches(3):
        assert float(eager(x, y)) == float(compiled(x, y))
        # Adam's corrections are Python's powers in eager, NumPy's when traced
        same(expected(), found(), 1e-6 if optimizer.startswith("adam") else 0.0)


@pytest.mark.parametrize("extra", EXTRAS)
def test_gradients_can_be_clipped(extra):
    (eager, expected), (step, found) = setup("mlp", "sgd", extra), setup("mlp", "sgd", extra)
    compiled = cr.compile(step)
    for x, y in batches(3):
        assert float(eager(x, y)) == float(compiled(x, y))
        same(expected(), found())


def test_the_rate_can_be_a_number_of_each_call_or_assigned_between():
    (eager, expected), (step, found) = setup("mlp", "sgd"), setup("mlp", "sgd")
    compiled = cr.compile(step)
    for (x, y), rate in zip(batches(4), (0.1, 0.05, 1e-3, 7.0), strict=True):
        eager(x, y, rate)
        compiled(x, y, rate)
        same(expected(), found())
    assert len(compiled._kept) == 1
    one, other = cr.Parameter([1.0, 2.0]), cr.Parameter([1.0, 2.0])
    first, second = cr.optim.SGD([one]), cr.optim.SGD([other])

    def move(w, optimizer):
        optimizer.zero_grad()
        (w * w).sum().backward()
        optimizer.step()

    quick = cr.compile(lambda: move(other, second))
    for rate in (0.1, 0.2, 0.3):
        first.lr = second.lr = rate
        move(one, first)
        quick()
        assert one.tolist() == other.tolist()


def test_native_steps_leave_what_eager_steps_leave(monkeypatch):
    from chainrule.compiler.executable import Executable

    monkeypatch.setattr(sys.modules["chainrule.compiler.compile"], "Executable", Executable)
    (eager, expected), (step, found) = setup("mlp", "adam"), setup("mlp", "adam")
    compiled = cr.compile(step)
    for x, y in batches(3):
        np.testing.assert_allclose(eager(x, y), compiled(x, y), 1e-5)
    same(expected(), found(), 1e-4)


# -- arguments and results -------------------------------------------------------------------------


def eager_and_compiled(f, *args, static=(), **kwargs):
    """Both results, as nested lists with dtypes."""

    def plain(tree):
        if isinstance(tree, dict):
            return {k: plain(v) for k, v in tree.items()}
        if isinstance(tree, (list, tuple)):
            return type(tree)(map(plain, tree))
        return (str(tree.dtype), tree.tolist()) if hasattr(tree, "dtype") else tree

    return plain(f(*args, **kwargs)), plain(cr.compile(f, static=static)(*args, **kwargs))


V32, V64 = cr.asarray([1.0, -2.0, 3.0]), cr.asarray([1.0, -2.0, 3.0], dtype=F64)
I64 = cr.asarray([1, 2, 3])
ARGUMENTS = {
    "array": (lambda x: x * 2, (X,)),
    "tensor": (lambda x: x * 2, (V64,)),
    "scalar": (lambda x: x * V32, (F64(0.1),)),
    "containers": (lambda t: {"s": t["a"][0] + t["b"], "t": (t["a"], [])},
                   ({"a": (V32, X[0, :3]), "b": V64},)),
    "none": (lambda x, mask: x if mask is None else x * mask, (V32, None)),
    "text": (lambda x, kind: x.sum() if kind == "sum" else x, (V32, "sum")),
    "flag": (lambda x, twice: x * 2 if twice else x, (V32, True)),
    "bools": (lambda x: cr.where(x, V32, 0.0), (np.array([True, False, True]),)),
    "strided": (lambda x: x + 1, (X[::2, 1:3],)),
    "transposed": (lambda x: x @ x.T, (X.T,)),
    "big-endian": (lambda x: x + 1, (X.astype(">f4"),)),
    "read-only": (lambda x: x + 1, (cr.tensor(X).numpy(),)),
    "empty": (lambda x: x.sum(), (X[:0],)),
    "several": (lambda *xs: xs[0] + xs[1], (V32, V64)),
    "nothing": (lambda: cr.ones((2,)), ()),
    "plain results": (lambda x: (x, 3, "text", None, [True]), (V32,)),
    "a function": (lambda f, x: f(x), (cr.exp, V32)),
}  # fmt: skip
NUMBERS = {
    "float beside float32": (lambda x, a: x * a, (V32, 0.1)),
    "float beside float64": (lambda x, a: x * a, (V64, 0.1)),
    "float beside int": (lambda x, a: x * a, (I64, 0.1)),
    "int beside float32": (lambda x, a: a - x, (V32, 3)),
    "int beside int32": (lambda x, a: x // a, (I64.astype(np.int32), 2)),
    "compared": (lambda x, a: x > a, (V32, 0.1)),
    "numbers compared": (lambda x, a: (a > 0.0, cr.where(a < 1, x, 0.0)), (V32, 0.1)),
    "conditions": (lambda x, a: cr.cond(((a > 0) & (a < 1)), cr.sin, cr.cos, x), (V32, 0.1)),
    "compared with int": (lambda x, a: x < a, (I64, 2.5)),
    "alone": (lambda a: cr.exp(a), (0.1,)),
    "int alone": (lambda a: cr.exp(a), (2,)),
    "arithmetic": (lambda x, a: x * (1 - a / 3) ** 2, (V32, 0.1)),
    "two": (lambda x, a, n: x * (a * n + n // 2 - n % 2), (V64, 0.1, 7)),
    "negated": (lambda x, a: x * -abs(a), (V64, -0.1)),
    "array first": (lambda a: X[0] * a, (0.1,)),
    "made into one": (lambda a: cr.asarray(a), (0.1,)),
    "of a dtype": (lambda a: cr.asarray(a, dtype=F64), (0.1,)),
    "stacked": (lambda a: cr.stack([cr.asarray(a), cr.asarray(a * 2)]), (0.1,)),
    "returned": (lambda a, n: (a * 2, n + 1), (0.1, 3)),
    "chosen": (lambda x, a: cr.where(x > 0, x, a), (V32, 0.1)),
    "differentiated": (cr.grad(lambda a: a * a * a), (0.1,)),
    "clipped": (lambda x, a: cr.clip(x, -a, a), (V32, 1.5)),
    "carried": (lambda x, a: cr.scan(lambda c, v: (c + v, c), a, x), (V32, 0.5)),
}


@pytest.mark.parametrize("name", [*ARGUMENTS, *NUMBERS])
def test_arguments_and_results_are_as_in_eager(name):
    f, args = {**ARGUMENTS, **NUMBERS}[name]
    eager, compiled = eager_and_compiled(f, *args)
    assert repr(eager) == repr(compiled)


def test_numbers_are_inputs_of_one_specialisation():
    f = cr.compile(lambda x, a: x * a)
    assert [f(V32, a).tolist()[0] for a in (1.0, 2.0, 0.5)] == [1.0, 2.0, 0.5]
    assert len(f._kept) == 1
    f(V32, 2)
    assert len(f._kept) == 2  # an int is another kind


def test_keywords_defaults_and_containers_in_any_order():
    f = cr.compile(lambda x, *, scale=2.0, flip=False: (-x if flip else x) * scale)
    assert f(V32).tolist() == (V32 * 2).tolist()
    for _ in range(2):
        assert f(V32, scale=3.0, flip=True).tolist() == (V32 * -3).tolist()
        assert f(V32, flip=True, scale=3.0).tolist() == (V32 * -3).tolist()
    g = cr.compile(lambda d: d["a"] - d["b"])
    for _ in range(2):
        assert float(g({"a": F32(3), "b": F32(1)})) == float(g({"b": F32(1), "a": F32(3)})) == 2


def test_static_arguments():
    f = cr.compile(lambda x, n: cr.broadcast_to(x, (n, 3)), static=("n",))
    for n in (2, 3, 3, 2):
        assert f(V32, n).shape == (n, 3) and f(V32, n=n).shape == (n, 3)
    for n in (2000, 3000, 2000):
        assert f(V32, n).shape == (n, 3)

    @cr.compile(static="shape")
    def g(x, shape):
        return x.reshape(shape)

    assert g(V32, (3, 1)).shape == (3, 1)
    with pytest.raises(DTypeError, match="static argument shape must be hashable"):
        g(V32, [3, 1])
    with pytest.raises(CompileError, match="received m"):
        cr.compile(lambda n: n, static=("m",))
    with pytest.raises(DTypeError, match=r"x\[0\] is a set"):
        cr.compile(lambda x: x)([{1}])
    with pytest.raises(DTypeError, match="takes a function"):
        cr.compile(3)


def test_arguments_are_read_at_each_call_and_results_are_new():
    x = np.ones(3, F32)
    f = cr.compile(lambda x: (x, x + 1))
    first, _ = f(x)
    x[:] = 5
    second, more = f(x)
    assert first.tolist() == [1, 1, 1] and second.tolist() == [5, 5, 5] and more.tolist()[0] == 6
    assert first.is_constant and not np.shares_memory(second.numpy(), x)


def test_what_can_be_compiled():
    model = MODELS["mlp"]()
    assert np.array_equal(cr.compile(model)(X), model(X))
    loss = lambda m, x: (m(x) ** 2).sum()  # noqa: E731
    eager, compiled = cr.grad(loss)(model, X), cr.compile(cr.grad(loss))(model, X)
    assert np.array_equal(eager[0].weight, compiled[0].weight)
    f = lambda x: cr.sin(x).sum()  # noqa: E731
    v = np.ones(3, F32)
    for transformed in (
        lambda x: cr.hvp(f)(x, v), lambda x: cr.jvp(cr.sin, (x,), (v,)),
        lambda x: cr.vjp(cr.sin, x)[1](v), lambda x: cr.vmap(f)(cr.stack([x, x])),
        lambda x: cr.scan(lambda c, y: (c * y, c + y), 1.0, x), cr.remat(cr.sin),
        lambda x: cr.cond(x[0] > 0, cr.sin, cr.cos, x),
        lambda x: cr.hessian(f)(x).todense() + 0.0,  # no -0.0
    ):  # fmt: skip
        eager, compiled = eager_and_compiled(lambda x, t=transformed: t(x), V32)
        assert repr(eager) == repr(compiled)

    class Owner:
        def __init__(self, scale):
            self.scale = scale

        @cr.compile
        def method(self, x):
            """Says what it does."""
            return x * self.scale

    one, two = Owner(2.0), Owner(3.0)
    assert one.method(V32).tolist()[0] == 2 and two.method(V32).tolist()[0] == 3
    assert Owner.method.__doc__ == "Says what it does." and Owner.method.__name__ == "method"
    assert one.method.graph.outputs


def test_copies_of_a_module_with_other_arrays():
    """The functional style: each step makes a new copy, and none makes new code."""
    model = MODELS["mlp"]()
    loss = lambda m, x: (m(x) ** 2).sum()  # noqa: E731

    def step(m, x):
        g = cr.grad(loss)(m, x)
        return type_map(lambda p, d: cr.asarray(p) - 0.1 * d, m, g)

    def type_map(f, *trees):
        import optree

        return optree.tree_map(f, *trees, namespace="chainrule")

    compiled = cr.compile(step)
    a = b = type_map(lambda p: cr.asarray(p.numpy()), model)
    for _ in range(4):
        a, b = step(a, X), compiled(b, X)
        assert np.array_equal(a[0].weight, b[0].weight)
    assert len(compiled._kept) == 1


# -- inside other transformations ------------------------------------------------------------------


def test_inside_a_trace_or_a_derivative_the_function_itself_runs():
    calls = []

    @cr.compile
    def f(x):
        calls.append(1)
        return (x * x).sum()

    assert cr.grad(f)(V32).tolist() == (2 * V32).tolist()
    assert cr.vmap(f)(X).shape == (16,)
    assert cr.compile(lambda x: f(x) + 1)(V32).item() == 15
    assert len(calls) == 3 and not f._kept
    f(V32)
    f(V32)
    assert len(calls) == 4


def test_a_gradient_that_reaches_a_result_is_an_error():
    w = cr.Parameter([1.0, 2.0])
    f = cr.compile(lambda x: w * x)
    with pytest.raises(GradientError, match="the result of a compiled function"):
        f(V32[:2]).sum().backward()
    with pytest.raises(GradientError, match="the result of a compiled function"):
        ((w * w).sum() + f(V32[:2]).sum()).backward()
    g = cr.compile(lambda x: x * 2)
    assert g(V32).is_constant
    for x in (cr.tensor([1.0]), cr.tensor([1.0]) * 2):
        assert not g(x).is_constant
        with pytest.raises(GradientError, match="the result of a compiled function"):
            g(x).sum().backward()
    with cr.no_grad():
        assert f(V32[:2]).is_constant
    step, _ = setup("mlp", "sgd")
    assert cr.compile(step)(X, Y).is_constant  # it has taken its gradients itself
    loss, right = cr.compile(lambda x: ((w * x).sum(), (w * x > 0).mean()))(V32[:2])
    assert right.is_constant and not loss.is_constant


def test_a_compiled_function_called_in_the_midst_of_another():
    double = cr.compile(lambda x: x * 2)

    class Calls(cr.Gate):
        def forward(self, x):
            return np.asarray(double(x))

        def backward(self, upstream):
            return 2 * upstream

    f = cr.compile(lambda x: Calls()(x) + 1)
    for _ in range(2):
        assert f(V32).tolist() == (V32 * 2 + 1).tolist()
    assert float(double(F32(2))) == 4


def test_a_traced_tensor_that_was_stored_is_refused():
    kept = []
    f = cr.compile(lambda x: kept.append(x * 2))
    assert f(V32) is None
    with pytest.raises(TraceError, match="that is over"):
        kept[0].numpy()
    with pytest.raises(TraceError, match="that is over"):
        cr.compile(lambda x: x)(kept[0])


class Counts(cr.Gate):
    """A gate that keeps something, of a class and on itself."""

    n = 0

    def forward(self, x):
        self.n += 1
        if not hasattr(self, "scale"):
            self.scale = x.max()
        return x * self.n / self.scale

    def backward(self, upstream):
        return [upstream * self.n / self.scale]


COUNTS = Counts()
GATES = {
    "each call": lambda x: Counts()(x),
    "each step": lambda x: cr.scan(lambda c, v: (c + Counts()(v + 1), c), 0.0, x)[0],
    "backward": cr.grad(lambda x: Counts()(x).sum()),
    "one object": lambda x: COUNTS(COUNTS(x)),
}


@pytest.mark.parametrize("name", GATES)
def test_what_a_gate_keeps_is_of_one_run(name):
    f = GATES[name]
    compiled = cr.compile(f)
    for scale in (1, 2, 4):
        x = cr.asarray([1.0, 2.0, 4.0]) * scale
        assert compiled(x).tolist() == f(x).tolist()


def test_a_gradient_has_the_dtype_of_its_tensor():
    def f():
        (w * 2).sum().backward()

    compiled = cr.compile(f)
    w = cr.Parameter(np.ones(4, F32))
    for dtype in (F64, F32, np.int32):
        w.grad = cr.asarray(np.ones(4, dtype))
        compiled()
        assert w.grad.dtype == F32 and w.grad.tolist() == [3, 3, 3, 3]

    @cr.compile
    def replaced(x):
        w.grad = x * 2
        return w.grad * 1

    assert replaced(np.ones(4)).dtype == F32


# -- specialisations -------------------------------------------------------------------------------


def test_at_most_eight_are_kept_and_the_least_used_goes():
    calls = []

    @cr.compile
    def f(batch, n=1):
        calls.append(batch["x"].shape)
        return batch["x"] * n

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for k in range(1, 9):
            f({"x": np.ones(k)})
        f({"x": np.ones(1)})
    with pytest.warns(RuntimeWarning, match=r"the shape of batch\['x'\] varies: now float64.9."):
        f({"x": np.ones(9)})
    assert len(f._kept) == 8 and len(calls) == 9
    f({"x": np.ones(1)})
    assert len(calls) == 9
    with pytest.warns(RuntimeWarning):
        f({"x": np.ones(2)})
    assert len(calls) == 10


@pytest.mark.parametrize(("vary", "what"), [
    (lambda k: (np.ones(3, (F32, F64)[k % 2]), k), "the value of n varies"),
    (lambda k: (np.ones(k + 1), 0), "the shape of x varies"),
    (lambda k: (Parameter([float(k)]), 0), "the value of x varies"),
])  # fmt: skip
def test_the_warning_names_the_argument(vary, what):
    f = cr.compile(lambda x, n: x * n, static=("n",))
    with pytest.warns(RuntimeWarning, match=what):
        for k in range(9):
            f(*vary(k))
        x, n = vary(3)
        assert f(x, n).tolist() == (cr.asarray(x) * n).tolist()


def test_what_was_made_can_be_looked_at():
    f = cr.compile(lambda x: x + 1)
    for name in ("graph", "kernels", "llvm", "assembly", "memory"):
        with pytest.raises(CompileError, match="has not been called yet"):
            getattr(f, name)
    f(V32)
    assert "add" in str(f.graph) and f.profile(V32) == "2 runs" and "1 spec" in repr(f)
    for name in ("kernels", "llvm", "assembly", "memory"):
        getattr(f, name)
    f.clear()
    assert not f._kept and f(V32).tolist() == (V32 + 1).tolist()
