"""Whole jobs: what is kept when they are stopped, predictions, options that cannot be used."""

import json
import os
import shutil
import signal
import threading

import numpy as np
import pytest

import chainrule as cr
from chainrule.data import digits, split_dataset
from chainrule.errors import DataError, GradientError, RunError
from chainrule.train import (
    Options,
    fit,
    load_checkpoint,
    load_run,
    loop,
    mlp,
    predict_csv,
    resume,
    train_csv,
    train_digits,
)
from chainrule.train.models import build, describe_mlp
from chainrule.train.report import report
from chainrule.train.run import Run
from chainrule.train.sealed import seal, unseal
from tests.train.tables import QUICK, table


@pytest.fixture(scope="module")
def digits_run():
    return train_digits(QUICK, progress=False)


# -- a run that is stopped ----------------------------------------------------------------------


class Stop:
    """Progress that raises an error when so many updates are done."""

    def __init__(self, updates, error):
        self.left, self.error = updates, error

    def start(self, epochs, examples, done): ...
    def epoch(self, row, better): ...
    def stop(self): ...

    def step(self, examples):
        self.left -= 1
        if not self.left:
            raise self.error


SMALL = Options(hidden=(8,), epochs=3, batch=200)  # six updates an epoch


def test_a_job_that_dies_leaves_its_best_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(SystemExit):
        train_digits(SMALL, out=tmp_path / "run", progress=Stop(9, SystemExit))
    names = {p.name for p in (tmp_path / "run").iterdir()}
    files = {"run.json", "checkpoint.safetensors", "metrics.csv", "gradients.csv"}
    assert names == files | {"diagnosis.json"}
    run = load_run(tmp_path / "run")
    assert run.result["state"] == "running" and run.result["process"]["pid"] == os.getpid()
    best = fit_digits(1)
    assert all(np.array_equal(v, best[name]) for name, v in run.model.state().items())


def fit_digits(epochs):
    """The weights after so many of the three epochs."""
    kept = []
    train, validation, _ = split_dataset(digits(), seed=0)
    model = mlp(64, [8], 10)
    fit(
        model, train, validation, epochs=3, batch=200, progress=False, schedule=cr.optim.cosine(),
        optimizer=cr.optim.Adam(model, lr=2e-3),
        after_epoch=lambda row, better: kept.append(model.state()),
    )  # fmt: skip
    return kept[epochs - 1]


@pytest.mark.parametrize("updates", [1, 4, 6, 7, 17])
def test_an_interrupted_job_is_not_tested_and_goes_on(tmp_path, updates):
    whole = train_digits(SMALL, out=tmp_path / "whole", progress=False)
    signal_at = Stop(updates, None)
    signal_at.step = lambda examples: count_and_raise(signal_at)
    outcome = train_digits(SMALL, out=tmp_path / "run", progress=signal_at)
    assert outcome.history.interrupted and len(outcome.history) == (updates - 1) // 6
    assert np.isnan(outcome.test_score)
    run = load_run(tmp_path / "run")
    assert run.result["state"] == "interrupted" and "test_score" not in run.result
    resumed = resume(tmp_path / "run", progress=False)
    assert resumed.test_score == whole.test_score and not resumed.history.interrupted
    assert same_files(tmp_path / "whole", tmp_path / "run")
    assert resume(tmp_path / "run", progress=False) is None


def count_and_raise(stop):
    stop.left -= 1
    if not stop.left:
        signal.raise_signal(signal.SIGINT)


def same_files(one, other):
    """Whether two runs are the same but for the seconds."""
    assert {p.name for p in one.iterdir()} == {p.name for p in other.iterdir()}
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    assert without_seconds(one / "metrics.csv") == without_seconds(other / "metrics.csv")
    first, second = (json.loads((p / "run.json").read_text()) for p in (one, other))
    for content in (first, second):
        del content["result"]["seconds"]
    return first == second


def without_seconds(path):
    return [line.rsplit(",", 1)[0] for line in path.read_text().splitlines()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_wait_for_the_step_and_a_second_one_does_not(tmp_path, number):
    steps = []

    def loss(outputs, targets):
        steps.append(1)
        if len(steps) == 3:
            signal.raise_signal(number)
        if len(steps) == 8 and again:
            signal.raise_signal(number)
            signal.raise_signal(number)
        return cr.nn.softmax_cross_entropy(outputs, targets)

    before = signal.getsignal(number)
    again = False
    data, model = digits(), mlp(64, [4], 10)
    history = fit(model, data, loss=loss, batch=300, progress=False, checkpoint=tmp_path / "c")
    assert history.interrupted and len(steps) == 3 and signal.getsignal(number) is before
    checkpoint = load_checkpoint(tmp_path / "c")
    assert (checkpoint.state.updates, checkpoint.state.stopped) == (3, "")
    again = True
    history = fit(
        model, data, loss=loss, batch=300, progress=False, checkpoint=tmp_path / "c",
        resume=checkpoint,
    )  # fmt: skip
    assert history.interrupted and len(steps) == 8 and signal.getsignal(number) is before
    assert load_checkpoint(tmp_path / "c").state.updates == 3  # what was good is still there


def test_a_handler_of_the_callers_own_is_left_alone():
    called = []
    before = signal.signal(signal.SIGTERM, lambda *_: called.append(1))
    try:
        stop = Stop(2, None)
        stop.step = lambda examples: called or signal.raise_signal(signal.SIGTERM)
        history = train_digits(SMALL, progress=stop).history
    finally:
        signal.signal(signal.SIGTERM, before)
    assert called == [1] and not history.interrupted


def test_training_in_a_thread_leaves_signals_alone():
    found = []

    def work():
        found.append(train_digits(Options(hidden=(2,), epochs=1), progress=False))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found[0].history.stopped == "all epochs done"


def test_a_job_that_diverges_keeps_its_last_good_checkpoint(tmp_path):
    wild = Options(hidden=(8,), epochs=3, rate=1e38, optimizer="sgd", schedule="constant")
    with pytest.raises(GradientError, match="the loss became"):
        train_digits(wild, out=tmp_path / "run", progress=False)
    run = load_run(tmp_path / "run")
    assert run.result["state"] == "failed" and "try a smaller rate" in run.result["stopped"]
    assert all(np.isfinite(v).all() for v in run.model.state().values())


RESUMES = {
    "another model": ({"given": {"model": "linear"}}, "the run has model 'mlp', and 'linear' was"),
    "other layers": ({"given": {"hidden": (9,)}}, r"the run has hidden \[8\], and \[9\] was given"),
    "another rate": ({"given": {"rate": 1.0}}, "the run has rate 0.002, and 1.0 was given: leave"),
    "another seed": ({"given": {"seed": 1}}, "the run has seed 0, and 1 was given"),
    "other data": ({"source": {"kind": "mnist"}}, "the run has kind 'digits', and 'mnist' was"),
    "a file": ({"source": {"path": "x.csv"}}, "the run has path None, and 'x.csv' was given"),
}


@pytest.fixture(scope="module")
def halted(tmp_path_factory):
    """A run that was stopped in its first epoch."""
    folder = tmp_path_factory.mktemp("halted") / "run"
    stop = Stop(4, None)
    stop.step = lambda examples: count_and_raise(stop)
    train_digits(SMALL, out=folder, progress=stop)
    return folder


@pytest.fixture
def stopped(halted, tmp_path):
    return shutil.copytree(halted, tmp_path / "stopped")


@pytest.mark.parametrize(("more", "words"), RESUMES.values(), ids=RESUMES)
def test_what_cannot_be_resumed(stopped, more, words):
    with pytest.raises(RunError, match=words):
        resume(stopped, progress=False, **more)
    resume(stopped, given={"model": "mlp", "hidden": (8,)}, source={"kind": "digits"},
           progress=False)  # fmt: skip


def rewritten(change):
    def damage(folder):
        content = json.loads((folder / "run.json").read_text())
        change(content)
        (folder / "run.json").write_text(json.dumps(content))

    return damage


def checkpoint_with(change):
    def damage(folder):
        file = folder / "checkpoint.safetensors"
        arrays, about = unseal(file, 0, 10**9)
        change(arrays, about)
        file.write_bytes(seal(arrays, about))

    return damage


def bytes_as(change):
    def damage(folder):
        file = folder / "checkpoint.safetensors"
        file.write_bytes(change(file.read_bytes()))

    return damage


def flipped(content):
    half = len(content) // 2
    return content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]


BROKEN = {
    "one bit": (bytes_as(flipped), "checksum is not that of what it holds"),
    "half": (bytes_as(lambda b: b[: len(b) // 2]), "damaged"),
    "empty": (bytes_as(lambda b: b""), "has 0 bytes, expected 2,440 to"),
    "a pickle": (bytes_as(lambda b: b"\x80\x04cos\nsystem\n." * 900), "damaged"),
    "too large": (  # sparse: no such disk is needed
        lambda f: os.truncate(f / "checkpoint.safetensors", 10**12),
        "has 1,000,000,000,000 bytes, expected 2,440 to 26",
    ),
    "the weights": (
        lambda f: (f / "checkpoint.safetensors").write_bytes(load_run(f).weights()),
        "is no checkpoint: it holds 'weights'",
    ),
    "newer": (
        checkpoint_with(lambda arrays, about: about.update(format=7)),
        "has format 7, this version reads up to 2: update chainrule",
    ),
    "of another run": (
        checkpoint_with(lambda arrays, about: about.update(run="")), "is of another run than run.j",
    ),
    "no settings": (
        checkpoint_with(lambda arrays, about: about.pop("settings")), "it has no settings",
    ),
    "other settings": (
        checkpoint_with(lambda arrays, about: about["settings"].update(batch=7)),
        "is of a training with batch 7, this one has 200",
    ),
    "no state": (checkpoint_with(lambda arrays, about: about.pop("state")), "not that of a train"),
    "a negative step": (
        checkpoint_with(lambda arrays, about: about["state"].update(batches=-1)), "not that of a t",
    ),
    "a text for a step": (
        checkpoint_with(lambda arrays, about: about["state"].update(batches="1")), "not that of a",
    ),
    "a step past the end": (
        checkpoint_with(lambda arrays, about: about["state"].update(batches=10**9)),
        "1000000000 batches of an epoch that has 6",
    ),
    "an epoch past the end": (
        checkpoint_with(lambda arrays, about: about["state"].update(epoch=9)),
        "epoch 9 with 0 rows before it",
    ),
    "no optimizer": (
        checkpoint_with(lambda arrays, about: [arrays.pop(n) for n in list(arrays) if "opt" in n]),
        "does not fit this training: this is no state of this Adam",
    ),
    "other shapes": (
        checkpoint_with(
            lambda arrays, about: arrays.update({"model.2.bias": np.zeros((9, 99), np.float32)})
        ),
        "does not fit this training: .* shape",
    ),
    "another architecture": (
        rewritten(lambda c: c["model"].update(hidden=[9])), "its model is not the one that its set",
    ),
    "other data in run.json": (
        rewritten(lambda c: c["data"].update(seed=1)), "the data is not what .* was trained on",
    ),
    "an unknown setting": (
        rewritten(lambda c: c["training"].update(epohcs=1)), "unknown option 'epohcs'; nearest: 'e",
    ),
    "a setting of another type": (
        rewritten(lambda c: c["training"].update(epochs="3")), "epochs must be a whole number, rec",
    ),
    "data that nobody knows": (
        rewritten(lambda c: c.update(data={"kind": "oracle"})), "unknown kind of data: 'oracle'",
    ),
    "half a source": (
        rewritten(lambda c: c.update(data={"kind": "digits"})), "the run's data cannot be loaded",
    ),
}  # fmt: skip


def files_of(folder):
    """The files, by what a write would change (their contents may be huge)."""
    found = {p.name: p.stat() for p in folder.iterdir()}
    return {name: (s.st_ino, s.st_size, s.st_mtime_ns) for name, s in found.items()}


@pytest.mark.parametrize(("damage", "words"), BROKEN.values(), ids=BROKEN)
def test_a_damaged_unfinished_run_is_refused_with_words(stopped, damage, words):
    damage(stopped)
    before = files_of(stopped)
    with pytest.raises(RunError, match=words):
        resume(stopped, progress=False)
    assert before == files_of(stopped)


def test_a_run_killed_before_its_first_checkpoint_begins_anew(stopped, tmp_path):
    for name in ("checkpoint.safetensors", "metrics.csv"):
        (stopped / name).unlink(missing_ok=True)
    settings = json.loads((stopped / "run.json").read_text())
    settings["result"] = {"state": "running"}
    (stopped / "run.json").write_text(json.dumps(settings))
    with pytest.raises(RunError, match="has no model.safetensors"):
        load_run(stopped)
    resume(stopped, progress=False)
    train_digits(SMALL, out=tmp_path / "whole", progress=False)
    assert same_files(stopped, tmp_path / "whole")


def test_a_table_that_moved_is_found_and_one_that_changed_is_refused(tmp_path):
    path = table(tmp_path / "things.csv")
    stop = Stop(2, None)
    stop.step = lambda examples: count_and_raise(stop)
    train_csv(path, "answer", QUICK, out=tmp_path / "run", progress=stop)
    moved = path.rename(tmp_path / "moved.csv")
    remedy = "things.csv: cannot be read: .*chainrule train NEW/PLACE --resume RUN"
    with pytest.raises(DataError, match=remedy):
        report(load_run(tmp_path / "run"))
    with pytest.raises(DataError, match=remedy):
        resume(tmp_path / "run", progress=False)
    content = moved.read_text()
    moved.write_text(content.replace("red", "blue"))
    with pytest.raises(RunError, match="its fingerprint differs"):
        resume(tmp_path / "run", source={"path": str(moved)}, progress=False)
    moved.write_text(content)
    assert resume(tmp_path / "run", source={"path": str(moved)}, progress=False) is not None
    first = report(load_run(tmp_path / "run")).json()  # the new place is noted
    again = moved.rename(tmp_path / "again.csv")  # of a finished run, too
    assert resume(tmp_path / "run", source={"path": str(again)}, progress=False) is None
    assert report(load_run(tmp_path / "run")).json() == first


def test_files_are_found_from_another_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "things.csv")
    train_csv("things.csv", "answer", QUICK, out="run", progress=False)
    first = report(load_run("run")).json()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert report(load_run("../run")).json() == first
    monkeypatch.chdir(tmp_path)
    (tmp_path / "things.csv").rename(tmp_path / "elsewhere" / "new.csv")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert resume("../run", source={"path": "new.csv"}, progress=False) is None
    monkeypatch.chdir(tmp_path)
    assert report(load_run("run")).json() == first


# -- predictions --------------------------------------------------------------------------------


def test_pixels_out_of_range_are_refused(digits_run, tmp_path):
    names = [f"p{k}" for k in range(64)]
    rows = [["8"] * 64, ["8"] * 63 + ["255"]]
    path = tmp_path / "pixels.csv"
    path.write_text("\n".join(",".join(r) for r in (names, *rows)))
    with pytest.raises(DataError, match=r"line 3, column 'p63': '255' is no pixel"):
        predict_csv(digits_run.run, path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(RunError, match="2 columns of inputs; this run takes 64 pixels of 0 to 16"):
        predict_csv(digits_run.run, path)


def test_a_run_without_a_recipe_for_tables_says_so(tmp_path):
    run = Run(mlp(2, [], 1), describe_mlp(2, [], 1, "relu"))
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(RunError, match="no recipe for the columns of a table"):
        predict_csv(run, path)


def test_models_by_name():
    assert len(mlp(4, [3, 3], 2)) == 5
    assert np.array_equal(mlp(4, [3], 2, seed=1)[0].weight, mlp(4, [3], 2, seed=1)[0].weight)
    with pytest.raises(RunError, match="unknown activation 'rely'; one of relu, tanh"):
        mlp(4, [3], 2, activation="rely")
    with pytest.raises(RunError, match=r"layer sizes must be positive, received \[4, 0, 2\]"):
        mlp(4, [0], 2)
    x = cr.ones((1, 4))
    for name in ("relu", "tanh", "sigmoid", "leaky_relu", "elu", "gelu", "silu", "softplus"):
        assert build(describe_mlp(4, [3], 2, name))(x).shape == (1, 2)


WRONG = [
    ({"activation": "cube"}, "unknown activation 'cube'; one of relu, tanh"),
    ({"optimizer": "magic"}, "unknown optimizer 'magic'; one of sgd, momentum"),
    ({"loss": "none"}, "unknown loss 'none'; one of softmax, hinge, squared"),
    ({"loss": "squared"}, "loss 'squared' does not fit a classification: use softmax or hinge"),
    ({"rate": 0.0}, "rate must be above 0 and finite, received 0.0"),
    ({"rate": float("nan")}, "rate must be above 0 and finite, received nan"),
    ({"rate": float("inf")}, "rate must be above 0 and finite, received inf"),
    ({"penalty": -1.0}, "penalty must be at least 0 and finite, received -1.0"),
    ({"batch": 0}, "batch must be at least 1, received 0"),
    ({"epochs": -1}, "epochs must be at least 0, received -1"),
    ({"patience": 0}, "patience must be at least 1, received 0"),
    ({"hidden": (8, 0)}, "hidden sizes must be from 1 to 1,000,000, received 8, 0"),
]


@pytest.mark.parametrize(("options", "words"), WRONG, ids=lambda x: str(x)[:24])
def test_options_that_cannot_be_used(options, words, tmp_path):
    with pytest.raises(RunError, match=words):
        train_digits(Options(**options), out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_regression_wants_the_squared_loss(tmp_path):
    path = table(tmp_path / "things.csv", numbers=True)
    with pytest.raises(RunError, match="loss 'hinge' does not fit a regression: use squared"):
        train_csv(path, "answer", Options(loss="hinge"), progress=False)


def test_a_test_set_of_equal_targets_has_no_r2(tmp_path):
    path = tmp_path / "flat.csv"
    path.write_text("x,y\n" + "".join(f"{k},1.5\n" for k in range(20)))
    outcome = train_csv(path, "y", QUICK, task="regression", out=tmp_path / "run", progress=False)
    assert outcome.summary == "test R²: not defined (the test targets are all equal)"
    assert load_run(tmp_path / "run").result["test_score"] is None
