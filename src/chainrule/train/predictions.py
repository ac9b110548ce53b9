"""What a run says of new examples: rows of a table, pictures, arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.context import no_grad
from ..data import arrays, read_npz, read_table
from ..data.batching import pixels
from ..data.images import is_picture, pictures_in, read_pictures
from ..errors import DataError, RunError
from ..files import AnyPath
from .compiling import Compiling, equal_batches, worthwhile
from .models import example_shape
from .run import Run

ROWS = 256
"""Rows predicted at a time."""
COLUMN = "prediction"

Row = dict[str, str]


def predict(run: Run, paths: Sequence[AnyPath]) -> list[Row]:
    """A row {"prediction": …} for each example, as text: the class, or the number.

    `paths` are one table (.csv, .parquet) or one .npz file with inputs `x`, or pictures and
    folders of them, whose rows have the name of the file first. Several numbers an example are
    prediction_0, prediction_1, …. Pictures become what the run was trained on: gray or in colour,
    and resized where it was trained on resized ones.

    Raises RunError for what the run does not take, DataError for files that cannot be read.
    """
    if run.description.get("kind") == "lstm":
        raise RunError(
            "this run is a model of text: `chainrule sample` writes with it, `chainrule evaluate` "
            "measures it on a text"
        )
    shown = [p for p in map(Path, paths) if p.is_dir() or is_picture(p)]
    if shown and len(shown) == len(paths):
        files = [f for p in shown for f in (pictures_in(p) if p.is_dir() else [p])]
        found = _rows(run, outputs(run, _pictures(run, files)))
        return [{"file": str(f)} | row for f, row in zip(files, found, strict=True)]
    if len(paths) != 1:
        raise RunError(
            f"{len(paths)} files: give one table or .npz file, or pictures and folders of them"
        )
    if Path(paths[0]).suffix.lower() == ".npz":
        return _rows(run, outputs(run, _arrays(run, paths[0])))
    return [{COLUMN: text} for text in predict_csv(run, paths[0])]


def predict_csv(run: Run, path: AnyPath) -> list[str]:
    """The prediction for each row of a table, as text: the class, or the number."""
    if run.encoder is None:
        return _predict_digits(run, path)
    inputs = run.encoder.transform(read_table(path))
    found = outputs(run, inputs)
    if run.classes:
        return [run.classes[k] for k in found.argmax(1)]
    return [repr(float(v)) for v in run.encoder.unscale(found.reshape(len(inputs)))]


def _predict_digits(run: Run, path: AnyPath) -> list[str]:
    """Predictions of a digits run for a table of pixels 0 to 16, one column a pixel."""
    if run.data.get("kind") != "digits" or not run.classes:
        raise RunError(
            "this run has no recipe for the columns of a table: give it pictures, a folder of "
            "them, or an .npz file with inputs x"
        )
    table = read_table(path)
    expected = math.prod(example_shape(run.description))
    names = [name for name in table.cells if name not in ("target", "label", "digit")]
    if len(names) != expected:
        raise RunError(
            f"{table.source} has {len(names)} columns of inputs; this run takes {expected} pixels "
            "of 0 to 16 a row (and, if present, a column 'target', 'label' or 'digit')"
        )
    shades = np.stack([table.numbers(name) for name in names], axis=1)
    bad = np.argwhere((shades < 0) | (shades > 16))
    if len(bad):
        row, column = bad[0]
        table.refuse(int(row), names[column], "is no pixel: they go from 0 (paper) to 16 (ink)")
    found = outputs(run, (shades / 16).astype(np.float32))
    return [run.classes[k] for k in found.argmax(1)]


def _pictures(run: Run, files: Sequence[Path]) -> Any:
    """Pictures as the run's inputs."""
    kind, example = run.data.get("kind"), example_shape(run.description)
    if run.encoder is not None or kind == "digits":
        takes = "tables (.csv, .parquet)" if run.encoder is not None else "tables of 64 pixels"
        raise RunError(f"this run was trained on {takes}, not on pictures")
    depth = example[2] if len(example) == 3 else 1
    gray = bool(run.data.get("gray", depth == 1))
    size = run.data.get("size")
    found = read_pictures(files, tuple(size) if size else None, gray)
    if math.prod(found.shape[1:]) != math.prod(example):
        shape, wanted = "×".join(map(str, found.shape[1:])), "×".join(map(str, example))
        raise RunError(
            f"{files[0]} has {shape} numbers (height×width×colours), this run takes {wanted}: "
            "resize the pictures first"
        )
    return pixels(found)


def _arrays(run: Run, path: AnyPath) -> Any:
    """The inputs x of an .npz file."""
    found = read_npz(path)
    if "x" not in found:
        raise DataError(f"{path}: no array 'x'; there are: {', '.join(map(repr, found))}")
    x, example = found["x"], example_shape(run.description)
    if run.encoder is not None:
        raise RunError("this run was trained on a table and takes tables (.csv, .parquet)")
    if not x.size or math.prod(x.shape[1:]) != math.prod(example):
        wanted = ", ".join(map(str, ("n", *example)))
        raise RunError(f"{path}: x has shape {x.shape}, this run takes ({wanted}), n ≥ 1")
    return pixels(x) if x.dtype == np.uint8 else arrays(x, np.zeros(len(x)), name=str(path)).inputs


def _rows(run: Run, found: Any) -> list[Row]:
    """Outputs as text: the class of the greatest, or the numbers."""
    if run.classes:
        return [{COLUMN: run.classes[k]} for k in found.argmax(1)]
    flat = found.reshape(len(found), -1)
    names = [COLUMN] if flat.shape[1] == 1 else [f"{COLUMN}_{k}" for k in range(flat.shape[1])]
    return [{n: repr(float(v)) for n, v in zip(names, row, strict=True)} for row in flat]


def outputs(run: Run, inputs: Any) -> Any:
    """The outputs of the model for rows of inputs, a batch at a time, compiled if it is long."""
    shaped = inputs.reshape(len(inputs), *example_shape(run.description))
    size = equal_batches(len(shaped), ROWS)
    parts = [shaped[k : k + size] for k in range(0, len(shaped), size)]
    forward = Compiling(run.model, worthwhile(run.model, len(inputs), size, 1, shaped))
    with no_grad():
        return np.concatenate([np.asarray(forward(len(x), x)) for x in parts])
