"""Kernels in order, barriers between them, memory for what they pass on: the step as a whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import numpy as np

from . import contraction, winograd
from .block import Block
from .emit import Emitted, emit_loops
from .ir import Function, Index, Module, Value, const
from .kernels import (
    Affine,
    Buffer,
    Call,
    Kernel,
    Load,
    Loops,
    Product,
    Repeat,
    Store,
    Symbol,
    at,
    loads_of,
)
from .machine import Machine
from .runtime import emit_barrier

ALIGN = 64
BY_SERIAL = attrgetter("serial")
"""An order of buffers that is the same each time: one graph, one program."""


@dataclass(eq=False)
class Piece:
    """A kernel as it is called: its function, or the pieces of a loop's body."""

    kernel: Kernel
    name: str
    serial: bool
    pointers: list[tuple[Buffer, Affine]] = field(default_factory=list)
    sequential: list[Symbol] = field(default_factory=list)
    scratch: Buffer | None = None
    barrier: bool = False
    """Whether all threads wait for each other before it."""
    body: list[Piece] = field(default_factory=list)
    reads: set[Buffer] = field(default_factory=set)
    writes: set[Buffer] = field(default_factory=set)


class Program:
    """The pieces of a step. `pairs` are captured and assigned buffers that may be one memory."""

    def __init__(
        self, kernels: Sequence[Kernel], pairs: dict[Buffer, Buffer], machine: Machine, threads: int
    ) -> None:
        self.machine, self.threads, self.pairs = machine, threads, pairs
        self.module = Module()
        self.barrier_name = emit_barrier(self.module, threads)
        self.kernels = order(kernels, pairs)
        self._functions: dict[tuple[str, ...], str] = {}
        self.same = {**pairs, **{b: a for a, b in pairs.items()}}
        self.pieces = [self._piece(k, f"kernel{n}") for n, k in enumerate(self.kernels)]
        self._barriers(self.pieces)
        self.spans = plan_memory(self.pieces, threads)
        self.arena = max((b.start + b.nbytes for b in self.spans), default=0)

    # -- functions of kernels -------------------------------------------------------------------

    def _piece(self, kernel: Kernel, name: str) -> Piece:
        piece = Piece(kernel, name, kernel.serial, reads=kernel.reads(), writes=kernel.writes())
        kernel.name, known = name, len(self.module.functions)
        if isinstance(kernel, Loops):
            both = piece.reads | piece.writes
            aliased = {b for b in both if self.same.get(b) in both}
            made: Emitted = emit_loops(
                self.module, name, kernel, self.machine, self.threads, aliased
            )
            piece.pointers = [(b, Affine()) for b in made.buffers]
            piece.sequential = made.sequential
        elif isinstance(kernel, Product):
            self._product(piece, kernel)
        elif isinstance(kernel, Repeat):
            piece.body = [self._piece(k, f"{name}_{n}") for n, k in enumerate(kernel.body)]
            piece.serial = all(p.serial for p in piece.body)
            return piece
        piece.name = kernel.code = self._once(name, list(self.module.functions)[known:])
        return piece

    def _once(self, name: str, made: Sequence[str]) -> str:
        """The function of a kernel, or an equal one that is there already: layers repeat."""
        own = [n for n in made if n == name or n.startswith(f"{name}_")]
        itself = re.compile(rf"@{name}(?![0-9])")
        text = tuple(itself.sub("@", str(self.module.functions[n])) for n in own)
        found = self._functions.setdefault(text, name)
        if found != name:
            for n in own:
                del self.module.functions[n]
        return found

    def _product(self, piece: Piece, kernel: Product) -> None:
        """The function of a contraction; other buffers come to it as addresses of entry 0."""
        accesses: dict[tuple[Buffer, Affine], None] = {}
        for x in loads_of(kernel.stores):
            accesses[x.buffer, x.address] = None
        for s in kernel.stores:
            accesses[s.buffer, s.address] = None
        others = list(accesses)
        outer = [
            contraction.Loop(n, (a, b, *(address.stride(s) for _, address in others)))
            for (s, n), (a, b) in zip(kernel.loops, kernel.strides, strict=True)
        ]
        inner = [contraction.Loop(n, (a, b, *(0,) * len(others))) for n, a, b in kernel.inner]
        problem = contraction.Contraction(
            tuple(outer), tuple(inner), kernel.dtype, tuple(b.dtype for b, _ in others),
            self._large(others),
        )  # fmt: skip

        def epilogue(f: Function, acc: Value, pointers: list[Value], strides: tuple[int, ...],
                     active: int) -> None:  # fmt: skip
            block = Block(f, self.machine, {}, {}, None, acc.lanes, active)
            block.accumulated = acc
            block.others = {
                key: (p, s) for key, p, s in zip(others, pointers, strides, strict=True)
            }
            block.store_all(kernel.stores)

        around = self.machine, epilogue, self.threads, self.barrier_name
        found = winograd.match(problem, self.machine)
        if found is None:
            made = contraction.emit(self.module, piece.name, problem, *around)
        else:
            made = winograd.emit(self.module, piece.name, problem, found, *around)
        kernel.summary = f"{made.parallel}; {made.summary}"
        piece.serial = "alone" in made.parallel
        own = {s for s, _ in kernel.loops}

        def base(address: Affine) -> Affine:
            return Affine(tuple(t for t in address.terms if t[0] not in own), address.offset)

        piece.pointers = [(kernel.first.buffer, kernel.first.base)]
        piece.pointers += [(kernel.second.buffer, kernel.second.base)]
        piece.pointers += [(b, base(address)) for b, address in others]
        if made.scratch:
            piece.scratch = Buffer(BYTE, made.scratch, name="scratch")
            piece.writes = piece.writes | {piece.scratch}

    def _large(self, others: Sequence[tuple[Buffer, Affine]]) -> tuple[int, ...]:
        """The numbers of those that are not in a cache near by, each place in memory once."""
        found: dict[tuple[Buffer, Affine], int] = {}
        for k, (buffer, address) in enumerate(others):
            before = self.same.get(buffer), address
            if buffer.nbytes > self.machine.l2 / 8 and before not in found:
                found.setdefault((buffer, address), k)
        return tuple(found.values())

    # -- barriers -------------------------------------------------------------------------------

    def _barriers(self, pieces: Sequence[Piece]) -> bool:
        """Decide before which pieces threads wait; whether any of these runs on several."""
        if self.threads == 1:
            return False
        pending: list[Piece] = []
        several = False
        for piece in pieces:
            if piece.body:
                self._barriers(piece.body)
            if any(self._conflict(p, piece) for p in pending):
                piece.barrier = True
                pending = []
            pending.append(piece)
            several = several or not piece.serial
        return several

    def _conflict(self, first: Piece, second: Piece) -> bool:
        if first.serial and second.serial:
            return False
        reads, writes = self._both(second.reads), self._both(second.writes)
        twice = {b for b in first.writes & writes if not b.joined}
        return bool(twice) or bool(first.writes & reads) or bool(first.reads & writes)

    def _both(self, buffers: set[Buffer]) -> set[Buffer]:
        return buffers | {self.same[b] for b in buffers if b in self.same}

    # -- the step -------------------------------------------------------------------------------

    def emit_step(self, slots: dict[Buffer, int], raw: set[int], arena: int,
                  clocks: bool = False) -> None:  # fmt: skip
        """Add `void step(ptr table, i64 thread, ptr pool)`.

        `slots` says which entry of the table a buffer has; entries in `raw` are addresses, others
        objects whose address of data stands 16 bytes in. Entry `arena` is the arena's address.
        With `clocks` the processor's clock is written to the entry after it, before and after each
        piece.
        """
        step = [("ptr", "table"), ("i64", "thread"), ("ptr", "pool")]
        f = self.module.function("step", step, internal=False)
        self._thread, self._pool = f.parameters[1:]
        self._table, self._slots, self._raw = f.parameters[0], slots, raw
        self._known: dict[int, Value] = {}
        self._arena = self._entry(f, arena)
        self._clock = self._entry(f, arena + 1) if clocks else None
        for number in sorted(set(slots.values())):
            self._entry(f, number)
        self._tick(f, 0)
        for n, piece in enumerate(self.pieces):
            self._call(f, piece, {})
            self._tick(f, n + 1)

    def _tick(self, f: Function, place: int) -> None:
        if self._clock is None:
            return
        with f.when(f.cmp("eq", self._thread, const(0, "i64"))):
            now = f.call("llvm.readcyclecounter", [], "i64")
            f.store(now, f.at(self._clock, place, "i64"))

    def _entry(self, f: Function, number: int) -> Value:
        if number not in self._known:
            value = f.load(f.at(self._table, number, "ptr"), "ptr")
            if number not in self._raw:
                value = f.load(f.at(value, DATA, "i8"), "ptr")
            self._known[number] = value
        return self._known[number]

    def pointer(self, f: Function, buffer: Buffer, base: Affine, indices: dict[Symbol, Index]
                ) -> Value:  # fmt: skip
        """The address of an entry."""
        if buffer.slot is None:
            start = f.at(self._arena, buffer.start, "i8")
        elif buffer.slot[0] == "table":
            start = f.module.table(self.tables[buffer.slot[1]])
        else:
            start = self._known[self._slots[buffer]]
        offset = f.affine([(indices[s], a) for s, a in base.terms], base.offset)
        return f.at(start, f.mul(offset, buffer.dtype.itemsize), "i8")

    tables: list[Any]

    def _call(self, f: Function, piece: Piece, indices: dict[Symbol, Index]) -> None:
        if piece.barrier:
            f.invoke(self.barrier_name, [self._pool])
        kernel = piece.kernel
        if isinstance(kernel, Repeat):
            if piece.serial and self.threads > 1:
                with f.when(f.cmp("eq", self._thread, const(0, "i64"))):
                    self._repeat(f, piece, kernel, indices)
            else:
                self._repeat(f, piece, kernel, indices)
            return
        if isinstance(kernel, Call):
            with f.when(f.cmp("eq", self._thread, const(0, "i64"))):
                self._python(f, kernel, indices)
            return
        arguments = [self.pointer(f, b, a, indices) for b, a in piece.pointers]
        if isinstance(kernel, Product):
            scratch = piece.scratch
            arguments.append(
                Value("null", "ptr") if scratch is None
                else f.at(self._arena, scratch.start, "i8")
            )  # fmt: skip
            arguments += [self._thread, self._pool]
        else:
            arguments += [f.index(indices[s]) for s in piece.sequential]
            arguments.append(self._thread)
        f.invoke(piece.name, arguments)

    def _repeat(self, f: Function, piece: Piece, kernel: Repeat, indices: dict[Symbol, Index]
                ) -> None:  # fmt: skip
        with f.loop(0, kernel.length) as i:
            step = f.sub(kernel.length - 1, i) if kernel.reverse else i
            parity = i & 1 if i.__class__ is int else f.op("and", i, const(1, "i64"))
            inside = {**indices, kernel.step: step, kernel.parity: parity}
            for p in piece.body:
                self._call(f, p, inside)
            if self.threads > 1 and not piece.serial:
                f.invoke(self.barrier_name, [self._pool])

    def _python(self, f: Function, kernel: Call, indices: dict[Symbol, Index]) -> None:
        """Call Python; where in its loops the program is stands in memory."""
        number, places = self.calls[kernel]
        for k, s in enumerate(sequential_of(kernel)):
            f.store(f.index(indices[s]), f.at(self._entry(f, places), k, "i64"))
        address = self._entry(f, number)
        f.emit(f"call void {address.name}()")

    calls: dict[Call, tuple[int, int]]


DATA = 16
"""Where in a NumPy array object the address of its data stands (checked in executable.py)."""
BYTE = np.dtype(np.uint8)


def sequential_of(kernel: Call) -> list[Symbol]:
    """The symbols of loops around a call."""
    views = [x[0] for x in kernel.inputs if isinstance(x, tuple)] + [v for v, _ in kernel.outputs]
    return sorted({s for v in views for s, _ in v.base.terms})


# -- order -------------------------------------------------------------------------------------


def order(kernels: Sequence[Kernel], pairs: dict[Buffer, Buffer]) -> list[Kernel]:
    """The kernels so that a variable is overwritten after all have read it.

    `pairs` maps the buffer a variable is read from to the one it is written to. Where that cannot
    be, the new value goes through memory of its own.
    """
    kernels = list(kernels)
    copies: list[Kernel] = []

    def through(source: Buffer) -> None:
        """The new value lies in memory of its own, for all who write and read it; then a copy."""
        own = pairs[source]
        assert own.slot is not None
        pairs[source] = target = Buffer(own.dtype, own.size, own.slot, own.name)
        symbol = -1 - own.slot[1]
        own.slot = None
        store = Store(target, at(symbol), Load(own.dtype, own, at(symbol)))
        nodes = next(k for k in reversed(kernels) if own in k.writes()).nodes[-1:]
        copies.append(Loops(list(nodes), loops=[(symbol, own.size)], stores=[store]))

    for source, target in list(pairs.items()):
        if not all(_in_place(k, source, target) for k in kernels if target in k.writes()):
            through(source)
    while True:
        kernels_ = [*kernels, *copies]
        before: list[set[int]] = [set() for _ in kernels_]
        writers: dict[Buffer, list[int]] = {}
        readers: dict[Buffer, list[int]] = {}
        for n, k in enumerate(kernels_):
            for b in k.reads():
                before[n].update(writers.get(b, ()))
            for b in k.writes():
                before[n].update(writers.get(b, ()))
            for b in k.writes():
                writers.setdefault(b, []).append(n)
            for b in k.reads():
                readers.setdefault(b, []).append(n)
        for source, target in pairs.items():
            for n in writers.get(target, ()):
                before[n].update(r for r in readers.get(source, ()) if r != n)
        found = _sorted(before)
        if len(found) == len(kernels_):
            return [kernels_[n] for n in found]
        stuck = [n for n in range(len(kernels_)) if n not in found]
        for source, target in pairs.items():  # one of them overwrites a variable too early
            if any(n < len(kernels) and target in kernels[n].writes() for n in stuck):
                through(source)
                break
        else:
            raise AssertionError("kernels wait for each other")


def _sorted(before: Sequence[set[int]]) -> list[int]:
    """Numbers in order, each after those it waits for; without those that wait in a circle."""
    import heapq

    waiting = [set(b) for b in before]
    after: list[list[int]] = [[] for _ in before]
    for n, b in enumerate(before):
        for m in b:
            after[m].append(n)
    ready = [n for n, b in enumerate(waiting) if not b]
    heapq.heapify(ready)
    found = []
    while ready:
        n = heapq.heappop(ready)
        found.append(n)
        for m in after[n]:
            waiting[m].discard(n)
            if not waiting[m]:
                heapq.heappush(ready, m)
    return found


def _in_place(kernel: Kernel, source: Buffer, target: Buffer) -> bool:
    """Whether a kernel that overwrites a variable reads of it only the entry it overwrites."""
    if source not in kernel.reads():
        return True
    if isinstance(kernel, Product):
        if source in (kernel.first.buffer, kernel.second.buffer):
            return False
    elif not isinstance(kernel, Loops):
        return False
    addresses = {s.address for s in kernel.stores if s.buffer is target}
    plain = not any(s.add or s.tables or s.guards for s in kernel.stores if s.buffer is target)
    loads = [x for x in loads_of(kernel.stores) if x.buffer is source]
    return plain and all({x.address} == addresses and not x.tables for x in loads)


# -- memory ------------------------------------------------------------------------------------


def plan_memory(pieces: Sequence[Piece], threads: int) -> dict[Buffer, tuple[int, int]]:
    """Give each buffer of the arena its place, shared by those that are never needed together.

    Returns the phases, first to last, in which each is needed.

    Between two barriers everything is needed together; so is all that a loop touches.
    """
    phases: list[list[Piece]] = []
    for piece in pieces:
        if piece.barrier or not phases:
            phases.append([])
        phases[-1].append(piece)
    number: dict[Piece, int] = {}
    for phase in phases:  # pieces of one thread run one after the other
        alone = threads == 1 or all(p.serial for p in phase)
        for piece in phase:
            number[piece] = max(number.values(), default=-1) + 1 if alone else number.get(
                phase[0], max(number.values(), default=-1) + 1
            )  # fmt: skip
    spans: dict[Buffer, tuple[int, int]] = {}
    for piece in pieces:
        n = number[piece]
        for b in touched(piece):
            if b.slot is None:
                first, _ = spans.get(b, (n, n))
                spans[b] = (first, n)
    placed: list[Buffer] = []
    for b in sorted(spans, key=lambda b: (-b.nbytes, spans[b])):
        busy = sorted(
            (p.start, p.start + p.nbytes) for p in placed
            if spans[p][0] <= spans[b][1] and spans[b][0] <= spans[p][1]
        )  # fmt: skip
        start = 0
        for low, high in busy:
            if start + b.nbytes <= low:
                break
            start = max(start, -(-high // ALIGN) * ALIGN)
        b.start = start
        placed.append(b)
    return spans


def touched(piece: Piece) -> Iterable[Buffer]:
    """Every buffer that a piece reads or writes."""
    yield from sorted(piece.reads | piece.writes, key=BY_SERIAL)
    for p in piece.body:
        yield from touched(p)


__all__ = ["Piece", "Program"]
