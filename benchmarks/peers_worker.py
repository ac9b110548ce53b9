"""One contestant in a process of its own, which runs steps when it is told to.

`python -m benchmarks.peers_worker CONTESTANT CASE` says, as lines of JSON on standard output, first
`{"losses": […], "seconds": …}` (of the first calls, and how long it took to have the first of them)
or `{"absent": "why"}`; then, for each line with a number of calls on standard input, the seconds
they took.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.peers_cases import CASES, Case


def make(contestant: str, case: Case) -> tuple[Any, Callable[[Any], float]]:
    """The contestant's (call, value); what is missing is an ImportError or NotImplementedError."""
    library, *options = contestant.split()
    if library == "chainrule":
        from benchmarks import peers_chainrule

        return peers_chainrule.make(case, compiled="compiled" in options)
    if library == "torch":
        from benchmarks import peers_torch

        return peers_torch.make(
            case, compiled="compile" in options, channels_last="channels-last" in options
        )
    from benchmarks import peers_jax

    return peers_jax.make(case, wait="unwaited" not in options)


def main() -> None:
    """Build, run the first calls, then serve."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer

    def answer(content: Any) -> None:
        print(json.dumps(content), file=answers, flush=True)

    case = CASES[sys.argv[2]]
    try:
        call, value = make(sys.argv[1], case)
    except (ImportError, NotImplementedError) as error:
        answer({"absent": str(error)})
        return
    start = time.perf_counter()
    losses = [value(call())]
    seconds = time.perf_counter() - start
    losses += [value(call()) for _ in range(case.check - 1)]
    answer({"losses": losses, "seconds": seconds})
    for line in sys.stdin:
        calls, result = range(int(line)), None
        start = time.perf_counter()
        for _ in calls:
            result = call()
        value(result)
        answer(time.perf_counter() - start)


if __name__ == "__main__":
    main()
