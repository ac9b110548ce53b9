"""Rules of algebra: gates that are simpler gates of the same value, said one at a time.

Every rule keeps each entry for all numbers of IEEE 754, NaN, ±∞ and -0.0 included, and says why it
does. Two liberties are taken: sums may be added up in another order, and the sign of a zero that a
sum or a strong product gives is not kept (eager does not define it either).

A rule is a function (sweep, gate) → the value that stands for the gate, or None. The sweep makes
gates: sweep.make(primitive, inputs, params).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from inspect import getclosurevars
from typing import Any, NamedTuple

import numpy as np

from .. import ops
from ..core.indexmap import (
    IndexMap,
    Position,
    broadcast_map,
    flip_map,
    permute_map,
    reshape_map,
    symbol,
)  # fmt: skip
from ..core.node import Node
from ..core.primitive import LINK, Params, Primitive
from ..core.types import FLOATS, ArrayType, Shape, TupleType
from ..ops.arithmetic import _power
from ..ops.contraction import CONTRACT, parse
from ..ops.dispatch import BROADCAST, CAST, STOP_GRADIENT, SUM
from ..ops.indexing import GATHER
from ..ops.reducing import MAX, MIN
from ..ops.shaping import (
    CONCAT,
    DIAGONAL,
    EMBED_DIAGONAL,
    FLIP,
    PAD,
    PERMUTE,
    RESHAPE,
    SLICE,
    WINDOWS,
)  # fmt: skip

SMALL = 1024
"""Bytes up to which the value of a constant array is looked at."""
READS = (BROADCAST, DIAGONAL, FLIP, PERMUTE, RESHAPE, SLICE, WINDOWS)
"""Linear gates whose every entry is one entry of the operand."""


class Gate(NamedTuple):
    """What a rule looks at: a gate about to be made, its inputs simplified."""

    primitive: Primitive
    inputs: Sequence[Any]
    params: Params


Rule = Callable[[Any, Gate], Any]
Rules = dict[Primitive, list[Rule]]
RULES: Rules = {}


def gate_of(function: Any) -> Primitive:
    """The primitive behind a function made by `ops.dispatch.gate`."""
    return getclosurevars(function).nonlocals["primitive"]  # type: ignore[no-any-return]


ADD, SUB, MUL, DIV = map(gate_of, (ops.add, ops.subtract, ops.multiply, ops.divide))
NEG, ABS, WHERE, NOT = map(gate_of, (ops.negative, ops.abs, ops.where, ops.logical_not))
NOT_EQUAL = gate_of(ops.not_equal)
AND, OR, INVERT = map(gate_of, (ops.logical_and, ops.logical_or, ops.bitwise_invert))
POW, SQRT = map(gate_of, (_power, ops.sqrt))
MAXIMUM, MINIMUM, RELU = map(gate_of, (ops.maximum, ops.minimum, ops.relu))
SCALE = gate_of(ops.scale_gradient)
COMMUTATIVE = frozenset((
    ADD, MUL, SCALE, AND, OR,  # max(0, -0) is the first of them
    NOT_EQUAL, *map(gate_of, (ops.equal, ops.logical_xor, ops.bitwise_and, ops.bitwise_or,
                   ops.bitwise_xor)),
))  # fmt: skip
STEPS = tuple(map(gate_of, (ops.sign, ops.floor, ops.ceil, ops.trunc, ops.round)))
BOUNDED = frozenset((
    RELU, *STEPS, *map(gate_of, (ops.sigmoid, ops.tanh, ops.sin, ops.cos, ops.erf, ops.atan))
))  # fmt: skip
"""Gates that are finite wherever their operand is."""


def rule(*primitives: Primitive, among: Rules = RULES) -> Callable[[Rule], Rule]:
    """Enter a rule for these gates."""

    def enter(function: Rule) -> Rule:
        for primitive in primitives:
            among.setdefault(primitive, []).append(function)
        return function

    return enter


# -- what is known of a value ------------------------------------------------------------------


def by(x: Any, *primitives: Primitive) -> bool:
    """Whether x is what one of these gates gives."""
    return isinstance(x, Node) and x.primitive in primitives


def type_of(x: Any) -> ArrayType:
    """The type of a node or a constant array."""
    return x.type if isinstance(x, Node) else ArrayType(x.shape, x.dtype)


def splat(x: Any) -> Any:
    """The one number (a 0-d array) that every entry of x is, or None."""
    if by(x, BROADCAST):
        x = x.inputs[0]
    if isinstance(x, Node) or not x.size or x.nbytes > SMALL:
        return None
    first = x.reshape(-1)[:1]
    same = x.ndim == 0 or x.tobytes() == first.tobytes() * x.size
    return first.reshape(()) if same else None


def is_number(x: Any, number: float) -> bool:
    """Whether every entry of x is this number; 0 means 0.0 and not -0.0."""
    found = splat(x)
    return found is not None and found == number and not np.signbit(found.astype(float))


def spread(sweep: Any, number: Any, shape: Shape) -> Any:
    """A number in every entry of a shape."""
    return sweep.make(BROADCAST, (number,), {"map": broadcast_map((), shape)}) if shape else number


def zeros(sweep: Any, type: ArrayType) -> Any:
    return spread(sweep, np.zeros((), type.dtype), type.shape)


class Facts(NamedTuple):
    """What holds for every entry: neither infinite nor NaN; not 0 (NaN is not 0)."""

    finite: bool
    nonzero: bool


def facts(x: Any, known: dict[Node, Facts]) -> Facts:
    """What is known of a node or a constant; `known` has what is known of the nodes before it."""
    if not isinstance(x, Node):
        if x.nbytes > SMALL:
            return Facts(x.dtype.char not in FLOATS, False)  # by reference: values may change
        return Facts(bool(np.isfinite(x).all()), bool((x != 0).all()))
    found = known.get(x)
    return Facts(_is_whole(x), False) if found is None else found


def _is_whole(node: Node) -> bool:
    kind: Any = node.type
    return not isinstance(kind, TupleType) and kind.dtype.char not in FLOATS


def learn(node: Node, known: dict[Node, Facts]) -> Facts:
    """What the gate of a node says about its value."""
    primitive = node.primitive
    own = [facts(x, known) for x in node.inputs]
    finite, nonzero = _is_whole(node), False
    if primitive in READS or primitive in (NEG, ABS, GATHER, MAX, MIN):
        finite, nonzero = own[0]
    elif primitive in (CONCAT, MAXIMUM, MINIMUM):
        finite, nonzero = all(f.finite for f in own), all(f.nonzero for f in own)
    elif primitive is WHERE:
        finite, nonzero = (all(f[k] for f in own[1:]) for k in (0, 1))
    elif primitive is CAST and type_of(node.inputs[0]).dtype.char not in FLOATS:
        finite, nonzero = True, own[0].nonzero and node.type.dtype.char in FLOATS
    elif primitive in BOUNDED or primitive in (PAD, EMBED_DIAGONAL):
        finite = own[0].finite
    return Facts(finite or _is_whole(node), nonzero)


# -- the same value by another name ------------------------------------------------------------


@rule(LINK, STOP_GRADIENT)
def _same(sweep: Any, gate: Gate) -> Any:
    """These are x itself."""
    return gate.inputs[0]


@rule(CAST)
def _cast(sweep: Any, gate: Gate) -> Any:
    """Casting to the dtype it has changes nothing; nor does a first cast that loses nothing."""
    (x,), last = gate.inputs, gate.params["dtype"]
    if type_of(x).dtype == last:
        return x
    if by(x, CAST):
        (source,) = x.inputs
        first, middle = type_of(source).dtype, x.type.dtype
        # what does not fit into integers depends on the dtype it comes from
        kept = last == first or last.kind in "bf" or middle.kind != "f"
        if kept and _holds(first, middle):
            return sweep.make(CAST, (source,), gate.params)
    return None


@lru_cache(maxsize=1024)
def _holds(source: np.dtype[Any], target: np.dtype[Any]) -> bool:
    """Whether every number of a dtype is one of another."""
    if source.kind == "b":
        return True
    if target.kind != "f":
        return source.kind in "iu" and np.can_cast(source, target)
    digits = np.finfo(target).nmant + 1
    bits = np.finfo(source).nmant + 1 if source.kind == "f" else np.iinfo(source).bits
    return bool(bits <= digits)


# -- arithmetic --------------------------------------------------------------------------------


@rule(MUL, DIV)
def _by_one(sweep: Any, gate: Gate) -> Any:
    """x·1 = 1·x = x/1 = x: products with 1 are exact, also of NaN, ∞ and -0.0."""
    x, y = gate.inputs
    if is_number(y, 1):
        return x
    return y if gate.primitive is MUL and is_number(x, 1) else None


@rule(MUL, DIV)
def _of_negatives(sweep: Any, gate: Gate) -> Any:
    """(-x)·(-y) = x·y, (-x)/(-y) = x/y: the sign of a product is found apart from its size."""
    if all(by(x, NEG) for x in gate.inputs) and _is_float(gate):
        return sweep.make(gate.primitive, tuple(x.inputs[0] for x in gate.inputs), {})
    return None


@rule(ADD)
def _plus_negative(sweep: Any, gate: Gate) -> Any:
    """x + (-y) = x - y: that is how IEEE 754 defines the difference."""
    x, y = gate.inputs
    if by(y, NEG):
        return sweep.make(SUB, (x, y.inputs[0]), {})
    return sweep.make(SUB, (y, x.inputs[0]), {}) if by(x, NEG) else None


@rule(SUB)
def _minus_negative(sweep: Any, gate: Gate) -> Any:
    """x - (-y) = x + y, as above."""
    x, y = gate.inputs
    return sweep.make(ADD, (x, y.inputs[0]), {}) if by(y, NEG) else None


@rule(SUB, ADD)
def _and_nothing(sweep: Any, gate: Gate) -> Any:
    """x - 0.0 = x, as -0.0 - 0.0 = -0.0. But x + 0.0 is not: -0.0 + 0.0 = 0.0. Integers may."""
    x, y = gate.inputs
    if gate.primitive is ADD and type_of(x).dtype.kind not in "iu":
        return None
    if is_number(y, 0):
        return x
    return y if gate.primitive is ADD and is_number(x, 0) else None


@rule(NEG, NOT, INVERT)
def _twice(sweep: Any, gate: Gate) -> Any:
    """-(-x) = x: only the sign bit is turned. not not x = x, of bools; ~~x = x, of bits."""
    (x,) = gate.inputs
    return x.inputs[0] if by(x, gate.primitive) else None


@rule(ABS, RELU, *STEPS)
def _again(sweep: Any, gate: Gate) -> Any:
    """||x|| = |x|, and relu, sign, floor, ceil, trunc, round of what they gave change nothing."""
    (x,) = gate.inputs
    return x if by(x, gate.primitive) else None


@rule(ABS)
def _size_of_negative(sweep: Any, gate: Gate) -> Any:
    """|-x| = |x|."""
    (x,) = gate.inputs
    return sweep.make(ABS, x.inputs, {}) if by(x, NEG) else None


@rule(MAXIMUM, MINIMUM, AND, OR)
def _of_itself(sweep: Any, gate: Gate) -> Any:
    """max(x, x) = x, of NaN, too; x and x = x."""
    x, y = gate.inputs
    return x if x is y else None


def _is_float(gate: Gate) -> bool:
    return type_of(gate.inputs[0]).dtype.char in FLOATS


@rule(POW)
def _root(sweep: Any, gate: Gate) -> Any:
    """x^½ is √x where one number is the exponent: so NumPy has it, also of -∞ (NaN) and -0.0."""
    x, y = gate.inputs
    one = by(y, BROADCAST) or not (isinstance(y, Node) or y.ndim)
    return sweep.make(SQRT, (x,), {}) if one and is_number(y, 0.5) and _is_float(gate) else None


# -- conditions --------------------------------------------------------------------------------


@rule(WHERE)
def _where(sweep: Any, gate: Gate) -> Any:
    """where selects, so a known condition selects now; where(not c, x, y) = where(c, y, x)."""
    c, x, y = gate.inputs
    known = splat(c)
    if x is y:
        return x
    if known is not None:
        return x if known else y
    return sweep.make(WHERE, (c.inputs[0], y, x), {}) if by(c, NOT, INVERT) else None


# -- strong products ---------------------------------------------------------------------------


@rule(SCALE)
def _strong(sweep: Any, gate: Gate) -> Any:
    """A strong product is a product unless a 0 may meet an ∞ or NaN.

    With a condition as one factor it selects, also with what a condition selects from something
    and 0. With a factor 0 it is 0.
    """
    for u, p in (gate.inputs, gate.inputs[::-1]):
        if is_number(p, 0):
            return zeros(sweep, type_of(u))
        if by(p, CAST) and type_of(p.inputs[0]).dtype.kind == "b":
            return sweep.make(WHERE, (p.inputs[0], u, zeros(sweep, type_of(u))), {})
        if by(p, WHERE) and is_number(p.inputs[2], 0):
            some = sweep.make(SCALE, (u, p.inputs[1]), {})
            return sweep.make(WHERE, (p.inputs[0], some, p.inputs[2]), {})
    u, p = (facts(x, sweep.facts) for x in gate.inputs)
    if (u.finite or p.nonzero) and (p.finite or u.nonzero):
        return sweep.make(MUL, gate.inputs, {})
    return None


# -- moved entries -----------------------------------------------------------------------------


@rule(PERMUTE)
def _in_order(sweep: Any, gate: Gate) -> Any:
    """The transpose of a permutation is one: written, as others, in the order of its output."""
    map: IndexMap = gate.params["map"]
    if map.writes == tuple(symbol(s) for s in range(len(map.sizes))):
        return None
    return sweep.make(PERMUTE, gate.inputs, {"map": permute_map(map.in_shape, map.permutation)})


@rule(BROADCAST, FLIP, PAD, PERMUTE, RESHAPE, SLICE, SUM)
def _nothing_moved(sweep: Any, gate: Gate) -> Any:
    """A map that takes every entry to its own place is x: permute, pad, slice, sum of nothing."""
    map: IndexMap = gate.params["map"]
    if map.in_shape != map.out_shape:
        return None
    own = tuple(symbol(s) for s in range(len(map.in_shape)))
    if gate.primitive is RESHAPE or map.reads == map.writes == own:
        return gate.inputs[0]
    return None


@rule(*READS)
def _of_number(sweep: Any, gate: Gate) -> Any:
    """Copies of one number, moved, are copies of it."""
    (x,) = gate.inputs
    number, shape = splat(x), gate.params["map"].out_shape
    bare = not isinstance(x, Node) and x.ndim == 0
    if number is None or (bare and gate.primitive is BROADCAST):
        return None
    return spread(sweep, number, shape)


def composed(inner: IndexMap, outer: IndexMap) -> IndexMap:
    """y[s] = x[inner.reads(outer.reads(s))], of maps that write to every place in its order."""

    def through(p: Position) -> Position:
        offset, terms = p.offset, dict[int, int]()
        for s, a in p.terms:
            offset += a * outer.reads[s].offset
            for t, b in outer.reads[s].terms:
                terms[t] = terms.get(t, 0) + a * b
        return Position(tuple(sorted(terms.items())), offset)

    return IndexMap(
        outer.sizes, tuple(map(through, inner.reads)), outer.writes,
        inner.in_shape, outer.out_shape, inner.in_shape, outer.out_shape,
    )  # fmt: skip


@rule(BROADCAST, FLIP, PERMUTE, RESHAPE, SLICE)
def _moved_twice(sweep: Any, gate: Gate) -> Any:
    """Two moves of one kind are one: no arithmetic, so every entry is kept as it is."""
    (x,), outer, primitive = gate.inputs, gate.params["map"], gate.primitive
    if not isinstance(x, Node) or 0 in outer.out_shape:
        return None
    pair = {x.primitive, primitive}
    if len(pair) == 2 and pair != {SLICE, FLIP}:
        return None
    inner: IndexMap = x.params["map"]  # type: ignore[index]
    if primitive is RESHAPE:
        return sweep.make(RESHAPE, x.inputs, {"map": reshape_map(inner.in_shape, outer.out_shape)})
    map = composed(inner, outer)
    if pair == {FLIP}:
        turned = tuple(k for k, p in enumerate(map.reads) if p.terms[0][1] < 0)
        return sweep.make(FLIP, x.inputs, {"map": flip_map(map.in_shape, turned)})
    return sweep.make(SLICE if len(pair) == 2 else primitive, x.inputs, {"map": map})


@rule(PAD, SUM)
def _added_twice(sweep: Any, gate: Gate) -> Any:
    """Two pads are one, two sums are one sum (in another order): transposes of the rule above."""
    (x,), map = gate.inputs, gate.params["map"]
    if not by(x, gate.primitive) or 0 in x.inputs[0].shape + map.out_shape:
        return None
    return sweep.make(gate.primitive, x.inputs, {"map": composed(map.T, x.params["map"].T).T})


@rule(SUM)
def _sum_of_one(sweep: Any, gate: Gate) -> Any:
    """A sum along axes of size 1 has one term, the entry itself."""
    map: IndexMap = gate.params["map"]
    if map.additions or 0 in map.in_shape:
        return None
    return sweep.make(RESHAPE, gate.inputs, {"map": reshape_map(map.in_shape, map.out_shape)})


@rule(BROADCAST)
def _of_new_axes(sweep: Any, gate: Gate) -> Any:
    """New axes of size 1 that are then copied along are one broadcast."""
    (x,), outer = gate.inputs, gate.params["map"]
    if not by(x, RESHAPE):
        return None
    before, after = x.params["map"].in_shape, x.type.shape
    wide = [k for k, n in enumerate(after) if n != 1]
    if [n for n in before if n != 1] != [after[k] for k in wide]:
        return None
    axes = iter(wide)
    reads = tuple(Position() if n == 1 else outer.reads[next(axes)] for n in before)
    map = IndexMap(outer.sizes, reads, outer.writes, before, outer.out_shape, before,
                   outer.out_shape)  # fmt: skip
    return sweep.make(BROADCAST, x.inputs, {"map": map})


@rule(PAD)
def _pad_of_zeros(sweep: Any, gate: Gate) -> Any:
    """Zeros with zeros around them."""
    (x,) = gate.inputs
    if not is_number(x, 0):
        return None
    return zeros(sweep, ArrayType(gate.params["map"].out_shape, type_of(x).dtype))


@rule(SLICE)
def _inside_of_pad(sweep: Any, gate: Gate) -> Any:
    """A slice that stays inside what was padded, or takes it back, is a slice of that, or x."""
    (x,), map = gate.inputs, gate.params["map"]
    if not by(x, PAD) or 0 in map.out_shape:
        return None
    reads = []
    for p, q, n, size in zip(map.reads, x.params["map"].writes, x.inputs[0].shape, map.sizes,
                             strict=True):  # fmt: skip
        ((s, step),), (_, gap) = p.terms, q.terms[0]
        start = p.offset - q.offset
        if start % gap or (step % gap and size > 1):
            return None
        ends = (start // gap, start // gap + (size - 1) * (step // gap))
        if min(ends) < 0 or max(ends) >= n:
            return None
        reads.append(Position(((s, step // gap if size > 1 else 1),), start // gap))
    shape = x.inputs[0].shape
    inside = IndexMap(map.sizes, tuple(reads), map.writes, shape, map.out_shape, shape,
                      map.out_shape)  # fmt: skip
    return sweep.make(SLICE, x.inputs, {"map": inside})


# -- joins -------------------------------------------------------------------------------------


@rule(CONCAT)
def _join_of_one(sweep: Any, gate: Gate) -> Any:
    """One part joined with nothing."""
    return gate.inputs[0] if len(gate.inputs) == 1 else None


# -- contractions ------------------------------------------------------------------------------


@rule(CONTRACT)
def _of_moved(sweep: Any, gate: Gate) -> Any:
    """A contraction names its axes: it reads what was permuted, or copied along an axis that is
    not summed, where it was.
    """
    a, b, out = parse(gate.params["spec"])
    for k, (own, other) in enumerate(((a, b), (b, a))):
        x = gate.inputs[k]
        if by(x, PERMUTE):
            order = x.params["map"].permutation
            letters = "".join(own[order.index(axis)] for axis in range(len(own)))
            source = x.inputs[0]
        elif by(x, BROADCAST):
            letters, source = _uncopied(sweep, x, own, other, out)
        else:
            continue
        if letters:
            inputs, names = list(gate.inputs), [a, b]
            inputs[k], names[k] = source, letters
            return sweep.make(CONTRACT, tuple(inputs), {"spec": f"{names[0]},{names[1]}->{out}"})
    return None


def _uncopied(sweep: Any, x: Node, own: str, other: str, out: str) -> tuple[str, Any]:
    """The letters of what a broadcast copies, if the rest need not be in this operand."""
    map: IndexMap = x.params["map"]  # type: ignore[index]
    kept = [p.terms[0][0] for p in map.reads if p.terms]
    letters = "".join(own[s] for s in kept)
    if not all(c in other and c in out for c in own if c not in letters):
        return "", None
    shape = tuple(map.out_shape[s] for s in kept)
    return letters, sweep.make(RESHAPE, x.inputs, {"map": reshape_map(map.in_shape, shape)})


@rule(PERMUTE)
def _of_contraction(sweep: Any, gate: Gate) -> Any:
    """A contraction that nobody else reads gives its axes in any order."""
    (x,) = gate.inputs
    if not by(x, CONTRACT) or sweep.uses[x] > 1:
        return None
    a, b, out = parse(x.params["spec"])
    order = gate.params["map"].permutation
    spec = f"{a},{b}->{''.join(out[axis] for axis in order)}"
    return sweep.make(CONTRACT, x.inputs, {"spec": spec})


__all__ = [
    "COMMUTATIVE", "READS", "RULES", "SMALL", "Facts", "Gate", "learn", "rule", "splat", "spread",
    "type_of", "zeros",
]  # fmt: skip
