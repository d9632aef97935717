"""Addresses on demand, over TLS from a real discovery server: what a connection needs is known before it is decided."""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from l4._proto.workload_pb2 import (
    GatewayAddress,
    NamespacedHostname,
    NetworkAddress,
    Port,
    PortList,
    Service,
    WeightedWaypoint,
    Workload,
)
from l4.config.holder import Holder
from l4.discovery.mesh import Mesh
from l4.discovery.registry import Registry
from l4.xds.feed import DiscoveryFeed
from l4.ztunnel import on_demand
from l4.ztunnel.cli import cli
from l4.ztunnel.discovering import FromControlPlane
from l4.ztunnel.on_demand import OnDemand
from l4.ztunnel.way import outbound
from tests.kit.aio import run
from tests.kit.discovery_server import ADDRESS, DiscoveryServer
from tests.kit.node import world as node_world


@dataclass
class World:
    server: DiscoveryServer
    finder: OnDemand
    registry: Holder[Registry]

    @property
    def asked(self) -> list[str]:
        """The keys that were asked for one by one, in order."""
        requests = self.server.stream.of(ADDRESS)
        return [it for request in requests for it in request.resource_names_subscribe if it != "*"]

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.01)


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    server, mesh, registry = DiscoveryServer(folder), Mesh(), Holder(Registry())
    async with server.serving():
        its = FromControlPlane(DiscoveryFeed(server.server(), mesh, is_on_demand=True), mesh, "here")
        first = await its.load()
        assert first.lack == ""
        assert first.understood.is_understood
        watching = asyncio.get_running_loop().create_task(its.watch(lambda known: registry.swap(known.registry)))
        finder = its.finder(registry)
        assert finder is not None
        try:
            yield World(server, finder, registry)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await its.close()


def packed(ip: str) -> bytes:
    return ipaddress.ip_address(ip).packed


def pod(name: str, ip: str, *services: str) -> Workload:
    its = dict.fromkeys(services, PortList())
    return Workload(uid=f"Kubernetes//Pod/ns/{name}", name=name, namespace="ns", addresses=[packed(ip)], services=its)


def service(name: str, vip: str, waypoint: GatewayAddress | None = None, *more: WeightedWaypoint) -> Service:
    return Service(
        name=name,
        namespace="ns",
        hostname=f"{name}.ns.svc.cluster.local",
        addresses=[NetworkAddress(address=packed(vip))],
        ports=[Port(service_port=80, target_port=8080)],
        waypoint=waypoint,
        weighted_waypoints=more,
    )


def test_a_destination_is_known_when_its_first_connection_is_decided(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            await it.server.put(pod("a", "10.0.0.1"), pod("b", "10.0.0.2"))

            assert await it.finder.destination("10.0.0.1")
            assert it.registry.current.workload_at("10.0.0.1") is not None
            assert it.registry.current.workload_at("10.0.0.2") is None
            assert await it.finder.destination("10.0.0.1")
            assert it.asked == ["/10.0.0.1"]

    run(scenario())


def test_a_service_comes_with_its_endpoints_and_its_waypoint(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            hostname = NamespacedHostname(namespace="ns", hostname="waypoint.ns.svc.cluster.local")
            echo, waypoint = "ns/echo.ns.svc.cluster.local", "ns/waypoint.ns.svc.cluster.local"
            await it.server.put(
                service("echo", "10.1.0.1", GatewayAddress(hostname=hostname)),
                service("waypoint", "10.1.0.2"),
                pod("a", "10.0.0.1", echo),
                pod("w", "10.0.0.2", waypoint),
            )

            assert await it.finder.destination("10.1.0.1")

            known = it.registry.current
            assert {host.partition(".")[0] for host in known.services} == {"echo", "waypoint"}
            assert [len(known.services[host].endpoints) for host in sorted(known.services)] == [1, 1]

    run(scenario())


def test_a_waypoint_may_be_named_by_its_address(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            by_address = GatewayAddress(address=NetworkAddress(address=packed("10.1.0.2")))
            await it.server.put(service("echo", "10.1.0.1", by_address), service("waypoint", "10.1.0.2"))

            assert await it.finder.destination("10.1.0.1")

            assert it.registry.current.service_at("10.1.0.2") is not None

    run(scenario())


def test_a_service_comes_with_its_canary(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            first, canary = (
                GatewayAddress(hostname=NamespacedHostname(namespace="ns", hostname=f"{name}.ns.svc.cluster.local"))
                for name in ("waypoint", "canary")
            )
            weighted = [WeightedWaypoint(destination=first, weight=9), WeightedWaypoint(destination=canary, weight=1)]
            await it.server.put(
                service("echo", "10.1.0.1", first, *weighted),
                service("waypoint", "10.1.0.2"),
                service("canary", "10.1.0.3"),
            )

            assert await it.finder.destination("10.1.0.1")

            assert {host.partition(".")[0] for host in it.registry.current.services} == {"echo", "waypoint", "canary"}

    run(scenario())


def test_what_does_not_exist_is_asked_for_once_and_known_when_it_appears(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            for _ in range(3):
                assert await it.finder.destination("192.0.2.1")
            assert it.asked == ["/192.0.2.1"]
            assert it.registry.current.workload_at("192.0.2.1") is None

            await it.server.put(pod("a", "192.0.2.1"))
            await it.until(lambda: it.registry.current.workload_at("192.0.2.1"))
            assert await it.finder.destination("192.0.2.1")
            assert it.asked == ["/192.0.2.1"]

    run(scenario())


def test_of_what_does_not_exist_the_oldest_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_demand, "MAX_UNKNOWN", 2)

    async def scenario() -> None:
        async with world(tmp_path) as it:
            for number in (1, 2, 1, 3):
                assert await it.finder.destination(f"192.0.2.{number}")
            await it.until(lambda: it.server.stream.wanted == {"/192.0.2.1", "/192.0.2.3"})

    run(scenario())


def test_what_has_ceased_to_exist_is_forgotten_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_demand, "MAX_UNKNOWN", 0)
    monkeypatch.setattr(on_demand, "_SWEEP_AFTER", 2)

    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.finder._sweep_at = 2
            await it.server.put(pod("a", "10.0.0.1"), pod("b", "10.0.0.2"))
            assert await it.finder.destination("10.0.0.1")
            await it.server.remove(ADDRESS, "Kubernetes//Pod/ns/a")
            await it.until(lambda: it.registry.current.workload_at("10.0.0.1") is None)
            assert await it.finder.destination("10.0.0.2")

            await it.until(lambda: it.server.stream.wanted == {"/10.0.0.2"})

    run(scenario())


def test_the_nodes_pods_are_asked_for_by_name_and_forgotten_when_they_are_gone(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            await it.server.put(pod("a", "10.0.0.1"), pod("b", "10.0.0.2"))

            await it.finder.pods([("ns", "a"), ("ns", "late")])
            assert list(it.registry.current.workloads) == ["Kubernetes//Pod/ns/a"]

            await it.finder.pods([("ns", "late")])
            assert "Kubernetes//Pod/ns/a" in it.server.stream.wanted  # the server has not removed it yet
            await it.server.remove(ADDRESS, "Kubernetes//Pod/ns/a")
            await it.until(lambda: not it.registry.current.workloads)
            await it.finder.pods([("ns", "late")])
            await it.until(lambda: it.server.stream.wanted == {"Kubernetes//Pod/ns/late"})

    run(scenario())


def test_without_an_answer_in_time_nothing_is_decided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_demand, "FIND_SECONDS", 0.2)

    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.server.is_mute = True

            assert not await it.finder.destination("10.0.0.1")

    run(scenario())


@dataclass
class Silent:
    """A server that never answers."""

    asked: list[str] = field(default_factory=list)

    async def pods(self, names: Any) -> None:
        raise NotImplementedError

    async def destination(self, ip: str) -> bool:
        self.asked.append(ip)
        return False


def test_a_connection_whose_destination_is_not_told_is_reset(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with node_world(tmp_path) as it:
            it.apply(it.known())
            it.node.finder = finder = Silent()
            near, far = socket.socketpair()
            await outbound(it.node, it.client.uid, None, None, far, ("127.0.0.1", 1), (it.vip, 80))  # type: ignore[arg-type]

            assert finder.asked == [it.vip]
            assert near.recv(1) == b""
            near.close()
            assert "the discovery server has not told in time what the destination is" in it.lines()[0]

    run(scenario())


def test_on_demand_needs_a_discovery_server_and_an_agent(tmp_path: Path) -> None:
    files = ("--certificates", str(tmp_path), "--trust-bundle", str(tmp_path))
    for more in (("--resources", str(tmp_path)), ("--discovery", "istiod:15012")):
        result = CliRunner().invoke(cli, ["run", "--node", "n", "--on-demand", *more, *files])

        assert result.exit_code == 2
        assert "--on-demand needs --discovery, and --agent" in result.output
