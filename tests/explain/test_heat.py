"""Heat pictures: files that others read, colours that say the sign, any shape."""

from __future__ import annotations

import io

import numpy as np
import pytest

from chainrule.explain.heat import MIDDLE, NEGATIVE, NONFINITE, POSITIVE, colours, heat, matrix, png

image = pytest.importorskip("PIL.Image", reason="Pillow is absent: nothing else reads PNG files")


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, 7, 3), (64, 1, 3)])
def test_others_read_the_same_pixels(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert np.array_equal(np.asarray(image.open(io.BytesIO(png(pixels)))), pixels)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (4, 0, 3)])
def test_nothing_is_one_white_pixel(shape: tuple[int, ...]) -> None:
    pixels = colours(matrix(np.zeros(shape)))
    assert image.open(io.BytesIO(png(pixels))).size == (1, 1)


def test_colours_say_sign_and_size() -> None:
    found = colours([[-2.0, 0.0, 2.0, np.nan, np.inf]])[0].tolist()
    assert found == [list(c) for c in (NEGATIVE, MIDDLE, POSITIVE, NONFINITE, NONFINITE)]
    half = colours([[1.0]], limit=2.0)[0, 0]
    assert ((half > np.minimum(MIDDLE, POSITIVE)) & (half < np.maximum(MIDDLE, POSITIVE))).all()


def test_zeros_are_white() -> None:
    assert (colours(np.zeros((2, 2))) == MIDDLE).all()


@pytest.mark.parametrize("shape", [(), (1,), (7,), (100,), (1000, 784), (3, 4, 5), (25, 13)])
def test_a_matrix_keeps_the_mean_and_fits(shape: tuple[int, ...]) -> None:
    found = matrix(np.ones(shape), 10, 4)
    if len(shape) > 1:
        assert found.shape[0] <= 4
        assert np.allclose(found, 1)
    assert found.shape[1] <= 10


def test_blocks_are_means() -> None:
    values = np.arange(24.0).reshape(4, 6)
    assert np.array_equal(matrix(values, 3, 2), values.reshape(2, 2, 3, 2).mean((1, 3)))


def test_a_picture_is_small() -> None:
    assert len(heat(np.random.default_rng(0).normal(size=(1000, 1000)))) < 1500
