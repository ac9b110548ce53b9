"""LLVM IR as text: a module, its functions, and a builder that writes one instruction a call.

Only text is made here; `native.py` turns it into machine code. Variables that change in loops are
`slot`s (allocas): LLVM's first pass makes registers of them, so nobody writes phi nodes by hand.
Indices are Python integers where they are known, else i64 values; arithmetic on them folds.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

Index = Any  # int | Value of type i64

SCALARS = {
    "f": "float", "d": "double", "?": "i8", "b": "i8", "B": "i8", "h": "i16", "H": "i16",
    "i": "i32", "I": "i32", "l": "i64", "L": "i64", "q": "i64", "Q": "i64",
}  # fmt: skip
"""The type of an entry in memory, by NumPy's letter; a bool is a byte 0 or 1."""


class Value(NamedTuple):
    """A value of a function (or a constant) and its type, both as LLVM writes them."""

    name: str
    type: str

    @property
    def lanes(self) -> int:
        """The number of entries; 1 for a scalar."""
        return int(self.type[1 : self.type.index(" x ")]) if self.type[0] == "<" else 1

    @property
    def scalar(self) -> str:
        """The type of one entry."""
        return self.type[self.type.index(" x ") + 3 : -1] if self.type[0] == "<" else self.type


def scalar_type(dtype: Any) -> str:
    """The LLVM type of an entry of this dtype in memory."""
    return SCALARS[np.dtype(dtype).char]


def vector(scalar: str, lanes: int) -> str:
    """The type of so many entries together; the scalar type itself for one."""
    return scalar if lanes == 1 else f"<{lanes} x {scalar}>"


BITS = {
    "i1": 1, "i8": 8, "i16": 16, "i32": 32, "i64": 64, "i128": 128, "float": 32, "double": 64,
}  # fmt: skip


def literal(value: Any, scalar: str) -> str:
    """A number as LLVM writes a constant of this scalar type; floats by their bits."""
    if scalar == "float":
        return f"0x{struct.unpack('<Q', struct.pack('<d', float(np.float32(value))))[0]:016X}"
    if scalar == "double":
        return f"0x{struct.unpack('<Q', struct.pack('<d', float(value)))[0]:016X}"
    number = int(value)
    bits = BITS[scalar]
    if bits == 1:
        return "true" if number else "false"
    number &= (1 << bits) - 1
    return str(number - (1 << bits) if number >> (bits - 1) else number)


def const(value: Any, type: str) -> Value:
    """A constant of a scalar or vector type; a vector has the number in every lane."""
    if type[0] != "<":
        return Value(literal(value, type), type)
    scalar = Value("", type).scalar
    one = f"{scalar} {literal(value, scalar)}"
    return Value(f"<{', '.join([one] * Value('', type).lanes)}>", type)


def const_vector(values: Sequence[Any], scalar: str) -> Value:
    """A constant vector of these numbers."""
    entries = ", ".join(f"{scalar} {literal(v, scalar)}" for v in values)
    return Value(f"<{entries}>", f"<{len(values)} x {scalar}>")


def mask(active: int, lanes: int) -> Value:
    """The first `active` of `lanes` lanes."""
    return const_vector([k < active for k in range(lanes)], "i1")


class Module:
    """Functions, declarations and constant tables, by name; each stands once."""

    def __init__(self) -> None:
        self.functions: dict[str, Function] = {}
        self.declared: dict[str, str] = {}
        self.constants: dict[str, str] = {}
        self.shared: dict[Any, str] = {}
        """Names of functions already made, by what they do: for those who make equal ones."""

    def declare(self, name: str, result: str, arguments: Sequence[str]) -> None:
        """A function from elsewhere (an intrinsic, the C library)."""
        self.declared[name] = f"declare {result} @{name}({', '.join(arguments)})"

    def verbatim(self, name: str, text: str) -> None:
        """A function that is written out by hand."""
        self.declared[name] = text

    def table(self, array: Any) -> Value:
        """A pointer to a constant array in the module."""
        array = np.ascontiguousarray(array)
        scalar = scalar_type(array.dtype)
        entries = ", ".join(f"{scalar} {literal(v, scalar)}" for v in array.reshape(-1).tolist())
        text = f"private unnamed_addr constant [{array.size} x {scalar}] [{entries}], align 64"
        for name, known in self.constants.items():
            if known == text:
                return Value(name, "ptr")
        name = f"@table{len(self.constants)}"
        self.constants[name] = text
        return Value(name, "ptr")

    def function(
        self, name: str, parameters: Sequence[tuple[str, str]], *, internal: bool = True,
        attributes: str = "",
    ) -> Function:  # fmt: skip
        """A new function without result; parameters are (type with attributes, name)."""
        if name in self.functions:
            raise AssertionError(f"function {name} stands twice")
        made = Function(self, name, parameters, internal, attributes)
        self.functions[name] = made
        return made

    def __str__(self) -> str:
        parts = [f"{name} = {text}" for name, text in self.constants.items()]
        parts += [str(f) for f in self.functions.values()]
        parts += [text for name, text in self.declared.items() if name not in self.functions]
        return "\n".join(parts) + "\n"


class Function:
    """A function being written; also the builder of its instructions."""

    def __init__(self, module: Module, name: str, parameters: Sequence[tuple[str, str]],
                 internal: bool, attributes: str) -> None:  # fmt: skip
        self.module, self.name = module, name
        self.parameters = [Value(f"%{p}", t.split()[0]) for t, p in parameters]
        listed = ", ".join(f"{t} %{p}" for t, p in parameters)
        linkage = "internal " if internal else ""
        self.head = f"define {linkage}void @{name}({listed}) {attributes}".rstrip()
        self.slots: list[str] = []
        self.lines: list[str] = []
        self.count = 0
        self.block = "entry"

    def __str__(self) -> str:
        body = [f"{self.head} {{", "entry:", *self.slots, "  br label %start", "start:"]
        return "\n".join([*body, *self.lines, "  ret void", "}"])

    # -- instructions ---------------------------------------------------------------------------

    def emit(self, text: str) -> None:
        """One line as it stands."""
        self.lines.append("  " + text)

    def make(self, text: str, type: str) -> Value:
        """A new value from the right-hand side of an instruction."""
        self.count += 1
        name = f"%v{self.count}"
        self.lines.append(f"  {name} = {text}")
        return Value(name, type)

    def op(self, opcode: str, x: Value, y: Value) -> Value:
        """A binary instruction, such as "fadd", "and", "lshr", with its flags before the type."""
        return self.make(f"{opcode} {x.type} {x.name}, {y.name}", x.type)

    def fneg(self, x: Value) -> Value:
        return self.make(f"fneg {x.type} {x.name}", x.type)

    def cmp(self, predicate: str, x: Value, y: Value) -> Value:
        """icmp or fcmp by the type: "slt", "eq", "olt", "une" …; i1 in each lane."""
        kind = "fcmp" if x.scalar in ("float", "double") else "icmp"
        return self.make(f"{kind} {predicate} {x.type} {x.name}, {y.name}", vector("i1", x.lanes))

    def select(self, condition: Value, x: Value, y: Value) -> Value:
        return self.make(
            f"select {condition.type} {condition.name}, {x.type} {x.name}, {y.type} {y.name}",
            x.type,
        )

    def cast(self, opcode: str, x: Value, scalar: str) -> Value:
        """sext, zext, trunc, sitofp, fptosi, fpext, bitcast … to another scalar type."""
        type = vector(scalar, x.lanes)
        return self.make(f"{opcode} {x.type} {x.name} to {type}", type)

    def call(self, name: str, arguments: Sequence[Value], result: str) -> Value:
        """A call of a declared function or intrinsic (with its full name)."""
        self.module.declare(name, result, [a.type for a in arguments])
        listed = ", ".join(f"{a.type} {a.name}" for a in arguments)
        if result == "void":
            self.emit(f"call void @{name}({listed})")
            return Value("", "void")
        return self.make(f"call {result} @{name}({listed})", result)

    def invoke(self, function: str, arguments: Sequence[Value]) -> None:
        """A call of a function of this module that returns nothing."""
        listed = ", ".join(f"{a.type} {a.name}" for a in arguments)
        self.emit(f"call void @{function}({listed})")

    def intrinsic(self, name: str, *arguments: Value) -> Value:
        """An intrinsic overloaded on the type of its operands: "llvm.fabs", "llvm.fmuladd" …"""
        x = arguments[0]
        short = {"float": "f32", "double": "f64"}.get(x.scalar, x.scalar)
        suffix = short if x.lanes == 1 else f"v{x.lanes}{short}"
        return self.call(f"{name}.{suffix}", arguments, x.type)

    def fma(self, x: Value, y: Value, z: Value) -> Value:
        """x·y + z, in one rounding where the machine can."""
        return self.intrinsic("llvm.fmuladd", x, y, z)

    def splat(self, x: Value, lanes: int) -> Value:
        """A scalar in every lane."""
        if lanes == 1:
            return x
        type = vector(x.type, lanes)
        if not x.name.startswith("%"):
            return Value(f"<{', '.join([f'{x.type} {x.name}'] * lanes)}>", type)
        one = self.make(f"insertelement {type} poison, {x.type} {x.name}, i32 0", type)
        zeros = vector("i32", lanes)
        return self.make(
            f"shufflevector {type} {one.name}, {type} poison, {zeros} zeroinitializer", type
        )

    def shuffle(self, x: Value, y: Value | None, places: Sequence[int]) -> Value:
        """Lanes of x (and of y, counted on) in another order."""
        other = f"{x.type} {y.name}" if y is not None else f"{x.type} poison"
        order = const_vector(places, "i32")
        return self.make(
            f"shufflevector {x.type} {x.name}, {other}, {order.type} {order.name}",
            vector(x.scalar, len(places)),
        )

    def extract(self, x: Value, lane: int) -> Value:
        return self.make(f"extractelement {x.type} {x.name}, i32 {lane}", x.scalar)

    # -- memory ---------------------------------------------------------------------------------

    def at(self, pointer: Value, index: Index, scalar: str) -> Value:
        """The address of an entry of an array."""
        if index.__class__ is int:
            if index == 0:
                return pointer
            index = Value(str(index), "i64")
        return self.make(f"getelementptr {scalar}, ptr {pointer.name}, i64 {index.name}", "ptr")

    def load(self, pointer: Value, type: str, active: int | None = None) -> Value:
        """Entries from an address on; the first `active` lanes only, 0 in the others."""
        x = Value("", type)
        align = BITS.get(x.scalar, 64) // 8
        if active is None or active == x.lanes:
            return self.make(f"load {type}, ptr {pointer.name}, align {align}", type)
        m = mask(active, x.lanes)
        short = {"float": "f32", "double": "f64"}.get(x.scalar, x.scalar)
        name = f"llvm.masked.load.v{x.lanes}{short}.p0"
        self.module.declare(name, type, ["ptr", "i32", m.type, type])
        return self.make(
            f"call {type} @{name}(ptr {pointer.name}, i32 {align}, {m.type} {m.name}, "
            f"{type} zeroinitializer)",
            type,
        )

    def masked_load(self, pointer: Value, type: str, inside: Value) -> Value:
        """Entries from an address on in the lanes of a mask; nothing is read in the others, 0."""
        x = Value("", type)
        short = {"float": "f32", "double": "f64"}.get(x.scalar, x.scalar)
        name = f"llvm.masked.load.v{x.lanes}{short}.p0"
        self.module.declare(name, type, ["ptr", "i32", inside.type, type])
        return self.make(
            f"call {type} @{name}(ptr {pointer.name}, i32 {BITS[x.scalar] // 8}, "
            f"{inside.type} {inside.name}, {type} zeroinitializer)",
            type,
        )

    def store(self, x: Value, pointer: Value, active: int | None = None) -> None:
        """Write entries from an address on; the first `active` lanes only."""
        align = BITS.get(x.scalar, 64) // 8
        if active is None or active == x.lanes:
            self.emit(f"store {x.type} {x.name}, ptr {pointer.name}, align {align}")
            return
        m = mask(active, x.lanes)
        short = {"float": "f32", "double": "f64"}.get(x.scalar, x.scalar)
        name = f"llvm.masked.store.v{x.lanes}{short}.p0"
        self.module.declare(name, "void", [x.type, "ptr", "i32", m.type])
        self.emit(
            f"call void @{name}({x.type} {x.name}, ptr {pointer.name}, i32 {align}, "
            f"{m.type} {m.name})"
        )

    def masked_store(self, x: Value, pointer: Value, inside: Value) -> None:
        """Write entries from an address on in the lanes of a mask."""
        short = {"float": "f32", "double": "f64"}.get(x.scalar, x.scalar)
        name = f"llvm.masked.store.v{x.lanes}{short}.p0"
        self.module.declare(name, "void", [x.type, "ptr", "i32", inside.type])
        self.emit(
            f"call void @{name}({x.type} {x.name}, ptr {pointer.name}, i32 {BITS[x.scalar] // 8}, "
            f"{inside.type} {inside.name})"
        )

    def fetch(self, pointer: Value, count: int, scalar: str) -> None:
        """Bring so many entries from an address on into the second cache. It never fails."""
        self.module.declare("llvm.prefetch.p0", "void", ["ptr", "i32", "i32", "i32"])
        for start in range(0, count, 512 // BITS[scalar]):  # a cache line is 64 bytes
            at = self.at(pointer, start, scalar)
            self.emit(f"call void @llvm.prefetch.p0(ptr {at.name}, i32 0, i32 2, i32 1)")

    def slot(self, type: str, start: Value | None = None) -> Value:
        """A variable of this function; LLVM keeps it in a register. A pointer to it."""
        self.count += 1
        name = f"%s{self.count}"
        self.slots.append(f"  {name} = alloca {type}")
        pointer = Value(name, "ptr")
        if start is not None:
            self.set(pointer, start)
        return pointer

    def get(self, slot: Value, type: str) -> Value:
        return self.make(f"load {type}, ptr {slot.name}", type)

    def set(self, slot: Value, x: Value) -> None:
        self.emit(f"store {x.type} {x.name}, ptr {slot.name}")

    # -- indices: integers fold -----------------------------------------------------------------

    def index(self, i: Index) -> Value:
        """An index as an i64 value."""
        return Value(str(i), "i64") if i.__class__ is int else i

    def add(self, i: Index, j: Index) -> Index:
        if i.__class__ is int and j.__class__ is int:
            return i + j
        if i.__class__ is int and i == 0:
            return j
        if j.__class__ is int and j == 0:
            return i
        return self.op("add nsw", self.index(i), self.index(j))

    def sub(self, i: Index, j: Index) -> Index:
        if i.__class__ is int and j.__class__ is int:
            return i - j
        if j.__class__ is int and j == 0:
            return i
        return self.op("sub nsw", self.index(i), self.index(j))

    def mul(self, i: Index, j: Index) -> Index:
        if i.__class__ is int and j.__class__ is int:
            return i * j
        for one, other in ((i, j), (j, i)):
            if one.__class__ is int and one in (0, 1):
                return other if one else 0
        return self.op("mul nsw", self.index(i), self.index(j))

    def affine(self, terms: Sequence[tuple[Index, int]], offset: Index = 0) -> Index:
        """offset + Σ index·stride; what is known comes last, so that equal sums look equal."""
        total: Index = 0
        for i, stride in terms:
            term = self.mul(i, stride)
            if term.__class__ is int and offset.__class__ is int:
                offset += term
            else:
                total = self.add(total, term)
        return self.add(total, offset)

    # -- control --------------------------------------------------------------------------------

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")
        self.block = name

    @contextmanager
    def loop(self, start: Index, stop: Index, step: Index = 1) -> Iterator[Index]:
        """for i in range(start, stop, step), step > 0. Known single steps make no loop."""
        known = all(x.__class__ is int for x in (start, stop, step))
        if known and start + step >= stop > start:
            yield start
            return
        self.count += 1
        n = self.count
        i = Value(f"%i{n}", "i64")
        first, last, by = self.index(start), self.index(stop), self.index(step)
        self.emit(f"br label %p{n}")
        self.label(f"p{n}")
        self.emit(f"%z{n} = icmp slt i64 {first.name}, {last.name}")
        self.emit(f"br i1 %z{n}, label %l{n}, label %x{n}")
        self.label(f"l{n}")
        self.emit(f"{i.name} = phi i64 [{first.name}, %p{n}], [%n{n}, %b{n}]")
        yield i
        self.emit(f"br label %b{n}")
        self.label(f"b{n}")
        self.emit(f"%n{n} = add nsw i64 {i.name}, {by.name}")
        self.emit(f"%c{n} = icmp slt i64 %n{n}, {last.name}")
        self.emit(f"br i1 %c{n}, label %l{n}, label %x{n}")
        self.label(f"x{n}")

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """if condition: …"""
        self.count += 1
        n = self.count
        self.emit(f"br i1 {condition.name}, label %t{n}, label %e{n}")
        self.label(f"t{n}")
        yield
        self.emit(f"br label %e{n}")
        self.label(f"e{n}")
