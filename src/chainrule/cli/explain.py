"""`chainrule explain`: every gate of an expression or of a script's result, with its gradients."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from ..errors import DataError

if TYPE_CHECKING:
    from ..ops.tensor import Tensor

ENTRY = re.compile(r"(?P<name>[^\[\]]+)(?:\[(?P<index>[-\d,\s]*)\])?")


def explain(
    expression: Annotated[
        str,
        typer.Argument(help='An expression, as "(x + y) * z", or a function, as script.py:loss.'),
    ],
    values: Annotated[
        list[str] | None, typer.Argument(help="A value for each name, as x=-2 y=5 z=-4.")
    ] = None,
    svg: Annotated[
        Path | None, typer.Option(help="Also draw the graph into this SVG file.")
    ] = None,
    walk: Annotated[
        bool, typer.Option("--walk", help="Step through it with keys; in a pipe, print the steps.")
    ] = False,
    paths: Annotated[
        str | None, typer.Option(metavar="NAME", help="The paths of a gradient: x, or W[0,3].")
    ] = None,
    why: Annotated[
        str | None, typer.Option(metavar="NAME", help="Why a gradient is zero or missing.")
    ] = None,
    derive: Annotated[bool, typer.Option("--derive", help="The gradients as formulas.")] = False,
) -> None:
    """Print each gate of an expression: value, upstream, local and downstream gradients.

    A function in a script of yours returns the Tensor to explain; the script is run.

    Values become its variables (a list is an array: x=[1,2]), and so do its default numbers.

    Examples:

    chainrule explain "(x + y) * z" x=-2 y=5 z=-4

    chainrule explain "relu(x * w) + w" x=2 w=-1 --why x

    chainrule explain train.py:loss --paths "W[0,3]"

    chainrule explain train.py:loss --walk
    """
    from ..explain import show, table
    from ..files import write_text

    result, names = _result(expression, _pairs(values or []))
    console = Console(highlight=False)
    if walk:
        from ..explain.walk import walk as steps

        steps(result, names).run()
    if paths is not None:
        from ..explain.paths import paths as follow

        variable, index = _entry(paths, result, names)
        console.print(Text(follow(result, variable, index, names=names).text()), soft_wrap=True)
    if why is not None:
        from ..explain.why import why as ask

        variable, index = _entry(why, result, names)
        console.print(Text(str(ask(result, variable, index, names=names))), soft_wrap=True)
    if derive:
        from ..explain.derive import derive as formulas

        console.print(Text(str(formulas(result, names=names))), soft_wrap=True)
    if not walk and not derive and paths is None and why is None:
        console.print(table(result, names))
    if svg is not None:
        write_text(svg, show(result, names=names).svg)
        typer.echo(f"picture written to {svg}")


def _result(expression: str, pairs: Mapping[str, str]) -> tuple[Tensor, dict[str, Any]]:
    """The Tensor to explain, and the names of those it is computed from."""
    from ..explain import evaluate
    from .program import is_script, result_of

    if is_script(expression):
        return result_of(expression, pairs)
    result, names = evaluate(expression, {name: _number(name, t) for name, t in pairs.items()})
    return result, dict(names)


def _pairs(values: list[str]) -> dict[str, str]:
    """{"x": "-2.0"} of ["x=-2.0"]."""
    found: dict[str, str] = {}
    for pair in values:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise DataError(f"give values as name=number, for example x=-2; received {pair!r}")
        if name in found:
            raise DataError(f"{name} is given twice")
        found[name] = text
    return found


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise DataError(f"the value of {name} is not a number: {text!r}") from None


def _entry(text: str, result: Tensor, names: Mapping[str, Any]) -> tuple[Any, Any]:
    """The Tensor and the index of "W[0, 3]"; without an index the largest gradient's is taken."""
    from ..explain.gates import examine

    known = dict(names)
    if result.node is not None:
        for node, name in examine(result, names).naming.nodes.items():
            tensor = node.handle() if node.handle is not None else None
            if tensor is not None:
                known.setdefault(name, tensor)
    match = ENTRY.fullmatch(text.strip())
    numbers = (match["index"] or "") if match else ""
    digits = [part.strip() for part in numbers.split(",") if part.strip()]
    if not match or not all(re.fullmatch(r"-?\d+", d) for d in digits):
        raise DataError(f"name a variable, as W, or an entry of one, as W[0,3]; received {text!r}")
    name = match["name"].strip()
    if name not in known:
        close = get_close_matches(name, list(known), 1, 0.5)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise DataError(f"there is no {name!r} here{hint}; the names are {', '.join(known)}")
    return known[name], tuple(map(int, digits)) if match["index"] is not None else None
