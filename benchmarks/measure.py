"""Measuring side by side: every contender in turn, again and again, so that all share the noise."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

THREADS = 2


def microseconds(
    contenders: dict[str, Callable[[], object]], *, seconds: float = 6.0
) -> dict[str, float]:
    """The median time of a call of each, in µs; rounds of all, after a warm-up of each."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for call in contenders.values():
        end = time.perf_counter() + 0.3
        while time.perf_counter() < end:
            call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, call in contenders.items():
            for _ in range(20):
                start = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(t) * 1e6 for name, t in times.items()}


def machine() -> str:
    """The processor, its cores, and the versions that take part."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        name = names[0].split(":")[1].strip() if names else name
    parts = [f"{name}, {os.cpu_count()} cores", f"Python {platform.python_version()}"]
    for package in ("numpy", "torch", "jax"):
        try:
            parts.append(f"{package} {version(package)}")
        except ModuleNotFoundError:
            parts.append(f"{package} absent")
    return "; ".join(parts)


def as_installed(folder: str) -> dict[str, str]:
    """An environment in which bytecode is kept, in `folder`, as that of installed packages is.

    A first run fills it; where it may not be written, Python compiles all sources every time.
    """
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": folder}
