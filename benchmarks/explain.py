"""What explaining costs: recording beside an eager step, pages of large graphs, a report."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import chainrule as cr
from chainrule import nn
from chainrule.explain import examine, explore
from chainrule.pages import report
from chainrule.train import Options, train_digits

ROUNDS = 15


def seconds(call: Callable[[], Any]) -> float:
    """The median of some calls, after two that do not count."""
    times = []
    for k in range(ROUNDS + 2):
        start = time.perf_counter()
        call()
        if k > 1:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def cases() -> dict[str, Callable[[], Any]]:
    """Losses to explain, by name."""
    r = np.random.default_rng(0)
    small = nn.Sequential(nn.Linear(64, 512), nn.relu, nn.Linear(512, 10), seed=0)
    wide = nn.Sequential(nn.Linear(784, 900), nn.relu, nn.Linear(900, 300), nn.relu,
                         nn.Linear(300, 10), seed=0)  # fmt: skip
    x, y = r.normal(size=(32, 64)).astype(np.float32), r.integers(0, 10, 32)
    z = r.normal(size=(32, 784)).astype(np.float32)

    def neuron() -> Any:
        w0, x0, w1, x1, w2 = (cr.tensor(v) for v in (2.0, -1.0, -3.0, -2.0, -3.0))
        return 1 / (1 + cr.exp(-(w0 * x0 + w1 * x1 + w2)))

    return {
        "the sigmoid neuron, scalars": neuron,
        "MLP 64-512-10, batch 32": lambda: nn.softmax_cross_entropy(small(x), y),
        "MLP of 10⁶ parameters, batch 32": lambda: nn.softmax_cross_entropy(wide(z), y),
    }


def run() -> list[str]:
    """The tables, as Markdown lines."""
    lines = [
        "| explaining | eager step, ms | forward and recording, ms | ratio (wanted ≤ 3) |",
        "|---|---:|---:|---:|",
    ]
    for name, loss in cases().items():
        step = 1e3 * seconds(lambda f=loss: f().backward())  # type: ignore[misc]
        record = 1e3 * seconds(lambda f=loss: examine(f(), {}))  # type: ignore[misc]
        lines.append(f"| {name} | {step:.2f} | {record:.2f} | {record / step:.2f} |")
    h = start = cr.tensor(np.ones((4, 8), np.float32))
    for _ in range(500):
        h = h + cr.tanh(h * 0.1) * 0.01
    began = time.perf_counter()
    page = explore(h.sum(), names={"x": start}).page()
    made = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        train_digits(Options(epochs=5), out=Path(folder) / "run", progress=False)
        began = time.perf_counter()
        size = report(Path(folder) / "run").stat().st_size
        wrote = time.perf_counter() - began
    return [
        *lines, "",
        f"A page of 2,001 gates: {made:.2f} s to make, {len(page) / 1e3:.0f} kB. The report of a "
        f"run on the digits: {wrote:.2f} s (wanted < 2), {size / 1e3:.0f} kB.",
    ]  # fmt: skip


if __name__ == "__main__":
    print("\n".join(run()))
