"""Compiled training beside eager: the same numbers, the same errors, and eager where it must be."""

import dataclasses
import math
import re
import warnings

import numpy as np
import pytest

import chainrule as cr
from chainrule.compiler import compile as front
from chainrule.data import Dataset, arrays, augment
from chainrule.errors import GradientError
from chainrule.train import compiling, evaluate, fit, mlp, training
from chainrule.train.compiling import equal_batches, worthwhile
from chainrule.train.models import build

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 50)
CLOUDS = arrays(LABELS[:, None] + RNG.normal(size=(50, 4)).astype("f"), LABELS, name="clouds")
TURNED = dataclasses.replace(CLOUDS, inputs=np.asfortranarray(CLOUDS.inputs))
NUMBERS = arrays(RNG.normal(size=(50, 4)).astype("f"), RNG.normal(size=50).astype("f"), name="x")
SEVERAL = arrays(RNG.normal(size=(50, 4)), RNG.normal(size=(50, 2)), name="several")
PICTURES = arrays(
    RNG.integers(0, 256, (50, 4, 4, 1)).astype(np.uint8), LABELS, name="pictures"
)  # fmt: skip
TOKENS = RNG.integers(0, 5, (50, 7))
TEXT = Dataset(TOKENS[:, :-1], TOKENS[:, 1:], "text", tuple("abcde"))


class Noisy(cr.nn.Module):
    """Layers with state of their own: running statistics, and a counter of random numbers."""

    def __init__(self):
        self.first, self.norm = cr.nn.Linear(4, 6, bias=False), cr.nn.BatchNorm(6)
        self.drop, self.last = cr.nn.Dropout(0.3), cr.nn.Linear(6, 3)

    def forward(self, x, training=False):
        h = cr.nn.relu(self.norm(self.first(x), training=training))
        return self.last(self.drop(h, training=training))


CNN = {"kind": "cnn", "image": [4, 4, 1], "channels": [3], "hidden": [5], "outputs": 3,
       "activation": "relu"}  # fmt: skip
LSTM = {"kind": "lstm", "outputs": 5, "embedding": 3, "hidden": 4, "layers": 1, "dropout": 0.2}
JOBS = {
    "linear": (lambda: mlp(4, [], 3), CLOUDS, {}),
    "mlp": (lambda: mlp(4, [6], 3), CLOUDS, {"penalty": 0.01, "clip": 0.1}),
    "one number": (lambda: mlp(4, [6], 1), NUMBERS, {"average": 0.5}),
    "several numbers": (lambda: mlp(4, [6], 2), SEVERAL, {"schedule": cr.optim.cosine}),
    "hinge": (lambda: mlp(4, [6], 3), CLOUDS, {"loss": cr.nn.hinge}),
    "state": (
        Noisy,
        CLOUDS,
        {"average": 0.9, "schedule": lambda: cr.optim.Plateau(0.5, patience=0)},
    ),
    "accumulated": (Noisy, CLOUDS, {"accumulate": 3, "clip": 0.1, "penalty": 0.01}),
    "all at once": (lambda: mlp(4, [6], 3), CLOUDS, {"accumulate": 99}),
    "pictures": (lambda: build(CNN, 0), PICTURES, {"ahead": 2}),
    "turned": (lambda: mlp(4, [6], 3), TURNED, {}),
    "augmented": (lambda: build(CNN, 0), PICTURES, {"augment": augment.noise(0.1), "ahead": 2}),
    "text": (lambda: build(LSTM, 0), TEXT, {"clip": 1.0}),
}


@pytest.fixture
def always(monkeypatch):
    """Everything is compiled that can be, and each is counted."""
    calls = []

    class Counted(front.Compiled):
        def __call__(self, *args, **kwargs):
            picked = args[2] if len(args) > 2 else None  # of all examples, in training
            calls.append(len(args[0] if picked is None else picked))
            return super().__call__(*args, **kwargs)

    monkeypatch.setattr(compiling, "CALLS", 0)
    monkeypatch.setattr(front, "Compiled", Counted)
    return calls


def trained(make, data, options, **more):
    model = make()
    settings = {"optimizer": cr.optim.Adam(model, lr=0.02), "epochs": 3, "batch": 8} | options
    if "schedule" in settings:
        settings["schedule"] = settings["schedule"]()
    history = fit(model, data, data, progress=False, **settings, **more)
    return history.epochs, model.state()


@pytest.mark.parametrize("name", JOBS)
def test_compiled_training_is_that_of_eager(always, name):
    eager, weights = trained(*JOBS[name], compiled=False)
    assert not always
    rows, found = trained(*JOBS[name])
    assert always.count(8) == 3 * 6 and always.count(2) == 3 and always.count(50) == 3
    for row, expected in zip(rows, eager, strict=True):
        a, b = (dataclasses.replace(r, seconds=0.0) for r in (row, expected))
        np.testing.assert_allclose(dataclasses.astuple(a), dataclasses.astuple(b), rtol=1e-4)
    for key, expected in weights.items():
        np.testing.assert_allclose(found[key], expected, rtol=1e-3, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("name", JOBS)
def test_measuring_compiled(always, name):
    make, data, _ = JOBS[name]
    model = make()
    expected = evaluate(model, data, batch=16, compiled=False)
    assert not always
    np.testing.assert_allclose(evaluate(model, data, batch=16), expected, rtol=1e-5)
    assert always == [13, 13, 13, 11]


# -- where it is worth it -----------------------------------------------------------------------

SMALL, LARGE = mlp(4, [], 3), mlp(1000, [1000], 10)
RULE = [
    (SMALL, (50, 8, 20), set()),  # 120 steps
    (SMALL, (50, 8, 200), {8}),  # 1,200; the last batch comes 200 times
    (SMALL, (50, 8, 2000), {8, 2}),
    (SMALL, (48, 8, 2000), {8}),
    (SMALL, (5, 8, 2000), {5}),
    (LARGE, (1000, 100, 1), set()),  # ten steps of 25 times the work
    (LARGE, (1000, 100, 10), {100}),
    (SMALL, (0, 8, 2000), set()),
    (SMALL, (50, 8, 0), set()),
    (lambda x: x, (10**6, 8, 100), set()),
]


@pytest.mark.parametrize(("model", "sizes", "expected"), RULE)
def test_what_is_worth_compiling(model, sizes, expected):
    assert worthwhile(model, *sizes) == expected


def test_an_optimizer_of_ones_own_is_not_compiled(always):
    model = mlp(4, [], 3)

    class Own:
        lr = 0.1

        def zero_grad(self):
            model.zero_grad()

        def step(self):
            for p in model.parameters():
                p.assign(p.numpy() - self.lr * p.grad.numpy())

    history = fit(model, CLOUDS, optimizer=Own(), epochs=3, accumulate=2, progress=False)
    assert history.epochs[-1].loss < history.epochs[0].loss and not always


# -- what cannot be compiled ---------------------------------------------------------------------


class Branches(cr.nn.Module):
    def __init__(self):
        self.inner = cr.nn.Linear(4, 3)

    def forward(self, x):
        y = self.inner(x)
        return y if y.sum() > 0 else -y  # a branch


class Leaves(Branches):
    def forward(self, x):
        return self.inner(np.asarray(self.inner(x).detach())[:, :1] * np.ones((1, 4), "f"))


@pytest.mark.parametrize("build", [Branches, Leaves])
def test_what_cannot_be_traced_runs_in_eager(always, build):
    with pytest.warns(RuntimeWarning) as caught:
        rows, weights = trained(build, CLOUDS, {})
    said = {str(w.message) for w in caught}
    assert len({(w.filename, w.lineno) for w in caught}) == len(said) == 1
    (said,) = said
    assert said.startswith("what follows runs in eager, which is slower, as it cannot be compiled")
    assert re.search(r"test_compiling\.py:\d+", said) and said.endswith("does so from the start")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        eager, expected = trained(build, CLOUDS, {}, compiled=False)
    assert [r.loss for r in rows] == [r.loss for r in eager]
    assert all(np.array_equal(weights[k], v) for k, v in expected.items())


def test_a_number_that_changes_while_training_goes_on_counts(always):
    def run(compiled):
        factor = 1.0

        def loss(outputs, targets):
            return factor * cr.nn.softmax_cross_entropy(outputs, targets)

        def change(row, better):
            nonlocal factor
            factor = 0.0

        model = mlp(4, [], 3)
        return fit(model, CLOUDS, loss=loss, epochs=2, batch=50, progress=False, compiled=compiled,
                   after_epoch=change, optimizer=cr.optim.SGD(model, lr=0.1)).epochs  # fmt: skip

    with pytest.warns(RuntimeWarning, match="'factor', which .*loss reads, was replaced"):
        rows = run(True)
    assert [r.loss > 0 for r in rows] == [True, False] == [r.loss > 0 for r in run(False)]


# -- a loss that is not finite -------------------------------------------------------------------


class Log(cr.nn.Module):
    """Negative, and the log of it NaN, once the weights have moved far enough."""

    def __init__(self):
        self.norm, self.inner = cr.nn.BatchNorm(4), cr.nn.Linear(4, 3, seed=1)
        self.drop = cr.nn.Dropout(0.1)
        self.inner.bias.assign(np.full(3, 4.0))

    def forward(self, x, training=False):
        h = self.drop(self.norm(x, training=training), training=training)
        return cr.log(self.inner(h))  # of what is below 0


def huge(outputs, targets):
    return (outputs * outputs * 1e38).sum()


FAILS = {
    "gate": (Log, {"lr": 0.1}, {}),
    "gate in a part": (Log, {"lr": 0.2}, {"accumulate": 3}),
    "without validation": (Log, {"lr": 0.1}, {"alone": True}),
    "parameter": (lambda: mlp(4, [], 3), {"lr": 3e38}, {}),
    "loss": (lambda: mlp(4, [], 3), {"lr": 1e-10}, {"loss": huge}),
}


@pytest.mark.parametrize("seconds", [0.0, 5.0])
@pytest.mark.parametrize("name", FAILS)
def test_the_error_names_the_same_gate(always, monkeypatch, name, seconds):
    monkeypatch.setattr(training, "POINT_SECONDS", seconds)

    def run(compiled):
        make, numbers, options = FAILS[name]
        more = dict(options)
        model = make()
        validation = None if more.pop("alone", False) else CLOUDS
        with np.errstate(all="ignore"), pytest.raises(GradientError) as caught:
            fit(model, CLOUDS, validation, epochs=60, batch=8, progress=False, compiled=compiled,
                optimizer=cr.optim.SGD(model, **numbers), **more)  # fmt: skip
        return str(caught.value), model.state()

    (said, left), (expected, weights) = run(True), run(False)
    shorter = re.compile(r"computed from .*?;|-?[\d.]+e[+-]?\d+")  # in the last digits
    assert shorter.sub("", said) == shorter.sub("", expected)
    assert "became" in said and len(always) > 0
    for key, value in weights.items():
        np.testing.assert_allclose(left[key], value, rtol=1e-3, atol=1e-4, err_msg=key)


def test_a_loss_that_only_compiled_code_finds_not_finite(always, monkeypatch):
    model = mlp(4, [], 3)

    def overflow(self, *args, real=front.Compiled.__call__):
        _, *rest = real(self, *args)
        return math.inf, *rest

    monkeypatch.setattr(front.Compiled, "__call__", overflow)
    words = "loss became inf in epoch 1, step 1 in compiled code, not in eager; try a smaller rate"
    with pytest.raises(GradientError, match=words):
        fit(model, CLOUDS, batch=50, progress=False)


def test_mapped_files_are_measured_as_arrays(always, tmp_path):
    """A memory map is of another class: it must not take the slow path of every call."""
    np.save(tmp_path / "x.npy", PICTURES.inputs)
    mapped = dataclasses.replace(PICTURES, inputs=np.load(tmp_path / "x.npy", mmap_mode="r"))
    assert type(mapped.inputs) is np.memmap
    model = build(CNN, 0)
    expected = evaluate(model, PICTURES, batch=16)
    assert evaluate(model, mapped, batch=16) == expected
    assert always == [13, 13, 13, 11] * 2


@pytest.mark.parametrize(
    ("examples", "most", "size"),
    [(5000, 256, 250), (10_000, 256, 250), (256, 256, 256), (257, 256, 129), (3, 256, 3),
     (0, 256, 1), (7, 1, 1)],
)  # fmt: skip
def test_batches_for_measuring_are_as_equal_as_can_be(examples, most, size):
    assert equal_batches(examples, most) == size
