"""Where the data of a run comes from: kept in run.json, loaded anew to repeat or resume the run."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data import (
    Dataset,
    Encoder,
    digits,
    fashion_mnist,
    image_folder,
    mnist,
    npz_dataset,
    split,
    split_csv,
    split_dataset,
    text_data,
)
from ..errors import DataError, RunError

Source = dict[str, Any]
FRACTIONS = (0.6, 0.2, 0.2)
HELD_OUT = 5000
"""Of the 60,000 pictures to train on, how many choose the best epoch instead."""
NAMED = ("digits", "fashion-mnist", "mnist")
LOCATIONS = ("path", "paths", "folder")
"""The parts of a source that say where the files are, not what is in them,"""
PLACES = (*LOCATIONS, "directory")
"""and the working directory that they are relative to."""


@dataclass(frozen=True)
class Parts:
    """Data in three parts: to learn from, to choose the best epoch by, to test at the end."""

    train: Dataset
    validation: Dataset
    test: Dataset
    encoder: Encoder | None = None

    def fingerprint(self) -> str:
        """sha256 of all three parts."""
        every = (self.train, self.validation, self.test)
        return hashlib.sha256("".join(p.fingerprint() for p in every).encode()).hexdigest()

    def shaped(self, example: Sequence[int]) -> Parts:
        """The same with inputs of this shape for each example; () leaves them as they are."""
        if not example:
            return self
        shape = tuple(example)
        train, validation, test = self.train, self.validation, self.test
        return Parts(
            _shaped(train, shape), _shaped(validation, shape), _shaped(test, shape), self.encoder
        )  # fmt: skip


def _shaped(data: Dataset, example: tuple[int, ...]) -> Dataset:
    if data.inputs.shape[1:] == example:
        return data
    return replace(data, inputs=data.inputs.reshape(len(data), *example), features=())


def load(source: Source) -> Parts:
    """The data that a source describes; RunError for one that this version does not know."""
    kind = source.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise RunError(f"unknown kind of data: {kind!r:.40}; one of {', '.join(KINDS)}")
    try:
        return KINDS[kind](_found(source))
    except (KeyError, TypeError, AttributeError) as error:  # only a file that was changed by hand
        raise RunError(f"the run's data cannot be loaded: {source!r:.200} ({error})") from error


def placed(source: Source) -> Source:
    """The source with the working directory, where it names files relative to it."""
    relative = [p for p in _paths(source) if not os.path.isabs(p)]
    rest = {n: v for n, v in source.items() if n != "directory"}
    return rest | {"directory": os.getcwd()} if relative else rest


def load_again(data: Source) -> Parts:
    """The data that a run was trained on; a DataError or RunError with what to do, if it is gone.

    `data` is the source with the fingerprint, as run.json has it.
    """
    try:
        parts = load(data)
    except DataError as error:
        place = {"text": "text NEW/PLACE", "mnist": "--folder NEW/PLACE"}
        place["fashion-mnist"] = place["mnist"]
        new = place.get(data["kind"], "NEW/PLACE")
        raise DataError(f"{error}; if it has moved: chainrule train {new} --resume RUN") from None
    if parts.fingerprint() != data.get("fingerprint"):
        raise RunError(
            f"the data is not what the run was trained on (its fingerprint differs): "
            f"{data!r:.200}; put the old data back, train anew, or name other data to measure on"
        )
    return parts


def _paths(source: Source) -> list[str]:
    """The files and folders that a source names."""
    found = [source.get("path"), source.get("folder"), *(source.get("paths") or ())]
    return [p for p in found if isinstance(p, str)]


def _found(source: Source) -> Source:
    """The source with its files where they are: from here, or from where the run was trained."""

    def place(path: Any) -> Any:
        if not isinstance(path, str) or os.path.exists(path):
            return path
        there = os.path.join(source["directory"], path)
        return there if os.path.exists(there) else path

    if not isinstance(source.get("directory"), str):
        return source
    places = {n: source[n] for n in LOCATIONS if source.get(n)}
    return source | {
        n: [place(p) for p in v] if isinstance(v, list) else place(v) for n, v in places.items()
    }


def _digits(source: Source) -> Parts:
    return Parts(*split_dataset(digits(), source["split"], seed=source["seed"]))


def _table(source: Source) -> Parts:
    encoder, parts = split_csv(
        source["path"], source["target"], source["split"], seed=source["seed"],
        task=source["task"], ignore=tuple(source["ignore"]),
    )  # fmt: skip
    return Parts(*parts, encoder)


def _pictures(read: Callable[..., tuple[Dataset, Dataset]]) -> Callable[[Source], Parts]:
    """Data with a test set of its own: the others are split in two."""

    def load(source: Source) -> Parts:
        every, test = read(source.get("folder"))
        share = min(source["validation"] / len(every), 0.5)
        chosen = split(every.targets, (1 - share, share, 0.0), seed=source["seed"])
        return Parts(every.take(chosen.train), every.take(chosen.validation), test)

    return load


def _npz(source: Source) -> Parts:
    data = npz_dataset(source["path"])
    return Parts(*split_dataset(data, source["split"], seed=source["seed"]))


def _images(source: Source) -> Parts:
    size = source["size"]
    data = image_folder(source["path"], tuple(size) if size else None, source["gray"])
    return Parts(*split_dataset(data, source["split"], seed=source["seed"]))


def _text(source: Source) -> Parts:
    data = text_data(source["paths"], source["level"], source["split"], source["length"])
    return Parts(data.train, data.validation, data.test)


KINDS: dict[str, Callable[[Source], Parts]] = {
    "digits": _digits,
    "fashion-mnist": _pictures(lambda folder: fashion_mnist(folder)),
    "images": _images,
    "mnist": _pictures(lambda folder: mnist(folder)),
    "npz": _npz,
    "table": _table,
    "text": _text,
}
"""How the data of each kind of source is loaded."""


def describe(data: str, seed: int, **about: Any) -> Source:
    """The source that a name, a file or a folder stands for; RunError says what is missing.

    `about` are `OPTIONS` of the kind of data that this turns out to be; others are refused.
    """
    kind = _kind_of(data, about)
    for name, value in about.items():
        if name not in OPTIONS[kind]:
            takes = [k for k, names in OPTIONS.items() if name in names]
            raise RunError(f"{name} {value!r:.60} is for {' and '.join(takes)}, not for {kind}")
    if kind == "table" and about.get("task") not in (None, "classification", "regression"):
        raise RunError(f"task is classification or regression, received {about['task']!r}")
    if kind == "table" and about["target"] in about.get("ignore", ()):
        raise RunError(f"{about['target']!r} is the column to predict: it cannot be ignored, too")
    if kind == "images" and len(about.get("size") or (1, 1)) != 2:
        raise RunError(f"size is height,width, received {about['size']}")
    found: Source = {"kind": kind, **OPTIONS[kind], **about}
    if kind == "text":
        found["paths"] = [os.fspath(f) for f in found.pop("files")]
        return placed({**found, "split": [0.9, 0.05, 0.05]})
    if kind in ("fashion-mnist", "mnist"):
        return placed({**found, "validation": HELD_OUT, "seed": seed})
    path = {} if kind == "digits" else {"path": data}
    return placed({**_plain(found), **path, "split": list(FRACTIONS), "seed": seed})


OPTIONS: dict[str, Source] = {
    "digits": {},
    "fashion-mnist": {"folder": None},
    "images": {"size": None, "gray": False},
    "mnist": {"folder": None},
    "npz": {},
    "table": {"target": None, "task": None, "ignore": ()},
    "text": {"files": (), "level": "character", "length": 64},
}
"""What can be said of each kind of data, with the defaults."""


def _kind_of(data: str, about: Source) -> str:
    path = Path(data)
    if data in NAMED:
        return data
    if data == "text":
        if not about.get("files"):
            raise RunError("name the text: chainrule train text FILE")
        return data
    if path.is_dir():
        return "images"
    if path.suffix == ".npz":
        return "npz"
    if path.suffix == ".npy":
        raise RunError(
            f"{data} is one array: put inputs and targets into one file with "
            "numpy.savez('data.npz', x=inputs, y=targets), then: chainrule train data.npz"
        )
    if path.is_file() and path.suffix in (".txt", ".md") and about.get("target") is None:
        raise RunError(f"for a model of a text: chainrule train text {data}")
    if about.get("target") is None:
        raise RunError(
            f"name the column to predict: chainrule train {data} --target COLUMN (or, for a "
            f"model of a text: chainrule train text {data})"
            if path.exists()
            else f"no data named {data!r}: use digits, fashion-mnist, mnist, text FILE, a folder "
            "of pictures, an .npz file, or a table (.csv, .parquet) with --target COLUMN"
        )
    return "table"


def _plain(source: Source) -> Source:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in source.items()}


def name_of(source: Source) -> str:
    """What a run on this data is called."""
    if source["kind"] == "text":
        return Path(source["paths"][0]).stem
    return Path(source["path"]).stem if "path" in source else str(source["kind"])


def image_shape(data: Dataset) -> tuple[int, int, int]:
    """(height, width, channels) of the pictures of a Dataset; RunError if they are none."""
    shape = data.inputs.shape[1:] if data.inputs.ndim == 4 else data.image_shape or ()
    if len(shape) == 2:
        shape = (*shape, 1)
    if len(shape) != 3 or data.task == "language":
        raise RunError(
            f"{data.name} are no pictures (examples of shape {data.inputs.shape[1:]}), which a cnn "
            "and augment take: use the model mlp or linear, and no augment"
        )
    height, width, channels = shape
    return height, width, channels


def flat_size(data: Dataset) -> int:
    """The numbers in one example."""
    return int(np.prod(data.inputs.shape[1:]))
