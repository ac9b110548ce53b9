"""Threads that run one step together: launches, barriers, callbacks, signals, forks, exits."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule.compiler import ir, runtime
from chainrule.compiler.machine import KINDS
from chainrule.errors import CompileError
from tests.compiler.runtime_steps import Rounds, library_of, no_collection, step_in

ROOT = Path(cr.__file__).parents[2]
posix = pytest.mark.skipif(os.name != "posix", reason="forks and signals are POSIX's")


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


# -- launches and barriers ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_threads_run_together(threads, kind):
    steps = Rounds(threads, 3, kind)
    for _ in range(50):
        steps()
    steps.check(50)


def test_ten_thousand_launches():
    steps = Rounds(2, 2)
    for _ in range(10_000):
        steps()
    steps.check(10_000)


@pytest.mark.parametrize("threads", [3, 4])
def test_more_threads_than_cores(threads):
    steps = Rounds(threads, 2)
    for _ in range(400):
        steps()
    steps.check(400)


def test_thread_count_changes_between_launches():
    steps = [Rounds(threads, 1) for threads in (2, 4, 1, 3)]
    for _ in range(50):
        for one in steps:
            one()
    for one in steps:
        one.check(50)


def test_launch_runs_once():
    for threads in (1, 2):
        steps = Rounds(threads, 1)
        runtime.launch(steps.address, steps.table, threads)
        steps.check(1)


def test_a_sleeping_worker_is_woken():
    """A pause longer than the spinning, by work and not by the clock: the worker says it sleeps."""
    steps = Rounds(2, 1)
    for _ in range(20):
        steps()
        until_asleep(1)
        steps()
    steps.check(40)


def word(line, place):
    """A word in the line of a thread."""
    address = runtime._runtime().pool + runtime.MAIL + line * runtime.LINE + place
    return (ctypes.c_int64 * 1).from_address(address)


def until_asleep(worker):
    """Wait until a worker has gone to sleep; the test hangs if it never does."""
    while not word(worker, runtime.BED)[0]:
        pass


def test_a_wait_that_gets_long():
    """Thread 0 comes to the barrier when the others sleep in it; they go on afterwards."""
    steps = Rounds(3, 1, before=until_all_sleep_at_a_barrier)
    for _ in range(20):
        steps()
    steps.check(20)


def until_all_sleep_at_a_barrier():
    """The beds of one of the two rows are taken: numbers 0 and 1 of the barrier lie in them."""
    while not any(all(word(line, runtime.BEDS + 16 * row)[0] for line in (0, 1)) for row in (0, 1)):
        pass


@pytest.mark.parametrize("threads", [0, -1, 257])
def test_impossible_thread_counts(threads):
    with pytest.raises(CompileError, match=f"1 to 256 threads, received {threads}"):
        runtime.prepare(1, threads)


def test_threads_that_the_system_does_not_give():
    """A process that may have no more threads says so, with the number it can have."""
    code = """
import ctypes
from chainrule.compiler import runtime
made = runtime._runtime()
@ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p, ctypes.c_void_p)
def refuse(function, argument):
    return ctypes.c_ulong(-1).value
address = ctypes.cast(refuse, ctypes.c_void_p).value
ctypes.c_void_p.from_address(made.pool + runtime.START).value = address
try:
    runtime.prepare(1, 4)(0)
except runtime.CompileError as error:
    print(error)
"""
    assert "the system gives 1; set CHAINRULE_NUM_THREADS=1" in python(code)


# -- several Python threads ---------------------------------------------------------------------


def test_python_threads_take_turns():
    """Each has its own buffers; the pool is shared."""
    steps = [Rounds(threads, 2) for threads in (2, 2, 3, 1)]
    failures = []

    def work(one):
        try:
            for _ in range(300):
                one()
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=work, args=(one,)) for one in steps]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures
    for one in steps:
        one.check(300)


# -- callbacks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_callbacks_run_on_the_calling_thread(threads):
    seen = []
    steps = Rounds(threads, 1, before=lambda: seen.append(threading.get_ident()))
    for _ in range(20):
        steps()
    steps.check(20)
    assert seen == [threading.get_ident()] * 20


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), SystemExit(3)])
def test_exceptions_of_callbacks_are_raised_after_the_step(threads, error):
    fail = [True]

    def gate():
        if fail[0]:
            raise error

    steps = Rounds(threads, 1, before=gate)
    with pytest.raises(type(error)) as raised:
        steps()
    assert raised.value is error
    steps.check(1)  # all of it ran
    fail[0] = False
    steps()  # and nothing is left of the error
    steps.check(2)


def two_callbacks(first, second):
    module = ir.Module()
    f = step_in(module)
    for k in range(2):
        f.emit(f"call void {f.load(f.at(f.parameters[0], k, 'i64'), 'ptr').name}()")
    library = library_of(module)
    callbacks = [runtime.make_callback(first), runtime.make_callback(second)]
    table = np.array([c.address for c in callbacks])
    run = runtime.prepare(library.address("step"), 1, callbacks)
    return lambda: (run(table.ctypes.data), library)


def raising(error):
    def function():
        raise error

    return function


def test_the_first_of_several_errors_counts_unless_one_is_to_stop_the_program():
    with pytest.raises(ValueError, match="first"):
        two_callbacks(raising(ValueError("first")), raising(ValueError("second")))()
    with pytest.raises(KeyboardInterrupt):
        two_callbacks(raising(ValueError("first")), raising(KeyboardInterrupt()))()


def test_an_error_that_was_not_raised_is_forgotten():
    """A signal ended the launch before it could be; the next launch is another one."""
    steps, callback = Rounds(1, 1), runtime.make_callback(list)
    callback.errors.append(ValueError("of a launch before"))
    runtime.launch(steps.address, steps.table, 1, [callback])
    steps.check(1)


@pytest.mark.parametrize("outer", [2, 3])
def test_a_callback_may_run_steps_of_one_thread(outer):
    inner, seen = Rounds(1, 1), []

    def gate():
        seen.append(runtime.nested())
        inner()

    steps = Rounds(outer, 1, before=gate)
    assert not runtime.nested()
    for _ in range(20):
        steps()
    assert not runtime.nested()
    steps.check(20)
    inner.check(20)
    assert seen == [True] * 20


def test_a_callback_of_one_thread_may_run_steps_of_several():
    inner, seen = Rounds(2, 1), []

    def gate():
        seen.append(runtime.nested())
        inner()

    steps = Rounds(1, 1, before=gate)
    steps()
    steps.check(1)
    inner.check(1)
    assert seen == [False]


def test_nested_steps_of_several_threads_are_refused_and_do_not_hang():
    inner = Rounds(2, 1)
    steps = Rounds(2, 1, before=inner)
    with pytest.raises(CompileError, match="launched by a callback.*CHAINRULE_NUM_THREADS=1"):
        steps()
    steps.check(1)
    inner.check(0)


def test_nested_is_of_the_thread_that_asks():
    seen = []

    def gate():
        other = threading.Thread(target=lambda: seen.append(runtime.nested()))
        other.start()
        other.join()

    Rounds(2, 1, before=gate)()
    assert seen == [False]


# -- signals ------------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("threads", [1, 2])
def test_interrupts_are_raised_after_the_step(threads):
    """Ctrl-C comes at 200 arbitrary moments; every step is whole, none is lost or run twice."""
    steps = Rounds(threads, 20)
    with no_collection():
        assert_interrupts(steps, 200)


@posix
@pytest.mark.parametrize("threads", [1, 2])
def test_interrupts_in_steps_with_callbacks(threads):
    """Also those that arrive in native code, just before it calls Python."""
    calls = []
    steps = Rounds(threads, 20, before=lambda: calls.append(1))
    with no_collection():
        assert_interrupts(steps, 200)


def assert_interrupts(steps, wanted):
    """Launch under a timer that interrupts, until so many interrupts came."""
    came = noted = 0

    def interrupt(number, frame):
        nonlocal came
        came += 1
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        while came < wanted:
            try:
                # one at a time: a second one would strike while the first is handled
                signal.setitimer(signal.ITIMER_REAL, 20e-6 + 1e-6 * (came % 100))
                while True:
                    steps()
            except KeyboardInterrupt:
                noted += 1
    finally:
        signal.signal(signal.SIGALRM, before)
    assert noted == came
    done = int(steps.cells[2])
    assert done >= 1
    steps.check(done)
    steps()
    steps.check(done + 1)


@posix
def test_ctrl_c_inside_native_code_reaches_a_callback_s_step():
    """The signal is already there when the callback starts: it is raised, and not lost."""
    calls = []
    first = lambda: os.kill(os.getpid(), signal.SIGINT)  # noqa: E731
    run = two_callbacks(first, lambda: calls.append(1))
    for _ in range(20):
        with pytest.raises(KeyboardInterrupt):
            run()


@posix
def test_workers_leave_signals_alone():
    """A signal to the process is handled by Python's thread also while a worker could take it."""
    steps = Rounds(4, 1)
    steps()
    masks = [
        int(line.split()[1], 16)
        for task in Path("/proc/self/task").glob("*")
        if int(task.name) != os.getpid()
        for line in (task / "status").read_text().splitlines()
        if line.startswith("SigBlk")
    ]
    if not masks:
        pytest.skip("this system does not show the masks of threads")
    bit = 1 << (signal.SIGINT - 1)
    assert sum(bool(mask & bit) for mask in masks) >= 3


# -- forks --------------------------------------------------------------------------------------


def in_child(work):
    """Run in a forked child; whether it ended well."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


@posix
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_children_make_their_own_workers():
    steps = Rounds(2, 2)

    def work():
        for _ in range(50):
            steps()
        steps.check(100)
        assert in_child(lambda: (steps(), steps.check(101)))

    for _ in range(50):
        steps()
    for _ in range(5):
        assert in_child(work)
        steps.check(50)
    steps()
    steps.check(51)


@posix
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_fork_while_another_thread_launches():
    busy, own = Rounds(2, 5), Rounds(2, 2)
    stop = threading.Event()
    count = [0]

    def work():
        while not stop.is_set():
            busy()
            count[0] += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(10):
            assert in_child(lambda: ([own() for _ in range(20)], own.check(20)))
    finally:
        stop.set()
        thread.join()
    busy.check(count[0])


@posix
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_fork_inside_a_callback():
    own, ended = Rounds(2, 2), []
    outer = Rounds(2, 1, before=lambda: ended.append(in_child(lambda: (own(), own.check(1)))))
    outer()
    outer.check(1)
    assert ended == [True]


# -- the end of the process ---------------------------------------------------------------------


def python(code):
    """What a program prints; it must end by itself, with status 0."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


PREPARED = "from tests.compiler.runtime_steps import Rounds; steps = Rounds(3, 2); steps();"
ENDS = {
    "the worker spins": "",
    "the worker sleeps": "import time; time.sleep(0.05);",
    "a launch at exit": "import atexit; atexit.register(steps);",
    "first workers at exit": "import atexit; atexit.register(Rounds(4, 1));",
    "another thread launches": (
        "import threading\n"
        "def work():\n"
        "    while True: steps()\n"
        "threading.Thread(target=work, daemon=True).start()"
    ),
    "the library is gone": "del steps;",
    "a callback's error": (
        "from chainrule.compiler import runtime\n"
        "def fail(): raise SystemExit(0)\n"
        "Rounds(2, 1, before=fail)()"
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_process_ends(end):
    for _ in range(3):
        python(f"{PREPARED}{ENDS[end]}")


def test_nothing_is_loaded_before_it_is_needed():
    code = (
        "import sys; import chainrule.compiler.runtime; "
        "assert 'llvmlite' not in sys.modules; print(1)"
    )
    assert python(code) == "1\n"
