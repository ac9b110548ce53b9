"""Folders that hold a run already, trainings that are under way, models of all kinds."""

import os
import time

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import DataError, GradientError, RunError
from chainrule.train import Options, evaluate, fit, load_run, resume, tasks, train
from chainrule.train.sources import describe

QUICK = Options(hidden=(4,), epochs=2, batch=200)


def digits(**options):
    return train(describe("digits", 0), options.pop("given", QUICK), progress=False, **options)


def test_a_run_that_fails_at_its_first_step_leaves_the_earlier_one(tmp_path):
    digits(out=tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(GradientError, match="became"):
        digits(out=tmp_path, given=Options(rate=1e30, optimizer="sgd", penalty=1e30))
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    digits(out=tmp_path, given=Options(hidden=(5,), epochs=1, batch=200))
    assert load_run(tmp_path).description["hidden"] == [5]


def test_a_folder_in_which_another_process_trains_is_refused(tmp_path, monkeypatch):
    digits(out=tmp_path)
    run = load_run(tmp_path)
    run.result = {"state": "running", "process": {**tasks.process(), "pid": os.getppid()}}
    (tmp_path / "run.json").write_bytes(run.settings())
    for call in (lambda: digits(out=tmp_path), lambda: resume(tmp_path, progress=False)):
        with pytest.raises(RunError, match=r"a training \(process \d+ on .*\) is under way in"):
            call()
    # one of a process that is gone, or of this one, is no obstacle
    for pid in (os.getpid(), 2**22 + 1):
        run.result["process"]["pid"] = pid
        (tmp_path / "run.json").write_bytes(run.settings())
        digits(out=tmp_path)


def test_of_two_that_begin_at_once_one_has_the_folder(tmp_path):
    """The other's files come between the check and the first step of this one."""
    folder = tmp_path / "run"

    class Other:
        def start(self, *args):
            digits(out=folder)
            self.before = {p.name: p.read_bytes() for p in folder.iterdir()}

        def step(self, examples): ...
        def epoch(self, row, better): ...
        def stop(self): ...

    other = Other()
    with pytest.raises(RunError, match="another training has written into .* give each its own"):
        train(describe("digits", 1), Options(epochs=1, hidden=(3,)), out=folder, progress=other)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == other.before


@pytest.mark.parametrize(("age", "busy"), [(0, True), (tasks.SILENT + 60, False)])
def test_a_training_on_another_machine_is_one_that_writes(tmp_path, age, busy):
    digits(out=tmp_path)
    run = load_run(tmp_path)
    run.result = {"state": "running", "process": {"host": "another", "pid": os.getpid()}}
    (tmp_path / "run.json").write_bytes(run.settings())
    (tmp_path / "checkpoint.safetensors").write_bytes(b"")
    os.utime(tmp_path / "checkpoint.safetensors", (time.time() - age,) * 2)
    if busy:
        with pytest.raises(RunError, match=r"process \d+ on another\) is under way"):
            digits(out=tmp_path)
    else:
        digits(out=tmp_path)


def test_a_run_stopped_before_its_first_step_leaves_the_earlier_one(tmp_path):
    digits(out=tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    class Stopped:
        def start(self, *args):
            raise KeyboardInterrupt

        def stop(self): ...

    outcome = train(describe("digits", 1), QUICK, out=tmp_path, progress=Stopped())
    assert outcome.history.interrupted
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("state", ["interrupted", "failed"])
def test_a_run_that_lost_its_checkpoint_does_not_begin_anew(tmp_path, state):
    digits(out=tmp_path)
    run = load_run(tmp_path)
    run.result = {"state": state}
    (tmp_path / "run.json").write_bytes(run.settings())
    with pytest.raises(RunError, match=r"has no checkpoint\.safetensors, without which"):
        resume(tmp_path, progress=False)


class ByHand(cr.nn.Module):
    """Overrides __call__, and takes no training=."""

    def __init__(self):
        self.w = cr.Parameter(np.zeros((1, 1), np.float32))

    def __call__(self, x):
        return x @ self.w


class Forward(ByHand):
    """Has a forward that takes no training=."""

    __call__ = cr.nn.Module.__call__

    def forward(self, x):
        return x @ self.w


@pytest.mark.parametrize("kind", [ByHand, Forward])
@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: lambda x: m(x)])
def test_models_that_take_no_mode_are_trained_too(kind, wrap):
    model = kind()
    x = np.linspace(-1, 1, 16, dtype=np.float32).reshape(16, 1)
    fit(wrap(model), (x, 3 * x[:, 0]), epochs=100, batch=16, progress=False,
        optimizer=cr.optim.SGD(model, lr=0.5))  # fmt: skip
    assert abs(float(model.w.item()) - 3) < 0.01
    assert evaluate(wrap(model), (x, 3 * x[:, 0]))[0] < 1e-3


@pytest.mark.parametrize("name", ["validation", "penalty", "clip", "average", "checkpoint"])
def test_what_needs_a_module_says_so(name, tmp_path):
    model, x = ByHand(), np.ones((4, 1), np.float32)
    value = {"validation": (x, x[:, 0]), "checkpoint": tmp_path / "c"}.get(name, 0.5)
    with pytest.raises(DataError, match=f"{name}= needs the weights .* function is no Module"):
        fit(lambda x: model(x), (x, x[:, 0]), progress=False, optimizer=cr.optim.SGD(model, lr=0.1),
            **{name: value})  # fmt: skip


def test_models_that_take_the_mode_are_told():
    model, modes = ByHand(), []

    def told(x, training=False):
        modes.append(training)
        return model(x)

    x = np.ones((4, 1), np.float32)
    fit(
        told, (x, x[:, 0]), epochs=1, batch=4, progress=False, optimizer=cr.optim.SGD(model, lr=0.1)
    )
    assert modes == [True]


def test_the_optimizer_of_another_model_is_named():
    x = np.ones((4, 1), np.float32)
    other = cr.optim.Adam(cr.nn.Linear(1, 1))
    with pytest.raises(DataError, match=r"none of the model's parameters: make it of this model"):
        fit(cr.nn.Linear(1, 1), (x, x[:, 0]), epochs=1, progress=False, optimizer=other)


def test_several_numbers_are_predicted_at_once(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)).astype("f")
    path = tmp_path / "two.npz"
    np.savez(path, x=x, y=(x @ rng.normal(size=(3, 2))).astype("f"))
    options = Options(hidden=(), epochs=200, rate=0.05, batch=32)
    outcome = train(describe(str(path), 0), options, out=tmp_path / "run", progress=False)
    assert outcome.test_score > 0.99
    assert load_run(tmp_path / "run").description["outputs"] == 2


def test_pictures_are_not_moved_by_more_than_they_have():
    with pytest.raises(RunError, match="the pictures are only 8×8"):
        digits(given=Options(augment=("shift:8",), epochs=1))
    with pytest.raises(DataError, match="pictures are 3×3"):
        cr.data.augment.shift(3)(np.ones((1, 3, 3), np.float32), np.random.default_rng(0))


def test_data_that_moved_is_asked_for(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, x=np.ones((20, 2), "f"), y=np.arange(20) % 2)
    train(describe(str(path), 0), Options(epochs=1), out=tmp_path / "run", progress=False)
    run = load_run(tmp_path / "run")
    run.result = {"state": "interrupted"}
    (tmp_path / "run" / "run.json").write_bytes(run.settings())
    path.rename(tmp_path / "elsewhere.npz")
    with pytest.raises(DataError, match="if it has moved: chainrule train NEW/PLACE --resume"):
        resume(tmp_path / "run", progress=False)
