"""Rules of algebra: each has graphs where it holds and graphs that only look alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import chainrule as cr
from chainrule.compiler import algebra, lookups
from tests.compiler.graphs import (
    BOX,
    FINITE,
    GRID,
    ROW,
    SPECIAL,
    TRUTH,
    WHOLE,
    checked,
    link,
    names,
    traced,
    twice,
)

EIGHTS = np.arange(64.0).reshape(8, 8) - 30
ROWS = np.array([0, 2, 2, 1, 0, 2, 1, 1, 0])
GROWING = ("_apart", "_product_of_rows", "_sum_of_products")
"""Rules that make more gates, which have less to do."""


class Case(NamedTuple):
    rule: str
    function: Callable[..., Any]
    left: str
    """The gates left over."""
    arrays: tuple[Any, ...] = (SPECIAL,)
    signs: bool = True
    fires: bool = True


def unlike(rule: str, function: Callable[..., Any], left: str, *arrays: Any) -> Case:
    """A case that looks like one for a rule, and is none."""
    return Case(rule, function, left, arrays or (SPECIAL,), fires=False)


def strongly(u: Any, p: Any) -> Any:
    return cr.scale_gradient(u, p)


CASES = [
    Case("_same", lambda x: cr.exp(link(cr.stop_gradient(x))), "exp", (FINITE,)),
    unlike("_same", cr.exp, "exp", FINITE),
    Case("_cast", lambda x: x.astype("float64"), ""),
    Case("_cast", lambda x: x.astype("float64").astype("float32"), "", (SPECIAL.astype("f"),)),
    Case("_cast", lambda x: x.astype("int64").astype("float32"), "cast", (WHOLE.astype("i2"),)),
    Case("_cast", lambda x: x.astype("int64").astype("int8"), "cast", (WHOLE.astype("i4") * 99,)),
    Case("_cast", lambda c: c.astype("float32").astype("float64"), "cast", (TRUTH,)),
    unlike("_cast", lambda x: x.astype("float32").astype("float64"), "cast cast"),
    unlike("_cast", lambda x: x.astype("float32").astype("float64"), "cast cast", WHOLE),
    unlike("_cast", lambda x: x.astype("uint32").astype("int64"), "cast cast", WHOLE),
    unlike("_cast", lambda x: x.astype("float64").astype("int32"), "cast cast",
           np.float32([1.5, -2.5])),
    Case("_by_one", lambda x: x * 1.0, ""), Case("_by_one", lambda x: 1.0 * x, ""),
    Case("_by_one", lambda x: x / 1.0, ""),
    unlike("_by_one", lambda x: 1.0 / x, "broadcast div"),
    unlike("_by_one", lambda x: x * 2.0, "broadcast mul"),
    Case("_of_negatives", lambda x: -x * -(x + 2), "broadcast add mul"),
    Case("_of_negatives", lambda x: -x / -(x + 2), "broadcast add div"),
    unlike("_of_negatives", lambda x: -x * x, "neg mul"),
    Case("_plus_negative", lambda x: x * x + -x, "mul sub"),
    Case("_plus_negative", lambda x: -x + x * x, "mul sub"),
    unlike("_plus_negative", lambda x: -(x + x * x), "mul add neg"),
    Case("_minus_negative", lambda x: x * x - -x, "mul add"),
    unlike("_minus_negative", lambda x: -x - x * x, "mul neg sub"),
    Case("_and_nothing", lambda x: x - 0.0, ""),
    Case("_and_nothing", lambda n: n + 0, "", (WHOLE,)),
    Case("_and_nothing", lambda n: 0 + n, "", (WHOLE,)),
    unlike("_and_nothing", lambda x: x + 0.0, "broadcast add"),
    unlike("_and_nothing", lambda x: x - -0.0, "broadcast sub"),
    unlike("_and_nothing", lambda x: 0.0 - x, "broadcast sub"),
    Case("_twice", lambda x: twice(x), ""),
    Case("_twice", lambda c: cr.logical_not(cr.logical_not(c)), "", (TRUTH,)),
    Case("_twice", lambda n: ~~n, "", (WHOLE,)),
    unlike("_twice", lambda x: -cr.abs(-cr.exp(x)), "exp abs neg", FINITE),
    Case("_again", lambda x: cr.abs(cr.abs(x)), "abs"),
    Case("_again", lambda x: cr.floor(cr.floor(x)), "floor"),
    unlike("_again", lambda x: cr.floor(cr.ceil(x)), "ceil floor"),
    Case("_size_of_negative", lambda x: cr.abs(-x), "abs"),
    unlike("_size_of_negative", lambda x: -cr.abs(x), "abs neg"),
    Case("_of_itself", lambda x: cr.maximum(x, x), ""),
    unlike("_of_itself", lambda x: cr.maximum(x, -x), "neg maximum"),
    Case("_root", lambda x: x**0.5, "sqrt", (np.abs(SPECIAL),)),
    unlike("_root", lambda x: x**0.25, "broadcast pow", np.abs(SPECIAL)),
    unlike("_root", lambda x: x ** np.full(8, 0.5), "pow"),
    Case("_where", lambda c, x: cr.where(c, x, x), "", (TRUTH, SPECIAL)),
    Case("_where", lambda x: cr.where(np.ones(8, bool), x, cr.exp(x)), ""),
    Case("_where", lambda x: cr.where(False, x, -x), "neg"),
    Case("_where", lambda c, x: cr.where(~c, x, -x), "neg where", (TRUTH, SPECIAL)),
    unlike("_where", lambda c, x: cr.where(c, x, -x), "neg where", TRUTH, SPECIAL),
    unlike("_where", lambda x: cr.where(TRUTH, x, -x), "neg where"),
    Case("_strong", lambda x: strongly(x, 0.0), "broadcast", signs=False),
    Case("_strong", lambda x: strongly(x, 1.0), "", signs=False),
    Case("_strong", lambda x: strongly(0.5, x), "broadcast mul", signs=False),
    Case("_strong", lambda c, x: strongly(x, c.astype("float64")), "broadcast where",
         (TRUTH, SPECIAL), signs=False),
    Case("_strong", lambda n, m: strongly(n.astype("float64"), m.astype("float64")),
         "cast cast mul", (WHOLE, WHOLE + 1)),
    unlike("_strong", lambda x: strongly(x, np.inf), "broadcast scale_gradient"),
    unlike("_strong", lambda x: strongly(x, FINITE), "scale_gradient"),
    unlike("_strong", lambda n, x: strongly(x, n.astype("float64")), "cast scale_gradient",
           WHOLE, SPECIAL),
    unlike("_strong", lambda x: strongly(x, cr.exp(x)), "exp scale_gradient", FINITE),
    Case("_in_order", lambda u: cr.vjp(lambda x: cr.permute_dims(x, (1, 2, 0)), BOX)[1](u)[0],
         "permute", (BOX.transpose(1, 2, 0),)),
    unlike("_in_order", lambda x: cr.permute_dims(x, (1, 2, 0)), "permute", BOX),
    Case("_nothing_moved", lambda x: cr.permute_dims(x, (0, 1)), "", (GRID,)),
    Case("_nothing_moved", lambda x: cr.pad(x, 0), "", (GRID,)),
    unlike("_nothing_moved", lambda x: cr.permute_dims(x, (1, 0)), "permute", np.ones((3, 3))),
    unlike("_nothing_moved", lambda x: cr.flip(x), "flip", GRID),
    Case("_of_number", lambda x: x * cr.reshape(cr.full(8, 2.0), (2, 4)), "broadcast mul",
         (SPECIAL.reshape(2, 4),)),
    Case("_of_number", lambda x: x * cr.broadcast_to(2.0, (9, 8))[1], "broadcast mul"),
    unlike("_of_number", lambda x: x * cr.flip(ROW), "mul", ROW),
    Case("_moved_twice", lambda x: cr.permute_dims(cr.permute_dims(x, (1, 2, 0)), (1, 2, 0)),
         "permute", (BOX,)),
    Case("_moved_twice", lambda x: x.reshape(4, 6).reshape(3, 8), "reshape", (BOX,)),
    Case("_moved_twice", lambda x: cr.broadcast_to(cr.broadcast_to(x, (2, 1, 3)), (2, 5, 3)),
         "broadcast", (ROW,)),
    Case("_moved_twice", lambda x: x[1:7][1::2], "slice"),
    Case("_moved_twice", lambda x: x[::-1][6:1:-2], "slice"),
    Case("_moved_twice", lambda x: cr.flip(x[1:7:2]), "slice"),
    Case("_moved_twice", lambda x: cr.flip(cr.flip(x), axis=0), "flip", (BOX,)),
    Case("_moved_twice", lambda x: cr.flip(cr.flip(x)), "", (BOX,)),
    unlike("_moved_twice", lambda x: cr.permute_dims(x[1:], (1, 0, 2)), "slice permute", BOX),
    unlike("_moved_twice", lambda x: cr.permute_dims(x.reshape(4, 6), (1, 0)), "reshape permute",
           BOX),
    Case("_added_twice", lambda x: cr.pad(cr.pad(x, (1, 2)), (0, 1), interior=2), "pad"),
    Case("_added_twice", lambda x: x.sum(axis=0).sum(axis=1), "sum", (BOX,)),
    Case("_added_twice", lambda x: x.sum(axis=0, keepdims=True).sum(axis=2), "sum", (BOX,)),
    unlike("_added_twice", lambda x: cr.exp(x.sum(axis=0)).sum(), "sum exp sum", BOX),
    Case("_sum_of_one", lambda x: x.reshape(1, 2, 3).sum(axis=0), "", (GRID,), signs=False),
    Case("_sum_of_one", lambda x: x.sum(axis=1), "reshape", (GRID[:, :1],), signs=False),
    unlike("_sum_of_one", lambda x: x.sum(axis=1), "sum", GRID),
    unlike("_sum_of_one", lambda x: x.sum(axis=1), "sum", np.ones((3, 0))),
    Case("_of_new_axes", lambda x: cr.broadcast_to(x.reshape(3, 1), (3, 2)), "broadcast", (ROW,)),
    Case("_of_new_axes", lambda x: cr.broadcast_to(x.reshape(3, 2), (4, 3, 2)), "broadcast",
         (BOX[:1, :, :2],)),
    unlike("_of_new_axes", lambda x: cr.broadcast_to(x.reshape(6, 1), (6, 2)), "reshape broadcast",
           GRID),
    Case("_pad_of_zeros", lambda x: x + cr.pad(cr.broadcast_to(np.float64(0), (600,)), 1)[:8],
         "broadcast add"),
    unlike("_pad_of_zeros", lambda x: x + cr.pad(np.linspace(1, 2, 600), 1)[:8],
           "pad slice add"),
    Case("_inside_of_pad", lambda x: cr.pad(x, 2)[2:-2], ""),
    Case("_inside_of_pad", lambda x: cr.pad(x, (2, 3))[4:7], "slice"),
    Case("_inside_of_pad", lambda x: cr.pad(x, 1, interior=2)[1:-1:6], "slice"),
    unlike("_inside_of_pad", lambda x: cr.pad(x, 2)[1:-2], "pad slice"),
    unlike("_inside_of_pad", lambda x: cr.pad(x, 1, interior=2)[1:-1:2], "pad slice"),
    Case("_join_of_one", lambda x: cr.concat([x]), ""),
    unlike("_join_of_one", lambda x: cr.concat([x, x]), "concat"),
    Case("_of_moved", lambda x, y: x.T @ y, "contract", (BOX[0], BOX[1])),
    Case("_of_moved", lambda x, y: cr.contract(y, x.T, "kj,ik->ij"), "contract", (BOX[0], BOX[1])),
    Case("_of_moved", lambda x, y: cr.contract(cr.broadcast_to(x, (2, 4)), y, "bi,bij->bj"),
         "contract", (BOX[0, 0], BOX.transpose(0, 2, 1))),
    unlike("_of_moved", lambda x, y: cr.contract(cr.broadcast_to(x, (2, 4)), y, "bi,bij->j"),
           "broadcast contract", BOX[0, 0], BOX.transpose(0, 2, 1)),
    unlike("_of_moved", lambda x, y: cr.contract(cr.broadcast_to(x, (2, 4)), y, "bi,ij->bj"),
           "broadcast contract", BOX[0, 0], BOX[0].T),
    Case("_of_contraction", lambda x, y: (x @ y).T, "contract", (BOX[0], BOX[1].T)),
    unlike("_of_contraction", lambda x, y: (lambda z: (z.T, z + 1))(x @ y),
           "contract permute broadcast add", BOX[0], BOX[1].T),
    Case("_apart", lambda u: cr.vjp(lambda x: cr.windows(x, 2, stride=3), SPECIAL)[1](u)[0],
         "pad reshape slice", (np.ones((3, 2)),), signs=False),
    unlike("_apart", lambda u: cr.vjp(lambda x: cr.windows(x, 3, stride=2), SPECIAL)[1](u)[0],
           "fold", np.ones((3, 3))),
    Case("_product_of_rows", lambda e, u: e[ROWS] @ u, "contract gather",
         (EIGHTS[:3], EIGHTS)),
    Case("_product_of_rows", lambda e, u: e[ROWS].T @ u, "contract scatter_add",
         (EIGHTS[:3], np.ones((9, 2)))),
    unlike("_product_of_rows", lambda e, u: e[ROWS] @ u, "contract gather", EIGHTS[:5], EIGHTS),
    unlike("_product_of_rows", lambda e, u: e[ROWS].T @ u, "contract gather", EIGHTS[:5],
           np.ones((9, 2))),
    Case("_sum_of_products", lambda x, u: cr.vjp(lambda e: e[ROWS], EIGHTS[:3])[1](x @ u.T)[0],
         "contract scatter_add", (np.ones((9, 2)), np.ones((8, 2)))),
    unlike("_sum_of_products", lambda x, u: cr.vjp(lambda e: e[ROWS], EIGHTS[:5])[1](x @ u.T)[0],
           "contract scatter_add", np.ones((9, 2)), np.ones((8, 2))),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.rule} {'' if c.fires else 'un'}like")
def test_rule(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fires where it should, changes no value, and leaves alone what only looks like it."""
    fired = set()

    def watched(rule: Any) -> Any:
        def apply(sweep: Any, gate: Any) -> Any:
            found = rule(sweep, gate)
            if found is not None:
                fired.add(rule.__name__)
            return found

        return apply

    for rules in (algebra.RULES, lookups.FASTER):
        for primitive, own in rules.items():
            monkeypatch.setitem(rules, primitive, [watched(rule) for rule in own])
    graph = traced(case.function, *case.arrays)
    new = checked(graph, *case.arrays, signs=case.signs, grows=case.rule in GROWING)
    assert (case.rule in fired) == case.fires
    assert sorted(names(new)) == sorted(case.left.split())


def test_roots_are_as_in_eager() -> None:
    for dtype in ("f4", "f8"):
        x = SPECIAL.astype(dtype)
        with np.errstate(all="ignore"):
            eager = np.asarray(cr.asarray(x) ** 0.5)
        compiled = np.asarray(cr.compile(lambda x: x**0.5)(x))
        np.testing.assert_array_equal(compiled, eager)
        np.testing.assert_array_equal(np.signbit(compiled[3]), np.signbit(eager[3]))


def test_every_rule_has_cases() -> None:
    found = [*algebra.RULES.values(), *lookups.FASTER.values()]
    rules = {rule.__name__ for own in found for rule in own}
    assert rules == {c.rule for c in CASES if c.fires}
    assert rules == {c.rule for c in CASES if not c.fires}
