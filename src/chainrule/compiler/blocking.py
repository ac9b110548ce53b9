"""How a contraction is run, by a small cost model.

One outer loop becomes the lanes of vectors (`lane`), another the rows of the register tile; the
tile's sums stay in registers while the summed loops run. Every choice of lanes and rows is tried
and the one of fewest cycles taken, where, with h rows by v vectors of L lanes in a tile,

- a step of the summed loops costs max(h·v, h + v)/2 cycles (two multiply-adds and two loads a
  cycle), not under 4 cycles for all sums together (latency), and v/4 to bring B from L2;
- rows that share a set of the first cache, and cannot be packed, cost 2 more each step;
- a tile costs 20 cycles more, and up to 4 for each row that lies on another page; an output 1/L of
  a cycle, or a quarter and more where lanes do not stand side by side;
- packing costs 0.1 of a cycle an entry where it copies runs, 0.3 where it transposes, 2 otherwise;
- with several threads the slowest counts: runs or panels are split, whichever is more even;
- registers hold h·v sums, v vectors of B and one entry of A.

Lanes may also run along a summed loop that is contiguous on both sides (`across`: dot products).
Each sum then costs three more cycles at its end; the second operand may be packed to be so.

Then, from the sizes of caches:

- Packing: B always where its lanes do not stand side by side; either where the steps lie so far
  apart that they drive each other out of the cache, and are read often enough: A by many panels,
  B, whose lines come from L2 in any case, by many runs of rows.
- Blocks of the summed loop, so that a panel of B stays in a quarter of L2, and finds place there
  if its steps crowd into few sets; partial sums wait in scratch. Bands of rows, so that their part
  of A stays in an eighth of L3.
- Panels are the inner loop where all of B fits into a quarter of L2: then A is read once.
- A long sum with few outputs is summed in eight parts, whatever the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import NamedTuple

import numpy as np

from .machine import Machine

SMALL = 30_000
"""Multiply-adds below which waking the other threads costs more than they bring."""
MANY = 16
"""Panels from which on it pays to copy A, and runs of rows from which on it pays to copy B where
its lanes stand side by side."""
PARTS = 8
"""Into how many parts a long sum with few outputs is split."""
BARRIER = 5000
"""Cycles that it costs to wait for what other threads pack."""
BRIEF = 128
"""Steps below which a sum is too short for packing to pay."""
CHAINS = 8
"""Sums that must be under way at once to fill two units of latency four."""
CROWD = 8
"""As many rows of a tile fill a set of the cache, with what else is there."""
EVICTED = 2.0
"""Cycles to fetch again what other rows of the same set have driven out."""
LONG = 4096
"""Steps from which a sum is long."""
PAGE = 4096
"""Bytes between addresses that fall into one set of the first cache."""


class Loop(NamedTuple):
    """A loop and how far one step of it moves in A, B and each other buffer, in entries."""

    size: int
    strides: tuple[int, ...]


@dataclass(frozen=True)
class Contraction:
    """acc[outer] = Σ over inner of A·B; then the epilogue, once for every entry of outer.

    Loops may stand in any order and number. Strides may be 0 or negative, and entries of A and B
    may be read by several steps. `dtype` is that of A, B and the sum; `others` lists the dtypes
    of the further buffers, which the epilogue reads or writes; `large` says which of them, by
    number, do not lie in a cache near by.
    """

    outer: tuple[Loop, ...]
    inner: tuple[Loop, ...]
    dtype: np.dtype[np.generic]
    others: tuple[np.dtype[np.generic], ...]
    large: tuple[int, ...] = ()

    @property
    def flops(self) -> int:
        return 2 * entries(self.outer) * entries(self.inner)


def entries(loops: Iterable[Loop]) -> int:
    """The number of steps of a nest."""
    total = 1
    for loop in loops:
        total *= loop.size
    return total


class Piece(NamedTuple):
    """Neighbouring lanes of a tile's row: where they start, the vector's width, how many count."""

    start: int
    lanes: int
    active: int


class Split(NamedTuple):
    """`size` steps as `parts` runs: the first `long` of them of `most` steps, others one less."""

    size: int
    parts: int

    @property
    def most(self) -> int:
        return -(-self.size // self.parts)

    @property
    def least(self) -> int:
        return self.size // self.parts

    @property
    def long(self) -> int:
        return self.size - self.parts * (self.most - 1)


@dataclass(frozen=True)
class Plan:
    """A tile is a run of `rows` times `whole`, by `vectors` vectors along `lane`.

    Strides of all loops are in the order (rows' operand, lanes' operand, others…): with `swap`,
    B is the first. Offsets are those of the first entries.
    """

    swap: bool
    offsets: tuple[int, ...]
    lane: Loop
    lanes: int
    vectors: int
    rows: Loop
    runs: Split
    whole: Loop
    batch: tuple[Loop, ...]
    inner: tuple[Loop, ...]
    across: bool
    packed: tuple[bool, bool] = (False, False)
    blocks: Split = Split(1, 1)  # noqa: RUF009 - a tuple
    parts: int = 1
    bands: Split = Split(1, 1)  # noqa: RUF009 - a tuple
    panels_inside: bool = False
    """Whether the loop over panels is inside that over runs of rows, not around it."""

    @property
    def width(self) -> int:
        return self.lanes * self.vectors

    @property
    def panels(self) -> int:
        return -(-self.lane.size // self.width)

    @property
    def tiles(self) -> int:
        return entries(self.batch) * self.panels * self.runs.parts


def pieces(active: int, lanes: int, masks: bool) -> list[Piece]:
    """So many entries as vectors; the ragged end masked, or by halves where masks are dear."""
    full, rest = divmod(active, lanes)
    found = [Piece(k * lanes, lanes, lanes) for k in range(full)]
    start = full * lanes
    while rest > 0:
        part = 1 << (rest - 1).bit_length() if masks else 1 << (rest.bit_length() - 1)
        found.append(Piece(start, part, min(part, rest)))
        start, rest = start + part, rest - part
    return found


def plan(problem: Contraction, machine: Machine, threads: int) -> Plan:
    """The cheapest way by the model of this file."""
    buffers = 2 + len(problem.others)
    offsets = [0] * buffers
    outer, inner = (
        merged([_forward(_padded(x, buffers), offsets) for x in loops])
        for loops in (problem.outer, problem.inner)
    )
    found = []
    for swap in (False, True):
        turn = (1, 0, *range(2, buffers)) if swap else tuple(range(buffers))
        turned = [Loop(x.size, tuple(x.strides[k] for k in turn)) for x in outer]
        summed = [Loop(x.size, tuple(x.strides[k] for k in turn)) for x in inner]
        summed.sort(key=lambda x: -max(map(abs, x.strides[:2])))
        start = Plan(
            swap, tuple(offsets[k] for k in turn), none := Loop(1, (0,) * buffers), 1, 1, none,
            Split(1, 1), none, (), tuple(summed), False,
        )  # fmt: skip
        for lane in turned or [none]:
            if lane.strides[0] and not lane.strides[1]:
                continue  # the same as with the operands exchanged
            rest = [x for x in turned if x is not lane]
            ways = [replace(start, lane=lane)]
            for k in summed if entries(summed) else ():
                if k.strides[0] in (0, 1) and (k.strides[1] not in (0, 1) or any(k.strides[:2])):
                    order = (*(x for x in summed if x is not k), k)
                    ways.append(replace(start, lane=lane, inner=order, across=True))
            for rows in rest or [none]:
                found += [_tile(way, rest, rows, problem, machine) for way in ways]
    best = min(found, key=lambda x: x[0])[1]
    return _blocked(_even(best, threads), problem, machine, threads)


def _padded(loop: Loop, buffers: int) -> Loop:
    """The loop with a stride for every buffer; summed loops may leave out those of others."""
    return Loop(loop.size, (*loop.strides, *[0] * (buffers - len(loop.strides))))


def _forward(loop: Loop, offsets: list[int]) -> Loop:
    """The loop run the other way if most of its strides are negative."""
    if sum((s > 0) - (s < 0) for s in loop.strides) >= 0:
        return loop
    for k, stride in enumerate(loop.strides):
        offsets[k] += (loop.size - 1) * stride
    return Loop(loop.size, tuple(-s for s in loop.strides))


def merged(loops: Sequence[Loop]) -> list[Loop]:
    """Loops that follow each other in every buffer made one; those of one step left out."""
    left = [loop for loop in loops if loop.size != 1]
    while True:
        for one in left:
            after = tuple(s * one.size for s in one.strides)
            other = next((x for x in left if x is not one and x.strides == after), None)
            if other is not None:
                break
        else:
            return left
        left = [x for x in left if x is not one and x is not other]
        left.append(Loop(one.size * other.size, one.strides))


def _tile(start: Plan, rest: list[Loop], rows: Loop, problem: Contraction,
          machine: Machine) -> tuple[float, Plan]:  # fmt: skip
    """(cycles, plan) with these lanes and rows and the best tile."""
    lane, none = start.lane, start.whole
    others = [x for x in rest if x is not rows]
    whole = none
    if 1 < rows.size <= 8 and rows.strides[1] == 0:
        more = [x for x in others if x.strides[1] == 0 and x.strides[0] != 0]
        if more:
            whole, rows = rows, max(more, key=lambda x: x.size)
            others = [x for x in others if x is not rows]
    size = problem.dtype.itemsize
    widest = 4 if start.across else machine.lanes(problem.dtype)
    bits = (lane.size - 1 if machine.masks else lane.size).bit_length() - (not machine.masks)
    lanes = min(widest, 1 << bits)
    steps = entries(start.inner)
    if start.across and steps:
        along = start.inner[-1].size
        steps = steps // along * -(-along // machine.lanes(problem.dtype))
    gathers = not start.across and (
        lane.strides[0] not in (0, 1) or (lane.strides[1] not in (0, 1) and rows.strides[1] != 0)
    )
    far = sum(min(4.0, abs(s) * size / 256) for s in rows.strides)
    crowded = rows.strides[0] and rows.strides[0] * size % PAGE == 0
    crowded = crowded and not _packable(start.inner, [lane, whole, *others])
    best: tuple[float, int, int] | None = None
    for vectors in range(1, min(4, -(-lane.size // lanes)) + 1):
        width = vectors * lanes
        columns = min(width, lane.size) if start.across else vectors
        most = min((machine.registers - columns - 1) // columns, 2 if gathers else 28)
        for height in range(1, max(1, min(most // whole.size, rows.size)) + 1):
            runs = -(-rows.size // height)
            h = rows.size * whole.size / runs  # on average
            total = 0.0
            for count, wide in ((lane.size // width, width), (1, lane.size % width)):
                v = wide if start.across else -(-wide // lanes)
                loads = sum(
                    (h if rows.strides[k] else 1) * (v if lane.strides[k] else 1) for k in (0, 1)
                )
                step = max(h * v / 2, loads / 2, 0.5 if h * v < 8 else 4) + v / 4
                step += EVICTED * h if crowded and h > CROWD else 0
                ends = h * v * 3 if start.across else 0
                total += count * runs * (step * steps + 20 + ends + h * far) * (v > 0)
            if best is None or total < best[0]:
                best = total, vectors, runs
    assert best is not None
    cost, vectors, runs = best
    cost *= entries(others)
    outputs = entries([*rest, lane])
    cost += outputs * sum(
        1 / lanes if s in (0, 1) else 0.25 + min(4.0, abs(s) * size / 256) for s in lane.strides[2:]
    )
    made = replace(
        start, lanes=lanes, vectors=vectors, rows=rows, runs=Split(rows.size, runs), whole=whole,
        batch=tuple(sorted(others, key=lambda x: -max(map(abs, x.strides[:2])))),
    )  # fmt: skip
    if start.across:
        if start.inner[-1].strides[1] not in (0, 1):
            if rows.strides[1]:
                return float("inf"), made
            made = replace(made, packed=(False, True))
            cost += _packing(made, 1)
    else:
        if gathers:
            cost += outputs * entries(start.inner) * 2
        if lane.strides[1] not in (0, 1) and not rows.strides[1]:
            made = replace(made, packed=(False, True))
            cost += _packing(made, 1)
    return cost, made


def _packable(inner: Sequence[Loop], others: Sequence[Loop]) -> bool:
    """Whether the rows' operand is a matrix of rows and one summed loop: that can be packed."""
    return sum(x.strides[0] != 0 for x in inner) == 1 and not any(x.strides[0] for x in others)


def _imbalance(batch: int, runs: int, panels: float, threads: int) -> tuple[float, float]:
    """The last thread's time over the average, where runs of rows are split or panels are."""
    if threads == 1:
        return 1.0, 1.0
    return (
        -(-batch * runs // threads) * threads / (batch * runs),
        -(-batch * ceil(panels) // threads) * threads / (batch * panels),
    )


def _even(made: Plan, threads: int) -> Plan:
    """The plan with as many runs of rows as keep the threads evenly busy.

    A run keeps so many rows that its sums are not split in chains: the bits of a result are those
    of one thread.
    """
    least = -(-CHAINS // made.whole.size)

    def time(runs: int) -> float:
        split = _imbalance(entries(made.batch), runs, made.lane.size / made.width, threads)
        return (1 + 0.5 * runs / made.rows.size) * min(split)

    few = made.runs.parts
    more = [r for r in range(few + 1, 2 * few + 1) if made.rows.size // r >= least]
    return replace(made, runs=Split(made.rows.size, min([few, *more], key=time)))


def _packing(made: Plan, k: int) -> float:
    """Cycles of packing operand k."""
    inner = [x for x in made.inner if x.strides[k]]
    side = made.lane if k else made.rows
    count = entries([*(x for x in made.batch if x.strides[k]), *inner, side])
    if side.strides[k] == 1:
        return BARRIER + (0.3 if made.across else 0.1) * count
    return BARRIER + (0.3 if any(x.strides[k] == 1 for x in inner) else 2.0) * count


def _blocked(made: Plan, problem: Contraction, machine: Machine, threads: int) -> Plan:
    """The plan with its packing, blocks, parts, bands and order of loops."""
    size, steps = problem.dtype.itemsize, entries(made.inner)
    by_runs, by_panels = _imbalance(
        entries(made.batch), made.runs.parts, made.lane.size / made.width, threads
    )
    inside = by_runs < by_panels or (
        by_runs == by_panels and _entries_of(made, 1) * size <= machine.l2 / 4
    )
    if made.across or not made.inner or problem.flops <= 2 * SMALL:
        return replace(made, panels_inside=inside)
    lies = [_lies_badly(made, k, size, machine) for k in (0, 1)]
    alone = _packable(made.inner, [made.lane, made.whole, *made.batch])
    apart = min((abs(x.strides[1]) * size for x in made.inner if x.strides[1]), default=0)
    crowds = steps * (apart & -apart) / machine.l2  # lines of B's steps for each place in L2
    often = MANY if crowds <= steps / BRIEF else MANY // 4
    packed = (
        made.panels >= MANY and alone and lies[0],
        made.packed[1] or (made.runs.parts >= often and made.lane.strides[1] == 1 and lies[1]),
    )
    outermost = made.inner[0].size
    fit = steps * made.width * size / (machine.l2 / 4)
    if not packed[1] and lies[1]:
        fit = max(fit, ceil(crowds))
    if not packed[0] and made.panels >= 4 and not inside:  # then all of A is read for each panel
        fit = max(fit, _entries_of(made, 0) / entries(made.batch) * size / (machine.l2 / 2))
    blocks = min(outermost, max(1, round(fit)))
    parts = 1
    sums = entries([made.lane, made.rows, made.whole, *made.batch])
    if (
        sums <= PARTS * machine.registers * machine.lanes(problem.dtype)
        and steps >= LONG
        and outermost >= PARTS
    ):
        parts = PARTS
        blocks = min(outermost // PARTS, -(-blocks // PARTS)) * PARTS
    inside = inside and blocks == 1
    band = steps // blocks * made.runs.most * size * made.runs.parts
    bands = 1 if inside else round(band / max(machine.l2 / 2, machine.l3 / 8))
    return replace(
        made, packed=packed, blocks=Split(outermost, blocks), parts=parts,
        bands=Split(made.runs.parts, max(1, min(made.runs.parts, bands))), panels_inside=inside,
    )  # fmt: skip


def _entries_of(made: Plan, k: int) -> int:
    """Entries of operand k, counted once for every place where a step reads them."""
    loops = (made.lane, made.rows, made.whole, *made.batch, *made.inner)
    return entries(x for x in loops if x.strides[k])


def _lies_badly(made: Plan, k: int, size: int, machine: Machine) -> bool:
    """Whether tiles would read operand k from places that drive each other out of the cache."""
    apart = [abs(x.strides[k]) * size for x in made.inner if x.strides[k]]
    apart = [min(apart, default=0)]
    if k == 0 and made.runs.most >= CROWD:
        apart.append(abs(made.rows.strides[0]) * size)
    elif made.rows.strides[1]:
        return False
    large = _entries_of(made, k) * size > machine.l2 and max(apart) >= PAGE // 4
    conflict = any(gap and gap % (PAGE // 2 if k else PAGE) == 0 for gap in apart)
    return entries(made.inner) >= BRIEF and (large or conflict)
