"""What a request costs with one process and with two workers, and how much more two CPUs thus carry.

    python -m bench.workers [--pairs 10] [--requests 16000] [--clients 8] [--json]

Two waypoints stand side by side, one of a single process, one with a supervisor and two workers. They get requests in
turn, two workers twice as many, from twice as many clients. A client has an HBONE connection of its own, and always
asks in all its tunnels at once: so a process finds as much to do at a time as under full load, however slow the clients
are. The figures are CPU as the kernel counts it, of all processes of a waypoint, and of the supervisor alone. If the
work is divided evenly, two CPUs carry with two workers `capacity` times what one process carries on one.

Other work on the machine counts against two workers, because they share caches and CPUs with it, and run at the same
time. So measure where both CPUs are free.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from statistics import median

import uvloop

from bench.figures import show
from bench.process import cpu_seconds, own_cpu_seconds
from l4.config.settings import Settings
from l4.hbone.pool import HbonePool
from tests.kit.origin import answering, origin
from tests.kit.process import WaypointProcess, waypoint_process

_ANSWER = b"hello"
_GET = b"GET / HTTP/1.1\r\nHost: app\r\n\r\n"
_TUNNELS = 8
_WARMING = 1000
_ANSWER_SECONDS = 10.0

Tunnels = Sequence[tuple[asyncio.StreamReader, asyncio.StreamWriter]]


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU of a request in microseconds: of all processes, and of the first one."""

    all: float
    first: float


async def measure(pairs: int, requests: int, clients: int) -> list[tuple[Cost, Cost]]:
    """The cost with one process and with two workers, pair by pair."""
    found = []
    with tempfile.TemporaryDirectory(prefix="workers-") as name:
        folders = Path(name) / "one", Path(name) / "two"
        for folder in folders:
            folder.mkdir()
        async with _waypoint(folders[0], 1, clients) as one, _waypoint(folders[1], 2, 2 * clients) as two:
            for it in (one, two):
                await _turn(*it, _WARMING)
            for number in range(pairs):
                order = (one, two) if number % 2 else (two, one)
                costs = [await _turn(*it, requests if it is one else 2 * requests) for it in order]
                found.append((costs[order.index(one)], costs[order.index(two)]))
    return found


@asynccontextmanager
async def _waypoint(folder: Path, workers: int, clients: int) -> AsyncIterator[tuple[WaypointProcess, list[Tunnels]]]:
    async with (
        waypoint_process(folder, log=asyncio.subprocess.DEVNULL, WAYPOINT_WORKERS=str(workers)) as it,
        origin(it.pod, answering(_ANSWER)),
        AsyncExitStack() as pools,
    ):
        its = []
        for _ in range(clients):
            pool = HbonePool(Settings())
            pools.push_async_callback(pool.close)
            client = replace(it, pool=pool)
            its.append([await client.open() for _ in range(_TUNNELS)])
        try:
            yield it, its
        finally:
            for _, writer in chain.from_iterable(its):
                writer.close()


async def _turn(it: WaypointProcess, clients: Sequence[Tunnels], requests: int) -> Cost:
    rounds = requests // len(clients) // _TUNNELS

    async def ask(tunnels: Tunnels) -> None:
        for _ in range(rounds):
            async with asyncio.timeout(_ANSWER_SECONDS):
                for _, writer in tunnels:
                    writer.write(_GET)
                for reader, _ in tunnels:
                    await reader.readuntil(_ANSWER)

    pid, done = it.process.pid, rounds * len(clients) * _TUNNELS
    everything, first = cpu_seconds(pid), own_cpu_seconds(pid)
    await asyncio.gather(*map(ask, clients))
    return Cost((cpu_seconds(pid) - everything) / done * 1e6, (own_cpu_seconds(pid) - first) / done * 1e6)


def summary(costs: Sequence[tuple[Cost, Cost]]) -> dict[str, dict[str, object]]:
    ratios = sorted(2 * one.all / two.all for one, two in costs)
    return {
        "one process": {"cpu_us": round(median(one.all for one, _ in costs), 1)},
        "two workers": {
            "cpu_us": round(median(two.all for _, two in costs), 1),
            "supervisor_us": round(median(two.first for _, two in costs), 1),
        },
        "two CPUs": {
            "capacity": round(median(ratios), 2),
            "least": round(ratios[0], 2),
            "most": round(ratios[-1], 2),
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.workers", description="What workers cost.")
    parser.add_argument("--pairs", type=int, default=10, help="(10)")
    parser.add_argument("--requests", type=int, default=16_000, help="of each process in a turn (16000)")
    parser.add_argument("--clients", type=int, default=8, help="HBONE connections of each process (8)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    show(summary(uvloop.run(measure(options.pairs, options.requests, options.clients))), as_json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
