"""A graph written down: in matrix form (vectors are columns), and in index form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...core.indexmap import Position
from ...core.node import Node
from ...core.primitive import ITEM, Elementwise, LinearGate
from ..numbers import number
from .backward import uniform
from .syntax import ATOM, Part, Text

SUMS = {"add": "+", "sub": "−"}
SIGNS = {
    "not_equal": "≠", "equal": "=", "less": "<", "greater": ">", "less_equal": "≤",
    "greater_equal": "≥",
}  # fmt: skip
LETTERS = "ijklmnpqrtuvw"
EXACT = 8
"""Numbers of more digits than that are rounded ones."""


class NoForm(Exception):
    """A gate has no such form; the message says which and why."""


class Writer:
    """Formulas of one graph in one syntax. `symbols` are the nodes that stand by their name.

    `letters` are the indices of the line that is written, `arrays` the values of leaves; `name_of`
    gives names to other constants.
    """

    def __init__(
        self, syntax: Text, symbols: Mapping[Node, str], letters: Sequence[str],
        arrays: Mapping[Node, Any], name_of: Callable[[Any], str],
    ) -> None:  # fmt: skip
        self.arrays, self.name_of = arrays, name_of
        self.syntax, self.symbols = syntax, symbols
        self.constants: dict[str, Any] = {}
        """Arrays among the gates' constants, by the names they got."""
        self.functions: dict[str, Any] = {}
        """What the functions in formulas compute."""
        self._part: set[str] = set()
        """Letters that go over a part of an axis that they index."""
        self._letters = list(letters)
        """Those that have a meaning where is being written: of the line, and of sums around."""

    def named(self, array: Any) -> str:
        """The name of a constant array."""
        name = self.name_of(array)
        self.constants[name] = array
        return name

    # -- matrix form --------------------------------------------------------------------------

    def matrix(self, x: Any, top: bool = False) -> Part:
        """An operand in matrix form. `top`: what it is made of, although it has a name.

        Raises NoForm.
        """
        s = self.syntax
        x = _source(x)
        if not isinstance(x, Node):
            if x.ndim == 0:
                return self._number(x)
            return s.name(self.named(x))
        if x in self.symbols and not top and len(x.shape) <= 2:
            return s.name(self.symbols[x])
        if renumbers(x) and isinstance(x.inputs[0], Node) and x.inputs[0] in self.symbols:
            return self._call(x, [s.name(self.symbols[x.inputs[0]])])
        if len(x.shape) > 2:
            raise NoForm(f"{x.name} has {len(x.shape)} axes: index form only")
        if x.primitive is None:
            raise NoForm("a value without a name")
        return self._matrix_gate(x)

    def _matrix_gate(self, x: Node) -> Part:
        name = x.name
        if name in SUMS:
            return self._sum([self.matrix(y) for y in x.inputs], SUMS[name])
        if name in ("mul", "scale_gradient", "select_gradient"):
            return self._signed(x.inputs, [self.matrix(y) for y in x.inputs], self._product)
        if name == "contract":
            return self._contract(x)
        if name == "cast":
            return self.matrix(x.inputs[0])
        if isinstance(x.primitive, LinearGate):
            return self._linear(x)
        if not isinstance(x.primitive, Elementwise):
            raise NoForm(f"{_gate(x)} has no matrix form")
        parts = [self.matrix(y) for y in x.inputs]
        return self._elementwise(name, parts) or self._call(x, parts)

    def _call(self, x: Node, parts: list[Part]) -> Part:
        name, compute = x.name, x.primitive.forward  # type: ignore[union-attr]
        if renumbers(x):
            shape = (*x.shape, 1) if len(x.shape) == 1 else x.shape  # vectors are columns

            def compute(array: Any) -> Any:
                return np.reshape(array, shape)

            name = f"{name} {shape}" if self.syntax.python else name
        self.functions[name] = compute
        return self.syntax.call(name, parts)

    def _elementwise(self, name: str, parts: list[Part]) -> Part | None:
        """What both forms write alike."""
        s = self.syntax
        if name == "div":
            return s.divide(*parts)
        if name == "neg":
            return s.negate(parts[0])
        if name == "pow":
            return s.power(*parts)
        if name in SIGNS:
            return s.bracket(parts[0], SIGNS[name], parts[1])
        return None

    def _sum(self, parts: list[Part], sign: str) -> Part:
        first, second = parts
        if (positive := self.syntax.positive(second)) is not None:  # a + -b is a − b
            second, sign = positive, "−" if sign == "+" else "+"
        return self.syntax.sum(first, sign, second)

    def _signed(
        self, inputs: Sequence[Any], parts: list[Part],
        product: Callable[[Sequence[Any], list[Part]], Part],
    ) -> Part:  # fmt: skip
        """A product; the sign of a number in it goes in front of all, and ones go away."""
        for k, x in enumerate(map(_source, inputs)):
            if not isinstance(x, Node) and not x.ndim and x < 0:
                one = x == -1 and len(parts) == 2
                rest = [parts[1 - k]] if one else [*parts]
                if not one:
                    rest[k] = self._number(-x)
                return self.syntax.negate(rest[0] if one else product(inputs, rest))
        return product(inputs, parts)

    def _product(self, inputs: Sequence[Any], parts: list[Part]) -> Part:
        """A product entry by entry; numbers in front, squares as powers."""
        s = self.syntax
        pairs = [(_source(x), p) for x, p in zip(inputs, parts, strict=True)]
        if pairs[0][0] is pairs[1][0]:
            return s.power(parts[0], s.number("2"))
        scalars = [p for x, p in pairs if not np.shape(_data(x))]
        arrays = [p for x, p in pairs if np.shape(_data(x))]
        constants = [p for x, p in pairs if not isinstance(x, Node) and not np.ndim(x)]
        if not arrays:
            ordered = constants + [p for p in scalars if p not in constants]
            return s.product(ordered, s.juxtapose if constants else s.times, len(constants))
        if scalars:
            return s.product([*scalars, *arrays], s.juxtapose, len(constants))
        return s.product(arrays, s.hadamard)

    def _contract(self, x: Node) -> Part:
        s = self.syntax
        operands, out = x.params["spec"].split("->")  # type: ignore[index]
        first, second = operands.split(",")
        if not first or not second:  # a number times an array
            a, b = (self.matrix(y) for y in x.inputs)
            return s.product([a, b] if not first else [b, a], s.juxtapose)
        a, b = (self._full(y) for y in x.inputs)
        simple = all(len(set(t)) == len(t) <= 2 for t in (first, second, out))
        summed = [c for c in first if c in second and c not in out]
        lost = [c for c in first + second if c not in out and c not in summed]
        kept = [c for c in out if c in first and c in second]
        if not simple or len(summed) > 1 or lost or kept:
            raise NoForm(f"the contraction {x.params['spec']} is no product of matrices")  # type: ignore[index]
        free = [t.replace(summed[0], "") if summed else t for t in (first, second)]
        a_first = True
        if out and free[0] + free[1] != out:  # the other order
            first, second, a, b, free = second, first, b, a, free[::-1]
            a_first = False
        if not summed:  # an outer product of vectors
            return self._times(a, s.transpose(b))
        k = summed[0]
        x1, x2 = x.inputs if a_first else x.inputs[::-1]
        left = a if len(first) == 2 and first[1] == k else self._transposed(x1, a)
        right = b if second[0] == k else self._transposed(x2, b)
        if not free[0] and free[1]:  # a row: written as a column
            right = b if second[1:] == k else self._transposed(x2, b)
            return self._times(right, a)
        return self._times(left, right)

    def _full(self, y: Any) -> Part:
        """An operand of a matrix product: of one number everywhere, with its columns of ones."""
        part, shape = self.matrix(y), np.shape(_data(y))
        if not shape or not self._single(y):
            return part
        if len(shape) > 2:
            raise NoForm(f"an array of {len(shape)} axes: index form only")
        ones = self._ones(shape[0])
        if len(shape) == 2 and shape[1] > 1:
            ones = self._times(ones, self.syntax.transpose(self._ones(shape[1])))
        if part[0] == "1":
            return ones
        return self.syntax.product([part, ones], self.syntax.juxtapose)

    def _transposed(self, x: Any, part: Part) -> Part:
        """The transpose of an operand that is written like this; of a transpose what is inside."""
        x = _source(x)
        inside = isinstance(x, Node) and x not in self.symbols and x.name == "permute"
        return self._full(x.inputs[0]) if inside else self.syntax.transpose(part)

    def _single(self, x: Any) -> bool:
        """Whether an operand is written as one number, whatever its shape."""
        x = _source(x)
        if not np.shape(_data(x)):
            return True
        made = isinstance(x, Node) and x not in self.symbols
        return made and isinstance(x.primitive, Elementwise) and all(map(self._single, x.inputs))

    def _times(self, a: Part, b: Part) -> Part:
        """A product of matrices."""
        return self.syntax.product([a, b], " @ " if self.syntax.python else self.syntax.juxtapose)

    def _number(self, array: Any) -> Part:
        """A number, as short as its dtype allows; one like 0.166666671634 as 1/6."""
        s, x = self.syntax, float(array)
        text = number(x, 12)
        if array.dtype == np.float32:
            text = min(text, number(float(str(array)), 12), key=len)
        if len(text) > EXACT and 1e-7 < abs(x) < 1:
            n = round(1 / x)
            if abs(n) > 1 and np.float32(1 / n) == np.float32(x):
                share = s.divide(s.number("1"), s.number(str(abs(n))))
                return share if n > 0 else s.negate(share)
        return s.number(text)

    def _ones(self, n: int) -> Part:
        return (f"ones({n})", ATOM) if self.syntax.python else self.syntax.number(self.syntax.ones)

    def _linear(self, x: Node) -> Part:
        s, y = self.syntax, x.inputs[0]
        inner, shape, out = self._full(y), np.shape(_data(y)), x.shape
        if x.name == "permute":
            return self._transposed(y, inner) if len(shape) == 2 else inner
        if x.name == "broadcast" and len(out) == 2 and all(n == 1 for n in shape):
            across = self._times(inner, s.transpose(self._ones(out[1]))) if out[1] > 1 else inner
            return self._times(self._ones(out[0]), across) if out[0] > 1 else across
        if x.name == "broadcast" and len(shape) == 1 and len(out) == 2:
            if x.params["map"].reads[0].terms == ((1, 1),):  # type: ignore[index]
                return self._times(self._ones(out[0]), s.transpose(inner))
            return self._times(inner, s.transpose(self._ones(out[1])))
        if x.name == "broadcast" and len(shape) == len(out) == 2:  # a column, or a row
            reads = [p.terms for p in x.params["map"].reads]  # type: ignore[index]
            if shape[1] == 1 and reads[0] == ((0, 1),):
                return self._times(inner, s.transpose(self._ones(out[1])))
            if shape[0] == 1 and reads[1] == ((1, 1),):
                return self._times(self._ones(out[0]), inner)
        if x.name == "sum" and all(n == 1 for n in out):
            return s.everything(inner)
        if x.name == "sum" and len(shape) == 2 and (len(out) == 1 or 1 in out):
            rows, columns = self._ones(shape[0]), self._ones(shape[1])
            kept = {t for p in x.params["map"].writes for t, _ in p.terms}  # type: ignore[index]
            reads = [{t for t, _ in p.terms} for p in x.params["map"].reads]  # type: ignore[index]
            if reads[0] <= kept and not reads[1] <= kept:
                return self._times(inner, columns)
            if reads[1] <= kept and not reads[0] <= kept:
                if len(out) == 2:  # a row
                    return self._times(s.transpose(rows), inner)
                return self._times(self._transposed(y, inner), rows)
        if x.name == "reshape" and all(n == 1 for n in (*shape, *out)):
            return inner
        column = {(shape[0], 1), (shape[0],)} if len(shape) in (1, 2) else set()
        if x.name == "reshape" and tuple(out) in column and (
            len(shape) == 1 or shape[1] == 1
        ):  # fmt: skip
            return inner
        row = {(1, *shape), shape[1:]} if len(shape) in (1, 2) else set()
        if x.name == "reshape" and tuple(out) in row and (len(shape) == 1 or shape[0] == 1):
            return s.transpose(inner)
        raise NoForm(f"{x.name} has no matrix form")

    # -- index form ---------------------------------------------------------------------------

    def index(self, x: Any, at: Sequence[str], top: bool = False) -> Part:
        """The entry of an operand at these indices. Raises NoForm."""
        s = self.syntax
        x = _source(x)
        if not isinstance(x, Node):
            if x.ndim == 0:
                return self._number(x)
            return s.name(self.named(x), at)
        at = at if x.shape else ()
        if x in self.symbols and not top:
            return s.name(self.symbols[x], at)
        if x.primitive is None:
            raise NoForm("a value without a name")
        name = x.name
        if name == "cast":
            return self.index(x.inputs[0], at)
        if name == "contract":
            return self._index_contract(x, at)
        if isinstance(x.primitive, LinearGate):
            return self._index_linear(x, at)
        if not isinstance(x.primitive, Elementwise):
            raise NoForm(f"{_gate(x)} has no index form")
        parts = [self.index(y, at if np.shape(_data(y)) else ()) for y in x.inputs]
        if name in SUMS:
            return self._sum(parts, SUMS[name])
        if name in ("mul", "scale_gradient", "select_gradient"):
            return self._signed(x.inputs, parts, self._entries)
        return self._elementwise(name, parts) or self._call(x, parts)

    def _entries(self, inputs: Sequence[Any], parts: list[Part]) -> Part:
        """A product of two entries; a number in front, squares as powers."""
        if _source(inputs[0]) is _source(inputs[1]):
            return self.syntax.power(parts[0], self.syntax.number("2"))
        numbers = [
            p for y, p in zip(inputs, parts, strict=True) if not isinstance(_source(y), Node)
        ][:1]
        ordered = numbers + [p for p in parts if not any(p is c for c in numbers)]
        return self.syntax.product(ordered, self.syntax.juxtapose, len(numbers))

    def fresh(self, taken: Sequence[str], count: int) -> list[str]:
        """Letters for sums."""
        used = "".join(taken)
        free: Iterator[str] = (
            c for c in (*LETTERS, *(f"i{k}" for k in range(99))) if c not in used
        )
        return [next(free) for _ in range(count)]

    def _index_contract(self, x: Node, at: Sequence[str]) -> Part:
        operands, out = x.params["spec"].split("->")  # type: ignore[index]
        both = operands.split(",")
        summed = list(dict.fromkeys(c for c in operands if c != "," and c not in out))
        sizes: dict[str, int] = {}
        for letters, y in zip(both, x.inputs, strict=True):
            sizes.update(zip(letters, np.shape(_data(y)), strict=True))
        names = dict(zip(out, at, strict=True))
        names.update(zip(summed, self.fresh([*at, *self._letters], len(summed)), strict=True))
        with_letters = [names[c] for c in summed]
        outer, self._letters = self._letters, [*self._letters, *with_letters]
        parts = [
            self.index(y, [names[c] for c in letters])
            for letters, y in zip(both, x.inputs, strict=True)
        ]
        self._letters = outer
        parts = [p for p in parts if p[0] != "1"] or parts[:1]
        result = self.syntax.product(parts, self.syntax.juxtapose) if parts[1:] else parts[0]
        if not summed:
            return result
        ranged = not self._part.isdisjoint(with_letters)
        return self.syntax.total(with_letters, result, [sizes[c] for c in summed], ranged)

    def _index_linear(self, x: Node, at: Sequence[str]) -> Part:
        """Σ over the symbols that no index fixes, of the entry that the map reads."""
        map = x.params["map"]  # type: ignore[index]
        s, y = self.syntax, x.inputs[0]
        if map.in_view != map.in_shape or map.out_view != map.out_shape:
            return self._reshaped(x, at)
        reads, writes = ([self._counting(p, x) for p in ps] for ps in (map.reads, map.writes))
        bound: dict[int, str] = {}
        conditions: list[tuple[str, Position]] = []
        for letter, p, n in zip(at, writes, x.shape, strict=True):
            if n == 1 and p.table is None and not p.terms:
                continue
            if p.table is None and p.offset == 0 and len(p.terms) == 1 and p.terms[0][1] == 1:
                symbol = p.terms[0][0]
                if symbol not in bound:
                    bound[symbol] = letter
                    continue
            conditions.append((letter, p))
        needed = {t for p in (*reads, *(p for _, p in conditions)) for t, _ in p.terms}
        free = [k for k in range(len(map.sizes)) if k not in bound and (
            k in needed or map.sizes[k] != 1)]  # fmt: skip
        letters = self.fresh([*at, *self._letters], len(free))
        letters = ["0" if map.sizes[k] == 1 else c for k, c in zip(free, letters, strict=True)]
        names = {**bound, **dict(zip(free, letters, strict=True))}
        outer, self._letters = self._letters, [*self._letters, *letters]

        def written(p: Position) -> str:
            if p.table is None:
                return s.index(p.offset, [(names[k], a) for k, a in p.terms])
            table = _source(x.inputs[1 + p.table])
            if not isinstance(table, Node) and not table.ndim:
                return str(int(table))
            if isinstance(table, Node) and table not in self.symbols:
                raise NoForm(f"{x.name} reads where {table.name} says")
            own = self.symbols[table] if isinstance(table, Node) else self.named(table)
            return s.looked_up(own, [names[k] for k, _ in p.terms])

        for p, n in zip(reads, map.in_view, strict=True):
            whole = p.table is not None or not p.offset
            self._part |= {names[k] for k, _ in p.terms if not whole or map.sizes[k] != n}
        inner = self.index(y, [written(p) for p in reads])
        self._letters = outer
        parts = [inner]
        for p, n in zip(reads, map.in_view, strict=True):
            if p.table is not None:
                continue
            low = p.offset + sum(min(a * (map.sizes[k] - 1), 0) for k, a in p.terms)
            high = p.offset + sum(max(a * (map.sizes[k] - 1), 0) for k, a in p.terms)
            if low < 0 or high >= n:
                parts.append(s.inside(written(p), n))
        for k, letter in bound.items():  # an index beyond what the map writes
            n = x.shape[list(at).index(letter)]
            if map.sizes[k] < n:
                parts.append(s.inside(letter, map.sizes[k]))
        parts += [s.bracket(s.letter(c), "=", s.letter(written(p))) for c, p in conditions]
        if s.python and len(parts) > 1:
            guard = " and ".join(p[0] for p in parts[1:])
            result: Part = (f"(({inner[0]}) if {guard} else 0.0)", ATOM)
        else:
            result = s.product(parts, s.juxtapose) if len(parts) > 1 else inner
        pairs = [(c, map.sizes[k]) for k, c in zip(free, letters, strict=True) if c != "0"]
        if not pairs:
            return result
        part_of = any(  # of an axis: its end is not the array's
            k in free and map.sizes[k] != n
            for p, n in zip(reads, map.in_view, strict=True) if p.table is None
            for k, _ in p.terms
        )  # fmt: skip
        ranged = part_of or len(parts) > 1 or not self._part.isdisjoint(letters)
        ranged = ranged or any(c not in result[0] for c, _ in pairs)
        return s.total([c for c, _ in pairs], result, [n for _, n in pairs], ranged)

    def _counting(self, p: Position, x: Node) -> Position:
        """A position in a table that counts 0, 1, 2 … as the symbol itself."""
        if p.table is None or len(p.terms) != 1:
            return p
        table = _source(x.inputs[1 + p.table])
        values = self.arrays.get(table) if isinstance(table, Node) else table
        counts = values is not None and np.array_equal(values, np.arange(np.size(values)))
        return Position(((p.terms[0][0], 1),)) if counts else p

    def _reshaped(self, x: Node, at: Sequence[str]) -> Part:
        """A reshape that only adds or drops axes of length 1."""
        shape, out = np.shape(_data(x.inputs[0])), x.shape
        if [n for n in shape if n != 1] != [n for n in out if n != 1]:
            raise NoForm(f"{x.name} from {shape} to {out} renumbers entries")
        left = iter(c for c, n in zip(at, out, strict=True) if n != 1)
        return self.index(x.inputs[0], [next(left) if n != 1 else "0" for n in shape])


def renumbers(x: Node) -> bool:
    """Whether a gate is a reshape that joins or splits axes: it has no index form."""
    if x.name != "reshape":
        return False
    before, after = (
        [n for n in shape if n != 1] for shape in (np.shape(_data(x.inputs[0])), x.shape)
    )
    return before != after


def _gate(x: Node) -> str:
    """The name of a gate; of one output of a gate that of the gate."""
    inner = x.inputs[0] if x.primitive is ITEM else x
    return inner.name if isinstance(inner, Node) else x.name


def _source(x: Any) -> Any:
    """What an operand is, behind copies of one number; a Python number as an array."""
    while isinstance(x, Node) and x.name in ("broadcast", "cast"):
        y = x.inputs[0]
        plain = not isinstance(y, Node)
        if np.shape(_data(y)) and (not plain or not uniform(np.asarray(y))):
            break
        x = y
    if isinstance(x, Node):
        return x
    array = np.asarray(x)
    return array.reshape(-1)[0].reshape(()) if array.ndim and uniform(array) else array


def _data(x: Any) -> Any:
    """Something that has the shape of an operand."""
    return np.broadcast_to(0, x.shape) if isinstance(x, Node) else np.asarray(x)
