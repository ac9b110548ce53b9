"""Whole training steps, compiled: chainrule beside PyTorch and JAX, all in one run.

Each contestant lives in a process of its own (two OpenMP libraries in one process disturb each
other) and sleeps until it is its turn: a batch of calls of about 30 ms, in rounds, the order
rotated. After each turn there is a pause in which the threads of its library stop spinning; a
contestant that uses the processor while it is not its turn is named. All start from the same
weights and data, and their losses are compared. Others at work on the machine slow PyTorch most,
whose threads wait for each other after every operation: what they used is reported, too.

A part of it: `python -m benchmarks.compiled small conv --rounds 5 --only "jax jit"`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.measure import THREADS
from benchmarks.peers_cases import CASES, Case

OURS, EAGER, UNWAITED = "chainrule compiled", "chainrule eager", "jax jit unwaited"
ALWAYS = (OURS, EAGER, "torch eager", "torch compile", "jax jit")
CONV = ("torch eager channels-last", "torch compile channels-last")
"""Only where there are pictures."""
CONTESTANTS = (*ALWAYS, *CONV, UNWAITED)
ROUNDS, TURN, PAUSE, WARM_UP = 25, 0.03, 0.01, 0.5
"""The last three in seconds."""
TOLERANCE = 1e-3
"""Relative, between losses after the same number of steps."""
BUSY = 0.05
"""Share of all processors that others may use before the row says so."""
IDLE = 0.03
"""Share of one processor that a waiting contestant may use before it is named."""
ENVIRONMENT = {
    "OMP_NUM_THREADS": str(THREADS), "MKL_NUM_THREADS": str(THREADS),
    "OPENBLAS_NUM_THREADS": str(THREADS), "CHAINRULE_NUM_THREADS": str(THREADS),
    "OPENBLAS_THREAD_TIMEOUT": "22",  # its threads spin 2²² cycles, not 2²⁶ (26 ms), then sleep
    "NPROC": str(THREADS), "JAX_PLATFORMS": "cpu",
}  # fmt: skip


class Absent(Exception):
    """A contestant that takes no part, and why."""


class Worker:
    """A contestant's process, and what it measured so far."""

    def __init__(self, contestant: str, case_name: str) -> None:
        self.contestant, self.case = contestant, CASES[case_name]
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.peers_worker", contestant, case_name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
            env={**os.environ, **ENVIRONMENT},
        )  # fmt: skip
        self.calls, self.times = 1, list[float]()
        self._since, self._used, self._idle, self._burnt = 0.0, 0.0, 0.0, 0.0

    def start(self) -> None:
        """Wait for the first calls, warm up, choose the calls of a turn; Absent if it cannot."""
        content = self._answer()
        if "absent" in content:
            raise Absent(content["absent"])
        self.losses: list[float] = content["losses"]
        self.seconds: float = content["seconds"]
        end = time.perf_counter() + WARM_UP
        while time.perf_counter() < end:
            took = self._run(self.calls)
            self.calls = max(1, round(self.calls * min(10.0, TURN / took)))
        time.sleep(PAUSE)
        self._rest()

    def turn(self) -> None:
        """One batch of calls, then the pause."""
        self._idle += time.perf_counter() - self._since
        self._burnt += self.processor() - self._used
        self.times.append(self._run(self.calls) / self.calls / self.case.steps)
        time.sleep(PAUSE)
        self._rest()

    @property
    def burnt(self) -> float:
        """The share of a processor used between turns."""
        return self._burnt / self._idle if self._idle else 0.0

    @property
    def median(self) -> float:
        """Seconds a step."""
        return statistics.median(self.times)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _run(self, calls: int) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{calls}\n")
        self._process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._errors.seek(0)
        said = [text for text in self._errors.read().splitlines() if text.strip()]
        raise Absent(f"failed: {said[-1][:200] if said else 'without a word'}")

    def _rest(self) -> None:
        self._since, self._used = time.perf_counter(), self.processor()

    def processor(self) -> float:
        """Seconds of processor time so far; 0 where the system does not say."""
        try:
            with open(f"/proc/{self._process.pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _others(workers: Sequence[Worker]) -> tuple[float, float]:
    """Seconds of all processors that others used, and that there were; 0 if nothing says so."""
    try:
        with open("/proc/stat") as file:
            ticks = [int(t) for t in file.readline().split()[1:9]]
    except OSError:
        return 0.0, 0.0
    whole = sum(ticks) / os.sysconf("SC_CLK_TCK")
    idle = (ticks[3] + ticks[4]) / os.sysconf("SC_CLK_TCK")
    own = sum(worker.processor() for worker in workers) + time.process_time()
    return whole - idle - own, whole


@dataclass
class Row:
    """What a case gave: seconds a step and until the first one, by contestant, and remarks."""

    case: Case
    medians: dict[str, float] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @property
    def peer(self) -> float:
        """Seconds of the best peer that waits for each step; NaN if there is none."""
        own = (OURS, EAGER, UNWAITED)
        return min((t for n, t in self.medians.items() if n not in own), default=float("nan"))


def measure(name: str, contestants: Sequence[str] = CONTESTANTS, rounds: int = ROUNDS) -> Row:
    """All contestants of a case, in turns."""
    case, row, workers = CASES[name], Row(CASES[name]), list[Worker]()
    with ExitStack() as stack:
        for contestant in contestants:
            if (contestant in CONV and case.network != "conv") or (
                contestant == UNWAITED and name != "small"
            ):
                continue
            worker = Worker(contestant, name)
            stack.callback(worker.close)
            try:
                worker.start()
            except Absent as reason:
                row.absent[contestant] = str(reason)
            else:
                workers.append(worker)
        before = _others(workers)
        for k in range(rounds):
            for j in range(len(workers)):
                workers[(j + k) % len(workers)].turn()
        busy, all_time = (b - a for a, b in zip(before, _others(workers), strict=True))
        if busy > BUSY * all_time:
            share = 100 * busy / all_time
            row.remarks.append(f"others used {share:.0f} % of the processors: do not trust it")
        for worker in workers:
            row.medians[worker.contestant] = worker.median
            row.first[worker.contestant] = worker.seconds
            row.remarks += _remarks(worker, workers)
    return row


def _remarks(worker: Worker, workers: list[Worker]) -> Iterator[str]:
    """What is wrong: losses that differ from the middle of all, a process that does not sleep."""
    middle = np.median([each.losses for each in workers], axis=0)
    away = float(np.max(np.abs(worker.losses - middle) / np.abs(middle)))
    if not away <= TOLERANCE:
        yield f"{worker.contestant}: losses differ by {away:.1g} from the others'"
    if worker.burnt > IDLE:
        yield f"{worker.contestant}: used {100 * worker.burnt:.0f} % of a processor while waiting"


@contextmanager
def two_processors() -> Iterator[None]:
    """As many processors as threads for this process and those it starts."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:THREADS])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def peak() -> float:
    """Flops a second of independent multiply-adds on one thread; NaN without the compiler."""
    try:
        from chainrule.compiler.machine import host
        from chainrule.compiler.peak import fma_peak
    except ImportError:
        return float("nan")
    return fma_peak(host(), np.dtype(np.float32))


def seconds(value: float | None) -> str:
    """A time with three digits, in µs or ms; – for none."""
    if value is None:
        return "–"
    unit, scaled = ("ms", value * 1e3) if value >= 1e-3 else ("µs", value * 1e6)
    return f"{scaled:.{max(0, 2 - int(np.floor(np.log10(scaled))))}f} {unit}"


def table(rows: Sequence[Row], rate: float) -> list[str]:
    """The rows as Markdown; `rate` is the peak of one thread, in flops a second."""
    shown = [n for n in CONTESTANTS if n != UNWAITED and any(n in row.medians for row in rows)]
    shown = [OURS, *[n for n in shown if n != OURS]]
    lines = [
        "| training step | " + " | ".join(shown) + " | best peer / ours | wanted | % of peak |",
        "|---|" + "---:|" * (len(shown) + 3),
    ]
    for row in rows:
        own = row.medians.get(OURS)
        cells = [seconds(row.medians.get(n)) for n in shown]
        share = "–"
        if own is not None and rate == rate:
            share = f"{100 * row.case.flops / own / (THREADS * rate):.0f}"
        ratio = "–" if own is None or row.peer != row.peer else f"{row.peer / own:.2f}"
        cells += [ratio, f"≥ {row.case.wanted:g}", share]
        lines.append("| " + " | ".join([row.case.title, *cells]) + " |")
    return [*lines, "", *_notes(rows, rate), "", *_first(rows)]


def _notes(rows: Sequence[Row], rate: float) -> Iterator[str]:
    measured = "not measured" if rate != rate else f"{rate / 1e9:.0f} GF/s a thread"
    yield (
        f"float32, {THREADS} threads, medians; a call ends when its loss is there. Peak of "
        f"independent FMAs: {measured}; % of peak counts products and convolutions only."
    )
    for row in rows:
        for name, text in row.absent.items():
            yield f"- {row.case.title}: {name} takes no part ({text})"
        for text in row.remarks:
            yield f"- {row.case.title}: {text}"
        if UNWAITED in row.medians:
            queued = seconds(row.medians[UNWAITED])
            yield f"- {row.case.title}: JAX whose steps are queued, not waited for: {queued}"


def _first(rows: Sequence[Row]) -> Iterator[str]:
    """The time until compiled contestants have done a step."""
    shown = [n for n in (OURS, "torch compile", "jax jit") if any(n in row.first for row in rows)]
    if not shown:
        return
    yield "| first call, seconds (caches on disk in use) | " + " | ".join(shown) + " |"
    yield "|---|" + "---:|" * len(shown)
    for row in rows:
        cells = [f"{row.first[n]:.2f}" if n in row.first else "–" for n in shown]
        yield "| " + " | ".join([row.case.title, *cells]) + " |"


def run(
    names: Sequence[str] = tuple(CASES), contestants: Sequence[str] = CONTESTANTS,
    rounds: int = ROUNDS,
) -> list[str]:  # fmt: skip
    """The table, as Markdown lines."""
    with two_processors():
        rate = peak()
        rows = []
        for name in names:
            rows.append(measure(name, contestants, rounds))
            found = ", ".join(f"{n} {seconds(t)}" for n, t in rows[-1].medians.items())
            print("; ".join([f"  {CASES[name].title}: {found}", *rows[-1].remarks]), flush=True)
    return table(rows, rate)


def main() -> None:
    """A part of the table, as asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compiled", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *CASES], help="rows (default: all)")
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=CONTESTANTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    print("\n".join(run(given.names or tuple(CASES), given.only, given.rounds)))


if __name__ == "__main__":
    main()
