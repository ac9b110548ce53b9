"""Packing: what a tile reads, copied to stand side by side."""

from __future__ import annotations

import numpy as np

from .blocking import pieces
from .ir import Function, Index, Module, Value, const, scalar_type, vector
from .machine import Machine


def packer(module: Module, machine: Machine, dtype: np.dtype[np.generic], width: int,
           how: str) -> str:  # fmt: skip
    """Name of void (ptr to, ptr from, i64 count, i64 line, i64 step, i64 stride).

    to[k·line + w] = from[k·step + w·stride] for k < count, w < width. `how` is "copy" (the stride
    is 1), "turn" (the step is 1) or "pick" (neither).
    """
    key = "pack", scalar_type(dtype), width, how
    if key not in module.shared:
        module.shared[key] = name = "_".join(map(str, key))
        given = [("ptr noalias", "to"), ("ptr noalias readonly", "from")]
        given += [("i64", n) for n in ("count", "line", "step", "stride")]
        f = module.function(name, given, attributes="noinline nounwind")
        {"copy": _copy, "turn": _turn, "pick": _pick}[how](f, machine, dtype, width)
    return module.shared[key]


def _copy(f: Function, machine: Machine, dtype: np.dtype[np.generic], width: int) -> None:
    scalar = scalar_type(dtype)
    to, source, count, line, step, _ = f.parameters
    with f.loop(0, count) as k:
        at, into = f.at(source, f.mul(k, step), scalar), f.at(to, f.mul(k, line), scalar)
        for p in pieces(width, machine.lanes(dtype), machine.masks):
            x = f.load(f.at(at, p.start, scalar), vector(scalar, p.lanes), p.active)
            f.store(x, f.at(into, p.start, scalar), p.active)


def _pick(f: Function, machine: Machine, dtype: np.dtype[np.generic], width: int,
          start: Index = 0) -> None:  # fmt: skip
    scalar = scalar_type(dtype)
    to, source, count, line, step, stride = f.parameters
    with f.loop(start, count) as k, f.loop(0, width) as w:
        x = f.load(f.at(source, f.add(f.mul(k, step), f.mul(w, stride)), scalar), scalar)
        f.store(x, f.at(to, f.add(f.mul(k, line), w), scalar))


def _turn(f: Function, machine: Machine, dtype: np.dtype[np.generic], width: int) -> None:
    """Squares of vectors are transposed in registers; what is left of k goes one by one."""
    scalar, lanes = scalar_type(dtype), machine.lanes(dtype)
    to, source, count, line, _, stride = f.parameters
    whole = f.mul(f.op("sdiv", count, f.index(lanes)), lanes)
    empty = const(0, vector(scalar, lanes))
    for start in range(0, width, lanes):
        rows = min(lanes, width - start)
        with f.loop(0, whole, lanes) as k:
            square = [empty] * lanes
            for row in range(rows):
                at = f.add(k, f.mul(stride, start + row))
                square[row] = f.load(f.at(source, at, scalar), empty.type)
            for column, x in enumerate(transposed(f, square)):
                at = f.add(f.mul(f.add(k, column), line), start)
                _store(f, machine, x, f.at(to, at, scalar), rows)
    _pick(f, machine, dtype, width, whole)


def _store(f: Function, machine: Machine, x: Value, at: Value, active: int) -> None:
    """The first lanes of a vector, by halves where masks are dear."""
    if machine.masks or active == x.lanes:
        f.store(x, at, active)
        return
    for p in pieces(active, x.lanes, False):
        part = f.shuffle(x, None, range(p.start, p.start + p.lanes)) if p.lanes > 1 else (
            f.extract(x, p.start))  # fmt: skip
        f.store(part, f.at(at, p.start, x.scalar))


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
