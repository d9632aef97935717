"""Scrapes of running programs from which workloads disappear that nobody calls any more."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from l4.config.settings import Settings
from l4.hbone.pool import HbonePool
from tests.kit.aio import run
from tests.kit.origin import answering, origin
from tests.kit.process import WaypointProcess, waypoint_process

GET = b"GET / HTTP/1.1\r\nHost: app\r\n\r\n"


async def counted(it: WaypointProcess, metric: str) -> int:
    """The sum of a metric's samples; 0 without any."""
    return sum(map(int, re.findall(rf"^{metric}{{.*}} (\d+)$", await it.metrics(), re.MULTILINE)))


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await holds():  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.2)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.timeout(120)
def test_requests_to_a_workload_that_nobody_calls_any_more_leave_the_scrape_and_come_back(
    tmp_path: Path, workers: str
) -> None:
    async def scenario() -> None:
        environment = {"METRICS_EXPIRY_SECONDS": "2", "WAYPOINT_WORKERS": workers}
        async with (
            waypoint_process(tmp_path, **environment) as it,
            origin(it.pod, answering(b"hello")),
            AsyncExitStack() as pools,
        ):
            clients = []
            for _ in range(4):
                pool = HbonePool(Settings())
                pools.push_async_callback(pool.close)
                clients.append(await replace(it, pool=pool).open())

            async def ask_all() -> None:
                for reader, writer in clients:
                    writer.write(GET)
                    assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
                    await reader.readexactly(5)

            await ask_all()
            assert await counted(it, "istio_requests_total") == len(clients)
            seen = []

            async def is_gone() -> bool:
                seen.append(await counted(it, "istio_requests_total"))
                return not seen[-1]

            await until(is_gone)
            assert set(seen) == {len(clients), 0}, "no part of the total was missing"
            assert await counted(it, "istio_request_duration_milliseconds_count") == 0

            await ask_all()  # over the same connections, with the same handles
            assert await counted(it, "istio_requests_total") in (len(clients), 2 * len(clients))

    run(scenario(), 110)


async def _is(it: WaypointProcess, metric: str, wanted: set[int]) -> bool:
    return await counted(it, metric) in wanted


@pytest.mark.timeout(60)
def test_a_connection_that_is_open_and_idle_keeps_its_series(tmp_path: Path) -> None:
    async def scenario() -> None:
        environment = {"METRICS_EXPIRY_SECONDS": "1"}
        async with (
            waypoint_process(tmp_path, port="tcp", **environment) as it,
            origin(it.pod, answering(b"hello")),
        ):
            reader, writer = await it.open()
            writer.write(GET)
            await reader.readuntil(b"hello")
            await asyncio.sleep(4)
            assert await counted(it, "istio_tcp_connections_opened_total") == 1

            writer.write(GET)
            await reader.readuntil(b"hello")
            writer.close()
            await until(lambda: _is(it, "istio_tcp_connections_closed_total", {1}))
            assert await counted(it, "istio_tcp_received_bytes_total") == 2 * len(GET)
            await until(lambda: _is(it, "istio_tcp_connections_opened_total", {0}))

    run(scenario(), 50)
