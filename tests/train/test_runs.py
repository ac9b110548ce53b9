"""Lists and comparisons of run folders, and options from files."""

import json
import os
import platform
import subprocess
import sys

import numpy as np
import pytest

from chainrule.errors import RunError
from chainrule.train import Options, runs, train_digits
from chainrule.train.options import checked, from_plain, plain
from chainrule.train.run import load_settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three runs, one of them damaged, and other things."""
    root = tmp_path_factory.mktemp("runs")
    for name, hidden, epochs in (("b", (4,), 1), ("a", (8, 6), 3)):
        options = Options(hidden=hidden, epochs=epochs, rate=0.01)
        train_digits(options, out=root / "deep" / name, progress=False)
    (root / "broken").mkdir()
    (root / "broken" / "run.json").write_text("{")
    (root / "notes").mkdir()
    return root


def names(rows):
    return [row.name.rsplit("/", 1)[-1] for row in rows]


def test_rows_hold_what_the_runs_say(folder):
    found = runs.find(folder)
    assert [p.name for p in found] == ["broken", "a", "b"]
    broken, a, b = runs.rows(found)
    result = load_settings(folder / "deep" / "a").result
    assert (a.data, a.model, a.epochs, a.state) == ("digits", "mlp", 3, "finished")
    assert (a.test, a.validation) == (result["test_score"], result["validation_score"])
    assert a.parameters == 64 * 8 + 8 + 8 * 6 + 6 + 6 * 10 + 10
    assert b.parameters == 64 * 4 + 4 + 4 * 10 + 10 and broken.state == "damaged"
    assert np.isnan(broken.test) and broken.cells()[5] == ""
    assert all(len(row.cells()) == len(runs.COLUMNS) for row in (broken, a, b))


@pytest.mark.parametrize("column", runs.COLUMNS)
def test_each_column_sorts(folder, column):
    found = names(runs.rows(runs.find(folder), column))
    assert sorted(found) == ["a", "b", "broken"]
    if column in ("parameters", "epochs", "validation", "test", "seconds"):
        assert found[0] == "a" and found[2] == "broken"


def test_differences_are_side_by_side(folder):
    lines = {line[0]: line[1:] for line in runs.differences(runs.find(folder)[1:])}
    assert lines["training.hidden"] == ("8, 6", "4")
    assert lines["training.epochs"] == ("3", "1")
    assert "training.rate" not in lines and "data.kind" not in lines
    assert runs.differences([runs.find(folder)[1]] * 2) == []


def test_states(tmp_path):
    """A run whose process is gone is not running."""
    train_digits(Options(hidden=(2,), epochs=1), out=tmp_path / "r", progress=False)
    file = tmp_path / "r" / "run.json"
    content = json.loads(file.read_text())
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, text=True)  # fmt: skip
    host = platform.node()
    for result, state in (
        ({"state": "running", "process": {"host": host, "pid": os.getpid()}}, "running"),
        ({"state": "running", "process": {"host": host, "pid": int(gone.stdout)}}, "interrupted"),
        ({"state": "running", "process": {"host": "elsewhere", "pid": 1}}, "running"),
        ({"state": "running", "process": {"host": host, "pid": "x"}}, "interrupted"),
        ({"state": "running", "process": {"host": host, "pid": -1}}, "interrupted"),
        ({"state": "running"}, "running"),
        ({"state": "failed"}, "failed"),
        ({"state": ["finished"]}, "interrupted"),
        ({}, "interrupted"),
    ):
        file.write_text(json.dumps(content | {"result": result}))
        assert runs.row(tmp_path / "r").state == state, result


@pytest.mark.parametrize("text", ["", "epoch,loss\n1,2\n", "a\n\0\n", "epoch\nx\n"])
def test_damaged_metrics_are_no_metrics(tmp_path, text):
    train_digits(Options(hidden=(2,), epochs=1), out=tmp_path / "r", progress=False)
    (tmp_path / "r" / "metrics.csv").write_text(text)
    row = runs.row(tmp_path / "r")
    assert (row.epochs, row.state) == (0, "finished") and np.isnan(row.validation)


# -- options as plain data ----------------------------------------------------------------------


def test_options_come_back_from_plain_data():
    options = Options(hidden=(3, 4), rate=0.1, augment=("flip",), clip=1.0)
    content = json.loads(json.dumps(plain(options)))
    assert from_plain(content, "f") == options
    assert from_plain({}, "f") == Options()
    assert from_plain({"rate": 1, "clip": 2}, "f") == Options(rate=1.0, clip=2.0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epoch": 1}, "f: unknown option 'epoch'; nearest: 'epochs'"),
        ({"Learning-Rate": 1}, "f: unknown option 'Learning-Rate'"),
        ({"hidden": "3"}, "hidden must be a list of whole numbers, received '3'"),
        ({"hidden": [3.5]}, "hidden must be a list of whole numbers"),
        ({"epochs": True}, "epochs must be a whole number, received True"),
        ({"epochs": 1.0}, "epochs must be a whole number, received 1.0"),
        ({"seed": None}, "seed must be a whole number, received None"),
        ({"rate": "fast"}, "rate must be a number, received 'fast'"),
        ({"activation": 1}, "activation must be a text, received 1"),
        ({"augment": 1}, "augment must be a list of texts, received 1"),
    ],
)
def test_options_of_other_names_and_types(settings, words):
    with pytest.raises(RunError, match=words):
        from_plain(settings, "f")


def test_one_entry_of_a_list_needs_no_brackets():
    short = {"hidden": 128, "augment": "flip"}
    assert from_plain(short, "f") == from_plain({"hidden": [128], "augment": ["flip"]}, "f")


def test_flags_are_true_or_false():
    assert checked({"quiet": True}, {"quiet": bool}, "f") == {"quiet": True}
    with pytest.raises(RunError, match="quiet must be true or false, received 1"):
        checked({"quiet": 1}, {"quiet": bool}, "f")
