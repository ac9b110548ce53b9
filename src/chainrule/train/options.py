"""The settings of a training job: their checks, and defaults that suit the data and the model."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from functools import partial
from typing import Any

from .. import nn, optim
from ..data import Dataset, augment
from ..errors import RunError
from .models import ACTIVATIONS, LARGEST_LAYER, Description, check_description, describe_mlp
from .sources import flat_size, image_shape

LOSSES: dict[str, Callable[..., Any]] = {
    "softmax": nn.softmax_cross_entropy,
    "hinge": nn.hinge,
    "squared": nn.mean_squared_error,
}
OPTIMIZERS: dict[str, Any] = {
    "sgd": optim.SGD,
    "momentum": optim.Momentum,
    "nesterov": optim.Nesterov,
    "adagrad": optim.AdaGrad,
    "rmsprop": optim.RMSProp,
    "adam": optim.Adam,
    "adamw": optim.AdamW,
}
SCHEDULES: dict[str, Callable[[], Any]] = {
    "constant": optim.constant,
    "linear": optim.linear,
    "cosine": optim.cosine,
    "step": optim.step,
    "warmup": partial(optim.warmup, 0.05, then=optim.cosine()),
    "plateau": partial(optim.Plateau, factor=0.3, patience=3),
}
AUGMENTS = ("shift", "crop", "flip", "noise")
MODELS = ("mlp", "linear", "cnn", "lstm")
MANY = 20_000
"""From so many examples on, fewer epochs of larger batches are enough."""


@dataclass(frozen=True)
class Options:
    """The settings of a training job; run.json keeps them all. None takes what suits the job."""

    model: str | None = None
    hidden: tuple[int, ...] | None = None
    channels: tuple[int, ...] | None = None
    layers: int | None = None
    embedding: int | None = None
    dropout: float | None = None
    activation: str = "relu"
    loss: str = "auto"
    optimizer: str = "adam"
    rate: float | None = None
    schedule: str = "cosine"
    penalty: float = 0.0
    batch: int | None = None
    accumulate: int = 1
    epochs: int | None = None
    patience: int | None = None
    clip: float | None = None
    average: float | None = None
    augment: tuple[str, ...] = ()
    seed: int = 0
    compiled: bool = True

    def for_data(self, data: Dataset) -> Options:
        """The options with all that was left open chosen for the data; what does not fit refused.

        `data` is the training part.
        """
        task = data.task
        pictures = data.inputs.ndim == 4
        model = self.model or ("lstm" if task == "language" else "cnn" if pictures else "mlp")
        _among("model", model, MODELS)
        if (model == "lstm") != (task == "language"):
            fits = "lstm" if task == "language" else "mlp, linear or cnn"
            raise RunError(f"model {model!r} does not fit this data ({task}): use {fits}")
        _among("activation", self.activation, ACTIVATIONS)
        _among("optimizer", self.optimizer, OPTIMIZERS)
        _among("schedule", self.schedule, SCHEDULES)
        loss = self.loss
        if loss == "auto":
            loss = "squared" if task == "regression" else "softmax"
        _among("loss", loss, LOSSES)
        if (loss == "squared") != (task == "regression"):
            fits = "squared" if task == "regression" else "softmax or hinge"
            raise RunError(f"loss {loss!r} does not fit a {task}: use {fits}")
        chosen = defaults(model, len(data))
        left = {n: v for n, v in chosen.items() if getattr(self, n) is None}
        for name in ("hidden", "channels", "layers", "embedding", "dropout"):
            if getattr(self, name) and not chosen.get(name):
                raise RunError(f"{name} is no option of the model {model!r}")
        full = replace(self, model=model, loss=loss, **left)
        full._check_numbers()
        for name in full.augment:
            if task == "language" or task == "regression":
                raise RunError(f"augment {name!r} is for pictures, not for a {task}")
            make_augment((name,), data)
        return full

    def _check_numbers(self) -> None:
        for name, low in LEAST.items():
            value = getattr(self, name)
            above = name in ("rate", "clip")
            if value is None:
                continue
            if not low <= value < math.inf or (above and value == 0):
                least = "above" if above else "at least"
                finite = " and finite" if isinstance(value, float) else ""
                raise RunError(f"{name} must be {least} {low:g}{finite}, received {value}")
        for name in ("average", "dropout"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise RunError(f"{name} must be from 0 to below 1, received {value}")
        for name in ("hidden", "channels"):
            sizes = getattr(self, name) or ()
            if not all(1 <= n <= LARGEST_LAYER for n in sizes):
                raise RunError(
                    f"{name} sizes must be from 1 to {LARGEST_LAYER:,}, received "
                    f"{', '.join(map(str, sizes))}"
                )
        if self.model == "lstm" and len(self.hidden or ()) != 1:
            raise RunError(f"an lstm has one hidden size, received {self.hidden}; see layers")

    def describe(self, data: Dataset) -> Description:
        """The description of the model for the data, of options that `for_data` gave."""
        several = data.task == "regression" and data.targets.ndim > 1
        outputs = len(data.classes) if data.classes else data.targets.shape[1] if several else 1
        hidden = list(self.hidden or ())
        if self.model == "lstm":
            found: Description = {
                "kind": "lstm", "outputs": outputs, "embedding": self.embedding,
                "hidden": hidden[0], "layers": self.layers, "dropout": self.dropout,
            }  # fmt: skip
        elif self.model == "cnn":
            found = {
                "kind": "cnn", "image": list(image_shape(data)),
                "channels": list(self.channels or ()), "hidden": hidden, "outputs": outputs,
                "activation": self.activation,
            }  # fmt: skip
        else:
            found = describe_mlp(flat_size(data), hidden, outputs, self.activation)
        check_description(found)
        return found


LEAST = {
    "rate": 0.0, "batch": 1, "penalty": 0.0, "epochs": 0, "seed": 0, "patience": 1,
    "accumulate": 1, "clip": 0.0, "layers": 1, "embedding": 1,
}  # fmt: skip


def defaults(model: str, examples: int) -> dict[str, Any]:
    """What is chosen for a model and so many examples where the options leave it open."""
    many = examples >= MANY
    found: dict[str, Any] = {"batch": 128 if many else 32}
    if model == "lstm":
        return {
            "batch": 32, "hidden": (256,), "layers": 2, "embedding": 64, "dropout": 0.4,
            "rate": 4e-3, "epochs": 15, "clip": 1.0,
        }  # fmt: skip
    if model == "cnn":
        epochs = 5 if many else 20
        return {**found, "hidden": (128,), "channels": (16, 32), "rate": 2e-3, "epochs": epochs}
    epochs = 10 if many else 60
    if model == "linear":
        return {**found, "hidden": (), "rate": 2e-3, "epochs": epochs}
    return {**found, "hidden": (512,), "rate": 1e-3 if many else 2e-3, "epochs": epochs}


def make_augment(names: tuple[str, ...], data: Dataset) -> Any:
    """The augmentation of names such as "shift" or "shift:3", one after the other; None of ()."""
    found = []
    for text in names:
        name, _, given = text.partition(":")
        _among("augment", name, AUGMENTS)
        height, width, depth = image_shape(data)
        shape = None if data.inputs.ndim == 4 else (height, width, depth)
        if name == "flip" and not given:
            found.append(augment.flip(shape=shape))
            continue
        pixels = 0
        try:
            if name == "noise":
                found.append(augment.noise(float(given or 0.05)))
            else:
                move = {"shift": augment.shift, "crop": augment.crop}[name]
                pixels = int(given or max(1, min(height, width) // 14))
                found.append(move(pixels, shape=shape))
        except (ValueError, KeyError):
            raise RunError(
                f"augment takes shift, crop, flip and noise, with a number of pixels or a "
                f"deviation as in shift:2 or noise:0.1; received {text!r}"
            ) from None
        if pixels >= min(height, width):
            raise RunError(f"augment {text!r}: the pictures are only {height}×{width}")
    return augment.compose(*found) if found else None


def _among(what: str, name: str, known: Any) -> None:
    if name not in known:
        raise RunError(f"unknown {what} {name!r}; one of {', '.join(known)}")


# -- options from files -------------------------------------------------------------------------


def from_plain(settings: dict[str, Any], where: str) -> Options:
    """The Options in plain data, of a file named `where`; RunError for other names and types."""
    return Options(**checked(settings, typing.get_type_hints(Options), where))


def checked(settings: dict[str, Any], kinds: dict[str, Any], where: str) -> dict[str, Any]:
    """Settings with tuples for lists; RunError unless all names are known and types are right.

    `kinds` maps names to types, such as `tuple[int, ...] | None`.
    """
    found = {}
    for name, value in settings.items():
        if name not in kinds:
            near = get_close_matches(name.lower().replace("-", "_"), kinds, 1, 0.5)
            nearest = f"; nearest: {near[0]!r}" if near else f"; there are {', '.join(kinds)}"
            raise RunError(f"{where}: unknown option {name!r:.60}{nearest}")
        wanted = kinds[name]
        if isinstance(value, list):
            value = tuple(value)
        elif _fits((value,), wanted):  # one entry of a list, as on the command line
            value = (value,)
        if type(value) is int and not _fits(value, wanted) and _fits(0.0, wanted):
            value = float(value)
        if not _fits(value, wanted):
            raise RunError(f"{where}: {name} must be {_words(wanted)}, received {value!r:.60}")
        found[name] = value
    return found


def _fits(value: Any, wanted: Any) -> bool:
    origin, inside = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, each) for each in inside)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, inside[0]) for item in value)
    return type(value) is wanted


def _words(wanted: Any) -> str:
    """A type in words."""
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    inside = typing.get_args(wanted)
    if typing.get_origin(wanted) is tuple:
        return f"a list of {names[inside[0]].split(' ', 1)[1]}s"
    if inside:
        return " or ".join(_words(each) for each in inside if each is not type(None))
    return names.get(wanted, str(wanted))


def plain(options: Options) -> dict[str, Any]:
    """The options as plain data, for run.json."""
    return asdict(options)
