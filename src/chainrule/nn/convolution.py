"""Convolutions: contractions of weights with windows of the padded input, and their transposes.

Arrays are channels-last, (…, height, width, channels), with any number of leading axes; weights are
(height, width, inputs / groups, outputs). As in all of deep learning the kernel is not flipped.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, ClassVar

import numpy as np

from ..core.indexmap import windows_map
from ..core.types import Shape, as_dtype, float32
from ..errors import ShapeError
from ..ops import contract, pad, permute_dims, reshape, windows
from ..ops.dispatch import bind, to_tensor
from ..ops.shaping import FOLD
from ..ops.tensor import ArrayLike, Parameter, Tensor
from . import init
from .arguments import check_sizes, is_whole, pad_widths, per_axis
from .module import Module

AXES = {1: "length", 2: "height, width"}
OUTER = "ABDEFGHIJKLMNOPQRSTUVWXYZ"  # letters of leading and spatial axes in a contraction


def patches(
    x: Tensor, kernel: Shape, stride: Any, padding: Any, dilation: Any, value: float = 0.0
) -> Tensor:
    """Windows of the padded x: (…, out…, kernel…, channels) from (…, sizes…, channels)."""
    n = len(kernel)
    lead = x.ndim - n - 1
    steps, gaps = per_axis("stride", stride, n), per_axis("dilation", dilation, n)
    widths = pad_widths(padding, x.shape[lead:-1], kernel, steps, gaps)
    if any(map(any, widths)):
        x = pad(x, (*((0, 0),) * lead, *widths, (0, 0)), value=value)
    found = windows(x, kernel, axis=tuple(range(lead, lead + n)), stride=steps, dilation=gaps)
    # channels last again: whole rows of a window lie together, and are copied together
    return permute_dims(found, (*range(lead + n), *range(lead + n + 1, found.ndim), lead + n))


def _convolve(
    n: int, x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None, stride: Any, padding: Any,
    dilation: Any, groups: int,
) -> Tensor:  # fmt: skip
    x, weight = to_tensor(x), to_tensor(weight)
    kernel, part, outputs = _weight_sizes(f"conv{n}d", n, weight, groups)
    _check(f"conv{n}d", n, x, weight, part * groups, groups)
    p = patches(x, kernel, stride, padding, dilation)
    outer, k = OUTER[: x.ndim - 1], "ij"[:n]
    if groups == 1:
        y = contract(p, weight, f"{outer}{k}c,{k}co->{outer}o")
    else:
        p = reshape(p, (*p.shape[:-1], groups, part))
        weight = reshape(weight, (*kernel, part, groups, outputs // groups))
        y = contract(p, weight, f"{outer}{k}gc,{k}cgo->{outer}go")
        y = reshape(y, (*y.shape[:-2], outputs))
    return _with_bias(y, bias)


def _convolve_transposed(
    n: int, x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None, stride: Any, padding: Any,
    output_padding: Any, dilation: Any, groups: int,
) -> Tensor:  # fmt: skip
    x, weight = to_tensor(x), to_tensor(weight)
    name = f"conv_transpose{n}d"
    kernel, part, inputs = _weight_sizes(name, n, weight, groups)
    _check(name, n, x, weight, inputs, groups)
    lead = x.ndim - n - 1
    steps, gaps = per_axis("stride", stride, n), per_axis("dilation", dilation, n)
    extra = per_axis("output_padding", output_padding, n, least=0)
    padded, widths = _transposed_sizes(x.shape[lead:-1], kernel, steps, padding, extra, gaps)
    outer, k = OUTER[: x.ndim - 1], "ij"[:n]
    if groups == 1:
        p = contract(x, weight, f"{outer}o,{k}co->{outer}c{k}")
    else:
        x = reshape(x, (*x.shape[:-1], groups, inputs // groups))
        weight = reshape(weight, (*kernel, part, groups, inputs // groups))
        p = contract(x, weight, f"{outer}go,{k}cgo->{outer}gc{k}")
        p = reshape(p, (*x.shape[:-2], groups * part, *kernel))
    shape = (*x.shape[:lead], *padded, groups * part)
    axes = tuple(range(lead, lead + n))
    y = bind(FOLD, (p,), {"map": windows_map(shape, axes, kernel, steps, gaps).T})
    cut = tuple(slice(b, m - a) for m, (b, a) in zip(padded, widths, strict=True))
    return _with_bias(y[(..., *cut, slice(None))] if any(map(any, widths)) else y, bias)


def _transposed_sizes(
    sizes: Shape, kernel: Shape, stride: Shape, padding: Any, extra: Shape, dilation: Shape
) -> tuple[Shape, tuple[tuple[int, int], ...]]:
    """The padded sizes of the input of the convolution that is transposed, and its padding."""
    full = tuple(
        (m - 1) * s + d * (k - 1) + 1 + e
        for m, s, k, d, e in zip(sizes, stride, kernel, dilation, extra, strict=True)
    )
    if isinstance(padding, str) and padding == "same":
        if any(extra):
            raise ShapeError('padding="same" settles the size: leave output_padding out')
        goal = tuple(m * s for m, s in zip(sizes, stride, strict=True))
        widths = pad_widths(padding, goal, kernel, stride, dilation)
        return tuple(m + b + a for m, (b, a) in zip(goal, widths, strict=True)), widths
    widths = pad_widths(padding, sizes, kernel, stride, dilation)
    for m, e, s, size, (b, a) in zip(sizes, extra, stride, full, widths, strict=True):
        if e >= s:
            raise ShapeError(f"output_padding {e} must be smaller than the stride {s}")
        if m < 1 or size <= b + a:
            raise ShapeError(f"an axis of {m} grows to {size}; padding {(b, a)} leaves nothing")
    return full, widths


def _weight_sizes(name: str, n: int, weight: Tensor, groups: Any) -> tuple[Shape, int, int]:
    if weight.ndim != n + 2:
        ends = ["inputs", "outputs"] if "transpose" not in name else ["outputs", "inputs"]
        raise ShapeError(
            f"{name} takes a weight ({AXES[n]}, {ends[0]} / groups, {ends[1]}), "
            f"received shape {weight.shape}"
        )
    if not is_whole(groups, 1) or weight.shape[-1] % groups:
        raise ShapeError(
            f"{name}: the last axis of the weight {weight.shape} must be a multiple of "
            f"groups={groups}"
        )
    return weight.shape[:n], weight.shape[n], weight.shape[n + 1]


def _check(name: str, n: int, x: Tensor, weight: Tensor, inputs: int, groups: int) -> None:
    if x.ndim < n + 1 or x.shape[-1] != inputs:
        raise ShapeError(
            f"{name} with a weight {weight.shape} and groups={groups} takes arrays "
            f"(…, {AXES[n]}, {inputs}), received shape {x.shape}"
        )


def _with_bias(y: Tensor, bias: ArrayLike | None) -> Tensor:
    if bias is None:
        return y
    bias = to_tensor(bias)
    if bias.shape != y.shape[-1:]:
        raise ShapeError(f"the bias must have shape {y.shape[-1:]}, received {bias.shape}")
    total: Tensor = y + bias
    return total


def conv1d(
    x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None, stride: Any = 1,
    padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """y[…, t, o] = b[o] + Σ_k,c x[…, stride·t + dilation·k, c]·W[k, c, o], x padded with zeros.

    x (…, length, inputs), weight (kernel, inputs / groups, outputs). Options as in `conv2d`; the
    padding may also be one pair (before, after), such as (k - 1, 0) for a causal convolution.

    >>> import chainrule as cr
    >>> x = cr.asarray([[1.0], [2.0], [4.0]])
    >>> cr.nn.conv1d(x, cr.asarray([[[1.0]], [[-1.0]]])).tolist()
    [[-1.0], [-2.0]]
    """
    return _convolve(1, x, weight, bias, stride, padding, dilation, groups)


def conv2d(
    x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None, stride: Any = 1,
    padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """y[…, h, w, o] = b[o] + Σ_i,j,c x[…, s·h + d·i, s·w + d·j, c]·W[i, j, c, o].

    A contraction of the weight with windows of the padded x. x (…, height, width, inputs), weight
    (height, width, inputs / groups, outputs). Stride s and dilation d are a number or a pair.
    Padding is "valid" (none), "same" (as many outputs as ceil(size / stride), the end padded more
    where it is odd), a number, or a number or pair (before, after) for each axis. With groups,
    output group g sees input group g only. Shapes that do not fit are a ShapeError.
    LeCun et al. 1998; dilation Yu & Koltun 2016.

    >>> import chainrule as cr
    >>> x, weight = cr.ones((1, 4, 4, 3)), cr.ones((3, 3, 3, 8))
    >>> y = cr.nn.conv2d(x, weight, padding="same")
    >>> y.shape, float(y[0, 0, 0, 0]), float(y[0, 1, 1, 0])
    ((1, 4, 4, 8), 12.0, 27.0)
    """
    return _convolve(2, x, weight, bias, stride, padding, dilation, groups)


def conv_transpose1d(
    x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None, stride: Any = 1,
    padding: Any = 0, output_padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """y[…, s·t + d·k, c] += Σ_o x[…, t, o]·W[k, c, o]: the transpose of `conv1d` by its input.

    x (…, length, inputs), weight (kernel, outputs / groups, inputs): the weight of the convolution
    that is transposed. Options as in `conv_transpose2d`.

    >>> import chainrule as cr
    >>> x = cr.asarray([[1.0], [2.0]])
    >>> cr.nn.conv_transpose1d(x, cr.ones((3, 1, 1)), stride=2)[:, 0]
    asarray([1., 1., 3., 2., 2.])
    """
    return _convolve_transposed(
        1, x, weight, bias, stride, padding, output_padding, dilation, groups
    )


def conv_transpose2d(
    x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None, stride: Any = 1,
    padding: Any = 0, output_padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """⟨conv_transpose2d(u), x⟩ = ⟨u, conv2d(x)⟩: the transpose of `conv2d` by its input.

    x (…, height, width, inputs), weight (height, width, outputs / groups, inputs): the weight of
    the convolution that is transposed, so its last axis are the inputs here. Each entry of x puts
    a copy of the kernel into the output, copies add up. An axis of m gives
    (m - 1)·stride + dilation·(kernel - 1) + 1 + output_padding - padding entries, with
    output_padding < stride; "same" gives m·stride. Zeiler et al. 2010.

    >>> import chainrule as cr
    >>> cr.nn.conv_transpose2d(cr.ones((1, 4, 4, 8)), cr.ones((2, 2, 3, 8)), stride=2).shape
    (1, 8, 8, 3)
    """
    return _convolve_transposed(
        2, x, weight, bias, stride, padding, output_padding, dilation, groups
    )


class _Convolution(Module):
    """What the four layers share: a weight, a bias, and how the kernel moves."""

    function: ClassVar[Callable[..., Tensor]]
    axes: ClassVar[int]
    transposed: ClassVar[bool] = False

    def __init__(
        self, inputs: int, outputs: int, kernel: Any, stride: Any = 1, padding: Any = 0,
        dilation: Any = 1, groups: int = 1, bias: bool = True, *, seed: Any = None,
        initializer: init.Initializer = init.he_normal, dtype: Any = float32,
    ) -> None:  # fmt: skip
        name, n = type(self).__name__, self.axes
        check_sizes(name, inputs=inputs, outputs=outputs, groups=groups)
        if inputs % groups or outputs % groups:
            raise ShapeError(
                f"{name} takes inputs and outputs that are multiples of groups, received "
                f"inputs={inputs}, outputs={outputs}, groups={groups}"
            )
        sizes = self._checked(per_axis, "kernel", kernel, n)
        steps = self._checked(per_axis, "stride", stride, n)
        gaps = self._checked(per_axis, "dilation", dilation, n)
        self._checked(pad_widths, padding, sizes, sizes, steps, gaps)
        self.options: dict[str, Any] = {
            "stride": steps, "padding": padding, "dilation": gaps, "groups": groups,
        }  # fmt: skip
        ends = (outputs // groups, inputs) if self.transposed else (inputs // groups, outputs)
        dtype = as_dtype(dtype)
        self.initializer = init.as_initializer(initializer)
        self.weight = Parameter(np.zeros((*sizes, *ends), dtype))
        self.bias = Parameter(np.zeros(outputs, dtype)) if bias else None
        self.initialize(seed)

    def draw(self, key: Tensor) -> None:
        """W from the initializer, with the fans of the convolution; b = 0."""
        *kernel, part, last = self.weight.shape
        steps, groups = prod(self.options["stride"]), self.options["groups"]
        fans = (prod(kernel) * part, max(1, prod(kernel) // steps) * last // groups)
        fans = fans[::-1] if self.transposed else fans
        self.weight.assign(self.initializer(key, self.weight.shape, self.weight.dtype, fans=fans))
        if self.bias is not None:
            self.bias.assign(np.zeros(self.bias.shape))

    def forward(self, x: ArrayLike) -> Tensor:
        """The convolution of x with the weight, plus the bias."""
        function = type(self).function
        result: Tensor = self._checked(function, x, self.weight, self.bias, **self.options)
        return result


class Conv1d(_Convolution):
    """`conv1d` with a weight (kernel, inputs / groups, outputs) and a bias (outputs,) of its own.

    W is drawn by `initializer(key, shape, dtype, fans=…)`, by default He normal; b is 0.

    >>> import chainrule as cr
    >>> layer = cr.nn.Conv1d(2, 4, 3, padding=(2, 0))
    >>> layer(cr.ones((5, 10, 2))).shape
    (5, 10, 4)
    """

    axes, function = 1, staticmethod(conv1d)


class Conv2d(_Convolution):
    """`conv2d` with a weight (height, width, inputs / groups, outputs) and a bias of its own.

    W is drawn by `initializer(key, shape, dtype, fans=…)`, by default He normal; b is 0. Without
    `seed` the numbers follow from the shapes and the place in the model. Sizes and options that
    cannot be are a ShapeError here, images that do not fit one when called.

    >>> import chainrule as cr
    >>> layer = cr.nn.Conv2d(3, 8, 3, stride=2, padding="same")
    >>> layer(cr.ones((5, 9, 9, 3))).shape
    (5, 5, 5, 8)
    >>> layer
    Conv2d  weight (3, 3, 3, 8), bias (8,)  224
    224 parameters
    """

    axes, function = 2, staticmethod(conv2d)


class _ConvolutionTransposed(_Convolution):
    transposed = True

    def __init__(
        self, inputs: int, outputs: int, kernel: Any, stride: Any = 1, padding: Any = 0,
        output_padding: Any = 0, dilation: Any = 1, groups: int = 1, bias: bool = True,
        **options: Any,
    ) -> None:  # fmt: skip
        extra = self._checked(per_axis, "output_padding", output_padding, self.axes, least=0)
        super().__init__(
            inputs, outputs, kernel, stride, padding, dilation, groups, bias, **options
        )
        self.options["output_padding"] = extra


class ConvTranspose1d(_ConvolutionTransposed):
    """`conv_transpose1d` with a weight (kernel, outputs / groups, inputs) and a bias of its own.

    >>> import chainrule as cr
    >>> cr.nn.ConvTranspose1d(4, 2, 3, stride=2, padding="same")(cr.ones((5, 10, 4))).shape
    (5, 20, 2)
    """

    axes, function = 1, staticmethod(conv_transpose1d)


class ConvTranspose2d(_ConvolutionTransposed):
    """`conv_transpose2d` with a weight (height, width, outputs / groups, inputs) and a bias.

    Options as in `Conv2d`, and `output_padding` (smaller than the stride) after the padding.

    >>> import chainrule as cr
    >>> cr.nn.ConvTranspose2d(8, 3, 2, stride=2)(cr.ones((5, 7, 7, 8))).shape
    (5, 14, 14, 3)
    """

    axes, function = 2, staticmethod(conv_transpose2d)


__all__ = [
    "Conv1d", "Conv2d", "ConvTranspose1d", "ConvTranspose2d", "conv1d", "conv2d",
    "conv_transpose1d", "conv_transpose2d",
]  # fmt: skip
