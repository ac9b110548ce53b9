"""Contractions on one thread beside the peak of multiply-adds, which is measured first.

`python -m benchmarks.contractions`. The products of the steps of `benchmarks.compiled`, forward and
both gradients, its convolutions, thin shapes and large ones; float32, and some in float64. A row is
the processor time of one thread, pinned to a core: the median of many calls from native code after
a warm-up.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

import chainrule as cr
from chainrule.compiler.executable import Executable
from chainrule.compiler.machine import host
from chainrule.compiler.native import Library, object_code
from chainrule.compiler.peak import fma_peak
from chainrule.core.types import ArrayType
from chainrule.ops.tracing import trace

REPEAT = """
define void @repeat(ptr %step, ptr %table, ptr %count) {
  %times = ptrtoint ptr %count to i64
  br label %next
next:
  %n = phi i64 [0, %0], [%n1, %next]
  call void %step(ptr %table, i64 0, ptr null)
  %n1 = add i64 %n, 1
  %more = icmp ult i64 %n1, %times
  br i1 %more, label %next, label %done
done:
  ret void
}
"""
"""Calls a step from native code, as larger steps do."""
WANTED, SECONDS, LEAST = 0.8, 0.3, 20
LAYERS = (
    (100, 2, 16), (100, 16, 16), (100, 16, 1), (64, 1000, 100), (64, 100, 10), (128, 784, 256),
    (128, 256, 128), (128, 128, 10), (256, 1024, 1024), (256, 1024, 10), (2048, 128, 512),
    (32, 128, 512), (2048, 128, 96), (64, 3136, 128),
)  # fmt: skip
"""Batch, inputs, outputs of layers: three products each."""
SQUARE = (256, 512, 1024, 2048)
THIN = ((1, 1024, 1024), (3, 1000, 1000), (1000, 1000, 3), (4096, 10, 64), (10, 4096, 10))


def cases() -> Iterator[tuple[str, Callable[..., Any], tuple[tuple[int, ...], ...], Any]]:
    """(name, function, shapes of its operands, dtype)."""
    f4, f8 = np.dtype("float32"), np.dtype("float64")
    for m, k, n in LAYERS:
        yield f"{m}×{k}×{n} forward", lambda x, w: x @ w, ((m, k), (k, n)), f4
        yield f"{m}×{k}×{n} by inputs", lambda d, w: d @ w.T, ((m, n), (k, n)), f4
        yield f"{m}×{k}×{n} by weights", lambda x, d: x.T @ d, ((m, k), (m, n)), f4
    for m, k, n in THIN:
        yield f"{m}×{k}×{n}", lambda x, w: x @ w, ((m, k), (k, n)), f4
    for n in SQUARE:
        yield f"{n}³", lambda x, y: x @ y, ((n, n), (n, n)), f4
    yield "1024³, float64", lambda x, y: x @ y, ((1024, 1024), (1024, 1024)), f8

    def convolve(x: Any, w: Any) -> Any:
        return cr.einsum("bijckl,klco->bijo", cr.windows(x, (3, 3), axis=(1, 2)), w)

    def by_weights(x: Any, d: Any) -> Any:
        return cr.einsum("bijckl,bijo->klco", cr.windows(x, (3, 3), axis=(1, 2)), d)

    for b, side, c, o in ((64, 28, 1, 32), (64, 14, 32, 64), (128, 14, 16, 32), (16, 56, 64, 64)):
        name, padded = f"conv {side}²×{c} → {o}, batch {b}", (b, side + 2, side + 2, c)
        yield f"{name} forward", convolve, (padded, (3, 3, c, o)), f4
        yield f"{name} by weights", by_weights, (padded, (b, side, side, o)), f4


def gflops(function: Callable[..., Any], shapes: Any, dtype: Any) -> float:
    """10⁹ additions and multiplications a second of one thread."""
    machine = replace(host(), threads=1)
    graph, _ = trace(function, [ArrayType(s, dtype) for s in shapes])
    made = Executable(graph, machine)
    random = np.random.default_rng(0)
    given = [random.normal(size=s).astype(dtype) for s in shapes]
    arrays = given, [], [np.empty(o.type.shape, o.type.dtype) for o in graph.outputs], []
    flops = sum(k.flops for k in made.program.kernels)
    made.run(*arrays)
    library = Library(object_code(REPEAT, machine), machine)
    repeat = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3)(library.address("repeat"))
    step, table = made.native
    once, took = 1, 0.0
    while took < 1e-3:  # calls of one measurement
        once *= 2
        begun = time.thread_time()
        repeat(step, table, once)
        took = time.thread_time() - begun
    rates: list[float] = []
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(rates) < LEAST:
        begun = time.thread_time()
        repeat(step, table, once)
        rates.append(flops * once / (time.thread_time() - begun))
    return statistics.median(rates[len(rates) // 4 :]) / 1e9


def run() -> list[str]:
    """The table."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        peaks = {d: fma_peak(replace(host(), threads=1), np.dtype(d)) / 1e9 for d in ("f4", "f8")}
        rows = [(name, gflops(f, shapes, dtype), peaks[dtype.str[1:]])
                for name, f, shapes, dtype in cases()]  # fmt: skip
    finally:
        os.sched_setaffinity(0, cores)
    good = sum(rate >= WANTED * peak for _, rate, peak in rows)
    return [
        f"Contractions on one thread: {good} of {len(rows)} reach {WANTED:.0%} of the peak of "
        f"{peaks['f4']:.0f} GF/s (float64: {peaks['f8']:.0f}).",
        "",
        "| contraction | GF/s | % of peak |",
        "|---|---:|---:|",
        *(f"| {name} | {rate:.1f} | {100 * rate / peak:.0f} |" for name, rate, peak in rows),
    ]


if __name__ == "__main__":
    print("\n".join(run()))
