"""Whole jobs: data, model, training, test, run folder; the command line is a thin cover."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..data import TextPart
from ..errors import GradientError, RunError, UnsupportedError
from ..files import AnyPath, write_files
from .checkpoint import Checkpoint
from .flow import Flow, both
from .loop import History, fit
from .measure import evaluate
from .metrics import Epoch
from .models import build, example_shape
from .options import LOSSES, OPTIMIZERS, SCHEDULES, Options, from_plain, make_augment, plain
from .run import (
    CHECKPOINT,
    FILES,
    METRICS,
    SETTINGS,
    WEIGHTS,
    Run,
    check_folder,
    load_progress,
    load_settings,
)
from .runs import progress_of, state_of
from .sources import LOCATIONS, Parts, Source, describe, load, load_again, placed
from .text import nats

AHEAD = 2
"""Batches of pictures made ready in a thread."""
SILENT = 600.0
"""Seconds without a checkpoint after which a training on another machine counts as gone."""
Stamp = tuple[int, int]


@dataclass
class Outcome:
    """A finished job: the run, its history, and the measures on the test set (NaN if not taken)."""

    run: Run
    history: History
    test_loss: float
    test_score: float
    folder: Path | None = None
    diagnosis: Any = None
    """What `diagnose` finds at the end; None if training was interrupted."""
    test: Any = None
    """The test part of the data."""

    @property
    def summary(self) -> str:
        """The line that says how good it is."""
        measure = self.run.result.get("measure")
        if measure == "accuracy":
            return f"test accuracy: {100 * self.test_score:.1f} %"
        if measure == "nats":
            bits = self.test_loss / math.log(2)
            return f"test loss: {self.test_loss:.4f} nats, {bits:.4f} bits a character"
        if math.isnan(self.test_score):
            return "test R²: not defined (the test targets are all equal)"
        return f"test R²: {self.test_score:.4f}"


# -- the jobs -----------------------------------------------------------------------------------


def train(
    source: Source, options: Options | None = None, *, out: AnyPath | None = None,
    progress: Any = True, tensorboard: bool = False,
) -> Outcome:  # fmt: skip
    """Train a model on the data of a source (see `sources.describe`), test it, write a run folder.

    An earlier run in the folder is replaced once a step is done. Folders with other things, and
    those in which another process trains, are refused with a RunError.
    """
    folder = None if out is None else check_folder(out)
    seen = None if folder is None else _check_idle(folder)
    parts = load(source)
    options = (options or Options()).for_data(parts.train)
    description = options.describe(parts.train)
    run = Run(
        build(description, options.seed), description,
        {**source, "fingerprint": parts.fingerprint()}, plain(options), {}, parts.encoder,
        parts.train.classes,
    )  # fmt: skip
    return _Job(run, options, parts, folder, seen).go(None, progress, tensorboard)


def resume(
    folder: AnyPath, *, given: Mapping[str, Any] | None = None,
    source: Mapping[str, Any] | None = None, progress: Any = True, tensorboard: bool = False,
) -> Outcome | None:  # fmt: skip
    """Go on with a run that was interrupted or killed, to what it would have become unbroken.

    None if it is finished. `given` are options, and `source` parts of a source, that must be those
    of the run; if one differs it is a RunError with both values. Only files and folders of data
    may have moved, and their new place is noted: other contents are refused.
    """
    path = Path(folder)
    run = load_settings(path)
    where = f"{path / SETTINGS}"
    options = from_plain(run.training, where)
    _same(given or {}, run.training)
    moved = {n: v for n, v in (source or {}).items() if n in LOCATIONS and n in run.data}
    _same({n: v for n, v in (source or {}).items() if n not in moved}, run.data)
    data = placed(run.data | moved) if moved else run.data
    finished = run.result.get("state") == "finished"
    if finished and not moved:
        return None
    seen = _check_idle(path)
    parts = load_again(data)
    run.data = data
    if finished:  # the new place is all there is to note
        write_files({path / SETTINGS: run.settings()})
        return None
    if options.for_data(parts.train).describe(parts.train) != run.description:
        raise RunError(f"{where} is damaged: its model is not the one that its settings make")
    begun = (path / CHECKPOINT).exists()  # else it was killed before the first step
    if not begun and (run.result.get("state") != "running" or progress_of(path)):
        raise RunError(
            f"{path} has no {CHECKPOINT}, without which a run that had begun cannot go on: put the "
            "file back, or train anew"
        )
    checkpoint = load_progress(path, run) if begun else None
    run.model = build(run.description, options.seed)
    return _Job(run, options, parts, path, seen).go(checkpoint, progress, tensorboard)


def _stamp(folder: Path) -> Stamp | None:
    """What another file at the place of run.json would change; None where there is none."""
    try:
        status = os.stat(folder / SETTINGS)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _check_idle(folder: Path) -> Stamp | None:
    """The stamp of a folder; RunError if another process trains in it now.

    On another machine that cannot be asked: there, one that still writes checkpoints.
    """
    seen = _stamp(folder)
    try:
        run = load_settings(folder)
    except RunError:  # there is none, or a damaged one
        return seen
    worker, file = run.result.get("process"), folder / CHECKPOINT
    if state_of(run) != "running" or not isinstance(worker, dict):
        return seen
    if worker.get("host") == platform.node():
        busy = worker.get("pid") != os.getpid()
    else:
        busy = file.exists() and time.time() - file.stat().st_mtime < SILENT
    if busy:
        raise RunError(
            f"a training (process {worker.get('pid')} on {worker.get('host')}) is under way in "
            f"{folder}: wait for it, or give another folder (out=…, --out)"
        )
    return seen


def _same(given: Mapping[str, Any], kept: Mapping[str, Any]) -> None:
    for name, value in given.items():
        value = list(value) if isinstance(value, tuple) else value
        if value != kept.get(name):
            raise RunError(
                f"the run has {name} {kept.get(name)!r:.80}, and {value!r:.80} was given: leave "
                "it out to resume, or train anew with it"
            )


def train_digits(
    options: Options | None = None, *, out: AnyPath | None = None, progress: Any = True
) -> Outcome:
    """Train a classifier of the 1,797 digits: 60 % train, 20 % validation, 20 % test."""
    options = options or Options()
    return train(describe("digits", options.seed), options, out=out, progress=progress)


def train_csv(
    path: AnyPath, target: str, options: Options | None = None, *,
    task: Any = None, ignore: tuple[str, ...] = (), out: AnyPath | None = None,
    progress: Any = True,
) -> Outcome:  # fmt: skip
    """Train on a table: the column `target` from all others; 60 / 20 / 20 % of the rows."""
    options = options or Options()
    source = describe(os.fspath(path), options.seed, target=target, task=task, ignore=ignore)
    return train(source, options, out=out, progress=progress)


@dataclass
class _Job:
    """A run on its way from its first step to its last file."""

    run: Run
    options: Options
    parts: Parts
    folder: Path | None
    seen: Stamp | None
    """The stamp of run.json when this run last wrote it, or began."""
    begun: bool = False
    """Whether the folder is this run's: it has a checkpoint of it."""

    def _replaces(self) -> bool:
        """Whether an earlier run is in the folder: it stays until a step has been taken."""
        return not self.begun and self.folder is not None and (self.folder / SETTINGS).exists()

    def _check_own(self) -> None:
        """RunError if another training, begun at the same time, has the folder now."""
        assert self.folder is not None
        found = _stamp(self.folder)
        if found is not None and found != self.seen:
            raise RunError(
                f"another training has written into {self.folder} since this one began: give each "
                "its own folder (out=…, --out)"
            )

    def go(self, checkpoint: Checkpoint | None, progress: Any, tensorboard: bool) -> Outcome:
        """Train from the checkpoint (or from the start) to the end, and test."""
        options, run = self.options, self.run
        parts = self.parts.shaped(example_shape(run.description))
        loss = LOSSES[options.loss]
        fresh = checkpoint is None
        self.begun = not fresh
        log = _Events(self.folder) if tensorboard else None
        optimizer = OPTIMIZERS[options.optimizer](run.model, lr=options.rate)
        flow = Flow(
            run.model, parts.train, loss, self.folder,
            0 if checkpoint is None else checkpoint.state.epoch - 1,
        )  # fmt: skip
        if fresh:
            flow.start(optimizer)
        try:
            history = fit(
                run.model, parts.train, parts.validation,
                loss=loss, optimizer=optimizer,
                epochs=options.epochs or 0, batch=options.batch or 1, penalty=options.penalty,
                seed=options.seed, patience=options.patience,
                schedule=SCHEDULES[options.schedule](), accumulate=options.accumulate,
                clip=options.clip, average=options.average,
                augment=make_augment(options.augment, parts.train),
                ahead=AHEAD if parts.train.inputs.dtype == np.uint8 else 0,
                compiled=options.compiled, progress=progress, after_epoch=both(log, flow),
                resume=checkpoint,
                checkpoint=None if self.folder is None else self._keeper(fresh),
                metrics=None if self.folder is None else self.folder / METRICS,
            )  # fmt: skip
        except GradientError as error:
            self._settle({"state": "failed", "stopped": str(error)})
            if self.begun:
                flow.keep()
            raise
        finally:
            if log is not None:
                log.close()
        test = (math.nan, math.nan)
        self._settle({"state": "interrupted", **_about(history)})
        found = None
        if not history.interrupted:
            found = flow.end()
            if isinstance(parts.test, TextPart):
                test = nats(run.model, parts.test.tokens)
            else:
                test = evaluate(run.model, parts.test, loss, compiled=options.compiled)
            result = {
                "state": "finished", **_about(history), "test_loss": test[0],
                "test_score": test[1], "test_examples": len(parts.test),
                "measure": MEASURES[parts.train.task],
            }  # fmt: skip
            self._settle(result)
        return Outcome(run, history, *test, self.folder, found, self.parts.test)

    def _keeper(self, fresh: bool) -> Callable[[Checkpoint], bool]:
        """What takes the checkpoints; run.json is written with the first of them."""
        folder, identity = self.folder, self.run.identity
        assert folder is not None
        first = True

        def keep(checkpoint: Checkpoint) -> bool:
            nonlocal first
            if not checkpoint.state.updates and self._replaces():
                return False
            self._check_own()
            content = replace(checkpoint, run=identity).content()
            if not first:
                write_files({folder / CHECKPOINT: content})
                return True
            self.run.result = {"state": "running", "process": process()}
            write_files({folder / SETTINGS: self.run.settings(), folder / CHECKPOINT: content})
            self.seen = _stamp(folder)
            _clean(folder, fresh)
            self.begun, first = True, False
            return True

        return keep

    def _settle(self, result: dict[str, Any]) -> None:
        """Write how it ended. The checkpoint stays as long as there is something to go on with."""
        self.run.result = result
        if self.folder is None or (result["state"] != "finished" and self._replaces()):
            return
        self._check_own()
        if result["state"] == "finished":
            write_files({self.folder / WEIGHTS: self.run.weights()})
        write_files({self.folder / SETTINGS: self.run.settings()})
        self.seen = _stamp(self.folder)
        if result["state"] == "finished":
            (self.folder / CHECKPOINT).unlink(missing_ok=True)


def _clean(folder: Path, fresh: bool) -> None:
    """Remove what an earlier run left, now that this one can be loaded, and half-written files."""
    for name in FILES:
        for half in folder.glob(f".{name}.*"):  # of a process that was killed
            half.unlink(missing_ok=True)
        if fresh and name not in (SETTINGS, CHECKPOINT):
            (folder / name).unlink(missing_ok=True)


MEASURES = {"classification": "accuracy", "regression": "R²", "language": "nats"}
"""What the test score is called, by task."""


def _about(history: History) -> dict[str, Any]:
    best = history.epochs[history.best - 1] if history.best else None
    return {
        "epochs": len(history), "best_epoch": history.best, "stopped": history.stopped,
        "seconds": round(history.seconds, 3),
        "validation_loss": best and best.validation_loss,
        "validation_score": best and best.validation_score,
    }  # fmt: skip


def process() -> dict[str, Any]:
    """Which process works on a run: its machine, its number, and when it was begun."""
    return {"host": platform.node(), "pid": os.getpid(), "since": int(time.time())}


class _Events:
    """Called with each epoch: writes it into one of TensorBoard's event files in the run folder."""

    def __init__(self, folder: Path | None) -> None:
        if folder is None:
            raise RunError("event files for TensorBoard go into the run folder: give one (out=…)")
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise UnsupportedError(
                "event files are written by tensorboardX, which is not installed: "
                "pip install 'chainrule[tensorboard]'"
            ) from error
        # Files are named by the second: with the process, one resumed at once has its own.
        self._open = partial(SummaryWriter, str(folder), filename_suffix=f".{os.getpid()}")
        self._writer: Any = None

    def __call__(self, row: Epoch, better: bool) -> None:
        """Write a row; the file is made with the first, when the folder is this run's."""
        self._writer = self._writer or self._open()
        for name in ("loss", "score"):
            self._writer.add_scalar(f"train/{name}", getattr(row, name), row.epoch)
            value = getattr(row, f"validation_{name}")
            self._writer.add_scalar(f"validation/{name}", value, row.epoch)
        self._writer.add_scalar("train/rate", row.rate, row.epoch)
        self._writer.flush()

    def close(self) -> None:
        """No more rows."""
        if self._writer is not None:
            self._writer.close()
