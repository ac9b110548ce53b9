"""Losses: a number for each example, reduced over the batch.

`reduction` is "mean" (the default, but for `summed_squared_error`), "sum" or "none"; the mean of an
empty batch is a DataError, its sum is 0. Labels are class numbers; what is wrong with them is said
with value and row. While tracing labels have no values yet and are not checked.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core.types import FLOATS, broadcast_shapes
from ..errors import DataError, DTypeError, ShapeError, UnsupportedError
from ..ops import (
    abs,
    arange,
    astype,
    clip,
    equal,
    exp,
    expand_dims,
    log,
    log_softmax,
    mean,
    not_equal,
    relu,
    reshape,
    softplus,
    stop_gradient,
    sum,
    where,
)
from ..ops import max as _max
from ..ops.dispatch import to_tensor
from ..ops.tensor import ArrayLike, Tensor
from .arguments import as_number, check_number

# -- what is given ------------------------------------------------------------------------------


def _reduce(values: Tensor, reduction: str) -> Tensor:
    if reduction == "mean":
        if 0 in values.shape:
            raise _nothing(f"an empty batch, of shape {values.shape}")
        return mean(values)
    if reduction == "sum":
        return sum(values)
    if reduction == "none":
        return values
    raise UnsupportedError(f'reduction must be "mean", "sum" or "none", received {reduction!r}')


def _nothing(received: str) -> DataError:
    return DataError(
        f"the mean over no examples is not defined: received {received}; leave the batch out, or "
        'use reduction="sum"'
    )


def _floating(x: ArrayLike, what: str) -> Tensor:
    t = to_tensor(x)
    if t.dtype.char not in FLOATS:
        raise DTypeError(f"{what} must be floats, received {t.dtype}")
    return t


def _first_bad(bad: Any) -> tuple[Any, str]:
    """The index of the first bad entry, and how to call it."""
    index = tuple(int(i) for i in np.argwhere(bad)[0])
    return index, f"row {index[0]}" if len(index) == 1 else f"entry {index}"


def _chosen(scores: Tensor, labels: Tensor, ignored: int | None = None) -> Tensor:
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
        bad = (values < 0) | (values >= classes)
        if ignored is not None:
            bad &= values != ignored
        if bad.any():
            index, place = _first_bad(bad)
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


def _probabilities(q: Tensor, what: str) -> None:
    """A DataError for the first row that is negative somewhere or does not sum to 1."""
    values = q._value
    if values is None or not values.size:
        return
    bad = (values < 0).any(-1) | ~(np.abs(values.sum(-1) - 1) < 1e-3)
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        raise DataError(
            f"the {what} in row {', '.join(map(str, index)) or 0} is no probability: "
            f"{values[index]!s:.60} is negative or does not sum to 1"
        )


def _rescaling(weights: ArrayLike, like: Tensor, what: str) -> Tensor:
    """Weights that broadcast to `like`: finite, 0 or more, and of its dtype."""
    w = astype(weights, like.dtype, copy=False)
    if w._value is not None and not (np.isfinite(w._value) & (w._value >= 0)).all():
        raise DataError(f"{what} must be finite and 0 or more, received {w._value!s:.60}")
    if broadcast_shapes(w.shape, like.shape) != like.shape:
        raise ShapeError(f"{what} {w.shape} must broadcast to {like.shape}")
    return w


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
    return _reduce(sum(_margins(scores, labels, margin), axis=-1), reduction)


def squared_hinge(
    scores: ArrayLike, labels: ArrayLike, margin: float = 1.0, *, reduction: str = "mean"
) -> Tensor:
    """L = Σ_{j≠y} max(0, s_j - s_y + margin)²: large violations count more, the kink is gone.

    Arguments and errors as in `hinge`. Lee, Lin & Wahba 2004; called L2-SVM by Tang 2013.

    >>> import chainrule as cr
    >>> float(cr.nn.squared_hinge(cr.tensor([[3.0, 5.0, -1.0]]), [0]))
    9.0
    """
    margins = _margins(scores, labels, margin)
    return _reduce(sum(margins * margins, axis=-1), reduction)


def _margins(scores: ArrayLike, labels: ArrayLike, margin: float) -> Tensor:
    """max(0, s_j - s_y + margin) for each class, 0 for the label's."""
    s = _floating(scores, "scores")
    chosen = _chosen(s, to_tensor(labels))
    correct = sum(where(chosen, s, 0.0), axis=-1, keepdims=True)
    return where(chosen, 0.0, relu(s - correct + check_number("margin", margin)))


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
    return _reduce(relu(check_number("margin", margin) - y * s), reduction)


def softmax_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, *, weights: ArrayLike | None = None,
    label_smoothing: float = 0.0, ignore_index: int | None = None, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """L = -log p_y = log Σ_j e^(z_j) - z_y, p = softmax(z); or -Σ_j q_j·log p_j.

    logits z (…, C) in floats; labels (…) integers from 0 to C - 1, or probabilities q (…, C) in
    floats, which sum to 1. The gradient by z is p minus the one-hot label (or q). No overflow:
    max z is subtracted. Errors as in `hinge`.

    `weights` w (C,) multiply the terms of their classes, `label_smoothing` ε puts
    (1 - ε)·q + ε/C in place of q (Szegedy et al. 2016), examples labelled `ignore_index` (any
    whole number) count 0. The mean is Σ L / Σ w_y over the examples that count, and with
    probabilities Σ L over the number of examples, as in PyTorch. If none counts it is a DataError,
    or NaN while labels have no values yet.

    >>> import chainrule as cr
    >>> z = cr.tensor([[0.0, 0.0]])
    >>> loss = cr.nn.softmax_cross_entropy(z, [1])
    >>> loss.backward()
    >>> z.grad
    asarray([[ 0.5, -0.5]])
    >>> padded = cr.nn.softmax_cross_entropy([[0.0, 0.0], [9.0, 1.0]], [1, -1], ignore_index=-1)
    >>> float(padded) == float(loss)
    True
    """
    z = _floating(logits, "logits")
    target = to_tensor(labels)
    soft = target.dtype.char in FLOATS and target.ndim == z.ndim
    if soft or weights is not None or label_smoothing or ignore_index is not None:
        check_number("label_smoothing", label_smoothing, 0, 1)
        logs = log_softmax(z)
        if not soft:
            return _picked(logs, target, weights, label_smoothing, ignore_index, reduction)
        if target.shape != z.shape:
            raise ShapeError(
                f"logits {z.shape} and probabilities {target.shape} must have one shape"
            )
        if ignore_index is not None:
            raise DTypeError(
                f"ignore_index={ignore_index} goes with class numbers, received labels in "
                f"{target.dtype}: take those rows out of logits and labels"
            )
        _probabilities(target, "label")
        return _reduce(_cross_entropy(logs, target, weights, label_smoothing), reduction)
    chosen = _chosen(z, target)
    shifted = z - stop_gradient(_max(z, axis=-1, keepdims=True))
    correct = sum(where(chosen, shifted, 0.0), axis=-1)
    return _reduce(log(sum(exp(shifted), axis=-1)) - correct, reduction)


def negative_log_likelihood(
    log_probabilities: ArrayLike, labels: ArrayLike, *, weights: ArrayLike | None = None,
    ignore_index: int | None = None, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """L = -log p_y, from the logarithms of probabilities.

    log_probabilities (…, C) in floats, such as `log_softmax` gives; labels (…) integers. The rest
    as in `softmax_cross_entropy`, which is this after `log_softmax`, in one go.

    >>> import chainrule as cr
    >>> float(cr.nn.negative_log_likelihood([[-0.5, -1.0], [-3.0, -0.25]], [0, 1]))
    0.375
    """
    logs = _floating(log_probabilities, "log_probabilities")
    return _picked(logs, to_tensor(labels), weights, 0.0, ignore_index, reduction)


def _picked(
    logs: Tensor, labels: Tensor, weights: ArrayLike | None, smoothing: float,
    ignored: int | None, reduction: str,
) -> Tensor:  # fmt: skip
    """-Σ_c w_c·q_c·log p_c, q the smoothed one-hot label; the mean is over those that count."""
    if ignored is not None and not hasattr(ignored, "__index__"):
        raise DTypeError(f"ignore_index must be a whole number, received {ignored!r:.60}")
    one_hot = astype(_chosen(logs, labels, ignored), logs.dtype)
    each = _cross_entropy(logs, one_hot, weights, smoothing)
    counts = sum(one_hot if weights is None else one_hot * _per_class(weights, logs), axis=-1)
    if ignored is not None:
        counted = not_equal(labels, ignored)
        each, counts = where(counted, each, 0.0), where(counted, counts, 0.0)
    if reduction != "mean":
        return _reduce(each, reduction)
    total = sum(counts)
    if total._value is not None and not total._value:
        raise _nothing(f"labels of shape {labels.shape} of which none counts")
    return sum(each) / total


def _cross_entropy(logs: Tensor, q: Tensor, weights: ArrayLike | None, smoothing: float) -> Tensor:
    """-Σ_c w_c·((1 - ε)·q_c + ε/C)·log p_c, where 0 times any log p_c is 0."""
    if smoothing:
        q = (1 - smoothing) * q + smoothing / logs.shape[-1]
    if weights is not None:
        q = q * _per_class(weights, logs)
    logs = where(equal(q, 0), 0.0, logs)
    return -sum(q * logs, axis=-1)


def _per_class(weights: ArrayLike, logs: Tensor) -> Tensor:
    w = to_tensor(weights)
    if w.shape != logs.shape[-1:]:
        raise ShapeError(
            f"weights hold one number for each class, of shape {logs.shape[-1:]}, "
            f"received {w.shape}"
        )
    return _rescaling(w, logs, "weights")


def accuracy(logits: ArrayLike, labels: ArrayLike) -> float:
    """The share of examples whose largest score is the label's: argmax_j z_j = y.

    logits (…, C), labels (…) integers; a Python float. Nothing is differentiated.

    >>> import chainrule as cr
    >>> cr.nn.accuracy(cr.asarray([[1.0, 2.0], [4.0, 3.0]]), [1, 1])
    0.5
    """
    z, y = to_tensor(logits).detach(), to_tensor(labels)
    _chosen(z, y)
    return float(_reduce(equal(z.argmax(axis=-1), y), "mean"))


# -- two classes, probabilities -----------------------------------------------------------------


def binary_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, *, weights: ArrayLike | None = None,
    positive_weight: ArrayLike | None = None, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """L = -a·t·log σ(z) - (1 - t)·log(1 - σ(z)), of logits z: do not apply the sigmoid before.

    logits (…) or (…, 1) in floats; targets t (…), each 0, 1 or between (else a DataError). The
    gradient by z is σ(z) - t. log σ(z) is -softplus(-z), so no finite logit overflows and small
    losses keep their digits. a is `positive_weight`, a number or one for each entry of the last
    axis; `weights` multiply the entries. The mean is over all entries, weighted or not.

    >>> import chainrule as cr
    >>> cr.nn.binary_cross_entropy(cr.asarray([1000.0, -1000.0]), [1, 1], reduction="none")
    asarray([   0., 1000.])
    """
    z, t = _targets(_floating(logits, "logits"), targets, "targets")
    if t._value is not None:
        bad = ~((t._value >= 0) & (t._value <= 1))
        if bad.any():
            index, place = _first_bad(bad)
            raise DataError(f"target {t._value[index]:g} in {place} is not from 0 to 1")
    positive = t * softplus(-z)
    if positive_weight is not None:
        positive = positive * _rescaling(positive_weight, z, "positive_weight")
    each = positive + (1 - t) * softplus(z)
    if weights is not None:
        each = each * _rescaling(weights, z, "weights")
    return _reduce(each, reduction)


def kl_divergence(log_q: ArrayLike, p: ArrayLike, *, reduction: str = "mean") -> Tensor:
    """L = Σ_c p_c·(log p_c - log q_c), the Kullback-Leibler divergence of q from p; 0·log 0 = 0.

    log_q (…, C) in floats, such as `log_softmax` gives; p (…, C) probabilities, which sum to 1
    (else a DataError). One number for each example, so that the mean is PyTorch's
    reduction="batchmean"; its "mean" divides by C once more. Kullback & Leibler 1951.

    >>> import chainrule as cr
    >>> half = cr.log(cr.asarray([0.5, 0.5]))
    >>> float(cr.nn.kl_divergence(half, [0.0, 1.0])) == float(cr.log(cr.asarray(2.0)))
    True
    """
    logs, p = _floating(log_q, "log_q"), _floating(p, "p")
    if p.shape != logs.shape or not p.ndim:
        raise ShapeError(f"log_q {logs.shape} and p {p.shape} must have one shape (…, C)")
    _probabilities(p, "p")
    some = equal(p, 0)
    terms = p * (log(where(some, 1.0, p)) - where(some, 0.0, logs))
    return _reduce(sum(terms, axis=-1), reduction)


# -- numbers ------------------------------------------------------------------------------------


def _each(squares: Tensor, function: Any) -> Tensor:
    """One number for each example: over all axes but the first."""
    return squares if squares.ndim < 2 else function(squares, axis=tuple(range(1, squares.ndim)))


def _mean_of_each(errors: Tensor, reduction: str) -> Tensor:
    """The mean of an example's entries, reduced; the mean of them all is taken at once."""
    return _reduce(errors if reduction == "mean" else _each(errors, mean), reduction)


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
    return _mean_of_each(error * error, reduction)


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


def mean_absolute_error(
    predictions: ArrayLike, targets: ArrayLike, *, reduction: str = "mean"
) -> Tensor:
    """L = 1/D Σ_d |p_d - t_d|, the mean over all entries of an example, then over the batch.

    The gradient is the sign of the error over D, 0 where it is 0. Shapes as in
    `mean_squared_error`.

    >>> import chainrule as cr
    >>> float(cr.nn.mean_absolute_error(cr.asarray([1.0, 4.0]), [1.0, 1.0]))
    1.5
    """
    p, t = _targets(_floating(predictions, "predictions"), targets, "targets")
    return _mean_of_each(abs(p - t), reduction)


def huber(
    predictions: ArrayLike, targets: ArrayLike, delta: float = 1.0, *, reduction: str = "mean"
) -> Tensor:
    """L = 1/D Σ_d h(p_d - t_d), h(e) = e²/2 for |e| ≤ δ, else δ·(|e| - δ/2). Huber 1964.

    Quadratic near 0, linear beyond `delta` δ > 0, so that outliers pull with δ at most: the
    gradient is the error clipped to ±δ. Shapes as in `mean_squared_error`.

    >>> import chainrule as cr
    >>> cr.nn.huber(cr.asarray([1.0, 4.0]), [0.0, 0.0], reduction="none")
    asarray([0.5, 3.5])
    """
    if not 0 < as_number("delta", delta) < math.inf:
        raise DataError(f"delta must be above 0 and finite, received {delta}")
    p, t = _targets(_floating(predictions, "predictions"), targets, "targets")
    error = p - t
    clipped = clip(error, -delta, delta)
    return _mean_of_each(clipped * (error - clipped / 2), reduction)


__all__ = [
    "accuracy", "binary_cross_entropy", "binary_hinge", "hinge", "huber", "kl_divergence",
    "mean_absolute_error", "mean_squared_error", "negative_log_likelihood",
    "softmax_cross_entropy", "squared_hinge", "summed_squared_error",
]  # fmt: skip
