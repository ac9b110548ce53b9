"""The playground as a page: the shell around `session.Session`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ...explain.explorer import script, style
from ...train.models import ACTIVATIONS
from ..page import read
from .server import receive, told
from .session import CSV_BYTES, DATA, LAYERS, OPTIMIZERS, UNITS, PlayError, Session


def play_page() -> str:
    """The page; everything in it comes through the socket."""

    def options(names: Any, chosen: str) -> str:
        return "".join(
            f'<option value="{n}"{" selected" if n == chosen else ""}>{n}</option>' for n in names
        )

    body, program = read("live/play.html"), read("live/play.js")
    for key, value in {
        "DATA": options(DATA, "ring"),
        "ACTIVATIONS": options(["none", *ACTIVATIONS], "tanh"),
        "OPTIMIZERS": options(OPTIMIZERS, "adam"),
        "LAYERS": str(LAYERS), "UNITS": str(UNITS), "BYTES": str(CSV_BYTES),
    }.items():  # fmt: skip
        body = body.replace("{{" + key + "}}", value)
        program = program.replace("{{" + key + "}}", value)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>chainrule playground</title><style>{read('page.css')}{read('live/play.css')}"
        f'{style()}</style></head><body>{body}<script type="module">{script()}{program}</script>'
        "</body></html>\n"
    )


async def handle(
    ws: Any, send: Callable[[Any], Awaitable[None]], start: Callable[[], Session]
) -> None:
    """One session: every message is followed in a thread, and answered."""
    import anyio

    session = await anyio.to_thread.run_sync(start)
    await send({"data": session.points(), **session.view()})
    while True:
        try:
            message = await receive(ws)
            await send(await anyio.to_thread.run_sync(session.message, message))
        except (PlayError, ValueError) as error:
            await told(error, send)
