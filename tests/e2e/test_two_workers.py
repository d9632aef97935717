"""One real process with two workers behind the same ports."""

import asyncio
import re
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from l4.config.settings import Settings
from l4.hbone.pool import HbonePool
from tests.kit.aio import run
from tests.kit.origin import answering, origin
from tests.kit.process import WaypointProcess, waypoint_process

CONNECTIONS = 24
"""The kernel spreads them over both workers. That one of these gets none happens once in eight million times."""


async def counts(it: WaypointProcess) -> list[tuple[int, int]]:
    """Connections and exchanges of each worker."""
    workers = (await it.config_dump())["workers"]
    return [(workers[name]["connections"], workers[name]["exchanges"]) for name in ("worker 1", "worker 2")]


async def get(it: WaypointProcess) -> bytes:
    reader, writer = await it.open()
    writer.write(b"GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer


def test_two_workers_share_the_port_and_their_process_answers_for_both(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with waypoint_process(tmp_path, program="tests.kit.two_workers") as it, AsyncExitStack() as pools:
            clients = []
            for _ in range(CONNECTIONS):
                pool = HbonePool(Settings())
                pools.push_async_callback(pool.close)
                clients.append(replace(it, pool=pool))
            async with origin(it.pod, answering(b"hello")):
                answers = await asyncio.gather(*(get(client) for client in clients))
            one, other = await counts(it)

            assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
            assert one[0] + other[0] == CONNECTIONS
            assert one[0] > 0 < other[0]
            assert one[1] == other[1] == 0
            text = await it.metrics()
            served = re.findall(r'^istio_requests_total{.*response_code="200".*} (\d+)$', text, re.MULTILINE)
            assert sum(map(int, served)) == CONNECTIONS
            assert await it.readiness() == (200, "ready\n")

    run(scenario(), 50)


def test_a_configuration_goes_live_in_both_workers_and_both_drain(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with waypoint_process(tmp_path, program="tests.kit.two_workers") as it:
            before = (await it.config_dump())["version"]
            manifest = tmp_path / "mesh.yaml"
            manifest.write_text(manifest.read_text().replace("9080", "9090"))

            async def versions() -> set[str]:
                dumped = await it.config_dump()
                return {dumped["version"], *(worker["configuration"] for worker in dumped["workers"].values())}

            async with asyncio.timeout(20):
                while before in (now := await versions()):  # noqa: ASYNC110 - files are followed by looking at them
                    await asyncio.sleep(0.05)

            assert len(now) == 1
            it.process.terminate()
            assert await asyncio.wait_for(it.process.wait(), 20) == 0

    run(scenario(), 50)
