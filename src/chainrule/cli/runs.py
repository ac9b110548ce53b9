"""`chainrule runs`: run folders in a list, or side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

# Written down, so that help starts fast; a test holds it to the columns there are.
COLUMNS = (
    "name", "data", "model", "parameters", "epochs", "validation", "test", "seconds", "state",
)  # fmt: skip
WIDE = 1000


def runs(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(help="The folder that holds the runs (runs), or two or more runs."),
    ] = None,
    sort: Annotated[str, typer.Option(help=f"A column: {', '.join(COLUMNS)}.")] = "name",
) -> None:
    """List the runs in a folder, or compare two or more.

    Examples:

    chainrule runs --sort test

    chainrule runs runs/digits-seed-0 runs/digits-seed-1
    """
    from ..train.runs import differences, find, rows

    given = list(dict.fromkeys(folders or [Path("runs")]))
    chosen = given if len(given) > 1 else find(given[0])
    listed = rows(chosen, sort)
    different = differences(given) if len(given) > 1 else []  # also refuses what is no run
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDE)  # whole lines for other programs
    if not listed:
        console.print(f"no runs in {given[0]}")
        return
    table = Table(*COLUMNS, box=None, header_style="bold")
    for row in listed:
        table.add_row(*row.cells())
    for column in table.columns[3:8]:
        column.justify = "right"
    console.print(table)
    if different:
        console.print("\ndifferences:")
        table = Table("", *map(str, given), box=None, header_style="bold")
        for line in different:
            table.add_row(*line)
        console.print(table)
    elif len(given) > 1:
        console.print("\nno differences")
