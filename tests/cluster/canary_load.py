"""Requests to one address, on new connections and on kept ones: a line of JSON for each connection that has ended.

`python -m tests.cluster.canary_load IP PORT` goes on until SIGTERM. Each waypoint names itself in the header WAYPOINT
of its responses. The kept connections end after a while, and others take their places; a few stay until the end.
"""

import asyncio
import json
import signal
import sys
import time
from dataclasses import asdict, dataclass, field

WAYPOINT = "x-waypoint"
_NEW_A_SECOND = 60
_KEPT, _KEPT_REST_SECONDS, _KEPT_REQUESTS = 20, 0.33, 30
_STAYING = 4
_LONGEST_SECONDS = 15.0


@dataclass
class Connection:
    """`through` are the waypoints of its requests. `failure` is empty if all of them were answered."""

    kind: str
    began: float = field(default_factory=time.time)
    through: list[str] = field(default_factory=list)
    failure: str = ""


async def _get(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, bool]:
    """Return the waypoint, and whether the connection may be used again."""
    writer.write(b"GET /0 HTTP/1.1\r\nHost: app\r\n\r\n")
    status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines if line)
    await reader.readexactly(int(headers["content-length"]))
    if not status.startswith("http/1.1 200"):
        raise AssertionError(status)
    return headers[WAYPOINT], headers.get("connection") != "close"


async def _use(kind: str, address: tuple[str, int], requests: int, is_over: asyncio.Event) -> None:
    seen = Connection(kind)
    try:
        async with asyncio.timeout(_LONGEST_SECONDS):
            reader, writer = await asyncio.open_connection(*address)
        for number in range(requests):
            async with asyncio.timeout(_LONGEST_SECONDS):
                through, is_kept = await _get(reader, writer)
            seen.through.append(through)
            if is_over.is_set() or not is_kept:
                break
            if number + 1 < requests:
                await asyncio.sleep(_KEPT_REST_SECONDS)
        writer.close()
    except Exception as error:  # whatever it is, it is an outcome that must not be
        seen.failure = f"{type(error).__name__}: {error}"
    print(json.dumps(asdict(seen)), flush=True)


async def _keep(kind: str, address: tuple[str, int], requests: int, is_over: asyncio.Event) -> None:
    while not is_over.is_set():
        await _use(kind, address, requests, is_over)


async def _load(address: tuple[str, int]) -> None:
    is_over, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, is_over.set)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(_KEPT):
            tasks.create_task(_keep("kept", address, _KEPT_REQUESTS, is_over))
            await asyncio.sleep(_KEPT_REST_SECONDS * _KEPT_REQUESTS / _KEPT)  # they don't all end at once
        for _ in range(_STAYING):
            tasks.create_task(_use("staying", address, sys.maxsize, is_over))
        due = loop.time()
        while not is_over.is_set():
            tasks.create_task(_use("new", address, 1, is_over))
            due += 1 / _NEW_A_SECOND
            await asyncio.sleep(max(due - loop.time(), 0))


if __name__ == "__main__":
    asyncio.run(_load((sys.argv[1], int(sys.argv[2]))))
