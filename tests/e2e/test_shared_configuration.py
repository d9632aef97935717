"""A waypoint with two worker processes follows an API server once. Its workers know what the supervisor knows."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from l4.config.manifest import CLUSTER_SCOPED
from tests.e2e.test_age import KUBECONFIG
from tests.e2e.test_waypoint_discovery import SERVICE, World
from tests.e2e.test_workers import get, is_worker, pids, replaced, two_workers
from tests.kit.aio import run
from tests.kit.discovery_server import DiscoveryServer
from tests.kit.kubernetes_server import KubernetesServer, kubernetes_server
from tests.kit.origin import answering, origin
from tests.kit.process import WaypointProcess
from tests.waypoint.process.test_kubernetes import apply
from waypoint.config.kinds import BESIDE_DISCOVERY, KINDS

WATCHED = KINDS.keys() - {("", "Endpoints")}


@dataclass
class Followed:
    server: KubernetesServer
    waypoint: WaypointProcess
    manifests: Path

    def change(self, port: str) -> None:
        """Let the service have another port."""
        apply(self.server, self.manifests.read_text().replace("9080", port))

    async def versions(self) -> set[str]:
        """Those of both workers."""
        workers = (await self.waypoint.config_dump()).get("workers", {})
        return {it["configuration"] for it in workers.values()} if len(workers) == 2 else {"", "another"}

    async def another_than(self, version: str) -> str:
        """Wait until both workers have the same one, which is not `version`."""
        async with asyncio.timeout(30):
            while len(now := await self.versions()) > 1 or version in now:  # noqa: ASYNC110 - other processes
                await asyncio.sleep(0.05)
        (found,) = now
        return found

    async def age(self) -> float:
        """The greater one of both workers."""
        text = await self.waypoint.metrics()
        (age,) = re.findall(r"^pywaypoint_config_source_silent_seconds (\S+)$", text, re.MULTILINE)
        return float(age)


@asynccontextmanager
async def followed(folder: Path, forbidden: str = "", ready: int = 200, **environment: str) -> AsyncIterator[Followed]:
    async with kubernetes_server() as server:
        server.forbidden.add(forbidden)
        for group, kind in WATCHED:
            path = f"/apis/{group}/{KINDS.versions(group)[0]}" if group else "/api/v1"
            server.serve(path, kind, is_namespaced=kind not in CLUSTER_SCOPED)

        def source(manifests: Path) -> Iterable[str]:
            apply(server, manifests.read_text())
            (folder / "kubeconfig").write_text(KUBECONFIG.format(server.address))
            return ("--kubeconfig", str(folder / "kubeconfig"))

        async with two_workers(folder, source=source, ready=ready, **environment) as it:
            yield Followed(server, it, folder / "mesh.yaml")


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await holds():  # noqa: ASYNC110 - other processes
            await asyncio.sleep(0.1)


@pytest.mark.timeout(120)
def test_the_server_is_watched_once_and_a_worker_that_is_killed_has_the_present_configuration(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with followed(tmp_path) as it, origin(it.waypoint.pod, answering(b"hello")):
            first = await it.another_than("")
            assert len(it.server.watches) == len(WATCHED) == 27
            assert (await get(it.waypoint)).startswith(b"HTTP/1.1 200")

            it.change("9090")
            second = await it.another_than(first)
            asked = len(it.server.requests)
            for pid in pids(it.waypoint):
                os.kill(pid, signal.SIGKILL)
                await replaced(it.waypoint, pid)

            assert await it.versions() == {second}
            assert len(it.server.requests) == asked, "what the supervisor knows is enough"
            assert len(it.server.watches) == len(WATCHED)

    run(scenario(), 110)


@pytest.mark.timeout(120)
def test_what_changes_while_a_worker_starts_is_not_lost(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with followed(tmp_path) as it:
            version = await it.another_than("")
            for port in ("9090", "9091", "9092", "9093"):
                first, second = pids(it.waypoint)
                os.kill(first, signal.SIGKILL)
                await until(lambda second=second: _has_begun(it.waypoint, second))  # type: ignore[misc]
                await asyncio.sleep(int(port[-1]) * 0.2)  # in another part of its start
                it.change(port)
                await replaced(it.waypoint, first)
                version = await it.another_than(version)

    async def _has_begun(it: WaypointProcess, other: int) -> bool:
        return any(pid != other and is_worker(pid) for pid in pids(it))

    run(scenario(), 110)


@pytest.mark.timeout(120)
def test_while_the_server_is_away_both_workers_serve_on_and_tell_since_when(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with followed(tmp_path) as it, origin(it.waypoint.pod, answering(b"hello")):
            version = await it.another_than("")
            it.server.forbidden.add("pods")
            it.server.cut()
            await until(lambda: _tells(it, "Pod *"))
            await until(lambda: _is_older(it, 3))
            old = await it.age()
            for pid in pids(it.waypoint):
                os.kill(pid, signal.SIGKILL)
                await replaced(it.waypoint, pid)

            assert await it.versions() == {version}
            assert await it.age() >= old, "both workers are younger than that, but what they know is not"
            status, text = await it.waypoint.readiness()
            assert (status, "Pod *" in text) == (200, True), text
            assert (await get(it.waypoint)).startswith(b"HTTP/1.1 200")

            it.server.forbidden.clear()
            it.change("9090")
            await it.another_than(version)
            await until(lambda: _is_well(it))

    run(scenario(), 110)


@pytest.mark.timeout(120)
def test_a_kind_that_cannot_be_listed_at_the_start_is_named_before_any_worker_serves(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with followed(tmp_path, "authorizationpolicies", ready=503) as it:
            await until(lambda: _tells(it, "AuthorizationPolicy *"))
            assert (await it.waypoint.readiness())[0] == 503

            it.server.forbidden.clear()
            await until(lambda: _is_well(it))

    run(scenario(), 110)


@pytest.mark.timeout(120)
def test_beside_a_discovery_server_the_objects_are_followed_once_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        discovery = DiscoveryServer(tmp_path)
        environment = {
            "WAYPOINT_DISCOVERY": discovery.address,
            "WAYPOINT_DISCOVERY_ROOT": str(discovery.pki.bundle_path),
            "WAYPOINT_DISCOVERY_TOKEN": str(discovery.token_path),
            "POD_NAMESPACE": "default",
        }
        async with discovery.serving():
            await discovery.put(SERVICE)
            async with followed(tmp_path, **environment) as it, origin(it.waypoint.pod, answering(b"hello")):
                version = await it.another_than("")
                await World(discovery, it.waypoint).put("app-1", it.waypoint.pod)
                with_pod = await it.another_than(version)
                assert len(it.server.watches) == len(BESIDE_DISCOVERY) == 25
                assert [(await get(it.waypoint))[:12] for _ in range(4)] == [b"HTTP/1.1 200"] * 4

                it.change("9090")
                await it.another_than(with_pod)

    run(scenario(), 110)


async def _tells(it: Followed, words: str) -> bool:
    return words in (await it.waypoint.readiness())[1]


async def _is_older(it: Followed, seconds: float) -> bool:
    return await it.age() > seconds


async def _is_well(it: Followed) -> bool:
    it.server.bookmark()
    return await it.waypoint.readiness() == (200, "ready\n")
