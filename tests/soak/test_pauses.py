"""Nothing stops the event loop while the configuration, the certificate, connections and ejections change and metrics
are read.

SOAK_SECONDS is how long; the longest stops are printed with -s. CPU of the loop's thread is counted, see
`tests.kit.beating`: what other threads and programs do is not.
"""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from bench.configuration import manifests
from l4.config.settings import Settings
from l4.hbone.connect import Authority, ConnectRequest
from l4.hbone.pool import HbonePool
from tests.kit.aio import run
from tests.kit.mesh import address
from tests.kit.origin import Step, answering, origin, reply, scripted
from tests.kit.process import WaypointProcess, waypoint_process

SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))
MOST_MILLISECONDS = 20.0
RATE = 500
TUNNELS = 8
SERVICES, ROUTES = 200, 10
START_SECONDS = 4.0  # whatever the start costs, nobody waits for it
REQUEST = b"GET /area1/v1 HTTP/1.1\r\nHost: app\r\nx-version: 1\r\n\r\n"

PODS = 12
HASHED = """
---
{{apiVersion: v1, kind: Service, metadata: {{name: hashed}},
 spec: {{clusterIP: {vip}, selector: {{app: hashed}}, ports: [{{name: http, port: 9080}}]}}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: hashed}}
spec:
  host: hashed
  trafficPolicy:
    loadBalancer: {{consistentHash: {{httpHeaderName: x-user, maglev: {{}}}}}}
    outlierDetection:
      {{consecutive5xxErrors: 1, interval: 500ms, baseEjectionTime: 1s, maxEjectionPercent: 100}}
"""
HASHED_POD = """---
{{apiVersion: v1, kind: Pod, metadata: {{name: hashed-{number}, labels: {{app: hashed}}}},
 spec: {{serviceAccountName: hashed}}, status: {{podIP: {ip}}}}}
"""
"""Each set of pods that are not ejected has a table of its own. 12 pods have more sets than tables are kept."""


async def requests(it: WaypointProcess) -> None:
    """Over a few tunnels, so that a late loop has few requests to make good at once."""
    async with asyncio.TaskGroup() as clients:
        for _ in range(TUNNELS):
            clients.create_task(_ask(it))


async def _ask(it: WaypointProcess) -> None:
    loop = asyncio.get_running_loop()
    reader, writer = await it.open()
    try:
        due = loop.time()
        while True:
            writer.write(REQUEST)
            async with asyncio.timeout(10):
                await reader.readuntil(b"hello")
            due += TUNNELS / RATE
            await asyncio.sleep(due - loop.time())
    finally:
        writer.close()


async def connections(it: WaypointProcess) -> None:
    """One after the other, each with a handshake."""
    while True:
        pool = HbonePool(Settings())
        try:
            await pool.connect(
                asyncio.Protocol,
                certificate=it.pki.certificate(it.pki.identity("default", "client")),
                identities=frozenset({it.pki.identity("default", "waypoint")}),
                address=(it.ip, 15008),
                request=ConnectRequest(Authority.parse(it.authority.encode())),
            )
        finally:
            await pool.close()
        await asyncio.sleep(0.1)


async def certificates(it: WaypointProcess) -> None:
    while True:
        await asyncio.sleep(2)
        it.pki.write(it.pki.identity("default", "waypoint"))


async def scrapes(it: WaypointProcess) -> None:
    while True:
        await it.metrics()
        await it.config_dump()
        await asyncio.sleep(2)


def _failing(every: int) -> Step:
    """Return a step that fails once in so many times."""
    seen = count(1)

    async def step(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        status = "200 OK" if next(seen) % every else "503 Service Unavailable"
        await reply(status)(reader, writer)

    return step


@asynccontextmanager
async def hashed(vip: str, ips: list[str]) -> AsyncIterator[Callable[[WaypointProcess], Awaitable[None]]]:
    """Yield what sends requests to the Service of HASHED. Each of its pods fails now and then, and is ejected."""

    async def ask(it: WaypointProcess) -> None:
        reader, writer = await replace(it, authority=f"{vip}:9080").open()
        try:
            for user in count():
                writer.write(b"GET / HTTP/1.1\r\nHost: hashed\r\nx-user: %d\r\n\r\n" % user)
                async with asyncio.timeout(10):
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = re.search(rb"(?i)content-length: (\d+)", head)
                    assert length is not None
                    await reader.readexactly(int(length[1]))
                await asyncio.sleep(0.05)
        finally:
            writer.close()

    async with AsyncExitStack() as stack:
        for number, ip in enumerate(ips):
            await stack.enter_async_context(origin(ip, scripted(_failing(every=7 + number))))
        yield ask


def swaps(file: Path) -> Callable[[WaypointProcess], Awaitable[None]]:
    """Return what exchanges the whole configuration again and again."""

    def write(own: str, version: int) -> None:
        new = file.with_suffix(".new")
        new.write_text(own + manifests(SERVICES, ROUTES, version))
        new.replace(file)

    async def swap(it: WaypointProcess) -> None:
        own = await asyncio.to_thread(file.read_text)
        for version in count():
            await asyncio.to_thread(write, own, version)
            await asyncio.sleep(5)

    return swap


@asynccontextmanager
async def under_way(it: WaypointProcess, *doings: Callable[[WaypointProcess], Awaitable[None]]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(doing(it)) for doing in doings]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(it, asyncio.CancelledError) for it in ended), ended


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 120)
def test_nothing_stops_the_event_loop_for_longer_than_20_milliseconds(tmp_path: Path) -> None:
    beats, log, more = tmp_path / "beats", tmp_path / "log", tmp_path / "hashed.yaml"
    vip, ips = address(), [address() for _ in range(PODS)]
    pods = (HASHED_POD.format(number=number, ip=ip) for number, ip in enumerate(ips))
    more.write_text(HASHED.format(vip=vip) + "".join(pods))
    ejections = 0

    async def scenario() -> None:
        with log.open("wb") as out:
            async with (
                waypoint_process(tmp_path, program="tests.kit.beating", log=out, more=[more], BEATS=str(beats)) as it,
                origin(it.pod, answering(b"hello")),
                hashed(vip, ips) as ask,
                under_way(it, requests, connections, certificates, scrapes, ask, swaps(tmp_path / "mesh.yaml")),
            ):
                await asyncio.sleep(SECONDS)
                nonlocal ejections
                ejections = _ejections(await it.metrics())

    run(scenario(), SECONDS + 100)

    stops = [(at, milliseconds) for at, milliseconds in json.loads(beats.read_text()) if at > START_SECONDS]
    print(f"\nthe longest stops, as seconds and milliseconds of CPU, with {ejections} ejections: {stops}")
    assert ejections > SECONDS / 10
    assert log.read_text().count(" is live: ") > SECONDS / 10
    assert log.read_text().count(" renewed, valid until ") > SECONDS / 10
    assert all(milliseconds < MOST_MILLISECONDS for _, milliseconds in stops), stops


def _ejections(metrics: str) -> int:
    counts = re.findall(r"ejections_enforced_total\S* (\d+)", metrics)
    return sum(map(int, counts))
