"""Linear systems J x = b, and log |det J|, where the structure of J makes them cheap.

Axes that are a delta in all terms are blocks; those that no factor knows of are right-hand sides.
Inside a block the form is diagonal, diagonal + low rank (Woodbury 1950), a triangle of ones, or
small enough to be written out. Permutations are looked for outside of blocks. All is computed in
float64.
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
from .positions import Position, Symbol, at, plain, symbols_of
from .sketch import refined, shared, sketch_of, stripped
from .term import Term
from .words import triangle_of, words

Array = np.ndarray[Any, Any]
SIZE = 2048
"""Rows up to which a block is written out."""
ENTRIES = 2**27
"""Entries up to which all blocks together are written out."""


class System(NamedTuple):
    """x in the input's shape for b in the output's, and log |det|."""

    solve: Callable[[Array], Array]
    logdet: Callable[[], float]


TRIANGLES = "lower triangular (ones)", "upper triangular (ones)"
SINGULAR = System(lambda b: b, lambda: -np.inf)
"""What a way to solve gives for a form that is singular to working precision."""


def solve(form: Form, b: Array) -> Array:
    """x with J x = b: b in the shape of the output (then x in that of the input), or both flat.

    StructureError where J is not square, is singular to working precision, or has a structure in
    which this is not cheap.
    """
    if b.shape not in (form.out_shape, form.shape[:1]):
        raise ShapeError(
            f"solve(b) takes b of shape {form.out_shape}, or flat ({form.shape[0]},); received "
            f"{b.shape}"
        )
    fine = refined(form)
    x = _system(fine, "solve()").solve(b.reshape(fine.out_shape).astype(np.float64))
    x = x.astype(np.result_type(form.dtype, b.dtype))
    return x.reshape(form.in_shape if b.shape == form.out_shape else (-1,))


def logdet(form: Form) -> Any:
    """log |det J|, with both sides flat. Errors as for `solve`."""
    return form.dtype.type(_system(refined(form), "logdet()").logdet())


def _system(form: Form, what: str) -> System:
    """The cheapest way there is."""
    m, n = form.shape
    if m != n:
        raise StructureError(f"{what} needs a square Jacobian, this is {m}×{n}")
    if not n:
        return System(lambda b: b.reshape(form.in_shape), lambda: 0.0)
    if form.terms:
        blocks = _blocks(form)
        found = _low_rank(blocks) or _permutation(form) or _sums(blocks) or _written_out(blocks)
    else:
        found = SINGULAR
    if found is SINGULAR:
        raise StructureError(
            f"{what} of a singular Jacobian ({words(form)}): to working precision J v = 0 for some "
            "v other than 0; add to its diagonal, or solve in the sense of least squares "
            "(scipy.sparse.linalg.lsmr takes J)"
        )
    if found is None:
        raise StructureError(
            f"{what} has no cheap way for a Jacobian that is {words(form)}: SciPy's iterative "
            "solvers take it as it is, scipy.sparse.linalg.gmres(J, b) with b flat"
        )
    return found


# -- blocks ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Blocks:
    """A square form as H blocks k×k, each for F right-hand sides.

    `held` and `free` are axes (of output, of input) that are a delta in all terms, the first those
    that factors have; `out` and `inn` are the axes inside the blocks.
    """

    form: Form
    terms: list[Term]
    """Those of the form, without the symbols of free axes."""
    held: list[tuple[int, int]]
    free: list[tuple[int, int]]
    out: list[int]
    inn: list[int]

    def sizes(self, axes: Sequence[int]) -> Shape:
        return tuple(self.form.out_shape[a] for a in axes)

    @property
    def lead(self) -> Shape:
        """The sizes of the held axes."""
        return self.sizes([o for o, _ in self.held])

    @property
    def rows(self) -> Shape:
        return self.sizes(self.out)

    @property
    def columns(self) -> Shape:
        return tuple(self.form.in_shape[a] for a in self.inn)

    @property
    def k(self) -> int:
        return prod(self.rows)

    def places(self, term: Term) -> tuple[list[Position], list[Position], list[Position]]:
        """The positions of the held axes, of the rows and of the columns in a block."""
        return (
            [term.out[o] for o, _ in self.held],
            [term.out[a] for a in self.out],
            [term.inn[a] for a in self.inn],
        )

    def system(self, one_way: Callable[[Array], Array], logdet: Callable[[], float]) -> System:
        """From x (H, k, F) for b (H, k, F) and log |det| of all H blocks."""
        above = [*(o for o, _ in self.held), *self.out, *(o for o, _ in self.free)]
        below = [*(i for _, i in self.held), *self.inn, *(i for _, i in self.free)]
        times = prod(self.sizes([o for o, _ in self.free]))

        def solved(b: Array) -> Array:
            x = one_way(b.transpose(above).reshape(prod(self.lead), self.k, times))
            x = x.reshape(tuple(self.form.in_shape[a] for a in below))
            return x.transpose(np.argsort(below))

        return System(solved, lambda: times * logdet())


def _blocks(form: Form) -> Blocks:
    pairs = shared([sketch_of(t, form) for t in form.terms])
    held: list[tuple[int, int]] = []
    free: list[tuple[int, int]] = []
    for o, i in pairs:
        known = any(plain(t.out[o]) in f.symbols for t in form.terms for f in t.factors)
        (held if known else free).append((o, i))
    out = [a for a in range(len(form.out_shape)) if a not in {o for o, _ in pairs}]
    inn = [a for a in range(len(form.in_shape)) if a not in {i for _, i in pairs}]
    terms = []
    for t in form.terms:
        gone = {plain(t.out[o]) for o, _ in free}
        terms.append(replace(t, sizes={s: n for s, n in t.sizes.items() if s not in gone}))
    return Blocks(form, terms, held, free, out, inn)


def _symbols(positions: Sequence[Position]) -> list[Symbol]:
    return list(dict.fromkeys(s for p in positions for s in symbols_of(p)))


def _same(p: Position, q: Position) -> bool:
    return type(p) is type(q) and p == q


def _add(array: Array, term: Term, positions: Sequence[Position]) -> None:
    """array[positions] += the values of a term."""
    symbols = _symbols(positions)
    write(array, over(term, symbols, np.float64), symbols, positions, term.sizes)


# -- ways to solve -----------------------------------------------------------------------------


def _low_rank(blocks: Blocks) -> System | None:
    """Blocks D + U Vᵀ with a diagonal D without zeros.

    x = y - D⁻¹ U C⁻¹ Vᵀ y with y = D⁻¹ b and C = I + Vᵀ D⁻¹ U (Woodbury 1950), and
    det = det D · det C.
    """
    diagonal = np.zeros(blocks.lead + blocks.rows)
    pairs = []
    for term in blocks.terms:
        lead, above, below = blocks.places(term)
        if blocks.rows == blocks.columns and all(map(_same, above, below)):
            _add(diagonal, term, [*lead, *above])
            continue
        pair = _outer(term, blocks)
        if pair is None:
            return None
        pairs.append(pair)
    d = diagonal.reshape(-1, blocks.k, 1)
    if not pairs:
        if not d.all():
            return SINGULAR
        return blocks.system(lambda b: b / d, lambda: float(np.log(np.abs(d)).sum()))
    u, v = (np.concatenate(x, axis=-1) for x in zip(*pairs, strict=True))
    if u.shape[-1] >= blocks.k or not d.all():
        return None
    down, across = u / d, np.swapaxes(v, 1, 2)
    inner = np.eye(u.shape[-1]) + across @ down
    # rounding leaves in it what is small beside the sums of these sizes
    size = 1 + (np.abs(across) @ np.abs(down)).sum((1, 2))
    least = np.linalg.svd(inner, compute_uv=False)[:, -1]
    if (least <= 16 * np.finfo(blocks.form.dtype).eps * blocks.k**0.5 * size).any():
        return SINGULAR
    return blocks.system(
        lambda b: b / d - down @ np.linalg.solve(inner, across @ (b / d)),
        lambda: float(np.log(np.abs(d)).sum() + np.linalg.slogdet(inner)[1].sum()),
    )


def _outer(term: Term, blocks: Blocks) -> tuple[Array, Array] | None:
    """U and V, (H, k, r) each, of a term U Vᵀ inside the blocks; None if it is none."""
    lead, *sides = blocks.places(term)
    above, below = map(_symbols, sides)
    right = [f for f in term.factors if set(below) & set(f.symbols)]
    left = [f for f in term.factors if not set(below) & set(f.symbols)]
    apart = not set(above) & {*below, *(s for f in right for s in f.symbols)}
    known = [{s for f in side for s in f.symbols} for side in (left, right)]
    between = sorted((known[0] & known[1]) - set(_symbols(lead)))
    if not apart or term.guards or term.size(between) >= max(2, blocks.k):
        return None
    found = []
    for k, (factors, scale, shape) in enumerate(
        ((left, term.scale, blocks.rows), (right, 1.0, blocks.columns))
    ):
        places = [*lead, *sides[k], *(at(s) for s in between)]
        sizes = {s: n for s, n in term.sizes.items() if s in known[k] or s in _symbols(places)}
        array = np.zeros((*blocks.lead, *shape, *(sizes[s] for s in between)))
        _add(array, Term(sizes, (), (), tuple(factors), scale=scale), places)
        found.append(array.reshape(prod(blocks.lead), blocks.k, -1))
    return found[0], found[1]


def _permutation(form: Form) -> System | None:
    """One entry in each row and column: x[column] = b[row] / entry."""
    n = form.shape[0]
    if any(set(_symbols(t.out)) != set(_symbols(t.inn)) for t in form.terms):
        return None
    if sum(t.size(t.ends) for t in form.terms) > 4 * n:
        return None
    rows, columns, values = coordinates(form)
    if len(rows) != n or any((np.bincount(p, minlength=n) != 1).any() for p in (rows, columns)):
        return None
    values = values.astype(np.float64)
    if not values.all():
        return SINGULAR

    def solved(b: Array) -> Array:
        x = np.empty(n)
        x[columns] = b.reshape(-1)[rows] / values
        return x.reshape(form.in_shape)

    return System(solved, lambda: float(np.log(np.abs(values)).sum()))


def _sums(blocks: Blocks) -> System | None:
    """Cumulative sums along one axis, c times: differences."""
    (term, *others), form = blocks.form.terms, blocks.form
    sketch = sketch_of(term, form)
    inside = stripped(sketch, shared([sketch]))
    side = triangle_of(inside) or ""
    if others or blocks.held or inside.shape != (blocks.k, blocks.k) or side not in TRIANGLES:
        return None
    lower = side == TRIANGLES[0]
    c = term.scale * prod(float(f.array.reshape(())) for f in term.factors)  # no other is left

    def solved(b: Array) -> Array:
        x = b / c
        if lower:
            x[:, 1:] -= b[:, :-1] / c
        else:
            x[:, :-1] -= b[:, 1:] / c
        return x

    return blocks.system(solved, lambda: blocks.k * float(np.log(abs(c))))


def _written_out(blocks: Blocks) -> System | None:
    """Small blocks as arrays, with LU factors."""
    h, k = prod(blocks.lead), blocks.k
    if k > SIZE or h * k * k > ENTRIES:
        return None
    array = np.zeros(blocks.lead + blocks.rows + blocks.columns)
    for term in blocks.terms:
        lead, above, below = blocks.places(term)
        _add(array, term, [*lead, *above, *below])
    matrix = array.reshape(h, k, k)
    try:
        inverse = np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        return SINGULAR
    with np.errstate(all="ignore"):
        condition = np.abs(matrix).sum(1).max(1) * np.abs(inverse).sum(1).max(1)
    if not (condition * k * np.finfo(blocks.form.dtype).eps < 1).all():
        return SINGULAR
    return blocks.system(
        lambda b: np.linalg.solve(matrix, b),
        lambda: float(np.linalg.slogdet(matrix)[1].sum()),
    )
