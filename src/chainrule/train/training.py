"""A training under way: what a step and an epoch do, and how it is kept and taken up again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, NoReturn

import numpy as np

from .. import nn, optim
from ..core.context import CONTEXT
from ..data import Dataset, batches
from ..data.batching import batch_indices, pixels
from ..errors import ChainruleError, DataError, GradientError, RunError
from ..explain.nonfinite import first_nonfinite
from ..ops.tensor import Tensor
from ..optim.optimizer import checked_number
from .checkpoint import Checkpoint, State
from .compiling import Compiling, worthwhile
from .measure import Evaluation, Loss, like_targets, score_of, score_sum, takes_training
from .metrics import Epoch
from .sealed import Arrays

ALL_DONE = "all epochs done"
POINT_SECONDS = 5.0
"""An error in a compiled step is explained after no longer than about that."""


@dataclass(frozen=True)
class Settings:
    """The numbers that a training follows; a checkpoint goes on only with the same ones."""

    epochs: int = 20
    batch: int = 32
    penalty: float = 0.0
    seed: int = 0
    patience: int | None = None
    accumulate: int = 1
    clip: float | None = None
    average: float | None = None
    compiled: bool = True

    def __post_init__(self) -> None:
        for name, least in (("epochs", 0), ("batch", 1), ("accumulate", 1)):
            if getattr(self, name) < least:
                raise DataError(f"{name} must be at least {least}, received {getattr(self, name)}")
        if self.patience is not None and self.patience < 1:
            raise DataError(f"patience must be at least 1, received {self.patience}")
        if self.clip is not None and not 0 < self.clip < math.inf:
            raise DataError(f"clip must be above 0 and finite, received {self.clip}")


class Training:
    """Gradient descent on batches, a step at a time; `fit` runs one from start to end.

    What it remembers is the model, the optimizer, the average and the `state`; `checkpoint` gives
    all of it, `restore` takes it up.
    """

    def __init__(
        self, model: Any, train: Dataset, validation: Dataset | None, settings: Settings, *,
        loss: Loss, optimizer: Any,
        schedule: Callable[[float], float] | optim.Plateau | None = None, augment: Any = None,
        ahead: int = 0,
    ) -> None:  # fmt: skip
        self.model, self.train, self.validation = model, train, validation
        self.settings, self.loss, self.optimizer = settings, loss, optimizer
        self.schedule, self.augment, self.ahead = schedule, augment, ahead
        _check_optimizer(model, optimizer)
        self.average = None
        if settings.average is not None:
            self.average = optim.Average(model, settings.average)
        self._mode = {"training": True} if takes_training(model) else {}
        self._moved = list(getattr(optimizer, "parameters", ()))
        sizes: frozenset[int] = frozenset()
        if settings.compiled and isinstance(optimizer, optim.Optimizer):
            sizes = worthwhile(model, len(train), settings.batch, settings.epochs, train.inputs)
        self._part = Compiling(self._make_part(), sizes)
        self._point: tuple[Arrays, State] | None = None
        """What was remembered a moment ago: where a compiled step that fails is found again."""
        self._evaluation: Evaluation | None = None
        if validation is not None:
            self._evaluation = Evaluation(
                model, validation, loss, passes=settings.epochs, compiled=settings.compiled
            )
        self.rate = float(np.asarray(optimizer.lr))
        self.state = State(stopped="" if settings.epochs else ALL_DONE)
        self.best: Arrays | None = None
        self.batches = -(-len(train) // settings.batch)
        """In an epoch."""
        self.updates = settings.epochs * -(-self.batches // settings.accumulate)
        """In the whole training."""
        self._clock = self._noted = time.perf_counter()

    # -- a step -------------------------------------------------------------------------------

    def steps(self) -> Iterator[int]:
        """The rest of the epoch under way, an update at a time; the number of examples of each."""
        size, group = self.settings.batch, self.settings.accumulate
        some = self._batches()
        self._point = None
        while self.state.batches < self.batches:
            self._keep_point()
            first = self.state.batches
            last = min(first + group, self.batches)
            count = min(last * size, len(self.train)) - first * size
            self._update(some, last - first, count)
            yield count

    def _batches(self) -> Iterator[tuple[Any, Any, Any]]:
        """What is left of the epoch: inputs, targets, and which of them a batch is, if not all.

        Compiled code picks the examples itself: a thread that does would take a processor from it.
        """
        state, data = self.state, self.train.epoch(self.settings.seed, self.state.epoch)
        order: dict[str, Any] = {
            "seed": self.settings.seed, "epoch": state.epoch, "start": state.batches
        }  # fmt: skip
        size, arrays = self.settings.batch, (data.inputs, data.targets)
        in_memory = all(type(x) is np.ndarray and x.flags.c_contiguous for x in arrays)
        if self._part.sizes and self.augment is None and in_memory:
            return ((*arrays, part) for part in batch_indices(len(data), size, **order))
        pairs = batches(data, size, **order, ahead=self.ahead, augment=self.augment)
        return ((*pair, None) for pair in pairs)

    def _make_part(self) -> Callable[..., Any]:
        """What is done with a batch (x, y): forward, loss, backward and, with the `last`, update.

        Given are x and y, or those of all examples and the indices of the batch. The objective is
        multiplied by `share`, if there is one. Returned are objective, loss, score, and gradients:
        compiled code leaves none behind. The rate is an argument because a variable that is
        assigned outside of compiled code has it look at all of them again.
        """
        model, loss, settings, mode = self.model, self.loss, self.settings, self._mode

        def part(x: Any, y: Any, indices: Any, share: float | None, rate: float | None,
                 last: bool) -> Any:  # fmt: skip
            if rate is not None:
                self.optimizer.lr = rate
            if indices is not None:
                x, y = pixels(x[indices]), y[indices]
            outputs = model(x, **mode)
            value = objective = loss(like_targets(outputs, y), y)
            if settings.penalty:
                objective = value + settings.penalty * nn.l2_penalty(model)
            if CONTEXT.get().trace is None and not math.isfinite(float(objective)):
                self._not_finite(objective)
            (objective if share is None else objective * share).backward()
            score = score_sum(outputs, y, self.train)
            if not last:
                return objective, value, score, [p.grad for p in self._moved]
            if settings.clip is not None:
                optim.clip_by_norm(model, settings.clip)
            self.optimizer.step()
            if self.average is not None:
                self.average.update()
            return objective, value, score, []

        return part

    def _update(self, some: Iterator[Any], parts: int, count: int) -> None:
        """One update from the mean gradient of `count` examples that come in so many parts."""
        state, rate = self.state, self._scheduled()
        self.optimizer.zero_grad()
        for k in range(parts):
            x, y, indices = next(some)
            size = len(x if indices is None else indices)
            share, last = None if size == count else size / count, k == parts - 1
            objective, value, score, gradients = self._part(size, x, y, indices, share, rate, last)
            if not math.isfinite(float(objective)):
                self._repeat(float(objective))
            for p, gradient in zip(self._moved, gradients, strict=False):
                p.grad = gradient
            state.loss += float(value) * size
            state.score += float(score)
            state.seen += size
        state.batches += parts
        state.updates += 1

    def _scheduled(self) -> float | None:
        """The rate of this update; None if it stays what it is."""
        if self.schedule is None:
            return None
        if isinstance(self.schedule, optim.Plateau):
            factor = self.schedule.current
        else:
            factor = self.schedule(self.state.updates / self.updates)
        rate: float = checked_number("lr", self.rate * factor)
        return rate

    # -- a loss that is not finite ------------------------------------------------------------

    def _keep_point(self) -> None:
        """Note where compiled steps stand, at the start of an epoch and every few seconds."""
        late = time.perf_counter() - self._noted > POINT_SECONDS
        if self._part.sizes and (self._point is None or late):
            self._point = self._remembered()
            self._noted = time.perf_counter()

    def _repeat(self, value: float) -> NoReturn:
        """Raise the error of a compiled update that has changed all variables already.

        The updates since the last point are done again, to the same bits, and then the one that
        failed in eager, which finds the gate.
        """
        assert self._point is not None
        place, failed = self._place(value), self.state.updates
        self._load(*self._point)
        again = self.steps()
        while self.state.updates < failed:
            next(again)
        self._part.sizes = frozenset()
        next(again)
        raise GradientError(f"{place} in compiled code, not in eager; {self._advice()}")

    def _place(self, value: float) -> str:
        step = self.state.updates + 1
        return f"the loss became {value} in epoch {self.state.epoch}, step {step}"

    def _not_finite(self, objective: Tensor) -> NoReturn:
        """Raise the error that names the gate, or the parameter, that an eager loss comes from."""
        found, place = first_nonfinite(objective), self._place(float(objective))
        if found is not None and found.gate == "parameter":
            where = f"parameter {found.name} became non-finite after step {self.state.updates}"
            raise GradientError(f"{place}: {where}; {self._advice()}")
        raise GradientError(f"{place}; the first such value: {found}; {self._advice()}")

    def _advice(self) -> str:
        rate = float(np.asarray(self.optimizer.lr))
        clip = "" if self.settings.clip else ", clip gradients (clip=1.0, --clip 1)"
        return (
            f"try a smaller rate (now {rate:g}){clip}, scale the inputs, and keep 0 out of log "
            "and of divisors"
        )

    # -- an epoch -----------------------------------------------------------------------------

    def end_epoch(self) -> tuple[Epoch, bool]:
        """Measure the epoch that is done and go on to the next; its row, and if it is the best."""
        state, held_out = self.state, self.validation
        self._tick()
        with self.average or nullcontext():
            measured, weights = self._measure()
        self._tick()
        row = Epoch(
            state.epoch, state.loss / state.seen, score_of(state.score, state.seen, self.train),
            *measured, float(np.asarray(self.optimizer.lr)), state.epoch_seconds,
        )  # fmt: skip
        watched = measured[0] if held_out else row.loss
        better = watched < state.best_loss
        if better:
            state.best, state.best_loss, state.waiting, self.best = row.epoch, watched, 0, weights
        else:
            state.waiting += 1
        if isinstance(self.schedule, optim.Plateau):
            self.schedule(watched)
        state.rows.append(row)
        state.epoch += 1
        state.batches = state.seen = 0
        state.loss = state.score = state.epoch_seconds = 0.0
        patience = self.settings.patience
        if state.epoch > self.settings.epochs:
            state.stopped = ALL_DONE
        elif held_out and patience is not None and state.waiting >= patience:
            state.stopped = f"no better validation loss in {patience} epochs"
        return row, better

    def _measure(self) -> tuple[tuple[float, float], Arrays | None]:
        """Loss and score on the validation data, and the weights they are of."""
        if self._evaluation is None:
            return (math.nan, math.nan), None
        return self._evaluation(), self.model.state()

    def finish(self) -> None:
        """Leave the best weights in the model (the last where there is no validation data)."""
        if self.schedule is not None:
            self.optimizer.lr = self.rate
        if self.best is not None:
            self.model.load_state(self.best)
        elif self.average is not None and self.validation is None:
            self.average.copy_to(self.model)

    def _tick(self) -> None:
        """Add the time since the last call to that of the epoch and of the training."""
        now = time.perf_counter()
        self.state.epoch_seconds += now - self._clock
        self.state.seconds += now - self._clock
        self._clock = now

    # -- to be taken up again -----------------------------------------------------------------

    def _parts(self) -> dict[str, Any]:
        """What remembers something, by name; each has `state()` and `load_state`."""
        parts = {"model": self.model, "optimizer": self.optimizer, "average": self.average}
        if isinstance(self.schedule, optim.Plateau):
            parts["schedule"] = self.schedule
        return {name: part for name, part in parts.items() if part is not None}

    @cached_property
    def _kept(self) -> dict[str, Any]:
        """The settings that a checkpoint must share with the training that takes it up."""
        return {
            **asdict(self.settings), "optimizer": type(self.optimizer).__name__,
            "rate": self.rate, "examples": len(self.train), "data": self.train.fingerprint(),
        }  # fmt: skip

    def _remembered(self) -> tuple[Arrays, State]:
        """All arrays, by part and name, and the state: copied."""
        found = {name: part.state() for name, part in self._parts().items()}
        if self.best is not None:
            found["best"] = self.best
        arrays = {f"{p}.{name}": v for p, own in found.items() for name, v in own.items()}
        return arrays, replace(self.state, rows=list(self.state.rows))

    def _load(self, arrays: Arrays, state: State) -> None:
        """Go back to what `_remembered` gave, or a checkpoint holds."""
        checkpoint = Checkpoint(arrays, {}, state)
        for name, part in self._parts().items():
            part.load_state(checkpoint.part(name))
        self.best = checkpoint.part("best") or None
        self.state = replace(state, rows=list(state.rows))
        self._clock = time.perf_counter()

    def checkpoint(self) -> Checkpoint:
        """All of it, copied. GradientError if a parameter is no longer finite."""
        self._tick()
        arrays, state = self._remembered()
        for name, value in Checkpoint(arrays, {}, state).part("model").items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise GradientError(
                    f"parameter {name} became non-finite after step {self.state.updates}; "
                    f"{self._advice()}"
                )
        return Checkpoint(arrays, self._kept, state)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on where a checkpoint was made. RunError, and nothing changed, if it does not fit."""
        for name, own in self._kept.items():
            kept = checkpoint.settings.get(name)
            if kept != own:
                raise RunError(
                    f"the checkpoint is of a training with {name} {kept!r:.70}, this one has "
                    f"{own!r:.70}"
                )
        if checkpoint.state.batches > self.batches:
            raise RunError(
                f"the checkpoint is damaged: {checkpoint.state.batches} batches of an epoch that "
                f"has {self.batches}"
            )
        before = self._remembered()
        try:
            self._load(checkpoint.arrays, checkpoint.state)
        except ChainruleError as error:
            self._load(*before)
            raise RunError(f"the checkpoint does not fit this training: {error}") from error


def _check_optimizer(model: Any, optimizer: Any) -> None:
    """DataError for an optimizer that was made of another model."""
    own = {id(p) for p in model.parameters()} if isinstance(model, nn.Module) else set()
    moved = getattr(optimizer, "parameters", ())
    if own and moved and not any(id(p) in own for p in moved):
        raise DataError(
            "the optimizer has none of the model's parameters: make it of this model, "
            f"{type(optimizer).__name__}(model)"
        )
