"""Contractions given as nests of loops: compiled on their own, and beside NumPy."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence

import numpy as np

from chainrule.compiler.contraction import Contraction, Emitted, Loop, emit
from chainrule.compiler.ir import Function, Module, Value, const
from chainrule.compiler.machine import Machine
from chainrule.compiler.native import Library, object_code

BARRIER = """
define internal void @barrier(ptr %pool) {
entry:
  %turn = getelementptr i64, ptr %pool, i64 1
  %size = getelementptr i64, ptr %pool, i64 2
  %threads = load i64, ptr %size
  %now = load atomic i64, ptr %turn acquire, align 8
  %before = atomicrmw add ptr %pool, i64 1 seq_cst
  %count = add i64 %before, 1
  %last = icmp eq i64 %count, %threads
  br i1 %last, label %open, label %wait
open:
  store atomic i64 0, ptr %pool seq_cst, align 8
  %next = add i64 %now, 1
  store atomic i64 %next, ptr %turn seq_cst, align 8
  ret void
wait:
  %seen = load atomic i64, ptr %turn acquire, align 8
  %same = icmp eq i64 %seen, %now
  br i1 %same, label %wait, label %done
done:
  ret void
}
"""
"""void barrier(ptr pool): spins; the pool is three i64 (arrived, turn, threads)."""


def vector_add(f: Function, x: Value, pointer: Value, stride: int, active: int, sign: str) -> Value:
    """x + what stands in memory, lane by lane where it does not stand side by side."""
    if stride == 1 or x.lanes == 1:
        return f.op(sign, x, f.load(pointer, x.type, active))
    parts = []
    for lane in range(active):
        one = f.load(f.at(pointer, lane * stride, x.scalar), x.scalar)
        parts.append(f.op(sign, f.extract(x, lane) if x.lanes > 1 else x, one))
    total = const(0, x.type)
    for lane, one in enumerate(parts):
        total = f.make(
            f"insertelement {x.type} {total.name}, {x.scalar} {one.name}, i32 {lane}", x.type
        )
    return total


def store(f: Function, x: Value, pointer: Value, stride: int, active: int) -> None:
    if stride == 1 or x.lanes == 1:
        f.store(x, pointer, active)
        return
    for lane in range(active):
        f.store(f.extract(x, lane), f.at(pointer, lane * stride, x.scalar))


def add_bias_into_both(f, acc, pointers, strides, active):
    """others = (bias, updated, result): updated -= acc in place, result = relu(acc + bias)."""
    bias, updated, result = pointers
    store(
        f, vector_add(f, f.fneg(acc), updated, strides[1], active, "fadd"), updated, strides[1],
        active,
    )  # fmt: skip
    total = vector_add(f, acc, bias, strides[0], active, "fadd")
    store(f, f.intrinsic("llvm.maxnum", total, const(0, total.type)), result, strides[2], active)


def compiled(problem: Contraction, kind: Machine, epilogue, threads: int = 1, emit=emit) -> tuple:
    """(what emit said, call(buffers)) of one contraction."""
    module = Module()
    made = emit(module, "contraction", problem, kind, epilogue, threads, "barrier")
    count = 2 + len(problem.others)
    f = module.function(
        "run", [("ptr", "table"), ("i64", "thread"), ("ptr", "pool")], internal=False
    )
    table, thread, pool = f.parameters
    buffers = [f.load(f.at(table, k, "i64"), "ptr") for k in range(count + 1)]
    f.invoke("contraction", [*buffers, thread, pool])
    library = Library(object_code(str(module) + BARRIER, kind), kind)
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)(
        library.address("run")
    )

    def call(buffers: Sequence[np.ndarray]) -> None:
        room = np.full(made.scratch + 64, 255, np.uint8)  # NaN
        addresses = [b.ctypes.data for b in buffers] + [-(-room.ctypes.data // 64) * 64]
        table = np.array(addresses, np.int64)
        pool = np.array([0, 0, threads], np.int64)

        def one(thread: int) -> None:
            function(table.ctypes.data, thread, pool.ctypes.data)

        if made.synchronous:
            all_of_them = [threading.Thread(target=one, args=(t,)) for t in range(threads)]
            for t in all_of_them:
                t.start()
            for t in all_of_them:
                t.join()
        else:
            for t in range(threads):
                one(t)

    call.library = library  # type: ignore[attr-defined]
    return made, call


def span(loops: Sequence[Loop], k: int) -> tuple[int, int]:
    """The least and greatest offset that these loops reach in buffer k."""
    ends = [(x.size - 1) * x.strides[k] for x in loops if len(x.strides) > k and x.size]
    return sum(min(0, e) for e in ends), sum(max(0, e) for e in ends)


def view(array: np.ndarray, start: int, loops: Sequence[Loop], k: int) -> np.ndarray:
    strides = [(x.strides[k] if k < len(x.strides) else 0) * array.itemsize for x in loops]
    return np.lib.stride_tricks.as_strided(array[start:], [x.size for x in loops], strides)


def check(problem: Contraction, kind: Machine, threads: int, seed: int = 0, emit=emit) -> Emitted:
    """The generated code beside NumPy in float64, on whole numbers: they have to be the same."""
    made, call = compiled(problem, kind, add_bias_into_both, threads, emit)
    rng = np.random.default_rng(seed)
    loops = [*problem.outer, *problem.inner]
    dtype = problem.dtype
    arrays, starts = [], []
    for k in range(5):
        low, high = span(loops if k < 2 else problem.outer, k)
        arrays.append(rng.integers(-4, 5, high - low + 1).astype(dtype))
        starts.append(-low)
    wanted = [a.copy() for a in arrays]
    x, y = (view(arrays[k].astype(float), starts[k], loops, k) for k in (0, 1))
    total = (x * y).sum(axis=tuple(range(len(problem.outer), len(loops))))
    views = [view(wanted[k], starts[k], problem.outer, k) for k in (2, 3, 4)]
    views[1] -= total.astype(dtype)
    views[2][...] = np.maximum(total.astype(dtype) + views[0], 0)
    call([a[s:] for a, s in zip(arrays, starts, strict=True)])
    for k in range(5):
        np.testing.assert_array_equal(arrays[k], wanted[k])
    return made


def dense(sizes: Sequence[int], order: Sequence[int], gap: int) -> list[int]:
    """Strides without overlap, axes from slow to fast as ordered, `gap` apart in the fastest."""
    strides, step = [0] * len(sizes), gap
    for axis in reversed(order):
        strides[axis] = step
        step *= max(1, sizes[axis])
    return strides
