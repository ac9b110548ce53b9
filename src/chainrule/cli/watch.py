"""`chainrule watch`: the report of a run, growing while it trains."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

PORT = 8578


def watch(
    folder: Annotated[Path, typer.Argument(help="The run folder.", metavar="RUN")],
    port: Annotated[int, typer.Option(help="The port to listen on.", min=1, max=65535)] = PORT,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Show a run in the browser while it trains, here or in another terminal.

    Listens on this machine only; a run that is not there yet is waited for.
    """
    from ..pages.live.server import serve
    from ..pages.live.watch import handle, watched

    serve(partial(watched, folder), partial(handle, folder=folder), port, typer.echo, open_it)


def watching(folder: Path) -> AbstractContextManager[Callable[[], None]]:
    """The same beside a training of this process; yields what waits until Ctrl-C."""
    from ..pages.live.server import serving
    from ..pages.live.watch import handle, watched

    return serving(partial(watched, folder), partial(handle, folder=folder), PORT, typer.echo)
