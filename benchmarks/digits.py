"""The digits with default settings, seeds 0 to 9: accuracy and time."""

from __future__ import annotations

import statistics

from chainrule.train import train_digits
from chainrule.train.tasks import Options


def run() -> list[str]:
    """A row a seed, then the mean and the worst."""
    lines = ["| digits, seed | test accuracy % | seconds | best epoch |", "|---|---:|---:|---:|"]
    scores, times = [], []
    for seed in range(10):
        outcome = train_digits(Options(seed=seed), progress=False)
        scores.append(100 * outcome.test_score)
        times.append(outcome.history.seconds)
        lines.append(f"| {seed} | {scores[-1]:.2f} | {times[-1]:.1f} | {outcome.history.best} |")
    lines.append(f"| mean | {statistics.mean(scores):.2f} | {statistics.mean(times):.1f} | |")
    lines.append(f"| worst | {min(scores):.2f} | {max(times):.1f} | |")
    return lines
