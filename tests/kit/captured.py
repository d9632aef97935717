"""What a node's ztunnel does for its applications: a TCP port whose connections become tunnels, for clients that know
nothing of the mesh. Ends and resets pass as they are."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from l4.hbone.errors import TunnelError
from tests.kit.mesh import Mesh, address, settled


@asynccontextmanager
async def captured(mesh: Mesh, authority: str) -> AsyncIterator[tuple[str, int]]:
    """Where to connect to reach `authority` through the waypoint."""
    connections: set[asyncio.StreamWriter] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer)
        far_reader, far_writer = await mesh.tunnel(authority)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(reader, far_writer))
                both.create_task(_copy(far_reader, writer))
        except* (ConnectionError, TunnelError):
            writer.transport.abort()
            far_writer.transport.abort()
        finally:
            writer.close()
            far_writer.close()
            connections.discard(writer)

    server = await asyncio.start_server(connected, address(), 0)
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()
        for writer in list(connections):
            writer.transport.abort()
        await settled(lambda: not connections)
        await server.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
