"""Native steps that notice when threads do not run together."""

import gc
from contextlib import contextmanager

import numpy as np
import pytest

from chainrule.compiler import ir, machine, native, runtime
from chainrule.errors import CompileError

CELLS = 32  # 8-byte cells a thread has to itself, in the table


def machine_of(kind):
    try:
        return machine.named(kind)
    except CompileError as error:
        pytest.skip(str(error))


def library_of(module, kind="portable"):
    target = machine_of(kind)
    return native.Library(native.object_code(str(module), target), target)


def step_in(module):
    return module.function(
        "step", [("ptr", "table"), ("i64", "thread"), ("ptr", "pool")], internal=False
    )


@contextmanager
def no_collection():
    """Python loses what a signal handler raises inside a callback of the garbage collector, and
    hypothesis has such a callback."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Rounds:
    """A step of barriers: each thread counts, all meet, each looks whether all have counted.

    Of each thread's cells the first counts, the second is how often another thread was not there,
    the third the steps. `before` is the address of a function that thread 0 calls first of all, the
    last cell of the table.
    """

    def __init__(self, threads, rounds, kind="portable", *, before=None):
        module = ir.Module()
        barrier = runtime.emit_barrier(module, threads)
        f = step_in(module)
        table, thread, pool = f.parameters
        mine = f.at(table, f.mul(thread, CELLS), "i64")
        if before is not None:
            with f.when(f.cmp("eq", thread, ir.const(0, "i64"))):
                place = f.at(table, threads * CELLS, "i64")
                f.emit(f"call void {f.load(place, 'ptr').name}()")

        def count(place, by):
            f.store(f.add(f.load(place, "i64"), by), place)

        count(f.at(mine, 2, "i64"), 1)
        with f.loop(0, rounds + 1):  # a loop also for one round
            count(mine, 1)
            f.invoke(barrier, [pool])
            now = f.load(mine, "i64")
            for other in range(threads):
                seen = f.load(f.at(table, other * CELLS, "i64"), "i64")
                count(f.at(mine, 1, "i64"), f.cast("zext", f.cmp("ne", now, seen), "i64"))
            f.invoke(barrier, [pool])
        self.threads, self.rounds = threads, rounds + 1
        self.library = library_of(module, kind)
        self.address = self.library.address("step")
        self.cells = np.zeros(threads * CELLS + 1, np.int64)
        self.table = self.cells.ctypes.data
        callbacks = []
        if before is not None:
            callbacks = [runtime.make_callback(before)]
            self.cells[-1] = callbacks[0].address
        self.run = runtime.prepare(self.address, threads, callbacks)

    def __call__(self):
        self.run(self.table)

    def check(self, steps):
        """After this many steps: every thread ran each round of each, and none ran ahead."""
        cells = self.cells[:-1].reshape(self.threads, CELLS)
        assert cells[:, 2].tolist() == [steps] * self.threads
        assert cells[:, 0].tolist() == [steps * self.rounds] * self.threads
        assert not cells[:, 1].any()
