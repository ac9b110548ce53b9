"""Run folders: `model.safetensors`, `run.json`, `metrics.csv`.

Written atomically. Nothing read from one is executed or trusted: every field is checked, and the
weights must have the names, shapes and dtypes of the model that run.json describes.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import nn
from ..data import Encoder
from ..errors import DataError, RunError
from .files import write_bytes, write_text
from .models import build

FORMAT = 1
WEIGHTS, SETTINGS, METRICS = "model.safetensors", "run.json", "metrics.csv"
LARGEST_SETTINGS = 64 * 2**20


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

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the folder; each file appears whole or not at all, the weights first."""
        from safetensors.numpy import save

        path = Path(folder)
        weights = {name: np.ascontiguousarray(p.numpy()) for name, p in self.model.named_parameters()}
        write_bytes(path / WEIGHTS, save(weights, metadata={"format": "chainrule"}))
        settings = {
            "format": FORMAT,
            "chainrule": _version(),
            "numpy": np.__version__,
            "model": self.description,
            "data": self.data,
            "training": self.training,
            "classes": list(self.classes),
            "encoder": None if self.encoder is None else json.loads(self.encoder.to_json()),
            "result": self.result,
        }
        write_text(path / SETTINGS, json.dumps(_plain(settings), indent=1) + "\n")
        return path


def load_run(folder: str | os.PathLike[str]) -> Run:
    """The Run that a folder holds; RunError says what is missing or damaged."""
    path = Path(folder)
    settings = _settings(path)
    try:
        encoder = settings["encoder"]
        recipe = None if encoder is None else Encoder.from_json(json.dumps(encoder))
    except DataError as error:
        raise RunError(f"{path / SETTINGS} is damaged: {error}") from error
    classes = settings["classes"]
    if not isinstance(classes, list) or not all(isinstance(c, str) for c in classes):
        raise RunError(f"{path / SETTINGS} is damaged: classes are not a list of names")
    for name in ("data", "training", "result"):
        if not isinstance(settings[name], dict):
            raise RunError(f"{path / SETTINGS} is damaged: {name} is not an object")
    model = build(settings["model"])
    _load_weights(model, path / WEIGHTS)
    return Run(
        model, settings["model"], settings["data"], settings["training"], settings["result"],
        recipe, tuple(classes),
    )  # fmt: skip


def _settings(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise RunError(f"no run folder at {path}: give the folder that `chainrule train` wrote")
    file = path / SETTINGS
    try:
        if file.stat().st_size > LARGEST_SETTINGS:
            raise RunError(f"{file} is damaged: it is larger than {LARGEST_SETTINGS} bytes")
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path} is no run folder: it has no {SETTINGS}") from None
    except OSError as error:
        raise RunError(f"cannot read {file}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"{file} is damaged: {error}; train again") from error
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise RunError(f"{file} is damaged: it has no format number")
    if content["format"] > FORMAT:
        raise RunError(
            f"{file} has format {content['format']}, this version reads up to {FORMAT}: "
            "update chainrule"
        )
    missing = {"model", "data", "training", "classes", "encoder", "result"} - content.keys()
    if missing:
        raise RunError(f"{file} is damaged: it has no {', '.join(sorted(missing))}")
    return content


def _load_weights(model: nn.Module, file: Path) -> None:
    """Assign the weights of a file to the model; names, shapes and dtypes must be the model's."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        weights = load(file.read_bytes())
    except FileNotFoundError:
        raise RunError(f"{file.parent} has no {file.name}: the run is incomplete") from None
    except OSError as error:
        raise RunError(f"cannot read {file}: {error.strerror}") from error
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
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
                f"{file}: {name} is {w.dtype}{list(w.shape)}, the model has {parameter.type}"
            )
        if not np.isfinite(w).all():
            raise RunError(f"{file}: {name} holds NaN or infinity")
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
