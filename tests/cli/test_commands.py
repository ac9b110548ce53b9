"""The command line: what each command prints, writes and returns."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule.cli.app import run
from chainrule.cli.train import NAMES
from chainrule.data import digits
from chainrule.train import load_run, options

QUICK = ["--hidden", "8", "--epochs", "3", "--rate", "0.01"]
COMMANDS = ("train", "predict", "evaluate", "sample", "runs", "explain")
COMMAND = [sys.executable, "-c", "from chainrule.cli import main; main()"]
# An absolute path, since the tests change the working directory.
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(cr.__file__).parents[1])}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def flowers(path, rows=80, *, price=False):
    """A CSV with numbers, a category and a target."""
    random = np.random.default_rng(3)
    lines = ["length,width,soil,price" if price else "length,width,soil,kind"]
    for _ in range(rows):
        length, width, soil = *random.uniform(0, 5, 2), random.choice(["sand", "clay"])
        score = length - width + (soil == "clay")
        target = f"{1000 * score:.2f}" if price else "rose" if score > 0 else "tulip, wild"
        quoted = f'"{target}"' if "," in target else target
        lines.append(f"{length:.3f},{width:.3f},{soil},{quoted}")
    path.write_text("\n".join(lines) + "\n")
    return path


def ok(capsys, *arguments):
    """What a command that must succeed prints."""
    status = run([str(a) for a in arguments])
    out, err = capsys.readouterr()
    assert (status, err) == (0, ""), err
    return out


# -- train --------------------------------------------------------------------------------------


def test_train_digits(here, capsys):
    out = ok(capsys, "train", "digits", "--hidden", "32", "--epochs", "4", "--rate", "0.01")
    accuracy = re.search(r"^test accuracy: (\d\d\.\d) %$", out, re.M)
    assert accuracy and float(accuracy[1]) > 85
    progress = r"^epoch 4/4  loss \d\.\d{4}  accuracy \d\d\.\d %  validation loss "
    assert re.search(progress, out, re.M)
    assert "run folder: runs/digits-seed-0" in out
    found = load_run("runs/digits-seed-0")
    assert f"{100 * found.result['test_score']:.1f}" == accuracy[1]
    with open("runs/digits-seed-0/metrics.csv", newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3", "4"]


def test_quiet_prints_the_result_only(here, capsys):
    out = ok(capsys, "train", "digits", *QUICK, "--quiet", "--out", "r").splitlines()
    assert len(out) == 4 and out[3].startswith("report: ")
    assert re.fullmatch(r"3 epochs in \d+\.\d s \(all epochs done, best epoch 3\)", out[0])
    assert out[1].startswith("test accuracy: ") and out[2] == "run folder: r"


def test_every_option_reaches_the_run(here, capsys):
    ok(
        capsys, "train", "digits", "--hidden", "9, 7", "--activation", "tanh", "--loss", "hinge",
        "--optimizer", "momentum", "--rate", "0.003", "--penalty", "0.001", "--batch", "50",
        "--epochs", "2", "--patience", "4", "--seed", "6", "--quiet", "--model", "mlp",
        "--schedule", "warmup", "--accumulate", "2", "--clip", "0.5", "--average", "0.9",
        "--augment", "shift", "--eager",
    )  # fmt: skip
    training = load_run("runs/digits-mlp-seed-6").training
    assert training == {
        "model": "mlp", "hidden": [9, 7], "channels": None, "layers": None, "embedding": None,
        "dropout": None, "compiled": False,
        "activation": "tanh", "loss": "hinge", "optimizer": "momentum", "rate": 0.003,
        "schedule": "warmup", "penalty": 0.001, "batch": 50, "accumulate": 2, "epochs": 2,
        "patience": 4, "clip": 0.5, "average": 0.9, "augment": ["shift"], "seed": 6,
    }  # fmt: skip


def test_no_hidden_layers_is_a_linear_classifier(here, capsys):
    ok(capsys, "train", "digits", "--hidden", "", "--epochs", "1", "--quiet", "--out", "r")
    assert len(load_run("r").model) == 1


@pytest.mark.parametrize("optimizer", options.OPTIMIZERS)
def test_every_optimizer_trains(here, capsys, optimizer):
    path = flowers(here / "flowers.csv")
    out = ok(capsys, "train", path, "--target", "kind", *QUICK, "--optimizer", optimizer, "--quiet")
    assert "test accuracy: " in out


def test_the_same_seed_gives_the_same_weights(here, capsys):
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        ok(capsys, "train", "digits", *QUICK, "--quiet", "--out", out, "--seed", seed)
    a, b, c = ((here / x / "model.safetensors").read_bytes() for x in "abc")
    assert a == b != c


def test_a_run_is_replaced_and_other_folders_are_not(here, capsys):
    ok(capsys, "train", "digits", *QUICK, "--quiet")
    ok(capsys, "train", "digits", "--hidden", "4", "--epochs", "1", "--quiet")
    assert load_run("runs/digits-seed-0").description["hidden"] == [4]
    said = ok(capsys, "train", "digits", "--hidden", "4", "--epochs", "1")
    assert said.startswith("replaces the earlier run in runs/digits-seed-0 once a step is taken\n")
    assert "replaces" not in ok(capsys, "train", "digits", *QUICK, "--out", "other")
    assert {p.name for p in (here / "runs" / "digits-seed-0").iterdir()} == {
        "diagnosis.json", "gradients.csv", "metrics.csv", "model.safetensors", "report.html",
        "run.json",
    }  # fmt: skip


# -- a table, and predictions -------------------------------------------------------------------


def without(path, column, to):
    """The CSV without one column."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name != column]
    with open(to, "w", newline="") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return to


def test_a_table_of_classes(here, capsys):
    path = flowers(here / "flowers.csv")
    out = ok(capsys, "train", path, "--target", "kind", "--hidden", "16", "--epochs", "40")
    assert "run folder: runs/flowers-seed-0" in out and "accuracy" in out
    printed = ok(capsys, "predict", "runs/flowers-seed-0", path)
    bare = without(path, "kind", here / "bare.csv")
    assert ok(capsys, "predict", "runs/flowers-seed-0", bare) == printed
    predicted = [row["prediction"] for row in csv.DictReader(printed.splitlines())]
    with open(path, newline="") as file:
        true = [row["kind"] for row in csv.DictReader(file)]
    assert set(predicted) == {"rose", "tulip, wild"}
    assert np.mean([p == t for p, t in zip(predicted, true, strict=True)]) > 0.9
    assert '"tulip, wild"' in printed


def test_a_table_of_numbers(here, capsys):
    path = flowers(here / "prices.csv", price=True)
    out = ok(capsys, "train", path, "--target", "price", "--hidden", "16", "--epochs", "60",
             "--rate", "0.02", "--out", "r")  # fmt: skip
    assert "R² " in out and "accuracy" not in out
    score = re.search(r"^test R²: (0\.\d{4})$", out, re.M)
    assert score and float(score[1]) > 0.9
    said = ok(capsys, "predict", "r", path, "--out", "sub/predictions.csv")
    assert said == "80 predictions written to sub/predictions.csv\n"
    with open("sub/predictions.csv", newline="") as file:
        predicted = [float(row["prediction"]) for row in csv.DictReader(file)]
    with open(path, newline="") as file:
        true = [float(row["price"]) for row in csv.DictReader(file)]
    assert np.corrcoef(predicted, true)[0, 1] > 0.95
    assert np.std(predicted) > 100  # in the unit of the file, not scaled


def test_numbers_as_classes_and_columns_to_ignore(here, capsys):
    lines = ["id,x,grade", *(f"row{k},{k % 7},{k % 2 + 1}" for k in range(60))]
    (here / "t.csv").write_text("\n".join(lines))
    ok(capsys, "train", "t.csv", "--target", "grade", "--ignore", "id", *QUICK, "--quiet")
    assert load_run("runs/t-seed-0").classes == ("1", "2")
    ok(capsys, "train", "t.csv", "--target", "grade", "--task", "regression", "--ignore", "id",
       *QUICK, "--quiet", "--out", "n")  # fmt: skip
    assert load_run("n").classes == ()


def test_digits_from_a_table_of_pixels(here, capsys):
    ok(capsys, "train", "digits", "--hidden", "32", "--epochs", "6", "--rate", "0.01", "--quiet",
       "--out", "r")  # fmt: skip
    data = digits()
    pixels = (16 * data.inputs[:30].reshape(30, 64)).round().astype(int)
    header = [f"pixel{k}" for k in range(64)]
    plain = [header, *pixels.tolist()]
    answers = zip(plain[1:], data.targets[:30], strict=True)
    labelled = [[*header, "digit"], *([*row, answer] for row, answer in answers)]
    for name, rows in (("plain.csv", plain), ("labelled.csv", labelled)):
        (here / name).write_text("\n".join(",".join(map(str, row)) for row in rows))
    printed = ok(capsys, "predict", "r", "plain.csv").split()
    assert ok(capsys, "predict", "r", "labelled.csv").split() == printed
    assert printed[0] == "prediction" and len(printed) == 31
    model = load_run("r").model
    expected = np.asarray(model(data.inputs[:30])).argmax(1)
    assert [int(p) for p in printed[1:]] == expected.tolist()
    assert np.mean(expected == data.targets[:30]) > 0.8


# -- options from a file, going on --------------------------------------------------------------


def test_options_come_from_a_file_and_the_command_line_wins(here, capsys):
    (here / "job.toml").write_text(
        'data = "digits"\nhidden = [6, 5]\nepochs = 2\nrate = 0.01\nquiet = true\nout = "r"\n'
    )
    out = ok(capsys, "train", "--config", "job.toml", "--epochs", "1")
    assert len(out.splitlines()) == 4 and out.startswith("1 epochs in ")
    training = load_run("r").training
    assert (training["hidden"], training["epochs"], training["rate"]) == ([6, 5], 1, 0.01)


def test_run_json_reproduces_a_run(here, capsys):
    ok(capsys, "train", "digits", *QUICK, "--quiet", "--out", "r", "--average", "0.5")
    settings = json.loads((here / "r" / "run.json").read_text())
    chosen = {k: v for k, v in settings["training"].items() if v is not None}
    lines = [f"{name} = {json.dumps(value)}" for name, value in chosen.items()]
    (here / "again.toml").write_text("\n".join(['data = "digits"', *lines]))
    ok(capsys, "train", "--config", "again.toml", "--quiet", "--out", "again")
    a, b = ((here / x / "model.safetensors").read_bytes() for x in ("r", "again"))
    assert a == b


def test_a_finished_run_has_nothing_to_go_on_with(here, capsys):
    ok(capsys, "train", "digits", *QUICK, "--quiet", "--out", "r")
    before = {p.name: p.read_bytes() for p in (here / "r").iterdir()}
    out = ok(capsys, "train", "--resume", "r")
    assert out == "r is finished: there is nothing to go on with\n"
    assert before == {p.name: p.read_bytes() for p in (here / "r").iterdir()}


def test_event_files(here, capsys):
    events = pytest.importorskip("tensorboardX", reason="event files need tensorboardX")
    assert events
    ok(capsys, "train", "digits", *QUICK, "--quiet", "--out", "r", "--tensorboard")
    found = list((here / "r").glob("events.out.tfevents*"))
    content = b"".join(p.read_bytes() for p in found)
    for name in (b"train/loss", b"train/score", b"train/rate", b"validation/loss"):
        assert content.count(name) == 3


def test_event_files_without_the_library(here, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    assert run(["train", "digits", *QUICK, "--out", "r", "--tensorboard"]) == 1
    assert "pip install 'chainrule[tensorboard]'" in capsys.readouterr().err
    assert not (here / "r").exists()


# -- evaluate, sample, runs ---------------------------------------------------------------------


def test_evaluate(here, capsys):
    ok(capsys, "train", "digits", *QUICK, "--quiet", "--out", "r")
    test = load_run("r").result["test_score"]
    out = ok(capsys, "evaluate", "r")
    assert out.startswith("r on test part: 359 examples\n") and f"accuracy: {test:.2%}" in out
    assert "precision" in out and "class, taken for:" in out
    content = json.loads(ok(capsys, "evaluate", "r", "--json"))
    assert content["accuracy"] == test and content["examples"] == 359
    assert np.sum(content["confusion"]) == 359


def test_evaluate_a_table_of_numbers(here, capsys):
    path = flowers(here / "prices.csv", price=True)
    ok(capsys, "train", path, "--target", "price", "--epochs", "2", "--quiet", "--out", "r")
    out = ok(capsys, "evaluate", "r", path)
    assert all(name in out for name in ("R²: ", "RMSE: ", "MAE: "))
    assert set(json.loads(ok(capsys, "evaluate", "r", path, "--json"))) == {
        "data", "examples", "r2", "rmse", "mae",
    }  # fmt: skip


def test_text_from_training_to_sample(here, capsys):
    (here / "rain.txt").write_text("the rain in spain stays mainly in the plain\n" * 30)
    out = ok(capsys, "train", "text", "rain.txt", "--hidden", "24", "--epochs", "12", "--length",
             "16", "--rate", "0.02", "--quiet")  # fmt: skip
    found = re.search(r"^test loss: (\d\.\d+) nats, (\d\.\d+) bits a character$", out, re.M)
    assert found and float(found[1]) < 1.0
    assert float(found[2]) == pytest.approx(float(found[1]) / np.log(2), abs=2e-4)
    one = ok(capsys, "sample", "runs/rain-seed-0", "--length", "50", "--seed", "4")
    assert ok(capsys, "sample", "runs/rain-seed-0", "--length", "50", "--seed", "4") == one
    assert len(one) == 51 and set(one) <= set("the rain in spain stays mainly in the plain\n")
    prompted = ok(capsys, "sample", "runs/rain-seed-0", "--prompt", "the r", "--length", "4",
                  "--temperature", "0")  # fmt: skip
    assert prompted.startswith("the r") and len(prompted) == 10
    assert "nats a character: " in ok(capsys, "evaluate", "runs/rain-seed-0")
    assert run(["sample", "runs/rain-seed-0", "--prompt", "Ω"]) == 1
    assert "'Ω', is not in the alphabet" in capsys.readouterr().err
    assert run(["sample", "runs/rain-seed-0", "--prompt", ""]) == 1
    assert "the prompt is empty" in capsys.readouterr().err


def test_runs_lists_and_compares(here, capsys):
    for name, hidden in (("a", "4"), ("b", "9")):
        ok(capsys, "train", "digits", "--hidden", hidden, "--epochs", "1", "--quiet",
           "--out", f"runs/{name}")  # fmt: skip
    lines = ok(capsys, "runs", "--sort", "parameters").splitlines()
    assert [line.split()[0] for line in lines] == ["name", "runs/b", "runs/a"]
    assert all("finished" in line and "digits" in line for line in lines[1:])
    compared = ok(capsys, "runs", "runs/a", "runs/b")
    assert re.search(r"^ *training\.hidden +4 +9 *$", compared, re.M)
    assert "training.rate" not in compared
    assert "no differences" not in compared
    once = ok(capsys, "runs", "runs/a", "runs/a").splitlines()
    assert [line.split()[0] for line in once] == ["name", "runs/a"]
    shutil.copytree("runs/a", "runs/c")
    assert ok(capsys, "runs", "runs/a", "runs/c").endswith("\n\nno differences\n")
    (here / "empty").mkdir()
    assert ok(capsys, "runs", "empty") == "no runs in empty\n"


# -- explain, version, help ---------------------------------------------------------------------


def test_explain(capsys):
    out = ok(capsys, "explain", "(x + y) * z", "x=-2", "y=5", "z=-4")
    for words in ("q = x + y", "f = q * z", "distributes", "switches", "-12"):
        assert words in out


def test_explain_draws(here, capsys):
    out = ok(capsys, "explain", "x * y", "x=2", "y=1e-3", "--svg", "pictures/graph.svg")
    assert "picture written to pictures/graph.svg" in out
    assert (here / "pictures" / "graph.svg").read_text().startswith("<svg")


def test_an_expression_may_begin_with_minus(capsys):
    assert "-3" in ok(capsys, "explain", "-x", "x=3")


def test_version_and_help(capsys):
    assert ok(capsys, "--version") == f"chainrule {cr.__version__}\n"
    overview = ok(capsys, "--help")
    assert all(name in overview for name in COMMANDS)
    helps = {name: ok(capsys, name, "--help") for name in COMMANDS}
    for name in NAMES:
        assert f"--{name}" in helps["train"] or name in ("data", "files")
    for option in ("--config", "--resume"):
        assert option in helps["train"]
    assert "other things is refused" in " ".join(re.sub("[│\n]", " ", helps["train"]).split())
    for name, option in (
        ("predict", "--out"), ("explain", "--svg"), ("sample", "--temperature"),
        ("evaluate", "--json"), ("runs", "--sort"),
    ):  # fmt: skip
        assert option in helps[name]


def test_predictions_are_written_anew(here, capsys):
    path = flowers(here / "flowers.csv")
    ok(capsys, "train", path, "--target", "kind", *QUICK, "--quiet", "--out", "r")
    for _ in range(2):
        ok(capsys, "predict", "r", path, "--out", "p.csv")
    assert len((here / "p.csv").read_text().splitlines()) == 81


def test_help_loads_nothing_heavy():
    """Help is asked for often: it must not wait for the engine's rooms below."""
    code = (
        "import sys; from chainrule.cli.app import run; run(['train', '--help']); "
        "print([m for m in ('chainrule.nn', 'chainrule.data', 'chainrule.train', 'safetensors') "
        "if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env=ENVIRONMENT)  # fmt: skip
    assert done.stderr.strip() == "[]"


def test_no_command_shows_the_help(capsys):
    assert run([]) == 2
    out, err = capsys.readouterr()
    assert "explain" in out and err == ""


def test_the_lists_in_the_help_are_those_that_there_are():
    from chainrule.cli import runs as runs_command
    from chainrule.cli import train as command
    from chainrule.train import models, runs, sources

    assert tuple(models.ACTIVATIONS) == command.ACTIVATIONS
    assert tuple(options.OPTIMIZERS) == command.OPTIMIZERS
    assert tuple(options.SCHEDULES) == command.SCHEDULES
    assert options.AUGMENTS == command.AUGMENTS
    assert runs.COLUMNS == runs_command.COLUMNS
    assert set(command.OF_TRAINING) == {f.name for f in fields(options.Options)}
    assert set(command.OF_DATA) == {name for kind in sources.OPTIONS.values() for name in kind}


def test_the_defaults_in_the_help_are_those_that_there_are():
    from typer.main import get_command

    from chainrule.cli.app import app

    helps = {
        p.name: p.help for p in get_command(app).commands["train"].params if hasattr(p, "help")
    }
    found = {}
    for model in options.MODELS:
        for count in (1, options.MANY):
            for name, value in options.defaults(model, count).items():
                found.setdefault(name, set()).update(
                    value if isinstance(value, tuple) else (value,)
                )
    for name, values in found.items():
        told = {float(n) for n in re.findall(r"\d[\de.-]*\d|\d", helps[name].split("(")[-1])}
        given = values - {None, 0}
        if " to " in helps[name]:
            assert told == {min(given), max(given)}, name
        else:
            assert told >= given, name
    assert "(relu)" in helps["activation"] and options.Options().activation == "relu"


# -- as processes -------------------------------------------------------------------------------


def process(*arguments, **environment):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT | environment,
    )


def test_a_process_trains_and_another_predicts(here):
    path = flowers(here / "flowers.csv")
    done = process("train", path, "--target", "kind", *QUICK, "--out", "r")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^test accuracy: \d+\.\d %$", done.stdout, re.M)
    assert json.loads((here / "r" / "run.json").read_text())["data"]["target"] == "kind"
    done = process("predict", "r", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) > 80


def test_a_process_that_fails_says_one_line(here):
    done = process("train", "cats", "--out", "r")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: no data named 'cats'")
    assert len(done.stderr.splitlines()) == 1


def test_a_terminal_without_our_signs_is_no_error():
    done = process("explain", "x * y", "x=2", "y=3", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    done = process("explain", "x ** ∂", "x=2", PYTHONIOENCODING="ascii")
    assert done.returncode == 1 and "Traceback" not in done.stderr and "error: " in done.stderr


def test_a_reader_that_goes_away_is_no_error(here):
    path = flowers(here / "flowers.csv", rows=3000)
    assert run(["train", str(path), "--target", "kind", *QUICK, "--quiet", "--out", "r"]) == 0
    reader, writer = os.pipe()
    os.close(reader)  # as `head` does when it has seen enough
    done = subprocess.run(
        [*COMMAND, "predict", "r", str(path)],
        stdout=writer, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    ("redirected", "status", "words"),
    [(">&-", 0, ""), (">/dev/full", 1, "error: No space left on device: the output\n")],
)
@pytest.mark.parametrize("command", ["explain 'x * y' x=2 y=3", "--version"])
def test_an_output_that_is_closed_or_full(command, redirected, status, words):
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no device that is always full")
    code = "from chainrule.cli import main; main()"
    done = subprocess.run(
        f"exec '{sys.executable}' -c '{code}' {command} {redirected}",
        shell=True, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (status, words)


def test_a_failed_run_has_a_report(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = ["train", "digits", "--rate", "1e30", "--epochs", "2", "--quiet", "--out", "run"]
    assert run(given) == 1
    assert "report: run/report.html" in capsys.readouterr().out
    text = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "the loss became nan" in text and "Before the first step" in text
