"""Requests before, while and after connections end with their certificates: none of them is lost."""

import asyncio
from collections import Counter
from datetime import timedelta
from pathlib import Path

from tests.kit.aio import run
from tests.kit.http2 import Http2Peer
from tests.kit.mesh import Mesh, address, manifests, mesh, settled
from tests.kit.origin import answering, origin

SHORT = timedelta(seconds=5)
ANSWER = b"ok"


def test_no_request_is_lost_when_connections_end_with_the_certificate_of_before(tmp_path: Path) -> None:
    async def scenario() -> None:
        waypoint, vip, ip = address(), address(), address()
        text = manifests(waypoint=waypoint, vip=vip, pods={"app": ip})
        async with mesh(tmp_path, text, waypoint) as it, origin(ip, answering(ANSWER)):
            own = it.pki.identity("default", "waypoint")
            it.pki.write(own, it.pki.leaf([str(own)], ends=SHORT))
            await it.certificates.refresh()
            expires_at = asyncio.get_running_loop().time() + it.certificates.seconds_left
            outcomes: Counter[str] = Counter()
            clients = [asyncio.ensure_future(_ask(it, f"{vip}:9080", outcomes)) for _ in range(4)]
            await settled(lambda: outcomes["200"] > 20)
            before = list(it.server._drivers)

            it.pki.write(own)
            await it.certificates.refresh()
            await settled(lambda: asyncio.get_running_loop().time() > expires_at + 0.5, 15)

            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)

            assert outcomes.keys() == {"200", "told to come again"}
            assert outcomes["told to come again"] == 4
            assert not set(before) & it.server._drivers

    run(scenario())


async def _ask(it: Mesh, authority: str, outcomes: Counter[str]) -> None:
    """One request after the other on one connection, and on a new one when told so."""
    while True:
        reader, writer = await it.tunnel(authority)
        try:
            while True:
                writer.write(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(2)
                outcomes[head.split()[1].decode()] += 1
                if b"connection: close" in head.lower():
                    outcomes["told to come again"] += 1
                    break
                await asyncio.sleep(0.01)
        except Exception as error:  # whatever it is, it is an outcome that must not be
            outcomes[repr(error)] += 1
        finally:
            writer.close()


def test_a_client_of_http2_is_told_before_its_tunnel_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        waypoint, vip, ip = address(), address(), address()
        text = manifests(waypoint=waypoint, vip=vip, pods={"app": ip})
        async with mesh(tmp_path, text, waypoint) as it, origin(ip, answering(ANSWER)):
            it.pki.certificate(it.pki.identity("default", "brief"), ends=timedelta(seconds=3))
            _, writer = await it.tunnel(f"{vip}:9080", account="brief")
            client = Http2Peer(is_client=True)
            writer.transport.set_protocol(client)
            client.connection_made(writer.transport)
            await settled(lambda: client.settings_seen)
            assert (await client.answer(client.request())).status == 200

            await settled(lambda: bool(client.goaways), 10)

            writer.close()

    run(scenario())
