"""A graph as native code: built once, run on arrays."""

from __future__ import annotations

import ctypes
import struct
import time
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from ..core.graph import Graph
from ..core.types import size_of
from ..errors import CompileError
from . import cache, native, runtime
from .describe import Kernels, Memory, Profile
from .fingerprint import fingerprint, sources
from .kernels import Buffer, Call, Kernel, Repeat, View
from .lower import lower
from .machine import Machine
from .parts import in_parts
from .passes import Standing, simplify
from .peak import fma_peak
from .program import ALIGN, DATA, Program, sequential_of

Array = np.ndarray[Any, Any]


def address_of(array: Array) -> int:
    return int(array.ctypes.data)


def _data_stands_there() -> bool:
    """Whether the address of an array's data can be read from the array object itself."""
    probe = np.zeros(3)
    return ctypes.c_void_p.from_address(id(probe) + DATA).value == probe.ctypes.data


KINDS = ("input", "captured", "output", "assigned")
"""The arrays of a call, in order."""
HEADER = struct.Struct("<qqq")
"""What the cache keeps beside code: threads, bytes of the arena, entries of the table."""
BRIEF = 2_000_000
"""Operations of a step below which it runs on one thread: a few microseconds."""
BY_OBJECT = _data_stands_there()
ENTRY: Callable[[Array], int] = id if BY_OBJECT else address_of
"""What the table holds of an array: the object, if the step itself can read where its data lies."""


class Seen:
    """An array at an address, which may have others before it (NumPy's array interface)."""

    def __init__(self, address: int, shape: tuple[int, ...], dtype: np.dtype[Any],
                 strides: tuple[int, ...]) -> None:  # fmt: skip
        self.__array_interface__ = {
            "version": 3, "data": (address, False), "shape": shape, "typestr": dtype.str,
            "strides": tuple(s * dtype.itemsize for s in strides),
        }  # fmt: skip


def owned(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method in which every error of another kind is a mistake of the compiler, and said so."""

    @wraps(method)
    def run(self: Any, *args: Any) -> Any:
        try:
            return method(self, *args)
        except (CompileError, MemoryError):
            raise
        except Exception as error:
            raise CompileError(
                "this program could not be made native code, by a mistake in chainrule "
                f"({type(error).__name__}: {error}); please report it. The function without "
                "cr.compile (f.__wrapped__; in training compiled=False, --eager) does the same"
            ) from error

    return run


class Executable:
    """A graph compiled for a machine."""

    @owned
    def __init__(self, graph: Graph, machine: Machine) -> None:
        self.standing: Standing = {}
        """What became of each gate of the graph that came in."""
        self.graph, self.machine = simplify(graph, self.standing), machine
        graph = self.graph
        self._first: dict[str, int] = {}
        self._places: list[slice] = []
        self._arrays = 0
        groups: list[Sequence[Any]] = [
            graph.inputs, graph.captured, graph.outputs, graph.assignments,
        ]  # fmt: skip
        for kind, group in zip(KINDS, groups, strict=True):
            self._first[kind] = self._arrays
            self._arrays += len(group)
            self._places.append(slice(self._first[kind], self._arrays))
        self._callbacks: list[runtime.Callback] = []
        self._entries: dict[int, int] = {}
        self._keep: list[Any] = []
        self._program: Program | None = None
        self._timed: native.Library | None = None
        self._version: int | None = None
        self._current: Sequence[Array] = ()
        """The arrays of a run, for gates in Python; not held longer, so others can count on it."""
        self.sample: list[list[Array]] | None = None
        """If it is a list, the next run leaves copies of its arrays in it, for a profile."""
        text = None if runtime.nested() else fingerprint(graph)
        key = None if text is None else cache.key_of(text, repr(machine), sources())
        kept = None if key is None else cache.get(key)
        if kept is not None:
            self.threads, arena, self._size = HEADER.unpack_from(kept)
            code = kept[HEADER.size :]
        else:
            arena = self.program.arena
            code = native.object_code(self.llvm, machine)
            if key is not None and not self._entries:
                cache.put(key, HEADER.pack(self.threads, arena, self._size) + code)
        self._library = native.Library(code, machine)
        memory = np.empty(arena + ALIGN, np.uint8)
        start = -address_of(memory) % ALIGN
        self._arena = memory[start : start + arena]
        self._table = (ctypes.c_void_p * (self._size + 2))()  # arena, and clocks of a profile
        for place, value in self._entries.items():
            self._table[place] = value
        self._table[self._size] = address_of(memory) + start
        self._table_address = ctypes.addressof(self._table)
        self._step = runtime.prepare(self._library.address("step"), self.threads, self._callbacks)

    @property
    def native(self) -> tuple[int, int]:
        """The addresses of the step and of its table, as the last run has left it."""
        return self._library.address("step"), self._table_address

    @property
    def calls_python(self) -> bool:
        """Whether gates run in Python on the way, where an interrupt or an error may end a step."""
        return bool(self._callbacks)

    @property
    @owned
    def program(self) -> Program:
        """The kernels in order, with barriers and memory; made when it is needed first."""
        if self._program is not None:
            return self._program
        graph = self.graph
        kernels, block = lower(graph)
        pairs: dict[Buffer, Buffer] = {}
        captured = {id(tensor): leaf for tensor, leaf in graph.captured}
        for k, (variable, _) in enumerate(graph.assignments):
            if id(variable) in captured:
                leaf = captured[id(variable)]
                pairs[block.views[leaf].buffer] = block.slots["assigned", k]
        threads = 1 if runtime.nested() else threads_for(kernels, self.machine)
        program = Program(in_parts(kernels, block.symbols), pairs, self.machine, threads)
        self.threads = 1 if all(p.serial for p in program.pieces) else threads
        program.tables = self._constants = block.constants
        self._lay_out(program)
        program.emit_step(*self._layout)
        self._program = program
        return program

    def _lay_out(self, program: Program) -> None:
        """The table that a step gets: the arrays of the call, then constants and callbacks."""
        total = self._arrays
        raw: set[int] = set() if BY_OBJECT else set(range(total))
        slots: dict[Buffer, int] = {}
        entries: dict[int, int] = {}
        kernels = every(program.kernels)
        known: dict[int, int] = {}
        for b in (b for k in kernels for b in k.reads() | k.writes()):
            if b.slot is None or b.slot[0] == "table" or b in slots:
                continue
            kind, k = b.slot
            if kind == "constant":
                if k not in known:
                    known[k], total = total, total + 1
                    entries[known[k]] = address_of(self._constants[k])
                slots[b] = known[k]
            else:
                slots[b] = self._first[kind] + k
        program.calls = {}
        for kernel in kernels:
            if isinstance(kernel, Call):
                places = np.zeros(max(1, len(sequential_of(kernel))), np.int64)
                callback = runtime.make_callback(self._caller(kernel, places))
                self._callbacks.append(callback)
                self._keep.append(places)
                entries[total], entries[total + 1] = callback.address, address_of(places)
                program.calls[kernel] = (total, total + 1)
                total += 2
        self._entries, self._slots, self._size = entries, slots, total
        self._layout = (slots, raw | {*entries, total, total + 1}, total)

    def run(
        self, inputs: list[Array], captured: list[Array], outputs: list[Array],
        assigned: list[Array], *, version: int | None = None,
    ) -> None:  # fmt: skip
        """Run the step; the first two lists are read, the others written.

        With the version that was given the last time, `captured` and `assigned` are as they were.
        """
        table, places = self._table, self._places
        table[places[0]] = list(map(ENTRY, inputs))
        table[places[2]] = list(map(ENTRY, outputs))
        if version is None or version != self._version:
            self._version = None  # an interrupt may come in between
            table[places[1]] = list(map(ENTRY, captured))
            table[places[3]] = list(map(ENTRY, assigned))
            self._version = version
        if self.sample is not None:
            self.sample = [[a.copy() for a in x] for x in (inputs, captured, outputs, assigned)]
        if not self._callbacks:
            self._step(self._table_address)
            return
        self._current = [*inputs, *captured, *outputs, *assigned]
        try:
            self._step(self._table_address)
        finally:
            self._current = ()

    # -- what was made ------------------------------------------------------------------------

    @property
    def llvm(self) -> str:
        """The code as LLVM IR."""
        return str(self.program.module)

    @property
    def kernels(self) -> Kernels:
        """The loop nests, with their costs."""
        return Kernels(self.program.kernels)

    @property
    def memory(self) -> Memory:
        """The plan of the arena."""
        return Memory(list(self.program.spans), self.program.spans, self.program.arena)

    @property
    def assembly(self) -> str:
        """The machine code as text."""
        return native.assembly(self.llvm, self.machine)

    def profile(self, repeats: int = 50) -> Profile:
        """Seconds by kernel on the sample that a run has left, the best of `repeats`."""
        copies, self.sample = self.sample, None
        if not copies:
            raise CompileError("a profile needs the arrays of a run: set sample to [], run")
        best = self.clocks(copies, repeats).min(0)
        whole = []
        for _ in range(repeats):
            begin = time.perf_counter()
            self.run(*copies)
            whole.append(time.perf_counter() - begin)
        scale = min(whole) / max(1, int(best.sum()))  # clocks to seconds
        peak = fma_peak(self.machine, np.dtype(np.float32))
        return Profile(
            self.program.kernels, (best * scale).tolist(), min(whole), peak, self.threads
        )

    def clocks(self, arrays: Sequence[list[Array]], repeats: int) -> Array:
        """Processor clocks spent in each piece, (repeats, pieces), on the first thread."""
        module, pieces = self.program.module, self.program.pieces
        if self._timed is None:
            plain = module.functions.pop("step")
            self.program.emit_step(*self._layout, clocks=True)
            text = str(module)
            module.functions["step"] = plain
            self._timed = native.Library(native.object_code(text, self.machine), self.machine)
        ticks = np.zeros(len(pieces) + 1, np.int64)
        self._table[self._layout[2] + 1] = address_of(ticks)
        plain_step = self._step
        self._step = runtime.prepare(self._timed.address("step"), self.threads, self._callbacks)
        try:
            found = np.empty((repeats, len(pieces)), np.int64)
            for k in range(repeats):
                self.run(*arrays)
                found[k] = np.diff(ticks)
        finally:
            self._step = plain_step
        return found

    def _caller(self, kernel: Call, places: Array) -> Any:
        """What runs a gate in Python, on views of the buffers."""
        node = kernel.node
        symbols = sequential_of(kernel)

        def array(view: View, shape: tuple[int, ...]) -> Array:
            buffer, base, strides = view
            at = base.offset + sum(a * int(places[symbols.index(s)]) for s, a in base.terms)
            size = buffer.dtype.itemsize
            if buffer.slot is None:
                memory: Any = self._arena
                at = at * size + buffer.start
            elif buffer.slot[0] in ("table", "constant"):
                memory, at = self._constants[buffer.slot[1]], at * size
            else:
                memory, at = self._current[self._slots[buffer]], at * size
            if not size_of(shape):
                return np.empty(shape, buffer.dtype)
            if buffer.slot is not None and buffer.slot[0] == "constant":
                return np.asarray(Seen(address_of(memory) + at, shape, buffer.dtype, strides))
            flat = memory.reshape(-1).view(np.uint8)
            return np.ndarray(shape, buffer.dtype, flat.data, at, tuple(s * size for s in strides))

        def call() -> None:
            values = [array(*x) if isinstance(x, tuple) else x for x in kernel.inputs]
            assert node.primitive is not None
            found = node.primitive.forward(*values, **(node.params or {}))
            results = found if isinstance(found, tuple) else (found,)
            for (view, shape), result in zip(kernel.outputs, results, strict=True):
                array(view, shape)[...] = result

        return call


def threads_for(kernels: Sequence[Kernel], machine: Machine) -> int:
    """One thread where the whole step is brief, else all there are."""
    work = sum(k.flops for k in kernels)
    return machine.threads if work > BRIEF else 1


def every(kernels: Sequence[Kernel]) -> list[Kernel]:
    """Kernels, also those inside of loops."""
    found: list[Kernel] = []
    for k in kernels:
        found.append(k)
        if isinstance(k, Repeat):
            found += every(k.body)
    return found
