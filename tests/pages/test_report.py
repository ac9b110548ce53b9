"""Reports: of every kind of run, of damaged and old folders, within their size, and safe."""

from __future__ import annotations

import csv
import html
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chainrule.cli.app import run
from chainrule.errors import RunError
from chainrule.explain.picture import escape
from chainrule.pages import report, sections
from chainrule.train import Options, train
from chainrule.train.run import GRADIENTS, METRICS, SETTINGS
from chainrule.train.sources import describe
from tests.pages.checking import checked

BYTES = 400_000


def made(folder: Path, data: str, about: dict[str, Any] | None = None, **options: Any) -> Path:
    train(describe(data, 0, **(about or {})), Options(**options), out=folder, progress=False)
    return folder


def read(folder: Path) -> str:
    return report(folder).read_text("utf-8")


def without_pictures(text: str) -> int:
    return len(re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", text))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("runs") / "digits", "digits", hidden=(16,), epochs=4)


def ids(folder: Path) -> list[str]:
    return [s.id for s in sections(folder)]


def test_the_digits_run_has_all_its_parts(digits: Path) -> None:
    text = read(digits)
    page = checked(text)
    assert ids(digits) == [
        "summary", "curves", "diagnosis", "flow", "confusion", "templates", "network", "activation",
        "graph", "settings",
    ]  # fmt: skip
    assert without_pictures(text) < BYTES
    shown = " ".join(page.text)
    for words in ("test accuracy", "Most wrong of", "A 2-layer net", "chainrule train digits",
                  "Gradient of the weights", "derivative", "Nothing is wrong"):  # fmt: skip
        assert words in shown, words
    assert "default-src 'none'" in text and 'class="skip"' in text


def test_a_linear_classifier_shows_a_template_a_class(tmp_path: Path) -> None:
    folder = made(tmp_path / "run", "digits", model="linear", epochs=2)
    text = read(folder)
    checked(text)
    assert "One template a class" in text and "template of 7" in text
    assert "activation" not in ids(folder)


def test_convolutions(tmp_path: Path) -> None:
    folder = made(tmp_path / "run", "digits", model="cnn", channels=(4,), hidden=(8,), epochs=1)
    text = read(folder)
    checked(text)
    assert "filter of unit 3" in text and "network" not in ids(folder)


def plane(path: Path, kind: str) -> Path:
    random = np.random.default_rng(0)
    x = random.normal(size=(240, 2))
    inside = (x**2).sum(1) < 1.2
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "label"])
        for (a, b), ring in zip(x, inside, strict=True):
            label = ('in <ring> & "co"' if ring else "out") if kind == "class" else a * b
            writer.writerow([a, b, label])
    return path


def test_two_inputs_have_a_boundary_and_names_are_escaped(tmp_path: Path) -> None:
    data = plane(tmp_path / "ring.csv", "class")
    folder = made(tmp_path / "run", str(data), {"target": "label"}, hidden=(8,), epochs=5)
    text = read(folder)
    page = checked(text)
    assert "boundary" in ids(folder) and "<ring>" not in text
    assert "in <ring>" in " ".join(page.text)


def test_regression_shows_predicted_and_true(tmp_path: Path) -> None:
    data = plane(tmp_path / "plane.csv", "number")
    folder = made(tmp_path / "run", str(data), {"target": "label"}, hidden=(8,), epochs=3)
    checked(read(folder))
    assert "predicted" in ids(folder) and "confusion" not in ids(folder)


def test_text_shows_what_it_writes(tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    book.write_text("one <two> & three\n" * 300)
    folder = made(tmp_path / "run", "text", {"files": (str(book),)}, hidden=(8,), epochs=1)
    text = read(folder)
    checked(text)
    assert "sample" in ids(folder) and "graph" in ids(folder)


def test_old_folders_and_moved_data_say_what_is_missing(digits: Path, tmp_path: Path) -> None:
    data = plane(tmp_path / "ring.csv", "class")
    folder = made(tmp_path / "run", str(data), {"target": "label"}, hidden=(4,), epochs=1)
    for name in (GRADIENTS, "diagnosis.json", METRICS):
        (folder / name).unlink()
    data.unlink()
    text = read(folder)
    checked(text)
    assert "not shown: " in text and "flow" not in ids(folder)


def test_nan_and_infinity_in_metrics(digits: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for path in digits.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    rows = (folder / METRICS).read_text().splitlines()
    first = rows[1].split(",")
    first[1:3] = ["nan", "inf"]
    (folder / METRICS).write_text("\n".join([rows[0], ",".join(first), *rows[2:]]) + "\n")
    checked(read(folder))


def test_what_stands_in_a_folder_is_never_trusted(digits: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for path in digits.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    bad = "<script>alert(1)</script>"
    found = {"name": bad, "severity": 'x" onclick="', "where": bad, "text": bad, "advice": bad}
    layers = [{"name": bad, "activation": "1", "dead": 0.5}, 3]
    (folder / "diagnosis.json").write_text(
        json.dumps({"end": {"findings": [found, 7], "layers": layers}, "start": []})
    )
    settings = json.loads((folder / SETTINGS).read_text())
    settings["result"]["stopped"] = bad
    (folder / SETTINGS).write_text(json.dumps(settings))
    text = read(folder)
    checked(text)
    assert bad not in text


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run folder"):
        report(tmp_path / "missing")


def test_many_classes_and_long_names(tmp_path: Path) -> None:
    from chainrule.pages.seen import CLASSES, confusion

    random = np.random.default_rng(0)
    true, taken = random.integers(0, 100, (2, 3000))
    text = confusion([f"class {k}" for k in range(100)], true, taken)
    assert text.count("<tr>") == CLASSES + 1 and "30 of 100 classes" in text


def table(path: Path) -> str:
    rows = "".join(f"{k},{k * k % 7},{'ab'[k % 2]},{k % 3}\n" for k in range(40))
    (path / "my table.csv").write_text("w,h,c,k\n" + rows)
    return "my table.csv"


COMMANDS = {
    "digits": lambda path: ["digits", "--hidden", "5,4", "--eager", "--clip", "0.5"],
    "linear": lambda path: ["digits", "--model", "linear", "--loss", "hinge"],
    "nothing hidden": lambda path: ["digits", "--hidden", "", "--seed", "3"],
    "table": lambda path: [
        table(path), "--target", "k", "--task", "regression", "--ignore", "c", "--ignore", "h",
        "--hidden", "4",
    ],
    "text": lambda path: [
        "text", table(path), "--level", "byte", "--length", "5", "--hidden", "4", "--embedding",
        "3", "--layers", "1", "--batch", "2",
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", COMMANDS)
def test_the_command_repeats_the_run(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    common = ["--epochs", "1", "--quiet", "--out"]
    assert run(["train", *COMMANDS[kind](tmp_path), *common, "one"]) == 0
    text = html.unescape(read(tmp_path / "one"))
    shown = re.findall(r"<pre>(chainrule train .*?)</pre>", text)[0]
    assert run([*shlex.split(shown)[1:], "--quiet", "--out", "two"]) == 0
    one, two = (json.loads((tmp_path / name / SETTINGS).read_text()) for name in ("one", "two"))
    assert one["data"] == two["data"] and one["training"] == two["training"]
    assert (tmp_path / "one" / "model.safetensors").read_bytes() == (
        tmp_path / "two" / "model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize(("name", "text"), [
    (GRADIENTS, "epoch,layer,activation,upstream,weight,gradient,dead,saturated\n1\n"),
    ("diagnosis.json", '{"end": {"findings": 5, "layers": [{"dead": 1e999, "name": 3}, 4]}}'),
    ("diagnosis.json", '{"end": {"layers": [{"dead": ' + "9" * 400 + "}]}}"),
    (METRICS, None),
])  # fmt: skip
def test_damaged_files_leave_the_rest(digits: Path, name: str, text: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(digits, folder)
    if text is None:
        text = (digits / name).read_text().replace("\n1,", "\nnan,", 1)
    (folder / name).write_text(text)
    assert "Settings, and how to repeat it" in read(folder)


def test_tabs_and_spaces_of_a_text_stay() -> None:
    assert escape("a\tb\u00a0c\u200d") == "a\tb\u00a0c\u200d" and escape("\x00\ufffe") == "□□"


def test_the_graph_of_a_network_of_convolutions(tmp_path: Path) -> None:
    text = read(made(tmp_path / "run", "digits", model="cnn", epochs=1, channels=(2,), hidden=(4,)))
    assert "not shown" not in text and 'id="walk"' in text
