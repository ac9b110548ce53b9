"""Packing: what a tile reads, copied to stand side by side."""

from __future__ import annotations

import numpy as np

from .blocking import pieces
from .ir import Function, Module, Value, const_vector, scalar_type, vector
from .machine import Machine

AHEAD = 48
"""Steps from what is copied to what is fetched: they are too far apart for the machine to guess."""


def packer(module: Module, machine: Machine, dtype: np.dtype[np.generic], width: int,
           how: str) -> str:  # fmt: skip
    """Name of void (ptr to, ptr from, i64 width, i64 count, i64 line, i64 step, i64 stride).

    to[k·line + w] = from[k·step + w·stride] for k < count, w < width. `how` is "copy" (the stride
    is 1), "turn" (the step is 1) or "pick" (neither). Only copies are made for one width.
    """
    key = "pack", scalar_type(dtype), how, width if how == "copy" else "any"
    if key not in module.shared:
        module.shared[key] = name = "_".join(map(str, key))
        given = [("ptr noalias", "to"), ("ptr noalias readonly", "from")]
        given += [("i64", n) for n in ("width", "count", "line", "step", "stride")]
        f = module.function(name, given, attributes="noinline nounwind")
        if how == "copy":
            _copy(f, machine, dtype, width)
        elif how == "turn":
            _turn(f, machine.lanes(dtype), scalar_type(dtype))
        else:
            _pick(f, scalar_type(dtype))
    return module.shared[key]


def _copy(f: Function, machine: Machine, dtype: np.dtype[np.generic], width: int) -> None:
    scalar = scalar_type(dtype)
    to, source, _, count, line, step, _ = f.parameters
    with f.loop(0, count) as k:
        at, into = f.at(source, f.mul(k, step), scalar), f.at(to, f.mul(k, line), scalar)
        f.fetch(f.at(at, f.mul(step, AHEAD), scalar), width, scalar)
        for p in pieces(width, machine.lanes(dtype), machine.masks):
            x = f.load(f.at(at, p.start, scalar), vector(scalar, p.lanes), p.active)
            f.store(x, f.at(into, p.start, scalar), p.active)


def _pick(f: Function, scalar: str) -> None:
    to, source, width, count, line, step, stride = f.parameters
    with f.loop(0, count) as k, f.loop(0, width) as w:
        x = f.load(f.at(source, f.add(f.mul(k, step), f.mul(w, stride)), scalar), scalar)
        f.store(x, f.at(to, f.add(f.mul(k, line), w), scalar))


def _turn(f: Function, lanes: int, scalar: str) -> None:
    """Squares of vectors are transposed in registers.

    At the edges loads are masked and rows and columns past the last one fall onto it; columns are
    stored from the last to the first, so that the true one stays.
    """
    to, source, width, count, line, _, stride = f.parameters
    type = vector(scalar, lanes)
    with f.loop(0, width, lanes) as start, f.loop(0, count, lanes) as k:
        rows, columns = (
            f.call("llvm.smin.i64", [f.sub(size, begin), f.index(lanes)], "i64")
            for size, begin in ((width, start), (count, k))
        )
        loaded, stored = _first(f, columns, lanes), _first(f, rows, lanes)
        base = f.at(source, f.add(k, f.mul(start, stride)), scalar)
        square = [
            f.masked_load(f.at(base, f.mul(_at_most(f, row, rows), stride), scalar), type, loaded)
            for row in range(lanes)
        ]
        base = f.at(to, f.add(f.mul(k, line), start), scalar)
        for column, x in reversed(list(enumerate(transposed(f, square)))):
            at = f.at(base, f.mul(_at_most(f, column, columns), line), scalar)
            f.masked_store(x, at, stored)


def _at_most(f: Function, i: int, count: Value) -> Value:
    """min(i, count − 1)"""
    return f.call("llvm.smin.i64", [f.index(i), f.index(f.sub(count, 1))], "i64")


def _first(f: Function, count: Value, lanes: int) -> Value:
    """A mask of so many first lanes."""
    return f.cmp("slt", const_vector(range(lanes), "i64"), f.splat(count, lanes))


def transposed(f: Function, rows: list[Value]) -> list[Value]:
    """A square of vectors, rows and columns exchanged, in log₂ stages of shuffles."""
    n = len(rows)
    half = n // 2
    while half:
        after = list(rows)
        for i in range(n):
            if not i & half:
                x, y = rows[i], rows[i + half]
                after[i] = f.shuffle(x, y, [k if not k & half else n + k - half for k in range(n)])
                after[i + half] = f.shuffle(
                    x, y, [k + half if not k & half else n + k for k in range(n)]
                )
        rows, half = after, half // 2
    return rows
