"""The picture of a graph in a terminal: a line for each gate, its values as rails on the left.

A rail begins where a value is made and ends where it is used last, so a gate stands where the rails
of its inputs come together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..ops.tensor import Tensor
from .gates import Explanation, GateRecord, examine
from .names import Names
from .numbers import array
from .picture import find, label
from .views import FLAT, Item, Views


def rails(
    tensor: Tensor | Explanation, names: Names | None = None, *, inside: str = "",
    flat: bool = False,
) -> str:  # fmt: skip
    """The graph of a Tensor (or an Explanation) as text: what `show` draws, line by line.

    `inside` and `flat` are as in `show`.

    >>> from chainrule.explain import explain
    >>> print(rails(explain("(x + y) * z", x=-2, y=5, z=-4)))
    ●     x           = -2     gradient -4
    │ ●   y           = 5      gradient -4
    ├─╯ + q = x + y   = 3      gradient -4  distributes
    │ ●   z           = -4     gradient 3
    ├─╯ × f = q * z   = -12    gradient 1   switches
    """
    explanation = examine(tensor, names)
    views = Views(explanation, len(explanation.gates) if flat else FLAT)
    return "\n".join(lines(views.items(find(views, inside))))


def lines(items: Sequence[Item]) -> list[str]:
    """The lines of a view."""
    drawn = _Rails(items).rows
    rows = [(rail, *_texts(item)) for rail, item in zip(drawn, items, strict=True)]
    widths = [max(len(r[k]) for r in rows) for k in range(len(rows[0]))]
    return [
        "  ".join(
            [f"{row[0].ljust(widths[0])} {row[1].rjust(widths[1])} {row[2].ljust(widths[2])}"]
            + [cell.ljust(w) for cell, w in zip(row[3:], widths[3:], strict=True)]
        ).rstrip()
        for row in rows
    ]


def _texts(item: Item) -> tuple[str, str, str, str, str]:
    """Symbol, name, value, gradient, and what the gate does."""
    value = f"= {array(item.value)}" if item.value is not None else ""
    gradient = f"gradient {array(item.gradient)}" if item.gradient is not None else ""
    if item.kind == "gate" and isinstance(item.record, GateRecord):
        gate = item.record
        return label(gate), f"{gate.name} = {gate.expression}", value, gradient, gate.word
    if item.box is not None:
        return "▣", f"{item.box.name}, {item.box.gates} gates", value, gradient, ""
    return "", item.name, value, gradient, {"outside": "from outside"}.get(item.kind, "")


class _Rails:
    """The rails of every line, top to bottom."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.last: dict[int, int] = {}
        for k, item in enumerate(items):
            for wire in item.wires:
                self.last[wire.source] = k
        self.columns: list[int | None] = []
        """Which item's value runs in each column."""
        self.rows = [self._row(k, item) for k, item in enumerate(items)]

    def _row(self, k: int, item: Item) -> str:
        sources = {w.source for w in item.wires}
        entering = [c for c, source in enumerate(self.columns) if source in sources]
        before = list(self.columns)
        for c in entering:
            if self.last[self.columns[c]] == k:  # type: ignore[index]
                self.columns[c] = None
        free = [c for c in entering if self.columns[c] is None]
        place = free[0] if free else self._free()
        cells = self._cells(before, entering, place)
        self.columns[place] = k if k in self.last else None
        while self.columns and self.columns[-1] is None:
            self.columns.pop()
        return "".join(cells).rstrip()

    def _free(self) -> int:
        """A column that nothing runs in."""
        if None not in self.columns:
            self.columns.append(None)
        return self.columns.index(None)

    def _cells(self, before: Sequence[Any], entering: Sequence[int], place: int) -> list[str]:
        """The characters of a line, two a column."""
        if not entering:
            return [("● " if c == place else "│ " if self._runs(c) else "  ")
                    for c in range(len(self.columns))]  # fmt: skip
        joined = [*entering, place]
        low, high = min(joined), max(joined)
        cells = []
        for c in range(max(len(self.columns), len(before))):
            inside = low <= c < high
            if c in entering or c == place:
                up = c in entering
                down = c == place or (c < len(self.columns) and self.columns[c] is not None)
                mark = _joint(up, down, c > low, c < high)
            elif self._runs(c):
                mark = "│"
            else:
                mark = "─" if inside else " "
            cells.append(mark + ("─" if inside else " "))
        return cells

    def _runs(self, c: int) -> bool:
        return c < len(self.columns) and self.columns[c] is not None


def _joint(up: bool, down: bool, left: bool, right: bool) -> str:
    """The character with lines to these sides."""
    return {
        (True, True, False, True): "├", (True, True, True, False): "┤",
        (True, True, True, True): "┼", (True, False, True, False): "╯",
        (True, False, True, True): "┴", (True, False, False, True): "╰",
        (False, True, True, False): "╮", (False, True, False, True): "╭",
        (False, True, True, True): "┬", (True, True, False, False): "●",
    }.get((up, down, left, right), "●")  # fmt: skip
