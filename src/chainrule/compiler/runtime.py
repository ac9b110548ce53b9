"""Worker threads that run one native function together: launches, barriers, callbacks.

A step is `void step(ptr table, i64 thread, ptr pool)`. `prepare` makes a Python callable of it, which
runs it on the calling thread as thread 0 and on workers as the others.

Everything that changes state is one native call, made with the interpreter's lock released. So a
signal cannot come in between: Ctrl-C is raised when the step is done. The workers are native threads
that never touch the interpreter. They and their locks come from Python's own C API (`PyThread_…`),
which has them on every system. A worker that waits spins for `IDLE` seconds after a step and then
sleeps in a lock until the next launch. So does a thread that waits at a barrier: it spins, then
yields the processor, then sleeps, which lets steps finish on a machine with more threads than cores.

OpenBLAS's threads spin after each of its products (yielding, for some 20 ms). Nothing can be done
about that from here but to wait well: ours do not add to it, and what they lose is small (a yielding
thread gives its core away). A compiled step calls no BLAS.

One step of several threads runs at a time; others wait for it. A callback must not wait for another
Python thread that launches a step of several threads.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from ..errors import CompileError
from .cache import get, key_of, put
from .ir import Module
from .machine import named
from .native import Library, object_code

IDLE = 200e-6
"""Seconds that a worker spins after a step. Waking a sleeping one costs about as much."""
BRIEF, YIELDS, NAP = 16, 2000, 50
"""A wait inside a step: IDLE / BRIEF seconds of spinning, so many yields, then naps of µs."""
MOST = 256
"""The largest number of threads."""

LINE = 128  # bytes that caches move together: two lines of 64 on x86, one on Apple's processors
ACQUIRE, RELEASE, ALLOCATE, START, IDENT, YIELD, SLEEP, NAP_UNITS, SPINS, LOCK, STARTED = (
    8 * k for k in range(11)
)
OWNER, ARRIVED, GENERATION, MAIL = (LINE * k for k in range(1, 5))
"""Places in the pool: function pointers and numbers first, then one line for each shared word."""
TICKET, FINISHED, STEP, TABLE, ASLEEP, BED, POOL, NUMBER = (8 * k for k in range(8))
"""Places in a worker's line: launches and steps done, counted; what to run; its lock to sleep in."""
NESTED, TOO_FEW = 1, 2

PAUSE = {"x86_64": "pause", "amd64": "pause", "aarch64": "isb", "arm64": "isb"}.get(
    platform.machine().lower(), ""
)

WAIT = f"""
define internal void @chainrule_wait(ptr %pool, ptr %word, i64 %old) noinline {{
  ; until the word is another than `old`
  %limit_at = getelementptr i8, ptr %pool, i64 {SPINS}
  %idle = load i64, ptr %limit_at
  %brief = udiv i64 %idle, {BRIEF}
  %long = add i64 %brief, {YIELDS}
  br label %look
look:
  %n = phi i64 [0, %0], [%n1, %again]
  %n1 = add i64 %n, 1
  %now = load atomic i64, ptr %word acquire, align 8
  %same = icmp eq i64 %now, %old
  br i1 %same, label %stay, label %done
stay:
  %spinning = icmp ult i64 %n, %brief
  br i1 %spinning, label %spin, label %slow
spin:
  call void asm sideeffect "{PAUSE}", "~{{memory}}"()
  br label %again
slow:
  %yielding = icmp ult i64 %n, %long
  br i1 %yielding, label %yield, label %nap
yield:
  %yield_at = getelementptr i8, ptr %pool, i64 {YIELD}
  %yield_to = load ptr, ptr %yield_at
  call i32 %yield_to()
  br label %again
nap:
  %sleep_at = getelementptr i8, ptr %pool, i64 {SLEEP}
  %sleep = load ptr, ptr %sleep_at
  %units_at = getelementptr i8, ptr %pool, i64 {NAP_UNITS}
  %units = load i32, ptr %units_at
  call i32 %sleep(i32 %units)
  br label %again
again:
  br label %look
done:
  ret void
}}
"""

RUNTIME = f"""
define void @direct(ptr %step, ptr %table) {{
  call void %step(ptr %table, i64 0, ptr null)
  ret void
}}

define void @pauses(ptr %times) {{
  %count = ptrtoint ptr %times to i64
  br label %next
next:
  %n = phi i64 [0, %0], [%n1, %next]
  call void asm sideeffect "{PAUSE}", "~{{memory}}"()
  %n1 = add i64 %n, 1
  %more = icmp ult i64 %n1, %count
  br i1 %more, label %next, label %done
done:
  ret void
}}

define i32 @launch(ptr %step, ptr %threads, ptr %pool, ptr %table) {{
  ; run a step on so many threads: 0, or why it cannot be
  %count = ptrtoint ptr %threads to i64
  %ident_at = getelementptr i8, ptr %pool, i64 {IDENT}
  %ident = load ptr, ptr %ident_at
  %me = call i64 %ident()
  %owner = getelementptr i8, ptr %pool, i64 {OWNER}
  %now = load atomic i64, ptr %owner monotonic, align 8
  %inside = icmp eq i64 %now, %me
  br i1 %inside, label %nested, label %enough
enough:
  %started_at = getelementptr i8, ptr %pool, i64 {STARTED}
  %started = load atomic i64, ptr %started_at acquire, align 8
  %missing = icmp ult i64 %started, %count
  br i1 %missing, label %too_few, label %go
go:
  %acquire_at = getelementptr i8, ptr %pool, i64 {ACQUIRE}
  %acquire = load ptr, ptr %acquire_at
  %release_at = getelementptr i8, ptr %pool, i64 {RELEASE}
  %release = load ptr, ptr %release_at
  %lock_at = getelementptr i8, ptr %pool, i64 {LOCK}
  %lock = load ptr, ptr %lock_at
  call i32 %acquire(ptr %lock, i32 1)
  store atomic i64 %me, ptr %owner monotonic, align 8
  %first = getelementptr i8, ptr %pool, i64 {MAIL}
  br label %post
post:
  %i = phi i64 [1, %go], [%i1, %posted]
  %shift = mul i64 %i, {LINE}
  %mail = getelementptr i8, ptr %first, i64 %shift
  %step_at = getelementptr i8, ptr %mail, i64 {STEP}
  store ptr %step, ptr %step_at
  %table_at = getelementptr i8, ptr %mail, i64 {TABLE}
  store ptr %table, ptr %table_at
  %ticket = load i64, ptr %mail
  %ticket1 = add i64 %ticket, 1
  store atomic i64 %ticket1, ptr %mail seq_cst, align 8
  ; the worker says that it sleeps, then looks for a ticket; here it is the other way round,
  ; so one of the two sees the other, and only one takes the sign down
  %asleep_at = getelementptr i8, ptr %mail, i64 {ASLEEP}
  %asleep = load atomic i64, ptr %asleep_at seq_cst, align 8
  %sleeps = icmp ne i64 %asleep, 0
  br i1 %sleeps, label %rouse, label %posted
rouse:
  %was = atomicrmw xchg ptr %asleep_at, i64 0 seq_cst
  %slept = icmp ne i64 %was, 0
  br i1 %slept, label %wake, label %posted
wake:
  %bed_at = getelementptr i8, ptr %mail, i64 {BED}
  %bed = load ptr, ptr %bed_at
  call void %release(ptr %bed)
  br label %posted
posted:
  %i1 = add i64 %i, 1
  %more = icmp ult i64 %i1, %count
  br i1 %more, label %post, label %run
run:
  call void %step(ptr %table, i64 0, ptr %pool)
  br label %join
join:
  %j = phi i64 [1, %run], [%j1, %join]
  %shift2 = mul i64 %j, {LINE}
  %mail2 = getelementptr i8, ptr %first, i64 %shift2
  %ticket2 = load i64, ptr %mail2
  %before = sub i64 %ticket2, 1
  %finished_at = getelementptr i8, ptr %mail2, i64 {FINISHED}
  call void @chainrule_wait(ptr %pool, ptr %finished_at, i64 %before)
  %j1 = add i64 %j, 1
  %more2 = icmp ult i64 %j1, %count
  br i1 %more2, label %join, label %done
done:
  store atomic i64 0, ptr %owner monotonic, align 8
  call void %release(ptr %lock)
  ret i32 0
nested:
  ret i32 {NESTED}
too_few:
  ret i32 {TOO_FEW}
}}

define internal void @worker(ptr %mail) {{
  %pool_at = getelementptr i8, ptr %mail, i64 {POOL}
  %pool = load ptr, ptr %pool_at
  %number_at = getelementptr i8, ptr %mail, i64 {NUMBER}
  %number = load i64, ptr %number_at
  %bed_at = getelementptr i8, ptr %mail, i64 {BED}
  %bed = load ptr, ptr %bed_at
  %limit_at = getelementptr i8, ptr %pool, i64 {SPINS}
  %limit = load i64, ptr %limit_at
  %acquire_at = getelementptr i8, ptr %pool, i64 {ACQUIRE}
  %acquire = load ptr, ptr %acquire_at
  %asleep_at = getelementptr i8, ptr %mail, i64 {ASLEEP}
  %finished_at = getelementptr i8, ptr %mail, i64 {FINISHED}
  %step_at = getelementptr i8, ptr %mail, i64 {STEP}
  %table_at = getelementptr i8, ptr %mail, i64 {TABLE}
  br label %idle
idle:
  %seen = phi i64 [0, %0], [%seen1, %run]
  %seen1 = add i64 %seen, 1
  br label %look
look:
  %n = phi i64 [0, %idle], [%n1, %spin]
  %n1 = add i64 %n, 1
  %ticket = load atomic i64, ptr %mail acquire, align 8
  %called = icmp ne i64 %ticket, %seen
  br i1 %called, label %run, label %stay
stay:
  %spinning = icmp ult i64 %n, %limit
  br i1 %spinning, label %spin, label %tired
spin:
  call void asm sideeffect "{PAUSE}", "~{{memory}}"()
  br label %look
tired:
  %said = atomicrmw xchg ptr %asleep_at, i64 1 seq_cst
  %ticket2 = load atomic i64, ptr %mail seq_cst, align 8
  %called2 = icmp ne i64 %ticket2, %seen
  br i1 %called2, label %rise, label %sleep
rise:
  %was = atomicrmw xchg ptr %asleep_at, i64 0 seq_cst
  %mine = icmp ne i64 %was, 0
  br i1 %mine, label %run, label %sleep
sleep:
  call i32 %acquire(ptr %bed, i32 1)
  br label %run
run:
  %step = load ptr, ptr %step_at
  %table = load ptr, ptr %table_at
  call void %step(ptr %table, i64 %number, ptr %pool)
  store atomic i64 %seen1, ptr %finished_at release, align 8
  br label %idle
}}

define i32 @grow(ptr %threads, ptr %pool) {{
  ; start workers until there are enough; the number of threads there are then
  %count = ptrtoint ptr %threads to i64
  %acquire_at = getelementptr i8, ptr %pool, i64 {ACQUIRE}
  %acquire = load ptr, ptr %acquire_at
  %release_at = getelementptr i8, ptr %pool, i64 {RELEASE}
  %release = load ptr, ptr %release_at
  %allocate_at = getelementptr i8, ptr %pool, i64 {ALLOCATE}
  %allocate = load ptr, ptr %allocate_at
  %start_at = getelementptr i8, ptr %pool, i64 {START}
  %start = load ptr, ptr %start_at
  %lock_at = getelementptr i8, ptr %pool, i64 {LOCK}
  %lock = load ptr, ptr %lock_at
  %started_at = getelementptr i8, ptr %pool, i64 {STARTED}
  %first = getelementptr i8, ptr %pool, i64 {MAIL}
  call i32 %acquire(ptr %lock, i32 1)
  br label %look
look:
  %i = load i64, ptr %started_at
  %missing = icmp ult i64 %i, %count
  br i1 %missing, label %bed, label %done
bed:
  %made = call ptr %allocate()
  %none = icmp eq ptr %made, null
  br i1 %none, label %done, label %more
more:
  call i32 %acquire(ptr %made, i32 1)
  %shift = mul i64 %i, {LINE}
  %mail = getelementptr i8, ptr %first, i64 %shift
  %bed_at = getelementptr i8, ptr %mail, i64 {BED}
  store ptr %made, ptr %bed_at
  %pool_at = getelementptr i8, ptr %mail, i64 {POOL}
  store ptr %pool, ptr %pool_at
  %number_at = getelementptr i8, ptr %mail, i64 {NUMBER}
  store i64 %i, ptr %number_at
  %thread = call i32 %start(ptr @worker, ptr %mail)
  %failed = icmp eq i32 %thread, -1
  br i1 %failed, label %done, label %grown
grown:
  %i1 = add i64 %i, 1
  store atomic i64 %i1, ptr %started_at release, align 8
  br label %look
done:
  call void %release(ptr %lock)
  %reached = trunc i64 %i to i32
  ret i32 %reached
}}
"""


def emit_barrier(module: Module, threads: int) -> str:
    """A function `void chainrule_barrier(ptr pool)` in a module, which `threads` threads pass together.

    The last to arrive counts the generation up, which the others wait for: two shared words, each on
    a line of its own (Mellor-Crummey and Scott, 1991, the centralized barrier, with a counter for
    the sense). What was written before it is seen by all after it.
    """
    name = "chainrule_barrier"
    if threads == 1:
        module.verbatim(name, f"define internal void @{name}(ptr %pool) {{\n  ret void\n}}")
        return name
    module.verbatim("chainrule_wait", WAIT)
    module.verbatim(
        name,
        f"""
define internal void @{name}(ptr %pool) noinline {{
  %generation_at = getelementptr i8, ptr %pool, i64 {GENERATION}
  %generation = load atomic i64, ptr %generation_at monotonic, align 8
  %arrived_at = getelementptr i8, ptr %pool, i64 {ARRIVED}
  %before = atomicrmw add ptr %arrived_at, i64 1 acq_rel
  %last = icmp eq i64 %before, {threads - 1}
  br i1 %last, label %open, label %wait
open:
  store atomic i64 0, ptr %arrived_at monotonic, align 8
  %next = add i64 %generation, 1
  store atomic i64 %next, ptr %generation_at release, align 8
  ret void
wait:
  call void @chainrule_wait(ptr %pool, ptr %generation_at, i64 %generation)
  ret void
}}
""",
    )
    return name


class _Runtime:
    """The loaded code and the pool. One a process; it is never freed, since workers are in it."""

    def __init__(self) -> None:
        machine = named("portable")
        key = key_of(WAIT, RUNTIME)
        code = get(key)
        if code is None:
            code = object_code(WAIT + RUNTIME, machine)
            put(key, code)
        self.library = Library(code, machine)
        self.memory = (ctypes.c_char * (MAIL + LINE * (MOST + 1)))()
        start = ctypes.addressof(self.memory)
        self.pool = start + -start % LINE
        pointer, status = ctypes.c_void_p, ctypes.c_int32
        function, address = ctypes.CFUNCTYPE, self.library.address
        self.direct = function(None, pointer, pointer)(address("direct"))
        self.launch = function(status, *[pointer] * 4)(address("launch"))
        self.grow = function(status, pointer, pointer)(address("grow"))
        self.owner = ctypes.c_ulong.from_address(self.pool + OWNER)
        self.spins = _pauses_in(IDLE, function(None, pointer)(address("pauses")))
        self.reset()

    def reset(self) -> None:
        """A pool without workers. In the child of a fork those of the parent are not there."""
        ctypes.memset(self.pool, 0, MAIL + LINE * MOST)
        python = ctypes.pythonapi
        if sys.platform == "win32":
            system = ctypes.WinDLL("kernel32")
            yield_to, sleep, nap = system.SwitchToThread, system.Sleep, 1
        else:
            system = ctypes.CDLL(None)
            yield_to, sleep, nap = system.sched_yield, system.usleep, NAP
        python.PyThread_allocate_lock.restype = ctypes.c_void_p
        for place, value in {
            ACQUIRE: python.PyThread_acquire_lock,
            RELEASE: python.PyThread_release_lock,
            ALLOCATE: python.PyThread_allocate_lock,
            START: python.PyThread_start_new_thread,
            IDENT: python.PyThread_get_thread_ident,
            YIELD: yield_to,
            SLEEP: sleep,
            NAP_UNITS: nap,
            SPINS: self.spins,
            LOCK: python.PyThread_allocate_lock(),
            STARTED: 1,
        }.items():
            number = value if isinstance(value, int) else ctypes.cast(value, ctypes.c_void_p).value
            ctypes.c_int64.from_address(self.pool + place).value = number

    def settle(self, status: int, threads: int) -> None:
        """What has to be done before a launch with this many threads can be."""
        if status == NESTED:
            raise CompileError(
                f"a step of {threads} threads was launched by a callback of another one; a callback "
                "can run steps of one thread only (CHAINRULE_NUM_THREADS=1)"
            )
        with _signals_blocked():
            found = self.grow(threads, self.pool)
        if found < threads:
            raise CompileError(
                f"cannot start {threads} threads: the system gives {found}; set "
                f"CHAINRULE_NUM_THREADS={found}"
            )


def _pauses_in(seconds: float, pauses: Callable[[int], None]) -> int:
    """How often a processor pauses in this time; it differs twentyfold between processors."""
    times, best = 1000, 1.0
    for _ in range(3):
        start = time.perf_counter()
        pauses(times)
        best = min(best, time.perf_counter() - start)
    return max(1, round(seconds / best * times))


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Threads started in this block leave signals to Python's own threads."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    faults = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - faults)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_made: dict[str, _Runtime] = {}


def _runtime() -> _Runtime:
    found = _made.get("runtime")
    if found is None:
        made = _Runtime()
        found = _made.setdefault("runtime", made)  # two threads may come here; one of them wins
        if found is made:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(made))  # lives until the process ends
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=made.reset)
    return found


def nested() -> bool:
    """Whether this Python thread is inside a step of several threads: in a callback of it.

    Such a one can launch steps of one thread only.
    """
    found = _made.get("runtime")
    return found is not None and found.owner.value == threading.get_ident()


class Callback:
    """A Python function without arguments or result as native code calls it: `void (*)()`.

    It lives as long as this object. What the function raises is kept in `errors`.
    """

    def __init__(self, function: Callable[[], None]) -> None:
        self.errors: list[BaseException] = []
        self._calls = _calls(function, self.errors)
        next(self._calls)
        self._native = ctypes.CFUNCTYPE(None)(self._calls.__next__)
        self.address = ctypes.cast(self._native, ctypes.c_void_p).value or 0

    def take(self) -> list[BaseException]:
        """What the function raised since the last time."""
        if self._calls.gi_frame is None:
            raise CompileError("a callback was stopped by two signals at once: compile again")
        taken = self.errors[:]
        self.errors.clear()
        return taken


def _calls(
    function: Callable[[], None], errors: list[BaseException]
) -> Generator[None, None, None]:
    """A call of the function each time it is resumed.

    A generator, because a signal that came while native code ran is raised as soon as Python goes
    on. Here that is at the `yield`, inside of `try`; in a function it would be before the `try`.
    """
    while True:
        try:
            while True:
                yield
                function()
        except GeneratorExit:
            return
        except BaseException as error:
            errors.append(error)


def make_callback(function: Callable[[], None]) -> Callback:
    """A Python function for native code to call on thread 0; its `address` goes into the table.

    Keep the result, and give it to `prepare`: an exception in the function is raised when the step
    is done; the step goes on with whatever is in the buffers.
    """
    return Callback(function)


def prepare(
    step_address: int, threads: int, callbacks: Sequence[Callback] = ()
) -> Callable[[int], None]:
    """A callable that runs a step on so many threads; it takes the address of the table.

    The caller keeps the library, the table and the callbacks alive, and sees to it that the same
    buffers are not used by two launches at once.
    """
    if not 1 <= threads <= MOST:
        raise CompileError(f"a step runs on 1 to {MOST} threads, received {threads}")
    runtime = _runtime()
    run: Callable[[int], None]
    if threads == 1:
        run = partial(runtime.direct, step_address)
    else:
        launch = partial(runtime.launch, step_address, threads, runtime.pool)

        def run(table_address: int) -> None:
            while status := launch(table_address):
                runtime.settle(status, threads)

    if not callbacks:
        return run

    def run_and_raise(table_address: int) -> None:
        for callback in callbacks:
            callback.take()  # of a launch that a signal cut short
        run(table_address)
        errors = [error for callback in callbacks for error in callback.take()]
        if errors:  # what is to stop the program goes first
            raise next((e for e in errors if not isinstance(e, Exception)), errors[0])

    return run_and_raise


def launch(
    step_address: int, table_address: int, threads: int, callbacks: Sequence[Callback] = ()
) -> None:
    """Run a step once, on the calling thread and `threads` - 1 workers; return when all are done."""
    prepare(step_address, threads, callbacks)(table_address)
