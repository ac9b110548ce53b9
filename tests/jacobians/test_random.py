"""Random programs: the closed form beside both modes, entry by entry.

An entry may be off by 1e-12 of the same computation carried out on absolute values: the products
and sums of |local Jacobian| from the input to the output.
"""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule.autodiff.reverse import Linearized
from chainrule.core import bare
from chainrule.core.node import Node
from chainrule.jacobians import apply
from chainrule.jacobians.graph import gate_of, local_of
from chainrule.jacobians.relation import pattern_of, relation_of
from tests.jacobians.programs import STEPS, program, programs_of
from tests.jacobians.writer import Program
from tests.ops.cases import CASES

MODES = ("forward", "reverse", "mixed")
MANY = 8
"""Terms above which forms are not multiplied with each other here: that takes their square."""


def units(shape: Any, dtype: Any = np.float64) -> Any:
    """The unit arrays of a shape, one after another."""
    size = int(np.prod(shape))
    return np.eye(size, dtype=dtype).reshape(size, *shape)


def by_pulls(line: Linearized, output: int) -> list[Any]:
    """∂output/∂(each input) from reverse mode: a row at a time, both sides flat."""
    rows: list[list[Any]] = [[] for _ in line.inputs]
    out = line.outputs[output]
    for u in units(out.shape, out.dtype):
        ups = [np.zeros(o.shape, o.dtype) for o in line.outputs]
        ups[output] = u
        for row, g in zip(rows, line.pull(ups), strict=True):
            row.append(np.asarray(g).reshape(-1))
    return [np.array(r).reshape(out.size, x.size) for r, x in zip(rows, line.inputs, strict=True)]


def by_pushes(line: Linearized, input: int) -> list[Any]:
    """∂(each output)/∂input from forward mode: a column at a time."""
    columns: list[list[Any]] = [[] for _ in line.outputs]
    x = line.inputs[input]
    for v in units(x.shape, x.dtype):
        tangents = [cr.zeros(y.shape, dtype=y.dtype) for y in line.inputs]
        tangents[input] = cr.asarray(v)
        for column, t in zip(columns, line.push(tangents), strict=True):
            column.append(np.asarray(t).reshape(-1))
    return [
        np.array(c).reshape(x.size, o.size).T for c, o in zip(columns, line.outputs, strict=True)
    ]


def on_absolute_values(line: Linearized) -> list[list[Any]]:
    """Σ over the ways from input to output of Π |local Jacobian|, for each output and input."""
    reached: dict[Node, list[Any]] = {}
    for k, node in enumerate(line.wanted):
        reached[node] = [np.zeros((node.type.size, x.size)) for x in line.inputs]
        reached[node][k] = np.eye(node.type.size)
    for node in line.order:
        if node in reached or node not in line.active or not hasattr(node.type, "shape"):
            continue
        if node.primitive is None or not gate_of(node).primitive.differentiable:
            continue
        total = [np.zeros((node.type.size, x.size)) for x in line.inputs]
        for i, x in enumerate(gate_of(node).inputs):
            if not isinstance(x, Node) or x not in reached:
                continue
            local = local_of(node, i)
            pulled = [local.pull(bare.xp, u) for u in units(node.type.shape, node.type.dtype)]
            rows = [np.zeros(x.type.size) if g is None else np.asarray(g) for g in pulled]
            size = np.abs(np.array(rows, np.float64).reshape(node.type.size, x.type.size))
            total = [t + size @ r for t, r in zip(total, reached[x], strict=True)]
        reached[node] = total
    nothing = [[np.zeros((o.size, x.size)) for x in line.inputs] for o in line.outputs]
    return [
        none if o._node is None else reached.get(o._node, none)
        for o, none in zip(line.outputs, nothing, strict=True)
    ]


def close(received: Any, expected: Any, sizes: Any, what: str) -> None:
    """Entries agree within 1e-12 of `sizes`."""
    received = np.asarray(received)
    expected = np.asarray(expected).reshape(received.shape)
    off = np.abs(received - expected) - 1e-12 * np.asarray(sizes).reshape(received.shape)
    if not (off <= 0).all():
        raise AssertionError(f"{what}:\n{received}\ninstead of\n{expected}")


def check(function: Any, arrays: list[Any]) -> list[cr.Jacobian]:
    """Compare the Jacobians of each output by each input; these, row after row."""
    line = Linearized(lambda xs: function(*xs), arrays)
    sizes = on_absolute_values(line)
    forward = [by_pushes(line, k) for k in range(len(arrays))]
    wrt = tuple(range(len(arrays)))
    found = cr.jacobian(function, wrt)(*arrays)
    others = {mode: cr.jacobian(function, wrt, mode=mode)(*arrays) for mode in MODES}
    for i, o in enumerate(line.outputs):
        backward = by_pulls(line, i)
        for k, x in enumerate(arrays):
            name = f"output {i} by input {k}"
            J, dense, size = found[i][k], backward[k], sizes[i][k]
            assert (J.out_shape, J.in_shape, J.dtype) == (o.shape, x.shape, o.dtype), name
            assert J.shape == dense.shape, name
            close(forward[k][i], dense, size, f"{name}, the two modes")
            close(J.todense(), dense, size, f"{name}, todense")
            operations(J, dense, size, name)
            modes = {m: js[i][k].form for m, js in others.items()}
            assert J.form is not None or J.reason, name
            for mode, form in modes.items():
                if form is not None:
                    close(apply.dense(form), dense, size, f"{name}, {mode} elimination")
            if J.form is not None:
                closed(J.form, dense, size, name)
    return [J for row in found for J in row]


def operations(J: cr.Jacobian, dense: Any, size: Any, name: str) -> None:
    """Products with vectors and Jacobians, sums, the transpose."""
    rng = np.random.default_rng(0)
    v, u = rng.normal(size=J.in_shape), rng.normal(size=J.out_shape)
    right = (dense @ v.reshape(-1), size @ np.abs(v.reshape(-1)))
    left = (u.reshape(-1) @ dense, np.abs(u.reshape(-1)) @ size)
    close(J @ v, *right, f"{name}, J @ v")
    close(u @ J, *left, f"{name}, u @ J")
    others = [
        (J.T, dense.T, size.T, "J.T"),
        (2 * J, 2 * dense, 2 * size, "2 J"),
        (J + 2 * J, 3 * dense, 3 * size, "J + K"),
        (J - J, 0 * dense, 2 * size, "J - J"),
    ]
    if J.form is None or len(J.form.terms) <= MANY:
        others += [
            (J.T @ J, dense.T @ dense, size.T @ size, "J.T @ J"),
            (J @ J.T, dense @ dense.T, size @ size.T, "J @ J.T"),
        ]
    for K, entries, about, what in others:
        close(K.todense(), entries, about, f"{name}, {what}")
        if K.form is not None:
            close(apply.dense(K.form), entries, about, f"{name}, the form of {what}")
    if J.form is not None:
        close(apply.push(J.form, v), *right, f"{name}, push")
        close(apply.pull(J.form, u), *left, f"{name}, pull")


def closed(form: Any, dense: Any, size: Any, name: str) -> None:
    """What the form alone answers."""
    close(apply.dense(form), dense, size, f"{name}, the form")
    rows, columns, values = apply.coordinates(form)
    covered, total = np.zeros(dense.shape, bool), np.zeros(dense.shape)
    covered[rows, columns] = True
    np.add.at(total, (rows, columns), values)
    assert covered[dense != 0].all(), f"{name}: the pattern misses entries"
    close(total, dense, size, f"{name}, coordinates")
    close(apply.diagonal(form), np.diagonal(dense), np.diagonal(size), f"{name}, diagonal")
    close(apply.trace(form), np.trace(dense), np.trace(size), f"{name}, trace")


# -- the tests ---------------------------------------------------------------------------------


def kinds(source: Program) -> set[str]:
    """The names of the gates with derivatives in a program."""
    function = source.function
    line = Linearized(lambda xs: function(*xs), source.arrays)
    gates = [n for node in line.order for n in (node, gate_of(node)) if n.primitive is not None]
    return {n.primitive.name for n in gates}


def test_programs_use_every_differentiable_primitive():
    only_traced = {"scan", "cond"}  # run, they are the gates of their bodies
    wanted = {case.primitive for case in CASES if case.floats and case.smooth} - only_traced
    found: set[str] = set()
    for name, number in zip(STEPS, count(), strict=False):
        for source in programs_of(number, 200, only=name, longest=1):
            found |= kinds(source)
    assert wanted <= found, f"no program uses {sorted(wanted - found)}"


def test_almost_all_have_a_closed_form():
    """Else the comparisons of forms would compare little."""
    forms = [
        J.form
        for source in programs_of(1, 200)
        for row in cr.jacobian(source.function, tuple(range(len(source.arrays))))(*source.arrays)
        for J in row
    ]
    assert sum(form is not None for form in forms) >= 0.97 * len(forms)


smooth = st.builds(program, st.randoms(use_true_random=False))
at_kinks = st.builds(program, st.randoms(use_true_random=False), smooth=st.just(False))
scalar = st.builds(
    program, st.randoms(use_true_random=False), longest=st.just(3), scalar=st.just(True)
)
CHECKS = list(HealthCheck)


def few(examples: int) -> Any:
    return settings(max_examples=examples, deadline=None, derandomize=True,
                    suppress_health_check=CHECKS)  # fmt: skip


def many(examples: int) -> Any:
    return settings(max_examples=examples, deadline=None, suppress_health_check=CHECKS)


def agree(source: Program) -> None:
    with np.errstate(all="ignore"):
        check(source.function, source.arrays)


def patterns_cover(source: Program) -> None:
    """The pattern found from a trace, for all values, has all that is nonzero at these."""
    f = source.function
    line = Linearized(lambda xs: f(*xs), source.arrays)
    for i in range(len(line.outputs)):
        for k, dense in enumerate(by_pulls(line, i)):

            def one(x: Any, i: int = i, k: int = k) -> Any:
                others = [cr.asarray(y) for y in source.arrays]
                return f(*others[:k], x, *others[k + 1 :])[i]

            relation, _, _ = relation_of(one, line.inputs[k].type)
            pattern = pattern_of(relation)
            covered = np.zeros(dense.shape, bool)
            covered[pattern.rows, pattern.indices] = True
            assert covered[dense != 0].all(), f"output {i} by input {k}: the pattern misses entries"


def hessians_agree(source: Program) -> None:
    f = source.function

    def function(*xs: Any) -> Any:
        return f(*map(cr.asarray, xs))[0]

    def gradients(*xs: Any) -> Any:
        return cr.grad(function, tuple(range(len(xs))))(*xs)

    with np.errstate(all="ignore"):
        check(gradients, source.arrays)
        for k, x in enumerate(source.arrays):
            H = cr.hessian(function, k)(*source.arrays)
            assert (H.out_shape, H.in_shape) == (x.shape, x.shape)
            dense = by_pulls(Linearized(lambda xs: gradients(*xs), source.arrays), k)[k]
            np.testing.assert_allclose(np.asarray(H), dense, rtol=1e-9, atol=1e-9)


@few(150)
@given(smooth)
def test_random_programs(source):
    agree(source)


@few(150)
@given(smooth)
def test_more_random_programs(source):
    agree(source)


@few(150)
@given(at_kinks)
def test_random_programs_at_kinks(source):
    agree(source)


@few(100)
@given(at_kinks)
def test_patterns_of_random_programs(source):
    with np.errstate(all="ignore"):
        patterns_cover(source)


@few(50)
@given(scalar)
def test_hessians_of_random_programs(source):
    hessians_agree(source)


@pytest.mark.long
@many(7000)
@given(smooth)
def test_many_random_programs(source):
    agree(source)


@pytest.mark.long
@many(2000)
@given(at_kinks)
def test_many_random_programs_at_kinks(source):
    agree(source)


@pytest.mark.long
@many(1000)
@given(scalar)
def test_many_hessians_of_random_programs(source):
    hessians_agree(source)
