"""`fit` and `evaluate`: what they measure, what they leave in the model, how they end."""

import csv
import math
import re
import subprocess
import sys
from hashlib import sha256

import numpy as np
import pytest

import chainrule as cr
from chainrule.data import arrays, digits, split_dataset
from chainrule.errors import DataError, GradientError, RunError
from chainrule.train import evaluate, fit, mlp
from chainrule.train.metrics import COLUMNS, Epoch
from chainrule.train.progress import Reporter, line

SEED = 0


def blobs(n=90, seed=0):
    """Three clouds of points in the plane."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    centres = np.array([[0, 2], [2, -1], [-2, -1]])
    return arrays(centres[labels] + 0.4 * random.standard_normal((n, 2)), labels, name="blobs")


def slope(n=64):
    x = np.linspace(-1, 1, n).reshape(n, 1)
    return arrays(x, 3 * x[:, 0] - 1, name="slope")


def weights(model):
    return b"".join(p.numpy().tobytes() for p in model.parameters())


def trained(seed=SEED, **options):
    model = mlp(2, [8], 3, seed=seed)
    sgd = cr.optim.SGD(model, lr=0.5)
    settings = {"epochs": 4, "seed": seed, "progress": False, "optimizer": sgd} | options
    history = fit(model, blobs(), blobs(30, 1), **settings)
    return model, history


def quiet(model, *data, **options):
    return fit(model, *data, progress=False, **options)


# -- what is measured ---------------------------------------------------------------------------


def test_the_loss_falls_and_each_epoch_is_a_row():
    model, history = trained(epochs=8)
    losses = [row.loss for row in history.epochs]
    assert losses[-1] < 0.5 * losses[0]
    assert [row.epoch for row in history.epochs] == list(range(1, 9)) and len(history) == 8
    assert history.epochs[-1].score > 0.9
    assert not history.interrupted and history.stopped == "all epochs done"
    last = history.epochs[history.best - 1]
    assert evaluate(model, blobs(30, 1)) == (last.validation_loss, last.validation_score)


def test_the_row_is_what_the_batches_say():
    """With one batch an epoch and rate 0 the measures are those of the untouched model."""
    data, model = blobs(), mlp(2, [4], 3)
    rows = quiet(model, data, epochs=2, batch=len(data), optimizer=cr.optim.SGD(model, lr=0)).epochs
    loss, score = evaluate(model, data)
    for row in rows:
        assert row.loss == pytest.approx(loss, rel=1e-6) and row.score == score
        assert math.isnan(row.validation_loss) and math.isnan(row.validation_score)


def test_a_smaller_last_batch_counts_by_its_size():
    data, model = blobs(90), mlp(2, [4], 3)
    row = quiet(model, data, epochs=1, batch=64, optimizer=cr.optim.SGD(model, lr=0)).epochs[0]
    assert row.loss == pytest.approx(evaluate(model, data)[0], rel=1e-6)
    assert evaluate(model, data, batch=7)[0] == pytest.approx(evaluate(model, data)[0], rel=1e-6)
    with pytest.raises(DataError, match="batch must be a whole number ≥ 1, got 0"):
        evaluate(model, data, batch=0)


def test_a_regression_has_squared_errors_and_r2():
    model = cr.nn.Linear(1, 1)
    history = quiet(
        model, slope(), slope(), epochs=60, optimizer=cr.optim.SGD(model, lr=0.2), batch=16
    )
    assert history.epochs[-1].score > 0.999 and history.epochs[-1].loss < 1e-3
    assert float(model.weight.item()) == pytest.approx(3, abs=0.05)
    assert float(model.bias.item()) == pytest.approx(-1, abs=0.05)
    loss, r2 = evaluate(model, slope())
    y = slope().targets
    assert r2 == pytest.approx(1 - loss * len(y) / ((y - y.mean()) ** 2).sum(), rel=1e-4)


def test_r2_of_equal_targets_is_not_a_number():
    flat = arrays(np.ones((4, 1)), np.full(4, 2.0))
    assert math.isnan(evaluate(cr.nn.Linear(1, 1), flat)[1])


def test_evaluate_records_nothing_and_changes_nothing():
    model = mlp(2, [4], 3)
    before = weights(model)
    evaluate(model, blobs())
    assert weights(model) == before
    assert all(p.grad is None for p in model.parameters())


def test_training_reaches_the_model_and_evaluation_does_not():
    seen = []

    class Watch(cr.nn.Module):
        def __init__(self):
            self.inner = cr.nn.Linear(2, 3)

        def forward(self, x, training=False):
            seen.append(training)
            return self.inner(x)

    quiet(Watch(), blobs(), blobs(30, 1), epochs=1, batch=90)
    assert seen == [True, False]


# -- the same seed, the same run ----------------------------------------------------------------


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    first, again, other = weights(trained()[0]), weights(trained()[0]), weights(trained(1)[0])
    assert first == again
    assert first != other


def test_the_order_of_the_examples_depends_on_the_seed():
    start = {"epochs": 1}
    model, same, other = (mlp(2, [8], 3) for _ in range(3))
    for m, seed in ((model, 0), (same, 0), (other, 1)):
        quiet(m, blobs(), seed=seed, **start)
    assert weights(model) == weights(same) != weights(other)


PROGRAM = """
from hashlib import sha256
from chainrule.data import digits, split_dataset
from chainrule.train import fit, mlp
model = mlp(64, [16], 10, seed=5)
train, validation, _ = split_dataset(digits(), seed=5)
fit(model, train, validation, epochs=2, seed=5, progress=False)
print(sha256(b"".join(p.numpy().tobytes() for p in model.parameters())).hexdigest())
"""


def test_a_fresh_process_gives_the_same_bits():
    model = mlp(64, [16], 10, seed=5)
    train, validation, _ = split_dataset(digits(), seed=5)
    quiet(model, train, validation, epochs=2, seed=5)
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.strip() == sha256(weights(model)).hexdigest()


# -- settings -----------------------------------------------------------------------------------


def test_patience_stops_and_the_best_weights_stay():
    model, kept = mlp(2, [8], 3), {}

    def keep(row, better):
        kept[row.epoch] = weights(model)

    history = quiet(
        model, blobs(), blobs(30, 1), epochs=200, patience=3, after_epoch=keep,
        optimizer=cr.optim.SGD(model, lr=8.0),
    )  # fmt: skip
    losses = [row.validation_loss for row in history.epochs]
    assert len(history) < 200 and "no better validation loss in 3 epochs" in history.stopped
    assert history.best == int(np.argmin(losses)) + 1 == len(history) - 3
    assert weights(model) == kept[history.best] != kept[len(history)]


def test_without_validation_the_last_weights_stay():
    model, kept = mlp(2, [8], 3), {}
    history = quiet(
        model, blobs(), epochs=5, optimizer=cr.optim.SGD(model, lr=8.0),
        after_epoch=lambda row, _: kept.update({row.epoch: weights(model)}),
    )  # fmt: skip
    assert weights(model) == kept[5]
    assert history.best == int(np.argmin([row.loss for row in history.epochs])) + 1


def test_after_epoch_is_told_what_is_better():
    told = []
    _, history = trained(
        epochs=12, patience=None, after_epoch=lambda row, better: told.append(better)
    )
    losses = [row.validation_loss for row in history.epochs]
    assert told == [x < min([math.inf, *losses[:k]]) for k, x in enumerate(losses)]


def test_no_epochs_change_nothing():
    model = mlp(2, [8], 3)
    before = weights(model)
    history = quiet(model, blobs(), blobs(30, 1), epochs=0)
    assert weights(model) == before
    assert (len(history), history.best) == (0, 0)


def test_the_schedule_sets_the_rate_and_gives_it_back():
    asked = []

    def half(done):
        asked.append(done)
        return 0.5 if done >= 0.5 else 1.0

    model = mlp(2, [4], 3)
    optimizer = cr.optim.SGD(model, lr=0.1)
    history = quiet(model, blobs(), epochs=4, batch=45, optimizer=optimizer, schedule=half)
    assert asked == [k / 8 for k in range(8)]
    assert [row.rate for row in history.epochs] == [0.1, 0.1, 0.05, 0.05]
    assert float(optimizer.lr) == 0.1


def test_the_penalty_makes_weights_smaller_and_is_no_part_of_the_loss():
    plain, _ = trained(epochs=6)
    small, history = trained(epochs=6, penalty=0.1)
    assert float(cr.nn.l2_penalty(small)) < 0.7 * float(cr.nn.l2_penalty(plain))
    last = history.epochs[history.best - 1]
    assert evaluate(small, blobs(30, 1))[0] == last.validation_loss


def test_pairs_of_arrays_and_a_loss_of_ones_own_will_do():
    x = cr.linspace(-1, 1, 32).reshape(32, 1)
    model = cr.nn.Linear(1, 1)
    calls = []

    def absolute(outputs, targets):
        calls.append(outputs.shape)
        return abs(outputs - targets).mean()

    history = quiet(model, (x, 2 * x[:, 0]), loss=absolute, epochs=3, batch=32)
    assert calls == [(32,)] * 3
    assert history.epochs[0].loss > history.epochs[-1].loss


# -- the CSV file of metrics --------------------------------------------------------------------


def test_metrics_are_a_csv_that_loses_nothing(tmp_path):
    _, history = trained(metrics=tmp_path / "deep" / "metrics.csv")
    with open(tmp_path / "deep" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [
        Epoch(int(r["epoch"]), *(float(r[c]) for c in COLUMNS[1:])) for r in rows
    ] == history.epochs
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["metrics.csv"]


def test_metrics_without_validation_hold_nan_and_an_old_file_goes(tmp_path):
    path = tmp_path / "metrics.csv"
    quiet(mlp(2, [4], 3), blobs(), epochs=1, metrics=path)
    row = path.read_text().splitlines()[1].split(",")
    assert row[0] == "1" and row[3:5] == ["nan", "nan"]
    quiet(mlp(2, [4], 3), blobs(), epochs=0, metrics=path)
    assert path.read_text() == ",".join(COLUMNS) + "\n"


# -- what goes wrong ----------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_ends_training_with_words():
    model = cr.nn.Linear(1, 1)
    optimizer = cr.optim.SGD(model, lr=1e30)
    with pytest.raises(
        GradientError, match=r"loss became (inf|nan) in epoch 1, step [23]; .*smaller rate .*1e\+30"
    ):
        quiet(model, slope(), epochs=3, batch=16, optimizer=optimizer)


def test_after_an_error_the_model_has_the_best_weights():
    model = mlp(2, [8], 3)
    kept, steps = [], []

    def loss(outputs, targets):
        value = cr.nn.softmax_cross_entropy(outputs, targets)
        steps.append(1)
        return value * np.float32(np.nan) if len(steps) == 6 else value  # the second epoch

    with pytest.raises(GradientError, match="epoch 2"):
        quiet(
            model, blobs(), blobs(30, 1), loss=loss, batch=30, epochs=9,
            after_epoch=lambda row, better: kept.append(weights(model)),
        )  # fmt: skip
    assert len(kept) == 1 and weights(model) == kept[0]


def test_ctrl_c_after_an_epoch_keeps_the_best_weights():
    model, kept = mlp(2, [8], 3), {}

    def interrupt(row, better):
        kept[row.epoch] = weights(model)
        if row.epoch == 3:
            raise KeyboardInterrupt

    optimizer = cr.optim.SGD(model, lr=8.0)
    history = quiet(
        model, blobs(), blobs(30, 1), epochs=50, after_epoch=interrupt, optimizer=optimizer
    )
    assert history.interrupted and history.stopped == "interrupted" and len(history) == 3
    assert weights(model) == kept[history.best]


@pytest.mark.parametrize("with_validation", [True, False])
def test_ctrl_c_in_the_middle_of_an_epoch(with_validation):
    model, kept, steps = mlp(2, [8], 3), [], []

    def loss(outputs, targets):
        steps.append(weights(model))
        if len(steps) == 9 + 2 * with_validation:  # the third epoch, its third batch
            raise KeyboardInterrupt
        return cr.nn.softmax_cross_entropy(outputs, targets)

    optimizer = cr.optim.SGD(model, lr=0.1)
    history = quiet(
        model, blobs(), *([blobs(30, 1)] if with_validation else []), loss=loss, batch=30, epochs=9,
        optimizer=optimizer, schedule=lambda done: 1 - done,
        after_epoch=lambda row, better: kept.append(weights(model)),
    )  # fmt: skip
    assert history.interrupted and len(history) == 2
    assert weights(model) == (kept[history.best - 1] if with_validation else steps[-1])
    assert float(optimizer.lr) == 0.1


def test_ctrl_c_in_the_first_epoch_leaves_a_usable_model():
    model = mlp(2, [8], 3)

    def loss(outputs, targets):
        raise KeyboardInterrupt

    history = quiet(model, blobs(), blobs(30, 1), loss=loss)
    assert history.interrupted and (len(history), history.best) == (0, 0)
    assert math.isfinite(evaluate(model, blobs())[0])


def test_an_error_of_the_callers_own_goes_through():
    def fail(row, better):
        raise OSError("mine")

    with pytest.raises(OSError, match="mine"):
        trained(after_epoch=fail)


WRONG = [
    ({"epochs": -1}, DataError, "epochs must be at least 0, received -1"),
    ({"batch": 0}, DataError, "batch must be at least 1, received 0"),
    ({"seed": -3}, DataError, "seed must be a whole number"),
    ({"patience": 0}, DataError, "patience must be at least 1, received 0"),
]


@pytest.mark.parametrize(("options", "error", "words"), WRONG, ids=lambda x: str(x)[:20])
def test_settings_that_cannot_be_used(options, error, words):
    with pytest.raises(error, match=words):
        quiet(mlp(2, [4], 3), blobs(), blobs(30, 1), **({"epochs": 8} | options))


def test_data_that_cannot_be_used():
    model = mlp(2, [4], 3)
    with pytest.raises(DataError, match="patience=2 needs validation data"):
        quiet(model, blobs(), patience=2)
    with pytest.raises(DataError, match="train: expected a Dataset or a pair .* got ndarray"):
        quiet(model, np.ones((3, 2)))
    with pytest.raises(DataError, match="validation: .* same length"):
        quiet(model, blobs(), (np.ones((3, 2)), np.zeros(4, int)))
    with pytest.raises(DataError, match="hold no values"):
        quiet(model, (np.ones((0, 2)), np.zeros(0, int)))
    with pytest.raises(cr.errors.ShapeError, match=r"takes arrays with a last axis of 2"):
        quiet(model, (np.ones((4, 5)), np.zeros(4, int)))


def test_a_metrics_file_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("here first")
    with pytest.raises(RunError, match="cannot write .*metrics.csv"):
        trained(metrics=tmp_path / "file" / "metrics.csv")
    assert (tmp_path / "file").read_text() == "here first"


# -- progress -----------------------------------------------------------------------------------


def test_progress_in_a_file_is_a_dozen_lines_at_most(capsys):
    trained(epochs=45, progress=True)
    lines = capsys.readouterr().out.splitlines()
    assert 5 <= len(lines) <= 12
    assert lines[-1].startswith("epoch 45/45  loss ")
    assert "accuracy" in lines[0] and " %  validation loss " in lines[0] and "rate" in lines[0]


def test_a_regression_shows_r2_and_no_percent(capsys):
    quiet_not = cr.nn.Linear(1, 1)
    fit(quiet_not, slope(), epochs=2)
    out = capsys.readouterr().out
    assert "R² " in out and "%" not in out and "validation" not in out


def test_the_bar_of_a_terminal_is_taken_down():
    import io

    from rich.console import Console

    screen = io.StringIO()
    reporter = Reporter(Console(file=screen, force_terminal=True, width=120))
    trained(progress=reporter)
    assert reporter.bar is None
    assert "4/4" in screen.getvalue() and "accuracy" in screen.getvalue()

    def loss(outputs, targets):
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        trained(progress=reporter, loss=loss)
    assert reporter.bar is None


@pytest.mark.parametrize(
    ("width", "shown", "hidden"),
    [
        (120, "loss 0.", ""),
        (80, "accuracy", "loss"),
        (65, "accuracy", "rate"),
        (50, "", "accuracy"),
    ],
)
def test_the_time_left_is_seen_at_any_width(width, shown, hidden):
    import io

    from rich.console import Console

    screen = io.StringIO()
    reporter = Reporter(Console(file=screen, force_terminal=True, width=width))
    reporter.start(60, 100, 0)
    reporter.step(100)
    reporter.epoch(Epoch(1, 0.5, 0.875, 0.75, 0.8, 0.0016, 1.0), True)
    reporter.stop()
    last = re.sub("\x1b\\[[^a-zA-Z]*[a-zA-Z]", "", screen.getvalue()).strip().splitlines()[-1]
    assert "left" in last and "…" not in last and len(last) <= width
    assert shown in last and (not hidden or hidden not in last)


def test_a_line_of_huge_numbers_stays_short():
    assert line(Epoch(1, 1e30, 0.5, 2e9, 0.25, 0.1, 1)) == (
        "loss 1e+30  accuracy 50.0 %  validation loss 2e+09  accuracy 25.0 %  rate 0.1"
    )
