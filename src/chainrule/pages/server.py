"""Serving pages to a browser on this machine, and to nothing else.

The server listens on 127.0.0.1. Every address starts with a token that is drawn at random when it
starts; requests must name this host (so no other name can be pointed here) and, where a browser
says which page asks, that page must be one of ours. Needs starlette and uvicorn
(`pip install "chainrule[serve]"`).
"""

from __future__ import annotations

import secrets
import socket
import threading
import webbrowser
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from ..errors import ChainruleError, DataError, UnsupportedError
from ..explain import explorer
from ..explain.picture import escape

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.routing import BaseRoute

HOST = "127.0.0.1"
TRIES = 50
"""So many ports from the wanted one on are tried."""
LARGEST = 2 * 2**20
"""Bytes of a message from a page."""
Scope = dict[str, Any]
App = Callable[..., Awaitable[None]]
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src data:; "
    "connect-src 'self' ws://{host}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "x-content-type-options": "nosniff", "referrer-policy": "no-referrer",
    "cache-control": "no-store", "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin", "x-frame-options": "DENY",
}  # fmt: skip


def needed() -> None:
    """UnsupportedError with what to install, if the packages for serving are not there."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
        import websockets  # noqa: F401
    except ImportError as error:
        raise UnsupportedError(
            f'live pages need the package {error.name}: pip install "chainrule[serve]"'
        ) from None


def listen(port: int) -> socket.socket:
    """A socket on 127.0.0.1: on the port, or the next one that is free; 0 is any.

    Raises DataError if there is none.
    """
    if not 0 <= port < 65536:
        raise DataError(f"a port goes from 0 to 65535, received {port}")
    for wanted in range(port, min(port + TRIES, 65536)) if port else (0,):
        found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            found.bind((HOST, wanted))
            found.listen(32)  # only who listens has it: another may bind it, too
            return found
        except OSError:
            found.close()
    raise DataError(f"no free port from {port} to {port + TRIES - 1}: name another with --port")


class Guard:
    """Lets through what names the right host, comes from our pages, and knows the token.

    All else is refused: 421 another host, 403 another origin, 404 no token. The socket of a page
    must say its origin; browsers always do.
    """

    def __init__(self, app: App, token: str, port: int) -> None:
        self.app, self.token = app, token
        self.hosts = frozenset((f"{HOST}:{port}", f"localhost:{port}"))
        self.origins = frozenset(f"http://{host}" for host in self.hosts)

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        given: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            given.setdefault(name, []).append(value)
        status = self.refused(scope, given)
        if status:
            await _refuse(scope, receive, send, status)
            return
        prefix = f"/{self.token}"
        scope = {**scope, "path": scope["path"].removeprefix(prefix) or "/", "raw_path": b"",
                 "state": {"host": given[b"host"][0].decode("ascii")}}  # fmt: skip
        await self.app(scope, receive, send)

    def refused(self, scope: Scope, given: dict[bytes, list[bytes]]) -> int:
        """The status to refuse with, 0 for none."""

        def only(name: bytes) -> str | None:
            values = given.get(name, [])
            return values[0].decode("latin-1") if len(values) == 1 else None

        if only(b"host") not in self.hosts:
            return 421
        origin = only(b"origin")
        if (b"origin" in given or scope["type"] == "websocket") and origin not in self.origins:
            return 403
        first = scope["path"].split("/")[1:2]
        said = first[0] if first else ""
        return 0 if secrets.compare_digest(said.encode(), self.token.encode()) else 404


async def _refuse(scope: Scope, receive: Any, send: Any, status: int) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 4000 + status - 400, "reason": ""})
        return
    body = {421: b"another host", 403: b"another origin", 404: b"not found"}[status]
    headers = [(b"content-type", b"text/plain"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


# -- pages -------------------------------------------------------------------------------------


@cache
def text_of(name: str) -> str:
    """A file of this package, or of the explorer, as text."""
    if name == "explorer.js":
        return explorer.module()
    if name == "explorer.css":
        return explorer.style()
    return files(__package__).joinpath(name).read_text("utf-8")


def shell(title: str, styles: Sequence[str], scripts: Sequence[str], body: str) -> str:
    """A page whose styles and scripts are files of this server. `body` is HTML, made by us."""
    links = "".join(f'<link rel="stylesheet" href="{escape(s)}">' for s in styles)
    modules = "".join(f'<script type="module" src="{escape(s)}"></script>' for s in scripts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title>{links}</head>'
        f"<body>{body}{modules}</body></html>\n"
    )


def application(
    page: Callable[[], str], names: Sequence[str], socket: Callable[[Any], Awaitable[None]],
    token: str, port: int, lifespan: Any = None,
) -> Starlette:  # fmt: skip
    """The app of a page, of the files it names, and of the socket it talks through."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route, WebSocketRoute

    def sent(request: Request, text: str, kind: str) -> Response:
        policy = POLICY.format(host=request.scope["state"]["host"])
        headers = {**HEADERS, "content-security-policy": policy}
        return Response(text, media_type=kind, headers=headers)

    async def root(request: Request) -> Response:
        return sent(request, page(), "text/html")

    def file(name: str) -> Callable[[Request], Awaitable[Response]]:
        kind = "text/javascript" if name.endswith(".js") else "text/css"

        async def answer(request: Request) -> Response:
            return sent(request, text_of(name), kind)

        return answer

    routes: list[BaseRoute] = [
        Route("/", root),
        *(Route(f"/{name}", file(name)) for name in names),
        WebSocketRoute("/socket", socket),
    ]
    guard = Middleware(Guard, token=token, port=port)  # type: ignore[arg-type]
    return Starlette(routes=routes, middleware=[guard], lifespan=lifespan)


# -- running -----------------------------------------------------------------------------------

Make = Callable[[str, int], Any]
"""From a token and a port to an app."""


class Server:
    """A server on a socket of its own; `address` is what to open."""

    def __init__(self, make: Make, port: int) -> None:
        needed()
        import uvicorn

        self.wanted = port
        self.socket = listen(port)
        self.port = int(self.socket.getsockname()[1])
        token = secrets.token_urlsafe(18)
        self.address = f"http://{HOST}:{self.port}/{token}/"
        self.server = uvicorn.Server(
            uvicorn.Config(
                make(token, self.port), log_level="critical", access_log=False, lifespan="on",
                ws="websockets-sansio", ws_max_size=LARGEST, ws_per_message_deflate=False,
                timeout_graceful_shutdown=1, server_header=False, proxy_headers=False,
            )
        )  # fmt: skip

    def said(self, what: str) -> str:
        """The lines to print when it starts."""
        taken = f"port {self.wanted} is taken, so this is port {self.port}\n"
        return f"{taken if self.wanted not in (0, self.port) else ''}{what}: {self.address}"

    def run(self) -> None:
        """Serve until Ctrl-C."""
        try:
            self.server.run(sockets=[self.socket])
        except KeyboardInterrupt:  # uvicorn raises it again once all is closed
            pass
        finally:
            self.socket.close()

    @contextmanager
    def beside(self) -> Iterator[Server]:
        """Serve in a thread of its own while a block runs."""
        thread = threading.Thread(target=self.run, name="chainrule-server", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.server.should_exit = True
            thread.join(10)


def serve(make: Make, what: str, port: int, open_it: bool, say: Callable[[str], None]) -> None:
    """Serve an app until Ctrl-C, and say where it is; `open_it` opens it in the browser."""
    server = Server(make, port)
    say(server.said(what))
    say("Ctrl-C ends it")
    if open_it:
        threading.Thread(target=_open, args=(server.address,), daemon=True).start()
    server.run()
    say("\nended")


def _open(address: str) -> None:
    """Open an address in the browser, once somebody listens there (the socket does already)."""
    webbrowser.open(address)


def problem(error: BaseException) -> str:
    """What a page is told of an error: ours as they are, others by their kind."""
    if isinstance(error, ChainruleError):
        return str(error)
    return f"something went wrong in chainrule: {type(error).__name__}: {error!s:.300}"
