"""A run's report that grows while it trains: sections that changed are sent to the page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

from ...errors import RunError
from ...explain.picture import escape
from ...train.run import CHECKPOINT, GRADIENTS, METRICS, SETTINGS, load_settings
from ...train.runs import state_of
from ..page import Section, page, read
from ..report import sections

PERIOD = 1.0
"""Seconds between two looks at the folder, at least."""
SHARE = 4
"""After a look that took some time, so many times as long is waited: training goes first."""


def content(folder: Path, known: dict[str, Any] | None = None) -> list[Section]:
    """The sections of a run as it is now; one that says what is missing if there is none yet.

    `known` keeps the test part from one look to the next.
    """
    try:
        state = state_of(load_settings(folder))
        now = Section("now", "Now", f"<p>This run is <b>{escape(state)}</b>.</p>")
        return [now, *sections(folder, known)]
    except RunError as error:
        waiting = f"<p>Waiting for a run at <code>{escape(str(folder))}</code>.</p>"
        return [Section("now", "Now", f'{waiting}<p class="soft">{escape(str(error))}</p>')]


def stamp(folder: Path) -> tuple[Any, ...]:
    """What changes when the folder does: times and sizes of its files."""
    found = []
    for name in (SETTINGS, METRICS, GRADIENTS, CHECKPOINT):
        try:
            about = (folder / name).stat()
            found.append((about.st_mtime_ns, about.st_size))
        except OSError:
            found.append((0, 0))
    return tuple(found)


def watched(folder: Path) -> str:
    """The page, as it is now."""
    return page(str(folder.name), "growing while it trains", content(folder), read("live/watch.js"))


async def handle(ws: Any, send: Callable[[Any], Awaitable[None]], folder: Path) -> None:
    """Send sections that changed, until the page closes."""
    import anyio
    from starlette.websockets import WebSocketDisconnect

    known: dict[str, str] = {}
    data: dict[str, Any] = {}
    seen: tuple[Any, ...] | None = None

    async def grow() -> None:
        nonlocal seen, known
        while True:
            began = monotonic()
            now = stamp(folder)
            if now != seen:
                found = await anyio.to_thread.run_sync(content, folder, data)
                changed = [s for s in found if known.get(s.id) != s.html]
                known = {s.id: s.html for s in found}
                order = [s.id for s in found]
                await send({"order": order, "sections": [
                    {"id": s.id, "title": s.title, "html": s.element()} for s in changed
                ]})  # fmt: skip
                seen = now
            await anyio.sleep(max(PERIOD, SHARE * (monotonic() - began)))

    async with anyio.create_task_group() as group:
        group.start_soon(grow)
        with suppress(WebSocketDisconnect):
            while True:
                await ws.receive_text()  # nothing is asked of us; it ends when the page closes
        group.cancel_scope.cancel()
