"""The playground as an app: a page, a socket, and a thread for each session.

The page sends messages (`playground_messages`), the thread answers with the state after each
change and with frames while training. A frame is sent when the page has seen the one before.
"""

from __future__ import annotations

import asyncio
import json
import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from . import playground_data as data
from .playground import Session
from .playground_messages import FEATURES, KINDS, MOST_LAYERS, MOST_UNITS, Message, parse
from .server import application, problem, shell, text_of
from ..train.options import LOSSES, OPTIMIZERS

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.websockets import WebSocket

SESSIONS = 8
FRAME, SLICE, LOOK = 1 / 15, 1 / 30, 1.0
"""Seconds between frames, of training at a time, and between diagnoses."""
WAITING = 64
"""Messages of a page that may wait to be read."""
CROWDED = 4429
FILES = ("page.css", "explorer.css", "play.css", "explorer.js", "play.js")
Send = Callable[[dict[str, Any]], None]


class Worker:
    """A session in a thread of its own. `send` is called in that thread."""

    def __init__(self, session: Session, send: Send) -> None:
        self.session, self.send = session, send
        self.messages: queue.Queue[Message | None] = queue.Queue()
        self.thread = threading.Thread(target=self._run, name="chainrule-play", daemon=True)
        self.frames = self.seen = 0
        self.speed = 0.0
        self.looked = self.sent = self.due = -1e9
        self.looked_at: Any = None
        self.told = -1
        self.changed = True
        self.began, self.done = 0.0, 0

    def start(self) -> None:
        self.thread.start()

    def stop(self) -> None:
        """Let the thread end; it does so after the slice of training that is under way."""
        self.messages.put(None)

    def _run(self) -> None:
        while True:
            try:
                if not self._turn():
                    return
            except Exception as error:  # of any kind: the page is told, and the session goes on
                self.session.playing = False
                self.changed = True
                self.send({"type": "error", "text": problem(error)})

    def _turn(self) -> bool:
        """Read what came, train for a moment, show it. False if it is over."""
        patience = self._patience()
        try:
            message = self.messages.get(timeout=patience)
            while message is not None:
                self._do(message)
                message = self.messages.get_nowait()
            return False
        except queue.Empty:
            pass
        if self.session.playing:
            self._train()
        self._show()
        return True

    def _patience(self) -> float | None:
        """How long to wait for a message: until something is to be done; None is for ever."""
        if self.session.playing:
            return min(max(self.due - time.perf_counter(), 1e-4), FRAME)
        if self.changed:
            return 1e-4 if self.seen >= self.frames else FRAME
        return LOOK / 2 if self.looked_at != self._now() else None

    def _now(self) -> tuple[int, int]:
        return self.session.version, self.session.updates

    def _do(self, message: Message) -> None:
        if message.do == "seen":
            self.seen = max(self.seen, message.fields["frame"])
            return
        self.changed = True
        before = self.session.playing
        try:
            answer = self.session.do(message)
        except DataError as error:
            self.send({"type": "error", "text": str(error)})
            return
        if self.session.playing and not before:
            self.due = self.began = time.perf_counter()
            self.done, self.speed = 0, 0.0
        if answer is not None:
            self.send(answer)

    def _train(self) -> None:
        """The epochs that are due by now; at full pace, as many as a slice holds."""
        pace, now = self.session.settings.pace, time.perf_counter()
        if pace == 0:
            done = self.session.run(float("inf"), SLICE)
        elif now < self.due:
            return
        else:
            done = self.session.run(int((now - self.due) * pace) + 1, SLICE)
            self.due = max(self.due + done / pace, now - 0.5)
        self.done += done
        spent = time.perf_counter() - self.began
        if spent > 0.5:
            self.speed = self.done / spent
            self.began, self.done = time.perf_counter(), 0
        self.changed = self.changed or done > 0

    def _show(self) -> None:
        """The state if it is another one, and a frame if the page has seen the last."""
        now = time.perf_counter()
        session = self.session
        if self.told != session.version:
            self.told = session.version
            self.send(session.state())
        ready = self.seen >= self.frames or now - self.sent > 5
        if self.changed and ready and (now - self.sent >= FRAME or not session.playing):
            self.frames += 1
            self.changed, self.sent = False, now
            speed = self.speed if session.playing else 0.0
            self.send({**session.frame(), "frame": self.frames, "speed": round(speed, 1)})
        if self.looked_at != self._now() and now - self.looked >= LOOK:
            self.looked, self.looked_at = now, self._now()
            self.send(session.findings())


def known() -> dict[str, Any]:
    """What the page offers to choose from."""
    return {
        "presets": list(data.PRESETS), "features": list(FEATURES), "activations": list(KINDS),
        "losses": list(LOSSES), "optimizers": list(OPTIMIZERS), "layers": MOST_LAYERS,
        "units": MOST_UNITS, "points": data.MOST_POINTS, "classes": data.MOST_CLASSES,
        "csv": data.MOST_BYTES,
    }  # fmt: skip


class Playground:
    """The app: at most `SESSIONS` pages at a time, each with a session of its own."""

    def __init__(self, points: data.Points | None = None) -> None:
        self.points, self.open = points, 0

    def __call__(self, token: str, port: int) -> Starlette:
        return application(self.page, FILES, self.socket, token, port)

    def page(self) -> str:
        styles = [name for name in FILES if name.endswith(".css")]
        return shell("chainrule playground", styles, ["play.js"], text_of("play.html"))

    async def socket(self, page: WebSocket) -> None:
        await page.accept()
        if self.open >= SESSIONS:
            text = f"{SESSIONS} playgrounds are open already: close one, and reload this page"
            await page.send_text(json.dumps({"type": "error", "text": text}))
            await page.close(CROWDED)
            return
        self.open += 1
        try:
            await self._talk(page)
        finally:
            self.open -= 1

    async def _talk(self, page: WebSocket) -> None:
        """Hand messages to a worker, and what it sends to the page, until one of them ends."""
        from starlette.websockets import WebSocketDisconnect

        loop = asyncio.get_running_loop()
        outgoing: asyncio.Queue[str] = asyncio.Queue()

        def send(message: dict[str, Any]) -> None:
            text = json.dumps(message, ensure_ascii=False, allow_nan=False)
            if not loop.is_closed():
                loop.call_soon_threadsafe(outgoing.put_nowait, text)

        async def write() -> None:
            while True:
                await page.send_text(await outgoing.get())

        send({"type": "hello", **known()})
        worker = Worker(Session(self.points), send)
        worker.start()
        writer = asyncio.create_task(write())
        try:
            while True:
                received = await page.receive()
                if received["type"] == "websocket.disconnect":
                    return
                self._take(worker, received.get("text"), send)
                while worker.messages.qsize() > WAITING:
                    await asyncio.sleep(0.02)
        except WebSocketDisconnect:
            return
        finally:
            worker.stop()
            writer.cancel()

    def _take(self, worker: Worker, text: str | None, send: Send) -> None:
        try:
            if text is None:
                raise DataError("a message is text, received bytes")
            worker.messages.put(parse(text))
        except DataError as error:
            send({"type": "error", "text": str(error)})
