"""Operator ports: metrics, readiness and administration. Only here do the proxies serve HTTP themselves.

Port numbers and paths are Istio's: `:15020/stats/prometheus`, `:15021/healthz/ready`, `127.0.0.1:15000/config_dump`.
Both programs serve all three ports, and add pages to the administration port. That port changes state without
authentication. It therefore listens on loopback by default, and rejects requests that a web page of others could make a
browser send (`l4.web_pages`).

A program may have parts with their own metrics and readiness, such as workers. The ports answer for all parts: metrics
are added up, and the program is ready when each part is.

Each port accepts few connections, each for one short request (`l4.net.visits`), from a reserve of file descriptors. The
ports thus answer even during a flood of connections.
"""

import asyncio
import errno
import gzip
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, TypeVar

import msgspec

from l4.aiohttp import web
from l4.net.descriptors import visits_per_operator_port
from l4.net.listener import CannotListen, bind
from l4.net.visits import VisitServer
from l4.partial import LACKS, begin_page
from l4.readiness import Readiness
from l4.readiness import merge as merge_readiness
from l4.telemetry.metrics import MeshMetrics
from l4.telemetry.samples import MetricsSnapshot, merge
from l4.telemetry.traffic import traffic
from l4.vitals import vitals
from l4.web_pages import serve_own_pages_only
from policies.host_port import host_port

T = TypeVar("T")

Address = tuple[str, int]
Page = Callable[[web.Request], Awaitable[web.StreamResponse]]
STREAMS: web.RequestKey[Callable[[], None]] = web.RequestKey("streams")
"""Call it in a page whose answer lasts as long as the client listens: the visit then has no time limit, and the page is
cancelled when the client has left. Such a page limits the number of its answers, and the time for each write."""

log = logging.getLogger(__name__)

METRICS_PORT = 15020
READINESS_PORT = 15021
ADMIN_PORT = 15000
CLOSE_SECONDS = 1.0
_HAND_OVER_SECONDS = 0.25
MAX_SCRAPES = 16
"""Maximum connections to the metrics port. A response can have 20 MB, which a slow client keeps in memory."""
_SCRAPING_SHARE = 0.25
"""Maximum share of time spent on rendering metrics, however frequent the scrapes."""
_GZIP = re.compile(r"(?:^|[\s,])gzip(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))", re.IGNORECASE)
_GZIP_LEVEL = 1  # 20 MB of metrics become 0.7 MB in 0.1 s; the default level takes five times as long for 0.4 MB
ANSWER_SECONDS = 5.0
"""Time limit for the answer of a program part. Prometheus waits ten seconds."""
PROBE_SECONDS = 0.8
"""Time limit for the readiness of a program part. The kubelet waits one second."""
_DRAINING = "draining"
_LEVELS = ("debug", "info", "warning", "error", "critical")
_ISTIOCTLS_LEVELS = {"warn": "warning", "trace": "debug"}


@dataclass(frozen=True, slots=True)
class OperatorAddresses:
    """Addresses of the three ports. Metrics and readiness are open to Prometheus and the kubelet on other machines."""

    metrics: Address = ("0.0.0.0", METRICS_PORT)  # noqa: S104
    readiness: Address = ("0.0.0.0", READINESS_PORT)  # noqa: S104
    admin: Address = ("127.0.0.1", ADMIN_PORT)


class PortUnavailable(Exception):
    """An operator port cannot be opened. `purpose` is metrics, readiness or admin."""

    def __init__(self, purpose: str, address: Address, error: OSError) -> None:
        self.purpose = purpose
        self.address = address
        match error.errno:
            case errno.EADDRINUSE:
                reason = "another program uses it; stop that program"
            case errno.EADDRNOTAVAIL:
                reason = "this machine does not have the address; add it"
            case _:
                reason = f"{error.strerror or error}; fix that"
        place = host_port(*address)
        super().__init__(f"{purpose} port {place} cannot be opened: {reason}, or choose another with --{purpose}")


class Part(Protocol):
    """A part of the program that has readiness and metrics of its own. It may live in another process."""

    @property
    def name(self) -> str: ...
    async def readiness(self) -> Readiness: ...
    async def metrics(self) -> MetricsSnapshot: ...


class NoAnswer(Exception):
    """A part of the program did not answer. `why` says what it did instead."""

    def __init__(self, name: str, why: str) -> None:
        self.name = name
        super().__init__(f"{name} {why}")


async def answer(name: str, waiting: Awaitable[T], seconds: float | None = None) -> T:
    """Await a part's answer for at most `seconds` (default ANSWER_SECONDS). Raises NoAnswer."""
    seconds = ANSWER_SECONDS if seconds is None else seconds
    try:
        async with asyncio.timeout(seconds):
            return await waiting
    except TimeoutError:
        raise NoAnswer(name, f"did not answer within {seconds:g} s") from None


class OperatorPorts:
    """The three operator ports, served from `start` to `close`.

    `readiness` and `metrics` belong to the process itself; `parts` add theirs. `dump` returns the content of
    `/config_dump`, without secrets. POST `/quitquitquit` calls `stop`, which returns at once. `pages` extend the
    administration port; they map a path to its description and handler. `about` says on the page `/status` what the
    program is and does. With `drain`, POST `/drain` makes the process not ready, and calls it. `on_level` learns of a
    new log level.
    """

    def __init__(
        self,
        metrics: MeshMetrics,
        pending: Iterable[str],
        dump: Callable[[], Awaitable[object]],
        stop: Callable[[], None],
        pages: Mapping[str, tuple[str, Page]] | None = None,
        parts: Sequence[Part] = (),
        about: Callable[[], Awaitable[Mapping[str, object]]] | None = None,
        drain: Callable[[], Awaitable[None]] | None = None,
        on_level: Callable[[str], None] = lambda level: None,
    ) -> None:
        self.readiness = Readiness(set(pending))
        self.addresses = OperatorAddresses()
        self._metrics = metrics
        self._dump = dump
        self._stop = stop
        self._pages = pages or {}
        self._parts = parts
        self._about = about
        self._drain = drain
        self._on_level = on_level
        self._scraping = asyncio.Lock()
        self._next_scrape = 0.0
        self._runners: list[web.AppRunner] = []
        self._servers: list[VisitServer] = []
        self._handing_over: asyncio.TimerHandle | None = None

    async def start(self, wanted: OperatorAddresses) -> None:
        """Open all three ports or none, and set `addresses` to the actual ports. Raises PortUnavailable."""
        try:
            self.addresses = OperatorAddresses(
                metrics=await self._serve("metrics", wanted.metrics, self._metrics_app()),
                readiness=await self._serve("readiness", wanted.readiness, self._readiness_app()),
                admin=await self._serve("admin", wanted.admin, self._admin_app()),
            )
        except PortUnavailable:
            await self.close()
            raise

    async def close(self) -> None:
        if self._handing_over is not None:
            self._handing_over.cancel()
        for server in self._servers:
            server.close()
            server.end_streams()
        await asyncio.gather(*(runner.cleanup() for runner in self._runners))
        for server in self._servers:
            server.abort()
        self._runners.clear()
        self._servers.clear()

    async def _serve(self, purpose: str, address: Address, app: web.Application) -> Address:
        try:
            sock = bind(*address, reuse_port=True)
        except CannotListen as error:
            raise PortUnavailable(purpose, address, error.cause) from error
        app.middlewares.insert(0, self._visited)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_SECONDS)
        await runner.setup()
        assert runner.server is not None
        most = visits_per_operator_port()
        server = VisitServer(
            sock,
            runner.server,
            min(most, MAX_SCRAPES) if purpose == "metrics" else most,
            self._metrics.count_refusal,
        )
        self._runners.append(runner)
        self._servers.append(server)
        if server.is_shared:
            log.warning(
                "another process also listens on the %s port %s:%d; each answers part of the requests until one stops. "
                "Unless this process replaces it, stop it, or choose another port with --%s",
                *(purpose, *server.address, purpose),
            )
        return server.address

    def stopping(self) -> None:
        """Report not ready from now on.

        A successor may already share our ports, or start while we drain. Shared ports are closed and left to it;
        otherwise this process keeps answering that it is not ready.
        """
        self.readiness.pending.add("stopping")
        for server in self._servers:
            if server.is_shared:
                server.close()
        self._handing_over = asyncio.get_running_loop().call_later(_HAND_OVER_SECONDS, self.stopping)

    @web.middleware
    async def _visited(self, request: web.Request, handler: Page) -> web.StreamResponse:
        """Handle one request per connection, so that no connection stays open to a process that is about to exit."""
        for server in self._servers:
            server.asked(request.transport)
        lacking = begin_page()
        request[STREAMS] = lambda: self._streams(request.transport)
        try:
            response = await handler(request)
        except NoAnswer as error:
            response = web.Response(status=503, text=f"{error}\n")
        except web.HTTPException as error:
            error.force_close()
            raise
        response.force_close()
        if lacking and not response.prepared:
            response.headers[LACKS] = "; ".join(dict.fromkeys(lacking))
        return response

    def _streams(self, transport: asyncio.BaseTransport | None) -> None:
        for server in self._servers:
            server.streams(transport)

    def _metrics_app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/stats/prometheus", self._stats)
        app.router.add_get("/metrics", self._stats)
        app.router.add_get("/healthz/ready", self._ready)
        return app

    def _readiness_app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/healthz/ready", self._ready)
        return app

    def _admin_app(self) -> web.Application:
        app = web.Application()
        serve_own_pages_only(app)
        app.router.add_get("/", self._index)
        app.router.add_get("/healthz", _alive)
        app.router.add_get("/stats", self._stats)
        app.router.add_get("/traffic", self._traffic)
        app.router.add_get("/config_dump", self._config_dump)
        app.router.add_get("/status", self._status)
        app.router.add_post("/logging", self._log_level)
        if self._drain is not None:
            app.router.add_post("/drain", self._begin_or_end_drain)
        app.router.add_post("/quitquitquit", self._quit)
        for path, (_, page) in self._pages.items():
            app.router.add_get(path, page)
        return app

    async def _stats(self, request: web.Request) -> web.Response:
        accept = request.headers.get("Accept", "")
        is_compressed = _GZIP.search(request.headers.get("Accept-Encoding", "")) is not None

        def rendered(others: Sequence[MetricsSnapshot]) -> tuple[bytes, str]:
            body, content_type = self._metrics.render(accept, others)
            return gzip.compress(body, _GZIP_LEVEL) if is_compressed else body, content_type

        body, content_type = await self._measured(rendered)
        headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        if is_compressed:
            headers["Content-Encoding"] = "gzip"
        return web.Response(body=body, headers=headers)

    async def _traffic(self, _: web.Request) -> web.Response:
        def counted(others: Sequence[MetricsSnapshot]) -> bytes:
            return msgspec.json.encode(traffic(merge((self._metrics.snapshot(), *others)), time.monotonic()))

        return web.Response(body=await self._measured(counted), content_type="application/json")

    @property
    def is_measuring(self) -> bool:
        """Whether the metrics of parts are being asked for."""
        return self._scraping.locked()

    async def _measured(self, render: Callable[[Sequence[MetricsSnapshot]], T]) -> T:
        """Render the metrics of all parts, in a thread, because 20,000 label sets would delay requests; one at a time
        and with pauses, because that thread competes with requests for the interpreter."""
        loop = asyncio.get_running_loop()
        async with self._scraping:
            await asyncio.sleep(self._next_scrape - loop.time())
            others = await asyncio.gather(*(answer(part.name, part.metrics()) for part in self._parts))
            began = loop.time()  # waiting for a part that hangs takes nothing away from requests
            rendered = await asyncio.to_thread(render, others)
            self._next_scrape = began + (loop.time() - began) / _SCRAPING_SHARE
        return rendered

    async def _whole_readiness(self) -> Readiness:
        return merge_readiness((self.readiness, *await asyncio.gather(*map(_readiness_of, self._parts))))

    async def _ready(self, _: web.Request) -> web.Response:
        readiness = await self._whole_readiness()
        concerns = "".join(f"{sentence}\n" for _, sentence in sorted(readiness.concerns.items()))
        if readiness.is_ready:
            return web.Response(text=f"ready\n{concerns}")
        pending = ", ".join(sorted(readiness.pending))
        return web.Response(status=503, text=f"not ready, pending: {pending}\n{concerns}")

    async def _status(self, _: web.Request) -> web.Response:
        readiness = await self._whole_readiness()
        found = {
            **(await self._about() if self._about is not None else {}),
            "ready": readiness.is_ready,
            "pending": sorted(readiness.pending),
            "concerns": readiness.concerns,
            "log_level": logging.getLevelName(logging.getLogger().level).lower(),
            **vitals(),
        }
        return web.json_response(found, dumps=lambda it: json.dumps(it, indent=2) + "\n")

    async def _begin_or_end_drain(self, request: web.Request) -> web.Response:
        """Not being ready keeps new clients away, and connected ones are told. Everything is still served."""
        assert self._drain is not None
        wanted = request.query.get("on", "true")
        if wanted not in ("true", "false"):
            raise web.HTTPBadRequest(text=f"on={wanted!r} is not true or false\n")
        if wanted == "false":
            self.readiness.done(_DRAINING)
            self.readiness.concern(_DRAINING, "")
            log.warning("no longer draining, through the administration port")
            return web.Response(text="no longer draining\n")
        if _DRAINING not in self.readiness.pending:
            self.readiness.pending.add(_DRAINING)
            self.readiness.concern(
                _DRAINING, f"draining since {datetime.now(UTC):%H:%M:%S} UTC: an operator asked for it"
            )
            log.warning("draining, through the administration port: not ready, and connected clients are told to leave")
        await self._drain()
        return web.Response(text="draining: not ready, and connected clients are told to leave\n")

    async def _index(self, _: web.Request) -> web.Response:
        pages = {
            "/healthz": "whether the process is alive",
            "/stats": "metrics",
            "/traffic": "the metrics of traffic as a graph: callers, services, workloads",
            "/status": "version, readiness, connections, memory, as JSON",
            "/config_dump": "the live configuration and its problems",
            "/logging": f"POST: the log level; ?level= changes it to one of {', '.join(_LEVELS)}",
            "/quitquitquit": "POST to drain and exit",
        } | {path.partition("{")[0]: shows for path, (shows, _) in self._pages.items() if shows}
        if self._drain is not None:
            pages["/drain"] = "POST to be not ready and tell connected clients to leave; ?on=false ends that"
        return web.Response(text="".join(f"{path:<16} {shows}\n" for path, shows in pages.items()))

    async def _log_level(self, request: web.Request) -> web.Response:
        """Change the log level, or only name it, as istioctl asks."""
        root, level = logging.getLogger(), request.query.get("level", "")
        if not level:
            return web.Response(text=f"log level is {logging.getLevelName(root.level).lower()}\n")
        level = _ISTIOCTLS_LEVELS.get(level, level)
        if level not in _LEVELS:
            raise web.HTTPBadRequest(
                text=f"level={level!r} is not one of {', '.join(_LEVELS)}, for the whole process\n"
            )
        root.setLevel(level.upper())
        self._on_level(level)
        log.warning("log level changed to %s through the administration port", level)
        return web.Response(text=f"log level is now {level}\n")

    async def _config_dump(self, _: web.Request) -> web.Response:
        body = await asyncio.to_thread(_rendered, [await self._dump()])
        return web.Response(body=body, content_type="application/json", charset="utf-8")

    async def _quit(self, _: web.Request) -> web.Response:
        self._stop()
        return web.Response(text="shutting down\n")


def _rendered(dumped: list[object]) -> bytes:
    """Take a dump off the list, so that this thread also frees it: many megabytes for a large mesh."""
    return (json.dumps(dumped.pop(), indent=2, default=str) + "\n").encode()


async def _readiness_of(part: Part) -> Readiness:
    """A part that does not answer is not ready."""
    try:
        return await answer(part.name, part.readiness(), PROBE_SECONDS)
    except NoAnswer as error:
        return Readiness({part.name}, {part.name: str(error)})


async def _alive(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")
