"""How gradients flow through the layers, epoch by epoch, and what is wrong with a training.

In a run folder: `gradients.csv` has a row for each epoch and layer, with the columns of
`explain.diagnose.Layer` (root mean squares on a few training examples, in eager); `diagnosis.json`
has the diagnosis at the start and at the end. A training never fails because of them.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Dataset, TextPart, batches
from ..errors import ChainruleError, RunError
from ..explain.diagnose import Diagnosis, Layer, diagnose, layers
from ..files import write_text
from .measure import Loss, like_targets
from .metrics import Epoch
from .run import DIAGNOSIS, GRADIENTS

EXAMPLES = 32
"""A diagnosis looks at so many examples."""
COLUMNS = (
    "epoch", "layer", "activation", "upstream", "weight", "gradient", "dead", "saturated",
)  # fmt: skip
LARGEST = 64 * 2**20

Row = dict[str, Any]


class Flow:
    """Watches a training: call it with the row of each epoch."""

    def __init__(
        self, model: Any, data: Dataset | TextPart, loss: Loss, folder: Path | None, done: int = 0
    ) -> None:
        self.model, self.loss, self.folder = model, loss, folder
        self.batch = _examples(data)
        self.rows = [] if folder is None or not done else [
            r for r in read(folder) if r["epoch"] <= done
        ]  # fmt: skip
        self.found: dict[str, Any] = {} if folder is None or not done else read_diagnosis(folder)
        self.kept = False
        self.problem = ""
        """Why there is no diagnosis, if something went wrong with it."""

    def look(self, optimizer: Any = None) -> Diagnosis | None:
        """The diagnosis of now; None if the model cannot be diagnosed."""
        try:
            with np.errstate(all="ignore"):
                return diagnose(self.model, self._loss, self.batch, optimizer=optimizer)
        except (ChainruleError, ValueError, TypeError, MemoryError) as error:
            self.problem = f"no diagnosis: {error}"
            return None

    def _layers(self) -> tuple[Layer, ...]:
        """The layers as they are now: what a diagnosis reads, without looking for what is wrong."""
        try:
            with np.errstate(all="ignore"):
                return layers(self.model, self._loss, self.batch)
        except (ChainruleError, ValueError, TypeError, MemoryError) as error:
            self.problem = f"no layers: {error}"
            return ()

    def _loss(self, outputs: Any, targets: Any) -> Any:
        return self.loss(like_targets(outputs, targets), targets)

    def start(self, optimizer: Any) -> None:
        """Look before the first step."""
        found = self.look(optimizer)
        if found is not None:
            self.found["start"] = found.json()

    def __call__(self, row: Epoch, better: bool) -> None:
        """Look at the end of an epoch; the rows so far are written."""
        for layer in self._layers():
            values = {name: getattr(layer, name) for name in COLUMNS[2:]}
            self.rows.append({"epoch": row.epoch, "layer": layer.name, **values})
        self._write(GRADIENTS, to_csv(self.rows))
        if not self.kept:
            self.keep()

    def _write(self, name: str, text: str) -> None:
        """Keep a file of the run folder; that it cannot be written stops no training."""
        if self.folder is None:
            return
        try:
            write_text(self.folder / name, text)
        except RunError as error:
            self.problem = str(error)

    def end(self) -> Diagnosis | None:
        """Look after the last step, and keep what was found."""
        found = self.look()
        if found is not None:
            self.found["end"] = found.json()
        self.keep()
        return found

    def keep(self) -> None:
        """Write what was found so far: once a step is done, as the folder is this run's then."""
        if self.found:
            self.kept = True
            self._write(DIAGNOSIS, json.dumps(self.found, indent=1) + "\n")


def both(*calls: Callable[[Epoch, bool], None] | None) -> Callable[[Epoch, bool], None]:
    """One function that calls all that are there."""
    there = [c for c in calls if c is not None]

    def call(row: Epoch, better: bool) -> None:
        for c in there:
            c(row, better)

    return call


def _examples(data: Any) -> tuple[Any, Any]:
    """The first examples of the training part, as a training sees them."""
    part = data.epoch(0, 1) if hasattr(data, "epoch") else data
    return next(iter(batches(part, EXAMPLES, seed=0, epoch=1)))


def to_csv(rows: list[Row]) -> str:
    """The rows as CSV text; what is not there is empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: "" if isinstance(v, float) and math.isnan(v) else v
                         for k, v in row.items()})  # fmt: skip
    return out.getvalue()


def read(folder: Path) -> list[Row]:
    """The rows in a run folder; none if there are none, or the file is damaged."""
    path = folder / GRADIENTS
    try:
        if path.stat().st_size > LARGEST:
            return []
        found = list(csv.DictReader(io.StringIO(path.read_text("utf-8"))))
        if any(r["layer"] is None for r in found):
            return []
        return [
            {"epoch": int(r["epoch"]), "layer": r["layer"],
             **{k: float(r[k]) if r[k] else math.nan for k in COLUMNS[2:]}}
            for r in found
        ]  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return []


def read_diagnosis(folder: Path) -> dict[str, Any]:
    """The diagnoses in a run folder by "start" and "end"; nothing if they are damaged."""
    path = folder / DIAGNOSIS
    try:
        if path.stat().st_size > LARGEST:
            return {}
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {k: _sound(v) for k, v in found.items() if isinstance(v, dict)}


def _sound(found: dict[str, Any]) -> dict[str, Any]:
    """What of a diagnosis is as `Diagnosis.json` writes it."""

    def rows(name: str) -> list[dict[str, Any]]:
        every = found.get(name)
        return [r for r in every if isinstance(r, dict)] if isinstance(every, list) else []

    def number(x: Any) -> float | None:
        plain = type(x) is float or (type(x) is int and abs(x) < 2**53)
        return float(x) if plain and math.isfinite(x) else None

    return {
        "loss": number(found.get("loss")),
        "findings": [{k: str(v) for k, v in r.items()} for r in rows("findings")],
        "layers": [
            {k: str(v) if k == "name" else number(v) for k, v in r.items() if k != "shape"}
            for r in rows("layers")
        ],
    }
