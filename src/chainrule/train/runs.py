"""Run folders side by side: what there is, how far it is, how good, and how two differ."""

from __future__ import annotations

import csv
import math
import os
import platform
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..files import AnyPath
from .metrics import COLUMNS as METRIC_COLUMNS
from .models import count_weights
from .run import METRICS, SETTINGS, Run, load_settings

Numbers = list[dict[str, float]]


@dataclass(frozen=True)
class Row:
    """A run as a line of a list. Scores are accuracy, R², or -nats, so that more is better."""

    name: str
    data: str = ""
    model: str = ""
    parameters: int = 0
    epochs: int = 0
    validation: float = math.nan
    test: float = math.nan
    seconds: float = 0.0
    state: str = "damaged"

    def cells(self) -> tuple[str, ...]:
        """What is shown of it."""
        scores = [f"{s:.4f}" if s == s else "" for s in (self.validation, self.test)]
        return (
            self.name, self.data, self.model, f"{self.parameters:,}", f"{self.epochs:,}", *scores,
            f"{self.seconds:,.1f}", self.state,
        )  # fmt: skip


COLUMNS = tuple(f.name for f in fields(Row))


def find(folder: AnyPath) -> list[Path]:
    """The run folders in a folder, at any depth, by name; RunError if it is no folder."""
    root = Path(folder)
    if not root.is_dir():
        raise RunError(f"no folder at {root}: give the one that holds the runs")
    return sorted(path.parent for path in root.rglob(SETTINGS))


def rows(folders: list[Path], sort: str = "name") -> list[Row]:
    """A Row for each run, sorted by a column: texts from A, scores and other numbers from the top.

    A folder that cannot be read is a Row with the state "damaged".
    """
    if sort not in COLUMNS:
        raise RunError(f"cannot sort by {sort!r}; one of {', '.join(COLUMNS)}")
    found = sorted(map(row, folders), key=lambda r: r.name)
    place = COLUMNS.index(sort)
    if isinstance(astuple(Row(""))[place], str):
        return sorted(found, key=lambda r: str(astuple(r)[place]))

    def number(r: Row) -> float:
        value = float(astuple(r)[place])
        return -value if value == value else math.inf

    return sorted(found, key=number)


def row(folder: Path) -> Row:
    """The Row of a run folder."""
    try:
        run = load_settings(folder)
    except RunError:
        return Row(str(folder))
    done, state = progress_of(folder), state_of(run)
    text = run.description["kind"] == "lstm"
    scored = "validation_loss" if text else "validation_score"
    sign = -1.0 if text else 1.0
    best = min(done, key=lambda r: r["validation_loss"], default={scored: math.nan})
    test = run.result.get("test_loss" if text else "test_score")
    return Row(
        str(folder), str(run.data.get("kind", "")), str(run.training.get("model", "")),
        count_weights(run.description), len(done), sign * best[scored],
        sign * test if isinstance(test, float) else math.nan,
        sum(r["seconds"] for r in done), state,
    )  # fmt: skip


def state_of(run: Run) -> str:
    """finished, interrupted, failed, or running; one whose process is gone is interrupted."""
    state, process = run.result.get("state"), run.result.get("process")
    if state != "running":
        return state if state in ("finished", "interrupted", "failed") else "interrupted"
    if not isinstance(process, dict) or process.get("host") != platform.node():
        return "running"  # on another machine, as far as is known
    return "running" if _alive(process.get("pid")) else "interrupted"


def _alive(pid: Any) -> bool:
    if type(pid) is not int or not 0 < pid < 1 << 31:
        return False
    if os.name != "posix":  # elsewhere signal 0 is no question
        return True
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def progress_of(folder: Path) -> Numbers:
    """The rows of metrics.csv as numbers; none if it is missing or damaged."""
    try:
        with open(folder / METRICS, newline="") as file:
            rows = [{k: float(r[k]) for k in METRIC_COLUMNS} for r in csv.DictReader(file)]
        return rows if all(r["epoch"].is_integer() for r in rows) else []
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return []


def differences(folders: list[Path]) -> list[tuple[str, ...]]:
    """The settings in which runs differ: a name, and the value of each run."""
    found = [_settings(load_settings(folder)) for folder in folders]
    names = dict.fromkeys(name for each in found for name in each)
    table = [(name, *(each.get(name, "") for each in found)) for name in names]
    return [line for line in table if len(set(line[1:])) > 1]


def _settings(run: Run) -> dict[str, str]:
    """All settings and results of a run by name, as text."""
    parts = {
        "data": run.data, "model": run.description, "training": run.training,
        "result": {k: v for k, v in run.result.items() if k not in ("process", "stopped")},
    }  # fmt: skip
    found = {f"{part}.{k}": _short(v) for part, values in parts.items() for k, v in values.items()}
    found["data.fingerprint"] = found.get("data.fingerprint", "")[:12]
    found["parameters"] = f"{count_weights(run.description):,}"
    return found


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(map(_short, value))
    return "" if value is None else f"{value!s:.40}"
