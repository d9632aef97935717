"""The pages `/tap` and `/top` of the administration port: live requests and rates, one JSON object a line.

A stream begins with a line of type `open` and lasts until the client leaves. At most `MAX_STREAMS` are open at once. A
client that does not read for `WRITE_SECONDS` is disconnected. An idle tap says `alive` now and then, which also finds
out whether the client is still there. A line of type `silent` names the workers that do not answer, and whose requests
are therefore missing, whenever these are others.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager

import msgspec

from l4.admin import STREAMS
from l4.aiohttp import web
from l4.net.descriptors import visits_per_operator_port
from waypoint.telemetry.rates import DEFAULT_GROUPING, GROUPINGS, Rates
from waypoint.telemetry.tap import Filter, InvalidFilter, Tap, Watcher

TAP_PATH = "/tap"
TAP_SHOWS = (
    "live requests, one JSON object a line; ?method= &path= &status= &slower= &source= &destination= &route= &header= "
    "select, &show= names request headers to include"
)
TOP_PATH = "/top"
TOP_SHOWS = (
    f"live rates, one JSON object each ?interval= seconds; &by={','.join(GROUPINGS)} groups; filters as for /tap"
)
MAX_STREAMS = 8
ALIVE_SECONDS = 5.0
WRITE_SECONDS = 10.0
LEAST_INTERVAL, MOST_INTERVAL = 0.2, 60.0
_PAUSE_SECONDS = 0.02
"""Requests that end within this time are written together."""

_encoder = msgspec.json.Encoder()

Lines = list[dict[str, object]]
Write = Callable[[Lines], Awaitable[None]]


class _ClientGone(Exception):
    pass


class Streams:
    """`attach` lets a watcher look at all requests. `silent` names the workers that do not answer now."""

    def __init__(
        self,
        attach: Callable[[Watcher], AbstractContextManager[None]],
        silent: Callable[[], Sequence[str]] = lambda: (),
    ) -> None:
        self._attach = attach
        self._silent = silent
        self._open = 0
        self._most = min(MAX_STREAMS, visits_per_operator_port() // 2)

    async def tap(self, request: web.Request) -> web.StreamResponse:
        tap = Tap(_filter(request.query.items()))
        return await self._stream(request, tap, lambda write: _tap(write, tap))

    async def top(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        seconds = _interval(query.get("interval", "1"))
        wanted = _filter(it for it in query.items() if it[0] not in ("interval", "by"))
        try:
            rates = Rates(query.get("by", DEFAULT_GROUPING), wanted)
        except InvalidFilter as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from None
        return await self._stream(request, rates, lambda write: _top(write, rates, seconds))

    async def _stream(
        self, request: web.Request, watcher: Watcher, follow: Callable[[Write], Awaitable[None]]
    ) -> web.StreamResponse:
        if self._open >= self._most:
            raise web.HTTPServiceUnavailable(text=f"{self._open} live streams are open; close one of them first\n")
        stream = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"})
        stream.force_close()
        request[STREAMS]()

        missing: Sequence[str] = ()

        async def write(lines: Lines) -> None:
            nonlocal missing
            if (silent := tuple(self._silent())) != missing:
                missing = silent
                lines.append({"type": "silent", "workers": silent})
            if request.transport is None or request.transport.is_closing():
                raise _ClientGone
            async with asyncio.timeout(WRITE_SECONDS):
                await stream.write(_encoder.encode_lines(lines))

        self._open += 1
        try:
            with self._attach(watcher):
                await stream.prepare(request)
                await write([{"type": "open"}])
                await follow(write)
        except (_ClientGone, TimeoutError, ConnectionError):
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._open -= 1
        return stream


async def _tap(write: Write, tap: Tap) -> None:
    told = 0
    while True:
        lines: Lines = []
        try:
            async with asyncio.timeout(ALIVE_SECONDS):
                await tap.wait()
            await asyncio.sleep(_PAUSE_SECONDS)
            lines = tap.events()
        except TimeoutError:
            lines = [{"type": "alive"}]
        if tap.dropped > told:
            lines.append({"type": "dropped", "count": tap.dropped - told, "total": tap.dropped})
            told = tap.dropped
        await write(lines)


async def _top(write: Write, rates: Rates, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        await asyncio.sleep(seconds)
        elapsed = loop.time() - began
        began += elapsed
        await write([{"type": "rates", "seconds": round(elapsed, 3), "rows": rates.rows(elapsed)}])


def _filter(asked: Iterable[tuple[str, str]]) -> Filter:
    try:
        return Filter.parse(asked)
    except InvalidFilter as error:
        raise web.HTTPBadRequest(text=f"{error}\n") from None


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not LEAST_INTERVAL <= seconds <= MOST_INTERVAL:
        raise web.HTTPBadRequest(text=f"interval={text!r} is not a number from {LEAST_INTERVAL} to {MOST_INTERVAL:g}\n")
    return seconds
