"""Image features from before networks learned their own, and the map that unrolls rings.

Images are uint8 (0..255) or floats (0..1) of shape (n, h, w) or (n, h, w, c); features are float32
of shape (n, features).
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError
from .batching import generator, whole
from .dataset import Dataset, arrays, chunks

Features = NDArray[np.float32]
CLIP = 0.2
EPSILON = 1e-5
PART = 1 << 20
"""Bytes of images looked at in one go; what is computed of them takes a hundred times as much."""


def colour_histogram(
    images: ArrayLike, bins: int = 8, space: Literal["hue", "rgb"] = "hue"
) -> Features:
    """The share of pixels whose hue lies in each of `bins` equal parts of the colour circle.

    Images are (n, h, w, 3); the result is (n, bins). The first bin begins at red. Grey pixels have
    no hue and count in no bin, so a row adds up to the share of coloured pixels. With space "rgb"
    it is the histogram of red, then green, then blue, over 0 to 1: (n, 3·bins).

    Raises DataError for other shapes, dtypes and values.

    Source: CS231n, "Image features"; hue as in A. R. Smith, Color gamut transform pairs, 1978.

    >>> red_and_blue = np.array([[[[255, 0, 0], [0, 0, 255], [9, 9, 9], [250, 1, 0]]]], np.uint8)
    >>> colour_histogram(red_and_blue, bins=3).tolist()
    [[0.5, 0.0, 0.25]]
    """
    _at_least(1, "bins", bins)
    if space not in ("hue", "rgb"):
        raise DataError(f"space must be 'hue' or 'rgb', got {space!r}")
    x = _images(images)
    if x.shape[3] != 3:
        raise DataError(f"colour_histogram wants images of shape (n, h, w, 3), got {x.shape}")
    return _in_parts(x, lambda part: _hues(part, bins) if space == "hue" else _levels(part, bins))


def histogram_of_oriented_gradients(
    images: ArrayLike, cell: int = 8, bins: int = 9, block: int = 2
) -> Features:
    """HOG: histograms of the gradient's direction in cells, normalised in overlapping blocks.

    With a gradient (-1, 0, 1) along both axes (borders repeated; of several channels the largest),
    each pixel votes with its length for the two nearest of `bins` directions in 0..180°, whose
    centres lie at (k + ½)·180°/bins, and in the four nearest cells of cell×cell pixels, each by
    nearness; rows and columns beyond the last whole cell are left out. Every block of block×block
    cells is divided by its length, clipped at 0.2 and divided again. The result is
    (n, rows·columns·block·block·bins) with rows = h//cell - block + 1 and columns alike.

    Of the paper's choices only the Gaussian window over a block is left out.

    Raises DataError for images without room for a block, other shapes, dtypes and values.

    Source: N. Dalal, B. Triggs, Histograms of oriented gradients for human detection, CVPR 2005.

    >>> ramp = np.tile(np.linspace(0, 1, 16), (1, 16, 1))  # brighter to the right: direction 0°
    >>> histogram_of_oriented_gradients(ramp, cell=16, bins=4, block=1).round(2)
    array([[0.71, 0.  , 0.  , 0.71]], dtype=float32)
    """
    for what, value, least in (("cell", cell, 1), ("bins", bins, 2), ("block", block, 1)):
        _at_least(least, what, value)
    x = _images(images)
    if min(x.shape[1:3]) < cell * block:
        raise DataError(
            f"images of shape {x.shape} have no room for a block of {block}×{block} cells of "
            f"{cell}×{cell} pixels; use a smaller cell or block"
        )
    return _in_parts(x, lambda part: _hog(part, cell, bins, block))


def polar(points: ArrayLike) -> NDArray[Any]:
    """(x, y) → (r, θ) with r = √(x² + y²) and θ = atan2(y, x) in -π..π, along the last axis.

    The dtype is that of the points (integers become float64). Raises DataError for a last axis
    that is not 2.

    >>> polar([[0.0, 2.0], [3.0, 4.0]]).round(3).tolist()
    [[2.0, 1.571], [5.0, 0.927]]
    """
    p = np.asarray(points)
    if p.ndim == 0 or p.shape[-1] != 2 or p.dtype.kind not in "iuf":
        raise DataError(f"polar wants numbers (…, 2), got {p.dtype} of shape {p.shape}")
    x, y = p[..., 0], p[..., 1]
    return np.stack([np.hypot(x, y), np.arctan2(y, x)], axis=-1)


def rings(n: int, seed: int) -> Dataset:
    """n points on two rings around the origin, radii 0.5 and 1.5 ± 0.1 (normal), half on each.

    No line separates them; after `polar` one does.

    >>> rings(100, seed=0)
    Dataset('rings', 100 examples, inputs (2,), 2 classes)
    """
    if whole("n", n) < 2:
        raise DataError(f"rings wants at least 2 points, got {n}")
    rng = generator(seed, 0)
    outer = np.arange(n) % 2
    angle = rng.uniform(-np.pi, np.pi, n)
    radius = 0.5 + outer + 0.1 * rng.standard_normal(n)
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return arrays(x, outer, classes=("inner", "outer"), features=("x", "y"), name="rings")


def _images(images: ArrayLike) -> NDArray[Any]:
    """Checked images as (n, h, w, c), not copied."""
    x = np.asarray(images)
    if x.ndim not in (3, 4) or x.size == 0:
        raise DataError(f"images must be of shape (n, h, w) or (n, h, w, c), got {x.shape}")
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise DataError(f"images must be uint8 (0..255) or floats (0..1), got {x.dtype}")
    # A NaN fails the comparison, too.
    if x.dtype.kind == "f" and not (x.min() >= 0 and x.max() <= 1):
        raise DataError(f"images of floats go from 0 to 1, got {x.min():g} to {x.max():g}")
    return x if x.ndim == 4 else x[..., None]


def _in_parts(images: NDArray[Any], function: Callable[[Any], NDArray[Any]]) -> Features:
    """`function` of a few images at a time, in float64 0..1, so that memory stays small."""
    scale = 255 if images.dtype == np.uint8 else 1
    parts = [function(part.astype(np.float64) / scale) for part in chunks(images, PART)]
    return np.concatenate(parts).astype(np.float32)


def _hues(images: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    red, green, blue = np.moveaxis(images, -1, 0)
    top = images.max(-1)
    chroma = top - images.min(-1)
    coloured = chroma > 0
    width = np.where(coloured, chroma, 1)
    sextant = np.where(
        top == red, (green - blue) / width % 6,
        np.where(top == green, (blue - red) / width + 2, (red - green) / width + 4),
    )  # fmt: skip
    return _shares(sextant / 6, bins, coloured)


def _levels(images: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    every = np.ones(images.shape[:3])
    return np.concatenate([_shares(images[..., k], bins, every) for k in range(3)], axis=1)


def _shares(values: NDArray[np.float64], bins: int, weights: NDArray[Any]) -> NDArray[np.float64]:
    """The weighted share of each image's values (n, h, w) in `bins` equal parts of 0..1."""
    n = len(values)
    index = np.minimum((values * bins).astype(np.int64), bins - 1)
    index += bins * np.arange(n).reshape(n, 1, 1)
    counts = np.bincount(index.ravel(), weights.ravel(), n * bins)
    shares: NDArray[np.float64] = counts.reshape(n, bins) / values[0].size
    return shares


def _hog(images: NDArray[np.float64], cell: int, bins: int, block: int) -> NDArray[np.float64]:
    n, rows, columns = len(images), images.shape[1] // cell, images.shape[2] // cell
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), "edge")
    down, right = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]), padded[:, 1:-1, 2:]
    right = right - padded[:, 1:-1, :-2]
    length = np.hypot(down, right)
    largest = length.argmax(-1)[..., None]
    down, right, length = (
        np.take_along_axis(each, largest, -1)[:, : rows * cell, : columns * cell, 0]
        for each in (down, right, length)
    )
    place = np.arctan2(down, right) % np.pi / np.pi * bins - 0.5
    # Directions go round: the distance from the last to the first is 1.
    away = np.abs(place[..., None] - np.arange(bins))
    votes = length[..., None] * _hat(np.minimum(away, bins - away))
    to_rows, to_columns = (
        _hat((np.arange(count * cell) + 0.5) / cell - 0.5 - np.arange(count)[:, None])
        for count in (rows, columns)
    )
    histograms = np.einsum("ri,nijb,cj->nrcb", to_rows, votes, to_columns, optimize=True)
    windows = np.lib.stride_tricks.sliding_window_view(histograms, (block, block), (1, 2))
    blocks = windows.transpose(0, 1, 2, 4, 5, 3).reshape(n, -1, block * block * bins)
    clipped = np.minimum(_normal(blocks), CLIP)
    return _normal(clipped).reshape(n, -1)


def _hat(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """max(0, 1 - |distance|): what each of the two nearest whole numbers gets."""
    share: NDArray[np.float64] = np.maximum(0, 1 - np.abs(distance))
    return share


def _normal(blocks: NDArray[np.float64]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = blocks / np.sqrt((blocks**2).sum(-1, keepdims=True) + EPSILON**2)
    return unit


def _at_least(least: int, what: str, value: int) -> None:
    if whole(what, value) < least:
        raise DataError(f"{what} must be at least {least}, got {value}")
