"""The console of several programs: one page for all of them.

A page may only ask the server that it comes from. This server therefore passes questions on to the administration ports
of the programs: to those alone, reading pages alone, and with deadlines. The laptop mesh runs it, and so does
`waypoint console` for pods of a cluster.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from l4.admin import Address, Page
from l4.aiohttp import web
from l4.asking.admin import Admin, CannotAsk
from l4.net.listener import bind
from l4.net.visits import VisitServer
from l4.partial import LACKS
from l4.web_pages import serve_own_pages_only
from waypoint.console.page import (
    CONSOLE_PATH,
    PROGRAMS_PATH,
    Program,
    console_page,
    programs_json,
    to_console,
)

MAX_VISITS = 64
"""Connections of browsers, of which each opens at most six."""
SILENCE_SECONDS = 5.0
"""Time limit for each part of a program's answer."""
STREAM_SILENCE_SECONDS = 15.0
"""The same for a stream, in which a waypoint says every five seconds that it is alive, and rates once per interval."""
WRITE_SECONDS = 10.0
"""Time limit for each write to a browser."""
_PAGES = frozenset(
    {"traffic", "config_dump", "explain", "status", "problems"}
    | {"routes", "policies", "endpoints", "connections", "certificates"}
)
_STREAMS = frozenset({"tap", "top"})
"""Pages whose answer lasts as long as the browser listens. The waypoints limit their number."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A program that the console asks. See `Program` for the rest."""

    name: str
    kind: str
    workload: str
    admin: Admin


class Console:
    """Serves the console from `start` to `close`. `programs` returns the programs that run now."""

    def __init__(self, programs: Callable[[], Sequence[Asked]]) -> None:
        self._asked = programs
        app = web.Application(middlewares=[self._visited])
        serve_own_pages_only(app)
        app.router.add_get("/", to_console)
        app.router.add_get("/console", to_console)
        app.router.add_get(CONSOLE_PATH, console_page)
        app.router.add_get(PROGRAMS_PATH, self._programs)
        app.router.add_get("/programs/{number:[0-9]{1,4}}/{page}", self._page)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        self._server: VisitServer | None = None

    async def start(self, address: Address) -> Address:
        """Open the port and return its address. Raises CannotListen."""
        sock = bind(*address)
        await self._runner.setup()
        assert self._runner.server is not None
        self._server = VisitServer(sock, self._runner.server, MAX_VISITS)
        return self._server.address

    async def close(self) -> None:
        if self._server is not None:
            self._server.abort()
        await self._runner.cleanup()

    @web.middleware
    async def _visited(self, request: web.Request, handler: Page) -> web.StreamResponse:
        """Handle one request per connection, as the operator ports do (`l4.net.visits`)."""
        assert self._server is not None
        self._server.asked(request.transport)
        response = await handler(request)
        response.force_close()
        return response

    async def _programs(self, _: web.Request) -> web.Response:
        asked = self._asked()
        return programs_json([Program(it.name, it.kind, it.workload, f"/programs/{n}/") for n, it in enumerate(asked)])

    async def _page(self, request: web.Request) -> web.StreamResponse:
        """Pass a question on to a program, and its answer back piece by piece.

        An answer that breaks off ends without an end, which tells the browser that it is not whole.
        """
        assert self._server is not None
        asked, number, page = self._asked(), int(request.match_info["number"]), request.match_info["page"]
        if number >= len(asked) or page not in _PAGES | _STREAMS:
            raise web.HTTPNotFound(text="the console asks the programs of this mesh for no such page\n")
        silence = SILENCE_SECONDS
        if page in _STREAMS:
            self._server.streams(request.transport)
            silence = STREAM_SILENCE_SECONDS
        response = web.StreamResponse()
        response.force_close()
        try:
            async with asked[number].admin.opened(f"/{page}", list(request.query.items()), silence) as answer:
                response.set_status(answer.status)
                response.content_type = answer.content_type
                if (lack := answer.headers.get(LACKS)) is not None:
                    response.headers[LACKS] = lack
                await response.prepare(request)
                async for piece in answer.content.iter_any():
                    async with asyncio.timeout(WRITE_SECONDS):
                        await response.write(piece)
                await response.write_eof()
        except CannotAsk as error:
            if not response.prepared:
                raise web.HTTPBadGateway(text=f"{error}\n") from None
            if request.transport is not None:
                request.transport.abort()
        return response
