"""What the compiler computes with: buffers, views, expressions over loop symbols, kernels.

A kernel is a nest of loops that stores expressions. Addresses are affine in the symbols of the
loops, in entries of the buffer; an index map (core/indexmap.py) becomes address arithmetic and
nothing is copied for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from ..core.node import Node
from ..core.types import ArrayType, Shape, size_of

Symbol = int
LITTLE = 30_000
"""Work (`Loops.work`) below which the other threads are not woken."""


class Affine(NamedTuple):
    """offset + Σ stride·symbol; symbols in order, no stride 0."""

    terms: tuple[tuple[Symbol, int], ...] = ()
    offset: int = 0

    def stride(self, symbol: Symbol) -> int:
        return next((a for s, a in self.terms if s == symbol), 0)

    def plus(self, other: Affine, times: int = 1) -> Affine:
        """self + times · other."""
        total = dict(self.terms)
        for s, a in other.terms:
            total[s] = total.get(s, 0) + times * a
        return affine(total, self.offset + times * other.offset)

    def replaced(self, values: Mapping[Symbol, Affine]) -> Affine:
        """With affine expressions in place of some symbols."""
        total = Affine((), self.offset)
        for s, a in self.terms:
            total = total.plus(values.get(s) or Affine(((s, 1),)), a)
        return total


def affine(terms: Mapping[Symbol, int], offset: int = 0) -> Affine:
    return Affine(tuple(sorted((s, a) for s, a in terms.items() if a)), offset)


def at(symbol: Symbol) -> Affine:
    """The symbol itself."""
    return Affine(((symbol, 1),))


ZERO = Affine()


@dataclass(eq=False)
class Buffer:
    """Memory of so many entries. `slot` says where it comes from: ("input", k) and the like are
    arrays of the call, ("constant", k) arrays of the program; None is the arena."""

    dtype: np.dtype[Any]
    size: int
    slot: tuple[str, int] | None = None
    name: str = ""
    joined: bool = False
    """Whether several kernels write to it, each to a part of its own."""
    serial: int = field(default_factory=count().__next__)
    """The order in which buffers are made."""
    start: int = -1
    """Byte in the arena, once memory is planned."""

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __repr__(self) -> str:
        if self.slot is not None and self.slot[0] in ("table", "constant"):
            return f"{self.slot[0]}{self.slot[1]}"
        return self.name or "inner"


class View(NamedTuple):
    """An array in a buffer: where its entry 0 is (sequential symbols may move it), and strides."""

    buffer: Buffer
    base: Affine
    strides: Shape

    def address(self, position: Sequence[Affine]) -> Affine:
        """The entry of the buffer at these positions along the axes."""
        total = self.base
        for p, stride in zip(position, self.strides, strict=True):
            total = total.plus(p, stride)
        return total


def contiguous(shape: Shape) -> Shape:
    """Row-major strides, in entries."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


# -- expressions -------------------------------------------------------------------------------


class Guard(NamedTuple):
    """0 ≤ position < size."""

    position: Affine
    size: int


@dataclass(frozen=True, eq=False)
class Expression:
    dtype: np.dtype[Any]


@dataclass(frozen=True, eq=False)
class Load(Expression):
    """An entry of a buffer; 0 where a guard fails. `tables` add stride · (an entry of a table)."""

    buffer: Buffer
    address: Affine
    guards: tuple[Guard, ...] = ()
    tables: tuple[tuple[int, Expression, int], ...] = ()
    """(stride, index, size of the axis): an index out of bounds reads 0."""


@dataclass(frozen=True, eq=False)
class Const(Expression):
    value: Any


@dataclass(frozen=True, eq=False)
class Apply(Expression):
    """An elementwise gate."""

    node: Node
    args: tuple[Expression, ...]

    @property
    def name(self) -> str:
        return self.node.name


@dataclass(frozen=True, eq=False)
class Where(Expression):
    """The expression where all guards hold, else 0."""

    guards: tuple[Guard, ...]
    x: Expression


@dataclass(frozen=True, eq=False)
class Position(Expression):
    """A position along an axis, as a number."""

    position: Affine


@dataclass(frozen=True, eq=False)
class Random(Expression):
    """Random bits: the word of a key (two expressions) at a position in the row-major order."""

    key: tuple[Expression, Expression]
    position: Affine


@dataclass(frozen=True, eq=False)
class Reduce(Expression):
    """op over symbols: "sum", "max", "min", "argmax", "argmin"."""

    node: Node
    op: str
    loops: tuple[tuple[Symbol, int], ...]
    x: Expression


@dataclass(frozen=True, eq=False)
class Accumulated(Expression):
    """In the epilogue of a contraction: the sum that it has made."""


def children(x: Expression) -> Iterator[Expression]:
    if isinstance(x, Load):
        yield from (index for _, index, _ in x.tables)
    elif isinstance(x, Apply):
        yield from x.args
    elif isinstance(x, (Where, Reduce)):
        yield x.x
    elif isinstance(x, Random):
        yield from x.key


def walk(roots: Sequence[Expression], inside: bool = True) -> Iterator[Expression]:
    """Every expression once, operands first; those inside of reductions if asked for."""
    seen: set[int] = set()
    stack = [(x, False) for x in reversed(roots)]
    while stack:
        x, ready = stack.pop()
        if ready:
            yield x
        elif id(x) not in seen:
            seen.add(id(x))
            stack.append((x, True))
            if inside or not isinstance(x, (Reduce, Load)):
                stack.extend((c, False) for c in children(x) if id(c) not in seen)


class Store(NamedTuple):
    """buffer[address] = x; with `add`, added to what is there; `tables` as in Load."""

    buffer: Buffer
    address: Affine
    x: Expression
    add: bool = False
    guards: tuple[Guard, ...] = ()
    tables: tuple[tuple[int, Expression, int], ...] = ()


# -- kernels -----------------------------------------------------------------------------------


@dataclass(eq=False)
class Kernel:
    """A step of the program. `nodes` are the gates it computes (for people to read)."""

    nodes: list[Node] = field(default_factory=list)
    name: str = ""
    code: str = ""
    """The name of the function in native code; equal kernels share one."""

    serial = True
    """Whether it runs on the first thread alone."""

    def reads(self) -> set[Buffer]:
        """The buffers it reads."""
        raise NotImplementedError(f"{type(self).__name__} must define reads()")

    def writes(self) -> set[Buffer]:
        """The buffers it writes."""
        raise NotImplementedError(f"{type(self).__name__} must define writes()")

    @property
    def flops(self) -> int:
        total = 0
        for n in self.nodes:
            if n.primitive is not None and isinstance(n.type, ArrayType):
                types = [x.type if isinstance(x, Node) else ArrayType(x.shape, x.dtype)
                         for x in n.inputs]  # fmt: skip
                total += n.primitive.flops(n.type, types, n.params or {})
        return total


def loads_of(stores: Sequence[Store]) -> list[Load]:
    """Every load in these stores, also those of indices."""
    roots = [s.x for s in stores] + [index for s in stores for _, index, _ in s.tables]
    return [x for x in walk(roots) if isinstance(x, Load)]


@dataclass(eq=False)
class Loops(Kernel):
    """for loops: stores. `ordered` symbols (of additions that meet) run on one thread each."""

    loops: list[tuple[Symbol, int]] = field(default_factory=list)
    stores: list[Store] = field(default_factory=list)
    ordered: frozenset[Symbol] = frozenset()

    def reads(self) -> set[Buffer]:
        found = {x.buffer for x in loads_of(self.stores)}
        return found | {s.buffer for s in self.stores if s.add}

    def writes(self) -> set[Buffer]:
        return {s.buffer for s in self.stores}

    @cached_property
    def work(self) -> int:
        """Roughly the entries it touches, weighed by what is done with each."""
        points = size_of(tuple(n for _, n in self.loops))
        inside: set[int] = set()
        total = 1
        for x in walk([s.x for s in self.stores]):
            if isinstance(x, Reduce):
                terms = list(walk([x.x]))
                inside.update(map(id, terms))
                total += size_of(tuple(n for _, n in x.loops)) * sum(map(_weight, terms))
        outside = [x for x in walk([s.x for s in self.stores]) if id(x) not in inside]
        return points * (total + sum(map(_weight, outside)))

    @property
    def serial(self) -> bool:  # type: ignore[override]
        return self.work < LITTLE or all(n == 1 for _, n in self.loops)


def _weight(x: Expression) -> int:
    """What an expression costs for an entry, in simple operations."""
    if isinstance(x, Random):
        return 60
    return HEAVY.get(x.name, 1) if isinstance(x, Apply) else 1


HEAVY = dict.fromkeys(
    ("exp", "log", "tanh", "sigmoid", "erf", "sin", "cos", "log1p", "expm1", "sinh", "cosh"), 12
) | {"pow": 40, "erfinv": 40, "tan": 30, "arcsin": 20, "arccos": 20, "arctan": 20, "atan2": 20,
     "div": 4, "sqrt": 4}  # fmt: skip


@dataclass(eq=False)
class Product(Kernel):
    """A contraction with the stores of its epilogue. `first`, `second` are views of its operands.

    `loops` are those of the result (symbol, size), `inner` those summed over (size, stride in the
    first, stride in the second).
    """

    first: View = None  # type: ignore[assignment]
    second: View = None  # type: ignore[assignment]
    loops: list[tuple[Symbol, int]] = field(default_factory=list)
    strides: list[tuple[int, int]] = field(default_factory=list)
    inner: list[tuple[int, int, int]] = field(default_factory=list)
    stores: list[Store] = field(default_factory=list)
    dtype: np.dtype[Any] = None  # type: ignore[assignment]
    summary: str = ""

    serial = False

    def reads(self) -> set[Buffer]:
        return {self.first.buffer, self.second.buffer} | {x.buffer for x in loads_of(self.stores)}

    def writes(self) -> set[Buffer]:
        return {s.buffer for s in self.stores}


@dataclass(eq=False)
class Call(Kernel):
    """A gate that runs in Python, on views of the buffers."""

    node: Node = None  # type: ignore[assignment]
    inputs: list[Any] = field(default_factory=list)
    """A View (with a shape) or a constant array each."""
    outputs: list[tuple[View, Shape]] = field(default_factory=list)

    def reads(self) -> set[Buffer]:
        return {x[0].buffer for x in self.inputs if isinstance(x, tuple)}

    def writes(self) -> set[Buffer]:
        return {view.buffer for view, _ in self.outputs}


@dataclass(eq=False)
class Repeat(Kernel):
    """The kernels of a loop's body, `length` times. `step` is the number of the step, `parity`
    its last bit (carries that nobody keeps lie in two places in turn)."""

    step: Symbol = 0
    parity: Symbol = 0
    length: int = 0
    reverse: bool = False
    body: list[Kernel] = field(default_factory=list)

    @property
    def serial(self) -> bool:  # type: ignore[override]
        return all(k.serial for k in self.body)

    def reads(self) -> set[Buffer]:
        return set().union(*(k.reads() for k in self.body))

    def writes(self) -> set[Buffer]:
        return set().union(*(k.writes() for k in self.body))

    @property
    def flops(self) -> int:
        return self.length * sum(k.flops for k in self.body)
