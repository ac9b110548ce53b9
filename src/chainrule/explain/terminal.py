"""A walk in a terminal: the graph as rails, the step below it, keys to move."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from rich.cells import cell_len
from rich.console import Console, Group
from rich.rule import Rule
from rich.text import Text

from .rails import lines
from .views import Views
from .walk import Walk

KEYS = "→ n space: on   ← p: back   Home   End   g: go to a step   q: leave"
MOVES = {
    **dict.fromkeys(("\x1b[C", "\x1bOC", "\x1b[B", "\x1bOB", "n", "j", " ", "\r", "\n"), "on"),
    **dict.fromkeys(("\x1b[D", "\x1bOD", "\x1b[A", "\x1bOA", "p", "k", "\x7f", "\x08"), "back"),
    **dict.fromkeys(("\x1b[H", "\x1bOH", "\x1b[1~", "\x1b[7~"), "first"),
    **dict.fromkeys(("\x1b[F", "\x1bOF", "\x1b[4~", "\x1b[8~", "G"), "last"),
    **dict.fromkeys(("g", ":"), "go"),
    **dict.fromkeys(("q", "Q", "\x1b", "\x03", "\x04"), "leave"),
}
"""What the keys do, by what terminals send for them."""
KEY = re.compile(r"\x1b\[[0-9;]*[A-Za-z~]|\x1bO[A-Za-z]|.", re.DOTALL)
"""What a terminal sends for one key."""


def run(steps: Walk, console: Console | None = None, read: Callable[[], str] | None = None) -> None:
    """Walk with keys; where input or output is no terminal, print all steps.

    `read` waits for a key and returns what the terminal sent for it.
    """
    console = console or Console(highlight=False)
    given = read is not None or sys.stdin.isatty()
    if not (console.is_terminal and given and len(steps)):
        for line in steps.lines():
            console.print(Text(line), soft_wrap=True)
        return
    screen = _Screen(steps)
    with (
        nullcontext(read) if read is not None else _keys() as key,
        console.screen(hide_cursor=True),
    ):
        console.print(screen.shown(console), end="")
        while screen.press(key()):
            console.clear()
            console.print(screen.shown(console), end="")


@contextmanager
def _keys() -> Iterator[Callable[[], str]]:
    """Keys as they are pressed; between two of them, none is lost or shown."""
    try:
        import termios
        import tty
    except ImportError:  # Windows
        import typer

        yield typer.getchar
        return
    file = sys.stdin.fileno()
    before = termios.tcgetattr(file)
    tty.setcbreak(file, termios.TCSADRAIN)
    try:
        yield partial(next, _split(file), "q")
    finally:
        termios.tcsetattr(file, termios.TCSADRAIN, before)


def _split(file: int) -> Iterator[str]:
    """The keys that a terminal sends; several may come at once, and none when it is gone."""
    while text := os.read(file, 1024).decode(errors="replace"):
        yield from KEY.findall(text)


class _Screen:
    """Where a walk is, and what is seen there."""

    def __init__(self, steps: Walk) -> None:
        views = Views(steps.explanation, len(steps.explanation.gates))
        items = views.items(views.root)
        self.steps = steps
        self.rails = lines(items)
        self.place = {id(item.record): k for k, item in enumerate(items)}
        self.position = 0
        self.typed: str | None = None
        """The digits of the step to go to, while they are typed."""

    def press(self, key: str) -> bool:
        """Do what a key says; False to leave."""
        last = len(self.steps) - 1
        if self.typed is not None:
            self._type(key)
            return True
        match MOVES.get(key):
            case "on":
                self.position = min(self.position + 1, last)
            case "back":
                self.position = max(self.position - 1, 0)
            case "first":
                self.position = 0
            case "last":
                self.position = last
            case "go":
                self.typed = ""
            case "leave":
                return False
        return True

    def _type(self, key: str) -> None:
        """A key while the number of a step is typed."""
        assert self.typed is not None
        if key.isascii() and key.isdigit():
            self.typed += key
        elif key in ("\x7f", "\x08"):
            self.typed = self.typed[:-1]
        else:
            if key in ("\r", "\n") and self.typed:
                self.position = min(max(int(self.typed[:9]), 1), len(self.steps)) - 1
            self.typed = None

    def shown(self, console: Console) -> Any:
        """The whole screen: the graph, as much of it as there is room for, and the step."""
        head, *rest = self.steps[self.position].lines()
        asked = f"go to step (1 to {len(self.steps)}), then Enter: {self.typed}"
        foot = KEYS if self.typed is None else asked
        body = [Text(head, style="bold"), *map(Text, rest), Text(foot, style="dim")]
        used = sum(-(-max(cell_len(t.plain), 1) // console.width) for t in body)
        return Group(*self._around(max(console.height - used - 2, 5)), Rule(), *body)

    def _around(self, height: int) -> list[Text]:
        """The picture of the graph around the step, its line marked."""
        step = self.steps[self.position]
        here = self.place[id(step.gate)]
        first = max(0, min(here - height // 2, len(self.rails) - height))
        colour = "green" if step.direction == "forward" else "red"
        return [
            Text(("▶ " if k == here else "  ") + self.rails[k], no_wrap=True, overflow="ellipsis",
                 style=f"bold {colour}" if k == here else "")
            for k in range(first, min(first + height, len(self.rails)))
        ]  # fmt: skip
