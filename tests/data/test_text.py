"""Text as tokens, and the windows that a language model reads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.data import Alphabet, Dataset, batches, text_data
from chainrule.errors import DataError

ANY = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.fixture
def write(tmp_path):
    def write(text, name="a.txt"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@settings(deadline=None)
@given(ANY.filter(len))
def test_a_text_is_decoded_from_its_tokens(text):
    letters = Alphabet(tuple(sorted(set(text))))
    tokens = letters.encode(text)
    assert (tokens.dtype, tokens.shape) == (np.int64, (len(text),))
    assert letters.decode(tokens) == text
    assert [letters.characters[k] for k in tokens] == list(text)


@settings(deadline=None)
@given(ANY)
def test_bytes_are_their_own_tokens(text):
    alphabet = Alphabet(tuple(map(chr, range(256))), "byte")
    tokens = alphabet.encode(text)
    assert tokens.tolist() == list(text.encode()) == alphabet.encode(text.encode()).tolist()
    assert alphabet.decode(tokens) == text
    assert alphabet.decode([255, 65]) == "\ufffdA"


def test_a_strange_character_is_unknown_or_refused():
    assert Alphabet(("a", "b", "\ufffd")).encode("cab😀").tolist() == [2, 0, 1, 2]
    with pytest.raises(DataError, match=r"character 1 of the text, 'c', .* 2 characters 'ab'"):
        Alphabet(("a", "b")).encode("ac")
    assert Alphabet(("a", "b")).encode("").tolist() == []
    assert Alphabet(("a", "b")).decode([]) == ""


@pytest.mark.parametrize(
    "tokens, message",
    [
        ([2], "tokens from 2 to 2 for an alphabet of 2, which go from 0 to 1"),
        ([-1], "tokens from -1"),
        ([0.5], "1-d integers, got float64"),
        ([[0]], "1-d integers"),
    ],
)
def test_decode_refuses(tokens, message):
    with pytest.raises(DataError, match=message):
        Alphabet(("a", "b")).decode(tokens)


@pytest.mark.parametrize(
    "characters, level",
    [((), "character"), (("b", "a"), "character"), (("a", "a"), "character"),
     (("ab",), "character"), (("a",), "byte"), (("a",), "word"),
     (["a"], "character"), ((1, [2]), "character")],
)  # fmt: skip
def test_what_is_no_alphabet(characters, level):
    with pytest.raises(DataError, match="an alphabet of|level must be 'character' or 'byte'"):
        Alphabet(characters, level)


@settings(deadline=None)
@given(ANY, st.integers(1, 5), st.sampled_from(["character", "byte"]), st.integers(0, 99))
def test_the_parts_are_the_text(tmp_path_factory, some, length, level, seed):
    text = some + "to be, or not to be: that is the question " * 3
    path = tmp_path_factory.getbasetemp() / "a.txt"
    path.write_bytes(text.encode())
    data = text_data(path, level, (0.5, 0.25, 0.25), length)
    parts = data.train, data.validation, data.test
    every = np.concatenate([part.tokens for part in parts])
    units = text.encode() if level == "byte" else text
    assert len(every) == len(units) and len(data.train.tokens) == len(units) // 2
    if "\ufffd" not in data.vocabulary:
        assert data.decode(every) == text
    assert data.vocabulary == tuple(sorted(data.vocabulary)) == data.train.classes
    for part in parts:
        assert isinstance(part, Dataset) and part.task == "language"
        for now in (part, part.epoch(seed, 0), part.epoch(seed, 1).epoch(seed, 2)):
            assert now.inputs.shape == now.targets.shape == (len(part), length)
            assert now.tokens is part.tokens and np.shares_memory(now.inputs, part.tokens)
            run = np.append(now.inputs.ravel(), now.targets[-1, -1])
            starts = np.lib.stride_tricks.sliding_window_view(part.tokens, len(run))
            assert (starts == run).all(1).any()
            assert np.array_equal(now.targets.ravel(), run[1:])


def test_every_offset_comes_up_and_depends_on_seed_and_epoch(write):
    # With all characters different, the first of the first window is the offset.
    text = "".join(map(chr, range(1000, 2000)))
    part = text_data(write(text), length=8, fractions=(0.9, 0.05, 0.05)).train
    assert part.inputs[0, 0] == part.epoch(0, 0).tokens[0] == 0
    offsets = [[int(part.epoch(seed, k).inputs[0, 0]) for k in range(60)] for seed in (0, 1, 0)]
    assert set(offsets[0]) == set(range(8)) and offsets[0] == offsets[2] != offsets[1]
    assert {len(part.epoch(0, k)) for k in range(60)} == {900 // 8 - 1}


def test_the_shortest_text_has_one_window(write):
    part = text_data(write("abcdefghi" * 3), length=8, fractions=(1 / 3, 1 / 3, 1 / 3)).test
    for number in range(20):
        assert part.epoch(0, number).inputs.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7]]


def test_characters_only_the_later_parts_have_become_one(write):
    data = text_data(write("ab" * 40 + "xa" * 5 + "yb" * 5), length=4, fractions=(0.8, 0.1, 0.1))
    assert data.vocabulary == ("a", "b", "\ufffd")
    assert data.decode(data.test.tokens) == "\ufffdb" * 5
    assert data.encode("axyz").tolist() == [0, 2, 2, 2]


def test_files_are_joined_in_their_order_with_their_line_ends(write):
    one, two = write("\ufeffone\r\n" * 9, "1.txt"), write("zwei\n" * 9, "2.txt")
    data = text_data([two, one], length=2, fractions=(0.6, 0.2, 0.2))
    every = np.concatenate([part.tokens for part in (data.train, data.validation, data.test)])
    text = "zwei\n" * 9 + "one\r\n" + "\ufeffone\r\n" * 8  # only the first mark is one
    assert len(every) == len(text)
    assert data.decode(every).startswith("zwei\nzwei\n") and data.train.name == "2 texts (train)"


def test_taken_windows_stay_as_they_are(write):
    part = text_data(write("abcdefgh" * 40), length=4).train
    taken = part.take([3, 1])
    assert type(taken) is Dataset and taken.task == "language" and taken.epoch(0, 5) is taken
    assert np.array_equal(taken.inputs, part.inputs[[3, 1]])


def test_batches_of_text(write):
    part = text_data(write("abcdefgh" * 40), length=4).train
    for inputs, targets in batches(part.epoch(0, 7), 5, seed=0, epoch=7):
        assert inputs.dtype == targets.dtype == np.int64
        assert np.array_equal(inputs[:, 1:], targets[:, :-1])


@pytest.mark.parametrize(
    "text, options, message",
    [
        (b"caf\xe9 " * 99, {}, r"a\.txt: not UTF-8 text: byte 0xe9 at offset 3; .* level='byte'"),
        (
            "ab" * 20,
            {"length": 64},
            "the train part of 40 characters .* has 36; a window of length 64",
        ),
        ("ab" * 90, {"length": 9}, "the validation part of 180 characters .* has 9; .* takes 10"),
        ("ab" * 90, {"length": 8, "fractions": (0.9, 0.1, 0)}, "the test part .* has 0"),
        ("é" * 20, {"level": "byte"}, "the train part of 40 bytes"),
        ("ab" * 90, {"length": 0}, "length must be at least 1, got 0"),
        ("ab" * 90, {"length": 2.5}, "length must be a whole number ≥ 0, got 2.5"),
        ("ab" * 90, {"fractions": (1, 1, 1)}, "three fractions"),
        ("ab" * 90, {"level": "word"}, "level must be 'character' or 'byte', got 'word'"),
    ],
)
def test_text_data_refuses(text, options, message, write):
    with pytest.raises(DataError, match=message):
        text_data(write(text), **options)


def test_no_files():
    with pytest.raises(DataError, match="the paths of one or more text files, got none"):
        text_data([])
