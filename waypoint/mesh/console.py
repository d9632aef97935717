"""The console of the laptop mesh: one page for all its proxies.

A page may only ask the server that it comes from. This server therefore passes questions on to the administration ports
of the proxies: to those alone, reading pages alone, and with deadlines.
"""

from collections.abc import Callable, Sequence

from aiohttp import ClientError, ClientSession, ClientTimeout, web

from l4.admin import Address, Page
from l4.net.listener import bind
from l4.net.visits import VisitServer
from l4.web_pages import serve_own_pages_only
from policies.host_port import host_port
from waypoint.console.page import (
    CONSOLE_PATH,
    PROGRAMS_PATH,
    Program,
    console_page,
    programs_json,
    to_console,
)
from waypoint.mesh.launches import Proxy

MAX_VISITS = 64
"""Connections of browsers, of which each opens at most six."""
CONNECT_SECONDS = 2.0
SILENCE_SECONDS = 5.0
"""Time limit for each part of a proxy's answer."""
STREAM_SILENCE_SECONDS = 15.0
"""The same for a stream, in which a waypoint says every five seconds that it is alive, and rates once per interval."""
_PAGES = frozenset(
    {"traffic", "config_dump", "explain", "status", "problems"}
    | {"routes", "policies", "endpoints", "connections", "certificates"}
)
_STREAMS = frozenset({"tap", "top"})
"""Pages whose answer lasts as long as the browser listens. The waypoints limit their number."""


class Console:
    """Serves the console from `start` to `close`. `proxies` returns the proxies that run now."""

    def __init__(self, proxies: Callable[[], Sequence[Proxy]]) -> None:
        self._proxies = proxies
        app = web.Application(middlewares=[self._visited])
        serve_own_pages_only(app)
        app.router.add_get("/", to_console)
        app.router.add_get("/console", to_console)
        app.router.add_get(CONSOLE_PATH, console_page)
        app.router.add_get(PROGRAMS_PATH, self._programs)
        app.router.add_get("/programs/{number:[0-9]{1,4}}/{page}", self._page)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        self._server: VisitServer | None = None
        self._client: ClientSession | None = None

    async def start(self, address: Address) -> Address:
        """Open the port and return its address. Raises CannotListen."""
        sock = bind(*address)
        await self._runner.setup()
        assert self._runner.server is not None
        self._client = ClientSession()
        self._server = VisitServer(sock, self._runner.server, MAX_VISITS)
        return self._server.address

    async def close(self) -> None:
        if self._server is not None:
            self._server.abort()
        await self._runner.cleanup()
        if self._client is not None:
            await self._client.close()

    @web.middleware
    async def _visited(self, request: web.Request, handler: Page) -> web.StreamResponse:
        """Handle one request per connection, as the operator ports do (`l4.net.visits`)."""
        assert self._server is not None
        self._server.asked(request.transport)
        response = await handler(request)
        response.force_close()
        return response

    async def _programs(self, _: web.Request) -> web.Response:
        proxies = self._proxies()
        return programs_json(
            [Program(it.name, it.kind, it.workload, f"/programs/{n}/") for n, it in enumerate(proxies)]
        )

    async def _page(self, request: web.Request) -> web.StreamResponse:
        """Pass a question on to a proxy, and its answer back piece by piece."""
        assert self._server is not None
        proxies, number, page = self._proxies(), int(request.match_info["number"]), request.match_info["page"]
        if number >= len(proxies) or page not in _PAGES | _STREAMS:
            raise web.HTTPNotFound(text="the console asks the proxies of this mesh for no such page\n")
        proxy = proxies[number]
        silence = SILENCE_SECONDS
        if page in _STREAMS:
            self._server.streams(request.transport)
            silence = STREAM_SILENCE_SECONDS
        try:
            return await self._passed_on(request, f"http://{host_port(*proxy.admin)}/{page}", silence)
        except (ClientError, TimeoutError) as error:
            reason = str(error) or "it did not answer in time"
            raise web.HTTPBadGateway(text=f"{proxy.name} cannot be asked: {reason}\n") from None

    async def _passed_on(self, request: web.Request, url: str, silence: float) -> web.StreamResponse:
        """Raises ClientError or TimeoutError before the answer has begun. Later, the connection ends without an end of
        the answer, which tells the browser that it is not whole."""
        assert self._client is not None
        timeout = ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=silence)
        async with self._client.get(url, params=request.query, timeout=timeout, allow_redirects=False) as answer:
            response = web.StreamResponse(status=answer.status)
            response.content_type = answer.content_type
            response.force_close()
            await response.prepare(request)
            try:
                async for piece in answer.content.iter_any():
                    await response.write(piece)
                await response.write_eof()
            except (ClientError, TimeoutError):
                if request.transport is not None:
                    request.transport.abort()
        return response
