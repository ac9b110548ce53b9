"""Winograd's transforms of squares of vectors, and how vectors are read and written.

y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A    for y of 2×2, g of 3×3, d of 4×4 (winograd.py)
"""

from __future__ import annotations

from collections.abc import Sequence

from .ir import Function, Value, const, vector

Matrix = tuple[tuple[float, ...], ...]
BT: Matrix = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
G: Matrix = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
AT: Matrix = ((1, 1, 1, 0), (0, 1, -1, -1))
A: Matrix = tuple(zip(*AT, strict=True))
GT: Matrix = tuple(zip(*G, strict=True))


def transformed(f: Function, matrix: Matrix, square: Sequence[Sequence[Value]]
                ) -> list[list[Value]]:  # fmt: skip
    """M d Mᵀ"""
    lines = [[combined(f, row, column) for column in zip(*square, strict=True)] for row in matrix]
    return [[combined(f, row, line) for row in matrix] for line in lines]


def combined(f: Function, weights: Sequence[float], xs: Sequence[Value]) -> Value:
    """Σ weight · x for weights 0, ±1 and ±½."""

    def total(size: float) -> Value | None:
        terms = sorted((w < 0, k) for k, w in enumerate(weights) if abs(w) == size)
        found: Value | None = None
        for negative, k in terms:
            if found is None:
                found = f.fneg(xs[k]) if negative else xs[k]
            else:
                found = f.op("fsub" if negative else "fadd", found, xs[k])
        return found

    ones, halves = total(1), total(0.5)
    if halves is None:
        assert ones is not None, "a row of a transform has an entry"
        return ones
    half = const(0.5, halves.type)
    return f.op("fmul", halves, half) if ones is None else f.fma(halves, half, ones)


# -- epilogues of the products, and vectors in memory ----------------------------------------------


def store(f: Function, acc: Value, pointers: Sequence[Value], strides: tuple[int, ...],
          active: int) -> None:  # fmt: skip
    (at,), (stride,) = pointers, strides
    if stride == 1 or acc.lanes == 1:
        f.store(acc, at, active)
        return
    for lane in range(active):
        f.store(f.extract(acc, lane), f.at(at, lane * stride, acc.scalar))


def add(f: Function, acc: Value, pointers: Sequence[Value], strides: tuple[int, ...],
        active: int) -> None:  # fmt: skip
    before = loaded(f, pointers[0], strides[0], acc.scalar, acc.lanes, active)
    store(f, f.op("fadd", before, acc), pointers, strides, active)


def loaded(f: Function, at: Value, stride: int, scalar: str, lanes: int, active: int) -> Value:
    """A vector of entries that stand `stride` apart, 0 in what is left over."""
    if stride == 1 or lanes == 1:
        return f.load(at, vector(scalar, lanes), active)
    made = const(0, vector(scalar, lanes))
    for lane in range(active):
        one = f.load(f.at(at, lane * stride, scalar), scalar)
        made = f.make(
            f"insertelement {made.type} {made.name}, {one.type} {one.name}, i32 {lane}", made.type
        )
    return made
