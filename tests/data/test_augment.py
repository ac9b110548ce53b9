"""Augmentation: what each does to a picture, and that a seed decides it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.data import arrays, augment, batches
from chainrule.errors import DataError

SHAPES = st.sampled_from([(1, 6, 5), (7, 6, 5, 1), (3, 4, 9, 3), (0, 4, 4)])
EACH = {
    "shift": lambda **options: augment.shift(2, **options),
    "crop": lambda **options: augment.crop(2, **options),
    "flip": lambda **options: augment.flip(**options),
    "upside down": lambda **options: augment.flip(False, **options),
    "noise": lambda **_: augment.noise(0.1),
    "compose": lambda **options: augment.compose(
        augment.shift(1, **options), augment.flip(**options), augment.noise(0.5)
    ),
}


def numbered(shape):
    """Pictures whose values are all different and above 0."""
    return np.arange(1, np.prod(shape) + 1, dtype=np.float32).reshape(shape)


@pytest.mark.parametrize("name", EACH)
@settings(deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 2**32))
def test_shape_dtype_seed_and_flat_pictures(name, shape, seed):
    x = numbered(shape)
    before = x.copy()
    one, two = (EACH[name]()(x, np.random.default_rng(seed)) for _ in range(2))
    assert one.shape == x.shape and one.dtype == np.float32
    assert np.array_equal(one, two) and np.array_equal(x, before)
    flat = EACH[name](shape=shape[1:])(
        x.reshape(len(x), np.prod(shape[1:])), np.random.default_rng(seed)
    )
    assert flat.shape == (len(x), np.prod(shape[1:]))
    if "noise" not in name and name != "compose":
        assert np.array_equal(flat.reshape(shape), one)


@settings(deadline=None)
@given(shape=SHAPES, pixels=st.integers(0, 3), seed=st.integers(0, 2**32))
@pytest.mark.parametrize("mode", ["constant", "reflect"])
def test_each_picture_is_one_of_the_moved_ones(shape, pixels, seed, mode):
    x = numbered(shape)
    make = augment.shift if mode == "constant" else augment.crop
    moved = make(pixels)(x, np.random.default_rng(seed))
    pads = [(pixels, pixels)] * 2 + [(0, 0)] * (x.ndim - 3)
    h, w = shape[1:3]
    for picture, result in zip(x, moved, strict=True):
        padded = np.pad(picture, pads, mode)
        places = np.ndindex(2 * pixels + 1, 2 * pixels + 1)
        assert any(np.array_equal(padded[r : r + h, c : c + w], result) for r, c in places)


def test_every_move_and_every_flip_comes_up():
    x = np.zeros((900, 5, 5), np.float32)
    x[:, 2, 2] = 1
    at = augment.shift(2)(x, np.random.default_rng(0)).reshape(900, 25).argmax(1)
    counts = np.bincount(at, minlength=25)
    assert counts.min() > 15 and counts.sum() == 900
    x[:, 2, 0] = 2
    left = augment.flip()(x, np.random.default_rng(0))[:, 2, 0] == 2
    assert 400 < left.sum() < 500


@pytest.mark.parametrize("horizontal, mirrored", [(True, np.s_[:, ::-1]), (False, np.s_[::-1])])
def test_flip_mirrors_or_leaves(horizontal, mirrored):
    x = numbered((40, 3, 4, 2))
    for picture, result in zip(
        x, augment.flip(horizontal)(x, np.random.default_rng(1)), strict=True
    ):
        assert np.array_equal(result, picture) or np.array_equal(result, picture[mirrored])


def test_noise_has_its_deviation():
    x = np.full((50, 40, 40), 3, np.float32)
    change = augment.noise(0.25)(x, np.random.default_rng(0)) - x
    assert abs(change.std() - 0.25) < 0.003 and abs(change.mean()) < 0.004
    assert np.array_equal(augment.noise(0)(x, np.random.default_rng(0)), x)


def test_compose_goes_from_left_to_right():
    x = np.ones((1, 1, 1), np.float32)
    both = augment.compose(lambda x, rng: x + 1, lambda x, rng: x * 10)
    assert both(x, None).item() == 20
    assert augment.compose()(x, None) is x


def test_a_skipped_epoch_is_augmented_alike():
    data = arrays(np.random.default_rng(0).random((20, 36)), np.arange(20) % 2)
    options = {"seed": 3, "epoch": 4, "augment": EACH["compose"](shape=(6, 6))}
    whole = [x for x, _ in batches(data, 4, **options)]
    rest = [x for x, _ in batches(data, 4, start=3, ahead=2, **options)]
    assert all(np.array_equal(one, two) for one, two in zip(whole[3:], rest, strict=True))


X = np.zeros((2, 4, 5), np.float32)


@pytest.mark.parametrize(
    "make, x, message",
    [
        (lambda: augment.shift(-1), X, "pixels must be a whole number ≥ 0, got -1"),
        (lambda: augment.crop(1.5), X, "pixels must be a whole number ≥ 0, got 1.5"),
        (lambda: augment.noise(-0.1), X, "a standard deviation ≥ 0, got -0.1"),
        (lambda: augment.noise(float("nan")), X, "a standard deviation ≥ 0, got nan"),
        (lambda: augment.crop(4), X, r"crop\(4\) by 4 pixels, but pictures are 4×5"),
        (lambda: augment.flip(), X[0], r"wants pictures .* got shape \(4, 5\); .* shape=\(h, w\)"),
        (lambda: augment.shift(1), X[..., None, None], "augmentation wants pictures"),
        (
            lambda: augment.flip(shape=(3, 3)),
            X,
            r"shape=\(3, 3\) for inputs of shape .* 20 numbers",
        ),
        (lambda: augment.flip(shape=(20,)), X, r"shape=\(20,\) for inputs"),
    ],
)
def test_refused(make, x, message):
    with pytest.raises(DataError, match=message):
        make()(x, np.random.default_rng(0))
