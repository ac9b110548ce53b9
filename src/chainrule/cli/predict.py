"""`chainrule predict`: use a trained run on new examples."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

COLUMN = "prediction"
HEADER = rb"(file,)?prediction\n|(file,)?prediction_0(,prediction_[0-9]+)*\n"


def predict(
    run: Annotated[Path, typer.Argument(help="The run folder that `chainrule train` wrote.")],
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="A table with the columns trained on, an .npz file "
                       "with inputs x, or pictures and folders of them."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Write the predictions here instead of printing them.")
    ] = None,
) -> None:  # fmt: skip
    """Print a prediction for each row of a table, each example of an array, or each picture.

    Examples:

    chainrule predict runs/houses-seed-0 new.csv

    chainrule predict runs/animals-seed-0 cat.png photos/ --out predictions.csv
    """
    from ..errors import RunError
    from ..files import write_text
    from ..train import load_run
    from ..train import predict as rows_of

    if out is not None and any(out.exists() and f.exists() and out.samefile(f) for f in files):
        raise RunError(f"--out {out} is the file to predict from: give another name")
    if out is not None and out.is_file() and not _holds_predictions(out):
        raise RunError(f"--out {out} is there and holds no predictions: give another name")
    rows = rows_of(load_run(run), files)
    lines = [rows[0] if rows else [COLUMN], *(row.values() for row in rows)]
    text = "".join(",".join(map(_cell, line)) + "\n" for line in lines)
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text(out, text)
        typer.echo(f"{len(rows)} predictions written to {out}")


def _holds_predictions(file: Path) -> bool:
    """Whether a file is what an earlier call wrote, which may be replaced."""
    with open(file, "rb") as content:
        start = content.readline(100_000)
    return not start or re.fullmatch(HEADER, start) is not None


def _cell(text: str) -> str:
    """A CSV cell: quoted where it must be."""
    if any(c in text for c in ',"\n\r'):
        return '"' + text.replace('"', '""') + '"'
    return text
