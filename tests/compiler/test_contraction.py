"""Contractions against sums in NumPy: random nests of loops, machines, threads; known shapes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chainrule.compiler.blocking import Split, pieces
from chainrule.compiler.contraction import Contraction, Loop, emit
from chainrule.compiler.ir import Module
from chainrule.compiler.machine import KINDS
from chainrule.compiler.peak import fma_peak
from tests.compiler.comparing import machine
from tests.compiler.nests import add_bias_into_both, check, compiled, dense


@st.composite
def problems(draw) -> Contraction:
    """Nests of up to four outer and three inner loops, any strides in A and B."""
    outer_sizes = draw(st.lists(st.integers(0, 40) | st.sampled_from([1, 3, 10, 17]), max_size=4))
    inner_sizes = draw(st.lists(st.integers(0, 40), max_size=3))
    while np.prod([max(1, s) for s in outer_sizes + inner_sizes]) > 60_000:
        sizes = max(outer_sizes, inner_sizes, key=lambda s: max(s, default=0))
        sizes[sizes.index(max(sizes))] //= 4
    sizes = outer_sizes + inner_sizes
    read = []
    for _ in range(2):
        order = draw(st.permutations(range(len(sizes))))
        natural = dense(sizes, order, draw(st.sampled_from([1, 1, 1, 3])))
        how = draw(st.lists(
            st.sampled_from(["as is", "as is", "as is", "backwards", "still", "any"]),
            min_size=len(sizes), max_size=len(sizes)))  # fmt: skip
        read.append([
            {"as is": s, "backwards": -s, "still": 0}.get(h, 0) if h != "any"
            else draw(st.integers(-5, 5)) for s, h in zip(natural, how, strict=True)
        ])  # fmt: skip
    n = len(outer_sizes)
    bias = [draw(st.sampled_from([0, 1, 2])) for _ in outer_sizes]
    written = [dense(outer_sizes, draw(st.permutations(range(n))), draw(st.sampled_from([1, 1, 2])))
               for _ in range(2)]  # fmt: skip
    others = [bias, *written]
    dtype = np.dtype(draw(st.sampled_from(["f", "d"])))
    strides = list(zip(*read, strict=True))
    return Contraction(
        tuple(Loop(s, (*strides[k], *(o[k] for o in others))) for k, s in enumerate(outer_sizes)),
        tuple(Loop(s, (*strides[n + k], 0, 0, 0)) for k, s in enumerate(inner_sizes)),
        dtype, (dtype,) * 3, tuple(draw(st.sets(st.sampled_from([0, 1, 2])))),
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=50, deadline=None)
@given(problem=problems(), threads=st.sampled_from([1, 2, 3]))
def test_random_nests(kind: str, problem: Contraction, threads: int) -> None:
    check(problem, machine(kind), threads)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(problem=problems(), threads=st.sampled_from([1, 1, 2]))
def test_random_nests_with_little_room(
    as_if_large: None, kind: str, problem: Contraction, threads: int
) -> None:
    check(problem, replace(machine(kind), l2=2048, l3=4096), threads)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [(200, 8, 8), (200, 40, 40), (40, 200, 200)], ids=str)
def test_products_with_little_room(as_if_large: None, sizes: tuple[int, ...], kind: str) -> None:
    """Either order of loops over tiles, in bands and blocks; results fetched or not."""
    problem = nest("mk,kn->mn", dict(zip("mkn", sizes, strict=True)), "f", {})
    check(problem, replace(machine(kind), l2=2048, l3=4096), 2)
    check(replace(problem, large=(1, 2)), replace(machine(kind), l2=2048, l3=4096), 2)


def nest(spec: str, sizes: dict[str, int], dtype: str, reach: dict[str, dict[str, int]]
         ) -> Contraction:  # fmt: skip
    """A contraction written as for einsum, its operands dense except those of `reach`.

    The buffers after A and B are a bias along the last axis, and two results.
    """
    a, b, out = spec.replace("->", ",").split(",")
    strides = []
    for letters in (a, b, out[-1], out, out):
        found, step = {}, 1
        for letter in reversed(letters):
            found[letter], step = step, step * sizes[letter]
        strides.append(reach.get(letters, found))
    loops = [
        Loop(sizes[x], tuple(s.get(x, 0) for s in strides)) for x in dict.fromkeys(out + a + b)
    ]
    n = len(out)
    return Contraction(tuple(loops[:n]), tuple(loops[n:]), np.dtype(dtype), (np.dtype(dtype),) * 3)


PRODUCTS = [
    (100, 2, 16), (100, 16, 16), (100, 16, 1), (64, 1000, 100), (64, 100, 10), (128, 784, 256),
    (128, 256, 128), (128, 128, 10), (32, 128, 512), (1, 300, 50), (50, 300, 1), (1, 300, 1),
    (3, 129, 3),
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", PRODUCTS, ids=str)
@pytest.mark.parametrize("spec", ["mk,kn->mn", "mk,mn->kn", "mn,kn->mk"])
def test_products(spec: str, shape: tuple[int, int, int], kind: str) -> None:
    """A product, its gradient by the weights, its gradient by the input."""
    dtype = "d" if sum(shape) % 2 else "f"
    check(nest(spec, dict(zip("mkn", shape, strict=True)), dtype, {}), machine(kind), 1)


CONVOLUTIONS = [(2, 28, 1, 32, 1), (2, 14, 32, 64, 1), (2, 14, 64, 32, 1), (3, 7, 5, 6, 2)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("spec", ["byxijc,ijco->byxo", "byxijc,byxo->ijco"])
def test_convolutions(spec: str, shape: tuple[int, ...], kind: str) -> None:
    """Windows of 3 x 3 of a padded input, channels last: forward and by the weights."""
    batch, size, channels, outputs, stride = shape
    side = stride * (size - 1) + 3
    row, image = side * channels, side * side * channels
    windows = {"b": image, "y": stride * row, "x": stride * channels, "i": row, "j": channels}
    sizes = {"b": batch, "y": size, "x": size, "i": 3, "j": 3, "c": channels, "o": outputs}
    problem = nest(spec, sizes, "f", {"byxijc": windows | {"c": 1}})
    check(problem, machine(kind), 2)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_a_long_sum(kind: str) -> None:
    """Few outputs, many steps: eight parts, whatever the number of threads, with the same bits."""
    problem = nest("km,kn->mn", {"k": 5000, "m": 3, "n": 20}, "f", {})
    results = []
    for threads in (1, 2, 3):
        made, call = compiled(problem, machine(kind), add_bias_into_both, threads)
        assert made.synchronous == (threads > 1)
        rng = np.random.default_rng(0)
        sizes = (15000, 100_000, 20, 60, 60)
        arrays = [rng.standard_normal(n).astype("f") for n in sizes]
        call(arrays)
        results.append(arrays[3])
    assert (results[0] == results[1]).all() and (results[0] == results[2]).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [(64, 100, 100), (41, 257, 70), (10, 500, 90)], ids=str)
def test_bits_do_not_depend_on_threads(sizes: tuple[int, int, int], kind: str) -> None:
    rng = np.random.default_rng(0)
    m, k, n = sizes
    A, B = rng.standard_normal(m * k).astype("f"), rng.standard_normal(k * n).astype("f")
    results = []
    for threads in (1, 2, 3):
        problem = nest("mk,kn->mn", {"m": m, "k": k, "n": n}, "f", {})
        _, call = compiled(problem, machine(kind), add_bias_into_both, threads)
        buffers = [A, B, np.zeros(n, "f"), np.zeros(m * n, "f"), np.zeros(m * n, "f")]
        call(buffers)
        results.append(buffers[3])
    assert (results[0] == results[1]).all() and (results[0] == results[2]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_infinity_stays_where_it_is(kind: str) -> None:
    """What is masked away at the end of a sum along the lanes adds 0, not infinity times 0."""
    k = 21
    outer = (Loop(3, (k, 0, 0, 1, 1)),)
    problem = Contraction(outer, (Loop(k, (1, 0)),), np.dtype("f"), (np.dtype("f"),) * 3)
    _, call = compiled(problem, machine(kind), add_bias_into_both)
    arrays = [np.ones(3 * k, "f"), np.full(1, np.inf, "f"), *(np.zeros(3, "f") for _ in range(3))]
    call(arrays)
    assert (arrays[4] == np.inf).all()


def test_empty_nests() -> None:
    """No outputs: nothing happens. No steps: the epilogue on zeros."""
    kind = machine("portable")
    made = check(nest("mk,kn->mn", {"m": 0, "k": 3, "n": 4}, "f", {}), kind, 1)
    assert made.flops == 0
    check(nest("mk,kn->mn", {"m": 5, "k": 0, "n": 4}, "f", {}), kind, 1)
    check(nest("mjk,jkn->mn", {"m": 5, "j": 0, "k": 0, "n": 1}, "f", {}), kind, 1)


def test_packers_are_shared() -> None:
    kind, module = machine("portable"), Module()
    problem = nest("mn,kn->mk", {"m": 64, "k": 100, "n": 30}, "f", {})
    first = emit(module, "first", problem, kind, add_bias_into_both, 1, "barrier")
    count = len(module.functions)
    emit(module, "second", problem, kind, add_bias_into_both, 1, "barrier")
    assert first.scratch > 0 and len(module.shared) == 1
    assert len(module.functions) == 2 * (count - 1) + 1


@pytest.mark.parametrize("masks", [True, False])
@given(active=st.integers(0, 70), lanes=st.sampled_from([1, 2, 4, 16]))
def test_pieces_cover_all_lanes_once(masks: bool, active: int, lanes: int) -> None:
    found = pieces(active, lanes, masks)
    covered = [p.start + k for p in found for k in range(p.active)]
    assert covered == list(range(active))
    assert masks or all(p.active == p.lanes for p in found)


@given(size=st.integers(1, 100), parts=st.integers(1, 100))
def test_a_split_covers_all_steps(size: int, parts: int) -> None:
    split = Split(size, min(size, parts))
    short = split.parts - split.long
    assert split.long * split.most + short * (split.most - 1) == size and short >= 0


def test_peak() -> None:
    """Between a calculator and what no core can do."""
    assert 1e7 < fma_peak(machine("portable"), np.dtype("f")) < 1e13
