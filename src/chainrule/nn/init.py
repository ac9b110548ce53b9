"""First values for weights. Each takes a key (or a seed), a shape and a dtype; none has a state.

The fans of a shape are how many inputs each output has, and how many outputs each input has:
(inputs, outputs) for a matrix. Give `fans=(fan_in, fan_out)` for other shapes, as convolutions do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..core.types import Shape, float32
from ..errors import DTypeError, ShapeError
from ..ops import ones as _ones
from ..ops import random
from ..ops import zeros as _zeros
from ..ops.tensor import Tensor
from .arguments import check_number, is_whole

Initializer = Callable[..., Tensor]


def _fans(shape: Shape, fans: tuple[int, int] | None) -> tuple[int, int]:
    if fans is None and len(shape) != 2:
        raise ShapeError(
            f"weights of shape {shape} have no evident fans: give fans=(fan_in, fan_out)"
        )
    result = (shape[0], shape[1]) if fans is None else fans
    pair = isinstance(result, (tuple, list)) and len(result) == 2
    if not pair or not all(is_whole(n, 1) for n in result):
        raise ShapeError(
            f"fans are two whole numbers from 1 on, (fan_in, fan_out), received {result!r:.60} "
            f"for shape {shape}"
        )
    return result


def as_initializer(given: Any) -> Initializer:
    """The initializer that was given, if it is one."""
    if not callable(given):
        raise DTypeError(
            f"an initializer is a function (key, shape, dtype), such as nn.he_normal, received "
            f"{given!r:.60}"
        )
    found: Initializer = given
    return found


def as_key(seed: Any) -> Any:
    """The key of a seed: a whole number, or a key itself."""
    whole = hasattr(seed, "__index__") and not getattr(seed, "shape", ())
    return random.key(seed) if whole else seed


def _uniform(key: Any, shape: Shape, dtype: Any, bound: float) -> Tensor:
    return random.uniform(as_key(key), shape, low=-bound, high=bound, dtype=dtype)


def _normal(key: Any, shape: Shape, dtype: Any, std: float) -> Tensor:
    return random.normal(as_key(key), shape, std=std, dtype=dtype)


def xavier_uniform(
    key: Any, shape: Shape, dtype: Any = float32, *, fans: tuple[int, int] | None = None
) -> Tensor:
    """W ~ U(-a, a), a = √(6/(fan_in + fan_out)): variance 2/(fan_in + fan_out).

    For tanh and sigmoid. Glorot & Bengio 2010, eq. 16.

    >>> import chainrule as cr
    >>> w = cr.nn.init.xavier_uniform(0, (300, 300))
    >>> float(abs(w).max()) < 0.1
    True
    """
    return _uniform(key, shape, dtype, math.sqrt(6 / sum(_fans(shape, fans))))


def xavier_normal(
    key: Any, shape: Shape, dtype: Any = float32, *, fans: tuple[int, int] | None = None
) -> Tensor:
    """W ~ N(0, 2/(fan_in + fan_out)). For tanh and sigmoid. Glorot & Bengio 2010, eq. 12.

    >>> import chainrule as cr
    >>> cr.nn.init.xavier_normal(cr.random.key(0), (3, 2)).shape
    (3, 2)
    """
    return _normal(key, shape, dtype, math.sqrt(2 / sum(_fans(shape, fans))))


def he_uniform(
    key: Any, shape: Shape, dtype: Any = float32, *, fans: tuple[int, int] | None = None
) -> Tensor:
    """W ~ U(-a, a), a = √(6/fan_in): variance 2/fan_in. For ReLU. He et al. 2015.

    >>> import chainrule as cr
    >>> cr.nn.init.he_uniform(0, (3, 2)).shape
    (3, 2)
    """
    return _uniform(key, shape, dtype, math.sqrt(6 / _fans(shape, fans)[0]))


def he_normal(
    key: Any, shape: Shape, dtype: Any = float32, *, fans: tuple[int, int] | None = None
) -> Tensor:
    """W ~ N(0, 2/fan_in): keeps the variance through a layer with ReLU. He et al. 2015, eq. 10.

    >>> import chainrule as cr
    >>> w = cr.nn.init.he_normal(0, (200, 500))
    >>> round(float(w.std()), 2)
    0.1
    """
    return _normal(key, shape, dtype, math.sqrt(2 / _fans(shape, fans)[0]))


def normal(
    key: Any, shape: Shape, dtype: Any = float32, *, std: float = 0.01, fans: Any = None
) -> Tensor:
    """W ~ N(0, std²); the fans are not used.

    >>> import chainrule as cr
    >>> cr.nn.init.normal(0, (4,), std=0.1).shape
    (4,)
    """
    return _normal(key, shape, dtype, check_number("std", std, 0))


def zeros(key: Any, shape: Shape, dtype: Any = float32, *, fans: Any = None) -> Tensor:
    """0 everywhere; key and fans are not used. For biases, never for all weights of a hidden layer.

    >>> import chainrule as cr
    >>> cr.nn.init.zeros(0, (2,))
    asarray([0., 0.])
    """
    return _zeros(shape, dtype=dtype)


def ones(key: Any, shape: Shape, dtype: Any = float32, *, fans: Any = None) -> Tensor:
    """1 everywhere; key and fans are not used.

    >>> import chainrule as cr
    >>> cr.nn.init.ones(0, (2,))
    asarray([1., 1.])
    """
    return _ones(shape, dtype=dtype)


__all__ = [
    "Initializer", "as_key", "he_normal", "he_uniform", "normal", "ones", "xavier_normal",
    "xavier_uniform", "zeros",
]  # fmt: skip
