"""Relations: which entries of a Jacobian can be nonzero, for all values of the input.

The terms are those of a form without their factors; a relation is their union. Where the algebra
has no closed form, or a selection depends on values, more entries than needed are in it, never
fewer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..autodiff.reverse import Linearized
from ..core.primitive import LinearGate
from ..core.types import ArrayType, Shape, size_of
from ..errors import GradientError, StructureError
from ..ops.tracing import trace
from .apply import flat
from .coloring import Pattern
from .compose import solve
from .eliminate import eliminate
from .form import Form, canonical
from .graph import locals_of
from .leaves import value_of
from .positions import symbols_of
from .term import Term, full, identity

TERMS = 4000
"""Different terms above which a relation is that of everything with everything."""
ENTRIES = 2**28
"""Entries of boxes that are written out for a pattern."""


@dataclass(frozen=True, eq=False)
class Relation:
    """The union of what terms without factors relate."""

    out_shape: Shape
    in_shape: Shape
    terms: tuple[Term, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n), both sides flat."""
        return size_of(self.out_shape), size_of(self.in_shape)

    def __matmul__(self, other: Relation) -> Relation:
        found = (_joined(a, b) for a in self.terms for b in other.terms)
        return united(self.out_shape, other.in_shape, (t for t in found if t is not None))

    def __add__(self, other: Relation) -> Relation:
        return united(self.out_shape, self.in_shape, (*self.terms, *other.terms))


def of_form(form: Form) -> Relation:
    """What a form relates."""
    return united(form.out_shape, form.in_shape, form.terms)


def everything(out: Shape, inn: Shape) -> Relation:
    """Every output with every input."""
    return Relation(out, inn, (full(out, inn),))


def united(out: Shape, inn: Shape, terms: Iterable[Term]) -> Relation:
    """The relation of these terms, each once, without factors and what only these have."""
    known: dict[Any, Term] = {}
    for term in terms:
        used = {s for p in term.positions for s in symbols_of(p)}
        bare = replace(
            term, factors=(), scale=1.0, sizes={s: n for s, n in term.sizes.items() if s in used}
        )
        key, bare = canonical(bare)
        known[key] = bare
    if len(known) > TERMS:
        return everything(out, inn)
    return Relation(out, inn, tuple(known.values()))


def _joined(second: Term, first: Term) -> Term | None:
    first = first.renamed()
    both = Term(
        {**second.sizes, **first.sizes}, second.out, first.inn,
        guards=second.guards + first.guards,
    )  # fmt: skip
    return solve(both, list(zip(second.inn, first.out, strict=True)), loose=True)


def relation_of(
    function: Callable[..., Any], type: ArrayType
) -> tuple[Relation, ArrayType, list[Any]]:
    """What the output of a function of one array relates to it, the output's type, and the tables.

    The function is traced, so that it holds for all values; TraceError where that cannot be. It
    rests on what is in the tables of its selections.
    """
    found: list[Any] = []
    tables: list[Any] = []

    def run(x: Any) -> Any:
        line = Linearized(lambda xs: function(xs[0]), [x])
        if len(line.outputs) != 1:
            raise GradientError(f"one output is needed, received {len(line.outputs)}")
        (y,) = line.outputs
        for node in line.order:
            if isinstance(node.primitive, LinearGate):
                tables.extend(
                    t for t in map(value_of, node.inputs[1:]) if isinstance(t, np.ndarray)
                )
        output, input = y._node, line.inputs[0]._node
        assert input is not None
        if output is None or output not in line.active:
            found.append((Relation(y.shape, x.shape, ()), y.type))
        elif output is input:
            found.append((Relation(y.shape, x.shape, (identity(x.shape),)), y.type))
        else:
            made, _ = eliminate(
                line.order, output, input,
                lambda node: locals_of(node, line.active, loose=True), algebra=of_form,
            )  # fmt: skip
            found.append((made or Relation(y.shape, x.shape, ()), y.type))
        return y

    trace(run, [type], pure=True)
    relation, out = found[0]
    return relation, out, tables


def pattern_of(relation: Relation) -> Pattern:
    """The pairs of a relation as a sparsity pattern."""
    rows: list[Any] = []
    columns: list[Any] = []
    total = sum(t.size() for t in relation.terms)
    if total > ENTRIES:
        raise StructureError(f"a pattern of {total:,} entries, too many to write out")
    for term in relation.terms:
        symbols = list(term.sizes)
        box = tuple(term.sizes.values())
        inside: Any = np.ones((1,) * len(box), bool)
        for g in term.guards:
            inside = inside & (flat((g.position,), (g.size,), term.sizes, symbols) >= 0)
        places = [flat(term.out, relation.out_shape, term.sizes, symbols),
                  flat(term.inn, relation.in_shape, term.sizes, symbols)]  # fmt: skip
        for p in places:
            inside = inside & (p >= 0)
        keep = np.broadcast_to(inside, box).reshape(-1)
        for found, p in zip((rows, columns), places, strict=True):
            entries = np.broadcast_to(p, box).reshape(-1)
            found.append(entries if keep.all() else entries[keep])
    none = np.zeros(0, np.int64)
    left, right = (np.concatenate(x) if x else none for x in (rows, columns))
    return Pattern.of(left, right, relation.shape)
