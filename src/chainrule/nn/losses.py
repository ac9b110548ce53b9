"""Losses and penalties. A loss is a number for each example, reduced over the batch.

`reduction` is "mean" (the default, but for `summed_squared_error`), "sum" or "none". Labels are
class numbers; what is wrong with them is said with value and row. While tracing labels have no
values yet and are not checked.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.types import FLOATS
from ..errors import DataError, DTypeError, ShapeError, UnsupportedError
from ..ops import (
    abs,
    arange,
    astype,
    equal,
    exp,
    expand_dims,
    log,
    log_softmax,
    logical_and,
    mean,
    relu,
    reshape,
    stop_gradient,
    sum,
    where,
)
from ..ops import max as _max
from ..ops.dispatch import to_tensor
from ..ops.tensor import ArrayLike, Tensor
from .module import Module

# -- what is given ------------------------------------------------------------------------------


def _reduce(values: Tensor, reduction: str) -> Tensor:
    if reduction == "mean":
        return mean(values)
    if reduction == "sum":
        return sum(values)
    if reduction == "none":
        return values
    raise UnsupportedError(f'reduction must be "mean", "sum" or "none", received {reduction!r}')


def _floating(x: ArrayLike, what: str) -> Tensor:
    t = to_tensor(x)
    if t.dtype.char not in FLOATS:
        raise DTypeError(f"{what} must be floats, received {t.dtype}")
    return t


def _first_bad(bad: Any) -> tuple[Any, str]:
    """The index of the first bad entry, and how to call it."""
    index = tuple(int(i) for i in np.argwhere(bad)[0])
    return index, f"row {index[0]}" if len(index) == 1 else f"entry {index}"


def _chosen(scores: Tensor, labels: Tensor) -> Tensor:
    """True where the class is the label: a bool array of the shape of the scores."""
    if labels.dtype.kind not in "iu":
        raise DTypeError(
            f"labels must be integers (class numbers from 0), received {labels.dtype}; "
            "write labels.astype(int)"
        )
    if not scores.ndim or scores.shape[:-1] != labels.shape:
        raise ShapeError(
            f"scores {scores.shape} and labels {labels.shape} do not fit: scores have one more "
            "axis, of the classes, at the end"
        )
    classes = scores.shape[-1]
    values = labels._value
    if values is not None and values.size and not 0 <= values.min() <= values.max() < classes:
        index, place = _first_bad((values < 0) | (values >= classes))
        raise DataError(
            f"label {values[index]} in {place} is out of range: there are {classes} classes, "
            f"0 to {classes - 1}"
        )
    return equal(expand_dims(labels, axis=-1), arange(classes))


def _targets(predictions: Tensor, targets: ArrayLike, what: str) -> tuple[Tensor, Tensor]:
    """Both in one shape: (n, 1) counts as (n,) where the targets are plain numbers."""
    targets = to_tensor(targets)
    if predictions.shape != targets.shape:
        if predictions.shape != (*targets.shape, 1):
            raise ShapeError(
                f"predictions {predictions.shape} and {what} {targets.shape} must have one shape"
            )
        predictions = reshape(predictions, targets.shape)
    if targets.dtype.char not in FLOATS:
        targets = astype(targets, predictions.dtype)
    return predictions, targets


# -- classes ------------------------------------------------------------------------------------


def hinge(
    scores: ArrayLike, labels: ArrayLike, margin: float = 1.0, *, reduction: str = "mean"
) -> Tensor:
    """L = Σ_{j≠y} max(0, s_j - s_y + margin): the multiclass support vector machine.

    scores (…, C) in floats, labels (…) integers from 0 to C - 1; one number for each example,
    reduced. Labels out of range are a DataError, others than integers a DTypeError, shapes that do
    not fit a ShapeError. Weston & Watkins 1999.

    >>> import chainrule as cr
    >>> scores = cr.tensor([[3.2, 5.1, -1.7]])
    >>> round(float(cr.nn.hinge(scores, [0])), 4)
    2.9
    """
    s = _floating(scores, "scores")
    chosen = _chosen(s, to_tensor(labels))
    correct = sum(where(chosen, s, 0.0), axis=-1, keepdims=True)
    margins = relu(s - correct + margin)
    return _reduce(sum(where(chosen, 0.0, margins), axis=-1), reduction)


def binary_hinge(
    scores: ArrayLike, signs: ArrayLike, margin: float = 1.0, *, reduction: str = "mean"
) -> Tensor:
    """L = max(0, margin - y·s) for signs y = ±1 and one score s for each example.

    scores (…) or (…, 1) in floats, signs (…), each 1 or -1 (else a DataError). Cortes & Vapnik
    1995.

    >>> import chainrule as cr
    >>> float(cr.nn.binary_hinge(cr.asarray([0.5, 3.0]), [-1, 1]))
    0.75
    """
    s, y = _targets(_floating(scores, "scores"), signs, "signs")
    if y._value is not None:
        bad = np.abs(y._value) != 1
        if bad.any():
            index, place = _first_bad(bad)
            raise DataError(
                f"sign {y._value[index]:g} in {place} is neither 1 nor -1; labels 0 and 1 become "
                "signs by 2*labels - 1"
            )
    return _reduce(relu(margin - y * s), reduction)


def softmax_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, *, reduction: str = "mean"
) -> Tensor:
    """L = -log p_y = log Σ_j e^(z_j) - z_y, p = softmax(z); or -Σ_j q_j·log p_j.

    logits z (…, C) in floats; labels (…) integers from 0 to C - 1, or probabilities q (…, C) in
    floats, which sum to 1. The gradient by z is p minus the one-hot label (or q). No overflow:
    max z is subtracted. Errors as in `hinge`.

    >>> import chainrule as cr
    >>> z = cr.tensor([[0.0, 0.0]])
    >>> loss = cr.nn.softmax_cross_entropy(z, [1])
    >>> loss.backward()
    >>> z.grad
    asarray([[ 0.5, -0.5]])
    """
    z = _floating(logits, "logits")
    target = to_tensor(labels)
    if target.dtype.char in FLOATS and target.ndim == z.ndim:
        return _reduce(_soft_cross_entropy(z, target), reduction)
    chosen = _chosen(z, target)
    shifted = z - stop_gradient(_max(z, axis=-1, keepdims=True))
    correct = sum(where(chosen, shifted, 0.0), axis=-1)
    return _reduce(log(sum(exp(shifted), axis=-1)) - correct, reduction)


def _soft_cross_entropy(z: Tensor, q: Tensor) -> Tensor:
    if q.shape != z.shape:
        raise ShapeError(f"logits {z.shape} and probabilities {q.shape} must have one shape")
    if q._value is not None and q.size:
        values = q._value
        bad = (values < 0).any(-1) | ~(np.abs(values.sum(-1) - 1) < 1e-3)
        if bad.any():
            index = tuple(int(i) for i in np.argwhere(bad)[0])
            raise DataError(
                f"the label in row {', '.join(map(str, index)) or 0} is no probability: "
                f"{values[index]!s:.60} is negative or does not sum to 1"
            )
    logs = log_softmax(z)
    # 0·log 0 is 0, not NaN
    logs = where(logical_and(equal(q, 0), equal(logs, -np.inf)), 0.0, logs)
    return -sum(q * logs, axis=-1)


def accuracy(logits: ArrayLike, labels: ArrayLike) -> float:
    """The share of examples whose largest score is the label's: argmax_j z_j = y.

    logits (…, C), labels (…) integers; a Python float. Nothing is differentiated.

    >>> import chainrule as cr
    >>> cr.nn.accuracy(cr.asarray([[1.0, 2.0], [4.0, 3.0]]), [1, 1])
    0.5
    """
    z, y = to_tensor(logits).detach(), to_tensor(labels)
    _chosen(z, y)
    return float(mean(equal(z.argmax(axis=-1), y)))


# -- numbers ------------------------------------------------------------------------------------


def _each(squares: Tensor, function: Any) -> Tensor:
    """One number for each example: over all axes but the first."""
    return squares if squares.ndim < 2 else function(squares, axis=tuple(range(1, squares.ndim)))


def mean_squared_error(
    predictions: ArrayLike, targets: ArrayLike, *, reduction: str = "mean"
) -> Tensor:
    """L = 1/D Σ_d (p_d - t_d)², the mean over all entries of an example, then over the batch.

    predictions (N, …), targets of the same shape, or without a last axis of 1; other shapes are a
    ShapeError (nothing is broadcast).

    >>> import chainrule as cr
    >>> float(cr.nn.mean_squared_error(cr.asarray([1.0, 3.0]), [1.0, 1.0]))
    2.0
    """
    p, t = _targets(_floating(predictions, "predictions"), targets, "targets")
    error = p - t
    if reduction == "mean":
        return mean(error * error)
    return _reduce(_each(error * error, mean), reduction)


def summed_squared_error(
    predictions: ArrayLike, targets: ArrayLike, *, reduction: str = "sum"
) -> Tensor:
    """L = Σ (p - t)², over the entries of an example and, unless told otherwise, over the batch.

    Shapes as in `mean_squared_error`. With reduction="mean" the mean over the batch of each
    example's sum.

    >>> import chainrule as cr
    >>> float(cr.nn.summed_squared_error(cr.asarray([1.0, 3.0]), [1.0, 1.0]))
    4.0
    """
    p, t = _targets(_floating(predictions, "predictions"), targets, "targets")
    error = p - t
    if reduction == "sum":
        return sum(error * error)
    return _reduce(_each(error * error, sum), reduction)


# -- penalties ----------------------------------------------------------------------------------


def _weights(parameters: Any) -> list[Tensor]:
    if isinstance(parameters, Module):
        found = [to_tensor(p) for p in parameters.parameters()]
        weights = [p for p in found if p.ndim >= 2]
    elif isinstance(parameters, (list, tuple)):
        weights = [to_tensor(p) for p in parameters]
    else:
        weights = [to_tensor(parameters)]
    if not weights:
        raise DataError("a penalty needs at least one parameter (of a Module: one with 2 axes)")
    return weights


def _total(parts: list[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def l2_penalty(parameters: Any) -> Tensor:
    """R = Σ W²: of a Parameter, of all in a list, or of the weights of a Module.

    A Module's weights are its Parameters with two axes or more, so biases do not count.

    >>> import chainrule as cr
    >>> float(cr.nn.l2_penalty([cr.tensor([1.0, 2.0]), cr.tensor(3.0)]))
    14.0
    """
    return _total([sum(w * w) for w in _weights(parameters)])


def l1_penalty(parameters: Any) -> Tensor:
    """R = Σ |W|: of a Parameter, of all in a list, or of the weights of a Module (no biases).

    >>> import chainrule as cr
    >>> float(cr.nn.l1_penalty(cr.tensor([1.0, -2.0])))
    3.0
    """
    return _total([sum(abs(w)) for w in _weights(parameters)])


__all__ = [
    "accuracy", "binary_hinge", "hinge", "l1_penalty", "l2_penalty", "mean_squared_error",
    "softmax_cross_entropy", "summed_squared_error",
]  # fmt: skip
