"""Products of looked-up rows are computed once for each row of the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule.compiler import lookups
from chainrule.compiler.executable import Executable
from chainrule.compiler.passes import simplify
from chainrule.core.graph import Graph
from chainrule.ops.contraction import CONTRACT
from tests.compiler.comparing import KINDS, check, close, expected, machine, run, traced

RNG = np.random.default_rng(0)
V, D, M = 5, 9, 11
"""Rows of a table, their entries, columns of the other factor."""


def lookup(spec: str, axis: int = 0, first: bool = True) -> Callable[..., Any]:
    """The product of looked-up rows with u, and its derivatives by the table and by u."""

    def function(table: Any, u: Any, upstream: Any, index: Any) -> Any:
        def product(table: Any, u: Any) -> Any:
            rows = cr.take(table, index, axis=axis)
            return cr.einsum(spec, *((rows, u) if first else (u, rows)))

        y, pull = cr.vjp(product, table, u)
        return y, pull(upstream)

    return function


CASES: dict[str, tuple[Any, tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = {
    "a layer": (lookup("ni,io->no"), (V, D), (D, M), (40, M), (40,)),
    "time first": (lookup("bti,io->tbo"), (V, D), (D, M), (4, 10, M), (10, 4)),
    "three axes": (lookup("abci,oi->caob"), (V, D), (M, D), (4, 2, M, 5), (2, 5, 4)),
    "columns": (lookup("in,io->on", 1), (D, V), (D, M), (M, 40), (40,)),
    "in the middle": (
        lookup("ajkc,acd->jdka", 1), (3, V, D), (3, D, M), (10, M, 4, 3), (10, 4)
    ),
    "the second factor": (lookup("oi,ni->on", first=False), (V, D), (M, D), (M, 40), (40,)),
    "several columns": (lookup("nij,ijop->pno"), (V, 3, 3), (3, 3, 2, 6), (6, 40, 2), (40,)),
}  # fmt: skip


def arrays_of(case: Any, dtype: str = "f4") -> list[Any]:
    _, table, u, y, index = case
    floats = [RNG.normal(size=s).astype(dtype) for s in (table, u, y)]
    return [*floats, RNG.integers(-V, V, index)]


def work(graph: Graph) -> int:
    """Additions and multiplications of the contractions."""
    contractions = [n for n in graph.nodes if n.primitive is CONTRACT]
    return sum(
        n.primitive.flops(n.type, [x.type for x in n.inputs], n.params) for n in contractions
    )


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_values(name: str, kind: str, threads: int) -> None:
    case = CASES[name]
    for dtype in ("f4", "f8"):
        check(case[0], arrays_of(case, dtype), machine(kind, threads))


@pytest.mark.parametrize("name", CASES)
def test_each_row_is_multiplied_once(name: str) -> None:
    case = CASES[name]
    graph = traced(case[0], arrays_of(case))
    assert work(simplify(graph)) * 40 == work(graph) * V


@pytest.mark.parametrize("name", CASES)
def test_whole_numbers_are_left(name: str) -> None:
    case = CASES[name]
    table, u, _, index = (np.round(9 * x).astype(int) for x in arrays_of(case))
    axis = 0 if case[1][0] == V else 1

    def function(table: Any, u: Any, index: Any) -> Any:
        rows = cr.take(table, index % V, axis=axis)
        return cr.tensordot(rows, rows, axes=rows.ndim), u

    check(function, [table, u, index], machine("portable"))


def rare(table: Any, u: Any, upstream: Any, index: Any) -> Any:
    return lookup("ni,io->no")(table, u, upstream[:8], index[:8])


def narrow(table: Any, u: Any, upstream: Any, index: Any) -> Any:
    return lookup("ni,io->no")(table[:, :2], u[:2, :2], upstream[:, :2], index)


def read_again(table: Any, u: Any, upstream: Any, index: Any) -> Any:
    def product(table: Any) -> Any:
        return (cr.take(table, index, axis=0) @ u).sum(0)

    (found,) = cr.vjp(product, table)[1](upstream[0])
    by_rows = upstream @ u.T
    added = cr.vjp(lambda x: cr.take(x, index, axis=0), table)[1](by_rows)[0]
    return found, added, by_rows


def each_line(table: Any, u: Any, upstream: Any, index: Any) -> Any:
    rows = cr.take_along_axis(table.T, cr.broadcast_to(index, (D, 40)), axis=1)
    return rows.T @ u


def of_both(table: Any, u: Any, upstream: Any, index: Any) -> Any:
    rows = cr.take(table, index, axis=0)
    others = cr.take(u.T, index % M, axis=0)
    return cr.einsum("ni,ni->n", rows, others), cr.einsum("ni,nj->ij", rows, others)


@pytest.mark.parametrize("function", [rare, narrow, read_again, each_line, of_both])
def test_others(function: Any) -> None:
    """Where nothing is gained, or the pattern is another one, values are right, too."""
    check(function, arrays_of(CASES["a layer"]), machine("portable"))


def test_what_is_left() -> None:
    arrays = arrays_of(CASES["a layer"])
    for function in (rare, narrow, each_line):
        graph = traced(function, arrays)
        assert work(simplify(graph)) == work(graph), function


@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("where", ["a row that is used", "another row", "u", "upstream"])
def test_what_is_not_finite_stays_where_it_was(where: str, number: float) -> None:
    case = CASES["a layer"]
    table, u, upstream, index = arrays_of(case)
    index = np.where(index % V == 2, 0, index % V)
    index[7] = 3
    place = {"a row that is used": (table, 3), "another row": (table, 2), "u": (u, (4, 5)),
             "upstream": (upstream, (7, 3))}[where]  # fmt: skip
    place[0][place[1]] = number
    arrays = [table, u, upstream, index]
    graph = traced(case[0], arrays)
    found = run(Executable(graph, machine(KINDS[0])), graph, arrays)
    wanted = expected(graph, arrays)
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-4, atol=1e-4)
    close(*([np.where(np.isfinite(x), x, np.nan) for x in y[1:]] for y in (found, wanted)))


def test_characters() -> None:
    """An embedding and a layer are trained as in eager, the table being read by both products."""
    text = RNG.integers(0, 12, (8, 30))
    made: list[list[Any]] = []
    for compiled in (False, True):
        model = cr.nn.Sequential(
            cr.nn.Embedding(12, 16, seed=1),
            cr.nn.LSTM(16, 10, seed=2),
            lambda x: x[0],
            cr.nn.Linear(10, 12, seed=3),
        )
        optimizer = cr.optim.SGD(model, lr=0.5)

        def step(model: Any = model, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            loss = cr.nn.softmax_cross_entropy(model(text[:, :-1]), text[:, 1:])
            loss.backward()
            optimizer.step()
            return loss

        call = cr.compile(step) if compiled else step
        made.append([*(float(call()) for _ in range(5)), *map(np.asarray, model.parameters())])
    for one, other in zip(*made, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_lookup(data: Any) -> None:
    """Letters in any order, sizes from 1 on, also where caches and threads are small."""
    size = st.integers(1, 4)
    over = data.draw(st.integers(1, 3))
    places, inner, columns = "abc"[:over], "ij"[: data.draw(st.integers(1, 2))], "o"
    shared = data.draw(st.sampled_from(["", "z"]))
    sizes = {c: data.draw(size) for c in "abcijoz"}
    rest = data.draw(st.permutations(inner + shared))
    axis = data.draw(st.integers(0, len(rest)))
    own = "".join((*rest[:axis], *places, *rest[axis:]))
    other = "".join(data.draw(st.permutations(inner + columns + shared)))
    out = "".join(data.draw(st.permutations(places + columns + shared)))
    first = data.draw(st.booleans())
    spec = f"{own},{other}->{out}" if first else f"{other},{own}->{out}"
    rows = data.draw(st.integers(1, 4))
    table = [sizes[c] for c in rest]
    table.insert(axis, rows)
    shapes = [table, [sizes[c] for c in other], [sizes[c] for c in out]]
    floats = [RNG.normal(size=s).astype("f4") for s in shapes]
    index = RNG.integers(-rows, rows, [sizes[c] for c in places])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lookups, "WIDE", 1)
        patch.setattr(lookups, "OFTEN", data.draw(st.sampled_from([0, 1])))
        check(lookup(spec, axis, first), [*floats, index], machine(KINDS[0], 2))
