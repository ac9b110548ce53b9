"""A traced graph as native code beside the reference interpreter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from chainrule.compiler.executable import Executable
from chainrule.compiler.machine import KINDS, Machine, named
from chainrule.core.graph import Graph
from chainrule.core.node import Node
from chainrule.core.types import ArrayType
from chainrule.errors import CompileError
from chainrule.ops.tracing import trace

RTOL = {"f4": 2e-4, "f8": 1e-9}


def machine(kind: str, threads: int = 1) -> Machine:
    """The machine of a kind, or a skip where the processor is none."""
    try:
        return named(kind, threads)
    except CompileError as error:
        pytest.skip(str(error))


def with_little_room(kind: str, threads: int) -> Machine:
    """A machine with tiny caches, for small programs that stand for large ones (as_if_large)."""
    return replace(machine(kind, threads), l2=2048, l3=4096)


def forward(node: Node, operands: list[Any]) -> Any:
    return node.primitive.forward(*operands, **(node.params or {}))


def traced(function: Callable[..., Any], arrays: Sequence[Any]) -> Graph:
    return trace(function, [ArrayType(a.shape, a.dtype) for a in arrays])[0]


def type_of(x: Any) -> ArrayType:
    return x.type if isinstance(x, Node) else ArrayType(np.shape(x), x.dtype)


def run(executable: Executable, graph: Graph, arrays: Sequence[Any], in_place: bool = False
        ) -> list[Any]:  # fmt: skip
    """Outputs and assigned values; with `in_place` variables are overwritten where they lie."""
    captured = [np.array(h._value, order="C") for h, _ in graph.captured]
    outputs = [np.full(t.shape, 77).astype(t.dtype) for t in map(type_of, graph.outputs)]
    own = {id(h): a for (h, _), a in zip(graph.captured, captured, strict=True)}
    assigned = []
    for variable, value in graph.assignments:
        fresh = np.full(type_of(value).shape, 77).astype(type_of(value).dtype)
        assigned.append(own.get(id(variable), fresh) if in_place else fresh)
    given = [np.array(a, order="C") for a in arrays]
    executable.run(given, captured, outputs, assigned)
    return [*outputs, *assigned]


def expected(graph: Graph, arrays: Sequence[Any]) -> list[Any]:
    leaves: dict[Node, Any] = dict(zip(graph.inputs, arrays, strict=True))
    leaves.update((leaf, np.asarray(h._value)) for h, leaf in graph.captured)
    with np.errstate(all="ignore"):
        outputs, assigned = graph.run(leaves, forward)
    return [*map(np.asarray, outputs), *map(np.asarray, assigned)]


def close(found: Sequence[Any], wanted: Sequence[Any], scale: float = 1.0) -> None:
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        if b.dtype.kind != "f":
            np.testing.assert_array_equal(a, b)
            continue
        rtol = RTOL[b.dtype.str[1:]] * scale
        size = np.max(np.abs(b), initial=0.0, where=np.isfinite(b))
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * max(float(size), 1e-3))


def check(function: Callable[..., Any], arrays: Sequence[Any], m: Machine, scale: float = 1.0
          ) -> Executable:  # fmt: skip
    """Native code and interpreter agree, also the second time and in place."""
    graph = traced(function, arrays)
    wanted = expected(graph, arrays)
    executable = Executable(graph, m)
    close(run(executable, graph, arrays), wanted, scale)
    close(run(executable, graph, arrays, in_place=True), wanted, scale)
    return executable


__all__ = ["KINDS", "check", "close", "expected", "machine", "run", "traced", "with_little_room"]
