"""An inner connection without its tunnel: a plain TCP port at which clients without HBONE meet the HTTP front."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from policies.attributes import Peer, RequestHead
from tests.kit.mesh import Mesh, address
from waypoint.data_path import Connection
from waypoint.exchange import Exchange
from waypoint.http.events import Body
from waypoint.http.h2_server import Http2Server, ServerStream
from waypoint.replies import refused


@dataclass
class Front:
    """`at` is the address for HTTP/2 with prior knowledge."""

    at: tuple[str, int]
    servers: set[Http2Server]

    def drain(self) -> None:
        for server in list(self.servers):
            server.close_when_idle()


@asynccontextmanager
async def http2_front(mesh: Mesh, authority: tuple[str, int]) -> AsyncIterator[Front]:
    """Forward to the destination `authority`, as the service account `client`."""
    servers: set[Http2Server] = set()

    def serve() -> Http2Server:
        connection = Connection(mesh.path, Peer(mesh.pki.identity("default", "client"), "127.0.0.1", 1), authority, b"")

        def begin(stream: ServerStream, head: RequestHead, body: Body) -> Exchange:
            return Exchange(connection, stream, head, body)

        server = Http2Server(mesh.settings, begin, lambda error: refused(connection, error), servers.discard)
        servers.add(server)
        return server

    listening = await asyncio.get_running_loop().create_server(serve, address(), 0)
    front = Front(listening.sockets[0].getsockname(), servers)
    try:
        yield front
    finally:
        listening.close()
        front.drain()
        await listening.wait_closed()
