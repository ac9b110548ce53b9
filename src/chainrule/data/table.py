"""A CSV or Parquet file as columns of text; checks say which line and column is wrong."""

import csv
import difflib
import io
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .parquet import read_columns

MISSING = frozenset({"", "?", "na", "n/a", "nan", "+nan", "-nan", "null"})
MOSTLY_NUMBERS = 0.9
SHOWN = 12


@dataclass(frozen=True, eq=False, repr=False)
class Table:
    """Columns of text by name, in the order of the file, and the line each row starts on.

    `counted` is what `lines` counts: the "line"s of a CSV file, the "row"s of a Parquet file.
    Values are checked when a column is read with `numbers` or `texts`, not before: a file to
    predict from may hold columns that nobody asks for.
    """

    source: str
    cells: dict[str, list[str]]
    lines: list[int]
    # Parsing is the slow part of a large file, and each numeric column is wanted three times.
    _parsed: dict[str, NDArray[np.float64] | None] = field(default_factory=dict)
    counted: str = "line"

    def __len__(self) -> int:
        return len(self.lines)

    def __repr__(self) -> str:
        return f"Table({self.source!r}, {len(self)} rows, columns {listed(self.cells)})"

    def require(self, names: Iterable[str]) -> None:
        """DataError naming each of `names` that is no column here, and the nearest ones."""
        absent = [name for name in names if name not in self.cells]
        if not absent:
            return
        lower = {name.lower(): name for name in self.cells}
        near = [difflib.get_close_matches(name.lower(), lower, 2) for name in absent[:SHOWN]]
        nearest = dict.fromkeys(lower[match] for matches in near for match in matches)
        hint = f"nearest: {listed(nearest)}; " if nearest else ""
        raise DataError(
            f"{self.source}: no column {listed(absent)}; {hint}columns: {listed(self.cells)}"
        )

    def is_numeric(self, name: str) -> bool:
        """Whether every value is a finite number; False for a column of categories.

        Raises DataError for a missing value, an infinity, and a text in a column of which at
        least 90 % are numbers, which is a slip and not a category.
        """
        if self._parse(name) is not None:
            return True
        cells = self.texts(name)
        numbers = sum(_number(cell) is not None for cell in cells)
        self._refuse(name, _is_infinite, "is infinite; every number must be finite")
        if numbers >= MOSTLY_NUMBERS * len(cells):
            self._refuse(
                name,
                lambda cell: _number(cell) is None,
                f"is not a number, but {numbers} of {len(cells)} values in the column are; "
                "correct it, or, if these are categories, write none of them as a bare number",
            )
        return False

    def numbers(self, name: str) -> NDArray[np.float64]:
        """The column as finite float64 of shape (rows,); DataError names the first other value."""
        values = self._parse(name)
        if values is None:
            self.texts(name)
            self._refuse(name, _is_infinite, "is infinite; every number must be finite")
            self._refuse(name, lambda cell: _number(cell) is None, "is not a number")
            raise AssertionError(f"column {name!r} has no value to refuse")
        return values

    def texts(self, name: str) -> list[str]:
        """The column as text without outer spaces; DataError names the first missing value."""
        cells = self.cells[name]
        if any(_is_missing(cell) for cell in set(cells)):
            self._refuse(
                name, _is_missing, "is a missing value; fill it in, or remove the row or column"
            )
        return cells

    def refuse(self, row: int, name: str, why: str) -> NoReturn:
        """DataError about one value: file, line, column, the value and `why`."""
        value = repr(self.cells[name][row])
        shown = value if len(value) <= 80 else value[:77] + "…'"
        where = f"{self.source}, {self.counted} {self.lines[row]}, column {name!r}"
        raise DataError(f"{where}: {shown} {why}")

    def _refuse(self, name: str, is_bad: Callable[[str], bool], why: str) -> None:
        for row, cell in enumerate(self.cells[name]):
            if is_bad(cell):
                self.refuse(row, name, why)

    def _parse(self, name: str) -> NDArray[np.float64] | None:
        if name not in self._parsed:
            values = _finite_numbers(self.cells[name])
            self._parsed[name] = values
        return self._parsed[name]


def read_table(path: str | os.PathLike[str]) -> Table:
    """The rows of a CSV file: UTF-8, commas, one header line of distinct names, quotes as usual.

    Spaces around values are dropped and blank lines are skipped. A file whose name ends in
    .parquet is read by pyarrow (`pip install 'chainrule[parquet]'`): columns of numbers, texts
    and booleans. The file is held in memory.

    Raises DataError for a file that cannot be read or is not such a table, naming the line.
    """
    source = os.fspath(path)
    if source.lower().endswith(".parquet"):
        names, texts = read_columns(source)
        if not texts or not texts[0]:
            raise DataError(f"{source}: {len(texts)} columns and no rows")
        cells = dict(zip(_check_header(source, names), texts, strict=True))
        return Table(source, cells, list(range(1, len(texts[0]) + 1)), counted="row")
    rows, lines = _read_rows(source, _read_text(source))
    if not rows:
        raise DataError(f"{source}: the file is empty; it needs a header line and rows")
    header = _check_header(f"{source}, line {lines[0]}", rows[0])
    if len(rows) == 1:
        raise DataError(f"{source}: a header and no rows")
    columns = zip(*rows[1:], strict=True)
    cells = {
        name: list(map(str.strip, column)) for name, column in zip(header, columns, strict=True)
    }
    return Table(source, cells, lines[1:])


def listed(names: Iterable[str]) -> str:
    """Names in quotes, with commas; the first dozen and a count of the rest."""
    every = list(names)
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return ", ".join(map(repr, every[:SHOWN])) + more


def _read_text(source: str) -> str:
    try:
        content = Path(source).read_bytes()
    except OSError as error:
        raise DataError(f"{source}: cannot be read: {error.strerror or error}") from error
    try:
        # Spreadsheets write a byte-order mark, which is not part of the first name.
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{source}, line {line}: not UTF-8 text (byte 0x{error.object[error.start]:02x}); "
            "save the file as CSV in UTF-8"
        ) from error


def _read_rows(source: str, text: str) -> tuple[list[list[str]], list[int]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    width = 0
    try:
        while True:
            line = reader.line_num + 1
            row = next(reader, None)
            if row is None:
                return rows, lines
            if not row or (len(row) == 1 < width and not row[0].strip()):
                continue
            width = width or len(row)
            if len(row) != width:
                raise DataError(
                    f"{source}, line {line}: {len(row)} values, but the header has {width} columns"
                )
            rows.append(row)
            lines.append(line)
    except csv.Error as error:
        raise DataError(f"{source}, line {reader.line_num}: not CSV: {error}") from error


def _check_header(where: str, row: Sequence[str]) -> list[str]:
    header = [name.strip() for name in row]
    if len(header) == 1:
        for separator in (";", "\t", "|"):
            if separator in header[0]:
                raise DataError(f"{where}: values are separated by {separator!r}; use commas")
    numbers = [_number(name) for name in header]
    # Plain indices 0, 1, … are names that other programs write; 5.1 or -3 is data.
    if None not in numbers and not all(name.isdigit() for name in header):
        raise DataError(f"{where}: a header of numbers only, {listed(header)}; name the columns")
    if "" in header:
        raise DataError(
            f"{where}: column {header.index('') + 1} has no name; name it, or remove it if it "
            "is a row number that another program wrote"
        )
    twice = [name for name in dict.fromkeys(header) if header.count(name) > 1]
    if twice:
        raise DataError(f"{where}: column names must differ; more than once: {listed(twice)}")
    return header


def _finite_numbers(cells: Sequence[str]) -> NDArray[np.float64] | None:
    joined = "".join(cells)
    # float() takes 1_000 and digits of other scripts, which no CSV means as numbers.
    if "_" in joined or not joined.isascii():
        return None
    try:
        values = np.array(list(map(float, cells)))
    except ValueError:
        return None
    return values if np.isfinite(values).all() else None


def _number(cell: str) -> float | None:
    if "_" in cell or not cell.isascii():
        return None
    try:
        return float(cell)
    except ValueError:
        return None


def _is_missing(cell: str) -> bool:
    return cell.lower() in MISSING


def _is_infinite(cell: str) -> bool:
    number = _number(cell)
    return number is not None and math.isinf(number)
