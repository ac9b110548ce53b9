"""Pictures of Jacobians: which entries can be other than 0, to scale, as SVG.

A term whose flat places are affine in its symbols is a lattice: each symbol is a step (rows,
columns). Steps that fill a rectangle make a block, a step along both sides a diagonal of blocks
(of entries: a line), the others copies of these. What is cut by the border in no such way, or goes
through tables, is drawn as a raster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import product
from math import prod
from textwrap import wrap
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .apply import flat
from .form import Form
from .positions import Affine, Entry, Position, Symbol, symbols_of
from .sketch import Sketch, parts_of, rank_of, refined, shared, sketch_of, stripped
from .term import Term
from .words import triangle_of

if TYPE_CHECKING:
    from .jacobian import Jacobian

ACCENT = "#2f81f7"
"""Readable on light and on dark; all else has the colour of the text around."""
MARGIN, LINE = 12, 16
BLOCKS, COPIES, BANDS = 64, 12, 12
"""Blocks along a diagonal, copies along a symbol, and diagonals that are drawn one by one."""
PATHS = 450
"""Shapes in a picture."""
RASTER, ENTRIES = 56, 2**21
"""Cells of a raster along a side, and entries up to which one is made."""
ASPECT = 3.0
"""The longer side over the shorter, at most."""

Point = tuple[float, float]


def svg(jacobian: Jacobian, width: int = 320) -> str:
    """The picture, with shape, structure, and bytes beside those of the dense array under it."""
    m, n = jacobian.shape
    drawing = _Drawing(m, n, width)
    form = jacobian.form
    if form is None:
        drawing.polygon([(0, 0), (0, n), (m, n), (m, 0)])
    else:
        drawing.form(refined(form))
    return drawing.finished(jacobian)


class Step(NamedTuple):
    """A symbol: `times` places, each so many rows and columns after the other."""

    rows: int
    columns: int
    times: int


@dataclass
class _Drawing:
    """Paths in the units of the picture; points are given as (row, column)."""

    m: int
    n: int
    width: int
    areas: list[str] = field(default_factory=list)
    tints: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.across = float(self.width - 2 * MARGIN)
        ratio = self.m / self.n if self.m and self.n else 1.0
        self.ratio = min(max(ratio, 1 / ASPECT), ASPECT)
        if self.ratio != ratio:
            self.notes["not to scale: the longer side is drawn shorter"] = None
        self.down = self.across * self.ratio
        if self.ratio > 1:  # a tall one is as high as a square one would be
            self.across, self.down = self.across / self.ratio, self.across

    def _at(self, row: float, column: float) -> str:
        x = MARGIN + column * self.across / max(self.n, 1)
        y = MARGIN + row * self.down / max(self.m, 1)
        return f"{x:.2f} {y:.2f}".replace(".00", "")

    # -- shapes ---------------------------------------------------------------------------------

    def line(self, first: Point, last: Point) -> None:
        self.lines.append(f"M{self._at(*first)}L{self._at(*last)}")

    def polygon(self, points: Sequence[Point], tint: bool = False) -> None:
        where = self.tints if tint else self.areas
        where.append("M" + "L".join(self._at(*p) for p in points) + "Z")

    def block(self, row: float, column: float, rows: float, columns: float, tint: bool) -> None:
        """A rectangle, thick enough to be seen."""
        rows = max(rows, self.m / max(self.down, 1))
        columns = max(columns, self.n / max(self.across, 1))
        row, column = min(row, self.m - rows), min(column, self.n - columns)
        wide, high = columns * self.across / self.n, rows * self.down / self.m
        where = self.tints if tint else self.areas
        where.append(f"M{self._at(row, column)}h{wide:.2f}v{high:.2f}h-{wide:.2f}z")

    # -- forms ----------------------------------------------------------------------------------

    def form(self, form: Form) -> None:
        sketches = [sketch_of(t, form) for t in form.terms]
        offsets = _offsets(form)
        budget = max(4, PATHS // max(1, len(form.terms)))
        if offsets is not None and len(offsets) > BANDS:
            self.notes[f"{len(offsets)} diagonals, drawn as a band"] = None
            self.polygon(_band(form.shape, min(offsets), max(offsets)))
            return
        for term, sketch in zip(form.terms, sketches, strict=True):
            rank = rank_of(stripped(sketch, shared([sketch])))
            if self.triangles(sketch):
                continue
            pieces = _pieces(term, form)
            if pieces is None or len(pieces) > budget:
                self.raster(term, form)
            else:
                for origin, steps in pieces:
                    self.lattice(origin, steps, rank, budget // max(1, len(pieces)))

    def triangles(self, sketch: Sketch) -> bool:
        """A triangle, or equal ones along the diagonal; False if it is something else."""
        if any(isinstance(a.position, Entry) for a in (*sketch.out, *sketch.inn)):
            return False
        parts = parts_of(sketch)
        sides = [(p, triangle_of(p)) for p in parts if p.out and p.inn]
        found = [(p, side) for p, side in sides if side]
        if len(found) != 1 or found[0][0].out[0] != sketch.out[-1] or (
            found[0][0].inn[0] != sketch.inn[-1]
        ):  # fmt: skip
            return False
        ((part, side),) = found
        size = part.out[0].n
        count = prod(a.n for a in sketch.out[:-1])
        if sketch.out[:-1] != sketch.inn[:-1] or self.m != self.n or count * size != self.m:
            return False
        if count > BLOCKS:
            self.notes[f"{count:,} triangles {size}×{size}, drawn as a line"] = None
            self.line((0, 0), (self.m, self.n))
            return True
        for k in range(count):
            low, high = k * size, (k + 1) * size
            corner = (high, low) if "lower" in side else (low, high)
            self.polygon([(low, low), corner, (high, high)])
        return True

    def lattice(self, origin: tuple[int, int], steps: Sequence[Step], rank: int | None, budget: int
                ) -> None:  # fmt: skip
        """All places origin + Σ k·step."""
        (row, column), left = origin, []
        for s in steps:  # forwards along the rows; along the columns if there is no other way
            if s.rows < 0 or (s.rows == 0 and s.columns < 0):
                row, column = row + s.rows * (s.times - 1), column + s.columns * (s.times - 1)
                s = Step(-s.rows, -s.columns, s.times)
            left.append(s)
        both = sorted((s for s in left if s.rows and s.columns), key=lambda s: s.rows)
        room = (both[0].rows, abs(both[0].columns)) if both else (self.m, self.n)
        rows, columns, left = _block(left, room)
        step, left = _diagonal(left)
        tint = rank is not None and rows > 1 and columns > 1
        many = [s for s in left if s.times > 1]
        one = rows == columns == 1 or step.times > min(BLOCKS, budget >> len(many))
        left_over = budget // (1 if one else step.times)
        each = min(COPIES, max(2, int(left_over ** (1 / max(1, len(many))))))
        if any(s.times > each for s in many):
            self.notes["some of many equal parts are drawn"] = None
        for values in product(*(_some(s.times, each) for s in many)):
            r = row + sum(k * s.rows for k, s in zip(values, many, strict=True))
            c = column + sum(k * s.columns for k, s in zip(values, many, strict=True))
            self.blocks(r, c, rows, columns, step, tint, one)
        if tint and rank:
            self.label(row, column, rows, columns, f"rank {rank}")

    def blocks(self, row: int, column: int, rows: int, columns: int, step: Step, tint: bool,
               one: bool) -> None:  # fmt: skip
        """Equal blocks along a diagonal; as one line if they are entries, else as one strip."""
        far = row + step.rows * (step.times - 1), column + step.columns * (step.times - 1)
        if rows == columns == 1 and step.times > 1:
            back = step.columns < 0
            self.line((row, column + back), (far[0] + 1, far[1] + (not back)))
        elif not one or step.times == 1:
            for k in range(step.times):
                r, c = row + k * step.rows, column + k * step.columns
                self.block(r, c, rows, columns, tint)
        else:
            self.notes[f"{step.times:,} blocks {rows}×{columns}, drawn as a strip"] = None
            near, last = column, far[1] + columns
            if step.columns < 0:  # from the right to the left
                near, last, columns = column + columns, far[1], -columns
            self.polygon([
                (row, near), (row, near + columns), (far[0], last), (far[0] + rows, last),
                (far[0] + rows, last - columns), (row + rows, near),
            ], tint)  # fmt: skip
            self.line((row, near), (far[0] + rows, last))

    def label(self, row: int, column: int, rows: int, columns: int, text: str) -> None:
        """A word in the middle of a block, where there is room."""
        high, wide = rows * self.down / self.m, columns * self.across / self.n
        if high > 1.5 * LINE and wide > 7 * len(text):
            place = self._at(row + rows / 2, column + columns / 2).split()
            self.labels.append(
                f'<text x="{place[0]}" y="{place[1]}" text-anchor="middle" fill="{ACCENT}" '
                f'stroke="none">{text}</text>'
            )

    def raster(self, term: Term, form: Form) -> None:
        """The cells of a coarse grid in which there is an entry."""
        rows, columns = min(self.m, RASTER), min(self.n, RASTER)
        places = _places(term, form)
        if places is None:
            self.notes["the places of a part are too many to draw: shown as full"] = None
            self.polygon([(0, 0), (0, self.n), (self.m, self.n), (self.m, 0)])
            return
        cells = np.zeros((rows, columns + 2), bool)
        cells[places[0] * rows // self.m, places[1] * columns // self.n + 1] = True
        if cells.size - 2 * rows < self.m * self.n:
            self.notes[f"drawn on a raster of {rows}×{columns}"] = None
        edges = np.diff(cells.astype(np.int8), axis=1)
        for r in range(rows):
            starts, stops = np.flatnonzero(edges[r] == 1), np.flatnonzero(edges[r] == -1)
            for first, last in zip(starts, stops, strict=True):
                high, wide = self.m / rows, self.n / columns
                self.block(r * high, first * wide, high, (last - first) * wide, False)

    # -- the whole ------------------------------------------------------------------------------

    def finished(self, jacobian: Jacobian) -> str:
        said = f"{self.m:,}×{self.n:,}: {jacobian.structure}"
        size = f"{_bytes(jacobian.nbytes)}; dense {_bytes(jacobian.dense_nbytes)}"
        lines = [*wrap(said, max(16, int((self.width - 2 * MARGIN) / 6.6))), size]
        height = int(self.down + 2 * MARGIN + LINE * len(lines) + 4)
        frame = (
            f'<rect x="{MARGIN}" y="{MARGIN}" width="{self.across:.2f}" height="{self.down:.2f}" '
            'fill="none" stroke="currentColor" stroke-opacity="0.5"/>'
        )
        captions = "".join(
            f'<text x="{MARGIN}" y="{self.down + 2 * MARGIN + LINE * k + 8:.0f}">{escape(t)}</text>'
            for k, t in enumerate(lines)
        )
        about = "; ".join([f"{said}; {size}", *self.notes])
        paths = "".join(
            f'<path class="{name}" d="{"".join(shapes)}" {style}/>'
            for name, shapes, style in (
                ("low-rank", self.tints, f'fill="{ACCENT}" fill-opacity="0.3" stroke="none"'),
                ("block", self.areas, 'fill="currentColor" fill-opacity="0.65" stroke="none"'),
                ("diagonal", self.lines, 'fill="none" stroke="currentColor" stroke-width="1.5"'),
            )
            if shapes
        )
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{height}" '
            f'viewBox="0 0 {self.width} {height}" role="img" font-family="sans-serif" '
            'font-size="12" fill="currentColor">'
            f"<title>{escape(f'Jacobian {said}')}</title><desc>{escape(about)}</desc>"
            f"{frame}{paths}{''.join(self.labels)}{captions}</svg>"
        )


def _bytes(count: int) -> str:
    """A number of bytes with its unit."""
    size, units = float(count), ["bytes", "kB", "MB", "GB", "TB", "PB", "EB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.3g} {units[0]}"


def _some(count: int, most: int) -> list[int]:
    """0 … count - 1, or so many of them, evenly, with both ends."""
    if count <= most:
        return list(range(count))
    return [round(k * (count - 1) / (most - 1)) for k in range(most)]


# -- lattices ----------------------------------------------------------------------------------


def _block(steps: Sequence[Step], room: tuple[int, int]) -> tuple[int, int, list[Step]]:
    """Rows and columns that steps along one side fill without a gap, and the other steps."""
    size, left = [1, 1], list(steps)
    while True:
        for s in left:
            side = 0 if s.columns == 0 and s.rows == size[0] else 1
            along, other = (s.rows, s.columns) if side == 0 else (s.columns, s.rows)
            if other == 0 and along == size[side] and size[side] * s.times <= room[side]:
                size[side] *= s.times
                left.remove(s)
                break
        else:
            return size[0], size[1], left


def _diagonal(steps: Sequence[Step]) -> tuple[Step, list[Step]]:
    """The shortest step along both sides, made longer by those that go on with it; the others."""
    both = sorted((s for s in steps if s.rows and s.columns), key=lambda s: s.rows)
    if not both:
        return Step(0, 0, 1), list(steps)
    first, *rest = both
    left = [s for s in steps if not (s.rows and s.columns)]
    for s in rest:
        if (s.rows, s.columns) == (first.rows * first.times, first.columns * first.times):
            first = first._replace(times=first.times * s.times)
        else:
            left.append(s)
    return first, left


def _offsets(form: Form) -> list[int] | None:
    """Column - row of each term, if all are diagonals; None else."""
    found = []
    for term in form.terms:
        out, inn = _flat(term.out, form.out_shape), _flat(term.inn, form.in_shape)
        if out is None or inn is None or inn.plus(out, -1).terms or (
            any(len(symbols_of(g.position)) > 1 for g in term.guards)
        ):  # fmt: skip
            return None
        found.append(inn.plus(out, -1).offset)
    return found


def _flat(positions: Sequence[Position], shape: Sequence[int]) -> Affine | None:
    total = Affine()
    for p, n in zip(positions, shape, strict=True):
        if not isinstance(p, Affine):
            return None
        total = Affine().plus(total, n).plus(p)
    return total


def _band(shape: tuple[int, int], low: int, high: int) -> list[Point]:
    """The corners of low ≤ column - row ≤ high in the rectangle."""
    m, n = shape
    points: list[Point] = [(0, 0), (0, n), (m, n), (m, 0)]
    for sign, bound in ((1, high + 1), (-1, 1 - low)):  # sign · (column - row) ≤ bound
        kept: list[Point] = []
        for (r, c), (r2, c2) in zip(points, [*points[1:], points[0]], strict=True):
            one, two = bound - sign * (c - r), bound - sign * (c2 - r2)
            if one >= 0:
                kept.append((r, c))
            if one * two < 0:
                part = one / (one - two)
                kept.append((r + part * (r2 - r), c + part * (c2 - c)))
        points = kept
    return points


Piece = tuple[tuple[int, int], list[Step]]


def _pieces(term: Term, form: Form) -> list[Piece] | None:
    """The lattices that a term is: guards cut the ranges of symbols. None where they cannot."""
    rows, columns = _flat(term.out, form.out_shape), _flat(term.inn, form.in_shape)
    if rows is None or columns is None:
        return None
    guards = [(g.position, g.size) for g in term.guards]
    if not all(isinstance(p, Affine) for p, _ in guards):
        return None
    chosen: dict[Symbol, int] = {}  # one by one, so that each guard has one symbol left
    for p, _ in guards:
        open = [s for s in symbols_of(p) if s not in chosen]
        for s in sorted(open, key=lambda s: term.sizes[s])[: max(0, len(open) - 1)]:
            chosen[s] = term.sizes[s]
    if prod(chosen.values()) > PATHS:
        return None
    ends = term.ends
    found = []
    for values in product(*(range(n) for n in chosen.values())):
        fixed = {s: Affine((), v) for s, v in zip(chosen, values, strict=True)}
        ranges = _ranges(term.sizes, [(p.replaced(fixed), n) for p, n in guards])  # type: ignore[union-attr]
        if ranges is None:
            continue
        start = {s: Affine((), low) for s, (low, _) in ranges.items()} | fixed
        origin = rows.replaced(start).offset, columns.replaced(start).offset
        steps = [Step(rows.stride(s), columns.stride(s), n) for s, (_, n) in ranges.items()
                 if s in ends and s not in fixed and n > 1]  # fmt: skip
        found.append((origin, steps))
    return found


def _ranges(sizes: Mapping[Symbol, int], guards: Sequence[tuple[Affine, int]]
            ) -> dict[Symbol, tuple[int, int]] | None:  # fmt: skip
    """(first value, count) of each symbol where guards of one symbol hold; None if nowhere."""
    ranges = {s: (0, n) for s, n in sizes.items()}
    for p, size in guards:
        if not p.terms:
            if not 0 <= p.offset < size:
                return None
            continue
        ((s, a),) = p.terms
        low, count = ranges[s]
        bounds = sorted((-p.offset / a, (size - 1 - p.offset) / a))
        first = max(low, int(np.ceil(bounds[0])))
        last = min(low + count - 1, int(np.floor(bounds[1])))
        if last < first:
            return None
        ranges[s] = first, last - first + 1
    return ranges


def _places(term: Term, form: Form) -> tuple[Any, Any] | None:
    """Rows and columns of all entries of a term; None if they are too many."""
    used = list(dict.fromkeys(s for p in term.positions for s in symbols_of(p)))
    box = tuple(term.sizes[s] for s in used)
    if prod(box) > ENTRIES:
        return None
    sides = [(term.out, form.out_shape), (term.inn, form.in_shape),
             *(((g.position,), (g.size,)) for g in term.guards)]  # fmt: skip
    places = [np.broadcast_to(flat(p, shape, term.sizes, used), box).reshape(-1)
              for p, shape in sides]  # fmt: skip
    inside = np.logical_and.reduce([p >= 0 for p in places])
    return places[0][inside], places[1][inside]
