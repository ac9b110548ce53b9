"""The loss and the score of a model on data."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import nn
from ..core.context import no_grad
from ..data import Dataset, arrays, batches
from ..errors import DataError
from ..ops.tensor import Tensor

Loss = Callable[[Any, Any], Tensor]


def as_dataset(data: Any, name: str) -> Dataset:
    """A Dataset of a Dataset or of (inputs, targets)."""
    if isinstance(data, Dataset):
        return data
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise DataError(
            f"{name}: expected a Dataset or a pair (inputs, targets), got {type(data).__name__}"
        )
    return arrays(data[0], data[1], name=name)


def default_loss(data: Dataset) -> Loss:
    """Softmax cross-entropy for classes and tokens, mean squared error for numbers."""
    found: Loss = nn.mean_squared_error if data.task == "regression" else nn.softmax_cross_entropy
    return found


def takes_training(model: Any) -> bool:
    """Whether a model is called with `training=`: Modules are, others that have the argument."""
    if isinstance(model, nn.Module) and type(model).__call__ is nn.Module.__call__:
        return True
    try:
        parameters = inspect.signature(model).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(p.name == "training" or p.kind is p.VAR_KEYWORD for p in parameters)


def like_targets(outputs: Tensor, targets: Any) -> Tensor:
    """Outputs (n, 1) as (n,) where the targets are plain numbers."""
    if targets.ndim == 1 and targets.dtype.kind == "f" and outputs.shape == (len(targets), 1):
        flat: Tensor = outputs.reshape(len(targets))
        return flat
    return outputs


def score_sum(outputs: Tensor, targets: Any, data: Dataset) -> float:
    """What is summed over batches for the score: right answers, or squared errors."""
    values = np.asarray(outputs.detach())
    if data.task == "regression":
        return float(((values.reshape(targets.shape) - targets) ** 2).sum())
    right: np.ndarray[Any, Any] = np.equal(values.argmax(-1), targets)
    return float(right.sum()) / (right.size / len(right))  # of a text, the share of each window


def score_of(total: float, count: int, data: Dataset) -> float:
    """Accuracy, or R² = 1 - Σ errors² / Σ deviations²."""
    if data.task != "regression":
        return total / count
    spread = float(((data.targets - data.targets.mean(0)) ** 2).sum())
    return 1 - total / spread if spread else math.nan


def evaluate(
    model: Any, data: Dataset | tuple[Any, Any], loss: Loss | None = None, *, batch: int = 256
) -> tuple[float, float]:
    """The mean loss and the score (accuracy, or R²) of a model on data; nothing is recorded."""
    data = as_dataset(data, "data")
    loss = loss or default_loss(data)
    total = right = 0.0
    with no_grad(), np.errstate(over="ignore", invalid="ignore"):
        for x, y in batches(data, batch, seed=0, shuffle=False):
            outputs = model(x)
            total += float(loss(like_targets(outputs, y), y)) * len(x)
            right += score_sum(outputs, y, data)
    return total / len(data), score_of(right, len(data), data)
