"""What is outside: variables, arrays and gradients, read at each call and never overwritten."""

import gc
import importlib
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule.compiler.executable import Executable
from chainrule.compiler.state import slot_of
from chainrule.errors import GradientError
from tests.compiler.steps import F32, MODELS, X, Y, counter, same, setup

pytestmark = pytest.mark.usefixtures("reference")
V32 = cr.asarray([1.0, -2.0, 3.0])

# -- variables and arrays --------------------------------------------------------------------------


def test_a_variable_is_written_in_place_while_nobody_holds_it():
    v, add = counter()
    add(F32(1))
    address = v._value.ctypes.data
    assert address % 64 == 0
    for k in range(2, 5):
        before, after = add(F32(1))
        assert (before.tolist()[0], after.tolist()[0], v.tolist()[0]) == (k - 1, k, k)
        assert v._value.ctypes.data == address


HOLDERS = {
    "view": lambda v: v.numpy(),
    "part": lambda v: v.numpy()[1:],
    "transposed": lambda v: v.numpy().reshape(2, 2).T,
    "dlpack": lambda v: np.from_dlpack(v),
    "memory": lambda v: memoryview(v.numpy()),
    "tensor": lambda v: v.detach(),
    "array": lambda v: np.asarray(v),
    "constant graph": lambda v: cr.tensor([1.0]) * v.detach(),
    "graph": lambda v: v * v,
    "another variable": lambda v: (lambda w: (w.assign(v.detach()), w)[1])(cr.tensor(np.zeros(4))),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_what_somebody_holds_is_never_overwritten(name):
    v, add = counter()
    add(F32(1))
    held = HOLDERS[name](v)
    before = np.array(held if not isinstance(held, cr.Tensor) else held.numpy())
    add(F32(1))
    add(F32(1))
    assert np.array_equal(before, held if not isinstance(held, cr.Tensor) else held.numpy())
    assert v.tolist() == [3, 3, 3, 3]
    del held
    add(F32(1))
    address = v._value.ctypes.data
    add(F32(1))
    assert v._value.ctypes.data == address and v.tolist()[0] == 5


def test_a_graph_recorded_before_a_step_differentiates_to_what_it_was():
    v, add = counter()
    add(F32(2))
    y = (v * v).sum()
    add(F32(1))
    y.backward()
    assert v.grad.tolist() == [4] * 4 and y.item() == 16  # those of the value it had
    w = cr.tensor([3.0, 3.0])
    f = cr.compile(lambda: w.assign(w + 1))
    f()
    h = w * w
    loss = h.sum()
    f()
    loss.backward()
    assert h.grad.tolist() == [1, 1] and h.tolist() == [16, 16]
    both = cr.grad(lambda u: (u * h).sum())(V32[:2])
    assert both.tolist() == [16, 16]


def test_assignments_and_states_between_calls_are_seen():
    v, add = counter()
    for value in ([1, 2, 3, 4], np.ones(4), cr.ones((4,)), cr.tensor(np.ones(4, F32)) * 7):
        v.assign(value)
        assert add(F32(1))[0].tolist() == cr.asarray(value, dtype=F32).tolist()
    step, state = setup("dropout", "momentum")
    compiled = cr.compile(step)
    compiled(X, Y)
    model, saved = step.__closure__, state()
    m = next(c.cell_contents for c in model if isinstance(c.cell_contents, cr.nn.Module))
    o = next(c.cell_contents for c in model if isinstance(c.cell_contents, cr.optim.Optimizer))
    weights, rest = m.state(), o.state()
    first = [float(compiled(X, Y)) for _ in range(2)]
    m.load_state(weights)
    o.load_state(rest)
    assert [float(compiled(X, Y)) for _ in range(2)] == first and saved


ACTIONS = st.lists(
    st.sampled_from(
        ["step", "other", "read", "view", "graph", "tensor", "assign", "eager", "drop"]
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(ACTIONS)
def test_any_order_of_calls_and_holders_is_as_on_paper(actions):
    run_actions(actions)


@settings(max_examples=50, deadline=None)
@given(ACTIONS)
def test_any_order_of_calls_and_holders_natively(actions):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            importlib.import_module("chainrule.compiler.compile"), "Executable", Executable
        )
        run_actions(actions)


def run_actions(actions):
    v, add = counter(shape=(2,))
    other = cr.compile(lambda: v.assign(v * 2))
    read = cr.compile(lambda: v + 0)
    value, held = 0.0, []
    for action in actions:
        if action == "step":
            assert add(F32(1))[0].tolist() == [value, value]
            value += 1
        elif action == "other":
            other()
            value *= 2
        elif action == "read":
            assert read().tolist() == [value, value]
        elif action == "assign":
            v.assign(np.full(2, value + 3))
            value += 3
        elif action == "eager":
            v.assign(v + 1)
            value += 1
        elif action == "drop":
            held.clear()
        else:
            holder = {"view": v.numpy, "tensor": v.detach, "graph": lambda: v * 1}[action]()
            held.append((holder, value))
        assert v.tolist() == [value, value]
        for holder, then in held:
            assert np.asarray(holder).tolist() == [then, then]
            if isinstance(holder, cr.Tensor) and not holder.is_constant:
                (leaf,) = (leaf for _, leaf in holder.graph.captured)
                assert leaf.data.tolist() == [then, then]


def test_two_functions_share_variables():
    m = MODELS["norm"]()
    o = cr.optim.SGD(m, lr=0.1)

    @cr.compile
    def train(x, y):
        o.zero_grad()
        loss = cr.nn.softmax_cross_entropy(m(x, training=True), y)
        loss.backward()
        o.step()
        return loss

    evaluate = cr.compile(lambda x: m(x))
    train(X, Y)
    addresses = set()
    for _ in range(3):
        train(X, Y)
        with cr.no_grad():
            assert np.array_equal(evaluate(X), m(X))
        addresses.add(m[0].weight._value.ctypes.data)
    assert len(addresses) == 1  # reading it does not make new memory necessary
    assert slot_of(m[0].weight) is slot_of(m[0].weight)


def test_variables_swapped_and_written_without_being_read():
    a, b = cr.tensor([1.0]), cr.tensor([2.0])

    @cr.compile
    def swap():
        old = a + 0
        a.assign(b)
        b.assign(old)

    for k in range(3):
        swap()
        assert (a.item(), b.item()) == ((2.0, 1.0) if k % 2 == 0 else (1.0, 2.0))
    put = cr.compile(lambda x: a.assign(x))
    for k in range(3):
        put(F32([k]))
        assert a.item() == k
    old = a.numpy()
    put(F32([9]))
    assert old[0] == 2 and a.item() == 9
    with pytest.raises(cr.errors.ShapeError):
        cr.compile(lambda: a.assign(np.zeros(2)))()


def test_arrays_from_outside_are_read_at_each_call():
    scale, one = np.ones(3, F32), np.array(1.0, F32)
    part, tensor = np.zeros((3, 3), F32), cr.asarray(np.zeros(3, F32))

    @cr.compile
    def f(x):
        return x * scale + part[1] + one + tensor

    assert f(V32).tolist() == [2, -1, 4]
    scale[:] = 2
    assert f(V32).tolist() == [3, -3, 7]
    part[1] = 10
    one[...] = 2
    assert f(V32).tolist() == [14, 8, 18]
    assert len(f._kept) == 1
    large = np.ones((3, 4), F32)[:, ::2]
    g = cr.compile(lambda c: cr.scan(lambda c, x: (c + (x * large).sum(), c), 0.0, c)[0])
    assert float(g(V32)) == 12
    large[:] = 2
    assert float(g(V32)) == 24


class Box:
    def __init__(self, array):
        self.array = array


OUTSIDE = {
    "array": lambda a: (a, lambda a: a),
    "part": lambda a: (a, lambda a: a[1:3]),
    "view": lambda a: (a[1:4][:2], lambda a: a),
    "attribute": lambda a: (Box(a), lambda box: box.array),
    "list": lambda a: ([a], lambda x: x[0]),
    "constant": lambda a: (cr.asarray(a), lambda t: t),
    "memory": lambda a: (memoryview(a), lambda m: np.frombuffer(m, F32)),
    "read-only": lambda a: (np.broadcast_to(a, (2, 4)), lambda a: a),
    "one entry": lambda a: (a[:1].reshape(()), lambda a: a),
}
WITHIN = {
    "straight": lambda g: g(),
    "scan": lambda g: cr.scan(lambda c, x: (c + (x * g()).sum(), None), 0.0, np.ones(2, F32))[0],
    "cond": lambda g: cr.cond(cr.asarray(F32(1)) > 0, g, lambda: cr.asarray(g()) * 1),
    "remat": lambda g: cr.remat(lambda x: x * g())(cr.ones(())),
    "grad": lambda g: cr.grad(lambda x: (x * g()).sum())(1.0),
    "vmap": lambda g: cr.vmap(lambda x: x * g())(cr.ones((2,))),
}


@pytest.mark.parametrize("within", WITHIN)
@pytest.mark.parametrize("name", OUTSIDE)
def test_who_holds_an_array_may_write_to_it(name, within):
    base = np.arange(4, dtype=F32)
    held, read = OUTSIDE[name](base)
    function = lambda x: x + WITHIN[within](lambda: read(held))  # noqa: E731
    compiled = cr.compile(function)
    for _ in range(2):
        np.testing.assert_array_equal(compiled(F32(1)), function(cr.asarray(F32(1))))
        base += 1
    assert len(compiled._kept) == 1


def test_constants_of_the_trace_stay_constants():
    f = cr.compile(lambda x: x * 2.0 + np.ones(3, F32))
    f(V32)
    assert not f.graph.captured


def test_a_variable_made_by_the_function_is_new_in_each_call():
    @cr.compile
    def descend(x):
        w = cr.tensor([1.0, 1.0, 1.0])
        for _ in range(2):
            ((w - x) ** 2).sum().backward()
            w.assign(w - 0.25 * w.grad)
        return w

    for _ in range(2):
        assert descend(V32).tolist() == [1.0, -1.25, 2.5]


# -- gradients -------------------------------------------------------------------------------------


def test_gradients_are_gone_after_the_call():
    w = cr.Parameter([1.0, 2.0])

    def step(x, reset):
        if reset:
            w.zero_grad()
        (w * x).sum().backward()
        return w.grad

    compiled = cr.compile(step)
    x = V32[:2]
    assert compiled(x, True).tolist() == x.tolist() and w.grad is None
    w.grad = [5.0, 5.0]
    assert compiled(x, True).tolist() == x.tolist() and w.grad is None
    assert compiled(x, False).tolist() == x.tolist() and w.grad is None


def test_a_gradient_that_was_there_is_added_to():
    eager, w = cr.Parameter([1.0, 2.0]), cr.Parameter([1.0, 2.0])

    def add(w, x):
        (w * w * x).sum().backward()

    compiled = cr.compile(lambda x: add(w, x))
    eager.grad, w.grad = [5.0, 6.0], [5.0, 6.0]
    for k in range(3):
        x = V32[:2] * k
        add(eager, x)
        compiled(x)
        assert w.grad.tolist() == eager.grad.tolist()
    use = cr.compile(lambda: w.assign(w - w.grad))
    gradient = w.grad
    use()
    assert w.grad is gradient and w.tolist() == [1 - gradient.tolist()[0], 2 - gradient.tolist()[1]]


def test_a_gradient_made_in_eager_is_used_by_a_compiled_update():
    w = cr.Parameter([1.0, 2.0])
    o = cr.optim.SGD([w], lr=0.5)
    update = cr.compile(o.step)
    for _ in range(3):
        o.zero_grad()
        before = w.numpy()
        (w * w).sum().backward()
        update()
        assert w.tolist() == [0, 0] or (w.numpy() == before * 0).all()


def test_an_epoch_is_one_call():
    def setup_epoch():
        m, rng = MODELS["dropout"](), np.random.default_rng(3)
        o = cr.optim.Momentum(m, lr=0.1)
        x, y = rng.normal(size=(32, 4)).astype(F32), rng.integers(0, 3, 32)

        def epoch(order):
            def step(total, rows):
                o.zero_grad()
                loss = cr.nn.softmax_cross_entropy(
                    m(cr.take(x, rows, axis=0), training=True), cr.take(y, rows, axis=0)
                )
                loss.backward()
                o.step()
                return total + loss.detach(), loss.detach()

            return cr.scan(step, 0.0, order)

        return epoch, lambda: {**m.state(), **o.state()}

    (eager, expected), (epoch, found) = setup_epoch(), setup_epoch()
    compiled = cr.compile(epoch)
    for seed in range(2):
        order = np.random.default_rng(seed).permutation(32).reshape(4, 8)
        one, other = eager(order), compiled(order)
        np.testing.assert_allclose(one[1], other[1], 1e-5)
        same(expected(), found(), 1e-5)


# -- memory, threads, exceptions -------------------------------------------------------------------


def test_steps_leave_nothing_behind():
    step, _ = setup("dropout", "adam")
    compiled = cr.compile(step)
    for _ in range(3):
        compiled(X, Y)
    gc.collect()
    before = len(gc.get_objects())
    blocks = sys.getallocatedblocks()
    for _ in range(1000):
        compiled(X, Y)
    gc.collect()
    assert len(gc.get_objects()) <= before + 10
    assert sys.getallocatedblocks() < blocks + 600  # others' caches come and go


def test_calls_from_several_threads_come_one_after_another():
    v, add = counter()
    shapes = [np.float32(1), np.ones(4, F32), np.ones((1,), F32)]

    def work():
        for k in range(60):
            add(shapes[k % 3])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert v.tolist() == [240] * 4


def test_without_recording_there_is_nothing_to_go_back_through():
    step, state = setup("mlp", "sgd")
    compiled, before = cr.compile(step), state()
    with cr.no_grad(), pytest.raises(GradientError, match="backward of a constant"):
        compiled(X, Y)
    same(before, state())
    compiled(X, Y)
    with cr.no_grad(), pytest.raises(GradientError, match="backward of a constant"):
        compiled(X, Y)
    w = cr.Parameter([1.0])
    with pytest.raises(GradientError, match="backward of a constant"):
        cr.compile(lambda: (w * w).detach().sum().backward())()


def test_what_is_detached_has_no_gradient():
    """As in eager, where it is not in the graph: an optimizer does not move it."""
    w, target = cr.Parameter([1.0]), cr.Parameter([3.0])
    o = cr.optim.SGD([w, target], lr=0.5, weight_decay=0.5)

    @cr.compile
    def step():
        o.zero_grad()
        (w * target.detach()).sum().backward()
        assert target.grad is None
        o.step()

    step()
    assert target.tolist() == [3.0] and w.tolist() == [1.0 - 0.5 * (3.0 + 0.5)]


def test_an_exception_while_tracing_changes_nothing():
    step, state = setup("dropout", "adam")
    before = state()

    def broken(x, y, fail):
        step(x, y)
        if fail:
            raise KeyError("mine")

    compiled = cr.compile(broken)
    with pytest.raises(KeyError, match="mine"):
        compiled(X, Y, True)
    same(before, state())
    assert not compiled._kept
    assert all(p.grad is None for p in step.__closure__ and _parameters_of(step))
    compiled(X, Y, False)


def _parameters_of(step):
    cells = [c.cell_contents for c in step.__closure__]
    return next(c for c in cells if isinstance(c, cr.nn.Module)).parameters()


@pytest.mark.parametrize("native", [False, True])
def test_an_exception_in_a_gate_changes_nothing(monkeypatch, native):
    if native:
        from chainrule.compiler.executable import Executable

        monkeypatch.setattr(sys.modules["chainrule.compiler.compile"], "Executable", Executable)

    class Fails(cr.Gate):
        def forward(self, x):
            if x.max() > 2:
                raise KeyError("mine")
            return x * 2

        def backward(self, upstream):
            return 2 * upstream

    first, last = cr.tensor([1.0, 1.0]), cr.tensor([1.0, 1.0])

    @cr.compile
    def step(x):
        first.assign(first + x)
        last.assign(Fails()(last * x))

    for x in (0.5, 1.0):
        step(np.float32(x))
    before = first.tolist(), last.tolist()
    assert before == ([2.5, 2.5], [2.0, 2.0])
    with pytest.raises(KeyError, match="mine"):
        step(np.float32(9))
    assert (first.tolist(), last.tolist()) == before
    step(np.float32(1))
    assert (first.tolist(), last.tolist()) == ([3.5, 3.5], [4.0, 4.0])


def test_an_exception_while_running_changes_nothing(monkeypatch):
    v, add = counter()
    add(F32(1))
    executable = add._kept[-1].executable

    def fail(*arrays, **version):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(executable, "run", fail)
        add(F32(1))
    assert v.tolist() == [1] * 4
    add(F32(1))
    assert v.tolist() == [2] * 4
