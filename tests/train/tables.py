"""Small data and quick settings for the tests of training."""

import numpy as np

from chainrule.train import Options

QUICK = Options(hidden=(8,), epochs=2, rate=0.01)


def table(path, rows=60, *, numbers=False):
    """A CSV of a number, a category and a target that follows from them."""
    random = np.random.default_rng(0)
    lines = ["size,colour,answer"]
    for _ in range(rows):
        size, colour = random.uniform(-3, 3), random.choice(["red", "green", "blue"])
        value = 2 * size + (colour == "red")
        lines.append(f"{size:.4f},{colour},{f'{value:.4f}' if numbers else value > 0}")
    path.write_text("\n".join(lines) + "\n")
    return path
