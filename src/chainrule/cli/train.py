"""`chainrule train`: a network on the digits or on a CSV file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..errors import RunError

DATA = "The data: `digits` (1,797 handwritten digits that come along), or a CSV file."
# Written down, so that help starts fast; a test holds it to the models' own list.
ACTIVATIONS = ("relu", "tanh", "sigmoid", "leaky_relu", "elu", "gelu", "silu", "softplus")
OUT = (
    "The run folder (runs/NAME-seed-N by default). A run that is in it is replaced; a folder with "
    "other things is refused."
)


def train(
    data: Annotated[str, typer.Argument(help=DATA, metavar="digits|FILE.csv")],
    target: Annotated[
        str | None, typer.Option(help="The column to predict, for a CSV file.", metavar="COLUMN")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="classification or regression; found from the column by default."),
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(help="A column to leave out; may be given several times.")
    ] = None,
    hidden: Annotated[
        str, typer.Option(help="Sizes of the hidden layers, as 512 or 128,64; '' for none.")
    ] = "512",
    activation: Annotated[str, typer.Option(help=", ".join(ACTIVATIONS) + ".")] = "relu",
    loss: Annotated[
        str, typer.Option(help="softmax or hinge for classes, squared for numbers.")
    ] = "auto",
    optimizer: Annotated[
        str, typer.Option(help="sgd, momentum, nesterov, adagrad, rmsprop, adam or adamw.")
    ] = "adam",
    rate: Annotated[float, typer.Option(help="The learning rate at the start.")] = 2e-3,
    penalty: Annotated[float, typer.Option(help="λ of the penalty λ·Σ W².")] = 0.0,
    batch: Annotated[int, typer.Option(help="Examples in a batch.")] = 32,
    epochs: Annotated[int, typer.Option(help="Passes over the training data.")] = 60,
    patience: Annotated[
        int | None, typer.Option(help="Stop after so many epochs without a better validation loss.")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Decides split, weights and order; same seed, same run.")
    ] = 0,
    out: Annotated[Path | None, typer.Option(help=OUT)] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Train a network, test it, and write a run folder (weights, settings, metrics)."""
    from ..train.tasks import Options, train_csv, train_digits

    options = Options(
        hidden=_sizes(hidden), activation=activation, loss=loss, optimizer=optimizer, rate=rate,
        penalty=penalty, batch=batch, epochs=epochs, patience=patience, seed=seed,
    )  # fmt: skip
    console = Console(highlight=False, soft_wrap=True)
    name = "digits" if data == "digits" else Path(data).stem
    folder = out or Path("runs") / f"{name}-seed-{seed}"
    if data == "digits":
        if target is not None or task is not None or ignore:
            raise RunError("--target, --task and --ignore are for CSV files; digits has its own")
        outcome = train_digits(options, out=folder, progress=not quiet)
    else:
        if target is None:
            raise RunError(
                f"name the column to predict: chainrule train {data} --target COLUMN"
                if Path(data).exists()
                else f"no data named {data!r}: use digits, or a CSV file with --target COLUMN"
            )
        if task not in (None, "classification", "regression"):
            raise RunError(f"task is classification or regression, received {task!r}")
        outcome = train_csv(
            data, target, options, task=task, ignore=tuple(ignore or ()), out=folder,
            progress=not quiet,
        )  # fmt: skip
    history = outcome.history
    best = f", best epoch {history.best}" if history.best else ""
    console.print(f"{len(history)} epochs in {history.seconds:.1f} s ({history.stopped}{best})")
    console.print(outcome.summary)
    console.print(f"run folder: {folder}")
    if history.interrupted:
        kept = "best weights so far" if history.best else "weights of an unfinished first epoch"
        console.print(f"interrupted: the folder holds the {kept}")
        raise typer.Exit(130)


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.replace(" ", "").split(",") if part)
    except ValueError:
        raise RunError(f"--hidden takes sizes like 512 or 128,64; received {text!r}") from None
