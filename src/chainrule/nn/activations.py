"""Activations: entry by entry, with derivatives of every order, safe for huge inputs.

`where` selects a branch, and the branch that is not taken is computed on harmless numbers.
"""

from __future__ import annotations

import math

from ..errors import ShapeError, UnsupportedError
from ..ops import clip, erf, expm1, reshape, sigmoid, tanh, where
from ..ops import max as _max
from ..ops.dispatch import to_tensor
from ..ops.tensor import ArrayLike, Tensor
from .arguments import check_number, is_whole


def leaky_relu(x: ArrayLike, slope: float = 0.01) -> Tensor:
    """x for x > 0, else slope·x; derivative 1 or slope (slope at 0). Any shape, floats.

    Maas, Hannun & Ng 2013.

    >>> import chainrule as cr
    >>> cr.nn.leaky_relu(cr.asarray([-2.0, 3.0]), slope=0.5)
    asarray([-1.,  3.])
    """
    x = to_tensor(x)
    return where(x > 0, x, check_number("slope", slope) * x)


def elu(x: ArrayLike, alpha: float = 1.0) -> Tensor:
    """x for x > 0, else α·(e^x - 1); derivative 1 or α·e^x (α at 0). Any shape, floats.

    Clevert, Unterthiner & Hochreiter 2016.

    >>> import chainrule as cr
    >>> cr.nn.elu(cr.asarray([-1000.0, 0.0, 1000.0]))
    asarray([  -1.,    0., 1000.])
    """
    x = to_tensor(x)
    return where(x > 0, x, alpha * expm1(where(x > 0, 0.0, x)))


def maxout(x: ArrayLike, pieces: int) -> Tensor:
    """y_j = max over k of x_(j·pieces + k): (…, units·pieces) to (…, units).

    The gradient goes to the largest of each group, ties share it. A last axis that is no multiple
    of `pieces` is a ShapeError. Goodfellow et al. 2013.

    >>> import chainrule as cr
    >>> cr.nn.maxout(cr.asarray([1.0, 5.0, 3.0, 2.0]), 2)
    asarray([5., 3.])
    """
    x = to_tensor(x)
    if not x.ndim or not is_whole(pieces, 1) or x.shape[-1] % pieces:
        raise ShapeError(
            f"maxout takes a last axis that is a multiple of pieces={pieces}, "
            f"received shape {x.shape}"
        )
    return _max(reshape(x, (*x.shape[:-1], x.shape[-1] // pieces, pieces)), axis=-1)


def gelu(x: ArrayLike, approximate: str = "none") -> Tensor:
    """x·Φ(x) = x/2·(1 + erf(x/√2)); derivative Φ(x) + x·φ(x). Any shape, floats.

    With approximate="tanh": x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))), which differs by up to
    5e-4. Hendrycks & Gimpel 2016.

    >>> import chainrule as cr
    >>> cr.nn.gelu(cr.asarray([-100.0, 0.0, 100.0]))
    asarray([ -0.,   0., 100.])
    """
    t = to_tensor(x)
    if approximate == "none":
        return 0.5 * t * (1.0 + erf(t * math.sqrt(0.5)))
    if approximate != "tanh":
        raise UnsupportedError(f'approximate must be "none" or "tanh", received {approximate!r}')
    near = clip(t, -10.0, 10.0)  # beyond, tanh is ±1 to the last bit; x³ would overflow
    inner = math.sqrt(2 / math.pi) * (near + 0.044715 * near * near * near)
    return 0.5 * t * (1.0 + tanh(inner))


def silu(x: ArrayLike) -> Tensor:
    """x·σ(x), also called swish; derivative σ(x)·(1 + x·(1 - σ(x))). Any shape, floats.

    Elfwing, Uchibe & Doya 2018.

    >>> import chainrule as cr
    >>> cr.nn.silu(cr.asarray([-1000.0, 0.0, 1000.0]))
    asarray([  -0.,    0., 1000.])
    """
    t = to_tensor(x)
    return t * sigmoid(t)


__all__ = ["elu", "gelu", "leaky_relu", "maxout", "silu"]
