"""Whole jobs: what is kept when they are stopped, predictions, options that cannot be used."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import DataError, RunError
from chainrule.train import load_run, mlp, predict_csv, tasks, train_csv, train_digits
from chainrule.train.models import build, describe_mlp
from chainrule.train.run import Run
from chainrule.train.tasks import Options
from tests.train.tables import QUICK, table


@pytest.fixture(scope="module")
def digits_run():
    return train_digits(QUICK, progress=False)


# -- a run that is stopped ----------------------------------------------------------------------


def test_a_job_that_is_killed_leaves_its_best_weights(tmp_path, monkeypatch):
    """Checkpoints are made while training goes on; here at every better epoch."""
    monkeypatch.setattr(tasks, "CHECKPOINT_SECONDS", -1.0)
    saves = []
    save_run = Run.save

    def counted(self, folder):
        saves.append(self.result.get("epochs"))
        if len(saves) == 4:
            raise SystemExit  # as good as killed: nothing after this is written
        return save_run(self, folder)

    monkeypatch.setattr(Run, "save", counted)
    with pytest.raises(SystemExit):
        train_digits(Options(hidden=(8,), epochs=9), out=tmp_path / "run", progress=False)
    assert load_run(tmp_path / "run").result == {"epochs": saves[2], "stopped": "not finished"}


def test_an_interrupted_job_is_tested_and_saved(tmp_path, monkeypatch):
    def interrupt(row, better):
        if row.epoch == 2:
            raise KeyboardInterrupt

    class Stop:
        def start(self, epochs): ...
        def stop(self): ...

        epoch = staticmethod(interrupt)

    outcome = train_digits(Options(hidden=(8,)), out=tmp_path / "run", progress=Stop())
    assert outcome.history.interrupted and len(outcome.history) == 2
    run = load_run(tmp_path / "run")
    assert run.result["stopped"] == "interrupted"
    assert run.result["test_score"] == outcome.test_score


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
