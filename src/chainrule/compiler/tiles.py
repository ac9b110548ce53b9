"""Micro-kernels: sums held in registers while the summed loops run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from .blocking import CHAINS, Loop, Piece, pieces
from .ir import Function, Index, Value, const, mask, vector

Epilogue = Callable[[Function, Value, list[Value], tuple[int, ...], int], None]
"""epilogue(f, acc, pointers, strides, active): acc holds lanes along the vector loop, pointers[k]
is the address of lane 0 in others[k], strides[k] that buffer's stride from lane to lane; only the
first `active` lanes count. It emits loads, arithmetic and stores itself."""


class Fetch(NamedTuple):
    """What will be read later, brought near while sums run: `emit(i)`, so many times."""

    times: int
    emit: Callable[[Index], None]


class Cell(NamedTuple):
    """One sum of a tile: its first entries in A and B, and the lanes of a step."""

    offsets: tuple[int, int]
    piece: Piece


class Sums:
    """Sums of products over a nest of loops, in registers."""

    def __init__(self, f: Function, scalar: str, cells: Sequence[Cell],
                 lane: Sequence[int]) -> None:  # fmt: skip
        """`lane` are the strides from lane to lane in A and B."""
        self.f, self.scalar, self.cells, self.lane = f, scalar, cells, lane
        self.types = [vector(scalar, c.piece.lanes) for c in cells]
        self.chains = 1 if len(cells) >= CHAINS else -(-CHAINS // len(cells))
        self.slots: list[list[Value]] = []

    def run(self, A: Value, B: Value, loops: Sequence[Loop], steps: Index | None = None,
            tail: tuple[tuple[int, int], Sequence[Piece]] = ((0, 0), ()),
            fetch: Fetch | None = None, least: int = 0) -> list[Value]:  # fmt: skip
        """Emit the loops (the first of `steps`, at least `least`, steps); the sums at their end.

        `fetch` is spread over the steps of the first loop. `tail` is what remains of lanes that run
        along a summed loop, after the innermost loop: its offsets in A and B and its pieces.
        """
        f = self.f
        self.tail = tail
        known = all(loop.size.__class__ is int for loop in loops) and steps is None
        self.chains = min(self.chains, loops[-1].size) if loops else 1
        if steps is not None and len(loops) == 1:
            self.chains = 1
        if known and any(loop.size == 0 for loop in loops) and not tail[1]:
            return [const(0, t) for t in self.types]
        self.slots = [
            [f.slot(t, const(0, t)) for _ in range(max(1, self.chains))] for t in self.types
        ]
        if fetch is not None and loops and least >= fetch.times and self.chains == 1:
            self.fetching(A, B, loops, steps, fetch, least // fetch.times)
        else:
            self.nest(A, B, loops, steps)
        return [self._total([f.get(s, t) for s in slots])
                for slots, t in zip(self.slots, self.types, strict=True)]  # fmt: skip

    def _total(self, parts: list[Value]) -> Value:
        while len(parts) > 1:
            pairs = [parts[k : k + 2] for k in range(0, len(parts), 2)]
            parts = [self.f.op("fadd", *p) if len(p) > 1 else p[0] for p in pairs]
        return parts[0]

    def nest(self, A: Value, B: Value, loops: Sequence[Loop], steps: Index | None) -> None:
        f = self.f
        if not loops:
            self._steps(A, B, (0, 0), 1)
            self._rest(A, B)
            return
        (size, strides), deeper = loops[0], loops[1:]
        if deeper:
            with f.loop(0, size if steps is None else steps) as k:
                self.nest(*self._at(A, B, k, strides), deeper, None)
            return
        if steps is not None:
            with f.loop(0, steps) as k:
                self._steps(*self._at(A, B, k, strides), strides, 1)
            return
        unroll = 1
        if self.chains > 1:
            unroll = min(size, max(4, self.chains))
        elif len(self.cells) < 2 * CHAINS:
            unroll = next((u for u in (4, 3, 2) if size % u == 0), 1)
        whole = size - size % max(1, unroll)
        if whole:
            with f.loop(0, whole, unroll) as k:
                self._steps(*self._at(A, B, k, strides), strides, unroll)
        if size > whole:
            self._steps(*self._at(A, B, whole, strides), strides, size - whole)
        self._rest(A, B)

    def fetching(self, A: Value, B: Value, loops: Sequence[Loop], steps: Index | None,
                 fetch: Fetch, each: int) -> None:  # fmt: skip
        """`nest`, with something fetched before every run of so many steps of the first loop."""
        f = self.f
        (size, strides), deeper = loops[0], loops[1:]

        def run(first: Index, last: Index) -> None:
            with f.loop(first, last) as k:
                at = self._at(A, B, k, strides)
                if deeper:
                    self.nest(*at, deeper, None)
                else:
                    self._steps(*at, strides, 1)

        with f.loop(0, fetch.times) as i:
            fetch.emit(i)
            first = f.mul(i, each)
            run(first, f.add(first, each))
        done = fetch.times * each
        if steps is not None or done < size:
            run(done, size if steps is None else steps)

    def _at(self, A: Value, B: Value, k: Index, strides: Sequence[int]) -> tuple[Value, Value]:
        f = self.f
        return (
            f.at(A, f.mul(k, strides[0]), self.scalar), f.at(B, f.mul(k, strides[1]), self.scalar)
        )  # fmt: skip

    def _rest(self, A: Value, B: Value) -> None:
        offsets, parts = self.tail
        for part in parts:
            start = tuple(o + part.start * s for o, s in zip(offsets, self.lane, strict=True))
            self._steps(*self._at(A, B, 1, start), (0, 0), 1, part)

    def _steps(self, A: Value, B: Value, strides: Sequence[int], count: int,
               part: Piece | None = None) -> None:  # fmt: skip
        """So many steps of the innermost loop, one after the other."""
        f = self.f
        sums = [
            [f.get(s, t) for s in slots] for slots, t in zip(self.slots, self.types, strict=True)
        ]
        for u in range(count):
            seen: dict[tuple[int, int, int], Value] = {}
            for cell, chains in zip(self.cells, sums, strict=True):
                piece = part or cell.piece
                x, y = (
                    self._operand(k, p, cell.offsets[k] + u * strides[k], piece,
                                  cell.piece.lanes, seen, part is not None)
                    for k, p in ((0, A), (1, B))
                )  # fmt: skip
                chains[u % len(chains)] = f.fma(x, y, chains[u % len(chains)])
        for slots, chains in zip(self.slots, sums, strict=True):
            for slot, value in zip(slots, chains, strict=True):
                f.set(slot, value)

    def _operand(self, k: int, base: Value, offset: int, piece: Piece, lanes: int,
                 seen: dict[tuple[int, int, int], Value], sealed: bool) -> Value:  # fmt: skip
        """Entries of A (k = 0) or B (1) in so many lanes; `sealed`: 0 in those left over."""
        f, stride = self.f, self.lane[k]
        key = k, offset, lanes
        if key in seen:
            return seen[key]
        if piece.lanes < lanes:  # what is left of a summed loop: zeros in the other lanes
            x = self._operand(k, base, offset, piece, piece.lanes, {}, False)
            if piece.lanes == 1:
                zero = const(0, vector(self.scalar, lanes))
                made = f.make(f"insertelement {zero.type} {zero.name}, {x.type} {x.name}, i32 0",
                              zero.type)  # fmt: skip
            else:
                spread = [min(lane, piece.lanes) for lane in range(lanes)]
                made = f.shuffle(x, const(0, x.type), spread)
        elif stride == 0 or lanes == 1:
            made = f.splat(f.load(f.at(base, offset, self.scalar), self.scalar), lanes)
            if sealed and piece.active < lanes:  # infinity · 0 must not enter the sum
                made = f.select(mask(piece.active, lanes), made, const(0, made.type))
        elif stride == 1:
            at = f.at(base, offset, self.scalar)
            made = f.load(at, vector(self.scalar, lanes), piece.active)
        else:
            made = const(0, vector(self.scalar, lanes))
            for lane in range(piece.active):
                one = f.load(f.at(base, offset + lane * stride, self.scalar), self.scalar)
                made = f.make(
                    f"insertelement {made.type} {made.name}, {one.type} {one.name}, i32 {lane}",
                    made.type,
                )
        seen[key] = made
        return made


def tile_sums(
    f: Function, scalar: str, rows: Sequence[tuple[int, int]], columns: Sequence[Piece],
    lane: Sequence[int], loops: Sequence[Loop], widest: int, masks: bool,
    steps: Index | None = None, fetch: Fetch | None = None, least: int = 0,
) -> list[list[Value]]:  # fmt: skip
    """The sums of a tile, by row and piece of columns, from the addresses in f's parameters.

    `rows` are offsets in A and B, `lane` strides from column to column, `widest` the most lanes
    that may run along the last of `loops`, 0 where the columns themselves are lanes.
    """
    A, B = f.parameters[:2]
    if not widest:
        cells = [
            Cell((r[0] + p.start * lane[0], r[1] + p.start * lane[1]), p)
            for r in rows for p in columns
        ]  # fmt: skip
        sums = Sums(f, scalar, cells, lane)
        found = sums.run(A, B, loops, steps, fetch=fetch, least=least)
        n = len(columns)
        return [found[i : i + n] for i in range(0, len(found), n)]
    *outside, (size, along) = loops
    across = pieces(size, widest, masks)[0].lanes
    full = Piece(0, across, across)
    places = [p.start + c for p in columns for c in range(p.active)]
    cells = [Cell((r[0] + c * lane[0], r[1] + c * lane[1]), full) for r in rows for c in places]
    parts = pieces(size % across, across, masks)
    if masks and parts:
        parts = [Piece(0, across, size % across)]
    whole = size - size % across
    inside = Loop(size // across, tuple(s * across for s in along))
    tail = (whole * along[0], whole * along[1])
    totals = iter(
        Sums(f, scalar, cells, along[:2]).run(A, B, [*outside, inside], None, (tail, parts))
    )
    return [
        [lanes_of(f, [next(totals) for _ in range(p.active)], p.lanes) for p in columns]
        for _ in rows
    ]  # fmt: skip


def lanes_of(f: Function, vectors: list[Value], lanes: int) -> Value:
    """The sum of each vector, as a vector of so many lanes (a power of two)."""
    vectors = vectors + [const(0, vectors[0].type)] * (lanes - len(vectors))
    segment = vectors[0].lanes  # neighbouring lanes that belong to one sum
    while segment > 1:
        if vectors[0].lanes == 2 and lanes == 1:
            return f.op("fadd", f.extract(vectors[0], 0), f.extract(vectors[0], 1))
        halves = []
        for k in range(0, len(vectors), 2):
            x, *y = vectors[k : k + 2]
            even, odd = (
                f.shuffle(x, y[0] if y else None, range(start, x.lanes * (1 + len(y)), 2))
                for start in (0, 1)
            )
            halves.append(f.op("fadd", even, odd))
        vectors, segment = halves, segment // 2
    while len(vectors) > 1:
        vectors = [
            f.shuffle(x, y, range(2 * x.lanes))
            for x, y in zip(vectors[::2], vectors[1::2], strict=True)
        ]
    return vectors[0]
