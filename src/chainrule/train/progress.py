"""Progress of training: a bar in a terminal, a few lines elsewhere, or nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

from .metrics import Epoch

T = TypeVar("T")
BESIDE = 38
"""Columns that the rest of the bar takes, but for the numbers of the epochs."""


class Progress(Protocol):
    """What a training loop tells while it runs."""

    def start(self, epochs: int, examples: int, done: int) -> None:
        """Training of so many epochs of so many examples begins; `done` of all are behind it."""

    def step(self, examples: int) -> None:
        """An update from so many examples is done."""

    def epoch(self, row: Epoch, better: bool) -> None:
        """An epoch is done; `better` says whether it is the best so far."""

    def stop(self) -> None:
        """Training is over, also after an error."""


class Silent:
    """No progress."""

    def start(self, epochs: int, examples: int, done: int) -> None:
        """Nothing."""

    def step(self, examples: int) -> None:
        """Nothing."""

    def epoch(self, row: Epoch, better: bool) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""


class Reporter:
    """A bar with loss, score, examples a second and time left; a few plain lines elsewhere.

    The score is shown as accuracy in percent, or as R² with `accuracy=False`.
    """

    def __init__(self, console: Any = None, *, accuracy: bool = True) -> None:
        from rich.console import Console

        self.console = console or Console()
        self.accuracy = accuracy
        self.bar: Any = None
        self.epochs = 0

    def start(self, epochs: int, examples: int, done: int) -> None:
        """Show the bar, if there is a terminal to show it in."""
        self.epochs = epochs
        if not self.console.is_terminal:
            return
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self.bar = Bar(
            TextColumn("{task.fields[number]}/" + str(epochs)),
            BarColumn(bar_width=10),
            TextColumn("{task.description}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=self.console,
        )
        self.bar.start()
        number = done // examples
        total = epochs * examples
        self.task = self.bar.add_task("", total=total, completed=done, number=number, rate="")

    def step(self, examples: int) -> None:
        """Move the bar."""
        if self.bar is not None:
            speed = self.bar.tasks[0].speed
            rate = f"{speed:,.0f}/s" if speed else ""
            self.bar.update(self.task, advance=examples, rate=rate)

    def epoch(self, row: Epoch, better: bool) -> None:
        """Show the measures beside the bar, or print them every tenth of the way."""
        if self.bar is not None:
            width = self.console.width - 2 * len(str(self.epochs)) - BESIDE
            shown = short(row, self.accuracy, width)
            self.bar.update(self.task, description=shown, number=row.epoch)
        elif row.epoch % max(1, self.epochs // 10) == 0 or row.epoch == self.epochs:
            wide = len(str(self.epochs))
            text = f"epoch {row.epoch:>{wide}}/{self.epochs}  {line(row, self.accuracy)}"
            self.console.print(text, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Take the bar down."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def tracked(items: Sequence[T], title: str) -> Iterable[T]:
    """The items, with a bar and the time left while they are gone through, in a terminal only."""
    from rich.console import Console
    from rich.progress import track

    console = Console()
    return track(items, title, console=console, transient=True, disable=not console.is_terminal)


def line(row: Epoch, accuracy: bool = True) -> str:
    """The measures of an epoch in a line.

    >>> line(Epoch(1, 0.5, 0.875, 0.75, 0.8, 0.01, 1.0))
    'loss 0.5000  accuracy 87.5 %  validation loss 0.7500  accuracy 80.0 %  rate 0.01'
    """
    parts = [f"loss {_number(row.loss)}", _score(row.score, accuracy)]
    if not math.isnan(row.validation_score):
        parts.append(f"validation loss {_number(row.validation_loss)}")
        parts.append(_score(row.validation_score, accuracy))
    parts.append(f"rate {row.rate:.2g}")
    return "  ".join(parts)


def short(row: Epoch, accuracy: bool = True, width: float = math.inf) -> str:
    """The measures of an epoch beside a bar: those of the training and / the validation data.

    Where they are wider than `width`, the losses go first, then the rate, then the scores.

    >>> short(Epoch(1, 0.5, 0.875, 0.75, 0.8, 0.01, 1.0))
    'loss 0.5000/0.7500 accuracy 87.5/80.0 % rate 0.01'
    """
    losses, scores = [row.loss], [row.score]
    if not math.isnan(row.validation_score):
        losses.append(row.validation_loss)
        scores.append(row.validation_score)
    loss = "/".join(map(_number, losses))
    score = "/".join(f"{100 * s:.1f}" if accuracy else _number(s) for s in scores)
    name = f"accuracy {score} %" if accuracy else f"R² {score}"
    rate = f"rate {row.rate:.2g}"
    texts = (f"loss {loss} {name} {rate}", f"{name} {rate}", name, "")
    return next(text for text in texts if len(text) <= max(width, 0))


def _score(score: float, accuracy: bool) -> str:
    return f"accuracy {100 * score:.1f} %" if accuracy else f"R² {_number(score)}"


def _number(value: float) -> str:
    """Four digits after the point; the huge numbers of a run that diverges in short."""
    return f"{value:.4f}" if not abs(value) >= 1e5 else f"{value:.3g}"
