"""Every kind of data, from the name on the command line to a trained, tested, resumed run."""

import gzip
import json
import signal

import numpy as np
import pytest

from chainrule.data import write_idx
from chainrule.errors import DataError, RunError
from chainrule.train import Options, load_run, resume, train
from chainrule.train.report import report
from chainrule.train.sources import KINDS, OPTIONS, describe, image_shape, load, name_of

TEXT = "so we beat on, boats against the current, borne back ceaselessly into the past. " * 12


def pictures(folder, names, count):
    """Two classes of 28×28 pictures in idx files: bright above, bright below."""
    random = np.random.default_rng(0)
    for what, n in zip(names, (count, count // 4), strict=True):
        y = np.arange(n, dtype=np.uint8) % 2
        x = random.integers(0, 60, (n, 28, 28), np.uint8)
        for k in range(n):
            x[k, 14 * y[k] : 14 * y[k] + 14] += 150
        write_idx(folder / f"{what}-images-idx3-ubyte", x)
        write_idx(folder / f"{what}-labels-idx1-ubyte", y)


def make(kind, folder):
    """The arguments of `describe` for small data of a kind, and settings to train on it."""
    tiny = Options(epochs=2, batch=16, hidden=(4,))
    if kind == "digits":
        return ("digits", {}), Options(epochs=1, batch=200, hidden=(4,))
    if kind in ("mnist", "fashion-mnist"):
        folder = folder / kind
        folder.mkdir()
        pictures(folder, ("train", "t10k"), 96)
        return (kind, {"folder": str(folder)}), Options(epochs=2, batch=16, model="linear")
    if kind == "table":
        rows = [f"{k % 7},{'ab'[k % 2]},{k % 2}" for k in range(60)]
        (folder / "t.csv").write_text("\n".join(["x,letter,y", *rows]))
        return (str(folder / "t.csv"), {"target": "y", "ignore": ("x",)}), tiny
    if kind == "npz":
        y = np.arange(60) % 3
        x = np.zeros((60, 6, 6), np.uint8)
        x[np.arange(60), y] = 255
        np.savez(folder / "d.npz", x=x, y=y)
        return (str(folder / "d.npz"), {}), Options(
            epochs=2, batch=16, channels=(2,), hidden=(4,), augment=("shift", "noise:0.01")
        )
    if kind == "images":
        image = pytest.importorskip("PIL.Image", reason="folders of pictures need Pillow")
        for k in range(24):
            place = folder / "pets" / ("cat", "dog")[k % 2]
            place.mkdir(parents=True, exist_ok=True)
            pixels = np.full((8, 6), 40 + 150 * (k % 2), np.uint8)
            image.fromarray(pixels).save(place / f"{k}.png")
        settings = {"gray": True, "size": (4, 5)}
        return (str(folder / "pets"), settings), Options(
            epochs=2, batch=4, hidden=(3,), channels=(2,)
        )
    assert kind == "text"
    (folder / "book.txt").write_text(TEXT)
    about = {"files": (str(folder / "book.txt"),), "length": 12}
    return ("text", about), Options(epochs=1, hidden=(6,), embedding=3, batch=16)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_on_each_kind_of_data(kind, tmp_path):
    (data, about), options = make(kind, tmp_path)
    source = describe(data, 0, **about)
    assert source["kind"] == kind and json.loads(json.dumps(source)) == source
    whole = train(source, options, out=tmp_path / "whole", progress=False)
    run = load_run(tmp_path / "whole")
    assert run.result["state"] == "finished" and run.result["test_loss"] == whole.test_loss

    class Stop:
        def start(self, *args): ...
        def epoch(self, *args): ...
        def stop(self): ...
        def step(self, examples):
            signal.raise_signal(signal.SIGINT)

    halted = train(source, options, out=tmp_path / "run", progress=Stop())
    assert halted.history.interrupted
    halted = resume(tmp_path / "run", source={"kind": kind}, progress=False)
    assert halted.test_loss == whole.test_loss
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("run", "whole")]
    assert files[0] == files[1]
    found = report(run)
    assert found.data == "test part" and found.examples >= 5
    if kind == "text":
        assert found.measures["nats"] == pytest.approx(run.result["test_loss"], rel=1e-12)
    else:
        assert found.measures["accuracy"] == run.result["test_score"]


def test_the_hidden_part_is_not_the_test_part(tmp_path):
    (data, about), _ = make("mnist", tmp_path)
    parts = load(describe(data, 0, **about))
    assert [len(p) for p in (parts.train, parts.validation, parts.test)] == [48, 48, 24]
    again = load(describe(data, 1, **about))
    assert parts.fingerprint() != again.fingerprint()
    assert parts.test.fingerprint() == again.test.fingerprint()
    assert parts.fingerprint() == load(describe(data, 0, **about)).fingerprint()


def test_names_of_runs(tmp_path):
    named = {kind: name_of({"kind": kind}) for kind in ("digits", "mnist", "fashion-mnist")}
    assert all(kind == name for kind, name in named.items())
    assert name_of({"kind": "table", "path": "a/houses.csv"}) == "houses"
    assert name_of({"kind": "text", "paths": ["x/book.txt", "y"]}) == "book"


def test_each_kind_has_options():
    assert OPTIONS.keys() == KINDS.keys()


def test_a_parquet_table_is_a_table(tmp_path):
    arrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    from pyarrow import parquet

    columns = {"x": [k % 7 for k in range(60)], "y": ["ab"[k % 2] for k in range(60)]}
    parquet.write_table(arrow.table(columns), tmp_path / "t.parquet")
    source = describe(str(tmp_path / "t.parquet"), 0, target="y")
    outcome = train(source, Options(epochs=1, hidden=(2,)), progress=False)
    assert outcome.run.classes == ("a", "b")


def test_damaged_files_say_what_is_wrong(tmp_path):
    (data, about), options = make("mnist", tmp_path)
    images = tmp_path / "mnist" / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-1])
    with pytest.raises(DataError, match="train-images-idx3-ubyte"):
        train(describe(data, 0, **about), options, progress=False)
    images.unlink()
    packed = images.with_name(images.name + ".gz")
    packed.write_bytes(gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12))
    with pytest.raises(DataError, match="train-images-idx3-ubyte.gz"):
        train(describe(data, 0, **about), options, progress=False)


def test_a_class_without_examples(tmp_path):
    pytest.importorskip("PIL.Image", reason="folders of pictures need Pillow")
    (data, about), options = make("images", tmp_path)
    (tmp_path / "pets" / "fish").mkdir()
    with pytest.raises(DataError, match="fish: a class with no examples"):
        train(describe(data, 0, **about), options, progress=False)


def test_a_class_that_is_not_in_the_test_part(tmp_path):
    """Its rates are not defined, and are said so; nothing breaks."""
    np.savez(tmp_path / "d.npz", x=np.eye(40, 3), y=np.array([2, *[0, 1] * 19, 0]))
    source = describe(str(tmp_path / "d.npz"), 0)
    outcome = train(source, Options(epochs=1, hidden=()), progress=False)
    rates = report(outcome.run).json()["classes"]
    assert rates[2]["support"] == 0 and rates[2]["recall"] is None


def test_sources_that_a_file_invents():
    for source in ({}, {"kind": 3}, {"kind": ["digits"]}):
        with pytest.raises(RunError, match="unknown kind of data"):
            load(source)
    for source in ({"kind": "digits"}, {"kind": "text", "paths": 7}, {"kind": "table", "path": 1}):
        with pytest.raises((RunError, DataError)):
            load(source)


def test_pictures_are_found():
    from chainrule.data import arrays, digits

    assert image_shape(digits()) == (8, 8, 1)
    with pytest.raises(RunError, match="are no pictures"):
        image_shape(arrays(np.ones((4, 3)), np.zeros(4, int)))
