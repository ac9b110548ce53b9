"""Each optimizer against hand-written numbers, a NumPy loop, PyTorch, and its own trace."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import optim
from chainrule.ops.tracing import trace


def loop(step):
    """A NumPy loop of p, g → p with state, from step(t, p, g, state)."""

    def run(p, gradients):
        state = {}
        for t, g in enumerate(gradients, 1):
            p = step(t, p, g(p), state)
        return p

    return run


def sgd(t, p, g, s):
    return p - 0.1 * (g + 0.01 * p)


def momentum(t, p, g, s):
    s["v"] = 0.9 * s.get("v", 0) + g + 0.01 * p
    return p - 0.1 * s["v"]


def nesterov(t, p, g, s):
    g = g + 0.01 * p
    s["v"] = 0.9 * s.get("v", 0) + g
    return p - 0.1 * (g + 0.9 * s["v"])


def adagrad(t, p, g, s):
    g = g + 0.01 * p
    s["s"] = s.get("s", 0) + g**2
    return p - 0.1 * g / (np.sqrt(s["s"]) + 1e-10)


def rmsprop(t, p, g, s):
    g = g + 0.01 * p
    s["s"] = 0.99 * s.get("s", 0) + 0.01 * g**2
    return p - 0.1 * g / (np.sqrt(s["s"]) + 1e-8)


def adam(t, p, g, s, decay=0.01):
    g = g + decay * p
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["s"] = 0.999 * s.get("s", 0) + 0.001 * g**2
    corrected = s["m"] / (1 - 0.9**t), s["s"] / (1 - 0.999**t)
    return p - 0.1 * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)


def adamw(t, p, g, s):
    return adam(t, p * (1 - 0.1 * 0.01), g, s, decay=0)


# name: class, NumPy loop, PyTorch's name and arguments, parameter after 2 steps from 1 with g = 2p
# at lr 0.1 and no decay, in exact arithmetic where that is short
TABLE = {
    "SGD": (optim.SGD, sgd, "SGD", {}, 0.64),
    "Momentum": (optim.Momentum, momentum, "SGD", {"momentum": 0.9}, 0.46),
    "Nesterov": (optim.Nesterov, nesterov, "SGD", {"momentum": 0.9, "nesterov": True}, 0.2224),
    "AdaGrad": (optim.AdaGrad, adagrad, "Adagrad", {}, 0.9 - 0.18 / np.sqrt(7.24)),
    "RMSProp": (optim.RMSProp, rmsprop, "RMSprop", {}, None),
    "Adam": (optim.Adam, adam, "Adam", {}, None),
    "AdamW": (optim.AdamW, adamw, "AdamW", {}, None),
}
SHAPES = [(3, 4), (4,), ()]


def starts():
    rng = np.random.default_rng(0)
    return [rng.normal(size=s) for s in SHAPES]


def slopes(steps):
    """Gradients that depend on the parameter and the step: g(p) = a_t·p + b_t."""
    rng = np.random.default_rng(1)
    return [
        [(float(rng.uniform(0.5, 2)), rng.normal(size=s)) for s in SHAPES] for _ in range(steps)
    ]


def test_the_table_is_complete():
    assert set(TABLE) == set(optim.rules.__all__) <= set(optim.__all__)


@pytest.mark.parametrize("name", TABLE)
def test_numbers_by_hand(name):
    make, _, _, _, expected = TABLE[name]
    if expected is None:
        expected = {"RMSProp": rmsprop_by_hand(), "Adam": adam_by_hand(), "AdamW": adam_by_hand()}[
            name
        ]
    p = cr.Parameter(np.float64(1))
    optimizer = make([p], lr=0.1, weight_decay=0.0)
    for _ in range(2):
        optimizer.zero_grad()
        (p * p).backward()
        optimizer.step()
    assert p.item() == pytest.approx(expected, rel=1e-7, abs=1e-8)


def rmsprop_by_hand():
    """s = 0.04, p = 1 - 0.2/0.2 = 0; then g = 0 and nothing moves."""
    return 0.0


def adam_by_hand():
    """m̂/√ŝ = 1 at first, so p = 0.9; then g = 1.8, m = 0.36, s = 0.007236."""
    mean, square = 0.36 / 0.19, (0.999 * 0.004 + 0.001 * 3.24) / (1 - 0.999**2)
    return 0.9 - 0.1 * mean / np.sqrt(square)


def run(make, steps, dtype=np.float64, **options):
    parameters = [cr.Parameter(p.astype(dtype), f"p{k}") for k, p in enumerate(starts())]
    optimizer = make(parameters, lr=0.1, weight_decay=0.01, **options)
    for row in slopes(steps):
        for p, (a, b) in zip(parameters, row, strict=True):
            p.grad = (a * p.numpy() + b).astype(dtype)
        optimizer.step()
    return parameters


@pytest.mark.parametrize("name", TABLE)
def test_against_numpy(name):
    make, step, *_ = TABLE[name]
    rows = slopes(30)
    for k, p in enumerate(run(make, 30)):
        gradients = [lambda p, r=row[k]: r[0] * p + r[1] for row in rows]
        expected = loop(step)(starts()[k], gradients)
        assert np.allclose(p, expected, rtol=1e-12, atol=1e-13), p.name


@pytest.mark.parametrize("name", TABLE)
def test_against_pytorch(name):
    torch = pytest.importorskip("torch", reason="PyTorch is an optional peer")
    make, _, theirs, options, _ = TABLE[name]
    parameters = [torch.tensor(p, requires_grad=True) for p in starts()]
    optimizer = getattr(torch.optim, theirs)(parameters, lr=0.1, weight_decay=0.01, **options)
    for row in slopes(100):
        for p, (a, b) in zip(parameters, row, strict=True):
            p.grad = a * p.detach() + torch.tensor(b)
        optimizer.step()
    for ours, p in zip(run(make, 100), parameters, strict=True):
        assert np.allclose(ours, p.detach().numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", TABLE)
def test_float32_stays_float32(name):
    make = TABLE[name][0]
    for p, q in zip(run(make, 30, np.float32), run(make, 30), strict=True):
        assert p.dtype == np.float32
        assert np.allclose(p, q, rtol=1e-3, atol=1e-4)
    optimizer = make(run(make, 1, np.float32))
    assert all(s.dtype == np.float32 for g in optimizer.groups for ss in g.slots for s in ss)


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_traced_training_step_is_the_eager_one(name, dtype):
    """The graph of forward, backward and step assigns what the eager step assigns."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(5, 3)).astype(dtype), rng.normal(size=(5, 2)).astype(dtype)

    def make():
        model = cr.nn.Linear(3, 2, seed=1, dtype=dtype)
        return model, TABLE[name][0](model, lr=0.1, weight_decay=0.01)

    def train(model, optimizer):
        optimizer.zero_grad()
        loss = cr.nn.mean_squared_error(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    eager, optimizer = make()
    train(eager, optimizer)
    train(eager, optimizer)
    expected = {**optimizer.state(), **{n: p.numpy() for n, p in eager.named_parameters()}}

    model, optimizer = make()
    for _ in range(2):
        graph, _ = trace(lambda: train(model, optimizer), [])
        graph.verify()
        leaves = {leaf: handle.numpy() for handle, leaf in graph.captured}
        _, assigned = graph.run(leaves, lambda n, xs: n.primitive.forward(*xs, **(n.params or {})))
        for (variable, _), value in zip(graph.assignments, assigned, strict=True):
            variable.assign(value)
        optimizer.zero_grad()
    found = {**optimizer.state(), **{n: p.numpy() for n, p in model.named_parameters()}}
    tolerance = 1e-13 if dtype == "float64" else 2e-6
    for key, value in expected.items():
        assert np.allclose(found[key], value, rtol=tolerance, atol=tolerance / 10), key


@pytest.mark.parametrize("name", TABLE)
def test_graphs_recorded_before_a_step_stay_right(name):
    w = cr.Parameter(np.array([1.0, 2.0]))
    optimizer = TABLE[name][0]([w], lr=0.1)
    loss = (w * w).sum()
    loss.backward()
    view = w.numpy()
    optimizer.step()
    assert view.tolist() == [1, 2]
    w.zero_grad()
    loss.backward()
    assert w.grad.tolist() == [2, 4]
    assert w.is_variable
    assert w.node.data is w._value


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda w: optim.RMSProp(w, lr=0.01, decay=0.0), -0.02),
        (lambda w: optim.Adam(w, lr=0.01, beta1=0.0, beta2=0.0), -0.02),
    ],
)
def test_an_average_that_forgets_at_once(make, expected, compiled):
    """With a decay of 0 a step is ±lr, however much smaller a gradient is than the one before."""
    w = cr.Parameter(np.zeros(1, "f4"))
    optimizer = make([w])

    def step(slope):
        optimizer.zero_grad()
        (w * slope).sum().backward()
        optimizer.step()

    run = cr.compile(step) if compiled else step
    for slope in (1.0, 1e-4):
        run(slope)
    np.testing.assert_allclose(w.item(), expected, rtol=2e-4)


BAD_STATE = [{"lr": float("nan")}, {"lr": -1.0}, {"momentum": 1.0}, {"weight_decay": np.inf}]


@pytest.mark.parametrize("change", BAD_STATE, ids=str)
def test_a_state_has_numbers_that_the_constructor_takes(change):
    w = cr.Parameter([1.0], name="w")
    optimizer = optim.Momentum([w], lr=0.1)
    before = optimizer.state()
    with pytest.raises(cr.errors.DataError, match=next(iter(change))):
        optimizer.load_state({**before, **change})
    assert optimizer.state() == before


def test_numbers_of_groups_are_checked_in_a_state():
    w = cr.Parameter([1.0], name="w")
    optimizer = optim.SGD([{"parameters": [w], "lr": 0.5}], lr=0.1)
    state = optimizer.state()
    optimizer.load_state(state)
    with pytest.raises(cr.errors.DataError, match="lr must be 0 or more"):
        optimizer.load_state({**state, "group 0.lr": -0.5})


def test_what_is_no_list_of_parameters():
    w = cr.Parameter([1.0])
    (w * w).sum().backward()
    calls = [
        lambda: optim.groups([w], 0.1), lambda: optim.groups(cr.nn.Linear(1, 1), None),
        lambda: optim.SGD([{"parameters": None}]), lambda: optim.clip_by_norm(None, 1.0),
        lambda: optim.clip_by_norm([w], None),
        lambda: optim.Average(cr.nn.Linear(2, 2)).copy_to(None),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(cr.errors.DTypeError, match="received|found"):
            call()
