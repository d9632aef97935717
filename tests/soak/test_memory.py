"""Ended tunnels leave no memory behind: a real process, minutes of tunnels that end in every way, and a burst."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import pytest

from l4.config.settings import Settings
from l4.hbone.pool import HbonePool
from policies.attributes import Headers, RequestHead, ResponseHead
from tests.kit.aio import run
from tests.kit.origin import answering, origin
from tests.kit.process import WaypointProcess, waypoint_process
from waypoint.errors import ExchangeError
from waypoint.http.events import EMPTY, Body
from waypoint.http.h2_client import Http2Client

SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))
BODY = bytes(1 << 20)
USERS = 8
BURST_CONNECTIONS, BURST_TUNNELS = 200, 10
BURST_BODY = bytes(64 << 10)
GIVE_BACK_SECONDS = 30.0
MOST_LEFT = 20 << 20


async def whole_exchange(it: WaypointProcess, size: int = len(BODY)) -> None:
    reader, writer = await it.open()
    writer.write(b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 1000\r\n\r\n" + BODY[:1000])
    await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(size)
    writer.close()


async def half_download(it: WaypointProcess) -> None:
    reader, writer = await it.open()
    writer.write(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
    await reader.readexactly(1000)
    writer.transport.abort()


async def half_upload(it: WaypointProcess) -> None:
    _, writer = await it.open()
    writer.write(b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 1000000\r\n\r\n" + BODY[:1000])
    await asyncio.sleep(0.01)
    writer.transport.abort()


async def nonsense(it: WaypointProcess) -> None:
    reader, writer = await it.open()
    writer.write(b"GET / HTTP/1.1\r\nHost: app\r\nHost: app\r\n\r\n")
    await reader.read()
    writer.close()


class Counting:
    """A `ResponseSink` that is done with the response's end, or with its first bytes."""

    def __init__(self, *, is_patient: bool) -> None:
        self._is_patient = is_patient
        self.done = asyncio.get_running_loop().create_future()

    def response_informational(self, head: ResponseHead) -> None: ...

    def response_head(self, head: ResponseHead, body: Body) -> None: ...

    def response_body(self, data: bytes) -> None:
        if not self._is_patient and not self.done.done():
            self.done.set_result(None)

    def response_end(self, trailers: Headers) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def attempt_failed(self, error: ExchangeError) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def resume_upstream(self) -> None: ...


async def http2_streams(it: WaypointProcess) -> None:
    """Twenty at once, every other one reset while its answer is coming."""
    client = Http2Client(Settings(), on_gone=lambda client: None)
    await it.connect(client)
    await client.is_ready
    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(_http2_stream(client, is_patient=number % 2 == 0))
    client.retire()


async def _http2_stream(client: Http2Client, *, is_patient: bool) -> None:
    stream = client.stream()
    assert stream is not None
    sink = Counting(is_patient=is_patient)
    stream.send_head(RequestHead(b"GET", b"app", b"/", b"", []), EMPTY, sink)
    await sink.done
    if not is_patient:
        stream.abort()


WAYS: tuple[Callable[[WaypointProcess], Awaitable[None]], ...] = (
    whole_exchange,
    half_download,
    half_upload,
    nonsense,
    http2_streams,
)


@pytest.mark.soak
@pytest.mark.timeout(SECONDS * 2 + 60)
def test_memory_stays_where_it_was_after_warming_up(tmp_path: Path) -> None:
    async def use(it: WaypointProcess, seconds: float) -> None:
        """Several users, each in every way after the other."""
        ways = cycle(WAYS)
        end = asyncio.get_running_loop().time() + seconds

        async def user() -> None:
            while asyncio.get_running_loop().time() < end:
                async with asyncio.timeout(10):
                    await next(ways)(it)

        async with asyncio.TaskGroup() as group:
            for _ in range(USERS):
                group.create_task(user())

    async def scenario() -> None:
        async with waypoint_process(tmp_path) as it, origin(it.pod, answering(BODY)):
            await use(it, SECONDS / 4)
            warm = it.rss
            await use(it, SECONDS * 3 / 4)

            assert it.rss < warm * 1.1

    run(scenario(), SECONDS * 2 + 50)


@pytest.mark.soak
@pytest.mark.timeout(240)
def test_the_memory_of_a_burst_is_given_back_within_30_seconds(tmp_path: Path) -> None:
    """All tunnels are open at the same time, each with a connection to the application and bodies both ways."""

    opened: list[asyncio.StreamWriter] = []

    async def user(it: WaypointProcess) -> None:
        for _ in range(BURST_TUNNELS):
            reader, writer = await it.open()
            opened.append(writer)
            writer.write(b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: %d\r\n\r\n" % len(BURST_BODY) + BURST_BODY)
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(len(BURST_BODY))

    async def scenario() -> None:
        async with waypoint_process(tmp_path) as it, origin(it.pod, answering(BURST_BODY)):
            await whole_exchange(it, len(BURST_BODY))
            before = it.rss
            pools = [HbonePool(Settings()) for _ in range(BURST_CONNECTIONS)]
            async with asyncio.TaskGroup() as users:
                for pool in pools:
                    users.create_task(user(replace(it, pool=pool)))
            during = it.rss
            for writer in opened:
                writer.close()
            for pool in pools:
                await pool.close()
            await asyncio.sleep(GIVE_BACK_SECONDS)

            left = it.rss - before
            print(f"\nRSS: {before >> 20} MiB before, {during >> 20} in the burst, {left >> 20} left")
            assert left < MOST_LEFT, f"{left >> 20} MiB are left of {during - before >> 20}"

    run(scenario(), 220)
