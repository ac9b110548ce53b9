"""Run folders: the round trip, every way to be damaged, and a disk that is full."""

import errno
import json
import os
import shutil
import stat
import subprocess
import threading
from contextlib import suppress

import numpy as np
import pytest
from safetensors.numpy import save

from chainrule import files
from chainrule.data import digits
from chainrule.errors import RunError
from chainrule.train import load_run, mlp, predict_csv, train_csv, train_digits
from chainrule.train.models import build, count_weights, describe_mlp
from chainrule.train.options import Options
from chainrule.train.run import Run, check_folder
from chainrule.train.sealed import seal, unseal
from tests.train.tables import QUICK, table

NAMES = {"model.safetensors", "run.json", "metrics.csv", "gradients.csv", "diagnosis.json"}


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "digits"
    return train_digits(QUICK, out=folder, progress=False)


@pytest.fixture
def folder(digits_run, tmp_path):
    """A run folder of its own to damage."""
    return shutil.copytree(digits_run.folder, tmp_path / "run")


def contents(path):
    return {p.name: p.read_bytes() for p in path.iterdir()}


# -- the round trip -----------------------------------------------------------------------------


def test_a_loaded_run_predicts_the_same_bits(digits_run):
    run, x = load_run(digits_run.folder), digits().inputs[:50]
    assert np.asarray(run.model(x)).tobytes() == np.asarray(digits_run.run.model(x)).tobytes()
    assert run.classes == tuple("0123456789") and run.encoder is None
    fingerprint = run.data.pop("fingerprint")
    assert run.data == {"kind": "digits", "split": [0.6, 0.2, 0.2], "seed": 0}
    assert len(fingerprint) == 64
    assert run.training["optimizer"] == "adam" and run.training["hidden"] == [8]
    assert run.result["test_score"] == digits_run.test_score
    assert run.result["measure"] == "accuracy" and run.result["epochs"] == 2


def test_the_folder_holds_files_that_others_may_read(digits_run):
    assert {p.name for p in digits_run.folder.iterdir()} == NAMES
    mask = os.umask(0o022)
    os.umask(mask)
    for path in digits_run.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("numbers", [False, True])
def test_a_run_on_a_table_keeps_its_recipe(tmp_path, numbers):
    path = table(tmp_path / "things.csv", numbers=numbers)
    outcome = train_csv(path, "answer", QUICK, out=tmp_path / "run", progress=False)
    run = load_run(tmp_path / "run")
    assert run.encoder == outcome.run.encoder
    assert run.encoder.task == ("regression" if numbers else "classification")
    predictions = predict_csv(run, path)
    assert predictions == predict_csv(outcome.run, path) and len(predictions) == 60
    if numbers:
        assert all(np.isfinite(float(p)) for p in predictions)
        assert outcome.summary.startswith("test R²: ")
    else:
        assert set(predictions) <= {"True", "False"}
        assert outcome.summary.startswith("test accuracy: ") and outcome.summary.endswith(" %")


def test_a_folder_saved_twice_has_the_same_weights_file(digits_run, tmp_path):
    once = digits_run.run.save(tmp_path / "once")
    twice = load_run(once).save(tmp_path / "twice")
    assert contents(once) == contents(twice)


def test_numbers_that_json_lacks_are_written_as_null(tmp_path):
    run = Run(mlp(2, [], 2), describe_mlp(2, [], 2, "relu"), classes=("a", "b"))
    run.result = {"test_loss": float("nan"), "more": [float("inf"), (1.5, True)]}
    run.save(tmp_path / "run")
    assert load_run(tmp_path / "run").result == {"test_loss": None, "more": [None, [1.5, True]]}


def test_a_description_counts_its_weights():
    description = describe_mlp(5, [4, 3], 2, "tanh")
    assert count_weights(description) == sum(p.size for p in build(description).parameters())


# -- which folders are written ------------------------------------------------------------------


def test_an_earlier_run_is_replaced(folder):
    before = contents(folder)
    outcome = train_digits(Options(hidden=(4,), epochs=1), out=folder, progress=False)
    assert contents(folder).keys() == NAMES
    assert contents(folder)["model.safetensors"] != before["model.safetensors"]
    assert load_run(folder).description == outcome.run.description


def test_a_folder_of_other_things_is_refused_before_training(tmp_path):
    class Never:
        def start(self, epochs):
            raise AssertionError("training began")

    (tmp_path / "thesis.tex").write_text("all of it")
    with pytest.raises(RunError, match=r"not empty and holds no run \(it has no run.json\)"):
        train_digits(QUICK, out=tmp_path, progress=Never())
    assert contents(tmp_path) == {"thesis.tex": b"all of it"}
    with pytest.raises(RunError, match="not empty"):
        Run(mlp(2, [], 2), describe_mlp(2, [], 2, "relu")).save(tmp_path)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(RunError, match="run is a file: give the name of a folder"):
        train_digits(QUICK, out=tmp_path / "run", progress=False)


def test_new_and_empty_folders_and_unfinished_runs_are_taken(tmp_path):
    assert check_folder(tmp_path / "new" / "deep") == tmp_path / "new" / "deep"
    assert check_folder(tmp_path) == tmp_path
    (tmp_path / "metrics.csv").write_text("epoch\n")
    assert check_folder(str(tmp_path)) == tmp_path


# -- damaged folders ----------------------------------------------------------------------------


def settings_with(**changes):
    def damage(folder):
        file = folder / "run.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return damage


def settings_without(name):
    def damage(folder):
        file = folder / "run.json"
        content = json.loads(file.read_text())
        del content[name]
        file.write_text(json.dumps(content))

    return damage


def settings_as(text):
    def damage(folder):
        (folder / "run.json").write_bytes(text if isinstance(text, bytes) else text.encode())

    return damage


def model_with(**changes):
    def damage(folder):
        model = json.loads((folder / "run.json").read_text())["model"]
        settings_with(model=model | changes)(folder)

    return damage


def weights_as(change):
    """Other bytes as the file of weights."""

    def damage(folder):
        file = folder / "model.safetensors"
        file.write_bytes(change(file.read_bytes()))

    return damage


def sealed_as(change=lambda arrays: arrays, **about):
    """Other arrays and another description in a proper file of weights with a right checksum."""

    def damage(folder):
        file = folder / "model.safetensors"
        arrays, said = unseal(file, 0, 10**9)
        file.write_bytes(seal(change(arrays), said | about))

    return damage


def header_as(header):
    """A header that lies, in front of as many bytes as the true file has."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return weights_as(lambda b: len(text).to_bytes(8, "little") + text + b"\0" * len(b))


def replaced(name, value):
    return lambda arrays: arrays | {name: value(arrays[name])}


def renamed(arrays):
    return {("0.kernel" if k == "0.weight" else k): v for k, v in arrays.items()}


def without_one(arrays):
    return {k: v for k, v in arrays.items() if k != "2.bias"} | {"pad": np.zeros(10, np.float32)}


def one_nan(w):
    w = w.copy()
    w[0, 0] = np.nan
    return w


def move(name):
    def damage(folder):
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        else:
            (folder / name).unlink()

    return damage


def as_folder(name):
    def damage(folder):
        (folder / name).unlink()
        (folder / name).mkdir()

    return damage


def as_pipe(name):
    def damage(folder):
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return damage


HUGE = 2**62
ENTRY = {"dtype": "F32", "shape": [64, 8], "data_offsets": [0, 2048]}
DAMAGES = {
    "no settings": (move("run.json"), "has no run.json: it is no complete run"),
    "no weights": (move("model.safetensors"), "has no model.safetensors: it is no complete run"),
    "settings are a folder": (as_folder("run.json"), "run.json is damaged: it is no file"),
    "weights are a folder": (as_folder("model.safetensors"), "it is no file"),
    "settings are a pipe": (as_pipe("run.json"), "it is no file"),
    # weights
    "empty weights": (weights_as(lambda b: b""), r"has 0 bytes, expected 2,440 to"),
    "truncated weights": (weights_as(lambda b: b[:-1]), "model.safetensors is damaged"),
    "half the weights": (weights_as(lambda b: b[: len(b) // 2]), "bytes, expected"),
    "garbage": (weights_as(lambda b: bytes(range(256)) * 16), "model.safetensors is damaged"),
    "a pickle": (weights_as(lambda b: b"\x80\x04cos\nsystem\n." * 300), "is damaged"),
    "zeros": (weights_as(lambda b: bytes(len(b))), "model.safetensors is damaged"),
    "a byte more": (weights_as(lambda b: b + b"\0"), "model.safetensors is damaged"),
    "one bit": (weights_as(lambda b: b[:-1] + bytes([b[-1] ^ 1])), "checksum is not that of what"),
    "one bit of the header": (
        weights_as(lambda b: b.replace(b"weights", b"weighty", 1)), "safetensors is damaged: its c",
    ),
    "of another run": (sealed_as(run="0" * 16), "not the file that run.json was written with"),
    "of another kind": (sealed_as(kind="checkpoint"), "holds no weights of a run: 'checkpoint'"),
    "weights of format 9": (sealed_as(format=9), "has format 9, this version reads up to 2: upda"),
    "weights of no format": (sealed_as(format="x"), "it has no format number"),
    "a foreign file": (
        weights_as(lambda b: save({"0.weight": np.zeros((64, 10), np.float32)})),
        "was not written by chainrule",
    ),
    "header of 2**63 bytes": (
        weights_as(lambda b: (2**63).to_bytes(8, "little") + b[8:]), "safetensors is damaged",
    ),
    "header of 90 MB": (
        weights_as(lambda b: (90_000_000).to_bytes(8, "little") + b[8:]), "safetensors is damaged",
    ),
    "absurd shape": (
        header_as({"0.weight": ENTRY | {"shape": [HUGE, HUGE]}}), "safetensors is damaged",
    ),
    "absurd offsets": (
        header_as({"0.weight": ENTRY | {"data_offsets": [0, HUGE]}}), "safetensors is damaged",
    ),
    "offsets backwards": (
        header_as({"0.weight": ENTRY | {"data_offsets": [2048, 0]}}), "safetensors is damaged",
    ),
    "unknown dtype": (header_as({"0.weight": ENTRY | {"dtype": "X9"}}), "safetensors is damaged"),
    "bfloat16": (
        header_as({"w": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}}), "model.safetens",
    ),
    "header no object": (header_as([1, 2]), "safetensors is damaged"),
    "header no JSON": (header_as(b"{" * 60), "safetensors is damaged"),
    "header deep": (header_as(b"[" * 50_000), "safetensors is damaged"),
    "a 10 MB file": (weights_as(lambda b: b + bytes(10_000_000)), "bytes, expected 2,440 to"),
    "other names": (sealed_as(renamed), r"do not fit the model: there are \['0.bias', '0.kernel'"),
    "a missing array": (sealed_as(without_one), "do not fit the model: there are"),
    "transposed": (
        sealed_as(replaced("0.weight", lambda w: np.ascontiguousarray(w.T))),
        r"do not fit the model: 0.weight is float32\[8, 64\], expected float32\[64, 8\]",
    ),
    "float64": (
        sealed_as(replaced("2.bias", lambda w: w.astype(np.float64))), "2.bias is float64"
    ),
    "integers": (sealed_as(replaced("2.bias", lambda w: w.astype(np.int32))), "2.bias is int32"),
    "NaN": (sealed_as(replaced("0.weight", one_nan)), "0.weight holds NaN or infinity"),
    "infinity": (sealed_as(replaced("2.bias", lambda w: w + np.inf)), "2.bias holds NaN or inf"),
    # settings
    "empty settings": (settings_as(""), "run.json is damaged: it is not JSON"),
    "not JSON": (settings_as("{'format': 1}"), "run.json is damaged: it is not JSON"),
    "truncated JSON": (settings_as('{"format": 1, "model": {'), "it is not JSON"),
    "not UTF-8": (settings_as(b'{"format": "\xff"}'), "it is not JSON"),
    "a list": (settings_as("[1, 2]"), "it has no format number"),
    "a number": (settings_as("7"), "it has no format number"),
    "nested deep": (settings_as("[" * 200_000), "run.json is damaged"),
    "a long number": (settings_as('{"format": ' + "9" * 5000 + "}"), "run.json is damaged"),
    "format 3": (settings_with(format=3), "has format 3, this version reads up to 2: update"),
    "format 1": (settings_with(format=1), "has format 1, this version reads 2: train again"),
    "format 0": (settings_with(format=0), "it has no format number"),
    "format true": (settings_with(format=True), "it has no format number"),
    "format 1.0": (settings_with(format=1.0), "it has no format number"),
    "other data": (settings_with(data={"kind": "digits"}), "not the file that run.json was writte"),
    "other training": (settings_with(training={"rate": 1.0}), "not the file that run.json was wri"),
    "classes a text": (settings_with(classes="0123456789"), "classes are not a list of names"),
    "classes numbers": (settings_with(classes=list(range(10))), "classes are not a list of names"),
    "nine classes": (settings_with(classes=list("012345678")), "9 classes for a model of 10 out"),
    "data a list": (settings_with(data=[]), "data is not an object"),
    "training null": (settings_with(training=None), "training is not an object"),
    "result a text": (settings_with(result="good"), "result is not an object"),
    "encoder a text": (settings_with(encoder="x"), "run.json is damaged: encoder: expected"),
    "encoder empty": (settings_with(encoder={}), "run.json is damaged: encoder: expected"),
    "model a text": (settings_with(model="os.system"), "run.json is damaged: unknown kind of"),
    "model null": (settings_with(model=None), "unknown kind of model"),
    "model of another kind": (model_with(kind="pickle"), "unknown kind of model"),
    "hidden a number": (model_with(hidden=8), "sizes are not whole numbers"),
    "hidden negative": (model_with(hidden=[-8]), "sizes are not whole numbers"),
    "hidden true": (model_with(hidden=[True]), "sizes are not whole numbers"),
    "hidden a fraction": (model_with(hidden=[8.0]), "sizes are not whole numbers"),
    "inputs a text": (model_with(inputs="64"), "sizes are not whole numbers"),
    "outputs 0": (model_with(outputs=0), "sizes are not whole numbers"),
    "other inputs": (model_with(inputs=65), "not the file that run.json was|bytes, expected"),
    "a model of 4 TB": (
        model_with(hidden=[1_000_000, 1_000_000]), "would have 1,000,076,000,010 numbers, more tha",
    ),
    "a million layers": (model_with(hidden=[1] * 1_000_000), "bytes, expected"),
    "too large a layer": (model_with(hidden=[10**30]), "sizes are not whole numbers"),
    "activation of the system": (model_with(activation="__import__"), "is not known to this"),
    "activation a list": (model_with(activation=["relu"]), "is not known to this version"),
    **{
        f"no {name}": (settings_without(name), f"it has no {name}|it has no format number")
        for name in (
            "format", "model", "data", "training", "classes", "encoder", "result",
        )
    },
}  # fmt: skip


@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_folder_is_refused_with_words(folder, damage, words):
    damage(folder)
    with pytest.raises(RunError, match=words) as caught:
        load_run(folder)
    assert str(folder) in str(caught.value)
    assert len(str(caught.value)) < 700


def test_a_missing_folder_and_a_file_are_no_runs(tmp_path, folder):
    for path in (tmp_path / "nowhere", folder / "run.json"):
        with pytest.raises(RunError, match="no run folder at"):
            load_run(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="has no run.json"):
        load_run(tmp_path / "empty")


def test_huge_settings_are_not_read(folder):
    with open(folder / "run.json", "r+b") as file:
        file.truncate(10**12)  # sparse: no such disk is needed
    with pytest.raises(RunError, match="1,000,000,000,000 bytes, expected at most 67,108,864"):
        load_run(folder)


def test_settings_nested_just_within_the_parsers_limit(folder):
    """JSON that can be read but not written again, wherever the limit is."""
    for depth in (400, 700, 900, 950, 980, 990):
        text = json.dumps(json.loads((folder / "run.json").read_text()) | {"encoder": 0})
        deep = "[" * depth + "]" * depth
        for key, old in (("encoder", '"encoder": 0'), ("kind", '"kind": "mlp"')):
            (folder / "run.json").write_text(text.replace(old, f'"{key}": {deep}'))
            with pytest.raises(RunError, match="run.json is damaged"):
                load_run(folder)
        (folder / "run.json").write_text(text)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_files_that_may_not_be_read(folder):
    (folder / "run.json").chmod(0)
    with pytest.raises(RunError, match="cannot read .*run.json: Permission denied"):
        load_run(folder)


def test_random_damage_is_never_more_than_a_run_error(folder):
    random = np.random.default_rng(1)
    for name in ("model.safetensors", "run.json"):
        whole = (folder / name).read_bytes()
        for _ in range(60):
            broken = bytearray(whole)
            for place in random.integers(0, min(len(broken), 900), random.integers(1, 5)):
                broken[place] = random.integers(0, 256)
            (folder / name).write_bytes(bytes(broken[: random.integers(1, len(broken) + 1)]))
            with suppress(RunError):
                load_run(folder)
        (folder / name).write_bytes(whole)
    load_run(folder)


def test_a_recipe_of_other_columns_or_classes_is_refused(tmp_path):
    path = table(tmp_path / "things.csv")
    train_csv(path, "answer", QUICK, out=tmp_path / "run", progress=False)
    content = json.loads((tmp_path / "run" / "run.json").read_text())
    content["encoder"]["columns"].pop()
    settings_with(encoder=content["encoder"])(tmp_path / "run")
    with pytest.raises(RunError, match="1 columns for a model of 4 inputs"):
        load_run(tmp_path / "run")
    settings_with(classes=["True", "False"])(tmp_path / "run")
    with pytest.raises(RunError, match="the classes are not those of the encoder"):
        load_run(tmp_path / "run")


def test_nothing_in_a_folder_is_executed(folder, tmp_path):
    """A pickle and Python code in place of the files: refused, and they leave no mark."""
    mark = tmp_path / "mark"

    class Evil:
        def __reduce__(self):
            return (os.system, (f"touch {mark}",))

    import pickle

    for name in NAMES:
        (folder / name).write_bytes(pickle.dumps(Evil()) * 50)
    (folder / "model.py").write_text(f"open({str(mark)!r}, 'w')")
    with pytest.raises(RunError):
        load_run(folder)
    settings_with_code = json.dumps({"format": 1, "model": f"__import__('os').mkdir({mark!s})"})
    (folder / "run.json").write_text(settings_with_code)
    with pytest.raises(RunError):
        load_run(folder)
    assert not mark.exists()


# -- a disk that is full ------------------------------------------------------------------------


def full_disk(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("step", ["fsync", "replace", "open"])
def test_a_full_disk_leaves_the_checkpoint_before(folder, digits_run, monkeypatch, step):
    before = contents(folder)
    other = Run(mlp(64, [9], 10), describe_mlp(64, [9], 10, "relu"), classes=tuple("0123456789"))
    owner = {"fsync": files.os, "replace": files.os, "open": files}[step]
    with monkeypatch.context() as patch:
        patch.setattr(owner, step, full_disk, raising=False)
        with pytest.raises(RunError, match="No space left on device; what was there before is unt"):
            other.save(folder)
    assert contents(folder) == before
    assert load_run(folder).description == digits_run.run.description
    other.save(folder)
    assert load_run(folder).description["hidden"] == [9]


def test_weights_without_room_for_settings_are_not_put_in_place(folder, monkeypatch):
    """The second file does not fit: the first must not stand beside the old second one."""
    before, calls = contents(folder), []

    def second_fails(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            full_disk()

    monkeypatch.setattr(files.os, "fsync", second_fails)
    with pytest.raises(RunError, match=r"cannot write .*run.json: No space left"):
        Run(mlp(64, [9], 10), describe_mlp(64, [9], 10, "relu")).save(folder)
    assert len(calls) == 2 and contents(folder) == before


@pytest.mark.parametrize("kind", [KeyboardInterrupt, MemoryError])
def test_ctrl_c_while_saving_leaves_the_checkpoint_before(folder, monkeypatch, kind):
    before = contents(folder)

    def stop(descriptor):
        raise kind

    monkeypatch.setattr(files.os, "fsync", stop)
    with pytest.raises(kind):
        Run(mlp(64, [9], 10), describe_mlp(64, [9], 10, "relu")).save(folder)
    assert contents(folder) == before


def test_a_disk_that_fills_up_while_training(folder, monkeypatch):
    """The metrics no longer fit: training ends with a RunError, the folder still loads."""
    calls = []

    def later(descriptor):
        calls.append(descriptor)
        if len(calls) > 4:
            full_disk()

    monkeypatch.setattr(files.os, "fsync", later)
    with pytest.raises(RunError, match="No space left"):
        train_digits(Options(hidden=(8,), epochs=5), out=folder, progress=False)
    kept = {
        "checkpoint.safetensors", "diagnosis.json", "gradients.csv", "metrics.csv", "run.json",
    }  # fmt: skip
    assert contents(folder).keys() <= kept
    assert load_run(folder).result["state"] == "running"


def test_a_real_full_disk(digits_run, tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(mount)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        run = load_run(digits_run.folder)
        folder = run.save(mount / "run")
        before = contents(folder)
        with pytest.raises(RunError, match=r"cannot write .*: No space left on device"):
            Run(mlp(64, [900], 10), describe_mlp(64, [900], 10, "relu")).save(folder)
        assert contents(folder) == before
        with pytest.raises(RunError, match="No space left on device"):
            train_digits(Options(hidden=(900,), epochs=2), out=folder, progress=False)
        assert contents(folder) == before
        load_run(folder)
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_two_writers_at_once_leave_one_whole_file(tmp_path):
    texts = [str(k) * 50_000 for k in range(8)]
    threads = [
        threading.Thread(target=files.write_text, args=(tmp_path / "f", text)) for text in texts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "f").read_text() in texts
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
