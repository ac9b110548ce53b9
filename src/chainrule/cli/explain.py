"""`chainrule explain`: every gate of an expression, with its gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..errors import DataError


def explain(
    expression: Annotated[str, typer.Argument(help='An expression, as "(x + y) * z".')],
    values: Annotated[
        list[str] | None, typer.Argument(help="A value for each name, as x=-2 y=5 z=-4.")
    ] = None,
    svg: Annotated[
        Path | None, typer.Option(help="Also draw the graph into this SVG file.")
    ] = None,
) -> None:
    """Print each gate of an expression: value, upstream, local and downstream gradients."""
    from ..explain import evaluate, show, table
    from ..files import write_text

    result, names = evaluate(expression, _values(values or []))
    Console(highlight=False).print(table(result, names))
    if svg is not None:
        write_text(svg, show(result, names=names).svg)
        typer.echo(f"picture written to {svg}")


def _values(pairs: list[str]) -> dict[str, float]:
    """{"x": -2.0} of ["x=-2"]."""
    found: dict[str, float] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise DataError(f"give values as name=number, for example x=-2; received {pair!r}")
        if name in found:
            raise DataError(f"{name} is given twice")
        try:
            found[name] = float(text)
        except ValueError:
            raise DataError(f"the value of {name} is not a number: {text!r}") from None
    return found
