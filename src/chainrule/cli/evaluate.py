"""`chainrule evaluate`: how good a run is on data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

WORDS = {
    "accuracy": ("accuracy", "{:.2%}"), "r2": ("R²", "{:.4f}"), "rmse": ("RMSE", "{:.6g}"),
    "mae": ("MAE", "{:.6g}"), "nats": ("nats a character", "{:.4f}"),
    "bits": ("bits a character", "{:.4f}"),
}  # fmt: skip


def evaluate(
    run: Annotated[Path, typer.Argument(help="The run folder that `chainrule train` wrote.")],
    data: Annotated[
        str | None,
        typer.Argument(help="A table, an .npz file, a folder of pictures, a text, digits, mnist "
                       "or fashion-mnist; by default the run's own test part."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:  # fmt: skip
    """Measure a run on data: accuracy and a table of the classes, errors, or nats a character.

    Examples:

    chainrule evaluate runs/digits-seed-0

    chainrule evaluate runs/houses-seed-0 more-houses.csv --json
    """
    from ..train import load_run
    from ..train.report import report

    found = report(load_run(run), data)
    if as_json:
        typer.echo(json.dumps(found.json(), indent=1))
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{run} on {found.data}: {found.examples:,} examples")
    for name, value in found.measures.items():
        title, form = WORDS[name]
        console.print(f"{title}: {form.format(value) if value == value else 'not defined'}")
    for table in found.tables():
        console.print()
        console.print(table)
