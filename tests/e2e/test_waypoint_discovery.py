"""A waypoint as a process that learns workloads from a discovery server: services are objects, endpoints are sent."""

import asyncio
import ipaddress
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from l4._proto.workload_pb2 import Port, PortList, Service, Workload
from tests.kit.aio import run
from tests.kit.discovery_server import ADDRESS, DiscoveryServer
from tests.kit.mesh import address
from tests.kit.origin import answering, origin
from tests.kit.process import WaypointProcess, waypoint_process

HOST = "app.default.svc.cluster.local"
SERVICE = Service(
    name="app", namespace="default", hostname=HOST, ports=[Port(service_port=9080, target_port=0)], canonical=True
)
REQUEST = b"GET / HTTP/1.1\r\nHost: app\r\n\r\n"


@dataclass
class World:
    server: DiscoveryServer
    waypoint: WaypointProcess
    answers: Counter[bytes] = field(default_factory=Counter)

    async def put(self, name: str, ip: str) -> None:
        its = PortList(ports=[Port(service_port=9080, target_port=9080)])
        await self.server.put(
            Workload(
                uid=f"Kubernetes//Pod/default/{name}",
                name=name,
                namespace="default",
                service_account="app",
                addresses=[ipaddress.ip_address(ip).packed],
                services={f"default/{HOST}": its},
            )
        )

    async def remove(self, name: str) -> None:
        await self.server.remove(ADDRESS, f"Kubernetes//Pod/default/{name}")

    async def says(self, status: int, sentence: str = "") -> None:
        found = (0, "")
        try:
            async with asyncio.timeout(20):
                while found[0] != status or sentence not in found[1]:
                    await asyncio.sleep(0.05)
                    found = await self.waypoint.readiness()
        except TimeoutError:
            raise AssertionError(f"readiness says {found}") from None

    async def ask(self) -> None:
        """Send requests on one connection, until cancelled. Answers are counted by their body, others by status."""
        reader, writer = await self.waypoint.open()
        try:
            while True:
                writer.write(REQUEST)
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                body = await reader.readexactly(length)
                self.answers[body if b" 200 " in head else head[9:12]] += 1
        finally:
            writer.close()

    async def only(self, body: bytes) -> None:
        """Wait until all answers have this body."""
        async with asyncio.timeout(20):
            while True:
                self.answers, before = Counter(), self.answers
                assert not {it for it in before if it.isdigit()}, before
                await asyncio.sleep(0.1)
                if self.answers.keys() == {body}:
                    return


@asynccontextmanager
async def running(folder: Path, ready: int = 503) -> AsyncIterator[World]:
    """The server is not serving yet."""
    server = DiscoveryServer(folder)
    async with waypoint_process(
        folder,
        ready=ready,
        WAYPOINT_DISCOVERY=server.address,
        WAYPOINT_DISCOVERY_ROOT=str(server.pki.bundle_path),
        WAYPOINT_DISCOVERY_TOKEN=str(server.token_path),
        POD_NAMESPACE="default",
    ) as waypoint:
        yield World(server, waypoint)


@pytest.mark.timeout(120)
def test_requests_follow_the_servers_endpoints_and_go_on_while_it_is_away(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as it:
            two = address()
            async with origin(it.waypoint.pod, answering(b"one")), origin(two, answering(b"two")):
                async with it.server.serving():
                    it.server.held.add(ADDRESS)
                    await it.server.put(SERVICE)
                    await it.put("app-1", it.waypoint.pod)
                    async with asyncio.timeout(20):
                        while not it.server.streams or not it.server.stream.of(ADDRESS):  # noqa: ASYNC110
                            await asyncio.sleep(0.05)
                    await it.says(503)
                    await it.server.respond_to_held()
                    await it.says(200)
                    asking = [asyncio.create_task(it.ask()) for _ in range(4)]
                    await it.only(b"one")
                    for _ in range(3):
                        await it.put("app-2", two)
                        await it.remove("app-1")
                        await it.only(b"two")
                        await it.put("app-1", it.waypoint.pod)
                        await it.remove("app-2")
                        await it.only(b"one")
                await it.says(200, "what was known stays in force")
                await it.only(b"one")
                await it.put("app-2", two)
                await it.remove("app-1")
                async with it.server.serving():
                    await it.only(b"two")
                    await it.says(200, "")
                    metrics = await it.waypoint.metrics()
                    for task in asking:
                        assert not task.done()
                        task.cancel()
                    await asyncio.gather(*asking, return_exceptions=True)
            assert f'istio_xds_message_total{{url="{ADDRESS}"}}' in metrics
            assert 'url="type.googleapis.com/istio.security.Authorization"' not in metrics
            ids = {stream.of(ADDRESS)[0].node.id for stream in it.server.streams}
            assert ids == {"waypoint~1.1.1.1~waypoint.default~default.svc.cluster.local"}

    run(scenario(), 100)
