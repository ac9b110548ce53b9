"""`python -m benchmarks [name …]`: run benchmarks and print Markdown; --write keeps it in docs/."""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path

from benchmarks import (
    compiled,
    contractions,
    digits,
    eager,
    endtoend,
    explain,
    fashion,
    jacobians,
    startup,
    text,
)
from benchmarks.measure import THREADS, machine

ALL = {
    "compiled": compiled, "contractions": contractions, "jacobians": jacobians,
    "explain": explain, "eager": eager,
    "startup": startup, "digits": digits, "fashion": fashion, "endtoend": endtoend, "text": text,
}  # fmt: skip


def main() -> None:
    """Run the benchmarks named (all by default)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *ALL], help="which ones (default: all)")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    arguments = parser.parse_args()
    names = arguments.names or list(ALL)
    lines = [
        "# Benchmarks",
        "",
        f"From `make bench` ({datetime.date.today()}), everything side by side in one run, medians "
        f"after warm-up, {THREADS} threads. The machine is shared, so ratios count, not times.",
        "",
        machine(),
        "",
    ]
    for name in names:
        print(f"{name} …", flush=True)
        table = ALL[name].run()
        print("\n".join(table), flush=True)
        lines += [*table, ""]
    if arguments.write:
        path = Path(__file__).parent.parent / "docs" / "benchmarks.md"
        path.write_text("\n".join(lines))
        print(f"written to {path.name}")


if __name__ == "__main__":
    main()
