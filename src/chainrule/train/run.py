"""Run folders: `run.json`, `model.safetensors`, `metrics.csv`, and while training goes on
`checkpoint.safetensors`.

Each is written atomically. model.safetensors names the run it is of and holds its own checksum;
where it is missing or of an earlier run, the weights are the best ones in the checkpoint. So there
is no moment at which a kill leaves a folder that cannot be loaded. Nothing read from one is
executed or trusted: every field is checked, sizes before memory is taken, and the weights must have
the names, shapes and dtypes of the model that run.json describes.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import nn
from ..data import Alphabet, Encoder
from ..errors import DataError, RunError
from ..files import AnyPath, write_files
from .checkpoint import FORMAT, Checkpoint, check_format, load_checkpoint
from .metrics import jsonable
from .models import build, check_description, count_weights, example_shape
from .sealed import Arrays, check_size, seal, unseal
from .sources import PLACES

WEIGHTS, SETTINGS, METRICS = "model.safetensors", "run.json", "metrics.csv"
CHECKPOINT = "checkpoint.safetensors"
GRADIENTS, DIAGNOSIS, REPORT = "gradients.csv", "diagnosis.json", "report.html"
FILES = frozenset((WEIGHTS, SETTINGS, METRICS, CHECKPOINT, GRADIENTS, DIAGNOSIS, REPORT))
LARGEST_SETTINGS = 64 * 2**20
LARGEST_HEADER = 2**20
"""What the names, shapes and few other numbers in a file of weights may take."""
COPIES = 6
"""How often a checkpoint holds the weights at most: model, best, average, and in the optimizer."""
LARGEST_PROGRESS = 2**28
"""What the rows of metrics in a checkpoint may take."""


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
    """The names of the classes, or of the tokens of a text; empty for numbers."""

    @property
    def identity(self) -> str:
        """What the files of one run have in common: 16 hex digits of all but result and places."""
        data = {name: value for name, value in self.data.items() if name not in PLACES}
        parts = (self.description, data, self.training, self.classes, self._recipe())
        return hashlib.sha256(json.dumps(jsonable(parts)).encode()).hexdigest()[:16]

    @property
    def alphabet(self) -> Alphabet:
        """The tokens of a run on text; RunError for other runs."""
        if self.description.get("kind") != "lstm":
            raise RunError("this run is no model of text")
        try:
            return Alphabet(self.classes, self.data.get("level", "character"))
        except DataError as error:
            raise RunError(f"{SETTINGS} is damaged: {error}") from error

    def save(self, folder: AnyPath) -> Path:
        """Write weights and settings: both, or, if the disk is full, neither.

        A folder that holds other things than a run is refused, with a RunError.
        """
        path = check_folder(folder)
        write_files({path / WEIGHTS: self.weights(), path / SETTINGS: self.settings()})
        return path

    def weights(self) -> bytes:
        """The content of model.safetensors."""
        about = {"kind": "weights", "format": FORMAT, "run": self.identity}
        return seal(self.model.state(), about)

    def settings(self) -> bytes:
        """The content of run.json."""
        content = {
            "format": FORMAT,
            "chainrule": _version(),
            "numpy": np.__version__,
            "model": self.description,
            "data": self.data,
            "training": self.training,
            "classes": list(self.classes),
            "encoder": self._recipe(),
            "result": self.result,
        }
        return (json.dumps(jsonable(content), indent=1) + "\n").encode()

    def _recipe(self) -> Any:
        return None if self.encoder is None else json.loads(self.encoder.to_json())


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
    if SETTINGS not in found and not found <= FILES:
        raise RunError(
            f"{path} is not empty and holds no run (it has no {SETTINGS}): nothing in it is "
            "touched; give a new folder, or one with an earlier run, which is replaced"
        )
    return path


def load_run(folder: AnyPath) -> Run:
    """The Run that a folder holds; RunError says what is missing or damaged.

    Of a run that is not finished, the best weights so far.

    >>> load_run("no/such/folder")
    Traceback (most recent call last):
    chainrule.errors.RunError: no run folder at no/such/folder: give the folder that a training...
    """
    path, run = Path(folder), load_settings(folder)
    weights = _weights(path, run)
    if weights is None:
        weights = load_progress(path, run).weights()
    run.model = _model(run)
    _assign(run.model, path, weights)
    return run


def load_settings(folder: AnyPath) -> Run:
    """The Run of a folder without its model (no memory is taken for weights)."""
    path = Path(folder)
    if not path.is_dir():
        raise RunError(f"no run folder at {path}: give the folder that a training run wrote")
    try:
        return _checked(path / SETTINGS, _settings(path / SETTINGS))
    except RecursionError as error:
        raise RunError(f"{path / SETTINGS} is damaged: it is nested too deep") from error


def load_progress(folder: AnyPath, run: Run) -> Checkpoint:
    """The checkpoint of a run that is not finished; RunError if it has none of its own."""
    file = Path(folder) / CHECKPOINT
    if not file.exists():
        raise RunError(f"{folder} has no {WEIGHTS} and no {CHECKPOINT}: it is no complete run")
    count = 4 * count_weights(run.description)
    most = COPIES * count + LARGEST_HEADER + LARGEST_PROGRESS
    found = load_checkpoint(file, least=count, most=most)
    if found.run != run.identity:
        raise RunError(f"{file} is of another run than {SETTINGS} beside it: train again")
    return found


def _weights(path: Path, run: Run) -> Arrays | None:
    """The weights in model.safetensors; None if they are missing, or of another run."""
    file, count = path / WEIGHTS, 4 * count_weights(run.description)
    replaced = (path / CHECKPOINT).exists()  # then the file may be of the run before
    if replaced and not file.exists():
        return None
    if not file.exists() and run.result.get("state") not in (None, "finished"):
        raise RunError(
            f"{path} has no {WEIGHTS} yet, and no {CHECKPOINT}: resume it with "
            f"chainrule train --resume {path}"
        )
    arrays, about = unseal(file, 0 if replaced else count, count + LARGEST_HEADER)
    if about.get("kind") != "weights":
        raise RunError(f"{file} holds no weights of a run: {str(about.get('kind'))!r:.40}")
    check_format(file, about.get("format"))
    if about.get("run") != run.identity:
        if replaced:
            return None
        raise RunError(f"{file} is not the file that {SETTINGS} was written with; train again")
    return arrays


def _model(run: Run) -> nn.Module:
    seed = run.training.get("seed", 0)
    return build(run.description, seed if type(seed) is int and 0 <= seed < 2**64 else 0)


def _assign(model: nn.Module, path: Path, weights: Arrays) -> None:
    """Give the weights to the model; names, shapes and dtypes must be the model's."""
    expected = model.state()
    if weights.keys() != expected.keys():
        raise RunError(
            f"{path}: the weights do not fit the model: there are {sorted(weights)}, "
            f"expected {sorted(expected)}"
        )
    for name, like in expected.items():
        w = weights[name]
        if w.shape != like.shape or w.dtype != like.dtype:
            raise RunError(
                f"{path}: the weights do not fit the model: {name} is {w.dtype}{list(w.shape)}, "
                f"expected {like.dtype}{list(like.shape)}"
            )
        if w.dtype.kind == "f" and not np.isfinite(w).all():
            raise RunError(f"{path} is damaged: {name} holds NaN or infinity; train again")
    model.load_state(weights)


# -- run.json -----------------------------------------------------------------------------------


def _settings(file: Path) -> dict[str, Any]:
    """The content of run.json, of a format that is known, with all its parts."""
    check_size(file, 0, LARGEST_SETTINGS)
    try:
        content = json.loads(file.read_bytes().decode())
    except OSError as error:
        raise RunError(f"cannot read {file}: {error.strerror or error}") from error
    except ValueError as error:
        raise RunError(f"{file} is damaged: it is not JSON ({error}); train again") from error
    check_format(file, content.get("format") if isinstance(content, dict) else None)
    parts = {"model", "data", "training", "classes", "encoder", "result"}
    missing = parts - content.keys()
    if missing:
        raise RunError(f"{file} is damaged: it has no {', '.join(sorted(missing))}")
    found: dict[str, Any] = content
    return found


def _checked(file: Path, settings: dict[str, Any]) -> Run:
    """The Run that settings describe, each of them checked; its model is empty."""
    damaged = f"{file} is damaged"
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
        inputs = math.prod(example_shape(description))
        if list(recipe.classes) != classes:
            raise RunError(f"{damaged}: the classes are not those of the encoder")
        if len(recipe.features) != inputs:
            raise RunError(
                f"{damaged}: {len(recipe.features)} columns for a model of {inputs} inputs"
            )
    return Run(
        nn.Sequential(), description, settings["data"], settings["training"], settings["result"],
        recipe, tuple(classes),
    )  # fmt: skip


def _version() -> str:
    from .. import __version__

    return __version__
