"""Expressions of a kernel as LLVM IR, at one point of its loops; and reductions.

Reductions keep several partial results, so that additions overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.types import size_of
from . import elementwise
from .ir import Function, Index, Value, const, const_vector, mask, scalar_type, vector
from .kernels import (
    Accumulated,
    Affine,
    Apply,
    Buffer,
    Const,
    Expression,
    Guard,
    Load,
    Position,
    Random,
    Reduce,
    Store,
    Symbol,
    Where,
    walk,
)
from .machine import Machine

UNROLL = 4
FEW = 9
"""Terms of a reduction that are written out."""
Dtype = np.dtype[Any]


class Block:
    """Code at one point of the loops: expressions already computed here, `lanes` at a time.

    `along` is the vector symbol; `active` counts the lanes in use. Blocks inside a loop start from
    what is known outside.
    """

    def __init__(
        self, f: Function, machine: Machine, pointers: dict[Buffer, Value],
        indices: dict[Symbol, Index], along: Symbol | None, lanes: int, active: int,
        outer: Block | None = None,
    ) -> None:  # fmt: skip
        self.f, self.machine, self.pointers, self.indices = f, machine, pointers, indices
        self.along, self.lanes, self.active = along, lanes, active
        self.known: dict[tuple[int, int], Value] = {}
        if outer is not None and outer.along == along and outer.lanes == lanes:
            self.known.update(outer.known)
        self.vary: dict[int, bool] = {} if outer is None or outer.along != along else outer.vary
        self.accumulated: Value | None = None
        self.others: dict[tuple[Buffer, Affine], tuple[Value, int]] = {}

    # -- expressions ----------------------------------------------------------------------------

    def varies(self, x: Expression) -> bool:
        """Whether the value depends on the vector symbol."""
        if id(x) not in self.vary:
            for y in walk([x]):
                self._vary(y)
        return self.vary[id(x)]

    def _vary(self, x: Expression) -> None:
        """`varies`, where it is known for all operands."""
        if id(x) not in self.vary:
            s = self.along
            own = False
            if isinstance(x, Load) and (x.buffer, x.address) in self.others:
                own = self.others[x.buffer, x.address][1] != 0
            elif isinstance(x, Load):
                own = bool(x.address.stride(s)) if s is not None else False
                own = own or any(g.position.stride(s) for g in x.guards) if s is not None else False
                own = own or any(self.varies(i) for _, i, _ in x.tables)
            elif isinstance(x, Apply):
                own = any(self.varies(a) for a in x.args)
            elif isinstance(x, Where):
                own = self.varies(x.x) or (
                    s is not None and any(g.position.stride(s) for g in x.guards)
                )
            elif isinstance(x, Reduce):
                own = self.varies(x.x)
            elif isinstance(x, Random):
                own = (s is not None and bool(x.position.stride(s))) or any(
                    self.varies(k) for k in x.key
                )
            elif isinstance(x, Position):
                own = s is not None and bool(x.position.stride(s))
            elif isinstance(x, Accumulated):
                own = True
            self.vary[id(x)] = own

    def value(self, x: Expression, lanes: int | None = None) -> Value:
        """The value of an expression here: a vector of `lanes`, or one scalar."""
        lanes = self.lanes if lanes is None else lanes
        if (id(x), lanes) not in self.known and not isinstance(x, (Load, Const)):
            for y in walk([x], inside=False):  # operands first, so that no chain is too long
                self._value(y, lanes)
        return self._value(x, lanes)

    def _value(self, x: Expression, lanes: int) -> Value:
        key = (id(x), lanes)
        if key not in self.known:
            if lanes > 1 and not self.varies(x):
                self.known[key] = self.f.splat(self.value(x, 1), lanes)
            else:
                self.known[key] = self._compute(x, lanes)
        return self.known[key]

    def _compute(self, x: Expression, lanes: int) -> Value:
        f = self.f
        if isinstance(x, Const):
            return elementwise.constant(x.value, x.dtype, lanes)
        if isinstance(x, Apply):
            return elementwise.emit(f, x.node, [self._value(a, lanes) for a in x.args])
        if isinstance(x, Load):
            return self._load(x, lanes)
        if isinstance(x, Where):
            inside = self.condition(x.guards, lanes)
            y = self.value(x.x, lanes)
            zero = elementwise.constant(0, x.dtype, lanes)
            return y if inside is None else f.select(inside, y, zero)
        if isinstance(x, Reduce):
            return reduce(self, x, lanes)
        if isinstance(x, Random):
            first, second = (self.value(k, lanes) for k in x.key)
            return random_bits(f, first, second, self._position(x.position, lanes))
        if isinstance(x, Accumulated):
            assert self.accumulated is not None
            return self.accumulated
        assert isinstance(x, Position)
        return self._position(x.position, lanes)

    def _position(self, p: Affine, lanes: int) -> Value:
        """A position in every lane."""
        f = self.f
        base = f.splat(f.index(self.address(p)), lanes)
        step = 0 if self.along is None else p.stride(self.along)
        if lanes == 1 or not step:
            return base
        ramp = const_vector([k * step for k in range(lanes)], "i64")
        return f.op("add nsw", base, ramp)

    def address(self, p: Affine) -> Index:
        """The position in the first lane."""
        return self.f.affine([(self.indices[s], a) for s, a in p.terms], p.offset)

    def condition(self, guards: Sequence[Guard], lanes: int) -> Value | None:
        """Whether all guards hold, in each lane; None if there are none."""
        f = self.f
        total: Value | None = None
        for g in guards:
            step = 0 if self.along is None else g.position.stride(self.along)
            wide = lanes if step else 1
            position = self._position(g.position, wide)
            # as unsigned numbers, negative positions are large
            ok = f.cmp("ult", position, const(g.size, position.type))
            ok = f.splat(ok, lanes) if wide == 1 else ok
            total = ok if total is None else f.op("and", total, ok)
        return total

    def _tables(
        self, tables: Sequence[tuple[int, Expression, int]], lanes: int
    ) -> tuple[list[tuple[Value, int]], Value | None]:
        """Indices from tables with their strides, and whether they are in bounds."""
        f = self.f
        found, total = [], None
        for stride, x, size in tables:
            wide = lanes if lanes > 1 and self.varies(x) else 1
            signed = x.dtype.kind == "i"
            i = self.value(x, wide)
            if i.scalar != "i64":
                i = f.cast("sext" if signed else "zext", i, "i64")
            ok = f.cmp("ult", i, const(size, i.type))
            i = f.select(ok, i, const(0, i.type))
            ok = f.splat(ok, lanes) if wide == 1 else ok
            total = ok if total is None else f.op("and", total, ok)
            found.append((i, stride))
        return found, total

    def _load(self, x: Load, lanes: int) -> Value:
        f = self.f
        scalar = scalar_type(x.dtype)
        other = self.others.get((x.buffer, x.address))
        if other is not None:  # in an epilogue the addresses come from the contraction
            pointer, step = other
            return self._boolean(x, self._strided(pointer, step, scalar, lanes, None))
        step = 0 if self.along is None or lanes == 1 else x.address.stride(self.along)
        inside = self.condition(x.guards, lanes)
        tables, ok = self._tables(x.tables, lanes)
        address = self.address(x.address)
        per_lane = []
        for i, stride in tables:
            if i.lanes == 1:
                address = f.add(address, f.mul(i, stride))
            else:
                per_lane.append((i, stride))
        base = self.pointers[x.buffer]
        if per_lane:
            parts = []
            for lane in range(self.active):
                place: Index = f.add(address, lane * step)
                for i, stride in per_lane:
                    place = f.add(place, f.mul(f.extract(i, lane), stride))
                if inside is not None:
                    place = f.select(f.extract(inside, lane), f.index(place), const(0, "i64"))
                parts.append(f.load(f.at(base, place, scalar), scalar))
            y = self._gathered(parts, lanes)
        elif inside is None:
            y = self._strided(f.at(base, address, scalar), step, scalar, lanes, None)
        elif lanes == 1:
            place = f.select(inside, f.index(address), const(0, "i64"))
            y = f.load(f.at(base, place, scalar), scalar)
        else:
            y = self._strided(f.at(base, address, scalar), step, scalar, lanes, inside)
        for good in (ok, inside):
            if good is not None:
                y = f.select(good, y, const(0, y.type))
        return self._boolean(x, y)

    def _boolean(self, x: Load, y: Value) -> Value:
        return self.f.cmp("ne", y, const(0, y.type)) if x.dtype.kind == "b" else y

    def _gathered(self, parts: list[Value], lanes: int) -> Value:
        f, scalar = self.f, parts[0].type
        type = vector(scalar, lanes)
        y = Value("zeroinitializer", type)
        for lane, part in enumerate(parts):
            y = f.make(f"insertelement {type} {y.name}, {scalar} {part.name}, i32 {lane}", type)
        return y

    def _strided(
        self, pointer: Value, step: int, scalar: str, lanes: int, inside: Value | None
    ) -> Value:
        """Lanes that lie `step` entries apart; nothing is read in lanes that are not inside."""
        f = self.f
        type = vector(scalar, lanes)
        if lanes == 1:
            return f.load(pointer, scalar)
        if step == 0 and inside is None:
            return f.splat(f.load(pointer, scalar), lanes)
        if step == 1 and inside is None:
            return f.load(pointer, type, self.active)
        if step == 1:
            assert inside is not None
            if self.active < lanes:
                inside = f.op("and", inside, mask(self.active, lanes))
            return f.masked_load(pointer, type, inside)
        if step == -1 and inside is None and self.active == lanes:
            y = f.load(f.at(pointer, 1 - lanes, scalar), type)
            return f.shuffle(y, None, range(lanes - 1, -1, -1))
        parts = []
        for lane in range(self.active):
            place: Index = lane * step
            if inside is not None:  # an address that is certainly there: the buffer's first entry
                parts.append(self._safe(pointer, place, f.extract(inside, lane), scalar))
            else:
                parts.append(f.load(f.at(pointer, place, scalar), scalar))
        return self._gathered(parts, lanes)

    def _safe(self, pointer: Value, place: int, ok: Value, scalar: str) -> Value:
        """An entry that is only read where it is there."""
        f = self.f
        slot = f.slot(scalar, const(0, scalar))
        with f.when(ok):
            f.set(slot, f.load(f.at(pointer, place, scalar), scalar))
        return f.get(slot, scalar)

    # -- stores ---------------------------------------------------------------------------------

    def store_all(self, stores: Sequence[Store]) -> None:
        """Compute everything, then write: a variable may be overwritten where it is read."""
        for s in stores:
            self.value(s.x)
        for s in stores:
            self.store(s)

    def store(self, s: Store) -> None:
        f = self.f
        dtype = s.buffer.dtype
        scalar = scalar_type(dtype)
        y = self.value(s.x)
        other = self.others.get((s.buffer, s.address))
        if other is not None:
            pointer, step = other
            self._write(y, pointer, step, scalar, False)
            return
        step = 0 if self.along is None else s.address.stride(self.along)
        guard = self.condition(s.guards, 1)
        tables, ok = self._tables(s.tables, 1)
        address = self.address(s.address)
        for i, stride in tables:
            address = f.add(address, f.mul(i, stride))
        pointer = f.at(self.pointers[s.buffer], address, scalar)
        both = guard if ok is None else ok if guard is None else f.op("and", guard, ok)
        if both is None:
            self._write(y, pointer, step, scalar, s.add)
            return
        with f.when(both):
            self._write(y, pointer, step, scalar, s.add)

    def _write(self, y: Value, pointer: Value, step: int, scalar: str, add: bool) -> None:
        f = self.f
        if y.scalar == "i1":
            y = f.cast("zext", y, "i8")
        if self.lanes == 1 or step == 1:
            if add:
                old = f.load(pointer, y.type, self.active)
                y = f.op("fadd" if scalar in ("float", "double") else "add", old, y)
            f.store(y, pointer, self.active)
            return
        for lane in range(self.active):
            place = f.at(pointer, lane * step, scalar)
            one = f.extract(y, lane)
            if add:
                one = f.op("fadd" if scalar in ("float", "double") else "add",
                           f.load(place, scalar), one)  # fmt: skip
            f.store(one, place)


ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
PARITY = 0x1BD11BDA


def random_bits(f: Function, first: Value, second: Value, position: Value) -> Value:
    """Word n mod 2 of Threefry-2x32-20(key, n div 2), as `core.special.bits` defines it."""
    one = const(1, position.type)
    count = f.op("lshr", position, one)
    x = f.cast("trunc", count, "i32")
    y = f.cast("trunc", f.op("lshr", count, const(32, count.type)), "i32")
    third = f.op("xor", f.op("xor", first, second), const(PARITY, first.type))
    keys = (first, second, third)
    x, y = f.op("add", x, first), f.op("add", y, second)
    for group in range(1, 6):
        for r in ROTATIONS[:4] if group % 2 else ROTATIONS[4:]:
            x = f.op("add", x, y)
            y = f.op("xor", x, f.intrinsic("llvm.fshl", y, y, const(r, y.type)))
        x = f.op("add", x, keys[group % 3])
        y = f.op("add", f.op("add", y, keys[(group + 1) % 3]), const(group, y.type))
    odd = f.cmp("ne", f.op("and", position, one), const(0, position.type))
    return f.select(odd, y, x)


# -- reductions --------------------------------------------------------------------------------


def reduce(block: Block, x: Reduce, lanes: int) -> Value:
    """op over the loops of a reduction. Scalar results may go through vectors along a loop."""
    inner, width = None, lanes
    if lanes == 1 and x.op in ("sum", "max", "min"):
        inner, width = inner_symbol(x, block.machine, x.loops)
    loops = _reduction_loops(x)
    loops.sort(key=lambda pair: pair[0] == inner)
    best = x.op in ("argmax", "argmin")
    count = 1 if best or (inner is None and lanes * 4 > block.machine.vector_bytes) else UNROLL
    if not best and inner is None and 0 < size_of(tuple(n for _, n in x.loops)) <= FEW:
        return _unrolled(block, x, lanes)
    accumulators = _Accumulators(block.f, x, width, count)
    if not size_of(tuple(n for _, n in x.loops)):
        return accumulators.result(lanes)

    def nest(k: int, indices: dict[Symbol, Index]) -> None:
        symbol, n = loops[k]
        last = k == len(loops) - 1
        if not last:
            with block.f.loop(0, n) as i:
                nest(k + 1, {**indices, symbol: i})
            return
        wide = width if inner is not None else 1

        def step(i: Index, place: int, active: int) -> None:
            along = inner if inner is not None else block.along
            lanes_ = width if inner is not None else block.lanes if lanes > 1 else 1
            used = active if inner is not None else block.active
            inside = Block(
                block.f, block.machine, block.pointers, {**indices, symbol: i}, along, lanes_, used,
                block if inner is None else None,
            )  # fmt: skip
            if inner is None and lanes == 1:
                inside.along, inside.lanes, inside.active = None, 1, 1
                inside.vary, inside.known = {}, {}
            accumulators.take(place, inside.value(x.x, width), used, inside, symbol)

        block_of = wide * accumulators.count
        whole = n // block_of * block_of
        if whole and accumulators.count > 1 and n >= 2 * block_of:
            with block.f.loop(0, whole, block_of) as i:
                for place in range(accumulators.count):
                    step(block.f.add(i, place * wide), place, wide)
        else:
            whole = 0
        end = n // wide * wide
        with block.f.loop(whole, end, wide) as i:
            if whole < end:
                step(i, 0, wide)
        if end < n:
            step(end, 0, n - end)

    start: dict[Symbol, Index] = {**block.indices, **{s: 0 for s, _ in x.loops}}
    if not loops:  # one entry
        inside = Block(
            block.f, block.machine, block.pointers, start, block.along, lanes,
            block.active if lanes > 1 else 1,
        )  # fmt: skip
        accumulators.take(0, inside.value(x.x, lanes), inside.active, inside, x.loops[0][0])
        return accumulators.result(lanes)
    nest(0, start)
    return accumulators.result(lanes)


def _unrolled(block: Block, x: Reduce, lanes: int) -> Value:
    """A reduction of few terms, written out."""
    values = []
    for place in np.ndindex(*(n for _, n in x.loops)):
        indices = {**block.indices, **{s: i for (s, _), i in zip(x.loops, place, strict=True)}}
        alone = lanes == 1
        inside = Block(
            block.f, block.machine, block.pointers, indices, None if alone else block.along, lanes,
            1 if alone else block.active, None if alone else block,
        )  # fmt: skip
        values.append(inside.value(x.x, lanes))
    while len(values) > 1:
        pairs = [values[k : k + 2] for k in range(0, len(values), 2)]
        values = [join(block.f, x, *p) if len(p) > 1 else p[0] for p in pairs]
    return values[0]


def join(f: Function, x: Reduce, a: Value, b: Value) -> Value:
    """Two partial results of a reduction as one."""
    kind, op = x.x.dtype.kind, x.op
    if op == "sum":
        return f.op({"f": "fadd", "b": "or"}.get(kind, "add"), a, b)
    name = "maximum" if op == "max" else "minimum"
    if kind == "f":
        return elementwise.FLOATING[name](f, a, b)
    if kind == "b":
        return f.op("or" if op == "max" else "and", a, b)
    return elementwise.INTEGERS[name](f, kind == "i", a, b)


class _Accumulators:
    """Partial results of a reduction, in slots; joined at the end."""

    def __init__(self, f: Function, x: Reduce, lanes: int, count: int) -> None:
        self.f, self.x, self.lanes, self.count = f, x, lanes, count
        dtype = x.x.dtype
        self.type = elementwise.register(dtype, lanes)
        self.identity = const(_identity(x.op, dtype), self.type)
        self.slots = [f.slot(self.type, self.identity) for _ in range(count)]
        self.places = vector("i64", lanes)
        if x.op in ("argmax", "argmin"):
            self.at = f.slot(self.places, const(0, self.places))
            self.first = f.slot("i1", const(1, "i1"))

    def take(self, place: int, y: Value, active: int, block: Block, symbol: Symbol) -> None:
        f = self.f
        slot = self.slots[place]
        if self.x.op in ("argmax", "argmin"):
            self._take_place(y, block, symbol)
            return
        if active < self.lanes and block.along == symbol:
            y = f.select(mask(active, self.lanes), y, self.identity)
        f.set(slot, join(f, self.x, f.get(slot, self.type), y))

    def _take_place(self, y: Value, block: Block, symbol: Symbol) -> None:
        f, kind = self.f, self.x.x.dtype.kind
        best = f.get(self.slots[0], self.type)
        more = {"argmax": ("ogt", "sgt", "ugt"), "argmin": ("olt", "slt", "ult")}[self.x.op]
        better = f.cmp(more[{"f": 0, "i": 1, "u": 2, "b": 2}[kind]], y, best)
        if kind == "f":  # the first NaN counts
            nan = f.op("and", f.cmp("uno", y, y), f.cmp("ord", best, best))
            better = f.op("or", better, nan)
        start = f.splat(f.get(self.first, "i1"), self.lanes)
        better = f.op("or", better, start)
        f.set(self.first, const(0, "i1"))
        f.set(self.slots[0], f.select(better, y, best))
        here = f.splat(f.index(block.indices[symbol]), self.lanes)
        f.set(self.at, f.select(better, here, f.get(self.at, self.places)))

    def result(self, lanes: int) -> Value:
        f = self.f
        if self.x.op in ("argmax", "argmin"):
            return f.get(self.at, self.places)
        values = [f.get(s, self.type) for s in self.slots]
        while len(values) > 1:
            values = [join(f, self.x, a, b) for a, b in zip(values[::2], values[1::2], strict=True)]
        y = values[0]
        while y.lanes > lanes:  # halves on top of each other
            half = y.lanes // 2
            if half == 1:
                y = join(f, self.x, f.extract(y, 0), f.extract(y, 1))
                break
            halves = (f.shuffle(y, None, range(k, k + half)) for k in (0, half))
            y = join(f, self.x, *halves)
        return y


def _identity(op: str, dtype: Dtype) -> Any:
    if op == "sum":
        return 0
    low = op in ("max", "argmax")
    if dtype.kind == "f":
        return -np.inf if low else np.inf
    if dtype.kind == "b":
        return not low
    return np.iinfo(dtype).min if low else np.iinfo(dtype).max


def _reduction_loops(x: Reduce) -> list[tuple[Symbol, int]]:
    """The loops of a reduction, neighbours made one; argmax counts along its own."""
    if x.op in ("argmax", "argmin"):
        return [pair for pair in x.loops if pair[1] != 1]
    return merged(x.loops, affines([x.x]), guarded([x.x]))


def inner_symbol(
    x: Reduce, machine: Machine, loops: Sequence[tuple[Symbol, int]]
) -> tuple[Symbol | None, int]:
    """The loop of a reduction along which most of what it reads is contiguous, and its lanes."""
    loads = [y for y in walk([x.x]) if isinstance(y, Load)]
    best, score = None, 0
    for s, n in _reduction_loops(x):
        strides = [y.address.stride(s) for y in loads]
        good = sum(a in (0, 1) for a in strides) - 3 * sum(a not in (0, 1) for a in strides)
        dynamic = any(i for y in loads for _, i, _ in y.tables)
        if n >= 4 and good > score and not dynamic:
            best, score = s, good
    if best is None:
        return None, 1
    n = dict(_reduction_loops(x))[best]
    lanes = machine.vector_bytes // max(4, x.x.dtype.itemsize)
    while lanes > 2 and n <= lanes // 2:
        lanes //= 2
    return best, lanes


# -- loops -------------------------------------------------------------------------------------


def affines(roots: Sequence[Expression]) -> list[Affine]:
    """Every address and position in these expressions."""
    found = []
    for x in walk(roots):
        if isinstance(x, Load):
            found += [x.address, *(g.position for g in x.guards)]
        elif isinstance(x, Where):
            found += [g.position for g in x.guards]
        elif isinstance(x, (Position, Random)):
            found.append(x.position)
    return found


def merged(
    loops: Sequence[tuple[Symbol, int]], found: Sequence[Affine], fixed: set[Symbol]
) -> list[tuple[Symbol, int]]:
    """Loops without those of one entry, neighbours that lie in one piece everywhere made one.

    The outer symbol of such a pair stays 0, the inner one counts through both. `fixed` ones stay.
    """
    result: list[tuple[Symbol, int]] = []
    for s, n in loops:
        if n == 1:
            continue
        if result:
            outer, m = result[-1]
            free = outer not in fixed and s not in fixed
            if free and all(a.stride(outer) == n * a.stride(s) for a in found):
                result[-1] = (s, m * n)
                continue
        result.append((s, n))
    return result


def guarded(roots: Sequence[Expression]) -> set[Symbol]:
    """Symbols that guards depend on: their loops stay as they are."""
    found: set[Symbol] = set()
    for x in walk(roots):
        if isinstance(x, (Load, Where)):
            found.update(s for g in x.guards for s, _ in g.position.terms)
    return found
