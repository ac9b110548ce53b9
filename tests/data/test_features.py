"""Image features against slow loops and known values, and what they are good for (N8)."""

import colorsys
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import chainrule as cr
from chainrule.data import (
    colour_histogram,
    digits,
    fashion_mnist,
    histogram_of_oriented_gradients,
    polar,
    rings,
    split_dataset,
)  # fmt: skip
from chainrule.data.mnist import DEBIAN
from chainrule.errors import DataError

hog = histogram_of_oriented_gradients
RNG = np.random.default_rng(0)
PHOTO = RNG.random((3, 17, 19, 3))

# -- colours ------------------------------------------------------------------------------------


def slow_hues(image, bins):
    counts = np.zeros(bins)
    for pixel in image.reshape(-1, 3):
        if pixel.max() > pixel.min():
            counts[int(colorsys.rgb_to_hsv(*pixel)[0] * bins)] += 1
    return counts / (image.size // 3)


@pytest.mark.parametrize("bins", [1, 3, 8, 10])
def test_hues_against_a_slow_loop(bins):
    expected = [slow_hues(image, bins) for image in PHOTO]
    assert np.allclose(colour_histogram(PHOTO, bins), expected, atol=1e-7)


@pytest.mark.parametrize("bins", [1, 7, 256])  # no pixel on an edge
def test_levels_against_numpy(bins):
    pixels = RNG.integers(256, size=(2, 9, 8, 3), dtype=np.uint8)
    expected = [
        np.concatenate([np.histogram(image[..., c] / 255, bins, (0, 1))[0] for c in range(3)]) / 72
        for image in pixels
    ]
    assert np.allclose(colour_histogram(pixels, bins, "rgb"), expected, atol=1e-7)


COLOURS = ["ff0000", "ffff00", "00ff00", "00ffff", "0000ff", "ff00ff"]


@pytest.mark.parametrize("k, colour", list(enumerate(COLOURS)))
def test_the_pure_colours_are_the_six_parts_of_the_circle(k, colour):
    image = np.tile(np.frombuffer(bytes.fromhex(colour), np.uint8), (1, 4, 4, 1))
    assert colour_histogram(image, 6).tolist() == [np.eye(6)[k].tolist()]
    # Darker or paler is the same hue.
    for other in (image // 5, 200 + image // 5):
        assert colour_histogram(other, 6).tolist() == [np.eye(6)[k].tolist()]


def test_grey_has_no_hue():
    grey = np.repeat(RNG.integers(256, size=(2, 5, 5, 1), dtype=np.uint8), 3, axis=-1)
    assert not colour_histogram(grey).any()
    assert np.allclose(colour_histogram(grey, 4, "rgb").sum(1), 3)


@settings(deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(*[st.integers(1, 4)] * 3, st.just(3))), st.integers(1, 20))
def test_histograms_are_shares_of_pixels_wherever_they_are(images, bins):
    hues = colour_histogram(images, bins)
    coloured = (images.max(-1) > images.min(-1)).mean((1, 2))
    assert hues.shape == (len(images), bins) and hues.dtype == np.float32
    assert np.allclose(hues.sum(1), coloured, atol=1e-6)
    assert np.array_equal(colour_histogram(images[:, ::-1, ::-1], bins), hues)
    assert np.array_equal(colour_histogram(images / 255, bins), hues)


# -- oriented gradients -------------------------------------------------------------------------


def slow_hog(image, cell, bins, block):
    """The definition, pixel by pixel, of one image (h, w, c)."""
    h, w, channels = image.shape
    rows, columns = h // cell, w // cell
    votes = np.zeros((rows, columns, bins))
    for i in range(rows * cell):
        for j in range(columns * cell):
            options = []
            for c in range(channels):
                up, down = image[max(i - 1, 0), j, c], image[min(i + 1, h - 1), j, c]
                left, right = image[i, max(j - 1, 0), c], image[i, min(j + 1, w - 1), c]
                options.append((math.hypot(down - up, right - left), down - up, right - left))
            length, dy, dx = max(options, key=lambda option: option[0])
            angle = math.degrees(math.atan2(dy, dx)) % 180
            for k in range(bins):
                centre = (k + 0.5) * 180 / bins
                away = min(abs(angle - centre), 180 - abs(angle - centre)) / (180 / bins)
                for r in range(rows):
                    for s in range(columns):
                        by = 1 - abs((i + 0.5) / cell - (r + 0.5))
                        bx = 1 - abs((j + 0.5) / cell - (s + 0.5))
                        if away < 1 and by > 0 and bx > 0:
                            votes[r, s, k] += length * (1 - away) * by * bx
    out = []
    for r in range(rows - block + 1):
        for s in range(columns - block + 1):
            v = votes[r : r + block, s : s + block].ravel()
            v = np.minimum(v / math.sqrt(v @ v + 1e-10), 0.2)
            out.append(v / math.sqrt(v @ v + 1e-10))
    return np.concatenate(out)


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 9, 13), (1, 12, 8, 3)])
@pytest.mark.parametrize("cell, bins, block", [(4, 9, 2), (3, 2, 1), (2, 6, 3)])
def test_hog_against_a_slow_loop(shape, cell, bins, block):
    images = RNG.random(shape)
    expected = [slow_hog(x, cell, bins, block) for x in images.reshape(*shape[:3], -1)]
    result = hog(images, cell, bins, block)
    assert result.shape == np.shape(expected) and result.dtype == np.float32
    assert np.allclose(result, expected, atol=1e-6)


@pytest.mark.parametrize("degrees", range(0, 180, 15))
def test_the_bin_is_the_direction_of_the_slope(degrees):
    """Of 12 bins the centres are 7.5°, 22.5°, …: a direction of 15·k votes for two of them."""
    angle = math.radians(degrees)
    y, x = np.mgrid[:24, :24] / 48
    slope = (x * math.cos(angle) + y * math.sin(angle)) / 2 + 0.5
    k = degrees // 15
    # Inside, away from the repeated border.
    inner = hog(slope[None], 8, 12, 1).reshape(3, 3, 12)[1, 1]
    expected = np.zeros(12)
    expected[[k - 1, k]] = math.sqrt(0.5)
    assert np.allclose(inner, expected, atol=1e-3)


IMAGES = RNG.random((2, 16, 16, 1))


@pytest.mark.parametrize(
    "change, same",
    [
        (lambda x: x / 2 + 0.3, lambda f: f),
        (lambda x: 1 - x, lambda f: f),  # directions are without sign
        (lambda x: x[:, :, ::-1], lambda f: f[:, :, ::-1, :, ::-1, ::-1]),
        (lambda x: x[:, ::-1], lambda f: f[:, ::-1, :, ::-1, :, ::-1]),
        (lambda x: x.transpose(0, 2, 1, 3)[:, ::-1],  # a quarter turn: half the bins on
         lambda f: np.roll(f.transpose(0, 2, 1, 4, 3, 5)[:, ::-1, :, ::-1], 4, -1)),
        (lambda x: np.repeat(x, 3, axis=-1), lambda f: f),
        (lambda x: x.astype(np.float32), lambda f: f),
    ],
    ids=["contrast", "negative", "mirrored", "upside down", "turned", "channels", "float32"],
)  # fmt: skip
def test_what_hog_does_not_see(change, same):
    def features(x):
        return hog(x, 4, 8, 2).reshape(2, 3, 3, 2, 2, 8)

    assert np.allclose(features(change(IMAGES)), same(features(IMAGES)), atol=1e-4)


def test_hog_of_pixels_of_nothing_and_of_many_parts(monkeypatch):
    pixels = RNG.integers(256, size=(7, 8, 8), dtype=np.uint8)
    whole = hog(pixels, 4)
    assert np.allclose(whole, hog(pixels / 255, 4), atol=1e-5)
    assert not hog(np.full((1, 16, 16), 0.5)).any()
    monkeypatch.setattr("chainrule.data.features.PART", 130)
    assert np.array_equal(hog(pixels, 4), whole)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: hog(np.zeros((2, 15, 16))), r"\(2, 15, 16, 1\) have no room for a block of 2×2"),
        (lambda: hog(np.zeros((4, 4))), r"of shape \(n, h, w\) or \(n, h, w, c\), got \(4, 4\)"),
        (lambda: hog(np.zeros((0, 4, 4))), r"got \(0, 4, 4\)"),
        (lambda: hog(np.full((1, 16, 16), 255.0)), "floats go from 0 to 1, got 255 to 255"),
        (lambda: hog(np.full((1, 16, 16), np.nan)), "floats go from 0 to 1, got nan to nan"),
        (lambda: hog(np.zeros((1, 16, 16), int)), "must be uint8 .* or floats .* got int64"),
        (lambda: hog(PHOTO, bins=1), "bins must be at least 2, got 1"),
        (lambda: hog(PHOTO, cell=0), "cell must be at least 1, got 0"),
        (lambda: hog(PHOTO, block=1.5), "block must be a whole number ≥ 0, got 1.5"),
        (lambda: colour_histogram(PHOTO[..., 0]), r"shape \(n, h, w, 3\), got \(3, 17, 19, 1\)"),
        (lambda: colour_histogram(PHOTO, 0), "bins must be at least 1"),
        (lambda: colour_histogram(PHOTO, space="hsv"), "space must be 'hue' or 'rgb', got 'hsv'"),
        (
            lambda: polar(np.zeros((4, 3))),
            r"polar wants numbers \(…, 2\), got float64 of shape \(4,",
        ),
        (lambda: polar(1.0), "polar wants numbers"),
        (lambda: polar([[1j, 2]]), "got complex128"),
        (lambda: rings(1, 0), "at least 2 points, got 1"),
    ],
)
def test_refused(call, message):
    with pytest.raises(DataError, match=message):
        call()


# -- what they are good for ---------------------------------------------------------------------


@settings(deadline=None)
@given(hnp.arrays(np.float64, (5, 2), elements=st.floats(-1e6, 1e6)))
def test_polar_is_undone_by_cosine_and_sine(points):
    r, angle = polar(points).T
    back = np.stack([r * np.cos(angle), r * np.sin(angle)], axis=1)
    assert np.allclose(back, points, atol=1e-9 * (1 + np.abs(points).max()))
    assert (r >= 0).all() and (np.abs(angle) <= np.pi).all()


def test_polar_keeps_dtype_and_shape():
    assert polar(np.zeros((3, 4, 2), np.float32)).dtype == np.float32
    assert polar(np.zeros((3, 4, 2), np.float32)).shape == (3, 4, 2)
    assert polar([[3, 4]]).dtype == np.float64
    assert polar(np.zeros((0, 2))).shape == (0, 2)


def test_rings_are_half_and_half_and_decided_by_the_seed():
    data = rings(101, seed=3)
    r = polar(data.inputs)[:, 0]
    for label, radius in ((0, 0.5), (1, 1.5)):
        assert abs(r[data.targets == label].mean() - radius) < 0.05
    assert np.bincount(data.targets).tolist() == [51, 50]
    assert rings(101, seed=3).fingerprint() == data.fingerprint() != rings(101, 4).fingerprint()


def accuracy(train, test, rate, epochs=30):
    """The test accuracy of a linear classifier of pairs (inputs, targets)."""
    model = cr.nn.Linear(train[0].shape[1], 10, seed=0)
    optimizer = cr.optim.Adam(model, lr=rate)
    cr.train.fit(model, train, epochs=epochs, optimizer=optimizer, progress=False)
    return cr.nn.accuracy(model(test[0]), test[1])


@pytest.mark.parametrize("seed", range(3))
def test_rings_are_separable_after_polar_only(seed):
    train, test = rings(200, seed), rings(200, seed + 100)
    pairs = [(data.inputs, data.targets) for data in (train, test)]
    assert accuracy(*pairs, rate=0.02, epochs=60) < 0.7
    assert accuracy(*((polar(x), y) for x, y in pairs), rate=0.02, epochs=60) == 1


def compare(train, test, cell, rate):
    """Test accuracies on raw pixels and on oriented gradients; data are (images 0..1, labels)."""
    raw = ((x.reshape(len(x), -1).astype(np.float32), y) for x, y in (train, test))
    features = ((hog(x, cell), y) for x, y in (train, test))
    return accuracy(*raw, rate), accuracy(*features, rate)


def test_gradients_beat_pixels_on_few_digits():
    """200 real digits to learn from: 83.6 % on pixels, 88.3 % on gradients."""
    train, _, test = split_dataset(digits(), seed=0)
    pairs = [(d.inputs.reshape(-1, 8, 8), d.targets) for d in (train.take(np.arange(200)), test)]
    pixels, gradients = compare(*pairs, cell=2, rate=0.01)
    assert 0.75 < pixels < pixels + 0.02 < gradients


def test_gradients_beat_pixels_on_clothes():
    """1,000 real pictures to learn from: 79.4 % on pixels, 84.0 % on gradients."""
    if not DEBIAN.exists():
        pytest.skip("the package dataset-fashion-mnist is not installed")
    parts = zip(fashion_mnist(DEBIAN), (1000, 2000), strict=True)
    picked = [part.take(np.random.default_rng(0).permutation(len(part))[:n]) for part, n in parts]
    pairs = [(part.inputs[..., 0] / 255, part.targets) for part in picked]
    pixels, gradients = compare(*pairs, cell=4, rate=3e-3)
    assert 0.75 < pixels < pixels + 0.02 < gradients
