"""Text to machine code: results, messages, memory, several threads at once."""

import ctypes
import gc
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest

from chainrule.compiler import native
from chainrule.compiler.machine import KINDS, named
from chainrule.errors import CompileError

SQUARES = """
define void @squares(ptr %x, i64 %n) {
entry:
  %i = alloca i64
  store i64 0, ptr %i
  br label %look
look:
  %k = load i64, ptr %i
  %more = icmp slt i64 %k, %n
  br i1 %more, label %go, label %done
go:
  %at = getelementptr double, ptr %x, i64 %k
  %v = load double, ptr %at
  %w = fmul double %v, %v
  store double %w, ptr %at
  %next = add i64 %k, 1
  store i64 %next, ptr %i
  br label %look
done:
  ret void
}
"""
PORTABLE = named("portable")


def squares(library, values):
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(library.address("squares"))
    array = (ctypes.c_double * len(values))(*values)
    call(ctypes.addressof(array), len(values))
    return list(array)


@pytest.mark.parametrize("kind", KINDS)
def test_text_runs(kind):
    try:
        machine = named(kind)
    except CompileError as error:
        pytest.skip(str(error))
    library = native.Library(native.object_code(SQUARES, machine), machine)
    assert squares(library, [1.0, -3.0, 0.5, 7.0, 2.0]) == [1.0, 9.0, 0.25, 49.0, 4.0]
    assert "squares:" in native.assembly(SQUARES, machine)


def test_variables_become_registers():
    assert "alloca" not in str(native.optimize(SQUARES, PORTABLE))


def test_object_code_is_the_same_each_time():
    """Code is kept by what it was made from, so it may depend on nothing else."""
    assert native.object_code(SQUARES, PORTABLE) == native.object_code(SQUARES, PORTABLE)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("define void @f() {\n  %x = add i64 %y, 1\n  ret void\n}", "use of undefined value '%y'"),
        ("nonsense", "expected top-level entity"),
        (
            "define void @f(i1 %c) {\n  br i1 %c, label %a, label %b\na:\n  %x = add i64 1, 2\n"
            "  br label %b\nb:\n  %y = add i64 %x, 1\n  ret void\n}",
            "Instruction does not dominate all uses",
        ),
    ],
    ids=["undefined", "not LLVM", "not dominated"],
)
def test_wrong_text_is_named_as_a_mistake_of_ours(text, said):
    with pytest.raises(CompileError) as raised:
        native.object_code(text, PORTABLE)
    message = str(raised.value)
    assert "a mistake in chainrule; please report it" in message and said in message
    assert len(message.splitlines()) <= 1 + native.SHOWN


def test_a_function_that_is_not_there():
    library = native.Library(native.object_code(SQUARES, PORTABLE), PORTABLE)
    with pytest.raises(CompileError, match="there is no function 'cubes'"):
        library.address("cubes")


def test_code_that_cannot_be_loaded():
    text = """
declare void @nowhere_to_be_found()
define void @f() {
  call void @nowhere_to_be_found()
  ret void
}
"""
    with pytest.raises(CompileError, match=r"nowhere_to_be_found|there is no function 'f'"):
        native.Library(native.object_code(text, PORTABLE), PORTABLE).address("f")
    with pytest.raises(CompileError, match="cannot be loaded"):
        native.Library(b"no object code", PORTABLE)


def test_llvmlite_that_is_missing(monkeypatch):
    native._llvm.cache_clear()
    monkeypatch.setitem(sys.modules, "llvmlite.binding", None)
    try:
        with pytest.raises(CompileError, match="compiling needs llvmlite.*pip install llvmlite"):
            native.object_code(SQUARES, PORTABLE)
    finally:
        native._llvm.cache_clear()


def resident():
    """Bytes of memory this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux says what memory it holds")
def test_dropped_libraries_are_freed():
    """Each has a megabyte of code: 300 of them, one after the other, take the room of a few."""
    text = SQUARES + f'@room = constant [{1 << 20} x i8] c"{"x" * (1 << 20)}"'
    code = native.object_code(text, PORTABLE)

    def load_and_drop(times):
        for _ in range(times):
            library = native.Library(code, PORTABLE)
            assert squares(library, [3.0]) == [9.0]
            dropped = weakref.ref(library)
            del library
            assert dropped() is None
        gc.collect()

    load_and_drop(10)
    before = resident()
    load_and_drop(300)
    assert resident() - before < 30 << 20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux says what memory it holds")
def test_compiling_does_not_leak():
    def compile_all(times):
        for k in range(times):
            text = SQUARES.replace("squares", f"squares{k}")
            native.Library(native.object_code(text, PORTABLE), PORTABLE)
        gc.collect()

    compile_all(50)
    before = resident()
    compile_all(300)
    assert resident() - before < 8 << 20


def test_several_threads_compile_at_once():
    failures = []

    def work(seed):
        try:
            for k in range(8):
                factor = f"fmul double %v, {seed}.{k}"
                text = SQUARES.replace("fmul double %v, %v", factor)
                library = native.Library(native.object_code(text, PORTABLE), PORTABLE)
                assert squares(library, [2.0]) == [2.0 * float(f"{seed}.{k}")]
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures


CROWDED = """
import ctypes, sys
import numpy as np
import chainrule as cr

c = ctypes.CDLL(None)
c.mmap.restype = ctypes.c_void_p
c.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
c.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
PAGE, PRIVATE, UNKNOWN, UNUSED = 4096, 0x2, 0x20, 0x4000

def reserve(size):
    at = c.mmap(None, size, 0, PRIVATE | UNKNOWN | UNUSED, -1, 0)
    assert at not in (None, 2**64 - 1)
    return at

x = np.linspace(-3, 3, 2500).reshape(50, 50)
cr.compile(cr.exp)(x)
below = reserve(4 << 30)
above = set()
while (page := reserve(PAGE)) > below:
    above.add(page)
reserve(4 << 30)
count = int(sys.argv[1])
hole = next(p for p in sorted(above) if all(p + PAGE * k in above for k in range(count)))
c.munmap(hole, count * PAGE)
wave = cr.compile(lambda x, y: (cr.tanh(x @ y) + cr.sin(x @ y)).sum())
print(float(wave(x, x)) - float((np.tanh(x @ x) + np.sin(x @ x)).sum()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for places in memory")
@pytest.mark.parametrize("pages", [1, 2, 3])
def test_code_and_its_constants_lie_together(pages: int) -> None:
    """Also where there is room for a few pages, and for more only 4 GiB away."""
    done = subprocess.run(
        [sys.executable, "-c", CROWDED, str(pages)],
        env={**os.environ, "CHAINRULE_CACHE": "0"}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert abs(float(done.stdout)) < 1e-9
