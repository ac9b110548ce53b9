"""Progress of training: a bar in a terminal, a few lines elsewhere, or nothing."""

from __future__ import annotations

import math
from typing import Any, Protocol

from .metrics import Epoch


class Progress(Protocol):
    """What a training loop tells while it runs."""

    def start(self, epochs: int) -> None:
        """Training of so many epochs begins."""

    def epoch(self, row: Epoch, better: bool) -> None:
        """An epoch is done; `better` says whether it is the best so far."""

    def stop(self) -> None:
        """Training is over, also after an error."""


class Silent:
    """No progress."""

    def start(self, epochs: int) -> None:
        """Nothing."""

    def epoch(self, row: Epoch, better: bool) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""


class Reporter:
    """A bar with loss, score, rate and time left; about ten plain lines where there is no terminal."""

    def __init__(self, console: Any = None) -> None:
        from rich.console import Console

        self.console = console or Console()
        self.bar: Any = None
        self.epochs = 0

    def start(self, epochs: int) -> None:
        """Show the bar, if there is a terminal to show it in."""
        self.epochs = epochs
        if not self.console.is_terminal:
            return
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bar

        self.bar = Bar(
            TextColumn("epoch"),
            MofNCompleteColumn(),
            BarColumn(bar_width=24),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
        )
        self.bar.start()
        self.task = self.bar.add_task("", total=epochs)

    def epoch(self, row: Epoch, better: bool) -> None:
        """Move the bar, or print every tenth of the way."""
        if self.bar is not None:
            self.bar.update(self.task, advance=1, description=line(row))
        elif row.epoch % max(1, self.epochs // 10) == 0 or row.epoch == self.epochs:
            self.console.print(
                f"epoch {row.epoch:>4}/{self.epochs}  {line(row)}", highlight=False, soft_wrap=True
            )

    def stop(self) -> None:
        """Take the bar down."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def line(row: Epoch) -> str:
    """The measures of an epoch in a line."""
    parts = [f"loss {row.loss:.4f}", f"score {row.score:.4f}"]
    if not math.isnan(row.validation_loss):
        parts += [f"validation {row.validation_loss:.4f}", f"{row.validation_score:.4f}"]
    parts.append(f"rate {row.rate:.2g}")
    return "  ".join(parts)
