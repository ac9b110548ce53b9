"""The commands and how their errors are shown."""

from __future__ import annotations

import typer
from rich.console import Console

from ..errors import ChainruleError
from . import explain, predict, train

app = typer.Typer(
    name="chainrule",
    help="Neural networks you can see through: train, predict, explain.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("train")(train.train)
app.command("predict")(predict.predict)
app.command("explain", context_settings={"ignore_unknown_options": True})(explain.explain)


@app.callback(invoke_without_command=True)
def about(
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
) -> None:
    """Neural networks you can see through: train, predict, explain."""
    if version:
        from .. import __version__

        typer.echo(f"chainrule {__version__}")
        raise typer.Exit


def run(arguments: list[str] | None = None) -> int:
    """Run a command line; the exit status."""
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        app(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except KeyboardInterrupt:
        errors.print("stopped")
        return 130
    except BrokenPipeError:
        return 141
    except (ChainruleError, OSError, MemoryError) as error:
        errors.print(f"error: {error}", style="red", markup=False)
        return 1
    return 0
