"""What optimizers share: parameters, groups, numbers, state, errors."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import DataError, DTypeError, GradientError, ShapeError
from chainrule.ops.tensor import Tensor

EVERY = [getattr(optim, n) for n in optim.rules.__all__]


def model():
    return nn.Sequential(nn.Linear(2, 3, seed=1), nn.tanh, nn.Linear(3, 1, seed=2))


def backward(m, seed=0):
    x = np.random.default_rng(seed).normal(size=(8, 2)).astype("f")
    m.zero_grad()
    nn.mean_squared_error(m(x), x[:, 0] * x[:, 1]).backward()


def values(m):
    return [p.numpy() for p in m.parameters()]


def test_parameters_in_every_form():
    first, *others = [model() for _ in range(5)]
    optimizers = [
        optim.SGD(first, lr=0.1),
        optim.SGD(others[0].parameters(), lr=0.1),
        optim.SGD(iter(others[1].parameters()), lr=0.1),
        optim.SGD([{"parameters": others[2]}], lr=0.1),
        optim.SGD(
            [{"parameters": others[3][0]}, {"parameters": others[3][2].parameters()}], lr=0.1
        ),
    ]
    for m, optimizer in zip((first, *others), optimizers, strict=True):
        backward(m)
        optimizer.step()
        assert list(map(id, m.parameters())) == list(map(id, optimizer.parameters))
        for a, b in zip(values(first), values(m), strict=True):
            assert np.array_equal(a, b)
    assert len(optim.SGD(first[0].bias, lr=0.1).parameters) == 1


def test_groups_have_numbers_of_their_own():
    w, b = cr.Parameter(np.array([1.0])), cr.Parameter(np.array([1.0]))
    optimizer = optim.SGD(
        [{"parameters": [w]}, {"parameters": [b], "lr": 0.5, "weight_decay": 0.0}],
        lr=0.25, weight_decay=1.0,
    )  # fmt: skip

    def step():
        w.grad = b.grad = np.array([0.5])
        optimizer.step()

    step()
    assert (w.item(), b.item()) == (1 - 0.25 * 1.5, 1 - 0.5 * 0.5)
    optimizer.lr = 0.0
    optimizer.groups[1].numbers["lr"].assign(1.0)
    step()
    assert (w.item(), b.item()) == (0.625, 0.25)


def test_no_decay_on_biases():
    m = model()
    groups = optim.groups(m, weight_decay=0.5)
    assert [(len(g["parameters"]), g["weight_decay"]) for g in groups] == [(2, 0.5), (2, 0.0)]
    assert [p.ndim for g in groups for p in g["parameters"]] == [2, 2, 1, 1]
    assert len(optim.groups(m, weight_decay=0.0)) == 1
    optim.AdamW(groups)


@pytest.mark.parametrize("make", EVERY)
def test_all_that_lasts_is_a_variable(make):
    optimizer = make(model(), lr=0.1)

    def leaves(x):
        if isinstance(x, dict):
            return [v for item in x.values() for v in leaves(item)]
        if isinstance(x, (list, tuple)):
            return [v for item in x for v in leaves(item)]
        if isinstance(x, optim.Group):
            return leaves(vars(x))
        return [x]

    kept = {k: v for k, v in vars(optimizer).items() if k != "_names"}
    assert all(v is None or (isinstance(v, Tensor) and v.is_variable) for v in leaves(kept))
    assert isinstance(optimizer.lr, Tensor)
    assert optimizer.lr.dtype == np.float64


def test_the_rate_is_a_variable_that_can_be_set():
    w = cr.Parameter(np.array([1.0]))
    optimizer = optim.SGD([w], lr=0.1)
    rate = optimizer.lr
    optimizer.lr = 0.5
    assert optimizer.lr is rate
    assert rate.item() == 0.5
    rate.assign(0.25)
    w.grad = np.array([1.0])
    optimizer.step()
    assert w.item() == 0.75
    own = cr.tensor(0.5)
    shared = optim.Adam([w], lr=own)
    assert shared.lr is own
    with pytest.raises(DataError, match=r"lr must be 0 or more and finite, received -1"):
        optimizer.lr = -1
    assert repr(optimizer) == "SGD(1 parameters, lr=0.25, weight_decay=0)"


def test_a_parameter_without_gradient_is_skipped():
    torch = pytest.importorskip("torch", reason="PyTorch is an optional peer")
    a, b = cr.Parameter(np.array([1.0])), cr.Parameter(np.array([1.0]))
    c, d = (torch.tensor([1.0], dtype=torch.float64, requires_grad=True) for _ in range(2))
    ours, theirs = optim.Adam([a, b], lr=0.1), torch.optim.Adam([c, d], lr=0.1)
    for t in range(5):
        a.grad, c.grad = np.array([1.0 + t]), torch.tensor([1.0 + t], dtype=torch.float64)
        b.grad, d.grad = (None, None) if t % 2 else (np.array([2.0]), torch.tensor([2.0]).double())
        ours.step()
        theirs.step()
        assert a.item() == pytest.approx(c.item(), rel=1e-14)
        assert b.item() == pytest.approx(d.item(), rel=1e-14)
    assert ours.state()["1.steps"] == 3


@pytest.mark.parametrize("make", EVERY)
def test_step_without_any_gradient(make):
    optimizer = make(model(), lr=0.1)
    with pytest.raises(GradientError, match=r"no parameter has a gradient; call loss.backward\(\)"):
        optimizer.step()


@pytest.mark.parametrize("make", EVERY)
def test_training_goes_on_from_a_state(make):
    m = model()
    optimizer = make(optim.groups(m, weight_decay=0.01), lr=0.01)
    for k in range(5):
        backward(m, k)
        optimizer.step()
    saved, weights = optimizer.state(), [v.copy() for v in values(m)]
    for k in range(5):
        backward(m, k)
        optimizer.step()
    expected = values(m)

    again = model()
    for p, w in zip(again.parameters(), weights, strict=True):
        p.assign(w)
    other = make(optim.groups(again, weight_decay=0.5), lr=0.5)
    other.load_state(saved)
    for k in range(5):
        backward(again, k)
        other.step()
    for a, b in zip(values(again), expected, strict=True):
        assert np.array_equal(a, b)
    assert other.state().keys() == saved.keys()
    assert "group 0.weight_decay" in saved


def test_names_of_the_state():
    assert list(optim.Adam(nn.Linear(1, 1)).state()) == [
        "lr", "beta1", "beta2", "eps", "weight_decay", "weight.mean", "weight.squares",
        "weight.steps", "bias.mean", "bias.squares", "bias.steps",
    ]  # fmt: skip
    unnamed = optim.Momentum([cr.Parameter([1.0]), cr.Parameter([1.0])])
    assert list(unnamed.state())[3:] == ["0.velocity", "1.velocity"]
    state = unnamed.state()
    state["0.velocity"][0] = 5
    assert unnamed.state()["0.velocity"][0] == 0


BAD_STATES = [
    (lambda s: {**s, "extra": 1}, DataError, r"missing \[\], unknown \['extra'\]"),
    (lambda s: {"lr": s["lr"]}, DataError, r"missing \['momentum', .*unknown \[\]"),
    (lambda s: {**s, "w.velocity": np.ones(3)}, ShapeError,
     r"the state w.velocity must have shape \(2,\), received \(3,\)"),
    (lambda s: {**s, "lr": "fast"}, DTypeError, r"the state lr must hold numbers"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "error", "message"), BAD_STATES)
def test_bad_states_change_nothing(change, error, message):
    optimizer = optim.Momentum([cr.Parameter([1.0, 2.0], "w")], lr=0.1)
    before = optimizer.state()
    with pytest.raises(error, match=message):
        optimizer.load_state(change({**before, "momentum": 0.5}))
    after = optimizer.state()
    assert all(np.array_equal(before[k], after[k]) for k in before)


P = cr.Parameter([1.0], "p")
BAD = [
    (lambda f: f([]), DataError, r"received no parameters"),
    (lambda f: f(nn.Sequential(nn.relu)), DataError, r"received no parameters"),
    (lambda f: f([P, cr.tensor([1.0])]), DTypeError, r"entry 1 is tensor.*make it with cr.Param"),
    (lambda f: f([np.ones(3)]), DTypeError, r"entry 0 is array"),
    (lambda f: f(cr.tensor(1.0)), DTypeError, r"takes Parameters; entry 0 is tensor"),
    (lambda f: f(3), DTypeError, r"a Module, a list of Parameters or a list of groups.*int"),
    (lambda f: f({"parameters": [P]}), DTypeError, r"received dict"),
    (lambda f: f([P, P]), DataError, r"received parameter 'p' of shape \(1,\) twice"),
    (lambda f: f([{"parameters": [P]}, {"parameters": [P]}]), DataError, r"twice"),
    (lambda f: f([P, {"parameters": [P]}]), DTypeError, r"Parameters or groups .*not both"),
    (lambda f: f([{"params": [P]}]), DataError, r'dict with "parameters" and any of lr, .*params'),
    (lambda f: f([{"parameters": [P], "rate": 1}]), DataError, r"the keys parameters, rate"),
    (lambda f: f([{"parameters": [P], "lr": -1}]), DataError, r"lr must be 0 or more"),
    (lambda f: f([P], lr=-0.1), DataError, r"lr must be 0 or more and finite, received -0.1"),
    (lambda f: f([P], lr=float("nan")), DataError, r"received nan"),
    (lambda f: f([P], lr=float("inf")), DataError, r"received inf"),
    (lambda f: f([P], lr="0.1"), DTypeError, r"lr must be a number, received '0.1'"),
    (lambda f: f([P], lr=[0.1, 0.2]), DTypeError, r"lr must be a number"),
    (lambda f: f([P], weight_decay=-1), DataError, r"weight_decay must be 0 or more"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), BAD)
@pytest.mark.parametrize("make", EVERY)
def test_bad_input(make, call, error, message):
    with pytest.raises(error, match=message):
        call(make)


@pytest.mark.parametrize(
    ("make", "numbers"),
    [(optim.Momentum, {"momentum": 1.0}), (optim.RMSProp, {"decay": 1.0}),
     (optim.Adam, {"beta1": 1.5}), (optim.AdamW, {"beta2": 1.0})],
)  # fmt: skip
def test_averages_forget(make, numbers):
    name, value = next(iter(numbers.items()))
    with pytest.raises(
        DataError, match=f"{name} must be 0 or more and below 1, received {value:g}"
    ):
        make([P], **numbers)


def test_an_optimizer_of_ones_own():
    class Sign(optim.Optimizer):
        """p ← p - η·sign g."""

        def __init__(self, parameters, lr=0.1):
            super().__init__(parameters, lr=lr)

        @staticmethod
        def rule(xp, p, g, lr):
            return (p - lr * xp.sign(g),)

    w = cr.Parameter(np.array([1.0, -1.0]))
    w.grad = np.array([5.0, -0.1])
    Sign([w], lr=0.5).step()
    assert w.tolist() == [0.5, -0.5]
