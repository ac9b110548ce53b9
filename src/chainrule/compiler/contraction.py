"""Contractions as native code: products in any transposition, convolutions and their gradients.

`emit` writes a function that runs a nest of loops over A and B and hands every finished sum to an
epilogue, while it is in a register. `blocking.py` decides how, `tiles.py` has the inner loops,
`packing.py` copies operands that lie badly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import reduce
from typing import NamedTuple

from .blocking import PAGE, SMALL, Contraction, Loop, Piece, Plan, Split, entries, pieces, plan
from .ir import Function, Index, Module, Value, const, vector
from .machine import Machine
from .packing import packer
from .sharing import Sharing
from .tiles import Epilogue, Fetch, tile_sums

__all__ = ["Contraction", "Emitted", "Epilogue", "Loop", "emit"]

STRIP = 32
"""Steps that are copied for all panels before the next ones: so memory is read as it lies."""
INLINE = 300
"""Instructions of epilogues in a tile above which they run in a loop over its rows."""


class Emitted(NamedTuple):
    """void name(ptr A, ptr B, ptr other0, …, ptr scratch, i64 thread, ptr pool), internal."""

    name: str
    scratch: int
    """Bytes of scratch, aligned to 64, for all threads together."""
    flops: int
    parallel: str
    """How it is split over threads, in words."""
    summary: str
    """Tile, packing, blocking and order of loops, in words."""
    synchronous: bool
    """Whether threads wait for each other inside: then all of them must call it."""


def emit(module: Module, name: str, problem: Contraction, machine: Machine, epilogue: Epilogue,
         threads: int, barrier: str) -> Emitted:  # fmt: skip
    """Add the contraction to the module. All threads call it, with their number."""
    parameters = [("ptr noalias readonly", "A"), ("ptr noalias readonly", "B")]
    parameters += [("ptr", f"o{k}") for k in range(len(problem.others))]
    tail = [("ptr", "scratch"), ("i64", "thread"), ("ptr", "pool")]
    f = module.function(name, [*parameters, *tail])
    if entries(problem.outer) == 0:
        return Emitted(name, 0, 0, "no entries", "nothing to do", False)
    alone = threads == 1 or problem.flops <= 2 * SMALL
    at_work = 1 if alone else threads
    chosen = plan(problem, machine, at_work)
    writer = _Writer(f, problem, chosen, machine, epilogue, at_work)
    with ExitStack() as stack:
        if alone and threads > 1:
            stack.enter_context(f.when(f.cmp("eq", writer.thread, Value("0", "i64"))))
        synchronous = writer.write(barrier)
    return Emitted(name, writer.scratch, problem.flops, *writer.summary(), synchronous)


class _Operand(NamedTuple):
    """A or B as tiles read it, in place or packed: its address and strides."""

    base: Value
    batch: tuple[int, ...]
    panel: int
    row: int


class _Writer(Sharing):
    """One contraction being written."""

    def __init__(self, f: Function, problem: Contraction, chosen: Plan, machine: Machine,
                 epilogue: Epilogue, threads: int) -> None:  # fmt: skip
        super().__init__(f, problem.dtype, problem.others, threads)
        self.plan, self.machine, self.epilogue = chosen, machine, epilogue
        if chosen.swap:
            self.buffers[:2] = self.buffers[1::-1]
        self.buffers = [
            f.at(p, o, t)
            for p, o, t in zip(self.buffers, chosen.offsets, self.scalars, strict=True)
        ]
        self.large = problem.large
        self.kernels: dict[tuple[int, int], str] = {}
        self.blocked = chosen.blocks.parts > 1
        self.tile_size = chosen.runs.most * chosen.whole.size * chosen.width

    def write(self, barrier: str) -> bool:
        """The whole contraction; whether it has barriers."""
        p, f = self.plan, self.f
        operands = [self.operand(k) for k in (0, 1)]
        waits = self.threads > 1 and (any(p.packed) or p.parts > 1)
        if waits and any(p.packed):
            f.invoke(barrier, [self.pool])
        self.partial = self.room(p.parts * p.tiles * self.tile_size) if self.blocked else None
        batch = [x.size for x in p.batch]
        if p.bands.parts > 1:
            places = [*batch, p.bands.parts, p.panels]
        else:
            places = [*batch, *self.order(p.panels, p.runs.parts)]
        each = p.blocks.parts // p.parts

        def tiles(part: Index, block: Index, indices: list[Index]) -> None:
            *around, one, other = indices
            if p.bands.parts == 1:
                self.tile(operands, part, block, around, *self.order(one, other))
                return
            first, last = (_start(f, p.bands, f.add(one, k)) for k in (0, 1))
            with f.loop(first, last) as run:
                self.tile(operands, part, block, around, other, run)

        if p.parts == 1:
            with f.loop(0, each) as block:
                self.share(places, lambda indices: tiles(0, block, indices))
            return waits

        def sum_part(indices: list[Index]) -> None:
            with f.loop(0, each) as b:
                block = f.add(f.mul(indices[0], each), b)
                self.nest(places, [], lambda inside: tiles(indices[0], block, inside))

        self.share([p.parts], sum_part)
        if waits:
            f.invoke(barrier, [self.pool])
        self.share([*batch, p.panels, p.runs.parts], self.add_parts)
        return waits

    def order(self, panel: Index, run: Index) -> tuple[Index, Index]:
        """The two from the outer loop to the inner one (and back)."""
        return (run, panel) if self.plan.panels_inside else (panel, run)

    # -- loops ----------------------------------------------------------------------------------

    def heights(self) -> list[tuple[int, tuple[int, int]]]:
        """The kinds of runs: how many rows, and from which run to which."""
        runs = self.plan.runs
        return [(runs.most, (0, runs.long)), (runs.most - 1, (runs.long, runs.parts))]

    def widths(self) -> list[tuple[int, tuple[int, int]]]:
        """The kinds of panels: how many lanes count, and from which panel to which."""
        p = self.plan
        rest = p.lane.size - (p.panels - 1) * p.width
        if rest == p.width:
            return [(rest, (0, p.panels))]
        return [(p.width, (0, p.panels - 1)), (rest, (p.panels - 1, p.panels))]

    # -- memory ---------------------------------------------------------------------------------

    def summed(self, k: int, height: int) -> list[int]:
        """The strides of the summed loops in operand k, in tiles of so many rows."""
        p = self.plan
        if not p.packed[k]:
            return [x.strides[k] for x in p.inner]
        if p.across:
            return [*_dense(p.inner[:-1], k, p.lane.size * self.line)[0], 1]
        return _dense(p.inner, k, p.width if k else height)[0]

    def operand(self, k: int) -> _Operand:
        """Operand k as tiles read it, packed if the plan says so."""
        p = self.plan
        if not p.packed[k]:
            batch = tuple(x.strides[k] for x in p.batch)
            return _Operand(self.buffers[k], batch, p.width * p.lane.strides[k], p.rows.strides[k])
        if p.across:
            steps = entries(x for x in p.inner[:-1] if x.strides[k]) * self.line
            strides, size = _dense(p.batch, k, steps * p.lane.size)
            made = _Operand(self.room(size), tuple(strides), p.width * self.line, 0)
            self.pack_lines(made)
            return made
        steps = entries(x for x in p.inner if x.strides[k])
        side = p.panels * p.width if k else p.rows.size
        strides, size = _dense(p.batch, k, steps * side)
        made = _Operand(self.room(size), tuple(strides), steps * p.width * k, steps * (1 - k))
        self.pack(k, made)
        return made

    def pack(self, k: int, made: _Operand) -> None:
        """Copy operand k to where its tiles read it."""
        p, f = self.plan, self.f
        batch = [n for n, x in enumerate(p.batch) if x.strides[k]]
        inner = [n for n, x in enumerate(p.inner) if x.strides[k]]
        side = p.lane if k else p.rows
        fast = min(inner, key=lambda n: abs(p.inner[n].strides[k] - 1), default=None)
        how = "pick" if fast is None or p.inner[fast].strides[k] != 1 else "turn"
        if side.strides[k] == 1:
            how, fast = "copy", inner[-1] if inner else None
        around, loops = [n for n in inner if n != fast], [p.batch[n] for n in batch]
        kinds = self.widths() if k else self.heights()
        units = p.panels if k else p.runs.parts
        size, step = (p.inner[fast].size, p.inner[fast].strides[k]) if fast is not None else (1, 0)
        strips = -(-size // STRIP) if how == "copy" else 1

        def one(indices: list[Index]) -> None:
            strip, *indices = indices
            unit = indices[len(batch)]
            start = f.mul(unit, p.width) if k else _start(f, p.runs, unit)
            source = [(i, x.strides[k]) for i, x in zip(indices, loops, strict=False)]
            to = [(i, made.batch[n]) for i, n in zip(indices, batch, strict=False)]
            source.append((start, side.strides[k]))
            to.append((unit, made.panel) if k else (start, made.row))
            steps = indices[len(batch) + 1 :]
            source += [(i, p.inner[n].strides[k]) for i, n in zip(steps, around, strict=True)]
            first, many = f.mul(strip, STRIP), f.index(size)
            if strips > 1:
                left = f.index(f.sub(size, first))
                many = f.call("llvm.smin.i64", [left, f.index(STRIP)], "i64")
            source.append((first, step))
            at = f.at(self.buffers[k], f.affine(source), self.scalar)
            for count, among in kinds:
                with _within(f, [(unit, among, units)]) as some:
                    if some:
                        strides = self.summed(k, count)
                        inside = [(i, strides[n]) for i, n in zip(steps, around, strict=True)]
                        line = strides[fast] if fast is not None else 0
                        inside.append((first, line))
                        into = f.at(made.base, f.affine([*to, *inside]), self.scalar)
                        name = packer(f.module, self.machine, self.dtype, count, how)
                        numbers = count, many, line, step, side.strides[k]
                        f.invoke(name, [into, at, *map(f.index, numbers)])

        sizes = [strips, *(x.size for x in loops), units, *(p.inner[n].size for n in around)]
        self.share(sizes, one)

    @property
    def line(self) -> int:
        """Entries from line to line of an operand packed for lanes along the sum."""
        lanes = self.machine.vector_bytes // self.dtype.itemsize
        size = -(-self.plan.inner[-1].size // lanes) * lanes
        return size + lanes * (size * self.dtype.itemsize % PAGE == 0)

    def pack_lines(self, made: _Operand) -> None:
        """Copy the second operand to have the summed loop side by side, a line a column."""
        p, f = self.plan, self.f
        batch = [n for n, x in enumerate(p.batch) if x.strides[1]]
        inner = [n for n, x in enumerate(p.inner[:-1]) if x.strides[1]]
        strides = self.summed(1, 0)
        size, step = p.inner[-1].size, p.inner[-1].strides[1]

        def one(indices: list[Index]) -> None:
            loops = [*(p.batch[n] for n in batch), *(p.inner[n] for n in inner)]
            to = [*(made.batch[n] for n in batch), *(strides[n] for n in inner)]
            source = [(i, x.strides[1]) for i, x in zip(indices, loops, strict=True)]
            at = f.at(self.buffers[1], f.affine(source), self.scalar)
            into = f.at(made.base, f.affine([*zip(indices, to, strict=True)]), self.scalar)
            how = "turn" if p.lane.strides[1] == 1 else "pick"
            name = packer(f.module, self.machine, self.dtype, size, how)
            numbers = size, p.lane.size, self.line, p.lane.strides[1], step
            f.invoke(name, [into, at, *map(f.index, numbers)])

        self.share([*(p.batch[n].size for n in batch), *(p.inner[n].size for n in inner)], one)

    # -- tiles ----------------------------------------------------------------------------------

    def others(self, batch: Sequence[Index], panel: Index, start: Index) -> list[Value]:
        """Addresses in others of a tile's first entry."""
        p, f = self.plan, self.f
        at = self.buffers[2:]
        for loop, i in zip(p.batch, batch, strict=True):
            at = self.shift(f, at, i, loop.strides)
        at = self.shift(f, at, f.mul(panel, p.width), p.lane.strides)
        return self.shift(f, at, start, p.rows.strides)

    def partial_at(self, part: Index, batch: Sequence[Index], panel: Index, run: Index) -> Value:
        """Where the partial sums of a tile are."""
        p, f = self.plan, self.f
        place = part
        sizes = [*(x.size for x in p.batch), p.panels, p.runs.parts]
        for i, size in zip((*batch, panel, run), sizes, strict=True):
            place = f.add(f.mul(place, size), i)
        assert self.partial is not None
        return f.at(self.partial, f.mul(place, self.tile_size), self.scalar)

    def tile(self, operands: Sequence[_Operand], part: Index, block: Index,
             batch: Sequence[Index], panel: Index, run: Index) -> None:  # fmt: skip
        """The call of the kernel that makes this tile."""
        p, f = self.plan, self.f
        start = _start(f, p.runs, run)
        others = self.others(batch, panel, start)
        at = [
            f.at(x.base, f.affine([*zip(batch, x.batch, strict=True), (panel, x.panel),
                                   (start, x.row)]), self.scalar)
            for x in operands
        ]  # fmt: skip
        more: list[Value] = []
        if self.blocked:
            begin, end = (_start(f, p.blocks, f.add(block, k)) for k in (0, 1))
            each = p.blocks.parts // p.parts
            number = f.sub(block, f.mul(part, each))
            more = [self.partial_at(part, batch, panel, run)]
            more += map(f.index, (f.sub(end, begin), number))
        for height, rows in self.heights():
            for width, lanes in self.widths():
                inside = [(run, rows, p.runs.parts), (panel, lanes, p.panels)]
                with _within(f, inside) as some:
                    if some:
                        here = at
                        if self.blocked:
                            here = [
                                f.at(x, f.mul(begin, self.summed(k, height)[0]), self.scalar)
                                for k, x in enumerate(at)
                            ]
                        f.invoke(self.kernel(height, width), [*here, *others, *more])

    def kernel(self, height: int, active: int) -> str:
        """A function (A, B, others…) for a tile of so many runs of rows and so many lanes.

        Where the sum is in blocks also (partial, steps of the first summed loop, block's number).
        """
        key = height, active
        if key in self.kernels:
            return self.kernels[key]
        p, outer = self.plan, self.f
        self.kernels[key] = name = f"{outer.name}_{height}x{active}"
        given = [("ptr noalias readonly", "A"), ("ptr noalias readonly", "B")]
        given += [("ptr", f"o{k}") for k in range(len(self.scalars) - 2)]
        if self.blocked:
            given += [("ptr", "partial"), ("i64", "steps"), ("i64", "number")]
        f = outer.module.function(name, given, attributes="noinline nounwind")
        places = [(i, w) for i in range(height) for w in range(p.whole.size)]
        steps = [1 if p.packed[0] else p.rows.strides[0], p.rows.strides[1]]
        lane = [p.lane.strides[0], p.lane.strides[1]]
        if p.packed[1]:
            lane[1] = self.line if p.across else 1
        rows = [
            (i * steps[0] + w * p.whole.strides[0], i * steps[1] + w * p.whole.strides[1])
            for i, w in places
        ]
        strides = zip(self.summed(0, height), self.summed(1, height), strict=True)
        loops = [Loop(x.size, s) for x, s in zip(p.inner, strides, strict=True)]
        columns = pieces(active, p.lanes, self.machine.masks)
        widest = self.machine.lanes(self.dtype) if p.across else 0
        steps_given = f.parameters[-2] if self.blocked else None
        others = f.parameters[2 : len(self.scalars)]
        sums = tile_sums(
            f, self.scalar, rows, columns, lane, loops, widest, self.machine.masks, steps_given,
            self.fetch(f, others, height, active), p.blocks.least,
        )  # fmt: skip
        if not self.blocked:
            self.finish(f, sums, height, columns, others)
            return name
        sums = self.carried(f, sums, columns)
        if p.parts == 1:
            last = f.index(p.blocks.parts - 1)
            with f.when(f.cmp("eq", f.parameters[-1], last)):
                self.finish(f, sums, height, columns, others)
        return name

    def fetch(self, f: Function, others: Sequence[Value], height: int,
              active: int) -> Fetch | None:  # fmt: skip
        """What the epilogue of a tile will read and write of large buffers, a row at a time."""
        p = self.plan
        near = [k for k in self.large if p.lane.strides[2 + k] == 1 and p.rows.strides[2 + k]]
        if not near or p.whole.size > 1 or p.parts > 1:
            return None

        def row(i: Index) -> None:
            with ExitStack() as stack:
                if self.blocked:
                    last = f.index(p.blocks.parts - 1)
                    stack.enter_context(f.when(f.cmp("eq", f.parameters[-1], last)))
                at = self.shift(f, others, i, p.rows.strides)
                for k in near:
                    f.fetch(at[k], active, self.scalars[2 + k])

        return Fetch(height, row)

    def carried(self, f: Function, sums: list[list[Value]],
                columns: Sequence[Piece]) -> list[list[Value]]:  # fmt: skip
        """Sums of this block and those before it, put by unless it is the last."""
        p = self.plan
        partial, _, number = f.parameters[-3:]
        cells = [
            (f.slot(x.type, x), f.at(partial, i * p.width + c.start, self.scalar), x.type)
            for i, row in enumerate(sums)
            for x, c in zip(row, columns, strict=True)
        ]
        with f.when(f.cmp("ne", number, f.index(0))):
            for slot, at, type in cells:
                f.set(slot, f.op("fadd", f.load(at, type), f.get(slot, type)))
        values = [f.get(slot, type) for slot, _, type in cells]
        last = f.index(p.blocks.parts - 1 if p.parts == 1 else -1)
        with f.when(f.cmp("ne", number, last)):
            for x, (_, at, _) in zip(values, cells, strict=True):
                f.store(x, at)
        n = len(columns)
        return [values[i : i + n] for i in range(0, len(values), n)]

    def finish(self, f: Function, sums: list[list[Value]], height: int, columns: Sequence[Piece],
               others: Sequence[Value]) -> None:  # fmt: skip
        """The epilogue on the sums of a tile, in a loop over rows if it is long."""
        p = self.plan
        if len(sums) * len(columns) * self.length(columns[0].lanes) <= INLINE:
            for n, values in enumerate(sums):
                self.row(f, values, n // p.whole.size, n % p.whole.size, columns, others)
            return
        room = f.slot(f"[{len(sums) * p.width} x {self.scalar}]")
        for n, values in enumerate(sums):
            for x, c in zip(values, columns, strict=True):
                f.store(x, f.at(room, n * p.width + c.start, self.scalar))
        self.rows(f, [room], height, columns, others)

    def rows(self, f: Function, parts: Sequence[Value], height: int, columns: Sequence[Piece],
             others: Sequence[Value]) -> None:  # fmt: skip
        """The epilogue on sums in memory, first added up from all parts."""
        p = self.plan
        with f.loop(0, height) as i, f.loop(0, p.whole.size) as w:
            place = f.mul(f.add(f.mul(i, p.whole.size), w), p.width)
            values = []
            for c in columns:
                at = f.add(place, c.start)
                type = vector(self.scalar, c.lanes)
                found = [f.load(f.at(part, at, self.scalar), type) for part in parts]
                values.append(reduce(lambda x, y: f.op("fadd", x, y), found))
            self.row(f, values, i, w, columns, others)

    def row(self, f: Function, values: Sequence[Value], i: Index, w: Index,
            columns: Sequence[Piece], others: Sequence[Value]) -> None:  # fmt: skip
        """The epilogue on one row of a tile."""
        p = self.plan
        at = self.shift(f, self.shift(f, others, i, p.rows.strides), w, p.whole.strides)
        for x, c in zip(values, columns, strict=True):
            here = self.shift(f, at, c.start, p.lane.strides)
            self.epilogue(f, x, here, p.lane.strides[2:], c.active)

    def length(self, lanes: int) -> int:
        """How many instructions the epilogue has."""
        count = len(self.scalars) - 2
        trial = Function(self.f.module, "", [("ptr", f"o{k}") for k in range(count)], True, "")
        x = trial.load(trial.parameters[0], vector(self.scalar, lanes)) if count else (
            const(0, vector(self.scalar, lanes)))  # fmt: skip
        self.epilogue(trial, x, list(trial.parameters), self.plan.lane.strides[2:], lanes)
        return len(trial.lines)

    def add_parts(self, indices: list[Index]) -> None:
        """Add up the parts of a tile's sums and finish it."""
        p, f = self.plan, self.f
        *batch, panel, run = indices
        others = self.others(batch, panel, _start(f, p.runs, run))
        at = self.partial_at(0, batch, panel, run)
        for height, rows in self.heights():
            for width, lanes in self.widths():
                with _within(f, [(run, rows, p.runs.parts), (panel, lanes, p.panels)]) as some:
                    if some:
                        step = p.tiles * self.tile_size
                        parts = [f.at(at, k * step, self.scalar) for k in range(p.parts)]
                        columns = pieces(width, p.lanes, self.machine.masks)
                        self.rows(f, parts, height, columns, others)

    def summary(self) -> tuple[str, str]:
        """(how it is split over threads, how it is done), in words."""
        p = self.plan
        if self.threads == 1:
            split = "one thread alone"
        else:
            split = f"{p.parts} parts of the sum" if p.parts > 1 else "tiles"
        said = [f"tile of {p.runs.most * p.whole.size} rows x {p.width} columns"]
        said += ["operands swapped"] * p.swap + ["lanes along the sum"] * p.across
        names = ("B", "A") if p.swap else ("A", "B")
        said += [f"{name} packed" for name, k in zip(names, p.packed, strict=True) if k]
        if self.blocked:
            said.append(f"sum in {p.blocks.parts} blocks")
        if p.bands.parts > 1:
            said.append(f"rows in {p.bands.parts} bands")
        around = [x.size for x in p.batch]
        said.append(f"loops {[*around, *self.order(p.panels, p.runs.parts)]} over tiles")
        return split, ", ".join(said)


def _dense(loops: Sequence[Loop], k: int, step: int) -> tuple[list[int], int]:
    """Strides of loops without gaps, 0 where operand k does not move, and the size of it all."""
    strides: list[int] = []
    for loop in reversed(loops):
        strides.insert(0, step if loop.strides[k] else 0)
        step *= loop.size if loop.strides[k] else 1
    return strides, step


def _start(f: Function, split: Split, part: Index) -> Index:
    """Where a part starts."""
    if split.long == split.parts:
        return f.mul(part, split.most)
    longer = f.call("llvm.smin.i64", [part, f.index(split.long)], "i64")
    return f.add(f.mul(part, split.most - 1), longer)


@contextmanager
def _within(f: Function, ranges: Sequence[tuple[Index, Sequence[int], int]]) -> Iterator[bool]:
    """if start ≤ i < stop for each (i, (start, stop), count), 0 ≤ i < count; whether it can be."""
    tests = []
    for i, (start, stop), count in ranges:
        if start >= stop or (i.__class__ is int and not start <= i < stop):
            yield False
            return
        if i.__class__ is not int:
            tests += [f.cmp("sge", i, f.index(start))] if start > 0 else []
            tests += [f.cmp("slt", i, f.index(stop))] if stop < count else []
    with ExitStack() as stack:
        if tests:
            stack.enter_context(f.when(reduce(lambda x, y: f.op("and", x, y), tests)))
        yield True
