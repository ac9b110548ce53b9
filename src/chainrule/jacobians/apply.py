"""What is done with a form: products, dense and sparse arrays, diagonals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from ..core.types import Shape
from ..errors import StructureError
from .arrays import over, read
from .compose import simplified, solve
from .form import Form
from .positions import Position, Symbol, plain, symbols_of, values_of
from .term import Term

WRITTEN = 2**28
"""Entries of a form that are written out."""


def push(form: Form, v: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """J v, for v of the input's shape."""
    dtype = np.result_type(form.dtype, v.dtype)
    out = np.zeros(form.out_shape, dtype)
    for term in form.terms:
        symbols = _ordered(term.out)
        factor = read(v, term.inn, term.sizes)
        with np.errstate(all="ignore"):
            write(out, over(term, symbols, dtype, factor), symbols, term.out, term.sizes)
    return out


def pull(form: Form, u: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """u J, for u of the output's shape."""
    return push(form.T, u)


def dense(form: Form) -> np.ndarray[Any, Any]:
    """All entries, of shape output + input."""
    out = np.zeros(form.out_shape + form.in_shape, form.dtype)
    for term in form.terms:
        positions = (*term.out, *term.inn)
        symbols = _ordered(positions)
        with np.errstate(all="ignore"):
            write(out, over(term, symbols, form.dtype), symbols, positions, term.sizes)
    return out


def coordinates(form: Form) -> tuple[Any, Any, Any]:
    """(rows, columns, values) of all entries of the boxes, flat; some may stand twice."""
    found: list[tuple[Any, Any, Any]] = []
    for term in form.terms:
        symbols = _ordered((*term.out, *term.inn))
        with np.errstate(all="ignore"):
            values = np.asarray(over(term, symbols, form.dtype))
        rows = flat(term.out, form.out_shape, term.sizes, symbols)
        columns = flat(term.inn, form.in_shape, term.sizes, symbols)
        box = values.shape
        inside = np.broadcast_to(rows >= 0, box) & np.broadcast_to(columns >= 0, box)
        both = [np.broadcast_to(p, box)[inside] for p in (rows, columns)]
        found.append((*both, values[inside]))
    if not found:
        none = np.zeros(0, np.int64)
        return none, none, np.zeros(0, form.dtype)
    return tuple(map(np.concatenate, zip(*found, strict=True)))  # type: ignore[return-value]


def _ordered(positions: Sequence[Position]) -> list[Symbol]:
    """The symbols of positions, as they come."""
    return list(dict.fromkeys(s for p in positions for s in symbols_of(p)))


def flat(positions: Sequence[Position], shape: Shape, sizes: Mapping[Symbol, int],
         symbols: Sequence[Symbol]) -> Any:  # fmt: skip
    """The flat place of positions over a box, -1 outside."""
    total: Any = np.zeros((1,) * len(symbols), np.int64)
    inside: Any = np.ones((1,) * len(symbols), bool)
    for p, n in zip(positions, shape, strict=True):
        value = values_of(p, sizes, symbols)
        inside = inside & (value >= 0) & (value < n)
        total = total * n + value
    return np.where(inside, total, -1)


def write(out: Any, values: Any, symbols: Sequence[Symbol], positions: Sequence[Position],
          sizes: Mapping[Symbol, int]) -> None:  # fmt: skip
    """out[positions(s)] += values[s] over the box of the symbols."""
    found = [plain(p) for p in positions]
    whole = None not in found and len(set(found)) == len(found) == len(symbols)
    if whole and all(sizes[s] == n for s, n in zip(found, out.shape, strict=True)):  # type: ignore[index]
        out += np.transpose(values, [symbols.index(s) for s in found if s is not None])
        return
    place = np.broadcast_to(flat(positions, out.shape, sizes, symbols), values.shape).reshape(-1)
    values = np.asarray(values).reshape(-1)
    inside = place >= 0
    if not inside.all():
        place, values = place[inside], values[inside]
    once = {plain(p) for p in positions}.issuperset(symbols)
    if once:  # every symbol can be read off the place: no place stands twice
        out.reshape(-1)[place] += values
    else:
        np.add.at(out.reshape(-1), place, values)


# -- the diagonal ------------------------------------------------------------------------------


def diagonal(form: Form) -> np.ndarray[Any, Any]:
    """The entries J[i, i]: in the shape of the input if output and input have one, else flat."""
    if form.out_shape != form.in_shape:
        return _flat_diagonal(form)
    try:
        terms = _on_diagonal(form)
    except StructureError:
        return _flat_diagonal(form).reshape(form.out_shape)
    out = np.zeros(form.out_shape, form.dtype)
    for term in terms:
        symbols = _ordered(term.out)
        with np.errstate(all="ignore"):
            write(out, over(term, symbols, form.dtype), symbols, term.out, term.sizes)
    return out


def trace(form: Form) -> Any:
    """Σ J[i, i], where it can be without making the diagonal."""
    try:
        if form.out_shape != form.in_shape:
            raise StructureError("other shapes")
        terms = _on_diagonal(form)
    except StructureError:
        return _flat_diagonal(form).sum()
    total = np.zeros((), form.dtype)
    for term in terms:
        symbols = _ordered(term.out)
        with np.errstate(all="ignore"):
            values = over(term, symbols, form.dtype)
        inside = flat(term.out, form.out_shape, term.sizes, symbols) >= 0
        total = total + np.sum(values, where=np.broadcast_to(inside, values.shape))
    return total[()]


def _flat_diagonal(form: Form) -> np.ndarray[Any, Any]:
    """The diagonal from all entries."""
    if entries(form) > WRITTEN:
        raise StructureError(f"a diagonal of {entries(form):,} entries has to be looked for")
    rows, columns, values = coordinates(form)
    out = np.zeros(min(form.shape), form.dtype)
    on = rows == columns
    np.add.at(out, rows[on], values[on])
    return out


def _on_diagonal(form: Form) -> list[Term]:
    """The terms where output and input are at the same place."""
    found = []
    for term in form.terms:
        solved = solve(term, list(zip(term.out, term.inn, strict=True)))
        if solved is not None:
            found.append(simplified(replace(solved, inn=()), form.dtype))
    return found


def entries(form: Form) -> int:
    """Entries of the boxes of both sides: at least as many as there are nonzeros."""
    return sum(prod(t.sizes[s] for s in t.ends) for t in form.terms)
