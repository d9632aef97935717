"""Requests at a fixed rate, whatever the answers' speed: latency counts from when a request was due, not from when a
free connection let it go, so that a stall shows in every request it delayed (no coordinated omission)."""

import asyncio
import contextlib
import time
from typing import cast

import uvloop

_REQUEST = b"GET / HTTP/1.1\r\nHost: app\r\nUser-Agent: steady\r\n\r\n"
_CONNECTIONS = 64


class _Client(asyncio.Protocol):
    """One keep-alive connection; answers are told apart by their count of body bytes, which is always the same."""

    def __init__(self, free: "asyncio.Queue[_Client]", latencies: list[float]) -> None:
        self._free = free
        self._latencies = latencies
        self._answer = b""
        self._due = 0.0
        self.errors = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._free.put_nowait(self)

    def send(self, due: float) -> None:
        self._due = due
        self._answer = b""
        self._transport.write(_REQUEST)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, end, body = self._answer.partition(b"\r\n\r\n")
        if not end:
            return
        lowered = head.lower()
        length = int(lowered.partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) >= length:
            self._latencies.append(time.perf_counter() - self._due)
            self.errors += not head.startswith(b"HTTP/1.1 200")
            self._free.put_nowait(self)


async def _run(address: tuple[str, int], rate: int, seconds: float) -> tuple[list[float], int]:
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    free: asyncio.Queue[_Client] = asyncio.Queue()
    clients = [
        (await loop.create_connection(lambda: _Client(free, latencies), *address))[1] for _ in range(_CONNECTIONS)
    ]
    count = int(rate * seconds)
    start = time.perf_counter() + 0.1
    for number in range(count):
        due = start + number / rate
        delay = due - time.perf_counter()
        if delay > 0:
            await asyncio.sleep(delay)
        client = await asyncio.wait_for(free.get(), 10)
        client.send(due)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(10):
            for _ in clients:  # every connection is free again once it has its answer
                await free.get()
    return latencies, count - len(latencies) + sum(client.errors for client in clients)


def measure(address: tuple[str, int], *, rate: int, seconds: float) -> tuple[float, float, int]:
    """p50 and p99 in milliseconds, and how many requests failed."""
    latencies, errors = uvloop.run(_run(address, rate, seconds))
    ordered = sorted(latencies)
    return ordered[len(ordered) // 2] * 1000, ordered[int(len(ordered) * 0.99)] * 1000, errors
