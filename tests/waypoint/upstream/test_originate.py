"""Connections without a tunnel; those with one are what every scenario is made of."""

import asyncio
import socket
import time
from pathlib import Path

import pytest

from l4.config.settings import Settings
from l4.discovery.registry import Registry
from l4.hbone.pool import HbonePool
from l4.identity.files import FileStore
from l4.identity.source import OwnCertificate
from policies.attributes import Identity
from policies.balancing.endpoint import Endpoint
from policies.connection_pool import ConnectionPool, Keepalive
from tests.kit.aio import run
from tests.kit.certificates import HOUR, MeshPki
from tests.kit.mesh import address
from tests.kit.origin import answering, origin
from waypoint.config.snapshot import Snapshot
from waypoint.errors import UpstreamConnectFailed
from waypoint.upstream.originate import Originator

OPTIONS = (socket.TCP_KEEPCNT, socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL)


class Keeping(asyncio.Protocol):
    """Keeps its transport."""

    transport: asyncio.BaseTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport


class Clock:
    """Time that moves when it is told to."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


NO_CERTIFICATE = OwnCertificate(
    FileStore(Path("none.pem"), Path("none.key"), Path("none.pem")), Identity("cluster.local", "default", "waypoint")
)
"""Not loaded: a connection without a tunnel needs none."""


async def keepalive_of(pool: ConnectionPool) -> list[int]:
    ip, protocol, tunnels = address(), Keeping(), HbonePool(Settings())
    async with origin(ip, answering()):
        await Originator(tunnels, NO_CERTIFICATE, Settings()).connect(Endpoint(ip, 9080, None), lambda: protocol, pool)
        sock = protocol.transport.get_extra_info("socket")
        found = [sock.getsockopt(socket.IPPROTO_TCP, option) for option in OPTIONS]
        protocol.transport.close()
        await tunnels.close()
    return found


def test_probes_are_those_of_the_settings_unless_the_destination_says_otherwise() -> None:
    wanted = ConnectionPool(keepalive=Keepalive(probes=3, idle_seconds=0.2, interval_seconds=75.0))

    assert run(keepalive_of(ConnectionPool())) == [9, 180, 180]
    assert run(keepalive_of(wanted)) == [3, 1, 75]
    assert run(keepalive_of(ConnectionPool(keepalive=Keepalive(idle_seconds=60.0)))) == [9, 60, 180]


def test_where_a_ztunnel_carries_the_waypoints_connections_it_makes_no_tunnels() -> None:
    async def scenario() -> None:
        ip, protocol, tunnels = address(), Keeping(), HbonePool(Settings())
        originator = Originator(tunnels, NO_CERTIFICATE, Settings())
        endpoint = Endpoint(ip, 9080, Identity("cluster.local", "default", "app"))
        async with origin(ip, answering()):
            assert not await originator.tries(endpoint)
            originator.reconcile(Snapshot("", Registry(), is_carried=True))

            assert await originator.tries(endpoint)
            await originator.connect(endpoint, lambda: protocol)

            assert protocol.transport.get_extra_info("peername") == (ip, 9080)
            protocol.transport.close()
        await tunnels.close()

    run(scenario())


def test_with_an_expired_certificate_nobody_is_connected_to(tmp_path: Path) -> None:
    async def scenario() -> None:
        pki, ip, clock = MeshPki(tmp_path), address(), Clock()
        own, other = pki.identity("default", "waypoint"), pki.identity("default", "app")
        chain = pki.write(own)
        files = FileStore(chain, chain.with_suffix(".key"), pki.bundle_path, clock=clock)
        files.load()
        tunnels, seen = HbonePool(Settings()), list[object]()
        server = await asyncio.start_server(lambda *streams: seen.append(streams), ip, 15008)
        originator = Originator(tunnels, OwnCertificate(files, own), Settings())

        clock.now += HOUR.total_seconds()
        with pytest.raises(UpstreamConnectFailed, match=f"no certificate for {own}: .* expired at") as caught:
            await originator.connect(Endpoint(ip, 9080, other), Keeping)

        assert caught.value.is_ours
        assert not seen
        assert originator.identity == own
        server.close()
        await tunnels.close()

    run(scenario())
