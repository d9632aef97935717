"""A client that behaves, at a fixed rate over a few tunnels, and the application it asks: what others do to it shows.

Latency counts from when a request was due.
"""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field

from tests.kit.process import WaypointProcess

_RATE = 200
_TUNNELS = 8
_GET = b"GET / HTTP/1.1\r\nHost: app\r\n\r\n"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@dataclass
class Phase:
    latencies: list[float] = field(default_factory=list)
    failures: int = 0

    def percentile(self, share: float) -> float:
        """Milliseconds."""
        ordered = sorted(self.latencies) or [float("nan")]
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000

    def figures(self) -> dict[str, float]:
        return {
            "requests": len(self.latencies),
            "failures": self.failures,
            "p50 ms": round(self.percentile(0.5), 2),
            "p99 ms": round(self.percentile(0.99), 2),
            "max ms": round(self.percentile(1), 2),
        }


class Innocent:
    def __init__(self, waypoint: WaypointProcess) -> None:
        self._waypoint = waypoint
        self._idle: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def start(self) -> None:
        for _ in range(_TUNNELS):
            self._idle.put_nowait(await self._waypoint.open())

    async def ask(self, seconds: float) -> Phase:
        """Requests at the fixed rate for so long."""
        phase = Phase()
        began = time.perf_counter()  # the loop's clock has whole milliseconds
        async with asyncio.TaskGroup() as group:
            for number in range(int(seconds * _RATE)):
                due = began + number / _RATE
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(self._one(phase, due))
        return phase

    async def _one(self, phase: Phase, due: float) -> None:
        reader, writer = await self._idle.get()
        try:
            async with asyncio.timeout(10):
                writer.write(_GET)
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(5)
            if not head.startswith(b"HTTP/1.1 200"):
                raise ConnectionError(head)
        except (OSError, asyncio.IncompleteReadError):
            phase.failures += 1
            self._idle.put_nowait(await self._waypoint.open())
        else:
            phase.latencies.append(time.perf_counter() - due)
            self._idle.put_nowait((reader, writer))


async def application(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(_ANSWER)
    writer.close()
