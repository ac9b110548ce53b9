"""Fashion-MNIST with the default settings of each model: test accuracy and time."""

from __future__ import annotations

from chainrule.data import fashion_mnist
from chainrule.errors import DataError
from chainrule.train import Options, train
from chainrule.train.sources import describe

MODELS = ("linear", "mlp", "cnn")


def run() -> list[str]:
    """A row a model; without the data, a line that says how to get it."""
    try:
        fashion_mnist()
    except DataError as error:
        return [f"Fashion-MNIST: left out, {error}"]
    lines = [
        "| Fashion-MNIST, 60,000 images | test accuracy % | seconds | epochs | parameters |",
        "|---|---:|---:|---:|---:|",
    ]
    for model in MODELS:
        outcome = train(describe("fashion-mnist", 0), Options(model=model), progress=False)
        size = sum(p.size for p in outcome.run.model.parameters())
        lines.append(
            f"| {model} | {100 * outcome.test_score:.2f} | {outcome.history.seconds:.0f} | "
            f"{len(outcome.history)} | {size:,} |"
        )
    return lines
