"""Predictions of a run for tables, pictures, folders of them and arrays."""

import zlib

import numpy as np
import pytest
from PIL import Image

from chainrule.cli.app import run as command
from chainrule.errors import DataError, RunError
from chainrule.train import Options, load_run, predict, train
from chainrule.train.sources import describe

QUICK = Options(hidden=(8,), epochs=40, rate=0.02)


def trained(data, out, **about):
    return train(describe(str(data), 0, **about), QUICK, out=out, progress=False).run


def draw(path, light, size=(6, 6), mode="RGB"):
    """A picture that is light or dark, with some noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(zlib.crc32(path.name.encode())).integers(0, 60, (*size, 3))
    Image.fromarray((noise + 190 * light).astype(np.uint8)).convert(mode).save(path)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """(folder of new pictures, run on dark and light ones)"""
    root = tmp_path_factory.mktemp("pictures")
    for k in range(20):
        draw(root / "known" / "day" / f"{k}.png", True)
        draw(root / "known" / "night" / f"{k}.png", False)
    draw(root / "new" / "b.png", True)
    draw(root / "new" / "a.jpg", False)
    draw(root / "new" / "deeper" / "c.BMP", True, mode="L")
    draw(root / "new" / ".hidden.png", True)
    (root / "new" / "notes.txt").write_text("no picture")
    trained(root / "known", root / "run")
    return root


def test_pictures_and_folders(pictures, monkeypatch):
    run = load_run(pictures / "run")
    monkeypatch.chdir(pictures)
    expected = {"new/a.jpg": "night", "new/b.png": "day", "new/deeper/c.BMP": "day"}
    rows = predict(run, ["new"])
    assert rows == [{"file": f, "prediction": p} for f, p in expected.items()]
    assert predict(run, ["new/b.png"]) == [rows[1]]
    assert predict(run, ["new/b.png", "new"]) == [rows[1], *rows]


def test_from_the_command_line(pictures, monkeypatch, capsys):
    monkeypatch.chdir(pictures)
    assert command(["predict", "run", "new", "new/b.png"]) == 0
    lines = ["file,prediction", "new/a.jpg,night", "new/b.png,day", "new/deeper/c.BMP,day"]
    text = "\n".join([*lines, "new/b.png,day\n"])
    assert capsys.readouterr() == (text, "")
    for _ in range(2):  # a file of predictions is replaced
        assert command(["predict", "run", "new", "new/b.png", "--out", "p.csv"]) == 0
        assert capsys.readouterr().out == "4 predictions written to p.csv\n"
        assert (pictures / "p.csv").read_text() == text
    (pictures / "mine.csv").write_text("id,prediction\n1,mine\n")
    assert command(["predict", "run", "new", "--out", "mine.csv"]) == 1
    assert "holds no predictions" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("files", "error", "words"),
    [
        (["new", "table.csv"], RunError, "2 files: give one table"),
        ([], RunError, "0 files: give one table"),
        (["table.csv"], RunError, "no recipe for the columns of a table: give it pictures"),
        (["empty"], DataError, r"empty: no picture in it \(\.png"),
        (["large.png"], RunError, "large.png has 9×7×3 numbers .* takes 6×6×3: resize"),
        (["large.png", "new"], DataError, "large.png has 9×7 pixels"),
        (["damaged.png"], DataError, "damaged.png: cannot be read as a picture"),
        (["nowhere.png"], DataError, "nowhere.png: cannot be read"),
        (["other.npz"], DataError, "other.npz: no array 'x'; there are: 'z'"),
        (["flat.npz"], RunError, r"flat.npz: x has shape \(4, 5\), this run takes \(n, 6, 6, 3\)"),
        (["none.npz"], RunError, r"none.npz: x has shape \(0, 108\)"),
        (["nan.npz"], DataError, "nan.npz: .*finite"),
    ],
)
def test_what_is_refused(pictures, monkeypatch, files, error, words):
    monkeypatch.chdir(pictures)
    (pictures / "table.csv").write_text("a,b\n1,2\n")
    (pictures / "empty").mkdir(exist_ok=True)
    (pictures / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    draw(pictures / "large.png", True, (9, 7))
    np.savez(pictures / "other.npz", z=np.zeros(3))
    np.savez(pictures / "flat.npz", x=np.zeros((4, 5)))
    np.savez(pictures / "none.npz", x=np.zeros((0, 108)))
    np.savez(pictures / "nan.npz", x=np.full((1, 108), np.nan))
    with pytest.raises(error, match=words):
        predict(load_run("run"), files)


def test_pictures_are_resized_and_gray_as_in_training(tmp_path):
    for k in range(12):
        draw(tmp_path / "known" / "day" / f"{k}.png", True, (9 + k, 8))
        draw(tmp_path / "known" / "night" / f"{k}.png", False, (7, 9 + k))
    run = trained(tmp_path / "known", tmp_path / "run", size=(5, 4), gray=True)
    new = draw(tmp_path / "new.png", True, (30, 40))
    assert predict(run, [new])[0]["prediction"] == "day"


def test_arrays(tmp_path):
    """Pixels of uint8 are scaled as in training; several numbers an example have columns."""
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (60, 4, 4)).astype(np.uint8)
    y = (x.mean((1, 2)) > 127).astype(int)
    np.savez(tmp_path / "pixels.npz", x=x, y=y)
    run = trained(tmp_path / "pixels.npz", tmp_path / "a")
    found = [row["prediction"] for row in predict(run, [tmp_path / "pixels.npz"])]
    scaled = (x / np.float32(255)).astype(np.float32).reshape(60, 4, 4, 1)
    assert found == [str(k) for k in np.asarray(run.model(scaled)).argmax(1)]
    x = random.normal(size=(60, 3)).astype(np.float32)
    np.savez(tmp_path / "numbers.npz", x=x, y=x[:, :2] * 2.0)
    run = trained(tmp_path / "numbers.npz", tmp_path / "b")
    rows = predict(run, [tmp_path / "numbers.npz"])
    numbers = np.array([[float(r["prediction_0"]), float(r["prediction_1"])] for r in rows])
    np.testing.assert_array_equal(numbers.astype("f"), np.asarray(run.model(x)))


def test_a_run_on_a_table_takes_no_pictures(tmp_path):
    lines = ["a,b,kind"] + [f"{k},{k % 7},{'x' if k % 2 else 'y'}" for k in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    run = trained(tmp_path / "t.csv", tmp_path / "r", target="kind")
    picture = draw(tmp_path / "p.png", True)
    with pytest.raises(RunError, match=r"trained on tables \(.csv, .parquet\), not on pictures"):
        predict(run, [picture])
    np.savez(tmp_path / "n.npz", x=np.zeros((2, 2)))
    with pytest.raises(RunError, match="trained on a table"):
        predict(run, [tmp_path / "n.npz"])
    assert len(predict(run, [tmp_path / "t.csv"])) == 60
