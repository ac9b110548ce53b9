"""The n-gram model that the LSTM is measured against, and how they are put side by side."""

import math
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import benchmarks.text
import chainrule as cr
import chainrule.train.text
from benchmarks.text import NGram, carried_nats, contents, ngram_nats, run, windows
from chainrule.errors import DataError
from chainrule.train.models import TextModel
from chainrule.train.options import Options

LETTERS = {c: k for k, c in enumerate("abcdefghijklmnopqrstuvwxyz ,.;")}


def tokens(text):
    return np.array([LETTERS[c] for c in text])


def test_shares_by_hand():
    """abaab: after a came b, a, b; after b came a (the last b is followed by nothing)."""
    model = NGram(tokens("abaab"), tokens("aba"), vocabulary=3, order=2)
    rows = {"aa": (3 / 5, 1 / 3), "ab": (2 / 5, 2 / 3), "ba": (3 / 5, 1), "bb": (2 / 5, 0),
            "ac": (0, 0), "ca": (3 / 5, 3 / 5), "cb": (2 / 5, 2 / 5)}  # fmt: skip
    shares, buckets = model._shares(np.array([tokens(row) for row in rows]))
    np.testing.assert_allclose(shares, [(1 / 3, *row) for row in rows.values()])
    assert buckets.tolist() == [2, 2, 1, 1, 2, 0, 0]  # contexts seen 3, 1 and 0 times


def test_weights_are_the_most_likely():
    """Order 1: λ over (1/V, share of the token) has one free number, so a grid finds the best.

    The token that each bucket counts beside the held-out ones is half a ln λ for each of the two.
    """
    train, held_out = tokens("aaaaaaab"), tokens("abbacaab")
    model = NGram(train, held_out, vocabulary=4, order=1)
    share = np.array([7 / 8, 1 / 8, 0, 0])[held_out]
    grid = np.linspace(0, 1, 100_001)[:, None]
    with np.errstate(divide="ignore"):
        likelihood = np.log(grid / 4 + (1 - grid) * share).sum(axis=1)
        found = grid[(likelihood + np.log(grid * (1 - grid))[:, 0] / 2).argmax()]
    used = model.weights[np.abs(model.weights - 1 / 2).max(axis=1) > 0]
    assert len(used) == 1
    np.testing.assert_allclose(used[0, 0], found[0], atol=1e-4)
    expected = -np.log(found / 4 + (1 - found) * share).mean()
    assert ngram_nats(train, held_out, held_out, order=1, vocabulary=4) == pytest.approx(expected)


def test_first_orders_by_hand():
    """ab, ab, …: certain once its order is 2; without contexts a coin."""
    text = tokens("ab" * 20)
    assert ngram_nats(text, text, text, order=1) == pytest.approx(math.log(2))
    assert ngram_nats(text, text, text, order=2) == pytest.approx(0, abs=0.02)


texts = st.lists(st.integers(0, 4), min_size=6, max_size=60).map(np.array)


@given(train=texts, held_out=texts, order=st.integers(1, 5), data=st.data())
def test_probabilities_sum_to_one(train, held_out, order, data):
    """After any context, also one never seen, with tokens (5, 6) that occur nowhere."""
    model = NGram(train, held_out, vocabulary=7, order=order)
    context = data.draw(st.lists(st.integers(0, 6), min_size=order - 1, max_size=order - 1))
    rows = np.array([[*context, token] for token in range(7)])
    found = model.probabilities(rows)
    assert (found > 0).all()  # nothing is impossible
    assert found.sum() == pytest.approx(1, abs=1e-12)


@given(train=texts, held_out=texts, order=st.integers(1, 4))
def test_weights_are_fitted_to_the_held_out_part(train, held_out, order):
    """No worse there than equal weights, and a distribution in every bucket."""
    model = NGram(train, held_out, vocabulary=5, order=order)
    np.testing.assert_allclose(model.weights.sum(axis=1), 1)
    rows = windows(held_out, order)
    fitted = np.log(model.probabilities(rows)).sum()
    model.weights = np.full_like(model.weights, 1 / (order + 1))
    assert fitted >= np.log(model.probabilities(rows)).sum() - 1e-9


def test_longer_contexts_are_better_on_real_text():
    text = tokens(
        "".join(c for c in (NGram.__doc__ + DataError.__doc__).lower() * 3 if c in LETTERS)
    )
    a, b = len(text) * 2 // 4, len(text) * 3 // 4
    parts = text[:a], text[a:b], text[b:]
    found = [ngram_nats(*parts, order=n, vocabulary=len(LETTERS)) for n in (1, 2, 3, 4)]
    assert found == sorted(found, reverse=True)
    assert found[0] < math.log(len(LETTERS))


@pytest.mark.parametrize(
    ("train", "vocabulary", "order", "message"),
    [
        ([0, 1], 2, 2, "more than 2 tokens"),
        ([], 2, 1, "received 0"),
        ([0, 1, 2], 2, 1, "from 0 to 1"),
        ([0, -1, 1], 2, 1, "from 0 to 1"),
        ([0, 1, 1], 2, 0, "order 0"),
        (list(range(9)), 256, 8, "63 bits"),
    ],
)
def test_what_cannot_be_counted(train, vocabulary, order, message):
    with pytest.raises(DataError, match=message):
        NGram(np.array(train, int), np.zeros(9, int), vocabulary, order)


def test_the_text_has_each_file_once(tmp_path):
    for name, text in {"B": "two", "A": "one", "C": "two", ".hidden": "no"}.items():
        (tmp_path / name).write_text(text)
    os.symlink("A", tmp_path / "D")
    (tmp_path / "folder").mkdir()
    assert [path.name for path in contents(tmp_path)] == ["A", "B"]
    with pytest.raises(DataError, match="no text"):
        contents(tmp_path / "folder")


def test_a_carried_state_reads_the_text_as_one(monkeypatch):
    """The pieces it is read in do not matter; a state forgotten between them would."""
    model = TextModel(5, 3, 4, 2, seed=0)
    text = np.random.default_rng(0).integers(0, 5, 40)
    scores = np.asarray(model(text[None, :-1]))[0]
    expected = float(cr.nn.softmax_cross_entropy(scores, text[1:]))
    for length in (1, 7, 39, 256):
        monkeypatch.setattr(chainrule.train.text, "CHUNK", length)
        assert carried_nats(model, text)[0] == pytest.approx(expected, rel=1e-5)
    pieces = [np.asarray(model(text[None, k : k + 3]))[0] for k in range(0, 39, 3)]
    forgetful = float(cr.nn.softmax_cross_entropy(np.concatenate(pieces), text[1:]))
    assert abs(forgetful - expected) > 1e-3


def test_the_table_has_both_models(tmp_path, monkeypatch):
    files = [tmp_path / "a", tmp_path / "b"]
    for path in files:
        path.write_text(f"{path.name} text that says the same again, ☃ and again.\r\n" * 40)
    with pytest.raises(DataError, match="bytes of text; at least 200,000 are wanted"):
        run(files)
    monkeypatch.setattr(benchmarks.text, "LEAST_BYTES", 1000)
    lines = run(files, Options(hidden=(4,), embedding=3, epochs=1))
    size = sum(path.stat().st_size for path in files)
    assert lines[0].startswith(f"2 texts, {size:,} bytes, ")
    found = {line.split("|")[1].strip(): float(line.split("|")[2]) for line in lines[4:11]}
    assert list(found) == ["LSTM", *(f"{n}-gram" for n in range(1, 7))]
    assert 0 < found["4-gram"] < found["1-gram"] < math.log(40)
    assert 0 < found["LSTM"] < 2 * math.log(40)
    assert len("\n".join(lines[15:-1])) >= 300
