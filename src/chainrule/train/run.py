"""Run folders: `model.safetensors`, `run.json`, `metrics.csv`.

Written atomically. Nothing read from one is executed or trusted: every field is checked, sizes
before memory is taken, and the weights must have the names, shapes and dtypes of the model that
run.json describes, and be the very file it was written with.
"""

from __future__ import annotations

import hashlib
import json
import math
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import nn
from ..data import Encoder
from ..errors import DataError, RunError
from .files import AnyPath, write_files
from .models import build, check_description, count_weights

FORMAT = 1
WEIGHTS, SETTINGS, METRICS = "model.safetensors", "run.json", "metrics.csv"
LARGEST_SETTINGS = 64 * 2**20
LARGEST_HEADER = 2**20
"""What the names and shapes in a file of weights may take."""


@dataclass
class Run:
    """A trained model with all that is needed to use it and to repeat it."""

    model: nn.Module
    description: dict[str, Any]
    """The model, as `models.build` takes it."""
    data: dict[str, Any] = field(default_factory=dict)
    """Where the data came from, and how it was split."""
    training: dict[str, Any] = field(default_factory=dict)
    """Loss, optimizer, rate, epochs, seed and the rest."""
    result: dict[str, Any] = field(default_factory=dict)
    """Test score and how training ended."""
    encoder: Encoder | None = None
    """The recipe from a table's columns to inputs, for runs on tables."""
    classes: tuple[str, ...] = ()
    """The names of the classes; empty for numbers."""

    def save(self, folder: AnyPath) -> Path:
        """Write weights and settings: both, or, if the disk is full, neither.

        A folder that holds other things than a run is refused, with a RunError.
        """
        from safetensors.numpy import save

        path = check_folder(folder)
        weights = save(
            {name: np.ascontiguousarray(p.numpy()) for name, p in self.model.named_parameters()},
            metadata={"format": "chainrule"},
        )
        settings = {
            "format": FORMAT,
            "chainrule": _version(),
            "numpy": np.__version__,
            "weights": hashlib.sha256(weights).hexdigest(),
            "model": self.description,
            "data": self.data,
            "training": self.training,
            "classes": list(self.classes),
            "encoder": None if self.encoder is None else json.loads(self.encoder.to_json()),
            "result": self.result,
        }
        text = json.dumps(_plain(settings), indent=1) + "\n"
        write_files({path / WEIGHTS: weights, path / SETTINGS: text.encode()})
        return path


def check_folder(folder: AnyPath) -> Path:
    """The path of a run folder to write: a new or empty one, or one that holds a run.

    Raises RunError for a file, and for a folder with other things in it.
    """
    path = Path(folder)
    try:
        if not path.exists():
            return path
        if not path.is_dir():
            raise RunError(f"{path} is a file: give the name of a folder for the run")
        found = {entry.name for entry in path.iterdir()}
    except OSError as error:
        raise RunError(f"cannot use {path} as a run folder: {error.strerror or error}") from error
    if SETTINGS not in found and not found <= {WEIGHTS, METRICS}:
        raise RunError(
            f"{path} is not empty and holds no run (it has no {SETTINGS}): nothing in it is "
            "touched; give a new folder, or one with an earlier run, which is replaced"
        )
    return path


def load_run(folder: AnyPath) -> Run:
    """The Run that a folder holds; RunError says what is missing or damaged.

    >>> load_run("no/such/folder")
    Traceback (most recent call last):
    chainrule.errors.RunError: no run folder at no/such/folder: give the folder that a training...
    """
    path = Path(folder)
    if not path.is_dir():
        raise RunError(f"no run folder at {path}: give the folder that a training run wrote")
    try:
        settings = _settings(path / SETTINGS)
        return _checked(path, settings)
    except RecursionError as error:
        raise RunError(f"{path / SETTINGS} is damaged: it is nested too deep") from error


def _checked(path: Path, settings: dict[str, Any]) -> Run:
    """The Run that settings describe, each of them checked, with its weights."""
    damaged = f"{path / SETTINGS} is damaged"
    try:
        encoder = settings["encoder"]
        recipe = None if encoder is None else Encoder.from_json(json.dumps(encoder))
        description = settings["model"]
        check_description(description)
    except (DataError, RunError) as error:
        raise RunError(f"{damaged}: {error}") from error
    classes = settings["classes"]
    if not isinstance(classes, list) or not all(isinstance(c, str) for c in classes):
        raise RunError(f"{damaged}: classes are not a list of names")
    for name in ("data", "training", "result"):
        if not isinstance(settings[name], dict):
            raise RunError(f"{damaged}: {name} is not an object")
    if classes and len(classes) != description["outputs"]:
        raise RunError(
            f"{damaged}: {len(classes)} classes for a model of {description['outputs']} outputs"
        )
    if recipe is not None:
        if list(recipe.classes) != classes:
            raise RunError(f"{damaged}: the classes are not those of the encoder")
        if len(recipe.features) != description["inputs"]:
            raise RunError(
                f"{damaged}: {len(recipe.features)} columns for a model of "
                f"{description['inputs']} inputs"
            )
    count = count_weights(description)
    content = _read(path / WEIGHTS, 4 * count, 4 * count + LARGEST_HEADER)
    model = build(description)
    _load_weights(model, path / WEIGHTS, content)
    if hashlib.sha256(content).hexdigest() != settings["weights"]:
        raise RunError(
            f"{path / WEIGHTS} is not the file that {SETTINGS} was written with; train again"
        )
    return Run(
        model, description, settings["data"], settings["training"], settings["result"], recipe,
        tuple(classes),
    )  # fmt: skip


def _read(file: Path, least: int, most: int) -> bytes:
    """The bytes of a file whose size is within bounds, so that no claim in it takes memory."""
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise RunError(f"{file} is damaged: it is no file")
        if not least <= status.st_size <= most:
            raise RunError(
                f"{file} is damaged: it has {status.st_size:,} bytes, expected "
                f"{f'{least:,} to ' if least else 'at most '}{most:,}; train again"
            )
        return file.read_bytes()
    except FileNotFoundError:
        raise RunError(f"{file.parent} has no {file.name}: it is no complete run") from None
    except OSError as error:
        raise RunError(f"cannot read {file}: {error.strerror or error}") from error


def _settings(file: Path) -> dict[str, Any]:
    """The content of run.json, of a format that is known, with all its parts."""
    text = _read(file, 0, LARGEST_SETTINGS)
    try:
        content = json.loads(text.decode())
    except ValueError as error:
        raise RunError(f"{file} is damaged: it is not JSON ({error}); train again") from error
    form = content.get("format") if isinstance(content, dict) else None
    if type(form) is not int or form < 1:
        raise RunError(f"{file} is damaged: it has no format number")
    if form > FORMAT:
        raise RunError(
            f"{file} has format {form}, this version reads up to {FORMAT}: update chainrule"
        )
    parts = {"weights", "model", "data", "training", "classes", "encoder", "result"}
    missing = parts - content.keys()
    if missing:
        raise RunError(f"{file} is damaged: it has no {', '.join(sorted(missing))}")
    found: dict[str, Any] = content
    return found


def _load_weights(model: nn.Module, file: Path, content: bytes) -> None:
    """Assign the weights of a file to the model; names, shapes and dtypes must be the model's."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        weights = load(content)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{file} is damaged: {error}; train again") from error
    expected = dict(model.named_parameters())
    if weights.keys() != expected.keys():
        raise RunError(
            f"{file} does not fit the model: it has {sorted(weights)}, expected {sorted(expected)}"
        )
    for name, parameter in expected.items():
        w = weights[name]
        if w.shape != parameter.shape or w.dtype != parameter.dtype:
            raise RunError(
                f"{file} does not fit the model: {name} is {w.dtype}{list(w.shape)}, "
                f"expected {parameter.type}"
            )
        if not np.isfinite(w).all():
            raise RunError(f"{file} is damaged: {name} holds NaN or infinity; train again")
    for name, parameter in expected.items():
        parameter.assign(weights[name])


def _version() -> str:
    from .. import __version__

    return __version__


def _plain(value: Any) -> Any:
    """JSON has no NaN or infinity: they are written as null."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
