"""Forms in index form: ∂q_k/∂W_ij = δ_ki A_j, with A: 784.

δ_ki is 1 where k = i, a bracket [j = 2i + 1] is 1 where what it says holds; both are else 0. t_i is
an entry of a table of positions. Indices count from 0, and Σ runs over the whole range of a letter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .form import Form
from .positions import Affine, Entry, Position, Symbol, affine, plain, span, symbols_of
from .term import Term

LETTERS = "ijklmnpquvwabcdefghαβγδεζηθικλμνξπρστυφχψω"
NAMES = "ABCDEFGHKLMNPQRSTUVWXYZ"
TABLES = "trsozy"
MINUS = "−"


def formula(form: Form, output: str = "y", input: str = "x",
            names: Mapping[int, str] | None = None) -> str:  # fmt: skip
    """The entries in index form, and the shapes of the arrays in it.

    `names` are those of arrays that are known, by `id` of the array that owns the memory; others
    are called A, B, C …
    """
    text, arrays = named(form, output, input, names)
    if not arrays:
        return text
    said = [f"{name}: {'×'.join(map(str, a.shape)) or 'a number'}" for name, a in arrays.items()]
    return f"{text}, with {', '.join(said)}"


def named(form: Form, output: str = "y", input: str = "x",
          names: Mapping[int, str] | None = None) -> tuple[str, dict[str, Any]]:  # fmt: skip
    """The formula, and the arrays that its names stand for."""
    out, inn = _letters(len(form.out_shape), len(form.in_shape))
    left = f"∂{output}{'_' if out else ''}{out}/∂{input}{'_' if inn else ''}{inn}"
    arrays = _Arrays(names or {}, {output, input})
    total = ""
    for term in form.terms:
        negative, text = _Written(form, term, out, inn, arrays).text()
        if total:
            total += f" {MINUS if negative else '+'} {text}"
        else:
            total = (MINUS if negative else "") + text
    return f"{left} = {total or '0'}", arrays.known


def _letters(outputs: int, inputs: int) -> tuple[str, str]:
    """Letters of the axes. One output axis is k, as where a layer is written q_k = Σ W_kj x_j."""
    if outputs > 1:
        return LETTERS[:outputs], LETTERS[outputs : outputs + inputs]
    rest = "j" if inputs == 1 else LETTERS.replace("k", "", 1)[:inputs]
    return "k"[:outputs], rest[:inputs]


# -- names of arrays ---------------------------------------------------------------------------


@dataclass
class _Arrays:
    """Names given to arrays; the same memory read the same way has one name."""

    names: Mapping[int, str]
    taken: set[str]
    known: dict[str, Any] = field(default_factory=dict)

    def name(self, array: Any, letters: str) -> str:
        """The name with its indices, for an array with these letters along its axes."""
        for name, other in self._candidates(array):
            order = _order(other, array)
            if order is not None:
                self.known[name] = other
                return _indexed(name, "".join(letters[k] for k in order))
        order = sorted(range(array.ndim), key=lambda k: -abs(array.strides[k]))
        array, letters = array.transpose(order), "".join(letters[k] for k in order)
        free = TABLES if array.dtype.kind == "i" else NAMES
        name = next(n for n in _endless(free) if n not in self.known and n not in self.taken)
        self.known[name] = array
        return _indexed(name, letters)

    def _candidates(self, array: Any) -> Iterator[tuple[str, Any]]:
        yield from list(self.known.items())
        base = array
        while isinstance(base, np.ndarray):
            if id(base) in self.names:
                yield self.names[id(base)], base
            base = base.base


def _endless(names: str) -> Iterator[str]:
    for mark in ("", "'", "''", "'''"):
        yield from (n + mark for n in names)


def _order(first: Any, second: Any) -> list[int] | None:
    """The axis of the second array that each of the first is, if they are the same numbers."""
    one, other = first.__array_interface__, second.__array_interface__
    if one["data"] != other["data"] or first.dtype != second.dtype or first.ndim != second.ndim:
        return None
    mine = list(zip(first.shape, first.strides, strict=True))
    yours = list(zip(second.shape, second.strides, strict=True))
    if mine == yours:
        return list(range(first.ndim))
    if len(set(mine)) < len(mine) or set(mine) != set(yours):
        return None
    return [yours.index(axis) for axis in mine]


def _indexed(name: str, letters: str) -> str:
    return f"{name}_{letters}" if letters else name


# -- one term ----------------------------------------------------------------------------------


class _Written:
    """One term, with letters for its symbols."""

    def __init__(self, form: Form, term: Term, out: str, inn: str, arrays: _Arrays) -> None:
        self.term, self.arrays = term, arrays
        self.letter: dict[Symbol, str] = {}
        self.deltas: list[str] = []
        self.brackets: list[str] = []
        self.single = {s: Affine() for s, n in term.sizes.items() if n == 1}
        places = [*zip(out, term.out, form.out_shape, strict=True),
                  *zip(inn, term.inn, form.in_shape, strict=True)]  # fmt: skip
        self.axes = [(x, self._without(p), n) for x, p, n in places if n != 1]
        known = {(p, n) for _, p, n in self.axes}
        known |= {(affine({s: -a for s, a in p.terms}, n - 1 - p.offset), n)
                  for p, n in known if isinstance(p, Affine)}  # fmt: skip
        guards = [(self._without(g.position), g.size) for g in term.guards]
        self.guards = [g for g in guards if g not in known]
        self.free = iter([x for x in LETTERS if x not in out + inn])
        self._equations()

    def _without(self, p: Position) -> Position:
        """A position without symbols of one value."""
        if isinstance(p, Affine):
            return p.replaced(self.single)
        keep = tuple(slice(None) if s not in self.single else 0 for s in p.axes)
        axes = tuple(s for s in p.axes if s not in self.single)
        table, rest = np.asarray(p.table[keep]), p.rest.replaced(self.single)
        return Entry(table, axes, rest) if axes else rest.plus(Affine((), int(table)))

    def _equations(self) -> None:
        """A letter for each symbol that an axis is; what the other axes say."""
        tied, ranges = [], []
        for x, p, n in self.axes:
            s = plain(p)
            if s is None:
                tied.append((x, p))
            elif s in self.letter:
                self.deltas.append(f"δ_{self.letter[s]}{x}")
            else:
                self.letter[s] = x
                if self.term.sizes[s] < n:
                    ranges.append(s)
        self.brackets += [f"[{self.letter[s]} < {self.term.sizes[s]}]" for s in ranges
                          if not self._implied(s)]  # fmt: skip
        self.summed: list[Symbol] = []
        for x, p in tied:
            if not self._between(x, p):
                self.brackets.append(f"[{x} = {self._position(p)}]")
        for p, size in self.guards:
            if not self._holds(p, size):
                self.brackets.append(f"[0 ≤ {self._position(p)} < {size}]")

    def _holds(self, p: Position, size: int) -> bool:
        """Whether 0 ≤ p < size wherever the other axes lie in their range, for p of one symbol."""
        if isinstance(p, Entry) or len(p.terms) != 1:
            return False
        ((s, a),) = p.terms
        values = np.arange(self.term.sizes[s])
        for q, n in ((q, n) for _, q, n in self.axes if symbols_of(q) == (s,)):
            if isinstance(q, Affine):
                place = q.offset + q.stride(s) * values
                values = values[(place >= 0) & (place < n)]
        place = p.offset + a * values
        return bool(((place >= 0) & (place < size)).all())

    def _implied(self, s: Symbol) -> bool:
        """Whether some other axis says that a symbol has no larger value."""
        end = self.term.sizes[s]
        return any(
            isinstance(p, Affine) and symbols_of(p) == (s,) and x != self.letter[s]
            and not 0 <= p.offset + end * p.stride(s) < n
            for x, p, n in self.axes
        )  # fmt: skip

    def _between(self, x: str, p: Position) -> bool:
        """x = … ± s with a symbol s that stands nowhere else: what is between x and the rest."""
        if isinstance(p, Entry):
            return False
        everywhere = [t for _, q, _ in self.axes for t in symbols_of(q)]
        everywhere += [t for f in self.term.factors for t in f.symbols]
        everywhere += [t for q, _ in self.guards for t in symbols_of(q)]
        for s, a in p.terms:
            if abs(a) != 1 or everywhere.count(s) != 1 or s in self.letter:
                continue
            rest = affine({t: b for t, b in p.terms if t != s}, p.offset)
            if any(t not in self.letter for t in symbols_of(rest)):
                continue
            n = self.term.sizes[s]
            self.letter[s] = ""  # it is said
            bound = next(m for y, _, m in self.axes if y == x)
            low, high = span(rest, self.term.sizes)
            # s = a · (x - rest) lies between these, and is to lie between 0 and n
            least, most = (-high, bound - 1 - low) if a > 0 else (low - bound + 1, high)
            text = self._position(rest)
            first, second = (text, x) if a > 0 else (x, text)
            difference = f"{second} {MINUS} {_grouped(first)}"
            if most < n and least < 0:
                self.brackets.append(f"[{first} ≤ {second}]")
            elif least < 0 or most >= n:
                self.brackets.append(f"[0 ≤ {difference} < {n}]")
            return True
        return False

    def _name(self, s: Symbol) -> str:
        """The letter of a symbol; one that no axis is is summed over."""
        if s not in self.letter:
            self.letter[s] = next(self.free)
            self.summed.append(s)
        return self.letter[s]

    def _position(self, p: Position) -> str:
        if isinstance(p, Entry):
            table = self.arrays.name(p.table, "".join(self._name(s) for s in p.axes))
            rest = self._position(p.rest)
            if rest == "0":
                return table
            return f"{table} {MINUS} {rest[1:]}" if rest[0] == MINUS else f"{table} + {rest}"
        text = ""
        for s, a in sorted(p.terms, key=lambda pair: (pair[1] < 0, self._name(pair[0]))):
            number = "" if abs(a) == 1 else str(abs(a))
            sign = f" {MINUS} " if a < 0 else " + "
            text += (sign if text else sign.strip(" +")) + number + self._name(s)
        if p.offset or not text:
            sign = f" {MINUS} " if p.offset < 0 else " + "
            text += (sign if text else sign.strip(" +")) + str(abs(p.offset))
        return text

    def text(self) -> tuple[bool, str]:
        """Whether it is subtracted, and the product."""
        scale, factors = float(self.term.scale), []
        for f in self.term.factors:
            array = np.asarray(f.array)
            keep = tuple(slice(None) if s not in self.single else 0 for s in f.symbols)
            array = np.asarray(array[keep])
            if not array.ndim and _short(float(array)):
                scale *= float(array)
                continue
            letters = "".join(self._name(s) for s in f.symbols if s not in self.single)
            factors.append(self.arrays.name(array, letters))
        for s, n in self.term.sizes.items():
            if s not in self.letter and n > 1:
                scale *= n  # a sum of equal entries
        over = "".join(self.letter[s] for s in self.summed)
        first = [b for b in self.brackets if not set(over) & set(b)]
        inside = [b for b in self.brackets if set(over) & set(b)]
        product = [*self.deltas, *first, *([f"Σ_{over}"] if over else []), *inside, *factors]
        if abs(scale) != 1 or not product:
            product.insert(0, _number(abs(scale)))
        return scale < 0, " ".join(product)


def _grouped(text: str) -> str:
    return f"({text})" if " " in text else text


def _short(x: float) -> bool:
    """Whether a number can be said in a few digits, or as one over a whole number."""
    return float(f"{x:.6g}") == x or (abs(x) < 1 and 1 / round(1 / x) == x)


def _number(x: float) -> str:
    if float(f"{x:.6g}") == x:
        return f"{x:.6g}"
    return f"1/{round(1 / x)}" if _short(x) else repr(x)
