"""Small charts as SVG: lines over a shared axis, named where they end; dots; networks of units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, inf, isfinite, log10
from typing import Any

import numpy as np

from ..explain.numbers import number
from ..explain.picture import escape
from .page import details, table

WIDTH, HEIGHT = 480.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 96.0, 10.0, 34.0
POINTS = 400
"""A line has at most so many points."""
SHOWN = 200
"""Rows of the table below a chart."""


@dataclass(frozen=True)
class Series:
    """A line: its name, and y over x (what is not finite is left out)."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def chart(title: str, series: Sequence[Series], across: str, up: str = "",
          log: bool = False, dots: bool = False) -> str:  # fmt: skip
    """A figure with a chart of lines (or dots) and, to open, the table of its numbers."""
    series = [s for s in series if any(map(_there(log), s.y))]
    if not series:
        return f"<figure><figcaption>{escape(title)}</figcaption><p>nothing to draw</p></figure>"
    axes = _Axes(series, log)
    parts = [axes.grid(across, up)]
    names: list[tuple[float, str, int]] = []
    for k, s in enumerate(series):
        places = axes.places(s)
        if not places:
            continue
        colour = f"var(--s{k % 8})"
        if dots:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}" '
                      'fill-opacity=".55"/>' for x, y in places]  # fmt: skip
            continue
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(f'<path class="s" d="{path}" style="stroke:{colour}"/>')
        if len(places) == 1:
            x, y = places[0]
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
        names.append((places[-1][1], s.name, k))
    parts += _names(names)
    said = "; ".join(f"{s.name} from {_end(s, 0)} to {_end(s, -1)}" for s in series)
    svg = (
        f'<svg class="chart" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" width="{WIDTH:g}" '
        f'height="{HEIGHT:g}" role="img"><title>{escape(title)}</title>'
        f"<desc>{escape(said)}</desc>{''.join(parts)}</svg>"
    )
    numbers = "" if dots else details("the numbers", _table(series, across))
    return f"<figure><figcaption>{escape(title)}</figcaption>{svg}{numbers}</figure>"


def _there(log: bool) -> Any:
    return lambda y: isfinite(y) and (y > 0 or not log)


def _end(s: Series, k: int) -> str:
    finite = [y for y in s.y if isfinite(y)]
    return number(finite[k]) if finite else "nothing"


class _Axes:
    """The range of all series, and where a point lies in the picture."""

    def __init__(self, series: Sequence[Series], log: bool) -> None:
        self.log, there = log, _there(log)
        xs = [x for s in series for x, y in zip(s.x, s.y, strict=True) if there(y)]
        ys = [log10(y) if log else y for s in series for y in s.y if there(y)]
        self.x0, self.x1 = float(min(xs)), float(max(xs))
        if self.x0 == self.x1:
            self.x0, self.x1 = self.x0 - 0.5, self.x1 + 0.5
        low, high = min(ys), max(ys)
        if log:
            self.ticks = _decades(floor(low), ceil(high))
        else:
            if low == high:  # shares and rates are not below 0
                low, high = (0.0, 2 * low or 1.0) if low >= 0 else (low - 0.5, high + 0.5)
            self.ticks = ticks(low, high)
        self.y0, self.y1 = min(low, self.ticks[0]), max(high, self.ticks[-1])
        if self.y0 == self.y1:
            self.y1 = self.y0 + 1

    def across(self, x: float) -> float:
        return LEFT + (x - self.x0) / (self.x1 - self.x0) * (WIDTH - LEFT - RIGHT)

    def up(self, y: float) -> float:
        return TOP + (self.y1 - y) / (self.y1 - self.y0) * (HEIGHT - TOP - BOTTOM)

    def places(self, s: Series) -> list[tuple[float, float]]:
        """The points of a series in the picture, thinned out if they are many."""
        there = _there(self.log)
        pairs = [(x, y) for x, y in zip(s.x, s.y, strict=True) if there(y)]
        step = max(1, len(pairs) // POINTS)
        pairs = pairs[::step] + (pairs[-1:] if (len(pairs) - 1) % step else [])
        return [(self.across(x), self.up(log10(y) if self.log else y)) for x, y in pairs]

    def grid(self, across: str, up: str) -> str:
        parts = []
        for t in self.ticks:
            y = self.up(t)
            text = number(10.0**t, 3) if self.log else number(t, 3)
            parts.append(
                f'<path class="grid" d="M{LEFT:g} {y:.1f}H{WIDTH - RIGHT:g}"/>'
                f'<text x="{LEFT - 7:g}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
            )
        whole = self.x0.is_integer() and self.x1.is_integer()
        for t in ticks(self.x0, self.x1, 5):
            if self.x0 <= t <= self.x1 and (t.is_integer() or not whole):
                parts.append(
                    f'<text x="{self.across(t):.1f}" y="{HEIGHT - BOTTOM + 17:g}" '
                    f'text-anchor="middle">{number(t, 4)}</text>'
                )
        parts.append(
            f'<path class="axis" d="M{LEFT:g} {HEIGHT - BOTTOM:g}H{WIDTH - RIGHT:g}"/>'
            f'<text x="{(LEFT + WIDTH - RIGHT) / 2:g}" y="{HEIGHT - 3:g}" text-anchor="middle">'
            f"{escape(across)}</text>"
        )
        if up:
            parts.append(f'<text x="{LEFT:g}" y="{TOP - 1:g}">{escape(up)}</text>')
        return "".join(parts)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers around a range: steps of 1, 2 or 5 times a power of ten.

    >>> ticks(0.13, 0.87)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    span = (high - low) / most or 1.0
    power = 10.0 ** floor(log10(span))
    step = next((m * power for m in (1, 2, 5, 10) if m * power >= span * 0.999), 10 * power)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def _decades(low: int, high: int) -> list[float]:
    step = max(1, ceil((high - low) / 6))
    return (
        [float(k) for k in range(low, high + step, step)] if high > low else [float(low), low + 1.0]
    )


NAMED = 10
"""So many lines have their names beside them."""


def _names(names: Sequence[tuple[float, str, int]]) -> list[str]:
    """The names at the ends of lines, apart from each other."""
    parts, before = [], -inf
    ordered = sorted(names)
    step = max(1, ceil(len(ordered) / NAMED))  # more would stand on each other
    for y, name, k in ordered[::step]:
        before = max(y, before + 14)
        shown = name if len(name) <= 12 else "…" + name[-11:]
        parts.append(
            f'<text class="name" x="{WIDTH - RIGHT + 6:g}" y="{min(before, HEIGHT - 4) + 4:.1f}" '
            f'style="fill:var(--s{k % 8})"><title>{escape(name)}</title>{escape(shown)}</text>'
        )
    return parts


def _table(series: Sequence[Series], across: str) -> str:
    xs = sorted({x for s in series for x in s.x})
    step = max(1, ceil(len(xs) / SHOWN))
    by = [dict(zip(s.x, s.y, strict=True)) for s in series]
    rows = [
        [number(x, 6), *(number(d[x]) if isfinite(d.get(x, inf)) else "" for d in by)]
        for x in xs[::step]
    ]
    return table([across, *(s.name for s in series)], rows)


def network(layers: Sequence[tuple[str, int]], weights: Sequence[Any]) -> str:
    """A network as layers of units: (name, units) each, and the weights between them.

    Layers of more than 12 units are drawn with their middle left out; so are the weights of these.
    """
    most, gap, wide = 12, 26.0, 150.0
    height = 60 + gap * min(max(n for _, n in layers), most)
    width = wide * (len(layers) - 1) + 140
    places: list[list[tuple[int, float, float]]] = []
    for k, (_, n) in enumerate(layers):
        shown = list(range(n)) if n <= most else [*range(most // 2), *range(n - most // 2 + 1, n)]
        rows = len(shown) + (n > most)
        top = (height - 30 - gap * (rows - 1)) / 2
        column = []
        for place, unit in enumerate(shown):
            row = place + (n > most and place >= most // 2)
            column.append((unit, 70 + wide * k, top + gap * row))
        places.append(column)
    parts = []
    for k, w in enumerate(weights):
        if w is None:
            continue
        limit = float(np.abs(w).max(initial=0)) or 1.0
        for i, x1, y1 in places[k]:
            for j, x2, y2 in places[k + 1]:
                share = float(w[i, j]) / limit
                colour = "var(--s1)" if share > 0 else "var(--s0)"
                parts.append(
                    f'<path class="edge" d="M{x1:g} {y1:.1f}L{x2:g} {y2:.1f}" '
                    f'style="stroke:{colour};stroke-opacity:{max(abs(share), 0.04):.2f}"/>'
                )
    for (name, n), column in zip(layers, places, strict=True):
        parts += [f'<circle class="unit" cx="{x:g}" cy="{y:.1f}" r="8"/>' for _, x, y in column]
        if n > most:
            x, y = column[most // 2 - 1][1], column[most // 2 - 1][2] + gap
            parts.append(f'<text x="{x:g}" y="{y + 4:.1f}" text-anchor="middle">⋮</text>')
        parts.append(
            f'<text x="{column[0][1]:g}" y="{height - 6:g}" text-anchor="middle">'
            f"{escape(name)} · {n:,}</text>"
        )
    said = " to ".join(f"{n} {name}" for name, n in layers)
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img">'
        f"<title>The network as layers of units</title><desc>{escape(said)}</desc>"
        f"{''.join(parts)}</svg>"
    )
