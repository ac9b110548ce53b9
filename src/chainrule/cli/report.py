"""`chainrule report`: the report of a run as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[Path, typer.Argument(help="The run folder.", metavar="RUN")],
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write report.html into a run folder: curves, mistakes, gradients, diagnosis, the graph."""
    from ..pages import report as write

    path = write(folder)
    typer.echo(f"report: {path}")
    if open_it:
        typer.launch(path.resolve().as_uri())
