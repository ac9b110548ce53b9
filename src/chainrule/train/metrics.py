"""What is measured in each epoch, and the CSV file that keeps it."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..files import AnyPath, write_text


@dataclass(frozen=True)
class Epoch:
    """One row of metrics. `score` is accuracy, or R² for numbers; validation may be NaN."""

    epoch: int
    loss: float
    score: float
    validation_loss: float
    validation_score: float
    rate: float
    seconds: float


COLUMNS = tuple(f.name for f in fields(Epoch))


def to_csv(rows: list[Epoch]) -> str:
    """The rows as CSV text with a header; numbers as Python prints them, so nothing is lost."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return out.getvalue()


def save_csv(path: AnyPath, rows: list[Epoch]) -> None:
    """The rows as a CSV file, atomically."""
    write_text(path, to_csv(rows))


def jsonable(value: Any) -> Any:
    """The same with null for NaN and infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
