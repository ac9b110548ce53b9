"""Linear systems J x = b, and log |det J|, where the structure of J makes them cheap.

Axes that are a delta in all terms are blocks; those that no factor knows of are right-hand sides.
Inside a block the form is diagonal, diagonal + low rank (Woodbury 1950), or small enough to be
written out. Outside of blocks there are permutations, and triangles of ones (differences).
Everything is computed in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..core.types import Shape
from ..errors import ShapeError, StructureError
from .apply import coordinates, write
from .arrays import over
from .form import Form
from .positions import Position, at, plain, symbols_of
from .term import Term
from .words import shared, sketch_of, words

Array = np.ndarray[Any, Any]
SIZE = 2048
"""Rows up to which a block is written out."""
ENTRIES = 2**27
"""Entries up to which all blocks together are written out."""


class System(NamedTuple):
    """How to solve: x (H, k, F) for b (H, k, F), and log |det| of all H blocks."""

    solve: Callable[[Array], Array]
    logdet: Callable[[], float]


def solve(form: Form, b: Array) -> Array:
    """x with J x = b: b in the shape of the output (then x in that of the input), or both flat.

    StructureError where J is not square, is singular to working precision, or has a structure in
    which this is not cheap.
    """
    flat = b.shape == form.shape[:1] and b.shape != form.out_shape
    if not flat and b.shape != form.out_shape:
        raise ShapeError(
            f"solve(b) takes b of shape {form.out_shape}, or flat ({form.shape[0]},); received "
            f"{b.shape}"
        )
    dtype = np.result_type(form.dtype, b.dtype)
    blocks = _blocks(form, "solve()")
    x = blocks.into(_system(form, blocks, "solve()").solve(blocks.out_of(b)))
    return (x.reshape(-1) if flat else x).astype(dtype)


def logdet(form: Form) -> Any:
    """log |det J|, with both sides flat. Errors as for `solve`."""
    blocks = _blocks(form, "logdet()")
    return form.dtype.type(_system(form, blocks, "logdet()").logdet() * blocks.times)


# -- blocks ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Blocks:
    """A square form as H blocks k×k, each for F right-hand sides."""

    form: Form
    held: list[tuple[int, int]]
    """Axes (of output, of input) that are the same delta in all terms, and that factors have."""
    free: list[tuple[int, int]]
    """Those that no factor has: the blocks are the same along them."""
    out: list[int]
    inn: list[int]
    """The axes inside the blocks."""

    def sizes(self, axes: Sequence[int]) -> Shape:
        return tuple(self.form.out_shape[a] for a in axes)

    @property
    def count(self) -> int:
        return prod(self.sizes([o for o, _ in self.held]))

    @property
    def times(self) -> int:
        """F."""
        return prod(self.sizes([o for o, _ in self.free]))

    @property
    def k(self) -> int:
        return prod(self.sizes(self.out))

    def out_of(self, b: Array) -> Array:
        """b in the output's shape (or flat) as (H, k, F)."""
        order = [*(o for o, _ in self.held), *self.out, *(o for o, _ in self.free)]
        b = b.reshape(self.form.out_shape).astype(np.float64)
        return b.transpose(order).reshape(self.count, self.k, self.times)

    def into(self, x: Array) -> Array:
        """x as (H, k, F) in the input's shape."""
        order = [*(i for _, i in self.held), *self.inn, *(i for _, i in self.free)]
        shape = tuple(self.form.in_shape[a] for a in order)
        return x.reshape(shape).transpose(np.argsort(order))

    def lead(self, term: Term) -> list[Position]:
        """The positions of the held axes."""
        return [term.out[o] for o, _ in self.held]

    def above(self, term: Term) -> list[Position]:
        return [term.out[a] for a in self.out]

    def below(self, term: Term) -> list[Position]:
        return [term.inn[a] for a in self.inn]


def _blocks(form: Form, what: str) -> Blocks:
    m, n = form.shape
    if m != n:
        raise StructureError(f"{what} needs a square Jacobian, this is {m}×{n}")
    if not form.terms and n:
        raise _singular(form, what)
    sketches = [sketch_of(t, form) for t in form.terms]
    pairs = [(o, i) for o, i in shared(sketches) if isinstance(o, int) and isinstance(i, int)
             ] if form.terms else []  # fmt: skip
    held, free = [], []
    for o, i in pairs:
        known = any(plain(t.out[o]) in f.symbols for t in form.terms for f in t.factors)
        (held if known else free).append((o, i))
    out = [a for a in range(len(form.out_shape)) if a not in {o for o, _ in pairs}]
    inn = [a for a in range(len(form.in_shape)) if a not in {i for _, i in pairs}]
    return Blocks(form, held, free, out, inn)


def _singular(form: Form, what: str) -> StructureError:
    return StructureError(
        f"{what} of a singular Jacobian ({words(form)}): to working precision there is a v other "
        "than 0 with J v = 0; add to its diagonal, or solve in the sense of least squares "
        "(scipy.sparse.linalg.lsmr takes J)"
    )


# -- which way ---------------------------------------------------------------------------------


def _system(form: Form, blocks: Blocks, what: str) -> System:
    """The cheapest way there is."""
    if not form.shape[0]:
        return System(lambda b: b, lambda: 0.0)

    def refuse() -> StructureError:
        return _singular(form, what)

    found = (
        _low_rank(form, blocks, refuse)
        or _permuted(form, blocks, refuse)
        or _differences(form, blocks)
        or _written_out(form, blocks, refuse)
    )
    if found is None:
        raise StructureError(
            f"{what} has no cheap way for a Jacobian that is {words(form)}: SciPy's iterative "
            "solvers take it as it is, as scipy.sparse.linalg.gmres(J, b) with b flat"
        )
    return found


def _low_rank(form: Form, blocks: Blocks, refuse: Callable[[], StructureError]) -> System | None:
    """Blocks D + U Vᵀ with a diagonal D without zeros.

    x = y - D⁻¹ U C⁻¹ Vᵀ y with y = D⁻¹ b and C = I + Vᵀ D⁻¹ U (Woodbury 1950), and
    det = det D · det C.
    """
    h, k = blocks.count, blocks.k
    diagonal = np.zeros(blocks.sizes([o for o, _ in blocks.held]) + blocks.sizes(blocks.out))
    left, right = [], []
    for term in form.terms:
        if _is_diagonal(term, blocks):
            positions = [*blocks.lead(term), *blocks.above(term)]
            symbols = list(dict.fromkeys(s for p in positions for s in symbols_of(p)))
            write(diagonal, over(term, symbols, np.float64), symbols, positions, term.sizes)
            continue
        pair = _outer(term, blocks)
        if pair is None:
            return None
        left.append(pair[0])
        right.append(pair[1])
    d = diagonal.reshape(h, k)
    if not left:
        if not d.all():
            raise refuse()
        return System(lambda b: b / d[..., None], lambda: float(np.log(np.abs(d)).sum()))
    u, v = (np.concatenate(x, axis=-1) for x in (left, right))
    if u.shape[-1] >= k or not d.all():
        return None
    scaled = u / d[..., None]
    inner = np.eye(u.shape[-1]) + np.einsum("hkr,hks->hrs", v, scaled)
    # sums of terms of this size leave rounding errors of this size
    size = 1 + np.einsum("hkr,hks->hrs", np.abs(v), np.abs(scaled)).sum((1, 2))
    least = np.linalg.svd(inner, compute_uv=False)[:, -1]
    if (least <= 16 * np.finfo(form.dtype).eps * k**0.5 * size).any():
        raise refuse()

    def solved(b: Array) -> Array:
        y = b / d[..., None]
        return y - scaled @ np.linalg.solve(inner, np.swapaxes(v, 1, 2) @ y)  # type: ignore[no-any-return]

    return System(
        solved,
        lambda: float(np.log(np.abs(d)).sum() + np.linalg.slogdet(inner).logabsdet.sum()),
    )


def _is_diagonal(term: Term, blocks: Blocks) -> bool:
    """Whether output and input are at the same place inside the blocks."""
    out, inn = blocks.above(term), blocks.below(term)
    same = blocks.sizes(blocks.out) == tuple(blocks.form.in_shape[a] for a in blocks.inn)
    return same and out == inn and all(plain(p) is not None or not symbols_of(p) for p in out)


def _outer(term: Term, blocks: Blocks) -> tuple[Array, Array] | None:
    """U and V, (H, k, r) each, of a term U Vᵀ inside the blocks; None if it is none."""
    sides = [{s for p in side for s in symbols_of(p)}
             for side in (blocks.above(term), blocks.below(term))]  # fmt: skip
    left = [f for f in term.factors if not sides[1] & set(f.symbols)]
    right = [f for f in term.factors if sides[1] & set(f.symbols)]
    if sides[0] & sides[1] or term.guards or any(sides[0] & set(f.symbols) for f in right):
        return None
    lead = [s for p in blocks.lead(term) for s in symbols_of(p)]
    known = [{s for f in side for s in f.symbols} for side in (left, right)]
    between = sorted((known[0] & known[1]) - set(lead))
    if term.size(between) >= max(2, blocks.k):
        return None
    found = []
    for factors, side, positions, shape, scale in (
        (left, 0, blocks.above(term), blocks.sizes(blocks.out), term.scale),
        (right, 1, blocks.below(term), tuple(blocks.form.in_shape[a] for a in blocks.inn), 1.0),
    ):
        here = [*lead, *(s for s in term.sizes if s in sides[side]), *between]
        own = {s: n for s, n in term.sizes.items() if s in known[side] or s in here}
        part = Term(own, (), (), tuple(factors), scale=scale)
        places = [*(at(s) for s in lead), *positions, *(at(s) for s in between)]
        out = np.zeros((*(own[s] for s in lead), *shape, *(own[s] for s in between)))
        write(out, over(part, here, np.float64), here, places, own)
        wide = (*blocks.sizes([o for o, _ in blocks.held]), *out.shape[len(lead) :])
        full = np.broadcast_to(out.reshape(_lead_shape(term, blocks) + out.shape[len(lead) :]), wide)
        found.append(full.reshape(blocks.count, blocks.k, -1))
    return found[0], found[1]


def _lead_shape(term: Term, blocks: Blocks) -> Shape:
    """The held axes, 1 where the term has no symbol for one."""
    return tuple(prod(term.sizes[s] for s in symbols_of(p)) for p in blocks.lead(term))


def _permuted(form: Form, blocks: Blocks, refuse: Callable[[], StructureError]) -> System | None:
    """One entry in each row and column: x[column] = b[row] / entry."""
    n = form.shape[0]
    if sum(t.size() for t in form.terms) > 4 * n or any(
        {s for p in t.out for s in symbols_of(p)} != {s for p in t.inn for s in symbols_of(p)}
        for t in form.terms
    ):
        return None
    rows, columns, values = coordinates(form)
    values = values.astype(np.float64)
    if len(rows) != n or any(np.bincount(p, minlength=n).max() > 1 for p in (rows, columns)):
        return None
    if not values.all():
        raise refuse()

    def solved(b: Array) -> Array:
        x = np.empty(n)
        x[columns] = _unblocked(b, blocks)[rows] / values
        return _reblocked(x, blocks)

    return System(solved, lambda: float(np.log(np.abs(values)).sum()) / blocks.times)


def _unblocked(b: Array, blocks: Blocks) -> Array:
    """(H, k, F) as the flat output: the inverse of `out_of`."""
    order = [*(o for o, _ in blocks.held), *blocks.out, *(o for o, _ in blocks.free)]
    return b.reshape(blocks.sizes(order)).transpose(np.argsort(order)).reshape(-1)


def _reblocked(x: Array, blocks: Blocks) -> Array:
    """The flat input as (H, k, F): the inverse of `into`."""
    order = [*(i for _, i in blocks.held), *blocks.inn, *(i for _, i in blocks.free)]
    x = x.reshape(blocks.form.in_shape).transpose(order)
    return x.reshape(blocks.count, blocks.k, blocks.times)
