"""Checkpoints: all that a training needs to go on as if it had never stopped, in one file."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..files import AnyPath, write_files
from .metrics import Epoch
from .sealed import Arrays, seal, unseal

FORMAT = 2
"""Of checkpoints and of run folders; what a later version writes is refused."""
LARGEST = 1 << 36
"""Bytes that a checkpoint may have where nothing is known of its model: 64 GiB."""


@dataclass
class State:
    """How far a training is: sums over the epoch that is under way, and what came before it.

    Whole numbers and Python floats only, so that JSON keeps each bit.
    """

    epoch: int = 1
    """The epoch under way, from 1; one past the last when training is done."""
    batches: int = 0
    """Batches of it that are done."""
    updates: int = 0
    loss: float = 0.0
    score: float = 0.0
    seen: int = 0
    epoch_seconds: float = 0.0
    seconds: float = 0.0
    best: int = 0
    best_loss: float = math.inf
    waiting: int = 0
    stopped: str = ""
    """Why training ended; "" while it may go on."""
    rows: list[Epoch] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The arrays of a training, its settings and its state; `run` says which run it is of.

    `arrays` are named "model.…", "optimizer.…", and, where there are such, "best.…" (the weights
    of the best epoch) and "average.…".
    """

    arrays: Arrays
    settings: dict[str, Any]
    state: State
    run: str = ""

    def part(self, name: str) -> Arrays:
        """The arrays under a name, such as "model"."""
        start = f"{name}."
        return {k.removeprefix(start): v for k, v in self.arrays.items() if k.startswith(start)}

    def weights(self) -> Arrays:
        """The best weights so far, those of the model where no better ones were kept."""
        return self.part("best") or self.part("model")

    def save(self, path: AnyPath) -> None:
        """Write the file, whole or not at all; what was there before stays until it is whole."""
        write_files({Path(path): self.content()})

    def content(self) -> bytes:
        """The content of the file."""
        about = {
            "kind": "checkpoint", "format": FORMAT, "run": self.run, "settings": self.settings,
            "state": asdict(self.state),
        }  # fmt: skip
        return seal(self.arrays, about)


def load_checkpoint(path: AnyPath, *, least: int = 0, most: int = LARGEST) -> Checkpoint:
    """The Checkpoint in a file of `least` to `most` bytes; RunError says what is wrong with it.

    Nothing in the file is executed, its checksum must fit, and every number is checked.

    >>> load_checkpoint("no/checkpoint.safetensors")
    Traceback (most recent call last):
    chainrule.errors.RunError: no has no checkpoint.safetensors: it is no complete run
    """
    file = Path(path)
    arrays, about = unseal(file, least, most)
    if about.get("kind") != "checkpoint":
        raise RunError(f"{file} is no checkpoint: it holds {str(about.get('kind'))!r:.40}")
    check_format(file, about.get("format"))
    settings, run = about.get("settings"), about.get("run")
    if not isinstance(settings, dict) or not isinstance(run, str):
        raise RunError(f"{file} is damaged: it has no settings")
    return Checkpoint(arrays, settings, _state(file, about.get("state")), run)


def check_format(file: Path, form: Any) -> None:
    """RunError unless this version reads files of this format."""
    if type(form) is not int or form < 1:
        raise RunError(f"{file} is damaged: it has no format number")
    if form > FORMAT:
        raise RunError(
            f"{file} has format {form}, this version reads up to {FORMAT}: update chainrule"
        )
    if form < FORMAT:
        raise RunError(f"{file} has format {form}, this version reads {FORMAT}: train again")


def _state(file: Path, given: Any) -> State:
    """A State of plain data, each of its numbers checked."""

    def fits(value: Any, like: Any) -> bool:
        kinds = (int, float) if type(like) is float else (type(like),)
        return type(value) in kinds and (type(value) is not int or value >= 0)

    def all_fit(found: Any, like: Any) -> bool:
        names = vars(like) if isinstance(like, State) else asdict(like)
        return isinstance(found, dict) and found.keys() == names.keys() and all(
            fits(found[k], v) for k, v in names.items()
        )  # fmt: skip

    row = Epoch(0, *[0.0] * 6)
    if not all_fit(given, State()) or not all(all_fit(r, row) for r in given["rows"]):
        raise RunError(f"{file} is damaged: its state is not that of a training")
    rows = [Epoch(**r) for r in given["rows"]]
    if [r.epoch for r in rows] != list(range(1, given["epoch"])):
        raise RunError(f"{file} is damaged: epoch {given['epoch']} with {len(rows)} rows before it")
    return State(**{**given, "rows": rows})
