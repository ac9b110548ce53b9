"""Convolutions of 3×3 with 4/9 of the multiplications: Winograd's F(2×2, 3×3).

A square y of 2×2 outputs is a function of a square d of 4×4 inputs and the kernel g of 3×3:

    y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A,   summed over channels between the brackets,

16 multiplications where there were 36. Each of the 16 places is a product of matrices, (squares ×
channels) · (channels × outputs), and `contraction.emit` writes it. The gradient by weights is the
transpose: g = Gᵀ[(Bᵀ d B) ⊙ (A y Aᵀ)]G, summed over squares. (Lavin & Gray 2016, "Fast algorithms
for convolutional neural networks"; Winograd 1980, "Arithmetic complexity of computations".)

A convolution is known by its strides alone: two loops over pixels move in one operand like two
loops of three steps over taps. Work is done a few squares at a time, so that what lies between the
steps stays in the second cache. Entries of d are added before they are multiplied: ∞ - ∞ makes NaN,
and results are rounded relative to all of d. So squares of numbers are summed on the way, and what
has numbers in it that are not finite, or very large, is computed directly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np

from . import contraction
from .blocking import PAGE, PARTS, Contraction, Loop, Piece, merged, pieces
from .ir import Function, Index, Module, Value, const, vector
from .machine import Machine
from .sharing import Sharing
from .squares import AT, BT, GT, A, G, Matrix, add, loaded, store, transformed
from .tiles import Epilogue, lanes_of

LEAST = 8_000_000
"""Operations below which a convolution is computed directly."""
GAIN = 8
"""C·K / (C + K), for C channels and K outputs, from which the transforms are worth it."""
SQUARES = 40
"""Squares at a time that keep the products busy while they read the kernels."""
FEW = 20
"""Squares at a time below which a gradient by weights, which sums over them, takes longer."""
SHARES = 4
"""There are at least so many of such groups, if there can be: for threads."""
FLOAT = 4
"""Bytes of a number."""
HUGE = 1e12
"""The sum of squares of the numbers computed together from which they are large: the rounding of
one then shows in results that do not depend on it, and their products may overflow."""


@dataclass(frozen=True)
class Axis:
    """One axis of the pictures: the loop over pixels and the loop over taps."""

    pixel: Loop
    tap: Loop

    @property
    def squares(self) -> int:
        return self.pixel.size // 2


@dataclass(frozen=True)
class Convolution:
    """What a contraction is, if it is one. Strides are in the order (pictures, the other operand,
    others…): with `swap`, B are the pictures. The other operand are kernels; with `by_weights` it
    is the upstream gradient, and kernels are what is computed."""

    swap: bool
    by_weights: bool
    batch: Loop
    rows: Axis
    columns: Axis
    channel: Loop
    lane: Loop


def match(problem: Contraction, machine: Machine) -> Convolution | None:
    """The convolution that a contraction is, if this way is possible and the shorter one."""
    if problem.dtype != np.float32 or problem.flops < LEAST:
        return None
    for swap in (False, True):
        outer, inner = (
            [Loop(x.size, _turned(x.strides, 2 + len(problem.others), swap))
             for x in loops if x.size != 1]
            for loops in (problem.outer, problem.inner)
        )  # fmt: skip
        for by_weights in (False, True):
            found = _read(outer, inner, swap, by_weights)
            if found is not None and _worthwhile(found, machine):
                return found
    return None


def _turned(strides: tuple[int, ...], buffers: int, swap: bool) -> tuple[int, ...]:
    """A stride for each buffer, A's and B's exchanged if asked for."""
    a, b, *others = (*strides, *[0] * (buffers - len(strides)))
    return (b, a, *others) if swap else (a, b, *others)


def _read(outer: list[Loop], inner: list[Loop], swap: bool, by_weights: bool) -> Convolution | None:
    """The convolution that these loops are."""
    taps, pixels = (outer, inner) if by_weights else (inner, outer)
    axes = [
        Axis(p, t) for t in taps for p in pixels
        if t.size == 3 and t.strides[0] == p.strides[0] != 0 and p.size % 2 == 0
        and bool(t.strides[1]) != by_weights and bool(p.strides[1]) == by_weights
    ]  # fmt: skip
    used = {id(x) for axis in axes for x in (axis.pixel, axis.tap)}
    if len(axes) != 2 or len(used) != 4:
        return None
    rows, columns = sorted(axes, key=lambda x: -abs(x.pixel.strides[0]))
    outer, inner = ([x for x in loops if id(x) not in used] for loops in (outer, inner))
    lanes = [x for x in outer if x.strides[0] == 0 and x.strides[1] != 0]
    outer = [x for x in outer if x not in lanes]
    channels, batch = (outer, inner) if by_weights else (inner, outer)
    batch = merged(batch) or [Loop(1, (0,) * len(rows.pixel.strides))]
    if not (len(lanes) == len(channels) == len(batch) == 1 and channels[0].strides[0] == 1):
        return None
    (lane,), (channel,), (batch_,) = lanes, channels, batch
    if by_weights:
        fits = lane.strides[1] == 1 and channel.strides[1] == 0
    else:
        fits = channel.strides[1] != 0 and batch_.strides[1] == 0
    return Convolution(swap, by_weights, batch_, rows, columns, channel, lane) if fits else None


def _worthwhile(found: Convolution, machine: Machine) -> bool:
    c, k = found.channel.size, found.lane.size
    images, rows = _together(found, machine)
    if c * k < GAIN * (c + k):
        return False
    if found.by_weights and images * rows * found.columns.squares < FEW:
        return False
    copies = PARTS if found.by_weights else 2
    return copies * 16 * c * k * FLOAT <= machine.l3


def _together(found: Convolution, machine: Machine) -> tuple[int, int]:
    """How many pictures, and how many rows of squares of each, are computed together.

    As many squares as keep products busy, if they stay in the second cache and there is enough for
    several threads: the number of threads itself does not count, so bits do not depend on it.
    """
    lanes = machine.vector_bytes // FLOAT
    wide = sum(-(-x.size // lanes) * lanes for x in (found.channel, found.lane))
    most = machine.l2 // 2 // (16 * wide * FLOAT)
    columns, rows = found.columns.squares, found.rows.squares
    ways = [(1, n) for n in _divisors(rows)]
    ways += [(n, rows) for n in _divisors(found.batch.size)[1:]]
    shared = [w for w in ways if found.batch.size * rows >= SHARES * w[0] * w[1]] or ways[:1]
    fit = [w for w in shared if w[0] * w[1] * columns <= most]
    several = [w for w in fit if w[0] * w[1] * columns < 3 * SQUARES]
    busy = [w for w in shared if w[0] * w[1] * columns >= SQUARES]
    return (several or fit[:1])[-1] if fit else (busy or shared[-1:])[0]


def emit(module: Module, name: str, problem: Contraction, found: Convolution, machine: Machine,
         epilogue: Epilogue, threads: int, barrier: str) -> contraction.Emitted:  # fmt: skip
    """Add the convolution to the module, as `contraction.emit` does."""
    parameters = [("ptr noalias readonly", "A"), ("ptr noalias readonly", "B")]
    parameters += [("ptr", f"o{k}") for k in range(len(problem.others))]
    tail = [("ptr", "scratch"), ("i64", "thread"), ("ptr", "pool")]
    f = module.function(name, [*parameters, *tail])
    kind = _Weights if found.by_weights else _Pictures
    writer = kind(f, problem, found, machine, epilogue, threads, barrier)
    writer.write()
    said = f"3×3 by Winograd, 4/9 of the multiplications, {writer.squares} squares at a time"
    split = "tiles" if threads > 1 else "one thread alone"
    return contraction.Emitted(name, writer.scratch, problem.flops, split, said, threads > 1)


class _Writer(Sharing):
    """What both have in common: squares of pictures, products for each of their 16 places."""

    def __init__(self, f: Function, problem: Contraction, found: Convolution, machine: Machine,
                 epilogue: Epilogue, threads: int, barrier: str) -> None:  # fmt: skip
        super().__init__(f, problem.dtype, problem.others, threads)
        self.problem, self.c, self.machine = problem, found, machine
        self.epilogue, self.barrier = epilogue, barrier
        self.original = list(self.buffers)
        if found.swap:
            self.buffers[:2] = self.buffers[1::-1]
        self.lanes = machine.lanes(self.dtype)
        self.wide = [-(-x.size // self.lanes) * self.lanes for x in (found.channel, found.lane)]
        self.images, self.rows = _together(found, machine)
        self.squares = self.images * self.rows * found.columns.squares
        self.units = (found.batch.size // self.images, found.rows.squares // self.rows)
        sizes = {p.lanes for x in (found.channel, found.lane) for p in self._rest(x.size)}
        self.checked = {n: f.slot(vector(self.scalar, n)) for n in sorted({*sizes, self.lanes})}

    # -- vectors --------------------------------------------------------------------------------

    def _rest(self, size: int) -> list[Piece]:
        return pieces(size % self.lanes, self.lanes, self.machine.masks)

    def vectors(self, size: int, body: Callable[[Index, int, int], None]) -> None:
        """body(start, lanes, active) for vectors of a contiguous loop."""
        whole = size - size % self.lanes
        if whole:
            with self.f.loop(0, whole, self.lanes) as start:
                body(start, self.lanes, self.lanes)
        for p in self._rest(size):
            body(whole + p.start, p.lanes, p.active)

    def load(self, at: Value, stride: int, lanes: int, active: int) -> Value:
        return loaded(self.f, at, stride, self.scalar, lanes, active)

    # -- numbers that may spoil others ----------------------------------------------------------

    def clear(self) -> None:
        for lanes, slot in self.checked.items():
            self.f.set(slot, const(0, vector(self.scalar, lanes)))

    def check(self, square: Sequence[Sequence[Value]]) -> None:
        """Add up the squares of these numbers; in several chains, so that none is waited for."""
        f, chains = self.f, []
        for line in square:
            total = f.op("fmul", line[0], line[0])
            for x in line[1:]:
                total = f.fma(x, x, total)
            chains.append(total)
        slot = self.checked[total.lanes]
        total = reduce(lambda x, y: f.op("fadd", x, y), chains)
        f.set(slot, f.op("fadd", f.get(slot, total.type), total))

    def sum_checked(self) -> Value:
        """The sum of squares of all that was checked since."""
        f, total = self.f, const(0, self.scalar)
        for lanes, slot in self.checked.items():
            x = f.get(slot, vector(self.scalar, lanes))
            total = f.op("fadd", total, lanes_of(f, [x], 1))
        return total

    def small(self, total: Value) -> Value:
        """Whether a sum of squares is small enough; not, if it is NaN."""
        return self.f.cmp("olt", total, const(HUGE, self.scalar))

    def large(self, total: Value) -> Value:
        """The opposite of `small`."""
        return self.f.cmp("uge", total, const(HUGE, self.scalar))

    def sum_of(self, at: Value, count: int) -> Value:
        """The sum of so many numbers in memory."""
        f, total = self.f, self.f.slot(self.scalar, const(0, self.scalar))
        with f.loop(0, count) as k:
            x = f.load(f.at(at, k, self.scalar), self.scalar)
            f.set(total, f.op("fadd", f.get(total, self.scalar), x))
        return f.get(total, self.scalar)

    # -- squares --------------------------------------------------------------------------------

    def plane(self, rows: int, wide: int) -> int:
        """Entries from one of the 16 places to the next, so that they find place in a cache."""
        size = rows * wide
        return size + self.lanes * (size * self.dtype.itemsize % PAGE == 0)

    def each_square(self, body: Callable[[Index, Index, Index, Index], None]) -> None:
        """body(number, image, first row, first column) for the squares computed together."""
        f, across = self.f, self.c.columns.squares
        with (
            f.loop(0, self.images) as image,
            f.loop(0, self.rows) as row,
            f.loop(0, across) as column,
        ):
            number = f.add(f.mul(f.add(f.mul(image, self.rows), row), across), column)
            body(number, image, f.mul(row, 2), f.mul(column, 2))

    def begin(self, indices: Sequence[Index]) -> tuple[Index, Index]:
        """The first picture and the first row of a unit."""
        return self.f.mul(indices[0], self.images), self.f.mul(indices[1], 2 * self.rows)

    def move(self, at: Value, k: int, image: Index, row: Index, column: Index) -> Value:
        """The address in operand k of a pixel."""
        c = self.c
        loops = (c.batch, c.rows.pixel, c.columns.pixel)
        steps = zip((image, row, column), (x.strides[k] for x in loops), strict=True)
        return self.f.at(at, self.f.affine([*steps]), self.scalar)

    def squares_of(self, k: int, start: Value, to: Value, plane: int, matrix: Matrix) -> None:
        """M d Mᵀ for every square d of operand k, at its 16 places in `to`; checked."""
        f, c = self.f, self.c
        size, wide = (c.channel.size, c.lane.size)[k], self.wide[k]
        side = len(matrix[0])

        def square(number: Index, image: Index, row: Index, column: Index) -> None:
            at = self.move(start, k, image, row, column)

            def one(first: Index, lanes: int, active: int) -> None:
                here = f.at(at, first, self.scalar)
                into = f.at(to, f.add(f.mul(number, wide), first), self.scalar)
                found = [
                    [self.load(self.move(here, k, 0, i, j), 1, lanes, active) for j in range(side)]
                    for i in range(side)
                ]
                self.check(found)
                self.spread(transformed(f, matrix, found), into, plane)

            self.vectors(size, one)

        self.each_square(square)

    def spread(self, square: Sequence[Sequence[Value]], to: Value, plane: int) -> None:
        """A square of 4×4 to its 16 places."""
        for n, x in enumerate(x for line in square for x in line):
            self.f.store(x, self.f.at(to, n * plane, self.scalar))

    def gathered(self, at: Value, plane: int, lanes: int) -> list[list[Value]]:
        """A square of 4×4 from its 16 places."""
        f, type = self.f, vector(self.scalar, lanes)
        return [
            [f.load(f.at(at, (4 * i + j) * plane, self.scalar), type) for j in range(4)]
            for i in range(4)
        ]

    def finished(self, square: Sequence[Sequence[Value]],
                 place: Callable[[Index, Index], list[Value]], active: int) -> None:  # fmt: skip
        """The epilogue on a square of results, whose others are at place(i, j).

        It stands in a loop, which LLVM writes out where the epilogue is short.
        """
        f, side, type = self.f, len(square), square[0][0].type
        room = f.slot(f"[{side * side} x {type}]")
        for n, x in enumerate(x for line in square for x in line):
            f.store(x, f.at(room, n, type))
        with f.loop(0, side) as i, f.loop(0, side) as j:
            x = f.load(f.at(room, f.add(f.mul(i, side), j), type), type)
            self.epilogue(f, x, place(i, j), self.c.lane.strides[2:], active)

    # -- functions that are called --------------------------------------------------------------

    def product(self, problem: Contraction, epilogue: Epilogue, what: str, threads: int = 1
                ) -> Callable[..., None]:  # fmt: skip
        """A contraction that each thread computes alone, or all `threads` together; its call."""
        f = self.f
        name = f"{f.name}_{what}"
        made = contraction.emit(
            f.module, name, problem, self.machine, epilogue, threads, self.barrier
        )
        each = -(-made.scratch // 64) * 64
        alone = threads < self.threads
        size = (self.threads if alone else 1) * each // self.dtype.itemsize
        room = self.room(size) if size else None

        def call(*arguments: Value) -> None:
            scratch = Value("null", "ptr")
            if room is not None:
                scratch = f.at(room, f.mul(self.thread, each), "i8") if alone else room
            f.invoke(name, [*arguments, scratch, self.thread, self.pool])

        return call

    def directly(self, outer: Sequence[Loop], threads: int = 1) -> Callable[..., None]:
        """The contraction over other outer loops, as sums of the products themselves."""
        order = (1, 0) if self.c.swap else (0, 1)
        loops = [Loop(x.size, (*(x.strides[k] for k in order), *x.strides[2:])) for x in outer]
        problem = replace(self.problem, outer=tuple(loops), large=())
        return self.product(problem, self.epilogue, "direct", threads)

    def room_each(self, size: int) -> Value:
        """So many entries of scratch for each thread; this thread's."""
        size = -(-size // self.lanes) * self.lanes
        return self.f.at(self.room(self.threads * size), self.f.mul(self.thread, size), self.scalar)

    def wait(self) -> None:
        if self.threads > 1:
            self.f.invoke(self.barrier, [self.pool])


class _Pictures(_Writer):
    """Outputs of a convolution (or the gradient by its inputs, which is one)."""

    def write(self) -> None:
        f, c = self.f, self.c
        (wide_c, wide_k), t = self.wide, self.squares
        kernel_plane = self.plane(c.channel.size, wide_k)
        kernels, sums = self.room(16 * kernel_plane), self.room(c.channel.size)
        self.kernels(kernels, kernel_plane, sums)
        self.wait()
        in_kernels = self.sum_of(sums, c.channel.size)
        in_plane, out_plane = self.plane(t, wide_c), self.plane(t, wide_k)
        ins, outs = self.room_each(16 * in_plane), self.room_each(16 * out_plane)
        multiply = self.product(
            Contraction(
                (
                    Loop(16, (in_plane, kernel_plane, out_plane)),
                    Loop(t, (wide_c, 0, wide_k)),
                    Loop(c.lane.size, (0, 1, 1)),
                ),
                (Loop(c.channel.size, (1, wide_k)),), self.dtype, (self.dtype,),
            ),
            store, "product",
        )  # fmt: skip
        batch = Loop(self.images, c.batch.strides)
        rows = Loop(2 * self.rows, c.rows.pixel.strides)
        direct = self.directly([batch, rows, c.columns.pixel, c.lane])

        def unit(indices: list[Index]) -> None:
            image, row = self.begin(indices)
            pictures = self.move(self.buffers[0], 0, image, row, 0)
            others = self.place(self.buffers[2:], image, row, 0)
            self.clear()
            self.squares_of(0, pictures, ins, in_plane, BT)
            total = f.op("fadd", self.sum_checked(), in_kernels)
            with f.when(self.small(total)):
                multiply(ins, kernels, outs)
                self.each_square(lambda *place: self.outputs(outs, out_plane, others, *place))
            with f.when(self.large(total)):
                operands = [pictures, self.buffers[1]]
                direct(*(operands[::-1] if c.swap else operands), *others)

        self.share(self.units, unit)

    def place(self, at: Sequence[Value], image: Index, row: Index, column: Index) -> list[Value]:
        """Addresses in others of a pixel."""
        c = self.c
        for i, loop in ((image, c.batch), (row, c.rows.pixel), (column, c.columns.pixel)):
            at = self.shift(self.f, at, i, loop.strides)
        return list(at)

    def kernels(self, to: Value, plane: int, sums: Value) -> None:
        """G g Gᵀ for all kernels, shared by threads; for each channel a sum of squares."""
        f, c = self.f, self.c
        taps = c.rows.tap.strides[1], c.columns.tap.strides[1]

        def channel(indices: list[Index]) -> None:
            (i,) = indices
            at = f.at(self.buffers[1], f.mul(i, c.channel.strides[1]), self.scalar)

            def one(first: Index, lanes: int, active: int) -> None:
                here = f.at(at, f.mul(first, c.lane.strides[1]), self.scalar)
                into = f.at(to, f.add(f.mul(i, self.wide[1]), first), self.scalar)
                found = [
                    [
                        self.load(f.at(here, y * taps[0] + x * taps[1], self.scalar),
                                  c.lane.strides[1], lanes, active)
                        for x in range(3)
                    ]
                    for y in range(3)
                ]  # fmt: skip
                self.check(found)
                self.spread(transformed(f, G, found), into, plane)

            self.clear()
            self.vectors(c.lane.size, one)
            f.store(self.sum_checked(), f.at(sums, i, self.scalar))

        self.share([c.channel.size], channel)

    def outputs(self, sums: Value, plane: int, others: Sequence[Value], number: Index,
                image: Index, row: Index, column: Index) -> None:  # fmt: skip
        """Aᵀ[…]A and the epilogue for one square."""
        f, c = self.f, self.c
        at = self.place(others, image, row, column)

        def one(first: Index, lanes: int, active: int) -> None:
            here = f.at(sums, f.add(f.mul(number, self.wide[1]), first), self.scalar)
            square = transformed(f, AT, self.gathered(here, plane, lanes))
            beside = self.shift(f, at, first, c.lane.strides)
            self.finished(square, lambda i, j: self.place(beside, 0, i, j), active)

        self.vectors(c.lane.size, one)


class _Weights(_Writer):
    """The gradient by weights, in parts: each a run of units of its own."""

    def write(self) -> None:
        f, c = self.f, self.c
        (wide_c, wide_k), t = self.wide, self.squares
        units = self.units[0] * self.units[1]
        parts = min(PARTS, units)
        plane = self.plane(c.channel.size, wide_k)
        kernels, sums = self.room(parts * 16 * plane), self.room(parts)
        planes = self.plane(t, wide_c), self.plane(t, wide_k)
        squares = [self.room_each(16 * p) for p in planes]
        multiply = self.product(
            Contraction(
                (
                    Loop(16, (*planes, plane)),
                    Loop(c.channel.size, (1, 0, wide_k)),
                    Loop(c.lane.size, (0, 1, 1)),
                ),
                (Loop(t, (wide_c, wide_k)),), self.dtype, (self.dtype,),
            ),
            add, "product",
        )  # fmt: skip
        taps = [c.rows.tap, c.columns.tap]
        direct = self.directly([*taps, c.channel, c.lane], self.threads)

        def part(indices: list[Index]) -> None:
            (n,) = indices
            own = f.at(kernels, f.mul(n, 16 * plane), self.scalar)
            with f.loop(0, 16 * plane, self.lanes) as k:
                zero = const(0, vector(self.scalar, self.lanes))
                f.store(zero, f.at(own, k, self.scalar))
            first, last = (
                f.op("sdiv", f.index(f.mul(f.add(n, k), units)), f.index(parts)) for k in (0, 1)
            )
            worst = f.slot(self.scalar, const(0, self.scalar))
            with f.loop(first, last) as unit, f.when(self.small(f.get(worst, self.scalar))):
                each = f.index(self.units[1])
                image, row = self.begin([f.op("sdiv", unit, each), f.op("srem", unit, each)])
                self.clear()
                for k, matrix in ((0, BT), (1, A)):
                    start = self.move(self.buffers[k], k, image, row, 0)
                    self.squares_of(k, start, squares[k], planes[k], matrix)
                total = self.sum_checked()
                with f.when(self.large(total)):
                    f.set(worst, total)
                with f.when(self.small(total)):
                    multiply(*squares, own)
            f.store(f.get(worst, self.scalar), f.at(sums, n, self.scalar))

        self.share([parts], part)
        self.wait()
        total = self.sum_of(sums, parts)
        with f.when(self.small(total)):
            self.share([c.channel.size], lambda i: self.finish(i[0], kernels, plane, parts))
        with f.when(self.large(total)):
            direct(*self.original)

    def finish(self, channel: Index, kernels: Value, plane: int, parts: int) -> None:
        """Gᵀ[…]G of the sum of all parts, and the epilogue, for one channel."""
        f, c = self.f, self.c
        others = self.shift(f, self.buffers[2:], channel, c.channel.strides)

        def one(first: Index, lanes: int, active: int) -> None:
            at = f.at(kernels, f.add(f.mul(channel, self.wide[1]), first), self.scalar)
            square = self.gathered(at, plane, lanes)
            for n in range(1, parts):
                more = self.gathered(f.at(at, n * 16 * plane, self.scalar), plane, lanes)
                square = [
                    [f.op("fadd", x, y) for x, y in zip(*lines, strict=True)]
                    for lines in zip(square, more, strict=True)
                ]
            beside = self.shift(f, others, first, c.lane.strides)

            def place(i: Index, j: Index) -> list[Value]:
                row = self.shift(f, beside, i, c.rows.tap.strides)
                return self.shift(f, row, j, c.columns.tap.strides)

            self.finished(transformed(f, GT, square), place, active)

        self.vectors(c.lane.size, one)


def _divisors(n: int) -> list[int]:
    return [k for k in range(1, n + 1) if n % k == 0]


__all__ = ["Convolution", "emit", "match"]
