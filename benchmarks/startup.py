"""How long `import chainrule` takes beyond `import numpy`."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.measure import as_installed


def seconds(code: str, environment: dict[str, str]) -> float:
    """The time of a fresh interpreter that runs this."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    return time.perf_counter() - start


def run() -> list[str]:
    """Medians of ten, in turn, with a warm disk and bytecode kept."""
    codes = {
        "python": "pass",
        "import numpy": "import numpy",
        "import chainrule": "import chainrule",
    }
    times: dict[str, list[float]] = {name: [] for name in codes}
    with tempfile.TemporaryDirectory() as folder:
        environment = as_installed(folder)
        for code in codes.values():
            seconds(code, environment)
        for _ in range(10):
            for name, code in codes.items():
                times[name].append(seconds(code, environment))
    medians = {name: statistics.median(t) for name, t in times.items()}
    added = medians["import chainrule"] - medians["import numpy"]
    lines = ["| start-up, median of 10 | ms |", "|---|---:|"]
    lines += [f"| {name} | {1e3 * t:.0f} |" for name, t in medians.items()]
    return [*lines, f"| chainrule beyond numpy | {1e3 * added:.0f} |"]
