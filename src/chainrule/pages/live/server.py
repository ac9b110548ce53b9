"""Pages served to this machine's own browser: a starlette app that answers nobody else.

It listens on 127.0.0.1; requests need its Host, sockets its Origin, and both the token that was
drawn at the start and stands in the address. Messages are JSON of bounded size; what a handler
refuses is told in the page and ends nothing.
"""

from __future__ import annotations

import hmac
import json
import secrets
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from ...errors import ChainruleError, UnsupportedError

HOST = "127.0.0.1"
LARGEST_MESSAGE = 2 * 2**20
SESSIONS = 8
TRIES = 20
"""Ports that are tried when the one asked for is taken."""
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
Handler = Callable[[Any, Callable[[Any], Awaitable[None]]], Awaitable[None]]
"""Is given a socket and what sends plain data through it; it ends when the socket closes."""


def missing(error: ImportError) -> UnsupportedError:
    """The error where the libraries of the extra are not there."""
    return UnsupportedError(
        f"serving pages needs starlette and uvicorn: pip install 'chainrule[serve]' ({error})"
    )


def app(page: Callable[[], str], handler: Handler, token: str, port: int) -> Any:
    """The application: the page at /, the handler at /socket."""
    try:
        from starlette.applications import Starlette
        from starlette.requests import Request
        from starlette.responses import HTMLResponse, PlainTextResponse
        from starlette.routing import Route, WebSocketRoute
        from starlette.websockets import WebSocketDisconnect
    except ImportError as error:
        raise missing(error) from error
    hosts = {f"{HOST}:{port}", f"localhost:{port}"}
    open_sockets = 0

    def right(given: Any) -> bool:
        """Whether a request is of this page: it has the token, and names this host."""
        told = given.query_params.get("token", "")
        return given.headers.get("host", "") in hosts and hmac.compare_digest(
            told.encode(), token.encode()
        )

    async def index(request: Request) -> Any:
        if not right(request):
            return PlainTextResponse("open the address that the command printed\n", 403)
        headers = {
            "Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
        }  # fmt: skip
        return HTMLResponse(page(), headers=headers)

    async def connect(ws: Any) -> None:
        nonlocal open_sockets
        origin = ws.headers.get("origin", "").removeprefix("http://")
        if not right(ws) or origin not in hosts or open_sockets >= SESSIONS:
            await ws.close(code=4403)
            return
        await ws.accept()
        open_sockets += 1

        async def send(data: Any) -> None:
            await ws.send_text(json.dumps(data))

        try:
            await handler(ws, send)
        except WebSocketDisconnect:
            return  # the page was closed
        finally:
            open_sockets -= 1

    return Starlette(routes=[Route("/", index), WebSocketRoute("/socket", connect)])


async def receive(ws: Any) -> Any:
    """The next message, decoded; ValueError for what is no JSON or too long."""
    text = await ws.receive_text()
    if len(text) > LARGEST_MESSAGE:
        raise ValueError(f"a message has at most {LARGEST_MESSAGE:,} characters")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("the message is nested too deep") from error


async def told(error: Exception, send: Callable[[Any], Awaitable[None]]) -> None:
    """Tell the page what went wrong."""
    await send({"error": str(error)})


def bound(wanted: int) -> socket.socket:
    """A socket that listens on the port, or on the next one that is free.

    It listens before the address is told, so whoever opens that at once is answered.
    """
    for port in range(wanted, min(wanted + TRIES, 65536)):
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
            listening.listen()
        except OSError:
            listening.close()
            continue
        return listening
    raise ChainruleError(f"no port is free from {wanted} to {wanted + TRIES - 1}: give another")


def _server(
    page: Callable[[], str], handler: Handler, port: int, say: Callable[[str], None]
) -> tuple[Callable[[], None], Callable[[], None], str]:
    """What runs a server and what ends it, and its address, which `say` is told."""
    try:
        import uvicorn
    except ImportError as error:
        raise missing(error) from error
    token = secrets.token_urlsafe(16)
    with ExitStack() as closing:
        listening = closing.enter_context(bound(port))
        chosen = listening.getsockname()[1]
        application = app(page, handler, token, chosen)
        closing.pop_all()
    if chosen != port:
        say(f"port {port} is taken, {chosen} is used")
    server = uvicorn.Server(uvicorn.Config(
        application, log_level="warning", ws_max_size=LARGEST_MESSAGE, timeout_graceful_shutdown=2,
    ))  # fmt: skip

    def run() -> None:
        with listening:
            server.run(sockets=[listening])

    def end() -> None:
        server.should_exit = True

    address = f"http://{HOST}:{chosen}/?token={token}"
    say(f"open {address}   (Ctrl-C ends)")
    return run, end, address


def serve(
    page: Callable[[], str], handler: Handler, port: int, say: Callable[[str], None],
    show: bool = False,
) -> None:  # fmt: skip
    """Serve until Ctrl-C. `say` is told the address, `show` opens it."""
    run, _, address = _server(page, handler, port, say)
    if show:
        import webbrowser

        webbrowser.open(address)
    run()


@contextmanager
def serving(
    page: Callable[[], str], handler: Handler, port: int, say: Callable[[str], None]
) -> Iterator[Callable[[], None]]:
    """Serve beside what else this process does; yields what waits until Ctrl-C."""
    run, end, _ = _server(page, handler, port, say)
    thread = threading.Thread(target=run, name="chainrule-pages", daemon=True)
    thread.start()
    try:
        yield thread.join
    finally:
        end()
        thread.join(5)
