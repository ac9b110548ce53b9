"""The commands and how their errors are shown."""

from __future__ import annotations

import typer
from rich.console import Console

from ..errors import ChainruleError
from . import cache, evaluate, explain, play, predict, report, runs, sample, train, watch

STOPPED, READER_GONE = 130, 141

app = typer.Typer(
    name="chainrule",
    help="Neural networks you can see through: train, evaluate, explain.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("train")(train.train)
app.command("predict")(predict.predict)
app.command("evaluate")(evaluate.evaluate)
app.command("sample")(sample.sample)
app.command("report")(report.report)
app.command("watch")(watch.watch)
app.command("play")(play.play)
app.command("runs")(runs.runs)
app.command("cache")(cache.cache)
app.command("explain", context_settings={"ignore_unknown_options": True})(explain.explain)


@app.callback(invoke_without_command=True)
def about(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
) -> None:
    """Neural networks you can see through: train, evaluate, explain."""
    if version:
        from .. import __version__

        typer.echo(f"chainrule {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


def run(arguments: list[str] | None = None) -> int:
    """Run a command line; the exit status. What went wrong is one line on stderr.

    0 done, 1 the data or the run cannot be used, 2 the command line cannot be read, 130 Ctrl-C.
    """
    status, problem = _status(arguments)
    if status == STOPPED:
        problem = "stopped"
    if problem:
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        console.print(problem, style=None if status == STOPPED else "red", markup=False)
    return status


def _status(arguments: list[str] | None) -> tuple[int, str]:
    """The exit status of a command line, and what went wrong."""
    try:
        status = app(arguments, prog_name="chainrule", standalone_mode=False)
        return (status if isinstance(status, int) else 0), ""
    except SystemExit:  # the reader of our output is gone
        return READER_GONE, ""
    except (KeyboardInterrupt, typer.Abort):
        return STOPPED, ""
    except MemoryError as error:
        return 1, f"error: not enough memory: {error or 'use smaller layers or less data'}"
    except OSError as error:
        return 1, f"error: {error.strerror or error}: {error.filename or 'the output'}"
    except ChainruleError as error:
        return 1, f"error: {error}"
    except Exception as error:
        # what the parser of the command line raises; it has no public name for all of it
        if not hasattr(error, "format_message"):
            raise
        command = getattr(getattr(error, "ctx", None), "command_path", "chainrule")
        return 2, f"error: {error.format_message().rstrip('.')}; see {command} --help"
