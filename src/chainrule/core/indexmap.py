"""Index maps: what a linear gate does, said once, as data.

A linear gate without numbers of its own (sum, broadcast, permute, slice, pad, windows, gather …)
adds entries of its input to entries of its output. Which to which is an `IndexMap`: a box of loop
symbols, and for every axis of the input (`reads`) and of the output (`writes`) an affine position

    for s in box(sizes):  output[writes(s)] += input[reads(s)]

where positions outside an axis are left out. Swapping `reads` and `writes` transposes the map;
one more symbol in front batches it; costs, strides and structure are read from it. Rules are
never written for a single linear gate.

A position may also go through a table: `input[..., table[s], ...]`; the table is then an integer
operand of the gate (gather, and scatter-add as its transpose).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np

from .types import Shape, size_of

LETTERS = "ijklmnopqrstuvwxyzabcdefgh"


class Position(NamedTuple):
    """offset + Σ stride·symbol along one axis; or, with `table` = k, entry [symbols] of table k."""

    terms: tuple[tuple[int, int], ...] = ()
    offset: int = 0
    table: int | None = None

    def formula(self, names: Sequence[str]) -> str:
        if self.table is not None:
            return f"t{self.table}[{','.join(names[s] for s, _ in self.terms)}]"
        text = ""
        for symbol, stride in self.terms:
            sign = "-" if stride < 0 else "+" if text else ""
            text += sign + ("" if abs(stride) == 1 else f"{abs(stride)}·") + names[symbol]
        if self.offset or not text:
            text += f"{self.offset:+d}" if text else str(self.offset)
        return text


def symbol(s: int) -> Position:
    """The position that is the symbol itself."""
    return Position(((s, 1),))


@dataclass(frozen=True)
class IndexMap:
    """output[writes(s)] += input[reads(s)] for s in the box `sizes`.

    `in_view` and `out_view` are the shapes that the positions count in: regroupings of `in_shape`
    and `out_shape` (they differ only for reshape). Maps compare by what they say.
    """

    sizes: Shape
    reads: tuple[Position, ...]
    writes: tuple[Position, ...]
    in_shape: Shape
    out_shape: Shape
    in_view: Shape
    out_view: Shape

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.sizes, self.reads, self.writes, self.in_shape, self.out_shape))

    @cached_property
    def T(self) -> IndexMap:
        """The transpose: what was read is written. `m.T.T is m`."""
        other = IndexMap(
            self.sizes, self.writes, self.reads,
            self.out_shape, self.in_shape, self.out_view, self.in_view,
        )  # fmt: skip
        self._link(other)
        return other

    @cached_property
    def _batches(self) -> dict[Any, IndexMap]:
        return {}

    def batched(self, n: int, tables: tuple[bool, ...] = (), reads: bool = True) -> IndexMap:
        """The same map with one more leading axis of n entries.

        `tables` says which tables have that axis as well; without `reads` the input has it not,
        and is the same for all n.
        """
        # kept here and not in a cache by equality: equal maps may name their transpose differently
        key = (n, tables, reads)
        if key not in self._batches:
            self._batches[key] = new = self._batched(n, tables, reads)
            if not tables:
                new._link(self.T._batched(n, (), True))
        return self._batches[key]

    def _link(self, transpose: IndexMap) -> IndexMap:
        self.__dict__["T"], transpose.__dict__["T"] = transpose, self
        return self

    def _batched(self, n: int, tables: tuple[bool, ...], reads: bool) -> IndexMap:
        def shift(positions: tuple[Position, ...], leads: bool) -> tuple[Position, ...]:
            moved = []
            for p in positions:
                terms = tuple((s + 1, a) for s, a in p.terms)
                own = p.table is not None and p.table < len(tables) and tables[p.table]
                moved.append(p._replace(terms=((0, 1), *terms) if own else terms))
            return (symbol(0), *moved) if leads else tuple(moved)

        lead = (n,) if reads else ()
        return IndexMap(
            (n, *self.sizes), shift(self.reads, reads), shift(self.writes, True),
            (*lead, *self.in_shape), (n, *self.out_shape),
            (*lead, *self.in_view), (n, *self.out_view),
        )  # fmt: skip

    @cached_property
    def summed(self) -> tuple[int, ...]:
        """The symbols that no output axis uses: they are summed over."""
        used = {s for p in self.writes for s, _ in p.terms}
        return tuple(s for s in range(len(self.sizes)) if s not in used)

    @cached_property
    def additions(self) -> int:
        """The number of additions (entries that land on an output entry already written)."""
        return max(0, size_of(self.sizes) - size_of(self.out_shape))

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """The input as basic slices, for maps in which each axis is read by one symbol."""
        result = []
        for p in self.reads:
            ((s, step),) = p.terms
            stop = p.offset + step * self.sizes[s]  # one below 0 would count from the end
            result.append(slice(p.offset, stop if stop >= 0 else None, step))
        return tuple(result)

    @cached_property
    def permutation(self) -> tuple[int, ...]:
        """The input axis that runs along each output axis, for permutations."""
        axis_of = {p.terms[0][0]: axis for axis, p in enumerate(self.reads)}
        return tuple(axis_of[p.terms[0][0]] for p in self.writes)

    @cached_property
    def alignment(self) -> Shape:
        """`in_shape` with 1 for each symbol the input does not have, for broadcasts."""
        reading = {
            p.terms[0][0]: n for p, n in zip(self.reads, self.in_view, strict=True) if p.terms
        }
        return tuple(reading.get(s, 1) for s in range(len(self.sizes)))

    def strides(self, strides: Shape) -> Shape:
        """The stride of each symbol in an input whose axes have these strides."""
        result = [0] * len(self.sizes)
        for p, stride in zip(self.reads, strides, strict=True):
            for s, a in p.terms:
                result[s] += a * stride
        return tuple(result)

    def view(self, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The input read over the whole box as a strided view; every position must be in bounds."""
        if 0 in self.sizes:
            return np.empty(self.sizes, x.dtype)
        corner = x[tuple(slice(p.offset, None) for p in self.reads)]
        return np.lib.stride_tricks.as_strided(corner, self.sizes, self.strides(x.strides))

    def positions(self, tables: Sequence[Any] = ()) -> tuple[Any, Any]:
        """Flat input and output positions of every pair in bounds: the definition of the map."""
        grid = np.indices(self.sizes).reshape(len(self.sizes), size_of(self.sizes))
        inside = np.ones(size_of(self.sizes), bool)
        flat = []
        for positions, view in ((self.reads, self.in_view), (self.writes, self.out_view)):
            total = np.zeros(size_of(self.sizes), np.int64)
            for p, n in zip(positions, view, strict=True):
                if p.table is None:
                    at = p.offset + sum((a * grid[s] for s, a in p.terms), np.int64(0))
                else:
                    at = np.asarray(tables[p.table])[tuple(grid[s] for s, _ in p.terms)]
                inside &= (at >= 0) & (at < n)
                total = total * n + at
            flat.append(total)
        return flat[0][inside], flat[1][inside]

    def evaluate(self, x: np.ndarray[Any, Any], *tables: Any) -> np.ndarray[Any, Any]:
        """output[writes(s)] += input[reads(s)], entry by entry: slow, and right by definition."""
        source, target = self.positions(tables)
        out = np.zeros(size_of(self.out_shape), x.dtype)
        np.add.at(out, target, x.reshape(-1)[source])
        return out.reshape(self.out_shape)

    def __str__(self) -> str:
        names = [LETTERS[s] if s < len(LETTERS) else f"s{s}" for s in range(len(self.sizes))]
        if self.in_view != self.in_shape or self.out_view != self.out_shape:
            return f"{self.in_shape} → {self.out_shape}"
        left = ",".join(p.formula(names) for p in self.writes)
        right = ",".join(p.formula(names) for p in self.reads)
        sums = "".join(f"Σ{names[s]} " for s in self.summed)
        return f"y[{left}] = {sums}x[{right}]"


def _reading(shape: Shape, sizes: Sequence[int], reads: Sequence[Position]) -> IndexMap:
    """The map in which output entry s is input entry reads(s)."""
    out = tuple(sizes)
    writes = tuple(symbol(s) for s in range(len(out)))
    return IndexMap(out, tuple(reads), writes, shape, out, shape, out)


@lru_cache(maxsize=4096)
def permute_map(shape: Shape, axes: tuple[int, ...]) -> IndexMap:
    """y[s] = x with axis axes[j] of x running along axis j of y."""
    reads = [symbol(axes.index(k)) for k in range(len(shape))]
    return _reading(shape, [shape[a] for a in axes], reads)


@lru_cache(maxsize=4096)
def broadcast_map(shape: Shape, out_shape: Shape, axes: tuple[int, ...] | None = None) -> IndexMap:
    """Copies along the new and the stretched axes; axis j of x lies along axis axes[j] of y.

    Without `axes` the axes are aligned at the right, as NumPy does. Its transpose is sum.
    """
    if axes is None:
        axes = tuple(range(len(out_shape) - len(shape), len(out_shape)))
    reads = [
        symbol(a) if n == out_shape[a] else Position() for n, a in zip(shape, axes, strict=True)
    ]
    return _reading(shape, out_shape, reads)


@lru_cache(maxsize=4096)
def reshape_map(shape: Shape, out_shape: Shape) -> IndexMap:
    """The same entries in the same order. Both sides are seen in their common refinement."""
    view = tuple(_refine(shape, out_shape))
    same = tuple(symbol(s) for s in range(len(view)))
    return IndexMap(view, same, same, shape, out_shape, view, view)


def _refine(first: Shape, second: Shape) -> Sequence[int]:
    """The finest shape that both regroup, where radices nest; runs that do not are one axis."""
    if 0 in first:
        return (0,)
    view: list[int] = []
    a, b = [n for n in first if n != 1], [n for n in second if n != 1]
    while a:
        left, right = a.pop(0), b.pop(0)
        while left != right:
            if right % left == 0:  # split the larger by the smaller while it divides
                view.append(left)
                left, right = a.pop(0), right // left
            elif left % right == 0:
                view.append(right)
                left, right = left // right, b.pop(0)
            elif left < right:  # else the run becomes one axis
                left *= a.pop(0)
            else:
                right *= b.pop(0)
        view.append(left)
    return view


@lru_cache(maxsize=4096)
def slice_map(shape: Shape, starts: Shape, sizes: Shape, steps: tuple[int, ...]) -> IndexMap:
    """y[s] = x[start + step·s]; steps may be negative. Its transpose is pad."""
    reads = [
        Position(((s, step),), start)
        for s, (start, step) in enumerate(zip(starts, steps, strict=True))
    ]
    return _reading(shape, sizes, reads)


@lru_cache(maxsize=4096)
def flip_map(shape: Shape, axes: tuple[int, ...]) -> IndexMap:
    """y[s] = x[n - 1 - s] along the axes: its own transpose."""
    reads = [Position(((s, -1),), n - 1) if s in axes else symbol(s) for s, n in enumerate(shape)]
    map = _reading(shape, shape, reads)
    return map._link(map)


@lru_cache(maxsize=4096)
def diagonal_map(shape: Shape, first: int, second: int, offset: int) -> IndexMap:
    """y[…, d] = x[…, d, …, d + offset, …]: a diagonal of two axes, as a new last axis."""
    rest = [k for k in range(len(shape)) if k not in (first, second)]
    low, high = max(0, -offset), max(0, offset)
    length = max(0, min(shape[first] - low, shape[second] - high))
    last = len(rest)
    reads = [
        Position(((last, 1),), low if k == first else high)
        if k in (first, second)
        else symbol(rest.index(k))
        for k in range(len(shape))
    ]
    return _reading(shape, [*(shape[k] for k in rest), length], reads)


@lru_cache(maxsize=4096)
def windows_map(
    shape: Shape, axes: tuple[int, ...], sizes: Shape, strides: Shape, dilations: Shape
) -> IndexMap:
    """y[…, o, …, k] = x[…, stride·o + dilation·k, …]: sliding windows; the k are new last axes."""
    out = list(shape)
    reads = [symbol(s) for s in range(len(shape))]
    for number, (axis, k, stride, dilation) in enumerate(
        zip(axes, sizes, strides, dilations, strict=True)
    ):
        out[axis] = max(0, (shape[axis] - dilation * (k - 1) - 1) // stride + 1)
        reads[axis] = Position(((axis, stride), (len(shape) + number, dilation)))
    return _reading(shape, [*out, *sizes], reads)


@lru_cache(maxsize=4096)
def cumsum_map(shape: Shape, axis: int, reverse: bool = False) -> IndexMap:
    """y[o] = Σ_k x[o - k] along one axis, k from 0; in reverse y[o] = Σ_k x[o + k]."""
    last = len(shape)

    def one_way(sign: int) -> IndexMap:
        reads = [symbol(s) for s in range(last)]
        reads[axis] = Position(((axis, 1), (last, sign)))
        writes = tuple(symbol(s) for s in range(last))
        return IndexMap((*shape, shape[axis]), tuple(reads), writes, shape, shape, shape, shape)

    # the same pairs as plain swapping gives, in the form that names the other direction
    return one_way(1 if reverse else -1)._link(one_way(-1 if reverse else 1))


@lru_cache(maxsize=4096)
def gather_map(shape: Shape, axis: int, tables: int, index_shape: Shape) -> IndexMap:
    """y[a.., b.., c..] = x[a.., t0[b..], t1[b..], …, c..]: tables for the axes from `axis` on."""
    after = axis + len(index_shape)
    over = tuple((axis + s, 1) for s in range(len(index_shape)))
    reads = (
        [symbol(s) for s in range(axis)]
        + [Position(over, 0, k) for k in range(tables)]
        + [symbol(after + s) for s in range(len(shape) - axis - tables)]
    )
    return _reading(shape, [*shape[:axis], *index_shape, *shape[axis + tables :]], reads)


@lru_cache(maxsize=4096)
def along_map(shape: Shape, axis: int, index_shape: Shape) -> IndexMap:
    """y[s] = x[…, t0[s], …]: in each line along `axis`, the entries that one table names."""
    reads = [symbol(s) for s in range(len(shape))]
    reads[axis] = Position(tuple((s, 1) for s in range(len(shape))), 0, 0)
    return _reading(shape, index_shape, reads)
