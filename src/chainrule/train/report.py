"""How good a run is on data: confusion and rates class by class, errors, nats and bits."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data import Dataset, TextPart, image_folder, npz_dataset, read_table
from ..data.files import read_bytes
from ..errors import DataError, RunError
from .metrics import jsonable
from .models import example_shape
from .predictions import outputs
from .run import Run
from .sources import NAMED, describe, load, load_again
from .text import nats

if TYPE_CHECKING:
    from rich.table import Table

Confusion = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, eq=False)
class Report:
    """The measures of a run on data, by name; for classes also the confusion matrix.

    `confusion[i, j]` counts the examples of class i that were taken for class j.
    """

    data: str
    examples: int
    measures: dict[str, float]
    classes: tuple[str, ...] = ()
    confusion: Confusion | None = None

    def rates(self) -> list[dict[str, float]]:
        """Of each class: precision, recall, f1 and support (NaN where it is 0/0).

        precision = right / taken for it, recall = right / support, f1 = their harmonic mean.
        """
        assert self.confusion is not None
        right = np.diag(self.confusion)
        taken, support = self.confusion.sum(0), self.confusion.sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            precision, recall = right / taken, right / support
            f1 = 2 * right / (taken + support)
        return [
            {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(s)}
            for p, r, f, s in zip(precision, recall, f1, support, strict=True)
        ]

    def json(self) -> dict[str, Any]:
        """All of it as plain data; numbers that are not defined are null."""
        found: dict[str, Any] = {"data": self.data, "examples": self.examples}
        found |= self.measures
        if self.confusion is not None:
            found["classes"] = [
                {"class": name, **rates}
                for name, rates in zip(self.classes, self.rates(), strict=True)
            ]
            found["confusion"] = self.confusion.tolist()
        return dict(jsonable(found))

    def tables(self) -> list[Table]:
        """The measures of each class, and the confusion matrix, as tables of rich."""
        from rich.table import Table

        if self.confusion is None:
            return []
        names = ("class", "precision", "recall", "f1", "support")
        rates = Table(*names, box=None, header_style="bold")
        for name, found in zip(self.classes, self.rates(), strict=True):
            shown = [f"{100 * found[k]:.1f}" if found[k] == found[k] else "-" for k in names[1:4]]
            rates.add_row(name, *shown, f"{found['support']:,}")
        confusion = Table(box=None, header_style="bold")
        confusion.add_column("class, taken for:")
        for number in range(len(self.classes)):
            confusion.add_column(str(number), justify="right")
        for number, row in enumerate(self.confusion):
            cells = [str(n) if n else "·" for n in row]
            confusion.add_row(f"{number} {self.classes[number]}", *cells)
        for column in rates.columns[1:]:
            column.justify = "right"
        return [rates, confusion]


def report(run: Run, data: str | None = None) -> Report:
    """The Report of a run on data: a file or a folder; without one the run's own test part."""
    chosen = _chosen(run, data)
    if isinstance(chosen, TextPart) or run.description["kind"] == "lstm":
        tokens = chosen.tokens if isinstance(chosen, TextPart) else chosen
        loss, accuracy = nats(run.model, tokens)
        bits = loss / math.log(2)
        measures = {"nats": loss, "bits": bits, "accuracy": accuracy}
        return Report(data or "test part", len(tokens) - 1, measures)
    found = outputs(run, _pixels(chosen.inputs))
    name, count = data or "test part", len(chosen)
    if run.classes:
        confusion = np.zeros((len(run.classes),) * 2, np.int64)
        np.add.at(confusion, (chosen.targets, found.argmax(1)), 1)
        accuracy = float(np.trace(confusion) / count)
        return Report(name, count, {"accuracy": accuracy}, run.classes, confusion)
    predicted, true = found.reshape(chosen.targets.shape), chosen.targets
    if run.encoder is not None:
        predicted, true = run.encoder.unscale(predicted), run.encoder.unscale(true)
    error = np.asarray(predicted, np.float64) - true
    spread = float(((true - true.mean(0)) ** 2).sum())
    r2 = 1 - float((error**2).sum()) / spread if spread else math.nan
    rmse, mae = float(np.sqrt((error**2).mean())), float(np.abs(error).mean())
    return Report(name, count, {"r2": r2, "rmse": rmse, "mae": mae})


def _pixels(inputs: Any) -> Any:
    """Pixels in uint8 as 0 to 1."""
    if inputs.dtype == np.uint8:
        return np.divide(inputs, np.float32(255), dtype=np.float32)
    return inputs


def _chosen(run: Run, data: str | None) -> Any:
    """The Dataset (or the tokens of a text) that a run is measured on."""
    if data is None:
        return load_again(run.data).test
    if data in NAMED:
        if run.encoder is not None or run.description["kind"] == "lstm":
            takes = "a table (.csv, .parquet)" if run.encoder is not None else "a text file"
            raise RunError(f"this run is not measured on {data}: it takes {takes}")
        same = run.data.get("kind") == data
        parts = load_again(run.data) if same else load(describe(data, 0))
        return _with_classes(parts.test, run)
    path = Path(data)
    if run.description["kind"] == "lstm":
        tokens = run.alphabet.encode(_text(data) if run.alphabet.level == "character"
                                     else read_bytes(data))  # fmt: skip
        if len(tokens) < 2:
            raise RunError(f"{data} has {len(tokens)} characters: there is nothing to predict")
        return tokens
    if run.encoder is not None:
        table = read_table(data)
        return Dataset(run.encoder.transform(table), run.encoder.targets(table), data, run.classes)
    if path.is_dir():
        shape = example_shape(run.description)
        depth = shape[2] if len(shape) == 3 else 3
        gray = bool(run.data.get("gray", depth == 1))
        size = run.data.get("size")
        found = image_folder(data, tuple(size) if size else None, gray)
    else:
        found = npz_dataset(data)
    return _with_classes(found, run)


def _text(path: str) -> str:
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start})") from error


def _with_classes(data: Dataset, run: Run) -> Dataset:
    """The Dataset with the classes of the run, told by name; others are refused."""
    example = example_shape(run.description)
    if math.prod(data.inputs.shape[1:]) != math.prod(example):
        raise RunError(
            f"{data.name} has examples of shape {data.inputs.shape[1:]}, the run takes {example}"
        )
    if not run.classes:
        numbers = run.description["outputs"]
        if data.classes or math.prod(data.targets.shape[1:]) != numbers:
            raise RunError(
                f"{data.name} has targets of {data.targets.dtype} and shape {data.targets.shape}, "
                f"the run gives {numbers} floating numbers an example"
            )
        return data
    plain = tuple(map(str, range(len(data.classes))))
    if data.classes == plain and len(plain) <= len(run.classes):  # numbers, not names
        return replace(data, classes=run.classes)
    strange = [name for name in data.classes if name not in run.classes]
    if strange:
        raise RunError(
            f"{data.name} has the class {strange[0]!r}, which is none of the run's: "
            f"{', '.join(run.classes):.200}"
        )
    numbers = np.array([run.classes.index(name) for name in data.classes])
    return replace(data, targets=numbers[data.targets], classes=run.classes)
