"""Checkpoints of `fit`: a training that is taken up again ends as an unbroken one, bit for bit."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule.data import arrays, augment
from chainrule.errors import DataError, GradientError, RunError
from chainrule.train import Checkpoint, compiling, fit, load_checkpoint, loop, mlp
from chainrule.train.checkpoint import State


class Killed(BaseException):
    """The end of a process: nothing after it runs."""


def clouds(n, seed=0):
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    return arrays(labels[:, None] + random.standard_normal((n, 4)), labels, name="clouds")


class Noisy(cr.nn.Module):
    """Layers with state of their own: running statistics, and a counter of random numbers."""

    def __init__(self):
        self.first, self.norm = cr.nn.Linear(4, 6), cr.nn.BatchNorm(6)
        self.drop, self.last = cr.nn.Dropout(0.3), cr.nn.Linear(6, 3)

    def forward(self, x, training=False):
        h = cr.nn.relu(self.norm(self.first(x), training=training))
        return self.last(self.drop(h, training=training))


def train(last=None, resume=None, *, held_out=True, plateau=False, build=Noisy, **options):
    """(weights, rows, checkpoints) of a training that is killed at its checkpoint number `last`."""
    kept = []

    def keep(checkpoint):
        kept.append(checkpoint)
        if len(kept) == last:
            raise Killed

    model = build()
    optimizer = cr.optim.Adam(model, lr=0.02)
    schedule = cr.optim.Plateau(0.5, patience=0) if plateau else cr.optim.cosine()
    try:
        history = fit(
            model, clouds(50), clouds(20, 1) if held_out else None, optimizer=optimizer, epochs=3,
            batch=8, schedule=schedule, progress=False, checkpoint=keep, resume=resume, **options,
        )  # fmt: skip
    except Killed:
        return None, None, kept
    rows = [dataclasses.replace(row, seconds=0.0) for row in history.epochs]
    return {k: v.tobytes() for k, v in model.state().items()}, rows, kept


OPTIONS = st.fixed_dictionaries(
    {
        "held_out": st.booleans(),
        "plateau": st.booleans(),
        "accumulate": st.sampled_from([1, 2, 3, 9]),
        "clip": st.sampled_from([None, 0.1]),
        "average": st.sampled_from([None, 0.5]),
        "ahead": st.sampled_from([0, 2]),
        "augment": st.sampled_from([None, augment.noise(0.1)]),
        "patience": st.just(None),
        "penalty": st.sampled_from([0.0, 0.01]),
        "seed": st.sampled_from([0, 7]),
    }
)


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """A checkpoint after each update."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)


def check_resumed(path, options, data):
    """Train unbroken, and killed twice on the way: the same bits."""
    whole, rows, kept = train(**options)
    checkpoint, left = None, len(kept)
    for _ in range(2):
        last = data.draw(st.integers(1, left))
        *_, kept = train(last, checkpoint, **options)
        kept[-1].save(path)
        checkpoint = load_checkpoint(path)
        left -= last - 1
    again, rows_again, _ = train(None, checkpoint, **options)
    assert again == whole
    assert list(map(repr, rows_again)) == list(map(repr, rows))  # NaN is equal to NaN as text


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "eager"])
def test_a_resumed_training_is_the_unbroken_one(tmp_path, monkeypatch, compiled):
    monkeypatch.setattr(compiling, "CALLS", 0)

    @settings(max_examples=6 if compiled else 25, deadline=None, database=None)
    @given(options=OPTIONS, data=st.data())
    def check(options, data):
        check_resumed(tmp_path / "checkpoint", options | {"compiled": compiled}, data)

    check()


def test_every_state_variable_is_in_the_checkpoint():
    *_, kept = train(average=0.9)
    names = set(kept[-1].arrays)
    model = set(Noisy().state())
    assert {f"model.{n}" for n in model} <= names and {f"best.{n}" for n in model} <= names
    assert any("drop" in n for n in model) and any("running_mean" in n for n in model)
    assert any(n.startswith("average.") for n in names)
    assert "optimizer.lr" in names


def test_a_finished_checkpoint_has_nothing_to_do():
    whole, rows, kept = train()
    assert kept[-1].state.stopped == "all epochs done"
    again, rows_again, more = train(None, kept[-1])
    assert (again, rows_again, len(more)) == (whole, rows, 2)


def test_accumulated_batches_are_one_large_batch():
    def end(batch, accumulate):
        model = mlp(4, [5], 3)
        optimizer = cr.optim.SGD(model, lr=0.1)
        fit(model, clouds(50), batch=batch, accumulate=accumulate, epochs=2, optimizer=optimizer,
            progress=False, penalty=0.01)  # fmt: skip
        return model.state()

    large, parts = end(20, 1), end(5, 4)
    for name in large:
        np.testing.assert_allclose(parts[name], large[name], rtol=2e-5, atol=1e-6)


def test_clipping_bounds_the_step():
    model = mlp(4, [], 3)
    before = model.state()
    fit(model, clouds(48), batch=48, epochs=1, clip=1e-3, progress=False,
        optimizer=cr.optim.SGD(model, lr=1.0))  # fmt: skip
    moved = sum(((v - before[name]) ** 2).sum() for name, v in model.state().items())
    assert np.sqrt(moved) == pytest.approx(1e-3, rel=1e-3)


def test_averaged_weights_are_what_is_left():
    kept = []
    model = mlp(4, [], 3)

    class Watch(cr.optim.SGD):
        def step(self):
            super().step()
            kept.append(model.state()["0.weight"])

    fit(model, clouds(40), batch=10, epochs=2, average=0.5, progress=False,
        optimizer=Watch(model, lr=0.1))  # fmt: skip
    factors = 0.5 ** np.arange(len(kept))[::-1]
    expected = np.tensordot(factors / factors.sum(), np.array(kept), 1)
    np.testing.assert_allclose(model[0].weight.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_a_plateau_lowers_the_rate():
    _, rows, _ = train(plateau=True, held_out=False, build=lambda: mlp(4, [], 3))
    assert rows[0].rate == 0.02
    model = mlp(4, [], 3)
    flat = fit(model, clouds(40), epochs=4, batch=40, progress=False,
               schedule=cr.optim.Plateau(0.5, patience=0),
               optimizer=cr.optim.SGD(model, lr=0.0))  # fmt: skip
    assert [r.rate for r in flat.epochs] == [0.0] * 4


def test_numbers_keep_each_bit(tmp_path):
    state = State(loss=0.1 + 0.2, score=1e-310, seconds=float("inf"), best_loss=float("nan"))
    arrays_ = {"a": np.array(1 / 3), "b": np.zeros((0, 2), np.uint32), "c": np.array([True])}
    Checkpoint(arrays_, {"rate": 1e-320}, state, "id").save(tmp_path / "c")
    found = load_checkpoint(tmp_path / "c")
    assert repr(found.state) == repr(state) and found.settings == {"rate": 1e-320}
    assert found.run == "id" and found.arrays.keys() == arrays_.keys()
    for name, value in arrays_.items():
        assert (found.arrays[name].shape, found.arrays[name].dtype) == (value.shape, value.dtype)
        assert found.arrays[name].tobytes() == value.tobytes()


FIFTY = clouds(50)
UNLIKE = [
    ({"epochs": 4}, "of a training with epochs 3, this one has 4"),
    ({"batch": 9}, "with batch 8, this one has 9"),
    ({"seed": 1}, "with seed 0, this one has 1"),
    ({"compiled": False}, "with compiled True, this one has False"),
    ({"clip": 1.0}, "with clip None, this one has 1.0"),
    ({"train": clouds(51)}, "with examples 50, this one has 51"),
    ({"train": clouds(50, 3)}, "with data '[0-9a-f]{64}', this one has"),
    ({"rate": 0.03}, "with rate 0.02, this one has 0.03"),
    ({"optimizer": cr.optim.SGD}, "with optimizer 'Adam', this one has 'SGD'"),
    ({"hidden": [7]}, "the checkpoint does not fit this training: .* shape"),
    ({"hidden": []}, "the checkpoint does not fit this training: .* missing|unknown"),
]


@pytest.mark.parametrize(("more", "words"), UNLIKE, ids=lambda x: str(x)[:30])
def test_another_training_is_refused_and_nothing_changes(more, words):
    def go(resume=None, train=FIFTY, rate=0.02, optimizer=cr.optim.Adam, hidden=(6,), **more):
        model, kept = mlp(4, hidden, 3, seed=2), []
        before = model.state()
        settings = {"epochs": 3, "batch": 8, "progress": False, "checkpoint": kept.append} | more
        try:
            fit(model, train, optimizer=optimizer(model, lr=rate), resume=resume, **settings)
        except RunError:
            assert all(np.array_equal(v, before[n]) for n, v in model.state().items())
            raise
        return kept[3]

    checkpoint = go()
    with pytest.raises(RunError, match=words):
        go(checkpoint, **more)


def test_a_parameter_that_is_not_finite_is_never_kept(tmp_path):
    model = mlp(4, [5], 3)

    class Breaks(cr.optim.SGD):
        def step(self):
            super().step()
            if len(steps) == 3:
                model[0].bias.assign(np.full(5, np.nan))

    steps = []

    def loss(outputs, targets):
        steps.append(1)
        return cr.nn.softmax_cross_entropy(outputs, targets)

    with pytest.raises(GradientError, match="parameter 0.bias became non-finite after step 3"):
        fit(model, clouds(50), loss=loss, batch=8, progress=False, checkpoint=tmp_path / "c",
            optimizer=Breaks(model, lr=0.1))  # fmt: skip
    kept = load_checkpoint(tmp_path / "c")
    assert kept.state.updates == 2
    assert all(np.isfinite(v).all() for v in kept.arrays.values())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"clip": 0.0}, "clip must be above 0 and finite, received 0.0"),
        ({"clip": float("inf")}, "clip must be above 0"),
        ({"accumulate": 0}, "accumulate must be at least 1, received 0"),
        ({"average": 1.0}, "decay must be 0 or more and below 1, received 1"),
    ],
)
def test_settings_that_cannot_be_used(options, words):
    with pytest.raises(DataError, match=words):
        fit(mlp(4, [], 3), clouds(9), progress=False, **options)


def test_a_checkpoint_has_the_same_bytes_each_time(tmp_path):
    *_, kept = train()
    assert kept[2].content() == kept[2].content()
