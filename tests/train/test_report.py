"""What a run is worth on data: rates, errors and nats against their definitions."""

import io
import json
import math

import numpy as np
import pytest
from rich.console import Console

import chainrule as cr
from chainrule.data import digits, split_dataset
from chainrule.errors import DataError, RunError
from chainrule.train import Options, load_run, train, train_csv, train_digits
from chainrule.train.models import TextModel, describe_mlp, mlp
from chainrule.train.report import Report, report
from chainrule.train.run import Run
from chainrule.train.sources import describe
from chainrule.train.text import nats, sample
from tests.train.tables import QUICK, table

TEXT = "she sells sea shells by the sea shore; the shells she sells are sea shells for sure. " * 9


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits") / "run"
    return train_digits(Options(hidden=(8,), epochs=3, rate=0.01), out=folder, progress=False)


@pytest.fixture(scope="module")
def text_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    (folder / "sea.txt").write_text(TEXT)
    source = describe("text", 0, files=(str(folder / "sea.txt"),), length=10)
    options = Options(hidden=(12,), embedding=5, layers=2, epochs=3, rate=0.02)
    train(source, options, out=folder / "run", progress=False)
    return load_run(folder / "run")


def predictions(run, x):
    return np.asarray(run.model(x)).argmax(1)


def test_rates_are_their_definitions(digits_run):
    found = report(digits_run.run)
    _, _, test = split_dataset(digits(), seed=0)
    predicted = predictions(digits_run.run, test.inputs)
    assert found.examples == len(test)
    assert found.measures["accuracy"] == np.mean(predicted == test.targets)
    for k, rates in enumerate(found.rates()):
        right = int(((predicted == k) & (test.targets == k)).sum())
        taken, support = int((predicted == k).sum()), int((test.targets == k).sum())
        assert rates["support"] == support
        precision, recall = right / taken if taken else math.nan, right / support
        np.testing.assert_allclose((rates["precision"], rates["recall"]), (precision, recall))
        if right:
            harmonic = 2 * precision * recall / (precision + recall)
            assert rates["f1"] == pytest.approx(harmonic)
    again = np.zeros((10, 10), int)
    for true, guess in zip(test.targets, predicted, strict=True):
        again[true, guess] += 1
    assert (again == found.confusion).all()


def test_rates_agree_with_scikit_learn(digits_run):
    metrics = pytest.importorskip("sklearn.metrics", reason="a comparison with scikit-learn")
    _, _, test = split_dataset(digits(), seed=0)
    predicted = predictions(digits_run.run, test.inputs)
    found = report(digits_run.run).rates()
    parts = metrics.precision_recall_fscore_support(test.targets, predicted, zero_division=np.nan)
    for name, values in zip(("precision", "recall", "f1", "support"), parts, strict=True):
        np.testing.assert_allclose([r[name] for r in found], values, err_msg=name)


def test_tables_and_json_show_all_of_it(digits_run):
    found = report(digits_run.run)

    console = Console(width=200, record=True, file=io.StringIO())
    for each in found.tables():
        console.print(each)
    text = console.export_text()
    assert text.count("\n") == 22 and "precision" in text and "class, taken for:" in text
    content = json.loads(json.dumps(found.json(), allow_nan=False))
    assert content["accuracy"] == found.measures["accuracy"]
    assert [c["class"] for c in content["classes"]] == list("0123456789")
    assert np.array_equal(content["confusion"], found.confusion)


def test_rates_that_are_not_defined():
    found = Report("data", 3, {}, ("a", "b", "c"), np.array([[2, 0, 0], [1, 0, 0], [0, 0, 0]]))
    a, b, c = found.rates()
    assert a == {"precision": 2 / 3, "recall": 1.0, "f1": pytest.approx(0.8), "support": 2}
    assert math.isnan(b["precision"]) and b["recall"] == 0 and b["f1"] == 0
    assert all(math.isnan(c[k]) for k in ("precision", "recall", "f1")) and c["support"] == 0
    assert found.json()["classes"][2]["f1"] is None


@pytest.mark.parametrize("numbers", [False, True])
def test_a_table_to_measure_on(tmp_path, numbers):
    path = table(tmp_path / "things.csv", numbers=numbers)
    run = train_csv(path, "answer", QUICK, progress=False).run
    found = report(run, str(path))
    assert found.examples == 60 and found.data == str(path)
    if not numbers:
        assert set(found.measures) == {"accuracy"} and found.classes == ("False", "True")
        return
    lines = path.read_text().splitlines()[1:]
    true = np.array([float(line.split(",")[2]) for line in lines])
    predicted = run.encoder.unscale(np.asarray(run.model(run.encoder.transform(_read(path)))))[:, 0]
    error = predicted - true
    expected = {
        "r2": 1 - (error**2).sum() / ((true - true.mean()) ** 2).sum(),
        "rmse": np.sqrt((error**2).mean()), "mae": np.abs(error).mean(),
    }  # fmt: skip
    assert found.measures == pytest.approx(expected, rel=1e-4)  # in the unit of the file
    assert found.tables() == []


def _read(path):
    from chainrule.data import read_table

    return read_table(path)


def test_classes_are_told_by_name(tmp_path):
    """A folder of pictures with fewer classes, in another order of numbers."""
    image = pytest.importorskip("PIL.Image", reason="folders of pictures need Pillow")
    run = Run(mlp(4, [], 3), describe_mlp(4, [], 3, "relu"), classes=("ant", "bee", "cow"))
    for name, shade in (("cow", 250), ("ant", 3)):
        place = tmp_path / "new" / name
        place.mkdir(parents=True)
        image.fromarray(np.full((2, 2), shade, np.uint8)).save(place / "1.png")
    run.data = {"gray": True}
    found = report(run, str(tmp_path / "new"))
    assert found.confusion.sum(1).tolist() == [1, 0, 1]
    (tmp_path / "new" / "dog").mkdir()
    image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "new" / "dog" / "1.png")
    with pytest.raises(RunError, match="has the class 'dog', which is none of the run's: ant, bee"):
        report(run, str(tmp_path / "new"))


def test_data_that_does_not_fit(tmp_path, digits_run):
    np.savez(tmp_path / "d.npz", x=np.ones((4, 5)), y=np.zeros(4, int))
    with pytest.raises(RunError, match=r"examples of shape \(5,\), the run takes \(64,\)"):
        report(digits_run.run, str(tmp_path / "d.npz"))
    np.savez(tmp_path / "d.npz", x=np.ones((14, 64)), y=np.arange(14) % 11)
    with pytest.raises(RunError, match="has the class '10', which is none of the run's"):
        report(digits_run.run, str(tmp_path / "d.npz"))
    np.savez(tmp_path / "d.npz", x=np.ones((4, 64)), y=np.ones((4, 2)))
    with pytest.raises(DataError, match="class labels must be integers"):
        report(digits_run.run, str(tmp_path / "d.npz"))
    (tmp_path / "broken.npz").write_bytes(b"PK\3\4")
    with pytest.raises(DataError, match=r"broken\.npz"):
        report(digits_run.run, str(tmp_path / "broken.npz"))


@pytest.mark.parametrize("y", [np.zeros((20, 3)), np.zeros(20), np.arange(20) % 2])
def test_a_run_of_two_numbers_is_measured_on_two(tmp_path, y):
    run = Run(mlp(3, [], 2), describe_mlp(3, [], 2, "relu"))
    np.savez(tmp_path / "d.npz", x=np.ones((20, 3)), y=y)
    with pytest.raises(RunError, match="the run gives 2 floating numbers an example"):
        report(run, str(tmp_path / "d.npz"))
    np.savez(tmp_path / "d.npz", x=np.ones((20, 3)), y=np.arange(40.0).reshape(20, 2))
    assert set(report(run, str(tmp_path / "d.npz")).measures) == {"r2", "rmse", "mae"}


def test_data_that_have_a_name(digits_run, text_run):
    own, named = report(digits_run.run), report(digits_run.run, "digits")
    assert named.data == "digits" and (named.confusion == own.confusion).all()
    other = Run(digits_run.run.model, digits_run.run.description, {"kind": "npz"},
                classes=digits_run.run.classes)  # fmt: skip
    assert report(other, "digits").examples == own.examples
    with pytest.raises(RunError, match="is not measured on digits: it takes a text file"):
        report(text_run, "digits")


# -- text ---------------------------------------------------------------------------------------


def test_nats_are_the_mean_over_the_whole_text(text_run):
    """Against one pass over all characters, and against log-softmax by hand."""
    tokens = text_run.alphabet.encode(TEXT[:600])  # more than one chunk
    loss, accuracy = nats(text_run.model, tokens)
    scores = np.asarray(text_run.model(tokens[None, :-1]), np.float64)[0]
    logs = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    assert loss == pytest.approx(-logs[np.arange(599), tokens[1:]].mean(), rel=1e-5)
    assert accuracy == np.mean(scores.argmax(-1) == tokens[1:])


def test_a_text_of_a_file_and_of_the_run(text_run, tmp_path):
    (tmp_path / "new.txt").write_text("sea shells by the shore")
    found = report(text_run, str(tmp_path / "new.txt"))
    assert found.examples == 22
    assert found.measures["bits"] == pytest.approx(found.measures["nats"] / math.log(2))
    assert report(text_run).measures["nats"] == text_run.result["test_loss"]
    for content, words in ((b"s", "there is nothing to predict"), (b"\xff\xfe", "not UTF-8")):
        (tmp_path / "bad.txt").write_bytes(content)
        with pytest.raises((RunError, DataError), match=words):
            report(text_run, str(tmp_path / "bad.txt"))


def test_sampling_is_reproducible_and_follows_the_scores(text_run):
    model, first = text_run.model, text_run.alphabet.encode("s")
    one, two, other = (list(sample(model, first, 60, seed=s)) for s in (0, 0, 1))
    assert one == two != other and len(one) == 60


def test_sampling_carries_the_state():
    """Weights so large that what came before decides; against the model on all of it each time."""
    model = TextModel(9, 4, 12, 2, seed=0)
    model.load_state({name: 3 * v for name, v in model.state().items()})
    for temperature in (0.0, 1.0):
        tokens, key = [3, 1, 4], cr.random.key(5)
        drawn = list(sample(model, tokens, 25, temperature=temperature, seed=5))
        for number, token in enumerate(drawn):
            scores = np.asarray(model(np.array([tokens])), np.float64)[0, -1]
            place = float(cr.random.uniform(cr.random.fold_in(key, number), dtype=np.float64))
            ends = np.exp(scores).cumsum() / np.exp(scores).sum()
            expected = int((ends <= place).sum()) if temperature else int(scores.argmax())
            assert token == expected
            tokens.append(token)
    assert len(set(drawn)) > 4


def test_sampled_frequencies_are_the_probabilities(text_run):
    model, first = text_run.model, text_run.alphabet.encode("sh")
    for temperature in (0.7, 1.5):
        draws = [next(sample(model, first, 1, seed=s, temperature=temperature)) for s in range(400)]
        scores = np.asarray(model(first[None]), np.float64)[0, -1] / temperature
        expected = np.exp(scores - scores.max())
        expected /= expected.sum()
        counts = np.bincount(draws, minlength=len(expected))
        error = np.sqrt(400 * expected * (1 - expected))
        assert (np.abs(counts - 400 * expected) <= 4.5 * error + 1).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": -1.0}, "temperature must be 0 or more and finite, received -1"),
        ({"temperature": math.nan}, "temperature must be 0 or more and finite"),
        ({"length": -1}, "length must be 0 or more, received -1"),
        ({"prompt": []}, "the prompt is empty"),
        ({"model": cr.nn.Linear(1, 1)}, "only a model of text can be sampled"),
    ],
)
def test_what_cannot_be_sampled(text_run, options, words):
    settings = {"model": text_run.model, "prompt": [0], "length": 3} | options
    with pytest.raises(RunError, match=words):
        list(sample(**settings))


def test_a_run_of_bytes(tmp_path):
    (tmp_path / "b.bin").write_bytes(bytes(range(256)) * 4)
    source = describe("text", 0, files=(str(tmp_path / "b.bin"),), level="byte", length=8)
    options = Options(hidden=(4,), embedding=2, epochs=1)
    run = train(source, options, out=tmp_path / "run", progress=False).run
    assert len(load_run(tmp_path / "run").alphabet) == 256
    assert report(run, str(tmp_path / "b.bin")).examples == 1023
