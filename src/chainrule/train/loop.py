"""The training loop: epochs of steps with progress, validation, early stopping, checkpoints."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import nn, optim
from ..data import Dataset
from ..errors import DataError
from ..files import AnyPath
from .checkpoint import Checkpoint, State
from .interrupt import Interrupt
from .measure import Loss, as_dataset, default_loss
from .metrics import Epoch, save_csv
from .progress import Progress, Reporter, Silent
from .training import ALL_DONE, Settings, Training

Keep = Callable[[Checkpoint], Any]
CHECKPOINT_SECONDS = 5.0
"""A training that is killed loses no more than this, and little time goes into files."""


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
        """Whether Ctrl-C (or SIGTERM) ended the run."""
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
    accumulate: int = 1,
    clip: float | None = None,
    average: float | None = None,
    augment: Callable[[Any, np.random.Generator], Any] | None = None,
    ahead: int = 0,
    compiled: bool = True,
    metrics: str | os.PathLike[str] | None = None,
    checkpoint: AnyPath | Keep | None = None,
    resume: Checkpoint | None = None,
    progress: bool | Progress = True,
    after_epoch: Callable[[Epoch, bool], None] | None = None,
) -> History:
    """Gradient descent on batches: loss(model(x), y) + penalty·Σ W², backward, update.

    `train` and `validation` are Datasets or pairs (inputs, targets). The loss is softmax
    cross-entropy for classes and mean squared error for numbers; the optimizer Adam with rate
    1e-3. The order of the examples depends on `seed` and the epoch only. `schedule` maps the share
    of training done (0 to 1) to a factor of the rate. An update takes the mean gradient of
    `accumulate` batches; `clip` bounds its norm; with `average` = β the weights that are measured
    and kept are w̄ ← β·w̄ + (1 - β)·w. `augment(inputs, rng)` changes the inputs of each batch,
    and `ahead` batches are made in a thread beforehand (compiled code picks the examples itself,
    unless there is an `augment`). `metrics` names a CSV file, written after every epoch;
    `after_epoch(row, better)` is called then, too.

    A training of many steps is compiled (see `compile`; what Python does in the model, the loss and
    the optimizer then happens once), a short one, where that saves no time, is not. What cannot be
    compiled runs in eager, with a warning; with `compiled=False` all does. Both give the same
    numbers within rounding.

    With validation data the model ends with the weights of the best epoch (lowest validation
    loss), and after `patience` epochs without a better one training stops. Ctrl-C (or SIGTERM)
    ends training early, without an error, when the step under way is done: the model has the best
    weights so far (without validation data those it had reached), and `history.interrupted` is
    true.

    `checkpoint` names a file that is written every few seconds, at Ctrl-C and at the end (or it is
    a function that takes each Checkpoint). `resume=load_checkpoint(file)`, with the same model,
    data and settings, goes on from there, also in the middle of an epoch, to the result that an
    unbroken training has, bit for bit; only the seconds differ.

    Raises GradientError with the first gate and line that made it if the loss is no longer finite
    (the model has the best weights so far then, too, and the checkpoint is the last good one),
    DataError for data or settings that cannot be used, RunError for a checkpoint of another
    training.

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
    settings = Settings(epochs, batch, penalty, seed, patience, accumulate, clip, average, compiled)
    if patience is not None and held_out is None:
        raise DataError(
            f"patience={patience} needs validation data: fit(model, train, validation, …)"
        )
    _check_model(
        model, validation=validation, penalty=penalty, clip=clip, average=average,
        checkpoint=checkpoint,
    )  # fmt: skip
    task = Training(
        model, data, held_out, settings, loss=loss or default_loss(data),
        optimizer=optimizer or optim.Adam(model, lr=1e-3), schedule=schedule, augment=augment,
        ahead=ahead,
    )  # fmt: skip
    if resume is not None:
        task.restore(resume)
    reporter: Progress = progress if not isinstance(progress, bool) else Silent()
    if progress is True:
        reporter = Reporter(accuracy=data.task != "regression")
    keep = _keeper(checkpoint)
    try:
        with Interrupt() as interrupt:
            _run(task, interrupt, keep, metrics, reporter, after_epoch)
    except KeyboardInterrupt:  # a second Ctrl-C, or one that came another way: nothing is saved
        task.state.stopped = "interrupted"
    finally:
        reporter.stop()
        task.finish()
    if metrics is not None and task.state.stopped == ALL_DONE and not task.state.rows:
        save_csv(metrics, [])  # an older file would not be of this run
    return _history(task.state)


def _check_model(model: Any, **given: Any) -> None:
    """DataError for what only a Module can do: it knows its weights, another callable does not."""
    asked = [f"{name}=" for name, value in given.items() if value is not None and value != 0]
    if asked and not isinstance(model, nn.Module):
        raise DataError(
            f"{', '.join(asked)} {'need' if len(asked) > 1 else 'needs'} the weights of the model, "
            f"and {type(model).__name__} is no Module: make it one"
        )


def _run(
    task: Training, interrupt: Interrupt, keep: Keep | None, metrics: AnyPath | None,
    reporter: Progress, after_epoch: Callable[[Epoch, bool], None] | None,
) -> None:  # fmt: skip
    """Epochs of steps until the state says that training has stopped."""
    state, saved = task.state, -math.inf

    def save(every: float = 0.0) -> None:
        nonlocal saved
        if keep is None or time.perf_counter() - saved < every:
            return
        if keep(task.checkpoint()) is not False:  # it may decline, and is asked again
            saved = time.perf_counter()

    examples = len(task.train)
    done = (state.epoch - 1) * examples + state.seen
    reporter.start(task.settings.epochs, examples, done)
    save()  # a run that is killed at once can be taken up, too
    while not state.stopped:
        for count in task.steps():
            reporter.step(count)
            if interrupt.asked:
                save()
                state.stopped = "interrupted"
                return
            save(CHECKPOINT_SECONDS)
        row, better = task.end_epoch()
        if after_epoch is not None:
            after_epoch(row, better)
        if metrics is not None:
            save_csv(metrics, state.rows)
        reporter.epoch(row, better)
    save()


def _keeper(checkpoint: AnyPath | Keep | None) -> Keep | None:
    """What takes checkpoints: the function itself, or one that writes them to a path."""
    if checkpoint is None or callable(checkpoint):
        return checkpoint
    path = Path(checkpoint)
    return lambda c: c.save(path)


def _history(state: State) -> History:
    return History(list(state.rows), state.best, state.stopped, state.seconds)
