"""The recipe that turns the columns of a table into numbers, fitted once and kept."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError
from .batching import FRACTIONS, split, split_dataset
from .column import Column, column_from_json, fit_column, fit_target
from .dataset import Dataset, Task
from .table import Table, listed, read_table

FORMAT = 1


@dataclass(frozen=True)
class Encoder:
    """How each column becomes numbers, and how the target does; plain data.

    Columns of finite numbers stay numbers; others become one 0/1 column for each category,
    categories sorted. Made by `fit`; `standardise` adds means and deviations of chosen rows,
    the training rows, so that nothing is learned from the others.

    >>> table = Table("pets", {"kg": ["4", "30"], "fur": ["long", "short"], "is": ["cat", "dog"]},
    ...               lines=[2, 3])
    >>> encoder = Encoder.fit(table, "is")
    >>> encoder.features, encoder.classes
    (('kg', 'fur=long', 'fur=short'), ('cat', 'dog'))
    >>> encoder.standardise(table, [0, 1]).transform(table)
    array([[-1.,  1.,  0.],
           [ 1.,  0.,  1.]], dtype=float32)
    """

    columns: tuple[Column, ...]
    target: Column

    @classmethod
    def fit(
        cls, table: Table, target: str, *, task: Task | None = None, ignore: Iterable[str] = ()
    ) -> "Encoder":
        """Kinds and categories of all columns but the target and those to `ignore`; no scaling.

        Without a `task`, the target is classes if it is text, or whole numbers with at most 20
        distinct values, no more than half as many as rows; otherwise it is a regression.

        Raises DataError for unknown columns, missing or infinite values, text among numbers,
        columns that look like identifiers, and a target that does not suit the task.
        """
        ignored = tuple(ignore)
        table.require((target, *ignored))
        names = [name for name in table.cells if name != target and name not in ignored]
        if not names:
            raise DataError(f"{table.source}: no column besides the target {target!r}")
        return cls(
            tuple(fit_column(table, name) for name in names), fit_target(table, target, task)
        )

    def standardise(self, table: Table, rows: ArrayLike) -> "Encoder":
        """A new Encoder with mean 0 and deviation 1 over `rows` for numbers, the target included.

        One-hot columns and classes are left alone, and a constant column becomes 0.
        """
        chosen = np.asarray(rows, dtype=np.int64)
        if chosen.size == 0:
            raise DataError(f"{table.source}: no rows to take a mean of")

        def fitted(column: Column) -> Column:
            if column.categories is not None:
                return column
            return column.fitted(table.numbers(column.name)[chosen])

        return Encoder(tuple(map(fitted, self.columns)), fitted(self.target))

    @property
    def task(self) -> Task:
        """`"classification"` or `"regression"`."""
        return "regression" if self.target.categories is None else "classification"

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; empty for a regression."""
        return self.target.categories or ()

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the columns of `transform`'s result."""
        return tuple(name for column in self.columns for name in column.features)

    def transform(self, table: Table) -> NDArray[np.float32]:
        """The inputs: float32 of shape (rows, features). The target may be absent.

        Raises DataError for absent columns, missing values and unknown categories.
        """
        table.require(column.name for column in self.columns)
        inputs = np.zeros((len(table), len(self.features)), dtype=np.float32)
        every = np.arange(len(table))
        start = 0
        for column in self.columns:
            if column.categories is None:
                inputs[:, start] = column.scaled(table)
            else:
                inputs[every, start + column.codes(table)] = 1
            start += len(column.features)
        return inputs

    def targets(self, table: Table) -> NDArray[Any]:
        """The target: int64 class indices or scaled float32, of shape (rows,)."""
        table.require([self.target.name])
        if self.target.categories is None:
            return self.target.scaled(table)
        return self.target.labels(table)

    def unscale(self, predictions: ArrayLike) -> NDArray[np.float64]:
        """A regression's outputs in the unit of the file: prediction · std + mean, float64."""
        if self.classes:
            raise DataError(f"{self.target.name!r} is classes {listed(self.classes)}, not a number")
        return np.asarray(predictions, dtype=np.float64) * self.target.std + self.target.mean

    def dataset(self, table: Table) -> Dataset:
        """`transform` and `targets` as a Dataset named after the file."""
        name = Path(table.source).stem
        return Dataset(
            self.transform(table), self.targets(table), name, self.classes, self.features
        )

    def to_json(self) -> str:
        """The recipe as JSON text, which `from_json` reads back to an equal Encoder."""
        columns = [asdict(column) for column in self.columns]
        content = {"format": FORMAT, "target": asdict(self.target), "columns": columns}
        return json.dumps(content, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Encoder":
        """The Encoder that `to_json` wrote; DataError says what is wrong with any other text."""
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"encoder: not JSON: {error}") from error
        if not isinstance(content, dict) or content.keys() != {"format", "target", "columns"}:
            raise DataError("encoder: expected an object of format, target and columns")
        if content["format"] != FORMAT:
            raise DataError(
                f"encoder: format {content['format']!r}, this version reads {FORMAT}; "
                "train again, or use the version that wrote it"
            )
        if not isinstance(content["columns"], list) or not content["columns"]:
            raise DataError("encoder: columns must be a list of at least one")
        columns = [
            column_from_json(item, f"columns[{i}]") for i, item in enumerate(content["columns"])
        ]
        target = column_from_json(content["target"], "target")
        names = [column.name for column in (*columns, target)]
        if len(set(names)) < len(names):
            raise DataError("encoder: two columns have the same name")
        if target.categories is not None and len(target.categories) < 2:
            raise DataError("encoder: target has fewer than two classes")
        return cls(tuple(columns), target)


def read_csv(
    path: str | os.PathLike[str],
    target: str,
    *,
    task: Task | None = None,
    ignore: Iterable[str] = (),
) -> Dataset:
    """A CSV or Parquet file as a Dataset: `Encoder.fit(table, target).dataset(table)`.

    Numbers are not scaled.

    To train, use `split_csv`, or `Encoder` itself, which scale by the training rows and keep the
    recipe for later files. `read_table` says what a file must look like, `Encoder.fit` how
    columns and task are told apart, and which errors are raised.
    """
    table = read_table(path)
    return Encoder.fit(table, target, task=task, ignore=ignore).dataset(table)


def split_csv(
    path: str | os.PathLike[str],
    target: str,
    fractions: Sequence[float] = FRACTIONS,
    *,
    seed: int,
    task: Task | None = None,
    ignore: Iterable[str] = (),
) -> tuple[Encoder, tuple[Dataset, Dataset, Dataset]]:
    """A CSV or Parquet file ready for training: the Encoder, and (train, validation, test).

    The split is `split_dataset`'s. Means and deviations are those of the training rows;
    categories are those of the whole file. Raises DataError, as `read_csv` and `split_dataset`.
    """
    table = read_table(path)
    encoder = Encoder.fit(table, target, task=task, ignore=ignore)
    train = split(encoder.targets(table), fractions, seed=seed).train
    encoder = encoder.standardise(table, train)
    # The same split again: it depends on the classes and on the number of rows only.
    return encoder, split_dataset(encoder.dataset(table), fractions, seed=seed)
