"""What a user can do wrong on the command line: one clear line, an exit status, no traceback."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from chainrule.cli.app import run
from chainrule.train import Options, load_run, sources, tasks, train_csv

QUICK = ["--hidden", "8", "--epochs", "2", "--quiet"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a table and a run on it."""
    folder = tmp_path_factory.mktemp("trained")
    random = np.random.default_rng(0)
    rows = [
        f"{a:.2f},{c},{'yes' if a > 0 else 'no'}"
        for a, c in zip(random.normal(size=40), random.choice(["p", "q"], 40), strict=True)
    ]
    (folder / "table.csv").write_text("\n".join(["size,letter,answer", *rows]) + "\n")
    train_csv(folder / "table.csv", "answer", Options(hidden=(4,), epochs=1), out=folder / "run",
              progress=False)  # fmt: skip
    return folder


@pytest.fixture
def here(trained, tmp_path, monkeypatch):
    """A working directory of its own with these, and with files that are wrong."""
    folder = shutil.copytree(trained, tmp_path / "here")
    monkeypatch.chdir(folder)
    good = Path("table.csv").read_text().splitlines()
    files = {
        "empty.csv": "",
        "header.csv": "size,letter,answer\n",
        "missing.csv": "\n".join([*good[:6], ",p,yes", *good[6:]]),
        "nan.csv": "\n".join([*good[:4], "nan,q,no", *good[4:]]),
        "words.csv": "\n".join([*good[:9], "big,p,yes", *good[9:]]),
        "infinite.csv": "\n".join([*good[:9], "inf,p,yes", *good[9:]]),
        "ragged.csv": "\n".join([*good[:3], "1.0,p", *good[3:]]),
        "semicolons.csv": "\n".join(line.replace(",", ";") for line in good),
        "tiny.csv": "size,answer\n1,yes\n2,no\n",
        "one-class.csv": "size,answer\n" + "1,yes\n2,yes\n" * 9,
        "target-only.csv": "answer\n" + "yes\nno\n" * 9,
        "other-letter.csv": "size,letter\n1.0,z\n",
        "fewer.csv": "size\n1.0\n",
    }
    for name, text in files.items():
        Path(name).write_text(text)
    Path("latin.csv").write_bytes(b"size,answer\n1,caf\xe9\n")
    Path("binary.csv").write_bytes(bytes(range(256)))
    Path("file").write_text("a file")
    Path("notes.txt").write_text("words " * 99)
    Path("thesis").mkdir()
    Path("thesis", "chapter.tex").write_text("words")
    Path("broken").mkdir()
    for name in ("run.json", "model.safetensors"):
        shutil.copy(Path("run", name), "broken")
    Path("broken", "model.safetensors").write_bytes(b"\0" * 240)
    Path("newer").mkdir()
    Path("begun").mkdir()
    Path("empty").mkdir()
    Path("fake.npz").write_bytes(b"PK nothing")
    for name, text in TOML.items():
        Path(f"{name}.toml").write_text(text)
    settings = json.loads(Path("run", "run.json").read_text())
    Path("newer", "run.json").write_text(json.dumps(settings | {"format": 9}))
    settings["result"] = {"state": "running"}
    Path("begun", "run.json").write_text(json.dumps(settings))
    return folder


TOML = {
    "half": "data = ",
    "typo": 'data = "digits"\nepoch = 3\n',
    "far": "zzzzzz = 1\n",
    "word": 'epochs = "ten"\n',
    "whole": "batch = 3.5\n",
    "truth": "rate = true\n",
    "sizes": 'hidden = ["a"]\n',
    "table": "[training]\nepochs = 3\n",
}
TRAIN = ["train", "table.csv", "--target", "answer", *QUICK]
MISTAKES = {
    # the data
    "unknown data": (["train", "cats"], 1, "no data named 'cats': use digits, fashion-mnist, mnis"),
    "no target": (["train", "table.csv"], 1, "chainrule train table.csv --target COLUMN"),
    "a text": (["train", "notes.txt"], 1, "for a model of a text: chainrule train text notes.txt"),
    "one array": (["train", "x.npy"], 1, "into one file with numpy.savez('data.npz', x=inputs, y="),
    "no file": (["train", "no.csv", "--target", "y"], 1, "no.csv: cannot be read: No such file"),
    "a folder": (["train", "thesis", "--target", "y"], 1, "target 'y' is for table, not for image"),
    "a folder without classes": (["train", "thesis"], 1, "thesis: no folder in it; image_folder"),
    "no data": (["train"], 1, "name the data, for example: chainrule train digits; or --resume RU"),
    "no text": (["train", "text"], 1, "name the text: chainrule train text FILE"),
    "short text": (["train", "text", "file"], 1, "a window of length 64 takes 65"),
    "length zero": (["train", "text", "file", "--length", "0"], 1, "length must be at least 1"),
    "no such text": (["train", "text", "none.txt"], 1, "none.txt: "),
    "no such npz": (["train", "none.npz"], 1, "none.npz: "),
    "an npz that is none": (["train", "fake.npz"], 1, "fake.npz: no .npz file, or damaged"),
    "mnist in an empty folder": (["train", "mnist", "--folder", "empty"], 1, "empty: no file trai"),
    "length of digits": (["train", "digits", "--length", "3"], 1, "length 3 is for text, not for "),
    "size of three": (["train", "thesis", "--size", "1,2,3"], 1, "size is height,width, received"),
    "other column": (
        ["train", "table.csv", "--target", "anwser"], 1, "no column 'anwser'; nearest: 'answer'",
    ),
    "ignored column": (
        [*TRAIN, "--ignore", "sise"], 1, "no column 'sise'; nearest: 'size'",
    ),
    "ignored target": (
        [*TRAIN, "--ignore", "answer"], 1, "'answer' is the column to predict: it cannot be ignor",
    ),
    "digits have a target": (["train", "digits", "--target", "x"], 1, "'x' is for table, not for"),
    "other task": ([*TRAIN, "--task", "clustering"], 1, "task is classification or regression"),
    "text as numbers": ([*TRAIN, "--task", "regression"], 1, "line 2, column 'answer': "),
    "missing value": (
        ["train", "missing.csv", "--target", "answer"], 1,
        "missing.csv, line 7, column 'size': '' is a missing value; fill it in, or remove",
    ),
    "nan": (
        ["train", "nan.csv", "--target", "answer"], 1, "line 5, column 'size': 'nan' is a missing",
    ),
    "a word among numbers": (
        ["train", "words.csv", "--target", "answer"], 1,
        "line 10, column 'size': 'big' is not a number, but 40 of 41 values in the column are",
    ),
    "infinite": (
        ["train", "infinite.csv", "--target", "answer"], 1, "line 10, column 'size': 'inf' is inf",
    ),
    "empty": (["train", "empty.csv", "--target", "y"], 1, "empty.csv: the file is empty"),
    "header only": (["train", "header.csv", "--target", "answer"], 1, "a header and no rows"),
    "ragged": (
        ["train", "ragged.csv", "--target", "answer"], 1,
        "line 4: 2 values, but the header has 3 columns",
    ),
    "semicolons": (
        ["train", "semicolons.csv", "--target", "answer"], 1, "separated by ';'; use commas",
    ),
    "latin-1": (["train", "latin.csv", "--target", "answer"], 1, "line 2: not UTF-8 text"),
    "binary": (["train", "binary.csv", "--target", "answer"], 1, "binary.csv, line "),
    "too few rows": (
        ["train", "tiny.csv", "--target", "answer"], 1, "part of 2 examples by fractions",
    ),
    "one class": (
        ["train", "one-class.csv", "--target", "answer"], 1, "a target needs two or more classes",
    ),
    "no inputs": (
        ["train", "target-only.csv", "--target", "answer"], 1, "no column besides the target",
    ),
    # the settings
    "activation": (
        [*TRAIN, "--activation", "rely"], 1, "unknown activation 'rely'; one of relu, tanh",
    ),
    "optimizer": ([*TRAIN, "--optimizer", "adm"], 1, "unknown optimizer 'adm'; one of sgd, mom"),
    "loss": ([*TRAIN, "--loss", "mse"], 1, "unknown loss 'mse'; one of softmax, hinge, squared"),
    "loss of the other task": ([*TRAIN, "--loss", "squared"], 1, "use softmax or hinge"),
    "sizes": ([*TRAIN, "--hidden", "8,x"], 1, "takes sizes like 512 or 128,64; received '8,x'"),
    "size 0": ([*TRAIN, "--hidden", "0"], 1, "hidden sizes must be from 1 to 1,000,000, received"),
    "size -1": ([*TRAIN, "--hidden=-1"], 1, "hidden sizes must be from 1"),
    "rate 0": ([*TRAIN, "--rate", "0"], 1, "rate must be above 0"),
    "rate nan": ([*TRAIN, "--rate", "nan"], 1, "rate must be above 0"),
    "batch": ([*TRAIN, "--batch", "0"], 1, "batch must be at least 1, received 0"),
    "epochs": ([*TRAIN, "--epochs", "-2"], 1, "epochs must be at least 0, received -2"),
    "patience": ([*TRAIN, "--patience", "0"], 1, "patience must be at least 1"),
    "penalty": ([*TRAIN, "--penalty", "-1"], 1, "penalty must be at least 0"),
    "seed": ([*TRAIN, "--seed", "-1"], 1, "seed must be a whole number"),
    "huge seed": ([*TRAIN, "--seed", str(10**30)], 1, "from 0 to 2**64 - 1"),
    "a rate that explodes": (
        [*TRAIN, "--rate", "1e38", "--optimizer", "sgd", "--epochs", "9"], 1,
        "try a smaller rate (now ",
    ),
    "no number": ([*TRAIN, "--epochs", "many"], 2, "'--epochs': "),
    "unknown option": ([*TRAIN, "--epoch", "3"], 2, "No such option: --epoch"),
    "unknown command": (["tain", "digits"], 2, "No such command 'tain'"),
    "model": ([*TRAIN, "--model", "transformer"], 1, "unknown model 'transformer'; one of mlp, li"),
    "model of text": ([*TRAIN, "--model", "lstm"], 1, "model 'lstm' does not fit this data (class"),
    "model of pictures": (
        ["train", "table.csv", "--target", "answer", "--model", "cnn"], 1, "are no pictures",
    ),
    "hidden layers of a linear": ([*TRAIN, "--model", "linear"], 1, "hidden is no option of the m"),
    "channels of an mlp": ([*TRAIN, "--channels", "3"], 1, "channels is no option of the model 'm"),
    "schedule": ([*TRAIN, "--schedule", "cosin"], 1, "unknown schedule 'cosin'; one of constant, "),
    "augment": (
        ["train", "digits", "--augment", "shfit"], 1, "unknown augment 'shfit'; one of shift, crop",
    ),
    "augment by what": (
        ["train", "digits", "--augment", "shift:far"], 1, "augment takes shift, crop, flip and noi",
    ),
    "augmented table": ([*TRAIN, "--augment", "flip"], 1, "are no pictures (examples of shape"),
    "clip": ([*TRAIN, "--clip", "0"], 1, "clip must be above 0 and finite, received 0.0"),
    "average": ([*TRAIN, "--average", "1"], 1, "average must be from 0 to below 1, received 1.0"),
    "accumulate": ([*TRAIN, "--accumulate", "0"], 1, "accumulate must be at least 1, received 0"),
    "too many halvings": (
        ["train", "digits", "--model", "cnn", "--channels", "2,2,2,2"], 1,
        "images of 8×8 cannot be halved 4 times: give fewer channels",
    ),
    "a model of 4 TB": (
        [*TRAIN[:4], "--hidden", "1000000,1000000"], 1, "numbers, more than 4,294,967,296: make it",
    ),
    # options in a file
    "no config": (["train", "--config", "none.toml"], 1, "none.toml: cannot be read: No such file"),
    "no TOML": (["train", "--config", "table.csv"], 1, "table.csv is no TOML file: "),
    "half a TOML": (["train", "--config", "half.toml"], 1, "half.toml is no TOML file: "),
    "binary TOML": (["train", "--config", "binary.csv"], 1, "binary.csv is no TOML file: "),
    "unknown in TOML": (
        ["train", "--config", "typo.toml"], 1,
        "typo.toml: unknown option 'epoch'; nearest: 'epochs'",
    ),
    "far out in TOML": (
        ["train", "--config", "far.toml"], 1, "unknown option 'zzzzzz'; there are model, hidden",
    ),
    "a word for a number": (
        ["train", "--config", "word.toml"], 1, "epochs must be a whole number, received 'ten'",
    ),
    "a fraction for a whole": (
        ["train", "--config", "whole.toml"], 1, "batch must be a whole number, received 3.5",
    ),
    "a truth for a number": (
        ["train", "--config", "truth.toml"], 1, "rate must be a number, received True",
    ),
    "a list of words for sizes": (
        ["train", "--config", "sizes.toml"], 1, "hidden must be a list of whole numbers, received",
    ),
    "a table in TOML": (["train", "--config", "table.toml"], 1, "unknown option 'training'"),
    # going on
    "resume nothing": (["train", "--resume", "nowhere"], 1, "no run folder at nowhere: give the f"),
    "resume an empty folder": (["train", "--resume", "empty"], 1, "empty has no run.json: it is n"),
    "resume other things": (["train", "--resume", "thesis"], 1, "thesis has no run.json"),
    "resume a file": (["train", "--resume", "file"], 1, "no run folder at file"),
    "resume a newer run": (["train", "--resume", "newer"], 1, "format 9, this version reads up to"),
    "resume with another rate": (
        ["train", "--resume", "run", "--rate", "0.5"], 1,
        "the run has rate 0.002, and 0.5 was given: leave it out to resume",
    ),
    "resume with another model": (
        ["train", "--resume", "run", "--model", "linear"], 1, "the run has model 'mlp', and 'linea",
    ),
    "resume with other layers": (
        ["train", "--resume", "run", "--hidden", "5"], 1, "the run has hidden [4], and [5] was giv",
    ),
    "resume with other data": (
        ["train", "digits", "--resume", "run"], 1, "the run has kind 'table', and 'digits' was giv",
    ),
    "resume with another target": (
        ["train", "--resume", "run", "--target", "size"], 1, "the run has target 'answer', and 'si",
    ),
    "resume elsewhere": (
        ["train", "--resume", "run", "--out", "new"], 1, "--resume goes on in run: leave out --out",
    ),
    # evaluate, sample, runs
    "evaluate nothing": (["evaluate", "nowhere"], 1, "no run folder at nowhere"),
    "evaluate on nothing": (["evaluate", "run", "no.csv"], 1, "no.csv: cannot be read"),
    "evaluate without the target": (
        ["evaluate", "run", "other-letter.csv"], 1, "other-letter.csv",
    ),
    "evaluate on other things": (
        ["evaluate", "run", "digits"], 1, "not measured on digits: it takes a table (.csv, .parqu",
    ),
    "evaluate before the first step": (
        ["evaluate", "begun"], 1, "no checkpoint.safetensors: resume it with chainrule train --res",
    ),
    "evaluate a damaged run": (["evaluate", "broken"], 1, "broken/model.safetensors is damaged"),
    "sample a table": (["sample", "run"], 1, "this run is no model of text"),
    "sample nothing": (["sample", "nowhere"], 1, "no run folder at nowhere"),
    "runs of nothing": (["runs", "nowhere"], 1, "no folder at nowhere: give the one that holds"),
    "runs by nothing": (["runs", "empty", "--sort", "size"], 1, "cannot sort by 'size'; one of na"),
    "compare with nothing": (["runs", "run", "empty"], 1, "empty has no run.json"),
    # the run folder
    "a file": ([*TRAIN, "--out", "file"], 1, "file is a file: give the name of a folder"),
    "below a file": ([*TRAIN, "--out", "file/run"], 1, "cannot write file/run/run.json"),
    "other things": ([*TRAIN, "--out", "thesis"], 1, "thesis is not empty and holds no run"),
    # predict
    "no run": (["predict", "nowhere", "table.csv"], 1, "no run folder at nowhere: give the folder"),
    "other folder": (["predict", "thesis", "table.csv"], 1, "thesis has no run.json"),
    "damaged run": (["predict", "broken", "table.csv"], 1, "broken/model.safetensors is damaged"),
    "newer run": (["predict", "newer", "table.csv"], 1, "format 9, this version reads up to 2"),
    "no table": (["predict", "run", "no.csv"], 1, "no.csv: cannot be read: No such file"),
    "fewer columns": (["predict", "run", "fewer.csv"], 1, "no column 'letter'"),
    "unknown category": (
        ["predict", "run", "other-letter.csv"], 1,
        "line 2, column 'letter': 'z' is not one of the known: 'p', 'q'",
    ),
    "missing to predict": (["predict", "run", "missing.csv"], 1, "line 7, column 'size': ''"),
    "over the input": (
        ["predict", "run", "table.csv", "--out", "table.csv"], 1, "is the file to predict from",
    ),
    "over other things": (
        ["predict", "run", "table.csv", "--out", "words.csv"], 1,
        "words.csv is there and holds no predictions: give another name",
    ),
    "out below a file": (
        ["predict", "run", "table.csv", "--out", "file/p.csv"], 1, "cannot write file/p.csv",
    ),
    "out a folder": (
        ["predict", "run", "table.csv", "--out", "thesis"], 1, "cannot write thesis: Is a direct",
    ),
    "no file to predict": (["predict", "run"], 2, "Missing argument 'FILE...'"),
    # explain
    "bad value": (["explain", "x * y", "x=two", "y=3"], 1, "value of x is not a number: 'two'"),
    "no equals": (["explain", "x * y", "x", "y=3"], 1, "give values as name=number, for example"),
    "twice": (["explain", "x * y", "x=1", "x=2"], 1, "x is given twice"),
    "no expression": (["explain"], 2, "Missing argument 'expression'"),
    "picture below a file": (
        ["explain", "x * y", "x=1", "y=2", "--svg", "file/g.svg"], 1, "cannot write file/g.svg",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "status", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line(here, capsys, arguments, status, words):
    before = snapshot(here)
    assert run(arguments) == status
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and words in err, err
    assert err.count("\n") == 1 and "Traceback" not in err + out
    assert out == "" or arguments[0] != "runs"
    assert snapshot(here) == before


def snapshot(folder):
    """All files below a folder but the ones that a failed training may leave in its own."""
    return {
        str(path): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "runs" not in path.parts
    }


EXPRESSIONS = {
    "unreadable": (["x +", "x=1"], "the expression cannot be read"),
    "no value": (["x * y", "x=1"], "no value for 'y'"),
    "unused value": (["x * x", "x=1", "y=2"], "a value was given for 'y'"),
    "unknown function": (["sine(x)", "x=1"], "unknown function 'sine'"),
    "code": (["__import__('os').system('true')", "x=1"], "only functions can be called"),
    "a word": (["x.real", "x=1"], "names have no parts"),
    "empty": (["", "x=1"], "the expression is empty"),
}


@pytest.mark.parametrize(("arguments", "words"), EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_a_bad_expression_is_shown_with_its_place(capsys, arguments, words):
    assert run(["explain", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and words in err.splitlines()[0], err
    assert "Traceback" not in err and err.count("\n") <= 3


def test_too_little_memory_is_said_in_a_line(here, capsys, monkeypatch):
    def large(*args, **kwargs):
        raise MemoryError("Unable to allocate 3.64 TiB")

    monkeypatch.setattr(tasks, "build", large)
    assert run(TRAIN) == 1
    assert capsys.readouterr().err == "error: not enough memory: Unable to allocate 3.64 TiB\n"


def test_a_system_that_refuses_is_said_in_a_line(here, capsys, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(24, "Too many open files", "table.csv")

    monkeypatch.setattr(sources, "split_csv", refuse)
    assert run(TRAIN) == 1
    assert capsys.readouterr().err == "error: Too many open files: table.csv\n"


def test_a_bug_of_ours_is_not_hidden(monkeypatch):
    def broken(*args, **kwargs):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(tasks, "load", broken)
    with pytest.raises(ZeroDivisionError, match="ours"):
        run(["train", "digits"])


# -- Ctrl-C -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["evaluate", "load"])
def test_ctrl_c_before_and_after_training(here, capsys, monkeypatch, name):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tasks, name, interrupt)
        assert run([*TRAIN, "--out", "new"]) == 130
    out, err = capsys.readouterr()
    assert err == "stopped\n" and "Traceback" not in out
    if name == "evaluate":  # trained, but not tested
        assert load_run("new").result["state"] == "interrupted"
        assert run(["train", "--resume", "new"]) == 0
        assert "test accuracy: " in capsys.readouterr().out
    else:
        assert not os.path.exists("new")


def test_ctrl_c_in_other_commands(here, capsys, monkeypatch):
    import chainrule.train

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(chainrule.train, "predict", interrupt)
    assert run(["predict", "run", "table.csv"]) == 130
    assert capsys.readouterr() == ("", "stopped\n")
