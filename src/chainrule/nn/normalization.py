"""Normalisation: entries brought to mean 0 and variance 1 over some axes, then scaled per channel.

Channels are the last axis. The variance is that of the entries themselves (divided by their count).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.context import no_grad
from ..core.types import as_dtype, float32
from ..errors import ShapeError
from ..ops import mean as _mean
from ..ops import reshape, sqrt, stop_gradient, tensor
from ..ops.dispatch import floats, to_tensor
from ..ops.tensor import ArrayLike, Parameter, Tensor
from .arguments import check_number, check_rate, check_sizes
from .module import Module

Weight = ArrayLike | None


def _moments(x: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """The mean over the axes, x less the mean, and the variance."""
    middle = _mean(x, axis=axes, keepdims=True)
    centred = x - middle
    return middle, centred, _mean(centred * centred, axis=axes, keepdims=True)


def _scaled(centred: Tensor, variance: Tensor, weight: Weight, bias: Weight, eps: float) -> Tensor:
    """centred·(w / √(variance + eps)) + b; for a variance per channel the factor is a vector."""
    y = centred * ((1.0 if weight is None else weight) / sqrt(variance + eps))
    return y if bias is None else y + bias


def _channels(name: str, x: ArrayLike, eps: Any, **given: Weight) -> list[Any]:
    """x in floats, and what is given per channel as Tensors, which must fit its last axis."""
    (t,) = floats(x)
    check_number("eps", eps, 0)
    if not t.ndim:
        raise ShapeError(f"{name} takes arrays (…, channels), received a 0-d array")
    values = {what: None if value is None else to_tensor(value) for what, value in given.items()}
    for what, value in values.items():
        if value is not None and value.shape != t.shape[-1:]:
            raise ShapeError(
                f"{name} with a {what} of shape {value.shape} takes arrays whose last axis is "
                f"as long, received shape {t.shape}"
            )
    return [t, *values.values()]


def batch_norm(
    x: ArrayLike, weight: Weight = None, bias: Weight = None, mean: Weight = None,
    variance: Weight = None, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """w·(x - mean)/√(variance + eps) + b, per channel; x (…, channels), all others (channels,).

    Without `mean` and `variance` they are those of x over all axes but the last, and gradients
    flow through them. Ioffe & Szegedy 2015.

    >>> import chainrule as cr
    >>> cr.nn.batch_norm(cr.asarray([[1.0, 5.0], [3.0, 5.0]]), eps=0.01).tolist()
    [[-0.9950371384620667, 0.0], [0.9950371384620667, 0.0]]
    """
    x, weight, bias, mean, variance = _channels(
        "batch_norm", x, eps, weight=weight, bias=bias, mean=mean, variance=variance
    )
    if (mean is None) != (variance is None):
        raise ShapeError("batch_norm takes both mean and variance, or neither; received one")
    if mean is None:
        _, centred, variance = _moments(x, tuple(range(x.ndim - 1)))
    else:
        centred = x - mean
    assert variance is not None
    return _scaled(centred, variance, weight, bias, eps)


def layer_norm(
    x: ArrayLike, weight: Weight = None, bias: Weight = None, eps: float = 1e-5
) -> Tensor:
    """w·(x - mean)/√(variance + eps) + b, with mean and variance over the last axis of each entry.

    x (…, features), weight and bias (features,). Ba, Kiros & Hinton 2016.

    >>> import chainrule as cr
    >>> cr.nn.layer_norm(cr.asarray([1.0, 3.0]), eps=0.0)
    asarray([-1.,  1.])
    """
    x, weight, bias = _channels("layer_norm", x, eps, weight=weight, bias=bias)
    _, centred, variance = _moments(x, (-1,))
    return _scaled(centred, variance, weight, bias, eps)


def group_norm(
    x: ArrayLike, groups: int, weight: Weight = None, bias: Weight = None, eps: float = 1e-5
) -> Tensor:
    """w·(x - mean)/√(variance + eps) + b, with mean and variance over each group of channels.

    x (batch, sizes…, channels); an example and `groups` equal parts of its channels at a time,
    over all positions. groups=1 takes all channels together, groups=channels each alone (instance
    normalisation). Wu & He 2018.

    >>> import chainrule as cr
    >>> cr.nn.group_norm(cr.asarray([[1.0, 3.0, 10.0, 30.0]]), 2, eps=0.0)
    asarray([[-1.,  1., -1.,  1.]])
    """
    x, weight, bias = _channels("group_norm", x, eps, weight=weight, bias=bias)
    check_sizes("group_norm", groups=groups)
    if x.ndim < 2 or x.shape[-1] % groups:
        raise ShapeError(
            f"group_norm takes arrays (batch, sizes…, channels) with channels a multiple of "
            f"groups={groups}, received shape {x.shape}"
        )
    parts = (groups, x.shape[-1] // groups)
    grouped = reshape(x, (*x.shape[:-1], *parts))
    _, centred, variance = _moments(grouped, (*range(1, x.ndim - 1), -1))
    weight, bias = (None if v is None else reshape(v, parts) for v in (weight, bias))
    return reshape(_scaled(centred, variance, weight, bias, eps), x.shape)


def rms_norm(x: ArrayLike, weight: Weight = None, eps: float = 1e-6) -> Tensor:
    """w·x/√(mean of x² + eps), with the mean over the last axis. x (…, features).

    Zhang & Sennrich 2019.

    >>> import chainrule as cr
    >>> cr.nn.rms_norm(cr.asarray([3.0, 3.0]), eps=0.0)
    asarray([1., 1.])
    """
    x, weight = _channels("rms_norm", x, eps, weight=weight)
    return _scaled(x, _mean(x * x, axis=-1, keepdims=True), weight, None, eps)


class _Normalization(Module):
    """A weight of 1 and a bias of 0 per channel."""

    bias: Parameter | None

    def _prepare(self, features: int, eps: float, dtype: Any, bias: bool = True) -> None:
        check_sizes(type(self).__name__, features=features)
        dtype = as_dtype(dtype)
        self.eps = check_rate("eps", eps)
        self.weight = Parameter(np.ones(features, dtype))
        self.bias = Parameter(np.zeros(features, dtype)) if bias else None


class LayerNorm(_Normalization):
    """`layer_norm` over the last axis, of `features`, with a weight and a bias.

    >>> import chainrule as cr
    >>> cr.nn.LayerNorm(4)(cr.ones((5, 7, 4))).shape
    (5, 7, 4)
    """

    def __init__(self, features: int, eps: float = 1e-5, *, dtype: Any = float32) -> None:
        self._prepare(features, eps, dtype)

    def forward(self, x: ArrayLike) -> Tensor:
        """x normalised over its last axis."""
        result: Tensor = self._checked(layer_norm, x, self.weight, self.bias, self.eps)
        return result


class RMSNorm(_Normalization):
    """`rms_norm` over the last axis, of `features`, with a weight.

    >>> import chainrule as cr
    >>> cr.nn.RMSNorm(4)(cr.ones((5, 7, 4))).shape
    (5, 7, 4)
    """

    def __init__(self, features: int, eps: float = 1e-6, *, dtype: Any = float32) -> None:
        self._prepare(features, eps, dtype, bias=False)

    def forward(self, x: ArrayLike) -> Tensor:
        """x divided by its root mean square."""
        result: Tensor = self._checked(rms_norm, x, self.weight, self.eps)
        return result


class GroupNorm(_Normalization):
    """`group_norm` of `features` channels in `groups`, with a weight and a bias.

    >>> import chainrule as cr
    >>> cr.nn.GroupNorm(2, 8)(cr.ones((5, 7, 7, 8))).shape
    (5, 7, 7, 8)
    """

    def __init__(
        self, groups: int, features: int, eps: float = 1e-5, *, dtype: Any = float32
    ) -> None:
        self._prepare(features, eps, dtype)
        check_sizes("GroupNorm", groups=groups)
        if features % groups:
            raise ShapeError(
                f"GroupNorm takes features that are a multiple of groups, received "
                f"features={features}, groups={groups}"
            )
        self.groups = groups

    def forward(self, x: ArrayLike) -> Tensor:
        """x normalised over groups of channels."""
        result: Tensor = self._checked(group_norm, x, self.groups, self.weight, self.bias, self.eps)
        return result


class BatchNorm(_Normalization):
    """`batch_norm` over all axes but the last: by the batch in training, else by running means.

    In training `running_mean` and `running_variance` move towards those of the batch:
    r ← r + momentum·(batch - r), the variance as estimated for more (divided by count - 1). They
    are state: saved, shared by copies, not differentiated. Training needs two values or more per
    channel. x (…, features). Ioffe & Szegedy 2015.

    >>> import chainrule as cr
    >>> layer = cr.nn.BatchNorm(2)
    >>> layer(cr.asarray([[1.0, 4.0], [3.0, 4.0]]), training=True).tolist()
    [[-0.9999949932098389, 0.0], [0.9999949932098389, 0.0]]
    >>> layer.running_mean.tolist()
    [0.20000000298023224, 0.4000000059604645]
    """

    def __init__(
        self, features: int, momentum: float = 0.1, eps: float = 1e-5, *, dtype: Any = float32
    ) -> None:
        self._prepare(features, eps, dtype)
        self.momentum = check_rate("momentum", momentum, closed=True)
        self.running_mean = tensor(np.zeros(features, self.weight.dtype))
        self.running_variance = tensor(np.ones(features, self.weight.dtype))

    def forward(self, x: ArrayLike, training: bool = False) -> Tensor:
        """x normalised per channel; in training the running statistics are updated."""
        if not training:
            mean, variance = stop_gradient(self.running_mean), stop_gradient(self.running_variance)
            result: Tensor = self._checked(
                batch_norm, x, self.weight, self.bias, mean, variance, self.eps
            )
            return result
        x, _ = self._checked(_channels, "batch_norm", x, self.eps, weight=self.weight)
        count = x.size // x.shape[-1]
        if count < 2:
            raise ShapeError(
                f"{self._where()}BatchNorm in training takes at least 2 values per channel, "
                f"received shape {x.shape}: use larger batches, or training=False"
            )
        mean, centred, variance = _moments(x, tuple(range(x.ndim - 1)))
        with no_grad():
            _move(self.running_mean, mean, self.momentum)
            _move(self.running_variance, variance * (count / (count - 1)), self.momentum)
        return _scaled(centred, variance, self.weight, self.bias, self.eps)


def _move(running: Tensor, batch: Tensor, momentum: float) -> None:
    """running ← running + momentum·(batch - running)."""
    running.assign(running + momentum * (reshape(batch, running.shape) - running))


__all__ = [
    "BatchNorm", "GroupNorm", "LayerNorm", "RMSNorm", "batch_norm", "group_norm", "layer_norm",
    "rms_norm",
]  # fmt: skip
