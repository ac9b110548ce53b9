"""The greatest rate of multiply-adds of one thread, measured: the measure of contractions."""

from __future__ import annotations

import ctypes
import time
from functools import lru_cache

import numpy as np

from .ir import Module, const, scalar_type, vector
from .machine import Machine
from .native import Library, object_code

ACCUMULATORS = 12
"""Independent sums; two units of latency four need eight."""


@lru_cache(maxsize=8)
def fma_peak(machine: Machine, dtype: np.dtype[np.generic]) -> float:
    """Flops (two a multiply-add) per second of independent multiply-adds on registers."""
    lanes, steps = machine.lanes(dtype), 100_000
    type = vector(scalar_type(dtype), lanes)
    module = Module()
    f = module.function("peak", [("ptr", "x")], internal=False)
    x, y = (f.load(f.at(f.parameters[0], k, "i64"), type) for k in (0, lanes))
    sums = [f.slot(type, const(k, type)) for k in range(ACCUMULATORS)]
    with f.loop(0, steps):
        for slot in sums:
            f.set(slot, f.fma(f.get(slot, type), x, y))
    for slot in sums:
        f.store(f.get(slot, type), f.parameters[0])
        f.emit('call void asm sideeffect "", "~{memory}"()')  # so that no store is dropped
    library = Library(object_code(str(module), machine), machine)
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(library.address("peak"))
    room = np.zeros(64 * machine.vector_bytes, np.uint8)
    best, end = float("inf"), time.perf_counter() + 0.25
    while time.perf_counter() < end:
        start = time.perf_counter()
        call(room.ctypes.data)
        best = min(best, time.perf_counter() - start)
    return 2 * ACCUMULATORS * lanes * steps / best
