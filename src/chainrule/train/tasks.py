"""Whole jobs: data, model, training, test, run folder; the command line is a thin cover."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import nn, optim
from ..core.context import no_grad
from ..data import Dataset, Encoder, batches, digits, read_table, split_csv, split_dataset
from ..errors import RunError
from .files import AnyPath
from .loop import History, evaluate, fit
from .metrics import Epoch
from .models import ACTIVATIONS, LARGEST_LAYER, build, describe_mlp
from .run import METRICS, Run, check_folder

LOSSES: dict[str, Callable[..., Any]] = {
    "softmax": nn.softmax_cross_entropy,
    "hinge": nn.hinge,
    "squared": nn.mean_squared_error,
}
OPTIMIZERS: dict[str, Any] = {
    "sgd": optim.SGD,
    "momentum": optim.Momentum,
    "nesterov": optim.Nesterov,
    "adagrad": optim.AdaGrad,
    "rmsprop": optim.RMSProp,
    "adam": optim.Adam,
    "adamw": optim.AdamW,
}
CHECKPOINT_SECONDS = 5.0
"""A run that is killed loses no more than this, and not much time goes into files."""


@dataclass(frozen=True)
class Options:
    """The settings of a training job; run.json keeps them all."""

    hidden: tuple[int, ...] = (512,)
    activation: str = "relu"
    loss: str = "auto"
    optimizer: str = "adam"
    rate: float = 2e-3
    penalty: float = 0.0
    batch: int = 32
    epochs: int = 60
    patience: int | None = None
    seed: int = 0

    def checked(self, task: str) -> Options:
        """The options with the loss chosen for the task; anything unknown is refused."""
        _among("activation", self.activation, ACTIVATIONS)
        _among("optimizer", self.optimizer, OPTIMIZERS)
        loss = self.loss
        if loss == "auto":
            loss = "softmax" if task == "classification" else "squared"
        _among("loss", loss, LOSSES)
        if (loss == "squared") != (task == "regression"):
            fits = "squared" if task == "regression" else "softmax or hinge"
            raise RunError(f"loss {loss!r} does not fit a {task}: use {fits}")
        for name, low in (
            ("rate", 0.0),
            ("batch", 1),
            ("penalty", 0.0),
            ("epochs", 0),
            ("seed", 0),
        ):
            value = getattr(self, name)
            if not low <= value < math.inf or (name == "rate" and value == 0):
                least = "above" if name == "rate" else "at least"
                finite = " and finite" if isinstance(value, float) else ""
                raise RunError(f"{name} must be {least} {low:g}{finite}, received {value}")
        if self.patience is not None and self.patience < 1:
            raise RunError(f"patience must be at least 1, received {self.patience}")
        if not all(1 <= n <= LARGEST_LAYER for n in self.hidden):
            raise RunError(
                f"hidden sizes must be from 1 to {LARGEST_LAYER:,}, received "
                f"{', '.join(map(str, self.hidden))}"
            )
        return replace(self, loss=loss)


def _among(what: str, name: str, known: dict[str, Any]) -> None:
    if name not in known:
        raise RunError(f"unknown {what} {name!r}; one of {', '.join(known)}")


@dataclass
class Outcome:
    """A finished job: the run, its history, and the measures on the test set."""

    run: Run
    history: History
    test_loss: float
    test_score: float
    folder: Path | None = None

    @property
    def summary(self) -> str:
        """The line that says how good it is."""
        if self.run.classes:
            return f"test accuracy: {100 * self.test_score:.1f} %"
        if math.isnan(self.test_score):
            return "test R²: not defined (the test targets are all equal)"
        return f"test R²: {self.test_score:.4f}"


def train_digits(
    options: Options | None = None, *, out: AnyPath | None = None,
    progress: Any = True,
) -> Outcome:  # fmt: skip
    """Train a classifier of the 1,797 digits: 60 % train, 20 % validation, 20 % test."""
    options = options or Options()
    parts = split_dataset(digits(), seed=options.seed)
    source = {"kind": "digits", "split": [0.6, 0.2, 0.2], "seed": options.seed}
    return _train(parts, source, None, options, out, progress)


def train_csv(
    path: AnyPath, target: str, options: Options | None = None, *,
    task: Any = None, ignore: tuple[str, ...] = (), out: AnyPath | None = None,
    progress: Any = True,
) -> Outcome:  # fmt: skip
    """Train on a table: the column `target` from all others; 60 / 20 / 20 % of the rows."""
    options = options or Options()
    encoder, parts = split_csv(path, target, seed=options.seed, task=task, ignore=ignore)
    source = {
        "kind": "csv", "path": os.fspath(path), "target": target, "task": encoder.task,
        "ignore": list(ignore), "split": [0.6, 0.2, 0.2], "seed": options.seed,
    }  # fmt: skip
    return _train(parts, source, encoder, options, out, progress)


def cosine(done: float) -> float:
    """The factor of the rate when a share of training is done: ½(1 + cos π·done)."""
    return 0.5 * (1.0 + float(np.cos(np.pi * done)))


def _train(
    parts: tuple[Dataset, Dataset, Dataset], source: dict[str, Any], encoder: Encoder | None,
    options: Options, out: AnyPath | None, progress: Any,
) -> Outcome:  # fmt: skip
    train, validation, test = parts
    options = options.checked(train.task)
    folder = None if out is None else check_folder(out)
    outputs = len(train.classes) if train.classes else 1
    inputs = int(np.prod(train.inputs.shape[1:]))
    description = describe_mlp(inputs, options.hidden, outputs, options.activation)
    model = build(description, options.seed)
    run = Run(
        model, description, source, {**asdict(options), "schedule": "cosine"}, {}, encoder,
        train.classes,
    )  # fmt: skip
    saved = -math.inf

    def keep(row: Epoch, better: bool) -> None:
        """A checkpoint of the best weights so far: the first at once, others seconds apart."""
        nonlocal saved
        now = time.perf_counter()
        if folder is not None and better and now - saved > CHECKPOINT_SECONDS:
            run.result = {"epochs": row.epoch, "stopped": "not finished"}
            run.save(folder)
            saved = now

    loss = LOSSES[options.loss]
    history = fit(
        model, train, validation,
        loss=loss, optimizer=OPTIMIZERS[options.optimizer](model, lr=options.rate),
        epochs=options.epochs, batch=options.batch, penalty=options.penalty, seed=options.seed,
        patience=options.patience, schedule=cosine, progress=progress, after_epoch=keep,
        metrics=None if folder is None else folder / METRICS,
    )  # fmt: skip
    test_loss, test_score = evaluate(model, test, loss)
    run.result = {
        "epochs": len(history), "best_epoch": history.best, "stopped": history.stopped,
        "seconds": round(history.seconds, 3), "test_loss": test_loss, "test_score": test_score,
        "test_examples": len(test), "measure": "accuracy" if train.classes else "R²",
    }  # fmt: skip
    if folder is not None:
        run.save(folder)
    return Outcome(run, history, test_loss, test_score, folder)


def predict_csv(run: Run, path: AnyPath) -> list[str]:
    """The prediction for each row of a table, as text: the class, or the number."""
    if run.encoder is None:
        return _predict_pictures(run, path)
    inputs = run.encoder.transform(read_table(path))
    outputs = _outputs(run, inputs)
    if run.classes:
        return [run.classes[k] for k in outputs.argmax(1)]
    return [repr(float(v)) for v in run.encoder.unscale(outputs.reshape(len(inputs)))]


def _predict_pictures(run: Run, path: AnyPath) -> list[str]:
    """Predictions of a digits run for a table of pixels 0 to 16, one column a pixel."""
    if run.data.get("kind") != "digits" or not run.classes:
        raise RunError("this run has no recipe for the columns of a table: call run.model itself")
    table = read_table(path)
    expected = int(run.description["inputs"])
    names = [name for name in table.cells if name not in ("target", "label", "digit")]
    if len(names) != expected:
        raise RunError(
            f"{table.source} has {len(names)} columns of inputs; this run takes {expected} pixels "
            "of 0 to 16 a row (and, if present, a column 'target', 'label' or 'digit')"
        )
    pixels = np.stack([table.numbers(name) for name in names], axis=1)
    bad = np.argwhere((pixels < 0) | (pixels > 16))
    if len(bad):
        row, column = bad[0]
        table.refuse(int(row), names[column], "is no pixel: they go from 0 (paper) to 16 (ink)")
    outputs = _outputs(run, (pixels / 16).astype(np.float32))
    return [run.classes[k] for k in outputs.argmax(1)]


def _outputs(run: Run, inputs: Any) -> Any:
    """The outputs of the model for rows of inputs, a batch at a time."""
    with no_grad():
        parts = [np.asarray(run.model(x)) for x, _ in batches((inputs, inputs), 1024, seed=0,
                                                              shuffle=False)]  # fmt: skip
    return np.concatenate(parts)
