"""`chainrule play`: a playground in the browser, with the engine behind it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

PORT = 8577


def play(
    table: Annotated[
        Path | None,
        typer.Argument(help="A CSV file: two columns of numbers, then a class.", metavar="[CSV]"),
    ] = None,
    port: Annotated[int, typer.Option(help="The port to listen on.", min=1, max=65535)] = PORT,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Draw data, build a network, train it, and watch boundary, units, weights and gradients.

    Listens on this machine only. Example: chainrule play flowers.csv --open
    """
    from ..data.files import read_bytes
    from ..errors import DataError
    from ..pages.live.play import handle, play_page
    from ..pages.live.server import serve
    from ..pages.live.session import Session

    text = None
    if table is not None:
        try:
            text = read_bytes(table).decode()
        except UnicodeDecodeError as error:
            raise DataError(f"{table}: not UTF-8 text (byte {error.start})") from error
        Session().message({"do": "csv", "text": text})  # what is wrong with it is said now

    def start() -> Session:
        session = Session()
        if text is not None:
            session.message({"do": "csv", "text": text})
        return session

    serve(play_page, partial(handle, start=start), port, typer.echo, open_it)
