"""The capture of a node's ztunnel: a TCP port whose connections become tunnels, for clients without knowledge of the
mesh.

Ends and resets pass through.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from l4.hbone.errors import TunnelError
from tests.kit.mesh import Mesh, address, settled


@asynccontextmanager
async def captured(mesh: Mesh, authority: str) -> AsyncIterator[tuple[str, int]]:
    """Yield the address at which clients reach `authority` through the waypoint."""
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
