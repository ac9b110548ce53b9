"""Worker threads that run one native function together: launches, barriers, callbacks.

A step is `void step(ptr table, i64 thread, ptr pool)`. `prepare` makes a Python callable of it,
which runs it on the calling thread as thread 0 and on workers as the others.

Everything that changes state is one native call, made with the interpreter's lock released. So no
signal comes in between: Ctrl-C is raised when the step is done. The workers are native threads
that never touch the interpreter. They and their locks come from Python's own C API (`PyThread_…`),
which has them on every system. A worker spins for `IDLE` seconds after a step, then it sleeps in a
lock until the next launch. A thread that waits at a barrier spins for `BRIEF` seconds and then
sleeps, too, so steps also get on where there are more threads than free cores.

OpenBLAS's threads, too, spin after a product of NumPy's, for some tens of milliseconds. A step that
comes meanwhile finds a core taken: measured with two threads on two cores, the first one takes up
to 1 ms longer, and those that follow mostly run at full speed, since OpenBLAS's threads yield. Ours
never spin beyond `IDLE`, so they are not in the way of the next product. Compiled steps call no
BLAS.

One step of several threads runs at a time; others wait for it. So a callback must not wait for
another Python thread that launches a step of several threads.
"""

from __future__ import annotations

import ctypes
import inspect
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from ..errors import CompileError
from .cache import get, key_of, put
from .ir import Module
from .machine import named
from .native import Library, object_code

IDLE = 200e-6
"""Seconds that a worker spins after a step. Waking a sleeping one costs about as much."""
BRIEF = 50e-6
"""Seconds that a thread spins at a barrier and at the end of a step. Longer makes it slower where
other programs want the cores, shorter where the parts of a step are not equally long."""
MOST = 256
"""The largest number of threads."""

LINE = 128  # bytes that caches move together: two lines of 64 on x86, one on Apple's processors
ACQUIRE, RELEASE, ALLOCATE, START, IDENT, IDLE_SPINS, BRIEF_SPINS, LOCK, STARTED = (
    8 * k for k in range(9)
)
OWNER, ARRIVED, GENERATION, MAIL = (LINE * k for k in range(1, 5))
"""Places in the pool: function pointers and numbers first, then one line for each shared word."""
TICKET, FINISHED, STEP, TABLE, BED, POOL, NUMBER = (8 * k for k in (0, 1, 2, 3, 4, 6, 7))
"""Places in a thread's line: launches and steps done, counted; what to run; a bed."""
BEDS = 64
"""Two more beds in the line, for barriers in turn: who comes as number k sleeps in line k."""
NESTED, TOO_FEW = 1, 2

PAUSE = {"x86_64": "pause", "amd64": "pause", "aarch64": "isb", "arm64": "isb"}.get(
    platform.machine().lower(), ""
)
"""The instruction that tells the processor that a loop waits."""


def _places(base: str, **places: int) -> str:
    """Pointers to places: %name_at for each."""
    return "\n".join(
        f"  %{name}_at = getelementptr i8, ptr {base}, i64 {at}" for name, at in places.items()
    )


WAIT = f"""
; A bed is a word, 1 while somebody sleeps in it, and a lock that is never free. Who goes to sleep
; sets the word and then looks whether that is still right; who wakes makes the change and then
; looks at the word. So one of the two sees the other, and who takes the word down frees the lock.

define internal void @chainrule_wait(ptr %pool, ptr %word, i64 %old, ptr %bed, i64 %spins) {{
  ; until the word is another than `old`
  br label %awake
awake:
  br label %look
look:
  %n = phi i64 [0, %awake], [%n1, %spin]
  %n1 = add i64 %n, 1
  %now = load atomic i64, ptr %word acquire, align 8
  %same = icmp eq i64 %now, %old
  br i1 %same, label %stay, label %done
stay:
  %spinning = icmp ult i64 %n, %spins
  br i1 %spinning, label %spin, label %tired
spin:
  call void asm sideeffect "{PAUSE}", "~{{memory}}"()
  br label %look
tired:
  %set = atomicrmw xchg ptr %bed, i64 1 seq_cst
  %now2 = load atomic i64, ptr %word seq_cst, align 8
  %same2 = icmp eq i64 %now2, %old
  br i1 %same2, label %sleep, label %rise
rise:
  %was = atomicrmw xchg ptr %bed, i64 0 seq_cst
  %mine = icmp ne i64 %was, 0
  br i1 %mine, label %done, label %sleep
sleep:
{_places("%pool", acquire=ACQUIRE)}
{_places("%bed", lock=8)}
  %acquire = load ptr, ptr %acquire_at
  %lock = load ptr, ptr %lock_at
  call i32 %acquire(ptr %lock, i32 1)
  br label %awake
done:
  ret void
}}

define internal void @chainrule_wake(ptr %pool, ptr %bed) {{
  %asleep = load atomic i64, ptr %bed seq_cst, align 8
  %sleeps = icmp ne i64 %asleep, 0
  br i1 %sleeps, label %rouse, label %done
rouse:
  %was = atomicrmw xchg ptr %bed, i64 0 seq_cst
  %slept = icmp ne i64 %was, 0
  br i1 %slept, label %wake, label %done
wake:
{_places("%pool", release=RELEASE)}
{_places("%bed", lock=8)}
  %release = load ptr, ptr %release_at
  %lock = load ptr, ptr %lock_at
  call void %release(ptr %lock)
  br label %done
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
{
    _places(
        "%pool",
        ident=IDENT,
        owner=OWNER,
        started=STARTED,
        acquire=ACQUIRE,
        release=RELEASE,
        lock=LOCK,
        spins=BRIEF_SPINS,
        first=MAIL,
    )
}
  %count = ptrtoint ptr %threads to i64
  %ident = load ptr, ptr %ident_at
  %me = call i64 %ident()
  %now = load atomic i64, ptr %owner_at monotonic, align 8
  %inside = icmp eq i64 %now, %me
  br i1 %inside, label %nested, label %enough
enough:
  %started = load atomic i64, ptr %started_at acquire, align 8
  %missing = icmp ult i64 %started, %count
  br i1 %missing, label %too_few, label %go
go:
  %acquire = load ptr, ptr %acquire_at
  %release = load ptr, ptr %release_at
  %lock = load ptr, ptr %lock_at
  %spins = load i64, ptr %spins_at
  call i32 %acquire(ptr %lock, i32 1)
  store atomic i64 %me, ptr %owner_at monotonic, align 8
  br label %post
post:
  %i = phi i64 [1, %go], [%i1, %post]
  %shift = mul i64 %i, {LINE}
  %mail = getelementptr i8, ptr %first_at, i64 %shift
{_places("%mail", step=STEP, table=TABLE, bed=BED)}
  store ptr %step, ptr %step_at
  store ptr %table, ptr %table_at
  %ticket = load i64, ptr %mail
  %ticket1 = add i64 %ticket, 1
  store atomic i64 %ticket1, ptr %mail seq_cst, align 8
  call void @chainrule_wake(ptr %pool, ptr %bed_at)
  %i1 = add i64 %i, 1
  %more = icmp ult i64 %i1, %count
  br i1 %more, label %post, label %run
run:
  call void %step(ptr %table, i64 0, ptr %pool)
{_places("%first_at", own=BED)}
  br label %join
join:
  %j = phi i64 [1, %run], [%j1, %join]
  %shift2 = mul i64 %j, {LINE}
  %mail2 = getelementptr i8, ptr %first_at, i64 %shift2
{_places("%mail2", finished=FINISHED)}
  %ticket2 = load i64, ptr %mail2
  %before = sub i64 %ticket2, 1
  call void @chainrule_wait(ptr %pool, ptr %finished_at, i64 %before, ptr %own_at, i64 %spins)
  %j1 = add i64 %j, 1
  %more2 = icmp ult i64 %j1, %count
  br i1 %more2, label %join, label %done
done:
  store atomic i64 0, ptr %owner_at monotonic, align 8
  call void %release(ptr %lock)
  ret i32 0
nested:
  ret i32 {NESTED}
too_few:
  ret i32 {TOO_FEW}
}}

define internal void @worker(ptr %mail) {{
{_places("%mail", pool=POOL, number=NUMBER, bed=BED, finished=FINISHED, step=STEP, table=TABLE)}
  %pool = load ptr, ptr %pool_at
  %number = load i64, ptr %number_at
{_places("%pool", spins=IDLE_SPINS, launcher=MAIL + BED)}
  %spins = load i64, ptr %spins_at
  br label %idle
idle:
  %seen = phi i64 [0, %0], [%seen1, %idle]
  %seen1 = add i64 %seen, 1
  call void @chainrule_wait(ptr %pool, ptr %mail, i64 %seen, ptr %bed_at, i64 %spins)
  %step = load ptr, ptr %step_at
  %table = load ptr, ptr %table_at
  call void %step(ptr %table, i64 %number, ptr %pool)
  store atomic i64 %seen1, ptr %finished_at seq_cst, align 8
  call void @chainrule_wake(ptr %pool, ptr %launcher_at)
  br label %idle
}}

define internal i1 @make_bed(ptr %pool, ptr %bed) {{
{_places("%pool", allocate=ALLOCATE, acquire=ACQUIRE)}
{_places("%bed", lock=8)}
  %allocate = load ptr, ptr %allocate_at
  %lock = call ptr %allocate()
  %none = icmp eq ptr %lock, null
  br i1 %none, label %failed, label %made
made:
  %acquire = load ptr, ptr %acquire_at
  call i32 %acquire(ptr %lock, i32 1)
  store ptr %lock, ptr %lock_at
  ret i1 true
failed:
  ret i1 false
}}

define i32 @grow(ptr %threads, ptr %pool) {{
  ; start workers until there are enough; the number of threads there are then
  %count = ptrtoint ptr %threads to i64
{
    _places(
        "%pool",
        acquire=ACQUIRE,
        release=RELEASE,
        start=START,
        lock=LOCK,
        started=STARTED,
        first=MAIL,
    )
}
  %acquire = load ptr, ptr %acquire_at
  %release = load ptr, ptr %release_at
  %start = load ptr, ptr %start_at
  %lock = load ptr, ptr %lock_at
  call i32 %acquire(ptr %lock, i32 1)
  br label %look
look:
  %i = load i64, ptr %started_at
  %missing = icmp ult i64 %i, %count
  br i1 %missing, label %more, label %done
more:
  %shift = mul i64 %i, {LINE}
  %mail = getelementptr i8, ptr %first_at, i64 %shift
{_places("%mail", bed=BED, even=BEDS, odd=BEDS + 16, pool=POOL, number=NUMBER)}
  %one = call i1 @make_bed(ptr %pool, ptr %bed_at)
  %two = call i1 @make_bed(ptr %pool, ptr %even_at)
  %three = call i1 @make_bed(ptr %pool, ptr %odd_at)
  %some = and i1 %one, %two
  %all = and i1 %some, %three
  br i1 %all, label %line, label %done
line:
  store ptr %pool, ptr %pool_at
  store i64 %i, ptr %number_at
  %launcher = icmp eq i64 %i, 0
  br i1 %launcher, label %grown, label %worker
worker:
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
    """Define `void chainrule_barrier(ptr pool)`, which so many threads pass together; its name.

    The last to arrive counts the generation up, which the others wait for: two shared words, each
    on a line of its own. What was written before it is seen by all after it.

    Source: J. Mellor-Crummey, M. Scott, Algorithms for scalable synchronization on shared-memory
    multiprocessors, 1991 (the centralized barrier, with a counter for the sense).
    """
    name = "chainrule_barrier"
    if threads == 1:
        module.verbatim(name, f"define internal void @{name}(ptr %pool) {{\n  ret void\n}}")
        return name
    module.verbatim("chainrule_wait", WAIT)
    module.verbatim(
        name,
        f"""
define internal void @{name}(ptr %pool) {{
{_places("%pool", generation=GENERATION, arrived=ARRIVED, spins=BRIEF_SPINS, first=MAIL + BEDS)}
  %generation = load atomic i64, ptr %generation_at monotonic, align 8
  %before = atomicrmw add ptr %arrived_at, i64 1 acq_rel
  ; two rows of beds in turn: who wakes late from one round may still be in a bed of it
  %odd = and i64 %generation, 1
  %row = mul i64 %odd, 16
  %beds = getelementptr i8, ptr %first_at, i64 %row
  %last = icmp eq i64 %before, {threads - 1}
  br i1 %last, label %open, label %wait
open:
  store atomic i64 0, ptr %arrived_at monotonic, align 8
  %next = add i64 %generation, 1
  store atomic i64 %next, ptr %generation_at seq_cst, align 8
  br label %wake
wake:
  %k = phi i64 [0, %open], [%k1, %wake]
  %shift = mul i64 %k, {LINE}
  %bed = getelementptr i8, ptr %beds, i64 %shift
  call void @chainrule_wake(ptr %pool, ptr %bed)
  %k1 = add i64 %k, 1
  %more = icmp ult i64 %k1, {threads - 1}
  br i1 %more, label %wake, label %done
wait:
  %shift2 = mul i64 %before, {LINE}
  %mine = getelementptr i8, ptr %beds, i64 %shift2
  %spins = load i64, ptr %spins_at
  call void @chainrule_wait(
    ptr %pool, ptr %generation_at, i64 %generation, ptr %mine, i64 %spins)
  br label %done
done:
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
        self.pause = _seconds(function(None, pointer)(address("pauses")))
        self.reset()

    def reset(self) -> None:
        """A pool without workers. In the child of a fork those of the parent are not there."""
        ctypes.memset(self.pool, 0, MAIL + LINE * MOST)
        python = ctypes.pythonapi
        python.PyThread_allocate_lock.restype = ctypes.c_void_p
        for place, value in {
            ACQUIRE: _address(python.PyThread_acquire_lock),
            RELEASE: _address(python.PyThread_release_lock),
            ALLOCATE: _address(python.PyThread_allocate_lock),
            START: _address(python.PyThread_start_new_thread),
            IDENT: _address(python.PyThread_get_thread_ident),
            IDLE_SPINS: round(IDLE / self.pause),
            BRIEF_SPINS: round(BRIEF / self.pause),
            LOCK: python.PyThread_allocate_lock(),
        }.items():
            ctypes.c_int64.from_address(self.pool + place).value = value

    def settle(self, status: int, threads: int) -> None:
        """What has to be done before a launch with this many threads can be."""
        if status == NESTED:
            raise CompileError(
                f"a step of {threads} threads was launched by a callback of another one, which can "
                "launch steps of one thread only: set CHAINRULE_NUM_THREADS=1"
            )
        with _signals_blocked():
            found = self.grow(threads, self.pool)
        if found < threads:
            raise CompileError(
                f"cannot start {threads} threads: the system gives {found}; set "
                f"CHAINRULE_NUM_THREADS={found}"
            )


def _address(function: Any) -> int:
    """Where the code of a function of ctypes is."""
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _seconds(pauses: Callable[[int], None]) -> float:
    """How long the processor's pause is; it differs twentyfold between processors."""
    times, best = 1000, 1.0
    for _ in range(3):
        start = time.perf_counter()
        pauses(times)
        best = min(best, time.perf_counter() - start)
    return best / times


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
        self.address = _address(self._native)

    def take(self) -> list[BaseException]:
        """What the function raised since the last time."""
        if inspect.getgeneratorstate(self._calls) == inspect.GEN_CLOSED:
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
    """Run a step once, on the calling thread and `threads` - 1 workers, until all are done."""
    prepare(step_address, threads, callbacks)(table_address)
