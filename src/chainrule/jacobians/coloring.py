"""Colouring: which columns of a sparse Jacobian one push can find at once.

Columns without a row in common keep apart in J·(sum of their unit vectors): each entry of the
result is one entry of J (Curtis, Powell, Reid 1974). Columns that share a row need different
colours, and the number of colours is the number of pushes (Coleman, Moré 1983); rows and pulls
likewise. Rows with many entries would force many colours; they are pulled by themselves, and the
columns of the rest are coloured (a bidirectional colouring: Gebremedhin, Manne, Pothen 2005).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, islice, product
from typing import Any, Literal

import numpy as np

from ..errors import AxisError

Array = np.ndarray[Any, Any]
Mode = Literal["push", "pull"]

SAMPLE = 16
"""Rows that a proposal is tried on before all are."""
WORK = 2**18
"""Proposals times colours, for such a row."""
TRIED = 4
"""Proposals that are verified on all rows, for a number of colours."""
ABOVE = 4
"""How many colours above the bound are proposed."""


@dataclass(frozen=True, eq=False)
class Pattern:
    """Where a matrix of shape (m, n) may have nonzeros, row by row (CSR).

    The columns of row i are `indices[indptr[i] : indptr[i + 1]]`, increasing. Both arrays are
    int32 where that holds them, as SciPy has it.
    """

    shape: tuple[int, int]
    indptr: Array
    indices: Array

    @classmethod
    def of(cls, rows: Array, columns: Array, shape: tuple[int, int]) -> Pattern:
        """The pattern of coordinates in any order; some may stand twice."""
        m, n = shape
        rows, columns = (np.asarray(x, np.int64).reshape(-1) for x in (rows, columns))
        for name, x, size in (("row", rows, m), ("column", columns, n)):
            if x.size and not (x.min() >= 0 and x.max() < size):
                raise AxisError(
                    f"{name}s of a pattern of shape {shape} are 0 … {size - 1}, "
                    f"received {x.min()} … {x.max()}"
                )
        bits = n.bit_length()
        keys = rows << bits
        keys |= columns
        keys.sort()
        if keys.size:
            keys = keys[np.concatenate(([True], keys[1:] != keys[:-1]))]
        dtype = np.int32 if max(keys.size, m, n) < 2**31 else np.int64
        starts = np.searchsorted(keys, np.arange(m + 1) << bits)
        return cls(shape, starts.astype(dtype), (keys & ((1 << bits) - 1)).astype(dtype))

    @property
    def nnz(self) -> int:
        """The number of places."""
        return self.indices.size

    @cached_property
    def lengths(self) -> Array:
        """The number of places in each row."""
        return np.diff(self.indptr)

    @cached_property
    def rows(self) -> Array:
        """The row of each place."""
        return np.repeat(np.arange(self.shape[0], dtype=self.indices.dtype), self.lengths)

    @cached_property
    def T(self) -> Pattern:
        """The pattern of the transpose."""
        return Pattern.of(self.indices, self.rows, self.shape[::-1])

    def without(self, rows: Array) -> Pattern:
        """The pattern with these rows empty."""
        kept = np.ones(self.shape[0], bool)
        kept[rows] = False
        starts = np.concatenate(([0], np.cumsum(self.lengths * kept)))
        return replace(
            self, indptr=starts.astype(self.indptr.dtype), indices=self.indices[kept[self.rows]]
        )

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Pattern)
            and self.shape == other.shape
            and np.array_equal(self.indptr, other.indptr)
            and np.array_equal(self.indices, other.indices)
        )

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class Coloring:
    """How a Jacobian of shape (m, n) is found in few passes.

    mode    "push": columns have colours, and a push is made for each; "pull": rows, pulls
    colors  one for each column (row), -1 where there is nothing to find
    count   the number of colours
    peeled  the rows (columns) that are found by one pull (push) each
    """

    mode: Mode
    colors: Array
    count: int
    peeled: Array

    @property
    def passes(self) -> int:
        """Pushes and pulls in all."""
        return self.count + self.peeled.size

    def slots(self, pattern: Pattern) -> Array:
        """For each place of the pattern, in its order, where the compressed result holds it.

        That is flat: an array (count, m) of pushes, then (peeled, n) of pulls; in mode "pull"
        (count, n) of pulls, then (peeled, m) of pushes.
        """
        along, across = pattern.rows, pattern.indices
        m, n = pattern.shape
        if self.mode == "pull":
            along, across, m, n = across, along, n, m
        slots = self.colors[across].astype(np.int64) * m + along
        if self.peeled.size:
            number = np.full(m, -1)
            number[self.peeled] = np.arange(self.peeled.size)
            own = number[along]
            slots = np.where(own < 0, slots, self.count * m + own * n + across)
        return slots


def color(pattern: Pattern, mode: Mode | None = None) -> Coloring:
    """The way that takes the fewest passes found, in one mode or the better of both.

    Every way has a bound: rows peeled plus the longest row that is left. The ways are tried in the
    order of their bounds, until no bound is below what was found.
    """
    ways = [
        (bound, peeled, each)
        for each in ("push", "pull")
        if mode in (None, each)
        for bound, peeled in _peelings(pattern.lengths if each == "push" else _counts(pattern))
    ]
    best: Coloring | None = None
    tried: list[tuple[Pattern, int]] = []
    for bound, peeled, each in sorted(ways, key=lambda way: way[:2]):
        if best is not None and bound >= best.passes:
            break
        side = pattern if each == "push" else pattern.T
        if any(peeled == k and side == known for known, k in tried):
            continue  # a symmetric pattern: the other mode takes as many
        tried.append((side, peeled))
        longest = np.argsort(-side.lengths, kind="stable")[:peeled]
        colors = color_columns(side.without(longest) if peeled else side)
        count = int(colors.max(initial=-1)) + 1
        if best is None or count + peeled < best.passes:
            best = Coloring(each, colors, count, longest)  # type: ignore[arg-type]
    assert best is not None
    return best


def _counts(pattern: Pattern) -> Array:
    """The number of places in each column."""
    return np.bincount(pattern.indices, minlength=pattern.shape[1])


def _peelings(lengths: Array) -> Iterator[tuple[int, int]]:
    """(bound, rows peeled): none, and as many as make the bound smallest."""
    falling = np.append(np.sort(lengths)[::-1], 0)
    bounds = falling + np.arange(falling.size)
    yield int(bounds[0]), 0
    best = int(bounds.argmin())
    if best:
        yield int(bounds[best]), best


def color_columns(pattern: Pattern) -> Array:
    """A colour for each column, -1 if it is empty; no row has a colour twice.

    The longest row is a bound from below. What reaches it ends the search: first colours that
    are linear in the place (bands, blocks, grids), then the greedy ones; last, linear colours
    above the bound.
    """
    bound = int(pattern.lengths.max(initial=0))
    colors = linear_colors(pattern, bound)
    if colors is None:
        colors = _best_greedy(pattern, bound)
        count = int(colors.max()) + 1
        for k in range(bound + 1, min(count, bound + 1 + ABOVE)):
            better = linear_colors(pattern, k)
            if better is not None:
                colors = better
                break
    full = _counts(pattern) > 0
    used = np.bincount(colors[full], minlength=1) > 0  # linear colours may leave some out
    return np.where(full, (np.cumsum(used) - 1)[np.minimum(colors, used.size - 1)], -1)


# -- greedy ------------------------------------------------------------------------------------


def _best_greedy(pattern: Pattern, bound: int) -> Array:
    """Columns as they come; then those with most neighbours first, unless the bound is reached."""
    n = pattern.shape[1]
    first = greedy_colors(pattern, range(n))
    if first.max() < bound:
        return first
    others = np.bincount(pattern.indices, (pattern.lengths - 1)[pattern.rows], minlength=n)
    order = np.argsort(-others, kind="stable")
    if np.array_equal(order, np.arange(n)):
        return first
    second = greedy_colors(pattern, order.tolist())
    return min(first, second, key=np.max)


def greedy_colors(pattern: Pattern, order: Sequence[int]) -> Array:
    """Each column in turn takes the smallest colour that none of its rows has yet.

    The colours of a row are the bits of an integer, so no graph of columns is needed.
    """
    m, n = pattern.shape
    rows, starts = pattern.T.indices.tolist(), pattern.T.indptr.tolist()
    used, colors = [0] * m, [0] * n
    for j in order:
        own = rows[starts[j] : starts[j + 1]]
        taken = 0
        for i in own:
            taken |= used[i]
        bit = ~taken & (taken + 1)
        for i in own:
            used[i] |= bit
        colors[j] = bit.bit_length() - 1
    return np.array(colors, np.int64)


# -- linear ------------------------------------------------------------------------------------


def linear_colors(pattern: Pattern, k: int) -> Array | None:
    """Colours Σ a·digit mod k of the columns, the digits in a mixed radix; None if none will do.

    With the digits of a grid's places these colour its stencils: i mod 3 a tridiagonal matrix,
    the place in the block a block-diagonal one. Proposals are tried on some rows, then on all.
    """
    n = pattern.shape[1]
    if k == 0 or not pattern.nnz:
        return None if k == 0 and pattern.nnz else np.zeros(n, np.int64)
    strides = _strides(pattern)
    while len(strides) > 1 and k ** (len(strides) + 1) > WORK:
        strides.pop()
    digits = _digits(strides, n)
    each = product(range(k), repeat=len(strides)) if k ** (len(strides) + 1) <= WORK else [(1,)]
    proposals = np.array(list(each), np.int64)
    for i in np.linspace(0, pattern.shape[0] - 1, SAMPLE).astype(int):
        own = pattern.indices[pattern.indptr[i] : pattern.indptr[i + 1]]
        found = np.sort(proposals @ digits[:, own] % k, axis=1)
        proposals = proposals[(found[:, 1:] != found[:, :-1]).all(axis=1)]
    for proposal in islice(proposals, TRIED):
        colors: Array = proposal @ digits % k
        if is_coloring(pattern, colors, k):
            return colors
    return None


def is_coloring(pattern: Pattern, colors: Array, k: int) -> bool:
    """Whether no row has one of the k colours twice."""
    places = pattern.rows.astype(np.int64) * k + colors[pattern.indices]
    seen = np.bincount(places, minlength=1)
    return bool(seen.max() <= 1)


def _strides(pattern: Pattern) -> list[int]:
    """Strides of a grid, each a multiple of the one before, as distances in the pattern tell them.

    These are from the diagonal if there is one, else from the first column of the row.
    """
    m, n = pattern.shape
    if m == n:
        zero = pattern.rows
    else:
        zero = np.repeat(pattern.indices[pattern.indptr[:-1][pattern.lengths > 0]],
                         pattern.lengths[pattern.lengths > 0])  # fmt: skip
    distances = np.bincount(np.abs(pattern.indices - zero)).nonzero()[0]
    strides = accumulate(
        distances[distances > 1].tolist(),
        lambda last, d: d if d % last == 0 and n % d == 0 else last,
        initial=1,
    )
    return list(dict.fromkeys(strides))


def _digits(strides: Sequence[int], n: int) -> Array:
    """The digits of 0 … n - 1: (places, n)."""
    places = np.arange(n)
    return np.stack([
        places // s % (t // s) for s, t in zip(strides, [*strides[1:], max(n, 1)], strict=True)
    ])  # fmt: skip


__all__ = [
    "Coloring", "Mode", "Pattern", "color", "color_columns", "greedy_colors", "is_coloring",
    "linear_colors",
]  # fmt: skip
