"""Fashion-MNIST's CNN from the command line to the last file, beside the same in PyTorch.

Whole processes, start-up included, in turn, after a run that is not counted; PyTorch with channels
first and last, the better one counts. A shorter one:
`python -m benchmarks.endtoend --epochs 1 --rounds 1`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.compiled import ENVIRONMENT, two_processors
from benchmarks.measure import as_installed
from chainrule.data.mnist import DEBIAN, FILES

OURS, TORCH, LAST = "chainrule train", "PyTorch", "PyTorch, channels-last"
WANTED, EPOCHS, ROUNDS = 3.0, 5, 3


def commands(out: Path, epochs: int) -> dict[str, list[str]]:
    """What is run for each contestant."""
    python, folder = sys.executable, str(DEBIAN)
    ours = ["-c", "from chainrule.cli import main; main()", "train", "fashion-mnist"]
    ours += ["--model", "cnn", "--quiet", "--folder", folder]
    peer = ["-m", "benchmarks.fashion_torch", "--folder", folder]
    rest = ["--epochs", str(epochs), "--out"]
    return {
        OURS: [python, *ours, *rest, str(out / "chainrule")],
        TORCH: [python, *peer, *rest, str(out / "torch")],
        LAST: [python, *peer, "--channels-last", *rest, str(out / "torch")],
    }


def accuracy(name: str, out: Path, said: str) -> float:
    """The test accuracy that a contestant reached."""
    if name == OURS:
        said = json.dumps(json.loads((out / "chainrule" / "run.json").read_text())["result"])
    found: float = json.loads(said)["test_score"]
    return found


def run(epochs: int = EPOCHS, rounds: int = ROUNDS) -> list[str]:
    """A row a contestant; without the data or PyTorch, a line that says so."""
    if not all((DEBIAN / f"{name}.gz").exists() for name in FILES):
        return [f"Fashion-MNIST end to end: left out, no files in {DEBIAN} (dataset-fashion-mnist)"]
    times: dict[str, list[float]] = {}
    scores: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, two_processors():
        out = Path(folder)
        environment = {**as_installed(str(out / "bytecode")), **ENVIRONMENT}
        for command in commands(out, 1).values():  # not counted: caches are filled
            subprocess.run(command, env=environment, capture_output=True)
        for _ in range(rounds):
            for name, command in commands(out, epochs).items():
                start = time.perf_counter()
                done = subprocess.run(command, env=environment, capture_output=True, text=True)
                if done.returncode:
                    said = (done.stderr.strip() or "nothing").splitlines()[-1]
                    return [f"Fashion-MNIST end to end: left out, {name} failed: {said}"]
                times.setdefault(name, []).append(time.perf_counter() - start)
                scores[name] = accuracy(name, out, done.stdout)
    medians = {name: statistics.median(found) for name, found in times.items()}
    ratio = min(medians[TORCH], medians[LAST]) / medians[OURS]
    lines = [
        f"| Fashion-MNIST's CNN, {epochs} epochs, start to end | seconds | test accuracy % |",
        "|---|---:|---:|",
    ]
    lines += [f"| {n} | {t:.1f} | {100 * scores[n]:.2f} |" for n, t in medians.items()]
    return [*lines, f"| best PyTorch / chainrule | {ratio:.2f} (wanted ≥ {WANTED:g}) | |"]


def main() -> None:
    """A shorter or longer one, as asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.endtoend", description=__doc__)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    print("\n".join(run(given.epochs, given.rounds)))


if __name__ == "__main__":
    main()
