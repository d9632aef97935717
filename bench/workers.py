"""What a request costs with one process and with two workers, and how much more two CPUs thus carry.

    python -m bench.workers [--pairs 10] [--requests 16000] [--clients 8] [--json]

Three arrangements get requests in turn: one waypoint of a single process; one with a supervisor and two workers; and
two waypoints of a single process each, at the same time. The last two get twice as many, from twice as many clients. A
client has an HBONE connection of its own, and always asks in all its tunnels at once: so a process finds as much to do
at a time as under full load, however slow the clients are. The figures are CPU as the kernel counts it, of all
processes of a waypoint, and of the supervisor alone. If the work is divided evenly, two CPUs carry with two workers
`capacity` times what one process carries on one.

Other work on the machine, and the clients, count against two processes, because they share caches and CPUs with them.
Two waypoints that have nothing in common show how much that is: their capacity is what the machine allows. So measure
where both CPUs are free.
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


@dataclass(frozen=True, slots=True)
class Costs:
    """The cost of a request with one process, with two workers, and with two waypoints at the same time."""

    one: Cost
    workers: Cost
    apart: Cost


async def measure(pairs: int, requests: int, clients: int) -> list[Costs]:
    """The costs, pair by pair."""
    found = []
    with tempfile.TemporaryDirectory(prefix="workers-") as name:
        folders = [Path(name) / it for it in ("one", "other", "workers")]
        for folder in folders:
            folder.mkdir()
        async with (
            _waypoint(folders[0], 1, clients) as one,
            _waypoint(folders[1], 1, clients) as other,
            _waypoint(folders[2], 2, 2 * clients) as workers,
        ):
            for it in (one, other, workers):
                await _turn([it], _WARMING)
            turns = ([one], requests), ([workers], 2 * requests), ([one, other], 2 * requests)
            for number in range(pairs):
                order = turns[number % 3 :] + turns[: number % 3]
                costs = [await _turn(*it) for it in order]
                found.append(Costs(*(costs[order.index(it)] for it in turns)))
    return found


@asynccontextmanager
async def _waypoint(folder: Path, workers: int, clients: int) -> AsyncIterator[tuple[WaypointProcess, list[Tunnels]]]:
    async with (
        waypoint_process(folder, log=asyncio.subprocess.DEVNULL, WAYPOINT_WORKERS=str(workers)) as it,
        origin(it.pod, answering(_ANSWER)),
        AsyncExitStack() as pools,
    ):
        its: list[Tunnels] = []
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


async def _turn(waypoints: Sequence[tuple[WaypointProcess, list[Tunnels]]], requests: int) -> Cost:
    """Send the requests, divided evenly among all clients."""
    clients = [tunnels for _, its in waypoints for tunnels in its]
    rounds = requests // len(clients) // _TUNNELS

    async def ask(tunnels: Tunnels) -> None:
        for _ in range(rounds):
            async with asyncio.timeout(_ANSWER_SECONDS):
                for _, writer in tunnels:
                    writer.write(_GET)
                for reader, _ in tunnels:
                    await reader.readuntil(_ANSWER)

    pids, done = [it.process.pid for it, _ in waypoints], rounds * len(clients) * _TUNNELS
    everything, first = sum(map(cpu_seconds, pids)), sum(map(own_cpu_seconds, pids))
    await asyncio.gather(*map(ask, clients))
    spent, by_first = sum(map(cpu_seconds, pids)) - everything, sum(map(own_cpu_seconds, pids)) - first
    return Cost(spent / done * 1e6, by_first / done * 1e6)


def summary(costs: Sequence[Costs]) -> dict[str, dict[str, object]]:
    return {
        "one process": {"cpu_us": round(median(it.one.all for it in costs), 1)},
        "two workers": {
            "cpu_us": round(median(it.workers.all for it in costs), 1),
            "supervisor_us": round(median(it.workers.first for it in costs), 1),
            **_capacity([2 * it.one.all / it.workers.all for it in costs]),
        },
        "two waypoints": {
            "cpu_us": round(median(it.apart.all for it in costs), 1),
            **_capacity([2 * it.one.all / it.apart.all for it in costs]),
        },
        "two workers against two waypoints": _capacity([it.apart.all / it.workers.all for it in costs]),
    }


def _capacity(ratios: Sequence[float]) -> dict[str, object]:
    return {"capacity": round(median(ratios), 2), "least": round(min(ratios), 2), "most": round(max(ratios), 2)}


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
