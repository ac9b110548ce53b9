"""Folders that hold a run already, trainings that are under way, models of all kinds."""

import os

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


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: lambda x: m(x)])
def test_models_that_take_no_mode_are_trained_too(wrap):
    model = ByHand()
    x = np.linspace(-1, 1, 16, dtype=np.float32).reshape(16, 1)
    parts = wrap(model)
    if parts is not model:
        assert np.isfinite(evaluate(parts, (x, 3 * x[:, 0]))[0])
        return
    fit(model, (x, 3 * x[:, 0]), epochs=100, batch=16, progress=False,
        optimizer=cr.optim.SGD(model, lr=0.5))  # fmt: skip
    assert abs(float(model.w.item()) - 3) < 0.01


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
