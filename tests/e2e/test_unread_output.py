"""A waypoint whose output is not read goes on while thousands of clients are refused, and ends in order."""

import asyncio
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import aiohttp

from tests.kit.aio import run
from tests.kit.origin import answering, origin
from tests.kit.process import WaypointProcess, waypoint_process

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_unread_output_and_thousands_of_refusals_do_not_stop_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            waypoint_process(tmp_path, log=log, out=out, DRAIN_DELAY_SECONDS="0", DRAIN_SECONDS="1") as it,
            origin(it.pod, answering(OK)),
        ):
            for _ in range(50):
                await asyncio.gather(*(_is_refused(it) for _ in range(100)))
            for _ in range(1500):
                reader, writer = await it.open()
                writer.write(b"GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
                assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
                writer.close()

            assert (await _dropped(it))["process", "sampled"] > 1000

    with _unread_pipe() as log, _unread_pipe() as out:
        run(scenario(), 120)


@contextmanager
def _unread_pipe() -> Iterator[int]:
    """The end to write to."""
    reading, writing = os.pipe()
    try:
        yield writing
    finally:
        os.close(reading)
        os.close(writing)


async def _is_refused(it: WaypointProcess) -> None:
    reader, writer = await asyncio.open_connection(it.ip, 15008)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    with suppress(ConnectionError):
        await asyncio.wait_for(reader.read(), 30)
    writer.close()


async def _dropped(it: WaypointProcess) -> dict[tuple[str, str], int]:
    async with aiohttp.ClientSession() as session, session.get(f"http://{it.ip}:15020/stats/prometheus") as answer:
        text = await answer.text()
    found = re.findall(r'log_lines_dropped_total{log="(\w+)",reason="(\w+)"} (\d+)', text)
    return {(log, reason): int(count) for log, reason, count in found}
