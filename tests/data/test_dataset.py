"""Dataset, arrays and the digits."""

import hashlib

import numpy as np
import pytest

import chainrule.data
from chainrule.data import Dataset, arrays, digits
from chainrule.errors import DataError


def test_every_public_name_is_there():
    assert all(hasattr(chainrule.data, name) for name in chainrule.data.__all__)
    assert chainrule.data.__all__ == sorted(chainrule.data.__all__)


def test_digits_are_the_digits():
    data = digits()
    assert (data.inputs.dtype, data.inputs.shape) == (np.float32, (1797, 64))
    assert (data.targets.dtype, data.targets.shape) == (np.int64, (1797,))
    assert (data.inputs.min(), data.inputs.max()) == (0, 1)
    assert np.bincount(data.targets).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert data.image_shape == (8, 8)
    assert data.task == "classification"
    # Of the pixels 0 to 16 and the digit, as sklearn.datasets.load_digits has them.
    raw = np.column_stack([data.inputs * 16, data.targets]).astype(np.uint8)
    expected = "68aea062d35a127749050fa0e52dca09d6569ac08092c925610e0954e172dde2"
    assert hashlib.sha256(raw.tobytes()).hexdigest() == expected


@pytest.mark.parametrize(
    "targets, task, dtype, classes",
    [
        ([0, 2, 1], "classification", np.int64, ("0", "1", "2")),
        ([True, False, True], "classification", np.int64, ("0", "1")),
        (np.array([0, 1, 1], np.uint8), "classification", np.int64, ("0", "1")),
        ([0.0, 2.0, 1.0], "regression", np.float32, ()),
        ([[0.0], [2.0], [1.0]], "regression", np.float32, ()),
    ],
)
def test_the_dtype_of_the_targets_decides_the_task(targets, task, dtype, classes):
    data = arrays([[1, 2], [3, 4], [5, 6]], targets)
    assert (data.task, data.targets.dtype, data.classes) == (task, dtype, classes)
    assert data.inputs.dtype == np.float32
    assert np.array_equal(data.targets, targets)


def test_a_dataset_is_a_read_only_copy():
    x, y = np.ones((2, 3), np.float32), np.array([0, 1])
    data = arrays(x, y)
    x[:] = 5
    y[:] = 0
    assert data.inputs.max() == 1 and data.targets.max() == 1
    with pytest.raises(ValueError, match="read-only"):
        data.inputs[0] = 0


def test_take_keeps_order_and_names():
    data = arrays([[1], [2], [3]], [0, 1, 2], classes=["a", "b", "c"], features=["f"], name="n")
    part = data.take([2, 0])
    assert part.inputs[:, 0].tolist() == [3, 1]
    assert part.targets.tolist() == [2, 0]
    assert (part.classes, part.features, part.name) == (data.classes, data.features, "n")
    assert data.take(np.array([True, False, True])).targets.tolist() == [0, 2]


@pytest.mark.parametrize(
    "indices, message",
    [
        ([], "at least one"),
        ([0.5], "integers or booleans, got float64"),
        ([[0]], r"shape \(1, 1\)"),
        ([3], "2 examples: index 3 is out of bounds"),
    ],
)
def test_take_refuses(indices, message):
    with pytest.raises(DataError, match=message):
        arrays([[1], [2]], [0, 1]).take(indices)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "inputs, targets, options, message",
    [
        ([1, 2], [0, 1], {}, r"got shape \(2,\); for one feature use inputs.reshape\(-1, 1\)"),
        ([[1], [2]], [0], {}, r"shape \(2, 1\) and targets of shape \(1,\) must have the same"),
        ([[1], [2]], 0, {}, "must have the same length"),
        (np.zeros((0, 2)), [], {}, "hold no values"),
        (np.zeros((2, 0)), [0, 1], {}, "hold no values"),
        ([[1, NAN], [2, 3]], [0, 1], {}, r"inputs\[0, 1\] is nan; every value must be finite"),
        ([[1], [2]], [0.0, INF], {}, r"targets\[1\] is inf"),
        ([[1], [1e300]], [0, 1], {}, r"inputs hold 1e\+300, beyond the range of float32"),
        ([["a"], ["b"]], [0, 1], {}, "inputs must be real numbers, got <U1"),
        ([[1j], [2]], [0, 1], {}, "inputs must be real numbers, got complex128"),
        ([[1], [2]], ["a", "b"], {}, r"got <U1; for names use np.unique"),
        ([[1], [2]], [0, -1], {}, r"targets\[1\] is -1, but labels of 1 classes go from 0 to 0"),
        ([[1], [2]], [-1, -1], {}, r"targets\[0\] is -1, but labels .* count the classes from 0"),
        ([[1], [2]], [0, 2], {"classes": "ab"}, r"targets\[1\] is 2, but .* from 0 to 1"),
        ([[1], [2]], [0, 10**9], {}, "label 1000000000 with only 2 examples"),
        ([[1], [2]], [[0], [1]], {}, r"shape \(n,\), got int64 of shape \(2, 1\)"),
        ([[1], [2]], [0.0, 1.0], {"classes": "ab"}, "classes are named but targets are floats"),
        ([[1], [2]], [0, 1], {"features": ["a", "b"]}, r"2 feature names for inputs of shape"),
        ([[1], [2]], [0, 1], {"image_shape": (2, 2)}, "does not hold the 1 numbers"),
    ],
)
def test_arrays_refuses(inputs, targets, options, message):
    with pytest.raises(DataError, match=message):
        arrays(inputs, targets, **options)


def pixels(*shape):
    return np.zeros(shape, np.uint8)


def tokens(*rows):
    return np.array(rows, np.int64)


def test_pixels_and_tokens_are_kept_as_they_are():
    x = pixels(2, 3, 3, 1)
    images = Dataset(x, np.array([0, 1]), classes=("a", "b"), image_shape=(3, 3))
    assert images.inputs is x and images.task == "classification"
    text = Dataset(tokens([0, 1], [1, 1]), tokens([1, 1], [1, 0]), "text", ("a", "b"))
    assert text.task == "language"
    assert repr(text) == "Dataset('text', 2 examples, inputs (2,), 2 tokens)"
    assert text.take([1]).targets.tolist() == [[1, 0]]
    assert images.epoch(0, 1) is images and text.epoch(5, 2) is text


@pytest.mark.parametrize(
    "inputs, targets, classes, message",
    [
        (np.zeros((1, 1)), tokens(0), "a", "got float64 and int64; chainrule.data.arrays casts"),
        (pixels(1, 1), np.zeros(1), "", "got uint8 and float64"),
        (pixels(1, 1), np.zeros(1, np.int32), "a", "got uint8 and int32"),
        (
            pixels(2, 1),
            tokens(0, 2),
            "ab",
            r"targets\[1\] is 2, but labels of 2 classes go from 0 to 1",
        ),
        (pixels(2, 1), tokens(0, 1), "", "targets are int64 and no classes are named"),
        (
            tokens([0]),
            tokens(0),
            "a",
            r"one shape \(n, length\), got int64 of shape \(1, 1\) and int64",
        ),
        (tokens([[0]]), tokens([[0]]), "a", r"got int64 of shape \(1, 1, 1\)"),
        (tokens([0]), np.zeros((1, 1), np.float32), "a", "and float32 of shape"),
        (tokens([0]), tokens([0]), "", "inputs are tokens and no classes are named"),
        (tokens([0, 2]), tokens([0, 1]), "ab", r"inputs\[0, 1\] is 2, but labels of 2 classes"),
        (tokens([0, 1]), tokens([0, -1]), "ab", r"targets\[0, 1\] is -1"),
        (tokens([], []), tokens([], []), "ab", "hold no values"),
    ],
)
def test_pixels_and_tokens_that_are_refused(inputs, targets, classes, message):
    with pytest.raises(DataError, match=message):
        Dataset(inputs, targets, classes=tuple(classes))


def test_a_fingerprint_is_of_shape_dtype_and_contents(tmp_path, monkeypatch):
    x, y = np.arange(24, dtype=np.uint8).reshape(4, 6), np.array([0, 1, 1, 0])
    classes = ("a", "b")
    one = Dataset(x, y, classes=classes).fingerprint()
    # As every reader can compute it.
    state = hashlib.sha256(b"|u1(4, 6)" + x.tobytes() + b"<i8(4,)" + y.astype("<i8").tobytes())
    assert one == state.hexdigest()
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    same = [np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2], mapped]
    assert {Dataset(each, y, classes=classes).fingerprint() for each in same} == {one}
    monkeypatch.setattr("chainrule.data.dataset.CHUNK", 5)
    assert Dataset(x, y, classes=classes).fingerprint() == one
    others = [
        (x.reshape(4, 2, 3), y), (x.astype(np.float32), y), (x + np.uint8(1), y),
        (x[::-1], y), (x, 1 - y), (x, y.astype(np.float32)),
    ]  # fmt: skip
    found = {
        Dataset(a, b, classes=classes if b.dtype == np.int64 else ()).fingerprint()
        for a, b in others
    }
    assert len(found | {one}) == 7


def test_a_dataset_refuses_other_dtypes():
    with pytest.raises(DataError, match=r"got float64 and int64; chainrule.data.arrays casts"):
        Dataset(np.zeros((1, 1)), np.zeros(1, np.int64), classes=("a",))
    with pytest.raises(DataError, match="targets are int64 and no classes are named"):
        Dataset(np.zeros((1, 1), np.float32), np.zeros(1, np.int64))
