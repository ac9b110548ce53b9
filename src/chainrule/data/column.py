"""One column of the encoder's recipe: how it is recognised, and how it becomes numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .dataset import Task, to_float32
from .table import Table, listed

MAX_CLASSES_OF_NUMBERS = 20
MAX_CATEGORIES = 1000
# Above this many categories, a column with a new one on every other row is an identifier.
MIN_IDENTIFIERS = 50


@dataclass(frozen=True)
class Column:
    """One column: categories (one-hot, or classes if it is the target), or a scaled number.

    A number is encoded as (value - mean) / std. `categories` is None for numbers.
    """

    name: str
    categories: tuple[str, ...] | None = None
    mean: float = 0.0
    std: float = 1.0

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the encoded columns: `age`, or `colour=blue`, `colour=red`."""
        if self.categories is None:
            return (self.name,)
        return tuple(f"{self.name}={category}" for category in self.categories)

    def codes(self, table: Table) -> NDArray[np.int64]:
        """The index of each row's category; DataError for one that was not there at fitting."""
        assert self.categories is not None
        known = {category: k for k, category in enumerate(self.categories)}
        cells = table.texts(self.name)
        codes = [known.get(cell, -1) for cell in cells]
        if -1 in codes:
            self._unknown(table, codes.index(-1))
        return np.array(codes, dtype=np.int64)

    def labels(self, table: Table) -> NDArray[np.int64]:
        """As `codes`, for the target: 1, 1.0 and 01 are the same class "1"."""
        assert self.categories is not None
        known = {category: k for k, category in enumerate(self.categories)}
        codes = [known.get(label, -1) for label in _class_names(table.texts(self.name))]
        if -1 in codes:
            self._unknown(table, codes.index(-1))
        return np.array(codes, dtype=np.int64)

    def scaled(self, table: Table) -> NDArray[np.float32]:
        """(value - mean) / std in float64, then float32."""
        with np.errstate(over="ignore"):
            values = (table.numbers(self.name) - self.mean) / self.std
        return to_float32(values, f"{table.source}, column {self.name!r}: scaled values")

    def fitted(self, values: NDArray[np.float64]) -> "Column":
        """This column with the mean and standard deviation of `values`; a constant keeps std 1."""
        low, high = float(values.min()), float(values.max())
        # The computed deviation of a constant such as 0.1 is not 0 but 1e-17.
        if low == high:
            return replace(self, mean=low, std=1.0)
        with np.errstate(over="ignore", invalid="ignore"):
            mean, std = float(values.mean()), float(values.std())
        if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
            raise DataError(
                f"column {self.name!r}: numbers from {low:g} to {high:g} are too far apart or too "
                "near to each other to scale; change their unit"
            )
        return replace(self, mean=mean, std=std)

    def _unknown(self, table: Table, row: int) -> NoReturn:
        assert self.categories is not None
        table.refuse(row, self.name, f"is not one of the known: {listed(self.categories)}")


def fit_column(table: Table, name: str) -> Column:
    """The kind and the categories of an input column; DataError as `Encoder.fit` says."""
    if table.is_numeric(name):
        return Column(name)
    return Column(name, _check_distinct(table, name, sorted(set(table.texts(name)))))


def fit_target(table: Table, name: str, task: Task | None) -> Column:
    """The target as classes or as a number, by the rule that `Encoder.fit` states."""
    if task not in (None, "classification", "regression"):
        raise DataError(f"task must be 'classification', 'regression' or None, got {task!r}")
    if task == "regression":
        table.numbers(name)
        return Column(name)
    if table.is_numeric(name):
        values = table.numbers(name)
        fractional = values != np.round(values)
        distinct = len(np.unique(values))
        few = distinct <= MAX_CLASSES_OF_NUMBERS and 2 * distinct <= len(values)
        if task is None and (fractional.any() or not (few or distinct == 1)):
            return Column(name)
        if fractional.any():
            table.refuse(
                int(np.argmax(fractional)),
                name,
                "is no class; classes are text or whole numbers. Use task='regression'",
            )
    names = set(_class_names(table.texts(name)))
    if len(names) < 2:
        raise DataError(
            f"{table.source}, column {name!r}: every row is {listed(names)}; "
            "a target needs two or more classes"
        )
    try:
        classes = sorted(names, key=int)
    except ValueError:
        classes = sorted(names)
    return Column(name, _check_distinct(table, name, classes))


def _check_distinct(table: Table, name: str, categories: Sequence[str]) -> tuple[str, ...]:
    identifies = len(categories) > MIN_IDENTIFIERS and 2 * len(categories) > len(table)
    if identifies or len(categories) > MAX_CATEGORIES:
        raise DataError(
            f"{table.source}, column {name!r}: {len(categories)} different values in {len(table)} "
            f"rows, such as {listed(categories[:3])}, look like names or identifiers, not "
            "categories; remove the column or ignore it"
        )
    return tuple(categories)


def _class_names(cells: Sequence[str]) -> list[str]:
    plain = {cell: _class_name(cell) for cell in set(cells)}
    return [plain[cell] for cell in cells]


def _class_name(cell: str) -> str:
    try:
        number = float(cell)
    except ValueError:
        return cell
    is_plain = number.is_integer() and "_" not in cell and cell.isascii()
    return str(int(number)) if is_plain else cell


def column_from_json(item: Any, where: str) -> Column:
    """A Column of untrusted JSON."""
    if not isinstance(item, dict) or item.keys() != {"name", "categories", "mean", "std"}:
        raise DataError(f"encoder: {where} must be an object of name, categories, mean and std")
    name, categories = item["name"], item["categories"]
    if not isinstance(name, str) or not name:
        raise DataError(f"encoder: {where} has no name")
    if categories is not None:
        is_texts = isinstance(categories, list) and all(isinstance(c, str) for c in categories)
        if not is_texts or not categories or len(set(categories)) < len(categories):
            raise DataError(f"encoder: the categories of {where} must be distinct texts, or null")
        categories = tuple(categories)
    for key in ("mean", "std"):
        value = item[key]
        if type(value) not in (int, float) or not abs(value) < math.inf:
            raise DataError(f"encoder: the {key} of {where} must be a finite number, got {value!r}")
    if item["std"] <= 0:
        raise DataError(f"encoder: the std of {where} must be above 0, got {item['std']!r}")
    try:
        return Column(name, categories, float(item["mean"]), float(item["std"]))
    except OverflowError as error:
        raise DataError(f"encoder: the mean or std of {where} is out of range") from error
