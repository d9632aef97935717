"""Connections without a tunnel; those with one are what every scenario is made of."""

import asyncio
import socket

from l4.config.settings import Settings
from l4.hbone.pool import HbonePool
from l4.identity.store import WorkloadCertificate
from policies.balancing.endpoint import Endpoint
from policies.connection_pool import ConnectionPool, Keepalive
from tests.kit.aio import run
from tests.kit.mesh import address
from tests.kit.origin import answering, origin
from waypoint.originate import Originator

OPTIONS = (socket.TCP_KEEPCNT, socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL)


class Keeping(asyncio.Protocol):
    """Keeps its transport."""

    transport: asyncio.BaseTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport


def no_certificate() -> WorkloadCertificate:
    raise AssertionError("a connection without a tunnel needs no certificate")


async def keepalive_of(pool: ConnectionPool) -> list[int]:
    ip, protocol, tunnels = address(), Keeping(), HbonePool(Settings())
    async with origin(ip, answering()):
        await Originator(tunnels, no_certificate, Settings()).connect(Endpoint(ip, 9080, None), lambda: protocol, pool)
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
