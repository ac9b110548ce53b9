"""Random numbers from a key: the same bits in every mode of running, on any number of threads.

Entry n of `bits(key, shape)` is word n mod 2 of Threefry-2x32(key, n div 2) (Salmon et al. 2011,
"Parallel random numbers: as easy as 1, 2, 3"). There is no global generator: a key is an array of
two uint32 words, made from a seed and split at will.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.primitive import Array, Primitive
from ..core.special import bits as _threefry_bits
from ..core.types import ArrayType, Shape, as_dtype, as_shape, float32, float64, size_of, uint32
from ..errors import DataError, DTypeError, ShapeError
from .arithmetic import minimum
from .dispatch import astype, bind, to_tensor
from .indexing import take
from .reducing import argsort
from .shaping import reshape
from .tensor import ArrayLike, Tensor, constant
from .transcendental import erfinv

__all__ = [
    "bernoulli", "bits", "choice", "fold_in", "integers", "key", "normal", "permutation", "split",
    "uniform",
]  # fmt: skip


class Bits(Primitive):
    """Random 32-bit words of a shape from a key (keys in leading axes give one block each)."""

    name = "random_bits"
    differentiable = False

    def forward(self, key: Array, *, shape: Shape) -> Array:
        words = _threefry_bits(key, size_of(shape))
        return words.reshape(key.shape[:-1] + shape)

    def type(self, *types: ArrayType, **params: Any) -> ArrayType:
        return ArrayType(types[0].shape[:-1] + params["shape"], uint32)


BITS = Bits()


def key(seed: int) -> Tensor:
    """The key of a seed: its low and high 32 bits.

    >>> import chainrule as cr
    >>> cr.random.key(1)
    asarray([1, 0], dtype=uint32)
    """
    if not hasattr(seed, "__index__"):
        raise DTypeError(f"a seed is a whole number, received {seed!r}")
    number = seed.__index__()
    if not 0 <= number < 2**64:
        raise DataError(f"a seed is a whole number from 0 to 2**64 - 1, received {number}")
    return constant(np.array([number & 0xFFFFFFFF, number >> 32], np.uint32))


def bits(key: ArrayLike, shape: int | Shape = ()) -> Tensor:
    """Random 32-bit words: entry n is word n mod 2 of Threefry-2x32(key, n div 2)."""
    key = to_tensor(key)
    if key.dtype != uint32 or key.shape[-1:] != (2,):
        raise DTypeError(
            f"a key is a uint32 array of 2 words (cr.random.key(seed)), not {key.type}"
        )
    return bind(BITS, (key,), {"shape": as_shape(shape)})


def split(key: ArrayLike, count: int = 2) -> Tensor:
    """`count` new keys from one, in an array (count, 2). Use each key once."""
    return bits(key, (count, 2))


def fold_in(key: ArrayLike, data: ArrayLike) -> Tensor:
    """A new key from a key and a whole number (a step, an index)."""
    number = to_tensor(data)
    if number.dtype.kind not in "iu":
        raise DTypeError(f"fold_in takes a whole number, received {number.type}")
    low = astype(number, uint32)
    return bits(bits(key, (2,)) ^ reshape(low, (*low.shape, 1)), (2,))


def uniform(
    key: ArrayLike, shape: int | Shape = (), *, low: float = 0.0, high: float = 1.0,
    dtype: Any = float32,
) -> Tensor:  # fmt: skip
    """Uniform on [low, high): 24 random bits for float32, 53 for float64."""
    dtype, shape = as_dtype(dtype), as_shape(shape)
    if dtype == float32:
        unit = astype(bits(key, shape) >> np.uint32(8), float32) * 2.0**-24
    elif dtype == float64:
        words = bits(key, (*shape, 2))
        high_bits = astype(words[..., 0] >> np.uint32(5), float64)
        low_bits = astype(words[..., 1] >> np.uint32(6), float64)
        unit = (high_bits * 2.0**26 + low_bits) * 2.0**-53
    else:
        raise DTypeError(f"uniform numbers are float32 or float64, not {dtype}")
    if (low, high) == (0.0, 1.0):
        return unit
    below = float(np.nextafter(dtype.type(high), dtype.type(low)))
    return minimum(unit * (high - low) + low, below)  # rounding must not reach high


def normal(
    key: ArrayLike, shape: int | Shape = (), *, mean: float = 0.0, std: float = 1.0,
    dtype: Any = float32,
) -> Tensor:  # fmt: skip
    """Normal with this mean and standard deviation: √2·erfinv(u), u uniform on (-1, 1)."""
    dtype = as_dtype(dtype)
    # u lies on the odd multiples of half a step, so ±1 (and 0) cannot come up
    half = 2.0**-25 if dtype == float32 else 2.0**-54
    u = uniform(key, shape, dtype=float64 if dtype == float32 else dtype)
    u = u // (2 * half) * (2 * half) + half
    sample = astype(erfinv(u * 2.0 - 1.0) * 2.0**0.5, dtype, copy=False)
    return sample if (mean, std) == (0.0, 1.0) else sample * std + mean


def integers(key: ArrayLike, shape: int | Shape = (), *, low: int = 0, high: int) -> Tensor:
    """Whole numbers from low to high - 1 in int64, from 64 random bits each."""
    if not low < high:
        raise ShapeError(f"integers takes low < high, received {low} and {high}")
    return astype(_long_words(key, as_shape(shape)) % np.uint64(high - low), np.int64) + low


def _long_words(key: ArrayLike, shape: Shape) -> Tensor:
    """Random 64-bit words, the first of two in the upper half."""
    words = astype(bits(key, (*shape, 2)), np.uint64)
    return words[..., 0] << np.uint64(32) | words[..., 1]


def bernoulli(key: ArrayLike, p: float, shape: int | Shape = ()) -> Tensor:
    """True with probability p."""
    return uniform(key, shape) < p


def permutation(key: ArrayLike, x: int | ArrayLike) -> Tensor:
    """The numbers 0 to x - 1, or the rows of an array x, in random order."""
    n = x if isinstance(x, int) else to_tensor(x).shape[0]
    order = argsort(_long_words(key, (n,)))  # 64 bits: ties do not happen in practice
    return order if isinstance(x, int) else take(x, order, axis=0)


def choice(key: ArrayLike, n: int, shape: int | Shape = (), *, replace: bool = True) -> Tensor:
    """Numbers from 0 to n - 1, with or without repetition."""
    if replace:
        return integers(key, shape, high=n)
    count = size_of(as_shape(shape))
    if count > n:
        raise ShapeError(f"cannot choose {count} of {n} without repetition")
    return reshape(permutation(key, n)[:count], as_shape(shape))
