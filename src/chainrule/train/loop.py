"""The training loop: batches, loss, backward, update; progress, validation, early stopping."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import nn, optim
from ..core.context import no_grad
from ..data import Dataset, arrays, batches
from ..errors import DataError, GradientError
from ..ops.tensor import Tensor
from .metrics import Epoch, save_csv
from .progress import Progress, Reporter, Silent

Loss = Callable[[Any, Any], Tensor]


@dataclass
class History:
    """What a training run measured: one `Epoch` a row, the best one, and how it ended."""

    epochs: list[Epoch] = field(default_factory=list)
    best: int = 0
    stopped: str = "all epochs done"
    seconds: float = 0.0

    def __len__(self) -> int:
        return len(self.epochs)

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the run."""
        return self.stopped == "interrupted"


def fit(
    model: Any,
    train: Dataset | tuple[Any, Any],
    validation: Dataset | tuple[Any, Any] | None = None,
    *,
    loss: Loss | None = None,
    optimizer: Any = None,
    epochs: int = 20,
    batch: int = 32,
    penalty: float = 0.0,
    seed: int = 0,
    patience: int | None = None,
    schedule: Callable[[float], float] | None = None,
    metrics: str | os.PathLike[str] | None = None,
    progress: bool | Progress = True,
    after_epoch: Callable[[Epoch, bool], None] | None = None,
) -> History:
    """Gradient descent on batches: loss(model(x), y) + penalty·Σ W², backward, update.

    `train` and `validation` are Datasets or pairs (inputs, targets). The loss is softmax
    cross-entropy for classes and mean squared error for numbers; the optimizer Adam with rate
    1e-3. The order of the examples depends on `seed` and the epoch only. `schedule` maps the share
    of training done (0 to 1) to a factor of the rate. `metrics` names a CSV file, written after
    every epoch; `after_epoch(row, better)` is called then, too.

    With validation data the model ends with the weights of the best epoch (lowest validation
    loss), and after `patience` epochs without a better one training stops. Ctrl-C ends training
    early, without an error: the model has the best weights so far (without validation data those
    it had reached), and `history.interrupted` is true.

    Raises GradientError if the loss is no longer finite, DataError for data or settings that
    cannot be used. The model has the best weights so far then, too.

    >>> import chainrule as cr
    >>> model = cr.nn.Linear(1, 1)
    >>> x = cr.linspace(-1, 1, 16).reshape(16, 1)
    >>> history = cr.train.fit(model, (x, 3 * x[:, 0]), epochs=200, batch=16, progress=False,
    ...     optimizer=cr.optim.SGD(model.parameters(), lr=0.5))
    >>> round(float(model.weight.item()), 3)
    3.0
    """
    data = as_dataset(train, "train")
    held_out = None if validation is None else as_dataset(validation, "validation")
    if epochs < 0 or batch < 1:
        raise DataError(
            f"epochs must be at least 0 and batch at least 1, received {epochs} and {batch}"
        )
    if patience is not None and (patience < 1 or held_out is None):
        raise DataError(
            f"patience must be at least 1, received {patience}"
            if held_out
            else f"patience={patience} needs validation data: fit(model, train, validation, …)"
        )
    loss = loss or default_loss(data)
    optimizer = optimizer or optim.Adam(model, lr=1e-3)
    rate = float(np.asarray(optimizer.lr))
    accuracy = data.task == "classification"
    reporter: Progress = Reporter(accuracy=accuracy) if progress is True else progress or Silent()
    history = History()
    best_loss, best_weights, waiting = math.inf, None, 0
    steps, step = epochs * -(-len(data) // batch), 0
    started = time.perf_counter()
    try:
        reporter.start(epochs)
        for number in range(1, epochs + 1):
            epoch_started = time.perf_counter()
            total, right, seen = 0.0, 0.0, 0
            for x, y in batches(data, batch, seed=seed, epoch=number):
                if schedule is not None:
                    optimizer.lr = rate * schedule(step / max(1, steps))
                with np.errstate(over="ignore", invalid="ignore"):  # it shows in the loss
                    outputs = model(x, training=True)
                    value = loss(_like(outputs, y), y)
                    objective = value + penalty * nn.l2_penalty(model) if penalty else value
                    if not math.isfinite(float(objective)):
                        raise GradientError(
                            f"the loss became {float(objective)} in epoch {number}, step "
                            f"{step + 1}: try a smaller rate (now "
                            f"{float(np.asarray(optimizer.lr)):g}) or scale the inputs"
                        )
                    optimizer.zero_grad()
                    objective.backward()
                    optimizer.step()
                step += 1
                total += float(value) * len(x)
                right += score_sum(outputs, y, data)
                seen += len(x)
            measured = evaluate(model, held_out, loss) if held_out else (math.nan, math.nan)
            row = Epoch(
                number, total / seen, score_of(right, seen, data), *measured,
                float(np.asarray(optimizer.lr)), time.perf_counter() - epoch_started,
            )  # fmt: skip
            history.epochs.append(row)
            better = (measured[0] if held_out else row.loss) < best_loss
            if better:
                best_weights = [p.numpy() for p in model.parameters()] if held_out else None
                best_loss, waiting = measured[0] if held_out else row.loss, 0
                history.best = number
            else:
                waiting += 1
            if after_epoch is not None:
                after_epoch(row, better)
            if metrics is not None:
                save_csv(metrics, history.epochs)
            reporter.epoch(row, better)
            if held_out and patience is not None and waiting >= patience:
                history.stopped = f"no better validation loss in {patience} epochs"
                break
    except KeyboardInterrupt:
        history.stopped = "interrupted"
    finally:
        reporter.stop()
        if schedule is not None:
            optimizer.lr = rate
        if best_weights is not None:
            for p, w in zip(model.parameters(), best_weights, strict=True):
                p.assign(w)
    if metrics is not None and not history.epochs:
        save_csv(metrics, [])  # an older file would not be of this run
    history.seconds = time.perf_counter() - started
    return history


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
    """Softmax cross-entropy for classes, mean squared error for numbers."""
    found: Loss = (
        nn.softmax_cross_entropy if data.task == "classification" else nn.mean_squared_error
    )
    return found


def _like(outputs: Tensor, targets: Any) -> Tensor:
    """Outputs (n, 1) as (n,) where the targets are plain numbers."""
    if targets.ndim == 1 and targets.dtype.kind == "f" and outputs.shape == (len(targets), 1):
        flat: Tensor = outputs.reshape(len(targets))
        return flat
    return outputs


def score_sum(outputs: Tensor, targets: Any, data: Dataset) -> float:
    """What is summed over batches for the score: right answers, or squared errors."""
    values = np.asarray(outputs.detach())
    if data.task == "classification":
        return float((values.argmax(-1) == targets).sum())
    return float(((values.reshape(targets.shape) - targets) ** 2).sum())


def score_of(total: float, count: int, data: Dataset) -> float:
    """Accuracy, or R² = 1 - Σ errors² / Σ deviations²."""
    if data.task == "classification":
        return total / count
    spread = float(((data.targets - data.targets.mean(0)) ** 2).sum())
    return 1 - total / spread if spread else math.nan


def evaluate(
    model: Any, data: Dataset | tuple[Any, Any], loss: Loss | None = None, *, batch: int = 1024
) -> tuple[float, float]:
    """The mean loss and the score (accuracy, or R²) of a model on data; nothing is recorded."""
    data = as_dataset(data, "data")
    loss = loss or default_loss(data)
    total = right = 0.0
    with no_grad(), np.errstate(over="ignore", invalid="ignore"):
        for x, y in batches(data, batch, seed=0, shuffle=False):
            outputs = model(x)
            total += float(loss(_like(outputs, y), y)) * len(x)
            right += score_sum(outputs, y, data)
    return total / len(data), score_of(right, len(data), data)
