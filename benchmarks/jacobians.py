"""Sparse Jacobians: prepared once, then evaluated; chainrule beside asdex and JAX.

`python -m benchmarks.jacobians [case …]`. Each contestant runs in processes of its own, in turns:
each one prepares a small problem first (so that no import is counted), then the real one, then
evaluates it for a second. All find the same entries in float32, whose sums are compared. JAX by
itself has no sparse Jacobian: it is given the colours found here, so it prepares only its compiled
function.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.compiled import BUSY, ENVIRONMENT, _others, seconds, two_processors
from benchmarks.jacobian_cases import CASES, Case, case

OURS = "chainrule"
CONTESTANTS = (OURS, "asdex", "jax, colours given")
ROUNDS, WARM_UP, LENGTH, TIMEOUT = 3, 0.3, 1.0, 300
"""The last three in seconds."""
TOLERANCE = 1e-4
"""Relative, between the sums of all magnitudes."""

Evaluate = Callable[[], Any]


def of_chainrule(case: Case) -> Callable[[], Evaluate]:
    """The values in the order of the rows, as a NumPy array."""
    import chainrule as cr

    function = partial(case.function, xp=cr)
    if case.hessian:
        function = cr.grad(function)
    x = case.start

    def prepare() -> Evaluate:
        return partial(cr.jacobian(function, mode="sparse").prepare(x), x)

    return prepare


def of_asdex(case: Case) -> Callable[[], Evaluate]:
    """The values of the sparse array (BCOO), jitted."""
    import asdex
    import jax
    import jax.numpy as jnp

    function, x = partial(case.function, xp=jnp), jnp.asarray(case.start)
    find = asdex.hessian if case.hessian else asdex.jacobian

    def prepare() -> Evaluate:
        found = find(function, x)
        J = jax.jit(lambda x: found(x).data)
        return lambda: J(x).block_until_ready()

    return prepare


def of_jax(case: Case) -> Callable[[], Evaluate]:
    """Pushes along the seeds of our colours by vmap, and a gather, jitted."""
    import jax
    import jax.numpy as jnp

    from chainrule.jacobians.coloring import Pattern, color

    function, x = partial(case.function, xp=jnp), jnp.asarray(case.start)
    if case.hessian:
        function = jax.grad(function)
    pattern = Pattern.of(*case.places())
    coloring = color(pattern, "push")
    assert not coloring.peeled.size
    seeds = jnp.asarray(coloring.colors == np.arange(coloring.count)[:, None], x.dtype)
    slots = jnp.asarray(coloring.slots(pattern))

    def prepare() -> Evaluate:
        @jax.jit
        def J(x: Any, seeds: Any, slots: Any) -> Any:
            return jax.vmap(lambda s: jax.jvp(function, (x,), (s,))[1])(seeds).ravel()[slots]

        return lambda: J(x, seeds, slots).block_until_ready()

    return prepare


MAKERS = dict(zip(CONTESTANTS, (of_chainrule, of_asdex, of_jax), strict=True))


def work(contestant: str, name: str) -> dict[str, Any]:
    """One process of a contestant: seconds to the first Jacobian, seconds of one, their sum."""
    try:
        MAKERS[contestant](case(name, small=True))()()
    except ImportError as error:
        return {"absent": str(error)}
    prepare = MAKERS[contestant](case(name))
    start = time.perf_counter()
    evaluate = prepare()
    values = evaluate()
    prepared = time.perf_counter() - start
    return {
        "prepare": prepared,
        "evaluate": statistics.median(_times(evaluate)),
        "sum": float(np.abs(np.asarray(values, np.float64)).sum()),
    }


def _times(call: Evaluate) -> list[float]:
    times: list[float] = []
    began = time.perf_counter()
    while (now := time.perf_counter()) < began + WARM_UP + LENGTH or len(times) < 3:
        call()
        if now > began + WARM_UP:
            times.append(time.perf_counter() - now)
    return times


def measure(contestant: str, name: str) -> dict[str, Any]:
    """What a process says; {"absent": why} where it says nothing."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.jacobians", "--work", contestant, name],
            capture_output=True, text=True, timeout=TIMEOUT,
            env={**os.environ, **ENVIRONMENT, "CHAINRULE_CACHE": "0"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"absent": f"not done after {TIMEOUT} s"}
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {"absent": f"failed: {lines[-1][:200] if lines else 'without a word'}"}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def run(names: Sequence[str] = CASES) -> list[str]:
    """The table, as Markdown lines."""
    lines = [
        f"| sparse Jacobian | {' | '.join(CONTESTANTS)} |", "|---|" + "---:|" * len(CONTESTANTS),
    ]  # fmt: skip
    remarks: list[str] = []
    before = _others_than_children()
    with two_processors():
        for name in names:
            title = case(name).title
            found: dict[str, list[dict[str, Any]]] = {c: [] for c in CONTESTANTS}
            for _ in range(ROUNDS):
                for contestant, results in found.items():
                    if not any("absent" in r for r in results):
                        results.append(measure(contestant, name))
            for contestant, results in found.items():
                if "absent" in results[-1]:
                    remarks.append(f"- {title}: {contestant} absent ({results.pop()['absent']})")
            middle = {c: _medians(results) for c, results in found.items() if results}
            for what in ("prepare", "evaluate"):
                cells = [seconds(middle[c][what] if c in middle else None) for c in CONTESTANTS]
                lines.append(f"| {title}, {what} | {' | '.join(cells)} |")
            sums = [m["sum"] for m in middle.values()]
            if sums and max(sums) - min(sums) > TOLERANCE * max(sums):
                remarks.append(f"- {title}: the sums of the magnitudes differ: {sums}")
    busy, all_time = (b - a for a, b in zip(before, _others_than_children(), strict=True))
    if busy > BUSY * all_time:
        share = f"{100 * busy / all_time:.0f} %"
        remarks.append(f"- others used {share} of the processors: do not trust the times")
    note = (
        "float32, medians after warm-up; prepare: to the first Jacobian, compiling included, no "
        "caches on disk. chainrule and asdex find the pattern, JAX is given chainrule's colours."
    )
    return [*lines, "", note, *remarks]


def _others_than_children() -> tuple[float, float]:
    """Seconds of all processors that others used, and that there were."""
    busy, whole = _others([])
    times = os.times()
    return busy - times.children_user - times.children_system, whole


def _medians(results: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(r[key] for r in results) for key in results[0]}


def main() -> None:
    """The table, or the work of one process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.jacobians", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *CASES], help="cases (default: all)")
    parser.add_argument("--work", choices=CONTESTANTS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        print(json.dumps(work(given.work, given.names[0])))
    else:
        print("\n".join(run(given.names or CASES)))


if __name__ == "__main__":
    main()
