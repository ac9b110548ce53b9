"""Schedules: from the share of the training that is done to a factor of the rate."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from chainrule import optim
from chainrule.errors import DataError, DTypeError, ShapeError
from chainrule.ops.tensor import Tensor

# schedule, its factors at 0, 1/4, 1/2, 3/4 and 1
TABLE = [
    (optim.constant(), [1, 1, 1, 1, 1]),
    (optim.linear(), [1, 0.75, 0.5, 0.25, 0]),
    (optim.linear(final=2.0), [1, 1.25, 1.5, 1.75, 2]),
    (optim.cosine(), [1, (2 + math.sqrt(2)) / 4, 0.5, (2 - math.sqrt(2)) / 4, 0]),
    (optim.cosine(final=0.5), [1, (6 + math.sqrt(2)) / 8, 0.75, (6 - math.sqrt(2)) / 8, 0.5]),
    (optim.step(), [1, 1, 0.1, 0.1**2, 0.1**2]),
    (optim.step(at=(0.75, 0.25), factor=0.5), [1, 0.5, 0.5, 0.25, 0.25]),
    (optim.step(at=()), [1, 1, 1, 1, 1]),
    (optim.warmup(0.5), [0, 0.5, 1, 1, 1]),
    (optim.warmup(0.5, then=optim.linear()), [0, 0.5, 1, 0.5, 0]),
    (optim.warmup(0.0, then=optim.cosine()), [1, (2 + math.sqrt(2)) / 4, 0.5,
                                              (2 - math.sqrt(2)) / 4, 0]),
    (optim.warmup(1.0, then=optim.linear()), [0, 0.25, 0.5, 0.75, 1]),
    (optim.warmup(0.25, then=optim.warmup(1 / 3, then=optim.linear())), [0, 0, 1, 0.5, 0]),
]  # fmt: skip


@pytest.mark.parametrize(("schedule", "factors"), TABLE, ids=range(len(TABLE)))
def test_factors_by_hand(schedule, factors):
    found = [schedule(k / 4) for k in range(5)]
    assert found == pytest.approx(factors, rel=1e-14, abs=1e-15)
    assert all(type(f) is float for f in found)


@given(done=st.floats(0, 1), share=st.floats(0, 1), final=st.floats(0, 2))
def test_every_share_gives_a_factor(done, share, final):
    """Between 1 and the final one, also where rounding lifts a share past its end."""
    for then in (optim.linear(final), optim.cosine(final), optim.constant()):
        low = min(1, final)
        assert low - 1e-12 <= then(done) <= max(1, final) + 1e-12
        assert 0 <= optim.warmup(share, then=then)(done) <= max(1, final) + 1e-12


def test_the_rates_of_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is an optional peer")
    from torch.optim import lr_scheduler

    steps = 20

    def rates(make):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        scheduler = make(optimizer)
        found = []
        for _ in range(steps):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return found

    for schedule, make in (
        (optim.cosine(), lambda o: lr_scheduler.CosineAnnealingLR(o, steps)),
        (optim.cosine(0.1), lambda o: lr_scheduler.CosineAnnealingLR(o, steps, eta_min=0.1)),
        (optim.linear(0.2), lambda o: lr_scheduler.LinearLR(o, 1.0, 0.2, steps)),
        (optim.step((0.5, 0.75), 0.3), lambda o: lr_scheduler.MultiStepLR(o, [10, 15], 0.3)),
        (optim.constant(), lambda o: lr_scheduler.ConstantLR(o, 1.0)),
    ):
        found = [schedule(k / steps) for k in range(steps)]
        assert found == pytest.approx(rates(make), rel=1e-10)


def test_plateau_by_hand():
    plateau = optim.Plateau(factor=0.5, patience=2, threshold=0.1)
    losses = [10, 9.5, 9.2, 8.9, 8.1, math.nan, math.inf, 8.0, 8.0, 7.2]
    # 9.5 and 9.2 are no gain on 10 (below 9 would be), 8.9 is; 8.1 is none on 8.9, …
    assert [plateau(x) for x in losses] == [1, 1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5]
    assert plateau.current == 0.5
    below = optim.Plateau(factor=0.1, patience=0, threshold=0.1)
    assert [below(x) for x in (-10, -10.5, -11.5)] == pytest.approx([1, 0.1, 0.1])
    assert optim.Plateau(patience=0)(math.nan) == 0.1
    assert optim.Plateau()(cr.tensor(2.0)) == 1


def test_plateau_of_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is an optional peer")
    losses = np.abs(np.random.default_rng(0).normal(size=100)) + np.linspace(2, 1, 100)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.7, patience=3, eps=0)
    ours = optim.Plateau(factor=0.7, patience=3)
    for loss in losses:
        theirs.step(loss)
        assert ours(loss) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
    assert ours.current < 0.1


def test_plateau_goes_on_from_its_state():
    losses = np.random.default_rng(1).normal(size=40) ** 2
    whole, first, second = (optim.Plateau(0.5, 2) for _ in range(3))
    expected = [whole(x) for x in losses]
    found = [first(x) for x in losses[:17]]
    second.load_state(first.state())
    assert found + [second(x) for x in losses[17:]] == expected
    assert list(first.state()) == ["current", "best", "waiting"]
    assert all(isinstance(v, Tensor) and v.is_variable for v in first._variables.values())


BAD = [
    (lambda: optim.cosine("0.1"), DTypeError, r"final must be a number"),
    (lambda: optim.linear(math.inf), DataError, r"final must be .*finite, received inf"),
    (lambda: optim.linear()(None), DTypeError, r"share that is done must be a number"),
    (lambda: optim.step(at=0.5), DTypeError, r"at must be a list of shares"),
    (lambda: optim.warmup(0.1, 3), DTypeError, r"then must be a schedule.*received 3"),
    (lambda: optim.Plateau(None), DTypeError, r"factor must be a number"),
    (lambda: optim.Plateau()("x"), DTypeError, r"the loss of an epoch must be a number"),
    (lambda: optim.cosine()(1.5), DataError, r"share .* that is done, 0 to 1 .*received 1.5"),
    (lambda: optim.linear()(-0.1), DataError, r"received -0.1"),
    (lambda: optim.step()(math.nan), DataError, r"received nan"),
    (lambda: optim.warmup(0.1)(20), DataError, r"step / steps.*received 20"),
    (lambda: optim.warmup(100), DataError, r"share must be from 0 to 1, received 100"),
    (lambda: optim.step(at=(0.5, 30)), DataError, r"each share in at must be from 0 to 1, .* 30"),
    (lambda: optim.step(factor=-1), DataError, r"factor must be 0 or more and finite, received -1"),
    (lambda: optim.linear(final=-0.5), DataError, r"final must be 0 or more"),
    (lambda: optim.cosine(final=math.nan), DataError, r"final must be .* received nan"),
    (lambda: optim.Plateau(factor=2), DataError, r"factor must be from 0 to 1, received 2"),
    (lambda: optim.Plateau(patience=-1), DataError, r"patience must be"),
    (lambda: optim.Plateau(threshold=5), DataError, r"threshold must be from 0 to 1, received 5"),
    (lambda: optim.Plateau().load_state({"best": 1.0}), DataError,
     r"no state of this Plateau: missing \['current', 'waiting'\], unknown \[\]"),
    (lambda: optim.Plateau().load_state([1.0]), DTypeError, r"a dict of arrays.*received list"),
    (lambda: optim.Plateau().load_state({"best": 1.0, "current": [1.0], "waiting": 0}),
     ShapeError, r"the state current must have shape \(\), received \(1,\)"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=range(len(BAD)))
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
