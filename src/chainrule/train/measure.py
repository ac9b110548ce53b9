"""The loss and the score of a model on data."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import nn
from ..core.context import CONTEXT, no_grad
from ..data import Dataset, arrays
from ..data.batching import pixels
from ..errors import DataError
from ..nn.arguments import is_whole
from ..ops.tensor import Tensor
from .compiling import Compiling, equal_batches, worthwhile

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


def score_sum(outputs: Tensor, targets: Any, data: Dataset) -> Any:
    """What is summed over batches for the score: right answers, or squared errors. Also traced."""
    values: Any = outputs.detach()
    if CONTEXT.get().trace is None:
        values = np.asarray(values)
    if data.task == "regression":
        return ((values.reshape(targets.shape) - targets) ** 2).sum()
    return (values.argmax(-1) == targets).sum()


def score_of(total: float, count: int, data: Dataset) -> float:
    """Accuracy (of a text, of its characters), or R² = 1 - Σ errors² / Σ deviations²."""
    if data.task != "regression":
        return total / (count * (data.targets.size // len(data)))
    spread = float(((data.targets - data.targets.mean(0)) ** 2).sum())
    return 1 - total / spread if spread else math.nan


class Evaluation:
    """The mean loss and the score of a model on data, each time it is called.

    Batches of at most `batch` examples, as equal as can be, so that one size is compiled for; that
    is done if `passes` calls make it worth it.
    """

    def __init__(
        self, model: Any, data: Dataset, loss: Loss, *, batch: int = 256, passes: int = 1,
        compiled: bool = True,
    ) -> None:  # fmt: skip
        self.data, self.batch = data, equal_batches(len(data), batch)

        def measure(x: Any, y: Any) -> tuple[Tensor, Any]:
            outputs = model(pixels(x))
            return loss(like_targets(outputs, y), y), score_sum(outputs, y, data)

        sizes: frozenset[int] = frozenset()
        if compiled:
            sizes = worthwhile(model, len(data), self.batch, passes, data.inputs)
        self._measure = Compiling(measure, sizes)

    def __call__(self) -> tuple[float, float]:
        """(loss, score); nothing is recorded."""
        total = score = 0.0
        with no_grad():
            inputs, targets = np.asarray(self.data.inputs), np.asarray(self.data.targets)
            for start in range(0, len(self.data), self.batch):
                some = slice(start, start + self.batch)
                x, y = inputs[some], targets[some]
                value, part = self._measure(len(x), x, y)
                total += float(value) * len(x)
                score += float(part)
        return total / len(self.data), score_of(score, len(self.data), self.data)


def evaluate(
    model: Any, data: Dataset | tuple[Any, Any], loss: Loss | None = None, *, batch: int = 256,
    compiled: bool = True,
) -> tuple[float, float]:  # fmt: skip
    """The mean loss and the score (accuracy, or R²) of a model on data; nothing is recorded.

    Batches have at most `batch` examples. Much data is measured by compiled code; `compiled=False`
    never does.
    """
    data = as_dataset(data, "data")
    if not is_whole(batch, 1):
        raise DataError(f"batch must be a whole number ≥ 1, got {batch!r}")
    return Evaluation(model, data, loss or default_loss(data), batch=batch, compiled=compiled)()
