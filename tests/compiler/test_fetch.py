"""What the epilogue of a contraction reads is brought near while its tile is summed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chainrule.compiler.contraction import emit
from chainrule.compiler.ir import Module
from chainrule.compiler.machine import KINDS
from tests.compiler.test_contraction import add_bias_into_both, check, machine, nest


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [(30, 300, 100), (64, 33, 64), (30, 3, 100)], ids=str)
def test_results_are_fetched_if_the_sum_is_long_enough(
    sizes: tuple[int, int, int], kind: str
) -> None:
    problem = nest("mk,kn->mn", dict(zip("mkn", sizes, strict=True)), "f", {})
    problem = replace(problem, large=(0, 1, 2))
    check(problem, machine(kind), 1)
    module = Module()
    emit(module, "first", problem, machine(kind), add_bias_into_both, 1, "barrier")
    tiles = [str(f) for name, f in module.functions.items() if name.startswith("first_")]
    assert any("@llvm.prefetch" in text for text in tiles) == (sizes[1] > 3)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_fetched_where_nothing_is_summed(kind: str) -> None:
    problem = replace(nest("m,n->mn", {"m": 30, "n": 100}, "f", {}), large=(1, 2))
    check(problem, machine(kind), 1)
