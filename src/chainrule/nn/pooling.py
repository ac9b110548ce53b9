"""Pooling: the largest or the mean of the entries in each window, channel by channel."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, ClassVar

from ..errors import ShapeError
from ..ops import max as _max
from ..ops import mean
from ..ops.dispatch import floats, to_tensor
from ..ops.tensor import ArrayLike, Tensor
from .arguments import pad_widths, per_axis
from .convolution import AXES, patches
from .module import Module


def _pool(
    n: int, reduce: Callable[..., Tensor], outside: float, x: ArrayLike, size: Any, stride: Any,
    padding: Any,
) -> Tensor:  # fmt: skip
    (x,) = floats(x)
    if x.ndim < n + 1:
        raise ShapeError(
            f"pooling over {n} axes takes arrays (…, {AXES[n]}, channels), received shape {x.shape}"
        )
    kernel = per_axis("size", size, n)
    steps = kernel if stride is None else per_axis("stride", stride, n)
    widths = pad_widths(padding, x.shape[-n - 1 : -1], kernel, steps, (1,) * n)
    if any(max(pair) >= k for pair, k in zip(widths, kernel, strict=True)):
        raise ShapeError(f"padding {padding} must be smaller than the window {size}")
    found = patches(x, kernel, steps, widths, 1, outside)
    return reduce(found, axis=tuple(range(-n - 1, -1)))


def max_pool1d(x: ArrayLike, size: Any, stride: Any = None, padding: Any = 0) -> Tensor:
    """y[…, t, c] = max over k of x[…, stride·t + k, c]; options as in `max_pool2d`.

    >>> import chainrule as cr
    >>> cr.nn.max_pool1d(cr.asarray([[1.0], [3.0], [2.0], [0.0]]), 2)[:, 0]
    asarray([3., 2.])
    """
    return _pool(1, _max, -inf, x, size, stride, padding)


def max_pool2d(x: ArrayLike, size: Any, stride: Any = None, padding: Any = 0) -> Tensor:
    """y[…, h, w, c] = max over i, j of x[…, s·h + i, s·w + j, c], x (…, height, width, channels).

    Size and stride (the size by default) are a number or a pair; padding as in `conv2d`, with -∞,
    smaller than the window. What does not fill a window at the end is left out. The gradient goes
    to the largest entry; ties share it equally.

    >>> import chainrule as cr
    >>> cr.nn.max_pool2d(cr.ones((5, 28, 28, 3)), 2).shape
    (5, 14, 14, 3)
    """
    return _pool(2, _max, -inf, x, size, stride, padding)


def avg_pool1d(x: ArrayLike, size: Any, stride: Any = None, padding: Any = 0) -> Tensor:
    """y[…, t, c] = mean over k of x[…, stride·t + k, c]; options as in `avg_pool2d`.

    >>> import chainrule as cr
    >>> cr.nn.avg_pool1d(cr.asarray([[1.0], [3.0], [2.0], [0.0]]), 2)[:, 0]
    asarray([2., 1.])
    """
    return _pool(1, mean, 0.0, x, size, stride, padding)


def avg_pool2d(x: ArrayLike, size: Any, stride: Any = None, padding: Any = 0) -> Tensor:
    """y[…, h, w, c] = mean over i, j of x[…, s·h + i, s·w + j, c], x (…, height, width, channels).

    Options as in `max_pool2d`. Padding counts as entries of 0: each window is divided by its size.

    >>> import chainrule as cr
    >>> float(cr.nn.avg_pool2d(cr.ones((2, 2, 1)), 2, padding=1)[0, 0, 0])
    0.25
    """
    return _pool(2, mean, 0.0, x, size, stride, padding)


def _global(reduce: Callable[..., Tensor], x: ArrayLike) -> Tensor:
    x = to_tensor(x)
    if x.ndim < 3:
        raise ShapeError(
            f"global pooling takes arrays (batch, sizes…, channels), received shape {x.shape}"
        )
    return reduce(x, axis=tuple(range(1, x.ndim - 1)))


def global_max_pool(x: ArrayLike) -> Tensor:
    """max over all axes between the first and the last: (batch, sizes…, channels) to two axes.

    >>> import chainrule as cr
    >>> cr.nn.global_max_pool(cr.ones((5, 7, 7, 8))).shape
    (5, 8)
    """
    return _global(_max, x)


def global_avg_pool(x: ArrayLike) -> Tensor:
    """mean over all axes between the first and the last: (batch, sizes…, channels) to two axes.

    Lin, Chen & Yan 2014.

    >>> import chainrule as cr
    >>> cr.nn.global_avg_pool(cr.ones((5, 7, 7, 8))).shape
    (5, 8)
    """
    return _global(mean, x)


class _Pool(Module):
    function: ClassVar[Callable[..., Tensor]]
    axes: ClassVar[int]

    def __init__(self, size: Any, stride: Any = None, padding: Any = 0) -> None:
        kernel = self._checked(per_axis, "size", size, self.axes)
        steps = kernel if stride is None else self._checked(per_axis, "stride", stride, self.axes)
        self._checked(pad_widths, padding, kernel, kernel, steps, (1,) * self.axes)
        self.size, self.stride, self.padding = kernel, steps, padding

    def forward(self, x: ArrayLike) -> Tensor:
        """x pooled over windows."""
        function = type(self).function
        result: Tensor = self._checked(function, x, self.size, self.stride, self.padding)
        return result


class MaxPool1d(_Pool):
    """`max_pool1d` as a layer.

    >>> import chainrule as cr
    >>> cr.nn.MaxPool1d(2)(cr.ones((5, 9, 3))).shape
    (5, 4, 3)
    """

    axes, function = 1, staticmethod(max_pool1d)


class MaxPool2d(_Pool):
    """`max_pool2d` as a layer.

    >>> import chainrule as cr
    >>> cr.nn.MaxPool2d(3, stride=2, padding=1)(cr.ones((5, 9, 9, 3))).shape
    (5, 5, 5, 3)
    """

    axes, function = 2, staticmethod(max_pool2d)


class AvgPool1d(_Pool):
    """`avg_pool1d` as a layer.

    >>> import chainrule as cr
    >>> cr.nn.AvgPool1d(2)(cr.ones((5, 9, 3))).shape
    (5, 4, 3)
    """

    axes, function = 1, staticmethod(avg_pool1d)


class AvgPool2d(_Pool):
    """`avg_pool2d` as a layer.

    >>> import chainrule as cr
    >>> cr.nn.AvgPool2d(2)(cr.ones((5, 8, 8, 3))).shape
    (5, 4, 4, 3)
    """

    axes, function = 2, staticmethod(avg_pool2d)


__all__ = [
    "AvgPool1d", "AvgPool2d", "MaxPool1d", "MaxPool2d", "avg_pool1d", "avg_pool2d",
    "global_avg_pool", "global_max_pool", "max_pool1d", "max_pool2d",
]  # fmt: skip
