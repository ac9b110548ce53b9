"""LLVM through llvmlite: text in, object code out, addresses of loaded functions. The only file
that imports llvmlite, and only when something is compiled.

llvmlite holds one lock around each call of LLVM, so several Python threads may compile at once;
they take turns.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any

from ..errors import CompileError
from .machine import Machine

SHOWN = 5
"""Lines of LLVM's complaint that a message holds."""


@lru_cache(maxsize=1)
def _llvm() -> Any:
    """llvmlite's binding, ready for this processor."""
    try:
        import llvmlite.binding as llvm  # type: ignore[import-untyped]
    except (ImportError, OSError) as error:
        raise CompileError(
            f"compiling needs llvmlite, which cannot be loaded ({error}): pip install llvmlite"
        ) from error
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()  # for the processor's hint in waiting loops
    return llvm


def version() -> str:
    """Of what makes the code: llvmlite and LLVM."""
    llvm = _llvm()
    number = ".".join(map(str, llvm.llvm_version_info))
    return f"llvmlite {sys.modules['llvmlite'].__version__}, LLVM {number}"


def host_cpu() -> str:
    """LLVM's name of the processor at hand."""
    return str(_llvm().get_host_cpu_name())


@lru_cache(maxsize=1)
def host_features() -> dict[str, bool]:
    """What the processor at hand can do, by LLVM's names."""
    return dict(_llvm().get_host_cpu_features())


def _target(machine: Machine) -> Any:
    return _llvm().Target.from_default_triple().create_target_machine(
        cpu=machine.cpu, features=machine.features, opt=3, reloc="pic", codemodel="default"
    )  # fmt: skip


def _parse(text: str) -> Any:
    try:
        module = _llvm().parse_assembly(text)
        module.verify()
    except RuntimeError as error:
        reason = "\n".join(str(error).strip().splitlines()[:SHOWN])
        raise CompileError(
            f"chainrule made code that LLVM does not take, which is a mistake in chainrule; please "
            f"report it with this message:\n{reason}"
        ) from error
    return module


def optimize(text: str, machine: Machine) -> Any:
    """The module after LLVM's passes; CompileError if the text is no valid module.

    Only the passes that simplify one function (its variables into registers, common parts, what
    does not change out of loops, short loops unrolled), at level 1. The loops here are vectorised
    and tiled where they are written, so that all of level 2 makes the same code a third slower to
    compile, and faster by nothing in any kernel measured; no passes but registers cost up to 10 %.
    """
    llvm = _llvm()
    module = _parse(text)
    tuning = llvm.create_pipeline_tuning_options(speed_level=1)
    passes = llvm.create_pass_builder(_target(machine), tuning)
    simplify = passes.getFunctionPassManager()
    for function in module.functions:
        if not function.is_declaration:
            simplify.run(function, passes)
    return module


def object_code(text: str, machine: Machine) -> bytes:
    """Machine code of a module, as an object file."""
    return bytes(_target(machine).emit_object(optimize(text, machine)))


def assembly(text: str, machine: Machine) -> str:
    """The machine code of a module as text."""
    return str(_target(machine).emit_assembly(optimize(text, machine)))


class Library:
    """Object code in memory; it lives as long as this object does.

    LLVM trusts what it is given: only what `object_code` made, whole, may come here.
    """

    def __init__(self, code: bytes, machine: Machine) -> None:
        llvm = _llvm()
        # JITLink puts code and constants into one piece of memory. LLVM's older linker takes two,
        # and ends the process where they come to lie more than 2 GiB apart.
        self._compiler = llvm.create_lljit_compiler(_target(machine), use_jit_link=True)
        linked = llvm.JITLibraryBuilder().add_object_img(code).add_current_process()
        try:
            self._held = [linked.link(self._compiler, "library")]  # gone, it would be unloaded
        except RuntimeError as error:
            raise CompileError(f"compiled code cannot be loaded: {error}") from error

    def address(self, name: str) -> int:
        """Where a function starts."""
        try:
            self._held.append(self._compiler.lookup("library", name))
            return int(self._held[-1][name])
        except RuntimeError as error:
            raise CompileError(f"there is no function {name!r} in this library: {error}") from error
