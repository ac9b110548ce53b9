"""Augmentation: pictures changed at random, each differently, so that a model sees more of them.

Each function here returns a function (x, rng) -> x for `batches(…, augment=…)`: x are float32
pictures (n, h, w) or (n, h, w, c), or flat ones (n, …) with their `shape` given; the result has the
shape and dtype of x. All randomness is rng's.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .batching import Augment, whole

Pictures = NDArray[Any]
Shape = tuple[int, ...] | None


def compose(*augments: Augment) -> Augment:
    """One after the other: x → aₙ(…a₁(x)).

    >>> both = compose(shift(1), flip())
    >>> both(np.ones((2, 8, 8), np.float32), np.random.default_rng(0)).shape
    (2, 8, 8)
    """

    def apply(x: Pictures, rng: np.random.Generator) -> Pictures:
        for augment in augments:
            x = augment(x, rng)
        return x

    return apply


def shift(pixels: int, shape: Shape = None) -> Augment:
    """Each picture moved by -pixels to pixels, up or down and left or right; 0 comes in.

    >>> picture = np.array([[[0, 0, 0], [0, 1, 0], [0, 0, 0]]], np.float32)
    >>> shift(1)(picture, np.random.default_rng(5)).tolist()
    [[[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]]
    """
    return _moved(pixels, {"mode": "constant"}, shape)


def crop(padding: int, shape: Shape = None) -> Augment:
    """Each picture padded by its own mirror image and cut back to its size at a random place.

    The border pixels are not repeated. `padding` must be less than height and width.

    >>> picture = np.arange(9, dtype=np.float32).reshape(1, 3, 3)
    >>> crop(1)(picture, np.random.default_rng(9)).tolist()
    [[[1.0, 2.0, 1.0], [4.0, 5.0, 4.0], [7.0, 8.0, 7.0]]]
    """
    return _moved(padding, {"mode": "reflect"}, shape)


def flip(horizontal: bool = True, shape: Shape = None) -> Augment:
    """Each picture mirrored with probability ½: left and right, or with False top and bottom.

    >>> flip()(np.array([[[1, 2, 3]]] * 3, np.float32), np.random.default_rng(0))[:, 0].tolist()
    [[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [3.0, 2.0, 1.0]]
    """

    def apply(x: Pictures, rng: np.random.Generator) -> Pictures:
        mirrored = x[:, :, ::-1] if horizontal else x[:, ::-1]
        chosen = rng.random(len(x)) < 0.5
        return np.where(chosen.reshape(-1, *[1] * (x.ndim - 1)), mirrored, x)

    return _on_pictures(apply, shape)


def noise(std: float) -> Augment:
    """x + std·z with z standard normal: for inputs of any shape; not clipped to 0..1.

    >>> noise(0.1)(np.zeros((1, 2), np.float32), np.random.default_rng(0)).round(2)
    array([[ 0.11, -0.14]], dtype=float32)
    """
    if not 0 <= std < np.inf:
        raise DataError(f"noise wants a standard deviation ≥ 0, got {std}")

    def apply(x: Pictures, rng: np.random.Generator) -> Pictures:
        noisy: Pictures = x + np.float32(std) * rng.standard_normal(x.shape, np.float32)
        return noisy

    return apply


def _moved(pixels: int, padding: dict[str, Any], shape: Shape) -> Augment:
    """Padded by `pixels` on each side, and cut back to the size at a random place."""
    reach = whole("pixels", pixels)

    def apply(x: Pictures, rng: np.random.Generator) -> Pictures:
        n, h, w = x.shape[:3]
        if reach >= min(h, w):
            name = "crop" if padding["mode"] == "reflect" else "shift"
            raise DataError(f"{name}({reach}) by {reach} pixels, but pictures are {h}×{w}")
        widths = [(0, 0), (reach, reach), (reach, reach)] + [(0, 0)] * (x.ndim - 3)
        padded = np.pad(x, widths, **padding)
        at = rng.integers(2 * reach + 1, size=(2, n, 1))
        rows, columns = at[0] + np.arange(h), at[1] + np.arange(w)
        moved: Pictures = padded[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
        return moved

    return _on_pictures(apply, shape)


def _on_pictures(apply: Callable[..., Pictures], shape: Shape) -> Augment:
    """`apply` on pictures (n, h, w) or (n, h, w, c), flat ones unfolded to `shape` and back."""

    def augment(x: Pictures, rng: np.random.Generator) -> Pictures:
        pictures = x
        if shape is not None:
            if len(shape) not in (2, 3) or np.prod(shape) != np.prod(x.shape[1:]):
                raise DataError(
                    f"shape={shape} for inputs of shape {x.shape}; expected (h, w) or (h, w, c) "
                    f"of {np.prod(x.shape[1:])} numbers"
                )
            pictures = x.reshape(len(x), *shape)
        if pictures.ndim not in (3, 4):
            raise DataError(
                f"augmentation wants pictures (n, h, w) or (n, h, w, c), got shape {x.shape}; "
                "for flat pictures give shape=(h, w)"
            )
        return apply(pictures, rng).reshape(x.shape)

    return augment
