"""`chainrule predict`: use a trained run on a CSV file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HEADER = "prediction\n"


def predict(
    run: Annotated[Path, typer.Argument(help="The run folder that `chainrule train` wrote.")],
    file: Annotated[Path, typer.Argument(help="A CSV file with the columns trained on.")],
    out: Annotated[
        Path | None, typer.Option(help="Write the predictions here instead of printing them.")
    ] = None,
) -> None:
    """Print a prediction for each row of a CSV file."""
    from ..errors import RunError
    from ..files import write_text
    from ..train import load_run, predict_csv

    if out is not None and out.exists() and out.samefile(file):
        raise RunError(f"--out {out} is the file to predict from: give another name")
    if out is not None and out.is_file() and not _holds_predictions(out):
        raise RunError(f"--out {out} is there and holds no predictions: give another name")
    predictions = predict_csv(load_run(run), file)
    text = HEADER + "".join(f"{_cell(p)}\n" for p in predictions)
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text(out, text)
        typer.echo(f"{len(predictions)} predictions written to {out}")


def _holds_predictions(file: Path) -> bool:
    """Whether a file is what an earlier call wrote, which may be replaced."""
    with open(file, "rb") as content:
        return content.read(len(HEADER)) in (HEADER.encode(), b"")


def _cell(text: str) -> str:
    """A CSV cell: quoted where it must be."""
    if any(c in text for c in ',"\n\r'):
        return '"' + text.replace('"', '""') + '"'
    return text
