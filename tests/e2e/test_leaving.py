"""A Service leaves a waypoint, whose clients hold connections: none of their requests fails."""

import asyncio
from pathlib import Path

import pytest

from l4.hbone.errors import TunnelRefused
from tests.kit.aio import run
from tests.kit.mesh import GATEWAY, address, manifests, mesh
from tests.kit.origin import answering, origin
from waypoint.config.leaving import Leaving


def test_a_kept_connection_and_a_late_tunnel_are_served_and_told_to_connect_anew(tmp_path: Path) -> None:
    async def scenario() -> None:
        waypoint, vip, pod = address(), address(), address()
        bound = manifests(waypoint=waypoint, vip=vip, pods={"app-1": pod})
        unbound = bound.replace("istio.io/use-waypoint: waypoint", "istio.io/use-waypoint: none")
        assert unbound != bound
        now = 0.0
        async with origin(pod, answering(b"hello")), mesh(tmp_path, "", waypoint) as it:
            it.pipeline.leaving = Leaving(GATEWAY, 30, lambda: now)
            it.apply(bound)
            kept, resting, opened = [await it.tunnel(f"{vip}:9080") for _ in range(3)]
            for client in (kept, resting):
                assert b"connection: close" not in await ask(*client)

            it.apply(unbound)
            late = await it.tunnel(f"{vip}:9080")
            for client in (kept, opened, late):
                assert b"connection: close" in await ask(*client)
                assert await client[0].read() == b""

            now = 31
            it.apply(unbound)
            assert await resting[0].read() == b""
            with pytest.raises(TunnelRefused, match="404"):
                await it.tunnel(f"{vip}:9080")

    run(scenario(), 30)


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """The head of a good answer."""
    writer.write(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert await reader.readexactly(5) == b"hello"
    return head.lower()
