"""The machine that code is made for: vector width, registers, caches, threads.

`host()` is the one at hand. `named("avx512")`, `"avx2"` and `"portable"` are kinds of it: the same
processor with features switched off, so that every kind can be tested where the widest one runs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..errors import CompileError

KINDS = ("avx512", "avx2", "portable")
"""From wide to narrow. `CHAINRULE_MACHINE` chooses one of them; the default is the widest."""


@dataclass(frozen=True)
class Machine:
    """What code generation has to know. Sizes are bytes; caches are those of one core."""

    kind: str
    cpu: str
    features: str
    """LLVM's list, such as "+avx2,+fma,-avx512f"."""
    vector_bytes: int
    registers: int
    fma: bool
    masks: bool
    """Whether a masked load costs as much as a plain one."""
    l1: int
    l2: int
    l3: int
    threads: int

    def lanes(self, dtype: np.dtype[np.generic]) -> int:
        """Entries of this dtype in one vector register."""
        return self.vector_bytes // dtype.itemsize


def _cache_sizes() -> tuple[int, int, int]:
    """L1 data, L2 and L3 of the first core; usual sizes where the system does not say."""
    sizes = {1: 32 << 10, 2: 1 << 20, 3: 8 << 20}
    units = {"K": 1 << 10, "M": 1 << 20}
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            level, kind, size = (
                (index / name).read_text().strip() for name in ("level", "type", "size")
            )
        except OSError:
            continue  # a container may hide some of them
        if kind != "Instruction" and size[-1:] in units and int(level) in sizes:
            sizes[int(level)] = int(size[:-1]) * units[size[-1]]
    return sizes[1], sizes[2], sizes[3]


def thread_count() -> int:
    """`CHAINRULE_NUM_THREADS`, or the number of processors this process may run on."""
    given = os.environ.get("CHAINRULE_NUM_THREADS", "")
    if given:
        if not given.isdecimal() or not 1 <= int(given) <= 256:
            raise CompileError(
                f"CHAINRULE_NUM_THREADS must be a whole number from 1 to 256, received {given!r}"
            )
        return int(given)
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


@lru_cache(maxsize=8)
def named(kind: str, threads: int | None = None) -> Machine:
    """The processor at hand as a machine of this kind; CompileError if it cannot be one."""
    from .native import host_cpu, host_features

    found = host_features()
    l1, l2, l3 = _cache_sizes()
    threads = threads or thread_count()
    wide = all(found.get(f) for f in ("avx512f", "avx512dq", "avx512vl", "avx512bw"))
    middle = bool(found.get("avx2") and found.get("fma"))
    if kind not in KINDS:
        raise CompileError(f"a machine is one of {', '.join(KINDS)}, received {kind!r}")
    if (kind == "avx512" and not wide) or (kind == "avx2" and not middle):
        raise CompileError(f"this processor ({host_cpu()}) has no {kind}")
    base = Machine(kind, host_cpu(), _flags(found, ()), 64, 32, True, True, l1, l2, l3, threads)
    if kind == "avx512":
        return base
    if kind == "avx2":
        without = ("avx512",)
        return replace(
            base, features=_flags(found, without), vector_bytes=32, registers=16, masks=True
        )
    arm = bool(found.get("neon"))
    return replace(
        base, cpu=host_cpu() if arm else "", features="" if not arm else base.features,
        vector_bytes=16, registers=32 if arm else 16, fma=arm, masks=False,
    )  # fmt: skip


def _flags(found: dict[str, bool], without: tuple[str, ...]) -> str:
    """Features as LLVM wants them, without those whose names start so."""
    off = tuple(without)
    return ",".join(
        f"{'-' if not on or (off and name.startswith(off)) else '+'}{name}"
        for name, on in sorted(found.items())
    )


def host() -> Machine:
    """The machine at hand, as `CHAINRULE_MACHINE` and `CHAINRULE_NUM_THREADS` say."""
    kind = os.environ.get("CHAINRULE_MACHINE", "")
    if kind:
        return named(kind, thread_count())
    for kind in KINDS:
        try:
            return named(kind, thread_count())
        except CompileError:
            if kind == KINDS[-1]:
                raise
    raise AssertionError("the portable kind is always there")
